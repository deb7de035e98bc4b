//! Whose frameworks are that the registry has, until this master hears of them.
//!
//! An id alone is no secret: whoever named one of an earlier master would have the framework's tasks. One
//! that is not heard of for as long as it may be away is removed, as if it had been here. One that its
//! master speaks for may be away for good, and is forgotten at last.

use super::{Cx, Fact, Master};
use crate::Refusal;
use crate::digest::of_body;
use crate::names::Name;
use crate::registry::rows::Owned;
use crate::time::Time;
use crate::wire::FrameworkId;

/// One that may be away for good is forgotten after a week, in µs: an agent that comes back still tells
/// whose it is.
const FORGOTTEN_US: u64 = 7 * 24 * 3_600_000_000;

record! {
    /// A framework of the registry.
    #[derive(Default)]
    pub(super) struct Owner {
        /// The hash of its caller's name.
        pub caller: u64,
        /// The hash of its principal.
        pub principal: u64,
        /// How long it may be away, in µs; 0 = as long as this master gives everybody.
        pub failover_us: u64,
        /// Once this master leads: until when.
        pub until: Time,
        /// Its id; none: nobody is here.
        pub framework: FrameworkId,
    }
}

impl Master<'_> {
    /// A framework that the registry has. `OutOfTurn`, `FrameworksFull`.
    pub(super) fn recall_owned(&mut self, owned: Owned) -> Result<(), Refusal> {
        if self.cluster != 0 {
            return Err(Refusal::OutOfTurn);
        }
        let Owned { framework, caller, principal, failover_us } = owned;
        let row =
            self.owned.get_mut(self.counters.owned as usize).ok_or(Refusal::FrameworksFull)?;
        *row = Owner { caller, principal, failover_us, until: Time::NEVER, framework };
        self.counters.owned = self.counters.owned.saturating_add(1);
        self.counters.owned_until = Time::NEVER;
        Ok(())
    }

    /// From now on they are awaited: each is given its time, as if it had just gone.
    pub(super) fn await_owners(&mut self, now: Time) {
        for owner in self.owned.iter_mut().filter(|owner| !owner.framework.is_none()) {
            let us = match owner.failover_us {
                0 => self.config.failover_min_us,
                u64::MAX => FORGOTTEN_US,
                us => us,
            };
            owner.until = now.after(us);
        }
        self.find_first_owner();
    }

    /// Nothing of the registry says that a framework is another caller's, or named another principal;
    /// `caller` none = whoever may operate the cluster. O(frameworks).
    pub(super) fn check_comes_back(
        &self,
        id: FrameworkId,
        caller: Option<Name>,
        principal: &str,
    ) -> Result<(), Refusal> {
        let Some(owner) = self.owner_of(id) else { return Ok(()) };
        let is_of = |name| owner.caller == of_body(self.text(name).as_bytes());
        if !caller.is_none_or(is_of) {
            Err(Refusal::Denied)
        } else if owner.principal != of_body(principal.as_bytes()) {
            Err(Refusal::PrincipalChanged)
        } else {
            Ok(())
        }
    }

    /// Whether an agent may be right about whose a framework is.
    pub(super) fn is_owned_by(&self, id: FrameworkId, caller: &str) -> bool {
        self.owner_of(id).is_none_or(|owner| owner.caller == of_body(caller.as_bytes()))
    }

    /// A framework has a row of its own from now on.
    pub(super) fn heard_of(&mut self, id: FrameworkId) {
        if let Some(at) = self.owned.iter().position(|owner| owner.framework == id && !id.is_none())
        {
            self.drop_owner(at);
            self.find_first_owner();
        }
    }

    /// Removes those that were away for too long.
    pub(super) fn expire_owners(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.first_owner() {
            return;
        }
        while cx.has_room()
            && let Some(at) = self
                .owned
                .iter()
                .position(|owner| !owner.framework.is_none() && owner.until <= cx.now)
            && let Some(owner) = self.owned.get(at).copied()
        {
            if owner.failover_us == u64::MAX {
                cx.fact(Fact::Unheard { framework: owner.framework });
            } else {
                self.put_down(cx, owner.framework);
            }
            self.drop_owner(at);
        }
        self.find_first_owner();
    }

    /// When the first of them was away for too long.
    pub(super) const fn first_owner(&self) -> Time {
        if self.counters.owned == 0 { Time::NEVER } else { self.counters.owned_until }
    }

    fn owner_of(&self, id: FrameworkId) -> Option<&Owner> {
        self.owned.iter().find(|owner| owner.framework == id && !id.is_none())
    }

    fn drop_owner(&mut self, at: usize) {
        if let Some(owner) = self.owned.get_mut(at) {
            *owner = Owner::default();
            self.counters.owned = self.counters.owned.saturating_sub(1);
        }
    }

    fn find_first_owner(&mut self) {
        let owners = self.owned.iter().filter(|owner| !owner.framework.is_none());
        self.counters.owned_until = owners.map(|owner| owner.until).min().unwrap_or(Time::NEVER);
    }
}
