//! Profiles of system calls: the one that every task has, and those of files in Docker's format, which
//! is Mesos' as well.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::calls;
use super::capabilities::Capabilities;
use super::filter::{Action, Compare, Condition, Filter, Rule};

/// Bytes of a profile's file.
pub(super) const PROFILE_MAX: u64 = 256 * 1024;

/// What no task may call unless it is unconfined: what changes mounts and namespaces, looks into
/// other processes, loads code into the kernel, or reaches parts of it that have been the way out of
/// many containers.
const DENIED: [&str; 57] = [
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "umount2",
    "umount",
    "unshare",
    "userfaultfd",
    "uselib",
    "vhangup",
    "vm86",
];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: u64 = 0x7e02_0080;
/// Requests of ioctl(2) that type into a terminal: `TIOCSTI` and `TIOCLINUX`.
const TYPING: [u64; 2] = [0x5412, 0x541c];
/// Families of sockets: the kernel's cryptography, and virtual machines' hosts.
const FAMILIES: [u64; 2] = [38, 40];

/// The profile that a task has that names none.
pub(super) fn own() -> Filter {
    let denied = Action::errno(libc::EPERM);
    let always = |(name, action): (&str, Action)| {
        let number = calls::number(name)?;
        Some(Rule { number, conditions: Vec::new(), action })
    };
    let names = DENIED.into_iter().map(|name| (name, denied));
    // What it would make cannot be seen in its arguments; clone(2) is what callers fall back on.
    let mut rules: Vec<Rule> =
        names.chain([("clone3", Action::errno(libc::ENOSYS))]).filter_map(always).collect();
    let mut when = |name: &str, conditions: Vec<Condition>| {
        let rule = |number| Rule { number, conditions, action: denied };
        rules.extend(calls::number(name).map(rule));
    };
    for bit in (0..64).map(|bit| 1 << bit).filter(|bit| NAMESPACES & bit != 0) {
        when("clone", vec![Condition { argument: 0, compare: Compare::Masked(bit), value: bit }]);
    }
    for value in TYPING {
        let low = Compare::Masked(u64::from(u32::MAX));
        when("ioctl", vec![Condition { argument: 1, compare: low, value }]);
    }
    for value in FAMILIES {
        let low = Compare::Masked(u64::from(u32::MAX));
        when("socket", vec![Condition { argument: 0, compare: low, value }]);
    }
    Filter { otherwise: Action::ALLOW, unknown_from: calls::last() + 1, rules }
}

/// A profile as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: String,
    default_errno_ret: Option<i32>,
    #[serde(default)]
    syscalls: Vec<Group>,
}

/// Calls that one thing becomes of.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<i32>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Only,
    #[serde(default)]
    excludes: Only,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Which tasks and machines a group is for. What is not known here, such as versions of kernels, is
/// taken to hold.
#[derive(Clone, Debug, Default, Deserialize)]
struct Only {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

impl Profile {
    /// Reads it, and says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let profile: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        // Whatever a task may do, it must be a profile.
        profile.filter(Capabilities::ALL)?;
        profile.filter(Capabilities::default())?;
        Ok(profile)
    }

    /// The filter of a task that has these capabilities.
    pub(super) fn filter(&self, has: Capabilities) -> Result<Filter, String> {
        let otherwise = action(&self.default_action, self.default_errno_ret)?;
        let mut rules = Vec::new();
        for group in self.syscalls.iter().filter(|group| group.is_for(has)) {
            let action = action(&group.action, group.errno_ret)?;
            let conditions = group.args.iter().flatten().map(Argument::read);
            let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
            // A call that this machine does not have cannot be called here.
            let names = group.names.iter().chain(&group.name);
            let numbers = names.filter_map(|name| calls::number(name));
            rules.extend(numbers.map(|number| Rule {
                number,
                conditions: conditions.clone(),
                action,
            }));
        }
        Ok(Filter { otherwise, unknown_from: 0, rules })
    }
}

impl Group {
    fn is_for(&self, has: Capabilities) -> bool {
        let here = |arches: &[String]| arches.iter().any(|arch| arch == arch_name());
        let included = self.includes.caps.iter().all(|name| has.has(name));
        let excluded = self.excludes.caps.iter().any(|name| has.has(name));
        let included = included && (self.includes.arches.is_empty() || here(&self.includes.arches));
        included && !excluded && !here(&self.excludes.arches)
    }
}

