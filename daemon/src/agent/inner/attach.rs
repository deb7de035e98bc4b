//! Streams of what containers read and write.
//!
//! A session has pipes or a terminal: its own reader sets the pace, who listens beside it must keep
//! up. Everybody else writes files, which each reader follows at its own pace.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use event_listener::EventListener;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use mesita_isolation::sandbox::{STDERR, STDOUT};

use super::super::containers::Container;
use super::super::files;
use super::super::logs::watch;
use super::super::watch::Watch;
use super::stdio::{Stdio, data};
use super::{Inner, SIGKILL};
use crate::agent::AgentNode;
use crate::alarm;
use crate::http::media::{BadType, MESSAGE_TYPE, Media, RECORDIO};
use crate::http::records::Records;
use crate::http::{Early, Reply, early, request, stream};
use crate::machines::recordio::Pieces;
use crate::machines::waiting::Level;
use crate::pb::mesos::v1::DurationInfo;
use crate::pb::mesos::v1::agent::{Call, ProcessIo, call, process_io};
use process_io::data::Type as Of;

/// Bytes that wait for one reader, before it is cut off.
const READER_MAX: usize = 1024 * 1024;
/// Bytes of files that wait for one reader, before it is read on for it.
const PACE: usize = 64 * 1024;
/// Bytes of one record of somebody's input.
const RECORD_MAX: usize = 1024 * 1024;
/// How long the rest of an input is read that nobody wants, in µs.
const REST_US: u64 = 10_000_000;
/// Between two signs of life. Mesos: `--http_heartbeat_interval`.
const HEARTBEAT_US: u64 = 30_000_000;
/// The form of each of them.
const MESSAGE_ACCEPT: HeaderName = HeaderName::from_static("message-accept");

/// The form in which somebody wants to read a stream.
#[derive(Clone, Copy)]
pub(super) struct Form {
    media: Media,
    /// They know that it is one of records.
    told: bool,
}

impl Form {
    /// As the headers ask for it: records of the form that `Message-Accept` names, or, as of other
    /// streams, records of the form that `Accept` names.
    pub(super) fn asked(headers: &HeaderMap) -> Result<Self, Early> {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let told = ranges
            .flat_map(|value| value.split(','))
            .any(|range| range.split(';').next().is_some_and(|name| name.trim() == RECORDIO));
        if !told {
            return Ok(Self { media: request::asked(headers)?, told });
        }
        let mut inner = HeaderMap::new();
        for value in headers.get_all(MESSAGE_ACCEPT) {
            inner.append(ACCEPT, value.clone());
        }
        let media = Media::asked(&inner).ok_or_else(|| {
            let message =
                "Expecting 'Message-Accept' to allow application/json or application/x-protobuf";
            early(StatusCode::NOT_ACCEPTABLE, message)
        })?;
        Ok(Self { media, told })
    }

    fn reply(self, records: Rc<Records>) -> Reply {
        let mut reply = stream(records, self.media);
        if self.told {
            let headers = reply.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(RECORDIO));
            headers.insert(MESSAGE_TYPE, HeaderValue::from_static(self.media.name()));
        }
        reply
    }
}

/// Whose files are followed.
pub(super) enum Written {
    /// A task's or an executor's.
    Task(Rc<Container>),
    /// Those of a container inside of one, or of its own.
    Inner(Rc<Inner>),
}

impl Written {
    fn is_over(&self) -> bool {
        match self {
            Self::Task(container) => container.is_over(),
            Self::Inner(inner) => inner.is_over(),
        }
    }

    /// Waits until it ended.
    pub(super) async fn ended(&self) {
        loop {
            let changed = self.changed();
            if self.is_over() {
                return;
            }
            changed.await;
        }
    }

    fn changed(&self) -> EventListener {
        match self {
            Self::Task(container) => container.changed(),
            Self::Inner(inner) => inner.changed.listen(),
        }
    }
}

