//! tcpdump beside a capture: what else was on the wire.

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
        let file = PcapFile::at(&self.path);
        self.program.until("tcpdump to write", |_| {
            (file.count("") >= packets).then_some(())
        });
        self.program.signal(rustix::process::Signal::INT);
        let _ = self.program.finish().success();
        file
    }
}
