//! Flow, decoding and sinks wired together: events go in at one end.
//!
//! Each piece of plaintext is placed in its connection, cut into messages and
//! gathered into blocks. What a block waits for is never waited for longer
//! than until the next tick.

mod block;
mod piece;

use std::sync::Arc;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::decode::{Conversation, Output};
use crate::event::{Close, ConnectionKey, Data, Direction, EndedProcess, Event, Timestamp};
use crate::filter::Filter;
use crate::flow::{Arrival, Flow, FlowTable, Placement};
use crate::item::{CloseReason, Closed, Container, Item, Stage, Staged};
use crate::sink::{Outlet, Sink, SinkError};
use crate::summary::{CaptureCounters, Summary};
use block::{Assembler, Pending};
use piece::{Piece, Target};

/// Processes whose container is remembered.
const CONTAINERS_MAX: usize = 16_384;

#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Connections held at once; beyond it the one idle longest is evicted.
    pub max_connections: usize,
    /// How long a closed connection is still found by events under way.
    pub grace: Duration,
    /// A block is shown when it has come to so many bytes.
    pub max_block: usize,
    /// Blocks that wait are all shown when together they have so many bytes.
    pub max_waiting: usize,
    /// Recognize messages. Without, all is plain data, call by call.
    pub decode: bool,
    /// What of it the sinks are told. The summary counts all.
    pub filter: Filter,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            grace: Duration::from_secs(1),
            max_block: 256 * 1024,
            max_waiting: 32 * 1024 * 1024,
            decode: true,
            filter: Filter::default(),
        }
    }
}

#[derive(Debug)]
pub struct Pipeline {
    options: PipelineOptions,
    flows: FlowTable<State>,
    /// Connections with a block that waits, in the order in which they began to.
    waiting: Vec<ConnectionKey>,
    assembler: Assembler,
    outlet: Outlet,
    /// What the last step said; reused.
    output: Output,
    summary: Summary,
    /// By process.
    containers: Bounded<u32, Arc<Container>>,
}

/// What the pipeline keeps with each connection.
#[derive(Debug, Default)]
struct State {
    conversation: Conversation,
    pending: Option<Pending>,
    /// Stands in `waiting`.
    listed: bool,
    /// An event found it since its creation.
    found: bool,
}

impl Pipeline {
    pub fn new(options: PipelineOptions, sinks: Vec<Box<dyn Sink + Send>>) -> Self {
        Self {
            flows: FlowTable::new(options.max_connections, options.grace),
            waiting: Vec::new(),
            assembler: Assembler::new(options.max_block),
            outlet: Outlet::new(sinks, options.filter.clone()),
            output: Output::default(),
            summary: Summary::default(),
            containers: Bounded::new(CONTAINERS_MAX),
            options,
        }
    }

    /// Takes events in the order of the ring buffer: those of one connection are in order.
    pub fn event(&mut self, event: Event<'_>) -> Result<(), SinkError> {
        match event {
            Event::Data(data) => self.data(&data),
            Event::Secret(secret) => self.outlet.item(&Item::Secret(&secret)),
            Event::Close(close) => {
                self.totals(&close)?;
                self.close(close.connection, close.time, CloseReason::Closed)
            }
        }
    }

    /// The process runs in this container: to be told ahead of its first event.
    pub fn introduce(&mut self, pid: u32, container: Option<Container>) {
        match container {
            Some(container) => self.containers.insert(pid, Arc::new(container)),
            None => drop(self.containers.remove(&pid)),
        }
    }

    /// Shows what waits and ends what has been closed for the grace period.
    /// To be called about every 100 ms, with the time up to which all events have come: that may
    /// be long ago when they come faster than they are taken.
    pub fn tick(&mut self, reached: Timestamp) -> Result<(), SinkError> {
        self.flush_blocks()?;
        for flow in self.flows.expired(reached) {
            self.end(flow, CloseReason::Closed)?;
        }
        self.outlet.flush()
    }

    /// Processes have ended, and all that they wrote has come: their connections end after the
    /// grace period.
    pub fn forget_processes(
        &mut self,
        ended: &[EndedProcess],
        now: Timestamp,
    ) -> Result<(), SinkError> {
        for key in self.flows.of_ended(ended) {
            self.close(key, now, CloseReason::ProcessExited)?;
        }
        Ok(())
    }

    /// What the kernel side counted for a connection. What has not come when the
    /// connection ends is lost. One of which nothing was seen is opened here, so
    /// that its loss is told.
    pub fn totals(&mut self, of: &Close) -> Result<(), SinkError> {
        let Close {
            connection: key,
            total,
            ..
        } = *of;
        if self.flows.unseen(key, total) {
            self.make_room(key)?;
            let arrival = Arrival {
                time: of.time,
                key,
                process: &of.process,
                direction: None,
                socket: of.socket,
            };
            let (flow, _) = self.flows.get_or_create(arrival);
            self.summary.connections += 1;
            self.outlet.item(&Item::Open(&flow.info))?;
        }
        if let Some(flow) = self.flows.get_mut(key) {
            for (stream, total) in flow.streams.iter_mut().zip(total) {
                stream.expect(total);
            }
        }
        Ok(())
    }

