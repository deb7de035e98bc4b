//! The traces that broke earlier versions of these rules, each by the name of what went wrong, and
//! the shapes of network and power in which there must be a leader.
//!
//! Each is run on the rules as they are, and by the board on planted bugs.

use mesita_core::election::{Birth, Config, Election, Input, Outbox, Output, Role};
use mesita_core::mutant::Mutant;
use mesita_core::registry::body::{Named, Shape, chained};
use mesita_core::registry::meta::{Change, Roster};
use mesita_core::registry::store::Save;
use mesita_core::time::Time;
use mesita_core::wire::gossip::{Digest, Edit, Gossip, Replica, Row, Table, Version};
use mesita_core::wire::{Fence, Generation, Head, Scratch, encode};

use crate::world::{MILLI, Net, World, key};

const T: u64 = 500 * MILLI;

/// How many seeds a trace is tried with.
const SEEDS: u64 = 12;

macro_rules! traces {
    ($( $name:ident )*) => {
        /// Every trace by its name.
        pub const TRACES: &[(&str, fn(Mutant))] = &[$((stringify!($name), $name)),*];

        mod tests {
            $(
                #[test]
                fn $name() {
                    super::$name(mesita_core::mutant::Mutant::None);
                }
            )*
        }
    };
}

traces! {
    a_leader_that_restarts_does_not_resume_its_epoch
    a_snapshot_of_before_its_vote_is_noticed_by_who_remembers
    a_snapshot_of_an_older_start_stays_in_quarantine_when_restarted
    two_of_one_directory_are_told_apart
    data_is_judged_against_a_vote_that_is_still_being_written
    a_witness_hands_over_what_only_it_holds
    a_deaf_follower_does_not_keep_the_others_without_leader
    a_hanging_disk_does_not_win_every_election
    a_leader_whose_disk_hangs_makes_way
    a_leader_whose_stream_hangs_makes_way
    a_start_in_isolation_is_no_lack_of_contact
    leases_do_not_overlap_while_t_changes
    the_whole_set_comes_back_after_its_power_went
    a_follower_that_restarts_for_ever_disturbs_nobody
    an_old_body_is_not_written_as_a_new_epoch
    a_damaged_body_is_repaired_by_who_holds_it
    a_candidate_that_accepts_data_of_its_epoch_is_none_any_more
    two_imports_of_one_generation_do_not_hear_each_other
    a_higher_generation_ends_a_master_for_good
    a_hub_is_enough
    a_leader_that_nobody_hears_is_silent_and_then_none
    the_lease_is_over_before_another_leads
    masters_are_added_and_removed_one_by_one
    a_dead_disk_is_replaced
    a_master_is_not_removed_from_those_that_are_needed
    a_whole_registry_is_sent_about_once
    an_empty_disk_does_not_vote
    an_outvoted_leader_writes_nothing
    an_agent_that_obeyed_another_ends_a_reign
    the_only_master_is_not_elected_again_until_it_is_obeyed
    an_agent_of_a_later_generation_ends_a_master_for_good
    a_leaders_own_copy_counts_when_it_is_on_disk
    who_is_granted_and_does_not_vote_is_passed_over
    who_alone_can_lead_is_granted_all_the_time
    a_row_that_says_less_than_before_counts_for_nothing
    a_majority_of_another_hash_commits_nothing
    nobody_votes_while_it_hears_a_leader
    who_missed_a_change_of_the_roster_grants_by_the_count_of_the_asker
}

/// Masters count what they say, and begin again when no number is left.
#[cfg(feature = "mutants")]
#[test]
fn a_master_that_has_spoken_four_billion_times_is_heard_on() {
    seeded(3, Mutant::None, |world| {
        let leader = leader(world);
        for id in world.ids() {
            let node = world.node(id);
            node.front.as_mut().expect("it runs").spoke(u32::MAX - 5 * u32::from(id));
        }
        world.run(10 * T);
        assert_eq!(world.open(), [leader]);
        commits_within(world, 1);
        let again = |id: &u8| world.facts(*id).incarnation == 2;
        assert!(world.ids().iter().all(again), "somebody did not begin again");
        // Whoever starts then is known by a later start.
        let other = others(world, leader)[0];
        world.crash_for(other, 5 * MILLI);
        world.run(8 * T);
        assert_eq!((world.open(), is_quarantined(world, other)), (vec![leader], false));
    });
}

