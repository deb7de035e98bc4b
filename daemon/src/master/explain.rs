//! Why a framework does not get what an agent has, as people say it: the core's answers, with names
//! instead of numbers, a line of JSON each.

use mesita_core::Refusal;
use mesita_core::allocator::node::NodeKind;
use mesita_core::allocator::{Bar, Gate};
use mesita_core::master::explain::{Lack, Question, Row, Wanted};
use mesita_core::resources::Amount;
use mesita_core::resources::text::{TextValue, resources};
use mesita_core::time::Time;
use mesita_core::wire::call::{Capability, Predicate, Quantity, Selector};
use mesita_core::wire::svc::CloseReason;
use mesita_core::wire::{AgentId, FrameworkId, Scratch, Seq};
use serde_json::{Value, json};

use super::MasterNode;
use crate::catalog::Tables;
use crate::clock;
use crate::conn::streams::Handle;
use crate::doors::Caller;
use crate::encoded::{attribute_text, number};

/// What somebody wants to know, with the names of the catalog resolved.
pub(super) struct Asked {
    /// Which framework; none = what is to fit.
    framework: Option<FrameworkId>,
    agent: Option<AgentId>,
    need: Vec<(String, Amount)>,
    /// Names and texts that an agent's attributes must have.
    attributes: Vec<(String, String)>,
}

impl MasterNode {
    /// Reads what is asked; a sentence when it names what is not there.
    pub(super) fn read_question(
        &self,
        caller: &Caller,
        framework: &str,
        agent: &str,
        need: &str,
        attributes: &str,
    ) -> Result<Asked, String> {
        let tables = &self.catalog.borrow().now.seen_by(&self.options.access, caller);
        let framework = match framework {
            "" => None,
            name => Some(tables.framework_called(name)?),
        };
        let agent = match agent {
            "" => None,
            name => Some(tables.agent_called(name)?),
        };
        let need = read_need(need)?;
        if framework.is_none() && need.is_empty() {
            return Err("give a framework, or with --need what is to fit".to_owned());
        }
        let attributes = attributes.split(';').map(str::trim).filter(|one| !one.is_empty());
        let attributes = attributes.map(|one| match one.split_once(':') {
            Some((name, text)) => Ok((name.to_owned(), text.to_owned())),
            None => Err(format!("`{one}`: expected an attribute as name:text")),
        });
        let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
        Ok(Asked { framework, agent, need, attributes })
    }

    /// Asks the core part after part, and sends what it says.
    pub(super) async fn send_answer(&self, handle: Handle, asked: &Asked) {
        let mut memory = vec![0; 4096];
        let amounts = asked.need.iter().map(|(name, amount)| Quantity { name, amount: *amount });
        let Ok(amounts) = Scratch::new(&mut memory).seq::<Quantity<'_>>(amounts) else {
            let message = "more amounts than one question holds";
            return handle.close(CloseReason::Failed, message);
        };
        let question = asked.question(amounts);
        let mut from = 0;
        loop {
            let answer = self.port.ask(&(from, question)).await;
            let part = postcard::take_from_bytes::<Result<Option<u64>, Refusal>>(&answer);
            let (next, rows) = match part {
                Ok((Ok(next), rows)) => (next, rows),
                Ok((Err(refusal), _)) => {
                    return handle.close(CloseReason::NotFound, refusal.sentence());
                }
                Err(_) => return handle.close(CloseReason::Failed, "the master gave no answer"),
            };
            let text = self.text_of(rows, asked);
            if handle.write(&text).await.is_err() {
                return;
            }
            match next {
                Some(next) => from = next,
                None => return handle.close(CloseReason::Done, ""),
            }
        }
    }

    fn text_of(&self, mut rows: &[u8], asked: &Asked) -> Vec<u8> {
        let tables = &self.catalog.borrow().now;
        let mut text = Vec::new();
        while let Ok((row, rest)) = postcard::take_from_bytes::<Row<'_>>(rows) {
            rows = rest;
            if let Some(line) = asked.line(tables, &row, clock::now()) {
                text.extend_from_slice(line.to_string().as_bytes());
                text.push(b'\n');
            }
        }
        text
    }
}

/// Mesos' text form of scalars.
fn read_need(text: &str) -> Result<Vec<(String, Amount)>, String> {
    let read = resources(text).map(|entry| match entry {
        Ok(entry) => match entry.value {
            TextValue::Scalar(amount) => Ok((entry.name.to_owned(), amount)),
            TextValue::Ranges(_) | TextValue::Set(_) | TextValue::Text(_) => {
                Err(format!("`{}` is no amount", entry.name))
            }
        },
        Err(bad) => Err(bad.to_string()),
    });
    read.collect()
}

