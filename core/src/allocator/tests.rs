use super::*;
use crate::capacity::Capacity;
use crate::digest;
use crate::image::Writer;
use crate::names::{Bucket as NameBucket, Cell, Entry};
use crate::resources::pool::{self, CPUS, MEM};
use crate::resources::{Holding, Quantities};
use crate::testing::{Leak, lend, scratch, shown, wire};
use crate::wire::Scratch;
use crate::wire::Seq;
use crate::wire::call::Quantities as WireQuantities;
use crate::wire::call::{Capability, Minimum, Quantity};
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

/// An allocator with a world around it, driven by names.
struct Rig {
    allocator: Allocator<'static>,
    pool: Pool<'static>,
    names: Names<'static>,
    now: Time,
    /// Clients by framework slot.
    clients: Vec<u32>,
}

fn config() -> Config {
    Config {
        role_sorter: Policy::Drf,
        framework_sorter: Policy::Drf,
        min_reoffer_us: 0,
        min_cpus_milli: 10,
        min_mem_milli: 32_000,
        filter_gpus: true,
    }
}

/// Small tables, so that some are full now and then.
fn capacity() -> Capacity {
    Capacity {
        agents: 16,
        frameworks: 64,
        roles: 20,
        clients: 24,
        filters: 24,
        quotas: 12,
        minimums: 8,
        constraints: 8,
        patterns: 2,
        claims: 16,
        ..Capacity::tiny()
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(config(), capacity())
    }

    fn with(config: Config, capacity: Capacity) -> Self {
        let mut names =
            Names::new(lend::<Entry>(256), lend::<Cell>(512), lend::<NameBucket>(128), 1);
        let memory = pool::Memory { idents: lend(32), layers: lend(32), parts: lend(4096) };
        let pool = Pool::new(memory, &mut names).unwrap();
        let memory = Memory::lend(&capacity, &mut Leak);
        let allocator = Allocator::new(memory, config, 7).unwrap();
        Self { allocator, pool, names, now: Time(0), clients: vec![] }
    }

    fn holding(&mut self, text: &str) -> Holding {
        let list = wire(text);
        self.pool.admit(&self.names, &list).unwrap();
        self.pool.take(&mut self.names, &list)
    }

    fn agent(&mut self, agent: u32, text: &str) {
        let (total, free) = (self.holding(text), self.holding(text));
        self.world_do(|allocator, world| allocator.add_agent(world, agent, false, total, free));
    }

    /// The next framework, in one role.
    fn framework(&mut self, role: &str) -> u32 {
        self.framework_with(role, 0)
    }

    fn framework_with(&mut self, role: &str, capabilities: u32) -> u32 {
        let framework = self.clients.len() as u32;
        let names = &mut self.names;
        let client =
            self.allocator.add_client(names, role, framework, capabilities, false).unwrap();
        self.clients.push(client);
        self.allocator.set_away(&self.names, client, false);
        framework
    }

    fn world_do<T>(
        &mut self,
        act: impl FnOnce(&mut Allocator<'static>, &mut World<'_, 'static>) -> T,
    ) -> T {
        let mut world = World { pool: &mut self.pool, names: &mut self.names };
        act(&mut self.allocator, &mut world)
    }

    /// One round, all of it.
    fn round(&mut self) -> Vec<Grant> {
        let now = self.now;
        self.world_do(|allocator, world| {
            let mut round = allocator.begin(world, now);
            let mut grants = vec![];
            while let Some(grant) = allocator.next(world, &mut round) {
                grants.push(grant);
            }
            grants
        })
    }

    /// Who got what, as `framework@agent`.
    fn offers(&mut self) -> Vec<String> {
        let grants = self.round();
        let mut told: Vec<_> =
            grants.iter().map(|grant| format!("{}@{}", grant.framework, grant.agent)).collect();
        told.sort();
        for grant in grants {
            self.decline(grant, 0);
        }
        told
    }

    fn decline(&mut self, grant: Grant, refuse_us: u64) {
        let until = self.allocator.refused_until(self.now, refuse_us);
        self.world_do(|allocator, world| {
            allocator.recover(world, grant.agent, grant.client, grant.held, until);
        });
    }

    /// Keeps `text` of a grant and gives the rest back without a filter; what was kept.
    fn keep(&mut self, mut grant: Grant, text: &str) -> Grant {
        let part = self.holding(text);
        self.pool.subtract(&mut self.names, &mut grant.held, part).unwrap();
        self.decline(grant, 0);
        Grant { held: part, ..grant }
    }

    fn show(&self, holding: Holding) -> String {
        let (mut outer, mut inner) = ([0; 2048], [0; 1024]);
        let mut scratch = Scratch::new(&mut outer);
        shown(&self.pool.write(&self.names, holding, "", &mut scratch, &mut inner).unwrap())
    }

    /// A client's dominant share, as thousandths of a thousandth.
    fn share(&self, framework: u32) -> u64 {
        let node = self.allocator.nodes.row(self.clients[framework as usize]).unwrap();
        node.rank.dominant * 1_000_000 / node.rank.total
    }

    fn digest(&self) -> (u64, u64, u64) {
        let of = |image: &dyn Image| digest::of_image(image);
        (of(&self.allocator), of(&self.pool), of(&self.names))
    }
}

/// Grants one task after the other to whoever is first, until no task fits; who got them.
fn fill(rig: &mut Rig, tasks: &[&str]) -> Vec<u32> {
    let mut order = vec![];
    let mut done = vec![false; tasks.len()];
    while let Some(grant) = rig.round().first().copied() {
        let task = tasks[grant.framework as usize];
        let wanted = rig.holding(task);
        if rig.pool.contains(grant.held, wanted) {
            order.push(grant.framework);
            rig.keep(grant, task);
        } else {
            // Its next task does not fit: it stops asking.
            done[grant.framework as usize] = true;
            rig.decline(grant, 0);
            rig.allocator.suppress(&rig.names, grant.client);
        }
        if done.iter().all(|&done| done) {
            break;
        }
    }
    order
}

#[test]
fn the_example_of_the_drf_paper_ends_as_its_table_1() {
    // Framework 0 is the paper's user B, who is served first there, framework 1 its user A.
    let mut rig = Rig::new();
    rig.agent(0, "cpus:9;mem:18");
    let (b, a) = (rig.framework("*"), rig.framework("*"));
    let mut shares = vec![];
    let mut order = vec![];
    let tasks = ["cpus:3;mem:1", "cpus:1;mem:4"];
    for _ in 0..5 {
        let grant = rig.round()[0];
        order.push(grant.framework);
        rig.keep(grant, tasks[grant.framework as usize]);
        shares.push((rig.share(a), rig.share(b)));
    }
    assert_eq!(order, [b, a, a, b, a]);
    let (third, ninths) = (333_333, [222_222, 444_444, 666_666]);
    assert_eq!(
        shares,
        [
            (0, third),
            (ninths[0], third),
            (ninths[1], third),
            (ninths[1], 666_666),
            (ninths[2], 666_666)
        ]
    );
    assert_eq!(rig.allocator.usage(rig.clients[a as usize]).unwrap().0.of(CPUS), 3_000);
    assert_eq!(rig.allocator.usage(rig.clients[b as usize]).unwrap().0.of(CPUS), 6_000);
}

#[test]
fn a_role_of_twice_the_weight_gets_twice_the_share() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:9;mem:9000");
    rig.framework("a");
    rig.framework("b");
    rig.allocator.set_weight(&mut rig.names, "a", 2_000).unwrap();
    let order = fill(&mut rig, &["cpus:1;mem:1000"; 2]);
    assert_eq!(order.iter().filter(|&&framework| framework == 0).count(), 6);
    assert_eq!(order.len(), 9);
}

