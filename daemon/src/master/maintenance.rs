//! What operators do to whole agents and machines: drain, mark gone, plan absences.
//!
//! Mesos: `DRAIN_AGENT`, `MARK_AGENT_GONE`, `UPDATE_MAINTENANCE_SCHEDULE`, `START_MAINTENANCE`,
//! `STOP_MAINTENANCE`, and `/maintenance/schedule`, `/machine/down`, `/machine/up` before them.

use std::net::IpAddr;
use std::rc::Rc;

use hyper::StatusCode;
use mesita_core::limits::{HEAD_MAX, ITEMS_PER_LIST_MAX};
use mesita_core::wire::event::Unavailability;
use mesita_core::wire::operator::{MachineId, OperatorVerb, Planned};
use mesita_core::wire::{AgentId, Scratch};

use super::MasterNode;
use crate::doors::Caller;
use crate::http::{Early, Reply, Visit, early, only, request, status, transcode};
use crate::pb::mesos::v1 as pb;
use pb::maintenance::Schedule;
use pb::master::Call;
use pb::master::call::Type;

impl MasterNode {
    /// A call that changes agents or machines; false when it is none.
    pub(super) async fn change_agents(
        self: &Rc<Self>,
        call: &Call,
        caller: &Caller,
    ) -> Result<bool, Early> {
        let kind = call.r#type();
        if kind == Type::DeactivateAgent {
            let named = call.deactivate_agent.as_ref().map(|one| &one.agent_id);
            self.deactivate(named, true, caller).await?;
        } else if kind == Type::ReactivateAgent {
            let named = call.reactivate_agent.as_ref().map(|one| &one.agent_id);
            self.deactivate(named, false, caller).await?;
        } else if kind == Type::DrainAgent {
            let drain = call.drain_agent.as_ref();
            let agent = self.named(drain.map(|one| &one.agent_id))?;
            let grace_us = drain.and_then(|one| one.max_grace_period.as_ref()).map(grace);
            let grace_us = grace_us.transpose()?;
            let gone = drain.is_some_and(|one| one.mark_gone());
            self.operate(caller, OperatorVerb::Drain { agent, grace_us, gone }).await?;
        } else if kind == Type::MarkAgentGone {
            let id = call.mark_agent_gone.as_ref().map_or("", |one| &one.agent_id.value);
            let agent = self.agent_called(id);
            let known = |id: &AgentId| self.catalog.borrow().agent(*id).is_some();
            let agent = agent.filter(|id| known(id) || self.was_done(caller));
            let agent = agent.ok_or_else(|| early(StatusCode::NOT_FOUND, "Unknown agent"))?;
            self.operate(caller, OperatorVerb::MarkGone { agent }).await?;
        } else if kind == Type::UpdateMaintenanceSchedule {
            let update = call.update_maintenance_schedule.as_ref();
            let update = update
                .ok_or_else(|| bad("Expecting 'update_maintenance_schedule' to be present"))?;
            self.plan(&update.schedule, caller).await?;
        } else if kind == Type::StartMaintenance {
            let machines = call.start_maintenance.as_ref().map(|one| &one.machines[..]);
            self.machines(machines.unwrap_or_default(), true, caller).await?;
        } else if kind == Type::StopMaintenance {
            let machines = call.stop_maintenance.as_ref().map(|one| &one.machines[..]);
            self.machines(machines.unwrap_or_default(), false, caller).await?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn named(&self, id: Option<&pb::AgentId>) -> Result<AgentId, Early> {
        id.and_then(|id| self.agent_called(&id.value)).ok_or_else(|| bad("Unknown agent"))
    }

    /// The agent with this id as clients see it.
    pub(super) fn agent_called(&self, id: &str) -> Option<AgentId> {
        AgentId::parse(id, self.cluster())
    }

    async fn deactivate(
        self: &Rc<Self>,
        named: Option<&pb::AgentId>,
        deactivated: bool,
        caller: &Caller,
    ) -> Result<(), Early> {
        let agent = self.named(named)?;
        self.operate(caller, OperatorVerb::Deactivate { agent, deactivated }).await
    }

    /// Replaces the maintenance schedule.
    async fn plan(self: &Rc<Self>, schedule: &Schedule, caller: &Caller) -> Result<(), Early> {
        let mut rows = Vec::new();
        for window in &schedule.windows {
            if window.machine_ids.is_empty() {
                return Err(bad("List of machines in the maintenance window is empty"));
            }
            let unavailability = unavailability(&window.unavailability)?;
            for machine in &window.machine_ids {
                rows.push((named_machine(machine)?, unavailability));
            }
        }
        check_count(rows.len())?;
        let planned = rows.iter().map(|((hostname, ip), window)| {
            let machine = MachineId { hostname, ip };
            Planned { machine, window: *window }
        });
        let mut memory = vec![0; HEAD_MAX];
        let machines = Scratch::new(&mut memory).seq::<Planned<'static>>(planned);
        let machines = machines.map_err(|_| bad("more machines than fit a message of 64 KiB"))?;
        self.operate(caller, OperatorVerb::Schedule { machines }).await
    }

    /// Machines go down as planned, or are up again.
    async fn machines(
        self: &Rc<Self>,
        machines: &[pb::MachineId],
        down: bool,
        caller: &Caller,
    ) -> Result<(), Early> {
        if machines.is_empty() {
            return Err(bad("List of machines is empty"));
        }
        check_count(machines.len())?;
        let ids: Vec<(String, String)> =
            machines.iter().map(named_machine).collect::<Result<_, Early>>()?;
        let ids = ids.iter().map(|(hostname, ip)| MachineId { hostname, ip });
        let mut memory = vec![0; HEAD_MAX];
        let machines = Scratch::new(&mut memory).seq::<MachineId<'static>>(ids);
        let machines = machines.map_err(|_| bad("more machines than fit a message of 64 KiB"))?;
        self.operate(caller, OperatorVerb::Down { machines, down }).await
    }

    /// `POST /maintenance/schedule`, `/machine/down`, `/machine/up`: JSON of a schedule, or of a list
    /// of machines.
    pub(super) async fn post_maintenance(self: Rc<Self>, visit: Visit, what: Posted) -> Reply {
        let change = async {
            self.leads_or_not()?;
            only(visit.request.method(), &[hyper::Method::POST])?;
            let bytes = request::whole(&self.port.bodies, visit.request.into_body()).await?;
            let malformed = |why: transcode::BadMessage| bad(why.to_string());
            let down = match what {
                Posted::Schedule => {
                    let schedule = transcode::from_json::<Schedule>(&bytes).map_err(malformed)?;
                    return self.plan(&schedule, &visit.caller).await;
                }
                Posted::Down => true,
                Posted::Up => false,
            };
            let list = serde_json::from_slice::<Vec<serde_json::Value>>(&bytes);
            list.map_err(|error| bad(format!("Failed to parse body into a JSON array: {error}")))?;
            // A list is no message: it is read as the one field of one.
            let wrapped = [br#"{"machines":"#, &bytes[..], b"}"].concat();
            let call = transcode::from_json::<pb::master::call::StartMaintenance>(&wrapped);
            self.machines(&call.map_err(malformed)?.machines, down, &visit.caller).await
        };
        match change.await {
            Ok(()) => status(StatusCode::OK),
            Err(reply) => *reply,
        }
    }
}

/// What is posted, as it was before Mesos' v1 API.
#[derive(Clone, Copy, Debug)]
pub(super) enum Posted {
    Schedule,
    Down,
    Up,
}

impl Posted {
    /// By the path without `/master`.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/maintenance/schedule" => Some(Self::Schedule),
            "/machine/down" => Some(Self::Down),
            "/machine/up" => Some(Self::Up),
            _ => None,
        }
    }
}

fn bad(message: impl Into<String>) -> Early {
    early(StatusCode::BAD_REQUEST, message.into())
}

/// A machine's name in lower case, and its address.
/// Host name and address of a machine, as they are compared. Mesos: `validation::machine`.
fn named_machine(machine: &pb::MachineId) -> Result<(String, String), Early> {
    let (hostname, ip) = (machine.hostname().to_ascii_lowercase(), machine.ip());
    if hostname.is_empty() && ip.is_empty() {
        return Err(bad("Both 'hostname' and 'ip' for a machine are empty"));
    }
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(bad(format!("'{ip}' is no IP address")));
    }
    Ok((hostname, ip.to_owned()))
}

