//! Who is behind a connection: found out from the kernel, not from what the peer says.
//!
//! A loopback peer is the user its socket belongs to, by one question to the kernel (sock_diag(7)).
//! A process inside one of our tasks is nobody, whatever its user: it is recognised by its cgroup
//! in the unified hierarchy, which is named after its container, or else by a keeper among its
//! ancestors.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesita_core::doors::{ANYONE, LOCAL, PRINCIPAL, Rights};
use mesita_core::wire::ContainerId;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::conn::Ends;
use crate::once::Again;

/// The attribute with the id of a socket's cgroup (linux/inet_diag.h: INET_DIAG_CGROUP_ID).
const CGROUP_ID: u16 = 21;
/// Directories of the unified hierarchy that are looked at for one id.
const CGROUPS_MAX: usize = 65_536;
/// Ids of cgroups that are remembered.
const KNOWN_MAX: usize = 4_096;
/// Where the unified hierarchy may be mounted, pure or beside v1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The name of a keeper's process.
const KEEPER: &str = "mesita-keeper";

/// Somebody behind a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name that the core knows them by.
    pub(crate) name: String,
    /// What they may do beyond running tasks as themselves.
    pub(crate) rights: Rights,
    /// What they ask for now, if they may ask for it again.
    pub(crate) again: Again,
}

impl Caller {
    /// Somebody of that name.
    pub(crate) fn new(name: impl Into<String>, rights: Rights) -> Self {
        Self { name: name.into(), rights, again: Again::default() }
    }

    /// The principal of the credential that they have shown.
    pub(crate) fn principal(&self) -> Option<&str> {
        self.name.strip_prefix(PRINCIPAL)
    }
}

/// A container, as its cgroup names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    /// The first eight bytes of its agent's key.
    pub(crate) key: u64,
    /// Which.
    pub(crate) container: ContainerId,
}

/// Why somebody is let in nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A process of one of our tasks, without a token; of which, if that can be told.
    Inside(Option<Inside>),
    /// The connection is gone, or the kernel does not tell whose it is.
    Unknown,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside(_) => {
                "processes inside a task may not use the cluster that runs them without a token"
            }
            Self::Unknown => "the kernel does not tell whose connection this is",
        })
    }
}

/// Finds out who is behind connections.
#[derive(Debug)]
pub(crate) struct Doors {
    /// The question to the kernel; none if it is not answered here.
    diag: Option<OwnedFd>,
    unified: Option<PathBuf>,
    /// Cgroups by id: those of tasks with their containers.
    known: RefCell<BTreeMap<u64, Option<Inside>>>,
    own_uid: u32,
}

impl Doors {
    /// Looks at what this machine can tell.
    pub(crate) fn new() -> Self {
        let flags = SocketFlags::CLOEXEC;
        let protocol = Some(netlink::SOCK_DIAG);
        let diag =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol);
        Self {
            diag: diag.ok(),
            unified: UNIFIED
                .into_iter()
                .map(Path::new)
                .find(|path| is_unified(path))
                .map(Path::to_owned),
            known: RefCell::default(),
            own_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// What this machine cannot tell about callers; none if it can tell all.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        if self.diag.is_none() {
            return Some(
                "the kernel does not tell whose a loopback connection is: nobody is let in",
            );
        }
        let hidden = fs::read_dir("/proc/1").is_err();
        (self.unified.is_none() && hidden)
            .then_some("processes inside tasks cannot be told from others of the same user")
    }

    /// Who is at the other end.
    pub(crate) fn caller(&self, ends: &Ends) -> Result<Caller, Denied> {
        match ends {
            Ends::Memory => Ok(self.local(self.own_uid)),
            Ends::Tcp { peer, .. } if !peer.ip().to_canonical().is_loopback() => {
                // Only under --insecure does anybody listen where others come from.
                Ok(Caller::new(ANYONE, Rights::OPERATE))
            }
            Ends::Tcp { local, peer } => {
                let socket = self.ask(*peer, *local).ok().flatten().ok_or(Denied::Unknown)?;
                if let Some(inside) = self.inside(&socket) {
                    return Err(Denied::Inside(inside));
                }
                Ok(self.local(socket.uid))
            }
        }
    }

    fn local(&self, uid: u32) -> Caller {
        let name = mesita_isolation::user::name_of(uid).unwrap_or_else(|| uid.to_string());
        let rights = match uid {
            0 => Rights::ANY_USER.and(Rights::OPERATE),
            uid if uid == self.own_uid => Rights::OPERATE,
            _ => Rights::NONE,
        };
        Caller::new(format!("{LOCAL}{name}"), rights)
    }

    /// Asks the kernel about the socket at `peer` that is connected to `local`.
    fn ask(&self, peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Socket>> {
        let Some(diag) = &self.diag else { return Ok(None) };
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
        Ok(Some(Socket { uid: header.uid, inode: header.inode.into(), cgroup }))
    }

    /// The task that a socket's process is inside of, if it is inside of one.
    #[allow(clippy::option_option)] // Inside of one, which may not be known.
    fn inside(&self, socket: &Socket) -> Option<Option<Inside>> {
        let known = socket.cgroup.and_then(|id| self.container_of(id));
        known.map(Some).or_else(|| is_below_keeper(socket.inode).then_some(None))
    }

    /// The container whose cgroup, or one below, has this id.
    fn container_of(&self, id: u64) -> Option<Inside> {
        let unified = self.unified.as_ref()?;
        if let Some(&known) = self.known.borrow().get(&id) {
            return known;
        }
        let path = find_cgroup(unified, id)?;
        let container = container(&path);
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        // An id is never used again while the machine is up.
        known.insert(id, container);
        container
    }
}

