//! Images that come before a task needs them, as `mesita pull` asks for it: from the registry, or as
//! content by its digest that other agents have.
//!
//! | path | what it does |
//! |---|---|
//! | `POST /images/pull` | brings an image, from the registry if it may, else says what it lacks |
//! | `GET /images/blobs/<hex>` | content that is kept, from `offset` on, at most `rate` bytes a second |
//! | `PUT /images/blobs/<hex>` | content from `offset` on, where it broke off |
//!
//! Content goes from agent to agent by way of the leader, which is asked by who operates the cluster: no
//! agent asks another, or the master, for anything. All of it is verified here. What broke off stays, and
//! the next attempt goes on behind it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, StatusCode};
use mesita_core::acls::Action;
use mesita_core::doors::Rights;
use mesita_isolation::images::{Digest, Lacks, Name, Place, Provisioner, Source};
use serde_json::{Value, json};

use super::AgentNode;
use super::fetch::{Budget, Means, Pace, Part};
use super::files;
use super::images::{Registry, in_directory, read};
use crate::alarm;
use crate::http::body::Body;
use crate::http::{Early, Reply, Visit, early, only, request, status};
use crate::legacy;

/// From one word about a pull to the next, in µs.
const TOLD_US: u64 = 1_000_000;
/// Times that it is looked what an image lacks: for its indexes, its manifest, its configuration, its
/// layers, and once more.
const ROUNDS_MAX: usize = 9;
/// Where content is asked for.
const BLOBS: &str = "/images/blobs/";

/// What is pulled now.
#[derive(Default)]
pub(super) struct Pulls {
    /// Content that somebody writes.
    taken: RefCell<BTreeSet<Digest>>,
    /// Bytes that came.
    pub(super) bytes: Cell<u64>,
}

/// Content that nobody else writes for as long as this is there.
struct Taken<'p>(&'p Pulls, Digest);

impl Pulls {
    fn take(&self, digest: Digest) -> Option<Taken<'_>> {
        self.taken.borrow_mut().insert(digest).then(|| Taken(self, digest))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.borrow_mut().remove(&self.1);
    }
}

/// What `POST /images/pull` asks for.
struct Asked {
    name: Name,
    /// Where it begins; none = as the registry says.
    index: Option<Digest>,
    /// What is lacking may come from the registry.
    registry: bool,
    /// Bytes that come from there in a second; 0 = as many as there are.
    rate: u64,
}

impl Asked {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let asked: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let name = asked["image"].as_str().ok_or("`image` says which")?;
        let name = Name::parse(name).map_err(|bad| bad.to_string())?;
        if let Place::Path(path) = name.place() {
            let path = path.display();
            return Err(format!("{path} is of one machine: give the name of an image"));
        }
        let index = match asked["index"].as_str() {
            Some(text) => Some(Digest::parse(text).ok_or("`index` is no digest")?),
            None => None,
        };
        let registry = asked["registry"].as_bool().unwrap_or(true);
        Ok(Self { name, index, registry, rate: asked["rate"].as_u64().unwrap_or(0) })
    }
}

impl AgentNode {
    /// Serves what is asked about images, of who operates the agent.
    pub(super) async fn images_site(self: Rc<Self>, path: String, visit: Visit) -> Reply {
        let answered = match path.strip_prefix(BLOBS) {
            Some(hex) => self.blob(hex, visit).await,
            None => self.post_pull(&path, visit).await,
        };
        answered.unwrap_or_else(|early| *early)
    }

    /// Who may prune images may bring them.
    fn may_bring(&self, visit: &Visit) -> Result<Arc<Provisioner>, Early> {
        if !visit.caller.rights.has(Rights::OPERATE) {
            let message = "only who operates the cluster brings images to its agents";
            return Err(early(StatusCode::FORBIDDEN, message));
        }
        self.options.access.check(&visit.caller, Action::PruneImages, None)?;
        let have = self.images.provisioner();
        have.map_err(|why| early(StatusCode::BAD_REQUEST, why))
    }

