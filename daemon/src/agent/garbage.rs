//! Sandboxes of containers that ended: kept for a while, and removed.

use std::path::Path;

use mesita_core::wire::ContainerId;
use mesita_isolation::cgroups::At;
use mesita_isolation::sandbox;

use super::containers::{Containers, count};
use super::{AgentNode, Life};
use crate::{alarm, clock};

/// Sandboxes of containers that ended, kept at the most; the oldest go first.
const SANDBOXES_MAX: usize = 10_000;

impl AgentNode {
    /// Removes sandboxes when their time is over. Those of earlier runs count from when they were
    /// written to last.
    pub(super) fn collect_garbage(&self) {
        let Some(me) = self.me.upgrade() else { return };
        if self.options.life == Life::OfThisProcess {
            return;
        }
        self.tasks.go(async move {
            let (work_dir, delay) = (me.containers.work_dir.clone(), me.options.gc_delay_us);
            let old = me.containers.by_hand(move || leftovers(&work_dir, delay)).await;
            for (due, id) in old.into_iter().filter(|(_, id)| me.containers.get(*id).is_none()) {
                me.containers.discard(due, id.into());
            }
            loop {
                let listener = me.containers.garbage_changed.listen();
                let first = me.containers.garbage.borrow().first().copied();
                let Some((due, at)) = first else {
                    listener.await;
                    continue;
                };
                let full = me.containers.garbage.borrow().len() > SANDBOXES_MAX;
                if due > clock::now().0 && !full {
                    let due = alarm::at(mesita_core::time::Time(due));
                    futures_lite::future::or(due, listener).await;
                    continue;
                }
                me.containers.garbage.borrow_mut().remove(&(due, at));
                let work_dir = me.containers.work_dir.clone();
                let removed = move || sandbox::remove(&work_dir, at);
                match me.containers.by_hand(removed).await {
                    Ok(()) => count(&me.containers.removed),
                    Err(error) => {
                        log::warn!("sandbox {}: {error}", at.id);
                        count(&me.containers.stuck);
                    }
                }
            }
        });
    }
}

impl Containers {
    pub(super) fn discard(&self, due: u64, at: At) {
        self.garbage.borrow_mut().insert((due, at));
        self.garbage_changed.notify(usize::MAX);
    }
}

/// Sandboxes that are there, and when each is due.
fn leftovers(work_dir: &Path, delay_us: u64) -> Vec<(u64, ContainerId)> {
    let (now, wall_us) = (clock::now().0, clock::wall_us());
    let entries = std::fs::read_dir(work_dir.join("sandboxes")).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let id = ContainerId::parse(entry.file_name().to_str()?)?;
        let written = entry.metadata().ok()?.modified().ok()?;
        let written = written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let written_us = u64::try_from(written.as_micros()).unwrap_or(0);
        let age = wall_us.saturating_sub(written_us);
        Some((now.saturating_add(delay_us.saturating_sub(age)), id))
    });
    found.collect()
}
