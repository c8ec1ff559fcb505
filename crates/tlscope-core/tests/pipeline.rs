//! The pipeline as the program uses it: events in, bytes of output compared whole.

mod pipeline {
    pub(crate) mod recording;
}

use pipeline::recording::{Recorder, SharedWriter};
use tlscope_core::event::Direction::{Received, Sent};
use tlscope_core::event::{EndedProcess, Timestamp};
use tlscope_core::filter::Filter;
use tlscope_core::pipeline::PipelineOptions;
use tlscope_core::sink::{HarSink, JsonOptions, Payload, TextOptions};
use tlscope_core::summary::{Bytes, CaptureCounters};

const GET: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

#[test]
fn an_exchange_in_text() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.call(Sent, GET).call(Received, RESPONSE);
    recorder.check(
        "UUID:42_43_curl_5_1_192.0.2.1:443, Name:HTTPRequest, Type:1, Length:47\n\
         GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n\n\
         UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:44\n\
         HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n\n",
    );
}

#[test]
fn a_message_is_one_block_however_many_calls_brought_it() {
    let mut recorder = Recorder::text(TextOptions::default());
    for piece in RESPONSE.chunks(7) {
        recorder.call(Received, piece);
    }
    recorder.check(
        "UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:44\n\
         HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n\n",
    );
}

#[test]
fn plain_calls_are_a_block_each_and_shown_at_once() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.call(Sent, b"PING\r\n").call(Sent, b"PING\r\n");
    recorder.check(
        &"UUID:42_43_curl_5_1_192.0.2.1:443, Name:Plain, Type:0, Length:6\nPING\r\n\n".repeat(2),
    );
}

#[test]
fn a_tick_shows_what_came_of_a_message() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.call(Received, b"HTTP/1.1 200 OK\r\n\r\nfirst \xe2\x82");
    recorder.tick(1).check_written(
        "UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:25\n\
         HTTP/1.1 200 OK\r\n\r\nfirst \n\n",
    );
    recorder
        .call(Received, b"\xac second\n")
        .tick(2)
        .check_written(
            "UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:11\n\
         \u{20ac} second\n\n",
        );
}

#[test]
fn half_a_character_is_held_back_for_one_tick_only() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder
        .call(Received, b"HTTP/1.1 200 OK\r\n\r\n")
        .tick(1)
        .call(Received, b"abcdefgh\xe2");
    recorder.tick(2).tick(3).check(
        "UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:19\n\
         HTTP/1.1 200 OK\r\n\r\n\n\
         UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:8\n\
         abcdefgh\n\n\
         UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:1\n\
         00000008  e2                                                |.|\n\n"
            .replace("00000008", "0000001b")
            .as_str(),
    );
}

#[test]
fn a_long_call_is_cut_at_the_bound_not_at_each_chunk() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.chunked_call(Sent, &vec![b'x'; 600 * 1024], 16 * 1024);
    let text = recorder.take();
    let lengths: Vec<_> = text
        .lines()
        .filter_map(|line| line.split("Length:").nth(1))
        .collect();
    assert_eq!(lengths, ["262144", "262144", "90112"]);
    assert_eq!(text.matches('x').count(), 600 * 1024);
}

#[test]
fn lost_bytes_are_marked_where_they_are_missing() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder
        .call(Sent, b"first\n")
        .lose(Sent, 16384)
        .call(Sent, b"second\n");
    recorder.check(
        "UUID:42_43_curl_5_1_192.0.2.1:443, Name:Plain, Type:0, Length:6\nfirst\n\n\
         -- 16384 bytes lost (sent, offset 6) -- UUID:42_43_curl_5_1_192.0.2.1:443\n\n\
         UUID:42_43_curl_5_1_192.0.2.1:443, Name:Plain, Type:0, Length:7\nsecond\n\n",
    );
    let summary = recorder.finish();
    assert_eq!(
        summary.of(Sent),
        Bytes {
            captured: 13,
            lost: 16384
        }
    );
    assert_eq!(summary.gaps, 1);
}

