//! `mesita registry`: what a master has on its disk, while it does not run.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mesita_core::registry::body::Shape;
use mesita_core::registry::rows::{Admission, Life, Owned, Request, Row};
use mesita_core::wire::gossip::Table;
use mesita_core::wire::operator::Planned;
use serde_json::{Value, json};

use super::{FAILED, Failure, USAGE, default_work_dir, make_meta};
use crate::agent::prepare::lock;
use crate::flags::{Registry, RegistryAt, RegistryImport};
use crate::set::bootstrap::Identity;
use crate::set::cells::stored;
use crate::set::origin::{Origin, TEXT_MAX};
use crate::set::store::{DAMAGED, SetStore};

pub(super) fn main(flags: &Registry) -> Result<ExitCode, Failure> {
    match flags {
        Registry::Show(at) => show(at),
        Registry::Verify(at) => verify(at),
        Registry::Export(at) => export(at),
        Registry::Import(flags) => import(flags),
    }
}

fn directory(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    given.map_or_else(|| default_work_dir("master"), |work_dir| Ok(work_dir.clone()))
}

/// Prints all of it, if all of it is there.
fn export(at: &RegistryAt) -> Result<ExitCode, Failure> {
    let (identity, store) = open(at)?;
    let facts = store.facts();
    // Of the only master of a cluster nobody knows more.
    if facts.quarantined && identity.is_alone() && facts.held == facts.accepted {
        log::warn!(
            "this registry is older than what its agents have obeyed: what was decided since then is lost, and \
             they follow it only by `mesita registry import --new-generation --i-lost-quorum`"
        );
    } else {
        whole(&identity, &store)?;
    }
    let values = store.values();
    let is = |bytes: &[u8]| row(facts.cluster, bytes);
    let origin = Origin::of(facts, rows(&values), is, stored(&values));
    let text = if at.json { serde_json::to_string } else { serde_json::to_string_pretty };
    outln!("{}", text(&origin).map_err(Failure::plain)?);
    Ok(ExitCode::SUCCESS)
}

/// Puts one where a single master will find it.
fn import(flags: &RegistryImport) -> Result<ExitCode, Failure> {
    let work_dir = directory(flags.work_dir.as_ref())?;
    let refused = |text: String| Failure::new(USAGE, text);
    let text = std::fs::File::open(&flags.file).and_then(|file| {
        let mut text = Vec::new();
        file.take(TEXT_MAX).read_to_end(&mut text).map(|_| text)
    });
    let text = text.map_err(|error| refused(format!("{}: {error}", flags.file.display())))?;
    let mut origin = Origin::parse(&text, &flags.file).map_err(Failure::plain)?;
    if origin.masters > 1 && !flags.i_lost_quorum {
        return Err(refused(format!(
            "{} masters had a vote, and those that are left may go on: only when a majority of them \
             is lost for good, say --new-generation --i-lost-quorum",
            origin.masters
        )));
    }
    if flags.new_generation {
        origin.begins_anew(crate::random::number()).map_err(Failure::plain)?;
    }
    let meta = make_meta(&work_dir)?;
    let _lock = lock(&meta.join("lock")).map_err(Failure::plain)?;
    for other in ["set", "registry", "origin", "key", "ledger"] {
        if meta.join(other).exists() {
            let path = meta.join(other);
            let why = "is there already: give an empty --work-dir";
            return Err(refused(format!("{} {why}", path.display())));
        }
    }
    origin.write(&meta).map_err(Failure::plain)?;
    outln!("start the master with --work-dir {}", work_dir.display());
    Ok(ExitCode::SUCCESS)
}

/// Reads what is there, and changes nothing.
fn open(at: &RegistryAt) -> Result<(Identity, SetStore), Failure> {
    let work_dir = directory(at.work_dir.as_ref())?;
    let meta = work_dir.join("meta");
    let identity = Identity::read(&meta).map_err(Failure::plain)?.ok_or_else(|| {
        let why = "is not the work directory of a master that was started";
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
    outln!("{}", looked_at(at)?);
    Ok(ExitCode::SUCCESS)
}

fn looked_at(at: &RegistryAt) -> Result<String, Failure> {
    let (identity, store) = open(at)?;
    whole(&identity, &store)?;
    let version = store.facts().accepted.version;
    let rows = rows(&store.values()).count();
    Ok(format!("whole, at {}.{}, with {rows} rows", version.epoch, version.number))
}

/// What `verify` says of a work directory.
pub(super) fn examined(work_dir: &Path) -> Result<String, String> {
    let at = RegistryAt { work_dir: Some(work_dir.to_owned()), json: false };
    looked_at(&at).map_err(|failure| failure.message)
}

/// Why something of it is missing.
fn whole(identity: &Identity, store: &SetStore) -> Result<(), Failure> {
    let facts = store.facts();
    let why = if identity.formed && !facts.formed {
        DAMAGED
    } else if !facts.formed {
        "it belongs to no set yet: its bootstrap did not come to an end"
    } else if facts.quarantined {
        "its id is over: it was found to remember less than the others know of it"
    } else if facts.held != facts.accepted && identity.is_alone() {
        DAMAGED
    } else if facts.held != facts.accepted {
        "it has an older registry than it voted for: it gets the newest from the others when it runs"
    } else {
        return Ok(());
    };
    Err(Failure::new(FAILED, format!("{}: {why}", store.path().display())))
}

/// The slots that are rows.
fn rows(values: &[(Table, u32, Vec<u8>)]) -> impl Iterator<Item = &[u8]> {
    let rows = values.iter().filter(|(table, _, _)| *table != Table::Store);
    rows.map(|(_, _, bytes)| bytes.as_slice())
}

fn describe(identity: &Identity, store: &SetStore) -> Value {
    let facts = store.facts();
    let version = |version: mesita_core::wire::gossip::Version| {
        format!("{}.{}", version.epoch, version.number)
    };
    let values = store.values();
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
        "rows": rows(&values).map(|bytes| row(facts.cluster, bytes)).collect::<Vec<_>>(),
        "store": stored(&values).iter().map(|one| json!({
            "owner": one.owner, "key": one.key, "version": one.version, "bytes": one.value.len(),
        })).collect::<Vec<_>>(),
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
        Some(Row::Host { agent, hostname }) => {
            json!({ "agent": agent.shown(cluster).to_string(), "hostname": hostname })
        }
        Some(Row::Machine { planned: Planned { machine, window }, down }) => json!({
            "hostname": machine.hostname,
            "ip": machine.ip,
            "start_wall_us": window.start_wall_us,
            "duration_us": window.duration_us,
            "down": down,
        }),
        Some(Row::Request(Request { id, .. })) => {
            json!({ "request": format!("{:032x}", u128::from_be_bytes(id)) })
        }
        Some(Row::Framework(Owned { framework, failover_us, .. })) => json!({
            "framework": framework.shown(cluster).to_string(),
            "failover_us": (failover_us < u64::MAX).then_some(failover_us),
        }),
        Some(Row::Removed(framework)) => {
            json!({ "removed_framework": framework.shown(cluster).to_string() })
        }
        None => json!("of a later release"),
    }
}
