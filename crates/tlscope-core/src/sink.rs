//! Sinks: where items go, one file per output.
//!
//! A sink buffers as it likes between flushes: hand it a plain writer, not a
//! buffered one. A new output is one file and one row of [`OUTPUTS`].

mod har;
mod json;
mod keylog;
pub mod pcapng;
mod text;

use std::fmt;
use std::io;
use std::net::SocketAddr;

pub use har::HarSink;
pub use json::{JsonOptions, JsonSink, LostRecords};
pub use keylog::KeylogSink;
pub use text::{Payload, TextOptions, TextSink};

use crate::filter::Filter;
use crate::item::Item;
use crate::summary::Summary;

pub trait Sink {
    /// As error messages name it.
    fn name(&self) -> &'static str;

    fn item(&mut self, item: &Item<'_>) -> io::Result<()>;

    /// Writes what is buffered: it becomes visible now.
    fn flush(&mut self) -> io::Result<()>;

    /// Adds the numbers that only the sink knows.
    fn report(&self, _summary: &mut Summary) {}

    /// Writes the end, if the format has one, and flushes.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}

/// What an output needs of the kernel side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    pub name: &'static str,
    /// Probes on the data path.
    pub needs_data: bool,
    /// Probes on the secret sinks of the libraries.
    pub needs_secrets: bool,
}

/// Every output. JSON takes secrets too when asked to show them.
pub const OUTPUTS: &[Output] = &[
    Output {
        name: "text",
        needs_data: true,
        needs_secrets: false,
    },
    Output {
        name: "json",
        needs_data: true,
        needs_secrets: false,
    },
    Output {
        name: "har",
        needs_data: true,
        needs_secrets: false,
    },
    Output {
        name: "keylog",
        needs_data: false,
        needs_secrets: true,
    },
];

/// A sink could not write.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {sink} output: {source}")]
pub struct SinkError {
    pub sink: &'static str,
    pub source: io::Error,
}

impl SinkError {
    /// The reader has gone: an ordinary end, not a failure.
    pub fn is_closed_pipe(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }

    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

/// All sinks of a capture as one, behind its filter.
pub(crate) struct Outlet {
    sinks: Vec<Box<dyn Sink + Send>>,
    filter: Filter,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.sinks.iter().map(|sink| sink.name()))
            .finish()
    }
}

impl Outlet {
    pub(crate) fn new(sinks: Vec<Box<dyn Sink + Send>>, filter: Filter) -> Self {
        Self { sinks, filter }
    }

    pub(crate) fn item(&mut self, item: &Item<'_>) -> Result<(), SinkError> {
        if !self.filter.accepts(item) {
            return Ok(());
        }
        self.sinks.iter_mut().try_for_each(|sink| {
            let written = sink.item(item);
            written.map_err(|source| SinkError {
                sink: sink.name(),
                source,
            })
        })
    }

    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        self.each(|sink| sink.flush())
    }

    pub(crate) fn report(&self, summary: &mut Summary) {
        self.sinks.iter().for_each(|sink| sink.report(summary));
    }

    pub(crate) fn finish(&mut self, summary: &Summary) -> Result<(), SinkError> {
        self.each(|sink| sink.finish(summary))
    }

    /// One that fails does not keep the others from their work.
    fn each(
        &mut self,
        mut work: impl FnMut(&mut (dyn Sink + Send)) -> io::Result<()>,
    ) -> Result<(), SinkError> {
        let mut result = Ok(());
        for sink in &mut self.sinks {
            let done = work(sink.as_mut());
            result = result.and(done.map_err(|source| SinkError {
                sink: sink.name(),
                source,
            }));
        }
        result
    }
}

/// An IPv4 peer of a dual-stack socket is shown as one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// At most `limit`, and not inside a UTF-8 character.
fn boundary(bytes: &[u8], limit: usize) -> usize {
    let inside = |&at: &usize| bytes.get(at).is_some_and(|b| (0x80..0xc0).contains(b));
    let limit = limit.min(bytes.len());
    (limit.saturating_sub(3)..=limit)
        .rev()
        .find(|at| !inside(at))
        .unwrap_or(limit)
}