#[test]
fn pools_of_different_machines_add_up() {
    let mut rig = Rig::new();
    for agent in 0..5 {
        rig.agent(agent, "cpus:8;mem:32");
    }
    for agent in 5..15 {
        rig.agent(agent, "cpus:4;mem:16");
    }
    let totals = *rig.allocator.totals();
    assert_eq!((totals.of(CPUS), totals.of(MEM)), (80_000, 320_000));
    rig.framework("*");
    assert_eq!(rig.round().len(), 15);
}

#[test]
fn roles_are_served_before_the_frameworks_in_them() {
    // Three frameworks of one role share what one framework of another has alone.
    let mut rig = Rig::new();
    for agent in 0..12 {
        rig.agent(agent, "cpus:1;mem:100");
    }
    for _ in 0..3 {
        rig.framework("crowd");
    }
    let alone = rig.framework("alone");
    let grants = rig.round();
    let of = |framework| grants.iter().filter(|grant| grant.framework == framework).count();
    assert_eq!((of(0), of(1), of(2), of(alone)), (2, 2, 2, 6));
}

#[test]
fn nested_roles_share_what_their_parent_has() {
    let mut rig = Rig::new();
    for agent in 0..16 {
        rig.agent(agent, "cpus:1;mem:100");
    }
    let web = rig.framework("eng/web");
    let eng = rig.framework("eng");
    let ops = rig.framework("ops");
    let grants = rig.round();
    let of = |framework| grants.iter().filter(|grant| grant.framework == framework).count();
    assert_eq!((of(web), of(eng), of(ops)), (4, 4, 8));
    assert_eq!(rig.allocator.role_of(&rig.names, rig.clients[0]).as_str(), "eng/web");
}

