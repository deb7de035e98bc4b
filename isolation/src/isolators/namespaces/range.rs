//! Addresses of tasks that have a network of their own: those of `--container-network`, in pairs, as far
//! as nobody else on this machine has them.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use crate::sys::Sys;

/// Where the kernel tells every address of its own.
pub(super) const ADDRESSES: &str = "/proc/net/fib_trie";

/// Where it tells the ways that an administrator made, and those of links.
const ROUTES: &str = "/proc/net/route";
/// Networks that no link has addresses of.
const RESERVED: [Range; 5] = [
    Range { first: Ipv4Addr::new(0, 0, 0, 0), bits: 8 },
    Range { first: Ipv4Addr::new(127, 0, 0, 0), bits: 8 },
    Range { first: Ipv4Addr::new(169, 254, 0, 0), bits: 16 },
    Range { first: Ipv4Addr::new(224, 0, 0, 0), bits: 4 },
    Range { first: Ipv4Addr::new(240, 0, 0, 0), bits: 4 },
];

/// Addresses of containers. Reads from and prints as `10.213.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: Ipv4Addr,
    bits: u8,
}

impl Default for Range {
    fn default() -> Self {
        Self { first: Ipv4Addr::new(10, 213, 0, 0), bits: 16 }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = || format!("`{text}` is no network of at least two addresses: 10.213.0.0/16");
        let (first, bits) = text.split_once('/').ok_or_else(why)?;
        let (first, bits) =
            (first.parse::<Ipv4Addr>().map_err(|_| why())?, bits.parse().map_err(|_| why())?);
        let host =
            (8..=31).contains(&bits) && first.to_bits().trailing_zeros() >= 32 - u32::from(bits);
        let range = if host { Self { first, bits } } else { return Err(why()) };
        match RESERVED.into_iter().find(|reserved| range.overlaps(*reserved)) {
            Some(reserved) => {
                Err(format!("`{text}` is in {reserved}, of which no link has addresses"))
            }
            None => Ok(range),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl Range {
    /// Some address is in both.
    fn overlaps(self, other: Self) -> bool {
        let differs = self.first.to_bits() ^ other.first.to_bits();
        let rest = 32 - u32::from(self.bits.min(other.bits));
        differs.checked_shr(rest).unwrap_or(0) == 0
    }

    /// What else on this machine has addresses of it, but for links of tasks.
    pub(super) fn used(self, sys: &dyn Sys) -> Option<String> {
        let read = |path| sys.read(Path::new(path)).unwrap_or_default();
        let (addresses, routes) = (read(ADDRESSES), read(ROUTES));
        let mut links = Vec::new();
        for line in routes.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number =
                |at: usize| Some(u32::from_be(u32::from_str_radix(fields.get(at)?, 16).ok()?));
            let (Some(to), Some(mask)) = (number(1), number(7)) else { continue };
            let bits = u8::try_from(mask.count_ones()).unwrap_or(32);
            let route = Self { first: Ipv4Addr::from_bits(to), bits };
            if fields[0].starts_with("ms") && bits == 31 {
                links.push(route);
            } else if bits >= 8 && self.overlaps(route) {
                // Wider ones are the ways out.
                return Some(format!("a route to {route} by {}", fields[0]));
            }
        }
        let mut leaf = None;
        for line in addresses.lines() {
            if let Some((_, address)) = line.split_once("-- ") {
                leaf = address.trim().parse().ok().map(|first| Self { first, bits: 32 });
            } else if line.contains("/32 host LOCAL")
                && let Some(own) = leaf
                && self.overlaps(own)
                && !links.iter().any(|link| link.overlaps(own))
            {
                return Some(format!("the address {}", own.first));
            }
        }
        None
    }

    /// Pairs of addresses.
    pub(super) fn pairs(self) -> u32 {
        1 << (31 - u32::from(self.bits))
    }

    /// The addresses of a pair: the host's end, and the task's.
    pub(super) fn pair(self, number: u32) -> (Ipv4Addr, Ipv4Addr) {
        let host = self.first.to_bits() | number << 1;
        (Ipv4Addr::from_bits(host), Ipv4Addr::from_bits(host | 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::options;
    use crate::sys::fake::Fake;

    #[test]
    fn a_range_is_pairs_of_addresses() {
        let range: Range = "10.213.4.0/30".parse().unwrap();
        assert_eq!((range.pairs(), range.to_string()), (2, "10.213.4.0/30".to_owned()));
        let (host, own) = range.pair(1);
        assert_eq!((host.to_string(), own.to_string()), ("10.213.4.2".into(), "10.213.4.3".into()));
        for bad in ["", "10.0.0.0", "10.0.0.1/30", "10.0.0.0/32", "10.0.0.0/7", "x/24", "::/64"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert_eq!(Range::default().pairs(), 1 << 15);
        for bad in
            ["0.0.0.0/24", "127.0.0.0/24", "169.254.0.0/16", "224.0.0.0/24", "255.255.255.254/31"]
        {
            assert!(bad.parse::<Range>().unwrap_err().contains("no link has"), "{bad}");
        }
    }

    #[test]
    fn what_this_machine_uses_is_not_given_to_tasks() {
        let used = |routes: &[[&str; 3]], address: &str| {
            let sys = Fake::bare();
            let hex =
                |text: &str| format!("{:08X}", text.parse::<Ipv4Addr>().unwrap().to_bits().to_be());
            let lines = routes.iter().map(|[by, to, mask]| {
                format!("{by}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(to), hex(mask))
            });
            sys.put(ROUTES, &format!("Iface Destination\n{}", lines.collect::<String>()));
            sys.put(ADDRESSES, &format!("  |-- {address}\n     /32 host LOCAL\n"));
            let made = crate::Isolation::new(&options(Some(&["namespaces/net"])), &sys);
            made.map(drop).map_err(|error| error.to_string())
        };
        let out = ["eth0", "0.0.0.0", "0.0.0.0"];
        let link = ["ms0000001000001", "10.213.0.2", "255.255.255.254"];
        assert_eq!(used(&[out, link], "10.213.0.2"), Ok(()));
        assert_eq!(used(&[out, ["eth0", "10.214.0.0", "255.255.0.0"]], "10.214.0.1"), Ok(()));
        for (route, address) in [
            (["eth0", "10.213.7.0", "255.255.255.0"], "10.1.1.1"),
            (["eth0", "10.0.0.0", "255.0.0.0"], "11.1.1.1"),
            (link, "10.213.0.4"),
        ] {
            let refused = used(&[out, route], address).unwrap_err();
            assert!(refused.contains("--container-network 10.213.0.0/16 overlaps"), "{refused}");
        }
    }
}
