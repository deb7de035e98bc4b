//! Files of sandboxes, read for who may. A path leads nowhere but into one sandbox: no link is
//! followed on the way, and only what is a plain file or a directory is opened.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use mesita_core::wire::ContainerId;
use rustix::fs::{FileType, Mode, OFlags, openat};
use serde::Serialize;

use crate::v1::amounts::seconds;

/// Bytes of one answer. Mesos: 16 pages.
pub(super) const PAGE: u64 = 16 * 4096;
/// Entries of a directory that are listed.
const ENTRIES_MAX: usize = 10_000;

/// Why there is nothing to read.
#[derive(Debug)]
pub(super) enum BadPath {
    /// It is in no sandbox.
    Outside,
    /// It is not there, or no plain file or directory.
    Missing,
    /// The other of the two.
    Kind(&'static str),
    /// The system says no.
    Os(io::Error),
}

impl From<io::Error> for BadPath {
    fn from(error: io::Error) -> Self {
        let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        if missing.contains(&error.kind()) { Self::Missing } else { Self::Os(error) }
    }
}

/// A file or directory, as Mesos lists it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) nlink: u64,
    pub(super) size: u64,
    pub(super) mtime: f64,
    #[serde(skip)]
    pub(super) mtime_us: u64,
    pub(super) mode: String,
    #[serde(skip)]
    pub(super) bits: u32,
    pub(super) uid: String,
    pub(super) gid: String,
}

/// The sandbox that a path is in, and what follows.
pub(super) fn part(sandboxes: &Path, path: &Path) -> Result<(ContainerId, PathBuf), BadPath> {
    let rest = path.strip_prefix(sandboxes).map_err(|_| BadPath::Outside)?;
    let mut parts = rest.components();
    let Some(Component::Normal(first)) = parts.next() else { return Err(BadPath::Outside) };
    let id = first.to_str().and_then(ContainerId::parse).ok_or(BadPath::Outside)?;
    let inside = parts.as_path();
    // No name has that.
    if inside.as_os_str().as_bytes().contains(&0) {
        return Err(BadPath::Missing);
    }
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if inside.components().all(plain) { Ok((id, inside.to_owned())) } else { Err(BadPath::Outside) }
}

/// Opens what is inside of a sandbox.
fn open(sandbox: &Path, inside: &Path) -> Result<File, BadPath> {
    let way = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: OwnedFd = rustix::fs::open(sandbox, way, Mode::empty()).map_err(io::Error::from)?;
    let names: Vec<_> = inside.iter().collect();
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        // A pipe would otherwise wait for somebody to write into it.
        let end = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let flags = if last { end } else { way };
        at = openat(&at, *name, flags, Mode::empty()).map_err(|errno| match errno {
            rustix::io::Errno::LOOP => BadPath::Missing,
            errno => io::Error::from(errno).into(),
        })?;
    }
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&at).map_err(io::Error::from)?.st_mode);
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        Ok(at.into())
    } else {
        Err(BadPath::Missing)
    }
}

/// Opens a plain file; its size is told beside it.
pub(super) fn open_file(sandbox: &Path, inside: &Path) -> Result<(File, u64), BadPath> {
    let file = open(sandbox, inside)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(BadPath::Kind("a directory"));
    }
    Ok((file, metadata.len()))
}

/// At most so many bytes of a file.
pub(super) fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length.min(PAGE)).unwrap_or(0);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let at = offset.saturating_add(filled as u64);
        match file.read_at(&mut bytes[filled..], at) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// What is in a directory, by name. `shown` is its path as it is asked for.
pub(super) fn browse(sandbox: &Path, inside: &Path, shown: &str) -> Result<Vec<Entry>, BadPath> {
    let directory = open(sandbox, inside)?;
    if !directory.metadata()?.is_dir() {
        return Err(BadPath::Kind("a file"));
    }
    let mut entries = Vec::new();
    let listed = rustix::fs::Dir::read_from(&directory).map_err(io::Error::from)?;
    for entry in listed.take(ENTRIES_MAX) {
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        // It may be gone by now.
        let Ok(stat) = rustix::fs::statat(&directory, name, flags) else { continue };
        let name = name.to_string_lossy();
        let mtime_us = u64::try_from(stat.st_mtime).unwrap_or(0).saturating_mul(1_000_000);
        entries.push(Entry {
            path: format!("{}/{name}", shown.trim_end_matches('/')),
            // Its width is the machine's.
            #[allow(clippy::useless_conversion)]
            nlink: u64::from(stat.st_nlink),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: seconds(mtime_us),
            mtime_us,
            mode: mode(stat.st_mode),
            bits: stat.st_mode,
            uid: mesita_isolation::user::name_of(stat.st_uid)
                .unwrap_or_else(|| stat.st_uid.to_string()),
            gid: mesita_isolation::user::group_name_of(stat.st_gid)
                .unwrap_or_else(|| stat.st_gid.to_string()),
        });
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// A mode as ls(1) writes it.
fn mode(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::RegularFile | FileType::Unknown => '-',
    };
    let letters = "rwxrwxrwx".chars().enumerate();
    let bits =
        letters.map(|(index, letter)| if mode & (0o400 >> index) == 0 { '-' } else { letter });
    std::iter::once(kind).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_into_one_sandbox_and_nowhere_else() {
        let sandboxes = Path::new("/w/sandboxes");
        let inside = |path: &str| part(sandboxes, Path::new(path)).ok();
        let id = ContainerId { incarnation: 1, counter: 2 };
        assert_eq!(inside("/w/sandboxes/1-2/a/stdout"), Some((id, PathBuf::from("a/stdout"))));
        assert_eq!(inside("/w/sandboxes/1-2"), Some((id, PathBuf::new())));
        for outside in [
            "/w/sandboxes",
            "/w/sandboxes/1-2/../1-3/stdout",
            "/w/sandboxes/../meta/key",
            "/w/sandboxes/x/stdout",
            "/etc/passwd",
            "stdout",
            "",
        ] {
            assert_eq!(inside(outside), None, "{outside}");
        }
    }

    #[test]
    fn no_link_is_followed_and_nothing_but_files_is_opened() {
        let name = format!("mesita-files-{}", std::process::id());
        let sandbox = std::env::temp_dir().join(name);
        std::fs::create_dir_all(sandbox.join("sub")).unwrap();
        std::fs::write(sandbox.join("sub/file"), "hello").unwrap();
        std::os::unix::fs::symlink("/etc", sandbox.join("way")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", sandbox.join("link")).unwrap();
        let fifo = rustix::fs::CWD;
        rustix::fs::mknodat(fifo, sandbox.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let (file, size) = open_file(&sandbox, Path::new("sub/file")).unwrap();
        assert_eq!((size, read(&file, 1, 3).unwrap()), (5, b"ell".to_vec()));
        for bad in ["way/passwd", "link", "pipe", "none", "sub/file/x"] {
            assert!(open_file(&sandbox, Path::new(bad)).is_err(), "{bad}");
        }
        assert!(matches!(open_file(&sandbox, Path::new("sub")), Err(BadPath::Kind(_))));
        let listed = browse(&sandbox, Path::new(""), "/shown/").unwrap();
        let paths: Vec<&str> = listed.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["/shown/link", "/shown/pipe", "/shown/sub", "/shown/way"]);
        assert!(listed[2].mode.starts_with('d'), "{}", listed[2].mode);
        std::fs::remove_dir_all(&sandbox).unwrap();
    }
}
