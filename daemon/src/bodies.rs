//! The bounded store of bodies: what heads name and cores never see.
//!
//! A body comes with one holder, the input that brought it; a core keeps and drops it by
//! [`KeepBody`](mesita_core::master::Output::KeepBody) and its counterpart. Bytes are shared, so
//! a body that is being sent may leave the store meanwhile.

use std::sync::Arc;

use mesita_core::wire::BodyRef;

/// Bodies by slot.
pub(crate) struct Bodies {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    bytes: u64,
    max: u64,
    refused: u64,
}

struct Slot {
    bytes: Arc<[u8]>,
    hash: u64,
    holders: u32,
}

/// Room that was set aside for bodies that are about to arrive.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reserved(u64);

impl Reserved {
    /// Both as one.
    pub(crate) fn and(self, more: Self) -> Self {
        Self(self.0 + more.0)
    }
}

impl Bodies {
    /// A store of at most `max` bytes.
    pub(crate) fn new(max: u64) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), bytes: 0, max, refused: 0 }
    }

    /// Sets room aside before a byte is read. None, and counted, when there is not enough.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Option<Reserved> {
        let fits = self.bytes.saturating_add(bytes) <= self.max;
        if fits {
            self.bytes += bytes;
        } else {
            self.refused += 1;
        }
        fits.then_some(Reserved(bytes))
    }

    /// Room for bodies that were here before, and are in memory already: there is always some.
    pub(crate) fn reserve_again(&mut self, bytes: u64) -> Reserved {
        self.bytes = self.bytes.saturating_add(bytes);
        Reserved(bytes)
    }

    /// Gives room back that was not used.
    pub(crate) fn release(&mut self, reserved: Reserved) {
        self.bytes -= reserved.0;
    }

    /// Stores a body with one holder, out of the room set aside for it.
    pub(crate) fn store(
        &mut self,
        reserved: &mut Reserved,
        bytes: Arc<[u8]>,
        hash: u64,
    ) -> BodyRef {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        reserved.0 = reserved.0.saturating_sub(len.into());
        let slot = Slot { bytes, hash, holders: 1 };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.slots[index as usize] = Some(slot);
        BodyRef { slot: index + 1, len, hash }
    }

    /// The bytes of a body; empty for none.
    pub(crate) fn bytes(&self, body: BodyRef) -> Arc<[u8]> {
        let slot = self.index(body).and_then(|index| self.slots[index].as_ref());
        slot.map_or_else(|| Arc::from(&[][..]), |slot| Arc::clone(&slot.bytes))
    }

    /// One holder more.
    pub(crate) fn keep(&mut self, body: BodyRef) {
        let slot = self.index(body).and_then(|index| self.slots[index].as_mut());
        if let Some(slot) = slot {
            slot.holders += 1;
        }
    }

    /// One holder less; the last one's body goes.
    pub(crate) fn drop(&mut self, body: BodyRef) {
        let Some(index) = self.index(body) else { return };
        let Some(slot) = &mut self.slots[index] else { return };
        slot.holders -= 1;
        if slot.holders == 0 {
            self.bytes -= slot.bytes.len() as u64;
            self.slots[index] = None;
            self.free.push(body.slot - 1);
        }
    }

    /// Bodies, bytes, the most bytes, and how often there was no room.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 4] {
        let bodies = (self.slots.len() - self.free.len()) as u64;
        [
            ("bodies_len", bodies),
            ("bodies_bytes", self.bytes),
            ("bodies_bytes_max", self.max),
            ("bodies_refused_total", self.refused),
        ]
    }

    fn index(&self, body: BodyRef) -> Option<usize> {
        let index = body.slot.checked_sub(1)? as usize;
        let slot = self.slots.get(index)?.as_ref()?;
        (slot.hash == body.hash).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bodies: &mut Bodies, text: &str) -> BodyRef {
        let mut reserved = bodies.reserve(text.len() as u64).unwrap();
        bodies.store(&mut reserved, Arc::from(text.as_bytes()), text.len() as u64)
    }

    #[test]
    fn a_body_goes_with_its_last_holder() {
        let mut bodies = Bodies::new(100);
        let body = stored(&mut bodies, "hello");
        bodies.keep(body);
        bodies.drop(body);
        assert_eq!(&*bodies.bytes(body), b"hello");
        bodies.drop(body);
        assert_eq!(&*bodies.bytes(body), b"");
        assert_eq!(bodies.gauges()[1], ("bodies_bytes", 0));
        assert_eq!(stored(&mut bodies, "again").slot, body.slot);
    }

    #[test]
    fn a_full_store_refuses_and_counts() {
        let mut bodies = Bodies::new(8);
        let body = stored(&mut bodies, "hello");
        assert!(bodies.reserve(4).is_none());
        assert_eq!(bodies.gauges()[3], ("bodies_refused_total", 1));
        bodies.drop(body);
        let reserved = bodies.reserve(8).unwrap();
        bodies.release(reserved);
        assert!(bodies.reserve(8).is_some());
    }

    #[test]
    fn no_body_is_empty_and_needs_no_holder() {
        let mut bodies = Bodies::new(8);
        bodies.keep(BodyRef::NONE);
        bodies.drop(BodyRef::NONE);
        assert_eq!(&*bodies.bytes(BodyRef::NONE), b"");
    }
}
