//! What the masters keep together of what their leader decides: rows of the registry.
//!
//! A row is written when the core's fact of it comes, and whoever is to hear of it hears when a
//! majority has it. One change is on its way at a time; what comes meanwhile goes with the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesita_core::Refusal;
use mesita_core::limits::{DELTA_MAX, EDITS_MAX};
use mesita_core::registry::body::Shape;
use mesita_core::registry::rows::{Admission, EMPTY, ROW_MAX, Request, Row};
use mesita_core::wire::gossip::{Edit, Table};
use mesita_core::wire::operator::MachineId;
use mesita_core::wire::{AgentId, FrameworkId, Scratch, Seq};

use super::redo;

/// Bytes that an edit takes beside what it writes.
const AROUND: usize = 16;

/// What a row is about: there is one for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    Weight(Box<str>),
    Quota(Box<str>),
    /// By its id: epoch and number.
    Agent(u32, u32),
    /// By host name and address.
    Machine(Box<str>, Box<str>),
    /// By its id, removed or not.
    Framework(u32, u32),
    /// By its id.
    Request([u8; 16]),
    /// By the agent's id.
    Host(u32, u32),
}

impl About {
    pub(super) fn of(row: &Row<'_>) -> Self {
        match row {
            Row::Weight { role, .. } => Self::Weight((*role).into()),
            Row::Quota { role, .. } => Self::Quota((*role).into()),
            Row::Agent(Admission { agent, .. }) => Self::agent(*agent),
            Row::Machine { planned, .. } => Self::machine(&planned.machine),
            Row::Removed(framework) => Self::framework(*framework),
            Row::Framework(owned) => Self::framework(owned.framework),
            Row::Request(Request { id, .. }) => Self::Request(*id),
            Row::Host { agent, .. } => Self::host(*agent),
        }
    }

    /// The row of an agent.
    pub(crate) fn agent(agent: AgentId) -> Self {
        Self::Agent(agent.epoch, agent.number)
    }

    /// The row of an agent's host.
    pub(crate) fn host(agent: AgentId) -> Self {
        Self::Host(agent.epoch, agent.number)
    }

    /// The row of a machine.
    pub(crate) fn machine(machine: &MachineId<'_>) -> Self {
        Self::Machine(machine.hostname.into(), machine.ip.into())
    }

    /// The row of a framework, removed or not.
    pub(crate) fn framework(framework: FrameworkId) -> Self {
        Self::Framework(framework.epoch, framework.number)
    }

    const fn table(&self) -> Table {
        match self {
            Self::Weight(_) | Self::Quota(_) => Table::Roles,
            Self::Agent(..) => Table::Agents,
            Self::Machine(..) => Table::Windows,
            Self::Framework(..) => Table::Frameworks,
            Self::Request(_) => Table::Requests,
            Self::Host(..) => Table::Hosts,
        }
    }
}

/// Where a row is, and what it is.
type Kept = (u32, Vec<u8>);
/// Called when what was asked for is durable.
type Then = Box<dyn FnOnce()>;

/// The rows, and what is on its way.
pub(super) struct Rows {
    shape: Shape,
    rows: BTreeMap<About, Kept>,
    used: BTreeSet<(Table, u32)>,
    /// What waits for its turn.
    queue: VecDeque<Waits>,
    /// Writes asked for; then those on their way, and those that a majority has.
    asked: u64,
    flying: Option<Flying>,
    durable: u64,
    waiting: VecDeque<(u64, Then)>,
    /// What is asked for meanwhile belongs together; how many want that, and the group.
    held: u32,
    group: u64,
}

/// A write: a slot, and what is written there.
pub(super) type Write = (Table, u32, Vec<u8>);

/// A write that waits.
#[derive(Clone)]
struct Waits {
    write: Write,
    /// Everything asked for up to this one is durable when it is.
    mark: u64,
    /// All of a group is written, or nothing of it.
    group: u64,
}

impl Waits {
    fn bytes(&self) -> usize {
        self.write.2.len() + AROUND
    }
}

/// A change on its way.
struct Flying {
    writes: Vec<Waits>,
}

