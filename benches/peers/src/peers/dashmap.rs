//! DashMap: a map of many locks, at its defaults but for the hasher.

use super::{Hasher, Peer};
use crate::data::{Key, Value};
use dashmap::DashMap;

pub struct Dash<K, V>(DashMap<K, V, Hasher>);

impl<K: Key, V: Value> Dash<K, V> {
    pub fn new() -> Self {
        Self(DashMap::with_hasher(Hasher::new()))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Dash<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
