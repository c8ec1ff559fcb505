//! `tlscope doctor`: what will work here and what will not, found out by trying.

use std::fs;
use std::io::{self, Write};

use anyhow::{Context, anyhow};
use tlscope_image::plan::Module;
use tlscope_probe::{AttachMode, Calls, Features, Needs, ObjectKind, Options, Tracer, features};
use tlscope_targets::{Finder, Search, Target};

use crate::capture::images::{Image, Known, title};
use crate::modules;
use crate::{Exit, Failure};

/// Capabilities that matter, by bit: `capabilities(7)`.
const CAPABILITIES: [(u32, &str); 5] = [
    (39, "CAP_BPF"),
    (38, "CAP_PERFMON"),
    (21, "CAP_SYS_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (12, "CAP_NET_ADMIN"),
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
    let loads = objects(out)?;
    attach_modes(out)?;
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
    let lockdown = read("/sys/kernel/security/lockdown");
    let lockdown = if lockdown.is_empty() {
        "not in this kernel".into()
    } else {
        lockdown
    };
    writeln!(out, "  lockdown       {lockdown}")
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

/// Loads each object for all that it can do.
fn objects(out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "\nBPF objects (-b)")?;
    let mut loads = false;
    for (number, kind) in [(1, ObjectKind::Core), (2, ObjectKind::Noncore)] {
        let options = Options {
            needs: Needs {
                data: true,
                secrets: true,
                owners: true,
                calls: Calls::OfBoth,
            },
            pids: Vec::new(),
            follow: false,
            uid: None,
            shard_bytes: 4096,
            object: Some(kind),
            mode: None,
            route: None,
        };
        let name = kind.to_string();
        match Tracer::load(&options) {
            Ok(tracer) => {
                let (mode, route) = (tracer.attach_mode(), tracer.socket_route());
                let picked = if loads { "" } else { ", picked by -b 0" };
                writeln!(
                    out,
                    "  {number} {name:<12} works: attaches by {mode}, addresses by {route}{picked}"
                )?;
                loads = true;
            }
            Err(e) => writeln!(out, "  {number} {name:<12} no: {e}")?,
        }
    }
    Ok(loads)
}

fn attach_modes(out: &mut impl Write) -> io::Result<()> {
    let features = Features::of_this_kernel();
    writeln!(out, "\nattach modes, best first")?;
    for mode in AttachMode::ALL {
        let name = mode.to_string();
        writeln!(out, "  {name:<14} {}", yes(features.has_mode(mode)))?;
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
    match Image::open(target, &LIBRARIES, &mut Known::default()) {
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
