use super::*;
use crate::packet::build::{self, Tcp, ethernet};
use crate::packet::{LinkType, dissect};

pub(super) const CLIENT: &str = "10.0.0.1:40000";
pub(super) const SERVER: &str = "10.0.0.2:443";
pub(super) const RANDOM: ClientRandom = [7; 32];
pub(super) const TLS13: [&str; 4] = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
];

/// Into whichever file.
pub(super) const WRITE: Verdict = Verdict::Write(None);

pub(super) fn anywhere(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Write(_) => WRITE,
        other => other,
    }
}

/// A connection, fed to a hold; segments follow each other without a hole.
struct Talk {
    hold: Hold,
    next: [u32; 2],
    now: Moment,
    owned: bool,
    hellos: Vec<ClientHello>,
    packets: u64,
}

impl Talk {
    fn new(options: HoldOptions) -> Self {
        Self {
            hold: Hold::new(options),
            // The client's numbers wrap soon.
            next: [u32::MAX - 10, 5000],
            now: Moment::default(),
            owned: true,
            hellos: Vec::new(),
            packets: 0,
        }
    }

    fn send(&mut self, side: usize, payload: &[u8]) -> Verdict {
        let verdict = self.put(side, self.next[side], 0x10, payload);
        self.next[side] = self.next[side].wrapping_add(payload.len() as u32);
        verdict
    }

    fn put(&mut self, side: usize, sequence: u32, flags: u8, payload: &[u8]) -> Verdict {
        let ends = [CLIENT, SERVER].map(|end| end.parse().unwrap());
        let frame = ethernet(&Tcp {
            from: ends[side],
            to: ends[1 - side],
            sequence,
            acknowledged: self.next[1 - side],
            flags,
            payload,
        });
        self.packets += 1;
        let owned = self.owned;
        let verdict = self.hold.packet(
            Frame {
                interface: 0,
                time: Timestamp(self.packets),
                original_length: frame.len() as u32,
                bytes: &frame,
            },
            dissect(LinkType::ETHERNET, &frame).as_ref(),
            self.now,
            || owned,
            |hello| self.hellos.push(hello.clone()),
        );
        anywhere(verdict)
    }

    fn secrets(&mut self, labels: &[&str]) -> Vec<u64> {
        let each = labels.iter();
        each.flat_map(|label| times(&self.hold.secret(&RANDOM, label)))
            .collect()
    }

    fn after(&mut self, milliseconds: u64) -> Vec<u64> {
        self.now = Moment(self.now.0 + Duration::from_millis(milliseconds));
        times(&self.hold.expire(self.now))
    }
}

fn times(frames: &[HeldFrame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.time.0).collect()
}

fn talk() -> Talk {
    Talk::new(HoldOptions::default())
}

fn client_hello(early: bool) -> Vec<u8> {
    build::client_hello(RANDOM, "example.org", early)
}

#[test]
fn tls_1_3_waits_from_the_server_hello_for_all_four_secrets() {
    let mut talk = talk();
    assert_eq!(talk.send(0, &client_hello(false)), WRITE);
    assert_eq!(talk.hellos.len(), 1);
    let hello = build::server_hello([9; 32], true);
    assert_eq!(talk.send(1, &hello), Verdict::Held);
    assert_eq!(talk.send(0, &build::record(20, &[1])), Verdict::Held);
    assert!(talk.secrets(&TLS13[..3]).is_empty());
    assert_eq!(talk.secrets(&TLS13[3..]), [2, 3]);
    assert_eq!(talk.send(1, &build::record(23, &[0; 99])), WRITE);
    assert_eq!(talk.hold.counts().served, 2);
    assert_eq!(talk.hold.bytes, 0);
}

#[test]
fn tls_1_2_waits_from_change_cipher_spec() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    let hello = build::server_hello([9; 32], false);
    assert_eq!(talk.send(1, &hello), WRITE);
    assert_eq!(talk.send(0, &build::handshake(16, &[0; 70])), WRITE);
    assert_eq!(talk.send(0, &build::record(20, &[1])), Verdict::Held);
    assert_eq!(talk.secrets(&["CLIENT_RANDOM"]), [4]);
    assert_eq!(talk.send(1, &build::record(20, &[1])), WRITE);
}

