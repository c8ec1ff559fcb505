//! Which secrets were seen: a bounded set, so that none is written twice.
//!
//! The key is a whole key log line, not only (label, client random): OpenSSL
//! labels every key update `CLIENT_TRAFFIC_SECRET_N`, so one label and random
//! may rightly come with several secrets. Secrets themselves are not kept.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

use crate::event::SecretEvent;

/// How many lines are remembered: 1 MiB for the hashes and their order.
pub const DEFAULT_CAPACITY: usize = 65_536;

#[derive(Debug)]
pub struct SecretSet {
    capacity: usize,
    seen: HashSet<u64>,
    order: VecDeque<u64>,
    /// Keyed at random: a target that picks its own secrets cannot collide ours.
    hasher: RandomState,
}

impl Default for SecretSet {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl SecretSet {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            seen: HashSet::new(),
            order: VecDeque::new(),
            hasher: RandomState::new(),
        }
    }

    /// True when it is new. The oldest is forgotten when the set is full.
    pub fn insert(&mut self, label: &str, client_random: &[u8], secret: &[u8]) -> bool {
        let key = self.hasher.hash_one((label, client_random, secret));
        if !self.seen.insert(key) {
            return false;
        }
        if self.order.len() == self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(key);
        true
    }
}

/// A line of an NSS key log: label, client random and secret, in lowercase hex.
pub(crate) fn push_line(to: &mut Vec<u8>, event: &SecretEvent) {
    to.extend_from_slice(event.label.as_str().as_bytes());
    for bytes in [&event.client_random, event.secret.expose()] {
        to.push(b' ');
        push_hex(to, bytes);
    }
    to.push(b'\n');
}

pub(crate) fn push_hex(to: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        to.push(DIGITS[usize::from(byte >> 4)]);
        to.push(DIGITS[usize::from(byte & 0x0f)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_update_is_not_a_duplicate() {
        let mut set = SecretSet::default();
        assert!(set.insert("CLIENT_TRAFFIC_SECRET_N", &[1; 32], &[2; 32]));
        assert!(set.insert("CLIENT_TRAFFIC_SECRET_N", &[1; 32], &[3; 32]));
        assert!(!set.insert("CLIENT_TRAFFIC_SECRET_N", &[1; 32], &[2; 32]));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut set = SecretSet::new(2);
        for random in 1..=3 {
            assert!(set.insert("CLIENT_RANDOM", &[random; 32], &[0; 48]));
        }
        assert!(!set.insert("CLIENT_RANDOM", &[3; 32], &[0; 48]));
        assert!(!set.insert("CLIENT_RANDOM", &[2; 32], &[0; 48]));
        assert!(set.insert("CLIENT_RANDOM", &[1; 32], &[0; 48]));
    }
}
