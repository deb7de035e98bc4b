//! What a master tells its readers, and what must hold of it at every moment.

use super::*;
use mesita_core::master::rows::{AgentState, Emptying};

/// Amounts in thousandths: cpus, memory, disk, and how many ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts([u64; 4]);

impl Amounts {
    pub(super) fn add(&mut self, more: &Self) {
        self.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
    }

    pub(super) fn fit(&self, total: &Self) -> bool {
        self.0.iter().zip(total.0).all(|(amount, total)| *amount <= total)
    }

    pub(super) fn cpus(&self) -> u64 {
        self.0[0]
    }
}

pub(super) fn amounts(list: &Seq<'_, Resource<'_>>) -> Amounts {
    let mut sum = Amounts::default();
    for resource in list.iter() {
        let amount = match resource.value {
            Value::Scalar(amount) => amount.milli(),
            Value::Ranges(ranges) => ranges.iter().map(|range| range.end - range.begin + 1).sum(),
            Value::Set(items) => u64::from(items.len()),
        };
        let kinds = ["cpus", "mem", "disk", "ports"];
        let kind = kinds.iter().position(|name| *name == resource.name).unwrap();
        sum.0[kind] += amount;
    }
    sum
}

/// An agent as readers know it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AgentRow {
    pub(super) total: Amounts,
    pub(super) state: Option<AgentState>,
    pub(super) deactivated: bool,
    pub(super) emptying: bool,
}

impl AgentRow {
    /// Nothing of it may be on offer.
    fn is_closed(&self) -> bool {
        self.deactivated || self.emptying
    }
}

pub(super) struct OfferRow {
    pub(super) agent: Id,
    pub(super) role: String,
    pub(super) resources: Amounts,
}

pub(super) struct TaskRow {
    pub(super) agent: Id,
    pub(super) name: String,
    pub(super) role: String,
    pub(super) state: TaskState,
    pub(super) resources: Amounts,
}

/// What the read model knows, folded from facts.
#[derive(Default)]
pub(super) struct Model {
    pub(super) leading: bool,
    /// What agents are called, by their ids.
    pub(super) hosts: BTreeMap<(u32, u32), String>,
    pub(super) agents: BTreeMap<Id, AgentRow>,
    pub(super) offers: BTreeMap<Id, OfferRow>,
    pub(super) tasks: BTreeMap<Id, TaskRow>,
    pub(super) machines: BTreeMap<Id, (String, String)>,
    /// The most that a role may have, in thousandths of cpus.
    limits: BTreeMap<String, u64>,
    pub(super) offers_made: u64,
    pub(super) offers_ended: u64,
    /// Agents and roles that changed in the step under way.
    touched: BTreeSet<Id>,
    enlarged: BTreeSet<String>,
}

impl Cluster {
    pub(super) fn fact(&mut self, id: u8, fact: &Fact<'_>) {
        if self.trace {
            println!("{:>11.6} {fact:?}", self.now.0 as f64 / 1e6);
        }
        self.master(id).model.fold(fact);
        match fact {
            Fact::AgentState { state: AgentState::Losing, .. } => self.saw("an agent is given up"),
            Fact::AgentState { state: AgentState::Active, .. } => {
                self.saw("an agent is registered");
                self.strike(When::Registered);
            }
            Fact::Quota { .. } => self.saw("a quota is set"),
            Fact::AgentEmptying { emptying: Emptying::Drained, .. } => {
                self.saw("an agent is drained");
            }
            _ => {}
        }
    }

    /// After each step of a master: what it changed is as it must be.
    pub(super) fn check_tables(&mut self, id: u8) {
        let model = &mut self.master(id).model;
        for row in std::mem::take(&mut model.touched) {
            model.check_agent(row);
        }
        for role in std::mem::take(&mut model.enlarged) {
            model.check_role(&role);
        }
    }
}

