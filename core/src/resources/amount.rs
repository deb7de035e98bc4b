//! Amounts of scalar resources: whole thousandths, so that no sum ever depends on its order.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::AMOUNT_MAX;

/// An amount in thousandths of the resource's unit (cores, MiB), at most 2^50 of them.
///
/// Mesos rounds to thousandths before every comparison and sum (`common/values.cpp`); here nothing
/// else exists. On the wire a whole number takes the bytes of twice its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Amount(u64);

/// Why text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAmount {
    /// Not a decimal number.
    NotANumber,
    /// Below zero.
    Negative,
    /// Above 2^50 thousandths.
    TooLarge,
}

impl fmt::Display for NotAnAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "not a number",
            Self::Negative => "below zero",
            Self::TooLarge => "above 2^50 thousandths",
        })
    }
}

impl core::error::Error for NotAnAmount {}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many thousandths. Larger than the limit is possible here and refused where it matters.
    pub const fn from_milli(milli: u64) -> Self {
        Self(milli)
    }

    /// So many whole units.
    pub const fn from_units(units: u64) -> Self {
        Self(units.saturating_mul(1000))
    }

    /// Thousandths.
    pub const fn milli(self) -> u64 {
        self.0
    }

    /// Whole units, rounded down.
    pub const fn units(self) -> u64 {
        self.0 / 1000
    }

    /// The sum, unless it is above the limit.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) if sum <= AMOUNT_MAX => Some(Self(sum)),
            _ => None,
        }
    }

    /// The difference, unless it is below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// Reads a decimal number such as `4`, `0.5`, `.25` or `1e3`, rounding half away from zero to
    /// thousandths, as Mesos does. Digits beyond the fourth decide nothing but that rounding.
    pub fn parse(text: &str) -> Result<Self, NotAnAmount> {
        if let Some(positive) = text.strip_prefix('-') {
            if positive.starts_with(['-', '+']) {
                return Err(NotAnAmount::NotANumber);
            }
            let zero = Self::parse(positive)? == Self::ZERO;
            return if zero { Ok(Self::ZERO) } else { Err(NotAnAmount::Negative) };
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i32>().map_err(|_| NotAnAmount::NotANumber)?)
            }
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once(['.']).unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(NotAnAmount::NotANumber);
        }
        // The value is `digits` with the point moved `exponent + 3` places: thousandths.
        let mut point = i64::from(exponent).saturating_add(3);
        let mut milli = 0u64;
        let mut round = None;
        let after = fraction.bytes().map(|digit| (digit, true));
        for (digit, fractional) in whole.bytes().map(|digit| (digit, false)).chain(after) {
            if !digit.is_ascii_digit() {
                return Err(NotAnAmount::NotANumber);
            }
            let digit = u64::from(digit.wrapping_sub(b'0'));
            if fractional {
                point = point.saturating_sub(1);
            }
            // Digits left of the point by a negative exponent are cut once the number is whole.
            if fractional && point < 0 {
                round = round.or(Some(digit));
            } else {
                milli = append(milli, digit)?;
            }
        }
        while point > 0 {
            milli = append(milli, 0)?;
            point = point.saturating_sub(1);
        }
        if round.is_none() {
            // Only a negative exponent moves the point into the digits before it.
            while point < 0 && milli > 0 {
                round = Some(milli % 10);
                milli /= 10;
                point = point.saturating_add(1);
            }
            if point < 0 {
                round = None;
            }
        }
        let milli = milli.saturating_add(u64::from(round.is_some_and(|digit| digit >= 5)));
        if milli > AMOUNT_MAX { Err(NotAnAmount::TooLarge) } else { Ok(Self(milli)) }
    }
}

/// `milli` with one more decimal digit behind it.
fn append(milli: u64, digit: u64) -> Result<u64, NotAnAmount> {
    let more = milli.checked_mul(10).and_then(|milli| milli.checked_add(digit));
    more.filter(|&milli| milli <= AMOUNT_MAX.saturating_mul(10)).ok_or(NotAnAmount::TooLarge)
}

