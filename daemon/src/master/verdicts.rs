//! What is wrong with the tasks of an ACCEPT, looking at each alone: its command, its body, whom it
//! would run as; and which operations are not allowed. What can only be said with the master's state
//! in hand, the core says.

use std::sync::Arc;

use mesita_core::Refusal;
use mesita_core::limits::{HEAD_MAX, MESSAGE_MAX};
use mesita_core::master::{OPERATION_PLACES, Verdict};
use mesita_core::wire::call::{Accept, Operation};
use mesita_core::wire::task::{Kind, Launch};
use mesita_core::wire::{Body, Scratch, Seq, decode};

use crate::command::{BadCommand, Command};
use crate::flags::text::Duration;

/// A task that is not to be launched.
struct Bad {
    /// Its place among all tasks of the ACCEPT.
    task: u16,
    /// It is not allowed; else it is not valid.
    denied: bool,
    why: String,
}

/// Bytes of the numbers beside a verdict's message.
const NUMBERS: usize = 16;

/// Verdicts on the tasks of one ACCEPT, in their wire form.
pub(crate) struct Verdicts(Vec<u8>, Option<String>);

impl Verdicts {
    /// None.
    pub(crate) fn none() -> Self {
        Self(Vec::new(), None)
    }

    /// Why the first of those operations is refused that are not allowed. What becomes of a task, its
    /// framework is told by the core.
    pub(crate) fn denied(&self) -> Option<&str> {
        self.1.as_deref()
    }

    /// Looks at every task that is not known to be bad. `bytes` gives the bytes of a body, `may_run`
    /// says whether a task's user, and its executor's, are allowed.
    pub(crate) fn on(
        accept: &Accept<'_>,
        bad: Vec<(u16, String)>,
        agent_timeout_us: u64,
        bytes: impl Fn(Body) -> Arc<[u8]>,
        may_run: impl Fn(&str, &str) -> Result<(), String>,
        may_operate: impl Fn(&Operation<'_>) -> Result<(), String>,
    ) -> Self {
        let mut bad: Vec<Bad> =
            bad.into_iter().map(|(task, why)| Bad { task, denied: false, why }).collect();
        let mut place = 0u16;
        for (number, operation) in (OPERATION_PLACES..).zip(accept.operations.iter()) {
            if let Err(why) = may_operate(&operation) {
                bad.push(Bad { task: number, denied: true, why });
            }
            let (tasks, around) = match operation {
                Operation::Launch { tasks } => (tasks, None),
                Operation::LaunchGroup { tasks, executor } => (tasks, Some(executor)),
                Operation::Reserve(_)
                | Operation::Unreserve(_)
                | Operation::Create(_)
                | Operation::Destroy(_)
                | Operation::Grow { .. }
                | Operation::Shrink { .. }
                | Operation::Move { .. } => continue,
            };
            for task in tasks.iter() {
                let executor = task.executor.or(around).map_or("", |executor| executor.user);
                let known = bad.iter().any(|known| known.task == place);
                let rule = task.check_restart().map_err(str::to_owned);
                let rule = rule.and_then(|()| long_enough(&task, agent_timeout_us));
                let rule = rule.map_err(|why| (false, why));
                let wrong = look(&task, &bytes).map_err(|error| (false, error.to_string()));
                let wrong = rule.and(wrong);
                let wrong =
                    wrong.and_then(|()| may_run(task.user, executor).map_err(|why| (true, why)));
                if let Some((denied, why)) = wrong.err().filter(|_| !known) {
                    bad.push(Bad { task: place, denied, why });
                }
                place = place.saturating_add(1);
            }
        }
        Self::of(&bad)
    }

    fn of(bad: &[Bad]) -> Self {
        if bad.is_empty() {
            return Self::none();
        }
        // All of them stand beside the head in one input, and go out in one step.
        let most = MESSAGE_MAX.min((HEAD_MAX / bad.len()).saturating_sub(NUMBERS));
        let mut memory = vec![0; bad.len() * (most + NUMBERS)];
        let verdicts = bad.iter().map(|one| Verdict {
            task: one.task,
            denied: one.denied,
            message: &one.why[..one.why.floor_char_boundary(most)],
        });
        let list = Scratch::new(&mut memory).seq::<Verdict<'static>>(verdicts);
        let Ok(list) = list else {
            mesita_core::stop(line!(), "verdicts that do not fit their memory");
        };
        // Our own types have no way to fail.
        let operation = |one: &&Bad| one.denied && one.task >= OPERATION_PLACES;
        let denied = bad.iter().find(operation).map(|one| one.why.clone());
        Self(postcard::to_allocvec(&list).unwrap_or_default(), denied)
    }

    /// As a list for the core.
    pub(crate) fn list(&self) -> Seq<'_, Verdict<'_>> {
        decode(&self.0).unwrap_or_default()
    }
}

/// An agent that still waits for an answer has not lost its master.
fn long_enough(task: &Launch<'_>, agent_timeout_us: u64) -> Result<(), String> {
    let stop_us = task.restart.stop_after_us;
    if stop_us == 0 || stop_us >= agent_timeout_us {
        return Ok(());
    }
    Err(format!("{}, {}", Refusal::TooShort.sentence(), Duration { us: agent_timeout_us }))
}

fn look(task: &Launch<'_>, bytes: &impl Fn(Body) -> Arc<[u8]>) -> Result<(), BadCommand> {
    match task.kind {
        Kind::Command => Command::look(&bytes(task.private), &bytes(task.public)),
        // An executor's command is looked at with the executor.
        Kind::Executor | Kind::Group { .. } | Kind::Given { .. } | Kind::Function { .. } => Ok(()),
        Kind::Container => Err(BadCommand::Unsupported("a container image's own entry point")),
    }
}
