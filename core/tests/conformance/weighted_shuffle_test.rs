//! `WeightedShuffleTest`: a shuffle in which weight means being early.

use crate::random_sorter_test::places;

#[test]
fn probability_distribution() {
    // Weights 1, 2, 3: exact chances of each place, by enumerating all six orders.
    let weights = [1u32, 2, 3];
    let mut expected = [[0.0f64; 3]; 3];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut left: u32 = weights.iter().sum();
        let mut chance = 1.0;
        for who in order {
            chance *= f64::from(weights[who]) / f64::from(left);
            left -= weights[who];
        }
        for (place, who) in order.into_iter().enumerate() {
            expected[place][who] += chance * 1_000.0;
        }
    }
    let roles = [("a", 1_000), ("b", 2_000), ("c", 3_000)];
    let found = places(&roles, &["a", "b", "c"], 3_000, 7);
    for (found, expected) in found.iter().zip(expected) {
        for (found, expected) in found.iter().zip(expected) {
            let off = (f64::from(*found) - expected).abs();
            assert!(off < 40.0, "{found} for {expected}");
        }
    }
}
