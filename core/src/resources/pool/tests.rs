use super::*;
use crate::digest;
use crate::names::{Bucket, Cell, Entry};
use crate::resources::change::Step;
use crate::testing::{lend, shown, wire};
use crate::wire::decode;
use crate::wire::resource::{DiskSource, ReservationKind};
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

struct World {
    pool: Pool<'static>,
    names: Names<'static>,
}

impl World {
    fn new(idents: usize, parts: usize) -> Self {
        let (entries, cells) = (lend::<Entry>(40), lend::<Cell>(60));
        let mut names = Names::new(entries, cells, lend::<Bucket>(16), 1);
        let memory = Memory { idents: lend(idents), layers: lend(8), parts: lend(parts) };
        let pool = Pool::new(memory, &mut names).unwrap();
        Self { pool, names }
    }

    fn try_take(&mut self, text: &str) -> Result<Holding, Refusal> {
        let list = wire(text);
        self.pool.admit(&self.names, &list)?;
        Ok(self.pool.take(&mut self.names, &list))
    }

    fn take(&mut self, text: &str) -> Holding {
        self.try_take(text).unwrap()
    }

    fn show(&self, holding: Holding) -> String {
        let (mut outer, mut inner) = ([0; 2048], [0; 1024]);
        let mut scratch = Scratch::new(&mut outer);
        let list = self.pool.write(&self.names, holding, "", &mut scratch, &mut inner).unwrap();
        shown(&list)
    }

    fn digest(&self) -> (u64, u64) {
        (digest::of_image(&self.pool), digest::of_image(&self.names))
    }
}

#[test]
fn a_holding_is_written_as_it_was_read() {
    let mut world = World::new(12, 24);
    let text = "cpus:4;mem:512.5;ports:[31000-32000,33000-33100];mem(web):16;racks:{a,b}";
    let holding = world.take(text);
    assert_eq!(world.show(holding), text);
    let again = world.take("cpus:0.5;cpus:0.5;ports:[3-4];ports:[1-2,5-6];disk:0");
    assert_eq!(world.show(again), "cpus:1;ports:[1-6]");
}

#[test]
fn what_is_let_go_leaves_nothing_behind() {
    let mut world = World::new(12, 24);
    let before = (world.pool.used(), world.names.len(), world.names.live_cells());
    let text = "cpus:1;fpga:2;mem(eng/web):3;ports:[1-2];racks:{a,b}";
    let mut holdings = [world.take(text), world.take(text)];
    assert_eq!(world.pool.kind(&world.names, "fpga"), Some(4));
    for holding in &mut holdings {
        world.pool.clear(&mut world.names, holding);
        assert!(holding.is_empty());
    }
    let after = (world.pool.used(), world.names.len(), world.names.live_cells());
    assert_eq!(after, before);
    assert_eq!(world.pool.kind(&world.names, "fpga"), None);
}

#[test]
fn sets_are_counted_by_whoever_holds_them() {
    let mut world = World::new(12, 24);
    let before = (world.names.len(), world.names.live_cells());
    let mut whole = world.take("racks:{a,b,c};slots:[1-4]");
    assert_eq!(world.show(whole), "racks:{a,b,c};slots:[1-4]");
    let mut copy = world.pool.copy(&mut world.names, whole).unwrap();
    let mut part = world.take("racks:{b}");
    world.pool.subtract(&mut world.names, &mut whole, part).unwrap();
    assert_eq!(world.show(whole), "racks:{a,c};slots:[1-4]");
    world.pool.add(&mut world.names, &mut whole, &mut part);
    assert_eq!(world.show(whole), "racks:{a,b,c};slots:[1-4]");
    let mut some = world.pool.split(&mut world.names, &mut whole, |_, ident, amount| {
        if ident.shape == Shape::Set { amount } else { 0 }
    });
    assert_eq!(
        (world.show(some), world.show(whole)),
        ("racks:{a,b,c}".into(), "slots:[1-4]".into())
    );
    for holding in [&mut whole, &mut copy, &mut some] {
        world.pool.clear(&mut world.names, holding);
    }
    assert_eq!((world.names.len(), world.names.live_cells()), before);
    assert_eq!(world.pool.used(), (5, 0, 0));
}

#[test]
fn seventeen_terabytes_of_disk_are_an_amount_like_any_other() {
    let mut world = World::new(8, 8);
    let mut have = world.take("disk:17825792;mem:1099511627.776");
    let part = world.take("disk:0.001");
    world.pool.subtract(&mut world.names, &mut have, part).unwrap();
    assert_eq!(world.show(have), "mem:1099511627.776;disk:17825791.999");
    assert_eq!(world.pool.quantities(have).of(DISK), 17_825_791_999);
}

