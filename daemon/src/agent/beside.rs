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
pub(super) const INCARNATION: u32 = u32::MAX;
/// The first version of the keeper's protocol that knows of them, and of those that have more of
/// their own.
const VERSION: u16 = 2;
const VERSION_WITH: u16 = 3;

/// Those that the keeper was asked for and has not told the end of.
pub(super) struct Beside {
    known: RefCell<BTreeMap<ContainerId, Rc<Process>>>,
    next: Cell<u32>,
    /// What the keeper speaks.
    version: u16,
}

/// One of them.
#[derive(Default)]
pub(super) struct Process {
    started: Cell<bool>,
    /// It waits for the word to become its program.
    waits: Cell<Option<u32>>,
    /// How it ended, or why it never ran.
    over: RefCell<Option<Result<Exit, String>>>,
    /// The keeper is told to forget its end by whoever waits for it.
    kept: bool,
    changed: Event,
}

impl Process {
    fn tell(&self, over: Result<Exit, String>) {
        *self.over.borrow_mut() = Some(over);
        self.changed.notify(usize::MAX);
    }

    /// Waits until it runs, or why it does not.
    pub(super) async fn started(&self) -> Result<(), String> {
        loop {
            let listener = self.changed.listen();
            if self.started.get() {
                return Ok(());
            }
            if let Some(over) = &*self.over.borrow() {
                return over.clone().map(|_| ());
            }
            listener.await;
        }
    }

    /// Waits until it waits itself; none: it runs, or will not.
    pub(super) async fn waits(&self) -> Option<u32> {
        loop {
            let listener = self.changed.listen();
            if self.started.get() || self.over.borrow().is_some() {
                return None;
            }
            if let Some(pid) = self.waits.take() {
                return Some(pid);
            }
            listener.await;
        }
    }

    /// Waits until it ended.
    pub(super) async fn over(&self) -> Result<Exit, String> {
        loop {
            let listener = self.changed.listen();
            if let Some(over) = &*self.over.borrow() {
                return over.clone();
            }
            listener.await;
        }
    }
}

impl Beside {
    /// For a keeper that speaks this version.
    pub(super) fn new(version: u16) -> Self {
        // Not what an earlier agent began with, whose last ones may still be ending.
        let next = u32::try_from(clock::now().0 & u64::from(u32::MAX)).unwrap_or(0);
        Self { known: RefCell::default(), next: Cell::new(next), version }
    }

    /// An id, and what will become of it. `kept`: see [`Process`].
    pub(super) fn begin(&self, kept: bool) -> (ContainerId, Rc<Process>) {
        let id = loop {
            let counter = self.next.get().wrapping_add(1);
            self.next.set(counter);
            let id = ContainerId { incarnation: INCARNATION, counter };
            if !self.known.borrow().contains_key(&id) {
                break id;
            }
        };
        (id, self.expect(id, Process { kept, ..Process::default() }))
    }

    /// One that an earlier agent began, and that runs on.
    pub(super) fn adopt(&self, id: ContainerId) -> Rc<Process> {
        self.expect(id, Process { kept: true, started: Cell::new(true), ..Process::default() })
    }

    fn expect(&self, id: ContainerId, process: Process) -> Rc<Process> {
        let process = Rc::new(process);
        self.known.borrow_mut().insert(id, Rc::clone(&process));
        process
    }

    /// Why the keeper cannot be asked for one, if it cannot.
    pub(super) fn is_able(&self, with_more: bool) -> Result<(), String> {
        if self.version >= if with_more { VERSION_WITH } else { VERSION } {
            return Ok(());
        }
        let why = "the keeper is of an older release; it is replaced when no task runs, and the agent \
                   restarts";
        Err(why.to_owned())
    }

    /// The keeper says that one runs; false if it is none of these.
    pub(super) fn launched(&self, id: ContainerId) -> bool {
        let process = self.known.borrow().get(&id).map(Rc::clone);
        process.is_some_and(|process| {
            process.started.set(true);
            process.changed.notify(usize::MAX);
            true
        })
    }

    /// The keeper says that one waits for the word to run; false if it is none of these.
    pub(super) fn waits(&self, id: ContainerId, pid: u32) -> bool {
        let process = self.known.borrow().get(&id).map(Rc::clone);
        process.is_some_and(|process| {
            process.waits.set(Some(pid));
            process.changed.notify(usize::MAX);
            true
        })
    }

    /// The keeper says why one does not; false if it is none of these.
    pub(super) fn refused(&self, id: ContainerId, why: &str) -> bool {
        let process = self.known.borrow_mut().remove(&id);
        let known = process.is_some();
        process.into_iter().for_each(|process| process.tell(Err(why.to_owned())));
        known
    }

    /// The keeper says how one ended: whether it is to forget that now; none if it is none of these.
    pub(super) fn ended(&self, ended: &Ended) -> Option<bool> {
        let process = self.known.borrow_mut().remove(&ended.container)?;
        process.tell(Ok(ended.exit));
        Some(!process.kept)
    }

    /// True while one of this id is expected or runs.
    pub(super) fn knows(&self, id: ContainerId) -> bool {
        self.known.borrow().contains_key(&id)
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
        if self.node.beside.knows(self.id) {
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
        self.beside.is_able(false)?;
        let (isolation, of) = (self.containers.isolation(), self.names(inside));
        let at = self.containers.at(inside);
        let (id, process) = self.beside.begin(false);
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
        if let Err(why) = self.keeper.ask(&enter, None) {
            self.beside.refused(id, &why);
            return Err(why);
        }
        let _abandoned = Abandoned { node: self, id };
        process.over().await
    }
}
