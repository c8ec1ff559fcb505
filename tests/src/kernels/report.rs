//! The table in docs/kernel-support.md, and the same for a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use super::matrix::Userland;
use super::verdict::Verdict;

const HEAD: &str = "\
# Kernels

Written by `make kernels`; do not edit. Each kernel is Debian's, booted under qemu with the static program of `make dist` and
user space from a Debian suite. Clients and servers talk over loopback, TLS 1.2 and 1.3 each, for each of the four modules:

* `tls` OpenSSL, `gnutls` GnuTLS: two connections of each version, both sides traced.
* `nss` NSS, as server of an OpenSSL client and as client of an OpenSSL server: these write the key logs that NSS does not.
  For keylog and pcap it serves TLS 1.2 and asks for 1.3.
* `gotls`: a static Go program without symbols, two connections of each version, both sides traced.

What was compared, of each module, with the object that is picked (`-b 0`) and with the noncore object (`-b 2`):

* **text**: every byte, up to 200 KiB of an answer, with process, descriptor and both addresses, is what the peers logged; so are
  the lines of the key log beside it. Of the picked object also in a program that carries the records itself (memory BIOs).
* **keylog**: the lines are those of the peers' own key logs.
* **pcap**: beside the keylog capture; tshark decrypts the file in one pass to the bytes that the peers sent.

";

const NOTES: &str = "
## What older kernels lack

* Before 5.15 there is no attach cookie: each library has an instance of the programs of its own.
* Before 6.3 the core object finds the socket from the descriptor of the system call, and looks there for the hellos of memory
  BIOs: what `io_uring` moves has no address. The noncore object finds it by kprobes, TCP only, and does not follow a write of more
  than the buffer holds while it is under way: what does not fit is lost, and counted.
* Before 5.8, or without BTF, there is the noncore object alone: perf buffers, 6.4 MiB of one call, no `--follow`, on x86_64 no Go
  before 1.17, no addresses of memory BIOs on any kernel. No such kernel could be had; `-b 2` forces the object on all of these,
  and unit tests hold it to what 4.18 has and follow its programs by the rules of the verifier of 4.19
  (`crates/tlscope-probe/tests/noncore.rs` and `verifier/`).
* Of 5.8 and 5.9 no kernel could be had either: that the core object takes nothing younger is read off it (`tests/core.rs` there).
";

/// The modules, in the order of the columns.
const MODULES: [&str; 4] = ["tls", "gnutls", "nss", "gotls"];

pub fn markdown(verdicts: &[Verdict], took: Duration, at_once: usize) -> String {
    let mut out = HEAD.to_owned();
    let cases: usize = verdicts.iter().map(|verdict| verdict.passed.len()).sum();
    let seconds = took.as_secs();
    let _ = writeln!(
        out,
        "This run: {cases} cases passed in {seconds} s, {at_once} machines at a time.\n"
    );
    works(&mut out, verdicts);
    picked_and_forced(&mut out, verdicts);
    out += NOTES;
    out
}

/// Kernel by kernel, what passed of each module, and what doctor says that cannot be done.
fn works(out: &mut String, verdicts: &[Verdict]) {
    *out += "## What works\n\nUnder `lacks` stands what `tlscope doctor` said there.\n\n";
    *out += "| kernel | user space | | tls | gnutls | nss | gotls | lacks |\n|---|---|---|---|---|---|---|---|\n";
    for verdict in verdicts {
        let picked = verdict.picked("object").0;
        for (case, shown, object) in [
            ("auto", "`-b 0`", &*picked),
            ("noncore", "`-b 2`", "noncore"),
        ] {
            let Userland { suite, openssl, .. } = verdict.kernel.userland;
            let cells = MODULES.map(|module| modes(verdict, case, module));
            let (kernel, cells) = (release(verdict), cells.join(" | "));
            let lacks = verdict.lacks(object);
            let _ = writeln!(
                out,
                "| {kernel} | {suite}, OpenSSL {openssl} | {shown} | {cells} | {lacks} |"
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
        ("keylog", &["secrets"]),
        ("pcap", &["secrets", "decrypted"]),
    ];
    modes.map(shown).join(", ")
}

fn picked_and_forced(out: &mut String, verdicts: &[Verdict]) {
    *out += "
## What was picked, and what could be forced

Each attach mode and each way to sockets that the kernel has besides the best was forced by its flags, with the comparison of text;
each that it has not was refused with exit code 3, by name. A user without root captured text, keys and packets with the
capabilities named (for packets `CAP_NET_RAW` too), and was told of each by name where it was lacking. Under lockdown: `integrity`
changes nothing, `confidentiality` is told, with exit code 3.

| kernel | picked | why | forced | of a user | lockdown |
|---|---|---|---|---|---|
";
    for verdict in verdicts {
        let object = verdict.picked("object");
        let picked = ["buffer", "attach", "images", "sockets"].map(|name| verdict.picked(name));
        let short = picked.clone().map(|(what, _)| what);
        let why: Vec<_> = [&picked[1], &picked[3]].map(|(_, why)| why.as_str()).into();
        let lockdown = ["integrity", "confidentiality"]
            .map(|state| mark(verdict, &format!("lockdown:{state}"), state));
        let _ = writeln!(
            out,
            "| {} | {}, {} | {} | {} | {} | {} |",
            release(verdict),
            object.0,
            short.join(", "),
            why.join("; "),
            forced(verdict),
            user(verdict),
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
        None => verdict.kernel.to_string(),
    }
}

fn forced(verdict: &Verdict) -> String {
    let ways = verdict.kernel.version.fallbacks();
    let shown = ways.iter().map(|way| {
        let shown = format!("`{}`", way.flags().join(" "));
        mark(verdict, &format!("forced:{way}"), &shown)
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// What a user without root takes, where a capture went well with it and was refused without.
fn user(verdict: &Verdict) -> String {
    let names = verdict.kernel.version.capabilities.iter();
    let names: Vec<_> = names.map(|one| format!("`{}`", one.name)).collect();
    let cases = ["user:text", "user:secrets", "user:decrypted", "user:lacks"];
    if cases.iter().all(|case| verdict.has_passed(case)) {
        names.join(", ")
    } else {
        format!("**not {}**", names.join(", "))
    }
}

fn picked(verdict: &Verdict) -> String {
    let all = ["object", "attach", "sockets"].map(|name| verdict.picked(name).0);
    all.join(", ")
}

/// Two lines for a terminal; what failed follows them.
pub fn line(verdict: &Verdict) -> String {
    const LONGEST: usize = 8;
    let took = verdict.took.as_secs_f64();
    let mut out = format!(
        "{took:>6.1} s  {:<14} {} cases passed, {} failed; {}\n",
        verdict.kernel.to_string(),
        verdict.passed.len(),
        verdict.failed.len(),
        picked(verdict),
    );
    let inside: f64 = verdict.passed.iter().map(|case| case.1).sum();
    let mut cases: Vec<_> = verdict.passed.iter().collect();
    cases.sort_by(|a, b| b.1.total_cmp(&a.1));
    let cases = cases.iter().take(LONGEST);
    let cases: Vec<_> = cases.map(|(name, s)| format!("{name} {s:.1}")).collect();
    let boot = took - inside;
    let _ = writeln!(out, "{boot:>8.1} s to boot; {}", cases.join(", "));
    for (name, why) in &verdict.failed {
        let _ = writeln!(out, "    {name}: {why}");
    }
    out
}
