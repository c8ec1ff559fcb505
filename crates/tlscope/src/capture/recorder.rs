//! Pcap mode: packets from the ring, secrets and owners from the probes, one
//! pcapng out of all of them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context;
use tlscope_core::event::{Comm, SecretEvent, Timestamp};
use tlscope_core::hold::{Frame, HoldOptions, Moment};
use tlscope_core::owners::{Owner, Ownership};
use tlscope_core::packet::{LinkType, Protocol};
use tlscope_core::recording::{KernelCounts, Recording, RecordingCounts, RecordingOptions};
use tlscope_core::sink::pcapng::{Interface, Section};
use tlscope_probe::events::monotonic_ns;
use tlscope_probe::packets::{
    ANY, BLOCK_TIMEOUT_MS, PacketCounts, PacketError, PacketOptions, PacketSource, interface_name,
};
use tlscope_targets::{ProcessInfo, Transport, open_sockets};

use super::blocks::Blocks;
use super::records::Clock;
use crate::config::{Config, PacketConfig};
use crate::{Exit, Failure};

/// Packets taken before the secrets have their turn again.
const TURN: usize = 4096;
/// A packet of the last moment is in a block that the kernel hands over after
/// the time-out of a block; twice that, for its timers run late too.
const LAST_BLOCK: Duration = Duration::from_millis(2 * BLOCK_TIMEOUT_MS as u64);

/// What a look into the ring found.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    packets: usize,
    /// When the youngest of them was on the wire.
    until: Timestamp,
}

/// What the last look has to be like, if all that was on its way is to have come.
#[derive(Debug, Clone, Copy)]
struct LastLook {
    /// By then the kernel has handed the last block over.
    from: Instant,
    /// When the capture was told to end.
    told: Timestamp,
}

impl LastLook {
    /// A busy machine may let no time pass for us until `from`, and the ring may hold more than
    /// one look takes: time alone does not tell.
    fn is(self, began: Instant, taken: Taken) -> bool {
        began >= self.from && (taken.packets < TURN || taken.until > self.told)
    }
}

#[derive(Debug)]
pub(super) struct Recorder {
    /// `None` once the interface has gone, or nothing more is wanted of it.
    source: Option<PacketSource>,
    gone: bool,
    recording: Recording<Blocks>,
    began: Instant,
    /// The same by the kernel's clock.
    began_ns: u64,
    interfaces: Interfaces,
    counts: PacketCounts,
}

/// Numbers of interfaces in the file. Of `any`, each is added when its first
/// packet comes.
#[derive(Debug)]
struct Interfaces {
    description: Interface,
    first: u32,
    /// By the kernel's index.
    of_any: Option<HashMap<u32, u32>>,
}

/// The numbers of a whole capture.
#[derive(Debug)]
pub(super) struct RecorderSummary {
    packets: PacketCounts,
    recording: RecordingCounts,
    /// Bytes that the reader of a pipe did not take.
    not_taken: u64,
}

impl Recorder {
    pub(super) fn open(config: &Config, packets: &PacketConfig) -> Result<Self, Failure> {
        let source = PacketSource::open(&PacketOptions {
            interface: packets.interface.clone(),
            snapshot_length: packets.snapshot_length,
            buffer_bytes: config.shard_bytes,
            filter: packets.filter.clone(),
        })
        .map_err(|error| match error {
            PacketError::Filter(_) => Exit::Usage.because(error),
            PacketError::Privilege(_) => Exit::Unable.because(error),
            PacketError::Interface { .. } => Exit::Failure.because(error),
        })?;
        let now = wall_now();
        let blocks = Blocks::open(&packets.to, packets.rotation, now)?;
        let options = RecordingOptions {
            hold: HoldOptions {
                cap: packets.hold,
                owned_only: !config.pids.is_empty() || config.uid.is_some(),
                ..HoldOptions::default()
            },
            count: packets.count,
            drain: packets.drain,
        };
        let mut recording =
            Recording::new(blocks, section(), options, now).context("pcapng output")?;
        let description = Interface {
            name: packets.interface.clone(),
            link_type: LinkType(source.link_type()),
            snapshot_length: packets.snapshot_length,
            filter: packets.filter.clone(),
        };
        let first = recording
            .add_interface(description.clone(), now)
            .context("pcapng output")?;
        // Readers can begin before there is a packet.
        recording.tick(Moment::default()).context("pcapng output")?;
        for ownership in owners_so_far(config) {
            recording.owner(&ownership).context("pcapng output")?;
        }
        Ok(Self {
            recording,
            began: Instant::now(),
            began_ns: monotonic_ns(),
            interfaces: Interfaces {
                description,
                first,
                of_any: (packets.interface == ANY).then(HashMap::new),
            },
            source: Some(source),
            gone: false,
            counts: PacketCounts::default(),
        })
    }