#[test]
fn captured_and_lost_come_to_what_was_sent() {
    let mut recorder = Recorder::json(JsonOptions::default());
    recorder
        .call(Sent, b"0123456789")
        .repeat(Sent, 4, b"456789abc")
        .lose(Received, 7);
    recorder
        .call(Received, b"x")
        .close([100, 200])
        .tick(5_000_000_000);
    let summary = recorder.finish();
    assert_eq!(
        summary.of(Sent),
        Bytes {
            captured: 13,
            lost: 187
        }
    );
    assert_eq!(
        summary.of(Received),
        Bytes {
            captured: 1,
            lost: 99
        }
    );
    assert_eq!((summary.duplicate_events, summary.duplicate_bytes), (1, 6));
    assert_eq!((summary.connections, summary.gaps), (1, 3));
}

#[test]
fn a_connection_lost_as_a_whole_is_told() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.close([0, 50]).tick(5_000_000_000);
    recorder.check("-- 50 bytes lost (sent, offset 0) -- UUID:42_43_curl_-1_1_unknown\n\n");
    assert_eq!(
        recorder.finish().of(Sent),
        Bytes {
            captured: 0,
            lost: 50
        }
    );
}

#[test]
fn bytes_under_way_when_the_process_ends_still_count() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.call(Sent, b"early");
    let ended = EndedProcess {
        pid: 42,
        successor: None,
    };
    recorder
        .pipeline()
        .forget_processes(&[ended], Timestamp(1))
        .unwrap();
    recorder.call(Sent, b" late").tick(5_000_000_000);
    assert_eq!(
        recorder.finish().of(Sent),
        Bytes {
            captured: 10,
            lost: 0
        }
    );
}

#[test]
fn the_address_stays_once_it_is_known() {
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.call(Sent, b"a").without_address().call(Sent, b"b");
    let text = recorder.take();
    assert_eq!(text.matches("_5_1_192.0.2.1:443, ").count(), 2, "{text}");
}

#[test]
fn json_lines_as_documented() {
    let mut recorder = Recorder::json(JsonOptions::default());
    recorder
        .call(Sent, GET)
        .call(Received, b"\xff\xfe\xfd")
        .close([3, 47])
        .tick(5_000_000_000);
    let writer = recorder.writer();
    recorder.finish();
    let expected = r#"{"v":1,"kind":"open","time":"1970-01-01T00:00:00.000000001Z","id":"ID","pid":42,"tid":43,"uid":1000,"comm":"curl","fd":5,"local":"10.0.0.1:5000","remote":"192.0.2.1:443"}
{"v":1,"kind":"data","time":"1970-01-01T00:00:00.000000001Z","id":"ID","pid":42,"tid":43,"uid":1000,"comm":"curl","fd":5,"local":"10.0.0.1:5000","remote":"192.0.2.1:443","direction":"sent","offset":0,"length":47,"name":"HTTPRequest","type":1,"begins":true,"ends":true,"http":{"version":"HTTP/1.1","method":"GET","target":"/index.html","host":"example.org"},"text":"GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n"}
{"v":1,"kind":"message","time":"1970-01-01T00:00:00.000000001Z","id":"ID","pid":42,"tid":43,"uid":1000,"comm":"curl","fd":5,"local":"10.0.0.1:5000","remote":"192.0.2.1:443","direction":"sent","name":"HTTPRequest","type":1,"exchange":1,"part":"head","http":{"version":"HTTP/1.1","method":"GET","target":"/index.html","host":"example.org","headers":[["Host","example.org"]]}}
{"v":1,"kind":"message","time":"1970-01-01T00:00:00.000000001Z","id":"ID","pid":42,"tid":43,"uid":1000,"comm":"curl","fd":5,"local":"10.0.0.1:5000","remote":"192.0.2.1:443","direction":"sent","name":"HTTPRequest","type":1,"exchange":1,"part":"end","complete":true,"transferred":0,"decoded":0,"duration_ns":0,"method":"GET","host":"example.org","target":"/index.html"}
{"v":1,"kind":"lifecycle","time":"1970-01-01T00:00:00.000000002Z","id":"ID","pid":42,"stage":"found"}
{"v":1,"kind":"data","time":"1970-01-01T00:00:00.000000002Z","id":"ID","pid":42,"tid":43,"uid":1000,"comm":"curl","fd":5,"local":"10.0.0.1:5000","remote":"192.0.2.1:443","direction":"received","offset":0,"length":3,"name":"Plain","type":0,"begins":true,"ends":true,"base64":"//79"}
{"v":1,"kind":"lifecycle","time":"1970-01-01T00:00:00.000000002Z","id":"ID","pid":42,"stage":"scheduled"}
{"v":1,"kind":"close","time":"1970-01-01T00:00:00.000000002Z","id":"ID","pid":42,"reason":"closed","received":{"captured":3,"lost":0},"sent":{"captured":47,"lost":0}}
{"v":1,"kind":"summary","connections":1,"received":{"captured":3,"lost":0},"sent":{"captured":47,"lost":0},"gaps":0,"duplicate_events":0,"duplicate_bytes":0,"evicted_connections":0,"secrets_written":0,"duplicate_secrets":0,"counters":{"lost_events":7}}
"#;
    let text = writer.take();
    let id = text.split("\"id\":\"").nth(1).unwrap()[..16].to_owned();
    assert_eq!(text.replace(&id, "ID"), expected);
}