fn seeded(masters: u8, mutant: Mutant, trace: impl Fn(&mut World)) {
    for seed in 1..=SEEDS {
        let mut world = World::new(seed * 7_919, masters, T, mutant);
        let open = world.until_open(4 * T);
        assert!(open.is_some(), "nobody opened in the first 4T of seed {seed}");
        world.run(T);
        trace(&mut world);
    }
}

fn leader(world: &World) -> u8 {
    *world.open().first().expect("somebody is open")
}

fn others(world: &World, than: u8) -> Vec<u8> {
    world.ids().into_iter().filter(|id| *id != than).collect()
}

fn commits_within(world: &mut World, times_t: u64) -> u64 {
    let took = world.until_commit(times_t * T);
    took.unwrap_or_else(|| panic!("no change commits within {times_t}T"))
}

fn is_quarantined(world: &World, id: u8) -> bool {
    world.facts(id).quarantined
}

fn a_leader_that_restarts_does_not_resume_its_epoch(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let leader = leader(world);
        let epoch = world.facts(leader).promised;
        world.crash_for(leader, 5 * MILLI);
        commits_within(world, 8);
        assert!(world.facts(self::leader(world)).promised > epoch);
    });
}

fn a_snapshot_of_before_its_vote_is_noticed_by_who_remembers(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let first = leader(world);
        let follower = others(world, first)[0];
        let snapshot = world.node(follower).disk.without_log();
        // An election in which it votes, then the disk as it was before.
        world.crash(first);
        commits_within(world, 8);
        world.boot(first);
        world.run(2 * T);
        world.crash(follower);
        world.node(follower).disk = snapshot;
        world.oracle.forget(follower);
        world.boot(follower);
        world.run(3 * T);
        assert!(is_quarantined(world, follower), "{follower} forgot its vote and goes on");
        commits_within(world, 4);
    });
}

fn a_snapshot_of_an_older_start_stays_in_quarantine_when_restarted(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let follower = others(world, leader(world))[0];
        let snapshot = world.node(follower).disk.without_log();
        world.crash(follower);
        world.boot(follower);
        world.run(2 * T);
        world.crash(follower);
        world.node(follower).disk = snapshot;
        world.oracle.forget(follower);
        world.boot(follower);
        world.run(3 * T);
        assert!(is_quarantined(world, follower));
        for _ in 0..3 {
            world.crash(follower);
            // Alone, with nobody to remind it.
            world.isolate(follower);
            world.boot(follower);
            world.run(2 * T);
            assert!(is_quarantined(world, follower), "the quarantine ended with the process");
        }
    });
}

fn two_of_one_directory_are_told_apart(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let follower = others(world, leader(world))[0];
        let copy = world.node(follower).disk.without_log();
        world.crash(follower);
        world.boot(follower);
        world.run(2 * T);
        // The other machine with the copy has counted up as well, and says so under its own nonce.
        let row = Row {
            id: follower,
            incarnation: world.facts(follower).incarnation,
            sequence: 1,
            nonce: 77,
            flags: Row::FORMED | Row::STARTING,
            ..Row::default()
        };
        drop(copy);
        hear(world, follower, leader(world), &[row]);
        assert!(is_quarantined(world, follower));
    });
}

/// A digest of these rows from `sender`, besides what the network brings.
fn hear(world: &mut World, to: u8, sender: u8, rows: &[Row]) {
    let facts = world.facts(to);
    let mut memory = [0; 1_280];
    let rows = Scratch::new(&mut memory).seq::<Row>(rows.iter().copied()).unwrap();
    let digest = Digest {
        cluster: facts.cluster,
        generation: facts.generation,
        roster: 1,
        sender,
        amnesiac: 0,
        rows,
    };
    let _ = world.step(to, &Input::Digest(digest));
}

fn data_is_judged_against_a_vote_that_is_still_being_written(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        let [b, c] = others(world, old)[..] else { unreachable!() };
        world.isolate(old);
        // One of the two votes for the other, and its disk takes its time.
        let mut voter = 0;
        for _ in 0..20_000 {
            world.run(MILLI / 2);
            for id in [b, c] {
                let front = world.peek(id).front.as_ref().unwrap();
                let (durable, facts) = (front.durable().promised, front.facts());
                if facts.promised > durable && facts.voted_for != id {
                    voter = id;
                }
            }
            if voter > 0 {
                break;
            }
        }
        if voter == 0 || world.open() != [old] {
            return;
        }
        world.node(voter).hangs = true;
        let before = world.facts(voter).accepted.version;
        world.heal_links();
        world.cut_both(b, c);
        world.propose();
        world.run(20 * MILLI);
        assert_eq!(world.facts(voter).accepted.version, before, "{voter} has voted already");
        world.unhang(voter);
        world.heal_links();
        commits_within(world, 10);
    });
}

