//! Lists of small things that many rows own: the resources of agents, tasks and offers.
//!
//! One slab holds the nodes of all lists of its kind, so the bound is on their sum and a row only
//! carries 8 bytes. A list that is dropped without [`Slab::clear`] leaks its nodes; owners clear.

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};

use crate::image::{BadImage, Image, Reader, Writer};
use crate::record::Zero;
use crate::table::Full;

record! {
    /// Names a list in one slab: its first and last node, as index + 1. Zero is the empty list.
    #[derive(Default)]
    pub struct List {
        first: u32,
        last: u32,
    }
}

impl List {
    /// The list without elements.
    pub const EMPTY: Self = Self { first: 0, last: 0 };

    /// True when it has no element.
    pub const fn is_empty(self) -> bool {
        self.first == 0
    }
}

/// The memory of one element: lend a zeroed slice of them to [`Slab::new`].
#[derive(Clone, Copy, Debug, Zeroable, Serialize, Deserialize)]
#[repr(C)]
pub struct Node<T> {
    /// The next node of the list, or of the free chain, as index + 1.
    next: u32,
    value: T,
}

impl<T: Zero> Zero for Node<T> {
    const ZERO: Self = Self { next: 0, value: T::ZERO };
}

/// Nodes of all lists of one kind. The memory is the caller's; its length is the capacity.
#[derive(Debug)]
pub struct Slab<'a, T> {
    nodes: &'a mut [Node<T>],
    used: u32,
    live: u32,
    /// Freed nodes, last in first out: an order nobody sees, for lists are read front to back.
    free: u32,
}

impl<'a, T: Copy> Slab<'a, T> {
    /// A slab without lists in `nodes`, which must be all zero. O(1).
    pub fn new(nodes: &'a mut [Node<T>]) -> Self {
        Self { nodes, used: 0, live: 0, free: 0 }
    }

    /// Gives the memory back, as the lists left it.
    pub fn release(self) -> &'a mut [Node<T>] {
        self.nodes
    }

    /// Elements it can hold in all lists together.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX).min(u32::MAX.wrapping_sub(1))
    }

    /// Elements in all lists together.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// True when every list is empty.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Elements that can still be pushed.
    pub fn room(&self) -> u32 {
        self.capacity().saturating_sub(self.live)
    }

    /// Puts an element at the end of `list`. O(1).
    pub fn push(&mut self, list: &mut List, value: T) -> Result<(), Full> {
        let index = match self.free.checked_sub(1) {
            Some(index) => {
                self.free = self.nodes.get(index as usize).ok_or(Full)?.next;
                index
            }
            None if self.used < self.capacity() => {
                let index = self.used;
                self.used = self.used.saturating_add(1);
                index
            }
            None => return Err(Full),
        };
        if let Some(node) = self.nodes.get_mut(index as usize) {
            *node = Node { next: 0, value };
        }
        self.live = self.live.saturating_add(1);
        let place = index.saturating_add(1);
        match list.last.checked_sub(1) {
            Some(last) => {
                if let Some(last) = self.nodes.get_mut(last as usize) {
                    last.next = place;
                }
            }
            None => list.first = place,
        }
        list.last = place;
        Ok(())
    }

    /// The elements of `list`, front to back. O(its length).
    pub fn iter(&self, list: List) -> Items<'_, T> {
        Items { nodes: self.nodes, next: list.first }
    }

    /// The first element of what is left of a list, which then begins behind it: a walk that borrows
    /// nothing between its steps. O(1).
    pub fn step(&self, rest: &mut List) -> Option<T> {
        let node = self.nodes.get(rest.first.checked_sub(1)? as usize)?;
        rest.first = node.next;
        Some(node.value)
    }

    /// The elements of `list`, to be changed where they stand. O(its length).
    pub fn for_each(&mut self, list: List, mut change: impl FnMut(&mut T)) {
        let mut next = list.first;
        while let Some(node) =
            next.checked_sub(1).and_then(|index| self.nodes.get_mut(index as usize))
        {
            next = node.next;
            change(&mut node.value);
        }
    }

    /// Takes the first element out; its node is the next to be used. O(1).
    pub fn pop(&mut self, list: &mut List) -> Option<T> {
        let place = list.first;
        let node = self.nodes.get_mut(place.checked_sub(1)? as usize)?;
        let value = node.value;
        list.first = core::mem::replace(&mut node.next, self.free);
        if list.first == 0 {
            list.last = 0;
        }
        self.free = place;
        self.live = self.live.saturating_sub(1);
        Some(value)
    }

    /// Empties `list` and frees its nodes. O(its length).
    pub fn clear(&mut self, list: &mut List) {
        self.retain(list, |_| false);
    }

    /// Keeps the elements that `keep` accepts, in their order, and frees the others. O(length).
    pub fn retain(&mut self, list: &mut List, mut keep: impl FnMut(&mut T) -> bool) {
        let mut next = list.first;
        *list = List::EMPTY;
        while let Some(index) = next.checked_sub(1) {
            let place = next;
            let Some(node) = self.nodes.get_mut(index as usize) else { break };
            next = node.next;
            if keep(&mut node.value) {
                node.next = 0;
                match list.last.checked_sub(1) {
                    Some(last) => {
                        if let Some(last) = self.nodes.get_mut(last as usize) {
                            last.next = place;
                        }
                    }
                    None => list.first = place,
                }
                list.last = place;
            } else {
                node.next = self.free;
                self.free = place;
                self.live = self.live.saturating_sub(1);
            }
        }
    }
}