    async fn post_pull(self: &Rc<Self>, path: &str, visit: Visit) -> Result<Reply, Early> {
        if path != "/images/pull" {
            return Err(Box::new(status(StatusCode::NOT_FOUND)));
        }
        only(visit.request.method(), &[Method::POST])?;
        let provisioner = self.may_bring(&visit)?;
        let body = request::whole(&self.port.bodies, visit.request.into_body()).await?;
        let asked = Asked::read(&body).map_err(|why| early(StatusCode::BAD_REQUEST, why))?;
        let (sender, receiver) = async_channel::bounded::<Bytes>(2);
        let me = Rc::clone(self);
        self.tasks.go(async move {
            let before = me.pulls.bytes.get();
            let came = || me.pulls.bytes.get().saturating_sub(before);
            let pulling = async { Some(me.bring_image(&provisioner, &asked).await) };
            // Each word shows that there is life here; who reads none has gone, and wants it no more.
            let telling = async {
                loop {
                    alarm::after(TOLD_US).await;
                    let word = format!("{}\n", json!({"fetched": came()}));
                    if sender.send(word.into()).await.is_err() {
                        return None;
                    }
                }
            };
            let Some(pulled) = futures_lite::future::or(pulling, telling).await else { return };
            let told = pulled.unwrap_or_else(|why| json!({"error": why}));
            let _ = sender.send(format!("{told}\n").into()).await;
        });
        Ok(Reply::new(Body::fed(receiver)))
    }

    /// Brings an image as far as it may: what it is then, or what it lacks.
    async fn bring_image(
        &self,
        provisioner: &Arc<Provisioner>,
        asked: &Asked,
    ) -> Result<Value, String> {
        let _pulling = self.images.pulling(&asked.name).await;
        let budget = Budget::new(self.options.fetch.bytes_max);
        let means = Means::new(&(String::new(), None), budget);
        let pace = Pace::new(asked.rate);
        let index = match asked.index {
            Some(index) => index,
            None => self.begin(provisioner, &asked.name, &means, &pace).await?,
        };
        for _ in 0..ROUNDS_MAX {
            let (one, name) = (Arc::clone(provisioner), asked.name.clone());
            let look = move || one.store().lacks(&name, index);
            let lacks = self.containers.by_hand(look).await.map_err(|error| error.to_string())?;
            let missing = match lacks {
                Lacks::Nothing(here) => {
                    return self.take_packed(provisioner, &asked.name, index, here).await;
                }
                Lacks::These(missing) => missing,
            };
            let base = self.layout_of(&asked.name).filter(|_| asked.registry);
            let Some(base) = base else {
                let begun = |digest: &Digest| provisioner.store().blobs().begun(*digest);
                let lacks = missing.iter().map(|digest| json!([digest, begun(digest)]));
                return Ok(json!({"lacks": lacks.collect::<Vec<_>>(), "index": index}));
            };
            for digest in missing {
                let from = format!("{base}/blobs/sha256/{}", digest.hex());
                // Nobody opens it before it is whole.
                let _taken = self.bring_blob(provisioner, digest, &from, &means, &pace).await?;
                let (one, finish) = (Arc::clone(provisioner), digest);
                let finish = move || one.store().blobs().finish(finish);
                let done = self.containers.by_hand(finish).await;
                done.map_err(|error| error.to_string())?;
            }
        }
        Err("its index leads to too much".to_owned())
    }

    async fn take_packed(
        &self,
        provisioner: &Arc<Provisioner>,
        name: &Name,
        index: Digest,
        here: Vec<Digest>,
    ) -> Result<Value, String> {
        let kept = provisioner.store().find(name);
        let (one, name) = (Arc::clone(provisioner), name.clone());
        let add = move || {
            let in_use = || one.in_use();
            one.store().add_packed(&name, index, &here, &in_use)
        };
        let image = self.containers.by_hand(add).await.map_err(|error| error.to_string())?;
        let was_here = kept.is_some_and(|kept| kept.id == image.id);
        Ok(json!({"index": index, "id": image.id, "kept": was_here}))
    }

