//! How rows are found by what they are about, and kept in lists without memory of their own.
//!
//! Rows carry their own links, so an index costs one bucket a row and a list costs nothing. Which
//! link belongs to which list or index is a number that the row's type defines.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::table::{Id, Table};

record! {
    /// The neighbours of a row in one list, as index + 1; 0 = none.
    #[derive(Default)]
    pub struct Link {
        before: u32,
        after: u32,
    }

    /// The ends of a list of rows, as index + 1; 0 = empty.
    #[derive(Default)]
    pub struct Chain {
        first: u32,
        last: u32,
        len: u32,
    }

    /// The first row of a bucket, as index + 1; 0 = none.
    pub struct Bucket {
        first: u32,
    }
}

/// A row that is in lists.
pub trait Linked {
    /// Its neighbours in list number `list`.
    fn link(&self, list: usize) -> Link;

    /// The same, to be changed.
    fn link_mut(&mut self, list: usize) -> &mut Link;
}

/// A row that is in indexes.
pub trait Chained {
    /// The next row of its bucket in index number `index`, as table index + 1.
    fn next(&self, index: usize) -> u32;

    /// The same, to be changed.
    fn next_mut(&mut self, index: usize) -> &mut u32;
}

impl Chain {
    /// A list without rows.
    pub const EMPTY: Self = Self { first: 0, last: 0, len: 0 };

    /// Rows in it.
    pub const fn len(self) -> u32 {
        self.len
    }

    /// True when it has none.
    pub const fn is_empty(self) -> bool {
        self.first == 0
    }

    /// Its first row.
    pub fn first<T: Copy>(self, rows: &Table<'_, T>) -> Option<Id> {
        rows.id_at(self.first.checked_sub(1)?)
    }

    /// Its last row.
    pub fn last<T: Copy>(self, rows: &Table<'_, T>) -> Option<Id> {
        rows.id_at(self.last.checked_sub(1)?)
    }

    /// Appends a row that is not yet in it. O(1).
    pub fn push<T: Copy + Linked>(&mut self, rows: &mut Table<'_, T>, list: usize, id: Id) {
        let place = id.index.saturating_add(1);
        let Some(row) = rows.get_mut(id) else { return };
        *row.link_mut(list) = Link { before: self.last, after: 0 };
        match row_at(rows, self.last) {
            Some(last) => last.link_mut(list).after = place,
            None => self.first = place,
        }
        self.last = place;
        self.len = self.len.saturating_add(1);
    }

    /// Takes a row out that is in it. O(1).
    pub fn remove<T: Copy + Linked>(&mut self, rows: &mut Table<'_, T>, list: usize, id: Id) {
        let Some(row) = rows.get_mut(id) else { return };
        let Link { before, after } = core::mem::take(row.link_mut(list));
        match row_at(rows, before) {
            Some(row) => row.link_mut(list).after = after,
            None => self.first = after,
        }
        match row_at(rows, after) {
            Some(row) => row.link_mut(list).before = before,
            None => self.last = before,
        }
        invariant!(self.len > 0, "a row leaves a list that has none");
        self.len = self.len.saturating_sub(1);
    }
}

/// The row behind one in list number `list`.
pub fn after<T: Copy + Linked>(rows: &Table<'_, T>, list: usize, id: Id) -> Option<Id> {
    let after = rows.get_ref(id)?.link(list).after;
    rows.id_at(after.checked_sub(1)?)
}

/// The row before one in list number `list`.
pub fn before<T: Copy + Linked>(rows: &Table<'_, T>, list: usize, id: Id) -> Option<Id> {
    let before = rows.get_ref(id)?.link(list).before;
    rows.id_at(before.checked_sub(1)?)
}

fn row_at<'t, T: Copy>(rows: &'t mut Table<'_, T>, place: u32) -> Option<&'t mut T> {
    rows.row_mut(place.checked_sub(1)?)
}

/// Finds rows of one table by a hash of what they are about.
#[derive(Debug)]
pub struct Index<'a> {
    buckets: &'a mut [Bucket],
    seed: u64,
}

impl<'a> Index<'a> {
    /// An index without rows. `buckets` must be zero; as many as rows keep it fast.
    pub fn new(buckets: &'a mut [Bucket], seed: u64) -> Self {
        Self { buckets, seed }
    }

