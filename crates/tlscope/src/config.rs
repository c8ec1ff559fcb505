//! Flags made into a configuration in which everything fits together.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::geteuid;
use tlscope_core::filter::Filter;
use tlscope_core::sink::Payload;
use tlscope_image::plan::Module;
use tlscope_probe::packets::{SNAPSHOT_MAX, check_expression};
use tlscope_probe::{AttachMode, Needs, ObjectKind, Roles, SocketRoute};

use crate::args::{Attach, CacheArgs, CaptureArgs, FilterArgs, Model, PacketArgs, Sockets, User};
use crate::capture::claim::Claim;

/// What is to be captured: what a subcommand says beyond the flags that all share.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// One row of `modules::MODULES` each.
    pub(crate) modules: Vec<Module>,
    /// Part of the default file names.
    pub(crate) name: &'static str,
    /// Named libraries; none means search.
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) claim: Claim,
}

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) wanted: Wanted,
    /// Only these processes; empty for all.
    pub(crate) pids: Vec<u32>,
    /// Their children too.
    pub(crate) follow: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) plaintext: Option<Plaintext>,
    pub(crate) keylog: Option<Destination>,
    pub(crate) packets: Option<PacketConfig>,
    /// Ends the capture when it ends; started when everything is attached.
    pub(crate) run: Vec<OsString>,
    pub(crate) shard_bytes: u32,
    pub(crate) forced: Forced,
    /// Where it is kept what images hold.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) ready_file: Option<PathBuf>,
    /// Say nothing that is no warning: Wireshark shows stderr as an error.
    pub(crate) quiet: bool,
}

/// What is otherwise found out by attempt.
#[derive(Debug)]
pub(crate) struct Forced {
    pub(crate) object: Option<ObjectKind>,
    pub(crate) mode: Option<AttachMode>,
    pub(crate) route: Option<SocketRoute>,
    pub(crate) filtered_returns: bool,
    pub(crate) untold_mappings: bool,
}

impl Forced {
    fn new(args: &CaptureArgs) -> Self {
        let forced = &args.forced;
        Self {
            object: [None, Some(ObjectKind::Core), Some(ObjectKind::Noncore)]
                [usize::from(args.btf)],
            mode: forced.attach.map(Attach::mode),
            route: forced.sockets.map(Sockets::route),
            filtered_returns: forced.filtered_returns,
            untold_mappings: forced.untold_mappings,
        }
    }
}

impl Attach {
    fn mode(self) -> AttachMode {
        match self {
            Self::Session => AttachMode::Session,
            Self::Multi => AttachMode::Multi,
            Self::SingleCookie => AttachMode::SingleCookie,
            Self::Single => AttachMode::Single,
            Self::Tracefs => AttachMode::Tracefs,
        }
    }
}

impl Sockets {
    fn route(self) -> SocketRoute {
        match self {
            Self::Tracepoints => SocketRoute::SocketTracepoints,
            Self::Syscall => SocketRoute::SyscallTracepoint,
            Self::Kprobes => SocketRoute::Kprobes,
            Self::None => SocketRoute::Unreadable,
        }
    }
}

/// Where and how plaintext is written.
#[derive(Debug)]
pub(crate) struct Plaintext {
    pub(crate) to: PlaintextTo,
    pub(crate) rotation: Rotation,
    pub(crate) form: Form,
    pub(crate) truncate: Option<usize>,
    /// In text; JSON has it in any case.
    pub(crate) lifecycle: bool,
    pub(crate) har: Option<PathBuf>,
    pub(crate) filter: Filter,
}

/// What to capture of the network, and where to write it.
#[derive(Debug)]
pub(crate) struct PacketConfig {
    pub(crate) interface: String,
    pub(crate) snapshot_length: u32,
    pub(crate) filter: String,
    pub(crate) to: Destination,
    pub(crate) rotation: Rotation,
    /// Earlier files that stay open for their connections, at most.
    pub(crate) drain: usize,
    pub(crate) count: Option<u64>,
    pub(crate) hold: Duration,
}

/// When a next file begins, as tcpdump has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    pub(crate) bytes: Option<u64>,
    pub(crate) every: Option<Duration>,
    pub(crate) files: Option<u32>,
}

/// What stdout is, where text goes there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Terminal {
    pub(crate) color: bool,
    pub(crate) width: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text(Payload, Terminal),
    Json { secrets: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaintextTo {
    Local(Destination),
    /// `host:port`.
    Tcp(String),
}

impl PlaintextTo {
    fn new(path: &Path) -> Result<Self> {
        let Some(address) = path.to_str().and_then(|path| path.strip_prefix("tcp://")) else {
            return Ok(Self::Local(Destination::new(path)));
        };
        let is_sound = |(host, port): (&str, &str)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
        };
        if !address.rsplit_once(':').is_some_and(is_sound) {
            return Err(anyhow!(
                "-o tcp://{address} names no host and port: give tcp://HOST:PORT, an IPv6 \
                 address in brackets"
            ));
        }
        Ok(Self::Tcp(address.to_owned()))
    }
}

