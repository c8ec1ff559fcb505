//! The tables in docs/libraries.md and docs/go.md, and the same for a terminal.

use std::fmt::Write as _;

use crate::zoo::examine::Row;
use crate::zoo::plan::{Plan, Probe};

const HEAD: &str = "\
# Libraries

Written by `make zoo`; do not edit. Each target is fetched from a package registry, `tlscope inspect`
derives its plan from the machine code, then client and server talk over loopback beside `tlscope
tls`, `tlscope gnutls` or `tlscope nss`: TLS 1.2 and 1.3 where the library has them, both directions, one byte, 16 KiB
and a byte, 1 MiB. Builds for aarch64 are only looked at here; [kernel-support.md](kernel-support.md) has those that were
run on it.

* **plan**: plaintext in both directions, secrets and the client random were derived, and `tlscope inspect`
  shows each probe with its evidence, with and without `--json`.
* **compared with**: each probe whose function has a name, by a symbol or told by its code, is where `readelf`
  says that this name is; where there is a full symbol table (.symtab), the plan without it says nothing
  else; DWARF names the function at each probe, and the fields that the derived offsets lead through; the
  twin is the build for x86_64, whose plan means the same.
* **text**: every byte of every connection was captured, by SHA-256 or byte for byte.
* **key log**: the lines are those of the peers' own key logs: none missing, none else, none twice.

A version that is not listed needs no change of tlscope: `make zoo FILE=/path/to/libssl.so` shows how it
fares.

";

pub fn libraries(rows: &[Row]) -> String {
    let mut out = HEAD.to_owned();
    out += "| target | holds | architecture | version found | plan | compared with | text | key log | secrets found by | data found by |\n";
    out += "|---|---|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let cell = |ask: fn(&Plan) -> String| row.found.as_ref().map(ask).unwrap_or_default();
        let protected = if row.truth.protected {
            ", PAC and BTI"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            row.holds,
            cell(|p| format!("{} {}", p.family, p.arch)) + protected,
            cell(|p| p.version.clone().unwrap_or_else(|| "-".into())),
            row.plan,
            row.truth.with.join(", "),
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
            let dwarf = row.truth.dwarf.as_ref();
            let dwarf = dwarf.map_or_else(String::new, |said| format!("; by DWARF: {said}"));
            let evidence = plan.evidence().replace('|', "\\|");
            let _ = writeln!(out, "* **{}**: {evidence}{dwarf}", row.name);
        }
    }
    out
}

const GO_HEAD: &str = "\
# Go programs

Written by `make zoo`; do not edit.

`tlscope gotls` finds Go's crypto/tls in any program or c-shared library that Go's own linker wrote, of Go
1.8 or later, for x86_64 and aarch64: with symbols or stripped, position-independent or not, with cgo or
without, with section headers or without them. No release decides anything; it is only shown.

| what | found by |
|---|---|
| functions, their starts and ends | the function table (pclntab) of all its forms, which the runtime itself needs; checked against the module data, which also says where the text starts |
| calling convention, form of `writeKeyLog` | how many bytes the table counts for a function's arguments and results; on x86_64 the code must agree |
| the goroutine of a call | what a function reads its stack limit through |
| returns | every RET, by disassembling the whole function |
| `tls.Conn.conn`, `net.TCPConn` and its descriptor | the descriptors of Go's types, by the names of fields |

Forks of crypto/tls under another path count too where they have kept these functions; none is in the table
below. The secrets of QUIC pass the same function; its plaintext does not. Programs made by gccgo or
TinyGo, packed ones, and such with obfuscated names are not captured, and `tlscope` says why.

The rows named for a release build one program in eight ways: plain, as PIE, with cgo and c-shared, each
with symbols and stripped. The others are programs of strangers.

* **plan**: complete; functions are where `readelf` says, returns where `go tool objdump` says; the stripped builds,
  the build without its symbol table and the build without sections say the same; the release is
  what the toolchain calls itself.
* **text**: client and server, TLS 1.2 and 1.3, 1 byte to 1 MiB, in each of the six programs: all
  bytes by SHA-256, with addresses and descriptors.
* **key log**: the lines are those of the program's own `KeyLogWriter`.

";

pub fn go(rows: &[Row]) -> String {
    let mut out = GO_HEAD.to_owned();
    out +=
        "| target | holds | architecture | release found | arguments | plan | text | key log |\n";
    out += "|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let cell = |ask: fn(&Plan) -> String| row.found.as_ref().map(ask).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            row.holds,
            cell(|p| p.arch.clone()),
            cell(|p| p.version.clone().unwrap_or_else(|| "-".into())),
            cell(|p| p
                .layout
                .go
                .as_ref()
                .map_or_else(String::new, |go| go.abi.clone())),
            row.plan,
            row.text,
            row.keylog,
        );
    }
    out + &failures(rows)
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
    let named = |probe: Option<&Probe>| probe.is_some_and(|p| p.symbol.is_some());
    let read = plan.data_probe();
    let how = match (read.is_some(), named(read), named(plan.probe("new"))) {
        (true, ..) if plan.layout.go.is_some() => "Go's function table",
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
