//! What a cluster has and does, folded from events of the operator stream, and the picture of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::events::clock_time;
use crate::cli::ps::{columns, text};
use crate::clock;

/// Rows of a kind that are kept; more are counted alone.
const ROWS_MAX: usize = 200_000;
/// Width of a bar.
const BAR: usize = 20;
/// What is shown of resources.
const KINDS: [&str; 3] = ["cpus", "mem", "disk"];

/// Amounts of the resources that are shown.
type Amounts = [f64; KINDS.len()];

#[derive(Clone, Debug, Default)]
struct Agent {
    host: String,
    state: &'static str,
    total: Amounts,
}

#[derive(Clone, Debug, Default)]
struct Framework {
    name: String,
    roles: String,
    active: bool,
}

#[derive(Clone, Debug, Default)]
struct Task {
    framework: String,
    agent: String,
    state: String,
    amounts: Amounts,
    /// Its place in time: later ones are greater.
    number: u64,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Model {
    agents: BTreeMap<String, Agent>,
    frameworks: BTreeMap<String, Framework>,
    /// By framework and name.
    tasks: BTreeMap<(String, String), Task>,
    events: u64,
    /// Events of rows that found no room.
    unseen: u64,
    is_lost: bool,
}

impl Model {
    /// Takes an event in; true for the one that begins a stream with all that there is.
    pub(super) fn take(&mut self, event: &Value) -> bool {
        let kind = event["type"].as_str().unwrap_or_default();
        let part = &event[kind.to_lowercase()];
        self.events += 1;
        match kind {
            "SUBSCRIBED" => self.begin(&part["get_state"]),
            "AGENT_ADDED" => self.agent(&part["agent"]),
            "AGENT_REMOVED" => {
                self.agents.remove(&id(&part["agent_id"]));
            }
            "FRAMEWORK_ADDED" | "FRAMEWORK_UPDATED" => self.framework(&part["framework"]),
            "FRAMEWORK_REMOVED" => {
                let gone = id(&part["framework_info"]["id"]);
                self.frameworks.remove(&gone);
                self.tasks.retain(|(of, _), _| *of != gone);
            }
            "TASK_ADDED" => self.task(&part["task"]),
            "TASK_UPDATED" => {
                let key = (id(&part["framework_id"]), id(&part["status"]["task_id"]));
                self.became(&key, &part["state"]);
            }
            _ => self.events -= 1,
        }
        kind == "SUBSCRIBED"
    }

    /// The stream broke: what is known is how it was.
    pub(super) fn lost(&mut self) {
        self.is_lost = true;
    }

    fn begin(&mut self, state: &Value) {
        *self = Self::default();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        list(&state["get_agents"]["agents"]).iter().for_each(|one| self.agent(one));
        let frameworks = list(&state["get_frameworks"]["frameworks"]);
        frameworks.iter().for_each(|one| self.framework(one));
        list(&state["get_tasks"]["tasks"]).iter().for_each(|one| self.task(one));
    }

    fn agent(&mut self, told: &Value) {
        let info = &told["agent_info"];
        let state = match (told["active"].as_bool(), told["deactivated"].as_bool()) {
            (_, Some(true)) => "deactivated",
            (Some(true), _) => "active",
            _ => "away",
        };
        let agent = Agent {
            host: text(&info["hostname"]),
            state,
            total: amounts(&told["total_resources"]),
        };
        self.unseen += u64::from(!put(&mut self.agents, id(&info["id"]), agent));
    }

    fn framework(&mut self, told: &Value) {
        let info = &told["framework_info"];
        let roles: Vec<String> = info["roles"].as_array().into_iter().flatten().map(text).collect();
        let roles = if roles.is_empty() { text(&info["role"]) } else { roles.join(",") };
        let active = told["active"].as_bool() == Some(true);
        let framework = Framework { name: text(&info["name"]), roles, active };
        self.unseen += u64::from(!put(&mut self.frameworks, id(&info["id"]), framework));
    }

    fn task(&mut self, told: &Value) {
        let framework = id(&told["framework_id"]);
        let key = (framework.clone(), id(&told["task_id"]));
        let task = Task {
            framework,
            agent: id(&told["agent_id"]),
            state: String::new(),
            amounts: amounts(&told["resources"]),
            number: self.events,
        };
        self.unseen += u64::from(!put(&mut self.tasks, key.clone(), task));
        self.became(&key, &told["state"]);
    }

    /// A task that is over is shown no more.
    fn became(&mut self, key: &(String, String), state: &Value) {
        let state = text(state);
        let state = state.strip_prefix("TASK_").unwrap_or(&state);
        let lives = ["STAGING", "STARTING", "RUNNING", "KILLING", "UNREACHABLE"];
        if !lives.contains(&state) {
            self.tasks.remove(key);
        } else if let Some(task) = self.tasks.get_mut(key) {
            state.clone_into(&mut task.state);
        }
    }

