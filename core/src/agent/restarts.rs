//! Tasks that are started again by their rule: after an end of their own, and after the machine or
//! what held them was gone, with or without a master.
//!
//! A restart is no end: it is told as a start, with its number. What it needs is on disk before it
//! is begun. A kill, a drain and the end of its framework end it for good. After a reboot masters
//! are asked first, for [`ASK_US`]; one that answers is obeyed.

use super::rows::{Ordered, Stage, Task};
use super::{Agent, Cx, Hand, Record};
use crate::Refusal;
use crate::mutant::{Mutant, planted};
use crate::table::Id;
use crate::time::Time;
use crate::wire::ContainerId;
use crate::wire::task::{Copies, Exit, RestartRule, TaskState, UnknownAge};

/// From an end to the next start, in µs; doubled with each end that follows.
pub const BACKOFF_MIN_US: u64 = 1_000_000;
/// But at most so long, in µs.
pub const BACKOFF_MAX_US: u64 = 300_000_000;
/// Whatever ran for so long is steady: its next end is the first one again. A machine that was up
/// for so long did not go down because of a task.
pub const STEADY_US: u64 = 600_000_000;
/// How long masters are asked after a reboot before a task is started again without one, in µs.
pub const ASK_US: u64 = 10_000_000;
/// Reboots in a row, each before the machine was steady, after which nothing is started again
/// before a master answers: one of the tasks may be why.
pub const REBOOTS_MAX: u32 = 3;

/// What is known of how long the machine was off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Clock {
    /// The kernel calls its clock synchronised.
    synchronised: bool,
    /// The newest stamp: of which boot, when, and whether the clock was synchronised then.
    boot: [u8; 16],
    boot_us: u64,
    wall_us: u64,
    was_synchronised: bool,
    /// Boots in a row that came before the machine was steady.
    reboots: u32,
    /// The machine was off since the ledger was written last.
    rebooted: bool,
    /// The first start of the agent after that: containers of earlier ones ended with the machine.
    since: u32,
    /// When the next stamp is due; none while nothing here is started again by itself.
    due: Time,
}

