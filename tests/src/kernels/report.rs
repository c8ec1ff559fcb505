//! The table in docs/kernel-support.md, and the same for a terminal.

use std::fmt::Write as _;

use super::matrix::Userland;
use super::verdict::Verdict;

const HEAD: &str = "\
# Kernels

Written by `make kernels`; do not edit. Each kernel is Debian's, booted under qemu with the static program of `make dist` and
user space from a Debian suite. Clients and servers talk over loopback, TLS 1.2 and 1.3 each, for each of the four modules:

* `tls` OpenSSL, `gnutls` GnuTLS: two connections of each version, both sides traced.
* `nss` NSS, as server of an OpenSSL client and as client of an OpenSSL server: these write the key logs that NSS does not.
* `gotls`: a static Go program without symbols, two connections of each version, both sides traced.

What was compared, of each module, with the object that is picked (`-b 0`) and with the noncore object (`-b 2`):

* **text**: every byte, up to 300 KiB a direction, with process, descriptor and both addresses, is what the peers logged; so are
  the lines of the key log beside it.
* **keylog**: the lines are those of the peers' own key logs.
* **pcap**: tshark decrypts the file in one pass to the bytes that the peers sent.

";

const NOTES: &str = "
## What older kernels lack

* Before 5.15 there is no attach cookie: each library has an instance of the programs of its own.
* Before 6.3 the socket is found from the descriptor of the system call (core object) or by kprobes (noncore object, TCP
  only), and a write of more than the buffer holds is not followed while it is under way: what does not fit is lost, and counted.
* Before 5.8, or without BTF, there is the noncore object alone: perf buffers, 6.4 MiB of one call, no `--follow`, no Go before
  1.17. No such kernel could be had; `-b 2` forces the object on all of these, and a unit test checks it against the rules of 4.18.
";

/// The modules, in the order of the columns.
const MODULES: [&str; 4] = ["tls", "gnutls", "nss", "gotls"];

pub fn markdown(verdicts: &[Verdict]) -> String {
    let mut out = HEAD.to_owned();
    works(&mut out, verdicts);
    picked_and_forced(&mut out, verdicts);
    out += NOTES;
    out
}

/// Kernel by kernel, what passed of each module.
fn works(out: &mut String, verdicts: &[Verdict]) {
    *out += "## What works\n\n";
    *out +=
        "| kernel | user space | | tls | gnutls | nss | gotls |\n|---|---|---|---|---|---|---|\n";
    for verdict in verdicts {
        for (object, shown) in [("auto", "`-b 0`"), ("noncore", "`-b 2`")] {
            let Userland { suite, openssl, .. } = verdict.kernel.userland;
            let cells = MODULES.map(|module| modes(verdict, object, module));
            let (kernel, cells) = (release(verdict), cells.join(" | "));
            let _ = writeln!(
                out,
                "| {kernel} | {suite}, OpenSSL {openssl} | {shown} | {cells} |"
            );
        }
    }
}

/// `text, keylog, pcap`, each as it went.
fn modes(verdict: &Verdict, object: &str, module: &str) -> String {
    let shown = |(mode, needed): (&str, &[&str])| {
        let passed = |case: &&str| verdict.has_passed(&format!("{object}:{module}:{case}"));
        if needed.iter().all(passed) {
            mode.to_owned()
        } else {
            format!("**no {mode}**")
        }
    };
    let modes: [(&str, &[&str]); 3] = [
        ("text", &["text"]),
        ("keylog", &["keylog"]),
        ("pcap", &["pcap", "decrypted"]),
    ];
    modes.map(shown).join(", ")
}

fn picked_and_forced(out: &mut String, verdicts: &[Verdict]) {
    *out += "
## What was picked, and what could be forced

Each attach mode and each way to sockets that the kernel has was forced by its flag, with the comparison of text; each that it
has not was refused with exit code 3, by name. Under lockdown: `integrity` changes nothing, `confidentiality` is told, with exit code 3.

| kernel | picked | why | forced | lockdown |
|---|---|---|---|---|
";
    for verdict in verdicts {
        let object = verdict.picked("object");
        let picked = ["buffer", "attach", "images", "sockets"].map(|name| verdict.picked(name));
        let short = picked.clone().map(|(what, _)| what);
        let why: Vec<_> = [&picked[1], &picked[3]].map(|(_, why)| why.as_str()).into();
        let lockdown = ["integrity", "confidentiality"]
            .map(|state| mark(verdict, &format!("lockdown-{state}:tls"), state));
        let _ = writeln!(
            out,
            "| {} | {}, {} | {} | {} | {} |",
            release(verdict),
            object.0,
            short.join(", "),
            why.join("; "),
            forced(verdict),
            lockdown.join(", "),
        );
    }
}

/// What is shown of a case that passed, or that it did not.
fn mark(verdict: &Verdict, case: &str, shown: &str) -> String {
    if verdict.has_passed(case) {
        shown.to_owned()
    } else {
        format!("**not {shown}**")
    }
}

fn release(verdict: &Verdict) -> String {
    match verdict.doctor_says("release").split_once("release") {
        Some((_, release)) => release.trim().to_owned(),
        None => verdict.kernel.name.to_owned(),
    }
}

fn forced(verdict: &Verdict) -> String {
    let kernel = &verdict.kernel;
    let case = |kind: &str, name: &str| format!("{kind}-{name}:tls:text");
    let attach = kernel
        .attach
        .iter()
        .map(|mode| mark(verdict, &case("attach", mode), mode));
    let core = kernel
        .sockets
        .iter()
        .map(|way| mark(verdict, &case("sockets", way), way));
    let noncore = kernel.noncore_sockets();
    let noncore = noncore.iter().map(|way| {
        mark(
            verdict,
            &case("noncore-sockets", way),
            &format!("`-b 2` {way}"),
        )
    });
    attach
        .chain(core)
        .chain(noncore)
        .collect::<Vec<_>>()
        .join(", ")
}

fn picked(verdict: &Verdict) -> String {
    let all = ["object", "attach", "sockets"].map(|name| verdict.picked(name).0);
    all.join(", ")
}

/// One line for a terminal; what failed follows it.
pub fn line(verdict: &Verdict) -> String {
    let mut out = format!(
        "{:>6.1} s  {:<14} {} cases passed, {} failed; {}\n",
        verdict.took.as_secs_f64(),
        verdict.kernel.name,
        verdict.passed.len(),
        verdict.failed.len(),
        picked(verdict),
    );
    for (name, why) in &verdict.failed {
        let _ = writeln!(out, "    {name}: {why}");
    }
    out
}
