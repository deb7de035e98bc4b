//! Whether what a master ordered may still begin: only while it answers.
//!
//! A master that has heard nothing for A gives an agent up, and what ran there is started elsewhere. So
//! an agent's session is fresh for 0.75 A from when the newest question was asked that was answered.

use mesita_core::mutant::{Mutant, planted};
use mesita_core::time::Time;
use mesita_core::wire::Session;

/// How long a session lasts without an answer, where silence for `timeout_us` gives the agent up.
pub(crate) const fn session_us(timeout_us: u64) -> u64 {
    timeout_us / 4 * 3
}

/// Until when something may begin that was ordered in this session, if the newest question that was
/// answered was asked at `contact`. None: not any more, before there is another session.
pub(crate) fn fresh_until(
    session: Session,
    contact: Time,
    timeout_us: u64,
    now: Time,
) -> Option<Time> {
    let until = contact.after(session_us(timeout_us));
    let fresh = timeout_us > 0 && session != Session::default() && now < until;
    (fresh || planted(Mutant::StartsWithoutWord)).then_some(until)
}