/// Encrypted handshake records on a connection that had its handshake.
#[test]
fn a_renegotiation_waits_a_little_for_whatever_secret_comes() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    talk.secrets(&["CLIENT_RANDOM"]);
    talk.send(1, &build::server_hello([9; 32], false));
    let encrypted = |kind| build::record(kind, &[0xee; 60]);
    // The end of the first handshake, and data.
    for (side, record) in [(0, 20), (1, 22), (1, 20), (0, 23), (1, 23), (1, 22)] {
        assert_eq!(talk.send(side, &encrypted(record)), WRITE);
    }
    assert_eq!(talk.send(0, &encrypted(22)), Verdict::Held);
    assert!(talk.after(100).is_empty());
    // Each part of it waits for as long, and what comes between with it.
    for (side, record) in [(1, 22), (0, 22), (0, 20), (0, 23), (1, 20)] {
        assert_eq!(talk.send(side, &encrypted(record)), Verdict::Held);
    }
    assert!(talk.after(100).is_empty());
    assert_eq!(talk.after(40).len(), 6);
    assert_eq!(talk.hold.counts().without_secrets, 0);
    assert_eq!(talk.send(1, &encrypted(23)), WRITE);
    assert_eq!(talk.send(1, &encrypted(20)), WRITE);
}

/// It begins while the first handshake still waits, with its server's or its
/// client's `ChangeCipherSpec` first.
#[test]
fn an_early_renegotiation_waits_for_a_secret_of_its_own() {
    let encrypted = |kind| build::record(kind, &[0xee; 60]);
    for resumed in [false, true] {
        let mut talk = talk();
        talk.send(0, &client_hello(false));
        talk.send(1, &build::server_hello([9; 32], false));
        let key_exchange = [build::handshake(16, &[0; 70]), encrypted(20), encrypted(22)];
        let full = [(0, key_exchange.concat()), (1, encrypted(20))];
        let short = [
            (1, encrypted(20)),
            (0, [encrypted(20), encrypted(22)].concat()),
        ];
        for (side, records) in if resumed { short } else { full } {
            assert_eq!(talk.send(side, &records), Verdict::Held);
        }
        for (side, record) in [(1, 22), (0, 23), (1, 23)] {
            assert_eq!(talk.send(side, &encrypted(record)), Verdict::Held);
        }
        talk.after(100);
        for (side, record) in [(0, 22), (1, 22), (0, 23), (0, 20)] {
            assert_eq!(talk.send(side, &encrypted(record)), Verdict::Held);
        }
        assert_eq!(talk.secrets(&["CLIENT_RANDOM"]), [3, 4, 5, 6, 7]);
        assert_eq!(talk.send(1, &encrypted(20)), Verdict::Held);
        assert!(talk.after(139).is_empty());
        assert_eq!(talk.after(1), [8, 9, 10, 11, 12]);
        assert_eq!(talk.hold.counts().without_secrets, 0);
        assert_eq!(talk.hold.bytes, 0);
        assert_eq!(talk.send(1, &encrypted(23)), WRITE);
    }
}

/// Records of this kind without end delay a connection by no more than the cap.
#[test]
fn a_renegotiation_without_end_is_not_waited_out() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    talk.secrets(&["CLIENT_RANDOM"]);
    talk.send(1, &build::server_hello([9; 32], false));
    talk.send(0, &build::record(20, &[1]));
    let mut released = 0;
    for _ in 0..11 {
        talk.send(0, &build::record(22, &[0xee; 60]));
        released += talk.after(100).len();
    }
    assert_eq!(released, 10);
    assert_eq!(talk.hold.order.len(), 1);
}

#[test]
fn tls_1_3_has_no_renegotiation() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    talk.secrets(&TLS13);
    talk.send(1, &build::server_hello([9; 32], true));
    assert_eq!(talk.send(0, &build::record(20, &[1])), WRITE);
    assert_eq!(talk.send(0, &build::record(22, &[1; 9])), WRITE);
}

