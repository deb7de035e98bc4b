//! `mesita run`: a framework of one command.
//!
//! | file | concern |
//! |---|---|
//! | `app` | its life from the first word to the last |
//! | `offers` | which offers its tasks take |
//! | `statuses` | what becomes of them, and what they write |
//! | `voice` | how it tells what happens |
//! | `embedded` | the cluster of one process, when there is none |
//! | `execute` | called as mesos-execute |

mod app;
mod embedded;
pub(crate) mod execute;
mod offers;
mod statuses;
mod voice;

use std::process::ExitCode;
use std::rc::Rc;

use mesita_core::capacity::Capacity;
use mesita_core::limits::NAME_MAX;
use mesita_core::resources::text;
use mesita_core::scheduler;
use mesita_core::wire::Check;
use mesita_core::wire::call::Ownership;
use mesita_core::wire::task::Restart;

use super::{Failure, NO_MASTER, USAGE, find};
use crate::access::Credential;
use crate::client::ClientNode;
use crate::conn::dial::Way;
use crate::disk_thread::Store;
use crate::flags::{Run, Where, json};
use crate::io_thread::Node;
use crate::pb::mesos::v1::{CommandInfo, Environment, environment::Variable};
use crate::process::{Plan, Process};
use crate::seats::Blueprint;
use crate::signals::{self, Signals};
use app::{App, End};
pub(super) use embedded::{here, temporary};
use voice::Voice;

/// Bytes of bodies that a driver holds.
const BODY_BYTES: u64 = 16 << 20;
/// Bytes that may wait for the master.
const STREAM_BYTES: usize = 4 << 20;
/// What a task gets when nobody says. Mesos: `mesos-execute --resources`.
const RESOURCES: &str = "cpus:1;mem:128";

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) command: CommandInfo,
    pub(super) resources: String,
    pub(super) role: String,
    pub(super) user: String,
    pub(super) principal: String,
    pub(super) instances: u32,
    pub(super) wait_us: Option<u64>,
    pub(super) grace_us: Option<u64>,
    pub(super) restart: Restart,
    pub(super) failover_us: u64,
    /// Hand it to the master as soon as it is started.
    pub(super) detach: bool,
    /// Pass on what the tasks write.
    pub(super) output: bool,
}

pub(super) fn main(flags: Run) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let job = job(&flags)?;
    let said = flags.at.master.clone();
    let address = match &said {
        Some(address) => Some(address.clone()),
        None => find::DEFAULTS.into_iter().find(|at| find::answers(at)).map(str::to_owned),
    };
    match address {
        Some(address) => {
            let voice = if flags.json { Voice::Json } else { Voice::Cluster };
            on_cluster(job, voice, &address, &flags.at)
        }
        None if flags.detach => Err(Failure::new(
            NO_MASTER,
            "--detach needs a cluster that outlives this command: start one with `mesita dev`, or \
             give --master",
        )),
        None => {
            let voice = if flags.json { Voice::Json } else { Voice::Embedded };
            embedded::main(job, voice, flags.resources.is_none())
        }
    }
}

/// What the flags ask for, checked.
fn job(flags: &Run) -> Result<Job, Failure> {
    let usage = |message: String| Failure::new(USAGE, message);
    let command = match (&flags.command, flags.argv.split_first()) {
        (Some(line), _) => CommandInfo { value: Some(line.clone()), ..CommandInfo::default() },
        (None, Some((program, _))) => CommandInfo {
            shell: Some(false),
            value: Some(program.clone()),
            arguments: flags.argv.clone(),
            ..CommandInfo::default()
        },
        (None, None) => {
            return Err(usage("nothing to run: give --command LINE, or -- PROGRAM...".to_owned()));
        }
    };
    let variables: Result<Vec<Variable>, Failure> = flags
        .env
        .iter()
        .map(|pair| {
            let parts = pair.split_once('=').filter(|(name, _)| !name.is_empty());
            let parts = parts.ok_or_else(|| usage(format!("--env {pair}: expected NAME=VALUE")));
            parts.map(|(name, value)| Variable {
                name: name.to_owned(),
                value: Some(value.to_owned()),
                ..Variable::default()
            })
        })
        .collect();
    let variables = variables?;
    let environment = (!variables.is_empty()).then_some(Environment { variables });
    let command = CommandInfo { environment, ..command };
    crate::command::Command::of(&command).map_err(|bad| usage(bad.to_string()))?;
    let resources = plain(flags.resources.as_deref().unwrap_or(RESOURCES))?;
    if flags.instances == 0 {
        return Err(usage("--instances 0: at least one".to_owned()));
    }
    let restart = flags.restart.rule();
    if restart.check().is_err() {
        let message = "--restart-unknown start needs --restart-copies availability";
        return Err(usage(message.to_owned()));
    }
    let job = Job {
        name: flags.name.clone().unwrap_or_else(|| format!("run-{}", std::process::id())),
        command,
        resources,
        role: flags.role.clone(),
        user: flags.user.clone().unwrap_or_default(),
        principal: flags.principal.clone(),
        instances: flags.instances,
        wait_us: flags.wait.map(|wait| wait.us),
        grace_us: Some(flags.kill_grace.us),
        restart,
        failover_us: 0,
        detach: flags.detach,
        output: !flags.detach,
    };
    check(&job)?;
    Ok(job)
}

