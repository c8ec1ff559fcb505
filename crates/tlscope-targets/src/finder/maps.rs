//! `/proc/PID/maps`, line by line; lines that are not as expected are passed over.

use std::borrow::Cow;

use crate::image::ImageId;

/// A mapping of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping<'a> {
    range: &'a str,
    pub image: ImageId,
    pub executable: bool,
    /// Without the kernel's ` (deleted)`.
    pub path: Cow<'a, [u8]>,
}

impl Mapping<'_> {
    /// The name under `/proc/PID/map_files`: it has no leading zeros, maps has.
    pub(super) fn range(&self) -> String {
        let bare = |s: &str| match s.trim_start_matches('0') {
            "" => "0".to_owned(),
            bare => bare.to_owned(),
        };
        let (start, end) = self.range.split_once('-').unwrap_or_default();
        format!("{}-{}", bare(start), bare(end))
    }
}

pub(super) fn parse(maps: &[u8]) -> impl Iterator<Item = Mapping<'_>> {
    maps.split(|&b| b == b'\n').filter_map(parse_line)
}

/// `start-end perms offset major:minor inode      /path`.
fn parse_line(line: &[u8]) -> Option<Mapping<'_>> {
    let mut fields = line.splitn(6, |&b| b == b' ');
    let range = std::str::from_utf8(fields.next()?).ok()?;
    let executable = fields.next()?.get(2) == Some(&b'x');
    let dev = std::str::from_utf8(fields.nth(1)?).ok()?;
    let ino = std::str::from_utf8(fields.next()?).ok()?;
    let rest = fields.next()?;
    let path = &rest[rest.iter().position(|&b| b != b' ')?..];
    // It becomes a name below `/proc/PID/map_files`.
    let (start, end) = range.split_once('-')?;
    let is_hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
    if path.first() != Some(&b'/') || !is_hex(start) || !is_hex(end) {
        return None;
    }
    let (major, minor) = dev.split_once(':')?;
    let hex = |s| u32::from_str_radix(s, 16).ok();
    let image = ImageId {
        dev: (hex(major)?, hex(minor)?),
        ino: ino.parse().ok()?,
    };
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Some(Mapping {
        range,
        image,
        executable,
        path: unescape(path),
    })
}

/// The kernel writes a newline in a path as `\012` and leaves all else alone.
fn unescape(path: &[u8]) -> Cow<'_, [u8]> {
    const NEWLINE: &[u8] = b"\\012";
    if !path.contains(&b'\\') {
        return Cow::Borrowed(path);
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, others)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(NEWLINE) {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(first);
            rest = others;
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
7f234ea98000-7f234eaf5000 r-xp 0001f000 fe:00 10019007                   /tmp/a b/libssl.so.3 (deleted)
7f234eaf5000-7f234eaf6000 rw-p 00000000 00:00 0
7ffc12345000-7ffc12366000 rw-p 00000000 00:00 0                          [stack]
7f0000000000-7f0000001000 r-xp 00000000 00:27 5                          /odd\\012name\\x
";

    #[test]
    fn file_mappings_only() {
        let all: Vec<_> = parse(MAPS).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(
            all[0].image,
            ImageId {
                dev: (8, 2),
                ino: 173_521
            }
        );
        assert_eq!(all[0].range(), "400000-452000");
        assert_eq!(&*all[1].path, b"/tmp/a b/libssl.so.3");
        assert_eq!(
            all[1].image,
            ImageId {
                dev: (0xfe, 0),
                ino: 10_019_007
            }
        );
        assert_eq!(all[1].range(), "7f234ea98000-7f234eaf5000");
        assert_eq!(&*all[2].path, b"/odd\nname\\x");
    }

    #[test]
    fn our_own_maps_name_our_own_file() {
        let maps = std::fs::read("/proc/self/maps").unwrap();
        let exe = std::env::current_exe().unwrap();
        let id = ImageId::of(&std::fs::metadata(&exe).unwrap());
        assert!(parse(&maps).any(|m| m.image == id));
    }

    #[test]
    fn no_damage_panics() {
        let mut random = crate::finder::tests::Random(7);
        for _ in 0..20_000 {
            let mut maps = MAPS.to_vec();
            for _ in 0..=random.below(6) {
                let at = random.below(maps.len());
                maps[at] = b"\0 -/:\n\\0f\xff"[random.below(10)];
            }
            maps.truncate(random.below(maps.len()) + 1);
            for mapping in parse(&maps) {
                assert!(!mapping.path.is_empty());
                let _ = mapping.range();
            }
        }
    }
}
