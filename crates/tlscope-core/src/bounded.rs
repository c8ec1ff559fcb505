//! A map that forgets what was not used for long, so that it stays bounded.
//!
//! Two generations: when the young one is full it becomes the old one, and the
//! old one is forgotten. What is looked up in the old one moves to the young.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Of one generation.
    capacity: usize,
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    /// Holds at least the `capacity / 2` used last, and at most `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity: (capacity / 2).max(1),
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.insert(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    /// A look that does not count as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    pub(crate) fn get_or_insert_with(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if self.get(key).is_none() {
            self.insert(key.clone(), make());
        }
        self.young.get_mut(key).expect("it was just put there")
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.young.keys().chain(self.old.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut map = Bounded::new(8);
        for key in 0..100 {
            map.insert(key, key);
            assert_eq!(map.get(&0), Some(&mut 0));
            assert!(map.keys().count() <= 8);
        }
        assert_eq!(map.peek(&99), Some(&99));
        assert_eq!(map.peek(&50), None);
        assert_eq!(map.remove(&0), Some(0));
        assert_eq!(map.get(&0), None);
    }
}
