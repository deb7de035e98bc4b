//! A second opinion on who gets what: the rules once more, slow and plain ([`model`]), beside the
//! allocator, event by event on random histories. Whatever one of them gives, the other must give:
//! the same amounts, to the same clients, in the same order; and where nobody has anything to do,
//! nobody would get anything.
//!
//! The model is told the order in which a round visits its agents, which is drawn, and nothing else.
//! `MESITA_HISTORIES` sets how many histories are run.

#![allow(unreachable_pub)]

mod model;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use mesita_core::allocator::round::Stage as CoreStage;
use mesita_core::allocator::{Bar, Grant};
use mesita_core::capacity::Capacity;
use mesita_core::time::Time;
use mesita_core::wire::call::Capability;
use model::{Agent, Amounts, Bundle, Given, Model, Quota, Stage};
use proptest::prelude::*;
use support::allocation::{Out, Rig, capacity, config};

const ROLES: [&str; 7] = ["a", "b", "a/x", "a/y", "b/x", "a/x/p", "c"];
const FRAMEWORKS: u32 = 3;
const AGENTS: u32 = 5;
const KINDS: [&str; 4] = ["cpus", "mem", "disk", "gpus"];

/// What may happen.
#[derive(Clone, Debug)]
enum Act {
    Agent {
        agent: u32,
        cpus: u64,
        mem: u64,
        gpus: bool,
        reserved: Option<(usize, u64)>,
        ports: u64,
    },
    Gone {
        agent: u32,
    },
    Bar {
        agent: u32,
        barred: bool,
    },
    Join {
        framework: u32,
        role: usize,
    },
    Part {
        client: usize,
    },
    Suppress {
        client: usize,
    },
    Revive {
        client: usize,
    },
    Away {
        client: usize,
        away: bool,
    },
    Minimum {
        client: usize,
        least: usize,
    },
    Weight {
        role: usize,
        weight: u32,
    },
    Quota {
        role: usize,
        cpus: u64,
        mem: u64,
        slack: Option<u64>,
    },
    Answer {
        out: usize,
        refuse: u64,
    },
    Keep {
        out: usize,
        refuse: u64,
    },
    Wait {
        us: u64,
    },
    Round,
}

fn act() -> impl Strategy<Value = Act> {
    let agent = 0..AGENTS;
    let client = 0..64usize;
    let role = 0..ROLES.len();
    let least = 0..MINIMUMS.len();
    let refuse = prop_oneof![Just(0u64), Just(7), Just(20), Just(u64::MAX)];
    prop_oneof![
        4 => (agent.clone(), 1..9u64, 1..9u64, any::<bool>(),
              proptest::option::of((role.clone(), 1..4u64)), 0..3u64)
            .prop_map(|(agent, cpus, mem, gpus, reserved, ports)| Act::Agent {
                agent, cpus, mem, gpus: gpus && cpus > 6, reserved, ports,
            }),
        1 => agent.clone().prop_map(|agent| Act::Gone { agent }),
        1 => (agent, any::<bool>()).prop_map(|(agent, barred)| Act::Bar { agent, barred }),
        4 => (0..FRAMEWORKS, role.clone())
            .prop_map(|(framework, role)| Act::Join { framework, role }),
        1 => client.clone().prop_map(|client| Act::Part { client }),
        1 => client.clone().prop_map(|client| Act::Suppress { client }),
        1 => client.clone().prop_map(|client| Act::Revive { client }),
        1 => (client.clone(), any::<bool>())
            .prop_map(|(client, away)| Act::Away { client, away }),
        1 => (client.clone(), least).prop_map(|(client, least)| Act::Minimum { client, least }),
        1 => (role.clone(), prop_oneof![Just(500u32), Just(1_000), Just(3_000)])
            .prop_map(|(role, weight)| Act::Weight { role, weight }),
        2 => (role, 0..6u64, 0..6u64, proptest::option::of(0..4u64))
            .prop_map(|(role, cpus, mem, slack)| Act::Quota { role, cpus, mem, slack }),
        6 => (client.clone(), refuse.clone())
            .prop_map(|(out, refuse)| Act::Answer { out, refuse }),
        4 => (client, refuse).prop_map(|(out, refuse)| Act::Keep { out, refuse }),
        2 => (1..30u64).prop_map(|us| Act::Wait { us }),
        8 => Just(Act::Round),
    ]
}

