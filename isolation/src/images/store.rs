//! What is kept of images, for how long, and who needs it.
//!
//! ```text
//! lock                 held by the one agent that uses the store
//! layers/<hex>/        a layer, by the digest of its tar; <hex>.bytes says how large its files are
//! images/<hex>.json    an image by the digest of its name; when it was last used is the file's time
//! blobs/               content as it comes: `blobs`
//! tmp/                 what is not whole yet, or about to go; emptied at the start
//! ```
//! Something is either there whole or not at all: it is put together under `tmp`, written through to
//! the disk, and renamed. The directory is the agent's alone, so nobody reaches a program in a layer
//! but through a container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, open,
    syncfs, utimensat,
};
use serde::{Deserialize, Serialize};

use super::documents::{self, Config, Configuration, Led, Platform, led, wanted};
use super::unpack::unpack;
use super::{Blobs, Bounds, Digest, Error, Name, Place, Source, malformed};
use crate::sys::Failure;
use crate::tree;

/// Indexes that lead to each other.
const INDEXES_MAX: usize = 4;
/// Images of one store.
const IMAGES_MAX: usize = 1024;

/// An image that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As it was asked for.
    pub name: String,
    /// The digest of its configuration, which names its contents.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How it is to be run.
    pub config: Config,
    /// What of its source would be different if it was another.
    stamp: String,
}

/// A layer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of its tar.
    pub digest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// The most that these may be.
    pub bytes_max: u64,
}

/// What has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// The images of an agent.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    bounds: Bounds,
    state: Mutex<State>,
    number: AtomicU64,
    blobs: Blobs,
    /// For as long as the store is open.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    /// By name, with when it was used: the higher the later.
    images: BTreeMap<String, (Image, u64)>,
    layers: BTreeMap<Digest, u64>,
    /// Layers of images that are on their way, and of how many.
    pinned: BTreeMap<Digest, u32>,
    used: u64,
}

/// What is not here of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// These at least.
    These(Vec<Digest>),
    /// Nothing; these are here.
    Nothing(Vec<Digest>),
}

/// What an image is made of, where it comes from.
struct Parts {
    id: Digest,
    /// Where its configuration is.
    config: String,
    configuration: Configuration,
    /// Where each layer is, and the digest of it as it is there, if that is known.
    layers: Vec<(String, Option<Digest>)>,
}

impl Store {
    /// Opens a store, and makes it if need be. Blocks.
    pub fn open(directory: &Path, bounds: Bounds) -> Result<Self, Error> {
        make(directory)?;
        let lock = take_lock(directory)?;
        tree::remove(&directory.join("tmp"))?;
        for part in ["tmp", "layers", "images"] {
            make(&directory.join(part))?;
        }
        let layers = layers(&directory.join("layers"))?;
        let images = images(&directory.join("images"), &layers)?;
        let used = images.len() as u64;
        let state = State { images, layers, pinned: BTreeMap::new(), used };
        let blobs = Blobs::open(&directory.join("blobs"), bounds.blob_bytes)?;
        let (directory, state) = (directory.to_owned(), Mutex::new(state));
        Ok(Self { directory, bounds, state, number: AtomicU64::new(0), blobs, _lock: lock })
    }

    /// Its bounds.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Where the layers are.
    pub fn layers_directory(&self) -> PathBuf {
        self.directory.join("layers")
    }

