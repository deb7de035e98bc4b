//! A descriptor by which the kernel tells that something has happened.

use std::io;
use std::os::fd::OwnedFd;

use smol::Async;

use crate::alarm;

/// With v1 the kernel tells that memory is out before it kills for that, and counts it. In µs.
const COUNTED_US: u64 = 20_000;

/// Closed by another thread: with an inotify(7) descriptor the kernel waits for whoever might still
/// be telling it something, some ten milliseconds, in which this thread would do nothing else.
pub(super) struct Watch(Option<Async<OwnedFd>>);

impl Watch {
    /// Waits on it from now on.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self(Some(Async::new(descriptor)?)))
    }

    /// Waits until there is something to be read, and reads all of it. An error: never again.
    pub(super) async fn told(&self) -> io::Result<()> {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        watch.readable().await?;
        let mut buffer = [0; 4096];
        while rustix::io::read(watch, &mut buffer).is_ok_and(|len| len == buffer.len()) {}
        Ok(())
    }

    /// Waits until a look finds what it tells of: one is taken each time, and one now, for what
    /// happened before it was watched. None: it will never be found.
    pub(super) async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = look().await {
                return Some(found);
            }
            self.told().await.ok()?;
            alarm::after(COUNTED_US).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(descriptor) = self.0.take().and_then(|watch| watch.into_inner().ok()) {
            blocking::unblock(move || drop(descriptor)).detach();
        }
    }
}
