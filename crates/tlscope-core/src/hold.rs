//! Packets that wait: for the secrets of their own flow, or for its owner.
//!
//! A reader that goes through the file once needs a flow's secrets ahead of the
//! first packet that they decrypt. So from that packet on the flow waits, and no
//! other does, until the secrets are known or the cap is met. With a process
//! filter a flow also waits until a wanted process is seen to use its socket.
//! Bounded in time, memory and flows.

mod handshake;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::event::Timestamp;
use crate::packet::{Endpoints, Segment};
use crate::tls::{ClientHello, ClientRandom, RecordKind, record_kind};
pub(crate) use handshake::Labels;
use handshake::{Handshake, may_begin};

/// Time since the capture began: the wall clock may be set while packets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

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
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Write,
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
}

/// A connection, whichever end a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct FlowKey(Endpoints);

impl FlowKey {
    fn of(endpoints: Endpoints) -> Self {
        if endpoints.source <= endpoints.destination {
            Self(endpoints)
        } else {
            Self(endpoints.reversed())
        }
    }
}

/// A renegotiation says its client random encrypted, so its secret cannot be
/// told from those of others. One end has it before either sends with the new
/// keys; it needs only the time to come through the buffers.
#[derive(Debug, Clone, Copy)]
struct Renewal {
    client: SocketAddr,
    under_way: bool,
}

/// The buffers of secrets are looked at after 20 ms, and the output has its turn
/// every 50: twice that, for a busy machine.
const RENEWAL: Duration = Duration::from_millis(140);

#[derive(Debug, Default)]
struct Flow {
    /// Under way and not yet decided; `None` before and after.
    handshake: Option<Box<Handshake>>,
    random: Option<ClientRandom>,
    owned: bool,
    /// It waited for an owner in vain: its packets no longer wait.
    unwanted: bool,
    /// Of TLS 1.2, whose keys may be made anew.
    renewal: Option<Renewal>,
    queue: Vec<HeldFrame>,
    until: Moment,
    /// `until` at most, however often it is put off.
    at_most: Moment,
    /// By which end, lower address first.
    ended: [bool; 2],
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
            counts: HoldCounts::default(),
            options,
        }
    }

    pub(crate) fn counts(&self) -> HoldCounts {
        self.counts
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
        let key = FlowKey::of(segment.endpoints);
        let begins = may_begin(segment);
        if let Some(flow) = self.waiting.get_mut(&key) {
            flow.begin_handshake(segment, begins);
            let learned = flow.observe(segment);
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
                flow.note_end(segment);
                return Verdict::Write;
            }
            None if !begins && !self.options.owned_only => return Verdict::Write,
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
        flow.begin_handshake(segment, begins);
        flow.begin_renewal(segment);
        let learned = flow.observe(segment);
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
        Verdict::Write
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
            return Verdict::Write;
        };
        if flow.is_open(labels) {
            flow.settle();
            return Verdict::Write;
        }
        let Some(mut flow) = self.flows.remove(&key) else {
            return Verdict::Write;
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
                let frames = self.release(*key);
                self.counts.served += frames.len() as u64;
                released.extend(frames);
            }
        }
        released
    }

    /// What need not wait any longer, or has waited for the cap, in the order of time.
    pub(crate) fn expire(&mut self, now: Moment) -> Vec<HeldFrame> {
        let mut released = self.release_ready();
        while let Some((until, key)) = self.order.first().copied() {
            let due = until <= now;
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
        let frames = std::mem::take(&mut flow.queue);
        let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        self.bytes -= bytes;
        flow.settle();
        self.flows.insert(key, flow);
        frames
    }

    /// Whether every flow with this client random has ended.
    pub(crate) fn has_ended(&self, random: &ClientRandom) -> bool {
        self.by_random.peek(random).is_some_and(|flows| {
            flows.iter().all(|key| {
                let flow = self.waiting.get(key).or_else(|| self.flows.peek(key));
                flow.is_none_or(|f| f.ended == [true; 2] || f.random != Some(*random))
            })
        })
    }
}