fn a_witness_hands_over_what_only_it_holds(mutant: Mutant) {
    for seed in 1..=SEEDS {
        let mut world = World::new(seed * 104_729, 3, T, mutant);
        // It is a witness from its next start on.
        world.node(3).can_lead = false;
        world.crash(3);
        world.boot(3);
        world.until_open(6 * T).expect("somebody opens");
        world.run(T);
        let old = leader(&world);
        assert_ne!(old, 3, "a witness is open");
        let other = 3 - old;
        world.isolate(other);
        commits_within(&mut world, 4);
        world.crash(old);
        world.heal_links();
        let took = commits_within(&mut world, 9);
        assert_eq!(leader(&world), other, "after {took} µs");
    }
}

fn a_deaf_follower_does_not_keep_the_others_without_leader(mutant: Mutant) {
    for seed in 1..=40 {
        let mut world = World::new(seed * 31, 3, T, mutant);
        world.writes_every = 1 << 40;
        world.until_open(4 * T).expect("somebody opens");
        world.run(T);
        let old = leader(&world);
        let deaf = others(&world, old)[0];
        world.deafen(deaf);
        world.run(2 * T);
        world.crash_for(old, 300 * MILLI);
        world.run(50 * MILLI);
        let start = world.now;
        let opened = world.until_open(20 * T);
        let took = (world.now - start) / MILLI;
        assert!(opened.is_some() && took < 2_000, "seed {seed}: leaderless for {took} ms");
    }
}

fn a_hanging_disk_does_not_win_every_election(mutant: Mutant) {
    for seed in 1..=40 {
        let mut world = World::new(seed * 37, 5, T, mutant);
        world.writes_every = 1 << 40;
        world.until_open(4 * T).expect("somebody opens");
        world.run(T);
        let old = leader(&world);
        let lowest = others(&world, old)[0];
        world.node(lowest).hangs = true;
        world.crash(old);
        let start = world.now;
        let opened = world.until_open(20 * T);
        let took = (world.now - start) / MILLI;
        assert!(opened.is_some() && took < 3_000, "seed {seed}: leaderless for {took} ms");
    }
}

fn a_leader_whose_disk_hangs_makes_way(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        world.node(old).hangs = true;
        world.run(8 * T);
        commits_within(world, 2);
        assert_ne!(leader(world), old);
    });
}

fn a_leader_whose_stream_hangs_makes_way(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        world.silence_stream(old);
        world.run(8 * T);
        commits_within(world, 2);
        assert_ne!(leader(world), old);
    });
}

fn a_start_in_isolation_is_no_lack_of_contact(mutant: Mutant) {
    for seed in 1..=60 {
        let mut world = World::new(seed * 41, 3, T, mutant);
        world.until_open(4 * T).expect("somebody opens");
        world.run(T);
        let old = leader(&world);
        let [b, c] = others(&world, old)[..] else { unreachable!() };
        world.isolate(b);
        world.crash(b);
        world.boot(b);
        world.run(3 * T);
        // The leader is cut off right after it was heard, and the other restarts at once.
        world.crash_for(c, 30 * MILLI);
        world.isolate(old);
        world.join(&[b, c]);
        world.run(4 * T);
        assert!(!world.open().is_empty(), "seed {seed}: nobody took over");
    }
}

fn leases_do_not_overlap_while_t_changes(mutant: Mutant) {
    for seed in 1..=40 {
        let mut world = World::new(seed * 43, 3, T, mutant);
        world.until_open(4 * T).expect("somebody opens");
        world.writes_every = 1 << 40;
        world.run(T);
        for t_us in [150_000, 1_000_000, 500_000] {
            let old = leader(&world);
            // In the middle of the change the leader is cut off, or right before.
            if world.rng.below(2) == 0 {
                world.isolate(old);
            }
            world.retime(old, t_us);
            let wait = world.rng.below_u64(40 * MILLI);
            world.run(wait);
            world.isolate(old);
            world.run(4_000 * MILLI);
            assert!(!world.open().is_empty(), "seed {seed}: nobody took over");
            world.heal_links();
            world.run(4_000 * MILLI);
        }
    }
}

