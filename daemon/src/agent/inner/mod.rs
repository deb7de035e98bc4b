//! Containers that operators and executors start: inside of a task's or an executor's, or of their
//! own; and sessions, which are processes of somebody who is connected.
//!
//! | file | concern |
//! |---|---|
//! | `chain` | their names |
//! | `calls` | the calls of the API about them |
//! | `attach` | streams of what they read and write |
//! | `stdio` | pipes and terminals of sessions |
//! | `limits` | those that have limits of their own: what they use, and when they run into one |
//! | `kept` | what the next agent must know |
//!
//! The core knows nothing of them: they hold no resources that are offered, and nobody waits for
//! their end but who asks. Each that is inside of a task's container is in a cgroup below that one's,
//! with limits of its own if it asks for that (`share_cgroups: false`), and in its namespaces, and ends
//! with it. Mesos: nested and standalone containers.

mod attach;
mod calls;
mod chain;
mod kept;
mod limits;
mod stdio;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use event_listener::Event;
use mesita_core::wire::task::Exit;
use mesita_core::wire::{ContainerId, FrameworkId, Session};
use mesita_isolation::cgroups::{At, Part};
use mesita_isolation::isolators::TaskLimits;
use mesita_isolation::keeper::protocol::{
    DESCRIPTORS, Held, Request, Stdio as From, User, path_text,
};
use mesita_isolation::keeper::wall::Wall;
use mesita_isolation::{Killed, sandbox};
use serde::{Deserialize, Serialize};

use super::beside::{INCARNATION, Process};
use super::build::{self, Names};
use super::fetch::Job;
use super::fetch::uri::Uri;
use super::limited::Limited;
use super::{AgentNode, Life};
use crate::alarm;
use crate::command::{Command, variables_of};
#[cfg(any(test, fuzzing))]
pub(crate) use calls::judge;
pub(super) use chain::Chain;
use kept::Kept;
pub(super) use stdio::{Stdio, Window};

/// How long what a session has said may take to be read once its process ended, in µs: somebody it
/// has left behind may hold its outputs open.
pub(super) const LAST_WORDS_US: u64 = 1_000_000;
const SIGKILL: u8 = 9;

/// All of them, by name.
pub(super) struct Inners {
    known: RefCell<BTreeMap<Chain, Rc<Inner>>>,
    max: usize,
    refused: Cell<u64>,
    /// The newest session with a master: the keeper starts nothing of an older one.
    pub(super) session: Cell<Session>,
}

/// What kind of container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Inside of another one, with a sandbox of its own in that one's.
    Nested,
    /// The same for as long as somebody is connected, in that one's own sandbox.
    Session,
    /// Of its own.
    Standalone,
}

/// One container.
struct Inner {
    chain: Chain,
    /// As the keeper knows it.
    id: ContainerId,
    /// The container that it ends with: its task's or executor's, or the outermost of its own kind.
    root: At,
    /// It has limits of its own, below those of the root.
    apart: bool,
    /// It has processes of its own, within those of what it is inside of.
    parted: Cell<bool>,
    /// The one around it that has, if one does: what it uses counts as that one's.
    within: Option<ContainerId>,
    /// What it asked for of that: thousandths of CPUs, and bytes of memory.
    asked: (u64, u64),
    class: Class,
    /// Of the root; none if that is of its own.
    framework: FrameworkId,
    /// Whom it runs as, and whose the root is.
    user: String,
    owner: String,
    state: RefCell<State>,
    /// It is to be killed as soon as it runs.
    unwanted: Cell<bool>,
    /// The limit of its own that it ran into while it ran.
    limited: RefCell<Option<Limited>>,
    stdio: RefCell<Option<Rc<Stdio>>>,
    changed: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    /// It will not run.
    Failed(String),
    Running,
    Ended(Ending),
}

/// How one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ending {
    /// As wait(2) has it; none if nobody saw it.
    status: Option<i32>,
    /// The limit it ran into.
    limited: Option<Limited>,
}

/// What is to be started.
struct Start {
    command: Command,
    /// What one of its own may use, and what any asks for of the walls around it.
    limits: TaskLimits,
    /// Its terminal.
    terminal: Option<Option<Window>>,
}

impl Inners {
    /// At most so many, those included whose end somebody may still ask for.
    pub(super) fn new(max: usize) -> Self {
        Self { known: RefCell::default(), max, refused: Cell::new(0), session: Cell::default() }
    }

