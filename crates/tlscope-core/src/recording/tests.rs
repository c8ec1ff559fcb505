use std::time::Duration;

use super::*;
use crate::event::{Comm, Process, Secret, SecretLabel, Socket};
use crate::owners::Owner;
use crate::packet::Protocol;
use crate::packet::build::{self, Tcp, ethernet};

/// Files in memory; a next one begins after so many packets.
#[derive(Debug, Default)]
struct Files {
    blocks: Vec<Vec<(u32, Vec<u8>)>>,
    packets_each: Option<usize>,
    in_turn: usize,
    /// Files after which there is none.
    at_most: Option<usize>,
    /// Names after which the first comes again.
    names: Option<usize>,
    closed: Vec<u32>,
    full: bool,
}

impl BlockOutput for Files {
    fn is_full(&self, _now: Timestamp) -> bool {
        self.packets_each.is_some_and(|each| self.in_turn >= each)
    }

    fn next_file(&mut self, number: FileNumber, _now: Timestamp) -> io::Result<NextFile> {
        if self.at_most.is_some_and(|most| self.blocks.len() >= most) {
            return Ok(NextFile::None);
        }
        assert_eq!(number.0 as usize, self.blocks.len());
        self.blocks.push(Vec::new());
        self.in_turn = 0;
        let names = self.names.map(|names| names as u32);
        let replaced = names.and_then(|names| number.0.checked_sub(names));
        let is_open = |number: &u32| !self.closed.contains(number);
        let replaced = replaced.filter(is_open).map(FileNumber);
        self.closed.extend(replaced.map(|file| file.0));
        Ok(NextFile::Begun { replaced })
    }

