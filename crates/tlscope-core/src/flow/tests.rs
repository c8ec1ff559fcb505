use super::*;
use crate::event::{Address, Comm};

fn key(object: u64) -> ConnectionKey {
    ConnectionKey {
        pid: 1,
        object,
        generation: 0,
    }
}

fn arrive(table: &mut FlowTable<()>, object: u64, time: u64) -> bool {
    let process = Process {
        pid: 1,
        tid: 1,
        uid: 0,
        comm: Comm::default(),
    };
    let (time, socket) = (Timestamp(time), Socket::default());
    table
        .get_or_create(Arrival {
            time,
            key: key(object),
            process: &process,
            direction: None,
            socket,
        })
        .1
}

fn objects(flows: Vec<Flow<()>>) -> Vec<u64> {
    flows.into_iter().map(|flow| flow.info.key.object).collect()
}

#[test]
fn pieces_in_order_leave_no_gap() {
    let mut stream = Stream::default();
    for offset in [0, 10, 20] {
        assert_eq!(
            stream.place(offset, 10),
            Placement {
                gap: None,
                repeated: 0
            }
        );
    }
    assert_eq!(
        stream.bytes,
        Bytes {
            captured: 30,
            lost: 0
        }
    );
    assert_eq!(stream.finish(), None);
}

#[test]
fn a_jump_ahead_is_a_gap() {
    let mut stream = Stream::default();
    let gap = Some(Lost {
        offset: 0,
        length: 5,
    });
    assert_eq!(stream.place(5, 10), Placement { gap, repeated: 0 });
    assert_eq!(
        stream.bytes,
        Bytes {
            captured: 10,
            lost: 5
        }
    );
}

#[test]
fn repeated_bytes_are_counted_once() {
    let mut stream = Stream::default();
    stream.place(0, 10);
    assert_eq!(
        stream.place(0, 10),
        Placement {
            gap: None,
            repeated: 10
        }
    );
    assert_eq!(
        stream.place(2, 3),
        Placement {
            gap: None,
            repeated: 3
        }
    );
    assert_eq!(
        stream.place(6, 10),
        Placement {
            gap: None,
            repeated: 4
        }
    );
    assert_eq!(
        stream.bytes,
        Bytes {
            captured: 16,
            lost: 0
        }
    );
}

#[test]
fn the_tail_that_never_came_is_lost() {
    let mut stream = Stream::default();
    stream.place(0, 10);
    stream.expect(64);
    stream.expect(20);
    assert_eq!(
        stream.finish(),
        Some(Lost {
            offset: 10,
            length: 54
        })
    );
    assert_eq!(stream.finish(), None);
    assert_eq!(
        stream.bytes,
        Bytes {
            captured: 10,
            lost: 54
        }
    );
}

#[test]
fn hostile_offsets_saturate() {
    let mut stream = Stream::default();
    stream.place(u64::MAX - 1, 10);
    let placement = stream.place(u64::MAX, 10);
    assert_eq!(placement.repeated, 0);
    assert_eq!(stream.next, u64::MAX);
}

#[test]
fn a_closed_connection_is_found_until_its_grace_is_over() {
    let mut table = FlowTable::<()>::new(8, Duration::from_nanos(100));
    assert!(arrive(&mut table, 1, 0));
    table.close(key(1), Timestamp(10), CloseReason::Closed);
    table.close(key(1), Timestamp(90), CloseReason::ProcessExited);
    assert!(objects(table.expired(Timestamp(109))).is_empty());
    assert!(!arrive(&mut table, 1, 109));
    let expired = table.expired(Timestamp(110));
    assert_eq!(
        expired[0].ended(CloseReason::Evicted),
        (Timestamp(10), CloseReason::Closed)
    );
    assert!(table.expired(Timestamp(1000)).is_empty());
    assert!(arrive(&mut table, 1, 200));
}

#[test]
fn the_one_idle_longest_is_evicted() {
    let mut table = FlowTable::<()>::new(3, Duration::ZERO);
    for (object, time) in [(1, 1), (2, 2), (3, 3), (1, 4)] {
        assert!(table.make_room(key(object)).is_empty());
        arrive(&mut table, object, time);
    }
    assert_eq!(objects(table.make_room(key(4))), [2]);
    assert_eq!(objects(table.make_room(key(4))), [0_u64; 0]);
}