#[test]
fn a_refusal_holds_until_its_time_and_for_nothing_larger() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:4;mem:1000");
    rig.framework("*");
    let grant = rig.round()[0];
    let task = rig.keep(grant, "cpus:1;mem:100");
    let rest = rig.round()[0];
    assert_eq!(rig.show(rest.held), "cpus:3;mem:900");
    rig.decline(rest, 5_000_000);
    assert_eq!(rig.round(), [], "refused");
    assert_eq!(rig.allocator.next_expiry(), Time(5_000_000));
    rig.decline(task, 0);
    assert_eq!(rig.show(rig.allocator.agents[0].free), "cpus:4;mem:1000");
    let larger = rig.round();
    assert_eq!(larger.len(), 1, "more than was refused is offered at once");
    rig.decline(larger[0], 5_000_000);
    rig.now = Time(4_999_999);
    assert_eq!(rig.round(), []);
    rig.now = Time(5_000_000);
    assert_eq!(rig.round().len(), 1, "both refusals are over");
}

#[test]
fn who_refuses_leaves_the_offer_to_the_next() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:1;mem:100");
    let frameworks: Vec<_> = (0..5).map(|n| rig.framework(&format!("r{}", n % 2))).collect();
    let mut served = vec![];
    for _ in 0..5 {
        let grant = rig.round()[0];
        served.push(grant.framework);
        rig.decline(grant, 60_000_000);
    }
    served.sort();
    assert_eq!(served, frameworks);
    assert_eq!(rig.round(), []);
    assert!(!rig.allocator.is_dirty(), "nothing is left to do until something happens");
}

#[test]
fn refusing_for_no_time_is_no_loop() {
    let mut rig = Rig::with(Config { min_reoffer_us: 100_000, ..config() }, capacity());
    rig.agent(0, "cpus:1;mem:100");
    rig.framework("*");
    let grant = rig.round()[0];
    rig.decline(grant, 0);
    assert_eq!(rig.round(), []);
    rig.now = Time(100_000);
    assert_eq!(rig.round().len(), 1);
}

