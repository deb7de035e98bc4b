//! Flags: one list for help, variables of the environment and configuration files.
//!
//! Flags carry Mesos' names in kebab case, with the snake case of Mesos accepted as well. A value
//! comes from the command line, else from `MESITA_<NAME>`, else from the file of `--config`, else
//! from the default that the help shows.

mod access;
mod amounts;
mod daemons;
pub(crate) mod docker;
mod fetch;
pub(crate) mod file;
pub(crate) mod images;
pub(crate) mod json;
mod operators;
mod restart;
pub(crate) mod spare;
mod tasks;
pub(crate) mod text;
mod tls;
mod tokens;
pub(crate) mod walls;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
pub(crate) use daemons::{
    Agent, Common, Daemon, Decisions, Dev, Doctor, DoctorMaster, Holds, Init, Install, Listen,
    Master,
};
pub(crate) use operators::{
    Drain, Ls, Machines, Maintenance, Masters, OfAgent, Plan, Principal, PrincipalAdd, Pull, Quota,
    QuotaSet, Registry, RegistryAt, RegistryImport, Replay, Store, StoreKey, StorePut, WeightsOf,
    WeightsSet,
};
pub(crate) use tasks::{Attach, Events, Exec, Explain, Logs, Ps, Run, TaskAt, Top, Where};
#[cfg(feature = "tls")]
pub(crate) use tokens::NewCluster;
pub(crate) use tokens::{NodeOf, Nodes, TokenCreate, TokenOf, Tokens};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "mesita",
    version,
    about = "Apache Mesos made small: many applications share one pool of machines",
    after_help = "The cluster's address is taken from --master, else MESITA_MASTER, else it is \
                  looked for on this host at ports 5050 and 5051.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command on the cluster, or without one here, and wait for its end
    Run(Box<Run>),
    /// List tasks, agents or frameworks
    Ps(Ps),
    /// Print what a task wrote
    Logs(Logs),
    /// Run a command in the container of a task, for as long as this is connected
    Exec(Exec),
    /// Print what a task writes from now on, to where it writes it
    Attach(Attach),
    /// Print what changes on the cluster, as it does
    Events(Events),
    /// Show agents, frameworks and tasks as they are, until interrupted; once, if not on a terminal
    Top(Top),
    /// Tell why a framework does not get what agents have
    Explain(Explain),
    /// Set or list what roles are guaranteed, and may have at most
    #[command(subcommand)]
    Quota(Quota),
    /// Set or list the weights of roles
    #[command(subcommand)]
    Weights(WeightsOf),
    /// End all tasks of an agent, and offer nothing of it until it is reactivated
    Drain(Drain),
    /// Offer nothing new of an agent; its tasks run on
    Deactivate(OfAgent),
    /// Offer an agent again that was drained or deactivated
    Reactivate(OfAgent),
    /// Bring an image to agents before a task needs it
    Pull(Pull),
    /// Plan when machines will be absent, and take them down and up
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Run a whole cluster in this process, to develop against
    Dev(Box<Dev>),
    /// Make a closed cluster: its authority, its credentials, its first tokens
    #[cfg(feature = "tls")]
    Init(NewCluster),
    /// Run a master
    Master(Box<Master>),
    /// Run an agent
    Agent(Box<Agent>),
    /// Tell what an agent with these flags would find here, and what to change; `mesita doctor master`
    /// tells it of a master
    Doctor(Box<Doctor>),
    /// Tell what a master with these flags would find here, and what to change: `mesita doctor master`
    #[command(hide = true)]
    DoctorMaster(Box<DoctorMaster>),
    /// Make a master or an agent a service of this machine, that begins with it
    Install(Install),
    /// Small values that the masters keep: list, get, put, remove
    #[command(subcommand)]
    Store(Store),
    /// Tell who asked for which change of the cluster
    Audit(Ls),
    /// Who may use the cluster, beside those of the masters' --credentials: list, add, remove
    #[command(subcommand)]
    Principal(Principal),
    /// Who the masters of the cluster are: list, add, remove, replace
    #[command(subcommand)]
    Masters(Masters),
    /// Tokens by which nodes join the cluster: create, list, revoke
    #[command(subcommand)]
    Token(Tokens),
    /// Nodes that have joined the cluster: list, revoke
    #[command(subcommand)]
    Node(Nodes),
    /// What a master of a set has on its disk, while it does not run
    #[command(subcommand)]
    Registry(Registry),
    /// Repeat a journal and compare every decision
    Replay(Replay),
}

/// Reads the command line, with what the environment and the configuration file add. An error
/// prints itself, and is a usage error of status 2.
pub(crate) fn parse(mut arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let command = command();
    one_word(&mut arguments);
    let first = command.clone().try_get_matches_from(arguments.clone());
    let file = match &first {
        Ok(matches) => matches.subcommand().and_then(|(name, of)| {
            let file = of.try_get_one::<PathBuf>("config").ok().flatten();
            file.map(|file| (name.to_owned(), file.clone()))
        }),
        // A required flag may stand in the file.
        Err(_) => None,
    };
    let matches = match file {
        None => first?,
        Some((name, file)) => {
            file::with_file(command, &name, &file)?.try_get_matches_from(arguments)?
        }
    };
    // The command line is read once.
    let _ = TOLD.set(raw(&matches));
    Cli::from_arg_matches(&matches)
}