    fn get(&self, chain: &Chain) -> Option<Rc<Inner>> {
        self.known.borrow().get(chain).map(Rc::clone)
    }

    fn all(&self, which: impl Fn(&Inner) -> bool) -> Vec<Rc<Inner>> {
        self.known.borrow().values().filter(|inner| which(inner)).map(Rc::clone).collect()
    }

    /// The container whose namespaces one is in that is inside of others.
    fn around(&self, inner: &Inner) -> ContainerId {
        let parted = self.all(|one| one.parted.get() && inner.chain.is_inside(&one.chain));
        let nearest = parted.iter().max_by_key(|one| one.chain.depth());
        nearest.map_or(inner.root.id, |one| one.id)
    }

    /// Makes room for one more: the oldest session that is over goes first.
    fn has_room(&self) -> bool {
        let mut known = self.known.borrow_mut();
        if known.len() >= self.max {
            let over = |inner: &&Rc<Inner>| inner.class == Class::Session && inner.is_over();
            let oldest = known.values().filter(over).min_by_key(|inner| inner.id.counter);
            let oldest = oldest.map(|inner| inner.chain.clone());
            oldest.and_then(|chain| known.remove(&chain));
        }
        let has = known.len() < self.max;
        self.refused.set(self.refused.get() + u64::from(!has));
        has
    }

    /// How many there are, and may be.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("inner_containers_len", self.known.borrow().len() as u64),
            ("inner_containers_max", self.max as u64),
            ("inner_containers_refused_total", self.refused.get()),
        ]
    }

    /// Ids of those that are inside of no other, which no agent may take for left over.
    pub(super) fn of_their_own(&self) -> Vec<ContainerId> {
        let own = self.all(|inner| inner.class == Class::Standalone && !inner.is_over());
        own.iter().map(|inner| inner.id).collect()
    }
}

impl Inner {
    fn of(kept: Kept) -> Self {
        let Kept { chain, id, around, root, apart, within, asked, .. } = kept;
        let Kept { framework, user, owner, ending, parted, .. } = kept;
        let class = if root == id { Class::Standalone } else { Class::Nested };
        let state = RefCell::new(ending.map_or(State::Running, State::Ended));
        Self {
            root: At { inside: around, id: root },
            unwanted: Cell::new(false),
            parted: Cell::new(parted),
            limited: RefCell::default(),
            stdio: RefCell::default(),
            changed: Event::new(),
            chain,
            id,
            class,
            apart,
            within,
            asked,
            framework,
            user,
            owner,
            state,
        }
    }

    fn kept(&self) -> Kept {
        let state = self.state.borrow();
        let ending = if let State::Ended(ending) = &*state { Some(ending.clone()) } else { None };
        Kept {
            chain: self.chain.clone(),
            id: self.id,
            around: self.root.inside,
            root: self.root.id,
            apart: self.apart,
            within: self.within,
            asked: self.asked,
            framework: self.framework,
            user: self.user.clone(),
            owner: self.owner.clone(),
            ending,
            parted: self.parted.get(),
        }
    }

    /// Where it is in the cgroups of its root.
    fn part(&self) -> Part {
        Part { of: self.root, within: self.within, id: self.id }
    }

    fn is_over(&self) -> bool {
        matches!(&*self.state.borrow(), State::Ended(_) | State::Failed(_))
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
        self.changed.notify(usize::MAX);
    }

    /// Waits until it runs, or why it does not.
    async fn begun(&self) -> Result<(), String> {
        loop {
            let listener = self.changed.listen();
            match &*self.state.borrow() {
                State::Starting => {}
                State::Failed(why) => return Err(why.clone()),
                State::Running | State::Ended(_) => return Ok(()),
            }
            listener.await;
        }
    }

    /// Waits until it is to be killed before it runs.
    async fn unwanted(&self) {
        loop {
            let listener = self.changed.listen();
            if self.unwanted.get() {
                return;
            }
            listener.await;
        }
    }

    /// Waits until it ended.
    async fn ended(&self) -> Ending {
        loop {
            let listener = self.changed.listen();
            match &*self.state.borrow() {
                State::Starting | State::Running => {}
                State::Failed(_) => return Ending::default(),
                State::Ended(ending) => return ending.clone(),
            }
            listener.await;
        }
    }

