//! The disk thread: writes what a core must not forget, says when it is durable, and writes the
//! journal. Whatever waits is written together and synced once.
//!
//! An agent whose disk is full goes on: it is told, and what finds no room waits for some. A disk
//! that fails ends the process.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_channel::{Receiver, Sender, TryRecvError};
use mesita_core::sync::{Consumer, Producer};
use mesita_core::{agent, election};
use parking::Parker;

use crate::bell::Bell;
use crate::journal::segments::Segments;
use crate::ledger::{Failed, Ledger};
use crate::passage::{IN_INPUT, RECORD_MAX};
use crate::set::store::SetStore;

/// Writes that wait for the disk at the most; then the IO thread waits, and the core after it.
pub(crate) const JOBS_MAX: usize = 1024;
/// From one look at the room on an agent's disk to the next: while there is some, and while there
/// is none.
const LOOKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];

/// A write.
#[derive(Debug)]
pub(crate) enum Job {
    /// Of the registry that masters keep, as the election asked for it.
    Save { seat: u8, save: Vec<u8> },
    /// Of an agent's ledger: a frame up to its bodies, and those.
    Ledger {
        seat: u8,
        sequence: u64,
        sync: bool,
        turn: Turn,
        frame: Vec<u8>,
        bodies: Vec<Arc<[u8]>>,
    },
}

/// What a ledger record means for its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is appended.
    Append,
    /// It begins a new file.
    Begins,
    /// With it the new file is whole and takes the place of the old one.
    Ends,
}

/// Where a seat's records go.
#[derive(Debug)]
pub(crate) enum Store {
    /// Nowhere: the cluster ends with this process. Durable at once.
    Memory,
    /// The registry that masters keep.
    Set(Box<SetStore>),
    /// An agent's ledger.
    Ledger(Ledger),
}

/// Everything the disk thread has.
pub(crate) struct Disk {
    pub(crate) jobs: Receiver<Job>,
    pub(crate) stores: Vec<Store>,
    pub(crate) journal: Option<(Consumer<'static>, Segments)>,
    pub(crate) to_core: Producer<'static>,
    pub(crate) bell: &'static Bell,
    pub(crate) core_bell: &'static Bell,
    pub(crate) io_bell: &'static Bell,
}

/// What was written and is not told yet.
#[derive(Default)]
struct Written {
    /// Whose is to be synced first.
    synced: BTreeSet<u8>,
    /// The inputs that tell of it.
    done: Vec<(u8, Vec<u8>)>,
}

/// The IO thread's end.
pub(crate) struct ToDisk {
    jobs: Sender<Job>,
    bell: &'static Bell,
}

impl ToDisk {
    /// Both ends of the way to the disk thread.
    pub(crate) fn new(bell: &'static Bell) -> (Self, Receiver<Job>) {
        let (sender, receiver) = async_channel::bounded(JOBS_MAX);
        (Self { jobs: sender, bell }, receiver)
    }

    /// True when a job can be taken. The IO thread looks before it reads the core's next output.
    pub(crate) fn has_room(&self) -> bool {
        !self.jobs.is_full()
    }

    /// Gives the disk thread a job.
    pub(crate) fn write(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            mesita_core::stop(line!(), "a disk thread that takes no job though it had room");
        }
        self.bell.ring();
    }

    /// No job follows: when all are done the thread ends.
    pub(crate) fn end(&self) {
        self.jobs.close();
        self.bell.ring();
    }
}

impl Disk {
    /// Starts the thread.
    pub(crate) fn spawn(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("disk".to_owned()).spawn(move || self.run())
    }

    fn run(mut self) {
        let (parker, unparker) = parking::pair();
        self.bell.answered_by(unparker.into());
        let mut buffer = bytemuck::allocation::zeroed_slice_box(RECORD_MAX);
        let looks = self.stores.iter().any(|store| matches!(store, Store::Ledger(_)));
        loop {
            let (batch, stops) = self.batch();
            let wrote = !batch.is_empty();
            self.write(batch, &parker);
            let journaled = self.journal(&mut buffer);
            if stops {
                return;
            }
            if wrote {
                self.io_bell.ring();
            }
            let full = self.look();
            if !(wrote || journaled) {
                let bell = self.bell;
                let sleep = || {
                    if looks {
                        parker.park_timeout(LOOKS[usize::from(full)]);
                    } else {
                        parker.park();
                    }
                };
                bell.rest(|| self.has_work(), sleep);
            }
        }
    }

    fn has_work(&mut self) -> bool {
        let journal = self.journal.as_mut();
        let jobs = !self.jobs.is_empty() || self.jobs.is_closed();
        jobs || journal.is_some_and(|(entries, _)| !entries.is_empty())
    }