/// A list of one resource, reserved for `roles` in turn, with a volume when it has a name.
fn reserved(
    text: &str,
    roles: &[&'static str],
    volume: &'static str,
) -> Seq<'static, Resource<'static>> {
    let kind = ReservationKind::Dynamic;
    let layers = roles.iter().map(|role| Reservation { role, kind, principal: "p", labels: "" });
    let reservations = crate::testing::scratch().seq::<Reservation<'static>>(layers).unwrap();
    let disk = (!volume.is_empty()).then_some(Disk {
        source: DiskSource::Root,
        root: "",
        id: "",
        profile: "",
        vendor: "",
        persistence: volume,
        principal: "p",
        container_path: "data",
    });
    let traits = Traits { reservations, disk, ..Traits::PLAIN };
    let plain =
        wire(text).iter().map(|resource| Resource { traits, ..resource }).collect::<Vec<_>>();
    crate::testing::scratch().seq::<Resource<'static>>(plain).unwrap()
}

#[test]
fn an_operation_and_its_undoing_leave_what_there_was() {
    let mut world = World::new(16, 40);
    let mut have = world.take("cpus:4;disk:100;ports:[1-9]");
    let before = (world.show(have), world.names.len(), world.pool.used());
    let web = || reserved("disk:40", &["web"], "");
    let refined = || reserved("disk:30", &["web", "web/db"], "");
    let volume = || reserved("disk:30", &["web", "web/db"], "v1");
    let ports = || reserved("ports:[3-4]", &["web"], "");
    let steps = [
        (Step::Reserve, web(), "cpus:4;disk:60;ports:[1-9];disk(web):40"),
        (Step::Reserve, refined(), "cpus:4;disk:60;ports:[1-9];disk(web):10;disk(web/db):30"),
        (Step::Create, volume(), "cpus:4;disk:60;ports:[1-9];disk(web):10;disk(web/db):30"),
        (
            Step::Reserve,
            ports(),
            "cpus:4;disk:60;ports:[1-2,5-9];disk(web):10;ports(web):[3-4];disk(web/db):30",
        ),
        (Step::Unreserve, ports(), "cpus:4;disk:60;ports:[1-9];disk(web):10;disk(web/db):30"),
        (Step::Destroy, volume(), "cpus:4;disk:60;ports:[1-9];disk(web):10;disk(web/db):30"),
        (Step::Unreserve, refined(), "cpus:4;disk:60;ports:[1-9];disk(web):40"),
        (Step::Unreserve, web(), "cpus:4;disk:100;ports:[1-9]"),
    ];
    for (step, list, after) in steps {
        let pool = &mut world.pool;
        pool.check_change(&world.names, step, &list, &[have], have).unwrap();
        let mut conversion = pool.change(&mut world.names, step, &list);
        pool.apply(&mut world.names, &mut have, &conversion).unwrap();
        pool.clear(&mut world.names, &mut conversion.consumed);
        pool.clear(&mut world.names, &mut conversion.converted);
        assert_eq!(world.show(have), after);
    }
    assert_eq!((world.show(have), world.names.len(), world.pool.used()), before);
}

#[test]
fn operations_on_what_they_are_not_about_are_refused_and_change_nothing() {
    let mut world = World::new(16, 40);
    let mut have = world.take("cpus:4;disk:100");
    let list = reserved("disk:50", &["web"], "");
    let reserve = world.pool.change(&mut world.names, Step::Reserve, &list);
    world.pool.apply(&mut world.names, &mut have, &reserve).unwrap();
    let list = reserved("disk:20", &["web"], "v1");
    let create = world.pool.change(&mut world.names, Step::Create, &list);
    world.pool.apply(&mut world.names, &mut have, &create).unwrap();
    let before = world.digest();
    let refused = |step, list| world.pool.check_change(&world.names, step, &list, &[have], have);
    let bad = Err(Refusal::BadOperation);
    assert_eq!(refused(Step::Reserve, wire("cpus:1")), bad, "no layer to put on top");
    assert_eq!(refused(Step::Reserve, wire("cpus(web):1")), bad, "a static reservation");
    assert_eq!(refused(Step::Reserve, reserved("cpus:0", &["web"], "")), bad, "nothing");
    assert_eq!(
        refused(Step::Reserve, reserved("disk:1", &["web", "ops"], "")),
        Err(Refusal::BadResource)
    );
    let twisted = reserved("disk:1", &["web", "ops"], "");
    assert_eq!(world.pool.admit(&world.names, &twisted), Err(Refusal::BadResource), "not below");
    assert_eq!(
        refused(Step::Unreserve, reserved("disk:20", &["web"], "v1")),
        bad,
        "under a volume"
    );
    assert_eq!(
        refused(Step::Unreserve, reserved("disk:31", &["web"], "")),
        Err(Refusal::NotAvailable)
    );
    assert_eq!(refused(Step::Create, reserved("disk:1", &[], "v2")), bad, "not reserved");
    assert_eq!(refused(Step::Create, reserved("disk:1", &["web"], "v1")), Err(Refusal::Exists));
    assert_eq!(
        refused(Step::Create, reserved("cpus:1", &["web"], "v2")),
        Err(Refusal::NotAvailable)
    );
    let part = Err(Refusal::NotAvailable);
    assert_eq!(refused(Step::Destroy, reserved("disk:19", &["web"], "v1")), part, "a part of it");
    assert_eq!(refused(Step::Destroy, reserved("disk:20", &["web"], "")), bad, "no volume");
    assert_eq!(world.digest(), before);
}

#[test]
fn what_is_reserved_in_one_way_is_in_another_at_once() {
    let mut world = World::new(16, 40);
    let mut have = world.take("cpus:4;disk:100");
    let web = reserved("disk:40", &["web"], "");
    let reserve = world.pool.change(&mut world.names, Step::Reserve, &web);
    world.pool.apply(&mut world.names, &mut have, &reserve).unwrap();
    let refused = |world: &World, source: &Seq<'_, _>, list: &Seq<'_, _>, have| {
        world.pool.check_move(&world.names, source, list, &[have])
    };
    let (some, other) =
        (reserved("disk:30", &["web"], ""), reserved("disk:30", &["ops", "ops/db"], ""));
    refused(&world, &some, &other, have).unwrap();
    let moved = world.pool.change_to(&mut world.names, Step::Move, &some, &other);
    world.pool.apply(&mut world.names, &mut have, &moved).unwrap();
    assert_eq!(world.show(have), "cpus:4;disk:60;disk(web):10;disk(ops/db):30");
    let before = world.digest();
    let bad = Err(Refusal::BadOperation);
    let ten = |roles: &'static [&'static str]| reserved("disk:10", roles, "");
    assert_eq!(refused(&world, &some, &other, have), Err(Refusal::NotAvailable), "no more");
    assert_eq!(refused(&world, &ten(&["web"]), &ten(&["web"]), have), bad, "the same");
    assert_eq!(refused(&world, &ten(&["web"]), &other, have), bad, "another amount");
    assert_eq!(refused(&world, &ten(&["web"]), &ten(&[]), have), bad, "not reserved");
    assert_eq!(refused(&world, &wire("disk:10"), &ten(&["web"]), have), bad, "was not");
    assert_eq!(refused(&world, &wire("disk(web):10"), &ten(&["ops"]), have), bad, "by flags");
    let volume = |roles: &'static [&'static str]| reserved("disk:10", roles, "v");
    assert_eq!(refused(&world, &volume(&["web"]), &volume(&["ops"]), have), bad, "a volume");
    let twisted = ten(&["ops", "web"]);
    assert_eq!(refused(&world, &ten(&["web"]), &twisted, have), Err(Refusal::BadResource));
    assert_eq!(world.digest(), before);
}