    /// Waits for packets; gives the patience that is left for other things.
    pub(super) fn wait(&self, patience: Duration) -> Duration {
        match &self.source {
            Some(source) => {
                source.wait(patience);
                Duration::ZERO
            }
            None => patience,
        }
    }

    pub(super) fn secret(&mut self, event: &SecretEvent) -> io::Result<()> {
        self.recording.secret(event)
    }

    pub(super) fn owner(&mut self, ownership: &Ownership) -> io::Result<()> {
        self.recording.owner(ownership)
    }

    /// Every secret that was written before then, by the kernel's clock, has come.
    pub(super) fn heard(&mut self, until: u64) {
        let since = Duration::from_nanos(until.saturating_sub(self.began_ns));
        self.recording.heard(Moment(since));
    }

    /// Takes packets that have come.
    pub(super) fn read(&mut self) -> io::Result<()> {
        self.look().map(drop)
    }

    fn look(&mut self) -> io::Result<Taken> {
        let now = Moment(self.began.elapsed());
        let (recording, interfaces) = (&mut self.recording, &mut self.interfaces);
        let mut taken = Taken::default();
        let Some(source) = &mut self.source else {
            return Ok(taken);
        };
        let read = source.read(TURN, |packet| {
            taken.packets += 1;
            taken.until = taken.until.max(Timestamp(packet.time_ns));
            let frame = Frame {
                interface: interfaces.of_packet(packet.bytes, recording)?,
                time: Timestamp(packet.time_ns),
                original_length: packet.original_length,
                bytes: packet.bytes,
            };
            recording.packet(frame, now)
        });
        match read {
            Ok(result) => result?,
            Err(gone) => {
                eprintln!("tlscope: {gone}; its capture ends here");
                self.count();
                self.source = None;
                self.gone = true;
            }
        }
        Ok(taken)
    }

    pub(super) fn tick(&mut self) -> io::Result<()> {
        self.count();
        self.recording.tick(Moment(self.began.elapsed()))
    }

    /// Nothing more is to be captured.
    pub(super) fn is_complete(&self) -> bool {
        self.source.is_none() || self.recording.is_complete()
    }

    pub(super) fn interface_is_gone(&self) -> bool {
        self.gone
    }

