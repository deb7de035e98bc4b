//! Who holds what, kept by what a master says.

use std::collections::BTreeMap;

use mesita_core::master::{Fact, Output};
use mesita_core::table::Id;
use mesita_core::wire::Head;
use mesita_core::wire::event::Event;

use crate::amounts::Sum;

/// Amounts of one framework in one role on one agent.
pub struct Part {
    pub framework: String,
    pub role: String,
    pub agent: String,
    pub sum: Sum,
    /// The task; of an offer, nothing.
    pub task: String,
}

/// By framework, role and agent.
pub type Table = BTreeMap<[String; 3], Sum>;

#[derive(Default)]
pub struct Books {
    /// Names, by the master's rows.
    pub agents: BTreeMap<Id, String>,
    frameworks: BTreeMap<Id, String>,
    /// Offers are told twice: to their framework with their role, and then as a fact.
    roles: BTreeMap<Id, String>,
    pub offers: BTreeMap<Id, Part>,
    pub tasks: BTreeMap<Id, Part>,
}

impl Books {
    pub fn hear(&mut self, output: &Output<'_>) {
        match output {
            Output::Send { head: Head::Event(Event::Offers { offers }), .. } => {
                let roles = offers.iter().map(|offer| (offer.id.id, offer.role.to_string()));
                self.roles.extend(roles);
            }
            Output::Fact(fact) => self.learn(fact),
            _ => {}
        }
    }

    fn learn(&mut self, fact: &Fact<'_>) {
        match *fact {
            Fact::Agent { row, info, .. } => {
                self.agents.insert(row, info.hostname.to_string());
            }
            Fact::Framework { row, info } => {
                self.frameworks.insert(row, info.name.to_string());
            }
            Fact::Offer { row, framework, agent, resources, .. } => {
                let role = self.roles.remove(&row).expect("an offer that nobody was told of");
                let part = self.part(framework, &role, agent, "", resources.iter());
                self.offers.insert(row, part);
            }
            Fact::OfferGone { row } => {
                self.offers.remove(&row);
            }
            Fact::Task { row, framework, agent, task, role, resources, .. } => {
                let part = self.part(framework, role, agent, task, resources.iter());
                self.tasks.insert(row, part);
            }
            Fact::TaskState { row, latest, .. } if latest.is_terminal() => {
                self.tasks.remove(&row);
            }
            Fact::TaskGone { row } => {
                self.tasks.remove(&row);
            }
            _ => {}
        }
    }

    fn part<'r>(
        &self,
        framework: Id,
        role: &str,
        agent: Id,
        task: &str,
        resources: impl IntoIterator<Item = mesita_core::wire::resource::Resource<'r>>,
    ) -> Part {
        Part {
            framework: self.frameworks[&framework].clone(),
            role: role.to_string(),
            agent: self.agents[&agent].clone(),
            sum: Sum::of(resources),
            task: task.to_string(),
        }
    }

    /// Offers and tasks together.
    pub fn holds(&self) -> Table {
        table(self.offers.values().chain(self.tasks.values()))
    }

    /// Tasks alone.
    pub fn used(&self) -> Table {
        table(self.tasks.values())
    }
}

fn table<'p>(parts: impl Iterator<Item = &'p Part>) -> Table {
    let mut table = Table::new();
    for Part { framework, role, agent, sum, .. } in parts {
        let key = [framework, role, agent].map(String::clone);
        table.entry(key).or_default().add_all(sum);
    }
    table
}
