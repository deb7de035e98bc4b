//! A cluster for one command, in this process: master, agent and framework, joined in memory. It
//! opens no port and leaves nothing behind.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use mesita_core::resources::text::{TextValue, resources};

use super::app::{App, End};
use super::voice::Voice;
use super::{Job, RESOURCES, STREAM_BYTES, driver_seat, finish};
use crate::agent::{AgentNode, Life, Why, prepare};
use crate::cli::cluster::{Home, plan_agent, plan_master};
use crate::cli::{FAILED, Failure};
use crate::client::ClientNode;
use crate::conn::Pipe;
use crate::conn::dial::Way;
use crate::flags::{Common, Decisions, Holds};
use crate::io_thread::{Node, Tasks};
use crate::master::MasterNode;
use crate::process::{Plan, Process};
use crate::signals::{self, Signals};
use crate::v1::docker::is_docker;

/// Room of a connection in memory, each way.
const PIPE: usize = 64 * 1024;

/// The flags of a cluster that nobody configures: their defaults.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    holds: Holds,
    #[command(flatten)]
    decisions: Decisions,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(job: Job, voice: Voice, any_resources: bool) -> Result<ExitCode, Failure> {
    let by_engine = job.container.as_ref().is_some_and(is_docker);
    let engine = by_engine.then_some("--containerizers=docker,mesos");
    let flags = Flags::try_parse_from(["mesita"].into_iter().chain(engine));
    let flags = flags.map_err(Failure::plain)?;
    let Flags { holds, decisions, common } = flags;
    let work_dir = temporary()?;
    let prepared = prepare(&work_dir, &holds, Life::OfThisProcess).map_err(Failure::plain)?;
    signals::block().map_err(Failure::plain)?;
    let keeper = crate::agent::pidfd_of(&prepared);
    let job = if any_resources { within(job, &prepared.resources) } else { job };
    // An image has paths of its own.
    let of_image = job.container.is_some();
    let command = if of_image { job.command } else { from_here(job.command) };
    let job = Job { command, ..job };
    let (master_seat, master_rest) = plan_master(Home::Memory, &decisions, &common)?.part();
    let agent_plan =
        plan_agent(prepared, &holds, &common, String::new(), 1_000, Life::OfThisProcess);
    let (agent_seat, agent_rest) = agent_plan.part();
    let seats = vec![master_seat, agent_seat, driver_seat()];
    let mut process = Process::start(Plan { seats, journal: None }).map_err(Failure::plain)?;
    let (tasks, to_disk) = (process.tasks(), process.to_disk());
    let master = master_rest.start(process.port(0), tasks.clone());
    let agent = agent_rest.start(process.port(1), tasks.clone(), to_disk)?;
    announce(voice, &agent);
    let client = ClientNode::new(process.port(2), STREAM_BYTES, None);
    let app = App::new(job, voice, &client, tasks.clone());
    client.serve(Rc::clone(&app) as Rc<dyn crate::client::App>);
    let signals = Signals::new().map_err(Failure::plain)?;
    let nodes: [Rc<dyn Node>; 3] =
        [Rc::clone(&master) as _, Rc::clone(&agent) as _, Rc::clone(&client) as _];
    let end = process.run(&nodes, async {
        master.leading().await;
        app.describe();
        tasks.go(Rc::clone(&agent).stay_connected(here(&master, &tasks)));
        tasks.go(Rc::clone(&client).stay_connected(here(&master, &tasks)));
        let running = async { Ok(app.to_the_end(&signals).await) };
        let broken = async {
            let (Why::KeeperGone | Why::Left | Why::Unfit) = agent.over.wait().await;
            Err(Failure::new(FAILED, "the keeper of this cluster died; its tasks are ended"))
        };
        let end = futures_lite::future::or(running, broken).await;
        agent.end_keeper().await;
        end
    })?;
    crate::agent::wait_for(keeper);
    if let End::NoMaster(why) = end {
        return Err(Failure::plain(format!(
            "the cluster of this process does not come about: {why}"
        )));
    }
    finish(end, None)
}

/// Says what kind of cluster this is, and what holds its task.
fn announce(voice: Voice, agent: &AgentNode) {
    let isolators = agent.isolators();
    let held =
        if isolators.iter().any(|name| name.contains("cgroups") || name.contains("namespaces")) {
            format!("task held by {}", isolators.join(" "))
        } else {
            "task held by its process group alone".to_owned()
        };
    voice.note(&format!("no master given, none on this host: private one-shot cluster; {held}"));
}

/// A way to a master of this process.
pub(in crate::cli) fn here(master: &Rc<MasterNode>, tasks: &Tasks) -> Way {
    let (master, tasks) = (Rc::clone(master), tasks.clone());
    Way::Here(Box::new(move || {
        let (ours, theirs) = Pipe::pair(PIPE);
        tasks.go(Rc::clone(&master).native(theirs, || {}));
        ours
    }))
}

/// A directory that nobody else has; the keeper removes it.
pub(in crate::cli) fn temporary() -> Result<PathBuf, Failure> {
    let name = format!("mesita-{:016x}", crate::random::number());
    let path = std::env::temp_dir().join(name);
    let made = DirBuilder::new().mode(0o711).create(&path);
    made.map_err(|error| Failure::plain(format!("{}: {error}", path.display())))?;
    Ok(path)
}

/// The usual resources, or less where the agent has less.
fn within(job: Job, offered: &str) -> Job {
    let has = |name: &str| {
        resources(offered).flatten().find(|entry| entry.name == name).map(|entry| entry.value)
    };
    let least = resources(RESOURCES).flatten().map(|entry| match (entry.value, has(entry.name)) {
        (TextValue::Scalar(wants), Some(TextValue::Scalar(has))) => {
            format!("{}:{}", entry.name, wants.min(has))
        }
        (TextValue::Scalar(wants), _) => format!("{}:{wants}", entry.name),
        _ => String::new(),
    });
    Job { resources: least.collect::<Vec<_>>().join(";"), ..job }
}

/// A program named by a path from here is meant from here, not from its sandbox.
fn from_here(mut command: crate::pb::mesos::v1::CommandInfo) -> crate::pb::mesos::v1::CommandInfo {
    let relative = |value: &&String| value.contains('/') && !value.starts_with('/');
    let program = command.value.as_ref().filter(|_| !command.shell()).filter(relative);
    if let Some(path) = program.and_then(|value| std::path::absolute(value).ok()) {
        command.value = path.to_str().map(str::to_owned).or(command.value);
    }
    command
}
