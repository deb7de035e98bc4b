//! Hosts whose agents may be offered (Mesos: `--whitelist`, `updateWhitelist`).

use super::{Allocator, Bar, World};
use crate::Refusal;
use crate::names::{Name, Names};
use crate::wire::Seq;

impl<'a> Allocator<'a> {
    /// Sets which hosts' agents may be offered; none = all. With `adds`, these as well as those that
    /// were listed before: a long list comes in several parts. What is offered of other agents stays
    /// offered. O(hosts + agents).
    ///
    /// `NamesFull` when there is no room for the hosts' names; nothing has changed then.
    pub fn set_whitelist(
        &mut self,
        world: &mut World<'_, 'a>,
        hosts: Option<&Seq<'_, &str>>,
        adds: bool,
    ) -> Result<(), Refusal> {
        let new = || hosts.into_iter().flat_map(Seq::iter);
        if !world.names.has_room_for(new()) {
            return Err(Refusal::NamesFull);
        }
        if !adds {
            self.unlist(world.names);
        }
        for host in new() {
            let Ok(name) = world.names.intern(host) else { continue };
            if self.listed.contains(name.place()) {
                world.names.release_one(name);
            }
            self.listed.insert(name.place());
        }
        self.state.lists = hosts.is_some() || (adds && self.state.lists);
        for agent in 0..u32::try_from(self.agents.len()).unwrap_or(u32::MAX) {
            let barred = !self.is_listed(agent);
            self.set_barred(world.pool, agent, Bar::Unlisted, barred);
        }
        Ok(())
    }

    /// Hosts on the list; none when there is no list.
    pub fn whitelisted(&self) -> Option<u32> {
        self.state.lists.then(|| self.listed.len())
    }

    /// True when an agent's host is on the list, or there is no list. O(1).
    pub(super) fn is_listed(&self, agent: u32) -> bool {
        !self.state.lists || self.listed.contains(self.host(agent).hostname.place())
    }

    fn unlist(&mut self, names: &mut Names<'a>) {
        while let Some(place) = self.listed.at_or_after(0) {
            self.listed.remove(place);
            names.release_one(Name::from_place(place));
        }
    }
}
