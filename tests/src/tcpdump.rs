//! tcpdump beside a capture: what else was on the wire.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use crate::Scene;
use crate::pcap::PcapFile;
use crate::program::{Program, tool};

#[derive(Debug)]
pub struct Tcpdump {
    program: Program,
    path: PathBuf,
}

impl Tcpdump {
    #[track_caller]
    pub fn start(scene: &Scene, interface: &str, filter: &str) -> Self {
        Self::start_under(tool("tcpdump", "tcpdump"), scene, interface, filter)
    }

    /// `command` ends with tcpdump: in a network namespace, for one.
    #[track_caller]
    pub fn start_under(mut command: Command, scene: &Scene, interface: &str, filter: &str) -> Self {
        let path = scene.fresh("tcpdump.pcap");
        command.args(["-i", interface, "-U", "-B", "262144", "-Z", "root", "-w"]);
        command.arg(&path).arg(filter);
        let mut program = Program::start(scene, "tcpdump", command);
        program.until("tcpdump to listen", |p| {
            p.stderr_so_far().contains("listening on").then_some(())
        });
        Self { program, path }
    }

    /// Once it has so many packets: it shows a block of its ring after up to a second.
    #[track_caller]
    pub fn stop(mut self, packets: usize) -> PcapFile {
        let mut written = Written::of(File::open(&self.path).expect("tcpdump's file"));
        self.program.until("tcpdump to write", |_| {
            (written.packets() >= packets).then_some(())
        });
        self.program.signal(rustix::process::Signal::INT);
        let _ = self.program.finish().success();
        PcapFile::at(&self.path)
    }
}

/// The whole packets in a file that grows: tshark fails where it ends in the middle of one.
struct Written {
    file: File,
    packets: usize,
    /// Where the next one begins.
    at: u64,
}

impl Written {
    const FILE_HEADER: u64 = 24;
    const PACKET_HEADER: usize = 16;

    fn of(file: File) -> Self {
        Self {
            file,
            packets: 0,
            at: Self::FILE_HEADER,
        }
    }

    fn packets(&mut self) -> usize {
        let length = self.file.metadata().expect("tcpdump's file").len();
        let mut head = [0; Self::PACKET_HEADER];
        while self.file.read_exact_at(&mut head, self.at).is_ok() {
            // Two words of time, then how much of the packet is kept: as this machine writes it.
            let kept = u32::from_ne_bytes(head[8..12].try_into().expect("4 bytes"));
            let next = self.at + head.len() as u64 + u64::from(kept);
            if next > length {
                break;
            }
            (self.packets, self.at) = (self.packets + 1, next);
        }
        self.packets
    }
}