#[test]
fn suppressed_means_no_offers_and_revived_means_all() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:1;mem:100");
    let framework = rig.framework("eng/web");
    let client = rig.clients[framework as usize];
    let grant = rig.round()[0];
    rig.decline(grant, 60_000_000);
    rig.allocator.suppress(&rig.names, client);
    rig.now = Time(60_000_000);
    assert_eq!(rig.round(), [], "the refusal is over, but nobody wants the offer");
    rig.world_do(|allocator, world| allocator.revive(world, client, false));
    let grant = rig.round()[0];
    rig.decline(grant, 60_000_000);
    assert_eq!(rig.round(), []);
    rig.world_do(|allocator, world| allocator.revive(world, client, false));
    assert_eq!(rig.round().len(), 1, "reviving lifts refusals");
    rig.world_do(|allocator, world| allocator.revive(world, client, true));
    assert!(rig.allocator.nodes.row(client).is_some_and(|node| !node.suppressed));
}

#[test]
fn too_little_is_not_offered() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:0.009;mem:31.999;disk:1000");
    rig.agent(1, "cpus:0.01");
    rig.agent(2, "mem:32");
    let framework = rig.framework("*");
    assert_eq!(rig.offers(), ["0@1", "0@2"]);
    let amounts = |text: &str| {
        let list = wire(text);
        let scalars = list.iter().map(|resource| match resource.value {
            crate::wire::resource::Value::Scalar(amount) => {
                Quantity { name: resource.name, amount }
            }
            _ => unreachable!("scalars only"),
        });
        WireQuantities { amounts: scratch().seq::<Quantity<'static>>(scalars).unwrap() }
    };
    let client = rig.clients[framework as usize];
    let alternatives = [amounts("cpus:0.01;mem:1"), amounts("disk:1000;cpus:0.009")];
    let alternatives = scratch().seq::<WireQuantities<'static>>(alternatives).unwrap();
    let minimum = Minimum { role: "*", alternatives };
    rig.allocator.set_minimum(&mut rig.names, client, Some(&minimum));
    rig.allocator.mark_all();
    assert_eq!(rig.offers(), ["0@0"], "each alternative needs all of its amounts");
    let anything = Minimum { role: "*", alternatives: Seq::EMPTY };
    rig.allocator.set_minimum(&mut rig.names, client, Some(&anything));
    rig.allocator.mark_all();
    assert_eq!(rig.offers(), ["0@0", "0@1", "0@2"]);
}

#[test]
fn gpus_are_for_those_who_use_them() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:1;mem:100;gpus:1");
    let plain = rig.framework("*");
    assert_eq!(rig.round(), []);
    let client = rig.clients[plain as usize];
    let why = rig.world_do(|allocator, world| allocator.why(world, client, 0, false));
    assert_eq!(why.gate, Some(Gate::Gpu));
    rig.framework_with("*", Capability::GpuResources.bit());
    assert_eq!(rig.offers(), ["1@0"]);
}

#[test]
fn reserved_resources_are_for_their_role_and_those_below_it() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:1;mem:100;cpus(eng):2;mem(eng/web):50");
    let web = rig.framework("eng/web");
    let grant = rig.round()[0];
    assert_eq!(rig.show(grant.held), "cpus:1;mem:100;cpus(eng):2;mem(eng/web):50");
    rig.decline(grant, 60_000_000);
    let eng = rig.framework("eng");
    let grant = rig.round()[0];
    assert_eq!(
        (grant.framework, rig.show(grant.held)),
        (eng, "cpus:1;mem:100;cpus(eng):2".to_string())
    );
    rig.decline(grant, 60_000_000);
    let ops = rig.framework("ops");
    let grant = rig.round()[0];
    assert_eq!((grant.framework, rig.show(grant.held)), (ops, "cpus:1;mem:100".to_string()));
    assert_eq!(rig.round(), [], "what is left is reserved, and was refused");
    let client = rig.clients[ops as usize];
    let why = rig.world_do(|allocator, world| allocator.why(world, client, 0, false));
    assert_eq!(why.gate, Some(Gate::Reserved(rig.names.find("eng").unwrap())));
    let client = rig.clients[web as usize];
    let why = rig.world_do(|allocator, world| allocator.why(world, client, 0, false));
    assert_eq!(why.gate, Some(Gate::Filtered(Time(60_000_000))));
}

