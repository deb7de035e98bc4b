//! What tasks see of their agent's work directory, and where in it they write: nothing but their own
//! sandboxes and volumes, whoever they run as and wherever it lies.
//!
//! The rest of it is the agent's: who it is, what it remembers, its keeper's socket, what other tasks
//! write, images that they share. A task with mounts of its own does not find it. One without may not
//! write below any of `--writable` that leads there; what it reads, its user's rights alone say.
//!
//! Work directories of other daemons are not known. Those that lie beside this one, where a task of root's could
//! write to them, are kept from it in the same way.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cgroups::At;
use crate::isolators::{Additions, TaskLimits};
use crate::keeper::protocol::path_text;
use crate::keeper::wall::Wall;
use crate::sandbox;

/// A work directory, and what `--writable` has to do with it.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: CString,
    /// What leads there and could be moved away.
    pinned: Vec<CString>,
    /// Of `--writable`, what it is in, or what is in it.
    reached: Vec<PathBuf>,
    /// Every task has mounts of its own, unless it has a root of its own.
    is_closed: bool,
}

/// Entries beside a work directory that are looked at, and work directories that are found among them.
const BESIDE_MAX: usize = 4096;
const OTHERS_MAX: usize = 32;
/// What every daemon has in its own.
const META: &str = "meta";

/// Work directories of this user's other daemons that are in the same directory as this one.
fn others(own: &Path) -> Vec<CString> {
    let is_own = |path: &Path| {
        let of = std::fs::symlink_metadata(path);
        of.is_ok_and(|of| of.is_dir() && of.uid() == rustix::process::geteuid().as_raw())
    };
    let Some(above) = own.parent() else { return Vec::new() };
    let all = std::fs::read_dir(above).into_iter().flatten().take(BESIDE_MAX).flatten();
    let all = all.map(|entry| entry.path()).filter(|path| path != own);
    let all = all.filter(|path| is_own(path) && is_own(&path.join(META)));
    all.take(OTHERS_MAX).map(|path| path_text(&path)).collect()
}

/// Where a path leads, as far as that is there.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

