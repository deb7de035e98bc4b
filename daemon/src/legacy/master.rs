//! What a master has under which path. Mesos: `master/readonly_handler.cpp`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use mesita_core::master::rows::AgentState;
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

/// The answer at a path; none when nothing is there.
pub(crate) fn answer(
    path: &str,
    query: &BTreeMap<String, String>,
    tables: Tables,
    about: &About,
) -> Option<Pieces> {
    let path = path.strip_suffix(".json").unwrap_or(path);
    let mut pieces = Pieces::new();
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

fn state(pieces: &mut Pieces, tables: Tables, about: &About) {
    let master = &about.master;
    let agents = |state: fn(AgentState) -> bool| {
        let agents = tables.agents.iter().filter(|(_, agent)| state(agent.state));
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
        "activated_slaves": agents(|state| state == AgentState::Active),
        "deactivated_slaves": agents(|state| {
            use AgentState::{Active, Gone, Losing, Unreachable};
            !matches!(state, Active | Losing | Unreachable | Gone)
        }),
        "unreachable_slaves": agents(|state| {
            matches!(state, AgentState::Losing | AgentState::Unreachable)
        }),
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
    }
    pieces.text(open(&head.to_string()));
    let holdings = Rc::new(Holdings::of(&tables));
    agent_rows(pieces, "slaves", known_agents(&tables).collect(), &tables, &holdings, AgentRow::of);
    pieces.text(",");
    let recovered = recovered_agents(&tables).collect();
    agent_rows(pieces, "recovered_slaves", recovered, &tables, &holdings, AgentRow::of);
    pieces.text(",\"frameworks\":[");
    framework_rows(pieces, &tables, &holdings, None);
    pieces.text("],\"completed_frameworks\":[");
    completed_frameworks(pieces, &tables, &holdings, None);
    pieces.text("],\"orphan_tasks\":[],\"unregistered_frameworks\":[]}");
}

fn agent_rows<R: Serialize>(
    pieces: &mut Pieces,
    name: &'static str,
    ids: Vec<Id>,
    tables: &Tables,
    holdings: &Rc<Holdings>,
    row: impl Fn(&Tables, Id, &Agent, &Holdings) -> R + 'static,
) {
    let (tables, holdings) = (tables.clone(), Rc::clone(holdings));
    let mut ids = ids.into_iter();
    pieces.array(name, move || {
        let id = ids.next()?;
        let agent = tables.agents.get(id)?;
        Some(row(&tables, id, agent, &holdings))
    });
}

/// Agents that are registered, or were and may come back.
fn known_agents(tables: &Tables) -> impl Iterator<Item = Id> {
    let agents = tables.agents.iter();
    agents.filter(|(_, agent)| agent.is_known()).map(|(id, _)| id)
}

/// Agents that the registry has and that have not come back to this master.
fn recovered_agents(tables: &Tables) -> impl Iterator<Item = Id> {
    tables.agents.iter().filter(|(_, agent)| agent.is_recovered()).map(|(id, _)| id)
}

/// Whole frameworks, or one of them.
fn framework_rows(
    pieces: &mut Pieces,
    tables: &Tables,
    holdings: &Rc<Holdings>,
    only: Option<&String>,
) {
    let wanted = |one: &Framework| only.is_none_or(|only| *only == shown(tables, one.id));
    let mut ids = row_ids(&tables.frameworks, wanted);
    let (tables, holdings) = (tables.clone(), Rc::clone(holdings));
    let mut comma = "";
    pieces.parts(move |pieces| {
        let Some(id) = ids.next() else { return false };
        if let Some(framework) = tables.frameworks.get(id) {
            pieces.text(std::mem::replace(&mut comma, ","));
            framework_row(pieces, &tables, &holdings, id, framework);
        }
        true
    });
}

/// Frameworks that are no more, or one of them.
fn completed_frameworks(
    pieces: &mut Pieces,
    tables: &Tables,
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
    tables: &Tables,
    holdings: &Rc<Holdings>,
    id: Id,
    framework: &Framework,
) {
    let detail = FrameworkDetail::of(tables, id, framework, holdings);
    pieces.text(open(&written(&detail)).to_owned());
    let (of, held, mut places) = (tables.clone(), Rc::clone(holdings), holdings.tasks_of(id));
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
    let (of, held, mut places) = (tables.clone(), Rc::clone(holdings), holdings.offers_of(id));
    pieces.array("offers", move || {
        let mut offers = places.by_ref().filter_map(|place| of.offers.at(held.offer_at(place)?));
        let (_, offer) = offers.find(|(_, offer)| offer.framework == id)?;
        Some(OfferRow::of(&of, offer))
    });
    pieces.text(",");
    let (mut ids, of) = (row_ids(&tables.executors, |one| one.framework == id), tables.clone());
    pieces.array("executors", move || Some(ExecutorRow::of(&of, of.executors.get(ids.next()?)?)));
    pieces.text("}");
}

fn row_ids<T: Clone>(
    table: &crate::catalog::Table<T>,
    is: impl Fn(&T) -> bool,
) -> std::vec::IntoIter<Id> {
    let ids: Vec<Id> = table.iter().filter(|(_, row)| is(row)).map(|(id, _)| id).collect();
    ids.into_iter()
}

fn over_rows(
    pieces: &mut Pieces,
    tables: &Tables,
    name: &str,
    list: &Arc<VecDeque<Completed>>,
    of: mesita_core::wire::FrameworkId,
) {
    let (rows, list) = (Tasks::of(tables), Arc::clone(list));
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
            ties.counts.add(task.state);
            ties.to.insert(other);
        };
        tie(&mut agents, task.agent, task.framework);
        tie(&mut frameworks, task.framework, task.agent);
    }
    (agents, frameworks)
}

