//! Removing a directory with everything in it, whoever made what is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