#[test]
fn a_volume_grows_and_shrinks_by_the_disk_beside_it() {
    let mut world = World::new(16, 40);
    let mut have = world.take("disk:100");
    let resize = |world: &mut World, have: &mut Holding, step, volume: &str, disk: &str| {
        let volume = reserved(volume, &["web"], if step == Step::Reserve { "" } else { "v1" });
        let disk = reserved(disk, &["web"], "");
        let list = volume.iter().chain(disk.iter().filter(|_| step != Step::Reserve));
        let list = list.filter(|r| step != Step::Create || r.traits.disk.is_some());
        let list = crate::testing::scratch().seq::<Resource<'static>>(list).unwrap();
        world.pool.check_change(&world.names, step, &list, &[*have], *have)?;
        let mut conversion = world.pool.change(&mut world.names, step, &list);
        world.pool.apply(&mut world.names, have, &conversion).unwrap();
        world.pool.clear(&mut world.names, &mut conversion.consumed);
        world.pool.clear(&mut world.names, &mut conversion.converted);
        let sizes: Vec<_> = world.pool.parts(*have).map(|part| part.end / 1000).collect();
        Ok(sizes)
    };
    let (step, w, h) = (Step::Reserve, &mut world, &mut have);
    assert_eq!(resize(w, h, step, "disk:60", "disk:0"), Ok(vec![60]));
    assert_eq!(resize(w, h, Step::Create, "disk:20", "disk:0"), Ok(vec![40, 20]));
    assert_eq!(resize(w, h, Step::Grow, "disk:20", "disk:15"), Ok(vec![25, 35]));
    assert_eq!(resize(w, h, Step::Grow, "disk:20", "disk:1"), Err(Refusal::NotAvailable));
    assert_eq!(resize(w, h, Step::Shrink, "disk:35", "disk:35"), Err(Refusal::BadOperation));
    assert_eq!(resize(w, h, Step::Shrink, "disk:35", "disk:5"), Ok(vec![30, 30]));
    assert_eq!(world.pool.quantities(have).of(DISK), 100_000);
}