impl Rows {
    /// No rows yet, in tables of these sizes.
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            rows: BTreeMap::new(),
            used: BTreeSet::new(),
            queue: VecDeque::new(),
            asked: 0,
            flying: None,
            durable: 0,
            waiting: VecDeque::new(),
            held: 0,
            group: 0,
        }
    }

    /// Changes that wait, and bytes of all rows.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.rows.values().map(|(_, row)| row.len() as u64).sum();
        (self.queue.len() as u64, bytes)
    }

    /// A slot that was found in the registry.
    pub(super) fn found(&mut self, table: Table, slot: u32, bytes: &[u8]) {
        self.used.insert((table, slot));
        if let Some(row) = Row::read(bytes) {
            let mut memory = [0; ROW_MAX];
            let written = row.write(&mut memory).unwrap_or_default();
            self.rows.insert(About::of(&row), (slot, written.to_vec()));
        }
    }

    /// True when there is such a row.
    pub(super) fn has(&self, about: &About) -> bool {
        self.rows.contains_key(about)
    }

    /// The rows as they are.
    pub(super) fn all(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.values().filter_map(|(_, bytes)| Row::read(bytes))
    }

    /// Why a row could not be kept; nothing changes.
    pub(super) fn has_room(&self, row: &Row<'_>) -> Result<(), Refusal> {
        row.write(&mut [0; ROW_MAX]).map_err(|_| Refusal::TooLong)?;
        let known = self.rows.contains_key(&About::of(row));
        let free = known || self.free_slot(row.table()).is_some();
        if free { Ok(()) } else { Err(full(row.table())) }
    }

    /// The same of a whole table that takes the place of what is there.
    pub(super) fn has_room_for<'r>(
        &self,
        table: Table,
        rows: impl Iterator<Item = Row<'r>>,
    ) -> Result<(), Refusal> {
        let mut left = self.shape.slots(table);
        for row in rows {
            row.write(&mut [0; ROW_MAX]).map_err(|_| Refusal::TooLong)?;
            left = left.checked_sub(1).ok_or_else(|| full(table))?;
        }
        Ok(())
    }

    /// Keeps a row from now on, or takes it away where it says nothing.
    pub(super) fn keep(&mut self, row: &Row<'_>) {
        let about = About::of(row);
        if says_nothing(row) {
            return self.forget(&about);
        }
        let mut memory = [0; ROW_MAX];
        // What it said before is not so any more.
        let Ok(bytes) = row.write(&mut memory) else { return self.forget(&about) };
        let known = self.rows.get(&about);
        if known.is_some_and(|(_, old)| old == bytes) {
            return;
        }
        // One that was removed stays so.
        if matches!(row, Row::Framework(_)) && known.is_some_and(|(_, old)| is_removed(old)) {
            return;
        }
        let slot = known.map(|(slot, _)| *slot).or_else(|| self.slot_for(row));
        let Some(slot) = slot else {
            return log::error!("no room in the registry for what was decided: see --size");
        };
        let bytes = bytes.to_vec();
        self.used.insert((row.table(), slot));
        self.ask(row.table(), slot, bytes.clone());
        self.rows.insert(about, (slot, bytes));
    }

    /// Keeps a row no more, if there is one.
    pub(super) fn forget(&mut self, about: &About) {
        if let Some((slot, _)) = self.rows.remove(about) {
            self.used.remove(&(about.table(), slot));
            self.ask(about.table(), slot, EMPTY.to_vec());
        }
    }

    /// A slot for a row. That somebody owns a framework counts more than that the one that was removed
    /// first does not come back.
    fn slot_for(&mut self, row: &Row<'_>) -> Option<u32> {
        if let Some(slot) = self.free_slot(row.table()) {
            return Some(slot);
        }
        if matches!(row, Row::Framework(_)) {
            let removed = self.rows.iter().find(|(_, (_, bytes))| is_removed(bytes));
            let oldest = removed.map(|(about, _)| about.clone())?;
            self.forget(&oldest);
        }
        self.free_slot(row.table())
    }

    /// A slot that nothing is in; something is from now on.
    pub(super) fn take_slot(&mut self, table: Table) -> Option<u32> {
        let slot = self.free_slot(table)?;
        self.used.insert((table, slot));
        Some(slot)
    }

    /// Nothing is in a slot any more, once it is emptied.
    pub(super) fn free_slot_of(&mut self, table: Table, slot: u32) {
        self.used.remove(&(table, slot));
    }

    /// Slots of a table that something is in.
    #[cfg(test)]
    pub(super) fn slots_used(&self, table: Table) -> usize {
        self.used.range((table, 0)..=(table, u32::MAX)).count()
    }

    fn free_slot(&self, table: Table) -> Option<u32> {
        (0..self.shape.slots(table)).find(|slot| !self.used.contains(&(table, *slot)))
    }

    /// Has something written, after everything that was asked for before.
    pub(super) fn ask(&mut self, table: Table, slot: u32, bytes: Vec<u8>) {
        self.asked += 1;
        if self.held == 0 {
            self.group += 1;
        }
        let write = (table, slot, bytes);
        self.queue.push_back(Waits { write, mark: self.asked, group: self.group });
    }

    /// What is asked for from now on belongs together, until it is let go.
    pub(super) fn hold(&mut self) {
        if self.held == 0 {
            self.group += 1;
        }
        self.held += 1;
    }

    /// What was held may be written.
    pub(super) fn let_go(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// A leader ended before all that it had begun to write was written: it is, before all else.
    pub(super) fn redo(&mut self, writes: Vec<Write>) {
        for (table, slot, bytes) in writes {
            self.used.remove(&(table, slot));
            self.rows.retain(|about, (at, _)| (about.table(), *at) != (table, slot));
            if bytes.first().is_some_and(|form| *form != 0) {
                self.found(table, slot, &bytes);
            }
            self.ask(table, slot, bytes);
        }
        self.ask(Table::Redo, 0, EMPTY.to_vec());
    }

    /// Something that was asked for is not durable yet.
    pub(super) const fn is_behind(&self) -> bool {
        self.durable < self.asked
    }

    /// Calls `then` when everything asked for so far is durable: at once, if it is.
    pub(super) fn when_durable(&mut self, then: Then) -> Option<Then> {
        if !self.is_behind() {
            return Some(then);
        }
        self.waiting.push_back((self.asked, then));
        None
    }

    /// The next change, when none is on its way: as many groups of what waits as it takes.
    pub(super) fn next<R>(&mut self, propose: impl FnOnce(Seq<'_, Edit<'_>>) -> R) -> Option<R> {
        if self.flying.is_some() || self.held > 0 || self.queue.is_empty() {
            return None;
        }
        let mut count = self.fitting();
        if count == 0 {
            self.write_redo();
            count = self.fitting();
        }
        let some: Vec<Waits> = self.queue.drain(..count).collect();
        let edits = some.iter().map(|Waits { write: (table, slot, bytes), .. }| Edit {
            table: *table,
            slot: *slot,
            at: 0,
            bytes,
        });
        let mut memory = [0; DELTA_MAX];
        let Ok(list) = Scratch::new(&mut memory).seq::<Edit<'_>>(edits) else {
            mesita_core::stop(line!(), "a change that was measured does not fit");
        };
        let proposed = propose(list);
        self.flying = Some(Flying { writes: some });
        Some(proposed)
    }

    /// How many of the writes that wait go at once, groups whole.
    fn fitting(&self) -> usize {
        let (mut bytes, mut fit) = (AROUND, 0);
        for (at, waits) in self.queue.iter().take(EDITS_MAX).enumerate() {
            bytes += waits.bytes();
            if bytes > DELTA_MAX {
                break;
            }
            let whole = self.queue.get(at + 1).is_none_or(|next| next.group != waits.group);
            fit = if whole { at + 1 } else { fit };
        }
        fit
    }

    /// The first group does not go at once: it is written down first, where the next leader finds
    /// it, and is as good as done when its first cell is there.
    fn write_redo(&mut self) {
        let Some(first) = self.queue.front().cloned() else { return };
        let count = self.queue.iter().take_while(|waits| waits.group == first.group).count();
        let group: Vec<Waits> = self.queue.drain(..count).collect();
        let mark = group.last().map_or(first.mark, |last| last.mark);
        let before = first.mark.saturating_sub(1);
        let cells = redo::cells(group.iter().map(|waits| &waits.write));
        let mut all: Vec<(Write, u64)> = Vec::new();
        if cells.len() <= self.shape.slots(Table::Redo) as usize {
            let cells = (0u32..).zip(cells).collect::<Vec<_>>().into_iter().rev();
            all.extend(cells.map(|(slot, cell)| {
                let mark = if slot == 0 { mark } else { before };
                ((Table::Redo, slot, cell), mark)
            }));
        } else {
            log::error!("a change of {count} rows is not written at once: see --size");
        }
        let written_down = !all.is_empty();
        all.extend(group.into_iter().map(|waits| (waits.write, waits.mark)));
        if written_down {
            all.push(((Table::Redo, 0, EMPTY.to_vec()), mark));
        }
        for (write, mark) in all.into_iter().rev() {
            self.group += 1;
            self.queue.push_front(Waits { write, mark, group: self.group });
        }
    }

    /// The change that was on its way was not taken: it waits again, before all others.
    pub(super) fn put_back(&mut self) {
        let writes = self.flying.take().map(|flying| flying.writes).unwrap_or_default();
        writes.into_iter().rev().for_each(|write| self.queue.push_front(write));
    }

    /// The change that was on its way is durable. What waited for it is to be called.
    pub(super) fn committed(&mut self) -> Vec<Then> {
        let writes = self.flying.take().map(|flying| flying.writes).unwrap_or_default();
        self.durable = writes.iter().map(|waits| waits.mark).fold(self.durable, u64::max);
        let ready = self.waiting.iter().take_while(|(mark, _)| *mark <= self.durable).count();
        self.waiting.drain(..ready).map(|(_, then)| then).collect()
    }

    /// Rows kept, and writes that no majority has yet.
    pub(super) fn gauges(&self) -> [(&'static str, u64); 2] {
        let waits = self.asked - self.durable;
        [("set_registry_rows", self.rows.len() as u64), ("set_registry_waiting", waits)]
    }
}

