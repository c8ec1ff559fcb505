//! From targets to attached plans: each image is opened once, and the file that
//! was analysed is the very file that is probed.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tlscope_image::ImageError;
use tlscope_image::elf::DebugFiles;
use tlscope_image::plan::{Family, Module, Plan};
use tlscope_targets::{FoundBy, Target};

/// An analysed image, held open until it is attached.
#[derive(Debug)]
pub(crate) struct Image {
    /// One for each module that it holds a library of: one at least.
    pub(crate) plans: Vec<Plan>,
    pub(crate) shown: String,
    file: File,
}

impl Image {
    pub(crate) fn open(target: &Target, modules: &[Module]) -> Result<Self> {
        let mut file = File::open(&target.path)?;
        let plans = analyze(&mut file, Path::new(&target.shown), modules)?;
        Ok(Self {
            plans,
            shown: target.shown.clone(),
            file,
        })
    }

    /// As [`Image::open`], for what was found: why it cannot be used is said where it matters.
    pub(crate) fn open_or_say(target: &Target, modules: &[Module]) -> Option<Self> {
        let say = |error: &anyhow::Error| {
            // Most code that is mapped holds no TLS library.
            if target.found_by != FoundBy::Code || !error.is::<ImageError>() {
                eprintln!("tlscope: {}: not probed: {error:#}", target.shown);
            }
        };
        Self::open(target, modules).inspect_err(say).ok()
    }

    /// Opens the same inode again, whatever stands at its name by now.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// Library and version, as far as known.
pub(crate) fn title(plan: &Plan) -> String {
    match &plan.version {
        Some(version) => format!("{} {version}", plan.family),
        None => plan.family.to_string(),
    }
}

/// A target that the user named: it must exist and hold the library.
pub(crate) fn open_named(path: &Path, modules: &[Module]) -> Result<(Target, Image)> {
    let target = tlscope_targets::named(path)?;
    let image = Image::open(&target, modules).with_context(|| target.shown.clone())?;
    Ok((target, image))
}

/// The plans of an image, with names from separate debug files where there are any.
pub(crate) fn analyze(file: &mut File, path: &Path, modules: &[Module]) -> Result<Vec<Plan>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(tlscope_image::analyze_with(
        &bytes,
        &Installed { path },
        modules,
    )?)
}

/// Debug files where Debian's and Fedora's debug packages put them.
struct Installed<'p> {
    path: &'p Path,
}

impl DebugFiles for Installed<'_> {
    fn by_build_id(&self, build_id: &str) -> Option<Vec<u8>> {
        let (head, tail) = build_id.split_at_checked(2)?;
        fs::read(format!("/usr/lib/debug/.build-id/{head}/{tail}.debug")).ok()
    }

    fn by_link(&self, name: &str) -> Option<Vec<u8>> {
        // The link comes from the image: it may name a file, not lead anywhere.
        let name = Path::new(Path::new(name).file_name()?);
        let beside = self.path.parent()?;
        let central = Path::new("/usr/lib/debug").join(beside.strip_prefix("/").ok()?);
        [
            beside.join(".debug").join(name),
            beside.join(name),
            central.join(name),
        ]
        .iter()
        .filter(|candidate| *candidate != self.path)
        .find_map(|candidate| fs::read(candidate).ok())
    }
}

/// What the user says that the image is; the analysis knows better, and says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claim {
    pub(crate) android: bool,
    pub(crate) version: Option<String>,
}

impl Claim {
    /// Why the claim is not followed for this image; `None` if it fits.
    pub(crate) fn contradiction(&self, plan: &Plan) -> Option<String> {
        let known = title(plan);
        if self.android && plan.family != Family::BoringSsl {
            return Some(format!("--android does not fit: the image holds {known}"));
        }
        let claimed = self.version.as_ref()?.to_lowercase();
        let family = plan.family.to_string().to_lowercase();
        let number = claimed
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let families = ["openssl", "libressl", "boringssl"];
        let other = families
            .iter()
            .any(|name| claimed.starts_with(name) && *name != family);
        let version = number.zip(plan.version.as_ref());
        let differs = version.is_some_and(|(number, version)| {
            let wanted = number.trim_end_matches(".x").trim_end_matches('x');
            !version.starts_with(wanted)
        });
        (other || differs)
            .then(|| format!("--ssl-version {claimed:?} does not fit: the image holds {known}"))
    }
}
