//! Programs on OpenSSL, GnuTLS, NSS and Go that talk at the same time, and what they say of it.

use std::path::Path;

use crate::keylog::KeyLog;
use crate::nss::NssPeer;
use crate::peer::{Peer, RunningPeer};
use crate::program::Program;
use crate::records::Records;
use crate::scene::Scene;
use crate::{Digest, Tlscope, gnutls, go};

/// What each side sends.
const SIZES: [usize; 2] = [3000, 20_000];

/// They run, and wait for a word.
#[derive(Debug)]
pub struct Waiting {
    go: Program,
    /// On OpenSSL, on GnuTLS, and a server on NSS.
    peers: [RunningPeer; 3],
    /// Debian's NSS writes no key log. This one, on OpenSSL, asks it, and is not looked at.
    asks_nss: Peer,
    logs: Vec<Peer>,
    go_log: std::path::PathBuf,
}

/// One side of one connection, by its own account.
#[derive(Debug)]
pub struct End {
    pub pid: u32,
    pub fd: i32,
    pub local: String,
    pub remote: String,
    /// As `Direction` counts: received, sent.
    pub streams: [Digest; 2],
}

#[derive(Debug)]
pub struct Mixture {
    pub ends: Vec<End>,
    pub keylog: KeyLog,
}

impl Waiting {
    #[track_caller]
    pub fn start(scene: &Scene, go_program: &Path) -> Self {
        let [up, down] = SIZES;
        let go_log = scene.fresh("go.keylog");
        let arguments = format!("-wait -sizes 1,{down} -keylog {}", go_log.display());
        let mut go = go::start(scene, go_program, &arguments);
        go.until("its pid", |p| {
            p.stdout_so_far().ends_with(b"\n").then_some(())
        });
        let logs = [Peer::default(), gnutls::peer()];
        let logs = logs.map(|peer| peer.keylogs(scene).set("wait").sizes(up, down));
        let nss = NssPeer::default().set("serve").sizes(up, down);
        let nss = nss.start(scene);
        let asks_nss = Peer::default().keylogs(scene).with("role", "client");
        Self {
            go,
            asks_nss: asks_nss.with("port", nss.port).sizes(up, down),
            peers: [logs[0].start(scene), logs[1].start(scene), nss],
            logs: logs.into(),
            go_log,
        }
    }

    /// `tlscope all`, of these programs alone.
    #[must_use]
    pub fn watched_by(&self, tlscope: Tlscope) -> Tlscope {
        let pids = self.peers.iter().map(|peer| peer.pid);
        pids.chain([self.go.pid()]).fold(tlscope, Tlscope::pid)
    }

    #[track_caller]
    pub fn talk(mut self, scene: &Scene) -> Mixture {
        self.go.say(b"go\n");
        for peer in &mut self.peers[..2] {
            peer.go();
        }
        drop(self.asks_nss.run(scene));
        let talks = self.peers.map(RunningPeer::finish);
        let go = go::end(self.go);
        let of_talks = talks.iter().flat_map(|talk| {
            talk.sides.iter().map(|side| End {
                pid: talk.pid,
                fd: side.fd,
                local: side.local.clone(),
                remote: side.remote.clone(),
                streams: [side.received(), side.sent()],
            })
        });
        let of_go = go.sides.iter().map(|side| End {
            pid: go.pid,
            fd: side.fd,
            local: side.local.clone(),
            remote: side.remote.clone(),
            streams: [side.received(), side.sent()],
        });
        let logs = self.logs.iter().chain([&self.asks_nss]).map(Peer::logged);
        Mixture {
            ends: of_talks.chain(of_go).collect(),
            keylog: logs.fold(KeyLog::read(&self.go_log), |all, log| all.union(&log)),
        }
    }
}

impl Mixture {
    /// Every byte of every end, where it says that it sent and received it.
    #[track_caller]
    pub fn assert_captured(&self, records: &Records) {
        assert_eq!(self.ends.len(), 7, "two each, and a server");
        records.assert_lossless();
        for end in &self.ends {
            let shown = records.between(end.pid, &end.local, &end.remote);
            let digests = [shown.received.digest(), shown.sent.digest()];
            assert_eq!(
                (&digests, shown.fd),
                (&end.streams, Some(end.fd)),
                "{end:?}"
            );
        }
    }
}