    /// Its sandbox, in that of its root; empty = that one.
    fn below(&self) -> PathBuf {
        if self.class != Class::Nested {
            return PathBuf::new();
        }
        let outer = if self.framework.is_none() { 1 } else { Chain::from(self.root).names().len() };
        let mut below = PathBuf::new();
        for name in self.chain.names().iter().skip(outer) {
            below.push(sandbox::INSIDE);
            below.push(name);
        }
        below
    }
}

/// A status as wait(2) has it.
fn status_of(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Code(code) => Some(i32::from(code) << 8),
        Exit::Signal(signal) => Some(signal.into()),
        Exit::Unseen => None,
    }
}

impl AgentNode {
    /// Starts a container that is known from now on, and lives with it.
    async fn live(self: Rc<Self>, inner: Rc<Inner>, process: Rc<Process>, start: Start) {
        let started = match self.ask_for(&inner, start).await {
            Ok(()) => self.let_begin(&inner, &process).await,
            Err(why) => {
                self.beside.refused(inner.id, &why);
                Err(why)
            }
        };
        if let Err(why) = started {
            log::info!("container {}: {why}", inner.chain);
            self.clear_inner(&inner, Exit::Unseen).await;
            self.inners.known.borrow_mut().remove(&inner.chain);
            inner.set(State::Failed(why));
            return;
        }
        // The next agent knows it, too, before anybody is told that it runs.
        self.keep(&inner).await;
        inner.set(State::Running);
        if inner.unwanted.get() {
            self.signal_inner(&inner, SIGKILL).await;
        }
        self.live_on(inner, process).await;
    }

    /// Waits until one runs. One of its own waits for isolators before it becomes its program, where they have
    /// something to do to a process that exists.
    async fn let_begin(&self, inner: &Inner, process: &Process) -> Result<(), String> {
        let isolation = self.containers.isolation();
        if inner.class != Class::Standalone || !isolation.isolates_first() {
            return process.started().await;
        }
        let Some(pid) = process.waits().await else { return process.started().await };
        let (container, killed) = (inner.id, "killed before it was started".to_owned());
        let isolated = self.containers.by_hand(move || isolation.isolate(container, pid)).await;
        let isolated = isolated.map_err(|error| error.to_string());
        if let Err(why) = isolated.and(if inner.unwanted.get() { Err(killed) } else { Ok(()) }) {
            self.keeper.send(&Request::Signal { container, signal: SIGKILL });
            // Its end, which says no more than that it was killed.
            let _ = process.started().await;
            return Err(why);
        }
        self.keeper.send(&Request::Go { container, deadline_us: 0 });
        process.started().await
    }

    /// Lives with one that runs, to its end.
    async fn live_on(self: Rc<Self>, inner: Rc<Inner>, process: Rc<Process>) {
        let stdio = inner.stdio.borrow().clone();
        if inner.class != Class::Session {
            self.bound_logs_in(inner.id, &self.sandbox_of(&inner), true);
        }
        self.watch_inner(&inner);
        let mut pumped =
            stdio.clone().map(|stdio| self.tasks.spawn(async move { stdio.pump().await }));
        let exit = process.over().await;
        let seen = self.clear_inner(&inner, exit.as_ref().map_or(Exit::Unseen, |exit| *exit)).await;
        let limited = inner.limited.take().or(seen);
        if stdio.as_ref().is_some_and(|stdio| stdio.is_kept())
            && let Some(pumped) = pumped.take()
        {
            // Who reads its file is to find all of it there when it is over.
            alarm::within(LAST_WORDS_US, pumped).await;
        }
        self.unbound_logs_of(inner.id).await;
        let status = exit.ok().and_then(status_of);
        // Before it is over for others, who may remove it then.
        self.end_inside(&inner).await;
        inner.set(State::Ended(Ending { status, limited }));
        self.keep(&inner).await;
        self.keeper.send(&Request::Forget { container: inner.id });
        if let Some(pumped) = pumped {
            // In cgroups nobody is left who could hold its outputs open.
            if self.containers.isolation().has_cgroups() {
                pumped.await;
            } else {
                alarm::within(LAST_WORDS_US, pumped).await;
            }
        }
        stdio.iter().for_each(|stdio| stdio.close());
        inner.stdio.take();
    }

