//! `mesita master`

use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use mesita_core::wire::link::Parting;

use super::cluster::{Home, plan_master};
use super::{
    Failure, USAGE, begin_again, check_address, default_work_dir, log_to_stderr, raise_descriptors,
};
use crate::access::Access;
use crate::agent::prepare::lock;
use crate::alarm;
use crate::audit::Audit;
use crate::conn::listen::{accept, bind};
use crate::flags::Master;
use crate::io_thread::Node;
use crate::master::MasterNode;
use crate::process::{Plan, Process};
use crate::set::begin::{self, AGAIN, Begun, QUARANTINED, Wanted};
use crate::set::node::{Over, SetNode};
use crate::set::roster::REMOVED;
use crate::set::standing::Standing;
use crate::signals::{self, Caught, Signals};

/// How long connections may take to read that the master ends, in µs.
const GOODBYE_US: u64 = 500_000;
/// What those are told takes until it is sent who wait for an answer that will not come, in µs.
const ANSWERED_US: u64 = 100_000;

/// Why a master ends.
enum End {
    Signal,
    Over(Over),
}

pub(super) fn main(flags: Master) -> Result<ExitCode, Failure> {
    log_to_stderr(flags.common.logging_level);
    let ip = check_address(&flags.listen)?;
    let work_dir = match &flags.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => default_work_dir("master")?,
    };
    raise_descriptors();
    let meta = work_dir.join("meta");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&meta);
    made.map_err(|error| Failure::plain(format!("{}: {error}", meta.display())))?;
    let _lock = lock(&meta.join("lock")).map_err(Failure::plain)?;
    // A port that is taken is found out before anything is written.
    let listener = bind(ip, flags.port).map_err(Failure::plain)?;
    let (of_registry, begun) = registry(&flags, ip, &meta)?;
    signals::block().map_err(Failure::plain)?;
    let standing = Rc::new(if flags.set.masters.is_empty() {
        Standing::alone(advertised(&flags))
    } else {
        Standing::of_set(Some(reached_at(&flags, ip)))
    });
    let home = Home::Registry(Rc::clone(&standing), of_registry.t_us);
    let plan = plan_master(home, &flags.decisions, &flags.common)?;
    let insecure = flags.listen.insecure && !ip.is_loopback();
    let access = Access::read("master", "--credentials", &flags.access.wanted());
    let access = access.map_err(|why| Failure::new(USAGE, why))?;
    let audited = flags.access.audited();
    Audit::open(&audited).map_err(|why| Failure::new(USAGE, why))?;
    let plan = plan.placed(&flags.region, &flags.zone).audited(audited);
    let (seat, rest) = plan.guarded(access, insecure).part();
    let seats = vec![of_registry.seat, seat];
    let journal = flags.common.journal.clone();
    let journal = journal.map(|directory| (directory, flags.common.journal_max.bytes));
    let mut process = Process::start(Plan { seats, journal }).map_err(Failure::plain)?;
    let tasks = process.tasks();
    let master = rest.start(process.port(1), tasks.clone());
    if let Some(trouble) = master.doors.trouble() {
        log::warn!("{trouble}");
    }
    let set = join(&mut process, begun, Rc::clone(&standing), &master)?;
    let signals = Signals::new().map_err(Failure::plain)?;
    let nodes: [Rc<dyn Node>; 2] = [Rc::clone(&set) as _, Rc::clone(&master) as _];
    let end = process.run(&nodes, async {
        if !standing.in_set {
            master.leading().await;
        }
        log::info!("master at {ip}:{}, work dir {}", flags.port, work_dir.display());
        tasks.go(accept(listener, tasks.clone(), Rc::clone(&master)));
        let told = async {
            while matches!(signals.next().await, Caught::User1 | Caught::HangUp) {}
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
        End::Over(Over::Removed) => Err(Failure::plain(REMOVED)),
        // Mesos: a master that lost its leadership ends, and whoever supervises it starts it anew.
        End::Over(Over::Lost) => Err(begin_again(Some(AGAIN))),
    }
}

/// The registry of this master, found or made: its own, or that of a set.
fn registry(flags: &Master, ip: IpAddr, meta: &Path) -> Result<(begin::Plan, Begun), Failure> {
    let capacity = flags.common.master_capacity();
    let key_files: &[PathBuf] = &flags.set.gossip_key_file;
    let wanted = Wanted {
        meta,
        masters: &flags.set.masters,
        bootstrap: flags.set.bootstrap,
        join: flags.set.join,
        witness: flags.set.witness,
        key_files,
        ip,
        port: flags.port,
        advertised: reached_at(flags, ip),
        rows: [capacity.agents, capacity.frameworks, capacity.roles],
        t_us: u32::try_from(flags.decisions.timing.us()).unwrap_or(u32::MAX),
        seed: flags.common.seed(),
    };
    begin::begin(&wanted).map_err(|refused| Failure::new(USAGE, refused))
}

/// What was said of how others reach this master.
fn advertised(flags: &Master) -> Option<(String, u16)> {
    let said = flags.set.advertise_ip.is_some() || flags.set.advertise_port.is_some();
    said.then(|| reached_at(flags, flags.listen.ip))
}

/// How others reach this master.
fn reached_at(flags: &Master, ip: IpAddr) -> (String, u16) {
    let host = flags.set.advertise_ip.clone().unwrap_or_else(|| ip.to_string());
    (host, flags.set.advertise_port.unwrap_or(flags.port))
}

/// Starts a master's part in the election.
fn join(
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
