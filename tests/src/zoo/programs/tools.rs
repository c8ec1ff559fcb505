//! `openssl s_server` and `s_client` of a Debian suite, in a root of their own.
//!
//! The server turns each line round (`-rev`), by a BIO over the connection: what it reads and
//! writes does not pass the library's public read and write functions. One connection.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Side, Witness, sides_of};
use crate::certificates::certificates;
use crate::keylog::KeyLog;
use crate::program::{Program, tool};
use crate::scene::{Scene, free_port, until_listening};
use crate::zoo::fetch::Specimen;

pub(super) fn openssl(specimen: &Specimen) -> Command {
    let mut command = tool("chroot", "coreutils");
    command.arg(&specimen.directory).arg("/usr/bin/openssl");
    command
}

#[track_caller]
pub(super) fn talk(scene: &Scene, specimen: &Specimen, tls: &str) -> (Vec<Side>, KeyLog) {
    let place = specimen.directory.join("zoo");
    fs::create_dir_all(&place).expect("a directory in the root");
    let pair = &certificates().ecdsa;
    for (file, name) in [(&pair.cert, "cert.pem"), (&pair.key, "key.pem")] {
        fs::copy(file, place.join(name)).expect("copy a file into the root");
    }
    let port = free_port();
    let mut command = openssl(specimen);
    command.args([
        "s_server",
        "-rev",
        "-quiet",
        "-accept",
        &format!("127.0.0.1:{port}"),
    ]);
    command.args(["-cert", "/zoo/cert.pem", "-key", "/zoo/key.pem"]);
    let mut server = Program::start(scene, "s_server", quiet(command));
    until_listening(&mut server, port);
    let witness = Witness::start(scene, port, tls, None);

    let lines = lines();
    let input = scene.write("lines", &lines);
    let mut command = openssl(specimen);
    command.args([
        "s_client",
        "-quiet",
        "-connect",
        &format!("127.0.0.1:{}", witness.port),
    ]);
    command.stdin(fs::File::open(input).expect("the lines"));
    let mut client = Program::start(scene, "s_client", command);
    // It stays after the end of its input, and ends when the server does.
    client.until("every line turned round", |p| {
        (p.stdout_so_far().len() >= lines.len()).then_some(())
    });
    server.signal(Signal::TERM);
    let server = server.finish().pid;
    client.signal(Signal::TERM);
    let client = client.finish().pid;
    let (streams, keys) = witness.finish(true);
    (sides_of(client, Some(server), streams), keys)
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command
}

/// A million bytes, in lines of all lengths below a kilobyte.
fn lines() -> Vec<u8> {
    const LONGEST: usize = 1000;
    let mut lines = Vec::new();
    for length in 1..=2 * LONGEST {
        let letter = b'a' + (length % 26) as u8;
        lines.extend((0..length % LONGEST).map(|i| letter ^ (i % 2) as u8));
        lines.push(b'\n');
    }
    lines
}
