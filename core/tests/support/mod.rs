//! What the integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

pub mod allocation;
pub mod rig;
pub mod show;
pub mod text;

use mesita_core::capacity::Lender;
use mesita_core::record::Zero;

/// Lends memory that nobody ever takes back.
pub struct Leak;

impl Lender<'static> for Leak {
    fn lend<T: Zero + 'static>(&mut self, rows: u32) -> &'static mut [T] {
        Box::leak(vec![T::ZERO; rows as usize].into_boxed_slice())
    }
}
