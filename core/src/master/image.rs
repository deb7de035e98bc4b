//! A master's whole state as bytes, and again: rows as they are, indexes built anew.

use serde::{Deserialize, Serialize};

use super::Master;
use super::rows::{BY_ID, BY_KEY};
use crate::image::{BadImage, Image, Reader, Writer};
use crate::index::Index;
use crate::names::Name;
use crate::table::Id;

impl Image for Master<'_> {
    fn export(&self, to: &mut Writer<'_>) {
        to.put(&(self.cluster, self.fence, self.counters, self.offers_by_age));
        self.names.export(to);
        self.pool.export(to);
        self.allocator.export(to);
        self.agents.export(to);
        self.agent_timers.export(to);
        self.frameworks.export(to);
        self.framework_timers.export(to);
        self.roles.export(to);
        self.hints.export(to);
        self.tasks.export(to);
        self.executors.export(to);
        self.offers.export(to);
        self.operations.export(to);
        self.machines.export(to);
        self.inverse.export(to);
        self.inverse_timers.export(to);
        export_used(self.conns, |row| row.generation != 0, to);
        export_used(self.callers, |row| !row.name.is_empty(), to);
        export_used(self.removed, |framework| !framework.is_none(), to);
        export_used(self.owned, |owner| !owner.framework.is_none(), to);
    }

    fn import(&mut self, from: &mut Reader<'_>) -> Result<(), BadImage> {
        (self.cluster, self.fence, self.counters, self.offers_by_age) = from.take()?;
        self.names.import(from)?;
        self.pool.import(from)?;
        self.allocator.import(from)?;
        self.agents.import(from)?;
        self.agent_timers.import(from)?;
        self.frameworks.import(from)?;
        self.framework_timers.import(from)?;
        self.roles.import(from)?;
        self.hints.import(from)?;
        self.tasks.import(from)?;
        self.executors.import(from)?;
        self.offers.import(from)?;
        self.operations.import(from)?;
        self.machines.import(from)?;
        self.inverse.import(from)?;
        self.inverse_timers.import(from)?;
        import_used(self.conns, from)?;
        import_used(self.callers, from)?;
        import_used(self.removed, from)?;
        import_used(self.owned, from)?;
        self.index_again();
        Ok(())
    }
}

/// Writes the rows of a plain slice that are in use, with their places.
fn export_used<T: Copy + Serialize>(rows: &[T], used: impl Fn(&T) -> bool, to: &mut Writer<'_>) {
    let in_use = rows.iter().zip(0u32..).filter(|(row, _)| used(row));
    to.put(&u32::try_from(in_use.clone().count()).unwrap_or(u32::MAX));
    in_use.for_each(|row| to.put(&row));
}

fn import_used<T: for<'de> Deserialize<'de>>(
    rows: &mut [T],
    from: &mut Reader<'_>,
) -> Result<(), BadImage> {
    let in_use: u32 = from.take()?;
    for _ in 0..in_use {
        let (row, place): (T, u32) = from.take()?;
        *rows.get_mut(place as usize).ok_or(BadImage::TooLarge)? = row;
    }
    Ok(())
}

impl Master<'_> {
    /// Builds every index anew, after an import.
    fn index_again(&mut self) {
        let [by_id, by_key] = &mut self.agents_by;
        by_id.clear();
        by_key.clear();
        self.frameworks_by_id.clear();
        self.tasks_by_name.clear();
        self.executors_by_name.clear();
        for slot in 0..self.agents.high_water() {
            if let Some(id) = self.agents.id_at(slot) {
                self.index_agent(id);
            }
        }
        for slot in 0..self.frameworks.high_water() {
            if let Some(id) = self.frameworks.id_at(slot) {
                self.index_framework(id);
            }
        }
        for slot in 0..self.tasks.high_water() {
            if let Some((id, row)) = self.tasks.at(slot) {
                let hash = self.task_hash(row.framework, row.name);
                self.tasks_by_name.insert(&mut self.tasks, 0, hash, id);
            }
        }
        for slot in 0..self.executors.high_water() {
            if let Some((id, row)) = self.executors.at(slot) {
                let hash = self.executor_hash(row.framework, row.agent, row.name);
                self.executors_by_name.insert(&mut self.executors, 0, hash, id);
            }
        }
    }

    pub(super) fn index_agent(&mut self, id: Id) {
        let Some(row) = self.agents.get(id) else { return };
        let [by_id, by_key] = &mut self.agents_by;
        let hash = by_id.hash(row.id.epoch.into(), row.id.number.into());
        by_id.insert(&mut self.agents, BY_ID, hash, id);
        let hash = key_hash(by_key, &row.key);
        by_key.insert(&mut self.agents, BY_KEY, hash, id);
    }

    pub(super) fn index_framework(&mut self, id: Id) {
        let Some(row) = self.frameworks.get(id) else { return };
        let hash = self.frameworks_by_id.hash(row.id.epoch.into(), row.id.number.into());
        self.frameworks_by_id.insert(&mut self.frameworks, 0, hash, id);
    }

    pub(super) fn task_hash(&self, framework: u32, name: Name) -> u64 {
        self.tasks_by_name.hash(framework.into(), name.place().into())
    }

    pub(super) fn executor_hash(&self, framework: u32, agent: u32, name: Name) -> u64 {
        let pair = (u64::from(framework) << 32) | u64::from(agent);
        self.executors_by_name.hash(pair, name.place().into())
    }
}

/// The hash of a key, from its first half: keys are random.
pub(super) fn key_hash(index: &Index<'_>, key: &[u8; 32]) -> u64 {
    let word = |at: usize| {
        let bytes = key.get(at..at.saturating_add(8)).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    index.hash(word(0), word(8))
}
