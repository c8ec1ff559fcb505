//! From targets to attached plans: each image is opened once, and the file that
//! was analysed is the very file that is probed.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tlscope_image::ImageError;
use tlscope_image::plan::{Module, Plan};
use tlscope_probe::AttachedImage;
use tlscope_targets::{FoundBy, ImageId, Target};

use super::beside::Beside;
use super::known::{Asked, Held, Known};

/// An analysed image, held open until it is attached.
#[derive(Debug)]
pub(crate) struct Image {
    /// Of the very file that is probed: a layer's where it is seen through an overlay.
    pub(crate) id: ImageId,
    /// As it was found.
    found: ImageId,
    /// One for each module that it holds a library of: one at least.
    pub(crate) plans: Vec<Plan>,
    pub(crate) shown: String,
    file: File,
}

impl Image {
    pub(crate) fn open(target: &Target, modules: &[Module], known: &Known) -> Result<Self> {
        known.count_look();
        let file = target.open()?;
        let held = match known.recall(&file, modules) {
            Some(held) => held,
            None => learn(target, &file, modules, known)?,
        };
        Self::new(target, file, held)
    }

    /// `None` unless an earlier run knew what it holds: then it is opened without delay.
    pub(crate) fn open_known(
        target: &Target,
        modules: &[Module],
        known: &Known,
    ) -> Option<Result<Self>> {
        let file = target.open().ok()?;
        let held = known.recall(&file, modules)?;
        known.count_look();
        Some(Self::new(target, file, held))
    }

    fn new(target: &Target, file: File, held: Held) -> Result<Self> {
        if held.plans.is_empty() {
            let searched = String::new();
            let nothing = ImageError::NothingFound { searched };
            return Err(held.other.map_or(nothing, ImageError::NotCaptured).into());
        }
        let found = target.image;
        let id = match target.layer {
            Some(_) => ImageId::of(&file.metadata()?),
            None => found,
        };
        Ok(Self {
            id,
            found,
            plans: held.plans,
            shown: target.shown.clone(),
            file,
        })
    }

    /// As [`Image::open`], for what was found: why it cannot be used is said where it matters.
    pub(crate) fn open_or_say(target: &Target, modules: &[Module], known: &Known) -> Result<Self> {
        Self::open(target, modules, known).inspect_err(|error| {
            let shown = &target.shown;
            match (target.found_by, error.downcast_ref()) {
                // Their names promise nothing, or nothing that a process relies on. What cannot
                // even be opened (a sealed memfd) is told by `tlscope list`.
                (FoundBy::Code | FoundBy::OtherRoot, _)
                | (
                    FoundBy::Loader,
                    Some(ImageError::NothingFound { .. } | ImageError::NotCaptured(_)),
                ) => {}
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

/// What stays of an image once it is probed.
#[derive(Debug)]
pub(crate) struct Probed {
    /// The numbers by which it is known.
    pub(crate) numbers: [ImageId; 2],
    file: File,
    pub(crate) attached: Vec<AttachedImage>,
    /// When somebody was last seen to map it, though it was deleted.
    kept: Option<Instant>,
}

/// To look for those who map a file takes a look at every process.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Probed {
    pub(crate) fn new(image: Image, attached: Vec<AttachedImage>) -> Self {
        let Image {
            id, found, file, ..
        } = image;
        Self {
            numbers: [id, found],
            file,
            attached,
            kept: None,
        }
    }

    /// Nobody may need it any more.
    pub(crate) fn may_be_free(&self) -> bool {
        let is_kept = self.kept.is_some_and(|kept| kept.elapsed() < LOOK_AGAIN);
        !is_kept && self.unlinked().is_some()
    }

    /// `mapped` are the inodes that processes map.
    pub(crate) fn is_free(&mut self, mapped: &HashSet<u64>) -> bool {
        let Some(inode) = self.unlinked() else {
            return false;
        };
        let is_kept = mapped.contains(&inode);
        self.kept = is_kept.then(Instant::now);
        !is_kept
    }

    /// The inode of a file that no directory has any more: only who maps it can still run it.
    fn unlinked(&self) -> Option<u64> {
        let file = self.file.metadata().ok()?;
        (file.nlink() == 0).then(|| file.ino())
    }
}

/// Reads and analyses a file. It stays known.
fn learn(target: &Target, file: &File, modules: &[Module], known: &Known) -> Result<Held> {
    let before = known.identity(file);
    let bytes = read(file)?;
    let files = Beside::new(&target.path, Path::new(&target.shown));
    // Most code that is mapped holds no TLS library, and there is much of it.
    if target.found_by == FoundBy::Code && !tlscope_image::might_hold(&bytes, modules) {
        let other = tlscope_image::not_captured(&bytes);
        let held = Held::nothing(other.map(str::to_owned));
        known.learn(file, before, modules, &held, Asked::new());
        return Ok(held);
    }
    let analyze = || Ok(tlscope_image::analyze_with(&bytes, &files, modules)?);
    let plans = known.same_content(&bytes, analyze);
    let held = match &plans {
        Ok(plans) => Some(Held::of(plans)),
        Err(error) => held_nothing(error),
    };
    if let Some(held) = held {
        known.learn(file, before, modules, &held, files.into_asked());
    }
    plans.map(|plans| Held::of(&plans))
}

/// `None` when the error tells nothing of what is in the image.
fn held_nothing(error: &anyhow::Error) -> Option<Held> {
    match error.downcast_ref()? {
        ImageError::NotCaptured(name) => Some(Held::nothing(Some(name.clone()))),
        ImageError::NothingFound { .. } | ImageError::NotGo => Some(Held::nothing(None)),
        _ => None,
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
    Image::open(target, modules, &Known::default()).with_context(|| target.shown.clone())
}

/// The plans of an image, with names from separate debug files where there are any.
pub(crate) fn analyze(file: &File, path: &Path, modules: &[Module]) -> Result<Vec<Plan>> {
    let files = Beside::new(path, path);
    Ok(tlscope_image::analyze_with(&read(file)?, &files, modules)?)
}

/// A process may map what is larger than any memory: a file need not be full to be large.
const IMAGE_MAX: u64 = 1 << 30;

fn read(file: &File) -> Result<Vec<u8>> {
    let known = file.metadata()?;
    ensure!(known.is_file(), "not a file");
    let size = known.len();
    ensure!(
        size <= IMAGE_MAX,
        "{size} bytes: an image of more than 1 GiB is not analysed"
    );
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(IMAGE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