    /// Kills what is inside of one, until nothing lives there. Nothing begins there meanwhile that is
    /// not killed, too: who comes late is found by the next look.
    async fn end_inside(&self, inner: &Inner) {
        loop {
            let lives = |one: &Inner| one.chain.is_inside(&inner.chain) && !one.is_over();
            let inside = self.inners.all(lives);
            if inside.is_empty() {
                return;
            }
            for one in &inside {
                self.signal_inner(one, SIGKILL).await;
            }
            for one in &inside {
                one.ended().await;
            }
        }
    }

    /// Asks the keeper for it.
    async fn ask_for(&self, inner: &Rc<Inner>, start: Start) -> Result<(), String> {
        let isolation = self.containers.isolation();
        let (work_dir, switch) = (self.work_dir.clone(), self.containers.switches_user());
        let (own, part, below) = (inner.id, inner.part(), inner.below());
        let names = self.names_of(inner);
        let Start { mut command, limits, terminal } = start;
        let uris = std::mem::take(&mut command.uris);
        if inner.class == Class::Session {
            // As the task has it, but for what is said otherwise.
            let mut variables = variables_of(&self.tally.private_of(part.of.id));
            variables.append(&mut command.variables);
            command.variables = variables;
        }
        if inner.class == Class::Standalone {
            let session = self.inners.session.get();
            let user = build::resolved(&names.user, switch)?;
            let alone = build::Alone { own, session, limits };
            let build =
                move || build::alone(&names, command, &alone, &isolation, &work_dir, switch);
            let launch = self.containers.by_hand(build).await?;
            let first = self.containers.isolation().isolates_first();
            let launch = if first { launch.waiting() } else { launch };
            self.fetch_into(inner, uris, user).await?;
            let Some(window) = terminal else {
                return self.keeper.ask(&launch, None);
            };
            let user = launch.user().cloned();
            let lent = self.terminal_of(inner, window, user).await?;
            return self.keeper.ask(&launch.on(From::Kept), Some(lent));
        }
        let owner = inner.owner.clone();
        let enters = self.inners.around(inner);
        let (enter, walls) = {
            let below = below.clone();
            let build = move || {
                let (below, owner, limits) = (&below, &owner, &limits);
                let inside = build::Inside { part, enters, below, owner, limits };
                build::enclosed(&names, command, &inside, &isolation, &work_dir, switch)
            };
            self.containers.by_hand(build).await?
        };
        inner.parted.set(walls.contains(&Wall::Processes));
        let below = path_text(&below);
        if inner.class != Class::Session {
            self.fetch_into(inner, uris, enter.launch.user.clone()).await?;
            let Some(window) = terminal else {
                return self.keeper.ask(&Request::enter(enter, below, From::Files, walls), None);
            };
            let user = enter.launch.user.clone();
            let lent = self.terminal_of(inner, window, user).await?;
            let enter = Request::enter(enter, below, From::Kept, walls);
            return self.keeper.ask(&enter, Some(lent));
        }
        let made = Stdio::new(terminal, enter.launch.user.as_ref());
        let (stdio, theirs) = made.map_err(|error| format!("what a session writes to: {error}"))?;
        let from = if stdio.is_terminal() { From::Terminal } else { From::Given };
        *inner.stdio.borrow_mut() = Some(Rc::new(stdio));
        self.keeper.ask(&Request::enter(enter, below, from, walls), Some(theirs))
    }

    /// Gives it a terminal: what the keeper gets of it.
    async fn terminal_of(
        &self,
        inner: &Inner,
        window: Option<Window>,
        user: Option<User>,
    ) -> Result<[OwnedFd; DESCRIPTORS], String> {
        let place = (self.containers.sandbox(inner.root), inner.below());
        let (stdio, lent) = self.terminal_in(place, window, user).await?;
        *inner.stdio.borrow_mut() = Some(Rc::new(stdio));
        Ok(lent)
    }

    /// Takes over the terminal that an earlier agent has given it, if it has.
    async fn readopt_terminal(&self, inner: &Inner) {
        let place = (self.containers.sandbox(inner.root), inner.below());
        if let Some(stdio) = self.terminal_again(inner.id, place).await {
            *inner.stdio.borrow_mut() = Some(stdio);
        }
    }

    /// Fetches what its command needs in its sandbox, until it is to be killed.
    async fn fetch_into(
        &self,
        inner: &Inner,
        uris: Vec<Uri>,
        user: Option<User>,
    ) -> Result<(), String> {
        if uris.is_empty() {
            return Ok(());
        }
        let (sandbox, user) = (self.sandbox_of(inner), (inner.user.clone(), user));
        self.fetch_unless(inner.unwanted(), Job { sandbox, user, uris }).await
    }