#[test]
fn subtracting_what_is_not_there_is_refused_and_changes_nothing() {
    let mut world = World::new(8, 24);
    let mut have = world.take("cpus:4;ports:[10-20]");
    for text in ["cpus:4.001", "mem:1", "ports:[9-10]", "ports:[20-21]", "cpus(web):1"] {
        let part = world.take(text);
        let before = world.digest();
        let refused = world.pool.subtract(&mut world.names, &mut have, part);
        assert_eq!(refused, Err(Refusal::AmountOutOfRange), "{text}");
        assert_eq!(world.digest(), before, "{text}");
    }
    assert_eq!(world.show(have), "cpus:4;ports:[10-20]");
}

#[test]
fn a_range_is_cut_where_it_is_used_and_heals_when_it_comes_back() {
    let mut world = World::new(8, 24);
    let mut have = world.take("ports:[10-20]");
    let mut parts = ["ports:[12-13]", "ports:[10-10]", "ports:[20-20]"].map(|t| world.take(t));
    for part in parts {
        world.pool.subtract(&mut world.names, &mut have, part).unwrap();
    }
    assert_eq!(world.show(have), "ports:[11-11,14-19]");
    for part in &mut parts {
        world.pool.add(&mut world.names, &mut have, part);
    }
    assert_eq!(world.show(have), "ports:[10-20]");
}

#[test]
fn a_cut_without_room_for_the_second_part_is_refused() {
    let mut world = World::new(5, 2);
    let mut have = world.take("ports:[10-20]");
    let part = world.take("ports:[12-13]");
    let before = world.digest();
    assert_eq!(world.pool.subtract(&mut world.names, &mut have, part), Err(Refusal::ResourcesFull));
    assert_eq!(world.digest(), before);
}

#[test]
fn every_table_says_which_it_is_when_it_is_full() {
    let refused = |idents, parts, text: &str| {
        let mut world = World::new(idents, parts);
        let before = world.digest();
        let refused = world.try_take(text).expect_err(text);
        assert_eq!(world.digest(), before, "{text}");
        refused
    };
    assert_eq!(refused(5, 1, "gpus:1;ports:[1-1]"), Refusal::ResourcesFull);
    assert_eq!(refused(5, 1, "ports:[1-1,3-3]"), Refusal::ResourcesFull);
    assert_eq!(refused(5, 1, "fpga:1"), Refusal::IdentitiesFull);
    assert_eq!(refused(5, 1, "cpus(web):1"), Refusal::IdentitiesFull);
    assert_eq!(refused(5, 1, "cpus:[1-2]"), Refusal::BadResource);
    let many: Vec<_> = (0..13).map(|n| std::format!("kind{n}:1")).collect();
    assert_eq!(refused(40, 40, &many.join(";")), Refusal::KindsFull);
    let long: Vec<_> = (0..9).map(|n| std::format!("{}{n}:{{a}}", "x".repeat(250))).collect();
    assert_eq!(refused(40, 80, &long.join(";")), Refusal::NamesFull);
    let half = "cpus:1125899906842.624;cpus(web):0.001";
    assert_eq!(refused(40, 40, half), Refusal::AmountOutOfRange, "together above 2^50");
}

#[test]
fn one_name_has_one_type() {
    let mut world = World::new(8, 16);
    world.take("fpga:1");
    assert_eq!(world.try_take("fpga:[1-2]"), Err(Refusal::BadResource));
    assert_eq!(world.try_take("fpga:{a}"), Err(Refusal::BadResource));
    assert!(world.try_take("fpga:2").is_ok());
}