    /// All jobs that wait, and whether none follows.
    fn batch(&mut self) -> (Vec<Job>, bool) {
        let mut batch = Vec::new();
        while batch.len() < JOBS_MAX {
            match self.jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => return (batch, true),
            }
        }
        (batch, false)
    }

    /// Writes all, syncs what asked for it, then tells that each is done.
    fn write(&mut self, batch: Vec<Job>, parker: &Parker) {
        let mut written = Written::default();
        for job in batch {
            let mut waits = false;
            while !self.write_one(&job, &mut written) {
                if !std::mem::replace(&mut waits, true) {
                    log::error!("what was set aside is used up, too: ends of tasks wait for room");
                }
                // What came before it does not wait with it.
                self.settle(&mut written);
                let bell = self.bell;
                let sleep = || {
                    let _ = parker.park_timeout(LOOKS[1]);
                };
                bell.rest(|| self.jobs.is_closed(), sleep);
                if self.jobs.is_closed() {
                    // Nobody was promised what is left.
                    return;
                }
            }
        }
        self.settle(&mut written);
        for seat in 0..self.stores.len() {
            if let Some(Store::Ledger(ledger)) = self.stores.get_mut(seat)
                && ledger.wants_compaction()
            {
                self.tell(u8::try_from(seat).unwrap_or(u8::MAX), &input_of(&agent::Input::Compact));
            }
        }
    }

    /// Looks whether agents have room on their disks, and tells them of what has changed. True while
    /// one has none.
    fn look(&mut self) -> bool {
        let mut any = false;
        for seat in 0..self.stores.len() {
            let Some(Store::Ledger(ledger)) = self.stores.get_mut(seat) else { continue };
            let changed = ledger.look();
            any |= ledger.is_full();
            if changed {
                self.tell_room(seat);
            }
        }
        any
    }

    /// Tells an agent whether its disk has room.
    fn tell_room(&mut self, seat: usize) {
        let Some(Store::Ledger(ledger)) = self.stores.get(seat) else { return };
        let (full, path) = (ledger.is_full(), ledger.path().display());
        if full {
            log::error!(
                "the disk of {path} is full: no task is taken until it has room; those that run go on"
            );
        } else {
            log::info!("the disk of {path} has room again: tasks are taken");
        }
        let input = input_of(&agent::Input::Disk { full });
        self.tell(u8::try_from(seat).unwrap_or(u8::MAX), &input);
    }

    /// Syncs what asked for it, then tells that all is done.
    fn settle(&mut self, written: &mut Written) {
        for seat in std::mem::take(&mut written.synced) {
            if let Some(store) = self.stores.get_mut(usize::from(seat)) {
                let synced = store.sync();
                must(synced, store);
            }
        }
        for (seat, input) in std::mem::take(&mut written.done) {
            self.tell(seat, &input);
        }
    }

    /// Writes one. False when there is no room for it.
    fn write_one(&mut self, job: &Job, written: &mut Written) -> bool {
        match job {
            Job::Save { seat, save } => {
                let Some(store) = self.stores.get_mut(usize::from(*seat)) else { return true };
                let Store::Set(set) = store else { return true };
                // A registry syncs itself, in the order that it needs.
                match set.save(save) {
                    Ok(Some(sequence)) => {
                        let input = input_of(&election::Input::Persisted { sequence });
                        written.done.push((*seat, input));
                    }
                    Ok(None) => {}
                    Err(error) => must(Err(error), store),
                }
            }
            Job::Ledger { seat, sequence, sync, turn, frame, bodies } => {
                let Some(store) = self.stores.get_mut(usize::from(*seat)) else { return true };
                if let Store::Ledger(ledger) = store {
                    match ledger.append(*turn, frame, bodies) {
                        Ok(()) => {}
                        Err(Failed::NoRoom) => {
                            if ledger.found_none() {
                                self.tell_room(usize::from(*seat));
                            }
                            return false;
                        }
                        Err(Failed::Io(error)) => must(Err(error), store),
                    }
                }
                if *sync {
                    written.synced.insert(*seat);
                }
                let input = input_of(&agent::Input::Persisted { sequence: *sequence });
                written.done.push((*seat, input));
            }
        }
        true
    }

    /// Tells a core. Its ring is read before all others, so waiting is short.
    fn tell(&mut self, seat: u8, input: &[u8]) {
        while self.to_core.push(&[&[seat, IN_INPUT], input]).is_err() {
            self.core_bell.ring();
            std::thread::yield_now();
        }
        self.core_bell.ring();
    }

    /// Writes the journal's entries that wait. True if there was one.
    fn journal(&mut self, buffer: &mut [u8]) -> bool {
        let Some((entries, segments)) = &mut self.journal else { return false };
        let mut result = Ok(());
        let mut some = false;
        while let Some(entry) = entries.pop(buffer) {
            some = true;
            result = result.and(segments.append(entry));
        }
        if some {
            result = result.and(segments.flush());
        }
        if let Err(error) = result {
            log::error!("the journal ends here: {error}");
        }
        some
    }
}

impl Store {
    fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::Memory | Self::Set(_) => Ok(()),
            Self::Ledger(ledger) => ledger.sync(),
        }
    }
}

/// A disk that fails ends the process: nobody knows what it holds, and a second attempt to sync
/// would say that all is well.
fn must(result: io::Result<()>, store: &Store) {
    if let Err(error) = result {
        let path = match store {
            Store::Memory => PathBuf::new(),
            Store::Set(set) => set.path().to_owned(),
            Store::Ledger(ledger) => ledger.path().to_owned(),
        };
        log::error!(
            "cannot write {}: {error}; ending, to start from what is on disk",
            path.display()
        );
        std::process::exit(1);
    }
}

fn input_of<T: serde::Serialize>(input: &T) -> Vec<u8> {
    postcard::to_allocvec(input).unwrap_or_default()
}
