//! A capture under way: records come in, packets are read, ended processes are
//! noticed, until it is over.
//!
//! Order of its end: probes off, buffers drained, the kernel's byte counts
//! compared, sinks finished, the summary shown. Nothing captured is dropped.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tlscope_core::event::{Event, Timestamp};
use tlscope_core::pipeline::Pipeline;
use tlscope_core::sink::SinkError;
use tlscope_core::summary::CaptureCounters;
use tlscope_probe::EventSource;
use tlscope_probe::abi::{COUNTERS, Record, Unit};

use super::TICK;
use super::containers::Containers;
use super::keeper::{self, Keeper, Kept};
use super::processes::Processes;
use super::recorder::Recorder;
use super::records::{self, Clock, Reach};
use super::remote::{Count, Remote};
use crate::config::Config;
use crate::{Exit, Failure};

/// How often processes with traffic are looked at for their end.
const PROCESS_CHECK: Duration = Duration::from_secs(1);

/// A premaster secret, named by 8 bytes of its encrypted form and not by the
/// client random. The master secret follows, as `CLIENT_RANDOM`.
const RSA_LABEL: &[u8] = b"RSA";

/// Takes records into the pipeline and remembers the first failure.
pub(super) struct Receiver {
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
    pub(super) fn new(
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
pub(super) struct Session<'c> {
    pub(super) config: &'c Config,
    pub(super) keeper: Keeper,
    pub(super) source: EventSource,
    pub(super) receiver: Receiver,
    pub(super) remote: Option<Remote>,
}

impl Session<'_> {
    pub(super) fn run(mut self, stop: &AtomicBool) -> Result<(), Failure> {
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
            let heard = self.source.horizon();
            let _ = self.receiver.with_recorder(|recorder| {
                recorder.heard(heard);
                recorder.read()
            });
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
