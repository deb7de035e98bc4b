//! What a session reads and writes: pipes or a terminal, and who listens. A terminal of something that
//! outlives its agent is kept by the keeper as well, and what is written there goes to a file, too.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use event_listener::Event;
use mesita_core::time::Time;
use mesita_isolation::keeper::protocol::{DESCRIPTORS, User};
use rustix::fs::{Gid, Uid, fchown};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use smol::Async;

use crate::alarm;
use crate::clock;
use crate::http::media::Media;
use crate::http::records::Records;
use crate::pb::mesos::v1::agent::{ProcessIo, process_io};
use process_io::data::Type as Of;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Bytes that wait for the reader whose session it is, before nothing more is read for it.
const PACE: usize = 2 * CHUNK;
/// Who could write nothing for so long gives way to the next writer, in µs: it may be gone, which
/// nobody sees before all that it sent was read.
const STUCK_US: u64 = 2_000_000;
/// What ends the input of a terminal, as long as it is as it was made.
const END_OF_INPUT: [u8; 1] = [4];

/// The agent's end of a session.
pub(in crate::agent) struct Stdio {
    input: RefCell<Option<Rc<Async<OwnedFd>>>>,
    terminal: Option<Rc<Async<OwnedFd>>>,
    outputs: RefCell<Vec<(Of, Rc<Async<OwnedFd>>)>>,
    readers: RefCell<Vec<(Rc<Records>, Media)>>,
    /// Who writes to it, as they came; 0 = nobody.
    writer: Cell<u64>,
    writers: Cell<u64>,
    /// Since when what it writes is not read.
    stuck: Cell<Option<Time>>,
    another: Event,
    over: Cell<bool>,
    /// Where all that it writes goes as well.
    file: Option<Arc<File>>,
    /// That file takes no more.
    lost: Cell<bool>,
}

/// Rows and columns, as the API has them.
pub(in crate::agent) type Window = (u32, u32);

impl Stdio {
    /// A session's own ends, and those for its process. A terminal belongs to `user`.
    pub(super) fn new(
        terminal: Option<Option<Window>>,
        user: Option<&User>,
    ) -> io::Result<(Self, [OwnedFd; DESCRIPTORS])> {
        match terminal {
            Some(window) => Self::with_terminal(window, user),
            None => Self::with_pipes(),
        }
    }

    fn with_pipes() -> io::Result<(Self, [OwnedFd; DESCRIPTORS])> {
        let (input, to_input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_output, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_error, error) = pipe_with(PipeFlags::CLOEXEC)?;
        let ours = |fd: OwnedFd| Async::new(fd).map(Rc::new);
        let outputs = vec![(Of::Stdout, ours(from_output)?), (Of::Stderr, ours(from_error)?)];
        Ok((Self::of(ours(to_input)?, None, outputs), [input, output, error]))
    }

    fn with_terminal(
        window: Option<Window>,
        user: Option<&User>,
    ) -> io::Result<(Self, [OwnedFd; DESCRIPTORS])> {
        let (own, theirs) = terminal(user)?;
        let stdio = Self::of_terminal(own, None)?;
        // Without one it is as the kernel made it.
        window.map_or(Ok(()), |window| stdio.resize(window))?;
        Ok((stdio, [theirs.try_clone()?, theirs.try_clone()?, theirs]))
    }

    /// A terminal that outlives this agent: its end, and what the keeper gets. All that is written there
    /// goes to a file.
    pub(in crate::agent) fn kept(
        window: Option<Window>,
        user: Option<&User>,
        file: File,
    ) -> io::Result<(Self, [OwnedFd; DESCRIPTORS])> {
        let (own, theirs) = terminal(user)?;
        let lent = [theirs, own.try_clone()?, own.try_clone()?];
        let stdio = Self::of_terminal(own, Some(file))?;
        window.map_or(Ok(()), |window| stdio.resize(window))?;
        Ok((stdio, lent))
    }

    /// The same that an earlier agent has begun.
    pub(in crate::agent) fn adopted(own: OwnedFd, file: File) -> io::Result<Self> {
        Self::of_terminal(own, Some(file))
    }

    fn of_terminal(own: OwnedFd, file: Option<File>) -> io::Result<Self> {
        let own = Rc::new(Async::new(own)?);
        let stdio = Self::of(Rc::clone(&own), Some(Rc::clone(&own)), vec![(Of::Stdout, own)]);
        Ok(Self { file: file.map(Arc::new), ..stdio })
    }

    fn of(
        input: Rc<Async<OwnedFd>>,
        terminal: Option<Rc<Async<OwnedFd>>>,
        outputs: Vec<(Of, Rc<Async<OwnedFd>>)>,
    ) -> Self {
        Self {
            input: RefCell::new(Some(input)),
            terminal,
            outputs: RefCell::new(outputs),
            readers: RefCell::default(),
            writer: Cell::default(),
            writers: Cell::default(),
            stuck: Cell::default(),
            another: Event::new(),
            over: Cell::new(false),
            file: None,
            lost: Cell::new(false),
        }
    }

