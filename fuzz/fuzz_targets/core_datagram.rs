//! Any bytes as a datagram of QUIC or DTLS: what is said to be in it lies in it,
//! and packets that open with their own keys hold frames that lie in them.
#![no_main]

use tlscope_core::dtls::{self, Part};
use tlscope_core::quic::{self, ClientKeys, Packet, crypto_frames};

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    let mut pieces = 0;
    for part in dtls::parts(datagram) {
        if let Part::ClientHello { bytes, .. } = part {
            pieces += bytes.len();
        }
    }
    assert!(pieces <= datagram.len());
    assert!(crypto_frames(datagram).map(|f| f.1.len()).sum::<usize>() <= datagram.len());
    for packet in quic::packets(datagram) {
        if let Packet::Initial(initial) = packet {
            let keys = ClientKeys::derive(initial.version, initial.destination);
            if let Some(frames) = keys.open(&initial) {
                let bytes: usize = crypto_frames(&frames).map(|f| f.1.len()).sum();
                assert!(bytes < datagram.len());
            }
        }
    }
});
