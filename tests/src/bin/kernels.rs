//! `kernels`: runs tlscope on every kernel and writes docs/kernel-support.md.
//!
//!   kernels             all kernels
//!   kernels --quick     those that CI runs; writes nothing
//!   kernels NAME...     kernels by name, as in "6.1 aarch64"; writes nothing
//!
//! `TLSCOPE_CASES=doctor,noncore` runs those cases alone whose names begin so.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use tlscope_tests::kernels::matrix::{KERNELS, Kernel, Runs};
use tlscope_tests::kernels::verdict::{Verdict, examine};
use tlscope_tests::kernels::{fetch, peers, report};

/// Machines at a time: each keeps one processor busy.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    // A failure is part of the verdict, which shows it.
    panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (kernels, whole): (Vec<&Kernel>, bool) = match arguments.as_slice() {
        [] => (KERNELS.iter().collect(), true),
        [flag] if flag == "--quick" => (
            KERNELS.iter().filter(|k| k.runs == Runs::Always).collect(),
            false,
        ),
        names => match names.iter().map(|name| named(name)).collect() {
            Ok(kernels) => (kernels, false),
            Err(name) => {
                eprintln!("kernels: no kernel {name}");
                return ExitCode::from(2);
            }
        },
    };
    fetch_all(&kernels);
    let began = Instant::now();
    let verdicts = run(&kernels);
    let took = began.elapsed();
    if whole {
        let page = fetch::workspace().join("docs/kernel-support.md");
        fs::write(&page, report::markdown(&verdicts, took, AT_ONCE))
            .expect("write docs/kernel-support.md");
        println!("wrote {}", page.display());
    }
    let failed: usize = verdicts.iter().map(|verdict| verdict.failed.len()).sum();
    let passed: usize = verdicts.iter().map(|verdict| verdict.passed.len()).sum();
    println!("{passed} passed, {failed} failed in {} s", took.as_secs());
    ExitCode::from(u8::from(failed > 0))
}

fn named(name: &str) -> Result<&'static Kernel, String> {
    let kernel = KERNELS.iter().find(|kernel| kernel.to_string() == name);
    kernel.ok_or_else(|| name.to_owned())
}

/// One after the other: apt has locks, and machines share programs.
fn fetch_all(kernels: &[&Kernel]) {
    for kernel in kernels {
        // What cannot be had is told by the verdict.
        let _ = panic::catch_unwind(|| {
            fetch::qemu();
            fetch::kernel(kernel);
            fetch::userland(&kernel.userland, kernel.arch);
            peers::build(kernel);
        });
    }
}

/// In the order of the table, some at a time.
fn run(kernels: &[&Kernel]) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let work = || {
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = examine(kernel);
            print!("{}", report::line(&verdict));
            verdicts.lock().expect("no panic").push(verdict);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no panic");
    let name = |verdict: &Verdict| verdict.kernel.to_string();
    let place = |verdict: &Verdict| kernels.iter().position(|k| k.to_string() == name(verdict));
    verdicts.sort_by_key(place);
    verdicts
}
