//! The bodies of a launch: what everybody may see of a task, and its command.

use std::fmt;

use prost::Message;

use crate::agent::fetch::uri::Uri;
use crate::pb::mesita::{TaskPrivate, TaskPublic};
use crate::pb::mesos::v1::{CommandInfo, ContainerInfo, Environment, environment};
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
    /// Too many bytes of arguments and variables.
    TooLong(usize),
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
            Self::Nul(what) => write!(f, "{what} of the command has a NUL byte in it"),
            Self::Variable(name) => write!(f, "the environment has a variable called `{name}`"),
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
    /// Reads and checks the private body of a task.
    pub(crate) fn read(private: &[u8]) -> Result<Self, BadCommand> {
        let private = TaskPrivate::decode(private).map_err(|_| BadCommand::Malformed)?;
        Self::of(&private.command.ok_or(BadCommand::Missing)?)
    }

    /// Checks a command. Mesos: `mesos-containerizer launch`: with a shell the value is its line;
    /// without one it is the program, and the arguments are all of them, the program's name first.
    pub(crate) fn of(command: &CommandInfo) -> Result<Self, BadCommand> {
        let uris = command.uris.iter().map(Uri::of).collect::<Result<Vec<Uri>, BadCommand>>()?;
        let value = command.value.as_deref().unwrap_or_default();
        if value.is_empty() {
            return Err(BadCommand::Empty);
        }
        let (program, arguments) = if command.shell() {
            let line = ["sh", "-c", value].map(str::to_owned).to_vec();
            ("/bin/sh".to_owned(), line)
        } else if command.arguments.is_empty() {
            (value.to_owned(), vec![value.to_owned()])
        } else {
            (value.to_owned(), command.arguments.clone())
        };
        let variables = variables(command.environment.as_ref())?;
        let read = Self { program, arguments, variables, uris };
        read.check()?;
        Ok(read)
    }

    /// The same in a container that is made of an image: without a value it is the image's own, with
    /// these arguments; the program is empty unless it is a shell. Mesos: `Docker::RunOptions::create`.
    pub(crate) fn in_image(command: &CommandInfo) -> Result<Self, BadCommand> {
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
        let looked = Self::read(private).map(|_| ());
        if looked != Err(BadCommand::Empty) {
            return looked;
        }
        let public = TaskPublic::decode(public).unwrap_or_default();
        let command = TaskPrivate::decode(private).unwrap_or_default().command;
        match (public.container, command) {
            (Some(container), Some(command)) if is_docker(&container) => {
                Self::in_image(&command).map(|_| ())
            }
            _ => looked,
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

fn variables(environment: Option<&Environment>) -> Result<Vec<(String, String)>, BadCommand> {
    let variables = environment.map_or(&[][..], |environment| &environment.variables);
    variables
        .iter()
        .map(|variable| match variable.r#type() {
            environment::variable::Type::Value | environment::variable::Type::Unknown => {
                Ok((variable.name.clone(), variable.value.clone().unwrap_or_default()))
            }
            environment::variable::Type::Secret => {
                Err(BadCommand::Unsupported("a variable with a secret"))
            }
        })
        .collect()
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
        let command = Command::read(&body).unwrap();
        assert_eq!((command.program.as_str(), command.arguments.len()), ("/bin/echo", 2));
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_a_sentence() {
        assert_eq!(Command::of(&shell("")), Err(BadCommand::Empty));
        assert_eq!(Command::of(&shell("a\0b")), Err(BadCommand::Nul("an argument")));
        assert_eq!(Command::read(&[0xff]), Err(BadCommand::Malformed));
        assert_eq!(Command::read(&[]), Err(BadCommand::Missing));
        let long = Command::of(&shell(&"x".repeat(COMMAND_MAX))).unwrap_err();
        assert!(long.to_string().contains("at most 196608"), "{long}");
    }

    #[test]
    fn a_variable_needs_a_name() {
        let variable = environment::Variable { name: "A=B".to_owned(), ..Default::default() };
        let environment = Some(Environment { variables: vec![variable] });
        let command = CommandInfo { environment, ..shell("true") };
        assert_eq!(Command::of(&command), Err(BadCommand::Variable("A=B".to_owned())));
    }
}
