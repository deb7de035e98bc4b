//! `disk/du`: what a task's files take is counted from time to time, and with
//! `--enforce-container-disk-quota` one that takes more than its `disk` is ended, and so is one with more files
//! than `--container-files-max`, for a file system has no more than so many, however small they are.
//!
//! A file without a name counts as long as a process of the task has it open.
//! Between two looks a task can take more than it may; what it takes then is seen at the next one. A
//! look at very many files goes on at the next one, and until it has seen all of them what it has seen is
//! what counts. Who only asks how much a task takes is told what the last look saw.
//! Mesos: `posix/disk.cpp`, which runs `du`. How much a task may take is written down beside its
//! sandbox, where it cannot change that, so that a restarted agent knows.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;

use crate::cgroups::At;
use crate::held;
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, Limitation, Reason, TaskLimits, Unusable, Usage,
};
use crate::sandbox;
use crate::sys::{Failure, boottime_us};
use crate::tree::{Taken, Walk};

/// What it does.
pub(crate) const ABOUT: &str = "what a sandbox takes; ended beyond its `disk` or --container-files-max with --enforce-container-disk-quota";

/// Where the limits of containers are, in the agent's own directory.
const LIMITS: &str = "meta/disk";

#[derive(Debug)]
struct Du {
    work_dir: PathBuf,
    /// `--enforce-container-disk-quota`.
    enforced: bool,
    /// `--container-disk-watch-interval`.
    every_us: u64,
    /// `--container-files-max`; 0 = as many as there can be.
    files_max: u64,
    /// What was seen of each container.
    looks: Mutex<BTreeMap<ContainerId, Look>>,
}

/// What was seen of a container.
#[derive(Debug)]
struct Look {
    /// Of files with a name.
    named: Taken,
    /// Bytes of those without.
    nameless: u64,
    at_us: u64,
    /// Where the next one goes on.
    rest: Option<Walk>,
}

/// Looks that go on: each holds descriptors meanwhile. Others begin anew.
const UNFINISHED_MAX: usize = 8;

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let options = ground.options;
    let Some(work_dir) = options.work_dir.clone() else {
        return Err(Unusable::Lack("there is no directory of sandboxes".to_owned()));
    };
    let (enforced, every_us) = (options.enforce_disk_quota, options.disk_watch_us);
    let files_max = files_max(options.container_files_max, &work_dir);
    Ok(Box::new(Du { work_dir, enforced, every_us, files_max, looks: Mutex::default() }))
}

/// Files that a task may have if the flag does not say, and the part of its file system's that is no more.
pub(super) const FILES_MAX: u64 = 1_000_000;
const FILES_PART: u64 = 4;

/// How many files a task may have; 0 = as many as it likes.
pub(super) fn files_max(flag: Option<u64>, work_dir: &Path) -> u64 {
    // Some file systems have no such number, and others no directory yet.
    let there = || rustix::fs::statvfs(work_dir).map_or(0, |of| of.f_files);
    flag.unwrap_or_else(|| match there() / FILES_PART {
        0 => FILES_MAX,
        part => part.min(FILES_MAX),
    })
}

impl Look {
    const fn bytes(&self) -> u64 {
        self.named.bytes.saturating_add(self.nameless)
    }
}

impl Du {
    /// Where the limit of a container is written down.
    fn file(&self, at: At) -> PathBuf {
        self.work_dir.join(LIMITS).join(at.id.to_string())
    }

