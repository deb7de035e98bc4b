//! Rounds: which agents are asked about, who is served, what they get.
//!
//! Mesos: `__generateOffers`. A round has two stages: first roles that are short of a guarantee are
//! served, then everybody by fair share, within limits and what is held back. In each stage an agent
//! goes from client to client in order until nothing is left that anybody may have; who was asked
//! about an agent once is not asked about it again in that stage.

use super::agents::Charge;
use super::gates::Portion;
use super::node::{LEFT_ALL, Node, NodeKind};
use super::quota::Sign;
use super::random;
use super::sorter::{Policy, Sorter, under};
use super::tree::{NEEDY, WANTING};
use super::{Allocator, World, drf};
use crate::limits::ROLE_DEPTH_MAX;
use crate::names::Names;
use crate::resources::Holding;
use crate::time::Time;

/// Agents that one round visits; the rest wait for the next, which is due at once.
pub const ROUND_MAX: usize = 256;

/// Clients that are passed over one by one before all that are left are looked through.
const PASSES: u32 = 8;

/// A share of an agent's free resources for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The agent's slot.
    pub agent: u32,
    /// The client's node.
    pub client: u32,
    /// The client's framework.
    pub framework: u32,
    /// What it gets; the receiver owns it now.
    pub held: Holding,
    /// The same client may have got something of the same agent in this round already: both are
    /// one offer.
    pub again: bool,
}

/// What a round does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Serves roles that are short of a guarantee.
    Guarantees,
    /// Serves everybody by fair share.
    #[default]
    Fair,
}

/// The agents of one round, drawn by [`Allocator::begin`].
#[derive(Debug, Default)]
pub struct Round {
    agents: heapless::Vec<u32, ROUND_MAX>,
    /// Agents not yet visited in this stage.
    left: usize,
    stage: Stage,
    /// The first stage gave something.
    served: bool,
    now: Time,
}

impl Round {
    /// The agents it visits, in the order they are visited in this stage: for tests.
    pub fn agents(&self) -> impl Iterator<Item = u32> + '_ {
        self.agents.iter().rev().copied()
    }

    /// The stage it is in.
    pub const fn stage(&self) -> Stage {
        self.stage
    }
}

impl<'a> Allocator<'a> {
    /// Lifts filters that expired, brings keys up to date and draws the agents of a round. O(agents
    /// drawn); O(1) when nothing is dirty and nothing expired.
    pub fn begin(&mut self, world: &mut World<'_, 'a>, now: Time) -> Round {
        self.expire_filters(world, now);
        let mut round = Round { now, ..Round::default() };
        if self.state.paused {
            return round;
        }
        self.wake_held();
        if self.dirty.is_empty() {
            return round;
        }
        self.state.rounds = self.state.rounds.saturating_add(1);
        if self.state.stale {
            self.totals.refresh(world.pool);
            self.rekey_all(world.names);
        }
        self.repark_all(world.names);
        while round.agents.len() < ROUND_MAX {
            let next =
                self.dirty.at_or_after(self.state.cursor).or_else(|| self.dirty.at_or_after(0));
            let Some(agent) = next else { break };
            self.dirty.remove(agent);
            self.state.cursor = agent.saturating_add(1);
            if let Some(row) = self.agents.get_mut(agent as usize) {
                row.lent = false;
            }
            let pushed = round.agents.push(agent);
            invariant!(pushed.is_ok(), "a round has more agents than its bound");
        }
        self.begin_elsewhere();
        let short = self.anybody_short();
        round.stage = if short { Stage::Guarantees } else { Stage::Fair };
        self.shuffle(&mut round);
        round
    }

    /// Once all that was dirty is drawn, the next search begins at an agent drawn by chance: else
    /// agents that are visited together would meet the same clients first each time, who refused
    /// them already. As nobody waits then, nobody waits longer for it.
    fn begin_elsewhere(&mut self) {
        let agents = u32::try_from(self.agents.len()).unwrap_or(0);
        if self.dirty.is_empty() && self.agents.len() > ROUND_MAX {
            self.state.cursor = self.state.rng.below(agents);
        }
    }

    /// The next grant of a round, until it is over. O(clients passed over + depth · log roles).
    pub fn next(&mut self, world: &mut World<'_, 'a>, round: &mut Round) -> Option<Grant> {
        loop {
            while let Some(place) = round.left.checked_sub(1) {
                let agent = round.agents.get(place).copied()?;
                let granted = self.serve(world, agent, round);
                if granted.is_some() {
                    return granted;
                }
                self.restore(world.names);
                round.left = place;
            }
            if round.stage == Stage::Fair {
                return None;
            }
            round.stage = Stage::Fair;
            self.shuffle(round);
        }
    }

    /// Puts back the agents that a round did not come to: it ends early.
    pub fn end(&mut self, names: &Names<'a>, round: &Round) {
        self.restore(names);
        let left = if round.stage == Stage::Guarantees { round.agents.len() } else { round.left };
        for agent in round.agents.iter().take(left) {
            self.mark(*agent);
        }
    }