    fn write(&mut self, file: FileNumber, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool> {
        if self.full && kind == BlockKind::Packet {
            return Ok(false);
        }
        assert!(!self.closed.contains(&file.0), "{file:?} is closed");
        let block = block.concat();
        let number = u32::from_ne_bytes(block[..4].try_into().unwrap());
        self.in_turn += usize::from(number == PACKET);
        self.blocks[file.0 as usize].push((number, block));
        Ok(true)
    }

    fn close(&mut self, file: FileNumber) -> io::Result<()> {
        self.closed.push(file.0);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const NAME: u32 = 4;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const SECRETS: u32 = 10;

fn recording(packets_each: Option<usize>, count: Option<u64>) -> Recording<Files> {
    recording_into(packets_each, count, 64, Files::default())
}

fn recording_into(
    packets_each: Option<usize>,
    count: Option<u64>,
    drain: usize,
    files: Files,
) -> Recording<Files> {
    let output = Files {
        packets_each,
        blocks: vec![Vec::new()],
        ..files
    };
    let options = RecordingOptions {
        hold: HoldOptions::default(),
        count,
        drain,
    };
    let mut recording = Recording::new(output, Section::default(), options, Timestamp(1)).unwrap();
    let interface = Interface {
        name: "lo".into(),
        link_type: LinkType::ETHERNET,
        snapshot_length: 0,
        filter: String::new(),
    };
    recording.add_interface(interface, Timestamp(1)).unwrap();
    recording
}

fn secret(label: &str) -> SecretEvent {
    SecretEvent {
        time: Timestamp(1),
        process: Process {
            pid: 1,
            tid: 1,
            uid: 0,
            comm: Comm::default(),
        },
        socket: Socket::default(),
        label: SecretLabel::new(label.as_bytes()).unwrap(),
        client_random: [7; 32],
        secret: Secret::new(&[9; 32]).unwrap(),
    }
}

fn put(recording: &mut Recording<Files>, from_server: bool, payload: &[u8], at: u64) {
    put_of(recording, 40000, from_server, 0x10, payload, at);
}

fn put_of(
    recording: &mut Recording<Files>,
    port: u16,
    from_server: bool,
    flags: u8,
    payload: &[u8],
    at: u64,
) {
    let client = format!("10.0.0.1:{port}");
    let mut ends = [&client, "10.0.0.2:443"].map(|end| end.parse().unwrap());
    let mut numbers = [100, 200];
    if from_server {
        ends.reverse();
        numbers.reverse();
    }
    let frame = ethernet(&Tcp {
        from: ends[0],
        to: ends[1],
        sequence: numbers[0],
        acknowledged: numbers[1],
        flags,
        payload,
    });
    let frame = Frame {
        interface: 0,
        time: Timestamp(at),
        original_length: frame.len() as u32,
        bytes: &frame,
    };
    let now = Moment(Duration::from_nanos(at));
    recording.packet(frame, now).unwrap();
}

fn kinds(blocks: &[(u32, Vec<u8>)]) -> Vec<u32> {
    blocks.iter().map(|block| block.0).collect()
}

const TLS13: [&str; 4] = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
];

fn handshake(recording: &mut Recording<Files>) {
    put(
        recording,
        false,
        &build::client_hello([7; 32], "example.org", false),
        10,
    );
    put(recording, true, &build::server_hello([9; 32], true), 20);
    for label in TLS13 {
        recording.secret(&secret(label)).unwrap();
        recording.secret(&secret(label)).unwrap();
    }
}

#[test]
fn secrets_stand_ahead_of_the_packets_that_waited() {
    let mut recording = recording(None, None);
    handshake(&mut recording);
    let (ended, output, counts) = recording.finish(Timestamp(30));
    ended.unwrap();
    assert_eq!(
        kinds(&output.blocks[0]),
        [
            SECTION, INTERFACE, NAME, PACKET, SECRETS, PACKET, STATISTICS
        ]
    );
    assert_eq!((counts.written, counts.secrets), (2, 4));
    assert_eq!(counts.duplicate_secrets, 4);
    let lines = String::from_utf8_lossy(&output.blocks[0][4].1).into_owned();
    assert!(TLS13.iter().all(|label| lines.matches(label).count() == 1));
}

const SECOND: u64 = 1_000_000_000;

/// Packets, and whether it has secrets.
fn shape(blocks: &[(u32, Vec<u8>)]) -> (usize, bool) {
    let kinds = kinds(blocks);
    assert_eq!(kinds.first(), Some(&SECTION));
    assert_eq!(kinds.last(), Some(&STATISTICS));
    let packets = kinds.iter().filter(|kind| **kind == PACKET);
    (packets.count(), kinds.contains(&SECRETS))
}

/// Of a file with one interface: received, and delivered.
fn statistics(blocks: &[(u32, Vec<u8>)]) -> (u64, u64) {
    let block = &blocks.last().unwrap().1;
    let number = |at: usize| u64::from_ne_bytes(block[at..at + 8].try_into().unwrap());
    // Head, number and time take 20 bytes, each option of 8 bytes 12.
    (number(20 + 2 * 12 + 4), number(20 + 5 * 12 + 4))
}

#[test]
fn a_connection_stays_in_the_file_in_which_it_began() {
    let mut recording = recording(Some(2), None);
    handshake(&mut recording);
    let received = |received| KernelCounts {
        received,
        ..KernelCounts::default()
    };
    recording.kernel_counts(0, received(5));
    // Another one begins in the second file; each has its data where it began.
    let hello = build::client_hello([8; 32], "example.org", false);
    put_of(&mut recording, 40001, false, 0x10, &hello, 30);
    put(&mut recording, true, b"more", 40);
    recording.kernel_counts(0, received(9));
    put_of(&mut recording, 40001, true, 0x10, b"other", 50);
    put_of(&mut recording, 40002, true, 0x10, b"no TLS", 60);
    // The first ends: so does its file.
    put_of(&mut recording, 40000, true, 0x11, b"", 70);
    put_of(&mut recording, 40000, false, 0x11, b"", 80);
    assert_eq!(recording.output.closed, [2], "none began in it");
    recording
        .tick(Moment(Duration::from_nanos(2 * SECOND)))
        .unwrap();
    assert_eq!(recording.output.closed, [2, 0]);
    let (ended, output, counts) = recording.finish(Timestamp(90));
    ended.unwrap();
    let shapes: Vec<_> = output.blocks.iter().map(|file| shape(file)).collect();
    assert_eq!(shapes, [(5, true), (2, false), (1, false), (0, false)]);
    let all: Vec<_> = output.blocks.iter().map(|file| statistics(file)).collect();
    assert_eq!(all, [(5, 5), (4, 2), (0, 1), (0, 0)]);
    assert_eq!((counts.written, counts.hold.outlived), (8, 0));
    assert_eq!(output.closed, [2, 0, 1, 3]);
}

/// What was known before a next file began is written where the connection begins.
#[test]
fn secrets_follow_a_connection_into_its_file() {
    let mut recording = recording(Some(1), None);
    for label in TLS13 {
        recording.secret(&secret(label)).unwrap();
    }
    put_of(&mut recording, 40001, false, 0x10, b"no TLS", 5);
    handshake(&mut recording);
    let (ended, output, _) = recording.finish(Timestamp(90));
    ended.unwrap();
    let shapes: Vec<_> = output.blocks.iter().map(|file| shape(file)).collect();
    assert_eq!(shapes, [(1, true), (2, true), (0, false)]);
    assert_eq!(
        kinds(&output.blocks[1]),
        [
            SECTION, INTERFACE, NAME, SECRETS, PACKET, PACKET, STATISTICS
        ]
    );
}

#[test]
fn what_outlives_its_file_goes_on_in_the_current_one_and_is_counted() {
    // By their number, and because their names come again.
    for (drain, names) in [(1, None), (0, None), (64, Some(2)), (64, Some(1))] {
        let files = Files {
            names,
            ..Files::default()
        };
        let mut recording = recording_into(Some(2), None, drain, files);
        handshake(&mut recording);
        for at in 0..6 {
            put(&mut recording, true, b"more", 30 + at);
        }
        let (ended, output, counts) = recording.finish(Timestamp(90));
        ended.unwrap();
        let stays = 2 + 2 * drain.min(names.map_or(64, |names| names - 1));
        let packets =
            |file: &[(u32, Vec<u8>)]| kinds(file).iter().filter(|kind| **kind == PACKET).count();
        assert_eq!(packets(&output.blocks[0]), stays);
        let all = output.blocks.iter().map(|file| packets(file));
        assert_eq!(all.sum::<usize>(), 8);
        assert_eq!((counts.written, counts.hold.outlived), (8, 1));
    }
}

/// All of it waited for the secrets, as a short connection does on a busy machine.
#[test]
fn what_waited_beyond_its_end_can_outlive_its_file_too() {
    for (data, outlived) in [(&b"more"[..], 1), (b"", 0)] {
        let mut recording = recording_into(Some(2), None, 0, Files::default());
        let hello = build::client_hello([7; 32], "example.org", false);
        put(&mut recording, false, &hello, 10);
        let hello = build::server_hello([9; 32], true);
        put(&mut recording, true, &hello, 20);
        put(&mut recording, true, data, 30);
        put_of(&mut recording, 40000, true, 0x11, b"", 40);
        put_of(&mut recording, 40000, false, 0x11, b"", 50);
        for label in TLS13 {
            recording.secret(&secret(label)).unwrap();
        }
        let (ended, _, counts) = recording.finish(Timestamp(90));
        ended.unwrap();
        assert_eq!((counts.written, counts.hold.outlived), (5, outlived));
    }
}

/// Packets of the last file's time that still wait belong into it.
#[test]
fn after_the_last_file_nothing_new_is_taken() {
    let files = Files {
        at_most: Some(1),
        ..Files::default()
    };
    let mut recording = recording_into(Some(2), None, 64, files);
    let hello = build::client_hello([7; 32], "example.org", false);
    put(&mut recording, false, &hello, 10);
    put(
        &mut recording,
        true,
        &build::server_hello([9; 32], true),
        20,
    );
    put_of(&mut recording, 40001, false, 0x10, b"no TLS", 30);
    assert!(!recording.is_complete());
    put_of(&mut recording, 40001, false, 0x10, b"too late", 35);
    assert!(recording.is_complete());
    put_of(&mut recording, 40001, false, 0x10, b"too late", 40);
    let (ended, output, counts) = recording.finish(Timestamp(90));
    ended.unwrap();
    assert_eq!(shape(&output.blocks[0]), (3, false));
    assert_eq!(counts.written, 3);
}

#[test]
fn comments_name_both_ends() {
    let mut recording = recording(None, None);
    let (client, server) = ("10.0.0.1:40000", "10.0.0.2:443");
    for (local, remote, pid) in [(client, server, 11), (server, client, 22)] {
        let ownership = Ownership {
            protocol: Protocol::Tcp,
            local: local.parse().unwrap(),
            remote: Some(remote.parse().unwrap()),
            owner: Owner {
                pid,
                comm: Comm::new(b"peer"),
            },
        };
        recording.owner(&ownership).unwrap();
    }
    put(&mut recording, false, b"x", 10);
    let (_, output, _) = recording.finish(Timestamp(40));
    let packet = String::from_utf8_lossy(&output.blocks[0][2].1).into_owned();
    assert!(packet.contains("from pid 11 (peer), to pid 22 (peer)"));
}

#[test]
fn a_count_is_kept_to_and_what_is_dropped_is_counted() {
    let mut counted = recording(None, Some(2));
    for at in 0..5 {
        put(&mut counted, false, b"x", at);
    }
    assert!(counted.is_complete());
    assert_eq!(counted.counts().written, 2);

    let mut slow = recording(None, None);
    slow.output.full = true;
    handshake(&mut slow);
    let (_, output, counts) = slow.finish(Timestamp(40));
    assert_eq!((counts.written, counts.dropped), (0, 2));
    assert_eq!(
        kinds(&output.blocks[0]),
        [SECTION, INTERFACE, NAME, SECRETS, STATISTICS]
    );
}
