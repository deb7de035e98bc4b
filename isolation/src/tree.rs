//! Removing a directory with everything in it, and how much that takes, whoever made what is in it.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, chmod, fchmod, fstat, open, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::sys::Failure;

/// Removes whatever is at a path, with everything in it: as [`remove_at`].
pub fn remove(path: &Path) -> Result<(), Failure> {
    let failed = |errno: Errno| Failure::new("remove", path, errno.raw_os_error());
    let name = path.file_name().ok_or(Errno::INVAL).map_err(failed)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open(above.unwrap_or(Path::new(".")), flags, Mode::empty()) {
        Ok(above) => remove_entry(above.as_fd(), name).map_err(failed),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// Removes an entry of an open directory with everything in it, however deep that is. Symbolic links
/// are removed, never followed, and what is mounted there is left alone, which is an error. One that
/// does not exist is as good. Directories that their owner had closed are opened up first.
pub fn remove_at(above: BorrowedFd<'_>, name: &OsStr) -> Result<(), Failure> {
    remove_entry(above, name)
        .map_err(|errno| Failure::new("remove", Path::new(name), errno.raw_os_error()))
}

/// How often a directory is listed anew that was not empty after all.
const LISTED_MAX: u8 = 8;

/// A directory whose entries are being removed.
struct Going {
    entries: Dir,
    name: CString,
    /// How often it was listed.
    listed: u8,
}

impl Going {
    fn new(directory: OwnedFd, name: CString) -> Result<Self, Errno> {
        Ok(Self { entries: Dir::new(directory)?, name, listed: 1 })
    }

    fn fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.entries.fd()
    }

    /// The next that is in it.
    fn next(&mut self) -> Option<Result<CString, Errno>> {
        loop {
            let name = self.entries.read()?.map(|entry| entry.file_name().to_owned());
            if !name.as_ref().is_ok_and(|name| [c".", c".."].contains(&name.as_c_str())) {
                return Some(name);
            }
        }
    }
}

fn remove_entry(above: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    if is_removed(above, &name)? {
        return Ok(());
    }
    let root = opened(above, &name)?;
    let device = fstat(&root)?.st_dev;
    let (mut root, mut below, mut moved) = (Going::new(root, name)?, Vec::<Going>::new(), 0_u64);
    loop {
        let entry = below.last_mut().unwrap_or(&mut root).next().transpose()?;
        let here = below.last().unwrap_or(&root);
        if let Some(entry) = entry {
            let at = here.fd()?;
            if is_removed(at, &entry)? {
                continue;
            }
            let inside = opened(at, &entry)?;
            if fstat(&inside)?.st_dev != device {
                return Err(Errno::XDEV);
            }
            if below.len() < DEPTH_MAX {
                below.push(Going::new(inside, entry)?);
            } else {
                // It comes once more, as one of the root's.
                move_up(at, &entry, root.fd()?, &mut moved)?;
                root.listed = 0;
            }
            continue;
        }
        let around = match below.len().checked_sub(1) {
            Some(around) => below.iter().take(around).next_back().unwrap_or(&root).fd()?,
            None => above,
        };
        if is_removed(around, &here.name)? {
            if below.pop().is_none() {
                return Ok(());
            }
            continue;
        }
        // Some file systems leave entries out of a list while others are removed.
        let here = below.last_mut().unwrap_or(&mut root);
        if here.listed == LISTED_MAX {
            return Err(Errno::NOTEMPTY);
        }
        here.listed += 1;
        here.entries.rewind();
    }
}

/// Removes an entry that has nothing in it, and tells whether it is gone.
fn is_removed(at: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    let removed = match unlinkat(at, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTDIR) => unlinkat(at, name, AtFlags::empty()),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory, and gives its owner all rights to it. What cannot be changed will be told when
/// something in it cannot be removed.
fn opened(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let closed = openat(at, name, flags | OFlags::PATH, Mode::empty())?;
            let _ = chmod(format!("/proc/self/fd/{}", closed.as_raw_fd()), Mode::RWXU);
            openat(at, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if !Mode::from_raw_mode(fstat(&directory)?.st_mode).contains(Mode::RWXU) {
        let _ = fchmod(&directory, Mode::RWXU);
    }
    Ok(directory)
}

/// Moves a directory into another, under a name that nothing has there.
fn move_up(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let fresh = format!("going-{moved}");
        match renameat_with(from, name, to, fresh.as_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            renamed => return renamed,
        }
    }
}

/// Directories below each other that are looked into, each of which takes a descriptor.
pub(crate) const DEPTH_MAX: usize = 128;
/// Files that are looked at.
const FILES_MAX: usize = 200_000;
/// Files that are visited: those of some archives as large as one may be.
pub(crate) const VISITED_MAX: usize = 10 * FILES_MAX;

/// Trees that were found [`DEPTH_MAX`] deep and not looked into yet: each takes a descriptor.
const DEEPER_MAX: usize = 64;

/// What the files of a tree take on its own file system: no link is followed, and what has several
/// names is counted once. It may change meanwhile.
#[derive(Debug)]
pub(crate) struct Walk {
    device: u64,
    above: Vec<Dir>,
    /// What is too deep to be held beside what is above it.
    deeper: Vec<OwnedFd>,
    taken: Taken,
    /// Files with several names.
    seen: BTreeSet<u64>,
}

/// What files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes of disk.
    pub(crate) bytes: u64,
    /// How many they are, directories among them.
    pub(crate) files: u64,
}

const OPENED: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Walk {
    /// Of the tree in a directory.
    pub(crate) fn new(root: &Path) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::new("list", root, errno.raw_os_error());
        let first = open(root, OPENED, Mode::empty()).map_err(failed)?;
        let device = fstat(&first).map_err(failed)?.st_dev;
        let above = vec![Dir::new(first).map_err(failed)?];
        Ok(Self {
            device,
            above,
            deeper: Vec::new(),
            taken: Taken::default(),
            seen: BTreeSet::new(),
        })
    }

    /// The device that it is on.
    pub(crate) const fn device(&self) -> u64 {
        self.device
    }

    /// Looks at so many files, no more than [`FILES_MAX`]: what all that it has looked at take, and where to
    /// go on if that is not all.
    pub(crate) fn on(mut self) -> (Taken, Option<Self>) {
        for _ in 0..FILES_MAX {
            if self.above.is_empty() {
                let Some(next) = self.deeper.pop() else { return (self.taken, None) };
                self.above.extend(Dir::new(next));
                continue;
            }
            self.step();
        }
        (self.taken, Some(self))
    }

    fn step(&mut self) {
        let depth = self.above.len();
        let Some(directory) = self.above.last_mut() else { return };
        // What cannot be read any more is gone.
        let Some(Ok(entry)) = directory.read() else {
            self.above.pop();
            return;
        };
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            return;
        }
        let Ok(at) = directory.fd() else { return };
        let Ok(of) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let is_one = of.st_nlink <= 1 || is_directory(of.st_mode);
        // Of more than can be remembered none is counted.
        let mut is_new = || self.seen.len() < FILES_MAX && self.seen.insert(of.st_ino);
        if of.st_dev != self.device || !(is_one || is_new()) {
            return;
        }
        let bytes = u64::try_from(of.st_blocks).unwrap_or(0) * 512;
        self.taken.bytes = self.taken.bytes.saturating_add(bytes);
        self.taken.files = self.taken.files.saturating_add(1);
        if !is_directory(of.st_mode) {
            return;
        }
        // One that was closed to everybody is its owner's to open again.
        let Ok(below) = openat(at, name, OPENED, Mode::empty()) else { return };
        if depth < DEPTH_MAX {
            self.above.extend(Dir::new(below));
        } else if self.deeper.len() < DEEPER_MAX {
            self.deeper.push(below);
        }
    }
}

