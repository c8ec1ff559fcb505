//! Captures of packets, read back by programs that are not ours: tshark in a
//! single pass, with nothing but the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::{must, tool};
use crate::{Capture, Captured, Digest, Scene, Tlscope};

/// tshark, which wants no words of its own on stderr.
#[must_use]
pub fn tshark() -> Command {
    let mut command = tool("tshark", "tshark");
    command.stdin(Stdio::null());
    // A key log named in the environment would decrypt in our place.
    command.env_remove("SSLKEYLOGFILE");
    // A loaded machine retransmits, and without this tshark 4.0 loses the stream
    // there, in a file of tcpdump as in ours.
    command.args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    // tshark goes by port numbers before it looks at content, and clients get
    // their ports at random: of 32768-60999 it takes 34980 for EtherCAT, 48898
    // for AMS, and five more. Of 200 connections one has such a port in 7% of runs.
    command.args(["-d", "tcp.port==1-65535,tls"]);
    command
}

/// A running capture into a file.
#[derive(Debug)]
pub struct PacketCapture {
    capture: Capture,
    path: PathBuf,
}

impl PacketCapture {
    /// `tlscope tls -m pcap -i INTERFACE`; `filter` in words.
    #[track_caller]
    pub fn start(scene: &Scene, interface: &str, filter: &str) -> Self {
        Self::start_with(Tlscope::pcap(interface), scene, filter)
    }

    #[track_caller]
    pub fn start_with(tlscope: Tlscope, scene: &Scene, filter: &str) -> Self {
        let path = scene.fresh("capture.pcapng");
        let tlscope = tlscope.arg("-w").arg(&path);
        let capture = tlscope.args(filter.split_whitespace()).start(scene);
        Self { capture, path }
    }

