//! `tlscope inspect FILE`: the plan of an image, and how each value was derived.

use std::fs::File;
use std::io::{self, Write};

use anyhow::Context;
use tlscope_image::ImageError;
use tlscope_image::plan::{Module, Plan};

use crate::args::InspectArgs;
use crate::capture::images::analyze;
use crate::{Exit, Failure};

pub(crate) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let mut file = File::open(&args.file).with_context(|| shown.to_string())?;
    let plans = analyze(&mut file, &args.file, &Module::ALL).map_err(|error| {
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
    let unknown = || "not known".to_string();
    writeln!(
        out,
        "  library       {} ({})",
        plan.family, plan.recognised_by
    )?;
    writeln!(
        out,
        "  version       {}",
        plan.version.clone().unwrap_or_else(unknown)
    )?;
    writeln!(
        out,
        "  build id      {}",
        plan.build_id.clone().unwrap_or_else(unknown)
    )?;
    writeln!(out, "  architecture  {}", plan.arch)?;
    writeln!(out, "\nprobes")?;
    for probe in &plan.probes {
        let name = probe.symbol.as_deref().unwrap_or("(no symbol)");
        let (role, offset) = (format!("{:?}", probe.role), probe.offset.0);
        writeln!(out, "  {role:<12}  {name:<24}  offset {offset:#x}")?;
        writeln!(out, "                {}", probe.evidence)?;
    }
    let layout = [
        ("client random", &plan.layout.client_random),
        ("master secret", &plan.layout.master_secret),
        ("its length", &plan.layout.master_secret_length),
    ];
    if layout.iter().any(|(_, value)| value.is_some()) {
        writeln!(
            out,
            "
layout"
        )?;
    }
    for (name, value) in layout {
        if let Some(value) = value {
            writeln!(out, "  {name:<13} {}", value.path)?;
            writeln!(out, "                {}", value.evidence)?;
        }
    }
    if !plan.covered.is_empty() {
        writeln!(out, "\ncovered by other probes")?;
    }
    for covered in &plan.covered {
        writeln!(
            out,
            "  {:<24}  by {}: {}",
            covered.symbol, covered.by, covered.evidence
        )?;
    }
    if !plan.missing.is_empty() {
        writeln!(out, "\nmissing")?;
    }
    for missing in &plan.missing {
        writeln!(out, "  {}: {}", missing.what, missing.why)?;
    }
    Ok(())
}
