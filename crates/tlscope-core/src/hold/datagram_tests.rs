//! Flows of DTLS and QUIC.

use super::tests::{CLIENT, RANDOM, SERVER, TLS13, WRITE, anywhere};
use super::*;
use crate::packet::{LinkType, build, dissect};
use crate::quic::{Version, build as quic};

const ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
struct Talk {
    hold: Hold,
    hellos: usize,
    packets: u64,
}

impl Talk {
    fn new() -> Self {
        Self {
            hold: Hold::new(HoldOptions::default()),
            hellos: 0,
            packets: 0,
        }
    }

    fn send(&mut self, side: usize, payload: &[u8]) -> Verdict {
        let ends = [CLIENT, SERVER].map(|end| end.parse().unwrap());
        let frame = build::udp(ends[side], ends[1 - side], payload);
        self.packets += 1;
        let verdict = self.hold.packet(
            Frame {
                interface: 0,
                time: Timestamp(self.packets),
                original_length: frame.len() as u32,
                bytes: &frame,
            },
            dissect(LinkType::ETHERNET, &frame).as_ref(),
            Moment::default(),
            || true,
            |_| self.hellos += 1,
        );
        anywhere(verdict)
    }

    fn secrets(&mut self, random: ClientRandom, labels: &[&str]) -> usize {
        let each = labels.iter();
        each.map(|label| self.hold.secret(&random, label).len())
            .sum()
    }

    fn after(&mut self, milliseconds: u64) -> usize {
        let now = Moment(Duration::from_millis(milliseconds));
        self.hold.expire(now).len()
    }
}

fn initial(number: u16, random: ClientRandom, early: bool) -> Vec<u8> {
    let hello = quic::client_hello(random, early);
    quic::initial(Version::One, &ID, &ID, number, &quic::crypto(0, &hello))
}

#[test]
fn quic_waits_from_the_servers_first_packet() {
    let mut talk = Talk::new();
    assert_eq!(talk.send(0, &initial(0, RANDOM, false)), WRITE);
    assert_eq!(talk.hellos, 1);
    assert_eq!(talk.send(1, &quic::answer()), Verdict::Held);
    assert_eq!(talk.send(0, &initial(1, RANDOM, false)), Verdict::Held);
    assert_eq!(talk.secrets(RANDOM, &TLS13[..3]), 0);
    assert_eq!(talk.secrets(RANDOM, &TLS13[3..]), 2);
    assert_eq!(talk.send(1, &[0x41; 40]), WRITE);
    assert_eq!(talk.hellos, 1);
}

#[test]
fn a_hello_in_several_packets_and_frames_is_put_together() {
    let hello = quic::client_hello(RANDOM, false);
    let (first, second) = hello.split_at(20);
    let (second, third) = second.split_at(20);
    let frames = [quic::crypto(40, third), quic::crypto(0, first)].concat();
    let packet = |number, frames: &[u8]| quic::initial(Version::Two, &ID, &ID, number, frames);
    let mut talk = Talk::new();
    talk.send(0, &packet(0, &frames));
    assert_eq!(talk.hellos, 0);
    talk.send(0, &packet(1, &quic::crypto(20, second)));
    assert_eq!(talk.hellos, 1);
    talk.secrets(RANDOM, &TLS13);
    assert_eq!(talk.send(1, &quic::answer()), WRITE);
}

#[test]
fn after_a_retry_keys_are_made_of_the_new_id() {
    let mut talk = Talk::new();
    talk.send(0, &initial(0, RANDOM, false));
    assert_eq!(talk.send(1, &quic::retry(b"other")), WRITE);
    let hello = quic::crypto(0, &quic::client_hello(RANDOM, false));
    let again = quic::initial(Version::One, b"other", b"other", 1, &hello);
    assert_eq!(talk.send(0, &again), WRITE);
    assert_eq!(talk.send(1, &quic::answer()), Verdict::Held);
    assert_eq!(talk.secrets(RANDOM, &TLS13), 1);
}