#[test]
fn resources_that_differ_in_any_trait_do_not_combine() {
    let mut world = World::new(16, 32);
    let plain = Resource::scalar("disk", Amount::from_units(1));
    let with = |traits| Resource { traits, ..plain };
    let disk = |persistence| Disk {
        source: DiskSource::Root,
        root: "",
        id: "",
        profile: "",
        vendor: "",
        persistence,
        principal: "",
        container_path: "a",
    };
    let mut memory = [0; 512];
    let list = Scratch::new(&mut memory)
        .seq::<Resource<'static>>([
            plain,
            with(Traits { revocable: true, ..Traits::PLAIN }),
            with(Traits { shared: true, ..Traits::PLAIN }),
            with(Traits { provider: "p", ..Traits::PLAIN }),
            with(Traits { disk: Some(disk("v1")), ..Traits::PLAIN }),
            with(Traits { disk: Some(disk("v2")), ..Traits::PLAIN }),
            with(Traits {
                disk: Some(Disk { container_path: "b", ..disk("v2") }),
                ..Traits::PLAIN
            }),
            with(Traits { allocated_to: "web", ..Traits::PLAIN }),
        ])
        .unwrap();
    world.pool.admit(&world.names, &list).unwrap();
    let holding = world.pool.take(&mut world.names, &list);
    let [.., plain] = holding.plain();
    let parts = world.pool.parts(holding).map(|part| part.end);
    let amounts: Vec<_> = [plain].into_iter().chain(parts).map(|milli| milli / 1000).collect();
    // The allocation and a volume's path say nothing about what a resource is.
    assert_eq!(amounts, [2, 1, 1, 1, 1, 2]);
    assert_eq!(world.pool.quantities(holding).of(DISK), 8_000);
    assert!(world.pool.contains_wire(&world.names, holding, &list));
    let (mut outer, mut inner) = ([0; 512], [0; 256]);
    let mut scratch = Scratch::new(&mut outer);
    let back = world.pool.write(&world.names, holding, "", &mut scratch, &mut inner).unwrap();
    let mut bytes = [0; 512];
    let bytes = crate::wire::encode(&back, &mut bytes).unwrap();
    assert!(decode::<Seq<'_, Resource<'_>>>(bytes).is_ok());
}

#[test]
fn a_list_is_contained_when_its_entries_are_together() {
    let mut world = World::new(8, 16);
    let have = world.take("cpus:2;ports:[1-9];racks:{a,b}");
    let contains = |text| world.pool.contains_wire(&world.names, have, &wire(text));
    assert!(contains("cpus:1;cpus:1;ports:[2-3,5-9];racks:{b}"));
    assert!(contains("") && contains("cpus:0"));
    for text in ["cpus:1;cpus:1.5", "mem:1", "ports:[9-10]", "racks:{c}", "cpus(web):1", "x:1"] {
        assert!(!contains(text), "{text}");
    }
}

proptest! {
    /// Amounts and spans against plain maps: what was taken out and put back is what it was.
    #[test]
    fn arithmetic_agrees_with_sets_of_single_units(
        cuts in proptest::collection::vec((0u64..40, 0u64..8, any::<bool>()), 1..30),
    ) {
        let mut world = World::new(5, 88);
        let mut have = world.take("ports:[0-39]");
        let mut model: std::collections::BTreeSet<u64> = (0..40).collect();
        let mut out: Vec<(Holding, Vec<u64>)> = vec![];
        for (begin, len, back) in cuts {
            if back && let Some((mut part, numbers)) = out.pop() {
                world.pool.add(&mut world.names, &mut have, &mut part);
                model.extend(numbers);
            } else {
                let end = (begin + len).min(39);
                let part = world.take(&std::format!("ports:[{begin}-{end}]"));
                let numbers: Vec<_> = (begin..=end).collect();
                let there = numbers.iter().all(|n| model.contains(n));
                prop_assert_eq!(world.pool.subtract(&mut world.names, &mut have, part).is_ok(), there);
                if there {
                    numbers.iter().for_each(|n| { model.remove(n); });
                    out.push((part, numbers));
                }
            }
            let spans: Vec<_> = world.pool.parts(have).map(|s| (s.begin, s.end)).collect();
            let numbers: Vec<_> = spans.iter().flat_map(|&(b, e)| b..=e).collect();
            prop_assert_eq!(numbers, model.iter().copied().collect::<Vec<_>>());
            prop_assert!(spans.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", spans);
        }
    }
}
