//! Sandboxes of containers that ended: kept for a while, and removed; the fuller the disk, the
//! sooner.

use std::path::Path;

use mesita_core::time::Time;
use mesita_core::wire::ContainerId;
use mesita_isolation::cgroups::At;
use mesita_isolation::sandbox;

use super::containers::{Containers, count};
use super::{AgentNode, Life};
use crate::{alarm, clock};

/// Sandboxes of containers that ended, kept at the most; the oldest go first.
const SANDBOXES_MAX: usize = 10_000;

/// How long sandboxes are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// While the disk is empty, in µs.
    pub(crate) delay_us: u64,
    /// The part of the disk that is to stay free, in thousandths.
    pub(crate) headroom_milli: u32,
    /// From one look at the disk to the next, in µs.
    pub(crate) watch_us: u64,
}

impl Keeping {
    /// By how much sooner a sandbox goes with so much of the disk in use, in µs. Mesos:
    /// `Slave::checkDiskUsage`: what is left of the delay is the part of the disk that is free,
    /// without the headroom.
    fn sooner(&self, used_milli: u32) -> u64 {
        let part = used_milli.saturating_add(self.headroom_milli).min(1_000);
        let us = u128::from(self.delay_us) * u128::from(part) / 1_000;
        u64::try_from(us).unwrap_or(self.delay_us)
    }
}

/// Thousandths of a file system that nobody but root could write to any more; none = it cannot be
/// told.
fn used_milli(path: &Path) -> Option<u32> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let used = disk.f_blocks.checked_sub(disk.f_bfree)?;
    let whole = used.checked_add(disk.f_bavail).filter(|whole| *whole > 0)?;
    u32::try_from(u128::from(used) * 1_000 / u128::from(whole)).ok()
}

impl AgentNode {
    /// Removes sandboxes when their time is over. Those of earlier runs count from when they were
    /// written to last.
    pub(super) fn collect_garbage(&self) {
        let Some(me) = self.me.upgrade() else { return };
        self.containers.age_max_us.set(self.options.keeping.delay_us);
        if self.options.life == Life::OfThisProcess {
            return;
        }
        self.tasks.go(async move {
            let keeping = me.options.keeping;
            let (work_dir, delay) = (me.containers.work_dir.clone(), keeping.delay_us);
            let old = me.containers.by_hand(move || leftovers(&work_dir, delay)).await;
            for (due, id) in old.into_iter().filter(|(_, id)| me.containers.get(*id).is_none()) {
                me.containers.discard(due, id.into());
            }
            let mut sooner = me.sooner().await;
            let mut looked = clock::now();
            let mut was_full = false;
            loop {
                let listener = me.containers.garbage_changed.listen();
                let first = me.containers.garbage.borrow().first().copied();
                let Some((due, at)) = first else {
                    listener.await;
                    continue;
                };
                let watch = looked.after(keeping.watch_us);
                let full = std::mem::replace(&mut was_full, me.disk_full.get());
                let filled = !full && was_full;
                if filled || clock::now() >= watch {
                    sooner = me.sooner().await;
                    looked = clock::now();
                    continue;
                }
                let full = me.containers.garbage.borrow().len() > SANDBOXES_MAX;
                let early = Time(due.saturating_sub(sooner));
                if early > clock::now() && !full {
                    futures_lite::future::or(alarm::at(early.min(watch)), listener).await;
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

    /// By how much sooner sandboxes go with the disk as it is now, in µs.
    async fn sooner(&self) -> u64 {
        let (keeping, work_dir) = (self.options.keeping, self.containers.work_dir.clone());
        let used = self.containers.by_hand(move || used_milli(&work_dir)).await;
        let sooner = used.map_or(0, |used| keeping.sooner(used));
        self.containers.age_max_us.set(keeping.delay_us.saturating_sub(sooner));
        sooner
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_disk_the_sooner_a_sandbox_goes() {
        let keeping = Keeping { delay_us: 1_000_000, headroom_milli: 100, watch_us: 0 };
        for (used, sooner) in [(0, 100_000), (500, 600_000), (900, 1_000_000), (1_000, 1_000_000)] {
            assert_eq!(keeping.sooner(used), sooner, "{used}");
        }
        let all = used_milli(Path::new("/proc")).is_none_or(|used| used <= 1_000);
        assert!(all && used_milli(Path::new("/nowhere")).is_none());
    }
}