impl Destination {
    fn new(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdout
        } else {
            Self::File(path.to_path_buf())
        }
    }
}

impl Config {
    pub(crate) fn new(wanted: Wanted, args: &CaptureArgs) -> Result<Self> {
        let plaintext = match args.model {
            Model::Text => Some(plaintext(args)?),
            Model::Keylog | Model::Pcap => None,
        };
        if args.model != Model::Text && args.output != Path::new("-") {
            return Err(anyhow!(
                "-o is where plaintext goes: it needs -m text; packets go where -w says, secrets \
                 where --keylogfile says"
            ));
        }
        if args.model == Model::Keylog && rotation(args, Path::new(""))? != Rotation::default() {
            return Err(anyhow!(
                "-C and -G are for files of -w and -o, not for a key log"
            ));
        }
        let keylog = match (&args.keylogfile, args.model) {
            (Some(path), _) => Some(Destination::new(path)),
            (None, Model::Keylog) => {
                let file = format!("tlscope_{}_keylog.log", wanted.name);
                Some(Destination::File(file.into()))
            }
            (None, Model::Text | Model::Pcap) => None,
        };
        let filter = filter(&args.filter);
        let shaped = args.json
            || args.hex
            || args.raw
            || args.secrets
            || args.lifecycle
            || args.har.is_some();
        if args.model != Model::Text && (shaped || filter != Filter::default()) {
            return Err(anyhow!(
                "--json, --secrets, --lifecycle, --hex, --raw, --har and the filters by what is said are for plaintext: \
                 they need -m text"
            ));
        }
        Ok(Self {
            packets: packets(&wanted, args)?,
            wanted,
            pids: pids(args)?,
            follow: args.follow,
            uid: uid(&args.uid)?,
            plaintext,
            keylog,
            run: args.run.clone(),
            shard_bytes: args.mapsize.0,
            forced: Forced::new(args),
            cache: cache(&args.cache),
            ready_file: args.ready_file.clone(),
            quiet: args.quiet,
        })
    }

    /// A line of progress for the user.
    pub(crate) fn note(&self, line: fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        let shows_secrets = |plaintext: &Plaintext| plaintext.form == Form::Json { secrets: true };
        Needs {
            roles: Roles::of_modules(&self.wanted.modules),
            data: self.plaintext.is_some(),
            secrets: self.keylog.is_some()
                || self.packets.is_some()
                || self.plaintext.as_ref().is_some_and(shows_secrets),
            owners: self.packets.is_some(),
        }
    }
}

/// Of root alone, and gone when the machine starts again, as what it holds means nothing then.
pub(crate) fn cache(args: &CacheArgs) -> Option<PathBuf> {
    const DIRECTORY: &str = "/run/tlscope";
    if args.no_cache || !geteuid().is_root() {
        return None;
    }
    let default = || Path::new("/run").is_dir().then(|| DIRECTORY.into());
    args.cache.clone().or_else(default)
}

/// Longest time that packets wait for their secrets.
const HOLD: Duration = Duration::from_secs(1);

impl PacketArgs {
    /// The first flag of these that was given.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("-i", self.ifname.is_some()),
            ("-w", self.pcapfile.is_some()),
            ("-s", self.snaplen.is_some()),
            ("--drain", self.drain.is_some()),
            ("-c", self.count.is_some()),
            ("--hold", self.hold.is_some()),
        ];
        let given = flags.into_iter().find(|(_, given)| *given);
        given.map(|(flag, _)| flag)
    }
}

fn packets(wanted: &Wanted, args: &CaptureArgs) -> Result<Option<PacketConfig>> {
    let packets = &args.packets;
    let filter = args.packet_filter.join(" ");
    if args.model != Model::Pcap {
        return match packets.given() {
            Some(flag) => Err(anyhow!("{flag} is about packets: it needs -m pcap")),
            None if filter.is_empty() => Ok(None),
            None => Err(anyhow!(
                "{filter:?} would be a filter of packets: it needs -m pcap"
            )),
        };
    }
    let interface = packets
        .ifname
        .clone()
        .context("-m pcap needs an interface: -i IF, or -i any")?;
    check_expression(&filter)?;
    let default = || format!("tlscope_{}.pcapng", wanted.name).into();
    let file = packets.pcapfile.clone().unwrap_or_else(default);
    let rotation = rotation(args, &file)?;
    Ok(Some(PacketConfig {
        interface,
        snapshot_length: match packets.snaplen {
            None | Some(0) => SNAPSHOT_MAX,
            Some(length) => length.min(SNAPSHOT_MAX),
        },
        filter,
        to: Destination::new(&file),
        rotation,
        drain: drain(packets.drain, rotation)?,
        count: packets.count,
        hold: packets.hold.map_or(HOLD, Duration::from_millis),
    }))
}

