//! Images that tasks stand on: found, and fetched if need be, each by one at a time.
//!
//! A name is looked for among the images that are kept, then in the registry: a directory, or the same
//! by HTTP. What is at a path of this machine is read with the rights of the task's user. All that an
//! image says is looked at by [`mesita_isolation::images`]; here it is only brought there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use hyper::Uri as Url;
use mesita_isolation::images::{
    self, Digest, Image, Led, Name, Place, Platform, Provisioner, Pruned, Source,
};
use mesita_isolation::keeper::protocol::User;
use mesita_isolation::tree;

use super::AgentNode;
use super::containers::Container;
use super::fetch::{Budget, Means, uri};
use crate::alarm;
use crate::pb::mesos::v1 as pb;

/// Indexes that lead to each other.
const INDEXES_MAX: usize = 4;

/// Where images are that are not kept here.
#[derive(Clone, Debug, Default)]
pub(crate) enum Registry {
    /// Nowhere.
    #[default]
    None,
    /// In a directory.
    Directory(PathBuf),
    /// Below a URL, without the slash at its end.
    Http(String),
}

impl Registry {
    /// As the flag says it.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Directory(text.into()));
        }
        if text.starts_with("http://") {
            uri::url(text).map_err(|why| format!("`{text}` {why}"))?;
            return Ok(Self::Http(text.trim_end_matches('/').to_owned()));
        }
        Err(format!("`{text}`: give an absolute path, or http://HOST/PATH"))
    }
}

/// The images of an agent.
pub(super) struct Images {
    /// None of them, and why.
    pub(super) provisioner: Result<Arc<Provisioner>, String>,
    registry: Registry,
    /// Those that are on their way.
    coming: RefCell<BTreeMap<String, Rc<Event>>>,
    pulled: Cell<u64>,
    failed: Cell<u64>,
}

/// An image that a task asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) name: Name,
    /// One that is kept will do. Mesos: `Image.cached`.
    pub(super) cached: bool,
}

impl Asked {
    /// What a container asks for.
    pub(super) fn of(image: &pb::Image) -> Result<Self, String> {
        let docker = image.docker.as_ref().ok_or("the image has no name")?;
        let name = Name::parse(&docker.name).map_err(|bad| bad.to_string())?.or_path();
        Ok(Self { name, cached: image.cached() })
    }
}

impl Images {
    pub(super) fn new(provisioner: Result<Arc<Provisioner>, String>, registry: Registry) -> Self {
        Self {
            provisioner,
            registry,
            coming: RefCell::default(),
            pulled: Cell::default(),
            failed: Cell::default(),
        }
    }

    /// What is kept, and what came.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 9] {
        let usage = self.provisioner.as_ref().map(|one| one.store().usage()).unwrap_or_default();
        [
            ("images_len", usage.images),
            ("image_layers_len", usage.layers),
            ("image_store_bytes", usage.bytes),
            ("image_store_bytes_max", usage.bytes_max),
            ("image_blobs_bytes", self.blobs().map_or(0, images::Blobs::bytes)),
            ("image_blobs_bytes_max", self.blobs().map_or(0, images::Blobs::bytes_max)),
            ("image_pulls_len", self.coming.borrow().len() as u64),
            ("image_pulls_succeeded", self.pulled.get()),
            ("image_pulls_failed", self.failed.get()),
        ]
    }

    pub(super) fn provisioner(&self) -> Result<Arc<Provisioner>, String> {
        let have = self.provisioner.clone();
        have.map_err(|why| format!("this agent runs no images: {why}"))
    }

    fn blobs(&self) -> Option<&images::Blobs> {
        self.provisioner.as_ref().ok().map(|one| one.store().blobs())
    }

    /// Where they come from.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Says that an image is pulled by an operator, once nobody else says so. Launches do not wait for
    /// that: it may be slow.
    pub(super) async fn pulling(&self, name: &Name) -> Coming<'_> {
        loop {
            // No image has a name with a space in it.
            let name = format!("pulled {}", name.text());
            let coming = self.coming.borrow().get(&name).map(Rc::clone);
            let Some(coming) = coming else {
                self.coming.borrow_mut().insert(name.clone(), Rc::new(Event::new()));
                return Coming { images: self, name };
            };
            coming.listen().await;
        }
    }
}

