//! The layout on disk: after a power cut at every point, in every combination of what arrived, what
//! is found is exactly what was before or after the write under way; and damage is never made up for.

use mesita_core::rand::Rng;
use mesita_core::registry::Unreadable;
use mesita_core::registry::body::{Body, Named, Shape, chained};
use mesita_core::registry::meta::Roster;
use mesita_core::registry::store::{BLOCK, Facts, Save, Store, blocks};
use mesita_core::wire::gossip::{Edit, Table, Version};
use mesita_core::wire::{Scratch, Seq, encode};

use crate::disk::{Fate, Op, SimDisk};
use crate::world::key;

const SHAPE: Shape = Shape::new(4, 2, 2);
const RING: u32 = 2;

fn lend() -> &'static mut [u8] {
    Box::leak(vec![0; SHAPE.bytes()].into())
}

/// Memory for recoveries, used again and again.
struct Memory([&'static mut [u8]; 2]);

impl Memory {
    fn new() -> Self {
        Self([lend(), lend()])
    }

    /// What a start would find: facts, and the body at `accepted` or `held`.
    fn recover(&mut self, disk: &mut SimDisk) -> Result<(Facts, Vec<u8>), Unreadable> {
        let [a, b] = std::mem::take(&mut self.0);
        a.fill(0);
        b.fill(0);
        let mut store = Store::new(SHAPE, RING, a, b);
        let found = store.recover(disk);
        let facts = store.facts().clone();
        let mut bytes = store.body().bytes().to_vec();
        if facts.held == facts.accepted && facts.base != facts.accepted {
            let mut whole = Body::new(SHAPE, &mut bytes);
            let edits: Seq<'_, Edit<'_>> = mesita_core::wire::decode(store.edits()).unwrap();
            whole.apply(&edits, facts.accepted);
        }
        self.0 = store.release();
        found.map(|()| (facts, bytes))
    }
}

/// One thing after the other that a master saves: votes, changes, whole bodies.
struct Script {
    facts: Facts,
    body: Vec<u8>,
    rng: Rng,
    edits: Vec<u8>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut facts = Facts { formed: true, me: 1, cluster: 9, ..Facts::default() };
        facts.meta.t_us = 500_000;
        facts.meta.roster = Roster::first(&[key(1), key(2), key(3)]);
        Self { facts, body: vec![0; SHAPE.bytes()], rng: Rng::new(seed), edits: vec![] }
    }

    /// The next saves: pieces and a sector.
    fn next(&mut self) -> Vec<Vec<u8>> {
        self.facts.sequence += 1;
        let mut saves = vec![];
        let mut whole = false;
        match self.rng.below(8) {
            0 => {
                self.facts.promised += 1;
                self.facts.voted_for = 1 + self.rng.below(3) as u8;
            }
            1 => {
                whole = true;
                for byte in &mut self.body {
                    *byte = self.rng.draw() as u8;
                }
                let version = Version { epoch: self.facts.accepted.version.epoch + 1, number: 4 };
                let named = Named { version, hash: self.rng.draw() };
                (self.facts.accepted, self.facts.base, self.facts.held) = (named, named, named);
                self.edits.clear();
                for (at, bytes) in self.body.chunks(1_000).enumerate() {
                    let at = at as u32 * 1_000;
                    saves.push(postcard::to_allocvec_like(&Save::Piece { at, bytes }));
                }
            }
            _ => {
                let value = self.rng.draw().to_le_bytes();
                let slot = self.rng.below(4);
                let mut memory = [0; 256];
                let edit = Edit { table: Table::Agents, slot, at: 8, bytes: &value };
                let edits = Scratch::new(&mut memory).seq::<Edit<'static>>([edit]).unwrap();
                let mut bytes = [0; 256];
                let bytes = encode(&edits, &mut bytes).unwrap();
                let base = self.facts.accepted;
                let version = Version { number: base.version.number + 1, ..base.version };
                let named = Named { version, hash: chained(base, version, bytes) };
                Body::new(SHAPE, &mut self.body).apply(&edits, named);
                (self.facts.base, self.facts.accepted, self.facts.held) = (base, named, named);
                self.edits = bytes.to_vec();
            }
        }
        let sector = Save::Sector { facts: self.facts.clone(), whole, edits: &self.edits };
        saves.push(postcard::to_allocvec_like(&sector));
        saves
    }

    fn is(&self, found: &(Facts, Vec<u8>)) -> bool {
        let (facts, body) = found;
        let same = Facts { base: facts.base, ..self.facts.clone() } == *facts;
        same && facts.held == facts.accepted && *body == self.body
    }

    fn snapshot(&self) -> Self {
        Self {
            facts: self.facts.clone(),
            body: self.body.clone(),
            rng: self.rng,
            edits: self.edits.clone(),
        }
    }
}

/// postcard without its allocating feature.
mod postcard {
    pub use ::postcard::from_bytes;

    pub fn to_allocvec_like<T: serde::Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = vec![0; 8_192];
        ::postcard::to_slice(value, &mut bytes).unwrap().to_vec()
    }
}

