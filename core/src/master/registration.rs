//! Agents: how they register, what they report, and how they are lost.
//!
//! A registration opens a session: only what names it counts from then on, and launches of older
//! ones are refused by the agent. The agent then reports what it holds, part by part; what the
//! master thought it has and nobody reported is given up. Mesos: `Master::registerSlave`,
//! `reregisterSlave`, `markUnreachable`.

use super::image::key_hash;
use super::rows::{
    Agent, AgentState, BY_ID, BY_KEY, Executor, Farewell, Framework, FrameworkState, OF_AGENT,
    OF_FRAMEWORK, Outranks, RoleOf, Task, told_in,
};
use super::{CHORE_BATCH, Cx, Fact, Master, Output};
use crate::Refusal;
use crate::allocator::hosts::Description;
use crate::index::after;
use crate::limits::TASKS_PER_HEAD_MAX;
use crate::names::Name;
use crate::registry::rows::Life;
use crate::resources::{Holding, Quantities};
use crate::table::Id;
use crate::wire::agent::{
    AgentEvent, ExecutorHeld, Fate, FrameworkHeld, Register, Report, TaskBodies, TaskHeld,
    TaskTold, Verdict,
};
use crate::wire::event::AgentInfo;
use crate::wire::link::Parting;
use crate::wire::resource::{AttributeValue, Resource, Value};
use crate::wire::task::{Reason, Source, TaskOf, TaskState};
use crate::wire::{AgentId, BodyRef, Fence, FrameworkId, Scratch, Seq, Session};

