//! From targets to attached plans: each image is opened once, and the file that
//! was analysed is the very file that is probed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tlscope_image::ImageError;
use tlscope_image::elf::DebugFiles;
use tlscope_image::plan::{Family, Module, Plan};
use tlscope_targets::{FoundBy, ImageId, Target};

/// An analysed image, held open until it is attached.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) id: ImageId,
    /// One for each module that it holds a library of: one at least.
    pub(crate) plans: Vec<Plan>,
    pub(crate) shown: String,
    file: File,
}

impl Image {
    pub(crate) fn open(target: &Target, modules: &[Module], known: &mut Known) -> Result<Self> {
        let mut file = File::open(&target.path)?;
        let bytes = read(&mut file)?;
        // Most code that is mapped holds no TLS library, and there is much of it.
        if target.found_by == FoundBy::Code && !tlscope_image::might_hold(&bytes, modules) {
            let searched = String::new();
            return Err(ImageError::NothingFound { searched }.into());
        }
        Ok(Self {
            id: target.image,
            plans: known.plans(&bytes, Path::new(&target.shown), modules)?,
            shown: target.shown.clone(),
            file,
        })
    }

    /// As [`Image::open`], for what was found: why it cannot be used is said where it matters.
    pub(crate) fn open_or_say(
        target: &Target,
        modules: &[Module],
        known: &mut Known,
    ) -> Result<Self> {
        Self::open(target, modules, known).inspect_err(|error| {
            let shown = &target.shown;
            match (target.found_by, error.downcast_ref()) {
                // Their names promise nothing, or nothing that a process relies on. What cannot
                // even be opened (a sealed memfd) is told by `tlscope list`.
                (FoundBy::Code, _) | (FoundBy::Loader, Some(ImageError::NothingFound { .. })) => {}
                (FoundBy::Mapped, Some(ImageError::NothingFound { .. })) => {
                    eprintln!("tlscope: {shown}: not probed: it holds no TLS library");
                }
                _ => eprintln!("tlscope: {shown}: not probed: {error:#}"),
            }
        })
    }

    /// Opens the same inode again, whatever stands at its name by now.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// Plans by content: a container brings the same library again, and it may be in a hurry.
#[derive(Debug, Default)]
pub(crate) struct Known {
    seed: RandomState,
    plans: HashMap<(u64, usize), Vec<Plan>>,
}

impl Known {
    /// More distinct libraries than that are not probed at once.
    const MAX: usize = 1024;

    fn plans(&mut self, bytes: &[u8], path: &Path, modules: &[Module]) -> Result<Vec<Plan>> {
        let content = (self.seed.hash_one(bytes), bytes.len());
        if let Some(plans) = self.plans.get(&content) {
            return Ok(plans.clone());
        }
        let plans = analyze_bytes(bytes, path, modules)?;
        if self.plans.len() < Self::MAX {
            self.plans.insert(content, plans.clone());
        }
        Ok(plans)
    }
}

/// Library and version, as far as known.
pub(crate) fn title(plan: &Plan) -> String {
    match &plan.version {
        Some(version) => format!("{} {version}", plan.family),
        None => plan.family.to_string(),
    }
}

/// A target that the user named: it must hold the library.
pub(crate) fn open_named(target: &Target, modules: &[Module]) -> Result<Image> {
    Image::open(target, modules, &mut Known::default()).with_context(|| target.shown.clone())
}

/// The plans of an image, with names from separate debug files where there are any.
pub(crate) fn analyze(file: &mut File, path: &Path, modules: &[Module]) -> Result<Vec<Plan>> {
    analyze_bytes(&read(file)?, path, modules)
}

fn analyze_bytes(bytes: &[u8], path: &Path, modules: &[Module]) -> Result<Vec<Plan>> {
    let files = Installed { path };
    Ok(tlscope_image::analyze_with(bytes, &files, modules)?)
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
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