    /// A directory of its own for what comes from elsewhere; gone at the next start, if not before.
    pub fn room(&self) -> Result<PathBuf, Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join("tmp").join(number.to_string());
        make(&path)?;
        Ok(path)
    }

    /// What it holds. O(layers).
    pub fn usage(&self) -> Usage {
        let state = self.state();
        Usage {
            images: state.images.len() as u64,
            layers: state.layers.len() as u64,
            bytes: state.layers.values().sum(),
            bytes_max: self.bounds.store_bytes,
        }
    }

    /// The names of all images.
    pub fn names(&self) -> Vec<String> {
        self.state().images.keys().cloned().collect()
    }

    /// An image that is kept under a name.
    pub fn find(&self, name: &Name) -> Option<Image> {
        self.state().images.get(name.text()).map(|(image, _)| image.clone())
    }

    /// True if a layer is kept, by the digest of its tar.
    pub fn has_layer(&self, digest: Digest) -> bool {
        self.state().layers.contains_key(&digest)
    }

    /// Takes an image in, as what it is called from now on. What is kept already is not read again; if
    /// there is no room, images that nobody uses go, the longest unused first. `in_use` tells the
    /// layers that containers stand on. Blocks.
    pub fn add(
        &self,
        name: &Name,
        mut source: Source,
        in_use: &dyn Fn() -> BTreeSet<Digest>,
    ) -> Result<Image, Error> {
        let same = self.find(name).filter(|image| image.stamp == source.stamp());
        if let (Place::Path(_), Some(image)) = (name.place(), same) {
            return Ok(image);
        }
        source.index(&self.bounds, || self.file())?;
        let parts = parts(&source, name)?;
        let _pins = self.pin(&parts.configuration.layers);
        let mut arrived = Vec::new();
        let taken = self.unpack(&source, &parts, &mut arrived);
        let kept = taken.and_then(|()| {
            self.make_room(&arrived, in_use)?;
            self.keep(name, source.stamp(), &parts, &arrived)
        });
        for (_, _, path) in &arrived {
            // What was kept is not there any more; the rest goes at the latest at the next start.
            let _ = tree::remove(path);
        }
        kept
    }

    /// What is kept of images as it comes.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Keeps all that an image is made of as it comes, and tells the digest of the index that leads to
    /// it; of an archive of `docker save` that is one of ours. Blocks.
    pub fn pack(&self, name: &Name, mut source: Source) -> Result<Digest, Error> {
        source.index(&self.bounds, || self.file())?;
        if is_saved(&source, name) {
            return self.pack_saved(name, &source);
        }
        let index = self.blobs.put(&source.document("index.json")?[..])?.0;
        let mut kept = vec![index];
        loop {
            let missing = match self.lacks(name, index)? {
                Lacks::Nothing(_) => return Ok(index),
                Lacks::These(missing) => missing,
            };
            for digest in missing {
                let (found, _) = self.pack_one(&source, &blob(digest), &kept)?;
                same(digest, found)?;
                kept.push(digest);
            }
        }
    }

    fn pack_saved(&self, name: &Name, source: &Source) -> Result<Digest, Error> {
        let parts = parts(source, name)?;
        let config = self.blobs.put(&source.document(&parts.config)?[..])?;
        let (mut layers, mut kept) = (Vec::new(), vec![config.0]);
        for (path, _) in &parts.layers {
            let one = self.pack_one(source, path, &kept)?;
            kept.push(one.0);
            layers.push(one);
        }
        let manifest = self.blobs.put(documents::manifest(config, &layers).as_bytes())?;
        let index = documents::index(manifest, Platform::own());
        Ok(self.blobs.put(index.as_bytes())?.0)
    }

    fn pack_one(
        &self,
        source: &Source,
        path: &str,
        kept: &[Digest],
    ) -> Result<(Digest, u64), Error> {
        let max = self.bounds.layer_bytes;
        self.blobs.make_room(source.len(path)?.min(max), kept)?;
        let packed = self.blobs.put(source.read(path)?.take(max.saturating_add(1)))?;
        if packed.1 <= max {
            return Ok(packed);
        }
        let (what, flag) = ("a layer of the image takes bytes,", "--image-layer-max");
        Err(Error::Over { what, flag, max })
    }

    /// What is not here of an image that an index leads to, by which it can be told what else is not:
    /// to be asked again when that has come. Layers that are kept unpacked are here. Blocks.
    pub fn lacks(&self, name: &Name, index: Digest) -> Result<Lacks, Error> {
        let (mut at, mut named) = (index, Some(name));
        let mut here = Vec::new();
        for _ in 0..=INDEXES_MAX {
            let Some(bytes) = self.blobs.document(at) else { return Ok(Lacks::These(vec![at])) };
            match led(&bytes, named, Platform::own())? {
                Led::Index(digest) => (at, named) = (digest, None),
                Led::Manifest(digest) => return self.lacks_of(digest, here),
            }
            here.push(at);
        }
        Err(malformed("the index of the image leads to too many others"))
    }

    fn lacks_of(&self, manifest: Digest, mut here: Vec<Digest>) -> Result<Lacks, Error> {
        let lacks = |digest| Ok(Lacks::These(vec![digest]));
        let Some(bytes) = self.blobs.document(manifest) else { return lacks(manifest) };
        let wanted = wanted(&bytes)?;
        let Some(bytes) = self.blobs.document(wanted.config) else { return lacks(wanted.config) };
        let plain = documents::configuration(&bytes, Platform::own())?.layers;
        here.extend([manifest, wanted.config]);
        let (mut missing, mut needed) = (Vec::new(), 0_u64);
        for ((packed, size), plain) in wanted.layers.iter().zip(plain) {
            if self.blobs.has(*packed) {
                here.push(*packed);
            } else if !self.has_layer(plain) && !missing.contains(packed) {
                missing.push(*packed);
                needed = needed.saturating_add(*size);
            }
        }
        here.sort_unstable();
        here.dedup();
        // Before any of it is fetched.
        let kept = here.iter().filter_map(|digest| Some(self.blobs.read(*digest)?.1));
        self.blobs.has_room_for(kept.fold(needed, u64::saturating_add))?;
        Ok(if missing.is_empty() { Lacks::Nothing(here) } else { Lacks::These(missing) })
    }

    /// Takes in an image of which nothing [lacks](Self::lacks): `of` is what is here. Blocks.
    pub fn add_packed(
        &self,
        name: &Name,
        index: Digest,
        of: &[Digest],
        in_use: &dyn Fn() -> BTreeSet<Digest>,
    ) -> Result<Image, Error> {
        let room = self.room()?;
        let added = self.blobs.lay_out(&room, index, of).and_then(|()| {
            let source = Source::open(&room, None)?;
            self.add(name, source, in_use)
        });
        // What stays goes at the next start.
        let _ = tree::remove(&room);
        added
    }

    /// Runs `record` while all layers of an image are there and stay: whoever is `in_use` afterwards
    /// keeps them. The image counts as used now.
    pub fn hold<T>(
        &self,
        image: &Image,
        record: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.state();
        let missing = image.layers.iter().find(|layer| !state.layers.contains_key(&layer.digest));
        if let Some(layer) = missing {
            let (name, digest) = (&image.name, layer.digest);
            return Err(Error::Missing(format!("layer {digest} of {name} any more: try again")));
        }
        state.used += 1;
        let now = state.used;
        if let Some((_, used)) = state.images.get_mut(&image.name) {
            *used = now;
            touch(&self.record_of(&image.name));
        }
        record()
    }

    /// Removes the images that `keep` does not want and no container stands on, and all layers that
    /// nobody needs then. Blocks.
    pub fn prune(
        &self,
        keep: &dyn Fn(&str) -> bool,
        in_use: &dyn Fn() -> BTreeSet<Digest>,
    ) -> Result<Pruned, Error> {
        let mut state = self.state();
        let needed = in_use();
        let gone = |(image, _): &(Image, u64)| !keep(&image.name) && !is_used(image, &needed);
        let names: Vec<String> = state
            .images
            .values()
            .filter(|one| gone(one))
            .map(|(one, _)| one.name.clone())
            .collect();
        let mut pruned = Pruned { images: names.len() as u64, ..Pruned::default() };
        for name in names {
            self.forget(&mut state, &name)?;
        }
        let going = self.sweep(&mut state, &needed, &mut pruned)?;
        drop(state);
        going.iter().try_for_each(|path| tree::remove(path))?;
        self.blobs.clear()?;
        Ok(pruned)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked changed nothing that is not whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_of(&self, name: &str) -> PathBuf {
        self.directory.join("images").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// A file that has no name.
    fn file(&self) -> Result<File, Error> {
        let path = self.room()?.join("archive");
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Failure::io("create", &path, &error))?;
        let _ = path.parent().map(tree::remove);
        Ok(file)
    }

    fn pin<'s>(&'s self, layers: &[Digest]) -> Pins<'s> {
        let mut state = self.state();
        for layer in layers {
            *state.pinned.entry(*layer).or_default() += 1;
        }
        Pins { store: self, layers: layers.to_vec() }
    }

    /// Unpacks the layers that are not there.
    fn unpack(
        &self,
        source: &Source,
        parts: &Parts,
        arrived: &mut Vec<(Digest, u64, PathBuf)>,
    ) -> Result<(), Error> {
        for (digest, (path, packed)) in parts.configuration.layers.iter().zip(&parts.layers) {
            if self.has_layer(*digest) || arrived.iter().any(|(known, ..)| known == digest) {
                continue;
            }
            let room = self.room()?;
            arrived.push((*digest, 0, room.clone()));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = open(&room, flags, Mode::empty());
            let directory =
                directory.map_err(|errno| Failure::new("open", &room, errno.raw_os_error()))?;
            // Whatever its archive says of it: others have to come by.
            let mode = Mode::from_raw_mode(0o755);
            let chmod =
                |errno: rustix::io::Errno| Failure::new("chmod", &room, errno.raw_os_error());
            rustix::fs::fchmod(&directory, mode).map_err(chmod)?;
            let mut reader = source.read(path)?;
            let (found, plain, bytes) = unpack(&mut reader, directory.as_fd(), &self.bounds)?;
            same(packed.unwrap_or(found), found)?;
            same(*digest, plain)?;
            if let Some(last) = arrived.last_mut() {
                last.1 = bytes;
            }
        }
        Ok(())
    }

    /// Lets images go until there is room.
    fn make_room(
        &self,
        arrived: &[(Digest, u64, PathBuf)],
        in_use: &dyn Fn() -> BTreeSet<Digest>,
    ) -> Result<(), Error> {
        let wanted: u64 = arrived.iter().map(|(_, bytes, _)| bytes).sum();
        let (flag, max) = ("--image-store-max", self.bounds.store_bytes);
        let what = "with this one the images in use take bytes,";
        let over = || Error::Over { what, flag, max };
        loop {
            let mut state = self.state();
            let sum = |bytes: u64, more: &u64| bytes.saturating_add(*more);
            let have = state.layers.values().fold(wanted, sum);
            if have <= max && state.images.len() < IMAGES_MAX {
                return Ok(());
            }
            let needed = in_use();
            let stays = |one: &&Digest| needed.contains(one) || state.pinned.contains_key(one);
            let stay = state.layers.iter().filter(|(one, _)| stays(one)).map(|(_, bytes)| bytes);
            if stay.fold(wanted, sum) > max {
                return Err(over());
            }
            let unused = state.images.values().filter(|(image, _)| !is_used(image, &needed));
            let oldest = unused.min_by_key(|(_, used)| *used).map(|(image, _)| image.name.clone());
            let Some(oldest) = oldest else { return Err(over()) };
            self.forget(&mut state, &oldest)?;
            let going = self.sweep(&mut state, &needed, &mut Pruned::default())?;
            drop(state);
            going.iter().try_for_each(|path| tree::remove(path))?;
        }
    }

    /// Everything has arrived: it is kept from now on.
    fn keep(
        &self,
        name: &Name,
        stamp: &str,
        parts: &Parts,
        arrived: &[(Digest, u64, PathBuf)],
    ) -> Result<Image, Error> {
        self.write_through()?;
        let mut state = self.state();
        for (digest, bytes, from) in arrived {
            // Another image may have brought it meanwhile.
            if !state.layers.contains_key(digest) {
                let to = self.layers_directory().join(digest.hex());
                replace(&to.with_extension("bytes"), bytes.to_string().as_bytes())?;
                fs::rename(from, &to).map_err(|error| Failure::io("rename", &to, &error))?;
                state.layers.insert(*digest, *bytes);
            }
        }
        let layers = parts.configuration.layers.iter().map(|digest| Layer {
            digest: *digest,
            bytes: state.layers.get(digest).copied().unwrap_or(0),
        });
        let image = Image {
            name: name.text().to_owned(),
            id: parts.id,
            layers: layers.collect(),
            config: parts.configuration.config.clone(),
            stamp: stamp.to_owned(),
        };
        let text = serde_json::to_vec(&image).map_err(|error| malformed(error.to_string()))?;
        let room = self.directory.join("tmp").join(format!("{}.json", image.id.hex()));
        replace(&room, &text)?;
        self.write_through()?;
        let record = self.record_of(&image.name);
        fs::rename(&room, &record).map_err(|error| Failure::io("rename", &record, &error))?;
        state.used += 1;
        let used = state.used;
        state.images.insert(image.name.clone(), (image.clone(), used));
        Ok(image)
    }

    /// All that was written is on the disk.
    fn write_through(&self) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let done = open(&self.directory, flags, Mode::empty()).and_then(syncfs);
        Ok(done.map_err(|errno| Failure::new("syncfs", &self.directory, errno.raw_os_error()))?)
    }

    fn forget(&self, state: &mut State, name: &str) -> Result<(), Error> {
        let record = self.record_of(name);
        fs::remove_file(&record).map_err(|error| Failure::io("remove", &record, &error))?;
        state.images.remove(name);
        Ok(())
    }

    /// Moves layers that nobody needs to where they go from.
    fn sweep(
        &self,
        state: &mut State,
        in_use: &BTreeSet<Digest>,
        pruned: &mut Pruned,
    ) -> Result<Vec<PathBuf>, Error> {
        let of_images = state.images.values().flat_map(|(image, _)| &image.layers);
        let mut needed: BTreeSet<Digest> = of_images.map(|layer| layer.digest).collect();
        needed.extend(in_use.iter().chain(state.pinned.keys()));
        let going: Vec<Digest> =
            state.layers.keys().filter(|one| !needed.contains(one)).copied().collect();
        let mut paths = Vec::new();
        for digest in going {
            let (from, room) = (self.layers_directory().join(digest.hex()), self.room()?);
            fs::rename(&from, &room).map_err(|error| Failure::io("rename", &from, &error))?;
            let _ = fs::remove_file(from.with_extension("bytes"));
            pruned.layers += 1;
            pruned.bytes += state.layers.remove(&digest).unwrap_or(0);
            paths.push(room);
        }
        Ok(paths)
    }
}

