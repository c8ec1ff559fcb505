//! Names of files in turn: as tcpdump names them.

use std::path::{Path, PathBuf};

use chrono::{Local, TimeZone};
use tlscope_core::event::Timestamp;

use crate::config::Rotation;

#[derive(Debug)]
pub(super) struct FileNames {
    pattern: PathBuf,
    rotation: Rotation,
    /// Files begun so far, and of those the ones in this period of -G.
    begun: u32,
    in_period: u32,
    period: Option<Timestamp>,
}

impl FileNames {
    pub(super) fn new(pattern: &Path, rotation: Rotation) -> Self {
        Self {
            pattern: pattern.to_path_buf(),
            rotation,
            begun: 0,
            in_period: 0,
            period: None,
        }
    }

    /// -G with -W ends after so many files; -C with -W goes round for ever.
    pub(super) fn was_last(&self) -> bool {
        let by_time = self.rotation.every.is_some() && self.rotation.bytes.is_none();
        by_time && self.rotation.files.is_some_and(|files| self.begun >= files)
    }

    pub(super) fn next(&mut self, now: Timestamp) -> PathBuf {
        let stem = match self.rotation.every {
            None => self.pattern.clone(),
            Some(every) => {
                if self.period.is_none_or(|began| now.since(began) >= every) {
                    self.period = Some(now);
                    self.in_period = 0;
                }
                at_time(&self.pattern, self.period.unwrap_or(now))
            }
        };
        let name = self.numbered(&stem);
        self.begun = self.begun.saturating_add(1);
        self.in_period = self.in_period.saturating_add(1);
        name
    }

    /// -C: no number, 1, 2 ...; with -W, 0 ... W-1 in as many digits as W-1 has.
    fn numbered(&self, stem: &Path) -> PathBuf {
        let mut name = stem.as_os_str().to_owned();
        match (self.rotation.bytes, self.rotation.files) {
            (None, _) => {}
            (Some(_), None) if self.in_period == 0 => {}
            (Some(_), None) => name.push(self.in_period.to_string()),
            (Some(_), Some(files)) => {
                let digits = (files - 1).to_string().len();
                name.push(format!("{:0digits$}", self.in_period % files));
            }
        }
        name.into()
    }
}

/// In local time. A conversion that does not exist leaves the name as it is.
fn at_time(pattern: &Path, time: Timestamp) -> PathBuf {
    use std::fmt::Write;
    let Some(text) = pattern.to_str() else {
        return pattern.to_path_buf();
    };
    let local = Local.timestamp_nanos(i64::try_from(time.0).unwrap_or(i64::MAX));
    let mut name = String::new();
    match write!(name, "{}", local.format(text)) {
        Ok(()) => name.into(),
        Err(_) => pattern.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn names(pattern: &str, rotation: Rotation, times: &[u64]) -> Vec<String> {
        let mut names = FileNames::new(Path::new(pattern), rotation);
        let name = |seconds: &u64| {
            let path = names.next(Timestamp(seconds * 1_000_000_000));
            path.to_string_lossy().into_owned()
        };
        times.iter().map(name).collect()
    }

    #[test]
    fn by_size() {
        let mut rotation = Rotation {
            bytes: Some(1),
            ..Rotation::default()
        };
        assert_eq!(names("a", rotation, &[0, 0, 0]), ["a", "a1", "a2"]);
        rotation.files = Some(11);
        assert_eq!(names("a", rotation, &[0; 12])[9..], ["a09", "a10", "a00"]);
    }

    #[test]
    fn by_time() {
        let rotation = Rotation {
            every: Some(Duration::from_secs(10)),
            files: Some(2),
            ..Rotation::default()
        };
        let made = names("a-%s-%%", rotation, &[100, 110]);
        assert_eq!(made, ["a-100-%", "a-110-%"]);
        let mut names = FileNames::new(Path::new("a"), rotation);
        names.next(Timestamp(0));
        assert!(!names.was_last());
        names.next(Timestamp(0));
        assert!(names.was_last());
    }

    #[test]
    fn by_size_within_a_period() {
        let rotation = Rotation {
            bytes: Some(1),
            every: Some(Duration::from_secs(10)),
            files: None,
        };
        let made = names("%s.", rotation, &[100, 101, 110, 111]);
        assert_eq!(made, ["100.", "100.1", "110.", "110.1"]);
    }
}
