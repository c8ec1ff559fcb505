//! Attaches what was found, and says of the rest why not: at the start, and for
//! as long as new images come; and lets go of what is no more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tlscope_image::plan::{Missing, Plan};
use tlscope_probe::{AttachError, Attached, AttachedImage, Needs, Released, Tracer};
use tlscope_targets::{Finder, ImageId};

use super::claim::Claim;
use super::images::{self, Image, Probed};
use crate::config::Config;

#[derive(Debug, Clone)]
pub(crate) struct Attacher {
    tracer: Arc<Mutex<Tracer>>,
    probed: Arc<Mutex<Vec<Probed>>>,
    needs: Needs,
    claim: Claim,
    quiet: bool,
    /// Attaching failed for want of a capability, or by what the kernel would do.
    unable: Arc<AtomicBool>,
}

impl Attacher {
    pub(crate) fn new(tracer: Tracer, needs: Needs, config: &Config) -> Self {
        Self {
            tracer: Arc::new(Mutex::new(tracer)),
            probed: Arc::default(),
            needs,
            claim: config.wanted.claim.clone(),
            quiet: config.quiet,
            unable: Arc::default(),
        }
    }

    /// The links and maps are whole between any two statements: a panic spoils nothing.
    pub(crate) fn tracer(&self) -> MutexGuard<'_, Tracer> {
        self.tracer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_unable(&self) -> bool {
        self.unable.load(Ordering::Relaxed)
    }

    /// Gives the number of plans attached. A token has no part in plaintext, and is not counted.
    pub(crate) fn attach(&self, image: Image) -> usize {
        let plans = image.plans.iter();
        let attached = plans.filter_map(|plan| Some((self.attach_plan(&image, plan)?, plan)));
        let (attached, plans): (Vec<_>, Vec<_>) = attached.unzip();
        let count = plans.iter().filter(|plan| !plan.is_token()).count();
        if !attached.is_empty() {
            self.probed().push(Probed::new(image, attached));
        }
        count
    }

    /// The numbers of files that may be let go.
    pub(crate) fn may_be_free(&self) -> Vec<ImageId> {
        let probed = self.probed();
        let free = probed.iter().filter(|probed| probed.may_be_free());
        free.flat_map(|probed| probed.numbers).collect()
    }

    /// Takes the probes away from files that were deleted, and that nobody maps: a probe keeps a
    /// file on the disk. Tells the numbers by which such a file was known as long as no other can
    /// have them.
    pub(crate) fn release(&self, forget: impl FnOnce(Vec<ImageId>)) {
        let Some(mapped) = Finder::new(&[]).mapped_inodes() else {
            return;
        };
        let is_free = |probed: &mut Probed| probed.is_free(&mapped);
        let free: Vec<Probed> = self.probed().extract_if(.., is_free).collect();
        // Behind the tracer's lock: a program that begins now is not to wait for the kernel.
        drop(self.take_out(&free));
        forget(free.iter().flat_map(|probed| probed.numbers).collect());
    }

    fn take_out(&self, probed: &[Probed]) -> Vec<Released> {
        let mut tracer = self.tracer();
        let images = probed.iter().flat_map(|probed| &probed.attached);
        images.map(|image| tracer.release(image)).collect()
    }

    /// Whole between any two statements: a panic spoils nothing.
    fn probed(&self) -> MutexGuard<'_, Vec<Probed>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach_plan(&self, image: &Image, plan: &Plan) -> Option<AttachedImage> {
        let (title, shown) = (images::title(plan), &image.shown);
        if let Some(objection) = self.claim.objection(plan) {
            eprintln!("tlscope: {shown}: {objection}; the plan is made from its code");
        }
        for missing in &plan.missing {
            let Missing { what, why } = missing;
            self.note(format_args!("tlscope: {shown}: {what}: {why}"));
        }
        if !self.needs.served_by(plan) {
            if !plan.is_token() {
                self.note(format_args!(
                    "tlscope: {shown}: {title}: nothing in it can serve this mode"
                ));
            }
            return None;
        }
        match self.tracer().attach(plan, &image.path()) {
            Ok(Attached { image, probes }) => {
                self.note(format_args!("tlscope: {shown}: {title}, {probes} probes"));
                Some(image)
            }
            Err(error) => {
                if matches!(
                    error,
                    AttachError::Privilege(..) | AttachError::KillsConfined
                ) {
                    self.unable.store(true, Ordering::Relaxed);
                }
                eprintln!("tlscope: {shown}: {error}");
                None
            }
        }
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}
