//! `network/ports`: a task listens on ports that it holds, and on those that the kernel picks, and the
//! kernel refuses others.
//!
//! That is of TCP; it takes Linux 6.7. Mesos looks at what listens every 30 s and ends what should not.
//! Where this is named, a task that holds no port can listen on none of its choice.
//!
//! Landlock knows of plain TCP alone, and what speaks it under another name is reached by who speaks it: so
//! MPTCP and SMC are not there for such a task, whatever else of `linux/seccomp` it has. Programs that would
//! rather have them go on with TCP.

use crate::isolators::linux::filter::{self, Action, Compare, Condition, Rule};
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::wall::{PORTS_MAX, Wall};

/// What it does.
pub(crate) const ABOUT: &str = "listens on no TCP ports but those that it holds and those that the kernel picks; only where it is named";

/// `AF_SMC`; of RDMA, and of TCP where that is not there.
const AF_SMC: u64 = 43;
/// Protocols of a stream of IPv4 or IPv6 that are TCP to others: `IPPROTO_SMC` and `IPPROTO_MPTCP`.
const AS_TCP: [u64; 2] = [256, 262];
/// Level and name of what makes a socket of TCP another one: `SOL_TCP` and `TCP_ULP`.
const BECOMES: (u64, u64) = (6, 31);

#[derive(Debug)]
struct Ports;

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    ground.require_walls()?;
    if !ground.sys.can_restrict_ports() {
        return Err(Unusable::Kernel("Landlock that knows ports: it takes Linux 6.7"));
    }
    ground.require_filters()?;
    Ok(Box::new(Ports))
}

/// Which calls fail, and how.
fn denied() -> Vec<Rule> {
    let is = |argument, value: u64| {
        let compare = Compare::Masked(u64::from(u32::MAX));
        Condition { argument, compare, value }
    };
    let rule = |number: std::ffi::c_long, conditions, errno| Rule {
        number: u32::try_from(number).unwrap_or(0),
        conditions,
        action: Action::errno(errno),
    };
    let mut rules = vec![rule(libc::SYS_socket, vec![is(0, AF_SMC)], libc::EAFNOSUPPORT)];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = is(0, u64::from(family.unsigned_abs()));
        let sockets = AS_TCP.map(|protocol| vec![family, is(2, protocol)]);
        let denied = |conditions| rule(libc::SYS_socket, conditions, libc::EPROTONOSUPPORT);
        rules.extend(sockets.map(denied));
    }
    let (level, name) = BECOMES;
    rules.push(rule(libc::SYS_setsockopt, vec![is(1, level), is(2, name)], libc::ENOPROTOOPT));
    // What these are asked for is in memory, which no filter reads; programs know to do without them.
    rules.push(rule(libc::SYS_io_uring_setup, Vec::new(), libc::ENOSYS));
    #[cfg(target_arch = "x86")]
    rules.push(rule(libc::SYS_socketcall, Vec::new(), libc::ENOSYS));
    rules
}

/// Adds both walls.
fn hold(held: Vec<(u16, u16)>, additions: &mut Additions) -> Result<(), Error> {
    additions.walls.push(Wall::Ports { held });
    if filter::put_before(&denied(), &mut additions.walls) {
        Ok(())
    } else {
        Err(Error::LongProfile("of network/ports".to_owned()))
    }
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
        hold(limits.ports.clone(), additions)
    }

    fn beside(&self, _: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        hold(Vec::new(), additions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, isolation, options};
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
        let walls = asking(&held).unwrap();
        assert!(
            matches!(&walls[..], [Wall::Ports { held: own }, Wall::Seccomp { .. }] if *own == held)
        );
        assert!(asking(&[(1, u16::MAX)]).unwrap_err().to_string().contains("ports"));
    }

    #[test]
    fn what_is_tcp_under_another_name_is_denied_before_the_profile_of_a_task_is_asked() {
        let sys = Fake::bare();
        let of = |names: &[&str]| {
            let isolation = isolation(&sys, names);
            let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
            let beside = isolation.beside(CONTAINER, &TaskLimits::default()).unwrap();
            [prepared.additions.walls, beside.additions.walls].map(|walls| {
                let programs = walls.into_iter().filter_map(|wall| {
                    let Wall::Seccomp { program } = wall else { return None };
                    Some(program)
                });
                let [program] = &programs.collect::<Vec<_>>()[..] else { panic!("one filter") };
                program.clone()
            })
        };
        let profile = of(&["linux/seccomp"]);
        for (both, profile) in of(&["network/ports", "linux/seccomp"]).iter().zip(&profile) {
            assert!(both.ends_with(profile) && both.len() > profile.len());
        }
    }

    #[test]
    fn it_is_not_there_where_the_kernel_filters_no_calls() {
        let sys = Fake::bare();
        sys.filter_no_calls();
        let refused = Isolation::new(&options(Some(&["network/ports"])), &sys).unwrap_err();
        assert!(refused.to_string().contains("filters of system calls"), "{refused}");
    }
}
