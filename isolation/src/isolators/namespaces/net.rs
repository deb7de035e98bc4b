//! `namespaces/net`: a network of the task's own, with an address, that is linked to the host's.
//!
//! The keeper's own child makes both ends of the link (`eth0` in there) before anything of the task
//! runs, and what is left of a task's network takes both along. Addresses are pairs of
//! `--container-network`: the even one is the host's end, by which everything goes; what goes further
//! than this machine is for its administrator to route. The tasks of a group would have one each, where they
//! are to share one: they are refused.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mesita_core::wire::ContainerId;

use super::range::{ADDRESSES, Range};
use super::require;
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable, Usage,
};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::{Link, Wall};

/// What it does.
pub(crate) const ABOUT: &str =
    "a network of its own with an address, linked to the host's; only where it is named";

#[derive(Debug)]
struct Net {
    namespaces: Namespaces,
    /// What is hidden of the host's.
    hidden: Vec<Wall>,
    range: Range,
    /// The agent's key, by which its links are told from others'.
    key: [u8; 2],
    /// Pairs that were given away, some of them to tasks whose network is not there yet.
    given: Mutex<BTreeMap<ContainerId, u32>>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/net", "namespaces of networks")?;
    let namespaces = ground.require_mounts()?;
    if namespaces.user {
        let why = "a link to the host's network takes an agent that is root";
        return Err(Unusable::Lack(why.to_owned()));
    }
    if ground.options.isolators.iter().flatten().any(|name| name == "network/none") {
        let why = "it gives a network, and network/none takes it away: name one of the two";
        return Err(Unusable::Flag(why.to_owned()));
    }
    let pairs = ground.options.key.as_chunks::<2>().0;
    let key = pairs.iter().fold([0; 2], |all, pair| [all[0] ^ pair[0], all[1] ^ pair[1]]);
    let range = ground.options.container_network.unwrap_or_default();
    if let Some(used) = range.used(ground.sys) {
        let why = format!(
            "this machine has {used}, which --container-network {range} overlaps: name another one"
        );
        return Err(Unusable::Flag(why));
    }
    let hidden = super::other_networks(ground);
    Ok(Box::new(Net { namespaces, hidden, range, key, given: Mutex::default() }))
}

impl Net {
    /// How the host's end is called: at most 15 bytes, of which no two tasks of this machine that run
    /// at once have the same.
    fn name(&self, id: ContainerId) -> String {
        let [first, second] = self.key;
        format!(
            "ms{first:02x}{second:02x}{:03x}{:06x}",
            id.incarnation & 0xfff,
            id.counter & 0xff_ffff
        )
    }

    /// A pair of addresses that nobody has.
    fn take(&self, container: &Container<'_>) -> Result<u32, Error> {
        let known = container.sys.read(Path::new(ADDRESSES)).unwrap_or_default();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers = 0..self.range.pairs();
        let is_free = |number: &u32| {
            let (host, _) = self.range.pair(*number);
            let line = format!("-- {host}\n");
            !known.contains(&line) && !given.values().any(|taken| taken == number)
        };
        let number = numbers.find(is_free).ok_or(Error::Addresses)?;
        given.insert(container.at.id, number);
        Ok(number)
    }
}