fn summary(pieces: &mut Pieces, tables: Tables, about: &About) {
    let holdings = Holdings::of(&tables);
    let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
    let (mut of_agents, mut of_frameworks) = ties(&tables);
    let mut agents = known_agents(&tables).collect::<Vec<_>>().into_iter();
    let mut frameworks = row_ids(&tables.frameworks, |_| true);
    pieces.text(format!("{{\"hostname\":{},", written(&about.master.hostname)));
    let (of, holdings) = (tables, Rc::new(holdings));
    let (all, held) = (of.clone(), Rc::clone(&holdings));
    pieces.array("slaves", move || {
        let id = agents.next()?;
        let row = AgentRow::of(&all, id, all.agents.get(id)?, &held);
        let Ties { counts, to } = of_agents.remove(&id).unwrap_or_default();
        let frameworks = to.iter().filter_map(|id| all.frameworks.get(*id));
        let ids = frameworks.map(|one| shown(&all, one.id)).collect();
        Some(Counted { row, counts, others: BTreeMap::from([("framework_ids", ids)]) })
    });
    pieces.text(",");
    pieces.array("frameworks", move || {
        let id = frameworks.next()?;
        let row = FrameworkHead::of(&of, id, of.frameworks.get(id)?, &holdings);
        let Ties { counts, to } = of_frameworks.remove(&id).unwrap_or_default();
        let agents = to.iter().filter_map(|id| of.agents.get(*id));
        let ids = agents.map(|one| one.id.shown(cluster).to_string()).collect();
        Some(Counted { row, counts, others: BTreeMap::from([("slave_ids", ids)]) })
    });
    pieces.text("}");
}

fn slaves(pieces: &mut Pieces, tables: Tables, only: Option<&String>) {
    let holdings = Rc::new(Holdings::of(&tables));
    let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
    let wanted = |id: &Id| {
        only.is_none_or(|only| {
            let agent = tables.agents.get(*id);
            agent.is_some_and(|agent| agent.id.shown(cluster).to_string() == *only)
        })
    };
    let here = known_agents(&tables).filter(wanted).collect();
    let recovered = recovered_agents(&tables).filter(wanted).collect();
    pieces.text("{");
    agent_rows(pieces, "slaves", here, &tables, &holdings, FullAgentRow::of);
    pieces.text(",");
    agent_rows(pieces, "recovered_slaves", recovered, &tables, &holdings, AgentRow::of);
    pieces.text("}");
}

fn frameworks(pieces: &mut Pieces, tables: Tables, only: Option<&String>) {
    let holdings = Rc::new(Holdings::of(&tables));
    pieces.text("{\"frameworks\":[");
    framework_rows(pieces, &tables, &holdings, only);
    pieces.text("],\"completed_frameworks\":[");
    completed_frameworks(pieces, &tables, &holdings, only);
    pieces.text("],\"unregistered_frameworks\":[]}");
}

fn tasks(pieces: &mut Pieces, tables: Tables, query: &BTreeMap<String, String>) {
    let number = |name: &str, default: usize| {
        query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
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