#[test]
fn a_closed_pipe_and_a_full_disk_are_told_apart() {
    for (kind, closed, full) in [
        (std::io::ErrorKind::BrokenPipe, true, false),
        (std::io::ErrorKind::StorageFull, false, true),
    ] {
        let writer = SharedWriter::failing(kind);
        let mut recorder =
            Recorder::text_to(writer, TextOptions::default(), PipelineOptions::default());
        recorder.call(Sent, b"a");
        let error = recorder.pipeline().tick(Timestamp(1)).unwrap_err();
        assert_eq!(
            (error.sink, error.is_closed_pipe(), error.is_disk_full()),
            ("text", closed, full)
        );
    }
}

#[test]
fn hex_raw_and_truncated_text() {
    let mut hex = Recorder::text(TextOptions {
        payload: Payload::Hex,
        ..TextOptions::default()
    });
    hex.call(Sent, b"abc").call(Sent, b"d");
    assert_eq!(
        hex.payloads(),
        [
            "00000000  61 62 63                                          |abc|\n",
            "00000003  64                                                |d|\n",
        ]
    );
    let mut raw = Recorder::text(TextOptions {
        payload: Payload::Raw,
        ..TextOptions::default()
    });
    raw.call(Sent, b"\x1b[31mred");
    assert_eq!(raw.payloads(), ["\x1b[31mred\n"]);
    let mut short = Recorder::text(TextOptions {
        truncate: Some(6),
        ..TextOptions::default()
    });
    short.call(Sent, "abcde\u{e9}fgh".as_bytes());
    assert_eq!(short.payloads(), ["abcde\n-- 5 more bytes not shown --\n"]);
}

#[test]
fn many_connections_are_bounded_and_nothing_is_miscounted() {
    let options = PipelineOptions {
        max_connections: 16,
        ..PipelineOptions::default()
    };
    let mut recorder = Recorder::text_to(SharedWriter::default(), TextOptions::default(), options);
    for round in 0..3 {
        for object in 0..20 {
            recorder
                .object(object)
                .at(Sent, round * 5)
                .call(Sent, b"12345");
        }
    }
    let summary = recorder.finish_with(&CaptureCounters::default());
    assert_eq!(
        summary.of(Sent),
        Bytes {
            captured: 300,
            lost: 0
        }
    );
    assert!(summary.evicted_connections >= 4);
}