    /// Takes what was on its way when the capture was told to end. What comes later is
    /// no loss, and not counted as one.
    pub(super) fn read_last(&mut self) -> io::Result<()> {
        let last = LastLook {
            from: Instant::now() + LAST_BLOCK,
            told: wall_now(),
        };
        while !self.is_complete() {
            self.wait(last.from.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            let taken = self.look()?;
            if last.is(began, taken) {
                break;
            }
        }
        self.count();
        self.source = None;
        Ok(())
    }

    pub(super) fn finish(mut self) -> (io::Result<()>, RecorderSummary) {
        self.count();
        let (ended, blocks, recording) = self.recording.finish(wall_now());
        let closed = blocks.close();
        let summary = RecorderSummary {
            packets: self.counts,
            recording,
            not_taken: *closed.as_ref().unwrap_or(&0),
        };
        (ended.and(closed.map(drop)), summary)
    }

    fn count(&mut self) {
        if let Some(source) = &mut self.source {
            self.counts = source.counts();
            let counts = KernelCounts {
                received: self.counts.received,
                dropped_by_interface: self.counts.dropped_by_interface,
                dropped_by_kernel: self.counts.dropped_by_kernel,
            };
            self.recording.kernel_counts(self.interfaces.first, counts);
        }
    }
}

impl Interfaces {
    fn of_packet(&mut self, frame: &[u8], recording: &mut Recording<Blocks>) -> io::Result<u32> {
        let Some(known) = &mut self.of_any else {
            return Ok(self.first);
        };
        // LINUX_SLL2: the kernel's index of the interface follows 4 other bytes.
        let Some(index) = frame.get(4..).and_then(|rest| rest.first_chunk()) else {
            return Ok(self.first);
        };
        let index = u32::from_be_bytes(*index);
        if let Some(number) = known.get(&index) {
            return Ok(*number);
        }
        let name = interface_name(index).unwrap_or_else(|| format!("if{index}"));
        let description = Interface {
            name,
            ..self.description.clone()
        };
        let number = recording.add_interface(description, wall_now())?;
        known.insert(index, number);
        Ok(number)
    }
}

impl RecorderSummary {
    /// Every number that says what was kept, and those of loss that are not 0.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let (packets, recording) = (self.packets, self.recording);
        let hold = recording.hold;
        let always = [
            ("packets received by the filter", packets.received),
            ("packets written", recording.written),
            ("packets dropped by the kernel", packets.dropped_by_kernel),
            ("secrets written", recording.secrets),
            ("packets that waited for secrets or owner", hold.served),
            (
                "packets that waited in vain for secrets",
                hold.without_secrets,
            ),
        ];
        let if_any = [
            (
                "packets dropped by the interface",
                packets.dropped_by_interface,
            ),
            ("packets of other processes dropped", hold.unwanted),
            ("packets released early: too many waited", hold.for_memory),
            (
                "connections that outlived their file: they go on in a later one, undecrypted",
                hold.outlived,
            ),
            ("packets dropped: the output is too slow", recording.dropped),
            ("bytes that the reader did not take", self.not_taken),
            ("duplicate secrets dropped", recording.duplicate_secrets),
        ];
        always
            .into_iter()
            .chain(if_any.into_iter().filter(|row| row.1 != 0))
    }
}

/// Of the sockets that are open already. With a filter by user or process the
/// others are none of ours.
fn owners_so_far(config: &Config) -> impl Iterator<Item = Ownership> {
    let mut pids = config.pids.clone();
    if config.follow {
        pids.extend(tlscope_targets::descendants(&config.pids));
    }
    let wanted = |process: &ProcessInfo| {
        (pids.is_empty() || pids.contains(&process.pid))
            && config.uid.is_none_or(|uid| uid == process.uid)
    };
    open_sockets(wanted).into_iter().map(|socket| Ownership {
        protocol: match socket.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        },
        local: socket.local,
        remote: socket.remote,
        owner: Owner {
            pid: socket.pid,
            comm: Comm::new(socket.comm.as_bytes()),
        },
    })
}

fn wall_now() -> Timestamp {
    Clock::now().wall(monotonic_ns())
}

/// Who wrote the file and on what machine, as the Section Header Block has it.
fn section() -> Section {
    let kernel = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Section {
        application: concat!("tlscope ", env!("CARGO_PKG_VERSION")).to_owned(),
        os: format!("{} {}", kernel("ostype"), kernel("osrelease")),
        hardware: model
            .map_or(std::env::consts::ARCH, |(_, name)| name)
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_look_comes_after_the_last_block_and_empties_the_ring() {
        let told = Timestamp(1000);
        let from = Instant::now();
        let before = from.checked_sub(LAST_BLOCK).expect("an uptime");
        let last = LastLook { from, told };
        let taken = |packets, until| Taken {
            packets,
            until: Timestamp(until),
        };
        // However late it is when we are let run: one look is still to come.
        for early in [taken(0, 0), taken(TURN, 999), taken(7, 1001)] {
            assert!(!last.is(before, early), "{early:?}");
        }
        let late = from + LAST_BLOCK * 10;
        assert!(!last.is(late, taken(TURN, 999)), "there may be more");
        assert!(last.is(late, taken(TURN - 1, 999)));
        assert!(last.is(from, taken(0, 0)));
        // What comes without end is no reason to go on without end.
        assert!(last.is(late, taken(TURN, 1001)));
    }
}
