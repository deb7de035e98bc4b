//! An allocator with a world around it, driven by names: for tests of who gets what.

use std::collections::BTreeMap;

use mesita_core::allocator::quota::QuotaSpec;
use mesita_core::allocator::{Allocator, Bar, Config, Grant, Memory, Policy, World};
use mesita_core::capacity::{Capacity, Lender};
use mesita_core::names::Names;
use mesita_core::resources::change::{Conversion, Step};
use mesita_core::resources::pool::{self, Pool};
use mesita_core::resources::{Amount, Holding, Quantities};
use mesita_core::time::Time;
use mesita_core::wire::call::{Capability, Minimum, Quantity};
use mesita_core::wire::resource::*;
use mesita_core::wire::{Scratch, Seq};
use mesita_core::{Refusal, wire::call::Quantities as WireQuantities};

use super::Leak;
use super::text::{scratch, shown, wire};

pub const SECOND: u64 = 1_000_000;

/// What somebody was offered: `framework/role@agent resources`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    pub framework: String,
    pub role: String,
    pub agent: String,
    pub resources: String,
}

/// An offer that was made and not given back, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub agent: u32,
    pub client: u32,
    pub held: Holding,
}

pub struct Rig {
    pub allocator: Allocator<'static>,
    pub pool: Pool<'static>,
    pub names: Names<'static>,
    pub now: Time,
    pub agents: BTreeMap<String, u32>,
    pub frameworks: BTreeMap<String, u32>,
    pub clients: BTreeMap<(String, String), u32>,
    /// What is out, in the order in which it was given.
    pub out: Vec<Out>,
}

/// Mesos' batch: nothing is spaced, 0.01 cpus or 32 MB suffice.
pub fn config() -> Config {
    Config {
        role_sorter: Policy::Drf,
        framework_sorter: Policy::Drf,
        min_reoffer_us: 0,
        min_cpus_milli: 10,
        min_mem_milli: 32_000,
        filter_gpus: true,
    }
}

