//! What of the machine a task finds changed that has mounts of its own, beyond what is only hidden.
//!
//! This runs in process 1 of the task's pid namespace, before it starts the task, and has memory of its
//! own.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, fstat, mkdirat, mknodat, open, openat, readlink, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount,
};

use super::protocol::Cgroup;
use super::wall::Host;
use super::walls::link;
use crate::sys;

/// What no mount of these does.
fn harmless() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

/// Leaves nothing of a directory but `kept`, as far as they are there and below it; what is `pinned`
/// is not to be moved away.
pub(super) fn close<'k>(
    path: &CStr,
    pinned: &[CString],
    kept: impl Iterator<Item = &'k CStr>,
) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for pin in pinned {
        // What something is mounted on can be neither renamed nor removed by who sees that.
        let Ok(at) = open(pin, flags, Mode::empty()) else { continue };
        mount_bind_recursive(link(&at).as_str(), link(&at).as_str())?;
    }
    let Ok(closed) = open(path, flags, Mode::empty()) else { return Ok(()) };
    let own = real(&closed)?;
    let mut found = Vec::new();
    for path in kept {
        let Ok(at) = open(path, flags, Mode::empty()) else { continue };
        if let Ok(below) = real(&at)?.strip_prefix(&own) {
            found.push((below.to_owned(), at));
        }
    }
    // Whatever is below another one comes along with that.
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found.dedup_by(|(later, _), (first, _)| later.starts_with(first));
    if found.first().is_some_and(|(below, _)| below.as_os_str().is_empty()) {
        return Err(Errno::INVAL);
    }
    let top = empty(&closed, path, c"mode=711,size=4k,nr_inodes=1k")?;
    for (below, at) in found {
        let to = directory(&top, below.as_os_str())?;
        mount_bind_recursive(link(&at).as_str(), link(&to).as_str())?;
    }
    seal(path)
}

/// The path of what a descriptor is of.
fn real(of: &OwnedFd) -> Result<PathBuf, Errno> {
    let path = readlink(link(of).as_str(), Vec::new())?.into_bytes();
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Mounts memory with nothing in it over a directory, and finds it there.
fn empty(over: &OwnedFd, path: &CStr, options: &CStr) -> Result<OwnedFd, Errno> {
    mount(c"tmpfs", link(over).as_str(), c"tmpfs", harmless(), Some(options))?;
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory below another one, made on the way.
fn directory(top: &OwnedFd, below: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = openat(top, c".", flags, Mode::empty())?;
    for part in Path::new(below) {
        match mkdirat(&at, part, Mode::from_raw_mode(0o711)) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
        at = openat(&at, part, flags, Mode::empty())?;
    }
    Ok(at)
}

/// Nothing is added to what was mounted at a path.
fn seal(path: &CStr) -> Result<(), Errno> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | harmless(), c"")
}

/// What stays a task's own to change wherever it may write: what its namespaces have there, and nodes of
/// devices do not.
const OWN: [&CStr; 4] = [c"/proc", c"/dev/mqueue", c"/dev/pts", c"/dev/shm"];

/// A part of the machine that a task keeps as it is: where that is, and a mount of it that is nowhere yet.
struct Part {
    path: PathBuf,
    at: OwnedFd,
    tree: OwnedFd,
}

impl Part {
    /// What is at a path, if anything.
    fn of(path: &CStr) -> Result<Option<Self>, Errno> {
        let Ok(at) = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
            return Ok(None);
        };
        let (path, tree) = (real(&at)?, sys::clone_mounts(&at)?);
        Ok(Some(Self { path, at, tree }))
    }

    fn all<'p>(paths: impl Iterator<Item = &'p CStr>) -> Result<Vec<Self>, Errno> {
        let mut parts: Vec<Self> =
            paths.filter_map(|path| Self::of(path).transpose()).collect::<Result<_, _>>()?;
        // Whatever is below another one comes along with that.
        parts.sort_by(|one, other| one.path.cmp(&other.path));
        parts.dedup_by(|later, first| later.path.starts_with(&first.path));
        Ok(parts)
    }
}

