//! `mesita master`

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use mesita_core::wire::link::Parting;

use super::authority;
use super::cluster::{Home, plan_master};
use super::join::{self, Joins};
use super::{
    AGENTS_OWN, Failure, USAGE, begin_again, check_access, check_protected, default_work_dir, door,
    log_to_stderr, make_meta, raise_descriptors, refuse_other,
};
use crate::access::Access;
use crate::access::tokens::{FIRST_TOKENS, Join as Token};
use crate::agent::prepare::lock;
use crate::alarm;
use crate::audit::Audit;
use crate::conn::listen::{Door, accept, bind};
use crate::flags::Master;
use crate::identity;
use crate::io_thread::Node;
use crate::master::MasterNode;
use crate::process::{Plan, Process};
use crate::secrets;
use crate::set::begin::{self, AGAIN, Begun, GIVEN_UP, QUARANTINED, Wanted, together};
use crate::set::bootstrap::Identity;
use crate::set::charter::{Given, Sources, authority_of};
use crate::set::early::Early;
use crate::set::node::{Over, SetNode};
use crate::set::roster::REMOVED;
use crate::set::standing::Standing;
use crate::signals::{self, Caught, Signals};
use crate::tls::Signer;

/// How long connections may take to read that the master ends, in µs.
const GOODBYE_US: u64 = 500_000;
/// What those are told takes until it is sent who wait for an answer that will not come, in µs.
const ANSWERED_US: u64 = 100_000;

/// Why a master ends.
enum End {
    Signal,
    Over(Over),
}

pub(super) fn main(mut flags: Master) -> Result<ExitCode, Failure> {
    log_to_stderr(flags.common.logging_level);
    let work_dir = match &flags.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => default_work_dir("master")?,
    };
    let ip = flags.listen.ip;
    let (joins, given) = told(&mut flags, &work_dir)?;
    let asks_for = asks_for(&joins, &work_dir, &given)?;
    // Who has to be told first lets nobody in meanwhile.
    let mut open = asks_for.is_none().then(|| opened(&flags)).transpose()?;
    raise_descriptors();
    judge_journal(&flags, &work_dir)?;
    let meta = make_meta(&work_dir)?;
    let _lock = lock(&meta.join("lock")).map_err(Failure::plain)?;
    // A port that is taken is found out before anything is written.
    let listener = bind(ip, flags.port).map_err(Failure::plain)?;
    let early = Early::new(&listener).map_err(Failure::plain)?;
    identity::is_whole(&meta, identity::Known::MASTER).map_err(|why| Failure::new(USAGE, why))?;
    if let Some(token) = asks_for {
        take_charter(&mut flags, token, &meta, early)?;
    }
    let (door, access) = match open.take() {
        Some(open) => open,
        None => opened(&flags)?,
    };
    if let Some(tls) = door.tls.as_ref().filter(|_| flags.set.tls_ca_key_file.is_some()) {
        authority::keep(&meta, &tls.anchor())?;
    }
    let joins = !matches!(joins, Joins::Not) || given.is_there();
    let (of_registry, begun) = registry(&flags, joins, &meta, early)?;
    signals::block().map_err(Failure::plain)?;
    let standing = Rc::new(if flags.set.masters.is_empty() {
        Standing::alone(advertised(&flags))
    } else {
        Standing::of_set(Some(reached_at(&flags, ip)))
    });
    let home = Home::Registry(Rc::clone(&standing), of_registry.t_us);
    let plan = plan_master(home, &flags.decisions, &flags.common)?;
    let insecure = flags.listen.insecure && !ip.is_loopback();
    let audited = flags.access.audited();
    Audit::open(&audited).map_err(|why| Failure::new(USAGE, why))?;
    let plan = plan.called(flags.hostname.as_deref()).giving(sources(&flags));
    let plan = plan.placed(&flags.region, &flags.zone).audited(audited);
    let plan = if given.is_there() { plan.also_told(join::filled(&flags)) } else { plan };
    access.trouble().iter().for_each(|trouble| log::warn!("{trouble}"));
    let (seat, rest) = plan.guarded(access, Rc::clone(&door), insecure).part();
    let seats = vec![of_registry.seat, seat];
    let journal = flags.common.journal.clone();
    let journal = journal.map(|directory| (directory, flags.common.journal_max.bytes));
    let mut process = Process::start(Plan { seats, journal }).map_err(Failure::plain)?;
    let tasks = process.tasks();
    let master = rest.start(process.port(1), tasks.clone());
    if let Some(trouble) = master.doors.trouble() {
        log::warn!("{trouble}");
    }
    let set = begin_election(&mut process, begun, Rc::clone(&standing), &master)?;
    let signals = Signals::new().map_err(Failure::plain)?;
    let nodes: [Rc<dyn Node>; 2] = [Rc::clone(&set) as _, Rc::clone(&master) as _];
    let end = process.run(&nodes, async {
        if !standing.in_set {
            master.leading().await;
        }
        log::info!("master at {ip}:{}, work dir {}", flags.port, work_dir.display());
        tasks.go(accept(listener, door, tasks.clone(), Rc::clone(&master)));
        let told = async {
            loop {
                match signals.next().await {
                    Caught::HangUp => {
                        set.renew_keys();
                        master.read_access_again();
                    }
                    Caught::User1 => {}
                    Caught::Interrupt | Caught::Terminate => break,
                }
            }
            part_from_all(&master).await;
            End::Signal
        };
        let over = async {
            let over = set.over().await;
            if over == Over::Lost {
                master.answers_unknown();
                alarm::after(ANSWERED_US).await;
            }
            End::Over(over)
        };
        futures_lite::future::or(told, over).await
    });
    match end {
        End::Signal => Ok(ExitCode::SUCCESS),
        End::Over(Over::Quarantined) => Err(Failure::plain(QUARANTINED)),
        End::Over(Over::GivenUp) => Err(Failure::plain(GIVEN_UP)),
        End::Over(Over::Removed) => Err(Failure::plain(REMOVED)),
        // Mesos: a master that lost its leadership ends, and whoever supervises it starts it anew.
        End::Over(Over::Lost) => Err(begin_again(Some(AGAIN))),
    }
}