fn check_count(machines: usize) -> Result<(), Early> {
    if machines <= ITEMS_PER_LIST_MAX {
        return Ok(());
    }
    Err(bad(format!("{machines} machines in a call: at most {ITEMS_PER_LIST_MAX}")))
}

fn unavailability(told: &pb::Unavailability) -> Result<Unavailability, Early> {
    let micros = |ns: i64, what: &str| {
        let us = u64::try_from(ns).map(|ns| ns / 1000);
        us.map_err(|_| bad(format!("Unavailability's {what} is negative")))
    };
    let duration = told.duration.as_ref().map(|one| micros(one.nanoseconds, "duration"));
    Ok(Unavailability {
        start_wall_us: micros(told.start.nanoseconds, "start")?,
        // Zero would be for good: a window of no length is as short as can be told.
        duration_us: duration.transpose()?.map_or(0, |us| us.max(1)),
    })
}

fn grace(duration: &prost_types::Duration) -> Result<u64, Early> {
    let seconds = u64::try_from(duration.seconds).ok();
    let nanos = u64::try_from(duration.nanos).ok();
    let us = seconds.and_then(|seconds| {
        seconds.checked_mul(1_000_000)?.checked_add(nanos?.checked_div(1_000)?)
    });
    us.ok_or_else(|| bad("'max_grace_period' must be non-negative"))
}