#[test]
fn coded_content_is_shown_decoded() {
    let gzip = [
        &b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x0c\0\xf3\xff"[..],
        b"hello gzip!\n",
    ]
    .concat();
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [
        format!("{:x}\r\n", gzip.len()).as_bytes(),
        &gzip,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let response = [head.as_bytes(), &chunk].concat();
    let mut recorder = Recorder::text(TextOptions::default());
    recorder.call(Sent, GET).take();
    recorder.call(Received, &response);
    recorder.check(&format!(
        "UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:{}\n\
         {head}hello gzip!\n\n",
        response.len(),
    ));
}

#[test]
fn exchanges_are_told_behind_the_response() {
    let mut recorder = Recorder::text(TextOptions {
        exchanges: true,
        ..TextOptions::default()
    });
    recorder.call(Sent, GET).take();
    for piece in RESPONSE.chunks(38) {
        recorder.call(Received, piece);
    }
    recorder.check(
        "UUID:42_43_curl_5_0_192.0.2.1:443, Name:HTTPResponse, Type:3, Length:44\n\
         HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n\n\
         -- GET example.org/index.html: 200, 6 bytes, first byte 1ns, total 2ns --\n\n",
    );
}

#[test]
fn a_filter_hides_messages_and_loses_no_count() {
    let filter = Filter {
        statuses: vec!["404".parse().unwrap()],
        ..Filter::default()
    };
    let options = PipelineOptions {
        filter,
        ..PipelineOptions::default()
    };
    let mut recorder = Recorder::text_to(SharedWriter::default(), TextOptions::default(), options);
    recorder.call(Sent, GET).take();
    recorder.call(Received, RESPONSE).check("");
    assert_eq!(
        recorder.finish().of(Received),
        Bytes {
            captured: 44,
            lost: 0
        }
    );
}

#[test]
fn exchanges_become_a_har_file() {
    let writer = SharedWriter::default();
    let sink = Box::new(HarSink::new(writer.clone()));
    let mut recorder = Recorder::new(writer.clone(), sink, PipelineOptions::default());
    let post = b"POST /form?a=1&b HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\n\r\nabc";
    recorder.call(Sent, GET).call(Received, RESPONSE);
    recorder
        .call(Sent, post)
        .call(Received, b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe")
        .close([66, 118]);
    recorder.finish();
    let har: serde_json::Value = serde_json::from_str(&writer.take()).unwrap();
    let log = &har["log"];
    assert_eq!(log["version"], "1.2");
    assert_eq!(log["entries"].as_array().unwrap().len(), 2);
    let [first, second] = [&log["entries"][0], &log["entries"][1]];
    assert_eq!(first["request"]["url"], "https://example.org/index.html");
    assert_eq!(first["response"]["content"]["text"], "hello\n");
    assert_eq!(first["startedDateTime"], "1970-01-01T00:00:00.000000001Z");
    assert_eq!(first["time"], 0.000_001);
    assert_eq!(second["request"]["postData"]["text"], "abc");
    assert_eq!(
        second["request"]["queryString"][1],
        serde_json::json!({"name": "b", "value": ""})
    );
    assert_eq!(second["response"]["content"]["text"], "//4=");
    assert_eq!(second["response"]["content"]["encoding"], "base64");
    assert_eq!(second["comment"], "curl (42)");
}

#[test]
fn an_empty_har_file_is_one() {
    let writer = SharedWriter::default();
    let sink = Box::new(HarSink::new(writer.clone()));
    Recorder::new(writer.clone(), sink, PipelineOptions::default()).finish();
    let har: serde_json::Value = serde_json::from_str(&writer.take()).unwrap();
    assert_eq!(har["log"]["entries"], serde_json::json!([]));
}

#[test]
fn a_message_cut_off_by_lost_bytes_is_told() {
    let mut recorder = Recorder::json(JsonOptions::default());
    recorder
        .call(Sent, GET)
        .call(Received, &RESPONSE[..40])
        .lose(Received, 100);
    recorder.call(Received, RESPONSE);
    let text = recorder.take();
    assert!(
        text.contains(r#""part":"end","complete":false,"transferred":2,"#),
        "{text}"
    );
}

#[test]
fn json_has_content_without_its_framing() {
    let mut recorder = Recorder::json(JsonOptions::default());
    let switch = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n";
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    recorder.call(Sent, GET).call(Received, chunks);
    recorder.call(Sent, GET).call(Received, switch);
    recorder.call(Sent, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    let text = recorder.take();
    let content: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(r#","exchange":"#))
        .map(|l| l.1)
        .collect();
    assert_eq!(content[3], r#"1,"part":"content","length":3,"text":"abc"}"#);
    assert!(
        content[8].starts_with(r#"2,"part":"end","#),
        "{}",
        content[8]
    );
    let frame = r#"2,"part":"frame","opcode":"TEXT","length":5,"final":true,"compressed":false}"#;
    assert_eq!(
        content[9..],
        [frame, r#"2,"part":"content","length":5,"text":"Hello"}"#]
    );
}