#[test]
fn a_lost_agent_takes_its_share_of_the_totals_with_it() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:4;mem:1000");
    rig.agent(1, "cpus:4;mem:1000");
    rig.framework("*");
    let grants = rig.round();
    let lost = grants.iter().find(|grant| grant.agent == 1).copied().unwrap();
    rig.world_do(|allocator, world| allocator.remove_agent(world, 1, false));
    rig.decline(lost, 0);
    assert_eq!(rig.allocator.totals().of(CPUS), 4_000);
    rig.allocator.set_agent_active(&rig.pool, 0, false);
    rig.decline(*grants.iter().find(|grant| grant.agent == 0).unwrap(), 0);
    assert_eq!(rig.round(), [], "a deactivated agent is not offered");
    rig.allocator.set_agent_active(&rig.pool, 0, true);
    assert_eq!(rig.round().len(), 1);
}

#[test]
fn a_removed_framework_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.agent(0, "cpus:4;mem:1000");
    let before = (rig.names.len(), rig.pool.used(), rig.allocator.nodes.len());
    let framework = rig.framework("a/b/c");
    let client = rig.clients[framework as usize];
    let grant = rig.round()[0];
    rig.decline(grant, 60_000_000);
    rig.world_do(|allocator, world| allocator.remove_client(world, client));
    assert_eq!((rig.names.len(), rig.pool.used(), rig.allocator.nodes.len()), before);
    assert_eq!(rig.allocator.gauges().filters, 0);
    assert!(rig.allocator.forest.is_empty());
}

#[test]
fn a_full_tree_refuses_and_changes_nothing() {
    let mut rig = Rig::with(config(), Capacity { roles: 2, clients: 2, ..capacity() });
    rig.framework("a");
    let before = rig.digest();
    let refused = rig.allocator.add_client(&mut rig.names, "b/c", 1, 0, false);
    assert_eq!(refused, Err(Refusal::RolesFull));
    let check = |rig: &Rig, role: &'static str| {
        rig.allocator.has_room_for_roles(&rig.names, [role].into_iter())
    };
    assert_eq!(check(&rig, "b/c"), Err(Refusal::RolesFull));
    let after = rig.digest();
    // The table remembers which slots were used last; rows, names and amounts are as before.
    assert_eq!((before.1, rig.allocator.nodes.len()), (after.1, 4));
    assert_eq!(rig.names.find("b"), None);
    assert!(rig.allocator.add_client(&mut rig.names, "a", 1, 0, false).is_ok());
    assert_eq!(rig.allocator.set_weight(&mut rig.names, "a", 0), Err(Refusal::BadWeight));
    assert_eq!(rig.allocator.set_weight(&mut rig.names, "a", 1_000_001), Err(Refusal::BadWeight));
}

