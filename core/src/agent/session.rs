//! The conversation with the master: a session is opened by reporting everything, and obeyed once
//! the word it came with is on disk.
//!
//! The agent makes the session: its counter grows with each registration built, and from then on
//! only launches that name it are accepted. So nothing that an older master or an older connection
//! still had in flight can start here.

use super::rows::{Executor, Framework, OF_FRAMEWORK, Task, healthy};
use super::{Agent, Cx, Fence, Link, Output, Record, named};
use crate::Refusal;
use crate::index::after;
use crate::limits::{HEAD_MAX, TASKS_PER_HEAD_MAX};
use crate::mutant::{Mutant, planted};
use crate::resources::Holding;
use crate::slab::List;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::{
    AgentCall, AgentEvent, ExecutorHeld, Fate, FrameworkHeld, Hash, Register, Report, TaskBodies,
    TaskHeld, TaskRan, TaskTold, Verdict,
};
use crate::wire::link::Parting;
use crate::wire::task::{TaskOf, TaskState};
use crate::wire::{
    AgentId, Body, BodyRef, Check, FrameworkId, Head, Scratch, Seq, Session, decode, encode,
};

/// Bytes of bodies in one frame, unless a single one is larger.
const BODIES_BYTES: u32 = 1024 * 1024;

impl Agent<'_> {
    /// Takes in what the agent is and has. What is free follows from what is in use.
    pub(super) fn describe(
        &mut self,
        cx: &mut Cx<'_>,
        register: &Register<'_>,
    ) -> Result<(), Refusal> {
        // The session is made anew for each registration; here it only has to be one.
        let session = Session { incarnation: 1, counter: 0 };
        let register = &Register { session, ..*register };
        register.check().map_err(|_| Refusal::Malformed)?;
        self.pool.admit(&self.names, &register.resources)?;
        if register.resources.len().saturating_mul(2) > self.pool.room() {
            return Err(Refusal::ResourcesFull);
        }
        // What it has is told as it is then: see `linked`.
        let bare = Register { resources: Seq::EMPTY, ..*register };
        let len = encode(&bare, self.description).map_err(|_| Refusal::NamesFull)?.len();
        let len = u32::try_from(len).map_err(|_| Refusal::NamesFull)?;
        let mut made = self.pool.made_of(&mut self.names, self.total)?;
        let mut total = self.pool.take(&mut self.names, &register.resources);
        let again = self.pool.make_again(&mut self.names, &mut total, &mut made);
        if let Err(refusal) = again {
            self.pool.clear(&mut self.names, &mut total);
            return Err(refusal);
        }
        self.counters.description = len;
        let mut before = core::mem::replace(&mut self.total, total);
        self.pool.clear(&mut self.names, &mut before);
        self.count_free();
        self.show_resources(cx);
        self.tell_totals(cx);
        Ok(())
    }

    /// What is free: the total without all that tasks and executors hold. O(tasks + executors).
    pub(super) fn count_free(&mut self) {
        let mut free = self.free;
        self.pool.clear(&mut self.names, &mut free);
        let mut free = self.pool.copy(&mut self.names, self.total).unwrap_or(Holding::EMPTY);
        for slot in 0..self.tasks.high_water() {
            if let Some(held) = self.tasks.row(slot).map(|task| task.held) {
                self.pool.subtract_what_is_there(&mut self.names, &mut free, held);
            }
        }
        for slot in 0..self.executors.high_water() {
            if let Some(held) = self.executors.row(slot).map(|executor| executor.held) {
                self.pool.subtract_what_is_there(&mut self.names, &mut free, held);
            }
        }
        self.free = free;
    }

    /// A connection to a master is open: opens a session on it. O(tasks + executors), for the
    /// number of reports; they follow in ticks.
    pub(super) fn linked(&mut self, cx: &mut Cx<'_>, conn: Id, head_max: u32) {
        if let Some(old) = self.link.conn.some() {
            let message = "the agent uses another connection";
            cx.emit(Output::Close { conn: old, reason: Parting::Replaced, message });
        }
        let incarnation = self.counters.incarnation;
        let counter = self.link.session.counter.saturating_add(1);
        let session = Session { incarnation, counter };
        let head_max = head_max.min(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX));
        self.link = Link { conn, head_max, session, ..Link::default() };
        self.tell_session(cx, Session::default());
        let reports = self.count_parts();
        self.with_scratch(|agent, outer, inner| {
            let used = agent.description.get(..agent.counters.description as usize);
            let Ok(described) = decode::<Register<'_>>(used.unwrap_or_default()) else { return };
            let mut outer = Scratch::new(outer);
            let list = agent.pool.write(&agent.names, agent.total, "", &mut outer, inner);
            let resources = list.unwrap_or_default();
            let register = Register {
                session,
                agent: agent.agent,
                seen: agent.fence,
                cluster: agent.cluster,
                tasks_max: agent.tasks.capacity(),
                task_kinds: agent.config.task_kinds,
                reports,
                resources,
                ..described
            };
            let head = Head::AgentCall(AgentCall::Register(register));
            cx.emit(Output::Send { conn, head });
        });
        self.link.parts = reports;
        self.report_some(cx);
    }

    /// The connection is gone, and with it the session: what it still has in flight is void.
    pub(super) fn unlinked(&mut self, cx: &mut Cx<'_>) {
        let session = self.link.session;
        self.link = Link { session, ..Link::default() };
        self.tell_session(cx, Session::default());
    }

    /// Ends the connection from this side.
    fn part(&mut self, cx: &mut Cx<'_>, message: &str) {
        let conn = self.link.conn;
        self.unlinked(cx);
        cx.emit(Output::Close { conn, reason: Parting::Denied, message });
    }

    fn tell_session(&mut self, cx: &mut Cx<'_>, session: Session) {
        cx.emit(Output::Session { session, timeout_us: self.link.timeout_us });
    }

    /// Sends reports until the step has emitted enough; ticks go on.
    pub(super) fn report_some(&mut self, cx: &mut Cx<'_>) {
        while self.link.part < self.link.parts && cx.has_room() {
            let next = self.send_part(cx, self.link.next);
            self.link.next = next;
            self.link.part = self.link.part.saturating_add(1);
        }
    }

    /// How many reports everything takes: the very cuts that [`Agent::send_part`] makes.
    fn count_parts(&self) -> u32 {
        let mut parts = 0u32;
        let mut from = 0;
        while self.next_held(from).is_some() {
            from = self.cut(from);
            parts = parts.saturating_add(1);
        }
        parts
    }

    /// Where the part that begins at `from` ends. Executors come first, then tasks; a place is an
    /// executor's slot, or the executors' high water and a task's slot. The cut depends only on
    /// what cannot change while a registration is open.
    fn cut(&self, from: u32) -> u32 {
        let limit = (self.link.head_max as usize / 2).max(512);
        let mut frameworks = heapless::Vec::<u32, FRAMEWORKS_PER_PART>::new();
        let (mut bytes, mut held) = (0usize, 0usize);
        let mut at = from;
        while let Some(place) = self.next_held(at) {
            let (framework, own) = self.held_bytes(place);
            let new = !frameworks.contains(&framework);
            let of_framework = if new { self.framework_bytes(framework) } else { 0 };
            let sum = bytes.saturating_add(own).saturating_add(of_framework);
            let full = held >= TASKS_PER_HEAD_MAX || (new && frameworks.is_full());
            if held > 0 && (full || sum > limit) {
                return place;
            }
            if new && frameworks.push(framework).is_err() {
                return place;
            }
            bytes = sum;
            held = held.saturating_add(1);
            at = place.saturating_add(1);
        }
        at
    }

    /// The first place from `at` on where an executor or a task is.
    fn next_held(&self, at: u32) -> Option<u32> {
        let executors = self.executors.high_water();
        let end = executors.saturating_add(self.tasks.high_water());
        (at..end).find(|place| match place.checked_sub(executors) {
            Some(0) if planted(Mutant::ReportsTooLittle) => false,
            Some(task) => self.tasks.row(task).is_some(),
            None => self.executors.row(*place).is_some(),
        })
    }

    /// The framework of what is at a place, and the bytes it takes at the most.
    fn held_bytes(&self, place: u32) -> (u32, usize) {
        let executors = self.executors.high_water();
        let len = |name| self.names.text_len(name);
        match place.checked_sub(executors) {
            Some(task) => self.tasks.row(task).map_or((0, 0), |task| {
                let executor = task.executor.checked_sub(1);
                let executor = executor.and_then(|slot| self.executors.row(slot));
                let names = len(task.name)
                    .saturating_add(len(task.role))
                    .saturating_add(executor.map_or(0, |row| len(row.name)));
                let held = self.pool.wire_bytes(&self.names, task.held);
                (task.framework, names.saturating_add(held).saturating_add(96))
            }),
            None => self.executors.row(place).map_or((0, 0), |executor| {
                let names = len(executor.name).saturating_add(len(executor.role));
                let held = self.pool.wire_bytes(&self.names, executor.held);
                (executor.framework, names.saturating_add(held).saturating_add(64))
            }),
        }
    }

    fn framework_bytes(&self, framework: u32) -> usize {
        let Some(row) = self.frameworks.row(framework) else { return 0 };
        let own = [row.name, row.user, row.principal, row.caller];
        let roles = self.roles.iter(row.roles);
        own.into_iter().chain(roles).fold(64usize, |sum, name| {
            sum.saturating_add(self.names.text_len(name)).saturating_add(2)
        })
    }

    /// Sends one report that begins at `from`, and returns where the next begins.
    fn send_part(&mut self, cx: &mut Cx<'_>, from: u32) -> u32 {
        let end = self.cut(from);
        let (conn, session, part) = (self.link.conn, self.link.session, self.link.part);
        self.with_scratch(|agent, outer, inner| {
            let third = outer.len() / 3;
            let Some((of_frameworks, rest)) = outer.split_at_mut_checked(third) else { return };
            let Some((of_executors, of_tasks)) = rest.split_at_mut_checked(third) else { return };
            let frameworks = agent.frameworks_of(from, end, of_frameworks, inner);
            let executors = agent.executors_of(from, end, of_executors, inner);
            let tasks = agent.tasks_of(from, end, of_tasks, inner);
            let report = Report { session, part, frameworks, executors, tasks };
            let head = Head::AgentCall(AgentCall::Report(report));
            cx.emit(Output::Send { conn, head });
        });
        self.send_ran(cx, from, end);
        end
    }

    /// How long tasks of a part have run, of those for which that decides.
    fn send_ran(&mut self, cx: &mut Cx<'_>, from: u32, end: u32) {
        let (conn, session, now) = (self.link.conn, self.link.session, cx.now);
        self.with_scratch(|agent, outer, inner| {
            let tasks = agent.ran_of(from, end, now, outer, inner);
            if !tasks.is_empty() {
                let head = Head::AgentCall(AgentCall::Ran { session, tasks });
                cx.emit(Output::Send { conn, head });
            }
        });
    }

    fn ran_of<'s>(
        &self,
        from: u32,
        end: u32,
        now: Time,
        memory: &'s mut [u8],
        inner: &mut [u8],
    ) -> Seq<'s, TaskRan<'s>> {
        let mut scratch = Scratch::new(memory);
        let mut list = scratch.list::<TaskRan<'static>>();
        self.each_task(from, end, inner, |row, held| {
            if row.stays_if_longest() {
                let known = row.since > Time(0) && held.state == TaskState::Running;
                let us = if known { now.since(row.since) } else { 0 };
                let pushed = list.push(&TaskRan { held, us });
                invariant!(pushed.is_ok(), "a part was cut too large for what has run");
            }
        });
        list.end()
    }

    fn frameworks_of<'s>(
        &self,
        from: u32,
        end: u32,
        memory: &'s mut [u8],
        inner: &mut [u8],
    ) -> Seq<'s, FrameworkHeld<'s>> {
        let mut scratch = Scratch::new(memory);
        let mut list = scratch.list::<FrameworkHeld<'static>>();
        let mut told = heapless::Vec::<u32, FRAMEWORKS_PER_PART>::new();
        let mut at = from;
        while let Some(place) = self.next_held(at).filter(|place| *place < end) {
            at = place.saturating_add(1);
            let (framework, _) = self.held_bytes(place);
            if told.contains(&framework) {
                continue;
            }
            let _ = told.push(framework);
            if let Some(row) = self.frameworks.row(framework) {
                self.with_framework(row, inner, |held| {
                    let pushed = list.push(held);
                    invariant!(pushed.is_ok(), "a part was cut too large for its frameworks");
                });
            }
        }
        list.end()
    }

    fn executors_of<'s>(
        &self,
        from: u32,
        end: u32,
        memory: &'s mut [u8],
        inner: &mut [u8],
    ) -> Seq<'s, ExecutorHeld<'s>> {
        let mut scratch = Scratch::new(memory);
        let mut list = scratch.list::<ExecutorHeld<'static>>();
        for slot in from..end.min(self.executors.high_water()) {
            let Some(row) = self.executors.row(slot) else { continue };
            let (name, role) = (self.text(row.name), self.text(row.role));
            let half = inner.len() / 2;
            let Some((lists, within)) = inner.split_at_mut_checked(half) else { break };
            let mut lists = Scratch::new(lists);
            let held = self.pool.write(&self.names, row.held, "", &mut lists, within);
            let pushed = list.push(&ExecutorHeld {
                framework: self.framework_id(row.framework),
                executor: &name,
                role: &role,
                container: row.container,
                resources: held.unwrap_or_default(),
                body: hash_of(row.body),
            });
            invariant!(pushed.is_ok(), "a part was cut too large for its executors");
        }
        list.end()
    }

    fn tasks_of<'s>(
        &self,
        from: u32,
        end: u32,
        memory: &'s mut [u8],
        inner: &mut [u8],
    ) -> Seq<'s, TaskHeld<'s>> {
        let mut scratch = Scratch::new(memory);
        let mut list = scratch.list::<TaskHeld<'static>>();
        self.each_task(from, end, inner, |_, held| {
            let pushed = list.push(&held);
            invariant!(pushed.is_ok(), "a part was cut too large for its tasks");
        });
        list.end()
    }

    /// Shows the tasks of a part, as a master is told them.
    fn each_task(
        &self,
        from: u32,
        end: u32,
        inner: &mut [u8],
        mut show: impl FnMut(&Task, TaskHeld<'_>),
    ) {
        let executors = self.executors.high_water();
        for slot in from.saturating_sub(executors)..end.saturating_sub(executors) {
            let Some(row) = self.tasks.row(slot) else { continue };
            let executor = row.executor.checked_sub(1).and_then(|slot| self.executors.row(slot));
            let executor = executor.map_or(crate::names::Name::EMPTY, |row: &Executor| row.name);
            let (name, role) = (self.text(row.name), self.text(row.role));
            let executor = self.text(executor);
            let half = inner.len() / 2;
            let Some((lists, within)) = inner.split_at_mut_checked(half) else { break };
            let mut lists = Scratch::new(lists);
            let held = self.pool.write(&self.names, row.held, "", &mut lists, within);
            let first = row.updates.first(&self.updates);
            let unacknowledged = first.and_then(|id| self.updates.get_ref(id));
            let held = TaskHeld {
                framework: self.framework_id(row.framework),
                task: &name,
                executor: &executor,
                role: &role,
                container: row.container,
                state: row.state,
                unacknowledged: unacknowledged.map(|update| update.state),
                attempt: row.attempt,
                restart: row.restart,
                resources: held.unwrap_or_default(),
                public: hash_of(row.public),
            };
            show(row, held);
        }
    }

    /// Everything a master says.
    pub(super) fn master_says(
        &mut self,
        cx: &mut Cx<'_>,
        event: AgentEvent<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        match event {
            AgentEvent::Registered { fence, session, agent, cluster, timeout_us } => {
                self.admitted(cx, fence, session, agent, cluster, timeout_us)
            }
            AgentEvent::Refused { refusal: Refusal::StaleSession, .. } if !self.link.admitted => {
                let message = self.outlived(cx);
                self.part(cx, message);
                Ok(())
            }
            AgentEvent::Refused { message, .. } => {
                self.part(cx, message);
                Ok(())
            }
            AgentEvent::Want { session, tasks } => self.send_bodies(cx, session, &tasks),
            AgentEvent::Verdicts { fence, session, tasks, .. } => {
                self.verdicts(cx, fence, session, &tasks)
            }
            AgentEvent::Launch { fence, session, framework, role, tasks } => {
                self.check_word(fence, session)?;
                self.launch(cx, &framework, role, &tasks, bodies)
            }
            AgentEvent::Kill { task, grace_us } => self.kill(cx, &task, grace_us),
            AgentEvent::Acknowledge { task, sequence } => self.acknowledged(cx, &task, sequence),
            AgentEvent::Message { framework, executor, data } => {
                self.message_down(cx, framework, executor, data.of(bodies))
            }
            AgentEvent::ShutdownExecutor { framework, executor } => {
                self.shutdown_executor(cx, framework, executor)
            }
            AgentEvent::ShutdownFramework { framework } => self.end_framework(cx, framework),
            AgentEvent::Reconcile { tasks } => self.reconcile(cx, &tasks),
            AgentEvent::UpdateFramework { framework } => self.know_framework(cx, &framework),
            AgentEvent::DescribeFramework { framework, public } => {
                self.describe_framework(cx, framework, public.of(bodies))
            }
            AgentEvent::Shutdown { .. } => {
                self.leave(cx);
                Ok(())
            }
            AgentEvent::Drain { grace_us, gone } => self.drain(cx, grace_us, gone),
            AgentEvent::Reactivate => {
                self.reactivate(cx);
                Ok(())
            }
            AgentEvent::Operate { fence, session, framework, operations } => {
                self.check_word(fence, session)?;
                self.operate(cx, framework, &operations)
            }
            AgentEvent::AcknowledgeOperation { framework, operation, sequence } => {
                self.operation_acknowledged(cx, framework, operation, sequence)
            }
            AgentEvent::ReconcileOperations { operations } => {
                self.reconcile_operations(cx, &operations);
                Ok(())
            }
        }
    }

    /// The master has heard a later start of this agent. One that remembers nothing has lost its ledger,
    /// and counts its starts from further up until one is new. Any other is a copy or older, and does not
    /// start again: by starting once more than the other it would take its place.
    fn outlived(&mut self, cx: &mut Cx<'_>) -> &'static str {
        if !self.agent.is_none() {
            self.counters.outlived = self.persist(cx, Record::Outlived, true, &[]);
            return Refusal::LedgerOutlived.sentence();
        }
        let incarnation = self.counters.incarnation.saturating_mul(2);
        self.counters.incarnation = incarnation;
        self.counters.start_record =
            self.persist(cx, Record::Started { incarnation, boot: self.boot }, true, &[]);
        "a later start of this agent was heard, which its ledger does not know: it begins anew"
    }

    /// The word of the current session, and no older than what was obeyed.
    fn check_word(&self, fence: Fence, session: Session) -> Result<(), Refusal> {
        if planted(Mutant::ObeysAnyWord) {
            return Ok(());
        }
        if !fence.reaches(self.fence) {
            return Err(Refusal::StaleFence);
        }
        if !self.link.registered || session != self.link.session {
            return Err(Refusal::StaleSession);
        }
        Ok(())
    }

    /// The master opened the session: its word goes to the disk before it is obeyed.
    fn admitted(
        &mut self,
        cx: &mut Cx<'_>,
        fence: Fence,
        session: Session,
        agent: AgentId,
        cluster: u64,
        timeout_us: u64,
    ) -> Result<(), Refusal> {
        if session != self.link.session || self.link.registered {
            return Err(Refusal::StaleSession);
        }
        let ours = self.cluster == 0 || self.cluster == cluster;
        let same = self.agent.is_none() || self.agent == agent;
        if !fence.reaches(self.fence) {
            self.part(cx, Refusal::StaleFence.sentence());
            return Ok(());
        }
        if !ours || !same {
            self.part(cx, Refusal::OtherCluster.sentence());
            return Ok(());
        }
        self.link.timeout_us = timeout_us;
        if self.agent.is_none() || self.cluster == 0 {
            (self.agent, self.cluster) = (agent, cluster);
            self.persist(cx, Record::Admitted { cluster, agent }, true, &[]);
        }
        if fence != self.fence {
            self.fence = fence;
            self.persist(cx, Record::Fence(fence), true, &[]);
        }
        if core::mem::take(&mut self.counters.judged) {
            // A master that hears that its verdicts are kept does not give them again.
            let sync = !planted(Mutant::SettlesUnsynced);
            self.persist(cx, Record::Settled { session }, sync, &[]);
        }
        // Everything written so far, the effects of verdicts among it, comes before obedience.
        self.link.fence_record = self.counters.record;
        self.link.admitted = true;
        cx.emit(Output::Identity { agent, cluster, fence });
        self.obey(cx);
        Ok(())
    }

    /// Obeys once the word is on disk: says so, and tells what waited for a session.
    pub(super) fn obey(&mut self, cx: &mut Cx<'_>) {
        let ready = self.link.admitted
            && !self.link.registered
            && self.counters.persisted >= self.link.fence_record;
        if !ready {
            return;
        }
        self.link.registered = true;
        let session = self.link.session;
        self.tell_session(cx, session);
        self.tell_operators(cx);
        self.tell_master(cx, Head::AgentCall(AgentCall::Settled { session }), &[]);
        self.tell_draining(cx);
        self.tell_leaving(cx);
        self.tell_operations(cx);
        self.tell_all_again(cx);
        self.start_returning(cx);
    }

    /// What is to become of tasks that were reported.
    fn verdicts(
        &mut self,
        cx: &mut Cx<'_>,
        fence: Fence,
        session: Session,
        tasks: &Seq<'_, Verdict<'_>>,
    ) -> Result<(), Refusal> {
        if session != self.link.session {
            return Err(Refusal::StaleSession);
        }
        if !fence.reaches(self.fence) {
            return Err(Refusal::StaleFence);
        }
        for Verdict { task, fate } in tasks.iter() {
            let Some(id) = self.task_of(&task) else { continue };
            match fate {
                // What comes back is started when all verdicts are kept: see `obey`.
                Fate::Keep | Fate::Restart => {}
                Fate::Kill => {
                    self.counters.judged = true;
                    self.kill_task(cx, id, None);
                }
                Fate::Forget => {
                    self.counters.judged = true;
                    self.persist(cx, Record::Forgotten { task }, false, &[]);
                    self.forget_task(cx, id);
                }
            }
        }
        Ok(())
    }

    /// Bodies that the master lacks, in as many frames as they take.
    fn send_bodies(
        &mut self,
        cx: &mut Cx<'_>,
        session: Session,
        tasks: &Seq<'_, TaskOf<'_>>,
    ) -> Result<(), Refusal> {
        if session != self.link.session {
            return Err(Refusal::StaleSession);
        }
        let conn = self.link.conn;
        self.with_scratch(|agent, outer, _| {
            let mut tasks = tasks.iter().peekable();
            while tasks.peek().is_some() {
                let mut scratch = Scratch::new(outer);
                let mut list = scratch.list::<TaskBodies<'static>>();
                let mut with = heapless::Vec::<BodyRef, { TASKS_PER_HEAD_MAX }>::new();
                let mut bytes = 0u32;
                while let Some(&task) = tasks.peek() {
                    let row = agent.task_of(&task).and_then(|id| agent.tasks.get(id));
                    let public = row.map_or(BodyRef::NONE, |row| row.public);
                    let more = bytes.saturating_add(public.len);
                    let full = with.is_full() || (more > BODIES_BYTES && !with.is_empty());
                    if full && !public.is_none() {
                        break;
                    }
                    let _ = tasks.next();
                    let place = u16::try_from(with.len()).unwrap_or(u16::MAX);
                    let listed = !public.is_none()
                        && list.push(&TaskBodies { task, public: Body::at(place) }).is_ok();
                    if listed {
                        let _ = with.push(public);
                        bytes = more;
                    }
                }
                let head = AgentCall::Bodies { session, tasks: list.end() };
                cx.emit_with(Output::Send { conn, head: Head::AgentCall(head) }, &with);
            }
        });
        self.send_told(cx, session, tasks);
        Ok(())
    }

    /// What was told of tasks that the master does not know from before. What waits to be told of a
    /// task comes after that, when its turn comes.
    fn send_told(&mut self, cx: &mut Cx<'_>, session: Session, tasks: &Seq<'_, TaskOf<'_>>) {
        let conn = self.link.conn;
        self.with_scratch(|agent, outer, _| {
            let half = outer.len() / 2;
            let mut tasks = tasks.iter().peekable();
            while tasks.peek().is_some() {
                let mut scratch = Scratch::new(outer);
                let mut list = scratch.list::<TaskTold<'static>>();
                let mut with = heapless::Vec::<BodyRef, { TASKS_PER_HEAD_MAX }>::new();
                let mut bytes = 0u32;
                while let Some(&task) = tasks.peek() {
                    let row = agent.task_of(&task).and_then(|id| agent.tasks.get(id));
                    let row = row.filter(|row| row.told.wall_us > 0 && !row.state.is_terminal());
                    let public = row.map_or(BodyRef::NONE, |row| row.told.public);
                    let more = bytes.saturating_add(public.len);
                    let full = list.bytes() > half || more > BODIES_BYTES;
                    if full && !list.is_empty() {
                        break;
                    }
                    let _ = tasks.next();
                    let Some(row) = row else { continue };
                    let pushed = list.push(&told_of(task, &row, with.len()));
                    invariant!(pushed.is_ok(), "what was told of a task has no room");
                    if !public.is_none() {
                        let _ = with.push(public);
                    }
                    bytes = more;
                }
                if !list.is_empty() {
                    let head = AgentCall::Told { session, tasks: list.end() };
                    cx.emit_with(Output::Send { conn, head: Head::AgentCall(head) }, &with);
                }
            }
        });
    }

    /// Keeps what the master says a framework is.
    pub(super) fn know_framework(
        &mut self,
        cx: &mut Cx<'_>,
        held: &FrameworkHeld<'_>,
    ) -> Result<(), Refusal> {
        let known = self.framework_by_id(held.framework).ok_or(Refusal::UnknownFramework)?;
        self.check_framework(Some(known), held)?;
        if !self.is_described_so(known, held) {
            self.set_framework(known, held);
            self.persist(cx, Record::Framework(*held), false, &[]);
        }
        self.tell_framework_again(cx, known);
        Ok(())
    }

    fn is_described_so(&mut self, known: Id, held: &FrameworkHeld<'_>) -> bool {
        let Some(row) = self.frameworks.get(known) else { return false };
        self.with_scratch(|agent, outer, _| {
            let mut same = false;
            agent.with_framework(&row, outer, |is| same = is == held);
            same
        })
    }

    /// Keeps what everybody may see of a framework, while it has something here.
    fn describe_framework(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        public: BodyRef,
    ) -> Result<(), Refusal> {
        let known = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        let same = |row: &Framework| (row.public.len, row.public.hash) == (public.len, public.hash);
        if self.frameworks.get_ref(known).is_some_and(same) {
            return Ok(());
        }
        self.set_public(cx, known, public);
        self.record_public(cx, framework, public);
        Ok(())
    }

    /// Puts into a framework's row what everybody may see of it.
    pub(super) fn set_public(&mut self, cx: &mut Cx<'_>, id: Id, public: BodyRef) {
        let public = self.keep_body(cx, public);
        if let Some(row) = self.frameworks.get_mut(id) {
            let old = core::mem::replace(&mut row.public, public);
            self.drop_body(cx, old);
        }
    }

    pub(super) fn record_public(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        public: BodyRef,
    ) {
        let record = Record::Described { framework, public: named(public, 0) };
        let bodies = [public];
        let present = if public.is_none() { &[][..] } else { &bodies };
        self.persist(cx, record, false, present);
    }

    /// Room for a framework's description.
    pub(super) fn check_framework(
        &self,
        known: Option<Id>,
        held: &FrameworkHeld<'_>,
    ) -> Result<(), Refusal> {
        if known.is_none() && self.frameworks.room() == 0 {
            return Err(Refusal::FrameworksFull);
        }
        let texts = [held.name, held.user, held.principal, held.caller];
        if !self.names.has_room_for(texts.into_iter().chain(held.roles.iter())) {
            return Err(Refusal::NamesFull);
        }
        if held.roles.len() > self.roles.room() { Err(Refusal::RolesFull) } else { Ok(()) }
    }

    /// Writes a framework's description, which was checked, into its row.
    pub(super) fn set_framework(&mut self, id: Id, held: &FrameworkHeld<'_>) {
        let Some(mut old) = self.frameworks.get(id) else { return };
        let mut intern = |text: &str| {
            let name = self.names.intern(text);
            invariant!(name.is_ok(), "a name that was checked finds no room");
            name.unwrap_or_default()
        };
        let [name, user, principal, caller] =
            [held.name, held.user, held.principal, held.caller].map(&mut intern);
        let mut roles = List::EMPTY;
        for role in held.roles.iter() {
            let pushed = self.roles.push(&mut roles, intern(role));
            invariant!(pushed.is_ok(), "a role that was counted has no room");
        }
        while let Some(role) = self.roles.pop(&mut old.roles) {
            self.names.release_one(role);
        }
        for name in [old.name, old.user, old.principal, old.caller] {
            self.names.release_one(name);
        }
        if let Some(row) = self.frameworks.get_mut(id) {
            (row.name, row.user) = (name, user);
            (row.principal, row.caller) = (principal, caller);
            row.roles = roles;
            row.failover_us = held.failover_us;
            row.capabilities = held.capabilities;
            row.owned = held.owned;
        }
    }

    /// Forgets a framework that has nothing here any more.
    pub(super) fn tidy_framework(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some((id, mut row)) = self.frameworks.at(slot) else { return };
        if !row.tasks.is_empty() || !row.executors.is_empty() {
            return;
        }
        while let Some(role) = self.roles.pop(&mut row.roles) {
            self.names.release_one(role);
        }
        for name in [row.name, row.user, row.principal, row.caller] {
            self.names.release_one(name);
        }
        self.drop_body(cx, row.public);
        let hash = self.frameworks_by_id.hash(row.id.epoch.into(), row.id.number.into());
        self.frameworks_by_id.remove(&mut self.frameworks, 0, hash, id);
        self.frameworks.remove(id);
        if self.counters.recovered {
            self.persist(cx, Record::FrameworkGone { framework: row.id }, false, &[]);
        }
    }

    /// Runs `work` with a framework's description.
    pub(super) fn with_framework(
        &self,
        row: &Framework,
        memory: &mut [u8],
        work: impl FnOnce(&FrameworkHeld<'_>),
    ) {
        let [name, user, principal, caller] =
            [row.name, row.user, row.principal, row.caller].map(|name| self.text(name));
        let mut scratch = Scratch::new(memory);
        let mut roles = scratch.list::<&'static str>();
        for role in self.roles.iter(row.roles) {
            let _ = roles.push(&self.text(role).as_str());
        }
        work(&FrameworkHeld {
            framework: row.id,
            name: &name,
            user: &user,
            principal: &principal,
            caller: &caller,
            failover_us: row.failover_us,
            capabilities: row.capabilities,
            roles: roles.end(),
            owned: row.owned,
        });
    }

    pub(super) fn framework_by_id(&self, id: FrameworkId) -> Option<Id> {
        let hash = self.frameworks_by_id.hash(id.epoch.into(), id.number.into());
        self.frameworks_by_id.find(&self.frameworks, 0, hash, |row| row.id == id)
    }

    pub(super) fn framework_id(&self, slot: u32) -> FrameworkId {
        self.frameworks.row(slot).map_or(FrameworkId::NONE, |row| row.id)
    }

    /// The task that a framework calls so.
    pub(super) fn task_of(&self, task: &TaskOf<'_>) -> Option<Id> {
        let framework = self.framework_by_id(task.framework)?;
        let name = self.names.find(task.task).filter(|name| !name.is_empty())?;
        let hash = self.tasks_by_name.hash(framework.index.into(), name.place().into());
        self.tasks_by_name
            .find(&self.tasks, 0, hash, |row| (row.name, row.framework) == (name, framework.index))
    }

    /// Runs `work` with what names a task.
    pub(super) fn with_task_of<T>(
        &mut self,
        task: &Task,
        work: impl FnOnce(&mut Self, TaskOf<'_>) -> T,
    ) -> T {
        let name = self.text(task.name);
        let framework = self.framework_id(task.framework);
        work(self, TaskOf { framework, task: &name })
    }

    /// A framework is no more: everything of it ends, and what it would have acknowledged is told
    /// to the master, which acknowledges for it.
    fn end_framework(&mut self, cx: &mut Cx<'_>, framework: FrameworkId) -> Result<(), Refusal> {
        let id = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        if let Some(row) = self.frameworks.get_mut(id) {
            row.leaving = true;
        }
        let mut next = self.frameworks.get_ref(id).and_then(|row| row.tasks.first(&self.tasks));
        while let Some(task) = next {
            next = after(&self.tasks, OF_FRAMEWORK, task);
            self.kill_task(cx, task, None);
        }
        let mut next =
            self.frameworks.get_ref(id).and_then(|row| row.executors.first(&self.executors));
        while let Some(executor) = next {
            next = after(&self.executors, OF_FRAMEWORK, executor);
            self.end_executor(cx, executor);
        }
        self.tidy_framework(cx, id.index);
        Ok(())
    }
}

/// Frameworks that one report names at the most: with their roles, what a master takes at once.
const FRAMEWORKS_PER_PART: usize = 16;

/// What was told of a task, whose body is at this place of its frame.
fn told_of<'a>(task: TaskOf<'a>, row: &Task, place: usize) -> TaskTold<'a> {
    let told = row.told;
    TaskTold {
        task,
        state: told.state,
        source: told.source,
        reason: told.has_reason.then_some(told.reason),
        uuid: told.sequence,
        wall_us: told.wall_us,
        healthy: healthy(told.health),
        public: named(told.public, u16::try_from(place).unwrap_or(u16::MAX)),
    }
}

fn hash_of(body: BodyRef) -> Hash {
    Hash { len: body.len, hash: body.hash }
}
