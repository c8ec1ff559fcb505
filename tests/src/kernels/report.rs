//! The table in docs/kernel-support.md, and the same for a terminal.

use std::fmt::Write as _;

use super::verdict::Verdict;

const HEAD: &str = "\
# Kernels

Written by `make kernels`; do not edit. Each kernel is Debian's, booted under qemu with the static program of `make dist` and
OpenSSL from a Debian suite: client and server talk TLS 1.2 and 1.3 over loopback, four connections, up to 300 KiB in each
direction.

* **text**: every byte, with process, thread, descriptor and both addresses, is what the peers logged.
* **key log**: the lines are those of the peers' own key logs.
* **pcap**: tshark decrypts the file in one pass to the bytes that the peers sent.
* **forced**: each attach mode and each way to sockets that the kernel has was forced, with the same comparison as for text; each
  that it has not was refused with exit code 3, by name.

";

const NOTES: &str = "
## What older kernels lack

* Before 5.15 there is no attach cookie: each library has an instance of the programs of its own.
* Before 6.3 the socket is found from the descriptor of the system call (core object) or by kprobes (noncore object, TCP
  only), and a write of more than the buffer holds is not followed while it is under way: what does not fit is lost, and counted.
* Before 5.8, or without BTF, there is the noncore object alone: perf buffers, 6.4 MiB of one call, no `--follow`. No such
  kernel could be had; `-b 2` forces the object here, and a unit test checks it against the rules of 4.18.
";

pub fn markdown(verdicts: &[Verdict]) -> String {
    let mut out = HEAD.to_owned();
    out += "| kernel | OpenSSL | picked | text | key log | pcap | `-b 2`: text | key log | pcap | forced |\n";
    out += "|---|---|---|---|---|---|---|---|---|---|\n";
    for verdict in verdicts {
        let yes = |names: &[&str]| {
            let all = names.iter().all(|name| verdict.has_passed(name));
            if all { "yes" } else { "**no**" }
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            release(verdict),
            verdict.kernel.userland.openssl,
            picked(verdict),
            yes(&["auto:text"]),
            yes(&["auto:keylog"]),
            yes(&["auto:pcap", "auto:decrypted"]),
            yes(&["noncore:text"]),
            yes(&["noncore:keylog"]),
            yes(&["noncore:pcap", "noncore:decrypted"]),
            forced(verdict),
        );
    }
    out += NOTES;
    out
}

fn release(verdict: &Verdict) -> String {
    match verdict.doctor_says("release").split_once("release") {
        Some((_, release)) => release.trim().to_owned(),
        None => verdict.kernel.name.to_owned(),
    }
}

/// `core: attaches by multi, addresses by ...`
fn picked(verdict: &Verdict) -> String {
    let line = verdict.doctor_says("picked by -b 0");
    let words: Vec<_> = line.split_whitespace().skip(1).collect();
    let line = words.join(" ").replace(" works: attaches by ", ", ");
    line.replace(", picked by -b 0", "")
        .replace("addresses by ", "")
}

fn forced(verdict: &Verdict) -> String {
    let kernel = &verdict.kernel;
    let mode = |mode: &&str| (format!("attach-{mode}:text"), (*mode).to_owned());
    let core = |way: &&str| (format!("sockets-{way}:text"), (*way).to_owned());
    let all = kernel.attach.iter().map(mode);
    let all = all.chain(kernel.sockets.iter().map(core));
    let noncore = kernel.noncore_sockets();
    let noncore = noncore.iter().map(|way| {
        let name = format!("noncore-sockets-{way}:text");
        (name, format!("-b 2 {way}"))
    });
    let shown = |(name, shown): (String, String)| {
        if verdict.has_passed(&name) {
            shown
        } else {
            format!("**not {shown}**")
        }
    };
    let all: Vec<_> = all.chain(noncore).map(shown).collect();
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