    /// Somebody wants to write to it, and gets a number; none when another one does, and is read.
    pub(super) async fn attach(&self) -> Option<u64> {
        while self.writer.get() != 0 {
            let since = self.stuck.get()?;
            if clock::now() >= since.after(STUCK_US) {
                break;
            }
            alarm::at(since.after(STUCK_US)).await;
            if self.writer.get() != 0 && self.stuck.get() != Some(since) {
                return None;
            }
        }
        self.writers.set(self.writers.get() + 1);
        self.writer.set(self.writers.get());
        self.stuck.set(None);
        self.another.notify(usize::MAX);
        Some(self.writer.get())
    }

    /// Waits until a writer has given way to another.
    pub(super) async fn ousted(&self, writer: u64) {
        loop {
            let listener = self.another.listen();
            if self.writer.get() != writer {
                return;
            }
            listener.await;
        }
    }

    /// A writer has done.
    pub(super) fn detach(&self, writer: u64) {
        if self.writer.get() == writer {
            self.writer.set(0);
            self.stuck.set(None);
        }
    }

    /// True when what it writes is in a file, from which others read.
    pub(super) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// True when it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// The terminal is so large now; nothing else is.
    pub(super) fn resize(&self, (rows, columns): Window) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let (ws_row, ws_col) = (cells(rows), cells(columns));
        Ok(tcsetwinsize(terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?)
    }

    /// Somebody reads from now on. The first one sets the pace; who does not keep up otherwise is
    /// cut off.
    pub(super) fn add(&self, records: Rc<Records>, media: Media) {
        if self.over.get() {
            records.close();
        }
        self.readers.borrow_mut().push((records, media));
    }

    /// Reads its outputs to their end.
    pub(in crate::agent) async fn pump(&self) {
        let mut outputs = std::mem::take(&mut *self.outputs.borrow_mut()).into_iter();
        let (first, second) = (outputs.next(), outputs.next());
        futures_lite::future::zip(self.pump_one(first), self.pump_one(second)).await;
    }

    async fn pump_one(&self, output: Option<(Of, Rc<Async<OwnedFd>>)>) {
        let Some((of, from)) = output else { return };
        let mut buffer = vec![0; CHUNK];
        loop {
            self.pace().await;
            // A terminal that nobody has open any more ends with an error.
            match from.read_with(|from| Ok(rustix::io::read(from, &mut buffer)?)).await {
                Ok(len) if len > 0 => {
                    self.note(&buffer[..len]).await;
                    self.tell(&data(of, &buffer[..len]));
                }
                Ok(_) | Err(_) => break,
            }
        }
    }

    async fn note(&self, bytes: &[u8]) {
        let Some(file) = self.file.as_ref().map(Arc::clone) else { return };
        let bytes = bytes.to_vec();
        let written = blocking::unblock(move || (&*file).write_all(&bytes)).await;
        if let Err(error) = written
            && !self.lost.replace(true)
        {
            log::warn!("what is written to a terminal is lost for its file: {error}");
        }
    }

    async fn pace(&self) {
        let first = self.readers.borrow().first().map(|(records, _)| Rc::clone(records));
        if let Some(first) = first {
            first.room(PACE).await;
        }
    }

    fn tell(&self, said: &ProcessIo) {
        let mut readers = self.readers.borrow_mut();
        readers.retain(|(records, _)| records.is_open());
        readers.iter().for_each(|(records, media)| records.push(&media.write(said)));
    }

    /// It is over: who reads gets the rest, and then the end.
    pub(in crate::agent) fn close(&self) {
        self.over.set(true);
        self.input.take();
        self.readers.borrow_mut().drain(..).for_each(|(records, _)| records.close());
    }

    /// Writes to its input as fast as it reads; nothing ends it. What it does not want to read is
    /// passed over.
    pub(super) async fn write(&self, data: &[u8]) {
        if data.is_empty() && !self.is_terminal() {
            self.input.take();
            return;
        }
        let input = self.input.borrow().clone();
        let Some(input) = input else { return };
        let mut rest = if data.is_empty() { &END_OF_INPUT[..] } else { data };
        while !rest.is_empty() {
            self.stuck.set(Some(clock::now()));
            match input.write_with(|input| Ok(rustix::io::write(input, rest)?)).await {
                Ok(len) => rest = &rest[len..],
                Err(_) => {
                    self.input.take();
                    break;
                }
            }
        }
        self.stuck.set(None);
    }
}

/// A new terminal of a user's: our end, and that of who works on it.
fn terminal(user: Option<&User>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let own = openpt(flags)?;
    unlockpt(&own)?;
    let theirs = ioctl_tiocgptpeer(&own, flags)?;
    if let Some(user) = user {
        fchown(&theirs, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    }
    Ok((own, theirs))
}

/// A piece of output.
pub(super) fn data(of: Of, bytes: &[u8]) -> ProcessIo {
    let mut data = process_io::Data { data: Some(bytes.to_vec()), ..Default::default() };
    data.set_type(of);
    let mut said = ProcessIo { data: Some(data), ..ProcessIo::default() };
    said.set_type(process_io::Type::Data);
    said
}
