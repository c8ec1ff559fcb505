//! Which BPF programs serve a role: one table.

use tlscope_image::plan::Role;

use crate::attach::Needs;

/// How a role is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// At entry and return: `NAME_entry` and `NAME_return`, or `NAME_session`.
    Call,
    /// At entry only: `NAME_entry`.
    Entry,
    /// At return only: `NAME_return`.
    Return,
    /// At entry and at each return instruction: `NAME_entry` and `NAME_return`.
    Sites,
}

#[derive(Debug)]
pub(crate) struct RoleProgram {
    pub(crate) role: Role,
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
}

pub(crate) const ROLE_PROGRAMS: &[RoleProgram] = &[
    RoleProgram {
        role: Role::Write,
        name: "write",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::Read,
        name: "read",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::WriteEx,
        name: "write_ex",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::ReadEx,
        name: "read_ex",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::WriteEx2,
        name: "write_ex2",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::Handshake,
        name: "handshake",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::New,
        name: "new",
        shape: Shape::Return,
    },
    RoleProgram {
        role: Role::NewAt,
        name: "new_at",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::Clear,
        name: "clear",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::Free,
        name: "free",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::SetFd,
        name: "set_fd",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::SendRecord,
        name: "send_record",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::SendSealed,
        name: "send_sealed",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::SealRecord,
        name: "seal_record",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::ReadPacket,
        name: "read_packet",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::SecretSink,
        name: "secret_sink",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::KeyBlock,
        name: "key_block",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::ExpandLabel,
        name: "expand_label",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::Handshaking,
        name: "handshaking",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::HelloBody,
        name: "hello_body",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::NssRead,
        name: "nss_read",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::NssSecret,
        name: "nss_secret",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::TokenDerive,
        name: "token_derive",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::TokenUnwrap,
        name: "token_unwrap",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::TokenCreate,
        name: "token_create",
        shape: Shape::Call,
    },
    RoleProgram {
        role: Role::TokenValue,
        name: "token_value",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::GoWrite,
        name: "go_write",
        shape: Shape::Sites,
    },
    RoleProgram {
        role: Role::GoRead,
        name: "go_read",
        shape: Shape::Sites,
    },
    RoleProgram {
        role: Role::GoClose,
        name: "go_close",
        shape: Shape::Entry,
    },
    RoleProgram {
        role: Role::GoKeyLog,
        name: "go_keylog",
        shape: Shape::Entry,
    },
];

/// A program that sees sockets touched inside calls.
#[derive(Debug)]
pub(crate) struct SocketProgram {
    pub(crate) program: &'static str,
    /// The tracepoint or function.
    pub(crate) hook: &'static str,
    /// The calls are those of goroutines, not of threads.
    pub(crate) goroutines: bool,
}

impl SocketProgram {
    pub(crate) fn serves(&self, needs: Needs) -> bool {
        needs.data && needs.made_by(self.goroutines)
    }
}

const fn of_threads(hook: &'static str) -> SocketProgram {
    SocketProgram {
        program: hook,
        hook,
        goroutines: false,
    }
}

const fn of_goroutines(program: &'static str, hook: &'static str) -> SocketProgram {
    SocketProgram {
        program,
        hook,
        goroutines: true,
    }
}

pub(crate) const SOCKET_PROGRAMS: &[SocketProgram] = &[
    of_threads("sock_send_length"),
    of_threads("sock_recv_length"),
    of_threads("sys_enter"),
    of_threads("sys_exit"),
    of_threads("tcp_sendmsg"),
    of_threads("tcp_recvmsg"),
    of_goroutines("go_send_length", "sock_send_length"),
    of_goroutines("go_recv_length", "sock_recv_length"),
    of_goroutines("go_sys_enter", "sys_enter"),
    of_goroutines("go_sys_exit", "sys_exit"),
    of_goroutines("go_tcp_sendmsg", "tcp_sendmsg"),
    of_goroutines("go_tcp_recvmsg", "tcp_recvmsg"),
];

/// A raw tracepoint of the same name: tells the buffers that a ring's requests move through a
/// socket. Core object, beside the tracepoints of the socket layer.
pub(crate) const RING_PROGRAM: &str = "io_uring_file_get";

/// Where a socket's user is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerPoint {
    /// Of the socket layer (kernel 6.3), in the context of the caller.
    SocketTracepoint,
    /// `connect(2)`, ahead of the first packet with data (kernel 4.16).
    StateTracepoint,
    /// Core object before 6.3.
    SyscallTracepoint,
    /// Noncore object before 6.3.
    Kprobe,
}

#[derive(Debug)]
pub(crate) struct OwnerProgram {
    pub(crate) program: &'static str,
    pub(crate) point: OwnerPoint,
    /// The tracepoint or function.
    pub(crate) name: &'static str,
}

const fn owner(program: &'static str, point: OwnerPoint, name: &'static str) -> OwnerProgram {
    OwnerProgram {
        program,
        point,
        name,
    }
}

pub(crate) const OWNER_PROGRAMS: &[OwnerProgram] = &[
    owner(
        "owner_send",
        OwnerPoint::SocketTracepoint,
        "sock_send_length",
    ),
    owner(
        "owner_recv",
        OwnerPoint::SocketTracepoint,
        "sock_recv_length",
    ),
    owner(
        "owner_state",
        OwnerPoint::StateTracepoint,
        "inet_sock_set_state",
    ),
    owner("owner_syscall", OwnerPoint::SyscallTracepoint, "sys_enter"),
    owner("owner_tcp_sendmsg", OwnerPoint::Kprobe, "tcp_sendmsg"),
    owner("owner_tcp_recvmsg", OwnerPoint::Kprobe, "tcp_recvmsg"),
    owner("owner_udp_sendmsg", OwnerPoint::Kprobe, "udp_sendmsg"),
    owner("owner_udp_recvmsg", OwnerPoint::Kprobe, "udp_recvmsg"),
];

/// Raw tracepoints of the same names.
pub(crate) const FOLLOW_PROGRAMS: [&str; 2] = ["sched_process_fork", "sched_process_exit"];

pub(crate) fn of_role(role: Role) -> Option<&'static RoleProgram> {
    ROLE_PROGRAMS.iter().find(|row| row.role == role)
}

/// The program and attach points of a role in one attach mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Entry,
    Return,
    Session,
    /// A return instruction: a probe like any other, not a return probe.
    Site,
}

impl Point {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Entry => "_entry",
            Self::Return | Self::Site => "_return",
            Self::Session => "_session",
        }
    }
}

impl Shape {
    /// Entries come first: a return whose entry was missed would count as loss.
    pub(crate) fn points(self, session: bool) -> &'static [Point] {
        match self {
            Self::Call if session => &[Point::Session],
            Self::Call => &[Point::Entry, Point::Return],
            Self::Entry => &[Point::Entry],
            Self::Return => &[Point::Return],
            Self::Sites => &[Point::Entry, Point::Site],
        }
    }

    /// Whether the kernel has the function return through code of its own.
    pub(crate) fn has_return_probe(self) -> bool {
        matches!(self, Self::Call | Self::Return)
    }
}
