//! The only source of chance in the core: a seed from the configuration, drawn in order.

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};

/// A stream of draws that a seed fixes (SplitMix64, Steele et al., OOPSLA 2014). 8 bytes.
///
/// Good enough to shuffle and to spread; not for keys or tokens, which come from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable, Serialize, Deserialize)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A stream of its own for every seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A draw in `0..bound`; 0 when `bound` is 0.
    ///
    /// Takes the high half of a 64 × 32 bit product: the bias is below bound / 2^64, and no draw
    /// is thrown away, so that every decision consumes a known number of them.
    pub const fn below(&mut self, bound: u32) -> u32 {
        let product = (self.draw() as u128).wrapping_mul(bound as u128);
        let high = product >> 64;
        // Below `bound` by construction, so the narrowing loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        {
            high as u32
        }
    }

    /// [`Rng::below`] for a larger bound: the bias is below bound / 2^64.
    pub const fn below_u64(&mut self, bound: u64) -> u64 {
        let product = (self.draw() as u128).wrapping_mul(bound as u128);
        // Below `bound` by construction, so the narrowing loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        {
            (product >> 64) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_draws_of_seed_zero_are_those_of_the_paper() {
        let mut rng = Rng::new(0);
        assert_eq!(rng.draw(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.draw(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn a_bounded_draw_stays_below_its_bound_and_reaches_both_ends() {
        let mut rng = Rng::new(7);
        let mut seen = [0u32; 3];
        for _ in 0..3_000 {
            seen[rng.below(3) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 900), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }
}