    /// What all tasks hold, and how many they are, by what they belong to.
    fn held(&self, by: impl Fn(&Task) -> &str) -> BTreeMap<&str, (Amounts, usize)> {
        let mut held = BTreeMap::<&str, (Amounts, usize)>::new();
        for task in self.tasks.values() {
            let (sum, count) = held.entry(by(task)).or_default();
            *sum = add(*sum, task.amounts);
            *count += 1;
        }
        held
    }

    fn total(&self) -> Amounts {
        self.agents.values().fold(Amounts::default(), |sum, agent| add(sum, agent.total))
    }

    /// Lines of a picture that fits.
    pub(super) fn picture(&self, lines: usize, width: usize) -> Vec<String> {
        let mut all = self.head();
        // Agents and frameworks have a third of what is left each, tasks all the rest.
        let third = (lines.saturating_sub(all.len()) / 3).max(2);
        for table in [self.agent_rows(), self.framework_rows()] {
            all.push(String::new());
            all.extend(fitted(&table, third.saturating_sub(1)));
        }
        all.push(String::new());
        let left = lines.saturating_sub(all.len());
        all.extend(fitted(&self.task_rows(left), left));
        all.truncate(lines);
        all.into_iter().map(|line| line.chars().take(width).collect()).collect()
    }

    fn head(&self) -> Vec<String> {
        let active = self.agents.values().filter(|agent| agent.state == "active").count();
        let running = self.tasks.values().filter(|task| task.state == "RUNNING").count();
        let mut lines = vec![format!(
            "{}  agents {} of {} active  frameworks {}  tasks {running} of {} running{}{}",
            clock_time(clock::wall_us()),
            active,
            self.agents.len(),
            self.frameworks.len(),
            self.tasks.len(),
            if self.is_lost { "  MASTER LOST" } else { "" },
            if self.unseen > 0 { "  more than fits here" } else { "" },
        )];
        let all = self.held(|_| "");
        let (total, held) = (self.total(), all.get("").map(|(held, _)| *held).unwrap_or_default());
        for ((kind, held), total) in KINDS.iter().zip(held).zip(total) {
            lines.push(format!("{kind:4} {} {}/{}", bar(held, total), short(held), short(total)));
        }
        lines
    }

    fn agent_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![words("AGENT STATE TASKS CPUS MEM DISK FULL")];
        let all = self.held(|task| &task.agent);
        for (id, agent) in &self.agents {
            let (held, count) = all.get(&**id).copied().unwrap_or_default();
            let full = share(held, agent.total);
            let mut row = vec![agent.host.clone(), agent.state.to_owned(), count.to_string()];
            let pairs = held.iter().zip(agent.total);
            row.extend(pairs.map(|(held, total)| format!("{}/{}", short(*held), short(total))));
            row.push(percent(full));
            rows.push(row);
        }
        rows
    }

    fn framework_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![words("FRAMEWORK STATE ROLES TASKS CPUS MEM DISK SHARE")];
        let (total, all) = (self.total(), self.held(|task| &task.framework));
        for (id, framework) in &self.frameworks {
            let (held, count) = all.get(&**id).copied().unwrap_or_default();
            let state = if framework.active { "active" } else { "away" };
            let mut row = vec![framework.name.clone(), state.to_owned(), framework.roles.clone()];
            row.push(count.to_string());
            row.extend(held.iter().map(|amount| short(*amount)));
            row.push(percent(share(held, total)));
            rows.push(row);
        }
        rows
    }

    /// The newest tasks.
    fn task_rows(&self, most: usize) -> Vec<Vec<String>> {
        let mut rows = vec![words("TASK STATE AGENT FRAMEWORK CPUS MEM")];
        let mut newest: Vec<_> = self.tasks.iter().collect();
        newest.sort_by_key(|(_, task)| std::cmp::Reverse(task.number));
        for ((_, name), task) in newest.into_iter().take(most) {
            let host = self.agents.get(&task.agent).map_or("-", |agent| &agent.host);
            let of = self.frameworks.get(&task.framework).map_or("-", |of| &of.name);
            let [cpus, mem, _] = task.amounts.map(short);
            let texts = [name, &task.state, host, of, &cpus, &mem];
            rows.push(texts.map(str::to_owned).to_vec());
        }
        rows
    }
}

/// Puts a row in its place; false when there are too many.
fn put<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, row: V) -> bool {
    let fits = rows.len() < ROWS_MAX || rows.contains_key(&key);
    if fits {
        rows.insert(key, row);
    }
    fits
}