impl Asked {
    fn question<'q>(&self, amounts: Seq<'q, Quantity<'q>>) -> Question<'q> {
        match self.framework {
            Some(framework) => Question::Why { framework, agent: self.agent },
            None => Question::Need { amounts },
        }
    }

    /// A row as an object of JSON; none when its agent is not asked about.
    fn line(&self, tables: &Tables, row: &Row<'_>, now: Time) -> Option<Value> {
        match *row {
            Row::Standing {
                of,
                kind,
                role,
                resource,
                has,
                total,
                weight,
                count,
                siblings,
                before,
            } => {
                let who = match kind {
                    NodeKind::Role | NodeKind::Root => format!("role {role}"),
                    NodeKind::Own => "the frameworks of the role itself".to_owned(),
                    NodeKind::Client => "the framework".to_owned(),
                };
                let verb = if kind == NodeKind::Own { "have" } else { "has" };
                let share = if resource.is_empty() {
                    format!("{verb} nothing")
                } else {
                    format!("{verb} {} of {} {resource}", amount(has), amount(total))
                };
                let says = format!(
                    "{who} {share}, weight {}, {count} offers so far; {before} of {siblings} others \
                     come before it",
                    amount(weight.into())
                );
                Some(json!({
                    "kind": "standing", "role": of, "says": says, "level": kind_word(kind),
                    "path": role, "resource": resource, "has": json_amount(has),
                    "total": json_amount(total), "weight": json_amount(weight.into()),
                    "offers": count, "siblings": siblings, "before": before,
                }))
            }
            Row::Agent {
                of, agent, gate, entitled, refusals, offered, last, ref lacks, ..
            } => {
                let host = self.host(tables, agent)?;
                let mut says = match gate {
                    Some(gate) => sentence(&gate, row, now),
                    None if entitled => "served first: its role is short of a guarantee".to_owned(),
                    None => "offered what is free once its turn comes".to_owned(),
                };
                if let Some(lack) = lacks {
                    says += &format!("; what it requested does not fit: {}", short(lack));
                }
                let name = |id| tables.framework_name(id);
                if let Some((to, since)) = offered {
                    let since = since.map_or(String::new(), |us| format!(" since {}", ago(us)));
                    says += &format!("; offered to {}{since}", name(to));
                }
                Some(json!({
                    "kind": "agent", "role": of, "agent": host.0, "agent_id": host.1, "says": says,
                    "gate": gate.as_ref().map(gate_word), "entitled": entitled,
                    "refusals": refusals,
                    "offered_to": offered.map(|(to, _)| name(to)),
                    "offered_us": offered.and_then(|(_, us)| us),
                    "last_to": last.map(|(to, _)| name(to)), "last_us": last.map(|(_, us)| us),
                    "lacks": lacks.as_ref().map(lack_json),
                }))
            }
            Row::Need { agent, bar, ref lacks, never } => {
                if self.agent.is_some_and(|asked| asked != agent) {
                    return None;
                }
                let host = self.host(tables, agent)?;
                let says = match (bar, lacks) {
                    (Some(bar), _) => bar_sentence(bar).to_owned(),
                    (None, None) => "it fits now".to_owned(),
                    (None, Some(lack)) if never => format!("it never fits: {}", short(lack)),
                    (None, Some(lack)) => format!("it does not fit now: {}", short(lack)),
                };
                Some(json!({
                    "kind": "need", "agent": host.0, "agent_id": host.1, "says": says,
                    "fits": bar.is_none() && lacks.is_none(), "never": never,
                    "lacks": lacks.as_ref().map(lack_json),
                }))
            }
        }
    }

    /// An agent's host and id, if its attributes are those asked for.
    fn host(&self, tables: &Tables, agent: AgentId) -> Option<(String, String)> {
        let mut agents = tables.agents.iter().map(|(_, row)| row);
        let row = agents.find(|row| row.id == agent)?;
        let info = row.info.info()?;
        let has = |(name, text): &(String, String)| {
            let mut all = info.attributes.iter();
            all.any(|one| one.name == name && attribute_text(&one.value) == *text)
        };
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let fits = self.attributes.iter().all(has);
        fits.then(|| (info.hostname.to_owned(), agent.shown(cluster).to_string()))
    }
}

