//! Flags of what holds tasks besides what they ask for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use mesita_isolation::Options;
use mesita_isolation::isolators::{Capabilities, Io, ProjectRange, Range};
use mesita_isolation::sys::{Device, DeviceKind};

use super::text::{Duration, Size, some_size};

/// Limits and walls of every task.
#[derive(Clone, Debug, Args)]
pub(crate) struct Walls {
    /// Capabilities of a task that asks for none, and the most that one may ask for, root as well:
    /// `NET_RAW,KILL`, `ALL`, or JSON as for Mesos [default: none]
    #[arg(long, value_name = "NAME,...", alias = "allowed-capabilities")]
    pub(crate) effective_capabilities: Option<Capabilities>,
    /// Capabilities that programs of a task can ever get [default: the effective ones]
    #[arg(long, value_name = "NAME,...")]
    pub(crate) bounding_capabilities: Option<Capabilities>,
    /// Directory of filters of system calls, in Docker's format
    #[arg(long, value_name = "DIR")]
    pub(crate) seccomp_config_dir: Option<PathBuf>,
    /// The one of them for tasks that name none [default: a built-in one]
    #[arg(long, value_name = "NAME", requires = "seccomp_config_dir")]
    pub(crate) seccomp_profile_name: Option<String>,
    /// Let tasks ask for no filter of system calls
    #[arg(long)]
    pub(crate) seccomp_unconfined: bool,
    /// Where tasks may write besides their sandboxes and volumes
    #[arg(long, value_name = "DIR,...", value_delimiter = ',', value_parser = from_the_root,
          default_values = mesita_isolation::isolators::WRITABLE)]
    pub(crate) writable: Vec<PathBuf>,
    /// What of the host tasks may have mounted as volumes [default: nothing]
    #[arg(long, value_name = "PATH,...", value_delimiter = ',', value_parser = from_the_root)]
    pub(crate) host_paths: Vec<PathBuf>,
    /// Devices that every task may use, how: `/dev/kvm:rw`
    #[arg(long, value_name = "PATH:rwm,...", value_delimiter = ',')]
    pub(crate) allowed_devices: Vec<Allowed>,
    /// End tasks that take more disk than they hold
    #[arg(long)]
    pub(crate) enforce_container_disk_quota: bool,
    /// From one look at a task's files to the next
    #[arg(long, value_name = "DURATION", default_value = "15secs")]
    pub(crate) container_disk_watch_interval: Duration,
    /// Files that a task has at the most, where `disk/du` ends tasks or `disk/quota` is on, 0 = as many as it
    /// likes [default: a quarter of those of its file system, at most 1000000]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) container_files_max: Option<u64>,
    /// Projects of the file system that `disk/quota` gives to sandboxes; agents on one file system have
    /// each their own [default: 5000-30000]
    #[arg(long, value_name = "FIRST-LAST", alias = "xfs-project-range")]
    pub(crate) disk_project_range: Option<ProjectRange>,
    /// End tasks that take more than `disk/quota` lets them, instead of refusing them more
    #[arg(long, alias = "xfs-kill-containers")]
    pub(crate) disk_quota_kill: bool,
    /// What they can take beyond it until then
    #[arg(long, value_name = "SIZE", default_value = "10MB", alias = "xfs-quota-headroom")]
    pub(crate) disk_quota_headroom: Size,
    /// The most that is in the /dev/shm of a task that does not say [default: as much as its memory]
    #[arg(long, value_name = "SIZE")]
    pub(crate) default_container_shm_size: Option<Size>,
    /// Addresses of tasks where `namespaces/net` is on; agents of one machine have each their own
    /// [default: 10.213.0.0/16]
    #[arg(long, value_name = "ADDRESS/BITS")]
    pub(crate) container_network: Option<Range>,
    /// What comes to each of them in a second, where `network/bandwidth` is on [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub(crate) ingress_rate_limit_per_container: Option<Size>,
    /// What leaves each of them [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub(crate) egress_rate_limit_per_container: Option<Size>,
    /// The most that a task reads from each disk in a second [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub(crate) task_io_read: Option<Size>,
    /// The most that it writes to each [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub(crate) task_io_write: Option<Size>,
}

