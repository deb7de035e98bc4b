//! What the API tells of agents that are being emptied, and of machines that will be absent.

use std::collections::BTreeMap;

use mesita_core::master::rows::{Emptying, Willing};
use mesita_core::table::Id;
use mesita_core::wire::event::Unavailability;
use pb::allocator::{InverseOfferStatus, inverse_offer_status};
use pb::maintenance::{ClusterStatus, Schedule, Window, cluster_status};

use super::events::{agent_id, framework_id, offer_id, unavailability};
use super::reads::{cluster, time};
use crate::catalog::Tables;
use crate::catalog::rows::{Drain, Machine};
use crate::pb::mesos::v1 as pb;

/// The schedule: machines with one window stand together in it.
pub(crate) fn schedule(tables: &Tables) -> Schedule {
    let mut windows = BTreeMap::<(u64, u64), Vec<pb::MachineId>>::new();
    for (_, machine) in tables.machines.iter() {
        let Unavailability { start_wall_us, duration_us } = machine.window;
        windows.entry((start_wall_us, duration_us)).or_default().push(machine_id(machine));
    }
    let windows = windows.into_iter().map(|((start_wall_us, duration_us), machine_ids)| Window {
        machine_ids,
        unavailability: unavailability(&Unavailability { start_wall_us, duration_us }),
    });
    Schedule { windows: windows.collect() }
}

/// Which machines are down, and what frameworks answered about the others.
pub(crate) fn status(tables: &Tables) -> ClusterStatus {
    let (down, planned): (Vec<_>, Vec<_>) =
        tables.machines.iter().partition(|(_, machine)| machine.down);
    let draining = planned.into_iter().map(|(id, machine)| draining(tables, id, machine));
    ClusterStatus {
        draining_machines: draining.collect(),
        down_machines: down.into_iter().map(|(_, machine)| machine_id(machine)).collect(),
    }
}

fn draining(tables: &Tables, id: Id, machine: &Machine) -> cluster_status::DrainingMachine {
    let answered = tables.inverse.iter().map(|(_, one)| one);
    let answered = answered.filter(|one| one.willing != Willing::Unknown && one.machine == id);
    let statuses = answered.filter_map(|one| {
        let framework = tables.frameworks.get(one.framework)?;
        let mut told = InverseOfferStatus {
            framework_id: framework_id(framework.id, cluster(tables)),
            timestamp: time(one.answered_us),
            ..InverseOfferStatus::default()
        };
        told.set_status(match one.willing {
            Willing::Accepted => inverse_offer_status::Status::Accept,
            Willing::Declined => inverse_offer_status::Status::Decline,
            Willing::Unknown => inverse_offer_status::Status::Unknown,
        });
        Some(told)
    });
    cluster_status::DrainingMachine { id: machine_id(machine), statuses: statuses.collect() }
}

fn machine_id(machine: &Machine) -> pb::MachineId {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    pb::MachineId { hostname: given(&machine.hostname), ip: given(&machine.ip) }
}

/// How an agent is being emptied; none when it is not.
pub(crate) fn drain_info(drain: &Drain) -> Option<pb::DrainInfo> {
    let state = match drain.emptying {
        Emptying::No => return None,
        Emptying::Draining => pb::DrainState::Draining,
        Emptying::Drained => pb::DrainState::Drained,
    };
    let nanoseconds = |us: u64| i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX);
    let max_grace_period =
        drain.grace_us.map(|us| pb::DurationInfo { nanoseconds: nanoseconds(us) });
    let mut told = pb::DrainInfo {
        config: pb::DrainConfig { max_grace_period, mark_gone: Some(drain.gone) },
        ..pb::DrainInfo::default()
    };
    told.set_state(state);
    Some(told)
}

/// Inverse offers that wait for a framework's answer.
pub(crate) fn inverse_offers(tables: &Tables, framework: Id) -> Vec<pb::InverseOffer> {
    let own = tables.inverse.iter().filter(|(_, one)| one.framework == framework);
    let asked = own.filter_map(|(_, one)| {
        let agent = tables.agents.get(one.agent)?;
        let machine = tables.machines.get(one.machine)?;
        Some(pb::InverseOffer {
            id: offer_id(one.offer?, cluster(tables)),
            framework_id: framework_id(tables.frameworks.get(framework)?.id, cluster(tables)),
            agent_id: Some(agent_id(agent.id, cluster(tables))),
            unavailability: unavailability(&machine.window),
            ..pb::InverseOffer::default()
        })
    });
    asked.collect()
}