    fn serve(&mut self, world: &mut World<'_, 'a>, agent: u32, round: &mut Round) -> Option<Grant> {
        let mut passes = 0u32;
        loop {
            if !self.offerable.contains(agent) {
                return None;
            }
            let scans = round.stage == Stage::Fair && self.scans(agent, passes);
            let (client, portion) = if scans {
                self.scan(world, agent)?
            } else {
                let client = self.first(world.names, round.stage)?;
                match self.ask_and_note(world, client, agent, round.stage) {
                    Some(portion) => (client, portion),
                    None => {
                        self.pass(world.names, client);
                        passes = passes.saturating_add(1);
                        continue;
                    }
                }
            };
            let granted = self.grant(world, agent, client, &portion, round);
            // Whoever got something of it does not get more of it in this stage.
            if self.offerable.contains(agent) {
                self.pass(world.names, client);
            }
            return granted;
        }
    }

    fn ask_and_note(
        &mut self,
        world: &World<'_, 'a>,
        client: u32,
        agent: u32,
        stage: Stage,
    ) -> Option<Portion> {
        let (asked, cuts) = self.ask(world, client, agent, stage);
        for role in cuts.roles() {
            self.note_cut(role);
        }
        for kind in cuts.held.iter() {
            self.hold_back(kind);
        }
        asked.ok()
    }

    fn grant(
        &mut self,
        world: &mut World<'_, 'a>,
        agent: u32,
        client: u32,
        portion: &Portion,
        round: &mut Round,
    ) -> Option<Grant> {
        let framework = self.nodes.row(client)?.framework;
        let mut free = self.agent(agent)?.free;
        let held = if portion.whole {
            core::mem::take(&mut free)
        } else {
            let mut budget = portion.terms.budget();
            let pool = &mut *world.pool;
            pool.split(world.names, &mut free, |_, ident, amount| {
                self.given(ident, amount, &portion.terms, &mut budget)
            })
        };
        let charge = Charge::of(world.pool, held);
        for kind in charge.kinds.iter() {
            self.state.available.subtract(kind, charge.open_of(kind));
        }
        self.set_free_after(world.pool, agent, free);
        if let Some(row) = self.agents.get_mut(agent as usize) {
            row.last_winner = client.saturating_add(1);
            row.last_at = round.now;
            row.lent |= portion.shared;
        }
        self.walk_up(world.names, client, |allocated, count| {
            *count = count.saturating_add(1);
            for kind in charge.kinds.iter() {
                allocated.add(kind, charge.of_kind(kind));
            }
        });
        self.count_open(world.names, client, &charge, Sign::More);
        // It got what was left over: what is held back waits for more than there is now.
        for kind in portion.held.iter() {
            self.hold_back(kind);
        }
        if portion.shared {
            self.claim_offered(world, agent, client, held);
            // Others may use it, too: they are asked in the next round.
            self.dirty.insert(agent);
        }
        self.state.grants = self.state.grants.saturating_add(1);
        let again = round.stage == Stage::Fair && round.served;
        round.served |= round.stage == Stage::Guarantees;
        Some(Grant { agent, client, framework, held, again })
    }

    /// The client whose turn it is: the first child of the first child … of the root.
    fn first(&mut self, names: &Names<'a>, stage: Stage) -> Option<u32> {
        let root = self.state.root;
        let (mut at, mut all) = (root, stage == Stage::Fair);
        loop {
            let node = self.nodes.row(at)?;
            if node.kind == NodeKind::Client {
                return Some(at);
            }
            all = all || self.serves_all(node);
            let [wanting, needy] = node.groups;
            let group = if all { wanting } else { needy };
            let kind = node.kind;
            let next = under!(self.policy_below(kind), sorter =>
                sorter.next(&self.forest, &self.nodes, group, &mut self.state.rng));
            match next {
                Some(next) => at = next,
                None if at == root => return None,
                // Everyone below was passed over, so this one is, too.
                None => {
                    self.pass(names, at);
                    (at, all) = (root, stage == Stage::Fair);
                }
            }
        }
    }

    // ------------------------------------------------------------------ passing

    /// Skips a node until [`Allocator::restore`].
    fn pass(&mut self, names: &Names<'a>, slot: u32) {
        if let Some(node) = self.nodes.row_mut(slot) {
            node.passed = true;
            node.passed_next = core::mem::replace(&mut self.state.passed, slot.saturating_add(1));
        }
        self.left_changed(names, slot);
    }

    /// Skips nobody any more.
    fn restore(&mut self, names: &Names<'a>) {
        while let Some(slot) = self.state.passed.checked_sub(1) {
            let Some(node) = self.nodes.row_mut(slot) else { return };
            node.passed = false;
            self.state.passed = core::mem::take(&mut node.passed_next);
            self.left_changed(names, slot);
        }
    }

