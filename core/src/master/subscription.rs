//! Frameworks: how they subscribe, come back, change, go away and leave.
//!
//! Mesos: `Master::subscribe`, `_subscribe`, `failoverFramework`, `removeFramework`. A framework
//! belongs to whoever was behind its first subscription; its principal is only what it claims.

use super::rows::{AgentState, Framework, FrameworkState, Hint, OF_FRAMEWORK, RoleOf};
use super::{CHORE_BATCH, Cx, Fact, FrameworkInfo, Judged, Master, Output};
use crate::Refusal;
use crate::doors::{self, Rights};
use crate::index::after;
use crate::limits::{KINDS_MAX, ROLES_PER_FRAMEWORK_MAX};
use crate::names::{Name, Text};
use crate::resources::Quantities;
use crate::slab::List;
use crate::table::Id;
use crate::wire::agent::{AgentEvent, FrameworkHeld};
use crate::wire::call::{Constraints, Ownership, Quantity, Request, Subscribe};
use crate::wire::event::Event;
use crate::wire::hello::Role;
use crate::wire::link::Parting;
use crate::wire::task::TaskOf;
use crate::wire::{AgentId, BodyRef, Check, FrameworkId, Scratch, Seq};

impl Master<'_> {
    /// SUBSCRIBE. O(roles · (depth + log roles) + its outstanding offers).
    pub(super) fn subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        conn: Id,
        id: FrameworkId,
        subscribe: &Subscribe<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        let checked = self.check_subscription(conn, id, subscribe);
        let known = match checked {
            Ok(known) => known,
            Err(refusal) => {
                // Nobody can have that id yet: a later framework is to get it.
                let message = if refusal == Refusal::UnknownFramework {
                    "no master of this cluster has given that framework id; subscribe without one"
                } else {
                    refusal.sentence()
                };
                let head = Event::Error { message };
                cx.emit(Output::Send { conn, head: crate::wire::Head::Event(head) });
                return Err(refusal);
            }
        };
        let framework = match known {
            Some(framework) => {
                self.replace_scheduler(cx, framework, conn);
                framework
            }
            None => self.new_framework(conn, id, subscribe)?,
        };
        self.describe_framework(cx, framework, subscribe, bodies);
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.conn = conn;
        }
        self.set_congested(framework, false);
        if let Some(row) = self.conn_mut(conn) {
            row.who = framework;
        }
        self.framework_timers.clear(framework.index);
        self.framework_fact(cx, framework);
        self.set_framework_state(cx, framework, FrameworkState::Active);
        self.ask_framework_again(cx.now, framework);
        let Some(row) = self.frameworks.get(framework) else { return Ok(()) };
        let event = Event::Subscribed {
            framework: row.id,
            fence: self.fence(),
            cluster: self.cluster,
            master: u64::from(self.fence().epoch),
            guaranteed: Seq::EMPTY,
        };
        self.tell(cx, framework, event, &[]);
        self.set_clients_away(framework, false);
        if known.is_some() {
            self.tell_agents(cx, framework);
        }
        Ok(())
    }

    /// UPDATE_FRAMEWORK: all of it or nothing (Mesos: `Master::updateFramework`).
    pub(super) fn update_framework(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        update: &Subscribe<'_>,
        bodies: &[BodyRef],
    ) -> Result<(), Refusal> {
        let row = self.frameworks.get(framework).ok_or(Refusal::UnknownFramework)?;
        self.check_subscription(row.conn, row.id, update)?;
        if !self.names.is(row.user, update.user) {
            return Err(Refusal::UserChanged);
        }
        self.describe_framework(cx, framework, update, bodies);
        self.framework_fact(cx, framework);
        self.set_clients_away(framework, row.congested);
        self.tell_agents(cx, framework);
        Ok(())
    }

    /// Everything that can refuse a subscription; the row it is of, if it is known.
    fn check_subscription(
        &self,
        conn: Id,
        id: FrameworkId,
        subscribe: &Subscribe<'_>,
    ) -> Result<Option<Id>, Refusal> {
        let speaking = self.conn(conn).ok_or(Refusal::WrongConnection)?.who;
        let known = self.framework_by_id(id);
        // A connection speaks for one framework, once.
        if self.frameworks.get_ref(speaking).is_some() && known != Some(speaking) {
            return Err(Refusal::WrongConnection);
        }
        if !id.is_none() && known.is_none() {
            if self.was_removed(id) {
                return Err(Refusal::FrameworkRemoved);
            }
            if id.epoch >= self.fence().epoch {
                return Err(Refusal::UnknownFramework);
            }
        }
        let (caller, rights) = self.caller_of(conn);
        if known.is_none() {
            let all = rights.has(Rights::OPERATE);
            self.check_comes_back(id, (!all).then_some(caller), subscribe.principal)?;
        }
        if let Some(row) = known.and_then(|known| self.frameworks.get_ref(known)) {
            if row.state == FrameworkState::Leaving {
                return Err(Refusal::FrameworkRemoved);
            }
            let owner = row.caller == caller || rights.has(Rights::OPERATE);
            if !owner {
                return Err(Refusal::Denied);
            }
            if !self.names.is(row.principal, subscribe.principal) {
                return Err(Refusal::PrincipalChanged);
            }
        } else if self.frameworks.room() == 0 {
            return Err(Refusal::FrameworksFull);
        }
        let share = known.is_none() && self.has_its_share(caller, rights);
        let caller = self.text(caller);
        let user = doors::user("", "", subscribe.user, &caller);
        if !doors::may_run_as(&caller, rights, user) {
            return Err(Refusal::UserDenied);
        }
        self.check_roles(known, subscribe)?;
        if share {
            return Err(Refusal::FrameworksFull);
        }
        let texts = [subscribe.name, subscribe.user, subscribe.principal, subscribe.hostname];
        let texts = texts.into_iter().chain([subscribe.webui_url]);
        let minimums = subscribe.minimums.iter().flat_map(|minimum| minimum.alternatives.iter());
        let amounts = minimums.flat_map(|alternative| alternative.amounts.iter());
        let count = u32::try_from(amounts.clone().count()).unwrap_or(u32::MAX);
        let room = self.names.has_room_for(texts.chain(amounts.map(|amount| amount.name)));
        if !room || count > self.allocator.minimums_room() {
            return Err(Refusal::NamesFull);
        }
        Ok(known)
    }

    /// True for a caller with three quarters of all frameworks, but one who operates the cluster:
    /// what only says that it may come back in a year must not keep everybody else out.
    fn has_its_share(&self, caller: Name, rights: Rights) -> bool {
        if rights.has(Rights::OPERATE) {
            return false;
        }
        let own = self.frameworks.iter().filter(|(_, row)| row.caller == caller);
        let own = u32::try_from(own.count()).unwrap_or(u32::MAX);
        let (all, room) = (self.frameworks.len(), self.frameworks.room());
        let all = all.saturating_add(room);
        own >= all.saturating_sub(all / 4).max(1)
    }

    fn check_roles(&self, known: Option<Id>, subscribe: &Subscribe<'_>) -> Result<(), Refusal> {
        // In none, it is a framework all the same, which is offered nothing until it has one.
        let roles = subscribe.roles;
        let repeated =
            |index: usize, role: &str| roles.iter().take(index).any(|earlier| earlier == role);
        if roles.iter().enumerate().any(|(index, role)| repeated(index, role)) {
            return Err(Refusal::BadRole);
        }
        let of_minimums = subscribe.minimums.iter().map(|minimum| minimum.role);
        let mut named = subscribe.suppressed.iter().chain(of_minimums);
        if named.any(|role| !roles.iter().any(|own| own == role)) {
            return Err(Refusal::UnknownRole);
        }
        let new = roles.iter().filter(|role| {
            known.is_none_or(|id| self.allocator.client(&self.names, role, id.index).is_none())
        });
        if new.clone().count() > usize::try_from(self.roles.room()).unwrap_or(usize::MAX) {
            return Err(Refusal::RolesFull);
        }
        self.allocator.has_room_for_roles(&self.names, new)
    }

    fn new_framework(
        &mut self,
        conn: Id,
        id: FrameworkId,
        subscribe: &Subscribe<'_>,
    ) -> Result<Id, Refusal> {
        let id = if id.is_none() {
            let number = self.counters.framework.checked_add(1).ok_or(Refusal::FrameworksFull)?;
            self.counters.framework = number;
            FrameworkId { epoch: self.fence().epoch, number }
        } else {
            id
        };
        let (caller, _) = self.caller_of(conn);
        let mut keep = |name: Name| {
            let held = self.names.hold(name);
            invariant!(held.is_ok(), "a name has more holders than there are rows");
            name
        };
        let row = Framework { id, caller: keep(caller), ..bytemuck::Zeroable::zeroed() };
        let framework = self.frameworks.insert(row).map_err(|_| Refusal::FrameworksFull)?;
        self.index_framework(framework);
        self.heard_of(id);
        // User and principal are those of the first subscription for good.
        let user = self.names.intern(subscribe.user).unwrap_or(Name::EMPTY);
        let principal = self.names.intern(subscribe.principal).unwrap_or(Name::EMPTY);
        if let Some(row) = self.frameworks.get_mut(framework) {
            (row.user, row.principal) = (user, principal);
        }
        Ok(framework)
    }

    /// The scheduler of a known framework comes on another connection: the older one ends, and
    /// what it was offered is free again.
    fn replace_scheduler(&mut self, cx: &mut Cx<'_>, framework: Id, conn: Id) {
        let Some(row) = self.frameworks.get(framework) else { return };
        if let Some(old) = row.conn.some().filter(|old| *old != conn) {
            let event = Event::Error { message: "Framework failed over" };
            self.tell(cx, framework, event, &[]);
            let message = "the framework subscribed on another connection";
            cx.emit(Output::Close { conn: old, reason: Parting::Replaced, message });
            if let Some(conn) = self.conn_mut(old) {
                conn.who = Id::NONE;
            }
        }
        self.withdraw_offers(cx, framework);
        self.withdraw_inverse(cx, framework);
    }

    /// Everything of a subscription that may change.
    fn describe_framework(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        subscribe: &Subscribe<'_>,
        bodies: &[BodyRef],
    ) {
        let Some(old) = self.frameworks.get(framework) else { return };
        let mut intern = |text: &str| {
            let name = self.names.intern(text);
            invariant!(name.is_ok(), "a name that was checked finds no room");
            name.unwrap_or(Name::EMPTY)
        };
        let [name, hostname, webui_url] =
            [subscribe.name, subscribe.hostname, subscribe.webui_url].map(&mut intern);
        for name in [old.name, old.hostname, old.webui_url] {
            self.names.release_one(name);
        }
        self.drop_body(cx, old.public);
        let public = self.keep_body(cx, subscribe.public.of(bodies));
        if let Some(row) = self.frameworks.get_mut(framework) {
            (row.name, row.hostname, row.webui_url) = (name, hostname, webui_url);
            row.public = public;
            row.failover_us = subscribe.failover_us.min(crate::limits::DURATION_MAX_US);
            row.capabilities = subscribe.capabilities;
            row.owned = subscribe.owned;
        }
        self.set_roles(cx, framework, subscribe);
    }

    /// Brings a framework's clients in line with the roles it names now.
    fn set_roles(&mut self, cx: &mut Cx<'_>, framework: Id, subscribe: &Subscribe<'_>) {
        for role in subscribe.roles.iter() {
            let Some(client) = self.client_for(framework, role, true) else { continue };
            self.allocator.set_capabilities(client, subscribe.capabilities);
            let minimum = subscribe.minimums.iter().find(|minimum| minimum.role == role);
            self.allocator.set_minimum(&mut self.names, client, minimum.as_ref());
            let suppressed = subscribe.suppressed.iter().any(|other| other == role);
            if suppressed {
                self.allocator.suppress(&self.names, client);
            } else if self.allocator.is_suppressed(client) {
                let (allocator, mut world) = self.world();
                allocator.revive(&mut world, client, true);
            }
        }
        let mut roles = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        self.roles.for_each(roles, |role| role.subscribed = false);
        for role in subscribe.roles.iter() {
            let client = self.allocator.client(&self.names, role, framework.index);
            self.roles.for_each(roles, |row| row.subscribed |= Some(row.client) == client);
        }
        // Roles that it left: no offers any more; gone once no task is charged to them.
        while let Some(RoleOf { client, subscribed }) = self.roles.step(&mut roles) {
            if !subscribed {
                self.rescind_client_offers(cx, framework, client);
                self.allocator.set_away(&self.names, client, true);
            }
        }
        self.tidy_roles(framework);
    }

    /// Its connection is gone: its offers are free again, its tasks live on until its timeout.
    pub(super) fn framework_away(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let Some(row) = self.frameworks.get_mut(framework) else { return };
        row.conn = Id::NONE;
        if row.state != FrameworkState::Active {
            return;
        }
        self.withdraw_offers(cx, framework);
        self.withdraw_inverse(cx, framework);
        self.set_clients_away(framework, true);
        self.lift_filters(framework);
        self.stop_reconciling(framework);
        self.set_framework_state(cx, framework, FrameworkState::Away);
        self.arm_failover(cx.now, framework);
        self.hurry_failover(cx.now, framework);
        self.tidy_framework(cx, framework);
    }

    /// One that asks for no time and has nothing that would need it is given none (Mesos: the default of
    /// `failover_timeout`), so that who comes and goes keeps no others out.
    fn hurry_failover(&mut self, now: crate::time::Time, framework: Id) {
        let Some(row) = self.frameworks.get_ref(framework) else { return };
        let empty = row.tasks.is_empty() && row.executors.is_empty();
        if row.failover_us == 0 && row.owned != Ownership::Master && empty {
            self.framework_timers.set(framework.index, now);
        }
    }

    /// From now on a framework that is not there has its failover timeout. One whose updates the
    /// master acknowledges need not come back.
    pub(super) fn arm_failover(&mut self, now: crate::time::Time, framework: Id) {
        let Some(row) = self.frameworks.get_ref(framework) else { return };
        if row.owned == Ownership::Master {
            return;
        }
        let us = if row.failover_us > 0 { row.failover_us } else { self.config.failover_min_us };
        self.framework_timers.set(framework.index, now.after(us));
    }

    pub(super) fn expire_frameworks(&mut self, cx: &mut Cx<'_>) {
        while let Some(slot) = self.framework_timers.expired(cx.now) {
            if let Some(framework) = self.frameworks.id_at(slot) {
                self.remove(cx, framework);
            }
        }
        self.expire_owners(cx);
    }

    /// TEARDOWN.
    pub(super) fn teardown(&mut self, cx: &mut Cx<'_>, framework: Id) -> Result<(), Refusal> {
        self.remove(cx, framework);
        Ok(())
    }

    /// Begins to remove a framework: agents are told over as many ticks as it takes; the row goes
    /// with its last task.
    fn remove(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let Some(row) = self.frameworks.get(framework) else { return };
        if row.state == FrameworkState::Leaving {
            return;
        }
        self.framework_timers.clear(framework.index);
        self.withdraw_offers(cx, framework);
        self.forget_inverse_of_framework(cx, framework);
        self.set_clients_away(framework, true);
        self.lift_filters(framework);
        self.stop_reconciling(framework);
        self.set_framework_state(cx, framework, FrameworkState::Leaving);
        if row.owned != Ownership::Master {
            self.put_down(cx, row.id);
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.cursor = row.tasks.first(&self.tasks).map_or(0, |id| id.index.saturating_add(1));
        }
        self.counters.chores = self.counters.chores.saturating_add(1);
    }

    /// Remembers that a framework was removed, beyond this master; of too many, the newest. O(1).
    pub(super) fn put_down(&mut self, cx: &mut Cx<'_>, framework: FrameworkId) {
        let Some(place) = self.counters.removed.checked_rem(count(self.removed.len())) else {
            return;
        };
        self.counters.removed = self.counters.removed.wrapping_add(1);
        if let Some(row) = self.removed.get_mut(place as usize) {
            let instead_of = core::mem::replace(row, framework);
            cx.fact(Fact::Removed { framework, instead_of });
        }
    }

    /// A framework that the registry says was removed. `OutOfTurn`, `FrameworksFull`.
    pub(super) fn recall_removed(&mut self, framework: FrameworkId) -> Result<(), Refusal> {
        if self.cluster != 0 {
            return Err(Refusal::OutOfTurn);
        }
        let row = self.removed.get_mut(self.counters.removed as usize);
        *row.ok_or(Refusal::FrameworksFull)? = framework;
        self.counters.removed = self.counters.removed.saturating_add(1);
        Ok(())
    }

    /// True for a framework that does not come back: it was removed. O(frameworks) for ids of earlier
    /// masters.
    pub(super) fn was_removed(&self, id: FrameworkId) -> bool {
        let own = id.epoch == self.fence().epoch
            && id.number <= self.counters.framework
            && self.framework_by_id(id).is_none();
        own || self.removed.contains(&id)
    }

    /// Goes on with a framework that leaves, or whose tasks are being told. True when it is done.
    pub(super) fn do_framework_chore(&mut self, cx: &mut Cx<'_>, framework: Id) -> bool {
        let Some(row) = self.frameworks.get(framework) else { return true };
        if row.state != FrameworkState::Leaving {
            return !row.reconciling || self.reconcile_some(cx, framework);
        }
        self.part_from(cx, framework, row.conn);
        let mut next = row.cursor.checked_sub(1).and_then(|slot| self.tasks.id_at(slot));
        for _ in 0..CHORE_BATCH {
            let Some(task) = next else { break };
            next = after(&self.tasks, OF_FRAMEWORK, task);
            self.end_for_framework(cx, framework, task);
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.cursor = next.map_or(0, |id| id.index.saturating_add(1));
        }
        if next.is_some() {
            return false;
        }
        self.end_executors(cx, framework);
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.told_all = true;
        }
        self.tidy_framework(cx, framework);
        true
    }

    /// Tells a task's agent that its framework is no more. A task that ended only waited for an
    /// acknowledgement that nobody will send; and so does whatever else was told of it.
    fn end_for_framework(&mut self, cx: &mut Cx<'_>, framework: Id, task: Id) {
        let Some(row) = self.tasks.get(task) else { return };
        self.tell_shutdown(cx, framework, row.agent);
        let agent = self.agents.id_at(row.agent).filter(|_| row.forwarded > 0);
        if let Some(agent) = agent {
            let id = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |of| of.id);
            let name = self.text(row.name);
            let task = TaskOf { framework: id, task: &name };
            // What was acknowledged already is none the worse for it.
            let event = AgentEvent::Acknowledge { task, sequence: row.forwarded };
            self.order(cx, agent, event, &[]);
        }
        if row.state.is_terminal() {
            self.remove_task(cx, task);
        }
    }

    fn end_executors(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let mut next =
            self.frameworks.get_ref(framework).and_then(|row| row.executors.first(&self.executors));
        while let Some(executor) = next {
            next = after(&self.executors, OF_FRAMEWORK, executor);
            if let Some(agent) = self.executors.get_ref(executor).map(|row| row.agent) {
                self.tell_shutdown(cx, framework, agent);
            }
        }
    }

    fn tell_shutdown(&mut self, cx: &mut Cx<'_>, framework: Id, agent: u32) {
        let Some(agent) = self.agents.id_at(agent) else { return };
        let Some(id) = self.frameworks.get_ref(framework).map(|row| row.id) else { return };
        if self.agents.get_ref(agent).is_some_and(|row| row.told == framework) {
            return;
        }
        if self.order(cx, agent, AgentEvent::ShutdownFramework { framework: id }, &[])
            && let Some(row) = self.agents.get_mut(agent)
        {
            row.told = framework;
        }
    }

    /// Forgets a framework that has nothing left to be remembered for.
    pub(super) fn tidy_framework(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let Some(row) = self.frameworks.get(framework) else { return };
        // What runs on an agent that does not answer has not ended.
        let owned =
            row.owned == Ownership::Master && row.state == FrameworkState::Away && row.lost == 0;
        let over = row.state == FrameworkState::Leaving && row.told_all;
        let empty = row.tasks.is_empty() && row.executors.is_empty() && row.offers.is_empty();
        if empty && (owned || over) {
            self.forget_framework(cx, framework);
        } else {
            self.tidy_roles(framework);
        }
    }

    fn forget_framework(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let Some(mut row) = self.frameworks.get(framework) else { return };
        while let Some(RoleOf { client, .. }) = self.roles.pop(&mut row.roles) {
            let (allocator, mut world) = self.world();
            allocator.remove_client(&mut world, client);
        }
        self.forget_hints(&mut row.hints);
        self.forget_operations(cx, framework);
        for name in [row.caller, row.name, row.user, row.principal, row.hostname, row.webui_url] {
            self.names.release_one(name);
        }
        self.drop_body(cx, row.public);
        self.framework_timers.clear(framework.index);
        let hash = self.frameworks_by_id.hash(row.id.epoch.into(), row.id.number.into());
        self.frameworks_by_id.remove(&mut self.frameworks, 0, hash, framework);
        self.frameworks.remove(framework);
        self.part_from(cx, framework, row.conn);
        cx.fact(Fact::FrameworkGone { row: framework });
    }

    /// Ends the connection of a framework that is no more, after everything it was to be told.
    fn part_from(&mut self, cx: &mut Cx<'_>, framework: Id, conn: Id) {
        let Some(conn) = conn.some() else { return };
        cx.emit(Output::Close { conn, reason: Parting::Leaving, message: "" });
        if let Some(conn) = self.conn_mut(conn) {
            conn.who = Id::NONE;
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.conn = Id::NONE;
        }
    }

    /// Lets go of roles that a framework left and that nothing is charged to any more.
    fn tidy_roles(&mut self, framework: Id) {
        let Some(row) = self.frameworks.get(framework) else { return };
        let (mut kept, mut roles) = (List::EMPTY, row.roles);
        while let Some(role) = self.roles.pop(&mut roles) {
            let charged = self.allocator.usage(role.client).is_some_and(|u| !u.0.is_empty());
            if role.subscribed || charged {
                let pushed = self.roles.push(&mut kept, role);
                invariant!(pushed.is_ok(), "a node just freed is not there");
            } else {
                let (allocator, mut world) = self.world();
                allocator.remove_client(&mut world, role.client);
            }
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.roles = kept;
        }
    }

    /// REVIVE. O(roles · agents / 64 + filters).
    pub(super) fn revive(
        &mut self,
        now: crate::time::Time,
        framework: Id,
        roles: &Seq<'_, &str>,
    ) -> Result<(), Refusal> {
        self.check_own_roles(framework, roles)?;
        self.ask_framework_again(now, framework);
        let away =
            self.frameworks.get_ref(framework).is_some_and(|row| row.congested || row.capped);
        self.for_roles(framework, roles, |master, client| {
            let (allocator, mut world) = master.world();
            allocator.revive(&mut world, client, away);
        });
        Ok(())
    }

    /// SUPPRESS. O(roles · (depth + log roles)).
    pub(super) fn suppress(&mut self, framework: Id, roles: &Seq<'_, &str>) -> Result<(), Refusal> {
        self.check_own_roles(framework, roles)?;
        self.for_roles(framework, roles, |master, client| {
            master.allocator.suppress(&master.names, client);
        });
        Ok(())
    }

    /// What patterns say of agents. What is about an agent or a constraint that went meanwhile is
    /// passed over. O(verdicts · constraints of the role).
    pub(super) fn judged(
        &mut self,
        framework: FrameworkId,
        verdicts: &Seq<'_, Judged<'_>>,
    ) -> Result<(), Refusal> {
        let id = self.framework_by_id(framework).ok_or(Refusal::UnknownFramework)?;
        for Judged { role, place, agent, matches } in verdicts.iter() {
            let client = self.allocator.client(&self.names, role, id.index);
            let known = self.agents.get_ref(agent).is_some();
            if let (Some(client), true) = (client, known) {
                // No pattern stands there any more: it is asked again when another one does.
                let _ = self.allocator.set_verdict(client, place.into(), agent.index, matches);
            }
        }
        Ok(())
    }

    fn check_own_roles(&self, framework: Id, roles: &Seq<'_, &str>) -> Result<(), Refusal> {
        let own = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        let subscribed = |role: &str| {
            let client = self.allocator.client(&self.names, role, framework.index);
            self.roles.iter(own).any(|row| row.subscribed && Some(row.client) == client)
        };
        if roles.iter().all(subscribed) { Ok(()) } else { Err(Refusal::UnknownRole) }
    }

    /// Does something for each role named, or for all when none is.
    fn for_roles(
        &mut self,
        framework: Id,
        roles: &Seq<'_, &str>,
        mut act: impl FnMut(&mut Self, u32),
    ) {
        let mut own = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        while let Some(RoleOf { client, subscribed }) = self.roles.step(&mut own) {
            let named = roles.is_empty()
                || roles.iter().any(|role| {
                    self.allocator.client(&self.names, role, framework.index) == Some(client)
                });
            if subscribed && named {
                act(self, client);
            }
        }
    }

    /// CONSTRAIN: which agents each role wants; those not named want all.
    pub(super) fn constrain(
        &mut self,
        framework: Id,
        roles: &Seq<'_, Constraints<'_>>,
    ) -> Result<(), Refusal> {
        let own = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        let client = |role: &str| self.allocator.client(&self.names, role, framework.index);
        let subscribed = |role: &str| {
            self.roles.iter(own).any(|row| row.subscribed && Some(row.client) == client(role))
        };
        let mut earlier = 0usize;
        for constraints in roles.iter() {
            if !subscribed(constraints.role) {
                return Err(Refusal::UnknownRole);
            }
            if roles.iter().take(earlier).any(|other| other.role == constraints.role) {
                return Err(Refusal::BadConstraint);
            }
            earlier = earlier.saturating_add(1);
        }
        let clients = self.roles.iter(own).map(|row| row.client);
        self.allocator.check_constraints(&self.names, clients, roles)?;
        let mut next = own;
        while let Some(RoleOf { client, .. }) = self.roles.step(&mut next) {
            // All of them first: what they held makes room.
            self.allocator.set_constraints(&mut self.names, client, None);
        }
        for constraints in roles.iter() {
            let client = self.allocator.client(&self.names, constraints.role, framework.index);
            if let Some(client) = client {
                self.allocator.set_constraints(&mut self.names, client, Some(&constraints));
            }
        }
        Ok(())
    }

    /// A stream is half full, or empty again.
    pub(super) fn congested(&mut self, conn: Id, congested: bool) -> Result<(), Refusal> {
        let row = *self.conn(conn).ok_or(Refusal::WrongConnection)?;
        if row.role != Role::Framework {
            return Ok(());
        }
        if self.frameworks.get(row.who).is_some() {
            self.set_congested(row.who, congested);
            self.set_clients_away(row.who, congested);
        }
        Ok(())
    }

    pub(super) fn set_clients_away(&mut self, framework: Id, away: bool) {
        let away = away || self.frameworks.get_ref(framework).is_some_and(|row| row.capped);
        let mut roles = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        while let Some(RoleOf { client, subscribed }) = self.roles.step(&mut roles) {
            self.allocator.set_away(&self.names, client, away || !subscribed);
        }
    }

    fn lift_filters(&mut self, framework: Id) {
        let mut roles = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.roles);
        while let Some(RoleOf { client, .. }) = self.roles.step(&mut roles) {
            let (allocator, mut world) = self.world();
            allocator.lift_filters(&mut world, client);
        }
    }

    /// REQUEST: kept as a hint that decides nothing, and answered with what stands against it.
    pub(super) fn request(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        requests: &Seq<'_, Request<'_>>,
    ) -> Result<(), Refusal> {
        let amounts = requests.iter().flat_map(|request| request.amounts.iter());
        let old = self.frameworks.get_ref(framework).map_or(List::EMPTY, |row| row.hints);
        let kept = u32::try_from(self.hints.iter(old).count()).unwrap_or(0);
        let needed = u32::try_from(amounts.clone().count()).unwrap_or(u32::MAX);
        let room = self.hints.room().saturating_add(kept);
        if needed > room || !self.names.has_room_for(amounts.map(|amount| amount.name)) {
            return Err(Refusal::NamesFull);
        }
        let mut hints = old;
        self.forget_hints(&mut hints);
        for (request, wanted) in (0u16..).zip(requests.iter()) {
            for Quantity { name, amount } in wanted.amounts.iter() {
                let name = self.names.intern(name).unwrap_or(Name::EMPTY);
                let hint = Hint { request, name, milli: amount.milli() };
                let pushed = self.hints.push(&mut hints, hint);
                invariant!(pushed.is_ok(), "a hint that was counted has no room");
            }
        }
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.hints = hints;
        }
        if let Some(request) = requests.first() {
            self.tell_waiting(cx, framework, &request);
        }
        Ok(())
    }

    fn forget_hints(&mut self, hints: &mut List) {
        while let Some(hint) = self.hints.pop(hints) {
            self.names.release_one(hint.name);
        }
    }

    /// Says which amount of a request no agent has, if there is one: first in all, then free.
    fn tell_waiting(&mut self, cx: &mut Cx<'_>, framework: Id, request: &Request<'_>) {
        let Some(short) = self.shortest(request) else { return };
        let Short { name, asked, largest, agent, fits } = short;
        self.with_scratch(|master, outer, _| {
            let name = master.text(name);
            let mut list = Scratch::new(outer);
            let mut list = list.list::<Quantity<'static>>();
            for asked in request.amounts.iter() {
                let kind = master.pool.kind(&master.names, asked.name);
                let have = kind.map_or(0, |kind| fits.of(kind)).min(asked.amount.milli());
                let amount = crate::resources::Amount::from_milli(have);
                let _ = list.push(&Quantity { name: asked.name, amount });
            }
            let fits = list.end();
            let event = Event::Waiting { name: &name, asked, largest, agent, fits };
            master.tell(cx, framework, event, &[]);
        });
    }

    /// The amount of a request that keeps it from every agent, on the agent that comes closest.
    fn shortest(&self, request: &Request<'_>) -> Option<Short> {
        let mut best: Option<(usize, Short)> = None;
        for (id, row) in self.agents.iter() {
            let asked_here = request.agent.is_none() || request.agent == row.id;
            if row.state != AgentState::Active || !asked_here {
                continue;
            }
            let have = self.allocator.agent_quantities(&self.pool, id.index).unwrap_or_default();
            let mut met = 0usize;
            let mut short = None;
            for Quantity { name, amount } in request.amounts.iter() {
                let kind = self.pool.kind(&self.names, name);
                let largest = kind.map_or(0, |kind| have.of(kind));
                if largest >= amount.milli() {
                    met = met.saturating_add(1);
                } else if short.is_none() {
                    let name = self.names.find(name).unwrap_or(Name::EMPTY);
                    let asked = amount.milli();
                    short = Some(Short { name, asked, largest, agent: row.id, fits: have });
                }
            }
            // An agent that has it all: nothing is short, only busy.
            let short = short?;
            let closer =
                |(most, other): &(usize, Short)| (met, short.largest) > (*most, other.largest);
            if best.as_ref().is_none_or(closer) {
                best = Some((met, short));
            }
        }
        let nobody = request.amounts.first().map(|first| Short {
            name: self.names.find(first.name).unwrap_or(Name::EMPTY),
            asked: first.amount.milli(),
            largest: 0,
            agent: AgentId::NONE,
            fits: Quantities::NONE,
        });
        best.map(|(_, short)| short).or(nobody)
    }

    fn set_framework_state(&mut self, cx: &mut Cx<'_>, framework: Id, state: FrameworkState) {
        if let Some(row) = self.frameworks.get_mut(framework) {
            row.state = state;
            cx.fact(Fact::FrameworkState { row: framework, state });
        }
    }

    pub(super) fn framework_fact(&mut self, cx: &mut Cx<'_>, framework: Id) {
        self.with_held(framework, |master, held, texts| {
            let Some(row) = master.frameworks.get(framework) else { return };
            let info = FrameworkInfo {
                framework: held.framework,
                name: held.name,
                user: held.user,
                principal: held.principal,
                caller: held.caller,
                hostname: &texts.0,
                webui_url: &texts.1,
                roles: held.roles,
                failover_us: held.failover_us,
                capabilities: held.capabilities,
                owned: held.owned,
                public: crate::wire::Body::at(0),
            };
            let bodies = [row.public];
            let shown = if row.public.is_none() { &[][..] } else { &bodies };
            let info = FrameworkInfo {
                public: if row.public.is_none() { crate::wire::Body::NONE } else { info.public },
                ..info
            };
            cx.emit_with(Output::Fact(Fact::Framework { row: framework, info }), shown);
        });
    }

    /// Agents that hold something of a framework hear how it describes itself now.
    fn tell_agents(&mut self, cx: &mut Cx<'_>, framework: Id) {
        // One message for each agent, however many tasks it has: agents are walked, not tasks.
        for slot in 0..self.agents.high_water() {
            let Some((agent, row)) = self.agents.at(slot) else { continue };
            let has_any = cx.has_room() && row.conn.some().is_some();
            if has_any && self.holds_of(agent, framework) {
                self.tell_held(cx, agent, framework);
                self.tell_public(cx, agent, framework);
            }
        }
    }

    /// Tells an agent how a framework that has something there describes itself.
    pub(super) fn tell_held(&mut self, cx: &mut Cx<'_>, agent: Id, framework: Id) {
        self.with_held(framework, |master, held, _| {
            let event = AgentEvent::UpdateFramework { framework: *held };
            master.order(cx, agent, event, &[]);
        });
    }

    /// Tells an agent that is back what everybody may see of the frameworks with tasks there.
    pub(super) fn tell_of_frameworks(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let mut told = heapless::Vec::<u32, FRAMEWORKS_TOLD_MAX>::new();
        let mut next = self.agents.get_ref(agent).and_then(|row| row.tasks.first(&self.tasks));
        while let Some(id) = next.filter(|_| cx.has_room()) {
            next = after(&self.tasks, super::OF_AGENT, id);
            let Some(slot) = self.tasks.get_ref(id).map(|task| task.framework) else { continue };
            if told.contains(&slot) {
                continue;
            }
            if told.push(slot).is_err() {
                break;
            }
            let Some(framework) = self.frameworks.id_at(slot) else { continue };
            if self.frameworks.get_ref(framework).is_some_and(|row| row.conn.some().is_some()) {
                self.tell_public(cx, agent, framework);
            }
        }
    }

    /// Tells an agent what everybody may see of a framework that has something there.
    pub(super) fn tell_public(&mut self, cx: &mut Cx<'_>, agent: Id, framework: Id) {
        let Some(row) = self.frameworks.get_ref(framework) else { return };
        let (framework, bodies) = (row.id, [row.public]);
        let (public, with) = if row.public.is_none() {
            (crate::wire::Body::NONE, &[][..])
        } else {
            (crate::wire::Body::at(0), &bodies[..])
        };
        self.order(cx, agent, AgentEvent::DescribeFramework { framework, public }, with);
    }

    /// True when an agent has a task of a framework. O(tasks of the agent).
    pub(super) fn holds_of(&self, agent: Id, framework: Id) -> bool {
        let mut next = self.agents.get_ref(agent).and_then(|row| row.tasks.first(&self.tasks));
        while let Some(id) = next {
            if self.tasks.get_ref(id).is_some_and(|task| task.framework == framework.index) {
                return true;
            }
            next = after(&self.tasks, super::OF_AGENT, id);
        }
        false
    }

    /// Runs `work` with a framework's description as agents hold it; and its host and web page.
    pub(super) fn with_held<T: Default>(
        &mut self,
        framework: Id,
        work: impl FnOnce(&mut Self, &FrameworkHeld<'_>, &(Text, Text)) -> T,
    ) -> T {
        let Some(row) = self.frameworks.get(framework) else { return T::default() };
        let [caller, name, user, principal] =
            [row.caller, row.name, row.user, row.principal].map(|name| self.text(name));
        let shown = (self.text(row.hostname), self.text(row.webui_url));
        let mut memory = [0u8; ROLES_BYTES];
        let mut scratch = Scratch::new(&mut memory);
        let mut roles = scratch.list::<&'static str>();
        for role in self.roles.iter(row.roles).filter(|role| role.subscribed) {
            let role = self.allocator.role_of(&self.names, role.client);
            let _ = roles.push(&role.as_str());
        }
        let held = FrameworkHeld {
            framework: row.id,
            name: &name,
            user: &user,
            principal: &principal,
            caller: &caller,
            failover_us: row.failover_us,
            capabilities: row.capabilities,
            roles: roles.end(),
            owned: row.owned,
        };
        invariant!(held.check().is_ok(), "a framework's description breaks the wire's limits");
        work(self, &held, &shown)
    }

    pub(super) fn framework_by_id(&self, id: FrameworkId) -> Option<Id> {
        let hash = self.frameworks_by_id.hash(id.epoch.into(), id.number.into());
        self.frameworks_by_id.find(&self.frameworks, 0, hash, |row| row.id == id)
    }
}

/// What a request lacks everywhere, and where it lacks least.
struct Short {
    name: Name,
    asked: u64,
    largest: u64,
    agent: AgentId,
    fits: Quantities,
}

/// Frameworks that an agent which is back hears of; the rest when they change.
const FRAMEWORKS_TOLD_MAX: usize = 64;

/// Bytes for the roles of one framework, each at most a name long.
const ROLES_BYTES: usize = ROLES_PER_FRAMEWORK_MAX * (crate::limits::NAME_MAX + 2);

const _: () = assert!(ROLES_BYTES < 8 * 1024 && KINDS_MAX == 16);

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