/// Refuses to begin a cluster whose first tokens are to be kept by a master that writes everything down.
fn judge_journal(flags: &Master, work_dir: &Path) -> Result<(), Failure> {
    let tokens = work_dir.join("meta").join(FIRST_TOKENS);
    if flags.common.journal.is_none() || !tokens.exists() {
        return Ok(());
    }
    let why = format!(
        "--journal: secrets never enter a journal, and the first tokens of this cluster, in {}, are to be \
         kept by this master: start it without --journal, and all nodes join first; or remove the file, and \
         nobody joins by those",
        tokens.display()
    );
    Err(Failure::new(USAGE, why))
}

/// Addresses as the list has them: by a token masters are reached by TLS, said or not.
pub(super) fn bare(masters: &mut [String]) {
    for master in masters {
        *master = master.trim().trim_start_matches("https://").trim_end_matches('/').to_owned();
    }
}

/// The token by which this master is to be given what the others have in common; none: it has that, or
/// needs none.
fn asks_for<'j>(
    joins: &'j Joins,
    work_dir: &Path,
    given: &Given,
) -> Result<Option<&'j Token>, Failure> {
    let Joins::By(token) = joins else { return Ok(None) };
    if given.is_there() {
        if given.pin() == Some(token.pin) {
            return Ok(None);
        }
        let why = "this work directory is that of a master of another cluster than the token's: give \
                   another --work-dir, or leave --join away";
        return Err(Failure::new(USAGE, format!("--join: {why}")));
    }
    let identity = Identity::read(&work_dir.join("meta"));
    let identity = identity.map_err(|refused| Failure::new(USAGE, refused))?;
    // Later it is as if it was not given.
    Ok(identity.is_none_or(|identity| !identity.formed).then_some(token))
}