/// Layers that stay while their image is on its way.
struct Pins<'s> {
    store: &'s Store,
    layers: Vec<Digest>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for layer in &self.layers {
            if let Some(count) = state.pinned.get_mut(layer) {
                *count -= 1;
            }
        }
        state.pinned.retain(|_, count| *count > 0);
    }
}

fn same(expected: Digest, found: Digest) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Digest { expected, found }) }
}

/// True if a container stands on it, or on one of the same layers.
fn is_used(image: &Image, in_use: &BTreeSet<Digest>) -> bool {
    image.layers.iter().all(|layer| in_use.contains(&layer.digest))
}

/// True for an archive of `docker save`, and who is not named by what that has no digest of.
fn is_saved(source: &Source, name: &Name) -> bool {
    source.has("manifest.json") && name.digest().is_none()
}

/// What an image is made of.
fn parts(source: &Source, name: &Name) -> Result<Parts, Error> {
    if is_saved(source, name) {
        let saved = documents::saved(&source.document("manifest.json")?, name)?;
        let (path, id) = saved.config;
        let configuration =
            documents::configuration(&source.verified(&path, id)?, Platform::own())?;
        let layers = saved.layers.into_iter().map(|path| (path, None)).collect();
        return consistent(Parts { id, config: path, configuration, layers });
    }
    let (mut index, mut named) = (source.document("index.json")?, Some(name));
    for _ in 0..INDEXES_MAX {
        let digest = match led(&index, named, Platform::own())? {
            Led::Index(digest) => {
                (index, named) = (source.verified(&blob(digest), digest)?, None);
                continue;
            }
            Led::Manifest(digest) => digest,
        };
        let wanted = wanted(&source.verified(&blob(digest), digest)?)?;
        let id = wanted.config;
        let configuration =
            documents::configuration(&source.verified(&blob(id), id)?, Platform::own())?;
        let layers = wanted.layers.into_iter().map(|(digest, _)| (blob(digest), Some(digest)));
        let layers = layers.collect();
        return consistent(Parts { id, config: blob(id), configuration, layers });
    }
    Err(malformed("the index of the image leads to too many others"))
}