#[test]
fn when_filters_are_full_the_soonest_to_expire_goes() {
    let mut rig = Rig::with(config(), Capacity { filters: 2, ..capacity() });
    for agent in 0..3 {
        rig.agent(agent, "cpus:1;mem:100");
    }
    rig.framework("*");
    let decline_all = |rig: &mut Rig, seconds: [u64; 3]| {
        let mut grants = rig.round();
        grants.sort_by_key(|grant| grant.agent);
        assert_eq!(grants.len(), 3);
        for (grant, seconds) in grants.into_iter().zip(seconds) {
            rig.decline(grant, seconds * 1_000_000);
        }
    };
    decline_all(&mut rig, [30, 10, 20]);
    assert_eq!(rig.allocator.gauges().evicted, 0, "the third is in its agent's set");
    rig.framework("*");
    decline_all(&mut rig, [40, 40, 25]);
    assert_eq!(rig.allocator.gauges().evicted, 1, "25 s fit the set that ends after 20");
    rig.framework("*");
    decline_all(&mut rig, [5, 5, 19]);
    // Agents 0 and 1 have sets of 40 s, agent 2 one of 20 s: none of these fits. The first takes the
    // place of the refusal of 10 s, the second that of the first, the third that of the second.
    assert_eq!(rig.allocator.gauges().evicted, 4);
    assert_eq!(rig.offers(), ["0@1", "2@0"]);
}

#[test]
fn what_never_ends_is_a_bit() {
    let mut rig = Rig::with(config(), Capacity { filters: 1, ..capacity() });
    for agent in 0..4 {
        rig.agent(agent, "cpus:1;mem:100;ports:[1-9]");
    }
    for role in ["a", "a", "b", "a/c", "b", "d"] {
        rig.framework(role);
    }
    let year = 365 * 24 * 3600 * 1_000_000;
    for round in 0..6 {
        let grants = rig.round();
        assert_eq!(grants.len(), 4, "round {round}");
        grants.into_iter().for_each(|grant| rig.decline(grant, year));
    }
    assert_eq!(rig.round(), [], "everybody refused everything");
    let gauges = rig.allocator.gauges();
    assert_eq!((gauges.filters, gauges.evicted), (24, 0));
    assert_eq!(rig.allocator.next_expiry(), Time::NEVER);
    let client = rig.clients[3];
    rig.world_do(|allocator, world| allocator.revive(world, client, false));
    assert_eq!(rig.allocator.gauges().filters, 20);
    assert_eq!(rig.offers(), ["3@0", "3@1", "3@2", "3@3"]);
    rig.world_do(|allocator, world| allocator.remove_agent(world, 0, false));
    assert_eq!(rig.allocator.gauges().filters, 15);
    rig.world_do(|allocator, world| allocator.suppress(world.names, client));
    rig.world_do(|allocator, world| allocator.remove_client(world, client));
    assert_eq!(rig.allocator.gauges().filters, 15);
}

#[test]
fn a_round_is_bounded_and_the_rest_waits_for_the_next() {
    let mut rig = Rig::with(config(), Capacity { agents: 700, ..capacity() });
    for agent in 0..600 {
        rig.agent(agent, "cpus:1;mem:100");
    }
    rig.framework("*");
    let sizes: Vec<_> = (0..4).map(|_| rig.round().len()).collect();
    assert_eq!(sizes, [256, 256, 88, 0]);
}

#[test]
fn a_round_that_ends_early_comes_back_to_what_it_left() {
    let mut rig = Rig::new();
    for agent in 0..4 {
        rig.agent(agent, "cpus:1;mem:100");
    }
    rig.framework("*");
    let now = rig.now;
    let first = rig.world_do(|allocator, world| {
        let mut round = allocator.begin(world, now);
        let first = allocator.next(world, &mut round).unwrap();
        allocator.end(world.names, &round);
        first
    });
    let rest: Vec<_> = rig.round().iter().map(|grant| grant.agent).collect();
    assert_eq!(rest.len(), 3);
    assert!(!rest.contains(&first.agent));
}

