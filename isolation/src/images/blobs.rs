//! Content of images as it comes, by its digest: manifests, configurations, packed layers. What is here
//! was verified, and can be handed on to others; what is on its way stays, however often that breaks.
//!
//! ```text
//! blobs/<hex>        whole
//! blobs/<hex>.part   its beginning
//! blobs/<hex>.tag    what its server calls the version that this is the beginning of
//! ```
//! Nothing needs what is here once an image is unpacked: what was not used for longest goes first when
//! there is no more room.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::digest::Hashing;
use super::store::touch;
use super::{Digest, Error};
use crate::sys::Failure;

/// The end of the name of what is not whole.
const PART: &str = "part";
/// The end of the name of what is said of that.
const TAG: &str = "tag";
/// Bytes of a tag; a longer one is none.
const TAG_MAX: usize = 1024;
/// The beginning of the name of what is taken in, whatever it is.
const FRESH: &str = "fresh-";

/// What is kept of images as it comes.
#[derive(Debug)]
pub struct Blobs {
    directory: PathBuf,
    max: u64,
    number: AtomicU64,
}

impl Blobs {
    /// Opens the directory of all, and makes it if need be; together they take at most `max` bytes.
    /// Blocks.
    pub(super) fn open(directory: &Path, max: u64) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| Failure::io("mkdir", directory, &error))?;
        let own = Self { directory: directory.to_owned(), max, number: AtomicU64::new(0) };
        // What was taken in when the agent ended has no digest.
        for (_, _, path) in own.all().iter().filter(|(_, _, path)| digest_of(path).is_none()) {
            fs::remove_file(path).map_err(|error| Failure::io("remove", path, &error))?;
        }
        Ok(own)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    fn part_path(&self, digest: Digest) -> PathBuf {
        self.path(digest).with_extension(PART)
    }

    /// True if it is here whole.
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// How much of it is here, of one that is not whole.
    pub fn begun(&self, digest: Digest) -> u64 {
        fs::metadata(self.part_path(digest)).map_or(0, |of| of.len())
    }

    /// Opens one that is whole, and tells its bytes. Blocks.
    pub fn read(&self, digest: Digest) -> Option<(File, u64)> {
        let path = self.path(digest);
        let file = File::open(&path).ok()?;
        touch(&path);
        let len = file.metadata().ok()?.len();
        Some((file, len))
    }

    /// A document that is whole. Blocks.
    pub(super) fn document(&self, digest: Digest) -> Option<Vec<u8>> {
        let (file, len) = self.read(digest)?;
        let mut bytes = Vec::new();
        file.take(super::DOCUMENT_MAX.min(len)).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 == len).then_some(bytes)
    }

    /// Opens what is here of one that is not whole, to go on behind it. Blocks.
    pub fn part(&self, digest: Digest) -> Result<File, Error> {
        let path = self.part_path(digest);
        let open = File::options().append(true).create(true).mode(0o600).open(&path);
        Ok(open.map_err(|error| Failure::io("open", &path, &error))?)
    }

    /// What the server calls the version that the beginning here is of, if it said so. Blocks.
    pub fn tag(&self, digest: Digest) -> Option<String> {
        fs::read_to_string(self.tag_path(digest)).ok().filter(|tag| tag.len() <= TAG_MAX)
    }

    /// Notes what it calls the version that is about to come from its beginning. One that cannot be noted
    /// is none. Blocks.
    pub fn set_tag(&self, digest: Digest, tag: Option<&str>) {
        let path = self.tag_path(digest);
        let noted = tag.filter(|tag| tag.len() <= TAG_MAX).is_some_and(|tag| {
            let mut file = File::options();
            let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(tag.as_bytes())).is_ok()
        });
        if !noted {
            let _ = fs::remove_file(path);
        }
    }

    fn tag_path(&self, digest: Digest) -> PathBuf {
        self.path(digest).with_extension(TAG)
    }

    /// Lets go of one that is not whole. One that is not there is as good.
    pub fn forget_part(&self, digest: Digest) {
        let _ = fs::remove_file(self.part_path(digest));
        self.set_tag(digest, None);
    }

    /// Where one is that is not whole.
    pub fn part_at(&self, digest: Digest) -> PathBuf {
        self.part_path(digest)
    }

    /// All of it has come: what is not what its name says goes. Blocks.
    pub fn finish(&self, digest: Digest) -> Result<(), Error> {
        let part = self.part_path(digest);
        let failed = |error: io::Error| Failure::io("read", &part, &error);
        let file = File::open(&part).map_err(failed)?;
        let found = Hashing::new(&file).finish().map_err(failed)?;
        if found != digest {
            self.forget_part(digest);
            return Err(Error::Digest { expected: digest, found });
        }
        // What a power cut takes is not told as whole.
        file.sync_all().map_err(failed)?;
        self.set_tag(digest, None);
        Ok(fs::rename(&part, self.path(digest)).map_err(failed)?)
    }

    /// Takes in what is read, whatever its digest is, and tells that. Blocks.
    pub fn put(&self, mut from: impl Read) -> Result<(Digest, u64), Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let fresh = self.directory.join(format!("{FRESH}{number}.{PART}"));
        let failed = |error: io::Error| Failure::io("write", &fresh, &error);
        let mut file = File::options();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let mut file = file.map_err(failed)?;
        let mut hashing = Hashing::new(&mut from);
        let len = io::copy(&mut hashing, &mut file).map_err(failed)?;
        let digest = hashing.finish().map_err(failed)?;
        file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&fresh, self.path(digest)).map_err(failed)?;
        Ok((digest, len))
    }

    /// Bytes of all.
    pub fn bytes(&self) -> u64 {
        self.all().iter().map(|(_, len, _)| len).sum()
    }

    /// The most that these may be.
    pub fn bytes_max(&self) -> u64 {
        self.max
    }

    /// Lets those go that were not used for longest until there is room for so many bytes more, but for
    /// these. Blocks. O(blobs).
    pub fn make_room(&self, more: u64, kept: &[Digest]) -> Result<(), Error> {
        let mut all = self.all();
        all.sort_unstable();
        let mut have: u64 = all.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in all {
            if have.saturating_add(more) <= self.max {
                return Ok(());
            }
            // What is just taken in has none.
            if digest_of(&path).is_none_or(|own| kept.contains(&own)) {
                continue;
            }
            fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?;
            have = have.saturating_sub(len);
        }
        self.has_room_for(have.saturating_add(more))
    }

    /// An error if so many bytes are more than are ever kept.
    pub fn has_room_for(&self, bytes: u64) -> Result<(), Error> {
        if bytes <= self.max {
            return Ok(());
        }
        let what = "content of images as it comes takes bytes,";
        Err(Error::Over { what, flag: "--image-blobs-max", max: self.max })
    }

    /// Lets all go. Blocks.
    pub fn clear(&self) -> Result<(), Error> {
        for (_, _, path) in self.all() {
            fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?;
        }
        Ok(())
    }

    /// When each was used last, its bytes, and where it is.
    fn all(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let of = entry.metadata().ok()?;
            Some((of.modified().ok()?, of.len(), entry.path()))
        });
        files.collect()
    }

    /// Lays out what is here of an image for who reads such: an index, and these. Blocks.
    pub(super) fn lay_out(&self, room: &Path, index: Digest, of: &[Digest]) -> Result<(), Error> {
        let below = room.join("blobs/sha256");
        let failed = |error: io::Error| Failure::io("link", &below, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&below).map_err(failed)?;
        for digest in of {
            fs::hard_link(self.path(*digest), below.join(digest.hex())).map_err(failed)?;
        }
        Ok(fs::hard_link(self.path(index), room.join("index.json")).map_err(failed)?)
    }
}

