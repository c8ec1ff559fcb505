//! A capture as pcapng: packets, secrets and owners in, blocks out.
//!
//! Secrets go ahead of the packets that they decrypt, which [`crate::hold`] sees
//! to. Where files take turns, a connection stays in the one in which it began, with
//! its secrets, so that each file decrypts alone; a file ends with its connections.

mod files;

use std::io;
use std::net::IpAddr;

use crate::bounded::Bounded;
use crate::event::{SecretEvent, Timestamp};
pub use crate::hold::FileNumber;
use crate::hold::{Frame, HeldFrame, Hold, HoldCounts, HoldOptions, Moment, Verdict};
use crate::owners::{Owners, Ownership};
use crate::packet::{Endpoints, LinkType, dissect};
use crate::secret::SecretSet;
use crate::sink::pcapng::{self, Interface, PacketHead, Section};
use crate::tls::ClientRandom;
use files::{Files, OpenFile};

/// Where the blocks of a capture go: one file, or several in turn. The first,
/// number 0, is open from the beginning.
pub trait BlockOutput {
    /// Whether it is time for a next file.
    fn is_full(&self, now: Timestamp) -> bool;

    /// Opens a next file. Those before it stay open until they are closed.
    fn next_file(&mut self, number: FileNumber, now: Timestamp) -> io::Result<NextFile>;

