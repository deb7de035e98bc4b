//! Putting up walls, by the process that they are around.
//!
//! [`Walls::part`] runs in process 1 of a pid namespace, which has memory of its own, or where there is
//! no wall that needs any; the others run on borrowed memory, between clone and exec: they make system
//! calls, and allocate, lock and free nothing. What they need was prepared in [`Walls::new`].

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use mesita_core::wire::ContainerId;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities,
};

use super::child::Trouble;
use super::protocol::{Cgroup, Step};
use super::root::{self, Furniture};
use super::view::{self, Hierarchies};
use super::wall::{
    Bind, FILTER_MAX, HOSTNAME_MAX, Host, KEPT_MAX, Kind, LAYERS_MAX, LINK_MAX, NODES_MAX, Node,
    PLACES_MAX, PORTS_MAX, Root, SECRET_MAX, WALLS_MAX, Wall,
};
use crate::sys;

/// Capabilities that a number of the protocol has bits for.
const CAPABILITIES: u32 = 64;

/// Walls in the form that the kernel takes.
#[derive(Debug)]
pub(super) struct Walls<'w> {
    walls: &'w [Wall],
    filter: Vec<libc::sock_filter>,
}

impl<'w> Walls<'w> {
    /// Looks at them once and for all.
    pub(super) fn new(walls: &'w [Wall]) -> Result<Self, Trouble> {
        let mut filter = Vec::new();
        let mut sound = walls.len() <= WALLS_MAX;
        for wall in walls {
            sound &= match wall {
                Wall::Uts { hostname } => hostname.count_bytes() <= HOSTNAME_MAX,
                Wall::Seccomp { program } => {
                    filter = program.iter().copied().map(instruction).collect();
                    (1..=FILTER_MAX).contains(&program.len())
                }
                Wall::Bind(bind) => is_absolute(&bind.root) && !bind.to.is_empty(),
                Wall::Secret { to, data } => !to.is_empty() && data.len() <= SECRET_MAX,
                Wall::Hidden { path } | Wall::ReadOnly { path } => is_absolute(path),
                Wall::Ports { held } => {
                    let count =
                        |&(first, last): &(u16, u16)| usize::from(last.saturating_sub(first)) + 1;
                    held.iter().map(count).sum::<usize>() <= PORTS_MAX
                }
                Wall::Root(root) => root.lower.len() <= LAYERS_MAX && is_absolute(&root.to),
                Wall::Closed { path, pinned, kept } => {
                    is_absolute(path) && pinned.len() <= KEPT_MAX && kept.len() <= KEPT_MAX
                }
                Wall::Devices { nodes } => nodes.len() <= NODES_MAX,
                Wall::Host(Host { writable, hidden, shown }) => {
                    let few = [writable, hidden, shown].map(|all| all.len() <= PLACES_MAX);
                    few.iter().all(|few| *few)
                }
                Wall::Link(link) => (1..=LINK_MAX).contains(&link.name.count_bytes()),
                Wall::Volume { of, .. } => of.lower.len() <= LAYERS_MAX && !of.to.is_empty(),
                Wall::Ipc
                | Wall::Cgroup
                | Wall::Network
                | Wall::Users
                | Wall::Processes
                | Wall::Group { .. }
                | Wall::Common { .. }
                | Wall::Shm { .. }
                | Wall::Capabilities { .. }
                | Wall::Landlock { .. } => true,
            };
        }
        if sound { Ok(Self { walls, filter }) } else { Err((Step::Request, libc::EINVAL)) }
    }