fn the_whole_set_comes_back_after_its_power_went(mutant: Mutant) {
    for (masters, dead) in [(1, 0), (2, 0), (3, 0), (3, 1), (5, 2)] {
        for seed in 1..=SEEDS {
            let mut world = World::new(seed * 47, masters, T, mutant);
            let first = world.until_open(4 * T);
            assert!(first.is_some(), "nobody leads after the first power-on of {masters}");
            world.run(T);
            for id in world.ids() {
                world.crash(id);
            }
            for id in world.ids().into_iter().skip(dead) {
                world.boot(id);
            }
            let took = commits_within(&mut world, 5);
            assert!(took < 38 * T / 10 + T / 2, "{masters} masters took {took} µs");
        }
    }
}

fn a_follower_that_restarts_for_ever_disturbs_nobody(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        let follower = others(world, old)[0];
        let elections = world.elections;
        for _ in 0..30 {
            world.crash_for(follower, 50 * MILLI);
            world.run(300 * MILLI);
        }
        assert_eq!((leader(world), world.elections), (old, elections));
        world.run(3 * T);
        assert!(!is_quarantined(world, follower), "an ordinary restart is no double");
        // It counts again: with the other follower gone, changes need it.
        let other = *others(world, old).last().unwrap();
        world.crash(other);
        commits_within(world, 4);
        assert_eq!(leader(world), old);
    });
}

fn an_old_body_is_not_written_as_a_new_epoch(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        let [behind, damaged] = others(world, old)[..] else { unreachable!() };
        world.isolate(behind);
        commits_within(world, 4);
        world.crash(old);
        world.crash(damaged);
        world.damage_body(damaged);
        world.heal_links();
        world.boot(damaged);
        assert!(world.facts(damaged).held.version < world.facts(damaged).accepted.version);
        world.run(10 * T);
        assert_eq!(world.open(), [], "whoever has the newest body is away");
        world.boot(old);
        commits_within(world, 14);
    });
}

fn a_damaged_body_is_repaired_by_who_holds_it(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let damaged = others(world, leader(world))[0];
        world.crash(damaged);
        world.damage_body(damaged);
        world.boot(damaged);
        assert_ne!(world.facts(damaged).held, world.facts(damaged).accepted);
        world.run(4 * T);
        assert_eq!(world.facts(damaged).held, world.facts(damaged).accepted);
        assert!(world.facts(damaged).accepted.version >= world.facts(leader(world)).base.version);
    });
}

fn a_hub_is_enough(mutant: Mutant) {
    for seed in 1..=6 {
        let mut world = World::new(seed * 53, 5, T, mutant);
        world.until_open(4 * T).expect("somebody opens");
        let leader = leader(&world);
        world.run(T);
        let hub = others(&world, leader)[1];
        for a in world.ids() {
            for b in world.ids() {
                if a != hub && b != hub && a != b {
                    world.cut(a, b);
                }
            }
        }
        let (elections, commits) = (world.elections, world.commits);
        world.run(60_000 * MILLI);
        let commits = world.commits - commits;
        assert_eq!(world.elections, elections, "seed {seed}: an election in a hub's network");
        assert!(commits >= 50, "seed {seed}: {commits} commits in a minute");
    }
}

fn a_leader_that_nobody_hears_is_silent_and_then_none(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        world.isolate(old);
        world.run(T);
        let now = world.local(old);
        let front = world.peek(old).front.as_ref().unwrap();
        assert!(front.lease_until(now) <= now, "it may speak although nobody hears it");
        world.run(2 * T);
        assert_eq!(world.peek(old).front.as_ref().unwrap().role(), Role::Follower);
    });
}

fn the_lease_is_over_before_another_leads(mutant: Mutant) {
    for seed in 1..=40 {
        let mut world = World::new(seed * 59, 3, T, mutant);
        world.until_open(4 * T).expect("somebody opens");
        let wait = T + world.rng.below_u64(T);
        world.run(wait);
        // The fastest clock among the followers, the slowest at the leader: see `World`.
        let old = leader(&world);
        world.isolate(old);
        world.run(4 * T);
        assert!(world.open().iter().any(|id| *id != old), "seed {seed}: nobody took over");
    }
}

