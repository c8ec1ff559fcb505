//! A recorded event stream: calls of one process, and what a sink wrote of them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tlscope_core::event::{
    Address, Close, Comm, ConnectionKey, Data, Direction, Event, Process, Socket, Timestamp,
};
use tlscope_core::pipeline::{Pipeline, PipelineOptions};
use tlscope_core::sink::{JsonOptions, JsonSink, Sink, TextOptions, TextSink};
use tlscope_core::summary::{CaptureCounters, Summary};

/// A writer whose bytes can be looked at while a sink owns it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedWriter {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Option<io::ErrorKind>,
}

impl SharedWriter {
    pub(crate) fn failing(kind: io::ErrorKind) -> Self {
        Self {
            fails: Some(kind),
            ..Self::default()
        }
    }

    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.bytes.lock().unwrap())).unwrap()
    }
}

impl Write for SharedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Recorder {
    pipeline: Option<Pipeline>,
    writer: SharedWriter,
    key: ConnectionKey,
    process: Process,
    socket: Socket,
    offsets: [u64; 2],
    time: u64,
}

impl Recorder {
    pub(crate) fn text(options: TextOptions) -> Self {
        Self::text_to(SharedWriter::default(), options, PipelineOptions::default())
    }

    pub(crate) fn text_to(
        writer: SharedWriter,
        text: TextOptions,
        options: PipelineOptions,
    ) -> Self {
        let sink = Box::new(TextSink::new(writer.clone(), text));
        Self::new(writer, sink, options)
    }

    pub(crate) fn json(options: JsonOptions) -> Self {
        let writer = SharedWriter::default();
        let sink = Box::new(JsonSink::new(writer.clone(), options));
        Self::new(writer, sink, PipelineOptions::default())
    }

    pub(crate) fn new(
        writer: SharedWriter,
        sink: Box<dyn Sink + Send>,
        options: PipelineOptions,
    ) -> Self {
        let mut comm = Comm::default();
        comm.0[..4].copy_from_slice(b"curl");
        let address = Address::Inet {
            local: "10.0.0.1:5000".parse().unwrap(),
            remote: "[::ffff:192.0.2.1]:443".parse().unwrap(),
        };
        Self {
            pipeline: Some(Pipeline::new(options, vec![sink])),
            writer,
            key: ConnectionKey {
                pid: 42,
                object: 0xabc0,
                generation: 0,
            },
            process: Process {
                pid: 42,
                tid: 43,
                uid: 1000,
                comm,
            },
            socket: Socket {
                fd: Some(5),
                address,
            },
            offsets: [0; 2],
            time: 0,
        }
    }

    pub(crate) fn pipeline(&mut self) -> &mut Pipeline {
        self.pipeline.as_mut().unwrap()
    }

    pub(crate) fn writer(&self) -> SharedWriter {
        self.writer.clone()
    }

    pub(crate) fn object(&mut self, object: u64) -> &mut Self {
        self.key.object = object;
        self
    }

    pub(crate) fn at(&mut self, direction: Direction, offset: u64) -> &mut Self {
        self.offsets[direction as usize] = offset;
        self
    }

    pub(crate) fn without_address(&mut self) -> &mut Self {
        self.socket = Socket::default();
        self
    }

    pub(crate) fn call(&mut self, direction: Direction, payload: &[u8]) -> &mut Self {
        self.chunked_call(direction, payload, usize::MAX)
    }

    pub(crate) fn chunked_call(
        &mut self,
        direction: Direction,
        payload: &[u8],
        size: usize,
    ) -> &mut Self {
        let call_offset = self.offsets[direction as usize];
        for chunk in payload.chunks(size) {
            let offset = self.offsets[direction as usize];
            self.data(direction, offset, call_offset, payload.len() as u64, chunk);
            self.offsets[direction as usize] += chunk.len() as u64;
        }
        self
    }

    /// A call that comes again, or overlaps what came before.
    pub(crate) fn repeat(
        &mut self,
        direction: Direction,
        offset: u64,
        payload: &[u8],
    ) -> &mut Self {
        self.data(direction, offset, offset, payload.len() as u64, payload);
        self.offsets[direction as usize] = offset + payload.len() as u64;
        self
    }

    pub(crate) fn lose(&mut self, direction: Direction, length: u64) -> &mut Self {
        self.offsets[direction as usize] += length;
        self
    }

    pub(crate) fn close(&mut self, total: [u64; 2]) -> &mut Self {
        let close = Close {
            time: Timestamp(self.time),
            process: self.process.clone(),
            connection: self.key,
            socket: Socket::default(),
            total,
        };
        self.pipeline().event(Event::Close(close)).unwrap();
        self
    }

    pub(crate) fn tick(&mut self, time: u64) -> &mut Self {
        self.pipeline().tick(Timestamp(time)).unwrap();
        self
    }

    /// What was written up to now, flushed.
    pub(crate) fn take(&mut self) -> String {
        self.tick(0);
        self.writer.take()
    }

    #[track_caller]
    pub(crate) fn check(&mut self, expected: &str) {
        assert_eq!(self.take(), expected);
    }

    /// What was written by now, nothing flushed for it.
    #[track_caller]
    pub(crate) fn check_written(&mut self, expected: &str) {
        assert_eq!(self.writer.take(), expected);
    }

    /// What stands under each header line of text output.
    pub(crate) fn payloads(&mut self) -> Vec<String> {
        let text = self.take();
        let blocks = text.split_terminator("\n\n");
        blocks
            .map(|block| block.split_once('\n').unwrap().1.to_owned() + "\n")
            .collect()
    }

    pub(crate) fn finish(self) -> Summary {
        self.finish_with(&CaptureCounters(vec![("lost_events", 7)]))
    }

    pub(crate) fn finish_with(mut self, counters: &CaptureCounters) -> Summary {
        self.pipeline.take().unwrap().finish(counters).unwrap()
    }

    fn data(&mut self, direction: Direction, offset: u64, call: u64, length: u64, payload: &[u8]) {
        self.time += 1;
        let data = Data {
            time: Timestamp(self.time),
            process: self.process.clone(),
            connection: self.key,
            socket: self.socket,
            direction,
            offset,
            call_offset: call,
            call_length: length,
            payload,
        };
        self.pipeline().event(Event::Data(data)).unwrap();
    }
}