    /// Where the registry has a layout of an image, if it is one by HTTP.
    fn layout_of(&self, name: &Name) -> Option<String> {
        match (name.place(), self.images.registry()) {
            (Place::Registry(repository), Registry::Http(base)) => {
                Some(format!("{base}/{repository}"))
            }
            _ => None,
        }
    }

    /// The index of an image, as the registry has it.
    async fn begin(
        &self,
        provisioner: &Arc<Provisioner>,
        name: &Name,
        means: &Means,
        pace: &Pace,
    ) -> Result<Digest, String> {
        let (one, own) = (Arc::clone(provisioner), name.clone());
        match self.images.registry().clone() {
            Registry::None => {
                Err("no --docker-registry of this agent says where to look".to_owned())
            }
            Registry::Directory(directory) => {
                let pack = move || one.store().pack(&own, in_directory(&directory, &own)?);
                self.containers.by_hand(pack).await.map_err(|error| error.to_string())
            }
            Registry::Http(base) => {
                let mut tried = Vec::new();
                for archive in name.archives() {
                    let from = format!("{base}/{archive}");
                    let begun =
                        self.begin_with_archive(provisioner, name, &from, means, pace).await;
                    let part = Digest::of(from.as_bytes());
                    match begun {
                        // It is not there, or not for us: it may be there in another way.
                        Err(why) if provisioner.store().blobs().begun(part) == 0 => {
                            tried.push(format!("{archive}: {why}"));
                        }
                        begun => return begun,
                    }
                }
                let index = self.index_of(provisioner, name, means).await;
                index.map_err(|why| {
                    tried.push(why);
                    tried.join("; ")
                })
            }
        }
    }

    /// An archive is content whose digest nobody knows: until it is whole it goes by where it is from.
    async fn begin_with_archive(
        &self,
        provisioner: &Arc<Provisioner>,
        name: &Name,
        from: &str,
        means: &Means,
        pace: &Pace,
    ) -> Result<Digest, String> {
        let called = Digest::of(from.as_bytes());
        let resumed = provisioner.store().blobs().begun(called) > 0;
        match self.pack_archive(provisioner, name, from, means, pace).await {
            // Another one may be there by now, which does not go on where that one broke off.
            Err(why) if resumed && provisioner.store().blobs().begun(called) == 0 => {
                log::info!("{from} is fetched anew: {why}");
                self.pack_archive(provisioner, name, from, means, pace).await
            }
            packed => packed,
        }
    }

    async fn pack_archive(
        &self,
        provisioner: &Arc<Provisioner>,
        name: &Name,
        from: &str,
        means: &Means,
        pace: &Pace,
    ) -> Result<Digest, String> {
        let called = Digest::of(from.as_bytes());
        let brought = self.bring_blob(provisioner, called, from, means, pace).await;
        let blobs = provisioner.store().blobs();
        if brought.is_err() && blobs.begun(called) == 0 {
            blobs.forget_part(called);
        }
        let _taken = brought?;
        let (one, name) = (Arc::clone(provisioner), name.clone());
        let pack = move || {
            let blobs = one.store().blobs();
            let packed = Source::open(&blobs.part_at(called), None)
                .and_then(|source| one.store().pack(&name, source));
            // Whether it was good or not.
            blobs.forget_part(called);
            packed
        };
        self.containers.by_hand(pack).await.map_err(|error| error.to_string())
    }

    async fn index_of(
        &self,
        provisioner: &Arc<Provisioner>,
        name: &Name,
        means: &Means,
    ) -> Result<Digest, String> {
        let base = self.layout_of(name).ok_or("there is no registry by HTTP")?;
        let room = provisioner.store().room().map_err(|error| error.to_string())?;
        let path = room.join("index.json");
        let brought = self.bring_part(means, &format!("{base}/index.json"), &path).await;
        let one = Arc::clone(provisioner);
        let put = move || {
            let bytes = brought.and_then(|()| read(&path));
            let put = bytes.and_then(|bytes| {
                one.store().blobs().put(&bytes[..]).map_err(|error| error.to_string())
            });
            // What stays goes at the next start.
            let _ = mesita_isolation::tree::remove(&room);
            put.map(|(digest, _)| digest)
        };
        self.containers.by_hand(put).await
    }

