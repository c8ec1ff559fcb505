//! What a confined thread can still do, tried by one. No root; a kernel whose Landlock knows
//! ports (6.7).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;

use tlscope_probe::confine::Sandbox;

/// A directory that goes with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn assert_denied<T>(result: io::Result<T>, what: &str) {
    let kind = result.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{what}");
}

fn confined(sandbox: &Sandbox, attempt: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sandbox.enter().expect("it confines itself");
            attempt();
        });
        thread.join().expect("it ends well");
    });
}

#[test]
fn it_creates_and_reads_where_it_was_let_and_nowhere_else() {
    let (own, other) = (
        Directory::new("confine-own"),
        Directory::new("confine-other"),
    );
    let foreign = other.0.join("file");
    fs::write(&foreign, "before").expect("a file");
    let mut open = File::create(other.0.join("open")).expect("a file");
    let sandbox = Sandbox {
        creates_in: vec![own.0.clone()],
        reads: vec!["/proc".into()],
        ..Sandbox::default()
    };
    confined(&sandbox, || {
        fs::write(own.0.join("next"), "next").expect("a file where files may be created");
        fs::read("/proc/self/stat").expect("what may be read");
        open.write_all(b"more").expect("a file that was open");
        assert_denied(fs::read("/etc/passwd"), "a file of the system");
        assert_denied(fs::read(&foreign), "a file beside");
        assert_denied(File::create(&foreign), "another file emptied");
        assert_denied(File::create(other.0.join("new")), "another file created");
        assert_denied(fs::create_dir(own.0.join("directory")), "a directory");
        assert_denied(fs::remove_file(own.0.join("next")), "a file taken away");
    });
    assert_eq!(fs::read(&foreign).expect("the file"), b"before");
}

#[test]
fn it_opens_nothing_and_reaches_nobody() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    confined(&Sandbox::default(), || {
        assert_denied(File::open("/proc/self/stat"), "a file");
        assert_denied(File::open("/dev/null"), "a device");
        assert_denied(TcpStream::connect(address), "a connection");
        assert_denied(UnixStream::connect(Path::new("/run/any")), "a local one");
        assert_denied(TcpListener::bind(("127.0.0.1", 0)), "a listener");
        assert_denied(Command::new("/bin/true").spawn(), "a program");
        assert_denied(thread::Builder::new().spawn(|| ()), "a thread");
    });
}

#[test]
fn it_connects_to_the_ports_it_was_let_and_to_no_other() {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let (let_to, other) = (listen(), listen());
    let address = |listener: &TcpListener| listener.local_addr().expect("its address");
    let (let_to, other) = (address(&let_to), address(&other));
    let sandbox = Sandbox {
        connects_to: vec![let_to.port()],
        ..Sandbox::default()
    };
    confined(&sandbox, || {
        for _ in 0..2 {
            let mut stream = TcpStream::connect(let_to).expect("a connection");
            stream.write_all(b"record").expect("what is sent");
            stream.shutdown(Shutdown::Write).expect("its end");
        }
        UdpSocket::bind(("127.0.0.1", 0)).expect("a socket to ask for names");
        assert_denied(TcpStream::connect(other), "another port");
        assert_denied(TcpListener::bind(("127.0.0.1", 0)), "a listener");
        assert_denied(File::open("/etc/resolv.conf"), "a file");
        assert_denied(File::create("/dev/null"), "a device");
        assert_denied(Command::new("/bin/true").spawn(), "a program");
        assert_denied(thread::Builder::new().spawn(|| ()), "a thread");
    });
}
