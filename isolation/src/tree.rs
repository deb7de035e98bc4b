//! Removing a directory with everything in it, and how much that takes, whoever made what is in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};

use crate::sys::Failure;

/// Removes a directory tree. Symbolic links are removed, never followed. One that does not exist is
/// as good. Directories that their owner had made unreadable are opened up first.
pub(crate) fn remove(root: &Path) -> Result<(), Failure> {
    let first = fs::remove_dir_all(root);
    let error = match first {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => error,
    };
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        open_up(root);
        return fs::remove_dir_all(root).map_err(|error| Failure::io("remove", root, &error));
    }
    Err(Failure::io("remove", root, &error))
}

/// The same of whatever is there.
pub(crate) fn remove_any(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(of) if of.is_dir() => remove(path),
        Ok(_) => fs::remove_file(path).map_err(|error| Failure::io("remove", path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("remove", path, &error)),
    }
}

/// Gives the owner of every directory in a tree all rights to it. What cannot be changed will be
/// named when it cannot be removed.
fn open_up(root: &Path) {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let inside =
            entries.flatten().filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir()));
        directories.extend(inside.map(|entry| entry.path()));
    }
}

/// Directories below each other that are looked into, each of which takes a descriptor.
pub(crate) const DEPTH_MAX: usize = 128;
/// Files that are looked at.
const FILES_MAX: usize = 200_000;

/// What the files of a tree take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes of disk.
    pub(crate) bytes: u64,
    /// All of it was seen: it is no deeper than [`DEPTH_MAX`], and no more than can be looked at.
    pub(crate) whole: bool,
}

/// What the files of a tree take on its own file system: no link is followed, and what has several
/// names is counted once. It may change meanwhile.
pub(crate) fn size(root: &Path) -> Result<Size, Failure> {
    let failed = |errno: rustix::io::Errno| Failure::new("list", root, errno.raw_os_error());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let first = open(root, flags, Mode::empty()).map_err(failed)?;
    let device = rustix::fs::fstat(&first).map_err(failed)?.st_dev;
    let mut above = vec![Dir::new(first).map_err(failed)?];
    let (mut all, mut seen, mut files) = (Size { bytes: 0, whole: true }, BTreeSet::new(), 0);
    while !above.is_empty() {
        let depth = above.len();
        let Some(directory) = above.last_mut() else { break };
        // What cannot be read any more is gone.
        let Some(Ok(entry)) = directory.read() else {
            above.pop();
            continue;
        };
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let Ok(at) = directory.fd() else { continue };
        let Ok(of) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        files += 1;
        if files > FILES_MAX {
            all.whole = false;
            break;
        }
        if of.st_dev != device
            || (of.st_nlink > 1 && !is_directory(of.st_mode) && !seen.insert(of.st_ino))
        {
            continue;
        }
        all.bytes = all.bytes.saturating_add(u64::try_from(of.st_blocks).unwrap_or(0) * 512);
        if is_directory(of.st_mode) {
            if depth == DEPTH_MAX {
                all.whole = false;
                continue;
            }
            // One that was closed to everybody is its owner's to open again.
            let below = openat(at, name, flags, Mode::empty()).and_then(Dir::new);
            above.extend(below);
        }
    }
    Ok(all)
}

fn is_directory(mode: rustix::fs::RawMode) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;

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
