//! TLS libraries that tlscope does not capture: an image that holds one is told by its name.

use memchr::memmem;

use crate::elf::Elf;

struct Other {
    name: &'static str,
    mark: Mark,
}

/// What tells the library itself from an image that only speaks of it.
enum Mark {
    Symbol(&'static str),
    /// A source file that an error or a panic names: how its path begins and goes on, with small
    /// letters, digits, `_` and `.` in between.
    Source(&'static str, &'static str),
}

const OTHERS: &[Other] = &[
    Other {
        name: "s2n-tls",
        mark: Mark::Source("tls/s2n_", ".c"),
    },
    Other {
        name: "rustls",
        mark: Mark::Source("rustls-0.", "/src/"),
    },
    Other {
        name: "Mbed TLS",
        mark: Mark::Symbol("mbedtls_ssl_handshake"),
    },
    Other {
        name: "wolfSSL",
        mark: Mark::Symbol("wolfSSL_CTX_new"),
    },
];

/// Labels of RFC 8446 and RFC 5246, of which whoever derives secrets holds one.
const LABELS: &[&str] = &["c hs traffic", "key expansion"];

/// Whether any of them may be in there; far cheaper than to look at the image.
pub(crate) fn may_hold(bytes: &[u8]) -> bool {
    let holds = |label: &&str| memmem::find(bytes, label.as_bytes()).is_some();
    bytes.starts_with(b"\x7fELF") && LABELS.iter().any(holds)
}

/// The first of these libraries that an image is found to hold.
pub(crate) fn held(elf: &Elf<'_>) -> Option<&'static str> {
    let derives = LABELS
        .iter()
        .any(|label| !elf.find_bytes(label.as_bytes(), 1).is_empty());
    let mut others = OTHERS.iter().filter(|_| derives);
    others
        .find(|other| is_marked(elf, &other.mark))
        .map(|other| other.name)
}

fn is_marked(elf: &Elf<'_>, mark: &Mark) -> bool {
    const COPIES: usize = 64;
    match mark {
        Mark::Symbol(name) => elf.symbols.get(name).is_some(),
        Mark::Source(start, end) => elf
            .find_bytes(start.as_bytes(), COPIES)
            .into_iter()
            .filter_map(|at| elf.bytes_from(at)?.get(start.len()..))
            .any(|path| goes_on(path, end.as_bytes())),
    }
}

fn goes_on(path: &[u8], end: &[u8]) -> bool {
    const LONGEST: usize = 64;
    let between = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    let path = path.get(..LONGEST).unwrap_or(path);
    let words = path
        .iter()
        .take_while(|byte| between(byte) || **byte == b'.');
    let length = words.count();
    // The end may begin with what stands in between, too. Something does: in a table like ours the
    // one text may stand right behind the other.
    (1..=length).any(|at| path.get(at..).is_some_and(|rest| rest.starts_with(end)))
}

#[cfg(test)]
mod tests {
    use crate::fixture::schedule::schedule;
    use crate::plan::Arch;
    use crate::{ImageError, analyze};

    #[test]
    fn what_derives_secrets_and_names_itself_is_told_by_its_name() {
        let image = schedule(Arch::X86_64);
        let with_text = |text: &[u8]| {
            let mut image = image.clone();
            // Of the texts of OpenSSL, the last ones are not needed.
            let at = memchr::memmem::find(&image, b"finished\0").expect("a text");
            image[at..at + text.len()].copy_from_slice(text);
            analyze(&image)
        };
        let said = with_text(b"rustls-0.23.46/src/x.rs\0");
        assert!(matches!(said, Err(ImageError::NotCaptured(name)) if name == "rustls"));
        let said = with_text(b"tls/s2n_io.c\0");
        assert!(matches!(said, Err(ImageError::NotCaptured(name)) if name == "s2n-tls"));
        for other in [&b"rustls-0. and /src/\0"[..], b"tls/s2n_ in x.c\0"] {
            let said = with_text(other);
            assert!(matches!(said, Err(ImageError::NothingFound { .. })));
        }
    }
}
