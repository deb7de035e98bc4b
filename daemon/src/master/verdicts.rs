//! What is wrong with the tasks of an ACCEPT, looking at each alone: its command, its body. What
//! can only be said with the master's state in hand, the core says.

use std::sync::Arc;

use mesita_core::limits::MESSAGE_MAX;
use mesita_core::master::Verdict;
use mesita_core::wire::call::{Accept, Operation};
use mesita_core::wire::task::{Kind, Launch};
use mesita_core::wire::{Body, Scratch, Seq, decode};

use crate::command::{BadCommand, Command};

/// Verdicts on the tasks of one ACCEPT, in their wire form.
pub(crate) struct Verdicts(Vec<u8>);

impl Verdicts {
    /// None.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Looks at every task that is not known to be bad. `bytes` gives the bytes of a body.
    pub(crate) fn on(
        accept: &Accept<'_>,
        mut bad: Vec<(u16, String)>,
        bytes: impl Fn(Body) -> Arc<[u8]>,
    ) -> Self {
        let mut place = 0u16;
        for operation in accept.operations.iter() {
            let (Operation::Launch { tasks } | Operation::LaunchGroup { tasks, .. }) = operation
            else {
                continue;
            };
            for task in tasks.iter() {
                if !bad.iter().any(|(known, _)| *known == place)
                    && let Err(error) = look(&task, &bytes)
                {
                    bad.push((place, error.to_string()));
                }
                place = place.saturating_add(1);
            }
        }
        Self::of(&bad)
    }

    fn of(bad: &[(u16, String)]) -> Self {
        if bad.is_empty() {
            return Self::none();
        }
        let mut memory = vec![0; bad.len() * (MESSAGE_MAX + 16)];
        let verdicts = bad.iter().map(|(task, message)| Verdict {
            task: *task,
            denied: false,
            message: cut(message),
        });
        let list = Scratch::new(&mut memory).seq::<Verdict<'static>>(verdicts);
        let Ok(list) = list else {
            mesita_core::stop(line!(), "verdicts that do not fit their memory");
        };
        // Our own types have no way to fail.
        Self(postcard::to_allocvec(&list).unwrap_or_default())
    }

    /// As a list for the core.
    pub(crate) fn list(&self) -> Seq<'_, Verdict<'_>> {
        decode(&self.0).unwrap_or_default()
    }
}

fn look(task: &Launch<'_>, bytes: &impl Fn(Body) -> Arc<[u8]>) -> Result<(), BadCommand> {
    match task.kind {
        Kind::Command => Command::read(&bytes(task.private)).map(|_| ()),
        // An executor's command is looked at with the executor.
        Kind::Executor | Kind::Group { .. } | Kind::Function { .. } => Ok(()),
        Kind::Container => Err(BadCommand::Unsupported("a container image's own entry point")),
    }
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_MAX)]
}
