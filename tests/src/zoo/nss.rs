//! Builds of NSS under test: `fixtures/nss_peer.c` runs on them, with OpenSSL at the other end.

use std::path::{Path, PathBuf};

use crate::certificates::certificates;
use crate::digest::noise;
use crate::keylog::KeyLog;
use crate::nss::{self, NssPeer};
use crate::openssl::{SClient, SServer};
use crate::peer::Talk;
use crate::scene::Scene;
use crate::zoo::fetch::Specimen;
use crate::zoo::live::{Live, SIZES, Watch};
use crate::zoo::plan::Plan;
use crate::zoo::targets::Tls;

/// NSS as a client and as a server; OpenSSL's key log is the witness.
#[track_caller]
pub(super) fn run(scene: &Scene, specimen: &Specimen, tls: Tls) -> Live {
    let capture = nss::tlscope().arg("--json");
    let watch = Watch::by(scene, capture.with("nss", specimen.image.display()));
    let peer = NssPeer::default().library_path(specimen.image.parent().expect("a directory"));
    let mut talks: Vec<Talk> = Vec::new();
    let mut truth = KeyLog::default();
    for version in tls.versions() {
        for size in SIZES {
            let peer = peer.clone().with("tls", version).sizes(size, size);
            let server = SServer::start(scene, &certificates().ecdsa, &["-quiet"]);
            let client = peer.clone().set("resume").with("connections", 2);
            talks.push(client.with("connect", server.port).run(scene));
            truth = truth.union(&KeyLog::read(&server.keylog));

            let serving = peer.set("serve").start(scene);
            let input = scene.write("input", &noise(size, 1));
            let client = SClient::start(scene, serving.port, Some(&input), &["-ign_eof"]);
            let log = client.keylog.clone();
            client.finish();
            truth = truth.union(&KeyLog::read(&log));
            talks.push(serving.finish());
        }
    }
    watch.end(
        |records| {
            for talk in &talks {
                talk.assert_captured(records);
            }
        },
        &truth,
    )
}

/// The token beside the library has a plan, too.
#[track_caller]
pub(super) fn assert_token(image: &Path) {
    let directory = image.parent().expect("a directory");
    let places = [directory.to_owned(), directory.join("nss")];
    let token = |place: &PathBuf| Some(place.join("libsoftokn3.so")).filter(|file| file.exists());
    let token = places.iter().find_map(token).expect("libsoftokn3.so");
    let plan = Plan::of(&token);
    let roles = plan.roles();
    for role in [
        "token_derive",
        "token_unwrap",
        "token_create",
        "token_value",
    ] {
        assert!(roles.contains(role), "no {role}: {:?}", plan.missing);
    }
}
