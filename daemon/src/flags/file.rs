//! Flags in a file: `port = 5050`.

use std::path::Path;

use clap::parser::ValueSource;

/// The flags among these arguments of a subcommand, by their long names, with their values as a file
/// has them, checked as the subcommand checks them. Paths are absolute, for who begins a service
/// begins it elsewhere.
pub(crate) fn given(
    subcommand: &str,
    flags: &[String],
) -> Result<Vec<(String, String)>, clap::Error> {
    let mut command = super::command();
    let config = config_of(flags);
    let of_file = match &config {
        Some(path) => read(&command, subcommand, Path::new(path))?,
        None => Vec::new(),
    };
    command = with_values(command, subcommand, &of_file);
    let arguments = ["mesita", subcommand].into_iter().chain(flags.iter().map(String::as_str));
    let matches = command.clone().try_get_matches_from(arguments)?;
    let (Some(of), Some(sub)) =
        (matches.subcommand_matches(subcommand), command.find_subcommand(subcommand))
    else {
        return Ok(Vec::new());
    };
    let said =
        |arg: &&clap::Arg| of.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let said = sub.get_arguments().filter(said).filter_map(|arg| {
        let values = of.try_get_raw(arg.get_id().as_str()).ok().flatten()?;
        let values = values.map(|value| absolute(arg, &value.to_string_lossy()));
        Some((arg.get_long()?.to_owned(), values.collect::<Vec<_>>().join(",")))
    });
    let mut said: Vec<(String, String)> = said.filter(|(name, _)| name != "config").collect();
    let known = |name: &str| sub.get_arguments().find(|arg| arg.get_long() == Some(name));
    for (name, value) in of_file {
        if !said.iter().any(|(of, _)| *of == name) {
            let value = known(&name).map_or_else(|| value.clone(), |arg| absolute(arg, &value));
            said.push((name, value));
        }
    }
    Ok(said)
}

/// The file that `--config` names among flags.
fn config_of(flags: &[String]) -> Option<String> {
    let next = flags.iter().position(|flag| flag == "--config").and_then(|at| flags.get(at + 1));
    let joined = || flags.iter().find_map(|flag| flag.strip_prefix("--config="));
    next.map(String::as_str).or_else(joined).map(str::to_owned)
}

/// What a daemon with these flags would do on a machine whose root is this directory: the subcommand,
/// with paths that lead to what is there. No variable of this process counts. And whether every file is
/// there that a flag names.
pub(crate) fn meant(
    subcommand: &str,
    flags: &[(String, String)],
    root: &Path,
) -> Result<(super::Command, bool), clap::Error> {
    let command = super::command().mut_subcommand(subcommand, |sub| {
        sub.mut_args(|arg| arg.env(clap::builder::Resettable::Reset))
    });
    let mut all_there = true;
    let mut words = vec!["mesita".to_owned(), subcommand.to_owned()];
    let sub = command.find_subcommand(subcommand);
    for (name, value) in flags {
        let is = |arg: &&clap::Arg| arg.get_long() == Some(name);
        let arg = sub.and_then(|sub| sub.get_arguments().find(is));
        let below = |one: &str| {
            let path = root.join(one.trim_start_matches('/'));
            (path.to_string_lossy().into_owned(), path.exists())
        };
        let all: Vec<&str> = match arg.and_then(clap::Arg::get_value_delimiter) {
            Some(sign) => value.split(sign).collect(),
            None => vec![value],
        };
        let all = all.into_iter().map(|one| {
            if !arg.is_some_and(|arg| is_path(arg, one)) {
                return one.to_owned();
            }
            let (path, is_there) = below(one);
            // What a daemon makes itself need not be there.
            all_there &= is_there || MADE.contains(&&**name);
            path
        });
        let value = all.collect::<Vec<_>>().join(",");
        let is_switch = arg.is_some_and(|arg| !arg.get_action().takes_values());
        match (is_switch, &*value) {
            (true, "true") => words.push(format!("--{name}")),
            (true, _) => {}
            (false, _) => words.push(format!("--{name}={value}")),
        }
    }
    let matches = command.try_get_matches_from(words)?;
    let cli = <super::Cli as clap::FromArgMatches>::from_arg_matches(&matches)?;
    Ok((cli.command, all_there))
}

/// Flags whose paths are of what comes to be there.
const MADE: [&str; 4] = ["work-dir", "audit-log", "journal", "whitelist"];

/// True for the path of something that is there already, or of a directory.
fn is_path(arg: &clap::Arg, value: &str) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    let named = |begin: &str| names.iter().any(|name| name.starts_with(begin));
    // Some flags take what the file would say as well; no token has a slash.
    (named("FILE") || named("DIR")) && !value.starts_with('{')
        || named("TOKEN|FILE") && (value.contains('/') || Path::new(value).is_file())
}

