//! What a field may hold, and how a refusal names the field that holds something else.

use core::fmt;

use crate::limits::{DURATION_MAX_US, NAME_MAX, ROLE_DEPTH_MAX};

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end before the value does.
    EndsEarly,
    /// The value ends before the bytes do.
    TrailingBytes,
    /// Text that is not UTF-8.
    NotText,
    /// A number written in more bytes than its type has, or not in its shortest form.
    BadNumber,
    /// A variant that this version does not know, or a value outside its type.
    Unknown,
    /// Empty where something is required.
    Empty,
    /// Longer than this many bytes.
    TooLong(u32),
    /// More than this many elements.
    TooMany(u32),
    /// Above this bound.
    Above(u64),
    /// Below this bound.
    Below(u64),
    /// Characters or a form that such a name may not have.
    BadName,
    /// Two elements that must differ do not, or a range overlaps or follows out of order.
    Repeated,
    /// A checksum, tag or hash that does not match.
    Checksum,
    /// The field contradicts another one.
    Contradiction,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EndsEarly => f.write_str("ends early"),
            Self::TrailingBytes => f.write_str("is followed by bytes that belong to nothing"),
            Self::NotText => f.write_str("is not UTF-8 text"),
            Self::BadNumber => f.write_str("is a number not in its shortest form"),
            Self::Unknown => f.write_str("has a variant or value unknown to this version"),
            Self::Empty => f.write_str("is empty"),
            Self::TooLong(max) => write!(f, "is longer than {max} bytes"),
            Self::TooMany(max) => write!(f, "has more than {max} elements"),
            Self::Above(max) => write!(f, "is above {max}"),
            Self::Below(min) => write!(f, "is below {min}"),
            Self::BadName => f.write_str("is not a valid name"),
            Self::Repeated => f.write_str("repeats or overlaps an earlier element"),
            Self::Checksum => f.write_str("does not match its checksum"),
            Self::Contradiction => f.write_str("contradicts another field"),
        }
    }
}

/// A message that no machine may see: which field, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field as the documentation names it, such as `launch.grace`.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.fault)
    }
}

impl core::error::Error for Malformed {}

/// A message that can say whether its fields are within their limits, looking at itself alone.
pub trait Check {
    /// Refuses the first field that is not. O(message).
    fn check(&self) -> Result<(), Malformed>;
}

macro_rules! nothing_to_check {
    ($($type:ty)*) => {$(
        impl $crate::wire::Check for $type {
            fn check(&self) -> Result<(), $crate::wire::Malformed> {
                ::core::result::Result::Ok(())
            }
        }
    )*};
}
pub(crate) use nothing_to_check;

nothing_to_check!(u8 u16 u32 u64 bool);

impl Check for &str {
    fn check(&self) -> Result<(), Malformed> {
        name("name", self)
    }
}

/// `Err` of the fault unless `holds`.
pub(crate) fn require(holds: bool, field: &'static str, fault: Fault) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed { field, fault }) }
}

/// Text of at most `max` bytes.
pub(crate) fn text(field: &'static str, text: &str, max: usize) -> Result<(), Malformed> {
    require(text.len() <= max, field, Fault::TooLong(count(max)))
}

/// A name of at most [`NAME_MAX`] bytes; empty is allowed and means "not given".
pub(crate) fn name(field: &'static str, name: &str) -> Result<(), Malformed> {
    text(field, name, NAME_MAX)
}

/// A name that must be given.
pub(crate) fn given(field: &'static str, given: &str) -> Result<(), Malformed> {
    require(!given.is_empty(), field, Fault::Empty)?;
    name(field, given)
}

/// A duration in µs, at most a year.
pub(crate) fn duration(field: &'static str, us: u64) -> Result<(), Malformed> {
    require(us <= DURATION_MAX_US, field, Fault::Above(DURATION_MAX_US))
}

/// A role path by Mesos' rules (`roles.cpp`): `*`, or components parted by `/`, none of them
/// empty, `.`, `..`, `*`, beginning with `-`, or holding white space or control characters of ASCII;
/// depth at most 16.
pub fn role(field: &'static str, role: &str) -> Result<(), Malformed> {
    given(field, role)?;
    if role == "*" {
        return Ok(());
    }
    require(
        role.split(['/']).nth(ROLE_DEPTH_MAX).is_none(),
        field,
        Fault::TooMany(count(ROLE_DEPTH_MAX)),
    )?;
    for part in role.split(['/']) {
        let forbidden = matches!(part, "" | "." | ".." | "*")
            || part.starts_with('-')
            || part.bytes().any(|b| b == b' ' || b.is_ascii_control());
        require(!forbidden, field, Fault::BadName)?;
    }
    Ok(())
}

/// An id that may name a file (Mesos: `common::validation::validateID`): 1 to 255 bytes, not `.`
/// or `..`, without control characters and slashes of either kind.
pub(crate) fn id(field: &'static str, id: &str) -> Result<(), Malformed> {
    given(field, id)?;
    let forbidden =
        matches!(id, "." | "..") || id.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'));
    require(!forbidden, field, Fault::BadName)
}

/// A length as the faults carry it.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Names what postcard found wrong.
pub(crate) fn of_postcard(error: postcard::Error) -> Malformed {
    use postcard::Error;
    // postcard's list may grow; what it does not tell apart is an unknown value.
    #[allow(clippy::wildcard_enum_match_arm)]
    let fault = match error {
        Error::DeserializeUnexpectedEnd => Fault::EndsEarly,
        Error::DeserializeBadUtf8 => Fault::NotText,
        Error::DeserializeBadVarint => Fault::BadNumber,
        _ => Fault::Unknown,
    };
    Malformed { field: "head", fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn roles_follow_the_rules_of_mesos() {
        for good in ["*", "eng", "eng/web", "a.b", "a-b/c", "ümlaut"] {
            assert_eq!(role("role", good), Ok(()), "{good}");
        }
        for bad in [
            "", "/a", "a/", "a//b", ".", "a/..", "a/*", "-a", "a/-b", "a b", "a\t", "a\0", "a/\x1b",
        ] {
            assert!(role("role", bad).is_err(), "{bad:?}");
        }
        assert!(role("role", &["a"; 16].join("/")).is_ok());
        assert!(role("role", &["a"; 17].join("/")).is_err());
    }

    #[test]
    fn ids_are_names_of_files() {
        for good in ["a", "task.1", "a b", "ä", &"x".repeat(255)] {
            assert_eq!(id("task", good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(id("task", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_what_is_wrong() {
        let refused = name("offer.role", &"x".repeat(300)).unwrap_err();
        assert_eq!(refused.to_string(), "offer.role is longer than 255 bytes");
    }
}
