use super::*;
use crate::digest;
use crate::names::{Bucket, Cell, Entry};
use crate::testing::{lend, shown, wire};
use crate::wire::decode;
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

struct World {
    pool: Pool<'static>,
    names: Names<'static>,
}

impl World {
    fn new(idents: usize, pieces: usize, spans: usize) -> Self {
        let (entries, cells) = (lend::<Entry>(40), lend::<Cell>(60));
        let mut names = Names::new(entries, cells, lend::<Bucket>(16), 1);
        let memory = Memory {
            idents: lend(idents),
            layers: lend(8),
            pieces: lend(pieces),
            spans: lend(spans),
        };
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
    let mut world = World::new(12, 12, 12);
    let text = "cpus:4;mem:512.5;mem(web):16;ports:[31000-32000,33000-33100];racks:{a,b}";
    let holding = world.take(text);
    assert_eq!(world.show(holding), text);
    let again = world.take("cpus:0.5;cpus:0.5;ports:[3-4];ports:[1-2,5-6];disk:0");
    assert_eq!(world.show(again), "cpus:1;ports:[1-6]");
}

#[test]
fn what_is_let_go_leaves_nothing_behind() {
    let mut world = World::new(12, 12, 12);
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
fn subtracting_what_is_not_there_is_refused_and_changes_nothing() {
    let mut world = World::new(8, 12, 12);
    let mut have = world.take("cpus:4;ports:[10-20]");
    for text in ["cpus:4.001", "mem:1", "ports:[9-10]", "ports:[20-21]", "cpus(web):1"] {
        let part = world.take(text);
        let before = world.digest();
        let refused = world.pool.subtract(&mut have, part);
        assert_eq!(refused, Err(Refusal::AmountOutOfRange), "{text}");
        assert_eq!(world.digest(), before, "{text}");
    }
    assert_eq!(world.show(have), "cpus:4;ports:[10-20]");
}

#[test]
fn a_range_is_cut_where_it_is_used_and_heals_when_it_comes_back() {
    let mut world = World::new(8, 12, 12);
    let mut have = world.take("ports:[10-20]");
    let mut parts = ["ports:[12-13]", "ports:[10-10]", "ports:[20-20]"].map(|t| world.take(t));
    for part in parts {
        world.pool.subtract(&mut have, part).unwrap();
    }
    assert_eq!(world.show(have), "ports:[11-11,14-19]");
    for part in &mut parts {
        world.pool.add(&mut have, part);
    }
    assert_eq!(world.show(have), "ports:[10-20]");
}

#[test]
fn a_cut_without_room_for_the_second_part_is_refused() {
    let mut world = World::new(5, 1, 2);
    let mut have = world.take("ports:[10-20]");
    let part = world.take("ports:[12-13]");
    let before = world.digest();
    assert_eq!(world.pool.subtract(&mut have, part), Err(Refusal::ResourcesFull));
    assert_eq!(world.digest(), before);
}

#[test]
fn every_table_says_which_it_is_when_it_is_full() {
    let refused = |idents, pieces, spans, text: &str| {
        let mut world = World::new(idents, pieces, spans);
        let before = world.digest();
        let refused = world.try_take(text).expect_err(text);
        assert_eq!(world.digest(), before, "{text}");
        refused
    };
    assert_eq!(refused(5, 1, 1, "cpus:1;mem:1"), Refusal::ResourcesFull);
    assert_eq!(refused(5, 1, 1, "ports:[1-1,3-3]"), Refusal::ResourcesFull);
    assert_eq!(refused(5, 1, 1, "fpga:1"), Refusal::IdentitiesFull);
    assert_eq!(refused(5, 1, 1, "cpus(web):1"), Refusal::IdentitiesFull);
    assert_eq!(refused(5, 1, 1, "cpus:[1-2]"), Refusal::BadResource);
    let many: Vec<_> = (0..13).map(|n| std::format!("kind{n}:1")).collect();
    assert_eq!(refused(40, 40, 1, &many.join(";")), Refusal::KindsFull);
    let long: Vec<_> = (0..9).map(|n| std::format!("{}{n}:{{a}}", "x".repeat(250))).collect();
    assert_eq!(refused(40, 40, 40, &long.join(";")), Refusal::NamesFull);
}

#[test]
fn one_name_has_one_type() {
    let mut world = World::new(8, 8, 8);
    world.take("fpga:1");
    assert_eq!(world.try_take("fpga:[1-2]"), Err(Refusal::BadResource));
    assert_eq!(world.try_take("fpga:{a}"), Err(Refusal::BadResource));
    assert!(world.try_take("fpga:2").is_ok());
}

#[test]
fn resources_that_differ_in_any_trait_do_not_combine() {
    let mut world = World::new(16, 16, 16);
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
    let amounts: Vec<_> = world.pool.pieces(holding).map(|piece| piece.milli / 1000).collect();
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
    let mut world = World::new(8, 8, 8);
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
        let mut world = World::new(5, 8, 80);
        let mut have = world.take("ports:[0-39]");
        let mut model: std::collections::BTreeSet<u64> = (0..40).collect();
        let mut out: Vec<(Holding, Vec<u64>)> = vec![];
        for (begin, len, back) in cuts {
            if back && let Some((mut part, numbers)) = out.pop() {
                world.pool.add(&mut have, &mut part);
                model.extend(numbers);
            } else {
                let end = (begin + len).min(39);
                let part = world.take(&std::format!("ports:[{begin}-{end}]"));
                let numbers: Vec<_> = (begin..=end).collect();
                let there = numbers.iter().all(|n| model.contains(n));
                prop_assert_eq!(world.pool.subtract(&mut have, part).is_ok(), there);
                if there {
                    numbers.iter().for_each(|n| { model.remove(n); });
                    out.push((part, numbers));
                }
            }
            let spans: Vec<_> = world.pool.spans(have).map(|s| (s.begin, s.end)).collect();
            let numbers: Vec<_> = spans.iter().flat_map(|&(b, e)| b..=e).collect();
            prop_assert_eq!(numbers, model.iter().copied().collect::<Vec<_>>());
            prop_assert!(spans.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", spans);
        }
    }
}
