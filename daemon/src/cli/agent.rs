//! `mesita agent`

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use mesita_core::wire::link::Parting;

use super::cluster::plan_agent;
use super::join::token;
use super::{
    Failure, MASTERS_OWN, OF_AGENT, USAGE, begin_again, check_access, check_protected,
    default_work_dir, door, log_to_stderr, raise_descriptors, refuse_other,
};
use crate::access::tokens::Join;
use crate::access::{Access, Credential, ForTasks};
use crate::agent::{Life, Why, prepare};
use crate::alarm;
use crate::audit::{AUDIT_LOG, Audit};
use crate::conn::dial::Way;
use crate::conn::listen::{Door, accept, bind};
use crate::flags::Agent;
use crate::io_thread::Node;
use crate::process::{Plan, Process};
use crate::signals::{self, Caught, Signals};
use crate::tls::{Identity, Pin, Signer, Transport, Trust, reached};

/// How long a leaving agent waits for the ends of its tasks to be acknowledged, in µs.
const LEAVE_US: u64 = 10_000_000;

/// What ended the agent.
enum End {
    Signal,
    Left,
    KeeperGone,
    Unfit,
}

pub(super) fn main(flags: Agent) -> Result<ExitCode, Failure> {
    log_to_stderr(flags.common.logging_level);
    let ip = flags.listen.ip;
    let work_dir = match &flags.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => default_work_dir("agent")?,
    };
    let (door, join, pin) = first(&flags, &work_dir)?;
    // The keeper is made here, and takes nothing of what follows with it.
    let prepared = prepare(&work_dir, &flags.holds, Life::OfItsOwn).map_err(Failure::plain)?;
    // Of secrets, too.
    let access = access(&flags)?;
    if join.is_some() && prepared.proof.is_none() {
        let why = "this work directory has a key that proves nothing, of a build without TLS: a node \
                   joins with an empty one";
        return Err(Failure::new(USAGE, format!("--join: {why}")));
    }
    let (masters, over) = reach(&flags, pin, prepared.proof.as_ref())?;
    let credential = match &join {
        Some(join) => Some(Rc::new(join.credential())),
        None => credential("--credential", flags.access.credential.as_deref())?,
    };
    access.trouble().iter().for_each(|trouble| log::warn!("{trouble}"));
    let insecure = flags.listen.insecure && !ip.is_loopback();
    let for_tasks = credential_of_tasks(&flags)?;
    signals::block().map_err(Failure::plain)?;
    raise_descriptors();
    let listener = bind(ip, flags.port).map_err(Failure::plain)?;
    let address = SocketAddr::new(ip, flags.port).to_string();
    let backoff_us = flags.registration_backoff_factor.us;
    let plan =
        plan_agent(prepared, &flags.holds, &flags.common, address, backoff_us, Life::OfItsOwn);
    let mut audited = flags.access.audited();
    // As every node of a cluster with doors.
    if pin.is_some() && audited.path.is_none() {
        audited.path = Some(work_dir.join(AUDIT_LOG));
    }
    Audit::open(&audited).map_err(|why| Failure::new(USAGE, why))?;
    let (seat, rest) = plan
        .guarded(access, credential, for_tasks, insecure)
        .audited(audited)
        .joining(join.map(|join| join.pin))
        .part();
    let journal = flags.common.journal.clone();
    let journal = journal.map(|directory| (directory, flags.common.journal_max.bytes));
    let mut process =
        Process::start(Plan { seats: vec![seat], journal }).map_err(Failure::plain)?;
    let (port, tasks) = (process.port(0), process.tasks());
    let agent = rest.start(port, tasks.clone(), process.to_disk())?;
    log::info!(
        "agent {} at {ip}:{}, work dir {}",
        agent.hostname(),
        flags.port,
        agent.work_dir().display()
    );
    log::info!("offers {}", agent.resources());
    let signals = Signals::new().map_err(Failure::plain)?;
    let nodes: [Rc<dyn Node>; 1] = [Rc::clone(&agent) as Rc<dyn Node>];
    let end = process.run(&nodes, async {
        tasks.go(accept(listener, door, tasks.clone(), Rc::clone(&agent)));
        tasks.go(Rc::clone(&agent).stay_connected(Way::To(masters, over)));
        let told = async {
            loop {
                match signals.next().await {
                    Caught::Interrupt | Caught::Terminate => return End::Signal,
                    Caught::User1 => {
                        log::info!("leaving: every task is ended first");
                        agent.leave();
                        // Who should acknowledge an end may be gone for good.
                        let agent = Rc::clone(&agent);
                        tasks.go(async move {
                            alarm::after(LEAVE_US).await;
                            agent.leave();
                        });
                    }
                    Caught::HangUp => {
                        agent.read_access_again();
                        agent.draw_key();
                    }
                }
            }
        };
        let over = async {
            match agent.over.wait().await {
                Why::Left => End::Left,
                Why::KeeperGone => End::KeeperGone,
                Why::Unfit => End::Unfit,
            }
        };
        let end = futures_lite::future::or(told, over).await;
        agent.part_from_all(Parting::Leaving).await;
        match end {
            End::KeeperGone => agent.kill_all().await,
            End::Left => {
                agent.clears_up().await;
                agent.end_docker().await;
            }
            End::Signal | End::Unfit => {}
        }
        end
    });
    match end {
        End::Signal | End::Left => Ok(ExitCode::SUCCESS),
        End::Unfit => Ok(ExitCode::FAILURE),
        End::KeeperGone => {
            // A keeper can only be made before the first thread.
            log::warn!("starting again, with a new keeper");
            // That keeper would have them blocked, too.
            nix::sys::signal::SigSet::all().thread_unblock().map_err(Failure::plain)?;
            Err(begin_again(None))
        }
    }
}