fn masters_are_added_and_removed_one_by_one(mutant: Mutant) {
    for (from, to) in [(1u8, 3usize), (3, 5)] {
        let mut world = World::new(61, from, T, mutant);
        world.until_open(4 * T).expect("somebody opens");
        for _ in usize::from(from)..to {
            let id = world.newcomer(10 * T).expect("a learner is taken");
            assert!(world.change_within(Change::Promote { id }, 20 * T), "{id} is not promoted");
        }
        commits_within(&mut world, 4);
        // Whoever is there may be gone now: it is a set of that size.
        let gone = leader(&world);
        world.crash(gone);
        commits_within(&mut world, 8);
        world.boot(gone);
        world.run(3 * T);
        while world.facts(leader(&world)).meta.roster.members.len() > 1 {
            let id = leader(&world);
            assert!(world.change_within(Change::Remove { id }, 20 * T), "{id} is not removed");
            assert_eq!(world.open(), [], "{id} reigns on although it was removed");
            world.until_open(8 * T).expect("another one opens");
            world.crash(id);
            commits_within(&mut world, 8);
        }
        assert_eq!(world.open().len(), 1);
    }
}

fn a_dead_disk_is_replaced(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let dead = others(world, leader(world))[0];
        world.crash(dead);
        assert!(world.change_within(Change::Remove { id: dead }, 10 * T));
        let id = world.newcomer(10 * T).expect("a learner is taken");
        world.crash(id);
        world.run(2 * T);
        assert!(!world.change(Change::Promote { id }), "a learner that lags is promoted");
        world.boot(id);
        assert!(world.change_within(Change::Promote { id }, 20 * T));
        let gone = others(world, leader(world));
        let gone = gone.into_iter().find(|other| *other != dead && *other != id).unwrap();
        world.crash(gone);
        commits_within(world, 8);
    });
}

fn a_master_is_not_removed_from_those_that_are_needed(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let [dead, alive] = others(world, leader(world))[..] else { unreachable!() };
        world.crash(dead);
        world.run(2 * T);
        // The two that would be left are one that is dead, and the leader.
        world.change(Change::Remove { id: alive });
        world.run(6 * T);
        commits_within(world, 8);
    });
}

fn a_whole_registry_is_sent_about_once(mutant: Mutant) {
    let worlds = (1..).map(|seed| World::new(seed, 3, T, mutant));
    let mut world = worlds.into_iter().find(|world| world.body_bytes() > 60_000).unwrap();
    world.until_open(4 * T).expect("somebody opens");
    world.writes_every = 100 * T;
    // So far away that it takes many beats.
    world.net.delay = (4_000, 8_000);
    let id = world.newcomer(10 * T).expect("a learner is taken");
    let before = world.streamed;
    let held = |world: &World| world.facts(id).held == world.facts(leader(world)).accepted;
    for _ in 0..400 {
        if held(&world) {
            break;
        }
        world.run(T / 20);
    }
    let sent = world.streamed - before;
    assert!(held(&world), "{sent} bytes, and it is not there");
    assert!(sent < 2 * world.body_bytes(), "{sent} bytes for {}", world.body_bytes());
}

fn an_empty_disk_does_not_vote(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        let [wiped, other] = others(world, old)[..] else { unreachable!() };
        world.crash(wiped);
        world.node(wiped).disk.wipe();
        world.boot(wiped);
        // Somebody insists that it were a new one.
        let roster = Roster::first(&[key(1), key(2), key(3)]);
        world.oracle.forget(wiped);
        world.form(wiped, roster);
        world.run(2 * T);
        assert!(is_quarantined(world, wiped), "an empty disk took part again");
        world.crash(other);
        world.run(4 * T);
        assert_eq!(world.open(), [], "two of three are gone");
    });
}

fn an_outvoted_leader_writes_nothing(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        // It sleeps while another is elected, and wakes up with changes to propose.
        world.pause(old, 4 * T);
        world.run(3 * T);
        let new = leader(world);
        assert_ne!(new, old);
        // What it is told first is the new epoch's data, not that there is a new epoch.
        world.deafen_datagrams(old);
        world.run(3 * T);
        world.heal_links();
        commits_within(world, 8);
        let role = world.peek(old).front.as_ref().unwrap().role();
        assert!(leader(world) == new && role == Role::Follower, "{old} leads on as {role:?}");
    });
}

