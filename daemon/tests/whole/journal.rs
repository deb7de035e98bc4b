//! `--journal` and `mesita replay`: the same decisions again, or the first that differs.

use std::path::{Path, PathBuf};

use mesita_core::wire::frame::CASTAGNOLI;

use crate::world::{Said, World};

/// A journaled cluster in which some happens; the journals of its master and its agent.
fn recorded(world: &World, more: &[&str]) -> [PathBuf; 2] {
    let journals = ["of-master", "of-agent"].map(|name| world.path(name));
    let [of_master, of_agent] =
        journals.each_ref().map(|path| format!("--journal={}", path.display()));
    let master = world.master(&[&[of_master.as_str()], more].concat());
    let agent = master.agent(&[&[of_agent.as_str()], more].concat());
    assert_eq!(master.run(&["--name", "first-name", "--", "true"]).end().status, 0);
    assert_eq!(master.run(&["--name", "second", "--command", "exit 3"]).end().status, 3);
    let many = ["--name", "many", "--instances", "8", "--resources", "cpus:1;mem:16", "--"];
    assert_eq!(master.run(&[&many[..], &["true"]].concat()).end().status, 0);
    let waits = ["--resources", "cpus:100", "--wait", "3s", "--", "true"];
    assert_eq!(master.run(&waits).end().status, 3);
    agent.leave();
    master.stop();
    world.nothing_is_left();
    journals
}

fn replay(world: &World, journal: &Path) -> Said {
    world.told(&["replay", journal.to_str().unwrap()])
}

#[test]
fn a_journal_replays_to_the_same_digest() {
    let world = World::new();
    for (journal, kind) in recorded(&world, &[]).iter().zip(["master", "agent"]) {
        let said = replay(&world, journal);
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        let end = ", identical to the recorded run\n";
        assert!(said.out.ends_with(end), "{}", said.out);
        let digests = said.out.split_once(" inputs, digest ").unwrap().1;
        assert!(digests.contains(&format!("{kind} ")), "{}", said.out);
        assert_eq!(said.out.lines().count(), 1, "nothing is missing: {}", said.out);
        let json = world.told(&["replay", "--json", journal.to_str().unwrap()]);
        let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json["identical"], true, "{json}");
        assert!(json["inputs"].as_u64().unwrap() > 20, "{json}");
        assert_eq!(replay(&world, journal), said, "twice the same");
    }
}

#[test]
fn a_journal_of_many_segments_replays_without_its_oldest() {
    let world = World::new();
    let journals = recorded(&world, &["--size=tiny", "--journal-max=16KiB"]);
    for journal in &journals {
        let said = replay(&world, journal);
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        assert!(said.out.ends_with("identical to the recorded run\n"), "{}", said.out);
        let bytes: u64 = segments(journal).iter().map(|path| path.metadata().unwrap().len()).sum();
        println!("{bytes} bytes in {} segments", segments(journal).len());
        assert!(bytes <= 16 << 10, "{bytes} bytes of {:?}", segments(journal));
    }
    let first = journals[0].join("00000001.journal");
    assert!(!first.exists(), "the oldest segment is gone: {:?}", segments(&journals[0]));
}

#[test]
fn the_journal_of_a_master_that_was_killed_replays_as_far_as_it_goes() {
    let world = World::new();
    let journal = world.path("journal");
    let flag = format!("--journal={}", journal.display());
    let mut master = world.master(&[&flag]);
    let agent = master.agent(&[]);
    assert_eq!(master.run(&["--", "true"]).end().status, 0);
    master.kill();
    let said = replay(&world, &journal);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    // Its next life goes on in a segment of its own.
    master.start();
    assert_eq!(master.run(&["--wait", "20s", "--", "true"]).end().status, 0);
    agent.leave();
    master.stop();
    let said = replay(&world, &journal);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("identical to the recorded run"), "{}", said.out);
    world.nothing_is_left();
}

fn segments(journal: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn an_input_that_was_changed_is_named() {
    let world = World::new();
    let [journal, _] = recorded(&world, &[]);
    let path = segments(&journal).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    // The name of a framework, where it is told to the master first: a decision takes it over.
    let at = find(&good, b"first-name");
    let mut forged = good.clone();
    forged[at] = b'F';
    seal_again(&mut forged, at);
    std::fs::write(&path, &forged).unwrap();
    let said = replay(&world, &journal);
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    assert!(said.out.starts_with("input ") && said.out.contains(" of the master in segment 1 "));
    let hex: String = b"First-name".iter().map(|byte| format!("{byte:02x}")).collect();
    let told = said.out.lines().find(|line| line.starts_with("input: ")).unwrap();
    assert!(told.contains(&hex), "{}", said.out);
    let json = world.told(&["replay", "--json", journal.to_str().unwrap()]);
    assert_eq!(json.status, 1);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["identical"], false);
    let number = json["difference"]["input"].as_u64().unwrap();
    assert!(said.out.starts_with(&format!("input {number} of")), "{}", said.out);

    // A byte that was changed by nobody who knows of checksums is damage.
    let mut damaged = good.clone();
    damaged[at] ^= 0x20;
    std::fs::write(&path, &damaged).unwrap();
    let said = replay(&world, &journal);
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    assert!(said.err.contains("is damaged at byte "), "{}", said.err);

    // The end of a process is no damage.
    std::fs::write(&path, &good[..good.len() - 3]).unwrap();
    let said = replay(&world, &journal);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("ends in the middle of an entry"), "{}", said.out);
}

#[test]
fn what_is_no_journal_is_told_so() {
    let world = World::new();
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = replay(&world, &empty);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("give the directory that was given to --journal"), "{}", said.err);
    std::fs::write(empty.join("00000001.journal"), "something else").unwrap();
    let said = replay(&world, &empty);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("is no journal of this release"), "{}", said.err);
    let said = replay(&world, &world.path("nowhere"));
    assert_eq!(said.status, 1);
    assert!(said.err.contains("nowhere"), "{}", said.err);
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|window| window == text).unwrap()
}

/// Corrects the checksum of the entry that the byte at `at` is in.
fn seal_again(bytes: &mut [u8], at: usize) {
    let mut begin = 8;
    loop {
        let len = u32::from_le_bytes(bytes[begin..begin + 4].try_into().unwrap());
        let entry = begin + 8..begin + 8 + usize::try_from(len).unwrap();
        if entry.contains(&at) {
            let crc = CASTAGNOLI.checksum(&bytes[entry]);
            bytes[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
            return;
        }
        begin = entry.end;
    }
}
