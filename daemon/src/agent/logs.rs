//! What tasks wrote, for streams: read from the sandbox by the hands, followed without a timer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use mesita_core::wire::ContainerId;
use mesita_core::wire::svc::{CloseReason, LogsOf, Output, Stream};
use mesita_isolation::sandbox::{STDERR, STDOUT};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, inotify, seek};

use super::AgentNode;
use super::containers::Container;
use super::watch::Watch;
use crate::conn::Conn;
use crate::conn::streams::{Handle, Streams, refuse};

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

impl AgentNode {
    /// Serves a stream that the master opened for somebody it has let in.
    pub(super) fn open_stream(&self, conn: &Rc<Conn>, number: u32, kind: Stream<'_>, window: u32) {
        if let Stream::Http { .. } = kind {
            return self.serve_carried(conn, number, window);
        }
        let (of, asked) = match kind {
            Stream::Logs { of, which, offset, follow, .. } => {
                (of, Asked { which, offset, follow, placed: false })
            }
            Stream::Follow { of, which, offset, .. } => {
                (of, Asked { which, offset, follow: true, placed: true })
            }
            Stream::Http { .. }
            | Stream::Exec { .. }
            | Stream::Rows { .. }
            | Stream::Explain { .. }
            | Stream::Store { .. }
            | Stream::Charter
            | Stream::Rekey { .. } => {
                let message = "this kind of stream is not served by this release";
                return refuse(conn, number, CloseReason::Unsupported, message);
            }
        };
        let container = match of {
            LogsOf::Container(container) => Some(container),
            LogsOf::Task { framework, task } => self.containers.of_task(framework, task),
        };
        let (Some(container), Some(me)) = (container, self.me.upgrade()) else {
            return refuse(conn, number, CloseReason::NotFound, "no such task on this agent");
        };
        let handle = Streams::serve(conn, number, window);
        self.tasks.go(async move {
            match me.send_output(&handle, container, asked).await {
                Ok(Sent::All(summary)) => handle.close(CloseReason::Done, &summary),
                Ok(Sent::Unread) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    handle.close(CloseReason::NotFound, "there is no output, or not any more");
                }
                Err(error) => handle.close(CloseReason::Failed, &error.to_string()),
            }
        });
    }

    async fn send_output(
        &self,
        handle: &Handle,
        id: ContainerId,
        asked: Asked,
    ) -> io::Result<Sent> {
        let Asked { which, offset, follow, placed } = asked;
        let name = match which {
            Output::Stdout => STDOUT,
            Output::Stderr => STDERR,
        };
        let path = self.containers.sandbox(self.containers.at(id)).join(name);
        let container = self.containers.get(id);
        let watch = if follow && container.is_some() { Some(watch(&path)?) } else { None };
        let file = self.containers.by_hand(open(path)).await?;
        let file = Arc::new(file);
        let mut at = start(&file, offset)?;
        if placed {
            at = at.min(file.metadata()?.len());
        }
        if placed && handle.write(&piece(at, &[])).await.is_err() {
            return Ok(Sent::Unread);
        }
        loop {
            // Whether it ended is asked before the last read, so that nothing is missed after it.
            let ended = container.as_ref().is_none_or(|container| container.is_over());
            let reading = Arc::clone(&file);
            let chunk = self.containers.by_hand(move || {
                // What was given back to the disk is passed over: see `bounds`.
                let from = seek(&*reading, SeekFrom::Data(at)).unwrap_or(at);
                let mut chunk = vec![0; CHUNK];
                let len = reading.read_at(&mut chunk, from)?;
                chunk.truncate(len);
                io::Result::Ok((from, chunk))
            });
            let (from, chunk) = chunk.await?;
            at = from;
            if !chunk.is_empty() {
                at += chunk.len() as u64;
                let chunk = if placed { piece(from, &chunk) } else { chunk };
                if handle.write(&chunk).await.is_err() {
                    return Ok(Sent::Unread);
                }
                continue;
            }
            match (&watch, &container) {
                (Some(watch), Some(container)) if !ended => {
                    if !grown(watch, container, handle).await? {
                        return Ok(Sent::Unread);
                    }
                }
                _ => break,
            }
        }
        Ok(Sent::All(container.map_or_else(String::new, |container| container.summary())))
    }
}

/// What is wanted of an output.
#[derive(Clone, Copy)]
struct Asked {
    which: Output,
    offset: i64,
    follow: bool,
    /// In pieces that say where they are.
    placed: bool,
}

/// A piece of [`Stream::Follow`].
fn piece(at: u64, bytes: &[u8]) -> Vec<u8> {
    // A chunk is small.
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    [&at.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat()
}

enum Sent {
    /// All of it; what the container used.
    All(String),
    /// Nobody reads any more.
    Unread,
}

/// Waits until there may be more to read; false when nobody reads.
async fn grown(watch: &Watch, container: &Container, handle: &Handle) -> io::Result<bool> {
    let changed = container.changed();
    if container.is_over() {
        return Ok(true);
    }
    let written = async {
        watch.told().await?;
        Ok(true)
    };
    let ended = async {
        changed.await;
        Ok(true)
    };
    let closed = async {
        handle.closed().await;
        Ok(false)
    };
    futures_lite::future::or(written, futures_lite::future::or(ended, closed)).await
}

/// Tells when a file is written to.
pub(super) fn watch(path: &Path) -> io::Result<Watch> {
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let watch = inotify::init(flags)?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DONT_FOLLOW;
    inotify::add_watch(&watch, path, events)?;
    Watch::new(watch)
}

/// Opens a task's output. The task may have put something else in its place: nothing but a plain
/// file is read, and no link is followed.
fn open(path: PathBuf) -> impl FnOnce() -> io::Result<File> + Send + 'static {
    move || {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty())?;
        let mode = rustix::fs::fstat(&file)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Err(io::Error::other(
                "the task has put something else in the place of its output",
            ));
        }
        Ok(File::from(file))
    }
}

/// Where reading begins: from the front, or so far from the end.
fn start(file: &File, offset: i64) -> io::Result<u64> {
    match u64::try_from(offset) {
        Ok(offset) => Ok(offset),
        Err(_) => Ok(file.metadata()?.len().saturating_sub(offset.unsigned_abs())),
    }
}
