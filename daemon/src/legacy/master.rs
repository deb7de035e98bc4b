//! What a master has under which path. Mesos: `master/readonly_handler.cpp`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use mesita_core::table::Id;
use serde::Serialize;
use serde_json::{Value, json};

use super::held::Holdings;
use super::pieces::Pieces;
use super::roles;
use super::rows::{
    AgentRow, Counts, ExecutorRow, FrameworkDetail, FrameworkHead, FullAgentRow, OfferRow,
};
use super::tasks::Tasks;
use crate::catalog::Tables;
use crate::catalog::rows::{Agent, Completed, Framework};
use crate::pb::mesos::v1::MasterInfo;
use crate::set::begin::together;
use crate::v1::about::built;
use crate::v1::amounts::seconds;
use crate::v1::events::MESOS_VERSION;
use crate::v1::{maintenance, reads};

/// Tasks of one answer of `/tasks`, unless it is asked for fewer or more.
const TASKS: usize = 100;

/// What is told beside the tables.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// This master, at the address that the reader has connected to.
    pub(crate) master: MasterInfo,
    /// When its process began, and when it began to lead, in µs of Unix time.
    pub(crate) started_us: u64,
    /// See `started_us`.
    pub(crate) elected_us: u64,
    /// Its flags.
    pub(crate) flags: BTreeMap<String, String>,
}

/// True for what grows with the cluster, and is read from a moment of its own.
pub(crate) fn is_long(path: &str) -> bool {
    let path = path.strip_suffix(".json").unwrap_or(path);
    matches!(path, "/state" | "/state-summary" | "/slaves" | "/frameworks" | "/tasks")
}

/// The answer at a path; none when nothing is there.
pub(crate) fn answer(
    path: &str,
    query: &BTreeMap<String, String>,
    tables: Tables,
    about: &About,
) -> Option<Pieces> {
    let path = path.strip_suffix(".json").unwrap_or(path);
    let mut pieces = Pieces::new();
    let tables = Rc::new(tables);
    match path {
        "/state" => state(&mut pieces, tables, about),
        "/state-summary" => summary(&mut pieces, tables, about),
        "/slaves" => slaves(&mut pieces, tables, query.get("slave_id")),
        "/frameworks" => frameworks(&mut pieces, tables, query.get("framework_id")),
        "/tasks" => tasks(&mut pieces, tables, query),
        "/flags" => pieces.text(json!({ "flags": about.flags }).to_string()),
        "/roles" => {
            pieces.text(roles::roles(&tables, |id| shown(&tables, id)).to_string());
        }
        "/weights" => {
            let told = reads::weights(&tables);
            let told = told.iter().map(|one| json!({"role": one.role(), "weight": one.weight}));
            pieces.text(Value::Array(told.collect()).to_string());
        }
        "/quota" => pieces.text(text(&reads::quota_status(&tables))),
        // The log is on standard error, or wherever that leads: no file of ours.
        "/files/debug" => pieces.text("{}"),
        "/maintenance/schedule" => pieces.text(text(&maintenance::schedule(&tables))),
        "/maintenance/status" => pieces.text(text(&maintenance::status(&tables))),
        _ => return None,
    }
    Some(pieces)
}

fn text<M: prost::Message + prost::Name>(message: &M) -> String {
    String::from_utf8_lossy(&crate::http::transcode::to_json(message)).into_owned()
}

