//! Shared libraries under test: `fixtures/peer.c` loads them and talks.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::certificates::certificates;
use crate::keylog::KeyLog;
use crate::peer::Talk;
use crate::zoo::fetch::Specimen;
use crate::zoo::outcome::{Outcome, caught};
use crate::zoo::plan::Plan;
use crate::zoo::targets::Tls;
use crate::{Capture, KIB, MIB, Peer, Scene, Tlscope, gnutls};

/// What was captured, against what the peers logged.
#[derive(Debug, Clone)]
pub struct Live {
    pub text: Outcome,
    pub keylog: Outcome,
}

impl Live {
    /// It could not be run; why.
    #[must_use]
    pub fn failed(why: String) -> Self {
        Self {
            text: Outcome::No(why.clone()),
            keylog: Outcome::No(why),
        }
    }
}

/// What each connection sends in each direction: one byte, just more than a TLS record, and long.
pub const SIZES: [usize; 3] = [1, 16 * KIB + 1, MIB];

impl Tls {
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Only12 => &["1.2"],
            Self::Only13 => &["1.3"],
            Self::Both => &["1.2", "1.3"],
        }
    }
}

/// A capture of one image, with a key log beside the records.
#[derive(Debug)]
pub(super) struct Watch {
    capture: Capture,
    keylog: PathBuf,
}

/// `tlscope` on this image, by the subcommand of what it holds.
#[track_caller]
fn capture_of(image: &Path) -> Tlscope {
    match Plan::of(image).family.as_str() {
        "gnutls" => gnutls::json().with("gnutls", image.display()),
        _ => Tlscope::json().with("libssl", image.display()),
    }
}

impl Watch {
    #[track_caller]
    pub(super) fn start(scene: &Scene, image: &Path) -> Self {
        Self::by(scene, capture_of(image))
    }

    /// By a command that writes JSON.
    #[track_caller]
    pub(super) fn by(scene: &Scene, tlscope: Tlscope) -> Self {
        let keylog = scene.fresh("captured.keylog");
        let tlscope = tlscope.with("keylogfile", keylog.display());
        Self {
            capture: tlscope.start(scene),
            keylog,
        }
    }

    /// Ends the capture; `text` checks the bytes, `truth` is the witness's key log.
    #[track_caller]
    pub(super) fn end(self, text: impl FnOnce(&crate::records::Records), truth: &KeyLog) -> Live {
        let captured = self.capture.stop();
        let keys = || {
            assert!(self.keylog.exists(), "no secret was captured");
            KeyLog::read(&self.keylog).assert_is(truth);
        };
        let bytes = || {
            let records = captured.records();
            records.assert_lossless();
            text(&records);
        };
        let words = |outcome: Outcome| match outcome {
            Outcome::No(why) => Outcome::No(format!("{why}\n{}", captured.finished.stderr)),
            other => other,
        };
        Live {
            text: words(Outcome::of(bytes)),
            keylog: words(Outcome::of(keys)),
        }
    }
}

/// Client and server on the library, which logs its keys itself.
#[track_caller]
pub fn with_own_keylog(scene: &Scene, specimen: &Specimen, tls: Tls, in_root: bool) -> Live {
    let watch = Watch::start(scene, &specimen.image);
    let mut talks = Vec::new();
    let mut truth = KeyLog::default();
    for version in tls.versions() {
        for size in SIZES {
            let peer = if in_root {
                in_own_root(scene, specimen)
            } else {
                on_this_machine(&specimen.image).keylogs(scene)
            };
            let peer = peer.with("tls", version).sizes(size, size);
            talks.push(peer.run(scene));
            truth = truth.union(&peer.logged());
        }
    }
    watch.end(|records| assert_all(&talks, records), &truth)
}

