//! See `mesita_isolation::images::any_layer`.
#![no_main]

use mesita_isolation::images::any_layer;

/// Writes what it begins from below its name in the directory that `MESITA_FUZZ_CORPUS` names, and ends the
/// process; without that variable it does nothing.
fn write_seeds() {
    let Some(corpus) = std::env::var_os("MESITA_FUZZ_CORPUS") else { return };
    let of = std::path::Path::new(&corpus).join("layer");
    std::fs::create_dir_all(&of).unwrap();
    for (number, seed) in any_layer::seeds().into_iter().enumerate() {
        std::fs::write(of.join(format!("seed-{number}")), seed).unwrap();
    }
    std::process::exit(0);
}

libfuzzer_sys::fuzz_target!(init: write_seeds(), |bytes: &[u8]| any_layer::layer(bytes));
