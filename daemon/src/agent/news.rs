//! Which of several masters leads, as those say that do not.

use std::cell::RefCell;
use std::collections::BTreeMap;

use event_listener::Event;
use mesita_core::wire::Fence;

/// A reign, and the address of whoever has it.
type Leader = (Fence, String);

/// What was heard, and where this agent is.
#[derive(Default)]
pub(super) struct News {
    /// The newest reign that was told.
    leader: RefCell<Option<Leader>>,
    /// One that was told and was not there: others may not know it yet.
    failed: RefCell<Option<Leader>>,
    /// The address that it speaks with; empty = none.
    at: RefCell<String>,
    /// Where each of the other masters says that the leader is.
    says: RefCell<BTreeMap<String, String>>,
    told: Event,
    moved: Event,
}

impl News {
    /// The master at `by` says who leads.
    pub(super) fn tell(&self, fence: Fence, address: &str, by: &str) {
        self.shown(address, by);
        let leader = Some((fence, address.to_owned()));
        let newer = self.leader.borrow().as_ref().is_none_or(|(known, _)| fence.reaches(*known));
        if newer && *self.leader.borrow() != leader && *self.failed.borrow() != leader {
            *self.leader.borrow_mut() = leader;
            self.told.notify(usize::MAX);
        }
    }

    /// The master at `by` shows the way to the leader.
    pub(super) fn shown(&self, address: &str, by: &str) {
        self.says.borrow_mut().insert(by.to_owned(), address.to_owned());
    }

    /// Nothing is heard from a master any more.
    pub(super) fn unheard(&self, by: &str) {
        self.says.borrow_mut().remove(by);
    }

    /// A master that says that the leader is at an address; none of those in `tried`.
    pub(super) fn around(&self, address: &str, tried: &[String]) -> Option<String> {
        let says = self.says.borrow();
        let other = |(by, leader): &(&String, &String)| *leader == address && !tried.contains(by);
        says.iter().find(other).map(|(by, _)| by.clone())
    }

    /// The address of the leader, if one was told.
    pub(super) fn leader(&self) -> Option<String> {
        self.leader.borrow().as_ref().map(|(_, address)| address.clone())
    }

    /// Nobody leads at an address.
    pub(super) fn failed_at(&self, address: Option<&str>) {
        let is_there = |leader: &mut Leader| Some(leader.1.as_str()) == address;
        if let Some(leader) = self.leader.borrow_mut().take_if(is_there) {
            *self.failed.borrow_mut() = Some(leader);
        }
    }

    /// It speaks with the master at an address from now on.
    pub(super) fn go_to(&self, address: &str) {
        address.clone_into(&mut self.at.borrow_mut());
        self.moved.notify(usize::MAX);
    }

    /// Waits until another leader is told than the one that was tried.
    pub(super) async fn another(&self, tried: Option<&str>) {
        until(&self.told, || {
            let leader = self.leader.borrow();
            leader.as_ref().filter(|(_, address)| Some(address.as_str()) != tried).map(|_| ())
        })
        .await;
    }

    /// Waits while it speaks with the master at an address.
    pub(super) async fn not_at(&self, address: &str) {
        until(&self.moved, || (*self.at.borrow() != address).then_some(())).await;
    }

    /// Waits until it does.
    pub(super) async fn at(&self, address: &str) {
        until(&self.moved, || (*self.at.borrow() == address).then_some(())).await;
    }

    /// The address of a later leader than the one that was obeyed, who is elsewhere.
    pub(super) async fn newer(&self, seen: Fence, here: &str) -> String {
        until(&self.told, || {
            let leader = self.leader.borrow();
            let (fence, address) = leader.as_ref()?;
            let newer = *fence != seen && fence.reaches(seen) && address != here;
            newer.then(|| address.clone())
        })
        .await
    }
}

async fn until<T>(changed: &Event, is_so: impl Fn() -> Option<T>) -> T {
    loop {
        let listener = changed.listen();
        if let Some(result) = is_so() {
            return result;
        }
        listener.await;
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
        news.tell(fence(3), "a:1", "s:1");
        assert_eq!(newer(2), None, "it is there");
        news.tell(fence(4), "b:1", "s:1");
        assert_eq!(newer(4), None, "it was there");
        assert_eq!(newer(3), Some("b:1".to_owned()));
        news.tell(fence(2), "c:1", "s:1");
        assert_eq!(news.leader(), Some("b:1".to_owned()), "old news");
        news.failed_at(Some("a:1"));
        assert!(news.leader().is_some());
        news.failed_at(Some("b:1"));
        assert_eq!(news.leader(), None);
        news.tell(fence(4), "b:1", "s:1");
        assert_eq!(news.leader(), None, "who tells it does not know yet");
        news.tell(fence(5), "b:1", "s:1");
        assert_eq!(news.leader(), Some("b:1".to_owned()), "it came back, and was elected");
    }

    #[test]
    fn the_way_around_is_by_a_master_that_knows_the_leader() {
        let news = News::default();
        news.tell(fence(3), "a:1", "b:1");
        news.tell(fence(3), "a:1", "c:1");
        news.shown("b:1", "d:1");
        let first = news.around("a:1", &[]).unwrap();
        assert_eq!(first, "b:1");
        assert_eq!(news.around("a:1", &[first]), Some("c:1".to_owned()));
        news.unheard("b:1");
        assert_eq!(news.around("a:1", &["c:1".to_owned()]), None);
        assert_eq!(news.around("b:1", &[]), Some("d:1".to_owned()));
    }
}
