//! `mesita dev`: a master and agents in one process, to develop against.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::rc::Rc;

use super::cluster::{Home, plan_agent, plan_master};
use super::master::part_from_all;
use super::run::{here, temporary};
use super::{Failure, USAGE, log_to_stderr, raise_descriptors};
use crate::agent::{AgentNode, Life, pidfd_of, prepare, wait_for};
use crate::conn::listen::{accept, bind};
use crate::flags::{Dev, Holds};
use crate::io_thread::Node;
use crate::process::{Plan, Process};
use crate::signals::{self, Caught, Signals};

pub(super) fn main(flags: Dev) -> Result<ExitCode, Failure> {
    log_to_stderr(flags.common.logging_level);
    if flags.agents == 0 || flags.agents > 64 {
        return Err(Failure::new(USAGE, "--agents: 1 to 64"));
    }
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // Keepers come before the first thread, and so before the port is known to be free: what is
    // taken is found out by looking.
    let listener = std::net::TcpListener::bind((ip, flags.port));
    drop(listener.map_err(|error| taken(flags.port, &error))?);
    let mut prepared = Vec::new();
    for number in 1..=flags.agents {
        let holds = holds(&flags, number);
        let agent = prepare(&temporary()?, &holds, Life::OfThisProcess);
        prepared.push((agent.map_err(Failure::plain)?, holds));
    }
    signals::block().map_err(Failure::plain)?;
    raise_descriptors();
    let listener = bind(ip, flags.port).map_err(Failure::plain)?;
    let keepers: Vec<_> = prepared.iter().map(|(agent, _)| pidfd_of(agent)).collect();
    let (master_seat, master_rest) =
        plan_master(Home::Memory, &flags.decisions, &flags.common)?.part();
    let mut seats = vec![master_seat];
    let mut rests = Vec::new();
    for (agent, holds) in prepared {
        let life = Life::OfThisProcess;
        let plan = plan_agent(agent, &holds, &flags.common, String::new(), 1_000, life);
        let (seat, rest) = plan.part();
        seats.push(seat);
        rests.push(rest);
    }
    let journal = flags.common.journal.clone();
    let journal = journal.map(|directory| (directory, flags.common.journal_max.bytes));
    let mut process = Process::start(Plan { seats, journal }).map_err(Failure::plain)?;
    let (tasks, to_disk) = (process.tasks(), process.to_disk());
    let master = master_rest.start(process.port(0), tasks.clone());
    let mut nodes: Vec<Rc<dyn Node>> = vec![Rc::clone(&master) as _];
    let mut agents: Vec<Rc<AgentNode>> = Vec::new();
    for (seat, rest) in (1..).zip(rests) {
        let agent = rest.start(process.port(seat), tasks.clone(), Rc::clone(&to_disk))?;
        log::info!("agent {} offers {}", agent.hostname(), agent.resources());
        nodes.push(Rc::clone(&agent) as _);
        agents.push(agent);
    }
    let signals = Signals::new().map_err(Failure::plain)?;
    process.run(&nodes, async {
        master.leading().await;
        for agent in &agents {
            tasks.go(Rc::clone(agent).stay_connected(here(&master, &tasks)));
        }
        tasks.go(accept(listener, Rc::default(), tasks.clone(), Rc::clone(&master)));
        log::info!("cluster at {ip}:{}; interrupt ends it with all its tasks", flags.port);
        let told = async { while matches!(signals.next().await, Caught::User1) {} };
        futures_lite::future::or(told, any_over(&agents)).await;
        part_from_all(&master).await;
        for agent in &agents {
            agent.end_keeper().await;
        }
    });
    keepers.into_iter().for_each(wait_for);
    Ok(ExitCode::SUCCESS)
}

/// Waits until the keeper of any agent is gone.
async fn any_over(agents: &[Rc<AgentNode>]) {
    let mut all: Vec<_> = agents.iter().map(|agent| Box::pin(agent.over.wait())).collect();
    std::future::poll_fn(|cx| {
        let over = all.iter_mut().any(|one| one.as_mut().poll(cx).is_ready());
        if over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    log::error!("the keeper of an agent is gone: this cluster ends");
}

/// What one of several agents has: with a name of its own.
fn holds(flags: &Dev, number: u8) -> Holds {
    if flags.agents == 1 {
        return flags.holds.clone();
    }
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = flags.holds.hostname.clone().unwrap_or(node);
    Holds { hostname: Some(format!("{name}-{number}")), ..flags.holds.clone() }
}

fn taken(port: u16, error: &std::io::Error) -> Failure {
    Failure::plain(format!("cannot listen at port {port}: {error}; choose another --port"))
}