/// What is said when a table has no slot left.
const fn full(table: Table) -> Refusal {
    match table {
        Table::Agents => Refusal::AgentsFull,
        Table::Windows => Refusal::MaintenanceFull,
        Table::Frameworks => Refusal::FrameworksFull,
        Table::Requests => Refusal::RequestsFull,
        Table::Meta
        | Table::Redo
        | Table::Hosts
        | Table::Roles
        | Table::Principals
        | Table::Rules
        | Table::Tokens
        | Table::Revocations
        | Table::Store => Refusal::QuotasFull,
    }
}

/// A row that says what would be so without it.
fn says_nothing(row: &Row<'_>) -> bool {
    match row {
        Row::Weight { weight, .. } => *weight == 1_000,
        Row::Quota { guarantees, limits, .. } => guarantees.is_empty() && limits.is_empty(),
        Row::Host { hostname, .. } => hostname.is_empty(),
        Row::Agent(_)
        | Row::Machine { .. }
        | Row::Removed(_)
        | Row::Framework(_)
        | Row::Request(_) => false,
    }
}

fn is_removed(bytes: &[u8]) -> bool {
    matches!(Row::read(bytes), Some(Row::Removed(_)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn weight(role: &str, weight: u32) -> Row<'_> {
        Row::Weight { role, weight }
    }

    fn rows() -> Rows {
        Rows::new(Shape::new(4, 2, 3))
    }

    #[test]
    fn whoever_waits_hears_when_everything_before_is_durable() {
        let mut rows = rows();
        let heard = Rc::new(Cell::new(0));
        let then = |heard: &Rc<Cell<u32>>| -> Then {
            let heard = Rc::clone(heard);
            Box::new(move || heard.set(heard.get() + 1))
        };
        assert!(rows.when_durable(then(&heard)).is_some(), "nothing is on its way");
        rows.keep(&weight("a", 2_000));
        assert!(rows.when_durable(then(&heard)).is_none());
        assert_eq!(rows.next(|edits| edits.len()), Some(1));
        rows.keep(&weight("b", 3_000));
        rows.keep(&weight("c", 3_000));
        assert!(rows.when_durable(then(&heard)).is_none());
        assert_eq!(rows.next(|edits| edits.len()), None, "one at a time");
        rows.committed().into_iter().for_each(|then| then());
        assert_eq!(heard.get(), 1);
        assert_eq!(rows.next(|edits| edits.len()), Some(2));
        rows.committed().into_iter().for_each(|then| then());
        assert_eq!((heard.get(), rows.gauges()[1].1), (2, 0));
    }

    #[test]
    fn a_full_table_refuses_and_a_row_that_says_nothing_makes_room() {
        let mut rows = rows();
        ["a", "b", "c"].iter().for_each(|role| rows.keep(&weight(role, 2_000)));
        assert_eq!(rows.has_room(&weight("d", 2_000)), Err(Refusal::QuotasFull));
        assert_eq!(rows.has_room(&weight("a", 3_000)), Ok(()));
        rows.keep(&weight("b", 1_000));
        assert_eq!(rows.has_room(&weight("d", 2_000)), Ok(()));
        rows.keep(&weight("d", 2_000));
        let told: Vec<u32> =
            rows.next(|edits| edits.iter().map(|edit| edit.slot).collect()).unwrap();
        assert_eq!(told, [0, 1, 2, 1, 1]);
        let long = "r".repeat(255);
        let mut memory = vec![0; 4096];
        let amount = mesita_core::resources::Amount::from_milli(1);
        let many = [mesita_core::wire::call::Quantity { name: &long, amount }; 4];
        let limits =
            Scratch::new(&mut memory).seq::<mesita_core::wire::call::Quantity<'_>>(many).unwrap();
        let row = Row::Quota { role: "a", guarantees: Seq::EMPTY, limits };
        assert_eq!(rows.has_room(&row), Err(Refusal::TooLong));
    }

    #[test]
    fn what_was_found_is_kept_where_it_is() {
        let mut rows = rows();
        let mut memory = [0; ROW_MAX];
        let bytes = weight("a", 2_000).write(&mut memory).unwrap().to_vec();
        rows.found(Table::Roles, 2, &bytes);
        assert_eq!(rows.all().collect::<Vec<_>>(), [weight("a", 2_000)]);
        rows.keep(&weight("a", 2_000));
        assert_eq!(rows.next(|edits| edits.len()), None, "the same again is no change");
        rows.keep(&weight("a", 4_000));
        assert_eq!(rows.next(|edits| edits.iter().next().unwrap().slot), Some(2));
    }

    /// All that is written, change by change.
    fn changes(rows: &mut Rows) -> Vec<Vec<Write>> {
        let mut all = Vec::new();
        while let Some(some) = rows.next(|edits| {
            edits.iter().map(|edit| (edit.table, edit.slot, edit.bytes.to_vec())).collect()
        }) {
            rows.committed();
            all.push(some);
        }
        all
    }

    #[test]
    fn what_belongs_together_goes_together_and_after_what_was_before() {
        let mut rows = Rows::new(Shape::new(64, 4, 64));
        let long = "r".repeat(200);
        let role = |number: u32| format!("{long}{number}");
        rows.keep(&weight(&role(0), 2_000));
        rows.hold();
        (1..4).for_each(|number| rows.keep(&weight(&role(number), 2_000)));
        assert!(rows.next(|_| ()).is_none(), "not before all of it is there");
        rows.let_go();
        rows.keep(&weight(&role(4), 2_000));
        let counts: Vec<usize> = changes(&mut rows).iter().map(Vec::len).collect();
        assert_eq!(counts, [4, 1], "four rows fit, and a group is not parted");
    }

    #[test]
    fn wherever_a_leader_ends_all_that_belongs_together_is_there_or_nothing() {
        let shape = Shape::new(64, 4, 64);
        let mut rows = Rows::new(shape);
        rows.keep(&weight("before", 2_000));
        let heard = Rc::new(Cell::new(0));
        rows.hold();
        let roles: Vec<String> = (0..40).map(|number| format!("role-{number:040}")).collect();
        roles.iter().for_each(|role| rows.keep(&weight(role, 2_000)));
        rows.let_go();
        let told = Rc::clone(&heard);
        assert!(rows.when_durable(Box::new(move || told.set(1))).is_none());
        let mut all = Vec::new();
        let mut promised = Vec::new();
        while let Some(some) = rows.next(|edits| {
            edits
                .iter()
                .map(|edit| (edit.table, edit.slot, edit.bytes.to_vec()))
                .collect::<Vec<_>>()
        }) {
            rows.committed().into_iter().for_each(|then| then());
            promised.push(heard.get() == 1);
            all.push(some);
        }
        assert!(all.len() > 4, "{} changes", all.len());
        let mut seen = Vec::new();
        for ends in 0..=all.len() {
            let mut slots = BTreeMap::new();
            for (table, slot, bytes) in all[..ends].iter().flatten() {
                slots.insert((*table, *slot), bytes.clone());
            }
            let mut next = Rows::new(shape);
            let (mut cells, mut filled) = (BTreeMap::new(), slots);
            filled.retain(|_, bytes| bytes[0] != 0);
            for ((table, slot), bytes) in &filled {
                if *table == Table::Redo {
                    cells.insert(*slot, bytes.clone());
                } else {
                    next.found(*table, *slot, bytes);
                }
            }
            let redone = redo::found(&cells);
            redone.into_iter().for_each(|writes| next.redo(writes));
            let has = next.all().filter(|row| *row != weight("before", 2_000)).count();
            assert!(has == 0 || has == 40, "{has} of 40 after {ends} changes");
            // Whoever was told that it is durable finds it.
            assert!(has == 40 || ends == 0 || !promised[ends - 1], "after {ends} changes");
            seen.push(has);
            // Nothing is left to be done again.
            let rest = changes(&mut next);
            let last = rest.iter().flatten().rfind(|(table, ..)| *table == Table::Redo);
            assert!(last.is_none_or(|(_, _, bytes)| bytes[0] == 0));
        }
        assert!(seen.contains(&0) && seen.contains(&40), "{seen:?}");
    }
}
