//! Where on this machine a missing controller is switched on: the file, the line, and what to do
//! then.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Controller, words};
use crate::sys::{Sys, Version};

/// Where a board has the words that it gives its kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Boot {
    /// The file.
    pub file: &'static str,
    /// The part of it that holds them.
    pub line: &'static str,
    /// What makes them count.
    pub then: &'static str,
}

const fn boot(file: &'static str, line: &'static str, then: &'static str) -> Boot {
    Boot { file, line, then }
}

/// The first that is there counts: what firmware reads comes before what other loaders do, and
/// either before what only makes such a file.
static BOOTS: [Boot; 11] = [
    // Raspberry Pi: since Bookworm and on Ubuntu, before it, on Alpine.
    boot("/boot/firmware/cmdline.txt", "the one line", "reboot"),
    boot("/boot/cmdline.txt", "the one line", "reboot"),
    boot("/media/mmcblk0p1/cmdline.txt", "the one line", "reboot"),
    // Armbian, Orange Pi, DietPi, BeagleBone.
    boot("/boot/armbianEnv.txt", "the line `extraargs=`", "reboot"),
    boot("/boot/orangepiEnv.txt", "the line `extraargs=`", "reboot"),
    boot("/boot/dietpiEnv.txt", "the line `extraargs=`", "reboot"),
    boot("/boot/uEnv.txt", "the line `cmdline=`", "reboot"),
    // Those whose loader's file is made from another one.
    boot("/etc/default/u-boot", "`U_BOOT_PARAMETERS`", "run `u-boot-update` and reboot"),
    boot("/etc/update-extlinux.conf", "`default_kernel_opts`", "run `update-extlinux` and reboot"),
    boot("/etc/default/grub", "`GRUB_CMDLINE_LINUX`", "run `update-grub` and reboot"),
    boot("/boot/extlinux/extlinux.conf", "the line `append`", "reboot"),
];

impl Boot {
    /// The one that this machine has, if it is one of those known.
    pub(super) fn find(sys: &dyn Sys) -> Option<&'static Self> {
        BOOTS.iter().find(|boot| sys.read(Path::new(boot.file)).is_ok())
    }
}

/// A controller that the kernel was told to switch off, and where it is told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    controller: Controller,
    boot: Option<&'static Boot>,
    /// The file itself switches it off, rather than the board's firmware.
    said_there: bool,
}

impl Switch {
    pub(super) fn find(sys: &dyn Sys, controller: Controller) -> Self {
        let boot = Boot::find(sys);
        let text = boot.and_then(|boot| sys.read(Path::new(boot.file)).ok()).unwrap_or_default();
        Self { controller, boot, said_there: switches_off(&text, controller) }
    }
}

/// True when these words of a command line switch a controller off.
pub(super) fn switches_off(line: &str, controller: Controller) -> bool {
    let quotes = |c| matches!(c, '"' | '\'' | '=');
    words(line).any(|word| {
        // It may be the first of a value: `extraargs=cgroup_disable=memory`.
        let off = word.split_once("cgroup_disable=");
        let off = off.filter(|(before, _)| before.is_empty() || before.ends_with(quotes));
        off.is_some_and(|(_, list)| {
            let is =
                |name| [Version::V1, Version::V2].iter().any(|of| controller.name(*of) == name);
            list.split([',', '"', '\'']).any(is)
        })
    })
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.controller.name(Version::V1);
        match self.boot {
            None => write!(f, "add `cgroup_enable={name}` to the kernel command line and reboot"),
            Some(Boot { file, line, then }) if self.said_there => {
                write!(f, "take `cgroup_disable={name}` out of {line} of {file}, {then}")
            }
            Some(Boot { file, line, then }) => {
                write!(f, "add `cgroup_enable={name}` to {line} of {file}, {then}")
            }
        }
    }
}

/// What lets an agent in this cgroup have controllers: as a service or a user's session or shell.
pub(super) struct Delegation<'p>(pub(super) Option<&'p PathBuf>);

impl fmt::Display for Delegation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.into_iter().flat_map(|path| path.iter().rev());
        let mut names = names.filter_map(|name| name.to_str());
        match names.find(|name| name.ends_with(".service") && !name.starts_with("user@")) {
            Some(service) => write!(
                f,
                "add `Delegate=yes` below `[Service]` in \
                 /etc/systemd/system/{service}.d/mesita.conf, run `systemctl daemon-reload` and \
                 `systemctl restart {service}`; or run as root"
            ),
            None => f.write_str("run as root, or as a service with `Delegate=yes`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;

    fn switch(file: &str, text: &str) -> String {
        let sys = Fake::bare();
        sys.put(file, text);
        Switch::find(&sys, Controller::Memory).to_string()
    }

    #[test]
    fn the_file_of_the_board_is_named_and_what_to_do_to_it() {
        assert_eq!(
            switch("/boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=1 rootwait\n"),
            "add `cgroup_enable=memory` to the one line of /boot/firmware/cmdline.txt, reboot"
        );
        assert_eq!(
            switch("/boot/armbianEnv.txt", "verbosity=1\nextraargs=cgroup_disable=cpuset,memory\n"),
            "take `cgroup_disable=memory` out of the line `extraargs=` of /boot/armbianEnv.txt, \
             reboot"
        );
        assert_eq!(
            switch("/etc/default/grub", "GRUB_CMDLINE_LINUX=\"cgroup_disable=memory\"\n"),
            "take `cgroup_disable=memory` out of `GRUB_CMDLINE_LINUX` of /etc/default/grub, run \
             `update-grub` and reboot"
        );
        assert_eq!(
            switch("/etc/passwd", ""),
            "add `cgroup_enable=memory` to the kernel command line and reboot"
        );
    }

    #[test]
    fn another_controller_and_another_word_switch_nothing_off() {
        for line in ["", "cgroup_disable=cpuset", "xcgroup_disable=memory", "cgroup_enable=memory"]
        {
            assert!(!switches_off(line, Controller::Memory), "{line}");
        }
    }

    #[test]
    fn a_service_is_told_its_own_file() {
        let told = |path: &str| Delegation(Some(&PathBuf::from(path))).to_string();
        let service = told("/sys/fs/cgroup/system.slice/pi.service/self");
        assert!(service.contains("/etc/systemd/system/pi.service.d/mesita.conf"), "{service}");
        let session = told("/sys/fs/cgroup/user.slice/user@7.service/session-3.scope");
        assert!(session.starts_with("run as root, or as a service"), "{session}");
    }
}
