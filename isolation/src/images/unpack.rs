//! A layer becomes a directory, in the form that overlayfs takes.
//!
//! What a layer says is removed becomes a whiteout, what it says is all of a directory an opaque one.
//! Everything is done to descriptors of directories that the kernel found below that of the layer,
//! through no symbolic link; so nothing outside is ever touched, whatever is in the archive. Extended
//! attributes are left out, and so are set-user-id bits: no container would honour them.
//!
//! Sources: OCI image specification, `layer.md`; the kernel's `overlayfs.rst`.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::digest::Hashing;
use super::packing::Unpacked;
use super::tape::{Entry, Kind, Reel, Tape};
use super::{Bounds, Digest, Error};
use crate::sys::{Failure, open_within};

/// What marks a name as removed, and what a directory as all there is of it.
const REMOVED: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other files of aufs, which say nothing about a layer.
const NOTES: &[u8] = b".wh..wh.";
/// The attribute of an opaque directory.
pub(super) const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// Bytes of one name. Linux: `NAME_MAX`.
const PART_MAX: usize = 255;

/// Unpacks a layer into `directory`, which is empty and ours. The digest of what was packed, that of
/// the tar, and the bytes of its files. Blocks.
pub(super) fn unpack(
    packed: &mut dyn Read,
    directory: BorrowedFd<'_>,
    bounds: &Bounds,
) -> Result<(Digest, Digest, u64), Error> {
    let mut packed = Hashing::new(packed);
    let mut plain = Hashing::new(Unpacked::new(&mut packed, bounds)?);
    let mut layer = Layer { root: directory, parent: None, bounds, bytes: 0 };
    let mut tape = Tape::new(Reel::Stream(&mut plain), bounds.entries);
    while let Some(entry) = tape.entry()? {
        layer.take(&entry, &mut tape.contents())?;
    }
    let bytes = layer.bytes;
    // What follows the end of the archive counts as well.
    let plain = plain.finish()?;
    Ok((packed.finish()?, plain, bytes))
}

/// A layer that is being unpacked.
struct Layer<'l> {
    root: BorrowedFd<'l>,
    /// The directory of the last entry.
    parent: Option<(Vec<u8>, OwnedFd)>,
    bounds: &'l Bounds,
    bytes: u64,
}

/// Where an entry goes: the directory and the name in it.
struct Spot<'e> {
    above: Vec<u8>,
    name: &'e [u8],
}