/// Minimums as the rig reads them, and as the model does.
const MINIMUMS: [(Option<&str>, &[Amounts]); 4] = [
    (None, &[]),
    (Some(""), &[]),
    (Some("cpus:3"), &[[3_000, 0, 0, 0]]),
    (Some("cpus:2;mem:200|mem:500"), &[[2_000, 200_000, 0, 0], [0, 500_000, 0, 0]]),
];

/// Both, and what is out.
struct Both {
    rig: Rig,
    model: Model,
    out: Vec<(Out, Bundle)>,
    taken: u32,
}

impl Both {
    fn new(seed: u64) -> Self {
        let roomy = Capacity {
            agents: 8,
            frameworks: 4,
            roles: 16,
            filters: 512,
            pieces: 2_000,
            spans: 300,
            ..capacity()
        };
        Self {
            rig: Rig::with(config(), roomy, seed),
            model: Model::default(),
            out: vec![],
            taken: 0,
        }
    }

    /// Does what `act` says, where that is possible.
    fn act(&mut self, act: &Act) {
        self.taken += 1;
        match *act {
            Act::Agent { agent, cpus, mem, gpus, reserved, ports } => {
                self.add_agent(agent, cpus, mem, gpus, reserved, ports);
            }
            Act::Gone { agent } => self.remove_agent(agent),
            Act::Bar { agent, barred } => {
                if let Some(row) = self.model.agents.get_mut(&agent) {
                    row.barred = barred;
                    let rig = &mut self.rig;
                    rig.allocator.set_barred(&rig.pool, agent, Bar::Deactivated, barred);
                }
            }
            Act::Join { framework, role } => self.join(framework, ROLES[role]),
            Act::Part { client } => self.part(client),
            Act::Suppress { client } => {
                let Some(client) = self.client(client) else { return };
                self.rig.allocator.suppress(&self.rig.names, client);
                self.model.clients.get_mut(&client).unwrap().suppressed = true;
            }
            Act::Revive { client } => {
                let Some(client) = self.client(client) else { return };
                self.model.lift(client);
                let row = self.model.clients.get_mut(&client).unwrap();
                row.suppressed = false;
                let away = row.away;
                self.rig.act(|allocator, world| allocator.revive(world, client, away));
            }
            Act::Away { client, away } => {
                let Some(client) = self.client(client) else { return };
                self.rig.allocator.set_away(&self.rig.names, client, away);
                self.model.clients.get_mut(&client).unwrap().away = away;
            }
            Act::Minimum { client, least } => {
                let Some(client) = self.client(client) else { return };
                let (text, alternatives) = MINIMUMS[least];
                let row = self.model.clients.get_mut(&client).unwrap();
                row.minimum = text.map(|_| alternatives.to_vec());
                let framework = row.framework.to_string();
                let role = row.role.clone();
                self.rig.minimum(&framework, &role, text);
            }
            Act::Weight { role, weight } => {
                self.rig.weight(ROLES[role], weight);
                if weight == 1_000 {
                    self.model.weights.remove(ROLES[role]);
                } else {
                    self.model.weights.insert(ROLES[role].to_string(), weight);
                }
            }
            Act::Quota { role, cpus, mem, slack } => self.set_quota(ROLES[role], cpus, mem, slack),
            Act::Answer { out, refuse } => {
                if let Some(place) = self.place(out) {
                    let (out, what) = self.out.remove(place);
                    self.give_back(out, &what, refuse);
                }
            }
            Act::Keep { out, refuse } => self.keep(out, refuse),
            Act::Wait { us } => self.rig.wait(us),
            Act::Round => self.rounds(),
        }
        self.model.forget_counts();
    }

    /// One of the clients there are.
    fn client(&self, nth: usize) -> Option<u32> {
        let count = self.model.clients.len();
        if count == 0 { None } else { self.model.clients.keys().nth(nth % count).copied() }
    }

    fn place(&self, nth: usize) -> Option<usize> {
        if self.out.is_empty() { None } else { Some(nth % self.out.len()) }
    }

