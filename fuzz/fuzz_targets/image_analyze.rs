//! An ELF file that we did not write: segments, tables, call frames, code.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    let _ = tlscope_image::analyze(image);
    let _ = tlscope_image::might_hold(image, &tlscope_image::plan::Module::ALL);
});