impl Isolator for Net {
    fn prepare(
        &self,
        container: &Container<'_>,
        _: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        if container.at.inside.is_some() {
            return Err(Error::Grouped);
        }
        let (host, own) = self.range.pair(self.take(container)?);
        let name = CString::new(self.name(container.at.id)).unwrap_or_default();
        additions.namespaces = self.namespaces;
        let (host, own) = (host.octets(), own.octets());
        additions.walls.push(Wall::Link(Link { name, host, own, ingress: 0, egress: 0 }));
        additions.walls.extend_from_slice(&self.hidden);
        Ok(())
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let at = PathBuf::from("/sys/class/net").join(self.name(container.at.id));
        let count = |name: &str| {
            let text = container.sys.read(&at.join("statistics").join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        // What the host's end sends is what the task receives.
        usage.net_received_bytes = count("tx_bytes");
        usage.net_received = count("tx_packets");
        usage.net_unreceived = count("tx_dropped");
        usage.net_received_errors = count("tx_errors");
        usage.net_sent_errors = count("rx_errors");
        usage.net_sent_bytes = count("rx_bytes");
        usage.net_sent = count("rx_packets");
        usage.net_unsent = count("rx_dropped");
        Ok(())
    }

    fn address(&self, container: &Container<'_>) -> Option<Ipv4Addr> {
        let name = CString::new(self.name(container.at.id)).ok()?;
        let host = container.sys.address_of(&name)?;
        Some(Ipv4Addr::from_bits(host.to_bits() | 1))
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&container.at.id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::sys::fake::Fake;

    #[test]
    fn a_network_is_given_or_taken_away_and_takes_root() {
        let sys = Fake::bare();
        let refused = |options: &crate::Options| {
            crate::Isolation::new(options, &sys).map(drop).unwrap_err().to_string()
        };
        let both = options(Some(&["namespaces/net", "network/none"]));
        assert!(refused(&both).contains("name one of the two"));
        let namespaces = Namespaces { user: true, pid: true, mount: true };
        let user = crate::Options { namespaces, ..options(Some(&["namespaces/net"])) };
        assert!(refused(&user).contains("an agent that is root"));
    }

    #[test]
    fn every_task_has_addresses_that_nobody_has() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["namespaces/net"]);
        sys.put(ADDRESSES, "  |-- 10.213.0.0\n     /32 host LOCAL\n");
        let taken = |counter| {
            let id = ContainerId { counter, ..CONTAINER };
            let walls = isolation.prepare(id, &TaskLimits::default()).unwrap().additions.walls;
            let [Wall::Link(link)] = &walls[..] else { panic!("{walls:?}") };
            assert!(link.name.count_bytes() <= crate::keeper::wall::LINK_MAX);
            (link.host[3], link.own[3], link.name.clone())
        };
        assert_eq!(taken(1), (2, 3, c"ms0000001000001".into()));
        assert_eq!(taken(2), (4, 5, c"ms0000001000002".into()));
        isolation.cleanup(CONTAINER).unwrap();
        assert_eq!(taken(3).0, 2);
        // Those of a group would have one each.
        let id = ContainerId { counter: 9, ..CONTAINER };
        let at = crate::cgroups::At { inside: Some(CONTAINER), id };
        let refused = isolation.prepare(at, &TaskLimits::default()).unwrap_err();
        assert!(refused.to_string().contains("tasks of a group share a network"), "{refused}");
    }

    #[test]
    fn what_went_by_the_link_is_counted_from_the_tasks_end() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["namespaces/net"]);
        assert_eq!(isolation.usage(CONTAINER).unwrap(), Usage::default());
        let at = "/sys/class/net/ms0000001000001/statistics";
        for (file, count) in
            [("rx_bytes", 10), ("tx_bytes", 20), ("tx_dropped", 3), ("rx_errors", 4)]
        {
            sys.put(&format!("{at}/{file}"), &format!("{count}\n"));
        }
        let usage = isolation.usage(CONTAINER).unwrap();
        assert_eq!((usage.net_sent_bytes, usage.net_received_bytes), (Some(10), Some(20)));
        assert_eq!((usage.net_unreceived, usage.net_sent), (Some(3), None));
        assert_eq!((usage.net_sent_errors, usage.net_received_errors), (Some(4), None));
        assert_eq!(isolation.address(CONTAINER), None);
        sys.put("/addresses/ms0000001000001", "10.213.0.4");
        assert_eq!(isolation.address(CONTAINER), Some(Ipv4Addr::new(10, 213, 0, 5)));
    }
}