    /// True when there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.walls.is_empty()
    }

    /// Whose processes it has, if it has them in common with others.
    pub(super) fn group(&self) -> Option<ContainerId> {
        self.walls.iter().find_map(|wall| {
            let Wall::Group { of } = wall else { return None };
            Some(*of)
        })
    }

    /// What it has in common with others, and what they are all inside of.
    pub(super) fn common(&self) -> impl Iterator<Item = (ContainerId, Kind)> {
        self.walls.iter().filter_map(|wall| {
            let Wall::Common { of, kind } = wall else { return None };
            Some((*of, *kind))
        })
    }

    /// It has its shared memory in common with others.
    pub(super) fn shares_memory(&self) -> bool {
        self.common().any(|(_, kind)| kind == Kind::Ipc)
    }

    /// The namespaces that its process is made in, of those that are its own.
    pub(super) fn made(&self) -> libc::c_int {
        self.common().fold(self.flags(), |all, (_, kind)| all & !kind.flags())
    }

    /// The namespaces that its process has from its beginning, of its own or in common with others.
    pub(super) fn flags(&self) -> libc::c_int {
        let has = |is: fn(&Wall) -> bool, flag| if self.walls.iter().any(is) { flag } else { 0 };
        has(|wall| matches!(wall, Wall::Ipc), libc::CLONE_NEWIPC)
            | has(|wall| matches!(wall, Wall::Uts { .. }), libc::CLONE_NEWUTS)
            | has(|wall| matches!(wall, Wall::Network), libc::CLONE_NEWNET)
    }

    /// Those that it parts itself into once it is in its cgroups, and while it is in the host's network.
    pub(super) fn later(&self) -> libc::c_int {
        let has = |is: fn(&Wall) -> bool, flag| if self.walls.iter().any(is) { flag } else { 0 };
        has(|wall| matches!(wall, Wall::Cgroup), libc::CLONE_NEWCGROUP)
            | has(|wall| matches!(wall, Wall::Link(_)), libc::CLONE_NEWNET)
    }

    /// Makes its namespaces what they should be; `works` is where it works, `cgroups` what it is in.
    pub(super) fn part(
        &self,
        works: &CStr,
        owner: Option<(Uid, Gid)>,
        cgroups: &[Cgroup],
    ) -> Result<(), Trouble> {
        let mut null = None;
        let (root, volumes) = (self.root(), self.volumes()?);
        // Who sees those of the host may be on borrowed memory.
        let hierarchies = self.walls.contains(&Wall::Cgroup);
        let hierarchies = hierarchies.then(|| Hierarchies::of(cgroups, root.is_some()));
        // What it does to the host's end it cannot do any more from a root of its own.
        for wall in self.walls {
            let Wall::Link(link) = wall else { continue };
            let parted = sys::part_network(&sys::Link {
                name: &link.name,
                host: link.host.into(),
                own: link.own.into(),
                ingress: link.ingress,
                egress: link.egress,
            });
            parted.map_err(|errno| (wall.step(), errno.raw_os_error()))?;
        }
        match root {
            // With all that it has of the host, which is out of reach then.
            Some(root) => {
                let own = Furniture {
                    shared: self.shared_memory(),
                    in_common: self.shares_memory(),
                    devices: self.devices(),
                    owner: owner.unwrap_or((geteuid(), getegid())),
                };
                root::change(root, works, &own, self.binds().chain(&volumes))?;
            }
            None => root::add(works, volumes.iter())?,
        }
        // Mounts of the host come before what is hidden of it, so that no mount shows that again.
        let order = |wall: &&Wall| {
            matches!(wall, Wall::Hidden { .. } | Wall::ReadOnly { .. } | Wall::Closed { .. })
        };
        let (late, early): (Vec<&Wall>, Vec<&Wall>) = self.walls.iter().partition(order);
        for wall in early.into_iter().chain(late) {
            let done = match wall {
                Wall::Uts { hostname } if !hostname.is_empty() => {
                    rustix::system::sethostname(hostname.to_bytes())
                }
                Wall::Cgroup => {
                    let show = || hierarchies.as_ref().map_or(Ok(()), Hierarchies::show);
                    sys::unshare(UnshareFlags::NEWCGROUP).and_then(|()| show())
                }
                Wall::Network => sys::raise_loopback(),
                Wall::Bind(bind) if root.is_none() => mount_bind(bind, works),
                Wall::Shm { bytes } if root.is_none() && !self.shares_memory() => {
                    view::share_memory(*bytes)
                }
                Wall::Secret { to, data } => mount_secret(to, data, works, owner),
                Wall::Hidden { path } => hide(path, &mut null),
                Wall::ReadOnly { path } => make_read_only(path),
                Wall::Closed { path, pinned, kept } => {
                    // What is mounted there is mounted for it.
                    let bound = self.binds().map(|bind| bind.to.as_c_str());
                    let bound = bound.filter(|to| is_absolute(to));
                    let kept = kept.iter().map(CString::as_c_str).chain(bound).chain([works]);
                    view::close(path, pinned, kept)
                }
                Wall::Uts { .. }
                | Wall::Ipc
                | Wall::Link(_)
                | Wall::Host(_)
                | Wall::Users
                | Wall::Processes
                | Wall::Group { .. }
                | Wall::Common { .. }
                | Wall::Shm { .. }
                | Wall::Devices { .. }
                | Wall::Bind(_)
                | Wall::Root(_)
                | Wall::Volume { .. }
                | Wall::Capabilities { .. }
                | Wall::Landlock { .. }
                | Wall::Ports { .. }
                | Wall::Seccomp { .. } => Ok(()),
            };
            done.map_err(|errno| (wall.step(), errno.raw_os_error()))?;
        }
        // Of all that was mounted for it by then.
        for wall in self.walls {
            let Wall::Host(host) = wall else { continue };
            let given = self.given().filter(|to| is_absolute(to)).chain([works]);
            let done = view::keep_still(host, given);
            done.map_err(|errno| (wall.step(), errno.raw_os_error()))?;
        }
        Ok(())
    }

    fn root(&self) -> Option<&'w Root> {
        self.walls.iter().find_map(|wall| {
            let Wall::Root(root) = wall else { return None };
            Some(&**root)
        })
    }

    /// Bytes of its shared memory, if that was said.
    pub(super) fn shared_memory(&self) -> Option<u64> {
        self.walls.iter().find_map(|wall| {
            let Wall::Shm { bytes } = wall else { return None };
            Some(*bytes)
        })
    }

    /// Devices that are its own.
    fn devices(&self) -> &[Node] {
        let devices = self.walls.iter().find_map(|wall| {
            let Wall::Devices { nodes } = wall else { return None };
            Some(&nodes[..])
        });
        devices.unwrap_or_default()
    }

    fn binds(&self) -> impl Iterator<Item = &Bind> {
        self.walls.iter().filter_map(|wall| {
            let Wall::Bind(bind) = wall else { return None };
            Some(bind)
        })
    }

    /// Where something was mounted for it.
    fn given(&self) -> impl Iterator<Item = &CStr> {
        self.walls.iter().filter_map(|wall| {
            let (Wall::Bind(Bind { to, .. }) | Wall::Secret { to, .. }) = wall else { return None };
            Some(to.as_c_str())
        })
    }

    /// Puts layers together where the host has room for it, to be mounted from there.
    fn volumes(&self) -> Result<Vec<Bind>, Trouble> {
        let mut volumes = Vec::new();
        for wall in self.walls {
            let Wall::Volume { of, read_only } = wall else { continue };
            root::layers(of).map_err(|errno| (Step::Layers, errno.raw_os_error()))?;
            let (root, from, to) = (of.at.clone(), CString::default(), of.to.clone());
            volumes.push(Bind { root, from, to, read_only: *read_only });
        }
        Ok(volumes)
    }

    fn capabilities(&self) -> Option<(u64, u64)> {
        self.walls.iter().find_map(|wall| {
            let Wall::Capabilities { bounding, effective } = wall else { return None };
            Some((*bounding, *effective))
        })
    }

    /// What has to be given up while it may still do that.
    pub(super) fn before_user(&self) -> Result<(), Trouble> {
        let Some((bounding, effective)) = self.capabilities() else { return Ok(()) };
        let failed = |errno: Errno| (Step::Capabilities, errno.raw_os_error());
        for number in 0..CAPABILITIES {
            if bounding >> number & 1 == 0 {
                let one = CapabilitySet::from_bits_retain(1 << number);
                match remove_capability_from_bounding_set(one) {
                    // There are no more.
                    Err(Errno::INVAL) => break,
                    // Who may not give them up has none that a program could get.
                    Err(Errno::PERM) => break,
                    done => done.map_err(failed)?,
                }
            }
        }
        set_keep_capabilities(effective != 0).map_err(failed)
    }

    /// What it is left with, whoever it became.
    pub(super) fn after_user(&self) -> Result<(), Trouble> {
        let Some((_, wanted)) = self.capabilities() else { return Ok(()) };
        let failed = |errno: Errno| (Step::Capabilities, errno.raw_os_error());
        // It cannot be given what its keeper does not have.
        let had = rustix::thread::capabilities(None).map_err(failed)?.permitted;
        let effective = had & CapabilitySet::from_bits_retain(wanted);
        let sets = CapabilitySets { effective, permitted: effective, inheritable: effective };
        clear_ambient_capability_set().or_else(unknown).map_err(failed)?;
        set_capabilities(None, sets).map_err(failed)?;
        for number in 0..CAPABILITIES {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if effective.contains(one) {
                configure_capability_in_ambient_set(one, true).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// What it cannot do from now on; `works` is where it works.
    pub(super) fn last(&self, works: BorrowedFd<'_>) -> Result<(), Trouble> {
        for wall in self.walls {
            let done = if let Wall::Landlock { writable } = wall {
                sys::restrict_writing(writable, works)
            } else if let Wall::Ports { held } = wall {
                sys::restrict_ports(held)
            } else {
                Ok(())
            };
            done.map_err(|errno| (Step::Landlock, errno))?;
        }
        if self.filter.is_empty() {
            return Ok(());
        }
        sys::filter_calls(&self.filter).map_err(|errno| (Step::Seccomp, errno))
    }

    /// True when it needs to give up new privileges: the kernel asks for that.
    pub(super) fn grant_nothing(&self) -> bool {
        self.walls.iter().any(|wall| {
            matches!(wall, Wall::Landlock { .. } | Wall::Ports { .. } | Wall::Seccomp { .. })
        })
    }
}

/// An instruction as the protocol has it. Each part is cut to its own bits.
#[allow(clippy::cast_possible_truncation)]
const fn instruction(packed: u64) -> libc::sock_filter {
    libc::sock_filter {
        code: packed as u16,
        jt: (packed >> 16) as u8,
        jf: (packed >> 24) as u8,
        k: (packed >> 32) as u32,
    }
}

fn is_absolute(path: &CStr) -> bool {
    path.to_bytes().first() == Some(&b'/')
}

/// A kernel that does not know a set has nothing in it.
fn unknown(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::INVAL { Ok(()) } else { Err(errno) }
}

/// Mounts something empty over a path, if it is there.
fn hide(path: &CStr, null: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(hidden) = open(path, flags, Mode::empty()) else { return Ok(()) };
    let at = link(&hidden);
    if FileType::from_raw_mode(fstat(&hidden)?.st_mode) == FileType::Directory {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        return mount(c"tmpfs", at.as_str(), c"tmpfs", flags, Some(c"size=0k,nr_inodes=1,mode=0"));
    }
    let null = match null {
        Some(null) => null,
        None => null.insert(real_null()?),
    };
    rustix::mount::mount_bind(link(null).as_str(), at.as_str())
}

/// `/dev/null`, if it is that: who could put something else in its place would be shown that.
fn real_null() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = open(c"/dev/null", flags, Mode::empty())?;
    let of = fstat(&null)?;
    let device = FileType::from_raw_mode(of.st_mode) == FileType::CharacterDevice;
    let is = device && of.st_rdev == rustix::fs::makedev(1, 3);
    if is { Ok(null) } else { Err(Errno::NODEV) }
}

/// Makes a path, and everything mounted below it, read-only in this mount namespace.
fn make_read_only(path: &CStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(at) = open(path, flags, Mode::empty()) else { return Ok(()) };
    rustix::mount::mount_bind_recursive(link(&at).as_str(), link(&at).as_str())?;
    // The descriptor is of what is below the new mount; the path is the host's, which no task changes.
    match sys::set_mounts_read_only(CWD, path) {
        Err(Errno::NOSYS) => {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            // Flags that it has already may have to stay.
            let more = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount_remount(path, flags | more, c"")
        }
        done => done,
    }
}

/// Mounts a part of the host where it is wanted.
fn mount_bind(bind: &Bind, works: &CStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(bind.root.as_c_str(), flags | OFlags::NOFOLLOW, Mode::empty())?;
    let from = if bind.from.is_empty() {
        root
    } else {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        sys::open_within(&root, bind.from.to_bytes(), flags, within)?
    };
    let directory = FileType::from_raw_mode(fstat(&from)?.st_mode) == FileType::Directory;
    let to = target(works, &bind.to, directory)?;
    if bind.read_only {
        // Never there without being read-only.
        let tree = sys::clone_mounts(&from)?;
        sys::set_mounts_read_only(&tree, c"")?;
        return sys::attach_mounts(&tree, &to);
    }
    rustix::mount::mount_bind_recursive(link(&from).as_str(), link(&to).as_str())
}

/// Mounts a file of memory that is nowhere else.
fn mount_secret(
    to: &CStr,
    data: &[u8],
    works: &CStr,
    owner: Option<(Uid, Gid)>,
) -> Result<(), Errno> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    let memory = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&memory, c"size", c"128k")?;
    fsconfig_set_string(&memory, c"mode", c"0700")?;
    fsconfig_create(&memory)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let memory = fsmount(&memory, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&memory, c"secret", flags, Mode::from_raw_mode(0o400))?;
    // All of it or nothing: there is room, and no reader yet.
    if rustix::io::write(&file, data)? != data.len() {
        return Err(Errno::IO);
    }
    if let Some((user, group)) = owner {
        rustix::fs::fchown(&file, Some(user), Some(group))?;
    }
    drop(file);
    let over = target(works, to, false)?;
    let file = openat(&memory, c"secret", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let tree = sys::clone_mounts(&file)?;
    sys::set_mounts_read_only(&tree, c"")?;
    sys::attach_mounts(&tree, &over)
}

