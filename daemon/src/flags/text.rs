//! Durations and sizes as people write them.

use std::fmt;
use std::str::FromStr;

use mesita_core::limits::NAME_MAX;

/// A duration: `5secs`, `5s`, `100ms`, `1.5hrs`. Mesos: `Duration::parse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duration {
    /// In µs.
    pub(crate) us: u64,
}

/// A number of bytes: `64MiB`, `64MB`, `64` (MiB). Mesos: `Bytes::parse`, where MB is 2^20.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// In bytes.
    pub(crate) bytes: u64,
}

/// A part of a whole: `50%`, `0.8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Thousandths.
    pub(crate) milli: u32,
}

/// So many in a time: `1/10mins`. Mesos: `RateLimiter`'s flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// From one to the next, in µs.
    pub(crate) every_us: u64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use mesita_core::resources::Amount;
        let (number, parts) = match text.strip_suffix('%') {
            Some(number) => (number, 100),
            None => (text, 1),
        };
        let milli = Amount::parse(number).ok().map(|amount| amount.milli() / parts);
        let milli = milli.and_then(|milli| u32::try_from(milli).ok());
        let milli = milli.filter(|milli| *milli <= 1_000);
        milli.map(|milli| Self { milli }).ok_or_else(|| "expected 0% to 100%, or 0 to 1".to_owned())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}%", self.milli / 10, self.milli % 10)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, within) = text.split_once('/').unwrap_or_default();
        let count = count.parse::<u64>().ok().filter(|count| *count > 0);
        let within = within.parse::<Duration>().ok();
        let every = count.zip(within).map(|(count, within)| within.us / count);
        // In no time there would be no limit, which is what the flag is without.
        let every = every.filter(|every_us| *every_us > 0);
        every
            .map(|every_us| Self { every_us })
            .ok_or_else(|| "expected a number in a time, such as 1/10mins".to_owned())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{}", Duration { us: self.every_us })
    }
}

/// Names of units and how many of the smallest they are, the one to print with last.
const DURATIONS: [(&[&str], u64); 8] = [
    (&["ns"], 0),
    (&["us", "µs"], 1),
    (&["ms"], 1_000),
    (&["secs", "sec", "s"], 1_000_000),
    (&["mins", "min", "m"], 60_000_000),
    (&["hrs", "hr", "h"], 3_600_000_000),
    (&["days", "day", "d"], 86_400_000_000),
    (&["weeks", "week", "w"], 604_800_000_000),
];
const SIZES: [(&[&str], u64); 5] = [
    (&["B"], 1),
    (&["KiB", "KB", "K"], 1 << 10),
    (&["MiB", "MB", "M", ""], 1 << 20),
    (&["GiB", "GB", "G"], 1 << 30),
    (&["TiB", "TB", "T"], 1 << 40),
];

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self { us: 0 });
        }
        let us = quantity(text, &DURATIONS);
        us.map(|us| Self { us })
            .ok_or_else(|| "expected a duration such as 5secs, 100ms or 1hrs".to_owned())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.us, &DURATIONS, f)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = quantity(text, &SIZES);
        let expected = || "expected a size such as 64MiB or 1GiB; a bare number is MiB".to_owned();
        bytes.map(|bytes| Self { bytes }).ok_or_else(expected)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.bytes, &SIZES, f)
    }
}

/// A size that is one: what bounds nothing is left away.
pub(crate) fn some_size(text: &str) -> Result<Size, String> {
    match text.parse::<Size>()? {
        Size { bytes: 0 } => Err("expected more than nothing".to_owned()),
        size => Ok(size),
    }
}

/// A name of a host, which is told to people, in addresses of pages and to other machines.
pub(crate) fn hostname(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    if text.is_empty() || text.len() > NAME_MAX || text.contains(bad) {
        return Err(format!(
            "no name of a host: 1 to {NAME_MAX} bytes, without blanks, control characters and `/`"
        ));
    }
    Ok(text.to_owned())
}

/// A number with a fraction of at most three digits, times its unit.
fn quantity(text: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, unit) = units.iter().find(|(names, _)| names.contains(&unit.trim()))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u64>().ok()?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths)?;
    Some(whole.checked_mul(*unit)? / 1_000)
}

fn shown(value: u64, units: &[(&[&str], u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |unit: u64| unit > 0 && value >= unit && value.is_multiple_of(unit);
    let best = units.iter().rev().find(|(_, unit)| fits(*unit)).or_else(|| {
        // Zero, in the unit that is thought in.
        units.get(3).filter(|_| value == 0)
    });
    match best {
        Some((names, unit)) => write!(f, "{}{}", value / unit, names[0]),
        None => write!(f, "{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_nothing_is_none() {
        assert_eq!(some_size("1B").map(|size| size.bytes), Ok(1));
        for none in ["0", "0B", "0GiB"] {
            assert_eq!(some_size(none).map(drop), Err("expected more than nothing".to_owned()));
        }
        assert!(some_size("much").unwrap_err().contains("64MiB"));
    }

    #[test]
    fn durations_are_read_as_mesos_reads_them() {
        for (text, us) in [
            ("5secs", 5_000_000),
            ("5s", 5_000_000),
            ("100ms", 100_000),
            ("1.5hrs", 5_400_000_000),
            ("0", 0),
            ("0ns", 0),
            ("2weeks", 1_209_600_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Duration { us }), "{text}");
        }
        for text in ["", "5", "s", "5 parsecs", "-5s", "1e3s", "99999999999999weeks", "1.2345s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_and_bare_numbers_mebibytes() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("64MB", 64 << 20), ("64", 64 << 20), ("1.5KB", 1536)]
        {
            assert_eq!(text.parse(), Ok(Size { bytes }), "{text}");
        }
        assert!("64 bytes".parse::<Size>().is_err());
    }

    #[test]
    fn a_name_of_a_host_is_one_word() {
        for good in ["rack-1", "10.0.0.1", "fe80::1", "größe.example"] {
            assert_eq!(hostname(good), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a\nb", "a\tb", "a\u{7f}", "a/b", &"x".repeat(NAME_MAX + 1)] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_rate_is_a_number_in_some_time() {
        assert_eq!("2/10mins".parse(), Ok(Rate { every_us: 300_000_000 }));
        for text in ["", "1", "1/", "0/10mins", "1/0secs", "1/0", "10/1us"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for us in [0, 1, 1_000, 10_000_000, 90_000_000, 604_800_000_000] {
            let duration = Duration { us };
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert_eq!(Duration { us: 60_000_000 }.to_string(), "1mins");
        assert_eq!(Size { bytes: 64 << 20 }.to_string(), "64MiB");
    }
}