#[test]
fn the_rest_of_a_late_hello_finds_its_secrets() {
    let hello = quic::client_hello(RANDOM, false);
    let (first, second) = hello.split_at(20);
    let mut talk = Talk::new();
    let packet = |number, frames: &[u8]| quic::initial(Version::One, &ID, &ID, number, frames);
    talk.send(0, &packet(0, &quic::crypto(0, first)));
    // The server acknowledges, and a secret of the connection comes early.
    assert_eq!(talk.send(1, &quic::answer()), Verdict::Held);
    assert_eq!(talk.secrets(RANDOM, &TLS13), 0);
    let rest = packet(1, &quic::crypto(20, second));
    assert_eq!(talk.send(0, &rest), Verdict::Held);
    assert_eq!(talk.after(0), 2);
}

#[test]
fn early_data_of_quic_waits_once() {
    let mut talk = Talk::new();
    assert_eq!(talk.send(0, &initial(0, RANDOM, true)), Verdict::Held);
    assert_eq!(talk.after(1000), 1);
    // Sent again, as the server is silent.
    assert_eq!(talk.send(0, &initial(1, RANDOM, true)), WRITE);
}

#[test]
fn the_port_serves_the_next_connection() {
    let mut talk = Talk::new();
    for (round, random) in [[1; 32], [2; 32]].into_iter().enumerate() {
        assert_eq!(talk.send(0, &initial(0, random, false)), WRITE);
        assert_eq!(talk.hellos, round + 1);
        assert_eq!(talk.send(1, &quic::answer()), Verdict::Held);
        assert_eq!(talk.secrets(random, &TLS13), 1);
        assert_eq!(talk.send(0, &[0x41; 40]), WRITE);
    }
}

/// A hello of DTLS 1.2 as OpenSSL 3.0 sends it, in one or two fragments.
fn dtls_hello(random: ClientRandom, cookie: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let body = [
        &[0xfe, 0xfd][..],
        &random,
        &[0, cookie.len() as u8],
        cookie,
        &[0, 2, 0xc0, 0x2b, 1, 0],
    ]
    .concat();
    let part = |offset: usize, bytes: &[u8]| {
        let u24 = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
        let head = [&[1], &u24(body.len())[..], &[0, 0], &u24(offset)].concat();
        let message = [&head[..], &u24(bytes.len()), bytes].concat();
        dtls_record(22, &message)
    };
    let (first, second) = body.split_at(cut);
    vec![part(0, first), part(cut, second)]
}

fn dtls_record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let head = [kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1];
    [&head[..], &length, body].concat()
}

#[test]
fn dtls_waits_from_change_cipher_spec() {
    let mut talk = Talk::new();
    for (cookie, cut) in [(&b""[..], 10), (b"cookie", 20)] {
        for fragment in dtls_hello(RANDOM, cookie, cut) {
            assert_eq!(talk.send(0, &fragment), WRITE);
        }
        assert_eq!(talk.hellos, 1);
        // HelloVerifyRequest, or the server's flight.
        assert_eq!(talk.send(1, &dtls_record(22, &[3; 30])), WRITE);
    }
    let flight = [dtls_record(22, &[16; 40]), dtls_record(20, &[1])].concat();
    assert_eq!(talk.send(0, &flight), Verdict::Held);
    assert_eq!(talk.secrets(RANDOM, &["CLIENT_RANDOM"]), 1);
    assert_eq!(talk.send(1, &dtls_record(20, &[1])), WRITE);
}

#[test]
fn other_datagrams_pass() {
    let mut talk = Talk::new();
    for payload in [&b"\x12\x34\x01\x00 a question to DNS"[..], &quic::answer()] {
        assert_eq!(talk.send(1, payload), WRITE);
        assert_eq!(talk.send(0, payload), WRITE);
    }
    assert_eq!(talk.after(5000), 0);
}
