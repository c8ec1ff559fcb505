//! Packets that wait: for the secrets of their own flow, or for its owner.
//!
//! A reader that goes through the file once needs a flow's secrets ahead of the
//! first packet that they decrypt. So from that packet on the flow waits, and no
//! other does, until the secrets are known or the cap is met. With a process
//! filter a flow also waits until a wanted process is seen to use its socket.
//! Where files take turns, a flow stays in the one in which it began.
//! Bounded in time, memory and flows.

mod flow;
mod handshake;
mod homes;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::bounded::Bounded;
use crate::event::Timestamp;
use crate::packet::{Endpoints, Segment};
use crate::tls::{ClientHello, ClientRandom};
use flow::{Flow, FlowKey, RENEWAL};
pub(crate) use handshake::Labels;
use handshake::may_begin;
use homes::Homes;

/// Time since the capture began: the wall clock may be set while packets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

/// How far what is heard may be behind: then time passes all the same.
const HEARD_LATE: Duration = Duration::from_secs(5);

impl Moment {
    fn after(self, patience: Duration) -> Self {
        Self(self.0 + patience)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct HoldOptions {
    /// Longest time that a packet waits.
    pub cap: Duration,
    /// Most bytes that wait at once; past it the flow goes whose time is up first.
    pub memory: usize,
    /// Flows whose state is kept.
    pub flows: usize,
    /// Keep only flows of which a wanted process owns an end.
    pub owned_only: bool,
}

impl Default for HoldOptions {
    fn default() -> Self {
        Self {
            cap: Duration::from_secs(1),
            memory: 64 << 20,
            flows: 65_536,
            owned_only: false,
        }
    }
}

/// A file of those that take turns, in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileNumber(pub u32);

/// A captured frame as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub interface: u32,
    pub time: Timestamp,
    pub original_length: u32,
    pub bytes: &'a [u8],
}

/// A frame that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldFrame {
    pub(crate) interface: u32,
    pub(crate) time: Timestamp,
    pub(crate) original_length: u32,
    pub(crate) bytes: Box<[u8]>,
    pub(crate) endpoints: Endpoints,
    /// Where its connection began, if it did so before our eyes.
    pub(crate) home: Option<FileNumber>,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Into the file in which its connection began; without one, into any.
    Write(Option<FileNumber>),
    /// It is kept, and comes back from a later call.
    Held,
    /// No wanted process owns it.
    Unwanted,
}

/// Packets by what became of their waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldCounts {
    /// What they waited for came.
    pub served: u64,
    /// The secrets did not come within the cap, or before the capture's end.
    pub without_secrets: u64,
    /// Too many waited at once.
    pub for_memory: u64,
    /// Dropped: no wanted process was seen to own their flow.
    pub unwanted: u64,
    /// Connections, not packets: they went on when their file was closed already.
    pub outlived: u64,
}

#[derive(Debug)]
pub(crate) struct Hold {
    options: HoldOptions,
    flows: Bounded<FlowKey, Flow>,
    /// Flows with a queue. Never forgotten, only released.
    waiting: HashMap<FlowKey, Flow>,
    /// Until when each waits.
    order: BTreeSet<(Moment, FlowKey)>,
    bytes: usize,
    /// Waiting flows of which it became known whose they are: their secrets may
    /// be there already.
    ready: Vec<FlowKey>,
    known: Bounded<ClientRandom, Labels>,
    by_random: Bounded<ClientRandom, Vec<FlowKey>>,
    homes: Homes,
    now: Moment,
    /// Up to when every secret and owner has come.
    heard: Moment,
    counts: HoldCounts,
}

impl Hold {
    pub(crate) fn new(options: HoldOptions) -> Self {
        Self {
            flows: Bounded::new(options.flows),
            waiting: HashMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
            ready: Vec::new(),
            known: Bounded::new(options.flows),
            by_random: Bounded::new(options.flows),
            homes: Homes::default(),
            now: Moment::default(),
            heard: Moment(Duration::MAX),
            counts: HoldCounts::default(),
            options,
        }
    }