/// The elements of one list, by copy.
#[derive(Clone, Debug)]
pub struct Items<'s, T> {
    nodes: &'s [Node<T>],
    next: u32,
}

impl<T: Copy> Iterator for Items<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let node = self.nodes.get(self.next.checked_sub(1)? as usize)?;
        self.next = node.next;
        Some(node.value)
    }
}

impl<T: Copy + Serialize + for<'de> Deserialize<'de>> Image for Slab<'_, T> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&(self.used, self.live, self.free));
        for node in self.nodes.iter().take(self.used as usize) {
            to.put(node);
        }
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        (self.used, self.live, self.free) = from.take()?;
        for node in self.nodes.get_mut(..self.used as usize).ok_or(BadImage::TooLarge)? {
            *node = from.take()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn lists_keep_their_order_and_do_not_mix() {
        let mut memory = vec![Node::<u32>::ZERO; 6];
        let mut slab = Slab::new(&mut memory);
        let (mut odd, mut even) = (List::EMPTY, List::EMPTY);
        for n in 0..6 {
            slab.push(if n % 2 == 1 { &mut odd } else { &mut even }, n).unwrap();
        }
        assert_eq!(slab.iter(odd).collect::<Vec<_>>(), [1, 3, 5]);
        slab.retain(&mut odd, |n| *n != 5);
        slab.push(&mut even, 6).unwrap();
        assert_eq!(slab.iter(odd).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(slab.iter(even).collect::<Vec<_>>(), [0, 2, 4, 6]);
        assert_eq!(slab.pop(&mut odd), Some(1));
        slab.clear(&mut odd);
        assert!(odd.is_empty());
        assert_eq!((slab.len(), slab.pop(&mut odd)), (4, None));
        slab.for_each(even, |n| *n *= 10);
        assert_eq!(slab.iter(even).collect::<Vec<_>>(), [0, 20, 40, 60]);
    }

    #[test]
    fn a_full_slab_refuses_and_changes_nothing() {
        let mut memory = vec![Node::<u32>::ZERO; 1];
        let mut slab = Slab::new(&mut memory);
        let mut list = List::EMPTY;
        slab.push(&mut list, 1).unwrap();
        let before = (digest::of_image(&slab), list);
        assert_eq!(slab.push(&mut list, 2), Err(Full));
        assert_eq!((digest::of_image(&slab), list), before);
        assert_eq!(slab.room(), 0);
    }

    #[test]
    fn an_imported_slab_has_the_same_lists() {
        let (mut memory, mut other) = (vec![Node::<u32>::ZERO; 3], vec![Node::<u32>::ZERO; 3]);
        let mut slab = Slab::new(&mut memory);
        let mut list = List::EMPTY;
        for n in 0..3 {
            slab.push(&mut list, n).unwrap();
        }
        slab.retain(&mut list, |n| *n != 1);
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        slab.export(&mut Writer::new(&mut sink));
        let mut copy = Slab::new(&mut other);
        copy.import(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(copy.iter(list).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(copy.room(), 1);
    }
}
