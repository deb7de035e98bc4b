//! An allocator of any size on a stage of its own, without a master: for benches of decisions.

use mesita_core::allocator::quota::QuotaSpec;
use mesita_core::allocator::{Allocator, Config, Grant, Memory, Policy, World};
use mesita_core::capacity::{Capacity, Lender};
use mesita_core::names::Names;
use mesita_core::record::Zero;
use mesita_core::resources::change::Step;
use mesita_core::resources::pool::{self, Pool};
use mesita_core::resources::text::{TextValue, ranges, resources};
use mesita_core::resources::{Amount, Holding, Quantities};
use mesita_core::time::Time;
use mesita_core::wire::call::Quantity;
use mesita_core::wire::resource::{Range, Reservation, ReservationKind, Resource, Traits, Value};
use mesita_core::wire::{Scratch, Seq};

/// What an agent of Mesos' benchmarks has.
pub const AGENT: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
/// What is used of it: every second of 32 ports, so that what is free is in fragments.
pub const USED: &str = "cpus:16;mem:2014;disk:1024;ports:[31000-31000,31002-31002,31004-31004,\
    31006-31006,31008-31008,31010-31010,31012-31012,31014-31014,31016-31016,31018-31018,\
    31020-31020,31022-31022,31024-31024,31026-31026,31028-31028,31030-31030]";

/// Memory that lasts as long as the process.
#[derive(Debug)]
pub(crate) struct Leak;

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
    /// What tasks use: agent, client, how much.
    used: Vec<(u32, u32, Holding)>,
    /// Texts of resources that were read.
    read: Vec<(String, Holding)>,
}

impl Stage {
    /// Room for so many agents and frameworks, with roles of which one in `quotas` has a quota.
    ///
    /// # Panics
    /// When there is less memory than even an idle allocator needs, which cannot be.
    pub fn new(agents: u32, frameworks: u32, roles: u32) -> Self {
        Self::of(agents, frameworks, roles, 64)
    }

    /// The same, with room for four reservations of each role.
    ///
    /// # Panics
    /// As [`Stage::new`].
    pub fn with_reservations(agents: u32, frameworks: u32, roles: u32) -> Self {
        Self::of(agents, frameworks, roles + 8, roles * 5 + 64)
    }

    fn of(agents: u32, frameworks: u32, roles: u32, idents: u32) -> Self {
        let c = Capacity {
            agents,
            frameworks,
            roles: roles.max(2),
            clients: frameworks.max(2),
            filters: 16_000,
            quotas: roles.max(2),
            names: roles + 64,
            cells: roles + 256,
            idents,
            layers: idents,
            pieces: agents.saturating_mul(240).max(16_384),
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
        let (clients, out, used, read) = (vec![], vec![], vec![], vec![]);
        Self { allocator, pool, names, now: Time(0), clients, agents: 0, out, used, read }
    }

    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Allocator<'static>, &mut World<'_, 'static>) -> T,
    ) -> T {
        let mut world = World { pool: &mut self.pool, names: &mut self.names };
        act(&mut self.allocator, &mut world)
    }

    /// What a text says, read once and then copied.
    fn hold(&mut self, text: &str) -> Holding {
        let known = self.read.iter().find(|(known, _)| known == text).map(|(_, holding)| *holding);
        let whole = known.unwrap_or_else(|| {
            let read = self.read_text(text);
            // Tasks of all sizes are read each time.
            if self.read.len() < 8 {
                self.read.push((text.to_owned(), read));
            }
            read
        });
        if self.read.iter().any(|(known, _)| known == text) {
            let Self { pool, names, .. } = self;
            return pool.copy(names, whole).expect("room for a bench's resources");
        }
        whole
    }

    fn read_text(&mut self, text: &str) -> Holding {
        let (mut outer, mut inner) = ([0; 8_192], [0; 8_192]);
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
        let uses = !used.is_empty();
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
        if let Some(owner) = owner.filter(|_| uses) {
            self.used.push((agent, owner, used));
        }
    }

    /// The newest use ends: what was used is free again.
    pub fn end_task(&mut self) {
        let Some((agent, client, held)) = self.used.pop() else { return };
        self.act(|allocator, world| allocator.recover_used(world, agent, client, held));
    }