impl Layer<'_> {
    fn take(&mut self, entry: &Entry, contents: &mut dyn Read) -> Result<(), Error> {
        let Some(spot) = self.spot(entry)? else {
            // The layer's own directory.
            return if entry.kind == Kind::Directory {
                self.own(entry)
            } else {
                Err(entry.bad(NO_NAME))
            };
        };
        if let Some(removed) = spot.name.strip_prefix(REMOVED) {
            return self.remove(entry, &spot, removed);
        }
        let Spot { above, name } = spot;
        self.enter(entry, above)?;
        let parent = self.parent();
        match entry.kind {
            Kind::Directory => directory(entry, parent, name),
            Kind::File => {
                let bytes = file(entry, parent, name, contents)?;
                self.bytes += bytes;
                Ok(())
            }
            Kind::Symlink => symlink(entry, parent, name),
            Kind::HardLink => self.hard_link(entry, name),
            Kind::Device => Err(entry.bad("which is a device: images bring none")),
            Kind::Other => Err(entry.bad("which is neither file, directory nor link")),
        }
    }

    /// Where an entry goes; none for the layer's own directory.
    fn spot<'e>(&self, entry: &'e Entry) -> Result<Option<Spot<'e>>, Error> {
        let mut parts = self.parts(entry, &entry.path)?;
        let Some(name) = parts.pop() else { return Ok(None) };
        Ok(Some(Spot { above: parts.join(&b'/'), name }))
    }

    /// The parts of a path: below the layer, however it begins.
    fn parts<'e>(&self, entry: &Entry, path: &'e [u8]) -> Result<Vec<&'e [u8]>, Error> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let parts: Vec<&[u8]> = parts.collect();
        if parts.contains(&&b".."[..]) {
            return Err(entry.bad("which leads upwards"));
        }
        if parts.iter().any(|part| part.len() > PART_MAX) {
            return Err(entry.bad("which has a name of more than 255 bytes"));
        }
        if parts.len() as u64 > self.bounds.depth {
            let (flag, max) = ("--image-depth-max", self.bounds.depth);
            return Err(Error::Over {
                what: "a layer has directories within each other,",
                flag,
                max,
            });
        }
        Ok(parts)
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or(self.root, |(_, parent)| parent.as_fd())
    }

    /// Makes a directory of the layer the one that entries go to, and it if need be.
    fn enter(&mut self, entry: &Entry, above: Vec<u8>) -> Result<(), Error> {
        if self.parent.as_ref().is_some_and(|(path, _)| *path == above) {
            return Ok(());
        }
        let parent = match below(self.root, &above) {
            Err(Errno::NOENT) => self.make(entry, &above)?,
            opened => opened.map_err(|errno| led_astray(entry, errno))?,
        };
        self.parent = Some((above, parent));
        Ok(())
    }

    /// Makes a directory that has no entry of its own.
    fn make(&self, entry: &Entry, path: &[u8]) -> Result<OwnedFd, Error> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut parent = below(self.root, b"").map_err(|errno| os("open", path, errno))?;
        let mut from = 0;
        for end in ends.chain([path.len()]) {
            let part = OsStr::from_bytes(path.get(from..end).unwrap_or_default());
            match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(os("mkdir", path, errno)),
            }
            let opened = below(parent.as_fd(), part.as_bytes());
            parent = opened.map_err(|errno| led_astray(entry, errno))?;
            from = end + 1;
        }
        Ok(parent)
    }

    fn own(&self, entry: &Entry) -> Result<(), Error> {
        let root = reopen(self.root, b".").map_err(|errno| os("open", b".", errno))?;
        belong(entry, root.as_fd()).map_err(|errno| os("chmod", b".", errno))
    }

    /// Something of the layers below is not to be seen.
    fn remove(&mut self, entry: &Entry, spot: &Spot<'_>, removed: &[u8]) -> Result<(), Error> {
        if entry.kind != Kind::File || entry.size > 0 {
            return Err(entry.bad("which removes something and is no empty file"));
        }
        if spot.name != OPAQUE && spot.name.starts_with(NOTES) {
            return Ok(());
        }
        self.enter(entry, spot.above.clone())?;
        let parent = self.parent();
        if spot.name == OPAQUE {
            let own = reopen(parent, b".").map_err(|errno| os("open", &entry.path, errno))?;
            return make_opaque(entry, own.as_fd());
        }
        if matches!(removed, b"" | b"." | b"..") {
            return Err(entry.bad("which removes nothing that has a name"));
        }
        let name = OsStr::from_bytes(removed);
        match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // What the same layer brings is there, in whichever order they come; of a directory it is
            // all there is.
            Err(Errno::EXIST) => match reopen(parent, removed) {
                Ok(directory) => make_opaque(entry, directory.as_fd()),
                Err(_) => Ok(()),
            },
            Err(errno) => Err(os("mknod", &entry.path, errno)),
        }
    }

    fn hard_link(&self, entry: &Entry, name: &[u8]) -> Result<(), Error> {
        let missing = "which is a link to something that its layer does not have before it";
        let mut parts = self.parts(entry, &entry.link)?;
        let Some(old_name) = parts.pop() else { return Err(entry.bad(missing)) };
        let old_name = OsStr::from_bytes(old_name);
        let old = below(self.root, &parts.join(&b'/')).map_err(|errno| led_astray(entry, errno))?;
        let of = match statat(&old, old_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(of) => FileType::from_raw_mode(of.st_mode),
            Err(Errno::NOENT) => return Err(entry.bad(missing)),
            Err(errno) => return Err(os("stat", &entry.path, errno)),
        };
        if !matches!(of, FileType::RegularFile | FileType::Symlink) {
            return Err(entry.bad("which is a link to what is no file"));
        }
        let parent = self.parent();
        make_room(entry, parent, name)?;
        let linked = linkat(old, old_name, parent, OsStr::from_bytes(name), AtFlags::empty());
        linked.map_err(|errno| os("link", &entry.path, errno))
    }
}