impl Argument {
    fn read(&self) -> Result<Condition, String> {
        let (compare, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Compare::Equal, self.value),
            "SCMP_CMP_NE" => (Compare::NotEqual, self.value),
            "SCMP_CMP_LT" => (Compare::Less, self.value),
            "SCMP_CMP_LE" => (Compare::LessOrEqual, self.value),
            "SCMP_CMP_GT" => (Compare::Greater, self.value),
            "SCMP_CMP_GE" => (Compare::GreaterOrEqual, self.value),
            "SCMP_CMP_MASKED_EQ" => (Compare::Masked(self.value), self.value_two),
            other => return Err(format!("there is no `op` of `{}`", other.escape_debug())),
        };
        if self.index > 5 {
            return Err(format!("there is no argument {} of a system call", self.index));
        }
        Ok(Condition { argument: self.index, compare, value })
    }
}

fn action(name: &str, errno: Option<i32>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::ALLOW,
        "SCMP_ACT_LOG" => Action::LOG,
        "SCMP_ACT_TRAP" => Action::TRAP,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => Action::KILL_PROCESS,
        "SCMP_ACT_ERRNO" => Action::errno(errno.unwrap_or(libc::EPERM)),
        other => return Err(format!("there is no action `{}`", other.escape_debug())),
    })
}

/// This machine, as profiles call it.
const fn arch_name() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "x86") {
        "x86"
    } else if cfg!(target_arch = "riscv64") {
        "riscv64"
    } else {
        "arm"
    }
}

/// Profiles by name, read once.
pub(super) type Profiles = BTreeMap<String, Profile>;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(filter: &Filter, name: &str) -> Vec<Action> {
        let number = calls::number(name).unwrap();
        let of = filter.rules.iter().filter(|rule| rule.number == number);
        of.map(|rule| rule.action).collect()
    }

    #[test]
    fn the_own_profile_is_a_program_and_denies_what_it_names() {
        let own = own();
        assert!(own.program().is_some());
        let denied = Action::errno(libc::EPERM);
        for name in ["mount", "bpf", "unshare", "keyctl", "ptrace"] {
            assert_eq!(rules(&own, name), [denied], "{name}");
        }
        assert_eq!(rules(&own, "clone3"), [Action::errno(libc::ENOSYS)]);
        assert_eq!(rules(&own, "clone").len(), 8, "each kind of namespace");
        assert_eq!(rules(&own, "read"), []);
        assert!(own.unknown_from > 400);
    }

    #[test]
    fn a_profile_in_dockers_format_is_read_for_the_capabilities_of_a_task() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
            "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": [],
                 "includes": {"minKernel": "4.8"}, "excludes": {}},
                {"name": "personality", "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "args": null,
                 "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                 "excludes": {"caps": ["CAP_SYS_ADMIN"]}}
            ]}"#;
        let profile = Profile::read(text).unwrap();
        let plain = profile.filter(Capabilities::default()).unwrap();
        assert_eq!(plain.otherwise, Action::errno(38));
        assert_eq!(rules(&plain, "read"), [Action::ALLOW]);
        assert_eq!(rules(&plain, "mount"), []);
        assert_eq!(rules(&plain, "unshare"), [Action::errno(1)]);
        let admin = profile.filter("SYS_ADMIN".parse().unwrap()).unwrap();
        assert_eq!(rules(&admin, "mount"), [Action::ALLOW]);
        assert_eq!(rules(&admin, "unshare"), []);
    }

    #[test]
    fn a_profile_that_makes_no_sense_is_refused_in_a_sentence() {
        let bad = |text: &str| Profile::read(text).unwrap_err();
        assert!(bad("{}").contains("defaultAction"));
        assert!(bad(r#"{"defaultAction": "SCMP_ACT_SMILE"}"#).contains("SCMP_ACT_SMILE"));
        let one = |argument: &str| {
            let call = format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{argument}]}}"#
            );
            bad(&format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{call}]}}"#))
        };
        assert!(one(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#).contains("argument 6"));
        assert!(one(r#"{"index": 0, "value": 0, "op": "SCMP_CMP_OH"}"#).contains("SCMP_CMP_OH"));
    }
}
