//! What a capture picks on this kernel, and why: each object is loaded for all that it can do.

use std::io::{self, Write};

use tlscope_probe::{
    AttachMode, Features, LoadError, Needs, ObjectKind, Options, PassedOver, Roles, SocketRoute,
    Tracer,
};

const ALL: Options = Options {
    needs: Needs {
        data: true,
        secrets: true,
        owners: true,
        roles: Roles::ALL,
    },
    pids: Vec::new(),
    follow: false,
    uid: None,
    shard_bytes: 4096,
    object: None,
    mode: None,
    route: None,
    filtered_returns: false,
};

/// Whether an object can be loaded.
pub(super) fn report(out: &mut impl Write) -> io::Result<bool> {
    let mut picked = None;
    for (number, kind) in [(1, ObjectKind::Core), (2, ObjectKind::Noncore)] {
        let loaded = Tracer::load(&Options {
            object: Some(kind),
            ..ALL
        });
        let is_first = picked.is_none();
        if loaded.is_ok() && is_first {
            picked = Some(kind);
        }
        let words = if loaded.is_ok() && is_first {
            ", picked by -b 0"
        } else {
            ""
        };
        writeln!(out, "\n{kind} object (-b {number}{words})")?;
        describe(out, kind, &loaded)?;
    }
    Ok(picked.is_some())
}

fn describe(
    out: &mut impl Write,
    kind: ObjectKind,
    loaded: &Result<Tracer, LoadError>,
) -> io::Result<()> {
    let tracer = match loaded {
        Ok(tracer) => tracer,
        Err(e) => return line(out, "loads", format_args!("no: {e}")),
    };
    let why = match kind {
        ObjectKind::Core => "the kernel has BTF and ring buffers (5.8)",
        ObjectKind::Noncore => "it needs neither BTF nor anything younger than 4.18",
    };
    line(out, "loads", format_args!("yes: {why}"))?;
    let count = tracer.buffers();
    match kind {
        ObjectKind::Core => line(
            out,
            "buffer",
            format_args!("ring, in {count} shards: a connection stays in one, so its order holds"),
        ),
        ObjectKind::Noncore => line(
            out,
            "buffer",
            format_args!("perf, {count}, one for each CPU: it works from 4.18 on"),
        ),
    }?;
    let mode = tracer.attach_mode();
    line(out, "attach", attach(kind, mode))?;
    line(out, "images", images(mode))?;
    let route = tracer.socket_route();
    line(out, "sockets", sockets(route, tracer.passed_over()))?;
    line(out, "lacks", lacks(kind, route))
}

/// What a capture cannot do with these, and with the best can.
fn lacks(kind: ObjectKind, route: SocketRoute) -> String {
    let noncore = kind == ObjectKind::Noncore;
    let best_route = route == SocketRoute::SocketTracepoints;
    let rows = [
        (noncore, "--follow"),
        // On aarch64 the goroutine is in a register in every version.
        (noncore && cfg!(target_arch = "x86_64"), "Go before 1.17"),
        (noncore, "more than 6.4 MiB of one call"),
        (
            noncore && !best_route,
            "of one call what is more than the buffer (--mapsize)",
        ),
        (noncore, "addresses of connections through memory BIOs"),
        (route == SocketRoute::Kprobes, "addresses other than of TCP"),
        (route == SocketRoute::Unreadable, "addresses"),
    ];
    let lacking = rows.into_iter().filter(|(lacks, _)| *lacks);
    let lacking: Vec<_> = lacking.map(|(_, what)| what).collect();
    if lacking.is_empty() {
        return "nothing".into();
    }
    lacking.join("; ")
}

fn line(out: &mut impl Write, name: &str, value: impl std::fmt::Display) -> io::Result<()> {
    writeln!(out, "  {name:<14} {value}")
}

fn attach(kind: ObjectKind, mode: AttachMode) -> String {
    let features = Features::of_this_kernel();
    let better = kind.attach_modes().iter().take_while(|one| **one != mode);
    let lacking = better.map(|one| {
        if features.has_mode(*one) {
            format!("the programs for {one} are refused")
        } else {
            format!("no {}", one.needs())
        }
    });
    let lacking: Vec<_> = lacking.collect();
    let why = match (kind, lacking.is_empty()) {
        (_, false) => lacking.join(", "),
        (ObjectKind::Core, true) => "the best there is".into(),
        (ObjectKind::Noncore, true) => {
            "its programs tail-call, which the faster modes refuse".into()
        }
    };
    format!("{mode}: {why}")
}

fn images(mode: AttachMode) -> String {
    if mode.has_cookie() {
        "attach cookies: a probe learns from its cookie which library it is in".into()
    } else {
        format!("an instance of the programs for each library: {mode} has no attach cookies")
    }
}

fn sockets(route: SocketRoute, passed_over: &[PassedOver]) -> String {
    let passed = |p: &PassedOver| match &p.why {
        Some(why) => format!("{} is refused: {why}", p.route),
        None => format!("no {}", p.route),
    };
    let why: Vec<_> = passed_over.iter().map(passed).collect();
    let why = if why.is_empty() {
        "the best there is".into()
    } else {
        why.join("; ")
    };
    format!("{route}: {why}")
}
