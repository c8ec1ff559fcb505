//! How the socket under a connection is found, and whose a packet's socket is: the best way
//! that this kernel has.

use std::fmt;

use libbpf_rs::{Link, Object};

use crate::attach::Needs;
use crate::features::Features;
use crate::object::{self, LoadError, ObjectKind, Settings};
use crate::programs::{
    OWNER_PROGRAMS, OwnerPoint, OwnerProgram, RING_PROGRAM, SOCKET_PROGRAMS, SocketProgram,
};

/// How the socket under a connection is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketRoute {
    /// Tracepoints of the socket layer (kernel 6.3).
    SocketTracepoints,
    /// The tracepoints at entry and exit of every system call, and CO-RE from there.
    SyscallTracepoint,
    /// Kprobes on `tcp_sendmsg` and `tcp_recvmsg`: TCP only.
    Kprobes,
    /// No way to a socket: addresses stay unknown.
    Unreadable,
    /// No data is captured, so no address is needed.
    None,
}

impl SocketRoute {
    /// Those that a capture of data may come to.
    pub const ALL: [Self; 4] = [
        Self::SocketTracepoints,
        Self::SyscallTracepoint,
        Self::Kprobes,
        Self::Unreadable,
    ];
}

impl fmt::Display for SocketRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SocketTracepoints => "socket tracepoints (6.3)",
            Self::SyscallTracepoint => "the system call tracepoints, and the kernel's own tables",
            Self::Kprobes => "kprobes, TCP only",
            Self::Unreadable => "nothing (addresses stay unknown)",
            Self::None => "nothing",
        })
    }
}

/// A way to sockets that was not taken, and what the kernel said to it; `None` where it has none
/// such.
#[derive(Debug)]
pub struct PassedOver {
    pub route: SocketRoute,
    pub why: Option<libbpf_rs::Error>,
}

/// The ways that may be there, best first. What can be told ahead is: the programs of a way that
/// is not there, or behind one that is, would cost the verifier as much as all others.
pub(crate) fn routes(settings: &Settings) -> Vec<SocketRoute> {
    let all: &[SocketRoute] = match settings.kind {
        ObjectKind::Core => &[
            SocketRoute::SocketTracepoints,
            SocketRoute::SyscallTracepoint,
        ],
        ObjectKind::Noncore => &[
            SocketRoute::SocketTracepoints,
            SocketRoute::Kprobes,
            SocketRoute::Unreadable,
        ],
    };
    let tracepoints = Features::of_this_kernel().socket_tracepoints;
    let may_be = |route: &SocketRoute| match (settings.route, *route) {
        (Some(forced), route) if forced != route => false,
        (_, SocketRoute::SocketTracepoints) => tracepoints,
        (Some(_), _) => true,
        (None, _) => !tracepoints,
    };
    all.iter().copied().filter(may_be).collect()
}

impl SocketRoute {
    /// The tracepoints or functions that lead to sockets touched inside calls.
    fn hooks(self) -> &'static [&'static str] {
        match self {
            Self::SocketTracepoints => &["sock_send_length", "sock_recv_length"],
            Self::SyscallTracepoint => &["sys_enter", "sys_exit"],
            Self::Kprobes => &["tcp_sendmsg", "tcp_recvmsg"],
            Self::Unreadable | Self::None => &[],
        }
    }

    fn owner_point(self) -> Option<OwnerPoint> {
        match self {
            Self::SocketTracepoints => Some(OwnerPoint::SocketTracepoint),
            Self::SyscallTracepoint => Some(OwnerPoint::SyscallTracepoint),
            Self::Kprobes => Some(OwnerPoint::Kprobe),
            Self::Unreadable | Self::None => None,
        }
    }
}

/// Whether a way may come to this program: what is not needed is not loaded.
pub(crate) fn may_use(settings: &Settings, program: &str) -> bool {
    let needs = settings.needs;
    let hooks = hooks(settings);
    let touched = |row: &SocketProgram| {
        row.program == program && row.serves(needs) && hooks.contains(&row.hook)
    };
    let of_route = |row: &OwnerProgram| {
        let of = |route: &SocketRoute| route.owner_point() == Some(row.point);
        row.point == OwnerPoint::StateTracepoint || routes(settings).iter().any(of)
    };
    let owner = |row: &OwnerProgram| row.program == program && of_route(row);
    SOCKET_PROGRAMS.iter().any(touched) || (needs.owners && OWNER_PROGRAMS.iter().any(owner))
}

