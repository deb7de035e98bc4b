//! Whose a loopback connection is, by one question to the kernel (sock_diag(7)); where that has no
//! such answers, as on boards whose kernel was built without `INET_DIAG`, by the tables in /proc/net.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// The attribute with the id of a socket's cgroup (linux/inet_diag.h: INET_DIAG_CGROUP_ID).
const CGROUP_ID: u16 = 21;
/// Every TCP socket of a network namespace: one a line, IPv4 and IPv6.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// A socket as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) uid: u32,
    pub(super) inode: u64,
    /// The id of its cgroup, where the kernel tells that.
    pub(super) cgroup: Option<u64>,
}

/// Who tells of sockets.
#[derive(Debug)]
pub(super) enum Sockets {
    /// The kernel, when it is asked for one.
    Asked(OwnedFd),
    /// Tables of all.
    Listed,
    /// Nobody.
    Untold,
}

impl Sockets {
    /// Finds out who tells, by a connection of our own: a question that the kernel has no module for
    /// has the same answer as one about a connection that is gone.
    pub(super) fn new() -> Self {
        let (flags, protocol) = (SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG));
        let asked =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol);
        let asked = asked.ok().map(Self::Asked);
        let Ok((_listener, own)) = own_connection() else {
            // Without a loopback there are no connections on it.
            return asked.unwrap_or(Self::Untold);
        };
        let (Ok(local), Ok(peer)) = (own.local_addr(), own.peer_addr()) else {
            return asked.unwrap_or(Self::Untold);
        };
        let ways = asked.into_iter().chain([Self::Listed]);
        ways.into_iter().find(|way| way.find(local, peer).is_some()).unwrap_or(Self::Untold)
    }

    /// True where somebody tells.
    pub(super) fn are_told(&self) -> bool {
        !matches!(self, Self::Untold)
    }

    /// The socket at `peer` that is connected to `local`; none when it is gone.
    pub(super) fn find(&self, peer: SocketAddr, local: SocketAddr) -> Option<Socket> {
        match self {
            Self::Asked(diag) => ask(diag, peer, local).ok().flatten(),
            Self::Listed => TABLES.iter().find_map(|path| {
                let table = fs::read_to_string(path).ok()?;
                table.lines().skip(1).find_map(|line| listed(line, peer, local))
            }),
            Self::Untold => None,
        }
    }
}

/// A connection between two sockets of ours; the first is the one that listens.
fn own_connection() -> io::Result<(TcpListener, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener, stream))
}

fn ask(diag: &OwnedFd, peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Socket>> {
    let request = question(peer, local);
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    rustix::net::send(diag, &bytes, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (len, _) = rustix::net::recv(diag, &mut answer, RecvFlags::empty())?;
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..len]);
    let message = message.map_err(|_| io::ErrorKind::InvalidData)?;
    let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) = message.payload
    else {
        return Ok(None);
    };
    let cgroup = response.nlas.iter().find_map(|nla| {
        use netlink_packet_core::Nla as _;
        let Nla::Other(other) = nla else { return None };
        let mut value = [0; 8];
        let is = other.kind() == CGROUP_ID && other.value_len() == value.len();
        is.then(|| {
            other.emit_value(&mut value);
            u64::from_ne_bytes(value)
        })
    });
    let header = response.header;
    // A socket that nobody has any more has none, and is told as root's.
    let is_somebodys = header.inode != 0;
    Ok(is_somebodys.then_some(Socket { uid: header.uid, inode: header.inode.into(), cgroup }))
}

fn question(peer: SocketAddr, local: SocketAddr) -> NetlinkMessage<SockDiagMessage> {
    let (family, mut socket_id) = match peer {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    (socket_id.source_address, socket_id.source_port) = (peer.ip(), peer.port());
    (socket_id.destination_address, socket_id.destination_port) = (local.ip(), local.port());
    // Whatever socket it is.
    socket_id.cookie = [0xff; 8];
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    message
}

/// The socket of a line of a table (proc(5)), if it is the one between these two:
/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`.
fn listed(line: &str, peer: SocketAddr, local: SocketAddr) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let same = |listed: &str, wanted: SocketAddr| {
        address(listed).is_some_and(|(ip, port)| {
            port == wanted.port() && ip.to_canonical() == wanted.ip().to_canonical()
        })
    };
    if !same(words.next()?, peer) || !same(words.next()?, local) {
        return None;
    }
    let (uid, inode) = (words.nth(4)?.parse().ok()?, words.nth(1)?.parse().ok()?);
    // A socket that nobody has any more has none.
    (inode != 0).then_some(Socket { uid, inode, cgroup: None })
}

/// `0100007F:1F90`: words of the address in the order of the machine's bytes, and the port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = if ip.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let mut bytes = [0; 16];
        for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
            four.copy_from_slice(&word(at * 8)?);
        }
        Ipv6Addr::from(bytes).into()
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_tell_the_same_as_the_kernel_when_it_is_asked() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                println!("SKIPPED: no {host} here");
                continue;
            };
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let told = Sockets::Listed.find(ends.0, ends.1).expect("a socket");
            assert_eq!(told.uid, rustix::process::geteuid().as_raw());
            let asked = Sockets::new().find(ends.0, ends.1).expect("a socket");
            assert_eq!(told, Socket { cgroup: None, ..asked });
            // The kernel would say of one that nobody has any more that it is root's.
            let accepted = listener.accept().unwrap();
            drop(stream);
            assert_eq!(Sockets::new().find(ends.0, ends.1), None);
            assert_eq!(Sockets::Listed.find(ends.0, ends.1), None);
            drop((accepted, listener));
            let nobody = "127.0.0.1:1".parse().unwrap();
            assert_eq!(Sockets::Listed.find(nobody, ends.1), None);
        }
    }

    #[test]
    fn what_is_no_line_of_a_table_is_nobodys() {
        let (peer, local): (SocketAddr, SocketAddr) =
            ("127.0.0.1:32769".parse().unwrap(), "127.0.0.1:5050".parse().unwrap());
        let ip = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let line = |uid: &str, inode: &str| {
            format!("  7: {ip}:8001 {ip}:13BA 01 00000000:00000000 00:00000000 0 {uid} 0 {inode} 1")
        };
        let found = Socket { uid: 1000, inode: 4242, cgroup: None };
        assert_eq!(listed(&line("1000", "4242"), peer, local), Some(found));
        assert_eq!(listed(&line("1000", "4242"), local, peer), None);
        assert_eq!(listed(&line("1000", "0"), peer, local), None);
        assert_eq!(listed(&line("-1", "4242"), peer, local), None);
        for text in ["", " 7:", " 7: 0100007F", " 7: é100007F:8001 x:y", " 7: 01:8001 02:13BA"] {
            assert_eq!(listed(text, peer, local), None, "{text}");
        }
    }
}
