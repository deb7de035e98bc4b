//! Core's scenario on a microcontroller: prints its digests through the debugger, then ends.
#![no_std]
#![no_main]

#[path = "../../../core/tests/support/scenario.rs"]
mod scenario;

use core::fmt::Write as _;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio;

#[entry]
fn main() -> ! {
    let mut written = Ok(());
    match hio::hstdout() {
        Ok(mut stdout) => scenario::run(&mut |name, digest| {
            for bytes in [name.as_bytes(), b" ", &hex(digest), b"\n"] {
                written = written.and_then(|()| stdout.write_all(bytes));
            }
        }),
        Err(()) => written = Err(()),
    }
    end(if written.is_ok() { EXIT_SUCCESS } else { EXIT_FAILURE })
}

/// 16 digits, without the formatting of `core`.
fn hex(digest: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (digit, shift) in digits.iter_mut().rev().zip((0..64).step_by(4)) {
        let nibble = (digest >> shift) as u8 & 15;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    }
    digits
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(mut stderr) = hio::hstderr() {
        // Nobody is left to be told of a failure to say what failed.
        let _ = writeln!(stderr, "{info}");
    }
    end(EXIT_FAILURE)
}

/// Ends QEMU with a status; a debugger may go on from it, to nowhere.
fn end(status: debug::ExitStatus) -> ! {
    debug::exit(status);
    loop {
        core::hint::spin_loop();
    }
}
