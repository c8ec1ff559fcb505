//! `guest`: the end-to-end cases inside a virtual machine. Its console is read outside.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tlscope_tests::kernels::cases;

fn main() -> ExitCode {
    ExitCode::from(u8::from(!cases::run()))
}
