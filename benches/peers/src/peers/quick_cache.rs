//! quick_cache, at the defaults of `Cache::new` (its shards, hot and ghost shares) but for the
//! hasher. It has no TTL.

use super::{Hasher, Options, Peer, bound};
use crate::data::{Key, Value};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

pub struct QuickCache<K, V>(Cache<K, V, UnitWeighter, Hasher, DefaultLifecycle<K, V>>);

impl<K: Key, V: Value> QuickCache<K, V> {
    pub fn new(options: Options) -> Self {
        let capacity = bound(options);
        Self(Cache::with(
            capacity,
            capacity as u64,
            UnitWeighter,
            Hasher::new(),
            DefaultLifecycle::default(),
        ))
    }
}

impl<K: Key, V: Value> Peer<K, V> for QuickCache<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
