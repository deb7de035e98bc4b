//! The disk thread: writes what a core must not forget, says when it is durable, and writes the
//! journal. Whatever waits is written together and synced once.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_channel::{Receiver, Sender, TryRecvError};
use mesita_core::sync::{Consumer, Producer};
use mesita_core::{agent, election};

use crate::bell::Bell;
use crate::journal::segments::Segments;
use crate::ledger::Ledger;
use crate::passage::{IN_INPUT, RECORD_MAX};
use crate::set::store::SetStore;

/// Writes that wait for the disk at the most; then the IO thread waits, and the core after it.
pub(crate) const JOBS_MAX: usize = 1024;

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
    /// Everything before it is to be on disk, then the thread ends.
    Stop,
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
        loop {
            let batch = self.batch();
            let stops = batch.iter().any(|job| matches!(job, Job::Stop));
            let wrote = !batch.is_empty();
            self.write(batch);
            let journaled = self.journal(&mut buffer);
            if stops {
                return;
            }
            if wrote {
                self.io_bell.ring();
            }
            if !(wrote || journaled) {
                let bell = self.bell;
                bell.rest(|| self.has_work(), || parker.park());
            }
        }
    }

    fn has_work(&mut self) -> bool {
        let journal = self.journal.as_mut();
        !self.jobs.is_empty() || journal.is_some_and(|(entries, _)| !entries.is_empty())
    }

    /// All jobs that wait.
    fn batch(&mut self) -> Vec<Job> {
        let mut batch = Vec::new();
        while batch.len() < JOBS_MAX {
            match self.jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => {
                    batch.push(Job::Stop);
                    break;
                }
            }
        }
        batch
    }

    /// Writes all, syncs what asked for it, then tells that each is done.
    fn write(&mut self, batch: Vec<Job>) {
        let mut synced = vec![false; self.stores.len()];
        for job in &batch {
            let seat = match job {
                Job::Ledger { seat, sync: true, .. } => *seat,
                // A registry syncs itself, in the order that it needs.
                Job::Ledger { sync: false, .. } | Job::Save { .. } | Job::Stop => continue,
            };
            if let Some(synced) = synced.get_mut(usize::from(seat)) {
                *synced = true;
            }
        }
        let mut done = Vec::new();
        for job in batch {
            if let Some(told) = self.write_one(job) {
                done.push(told);
            }
        }
        for (store, _) in self.stores.iter_mut().zip(synced).filter(|(_, synced)| *synced) {
            must(store.sync(), store);
        }
        for (seat, input) in done {
            self.tell(seat, &input);
        }
        for seat in 0..self.stores.len() {
            if let Some(Store::Ledger(ledger)) = self.stores.get_mut(seat)
                && ledger.wants_compaction()
            {
                self.tell(u8::try_from(seat).unwrap_or(u8::MAX), &input_of(&agent::Input::Compact));
            }
        }
    }

    /// Writes one; returns the input that tells of it.
    fn write_one(&mut self, job: Job) -> Option<(u8, Vec<u8>)> {
        match job {
            Job::Save { seat, save } => {
                let store = self.stores.get_mut(usize::from(seat))?;
                let Store::Set(set) = store else { return None };
                let sequence = match set.save(&save) {
                    Ok(sequence) => sequence?,
                    Err(error) => {
                        must(Err(error), store);
                        return None;
                    }
                };
                Some((seat, input_of(&election::Input::Persisted { sequence })))
            }
            Job::Ledger { seat, sequence, turn, frame, bodies, .. } => {
                let store = self.stores.get_mut(usize::from(seat))?;
                if let Store::Ledger(ledger) = store {
                    let written = ledger.append(turn, &frame, &bodies);
                    must(written, store);
                }
                Some((seat, input_of(&agent::Input::Persisted { sequence })))
            }
            Job::Stop => None,
        }
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
