//! `RandomSorterTest`: the policy that draws by weights.

use mesita_core::allocator::{Config, Policy};

use crate::support::allocation::{Rig, capacity, config};

/// In which place each client came, in thousandths of all times, over so many agents.
///
/// Whoever is offered the agent declines it without a filter, and is out of the way until everybody
/// had a turn: a shuffle without replacement.
pub(crate) fn places(
    weights: &[(&str, u32)],
    clients: &[&str],
    times: u32,
    seed: u64,
) -> Vec<Vec<u32>> {
    let policy = Policy::Random;
    let config = Config { role_sorter: policy, framework_sorter: policy, ..config() };
    let mut rig = Rig::with(config, capacity(), seed);
    clients.iter().for_each(|role| rig.framework(role, &[role]));
    weights.iter().for_each(|(role, weight)| rig.weight(role, *weight));
    rig.agent("one", "cpus:1;mem:100");
    let mut counts = vec![vec![0; clients.len()]; clients.len()];
    for _ in 0..times {
        for row in &mut counts {
            let offers = rig.allocate();
            assert_eq!(offers.len(), 1);
            let who = clients.iter().position(|name| *name == offers[0].framework).unwrap();
            row[who] += 1;
            // A refusal of a second keeps it out until all had their turn.
            rig.decline(&offers[0].framework, "one", 1_000_000);
        }
        assert_eq!(rig.allocate(), [], "everybody had a turn");
        rig.wait(1_000_000);
    }
    for row in &mut counts {
        row.iter_mut().for_each(|count| *count = *count * 1_000 / times);
    }
    counts
}

fn check(found: &[Vec<u32>], expected: &[&[u32]]) {
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (who, (found, expected)) in found.iter().zip(*expected).enumerate() {
            let off = found.abs_diff(*expected);
            assert!(off <= 50, "client {who} came {place}th {found} times in 1000, not {expected}");
        }
    }
}

#[test]
fn hierarchical_probability_distribution() {
    let weights = [("a", 1_000), ("a/b", 2_000), ("c", 2_000), ("c/d", 1_000), ("c/e", 2_000)];
    let found = places(&weights, &["a", "a/b", "c/d", "c/e"], 4_000, 3);
    // By row the place, by column who: a 1/3 of a third, a/b 2/3 of it, c/d 1/3 of the rest.
    let expected: [&[u32]; 4] =
        [&[110, 220, 220, 440], &[150, 270, 270, 310], &[230, 300, 300, 180], &[510, 210, 210, 70]];
    check(&found, &expected);
}

#[test]
fn probability_distribution() {
    let weights = [("a", 1_000), ("b", 2_000), ("c", 3_000), ("d", 4_000), ("e", 5_000)];
    let found = places(&weights, &["a", "b", "c", "d", "e"], 2_000, 5);
    check(&found[..1], &[&[70, 130, 200, 270, 330]]);
}
