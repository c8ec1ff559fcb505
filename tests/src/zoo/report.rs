//! The table in docs/libraries.md, and the same for a terminal.

use std::fmt::Write as _;

use crate::zoo::examine::Row;
use crate::zoo::plan::Plan;

const HEAD: &str = "\
# Libraries of the OpenSSL family

Written by `make zoo`; do not edit. Each target is fetched from a package registry, `tlscope inspect`
derives its plan from the machine code, then client and server talk over loopback beside `tlscope
tls`: TLS 1.2 and 1.3 where the library has them, both directions, one byte, 16 KiB and a byte,
1 MiB.

* **plan**: plaintext in both directions, secrets and the client random were derived; each probe that a
  symbol names is where `readelf` says that the symbol is; where there is a full symbol table, the plan
  without it says nothing else; on aarch64, it means the same as the plan of the x86_64 build.
* **text**: every byte of every connection was captured, by SHA-256 or byte for byte.
* **key log**: the lines are those of the peers' own key logs: none missing, none else, none twice.

A version that is not listed needs no change of tlscope: `make zoo FILE=/path/to/libssl.so` shows how it
fares.

";

pub fn markdown(rows: &[Row]) -> String {
    let mut out = HEAD.to_owned();
    out += "| target | holds | architecture | version found | plan | text | key log | secrets found by | data found by |\n";
    out += "|---|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let cell = |ask: fn(&Plan) -> String| row.found.as_ref().map(ask).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            row.holds,
            cell(|p| format!("{} {}", p.family, p.arch)),
            cell(|p| p.version.clone().unwrap_or_else(|| "-".into())),
            row.plan,
            row.text,
            row.keylog,
            cell(secrets),
            cell(data),
        );
    }
    out += &failures(rows);
    out += "\n## Evidence\n\n";
    for row in rows {
        if let Some(plan) = &row.found {
            let _ = writeln!(
                out,
                "* **{}**: {}",
                row.name,
                plan.evidence().replace('|', "\\|")
            );
        }
    }
    out
}

fn secrets(plan: &Plan) -> String {
    let of = |evidence: &str| evidence.split([':', ';']).next().unwrap_or("").to_owned();
    let all: Vec<_> = plan
        .secrets()
        .map(|p| format!("{}: {}", p.role.replace('_', " "), of(&p.evidence)))
        .collect();
    all.join("; ")
}

fn data(plan: &Plan) -> String {
    let named = |role: &str| plan.probe(role).is_some_and(|p| p.symbol.is_some());
    let found = plan.probe("read").or(plan.probe("read_ex")).is_some();
    let how = match (found, named("read") || named("read_ex"), named("new")) {
        (false, ..) => "-",
        (true, true, _) => "symbols",
        // OpenSSL's own function behind the public forms.
        (true, false, true) => "symbols and their code",
        (true, false, false) => "what the code does",
    };
    how.into()
}

fn failures(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        for (what, why) in row.failures() {
            let first = why.lines().next().unwrap_or_default();
            let _ = writeln!(out, "* **{}**, {what}: {first}", row.name);
        }
    }
    if out.is_empty() {
        return out;
    }
    format!("\n## What is wrong\n\n{out}")
}

/// One line for a terminal; what failed follows it, whole.
pub fn line(row: &Row) -> String {
    let version = row.found.as_ref().and_then(|p| p.version.clone());
    let mut out = format!(
        "{:<28} {:<12} plan {:<8} text {:<8} key log {}\n",
        row.name,
        version.unwrap_or_else(|| "-".into()),
        row.plan.to_string(),
        row.text.to_string(),
        row.keylog,
    );
    for (what, why) in row.failures() {
        for line in why.lines() {
            let _ = writeln!(out, "    {what}: {line}");
        }
    }
    out
}
