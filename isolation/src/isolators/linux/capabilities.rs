//! `linux/capabilities`: a task has none of what only root may do but what it is granted, whoever it
//! runs as.
//!
//! `--effective-capabilities` is what a task has that does not ask, and the most that one may ask
//! for; `--bounding-capabilities` is what programs that it executes can ever get, and never less than
//! that. Without either there are none. Mesos: `linux/capabilities`, where tasks of root have all
//! unless the flags are given.

use std::fmt;
use std::str::FromStr;

use crate::isolators::{Additions, Container, Error, Ground, Isolator, TaskLimits, Unusable};
use crate::keeper::wall::Wall;

/// What it does.
pub(crate) const ABOUT: &str =
    "no capabilities but what --effective-capabilities grants, not even for root";

/// The kernel's names, by number, as in `CAP_CHOWN`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, a bit for each by the kernel's number.
///
/// Reads from names with or without `CAP_`, between commas, `ALL`, or Mesos'
/// `{"capabilities":["NET_RAW"]}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// All that this release knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// By its name, with or without `CAP_`.
    fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        if name == "ALL" {
            return Some(Self::ALL);
        }
        NAMES.iter().position(|known| *known == name).map(|number| Self(1 << number))
    }

    /// True when all of these are among those.
    pub const fn are_among(self, those: Self) -> bool {
        self.0 & !those.0 == 0
    }

    /// True when one of this name is among them; an unknown one is not.
    pub(super) fn has(self, name: &str) -> bool {
        Self::named(name).is_some_and(|one| one.are_among(self))
    }
}

impl FromStr for Capabilities {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Info {
            capabilities: Vec<String>,
        }
        let names = if text.trim_start().starts_with('{') {
            let info: Info = serde_json::from_str(text).map_err(|error| error.to_string())?;
            info.capabilities
        } else {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        };
        names.iter().try_fold(Self::default(), |all, name| match Self::named(name) {
            Some(one) => Ok(Self(all.0 | one.0)),
            None => Err(format!("there is no capability `{}`", name.escape_debug())),
        })
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |number: &usize| self.0 >> number & 1 == 1;
        for (at, number) in (0..NAMES.len()).filter(has).enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "," }, NAMES[number])?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Isolated {
    effective: Capabilities,
    bounding: Capabilities,
}

pub(crate) fn make(ground: &Ground<'_>) -> Result<Box<dyn Isolator>, Unusable> {
    let effective = ground.options.effective_capabilities.unwrap_or_default();
    let bounding = ground.options.bounding_capabilities.unwrap_or(effective);
    if !effective.are_among(bounding) {
        let why =
            format!("--effective-capabilities {effective} are not among the bounding {bounding}");
        return Err(Unusable::Flag(why));
    }
    ground.require_walls()?;
    Ok(Box::new(Isolated { effective, bounding }))
}

/// What a task gets, given what it may have.
fn granted(
    asked: Option<Capabilities>,
    most: Capabilities,
    what: &'static str,
) -> Result<Capabilities, Error> {
    match asked {
        None => Ok(most),
        Some(asked) if asked.are_among(most) => Ok(asked),
        Some(asked) => {
            let (asked, most) = (asked.to_string(), most.to_string());
            Err(Error::Capabilities { what, asked, most })
        }
    }
}

impl Isolator for Isolated {
    fn prepare(
        &self,
        _: &Container<'_>,
        limits: &TaskLimits,
        additions: &mut Additions,
    ) -> Result<(), Error> {
        self.beside(limits, additions)
    }

    fn beside(&self, limits: &TaskLimits, additions: &mut Additions) -> Result<(), Error> {
        let effective = granted(limits.effective_capabilities, self.effective, "effective")?;
        let bounding = match limits.bounding_capabilities {
            // Who asks for less does not keep the rest in reserve.
            None if limits.effective_capabilities.is_some() => effective,
            asked => granted(asked, self.bounding, "bounding")?,
        };
        if !effective.are_among(bounding) {
            let (asked, most) = (effective.to_string(), bounding.to_string());
            return Err(Error::Capabilities { what: "effective", asked, most });
        }
        let (bounding, effective) = (bounding.0, effective.0);
        additions.walls.push(Wall::Capabilities { bounding, effective });
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

    fn set(text: &str) -> Option<Capabilities> {
        Some(text.parse().unwrap())
    }

    fn wall(flags: [&str; 2], asked: [Option<&str>; 2]) -> Result<(String, String), String> {
        let sys = Fake::bare();
        let flag = |text: &str| (text != "-").then(|| text.parse().unwrap());
        let options = Options {
            effective_capabilities: flag(flags[0]),
            bounding_capabilities: flag(flags[1]),
            ..options(Some(&["linux/capabilities"]))
        };
        let isolation = Isolation::new(&options, &sys).map_err(|why| why.to_string())?.0;
        let limits = TaskLimits {
            effective_capabilities: asked[0].and_then(set),
            bounding_capabilities: asked[1].and_then(set),
            ..TaskLimits::default()
        };
        let prepared = isolation.prepare(CONTAINER, &limits).map_err(|why| why.to_string())?;
        let [Wall::Capabilities { bounding, effective }] = prepared.additions.walls[..] else {
            panic!("{prepared:?}")
        };
        Ok((Capabilities(effective).to_string(), Capabilities(bounding).to_string()))
    }

    #[test]
    fn a_task_has_none_unless_they_are_granted_and_no_more_than_that() {
        let is = |effective: &str, bounding: &str| Ok((effective.to_owned(), bounding.to_owned()));
        assert_eq!(wall(["-", "-"], [None, None]), is("", ""));
        assert_eq!(wall(["NET_RAW", "-"], [None, None]), is("NET_RAW", "NET_RAW"));
        let most = ["NET_RAW,KILL", "NET_RAW,KILL,CHOWN"];
        assert_eq!(wall(most, [None, None]), is("KILL,NET_RAW", "CHOWN,KILL,NET_RAW"));
        assert_eq!(wall(most, [Some("KILL"), None]), is("KILL", "KILL"));
        assert_eq!(wall(most, [Some(""), Some("CHOWN")]), is("", "CHOWN"));
        let refused = wall(most, [Some("SYS_ADMIN"), None]).unwrap_err();
        assert!(refused.contains("SYS_ADMIN") && refused.contains("KILL,NET_RAW"), "{refused}");
        let none = wall(["-", "-"], [Some("SYS_ADMIN"), None]).unwrap_err();
        assert!(none.contains("are SYS_ADMIN, and none are allowed; "), "{none}");
        assert!(wall(most, [Some("KILL"), Some("CHOWN")]).is_err(), "not among its own");
        assert!(wall(["KILL", "CHOWN"], [None, None]).is_err(), "the flags contradict each other");
    }

    #[test]
    fn sets_are_read_in_both_forms() {
        let both = set("CAP_NET_RAW, SYS_ADMIN");
        assert_eq!(set(r#"{"capabilities":["NET_RAW","SYS_ADMIN"]}"#), both);
        assert_eq!(both.unwrap().0, 1 << 13 | 1 << 21);
        assert_eq!(set("ALL"), Some(Capabilities::ALL));
        assert!("NET_RAW,FLY".parse::<Capabilities>().unwrap_err().contains("FLY"));
        assert!(r#"{"caps":[]}"#.parse::<Capabilities>().is_err());
    }
}