/// What a mount goes over: a path of the host that is there, or one below where the task works, made
/// if need be. Nothing on the way there is a symbolic link, for the task could have put it there.
fn target(works: &CStr, to: &CStr, directory: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if is_absolute(to) {
        return open(to, flags, Mode::empty());
    }
    let works = &open(works, flags | OFlags::DIRECTORY, Mode::empty())?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match sys::open_within(works, to.to_bytes(), flags, within) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let mut at = openat(works, c".", flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut parts =
        to.to_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let last = parts.peek().is_none();
        let made = if directory || !last {
            mkdirat(&at, part, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&at, part, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match made {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
        at = openat(&at, part, flags, Mode::empty())?;
    }
    // Made or found: it is what it should be, and no link.
    sys::open_within(works, to.to_bytes(), flags, within)
}

/// A name of what a descriptor is of, whatever happens to its path. `/proc` is the kernel's: it was
/// mounted by this process.
pub(super) fn link(of: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", of.as_raw_fd())
}

/// Nothing that is mounted from now on is seen elsewhere, nor the other way round.
pub(super) fn part_mounts() -> Result<(), Errno> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// How often this thread has read before this, where the kernel counts that.
    fn reads() -> u64 {
        let mut told = [0; 512];
        let own = std::fs::File::open("/proc/thread-self/io");
        let length = own.and_then(|mut own| own.read(&mut told)).unwrap_or(0);
        let told = String::from_utf8_lossy(&told[..length]).into_owned();
        let count = told.lines().find_map(|line| line.strip_prefix("syscr: ")?.parse().ok());
        count.unwrap_or(0)
    }

    #[test]
    fn who_sees_the_cgroups_of_the_host_does_not_look_for_them() {
        let walls = Walls::new(&[]).unwrap();
        let cgroups = [Cgroup { directory: c"/sys/fs/cgroup".into(), unified: true }];
        let before = [reads(), reads()];
        walls.part(c"/", None, &cgroups).unwrap();
        let read = reads() - before[1];
        assert_eq!(
            read,
            before[1] - before[0],
            "more than what counts: it may be borrowing memory"
        );
    }
}
