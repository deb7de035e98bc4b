//! Policies: in which order siblings are offered what is free.
//!
//! A policy is one file and one line of `policies!` below. It sees nodes, never agents: quota,
//! filters and what an agent has are the allocator's, whoever comes first.

use super::node::{Node, Rank};
use super::tree::{Forest, Group, Outcome};
use crate::names::Names;
use crate::rand::Rng;
use crate::table::Table;

/// How siblings are ordered.
pub trait Sorter {
    /// What a leaf brings to its first match.
    fn value(&self, rank: &Rank) -> u64;

    /// What two sides of a match come to; either may have no winner.
    fn play(
        &self,
        nodes: &Table<'_, Node>,
        names: &Names<'_>,
        left: Outcome,
        right: Outcome,
    ) -> Outcome;

    /// The node of `group` to be served next, among those that want something.
    fn next(
        &self,
        forest: &Forest<'_>,
        nodes: &Table<'_, Node>,
        group: Group,
        rng: &mut Rng,
    ) -> Option<u32>;

    /// True when it draws: the order differs from time to time, and nobody can look it up.
    fn draws(&self) -> bool;
}

macro_rules! policies {
    ($d:tt $( $(#[$doc:meta])* $name:ident = $number:tt, $flag:literal => $sorter:path; )*) => {
        choice! {
            /// A policy, by its flag `--role-sorter` or `--framework-sorter`.
            pub enum Policy {
                $( $(#[$doc])* $name = $number, )*
            }
        }

        impl Policy {
            /// Every policy with the text of its flag.
            pub const ALL: &'static [(Self, &'static str)] = &[$( (Self::$name, $flag), )*];
        }

        /// Evaluates an expression with the sorter of a policy: compiled once for each of them, so
        /// that a comparison is no indirect call.
        macro_rules! under {
            ($d policy:expr, $d sorter:ident => $d body:expr) => {
                match $d policy {
                    $( Policy::$name => {
                        let $d sorter = &$sorter;
                        $d body
                    } )*
                }
            };
        }
        pub(super) use under;
    };
}

policies! { $
    /// Dominant Resource Fairness.
    Drf = 0, "drf" => crate::allocator::drf::Drf;
    /// By chance, in proportion to weights.
    Random = 1, "random" => crate::allocator::random::Random;
}
