//! Who has as many offers as it may: what frameworks of one caller hold unanswered is nobody else's
//! meanwhile. Ours; Mesos has a bound in time alone.

use super::Master;
use super::rows::FrameworkState;
use crate::allocator::Grant;
use crate::names::Name;

impl Master<'_> {
    /// True when a framework's caller has as many offers as it may. O(frameworks) where there is a cap.
    pub(super) fn is_at_cap(&self, framework: u32) -> bool {
        let max = self.config.offers_per_caller_max;
        max > 0 && self.caller_at(framework).is_some_and(|caller| self.offers_of(caller) >= max)
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
