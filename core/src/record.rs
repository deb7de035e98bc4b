//! Rows of tables: plain data that is all zero bytes when it was never used.

use bytemuck::Zeroable;

/// A value that memory full of zeros already is, known at compile time.
///
/// `ZERO` fills the statics of a microcontroller; [`Zeroable`] lets a daemon take pages from the
/// kernel that are only touched when used. Both must mean the same, which `record!` sees to.
pub trait Zero: Zeroable + Copy {
    /// The value of memory never written.
    const ZERO: Self;
}

macro_rules! zero_integers {
    ($($integer:ty)*) => {$(
        impl Zero for $integer {
            const ZERO: Self = 0;
        }
    )*};
}
zero_integers!(u8 u16 u32 u64);

impl Zero for bool {
    const ZERO: Self = false;
}

impl<T: Zero, const N: usize> Zero for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}

/// Declares a row: a struct of plain fields with everything a [`Table`](crate::table::Table) asks.
#[macro_export]
macro_rules! record {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $( $(#[$field_attribute:meta])* $field_visibility:vis $field:ident : $type:ty, )*
        }
    )*) => {$(
        $(#[$attribute])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            ::bytemuck::Zeroable, ::serde::Serialize, ::serde::Deserialize,
        )]
        $visibility struct $name {
            $( $(#[$field_attribute])* $field_visibility $field: $type, )*
        }

        impl $crate::record::Zero for $name {
            const ZERO: Self = Self { $( $field: $crate::record::Zero::ZERO, )* };
        }
    )*};
}

/// Declares a choice without payload as one byte on the wire and in a table. The first variant,
/// number 0, is what unused memory holds.
#[macro_export]
macro_rules! choice {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $(#[$first_attribute:meta])* $first:ident = 0,
            $( $(#[$variant_attribute:meta])* $variant:ident = $number:literal, )*
        }
    )*) => {$(
        $(#[$attribute])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default,
            ::bytemuck::Zeroable, ::serde::Serialize, ::serde::Deserialize,
        )]
        #[repr(u8)]
        $visibility enum $name {
            $(#[$first_attribute])* #[default] $first = 0,
            $( $(#[$variant_attribute])* $variant = $number, )*
        }

        impl $crate::record::Zero for $name {
            const ZERO: Self = Self::$first;
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        /// A row of every sort of field.
        struct Row {
            count: u64,
            flags: [u8; 3],
            seen: bool,
            choice: Choice,
        }
    }
    choice! {
        /// Two ways.
        enum Choice {
            /// What zero is.
            Unset = 0,
            /// What it is not.
            Set = 1,
        }
    }

    #[test]
    fn zero_at_compile_time_is_zero_in_memory() {
        const ROW: Row = Row::ZERO;
        assert_eq!(ROW, Row::zeroed());
        assert_ne!(Choice::Set, Choice::ZERO);
    }
}
