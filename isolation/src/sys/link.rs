//! Links between a task's network and the host's, by rtnetlink(7).
//!
//! A socket stays in the network that it was opened in, so one process speaks to both. A link goes
//! with either of its ends, and the end of a task's network is the end of its end.

use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket, socket_with,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::walls::{raise_loopback, unshare};

/// How a task finds its end called.
const OWN: &CStr = c"eth0";
/// What every interface of IPv6 is told, by its name.
const IPV6: &str = "/proc/sys/net/ipv6/conf";
/// Two addresses make a network: one of each end.
const PREFIX: u8 = 31;

/// A link that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<'l> {
    /// How the host finds its end called.
    pub(crate) name: &'l CStr,
    /// The address of the host's end,
    pub(crate) host: Ipv4Addr,
    /// and of the task's.
    pub(crate) own: Ipv4Addr,
    /// Bytes that come to the task in a second; 0 = as many as there are.
    pub(crate) ingress: u64,
    /// Bytes that leave it.
    pub(crate) egress: u64,
}

/// Parts this process from the network that it is in, and links the two.
pub(crate) fn part_network(link: &Link<'_>) -> Result<(), Errno> {
    let outside = routes()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let of_host = open("/proc/thread-self/ns/net", flags, Mode::empty())?;
    unshare(UnshareFlags::NEWNET)?;
    let inside = routes()?;
    raise_loopback()?;
    let network = open("/proc/thread-self/ns/net", flags, Mode::empty())?;
    pair(&outside, link.name, &network)?;
    // Files of networks are those of the one that a process is in.
    let network_of =
        |of: &OwnedFd| move_into_link_name_space(of.as_fd(), Some(LinkNameSpaceType::Network));
    network_of(&of_host)?;
    speak_no_ipv6(link.name)?;
    network_of(&network)?;
    let host = begin(&outside, link.name, link.host, link.ingress)?;
    begin(&inside, OWN, link.own, link.egress).and_then(|own| lead(&inside, own, link.host))?;
    debug_assert!(host != 0, "an interface has a number");
    Ok(())
}

/// Leaves an interface, which is not up yet, without IPv6: a task must not become a router of the host
/// by telling it so.
fn speak_no_ipv6(name: &CStr) -> Result<(), Errno> {
    if access(IPV6, Access::EXISTS) == Err(Errno::NOENT) {
        return Ok(());
    }
    let path = format!("{IPV6}/{}/disable_ipv6", name.to_str().unwrap_or_default());
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"1").map(drop)
}

/// The address of an interface of this process's network.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // Bytes of C are signed here and there.
pub(crate) fn address_of(interface: &CStr) -> Result<Ipv4Addr, Errno> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain numbers, for which all zero bytes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.to_bytes().iter().take(request.ifr_name.len() - 1);
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed() as std::ffi::c_char;
    }
    // SAFETY: the request is of the type that this call takes, and outlives it.
    let got = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFADDR as _, &raw mut request) };
    if got != 0 {
        return Err(Errno::from_raw_os_error(super::last()));
    }
    // SAFETY: the call has filled it in, and every value of it is plain numbers.
    let address = unsafe { request.ifr_ifru.ifru_addr }.sa_data;
    // Behind the port.
    Ok(Ipv4Addr::new(address[2] as u8, address[3] as u8, address[4] as u8, address[5] as u8))
}

/// A socket for networks, addresses and routes.
fn routes() -> Result<OwnedFd, Errno> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    // The first protocol, which is NETLINK_ROUTE.
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

/// Makes a pair of ends: one here, and the other in a network.
fn pair(at: &OwnedFd, name: &CStr, network: &OwnedFd) -> Result<(), Errno> {
    let mut made = Message::new(libc::RTM_NEWLINK, NEW);
    made.put(&interface(0, 0));
    made.attribute(IFLA_IFNAME, name.to_bytes_with_nul());
    made.nested(IFLA_LINKINFO, |info| {
        info.attribute(IFLA_INFO_KIND, b"veth");
        info.nested(IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.put(&interface(0, 0));
                peer.attribute(IFLA_IFNAME, OWN.to_bytes_with_nul());
                peer.attribute(IFLA_NET_NS_FD, &network.as_raw_fd().to_ne_bytes());
            });
        });
    });
    made.ask(at)
}

/// Gives an end its address and its rate, and raises it; its number.
fn begin(at: &OwnedFd, name: &CStr, address: Ipv4Addr, rate: u64) -> Result<u32, Errno> {
    let index = name_to_index(at, name.to_str().unwrap_or_default())?;
    let mut addressed = Message::new(libc::RTM_NEWADDR, NEW);
    addressed.put(&[INET, PREFIX, 0, 0]);
    addressed.put(&index.to_ne_bytes());
    addressed.attribute(IFA_LOCAL, &address.octets());
    addressed.attribute(IFA_ADDRESS, &address.octets());
    addressed.ask(at)?;
    if rate > 0 {
        bound(at, index, rate)?;
    }
    let mut raised = Message::new(libc::RTM_NEWLINK, 0);
    raised.put(&interface(index, libc::IFF_UP));
    raised.ask(at)?;
    Ok(index)
}