    /// An agent has so many thousandths of a cpu more that may be taken back.
    ///
    /// # Panics
    /// When there is less room than was said.
    pub fn add_revocable(&mut self, agent: u32, milli: u64) {
        let Some((total, _)) = self.allocator.agent_holdings(agent) else { return };
        let traits = Traits { revocable: true, ..Traits::PLAIN };
        let value = Value::Scalar(Amount::from_milli(milli));
        let mut memory = [0; 64];
        let more = [Resource { name: "cpus", value, traits }];
        let more = Scratch::new(&mut memory).seq::<Resource<'_>>(more).expect("one resource");
        let Self { pool, names, .. } = self;
        let mut total = pool.copy(names, total).expect("room for a bench's resources");
        pool.admit(names, &more).expect("room for a bench's resources");
        let mut more = pool.take(names, &more);
        pool.add(names, &mut total, &mut more);
        let set = self.act(|allocator, world| allocator.set_total(world, agent, total));
        set.expect("room for a bench's resources");
    }

    /// Everything that was offered and not answered yet.
    pub fn taken(&mut self) -> Vec<Grant> {
        std::mem::take(&mut self.out)
    }

    /// How many tasks of so many thousandths of cpus and memory an offer has room for.
    pub fn fits(&self, grant: &Grant, [cpus, mem]: [u64; 2]) -> u64 {
        let has = self.pool.quantities(grant.held);
        (has.of(pool::CPUS) / cpus).min(has.of(pool::MEM) / mem)
    }

    /// Uses thousandths of cpus and memory of an offer, and gives the rest back.
    ///
    /// # Panics
    /// When the offer has less.
    pub fn use_some(&mut self, grant: Grant, [cpus, mem]: [u64; 2]) {
        let Grant { agent, client, mut held, .. } = grant;
        if cpus > 0 {
            let amount = |milli| Amount::from_milli(milli).to_string();
            let used = self.hold(&format!("cpus:{};mem:{}", amount(cpus), amount(mem)));
            let Self { pool, names, .. } = self;
            pool.subtract(names, &mut held, used).expect("an offer with less than was used");
            self.used.push((agent, client, used));
        }
        let until = Some(self.now.after(1));
        self.act(|allocator, world| allocator.recover(world, agent, client, held, until));
    }

    /// Lets time pass, in µs.
    pub fn wait(&mut self, us: u64) {
        self.now = self.now.after(us);
    }

    /// Reserves free cpus of the first agent for a role, under a label.
    pub fn reserve(&mut self, role: &str, label: u32, milli: u64) {
        self.change(Step::Reserve, role, label, milli);
    }

    /// Takes that back.
    pub fn unreserve(&mut self, role: &str, label: u32, milli: u64) {
        self.change(Step::Unreserve, role, label, milli);
    }

    fn change(&mut self, step: Step, role: &str, label: u32, milli: u64) {
        let value = label.to_string();
        let (mut outer, mut inner) = ([0; 512], [0; 256]);
        let kind = ReservationKind::Dynamic;
        let layer = Reservation { role, kind, principal: "", labels: &value };
        let layers = Scratch::new(&mut inner).seq::<Reservation<'_>>([layer]).expect("one layer");
        let traits = Traits { reservations: layers, ..Traits::PLAIN };
        let amount = Value::Scalar(Amount::from_milli(milli));
        let list = [Resource { name: "cpus", value: amount, traits }];
        let list = Scratch::new(&mut outer).seq::<Resource<'_>>(list).expect("one resource");
        let Some((total, free)) = self.allocator.agent_holdings(0) else { return };
        self.pool.check_change(&self.names, step, &list, &[free], total).expect("it is free");
        let Self { pool, names, .. } = self;
        let mut conversion = pool.change(names, step, &list);
        self.act(|allocator, world| allocator.convert(world, 0, None, &conversion));
        let Self { pool, names, .. } = self;
        pool.clear(names, &mut conversion.consumed);
        pool.clear(names, &mut conversion.converted);
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
        self.add_framework_that(role, 0);
    }

    /// The next framework, in a role, with capabilities.
    ///
    /// # Panics
    /// When there are more than was said.
    pub fn add_framework_that(&mut self, role: &str, capabilities: u32) {
        let framework = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let names = &mut self.names;
        let client = self.allocator.add_client(names, role, framework, capabilities, false);
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