#[test]
fn an_imported_allocator_decides_as_the_exported_one() {
    let mut rig = Rig::new();
    for agent in 0..6 {
        rig.agent(agent, "cpus:2;mem:200;ports:[1-10]");
    }
    for role in ["a", "b", "a/c", "*"] {
        rig.framework(role);
    }
    for grant in rig.round() {
        rig.decline(grant, u64::from(grant.agent) * 1_000_000);
    }
    let mut copy = Rig::new();
    let mut bytes = vec![];
    let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
    let mut writer = Writer::new(&mut sink);
    rig.allocator.export(&mut writer);
    rig.pool.export(&mut writer);
    rig.names.export(&mut writer);
    let mut reader = Reader::new(&bytes);
    copy.allocator.import(&mut reader).unwrap();
    copy.pool.import(&mut reader).unwrap();
    copy.names.import(&mut reader).unwrap();
    assert!(reader.is_done());
    for second in 1..8 {
        (rig.now, copy.now) = (Time(second * 1_000_000), Time(second * 1_000_000));
        assert_eq!(rig.round(), copy.round());
        assert_eq!(rig.digest(), copy.digest());
    }
}

/// What a random history does.
#[derive(Clone, Debug)]
enum Act {
    AddAgent(u32, u8),
    RemoveAgent(u32),
    Toggle(u32, bool),
    Framework(u8),
    Suppress(u8),
    Revive(u8),
    Round,
    Decline(u8, u64),
    Keep(u8),
    End(u8),
    Later(u64),
    Weight(u8, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let to = |agents: u32| 0..agents;
    prop_oneof![
        1 => (to(6), any::<u8>()).prop_map(|(agent, size)| Act::AddAgent(agent, size)),
        1 => to(6).prop_map(Act::RemoveAgent),
        1 => (to(6), any::<bool>()).prop_map(|(agent, on)| Act::Toggle(agent, on)),
        1 => (0u8..6).prop_map(Act::Framework),
        1 => any::<u8>().prop_map(Act::Suppress),
        1 => any::<u8>().prop_map(Act::Revive),
        3 => Just(Act::Round),
        3 => (any::<u8>(), 0u64..4).prop_map(|(which, s)| Act::Decline(which, s * 1_000_000)),
        3 => any::<u8>().prop_map(Act::Keep),
        2 => any::<u8>().prop_map(Act::End),
        1 => (0u64..3_000_000).prop_map(Act::Later),
        1 => (0u8..6, 1u32..4_000).prop_map(|(role, weight)| Act::Weight(role, weight)),
    ]
}

const ROLES: [&str; 6] = ["*", "a", "b", "a/x", "a/x/y", "b/z"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever happens: free + granted = total on every agent, every node has the sum of what is
    /// below it, and every winner is the one that a scan of its group finds.
    #[test]
    fn nothing_is_given_twice_and_every_sum_holds(acts in proptest::collection::vec(act(), 1..120)) {
        let mut rig = Rig::new();
        let mut out: Vec<Grant> = vec![];
        for act in acts {
            match act {
                Act::AddAgent(agent, size) if rig.allocator.agent(agent).is_none() => {
                    let cpus = 1 + u32::from(size) % 7;
                    rig.agent(agent, &format!("cpus:{cpus};mem:{};cpus(a):1", 64 * cpus));
                }
                Act::RemoveAgent(agent) => {
                    rig.world_do(|allocator, world| allocator.remove_agent(world, agent, false));
                    let gone: Vec<_> = out.extract_if(.., |grant| grant.agent == agent).collect();
                    gone.into_iter().for_each(|grant| rig.decline(grant, 0));
                }
                Act::Toggle(agent, on) => rig.allocator.set_agent_active(&rig.pool, agent, on),
                Act::Framework(role) if rig.clients.len() < 10 => {
                    rig.framework(ROLES[usize::from(role)]);
                }
                Act::Suppress(n) if !rig.clients.is_empty() => {
                    let client = rig.clients[usize::from(n) % rig.clients.len()];
                    rig.allocator.suppress(&rig.names, client);
                }
                Act::Revive(n) if !rig.clients.is_empty() => {
                    let client = rig.clients[usize::from(n) % rig.clients.len()];
                    rig.world_do(|allocator, world| allocator.revive(world, client, false));
                }
                Act::Round => out.extend(rig.round()),
                Act::Decline(n, us) if !out.is_empty() => {
                    let grant = out.swap_remove(usize::from(n) % out.len());
                    rig.decline(grant, us);
                }
                Act::Keep(n) if !out.is_empty() => {
                    let at = usize::from(n) % out.len();
                    let wanted = rig.holding("cpus:0.5;mem:16");
                    if rig.pool.contains(out[at].held, wanted) {
                        let grant = out.swap_remove(at);
                        out.push(rig.keep(grant, "cpus:0.5;mem:16"));
                    }
                    let mut wanted = wanted;
                    rig.pool.clear(&mut rig.names, &mut wanted);
                }
                Act::End(n) if !out.is_empty() => {
                    let grant = out.swap_remove(usize::from(n) % out.len());
                    rig.decline(grant, 0);
                }
                Act::Later(us) => rig.now = rig.now.after(us),
                Act::Weight(role, weight) => {
                    let role = ROLES[usize::from(role)];
                    rig.allocator.set_weight(&mut rig.names, role, weight).unwrap();
                }
                _ => {}
            }
            check(&mut rig, &out);
        }
    }
}

/// Everything that must hold between any two steps.
fn check(rig: &mut Rig, out: &[Grant]) {
    for agent in 0..6 {
        let Some(row) = rig.allocator.agent(agent).copied() else { continue };
        let mut sum = rig.pool.quantities(row.free);
        for grant in out.iter().filter(|grant| grant.agent == agent) {
            sum.add_all(&rig.pool.quantities(grant.held));
        }
        assert_eq!(sum, rig.pool.quantities(row.total), "agent {agent}");
    }
    let mut totals = Quantities::NONE;
    rig.allocator.agents.iter().for_each(|row| totals.add_all(&rig.pool.quantities(row.total)));
    assert_eq!(totals, *rig.allocator.totals());
    let nodes = &rig.allocator.nodes;
    for (id, node) in nodes.iter() {
        let mut below = Quantities::NONE;
        let children = nodes.iter().filter(|(_, child)| child.above() == Some(id.index));
        let mut wanting = 0;
        let mut count = 0;
        for (_, child) in children {
            below.add_all(&child.allocated);
            wanting += u32::from(child.wants || !child.groups[0].is_empty());
            count += 1;
        }
        if node.kind == NodeKind::Client {
            let mut held = Quantities::NONE;
            for grant in out.iter().filter(|grant| grant.client == id.index) {
                held.add_all(&rig.pool.quantities(grant.held));
            }
            assert_eq!(node.allocated, held, "client {}", id.index);
        } else {
            assert_eq!(node.allocated, below, "node {}", id.index);
            assert_eq!(
                (node.groups[0].len(), node.children),
                (wanting, count),
                "node {}",
                id.index
            );
        }
        assert!(!node.passed);
    }
    if !rig.allocator.state.stale {
        check_winners(rig);
    }
}

/// The winner of every group is its minimum by a scan.
fn check_winners(rig: &Rig) {
    let nodes = &rig.allocator.nodes;
    let fresh = |node: &Node| {
        let mut node = *node;
        node.rekey(&rig.allocator.totals);
        node
    };
    for (id, node) in nodes.iter() {
        let wants = |child: &Node| child.wants || !child.groups[0].is_empty();
        let mut best: Option<(u32, &Node)> = None;
        for (child_id, child) in nodes.iter() {
            if child.above() == Some(id.index) && node.kind != NodeKind::Client && wants(child) {
                let first = best
                    .is_none_or(|(_, best)| drf::before(&rig.names, &fresh(child), &fresh(best)));
                if first {
                    best = Some((child_id.index, child));
                }
            }
        }
        let winner = rig.allocator.forest.outcome(nodes, &drf::Drf, node.groups[0]).winner;
        assert_eq!(winner.checked_sub(1), best.map(|(index, _)| index), "group {}", id.index);
    }
}