/// Refuses flags by which no agent begins, whatever is in the files that they name.
pub(super) fn judge_unread(flags: &Agent) -> Result<(), Failure> {
    check_protected(&flags.listen)?;
    check_master(flags)?;
    // No token has a slash.
    if let Some(told) = flags.join.as_deref().filter(|told| !told.contains('/')) {
        token(told, flags.common.config.as_deref())?;
    }
    check_secure(flags)?;
    let wanted = flags.access.wanted();
    wanted.judge(CREDENTIALS).map_err(|why| Failure::new(USAGE, why))?;
    check_access(&flags.listen, wanted.is_closed("agent"), OF_AGENT)
}

/// Refuses flags by which no agent begins on this work directory, as it would itself. Nothing is made.
pub(super) fn judge(flags: &Agent, work_dir: &Path) -> Result<(), Failure> {
    first(flags, work_dir)?;
    access(flags)?;
    if flags.join.is_none() {
        credential("--credential", flags.access.credential.as_deref())?;
    }
    credential_of_tasks(flags).map(|_| ())
}

/// What is spoken at its port, the token that it was given, and by which key it knows the masters.
type First = (Rc<Door>, Option<Join>, Option<Pin>);

/// What is looked at before there is a keeper: where it listens, and by what it knows the masters.
fn first(flags: &Agent, work_dir: &Path) -> Result<First, Failure> {
    let door = door(&flags.listen, Signer::OfWhomever)?;
    check_master(flags)?;
    refuse_other(work_dir, "a master", &MASTERS_OWN)?;
    let (join, pin) = known_by(flags, work_dir)?;
    reach(flags, pin, None)?;
    Ok((door, join, pin))
}

fn check_master(flags: &Agent) -> Result<(), Failure> {
    if flags.master.is_empty() {
        let message = "an agent needs a master: --master HOST:PORT, or MESITA_MASTER";
        return Err(Failure::new(USAGE, message));
    }
    Ok(())
}

const CREDENTIALS: &str = "--http-credentials";

/// Who may use its own port.
pub(super) fn access(flags: &Agent) -> Result<Access, Failure> {
    let access = Access::read("agent", CREDENTIALS, &flags.access.wanted());
    let access = access.map_err(|why| Failure::new(USAGE, why))?;
    check_access(&flags.listen, access.is_closed(), OF_AGENT)?;
    Ok(access)
}