#[test]
fn an_evicted_connection_resumes_where_it_was() {
    let mut table = FlowTable::<()>::new(1, Duration::ZERO);
    arrive(&mut table, 1, 1);
    table.get_mut(key(1)).unwrap().streams[1].place(0, 100);
    table.make_room(key(2));
    assert!(table.unseen(key(1), [0, 101]));
    assert!(!table.unseen(key(1), [0, 100]));
    arrive(&mut table, 2, 2);
    table.make_room(key(1));
    arrive(&mut table, 1, 3);
    assert_eq!(
        table.get_mut(key(1)).unwrap().streams[1].place(100, 1).gap,
        None
    );
}

/// What a table holds stays bounded, however many connections come and go.
#[test]
fn a_million_connections_leave_a_table_as_it_was() {
    const LIMIT: usize = 1000;
    let mut table: FlowTable<()> = FlowTable::new(LIMIT, Duration::from_secs(1));
    let mut ended = 0;
    for number in 0..1_000_000_u64 {
        let time = Timestamp(number * 10_000_000);
        ended += table.make_room(key(number)).len();
        assert!(arrive(&mut table, number, time.0));
        table.close(key(number), time, CloseReason::Closed);
        ended += table.expired(time).len();
        assert!(table.flows.len() <= LIMIT && table.scheduled.len() <= LIMIT);
        assert!(table.past.offsets.len() <= MIN_PAST && table.past.order.len() <= MIN_PAST);
    }
    assert_eq!(ended + table.drain().len(), 1_000_000);
}

#[test]
fn open_connections_are_evicted_down_to_the_limit() {
    const LIMIT: usize = 5000;
    let mut table: FlowTable<()> = FlowTable::new(LIMIT, Duration::from_secs(1));
    let mut evicted = 0;
    for number in 0..50_000 {
        evicted += table.make_room(key(number)).len();
        assert!(arrive(&mut table, number, number));
        assert!(table.flows.len() <= LIMIT);
    }
    assert_eq!(evicted + table.drain().len(), 50_000);
    assert!(table.past.offsets.len() <= LIMIT && table.past.order.len() <= LIMIT);
}

#[test]
fn an_object_used_again_within_a_millisecond_is_another_connection() {
    let mut table: FlowTable<()> = FlowTable::new(8, Duration::from_secs(1));
    let process = Process {
        pid: 1,
        tid: 1,
        uid: 0,
        comm: Comm::default(),
    };
    let mut ids = Vec::new();
    for generation in [5, 6] {
        let key = ConnectionKey {
            generation,
            ..key(7)
        };
        let arrival = Arrival {
            time: Timestamp(generation),
            key,
            process: &process,
            direction: None,
            socket: Socket::default(),
        };
        let (flow, created) = table.get_or_create(arrival);
        assert!(created);
        ids.push(flow.info.id);
        table.close(key, Timestamp(generation), CloseReason::Closed);
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(table.expired(Timestamp(2_000_000_000)).len(), 2);
}

#[test]
fn each_direction_keeps_the_socket_that_is_known_of_it() {
    let mut table: FlowTable<()> = FlowTable::new(8, Duration::from_secs(1));
    let process = Process {
        pid: 1,
        tid: 1,
        uid: 0,
        comm: Comm::default(),
    };
    let mut arrive = |direction, socket| {
        let arrival = Arrival {
            time: Timestamp(1),
            key: key(1),
            process: &process,
            direction,
            socket,
        };
        table.get_or_create(arrival).0.info.clone()
    };
    let on = |fd| Socket {
        fd: Some(fd),
        address: Address::Unix,
    };
    let of = |info: &ConnectionInfo| {
        [Direction::Received, Direction::Sent].map(|direction| info.carries(direction))
    };
    let info = arrive(Some(Direction::Received), on(3));
    assert_eq!(of(&info), [on(3), Socket::default()]);
    assert_eq!(info.socket(), on(3));
    let info = arrive(Some(Direction::Sent), on(4));
    assert_eq!(of(&info), [on(3), on(4)]);
    assert_eq!(info.socket(), on(4));
    for direction in [Some(Direction::Sent), None] {
        assert_eq!(of(&arrive(direction, Socket::default())), [on(3), on(4)]);
    }
}