impl Flow {
    /// The same addresses and ports may serve another connection later.
    fn restart_if_new(&mut self, segment: &Segment<'_>) {
        if segment.tcp.is_some_and(|tcp| tcp.flags.syn()) && self.ended != [false; 2] {
            *self = Self {
                owned: self.owned,
                ..Self::default()
            };
        }
    }

    fn begin_handshake(&mut self, segment: &Segment<'_>, begins: bool) {
        let over = |h: &Handshake| h.is_over() && self.ended != [false; 2];
        if begins
            && self.handshake.as_deref().is_none_or(over)
            && let Some(handshake) = Handshake::begin(segment)
        {
            self.random = None;
            self.handshake = Some(Box::new(handshake));
        }
    }

    fn observe(&mut self, segment: &Segment<'_>) -> Option<ClientHello> {
        self.note_end(segment);
        let learned = self.handshake.as_mut()?.segment(segment);
        if let Some(hello) = &learned {
            self.random = Some(hello.random);
        }
        learned
    }

    fn note_end(&mut self, segment: &Segment<'_>) {
        let Some(flags) = segment.tcp.map(|tcp| tcp.flags) else {
            return;
        };
        if flags.finishes() {
            let lower = segment.endpoints.source <= segment.endpoints.destination;
            self.ended[usize::from(!lower)] = true;
        }
        if flags.resets() {
            self.ended = [true; 2];
        }
    }

    /// Nothing of it is waited for, and no handshake is under way.
    fn is_settled(&self) -> bool {
        self.owned && self.handshake.is_none() && self.ended == [false; 2]
    }

    fn is_open(&self, labels: Labels) -> bool {
        let secrets = self
            .handshake
            .as_ref()
            .is_none_or(|h| h.has_secrets(labels));
        self.owned && secrets && !self.is_renewing()
    }

    /// Whether the segment belongs to a renegotiation (RFC 5246, section 7.4.1.1):
    /// outside, all that shows is the type of the record that the segment begins with.
    fn renews(&self, segment: &Segment<'_>) -> bool {
        let Some(renewal) = self.renewal.filter(|_| self.handshake.is_none()) else {
            return false;
        };
        match record_kind(segment.payload) {
            // The client begins; what ends the first handshake comes from the server,
            // or begins with ChangeCipherSpec.
            Some(RecordKind::Handshake) if segment.endpoints.source == renewal.client => true,
            Some(RecordKind::Handshake | RecordKind::ChangeCipherSpec) => renewal.under_way,
            _ => false,
        }
    }

    fn begin_renewal(&mut self, segment: &Segment<'_>) -> bool {
        let renews = self.renews(segment);
        if let Some(renewal) = self.renewal.as_mut().filter(|_| renews) {
            renewal.under_way = true;
        }
        renews
    }

    fn is_renewing(&self) -> bool {
        self.renewal.is_some_and(|renewal| renewal.under_way)
    }

    /// After a release: a handshake that has been decided needs no more watching.
    fn settle(&mut self) {
        if let Some(renewal) = &mut self.renewal {
            renewal.under_way = false;
        }
        if let Some(client) = self.handshake.as_ref().and_then(|h| h.client_of_tls12()) {
            let under_way = false;
            self.renewal = Some(Renewal { client, under_way });
        }
        let done = |h: &Handshake| h.is_over() || h.is_decided();
        if self.handshake.as_deref().is_some_and(done) {
            self.handshake = None;
        } else if let Some(handshake) = &mut self.handshake {
            handshake.stop_waiting_for_early();
        }
    }

    fn keep(&mut self, frame: Frame<'_>, endpoints: Endpoints, bytes: &mut usize) {
        *bytes += frame.bytes.len();
        self.queue.push(HeldFrame {
            interface: frame.interface,
            time: frame.time,
            original_length: frame.original_length,
            bytes: frame.bytes.into(),
            endpoints,
        });
    }
}

#[cfg(test)]
mod datagram_tests;
#[cfg(test)]
mod tests;