    /// Gives the memory back.
    pub fn release(self) -> &'a mut [Bucket] {
        self.buckets
    }

    /// The hash of a pair of numbers, keyed so that nobody can choose colliding ones.
    pub fn hash(&self, a: u64, b: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, 1);
        hasher.write(&a.to_le_bytes());
        hasher.write(&b.to_le_bytes());
        hasher.finish()
    }

    /// The row with this hash that `is` accepts. O(1) on average.
    pub fn find<T: Copy + Chained>(
        &self,
        rows: &Table<'_, T>,
        index: usize,
        hash: u64,
        is: impl Fn(&T) -> bool,
    ) -> Option<Id> {
        let mut next = self.buckets.get(self.bucket(hash)?)?.first;
        while let Some(row) = rows.row(next.checked_sub(1)?) {
            if is(row) {
                return rows.id_at(next.checked_sub(1)?);
            }
            next = row.next(index);
        }
        None
    }

    /// Adds a row under `hash`. O(1).
    pub fn insert<T: Copy + Chained>(
        &mut self,
        rows: &mut Table<'_, T>,
        index: usize,
        hash: u64,
        id: Id,
    ) {
        let Some(bucket) = self.bucket(hash).and_then(|b| self.buckets.get_mut(b)) else { return };
        let Some(row) = rows.get_mut(id) else { return };
        *row.next_mut(index) = core::mem::replace(&mut bucket.first, id.index.saturating_add(1));
    }

    /// Takes a row out that was added under `hash`. O(1) on average.
    pub fn remove<T: Copy + Chained>(
        &mut self,
        rows: &mut Table<'_, T>,
        index: usize,
        hash: u64,
        id: Id,
    ) {
        let Some(bucket) = self.bucket(hash).and_then(|b| self.buckets.get_mut(b)) else { return };
        let place = id.index.saturating_add(1);
        let Some(next) = rows.get_mut(id).map(|row| core::mem::take(row.next_mut(index))) else {
            return;
        };
        if bucket.first == place {
            bucket.first = next;
            return;
        }
        let mut before = bucket.first;
        while let Some(row) = row_at(rows, before) {
            let link = row.next_mut(index);
            if *link == place {
                *link = next;
                return;
            }
            before = *link;
        }
        invariant!(false, "a row is in no bucket of its index");
    }

    /// Forgets every row, before all are added anew: after an import.
    pub fn clear(&mut self) {
        self.buckets.fill(Bucket { first: 0 });
    }

    fn bucket(&self, hash: u64) -> Option<usize> {
        let buckets = u64::try_from(self.buckets.len()).ok()?;
        usize::try_from(hash.checked_rem(buckets)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Zero;
    use crate::table::Slot;
    use std::vec;
    use std::vec::Vec;

    record! {
        struct Row {
            key: u64,
            links: [Link; 2],
            next: u32,
        }
    }

    impl Linked for Row {
        fn link(&self, list: usize) -> Link {
            self.links[list]
        }

        fn link_mut(&mut self, list: usize) -> &mut Link {
            &mut self.links[list]
        }
    }

    impl Chained for Row {
        fn next(&self, _index: usize) -> u32 {
            self.next
        }

        fn next_mut(&mut self, _index: usize) -> &mut u32 {
            &mut self.next
        }
    }

    fn walk(rows: &Table<'_, Row>, chain: Chain, list: usize) -> Vec<u64> {
        let mut keys = vec![];
        let mut next = chain.first(rows);
        while let Some(id) = next {
            keys.push(rows.get(id).unwrap().key);
            next = after(rows, list, id);
        }
        keys
    }

    #[test]
    fn a_row_is_in_each_of_its_lists_until_it_leaves_that_one() {
        let mut memory = vec![Slot::<Row>::ZERO; 4];
        let mut rows = Table::new(&mut memory);
        let (mut a, mut b) = (Chain::EMPTY, Chain::EMPTY);
        let ids: Vec<_> =
            (0..4).map(|key| rows.insert(Row { key, ..Row::ZERO }).unwrap()).collect();
        for &id in &ids {
            a.push(&mut rows, 0, id);
            b.push(&mut rows, 1, id);
        }
        for &n in &[0, 3, 1] {
            a.remove(&mut rows, 0, ids[n]);
        }
        assert_eq!(walk(&rows, a, 0), [2]);
        assert_eq!(walk(&rows, b, 1), [0, 1, 2, 3]);
        a.remove(&mut rows, 0, ids[2]);
        assert!(a.is_empty());
        a.push(&mut rows, 0, ids[3]);
        assert_eq!(walk(&rows, a, 0), [3]);
    }

    #[test]
    fn an_index_finds_what_is_in_it_and_nothing_else() {
        let mut memory = vec![Slot::<Row>::ZERO; 50];
        let mut buckets = vec![Bucket::ZERO; 7];
        let mut rows = Table::new(&mut memory);
        let mut index = Index::new(&mut buckets, 3);
        let find = |index: &Index<'_>, rows: &Table<'_, Row>, key: u64| {
            index.find(rows, 0, index.hash(key, 0), |row| row.key == key)
        };
        let mut ids = vec![];
        for key in 0..50 {
            let id = rows.insert(Row { key, ..Row::ZERO }).unwrap();
            let hash = index.hash(key, 0);
            index.insert(&mut rows, 0, hash, id);
            ids.push(id);
        }
        for key in (0..50).step_by(2) {
            let hash = index.hash(key, 0);
            index.remove(&mut rows, 0, hash, ids[key as usize]);
            rows.remove(ids[key as usize]);
        }
        for key in 0..60 {
            let expected = (key < 50 && key % 2 == 1).then(|| ids[key as usize]);
            assert_eq!(find(&index, &rows, key), expected, "{key}");
        }
    }
}
