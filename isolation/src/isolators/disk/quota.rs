//! `disk/quota`: a task's files take no more than its `disk`, by a quota of the file system.
//!
//! A sandbox gets a project of the file system, an id of `--disk-project-range` that none of its files
//! has, and so has all that is ever made in there. What is more than the task's `disk`, or than
//! `--container-files-max`, fails with
//! `EDQUOT`, of xfs with `ENOSPC`; with `--disk-quota-kill` there is some room beyond it, and who uses that is ended, as is,
//! either way, whom the kernel let have more, for root may. What a task writes to an image's files
//! counts, where layers are put upon each other. Mesos: `disk/xfs`.
//!
//! A persistent volume is a project as well, and takes no more than its size, whoever writes there. What is
//! around a group is one, without the sandboxes of the tasks in it: its files, which are volumes of those
//! tasks, take no more than the `disk` of the executor itself.
//!
//! Which sandbox has which project is in the file system, and so is how much it may take: an agent that
//! comes back knows all of it. An id is free when the kernel counts no file of it, so one is never
//! given again while anything that an ended task wrote is there, wherever it was moved to.
//!
//! Whom a file belongs to may give it another project. Tasks may not: the calls that do it are
//! filtered, whatever else of `linux/seccomp` a task has.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use mesita_core::wire::ContainerId;
use mesita_core::wire::task::Exit;

use super::du::files_max;
use crate::cgroups::At;
use crate::isolators::linux::filter;
use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, Limitation, Reason, TaskLimits, Unusable, Usage,
};
use crate::sandbox;
use crate::sys::{SET_ATTRIBUTES, SET_FLAGS, SYS_QUOTACTL_FD, Sys};
use crate::tree::VISITED_MAX;

/// What it does.
pub(crate) const ABOUT: &str = "files of a sandbox take no more than its `disk`, by project quotas of ext4 or xfs; only where it is named";

/// `file_setattr`, since Linux 6.17; the same number everywhere.
const SYS_FILE_SETATTR: u32 = 469;

/// Ids of projects. Reads from `5000-30000` and, as Mesos has it, `[5000-30000]`; prints as the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectRange {
    first: u32,
    last: u32,
}

impl Default for ProjectRange {
    /// One for each of the 10,000 sandboxes that an agent keeps, and for as many that are in use.
    fn default() -> Self {
        Self { first: 5_000, last: 30_000 }
    }
}

impl FromStr for ProjectRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let ends = plain.split_once('-');
        let ends = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ends {
            // 0 is everybody's, and the last number is no id.
            Some((first, last)) if 0 < first && first <= last && last < u32::MAX => {
                Ok(Self { first, last })
            }
            _ => Err(format!("`{text}` is no range of projects: 5000-30000")),
        }
    }
}

impl fmt::Display for ProjectRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl ProjectRange {
    fn contains(self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }

    fn after(self, id: u32) -> u32 {
        if id < self.last { id + 1 } else { self.first }
    }
}

#[derive(Debug)]
struct Quota {
    work_dir: PathBuf,
    range: ProjectRange,
    /// Room beyond the limit, for who is ended there.
    headroom: Option<u64>,
    /// `--container-disk-watch-interval`.
    every_us: u64,
    /// `--container-files-max`; 0 = as many as there can be.
    files_max: u64,
    /// Where the search for a free id goes on; held until the id is in use.
    next: Mutex<u32>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let options = ground.options;
    let Some(work_dir) = options.work_dir.clone() else {
        return Err(Unusable::Lack("there is no directory of sandboxes".to_owned()));
    };
    if !ground.sys.is_root() {
        return Err(Unusable::Lack("project quotas take an agent that is root".to_owned()));
    }
    ground.require_walls()?;
    ground.require_filters()?;
    has_quotas(ground.sys, &work_dir)?;
    let range = options.project_range;
    let headroom = options.disk_quota_kill.then_some(options.disk_quota_headroom);
    let (every_us, next) = (options.disk_watch_us, Mutex::new(range.first));
    let files_max = files_max(options.container_files_max, &work_dir);
    Ok(Box::new(Quota { work_dir, range, headroom, every_us, files_max, next }))
}

