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
    /// A node of the tree.
    pub struct Node {
        /// What it has of its dominant resource, in thousandths.
        pub dominant: u64,
        /// The cluster's total of that resource; 1 while the node has nothing.
        pub total: u64,
        /// Its weight among its siblings, in thousandths.
        pub weight: u32,
        /// What it is.
        pub kind: NodeKind,
        /// Wants nothing of the agent at hand: skipped until the next agent.
        pub passed: bool,
        /// A client that takes offers: not suppressed, and its framework is there.
        pub wants: bool,
        /// A client that its scheduler suppressed.
        pub suppressed: bool,
        /// How often it, or a node below, was offered something.
        pub count: u64,
        /// Breaks ties: the first eight bytes of a role's last component, or a framework's slot.
        pub order: u64,
        /// The node above, as index + 1; 0 = none.
        pub parent: u32,
        /// The match it is a side of.
        pub seat: Ref,
        /// Those below that want something.
        pub group: Group,
        /// Nodes below, whether they want something or not.
        pub children: u32,
        /// A role's whole path.
        pub name: Name,
        /// A client's framework: its slot in the master's table.
        pub framework: u32,
        /// What a client's framework understands: bits of `Capability`.
        pub capabilities: u32,
        /// A client's filters.
        pub filters: Chain,
        /// A client's least acceptable amounts; empty = the master's.
        pub minimums: List,
        /// A client that takes anything, however little.
        pub takes_anything: bool,
        /// A role whose weight an operator set: it stays when nobody is in it.
        pub weighted: bool,
        /// The next node passed over for the agent at hand, as index + 1.
        pub passed_next: u32,
        /// The next of its bucket in the index of nodes; no state, an import builds it anew.
        #[serde(skip)]
        next: u32,
        /// Offered to it, or used by it: thousandths by kind, everything below included.
        pub allocated: Quantities,
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
        Self {
            kind,
            parent: parent.saturating_add(1),
            weight: WEIGHT_ONE,
            total: 1,
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// The slot of the node above.
    pub const fn above(&self) -> Option<u32> {
        self.parent.checked_sub(1)
    }

    /// Finds its dominant resource among `totals`. Exact, O(kinds).
    pub fn rekey(&mut self, totals: &Quantities) {
        (self.dominant, self.total) = (0, 1);
        for (kind, amount) in self.allocated.iter() {
            let total = totals.of(kind);
            // A fraction larger than the best so far, by cross-multiplication: 50 + 50 bits.
            let mine = u128::from(amount).wrapping_mul(u128::from(self.total));
            let best = u128::from(self.dominant).wrapping_mul(u128::from(total));
            if total > 0 && mine > best {
                (self.dominant, self.total) = (amount, total);
            }
        }
    }
}

/// The weight 1, in thousandths.
pub const WEIGHT_ONE: u32 = 1000;

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
    use crate::resources::pool::{CPUS, DISK, MEM};

    #[test]
    fn the_dominant_resource_is_the_largest_fraction() {
        let mut totals = Quantities::NONE;
        totals.set(CPUS, 9_000);
        totals.set(MEM, 18_000);
        let mut node = Node::new(NodeKind::Client, 0);
        node.rekey(&totals);
        assert_eq!((node.dominant, node.total), (0, 1));
        node.allocated.set(CPUS, 1_000);
        node.allocated.set(MEM, 4_000);
        node.allocated.set(DISK, 7_000);
        node.rekey(&totals);
        assert_eq!((node.dominant, node.total), (4_000, 18_000), "there is no disk to share");
    }

    #[test]
    fn names_order_as_their_bytes_do() {
        assert!(order_of("a") < order_of("ab") && order_of("ab") < order_of("b"));
        assert!(order_of(".") < order_of("a") && order_of("") == 0);
        assert_eq!(order_of("abcdefgh1"), order_of("abcdefgh2"));
    }
}
