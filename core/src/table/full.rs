//! Tables and rings say in one way that they are full. Nothing else is here, because `loom-tests` reads this
//! file as well.

/// No room left: the capacity is that of the table or ring, and nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;
