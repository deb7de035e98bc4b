//! `namespaces/user`: a task is among users of its own: itself and its groups, called as outside, and
//! nobody else.
//!
//! What it may do of what only root may, as `--effective-capabilities` grants it, it may do to itself,
//! and to nothing of the machine: neither to its files, nor to its mounts and networks. Files of
//! others are nobody's for it, and nothing that it executes makes it one of them. A task of root would
//! be called as outside, too, and own the machine's files and settings by that: it is refused, and so is
//! one whose first group is root's; where that is among the others, it is left out. The keeper says which
//! users there are, when everything else was done that takes root. Where the agent is no root, its
//! tasks are in such a namespace already, which their others are in. Mesos has no such isolator.

use crate::isolators::namespaces::require;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::protocol::Namespaces;
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str =
    "users of its own, itself and its groups, and no tasks of root; only where it is named";

#[derive(Debug)]
struct Users {
    /// Among them may be the users: the keeper parts tasks so anyway.
    namespaces: Namespaces,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    require(ground, "/proc/self/ns/user", "namespaces of users")?;
    Ok(Box::new(Users { namespaces: ground.require_mounts()? }))
}

impl Isolator for Users {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        additions.namespaces = self.namespaces;
        self.beside(limits, additions)
    }

    fn beside(&self, _: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        if !self.namespaces.user {
            additions.walls.push(Wall::Users);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::keeper::protocol::User;
    use crate::sys::fake::Fake;

    #[test]
    fn nobody_is_root_where_an_agent_of_root_parts_users() {
        let sys = Fake::bare();
        let root = User { uid: 0, gid: 0, groups: vec![] };
        let nobody = User { uid: 65534, gid: 65534, groups: vec![0] };
        for (names, user, expected) in [
            (&["namespaces/user"], false, false),
            (&["namespaces/user"], true, true),
            (&["namespaces/pid"], false, true),
        ] {
            let namespaces = Namespaces { user, pid: true, mount: true };
            let options = Options { namespaces, ..options(Some(names)) };
            let (isolation, _) = Isolation::new(&options, &sys).unwrap();
            let group = User { gid: 0, ..nobody.clone() };
            for who in [None, Some(&root), Some(&group)] {
                assert_eq!(isolation.admits(who).is_ok(), expected, "{names:?} {who:?}");
            }
            assert_eq!(isolation.admits(Some(&nobody)), Ok(()));
        }
    }

    #[test]
    fn a_task_and_who_is_beside_it_are_parted_once() {
        let sys = Fake::bare();
        for (user, expected) in [(false, vec![Wall::Users]), (true, Vec::new())] {
            let namespaces = Namespaces { user, pid: true, mount: true };
            let options = Options { namespaces, ..options(Some(&["namespaces/user"])) };
            let (isolation, _) = Isolation::new(&options, &sys).unwrap();
            let limits = TaskLimits::default();
            assert_eq!(isolation.prepare(CONTAINER, &limits).unwrap().additions.walls, expected);
            assert_eq!(isolation.beside(CONTAINER, &limits).unwrap().additions.walls, expected);
        }
    }
}
