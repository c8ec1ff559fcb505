//! Which file names are worth a look, per module: data only.

/// Where libraries of a kind are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// Shared libraries by file name: those that are mapped, and those that the loader finds.
    pub names: &'static [NamePattern],
    /// Whatever a process maps as code, too: a program may hold the library itself.
    pub any_code: bool,
}

/// Names for `tlscope tls`: OpenSSL, `LibreSSL` and `BoringSSL` as shared libraries.
/// `libssl3.so` is NSS and matches none of them.
pub const OPENSSL: &[NamePattern] = &[
    // Distributions, Android and most bundles.
    NamePattern("libssl.so*"),
    // Python wheels carry a hash: libssl-cdf7ba29.so.1.0.2k
    NamePattern("libssl-*.so*"),
    // The copy inside Android's network stack: stable_cronet_libssl.so
    NamePattern("*_libssl.so"),
    // BoringSSL under a name of its own.
    NamePattern("libboringssl*.so*"),
    NamePattern("boringssl*.so*"),
];

/// Names for `tlscope gnutls`.
/// `libgnutls-dane.so` and `libgnutls-openssl.so` hold no TLS of their own: what follows the dash
/// must be a hash, as Python wheels carry one.
pub const GNUTLS: &[NamePattern] = &[NamePattern("libgnutls.so*"), NamePattern("libgnutls-#.so*")];

/// Names for `tlscope nss`: the TLS library, and the token that derives its keys.
pub const NSS: &[NamePattern] = &[NamePattern("libssl3*.so"), NamePattern("libsoftokn3*.so")];

/// A file name in which `*` stands for any run of bytes, also an empty one, and `#` for a run of
/// hexadecimal digits, which the rest of the name follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamePattern(pub &'static str);

impl NamePattern {
    pub fn matches(self, name: &[u8]) -> bool {
        if let Some((head, rest)) = self.0.split_once('#') {
            let digits = |after: &&[u8]| after.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            let after = name.strip_prefix(head.as_bytes());
            return after.is_some_and(|after| match digits(&after) {
                0 => false,
                length => Self(rest).matches(&after[length..]),
            });
        }
        let mut parts = self.0.as_bytes().split(|&b| b == b'*');
        let head = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(head) else {
            return false;
        };
        let Some(tail) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            match find(rest, part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(tail)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> bool {
        OPENSSL.iter().any(|p| p.matches(name.as_bytes()))
    }

    #[test]
    fn libraries_are_candidates() {
        for name in [
            "libssl.so",
            "libssl.so.3",
            "libssl.so.1.0.2k",
            "libssl.so.0",
            "libssl-cdf7ba29.so.1.0.2k",
            "libssl-6fd3d1d0.so.3",
            "stable_cronet_libssl.so",
            "libboringssl.so",
        ] {
            assert!(candidate(name), "{name}");
        }
    }

    #[test]
    fn others_are_not() {
        for name in [
            "libssl3.so",
            "libc.so.6",
            "libssl",
            "libssl.a",
            "libssl3-x.so",
            "xlibssl.so",
            "",
        ] {
            assert!(!candidate(name), "{name}");
        }
    }

    #[test]
    fn a_hash_is_hexadecimal() {
        let candidate = |name: &str| GNUTLS.iter().any(|p| p.matches(name.as_bytes()));
        assert!(candidate("libgnutls.so.30.34.3"));
        assert!(candidate("libgnutls-6fd3d1d0.so.30.34.3"));
        for name in [
            "libgnutls-dane.so.0",
            "libgnutls-openssl.so.27",
            "libgnutls-.so",
            "libgnutlsxx.so.30",
        ] {
            assert!(!candidate(name), "{name}");
        }
    }

    #[test]
    fn parts_match_in_order_and_do_not_overlap() {
        assert!(NamePattern("a*b*c").matches(b"a1b2c"));
        assert!(NamePattern("a*b*c").matches(b"abc"));
        assert!(!NamePattern("a*b*c").matches(b"acb"));
        assert!(!NamePattern("ab*bc").matches(b"abc"));
        assert!(NamePattern("abc").matches(b"abc"));
        assert!(!NamePattern("abc").matches(b"abcd"));
    }
}
