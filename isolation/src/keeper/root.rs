//! A root of its own for a task: put together in its mount namespace, and nothing else is left there.
//!
//! This runs in process 1 of the task's pid namespace, before it starts the task, and has memory of its
//! own. What an image says of paths is followed below the new root alone: the kernel resolves them as
//! if that was all there is, and what is mounted is mounted on descriptors found so.
//!
//! | where | what |
//! |---|---|
//! | `/` | the layers, and above them a directory of the task's own; or a copy of all of them |
//! | `/proc` | that of its pid namespace, without what tells of others, and read-only where it is theirs |
//! | `/sys` | read-only, without firmware |
//! | `/dev` | six devices of everybody's, those that it holds, terminals, shared memory; read-only |
//! | `/etc/resolv.conf`, `hosts`, `hostname` | the host's, read-only: its network is the host's |
//! | the sandbox, volumes | as they were asked for |
//!
//! Nothing in it makes anybody a user that they are not, and no device node in it works but those of
//! `/dev`. Sources: OCI runtime specification, `config-linux.md`; Mesos: `filesystem/linux`.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, chownat, fstat, makedev, mkdirat, mknodat,
    open, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind,
    mount_move, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{Gid, Uid, chdir, chroot, fchdir, pivot_root, umask};

use super::child::Trouble;
use super::protocol::Step;
use super::wall::{Bind, Node, Root};
use crate::sys::open_within;

/// The devices that every program may expect: their numbers are Linux'.
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];
/// Names in `/dev` that lead elsewhere.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];
/// What of the kernel's is empty for a task: it tells of others, or lets them be harmed.
const HIDDEN: [&CStr; 8] = [
    c"/proc/acpi",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/timer_list",
    c"/sys/firmware",
];
/// What of it a task cannot change, whoever it is.
const READ_ONLY: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];
/// Bytes of shared memory, unless that is said.
const SHARED: u64 = 64 << 20;
/// Files of the host that belong to its network.
const OF_NETWORK: [&CStr; 3] = [c"/etc/resolv.conf", c"/etc/hosts", c"/etc/hostname"];

/// What no mount of a task's does: make somebody another user, or give a device.
fn harmless() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV
}

/// What a task has in `/dev` that others do not have.
#[derive(Debug)]
pub(super) struct Furniture<'f> {
    /// Bytes of shared memory, if that was said.
    pub(super) shared: Option<u64>,
    /// It has that in common with others, and has found it where it is on the host.
    pub(super) in_common: bool,
    /// Devices that it holds,
    pub(super) devices: &'f [Node],
    /// and whose they are.
    pub(super) owner: (Uid, Gid),
}

/// Puts a root together and makes it the only one; `works` is where the task works in it.
pub(super) fn change<'b>(
    root: &Root,
    works: &CStr,
    own: &Furniture<'_>,
    binds: impl Iterator<Item = &'b Bind>,
) -> Result<(), Trouble> {
    let step = |step: Step| move |errno: Errno| (step, errno.raw_os_error());
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let within = Within { root: layers(root).map_err(step(Step::Layers))?, how };
    let before = umask(Mode::empty());
    let furnished = furnish(&within, own).map_err(step(Step::Furnish));
    umask(before);
    furnished?;
    let sandbox = tree_of(&root.sandbox, c"").map_err(step(Step::Bind))?;
    let at = within.directory(&root.to).map_err(step(Step::Bind))?;
    attach_bound(&sandbox, &at, MountFlags::empty()).map_err(step(Step::Bind))?;
    for bind in binds {
        within.bind(bind, &root.to).map_err(step(Step::Bind))?;
    }
    within.directory(works).map_err(step(Step::Directory))?;
    enter(&within.root).map_err(step(Step::Pivot))
}

/// Mounts parts of the host below where a task works that has no root of its own: what is there may be
/// its own to change, so nothing on the way is a link.
pub(super) fn add<'b>(works: &CStr, binds: impl Iterator<Item = &'b Bind>) -> Result<(), Trouble> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno: Errno| (Step::Bind, errno.raw_os_error());
    for bind in binds {
        let root = open(works, flags, Mode::empty()).map_err(failed)?;
        if bind.to.to_bytes().starts_with(b"/") {
            return Err(failed(Errno::INVAL));
        }
        Within { root, how }.bind(bind, c"").map_err(failed)?;
    }
    Ok(())
}