fn save_all(store: &mut Store<'_>, disk: &mut SimDisk, saves: &[Vec<u8>]) {
    for save in saves {
        let save: Save<'_> = postcard::from_bytes(save).unwrap();
        store.save(disk, &save).unwrap();
    }
}

#[test]
pub fn a_power_cut_at_every_point_leaves_the_state_before_or_after() {
    let (mut memory, mut images) = (Memory::new(), 0u64);
    for seed in 1..=6 {
        let mut script = Script::new(seed);
        let mut disk = SimDisk::default();
        let mut store = Store::new(SHAPE, RING, lend(), lend());
        for _ in 0..24 {
            let before = script.snapshot();
            let saves = script.next();
            save_all(&mut store, &mut disk, &saves);
            for done in 0..=disk.log.len() {
                images += cut_after(&disk, done, &before, &script, &mut memory);
            }
            disk.settle();
            let found = memory.recover(&mut disk.clone()).unwrap();
            assert!(script.is(&found), "a sector that was synced: {:?}", found.0);
        }
    }
    println!("{images} images");
    assert!(images > 5_000);
}

/// Every combination of fates of the writes since the last sync, up to four of them; beyond that
/// each alone, and none and all.
fn cut_after(
    disk: &SimDisk,
    done: usize,
    before: &Script,
    after: &Script,
    memory: &mut Memory,
) -> u64 {
    let log = &disk.log[..done];
    let synced = log.iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |at| at + 1);
    let loose = log.len() - synced;
    let fates = [Fate::Lost, Fate::Kept, Fate::Torn(512), Fate::Torn(40)];
    let combinations: Vec<Vec<Fate>> = if loose <= 4 {
        (0..4usize.pow(loose as u32))
            .map(|number| (0..loose).map(|at| fates[number >> (2 * at) & 3]).collect())
            .collect()
    } else {
        let alone = (0..loose).flat_map(|odd| {
            fates.into_iter().flat_map(move |fate| {
                [Fate::Lost, Fate::Kept].map(|others| {
                    (0..loose).map(|at| if at == odd { fate } else { others }).collect()
                })
            })
        });
        alone.collect()
    };
    for combination in &combinations {
        let mut image = disk.clone();
        image.crash_after(done, |at| combination[at]);
        if before.facts.sequence == 0 && image.written().is_empty() {
            continue;
        }
        let found = match memory.recover(&mut image) {
            Ok(found) => found,
            Err(refused) => panic!("{refused:?} after {combination:?}"),
        };
        let fresh = before.facts.sequence == 0 && !found.0.formed;
        assert!(
            fresh || before.is(&found) || after.is(&found),
            "neither before nor after {combination:?} of {done}: {:?}\n before {:?}\n after {:?}",
            found.0,
            before.facts,
            after.facts
        );
        // What was found is found again, and goes on.
        let again = memory
            .recover(&mut {
                image.settle();
                image
            })
            .unwrap();
        assert_eq!(again.0.accepted, found.0.accepted);
    }
    combinations.len() as u64
}

#[test]
fn lives_of_saves_and_power_cuts_end_with_what_was_saved() {
    for seed in 1..=300 {
        let mut script = Script::new(seed);
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::default();
        let mut store = Store::new(SHAPE, RING, lend(), lend());
        let (mut memory, mut before) = (Memory::new(), script.snapshot());
        for _ in 0..40 {
            let saves = script.next();
            save_all(&mut store, &mut disk, &saves);
            if rng.below(3) > 0 {
                disk.settle();
                before = script.snapshot();
                continue;
            }
            disk.crash(&mut rng);
            let [a, b] = store.release();
            a.fill(0);
            b.fill(0);
            store = Store::new(SHAPE, RING, a, b);
            if store.recover(&mut disk).is_err() {
                assert_eq!(before.facts.sequence, 0, "seed {seed}");
                break;
            }
            disk.settle();
            if !store.facts().formed {
                break;
            }
            let found = memory.recover(&mut disk).unwrap();
            assert!(before.is(&found) || script.is(&found), "seed {seed}: {:?}", found.0);
            // The master goes on from what it found.
            if !script.is(&found) {
                script = before.snapshot();
                script.rng = Rng::new(rng.draw());
            }
            script.facts.base = store.facts().base;
            script.edits = store.edits().to_vec();
            before = script.snapshot();
        }
    }
}

