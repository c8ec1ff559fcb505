//! How a kernel fared: what its machine said, and what tshark finds in the files from there.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::time::{Duration, Instant};

use super::boot;
use super::fetch;
use super::matrix::Kernel;
use super::subjects::Stream;
use super::transcript::Line;
use crate::Digest;
use crate::pcap::PcapFile;

#[derive(Debug)]
pub struct Verdict {
    pub kernel: Kernel,
    /// What went well, and the seconds that it took.
    pub passed: Vec<(String, f64)>,
    /// Name and reason of what did not.
    pub failed: Vec<(String, String)>,
    /// Lines of `tlscope doctor`.
    pub doctor: Vec<String>,
    pub took: Duration,
}

pub fn examine(kernel: &Kernel) -> Verdict {
    let start = Instant::now();
    let mut verdict = Verdict {
        kernel: *kernel,
        passed: Vec::new(),
        failed: Vec::new(),
        doctor: Vec::new(),
        took: Duration::ZERO,
    };
    match caught(|| boot::run(kernel)) {
        Ok(Ok(lines)) => verdict.read(lines),
        Ok(Err(why)) | Err(why) => verdict.failed.push(("machine".into(), why)),
    }
    verdict.took = start.elapsed();
    verdict
}

impl Verdict {
    fn read(&mut self, lines: Vec<Line>) {
        let mut files = Vec::new();
        for line in lines {
            match line {
                Line::Passed(name, seconds) => {
                    self.passed.push((name, seconds.parse().unwrap_or(0.0)));
                }
                Line::Failed(name, why) => self.failed.push((name, why)),
                Line::Fact(name, value) if name == "doctor" => self.doctor.push(value),
                Line::File(name, bytes) => files.push((name, bytes)),
                Line::End(0) if !self.failed.is_empty() || self.passed.is_empty() => {
                    self.failed
                        .push(("machine".into(), "it told of no case".into()));
                }
                Line::End(code) if code != 0 && self.failed.is_empty() => {
                    self.failed
                        .push(("machine".into(), format!("exit code {code}")));
                }
                Line::Start | Line::Fact(..) | Line::End(_) => {}
            }
        }
        for (name, packets) in &files {
            let Some(case) = name.strip_suffix(".pcapng") else {
                continue;
            };
            let streams = files.iter().find(|file| file.0 == format!("{case}.json"));
            let name = format!("{case}:decrypted");
            match caught(|| decrypts(&self.kernel, &name, packets, &streams.expect("streams").1)) {
                Ok(()) => self.passed.push((name, 0.0)),
                Err(why) => self.failed.push((name, why)),
            }
        }
    }

    /// The first line of doctor that holds these words.
    pub fn doctor_says(&self, words: &str) -> &str {
        let line = self.doctor.iter().find(|line| line.contains(words));
        line.map_or("", |line| line.trim())
    }

    /// What doctor says that captures with an object cannot do.
    pub fn lacks(&self, object: &str) -> &str {
        let head = |line: &&String| line.starts_with(&format!("{object} object"));
        let mut lines = self.doctor.iter().skip_while(|line| !head(line));
        let lacks = lines.find_map(|line| line.trim().strip_prefix("lacks "));
        lacks.unwrap_or_default().trim()
    }

    /// What doctor says was picked by `-b 0`, and why.
    pub fn picked(&self, name: &str) -> (String, String) {
        let head = |line: &&String| line.contains("picked by -b 0");
        let mut lines = self.doctor.iter().skip_while(|line| !head(line));
        if name == "object" {
            let line = lines.next().map_or("", String::as_str);
            return (
                line.split(' ').next().unwrap_or_default().to_owned(),
                String::new(),
            );
        }
        let value = lines.find_map(|line| line.trim().strip_prefix(name));
        let (what, why) = value
            .unwrap_or_default()
            .split_once(": ")
            .unwrap_or_default();
        (what.trim().to_owned(), why.to_owned())
    }

    pub fn has_passed(&self, name: &str) -> bool {
        let failed = self.failed.iter().any(|(failed, _)| failed == name);
        !failed && self.passed.iter().any(|(passed, _)| passed == name)
    }
}

/// Every byte of every connection, by tshark with nothing but the file.
fn decrypts(kernel: &Kernel, name: &str, packets: &[u8], streams: &[u8]) {
    let name = format!("{kernel}-{name}.pcapng").replace([' ', ':'], "-");
    let path = fetch::cache().join(name);
    fs::write(&path, packets).expect("write the capture");
    let file = PcapFile::at(&path);
    let streams: BTreeMap<String, Stream> = serde_json::from_slice(streams).expect("streams");
    assert!(!streams.is_empty(), "no connection was held");
    let found: BTreeMap<_, _> = file.conversations(streams.len()).into_iter().collect();
    for (client, [sent, received]) in streams {
        let sides = found.get(&client);
        let [up, down] = sides.unwrap_or_else(|| panic!("no packets of {client}"));
        assert_eq!(Digest::of(up), sent, "sent by {client}");
        assert_eq!(Digest::of(down), received, "received by {client}");
    }
    let _ = fs::remove_file(path);
}

/// A failure of the harness is one of the case, with its words.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(panic::AssertUnwindSafe(run)).map_err(|cause| {
        let words = cause.downcast_ref::<String>().cloned();
        words.unwrap_or_else(|| {
            let words = cause.downcast_ref::<&str>().copied();
            words.unwrap_or("no words").to_owned()
        })
    })
}
