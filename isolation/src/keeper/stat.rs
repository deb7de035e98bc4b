//! `/proc/PID/stat`: who a process is, as far as its number alone does not say.

/// The fields that tell processes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// A letter; `Z` for one that has ended and was not collected.
    pub(crate) state: char,
    /// It is about to end, or has.
    pub(crate) is_ending: bool,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// When it was made, in ticks of [`TICK_US`] since boot.
    pub(crate) born: u64,
    /// It goes by the name of a keeper.
    pub(crate) is_keeper: bool,
}

/// The kernel's flag of a process that ends.
const PF_EXITING: u64 = 4;

/// µs of a tick: the kernel's USER_HZ is 100 wherever Rust runs.
pub(crate) const TICK_US: u64 = 10_000;

impl Stat {
    /// Of a process that exists.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in it may hold anything, so fields are counted from the last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (before, fields) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3);
        Some(Self {
            state: field(3)?.chars().next()?,
            is_ending: field(9)?.parse::<u64>().ok()? & PF_EXITING != 0,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            born: field(22)?.parse().ok()?,
            is_keeper: name.as_bytes() == super::NAME.to_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_number_and_known_by_its_birth() {
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        let now = crate::sys::boottime_us() / TICK_US;
        assert!(own.born <= now && now - own.born < 100 * 3600, "{own:?} {now}");
    }

    #[test]
    fn a_name_cannot_pretend_to_be_fields() {
        let text = "7 (a) S 1 1 1) R 5 6 77 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        let expected = Stat {
            state: 'R',
            is_ending: false,
            parent: 5,
            session: 77,
            born: 4242,
            is_keeper: false,
        };
        let ends = text.replacen("0 -1 0", "0 -1 4228", 1);
        assert_eq!(Stat::parse(&ends), Some(Stat { is_ending: true, ..expected }));
        assert_eq!(Stat::parse(text), Some(expected));
        let keeper = text.replacen("a) S 1 1 1", "mesita-keeper", 1);
        assert_eq!(Stat::parse(&keeper), Some(Stat { is_keeper: true, ..expected }));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }
}
