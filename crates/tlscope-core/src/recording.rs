//! A capture as pcapng: packets, secrets and owners in, blocks out.
//!
//! Secrets go ahead of the packets that they decrypt, which [`crate::hold`] sees
//! to. Each file begins with all that a reader needs: interfaces, and the
//! secrets of the connections that still live.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use crate::bounded::Bounded;
use crate::event::{SecretEvent, Timestamp};
use crate::hold::{Frame, HeldFrame, Hold, HoldCounts, HoldOptions, Moment, Verdict};
use crate::owners::{Owners, Ownership};
use crate::packet::{Endpoints, LinkType, dissect};
use crate::secret::SecretSet;
use crate::sink::pcapng::{self, Interface, PacketHead, Section, Statistics};
use crate::tls::ClientRandom;

/// Where the blocks of a capture go: one file, or several in turn.
pub trait BlockOutput {
    /// Whether the block that comes next belongs into a next file.
    fn is_full(&self, now: Timestamp) -> bool;

    fn next_file(&mut self, now: Timestamp) -> io::Result<()>;

    /// One whole block, given in parts. False when it was dropped because the
    /// output does not keep up; only blocks of packets may be.
    fn write(&mut self, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool>;

    fn flush(&mut self) -> io::Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Of which a few may be lost.
    Packet,
    /// Without which the others cannot be read.
    Needed,
}

#[derive(Debug, Clone, Copy)]
pub struct RecordingOptions {
    pub hold: HoldOptions,
    /// Packets to write, then it is over.
    pub count: Option<u64>,
}

/// What a capture amounted to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordingCounts {
    pub hold: HoldCounts,
    pub written: u64,
    /// The output did not take them in time.
    pub dropped: u64,
    pub secrets: u64,
    pub duplicate_secrets: u64,
}

/// Numbers of one interface that only the kernel knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelCounts {
    pub received: u64,
    pub dropped_by_interface: u64,
    pub dropped_by_kernel: u64,
}

/// Connections whose owner, name or secrets are remembered.
const REMEMBERED: usize = 65_536;
/// Connections whose secrets are written again into a next file.
const LIVE_MAX: usize = 16_384;
/// Most lines of one client random: a key update adds one.
const LINES_MAX: usize = 4096;

#[derive(Debug)]
pub struct Recording<O> {
    output: O,
    options: RecordingOptions,
    section: Section,
    interfaces: Vec<InterfaceState>,
    hold: Hold,
    owners: Owners,
    seen: SecretSet,
    /// Lines that the next packet must come after.
    lines: Vec<u8>,
    live: Bounded<ClientRandom, Vec<u8>>,
    names: Bounded<(IpAddr, String), ()>,
    counts: RecordingCounts,
    scratch: Scratch,
}

#[derive(Debug)]
struct InterfaceState {
    description: Interface,
    kernel: KernelCounts,
    /// In the file under way.
    delivered: u64,
    start: u64,
}

#[derive(Debug, Default)]
struct Scratch {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl<O: BlockOutput> Recording<O> {
    /// Writes the head of the first file.
    pub fn new(
        output: O,
        section: Section,
        options: RecordingOptions,
        now: Timestamp,
    ) -> io::Result<Self> {
        let mut recording = Self {
            output,
            options,
            section,
            interfaces: Vec::new(),
            hold: Hold::new(options.hold),
            owners: Owners::new(REMEMBERED),
            seen: SecretSet::default(),
            lines: Vec::new(),
            live: Bounded::new(LIVE_MAX),
            names: Bounded::new(REMEMBERED),
            counts: RecordingCounts::default(),
            scratch: Scratch::default(),
        };
        recording.begin_file(now)?;
        Ok(recording)
    }

    /// Gives the number that frames of this interface carry.
    pub fn add_interface(&mut self, description: Interface, now: Timestamp) -> io::Result<u32> {
        let number = self.interfaces.len() as u32;
        self.describe(&description)?;
        self.interfaces.push(InterfaceState {
            description,
            kernel: KernelCounts::default(),
            delivered: 0,
            start: now.0,
        });
        Ok(number)
    }

    /// What the kernel counted so far, for the end of each file.
    pub fn kernel_counts(&mut self, interface: u32, counts: KernelCounts) {
        if let Some(state) = self.interfaces.get_mut(interface as usize) {
            state.kernel = counts;
        }
    }

    pub fn packet(&mut self, frame: Frame<'_>, now: Moment) -> io::Result<()> {
        let link = self.link_type(frame.interface);
        let segment = dissect(link, frame.bytes);
        let mut hello_name = None;
        let known = &mut self.owners;
        let verdict = self.hold.packet(
            frame,
            segment.as_ref(),
            now,
            || segment.is_some_and(|s| known.knows(s.endpoints)),
            |hello| hello_name.clone_from(&hello.server_name),
        );
        let endpoints = segment.map(|s| s.endpoints);
        if let (Some(name), Some(endpoints)) = (hello_name, endpoints) {
            self.name(endpoints.destination.ip(), name)?;
        }
        match verdict {
            Verdict::Write => self.write_packet(frame, endpoints)?,
            Verdict::Held | Verdict::Unwanted => {}
        }
        let expired = self.hold.expire(now);
        self.write_held(expired)
    }

    /// A secret is written once, ahead of all packets that come after it.
    pub fn secret(&mut self, event: &SecretEvent) -> io::Result<()> {
        let (label, random) = (event.label.as_str(), &event.client_random);
        if !self.seen.insert(label, random, event.secret.expose()) {
            self.counts.duplicate_secrets += 1;
            return Ok(());
        }
        self.counts.secrets += 1;
        let start = self.lines.len();
        crate::secret::push_line(&mut self.lines, event);
        let line = &self.lines[start..];
        let kept = self.live.get_or_insert_with(random, Vec::new);
        if kept.len() + line.len() <= LINES_MAX {
            kept.extend_from_slice(line);
        }
        let served = self.hold.secret(random, label);
        self.write_held(served)
    }

