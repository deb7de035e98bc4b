//! What a network does not carry whole: said again in parts, each a datagram of at most 576 bytes.
//!
//! A path that drops what is larger, and says so to nobody, lets the small facts of masters through and
//! none of the registry. So whoever says the same for the third time says it in parts as well, and goes on
//! so for a while. Whole datagrams are sent all the same: the path may be as it was before, and a master of
//! an earlier release knows no parts.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use mesita_core::limits::{PART_MAX, PARTS_MAX};
use mesita_core::time::Time;
use mesita_core::wire::gossip::Gossip;

/// How often the same is said before it is said in parts.
const TRIES: u8 = 3;
/// Things said last that are known again.
const RECENT: usize = 4;
/// How long everything large is said in parts after that, in µs.
const NARROW_US: u64 = 60_000_000;

/// Who is sent parts.
#[derive(Debug, Default)]
pub(super) struct Narrow {
    of: BTreeMap<u8, Path>,
}

/// The way to a master.
#[derive(Debug, Default)]
struct Path {
    /// What was said last, by its hash, and how often.
    said: [(u64, u8); RECENT],
    next: usize,
    until: Time,
}

impl Narrow {
    /// Something is said to a master: true when it is to be said in parts, too.
    pub(super) fn needs_parts(&mut self, to: u8, head: &[u8], now: Time) -> bool {
        if head.len() <= PART_MAX || head.len() > PART_MAX * PARTS_MAX {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        head.hash(&mut hasher);
        let hash = hasher.finish();
        let path = self.of.entry(to).or_default();
        match path.said.iter_mut().find(|(of, times)| *of == hash && *times > 0) {
            Some((_, times)) => {
                *times = times.saturating_add(1);
                if *times >= TRIES {
                    path.until = now.after(NARROW_US);
                }
            }
            None => {
                path.said[path.next] = (hash, 1);
                path.next = (path.next + 1) % RECENT;
            }
        }
        now < path.until
    }
}

/// The parts of a head, the first of which goes in the envelope of that number.
pub(super) fn parts(head: &[u8], of: u64) -> impl Iterator<Item = Gossip<'_>> {
    let count = u8::try_from(head.len().div_ceil(PART_MAX)).unwrap_or(u8::MAX);
    let numbered = (0..count).zip(head.chunks(PART_MAX));
    numbered.map(move |(at, bytes)| Gossip::Part { of, at, count, bytes })
}

/// What comes in parts: one thing of each master at a time, the newest.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    of: BTreeMap<u8, Whole>,
}

#[derive(Debug)]
struct Whole {
    /// Its start, and the number of its first part.
    named: (u32, u64),
    parts: Vec<Option<Vec<u8>>>,
}

impl Wholes {
    /// A part came of a master, which began as `nonce` says; all of it when it was the last one.
    pub(super) fn put(
        &mut self,
        sender: u8,
        nonce: u32,
        (of, at, count): (u64, u8, u8),
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let named = (nonce, of);
        let known = self.of.remove(&sender).filter(|whole| whole.named == named);
        let parts = vec![None; usize::from(count).min(PARTS_MAX)];
        let mut whole = known.unwrap_or(Whole { named, parts });
        // Of another count than the first one said: nobody's.
        *whole.parts.get_mut(usize::from(at))? = Some(bytes.to_owned());
        if whole.parts.iter().all(Option::is_some) {
            return Some(whole.parts.into_iter().flatten().flatten().collect());
        }
        self.of.insert(sender, whole);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_for_the_third_time_goes_in_parts_and_so_does_what_follows_for_a_while() {
        let mut narrow = Narrow::default();
        let (large, other, small) = ([1; 1_000], [2; 1_000], [3; PART_MAX]);
        let mut needs = |head: &[u8], at| narrow.needs_parts(2, head, Time(at));
        assert_eq!([needs(&large, 0), needs(&other, 1), needs(&large, 2)], [false; 3]);
        assert!(needs(&large, 3), "the third time");
        assert!(needs(&[4; 500], 4), "something else");
        assert_eq!([(); 5].map(|()| needs(&small, 5)), [false; 5], "it fits");
        assert_eq!([(); 5].map(|()| needs(&[0; 3_000], 6)), [false; 5], "more than all parts");
        assert!(!needs(&[5; 500], 3 + NARROW_US), "later");
        assert!(!narrow.needs_parts(3, &large, Time(5)), "somebody else");
    }

    #[test]
    fn parts_make_a_whole_whatever_is_lost_of_one_before() {
        let head: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let mut wholes = Wholes::default();
        let mut put = |sender: u8, part: &Gossip<'_>| {
            let Gossip::Part { of, at, count, bytes } = part else { unreachable!() };
            wholes.put(sender, 7, (*of, *at, *count), bytes)
        };
        let lost: Vec<_> = parts(&head, 10).collect();
        assert_eq!(lost.len(), 3);
        assert_eq!((put(1, &lost[0]), put(1, &lost[2])), (None, None));
        let again: Vec<_> = parts(&head, 20).collect();
        assert_eq!(put(1, &again[1]), None);
        assert_eq!(put(2, &again[0]), None, "another master's");
        assert_eq!((put(1, &again[0]), put(1, &again[2])), (None, Some(head.clone())));
        assert_eq!(put(1, &again[2]), None, "it is said once");
        let outside = Gossip::Part { of: 30, at: 9, count: 2, bytes: &[1] };
        assert_eq!(put(1, &outside), None);
    }
}