impl Master<'_> {
    /// Opens a session. O(attributes + resources + outstanding offers of the agent).
    pub(super) fn register(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        register: &Register<'_>,
    ) -> Result<(), Refusal> {
        let known = self.check_registration(register);
        if known == Err(Refusal::StaleFence)
            && register.cluster == self.cluster
            && let Some(id) = self.agent_by_key(&register.key)
        {
            self.hear_outranked(cx, id, register.seen);
        }
        let id = match known? {
            Some(id) => {
                self.end_session(cx, id, conn);
                id
            }
            None => self.new_agent(cx, register)?,
        };
        self.describe_agent(id, conn, register);
        let has = register.resources;
        let total = self.pool.take(&mut self.names, &has);
        if let Some(row) = self.agents.get_mut(id) {
            row.total = total;
        }
        if let Some(row) = self.conn_mut(conn) {
            row.who = id;
        }
        self.agent_fact(cx, id, register);
        self.set_agent_state(cx, id, AgentState::Registering);
        self.agent_timers.clear(id.index);
        if register.reports == 0 {
            self.settle(cx, id);
        }
        Ok(())
    }

    /// An agent has obeyed a later word than this master's. One alone may lie, or have been stolen: this
    /// master believes more than half of those that it counts as its own. O(agents).
    fn hear_outranked(&mut self, cx: &mut Cx<'_>, id: Id, seen: Fence) {
        let ours = self.fence();
        let later = seen.generation.number > ours.generation.number;
        let outranks = if later { Outranks::Generation } else { Outranks::Reign };
        if let Some(row) = self.agents.get_mut(id) {
            row.outranks = outranks;
        }
        let own = |row: &&Agent| !matches!(row.state, AgentState::Unreachable | AgentState::Gone);
        let rows = || self.agents.iter().map(|(_, row)| row).filter(own);
        let all = rows().count();
        let most = |outranks: Outranks| {
            rows().filter(|row| row.outranks >= outranks).count().saturating_mul(2) > all
        };
        if most(Outranks::Generation) {
            cx.emit(Output::Outranked { fence: seen });
        } else if most(Outranks::Reign) {
            let fence = Fence { epoch: ours.epoch.saturating_add(1), ..ours };
            cx.emit(Output::Outranked { fence });
        }
    }

    /// Everything that can refuse a registration; the row it is of, if it is known.
    fn check_registration(&self, register: &Register<'_>) -> Result<Option<Id>, Refusal> {
        let cluster = self.cluster;
        if register.cluster != 0 && register.cluster != cluster {
            return Err(Refusal::OtherCluster);
        }
        if !self.fence().reaches(register.seen) {
            return Err(Refusal::StaleFence);
        }
        let known = self.agent_by_key(&register.key);
        let row = known.and_then(|id| self.agents.get_ref(id));
        if let Some(row) = row {
            let same = register.agent.is_none() || register.agent == row.id;
            if !same {
                return Err(Refusal::KeyMismatch);
            }
            if register.session <= row.session {
                return Err(Refusal::StaleSession);
            }
            let given_up = matches!(row.state, AgentState::Losing | AgentState::Gone);
            if given_up && row.farewell == Farewell::Gone {
                return Err(Refusal::AgentGone);
            }
        } else if self.agent_by_id(register.agent).is_some() {
            return Err(Refusal::KeyMismatch);
        } else if self.agents.room() == 0 && self.oldest_unreachable().is_none() {
            return Err(Refusal::AgentsFull);
        }
        if self.is_down(register.hostname, register.address) {
            return Err(Refusal::Down);
        }
        let texts = register.attributes.iter().flat_map(|attribute| {
            let text = match attribute.value {
                AttributeValue::Text(text) => text,
                AttributeValue::Scalar(_) | AttributeValue::Ranges(_) => "",
            };
            [attribute.name, text]
        });
        let own = [register.hostname, register.region, register.zone, register.address];
        if !self.names.has_room_for(own.into_iter().chain(texts)) {
            return Err(Refusal::NamesFull);
        }
        // Whoever says the same again needs no room for it.
        let same = known.is_some_and(|id| {
            self.allocator.says_the_same(&self.names, id.index, &description(register))
        });
        if !same && !self.allocator.has_room_for_attributes(&register.attributes) {
            return Err(Refusal::NamesFull);
        }
        self.check_has(register)?;
        Ok(known)
    }

    /// Room for all that an agent has, twice: in all, and what of it is free.
    fn check_has(&self, register: &Register<'_>) -> Result<(), Refusal> {
        let need = self.pool.admit(&self.names, &register.resources)?;
        if need.saturating_mul(2) > self.pool.room() {
            return Err(Refusal::ResourcesFull);
        }
        self.check_totals(&register.resources)
    }

    /// The cluster can count that much more, and knows the roles that it is reserved for.
    pub(super) fn check_totals(&self, resources: &Seq<'_, Resource<'_>>) -> Result<(), Refusal> {
        let mut sums = Quantities::NONE;
        self.add_wire(&mut sums, resources);
        self.allocator.has_room_for_agent(&sums)?;
        let roles = resources.iter().flat_map(|resource| resource.traits.reservations.iter());
        self.allocator.has_room_for_paths(&self.names, roles.map(|layer| layer.role))
    }

    /// Adds the amounts of a list, of kinds that there is anything of: others cannot be too many.
    fn add_wire(&self, sums: &mut Quantities, list: &Seq<'_, Resource<'_>>) {
        for resource in list.iter() {
            let kind = self.pool.kind(&self.names, resource.name);
            if let (Value::Scalar(amount), Some(kind)) = (resource.value, kind) {
                sums.set(kind, sums.of(kind).saturating_add(amount.milli()));
            }
        }
    }

    /// A row for an agent never seen, or not since this master began to lead.
    fn new_agent(&mut self, cx: &mut Cx<'_>, register: &Register<'_>) -> Result<Id, Refusal> {
        if self.agents.room() == 0
            && let Some(oldest) = self.oldest_unreachable()
        {
            self.forget_agent(cx, oldest);
            cx.fact(Fact::AgentGone { row: oldest });
        }
        let id = if register.agent.is_none() {
            self.counters.agent = self.counters.agent.checked_add(1).ok_or(Refusal::AgentsFull)?;
            AgentId { epoch: self.fence().epoch, number: self.counters.agent }
        } else {
            register.agent
        };
        let row = Agent { id, key: register.key, ..bytemuck::Zeroable::zeroed() };
        let row = self.agents.insert(row).map_err(|_| Refusal::AgentsFull)?;
        self.index_agent(row);
        Ok(row)
    }

    /// Ends whatever session an agent had: its offers, its place with the allocator, its
    /// connection. Its tasks stay what they are.
    fn end_session(&mut self, cx: &mut Cx<'_>, id: Id, new_conn: Id) {
        self.rescind_agent_offers(cx, id);
        let Some(row) = self.agents.get(id) else { return };
        if let Some(old) = row.conn.some().filter(|old| *old != new_conn) {
            if let Some(conn) = self.conn_mut(old) {
                conn.who = Id::NONE;
            }
            let message = "the agent registered on another connection";
            cx.emit(Output::Close { conn: old, reason: Parting::Replaced, message });
        }
        if row.has_chore() {
            self.counters.chores = self.counters.chores.saturating_sub(1);
        }
        // What was refused stays refused, unless it says other things of itself now.
        let (allocator, mut world) = self.world();
        allocator.remove_agent(&mut world, id.index, true);
        let mut total = row.total;
        self.pool.clear(&mut self.names, &mut total);
        if let Some(row) = self.agents.get_mut(id) {
            row.total = Holding::EMPTY;
        }
    }

    fn describe_agent(&mut self, id: Id, conn: Id, register: &Register<'_>) {
        let address = self.names.intern(register.address);
        invariant!(address.is_ok(), "a name that was checked finds no room");
        let (allocator, mut world) = self.world();
        if allocator.describe(world.names, id.index, &description(register)) {
            allocator.forget_refusals(&mut world, id.index);
        }
        let Some(row) = self.agents.get_mut(id) else { return };
        let before = core::mem::replace(&mut row.address, address.unwrap_or(Name::EMPTY));
        row.conn = conn;
        row.session = register.session;
        (row.reports, row.reported) = (register.reports, 0);
        (row.tasks_max, row.task_kinds) = (register.tasks_max, register.task_kinds);
        row.told = Id::NONE;
        row.farewell = Farewell::Silent;
        row.departing = false;
        row.outranks = Outranks::Nothing;
        self.names.release_one(before);
    }

    fn agent_fact(&mut self, cx: &mut Cx<'_>, id: Id, register: &Register<'_>) {
        let Some(row) = self.agents.get_ref(id) else { return };
        let info = AgentInfo {
            agent: row.id,
            hostname: register.hostname,
            region: register.region,
            zone: register.zone,
            attributes: register.attributes,
            address: register.address,
        };
        cx.fact(Fact::Agent {
            row: id,
            info,
            resources: register.resources,
            session: register.session,
            tasks_max: register.tasks_max,
            task_kinds: register.task_kinds,
        });
    }

    /// Takes in a part of what an agent holds. O(what it reports).
    ///
    /// A part that finds no room is refused whole, and with it the registration: the agent comes
    /// again with a new session.
    pub(super) fn report(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        report: &Report<'_>,
    ) -> Result<(), Refusal> {
        let row = self.in_session(agent, report.session)?;
        let in_turn = row.state == AgentState::Registering
            && report.part == row.reported
            && report.part < row.reports;
        if !in_turn {
            return Err(Refusal::OutOfTurn);
        }
        self.check_report(agent, report)?;
        for framework in report.frameworks.iter() {
            self.framework_held(cx, agent, &framework);
        }
        for executor in report.executors.iter() {
            self.executor_held(cx, agent, &executor);
        }
        for task in report.tasks.iter() {
            self.meet(cx, agent, &task);
            self.task_held(cx, agent, &task);
        }
        self.answer_report(cx, agent, report);
        if let Some(row) = self.agents.get_mut(agent) {
            row.reported = row.reported.saturating_add(1);
        }
        if report.part.saturating_add(1) == row.reports {
            self.settle(cx, agent);
        }
        Ok(())
    }

    /// Room for everything of a report that is not known yet.
    fn check_report(&self, agent: Id, report: &Report<'_>) -> Result<(), Refusal> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let new = |id: FrameworkId| self.framework_by_id(id).is_none() && !self.was_removed(id);
        let frameworks = report.frameworks.iter().filter(|held| new(held.framework));
        if count(frameworks.clone().count()) > self.frameworks.room() {
            return Err(Refusal::FrameworksFull);
        }
        let executors = report.executors.iter().filter(|held| {
            let framework = self.framework_by_id(held.framework);
            framework.is_none_or(|id| self.executors_of(id, held.executor).is_none())
        });
        if count(executors.clone().count()) > self.executors.room() {
            return Err(Refusal::ExecutorsFull);
        }
        // It is asked once for each of them which are new.
        let mut are_new = heapless::Vec::<bool, TASKS_PER_HEAD_MAX>::new();
        for held in report.tasks.iter() {
            let is_new = self.framework_by_id(held.framework).is_none_or(|id| {
                self.task_named(id, held.task)
                    .is_none_or(|known| self.gives_way(agent, known, &held))
            });
            are_new.push(is_new).map_err(|_| Refusal::TasksFull)?;
        }
        let tasks = report.tasks.iter().zip(&are_new);
        let tasks = tasks.filter_map(|(held, &is_new)| is_new.then_some(held));
        if count(tasks.clone().count()) > self.tasks.room() {
            return Err(Refusal::TasksFull);
        }
        self.check_report_roles(report)?;
        let names = frameworks
            .flat_map(|held| [held.name, held.user, held.principal, held.caller])
            .chain(executors.clone().map(|held| held.executor))
            .chain(tasks.clone().map(|held| held.task));
        if !self.names.has_room_for(names) {
            return Err(Refusal::NamesFull);
        }
        let (mut parts, mut shared) = (0u32, 0u32);
        let mut sums = Quantities::NONE;
        let of_executors = executors.map(|held| held.resources);
        for resources in tasks.map(|held| held.resources).chain(of_executors) {
            parts = parts.saturating_add(self.pool.admit(&self.names, &resources)?);
            let volumes = resources.iter().filter(|resource| resource.traits.shared);
            shared = volumes.fold(shared, |n, _| n.saturating_add(1));
            self.add_wire(&mut sums, &resources);
        }
        self.allocator.has_room_for_agent(&sums)?;
        // A cut in what is free may need a part more for each.
        let full =
            parts.saturating_mul(2) > self.pool.room() || shared > self.allocator.claims_room();
        if full { Err(Refusal::ResourcesFull) } else { Ok(()) }
    }

    /// Room for every framework in a role that is not known yet.
    fn check_report_roles(&self, report: &Report<'_>) -> Result<(), Refusal> {
        let of_frameworks = report
            .frameworks
            .iter()
            .flat_map(|held| held.roles.iter().map(move |role| (held.framework, role)));
        let of_executors = report.executors.iter().map(|held| (held.framework, held.role));
        let of_tasks = report.tasks.iter().map(|held| (held.framework, held.role));
        let mut pairs = heapless::Vec::<(FrameworkId, &str), PAIRS_MAX>::new();
        let mut last = None;
        for (id, role) in of_frameworks.chain(of_executors).chain(of_tasks) {
            // Most are one framework's tasks in one role.
            if last.replace((id, role)) == Some((id, role)) {
                continue;
            }
            let framework = self.framework_by_id(id);
            let known = framework
                .is_some_and(|id| self.allocator.client(&self.names, role, id.index).is_some());
            if !known && !pairs.contains(&(id, role)) {
                pairs.push((id, role)).map_err(|_| Refusal::RolesFull)?;
            }
        }
        if pairs.len() > usize::try_from(self.roles.room()).unwrap_or(usize::MAX) {
            return Err(Refusal::RolesFull);
        }
        self.allocator.has_room_for_roles(&self.names, pairs.iter().map(|(_, role)| *role))
    }

    /// A framework that some agent holds something of: known from now on. One that describes itself
    /// otherwise by now: the agent hears of it.
    fn framework_held(&mut self, cx: &mut Cx<'_>, agent: Id, held: &FrameworkHeld<'_>) {
        if let Some(known) = self.framework_by_id(held.framework) {
            let here = self.frameworks.get_ref(known).is_some_and(|row| row.conn.some().is_some());
            let differs = here && self.with_held(known, |_, is, _| is != held);
            if differs && cx.has_room() {
                self.tell_held(cx, agent, known);
            }
            return;
        }
        if self.was_removed(held.framework) || !self.is_owned_by(held.framework, held.caller) {
            return;
        }
        let mut intern = |text: &str| self.names.intern(text).unwrap_or(Name::EMPTY);
        let row = Framework {
            id: held.framework,
            state: FrameworkState::Known,
            owned: held.owned,
            caller: intern(held.caller),
            name: intern(held.name),
            user: intern(held.user),
            principal: intern(held.principal),
            failover_us: held.failover_us,
            capabilities: held.capabilities,
            ..bytemuck::Zeroable::zeroed()
        };
        let Ok(id) = self.frameworks.insert(row) else { return };
        self.index_framework(id);
        self.heard_of(held.framework);
        for role in held.roles.iter() {
            self.client_for(id, role, false);
        }
        // It is given its time to come back, as if it had just gone.
        self.arm_failover(cx.now, id);
        self.framework_fact(cx, id);
    }

    fn executor_held(&mut self, cx: &mut Cx<'_>, agent: Id, held: &ExecutorHeld<'_>) {
        let Some(framework) = self.framework_by_id(held.framework) else { return };
        let seen = self.agents.get_ref(agent).map_or(0, |row| told_in(row.session));
        if let Some(known) = self.executor_named(framework, agent, held.executor) {
            if let Some(row) = self.executors.get_mut(known) {
                row.seen = seen;
            }
            return;
        }
        let Some(client) = self.client_for(framework, held.role, false) else { return };
        let body = BodyRef { slot: 0, len: held.body.len, hash: held.body.hash };
        let holding = self.pool.take(&mut self.names, &held.resources);
        self.add_executor(cx, framework, agent, client, held.executor, holding, body);
        if let Some(known) = self.executor_named(framework, agent, held.executor)
            && let Some(row) = self.executors.get_mut(known)
        {
            row.seen = seen;
        }
        let (allocator, world) = self.world();
        allocator.charge(&world, agent.index, client, holding);
    }

    pub(super) fn task_held(&mut self, cx: &mut Cx<'_>, agent: Id, held: &TaskHeld<'_>) {
        let Some(framework) = self.framework_by_id(held.framework) else { return };
        let (seen, returned) = self
            .agents
            .get_ref(agent)
            .map_or((0, false), |row| (told_in(row.session), row.life == Life::Unreachable));
        if let Some(known) = self.task_named(framework, held.task) {
            let here = self.tasks.get_ref(known).is_some_and(|row| row.agent == agent.index);
            if here {
                if let Some(row) = self.tasks.get_mut(known) {
                    (row.seen, row.container) = (seen, held.container);
                    row.attempt = held.attempt;
                    row.returned |= returned;
                }
                let before = self.tasks.get_ref(known).map(|row| row.state);
                self.move_to(known, shown(held), held.state.is_terminal());
                if before != Some(held.state) {
                    self.task_state_fact(cx, known, held.state, Source::Agent, None, "");
                }
            }
            return;
        }
        let Some(client) = self.client_for(framework, held.role, false) else { return };
        let executor = self.executor_named(framework, agent, held.executor);
        let charged = !held.state.is_terminal();
        let mut holding = Holding::EMPTY;
        if charged {
            holding = self.pool.take(&mut self.names, &held.resources);
            let (allocator, world) = self.world();
            allocator.charge(&world, agent.index, client, holding);
        }
        let Ok(name) = self.names.intern(held.task) else { return };
        let row = Task {
            name,
            framework: framework.index,
            agent: agent.index,
            executor: executor.map_or(0, |id| id.index.saturating_add(1)),
            client,
            state: held.state,
            charged,
            attempt: held.attempt,
            seen,
            returned,
            container: held.container,
            held: holding,
            ..bytemuck::Zeroable::zeroed()
        };
        let Some(task) = self.add_task(row) else { return };
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.lost = row.lost.saturating_sub(1);
        }
        self.task_fact(cx, task, held.role, held.resources);
        if let Some(row) = self.tasks.get_mut(task) {
            row.state = shown(held);
        }
        if let Some(executor) = executor.filter(|_| charged) {
            self.count_executor_task(executor, 1);
        }
        self.tell_returned(cx, framework, task, held.state);
    }

    /// A framework hears of a task that this master did not know, or that came back.
    fn tell_returned(&mut self, cx: &mut Cx<'_>, framework: Id, task: Id, state: TaskState) {
        if state.is_terminal() {
            // Its agent tells the end itself, until it is acknowledged.
            return;
        }
        let message = "The agent of the task registered again";
        self.tell_task(cx, framework, task, state, Reason::AgentReregistered, message);
    }

    /// What is to become of reported tasks whose framework is gone, or that live elsewhere, and
    /// which bodies this master lacks.
    fn answer_report(&mut self, cx: &mut Cx<'_>, agent: Id, report: &Report<'_>) {
        let fence = self.fence();
        let session = report.session;
        let last = self
            .agents
            .get_ref(agent)
            .is_some_and(|row| report.part.saturating_add(1) == row.reports);
        self.with_scratch(|master, outer, inner| {
            let mut outer = Scratch::new(outer);
            let mut inner = Scratch::new(inner);
            let mut verdicts = outer.list::<Verdict<'static>>();
            let mut wanted = inner.list::<TaskOf<'static>>();
            for held in report.tasks.iter() {
                let task = TaskOf { framework: held.framework, task: held.task };
                let framework = master.framework_by_id(held.framework);
                let known = framework.and_then(|framework| master.task_named(framework, held.task));
                let row = known.and_then(|known| master.tasks.get_ref(known));
                let here = row.is_some_and(|row| row.agent == agent.index);
                let leaving = framework.and_then(|id| master.frameworks.get_ref(id));
                let leaving = leaving.is_none_or(|row| row.state == FrameworkState::Leaving);
                let given_up = master
                    .agents
                    .get_ref(agent)
                    .is_some_and(|row| row.life == Life::Unreachable && held.waits_alone());
                let fate = match (here, held.state.is_terminal()) {
                    // Its framework may have another one by now.
                    (true, false) if given_up => Some(Fate::Kill),
                    (false, true) => Some(Fate::Forget),
                    // Told next, and decided then.
                    (false, false) if master.tells_how_long(agent, &held) => None,
                    (false, false) => Some(Fate::Kill),
                    (true, false) if leaving => Some(Fate::Kill),
                    (true, _) => None,
                };
                // As long as the report itself, so it fits where that fitted.
                if let Some(fate) = fate {
                    let _ = verdicts.push(&Verdict { task, fate });
                } else if row.is_some_and(|row| row.public.is_none()) && held.public.len > 0 {
                    let _ = wanted.push(&task);
                }
            }
            let (verdicts, wanted) = (verdicts.end(), wanted.end());
            // Asked first: an agent that has all verdicts is confirmed at once, and what was told
            // before counts only until then.
            if !wanted.is_empty() {
                master.order(cx, agent, AgentEvent::Want { session, tasks: wanted }, &[]);
            }
            if !verdicts.is_empty() || last {
                let event = AgentEvent::Verdicts { fence, session, tasks: verdicts, last };
                master.order(cx, agent, event, &[]);
            }
        });
    }

    /// Bodies that were asked for.
    pub(super) fn bodies(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
        tasks: &Seq<'_, TaskBodies<'_>>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        self.in_session(agent, session)?;
        for TaskBodies { task, public } in tasks.iter() {
            let framework = self.framework_by_id(task.framework);
            let known = framework.and_then(|framework| self.task_named(framework, task.task));
            let lacking = known.and_then(|known| self.tasks.get(known));
            let (Some(known), Some(row)) = (known, lacking) else { continue };
            if row.agent == agent.index && row.public.is_none() {
                let public = self.keep_body(cx, public.of(bodies));
                if let Some(row) = self.tasks.get_mut(known) {
                    row.public = public;
                }
                self.task_fact_again(cx, known);
            }
        }
        Ok(())
    }

    /// What was told of tasks before this master led, for whoever reads. O(tasks).
    pub(super) fn told(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
        tasks: &Seq<'_, TaskTold<'_>>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        // As long as it is not confirmed, an agent tells nothing new.
        let is_early = self.in_session(agent, session)?.state != AgentState::Active;
        for told in tasks.iter() {
            let framework = self.framework_by_id(told.task.framework);
            let known = framework.and_then(|framework| self.task_named(framework, told.task.task));
            let row = known.and_then(|known| self.tasks.get_ref(known));
            // Whatever else became of it is newer.
            let lasts = |row: &Task| is_early && !row.state.is_terminal();
            let same =
                |row: &Task| row.agent == agent.index && (row.state == told.state || lasts(row));
            if let Some(known) = known.filter(|_| row.is_some_and(same)) {
                self.told_fact(cx, known, &told, bodies);
            }
        }
        Ok(())
    }

    /// The agent keeps what it was told, whose word counts and what is to become of its tasks: from
    /// now on it may be offered. O(tasks of the agent), for kills that it missed.
    pub(super) fn settled(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
    ) -> Result<(), Refusal> {
        let row = self.in_session(agent, session)?;
        if row.state == AgentState::Confirming {
            self.set_agent_state(cx, agent, AgentState::Active);
            self.admit_again(cx, agent);
            self.recover_some(1, cx.now);
            self.allocator.set_agent_active(&self.pool, agent.index, true);
            self.kill_again(cx, agent);
            self.ask_for_operations(cx, agent);
            self.plan_agent(cx, agent);
            self.order_drain(cx, agent);
            self.check_drained(cx, agent);
        }
        Ok(())
    }

    /// Every report came: gives up what was not in them, over as many ticks as it takes.
    fn settle(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let first = self.agents.get_ref(agent).and_then(|row| row.tasks.first(&self.tasks));
        if let Some(row) = self.agents.get_mut(agent) {
            row.cursor = first.map_or(0, |id| id.index.saturating_add(1));
        }
        self.counters.chores = self.counters.chores.saturating_add(1);
        self.set_agent_state(cx, agent, AgentState::Settling);
    }

    /// Goes on with an agent that settles or is being lost. True when it is done.
    pub(super) fn do_agent_chore(&mut self, cx: &mut Cx<'_>, agent: Id) -> bool {
        let Some(row) = self.agents.get(agent) else { return true };
        if row.state == AgentState::Settling {
            self.settle_some(cx, agent)
        } else {
            !row.has_chore() || self.lose_some(cx, agent)
        }
    }

    fn settle_some(&mut self, cx: &mut Cx<'_>, agent: Id) -> bool {
        let Some(Agent { session, cursor, .. }) = self.agents.get(agent) else { return true };
        let mut next = cursor.checked_sub(1).and_then(|slot| self.tasks.id_at(slot));
        for _ in 0..CHORE_BATCH {
            let Some(task) = next else {
                self.confirm(cx, agent);
                return true;
            };
            next = after(&self.tasks, OF_AGENT, task);
            if self.tasks.get_ref(task).is_some_and(|row| row.seen != told_in(session)) {
                let message = "The agent registered again without the task";
                self.lose_task(cx, task, Reason::Reconciliation, TaskState::Dropped, message);
            }
        }
        if let Some(row) = self.agents.get_mut(agent) {
            row.cursor = next.map_or(0, |id| id.index.saturating_add(1));
        }
        false
    }

    /// A settled agent is told that it is registered.
    fn confirm(&mut self, cx: &mut Cx<'_>, agent: Id) {
        self.drop_unseen_executors(cx, agent);
        let Some(row) = self.agents.get(agent) else { return };
        let total = row.total;
        if let Some(row) = self.agents.get_mut(agent) {
            row.total = Holding::EMPTY;
        }
        let remote = self.is_remote(agent);
        let (allocator, mut world) = self.world();
        allocator.add_agent(&mut world, agent.index, remote, total, Holding::EMPTY);
        allocator.set_agent_active(world.pool, agent.index, false);
        self.count_free(agent);
        self.bar_closed(agent);
        self.set_agent_state(cx, agent, AgentState::Confirming);
        self.admit(cx, agent);
        let event = AgentEvent::Registered {
            fence: self.fence(),
            session: row.session,
            agent: row.id,
            cluster: self.cluster,
            timeout_us: self.config.agent_timeout_us,
        };
        self.order(cx, agent, event, &[]);
        self.tell_of_frameworks(cx, agent);
    }

    /// Counts what is free of an agent of which nothing is on offer. O(tasks + executors there).
    pub(super) fn count_free(&mut self, agent: Id) {
        let total = self.allocator.agent_holdings(agent.index).map_or(Holding::EMPTY, |has| has.0);
        // Without room for what is free, nothing is: the agent keeps its tasks.
        let free = self.pool.copy(&mut self.names, total).unwrap_or(Holding::EMPTY);
        let (free, debt) = self.without_used(agent, free);
        let (allocator, mut world) = self.world();
        allocator.set_free(&mut world, agent.index, free, debt);
    }

    /// True when master and agent both say where they are, and not the same (Mesos:
    /// `isRemoteSlave`).
    fn is_remote(&self, agent: Id) -> bool {
        let (here, there) = (self.counters.region, self.allocator.host(agent.index).region);
        !here.is_empty() && !there.is_empty() && here != there
    }

    /// What is left of `free` after all that lives on the agent, and what lives there beyond it.
    /// O(tasks + executors there).
    fn without_used(&mut self, agent: Id, mut free: Holding) -> (Holding, u32) {
        let mut debt = 0;
        let Some(row) = self.agents.get(agent) else { return (free, debt) };
        let mut next = row.tasks.first(&self.tasks);
        while let Some(id) = next {
            next = after(&self.tasks, OF_AGENT, id);
            if let Some(task) = self.tasks.get(id).filter(|task| task.charged) {
                self.pool.subtract_owing(&mut self.names, &mut free, task.held, &mut debt);
            }
        }
        let mut next = row.executors.first(&self.executors);
        while let Some(id) = next {
            next = after(&self.executors, OF_AGENT, id);
            if let Some(executor) = self.executors.get(id) {
                self.pool.subtract_owing(&mut self.names, &mut free, executor.held, &mut debt);
            }
        }
        (free, debt)
    }

    /// Kills that were asked for while the agent was away, asked again.
    fn kill_again(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get(agent) else { return };
        let mut next = row.tasks.first(&self.tasks);
        while let Some(id) = next.filter(|_| cx.has_room()) {
            next = after(&self.tasks, OF_AGENT, id);
            let Some(task) = self.tasks.get(id) else { continue };
            let framework = self.frameworks.row(task.framework).map(|row| row.id);
            if let (true, Some(framework)) = (task.killed && !task.state.is_terminal(), framework) {
                let name = self.text(task.name);
                let task = TaskOf { framework, task: &name };
                self.order(cx, agent, AgentEvent::Kill { task, grace_us: None }, &[]);
            }
        }
    }

    fn drop_unseen_executors(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get(agent) else { return };
        let mut next = row.executors.first(&self.executors);
        while let Some(id) = next {
            next = after(&self.executors, OF_AGENT, id);
            if self.executors.get_ref(id).is_some_and(|e| e.seen != told_in(row.session)) {
                self.remove_executor(cx, id);
            }
        }
    }

    /// An agent has more or less than it registered with: its offers end, and what is free of the
    /// new total is offered anew.
    pub(super) fn totals(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
        resources: &Seq<'_, Resource<'_>>,
    ) -> Result<(), Refusal> {
        let row = self.in_session(agent, session)?;
        if row.state != AgentState::Active {
            return Err(Refusal::OutOfTurn);
        }
        let need = self.pool.admit(&self.names, resources)?;
        let has = self.allocator.agent_holdings(agent.index).map_or(Holding::EMPTY, |has| has.0);
        let parts = need.saturating_add(self.pool.parts_of(has)).saturating_add(16);
        if parts.saturating_mul(4) > self.pool.room() {
            return Err(Refusal::ResourcesFull);
        }
        self.check_totals(resources)?;
        self.rescind_agent_offers(cx, agent);
        let total = self.pool.take(&mut self.names, resources);
        let (allocator, mut world) = self.world();
        let set = allocator.set_total(&mut world, agent.index, total);
        invariant!(set.is_ok(), "what was checked finds no room");
        self.agent_resources_fact(cx, agent);
        Ok(())
    }

    pub(super) fn set_agent_state(&mut self, cx: &mut Cx<'_>, agent: Id, state: AgentState) {
        if let Some(row) = self.agents.get_mut(agent) {
            let before = core::mem::replace(&mut row.state, state);
            if before == AgentState::Recovered && state != before {
                self.counters.recovered = self.counters.recovered.saturating_sub(1);
            }
            cx.fact(Fact::AgentState { row: agent, state });
        }
    }

    /// An agent that speaks in its newest session. `UnknownAgent`, `StaleSession`.
    pub(super) fn in_session(&self, agent: Id, session: Session) -> Result<Agent, Refusal> {
        let row = self.agents.get(agent).ok_or(Refusal::UnknownAgent)?;
        if session == row.session { Ok(row) } else { Err(Refusal::StaleSession) }
    }

    pub(super) fn agent_by_id(&self, id: AgentId) -> Option<Id> {
        let [by_id, _] = &self.agents_by;
        let hash = by_id.hash(id.epoch.into(), id.number.into());
        by_id.find(&self.agents, BY_ID, hash, |row| row.id == id)
    }

    pub(super) fn agent_by_key(&self, key: &[u8; 32]) -> Option<Id> {
        let [_, by_key] = &self.agents_by;
        by_key.find(&self.agents, BY_KEY, key_hash(by_key, key), |row| row.key == *key)
    }

    /// The client that a framework is in a role, made if need be.
    pub(super) fn client_for(
        &mut self,
        framework: Id,
        role: &str,
        subscribed: bool,
    ) -> Option<u32> {
        if let Some(client) = self.allocator.client(&self.names, role, framework.index) {
            return Some(client);
        }
        let capabilities = self.frameworks.get_ref(framework)?.capabilities;
        let names = &mut self.names;
        let client =
            self.allocator.add_client(names, role, framework.index, capabilities, false).ok()?;
        let row = self.frameworks.get_mut(framework)?;
        let pushed = self.roles.push(&mut row.roles, RoleOf { client, subscribed });
        invariant!(pushed.is_ok(), "a role that was counted has no room");
        Some(client)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn add_executor(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        agent: Id,
        client: u32,
        name: &str,
        held: Holding,
        body: BodyRef,
    ) -> Option<Id> {
        let name_of = self.names.intern(name).ok()?;
        let row = Executor {
            name: name_of,
            framework: framework.index,
            agent: agent.index,
            client,
            held,
            body,
            ..bytemuck::Zeroable::zeroed()
        };
        let id = self.executors.insert(row).ok()?;
        let hash = self.executor_hash(framework.index, agent.index, name_of);
        self.executors_by_name.insert(&mut self.executors, 0, hash, id);
        if let Some(row) = self.agents.get_mut(agent) {
            row.executors.push(&mut self.executors, OF_AGENT, id);
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.executors.push(&mut self.executors, OF_FRAMEWORK, id);
        }
        let role = self.allocator.role_of(&self.names, client);
        self.with_scratch(|master, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = master.pool.write(&master.names, held, "", &mut outer, inner);
            cx.fact(Fact::Executor {
                row: id,
                framework,
                agent,
                executor: name,
                resources: resources.unwrap_or_default(),
                role: &role,
            });
        });
        Some(id)
    }

    /// Forgets an executor and frees what it held.
    pub(super) fn remove_executor(&mut self, cx: &mut Cx<'_>, executor: Id) {
        let Some(row) = self.executors.get(executor) else { return };
        if let Some(agent) = self.agents.row_mut(row.agent) {
            agent.executors.remove(&mut self.executors, OF_AGENT, executor);
        }
        if let Some(framework) = self.frameworks.row_mut(row.framework) {
            framework.executors.remove(&mut self.executors, OF_FRAMEWORK, executor);
        }
        let hash = self.executor_hash(row.framework, row.agent, row.name);
        self.executors_by_name.remove(&mut self.executors, 0, hash, executor);
        self.executors.remove(executor);
        self.names.release_one(row.name);
        let (allocator, mut world) = self.world();
        allocator.recover_used(&mut world, row.agent, row.client, row.held);
        cx.fact(Fact::ExecutorGone { row: executor });
        if let Some(framework) = self.frameworks.id_at(row.framework) {
            self.tidy_framework(cx, framework);
        }
    }

    /// Any executor of that name, on whatever agent.
    fn executors_of(&self, framework: Id, name: &str) -> Option<Id> {
        let mut next = self.frameworks.get_ref(framework)?.executors.first(&self.executors);
        while let Some(id) = next {
            let row = self.executors.get_ref(id)?;
            if self.names.is(row.name, name) {
                return Some(id);
            }
            next = after(&self.executors, OF_FRAMEWORK, id);
        }
        None
    }

    pub(super) fn executor_named(&self, framework: Id, agent: Id, name: &str) -> Option<Id> {
        let name = self.names.find(name).filter(|name| !name.is_empty())?;
        let hash = self.executor_hash(framework.index, agent.index, name);
        self.executors_by_name.find(&self.executors, 0, hash, |row| {
            (row.name, row.framework, row.agent) == (name, framework.index, agent.index)
        })
    }
}

/// Frameworks in roles that one report brings: agents cut theirs accordingly.
pub(super) const PAIRS_MAX: usize = 64;

/// What a registration says of its agent.
fn description<'r>(register: &Register<'r>) -> Description<'r> {
    let Register { hostname, region, zone, attributes, .. } = *register;
    Description { hostname, region, zone, attributes }
}

/// The state that a scheduler is told when it asks: that of the update it is to acknowledge next, so
/// that no end is told before what came before it (Mesos: `status_update_state`).
fn shown(held: &TaskHeld<'_>) -> TaskState {
    held.unacknowledged.unwrap_or(held.state)
}