#[test]
fn secrets_that_are_known_are_not_waited_for() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    talk.secrets(&TLS13);
    let hello = build::server_hello([9; 32], true);
    assert_eq!(talk.send(1, &hello), WRITE);
    assert_eq!(talk.hold.counts(), HoldCounts::default());
}

#[test]
fn early_data_waits_with_the_client_hello() {
    for arrives in ["CLIENT_EARLY_TRAFFIC_SECRET", TLS13[0]] {
        let mut talk = talk();
        assert_eq!(talk.send(0, &client_hello(true)), Verdict::Held);
        assert_eq!(talk.send(0, &build::record(23, &[0; 50])), Verdict::Held);
        assert_eq!(talk.secrets(&[arrives]), [1, 2]);
        // The handshake's own secrets are still to come.
        let hello = build::server_hello([9; 32], true);
        assert_eq!(talk.send(1, &hello), Verdict::Held);
        assert_eq!(talk.secrets(&TLS13), [3]);
    }
}

#[test]
fn a_retry_request_decides_nothing() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    let retry = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8,
        0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8,
        0x33, 0x9c,
    ];
    assert_eq!(talk.send(1, &build::server_hello(retry, true)), WRITE);
    assert_eq!(talk.send(0, &client_hello(false)), WRITE);
    let hello = build::server_hello([9; 32], true);
    assert_eq!(talk.send(1, &hello), Verdict::Held);
}

#[test]
fn segments_out_of_order_and_twice_are_put_right() {
    let mut talk = talk();
    let hello = client_hello(false);
    let (first, second) = hello.split_at(30);
    let start = talk.next[0];
    assert_eq!(talk.put(0, start, 0x10, first), WRITE);
    assert_eq!(talk.put(0, start, 0x10, first), WRITE);
    assert!(talk.hellos.is_empty());
    let middle = start.wrapping_add(30);
    let (second, third) = second.split_at(10);
    let end = middle.wrapping_add(10);
    talk.put(0, end, 0x10, third);
    assert!(talk.hellos.is_empty());
    talk.put(0, middle, 0x10, second);
    assert_eq!(talk.hellos.len(), 1);
    let server = build::server_hello([9; 32], true);
    let at = talk.next[1];
    let (first, second) = server.split_at(20);
    assert_eq!(talk.put(1, at.wrapping_add(20), 0x10, second), WRITE);
    assert_eq!(talk.put(1, at, 0x10, first), Verdict::Held);
}

#[test]
fn the_cap_lets_go_once_and_for_all() {
    let mut talk = talk();
    talk.send(0, &client_hello(false));
    talk.send(1, &build::server_hello([9; 32], true));
    talk.send(1, &build::record(23, &[0; 10]));
    assert!(talk.after(999).is_empty());
    assert_eq!(talk.after(1), [2, 3]);
    assert_eq!(talk.hold.counts().without_secrets, 2);
    assert_eq!(talk.send(1, &build::record(23, &[0; 10])), WRITE);
}

/// A machine that is busy may bring packets before secrets that are older.
#[test]
fn what_may_be_under_way_is_waited_for() {
    let begin = || {
        let mut talk = talk();
        talk.hold.heard(Moment::default());
        talk.send(0, &client_hello(false));
        talk.send(1, &build::server_hello([9; 32], true));
        assert!(talk.after(2000).is_empty());
        talk
    };
    let mut served = begin();
    assert_eq!(served.secrets(&TLS13), [2]);
    assert_eq!(served.hold.counts().served, 1);
    let mut in_vain = begin();
    in_vain.hold.heard(Moment(Duration::from_millis(999)));
    assert!(in_vain.after(0).is_empty());
    in_vain.hold.heard(Moment(Duration::from_secs(1)));
    assert_eq!(in_vain.after(0), [2]);
    assert_eq!(in_vain.hold.counts().without_secrets, 1);
    let mut never_heard = begin();
    assert!(never_heard.after(3999).is_empty());
    assert_eq!(never_heard.after(1), [2]);
}

