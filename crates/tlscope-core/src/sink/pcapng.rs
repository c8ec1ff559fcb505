//! pcapng blocks (draft-ietf-opsawg-pcapng), encoded by ourselves.
//!
//! Each function appends one whole block in the machine's byte order. Text that
//! does not fit an option's 16-bit length is cut, at a character.

use std::net::IpAddr;

use crate::packet::LinkType;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// "TLSK": an NSS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;

const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;

/// Nanoseconds since 1970, as every interface of ours counts (`if_tsresol` 9).
pub type Nanoseconds = u64;

/// Who wrote the file, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    pub application: String,
    pub os: String,
    pub hardware: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub link_type: LinkType,
    /// The longest part of a frame that is kept.
    pub snapshot_length: u32,
    /// The tcpdump expression; empty when there is none.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    pub start: Nanoseconds,
    pub end: Nanoseconds,
    pub received: u64,
    pub dropped_by_interface: u64,
    pub dropped_by_kernel: u64,
    /// Written to the file.
    pub delivered: u64,
}

/// What stands before a packet's bytes in its block.
#[derive(Debug, Clone, Copy)]
pub struct PacketHead {
    pub interface: u32,
    pub time: Nanoseconds,
    pub captured: u32,
    pub original: u32,
}

pub fn section_header(to: &mut Vec<u8>, section: &Section) {
    const HARDWARE: u16 = 2;
    const OS: u16 = 3;
    const APPLICATION: u16 = 4;
    block(to, SECTION_HEADER, |to| {
        put32(to, BYTE_ORDER_MAGIC);
        put16(to, 1);
        put16(to, 0);
        // The section's length is not known yet.
        to.extend_from_slice(&u64::MAX.to_ne_bytes());
        text(to, HARDWARE, &section.hardware);
        text(to, OS, &section.os);
        text(to, APPLICATION, &section.application);
        end_options(to);
    });
}

pub fn interface_description(to: &mut Vec<u8>, interface: &Interface) {
    const NAME: u16 = 2;
    const TIME_RESOLUTION: u16 = 9;
    const FILTER: u16 = 11;
    /// The first byte of `if_filter` says what follows: 0 is a libpcap expression.
    const EXPRESSION: &str = "\0";
    block(to, INTERFACE_DESCRIPTION, |to| {
        put16(to, interface.link_type.0);
        put16(to, 0);
        put32(to, interface.snapshot_length);
        text(to, NAME, &interface.name);
        option(to, TIME_RESOLUTION, &[9]);
        if !interface.filter.is_empty() {
            text(to, FILTER, &(EXPRESSION.to_owned() + &interface.filter));
        }
        end_options(to);
    });
}

/// What goes before the bytes of a packet. Padding, [`packet_tail`] and nothing
/// else follow them; `comment` is the one given to both.
pub fn packet_head(to: &mut Vec<u8>, head: PacketHead, comment: &str) {
    put32(to, ENHANCED_PACKET);
    put32(to, packet_length(head.captured, comment));
    put32(to, head.interface);
    put32(to, (head.time >> 32) as u32);
    put32(to, head.time as u32);
    put32(to, head.captured);
    put32(to, head.original);
}

pub fn packet_tail(to: &mut Vec<u8>, captured: u32, comment: &str) {
    to.resize(to.len() + padding(captured as usize), 0);
    if !comment.is_empty() {
        text(to, COMMENT, comment);
        end_options(to);
    }
    put32(to, packet_length(captured, comment));
}

fn packet_length(captured: u32, comment: &str) -> u32 {
    const FIXED: usize = 32;
    let options = match clip(comment).len() {
        0 => 0,
        length => 4 + padded(length) + 4,
    };
    (FIXED + padded(captured as usize) + options) as u32
}

/// A packet in one piece.
pub fn packet(to: &mut Vec<u8>, head: PacketHead, bytes: &[u8], comment: &str) {
    packet_head(to, head, comment);
    to.extend_from_slice(bytes);
    packet_tail(to, head.captured, comment);
}

/// `lines`: a key log. What they decrypt must come after them.
pub fn decryption_secrets(to: &mut Vec<u8>, lines: &[u8]) {
    block(to, DECRYPTION_SECRETS, |to| {
        put32(to, TLS_KEY_LOG);
        put32(to, lines.len() as u32);
        to.extend_from_slice(lines);
        pad(to, lines.len());
    });
}

pub fn name_resolution(to: &mut Vec<u8>, address: IpAddr, name: &str) {
    const IPV4: u16 = 1;
    const IPV6: u16 = 2;
    let name = clip(name).as_bytes();
    let mut value = Vec::with_capacity(17 + name.len());
    let kind = match address {
        IpAddr::V4(ip) => {
            value.extend_from_slice(&ip.octets());
            IPV4
        }
        IpAddr::V6(ip) => {
            value.extend_from_slice(&ip.octets());
            IPV6
        }
    };
    value.extend_from_slice(name);
    value.push(0);
    block(to, NAME_RESOLUTION, |to| {
        option(to, kind, &value);
        end_options(to);
    });
}

pub fn interface_statistics(to: &mut Vec<u8>, interface: u32, statistics: &Statistics) {
    const START: u16 = 2;
    const END: u16 = 3;
    const RECEIVED: u16 = 4;
    const DROPPED_BY_INTERFACE: u16 = 5;
    const DROPPED_BY_KERNEL: u16 = 7;
    const DELIVERED: u16 = 8;
    block(to, INTERFACE_STATISTICS, |to| {
        put32(to, interface);
        to.extend_from_slice(&halves(statistics.end));
        option(to, START, &halves(statistics.start));
        option(to, END, &halves(statistics.end));
        for (code, value) in [
            (RECEIVED, statistics.received),
            (DROPPED_BY_INTERFACE, statistics.dropped_by_interface),
            (DROPPED_BY_KERNEL, statistics.dropped_by_kernel),
            (DELIVERED, statistics.delivered),
        ] {
            option(to, code, &value.to_ne_bytes());
        }
        end_options(to);
    });
}

/// A time stamp is two 32-bit words, the high one first in either byte order.
fn halves(time: Nanoseconds) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&((time >> 32) as u32).to_ne_bytes());
    bytes[4..].copy_from_slice(&(time as u32).to_ne_bytes());
    bytes
}

/// A block's length stands at both of its ends.
fn block(to: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    put32(to, kind);
    put32(to, 0);
    body(to);
    let length = (to.len() - start + 4) as u32;
    put32(to, length);
    to[start + 4..start + 8].copy_from_slice(&length.to_ne_bytes());
}

fn text(to: &mut Vec<u8>, code: u16, text: &str) {
    option(to, code, clip(text).as_bytes());
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    put16(to, code);
    put16(to, value.len() as u16);
    to.extend_from_slice(value);
    pad(to, value.len());
}

fn end_options(to: &mut Vec<u8>) {
    put16(to, END_OF_OPTIONS);
    put16(to, 0);
}

fn clip(text: &str) -> &str {
    const MAX: usize = 65_000;
    let mut end = text.len().min(MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn pad(to: &mut Vec<u8>, length: usize) {
    to.resize(to.len() + padding(length), 0);
}

fn padding(length: usize) -> usize {
    padded(length) - length
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn put16(to: &mut Vec<u8>, value: u16) {
    to.extend_from_slice(&value.to_ne_bytes());
}

fn put32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
mod tests;