    /// What its environment says of it.
    fn names_of(&self, inner: &Inner) -> Names {
        let own = inner.framework.is_none();
        let names = self.names(if own { inner.id } else { inner.root.id });
        Names { user: inner.user.clone(), ..names }
    }

    /// Where its files are.
    fn sandbox_of(&self, inner: &Inner) -> PathBuf {
        self.containers.sandbox(inner.root).join(inner.below())
    }

    /// Sends it a signal; SIGKILL reaches all of it. False when it is over.
    async fn signal_inner(&self, inner: &Inner, signal: u8) -> bool {
        let state = inner.state.borrow().clone();
        match state {
            State::Failed(_) | State::Ended(_) => return false,
            State::Starting => {
                inner.unwanted.set(inner.unwanted.get() || signal == SIGKILL);
                inner.changed.notify(usize::MAX);
                return true;
            }
            State::Running => {}
        }
        let killed = signal == SIGKILL && self.kill_inner(inner).await;
        if !killed {
            self.keeper.send(&Request::Signal { container: inner.id, signal });
        }
        true
    }

    /// Kills all of it, if its cgroups can.
    async fn kill_inner(&self, inner: &Inner) -> bool {
        let isolation = self.containers.isolation();
        let (part, class) = (inner.part(), inner.class);
        let kill = move || match class {
            Class::Standalone => isolation.kill(part.id),
            Class::Nested | Class::Session => isolation.kill_enclosed(part),
        };
        match self.containers.by_hand(kill).await {
            Ok(killed) => killed == Killed::All,
            Err(error) => {
                log::error!("container {}: {error}", inner.chain);
                false
            }
        }
    }

    /// Removes what is left of one whose process is gone; which limit it ran into, if any.
    async fn clear_inner(&self, inner: &Inner, exit: Exit) -> Option<Limited> {
        let isolation = self.containers.isolation();
        let (part, class, apart) = (inner.part(), inner.class, inner.apart);
        let clear = move || match class {
            Class::Standalone => {
                let limited = isolation.ended(part.id, exit).ok().flatten();
                let cleared = isolation.kill(part.id).and_then(|_| isolation.cleanup(part.id));
                (limited.map(Limited::from), cleared)
            }
            Class::Nested | Class::Session => {
                let limited = apart.then(|| isolation.limitation_enclosed(part, Some(exit)));
                let limited = limited.and_then(Result::ok).flatten();
                let cleared = isolation.kill_enclosed(part);
                (limited.map(Limited::from), cleared.and_then(|_| isolation.disclose(part)))
            }
        };
        let (limited, cleared) = self.containers.by_hand(clear).await;
        if let Err(error) = cleared {
            log::error!("container {}: {error}", inner.chain);
        }
        limited
    }

    /// Writes down what the next agent must know of it.
    async fn keep(&self, inner: &Inner) {
        if inner.class == Class::Session || self.options.life == Life::OfThisProcess {
            return;
        }
        let (work_dir, kept) = (self.work_dir.clone(), inner.kept());
        if let Err(error) = self.containers.by_hand(move || kept::write(&work_dir, &kept)).await {
            log::error!("container {}: {error}", inner.chain);
        }
        // It may have been removed meanwhile, and what was written of it before this was.
        let is_known = |one: &Rc<Inner>| one.id == inner.id;
        if !self.inners.known.borrow().get(&inner.chain).is_some_and(is_known) {
            self.forget_kept(vec![inner.id]);
        }
    }

    /// Nothing is known of it any more, nor of what is inside of it.
    fn forget_inner(&self, inner: &Inner) {
        let gone = self.inners.all(|one| one.id == inner.id || one.chain.is_inside(&inner.chain));
        for one in &gone {
            self.inners.known.borrow_mut().remove(&one.chain);
        }
        self.forget_kept(gone.iter().map(|one| one.id).collect());
    }

    /// Removes what was written down of containers.
    fn forget_kept(&self, ids: Vec<ContainerId>) {
        let Some(me) = self.me.upgrade() else { return };
        self.tasks.go(async move {
            let work_dir = me.work_dir.clone();
            let forget = move || {
                for id in ids {
                    if let Err(error) = kept::forget(&work_dir, id) {
                        log::warn!("container {id}: {error}");
                    }
                }
            };
            me.containers.by_hand(forget).await;
        });
    }

