//! `tlscope inspect FILE`: the plan of an image, and how each value was derived.

use std::fs::File;
use std::io::{self, Write};

use anyhow::Context;
use tlscope_image::ImageError;
use tlscope_image::plan::{Layout, Module, Plan, Probe};

use crate::args::InspectArgs;
use crate::capture::images::analyze;
use crate::{Exit, Failure};

pub(crate) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let file = File::open(&args.file).with_context(|| shown.to_string())?;
    let plans = analyze(&file, &args.file, &Module::ALL).map_err(|error| {
        let exit = if error.is::<ImageError>() {
            Exit::Nothing
        } else {
            Exit::Failure
        };
        exit.because(error.context(shown.to_string()))
    })?;
    let mut out = io::stdout().lock();
    let mut write = |plan| {
        if args.json {
            serde_json::to_writer_pretty(&mut out, plan)?;
            writeln!(out)
        } else {
            writeln!(out, "{shown}")?;
            write_plan(&mut out, plan)
        }
    };
    Ok(plans.iter().try_for_each(&mut write).context("stdout")?)
}

fn write_plan(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".into());
    let (family, by) = (plan.family, &plan.recognised_by);
    writeln!(out, "  library       {family} ({by})")?;
    let of = plan.version_of.as_ref();
    let of = of.map_or_else(String::new, |library| format!(" (of {library} beside it)"));
    writeln!(out, "  version       {}{of}", known(&plan.version))?;
    writeln!(out, "  build id      {}", known(&plan.build_id))?;
    writeln!(out, "  architecture  {}", plan.arch)?;
    write_probes(out, &plan.probes)?;
    write_layout(out, &plan.layout)?;
    if !plan.covered.is_empty() {
        writeln!(out, "\ncovered by other probes")?;
    }
    for covered in &plan.covered {
        let (name, by) = (&covered.symbol, &covered.by);
        writeln!(out, "  {name:<24}  by {by}: {}", covered.evidence)?;
    }
    if !plan.missing.is_empty() {
        writeln!(out, "\nmissing")?;
    }
    for missing in &plan.missing {
        writeln!(out, "  {}: {}", missing.what, missing.why)?;
    }
    Ok(())
}

fn write_probes(out: &mut impl Write, probes: &[Probe]) -> io::Result<()> {
    writeln!(out, "\nprobes")?;
    for probe in probes {
        let name = probe.symbol.as_deref().unwrap_or("(no symbol)");
        let (role, offset) = (format!("{:?}", probe.role), probe.offset.0);
        writeln!(out, "  {role:<12}  {name:<24}  offset {offset:#x}")?;
        writeln!(out, "                {}", probe.evidence)?;
        if !probe.returns.is_empty() {
            let places = probe.returns.iter().map(|at| format!("{:#x}", at.0));
            let places = places.collect::<Vec<_>>().join(" ");
            let count = probe.returns.len();
            writeln!(out, "                {count} returns: {places}")?;
        }
    }
    Ok(())
}

fn write_layout(out: &mut impl Write, layout: &Layout) -> io::Result<()> {
    let mut values = vec![
        ("client random", &layout.client_random),
        ("master secret", &layout.master_secret),
        ("its length", &layout.master_secret_length),
        ("packet size", &layout.packet_size),
    ];
    if let Some(go) = &layout.go {
        values.extend([("connection", &go.connection), ("TCP socket", &go.tcp_fd)]);
    }
    if layout.go.is_some() || values.iter().any(|(_, value)| value.is_some()) {
        writeln!(out, "\nlayout")?;
    }
    if let Some(go) = &layout.go {
        writeln!(out, "  arguments     {}", go.abi)?;
        writeln!(out, "  goroutine     {}", go.goroutine)?;
        writeln!(out, "  key log       {}", go.key_log)?;
    }
    for (name, value) in values {
        if let Some(value) = value {
            writeln!(out, "  {name:<13} {}", value.path)?;
            writeln!(out, "                {}", value.evidence)?;
        }
    }
    Ok(())
}
