//! `ClientHello` and `ServerHello` (RFC 8446, section 4.1): total parsers.

use super::{ClientRandom, Version};
use crate::reader::Reader;

const SERVER_NAME: u16 = 0;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS13: u16 = 0x0304;
const DTLS_MAJOR: u16 = 0xfe;

/// SHA-256 of "HelloRetryRequest": a `ServerHello` with this random is one.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    pub random: ClientRandom,
    /// Only what can be a host name: it goes into a file that others read.
    pub server_name: Option<String>,
    /// The client offers early data, so packets of its own may follow encrypted.
    pub early_data: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerHello {
    pub version: Version,
    /// The server asks for another `ClientHello` and decides nothing yet.
    pub retry: bool,
}

/// The body of a handshake message of type 1, of TLS or DTLS. A body cut in its
/// extensions still gives the random.
pub fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut rest = Reader(body);
    let legacy_version = rest.u16()?;
    let mut hello = ClientHello {
        random: *rest.take(32)?.first_chunk()?,
        server_name: None,
        early_data: false,
    };
    let _session_id = rest.vector8()?;
    if legacy_version >> 8 == DTLS_MAJOR {
        let _cookie = rest.vector8()?;
    }
    let _cipher_suites = rest.vector16()?;
    let _compression = rest.vector8()?;
    for (kind, content) in extensions(&mut rest) {
        match kind {
            SERVER_NAME => hello.server_name = server_name(content),
            EARLY_DATA => hello.early_data = true,
            _ => {}
        }
    }
    Some(hello)
}

/// The body of a handshake message of type 2.
pub fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let mut rest = Reader(body);
    let _legacy_version = rest.u16()?;
    let random = rest.take(32)?;
    let _session_id = rest.vector8()?;
    let _cipher_suite = rest.u16()?;
    let _compression = rest.take(1)?;
    let selected = extensions(&mut rest)
        .find(|(kind, _)| *kind == SUPPORTED_VERSIONS)
        .and_then(|(_, content)| Reader(content).u16());
    // Drafts of TLS 1.3 are 0x7fNN; they schedule keys as the final version does.
    let tls13 = selected.is_some_and(|version| version == TLS13 || version >> 8 == 0x7f);
    Some(ServerHello {
        version: if tls13 {
            Version::Tls13
        } else {
            Version::Tls12
        },
        retry: random == RETRY,
    })
}

/// Ends at the first extension that is not whole.
fn extensions<'a>(rest: &mut Reader<'a>) -> impl Iterator<Item = (u16, &'a [u8])> {
    let mut list = Reader(rest.vector16().unwrap_or_default());
    std::iter::from_fn(move || Some((list.u16()?, list.vector16()?)))
}

/// The first name of type `host_name` (RFC 6066, section 3).
fn server_name(extension: &[u8]) -> Option<String> {
    const HOST_NAME: u8 = 0;
    const NAME_MAX: usize = 255;
    let mut list = Reader(Reader(extension).vector16()?);
    while let Some(kind) = list.u8() {
        let name = list.vector16()?;
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
        let sound = (1..=NAME_MAX).contains(&name.len()) && name.iter().all(allowed);
        if kind == HOST_NAME {
            return sound.then(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests;