/// Is given what the others have in common, and keeps it.
fn take_charter(
    flags: &mut Master,
    token: &Token,
    meta: &Path,
    early: Early<'_>,
) -> Result<(), Failure> {
    let (host, port) = reached_at(flags, flags.listen.ip);
    let own = identity::own(meta).map_err(Failure::plain)?;
    let me = together(&host, port);
    signals::spare_others().map_err(Failure::plain)?;
    let charter = join::asked(flags, token, &me, &own, early)?;
    if !charter.signs() && flags.listen.shown.tls_cert_file.is_none() {
        let why = "the masters of this cluster keep no --tls-ca-key-file: give this one --tls-cert-file \
                   and --tls-key-file of the authority that theirs are of, and the same --join";
        return Err(Failure::new(USAGE, why));
    }
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = [host, node, "localhost".to_owned(), "127.0.0.1".to_owned()];
    let hosts = flags.listen.shown.tls_cert_file.is_none().then_some(&hosts[..]);
    charter.keep(meta, hosts, token.pin).map_err(Failure::plain)?;
    let given = Given::of(meta);
    join::fill(flags, &given);
    // Whoever of them leads is to hear this one itself.
    let known = given.masters().into_iter().filter(|one| *one != me);
    flags.set.masters.extend(known);
    flags.set.masters.sort_unstable();
    flags.set.masters.dedup();
    log::info!(
        "this master has what the others have in common, in {}",
        meta.join("given").display()
    );
    Ok(())
}

/// What a master that joins this one by a token is given.
fn sources(flags: &Master) -> Sources {
    let shown = &flags.listen.shown;
    let authority = shown.tls_cert_file.clone().zip(flags.set.tls_ca_key_file.clone());
    let wanted = flags.access.wanted();
    Sources {
        authority,
        gossip: flags.set.gossip_key_file.clone(),
        credentials: wanted.credentials,
        acls: wanted.acls,
        rates: wanted.rates,
        asks: wanted.asks,
    }
}

/// What is spoken at its port, and who may use it.
pub(super) fn opened(flags: &Master) -> Result<(Rc<Door>, Access), Failure> {
    let signer = match flags.set.tls_ca_key_file {
        Some(_) => Signer::OfTheCluster,
        None => Signer::OfWhomever,
    };
    let door = door(&flags.listen, signer)?;
    if let Some(key) = &flags.set.tls_ca_key_file {
        secrets::check(key).map_err(|why| {
            Failure::new(USAGE, format!("--tls-ca-key-file {}: {why}", key.display()))
        })?;
        if let Some(chain) = &flags.listen.shown.tls_cert_file {
            let judged = authority_of(chain, key);
            judged.map_err(|why| Failure::new(USAGE, format!("--tls-ca-key-file {why}")))?;
        }
    }
    Ok((door, access(flags)?))
}

/// Who may use it.
fn access(flags: &Master) -> Result<Access, Failure> {
    let access = Access::read("master", CREDENTIALS, &flags.access.wanted());
    let access = access.map_err(|why| Failure::new(USAGE, why))?;
    check_access(&flags.listen, access.is_closed(), OF_MASTER)?;
    Ok(access)
}

const CREDENTIALS: &str = "--credentials";
/// What makes a master ask everybody.
const OF_MASTER: &str = "--credentials FILE, --authenticate-agents, --authenticate-http-readonly, \
                         --authenticate-http-readwrite and --authenticate-http-frameworks";

/// Refuses flags by which no master begins, whatever is in the files that they name.
pub(super) fn judge_unread(flags: &Master) -> Result<(), Failure> {
    if let Some(told) = flags.set.join.as_deref() {
        // The others have what protects it; no token has a slash.
        return if told.contains('/') { Ok(()) } else { Joins::of(flags).map(|_| ()) };
    }
    check_protected(&flags.listen)?;
    let wanted = flags.access.wanted();
    wanted.judge(CREDENTIALS).map_err(|why| Failure::new(USAGE, why))?;
    check_access(&flags.listen, wanted.is_closed("master"), OF_MASTER)
}

