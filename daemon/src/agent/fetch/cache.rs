//! What is kept of servers' files for other tasks of the same user, until the agent starts again.
//!
//! Mesos: `Fetcher::Cache`. Whoever asks first downloads, the others wait for that. What is longest
//! unused goes first; a file that is larger than the whole is used once and not kept. Whoever has one
//! open keeps it, whether or not it goes meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use event_listener::Event;
use mesita_isolation::tree;

use super::budget::Budget;
use super::uri::Uri;
use super::{Means, unpack};
use crate::agent::AgentNode;

/// A file by its user and its URI.
type Key = (String, String);

/// Files that are kept.
pub(super) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
    /// None = it is on its way.
    kept: RefCell<BTreeMap<Key, Option<Kept>>>,
    changed: Event,
    /// Names files, and says which was used last.
    counter: Cell<u64>,
}

#[derive(Clone, Debug)]
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: u64,
}

impl Cache {
    pub(super) fn new(directory: PathBuf, bytes_max: u64) -> Self {
        if let Err(error) = tree::remove(&directory) {
            log::warn!("{error}");
        }
        let (kept, changed, counter) = (RefCell::default(), Event::new(), Cell::default());
        Self { directory, bytes_max, kept, changed, counter }
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.borrow().values().flatten().map(|kept| kept.bytes).sum()
    }

    fn next(&self) -> u64 {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }

    /// The file that is kept, or nothing, when the caller has to fetch it.
    async fn find(&self, key: &Key) -> Option<PathBuf> {
        loop {
            let listener = self.changed.listen();
            match self.kept.borrow_mut().get_mut(key) {
                None => return None,
                Some(Some(kept)) => {
                    kept.used = self.next();
                    return Some(kept.path.clone());
                }
                Some(None) => {}
            }
            listener.await;
        }
    }

    /// Makes room for so many bytes; the files that go.
    fn make_room(&self, bytes: u64) -> Vec<PathBuf> {
        let mut gone = Vec::new();
        while self.bytes().saturating_add(bytes) > self.bytes_max {
            let mut kept = self.kept.borrow_mut();
            let oldest = kept.iter().filter_map(|(key, kept)| Some((kept.as_ref()?.used, key)));
            let Some(key) = oldest.min().map(|(_, key)| key.clone()) else { break };
            gone.extend(kept.remove(&key).flatten().map(|kept| kept.path));
        }
        gone
    }
}

/// A file on its way: if it does not arrive, others may try.
struct OnItsWay<'c> {
    cache: &'c Cache,
    key: Key,
}

impl<'c> OnItsWay<'c> {
    fn begin(cache: &'c Cache, key: Key) -> Self {
        cache.kept.borrow_mut().insert(key.clone(), None);
        Self { cache, key }
    }

    fn arrived(self, kept: Kept) {
        self.cache.kept.borrow_mut().insert(self.key.clone(), Some(kept));
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let mut kept = self.cache.kept.borrow_mut();
        if kept.get(&self.key).is_some_and(Option::is_none) {
            kept.remove(&self.key);
        }
        self.cache.changed.notify(usize::MAX);
    }
}

impl AgentNode {
    /// A file of a server, out of the cache or into it.
    pub(super) async fn cached(&self, means: &Means, uri: &Uri) -> Result<File, String> {
        let cache = &self.fetcher.cache;
        let key = (means.name.clone(), uri.text.clone());
        while let Some(path) = cache.find(&key).await {
            // One that went between is fetched again.
            if let Ok(file) = blocking::unblock(move || File::open(path)).await {
                return Ok(file);
            }
            cache.kept.borrow_mut().remove(&key);
        }
        let on_its_way = OnItsWay::begin(cache, key);
        let path = cache.directory.join(cache.next().to_string());
        let (written, read) = {
            let path = path.clone();
            let opened = blocking::unblock(move || open_new(&path)).await;
            opened.map_err(|error| error.to_string())?
        };
        let own = means.with(Budget::new(self.fetcher.options.bytes_max));
        let downloaded = self.bring(&own, uri, written).await;
        match downloaded {
            Ok(bytes) if bytes <= cache.bytes_max => {
                let gone = cache.make_room(bytes);
                blocking::unblock(move || gone.iter().for_each(|path| remove(path))).await;
                on_its_way.arrived(Kept { path, bytes, used: cache.next() });
            }
            Ok(_) => blocking::unblock(move || remove(&path)).await,
            Err(why) => {
                blocking::unblock(move || remove(&path)).await;
                return Err(why);
            }
        }
        Ok(read)
    }
}

/// A new file of the agent's alone, to write to and to read from.
fn open_new(path: &Path) -> io::Result<(File, File)> {
    if let Some(above) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(above)?;
    }
    let written = unpack::create(path, 0o600)?;
    Ok((written, File::open(path)?))
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        log::debug!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longest_unused_goes_first() {
        let cache = Cache::new(std::env::temp_dir().join("mesita-no-such-cache"), 10);
        let put = |name: &str, bytes: u64| {
            let key = ("me".to_owned(), name.to_owned());
            let gone = cache.make_room(bytes);
            let kept = Kept { path: name.into(), bytes, used: cache.next() };
            OnItsWay::begin(&cache, key).arrived(kept);
            gone
        };
        assert!(put("a", 4).is_empty() && put("b", 4).is_empty());
        let found = smol::future::block_on(cache.find(&("me".to_owned(), "a".to_owned())));
        assert_eq!(found, Some("a".into()));
        assert_eq!(put("c", 5), [PathBuf::from("b")]);
        assert_eq!(cache.bytes(), 9);
        assert_eq!(smol::future::block_on(cache.find(&("you".to_owned(), "a".to_owned()))), None);
    }
}