fn an_agent_that_obeyed_another_ends_a_reign(mutant: Mutant) {
    seeded(3, mutant, |world| {
        let old = leader(world);
        let fence = world.peek(old).front.as_ref().unwrap().fence();
        world.step(old, &Input::Seen(fence)).unwrap();
        assert_eq!(world.open(), [old], "its own epoch is no news");
        world.step(old, &Input::Seen(Fence { epoch: fence.epoch + 1, ..fence })).unwrap();
        assert_eq!(world.open(), []);
        commits_within(world, 8);
    });
}

fn an_agent_of_a_later_generation_ends_a_master_for_good(mutant: Mutant) {
    seeded(3, mutant, |world| {
        // Whoever leads next hears the same, until there is no majority any more.
        for _ in 0..2 {
            let old = leader(world);
            let Fence { generation, .. } = world.peek(old).front.as_ref().unwrap().fence();
            let later = Generation { number: generation.number + 1, nonce: 7 };
            world.step(old, &Input::Seen(Fence { generation: later, epoch: 1 })).unwrap();
            assert!(world.peek(old).front.as_ref().unwrap().facts().quarantined);
            assert_eq!(world.open(), []);
            world.run(12 * T);
            assert!(!world.open().contains(&old), "{old} is back");
        }
        assert_eq!(world.open(), []);
    });
}

// -------------------------------------------------------------------- one master alone

/// One front without a world: what it says goes nowhere, what it writes is durable at once.
struct Lone {
    front: Election<'static>,
    now: u64,
    sequence: u32,
    said: Option<Row>,
}

#[derive(Default)]
struct Saved {
    sequences: Vec<u64>,
    said: Option<Row>,
}

impl Outbox for Saved {
    fn emit(&mut self, output: &Output<'_>) {
        match output {
            Output::Persist(Save::Sector { facts, .. }) => self.sequences.push(facts.sequence),
            Output::Gossip(Head::Gossip(Gossip::Digest(digest))) => self.said = digest.rows.first(),
            _ => {}
        }
    }
}

const SHAPE: Shape = Shape::new(4, 2, 2);

impl Lone {
    /// Master `me` of `masters`, past its start.
    fn new(me: u8, masters: u8, mutant: Mutant) -> Self {
        let lend = || -> &'static mut [u8] { Box::leak(vec![0; SHAPE.bytes()].into()) };
        let config = Config { seed: 9, can_lead: true, mutant };
        let front = Election::new(SHAPE, lend(), lend(), config);
        let mut lone = Self { front, now: 1_000, sequence: 0, said: None };
        let keys: Vec<_> = (1..=masters).map(key).collect();
        let generation = Generation { number: 1, nonce: 5 };
        let roster = Roster::first(&keys);
        let birth = Birth { cluster: 3, generation, me, epoch: 0, t_us: T as u32, roster };
        lone.give(&Input::Form(birth));
        lone.now += T + 1;
        for other in (1..=masters).filter(|other| *other != me) {
            lone.hear(other, |row| row);
        }
        assert!(!lone.front.is_starting());
        lone
    }

    fn give(&mut self, input: &Input<'_>) {
        let mut saved = Saved::default();
        let _ = self.front.step(Time(self.now), input, &mut saved);
        while let Some(sequence) = saved.sequences.pop() {
            let _ = self.front.step(Time(self.now), &Input::Persisted { sequence }, &mut saved);
        }
        self.said = saved.said.or(self.said);
    }

    /// A row of another one, and this one's own as that one knows it.
    fn hear(&mut self, from: u8, change: impl Fn(Row) -> Row) {
        let generation = self.front.facts().generation;
        self.hear_of(from, generation, change);
    }

    fn hear_of(&mut self, from: u8, generation: Generation, change: impl Fn(Row) -> Row) {
        self.sequence += 1;
        let flags = Row::FORMED | Row::CAN_LEAD | Row::DISK_OK;
        let row = Row {
            id: from,
            incarnation: 1,
            nonce: 1,
            sequence: self.sequence,
            flags,
            heard: u64::MAX,
            ..Row::default()
        };
        let me = self.front.facts();
        let own = Row { id: me.me, incarnation: me.incarnation, flags, ..Row::default() };
        let mut memory = [0; 512];
        let rows = Scratch::new(&mut memory).seq::<Row>([change(row), own]).unwrap();
        let digest = Digest { cluster: 3, generation, roster: 1, sender: from, amnesiac: 0, rows };
        self.give(&Input::Digest(digest));
    }
}