/// Has everything else go by way of the other end.
fn lead(at: &OwnedFd, index: u32, by: Ipv4Addr) -> Result<(), Errno> {
    let mut route = Message::new(libc::RTM_NEWROUTE, NEW);
    // Of the main table, as an administrator would, to everywhere, unicast.
    route.put(&[INET, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, 0, libc::RTN_UNICAST]);
    route.put(&0u32.to_ne_bytes());
    route.attribute(RTA_GATEWAY, &by.octets());
    route.attribute(RTA_OIF, &index.to_ne_bytes());
    route.ask(at)
}

/// Lets no more leave by an end in a second: a bucket of tokens, tc-tbf(8).
fn bound(at: &OwnedFd, index: u32, rate: u64) -> Result<(), Errno> {
    // What may leave at once, and what waits: a fiftieth and a fifth of a second.
    let burst = u32::try_from(rate / 50).unwrap_or(u32::MAX).clamp(BURST_MIN, BURST_MAX);
    let waits = u32::try_from(rate / 5).unwrap_or(u32::MAX).clamp(BURST_MIN, BURST_MAX);
    let mut bucket = Message::new(libc::RTM_NEWQDISC, NEW);
    bucket.put(&[0; 4]);
    bucket.put(&index.to_ne_bytes());
    for part in [1 << 16, TC_H_ROOT, 0] {
        bucket.put(&part.to_ne_bytes());
    }
    bucket.attribute(TCA_KIND, b"tbf\0");
    bucket.nested(TCA_OPTIONS, |options| {
        let slow = u32::try_from(rate).unwrap_or(u32::MAX);
        let mut shape = Vec::with_capacity(36);
        // Of Ethernet, so that the kernel reckons what a packet takes; no peak.
        shape.extend([0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
        shape.extend(slow.to_ne_bytes());
        shape.extend([0; 12]);
        shape.extend(waits.saturating_add(burst).to_ne_bytes());
        shape.extend([0; 8]);
        options.attribute(TCA_TBF_PARMS, &shape);
        if rate > u64::from(slow) {
            options.attribute(TCA_TBF_RATE64, &rate.to_ne_bytes());
        }
        options.attribute(TCA_TBF_BURST, &burst.to_ne_bytes());
    });
    bucket.ask(at)
}

/// What every interface is named by: its number, and flags that it is to have.
fn interface(index: u32, flags: i32) -> [u8; 16] {
    let mut named = [0; 16];
    named[4..8].copy_from_slice(&index.to_ne_bytes());
    named[8..12].copy_from_slice(&flags.to_ne_bytes());
    named[12..].copy_from_slice(&flags.to_ne_bytes());
    named
}

/// One request.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let mut head = vec![0; HEAD];
        head[4..6].copy_from_slice(&kind.to_ne_bytes());
        head[6..8].copy_from_slice(&u16::try_from(flags).unwrap_or(0).to_ne_bytes());
        Self(head)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn attribute(&mut self, kind: u16, data: &[u8]) {
        self.nested(kind, |inside| inside.0.extend(data));
        self.put(&[]);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begins = self.0.len();
        self.put(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.0.len() - begins).unwrap_or(0);
        self.0[begins..begins + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[begins + 2..begins + 4].copy_from_slice(&kind.to_ne_bytes());
    }

    /// Asks, and waits for what the kernel says of it.
    fn ask(mut self, at: &OwnedFd) -> Result<(), Errno> {
        let length = u32::try_from(self.0.len()).unwrap_or(0);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(at, &self.0, SendFlags::NOSIGNAL)?;
        let mut answer = [0; 1024];
        let (got, _) = recv(at, &mut answer, RecvFlags::empty())?;
        // An error number, below zero, is what follows the head.
        match answer.get(HEAD..HEAD + 4).filter(|_| got >= HEAD + 4) {
            Some(&[a, b, c, d]) => match i32::from_ne_bytes([a, b, c, d]) {
                0 => Ok(()),
                errno => Err(Errno::from_raw_os_error(-errno)),
            },
            _ => Err(Errno::BADMSG),
        }
    }
}

/// Bytes of the head of a message.
const HEAD: usize = 16;
/// It must not be there yet.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// Bytes that may leave at once, at the least: more than any packet; and at the most.
const BURST_MIN: u32 = 128 << 10;
const BURST_MAX: u32 = 64 << 20;

/// Numbers of rtnetlink(7), ip-link(8) and tc(8).
#[allow(clippy::cast_possible_truncation)]
const INET: u8 = libc::AF_INET as u8;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const LINKLAYER_ETHERNET: u8 = 1;
