//! `tlscope list`: every process that uses TLS, what of it can be captured, and
//! if it cannot, why.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;
use tlscope_core::item::short_id;
use tlscope_image::ImageError;
use tlscope_image::plan::{Module, Plan};
use tlscope_targets::{Finder, FoundBy, Target, container, process};

use crate::args::ListArgs;
use crate::capture::images::Image;
use crate::capture::known::Known;
use crate::config;
use crate::modules;
use crate::{Exit, Failure};

/// One library in one process.
#[derive(Debug, Serialize)]
struct Row {
    pid: u32,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    /// The file, as the process names it.
    path: String,
    #[serde(flatten)]
    library: Library,
}

#[derive(Debug, Clone, Serialize)]
struct Library {
    /// The subcommand that captures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    plaintext: bool,
    secrets: bool,
    /// What is not captured, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl Library {
    fn of_plan(plan: &Plan) -> Self {
        let missing = plan.missing.iter();
        Self {
            module: Some(modules::row(plan.family.module()).name),
            family: Some(plan.family.to_string()),
            version: plan.version.clone(),
            plaintext: plan.data_probes().next().is_some(),
            secrets: plan.secret_probes().next().is_some(),
            missing: missing.map(|m| format!("{}: {}", m.what, m.why)).collect(),
        }
    }

    fn unusable(why: String) -> Self {
        Self {
            module: None,
            family: None,
            version: None,
            plaintext: false,
            secrets: false,
            missing: vec![why],
        }
    }

    fn not_captured(name: &str) -> Self {
        let why = "tlscope does not capture this library";
        Self {
            family: Some(name.to_owned()),
            ..Self::unusable(why.into())
        }
    }

    /// As a person reads it.
    fn state(&self) -> &'static str {
        match (self.plaintext, self.secrets) {
            (true, true) => "all",
            (true, false) => "plaintext",
            (false, true) => "secrets",
            (false, false) => "no",
        }
    }
}

pub(crate) fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut finder = Finder::new(&modules::searches(&Module::ALL));
    let targets = if args.pid.is_empty() {
        finder.scan().map_err(|e| Exit::Failure.because(e))?
    } else {
        finder.scan_processes(&args.pid)
    };
    let known = Known::remembered(config::cache(&args.cache).as_deref());
    let rows = rows(&targets, &known);
    let mut out = io::stdout().lock();
    let written = if args.json {
        rows.iter().try_for_each(|row| {
            serde_json::to_writer(&mut out, row)?;
            writeln!(out)
        })
    } else {
        write_table(&mut out, &rows)
    };
    written.context("stdout")?;
    let unreadable = finder.report().unreadable;
    if unreadable > 0 {
        eprintln!(
            "tlscope: {unreadable} of the processes may not be looked into: it takes root, or \
             CAP_SYS_PTRACE, in the user namespace of the process"
        );
    }
    Ok(())
}

/// What is told of an image: nothing, if nothing says that it speaks TLS.
fn libraries(target: &Target, known: &Known) -> Vec<Library> {
    let is_code = target.found_by == FoundBy::Code;
    let error = match Image::open(target, &Module::ALL, known) {
        Ok(image) => return image.plans.iter().map(Library::of_plan).collect(),
        Err(error) => error,
    };
    match error.downcast_ref() {
        Some(ImageError::NotCaptured(name)) => vec![Library::not_captured(name)],
        Some(_) if is_code => Vec::new(),
        Some(ImageError::NothingFound { .. }) => {
            vec![Library::unusable("no known TLS library is in it".into())]
        }
        _ => vec![Library::unusable(format!("{error:#}"))],
    }
}

/// By process. Most code that is mapped holds no TLS library, and is not shown.
fn rows(targets: &[Target], known: &Known) -> Vec<Row> {
    let mut by_process: BTreeMap<u32, Vec<(&Target, Library)>> = BTreeMap::new();
    for target in targets {
        let libraries = libraries(target, known);
        for user in &target.users {
            let rows = by_process.entry(*user).or_default();
            rows.extend(libraries.iter().cloned().map(|library| (target, library)));
        }
    }
    let mut rows = Vec::new();
    for (pid, libraries) in by_process {
        // It may have ended meanwhile.
        let Some(process) = process(pid) else {
            continue;
        };
        let within = container(pid);
        rows.extend(libraries.into_iter().map(|(target, library)| Row {
            pid,
            comm: process.comm.clone(),
            container: within.as_ref().map(|container| container.id.clone()),
            pod: within.as_ref().and_then(|container| container.pod.clone()),
            path: target.shown.clone(),
            library,
        }));
    }
    rows
}

fn write_table(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    writeln!(
        out,
        "{:>8} {:<16} {:<12} {:<9} {:<22} FILE",
        "PID", "COMMAND", "CONTAINER", "CAPTURED", "LIBRARY"
    )?;
    for row in rows {
        let id = row.container.as_deref().map_or("-", short_id);
        let library = [&row.library.family, &row.library.version];
        let library: Vec<&str> = library.into_iter().flatten().map(String::as_str).collect();
        let library = match library.as_slice() {
            [] => "-".to_owned(),
            words => words.join(" "),
        };
        let (pid, state) = (row.pid, row.library.state());
        // Both are words of others.
        let comm = row.comm.escape_default().to_string();
        let path = row.path.escape_default();
        writeln!(
            out,
            "{pid:>8} {comm:<16} {id:<12} {state:<9} {library:<22} {path}"
        )?;
        for missing in &row.library.missing {
            writeln!(out, "{:>8} {missing}", "")?;
        }
    }
    if rows.is_empty() {
        writeln!(out, "no process uses a TLS library that tlscope knows")?;
    }
    Ok(())
}
