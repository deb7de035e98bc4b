//! Who has as many offers as it may: what frameworks of one caller hold unanswered is nobody else's
//! meanwhile. Ours; Mesos has a bound in time alone.

use super::Master;
use super::rows::FrameworkState;
use crate::allocator::{Grant, ROUND_MAX};
use crate::names::Name;

/// Offers of callers that a round has met: they are counted once, and as they are made from there on.
#[derive(Debug, Default)]
pub(super) struct Counted {
    of: heapless::Vec<(Name, u32), ROUND_MAX>,
}

impl Counted {
    /// What a caller has; `count` is asked when it is met for the first time.
    fn of(&mut self, caller: Name, count: impl FnOnce() -> u32) -> u32 {
        if let Some((_, has)) = self.of.iter().find(|(of, _)| *of == caller) {
            return *has;
        }
        let has = count();
        // Without room for another one it is counted again when it is met again.
        let _ = self.of.push((caller, has));
        has
    }

    fn one_more(&mut self, caller: Name) {
        if let Some((_, has)) = self.of.iter_mut().find(|(of, _)| *of == caller) {
            *has = has.saturating_add(1);
        }
    }
}

impl Master<'_> {
    /// True when a framework's caller has as many offers as it may. Where there is a cap: O(frameworks)
    /// for the first grant of a caller in a round, O(callers of the round) for every other one.
    pub(super) fn reaches_cap(&self, counted: &mut Counted, framework: u32) -> bool {
        let max = self.config.offers_per_caller_max;
        let of = (max > 0).then(|| self.caller_at(framework)).flatten();
        of.is_some_and(|caller| counted.of(caller, || self.offers_of(caller)) >= max)
    }

    /// An offer was made in that round.
    pub(super) fn counts(&self, counted: &mut Counted, framework: u32) {
        if let Some(caller) = self.caller_at(framework) {
            counted.one_more(caller);
        }
    }

    /// True when a framework's caller has as many offers as it may. O(frameworks) where there is a cap.
    fn is_at_cap(&self, framework: u32) -> bool {
        self.reaches_cap(&mut Counted::default(), framework)
    }

    /// Gives back what a round had for frameworks whose callers have enough. They are passed over until
    /// one of their offers ended; whatever it was is for others in the next round.
    pub(super) fn take_back(&mut self, over: &[Grant]) {
        for grant in over {
            let (allocator, mut world) = self.world();
            allocator.recover(&mut world, grant.agent, grant.client, grant.held, None);
            self.counters.capped = self.counters.capped.saturating_add(1);
            if let Some(caller) = self.caller_at(grant.framework) {
                self.set_capped(caller, true);
            }
        }
    }

    /// An offer ended: its caller may have another one.
    pub(super) fn lift_cap(&mut self, framework: u32) {
        let capped = self.frameworks.row(framework).is_some_and(|row| row.capped);
        if capped
            && !self.is_at_cap(framework)
            && let Some(caller) = self.caller_at(framework)
        {
            self.set_capped(caller, false);
        }
    }

    fn caller_at(&self, framework: u32) -> Option<Name> {
        self.frameworks.row(framework).map(|row| row.caller)
    }

    fn offers_of(&self, caller: Name) -> u32 {
        let own = self.frameworks.iter().filter(|(_, row)| row.caller == caller);
        own.fold(0, |sum, (_, row)| sum.saturating_add(row.offers.len()))
    }

    fn set_capped(&mut self, caller: Name, capped: bool) {
        for slot in 0..self.frameworks.high_water() {
            let Some((id, row)) = self.frameworks.at(slot) else { continue };
            if row.caller != caller || row.capped == capped {
                continue;
            }
            if let Some(row) = self.frameworks.row_mut(slot) {
                row.capped = capped;
            }
            // One that is not there wants nothing anyhow.
            if row.state == FrameworkState::Active {
                self.set_clients_away(id, row.congested);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_counts_the_offers_of_a_caller_once() {
        let (mut counted, mut walks) = (Counted::default(), 0);
        let [one, other] = [Name::from_place(1), Name::from_place(2)];
        for made in 0..5 {
            let has = counted.of(one, || {
                walks += 1;
                7
            });
            assert_eq!(has, 7 + made);
            counted.one_more(one);
        }
        assert_eq!(counted.of(other, || 2), 2);
        assert_eq!((counted.of(one, || 0), walks), (12, 1));
    }
}