    pub(crate) fn counts(&self) -> HoldCounts {
        self.counts
    }

    /// A flow is given up when its time is up by this, not by the clock alone: a machine may let
    /// nobody run for a while who could bring what it waits for.
    pub(crate) fn heard(&mut self, until: Moment) {
        self.heard = until;
    }

    /// `owned` is asked only when the answer matters. `hello` is told of each
    /// `ClientHello`, once.
    pub(crate) fn packet(
        &mut self,
        frame: Frame<'_>,
        segment: Option<&Segment<'_>>,
        now: Moment,
        owned: impl FnOnce() -> bool,
        hello: impl FnOnce(&ClientHello),
    ) -> Verdict {
        let Some(segment) = segment else {
            return self.without_flow();
        };
        self.now = now;
        let file = self.homes.current();
        let key = FlowKey::of(segment.endpoints);
        let begins = may_begin(segment);
        if let Some(flow) = self.waiting.get_mut(&key) {
            flow.last = now;
            flow.begin_handshake(segment, begins, file);
            flow.note_early_renewal(segment, now);
            let learned = flow.observe(segment, file);
            flow.keep(frame, segment.endpoints, &mut self.bytes);
            if flow.begin_renewal(segment) {
                self.order.remove(&(flow.until, key));
                flow.until = flow.until.max(now.after(RENEWAL)).min(flow.at_most);
                self.order.insert((flow.until, key));
            }
            if learned.is_some() {
                self.learn(key, learned, hello);
                self.ready.push(key);
            }
            return Verdict::Held;
        }
        match self.flows.get(&key) {
            Some(flow) if flow.is_settled() && !begins && !flow.renews(segment) => {
                flow.last = now;
                flow.note_end(segment);
                return Verdict::Write(flow.file());
            }
            None if !begins && !self.options.owned_only => return Verdict::Write(None),
            _ => {}
        }
        let owned_only = self.options.owned_only;
        let flow = self.flows.get_or_insert_with(&key, Flow::default);
        flow.owned = flow.owned || !owned_only || owned();
        if flow.unwanted && !flow.owned {
            self.counts.unwanted += 1;
            return Verdict::Unwanted;
        }
        flow.restart_if_new(segment);
        flow.last = now;
        flow.begin_handshake(segment, begins, file);
        flow.begin_renewal(segment);
        let learned = flow.observe(segment, file);
        let random = flow.random;
        self.learn(key, learned, hello);
        let labels = self.labels(random);
        self.admit(key, labels, frame, segment.endpoints, now)
    }

    fn without_flow(&mut self) -> Verdict {
        if self.options.owned_only {
            self.counts.unwanted += 1;
            return Verdict::Unwanted;
        }
        Verdict::Write(None)
    }

    fn admit(
        &mut self,
        key: FlowKey,
        labels: Labels,
        frame: Frame<'_>,
        endpoints: Endpoints,
        now: Moment,
    ) -> Verdict {
        let Some(flow) = self.flows.get(&key) else {
            return Verdict::Write(None);
        };
        if flow.is_open(labels) {
            flow.settle();
            return Verdict::Write(flow.file());
        }
        let Some(mut flow) = self.flows.remove(&key) else {
            return Verdict::Write(None);
        };
        flow.at_most = now.after(self.options.cap);
        flow.until = if flow.is_renewing() {
            now.after(RENEWAL).min(flow.at_most)
        } else {
            flow.at_most
        };
        flow.keep(frame, endpoints, &mut self.bytes);
        self.order.insert((flow.until, key));
        self.waiting.insert(key, flow);
        Verdict::Held
    }

