//! An allocator of any size on a stage of its own, without a master: for benches of decisions.

use mesita_core::allocator::quota::QuotaSpec;
use mesita_core::allocator::{Allocator, Config, Grant, Memory, Policy, World};
use mesita_core::capacity::{Capacity, Lender};
use mesita_core::names::Names;
use mesita_core::record::Zero;
use mesita_core::resources::pool::{self, Pool};
use mesita_core::resources::text::{TextValue, ranges, resources};
use mesita_core::resources::{Amount, Holding, Quantities};
use mesita_core::time::Time;
use mesita_core::wire::call::Quantity;
use mesita_core::wire::resource::{Range, Resource, Traits, Value};
use mesita_core::wire::{Scratch, Seq};

/// What an agent of Mesos' benchmarks has.
pub const AGENT: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
/// What is used of it: every second of 32 ports, so that what is free is in fragments.
pub const USED: &str = "cpus:16;mem:2014;disk:1024;ports:[31000-31000,31002-31002,31004-31004,\
    31006-31006,31008-31008,31010-31010,31012-31012,31014-31014,31016-31016,31018-31018,\
    31020-31020,31022-31022,31024-31024,31026-31026,31028-31028,31030-31030]";

/// Memory that lasts as long as the process.
#[derive(Debug)]
struct Leak;

impl Lender<'static> for Leak {
    fn lend<T: Zero + 'static>(&mut self, rows: u32) -> &'static mut [T] {
        Box::leak(vec![T::ZERO; rows as usize].into_boxed_slice())
    }
}

/// An allocator, its pool and names, and what is out.
#[derive(Debug)]
pub struct Stage {
    allocator: Allocator<'static>,
    pool: Pool<'static>,
    names: Names<'static>,
    now: Time,
    clients: Vec<u32>,
    agents: u32,
    out: Vec<Grant>,
}

