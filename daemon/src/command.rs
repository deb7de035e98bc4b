//! The bodies of a launch: what everybody may see of a task, and its command.

use std::fmt;

use mesita_isolation::images::Config;
use prost::Message;

use crate::agent::fetch::uri::Uri;
use crate::pb::mesita::{TaskPrivate, TaskPublic};
use crate::pb::mesos::v1::{
    CheckInfo, CommandInfo, ContainerInfo, Environment, HealthCheck, Image, Secret, environment,
    image, secret,
};
use crate::v1::docker::is_docker;

/// Bytes of all arguments and variables of a command. The keeper takes a message of 256 KiB.
const COMMAND_MAX: usize = 192 * 1024;

/// What is wrong with a command, in a sentence that its framework is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadCommand {
    /// The bytes are no body of a task.
    Malformed,
    /// There is no command where one is needed.
    Missing,
    /// It says nothing to run.
    Empty,
    /// A text with a NUL byte in it.
    Nul(&'static str),
    /// A variable without a name, or with `=` in it.
    Variable(String),
    /// A variable without a value.
    Valueless(String),
    /// Too many bytes of arguments and variables.
    TooLong(usize),
    /// The image says no program, and the command neither.
    NoProgram,
    /// Something that cannot be fetched: what, and why.
    Uri(String, String),
    /// Something that this release does not do.
    Unsupported(&'static str),
}

impl fmt::Display for BadCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the task's body cannot be read"),
            Self::Missing => f.write_str("the task has neither a command nor an executor"),
            Self::Empty => f.write_str("the command is empty: give a shell line, or a program"),
            Self::NoProgram => {
                f.write_str("neither the command nor its image says a program to run")
            }
            Self::Nul(what) => write!(f, "{what} of the command has a NUL byte in it"),
            Self::Variable(name) => write!(f, "the environment has a variable called `{name}`"),
            Self::Valueless(name) => {
                write!(f, "Environment variable '{name}' of type 'VALUE' must have a value set")
            }
            Self::TooLong(bytes) => write!(
                f,
                "arguments and environment take {bytes} bytes; at most {COMMAND_MAX} are passed on"
            ),
            Self::Uri(uri, why) => write!(f, "the URI `{uri}` {why}"),
            Self::Unsupported(what) => write!(f, "{what} is not supported"),
        }
    }
}

/// A command to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// The program; a shell when there is a shell line.
    pub(crate) program: String,
    /// Its arguments, its own name first.
    pub(crate) arguments: Vec<String>,
    /// Variables that the task names.
    pub(crate) variables: Vec<(String, String)>,
    /// What it needs in its sandbox.
    pub(crate) uris: Vec<Uri>,
}

impl Command {
    /// Checks a command. Mesos: `mesos-containerizer launch`: with a shell the value is its line;
    /// without one it is the program, and the arguments are all of them, the program's name first.
    pub(crate) fn of(command: &CommandInfo) -> Result<Self, BadCommand> {
        if command.value.as_deref().unwrap_or_default().is_empty() {
            return Err(BadCommand::Empty);
        }
        Self::in_image(command, &Config::default())
    }

    /// Checks what of a command can be checked by who does not have its image.
    pub(crate) fn for_image(command: &CommandInfo) -> Result<(), BadCommand> {
        let any = Config { entrypoint: vec!["any".to_owned()], ..Config::default() };
        Self::in_image(command, &any).map(|_| ())
    }

    /// Checks a command in a container that stands on an image: what it does not say, the image does.
    /// Mesos: the table of `docker/runtime`; variables of the command count before those of the image.
    pub(crate) fn in_image(command: &CommandInfo, config: &Config) -> Result<Self, BadCommand> {
        let uris = command.uris.iter().map(Uri::of).collect::<Result<Vec<Uri>, BadCommand>>()?;
        let value = command.value.as_deref().unwrap_or_default();
        let (program, arguments) = if command.shell() {
            if value.is_empty() {
                return Err(BadCommand::Empty);
            }
            let line = ["sh", "-c", value].map(str::to_owned).to_vec();
            ("/bin/sh".to_owned(), line)
        } else if value.is_empty() {
            let line = merged(&command.arguments, config).ok_or(BadCommand::NoProgram)?;
            (line.first().cloned().unwrap_or_default(), line)
        } else if command.arguments.is_empty() {
            (value.to_owned(), vec![value.to_owned()])
        } else {
            (value.to_owned(), command.arguments.clone())
        };
        let mut all = of_image(&config.env);
        all.extend(variables(command.environment.as_ref())?);
        let read = Self { program, arguments, variables: all, uris };
        read.check()?;
        Ok(read)
    }

