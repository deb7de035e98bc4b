//! What must hold whatever the input: broken means our own mistake, and nothing may go on.

/// Stops everything when `condition` does not hold; kept in release builds.
///
/// On a host it panics with file, line and the sentence given. On a microcontroller the line is
/// kept in [`stop::LINE`](crate::stop) for a debugger, and the panic handler of the image decides.
/// It is never for input: a peer's mistake is a refusal.
#[macro_export]
macro_rules! invariant {
    ($condition:expr, $why:literal) => {
        if !$condition {
            $crate::stop(line!(), concat!(file!(), ": ", $why));
        }
    };
}

/// Ends the program because an invariant named by `why` broke at `line`. Does not return.
///
/// Out of line and cold, so that a check costs one compare and one branch never taken.
#[cold]
#[inline(never)]
#[allow(clippy::panic)] // The one place of this crate that may: its callers have nothing left to decide.
pub fn stop(line: u32, why: &'static str) -> ! {
    #[cfg(target_os = "none")]
    {
        LINE.store(line, core::sync::atomic::Ordering::Relaxed);
        panic!("{}", why)
    }
    #[cfg(not(target_os = "none"))]
    panic!("invariant broken at line {line} of {why}")
}

/// The line of the invariant that stopped a microcontroller, for whoever looks at its memory.
#[cfg(target_os = "none")]
static LINE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "two is not one")]
    fn a_broken_invariant_stops_with_its_sentence() {
        let two = core::hint::black_box(2);
        invariant!(two == 1, "two is not one");
    }
}