    pub fn owner(&mut self, ownership: &Ownership) -> io::Result<()> {
        self.owners.insert(ownership);
        let Ownership {
            protocol, local, ..
        } = *ownership;
        let endpoints = ownership
            .remote
            .map(|remote| Endpoints::new(protocol, local, remote));
        let known = &mut self.owners;
        let served = self.hold.owner(endpoints, |e| known.knows(e));
        self.write_held(served)
    }

    /// Lets go what has waited long enough, and makes all that was written visible.
    pub fn tick(&mut self, now: Moment) -> io::Result<()> {
        let expired = self.hold.expire(now);
        self.write_held(expired)?;
        self.write_secrets()?;
        self.output.flush()
    }

    /// As many packets were written as were asked for.
    pub fn is_complete(&self) -> bool {
        self.options
            .count
            .is_some_and(|count| self.counts.written >= count)
    }

    pub fn output(&self) -> &O {
        &self.output
    }

    pub fn counts(&self) -> RecordingCounts {
        RecordingCounts {
            hold: self.hold.counts(),
            ..self.counts
        }
    }

    /// Writes what waits and the end of the file. Gives the output back.
    pub fn finish(mut self, now: Timestamp) -> (io::Result<()>, O, RecordingCounts) {
        let held = self.hold.drain();
        let ended = self
            .write_held(held)
            .and_then(|()| self.write_secrets())
            .and_then(|()| self.end_file(now))
            .and_then(|()| self.output.flush());
        let counts = self.counts();
        (ended, self.output, counts)
    }

    fn link_type(&self, interface: u32) -> LinkType {
        self.interfaces
            .get(interface as usize)
            .map_or(LinkType::ETHERNET, |state| state.description.link_type)
    }

    fn write_held(&mut self, frames: Vec<HeldFrame>) -> io::Result<()> {
        for held in frames {
            let frame = Frame {
                interface: held.interface,
                time: held.time,
                original_length: held.original_length,
                bytes: &held.bytes,
            };
            self.write_packet(frame, Some(held.endpoints))?;
        }
        Ok(())
    }

    fn write_packet(&mut self, frame: Frame<'_>, endpoints: Option<Endpoints>) -> io::Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        if self.output.is_full(frame.time) {
            self.next_file(frame.time)?;
        }
        self.write_secrets()?;
        let comment = endpoints.map(|endpoints| self.owners.comment(endpoints));
        let comment = comment.as_deref().unwrap_or_default();
        let Scratch { head, tail } = &mut self.scratch;
        head.clear();
        tail.clear();
        let captured = frame.bytes.len() as u32;
        let block_head = PacketHead {
            interface: frame.interface,
            time: frame.time.0,
            captured,
            original: frame.original_length.max(captured),
        };
        pcapng::packet_head(head, block_head, comment);
        pcapng::packet_tail(tail, captured, comment);
        if self
            .output
            .write([head, frame.bytes, tail], BlockKind::Packet)?
        {
            self.counts.written += 1;
            self.interfaces[frame.interface as usize].delivered += 1;
        } else {
            self.counts.dropped += 1;
        }
        Ok(())
    }

    fn write_secrets(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.lines);
        let written = self.needed(|to| pcapng::decryption_secrets(to, &lines));
        lines.clear();
        self.lines = lines;
        written
    }

    /// A server's name as its clients ask for it.
    fn name(&mut self, address: IpAddr, name: String) -> io::Result<()> {
        let key = (address, name);
        if self.names.get(&key).is_some() {
            return Ok(());
        }
        self.needed(|to| pcapng::name_resolution(to, address, &key.1))?;
        self.names.insert(key, ());
        Ok(())
    }

    fn describe(&mut self, description: &Interface) -> io::Result<()> {
        self.needed(|to| pcapng::interface_description(to, description))
    }

    fn next_file(&mut self, now: Timestamp) -> io::Result<()> {
        self.end_file(now)?;
        self.output.next_file(now)?;
        self.begin_file(now)
    }

    fn begin_file(&mut self, now: Timestamp) -> io::Result<()> {
        let section = self.section.clone();
        self.needed(|to| pcapng::section_header(to, &section))?;
        for number in 0..self.interfaces.len() {
            let state = &mut self.interfaces[number];
            (state.delivered, state.start) = (0, now.0);
            let description = state.description.clone();
            self.describe(&description)?;
        }
        let randoms = self.live.keys().copied().collect::<HashSet<_>>();
        let mut lines = Vec::new();
        for random in randoms {
            if self.hold.has_ended(&random) {
                self.live.remove(&random);
            } else if let Some(known) = self.live.peek(&random) {
                lines.extend_from_slice(known);
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        // What waits to be written is among them.
        self.lines.clear();
        self.needed(|to| pcapng::decryption_secrets(to, &lines))
    }

    fn end_file(&mut self, now: Timestamp) -> io::Result<()> {
        for number in 0..self.interfaces.len() {
            let state = &self.interfaces[number];
            let statistics = Statistics {
                start: state.start,
                end: now.0,
                received: state.kernel.received,
                dropped_by_interface: state.kernel.dropped_by_interface,
                dropped_by_kernel: state.kernel.dropped_by_kernel,
                delivered: state.delivered,
            };
            self.needed(|to| pcapng::interface_statistics(to, number as u32, &statistics))?;
        }
        Ok(())
    }

    fn needed(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let block = &mut self.scratch.head;
        block.clear();
        encode(block);
        self.output
            .write([block, &[], &[]], BlockKind::Needed)
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
