//! The links to images, by the number that their probes name them by: the index in the `images`
//! map.
//!
//! To take a link away the kernel waits for all who may run its program, some 30 ms. So links
//! are taken out first, by whoever holds the tracer, and dropped behind it; until the last of
//! them is gone its program may run once more, and the number is not given to another image.

use std::mem;
use std::sync::{Arc, Weak};
use std::thread;

/// Threads that take probes away.
const DETACHERS_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Numbers<L>(Vec<State<L>>);

#[derive(Debug)]
enum State<L> {
    Probed(Vec<L>),
    /// Free as soon as nobody holds it.
    Leaving(Weak<()>),
}

impl<L: Send> Numbers<L> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// One that no link names.
    pub(super) fn free(&self) -> usize {
        let is_free = |state: &State<L>| match state {
            State::Probed(_) => false,
            State::Leaving(held) => held.strong_count() == 0,
        };
        self.0
            .iter()
            .position(is_free)
            .unwrap_or_else(|| self.unused())
    }

    /// The first that never was given.
    pub(super) fn unused(&self) -> usize {
        self.0.len()
    }

    pub(super) fn give(&mut self, number: usize, links: Vec<L>) {
        let length = self.0.len().max(number + 1);
        self.0.resize_with(length, || State::Leaving(Weak::new()));
        self.0[number] = State::Probed(links);
    }

    /// Drops none of the links.
    pub(super) fn take_out(&mut self, number: usize) -> TakenOut<L> {
        let number_of = Arc::new(());
        let leaving = State::Leaving(Arc::downgrade(&number_of));
        let links = match self.0.get_mut(number) {
            Some(state @ State::Probed(_)) => mem::replace(state, leaving).into_links(),
            _ => Vec::new(),
        };
        TakenOut {
            links,
            _number: number_of,
        }
    }

    /// Of all images: for the end, behind which no number is given.
    pub(super) fn take_all(&mut self) -> Vec<L> {
        let all = self.0.drain(..);
        all.flat_map(State::into_links).collect()
    }
}

impl<L> State<L> {
    fn into_links(self) -> Vec<L> {
        match self {
            Self::Probed(links) => links,
            Self::Leaving(_) => Vec::new(),
        }
    }
}

/// Links that are no more an image's, and that still are in the kernel.
#[derive(Debug)]
pub(super) struct TakenOut<L: Send> {
    links: Vec<L>,
    /// Falls behind the links.
    _number: Arc<()>,
}

impl<L: Send> Drop for TakenOut<L> {
    fn drop(&mut self) {
        take_away(mem::take(&mut self.links));
    }
}

/// Those who wait for the kernel side by side wait for the same.
pub(super) fn take_away<L: Send>(mut links: Vec<L>) {
    let each = links.len().div_ceil(DETACHERS_MAX).max(1);
    thread::scope(|scope| {
        while !links.is_empty() {
            let part = links.split_off(links.len().saturating_sub(each));
            let detach = move || drop(part);
            // Without a thread they are dropped here.
            let _ = thread::Builder::new().spawn_scoped(scope, detach);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Tracer = Arc<Mutex<Numbers<Link>>>;

    /// Its end takes the tracer's lock: under that lock it could not go.
    struct Link(Tracer);

    impl Drop for Link {
        fn drop(&mut self) {
            let numbers = self.0.try_lock().expect("nobody holds the tracer");
            assert_eq!(numbers.free(), 2, "its number is not free yet");
        }
    }

    #[test]
    fn links_go_when_the_tracer_is_let_go_and_their_number_behind_them() {
        let tracer = Tracer::new(Mutex::new(Numbers::new()));
        let link = || Link(Arc::clone(&tracer));
        for number in 0..2 {
            let links = vec![link()];
            tracer.lock().unwrap().give(number, links);
        }
        let taken_out = tracer.lock().unwrap().take_out(0);
        assert_eq!(tracer.lock().unwrap().free(), 2);
        drop(taken_out);
        assert_eq!(tracer.lock().unwrap().free(), 0);
        let other = vec![link()];
        tracer.lock().unwrap().give(0, other);
        let all = tracer.lock().unwrap().take_all();
        assert_eq!(all.len(), 2);
        mem::forget(all);
    }

    #[test]
    fn an_image_without_links_has_its_number_for_itself() {
        let mut numbers = Numbers::<()>::new();
        numbers.give(0, Vec::new());
        assert_eq!(numbers.free(), 1);
        drop(numbers.take_out(0));
        assert_eq!((numbers.free(), numbers.unused()), (0, 1));
    }
}