impl Tables {
    /// The framework of this id, or the only one of this name.
    fn framework_called(&self, name: &str) -> Result<FrameworkId, String> {
        let cluster = self.leading.map_or(0, |(cluster, _)| cluster);
        let is = |id: FrameworkId, of: &str| of == name || id.shown(cluster).to_string() == name;
        let mut found = self.frameworks.iter().filter(|(_, row)| is(row.id, &row.name));
        match (found.next(), found.next()) {
            (None, _) => Err(format!("no framework `{name}`; `mesita ps --frameworks` lists them")),
            (Some((_, one)), None) => Ok(one.id),
            (Some(_), Some(_)) => {
                Err(format!("several frameworks are called `{name}`: give the id of one"))
            }
        }
    }

    /// The agent of this id, or the only one on this host.
    fn agent_called(&self, name: &str) -> Result<AgentId, String> {
        let cluster = self.leading.map_or(0, |(cluster, _)| cluster);
        let mut found = self.agents.iter().filter(|(_, row)| {
            let host = row.info.info().is_some_and(|info| info.hostname == name);
            host || row.id.shown(cluster).to_string() == name
        });
        match (found.next(), found.next()) {
            (None, _) => Err(format!("no agent `{name}`; `mesita ps --agents` lists them")),
            (Some((_, one)), None) => Ok(one.id),
            (Some(_), Some(_)) => {
                Err(format!("several agents are on `{name}`: give the id of one"))
            }
        }
    }

    fn framework_name(&self, id: FrameworkId) -> String {
        let cluster = self.leading.map_or(0, |(cluster, _)| cluster);
        let row = self.frameworks.iter().find(|(_, row)| row.id == id);
        row.map_or_else(|| id.shown(cluster).to_string(), |(_, row)| row.name.to_string())
    }
}

// ------------------------------------------------------------------------- words

fn amount(milli: u64) -> String {
    Amount::from_milli(milli).to_string()
}

fn json_amount(milli: u64) -> Value {
    Value::Number(number(Amount::from_milli(milli)))
}

fn short(lack: &Lack<'_>) -> String {
    format!("{} {} wanted, {} free", amount(lack.least), lack.resource, amount(lack.have))
}

fn lack_json(lack: &Lack<'_>) -> Value {
    json!({
        "resource": lack.resource, "wanted": json_amount(lack.least), "free": json_amount(lack.have),
    })
}

/// µs as people say them.
fn ago(us: u64) -> String {
    match us {
        0..10_000_000 => format!("{}.{} s", us / 1_000_000, us / 100_000 % 10),
        10_000_000..600_000_000 => format!("{} s", us / 1_000_000),
        _ => format!("{} min", us / 60_000_000),
    }
}

const fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Root => "root",
        NodeKind::Role => "role",
        NodeKind::Own => "own",
        NodeKind::Client => "framework",
    }
}

const fn bar_sentence(bar: Bar) -> &'static str {
    match bar {
        Bar::Away => "the agent is not connected, or its registration is not complete",
        Bar::Deactivated => "an operator wants nothing new on the agent",
        Bar::Draining => "the agent is being emptied",
        Bar::Crowded => "as many offers of the agent are outstanding as may be",
        Bar::Unlisted => "the agent is not on the operator's list",
        Bar::Leaving => "the agent ends its tasks and goes",
    }
}

const fn bar_word(bar: Bar) -> &'static str {
    match bar {
        Bar::Away => "agent_away",
        Bar::Deactivated => "agent_deactivated",
        Bar::Draining => "agent_draining",
        Bar::Crowded => "agent_crowded",
        Bar::Unlisted => "agent_unlisted",
        Bar::Leaving => "agent_leaving",
    }
}

/// The word for a gate in JSON.
const fn gate_word(gate: &Gate) -> &'static str {
    match gate {
        Gate::AgentUnknown => "agent_unknown",
        Gate::AgentBarred(bar) => bar_word(*bar),
        Gate::Paused => "paused",
        Gate::FrameworkAway => "framework_away",
        Gate::Suppressed => "suppressed",
        Gate::Constraint(_) => "constraint",
        Gate::NothingFree => "nothing_free",
        Gate::Reserved(_) => "reserved",
        Gate::Incapable(_) => "incapable",
        Gate::OfferedAlready => "offered_already",
        Gate::BelowMinimum(_) => "below_minimum",
        Gate::Gpu => "gpu",
        Gate::Region => "region",
        Gate::NoNeed => "no_need",
        Gate::Limit { .. } => "limit",
        Gate::Headroom(_) => "headroom",
        Gate::Full => "full",
        Gate::Filtered(_) => "filtered",
        _ => "other",
    }
}