impl Stage {
    /// Room for so many agents and frameworks, with roles of which one in `quotas` has a quota.
    ///
    /// # Panics
    /// When there is less memory than even an idle allocator needs, which cannot be.
    pub fn new(agents: u32, frameworks: u32, roles: u32) -> Self {
        let c = Capacity {
            agents,
            frameworks,
            roles: roles.max(2),
            clients: frameworks.max(2),
            filters: 16_000,
            quotas: roles.max(2),
            names: roles + 64,
            cells: roles + 256,
            idents: 64,
            pieces: agents.saturating_mul(120).max(4_096),
            spans: 0,
            ..Capacity::tiny()
        };
        let leak = &mut Leak;
        let mut names = Names::new(leak.lend(c.names), leak.lend(c.cells), leak.lend(c.names), 1);
        let memory = pool::Memory {
            idents: leak.lend(c.idents),
            layers: leak.lend(c.layers),
            parts: leak.lend(c.parts()),
        };
        let pool = Pool::new(memory, &mut names).expect("room for the names of resources");
        let config = Config {
            role_sorter: Policy::Drf,
            framework_sorter: Policy::Drf,
            min_reoffer_us: 0,
            min_cpus_milli: 10,
            min_mem_milli: 32_000,
            filter_gpus: true,
        };
        let allocator = Allocator::new(Memory::lend(&c, leak), config, 1).expect("room for a root");
        Self { allocator, pool, names, now: Time(0), clients: vec![], agents: 0, out: vec![] }
    }

    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Allocator<'static>, &mut World<'_, 'static>) -> T,
    ) -> T {
        let mut world = World { pool: &mut self.pool, names: &mut self.names };
        act(&mut self.allocator, &mut world)
    }

    fn hold(&mut self, text: &str) -> Holding {
        let (mut outer, mut inner) = ([0; 1_024], [0; 1_024]);
        let list = wire(text, &mut outer, &mut inner);
        self.pool.admit(&self.names, &list).expect("room for a bench's resources");
        self.pool.take(&mut self.names, &list)
    }

    /// Adds an agent, of which `used` is in use by the framework whose turn it is.
    pub fn add_agent(&mut self, total: &str, used: &str) {
        let agent = self.agents;
        self.agents += 1;
        let (total, mut free) = (self.hold(total), self.hold(total));
        let mut used = self.hold(used);
        let owner = self.clients.get(agent as usize % self.clients.len().max(1)).copied();
        let Self { pool, names, .. } = self;
        pool.subtract(names, &mut free, used).expect("less is used than there is");
        self.act(|allocator, world| {
            allocator.add_agent(world, agent, false, total, free);
            match owner {
                Some(owner) => allocator.charge(world, agent, owner, used),
                None => world.pool.clear(world.names, &mut used),
            }
        });
    }

    /// Takes an agent away that nothing is out of, and adds it anew.
    pub fn flap_agent(&mut self, agent: u32) {
        let Some((total, free)) = self.allocator.agent_holdings(agent) else { return };
        let Self { pool, names, .. } = self;
        let (Ok(total), Ok(free)) = (pool.copy(names, total), pool.copy(names, free)) else {
            return;
        };
        self.act(|allocator, world| {
            allocator.remove_agent(world, agent, false);
            allocator.add_agent(world, agent, false, total, free);
        });
    }

    /// The next framework, in a role.
    ///
    /// # Panics
    /// When there are more than was said.
    pub fn add_framework(&mut self, role: &str) {
        let framework = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let client = self.allocator.add_client(&mut self.names, role, framework, 0, false);
        let client = client.expect("room for a bench's frameworks");
        self.clients.push(client);
        self.allocator.set_away(&self.names, client, false);
    }

    /// Removes the newest framework, which holds nothing.
    pub fn remove_framework(&mut self) {
        let Some(client) = self.clients.pop() else { return };
        self.act(|allocator, world| allocator.remove_client(world, client));
    }

    /// Rounds until nothing is dirty; how many offers they made.
    pub fn cycle(&mut self) -> usize {
        let before = self.out.len();
        while self.allocator.is_dirty() {
            let (now, Self { allocator, pool, names, out, .. }) = (self.now, &mut *self);
            let mut world = World { pool, names };
            let mut round = allocator.begin(&mut world, now);
            while let Some(grant) = allocator.next(&mut world, &mut round) {
                out.push(grant);
            }
        }
        self.out.len() - before
    }

    /// Gives the newest offer back; `forever` = refused until it revives.
    pub fn give_back(&mut self, forever: bool) -> bool {
        let Some(Grant { agent, client, held, .. }) = self.out.pop() else { return false };
        let until = forever.then_some(Time::NEVER);
        self.act(|allocator, world| allocator.recover(world, agent, client, held, until));
        true
    }

    /// The role's first framework wants no offers for a while.
    pub fn suppress(&mut self, framework: usize) {
        self.allocator.suppress(&self.names, self.clients[framework]);
    }

    /// It wants offers again.
    pub fn revive(&mut self, framework: usize) {
        let client = self.clients[framework];
        self.act(|allocator, world| allocator.revive(world, client, false));
    }

    /// A role's weight, in thousandths.
    ///
    /// # Panics
    /// When it is no weight.
    pub fn weigh(&mut self, role: &str, weight: u32) {
        self.allocator.set_weight(&mut self.names, role, weight).expect("a weight");
    }

    /// A guarantee and a limit of as much.
    ///
    /// # Panics
    /// When there are more than was said.
    pub fn set_quota(&mut self, role: &str, amounts: &[(&str, u64)]) {
        let mut memory = [0; 256];
        let each = amounts.iter();
        let each =
            each.map(|&(name, amount)| Quantity { name, amount: Amount::from_milli(amount) });
        let list = Scratch::new(&mut memory).seq::<Quantity<'_>>(each).expect("few amounts");
        let spec = QuotaSpec { guarantees: list, limits: list };
        let none = Quantities::NONE;
        let set = self.act(|allocator, world| allocator.set_quota(world, role, &spec, true, &none));
        set.expect("room for a bench's quotas");
    }

    /// Refusals in force.
    pub fn filters(&self) -> u32 {
        self.allocator.gauges().filters
    }
}

/// Mesos' text form, of ports ranges and scalars, as a list on the wire.
fn wire<'m>(text: &'m str, outer: &'m mut [u8], inner: &'m mut [u8]) -> Seq<'m, Resource<'m>> {
    let mut of_ranges = Some(Scratch::new(inner));
    let mut scratch = Scratch::new(outer);
    let mut list = scratch.list::<Resource<'static>>();
    for entry in resources(text) {
        let entry = entry.expect("a bench's resources are well formed");
        let value = match entry.value {
            TextValue::Scalar(amount) => Value::Scalar(amount),
            TextValue::Ranges(inside) => {
                let mut scratch = of_ranges.take().expect("one list of ranges");
                Value::Ranges(scratch.seq::<Range>(ranges(inside)).expect("few ranges"))
            }
            TextValue::Set(_) | TextValue::Text(_) => continue,
        };
        let pushed = list.push(&Resource { name: entry.name, value, traits: Traits::PLAIN });
        pushed.expect("few resources");
    }
    list.end()
}
