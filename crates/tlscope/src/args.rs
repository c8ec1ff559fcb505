//! Flags as typed: no I/O, no decisions.

#![allow(clippy::doc_markdown)] // doc comments here are the help text, shown as they are
#![allow(clippy::struct_excessive_bools)] // flags are

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use tlscope_core::filter::StatusRange;

use crate::capture::claim::SslVersion;

/// Shows what TLS hides: plaintext and TLS secrets of running programs, by eBPF
/// uprobes. No CA certificate, no change to the program, no restart.
///
/// Exit codes: 0 success (also Ctrl-C and a closed pipe), 1 failure, 2 usage,
/// 3 missing privilege or kernel feature, 4 nothing to probe was found.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Capture every program, whatever its TLS library: also what `tlscope` does without a
    /// subcommand
    All(Box<AllArgs>),
    /// Capture programs that use OpenSSL, LibreSSL or BoringSSL
    Tls(Box<TlsArgs>),
    /// Capture Go programs, which bring their own TLS
    Gotls(Box<GotlsArgs>),
    /// Capture programs that use GnuTLS
    Gnutls(Box<GnutlsArgs>),
    /// Capture programs that use Mozilla's NSS, as Firefox does
    #[command(visible_alias = "nspr")]
    Nss(Box<NssArgs>),
    /// Show what would be probed in a library or program, and why. Needs no root
    Inspect(InspectArgs),
    /// List the processes that use TLS, and what of it can be captured
    List(ListArgs),
    /// Show what will work on this machine, and what will not, and why
    Doctor,
    /// Answer Wireshark, which lists tlscope as an interface (see `make install-extcap`)
    #[command(hide = true)]
    Extcap(ExtcapArgs),
    /// Write the man pages and shell completions that `make install` installs
    #[command(hide = true)]
    Generate(GenerateArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AllArgs {
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TlsArgs {
    /// The library, or a program that holds it statically; repeatable [default: every libssl that
    /// a process maps or the loader would find]
    #[arg(long, value_name = "PATH")]
    pub(crate) libssl: Vec<PathBuf>,

    /// Say that the library is Android's BoringSSL. It is recognised by itself: a claim that does
    /// not fit is contradicted, not followed
    #[arg(long)]
    pub(crate) android: bool,

    /// With --android: the Android version; decides nothing, and no library tells it
    #[arg(long, value_name = "N", requires = "android", value_parser = clap::value_parser!(u8).range(12..=16))]
    pub(crate) androidver: Option<u8>,

    /// Say which library it is, as in "openssl 3.0.x" or "boringssl"; checked as --android is
    #[arg(long, value_name = "NAME")]
    pub(crate) ssl_version: Option<SslVersion>,

    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GotlsArgs {
    /// The Go program, or a library made of Go; repeatable [default: every Go program with
    /// crypto/tls that runs]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) elfpath: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GnutlsArgs {
    /// The library, or a program that holds it statically; repeatable [default: every libgnutls
    /// that a process maps or the loader would find]
    #[arg(long, value_name = "PATH")]
    pub(crate) gnutls: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NssArgs {
    /// A library of NSS; repeatable [default: all that a process maps or the loader would find]
    #[arg(long, value_name = "PATH")]
    pub(crate) nss: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
}

/// What every module takes.
#[derive(Debug, clap::Args)]
pub(crate) struct CaptureArgs {
    /// What to write
    #[arg(short, long, value_enum, default_value_t = Model::Text)]
    pub(crate) model: Model,

    /// Capture only these processes: numbers with commas between, or the flag again; 0 is every
    /// process
    #[arg(short, long, value_delimiter = ',', default_value = "0")]
    pub(crate) pid: Vec<u32>,

    /// With --pid: their children too, those that are there and those that come
    #[arg(long)]
    pub(crate) follow: bool,

    /// Capture only this user's processes: a name, a number, `=0` for root by number; 0 is every user
    #[arg(short, long, value_name = "USER", default_value = "0")]
    pub(crate) uid: User,

    /// Write the text or JSON to a file (mode 0600, overwritten); `-` is stdout. tcp://HOST:PORT
    /// streams JSON Lines to a reader that listens there, and connects again when it went away
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    /// Append the secrets to a key log (mode 0600); `-` is stdout [default in keylog mode:
    /// tlscope_MODULE_keylog.log; in the others: none]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) keylogfile: Option<PathBuf>,

    /// Show payloads as hex dumps
    #[arg(long)]
    pub(crate) hex: bool,

    /// Write payloads as they are, terminal escape sequences included
    #[arg(long, conflicts_with = "hex")]
    pub(crate) raw: bool,

    /// Write JSON Lines
    #[arg(long, conflicts_with_all = ["hex", "raw"])]
    pub(crate) json: bool,

    /// With --json: write the TLS secrets too
    #[arg(long)]
    pub(crate) secrets: bool,

    /// Show at most N bytes of each payload, and say how much was cut; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) tsize: usize,

    /// In text, tell when a connection is created, found again, scheduled for destruction and
    /// destroyed; JSON tells it in any case
    #[arg(long)]
    pub(crate) lifecycle: bool,

    /// Write all HTTP exchanges to a HAR 1.2 file besides (mode 0600, overwritten)
    #[arg(long, value_name = "FILE")]
    pub(crate) har: Option<PathBuf>,

    /// Buffer between kernel and user space, per shard (there is one per CPU, up to 8): bytes,
    /// or with a suffix K, M or G. Rounded up to a power of two
    #[arg(long, value_name = "SIZE", default_value = "16M")]
    pub(crate) mapsize: Size,

    /// BPF object: 0 picks by attempt, 1 core (BTF, ring buffers), 2 noncore (kernel 4.18)
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) btf: u8,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,

    /// Created when every probe is attached
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) ready_file: Option<PathBuf>,

    /// Say nothing on stderr but warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) forced: ForcedArgs,

    /// With -m pcap: which packets to capture, as tcpdump takes it: `tcp port 443`
    #[arg(value_name = "FILTER")]
    pub(crate) packet_filter: Vec<String>,

    /// Run a command when everything is attached, and end with it and with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) run: Vec<OsString>,

    // Last: a heading holds for all that follows.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    #[command(flatten)]
    pub(crate) turns: TurnArgs,

    #[command(flatten)]
    pub(crate) packets: PacketArgs,
}

/// For tests: what an older or a stricter kernel leaves to be picked.
#[derive(Debug, clap::Args)]
pub(crate) struct ForcedArgs {
    /// Force an attach mode instead of the best one
    #[arg(long, value_enum, value_name = "MODE", hide = true)]
    pub(crate) attach: Option<Attach>,

    /// Force a way to find sockets instead of the best one
    #[arg(long, value_enum, value_name = "ROUTE", hide = true)]
    pub(crate) sockets: Option<Sockets>,

    /// Take it that return probes kill programs under seccomp
    #[arg(long, hide = true)]
    pub(crate) filtered_returns: bool,

    /// Take it that the kernel does not tell of code that is mapped
    #[arg(long, hide = true)]
    pub(crate) untold_mappings: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CacheArgs {
    /// Analyse every image anew. Else what an earlier run learned of a file that has not changed
    /// since is taken from /run/tlscope, if tlscope runs as root
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Where it is kept
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "no_cache")]
    pub(crate) cache: Option<PathBuf>,
}

/// Each flag may be given again: one of its values must match. The summary counts all the same.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is shown (-m text)")]
pub(crate) struct FilterArgs {
    /// Only HTTP messages for this host; `*.example.org` is every host below it
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,

    /// Only HTTP messages whose path begins so
    #[arg(long, value_name = "PREFIX")]
    pub(crate) path: Vec<String>,

    /// Only HTTP messages of this method
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Vec<String>,

    /// Only HTTP responses of this status: 404, 5xx or 500-599
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Vec<StatusRange>,

    /// Only connections with this port at either end
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Vec<u16>,

    /// Only threads of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) comm: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files in turn (-o, and -w with -m pcap)")]
pub(crate) struct TurnArgs {
    /// Begin a next file when one has more than N million bytes; the names get a number
    #[arg(short = 'C', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) file_size: Option<u64>,

    /// Begin a next file every N seconds; the name may hold conversions of strftime(3)
    #[arg(short = 'G', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rotate_seconds: Option<u64>,

    /// With -C: at most N files, the oldest overwritten. With -G: end after N files
    #[arg(short = 'W', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) file_count: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Packets (-m pcap)")]
pub(crate) struct PacketArgs {
    /// The interface to capture on; `any` is all of them
    #[arg(short, long, value_name = "IF")]
    pub(crate) ifname: Option<String>,

    /// Write the pcapng file here (mode 0600, overwritten); `-` is stdout [default:
    /// tlscope_MODULE.pcapng]
    #[arg(short = 'w', long, value_name = "FILE")]
    pub(crate) pcapfile: Option<PathBuf>,

    /// Keep at most N bytes of each packet; 0 keeps 262144 [default: 0]
    #[arg(short, long, visible_alias = "snapshot-length", value_name = "N")]
    pub(crate) snaplen: Option<u32>,

    /// With -C or -G: a connection stays in the file in which it began, so that each file decrypts
    /// alone, but for no longer than N files later; 0 cuts it where files change, as tcpdump does
    /// [default: 64; with -C and -W half of -W]
    #[arg(long, value_name = "N")]
    pub(crate) drain: Option<u32>,

    /// End after N packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Longest time that packets wait for the secrets of their connection, in milliseconds
    /// [default: 1000]
    #[arg(long, value_name = "MS")]
    pub(crate) hold: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// An ELF file of x86_64 or aarch64
    pub(crate) file: PathBuf,

    /// Write the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// List only these processes
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,

    /// Write JSON Lines: an object per process and library
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// An empty directory, or one to overwrite
    pub(crate) directory: PathBuf,
}

/// Names and meanings are Wireshark's.
#[derive(Debug, clap::Args)]
pub(crate) struct ExtcapArgs {
    #[arg(long)]
    pub(crate) extcap_interfaces: bool,
    #[arg(long)]
    pub(crate) extcap_interface: Option<String>,
    #[arg(long)]
    pub(crate) extcap_dlts: bool,
    #[arg(long)]
    pub(crate) extcap_config: bool,
    #[arg(long)]
    pub(crate) extcap_capture_filter: Option<String>,
    /// Of the program that asks; the answers are the same for all.
    #[arg(long)]
    pub(crate) extcap_version: Option<String>,
    #[arg(long)]
    pub(crate) capture: bool,
    #[arg(long)]
    pub(crate) fifo: Option<PathBuf>,
    #[arg(long)]
    pub(crate) ifname: Option<String>,
    #[arg(long)]
    pub(crate) pid: Option<String>,
    #[arg(long)]
    pub(crate) uid: Option<String>,
    #[arg(long, default_value = "all")]
    pub(crate) module: String,
    #[arg(long)]
    pub(crate) library: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// Plaintext, as it is read and written
    Text,
    /// TLS secrets, as Wireshark and tshark take them
    #[value(alias = "key")]
    Keylog,
    /// Packets with the secrets that decrypt them, as Wireshark and tshark take them
    #[value(alias = "pcapng")]
    Pcap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attach {
    Session,
    Multi,
    SingleCookie,
    Single,
    Tracefs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sockets {
    Tracepoints,
    Syscall,
    Kprobes,
    None,
}

/// A user as typed. `0` means no filter, as it does for users of eCapture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    Any,
    Id(u32),
    Name(String),
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            digits
                .parse()
                .map_err(|_| format!("{digits:?} is not a user number"))
        };
        match text.strip_prefix('=') {
            Some(digits) => number(digits).map(Self::Id),
            None if text == "0" => Ok(Self::Any),
            None if text.starts_with(|c: char| c.is_ascii_digit()) => number(text).map(Self::Id),
            None if text.is_empty() => Err("a user name or number is needed".into()),
            None => Ok(Self::Name(text.into())),
        }
    }
}

/// A number of bytes, at most 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u32);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MAX: u64 = 1 << 30;
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
            Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "a size is a number, or one with K, M or G")?;
        match number.checked_mul(1 << shift) {
            Some(bytes @ 1..=MAX) => Ok(Self(bytes as u32)),
            _ => Err("a size is between 1 and 1G".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!("64k".parse(), Ok(Size(65536)));
        assert_eq!("1G".parse(), Ok(Size(1 << 30)));
        for wrong in ["", "M", "-1", "0", "2G", "1T", "99999999999999999999"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn users() {
        assert_eq!("0".parse(), Ok(User::Any));
        assert_eq!("=0".parse(), Ok(User::Id(0)));
        assert_eq!("1000".parse(), Ok(User::Id(1000)));
        assert_eq!("root".parse(), Ok(User::Name("root".into())));
        assert!("10x".parse::<User>().is_err());
        assert!("".parse::<User>().is_err());
    }

    #[test]
    fn the_flag_table_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