impl AgentNode {
    /// A stream to whoever started a session, which ends with it.
    pub(super) fn hold(self: &Rc<Self>, inner: &Rc<Inner>, stdio: &Rc<Stdio>, form: Form) -> Reply {
        let records = self.reader(form);
        stdio.add(Rc::clone(&records), form.media);
        let (me, inner, held) = (Rc::clone(self), Rc::clone(inner), Rc::clone(&records));
        self.tasks.go(async move {
            held.left().await;
            me.signal_inner(&inner, SIGKILL).await;
        });
        form.reply(records)
    }

    /// A stream to whoever listens to a session beside that.
    pub(super) fn listen(self: &Rc<Self>, stdio: &Rc<Stdio>, form: Form) -> Reply {
        let records = self.reader(form);
        stdio.add(Rc::clone(&records), form.media);
        form.reply(records)
    }

    /// A stream of what is written to files from now on.
    pub(super) async fn follow(
        self: &Rc<Self>,
        sandbox: PathBuf,
        below: PathBuf,
        written: Written,
        form: Form,
    ) -> Reply {
        let of = |of: Of, name: &str| self.followed(of, &sandbox, below.join(name));
        // From when this is answered, not from when it is read.
        let out = of(Of::Stdout, STDOUT).await;
        let err = of(Of::Stderr, STDERR).await;
        let records = self.reader(form);
        let (me, to) = (Rc::clone(self), Rc::clone(&records));
        self.tasks.go(async move {
            let both = async {
                let follow = |file| me.follow_one(file, &written, &to, form.media);
                let ended = futures_lite::future::zip(follow(out), follow(err)).await;
                for error in [ended.0, ended.1].into_iter().filter_map(Result::err) {
                    log::debug!("a reader of {}: {error}", sandbox.display());
                }
                to.close();
            };
            futures_lite::future::or(both, to.left()).await;
        });
        form.reply(records)
    }

    /// Opens a file where it ends now.
    async fn followed(&self, of: Of, sandbox: &Path, inside: PathBuf) -> io::Result<Followed> {
        let changes = watch(&sandbox.join(&inside))?;
        let sandbox = sandbox.to_owned();
        let opened = self.containers.by_hand(move || files::open_file(&sandbox, &inside)).await;
        let (file, at) = opened.map_err(|_| io::ErrorKind::NotFound)?;
        Ok(Followed { of, changes, file: Arc::new(file), at })
    }

    /// The queue of a reader, which gets signs of life from now on.
    fn reader(self: &Rc<Self>, form: Form) -> Rc<Records> {
        let records = Rc::new(Records::new(READER_MAX, |level| {
            if level == Level::Overrun {
                log::warn!("a reader of what a container writes is too slow and was cut");
            }
        }));
        let beating = Rc::clone(&records);
        self.tasks.go(async move {
            let beats = async {
                while beating.is_open() {
                    alarm::after(HEARTBEAT_US).await;
                    beating.push(&form.media.write(&heartbeat()));
                }
            };
            futures_lite::future::or(beats, beating.left()).await;
        });
        records
    }

    async fn follow_one(
        &self,
        followed: io::Result<Followed>,
        written: &Written,
        records: &Records,
        media: Media,
    ) -> io::Result<()> {
        let Followed { of, changes, file, mut at } = followed?;
        loop {
            // Whether it ended is asked before the last read, so that nothing is missed after it.
            let ended = written.is_over();
            records.room(PACE).await;
            let bytes = self.read_at(&file, at).await?;
            if !bytes.is_empty() {
                at += bytes.len() as u64;
                records.push(&media.write(&data(of, &bytes)));
            } else if ended || !records.is_open() {
                return Ok(());
            } else {
                let changed = written.changed();
                if !written.is_over() {
                    let told = async { changes.told().await.unwrap_or_default() };
                    futures_lite::future::or(told, changed).await;
                }
            }
        }
    }

    async fn read_at(&self, file: &Arc<File>, at: u64) -> io::Result<Vec<u8>> {
        let file = Arc::clone(file);
        self.containers.by_hand(move || files::read(&file, at, PIECE)).await
    }
}

