//! What befalls a life: drawn from its seed before it begins, so that parts of it can be left out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mesita_core::rand::Rng;

use crate::cluster::Cluster;
use crate::cluster::faults::{Fault, When};
use crate::world::RING;

const SECOND: u64 = 1_000_000;

/// One life.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub masters: u8,
    pub agents: usize,
    pub frameworks: usize,
    /// The unit of the masters' timers, in µs.
    pub t: u64,
    /// How often a change is proposed that nobody needs, in µs.
    pub writes_us: u64,
    /// Changes of the registry between two checkpoints.
    pub ring: u32,
    /// How long it lasts before it is healed, in µs.
    pub lasts: u64,
    /// Every process has two threads, with rings between them; else each input is stepped at once.
    pub threads: bool,
    /// Work of every sort: executors of frameworks' own, tasks with rules and bounds; machines that are
    /// off for longer, with other clocks. Else commands and groups alone.
    pub varied: bool,
    /// What befalls it, by its number among all that the seed has: when, and what.
    pub faults: Vec<(usize, u64, When, Fault)>,
}

impl Plan {
    /// A quiet life of so many.
    pub fn quiet(seed: u64, masters: u8, agents: usize, frameworks: usize) -> Self {
        Self {
            seed,
            masters,
            agents,
            frameworks,
            t: SECOND / 2,
            writes_us: SECOND / 8,
            ring: RING,
            lasts: 0,
            threads: false,
            varied: false,
            faults: vec![],
        }
    }

    /// All that a seed has in store.
    pub fn of(seed: u64) -> Self {
        let mut plan = Self::plain(seed);
        plan.threads = Rng::new(seed ^ 0x7468_7265_6164).below(4) > 0;
        let mut dice = Rng::new(seed ^ 0x7661_7279);
        // Those that --timing offers; and stretches in which little happens.
        plan.t = [150, 500, 500, 500, 1_000, 5_000][dice.below(6) as usize] * 1_000;
        plan.writes_us = plan.t * [1, 1, 4, 8][dice.below(4) as usize] / 4;
        plan.ring = [RING, 24, 96][dice.below(3) as usize];
        plan.stretch([1, 1, 2, 4][dice.below(4) as usize]);
        plan.varied = dice.below(4) > 0;
        if plan.varied {
            plan.has_more(&mut dice);
        }
        plan
    }

    /// The same faults in so many times the time.
    fn stretch(&mut self, times: u64) {
        self.lasts *= times;
        self.faults.iter_mut().for_each(|(_, at, ..)| *at *= times);
    }

    /// What goes wrong in a life of every sort of work, beside the rest.
    fn has_more(&mut self, dice: &mut Rng) {
        for _ in 0..dice.below(10) {
            let at = 2 * SECOND + dice.below_u64(self.lasts - 2 * SECOND);
            let when = When::drawn(dice);
            self.faults.push((
                0,
                at,
                when,
                Fault::drawn_of_more(dice, self.agents, self.frameworks),
            ));
        }
        self.faults.sort_by_key(|(_, at, ..)| *at);
        self.faults.iter_mut().enumerate().for_each(|(number, fault)| fault.0 = number);
    }

    /// Two minutes of commands and groups, without threads.
    pub fn plain(seed: u64) -> Self {
        let mut dice = Rng::new(seed ^ 0x0070_6c61_6e00);
        let masters = [3, 3, 3, 1, 2, 5][dice.below(6) as usize];
        let agents = 1 + dice.below(5) as usize;
        let frameworks = 1 + dice.below(4) as usize;
        let t = [150, 500, 500][dice.below(3) as usize] * 1_000;
        let quiet = Self::quiet(seed, masters, agents, frameworks);
        let mut plan = Self { lasts: 120 * SECOND, t, writes_us: t / 4, ..quiet };
        // Each sort of fault is left out of some lives, so that rare pairs get room.
        let sorts: Vec<bool> = (0..Fault::SORTS).map(|_| dice.below(3) > 0).collect();
        let count = 10 + dice.below(60) as usize;
        let mut all: Vec<_> = (0..count)
            .map(|_| {
                let at = 2 * SECOND + dice.below_u64(plan.lasts - 2 * SECOND);
                let when = When::drawn(&mut dice);
                (at, when, Fault::drawn(&mut dice, agents, frameworks))
            })
            .collect();
        all.retain(|(_, _, (sort, _))| sorts[*sort]);
        all.sort_by_key(|(at, _, _)| *at);
        plan.faults = all
            .into_iter()
            .enumerate()
            .map(|(n, (at, when, (_, fault)))| (n, at, when, fault))
            .collect();
        plan
    }

    /// Only what is named of it happens.
    pub fn with_only(mut self, numbers: &[usize]) -> Self {
        self.faults.retain(|(number, ..)| numbers.contains(number));
        self
    }

    /// How it ends, if not well.
    pub fn fault(&self, live: impl Fn(&Self)) -> Option<String> {
        let died = catch_unwind(AssertUnwindSafe(|| live(self))).err()?;
        let words = died.downcast_ref::<String>().cloned();
        let words = words.or_else(|| died.downcast_ref::<&str>().map(|text| (*text).to_string()));
        Some(words.unwrap_or_default().replace('\n', " "))
    }

    /// The least of it that still fails, found by leaving out halves, quarters and so on.
    pub fn shrunk(self, live: impl Fn(&Self) + Copy) -> Self {
        let mut least = self;
        let mut piece = least.faults.len().div_ceil(2);
        let mut tries = 200;
        while piece > 0 {
            let mut from = 0;
            while from < least.faults.len() && tries > 0 {
                tries -= 1;
                let mut less = least.clone();
                less.faults.drain(from..(from + piece).min(less.faults.len()));
                if less.fault(live).is_some() { least = less } else { from += piece }
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
        least
    }

    /// The command that shows it.
    pub fn command(&self) -> String {
        let numbers: Vec<String> = self.faults.iter().map(|(n, ..)| n.to_string()).collect();
        let faults = if numbers.is_empty() { "none".to_string() } else { numbers.join(",") };
        let test = "cargo test -p mesita-core --test sim lives_under_faults -- --nocapture";
        format!("TRACE=1 INPUTS=1 SEED={} FAULTS={faults} {test}", self.seed)
    }
}

/// A whole life as planned.
pub fn live(plan: &Plan) -> Cluster {
    let mut cluster = Cluster::new(plan);
    cluster.run(mesita_core::time::Time(plan.lasts));
    cluster.heal_and_finish();
    cluster.check_finished();
    cluster
}