fn has_quotas(sys: &dyn Sys, work_dir: &Path) -> Result<(), Unusable> {
    let mend = "set CAP_SYS_ADMIN for the agent";
    let has = sys.projects(work_dir).map_err(|failure| Unusable::Call(failure, mend))?;
    let at = work_dir.display();
    match (has.counted, has.enforced) {
        (true, true) => Ok(()),
        (true, false) => Err(Unusable::Lack(format!(
            "the file system of {at} counts projects and limits none; mount it with `prjquota` and \
             without `pqnoenforce`"
        ))),
        (false, _) => Err(Unusable::Lack(format!(
            "the file system of {at} has no project quotas; mount it with `-o prjquota`, xfs as it \
             is, ext4 after `tune2fs -O project,quota -Q prjquota DEVICE` while it is not mounted; \
             or --work-dir on one that has them; or `disk/du` instead, which looks from time to time"
        ))),
    }
}

impl Quota {
    fn sandbox(&self, at: At) -> PathBuf {
        sandbox::path(&self.work_dir, at)
    }

    /// The project of ours that a directory has.
    fn project_of(&self, sys: &dyn Sys, directory: &Path) -> Option<u32> {
        sys.project_of(directory).ok().filter(|id| self.range.contains(*id))
    }

    /// The project of a container, if it has one of ours, and where its sandbox is.
    fn known(&self, container: &Container<'_>) -> Option<(PathBuf, u32)> {
        let sandbox = self.sandbox(container.at);
        let id = self.project_of(container.sys, &sandbox)?;
        Some((sandbox, id))
    }

    /// The project of a directory: its own, or one that nobody has, given to it. O(range) at worst.
    fn take(
        &self,
        sys: &dyn Sys,
        directory: &Path,
        give: impl Fn(u32) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = self.project_of(sys, directory) {
            return Ok(id);
        }
        let first = *next;
        loop {
            let id = *next;
            *next = self.range.after(id);
            let of = sys.project(directory, id)?;
            if (of.bytes, of.files) == (0, 0) {
                // What an earlier one might do is not this one's.
                sys.limit_project(directory, id, (0, 0), 0)?;
                give(id)?;
                return Ok(id);
            }
            if *next == first {
                return Err(Error::Projects);
            }
        }
    }

    /// Holds what is around a group to what is its own.
    fn limit_around(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        let (sys, sandbox) = (container.sys, self.sandbox(container.at));
        let Some(bytes) = limits.disk_bytes.filter(|bytes| *bytes > 0) else { return Ok(()) };
        let id = self.take(sys, &sandbox, |id| give_around(sys, &sandbox, id))?;
        // Nobody looks at it who would end anybody: there is no room beyond.
        Ok(sys.limit_project(&sandbox, id, (bytes, bytes), self.files_max)?)
    }

    /// What a container on an image, or with volumes of images, writes to.
    fn written(&self, sys: &dyn Sys, id: ContainerId) -> Vec<PathBuf> {
        let own = self.work_dir.join("provisioner").join(id.to_string());
        let volumes = own.join("volumes");
        let names = sys.children(&volumes).unwrap_or_default();
        let all = names.iter().map(|name| volumes.join(name)).chain([own]);
        all.flat_map(|one| [one.join("upper"), one.join("work")])
            .filter(|path| sys.exists(path))
            .collect()
    }

    /// Holds a sandbox to what its tasks hold, or to the least that it has to have.
    fn limit(
        &self,
        sys: &dyn Sys,
        at: &Path,
        id: u32,
        limits: &TaskLimits,
        least: u64,
    ) -> Result<(), Error> {
        let Some(bytes) = limits.disk_bytes.filter(|bytes| *bytes > 0) else {
            // As in `disk/du`: a task that holds no disk is not held to none.
            return Ok(sys.limit_project(at, id, (0, 0), self.files_max)?);
        };
        let bytes = bytes.max(least);
        let hard = bytes.saturating_add(self.headroom.unwrap_or(0));
        Ok(sys.limit_project(at, id, (bytes, hard), self.files_max)?)
    }
}