fn a_candidate_that_accepts_data_of_its_epoch_is_none_any_more(mutant: Mutant) {
    let mut lone = Lone::new(2, 5, mutant);
    let granted = |row: Row| Row { grant_epoch: 1, grant_to: 2, ..row };
    for _ in 0..40 {
        lone.now += T / 10;
        [1, 3, 4, 5].into_iter().for_each(|from| lone.hear(from, granted));
        if lone.front.role() == Role::Candidate {
            break;
        }
    }
    assert_eq!((lone.front.role(), lone.front.facts().promised), (Role::Candidate, 1));
    // Another one won the same epoch and has written.
    let mut memory = [0; 256];
    let edit = Edit { table: Table::Agents, slot: 0, at: 0, bytes: &[1] };
    let edits = Scratch::new(&mut memory).seq::<Edit<'static>>([edit]).unwrap();
    let mut bytes = [0; 256];
    let bytes = encode(&edits, &mut bytes).unwrap();
    let version = Version { epoch: 1, number: 1 };
    let hash = chained(Named::default(), version, bytes);
    let base = Version::default();
    let replica = Replica::Delta { version, hash, base, base_hash: 0, edits };
    lone.give(&Input::Replica { from: 1, replica });
    assert_eq!(lone.front.facts().accepted, Named { version, hash });
    // Votes that come now would make two leaders, under a roster that the other one changed.
    for from in [3, 4, 5] {
        lone.hear(from, |row| Row { promised: 1, voted_for: 2, ..row });
    }
    assert_eq!(lone.front.role(), Role::Follower, "two leaders of one epoch");
}

/// An older work directory of a single master was put back: its agents have obeyed later reigns of it.
fn the_only_master_is_not_elected_again_until_it_is_obeyed(mutant: Mutant) {
    let mut lone = Lone::new(1, 1, mutant);
    for _ in 0..20 {
        lone.now += T / 10;
        lone.give(&Input::Tick);
    }
    assert_eq!(lone.front.role(), Role::Active);
    let fence = lone.front.fence();
    lone.give(&Input::Seen(Fence { epoch: fence.epoch + 3, ..fence }));
    for _ in 0..200 {
        lone.now += T / 10;
        lone.give(&Input::Tick);
    }
    assert_eq!((lone.front.role(), lone.front.fence()), (Role::Follower, fence));
    assert!(lone.front.facts().quarantined);
}

fn who_is_granted_and_does_not_vote_is_passed_over(mutant: Mutant) {
    let mut lone = Lone::new(2, 5, mutant);
    let mut granted = vec![];
    for _ in 0..30 {
        lone.now += T / 10;
        // The first ranks higher: it has the lower id. It never votes for itself.
        [1, 3].into_iter().for_each(|from| lone.hear(from, |row| Row { want: 9, ..row }));
        granted.push(lone.said.unwrap().grant_to);
    }
    assert!(granted.contains(&1) && granted.contains(&3), "{granted:?}");
}

/// Two that passed it over, each for 4T and not at the same time, never elected it.
fn who_alone_can_lead_is_granted_all_the_time(mutant: Mutant) {
    let mut lone = Lone::new(2, 3, mutant);
    let newest = Version { epoch: 3, number: 1 };
    let mut granted = vec![];
    for _ in 0..80 {
        lone.now += T / 10;
        let asks = |row: Row| Row { want: 9, accepted: newest, held: newest, ..row };
        lone.hear(1, asks);
        granted.push(lone.said.unwrap().grant_to);
    }
    let first = granted.iter().position(|to| *to == 1).unwrap();
    let missed = granted[first..].iter().filter(|to| **to == 0).count();
    assert_eq!(missed, 0, "{granted:?}");
    assert!(granted[60..].contains(&1), "{granted:?}");
}

fn a_row_that_says_less_than_before_counts_for_nothing(mutant: Mutant) {
    let mut lone = Lone::new(1, 3, mutant);
    lone.hear(2, |row| Row { promised: 5, ..row });
    lone.hear(2, |row| Row { incarnation: 2, promised: 4, leads: 4, ..row });
    assert_eq!(lone.front.leader(Time(lone.now)), None, "it has forgotten its vote");
    lone.hear(2, |row| Row { incarnation: 3, promised: 5, leads: 5, ..row });
    assert_eq!(lone.front.leader(Time(lone.now)).map(|(id, _)| id), Some(2));
}