/// Makes all that is mounted read-only, but for what a task was `given` and its own, and leaves nothing
/// of hidden directories but that, and what is shown there.
pub(super) fn keep_still<'g>(
    host: &'g Host,
    given: impl Iterator<Item = &'g CStr>,
) -> Result<(), Errno> {
    let own = OWN.into_iter().chain(host.writable.iter().map(CString::as_c_str));
    let own = Part::all(own.chain(given))?;
    if own.first().is_some_and(|part| part.path == Path::new("/")) {
        return Ok(());
    }
    let shown = Part::all(host.shown.iter().map(CString::as_c_str))?;
    let is_still = match sys::set_mounts_read_only(CWD, c"/") {
        Err(Errno::NOSYS) => false,
        done => done.map(|()| true)?,
    };
    for path in &host.hidden {
        hide_all_but(path, &shown, &own)?;
    }
    let is_hidden = |part: &&Part| {
        let mut hidden = host.hidden.iter().map(|path| OsStr::from_bytes(path.to_bytes()));
        hidden.any(|path| part.path.starts_with(path) && part.path != Path::new(path))
    };
    let mut open = own.iter().filter(|part| is_still && !is_hidden(part));
    open.try_for_each(|part| sys::attach_mounts(&part.tree, &part.at))
}

/// Leaves nothing of a directory but these parts of it, the ones to be read, the others as they are.
fn hide_all_but(path: &CStr, shown: &[Part], own: &[Part]) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(hidden) = open(path, flags, Mode::empty()) else { return Ok(()) };
    let top = Path::new(OsStr::from_bytes(path.to_bytes()));
    if own.iter().any(|part| top.starts_with(&part.path)) {
        return Ok(());
    }
    let empty = empty(&hidden, path, c"mode=755,size=4k,nr_inodes=1k")?;
    for part in shown {
        let Ok(below) = part.path.strip_prefix(top) else { continue };
        sys::set_mounts_read_only(&part.tree, c"").or_else(not_there)?;
        sys::attach_mounts(&part.tree, place(&empty, below, &part.at)?)?;
    }
    for part in own {
        let Ok(below) = part.path.strip_prefix(top) else { continue };
        sys::attach_mounts(&part.tree, place(&empty, below, &part.at)?)?;
    }
    seal(path)
}

/// A call that this kernel does not have.
fn not_there(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::NOSYS { Ok(()) } else { Err(errno) }
}