    /// The numbers so far. Bytes that have not come yet are not lost yet.
    pub fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        self.outlet.report(&mut summary);
        summary
    }

    /// Ends every connection and every sink. A sink that fails does not keep
    /// the others from writing their end; the first error is returned.
    pub fn finish(mut self, counters: &CaptureCounters) -> Result<Summary, SinkError> {
        self.summary.counters = counters.clone();
        let ended = self.flush_blocks().and_then(|()| {
            let mut flows = self.flows.drain().into_iter();
            flows.try_for_each(|flow| self.end(flow, CloseReason::CaptureEnded))
        });
        let summary = self.summary();
        let finished = self.outlet.finish(&summary);
        ended.and(finished).map(|()| summary)
    }

    fn data(&mut self, data: &Data<'_>) -> Result<(), SinkError> {
        let Data {
            time,
            connection: key,
            ref process,
            socket,
            direction,
            payload,
            ..
        } = *data;
        self.make_room(key)?;
        let (flow, created) = self.flows.get_or_create(Arrival {
            time,
            key,
            process,
            direction: Some(direction),
            socket,
        });
        let mut target = Target {
            assembler: &mut self.assembler,
            outlet: &mut self.outlet,
            output: &mut self.output,
            summary: &mut self.summary,
        };
        if created {
            flow.info.container = self.containers.get(&key.pid).map(|known| Arc::clone(known));
            target.open(&flow.info)?;
        } else if !std::mem::replace(&mut flow.state.found, true) {
            target.outlet.item(&Item::Stage(Staged {
                time,
                connection: &flow.info,
                stage: Stage::Found,
            }))?;
        }
        let stream = &mut flow.streams[direction as usize];
        stream.expect(data.call_offset.saturating_add(data.call_length));
        let Placement { gap, repeated } = stream.place(data.offset, payload.len() as u64);
        if let Some(lost) = gap {
            target.lose(flow, direction, time, lost)?;
        }
        let bytes = &payload[repeated as usize..];
        target.count(direction, bytes.len() as u64, repeated);
        let offset = data.offset.saturating_add(repeated);
        Piece {
            data,
            bytes,
            offset,
            decode: self.options.decode,
        }
        .show(flow, &mut target)?;
        if flow.state.pending.is_some() && !flow.state.listed {
            flow.state.listed = true;
            self.waiting.push(key);
        }
        if self.assembler.waiting_bytes() > self.options.max_waiting {
            self.flush_blocks()?;
        }
        Ok(())
    }

    fn close(
        &mut self,
        key: ConnectionKey,
        time: Timestamp,
        reason: CloseReason,
    ) -> Result<(), SinkError> {
        let Some(flow) = self.flows.get_mut(key) else {
            return Ok(());
        };
        self.assembler
            .flush(&mut flow.state.pending, &flow.info, &mut self.outlet)?;
        match self.flows.close(key, time, reason) {
            Some(flow) => self.outlet.item(&Item::Stage(Staged {
                time,
                connection: &flow.info,
                stage: Stage::Scheduled,
            })),
            None => Ok(()),
        }
    }

    fn make_room(&mut self, key: ConnectionKey) -> Result<(), SinkError> {
        for flow in self.flows.make_room(key) {
            self.summary.evicted_connections += 1;
            self.end(flow, CloseReason::Evicted)?;
        }
        Ok(())
    }

    fn flush_blocks(&mut self) -> Result<(), SinkError> {
        let mut held_back = Vec::new();
        for key in self.waiting.drain(..) {
            if let Some(flow) = self.flows.get_mut(key) {
                flow.state.listed = false;
                self.assembler
                    .cut(&mut flow.state.pending, &flow.info, &mut self.outlet)?;
                if flow.state.pending.is_some() {
                    flow.state.listed = true;
                    held_back.push(key);
                }
            }
        }
        self.waiting = held_back;
        Ok(())
    }

    fn end(&mut self, mut flow: Flow<State>, otherwise: CloseReason) -> Result<(), SinkError> {
        let (time, reason) = flow.ended(otherwise);
        let mut target = self.target();
        target.flush(&mut flow)?;
        for direction in Direction::BOTH {
            if let Some(lost) = flow.streams[direction as usize].finish() {
                target.lose(&mut flow, direction, time, lost)?;
            }
            target.end(&mut flow, direction, time)?;
        }
        let bytes = flow.bytes();
        self.outlet.item(&Item::Close(Closed {
            time,
            connection: &flow.info,
            reason,
            bytes,
        }))
    }

    fn target(&mut self) -> Target<'_> {
        Target {
            assembler: &mut self.assembler,
            outlet: &mut self.outlet,
            output: &mut self.output,
            summary: &mut self.summary,
        }
    }
}