impl WorkDir {
    /// Of an agent whose tasks may write at these places; `is_closed` if all of them have mounts.
    pub(crate) fn new(path: &Path, writable: &[PathBuf], is_closed: bool) -> Self {
        let path = real(path);
        let leads =
            |place: &&PathBuf| path.starts_with(real(place)) || real(place).starts_with(&path);
        let reached: Vec<PathBuf> = writable.iter().filter(leads).cloned().collect();
        let tops: Vec<PathBuf> = reached.iter().map(|place| real(place)).collect();
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        // The outermost first: what is mounted on one later would cover it.
        above.reverse();
        let below = |at: &&Path| tops.iter().any(|top| *at != top && at.starts_with(top));
        let pinned = above.into_iter().filter(below).map(path_text).collect();
        Self { path: path_text(&path), pinned, reached, is_closed }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// Where tasks cannot write though `--writable` says so.
    pub(crate) fn withheld(&self) -> &[PathBuf] {
        if self.is_closed { &[] } else { &self.reached }
    }

    /// Keeps a task out of it, once its other walls are known. Who is inside of another container finds
    /// all of that one's sandbox: those of a group have it in common.
    pub(crate) fn keep_out(&self, at: At, limits: &TaskLimits, additions: &mut Additions) {
        if additions.walls.iter().any(|wall| matches!(wall, Wall::Root(_))) {
            return;
        }
        if additions.namespaces.mount {
            let (path, pinned) = (self.path.clone(), self.pinned.clone());
            let around = at.inside.map(|around| sandbox::path(self.path(), around));
            let kept = limits.writable.iter().chain(&around).map(|path| path_text(path)).collect();
            additions.walls.push(Wall::Closed { path, pinned, kept });
            if !self.reached.is_empty() {
                let closed = others(self.path()).into_iter();
                let closed =
                    closed.map(|path| Wall::Closed { path, pinned: Vec::new(), kept: Vec::new() });
                additions.walls.extend(closed);
            }
        } else {
            self.withhold(additions);
        }
    }

    /// The same of who is beside a task, and finds what that finds.
    pub(crate) fn keep_out_beside(&self, additions: &mut Additions) {
        if !self.is_closed {
            self.withhold(additions);
        }
    }

    fn withhold(&self, additions: &mut Additions) {
        let withheld: Vec<CString> = self.reached.iter().map(|path| path_text(path)).collect();
        for wall in &mut additions.walls {
            if let Wall::Landlock { writable } = wall {
                writable.retain(|place| !withheld.contains(place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::CONTAINER;
    use crate::keeper::protocol::Namespaces;
    use mesita_core::wire::ContainerId;

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    fn landlock() -> Wall {
        Wall::Landlock { writable: vec![c".".into(), c"/nonexistent".into(), c"/dev".into()] }
    }

    fn kept_out(work_dir: &WorkDir, mount: bool) -> Vec<Wall> {
        kept_out_at(CONTAINER.into(), work_dir, mount)
    }

    fn kept_out_at(at: At, work_dir: &WorkDir, mount: bool) -> Vec<Wall> {
        let namespaces = Namespaces { user: false, pid: mount, mount };
        let mut additions =
            Additions { namespaces, walls: vec![landlock()], ..Additions::default() };
        let limits = TaskLimits { writable: paths(&["/v"]), ..TaskLimits::default() };
        work_dir.keep_out(at, &limits, &mut additions);
        additions.walls
    }

    #[test]
    fn a_task_with_mounts_finds_what_is_its_own_and_nothing_that_leads_there_can_be_moved() {
        let writable = paths(&["/nonexistent", "/dev"]);
        let work_dir = WorkDir::new(Path::new("/nonexistent/a/b/agent"), &writable, true);
        let closed = Wall::Closed {
            path: c"/nonexistent/a/b/agent".into(),
            pinned: vec![c"/nonexistent/a".into(), c"/nonexistent/a/b".into()],
            kept: vec![c"/v".into()],
        };
        assert_eq!(kept_out(&work_dir, true), [landlock(), closed]);
        assert!(work_dir.withheld().is_empty());
        let member = At { inside: Some(CONTAINER), id: ContainerId { counter: 2, ..CONTAINER } };
        let [_, Wall::Closed { kept, .. }] = &kept_out_at(member, &work_dir, true)[..] else {
            panic!()
        };
        assert_eq!(kept[1].to_str().unwrap(), "/nonexistent/a/b/agent/sandboxes/1-1");
    }

    #[test]
    fn what_other_daemons_have_beside_it_a_task_does_not_find() {
        let above = crate::testing::Directory::new("beside");
        let at = |name: &str| above.path().join(name);
        for made in ["agent/meta", "master/meta", "plain/other"] {
            std::fs::create_dir_all(at(made)).unwrap();
        }
        std::os::unix::fs::symlink(at("master"), at("link")).unwrap();
        let closed = |writable: &Path| -> Vec<CString> {
            let work_dir = WorkDir::new(&at("agent"), &[writable.to_owned()], true);
            let walls = kept_out(&work_dir, true);
            let closed = walls.into_iter().filter_map(|wall| {
                let Wall::Closed { path, .. } = wall else { return None };
                Some(path)
            });
            closed.collect()
        };
        let [own, other] = ["agent", "master"].map(|name| path_text(&real(&at(name))));
        assert_eq!(closed(above.path()), [own.clone(), other]);
        assert_eq!(closed(Path::new("/nonexistent")), [own]);
    }

    #[test]
    fn a_task_without_mounts_writes_nowhere_that_leads_there() {
        let writable = paths(&["/nonexistent", "/dev"]);
        for path in ["/nonexistent/a/agent", "/nonexistent"] {
            let work_dir = WorkDir::new(Path::new(path), &writable, false);
            let expected = Wall::Landlock { writable: vec![c".".into(), c"/dev".into()] };
            assert_eq!(kept_out(&work_dir, false), [expected]);
            assert_eq!(work_dir.withheld(), paths(&["/nonexistent"]));
        }
        let elsewhere = WorkDir::new(Path::new("/nonexistent-too/agent"), &writable, false);
        assert_eq!(kept_out(&elsewhere, false), [landlock()]);
    }
}
