//! What a core thread steps: a master, agents, a framework's driver, each in a seat of its own.

use mesita_core::Refusal;
use mesita_core::agent::{self, Agent};
use mesita_core::capacity::Capacity;
use mesita_core::capacity::Lender;
use mesita_core::drive::{BUFFER, Drive, Front, REFUSALS, Refusals, Sink};
use mesita_core::election::{self, Election};
use mesita_core::image::{BadImage, Reader, Writer};
use mesita_core::master::explain::Question;
use mesita_core::master::{self, Master};
use mesita_core::registry::body::{Body, Shape};
use mesita_core::registry::rows::ROW_MAX;
use mesita_core::scheduler::{self, Driver};
use mesita_core::time::Time;
use mesita_core::wire::gossip::Table;
use serde::{Deserialize, Serialize};

use crate::memory::Pages;

/// What a seat is made from, and a journal begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Blueprint {
    /// A master.
    Master { capacity: Capacity, config: master::Config },
    /// An agent.
    Agent { capacity: Capacity, config: agent::Config },
    /// A framework's driver.
    Driver { capacity: Capacity, config: scheduler::Config },
    /// A master's part in the election of one of its set.
    Election { shape: Shape, config: election::Config },
}

impl Blueprint {
    /// Builds it, with memory of its own. A [`Refusal`] names the capacity that is too small.
    pub(crate) fn build(&self) -> Result<Box<dyn Seat>, Refusal> {
        let buffer = Box::leak(vec![0; BUFFER].into_boxed_slice());
        Ok(match *self {
            Self::Master { capacity, config } => {
                let storage = master::Storage::lend(&capacity, &mut Pages);
                Box::new(Drive::new(Master::new(storage, config)?, buffer))
            }
            Self::Agent { capacity, config } => {
                let storage = agent::Storage::lend(&capacity, &mut Pages);
                Box::new(Drive::new(Agent::new(storage, config)?, buffer))
            }
            Self::Driver { capacity, config } => {
                let storage = scheduler::Storage::lend(&capacity, &mut Pages);
                Box::new(Drive::new(Driver::new(storage, config), buffer))
            }
            Self::Election { shape, config } => {
                let [body, incoming] = bodies(shape);
                Box::new(Drive::new(Election::new(shape, body, incoming, config), buffer))
            }
        })
    }

    /// Bytes of its tables, which its image does not exceed.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Master { capacity, .. }
            | Self::Agent { capacity, .. }
            | Self::Driver { capacity, .. } => {
                usize::try_from(capacity.master_bytes()).unwrap_or(usize::MAX)
            }
            // Two bodies, and what is known of the others.
            Self::Election { shape, .. } => shape.bytes() * 2 + 16 * 1024,
        }
    }

    /// What it is, for people and in the names of gauges.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Master { .. } => "master",
            Self::Agent { .. } => "agent",
            Self::Driver { .. } => "scheduler",
            Self::Election { .. } => "election",
        }
    }
}

/// Memory for two values of a registry.
pub(crate) fn bodies(shape: Shape) -> [&'static mut [u8]; 2] {
    let bytes = u32::try_from(shape.bytes()).unwrap_or(u32::MAX);
    [Pages.lend(bytes), Pages.lend(bytes)]
}

