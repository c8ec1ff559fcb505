//! What a machine says on its console: lines of our own among the kernel's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const MARK: &str = "@@ ";

/// One line of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Start,
    /// A case that went well, with its seconds.
    Passed(String, String),
    /// A case that did not, and a line of why; each further line comes by itself.
    Failed(String, String),
    /// Something to show in the report.
    Fact(String, String),
    /// A file for this machine to look at.
    File(String, Vec<u8>),
    /// The exit code.
    End(i32),
}

impl Line {
    pub fn say(&self) {
        match self {
            Self::Start => println!("{MARK}start"),
            Self::Passed(name, seconds) => println!("{MARK}ok {name} {seconds}"),
            Self::Failed(name, why) => println!("{MARK}failed {name} {why}"),
            Self::Fact(name, value) => println!("{MARK}fact {name} {value}"),
            Self::File(name, bytes) => {
                println!("{MARK}file {name} {}", BASE64_STANDARD.encode(bytes));
            }
            Self::End(code) => println!("{MARK}end {code}"),
        }
    }

    /// `None` for what is not ours. The kernel may have begun the line.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, ours) = text.trim_end().split_once(MARK)?;
        let (kind, rest) = ours.split_once(' ').unwrap_or((ours, ""));
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let [name_of, value_of] = [name, value].map(str::to_owned);
        Some(match kind {
            "start" => Self::Start,
            "ok" => Self::Passed(name_of, value_of),
            "failed" => Self::Failed(name_of, value_of),
            "fact" => Self::Fact(name_of, value_of),
            "file" => Self::File(name_of, BASE64_STANDARD.decode(value).ok()?),
            "end" => Self::End(name.parse().ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_among_the_kernel_s() {
        let passed = Line::Passed("text".into(), "1.5".into());
        assert_eq!(Line::parse("@@ ok text 1.5\r\n"), Some(passed.clone()));
        assert_eq!(Line::parse("[ 1.0] oops@@ ok text 1.5"), Some(passed));
        assert_eq!(Line::parse("[ 1.0] random: crng init done"), None);
        let file = Line::File("a.pcapng".into(), b"bytes".to_vec());
        assert_eq!(Line::parse("@@ file a.pcapng Ynl0ZXM="), Some(file));
        assert_eq!(Line::parse("@@ file a.pcapng Ynl0ZXM"), None, "a cut file");
    }
}