/// What is done to an open file of a tree, and whether it is a directory.
type Visit<'v> = &'v mut dyn FnMut(BorrowedFd<'_>, bool) -> Result<(), Errno>;

/// Visits a directory, and all directories and plain files in it on its own file system, and follows
/// no link. What is gone meanwhile is left out; a tree that is too deep, or holds too much, is an error.
pub(crate) fn visit(root: &Path, what: Visit<'_>) -> Result<(), Failure> {
    let failed = |errno: Errno| Failure::new("visit", root, errno.raw_os_error());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let first = open(root, flags, Mode::empty()).map_err(failed)?;
    visit_all(first, what).map_err(failed)
}

fn visit_all(root: OwnedFd, what: Visit<'_>) -> Result<(), Errno> {
    let device = fstat(&root)?.st_dev;
    what(root.as_fd(), true)?;
    let (mut above, mut files) = (vec![Dir::new(root)?], 0);
    while let Some(directory) = above.last_mut() {
        let Some(entry) = directory.read() else {
            above.pop();
            continue;
        };
        let entry = entry?;
        if [c".", c".."].contains(&entry.file_name()) {
            continue;
        }
        files += 1;
        if files > VISITED_MAX {
            return Err(Errno::TOOBIG);
        }
        let Some((file, is_directory)) = held(directory.fd()?, entry.file_name(), device)? else {
            continue;
        };
        what(file.as_fd(), is_directory)?;
        if is_directory {
            if above.len() == DEPTH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            above.push(Dir::new(file)?);
        }
    }
    Ok(())
}

/// Opens a directory or a plain file of this device, and nothing else.
fn held(
    at: BorrowedFd<'_>,
    name: &CStr,
    device: rustix::fs::Dev,
) -> Result<Option<(OwnedFd, bool)>, Errno> {
    let wanted =
        |mode| matches!(FileType::from_raw_mode(mode), FileType::Directory | FileType::RegularFile);
    // What a device or a pipe does when it is opened is not wanted.
    let of = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(of) if wanted(of.st_mode) && of.st_dev == device => of,
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(at, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => file?,
    };
    let same = fstat(&file)?;
    let same = (same.st_ino, same.st_dev) == (of.st_ino, of.st_dev);
    Ok(same.then_some((file, is_directory(of.st_mode))))
}

fn is_directory(mode: rustix::fs::RawMode) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::mkdirat;

    use super::*;
    use crate::testing::Directory;

    /// Makes directories within each other.
    fn deep(root: &Path, levels: usize) {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = open(root, flags, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        openat(&at, "file", OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR).unwrap();
    }

    #[test]
    fn a_tree_goes_however_deep_it_is_and_whatever_is_called_as_what_is_moved() {
        let directory = Directory::new("tree-deep");
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("going-1/going-2")).unwrap();
        fs::write(root.join("going-2"), "").unwrap();
        deep(&root, 4000);
        deep(&root.join("going-1"), 2 * DEPTH_MAX);
        // As little as a level each would need.
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let removed = small.spawn({
            let root = root.clone();
            move || remove(&root)
        });
        removed.unwrap().join().unwrap().unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn a_visit_sees_directories_and_files_and_follows_nothing() {
        let (directory, outside) = (Directory::new("tree-visit"), Directory::new("tree-outside"));
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "x").unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("link")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let mut seen = (0, 0);
        visit(&root, &mut |_, is_directory| {
            if is_directory {
                seen.0 += 1
            } else {
                seen.1 += 1
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (3, 1));
        deep(&root, DEPTH_MAX);
        let refused = visit(&root, &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(refused.errno, libc::ENAMETOOLONG);
        assert_eq!(visit(&root.join("link"), &mut |_, _| Ok(())).unwrap_err().errno, libc::ENOTDIR);
    }

    #[test]
    fn an_entry_of_an_open_directory_goes_and_a_link_goes_without_what_it_points_to() {
        let directory = Directory::new("tree-at");
        fs::create_dir_all(directory.path().join("kept/in")).unwrap();
        fs::create_dir_all(directory.path().join("root/in")).unwrap();
        std::os::unix::fs::symlink("kept", directory.path().join("link")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = open(directory.path(), flags, Mode::empty()).unwrap();
        for name in ["root", "link", "none"] {
            remove_at(above.as_fd(), OsStr::new(name)).unwrap();
            assert!(fs::symlink_metadata(directory.path().join(name)).is_err(), "{name}");
        }
        assert!(directory.path().join("kept/in").exists());
    }

    #[test]
    fn a_tree_goes_with_closed_directories_and_without_what_links_point_to() {
        let outside = Directory::new("tree-outside");
        fs::write(outside.path().join("kept"), "").unwrap();
        let directory = Directory::new("tree");
        let root = directory.path().join("root");
        let closed = root.join("a/closed");
        fs::create_dir_all(closed.join("in")).unwrap();
        fs::write(closed.join("in/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("link")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        remove(&root).unwrap();
        assert!(!root.exists());
        assert!(outside.path().join("kept").exists());
        assert_eq!(remove(&root), Ok(()));
    }
}