    /// The container of a task or an executor is no more, and nothing inside of it either.
    pub(super) fn forget_inside(&self, root: ContainerId) {
        let inside = |inner: &Inner| {
            inner.root.id == root && inner.class != Class::Standalone
                || inner.root.inside == Some(root)
        };
        for inner in self.inners.all(inside) {
            self.forget_inner(&inner);
        }
    }

    /// Those whose tasks the core does not know go.
    pub(super) fn keep_only_inside(&self, stay: &BTreeSet<ContainerId>) {
        let lost = |inner: &Inner| !inner.framework.is_none() && !stay.contains(&inner.root.id);
        for inner in self.inners.all(lost) {
            self.forget_inner(&inner);
        }
    }

    /// Takes over what an earlier agent has started. What the keeper holds of it is no task's.
    pub(super) fn recover_inner(self: &Rc<Self>, held: &[Held]) -> BTreeSet<ContainerId> {
        let mut taken = BTreeSet::new();
        for kept in kept::read(&self.work_dir) {
            let inner = Rc::new(Inner::of(kept));
            let state = held.iter().find(|held| held.container() == inner.id);
            match state {
                Some(Held::Running { .. } | Held::Starting { .. }) => {
                    taken.insert(inner.id);
                    let process = self.beside.adopt(inner.id);
                    let (me, inner) = (Rc::clone(self), Rc::clone(&inner));
                    self.tasks.go(async move {
                        me.readopt_terminal(&inner).await;
                        me.live_on(inner, process).await;
                    });
                }
                Some(Held::Ended(ended)) => {
                    taken.insert(inner.id);
                    let process = self.beside.adopt(inner.id);
                    self.beside.ended(ended);
                    self.tasks.go(Rc::clone(self).live_on(Rc::clone(&inner), process));
                }
                // Its keeper died, and it did so with it or was killed for that.
                None | Some(Held::Left(_)) if !inner.is_over() => {
                    *inner.state.borrow_mut() = State::Ended(Ending::default());
                }
                None | Some(Held::Left(_)) => {}
            }
            self.inners.known.borrow_mut().insert(inner.chain.clone(), inner);
        }
        self.clear_sessions(held, &taken);
        taken.extend(self.end_lost(held, &taken));
        taken
    }

    /// Ends what an earlier agent waited for itself: sessions and checks.
    fn end_lost(&self, held: &[Held], taken: &BTreeSet<ContainerId>) -> Vec<ContainerId> {
        let lost = held.iter().filter(|held| !matches!(held, Held::Left(_))).map(Held::container);
        let lost = lost.filter(|id| id.incarnation == INCARNATION && !taken.contains(id));
        let lost: Vec<ContainerId> = lost.collect();
        lost.iter().for_each(|id| self.keeper.end_and_forget(*id));
        lost
    }

    /// What sessions of an earlier agent have left is killed, wherever it went.
    fn clear_sessions(self: &Rc<Self>, held: &[Held], taken: &BTreeSet<ContainerId>) {
        let ids = held.iter().map(Held::container);
        let own = ids.clone().filter(|id| id.incarnation == INCARNATION && !taken.contains(id));
        let own: Vec<ContainerId> = own.collect();
        let roots = ids.filter(|id| id.incarnation != INCARNATION).map(|id| self.containers.at(id));
        let roots = roots.map(|root| (root, None));
        let apart = self.inners.all(|inner| inner.apart);
        let apart = apart.iter().map(|inner| (inner.root, Some(inner.id)));
        let around: Vec<(At, Option<ContainerId>)> = roots.chain(apart).collect();
        let me = Rc::clone(self);
        self.tasks.go(async move {
            let isolation = me.containers.isolation();
            let clear = move || {
                let parts = around.iter().flat_map(|(of, within)| {
                    own.iter().map(|id| Part { of: *of, within: *within, id: *id })
                });
                for part in parts {
                    let cleared = isolation.kill_enclosed(part);
                    if let Err(error) = cleared.and_then(|_| isolation.disclose(part)) {
                        log::error!("container {}: {error}", part.id);
                    }
                }
            };
            me.containers.by_hand(clear).await;
        });
    }

    /// Whose files those of a container are, by name.
    pub(super) fn owner_of_files(&self, id: ContainerId) -> String {
        let inner = self.inners.all(|inner| inner.id == id);
        inner.first().map_or_else(|| self.containers.names(id).user, |inner| inner.user.clone())
    }
}
