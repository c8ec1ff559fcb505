//! The plan of an image: data only.
//!
//! A plan says where to probe (`Probe`: a role and a file offset) and which
//! layout values the probes need (`Layout`). Each value carries the evidence it
//! was derived from; what could not be derived is listed by name in `missing`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::elf::{Address, FileOffset};

/// Everything tlscope needs to know about one image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Plan {
    pub family: Family,
    pub arch: Arch,
    /// Shown to the user; decides nothing.
    pub version: Option<String>,
    /// The library that it needs, and that this version was found in, where it is not its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_of: Option<String>,
    /// The GNU build id in lower-case hexadecimal.
    pub build_id: Option<String>,
    /// How the family was recognised.
    pub recognised_by: String,
    pub probes: Vec<Probe>,
    /// Functions that need no probe, because what they carry passes through a probed one.
    pub covered: Vec<Covered>,
    pub layout: Layout,
    pub missing: Vec<Missing>,
}

impl Plan {
    /// The probes that carry plaintext.
    pub fn data_probes(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|p| p.role.is_data())
    }

    /// Whether the image is a PKCS #11 token alone, which serves a TLS library in another image.
    pub fn is_token(&self) -> bool {
        !self.probes.is_empty() && self.probes.iter().all(|p| p.role.is_token())
    }

    /// The probes that carry TLS secrets.
    pub fn secret_probes(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|p| p.role.is_secret())
    }
}

/// What one subcommand captures: the families that share an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    Tls,
    Gotls,
    Gnutls,
    Nss,
}

impl Module {
    pub const ALL: [Self; 4] = [Self::Tls, Self::Gotls, Self::Gnutls, Self::Nss];
}

/// A library family: one row of `library::LIBRARIES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    OpenSsl,
    LibreSsl,
    BoringSsl,
    GnuTls,
    Nss,
    Go,
}

impl Family {
    pub fn module(self) -> Module {
        match self {
            Self::OpenSsl | Self::LibreSsl | Self::BoringSsl => Module::Tls,
            Self::Go => Module::Gotls,
            Self::GnuTls => Module::Gnutls,
            Self::Nss => Module::Nss,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenSsl => "OpenSSL",
            Self::LibreSsl => "LibreSSL",
            Self::BoringSsl => "BoringSSL",
            Self::GnuTls => "GnuTLS",
            Self::Nss => "NSS",
            Self::Go => "Go crypto/tls",
        })
    }
}

/// The instruction set of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    #[serde(rename = "x86_64")]
    X86_64,
    Aarch64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

/// One place to probe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Probe {
    pub role: Role,
    /// The function's name where a symbol names it.
    pub symbol: Option<String>,
    pub address: Address,
    pub offset: FileOffset,
    /// Every return instruction of the function, for a role whose return is probed there: a
    /// return probe rewrites the stack, which Go moves. Empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returns: Vec<FileOffset>,
    /// How the place was found, for `tlscope inspect`.
    pub evidence: String,
}

/// A function that hands its work to a probed one: a probe on both would count every byte twice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Covered {
    pub symbol: String,
    /// The function that it calls.
    pub by: String,
    pub evidence: String,
}

