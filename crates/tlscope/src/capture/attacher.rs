//! Attaches what was found, and says of the rest why not: at the start, and for
//! as long as new images come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tlscope_image::plan::{Missing, Plan};
use tlscope_probe::{AttachError, Needs, Tracer};

use super::claim::Claim;
use super::images::{self, Image};
use crate::config::Config;

#[derive(Debug, Clone)]
pub(crate) struct Attacher {
    tracer: Arc<Mutex<Tracer>>,
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

    /// Gives the number of plans attached.
    pub(crate) fn attach(&self, image: &Image) -> usize {
        let plans = image.plans.iter();
        plans.filter(|plan| self.attach_plan(image, plan)).count()
    }

    fn attach_plan(&self, image: &Image, plan: &Plan) -> bool {
        let (title, shown) = (images::title(plan), &image.shown);
        if let Some(contradiction) = self.claim.contradiction(plan) {
            eprintln!("tlscope: {shown}: {contradiction}; the plan is made from its code");
        }
        for missing in &plan.missing {
            let Missing { what, why } = missing;
            self.note(format_args!("tlscope: {shown}: {what}: {why}"));
        }
        if !self.needs.served_by(plan) {
            // A token has no part in plaintext.
            if plan.is_token() {
                return false;
            }
            self.note(format_args!(
                "tlscope: {shown}: {title}: nothing in it can serve this mode"
            ));
            return false;
        }
        match self.tracer().attach(plan, &image.path()) {
            Ok(probes) => {
                self.note(format_args!("tlscope: {shown}: {title}, {probes} probes"));
                !plan.is_token()
            }
            Err(error) => {
                if matches!(
                    error,
                    AttachError::Privilege(..) | AttachError::KillsConfined
                ) {
                    self.unable.store(true, Ordering::Relaxed);
                }
                eprintln!("tlscope: {shown}: {error}");
                false
            }
        }
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}
