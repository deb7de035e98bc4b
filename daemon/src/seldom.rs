//! What others can have said as often as they like is said once in a while, with how often it was not.

use std::cell::RefCell;

use mesita_core::time::Time;

/// The same is said once in so long, in µs.
pub(crate) const EVERY_US: u64 = 60_000_000;
/// As many things are known at once; beyond them nothing is said of any other.
pub(crate) const KNOWN_MAX: usize = 64;

/// What was said lately.
#[derive(Debug, Default)]
pub(crate) struct Seldom(RefCell<Vec<Said>>);

#[derive(Debug)]
struct Said {
    what: String,
    at: Time,
    left_out: u64,
}

impl Seldom {
    /// How often this was left out, if it is to be said now.
    pub(crate) fn says(&self, now: Time, what: &str) -> Option<u64> {
        let mut known = self.0.borrow_mut();
        if let Some(of) = known.iter_mut().find(|of| of.what == what) {
            if now.since(of.at) < EVERY_US {
                of.left_out += 1;
                return None;
            }
            of.at = now;
            return Some(std::mem::take(&mut of.left_out));
        }
        known.retain(|of| now.since(of.at) < EVERY_US);
        if known.len() >= KNOWN_MAX {
            return None;
        }
        known.push(Said { what: what.to_owned(), at: now, left_out: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_a_minute_and_how_often_it_was_not() {
        let (seldom, now) = (Seldom::default(), Time(1));
        let says = |at: u64, what: &str| seldom.says(now.after(at), what);
        assert_eq!((says(0, "one"), says(5, "other")), (Some(0), Some(0)));
        for at in 1..1_000 {
            assert_eq!(says(at, "one"), None);
        }
        assert_eq!(says(EVERY_US, "one"), Some(999));
        // However much there is to say.
        let all = (0..1_000).filter(|n| says(EVERY_US, &format!("number {n}")).is_some());
        assert!(all.count() <= KNOWN_MAX);
    }
}
