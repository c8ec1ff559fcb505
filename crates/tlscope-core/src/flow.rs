//! Connections: identity, byte offsets, gaps and life.
//!
//! A connection is created by its first event, looked up by each later one,
//! scheduled for destruction when it closes or its process ends, and destroyed
//! after a grace period in which events still under way find it. The table is
//! bounded: when it is full the connections idle longest are evicted.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::event::{ConnectionKey, Direction, EndedProcess, Process, Socket, Timestamp};
use crate::item::{CloseReason, ConnectionId, ConnectionInfo};
use crate::summary::Bytes;

/// Evicting scans the whole table, so it makes room for this share of it at once.
const EVICTED_SHARE: usize = 64;
/// How many connections are remembered at least when they are no longer held.
const MIN_PAST: usize = 1024;

/// What arrives for a connection, whatever kind of event it came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) time: Timestamp,
    pub(crate) key: ConnectionKey,
    pub(crate) process: &'a Process,
    /// `None`: of both.
    pub(crate) direction: Option<Direction>,
    pub(crate) socket: Socket,
}

/// One connection; `S` is what the pipeline keeps with it.
#[derive(Debug)]
pub(crate) struct Flow<S> {
    pub(crate) info: ConnectionInfo,
    pub(crate) streams: [Stream; 2],
    pub(crate) state: S,
    last_seen: Timestamp,
    closing: Option<Closing>,
}

#[derive(Debug, Clone, Copy)]
struct Closing {
    time: Timestamp,
    reason: CloseReason,
}

impl<S> Flow<S> {
    pub(crate) fn bytes(&self) -> [Bytes; 2] {
        self.streams.each_ref().map(|stream| stream.bytes)
    }

    /// When and why it ended; `otherwise` if nothing ended it yet.
    pub(crate) fn ended(&self, otherwise: CloseReason) -> (Timestamp, CloseReason) {
        self.closing.map_or((self.last_seen, otherwise), |closing| {
            (closing.time, closing.reason)
        })
    }
}

/// One direction of a connection as a sequence of bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stream {
    /// The offset of the next byte that was not seen yet.
    next: u64,
    /// The kernel side has counted this many bytes, seen or not.
    known: u64,
    bytes: Bytes,
}

/// Where a piece belongs: behind a gap, or partly among bytes seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) gap: Option<Lost>,
    /// Leading bytes that were seen before.
    pub(crate) repeated: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Stream {
    fn resumed(next: u64) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// Takes a piece into account. What is ahead of it and was not seen is lost.
    pub(crate) fn place(&mut self, offset: u64, length: u64) -> Placement {
        let gap = self.lose_up_to(offset);
        let end = offset.saturating_add(length);
        let repeated = self.next.saturating_sub(offset).min(length);
        self.bytes.captured += end.saturating_sub(self.next);
        self.next = self.next.max(end);
        Placement { gap, repeated }
    }

    /// The kernel side knows of this many bytes.
    pub(crate) fn expect(&mut self, total: u64) {
        self.known = self.known.max(total);
    }

    /// Declares lost what the kernel side counted and never delivered.
    pub(crate) fn finish(&mut self) -> Option<Lost> {
        self.lose_up_to(self.known)
    }

    fn lose_up_to(&mut self, offset: u64) -> Option<Lost> {
        let length = offset.checked_sub(self.next).filter(|&length| length > 0)?;
        let lost = Lost {
            offset: self.next,
            length,
        };
        self.next = offset;
        self.bytes.lost += length;
        Some(lost)
    }
}

#[derive(Debug)]
pub(crate) struct FlowTable<S> {
    limit: usize,
    grace: Duration,
    /// Boxed: a table keeps up to four places for each entry where entries come and go.
    flows: HashMap<ConnectionKey, Box<Flow<S>>>,
    /// Scheduled for destruction, earliest first.
    scheduled: VecDeque<(Timestamp, ConnectionKey)>,
    past: Past,
}

impl<S: Default> FlowTable<S> {
    pub(crate) fn new(limit: usize, grace: Duration) -> Self {
        let limit = limit.max(1);
        Self {
            limit,
            grace,
            flows: HashMap::new(),
            scheduled: VecDeque::new(),
            past: Past::new(limit.max(MIN_PAST)),
        }
    }

    /// The connection of an arrival, and whether this arrival created it.
    /// Call [`Self::make_room`] first.
    pub(crate) fn get_or_create(&mut self, arrival: Arrival<'_>) -> (&mut Flow<S>, bool) {
        match self.flows.entry(arrival.key) {
            Entry::Occupied(entry) => {
                let flow = entry.into_mut();
                flow.info
                    .update(arrival.process, arrival.direction, arrival.socket);
                flow.last_seen = flow.last_seen.max(arrival.time);
                (flow, false)
            }
            Entry::Vacant(entry) => {
                let offsets = self.past.take(arrival.key);
                (entry.insert(Box::new(create(arrival, offsets))), true)
            }
        }
    }

    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Flow<S>> {
        self.flows.get_mut(&key).map(|flow| &mut **flow)
    }

    /// Whether the kernel side counted bytes of a connection that is not held
    /// here: all its data was lost, or more was after it had been given up.
    pub(crate) fn unseen(&self, key: ConnectionKey, total: [u64; 2]) -> bool {
        let seen = self.past.offsets(key);
        !self.flows.contains_key(&key) && (total[0] > seen[0] || total[1] > seen[1])
    }