    /// Brings content from a server, from where it broke off. It is the caller's until it is finished.
    async fn bring_blob(
        &self,
        provisioner: &Arc<Provisioner>,
        digest: Digest,
        from: &str,
        means: &Means,
        pace: &Pace,
    ) -> Result<Taken<'_>, String> {
        let taken = self.pulls.take(digest).ok_or("somebody else brings the same")?;
        let from = super::fetch::uri::url(from)?;
        let file = self.part_of(provisioner, digest).await?;
        let more = |bytes: u64| self.pulls.bytes.set(self.pulls.bytes.get() + bytes);
        let blobs = provisioner.store().blobs();
        let fits = |bytes| blobs.has_room_for(bytes).map_err(|error| error.to_string());
        let tagged = |tag: Option<&str>| blobs.set_tag(digest, tag);
        let part = Part { into: Arc::new(file), tag: blobs.tag(digest), tagged: &tagged };
        let brought = self.fetch_on(means, &from, part, pace, &more, &fits).await;
        if brought.is_err() && fits(blobs.begun(digest).saturating_add(1)).is_err() {
            // It is never kept.
            blobs.forget_part(digest);
        }
        brought?;
        Ok(taken)
    }

    /// Opens content that is not whole, with room for as much as a layer may be.
    async fn part_of(
        &self,
        provisioner: &Arc<Provisioner>,
        digest: Digest,
    ) -> Result<File, String> {
        let one = Arc::clone(provisioner);
        let open = move || {
            one.store().blobs().make_room(0, &[digest])?;
            one.store().blobs().part(digest)
        };
        self.containers.by_hand(open).await.map_err(|error| error.to_string())
    }

    async fn blob(self: &Rc<Self>, hex: &str, visit: Visit) -> Result<Reply, Early> {
        only(visit.request.method(), &[Method::GET, Method::PUT])?;
        let provisioner = self.may_bring(&visit)?;
        let digest = Digest::of_hex(hex).ok_or_else(|| {
            early(StatusCode::BAD_REQUEST, "content is named by the 64 hex digits of its SHA-256")
        })?;
        let query = legacy::query(visit.request.uri().query());
        let number = |name: &str| match query.get(name).map(|text| text.parse::<u64>()) {
            None => Ok(0),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => {
                Err(early(StatusCode::BAD_REQUEST, format!("`{name}` is a number of bytes")))
            }
        };
        let (offset, rate) = (number("offset")?, number("rate")?);
        if visit.request.method() == Method::GET {
            return self.give_blob(&provisioner, digest, offset, rate).await;
        }
        self.take_blob(&provisioner, digest, offset, visit.request).await
    }

    async fn give_blob(
        self: &Rc<Self>,
        provisioner: &Arc<Provisioner>,
        digest: Digest,
        offset: u64,
        rate: u64,
    ) -> Result<Reply, Early> {
        let one = Arc::clone(provisioner);
        let opened = self.containers.by_hand(move || one.store().blobs().read(digest)).await;
        let missing = || early(StatusCode::NOT_FOUND, format!("{digest} is not kept here"));
        let (file, size) = opened.ok_or_else(missing)?;
        let (sender, receiver) = async_channel::bounded::<Bytes>(1);
        let (me, file) = (Rc::clone(self), Arc::new(file));
        self.tasks.go(async move {
            let (mut at, pace) = (offset, Pace::new(rate));
            while at < size {
                let (of, length) = (Arc::clone(&file), (size - at).min(files::PAGE));
                let read = me.containers.by_hand(move || files::read(&of, at, length)).await;
                // What is cut off here is found out by its digest there.
                let Some(bytes) = read.ok().filter(|bytes| !bytes.is_empty()) else { return };
                let len = bytes.len() as u64;
                if sender.send(bytes.into()).await.is_err() {
                    return;
                }
                at += len;
                pace.took(len).await;
            }
        });
        Ok(Reply::new(Body::fed(receiver)))
    }

    async fn take_blob(
        &self,
        provisioner: &Arc<Provisioner>,
        digest: Digest,
        offset: u64,
        request: Request<Incoming>,
    ) -> Result<Reply, Early> {
        let store = provisioner.store();
        if store.blobs().has(digest) {
            return Ok(status(StatusCode::OK));
        }
        let busy = || early(StatusCode::CONFLICT, "somebody else brings the same");
        let _taken = self.pulls.take(digest).ok_or_else(busy)?;
        let begun = store.blobs().begun(digest);
        if begun != offset {
            let message = format!("{begun} bytes of it are here, and not {offset}");
            return Err(early(StatusCode::CONFLICT, message));
        }
        let bad = |why: String| early(StatusCode::BAD_REQUEST, why);
        let file = self.part_of(provisioner, digest).await.map_err(bad)?;
        self.write_on(provisioner, digest, begun, request.into_body(), file).await.map_err(bad)?;
        let one = Arc::clone(provisioner);
        let finish = move || one.store().blobs().finish(digest);
        let done = self.containers.by_hand(finish).await;
        done.map_err(|error| bad(error.to_string()))?;
        Ok(status(StatusCode::OK))
    }

    async fn write_on(
        &self,
        provisioner: &Arc<Provisioner>,
        digest: Digest,
        begun: u64,
        mut body: Incoming,
        file: File,
    ) -> Result<(), String> {
        let (file, mut at) = (Arc::new(file), begun);
        let max = provisioner.store().bounds().layer_bytes;
        let stall_us = self.options.fetch.stall_us;
        let silent = || {
            let ms = stall_us / 1000;
            format!("nothing comes for the {ms} ms of --fetcher-stall-timeout")
        };
        while let Some(frame) = alarm::within(stall_us, body.frame()).await.ok_or_else(silent)? {
            let frame = frame.map_err(|error| format!("it broke off after {at} bytes: {error}"))?;
            let Ok(bytes) = frame.into_data() else { continue };
            at += bytes.len() as u64;
            if at > max {
                provisioner.store().blobs().forget_part(digest);
                return Err(format!("it takes more than the {max} bytes of --image-layer-max"));
            }
            self.pulls.bytes.set(self.pulls.bytes.get() + bytes.len() as u64);
            super::fetch::write(&file, bytes.into()).await?;
        }
        let one = Arc::clone(provisioner);
        let room = move || one.store().blobs().make_room(0, &[digest]);
        self.containers.by_hand(room).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_an_image_by_its_name() {
        let read = |text: &str| Asked::read(text.as_bytes());
        let asked = read(r#"{"image": "acme/app:v1", "rate": 7}"#).ok().unwrap();
        assert!(asked.index.is_none() && asked.registry && asked.rate == 7);
        let index = Digest::of(b"");
        let asked = read(&json!({"image": "app", "index": index, "registry": false}).to_string());
        let asked = asked.ok().unwrap();
        assert!(asked.index == Some(index) && !asked.registry && asked.rate == 0);
        for (bad, said) in [
            ("", "EOF"),
            ("{}", "`image`"),
            (r#"{"image": "/srv/app.tar"}"#, "of one machine"),
            (r#"{"image": "app", "index": "x"}"#, "no digest"),
        ] {
            let why = read(bad).err().unwrap();
            assert!(why.contains(said), "{bad}: {why}");
        }
    }

    #[test]
    fn nobody_writes_what_somebody_else_writes() {
        let pulls = Pulls::default();
        let digest = Digest::of(b"");
        let taken = pulls.take(digest).unwrap();
        assert!(pulls.take(digest).is_none());
        drop(taken);
        assert!(pulls.take(digest).is_some());
    }
}
