//! The thread `targets`: looks for images that come into use after the start,
//! and analyses them, so that the capture itself never waits for it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tlscope_image::plan::Module;
use tlscope_targets::Finder;

use super::images::Image;

/// Images analysed and not yet attached.
const WAITING_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Watch {
    images: Receiver<Image>,
    /// Dropped to end the thread.
    _stop: Sender<()>,
}

impl Watch {
    /// Rescans every `interval` with a finder that has scanned before.
    pub(crate) fn start(finder: Finder, modules: Vec<Module>, interval: Duration) -> Self {
        let (into, images) = sync_channel(WAITING_MAX);
        let (stop, stopped) = channel();
        let thread = thread::Builder::new().name("targets".into());
        if let Err(e) = thread.spawn(move || watch(finder, &modules, interval, &into, &stopped)) {
            eprintln!("tlscope: libraries that appear later will be missed: {e}");
        }
        Self {
            images,
            _stop: stop,
        }
    }

    /// Images found since the last call.
    pub(crate) fn found(&self) -> Vec<Image> {
        self.images.try_iter().collect()
    }
}

fn watch(
    mut finder: Finder,
    modules: &[Module],
    interval: Duration,
    into: &SyncSender<Image>,
    stopped: &Receiver<()>,
) {
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let Ok(targets) = finder.scan() else {
            continue;
        };
        for target in &targets {
            let Some(image) = Image::open_or_say(target, modules) else {
                continue;
            };
            if into.send(image).is_err() {
                return;
            }
        }
    }
}
