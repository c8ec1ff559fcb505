//! Any bytes as hellos and as a stream of records: however the stream is cut,
//! it tells the same.
#![no_main]

use tlscope_core::tls::{Notice, RecordStream, client_hello, server_hello};

fn notices(stream: &[u8], piece: usize) -> Vec<Notice> {
    let mut records = RecordStream::default();
    let mut notices = Vec::new();
    for part in stream.chunks(piece) {
        records.push(part, |notice| notices.push(notice));
    }
    notices
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = server_hello(input);
    if let Some(name) = client_hello(input).and_then(|hello| hello.server_name) {
        assert!(name.is_ascii() && !name.bytes().any(|b| b.is_ascii_control()));
    }
    let Some((&piece, stream)) = input.split_first() else {
        return;
    };
    let whole = notices(stream, stream.len().max(1));
    assert_eq!(whole, notices(stream, usize::from(piece) + 1));
});
