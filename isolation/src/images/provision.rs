//! What containers stand on: each its own, above layers that all share.
//!
//! ```text
//! <work dir>/provisioner/<container>/
//!   image        what it stands on: image, layers, configuration; written first, removed last
//!   upper, work  what it writes, by overlayfs
//!   volumes/<n>  the same for images that it asks for beside that
//!   root         where its root is put together, or a copy of all layers where there is no overlayfs
//! ```
//! Mounts are made in the container's own mount namespace, so nothing of them is left with it; what is
//! left is a directory, and an agent that comes back knows by it whose it is. Mesos: `provisioner`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mesita_core::wire::ContainerId;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::unpack::{OPAQUE_ATTRIBUTE, resolve};
use super::{Config, DOCUMENT_MAX, Digest, Error, Image, Store, malformed};
use crate::keeper::protocol::{User, Welcome, path_text};
use crate::keeper::root::{has_overlay, is_possible};
use crate::keeper::wall::Root;
use crate::sys::Failure;
use crate::tree;

/// Layers that the options of one mount have room for: one page, and 65 bytes each.
const OVERLAY_LAYERS_MAX: usize = 55;
/// Bytes of a path in these options.
const OVERLAY_PATH_MAX: usize = 200;

/// How layers become a root. Mesos: `--image-provisioner-backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// By overlayfs: at once, and only what is written takes room.
    Overlay,
    /// By copying all of them: always possible.
    Copy,
}

impl Backend {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
        }
    }
}

/// What a container stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stands {
    /// The name of the image.
    pub image: String,
    /// The digest of its configuration.
    pub id: Digest,
    /// Its layers.
    layers: Vec<Digest>,
    /// How it is to be run.
    pub config: Config,
    /// Whom it is run as by root, if it says that.
    pub user: Option<User>,
    /// Where the sandbox is, for who stands on it.
    pub sandbox: String,
}

/// Who makes what containers stand on.
#[derive(Debug)]
pub struct Provisioner {
    store: Store,
    directory: PathBuf,
    backend: OnceLock<(Backend, Option<String>)>,
    sandbox: String,
}

impl Provisioner {
    /// Finds out how layers can be put upon each other; `backend` asks for one way, which then has to
    /// be possible. Blocks.
    pub fn new(
        store: Store,
        work_dir: &Path,
        backend: Option<Backend>,
        sandbox: &str,
    ) -> Result<Self, Error> {
        let directory = work_dir.join("provisioner");
        make(&directory)?;
        let found = OnceLock::new();
        if let Some(backend) = backend {
            if backend == Backend::Overlay {
                overlay(&store)?;
            }
            found.get_or_init(|| (backend, None));
        }
        Ok(Self { store, directory, backend: found, sandbox: sandbox.to_owned() })
    }

    /// How layers become a root, and why they are copied if nobody asked for that. Found out when it is
    /// first asked for. Blocks.
    pub fn backend(&self) -> (Backend, Option<&str>) {
        let found = self.backend.get_or_init(|| match overlay(&self.store) {
            Ok(()) => (Backend::Overlay, None),
            Err(why) => (Backend::Copy, Some(why.to_string())),
        });
        (found.0, found.1.as_deref())
    }

