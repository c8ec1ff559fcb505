//! `zoo`: runs tlscope on every target and writes docs/libraries.md and docs/go.md.
//!
//!   zoo               all targets
//!   zoo --go          Go programs; writes docs/go.md
//!   zoo --quick       those that CI runs; writes nothing
//!   zoo NAME...       targets by name; writes nothing
//!   zoo -- FILE...    any files: plan, and a run where they can be driven
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use tlscope_tests::zoo::{self, Row, TARGETS, Target, report};

fn main() -> ExitCode {
    // A failure is part of the result, which shows it.
    panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = env::args().skip(1).collect();
    let rows = match arguments.split_first() {
        None => {
            let mut rows = run(TARGETS.iter().filter(|t| !is_go(t)));
            write("docs/libraries.md", &report::libraries(&rows));
            rows.extend(go_page());
            rows
        }
        Some((first, [])) if first == "--go" => go_page(),
        Some((first, [])) if first == "--quick" => run(TARGETS.iter().filter(|t| t.quick)),
        Some((first, files)) if first == "--" => files.iter().map(file).collect(),
        Some(_) => match arguments
            .iter()
            .map(|name| wanted(name))
            .collect::<Result<Vec<_>, _>>()
        {
            Ok(targets) => run(targets.into_iter()),
            Err(name) => {
                eprintln!("zoo: no target {name}; a file goes after --");
                return ExitCode::from(2);
            }
        },
    };
    let failed = rows.iter().filter(|row| row.failed()).count();
    println!("{} passed, {failed} failed", rows.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

fn is_go(target: &Target) -> bool {
    target.family == "go"
}

fn go_page() -> Vec<Row> {
    let rows = run(TARGETS.iter().filter(|t| is_go(t)));
    write("docs/go.md", &report::go(&rows));
    rows
}

fn write(page: &str, text: &str) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = workspace.parent().expect("the workspace").join(page);
    fs::write(&page, text).expect("write a page of the documentation");
    println!("wrote {}", page.display());
}

fn wanted(name: &str) -> Result<&'static Target, String> {
    zoo::targets::named(name).ok_or_else(|| name.to_owned())
}

fn run(targets: impl Iterator<Item = &'static Target>) -> Vec<Row> {
    let one = |target| timed(|| zoo::examine(target));
    targets.map(one).collect()
}

fn file(path: &String) -> Row {
    let row = timed(|| zoo::examine_file(Path::new(path)));
    if let Some(plan) = &row.found {
        for part in plan.evidence().split("; ") {
            println!("    {part}");
        }
    }
    row
}

fn timed(examine: impl FnOnce() -> Row) -> Row {
    let start = Instant::now();
    let row = examine();
    print!(
        "{:>5.1} s  {}",
        start.elapsed().as_secs_f64(),
        report::line(&row)
    );
    row
}
