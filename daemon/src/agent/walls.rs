//! What a task asks for of the walls around it, as its framework describes its container.

use std::path::Path;

use mesita_isolation::cgroups::At;
use mesita_isolation::isolators::{
    Capabilities, Ipc, Rlimit, Seccomp, Source, TaskLimits, VOLUMES_MAX, Volume,
};
use mesita_isolation::keeper::protocol::User;
use mesita_isolation::sandbox;

use crate::pb::mesos::v1 as pb;
use pb::capability_info::Capability;
use pb::linux_info::IpcMode;

/// Mesos' numbers of capabilities begin here, the kernel's with 0.
const FIRST_CAPABILITY: i32 = Capability::Chown as i32;

/// Adds what a container's description asks for.
pub(super) fn add(container: &pb::ContainerInfo, limits: &mut TaskLimits) -> Result<(), String> {
    if let Some(linux) = &container.linux_info {
        add_linux(linux, limits)?;
    }
    limits.hostname.clone_from(&container.hostname);
    let rlimits = container.rlimit_info.iter().flat_map(|info| &info.rlimits);
    rlimits.map(rlimit).try_for_each(|rlimit| {
        let pushed = limits.rlimits.push(rlimit?);
        pushed.map_err(|_| "more rlimits than there are kinds of them".to_owned())
    })
}

/// Adds what it wants to find mounted; a part of a sandbox is made, as its user.
pub(super) fn add_volumes(
    container: &pb::ContainerInfo,
    (work_dir, at): (&Path, At),
    user: Option<&User>,
    limits: &mut TaskLimits,
) -> Result<(), String> {
    if container.volumes.len() > VOLUMES_MAX {
        return Err(format!("A container has at most {VOLUMES_MAX} volumes"));
    }
    // Those that are images are brought by another way.
    for asked in container.volumes.iter().filter(|asked| asked.image.is_none()) {
        let source = source(asked, work_dir, at)?;
        if let Source::Sandbox { of, path } = &source {
            let own = *of == sandbox::path(work_dir, at);
            let make = if own { sandbox::create_below } else { sandbox::create_around };
            let made = make(of, Path::new(path), user);
            made.map_err(|error| error.to_string())?;
        }
        limits.volumes.push(Volume {
            container_path: asked.container_path.clone(),
            read_only: asked.mode() == pb::volume::Mode::Ro,
            source,
        });
    }
    Ok(())
}

fn source(asked: &pb::Volume, work_dir: &Path, at: At) -> Result<Source, String> {
    use pb::volume::source::sandbox_path::Type;
    let own =
        |path: &str| Source::Sandbox { of: sandbox::path(work_dir, at), path: path.to_owned() };
    let source = asked.source.as_ref();
    if let Some(secret) = source.and_then(|source| source.secret.as_ref()?.value.as_ref()) {
        return Ok(Source::Secret(secret.data.clone()));
    }
    if let Some(of) = source.and_then(|source| source.sandbox_path.as_ref()) {
        return match (of.r#type(), at.inside) {
            (Type::Parent, Some(around)) => {
                Ok(Source::Sandbox { of: sandbox::path(work_dir, around), path: of.path.clone() })
            }
            (Type::Parent, None) => Err("'PARENT' sandbox of a container that has none".to_owned()),
            (Type::Self_ | Type::Unknown, _) => Ok(own(&of.path)),
        };
    }
    let of_source = source.and_then(|source| Some(source.host_path.as_ref()?.path.as_str()));
    let path = of_source.or(asked.host_path.as_deref()).unwrap_or_default();
    // Mesos: a path that does not begin at the root is one of the sandbox.
    Ok(if path.starts_with('/') { Source::Host(path.into()) } else { own(path) })
}

fn add_linux(linux: &pb::LinuxInfo, limits: &mut TaskLimits) -> Result<(), String> {
    #[allow(deprecated)] // What `effective_capabilities` was called.
    let effective = linux.effective_capabilities.as_ref().or(linux.capability_info.as_ref());
    limits.effective_capabilities = effective.map(capabilities).transpose()?;
    let bounding = linux.bounding_capabilities.as_ref();
    limits.bounding_capabilities = bounding.map(capabilities).transpose()?;
    // Mesos counts it in MB.
    limits.shm_bytes = linux.shm_size.map(|mib| u64::from(mib) << 20);
    limits.shares_processes = linux.share_pid_namespace();
    limits.ipc = match linux.ipc_mode() {
        IpcMode::Private => Some(Ipc::Private),
        // Mesos: `NamespacesIPCIsolatorProcess::prepare`.
        IpcMode::ShareParent if limits.shm_bytes.is_some() => {
            return Err(
                "Shared memory size is not supported with 'SHARE_PARENT' ipc mode".to_owned()
            );
        }
        IpcMode::ShareParent => Some(Ipc::Parent),
        IpcMode::Unknown => None,
    };
    limits.seccomp = match &linux.seccomp {
        Some(asked) if asked.unconfined() && asked.profile_name.is_some() => {
            // Mesos: `validation::container::validate`.
            return Err("'profile_name' given for an unconfined Seccomp".to_owned());
        }
        Some(asked) if asked.unconfined() => Some(Seccomp::Unconfined),
        Some(asked) => asked.profile_name.clone().map(Seccomp::Profile),
        None => None,
    };
    Ok(())
}

