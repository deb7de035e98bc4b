//! Numbers of the API, which are doubles, and those of the core, which are whole.

use mesita_core::limits::{AMOUNT_MAX, DURATION_MAX_US};
use mesita_core::resources::Amount;

use crate::pb::mesos::v1::DurationInfo;

/// Why a double is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadNumber {
    /// Not a number, or infinite.
    NotFinite,
    /// Below zero.
    Negative,
    /// More than can be held.
    TooLarge,
}

impl std::fmt::Display for BadNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "is not a finite number",
            Self::Negative => "is below zero",
            Self::TooLarge => "is above 2^50 thousandths",
        })
    }
}

/// A double rounded to thousandths, half away from zero. Mesos: `common/values.cpp`.
pub(crate) fn amount(value: f64) -> Result<Amount, BadNumber> {
    if !value.is_finite() {
        return Err(BadNumber::NotFinite);
    }
    if value < 0.0 {
        return Err(BadNumber::Negative);
    }
    let milli = (value * 1000.0).round();
    #[allow(clippy::cast_precision_loss)] // 2^50 is exact.
    if milli > AMOUNT_MAX as f64 {
        return Err(BadNumber::TooLarge);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Within 0..=2^50.
    Ok(Amount::from_milli(milli as u64))
}

/// An amount as the double nearest to it.
pub(crate) fn double(amount: Amount) -> f64 {
    #[allow(clippy::cast_precision_loss)] // At most 2^50.
    let milli = amount.milli() as f64;
    milli / 1000.0
}

/// Seconds in µs, cut to the longest that is waited; none for what is no time: negative or not a
/// number.
pub(crate) fn micros(seconds: f64) -> Option<u64> {
    if seconds.is_nan() || seconds < 0.0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // Within 0..=DURATION_MAX_US, which is exact.
    let us = (seconds * 1e6).round().min(DURATION_MAX_US as f64) as u64;
    Some(us)
}

/// µs in seconds.
pub(crate) fn seconds(us: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 µs: 285 years.
    let us = us as f64;
    us / 1e6
}

/// A duration in µs; none if it is below zero.
pub(crate) fn duration(info: &DurationInfo) -> Option<u64> {
    Some((u64::try_from(info.nanoseconds).ok()? / 1000).min(DURATION_MAX_US))
}

/// µs as a duration.
pub(crate) fn duration_info(us: u64) -> DurationInfo {
    DurationInfo { nanoseconds: i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_is_rounded_to_thousandths() {
        assert_eq!(amount(0.1 + 0.2), Ok(Amount::from_milli(300)));
        assert_eq!(amount(0.0005), Ok(Amount::from_milli(1)));
        assert_eq!(amount(f64::NAN), Err(BadNumber::NotFinite));
        assert_eq!(amount(f64::INFINITY), Err(BadNumber::NotFinite));
        assert_eq!(amount(-1.0), Err(BadNumber::Negative));
        assert_eq!(amount(1e18), Err(BadNumber::TooLarge));
        assert!((double(Amount::from_milli(300)) - 0.3).abs() < f64::EPSILON);
    }

    #[test]
    fn times_are_cut_to_what_can_be_waited() {
        assert_eq!(micros(1.5), Some(1_500_000));
        assert_eq!(micros(1e300), Some(DURATION_MAX_US));
        assert_eq!((micros(-1.0), micros(f64::NAN)), (None, None));
        assert_eq!(duration(&DurationInfo { nanoseconds: -1 }), None);
        assert_eq!(duration(&duration_info(1_500)), Some(1_500));
    }
}
