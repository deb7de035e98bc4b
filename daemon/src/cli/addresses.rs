//! By which addresses other machines reach this one.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// An address of an interface that is up and has a cable.
type Found = (IpAddr, String);

/// Addresses that are told of.
const TOLD: usize = 8;

/// The only address by which others reach this machine; else what to give for it.
pub(super) fn only_one() -> Result<IpAddr, String> {
    let all =
        getifaddrs().map_err(|error| format!("--ip: no address is told: {error}; give one"))?;
    let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let all = all.filter(|one| one.flags.contains(up)).filter_map(|one| {
        let address = one.address?;
        let v4 = || address.as_sockaddr_in().map(|of| SocketAddr::V4((*of).into()).ip());
        let v6 = || address.as_sockaddr_in6().map(|of| SocketAddr::V6((*of).into()).ip());
        Some((v4().or_else(v6)?, one.interface_name))
    });
    chosen(all.collect())
}

/// The one of these that it must be. Those of IPv4 come before those of IPv6, of which a machine has
/// several that change.
fn chosen(all: Vec<Found>) -> Result<IpAddr, String> {
    let mut found: Vec<Found> = all.into_iter().filter(|(ip, _)| is_global(ip)).collect();
    found.sort();
    found.dedup();
    if found.iter().any(|(ip, _)| ip.is_ipv4()) {
        found.retain(|(ip, _)| ip.is_ipv4());
    }
    match &found[..] {
        [] => Err(
            "--ip: this machine has no address by which others reach it: give --ip ADDRESS, or \
                   --ip 127.0.0.1 for a cluster of this machine alone"
                .to_owned(),
        ),
        [(ip, _)] => Ok(*ip),
        [(first, _), ..] => {
            let told: Vec<String> =
                found.iter().take(TOLD).map(|(ip, of)| format!("{ip} ({of})")).collect();
            let more = if found.len() > TOLD { " and others" } else { "" };
            Err(format!(
                "--ip: this machine has several addresses, {}{more}: give the one by which other machines \
                 reach it, such as --ip {first}",
                told.join(", ")
            ))
        }
    }
}

/// True for what is more than this machine, or the cable that it is on.
fn is_global(ip: &IpAddr) -> bool {
    let near = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(near || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[(&str, &str)]) -> Result<String, String> {
        let all = all.iter().map(|(ip, name)| (ip.parse().unwrap(), (*name).to_owned()));
        chosen(all.collect()).map(|ip| ip.to_string())
    }

    #[test]
    fn the_only_address_that_others_reach_is_taken_and_of_several_none() {
        let near =
            [("127.0.0.1", "lo"), ("::1", "lo"), ("169.254.3.4", "eth0"), ("fe80::1", "eth0")];
        let with = |more: &[(&str, &str)]| of(&[&near[..], more].concat());
        assert!(with(&[]).unwrap_err().contains("or --ip 127.0.0.1"));
        assert_eq!(with(&[("192.168.1.20", "eth0")]).unwrap(), "192.168.1.20");
        assert_eq!(with(&[("2001:db8::5", "eth0")]).unwrap(), "2001:db8::5");
        let both = [("2001:db8::5", "eth0"), ("2001:db8::6", "eth0"), ("10.0.0.7", "eth0")];
        assert_eq!(with(&both).unwrap(), "10.0.0.7");
        let why = with(&[("192.168.1.20", "wlan0"), ("10.0.0.7", "eth0")]).unwrap_err();
        assert!(why.contains("10.0.0.7 (eth0), 192.168.1.20 (wlan0): give"), "{why}");
        assert!(why.contains("such as --ip 10.0.0.7"), "{why}");
        // The same on two interfaces is one address as little as two are.
        assert!(with(&[("10.0.0.7", "eth0"), ("10.0.0.7", "eth1")]).is_err());
    }
}