/// A directory is all there is of it, whatever the layers below have.
fn make_opaque(entry: &Entry, directory: BorrowedFd<'_>) -> Result<(), Error> {
    let set = fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty());
    set.map_err(|errno| os("setxattr", &entry.path, errno))
}

/// True for what stands for something that was removed.
fn is_removed(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    let of = statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW);
    of.is_ok_and(|of| FileType::from_raw_mode(of.st_mode) == FileType::CharacterDevice)
}

const NO_NAME: &str = "which has no name";

fn os(call: &'static str, path: &[u8], errno: Errno) -> Error {
    Error::Os(Failure::new(call, Path::new(OsStr::from_bytes(path)), errno.raw_os_error()))
}

fn led_astray(entry: &Entry, errno: Errno) -> Error {
    match errno {
        Errno::LOOP => entry.bad("which leads through a symbolic link"),
        Errno::NOTDIR => entry.bad("which leads through what is no directory"),
        Errno::XDEV => entry.bad("which leads out of the layer"),
        Errno::NOENT => entry.bad("which leads to something that is not there"),
        errno => os("open", &entry.path, errno),
    }
}

/// A directory below another: nothing on the way is a link.
pub(super) fn below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    resolve(root, path, flags)
}

/// Opens what is below a directory, through no link.
pub(super) fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_within(root, path, flags, how)
}

/// Something that is held, to be changed.
fn reopen(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Gives what an entry is about its owner, mode and time.
fn belong(entry: &Entry, of: BorrowedFd<'_>) -> Result<(), Errno> {
    owned(entry, |uid, gid| fchown(of, uid, gid))?;
    let bits = if entry.kind == Kind::Directory { 0o3777 } else { 0o777 };
    fchmod(of, Mode::from_raw_mode(entry.mode & bits))?;
    let time = Timespec { tv_sec: i64::try_from(entry.mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
    futimens(of, &Timestamps { last_access: time, last_modification: time })
}

/// Whose an entry is, as far as we may say so: root alone gives away.
fn owned(
    entry: &Entry,
    give: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    give(Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

/// What an earlier entry put there goes, unless it is a directory.
fn make_room(entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    match unlinkat(parent, OsStr::from_bytes(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            Err(entry.bad("which is a directory and something else as well"))
        }
        Err(errno) => Err(os("unlink", &entry.path, errno)),
    }
}

fn directory(entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    let failed = |call| move |errno| os(call, &entry.path, errno);
    let make = || mkdirat(parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o700));
    let opened = match make() {
        Ok(()) => reopen(parent, name),
        Err(Errno::EXIST) => match reopen(parent, name) {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let removed = is_removed(parent, name);
                make_room(entry, parent, name)?;
                make().map_err(failed("mkdir"))?;
                let made = reopen(parent, name).map_err(failed("open"))?;
                if removed {
                    make_opaque(entry, made.as_fd())?;
                }
                Ok(made)
            }
            opened => opened,
        },
        Err(errno) => return Err(failed("mkdir")(errno)),
    };
    let opened = opened.map_err(failed("open"))?;
    belong(entry, opened.as_fd()).map_err(failed("chmod"))
}

fn file(
    entry: &Entry,
    parent: BorrowedFd<'_>,
    name: &[u8],
    contents: &mut dyn Read,
) -> Result<u64, Error> {
    make_room(entry, parent, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(made.map_err(|errno| os("create", &entry.path, errno))?);
    let bytes = io::copy(contents, &mut file)?;
    file.flush()?;
    if bytes != entry.size {
        return Err(entry.bad("which is cut off"));
    }
    belong(entry, file.as_fd()).map_err(|errno| os("chmod", &entry.path, errno))?;
    Ok(bytes)
}

fn symlink(entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    make_room(entry, parent, name)?;
    let (failed, name) = (|errno| os("symlink", &entry.path, errno), OsStr::from_bytes(name));
    let target = CString::new(entry.link.clone()).unwrap_or_default();
    if target.is_empty() {
        return Err(entry.bad("which is a link to nothing"));
    }
    symlinkat(target, parent, name).map_err(failed)?;
    owned(entry, |uid, gid| chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))
        .map_err(failed)
}
