//! Who the masters are: the roster, the cluster's T, and who wrote last. The first table of the
//! registry, and beside the vote, so that it is known while the rest is damaged.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::limits::{MASTER_ID_MAX, MASTERS_MAX};

/// Bytes that a [`Meta`] takes at the most, and that its table has.
pub const META_MAX: usize = 384;
/// Voters at the most; four of them only between three and five.
pub const VOTERS_MAX: usize = 7;

record! {
    /// A master of the roster.
    pub struct Member {
        /// Its id, never used again after it left.
        pub id: u8,
        /// It votes; else it is the learner, which only follows.
        pub voter: bool,
        /// The key that it proves itself with.
        pub key: [u8; 32],
    }
}

/// Who counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Counted up with each change.
    pub version: u32,
    /// The id that the next new master gets.
    pub next: u8,
    /// A bit for each voter of the roster before this one.
    pub before: u64,
    /// The masters, by id.
    pub members: Vec<Member, MASTERS_MAX>,
}

/// A change of the roster: one master at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new master follows; it is given the next id.
    Add {
        /// The key that it proves itself with.
        key: [u8; 32],
    },
    /// The learner votes from now on.
    Promote {
        /// Which.
        id: u8,
    },
    /// A master is gone for good, or its disk is.
    Remove {
        /// Which.
        id: u8,
    },
}

/// The first slot of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The master that wrote the newest opening.
    pub leader: u8,
    /// The epoch of that opening.
    pub epoch: u32,
    /// The unit of every timer of the election, in µs; one value for the whole cluster.
    pub t_us: u32,
    /// The masters.
    pub roster: Roster,
}

/// The bit of an id in a set of ids.
pub const fn bit(id: u8) -> u64 {
    1u64.wrapping_shl(id as u32)
}

impl Roster {
    /// The first roster: ids are places in the list, from 1.
    pub fn first(keys: &[[u8; 32]]) -> Self {
        let mut roster = Self { version: 1, next: 1, ..Self::default() };
        for key in keys.iter().take(VOTERS_MAX) {
            let member = Member { id: roster.next, voter: true, key: *key };
            if roster.members.push(member).is_ok() {
                roster.next = roster.next.saturating_add(1);
            }
        }
        roster
    }

    /// A bit for each voter.
    pub fn voters(&self) -> u64 {
        let voters = self.members.iter().filter(|member| member.voter);
        voters.fold(0, |set, member| set | bit(member.id))
    }

    /// How many of the voters must agree.
    pub fn quorum(&self) -> u32 {
        (self.voters().count_ones() / 2).saturating_add(1)
    }

    /// True when `set` has a majority of the voters.
    pub fn is_majority(&self, set: u64) -> bool {
        (set & self.voters()).count_ones() >= self.quorum()
    }

    /// True for voters and the learner.
    pub fn has(&self, id: u8) -> bool {
        self.members.iter().any(|member| member.id == id)
    }

    /// True when a vote may be cast for `id`: a voter now, or in the roster before.
    pub fn may_lead(&self, id: u8) -> bool {
        (self.voters() | self.before) & bit(id) != 0
    }

    /// The master that follows without a vote.
    pub fn learner(&self) -> Option<u8> {
        self.members.iter().find(|member| !member.voter).map(|member| member.id)
    }

    /// The roster after one change; none if the change is none, or one too many.
    pub fn changed(&self, change: Change) -> Option<Self> {
        let mut next = self.clone();
        next.version = self.version.checked_add(1)?;
        next.before = self.voters();
        match change {
            Change::Add { key } => {
                let known = next.members.iter().any(|member| member.key == key);
                let room = next.voters().count_ones() < u32::try_from(VOTERS_MAX).unwrap_or(0);
                if known || !room || next.learner().is_some() || !can_be_id(next.next) {
                    return None;
                }
                next.members.push(Member { id: next.next, voter: false, key }).ok()?;
                next.next = next.next.saturating_add(1);
            }
            Change::Promote { id } => {
                let mut members = next.members.iter_mut();
                members.find(|member| member.id == id && !member.voter)?.voter = true;
            }
            Change::Remove { id } => {
                next.members.clear();
                for member in self.members.iter().filter(|member| member.id != id) {
                    next.members.push(*member).ok()?;
                }
                if next.members.len() == self.members.len() || next.voters() == 0 {
                    return None;
                }
            }
        }
        Some(next)
    }
}

fn can_be_id(id: u8) -> bool {
    id > 0 && usize::from(id) <= MASTER_ID_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: u8) -> Roster {
        let keys: std::vec::Vec<_> = (0..voters).map(|at| [at + 1; 32]).collect();
        Roster::first(&keys)
    }

    #[test]
    fn majorities_are_those_of_the_table() {
        let quorums: std::vec::Vec<_> = (1..=7).map(|n| of(n).quorum()).collect();
        assert_eq!(quorums, [1, 2, 2, 3, 3, 4, 4]);
        assert!(of(3).is_majority(bit(1) | bit(3)));
        assert!(!of(3).is_majority(bit(1) | bit(9)), "strangers do not count");
    }

    #[test]
    fn a_roster_changes_by_one_and_majorities_of_neighbours_meet() {
        let three = of(3);
        let learning = three.changed(Change::Add { key: [9; 32] }).unwrap();
        assert_eq!((learning.learner(), learning.voters()), (Some(4), three.voters()));
        assert_eq!(learning.changed(Change::Add { key: [8; 32] }), None, "one learner at a time");
        let four = learning.changed(Change::Promote { id: 4 }).unwrap();
        assert_eq!((four.quorum(), four.before), (3, three.voters()));
        assert_eq!(four.changed(Change::Promote { id: 4 }), None);
        let again = four.changed(Change::Remove { id: 1 }).unwrap();
        assert!(again.may_lead(1) && !again.has(1), "the predecessor's voters may still win");
        assert_eq!(again.next, 5, "an id is not used again");
        assert_eq!(of(1).changed(Change::Remove { id: 1 }), None, "somebody must vote");
        assert_eq!(again.changed(Change::Remove { id: 1 }), None);
    }

    #[test]
    fn the_largest_meta_fits_its_slot() {
        let mut meta = Meta { epoch: u32::MAX, t_us: u32::MAX, leader: 63, roster: of(7) };
        meta.roster.before = u64::MAX;
        meta.roster.version = u32::MAX;
        meta.roster.members.push(Member { id: 63, voter: false, key: [255; 32] }).unwrap();
        let mut memory = [0; META_MAX];
        assert!(postcard::to_slice(&meta, &mut memory).is_ok());
    }
}