fn id(value: &Value) -> String {
    text(&value["value"])
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn amounts(resources: &Value) -> Amounts {
    let list = resources.as_array();
    KINDS.map(|kind| {
        let of_kind = list.into_iter().flatten().filter(|one| one["name"] == kind);
        // The sum of nothing is -0 in itself.
        of_kind.filter_map(|one| one["scalar"]["value"].as_f64()).fold(0.0, |sum, one| sum + one)
    })
}

fn add(mut sum: Amounts, more: Amounts) -> Amounts {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    sum
}

/// The dominant share.
fn share(held: Amounts, total: Amounts) -> f64 {
    let shares = held.iter().zip(total).filter(|(_, total)| *total > 0.0);
    shares.map(|(held, total)| held / total).fold(0.0, f64::max)
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A number with at most two digits after the point.
fn short(amount: f64) -> String {
    let text = format!("{amount:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn bar(held: f64, total: f64) -> String {
    let share = if total > 0.0 { (held / total).clamp(0.0, 1.0) } else { 0.0 };
    let full =
        (1..=BAR).filter(|place| share * 20.0 >= f64::from(u8::try_from(*place).unwrap_or(0)));
    let full = full.count();
    format!("[{}{}]", "|".repeat(full), " ".repeat(BAR - full))
}

/// A table's lines, and how many more there would be.
fn fitted(rows: &[Vec<String>], most: usize) -> Vec<String> {
    let lines = columns(rows);
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    if lines.len() > most && most > 0 {
        let more = lines.len() - most + 1;
        lines.truncate(most - 1);
        lines.push(format!("... {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scalar(name: &str, value: f64) -> Value {
        json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
    }

    fn task(name: &str, state: &str) -> Value {
        json!({"task_id": {"value": name}, "framework_id": {"value": "f"},
               "agent_id": {"value": "a"}, "state": state,
               "resources": [scalar("cpus", 1.0), scalar("mem", 64.0)]})
    }

    fn model() -> Model {
        let mut model = Model::default();
        let agent = json!({"agent_info": {"id": {"value": "a"}, "hostname": "pi1"}, "active": true,
                           "total_resources": [scalar("cpus", 4.0), scalar("mem", 128.0)]});
        let framework = json!({"framework_info": {"id": {"value": "f"}, "name": "web",
                                                  "roles": ["*"]}, "active": true});
        assert!(model.take(&json!({"type": "SUBSCRIBED", "subscribed": {"get_state": {
            "get_agents": {"agents": [agent]}, "get_frameworks": {"frameworks": [framework]},
            "get_tasks": {"tasks": [task("one", "TASK_RUNNING")]}}}})));
        model
    }

    fn update(name: &str, state: &str) -> Value {
        json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "f"},
               "state": state, "status": {"task_id": {"value": name}}}})
    }

    #[test]
    fn what_is_held_is_told_by_agent_and_framework() {
        let mut model = model();
        assert!(!model.take(&json!({"type": "TASK_ADDED", "task_added":
            {"task": task("two", "TASK_STAGING")}})));
        let lines = model.picture(100, 200);
        assert!(lines[0].ends_with("agents 1 of 1 active  frameworks 1  tasks 1 of 2 running"));
        assert_eq!(lines[1], "cpus [||||||||||          ] 2/4");
        let has = |line: &str| assert!(lines.iter().any(|one| one == line), "{lines:#?}");
        has("pi1    active  2      2/4   128/128  0/0   100%");
        assert!(
            lines.contains(&"web        active  *      2      2     128  0     100%".to_owned())
        );
        has("two   STAGING  pi1    web        1     64");
        model.take(&update("two", "TASK_RUNNING"));
        model.take(&update("one", "TASK_FINISHED"));
        let text = model.picture(100, 200).join("\n");
        assert!(text.contains("tasks 1 of 1 running") && !text.contains("one"), "{text}");
        model.lost();
        assert!(model.picture(100, 200)[0].contains("MASTER LOST"));
    }

    #[test]
    fn a_picture_fits_whatever_the_terminal_is() {
        let mut model = model();
        for number in 0..50 {
            model.take(&json!({"type": "TASK_ADDED", "task_added":
                {"task": task(&format!("task {number}"), "TASK_RUNNING")}}));
        }
        for (lines, width) in [(0, 0), (1, 10), (5, 40), (24, 80), (24, 3)] {
            let picture = model.picture(lines, width);
            assert!(picture.len() <= lines, "{picture:?}");
            assert!(picture.iter().all(|line| line.chars().count() <= width), "{picture:?}");
        }
        let picture = model.picture(24, 80).join("\n");
        assert!(picture.contains("task 49") && !picture.contains("task 0 "), "{picture}");
    }

    #[test]
    fn a_framework_that_goes_takes_its_tasks_along() {
        let mut model = model();
        model.take(&json!({"type": "FRAMEWORK_REMOVED", "framework_removed":
            {"framework_info": {"id": {"value": "f"}}}}));
        model
            .take(&json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "a"}}}));
        assert!(model.picture(100, 200)[0].contains("agents 0 of 0 active  frameworks 0  tasks 0"));
    }
}
