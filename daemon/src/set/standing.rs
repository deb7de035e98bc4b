//! What the rest of a master's process knows of its set.

use std::cell::RefCell;

use event_listener::Event;
use mesita_core::time::Time;
use mesita_core::wire::Fence;

use crate::clock;
use crate::lease::Lease;
use crate::set::begin::together;

/// Who leads, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Its reign.
    pub(crate) fence: Fence,
    /// Its id in the set.
    pub(crate) id: u8,
    /// `host:port` at which others reach it.
    pub(crate) address: String,
    /// What its host is called for people and their tools, if it has such a name.
    pub(crate) hostname: Option<String>,
}

impl Leader {
    /// `host:port` as a page or a tool is shown it: by name, where it has one.
    pub(crate) fn shown(&self) -> String {
        let port = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        match (&self.hostname, port) {
            (Some(name), Some(port)) => together(name, port),
            _ => self.address.clone(),
        }
    }

    /// The same reign, at the same place, whatever that is called.
    fn is(&self, other: &Self) -> bool {
        (self.fence, self.id, &self.address) == (other.fence, other.id, &other.address)
    }
}

/// A master's standing among the masters of its cluster.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Until when it leads.
    pub(crate) lease: Lease,
    /// It belongs to a set.
    pub(crate) in_set: bool,
    /// The host and port that others are to use; none: where they have connected to.
    pub(crate) advertised: Option<(String, u16)>,
    /// The leader, and until when this is true unless it is heard again.
    leader: RefCell<Option<(Leader, Time)>>,
    /// Where all of them are, parted by commas, as far as it is known here.
    masters: RefCell<String>,
    /// Another one leads, or none; or they are elsewhere.
    pub(crate) changed: Event,
}

impl Standing {
    /// That of a single master: it leads as soon as it has begun, for ever.
    pub(crate) fn alone(advertised: Option<(String, u16)>) -> Self {
        Self { lease: Lease::endless(), in_set: false, ..Self::of_set(advertised) }
    }

    /// That of a master of a set.
    pub(crate) fn of_set(advertised: Option<(String, u16)>) -> Self {
        Self {
            lease: Lease::none(),
            in_set: true,
            advertised,
            leader: RefCell::default(),
            masters: RefCell::default(),
            changed: Event::new(),
        }
    }

    /// The leader; none while none is heard.
    pub(crate) fn leader(&self) -> Option<Leader> {
        let leader = self.leader.borrow();
        let known = leader.as_ref().filter(|(_, until)| clock::now() < *until);
        known.map(|(leader, _)| leader.clone())
    }

    /// Somebody leads; true until then.
    pub(crate) fn follow(&self, leader: Leader, until: Time) {
        let news = self.leader().as_ref() != Some(&leader);
        *self.leader.borrow_mut() = Some((leader, until));
        if news {
            self.changed.notify(usize::MAX);
        }
    }

    /// Where all of them are; empty while that is not known.
    pub(crate) fn masters(&self) -> String {
        self.masters.borrow().clone()
    }

    /// They are there from now on.
    pub(crate) fn tell_masters(&self, masters: &str) {
        if *self.masters.borrow() != masters {
            masters.clone_into(&mut self.masters.borrow_mut());
            self.changed.notify(usize::MAX);
        }
    }

    /// Waits until they are elsewhere than `than` says.
    pub(crate) async fn moved(&self, than: &str) -> String {
        loop {
            let listener = self.changed.listen();
            if *self.masters.borrow() != than {
                return self.masters();
            }
            listener.await;
        }
    }

    /// Somebody asks for a later reign than the one that is known: nobody is shown there any more.
    pub(crate) fn outlived(&self, promised: u32) {
        let is_past = |(leader, _): &mut (Leader, Time)| leader.fence.epoch < promised;
        drop(self.leader.borrow_mut().take_if(is_past));
    }

    /// Waits until a leader is known that is not `than`.
    pub(crate) async fn another(&self, than: Option<&Leader>) -> Leader {
        loop {
            let listener = self.changed.listen();
            let other = |leader: &Leader| than.is_none_or(|than| !than.is(leader));
            if let Some(leader) = self.leader().filter(other) {
                return leader;
            }
            listener.await;
        }
    }
}
