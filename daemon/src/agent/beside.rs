//! Processes beside tasks: started by the keeper inside a container that runs, and waited for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use mesita_isolation::keeper::protocol::{Ended, Request};

use super::AgentNode;
use super::build;
use crate::clock;
use crate::command::Command;

/// What their ids begin with: no start of an agent is counted so far.
const INCARNATION: u32 = u32::MAX;
/// The first version of the keeper's protocol that knows of them.
const VERSION: u16 = 2;

/// Those that the keeper was asked for and has not told the end of.
pub(super) struct Beside {
    known: RefCell<BTreeMap<ContainerId, Rc<Process>>>,
    next: Cell<u32>,
    /// What the keeper speaks.
    version: u16,
}

#[derive(Default)]
struct Process {
    /// How it ended, or why it never ran.
    over: RefCell<Option<Result<Exit, String>>>,
    changed: Event,
}

impl Process {
    fn tell(&self, over: Result<Exit, String>) {
        *self.over.borrow_mut() = Some(over);
        self.changed.notify(usize::MAX);
    }
}

impl Beside {
    /// For a keeper that speaks this version.
    pub(super) fn new(version: u16) -> Self {
        // Not what an earlier agent began with, whose last ones may still be ending.
        let next = u32::try_from(clock::now().0 & u64::from(u32::MAX)).unwrap_or(0);
        Self { known: RefCell::default(), next: Cell::new(next), version }
    }

    fn begin(&self) -> (ContainerId, Rc<Process>) {
        let counter = self.next.get().wrapping_add(1);
        self.next.set(counter);
        let id = ContainerId { incarnation: INCARNATION, counter };
        let process = Rc::new(Process::default());
        self.known.borrow_mut().insert(id, Rc::clone(&process));
        (id, process)
    }

    /// The keeper says that one runs; false if it is none of these.
    pub(super) fn launched(&self, id: ContainerId) -> bool {
        self.known.borrow().contains_key(&id)
    }

    /// The keeper says why one does not; false if it is none of these.
    pub(super) fn refused(&self, id: ContainerId, why: &str) -> bool {
        let process = self.known.borrow_mut().remove(&id);
        let known = process.is_some();
        process.into_iter().for_each(|process| process.tell(Err(why.to_owned())));
        known
    }

    /// The keeper says how one ended; false if it is none of these.
    pub(super) fn ended(&self, ended: &Ended) -> bool {
        let process = self.known.borrow_mut().remove(&ended.container);
        let known = process.is_some();
        process.into_iter().for_each(|process| process.tell(Ok(ended.exit)));
        known
    }

    /// How many there are.
    pub(super) fn gauge(&self) -> (&'static str, u64) {
        ("beside_tasks_len", self.known.borrow().len() as u64)
    }
}

/// Kills a process that nobody waits for any more.
struct Abandoned<'n> {
    node: &'n AgentNode,
    id: ContainerId,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.node.beside.launched(self.id) {
            self.node.keeper.send(&Request::Signal { container: self.id, signal: 9 });
        }
    }
}

impl AgentNode {
    /// Runs a command beside the task of a container, until it ends or this is not waited for any
    /// more, when it is killed.
    pub(super) async fn run_beside(
        &self,
        inside: ContainerId,
        command: Command,
    ) -> Result<Exit, String> {
        if self.beside.version < VERSION {
            return Err(
                "the keeper is of an older release; it is replaced when no task runs, and \
                        the agent restarts"
                    .to_owned(),
            );
        }
        let (isolation, of) = (self.containers.isolation(), self.containers.names(inside));
        let at = self.containers.at(inside);
        let (id, process) = self.beside.begin();
        let (work_dir, switch) = (self.work_dir.clone(), self.containers.switches_user());
        let enter = move || {
            let isolation = Arc::as_ref(&isolation);
            build::beside(&of, command, at, id, isolation, &work_dir, switch)
        };
        let enter = match self.containers.by_hand(enter).await {
            Ok(enter) => enter,
            Err(why) => {
                self.beside.refused(id, &why);
                return Err(why);
            }
        };
        self.keeper.send(&Request::Enter(Box::new(enter)));
        let _abandoned = Abandoned { node: self, id };
        loop {
            let listener = process.changed.listen();
            if let Some(over) = process.over.borrow_mut().take() {
                return over;
            }
            listener.await;
        }
    }
}
