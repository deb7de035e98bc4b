//! See `mesita::any_input::json`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: mesita::any_input::write_seeds(),
    |bytes: &[u8]| mesita::any_input::json(bytes)
);