fn state(pieces: &mut Pieces, tables: Rc<Tables>, about: &About) {
    let master = &about.master;
    let agents = |is: fn(&Agent) -> bool| {
        let agents = tables.agents.iter().filter(|(_, agent)| is(agent));
        // Mesos tells these as doubles.
        f64::from(u32::try_from(agents.count()).unwrap_or(u32::MAX))
    };
    let capabilities = master.capabilities.iter().map(|one| one.r#type().as_str_name());
    let mut head = json!({
        "version": MESOS_VERSION,
        "start_time": seconds(about.started_us),
        "elected_time": seconds(about.elected_us),
        "id": master.id,
        "pid": master.pid,
        "hostname": master.hostname,
        "capabilities": capabilities.collect::<Vec<&str>>(),
        "activated_slaves": agents(Agent::is_active),
        "deactivated_slaves": agents(|agent| agent.is_known() && !agent.is_active()),
        "unreachable_slaves": agents(|agent| agent.unreachable_us().is_some()),
        "leader": master.pid,
        "leader_info": {
            "id": master.id, "pid": master.pid, "port": master.port, "hostname": master.hostname,
        },
        "flags": about.flags,
    });
    for (name, value) in built() {
        head[name] = value;
    }
    if let Some(domain) = &master.domain {
        head["domain"] = json!(super::message(domain));
        head["leader_info"]["domain"] = head["domain"].clone();
    }
    pieces.text(open(&head.to_string()));
    let holdings = Rc::new(Holdings::of(&tables));
    agent_rows(pieces, "slaves", Agent::is_known, &tables, &holdings, AgentRow::of);
    pieces.text(",");
    agent_rows(pieces, "recovered_slaves", Agent::is_recovered, &tables, &holdings, AgentRow::of);
    pieces.text(",\"frameworks\":[");
    framework_rows(pieces, &tables, &holdings, None);
    pieces.text("],\"completed_frameworks\":[");
    completed_frameworks(pieces, &tables, &holdings, None);
    pieces.text("],\"orphan_tasks\":[],\"unregistered_frameworks\":[]}");
}

fn agent_rows<R: Serialize>(
    pieces: &mut Pieces,
    name: &'static str,
    is: impl Fn(&Agent) -> bool + 'static,
    tables: &Rc<Tables>,
    holdings: &Rc<Holdings>,
    row: impl Fn(&Tables, Id, &Agent, &Holdings) -> R + 'static,
) {
    let (tables, holdings) = (Rc::clone(tables), Rc::clone(holdings));
    let mut next = 0;
    pieces.array(name, move || {
        let (id, agent) = tables.agents.next(&mut next, &is)?;
        Some(row(&tables, id, agent, &holdings))
    });
}

/// Whole frameworks, or one of them.
fn framework_rows(
    pieces: &mut Pieces,
    tables: &Rc<Tables>,
    holdings: &Rc<Holdings>,
    only: Option<&String>,
) {
    let (tables, holdings, only) = (Rc::clone(tables), Rc::clone(holdings), only.cloned());
    let (mut next, mut comma) = (0, "");
    pieces.parts(move |pieces| {
        let wanted = |one: &Framework| only.as_ref().is_none_or(|id| *id == shown(&tables, one.id));
        let Some((id, framework)) = tables.frameworks.next(&mut next, wanted) else {
            return false;
        };
        pieces.text(std::mem::replace(&mut comma, ","));
        framework_row(pieces, &tables, &holdings, id, framework);
        true
    });
}

/// Frameworks that are no more, or one of them.
fn completed_frameworks(
    pieces: &mut Pieces,
    tables: &Rc<Tables>,
    holdings: &Rc<Holdings>,
    only: Option<&String>,
) {
    let all = tables.completed_frameworks.iter();
    let wanted = all.filter(|(_, one)| only.is_none_or(|only| *only == shown(tables, one.id)));
    for (number, (id, framework)) in wanted.enumerate() {
        pieces.text(if number == 0 { "" } else { "," });
        framework_row(pieces, tables, holdings, *id, framework);
    }
}

fn framework_row(
    pieces: &mut Pieces,
    tables: &Rc<Tables>,
    holdings: &Rc<Holdings>,
    id: Id,
    framework: &Framework,
) {
    let detail = FrameworkDetail::of(tables, id, framework, holdings);
    pieces.text(open(&written(&detail)).to_owned());
    let (of, held, mut places) = (Rc::clone(tables), Rc::clone(holdings), holdings.tasks_of(id));
    let mut rows = Tasks::of(tables);
    pieces.rows("tasks", move |into| {
        for place in places.by_ref() {
            let task = held.task_at(place).and_then(|slot| of.tasks.at(slot));
            let task = task.filter(|(_, task)| task.framework == id);
            if let Some((_, task)) = task {
                rows.write(into, task);
                return true;
            }
        }
        false
    });
    pieces.text(",");
    over_rows(pieces, tables, "unreachable_tasks", &tables.unreachable, framework.id);
    pieces.text(",");
    over_rows(pieces, tables, "completed_tasks", &tables.completed, framework.id);
    pieces.text(",");
    let (of, held, mut places) = (Rc::clone(tables), Rc::clone(holdings), holdings.offers_of(id));
    pieces.array("offers", move || {
        let mut offers = places.by_ref().filter_map(|place| of.offers.at(held.offer_at(place)?));
        let (_, offer) = offers.find(|(_, offer)| offer.framework == id)?;
        Some(OfferRow::of(&of, offer))
    });
    pieces.text(",");
    let (of, mut next) = (Rc::clone(tables), 0);
    pieces.array("executors", move || {
        let (_, executor) = of.executors.next(&mut next, |one| one.framework == id)?;
        Some(ExecutorRow::of(&of, executor))
    });
    pieces.text("}");
}

fn over_rows(
    pieces: &mut Pieces,
    tables: &Rc<Tables>,
    name: &str,
    list: &Arc<VecDeque<Completed>>,
    of: mesita_core::wire::FrameworkId,
) {
    let (mut rows, list) = (Tasks::of(tables), Arc::clone(list));
    let mut next = 0;
    pieces.rows(name, move |into| {
        while let Some(one) = list.get(next) {
            next += 1;
            if one.framework_id == of {
                rows.write_completed(into, one);
                return true;
            }
        }
        false
    });
}

fn shown(tables: &Tables, id: mesita_core::wire::FrameworkId) -> String {
    id.shown(tables.leading.map_or(0, |(cluster, _)| cluster)).to_string()
}

/// An object that more is to follow in.
fn open(object: &str) -> String {
    format!("{},", object.strip_suffix('}').unwrap_or(object))
}

fn written<T: Serialize>(row: &T) -> String {
    // Our own rows have no way to fail.
    serde_json::to_string(row).unwrap_or_default()
}

/// A row with the number of its tasks in each state, and who else they belong to.
#[derive(Serialize)]
struct Counted<R> {
    #[serde(flatten)]
    row: R,
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    others: BTreeMap<&'static str, Vec<String>>,
}

/// The tasks of one agent or framework by their states, and the frameworks or agents that they tie
/// it to.
#[derive(Default)]
struct Ties {
    counts: Counts,
    to: BTreeSet<Id>,
}

/// Those of each agent, and of each framework: of tasks that live, and of those that are over. O(tasks)
fn ties(tables: &Tables) -> (BTreeMap<Id, Ties>, BTreeMap<Id, Ties>) {
    let (mut agents, mut frameworks) = (BTreeMap::new(), BTreeMap::new());
    let over = tables.unreachable.iter().chain(tables.completed.iter()).map(|one| &one.task);
    for task in tables.tasks.iter().map(|(_, task)| task).chain(over) {
        let tie = |all: &mut BTreeMap<Id, Ties>, one, other| {
            let ties = all.entry(one).or_default();
            ties.counts.add(task.latest);
            ties.to.insert(other);
        };
        tie(&mut agents, task.agent, task.framework);
        tie(&mut frameworks, task.framework, task.agent);
    }
    (agents, frameworks)
}

fn summary(pieces: &mut Pieces, tables: Rc<Tables>, about: &About) {
    let holdings = Holdings::of(&tables);
    let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
    let (mut of_agents, mut of_frameworks) = ties(&tables);
    pieces.text(format!("{{\"hostname\":{},", written(&about.master.hostname)));
    let (of, holdings) = (tables, Rc::new(holdings));
    let (all, held, mut next) = (Rc::clone(&of), Rc::clone(&holdings), 0);
    pieces.array("slaves", move || {
        let (id, agent) = all.agents.next(&mut next, Agent::is_known)?;
        let row = AgentRow::of(&all, id, agent, &held);
        let Ties { counts, to } = of_agents.remove(&id).unwrap_or_default();
        let frameworks = to.iter().filter_map(|id| all.frameworks.get(*id));
        let ids = frameworks.map(|one| shown(&all, one.id)).collect();
        Some(Counted { row, counts, others: BTreeMap::from([("framework_ids", ids)]) })
    });
    pieces.text(",");
    let mut next = 0;
    pieces.array("frameworks", move || {
        let (id, framework) = of.frameworks.next(&mut next, |_| true)?;
        let row = FrameworkHead::of(&of, id, framework, &holdings);
        let Ties { counts, to } = of_frameworks.remove(&id).unwrap_or_default();
        let agents = to.iter().filter_map(|id| of.agents.get(*id));
        let ids = agents.map(|one| one.id.shown(cluster).to_string()).collect();
        Some(Counted { row, counts, others: BTreeMap::from([("slave_ids", ids)]) })
    });
    pieces.text("}");
}

fn slaves(pieces: &mut Pieces, tables: Rc<Tables>, only: Option<&String>) {
    let holdings = Rc::new(Holdings::of(&tables));
    let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
    let wanted = |state: fn(&Agent) -> bool| {
        let only = only.cloned();
        move |agent: &Agent| {
            let named = || agent.id.shown(cluster).to_string();
            state(agent) && only.as_ref().is_none_or(|only| *only == named())
        }
    };
    pieces.text("{");
    let here = wanted(Agent::is_known);
    agent_rows(pieces, "slaves", here, &tables, &holdings, FullAgentRow::of);
    pieces.text(",");
    let recovered = wanted(Agent::is_recovered);
    agent_rows(pieces, "recovered_slaves", recovered, &tables, &holdings, AgentRow::of);
    pieces.text("}");
}

fn frameworks(pieces: &mut Pieces, tables: Rc<Tables>, only: Option<&String>) {
    let holdings = Rc::new(Holdings::of(&tables));
    pieces.text("{\"frameworks\":[");
    framework_rows(pieces, &tables, &holdings, only);
    pieces.text("],\"completed_frameworks\":[");
    completed_frameworks(pieces, &tables, &holdings, only);
    pieces.text("],\"unregistered_frameworks\":[]}");
}

fn tasks(pieces: &mut Pieces, tables: Rc<Tables>, query: &BTreeMap<String, String>) {
    // What is no number is not asked for, and less than none is all. Mesos: `numify` to a `size_t`.
    let number = |name: &str, default: usize| {
        let asked = query.get(name).and_then(|text| text.trim().parse::<i64>().ok());
        asked.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let (limit, offset) = (number("limit", TASKS), number("offset", 0));
    let (framework, name) = (query.get("framework_id"), query.get("task_id"));
    // When it came to be, and where it is: a row, or a place among those that are unreachable or
    // over.
    let mut all: Vec<(u64, Result<Id, usize>)> = Vec::new();
    let wanted = |of: Option<String>, task: &str| {
        framework.is_none_or(|wanted| of.as_ref() == Some(wanted))
            && name.is_none_or(|wanted| wanted == task)
    };
    for (id, task) in tables.tasks.iter() {
        let owner = tables.frameworks.get(task.framework).map(|one| shown(&tables, one.id));
        if wanted(owner, &task.name) {
            all.push((task.since_us, Ok(id)));
        }
    }
    let unreachable = tables.unreachable.len();
    for (place, one) in tables.unreachable.iter().chain(tables.completed.iter()).enumerate() {
        if wanted(Some(shown(&tables, one.framework_id)), &one.task.name) {
            all.push((one.task.since_us, Err(place)));
        }
    }
    all.sort_by_key(|(since_us, _)| *since_us);
    if query.get("order").is_none_or(|order| order != "asc") {
        all.reverse();
    }
    let mut page = all.into_iter().skip(offset).take(limit);
    pieces.text("{");
    let mut rows = Tasks::of(&tables);
    pieces.rows("tasks", move |into| {
        let Some((_, which)) = page.next() else { return false };
        let over = |place: usize| {
            let over = || tables.completed.get(place.checked_sub(unreachable)?);
            tables.unreachable.get(place).or_else(over)
        };
        match which {
            Ok(id) => {
                let task = tables.tasks.get(id);
                task.map(|task| rows.write(into, task)).is_some()
            }
            Err(place) => over(place).map(|one| rows.write_completed(into, one)).is_some(),
        }
    });
    pieces.text("}");
}

/// Everything wrapped into a call of a function, as pages on other hosts read it.
pub(crate) fn wrapped(function: &str) -> Option<(String, &'static str)> {
    let named = |c: char| c.is_ascii_alphanumeric() || "_$.".contains(c);
    let is_name = !function.is_empty() && function.len() <= 128 && function.chars().all(named);
    is_name.then(|| (format!("{function}("), ");"))
}

/// What `/redirect` names: this very master, for it leads.
pub(crate) fn location(master: &MasterInfo) -> String {
    let address = master.address.clone().unwrap_or_default();
    // That is the address, unless there is a name for it.
    let port = u16::try_from(address.port).unwrap_or(0);
    format!("//{}", together(address.hostname(), port))
}
