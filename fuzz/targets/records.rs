//! See `mesita::any_input::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mesita::any_input::write_seeds(),
    |bytes: &[u8]| mesita::any_input::records(bytes)
);