/// Mounts the layers, or what they were copied to.
pub(super) fn layers(root: &Root) -> Result<OwnedFd, Errno> {
    if root.lower.is_empty() {
        mount_bind(root.at.as_c_str(), root.at.as_c_str())?;
        mount_remount(root.at.as_c_str(), MountFlags::BIND | harmless(), c"")?;
    } else {
        // All names of layers have to fit into one page, so they are short from here.
        chdir(root.layers.as_c_str())?;
        let names: Vec<&[u8]> = root.lower.iter().map(|name| name.to_bytes()).collect();
        let (upper, work) = (root.upper.to_bytes(), root.work.to_bytes());
        let lower = names.join(&b':');
        let parts = [b"lowerdir=", &*lower, b",upperdir=", upper, b",workdir=", work];
        let options = CString::new(parts.concat()).map_err(|_| Errno::INVAL)?;
        mount(c"overlay", root.at.as_c_str(), c"overlay", harmless(), Some(options.as_c_str()))?;
    }
    open(root.at.as_c_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What every task finds, whatever its image.
fn furnish(within: &Within, own: &Furniture<'_>) -> Result<(), Errno> {
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    attach(&fresh(c"proc", &[], safe)?, &within.directory(c"/proc")?)?;
    let read_only = safe | MountAttrFlags::MOUNT_ATTR_RDONLY;
    attach(&fresh(c"sysfs", &[], read_only)?, &within.directory(c"/sys")?)?;
    devices(within, own)?;
    HIDDEN.iter().try_for_each(|path| hide(within, path))?;
    READ_ONLY.iter().try_for_each(|path| keep_from_writing(within, path))?;
    for path in OF_NETWORK {
        // A host without one has nothing to tell, and an image without a place for it nobody to ask.
        if let (Ok(tree), Ok(at)) = (tree_of(path, c""), within.file(path)) {
            attach_bound(&tree, &at, MountFlags::RDONLY | MountFlags::NOEXEC)?;
        }
    }
    Ok(())
}

fn devices(within: &Within, own: &Furniture<'_>) -> Result<(), Errno> {
    let (nosuid, noexec) = (MountAttrFlags::MOUNT_ATTR_NOSUID, MountAttrFlags::MOUNT_ATTR_NOEXEC);
    let nodev = MountAttrFlags::MOUNT_ATTR_NODEV;
    let options = [(c"mode", c"755"), (c"size", c"64k")];
    let dev = fresh(c"tmpfs", &options, nosuid | noexec)?;
    for (name, major, minor) in DEVICES {
        let all = Mode::from_raw_mode(0o666);
        mknodat(&dev, name, FileType::CharacterDevice, all, makedev(major, minor))?;
    }
    for (to, name) in LINKS {
        symlinkat(to, &dev, name)?;
    }
    for node in own.devices {
        give(&dev, node, own.owner)?;
    }
    for name in [c"pts", c"shm"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
    }
    attach(&dev, &within.directory(c"/dev")?)?;
    let options = [(c"mode", c"620"), (c"ptmxmode", c"666"), (c"gid", c"5")];
    let terminals = fresh(c"devpts", &options, nosuid | noexec)?;
    attach(&terminals, &within.directory(c"/dev/pts")?)?;
    let shm = within.directory(c"/dev/shm")?;
    let bytes = CString::new(own.shared.unwrap_or(SHARED).to_string()).map_err(|_| Errno::INVAL)?;
    let options = [(c"mode", c"1777"), (c"size", bytes.as_c_str())];
    match tree_of(c"/dev/shm", c"") {
        Ok(tree) if own.in_common => attach_bound(&tree, &shm, MountFlags::NOEXEC)?,
        _ => attach(&fresh(c"tmpfs", &options, nosuid | noexec | nodev)?, &shm)?,
    }
    // Nobody adds a device; those that are there can be used.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    remount(&dev, flags)
}

/// Makes a device that is a task's own, under the name that it has on the machine.
fn give(dev: &OwnedFd, node: &Node, owner: (Uid, Gid)) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = node.path.to_bytes();
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (above, name) = slash.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
    let mut at = openat(dev, c".", flags, Mode::empty())?;
    for part in above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        match mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
        at = openat(&at, part, flags, Mode::empty())?;
    }
    let kind = if node.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let device = makedev(node.major, node.minor);
    match mknodat(&at, name, kind, Mode::from_raw_mode(0o600), device) {
        // One that everybody has.
        Err(Errno::EXIST) => Ok(()),
        made => made.and_then(|()| {
            chownat(&at, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)
        }),
    }
}

/// Mounts something empty over what is there.
fn hide(within: &Within, path: &CStr) -> Result<(), Errno> {
    let Ok(at) = within.open(path.to_bytes(), OFlags::empty()) else { return Ok(()) };
    if FileType::from_raw_mode(fstat(&at)?.st_mode) == FileType::Directory {
        let how = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_RDONLY;
        return attach(&fresh(c"tmpfs", &[(c"size", c"4k")], how)?, &at);
    }
    // Ours, made a moment ago.
    attach(&copy_of(&within.open(b"/dev/null", OFlags::empty())?)?, &at)
}

/// Makes what is there read-only.
fn keep_from_writing(within: &Within, path: &CStr) -> Result<(), Errno> {
    let Ok(at) = within.open(path.to_bytes(), OFlags::empty()) else { return Ok(()) };
    let same = copy_of(&at)?;
    attach_bound(&same, &at, MountFlags::RDONLY | MountFlags::NOEXEC)
}

/// A mount of what is at a descriptor, nowhere yet.
fn copy_of(at: &OwnedFd) -> Result<OwnedFd, Errno> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(at, c"", clone | OpenTreeFlags::AT_EMPTY_PATH)
}

