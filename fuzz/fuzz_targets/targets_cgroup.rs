#![no_main]

#[allow(dead_code)]
#[path = "../../crates/tlscope-targets/tests/corpus/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drive::cgroup(input);
});
