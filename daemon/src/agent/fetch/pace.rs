//! How fast something may come, or go.

use std::cell::Cell;

use mesita_core::time::Time;

use crate::{alarm, clock};

/// So many bytes in a second, from when it was made.
pub(in crate::agent) struct Pace {
    /// 0 = as many as there are.
    rate: u64,
    began: Time,
    bytes: Cell<u64>,
}

impl Pace {
    /// At most `rate` bytes in a second; 0 = as many as there are.
    pub(in crate::agent) fn new(rate: u64) -> Self {
        Self { rate, began: clock::now(), bytes: Cell::new(0) }
    }

    /// Waits for as long as so many more take.
    pub(in crate::agent) async fn took(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if let Some(due) = self.due() {
            alarm::at(due).await;
        }
    }

    /// When all so far may have come; none = by now.
    fn due(&self) -> Option<Time> {
        let us = u128::from(self.bytes.get()) * 1_000_000;
        let us = us.checked_div(u128::from(self.rate))?;
        let due = self.began.after(u64::try_from(us).unwrap_or(u64::MAX));
        (due > clock::now()).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_faster_waits_and_what_has_no_rate_does_not() {
        let pace = Pace::new(1000);
        pace.bytes.set(500);
        let due = pace.due().unwrap();
        assert_eq!(due, pace.began.after(500_000));
        pace.bytes.set(0);
        assert_eq!(pace.due(), None);
        let free = Pace::new(0);
        free.bytes.set(u64::MAX);
        assert_eq!(free.due(), None);
    }
}