    /// Why there can be none here: who is not root cannot mount, and neither can an old kernel.
    pub fn is_possible(keeper: &Welcome) -> Result<(), &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("images need an agent that is root");
        }
        if !keeper.namespaces.pid || !keeper.namespaces.mount {
            return Err("images need namespaces of processes and mounts");
        }
        if is_possible() { Ok(()) } else { Err("images need Linux 5.6 or newer") }
    }

    /// Whom an image is run as by root: the user and the group that it says, looked up in its own files.
    /// None if it says none. Blocks.
    pub fn user_of(&self, image: &Image) -> Result<Option<User>, Error> {
        let (name, group) = match image.config.user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (&*image.config.user, None),
        };
        if name.is_empty() {
            return Ok(None);
        }
        let unknown =
            |what: &str| malformed(format!("the image has no user or group `{what:.100}`"));
        let passwd = self.lines(image, b"etc/passwd")?;
        let uid_of = |line: &[&str]| (line.first() == Some(&name)) || line.get(2) == Some(&name);
        let known = passwd.lines().map(fields).find(|line| uid_of(line));
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        let field = |at: usize| known.as_ref().and_then(|line| number(line.get(at)?));
        let uid = field(2).or_else(|| number(name)).ok_or_else(|| unknown(name))?;
        let gid = match group {
            Some(group) => {
                let groups = self.lines(image, b"etc/group")?;
                let found = groups.lines().map(fields).find(|line| line.first() == Some(&group));
                let found = found.and_then(|line| number(line.get(2)?));
                found.or_else(|| number(group)).ok_or_else(|| unknown(group))?
            }
            None => field(3).unwrap_or(0),
        };
        Ok(Some(User { uid, gid, groups: vec![gid] }))
    }

    /// A text of an image, as who stands on it finds it; empty if it is not there.
    fn lines(&self, image: &Image, path: &[u8]) -> Result<String, Error> {
        for layer in image.layers.iter().rev() {
            let at = self.store.layers_directory().join(layer.digest.hex());
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let failed = |errno: Errno| Failure::new("open", &at, errno.raw_os_error());
            let directory = open(&at, flags, Mode::empty()).map_err(failed)?;
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match resolve(directory.as_fd(), path, flags) {
                Ok(file) => {
                    let mut text = Vec::new();
                    File::from(file).take(DOCUMENT_MAX).read_to_end(&mut text)?;
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
                Err(Errno::NOENT) => {}
                // It was removed, or is something else.
                Err(_) => break,
            }
        }
        Ok(String::new())
    }

    /// The images.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where tasks that stand on an image find their sandbox.
    pub fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// The layers that containers stand on. O(containers).
    pub fn in_use(&self) -> BTreeSet<Digest> {
        let names = self.names().unwrap_or_default();
        let directories = names.iter().flat_map(|name| {
            let own = self.directory.join(name);
            let volumes = fs::read_dir(own.join("volumes")).into_iter().flatten().flatten();
            let volumes: Vec<PathBuf> = volumes.map(|entry| entry.path()).collect();
            volumes.into_iter().chain([own])
        });
        let stands = directories.filter_map(|directory| read(&directory));
        stands.flat_map(|stands| stands.layers).collect()
    }

    /// What a container stands on, if it is an image.
    pub fn of(&self, container: ContainerId) -> Option<Stands> {
        read(&self.directory.join(container.to_string()))
    }

    /// Makes what a container is to stand on; its sandbox is at this path. If it cannot be had, nothing
    /// is left of it. Blocks.
    pub fn provide(
        &self,
        container: ContainerId,
        image: &Image,
        sandbox: &Path,
    ) -> Result<Root, Error> {
        let directory = self.directory.join(container.to_string());
        self.remove(container)?;
        let provided = self.put_together(&directory, image);
        if provided.is_err() {
            // What went wrong first is what is told.
            let _ = self.remove(container);
        }
        Ok(Root { sandbox: path_text(sandbox), ..provided? })
    }

    /// Makes what a container is to find at `to`, as its `number`th volume. To be removed with the
    /// container. Blocks.
    pub fn provide_volume(
        &self,
        container: ContainerId,
        number: usize,
        image: &Image,
        to: &str,
    ) -> Result<Root, Error> {
        let volumes = self.directory.join(container.to_string()).join("volumes");
        let provided = self.put_together(&volumes.join(number.to_string()), image)?;
        Ok(Root { to: CString::new(to).unwrap_or_default(), ..provided })
    }

    fn put_together(&self, directory: &Path, image: &Image) -> Result<Root, Error> {
        self.store.hold(image, || {
            make(directory)?;
            self.note(directory, image)
        })?;
        let root = directory.join("root");
        make(&root)?;
        let through = |path: &Path| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(path, mode).map_err(|error| Failure::io("chmod", path, &error))
        };
        through(&root)?;
        let lower: Vec<Digest> = image.layers.iter().rev().map(|layer| layer.digest).collect();
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        let fits = lower.len() <= OVERLAY_LAYERS_MAX && is_plain(&upper);
        let lower = if self.backend().0 == Backend::Overlay && fits {
            make(&upper)?;
            make(&work)?;
            through(&upper)?;
            lower
        } else {
            for layer in &image.layers {
                let from = self.store.layers_directory().join(layer.digest.hex());
                copy(&from, &root).map_err(|(path, error)| Failure::io("copy", &path, &error))?;
            }
            Vec::new()
        };
        Ok(Root {
            at: path_text(&root),
            layers: path_text(&self.store.layers_directory()),
            lower: lower
                .iter()
                .map(|digest| CString::new(digest.hex()).unwrap_or_default())
                .collect(),
            upper: path_text(&upper),
            work: path_text(&work),
            sandbox: CString::default(),
            to: CString::new(self.sandbox.as_str()).unwrap_or_default(),
        })
    }

    fn note(&self, directory: &Path, image: &Image) -> Result<(), Error> {
        let stands = Stands {
            image: image.name.clone(),
            id: image.id,
            layers: image.layers.iter().map(|layer| layer.digest).collect(),
            config: image.config.clone(),
            user: self.user_of(image)?,
            sandbox: self.sandbox.clone(),
        };
        let text = serde_json::to_vec(&stands).map_err(|error| malformed(error.to_string()))?;
        let path = directory.join("image");
        Ok(fs::write(&path, text).map_err(|error| Failure::io("write", &path, &error))?)
    }

    /// Removes what a container stood on, once nothing of it is alive. Twice is as good.
    pub fn remove(&self, container: ContainerId) -> Result<(), Failure> {
        self.remove_named(&container.to_string())
    }

    /// Removes what containers stood on that nobody knows.
    pub fn recover(&self, known: &[ContainerId]) -> Result<(), Failure> {
        let stays = |name: &str| ContainerId::parse(name).is_some_and(|id| known.contains(&id));
        let going = self.names()?.into_iter().filter(|name| !stays(name));
        going.into_iter().try_for_each(|name| self.remove_named(&name))
    }

    fn remove_named(&self, name: &str) -> Result<(), Failure> {
        let directory = self.directory.join(name);
        // What says which layers are needed goes last.
        for part in ["upper", "work", "root", "volumes"] {
            tree::remove(&directory.join(part))?;
        }
        tree::remove(&directory)
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let all = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            all => all.map_err(|error| Failure::io("list", &self.directory, &error))?,
        };
        Ok(all.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

/// The fields of a line of `passwd` or `group`.
fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn make(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| Failure::io("mkdir", directory, &error))
}