    fn add_agent(
        &mut self,
        agent: u32,
        cpus: u64,
        mem: u64,
        gpus: bool,
        reserved: Option<(usize, u64)>,
        ports: u64,
    ) {
        if self.model.agents.contains_key(&agent) {
            return;
        }
        let mut text = format!("cpus:{cpus};mem:{}", mem * 100);
        let mut total = Bundle::default();
        let open = [cpus * 1_000, mem * 100_000, 0, u64::from(gpus) * 1_000];
        total.amounts.insert(String::new(), open);
        if gpus {
            text += ";gpus:1";
        }
        if ports > 0 {
            text += &format!(";ports:[1-{ports}]");
            total.ports.extend(1..=ports);
        }
        if let Some((role, amount)) = reserved {
            let role = ROLES[role];
            text += &format!(";cpus({role}):{amount};disk({role}):{amount}");
            total.amounts.insert(role.to_string(), [amount * 1_000, 0, amount * 1_000, 0]);
        }
        let list = support::text::wire(&text);
        let (all, free) = (self.rig.hold(&list), self.rig.hold(&list));
        self.rig.act(|allocator, world| allocator.add_agent(world, agent, false, all, free));
        self.model.agents.insert(agent, Agent { free: total.clone(), total, barred: false });
    }

    fn remove_agent(&mut self, agent: u32) {
        if !self.model.agents.contains_key(&agent) {
            return;
        }
        self.rig.act(|allocator, world| allocator.remove_agent(world, agent, false));
        self.model.remove_agent(agent);
        let gone: Vec<_> = self.out.extract_if(.., |(out, _)| out.agent == agent).collect();
        gone.into_iter().for_each(|(out, what)| self.give_back(out, &what, 0));
    }

    fn join(&mut self, framework: u32, role: &str) {
        let name = framework.to_string();
        if self.rig.clients.contains_key(&(name.clone(), role.to_string())) {
            return;
        }
        let uses_gpus = framework == 0;
        let capabilities: &[_] = if uses_gpus { &[Capability::GpuResources] } else { &[] };
        self.rig.frameworks.insert(name.clone(), framework);
        self.rig.framework_of(&name, &[role], capabilities);
        let client = self.rig.client(&name, role);
        self.model.add_client(client, role, framework, uses_gpus);
    }

    fn part(&mut self, client: usize) {
        let Some(client) = self.client(client) else { return };
        let held: Vec<_> = self.out.extract_if(.., |(out, _)| out.client == client).collect();
        held.into_iter().for_each(|(out, what)| self.give_back(out, &what, 0));
        self.rig.clients.retain(|_, other| *other != client);
        self.rig.act(|allocator, world| allocator.remove_client(world, client));
        self.model.remove_client(client);
    }

    fn set_quota(&mut self, role: &str, cpus: u64, mem: u64, slack: Option<u64>) {
        let amounts = |more: u64| {
            let of = |name: &str, amount: u64, unit: u64| {
                if amount == 0 { String::new() } else { format!("{name}:{};", amount * unit) }
            };
            of("cpus", cpus + more, 1) + &of("mem", mem + more, 100)
        };
        let limits = slack.map_or(String::new(), amounts);
        let guarantees = amounts(0);
        if self.rig.try_quota(role, &guarantees, &limits, true).is_err() {
            return;
        }
        if guarantees.is_empty() && limits.is_empty() {
            self.model.quotas.remove(role);
            return;
        }
        let limit = |amount: u64, unit: u64| {
            slack.map(|more| (amount + more) * unit).filter(|limit| *limit > 0)
        };
        let quota = Quota {
            guarantee: [cpus * 1_000, mem * 100_000, 0, 0],
            limit: [limit(cpus, 1_000), limit(mem, 100_000), None, None],
        };
        self.model.quotas.insert(role.to_string(), quota);
    }

    fn give_back(&mut self, out: Out, what: &Bundle, refuse: u64) {
        let now = self.rig.now;
        let until = self.rig.allocator.refused_until(now, refuse);
        self.rig.act(|allocator, world| {
            allocator.recover(world, out.agent, out.client, out.held, until);
        });
        let until = until.map(|until| until.0);
        let kept = self.model.agents.contains_key(&out.agent);
        self.model.give_back(out.agent, out.client, what, until.filter(|_| kept));
    }

    /// Half of the cpus are used from now on, and the rest is given back.
    fn keep(&mut self, nth: usize, refuse: u64) {
        let Some(place) = self.place(nth) else { return };
        let (out, what) = &mut self.out[place];
        let open = what.amounts.get("").copied().unwrap_or_default();
        let cpus = open[0] / 2_000;
        if cpus == 0 {
            return;
        }
        let used = support::text::wire(&format!("cpus:{cpus}"));
        let used = self.rig.hold(&used);
        let mut kept = Bundle::default();
        kept.amounts.insert(String::new(), [cpus * 1_000, 0, 0, 0]);
        self.rig.pool.subtract(&mut self.rig.names, &mut out.held, used).unwrap();
        what.subtract(&kept);
        let (rest, what) = self.out.remove(place);
        self.give_back(rest, &what, refuse);
        self.out.push((Out { held: used, ..rest }, kept));
    }

