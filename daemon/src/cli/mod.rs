//! Subcommands, one file each, and what they have in common.

/// Prints a line. That nobody reads it is no reason to crash.
macro_rules! outln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// The same on stderr.
macro_rules! errln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

#[cfg(feature = "tls")]
mod addresses;
mod agent;
mod ask;
mod audit;
mod authority;
mod cluster;
mod dev;
mod doctor;
mod drain;
mod events;
mod exec;
mod explain;
mod find;
#[cfg(feature = "tls")]
mod init;
mod install;
mod join;
mod leader;
mod left;
mod logs;
mod maintenance;
mod master;
mod masters;
mod output;
mod principal;
mod ps;
mod pull;
mod quota;
mod registry;
mod replay;
pub(crate) mod run;
mod store;
mod stream;
mod tokens;
mod top;
mod usage;
mod weights;

use std::ffi::OsString;
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use crate::access::Credential;
use crate::access::tokens::FIRST_TOKENS;
use crate::conn::listen::Door;
use crate::flags::{self, Cli, Command, Listen};
use crate::logging;
use crate::tls::{Served, Signer};

/// The end of a subcommand that failed: a sentence, and a status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: u8,
}

/// Any end that has no status of its own.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// Nothing fitted in time.
pub(crate) const NO_FIT: u8 = 3;
/// There is no master.
pub(crate) const NO_MASTER: u8 = 4;

impl Failure {
    pub(crate) fn new(status: u8, message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), status }
    }

    /// A failure without a status of its own.
    pub(crate) fn plain(message: impl fmt::Display) -> Self {
        Self::new(FAILED, message)
    }
}

/// Runs what the command line asks for.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let called = arguments.first().map(PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|name| name == "mesos-execute") {
        return end(run::execute::main(arguments));
    }
    let cli = match flags::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let Cli { command } = cli;
    end(match command {
        Command::Run(flags) => run::main(*flags),
        Command::Ps(flags) => ps::main(&flags),
        Command::Logs(flags) => logs::main(&flags),
        Command::Exec(flags) => exec::main(&flags),
        Command::Attach(flags) => exec::attach(&flags),
        Command::Events(flags) => events::main(&flags),
        Command::Top(flags) => top::main(&flags),
        Command::Explain(flags) => explain::main(&flags),
        Command::Quota(flags) => quota::main(&flags),
        Command::Weights(flags) => weights::main(&flags),
        Command::Drain(flags) => drain::drain(&flags),
        Command::Deactivate(flags) => drain::activate(&flags, true),
        Command::Reactivate(flags) => drain::activate(&flags, false),
        Command::Pull(flags) => pull::main(&flags),
        Command::Maintenance(flags) => maintenance::main(&flags),
        Command::Doctor(flags) => doctor::main(&flags),
        Command::DoctorMaster(flags) => doctor::of_master(&flags),
        Command::Install(flags) => install::main(&flags),
        Command::Dev(flags) => dev::main(*flags),
        Command::Master(flags) => master::main(*flags),
        Command::Agent(flags) => agent::main(*flags),
        Command::Audit(flags) => audit::main(&flags),
        Command::Store(flags) => store::main(&flags),
        Command::Principal(flags) => principal::main(&flags),
        Command::Masters(flags) => masters::main(&flags),
        #[cfg(feature = "tls")]
        Command::Init(flags) => init::main(&flags),
        Command::Token(flags) => tokens::token(&flags),
        Command::Node(flags) => tokens::node(&flags),
        Command::Registry(flags) => registry::main(&flags),
        Command::Replay(flags) => replay::main(&flags),
    })
}

fn end(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            errln!("mesita: {}", failure.message);
        }
        ExitCode::from(failure.status)
    })
}

/// Prints a result. A reader that has seen enough is no error.
fn print(text: String) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Sends what is logged to stderr, from this level on.
pub(crate) fn log_to_stderr(level: log::LevelFilter) {
    let mut builder = env_logger::Builder::new();
    // How much of ours is looked at before, and may change.
    let all = log::LevelFilter::Trace;
    builder.filter_level(log::LevelFilter::Warn).filter_module("mesita", all);
    builder.format(|into, record| {
        use std::io::Write;
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            log::Level::Info | log::Level::Debug | log::Level::Trace => "",
        };
        // Names come from anybody: none begins a line of its own, or speaks to a terminal.
        let said = record.args().to_string();
        let plain = |c: char| !c.is_control() || c == '\t';
        if said.chars().all(plain) {
            return writeln!(into, "mesita: {level}{said}");
        }
        let said: String = said
            .chars()
            .map(|c| if plain(c) { c.to_string() } else { c.escape_default().to_string() })
            .collect();
        writeln!(into, "mesita: {level}{said}")
    });
    // Once in a process; a second attempt changes nothing.
    if builder.try_init().is_ok() {
        logging::begin(level);
    }
}

/// Sends warnings to stderr, or what `MESITA_LOGGING_LEVEL` asks for.
pub(crate) fn log_warnings() {
    let level = std::env::var("MESITA_LOGGING_LEVEL").ok().and_then(|level| level.parse().ok());
    log_to_stderr(level.unwrap_or(log::LevelFilter::Warn));
}