/// The value of a flag, and where that is a path, one that leads from the root.
fn absolute(arg: &clap::Arg, value: &str) -> String {
    if !is_path(arg, value) {
        return value.to_owned();
    }
    let path = std::path::absolute(value);
    path.map_or_else(|_| value.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The text of a file with these flags.
pub(crate) fn text(flags: &[(String, String)]) -> String {
    let lines = flags.iter().map(|(name, value)| {
        // A text of JSON is one of TOML, too.
        format!("{name} = {}\n", serde_json::Value::from(value.as_str()))
    });
    lines.collect()
}

/// The flags with the file's values as their defaults.
pub(super) fn with_file(
    command: clap::Command,
    subcommand: &str,
    path: &Path,
) -> Result<clap::Command, clap::Error> {
    let values = read(&command, subcommand, path)?;
    Ok(with_values(command, subcommand, &values))
}

/// What a file says.
fn read(
    command: &clap::Command,
    subcommand: &str,
    path: &Path,
) -> Result<Vec<(String, String)>, clap::Error> {
    let bad = |message: String| {
        let text = format!("{}: {message}\n", path.display());
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, text)
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| bad(error.to_string()))?;
    let mut values = Vec::new();
    for (key, value) in table {
        let long = key.replace('_', "-");
        let sub = command.find_subcommand(subcommand);
        let known = sub.into_iter().flat_map(clap::Command::get_arguments);
        let is = |arg: &&clap::Arg| arg.get_long() == Some(long.as_str());
        if known.filter(is).count() == 0 || long == "config" {
            return Err(bad(format!("there is no flag --{long}; see mesita {subcommand} --help")));
        }
        values.push((
            long,
            in_words(&value).ok_or_else(|| {
                bad(format!("`{key}` is neither a text, a number, a truth nor a list of those"))
            })?,
        ));
    }
    Ok(values)
}

fn with_values(
    command: clap::Command,
    subcommand: &str,
    values: &[(String, String)],
) -> clap::Command {
    command.mut_subcommand(subcommand, |sub| {
        sub.mut_args(|arg| {
            let long = arg.get_long().map(str::to_owned);
            let value = values.iter().find(|(name, _)| Some(name) == long.as_ref());
            match value {
                None => arg,
                Some((_, value)) => {
                    arg.default_value(clap::builder::OsStr::from(value.clone())).required(false)
                }
            }
        })
    })
}

fn in_words(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(list) => {
            let words: Option<Vec<String>> = list.iter().map(in_words).collect();
            Some(words?.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_to(subcommand: &str, flags: &[&str]) -> Result<String, clap::Error> {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        given(subcommand, &flags).map(|given| text(&given))
    }

    #[test]
    fn what_was_said_is_written_and_nothing_else() {
        let flags = ["--master=a:1,b:2", "--attributes", "rack:\"a\\b\"", "--insecure"];
        assert_eq!(
            given_to("agent", &flags).unwrap(),
            "master = \"a:1,b:2\"\ninsecure = \"true\"\nattributes = \"rack:\\\"a\\\\b\\\"\"\n"
        );
        assert!(given_to("agent", &["--frobnicate"]).is_err());
        assert!(given_to("master", &["--port=x"]).is_err());
    }

    #[test]
    fn paths_lead_from_the_root() {
        let here = std::env::current_dir().unwrap();
        let text = given_to("master", &["--credentials=c", "--acls={}", "--work-dir=/w"]).unwrap();
        assert!(text.contains(&format!("credentials = \"{}/c\"", here.display())), "{text}");
        assert!(text.contains("acls = \"{}\"") && text.contains("work-dir = \"/w\""), "{text}");
    }

    #[test]
    fn what_is_written_is_read_as_it_was_said() {
        let path = std::env::temp_dir().join(format!("mesita-file-{}.toml", std::process::id()));
        let flags = ["--master=a:1,b:2", "--attributes=rack:\"\u{e9}\\\"", "--insecure"];
        std::fs::write(&path, given_to("agent", &flags).unwrap()).unwrap();
        let config = format!("--config={}", path.display());
        let arguments = ["mesita", "agent", &config].map(std::ffi::OsString::from).to_vec();
        let cli = super::super::parse(arguments);
        std::fs::remove_file(&path).unwrap();
        let super::super::Command::Agent(agent) = cli.unwrap().command else { panic!() };
        assert_eq!(agent.master, ["a:1", "b:2"]);
        assert_eq!(agent.holds.attributes.as_deref(), Some("rack:\"\u{e9}\\\""));
        assert!(agent.listen.insecure);
    }
}
