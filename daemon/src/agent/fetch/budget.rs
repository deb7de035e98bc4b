//! How much one task may still bring into its sandbox.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are left, shared by all who work for one task.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Budget {
    left: Arc<AtomicU64>,
    max: u64,
}

impl Budget {
    pub(in crate::agent) fn new(max: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(max)), max }
    }

    /// Takes so many; an error when that is more than are left.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let taken = |left: u64| left.checked_sub(bytes);
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        spent.map(|_| ()).map_err(|_| self.over())
    }

    /// Looks whether so many are left.
    pub(super) fn has(&self, bytes: u64) -> io::Result<()> {
        if bytes <= self.left.load(Ordering::Relaxed) { Ok(()) } else { Err(self.over()) }
    }

    /// Nothing more: whoever still works for the task stops.
    pub(in crate::agent) fn close(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    fn over(&self) -> io::Error {
        let mib = self.max >> 20;
        io::Error::other(format!("it takes more than the {mib} MiB of --fetcher-max-size"))
    }

    /// Reads with what is left.
    pub(super) fn reader<R: Read>(&self, inner: R) -> Counted<R> {
        Counted { inner, budget: self.clone() }
    }
}

/// A reader whose bytes are taken from a budget.
#[derive(Debug)]
pub(super) struct Counted<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(into)?;
        self.budget.take(len as u64)?;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_spent_for_all_who_share_it() {
        let budget = Budget::new(3 << 20);
        let mut reader = budget.clone().reader(&[0u8; 10][..]);
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 10);
        assert!(budget.has((3 << 20) - 10).is_ok() && budget.has(3 << 20).is_err());
        let why = budget.take(3 << 20).unwrap_err();
        assert!(why.to_string().contains("more than the 3 MiB"), "{why}");
        budget.close();
        assert!(budget.take(1).is_err());
    }
}