impl Isolator for Quota {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let sys = container.sys;
        let sandbox = self.sandbox(container.at);
        let id = self.take(sys, &sandbox, |id| give(sys, &sandbox, id))?;
        for path in self.written(sys, container.at.id) {
            give(sys, &path, id)?;
        }
        let taken = sys.project(&sandbox, id)?.bytes;
        if let Some(most) = limits.disk_bytes.filter(|most| (1..taken).contains(most)) {
            return Err(Error::Full(message(taken, most)));
        }
        self.limit(sys, &sandbox, id, limits, 0)?;
        self.beside(limits, additions)
    }

    fn beside(&self, _: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        if filter::put_before(&denied(), &mut additions.walls) {
            Ok(())
        } else {
            Err(Error::LongProfile("of disk/quota".to_owned()))
        }
    }

    fn watch(&self, container: &Container<'_>) -> Result<Option<OwnedFd>, Error> {
        let Some((sandbox, id)) = self.known(container) else { return Ok(None) };
        if container.sys.project(&sandbox, id)?.soft_bytes == 0 {
            return Ok(None);
        }
        Ok(Some(container.sys.alarm(self.every_us)?))
    }

    fn limitation(
        &self,
        container: &Container<'_>,
        _: Option<Exit>,
    ) -> Result<Option<Limitation>, Error> {
        let Some((sandbox, id)) = self.known(container) else { return Ok(None) };
        let of = container.sys.project(&sandbox, id)?;
        let beyond = of.soft_bytes > 0 && of.bytes > of.soft_bytes;
        Ok(beyond.then(|| Limitation {
            reason: Reason::Disk,
            message: message(of.bytes, of.soft_bytes),
            bytes: of.soft_bytes,
        }))
    }

    fn update(&self, container: &Container<'_>, limits: &TaskLimits) -> Result<(), Error> {
        if limits.holds {
            return self.limit_around(container, limits);
        }
        let Some((sandbox, id)) = self.known(container) else { return Ok(()) };
        // What is left of a task that has ended is no reason to end those beside it.
        let least = match self.headroom {
            Some(_) => 0,
            None => container.sys.project(&sandbox, id)?.bytes,
        };
        self.limit(container.sys, &sandbox, id, limits, least)
    }

    fn hold_volume(&self, sys: &dyn Sys, volume: &Path, bytes: u64) -> Result<(), Error> {
        let id = self.take(sys, volume, |id| give(sys, volume, id))?;
        Ok(sys.limit_project(volume, id, (bytes, bytes), self.files_max)?)
    }

    fn usage(&self, container: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        let Some((sandbox, id)) = self.known(container) else { return Ok(()) };
        let of = container.sys.project(&sandbox, id)?;
        usage.disk_bytes = Some(of.bytes);
        usage.disk_limit_bytes = Some(of.soft_bytes).filter(|bytes| *bytes > 0);
        Ok(())
    }

    fn cleanup(&self, container: &Container<'_>) -> Result<(), Error> {
        match self.known(container) {
            Some((sandbox, id)) => Ok(container.sys.limit_project(&sandbox, id, (0, 0), 0)?),
            None => Ok(()),
        }
    }
}

/// Gives a directory with all that is in it to a project.
fn give(sys: &dyn Sys, directory: &Path, id: u32) -> Result<(), Error> {
    match sys.give_to_project(directory, id) {
        Err(failure) if failure.errno == libc::E2BIG => Err(Error::Outside(
            "disk/quota",
            format!("there are more than {VISITED_MAX} files before it begins"),
        )),
        given => Ok(given?),
    }
}