/// The token of the flags, and by which key a node with these flags knows the masters.
pub(super) fn known_by(
    flags: &Agent,
    work_dir: &Path,
) -> Result<(Option<Join>, Option<Pin>), Failure> {
    let config = flags.common.config.as_deref();
    let join = flags.join.as_deref().map(|told| token(told, config)).transpose()?;
    let joined = work_dir.join("meta/joined");
    let Some(join) = join else { return Ok((None, pin_of(flags, &joined)?)) };
    let known = std::fs::read_to_string(joined).ok().and_then(|text| text.trim().parse().ok());
    if known.is_some_and(|known: Pin| known != join.pin) {
        let why = "--join: this work directory is that of a node of another cluster than the token's: give an \
                   empty --work-dir, or leave --join away";
        return Err(Failure::new(USAGE, why));
    }
    check_authorities(flags, join.pin, "the token names")?;
    let pin = Some(join.pin);
    Ok((Some(join), pin))
}

/// Refuses authorities that could never vouch for a master: by a token they are known by one key.
fn check_authorities(flags: &Agent, pin: Pin, whence: &str) -> Result<(), Failure> {
    let Some(path) = &flags.trusted.tls_ca_file else { return Ok(()) };
    let why = match pin.is_in(path) {
        Ok(true) => return Ok(()),
        Ok(false) => format!("{}: no certificate in it has the key that {whence}", path.display()),
        Err(why) => why,
    };
    let do_this = "a node that joins by a token knows the masters by that key alone, so leave the flag, or \
                   MESITA_TLS_CA_FILE, away";
    Err(Failure::new(USAGE, format!("--tls-ca-file {why}: {do_this}")))
}

/// By which key this node has known the masters since it joined, whatever the environment says of
/// authorities. It speaks with no others, and in the clear with nobody.
fn pin_of(flags: &Agent, joined: &Path) -> Result<Option<Pin>, Failure> {
    let text = match std::fs::read_to_string(joined) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::plain(format!("{}: {error}", joined.display()))),
    };
    if !is_secure(flags) {
        let why = "--master: this node has joined a cluster, and speaks with its masters by TLS: say \
                   https://HOST:PORT";
        return Err(Failure::new(USAGE, why));
    }
    let path = joined.display();
    let pin: Pin = text.trim().parse().map_err(|_| {
        Failure::plain(format!(
            "{path} does not hold the key of the masters; remove it, and --join"
        ))
    })?;
    check_authorities(flags, pin, &format!("this node has joined by, in {path}"))?;
    match flags.trusted.tls_pin.filter(|other| *other != pin) {
        None => Ok(Some(pin)),
        Some(_) => {
            let why = format!(
                "--tls-pin, or MESITA_TLS_PIN, is another key than that of the cluster which this node has \
                 joined, in {path}: leave it away, or give an empty --work-dir for another cluster"
            );
            Err(Failure::new(USAGE, why))
        }
    }
}

fn check_secure(flags: &Agent) -> Result<(), Failure> {
    if flags.join.is_some() && !is_secure(flags) {
        let why = "--join: a node joins by TLS: --master https://HOST:PORT";
        return Err(Failure::new(USAGE, why));
    }
    Ok(())
}

fn is_secure(flags: &Agent) -> bool {
    flags.master.iter().any(|master| master.trim().starts_with("https://"))
}

/// Where the masters are, and how this node reaches them.
pub(super) fn reach(
    flags: &Agent,
    pin: Option<Pin>,
    node: Option<&Identity>,
) -> Result<(Vec<String>, Transport), Failure> {
    // A token says by which key the masters are known, whatever the environment says of others.
    let told = if flags.join.is_some() { Trust::default() } else { flags.trusted.trust() };
    let insecure = flags.listen.insecure;
    let trust = Trust { pin: pin.or(told.pin), node, insecure, ..told };
    check_secure(flags)?;
    let reached = reached(&flags.master, trust);
    reached.map_err(|why| Failure::new(USAGE, format!("--master: {why}")))
}

/// Reads a file that is the agent's own.
fn credential(flag: &str, path: Option<&Path>) -> Result<Option<Rc<Credential>>, Failure> {
    let read = path.map(Credential::read).transpose();
    Ok(read.map_err(|bad| Failure::new(USAGE, format!("{flag}: {bad}")))?.map(Rc::new))
}

/// What tasks find in their environment.
fn credential_of_tasks(flags: &Agent) -> Result<ForTasks, Failure> {
    let read = credential("--task-credential", flags.access.task_credential.as_deref())?;
    let masters = flags.master.join(",");
    Ok(read.map(|one| one.for_tasks(&masters, flags.listen.insecure)).unwrap_or_default())
}