/// A front and its run, whichever it is.
pub(crate) trait Seat: Send {
    /// Applies one input.
    fn step(&mut self, now: Time, input: &[u8], sink: &mut dyn Sink) -> Result<(), Refusal>;
    /// When its tick is due.
    fn next_deadline(&self) -> Time;
    /// The bytes of its tick, without a stamp.
    fn tick(&self) -> &'static [u8];
    /// Its inputs come behind the wall clock.
    fn is_stamped(&self) -> bool;
    /// Its ticks allocate resources.
    fn allocates(&self) -> bool;
    /// Until when this process leads its set, if this is the seat that knows.
    fn lease(&self, now: Time) -> Option<Time>;
    /// Inputs so far.
    fn steps(&self) -> u64;
    /// The digest of what left it.
    fn digest(&self) -> u64;
    /// The digest of its whole state.
    fn state_digest(&self) -> u64;
    /// Refusals by kind.
    fn refusals(&self) -> &Refusals;
    /// Names and values of what is in use.
    fn gauges(&self, tell: &mut dyn FnMut(&'static str, u64));
    /// Answers a question about its decisions: see [`Gauged::ask`].
    fn ask(&mut self, now: Time, question: &[u8], answer: &mut Answer);
    /// Writes its state.
    fn export(&self, to: &mut Writer<'_>);
    /// Reads a state.
    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage>;
    /// Goes on from a run of so many inputs with this digest.
    fn resume(&mut self, steps: u64, digest: u64);
}

impl<F: Front + Gauged + Send> Seat for Drive<'static, F> {
    fn step(&mut self, now: Time, input: &[u8], sink: &mut dyn Sink) -> Result<(), Refusal> {
        Drive::step(self, now, input, sink)
    }

    fn next_deadline(&self) -> Time {
        Drive::next_deadline(self)
    }

    fn tick(&self) -> &'static [u8] {
        F::tick()
    }

    fn is_stamped(&self) -> bool {
        F::STAMPED
    }

    fn allocates(&self) -> bool {
        F::ALLOCATES
    }

    fn lease(&self, now: Time) -> Option<Time> {
        self.front().lease(now)
    }

    fn steps(&self) -> u64 {
        Drive::steps(self)
    }

    fn digest(&self) -> u64 {
        Drive::digest(self)
    }

    fn state_digest(&self) -> u64 {
        Drive::state_digest(self)
    }

    fn refusals(&self) -> &Refusals {
        Drive::refusals(self)
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.front().tell(tell);
    }

    fn ask(&mut self, now: Time, question: &[u8], answer: &mut Answer) {
        self.front_mut().ask(now, question, answer);
    }

    fn export(&self, to: &mut Writer<'_>) {
        self.front().export(to);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        self.front_mut().import(from)
    }

    fn resume(&mut self, steps: u64, digest: u64) {
        Drive::resume(self, steps, digest);
    }
}

/// A front whose use of its tables can be told.
pub(crate) trait Gauged {
    /// Its ticks allocate resources.
    const ALLOCATES: bool = false;

    /// Tells each gauge by its name.
    fn tell(&self, tell: &mut dyn FnMut(&'static str, u64));

    /// Answers a question: first `Result<Option<u64>, Refusal>`, the number of the row with which
    /// the answer goes on, then as many rows as there is room for. Nobody asks what has no answers.
    fn ask(&mut self, _now: Time, _question: &[u8], _answer: &mut Answer) {}

    /// Until when this process leads its set; none for every other front than the election.
    fn lease(&self, _now: Time) -> Option<Time> {
        None
    }
}

/// A part of an answer.
pub(crate) type Answer = heapless::Vec<u8, ANSWER_MAX>;
/// Bytes of a part of an answer.
pub(crate) const ANSWER_MAX: usize = 16 * 1024;

impl Gauged for Master<'_> {
    const ALLOCATES: bool = true;

    fn tell(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let gauges = self.gauges();
        for (name, value) in [
            ("agents", gauges.agents),
            ("frameworks", gauges.frameworks),
            ("tasks", gauges.tasks),
            ("executors", gauges.executors),
            ("offers", gauges.offers),
            ("operations", gauges.operations),
            ("names", gauges.names),
            ("cells", gauges.cells),
            ("idents", gauges.idents),
            ("pieces", gauges.pieces),
            ("spans", gauges.spans),
            ("filters", gauges.filters),
            ("dirty_agents", gauges.dirty),
        ] {
            tell(name, value.into());
        }
        tell("filters_evicted", gauges.filters_evicted);
        tell("body_bytes", gauges.body_bytes);
        tell("agents_recovered", gauges.recovered.into());
        tell("agents_awaited", gauges.awaited.into());
        tell("agents_kept_back", gauges.kept_back.into());
        tell("inverse_offers_unasked", gauges.unasked);
        tell("offers_per_principal_max", gauges.per_caller_max.into());
        tell("offers_per_principal_refused_total", gauges.capped);
    }

    fn ask(&mut self, now: Time, question: &[u8], answer: &mut Answer) {
        let mut rows = Answer::new();
        let result = match postcard::from_bytes::<(u64, Question<'_>)>(question) {
            Ok((from, question)) => self.explain(now, &question, from, &mut |row| {
                let mut row_bytes = [0; 4096];
                let row = postcard::to_slice(row, &mut row_bytes);
                // The largest row has three names of 255 bytes and two of 65: it fits.
                row.is_ok_and(|row| {
                    // The head of the answer takes at most 12 bytes.
                    let room = rows.capacity().saturating_sub(rows.len() + 12);
                    room >= row.len() && rows.extend_from_slice(row).is_ok()
                })
            }),
            Err(_) => Err(Refusal::Malformed),
        };
        put_answer(&result, &rows, answer);
    }
}

impl Gauged for Agent<'_> {
    fn tell(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let gauges = self.gauges();
        for (name, value) in [
            ("frameworks", gauges.frameworks),
            ("executors", gauges.executors),
            ("tasks", gauges.tasks),
            ("updates", gauges.updates),
            ("operations", gauges.operations),
            ("names", gauges.names),
            ("cells", gauges.cells),
            ("idents", gauges.idents),
            ("pieces", gauges.pieces),
            ("spans", gauges.spans),
            ("disk_full", gauges.disk_full),
        ] {
            tell(name, value.into());
        }
        tell("body_bytes", gauges.body_bytes);
    }
}

impl Gauged for Driver<'_> {
    fn tell(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let (offers, tasks) = self.gauges();
        tell("offers", offers.into());
        tell("tasks", tasks.into());
    }
}

