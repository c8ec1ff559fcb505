//! Wires a capture together: targets -> probes -> events -> flows -> sinks.

mod attacher;
mod beside;
mod blocks;
pub(crate) mod claim;
mod command;
mod containers;
pub(crate) mod images;
mod keeper;
pub(crate) mod known;
mod names;
mod outputs;
mod processes;
mod recorder;
mod records;
mod remote;
mod session;
mod turns;
mod watch;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_probe::descriptors::Descriptors;
use tlscope_probe::mappings::Mappings;
use tlscope_probe::{LoadError, Needs, Options, Tracer, features};
use tlscope_targets::Finder;

use crate::config::{Config, Wanted};
use crate::modules;
use crate::{Exit, Failure};
use attacher::Attacher;
use command::Running;
use images::Image;
use keeper::Service;
use known::Known;
use outputs::Outputs;
use recorder::Recorder;
use records::Reach;
use session::{Receiver, Session};
use watch::{First, Watch, Watcher};

/// Longest time until plaintext that came is shown.
const TICK: Duration = Duration::from_millis(50);

/// Gives the exit code of the command that was run, else 0.
pub(crate) fn run(config: &Config) -> Result<u8, Failure> {
    let began = Instant::now();
    let descriptors = Descriptors::raise();
    let stop = stop_on_signals()?;
    features::may_load().map_err(|e| load_failure(LoadError::Privilege(e)))?;
    let Outputs { sinks, remote } = outputs::open(config)?;
    let named = open_named(config)?;
    let needs = needs(config, &named);
    let attacher = Attacher::new(load(config, needs)?, needs, config);
    // Ahead of the probes: the first of them fires long before the last is set, and what it has to
    // tell finds no room where perf buffers are not there yet.
    let source = attacher.tracer().events().map_err(load_failure)?;
    let found = if config.wanted.libraries.is_empty() {
        Some(attach_found(config, &attacher)?)
    } else {
        attach_named(config, &attacher, named)?;
        None
    };
    let recorder = match &config.packets {
        Some(packets) => Some(Recorder::open(config, packets)?),
        None => None,
    };
    let pipeline = Pipeline::new(pipeline_options(config), sinks);
    let reach = Reach::of(&attacher.tracer());
    let (watch, first) = found.unzip();
    let containers = watch.as_ref().map(Watch::containers).unwrap_or_default();
    let receiver = Receiver::new(pipeline, recorder, reach, containers);
    announce_ready(config, began, first.as_ref())?;
    let mut command = Running::start(&config.run, &descriptors)?;
    let (service, keeper) = Service::new(attacher, watch);
    let session = Session {
        config,
        keeper,
        source,
        receiver,
        remote,
    };
    let captured = thread::scope(|scope| {
        let thread = thread::Builder::new().name("decode".into());
        let running = thread.spawn_scoped(scope, || session.run(&stop));
        let running = running.context("a thread cannot be started")?;
        keeper::give_up_privileges(config);
        service.run(&mut command, &stop);
        running.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    // A capture that failed ends its command, too.
    let code = command.map_or(0, Running::finish);
    captured.map(|()| code)
}

/// A second Ctrl-C ends tlscope at once, should the first be slow.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("signals cannot be handled")?;
    }
    Ok(stop)
}

fn load_failure(error: LoadError) -> Failure {
    match error {
        LoadError::Buffer { .. } => Exit::Failure.because(error),
        _ => Exit::Unable.because(error),
    }
}

/// Attaches what is found, now and from now on.
fn attach_found(config: &Config, attacher: &Attacher) -> Result<(Watch, First), Failure> {
    let modules = &config.wanted.modules;
    let mappings = watch_mappings(config)
        .inspect_err(|error| {
            eprintln!(
                "tlscope: the kernel does not tell of code that is mapped ({error}): a program that \
                 brings a library of its own is met up to a second late"
            );
        })
        .ok();
    let finder = Finder::new(&modules::searches(modules));
    let known = Known::remembered(config.cache.as_deref());
    let mut watcher = Watcher::new(finder, modules.clone(), attacher.clone(), known);
    let mut pids = config.pids.clone();
    if config.follow {
        pids.extend(tlscope_targets::descendants(&pids));
    }
    let first = watcher.attach_first(&pids);
    let first = first.map_err(|e| Exit::Failure.because(e))?;
    if first.plans == 0 {
        return Err(nothing_attached(config, attacher));
    }
    Ok((Watch::start(watcher, mappings), first))
}

