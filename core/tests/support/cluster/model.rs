//! What the master tells its readers, and what must hold of it at every moment.

use super::*;

/// What the read model knows, folded from facts.
#[derive(Default)]
pub struct Model {
    pub(super) agents: BTreeMap<Id, BTreeMap<String, u64>>,
    pub(super) offers: BTreeMap<Id, (Id, BTreeMap<String, u64>)>,
    pub(super) tasks: BTreeMap<Id, (Id, String, TaskState, BTreeMap<String, u64>)>,
    pub(super) offers_made: u64,
    pub(super) offers_ended: u64,
}

impl Cluster {
    pub(super) fn fact(&mut self, fact: &Fact<'_>) {
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{:?} {fact:?}", self.now);
        }
        let model = &mut self.model;
        match fact {
            Fact::Admission(admission) => {
                let AgentId { epoch, number } = admission.agent;
                self.admissions.insert((epoch, number), *admission);
            }
            Fact::Dismissed { agent } => {
                self.admissions.remove(&(agent.epoch, agent.number));
            }
            Fact::Agent { row, resources, .. } => {
                model.agents.insert(*row, amounts(resources));
            }
            Fact::AgentGone { row } => {
                model.agents.remove(row);
            }
            Fact::Offer { row, agent, resources, .. } => {
                model.offers_made += 1;
                let before = model.offers.insert(*row, (*agent, amounts(resources)));
                assert!(before.is_none(), "an offer is made under an id that is in use");
            }
            Fact::OfferGone { row } => {
                model.offers_ended += 1;
                assert!(model.offers.remove(row).is_some(), "an offer ends twice");
            }
            Fact::Task { row, agent, task, state, resources, .. } => {
                let task = (*task).to_string();
                model.tasks.insert(*row, (*agent, task, *state, amounts(resources)));
            }
            Fact::TaskState { row, latest, .. } => {
                let task = model.tasks.get_mut(row).expect("a state of a task that is not known");
                if !task.2.is_terminal() {
                    task.2 = *latest;
                }
            }
            Fact::TaskGone { row } => {
                assert!(model.tasks.remove(row).is_some(), "a task goes twice");
            }
            _ => {}
        }
        self.check_model();
    }

    /// Offered and used together are never more than the agent has.
    pub(super) fn check_model(&self) {
        for (row, total) in &self.model.agents {
            let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
            let offers = self.model.offers.values().filter(|(agent, _)| agent == row);
            let tasks = self.model.tasks.values();
            let tasks = tasks.filter(|task| task.0 == *row && !task.2.is_terminal());
            let held = offers.map(|(_, held)| held).chain(tasks.map(|task| &task.3));
            for (name, amount) in held.flatten() {
                *sum.entry(name).or_default() += amount;
            }
            for (name, amount) in sum {
                let total = total.get(name).copied().unwrap_or(0);
                assert!(
                    amount <= total,
                    "{name}: {amount} given out of {total} of {row:?}\noffers {:?}\ntasks {:?}",
                    self.model.offers,
                    self.model.tasks
                );
            }
        }
    }
}

pub(super) fn amounts(list: &Seq<'_, Resource<'_>>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for resource in list.iter() {
        let amount = match resource.value {
            Value::Scalar(amount) => amount.milli(),
            Value::Ranges(ranges) => ranges.iter().map(|range| range.end - range.begin + 1).sum(),
            Value::Set(items) => u64::from(items.len()),
        };
        *sum.entry(resource.name.to_string()).or_default() += amount;
    }
    sum
}
