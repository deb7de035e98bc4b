//! Which of several masters leads, as those say that do not.

use std::cell::RefCell;

use event_listener::Event;
use mesita_core::wire::Fence;

/// What was heard, and where this agent is.
#[derive(Default)]
pub(super) struct News {
    /// The newest reign, and the address of whoever has it.
    leader: RefCell<Option<(Fence, String)>>,
    /// The address that it speaks with; empty = none.
    at: RefCell<String>,
    changed: Event,
}

impl News {
    /// A master says who leads.
    pub(super) fn tell(&self, fence: Fence, address: &str) {
        let newer = self.leader.borrow().as_ref().is_none_or(|(known, _)| fence.reaches(*known));
        if newer {
            *self.leader.borrow_mut() = Some((fence, address.to_owned()));
            self.changed.notify(usize::MAX);
        }
    }

    /// The address of the leader, if one was told.
    pub(super) fn leader(&self) -> Option<String> {
        self.leader.borrow().as_ref().map(|(_, address)| address.clone())
    }

    /// What was told is not so any more.
    pub(super) fn forget(&self) {
        *self.leader.borrow_mut() = None;
    }

    /// Nobody leads at an address.
    pub(super) fn forget_at(&self, address: Option<&str>) {
        let is_there = |leader: &Option<(Fence, String)>| {
            leader.as_ref().is_some_and(|(_, of)| Some(of.as_str()) == address)
        };
        if is_there(&self.leader.borrow()) {
            self.forget();
        }
    }

    /// It speaks with the master at an address from now on.
    pub(super) fn go_to(&self, address: &str) {
        address.clone_into(&mut self.at.borrow_mut());
        self.changed.notify(usize::MAX);
    }

    /// Waits until something is told.
    pub(super) async fn comes(&self) {
        self.changed.listen().await;
    }

    /// Waits while it speaks with the master at an address.
    pub(super) async fn not_at(&self, address: &str) {
        self.until(|| (*self.at.borrow() != address).then_some(())).await;
    }

    /// Waits until it does.
    pub(super) async fn at(&self, address: &str) {
        self.until(|| (*self.at.borrow() == address).then_some(())).await;
    }

    /// The address of a later leader than the one that was obeyed, who is elsewhere.
    pub(super) async fn newer(&self, seen: Fence, here: &str) -> String {
        self.until(|| {
            let leader = self.leader.borrow();
            let (fence, address) = leader.as_ref()?;
            let newer = *fence != seen && fence.reaches(seen) && address != here;
            newer.then(|| address.clone())
        })
        .await
    }

    async fn until<T>(&self, is_so: impl Fn() -> Option<T>) -> T {
        loop {
            let listener = self.changed.listen();
            if let Some(result) = is_so() {
                return result;
            }
            listener.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm;

    fn fence(epoch: u32) -> Fence {
        Fence { epoch, ..Fence::default() }
    }

    #[test]
    fn only_a_later_reign_elsewhere_moves_an_agent() {
        let news = News::default();
        let newer = |seen| alarm::block_on(alarm::within(1_000, news.newer(fence(seen), "a:1")));
        news.tell(fence(3), "a:1");
        assert_eq!(newer(2), None, "it is there");
        news.tell(fence(4), "b:1");
        assert_eq!(newer(4), None, "it was there");
        assert_eq!(newer(3), Some("b:1".to_owned()));
        news.tell(fence(2), "c:1");
        assert_eq!(news.leader(), Some("b:1".to_owned()), "old news");
        news.forget_at(Some("a:1"));
        assert!(news.leader().is_some());
        news.forget_at(Some("b:1"));
        assert_eq!(news.leader(), None);
    }
}