fn read(directory: &Path) -> Option<Stands> {
    let text = fs::read(directory.join("image")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// True for what the options of a mount can say as it is.
fn is_plain(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.len() <= OVERLAY_PATH_MAX && !bytes.iter().any(|byte| matches!(byte, b',' | b':' | b'\\'))
}

/// Mounts an overlay where nobody sees it.
fn overlay(store: &Store) -> Result<(), Error> {
    let room = store.room()?;
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| room.join(name));
    let made = [&lower, &upper, &work].into_iter().try_for_each(|path| make(path));
    let mounted = made.map_err(Error::from).and_then(|()| {
        let mounted = has_overlay(&path_text(&lower), &path_text(&upper), &path_text(&work));
        mounted.map_err(|errno| Failure::new("mount", &upper, errno.raw_os_error()).into())
    });
    tree::remove(&room)?;
    mounted
}

type Copied<T> = Result<T, (PathBuf, io::Error)>;

/// Puts a layer upon what is there: the form of overlayfs, undone. Nobody else writes there.
fn copy(from: &Path, to: &Path) -> Copied<()> {
    let (mut left, mut links) = (vec![PathBuf::new()], BTreeMap::new());
    while let Some(below) = left.pop() {
        let (source, target) = (from.join(&below), to.join(&below));
        let failed = |error: io::Error| (target.clone(), error);
        let entries = fs::read_dir(&source).map_err(|error| (source.clone(), error))?;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            if copy_one(&from, &to, &mut links).map_err(|error| (to.clone(), error))? {
                left.push(below.join(entry.file_name()));
            }
        }
    }
    Ok(())
}

/// Copies one thing; true for a directory, whose contents follow.
fn copy_one(from: &Path, to: &Path, links: &mut BTreeMap<u64, PathBuf>) -> io::Result<bool> {
    let of = fs::symlink_metadata(from)?;
    let kind = of.file_type();
    let there = fs::symlink_metadata(to).ok();
    let stays = there.as_ref().is_some_and(fs::Metadata::is_dir) && kind.is_dir();
    if there.is_some() && (!stays || is_opaque(from)) {
        tree::remove(to).map_err(|failure| io::Error::from_raw_os_error(failure.errno))?;
    }
    if kind.is_char_device() {
        return Ok(false);
    }
    if kind.is_dir() {
        fs::create_dir_all(to)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        lchown(to, Some(of.uid()), Some(of.gid()))?;
        return Ok(false);
    } else {
        if let Some(first) = links.get(&of.ino()).filter(|_| of.nlink() > 1) {
            fs::hard_link(first, to)?;
            return Ok(false);
        }
        fs::copy(from, to)?;
        links.insert(of.ino(), to.to_owned());
    }
    lchown(to, Some(of.uid()), Some(of.gid()))?;
    fs::set_permissions(to, of.permissions())?;
    if let Ok(modified) = of.modified() {
        File::open(to)?.set_modified(modified)?;
    }
    Ok(kind.is_dir())
}

fn is_opaque(path: &Path) -> bool {
    rustix::fs::lgetxattr(path, OPAQUE_ATTRIBUTE, &mut [0; 4]).is_ok()
}