/// A file system that is nobody's yet.
fn fresh(kind: &CStr, options: &[(&CStr, &CStr)], how: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let made = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&made, *key, *value)?;
    }
    fsconfig_create(&made)?;
    fsmount(&made, FsMountFlags::FSMOUNT_CLOEXEC, how)
}

/// Mounts what was made or found on what is at a descriptor.
fn attach(what: &OwnedFd, at: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(what, c"", at, c"", flags)
}

/// The same of a part of the host, without what no task may have.
fn attach_bound(what: &OwnedFd, at: &OwnedFd, more: MountFlags) -> Result<(), Errno> {
    attach(what, at)?;
    remount(what, MountFlags::BIND | harmless() | more)
}

/// Changes the flags of a mount, by a descriptor of its top.
fn remount(what: &OwnedFd, flags: MountFlags) -> Result<(), Errno> {
    let path = CString::new(format!("/proc/self/fd/{}", what.as_raw_fd()));
    mount_remount(path.map_err(|_| Errno::INVAL)?.as_c_str(), flags, c"")
}

/// A part of the host, to be mounted: a path that nobody but root changes, and from there on one that
/// leads nowhere else.
fn tree_of(root: &CStr, from: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = open(root, flags, Mode::empty())?;
    if from.is_empty() {
        return copy_of(&found);
    }
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    copy_of(&open_within(found, from.to_bytes(), flags, beneath)?)
}

/// A root that is being put together, or a directory that something is added to.
struct Within {
    root: OwnedFd,
    how: ResolveFlags,
}

impl Within {
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_within(&self.root, path, flags | OFlags::PATH | OFlags::CLOEXEC, self.how)
    }

    /// A directory, made if need be, whatever its image has on the way there.
    fn directory(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        self.made(path.to_bytes())
    }

    fn made(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut at = self.open(b"", OFlags::DIRECTORY)?;
        let mut so_far = Vec::new();
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if !so_far.is_empty() {
                so_far.push(b'/');
            }
            so_far.extend_from_slice(part);
            at = match self.open(&so_far, OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    mkdirat(&at, OsStr::from_bytes(part), Mode::from_raw_mode(0o755))?;
                    self.open(&so_far, OFlags::DIRECTORY)?
                }
                opened => opened?,
            };
        }
        Ok(at)
    }

    /// A file, made if need be.
    fn file(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        let path = path.to_bytes();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if let Ok(file) = self.open(path, OFlags::empty()) {
            return Ok(file);
        }
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (above, name) = path.split_at(slash);
        let above = self.made(above)?;
        let name = OsStr::from_bytes(name.strip_prefix(b"/").unwrap_or(name));
        mknodat(&above, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
        self.open(path, OFlags::empty())
    }

    /// Mounts a part of the host where it is wanted: a path in the new root, or below the sandbox.
    fn bind(&self, bind: &Bind, sandbox: &CStr) -> Result<(), Errno> {
        let tree = tree_of(&bind.root, &bind.from)?;
        let to = if bind.to.to_bytes().starts_with(b"/") {
            bind.to.clone()
        } else {
            let parts = [sandbox.to_bytes(), b"/", bind.to.to_bytes()];
            CString::new(parts.concat()).map_err(|_| Errno::INVAL)?
        };
        let directory = FileType::from_raw_mode(fstat(&tree)?.st_mode) == FileType::Directory;
        let at = if directory { self.directory(&to)? } else { self.file(&to)? };
        let read_only = if bind.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        attach_bound(&tree, &at, read_only)
    }
}

/// Makes a mount the root of this mount namespace; what was there before is gone.
fn enter(root: &OwnedFd) -> Result<(), Errno> {
    fchdir(root)?;
    match pivot_root(c".", c".") {
        // The root of a machine that runs from its initial ramdisk cannot be put away: it is covered.
        Err(Errno::INVAL) => {
            mount_move(c".", c"/")?;
            chroot(c".")?;
        }
        pivoted => {
            pivoted?;
            unmount(c".", UnmountFlags::DETACH)?;
        }
    }
    chdir(c"/")
}

/// True if this kernel can do all that: Linux 5.6 and newer.
pub(crate) fn is_possible() -> bool {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open_within(CWD, b"", OFlags::PATH | OFlags::CLOEXEC, how).is_ok()
}

/// True if overlayfs can be had here, with what is written in `upper`: it is mounted where nobody sees
/// it.
pub(crate) fn has_overlay(lower: &CStr, upper: &CStr, work: &CStr) -> Result<(), Errno> {
    let made = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [(c"lowerdir", lower), (c"upperdir", upper), (c"workdir", work)] {
        fsconfig_set_string(&made, key, value)?;
    }
    fsconfig_create(&made)?;
    let tree = fsmount(&made, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    is_writable(tree.as_fd())
}

/// What cannot be written to is mounted, too, when the file system below lacks something.
fn is_writable(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    mkdirat(tree, c"probe", Mode::from_raw_mode(0o700))
}
