//! `tlscope doctor`: what will work here and what will not, found out by trying.

mod choices;

use std::fs;
use std::io::{self, Write};

use anyhow::{Context, anyhow};
use tlscope_image::plan::Module;
use tlscope_probe::{AttachMode, Features, features};
use tlscope_targets::{Finder, Search, Target};

use crate::capture::images::{Image, title};
use crate::capture::known::Known;
use crate::modules;
use crate::{Exit, Failure};

/// Capabilities that matter, by bit: `capabilities(7)`.
const CAPABILITIES: [(u32, &str); 7] = [
    (40, "CAP_CHECKPOINT_RESTORE"),
    (39, "CAP_BPF"),
    (38, "CAP_PERFMON"),
    (21, "CAP_SYS_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (13, "CAP_NET_RAW"),
    (2, "CAP_DAC_READ_SEARCH"),
];

/// The modules whose libraries have files of their own.
const LIBRARIES: [Module; 3] = [Module::Tls, Module::Gnutls, Module::Nss];

pub(crate) fn doctor() -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let captures = report(&mut out).context("stdout")?;
    if captures {
        return Ok(());
    }
    Err(Exit::Unable.because(anyhow!("nothing can be captured here; the report says why")))
}

fn report(out: &mut impl Write) -> io::Result<bool> {
    kernel(out)?;
    privileges(out)?;
    attach_modes(out)?;
    let loads = choices::report(out)?;
    libraries(out)?;
    Ok(loads)
}

fn kernel(out: &mut impl Write) -> io::Result<()> {
    let read = |path| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    let features = Features::of_this_kernel();
    writeln!(out, "kernel")?;
    let release = read("/proc/sys/kernel/osrelease");
    writeln!(
        out,
        "  release        {release} ({})",
        std::env::consts::ARCH
    )?;
    writeln!(out, "  BTF            {}", yes(features.btf))?;
    writeln!(out, "  ring buffers   {}", yes(features.ring_buffer))?;
    let returns = if features.returns_are_filtered {
        "kill programs under seccomp: only --pid of one without is probed; update the kernel"
    } else {
        "harmless, also to programs under seccomp"
    };
    writeln!(out, "  return probes  {returns}")?;
    for (name, path) in [
        ("lockdown", "/sys/kernel/security/lockdown"),
        ("unprivileged", "/proc/sys/kernel/unprivileged_bpf_disabled"),
    ] {
        let value = read(path);
        let value = match (name, value.as_str()) {
            (_, "") => "not in this kernel",
            ("unprivileged", "0") => "may load BPF; no matter to tlscope",
            ("unprivileged", _) => "may not load BPF; no matter to tlscope",
            (_, value) => value,
        };
        writeln!(out, "  {name:<14} {value}")?;
    }
    Ok(())
}

fn privileges(out: &mut impl Write) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let (held, lacking): (Vec<_>, Vec<_>) = CAPABILITIES
        .iter()
        .partition(|(bit, _)| effective >> bit & 1 == 1);
    let names = |rows: Vec<&(u32, &str)>| {
        let names: Vec<_> = rows.iter().map(|row| row.1).collect();
        if names.is_empty() {
            "none".to_string()
        } else {
            names.join(" ")
        }
    };
    writeln!(out, "\nprivileges")?;
    writeln!(out, "  held           {}", names(held))?;
    writeln!(out, "  lacking        {}", names(lacking))?;
    match features::may_load() {
        Ok(()) => writeln!(out, "  load BPF       yes"),
        Err(e) => writeln!(
            out,
            "  load BPF       no: {e}; run as root, or with CAP_BPF and CAP_PERFMON"
        ),
    }
}

fn attach_modes(out: &mut impl Write) -> io::Result<()> {
    let features = Features::of_this_kernel();
    writeln!(out, "\nattach modes, best first (--attach)")?;
    for mode in AttachMode::ALL {
        let name = mode.to_string();
        if features.has_mode(mode) {
            writeln!(out, "  {name:<14} yes")?;
        } else {
            writeln!(out, "  {name:<14} no: needs {}", mode.needs())?;
        }
    }
    Ok(())
}

fn libraries(out: &mut impl Write) -> io::Result<()> {
    // By name alone: to look into all code that is mapped takes seconds.
    let by_name = |module| Search {
        any_code: false,
        ..modules::row(module).search
    };
    let mut finder = Finder::new(&LIBRARIES.map(by_name));
    let mut targets = match finder.scan() {
        Ok(targets) => targets,
        Err(e) => return writeln!(out, "\nlibraries: {e}"),
    };
    targets.extend(finder.loader());
    let scan = finder.report();
    writeln!(
        out,
        "\nlibraries ({} processes looked at, {} not readable, in {:?})",
        scan.processes, scan.unreadable, scan.elapsed
    )?;
    for target in &targets {
        library(out, target)?;
    }
    if targets.is_empty() {
        writeln!(
            out,
            "  none: no process maps a TLS library, and the loader would find none"
        )?;
    }
    Ok(())
}

fn library(out: &mut impl Write, target: &Target) -> io::Result<()> {
    writeln!(out, "  {} ({} processes)", target.shown, target.users.len())?;
    match Image::open(target, &LIBRARIES, &Known::default()) {
        Ok(image) => image.plans.iter().try_for_each(|plan| {
            let [data, secrets] = [plan.data_probes().count(), plan.secret_probes().count()];
            writeln!(
                out,
                "    {}: {data} data probes, {secrets} secret probes",
                title(plan)
            )?;
            plan.missing
                .iter()
                .try_for_each(|m| writeln!(out, "    missing: {}: {}", m.what, m.why))
        }),
        Err(e) => writeln!(out, "    no: {e:#}"),
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
