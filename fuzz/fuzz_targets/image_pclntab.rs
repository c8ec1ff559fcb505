//! Go's function table, types, module data and build information, of all releases.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/tlscope-image/tests/corpus/around.rs"]
mod around;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(image) = around::tables(input) {
        let _ = tlscope_image::analyze(&image);
    }
});