    /// One whole block, given in parts. False when it was dropped because the
    /// output does not keep up; only blocks of packets may be.
    fn write(&mut self, file: FileNumber, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool>;

    /// Nothing more comes for this file.
    fn close(&mut self, file: FileNumber) -> io::Result<()>;

    fn flush(&mut self) -> io::Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextFile {
    Begun {
        /// The file that was still open and had the name of the new one: it is no more.
        replaced: Option<FileNumber>,
    },
    /// There were as many as there are to be.
    None,
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
    /// Earlier files that stay open for their connections, at most.
    pub drain: usize,
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
/// Connections whose secrets may be wanted in another file than they are in.
const LIVE_MAX: usize = 16_384;
/// Most lines of one client random: a key update adds one.
const LINES_MAX: usize = 4096;

#[derive(Debug)]
pub struct Recording<O> {
    output: O,
    options: RecordingOptions,
    section: Section,
    interfaces: Vec<(Interface, KernelCounts)>,
    files: Files,
    /// The last file was full: what comes from now on is not wanted.
    over: bool,
    hold: Hold,
    owners: Owners,
    seen: SecretSet,
    secrets: Bounded<ClientRandom, Secrets>,
    counts: RecordingCounts,
    scratch: Scratch,
}

/// Of one client random.
#[derive(Debug, Default)]
struct Secrets {
    lines: Vec<u8>,
    /// Where all of them are.
    files: Vec<FileNumber>,
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
            files: Files::default(),
            over: false,
            hold: Hold::new(options.hold),
            owners: Owners::new(REMEMBERED),
            seen: SecretSet::default(),
            secrets: Bounded::new(LIVE_MAX),
            counts: RecordingCounts::default(),
            scratch: Scratch::default(),
        };
        recording.begin_file(FileNumber(0), now)?;
        Ok(recording)
    }

    /// Gives the number that frames of this interface carry.
    pub fn add_interface(&mut self, description: Interface, now: Timestamp) -> io::Result<u32> {
        let number = self.interfaces.len() as u32;
        for at in 0..self.files.open.len() {
            self.needed(at, |to| pcapng::interface_description(to, &description))?;
            self.files.open[at].add_interface(KernelCounts::default(), now);
        }
        self.interfaces.push((description, KernelCounts::default()));
        Ok(number)
    }

    /// What the kernel counted so far, for the end of each file.
    pub fn kernel_counts(&mut self, interface: u32, counts: KernelCounts) {
        if let Some((_, known)) = self.interfaces.get_mut(interface as usize) {
            *known = counts;
        }
    }

    /// Every secret and every owner from before this moment has been told.
    pub fn heard(&mut self, until: Moment) {
        self.hold.heard(until);
    }

    pub fn packet(&mut self, frame: Frame<'_>, now: Moment) -> io::Result<()> {
        // A connection that begins with this packet is to begin in the next file.
        self.take_turns(frame.time)?;
        if self.over {
            return Ok(());
        }
        self.files.latest = self.files.latest.max(frame.time);
        let link = self.link_type(frame.interface);
        let segment = dissect(link, frame.bytes);
        let mut hello = None;
        let known = &mut self.owners;
        let verdict = self.hold.packet(
            frame,
            segment.as_ref(),
            now,
            || segment.is_some_and(|s| known.knows(s.endpoints)),
            |said| hello = Some(said.clone()),
        );
        let endpoints = segment.map(|s| s.endpoints);
        if let (Some(hello), Some(endpoints)) = (hello, endpoints) {
            self.place_secrets(&hello.random, &[]);
            if let Some(name) = hello.server_name {
                self.name(&hello.random, endpoints.destination.ip(), name)?;
            }
        }
        match verdict {
            Verdict::Write(home) => self.write_packet(frame, endpoints, home)?,
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
        let mut line = Vec::new();
        crate::secret::push_line(&mut line, event);
        self.place_secrets(random, &line);
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
        self.end_drained()?;
        for at in 0..self.files.open.len() {
            self.write_secrets(at)?;
        }
        self.output.flush()
    }

    /// As many packets were written as were asked for, or as many files.
    pub fn is_complete(&self) -> bool {
        self.over || self.has_enough()
    }

    fn has_enough(&self) -> bool {
        let enough = |count| self.counts.written >= count;
        self.options.count.is_some_and(enough)
    }

    pub fn counts(&self) -> RecordingCounts {
        RecordingCounts {
            hold: self.hold.counts(),
            ..self.counts
        }
    }

    /// Writes what waits and the end of each file. Gives the output back.
    pub fn finish(mut self, now: Timestamp) -> (io::Result<()>, O, RecordingCounts) {
        let held = self.hold.drain();
        let written = self.write_held(held);
        let mut ended = Ok(());
        while let Some(number) = self.files.open.first().map(|file| file.number) {
            // One that has no room left keeps none of the others from its end.
            ended = ended.and(self.end_file(number, now));
        }
        let ended = written.and(ended).and(self.output.flush());
        let counts = self.counts();
        (ended, self.output, counts)
    }

    fn link_type(&self, interface: u32) -> LinkType {
        self.interfaces
            .get(interface as usize)
            .map_or(LinkType::ETHERNET, |(description, _)| description.link_type)
    }

    fn carries_data(&self, frame: Frame<'_>) -> bool {
        let segment = dissect(self.link_type(frame.interface), frame.bytes);
        segment.is_some_and(|segment| !segment.payload.is_empty())
    }

    fn write_held(&mut self, frames: Vec<HeldFrame>) -> io::Result<()> {
        for held in frames {
            let frame = Frame {
                interface: held.interface,
                time: held.time,
                original_length: held.original_length,
                bytes: &held.bytes,
            };
            self.take_turns(frame.time)?;
            self.write_packet(frame, Some(held.endpoints), held.home)?;
        }
        Ok(())
    }

    fn write_packet(
        &mut self,
        frame: Frame<'_>,
        endpoints: Option<Endpoints>,
        home: Option<FileNumber>,
    ) -> io::Result<()> {
        if self.has_enough() {
            return Ok(());
        }
        if let (Some(home), Some(endpoints)) = (home, endpoints)
            && !self.files.is_open(home)
            && self.carries_data(frame)
        {
            self.hold.outlive(endpoints);
        }
        let at = self.files.place(home);
        self.write_secrets(at)?;
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
        let file = &mut self.files.open[at];
        let block = [head.as_slice(), frame.bytes, tail];
        if self.output.write(file.number, block, BlockKind::Packet)? {
            self.counts.written += 1;
            file.delivered(frame.interface);
        } else {
            self.counts.dropped += 1;
        }
        Ok(())
    }

    /// Has what is known of a connection written into the files that it is in; before
    /// it is in any, into the current one.
    fn place_secrets(&mut self, random: &ClientRandom, line: &[u8]) {
        let homes = self.hold.homes(random);
        let secrets = if line.is_empty() {
            let Some(known) = self.secrets.get(random) else {
                return;
            };
            known
        } else {
            self.secrets.get_or_insert_with(random, Secrets::default)
        };
        let homeless = if homes.is_empty() {
            vec![None]
        } else {
            Vec::new()
        };
        for home in homes.into_iter().map(Some).chain(homeless) {
            let at = self.files.place(home);
            let OpenFile { number, lines, .. } = &mut self.files.open[at];
            if !secrets.files.contains(number) {
                lines.extend_from_slice(&secrets.lines);
                secrets.files.push(*number);
            }
            lines.extend_from_slice(line);
        }
        if secrets.lines.len() + line.len() <= LINES_MAX {
            secrets.lines.extend_from_slice(line);
        }
    }

    fn write_secrets(&mut self, at: usize) -> io::Result<()> {
        if self.files.open[at].lines.is_empty() {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.files.open[at].lines);
        let written = self.needed(at, |to| pcapng::decryption_secrets(to, &lines));
        lines.clear();
        self.files.open[at].lines = lines;
        written
    }

    /// A server's name as its clients ask for it.
    fn name(&mut self, random: &ClientRandom, address: IpAddr, name: String) -> io::Result<()> {
        let home = self.hold.homes(random).first().copied();
        let at = self.files.place(home);
        let key = (address, name);
        let names = &mut self.files.open[at].names;
        if names.get(&key).is_some() {
            return Ok(());
        }
        names.insert(key.clone(), ());
        self.needed(at, |to| pcapng::name_resolution(to, key.0, &key.1))
    }

    fn take_turns(&mut self, now: Timestamp) -> io::Result<()> {
        if self.over || !self.output.is_full(now) {
            return Ok(());
        }
        self.next_file(now)
    }

    fn next_file(&mut self, now: Timestamp) -> io::Result<()> {
        let number = self.files.next_number();
        let replaced = match self.output.next_file(number, now)? {
            NextFile::Begun { replaced } => replaced,
            NextFile::None => {
                self.over = true;
                return Ok(());
            }
        };
        let kernel = self.interfaces.iter().map(|(_, counts)| *counts);
        self.files.end_turn(kernel);
        self.hold.begin_file(number);
        if let Some(replaced) = replaced {
            self.files.remove(replaced);
            self.hold.close_file(replaced);
        }
        self.begin_file(number, now)?;
        while self.files.open.len() > self.options.drain + 1 {
            let oldest = self.files.open[0].number;
            self.end_file(oldest, now)?;
        }
        self.end_drained()
    }

    fn end_drained(&mut self) -> io::Result<()> {
        let now = self.files.latest;
        let mut drained = self.hold.drained().into_iter();
        drained.try_for_each(|file| self.end_file(file, now))
    }

    fn begin_file(&mut self, number: FileNumber, now: Timestamp) -> io::Result<()> {
        self.files.open.push(OpenFile::new(number, REMEMBERED));
        let at = self.files.open.len() - 1;
        let section = self.section.clone();
        self.needed(at, |to| pcapng::section_header(to, &section))?;
        for known in 0..self.interfaces.len() {
            let (description, counts) = self.interfaces[known].clone();
            self.needed(at, |to| pcapng::interface_description(to, &description))?;
            self.files.open[at].add_interface(counts, now);
        }
        Ok(())
    }

    /// Nothing more goes there, whatever becomes of its end.
    fn end_file(&mut self, number: FileNumber, now: Timestamp) -> io::Result<()> {
        self.hold.close_file(number);
        let at = self.files.place(Some(number));
        let kernel: Vec<_> = self.interfaces.iter().map(|(_, counts)| *counts).collect();
        let all = self.files.open[at].statistics(&kernel, now);
        let ended = self.write_secrets(at).and_then(|()| {
            let mut each = (0..).zip(&all);
            each.try_for_each(|(interface, statistics)| {
                self.needed(at, |to| {
                    pcapng::interface_statistics(to, interface, statistics);
                })
            })
        });
        self.files.remove(number);
        ended.and(self.output.close(number))
    }

    fn needed(&mut self, at: usize, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let block = &mut self.scratch.head;
        block.clear();
        encode(block);
        let file = self.files.open[at].number;
        self.output
            .write(file, [block, &[], &[]], BlockKind::Needed)
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