/// The library as a server and as a client, each with the system's OpenSSL at the other end,
/// whose key log is the witness.
#[track_caller]
pub fn against_the_system(scene: &Scene, specimen: &Specimen, client: Tls, server: Tls) -> Live {
    let watch = Watch::start(scene, &specimen.image);
    let mut talks = Vec::new();
    let mut truth = KeyLog::default();
    for (role, tls) in [("server", server), ("client", client)] {
        for version in tls.versions() {
            for size in SIZES {
                let alike = |peer: Peer, role| witness_pair(peer, version, size).with("role", role);
                let own = alike(on_this_machine(&specimen.image), role);
                let other = if role == "server" { "client" } else { "server" };
                let witness = alike(Peer::default(), other).keylogs(scene);
                talks.push(meet(scene, &own, &witness, role));
                truth = truth.union(&witness.logged());
            }
        }
    }
    watch.end(|records| assert_all(&talks, records), &truth)
}

/// The oldest can exchange keys by RSA only.
fn witness_pair(peer: Peer, version: &str, size: usize) -> Peer {
    let pair = &certificates().rsa;
    let peer = peer.with("tls", version).sizes(size, size);
    let peer = peer.with("cert", pair.cert.display());
    peer.with("key", pair.key.display())
}

/// Lets two peers talk, and returns what the first of them, of this role, says.
#[track_caller]
fn meet(scene: &Scene, own: &Peer, witness: &Peer, role: &str) -> Talk {
    let is_server = role == "server";
    let (server, client) = if is_server {
        (own, witness)
    } else {
        (witness, own)
    };
    let serving = server.start(scene);
    let caller = client.clone().with("port", serving.port).run(scene);
    let answerer = serving.finish();
    if is_server { answerer } else { caller }
}

/// Whether the library takes TLS 1.3 as the only version, in this role.
pub fn speaks_tls13(scene: &Scene, image: &Path, role: &str) -> bool {
    let peer = on_this_machine(image).with("tls", "1.3").with("role", role);
    caught(|| drop(peer.set("wait").start(scene))).is_ok()
}

fn assert_all(talks: &[Talk], records: &crate::records::Records) {
    for talk in talks {
        talk.assert_captured(records);
    }
    let sides: usize = talks.iter().map(|talk| talk.sides.len()).sum();
    let all = records.connections.len();
    assert_eq!(all, sides, "connections: {:#?}", records.outline());
}

fn on_this_machine(image: &Path) -> Peer {
    Peer::on(image).library_path(image.parent().expect("a directory"))
}

/// The peer with the library's own root as its root.
fn in_own_root(scene: &Scene, specimen: &Specimen) -> Peer {
    const PLACE: &str = "zoo";
    let root = &specimen.directory;
    let place = root.join(PLACE);
    fs::create_dir_all(&place).expect("a directory in the root");
    let bring = |file: &Path, name: &str| {
        fs::copy(file, place.join(name)).expect("copy a file into the root");
        format!("/{PLACE}/{name}")
    };
    let program = bring(Peer::on(&specimen.image).program(), "peer");
    let pair = &certificates().ecdsa;
    let (cert, key) = (bring(&pair.cert, "cert.pem"), bring(&pair.key, "key.pem"));
    let inside = specimen
        .image
        .strip_prefix(root)
        .expect("an image in its root");
    let library = Path::new("/").join(inside);
    let launcher: [OsString; 3] = ["chroot".into(), root.into(), program.into()];
    let directory = library.parent().expect("a directory");
    let mut peer = Peer::on(&library)
        .library_path(directory)
        .launched_by(launcher);
    peer = peer.with("cert", cert).with("key", key);
    for side in ["client", "server"] {
        let name = scene.fresh(&format!("{side}.keylog"));
        let name = name
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        peer = peer.with(&format!("{side}-keylog"), format!("/{PLACE}/{name}"));
        let outside = Some(place.join(name));
        // The root outlives this run, and peers append.
        let _ = fs::remove_file(outside.as_ref().expect("a path"));
        match side {
            "client" => peer.client_keylog = outside,
            _ => peer.server_keylog = outside,
        }
    }
    peer
}
