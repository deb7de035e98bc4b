//! What patterns in constraints say of agents: the master is told, by whoever knows patterns.

use std::collections::BTreeMap;

use mesita_core::master::Judged;
use mesita_core::table::Id;
use mesita_core::wire::call::{Constraint, Predicate, Selector};
use regex_lite::Regex;

use crate::leak;
use crate::scenario::{Agent, Framework};

#[derive(Default)]
pub struct Patterns {
    /// Agents' texts: `@hostname` and attributes.
    agents: BTreeMap<String, BTreeMap<String, String>>,
    frameworks: BTreeMap<String, Vec<Pattern>>,
}

struct Pattern {
    role: &'static str,
    place: u16,
    of: String,
    regex: Regex,
}

/// The parts of a constraint of a scenario.
pub fn split(parts: &[String]) -> Constraint<'static> {
    let (selector, attribute) = match parts[0].as_str() {
        "@hostname" => (Selector::Hostname, ""),
        "@region" => (Selector::Region, ""),
        "@zone" => (Selector::Zone, ""),
        attribute => (Selector::Attribute, leak(attribute)),
    };
    let predicate = match parts[1].as_str() {
        "exists" => Predicate::Exists,
        "not_exists" => Predicate::NotExists,
        "text_equals" => Predicate::TextEquals,
        "text_not_equals" => Predicate::TextNotEquals,
        "text_matches" => Predicate::TextMatches,
        "text_not_matches" => Predicate::TextNotMatches,
        predicate => panic!("no predicate {predicate}"),
    };
    let value = parts.get(2).map_or("", |value| leak(value));
    Constraint { selector, attribute, predicate, value }
}

impl Patterns {
    pub fn agent(&mut self, agent: &Agent) {
        let attributes = agent.attributes.split(';').filter_map(|one| one.split_once(':'));
        let mut texts: BTreeMap<_, _> =
            attributes.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        texts.insert("@hostname".into(), agent.name.clone());
        self.agents.insert(agent.name.clone(), texts);
    }

    pub fn framework(&mut self, framework: &Framework) {
        let mut patterns = vec![];
        for (role, groups) in &framework.constraints {
            for (constraint, place) in groups.iter().flatten().zip(0..) {
                if split(constraint).predicate.is_pattern() {
                    let regex = Regex::new(&format!("^(?:{})$", constraint[2])).unwrap();
                    patterns.push(Pattern {
                        role: leak(role),
                        place,
                        of: constraint[0].clone(),
                        regex,
                    });
                }
            }
        }
        self.frameworks.insert(framework.framework.clone(), patterns);
    }

    /// All verdicts, by framework.
    pub fn verdicts(&self, agents: &BTreeMap<Id, String>) -> Vec<(String, Vec<Judged<'static>>)> {
        let of = |pattern: &Pattern| {
            let Pattern { role, place, .. } = *pattern;
            let verdict = |(row, name): (&Id, &String)| {
                let text = self.agents[name].get(&pattern.of)?;
                let matches = pattern.regex.is_match(text);
                Some(Judged { role, place, agent: *row, matches })
            };
            agents.iter().filter_map(verdict).collect::<Vec<_>>()
        };
        let all = self.frameworks.iter().filter(|(_, patterns)| !patterns.is_empty());
        all.map(|(name, patterns)| (name.clone(), patterns.iter().flat_map(of).collect())).collect()
    }
}
