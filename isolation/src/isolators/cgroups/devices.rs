//! `cgroups/devices`: a task opens no device but those that everybody may, and what it was given.
//!
//! With v1 that is a list of the kernel's, with v2 a program of ours that it runs at each open; only
//! root may give either. Device nodes of any number can be made, and not opened. Mesos:
//! `cgroups/subsystems/devices.cpp`, whose list of what everybody may is this one.

use std::path::PathBuf;

use super::Directory;
use crate::cgroups::Controller;
use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::sys::{Device, DeviceKind, Version};

/// What it does.
pub(crate) const ABOUT: &str =
    "no device but /dev/null and its like, terminals, --allowed-devices, and what is the task's";

/// Devices of one task, besides those of everybody.
pub const DEVICES_MAX: usize = 64;

const fn device(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: u8) -> Device {
    Device { kind, major, minor, access }
}

/// What everybody may.
const EVERYBODY: [Device; 14] = {
    const OPEN: u8 = Device::READ | Device::WRITE | Device::MAKE;
    const fn node(major: u32, minor: u32) -> Device {
        device(DeviceKind::Character, Some(major), Some(minor), OPEN)
    }
    [
        device(DeviceKind::Character, None, None, Device::MAKE),
        device(DeviceKind::Block, None, None, Device::MAKE),
        node(5, 1),
        node(4, 0),
        node(4, 1),
        device(DeviceKind::Character, Some(136), None, OPEN),
        node(5, 2),
        node(10, 200),
        node(1, 3),
        node(1, 5),
        node(1, 7),
        node(5, 0),
        node(1, 9),
        node(1, 8),
    ]
};

#[derive(Debug)]
struct Devices {
    /// What everybody may here.
    everybody: Vec<Device>,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    if ground.cgroups.place(Controller::Devices).is_none() {
        let refused = ground.missing.iter().any(|(of, _)| *of == Controller::Devices);
        if refused || ground.cgroups.unified().is_none() {
            ground.require(Controller::Devices)?;
        }
        let able = ground.sys.can_program_devices();
        able.map_err(|failure| Unusable::Call(failure, "run as root"))?;
    }
    let mut everybody = EVERYBODY.to_vec();
    everybody.extend(&ground.options.allowed_devices);
    Ok(Box::new(Devices { everybody }))
}

impl Devices {
    /// Where a container's rule is.
    fn place(container: &Container<'_>) -> Option<(Version, PathBuf)> {
        match Directory::of(container, Controller::Devices) {
            Some(at) => Some((at.version, at.path)),
            None => {
                let place = container.cgroups.unified()?;
                Some((Version::V2, container.at.below(&place.directory)))
            }
        }
    }

    fn all(&self, own: &[Device]) -> Vec<Device> {
        let own = own.iter().take(DEVICES_MAX).filter(|one| !self.everybody.contains(one));
        self.everybody.iter().chain(own).copied().collect()
    }
}

impl Isolator for Devices {
    fn prepare(
        &self,
        container: &Container<'_>,
        limits: &TaskLimits,
        _: &mut Additions,
    ) -> Result<(), Error> {
        let Some((version, path)) = Self::place(container) else { return Ok(()) };
        Ok(container.sys.allow_devices(version, &path, &self.all(&limits.devices))?)
    }

    fn hold_devices(&self, container: &Container<'_>, own: &[Device]) -> Result<(), Error> {
        let Some((version, path)) = Self::place(container) else { return Ok(()) };
        Ok(container.sys.change_devices(version, &path, &self.all(own))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Isolation;
    use crate::isolation::tests::{CONTAINER, isolation, options};
    use crate::sys::fake::Fake;

    #[test]
    fn a_task_has_what_everybody_has_and_its_own() {
        let own = device(DeviceKind::Character, Some(188), Some(0), Device::READ | Device::WRITE);
        let limits = TaskLimits { devices: vec![own], ..TaskLimits::default() };
        for (sys, at) in [(Fake::v1(), "devices/"), (Fake::v2("/", &[50]), "")] {
            isolation(&sys, &["cgroups/devices"]).prepare(CONTAINER, &limits).unwrap();
            let at = format!("devices /sys/fs/cgroup/{at}mesita/0001020304050607/1-1 ");
            let log = sys.log();
            let told = log.iter().find_map(|line| line.strip_prefix(&at)).expect("a list");
            assert!(told.starts_with("c *:* m,b *:* m,"), "{told}");
            assert!(told.contains(",c 1:3 rwm,") && told.ends_with(",c 188:0 rw"), "{told}");
        }
    }

    #[test]
    fn only_root_can_program_them_on_v2() {
        let sys = Fake::v2("/", &[50]);
        sys.be_user();
        let refused = Isolation::new(&options(Some(&["cgroups/devices"])), &sys).unwrap_err();
        assert!(refused.to_string().ends_with("run as root"), "{refused}");
    }
}