/// `doctor master` has the flags of a master, in its file, too: it is a subcommand of its own, by two
/// words. An agent is meant where none is said.
fn one_word(arguments: &mut Vec<OsString>) {
    if arguments.get(1).is_none_or(|word| word != "doctor") {
        return;
    }
    let which = arguments.get(2).and_then(|word| word.to_str());
    let Some(word) = [("master", "doctor-master"), ("agent", "doctor")]
        .into_iter()
        .find_map(|(of, word)| (which == Some(of)).then_some(word))
    else {
        return;
    };
    arguments.splice(1..3, [OsString::from(word)]);
}

/// Every flag of the subcommand with its value, under Mesos' name, for who asks a daemon.
static TOLD: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// See [`TOLD`]; empty before the command line was read.
pub(crate) fn told() -> BTreeMap<String, String> {
    TOLD.get().cloned().unwrap_or_default()
}

fn raw(matches: &clap::ArgMatches) -> BTreeMap<String, String> {
    let Some((_, of)) = matches.subcommand() else { return BTreeMap::new() };
    // Groups of flags have ids, too: the names of their types.
    let flags = of.ids().filter(|id| id.as_str().starts_with(|c: char| c.is_ascii_lowercase()));
    // A token is nobody else's.
    let flags = flags.filter(|id| *id != "join");
    let flags = flags.filter_map(|id| {
        let values = of.try_get_raw(id.as_str()).ok().flatten()?;
        let values: Vec<String> =
            values.map(|value| value.to_string_lossy().into_owned()).collect();
        Some((id.as_str().to_owned(), values.join(",")))
    });
    flags.collect()
}

/// How values are written, below the flags that take them.
const UNITS: [(&str, &str); 4] = [
    (
        "DURATION",
        "a number and ns, us, ms, secs, mins, hrs, days or weeks, such as 5secs or 1.5hrs",
    ),
    ("SIZE", "a number and B, KiB, MiB, GiB or TiB; MiB if it has none"),
    (
        "RESOURCES",
        "name:amount;... with cpus in CPUs, mem and disk in MiB, ports:[first-last]; or Mesos' JSON",
    ),
    ("NAME=VALUE", "may be given more than once"),
];

/// The flags, each also in snake case and as a variable of the environment.
pub(crate) fn command() -> clap::Command {
    let names: Vec<String> =
        Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(Cli::command(), |command, name| {
        let is_master = name == "master" || name == "doctor-master";
        let is_daemon = is_master || name == "agent" || name == "doctor";
        command.mut_subcommand(name, |sub| {
            let units = units_of(&sub);
            let named = |arg| named_as_in_mesos(arg, is_daemon);
            let sub = sub.mut_args(named).mut_args(with_its_default);
            let sub = if is_master { sub.mut_arg("join", without_a_variable) } else { sub };
            let of_mesos = if is_daemon { ", or MESOS_WORK_DIR" } else { "" };
            sub.after_help(format!(
                "{units}Every flag can be a variable as well: --work-dir is MESITA_WORK_DIR{of_mesos}."
            ))
        })
    })
}

/// What the values of a subcommand's flags are written in.
fn units_of(sub: &clap::Command) -> String {
    let takes = |name: &str| {
        let names = sub.get_arguments().filter_map(clap::Arg::get_value_names);
        names.flatten().any(|of| of.as_str().starts_with(name))
    };
    let units = UNITS.iter().filter(|(name, _)| takes(name));
    units.map(|(name, unit)| format!("{name}: {unit}.\n")).collect()
}

/// A flag whose help says what holds without it.
fn with_its_default(arg: clap::Arg) -> clap::Arg {
    let told = |help: Option<&clap::builder::StyledStr>| {
        help.is_some_and(|help| help.to_string().contains("[default"))
    };
    let shown = !arg.get_default_values().is_empty() && arg.get_action().takes_values();
    if arg.get_long().is_none() || shown || told(arg.get_help()) || told(arg.get_long_help()) {
        return arg;
    }
    let default = if arg.get_action().takes_values() { "none" } else { "off" };
    let with = |help: &clap::builder::StyledStr| format!("{help} [default: {default}]");
    let (short, long) = (arg.get_help().map(with), arg.get_long_help().map(with));
    let arg = if let Some(short) = short { arg.help(short) } else { arg };
    if let Some(long) = long { arg.long_help(long) } else { arg }
}

/// A flag that is meant where it is given: a token for agents in the environment of a machine says
/// nothing to the master that runs there.
fn without_a_variable(arg: clap::Arg) -> clap::Arg {
    arg.env(clap::builder::Resettable::Reset)
}

/// A flag under its name in Mesos, too; of a daemon also as the variable that it has there, where ours is
/// not given.
fn named_as_in_mesos(arg: clap::Arg, is_daemon: bool) -> clap::Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    let snake = long.replace('-', "_");
    let name = snake.to_uppercase();
    let own = arg.get_env().map(ToOwned::to_owned);
    let own = own.unwrap_or_else(|| format!("MESITA_{name}").into());
    let of_mesos = OsString::from(format!("MESOS_{name}"));
    let given = |variable: &OsString| std::env::var_os(variable).is_some();
    let variable = if is_daemon && !given(&own) && given(&of_mesos) { of_mesos } else { own };
    let arg = if long != "help" && long != "version" {
        arg.env(clap::builder::OsStr::from(variable))
    } else {
        arg
    };
    let arg = arg.hide_env(true);
    if snake == long { arg } else { arg.alias(snake) }
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn a_token_in_the_environment_is_for_agents_alone() {
        let command = command();
        let variable = |sub: &str| {
            let sub = command.find_subcommand(sub).unwrap();
            let arg = sub.get_arguments().find(|arg| arg.get_long() == Some("join")).unwrap();
            arg.get_env().map(|name| name.to_owned())
        };
        assert_eq!(variable("agent").unwrap(), "MESITA_JOIN");
        assert_eq!(variable("master"), None);
    }
}