/// What a probed function means to tlscope. Each role is one BPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `int f(SSL *, const void *buf, int num)`: returns the bytes written.
    Write,
    /// `int f(SSL *, void *buf, int num)`: returns the bytes read.
    Read,
    /// `int f(SSL *, const void *buf, size_t num, size_t *written)`: returns 1.
    WriteEx,
    /// `int f(SSL *, void *buf, size_t num, size_t *read)`: returns 1.
    ReadEx,
    /// `int f(SSL *, const void *buf, size_t num, uint64_t flags, size_t *written)`: returns 1.
    WriteEx2,
    /// `int f(SSL *)`: the handshake; the socket it touches is the connection's.
    Handshake,
    /// `SSL *f(SSL_CTX *)`: a connection object is born.
    New,
    /// `int f(session **)`: a connection object is born, and stored.
    NewAt,
    /// `int f(SSL *)`: the object is made ready for another connection, or ends for good.
    Clear,
    /// `void f(SSL *)`: the object may end here.
    Free,
    /// `int f(SSL *, int fd)`: what the library is to read, to write, or both.
    SetFd,
    /// `f(conn, const char *label, const void *secret, size_t len)`: the key-log sink, with
    /// its arguments where `Layout::sink` says.
    SecretSink,
    /// `f(SSL *, ..)`: what the master secret of a TLS 1.0 to 1.2 connection is for is about to be
    /// derived: its key block, or what the Finished messages verify. On entry the client random and
    /// the master secret stand where `Layout::client_random` and `Layout::master_secret` say,
    /// counted from the first argument: a `CLIENT_RANDOM` line. It is entered once or twice in
    /// every handshake, full or resumed, before the first encrypted record. In libraries without
    /// a sink, or whose sink does not see resumed sessions.
    KeyBlock,
    /// HKDF-Expand-Label of TLS 1.3, with its arguments where `Layout::expansion` says. Returns 1 or
    /// `true` once the secret of this label is in its output. Where there is no sink: LibreSSL has
    /// none, and a compiler may have taken OpenSSL's or BoringSSL's apart.
    ExpandLabel,
    /// `int f(SSL *, ..)`: shakes hands. What `ExpandLabel` derives inside it is of this connection.
    /// Only where `ExpandLabel` itself is not handed the connection.
    Handshaking,
    /// `int f(ctx, const struct { const uint8_t *data; .. } *)`, inside `Handshaking`: reads a
    /// `ClientHello`. Behind the two bytes of the version at `data` stands the client random, which
    /// LibreSSL's server does not keep in TLS 1.3.
    HelloBody,
    /// `PRInt32 f(sslSocket *, void *buf, PRInt32 num, PRInt32 flags)`: returns the bytes read,
    /// which stay unread if the flags hold `PR_MSG_PEEK`.
    NssRead,
    /// `f(sslSocket *, const char *label, PK11SymKey *)`: the sink of NSS. The key names an object
    /// of a token, which has the bytes: the `Token` roles see them.
    NssSecret,
    /// `C_DeriveKey`: its sixth argument is where the handle of the new key goes.
    TokenDerive,
    /// `C_UnwrapKey`: its eighth argument is where the handle of the new key goes.
    TokenUnwrap,
    /// `C_CreateObject`: its fourth argument is where the handle of the new object goes.
    TokenCreate,
    /// `f(object, CK_ATTRIBUTE_TYPE, const void *value, length)`: the value of an object that one
    /// of the calls above is making.
    TokenValue,
    /// `ssize_t f(session, int type, int, unsigned, const void *data, size_t size, ..)`: sends one
    /// record, which is plaintext of the application where the type is 23. Returns the bytes sent.
    SendRecord,
    /// The same function where `SealRecord` is probed too: what a call carries is told there.
    SendSealed,
    /// `f(session, const void *data, size_t size, ..)`, inside `SendSealed`: encrypts the record. A
    /// call that only sends on what an earlier one left behind does not come here.
    SealRecord,
    /// `ssize_t f(session, packet **)`: hands out a record, whose datum stands where
    /// `Layout::packet_size` says. Returns its length.
    ReadPacket,
    /// `func (c *Conn) writeRecordLocked(typ recordType, data []byte) (int, error)`, with the
    /// arguments where `GoAbi` says: all that is written passes here, with a lock held.
    GoWrite,
    /// `func (c *Conn) Read(b []byte) (int, error)`.
    GoRead,
    /// `func (c *Conn) Close() error`.
    GoClose,
    /// `func (c *Config) writeKeyLog(label string, clientRandom, secret []byte) error`.
    GoKeyLog,
}

impl Role {
    pub fn is_data(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::Read
                | Self::WriteEx
                | Self::ReadEx
                | Self::WriteEx2
                | Self::NssRead
                | Self::SendRecord
                | Self::SendSealed
                | Self::ReadPacket
                | Self::GoWrite
                | Self::GoRead
        )
    }

    /// Whether it is Go code: called in its own way, and by goroutines.
    pub fn is_go(self) -> bool {
        matches!(
            self,
            Self::GoWrite | Self::GoRead | Self::GoClose | Self::GoKeyLog
        )
    }

    pub fn is_secret(self) -> bool {
        matches!(
            self,
            Self::SecretSink
                | Self::KeyBlock
                | Self::ExpandLabel
                | Self::Handshaking
                | Self::HelloBody
                | Self::NssSecret
                | Self::GoKeyLog
        ) || self.is_token()
    }

    /// Serves the sink of another image, and nothing by itself.
    pub fn is_token(self) -> bool {
        matches!(
            self,
            Self::TokenDerive | Self::TokenUnwrap | Self::TokenCreate | Self::TokenValue
        )
    }
}

/// Offsets inside the library's objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Layout {
    /// From the connection (of `SecretSink`, `ExpandLabel`, or the first argument of `KeyBlock`) to
    /// the 32 bytes of the client random.
    pub client_random: Option<LayoutValue>,
    /// From the first argument of `KeyBlock` to the bytes of the master secret.
    pub master_secret: Option<LayoutValue>,
    /// From the first argument of `KeyBlock` to the length of the master secret, a little-endian
    /// integer of 32 bits at least. The value is 48 in every TLS version before 1.3; where no field
    /// tells it, there is none.
    pub master_secret_length: Option<LayoutValue>,
    /// From the packet of `ReadPacket` to the size of its datum, 32 bits; the pointer to the bytes
    /// is the word before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_size: Option<LayoutValue>,
    /// Which argument of the sink is what.
    pub sink: SinkAbi,
    /// Which argument of `ExpandLabel` is what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expansion: Option<ExpansionAbi>,
    /// In Go images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go: Option<GoLayout>,
}

