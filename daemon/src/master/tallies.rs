//! What each framework has said, and was told, since this master began, under the names of Mesos'
//! metrics. It goes with its framework.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use mesita_core::master::Fact;
use mesita_core::master::rows::FrameworkState;
use mesita_core::table::Id;
use mesita_core::wire::FrameworkId;
use mesita_core::wire::call::{Accept, Call, Operation, Verb};
use mesita_core::wire::event::Event;
use mesita_core::wire::task::TaskState;

use crate::catalog::Tables;
use crate::legacy::encoded;
use crate::v1::events::framework_id;

const CALLS: [&str; 17] = [
    "subscribe",
    "teardown",
    "accept",
    "decline",
    "accept_inverse_offers",
    "decline_inverse_offers",
    "revive",
    "suppress",
    "kill",
    "shutdown",
    "acknowledge",
    "acknowledge_operation_status",
    "reconcile",
    "reconcile_operations",
    "message",
    "request",
    "update_framework",
];

const EVENTS: [&str; 11] = [
    "subscribed",
    "offers",
    "inverse_offers",
    "rescind",
    "rescind_inverse_offer",
    "update",
    "update_operation_status",
    "message",
    "failure",
    "error",
    "heartbeat",
];
/// The place of the last of them, which no core tells.
const HEARTBEAT: usize = 10;

/// Kinds of operations, as metrics call them.
pub(crate) const OPERATIONS: [&str; 10] = [
    "launch",
    "launch_group",
    "reserve",
    "unreserve",
    "create",
    "destroy",
    "grow_volume",
    "shrink_volume",
    "create_disk",
    "destroy_disk",
];

const OFFERS: [&str; 4] = ["sent", "accepted", "declined", "rescinded"];
const SENT: usize = 0;
const ACCEPTED: usize = 1;
const DECLINED: usize = 2;
const RESCINDED: usize = 3;

const ACTIVE: [TaskState; 6] = [
    TaskState::Staging,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Unreachable,
    TaskState::Unknown,
];
const OVER: [TaskState; 8] = [
    TaskState::Finished,
    TaskState::Failed,
    TaskState::Killed,
    TaskState::Error,
    TaskState::Lost,
    TaskState::Dropped,
    TaskState::Gone,
    TaskState::GoneByOperator,
];

/// Of all frameworks: as many as there are.
#[derive(Default)]
pub(super) struct Tallies {
    by_framework: RefCell<BTreeMap<FrameworkId, Tally>>,
    /// Who is at the other end of connections.
    by_conn: RefCell<BTreeMap<Id, FrameworkId>>,
}

#[derive(Default)]
struct Tally {
    calls: [u64; CALLS.len()],
    events: [u64; EVENTS.len()],
    operations: [u64; OPERATIONS.len()],
    offers: [u64; OFFERS.len()],
    over: [u64; 14],
    /// Roles that want no offers.
    suppressed: BTreeSet<Box<str>>,
}

impl Tally {
    fn operations_of(&mut self, accept: &Accept<'_>) {
        for operation in accept.operations.iter() {
            self.operations[place_of_operation(&operation)] += 1;
        }
    }
}