    fn limit(&self, at: At) -> Option<u64> {
        fs::read_to_string(self.file(at)).ok()?.trim().parse().ok()
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at its files now: bytes that they take and how many they are, as far as is known.
    fn look(&self, container: &Container<'_>) -> Result<Taken, Error> {
        let at = container.at;
        let before = self.looks().remove(&at.id);
        let known = before.as_ref().map_or(Taken::default(), |look| look.named);
        let walk = match before.and_then(|look| look.rest) {
            Some(rest) => rest,
            None => Walk::new(&sandbox::path(&self.work_dir, at))?,
        };
        let nameless = held::nameless_bytes(&container.processes(), walk.device());
        let (seen, rest) = walk.on();
        // Of an unfinished one: at least as much as it has seen, and else what was known before.
        let named = match rest {
            None => seen,
            Some(_) => {
                Taken { bytes: seen.bytes.max(known.bytes), files: seen.files.max(known.files) }
            }
        };
        let mut looks = self.looks();
        let unfinished = looks.values().filter(|look| look.rest.is_some()).count();
        let rest = rest.filter(|_| unfinished < UNFINISHED_MAX);
        let look = Look { named, nameless, at_us: boottime_us(), rest };
        let taken = Taken { bytes: look.bytes(), ..named };
        looks.insert(at.id, look);
        Ok(taken)
    }

    /// What the last look saw, if that was not long ago; else looks.
    fn taken(&self, container: &Container<'_>) -> Result<u64, Error> {
        let fresh = |look: &&Look| boottime_us().saturating_sub(look.at_us) <= self.every_us;
        let known = self.looks().get(&container.at.id).filter(fresh).map(Look::bytes);
        known.map_or_else(|| Ok(self.look(container)?.bytes), Ok)
    }
}

impl Isolator for Du {
    /// What an agent that died wrote down of containers that nobody knows goes.
    fn recover(&self, known: &[Container<'_>]) -> Result<(), Error> {
        let at = self.work_dir.join(LIMITS);
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(ContainerId::parse);
            if id.is_some_and(|id| known.iter().all(|container| container.at.id != id)) {
                let path = entry.path();
                fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        self.update(container, limits)
    }

    fn watch(&self, container: &Container<'_>) -> Result<Option<OwnedFd>, Error> {
        let bounded = self.files_max > 0 || self.limit(container.at).is_some();
        if !self.enforced || !bounded {
            return Ok(None);
        }
        Ok(Some(container.sys.alarm(self.every_us)?))
    }

    fn limitation(
        &self,
        container: &Container<'_>,
        _: Option<Exit>,
    ) -> Result<Option<Limitation>, Error> {
        let limit = self.limit(container.at);
        if !self.enforced || limit.is_none() && self.files_max == 0 {
            return Ok(None);
        }
        let taken = match self.look(container) {
            // Who is held to no bytes may have no sandbox either.
            Err(_) if limit.is_none() => return Ok(None),
            taken => taken?,
        };
        let beyond = |message, bytes| Some(Limitation { reason: Reason::Disk, message, bytes });
        if let Some(limit) = limit.filter(|limit| taken.bytes > *limit) {
            // In the words of Mesos.
            let mb = |bytes: u64| bytes.div_ceil(1 << 20);
            let (used, most) = (mb(taken.bytes), mb(limit));
            return Ok(beyond(format!("Disk usage ({used}MB) exceeds quota ({most}MB)"), limit));
        }
        if self.files_max > 0 && taken.files > self.files_max {
            let (files, most) = (taken.files, self.files_max);
            let message =
                format!("Disk usage ({files} files) exceeds --container-files-max ({most})");
            return Ok(beyond(message, 0));
        }
        Ok(None)
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        let file = self.file(container.at);
        let failed = |error: std::io::Error| Failure::io("write", &file, &error);
        // Of what holds others all would be counted, and nobody looks at it.
        match limits.disk_bytes.filter(|_| !limits.holds) {
            // A sandbox cannot be nothing: a task that holds no disk is not held to none.
            None | Some(0) => Ok(()),
            Some(bytes) => {
                fs::create_dir_all(self.work_dir.join(LIMITS)).map_err(failed)?;
                Ok(fs::write(&file, bytes.to_string()).map_err(failed)?)
            }
        }
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        usage.disk_limit_bytes = self.limit(container.at);
        // Of a sandbox that is not there nothing is known.
        usage.disk_bytes = self.taken(container).ok();
        Ok(())
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        self.looks().remove(&container.at.id);
        let file = self.file(container.at);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &file, &error).into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::sys::fake::Fake;
    use crate::testing::Directory;

    fn limits(disk_bytes: u64) -> TaskLimits {
        TaskLimits { disk_bytes: Some(disk_bytes), ..TaskLimits::default() }
    }

    fn check(enforced: bool, then: impl FnOnce(&Isolation<'_>, &Path)) {
        let (sys, directory) = (Fake::bare(), Directory::new("du"));
        let options = Options {
            work_dir: Some(directory.path().to_owned()),
            enforce_disk_quota: enforced,
            ..options(Some(&["disk/du"]))
        };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let sandbox = sandbox::create(directory.path(), CONTAINER, None).unwrap();
        isolation.prepare(CONTAINER, &limits(1 << 20)).unwrap();
        then(&isolation, &sandbox);
        isolation.cleanup(CONTAINER).unwrap();
        assert!(!directory.path().join("meta/disk/1-1").exists());
    }

    #[test]
    fn a_sandbox_beyond_its_disk_is_told_only_where_that_is_enforced() {
        for enforced in [true, false] {
            check(enforced, |isolation, sandbox| {
                fs::write(sandbox.join("some"), vec![1; 500_000]).unwrap();
                assert_eq!(isolation.limitation(CONTAINER), Ok(None));
                fs::write(sandbox.join("more"), vec![1; 3_000_000]).unwrap();
                let told = isolation.limitation(CONTAINER).unwrap();
                assert_eq!(told.is_some(), enforced);
                if let Some(told) = told {
                    assert_eq!(told.reason, Reason::Disk);
                    assert_eq!(told.message, "Disk usage (4MB) exceeds quota (1MB)");
                }
                let usage = isolation.usage(CONTAINER).unwrap();
                assert_eq!(usage.disk_limit_bytes, Some(1 << 20));
                assert!(usage.disk_bytes.is_some_and(|bytes| bytes >= 3_500_000));
                assert_eq!(isolation.watch(CONTAINER).unwrap().len(), usize::from(enforced));
            });
        }
    }

    #[test]
    fn very_many_files_are_too_much_however_small_they_are() {
        let (sys, directory) = (Fake::bare(), Directory::new("du-files"));
        let options = Options {
            work_dir: Some(directory.path().to_owned()),
            enforce_disk_quota: true,
            container_files_max: Some(10),
            ..options(Some(&["disk/du"]))
        };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        // One that holds no disk as well.
        let sandbox = sandbox::create(directory.path(), CONTAINER, None).unwrap();
        isolation.prepare(CONTAINER, &limits(0)).unwrap();
        let watches = isolation.watch(CONTAINER).unwrap().len();
        (0..10).for_each(|name| fs::write(sandbox.join(name.to_string()), "").unwrap());
        assert_eq!((watches, isolation.limitation(CONTAINER)), (1, Ok(None)));
        fs::create_dir(sandbox.join("one more")).unwrap();
        let told = isolation.limitation(CONTAINER).unwrap().unwrap();
        assert_eq!((told.reason, told.bytes), (Reason::Disk, 0));
        assert_eq!(told.message, "Disk usage (11 files) exceeds --container-files-max (10)");
        assert_eq!(files_max(Some(0), directory.path()), 0);
        assert_eq!(files_max(None, Path::new("/nonexistent")), FILES_MAX);
        assert!((1..=FILES_MAX).contains(&files_max(None, directory.path())));
        isolation.cleanup(CONTAINER).unwrap();
    }

    #[test]
    fn holes_take_nothing_links_are_counted_once_and_what_they_lead_to_not_at_all() {
        check(true, |isolation, sandbox| {
            let sparse = fs::File::create(sandbox.join("sparse")).unwrap();
            sparse.set_len(1 << 30).unwrap();
            fs::write(sandbox.join("file"), vec![1; 600_000]).unwrap();
            for name in ["a", "b", "c"] {
                fs::hard_link(sandbox.join("file"), sandbox.join(name)).unwrap();
            }
            std::os::unix::fs::symlink("/usr", sandbox.join("usr")).unwrap();
            assert_eq!(isolation.limitation(CONTAINER), Ok(None));
        });
    }

    #[test]
    fn a_small_task_of_many_files_or_deep_ones_is_not_ended_and_a_large_one_is() {
        check(true, |isolation, sandbox| {
            let mut deep = sandbox.to_owned();
            for _ in 0..2 * crate::tree::DEPTH_MAX {
                deep.push("d");
            }
            fs::create_dir_all(&deep).unwrap();
            // Directories take some themselves.
            let empty = isolation.usage(CONTAINER).unwrap().disk_bytes.unwrap();
            let told = isolation.limitation(CONTAINER).unwrap();
            assert_eq!(told.is_some(), empty > 1 << 20, "{told:?}");
            fs::write(deep.join("large"), vec![1; 4 << 20]).unwrap();
            let told = isolation.limitation(CONTAINER).unwrap().expect("it hides something");
            assert!(told.message.starts_with("Disk usage ("), "{}", told.message);
        });
    }

    #[test]
    fn who_only_asks_is_told_what_the_last_look_saw_and_nothing_is_left_of_the_unknown() {
        check(true, |isolation, sandbox| {
            let before = isolation.usage(CONTAINER).unwrap().disk_bytes;
            fs::write(sandbox.join("more"), vec![1; 500_000]).unwrap();
            assert_eq!(isolation.usage(CONTAINER).unwrap().disk_bytes, before);
            isolation.limitation(CONTAINER).unwrap();
            assert!(isolation.usage(CONTAINER).unwrap().disk_bytes > before);
            let written = sandbox.ancestors().nth(2).unwrap().join("meta/disk/1-1");
            isolation.recover(&[CONTAINER]).unwrap();
            assert!(written.exists());
            isolation.recover(&[]).unwrap();
            assert!(!written.exists());
        });
    }
}