/// What the probes of a Go image need to know.
///
/// A function is entered again, at its first instruction, once its stack had to grow, and the
/// stack has moved then: the stack pointer is no name for a call in flight. Its distance from
/// `g.stack.hi`, the word at `g + 8`, is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct GoLayout {
    pub abi: GoAbi,
    pub goroutine: Goroutine,
    pub key_log: GoKeyLogForm,
    /// From a `*tls.Conn` to its `net.Conn`: an interface, so a pointer to an itab and then a
    /// pointer to the value. The word at `itab + 8` is the value's type.
    pub connection: Option<LayoutValue>,
    /// The value's type, if it is a `*tls.Conn` itself: TLS within TLS.
    pub tls_type: Option<Address>,
    /// The value's type, if it is a `*net.TCPConn`.
    pub tcp_type: Option<Address>,
    /// From a `*net.TCPConn` to its file descriptor, an `int`.
    pub tcp_fd: Option<LayoutValue>,
}

impl GoLayout {
    /// Whether the same probes fit another implementation of TLS in the same image.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let path = |value: &Option<LayoutValue>| value.as_ref().map(|value| value.path.clone());
        self.abi == other.abi
            && self.goroutine == other.goroutine
            && self.key_log == other.key_log
            && path(&self.connection) == path(&other.connection)
    }
}

/// Where a probe in Go code finds its goroutine, `g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goroutine {
    /// R14 (`x86_64`) or x28 (aarch64).
    Register,
    /// At this distance from the thread pointer, FS on `x86_64`.
    ThreadLocal { offset: i64 },
    /// At the distance from the thread pointer that the loader writes to this slot of the image.
    ThreadLocalAt { slot: Address },
}

impl fmt::Display for Goroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register => f.write_str("in its register (R14 or x28)"),
            Self::ThreadLocal { offset } => write!(f, "thread-local, at {offset:+}"),
            Self::ThreadLocalAt { slot } => {
                write!(f, "thread-local, where the loader's word at {slot} says")
            }
        }
    }
}

/// What `writeKeyLog` is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GoKeyLogForm {
    /// `(c *Config) writeKeyLog(label string, clientRandom, secret []byte) error`
    Labelled,
    /// `(c *Config) writeKeyLog(clientRandom, masterSecret []byte) error`, before Go 1.12: all
    /// lines are `CLIENT_RANDOM`.
    MasterSecret,
}

impl fmt::Display for GoKeyLogForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Labelled => "writeKeyLog(label, client random, secret)",
            Self::MasterSecret => "writeKeyLog(client random, master secret)",
        })
    }
}

/// Where a Go function finds its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GoAbi {
    /// On the stack: before Go 1.17 on `x86_64`, 1.18 on aarch64. At the function's first
    /// instruction and at its returns alike, arguments start at SP + 8 and results behind them.
    Stack,
    /// In registers: AX, BX, CX, DI, SI, R8, R9, R10, R11 or x0 to x15. The results of a function
    /// take them from the first one on again.
    Register,
}

impl fmt::Display for GoAbi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stack => "on the stack",
            Self::Register => "in registers",
        })
    }
}

/// The positions of the key-log sink's arguments, counted from 0.
///
/// The default is `ssl_log_secret(conn, label, secret, len)`, the form of nearly every build.
/// Where a compiler dissolved it into its callers, the function below takes its place:
/// `nss_keylog_int(label, conn, random, random_len, secret, len)`, or a copy of it without the
/// length of the random, if that is always 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct SinkAbi {
    pub connection: u8,
    pub label: u8,
    pub secret: u8,
    pub length: u8,
    /// The argument that points at the client random, if there is one; else
    /// `Layout::client_random` says where it stands. In a line labelled `RSA` it is 8 bytes of
    /// something else: to be dropped.
    pub client_random: Option<u8>,
}

impl Default for SinkAbi {
    fn default() -> Self {
        Self {
            connection: 0,
            label: 1,
            secret: 2,
            length: 3,
            client_random: None,
        }
    }
}

/// The positions of the arguments of HKDF-Expand-Label, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct ExpansionAbi {
    /// `None`: it is not handed over, and is the one of the `Handshaking` under way.
    pub connection: Option<u8>,
    pub label: u8,
    /// `None`: the label ends in a 0.
    pub label_length: Option<u8>,
    pub output: u8,
    /// `None`: `output` points at a pointer to the bytes, and their length stands behind it.
    pub output_length: Option<u8>,
    /// Whether secrets of early data are of use. LibreSSL has none, and derives them all the same.
    pub early: bool,
}

/// A derived path and what it was derived from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct LayoutValue {
    pub path: FieldPath,
    pub evidence: String,
}

/// A walk from a pointer to a field: every offset but the last is added and
/// dereferenced, the last is added only. `[0x30, 0x30]` is `*(p + 0x30) + 0x30`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct FieldPath(pub Vec<u32>);

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, derefs)) = self.0.split_last() else {
            return f.write_str("arg");
        };
        let place = derefs.iter().fold(String::from("arg"), |place, offset| {
            format!("*({place} + {offset:#x})")
        });
        write!(f, "{place} + {last:#x}")
    }
}

/// Something the plan lacks: never guessed, always said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Missing {
    /// What is missing, in the user's words: "plaintext", "secrets", "`SSL_read_ex`".
    pub what: String,
    pub why: String,
}
