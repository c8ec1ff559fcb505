//! Gets the file of a target: from the cache, or by the registry's ordinary client.
//!
//! The client checks what it downloads against its registry (pip and npm by digest, apt by
//! signature). A digest of the image is kept beside it, and checked on each later use.

mod built;
pub(crate) mod debian;
mod wheel;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SYSTEM_LIBSSL;
use crate::digest::Digest;
use crate::program::{must, tool};
use crate::zoo::targets::{Source, Target};

/// A target's files.
#[derive(Debug, Clone)]
pub struct Specimen {
    /// What the source was unpacked to: a root to change to for `Source::Root`.
    pub directory: PathBuf,
    /// The image that holds the library.
    pub image: PathBuf,
}

/// `.cache/zoo/targets` of the workspace, or `TLSCOPE_ZOO`.
pub fn cache() -> PathBuf {
    env::var_os("TLSCOPE_ZOO").map_or_else(
        || {
            let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
            let workspace = tests.parent().expect("the workspace");
            workspace.join(".cache/zoo/targets")
        },
        PathBuf::from,
    )
}

/// The files of a target. Panics, naming the package, where they cannot be had.
#[track_caller]
pub fn fetch(target: &Target) -> Specimen {
    let directory = cache().join(directory_name(&target.source));
    if !directory.exists() {
        download(&target.source, &directory);
    }
    let image = find(&directory, target.file);
    let digest = Digest::of(&read(&image)).sha256;
    let sum = directory.join(format!(".sum-{}", target.file.replace(['/', '*'], "_")));
    if !sum.exists() {
        fs::write(&sum, &digest).expect("note the digest");
    }
    let known = fs::read_to_string(&sum).expect("the digest of a cached image");
    assert_eq!(
        digest,
        known,
        "{} is not what was downloaded: remove {}",
        image.display(),
        directory.display()
    );
    Specimen { directory, image }
}

/// Unpacks a source to `directory`, whole or not at all.
#[track_caller]
fn download(source: &Source, directory: &Path) {
    let partial = directory.with_extension(format!("partial-{}", std::process::id()));
    let _ = fs::remove_dir_all(&partial);
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(&partial).expect("a directory in the cache");
    eprintln!("fetching {source:?}");
    match *source {
        Source::System => {
            fs::copy(SYSTEM_LIBSSL, partial.join("libssl.so.3")).expect("the system's libssl");
        }
        Source::Wheel {
            package,
            version,
            python,
            platform,
            needs,
        } => wheel::unpack(
            &partial,
            &format!("{package}=={version}"),
            needs,
            (python, platform),
        ),
        Source::Debian {
            suite,
            arch,
            package,
        } => debian::Apt::new(suite, arch).unpack(&partial, package),
        Source::Root { suite, packages } => {
            debian::Apt::new(suite, "amd64").root(&partial, packages);
        }
        Source::Npm { package, version } => unpack_npm(&partial, package, version),
        Source::Built {
            recipe,
            package,
            version,
        } => built::build(&partial, recipe, package, version),
    }
    fs::rename(&partial, directory).expect("put the download in place");
}

/// The package's archive by `npm pack`, which checks its integrity and runs nothing of it.
fn unpack_npm(to: &Path, package: &str, version: &str) {
    let mut npm = tool("npm", "npm");
    npm.args(["pack", "--silent", "--pack-destination"]);
    must(
        npm.arg(to)
            .arg(format!("{package}@{version}"))
            .current_dir(to),
    );
    let archive = find(to, "*.tgz");
    let mut tar = Command::new("tar");
    must(
        tar.arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(to)
            .arg("--strip-components=1"),
    );
    fs::remove_file(archive).expect("remove the archive");
}

fn directory_name(source: &Source) -> String {
    let name = match *source {
        Source::System => "system".to_owned(),
        Source::Wheel {
            package,
            version,
            python,
            platform,
            ..
        } => format!("wheel-{package}-{version}-cp{python}-{platform}"),
        Source::Debian {
            suite,
            arch,
            package,
        } => format!("debian-{suite}-{arch}-{package}"),
        Source::Root { suite, packages } => format!("root-{suite}-{}", packages.join("-")),
        Source::Npm { package, version } => format!("npm-{package}-{version}"),
        Source::Built {
            recipe,
            package,
            version,
        } => format!("built-{recipe}-{package}-{version}"),
    };
    // A dot would begin what `with_extension` replaces.
    name.replace(['/', '.', ' '], "_")
}

/// The one file under `directory` of this path, whose file name may hold one `*`.
#[track_caller]
pub fn find(directory: &Path, pattern: &str) -> PathBuf {
    let pattern = directory.join(pattern);
    let wanted = pattern.file_name().and_then(|n| n.to_str()).expect("UTF-8");
    let (start, end) = wanted.split_once('*').unwrap_or((wanted, ""));
    let exact = !wanted.contains('*');
    let fits = |name: &str| {
        let long = name.len() >= start.len() + end.len();
        long && name.starts_with(start) && name.ends_with(end) && (!exact || name == wanted)
    };
    let parent = pattern.parent().expect("a directory");
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(e) => panic!("{}: {e}", parent.display()),
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .collect();
    assert_eq!(found.len(), 1, "{}: {found:?}", pattern.display());
    found.remove(0)
}

#[track_caller]
pub fn read(path: &Path) -> Vec<u8> {
    match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => panic!("{}: {e}", path.display()),
    }
}