fn hooks(settings: &Settings) -> Vec<&'static str> {
    let ways = routes(settings);
    let of_routes = ways.iter().flat_map(|route| route.hooks());
    of_routes.chain(beside(settings.kind)).copied().collect()
}

/// The noncore object learns the descriptor from the system call in any case.
fn beside(kind: ObjectKind) -> &'static [&'static str] {
    match kind {
        ObjectKind::Core => &[],
        ObjectKind::Noncore => &["sys_enter"],
    }
}

/// The programs that see sockets.
pub(crate) struct Sockets {
    pub(crate) route: SocketRoute,
    pub(crate) passed_over: Vec<PassedOver>,
    pub(crate) links: Vec<Link>,
}

/// Attaches the best of the routes, by attempt.
pub(crate) fn watch(object: &Object, settings: &Settings) -> Result<Sockets, LoadError> {
    let refused = |source| object::refused(settings.kind, source);
    let mut sockets = Sockets {
        route: SocketRoute::None,
        passed_over: Vec::new(),
        links: Vec::new(),
    };
    if !settings.needs.data {
        return Ok(sockets);
    }
    let routes = routes(settings);
    if routes.first() != Some(&SocketRoute::SocketTracepoints) {
        sockets.passed_over.push(PassedOver {
            route: SocketRoute::SocketTracepoints,
            why: None,
        });
    }
    let needs = settings.needs;
    sockets.links = attach(object, needs, beside(settings.kind), false).map_err(refused)?;
    for route in &routes {
        let kprobes = *route == SocketRoute::Kprobes;
        match attach(object, needs, route.hooks(), kprobes) {
            Ok(links) => {
                sockets.route = *route;
                sockets.links.extend(links);
                if *route == SocketRoute::SocketTracepoints {
                    sockets.links.extend(watch_rings(object));
                }
                return Ok(sockets);
            }
            Err(why) => sockets.passed_over.push(PassedOver {
                route: *route,
                why: Some(why),
            }),
        }
    }
    let last = sockets.passed_over.pop().and_then(|last| last.why);
    Err(match settings.route {
        Some(forced) => LoadError::RouteUnsupported(forced),
        None => refused(last.unwrap_or_else(missing)),
    })
}

fn attach(
    object: &Object,
    needs: Needs,
    hooks: &[&str],
    kprobes: bool,
) -> libbpf_rs::Result<Vec<Link>> {
    let rows = SOCKET_PROGRAMS
        .iter()
        .filter(|row| hooks.contains(&row.hook) && row.serves(needs));
    let attach = |row: &SocketProgram| {
        let program = object
            .progs_mut()
            .find(|program| program.name() == row.program);
        let program = program.ok_or_else(missing)?;
        if kprobes {
            program.attach_kprobe(false, row.hook)
        } else {
            program.attach_raw_tracepoint(row.hook)
        }
    };
    rows.map(attach).collect()
}

fn missing() -> libbpf_rs::Error {
    libbpf_rs::Error::from_raw_os_error(libc::ENOENT)
}

/// A kernel without `io_uring` has nothing to watch.
fn watch_rings(object: &Object) -> Option<Link> {
    let mut programs = object.progs_mut();
    let program = programs.find(|program| program.name() == RING_PROGRAM)?;
    program.attach_raw_tracepoint(RING_PROGRAM).ok()
}

/// By attempt: the best of the routes to the users of sockets. None at all
/// leaves packets without a name, which the caller can see.
pub(crate) fn watch_owners(object: &Object, settings: &Settings) -> Vec<Link> {
    let attach = |row: &OwnerProgram| {
        let program = object
            .progs_mut()
            .find(|program| program.name() == row.program)?;
        let link = match row.point {
            OwnerPoint::Kprobe => program.attach_kprobe(false, row.name),
            _ => program.attach_raw_tracepoint(row.name),
        };
        link.ok()
    };
    let by = |point| {
        let rows = OWNER_PROGRAMS.iter().filter(move |row| row.point == point);
        rows.filter_map(attach).collect::<Vec<_>>()
    };
    let routes = routes(settings);
    let points = routes.iter().filter_map(|route| route.owner_point());
    let mut found = points.map(by).filter(|links| !links.is_empty());
    let mut links = by(OwnerPoint::StateTracepoint);
    links.extend(found.next().unwrap_or_default());
    links
}
