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

/// The value of a flag, and where that is a path, one that leads from the root.
fn absolute(arg: &clap::Arg, value: &str) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let is_path = names.iter().any(|name| ["FILE", "DIR"].contains(&&name[..name.len().min(4)]));
    // Some flags take what the file would say as well.
    if !is_path || value.starts_with('{') {
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
