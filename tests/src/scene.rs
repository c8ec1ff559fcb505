//! One test's place and turn.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::network::until_closed;
use crate::program::Program;

/// A capture without `--pid` sees every program of the machine, so tests that
/// capture take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A directory that goes with the test unless the test fails, and the test's turn.
#[derive(Debug)]
pub struct Scene {
    directory: PathBuf,
    /// How often each name was asked for.
    given: RefCell<BTreeMap<String, u32>>,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    pub fn new(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = env::temp_dir().join(format!("tlscope-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("scene directory");
        Self {
            directory,
            given: RefCell::default(),
            _turn: turn,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path that nobody else in the scene was given: the name, with a number after the first.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let mut given = self.given.borrow_mut();
        let times = given.entry(name.to_owned()).or_insert(0);
        *times += 1;
        if *times == 1 {
            self.path(name)
        } else {
            self.path(&format!("{name}.{times}"))
        }
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("directory");
        }
        fs::write(&path, content).expect("write a file of the scene");
        path
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("left for inspection: {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// A port that nothing listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Waits until the program accepts connections, and until it is done with the one that asked: it
/// would be among what a capture has.
#[track_caller]
pub fn until_listening(program: &mut Program, port: u16) {
    program.until(&format!("port {port}"), |_| {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .ok()
            .map(drop)
    });
    until_closed(port);
}

/// What this build of the tests makes once and keeps: certificates, compiled fixtures.
pub fn artifacts() -> PathBuf {
    let exe = env::current_exe().expect("our own path");
    let profile = exe
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/NAME");
    let directory = profile.join("tlscope-tests");
    fs::create_dir_all(&directory).expect("directory for artifacts");
    directory
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}