fn capabilities(info: &pb::CapabilityInfo) -> Result<Capabilities, String> {
    let bit = |number: i32| {
        let bit = number.checked_sub(FIRST_CAPABILITY).and_then(|bit| u32::try_from(bit).ok());
        let set = bit.and_then(|bit| 1u64.checked_shl(bit)).map(Capabilities);
        set.filter(|one| one.are_among(Capabilities::ALL))
            .ok_or_else(|| format!("there is no capability {number}"))
    };
    let mut bits = info.capabilities.iter().copied().map(bit);
    bits.try_fold(Capabilities::default(), |all, one| Ok(Capabilities(all.0 | one?.0)))
}

fn rlimit(asked: &pb::r_limit_info::RLimit) -> Result<Rlimit, String> {
    let name = asked.r#type().as_str_name().to_owned();
    match (asked.soft, asked.hard) {
        (Some(_), Some(_)) | (None, None) => {
            Ok(Rlimit { name, soft: asked.soft, hard: asked.hard })
        }
        // Mesos: `common::validation::validateContainerInfo`.
        _ => {
            Err("Invalid RLimit: Either both or neither of hard and soft limits must be set"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(container: &pb::ContainerInfo) -> Result<TaskLimits, String> {
        let mut limits = TaskLimits::default();
        add(container, &mut limits).map(|()| limits)
    }

    #[test]
    fn capabilities_are_told_by_the_numbers_of_the_kernel() {
        let capabilities = vec![Capability::NetRaw.into(), Capability::Chown.into()];
        let linux = pb::LinuxInfo {
            effective_capabilities: Some(pb::CapabilityInfo { capabilities }),
            ..Default::default()
        };
        let container = pb::ContainerInfo { linux_info: Some(linux), ..Default::default() };
        let asked = added(&container).unwrap().effective_capabilities;
        assert_eq!(asked, Some("NET_RAW,CHOWN".parse().unwrap()));
        let unknown = pb::LinuxInfo {
            bounding_capabilities: Some(pb::CapabilityInfo { capabilities: vec![0] }),
            ..Default::default()
        };
        let container = pb::ContainerInfo { linux_info: Some(unknown), ..Default::default() };
        assert!(added(&container).is_err());
    }

    #[test]
    fn limits_of_processes_have_both_ends_or_none() {
        let asked = |soft, hard| {
            let kind = Some(pb::r_limit_info::r_limit::Type::RlmtNofile.into());
            let rlimits = vec![pb::r_limit_info::RLimit { r#type: kind, soft, hard }];
            let rlimit_info = Some(pb::RLimitInfo { rlimits });
            added(&pb::ContainerInfo { rlimit_info, ..Default::default() })
        };
        let limits = asked(Some(10), Some(20)).unwrap().rlimits;
        let expected = Rlimit { name: "RLMT_NOFILE".to_owned(), soft: Some(10), hard: Some(20) };
        assert_eq!(limits[..], [expected]);
        assert!(asked(None, None).is_ok());
        assert!(asked(Some(1), None).unwrap_err().contains("Either both or neither"));
    }

    #[test]
    fn a_profile_is_named_or_there_is_none() {
        let asked = |profile: Option<&str>, unconfined| {
            let profile_name = profile.map(str::to_owned);
            let seccomp = Some(pb::SeccompInfo { profile_name, unconfined });
            let linux_info = Some(pb::LinuxInfo { seccomp, ..Default::default() });
            added(&pb::ContainerInfo { linux_info, ..Default::default() })
        };
        let profile = asked(Some("x.json"), None).unwrap().seccomp;
        assert_eq!(profile, Some(Seccomp::Profile("x.json".to_owned())));
        assert_eq!(asked(None, Some(true)).unwrap().seccomp, Some(Seccomp::Unconfined));
        assert!(asked(Some("x.json"), Some(true)).is_err());
    }
}
