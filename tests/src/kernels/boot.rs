//! One machine: its root, its qemu, and what it said.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::fetch;
use super::initramfs::Archive;
use super::matrix::{Arch, Kernel};
use super::peers;
use super::transcript::Line;
use crate::certificates::certificates;
use crate::nss;

/// A boot takes 4 to 15 seconds under emulation, and longer beside other work.
const BOOT_BOUND: Duration = Duration::from_secs(180);
const WHOLE_BOUND: Duration = Duration::from_secs(900);

/// Brought up by busybox; the cases are a program of ours.
const INIT: &str = "\
#!/bin/busybox sh
export PATH=/usr/bin:/bin TLSCOPE_BIN=/usr/bin/tlscope
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox mount -t securityfs securityfs /sys/kernel/security
busybox mount -t tracefs tracefs /sys/kernel/tracing
busybox ip link set lo up
echo '@@ start'
/tlscope/deps/guest
echo \"@@ end $?\"
busybox poweroff -f
";

/// All that a machine said, or why it did not come to an end.
pub fn run(kernel: &Kernel) -> Result<Vec<Line>, String> {
    let image = fetch::kernel(kernel);
    let initrd = fetch::cache().join(format!("{}.cpio", file_name(kernel)));
    fs::write(&initrd, root(kernel)).expect("write the initramfs");
    let mut command = qemu(kernel, &image, &initrd);
    let mut said = attempt(kernel, &mut command);
    // A machine that hung or died before it began anything may be begun again, once.
    if matches!(&said, Err(lines) if !lines.0.contains(&Line::Start)) {
        said = attempt(kernel, &mut command);
    }
    let _ = fs::remove_file(&initrd);
    said.map_err(|(_, why)| why)
}

fn file_name(kernel: &Kernel) -> String {
    kernel.to_string().replace(' ', "-")
}

fn root(kernel: &Kernel) -> Vec<u8> {
    let arch = kernel.arch;
    let userland = fetch::userland(&kernel.userland, arch);
    let mut archive = Archive::default();
    for directory in ["proc", "sys", "dev", "tmp", "tlscope", "tlscope/deps"] {
        archive.directory(directory);
    }
    archive.file("init", 0o755, INIT.as_bytes());
    // Names for users, as every system has them.
    archive.directory("etc");
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    // The rest is documentation and what converts character sets.
    archive.tree(&userland, &|path| {
        let parts: Vec<_> = path.split('/').collect();
        let needed = ["bin", "lib", "lib64", "sbin", "usr"].contains(&parts[0]);
        let usr = parts.get(1).is_none_or(|part| *part != "share");
        needed && usr && !path.contains("gconv")
    });
    archive.copy(&fetch::built(arch, "tlscope"), "usr/bin/tlscope");
    archive.copy(&fetch::built(arch, "guest"), "tlscope/deps/guest");
    archive.directory("tlscope/tlscope-tests");
    for (name, program) in peers::build(kernel) {
        archive.copy(&program, &format!("tlscope/tlscope-tests/{name}"));
    }
    let certificates = certificates().ca.parent().expect("a directory");
    let database = nss::database().trim_start_matches("sql:");
    for (from, to) in [
        (certificates, "certificates"),
        (Path::new(database), "nss-database"),
    ] {
        archive.files(from, &format!("tlscope/tlscope-tests/{to}"));
    }
    archive.finish()
}

/// The machine's qemu, by its own loader and libraries.
fn qemu(kernel: &Kernel, image: &Path, initrd: &Path) -> Command {
    let root = fetch::qemu();
    let (loader, libraries) = match std::env::consts::ARCH {
        "aarch64" => ("lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"),
        _ => ("lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"),
    };
    let mut command = Command::new(root.join(loader));
    command.arg("--library-path").arg(root.join(libraries));
    command.env("QEMU_MODULE_DIR", root.join(libraries).join("qemu"));
    let (program, machine, console) = match kernel.arch {
        // Without cx16: see `fetch`.
        Arch::X86 => (
            "qemu-system-x86_64",
            ["-M", "q35", "-cpu", "max,-cx16"],
            "ttyS0",
        ),
        // `-cpu max` takes twice the time.
        Arch::Arm => (
            "qemu-system-aarch64",
            ["-M", "virt", "-cpu", "cortex-a72"],
            "ttyAMA0",
        ),
    };
    command
        .arg(root.join("usr/bin").join(program))
        .args(machine);
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(root.join(firmware));
    }
    command.args(["-accel", "tcg,thread=multi", "-smp", "1", "-m", "1G"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-serial", "stdio", "-no-reboot", "-kernel"]);
    command.arg(image).arg("-initrd").arg(initrd);
    let arguments = kernel.arguments();
    command.args([
        "-append",
        &format!("console={console} panic=-1 oops=panic loglevel=3 {arguments}"),
    ]);
    command
}

/// The lines, or the lines so far and why there are no more.
fn attempt(kernel: &Kernel, command: &mut Command) -> Result<Vec<Line>, (Vec<Line>, String)> {
    let log = fetch::cache().join(format!("{}.log", file_name(kernel)));
    let mut machine = Machine::start(command, &log);
    let begun = Instant::now();
    let mut lines = Vec::new();
    loop {
        let bound = if lines.is_empty() {
            BOOT_BOUND
        } else {
            WHOLE_BOUND
        };
        let left = bound.saturating_sub(begun.elapsed());
        let Ok(text) = machine.console.recv_timeout(left) else {
            let mut why = format!(
                "no end after {:.0?}, see {}",
                begun.elapsed(),
                log.display()
            );
            if let Some(last) = machine.last.take() {
                let _ = write!(why, "; last: {last}");
            }
            return Err((lines, why));
        };
        if let Some(line) = Line::parse(&text) {
            let over = matches!(line, Line::End(_));
            lines.push(line);
            if over {
                return Ok(lines);
            }
        }
        machine.last = Some(text);
    }
}

/// A running qemu; ended with its guard.
struct Machine {
    child: Child,
    console: Receiver<String>,
    last: Option<String>,
}

impl Machine {
    #[track_caller]
    fn start(command: &mut Command, log: &PathBuf) -> Self {
        let log = File::create(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = match command.stderr(errors).spawn() {
            Ok(child) => child,
            Err(e) => panic!("{command:?}: {e}"),
        };
        let stdout = child.stdout.take().expect("a pipe");
        let (into, console) = channel();
        thread::spawn(move || read(stdout, log, |line| into.send(line).is_ok()));
        Self {
            child,
            console,
            last: None,
        }
    }
}

fn read(stdout: ChildStdout, mut log: File, mut tell: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let _ = log.write_all(&line);
        if !tell(String::from_utf8_lossy(&line).into_owned()) {
            return;
        }
        line.clear();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