/// Says that an image is on its way for as long as it is.
pub(super) struct Coming<'i> {
    images: &'i Images,
    name: String,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let told = self.images.coming.borrow_mut().remove(&self.name);
        if let Some(told) = told {
            told.notify(usize::MAX);
        }
    }
}

impl AgentNode {
    /// The image that a container is to stand on, fetched if need be; `user` is whose rights count for
    /// what is on this machine.
    pub(super) async fn image_for(
        &self,
        container: &Container,
        asked: &Asked,
        user: Option<User>,
    ) -> Result<Image, String> {
        let provisioner = self.images.provisioner()?;
        let _coming = loop {
            let kept = provisioner.store().find(&asked.name).filter(|_| asked.cached);
            if let (Some(image), Place::Registry(_)) = (kept, asked.name.place()) {
                return Ok(image);
            }
            let name = asked.name.text().to_owned();
            let coming = self.images.coming.borrow().get(&name).map(Rc::clone);
            let Some(coming) = coming else {
                self.images.coming.borrow_mut().insert(name.clone(), Rc::new(Event::new()));
                break Coming { images: &self.images, name };
            };
            coming.listen().await;
        };
        let budget = Budget::new(self.options.fetch.bytes_max);
        let means = Means::new(&(String::new(), user), budget.clone());
        let us = self.options.fetch.timeout_us;
        let late = || Err(format!("not within the {} ms of --fetcher-timeout", us / 1000));
        let pull = self.pull_image(&provisioner, &asked.name, &means);
        let in_time = async { alarm::within(us, pull).await.unwrap_or_else(late) };
        let dropped = async {
            container.abandoned().await;
            Err("killed while its image was fetched".to_owned())
        };
        let pulled = futures_lite::future::or(in_time, dropped).await;
        budget.close();
        let count = if pulled.is_ok() { &self.images.pulled } else { &self.images.failed };
        count.set(count.get() + 1);
        pulled.map_err(|why| format!("Failed to pull image '{}': {why}", asked.name))
    }

    async fn pull_image(
        &self,
        provisioner: &Arc<Provisioner>,
        name: &Name,
        means: &Means,
    ) -> Result<Image, String> {
        let (provisioner, own) = (Arc::clone(provisioner), name.clone());
        let take = |provisioner: Arc<Provisioner>, name: Name, source: Source| {
            let in_use = || provisioner.in_use();
            provisioner.store().add(&name, source, &in_use)
        };
        let taken = match (name.place(), &self.images.registry) {
            (Place::Path(path), _) => {
                let (path, user) = (path.clone(), means.user.clone());
                let open = move || take(provisioner, own, Source::open(&path, user.as_ref())?);
                self.containers.by_hand(open).await
            }
            (Place::Registry(_), Registry::None) => {
                return Err(
                    "it is not here, and no --docker-registry says where to look".to_owned()
                );
            }
            (Place::Registry(_), Registry::Directory(directory)) => {
                let directory = directory.clone();
                let open = move || {
                    let source = in_directory(&directory, &own)?;
                    take(provisioner, own, source)
                };
                self.containers.by_hand(open).await
            }
            (Place::Registry(_), Registry::Http(base)) => {
                let room = provisioner.store().room().map_err(|error| error.to_string())?;
                let fetched = self.fetch_image(&provisioner, base, name, &room, means).await;
                let taken = match fetched {
                    Ok(path) => {
                        let open = move || take(provisioner, own, Source::open(&path, None)?);
                        self.containers.by_hand(open).await.map_err(|error| error.to_string())
                    }
                    Err(why) => Err(why),
                };
                let removed = move || tree::remove(&room);
                if let Err(error) = self.containers.by_hand(removed).await {
                    log::warn!("what was fetched of an image stays until the next start: {error}");
                }
                return taken;
            }
        };
        taken.map_err(|error| error.to_string())
    }