impl Tallies {
    /// Counts a call; the first of a new framework is counted when it is one.
    pub(super) fn said(&self, call: &Call<'_>) {
        if call.framework.is_none() {
            return;
        }
        let mut all = self.by_framework.borrow_mut();
        let Some(tally) = all.get_mut(&call.framework) else { return };
        if let Some(place) = place_of_call(&call.verb) {
            tally.calls[place] += 1;
        }
        match &call.verb {
            Verb::Accept(accept) => {
                tally.offers[ACCEPTED] += accept.offers.len() as u64;
                tally.operations_of(accept);
            }
            Verb::AcceptPart(accept) => tally.operations_of(accept),
            Verb::Decline { offers, .. } => tally.offers[DECLINED] += offers.len() as u64,
            Verb::Suppress { roles } if roles.is_empty() => {
                tally.suppressed.insert("".into());
            }
            Verb::Suppress { roles } => tally.suppressed.extend(roles.iter().map(Box::from)),
            Verb::Revive { roles } if roles.is_empty() => tally.suppressed.clear(),
            Verb::Revive { roles } => roles.iter().for_each(|role| {
                tally.suppressed.remove(role);
            }),
            Verb::Subscribe(info) | Verb::UpdateFramework(info) => {
                tally.suppressed = info.suppressed.iter().map(Box::from).collect();
            }
            Verb::Teardown
            | Verb::Kill { .. }
            | Verb::Shutdown { .. }
            | Verb::Acknowledge { .. }
            | Verb::AcknowledgeOperation { .. }
            | Verb::Reconcile { .. }
            | Verb::ReconcileOperations { .. }
            | Verb::Message { .. }
            | Verb::Request { .. }
            | Verb::AcceptInverse { .. }
            | Verb::DeclineInverse { .. }
            | Verb::Constrain { .. } => {}
        }
    }

    /// Counts what goes to whoever is at a connection.
    pub(super) fn told(&self, conn: Id, event: &Event<'_>) {
        if let Event::Subscribed { framework, .. } = event {
            self.by_conn.borrow_mut().insert(conn, *framework);
            let mut all = self.by_framework.borrow_mut();
            let tally = all.entry(*framework).or_default();
            tally.calls[0] = tally.calls[0].max(1);
        }
        let Some(place) = place_of_event(event) else { return };
        self.with(conn, |tally| {
            tally.events[place] += 1;
            match event {
                Event::Offers { offers } => tally.offers[SENT] += offers.len() as u64,
                Event::Rescind { .. } => tally.offers[RESCINDED] += 1,
                Event::Subscribed { .. }
                | Event::InverseOffers { .. }
                | Event::RescindInverse { .. }
                | Event::Update { .. }
                | Event::OperationUpdate { .. }
                | Event::Message { .. }
                | Event::Failure { .. }
                | Event::Error { .. }
                | Event::Reply { .. }
                | Event::Agents { .. }
                | Event::Waiting { .. } => {}
            }
        });
    }

    /// A stream was told that it lives.
    pub(super) fn beaten(&self, conn: Id) {
        self.with(conn, |tally| tally.events[HEARTBEAT] += 1);
    }

