//! Packets of a network interface, by libpcap.
//!
//! libpcap is the memory-mapped ring (`TPACKET_V3`, or what an older kernel has),
//! the compiler of filter expressions, and twenty years of knowledge about link
//! types, VLAN tags taken off by hardware, packets that loopback shows twice and
//! packets that slip in before the filter. Ours would be a copy of it.

mod expression;

use std::os::fd::AsRawFd;
use std::time::Duration;

use pcap::{Active, Capture, Linktype, Precision};

pub use expression::{ExpressionError, check as check_expression};

/// Longest frame that the readers of pcapng take, Wireshark among them.
pub const SNAPSHOT_MAX: u32 = 262_144;
/// The kernel hands over a block of its ring at the latest after so long.
pub const BLOCK_TIMEOUT_MS: i32 = 20;
/// The name that stands for all interfaces.
pub const ANY: &str = "any";

const DLT_LINUX_SLL2: i32 = 276;

#[derive(Debug, Clone)]
pub struct PacketOptions {
    pub interface: String,
    /// Bytes kept of each frame.
    pub snapshot_length: u32,
    /// Bytes of the ring.
    pub buffer_bytes: u32,
    /// A tcpdump expression; empty takes everything.
    pub filter: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    #[error("capturing packets needs root, or CAP_NET_RAW: {0}")]
    Privilege(String),
    #[error("interface {interface}: {reason}")]
    Interface { interface: String, reason: String },
    #[error("filter: {0}")]
    Filter(String),
}

/// A frame as the interface had it.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Wall-clock time since 1970.
    pub time_ns: u64,
    pub original_length: u32,
    pub bytes: &'a [u8],
}

/// Counted by the kernel since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketCounts {
    pub received: u64,
    pub dropped_by_kernel: u64,
    pub dropped_by_interface: u64,
}

/// An open ring.
pub struct PacketSource {
    capture: Capture<Active>,
    interface: String,
    counts: PacketCounts,
}

impl std::fmt::Debug for PacketSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PacketSource({})", self.interface)
    }
}

impl PacketSource {
    /// Not promiscuous: tlscope shows what this machine's programs say.
    pub fn open(options: &PacketOptions) -> Result<Self, PacketError> {
        let failed = |error: pcap::Error| interface_error(&options.interface, &error);
        let mut capture = Capture::from_device(options.interface.as_str())
            .map_err(failed)?
            .promisc(false)
            .snaplen(options.snapshot_length.min(SNAPSHOT_MAX).cast_signed())
            .buffer_size(options.buffer_bytes.min(1 << 30).cast_signed())
            .timeout(BLOCK_TIMEOUT_MS)
            .precision(Precision::Nano)
            .open()
            .map_err(failed)?
            .setnonblock()
            .map_err(failed)?;
        if options.interface == ANY {
            // The second version of the header names the interface of each packet.
            capture
                .set_datalink(Linktype(DLT_LINUX_SLL2))
                .map_err(failed)?;
        }
        if !options.filter.is_empty() {
            capture
                .filter(&options.filter, true)
                .map_err(|error| PacketError::Filter(message(&error)))?;
        }
        Ok(Self {
            capture,
            interface: options.interface.clone(),
            counts: PacketCounts::default(),
        })
    }

    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// As pcapng numbers it.
    pub fn link_type(&self) -> u16 {
        link_type(self.capture.get_datalink())
    }

    /// Waits until a block of the ring is full or old enough.
    pub fn wait(&self, timeout: Duration) {
        crate::events::wait(&[self.capture.as_raw_fd()], timeout);
    }

    /// Hands out up to `most` packets that have come, or fewer when the handler
    /// fails. The outer result is the interface's, the inner one the handler's.
    pub fn read<E>(
        &mut self,
        most: usize,
        mut handler: impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<Result<(), E>, PacketError> {
        for _ in 0..most {
            let packet = match self.capture.next_packet() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => break,
                Err(error) => return Err(interface_error(&self.interface, &error)),
            };
            let header = packet.header;
            // With `Precision::Nano` the field of microseconds has nanoseconds.
            let time_ns = header.ts.tv_sec.cast_unsigned() * 1_000_000_000
                + header.ts.tv_usec.cast_unsigned();
            let packet = Packet {
                time_ns,
                original_length: header.len,
                bytes: packet.data,
            };
            if let Err(error) = handler(packet) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    pub fn counts(&mut self) -> PacketCounts {
        if let Ok(now) = self.capture.stats() {
            let Stats {
                received,
                dropped,
                if_dropped,
            } = now.into();
            // libpcap counts in 32 bits, which wrap.
            advance(&mut self.counts.received, received);
            advance(&mut self.counts.dropped_by_kernel, dropped);
            advance(&mut self.counts.dropped_by_interface, if_dropped);
        }
        self.counts
    }
}

struct Stats {
    received: u32,
    dropped: u32,
    if_dropped: u32,
}

impl From<pcap::Stat> for Stats {
    fn from(stat: pcap::Stat) -> Self {
        Self {
            received: stat.received,
            dropped: stat.dropped,
            if_dropped: stat.if_dropped,
        }
    }
}

fn advance(total: &mut u64, now: u32) {
    *total += u64::from(now.wrapping_sub(*total as u32));
}

/// The name of an interface by its number in this network namespace.
pub fn interface_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call documents.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let end = name.iter().position(|&b| b == 0)?;
    Some(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Below 104 a few types differ between a live capture and a file.
fn link_type(Linktype(dlt): Linktype) -> u16 {
    match dlt {
        11 => 100,
        12 => 101,
        13 => 102,
        14 => 103,
        dlt => u16::try_from(dlt).unwrap_or(u16::MAX),
    }
}

fn interface_error(interface: &str, error: &pcap::Error) -> PacketError {
    let reason = message(error);
    if reason.contains("permission") || reason.contains("not permitted") {
        return PacketError::Privilege(reason);
    }
    PacketError::Interface {
        interface: interface.to_owned(),
        reason,
    }
}

/// libpcap's own words, without the crate's.
fn message(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}
