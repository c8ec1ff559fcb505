//! Wires a capture together: targets -> probes -> events -> flows -> sinks.
//!
//! Order of shutdown: probes off, buffers drained, the kernel's byte counts
//! compared, sinks finished, the summary shown. Nothing captured is dropped.

mod blocks;
mod command;
pub(crate) mod images;
mod names;
mod outputs;
mod recorder;
mod records;
mod remote;
mod turns;
mod watch;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tlscope_core::event::{Event, Timestamp};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::sink::SinkError;
use tlscope_core::summary::CaptureCounters;
use tlscope_image::plan::{Missing, Plan};
use tlscope_probe::abi::{self, COUNTERS, Record, Unit};
use tlscope_probe::{EventSource, LoadError, Options, Tracer, features};
use tlscope_targets::Finder;

use crate::config::Config;
use crate::modules;
use crate::{Exit, Failure};
use command::Running;
use images::Image;
use outputs::Outputs;
use recorder::Recorder;
use records::Clock;
use remote::{Count, Remote};
use watch::Watch;

/// Longest time until plaintext that came is shown.
const TICK: Duration = Duration::from_millis(50);
/// How often processes are looked at: for new images, and for their end.
const PROCESS_CHECK: Duration = Duration::from_secs(1);

/// Gives the exit code of the command that was run, else 0./// A premaster secret, named by 8 bytes of its encrypted form and not by the
/// client random. The master secret follows, as `CLIENT_RANDOM`.
const RSA_LABEL: &[u8] = b"RSA";