/// Where daemons of root work when nobody says.
const WORK_DIRS: &str = "/var/lib/mesita";

/// Where a daemon works when nobody says.
fn default_work_dir(kind: &str) -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new(WORK_DIRS).join(kind));
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = state.or_else(home).filter(|base| base.is_absolute());
    let base = base.ok_or_else(|| Failure::new(USAGE, "there is no HOME: give --work-dir"))?;
    Ok(base.join("mesita").join(kind))
}

/// What is spoken where a daemon listens, or why it may not listen there.
fn door(listen: &Listen, signer: Signer) -> Result<Rc<Door>, Failure> {
    check_protected(listen)?;
    let shown = &listen.shown;
    let files = shown.tls_cert_file.as_deref().zip(shown.tls_key_file.as_deref());
    let tls = files.map(|(certificate, key)| Served::read(certificate, key, signer)).transpose();
    let tls = tls.map_err(|why| Failure::new(USAGE, why))?;
    if listen.insecure && !listen.ip.is_loopback() {
        log::warn!("--insecure: others reach {}, and can listen in; see /health", listen.ip);
    }
    Ok(Rc::new(Door { tls_only: tls.is_some() && !listen.insecure, tls }))
}

/// Refuses to listen where others come from, and can read and change what is said.
fn check_protected(listen: &Listen) -> Result<(), Failure> {
    if listen.ip.is_loopback() || listen.insecure || listen.shown.tls_cert_file.is_some() {
        return Ok(());
    }
    let message = format!(
        "--ip {} is reached by other machines, and nothing protects what they say: give \
         --tls-cert-file and --tls-key-file, or add --insecure if everybody there may use this cluster",
        listen.ip
    );
    Err(Failure::new(USAGE, message))
}

/// What makes an agent ask everybody who comes to its own port.
const OF_AGENT: &str = "--http-credentials FILE, --authenticate-http-readonly and \
                        --authenticate-http-readwrite";

/// Refuses to listen where others come from who need not show a credential.
fn check_access(listen: &Listen, is_closed: bool, flags: &str) -> Result<(), Failure> {
    if listen.ip.is_loopback() || listen.insecure || is_closed {
        return Ok(());
    }
    let message = format!(
        "--ip {} is reached by other machines, and not everybody must show a credential: give \
         {flags}, or add --insecure if everybody there may use this cluster",
        listen.ip
    );
    Err(Failure::new(USAGE, message))
}

/// Reads the credential that is to be shown, if there is one.
fn credential(told: Option<&Path>) -> Result<Option<Rc<Credential>>, Failure> {
    let read = told.map(Credential::shown).transpose();
    let bad = |bad| Failure::new(USAGE, format!("--credential: {bad}"));
    Ok(read.map_err(bad)?.map(Rc::new))
}

/// What only a master writes to the `meta` of its work directory, and what only an agent does.
const MASTERS_OWN: [&str; 4] = ["registry", "set", "given", FIRST_TOKENS];
const AGENTS_OWN: [&str; 1] = ["ledger"];

/// Refuses a work directory of the other kind of daemon, whose key this one would go on by.
fn refuse_other(work_dir: &Path, of: &str, files: &[&str]) -> Result<(), Failure> {
    let meta = work_dir.join("meta");
    let Some(found) = files.iter().map(|name| meta.join(name)).find(|path| path.exists()) else {
        return Ok(());
    };
    let why = format!(
        "--work-dir: {} is the work directory of {of}, for {} is there: give this one another",
        work_dir.display(),
        found.display()
    );
    Err(Failure::new(USAGE, why))
}

/// Makes the `meta` of a master's work directory, which nobody else may look into. Those above it are
/// not the master's alone: an agent's may be beside it, and its tasks go through to their sandboxes.
fn make_meta(work_dir: &Path) -> Result<PathBuf, Failure> {
    let meta = work_dir.join("meta");
    let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
    let above =
        std::path::absolute(work_dir).ok().and_then(|path| path.parent().map(Path::to_owned));
    let made = above.map_or(Ok(()), |above| make(&above, 0o711)).and_then(|()| make(&meta, 0o700));
    made.map_err(|error| Failure::plain(format!("{}: {error}", meta.display())))?;
    Ok(meta)
}

/// Lets this process have as many descriptors as it may: each connection takes one.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is not allowed, there are fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Becomes a new program of this kind in the same process, with the same flags and a variable that
/// says so. Blocked signals stay blocked, and what comes meanwhile is heard then. What it returns is
/// why it did not.
fn begin_again(variable: Option<&str>) -> Failure {
    use std::os::unix::process::CommandExt;
    let become_one = |program: &Path| {
        let mut command = std::process::Command::new(program);
        command.args(std::env::args_os().skip(1)).envs(variable.map(|name| (name, "1")));
        command.exec()
    };
    // Where it was replaced or removed meanwhile, its path ends in words of the kernel.
    let path = std::env::current_exe().map(|path| become_one(&path));
    let error = become_one(Path::new("/proc/self/exe"));
    log::debug!("{path:?}, then {error}");
    Failure::plain(format!("cannot begin again: {error}"))
}
