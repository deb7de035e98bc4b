//! Networks of tasks' own, which are linked to the host's. Needs root.

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;
use mesita_isolation::isolators::Usage;
use mesita_isolation::keeper::protocol::{Namespaces, Reply};
use mesita_isolation::keeper::wall::{Link, Wall};
use mesita_isolation::sys::boottime_us;
use mesita_isolation::{Options, isolators};

use crate::walls::{Walls, limits};
use crate::world::{World, eventually, is_alive};

/// Addresses of this test alone.
pub(crate) fn range() -> isolators::Range {
    format!("10.213.{}.0/28", std::process::id() % 256).parse().unwrap()
}

/// Whether this kernel has no such links, which is said then.
pub(crate) fn is_lacking() -> bool {
    let mut world = World::new();
    world.namespaces = Namespaces { user: false, pid: true, mount: true };
    let name = CString::new(format!("mst{}", std::process::id())).unwrap();
    let (host, own) = ([10, 213, 255, 254], [10, 213, 255, 255]);
    let link = Link { name, host, own, ingress: 1 << 20, egress: 1 << 20 };
    world.walls = vec![Wall::Link(link)];
    let plan = world.plan(&["/bin/true"]);
    let container = world.send(plan);
    let trouble = world.wait(|reply| match reply {
        Reply::Ended(ended) if ended.container == container => Some(None),
        Reply::Refused(refused) if refused.container == container => Some(Some(refused.trouble)),
        _ => None,
    });
    let Some(trouble) = trouble else { return false };
    // No pairs of Ethernet, or no token buckets.
    assert!([libc::EOPNOTSUPP, libc::ENOENT].contains(&trouble.errno), "{trouble}");
    println!("SKIPPED: {trouble}; it takes veth and sch_tbf");
    true
}

/// A task that talks to the host.
struct Talk {
    walls: Walls,
    container: ContainerId,
    link: Link,
    stream: TcpStream,
}

impl Talk {
    /// It sends so many bytes, and tells how many came back.
    fn begin(isolators: &[&str], sends: usize, change: impl Fn(&mut Options)) -> Self {
        let mut walls = Walls::of(Some(isolators), |options| {
            options.container_network = Some(range());
            change(options);
        });
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = range().to_string().replace("0/28", "0");
        let words = ["talk", &format!("{host}:{port}"), &sends.to_string()];
        let mut plan = walls.world.role_plan(&words);
        let container = plan.container;
        let prepared = walls.isolation.prepare(container, &limits(64)).unwrap();
        walls.world.walls = prepared.add_to(&mut plan);
        let link = walls.world.walls.iter().find_map(|wall| {
            let Wall::Link(link) = wall else { return None };
            Some(link.clone())
        });
        let link = link.unwrap();
        assert_eq!(Ipv4Addr::from(link.host).to_string(), host);
        walls.world.send(plan);
        walls.world.launched(container);
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), Ipv4Addr::from(link.own), "it has an address of its own");
        Self { walls, container, link, stream }
    }

    /// Takes what it sends; how long that took.
    fn takes(&mut self, bytes: usize) -> Duration {
        let began = boottime_us();
        let mut all = Vec::new();
        self.stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), bytes);
        Duration::from_micros(boottime_us() - began)
    }

    /// Gives it so much; how long that took.
    fn gives(&mut self, bytes: usize) -> Duration {
        let began = boottime_us();
        self.stream.write_all(&vec![7; bytes]).unwrap();
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        self.walls.world.said(&format!("received {bytes}"));
        Duration::from_micros(boottime_us() - began)
    }

    fn usage(&self) -> Usage {
        self.walls.isolation.usage(self.container).unwrap()
    }

    /// Ends it, and sees that its link goes, too.
    fn end(mut self) {
        let interface = PathBuf::from("/sys/class/net").join(self.link.name.to_str().unwrap());
        assert!(interface.exists());
        self.walls.world.signal(self.container, rustix::process::Signal::KILL);
        assert_eq!(self.walls.world.exit(self.container), Exit::Signal(9));
        self.walls.isolation.cleanup(self.container).unwrap();
        eventually(|| !interface.exists(), || format!("{} stays", interface.display()));
        assert!(is_alive(self.walls.world.keeper));
    }
}

pub(crate) fn a_task_with_a_network_of_its_own_reaches_the_host_and_leaves_no_link() {
    if is_lacking() {
        return;
    }
    let mut talk = Talk::begin(&["namespaces/net"], 1000, |_| {});
    talk.takes(1000);
    talk.gives(500);
    let own = Ipv4Addr::from(talk.link.own);
    assert_eq!(talk.walls.isolation.address(talk.container), Some(own));
    let usage = talk.usage();
    assert!(usage.net_sent_bytes.is_some_and(|bytes| bytes > 1000), "{usage:?}");
    assert!(usage.net_received_bytes.is_some_and(|bytes| bytes > 500), "{usage:?}");
    assert!(usage.net_sent > Some(0) && usage.net_unsent == Some(0), "{usage:?}");
    // The host's end speaks no IPv6, by which a task could tell the host a way.
    let name = talk.link.name.to_str().unwrap();
    let ipv6 = std::path::Path::new("/proc/sys/net/ipv6/conf");
    if ipv6.exists() {
        let off = std::fs::read_to_string(ipv6.join(name).join("disable_ipv6")).unwrap();
        assert_eq!(off, "1\n");
        let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        assert!(!addresses.contains(name), "{addresses}");
    }
    // Who is beside it finds the same.
    let beside = talk.walls.world.beside(talk.container, "cat /proc/net/dev; echo seen");
    talk.walls.world.launched(beside);
    assert_eq!(talk.walls.world.exit(beside), Exit::Code(0));
    talk.walls.world.said("seen");
    let seen = talk.walls.world.output();
    let devices: Vec<&str> =
        seen.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert!(devices.contains(&"eth0") && devices.contains(&"lo"), "{seen}");
    talk.end();
}

pub(crate) fn no_more_comes_and_goes_by_a_link_than_it_may() {
    const MIB: usize = 1 << 20;
    if is_lacking() {
        return;
    }
    let both = ["namespaces/net", "network/bandwidth"];
    // All but what may go at once takes its time: at 2 MiB a second nearly three halves of one.
    let least = Duration::from_millis(1300);
    let bounded = |options: &mut Options| {
        (options.ingress_rate, options.egress_rate) = (Some(2 << 20), Some(2 << 20));
    };
    let mut talk = Talk::begin(&both, 3 * MIB, bounded);
    assert!(talk.takes(3 * MIB) >= least);
    assert!(talk.gives(3 * MIB) >= least);
    talk.end();
    // Less than may go at once is not touched, nor what is not bounded.
    let egress = |options: &mut Options| options.egress_rate = Some(10 << 20);
    let mut talk = Talk::begin(&both, 1000, egress);
    talk.takes(1000);
    talk.gives(64 * MIB);
    talk.end();
}