fn is_unified(path: &Path) -> bool {
    path.join("cgroup.controllers").exists()
}

/// A socket as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    uid: u32,
    inode: u64,
    cgroup: Option<u64>,
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

/// The directory of the cgroup with this id, which is its inode's number.
fn find_cgroup(root: &Path, id: u64) -> Option<PathBuf> {
    let is = |inode: u64| {
        inode == id || (cfg!(target_pointer_width = "32") && inode == id & 0xffff_ffff)
    };
    let mut left = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(directory) = left.pop() {
        if fs::symlink_metadata(&directory).is_ok_and(|of| is(of.ino())) {
            return Some(directory);
        }
        seen += 1;
        if seen >= CGROUPS_MAX {
            break;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|of| of.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    None
}

/// The container of `…/<16 hex digits of an agent's key>/<container id>` and whatever is below.
fn container(path: &Path) -> Option<Inside> {
    let names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
    names.windows(2).find_map(|pair| {
        let is_key = pair[0].len() == 16 && pair[0].bytes().all(|b| b.is_ascii_hexdigit());
        let key = u64::from_str_radix(pair[0], 16).ok().filter(|_| is_key)?;
        Some(Inside { key, container: ContainerId::parse(pair[1])? })
    })
}

/// True when a process that has the socket open has a keeper among its ancestors.
fn is_below_keeper(inode: u64) -> bool {
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let has = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut descriptors = descriptors.into_iter().flatten().flatten();
        descriptors.any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == link))
    };
    descendants_of_keepers().iter().any(has)
}

/// Every process below a keeper.
fn descendants_of_keepers() -> BTreeSet<u32> {
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((comm, parent)) = name_and_parent(&stat) else { continue };
        children.entry(parent).or_default().push(pid);
        if comm == KEEPER {
            left.push(pid);
        }
    }
    let mut below = BTreeSet::new();
    while let Some(pid) = left.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            below.insert(child);
            left.push(child);
        }
    }
    below
}

/// The name and the parent out of `/proc/<pid>/stat`, where the name may hold anything.
fn name_and_parent(stat: &str) -> Option<(&str, u32)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    Some((name, after.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_loopback_peer_is_the_user_of_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let ends = Ends::Tcp { local: accepted.local_addr().unwrap(), peer };
        let doors = Doors::new();
        let caller = doors.caller(&ends).unwrap();
        let uid = rustix::process::geteuid();
        let name = mesita_isolation::user::name_of(uid.as_raw()).unwrap();
        assert_eq!(caller.name, format!("local:{name}"));
        assert!(caller.rights.has(Rights::OPERATE));
        assert_eq!(caller.rights.has(Rights::ANY_USER), uid.is_root());
        assert_eq!(doors.caller(&Ends::Memory), Ok(caller));
        drop(stream);
    }

    #[test]
    fn a_connection_that_is_no_more_is_nobodys() {
        let nobody = Ends::Tcp {
            local: "127.0.0.1:9".parse().unwrap(),
            peer: "127.0.0.1:1".parse().unwrap(),
        };
        assert_eq!(Doors::new().caller(&nobody), Err(Denied::Unknown));
    }

    #[test]
    fn a_remote_peer_is_anyone() {
        let remote = Ends::Tcp {
            local: "192.0.2.1:5050".parse().unwrap(),
            peer: "192.0.2.2:40000".parse().unwrap(),
        };
        let caller = Doors::new().caller(&remote).unwrap();
        assert_eq!(caller, Caller::new("anyone", Rights::OPERATE));
    }

    #[test]
    fn cgroups_of_containers_are_known_by_their_path() {
        for path in ["/sys/fs/cgroup/mesita/0011223344556677/1-2", "/x/m/aabbccddeeff0011/a-ff/sub"]
        {
            assert!(container(Path::new(path)).is_some(), "{path}");
        }
        for path in ["/sys/fs/cgroup/user.slice", "/x/mesita/0011223344556677/self", "/x/1-2"] {
            assert_eq!(container(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_name_with_parentheses_hides_no_parent() {
        assert_eq!(name_and_parent("7 (a) (b) S 3 1 1 0"), Some(("a) (b", 3)));
        assert_eq!(name_and_parent("garbage"), None);
    }
}
