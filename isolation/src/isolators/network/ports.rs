//! `network/ports`: a task listens on ports that it holds, and on those that the kernel picks, and the
//! kernel refuses others.
//!
//! That is of TCP; it takes Linux 6.7. Mesos looks at what listens every 30 s and ends what should not.
//! Where this is named, a task that holds no port can listen on none of its choice.

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::wall::{PORTS_MAX, Wall};

/// What it does.
pub(crate) const ABOUT: &str = "listens on TCP ports that it holds alone; only where it is named";

#[derive(Debug)]
struct Ports;

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require_walls()?;
    if !ground.sys.can_restrict_ports() {
        return Err(Unusable::Kernel("Landlock that knows ports: it takes Linux 6.7"));
    }
    Ok(Box::new(Ports))
}

impl Isolator for Ports {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        let counts =
            limits.ports.iter().map(|&(first, last)| usize::from(last.saturating_sub(first)) + 1);
        if counts.sum::<usize>() > PORTS_MAX {
            return Err(Error::Ports);
        }
        additions.walls.push(Wall::Ports { held: limits.ports.clone() });
        Ok(())
    }

    fn beside(&self, _: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        additions.walls.push(Wall::Ports { held: Vec::new() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::{CONTAINER, isolation};
    use crate::sys::fake::Fake;

    #[test]
    fn a_task_is_held_to_its_ports_and_cannot_hold_more_than_there_is_room_for() {
        let sys = Fake::bare();
        let isolation = isolation(&sys, &["network/ports"]);
        let asking = |ports: &[(u16, u16)]| {
            let limits = TaskLimits { ports: ports.to_vec(), ..TaskLimits::default() };
            isolation.prepare(CONTAINER, &limits).map(|prepared| prepared.additions.walls)
        };
        let held = vec![(31_000, 31_001), (80, 80)];
        assert_eq!(asking(&held), Ok(vec![Wall::Ports { held }]));
        assert!(asking(&[(1, u16::MAX)]).unwrap_err().to_string().contains("ports"));
    }
}