impl Model {
    fn fold(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Leading { .. } => self.leading = true,
            Fact::Agent { row, resources, info, .. } => {
                let id = (info.agent.epoch, info.agent.number);
                self.hosts.insert(id, info.hostname.to_owned());
                let before = self.agents.get(row).copied().unwrap_or_default();
                self.agents.insert(*row, AgentRow { total: amounts(resources), ..before });
            }
            Fact::AgentResources { row, resources } => {
                self.agents.entry(*row).or_default().total = amounts(resources);
            }
            Fact::AgentState { row, state } => {
                self.agents.entry(*row).or_default().state = Some(*state);
                self.touched.insert(*row);
            }
            Fact::AgentDeactivated { row, deactivated } => {
                self.agents.entry(*row).or_default().deactivated = *deactivated;
                self.touched.insert(*row);
            }
            Fact::AgentEmptying { row, emptying, .. } => {
                self.agents.entry(*row).or_default().emptying = *emptying != Emptying::No;
                self.touched.insert(*row);
            }
            Fact::AgentGone { row } => {
                self.agents.remove(row);
                self.touched.insert(*row);
            }
            Fact::Offer { row, agent, resources, role, .. } => {
                self.offers_made += 1;
                let (role, resources) = ((*role).to_string(), amounts(resources));
                self.touched.insert(*agent);
                if resources.cpus() > 0 {
                    self.enlarged.insert(role.clone());
                }
                let before = self.offers.insert(*row, OfferRow { agent: *agent, role, resources });
                assert!(before.is_none(), "C5: an offer is made under an id that is in use");
            }
            Fact::OfferGone { row } => {
                self.offers_ended += 1;
                assert!(self.offers.remove(row).is_some(), "C5: an offer ends twice");
            }
            Fact::Task { row, agent, task, state, resources, role, .. } => {
                let (agent, name, role) = (*agent, (*task).to_string(), (*role).to_string());
                let resources = amounts(resources);
                self.touched.insert(agent);
                self.tasks.insert(*row, TaskRow { agent, name, role, state: *state, resources });
            }
            Fact::TaskState { row, latest, .. } => {
                let task = self.tasks.get_mut(row).expect("a state of a task that is not known");
                if !task.state.is_terminal() {
                    task.state = *latest;
                } else if latest.is_terminal() {
                    assert_eq!(task.state, *latest, "C7: {} ends twice", task.name);
                }
            }
            Fact::TaskGone { row } => {
                assert!(self.tasks.remove(row).is_some(), "a task goes twice");
            }
            Fact::Machine { row, machine, .. } => {
                let name = (machine.hostname.to_string(), machine.ip.to_string());
                self.machines.insert(*row, name);
            }
            Fact::MachineGone { row } => {
                self.machines.remove(row);
            }
            Fact::Quota { role, limits, .. } => {
                let cpus = limits.iter().find(|limit| limit.name == "cpus");
                match cpus {
                    Some(limit) => {
                        self.limits.insert((*role).to_string(), limit.amount.milli());
                    }
                    None => drop(self.limits.remove(*role)),
                }
            }
            _ => {}
        }
    }

    /// C1 and C4: offered and used together are never more than the agent has, and nothing is on
    /// offer of one that is closed.
    fn check_agent(&self, row: Id) {
        let offers = self.offers.values().filter(|offer| offer.agent == row);
        let Some(agent) = self.agents.get(&row) else {
            return assert_eq!(offers.count(), 0, "C4: {row:?} is gone and on offer");
        };
        let mut sum = Amounts::default();
        for offer in offers {
            assert!(!agent.is_closed(), "C4: {row:?} is closed and on offer");
            sum.add(&offer.resources);
        }
        let tasks = self.tasks.values();
        for task in tasks.filter(|task| task.agent == row && !task.state.is_terminal()) {
            sum.add(&task.resources);
        }
        assert!(sum.fit(&agent.total), "C1: {sum:?} of {:?} of {row:?} given out", agent.total);
    }

    /// C11: a role to which something was just offered has no more than its limit.
    fn check_role(&self, role: &str) {
        let Some(limit) = self.limits.get(role) else { return };
        let offers = self.offers.values().filter(|offer| offer.role == role);
        let tasks = self.tasks.values();
        let tasks = tasks.filter(|task| task.role == role && !task.state.is_terminal());
        let offered: u64 = offers.map(|offer| offer.resources.cpus()).sum();
        let used: u64 = tasks.map(|task| task.resources.cpus()).sum();
        assert!(
            offered + used <= *limit,
            "C11: {role} is offered {offered} beside {used}, with a limit of {limit}"
        );
    }
}