#[test]
fn every_damage_is_refused_or_said_to_be_behind_and_never_made_up_for() {
    let (mut exact, mut older, mut behind, mut refused) = (0, 0, 0, 0);
    // Which of them end right after a whole body is up to their seeds.
    for seed in 1..=4 {
        let mut script = Script::new(seed);
        let mut disk = SimDisk::default();
        let mut store = Store::new(SHAPE, RING, lend(), lend());
        let mut known = vec![(Named::default(), vec![0; SHAPE.bytes()])];
        for _ in 0..22 {
            let saves = script.next();
            save_all(&mut store, &mut disk, &saves);
            disk.settle();
            known.push((script.facts.accepted, script.body.clone()));
        }
        let mut memory = Memory::new();
        for block in disk.written() {
            for at in (0..BLOCK).step_by(13).chain(0..64) {
                let mut image = disk.clone();
                image.rot(block, at);
                match memory.recover(&mut image) {
                    Ok(found) if script.is(&found) => exact += 1,
                    Ok((facts, body)) => {
                        // An older sector, or an older body: each one that was there once.
                        let named = facts.held;
                        let there =
                            known.iter().any(|(name, bytes)| *name == named && *bytes == body);
                        assert!(there, "made up: block {block} byte {at}: {facts:?}");
                        let counted =
                            if facts.held == facts.accepted { &mut older } else { &mut behind };
                        *counted += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    println!("{exact} exact, {older} older, {behind} behind, {refused} refused");
    assert!(exact > 1_000 && behind > 100 && older == 0 && refused == 0);
}

/// Damage of any sort to one, two or three blocks, as often as `CASES` says: what is found is one of
/// the values that were there once, no newer than the newest, or a refusal.
#[test]
fn damage_of_every_sort_is_refused_or_recovered_exactly() {
    let cases = std::env::var("CASES").map_or(3_000, |cases| cases.parse().unwrap());
    let mut rng = Rng::new(11);
    let (mut memory, mut tried, mut exact, mut refused) = (Memory::new(), 0u64, 0u64, 0u64);
    for seed in 1.. {
        let mut script = Script::new(seed);
        let mut disk = SimDisk::default();
        let mut store = Store::new(SHAPE, RING, lend(), lend());
        let mut known = vec![(Named::default(), vec![0; SHAPE.bytes()])];
        let mut older = vec![];
        for _ in 0..6 + rng.below(20) {
            let saves = script.next();
            save_all(&mut store, &mut disk, &saves);
            disk.settle();
            known.push((script.facts.accepted, script.body.clone()));
            older.push(disk.clone());
        }
        for _ in 0..2_000 {
            if tried == cases {
                let older = tried - exact - refused;
                println!(
                    "{tried} damaged disks: {exact} recovered exactly, {older} an older value, \
                     {refused} refused"
                );
                assert!(exact > tried / 10 && older > tried / 10);
                return;
            }
            tried += 1;
            let mut image = disk.clone();
            for _ in 0..=rng.below(3) {
                damage(&mut image, &older, &mut rng);
            }
            match memory.recover(&mut image) {
                Ok(found) if script.is(&found) => exact += 1,
                Ok((facts, body)) => {
                    assert!(facts.sequence <= script.facts.sequence, "newer than the newest");
                    let there =
                        |(name, bytes): &(Named, Vec<u8>)| *name == facts.held && *bytes == body;
                    assert!(!facts.formed || known.iter().any(there), "made up: {facts:?}");
                }
                Err(_) => refused += 1,
            }
        }
    }
}

/// A bit rots, a sector reads as zeros or as something else, the file ends early, a block is found
/// where another one was, or as it was before.
fn damage(image: &mut SimDisk, older: &[SimDisk], rng: &mut Rng) {
    let written = image.written();
    if written.is_empty() {
        return;
    }
    let some = |rng: &mut Rng| written[rng.below(written.len() as u32) as usize];
    let (block, at) = (some(rng), rng.below(BLOCK as u32) as usize);
    match rng.below(7) {
        0 | 1 => image.rot(block, at),
        2 => image.fill(block, at / 512 * 512, 512, |_| 0),
        3 => {
            let noise = rng.draw();
            image.fill(block, at, 64, |n| (noise.rotate_left(n as u32) as u8) ^ n as u8);
        }
        4 => image.end_at(block),
        5 => {
            let other = some(rng);
            image.exchange(block, other);
        }
        _ => {
            let before = &older[rng.below(older.len() as u32) as usize];
            image.take_from(before, block);
        }
    }
}

#[test]
fn both_copies_of_both_slots_gone_is_a_refusal_and_an_empty_disk_is_none() {
    let mut memory = Memory::new();
    assert!(!memory.recover(&mut SimDisk::default()).unwrap().0.formed);
    let mut script = Script::new(5);
    let mut disk = SimDisk::default();
    let mut store = Store::new(SHAPE, RING, lend(), lend());
    for _ in 0..3 {
        let saves = script.next();
        save_all(&mut store, &mut disk, &saves);
        disk.settle();
    }
    for block in [0, 1, 1024, 1025] {
        disk.rot(block, 99);
    }
    assert_eq!(memory.recover(&mut disk).unwrap_err(), Unreadable::Damaged);
    assert!(blocks(SHAPE, RING) > 1_026);
    // A disk that gives back one block for another is found out as well.
    let mut disk = SimDisk::default();
    let mut script = Script::new(5);
    let mut store = Store::new(SHAPE, RING, lend(), lend());
    let saves = script.next();
    save_all(&mut store, &mut disk, &saves);
    disk.settle();
    disk.exchange(0, 1024);
    disk.exchange(1, 1025);
    assert_eq!(memory.recover(&mut disk).unwrap_err(), Unreadable::Damaged);
}
