//! Whole clusters: real processes of the built binary, on real input.
//!
//! What a machine lacks makes a test print `SKIPPED` with the reason. Nothing here measures speed:
//! conditions are waited for, with a bound that a busy machine keeps.

mod bad_input;
mod doors;
mod kills;
mod runs;
mod world;