pub fn capacity() -> Capacity {
    Capacity {
        agents: 64,
        frameworks: 64,
        roles: 64,
        clients: 64,
        filters: 256,
        quotas: 32,
        minimums: 64,
        constraints: 64,
        patterns: 8,
        claims: 64,
        attributes: 64,
        names: 400,
        cells: 600,
        idents: 200,
        layers: 200,
        pieces: 4_000,
        spans: 0,
        ..Capacity::tiny()
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    pub fn new() -> Self {
        Self::with(config(), capacity(), 1)
    }

    pub fn with(config: Config, capacity: Capacity, seed: u64) -> Self {
        let (c, leak) = (capacity, &mut Leak);
        let mut names = Names::new(leak.lend(c.names), leak.lend(c.cells), leak.lend(c.names), 1);
        let memory = pool::Memory {
            idents: leak.lend(c.idents),
            layers: leak.lend(c.layers),
            parts: leak.lend(c.parts()),
        };
        let pool = Pool::new(memory, &mut names).unwrap();
        let allocator = Allocator::new(Memory::lend(&c, leak), config, seed).unwrap();
        Self {
            allocator,
            pool,
            names,
            now: Time(0),
            agents: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            clients: BTreeMap::new(),
            out: vec![],
        }
    }

    pub fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Allocator<'static>, &mut World<'_, 'static>) -> T,
    ) -> T {
        let mut world = World { pool: &mut self.pool, names: &mut self.names };
        act(&mut self.allocator, &mut world)
    }

    // -------------------------------------------------------------- resources

    pub fn hold(&mut self, list: &Seq<'_, Resource<'_>>) -> Holding {
        self.pool.admit(&self.names, list).unwrap();
        self.pool.take(&mut self.names, list)
    }

    pub fn show(&self, holding: Holding) -> String {
        let (mut outer, mut inner) = (vec![0; 60_000], vec![0; 30_000]);
        let mut scratch = Scratch::new(&mut outer);
        shown(&self.pool.write(&self.names, holding, "", &mut scratch, &mut inner).unwrap())
    }

    pub fn let_go(&mut self, mut holding: Holding) {
        self.pool.clear(&mut self.names, &mut holding);
    }

    // ----------------------------------------------------------------- agents

    pub fn agent(&mut self, name: &str, resources: &str) -> u32 {
        self.agent_of(name, &wire(resources))
    }

    pub fn agent_of(&mut self, name: &str, list: &Seq<'_, Resource<'_>>) -> u32 {
        self.agent_at(name, list, false)
    }

    pub fn agent_at(&mut self, name: &str, list: &Seq<'_, Resource<'_>>, remote: bool) -> u32 {
        let agent = self.agents.len() as u32;
        self.agents.insert(name.to_string(), agent);
        let (total, free) = (self.hold(list), self.hold(list));
        self.act(|allocator, world| allocator.add_agent(world, agent, remote, total, free));
        agent
    }

    pub fn remove_agent(&mut self, name: &str) {
        let agent = self.agents[name];
        self.act(|allocator, world| allocator.remove_agent(world, agent, false));
        let gone: Vec<_> = self.out.extract_if(.., |out| out.agent == agent).collect();
        for out in gone {
            self.act(|allocator, world| {
                allocator.recover(world, out.agent, out.client, out.held, None);
            });
        }
    }

    pub fn bar(&mut self, name: &str, bar: Bar, barred: bool) {
        let agent = self.agents[name];
        self.allocator.set_barred(&self.pool, agent, bar, barred);
    }

    pub fn set_total(&mut self, name: &str, list: &Seq<'_, Resource<'_>>) {
        let (agent, total) = (self.agents[name], self.hold(list));
        self.act(|allocator, world| allocator.set_total(world, agent, total)).unwrap();
    }

    /// A task that an agent brought with it.
    pub fn uses(&mut self, framework: &str, role: &str, agent: &str, resources: &str) {
        let (client, agent) = (self.client(framework, role), self.agents[agent]);
        let held = self.hold(&wire(resources));
        self.act(|allocator, world| {
            let (_, mut free) = allocator.agent_holdings(agent).unwrap();
            free = world.pool.copy(world.names, free).unwrap();
            let mut debt = 0;
            world.pool.subtract_owing(world.names, &mut free, held, &mut debt);
            allocator.set_free(world, agent, free, debt);
            allocator.charge(world, agent, client, held);
        });
        self.out.push(Out { agent, client, held });
    }

    // ------------------------------------------------------------- frameworks

    /// A framework in roles, which wants offers in all of them.
    pub fn framework(&mut self, name: &str, roles: &[&str]) {
        self.framework_of(name, roles, &[]);
    }

    pub fn framework_of(&mut self, name: &str, roles: &[&str], capabilities: &[Capability]) {
        self.add_framework(name, roles, capabilities);
        for role in roles {
            let client = self.client(name, role);
            self.allocator.set_away(&self.names, client, false);
        }
    }

    /// A framework that is not there yet.
    pub fn add_framework(&mut self, name: &str, roles: &[&str], capabilities: &[Capability]) {
        let next = self.frameworks.len() as u32;
        let framework = *self.frameworks.entry(name.to_string()).or_insert(next);
        let bits = capabilities.iter().fold(0, |bits, capability| bits | capability.bit());
        for role in roles {
            let allocator = &mut self.allocator;
            let client =
                allocator.add_client(&mut self.names, role, framework, bits, false).unwrap();
            self.clients.insert((name.to_string(), (*role).to_string()), client);
        }
    }

    pub fn client(&self, framework: &str, role: &str) -> u32 {
        self.clients[&(framework.to_string(), role.to_string())]
    }

    pub fn remove_client(&mut self, framework: &str, role: &str) {
        let client = self.clients.remove(&(framework.to_string(), role.to_string())).unwrap();
        let held: Vec<_> = self.out.extract_if(.., |out| out.client == client).collect();
        for out in held {
            self.act(|allocator, world| {
                allocator.recover(world, out.agent, out.client, out.held, None);
            });
        }
        self.act(|allocator, world| allocator.remove_client(world, client));
    }

    pub fn suppress(&mut self, framework: &str, role: &str) {
        let client = self.client(framework, role);
        self.allocator.suppress(&self.names, client);
    }

    pub fn revive(&mut self, framework: &str, role: &str) {
        let client = self.client(framework, role);
        self.act(|allocator, world| allocator.revive(world, client, false));
    }

    /// Revives a role of a framework that is not there.
    pub fn revive_away(&mut self, framework: &str, role: &str) {
        let client = self.client(framework, role);
        self.act(|allocator, world| allocator.revive(world, client, true));
    }

    /// A resource that counts in no share.
    pub fn leave_out(&mut self, name: &str) {
        self.allocator.leave_out(&mut self.names, name).unwrap();
    }

    /// The framework's connection is gone, or back.
    pub fn away(&mut self, framework: &str, role: &str, away: bool) {
        let client = self.client(framework, role);
        self.allocator.set_away(&self.names, client, away);
        if away {
            self.act(|allocator, world| allocator.lift_filters(world, client));
        }
    }

    /// `a;b|c` = a and b, or c; empty = anything; none = the master's.
    pub fn minimum(&mut self, framework: &str, role: &str, least: Option<&str>) {
        let client = self.client(framework, role);
        let alternatives: Vec<_> = least
            .unwrap_or("")
            .split('|')
            .filter(|alternative| !alternative.is_empty())
            .map(|alternative| WireQuantities { amounts: quantities(alternative) })
            .collect();
        let alternatives = scratch().seq::<WireQuantities<'static>>(alternatives).unwrap();
        let minimum = least.map(|_| Minimum { role: "*", alternatives });
        self.allocator.set_minimum(&mut self.names, client, minimum.as_ref());
    }

    pub fn weight(&mut self, role: &str, thousandths: u32) {
        self.allocator.set_weight(&mut self.names, role, thousandths).unwrap();
    }

    pub fn try_quota(
        &mut self,
        role: &str,
        guarantees: &str,
        limits: &str,
        force: bool,
    ) -> Result<(), Refusal> {
        let (guarantees, limits) = (quantities(guarantees), quantities(limits));
        let spec = QuotaSpec { guarantees, limits };
        self.act(|allocator, world| {
            allocator.set_quota(world, role, &spec, force, &Quantities::NONE)
        })
    }

    /// A guarantee, and a limit of as much, as Mesos' first quotas are.
    pub fn quota(&mut self, role: &str, amounts: &str) {
        self.try_quota(role, amounts, amounts, true).unwrap();
    }

    pub fn guarantee(&mut self, role: &str, amounts: &str) {
        self.try_quota(role, amounts, "", true).unwrap();
    }

    pub fn limit(&mut self, role: &str, amounts: &str) {
        self.try_quota(role, "", amounts, true).unwrap();
    }

    // ------------------------------------------------------------------ offers

    /// Rounds until nothing is dirty: what Mesos does in one allocation run. Who got what, sorted;
    /// several grants of one agent to one client are one offer.
    pub fn allocate(&mut self) -> Vec<Offer> {
        let mut offers = self.allocate_in_order();
        offers.sort();
        offers
    }

    pub fn allocate_in_order(&mut self) -> Vec<Offer> {
        let mut made: Vec<Grant> = vec![];
        let mut rounds = 0;
        while self.allocator.is_dirty() || self.allocator.next_expiry() <= self.now {
            rounds += 1;
            assert!(rounds < 10_000, "rounds never end");
            let now = self.now;
            let grants = self.act(|allocator, world| {
                let mut round = allocator.begin(world, now);
                let mut grants = vec![];
                while let Some(grant) = allocator.next(world, &mut round) {
                    grants.push(grant);
                }
                grants
            });
            for grant in grants {
                let same =
                    |other: &&mut Grant| (other.agent, other.client) == (grant.agent, grant.client);
                match made.iter_mut().find(same) {
                    Some(other) => {
                        assert!(grant.again, "an agent is given to a client twice");
                        let mut more = grant.held;
                        self.pool.add(&mut self.names, &mut other.held, &mut more);
                    }
                    None => made.push(grant),
                }
            }
        }
        let offers = made.iter().map(|grant| self.offer(grant)).collect();
        let out = made.iter().map(|&Grant { agent, client, held, .. }| Out { agent, client, held });
        self.out.extend(out);
        offers
    }

    fn offer(&self, grant: &Grant) -> Offer {
        let of = |map: &BTreeMap<String, u32>, number| {
            map.iter().find(|(_, n)| **n == number).map(|(name, _)| name.clone()).unwrap()
        };
        Offer {
            framework: of(&self.frameworks, grant.framework),
            role: self.allocator.role_of(&self.names, grant.client).to_string(),
            agent: of(&self.agents, grant.agent),
            resources: self.show(grant.held),
        }
    }

    fn find_out(&self, framework: &str, agent: &str) -> usize {
        let agent = self.agents[agent];
        let is = |out: &Out| {
            let client = self.clients.iter().find(|(_, client)| **client == out.client);
            out.agent == agent && client.is_some_and(|((name, _), _)| name == framework)
        };
        self.out.iter().rposition(is).expect("nothing is out to that framework on that agent")
    }

    /// Gives an offer back, refused for so long; 0 = without a filter.
    pub fn decline(&mut self, framework: &str, agent: &str, refuse_us: u64) {
        let out = self.out.remove(self.find_out(framework, agent));
        self.give_back(out, refuse_us);
    }

    pub fn give_back(&mut self, out: Out, refuse_us: u64) {
        let until = (refuse_us > 0).then(|| self.now.after(refuse_us));
        self.act(|allocator, world| {
            allocator.recover(world, out.agent, out.client, out.held, until);
        });
    }

    /// Keeps `used` of an offer and gives the rest back, refused for so long.
    pub fn accept(&mut self, framework: &str, agent: &str, used: &str, refuse_us: u64) {
        let used = self.hold(&wire(used));
        self.accept_held(framework, agent, used, refuse_us);
    }

    pub fn accept_held(&mut self, framework: &str, agent: &str, used: Holding, refuse_us: u64) {
        let mut out = self.out.remove(self.find_out(framework, agent));
        self.pool.subtract(&mut self.names, &mut out.held, used).unwrap();
        let kept = Out { held: used, ..out };
        self.act(|allocator, world| {
            allocator.claim_used(world, kept.agent, kept.client, kept.held);
        });
        self.give_back(out, refuse_us);
        self.out.push(kept);
    }

    /// A task ended: its resources are free again.
    pub fn end(&mut self, framework: &str, agent: &str) {
        let out = self.out.remove(self.find_out(framework, agent));
        self.act(|allocator, world| {
            allocator.recover_used(world, out.agent, out.client, out.held);
        });
    }

    /// An operation on what a framework holds of an agent, or, without one, on what is free there.
    pub fn operate(
        &mut self,
        framework: Option<&str>,
        agent: &str,
        step: Step,
        list: &Seq<'_, Resource<'_>>,
    ) -> Result<(), Refusal> {
        let place = framework.map(|framework| self.find_out(framework, agent));
        let slot = self.agents[agent];
        let (total, free) = self.allocator.agent_holdings(slot).unwrap();
        let from = place.map_or(free, |place| self.out[place].held);
        self.pool.check_change(&self.names, step, list, &[from], total)?;
        let mut conversion: Conversion = self.pool.change(&mut self.names, step, list);
        let client = place.map(|place| self.out[place].client);
        if let Some(place) = place {
            let mut held = self.out[place].held;
            self.pool.apply(&mut self.names, &mut held, &conversion).unwrap();
            self.out[place].held = held;
        }
        self.act(|allocator, world| allocator.convert(world, slot, client, &conversion));
        self.pool.clear(&mut self.names, &mut conversion.consumed);
        self.pool.clear(&mut self.names, &mut conversion.converted);
        Ok(())
    }

    // ------------------------------------------------------------------- looks

    /// The clients that want offers, in the order of their shares, as `framework/role`.
    pub fn order(&self) -> Vec<String> {
        let mut order = [0; 64];
        let count = self.allocator.order(&self.pool, &self.names, &mut order);
        let name = |client: u32| {
            let found = self.clients.iter().find(|(_, other)| **other == client);
            found.map(|((framework, _), _)| framework.clone()).unwrap()
        };
        order[..count].iter().map(|client| name(*client)).collect()
    }

    /// What a client has of a kind, in thousandths.
    pub fn has(&self, framework: &str, role: &str, kind: u8) -> u64 {
        self.allocator.usage(self.client(framework, role)).unwrap().0.of(kind)
    }

    /// A framework's largest fraction of a resource, in millionths.
    pub fn share(&self, framework: &str, role: &str) -> u64 {
        let amounts = self.allocator.usage(self.client(framework, role)).unwrap().0;
        let fractions = amounts
            .iter()
            .map(|(kind, amount)| amount * 1_000_000 / self.allocator.totals().of(kind).max(1));
        fractions.max().unwrap_or(0)
    }

    pub fn free(&self, agent: &str) -> String {
        self.show(self.allocator.agent_holdings(self.agents[agent]).unwrap().1)
    }

    pub fn total(&self, agent: &str) -> String {
        self.show(self.allocator.agent_holdings(self.agents[agent]).unwrap().0)
    }

    pub fn wait(&mut self, us: u64) {
        self.now = self.now.after(us);
    }
}