fn consistent(parts: Parts) -> Result<Parts, Error> {
    let (named, brought) = (parts.configuration.layers.len(), parts.layers.len());
    if named == brought {
        return Ok(parts);
    }
    Err(malformed(format!("the image has {brought} layers, and its configuration {named}")))
}

/// Where a layout has content.
fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn make(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| Failure::io("mkdir", directory, &error))
}

fn take_lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(|error| Failure::io("open", &path, &error))?;
    match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Taken(directory.to_owned())),
        Err(errno) => Err(Failure::new("flock", &path, errno.raw_os_error()).into()),
    }
}

/// Writes a file anew.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| Failure::io("write", path, &error))
}

/// Something was used now. That it was not noted costs nobody more than fetching it again.
pub(super) fn touch(record: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let _ = utimensat(CWD, record, &times, AtFlags::empty());
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::io("list", directory, &error);
    let all = fs::read_dir(directory).map_err(failed)?;
    all.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// The layers that are there, with their bytes; what is none goes.
fn layers(directory: &Path) -> Result<BTreeMap<Digest, u64>, Error> {
    let mut layers = BTreeMap::new();
    for path in entries(directory)?.iter().filter(|path| path.is_dir()) {
        let digest = path.file_name().and_then(|name| Digest::of_hex(name.to_str()?));
        let bytes = fs::read_to_string(path.with_extension("bytes")).ok();
        match (digest, bytes.and_then(|bytes| bytes.parse().ok())) {
            (Some(digest), Some(bytes)) => drop(layers.insert(digest, bytes)),
            _ => tree::remove(path)?,
        }
    }
    Ok(layers)
}

/// The images that are there whole, by name; what is none goes.
fn images(
    directory: &Path,
    layers: &BTreeMap<Digest, u64>,
) -> Result<BTreeMap<String, (Image, u64)>, Error> {
    let mut found = Vec::new();
    for path in entries(directory)? {
        let image =
            fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Image>(&text).ok());
        let whole = |image: &Image| image.layers.iter().all(|one| layers.contains_key(&one.digest));
        match image.filter(whole) {
            Some(image) => {
                found.push((fs::metadata(&path).and_then(|of| of.modified()).ok(), image))
            }
            None => fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?,
        }
    }
    found.sort_by_key(|(used, _)| *used);
    Ok((1..).zip(found).map(|(used, (_, image))| (image.name.clone(), (image, used))).collect())
}

#[cfg(test)]
mod tests;