    /// A node is passed over, or is no more: its matches are played again. Where chance rules, what
    /// is left of those above is another part of the whole.
    fn left_changed(&mut self, names: &Names<'a>, slot: u32) {
        let mut at = slot;
        while let Some(above) = self.nodes.row(at).and_then(Node::above)
            && let Some(node) = self.nodes.row(above)
        {
            let (kind, left) = (node.kind, node.rank.left);
            self.changed(names, at, kind);
            let draws = under!(self.policy_below(kind), sorter => sorter.draws());
            if !draws {
                return;
            }
            let now = self.left_below(above);
            if now == left {
                return;
            }
            if let Some(node) = self.nodes.row_mut(above) {
                node.rank.left = now;
            }
            at = above;
        }
    }

    /// How much of what is below a node is not passed over, where chance rules.
    fn left_below(&self, at: u32) -> u32 {
        let Some(node) = self.nodes.row(at) else { return LEFT_ALL };
        let [wanting, _] = node.groups;
        let outcome = self.forest.outcome(&self.nodes, &random::Random, wanting);
        random::left_of(node.weights, outcome.value.get())
    }

    // ----------------------------------------------------------------- scanning

    /// True when it is better to look through all clients that did not refuse an agent than to pass
    /// over them one by one.
    fn scans(&self, agent: u32, passes: u32) -> bool {
        let drawn = [self.config.role_sorter, self.config.framework_sorter]
            .into_iter()
            .any(|policy| under!(policy, sorter => sorter.draws()));
        let refusers = self.agents.get(agent as usize).map_or(0, |row| row.refusers);
        let many = refusers > PASSES && refusers.saturating_mul(2) > self.wanting.len();
        !drawn && (passes >= PASSES || many)
    }

    /// The first client in order that every gate lets through, by looking at each that did not
    /// refuse what there is: at most as many comparisons as there are such clients.
    fn scan(&mut self, world: &World<'_, 'a>, agent: u32) -> Option<(u32, Portion)> {
        self.draw_mask(world, agent);
        let mut best: Option<(u32, Path, Portion)> = None;
        for place in 0..self.mask.len() {
            let mut left = self.mask.get(place).copied().unwrap_or(0);
            let first = u32::try_from(place).unwrap_or(u32::MAX).saturating_mul(64);
            while left != 0 {
                let number = first.saturating_add(left.trailing_zeros());
                left &= left.wrapping_sub(1);
                let client = self.clients.get(number as usize).and_then(|at| at.checked_sub(1));
                let Some((client, path)) = client.and_then(|at| Some((at, self.path_to(at)?)))
                else {
                    continue;
                };
                if let Some((_, than, _)) = &best
                    && !self.is_before(world.names, &path, than)
                {
                    continue;
                }
                if let Some(portion) = self.ask_and_note(world, client, agent, Stage::Fair) {
                    best = Some((client, path, portion));
                }
            }
        }
        best.map(|(client, _, portion)| (client, portion))
    }

    /// The clients that want offers and did not refuse what an agent has free.
    fn draw_mask(&mut self, world: &World<'_, 'a>, agent: u32) {
        let Some(row) = self.agents.get(agent as usize) else { return };
        let (words, refused) = (self.wanting.words(), self.filters.set_of(agent));
        // Of what is not simple, each client may have another part, and is asked by itself.
        let masks = row.refusers > 0
            && row.simple
            && self.quotas.is_empty()
            && world.pool.contains(row.refused, row.free);
        let remote = row.remote;
        for (place, word) in self.mask.iter_mut().enumerate() {
            let of = |words: &[u64]| words.get(place).copied().unwrap_or(0);
            *word = of(words);
            if masks {
                *word &= !of(refused);
            }
            if remote {
                *word &= of(self.travellers.words());
            }
            if row.gpus && self.config.filter_gpus {
                *word &= of(self.gpu_users.words());
            }
        }
    }

    /// The nodes from below the root to a client; none when one of them is passed over, or not in
    /// its parent's group.
    fn path_to(&self, client: u32) -> Option<Path> {
        let mut path = Path::new();
        let mut at = client;
        while at != self.state.root {
            let node = self.nodes.row(at)?;
            if node.passed || !node.inside {
                return None;
            }
            path.push(at).ok()?;
            at = node.above()?;
        }
        path.reverse();
        Some(path)
    }

    fn is_before(&self, names: &Names<'_>, path: &Path, than: &Path) -> bool {
        let differ = path.iter().zip(than).find(|(a, b)| a != b);
        let Some((a, b)) = differ else { return false };
        let (Some(a), Some(b)) = (self.nodes.row(*a), self.nodes.row(*b)) else { return false };
        drf::before(names, a, b)
    }

    /// Fisher and Yates: the last is drawn from all, the one before it from the rest.
    fn shuffle(&mut self, round: &mut Round) {
        round.left = round.agents.len();
        let mut left = u32::try_from(round.left).unwrap_or(0);
        while left > 1 {
            let drawn = self.state.rng.below(left);
            left = left.saturating_sub(1);
            round.agents.swap(left as usize, drawn as usize);
        }
    }
}

/// Nodes from below the root to a client: roles, own node, client.
type Path = heapless::Vec<u32, { ROLE_DEPTH_MAX + 2 }>;

const _: () = assert!(WANTING == 0 && NEEDY == 1);