    fn with(&self, conn: Id, count: impl FnOnce(&mut Tally)) {
        let by_conn = self.by_conn.borrow();
        let framework = by_conn.get(&conn);
        let mut all = self.by_framework.borrow_mut();
        if let Some(tally) = framework.and_then(|framework| all.get_mut(framework)) {
            count(tally);
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&self, conn: Id) {
        self.by_conn.borrow_mut().remove(&conn);
    }

    /// Takes in a fact, before the catalog does.
    pub(super) fn fact(&self, fact: &Fact<'_>, tables: &Tables) {
        let id = |row| tables.frameworks.get(row).map(|framework| framework.id);
        if let Fact::FrameworkGone { row } = *fact {
            let id = id(row);
            id.and_then(|id| self.by_framework.borrow_mut().remove(&id));
        }
        if let Fact::TaskState { row, state, .. } = *fact
            && OVER.contains(&state)
        {
            let task = tables.tasks.get(row).filter(|task| !OVER.contains(&task.state));
            let framework = task.and_then(|task| id(task.framework));
            let mut all = self.by_framework.borrow_mut();
            if let Some(tally) = framework.and_then(|framework| all.get_mut(&framework)) {
                tally.over[state as usize] += 1;
            }
        }
    }

    /// All of them, by the names of their metrics.
    pub(super) fn all(&self, tables: &Tables, put: &mut impl FnMut(String, u64)) {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let mut active = BTreeMap::<Id, [u64; 14]>::new();
        for (_, task) in tables.tasks.iter() {
            active.entry(task.framework).or_default()[task.state as usize] += 1;
        }
        let (all, none) = (self.by_framework.borrow(), Tally::default());
        for (row, framework) in tables.frameworks.iter() {
            let tally = all.get(&framework.id).unwrap_or(&none);
            let id = framework_id(framework.id, cluster).value;
            let of = format!("master/frameworks/{}/{id}", encoded(&framework.name));
            let mut put = |name: String, count: u64| put(format!("{of}/{name}"), count);
            put("subscribed".to_owned(), u64::from(framework.state == FrameworkState::Active));
            counts("calls", &CALLS, &tally.calls, &mut put);
            counts("events", &EVENTS, &tally.events, &mut put);
            counts("operations", &OPERATIONS, &tally.operations, &mut put);
            for (name, count) in OFFERS.iter().zip(tally.offers) {
                put(format!("offers/{name}"), count);
            }
            let active = active.get(&row).copied().unwrap_or_default();
            for state in ACTIVE {
                let name = state.name().to_lowercase();
                put(format!("tasks/active/{name}"), active[state as usize]);
            }
            for state in OVER {
                let name = state.name().to_lowercase();
                put(format!("tasks/terminal/{name}"), tally.over[state as usize]);
            }
            for role in &framework.roles {
                let suppressed = tally.suppressed.contains(role) || tally.suppressed.contains("");
                put(format!("roles/{role}/suppressed"), u64::from(suppressed));
            }
        }
    }
}

/// Several counts, and their sum.
fn counts(of: &str, names: &[&str], counts: &[u64], put: &mut impl FnMut(String, u64)) {
    put(of.to_owned(), counts.iter().sum());
    for (name, count) in names.iter().zip(counts) {
        put(format!("{of}/{name}"), *count);
    }
}

/// The place of a call in [`CALLS`]; none for what only our own drivers say.
fn place_of_call(verb: &Verb<'_>) -> Option<usize> {
    Some(match verb {
        Verb::Subscribe(_) => 0,
        Verb::Teardown => 1,
        Verb::Accept(_) => 2,
        Verb::Decline { .. } => 3,
        Verb::AcceptInverse { .. } => 4,
        Verb::DeclineInverse { .. } => 5,
        Verb::Revive { .. } => 6,
        Verb::Suppress { .. } => 7,
        Verb::Kill { .. } => 8,
        Verb::Shutdown { .. } => 9,
        Verb::Acknowledge { .. } => 10,
        Verb::AcknowledgeOperation { .. } => 11,
        Verb::Reconcile { .. } => 12,
        Verb::ReconcileOperations { .. } => 13,
        Verb::Message { .. } => 14,
        Verb::Request { .. } => 15,
        Verb::UpdateFramework(_) => 16,
        Verb::AcceptPart(_) | Verb::Constrain { .. } => return None,
    })
}

fn place_of_event(event: &Event<'_>) -> Option<usize> {
    Some(match event {
        Event::Subscribed { .. } => 0,
        Event::Offers { .. } => 1,
        Event::InverseOffers { .. } => 2,
        Event::Rescind { .. } => 3,
        Event::RescindInverse { .. } => 4,
        Event::Update { .. } => 5,
        Event::OperationUpdate { .. } => 6,
        Event::Message { .. } => 7,
        Event::Failure { .. } => 8,
        Event::Error { .. } => 9,
        Event::Reply { .. } | Event::Agents { .. } | Event::Waiting { .. } => return None,
    })
}

fn place_of_operation(operation: &Operation<'_>) -> usize {
    match operation {
        Operation::Launch { .. } => 0,
        Operation::LaunchGroup { .. } => 1,
        // Mesos: RESERVE with `source`.
        Operation::Reserve(_) | Operation::Move { .. } => 2,
        Operation::Unreserve(_) => 3,
        Operation::Create(_) => 4,
        Operation::Destroy(_) => 5,
        Operation::Grow { .. } => 6,
        Operation::Shrink { .. } => 7,
    }
}
