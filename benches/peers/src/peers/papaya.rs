//! papaya: a map without locks. It is pinned for each call, as a call from anywhere has to.

use super::{Hasher, Peer};
use crate::data::{Key, Value};
use papaya::HashMap;

pub struct Papaya<K, V>(HashMap<K, V, Hasher>);

impl<K: Key, V: Value> Papaya<K, V> {
    pub fn new() -> Self {
        Self(HashMap::with_hasher(Hasher::new()))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Papaya<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.pin().get(key).cloned()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.pin().insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
