#![no_main]

#[allow(dead_code)]
#[path = "../../crates/tlscope-core/tests/corpus/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(drive::content(input)));