/// What a gate says; its names are in the row it came with.
fn sentence(gate: &Gate, row: &Row<'_>, now: Time) -> String {
    let Row::Agent { role, resource, constraint, .. } = row else { return String::new() };
    match gate {
        Gate::AgentUnknown => "the agent is not registered".to_owned(),
        Gate::AgentBarred(bar) => bar_sentence(*bar).to_owned(),
        Gate::Paused => "no offers are made: agents are still coming back".to_owned(),
        Gate::FrameworkAway => {
            "the framework is not connected, reads its stream too slowly, or its principal has as many \
             offers unanswered as it may"
                .to_owned()
        }
        Gate::Suppressed => "the framework suppressed this role".to_owned(),
        Gate::Constraint(_) => match constraint {
            Some(wanted) => {
                format!("the framework wants other agents: {}", constraint_text(wanted))
            }
            None => "the framework wants other agents".to_owned(),
        },
        Gate::NothingFree => "nothing is free".to_owned(),
        Gate::Reserved(_) => format!("what is free is reserved for {role}"),
        Gate::Incapable(capability) => format!(
            "what is free is for frameworks with the capability {}",
            capability_word(*capability)
        ),
        Gate::OfferedAlready => {
            "what is free is a shared volume that is offered already".to_owned()
        }
        Gate::BelowMinimum(short) => format!(
            "{} {resource} are free, less than the {} that are offered at least",
            amount(short.have),
            amount(short.least)
        ),
        Gate::Gpu => "the agent has GPUs, which the framework does not say that it uses".to_owned(),
        Gate::Region => {
            "the agent is in another region, and the framework does not say that it goes there"
                .to_owned()
        }
        Gate::NoNeed => "the role is short of no guarantee here".to_owned(),
        Gate::Limit { short, .. } => format!(
            "the limit of {role} leaves {} {resource}, and {} are offered at least",
            amount(short.have),
            amount(short.least)
        ),
        Gate::Headroom(short) => format!(
            "{} {resource} are left over beside what is held free for guarantees, and {} are \
             offered at least",
            amount(short.have),
            amount(short.least)
        ),
        Gate::Full => "the master has no room to part what is free; see --size".to_owned(),
        Gate::Filtered(until) if *until == Time::NEVER => {
            "the framework refused the like until it revives".to_owned()
        }
        Gate::Filtered(until) => {
            format!("the framework refused the like, for {} more", ago(until.since(now)))
        }
        _ => "it may not be offered".to_owned(),
    }
}

fn constraint_text(wanted: &Wanted<'_>) -> String {
    let what = match wanted.selector {
        Selector::Attribute => format!("attribute {}", wanted.attribute),
        Selector::Hostname => "the host's name".to_owned(),
        Selector::Region => "the region".to_owned(),
        Selector::Zone => "the zone".to_owned(),
    };
    let value = wanted.value;
    match wanted.predicate {
        Predicate::Exists => format!("{what} must exist"),
        Predicate::NotExists => format!("{what} must not exist"),
        Predicate::TextEquals => format!("{what} must be `{value}`"),
        Predicate::TextNotEquals => format!("{what} must not be `{value}`"),
        Predicate::TextMatches => format!("{what} must match `{value}`"),
        Predicate::TextNotMatches => format!("{what} must not match `{value}`"),
    }
}

const fn capability_word(capability: Capability) -> &'static str {
    match capability {
        Capability::None => "UNKNOWN",
        Capability::RevocableResources => "REVOCABLE_RESOURCES",
        Capability::SharedResources => "SHARED_RESOURCES",
        Capability::ReservationRefinement => "RESERVATION_REFINEMENT",
        Capability::GpuResources => "GPU_RESOURCES",
        Capability::TaskKillingState => "TASK_KILLING_STATE",
        Capability::PartitionAware => "PARTITION_AWARE",
        Capability::MultiRole => "MULTI_ROLE",
        Capability::RegionAware => "REGION_AWARE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_exact_as_people_want_it() {
        assert_eq!(ago(1_250_000), "1.2 s");
        assert_eq!(ago(59_900_000), "59 s");
        assert_eq!(ago(3_600_000_000), "60 min");
    }

    #[test]
    fn what_is_to_fit_is_amounts() {
        assert_eq!(read_need("cpus:2;mem:64").unwrap().len(), 2);
        assert!(read_need("ports:[1-2]").unwrap_err().contains("no amount"));
        assert!(read_need("cpus").is_err());
    }
}
