//! A container as runtimes make them, by hand: an overlay over the root of another Debian
//! suite, in mount, pid and network namespaces of its own, in a control group of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::certificates;
use crate::cgroup::Cgroup;
use crate::kernels::fetch;
use crate::kernels::matrix::{Arch, TRIXIE};
use crate::peer::{Peer, compiled};
use crate::program::must;
use crate::scene::Scene;
use crate::wait;

/// A file system in memory that goes with the test: an overlay cannot lie on any other.
#[derive(Debug)]
pub struct Memory(pub PathBuf);

impl Memory {
    #[track_caller]
    pub fn mount(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a directory to mount on");
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "none"])
                .arg(&path),
        );
        Self(path)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        must(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// The library of the suite, as programs in there know it.
pub const LIBSSL: &str = if cfg!(target_arch = "x86_64") {
    "/usr/lib/x86_64-linux-gnu/libssl.so.3"
} else {
    "/usr/lib/aarch64-linux-gnu/libssl.so.3"
};

/// A root with Debian 13's OpenSSL 3.5, as a file of its own.
#[derive(Debug)]
pub struct Jail {
    directory: PathBuf,
    suite: PathBuf,
}

/// The shell that enters: it tells its pid, as the host has it, and becomes the program.
const ENTER: &str = "read -r pid rest </proc/self/stat && echo $pid >$0/pid && \
    { [ -z \"$2\" ] || echo 0 >$2; } && ip link set lo up && \
    mount -t overlay overlay -o lowerdir=$0/own:$1,upperdir=$0/up,workdir=$0/work $0/root && \
    shift 2 && exec chroot $0/root /usr/bin/busybox sh -c \"$ENTRY\" \"$@\"";

/// The container's own script: it works for some 20 ms, and becomes the program.
const ENTRY: &str = "busybox usleep 20000; exec \"$0\" \"$@\"";

impl Jail {
    #[track_caller]
    pub fn new(memory: &Memory, name: &str) -> Self {
        let arch = if cfg!(target_arch = "x86_64") {
            Arch::X86
        } else {
            Arch::Arm
        };
        let jail = Self {
            directory: memory.0.join(name),
            suite: fetch::userland(&TRIXIE, arch),
        };
        for part in ["own", "up", "work", "root"] {
            fs::create_dir_all(jail.directory.join(part)).expect("a directory of the jail");
        }
        jail.bring_library();
        jail.bring(compiled(), "/peer");
        let pair = &certificates().ecdsa;
        for file in [&pair.cert, &pair.key] {
            jail.bring(file, &file.to_string_lossy());
        }
        jail
    }

    /// In a lower layer, where a container's image has it. Behind its end an ELF file may have
    /// anything: no other test, and no run before, has met this content.
    #[track_caller]
    fn bring_library(&self) {
        let library = fs::canonicalize(below(&self.suite, LIBSSL)).expect("the suite's library");
        let mut content = fs::read(library).expect("the suite's library");
        content.extend(format!("{}", std::process::id()).bytes());
        let own = below(&self.directory.join("own"), LIBSSL);
        fs::create_dir_all(own.parent().expect("a directory")).expect("its directory");
        fs::write(own, content).expect("a library of its own");
    }

    #[track_caller]
    fn bring(&self, file: &Path, to: &str) {
        let to = self.outside(to);
        fs::create_dir_all(to.parent().expect("a directory")).expect("its directory");
        fs::copy(file, to).expect("a copy in the jail");
    }

    /// Where a file that is written in there is found.
    pub fn outside(&self, path: &str) -> PathBuf {
        below(&self.directory.join("up"), path)
    }

    /// A client and a server that talk to each other in there, over a loopback of their own.
    #[track_caller]
    pub fn peer(&self, cgroup: Option<&Cgroup>) -> Peer {
        let words = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c"];
        let entry = format!("ENTRY={ENTRY}");
        let words = ["env", &entry].into_iter().chain(words).chain([ENTER]);
        let words = words.map(OsString::from);
        let procs = cgroup.map(Cgroup::procs).unwrap_or_default();
        let own = [
            self.directory.clone().into(),
            self.suite.clone().into(),
            procs.into(),
            "/peer".into(),
        ];
        Peer::on(Path::new(LIBSSL)).launched_by(words.chain(own))
    }

    /// Key logs of both sides, and where they are found.
    #[track_caller]
    pub fn with_keylogs(&self, peer: Peer, scene: &Scene) -> Peer {
        let mut peer = peer.keylogs(scene);
        fs::create_dir_all(self.outside(&scene.directory().to_string_lossy()))
            .expect("a directory for key logs");
        for log in [&mut peer.client_keylog, &mut peer.server_keylog] {
            *log = log.as_ref().map(|log| self.outside(&log.to_string_lossy()));
        }
        peer
    }

    /// As an engine does that starts a container anew. An overlay is refused while anybody holds
    /// another one over the same upper directory; the last program of the jail may be about to end.
    #[track_caller]
    pub fn mount_again(&self) {
        let part = |name: &str| self.directory.join(name).display().to_string();
        let layers = format!("lowerdir={}:{}", part("own"), self.suite.display());
        let (upper, work) = (part("up"), part("work"));
        let options = format!("index=on,{layers},upperdir={upper},workdir={work}");
        wait::until("the overlay to be mounted again", || {
            let mut mount = Command::new("mount");
            mount.args(["-t", "overlay", "overlay", "-o", &options]);
            let output = mount.arg(part("root")).output().expect("mount");
            output.status.success().then_some(())
        });
        must(Command::new("umount").arg(part("root")));
    }

    /// Of the program in there, as the host has it.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(self.directory.join("pid")).expect("the pid");
        text.trim().parse().expect("a number")
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