/// Bytes of a file that are read at once.
const PIECE: u64 = 16 * 1024;

/// A file that is followed from a place on.
struct Followed {
    of: Of,
    changes: Watch,
    file: Arc<File>,
    at: u64,
}

fn heartbeat() -> ProcessIo {
    let interval = DurationInfo { nanoseconds: 30_000_000_000 };
    let mut control = process_io::Control {
        heartbeat: Some(process_io::control::Heartbeat { interval: Some(interval) }),
        ..Default::default()
    };
    control.set_type(process_io::control::Type::Heartbeat);
    let mut said = ProcessIo { control: Some(control), ..ProcessIo::default() };
    said.set_type(process_io::Type::Control);
    said
}

/// What somebody writes, one record after the other.
pub(super) struct Input {
    body: Incoming,
    pieces: Pieces,
    ready: std::collections::VecDeque<Vec<u8>>,
    media: Media,
}

impl Input {
    /// Of a request with these headers. Checked in Mesos' order.
    pub(super) fn of(headers: &HeaderMap, body: Incoming) -> Result<Self, Early> {
        let media = Media::of_records(headers).map_err(|bad| {
            let message = "Expecting 'Message-Content-Type' of application/json or \
                           application/x-protobuf";
            let status = match bad {
                BadType::Absent => StatusCode::BAD_REQUEST,
                BadType::Unknown => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            };
            early(status, message)
        })?;
        let pieces = Pieces::new(RECORD_MAX);
        Ok(Self { body, pieces, ready: std::collections::VecDeque::new(), media })
    }

    /// Reads the rest for nobody, for a while.
    pub(super) async fn pass_over(mut self) {
        let all = async { while let Some(Ok(_)) = self.body.frame().await {} };
        alarm::within(REST_US, all).await;
    }

    /// The next record; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Call>, Early> {
        let bad = |why: String| early(StatusCode::BAD_REQUEST, why);
        loop {
            if let Some(record) = self.ready.pop_front() {
                return self.media.read(&record).map(Some).map_err(|why| bad(why.to_string()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(bad(format!("the body cannot be read: {error}"))),
                Some(Ok(frame)) => {
                    let Some(bytes) = frame.data_ref() else { continue };
                    self.ready.extend(self.pieces.take(bytes).map_err(bad)?);
                }
            }
        }
    }
}

/// Does what somebody says to a session: writes to it, or says how large its terminal is.
pub(super) async fn said(stdio: &Stdio, call: &Call) -> Result<(), String> {
    let input = call.attach_container_input.as_ref();
    let input = input.ok_or("Expecting 'attach_container_input' to be present")?;
    if input.r#type() != call::attach_container_input::Type::ProcessIo {
        return Err("Expecting 'attach_container_input.type' to be PROCESS_IO".to_owned());
    }
    let said = input.process_io.as_ref();
    let said = said.ok_or("Expecting 'attach_container_input.process_io' to be present")?;
    match said.r#type() {
        process_io::Type::Data => {
            let data = said.data.as_ref().ok_or("Expecting 'process_io.data' to be present")?;
            if data.r#type() != Of::Stdin {
                return Err("Expecting 'process_io.data.type' to be STDIN".to_owned());
            }
            stdio.write(data.data.as_deref().unwrap_or_default()).await;
            Ok(())
        }
        process_io::Type::Control => {
            let control = said.control.as_ref();
            let control = control.ok_or("Expecting 'process_io.control' to be present")?;
            let window = control.tty_info.as_ref().and_then(|tty| tty.window_size.as_ref());
            match window {
                Some(size) if stdio.is_terminal() => {
                    let resized = stdio.resize((size.rows, size.columns));
                    resized.map_err(|error| format!("the terminal: {error}"))
                }
                Some(_) => Err("the session has no terminal".to_owned()),
                None => Ok(()),
            }
        }
        process_io::Type::Unknown => Err("Expecting 'process_io.type' to be present".to_owned()),
    }
}