/// Refuses what no master would take.
fn check(job: &Job) -> Result<(), Failure> {
    check_resources(&job.resources)?;
    let usage = |message: String| Failure::new(USAGE, message);
    let longest = app::task_id(&job.name, job.instances, job.instances);
    if job.name.is_empty() || longest.len() > NAME_MAX {
        return Err(usage(format!(
            "--name: expected 1 to {NAME_MAX} bytes, with the number of the last instance"
        )));
    }
    if job.role.len() > NAME_MAX {
        return Err(usage(format!("--role: longer than {NAME_MAX} bytes")));
    }
    app::with_subscribe(job, Ownership::Scheduler, |subscribe| {
        subscribe.check().map_err(|bad| usage(bad.to_string()))
    })
}

/// What `--resources` says, in its plain form.
fn plain(resources: &str) -> Result<String, Failure> {
    json::plain(resources).map_err(|bad| Failure::new(USAGE, format!("--resources: {bad}")))
}

fn check_resources(resources: &str) -> Result<(), Failure> {
    let mut some = false;
    for entry in text::resources(resources) {
        entry.map_err(|bad| Failure::new(USAGE, format!("--resources: {bad}")))?;
        some = true;
    }
    if some {
        Ok(())
    } else {
        Err(Failure::new(USAGE, "--resources: a task needs some, such as cpus:1;mem:128"))
    }
}

/// A seat for a framework's driver.
fn driver_seat() -> (Blueprint, Store, u64) {
    let capacity = Capacity { tasks: 1_024, offers: 1_024, cells: 4_096, ..Capacity::edge() };
    let config = scheduler::Config { seed: crate::random::number(), acknowledges: true };
    (Blueprint::Driver { capacity, config }, Store::Memory, BODY_BYTES)
}

/// Runs it on a cluster that is there.
pub(super) fn on_cluster(
    job: Job,
    voice: Voice,
    address: &str,
    at: &Where,
) -> Result<ExitCode, Failure> {
    let credential = super::credential(at.credential.as_deref())?;
    let user = Credential::user(credential.as_deref(), &job.user);
    let job = Job { user, ..job };
    let addresses = find::addresses(Some(address));
    signals::block().map_err(Failure::plain)?;
    let plan = Plan { seats: vec![driver_seat()], journal: None };
    let mut process = Process::start(plan).map_err(Failure::plain)?;
    let (port, tasks) = (process.port(0), process.tasks());
    let client = ClientNode::new(port, STREAM_BYTES, credential);
    let app = App::new(job, voice, &client, tasks.clone());
    client.serve(Rc::clone(&app) as Rc<dyn crate::client::App>);
    let signals = Signals::new().map_err(Failure::plain)?;
    let nodes: [Rc<dyn Node>; 1] = [Rc::clone(&client) as Rc<dyn Node>];
    let end = process.run(&nodes, async {
        app.describe();
        tasks.go(Rc::clone(&client).stay_connected(Way::To(addresses)));
        app.to_the_end(&signals).await
    });
    finish(end, at.master.as_deref())
}

/// The status of an end.
fn finish(end: End, said: Option<&str>) -> Result<ExitCode, Failure> {
    match end {
        End::Status(status) => Ok(ExitCode::from(status)),
        End::NoMaster(why) => {
            let at = said.unwrap_or("this host");
            Err(Failure::new(NO_MASTER, format!("no master at {at}: {why}")))
        }
    }
}