/// Something of the same kind as `like` to mount that on, made below `top`.
fn place(top: &OwnedFd, below: &Path, like: &OwnedFd) -> Result<OwnedFd, Errno> {
    if FileType::from_raw_mode(fstat(like)?.st_mode) == FileType::Directory {
        return directory(top, below.as_os_str());
    }
    let above = directory(top, below.parent().unwrap_or(Path::new("")).as_os_str())?;
    let name = below.file_name().ok_or(Errno::INVAL)?;
    match mknodat(&above, name, FileType::RegularFile, Mode::from_raw_mode(0o600), 0) {
        Err(Errno::EXIST) | Ok(()) => {}
        Err(errno) => return Err(errno),
    }
    openat(&above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Cgroups of the task's own, found before it sees no others: where their hierarchies are mounted.
#[derive(Debug)]
pub(super) struct Hierarchies {
    own: Vec<(PathBuf, OwnedFd)>,
    /// They are mounts that are nowhere yet: where they were found is out of reach by then.
    taken: bool,
}

/// Where cgroups are looked for.
const CGROUPS: &CStr = c"/sys/fs/cgroup";

impl Hierarchies {
    /// Of a task with these cgroups; `taken` along to another root.
    pub(super) fn of(own: &[Cgroup], taken: bool) -> Self {
        let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounted: Vec<&Path> = mounted.lines().filter_map(mount_point_of_cgroups).collect();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = own.iter().filter_map(|cgroup| {
            let path = Path::new(OsStr::from_bytes(cgroup.directory.to_bytes()));
            let at = mounted.iter().filter(|at| path.starts_with(at));
            let at = at.max_by_key(|at| at.as_os_str().len())?;
            let found = open(cgroup.directory.as_c_str(), flags, Mode::empty()).ok()?;
            let found = if taken { sys::clone_mounts(&found).ok()? } else { found };
            Some(((*at).to_owned(), found))
        });
        Self { own: own.collect(), taken }
    }

    fn put(&self, own: &OwnedFd, over: &OwnedFd) -> Result<(), Errno> {
        if self.taken {
            return sys::attach_mounts(own, over);
        }
        mount_bind(link(own).as_str(), link(over).as_str())
    }

    /// Shows these in the place of the topmost ones, and no others.
    pub(super) fn show(&self) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(over) = open(CGROUPS, flags, Mode::empty()) else { return Ok(()) };
        let all = Path::new(OsStr::from_bytes(CGROUPS.to_bytes()));
        if let Some((_, unified)) = self.own.iter().find(|(at, _)| at == all) {
            self.put(unified, &over)?;
            return seal(CGROUPS);
        }
        let top = empty(&over, CGROUPS, c"mode=755,size=4k,nr_inodes=128")?;
        for (at, own) in &self.own {
            let Ok(name) = at.strip_prefix(all) else { continue };
            let to = directory(&top, name.as_os_str())?;
            self.put(own, &to)?;
            let shown = CString::new(at.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
            seal(&shown)?;
            // Programs look for `cpu`, and find `cpu,cpuacct`.
            let controllers = name.as_os_str().as_bytes().split(|byte| *byte == b',');
            for controller in controllers.filter(|one| *one != name.as_os_str().as_bytes()) {
                symlinkat(name, &top, OsStr::from_bytes(controller))?;
            }
        }
        seal(CGROUPS)
    }
}

/// Where a hierarchy of cgroups is mounted, if a line of `mountinfo` is about one.
fn mount_point_of_cgroups(line: &str) -> Option<&Path> {
    let (mounted, of) = line.split_once(" - ")?;
    let kind = of.split(' ').next()?;
    let at = mounted.split(' ').nth(4)?;
    ["cgroup", "cgroup2"].contains(&kind).then(|| Path::new(at))
}

/// Mounts shared memory of the task's own, of so many bytes.
pub(super) fn share_memory(bytes: u64) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(over) = open(c"/dev/shm", flags, Mode::empty()) else { return Ok(()) };
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = CString::new(format!("mode=1777,size={bytes}")).map_err(|_| Errno::INVAL)?;
    mount(c"tmpfs", link(&over).as_str(), c"tmpfs", flags, Some(options.as_c_str()))
}

/// Mounts of the host are found here, and none of these there.
pub(super) fn follow_mounts() -> Result<(), Errno> {
    let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change(c"/", down)
}

/// Has that be as large as this, if it is smaller.
pub(super) fn share_more_memory(bytes: u64) -> Result<(), Errno> {
    let Ok(of) = rustix::fs::statvfs(c"/dev/shm") else { return Ok(()) };
    if of.f_blocks.saturating_mul(of.f_frsize) >= bytes {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = CString::new(format!("size={bytes}")).map_err(|_| Errno::INVAL)?;
    mount_remount(c"/dev/shm", flags, options.as_c_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_where_they_are_mounted() {
        let v1 = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let v2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mount_point_of_cgroups(v1), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(mount_point_of_cgroups(v2), Some(Path::new("/sys/fs/cgroup")));
        let other = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755";
        assert_eq!(mount_point_of_cgroups(other), None);
    }
}