#[test]
fn too_much_memory_lets_go_the_oldest() {
    let mut talk = Talk::new(HoldOptions {
        memory: 1000,
        ..HoldOptions::default()
    });
    talk.send(0, &client_hello(false));
    talk.send(1, &build::server_hello([9; 32], true));
    assert!(talk.after(0).is_empty());
    talk.send(1, &build::record(23, &[0; 2000]));
    assert_eq!(talk.after(0), [2, 3]);
    assert_eq!(talk.hold.counts().for_memory, 2);
}

#[test]
fn other_traffic_passes() {
    let mut talk = talk();
    assert_eq!(talk.send(0, b"GET / HTTP/1.1\r\n\r\n"), WRITE);
    assert_eq!(talk.send(1, &build::server_hello([9; 32], true)), WRITE);
    assert_eq!(talk.send(1, &build::record(23, &[0; 10])), WRITE);
}

#[test]
fn the_ports_of_a_connection_that_ended_serve_another() {
    let mut talk = talk();
    for round in 0..2 {
        talk.put(0, talk.next[0], 0x02, &[]);
        talk.next[0] = talk.next[0].wrapping_add(1);
        assert_eq!(talk.send(0, &client_hello(false)), WRITE);
        assert_eq!(talk.hellos.len(), round + 1);
        talk.secrets(&TLS13);
        let hello = build::server_hello([9; 32], true);
        assert_eq!(talk.send(1, &hello), WRITE);
        for side in 0..2 {
            talk.put(side, talk.next[side], 0x11, &[]);
        }
    }
}

#[test]
fn flows_wait_for_their_owner_and_go_when_none_comes() {
    let options = HoldOptions {
        owned_only: true,
        ..HoldOptions::default()
    };
    let mut owned = Talk::new(options);
    owned.owned = false;
    assert_eq!(owned.send(0, &client_hello(false)), Verdict::Held);
    assert_eq!(
        owned.send(1, &build::server_hello([9; 32], true)),
        Verdict::Held
    );
    // Its owner alone is not enough: the secrets are to come.
    let all = owned.hold.owner(None, |_| true);
    assert!(all.is_empty());
    assert_eq!(owned.secrets(&TLS13), [1, 2]);

    let mut foreign = Talk::new(options);
    foreign.owned = false;
    assert_eq!(foreign.send(0, b"hello"), Verdict::Held);
    assert!(foreign.after(1000).is_empty());
    assert_eq!(foreign.send(0, b"again"), Verdict::Unwanted);
    assert_eq!(foreign.hold.counts().unwanted, 2);
    // A wanted process may come to use it later.
    foreign.owned = true;
    assert_eq!(foreign.send(0, b"once more"), WRITE);
}

/// Whatever comes in whatever order: nothing is lost but what is counted.
#[test]
fn every_packet_is_written_once_or_counted() {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..200 {
        let mut talk = Talk::new(HoldOptions {
            owned_only: random(2) == 0,
            memory: 5000,
            ..HoldOptions::default()
        });
        let (mut written, mut given) = (0, 0);
        for _ in 0..60 {
            talk.owned = random(3) > 0;
            let payload = match random(6) {
                0 => client_hello(random(2) == 0),
                1 => build::server_hello([9; 32], random(2) == 0),
                2 => build::record(20, &[1]),
                3 => build::record(23, &vec![0; random(900) as usize]),
                _ => vec![random(256) as u8; random(50) as usize],
            };
            let side = random(2) as usize;
            let jump = random(40) as u32 * u32::from(random(4) == 0);
            let at = talk.next[side].wrapping_add(jump);
            given += 1;
            written += u64::from(talk.put(side, at, random(32) as u8, &payload) == WRITE);
            talk.next[side] = at.wrapping_add(payload.len() as u32);
            written += talk.secrets(&TLS13[..random(2) as usize]).len() as u64;
            written += talk.after(random(100)).len() as u64;
        }
        written += talk.hold.drain().len() as u64;
        assert_eq!(written + talk.hold.counts().unwanted, given);
        assert_eq!(talk.hold.bytes, 0);
    }
}
