//! Terminals of tasks, and of containers that are started inside of them: this agent's end of each is
//! kept by the keeper as well, so that whoever works there does not notice when an agent is replaced.
//! While none is there what is written waits in the kernel, and then who writes it.
//!
//! Mesos: the IO switchboard, a process for each.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use mesita_core::wire::ContainerId;
use mesita_isolation::keeper::protocol::{DESCRIPTORS, Request, Stdio as From, User};
use mesita_isolation::sandbox::{self, STDERR, STDOUT};

use super::AgentNode;
use super::containers::Container;
use super::inner::{LAST_WORDS_US, Stdio, Window};
use crate::alarm;
use crate::pb::mesos::v1::ContainerInfo;

/// Ends of terminals, by the container of each.
pub(super) type Ends = BTreeMap<ContainerId, OwnedFd>;

/// A sandbox, and where in it what is written goes.
type Place = (PathBuf, PathBuf);

/// The terminal that a container asks for, and how large it is to be.
pub(super) fn asked(container: Option<&ContainerInfo>) -> Option<Option<Window>> {
    let asked = container?.tty_info.as_ref()?;
    Some(asked.window_size.as_ref().map(|size| (size.rows, size.columns)))
}

impl AgentNode {
    /// Makes a terminal of a user's: this agent's end, and what the keeper gets.
    pub(super) async fn terminal_in(
        &self,
        place: Place,
        window: Option<Window>,
        user: Option<User>,
    ) -> Result<(Stdio, [OwnedFd; DESCRIPTORS]), String> {
        self.beside.is_able(true)?;
        let opened = self.containers.by_hand(move || output(&place)).await;
        let file = opened.map_err(|error| error.to_string())?;
        let made = Stdio::kept(window, user.as_ref(), file);
        made.map_err(|error| format!("a terminal: {error}"))
    }

    /// The terminal of a container that an earlier agent has made, if it has one.
    pub(super) async fn terminal_again(&self, id: ContainerId, place: Place) -> Option<Rc<Stdio>> {
        let own = self.terminals.borrow_mut().remove(&id)?;
        let opened = self.containers.by_hand(move || output(&place)).await;
        let opened = opened.map_err(|error| error.to_string());
        let again = opened.and_then(|file| {
            Stdio::adopted(own, file).map_err(|error| format!("its terminal: {error}"))
        });
        again.inspect_err(|why| log::error!("container {id}: {why}")).ok().map(Rc::new)
    }

    /// Asks the keeper for a task, on a terminal if it wants one.
    pub(super) async fn ask_for_task(
        &self,
        id: ContainerId,
        container: &Container,
        request: Request,
        terminal: Option<Option<Window>>,
    ) -> Result<(), String> {
        let Some(window) = terminal else {
            return self.keeper.ask(&request, None);
        };
        let place = (self.containers.sandbox(self.containers.at(id)), PathBuf::new());
        let user = request.user().cloned();
        let (stdio, lent) = self.terminal_in(place, window, user).await?;
        *container.stdio.borrow_mut() = Some(Rc::new(stdio));
        self.keeper.ask(&request.on(From::Kept), Some(lent))
    }

    /// A task runs: what it writes to its terminal is read from now on.
    pub(super) fn pump_terminal(&self, container: &Container) {
        let stdio = container.stdio.borrow().clone();
        let pumped = stdio.map(|stdio| self.tasks.spawn(async move { stdio.pump().await }));
        *container.pumped.borrow_mut() = pumped;
    }

    /// The same of one that ran on while the agent was away.
    pub(super) fn pump_again(&self, id: ContainerId, container: &Rc<Container>) {
        let Some(me) = self.me.upgrade() else { return };
        let container = Rc::clone(container);
        self.tasks.go(async move {
            let place = (me.containers.sandbox(me.containers.at(id)), PathBuf::new());
            let again = me.terminal_again(id, place).await;
            *container.stdio.borrow_mut() = again;
            me.pump_terminal(&container);
        });
    }

    /// A task has ended: the rest of what it wrote is read.
    pub(super) async fn last_words(&self, container: &Container) {
        if let Some(pumped) = container.pumped.take() {
            alarm::within(LAST_WORDS_US, pumped).await;
        }
        container.stdio.take().iter().for_each(|stdio| stdio.close());
    }
}

/// Opens the file that all that is written goes to, and makes the other one that each has.
fn output((sandbox, below): &Place) -> Result<std::fs::File, sandbox::Error> {
    sandbox::output(sandbox, below, STDERR)?;
    sandbox::output(sandbox, below, STDOUT)
}