    pub fn running(&mut self) -> &mut Capture {
        &mut self.capture
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ctrl-C, and the file that is left.
    #[track_caller]
    pub fn stop(self) -> (PcapFile, Captured) {
        let captured = self.capture.stop();
        (PcapFile::at(&self.path), captured)
    }

    #[track_caller]
    pub fn end(self) -> (PcapFile, Captured) {
        let captured = self.capture.end();
        (PcapFile::at(&self.path), captured)
    }
}

/// A number of the summary, by its name.
#[track_caller]
pub fn counted(captured: &Captured, name: &str) -> u64 {
    let stderr = &captured.finished.stderr;
    let line = stderr.lines().find(|line| line.trim_end().ends_with(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name:?} in:\n{stderr}"))
}

/// Key material of other programs: counted with the same label or not at all.
#[derive(Debug, Clone)]
pub struct PcapFile {
    path: PathBuf,
    /// What tshark is told of ports besides, as its `-d` has it.
    rules: Vec<String>,
}

impl PcapFile {
    #[track_caller]
    pub fn at(path: &Path) -> Self {
        assert!(path.is_file(), "{} is not there", path.display());
        Self {
            path: path.to_path_buf(),
            rules: Vec::new(),
        }
    }

    /// The whole blocks of a file that is being written: a reader may meet half of one, and tshark
    /// fails there. `None` while there is none.
    #[track_caller]
    pub fn so_far(&self) -> Option<Self> {
        let bytes = fs::read(&self.path).expect("the capture");
        let whole = bytes.len() - Blocks::read(&bytes)?.rest;
        let path = self.path.with_extension("so-far");
        fs::write(&path, &bytes[..whole]).expect("a part of the capture");
        Some(Self {
            path,
            rules: self.rules.clone(),
        })
    }

    /// With what runs on a port: `udp.port==4433,quic`.
    #[must_use]
    pub fn read_as(mut self, rule: &str) -> Self {
        self.rules.push(rule.to_owned());
        self
    }

    fn tshark(&self) -> Command {
        let mut command = tshark();
        for rule in &self.rules {
            command.args(["-d", rule]);
        }
        command.arg("-r").arg(&self.path);
        command
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One row for each packet that the display filter lets through. Values of
    /// a field that a packet has several times stand together, with commas.
    #[track_caller]
    pub fn rows(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let mut command = self.tshark();
        command.args(["-T", "fields"]);
        if !filter.is_empty() {
            command.args(["-Y", filter]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let text = String::from_utf8_lossy(&must(&mut command)).into_owned();
        let row = |line: &str| line.split('\t').map(str::to_owned).collect();
        text.lines().map(row).collect()
    }

    #[track_caller]
    pub fn count(&self, filter: &str) -> usize {
        self.rows(filter, &["frame.number"]).len()
    }

    /// Ends of TCP connections that sent such a packet. On a loaded machine some are sent again.
    #[track_caller]
    pub fn senders(&self, filter: &str) -> usize {
        let rows = self.rows(filter, &["tcp.stream", "tcp.srcport"]);
        rows.into_iter().collect::<BTreeSet<_>>().len()
    }

    /// URIs of the HTTP/1 and HTTP/2 requests, and how many answers were 200.
    #[track_caller]
    pub fn http(&self) -> (Vec<String>, usize) {
        let requests = self.rows(
            "http.request or http2.headers.path",
            &["http.request.uri", "http2.headers.path"],
        );
        let uris = requests.into_iter().flat_map(|row| {
            let all = row.join(",");
            let words: Vec<_> = all.split(',').map(str::to_owned).collect();
            words.into_iter().filter(|uri| !uri.is_empty())
        });
        let answers = self.rows(
            "http.response.code == 200 or http2.headers.status == 200",
            &["http.response.code", "http2.headers.status"],
        );
        let answered = answers.iter().flatten();
        let answered = answered.flat_map(|values| values.split(','));
        (
            uris.collect(),
            answered.filter(|value| *value == "200").count(),
        )
    }

    /// Bodies that were carried by HTTP, whichever version: digests with their number.
    #[track_caller]
    pub fn bodies(&self, scene: &Scene) -> BTreeMap<String, usize> {
        let directory = scene.fresh("objects");
        let mut command = self.tshark();
        command.arg("-q");
        command
            .arg("--export-objects")
            .arg(format!("http,{}", directory.display()));
        must(&mut command);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&directory)
            .expect("exported objects")
            .flatten()
        {
            let content = fs::read(entry.path()).expect("an exported object");
            *found.entry(Digest::of(&content).sha256).or_insert(0) += 1;
        }
        fs::remove_dir_all(&directory).expect("remove exported objects");
        found
    }

    /// Bodies of HTTP/2 answers in more than one DATA frame, as `bodies` has the others.
    #[track_caller]
    pub fn bodies_h2(&self) -> BTreeMap<String, usize> {
        const BODY: &str = "http2.body.reassembled.data";
        let mut found = BTreeMap::new();
        for row in self.rows(BODY, &[BODY]) {
            *found.entry(Digest::of(&unhex(&row[0])).sha256).or_insert(0) += 1;
        }
        found
    }

    /// The plaintext of one connection: what the client sent, what the server did.
    #[track_caller]
    pub fn plaintext(&self, stream: usize, client: &str) -> [Vec<u8>; 2] {
        let one = (stream, client.to_owned());
        self.plaintexts(&[one]).remove(0)
    }

    /// The plaintext of each connection, by one tshark.
    #[track_caller]
    pub fn plaintexts(&self, connections: &[(usize, String)]) -> Vec<[Vec<u8>; 2]> {
        let mut command = self.tshark();
        command.arg("-q");
        for (stream, _) in connections {
            command.args(["-z", &format!("follow,tls,raw,{stream}")]);
        }
        let text = String::from_utf8_lossy(&must(&mut command)).into_owned();
        let of = |(stream, client): &(usize, String)| followed(part_of(&text, *stream), client);
        connections.iter().map(of).collect()
    }

    /// The connections, by number, with the client's port.
    #[track_caller]
    pub fn connections(&self) -> Vec<(usize, String)> {
        clients(&self.rows(HELLO, &OF_HELLO))
    }

    /// As `connections` and `plaintexts` of so many connections, which are all: by one tshark.
    #[track_caller]
    pub fn conversations(&self, count: usize) -> Vec<(String, [Vec<u8>; 2])> {
        let mut command = self.tshark();
        command.args(["-T", "fields", "-Y", HELLO]);
        for field in OF_HELLO {
            command.args(["-e", field]);
        }
        for stream in 0..count {
            command.args(["-z", &format!("follow,tls,raw,{stream}")]);
        }
        let text = String::from_utf8_lossy(&must(&mut command)).into_owned();
        let (rows, parts) = text.split_once("\n=").unwrap_or_default();
        let rows: Vec<Vec<String>> = rows
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect();
        let of = |(stream, client): (usize, String)| {
            let sides = followed(part_of(parts, stream), &client);
            (client, sides)
        };
        clients(&rows).into_iter().map(of).collect()
    }

    /// What `capinfos` says under this name, in all its lines.
    #[track_caller]
    pub fn info(&self, name: &str) -> Vec<String> {
        let mut command = tool("capinfos", "wireshark-common");
        let text = String::from_utf8_lossy(&must(command.arg(&self.path))).into_owned();
        text.lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(['=', ':'])?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
            .collect()
    }

    #[track_caller]
    pub fn blocks(&self) -> Blocks {
        let bytes = fs::read(&self.path).expect("the capture");
        Blocks::read(&bytes).expect("a block")
    }
}

/// The blocks of a pcapng, walked by their lengths alone.
#[derive(Debug)]
pub struct Blocks {
    /// Type and body of each.
    pub all: Vec<(u32, Vec<u8>)>,
    /// Bytes after the last whole block.
    pub rest: usize,
}

pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub const NAME_RESOLUTION: u32 = 4;
pub const INTERFACE_STATISTICS: u32 = 5;
pub const ENHANCED_PACKET: u32 = 6;
pub const DECRYPTION_SECRETS: u32 = 10;

impl Blocks {
    /// `None` where there is not one that is whole.
    #[track_caller]
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let word = |bytes: &[u8], at: usize| {
            let word = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(word))
        };
        let mut all = Vec::new();
        while let (Some(kind), Some(length)) = (word(bytes, 0), word(bytes, 4)) {
            let length = length as usize;
            assert!(
                length >= 12 && length.is_multiple_of(4),
                "block of {length}"
            );
            if bytes.len() < length {
                break;
            }
            assert_eq!(word(bytes, length - 4), Some(length as u32), "both lengths");
            all.push((kind, bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        assert_eq!(all.first()?.0, SECTION_HEADER);
        Some(Self {
            all,
            rest: bytes.len(),
        })
    }

    pub fn count(&self, kind: u32) -> usize {
        self.all.iter().filter(|block| block.0 == kind).count()
    }

    /// All lines of all Decryption Secrets Blocks.
    #[track_caller]
    pub fn secrets(&self) -> String {
        let of = |block: &&(u32, Vec<u8>)| block.0 == DECRYPTION_SECRETS;
        let text = |(_, body): &(u32, Vec<u8>)| {
            assert_eq!(body[..4], 0x544c_534b_u32.to_ne_bytes(), "a TLS key log");
            let length = u32::from_ne_bytes(body[4..8].try_into().expect("4 bytes"));
            String::from_utf8_lossy(&body[8..8 + length as usize]).into_owned()
        };
        self.all.iter().filter(of).map(text).collect()
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map_while(byte).collect()
}

const HELLO: &str = "tls.handshake.type == 1";
const OF_HELLO: [&str; 4] = ["tcp.stream", "ip.src", "ipv6.src", "tcp.srcport"];

/// Number and client of each connection, by its hellos.
#[track_caller]
fn clients(rows: &[Vec<String>]) -> Vec<(usize, String)> {
    let of = |row: &Vec<String>| {
        let stream = row[0].parse().expect("a stream");
        (stream, address(&row[1], &row[2], &row[3]))
    };
    let mut found: Vec<_> = rows.iter().filter(|row| row.len() == 4).map(of).collect();
    found.dedup();
    found
}

/// As tlscope and the peers write it; a packet has one of the two.
pub fn address(v4: &str, v6: &str, port: &str) -> String {
    if v6.is_empty() {
        format!("{v4}:{port}")
    } else {
        format!("[{v6}]:{port}")
    }
}

/// What tshark says of a stream that it was told to follow, and what comes behind that.
fn part_of(text: &str, stream: usize) -> &str {
    let head = format!("\nFilter: tcp.stream eq {stream}\n");
    text.split_once(&head).map_or("", |(_, part)| part)
}

/// What follows the head of a stream in tshark's output, up to the stream's end.
fn followed(part: &str, client: &str) -> [Vec<u8>; 2] {
    let (nodes, lines) = part.split_once("Node 1").unwrap_or_default();
    // Node 0 is who sent data first; the lines of the other are indented.
    let client_first = nodes.contains(&format!("Node 0: {client}\n"));
    let mut sides = [Vec::new(), Vec::new()];
    for line in lines
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('='))
    {
        let by_client = line.starts_with('\t') != client_first;
        sides[usize::from(!by_client)].extend(unhex(line.trim()));
    }
    sides
}