impl Gauged for Election<'_> {
    fn tell(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("role", self.role() as u64);
        tell("promised_epoch", self.facts().promised.into());
        tell("committed_version", self.commit().number);
    }

    fn lease(&self, now: Time) -> Option<Time> {
        Some(self.lease_until(now))
    }

    /// The question: the number of the first slot, counted over all tables but the first. Rows: a
    /// table, a slot, its bytes; slots that were never written are left out.
    fn ask(&mut self, _now: Time, question: &[u8], answer: &mut Answer) {
        let mut rows = Answer::new();
        let result = match postcard::from_bytes::<(u64, ())>(question) {
            Ok((from, ())) => Ok(slots(self.body(), from, &mut rows)),
            Err(_) => Err(Refusal::Malformed),
        };
        put_answer(&result, &rows, answer);
    }
}

/// Writes slots from a number on, as many as there is room for; the number it goes on with.
fn slots(body: &Body<'_>, from: u64, rows: &mut Answer) -> Option<u64> {
    let mut number = 0;
    for table in TABLES_OF_ROWS {
        for slot in 0..body.shape().slots(table) {
            number += 1;
            let bytes = body.slot(table, slot).unwrap_or_default();
            if number <= from || bytes.first().is_none_or(|form| *form == 0) {
                continue;
            }
            let mut row = [0; ROW_MAX + 16];
            let row = postcard::to_slice(&(table, slot, bytes), &mut row);
            let Ok(row) = row.map(|row| &*row) else { continue };
            if rows.capacity() - rows.len() < row.len() + 12 {
                return Some(number - 1);
            }
            // There is room for it.
            let _ = rows.extend_from_slice(row);
        }
    }
    None
}

/// The tables of the registry whose slots are rows.
pub(crate) const TABLES_OF_ROWS: [Table; 12] = [
    Table::Agents,
    Table::Hosts,
    Table::Frameworks,
    Table::Roles,
    Table::Windows,
    Table::Principals,
    Table::Rules,
    Table::Tokens,
    Table::Revocations,
    Table::Store,
    Table::Requests,
    Table::Redo,
];

/// The head of an answer, then its rows, which leave room for it.
fn put_answer(result: &Result<Option<u64>, Refusal>, rows: &Answer, answer: &mut Answer) {
    let mut head = [0; 12];
    if let Ok(head) = postcard::to_slice(result, &mut head) {
        // There is room for both.
        let _ = answer.extend_from_slice(head);
        let _ = answer.extend_from_slice(rows);
    }
}

/// The kinds of refusals that occurred, with how often.
pub(crate) fn refused(refusals: &Refusals) -> impl Iterator<Item = (Refusal, u64)> + '_ {
    (0u8..).zip(refusals.iter().take(REFUSALS)).filter_map(|(number, &count)| {
        let refusal = postcard::from_bytes(&[number]).ok()?;
        (count > 0).then_some((refusal, count))
    })
}