    /// Rounds until nobody has anything to do; each is compared.
    fn rounds(&mut self) {
        for _ in 0..1_000 {
            let now = self.rig.now;
            self.model.expire(now.0);
            if !self.rig.allocator.is_dirty() && self.rig.allocator.next_expiry() > now {
                let forgotten = self.model.find_forgotten();
                assert_eq!(forgotten, None, "a client that would get something was not asked");
                return;
            }
            self.round(now);
        }
        panic!("rounds never end");
    }

    fn round(&mut self, now: Time) {
        let (first, second, grants) = self.rig.act(|allocator, world| {
            let mut round = allocator.begin(world, now);
            let first: Option<Vec<u32>> =
                (round.stage() == CoreStage::Guarantees).then(|| round.agents().collect());
            let mut grants: Vec<Grant> = vec![];
            while let Some(grant) = allocator.next(world, &mut round) {
                grants.push(grant);
            }
            (first, round.agents().collect::<Vec<u32>>(), grants)
        });
        assert_eq!(first.is_some(), self.model.is_anybody_short() && !second.is_empty());
        let mut expected =
            first.map_or(vec![], |order| self.model.serve(Stage::Guarantees, &order));
        expected.extend(self.model.serve(Stage::Fair, &second));
        let given: Vec<Given> = grants.iter().map(|grant| self.given(grant)).collect();
        assert_eq!(given, expected);
        for (grant, given) in grants.into_iter().zip(given) {
            let Grant { agent, client, held, .. } = grant;
            self.out.push((Out { agent, client, held }, given.what));
        }
    }

    fn given(&self, grant: &Grant) -> Given {
        let what = bundle(&self.rig.show(grant.held));
        Given { agent: grant.agent, client: grant.client, what }
    }
}

/// What the rig shows of a holding.
fn bundle(text: &str) -> Bundle {
    let mut bundle = Bundle::default();
    for entry in text.split(';').filter(|entry| !entry.is_empty()) {
        let (name, value) = entry.split_once(':').unwrap();
        let (name, role) = name.split_once('(').unwrap_or((name, ")"));
        let role = role.trim_end_matches(')').to_string();
        if name == "ports" {
            let ranges = value.trim_matches(['[', ']']).split(',').flat_map(|range| {
                let (begin, end) = range.split_once('-').unwrap();
                begin.parse::<u64>().unwrap()..=end.parse().unwrap()
            });
            bundle.ports.extend(ranges);
            continue;
        }
        let kind = KINDS.iter().position(|kind| *kind == name).unwrap();
        let milli = mesita_core::resources::Amount::parse(value).unwrap().milli();
        bundle.amounts.entry(role).or_default()[kind] += milli;
    }
    bundle
}

/// How many histories: in CI enough for a million events.
fn histories() -> u32 {
    let told = std::env::var("MESITA_HISTORIES").ok().and_then(|number| number.parse().ok());
    told.unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), ..ProptestConfig::default() })]

    #[test]
    fn the_allocator_gives_what_its_rules_give(
        acts in proptest::collection::vec(act(), 0..400),
        seed in 0u64..1_000,
    ) {
        let mut both = Both::new(seed);
        for act in &acts {
            both.act(act);
        }
        both.rounds();
    }
}

#[test]
fn the_model_itself_gives_the_lowest_share_its_turn() {
    // Hand-made, so that both cannot be wrong in the same way: 1/4 against 1/2 of the cpus.
    let mut both = Both::new(1);
    both.add_agent(0, 8, 8, false, None, 0);
    both.join(0, "a");
    both.join(1, "b");
    both.rounds();
    let role = |both: &Both, client: u32| both.model.clients[&client].role.clone();
    assert_eq!(role(&both, both.out[0].0.client), "a");
    both.keep(0, 1_000);
    both.rounds();
    let (second, what) = both.out.last().unwrap();
    assert_eq!(role(&both, second.client), "b");
    let expected: BTreeMap<String, Amounts> =
        [(String::new(), [4_000, 800_000, 0, 0])].into_iter().collect();
    assert_eq!(what.amounts, expected);
}