impl Agent<'_> {
    /// What the kernel says of its clock: at the start, and when it was asked.
    pub(super) fn clock(&mut self, cx: &mut Cx<'_>, synchronised: bool) -> Result<(), Refusal> {
        self.clock.synchronised = synchronised;
        if self.counters.recovered {
            self.stamp(cx);
        }
        Ok(())
    }

    /// A stamp that the ledger has.
    pub(super) fn replay_stamp(
        &mut self,
        boot: [u8; 16],
        boot_us: u64,
        wall_us: u64,
        synchronised: bool,
    ) {
        let clock = &mut self.clock;
        (clock.boot, clock.boot_us, clock.wall_us) = (boot, boot_us, wall_us);
        clock.was_synchronised = synchronised;
    }

    /// The agent was started in this boot. What was not told before another one is past.
    pub(super) fn replay_boot(&mut self, cx: &mut Cx<'_>, boot: [u8; 16]) {
        if boot != self.boot && self.boot != [0; 16] {
            let clock = &mut self.clock;
            let steady = clock.boot == self.boot && clock.boot_us >= STEADY_US;
            clock.reboots = if steady { 0 } else { clock.reboots.saturating_add(1) };
            (clock.rebooted, clock.since) = (true, self.counters.incarnation);
            self.drop_past(cx);
        }
        self.boot = boot;
    }

    /// Writes down where the clocks stand, and when to do so again.
    fn stamp(&mut self, cx: &mut Cx<'_>) {
        let (boot, boot_us, wall_us) = (self.boot, cx.now.0, cx.wall_us);
        let synchronised = self.clock.synchronised;
        self.replay_stamp(boot, boot_us, wall_us, synchronised);
        self.persist(cx, Record::Stamp { boot, boot_us, wall_us, synchronised }, false, &[]);
        self.clock.due = cx.now.after(STEADY_US);
    }

    /// Asks for the time while there is a task that needs it, and only then.
    pub(super) fn see_to_stamps(&mut self, cx: &mut Cx<'_>) {
        if self.clock.due > cx.now {
            return;
        }
        let rules = |row: &Task| row.restart.rule != RestartRule::Never && row.state.is_live();
        if self.tasks.iter().any(|(_, row)| rules(row)) {
            self.clock.due = cx.now.after(STEADY_US);
            cx.hand(Hand::Clock);
        } else {
            self.clock.due = Time::NEVER;
        }
    }

    /// A task with a rule is there: stamps are due.
    pub(super) fn begin_stamps(&mut self, cx: &mut Cx<'_>) {
        if self.clock.due == Time::NEVER || self.clock.due == Time(0) {
            self.clock.due = cx.now;
        }
    }

    /// A task has begun to run: an agent that is started meanwhile is to know since when.
    pub(super) fn note_begin(&mut self, cx: &mut Cx<'_>, row: &Task) {
        if row.began_counts() {
            let boot_us = cx.now.0;
            self.with_task_of(row, |agent, task| {
                agent.persist(cx, Record::Began { task, boot_us }, false, &[]);
            });
        }
    }

    /// When the next stamp or restart is due.
    pub(super) fn next_restart(&self) -> Time {
        let stamp = if self.clock.due == Time(0) { Time::NEVER } else { self.clock.due };
        self.restarts.next().min(stamp)
    }

    /// What a ledger that was made anew has of boots before.
    pub(super) const fn replay_reboots(&mut self, reboots: u32, since: u32) {
        (self.clock.rebooted, self.clock.reboots, self.clock.since) = (true, reboots, since);
    }

    /// Writes down the newest stamp and the reboots, in a ledger that is made anew.
    pub(super) fn snapshot_stamp(&mut self, cx: &mut Cx<'_>) {
        let Clock { boot, boot_us, wall_us, was_synchronised: synchronised, .. } = self.clock;
        let Clock { rebooted, reboots, since, .. } = self.clock;
        if rebooted && !planted(Mutant::ForgetsItWasOff) {
            self.persist(cx, Record::Rebooted { reboots, since }, false, &[]);
        }
        if wall_us > 0 {
            self.persist(cx, Record::Stamp { boot, boot_us, wall_us, synchronised }, false, &[]);
        }
    }

    /// A command is not to be started again any more: it is ended for good, or its agent is.
    fn may_start_again(&self, row: &Task) -> bool {
        let stays = self.frameworks.row(row.framework).is_some_and(|framework| !framework.leaving);
        let ordered = !matches!(row.ordered, Ordered::No | Ordered::Unhealthy);
        let own = row.group == 0 && row.runner().is_none();
        own && stays && !ordered && !self.drain.on && !self.counters.leaving
    }

    /// A command has ended; true when its rule has it started again, when its time comes.
    pub(super) fn starts_again(
        &mut self,
        cx: &mut Cx<'_>,
        id: Id,
        exit: Exit,
        message: &str,
    ) -> bool {
        let Some(row) = self.tasks.get(id).filter(|row| self.may_start_again(row)) else {
            return false;
        };
        let failed = exit != Exit::Code(0) || row.ordered == Ordered::Unhealthy;
        let wanted = match row.restart.rule {
            RestartRule::Never => false,
            RestartRule::OnFailure => failed,
            RestartRule::Always => true,
        };
        if !wanted {
            return false;
        }
        if row.container.incarnation < self.clock.since && !self.link.registered {
            // It ended before the machine was off, and nobody knows for how long that was.
            return self.comes_back(cx, id, message);
        }
        let steady = row.began > Time(0) && cx.now.since(row.began) >= STEADY_US;
        let fails = if steady { 0 } else { row.fails };
        let wait = BACKOFF_MIN_US.checked_shl(fails.min(16)).unwrap_or(BACKOFF_MAX_US);
        // One that has stopped, or would have, because no master answers is not back before one does.
        let silent = row.restart.stop_after_us > 0 && !self.link.registered;
        let due = if silent { Time::NEVER } else { cx.now.after(wait.min(BACKOFF_MAX_US)) };
        if let Some(row) = self.tasks.get_mut(id) {
            (row.fails, row.returns) = (fails.saturating_add(1), silent);
        }
        self.wait_to_start(cx, id, due, message);
        true
    }

    /// What held a task is gone, or the machine was off: true when its rule has it started again.
    pub(super) fn comes_back(&mut self, cx: &mut Cx<'_>, id: Id, message: &str) -> bool {
        let Some(row) = self.tasks.get(id).filter(|row| self.may_start_again(row)) else {
            return false;
        };
        if row.restart.rule == RestartRule::Never {
            return false;
        }
        // A master that is there knows of the task, and has said what is to become of it.
        let asks = !self.link.registered;
        let wait = if asks && self.clock.rebooted { ASK_US } else { BACKOFF_MIN_US };
        let held = asks && self.is_held_back(cx, &row);
        let due = if held { Time::NEVER } else { cx.now.after(wait) };
        if let Some(row) = self.tasks.get_mut(id) {
            row.returns = asks;
        }
        self.wait_to_start(cx, id, due, message);
        true
    }

    /// A task waits for a master: it may run elsewhere, or be why the machine does not stay up.
    fn is_held_back(&self, cx: &Cx<'_>, row: &Task) -> bool {
        if self.clock.reboots >= REBOOTS_MAX {
            return true;
        }
        match row.restart.copies {
            // Only a master knows that there is no other one.
            Copies::Exclusive => !planted(Mutant::StartsUnasked),
            Copies::Availability => {
                row.restart.unknown == UnknownAge::Hold && self.away_us(cx).is_none()
            }
        }
    }

    /// At most so long nothing ran here, if that is known: the clock that the machine keeps while it
    /// is on tells, or one that others have set, before and now. Boards without a clock boot in 1970,
    /// and a time that was saved proves nothing.
    fn away_us(&self, cx: &Cx<'_>) -> Option<u64> {
        let clock = &self.clock;
        if !clock.rebooted {
            return Some(cx.now.0.saturating_sub(clock.boot_us));
        }
        let set = clock.was_synchronised && clock.synchronised;
        let known = (set || planted(Mutant::TrustsASavedClock)) && clock.wall_us > 0;
        cx.wall_us.checked_sub(clock.wall_us).filter(|_| known)
    }

    fn wait_to_start(&mut self, cx: &mut Cx<'_>, id: Id, due: Time, message: &str) {
        self.kills.clear(id.index);
        self.completions.clear(id.index);
        if let Some(row) = self.tasks.get_mut(id) {
            (row.stage, row.ordered, row.since) = (Stage::Waiting, Ordered::No, Time(0));
        }
        if due == Time::NEVER {
            self.restarts.clear(id.index);
        } else {
            self.restarts.set(id.index, due);
        }
        self.begin_stamps(cx);
        self.tell(cx, id, TaskState::Starting, None, message);
    }

    /// A master has answered, and said what is to become of each task: those that it left alone are
    /// started now.
    pub(super) fn start_returning(&mut self, cx: &mut Cx<'_>) {
        for slot in 0..self.tasks.high_water() {
            let waits = |row: &Task| row.stage == Stage::Waiting && row.returns;
            if self.tasks.row(slot).is_some_and(waits) {
                self.restarts.set(slot, cx.now);
            }
        }
        self.clock.reboots = 0;
    }

    /// Tasks whose time has come. Each is written down first, with the container that it gets.
    pub(super) fn start_due(&mut self, cx: &mut Cx<'_>) {
        while cx.has_room()
            && let Some(slot) = self.restarts.expired(cx.now)
        {
            let Some((id, row)) = self.tasks.at(slot) else { continue };
            if row.stage == Stage::Waiting {
                self.begin_again(cx, id, &row);
            }
        }
    }

    fn begin_again(&mut self, cx: &mut Cx<'_>, id: Id, row: &Task) {
        let (container, attempt) = (self.next_container(), row.attempt.saturating_add(1));
        let record = self.with_task_of(row, |agent, task| {
            agent.persist(cx, Record::Attempt { task, attempt, container }, true, &[])
        });
        if let Some(task) = self.tasks.get_mut(id) {
            (task.container, task.attempt, task.record) = (container, attempt, record);
            (task.before, task.stage, task.returns) = (row.container, Stage::Recording, false);
        }
    }

    /// The end of the container before is known to whoever is told of the next one.
    pub(super) fn forget_before(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.tasks.get_mut(id) else { return };
        let container = core::mem::take(&mut row.before);
        if container != ContainerId::default() {
            cx.hand(Hand::Forget { container });
        }
    }
}