    /// The same in a container that is made of an image: without a value it is the image's own, with
    /// these arguments; the program is empty unless it is a shell. Mesos: `Docker::RunOptions::create`.
    pub(crate) fn for_engine(command: &CommandInfo) -> Result<Self, BadCommand> {
        let uris = command.uris.iter().map(Uri::of).collect::<Result<Vec<Uri>, BadCommand>>()?;
        let value = command.value.clone().filter(|value| !value.is_empty());
        let (program, arguments) = match (command.shell(), value) {
            (true, Some(line)) => ("/bin/sh".to_owned(), vec!["-c".to_owned(), line]),
            (true, None) => return Err(BadCommand::Empty),
            (false, value) => {
                (String::new(), value.into_iter().chain(command.arguments.clone()).collect())
            }
        };
        let variables = variables(command.environment.as_ref())?;
        let read = Self { program, arguments, variables, uris };
        read.check()?;
        Ok(read)
    }

    /// What is wrong with the command of a task, given both of its bodies.
    pub(crate) fn look(private: &[u8], public: &[u8]) -> Result<(), BadCommand> {
        let command = command_of(private)?;
        let container = TaskPublic::decode(public).unwrap_or_default().container;
        match &container {
            Some(container) if is_docker(container) => Self::for_engine(&command).map(|_| ()),
            Some(_) if image_of(container.as_ref()).is_some() => Self::for_image(&command),
            _ => Self::of(&command).map(|_| ()),
        }
    }

    fn check(&self) -> Result<(), BadCommand> {
        if self.program.contains('\0') || self.arguments.iter().any(|text| text.contains('\0')) {
            return Err(BadCommand::Nul("an argument"));
        }
        for (name, value) in &self.variables {
            if name.is_empty() || name.contains('=') {
                return Err(BadCommand::Variable(name.clone()));
            }
            if name.contains('\0') || value.contains('\0') {
                return Err(BadCommand::Nul("a variable"));
            }
        }
        let arguments = self.arguments.iter().map(|text| text.len() + 1).sum::<usize>();
        let variables = self.variables.iter().map(|(name, value)| name.len() + value.len() + 2);
        let bytes = self.program.len() + arguments + variables.sum::<usize>();
        if bytes > COMMAND_MAX { Err(BadCommand::TooLong(bytes)) } else { Ok(()) }
    }
}

/// The command in the private body of a task.
pub(crate) fn command_of(private: &[u8]) -> Result<CommandInfo, BadCommand> {
    let private = TaskPrivate::decode(private).map_err(|_| BadCommand::Malformed)?;
    private.command.ok_or(BadCommand::Missing)
}

/// The variables that the command in the private body of a task names; none if it cannot be read.
pub(crate) fn variables_of(private: &[u8]) -> Vec<(String, String)> {
    let command = command_of(private).unwrap_or_default();
    variables(command.environment.as_ref()).unwrap_or_default()
}

/// The program of an image and its arguments, where a command says no program.
fn merged(arguments: &[String], config: &Config) -> Option<Vec<String>> {
    let Config { entrypoint, cmd, .. } = config;
    let line: Vec<String> = match (entrypoint.is_empty(), arguments.is_empty()) {
        (false, true) => entrypoint.iter().chain(cmd).cloned().collect(),
        (false, false) => entrypoint.iter().chain(arguments).cloned().collect(),
        (true, true) => cmd.clone(),
        (true, false) => cmd.iter().take(1).chain(arguments).cloned().collect(),
    };
    let program = if entrypoint.is_empty() { cmd.first() } else { entrypoint.first() };
    program.is_some_and(|program| !program.is_empty()).then_some(line)
}

/// Variables of an image, but for those that say where a task is.
pub(crate) fn of_image(env: &[String]) -> Vec<(String, String)> {
    let pairs = env.iter().filter_map(|pair| pair.split_once('='));
    let own = pairs.filter(|(name, _)| {
        !name.is_empty() && !name.starts_with("MESOS_") && !name.starts_with("MESITA_")
    });
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The image that a container stands on, if it does.
pub(crate) fn image_of(container: Option<&ContainerInfo>) -> Option<&Image> {
    container?.mesos.as_ref()?.image.as_ref()
}

/// The container of a task that is to stand on an image of this name.
pub(crate) fn standing_on(name: &str) -> ContainerInfo {
    use crate::pb::mesos::v1::container_info::{MesosInfo, Type};
    let docker = image::Docker { name: name.to_owned(), ..image::Docker::default() };
    let mut image = Image { docker: Some(docker), ..Image::default() };
    image.set_type(image::Type::Docker);
    let mesos = Some(MesosInfo { image: Some(image) });
    let mut container = ContainerInfo { mesos, ..ContainerInfo::default() };
    container.set_type(Type::Mesos);
    container
}

fn variables(environment: Option<&Environment>) -> Result<Vec<(String, String)>, BadCommand> {
    let variables = environment.map_or(&[][..], |environment| &environment.variables);
    variables
        .iter()
        .map(|variable| match variable.r#type() {
            environment::variable::Type::Value | environment::variable::Type::Unknown => {
                let value = variable.value.clone();
                let value = value.ok_or_else(|| BadCommand::Valueless(variable.name.clone()))?;
                Ok((variable.name.clone(), value))
            }
            environment::variable::Type::Secret => {
                let value = variable.secret.as_ref().map_or(Err(NO_VALUE), revealed)?;
                Ok((variable.name.clone(), value))
            }
        })
        .collect()
}

