//! The plan of an image, as `tlscope inspect --json` tells it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::capture;
use crate::program::must;

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Plan {
    pub family: String,
    pub arch: String,
    pub version: Option<String>,
    pub recognised_by: String,
    pub probes: Vec<Probe>,
    pub layout: Layout,
    pub missing: Vec<Missing>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Probe {
    pub role: String,
    pub symbol: Option<String>,
    pub address: u64,
    pub offset: u64,
    /// Where a function of Go returns.
    #[serde(default)]
    pub returns: Vec<u64>,
    pub evidence: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Layout {
    pub client_random: Option<Value>,
    pub master_secret: Option<Value>,
    pub master_secret_length: Option<Value>,
    pub sink: Sink,
    pub expansion: Option<Expansion>,
    pub go: Option<GoLayout>,
}

/// The arguments of what derives secrets of TLS 1.3.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Expansion {
    /// Which one is the connection; none, where it is that of the handshake under way.
    pub connection: Option<u8>,
}

/// What only Go programs have.
#[derive(Debug, Clone, Deserialize)]
pub struct GoLayout {
    pub abi: String,
    pub goroutine: serde_json::Value,
    pub key_log: String,
    pub connection: Option<Value>,
    pub tcp_fd: Option<Value>,
}

/// The sink's arguments.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Sink {
    /// Which one points at the client random, where one does.
    pub client_random: Option<u8>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Value {
    pub path: Vec<u32>,
    pub evidence: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Missing {
    pub what: String,
    pub why: String,
}

impl Probe {
    /// What the function is called, by a symbol or by what its code tells.
    pub fn name(&self) -> Option<&str> {
        let told = || {
            let (name, _) = self.evidence.split_once(" by its code")?;
            name.rsplit(' ').next()
        };
        self.symbol.as_deref().or_else(told)
    }
}

const WRITES: [&str; 6] = [
    "write",
    "write_ex",
    "write_ex2",
    "send_record",
    "send_sealed",
    "go_write",
];
const READS: [&str; 5] = ["read", "read_ex", "read_packet", "go_read", "nss_read"];
const SECRETS: [&str; 5] = [
    "secret_sink",
    "key_block",
    "expand_label",
    "go_key_log",
    "nss_secret",
];

impl Plan {
    /// Asks `tlscope inspect`; panics with its words where there is no plan.
    #[track_caller]
    pub fn of(image: &Path) -> Self {
        let mut command = Command::new(capture::binary());
        let out = must(command.args(["inspect", "--json"]).arg(image));
        serde_json::from_slice(&out).expect("the plan as JSON")
    }

    /// What each probe is for, with the number of probes.
    pub fn roles(&self) -> BTreeSet<&str> {
        self.probes.iter().map(|p| p.role.as_str()).collect()
    }

    pub fn probe(&self, role: &str) -> Option<&Probe> {
        self.probes.iter().find(|p| p.role == role)
    }

    /// The probe of reads.
    pub fn data_probe(&self) -> Option<&Probe> {
        let roles = ["read", "read_ex", "go_read", "nss_read"];
        roles.into_iter().find_map(|role| self.probe(role))
    }

    /// Plaintext in both directions.
    pub fn has_data(&self) -> bool {
        let roles = self.roles();
        let has = |some: &[&str]| some.iter().any(|role| roles.contains(role));
        has(&READS) && has(&WRITES)
    }

    pub fn has_secrets(&self) -> bool {
        self.secrets().next().is_some()
    }

    pub fn secrets(&self) -> impl Iterator<Item = &Probe> {
        self.probes
            .iter()
            .filter(|p| SECRETS.contains(&p.role.as_str()))
    }

    /// Whether the function at a probe of secrets is handed the connection.
    pub fn is_told_connection(&self, probe: &Probe) -> bool {
        let expansion = self.layout.expansion.as_ref();
        probe.role != "expand_label" || expansion.is_none_or(|e| e.connection.is_some())
    }

    /// How many loads lead from what the probe sees to the client random; none, where the
    /// sink is handed the random itself, as Go's is.
    pub fn steps_to_random(&self) -> Option<usize> {
        if self.layout.go.is_some() {
            return Some(0);
        }
        match (&self.layout.client_random, self.layout.sink.client_random) {
            (Some(value), _) => Some(value.path.len()),
            (None, argument) => argument.map(|_| 0),
        }
    }

    #[track_caller]
    pub fn go(&self) -> &GoLayout {
        self.layout.go.as_ref().expect("the layout of a Go program")
    }

    /// The plan gives both, of the family that was expected.
    #[track_caller]
    pub fn assert_whole(&self, family: &str) {
        assert_eq!(self.family, family, "recognised by {}", self.recognised_by);
        let missing = || {
            let line = |m: &Missing| format!("{}: {}", m.what, m.why);
            let lines: Vec<_> = self.missing.iter().map(line).collect();
            lines.join("; ")
        };
        assert!(self.has_data(), "no plaintext: {}", missing());
        assert!(self.has_secrets(), "no secrets: {}", missing());
        let lacks = |what: &str| self.missing.iter().any(|missing| missing.what == what);
        assert!(!lacks("secrets of TLS 1.3"), "not all: {}", missing());
        assert!(
            self.steps_to_random().is_some(),
            "no client random: {}",
            missing()
        );
    }

    /// `tlscope inspect` says the same to people: library, architecture, and each probe with its
    /// place and its evidence.
    #[track_caller]
    pub fn assert_shown(&self, image: &Path) {
        let mut command = Command::new(capture::binary());
        let text = String::from_utf8(must(command.arg("inspect").arg(image))).expect("UTF-8");
        let shown = |words: &str| assert!(text.contains(words), "no {words:?} in:\n{text}");
        assert!(!self.recognised_by.is_empty(), "recognised by nothing");
        shown(&self.recognised_by);
        shown(self.version.as_deref().unwrap_or("not known"));
        shown(&format!("architecture  {}", self.arch));
        for probe in &self.probes {
            assert!(!probe.evidence.is_empty(), "no evidence: {probe:?}");
            shown(&format!("offset {:#x}", probe.offset));
            shown(&probe.evidence);
        }
        let values = [&self.layout.client_random, &self.layout.master_secret];
        for value in values.into_iter().flatten() {
            shown(&value.evidence);
        }
    }

    /// How plaintext and secrets were found, in a line.
    pub fn evidence(&self) -> String {
        let mut parts = vec![format!("family: {}", self.recognised_by)];
        if let Some(probe) = self.data_probe() {
            parts.push(format!("read: {}", probe.evidence));
        }
        if let Some(probe) = self.probe("send_sealed").or(self.probe("send_record")) {
            parts.push(format!("send: {}", probe.evidence));
        }
        for probe in self.secrets() {
            parts.push(format!(
                "{}: {}",
                probe.role.replace('_', " "),
                probe.evidence
            ));
        }
        match (&self.layout.client_random, self.layout.sink.client_random) {
            (Some(value), _) => parts.push(format!("client random: {}", value.evidence)),
            (None, Some(argument)) => {
                parts.push(format!("client random: argument {argument} of the sink"));
            }
            (None, None) => {}
        }
        parts.join("; ")
    }
}