    /// Schedules a connection's destruction, and gives it; the first reason given stays.
    pub(crate) fn close(
        &mut self,
        key: ConnectionKey,
        time: Timestamp,
        reason: CloseReason,
    ) -> Option<&Flow<S>> {
        let flow = self.flows.get_mut(&key)?;
        if flow.closing.is_some() {
            return None;
        }
        flow.closing = Some(Closing { time, reason });
        self.scheduled.push_back((time.plus(self.grace), key));
        Some(flow)
    }

    /// The connections of processes that have ended, in the order in which they were opened.
    pub(crate) fn of_ended(&self, ended: &[EndedProcess]) -> Vec<ConnectionKey> {
        let ended: HashMap<u32, EndedProcess> = ended.iter().map(|e| (e.pid, *e)).collect();
        let is_over = |flow: &&Flow<S>| {
            let process = ended.get(&flow.info.key.pid);
            process.is_some_and(|process| process.opened(flow.info.opened))
        };
        let flows = self.flows.values().map(Box::as_ref);
        let mut over: Vec<_> = flows.filter(is_over).collect();
        over.sort_unstable_by_key(|flow| (flow.info.opened, flow.info.id));
        over.into_iter().map(|flow| flow.info.key).collect()
    }

    /// Removes the connections whose grace period is over.
    pub(crate) fn expired(&mut self, now: Timestamp) -> Vec<Flow<S>> {
        let mut expired = Vec::new();
        while let Some(&(deadline, key)) = self.scheduled.front() {
            if deadline > now {
                break;
            }
            self.scheduled.pop_front();
            // One evicted meanwhile may live again under its key.
            if self
                .flows
                .get(&key)
                .is_some_and(|flow| flow.closing.is_some())
            {
                expired.extend(self.remove(key));
            }
        }
        expired
    }

    /// Removes the connections idle longest if `key` needs a place and there is none.
    pub(crate) fn make_room(&mut self, key: ConnectionKey) -> Vec<Flow<S>> {
        if self.flows.len() < self.limit || self.flows.contains_key(&key) {
            return Vec::new();
        }
        let mut by_age: Vec<_> = self
            .flows
            .iter()
            .map(|(&key, f)| (f.last_seen, key))
            .collect();
        let count = (self.limit / EVICTED_SHARE).clamp(1, by_age.len());
        by_age.select_nth_unstable_by_key(count - 1, |&(last_seen, _)| last_seen);
        by_age.truncate(count);
        by_age.sort_unstable_by_key(|&(last_seen, key)| (last_seen, key.object, key.generation));
        by_age
            .into_iter()
            .filter_map(|(_, key)| self.remove(key))
            .collect()
    }

    /// Removes all, in the order in which they were opened.
    pub(crate) fn drain(&mut self) -> Vec<Flow<S>> {
        let mut flows: Vec<_> = self.flows.drain().map(|(_, flow)| *flow).collect();
        flows.sort_unstable_by_key(|flow| (flow.info.opened, flow.info.id));
        flows
    }

    /// The offsets at its removal are remembered: data that still comes is not
    /// a gap from 0 on, and totals that still come are not lost bytes. Bytes
    /// that the pipeline declares lost at the end of the flow count as seen.
    fn remove(&mut self, key: ConnectionKey) -> Option<Flow<S>> {
        let flow = self.flows.remove(&key)?;
        self.past
            .remember(key, flow.streams.each_ref().map(|s| s.next.max(s.known)));
        Some(*flow)
    }
}

fn create<S: Default>(arrival: Arrival<'_>, offsets: [u64; 2]) -> Flow<S> {
    let mut sockets = [arrival.socket; 2];
    if let Some(direction) = arrival.direction {
        sockets[1 - direction as usize] = Socket::default();
    }
    let info = ConnectionInfo {
        id: ConnectionId::new(&arrival.key, arrival.time),
        key: arrival.key,
        opened: arrival.time,
        process: arrival.process.clone(),
        sockets,
        container: None,
    };
    Flow {
        info,
        streams: offsets.map(Stream::resumed),
        state: S::default(),
        last_seen: arrival.time,
        closing: None,
    }
}

/// How far connections had come that are no longer held; bounded, oldest out first.
#[derive(Debug)]
struct Past {
    limit: usize,
    offsets: HashMap<ConnectionKey, [u64; 2]>,
    order: VecDeque<ConnectionKey>,
}

impl Past {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            offsets: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn offsets(&self, key: ConnectionKey) -> [u64; 2] {
        self.offsets.get(&key).copied().unwrap_or_default()
    }

    /// A key taken out keeps its place in `order`, so that place may be stale;
    /// what is forgotten early for it is the oldest anyway.
    fn take(&mut self, key: ConnectionKey) -> [u64; 2] {
        self.offsets.remove(&key).unwrap_or_default()
    }

    fn remember(&mut self, key: ConnectionKey, offsets: [u64; 2]) {
        if self.order.len() >= self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.offsets.remove(&oldest);
        }
        self.offsets.insert(key, offsets);
        self.order.push_back(key);
    }
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Received, Self::Sent];

    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Received => Self::Sent,
            Self::Sent => Self::Received,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
        }
    }
}

#[cfg(test)]
mod tests;
