use std::time::Duration;

use super::*;
use crate::event::{Comm, Process, Secret, SecretLabel, Socket};
use crate::owners::Owner;
use crate::packet::Protocol;
use crate::packet::build::{self, Tcp, ethernet};

/// Files in memory; a next one begins after so many packets.
#[derive(Debug, Default)]
struct Files {
    done: Vec<Vec<(u32, Vec<u8>)>>,
    blocks: Vec<(u32, Vec<u8>)>,
    packets_each: Option<usize>,
    full: bool,
}

impl BlockOutput for Files {
    fn is_full(&self, _now: Timestamp) -> bool {
        let packets = self.blocks.iter().filter(|block| block.0 == PACKET);
        self.packets_each
            .is_some_and(|each| packets.count() >= each)
    }

    fn next_file(&mut self, _now: Timestamp) -> io::Result<()> {
        self.done.push(std::mem::take(&mut self.blocks));
        Ok(())
    }

    fn write(&mut self, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool> {
        if self.full && kind == BlockKind::Packet {
            return Ok(false);
        }
        let block = block.concat();
        let kind = u32::from_ne_bytes(block[..4].try_into().unwrap());
        self.blocks.push((kind, block));
        Ok(true)
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
    let output = Files {
        packets_each,
        ..Files::default()
    };
    let options = RecordingOptions {
        hold: HoldOptions::default(),
        count,
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
    let mut ends = ["10.0.0.1:40000", "10.0.0.2:443"].map(|end| end.parse().unwrap());
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
        flags: 0x10,
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
        kinds(&output.blocks),
        [
            SECTION, INTERFACE, NAME, PACKET, SECRETS, PACKET, STATISTICS
        ]
    );
    assert_eq!((counts.written, counts.secrets), (2, 4));
    assert_eq!(counts.duplicate_secrets, 4);
    let lines = String::from_utf8_lossy(&output.blocks[4].1).into_owned();
    assert!(TLS13.iter().all(|label| lines.matches(label).count() == 1));
}

#[test]
fn a_next_file_has_all_that_its_readers_need() {
    let mut recording = recording(Some(2), None);
    handshake(&mut recording);
    put(&mut recording, true, b"more", 30);
    let (ended, output, _) = recording.finish(Timestamp(40));
    ended.unwrap();
    assert_eq!(kinds(&output.done[0]).last(), Some(&STATISTICS));
    assert_eq!(
        kinds(&output.blocks),
        [SECTION, INTERFACE, SECRETS, PACKET, STATISTICS]
    );
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
    let packet = String::from_utf8_lossy(&output.blocks[2].1).into_owned();
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
        kinds(&output.blocks),
        [SECTION, INTERFACE, NAME, SECRETS, STATISTICS]
    );
}