/// Refuses flags by which no master begins on this work directory, as it would itself. Nothing is made.
pub(super) fn judge(mut flags: Master, work_dir: &Path) -> Result<(), Failure> {
    let (joins, given) = told(&mut flags, work_dir)?;
    let asks_for = asks_for(&joins, work_dir, &given)?;
    judge_journal(&flags, work_dir)?;
    if asks_for.is_some() {
        // The rest of what it needs the others have.
        return Ok(());
    }
    opened(&flags)?;
    let meta = work_dir.join("meta");
    let joins = !matches!(joins, Joins::Not) || given.is_there();
    begin::judge(&wanted(&flags, joins, &meta)).map_err(|why| Failure::new(USAGE, why))
}

/// How a master of these flags comes to follow others, and what it was given by them, which the flags
/// say from here on.
fn told(flags: &mut Master, work_dir: &Path) -> Result<(Joins, Given), Failure> {
    refuse_other(work_dir, "an agent", &AGENTS_OWN)?;
    let joins = Joins::of(flags)?;
    let given = Given::of(&work_dir.join("meta"));
    join::fill(flags, &given);
    bare(&mut flags.set.masters);
    Ok((joins, given))
}

/// The registry of this master, found or made: its own, or that of a set.
fn registry(
    flags: &Master,
    join: bool,
    meta: &Path,
    early: Early<'_>,
) -> Result<(begin::Plan, Begun), Failure> {
    let wanted = wanted(flags, join, meta);
    begin::begin(&wanted, early).map_err(|refused| Failure::new(USAGE, refused))
}

/// What the flags ask for.
fn wanted<'w>(flags: &'w Master, join: bool, meta: &'w Path) -> Wanted<'w> {
    let ip = flags.listen.ip;
    let capacity = flags.common.master_capacity();
    let key_files: &[PathBuf] = &flags.set.gossip_key_file;
    Wanted {
        meta,
        masters: &flags.set.masters,
        bootstrap: flags.set.bootstrap,
        join,
        witness: flags.set.witness,
        key_files,
        ip,
        port: flags.port,
        advertised: reached_at(flags, ip),
        rows: [capacity.agents, capacity.frameworks, capacity.roles],
        t_us: u32::try_from(flags.decisions.timing.us()).unwrap_or(u32::MAX),
        seed: flags.common.seed(),
    }
}

/// What was said of how others reach this master.
fn advertised(flags: &Master) -> Option<(String, u16)> {
    let said = flags.set.advertise_ip.is_some() || flags.set.advertise_port.is_some();
    said.then(|| reached_at(flags, flags.listen.ip))
}

/// How others reach this master.
pub(super) fn reached_at(flags: &Master, ip: IpAddr) -> (String, u16) {
    let host = flags.set.advertise_ip.clone().unwrap_or_else(|| ip.to_string());
    (host, flags.set.advertise_port.unwrap_or(flags.port))
}

/// Starts a master's part in the election.
fn begin_election(
    process: &mut Process,
    begun: Begun,
    standing: Rc<Standing>,
    master: &Rc<MasterNode>,
) -> Result<Rc<SetNode>, Failure> {
    let (port, to_disk) = (process.port(0), process.to_disk());
    let started =
        SetNode::start(begun, port, &process.tasks(), to_disk, standing, Rc::clone(master));
    let set = started.map_err(|error| Failure::plain(format!("gossip: {error}")))?;
    *master.of_set.borrow_mut() = Rc::downgrade(&set);
    Ok(set)
}

/// Tells everybody that this master ends; their tasks go on.
pub(super) async fn part_from_all(master: &MasterNode) {
    let conns = master.conns.all();
    for conn in &conns {
        conn.part(Parting::Leaving, "this master ends");
    }
    let sent = async {
        while conns.iter().any(|conn| conn.outbox.bytes() > 0) {
            alarm::after(5_000).await;
        }
    };
    alarm::within(GOODBYE_US, sent).await;
}
