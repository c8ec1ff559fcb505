//! Machine code that we did not write, of both architectures: decoders, walks, call graphs.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/tlscope-image/tests/corpus/around.rs"]
mod around;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(image) = around::code(input) {
        let _ = tlscope_image::analyze(&image);
    }
});
