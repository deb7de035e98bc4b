//! What a framework launches, and the call that it becomes.

use std::time::Duration;

use mesita_core::wire::call::{Accept, Operation, Verb};
use mesita_core::wire::task::{Executor as WireExecutor, Kind, Launch, Restart};
use mesita_core::wire::{Body, Check, OfferId, Scratch, Seq, decode};
use prost::Message;

use super::{Driver, Error, MEMORY, Offer, TASKS_MAX, micros};
use crate::command;
use crate::fit::Left;
use crate::pb::mesita::TaskPrivate;
use crate::pb::mesos::v1::{CommandInfo, ExecutorId, ExecutorInfo, executor_info};
use crate::v1::tasks::{Bodies, executor_body};

/// A task (Mesos: `TaskInfo`).
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id, unique among the framework's tasks that did not end.
    pub id: String,
    /// What it gets, in Mesos' text form: `cpus:1;mem:64;ports:[31000-31001]`.
    pub resources: String,
    /// What it is.
    pub work: Work,
}

/// What is run of a task.
#[derive(Clone, Debug)]
pub enum Work {
    /// A line for the shell, run by the agent itself.
    Command(String),
    /// Bytes that an executor makes something of. All tasks of an executor on one agent share it.
    Under {
        /// Which; started with the first task that names it.
        executor: Executor,
        /// For it alone.
        data: Vec<u8>,
    },
}

/// An executor of the framework's own (Mesos: `ExecutorInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executor {
    /// Its id: on one agent, two of one id must be the same in all of this.
    pub id: String,
    /// The line for the shell that starts it; [`crate::executor::run`] is what it may do then.
    pub command: String,
    /// What it gets for itself, besides its tasks; as those of a task.
    pub resources: String,
}

impl Driver {
    /// Launches tasks on an offer; what they leave of it goes back and is refused for `refuse`.
    /// `Invalid` when a task does not fit what the offer has left, or there are more than
    /// [`TASKS_MAX`]: nothing was launched then, and the offer still stands.
    pub fn accept(&self, offer: &Offer, tasks: &[Task], refuse: Duration) -> Result<(), Error> {
        if tasks.len() > TASKS_MAX {
            let message = format!("{} tasks at once: at most {TASKS_MAX}", tasks.len());
            return Err(Error::Invalid(message));
        }
        let list = offer.resources.list();
        let (executors, bodies) = (Vec::new(), Bodies::default());
        let mut taking = Taking { left: Left::of(&list), offer, executors, bodies };
        let ready = tasks.iter().map(|task| taking.task(task)).collect::<Result<Vec<_>, _>>()?;
        let launches = tasks.iter().zip(&ready).map(|(task, ready)| Launch {
            task: &task.id,
            agent: offer.agent,
            kind: if ready.executor.is_some() { Kind::Executor } else { Kind::Command },
            resources: decode(&ready.taken).unwrap_or_default(),
            limits: Seq::EMPTY,
            executor: ready.executor.as_ref().map(|of| WireExecutor {
                id: &of.id,
                resources: decode(&of.taken).unwrap_or_default(),
                user: "",
                grace_us: None,
                body: of.body,
            }),
            user: "",
            grace_us: None,
            completion_us: None,
            restart: Restart::default(),
            public: ready.public,
            private: ready.private,
        });
        let mut memory = vec![0; 2 * MEMORY];
        let mut scratch = Scratch::new(&mut memory);
        let large = |_| Error::Invalid("more than fits one call: launch fewer tasks".to_owned());
        let tasks = scratch.seq::<Launch<'static>>(launches).map_err(large)?;
        let offers = scratch.seq::<OfferId>([offer.id]).map_err(large)?;
        let launch = [Operation::Launch { tasks }];
        let operations = scratch.seq::<Operation<'static>>(launch).map_err(large)?;
        let refuse_us = Some(micros(refuse));
        let verb = Verb::Accept(Accept { offers, operations, refuse_us });
        verb.check().map_err(|bad| Error::Invalid(bad.to_string()))?;
        self.call(verb, &taking.bodies.0);
        Ok(())
    }
}

/// A task on its way into a call: its list, and where its bodies are.
struct Ready {
    taken: Vec<u8>,
    executor: Option<Carried>,
    public: Body,
    private: Body,
}

/// An executor on its way into a call.
#[derive(Clone)]
struct Carried {
    id: String,
    /// Empty when it runs already, and has its own.
    taken: Vec<u8>,
    body: Body,
}

/// What of the offer tasks take, one after the other.
struct Taking<'o> {
    left: Left<'o>,
    offer: &'o Offer,
    executors: Vec<Carried>,
    bodies: Bodies,
}

impl Taking<'_> {
    fn task(&mut self, task: &Task) -> Result<Ready, Error> {
        let taken = self.take(&task.id, &task.resources)?;
        let public = self.bodies.put(command::public(&task.id, None));
        let (executor, private) = match &task.work {
            Work::Command(line) => (None, command::private(shell(line))),
            Work::Under { executor, data } => {
                let data = TaskPrivate { data: Some(data.clone()), ..TaskPrivate::default() };
                (Some(self.executor(&task.id, executor)?), data.encode_to_vec())
            }
        };
        Ok(Ready { taken, executor, public, private: self.bodies.put(private) })
    }

    /// What an executor gets for itself is taken once, with the first task that names it.
    fn executor(&mut self, task: &str, executor: &Executor) -> Result<Carried, Error> {
        let body = self.bodies.put(executor_body(&described(executor)));
        if let Some(known) = self.executors.iter().find(|known| known.id == executor.id) {
            if known.body == body {
                return Ok(known.clone());
            }
            let why = format!("task `{task}`: two executors are called `{}`", executor.id);
            return Err(Error::Invalid(why));
        }
        let runs = self.offer.executors.contains(&executor.id);
        let taken = if runs { Vec::new() } else { self.take(task, &executor.resources)? };
        let carried = Carried { id: executor.id.clone(), taken, body };
        self.executors.push(carried.clone());
        Ok(carried)
    }

    fn take(&mut self, task: &str, resources: &str) -> Result<Vec<u8>, Error> {
        let (mut memory, mut parts) = (vec![0; 4096], vec![0; 4096]);
        let taken = self.left.take(resources, &mut Scratch::new(&mut memory), &mut parts);
        // Our own types have no way to fail.
        let taken = taken.map(|taken| postcard::to_allocvec(&taken).unwrap_or_default());
        taken.ok_or_else(|| {
            Error::Invalid(format!("task `{task}`: `{resources}` is not in what is offered"))
        })
    }
}

fn shell(line: &str) -> CommandInfo {
    CommandInfo { value: Some(line.to_owned()), ..CommandInfo::default() }
}

/// What is carried of an executor: the same for all of its tasks.
fn described(executor: &Executor) -> ExecutorInfo {
    ExecutorInfo {
        r#type: Some(executor_info::Type::Custom.into()),
        executor_id: ExecutorId { value: executor.id.clone() },
        command: Some(shell(&executor.command)),
        name: Some(executor.id.clone()),
        ..ExecutorInfo::default()
    }
}
