//! `mesita master`

use std::process::ExitCode;
use std::rc::Rc;

use mesita_core::wire::link::Parting;

use super::cluster::plan_master;
use super::{Failure, check_address, default_work_dir, log_to_stderr, raise_descriptors};
use crate::agent::prepare::lock;
use crate::alarm;
use crate::conn::listen::{accept, bind};
use crate::flags::Master;
use crate::io_thread::Node;
use crate::master::MasterNode;
use crate::process::{Plan, Process};
use crate::signals::{self, Caught, Signals};

/// How long connections may take to read that the master ends, in µs.
const GOODBYE_US: u64 = 500_000;

pub(super) fn main(flags: Master) -> Result<ExitCode, Failure> {
    log_to_stderr(flags.common.logging_level);
    let ip = check_address(&flags.listen)?;
    let work_dir = match &flags.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => default_work_dir("master")?,
    };
    signals::block().map_err(Failure::plain)?;
    raise_descriptors();
    let meta = work_dir.join("meta");
    let made = std::fs::create_dir_all(&meta);
    made.map_err(|error| Failure::plain(format!("{}: {error}", meta.display())))?;
    let _lock = lock(&meta.join("lock")).map_err(Failure::plain)?;
    // A port that is taken is found out before anything is written.
    let listener = alarm::block_on(bind(ip, flags.port)).map_err(Failure::plain)?;
    let plan = plan_master(Some(&work_dir), &flags.decisions, &flags.common)?;
    let (seat, rest) = plan.part();
    let journal = flags.common.journal.clone();
    let journal = journal.map(|directory| (directory, flags.common.journal_max.bytes));
    let mut process =
        Process::start(Plan { seats: vec![seat], journal }).map_err(Failure::plain)?;
    let (port, tasks) = (process.port(0), process.tasks());
    let master = rest.start(port, tasks.clone(), process.to_disk());
    if let Some(trouble) = master.doors.trouble() {
        log::warn!("{trouble}");
    }
    let signals = Signals::new().map_err(Failure::plain)?;
    let nodes: [Rc<dyn Node>; 1] = [Rc::clone(&master) as Rc<dyn Node>];
    process.run(&nodes, async {
        master.leading().await;
        log::info!("master at {ip}:{}, work dir {}", flags.port, work_dir.display());
        tasks.go(accept(listener, tasks.clone(), Rc::clone(&master)));
        while matches!(signals.next().await, Caught::User1 | Caught::HangUp) {}
        part_from_all(&master).await;
    });
    Ok(ExitCode::SUCCESS)
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