    fn learn(
        &mut self,
        key: FlowKey,
        learned: Option<ClientHello>,
        hello: impl FnOnce(&ClientHello),
    ) {
        if let Some(learned) = learned {
            let flows = self.by_random.get_or_insert_with(&learned.random, Vec::new);
            // Address translation shows one connection under several names.
            if flows.len() < 8 && !flows.contains(&key) {
                flows.push(key);
            }
            hello(&learned);
        }
    }

    fn labels(&mut self, random: Option<ClientRandom>) -> Labels {
        random
            .and_then(|random| self.known.get(&random).copied())
            .unwrap_or_default()
    }

    /// A secret is in the file now: what waited for it.
    pub(crate) fn secret(&mut self, random: &ClientRandom, label: &str) -> Vec<HeldFrame> {
        let labels = self.known.get_or_insert_with(random, Labels::default);
        *labels = labels.with(label);
        let labels = *labels;
        let flows = self.by_random.peek(random).cloned().unwrap_or_default();
        self.release_open(&flows, labels)
    }

    /// An owner became known: of this flow, or of a port.
    pub(crate) fn owner(
        &mut self,
        endpoints: Option<Endpoints>,
        mut owned: impl FnMut(Endpoints) -> bool,
    ) -> Vec<HeldFrame> {
        if !self.options.owned_only {
            return Vec::new();
        }
        let flows = match endpoints {
            Some(endpoints) => vec![FlowKey::of(endpoints)],
            None => self.waiting.keys().copied().collect(),
        };
        let mut released = Vec::new();
        for key in flows {
            let Some(flow) = self.waiting.get_mut(&key) else {
                continue;
            };
            flow.owned = flow.owned || owned(key.0);
            let random = flow.random;
            let labels = self.labels(random);
            released.extend(self.release_open(&[key], labels));
        }
        released
    }

    fn release_open(&mut self, flows: &[FlowKey], labels: Labels) -> Vec<HeldFrame> {
        let mut released = Vec::new();
        for key in flows {
            if self.waiting.get(key).is_some_and(|f| f.is_open(labels)) {
                let mut frames = self.release(*key);
                self.keep_renewal(*key, &mut frames);
                self.counts.served += frames.len() as u64;
                released.extend(frames);
            }
        }
        released
    }

    /// A renegotiation that began while the first handshake waited goes on waiting.
    fn keep_renewal(&mut self, key: FlowKey, frames: &mut Vec<HeldFrame>) {
        let cap = self.options.cap;
        let Some(mut flow) = self.flows.remove(&key) else {
            return;
        };
        if flow.keep_renewal(frames, cap) {
            self.bytes += bytes_of(&flow.queue);
            self.order.insert((flow.until, key));
            self.waiting.insert(key, flow);
        } else {
            self.flows.insert(key, flow);
        }
    }

    /// What need not wait any longer, or has waited for the cap, in the order of time.
    pub(crate) fn expire(&mut self, now: Moment) -> Vec<HeldFrame> {
        self.now = now;
        let heard = self.heard.max(Moment(now.0.saturating_sub(HEARD_LATE)));
        let mut released = self.release_ready();
        while let Some((until, key)) = self.order.first().copied() {
            let due = until <= now.min(heard);
            let crowded = self.bytes > self.options.memory;
            if !due && !crowded {
                break;
            }
            self.order.pop_first();
            released.extend(self.give_up(key, due));
        }
        released.sort_by_key(|frame| frame.time);
        released
    }

    fn release_ready(&mut self) -> Vec<HeldFrame> {
        let mut released = Vec::new();
        for key in std::mem::take(&mut self.ready) {
            let random = self.waiting.get(&key).and_then(|flow| flow.random);
            let labels = self.labels(random);
            released.extend(self.release_open(&[key], labels));
        }
        released
    }

    /// The end: nothing more comes that could be waited for.
    pub(crate) fn drain(&mut self) -> Vec<HeldFrame> {
        let flows: Vec<_> = self.waiting.keys().copied().collect();
        let mut released: Vec<_> = flows
            .into_iter()
            .flat_map(|key| self.give_up(key, true))
            .collect();
        self.order.clear();
        released.sort_by_key(|frame| frame.time);
        released
    }

