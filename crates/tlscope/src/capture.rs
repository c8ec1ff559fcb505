//! Wires a capture together: targets -> probes -> events -> flows -> sinks.
//!
//! Order of shutdown: probes off, buffers drained, the kernel's byte counts
//! compared, sinks finished, the summary shown. Nothing captured is dropped.

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
mod turns;
mod watch;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tlscope_core::event::{Event, Timestamp};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::sink::SinkError;
use tlscope_core::summary::CaptureCounters;
use tlscope_probe::abi::{COUNTERS, Record, Unit};
use tlscope_probe::descriptors::Descriptors;
use tlscope_probe::mappings::Mappings;
use tlscope_probe::{EventSource, LoadError, Needs, Options, Tracer, features};
use tlscope_targets::Finder;

use crate::config::{Config, Wanted};
use crate::modules;
use crate::{Exit, Failure};
use attacher::Attacher;
use command::Running;
use containers::Containers;
use images::Image;
use keeper::{Keeper, Kept, Service};
use known::Known;
use outputs::Outputs;
use processes::Processes;
use recorder::Recorder;
use records::{Clock, Reach};
use remote::{Count, Remote};
use watch::{First, Watch, Watcher};

/// Longest time until plaintext that came is shown.
const TICK: Duration = Duration::from_millis(50);
/// How often processes with traffic are looked at for their end.
const PROCESS_CHECK: Duration = Duration::from_secs(1);

/// A premaster secret, named by 8 bytes of its encrypted form and not by the
/// client random. The master secret follows, as `CLIENT_RANDOM`.
const RSA_LABEL: &[u8] = b"RSA";

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
    let source = attacher.tracer().events().map_err(load_failure)?;
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

/// Takes records into the pipeline and remembers the first failure.
struct Receiver {
    pipeline: Pipeline,
    recorder: Option<Recorder>,
    clock: Clock,
    processes: Processes,
    containers: Containers,
    reach: Reach,
    malformed: u64,
    failure: Option<SinkError>,
}

impl Receiver {
    fn new(
        pipeline: Pipeline,
        recorder: Option<Recorder>,
        reach: Reach,
        containers: Containers,
    ) -> Self {
        Self {
            pipeline,
            recorder,
            clock: Clock::now(),
            processes: Processes::default(),
            containers,
            reach,
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
        let Some(event) = records::event(record, self.clock, self.reach) else {
            self.malformed += 1;
            return ControlFlow::Continue(());
        };
        if let Event::Secret(secret) = &event {
            self.with_recorder(|recorder| recorder.secret(secret))?;
        }
        if let Event::Data(data) = &event {
            let pid = data.process.pid;
            if self.processes.meet(pid, data.time) {
                self.pipeline.introduce(pid, self.containers.of(pid));
            }
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

    /// Every record that was written before `horizon` has come.
    fn tick(&mut self, horizon: u64) {
        self.clock = Clock::now();
        let result = self.pipeline.tick(self.clock.wall(horizon));
        let _ = self.keep(result);
        let _ = self.with_recorder(Recorder::tick);
    }
}

/// A capture under way.
struct Session<'c> {
    config: &'c Config,
    keeper: Keeper,
    source: EventSource,
    receiver: Receiver,
    remote: Option<Remote>,
}

impl Session<'_> {
    fn run(mut self, stop: &AtomicBool) -> Result<(), Failure> {
        keeper::sandbox(self.config).enter_or_say("the thread that decodes");
        let mut checked = Instant::now();
        while !stop.load(Ordering::Relaxed) && !self.receiver.is_over() {
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
            if checked.elapsed() >= PROCESS_CHECK {
                checked = Instant::now();
                self.look_for_ended_processes();
            }
            self.receiver.tick(self.source.horizon());
            self.forget_ended_processes();
        }
        self.finish()
    }

    fn look_for_ended_processes(&mut self) {
        let asked = self.receiver.processes.to_ask();
        if asked.is_empty() {
            return;
        }
        let now = self.receiver.now();
        let ended = self.keeper.ask(move |kept| kept.ended(&asked, now));
        // What these wrote is in the buffers by now.
        let seen = tlscope_probe::events::monotonic_ns();
        let processes = &mut self.receiver.processes;
        processes.have_ended(&ended.unwrap_or_default(), seen);
    }

    fn forget_ended_processes(&mut self) {
        let ended = self.receiver.processes.take_ended(self.source.horizon());
        if ended.is_empty() {
            return;
        }
        let pids: HashSet<u32> = ended.iter().map(|process| process.pid).collect();
        compare_totals(&self.keeper, &mut self.receiver, |pid| pids.contains(&pid));
        let now = self.receiver.now();
        let result = self.receiver.pipeline.forget_processes(&ended, now);
        let _ = self.receiver.keep(result);
    }

    fn finish(self) -> Result<(), Failure> {
        let Self {
            config,
            keeper,
            source,
            mut receiver,
            remote,
        } = self;
        let _ = receiver.with_recorder(Recorder::read_last);
        keeper.ask(Kept::end);
        let _ = source.finish(|record| receiver.record(&record));
        compare_totals(&keeper, &mut receiver, |_| true);
        let mut counters = CaptureCounters::default();
        for (row, value) in COUNTERS.iter().zip(kernel_counters(&keeper)) {
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
            None => Ok(()),
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
fn compare_totals(keeper: &Keeper, receiver: &mut Receiver, of_process: impl Fn(u32) -> bool) {
    let mut lost = COUNTERS.iter().zip(kernel_counters(keeper));
    if lost.all(|(row, value)| row.unit != Unit::Bytes || value == 0) {
        return;
    }
    let (clock, now) = (receiver.clock, receiver.now());
    let totals = keeper.ask(move |kept| kept.totals(clock, now));
    let totals = totals.unwrap_or_default();
    for close in totals.iter().filter(|c| of_process(c.connection.pid)) {
        let result = receiver.pipeline.totals(close);
        let _ = receiver.keep(result);
    }
}

fn kernel_counters(keeper: &Keeper) -> [u64; COUNTERS.len()] {
    let counters = keeper.ask(|kept| kept.tracer().counters());
    counters.unwrap_or([0; COUNTERS.len()])
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
