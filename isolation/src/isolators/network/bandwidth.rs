//! `network/bandwidth`: how much comes to a task by its link to the host's network, and how much leaves
//! it, in a second.
//!
//! Either end of the link lets its packets go at that rate, by a token bucket (tc-tbf(8)); what is more
//! waits a fifth of a second, and longer below 640 KiB a second, and is then dropped, so that TCP slows down. Mesos: `network/port_mapping`
//! with flags of the same names.

use std::path::Path;

use crate::isolators::{
    Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable, Usage,
};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str = "no more comes and goes by the link of namespaces/net than the flags say; only where it is named";

#[derive(Debug)]
struct Bandwidth {
    ingress: u64,
    egress: u64,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let options = ground.options;
    let named = options.isolators.iter().flatten().any(|name| name == "namespaces/net");
    if !named {
        let why = "it bounds the links of namespaces/net, which --isolation does not name";
        return Err(Unusable::Flag(why.to_owned()));
    }
    let (ingress, egress) = (options.ingress_rate.unwrap_or(0), options.egress_rate.unwrap_or(0));
    if (ingress, egress) == (0, 0) {
        let why = "--ingress-rate-limit-per-container and --egress-rate-limit-per-container say how \
                   much, and neither is given";
        return Err(Unusable::Flag(why.to_owned()));
    }
    if !ground.sys.exists(Path::new("/proc/net/psched")) {
        return Err(Unusable::Kernel("schedulers of packets"));
    }
    Ok(Box::new(Bandwidth { ingress, egress }))
}

impl Isolator for Bandwidth {
    fn prepare(
        &self,
        _: &Container<'_>,
        _: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        for wall in &mut additions.walls {
            if let Wall::Link(link) = wall {
                (link.ingress, link.egress) = (self.ingress, self.egress);
            }
        }
        Ok(())
    }

    fn usage(&self, _: &Container<'_>, usage: &mut Usage) -> Result<(), Error> {
        // What is counted has a link.
        let linked = usage.net_sent_bytes.is_some();
        let limit = |rate: u64| Some(rate).filter(|rate| linked && *rate > 0);
        (usage.net_received_limit, usage.net_sent_limit) =
            (limit(self.ingress), limit(self.egress));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, options};
    use crate::sys::fake::Fake;

    #[test]
    fn a_link_is_bounded_and_nothing_else_can_be() {
        let sys = Fake::bare();
        let made = |names: &[&str], ingress_rate| {
            let options = Options { ingress_rate, egress_rate: None, ..options(Some(names)) };
            let (isolation, _) =
                Isolation::new(&options, &sys).map_err(|error| error.to_string())?;
            let prepared = isolation.prepare(CONTAINER, &TaskLimits::default()).unwrap();
            Ok::<_, String>(prepared.additions.walls)
        };
        let both = &["namespaces/net", "network/bandwidth"];
        assert!(made(&both[1..], Some(1)).unwrap_err().contains("does not name"));
        assert!(made(both, None).unwrap_err().contains("neither is given"));
        assert!(made(both, Some(1)).unwrap_err().contains("no schedulers of packets"));
        sys.put("/proc/net/psched", "");
        let [Wall::Link(link)] = &made(both, Some(5000)).unwrap()[..] else { panic!() };
        assert_eq!((link.ingress, link.egress), (5000, 0));
        let options = Options { ingress_rate: Some(5000), ..options(Some(both)) };
        let (isolation, _) = Isolation::new(&options, &sys).unwrap();
        assert_eq!(isolation.usage(CONTAINER).unwrap().net_received_limit, None);
        sys.put("/sys/class/net/ms0000001000001/statistics/rx_bytes", "1\n");
        let usage = isolation.usage(CONTAINER).unwrap();
        assert_eq!((usage.net_received_limit, usage.net_sent_limit), (Some(5000), None));
    }
}