    fn give_up(&mut self, key: FlowKey, due: bool) -> Vec<HeldFrame> {
        let owned = self.waiting.get(&key).is_some_and(|f| f.owned);
        let renewing = self.waiting.get(&key).is_some_and(Flow::is_renewing);
        let frames = self.release(key);
        let count = frames.len() as u64;
        if !owned {
            self.counts.unwanted += count;
            self.flows.get_or_insert_with(&key, Flow::default).unwanted = true;
            return Vec::new();
        }
        if due && renewing {
            self.counts.served += count;
        } else if due {
            self.counts.without_secrets += count;
        } else {
            self.counts.for_memory += count;
        }
        frames
    }

    fn release(&mut self, key: FlowKey) -> Vec<HeldFrame> {
        let Some(mut flow) = self.waiting.remove(&key) else {
            return Vec::new();
        };
        self.order.remove(&(flow.until, key));
        let mut frames = std::mem::take(&mut flow.queue);
        self.bytes -= bytes_of(&frames);
        flow.settle();
        let home = flow.file();
        for frame in &mut frames {
            frame.home = home;
        }
        self.flows.insert(key, flow);
        frames
    }

    fn flow(&self, key: &FlowKey) -> Option<&Flow> {
        self.waiting.get(key).or_else(|| self.flows.peek(key))
    }

    /// The files in which connections with this client random began: address
    /// translation shows one connection under several names.
    pub(crate) fn homes(&self, random: &ClientRandom) -> Vec<FileNumber> {
        let mut files = Vec::new();
        for key in self.by_random.peek(random).into_iter().flatten() {
            let home = self.flow(key).and_then(|flow| flow.home);
            if let Some(home) = home.filter(|home| home.random == Some(*random))
                && !files.contains(&home.file)
            {
                files.push(home.file);
            }
        }
        files
    }

    /// Data of the connection goes elsewhere, because its file is closed. It may have
    /// ended already: what waited is written later than it came.
    pub(crate) fn outlive(&mut self, endpoints: Endpoints) {
        let key = FlowKey::of(endpoints);
        let flow = self.waiting.get_mut(&key);
        if let Some(flow) = flow.or_else(|| self.flows.get(&key))
            && flow.home.take().is_some()
        {
            self.counts.outlived += 1;
        }
    }

    /// Connections that begin from now on belong into the next file.
    pub(crate) fn begin_file(&mut self, next: FileNumber) {
        let mut homes = std::mem::take(&mut self.homes);
        let keys = self.waiting.keys().chain(self.flows.keys());
        let living = keys.filter(|key| self.lives(key, homes.current()));
        homes.begin(next, living.copied().collect());
        self.homes = homes;
    }

    /// What is written goes elsewhere from now on.
    pub(crate) fn close_file(&mut self, file: FileNumber) {
        self.homes.close(file);
    }

    /// Earlier files of whose connections none goes on.
    pub(crate) fn drained(&mut self) -> Vec<FileNumber> {
        let mut homes = std::mem::take(&mut self.homes);
        let drained = homes.drained(self.now, |key, file| self.lives(key, file));
        self.homes = homes;
        drained
    }

    fn lives(&self, key: &FlowKey, file: FileNumber) -> bool {
        let waits = self.waiting.contains_key(key);
        self.flow(key).is_some_and(|flow| {
            flow.home.is_some_and(|home| home.file == file)
                && (waits || flow.lives(key.0.protocol, self.now))
        })
    }
}

fn bytes_of(frames: &[HeldFrame]) -> usize {
    frames.iter().map(|frame| frame.bytes.len()).sum()
}

#[cfg(test)]
mod datagram_tests;
#[cfg(test)]
mod tests;