const NO_VALUE: BadCommand = BadCommand::Unsupported(
    "a secret that is not given as its value: there is nobody here to be asked for one",
);

/// What a secret is, as text. Mesos: `environment_secret`, and its default resolver.
fn revealed(secret: &Secret) -> Result<String, BadCommand> {
    match (secret.r#type(), &secret.value) {
        (secret::Type::Value, Some(value)) => {
            let text = String::from_utf8(value.data.clone());
            text.map_err(|_| BadCommand::Unsupported("a secret that is not text"))
        }
        _ => Err(NO_VALUE),
    }
}

/// The same without what is secret in it, for whoever asks.
pub(crate) fn without_secrets(command: &CommandInfo) -> CommandInfo {
    let mut told = command.clone();
    let variables = told.environment.iter_mut().flat_map(|all| &mut all.variables);
    for secret in variables.filter_map(|variable| variable.secret.as_mut()) {
        secret.value = None;
    }
    told
}

/// True when it has what whoever asks is not told.
pub(crate) fn has_secrets(command: &CommandInfo) -> bool {
    let variables = command.environment.iter().flat_map(|all| &all.variables);
    let mut secrets = variables.filter_map(|variable| variable.secret.as_ref());
    secrets.any(|secret| secret.value.is_some())
}

/// A check as whoever asks is told of it.
pub(crate) fn shown_look(mut check: CheckInfo) -> CheckInfo {
    if let Some(of) = &mut check.command {
        of.command = without_secrets(&of.command);
    }
    check
}

/// A health check as whoever asks is told of it.
pub(crate) fn shown_check(check: HealthCheck) -> HealthCheck {
    let command = check.command.as_ref().map(without_secrets);
    HealthCheck { command, ..check }
}

/// The private body of a task that runs this.
pub(crate) fn private(command: CommandInfo) -> Vec<u8> {
    TaskPrivate { command: Some(command), ..TaskPrivate::default() }.encode_to_vec()
}