/// `cpus:1;mem:2` as amounts on the wire.
pub fn quantities(text: &str) -> Seq<'static, Quantity<'static>> {
    let amounts: Vec<Quantity<'static>> = text
        .split(';')
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (name, amount) = entry.split_once(':').unwrap();
            let name: &'static str = Box::leak(name.to_string().into_boxed_str());
            Quantity { name, amount: Amount::parse(amount).unwrap() }
        })
        .collect();
    scratch().seq::<Quantity<'static>>(amounts).unwrap()
}

/// How the entries of a list differ from plain ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sort {
    /// Dynamic reservations, the outermost first.
    pub roles: &'static [&'static str],
    pub labels: &'static str,
    pub volume: &'static str,
    pub mount: &'static str,
    pub shared: bool,
    pub revocable: bool,
}

/// Resources of a sort.
pub fn sorted(text: &str, sort: Sort) -> Seq<'static, Resource<'static>> {
    let kind = ReservationKind::Dynamic;
    let layers = sort.roles.iter().map(|role| Reservation {
        role,
        kind,
        principal: "",
        labels: sort.labels,
    });
    let reservations = scratch().seq::<Reservation<'static>>(layers).unwrap();
    let disk = Disk {
        source: if sort.mount.is_empty() { DiskSource::Root } else { DiskSource::Mount },
        root: sort.mount,
        id: "",
        profile: "",
        vendor: "",
        persistence: sort.volume,
        principal: "",
        container_path: if sort.volume.is_empty() { "" } else { "data" },
    };
    let given = !sort.volume.is_empty() || !sort.mount.is_empty();
    let list: Vec<_> = wire(text)
        .iter()
        .map(|resource| {
            let own = resource.traits.reservations;
            let reservations = if sort.roles.is_empty() { own } else { reservations };
            let traits = Traits {
                reservations,
                disk: (given && resource.name == "disk").then_some(disk),
                shared: sort.shared,
                revocable: sort.revocable,
                ..Traits::PLAIN
            };
            Resource { traits, ..resource }
        })
        .collect();
    scratch().seq::<Resource<'static>>(list).unwrap()
}

/// Several lists as one.
pub fn joined(lists: &[Seq<'static, Resource<'static>>]) -> Seq<'static, Resource<'static>> {
    let all = lists.iter().flat_map(|list| list.iter());
    scratch().seq::<Resource<'static>>(all).unwrap()
}

/// `framework/role@agent resources`, for comparisons.
pub fn told(offers: &[Offer]) -> Vec<String> {
    offers
        .iter()
        .map(|o| format!("{}/{}@{} {}", o.framework, o.role, o.agent, o.resources))
        .collect()
}