fn watch_mappings(config: &Config) -> io::Result<Mappings> {
    if config.forced.untold_mappings {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Mappings::watch()
}

/// The images that the user named, and what belongs to them in files beside them.
fn open_named(config: &Config) -> Result<Vec<Image>, Failure> {
    let modules = &config.wanted.modules;
    let mut seen = HashSet::new();
    let mut images = Vec::new();
    for path in &config.wanted.libraries {
        let target = tlscope_targets::named(path).map_err(|e| unopened(e.into(), Exit::Failure))?;
        let others = tlscope_targets::beside(path, &modules::beside(modules));
        match images::open_named(&target, modules) {
            Ok(image) => images.push(image),
            Err(error) if others.is_empty() => return Err(unopened(error, Exit::Nothing)),
            // One file of a library in several.
            Err(_) => {}
        }
        let others = others.iter();
        images.extend(others.filter_map(|other| images::open_named(other, modules).ok()));
    }
    images.retain(|image| seen.insert(image.id));
    Ok(images)
}

/// A file that this user may not read is a privilege that is missing.
fn unopened(error: anyhow::Error, otherwise: Exit) -> Failure {
    let is_denied = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
    });
    if !is_denied {
        return otherwise.because(error);
    }
    Exit::Unable.because(anyhow!(
        "{error:#}; reading it takes CAP_DAC_READ_SEARCH, or try sudo"
    ))
}

/// Of named images alone, the programs for their very plans are loaded.
fn needs(config: &Config, named: &[Image]) -> Needs {
    let mut needs = config.needs();
    if !config.wanted.libraries.is_empty() {
        let plans = named.iter().flat_map(|image| &image.plans);
        let probes = plans.flat_map(|plan| &plan.probes);
        needs.roles = probes.map(|probe| probe.role).collect();
    }
    needs
}

fn attach_named(config: &Config, attacher: &Attacher, named: Vec<Image>) -> Result<(), Failure> {
    let plans: usize = named.into_iter().map(|image| attacher.attach(image)).sum();
    if plans == 0 {
        return Err(nothing_attached(config, attacher));
    }
    Ok(())
}

fn pipeline_options(config: &Config) -> PipelineOptions {
    let filter = config
        .plaintext
        .as_ref()
        .map(|plaintext| plaintext.filter.clone());
    PipelineOptions {
        filter: filter.unwrap_or_default(),
        ..Default::default()
    }
}

fn load(config: &Config, needs: Needs) -> Result<Tracer, Failure> {
    let options = Options {
        needs,
        pids: config.pids.clone(),
        follow: config.follow,
        uid: config.uid,
        shard_bytes: config.shard_bytes,
        object: config.forced.object,
        mode: config.forced.mode,
        route: config.forced.route,
        filtered_returns: config.forced.filtered_returns,
    };
    let tracer = Tracer::load(&options).map_err(load_failure)?;
    // The tracer sees children begin from here on; these began before.
    if config.follow {
        for pid in tlscope_targets::descendants(&config.pids) {
            tracer.want(pid);
        }
    }
    let (object, mode) = (tracer.object_kind(), tracer.attach_mode());
    config.note(format_args!("tlscope: {object} object, attach mode {mode}"));
    Ok(tracer)
}

fn nothing_attached(config: &Config, attacher: &Attacher) -> Failure {
    if attacher.is_unable() {
        return Exit::Unable.because(anyhow!(
            "no probe could be attached, for what is told above"
        ));
    }
    Exit::Nothing.because(nothing_found(config))
}

fn nothing_found(config: &Config) -> anyhow::Error {
    let Wanted {
        modules, libraries, ..
    } = &config.wanted;
    let of_rows = |name: fn(&modules::Row) -> String| {
        let names = modules.iter().map(|module| name(modules::row(*module)));
        names.collect::<Vec<_>>().join(" or ")
    };
    let flags = of_rows(|row| format!("tlscope {} {}", row.name, row.flag));
    if !libraries.is_empty() {
        return anyhow!("nothing to probe was found in what {flags} names");
    }
    let sought = of_rows(|row| row.sought.to_owned());
    anyhow!(
        "nothing to probe was found: no process maps {sought} that can be probed, and the loader \
         would find none; name the library, or the program that holds it, with {flags}"
    )
}

fn announce_ready(config: &Config, began: Instant, first: Option<&First>) -> Result<(), Failure> {
    let elapsed = began.elapsed().as_millis();
    let first = first.map(|first| format!(": {first}")).unwrap_or_default();
    config.note(format_args!("tlscope: ready in {elapsed} ms{first}"));
    config.note(format_args!("tlscope: capturing; Ctrl-C ends"));
    if let Some(path) = &config.ready_file {
        fs::write(path, "").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