/// What a file is, or is to be.
fn digest_of(path: &Path) -> Option<Digest> {
    Digest::of_hex(path.file_stem()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Directory;

    #[test]
    fn what_broke_off_goes_on_and_what_is_not_what_it_should_be_goes() {
        let directory = Directory::new("blobs");
        let blobs = Blobs::open(&directory.path().join("blobs"), 100).unwrap();
        let digest = Digest::of(b"half and half");
        blobs.part(digest).unwrap().write_all(b"half ").unwrap();
        assert_eq!((blobs.begun(digest), blobs.has(digest)), (5, false));
        // Another agent is there now.
        let blobs = Blobs::open(&directory.path().join("blobs"), 100).unwrap();
        blobs.part(digest).unwrap().write_all(b"and half").unwrap();
        blobs.finish(digest).unwrap();
        assert!(blobs.has(digest) && blobs.begun(digest) == 0);
        let (mut file, len) = blobs.read(digest).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), len), ("half and half", 13));
        assert_eq!(blobs.tag(digest), None);
        let other = Digest::of(b"other");
        blobs.part(other).unwrap().write_all(b"changed").unwrap();
        for (tag, kept) in [("\"a\"".to_owned(), true), ("x".repeat(TAG_MAX + 1), false)] {
            blobs.set_tag(other, Some(&tag));
            assert_eq!(blobs.tag(other), kept.then_some(tag));
        }
        blobs.set_tag(other, Some("\"b\""));
        let refused = blobs.finish(other).unwrap_err().to_string();
        assert!(refused.contains("changed or cut off"), "{refused}");
        assert!(!blobs.has(other) && blobs.begun(other) == 0 && blobs.tag(other).is_none());
        assert_eq!(blobs.put(&b"x"[..]).unwrap(), (Digest::of(b"x"), 1));
        assert_eq!(blobs.bytes(), 14);
        blobs.clear().unwrap();
        assert_eq!(blobs.bytes(), 0);
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_needed_stays() {
        let directory = Directory::new("blobs-room");
        let blobs = Blobs::open(directory.path(), 10).unwrap();
        let [old, used, new] = [&b"1111"[..], b"222", b"33"].map(|of| blobs.put(of).unwrap().0);
        for (seconds, digest) in [(1, old), (9, used), (5, new)] {
            let file = File::open(blobs.path(digest)).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(at).unwrap();
        }
        blobs.make_room(1, &[]).unwrap();
        assert!([old, used, new].iter().all(|of| blobs.has(*of)), "there is room");
        blobs.make_room(2, &[old]).unwrap();
        assert_eq!([old, used, new].map(|of| blobs.has(of)), [true, true, false]);
        let refused = blobs.make_room(8, &[old]).unwrap_err().to_string();
        assert!(refused.contains("--image-blobs-max"), "{refused}");
    }
}
