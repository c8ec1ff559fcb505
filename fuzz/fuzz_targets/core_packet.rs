//! Frames of any content through a recording: every byte written is a whole
//! block, and every packet is written or counted.
#![no_main]

use std::io;
use std::time::Duration;

use tlscope_core::event::Timestamp;
use tlscope_core::hold::{Frame, HoldOptions, Moment};
use tlscope_core::packet::LinkType;
use tlscope_core::recording::{
    BlockKind, BlockOutput, FileNumber, NextFile, Recording, RecordingOptions,
};
use tlscope_core::sink::pcapng::{Interface, Section};

const LINKS: [u16; 8] = [1, 101, 113, 276, 0, 9, 229, 105];

#[derive(Debug, Default)]
struct Packets(u64);

impl BlockOutput for Packets {
    fn is_full(&self, now: Timestamp) -> bool {
        now.0.is_multiple_of(64)
    }

    fn next_file(&mut self, _number: FileNumber, _now: Timestamp) -> io::Result<NextFile> {
        Ok(NextFile::Begun { replaced: None })
    }

    fn write(&mut self, _file: FileNumber, block: [&[u8]; 3], kind: BlockKind) -> io::Result<bool> {
        let block = block.concat();
        let length = (block.len() as u32).to_ne_bytes();
        assert_eq!(block[4..8], length);
        assert_eq!(block[block.len() - 4..], length);
        self.0 += u64::from(kind == BlockKind::Packet);
        Ok(true)
    }

    fn close(&mut self, _file: FileNumber) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// The input: a byte that chooses link type and filter, then frames, each
// behind its length in two bytes.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut rest)) = input.split_first() else {
        return;
    };
    let options = RecordingOptions {
        hold: HoldOptions {
            owned_only: choice & 0x80 != 0,
            memory: 4096,
            ..HoldOptions::default()
        },
        count: None,
        drain: usize::from(choice & 3),
    };
    let now = Timestamp(1);
    let mut recording =
        Recording::new(Packets::default(), Section::default(), options, now).unwrap();
    let interface = Interface {
        name: "fuzz".into(),
        link_type: LinkType(LINKS[usize::from(choice) % LINKS.len()]),
        snapshot_length: 0,
        filter: String::new(),
    };
    recording.add_interface(interface, now).unwrap();
    let mut given = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (bytes, after) = after.split_at(length.min(after.len()));
        given += 1;
        let frame = Frame {
            interface: 0,
            time: Timestamp(given),
            original_length: bytes.len() as u32,
            bytes,
        };
        let now = Moment(Duration::from_millis(given));
        recording.packet(frame, now).unwrap();
        rest = after;
    }
    let (ended, output, counts) = recording.finish(Timestamp(given));
    ended.unwrap();
    assert_eq!(output.0, counts.written);
    assert_eq!(counts.written + counts.hold.unwanted, given);
});