    /// Brings an image into a directory: a layout, or an archive.
    async fn fetch_image(
        &self,
        provisioner: &Provisioner,
        base: &str,
        name: &Name,
        room: &Path,
        means: &Means,
    ) -> Result<PathBuf, String> {
        let Place::Registry(repository) = name.place() else { return Err("a path".to_owned()) };
        let mut tried = Vec::new();
        for archive in name.archives() {
            let path = room.join("image.tar");
            match self.bring_part(means, &format!("{base}/{archive}"), &path).await {
                Ok(()) => return Ok(path),
                Err(why) => tried.push(format!("{archive}: {why}")),
            }
        }
        let index = format!("{repository}/index.json");
        if let Err(why) =
            self.bring_part(means, &format!("{base}/{index}"), &room.join("index.json")).await
        {
            tried.push(format!("{index}: {why}"));
            return Err(tried.join("; "));
        }
        let blobs = Blobs { base: format!("{base}/{repository}"), room };
        blobs.make()?;
        let wrong = |error: images::Error| error.to_string();
        let (mut bytes, mut named) = (read(&room.join("index.json"))?, Some(name));
        for _ in 0..INDEXES_MAX {
            match images::led(&bytes, named, Platform::own()).map_err(wrong)? {
                Led::Index(digest) => {
                    (bytes, named) = (self.document(means, &blobs, digest).await?, None);
                }
                Led::Manifest(digest) => {
                    let manifest = self.document(means, &blobs, digest).await?;
                    let wanted = images::wanted(&manifest).map_err(wrong)?;
                    let config = self.document(means, &blobs, wanted.config).await?;
                    let plain = images::layers_of(&config).map_err(wrong)?;
                    for ((packed, _), plain) in wanted.layers.iter().zip(plain) {
                        if !provisioner.store().has_layer(plain) {
                            let (from, to) = blobs.of(*packed);
                            self.bring_part(means, &from, &to).await?;
                        }
                    }
                    return Ok(room.to_owned());
                }
            }
        }
        Err("its index leads to too many others".to_owned())
    }

    async fn document(
        &self,
        means: &Means,
        blobs: &Blobs<'_>,
        digest: Digest,
    ) -> Result<Vec<u8>, String> {
        let (from, to) = blobs.of(digest);
        self.bring_part(means, &from, &to).await?;
        read(&to)
    }

    /// Brings one file.
    pub(super) async fn bring_part(
        &self,
        means: &Means,
        from: &str,
        to: &Path,
    ) -> Result<(), String> {
        let from: Url = uri::url(from)?;
        let path = to.to_owned();
        let made = blocking::unblock(move || {
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
        });
        let into = made.await.map_err(|error| error.to_string())?;
        self.fetch_from(means, &from, Arc::new(into)).await.map(|_| ())
    }

    /// Removes images that no container stands on, but for those of these names.
    pub(super) async fn prune_images(&self, kept: Vec<String>) -> Result<Pruned, String> {
        let provisioner = self.images.provisioner()?;
        let prune = move || {
            let keep = |name: &str| kept.iter().any(|one| one == name);
            provisioner.store().prune(&keep, &|| provisioner.in_use())
        };
        self.containers.by_hand(prune).await.map_err(|error| error.to_string())
    }
}

/// A layout that is being brought.
struct Blobs<'r> {
    base: String,
    room: &'r Path,
}

impl Blobs<'_> {
    fn make(&self) -> Result<(), String> {
        let path = self.room.join("blobs/sha256");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Where content is, and where it goes.
    fn of(&self, digest: Digest) -> (String, PathBuf) {
        let below = format!("blobs/sha256/{}", digest.hex());
        (format!("{}/{below}", self.base), self.room.join(below))
    }
}

/// A document that was brought: of no more bytes than one may have.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if fs::metadata(path).map_err(failed)?.len() > images::DOCUMENT_MAX {
        return Err("one of its documents takes more than 1 MiB".to_owned());
    }
    fs::read(path).map_err(failed)
}

/// An image of a directory: an archive as Mesos has it, or a layout.
pub(super) fn in_directory(directory: &Path, name: &Name) -> Result<Source, images::Error> {
    let Place::Registry(repository) = name.place() else {
        return Err(images::Error::Missing(format!("image {name}")));
    };
    let archives = name.archives().into_iter().map(|archive| directory.join(archive));
    let path = archives.chain([directory.join(repository)]).find(|path| path.exists());
    match path {
        Some(path) => Source::open(&path, None),
        None => Err(images::Error::Missing(format!("image {name} in {}", directory.display()))),
    }
}