fn rotation(args: &CaptureArgs, file: &Path) -> Result<Rotation> {
    let turns = &args.turns;
    let rotation = Rotation {
        // tcpdump's million is a decimal one.
        bytes: turns.file_size.map(|millions| millions * 1_000_000),
        every: turns.rotate_seconds.map(Duration::from_secs),
        files: turns.file_count,
    };
    let rotates = rotation.bytes.is_some() || rotation.every.is_some();
    if rotation.files.is_some() && !rotates {
        return Err(anyhow!("-W counts the files of -C or -G: give one of them"));
    }
    if rotates && file == Path::new("-") {
        return Err(anyhow!("-C and -G make several files: stdout is one"));
    }
    Ok(rotation)
}

/// How many earlier files stay open. Where names come round again, a file that is
/// overwritten takes with it what went there last: half of what tcpdump would keep stays.
fn drain(asked: Option<u32>, rotation: Rotation) -> Result<usize> {
    /// Open files cost descriptors, of which a process has 1024.
    const MOST: u32 = 64;
    if asked.is_some() && rotation == Rotation::default() {
        return Err(anyhow!(
            "--drain is about files that follow each other: it needs -C or -G"
        ));
    }
    let usual = match (rotation.bytes, rotation.files) {
        (Some(_), Some(files)) => files / 2,
        _ => MOST,
    };
    Ok(asked.unwrap_or(usual).min(MOST) as usize)
}

fn plaintext(args: &CaptureArgs) -> Result<Plaintext> {
    let to = PlaintextTo::new(&args.output)?;
    let terminal = if to == PlaintextTo::Local(Destination::Stdout) {
        terminal()
    } else {
        Terminal::default()
    };
    let is_remote = matches!(to, PlaintextTo::Tcp(_));
    if is_remote && (args.hex || args.raw) {
        return Err(anyhow!(
            "-o tcp:// streams JSON Lines: it goes with neither --hex nor --raw"
        ));
    }
    let form = match (args.json || is_remote, args.hex, args.raw) {
        (true, ..) => Form::Json {
            secrets: args.secrets,
        },
        (_, true, _) => Form::Text(Payload::Hex, terminal),
        (.., true) => Form::Text(Payload::Raw, Terminal::default()),
        _ => Form::Text(Payload::Readable, terminal),
    };
    if args.secrets && !matches!(form, Form::Json { .. }) {
        return Err(anyhow!(
            "--secrets writes the secrets into JSON: it needs --json; -k writes a key log"
        ));
    }
    let rotation = rotation(args, &args.output)?;
    if is_remote && rotation != Rotation::default() {
        return Err(anyhow!("-C and -G make several files: -o tcp:// is none"));
    }
    Ok(Plaintext {
        to,
        rotation,
        form,
        truncate: (args.tsize != 0).then_some(args.tsize),
        lifecycle: args.lifecycle,
        har: args.har.clone(),
        filter: filter(&args.filter),
    })
}

/// Nothing of a terminal where stdout is none.
fn terminal() -> Terminal {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return Terminal::default();
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    Terminal {
        color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width: size
            .map(|size| usize::from(size.ws_col))
            .filter(|width| *width > 0),
    }
}

/// `--pid 0` is no filter.
fn pids(args: &CaptureArgs) -> Result<Vec<u32>> {
    let pids: Vec<u32> = args.pid.iter().copied().filter(|pid| *pid != 0).collect();
    if args.follow && pids.is_empty() {
        return Err(anyhow!(
            "--follow follows the children of processes: it needs --pid"
        ));
    }
    Ok(pids)
}

fn filter(args: &FilterArgs) -> Filter {
    Filter {
        hosts: args.host.clone(),
        path_prefixes: args.path.clone(),
        methods: args.method.clone(),
        statuses: args.status.clone(),
        ports: args.port.clone(),
        comms: args.comm.clone(),
    }
}

fn uid(user: &User) -> Result<Option<u32>> {
    match user {
        User::Any => Ok(None),
        User::Id(id) => Ok(Some(*id)),
        User::Name(name) => {
            let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
            let id = passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
            });
            id.map(Some).ok_or_else(|| {
                anyhow!("--uid {name}: no such user in /etc/passwd; give its number instead")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// A way that a kernel may leave to be picked is one that tests can force.
    #[test]
    fn every_way_that_may_be_picked_can_be_forced() {
        let modes: Vec<_> = Attach::value_variants().iter().map(|a| a.mode()).collect();
        assert_eq!(modes, AttachMode::ALL);
        let routes: Vec<_> = Sockets::value_variants()
            .iter()
            .map(|s| s.route())
            .collect();
        assert_eq!(routes, SocketRoute::ALL);
        // The name that doctor shows is the one that the flag takes.
        for (flag, mode) in Attach::value_variants().iter().zip(modes) {
            let value = flag.to_possible_value().expect("a name");
            assert_eq!(value.get_name(), mode.to_string());
        }
    }
}