/// A front elected by the others, whose opening is on its own disk.
fn elected(mutant: Mutant) -> Lone {
    let mut lone = Lone::new(2, 5, mutant);
    for _ in 0..40 {
        lone.now += T / 10;
        [1, 3, 4, 5].into_iter().for_each(|from| {
            lone.hear(from, |row| Row { grant_epoch: 1, grant_to: 2, ..row });
        });
        if lone.front.role() == Role::Candidate {
            break;
        }
    }
    for from in [1, 3] {
        lone.hear(from, |row| Row { promised: 1, voted_for: 2, ..row });
    }
    assert_eq!(lone.front.role(), Role::Elected);
    lone
}

fn a_majority_of_another_hash_commits_nothing(mutant: Mutant) {
    let mut lone = elected(mutant);
    let Named { version, hash } = lone.front.durable().accepted;
    let holding = |row: Row| Row {
        promised: 1,
        voted_for: 2,
        accepted: version,
        held: version,
        hash: hash ^ 1,
        ..row
    };
    [1, 3].into_iter().for_each(|from| lone.hear(from, holding));
    assert_eq!(lone.front.role(), Role::Elected, "they hold another value");
    let holding = |row: Row| Row { hash, ..holding(row) };
    [1, 3].into_iter().for_each(|from| lone.hear(from, holding));
    assert_eq!(lone.front.role(), Role::Active);
}

fn nobody_votes_while_it_hears_a_leader(mutant: Mutant) {
    let mut lone = Lone::new(2, 3, mutant);
    lone.now += 2 * T;
    lone.hear(1, |row| Row { promised: 4, voted_for: 1, leads: 4, echo_epoch: 4, ..row });
    lone.now += T / 2;
    lone.hear(3, |row| Row { promised: 5, voted_for: 3, ..row });
    assert_ne!(lone.front.facts().voted_for, 3, "a leader was heard within T");
    lone.now += T;
    lone.hear(3, |row| Row { promised: 6, voted_for: 3, ..row });
    assert_eq!((lone.front.facts().promised, lone.front.facts().voted_for), (6, 3));
}

fn a_leaders_own_copy_counts_when_it_is_on_disk(mutant: Mutant) {
    seeded(2, mutant, |world| {
        let old = leader(world);
        world.node(old).hangs = true;
        world.run(20 * MILLI);
        let commits = world.commits;
        world.run(3 * T);
        assert_eq!(world.commits, commits, "one of two disks hangs");
    });
}

fn two_imports_of_one_generation_do_not_hear_each_other(mutant: Mutant) {
    let mut lone = Lone::new(1, 3, mutant);
    let other = Generation { number: 1, nonce: 6 };
    lone.hear_of(2, other, |row| Row { promised: 9, leads: 9, ..row });
    assert_eq!(lone.front.leader(Time(lone.now)), None);
    assert!(!lone.front.facts().quarantined);
    lone.hear_of(2, Generation { number: 0, nonce: 5 }, |row| Row { leads: 9, ..row });
    assert_eq!(lone.front.leader(Time(lone.now)), None, "an older history");
}

fn a_higher_generation_ends_a_master_for_good(mutant: Mutant) {
    let mut lone = Lone::new(1, 3, mutant);
    lone.hear_of(2, Generation { number: 2, nonce: 6 }, |row| row);
    assert!(lone.front.durable().quarantined, "its writes would be lost");
}

/// What a datagram is must be told by its head alone.
#[test]
fn what_masters_say_is_of_a_family_of_its_own() {
    let pull = Replica::Pull { version: Version::default(), hash: 0, at: 0 };
    let mut bytes = [0; 16];
    let bytes = encode(&Head::Gossip(Gossip::Replica(pull)), &mut bytes).unwrap();
    assert_eq!(bytes, [11, 1, 2, 0, 0, 0, 0]);
    assert_eq!(Net::LAN.loss, 0);
}

/// One whose body was damaged missed the change and then promised a later epoch: nobody can tell it of
/// the change any more, and a majority that works needs its vote. As it came up in a life, before the
/// registry had the tables that it has now: with them that life goes another way, and shows it no more.
fn who_missed_a_change_of_the_roster_grants_by_the_count_of_the_asker(mutant: Mutant) {
    assert!(crate::lives::life(3_723, 4, mutant).steps > 0);
}