pub(crate) fn run(config: &Config) -> Result<u8, Failure> {
    let stop = stop_on_signals()?;
    features::may_load().map_err(|e| load_failure(LoadError::Privilege(e)))?;
    let Outputs { sinks, remote } = outputs::open(config)?;
    let mut finder = Finder::new(&modules::searches(&config.wanted.modules));
    let images = first_images(config, &mut finder)?;
    let mut tracer = load(config)?;
    let attached = attach_all(&mut tracer, &images, config);
    if attached == 0 {
        return Err(Exit::Nothing.because(nothing_found(config)));
    }
    drop(images);
    let watch = config
        .wanted
        .libraries
        .is_empty()
        .then(|| Watch::start(finder, config.wanted.modules.clone(), PROCESS_CHECK));

    let recorder = match &config.packets {
        Some(packets) => Some(Recorder::open(config, packets)?),
        None => None,
    };
    let pipeline = Pipeline::new(pipeline_options(config), sinks);
    let receiver = Receiver::new(pipeline, recorder);
    let source = tracer.events().map_err(load_failure)?;
    announce_ready(config)?;
    let command = Running::start(&config.run)?;
    Session {
        config,
        tracer,
        source,
        receiver,
        watch,
        command,
        remote,
    }
    .run(&stop)
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

/// Images to attach from the start: the named ones, or all that are found.
fn first_images(config: &Config, finder: &mut Finder) -> Result<Vec<Image>, Failure> {
    let modules = &config.wanted.modules;
    if config.wanted.libraries.is_empty() {
        let mut targets = finder.scan().map_err(|e| Exit::Failure.because(e))?;
        targets.extend(finder.loader());
        return Ok(targets
            .iter()
            .filter_map(|target| Image::open_or_say(target, modules))
            .collect());
    }
    let mut seen = Vec::new();
    let mut images = Vec::new();
    for path in &config.wanted.libraries {
        let (target, image) = images::open_named(path, modules).map_err(|error| {
            let exit = if error.is::<tlscope_targets::NamedError>() {
                Exit::Failure
            } else {
                Exit::Nothing
            };
            exit.because(error)
        })?;
        if !seen.contains(&target.image) {
            seen.push(target.image);
            images.push(image);
        }
    }
    Ok(images)
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

fn load(config: &Config) -> Result<Tracer, Failure> {
    let options = Options {
        needs: config.needs(),
        pids: config.pids.clone(),
        follow: config.follow,
        uid: config.uid,
        shard_bytes: config.shard_bytes,
        object: config.object,
        mode: config.mode,
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

/// Attaches what can be; says of the rest why not. Gives the number attached.
fn attach_all(tracer: &mut Tracer, images: &[Image], config: &Config) -> usize {
    images
        .iter()
        .flat_map(|image| image.plans.iter().map(move |plan| (image, plan)))
        .filter(|(image, plan)| attach(tracer, image, plan, config))
        .count()
}

fn attach(tracer: &mut Tracer, image: &Image, plan: &Plan, config: &Config) -> bool {
    let (title, shown) = (images::title(plan), &image.shown);
    if let Some(contradiction) = config.wanted.claim.contradiction(plan) {
        eprintln!("tlscope: {shown}: {contradiction}; the plan is made from its code");
    }
    for missing in &plan.missing {
        let Missing { what, why } = missing;
        config.note(format_args!("tlscope: {shown}: {what}: {why}"));
    }
    if !config.needs().served_by(plan) {
        // A token has no part in plaintext.
        if plan.is_token() {
            return false;
        }
        eprintln!("tlscope: {shown}: {title}: nothing in it can serve this mode");
        return false;
    }
    match tracer.attach(plan, &image.path()) {
        Ok(probes) => {
            config.note(format_args!("tlscope: {shown}: {title}, {probes} probes"));
            !plan.is_token()
        }
        Err(error) => {
            eprintln!("tlscope: {shown}: {error}");
            false
        }
    }
}

fn nothing_found(config: &Config) -> anyhow::Error {
    let rows = || config.wanted.modules.iter().map(|m| modules::row(*m));
    let flags = rows().map(|row| row.flag).collect::<Vec<_>>().join(" or ");
    if !config.wanted.libraries.is_empty() {
        return anyhow!("nothing to probe was found in what {flags} names");
    }
    let sought = rows()
        .map(|row| row.sought)
        .collect::<Vec<_>>()
        .join(" or ");
    anyhow!(
        "nothing to probe was found: no process maps {sought} that can be probed, and the loader \
         would find none; name the library, or the program that holds it, with {flags}"
    )
}

fn announce_ready(config: &Config) -> Result<(), Failure> {
    config.note(format_args!("tlscope: capturing; Ctrl-C ends"));
    if let Some(path) = &config.ready_file {
        fs::write(path, "").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// Takes records into the pipeline and remembers the first failure.
struct Receiver {
    pipeline: Pipeline,
    recorder: Option<Recorder>,
    clock: Clock,
    /// Processes with traffic, and when each was started.
    processes: HashMap<u32, Option<u64>>,
    malformed: u64,
    failure: Option<SinkError>,
}

impl Receiver {
    fn new(pipeline: Pipeline, recorder: Option<Recorder>) -> Self {
        Self {
            pipeline,
            recorder,
            clock: Clock::now(),
            processes: HashMap::new(),
            malformed: 0,
            failure: None,
        }
    }

    fn record(&mut self, record: &Record<'_>) -> ControlFlow<()> {
        if self.failure.is_some() {
            return ControlFlow::Break(());
        }
        if let Record::Owner(owner) = record {
            return self.with_recorder(|recorder| {
                let mut owners = records::ownership(owner).into_iter();
                owners.try_for_each(|ownership| recorder.owner(&ownership))
            });
        }
        if matches!(record, Record::Secret(secret) if secret.label() == RSA_LABEL) {
            return ControlFlow::Continue(());
        }
        let Some(event) = records::event(record, self.clock) else {
            self.malformed += 1;
            return ControlFlow::Continue(());
        };
        if let Event::Secret(secret) = &event {
            self.with_recorder(|recorder| recorder.secret(secret))?;
        }
        if let Event::Data(data) = &event {
            let pid = data.process.pid;
            let start = || tlscope_targets::process(pid).map(|process| process.start_time);
            self.processes.entry(pid).or_insert_with(start);
        }
        let result = self.pipeline.event(event);
        self.keep(result)
    }

    fn keep(&mut self, result: Result<(), SinkError>) -> ControlFlow<()> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure.get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Lets the recorder work, if there is one and nothing has failed.
    fn with_recorder(
        &mut self,
        work: impl FnOnce(&mut Recorder) -> io::Result<()>,
    ) -> ControlFlow<()> {
        match &mut self.recorder {
            Some(recorder) if self.failure.is_none() => {
                let result = work(recorder).map_err(|source| SinkError {
                    sink: "pcapng",
                    source,
                });
                self.keep(result)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    /// Nothing more can come in, or go out.
    fn is_over(&self) -> bool {
        self.failure.is_some() || self.recorder.as_ref().is_some_and(Recorder::is_complete)
    }

    fn now(&self) -> Timestamp {
        self.clock.wall(tlscope_probe::events::monotonic_ns())
    }

    fn tick(&mut self) {
        self.clock = Clock::now();
        let result = self.pipeline.tick(self.now());
        let _ = self.keep(result);
        let _ = self.with_recorder(Recorder::tick);
    }

    /// Processes that have ended since they were last seen.
    fn ended(&mut self) -> Vec<u32> {
        let ended = |(pid, start): (&u32, &Option<u64>)| {
            let alive = start.is_some_and(|start| tlscope_targets::is_alive(*pid, start));
            (!alive).then_some(*pid)
        };
        let ended: Vec<u32> = self.processes.iter().filter_map(ended).collect();
        for pid in &ended {
            self.processes.remove(pid);
        }
        ended
    }
}

/// A capture under way.
struct Session<'c> {
    config: &'c Config,
    tracer: Tracer,
    source: EventSource,
    receiver: Receiver,
    watch: Option<Watch>,
    command: Option<Running>,
    remote: Option<Remote>,
}

impl Session<'_> {
    fn run(mut self, stop: &AtomicBool) -> Result<u8, Failure> {
        let mut checked = Instant::now();
        while !stop.load(Ordering::Relaxed) && !self.is_over() {
            let patience = match &self.receiver.recorder {
                Some(recorder) => recorder.wait(TICK),
                None => TICK,
            };
            // A break is a failure, which ends the loop.
            let _ = self
                .source
                .poll(patience, |record| self.receiver.record(&record));
            // After the secrets, so that packets which need them do not wait.
            let _ = self.receiver.with_recorder(Recorder::read);
            self.receiver.tick();
            self.attach_new_images();
            if checked.elapsed() >= PROCESS_CHECK {
                checked = Instant::now();
                self.forget_ended_processes();
            }
        }
        self.finish()
    }

    fn is_over(&mut self) -> bool {
        self.receiver.is_over() || self.command.as_mut().is_some_and(Running::has_ended)
    }

    fn attach_new_images(&mut self) {
        let images = self.watch.as_ref().map(Watch::found).unwrap_or_default();
        attach_all(&mut self.tracer, &images, self.config);
    }

    fn forget_ended_processes(&mut self) {
        let ended = self.receiver.ended();
        if ended.is_empty() {
            return;
        }
        compare_totals(&self.tracer, &mut self.receiver, |pid| ended.contains(&pid));
        let now = self.receiver.now();
        for pid in ended {
            let result = self.receiver.pipeline.forget_process(pid, now);
            let _ = self.receiver.keep(result);
        }
    }

    fn finish(self) -> Result<u8, Failure> {
        let Self {
            config,
            mut tracer,
            source,
            mut receiver,
            command,
            remote,
            ..
        } = self;
        let _ = receiver.with_recorder(Recorder::read_last);
        tracer.detach();
        let _ = source.finish(|record| receiver.record(&record));
        compare_totals(&tracer, &mut receiver, |_| true);
        let mut counters = CaptureCounters::default();
        for (row, value) in COUNTERS.iter().zip(tracer.counters()) {
            counters.push(row.name, value);
        }
        let Receiver {
            pipeline,
            recorder,
            failure,
            malformed,
            ..
        } = receiver;
        counters.push("malformed records", malformed);
        let gone = recorder.as_ref().is_some_and(Recorder::interface_is_gone);
        let recorded = recorder.map(|recorder| finish_recorder(recorder, config, &counters));
        let summary = pipeline.summary();
        let finished = pipeline.finish(&counters);
        if recorded.is_none() && !config.quiet {
            eprint!("{}", finished.as_ref().unwrap_or(&summary));
        }
        if let Some(remote) = remote {
            tell_undelivered(remote.close());
        }
        let recorded = recorded.unwrap_or(Ok(()));
        match failure.or(recorded.err()).or(finished.err()) {
            Some(error) => Err(sink_failure(config, error)),
            None if gone => Err(Exit::Failure.because(anyhow!("the interface has gone"))),
            None => Ok(command.map_or(0, Running::finish)),
        }
    }
}

/// A loss is told with `--quiet` too.
fn tell_undelivered(Count { records, bytes }: Count) {
    if records > 0 {
        eprintln!("{records:>16}  records of {bytes} bytes that the reader of -o did not get");
    }
}

/// Bytes that the kernel side counted and never came are gaps at the end of
/// their connection. Without loss there are none, and the look is spared.
fn compare_totals(tracer: &Tracer, receiver: &mut Receiver, of_process: impl Fn(u32) -> bool) {
    let mut lost = COUNTERS.iter().zip(tracer.counters());
    if lost.all(|(row, value)| row.unit != Unit::Bytes || value == 0) {
        return;
    }
    let closed = tracer.unsent_closes().into_iter();
    let closed = closed.map(|close| (close.header.pid, close.connection, close.total));
    let open = tracer.connections().into_iter().map(|(key, connection)| {
        let id = abi::ConnectionId {
            object: key.object,
            generation: connection.generation,
        };
        let mut total = connection.total;
        total[abi::DIRECTION_SENT as usize] += connection.ahead;
        (key.pid, id, total)
    });
    for (pid, id, total) in closed.chain(open).filter(|row| of_process(row.0)) {
        let result = receiver
            .pipeline
            .connection_totals(records::key(pid, id), total);
        let _ = receiver.keep(result);
    }
}

fn finish_recorder(
    recorder: Recorder,
    config: &Config,
    counters: &CaptureCounters,
) -> Result<(), SinkError> {
    let (finished, summary) = recorder.finish();
    let lost = counters.0.iter().copied().filter(|row| row.1 != 0);
    for (name, value) in summary.rows().chain(lost) {
        config.note(format_args!("{value:>16}  {name}"));
    }
    finished.map_err(|source| SinkError {
        sink: "pcapng",
        source,
    })
}

fn sink_failure(config: &Config, error: SinkError) -> Failure {
    if error.is_closed_pipe() {
        return Exit::Failure.because(error.source);
    }
    let hint = if error.is_disk_full() {
        "; what was written before is whole: make room and start again"
    } else {
        ""
    };
    let place = match (
        error.sink,
        &config.plaintext,
        &config.packets,
        &config.keylog,
    ) {
        ("keylog", .., Some(to)) => format!("{to:?}"),
        ("pcapng", _, Some(packets), _) => format!("{:?}", packets.to),
        (_, Some(plaintext), ..) => format!("{:?}", plaintext.to),
        _ => String::new(),
    };
    Exit::Failure.because(anyhow!("{error} ({place}){hint}"))
}
