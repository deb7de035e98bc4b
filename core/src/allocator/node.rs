//! The tree that shares are divided in: roles by their paths, and the frameworks in each.
//!
//! ```text
//! root ─┬ eng ─┬ web ─ (own) ─ framework 7
//!       │      └ (own) ─┬ framework 7
//!       │               └ framework 9
//!       └ ops ─ (own) ─ framework 2
//! ```
//! A role that frameworks subscribed in has a node of its own for them, Mesos' virtual leaf `.`,
//! which competes with the roles below. A framework in a role is a client: a leaf, which gets
//! offers.

use super::totals::Totals;
use super::tree::{Group, Ref};
use crate::index::{Chain, Chained};
use crate::names::Name;
use crate::resources::Quantities;
use crate::slab::List;

choice! {
    /// What a node is.
    pub enum NodeKind {
        /// The tree's root.
        Root = 0,
        /// A component of a role's path.
        Role = 1,
        /// The frameworks of a role itself, beside the roles below it.
        Own = 2,
        /// A framework in a role.
        Client = 3,
    }
}

record! {
    /// What a node is compared by. It stands together, for it is read at every match.
    pub struct Rank {
        /// Its share, rounded: see [`Totals::share`]. Of a node without competitors it may be old.
        pub key: u64,
        /// What it has of its dominant resource, in thousandths.
        pub dominant: u64,
        /// The cluster's total of that resource; 1 while the node has nothing.
        pub total: u64,
        /// How often it, or a node below, was offered something.
        pub count: u64,
        /// Breaks ties: the first eight bytes of a role's last component, or a framework's slot.
        pub order: u64,
        /// Its weight among its siblings, in thousandths.
        pub weight: u32,
        /// How much of what is below it was not passed over for the agent at hand, in 2^-24: what a
        /// draw by weights counts.
        pub left: u32,
    }

    /// A node of the tree.
    pub struct Node {
        /// What it is compared by.
        pub rank: Rank,
        /// Offered to it, or used by it: thousandths by kind, everything below included.
        pub allocated: Quantities,
        /// The node above, as index + 1; 0 = none.
        pub parent: u32,
        /// The match it is a side of: among all that want something, and among those in need.
        pub seats: [Ref; 2],
        /// Those below that want something, and those of them that are short of a guarantee.
        pub groups: [Group; 2],
        /// The weights of those below that want something, together.
        pub weights: u64,
        /// Nodes below, whether they want something or not.
        pub children: u32,
        /// A role's whole path.
        pub name: Name,
        /// A client's framework: its slot in the master's table.
        pub framework: u32,
        /// What a client's framework understands: bits of `Capability`.
        pub capabilities: u32,
        /// A client's number: its bit in sets of clients.
        pub number: u32,
        /// A role's account, as index + 1.
        pub account: u32,
        /// A client's filters, and in how many agents' sets of refusals it is.
        pub filters: Chain,
        /// See `filters`.
        pub refusals: u32,
        /// A client's least acceptable amounts; empty = the master's.
        pub minimums: List,
        /// A client's constraints; empty = every agent will do.
        pub constraints: List,
        /// The next node passed over for the agent at hand, as index + 1.
        pub passed_next: u32,
        /// The next of its bucket in the index of nodes; no state, an import builds it anew.
        #[serde(skip)]
        next: u32,
        /// What it is.
        pub kind: NodeKind,
        /// Wants nothing of the agent at hand: skipped until the next agent.
        pub passed: bool,
        /// A client that takes offers: not suppressed, and its framework is there.
        pub wants: bool,
        /// A client that its scheduler suppressed.
        pub suppressed: bool,
        /// A client that takes anything, however little.
        pub takes_anything: bool,
        /// A role whose weight an operator set: it stays when nobody is in it.
        pub weighted: bool,
        /// A role so far at its limit that nothing can be offered to anybody below it.
        pub parked: bool,
        /// It is among those that want something.
        pub inside: bool,
        /// It is among those that are in need.
        pub in_need: bool,
        /// Its key is of older amounts: nobody competes with it.
        pub old: bool,
    }
}

impl Chained for Node {
    fn next(&self, _index: usize) -> u32 {
        self.next
    }

    fn next_mut(&mut self, _index: usize) -> &mut u32 {
        &mut self.next
    }
}

impl Node {
    /// A node that has nothing, below the node in slot `parent`.
    pub fn new(kind: NodeKind, parent: u32) -> Self {
        let rank =
            Rank { weight: WEIGHT_ONE, total: 1, left: LEFT_ALL, ..bytemuck::Zeroable::zeroed() };
        Self { kind, rank, parent: parent.saturating_add(1), ..bytemuck::Zeroable::zeroed() }
    }

    /// The slot of the node above.
    pub const fn above(&self) -> Option<u32> {
        self.parent.checked_sub(1)
    }

    /// Finds its dominant resource and its key. Exact, O(kinds).
    pub fn rekey(&mut self, totals: &Totals) {
        self.old = false;
        (self.rank.dominant, self.rank.total, self.rank.key) =
            totals.share(&self.allocated, self.rank.weight);
    }
}

/// The weight 1, in thousandths.
pub const WEIGHT_ONE: u32 = 1000;
/// Nothing of what is below was passed over.
pub const LEFT_ALL: u32 = 1 << 24;

/// What a role's name adds to an order of names: its first eight bytes, as a number.
pub fn order_of(name: &str) -> u64 {
    let mut order = [0; 8];
    for (to, from) in order.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    u64::from_be_bytes(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_order_as_their_bytes_do() {
        assert!(order_of("a") < order_of("ab") && order_of("ab") < order_of("b"));
        assert!(order_of(".") < order_of("a") && order_of("") == 0);
        assert_eq!(order_of("abcdefgh1"), order_of("abcdefgh2"));
    }
}
