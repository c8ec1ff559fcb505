//! What is traced in a machine: one subject for each module, and how its peers talk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::peers::GO_PEER;
use crate::keylog::KeyLog;
use crate::nss::NssPeer;
use crate::peer::Talk;
use crate::records::Records;
use crate::scene::artifacts;
use crate::{Digest, KIB, Peer, Scene, Tlscope, go};

/// What clients send: servers answer with more.
const MOST_ASKED: usize = 20 * KIB;
const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// A module of tlscope, and the file that it probes here.
#[derive(Debug)]
pub struct Subject {
    pub module: &'static str,
    flag: &'static str,
    file: PathBuf,
    talk: fn(&Scene, &Path, Sizes, Extent) -> Conversation,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// In each version, but NSS in one part of its two: its start takes a second under emulation.
    Short,
}

/// Bytes that each side sends, in TLS 1.2 and in 1.3.
pub type Sizes = [usize; 2];

/// All of the four families.
pub fn all() -> Vec<Subject> {
    let subject = |module, flag, file, talk| Subject {
        module,
        flag,
        file,
        talk,
    };
    vec![
        subject("tls", "--libssl", libssl(), on_openssl),
        subject("gnutls", "--gnutls", library("libgnutls.so.30"), on_gnutls),
        subject("nss", "--nss", library("libssl3.so"), on_nss),
        subject("gotls", "--elfpath", artifacts().join(GO_PEER), in_go),
    ]
}

/// OpenSSL, in a program that carries the records itself.
pub fn memory() -> Subject {
    Subject {
        module: "tls",
        flag: "--libssl",
        file: libssl(),
        talk: on_memory_bios,
    }
}

fn library(name: &str) -> PathBuf {
    let directory = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    Path::new(&directory).join(name)
}

fn libssl() -> PathBuf {
    ["libssl.so.3", "libssl.so.1.1"]
        .map(library)
        .into_iter()
        .find(|path| path.exists())
        .expect("a libssl in the root")
}

impl Subject {
    /// `tlscope MODULE --FLAG FILE`
    pub fn tlscope(&self) -> Tlscope {
        Tlscope::new(self.module).arg(self.flag).arg(&self.file)
    }

    #[track_caller]
    pub fn talk(&self, scene: &Scene, sizes: Sizes, extent: Extent) -> Conversation {
        (self.talk)(scene, &self.file, sizes, extent)
    }
}

/// What the peers of one subject said, by their own account.
#[derive(Debug, Default)]
pub struct Conversation {
    talks: Vec<Talk>,
    go: Vec<go::GoTalk>,
    /// Of all its connections.
    pub keylog: KeyLog,
}

/// What a client sent, and what it received.
pub type Stream = [Digest; 2];

impl Conversation {
    /// Every byte of every side, with its address and descriptor, and no other connection.
    #[track_caller]
    pub fn assert_captured(&self, records: &Records) {
        records.assert_lossless();
        for talk in &self.talks {
            talk.assert_captured(records);
        }
        for talk in &self.go {
            talk.assert_captured_with_addresses(records);
        }
        let sides = self.talks.iter().map(|talk| talk.sides.len());
        let sides = sides.chain(self.go.iter().map(|talk| talk.sides.len()));
        let sides: usize = sides.sum();
        assert_eq!(records.connections.len(), sides, "{:#?}", records.outline());
    }

    /// What was on the wire, by the account of a side that is traced.
    pub fn streams(&self) -> BTreeMap<String, Stream> {
        let of_talks = self.talks.iter().flat_map(|talk| &talk.sides).map(|s| {
            let digests = [s.sent(), s.received()];
            (s.side.as_str(), &s.local, &s.remote, digests)
        });
        let of_go = self.go.iter().flat_map(|talk| &talk.sides).map(|s| {
            let digests = [s.sent(), s.received()];
            (s.side.as_str(), &s.local, &s.remote, digests)
        });
        let stream = |(side, local, remote, [sent, received]): (&str, &String, &String, Stream)| {
            if side == "client" {
                (local.clone(), [sent, received])
            } else {
                (remote.clone(), [received, sent])
            }
        };
        of_talks.chain(of_go).map(stream).collect()
    }
}

/// Two connections of each version, in one process.
fn both_sides(scene: &Scene, peer: &Peer, sizes: Sizes) -> Conversation {
    let mut all = Conversation::default();
    for (version, size) in VERSIONS.into_iter().zip(sizes) {
        let peer = peer.clone().keylogs(scene).with("tls", version);
        let peer = peer.with("connections", 2);
        let peer = peer.sizes(size.min(MOST_ASKED), size);
        all.talks.push(peer.run(scene));
        all.keylog = all.keylog.union(&peer.logged());
    }
    all
}

fn on_openssl(scene: &Scene, library: &Path, sizes: Sizes, _: Extent) -> Conversation {
    both_sides(scene, &Peer::on(library), sizes)
}

fn on_memory_bios(scene: &Scene, library: &Path, sizes: Sizes, _: Extent) -> Conversation {
    both_sides(scene, &Peer::on(library).set("memory"), sizes)
}

fn on_gnutls(scene: &Scene, library: &Path, sizes: Sizes, _: Extent) -> Conversation {
    both_sides(scene, &Peer::on(library), sizes)
}

/// Debian's NSS writes no key log, so the other side is OpenSSL, which does; NSS serves the one
/// connection and asks for the other.
fn on_nss(scene: &Scene, _: &Path, sizes: Sizes, extent: Extent) -> Conversation {
    let parts = [serve_by_nss, ask_by_nss];
    let mut all = Conversation::default();
    for (index, (version, size)) in VERSIONS.into_iter().zip(sizes).enumerate() {
        let parts = match extent {
            Extent::Whole => &parts[..],
            Extent::Short => &parts[index..=index],
        };
        for part in parts {
            let (talk, keylog) = part(scene, version, size);
            all.talks.push(talk);
            all.keylog = all.keylog.union(&keylog);
        }
    }
    all
}

fn serve_by_nss(scene: &Scene, version: &str, size: usize) -> (Talk, KeyLog) {
    let asked = size.min(MOST_ASKED);
    let nss = NssPeer::default().with("tls", version).sizes(asked, size);
    let server = nss.set("serve").start(scene);
    let client = Peer::on(&libssl()).keylogs(scene).with("tls", version);
    let client = client.with("role", "client").with("port", server.port);
    let client = client.sizes(asked, size);
    drop(client.run(scene));
    (server.finish(), client.logged())
}

fn ask_by_nss(scene: &Scene, version: &str, size: usize) -> (Talk, KeyLog) {
    let other = Peer::on(&libssl()).keylogs(scene).with("tls", version);
    let server = other.with("role", "server").sizes(size, 0);
    let running = server.start(scene);
    let nss = NssPeer::default().with("tls", version).sizes(size, 0);
    let talk = nss.with("connect", running.port).run(scene);
    drop(running.finish());
    (talk, server.logged())
}

fn in_go(scene: &Scene, program: &Path, sizes: Sizes, _: Extent) -> Conversation {
    let mut all = Conversation::default();
    for (version, size) in VERSIONS.into_iter().zip(sizes) {
        let log = scene.fresh("go.keylog");
        let path = log.to_str().expect("a path in UTF-8");
        let arguments = format!("-connections 2 -tls {version} -sizes 1,{size} -keylog {path}");
        all.go.push(go::run(scene, program, &arguments));
        all.keylog = all.keylog.union(&KeyLog::read(&log));
    }
    all
}
