//! What of the machine's own files a task changes that stands on them, and whom of the machine it talks to.
//!
//! Landlock knows of files that are written, and not of what else a call changes: modes, owners, times,
//! attributes. And it knows nothing of sockets, by which services do for root what root asks for. So a task
//! with mounts of its own, on a kernel that can do it, finds everything read-only but what `--writable` names
//! and what is its own; and where services have their sockets, nothing but what it takes to look names
//! up. Whatever of these places `--writable` names is there as it is.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use crate::cgroups::At;
use crate::isolators::{Additions, FILESYSTEM_LINUX, LINUX_LANDLOCK, TaskLimits};
use crate::keeper::protocol::path_text;
use crate::keeper::wall::{self, Wall};
use crate::sandbox;

/// The first version of the keeper's protocol that has this wall, and those that part processes inside of
/// others.
pub(crate) const SINCE: u16 = 4;

/// Where services of the machine have their sockets. Mostly the second is a link to the first.
const SOCKETS: [&str; 2] = ["/run", "/var/run"];
/// What of it programs cannot do without: where `/etc/resolv.conf` leads, who looks names up, whether the
/// clock is right, and what the programs of a system without `/usr/bin` are.
const SHOWN: [&str; 8] = [
    "systemd/resolve",
    "systemd/timesync",
    "resolvconf",
    "NetworkManager/resolv.conf",
    "NetworkManager/no-stub-resolv.conf",
    "connman",
    "netconfig",
    "current-system",
];
/// Of this the keeper knows what is no device.
const DEVICES: &str = "/dev";

/// The same for all tasks of an agent.
#[derive(Debug)]
pub(crate) struct Host {
    writable: Vec<CString>,
    hidden: Vec<CString>,
    shown: Vec<CString>,
}

impl Host {
    /// Of an agent whose tasks may write at these places, where one of its isolators keeps them from
    /// writing elsewhere.
    pub(crate) fn new(isolators: &[&str], writable: &[PathBuf]) -> Option<Self> {
        let keeps = |name: &&str| [FILESYSTEM_LINUX, LINUX_LANDLOCK].contains(name);
        isolators.iter().any(keeps).then(|| {
            let named = writable.iter().filter(|path| **path != Path::new(DEVICES));
            let below = |all: &str| SHOWN.map(|path| path_text(&Path::new(all).join(path)));
            Self {
                writable: named.map(|path| path_text(path)).collect(),
                hidden: SOCKETS.iter().map(|path| path_text(Path::new(path))).collect(),
                shown: SOCKETS.into_iter().flat_map(below).collect(),
            }
        })
    }

    /// Puts the wall around a task, once its other walls are known.
    pub(crate) fn put_around(
        &self,
        at: At,
        limits: &TaskLimits,
        work_dir: Option<&Path>,
        additions: &mut Additions,
    ) {
        let stands_elsewhere = additions.walls.iter().any(|wall| matches!(wall, Wall::Root(_)));
        if stands_elsewhere || !additions.namespaces.mount {
            return;
        }
        let around = at.inside.zip(work_dir).map(|(id, work_dir)| sandbox::path(work_dir, id));
        let own = limits.writable.iter().chain(&around).map(|path| path_text(path));
        additions.walls.push(Wall::Host(wall::Host {
            writable: self.writable.iter().cloned().chain(own).collect(),
            hidden: self.hidden.clone(),
            shown: self.shown.clone(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::CONTAINER;
    use crate::keeper::protocol::Namespaces;

    #[test]
    fn who_has_mounts_of_its_own_changes_nothing_but_what_is_its_own_or_named() {
        let named = ["/tmp", "/dev", "/run/user/7"].map(PathBuf::from);
        assert!(Host::new(&["linux/nnp"], &named).is_none());
        let host = Host::new(&[LINUX_LANDLOCK], &named).unwrap();
        let limits = TaskLimits { writable: vec!["/v".into()], ..TaskLimits::default() };
        let namespaces = Namespaces { user: false, pid: true, mount: true };
        let walls = |namespaces| {
            let mut additions = Additions { namespaces, ..Additions::default() };
            host.put_around(CONTAINER.into(), &limits, None, &mut additions);
            additions.walls
        };
        let [Wall::Host(wall)] = &walls(namespaces)[..] else { panic!() };
        let expected = [c"/tmp", c"/run/user/7", c"/v"];
        assert!(wall.writable.iter().map(CString::as_c_str).eq(expected), "{:?}", wall.writable);
        assert!(wall.shown.contains(&c"/run/systemd/resolve".to_owned()));
        assert_eq!(walls(Namespaces::default()), []);
    }
}