/// The public body of a task of which no more is known than its name, and what holds it.
pub(crate) fn public(name: &str, container: Option<&ContainerInfo>) -> Vec<u8> {
    let (name, container) = (Some(name.to_owned()), container.cloned());
    TaskPublic { name, container, ..TaskPublic::default() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> CommandInfo {
        CommandInfo { value: Some(line.to_owned()), ..CommandInfo::default() }
    }

    #[test]
    fn a_shell_line_goes_to_the_shell_and_a_program_is_run_as_it_is() {
        let command = Command::of(&shell("echo hello && sleep 1")).unwrap();
        assert_eq!(command.program, "/bin/sh");
        assert_eq!(command.arguments, ["sh", "-c", "echo hello && sleep 1"]);
        let program = CommandInfo {
            shell: Some(false),
            value: Some("/bin/echo".to_owned()),
            arguments: vec!["echo".to_owned(), "a b".to_owned()],
            ..CommandInfo::default()
        };
        let body = private(program);
        let command = command_of(&body).and_then(|command| Command::of(&command)).unwrap();
        assert_eq!((command.program.as_str(), command.arguments.len()), ("/bin/echo", 2));
    }

    #[test]
    fn what_a_command_does_not_say_its_image_does() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let run = |value: Option<&str>, arguments: &[&str], entrypoint: &[&str], cmd: &[&str]| {
            let command = CommandInfo {
                shell: Some(false),
                value: value.map(str::to_owned),
                arguments: list(arguments),
                ..CommandInfo::default()
            };
            let (entrypoint, cmd) = (list(entrypoint), list(cmd));
            let config = Config { entrypoint, cmd, ..Config::default() };
            Command::in_image(&command, &config)
                .map(|read| (read.program, read.arguments.join(" ")))
        };
        let ok = |program: &str, line: &str| Ok((program.to_owned(), line.to_owned()));
        // Mesos' table, row by row; columns: neither, Cmd, Entrypoint, both.
        assert_eq!(run(None, &[], &[], &[]), Err(BadCommand::NoProgram));
        assert_eq!(run(None, &[], &[], &["/c", "1"]), ok("/c", "/c 1"));
        assert_eq!(run(None, &[], &["/e", "1"], &[]), ok("/e", "/e 1"));
        assert_eq!(run(None, &[], &["/e", "1"], &["c"]), ok("/e", "/e 1 c"));
        assert_eq!(run(None, &["a"], &[], &[]), Err(BadCommand::NoProgram));
        assert_eq!(run(None, &["a"], &[], &["/c", "1"]), ok("/c", "/c a"));
        assert_eq!(run(None, &["a"], &["/e", "1"], &[]), ok("/e", "/e 1 a"));
        assert_eq!(run(None, &["a"], &["/e", "1"], &["c"]), ok("/e", "/e 1 a"));
        for (entrypoint, cmd) in
            [(&[][..], &[][..]), (&[], &["c"]), (&["e"], &[]), (&["e"], &["c"])]
        {
            assert_eq!(run(Some("/v"), &[], entrypoint, cmd), ok("/v", "/v"));
            assert_eq!(run(Some("/v"), &["v", "a"], entrypoint, cmd), ok("/v", "v a"));
        }
        let config = Config { entrypoint: list(&["/e"]), ..Config::default() };
        assert_eq!(Command::in_image(&shell(""), &config), Err(BadCommand::Empty));
        let read = Command::in_image(&shell("x"), &config).unwrap();
        assert_eq!(read.program, "/bin/sh");
    }

    #[test]
    fn variables_of_an_image_say_nothing_of_where_a_task_is() {
        let env = ["A=image", "B=b=c", "MESOS_SANDBOX=/etc", "=x", "none"].map(str::to_owned);
        let config = Config { env: env.to_vec(), ..Config::default() };
        let variable = environment::Variable {
            name: "A".to_owned(),
            value: Some("own".to_owned()),
            ..Default::default()
        };
        let environment = Some(Environment { variables: vec![variable] });
        let read = Command::in_image(&CommandInfo { environment, ..shell("x") }, &config).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("A", "image"), pair("B", "b=c"), pair("A", "own")];
        assert_eq!(read.variables, expected, "the last counts");
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_a_sentence() {
        assert_eq!(Command::of(&shell("")), Err(BadCommand::Empty));
        assert_eq!(Command::of(&shell("a\0b")), Err(BadCommand::Nul("an argument")));
        assert_eq!(command_of(&[0xff]), Err(BadCommand::Malformed));
        assert_eq!(command_of(&[]), Err(BadCommand::Missing));
        let long = Command::of(&shell(&"x".repeat(COMMAND_MAX))).unwrap_err();
        assert!(long.to_string().contains("at most 196608"), "{long}");
    }

    #[test]
    fn a_secret_is_given_to_its_task_and_told_to_nobody_else() {
        let with = |secret: Secret| {
            let variable = environment::Variable {
                name: "KEY".to_owned(),
                r#type: Some(environment::variable::Type::Secret.into()),
                secret: Some(secret),
                ..Default::default()
            };
            let environment = Some(Environment { variables: vec![variable] });
            CommandInfo { environment, ..shell("true") }
        };
        let value = |data: &[u8]| Secret {
            r#type: Some(secret::Type::Value.into()),
            value: Some(secret::Value { data: data.to_vec() }),
            ..Default::default()
        };
        let command = with(value(b"s3cret"));
        let variables = Command::of(&command).unwrap().variables;
        assert_eq!(variables, [("KEY".to_owned(), "s3cret".to_owned())]);
        let told = without_secrets(&command).encode_to_vec();
        assert!(!told.windows(6).any(|part| part == b"s3cret"));
        let check = HealthCheck { command: Some(command), ..Default::default() };
        assert!(!shown_check(check).encode_to_vec().windows(6).any(|part| part == b"s3cret"));
        assert!(Command::of(&with(value(&[0xff]))).is_err());
        assert!(Command::of(&with(value(b"a\0b"))).is_err());
        let reference = secret::Reference { name: "vault".to_owned(), key: None };
        let secret = Secret {
            r#type: Some(secret::Type::Reference.into()),
            reference: Some(reference),
            ..Default::default()
        };
        let refused = Command::of(&with(secret)).unwrap_err().to_string();
        assert!(refused.contains("nobody here to be asked"), "{refused}");
    }

    #[test]
    fn a_variable_needs_a_name() {
        let mut variable = environment::Variable { name: "A".to_owned(), ..Default::default() };
        let with = |variable: &environment::Variable| {
            let environment = Some(Environment { variables: vec![variable.clone()] });
            Command::of(&CommandInfo { environment, ..shell("true") })
        };
        assert_eq!(with(&variable), Err(BadCommand::Valueless("A".to_owned())));
        variable.value = Some(String::new());
        assert!(with(&variable).is_ok(), "nothing is a value");
        variable.name = "A=B".to_owned();
        let environment = Some(Environment { variables: vec![variable] });
        let command = CommandInfo { environment, ..shell("true") };
        assert_eq!(Command::of(&command), Err(BadCommand::Variable("A=B".to_owned())));
    }
}
