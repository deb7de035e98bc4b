//! The threads of a process: what they share is made here, and nowhere else.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;

use mesita_core::Refusal;
use mesita_core::sync::Producer;
use mesita_core::time::Time;
use nix::sys::socket::{Shutdown, shutdown};
use rustix::fs::OFlags;

use crate::bell::Bell;
use crate::bodies::Bodies;
use crate::core_thread::{Core, ROOM};
use crate::disk_thread::{Disk, Store, ToDisk};
use crate::io_thread::{Io, Node, Tasks};
use crate::journal::segments::Segments;
use crate::journal::tap::Tap;
use crate::machines::passing::Ends;
use crate::memory::ring;
use crate::passage::{IN_RING, OUT_RING, OfCore, ToCore};
use crate::port::Port;
use crate::seats::Blueprint;

/// Bytes of the ring from the core to the journal.
const JOURNAL_RING: usize = 4 << 20;
/// Bytes of the ring from the disk to the core: it only tells what is done.
const DISK_RING: usize = 16 << 10;
/// Segments of a journal that fit into its bound.
const SEGMENTS: u64 = 8;

/// What a process steps, and where it writes.
pub(crate) struct Plan {
    /// A blueprint for each seat, with where its records go and how many bytes of bodies it holds.
    pub(crate) seats: Vec<(Blueprint, Store, u64)>,
    /// The journal's directory and its bytes.
    pub(crate) journal: Option<(PathBuf, u64)>,
}

/// Why the threads did not start.
#[derive(Debug)]
pub(crate) enum Error {
    /// A seat's tables are too small for even an idle machine.
    Seat(&'static str, Refusal),
    /// The journal.
    Journal(PathBuf, io::Error),
    /// A thread.
    Thread(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seat(kind, refusal) => write!(f, "--size or --capacity of the {kind}: {refusal}"),
            Self::Journal(path, error) => write!(f, "--journal {}: {error}", path.display()),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// A process whose threads run.
pub(crate) struct Process {
    io: Io,
    /// The way to each seat; taken by its node.
    ports: Vec<Option<Port>>,
    core: JoinHandle<()>,
    disk: JoinHandle<()>,
}

impl Process {
    /// Starts the core and the disk thread. This thread is the IO thread.
    pub(crate) fn start(plan: Plan) -> Result<Self, Error> {
        let [core_bell, io_bell, disk_bell] =
            [(); 3].map(|()| -> &'static Bell { Box::leak(Box::new(Bell::new())) });
        let (io_to_core, core_from_io) = ring(IN_RING);
        let (disk_to_core, core_from_disk) = ring(DISK_RING);
        let (core_to_io, io_of_core) = ring(OUT_RING);
        let (to_disk, jobs) = ToDisk::new(disk_bell);
        let is_set = plan.seats.iter().any(|(seat, ..)| matches!(seat, Blueprint::Election { .. }));
        // What masters say to each other has a way of its own.
        let (to_election, from_masters) = is_set.then(|| ring(IN_RING)).unzip();
        let mut seats = Vec::new();
        let (mut stores, mut blueprints, mut body_bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (blueprint, store, bytes) in plan.seats {
            let seat = blueprint.build();
            seats.push(seat.map_err(|refusal| Error::Seat(blueprint.kind(), refusal))?);
            stores.push(store);
            blueprints.push(blueprint);
            body_bytes.push(bytes);
        }
        let (tap, journal) = journal(plan.journal, &blueprints, disk_bell)?;
        let elects: Vec<bool> =
            blueprints.iter().map(|of| matches!(of, Blueprint::Election { .. })).collect();
        let disk = Disk {
            jobs,
            stores,
            journal,
            to_core: disk_to_core,
            bell: disk_bell,
            core_bell,
            io_bell,
        };
        let core = Core {
            seats,
            ends: Ends {
                disk: core_from_disk,
                masters: from_masters,
                io: core_from_io,
                out: core_to_io,
                room: ROOM,
            },
            bell: core_bell,
            io_bell,
            tap,
            lease: Time::default(),
        };
        let disk = disk.spawn().map_err(Error::Thread)?;
        let core = core.spawn().map_err(Error::Thread)?;
        let mut to_core = vec![Rc::new(ToCore::new(io_to_core, core_bell))];
        to_core.extend(to_election.map(|ring| Rc::new(ToCore::new(ring, core_bell))));
        let port = |(seat, (bytes, elects)): (usize, (u64, bool))| {
            let seat = u8::try_from(seat).unwrap_or(u8::MAX);
            let way = if elects { to_core.last() } else { to_core.first() };
            Some(Port::new(seat, Rc::clone(way?), Bodies::new(bytes)))
        };
        let ports = body_bytes.into_iter().zip(elects).enumerate().map(port).collect();
        let io = Io {
            tasks: Tasks::new(),
            to_core,
            of_core: OfCore::new(io_of_core),
            to_disk: Rc::new(to_disk),
            bell: io_bell,
        };
        Ok(Self { io, ports, core, disk })
    }

    /// The way to a seat, for its node. Each is taken once.
    pub(crate) fn port(&mut self, seat: usize) -> Port {
        match self.ports.get_mut(seat).and_then(Option::take) {
            Some(port) => port,
            None => mesita_core::stop(line!(), "a seat whose way was taken already"),
        }
    }

    /// Who runs tasks on this thread.
    pub(crate) fn tasks(&self) -> Tasks {
        self.io.tasks.clone()
    }

    /// The way to the disk thread.
    pub(crate) fn to_disk(&self) -> Rc<ToDisk> {
        Rc::clone(&self.io.to_disk)
    }

    /// Runs `main` to its end, then ends the threads: everything that was to be written is. Nobody
    /// who is connected waits for a disk that hangs.
    pub(crate) fn run<T>(self, nodes: &[Rc<dyn Node>], main: impl Future<Output = T>) -> T {
        let result = self.io.run(nodes, main);
        hang_up();
        let _ = self.core.join();
        self.io.to_disk.end();
        let _ = self.disk.join();
        result
    }
}

/// Ends every connection and listens no more, but leaves alone what this process was given and hands
/// on. Closing would come too late: whatever ends a process waits for its threads, and a disk that
/// hangs holds one for as long as it likes.
fn hang_up() {
    let ours = |number: &i32| {
        let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
        let shown = shown.unwrap_or_default();
        let flags = shown.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() != 0)
    };
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for number in open.filter(ours) {
        // Whatever is no socket says so.
        let _ = shutdown(number, Shutdown::Both);
    }
}

type Journal = (mesita_core::sync::Consumer<'static>, Segments);

/// Both ends of the journal, if there is one.
fn journal(
    plan: Option<(PathBuf, u64)>,
    blueprints: &[Blueprint],
    bell: &'static Bell,
) -> Result<(Option<Tap>, Option<Journal>), Error> {
    let Some((directory, max)) = plan else { return Ok((None, None)) };
    let segments = Segments::open(&directory, max);
    let segments = segments.map_err(|error| Error::Journal(directory, error))?;
    let (to_disk, entries): (Producer<'static>, _) = ring(JOURNAL_RING);
    let image_max = blueprints.iter().map(Blueprint::bytes).sum();
    let tap = Tap::new(to_disk, bell, blueprints.to_vec(), max / SEGMENTS, image_max);
    Ok((Some(tap), Some((entries, segments))))
}