/// A path that is the same wherever it is read.
fn from_the_root(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("expected a path from the root: /srv".to_owned())
    }
}

impl Walls {
    /// Tells isolation of them.
    pub(crate) fn put_into(&self, options: &mut Options) {
        options.effective_capabilities = self.effective_capabilities;
        options.bounding_capabilities = self.bounding_capabilities;
        options.seccomp_config_dir.clone_from(&self.seccomp_config_dir);
        options.seccomp_profile_name.clone_from(&self.seccomp_profile_name);
        options.seccomp_unconfined = self.seccomp_unconfined;
        options.writable.clone_from(&self.writable);
        options.host_paths.clone_from(&self.host_paths);
        options.allowed_devices = self.allowed_devices.iter().map(|one| one.device).collect();
        options.enforce_disk_quota = self.enforce_container_disk_quota;
        options.disk_watch_us = self.container_disk_watch_interval.us;
        options.container_files_max = self.container_files_max;
        options.project_range = self.disk_project_range.unwrap_or_default();
        options.disk_quota_kill = self.disk_quota_kill;
        options.disk_quota_headroom = self.disk_quota_headroom.bytes;
        let bytes = |size: Option<Size>| size.map(|size| size.bytes);
        options.default_shm_bytes = bytes(self.default_container_shm_size);
        options.container_network = self.container_network;
        options.ingress_rate = bytes(self.ingress_rate_limit_per_container);
        options.egress_rate = bytes(self.egress_rate_limit_per_container);
        options.task_io = self.task_io();
    }

    /// What a task reads and writes at the most that does not say.
    pub(crate) fn task_io(&self) -> Io {
        let bytes = |size: Option<Size>| size.map(|size| size.bytes);
        Io {
            read_bytes: bytes(self.task_io_read),
            write_bytes: bytes(self.task_io_write),
            ..Io::default()
        }
    }
}

/// A device that every task may use, as it was when the agent began.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    device: Device,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, how) = text.rsplit_once(':').unwrap_or((text, "rw"));
        let mut access = 0;
        for letter in how.chars() {
            access |= match letter {
                'r' => Device::READ,
                'w' => Device::WRITE,
                'm' => Device::MAKE,
                _ => return Err("expected PATH:rwm".to_owned()),
            };
        }
        let of = fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
        let kind = match of.file_type() {
            kind if kind.is_char_device() => DeviceKind::Character,
            kind if kind.is_block_device() => DeviceKind::Block,
            _ => return Err(format!("{path} is not a device")),
        };
        let number = of.rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        Ok(Self { device: Device { kind, major: Some(major), minor: Some(minor), access } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_write_or_to_mount_is_a_path_from_the_root() {
        #[derive(clap::Parser)]
        struct Own {
            #[command(flatten)]
            walls: Walls,
        }
        let read = |flag: &str, text: &str| {
            <Own as clap::Parser>::try_parse_from(["x", flag, text]).map(|own| own.walls)
        };
        for flag in ["--writable", "--host-paths"] {
            for bad in ["", "srv", "/srv,", "/srv,,/var/tmp"] {
                let said = read(flag, bad).map(drop).expect_err(bad).to_string();
                assert!(said.contains(flag), "{bad}: {said}");
            }
        }
        let places = read("--writable", "/srv,/var/tmp").unwrap().writable;
        assert_eq!(places, ["/srv", "/var/tmp"].map(PathBuf::from));
    }

    #[test]
    fn a_device_is_named_by_its_path_and_how_it_may_be_used() {
        let null = "/dev/null:r".parse::<Allowed>().unwrap().device;
        assert_eq!(null.to_string(), "c 1:3 r");
        assert_eq!("/dev/null".parse::<Allowed>().unwrap().device.to_string(), "c 1:3 rw");
        assert!("/etc/passwd:r".parse::<Allowed>().unwrap_err().contains("not a device"));
        assert!("/dev/null:x".parse::<Allowed>().is_err());
        assert!("/dev/nothing:r".parse::<Allowed>().is_err());
    }
}
