//! Who is behind a connection: found out from the kernel, not from what the peer says.
//!
//! A loopback peer is the user its socket belongs to. A process inside one of our tasks is nobody,
//! whatever its user: it is recognised by its cgroup in the unified hierarchy, which is named after its
//! container, or else by a keeper among its ancestors. So is one of a container of an engine, whose tasks
//! may be ours: its cgroup is named after that container, too.

mod sockets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesita_core::doors::{ANYONE, LOCAL, PRINCIPAL, Rights};
use mesita_isolation::keeper::kin::descendants_of_keepers;

use self::sockets::{Socket, Sockets};
use crate::audit::Heed;
use crate::conn::Ends;
use crate::once::Again;

pub(crate) use mesita_isolation::keeper::kin::Inside;

/// Directories of the unified hierarchy that are looked at for one id.
const CGROUPS_MAX: usize = 65_536;
/// Digits of the id of an engine's container.
const ENGINE_ID: usize = 64;
/// Ids of cgroups that are remembered.
const KNOWN_MAX: usize = 4_096;
/// Where the unified hierarchy may be mounted, pure or beside v1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// How the names of nodes that have joined begin.
pub(crate) const NODE: &str = "node:";

/// Somebody behind a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name that the core knows them by.
    pub(crate) name: String,
    /// What they may do beyond running tasks as themselves.
    pub(crate) rights: Rights,
    /// What they ask for now, if they may ask for it again.
    pub(crate) again: Again,
    /// What is known of a request of theirs that may be told of.
    pub(crate) heed: Heed,
}

impl Caller {
    /// Somebody of that name.
    pub(crate) fn new(name: impl Into<String>, rights: Rights) -> Self {
        Self { name: name.into(), rights, again: Again::default(), heed: Heed::default() }
    }

    /// True for a node that has joined: it may be an agent, and nothing else.
    pub(crate) fn is_node(&self) -> bool {
        self.name.starts_with(NODE)
    }

    /// The principal of the credential that they have shown.
    pub(crate) fn principal(&self) -> Option<&str> {
        self.name.strip_prefix(PRINCIPAL)
    }
}

/// Why somebody is let in nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A process of one of our tasks, or of an engine's containers, without a token; of which, if that can
    /// be told.
    Inside(Option<Inside>),
    /// The connection is gone, or the kernel does not tell whose it is.
    Unknown,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside(_) => {
                "processes inside a task or a container may not use the cluster without a token"
            }
            Self::Unknown => "the kernel does not tell whose connection this is",
        })
    }
}

/// Finds out who is behind connections.
#[derive(Debug)]
pub(crate) struct Doors {
    sockets: Sockets,
    unified: Option<PathBuf>,
    /// Cgroups by id: those of tasks with their containers, and those of an engine.
    known: RefCell<BTreeMap<u64, Option<Option<Inside>>>>,
    own_uid: u32,
    /// Who is not on this machine may do what anybody may; else nothing without a credential.
    open: bool,
}

impl Doors {
    /// Looks at what this machine can tell. `open`: an operator lets everybody in.
    pub(crate) fn new(open: bool) -> Self {
        Self {
            sockets: Sockets::new(),
            unified: UNIFIED
                .into_iter()
                .map(Path::new)
                .find(|path| is_unified(path))
                .map(Path::to_owned),
            known: RefCell::default(),
            own_uid: rustix::process::geteuid().as_raw(),
            open,
        }
    }

    /// What this machine cannot tell about callers; none if it can tell all.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        if !self.sockets.are_told() {
            return Some(
                "the kernel does not tell whose a loopback connection is, so that nobody is let in \
                 without a credential; mount /proc, or load tcp_diag",
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
            Ends::Tcp { local, peer } if !peer.ip().to_canonical().is_loopback() => {
                // A task of this machine may come by another of its addresses.
                let is_here = peer.ip() == local.ip();
                let is_asked = self.open || is_here;
                let socket = is_asked.then(|| self.sockets.find(*peer, *local)).flatten();
                if let Some(inside) = socket.as_ref().and_then(|socket| self.inside(socket)) {
                    return Err(Denied::Inside(inside));
                }
                if is_here && socket.is_none() {
                    return Err(Denied::Unknown);
                }
                let rights = if self.open { Rights::OPERATE } else { Rights::NONE };
                Ok(Caller::new(ANYONE, rights))
            }
            Ends::Tcp { local, peer } => {
                let socket = self.sockets.find(*peer, *local).ok_or(Denied::Unknown)?;
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

    /// The task that a socket's process is inside of, if it is inside of one.
    #[allow(clippy::option_option)] // Inside of one, which may not be known.
    fn inside(&self, socket: &Socket) -> Option<Option<Inside>> {
        let known = socket.cgroup.and_then(|id| self.container_of(id));
        known.or_else(|| is_below_keeper(socket.inode).then_some(None))
    }

    /// The container whose cgroup, or one below, has this id; an engine's is not known.
    #[allow(clippy::option_option)] // As above.
    fn container_of(&self, id: u64) -> Option<Option<Inside>> {
        let unified = self.unified.as_ref()?;
        if let Some(&known) = self.known.borrow().get(&id) {
            return known;
        }
        let path = find_cgroup(unified, id)?;
        let container = Inside::of(&path).map(Some).or_else(|| is_of_engine(&path).then_some(None));
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        // An id is never used again while the machine is up.
        known.insert(id, container);
        container
    }
}

/// True for the cgroup of a container of Docker, containerd, CRI-O or Podman, and those below: all of them
/// have its id in the name of a directory.
fn is_of_engine(path: &Path) -> bool {
    let has_id = |name: &str| {
        name.split(|sign: char| !sign.is_ascii_hexdigit()).any(|part| part.len() == ENGINE_ID)
    };
    path.iter().filter_map(|part| part.to_str()).any(has_id)
}

fn is_unified(path: &Path) -> bool {
    path.join("cgroup.controllers").exists()
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
        let doors = Doors::new(false);
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
    fn what_an_engine_has_started_is_inside_of_a_container() {
        let id = "0123456789abcdef".repeat(4);
        for engine in [
            format!("/sys/fs/cgroup/system.slice/docker-{id}.scope"),
            format!("/sys/fs/cgroup/unified/docker/{id}/below"),
            format!("/sys/fs/cgroup/machine.slice/libpod-{id}.scope/container"),
        ] {
            assert!(is_of_engine(Path::new(&engine)), "{engine}");
        }
        let user = "/sys/fs/cgroup/user.slice/user-1000.slice/session-5.scope";
        for other in [user, "/sys/fs/cgroup", &format!("/sys/fs/cgroup/{}", &id[1..])] {
            assert!(!is_of_engine(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_connection_that_is_no_more_is_nobodys() {
        let nobody = Ends::Tcp {
            local: "127.0.0.1:9".parse().unwrap(),
            peer: "127.0.0.1:1".parse().unwrap(),
        };
        assert_eq!(Doors::new(true).caller(&nobody), Err(Denied::Unknown));
    }

    #[test]
    fn a_remote_peer_is_anyone() {
        let remote = Ends::Tcp {
            local: "192.0.2.1:5050".parse().unwrap(),
            peer: "192.0.2.2:40000".parse().unwrap(),
        };
        for (open, rights) in [(true, Rights::OPERATE), (false, Rights::NONE)] {
            let caller = Doors::new(open).caller(&remote).unwrap();
            assert_eq!(caller, Caller::new("anyone", rights));
        }
    }
}