impl fmt::Display for Amount {
    /// Whole, or with as many of its three decimals as are not zero at the end: `4`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, milli) = (self.0 / 1000, self.0 % 1000);
        match (milli % 1000, milli % 100, milli % 10) {
            (0, _, _) => write!(f, "{units}"),
            (_, 0, _) => write!(f, "{units}.{}", milli / 100),
            (_, _, 0) => write!(f, "{units}.{:02}", milli / 10),
            _ => write!(f, "{units}.{milli:03}"),
        }
    }
}

impl crate::record::Zero for Amount {
    const ZERO: Self = Self(0);
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0.is_multiple_of(1000);
        let number = if whole { self.0 / 1000 } else { self.0 };
        (number.saturating_mul(2) | u64::from(!whole)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let milli = match (number / 2, number % 2) {
            (units, 0) => units.checked_mul(1000),
            (milli, _) => (!milli.is_multiple_of(1000)).then_some(milli),
        };
        let refuse = || serde::de::Error::custom("an amount not in its shortest form");
        milli.filter(|&milli| milli <= AMOUNT_MAX).map(Self).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn decimal_text_is_rounded_to_thousandths_half_away_from_zero() {
        for (text, milli) in [
            ("4", 4_000),
            ("0.5", 500),
            (".25", 250),
            ("3.", 3_000),
            ("0.0005", 1),
            ("0.00049", 0),
            ("0.9996", 1_000),
            ("0.9995", 1_000),
            ("1e3", 1_000_000),
            ("1.5E2", 150_000),
            ("25e-1", 2_500),
            ("15e-4", 2),
            ("1e-9", 0),
            ("5e-4", 1),
            ("5e-5", 0),
            ("0012", 12_000),
            ("+1", 1_000),
            ("-0", 0),
            ("17592186044.416", 17_592_186_044_416),
        ] {
            assert_eq!(Amount::parse(text), Ok(Amount(milli)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_by_name() {
        for text in ["", ".", "four", "1.2.3", "0x4", "1e", "nan", "inf", "1 ", "--1", "1_000"] {
            assert_eq!(Amount::parse(text), Err(NotAnAmount::NotANumber), "{text:?}");
        }
        assert_eq!(Amount::parse("-1"), Err(NotAnAmount::Negative));
        assert_eq!(Amount::parse("1125899906842.625"), Err(NotAnAmount::TooLarge));
        assert_eq!(Amount::parse("1e300"), Err(NotAnAmount::TooLarge));
        assert_eq!(Amount::parse("99999999999999999999999"), Err(NotAnAmount::TooLarge));
    }

    #[test]
    fn an_amount_not_in_its_shortest_form_is_refused() {
        assert!(decode::<Amount>(&[9]).is_ok(), "four thousandths");
        // 2,001 = 1,000 thousandths, which is one unit and must be written 2.
        assert!(decode::<Amount>(&[0xd1, 0x0f]).is_err());
    }

    proptest! {
        #[test]
        fn amounts_survive_text_and_wire(milli in 0..=AMOUNT_MAX) {
            let amount = Amount(milli);
            prop_assert_eq!(Amount::parse(&amount.to_string()), Ok(amount));
            let mut bytes = [0; 10];
            prop_assert_eq!(decode::<Amount>(encode(&amount, &mut bytes).unwrap()), Ok(amount));
        }

        #[test]
        fn parsing_agrees_with_exact_decimals(whole in 0u64..1_000_000, cents in 0u32..10_000) {
            let exact = whole * 1000 + u64::from((cents + 5) / 10);
            let text = format!("{whole}.{cents:04}");
            prop_assert_eq!(Amount::parse(&text), Ok(Amount(exact)));
        }
    }
}
