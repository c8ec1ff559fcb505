//! The thread that connects and writes, and knows what arrived.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::PoisonError;
use std::time::Duration;

use tlscope_core::sink::LostRecords;
use tlscope_probe::tcp::unacknowledged;

use super::names::Names;
use super::{Chunk, Count, Shared, whole_lines};
use crate::capture::turns::now;

/// Lines are written so many bytes at a time: what a break costs at most beside
/// what the system had taken.
const SLICE: usize = 64 * 1024;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Between attempts: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// How often it is asked at the end whether all has arrived.
const ASK: Duration = Duration::from_millis(5);

pub(super) fn serve(address: &str, names: &Names, shared: &Shared) {
    let mut stream = Stream::default();
    while let Some(socket) = connect(address, names, shared) {
        let mut link = Link::new(socket);
        let fed = stream.feed(&mut link, shared);
        link.confirm(&mut stream);
        shared.lock().delivered = stream.delivered;
        match fed {
            Ok(()) => {
                let _ = link.socket.shutdown(Shutdown::Write);
                break;
            }
            Err(error) => eprintln!("tlscope: tcp://{address}: {error}; connecting again"),
        }
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}

/// `None` when the capture ended first.
fn connect(address: &str, names: &Names, shared: &Shared) -> Option<TcpStream> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt(names) {
            Ok(socket) => return Some(socket),
            Err(error) if pause == FIRST_PAUSE => {
                eprintln!(
                    "tlscope: tcp://{address}: {error}; records wait while it is tried again"
                );
            }
            Err(_) => {}
        }
        let state = shared.lock();
        let waited = shared
            .changed
            .wait_timeout_while(state, pause, |state| !state.closed);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn attempt(names: &Names) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in names.look_up()? {
        match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
            Ok(socket) => {
                // Records come in batches, which are to be seen when they come.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The stream of records across connections.
#[derive(Debug, Default)]
struct Stream {
    /// What comes next for the reader. A chunk that begins later stands behind lost records.
    reached: Count,
    delivered: Count,
    /// What is not yet written, of the chunk in hand.
    rest: Chunk,
}

impl Stream {
    /// Until the capture ends and all has arrived.
    fn feed(&mut self, link: &mut Link, shared: &Shared) -> io::Result<()> {
        let mut next = self.reached;
        loop {
            if self.rest.lines.is_empty() && !self.take(shared) {
                let end = shared.lock().end;
                if end != next {
                    link.tell_lost(next, end)?;
                }
                return link.wait_until_taken(self);
            }
            if self.rest.place != next {
                link.tell_lost(next, self.rest.place)?;
            }
            next = self.write_slice(link, shared)?;
            link.confirm(self);
            shared.lock().delivered = self.delivered;
        }
    }

    /// False when the capture has ended and nothing more waits.
    fn take(&mut self, shared: &Shared) -> bool {
        let state = shared.lock();
        let waited = shared
            .changed
            .wait_while(state, |state| state.waiting.is_empty() && !state.closed);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        match state.waiting.pop_front() {
            Some(chunk) => self.rest = chunk,
            None => return false,
        }
        true
    }

    /// Gives the place behind it.
    fn write_slice(&mut self, link: &mut Link, shared: &Shared) -> io::Result<Count> {
        let Chunk { place, lines } = &mut self.rest;
        let first_line = || lines.iter().position(|&b| b == b'\n');
        let length = match whole_lines(lines, SLICE).len() {
            0 => first_line().map_or(lines.len(), |end| end + 1),
            length => length,
        };
        let slice: Vec<u8> = lines.drain(..length).collect();
        let written = link.write_records(&slice, *place);
        *place = *place + Count::of(&slice);
        shared.lock().held -= length;
        written.map(|()| self.rest.place)
    }
}

/// One connection.
#[derive(Debug)]
struct Link {
    socket: TcpStream,
    /// Bytes that the system took.
    written: u64,
    /// Bytes of the lines that it was or is to take.
    offered: u64,
    /// Lines that may not have arrived.
    unconfirmed: VecDeque<Line>,
}

#[derive(Debug)]
struct Line {
    /// Where it ends among the bytes of the connection.
    end: u64,
    /// The place behind it.
    place: Count,
    is_record: bool,
}

impl Link {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            written: 0,
            offered: 0,
            unconfirmed: VecDeque::new(),
        }
    }

    fn tell_lost(&mut self, from: Count, to: Count) -> io::Result<()> {
        let lost = to - from;
        let mut line = Vec::new();
        LostRecords {
            time: now(),
            first: from.records,
            records: lost.records,
            bytes: lost.bytes,
        }
        .push(&mut line);
        self.offered += line.len() as u64;
        self.unconfirmed.push_back(Line {
            end: self.offered,
            place: to,
            is_record: false,
        });
        self.write(&line)
    }

    fn write_records(&mut self, lines: &[u8], mut place: Count) -> io::Result<()> {
        for line in lines.split_inclusive(|&b| b == b'\n') {
            place = place + Count::of(line);
            self.offered += line.len() as u64;
            self.unconfirmed.push_back(Line {
                end: self.offered,
                place,
                is_record: true,
            });
        }
        self.write(lines)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes off the lines that arrived.
    fn confirm(&mut self, stream: &mut Stream) {
        let arrived = match unacknowledged(&self.socket) {
            Ok(bytes) => self.written.saturating_sub(bytes),
            Err(_) => return,
        };
        while let Some(line) = self.unconfirmed.front().filter(|line| line.end <= arrived) {
            if line.is_record {
                stream.delivered = stream.delivered + (line.place - stream.reached);
            }
            stream.reached = line.place;
            self.unconfirmed.pop_front();
        }
    }

    fn wait_until_taken(&mut self, stream: &mut Stream) -> io::Result<()> {
        loop {
            self.confirm(stream);
            if self.unconfirmed.is_empty() {
                return Ok(());
            }
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            std::thread::sleep(ASK);
        }
    }
}