/// The same of what is around a group, all of it or nothing: what its tasks have in there is their own.
fn give_around(sys: &dyn Sys, sandbox: &Path, id: u32) -> Result<(), Error> {
    let mut names = sys.children(sandbox)?;
    names.retain(|name| name != sandbox::INSIDE);
    let all = |id: u32| names.iter().try_for_each(|name| give(sys, &sandbox.join(name), id));
    let given = all(id).and_then(|()| Ok(sys.give_empty_to_project(sandbox, id)?));
    given.inspect_err(|_| drop(all(0)))
}

/// In the words of Mesos.
fn message(taken: u64, most: u64) -> String {
    let mb = |bytes: u64| bytes.div_ceil(1 << 20);
    format!("Disk usage ({}MB) exceeds quota ({}MB)", mb(taken), mb(most))
}

/// Calls by which limits are lifted, and by which who owns a file gives it another project: as ioctls, whose number is 32 bits of
/// their second argument, and one of its own.
fn denied() -> Vec<filter::Rule> {
    let ioctl = |number: u32| filter::Condition {
        argument: 1,
        compare: filter::Compare::Masked(u32::MAX.into()),
        value: number.into(),
    };
    let rule = |number: u32, conditions| filter::Rule {
        number,
        conditions,
        action: filter::Action::errno(libc::EPERM),
    };
    let own = u32::try_from(libc::SYS_ioctl).unwrap_or(0);
    vec![
        rule(own, vec![ioctl(SET_ATTRIBUTES)]),
        rule(own, vec![ioctl(SET_FLAGS)]),
        rule(SYS_FILE_SETATTR, Vec::new()),
        // Who administers the machine inside of its container would lift its own limit by these.
        rule(u32::try_from(libc::SYS_quotactl).unwrap_or(0), Vec::new()),
        rule(u32::try_from(SYS_QUOTACTL_FD).unwrap_or(0), Vec::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::keeper::wall::Wall;
    use crate::sys::fake::Fake;
    use crate::testing::Directory;

    const MIB: u64 = 1 << 20;

    fn limits(disk_bytes: u64) -> TaskLimits {
        TaskLimits { disk_bytes: Some(disk_bytes), ..TaskLimits::default() }
    }

    /// A file system with quotas, and options of an agent on it.
    fn ground(range: &str) -> (Fake, Directory, Options) {
        let (sys, directory) = (Fake::bare(), Directory::new("quota"));
        sys.put_projects(true, true);
        let options = Options {
            work_dir: Some(directory.path().to_owned()),
            project_range: range.parse().unwrap(),
            container_files_max: Some(9),
            ..options(Some(&["disk/quota"]))
        };
        (sys, directory, options)
    }

    fn container(counter: u32) -> ContainerId {
        ContainerId { counter, ..CONTAINER }
    }

    #[test]
    fn a_sandbox_has_a_project_of_its_own_and_no_more_than_its_disk() {
        let (sys, directory, options) = ground("7-9");
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let sandbox = sandbox::create(directory.path(), CONTAINER, None).unwrap();
        let prepared = isolation.prepare(CONTAINER, &limits(2 * MIB)).unwrap();
        let at = sandbox.display();
        let done = [
            "limit 7 0 0 0".to_owned(),
            format!("project {at} 7"),
            format!("limit 7 {} {} 9", 2 * MIB, 2 * MIB),
        ];
        assert_eq!(sys.log(), done);
        assert!(matches!(&prepared.additions.walls[..], [Wall::Seccomp { .. }]));
        assert_eq!(isolation.watch(CONTAINER).unwrap().len(), 1);
        sys.put_project(7, 2 * MIB, 5);
        assert_eq!(isolation.limitation(CONTAINER), Ok(None), "it has all of it and no more");
        let usage = isolation.usage(CONTAINER).unwrap();
        assert_eq!((usage.disk_bytes, usage.disk_limit_bytes), (Some(2 * MIB), Some(2 * MIB)));
        // Root may be let beyond it.
        sys.put_project(7, 3 * MIB, 5);
        let told = isolation.limitation(CONTAINER).unwrap().unwrap();
        assert_eq!(told.reason, Reason::Disk);
        assert_eq!(told.message, "Disk usage (3MB) exceeds quota (2MB)");
        isolation.update(CONTAINER, &limits(4 * MIB)).unwrap();
        assert_eq!(isolation.limitation(CONTAINER), Ok(None));
        isolation.cleanup(CONTAINER).unwrap();
        assert_eq!(sys.log().last().unwrap(), "limit 7 0 0 0");
    }

    #[test]
    fn who_is_ended_beyond_it_has_some_room_there() {
        let (sys, directory, options) = ground("7-9");
        let options = Options { disk_quota_kill: true, disk_quota_headroom: MIB, ..options };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        sandbox::create(directory.path(), CONTAINER, None).unwrap();
        isolation.prepare(CONTAINER, &limits(2 * MIB)).unwrap();
        assert_eq!(sys.log().last().unwrap(), &format!("limit 7 {} {} 9", 2 * MIB, 3 * MIB));
    }

    #[test]
    fn a_project_is_given_again_when_nothing_of_it_is_left() {
        let (sys, directory, options) = ground("7-8");
        let prepare = |isolation: &Isolation<'_>, counter| {
            sandbox::create(directory.path(), container(counter), None).unwrap();
            isolation.prepare(container(counter), &limits(MIB)).map(drop)
        };
        // Somebody else's, whatever it is for.
        sys.put_project(7, 0, 1);
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        prepare(&isolation, 1).unwrap();
        isolation.cleanup(container(1)).unwrap();
        // The sandbox is still there, for the next agent as well.
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let refused = prepare(&isolation, 2).unwrap_err().to_string();
        assert!(refused.contains("--disk-project-range"), "{refused}");
        sys.put_project(8, 0, 0);
        prepare(&isolation, 2).unwrap();
        // A launch that is tried again keeps the one that it has.
        prepare(&isolation, 2).unwrap();
    }

    #[test]
    fn what_was_fetched_counts_and_who_holds_no_disk_is_held_to_none() {
        let (sys, directory, options) = ground("7-9");
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        sandbox::create(directory.path(), CONTAINER, None).unwrap();
        isolation.prepare(CONTAINER, &limits(0)).unwrap();
        assert_eq!(isolation.watch(CONTAINER).unwrap().len(), 0);
        sys.put_project(7, 3 * MIB, 2);
        let refused = isolation.prepare(CONTAINER, &limits(2 * MIB)).unwrap_err().to_string();
        assert!(refused.contains("before it begins"), "{refused}");
        // What holds others, and no disk itself, has no project.
        isolation.prepare_around(container(5), &limits(0)).unwrap();
        assert!(sys.log().iter().all(|line| !line.contains("1-5")));
    }

    #[test]
    fn what_is_around_a_group_has_a_project_and_no_sandbox_of_a_task_in_it() {
        let (sys, directory, options) = ground("7-9");
        let options = Options { disk_quota_kill: true, ..options };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let inside = At { inside: Some(CONTAINER), id: container(5) };
        let around = sandbox::path(directory.path(), CONTAINER);
        let task = sandbox::create(directory.path(), inside, None).unwrap();
        for below in ["containers", "shared"] {
            sys.put_directory(around.join(below).to_str().unwrap());
        }
        for _ in 0..2 {
            isolation.prepare_around(CONTAINER, &limits(MIB)).unwrap();
        }
        isolation.prepare(inside, &limits(2 * MIB)).unwrap();
        let given: Vec<String> =
            sys.log().into_iter().filter(|line| line.starts_with("project ")).collect();
        let (around, shared, task) = (around.display(), around.join("shared"), task.display());
        let shared = shared.display();
        let expected = [
            format!("project {shared} 7"),
            format!("project {around} 7"),
            format!("project {task} 8"),
        ];
        assert_eq!(given, expected);
        assert!(sys.log().contains(&format!("limit 7 {MIB} {MIB} 9")), "{:?}", sys.log());
        assert_eq!(isolation.usage(CONTAINER).unwrap().disk_limit_bytes, Some(MIB));
        isolation.cleanup(CONTAINER).unwrap();
        assert_eq!(sys.log().last().unwrap(), "limit 7 0 0 0");
    }

    #[test]
    fn a_volume_is_held_to_its_size_whoever_uses_it() {
        let (sys, directory, options) = ground("7-9");
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        let volume = directory.path().join("volumes/roles/web/db");
        isolation.hold_volume(&volume, MIB).unwrap();
        let (again, _) = Isolation::new(&options, &sys).unwrap();
        again.hold_volume(&volume, 2 * MIB).unwrap();
        let at = volume.display();
        let done = [
            "limit 7 0 0 0".to_owned(),
            format!("project {at} 7"),
            format!("limit 7 {MIB} {MIB} 9"),
            format!("limit 7 {} {} 9", 2 * MIB, 2 * MIB),
        ];
        assert_eq!(sys.log(), done);
        let (none, _) = Isolation::new(&crate::isolation::tests::options(None), &sys).unwrap();
        none.hold_volume(&volume, MIB).unwrap();
    }

    #[test]
    fn what_a_container_on_an_image_writes_counts_as_well() {
        let (sys, directory, options) = ground("7-9");
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        sandbox::create(directory.path(), CONTAINER, None).unwrap();
        let own = directory.path().join("provisioner").join(CONTAINER.to_string());
        for below in ["upper", "work", "volumes/0/upper"] {
            sys.put_directory(own.join(below).to_str().unwrap());
        }
        isolation.prepare(CONTAINER, &limits(MIB)).unwrap();
        let given = sys.log().into_iter().filter(|line| line.starts_with("project "));
        assert_eq!(given.count(), 4);
    }

    #[test]
    fn the_calls_that_change_projects_are_filtered_whatever_else_is() {
        let (sys, directory, options) = ground("7-9");
        sandbox::create(directory.path(), CONTAINER, None).unwrap();
        let program = |names: &[&str]| {
            let isolators = Some(names.iter().map(|&name| name.to_owned()).collect());
            let options = Options { isolators, seccomp_unconfined: true, ..options.clone() };
            let (isolation, _) = Isolation::new(&options, &sys).unwrap();
            let unconfined = crate::isolators::Seccomp::Unconfined;
            let [own, none] = [None, Some(unconfined)].map(|seccomp| {
                let limits = TaskLimits { seccomp, ..limits(MIB) };
                let prepared = isolation.prepare(CONTAINER, &limits).unwrap();
                let [Wall::Seccomp { program }] = &prepared.additions.walls[..] else { panic!() };
                let beside = isolation.beside(CONTAINER, &limits).unwrap();
                assert_eq!(beside.additions.walls, prepared.additions.walls);
                program.clone()
            });
            [own, none]
        };
        let [alone, none] = program(&["disk/quota", "linux/seccomp"]);
        assert!(alone.len() > none.len() && alone.starts_with(&none[..20]));
    }

    #[test]
    fn where_there_are_no_quotas_it_is_said_what_to_do() {
        let (sys, _directory, options) = ground("7-9");
        let refused = || Isolation::new(&options, &sys).unwrap_err().to_string();
        sys.put_projects(true, false);
        assert!(refused().contains("pqnoenforce"), "{}", refused());
        sys.put_projects(false, false);
        assert!(refused().contains("tune2fs -O project,quota"), "{}", refused());
        sys.be_user();
        assert!(refused().contains("root"), "{}", refused());
        let none = Options { work_dir: None, ..options.clone() };
        assert!(Isolation::new(&none, &sys).is_err());
    }

    #[test]
    fn a_range_is_read_as_mesos_writes_it_too() {
        for text in ["5000-10000", "[5000-10000]"] {
            assert_eq!(text.parse::<ProjectRange>().unwrap().to_string(), "5000-10000");
        }
        for bad in ["", "5", "0-5", "7-6", "1-4294967295", "[1-2", "a-b", "1-2-3"] {
            assert!(bad.parse::<ProjectRange>().unwrap_err().contains("5000-30000"), "{bad}");
        }
        assert_eq!(ProjectRange::default().to_string(), "5000-30000");
    }
}
