//! `mesita registry`: what a master of a set has on its disk, while it does not run.

use std::process::ExitCode;

use mesita_core::registry::body::Shape;
use mesita_core::registry::rows::{Admission, Life, Row};
use mesita_core::wire::operator::Planned;
use serde_json::{Value, json};

use super::{FAILED, Failure, USAGE, default_work_dir};
use crate::agent::prepare::lock;
use crate::flags::{Registry, RegistryAt};
use crate::set::bootstrap::Identity;
use crate::set::store::{DAMAGED, SetStore};

pub(super) fn main(flags: &Registry) -> Result<ExitCode, Failure> {
    match flags {
        Registry::Show(at) => show(at),
        Registry::Verify(at) => verify(at),
    }
}

/// Reads what is there, and changes nothing.
fn open(at: &RegistryAt) -> Result<(Identity, SetStore), Failure> {
    let work_dir = match &at.work_dir {
        Some(work_dir) => work_dir.clone(),
        None => default_work_dir("master")?,
    };
    let meta = work_dir.join("meta");
    let identity = Identity::read(&meta).map_err(Failure::plain)?.ok_or_else(|| {
        let why = "is not the work directory of a master of a set";
        Failure::new(USAGE, format!("{} {why}", work_dir.display()))
    })?;
    // What is written meanwhile would be seen half.
    let _lock = lock(&meta.join("lock")).map_err(Failure::plain)?;
    let [agents, frameworks, roles] = identity.rows;
    let store = SetStore::look(&meta, Shape::new(agents, frameworks, roles));
    Ok((identity, store.map_err(Failure::plain)?))
}

fn show(at: &RegistryAt) -> Result<ExitCode, Failure> {
    let (identity, store) = open(at)?;
    let told = describe(&identity, &store);
    if at.json {
        outln!("{told}");
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in told.as_object().into_iter().flatten() {
        match value.as_array() {
            Some(all) => all.iter().for_each(|one| outln!("{name}: {one}")),
            None => outln!("{name}: {value}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(at: &RegistryAt) -> Result<ExitCode, Failure> {
    let (identity, store) = open(at)?;
    let facts = store.facts();
    let why = if identity.formed && !facts.formed {
        DAMAGED
    } else if !facts.formed {
        "it belongs to no set yet: its bootstrap did not come to an end"
    } else if facts.quarantined {
        "its id is over: it was found to remember less than the others know of it"
    } else if facts.held != facts.accepted {
        "it has an older registry than it voted for: it gets the newest from the others when it runs"
    } else {
        let at = facts.accepted.version;
        outln!("whole, at {}.{}, with {} rows", at.epoch, at.number, store.values().len());
        return Ok(ExitCode::SUCCESS);
    };
    Err(Failure::new(FAILED, format!("{}: {why}", store.path().display())))
}

fn describe(identity: &Identity, store: &SetStore) -> Value {
    let facts = store.facts();
    let version = |version: mesita_core::wire::gossip::Version| {
        format!("{}.{}", version.epoch, version.number)
    };
    let members = facts.meta.roster.members.iter().map(|member| {
        let address = identity.masters.get(usize::from(member.id).saturating_sub(1));
        json!({ "id": member.id, "voter": member.voter, "listed": address })
    });
    json!({
        "cluster": format!("{:016x}", facts.cluster),
        "generation": facts.generation.number,
        "id": facts.me,
        "formed": facts.formed,
        "quarantined": facts.quarantined,
        "starts": facts.incarnation,
        "promised": facts.promised,
        "voted_for": facts.voted_for,
        "accepted": version(facts.accepted.version),
        "held": version(facts.held.version),
        "last_leader": facts.meta.leader,
        "t_us": facts.meta.t_us,
        "masters": members.collect::<Vec<_>>(),
        "rows": store.values().iter().map(|(_, _, bytes)| row(facts.cluster, bytes)).collect::<Vec<_>>(),
    })
}

const fn life_word(life: Life) -> &'static str {
    match life {
        Life::Admitted => "admitted",
        Life::Unreachable => "unreachable",
        Life::Gone => "gone",
    }
}

fn row(cluster: u64, bytes: &[u8]) -> Value {
    let amounts = |list: &mesita_core::wire::Seq<'_, mesita_core::wire::call::Quantity<'_>>| {
        let each = list.iter().map(|one| (one.name.to_owned(), json!(one.amount.to_string())));
        Value::Object(each.collect())
    };
    match Row::read(bytes) {
        Some(Row::Weight { role, weight }) => json!({ "role": role, "weight_milli": weight }),
        Some(Row::Quota { role, guarantees, limits }) => json!({
            "role": role, "guarantees": amounts(&guarantees), "limits": amounts(&limits),
        }),
        Some(Row::Agent(Admission { agent, life, deactivated, emptying, .. })) => json!({
            "agent": agent.shown(cluster).to_string(),
            "life": life_word(life),
            "deactivated": deactivated,
            "draining": emptying.is_some(),
        }),
        Some(Row::Machine { planned: Planned { machine, window }, down }) => json!({
            "hostname": machine.hostname,
            "ip": machine.ip,
            "start_wall_us": window.start_wall_us,
            "duration_us": window.duration_us,
            "down": down,
        }),
        Some(Row::Removed(framework)) => {
            json!({ "removed_framework": framework.shown(cluster).to_string() })
        }
        None => json!("of a later release"),
    }
}
