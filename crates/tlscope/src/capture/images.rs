//! From targets to attached plans: each image is opened once, and the file that
//! was analysed is the very file that is probed.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use tlscope_image::plan::{Family, Plan};
use tlscope_targets::Target;

/// The families that `tlscope tls` captures.
const FAMILIES: [Family; 3] = [Family::OpenSsl, Family::LibreSsl, Family::BoringSsl];

/// An analysed image, held open until it is attached.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) plan: Plan,
    pub(crate) shown: String,
    file: File,
}

impl Image {
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let mut file = File::open(&target.path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let plan = tlscope_image::analyze(&bytes)?;
        if !FAMILIES.contains(&plan.family) {
            return Err(anyhow!(
                "it holds {}, which `tlscope tls` does not capture",
                plan.family
            ));
        }
        Ok(Self {
            plan,
            shown: target.shown.clone(),
            file,
        })
    }

    /// Opens the same inode again, whatever stands at its name by now.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Library and version, as far as known.
    pub(crate) fn title(&self) -> String {
        match &self.plan.version {
            Some(version) => format!("{} {version}", self.plan.family),
            None => self.plan.family.to_string(),
        }
    }
}

/// A target that the user named: it must exist and hold the library.
pub(crate) fn open_named(path: &std::path::Path) -> Result<(Target, Image)> {
    let target = tlscope_targets::named(path)?;
    let image = Image::open(&target).with_context(|| target.shown.clone())?;
    Ok((target, image))
}
