//! scc's `HashCache`: buckets of 32 entries, each an LRU of its own. No TTL, no weights, and its
//! capacity rounds up to a power of two.

use super::{Hasher, Options, Peer, bound};
use crate::data::{Key, Value};
use scc::HashCache;
use scc::hash_cache::Entry;

pub struct Scc<K: Key, V: Value>(HashCache<K, V, Hasher>);

impl<K: Key, V: Value> Scc<K, V> {
    pub fn new(options: Options) -> Self {
        let capacity = bound(options);
        // The least is the most: one that has to grow evicts before it does, and loses an eighth
        // of the keys that it had room for.
        Self(HashCache::with_capacity_and_hasher(
            capacity,
            capacity,
            Hasher::new(),
        ))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Scc<K, V> {
    // The look-up that keeps the order of the LRU, as a cache has to; `read_sync` does not.
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get_sync(key).map(|entry| entry.get().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        match self.0.entry_sync(key) {
            Entry::Occupied(mut entry) => {
                entry.put(value);
            }
            Entry::Vacant(entry) => {
                entry.put_entry(value);
            }
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn effective_capacity(&self) -> Option<usize> {
        Some(*self.0.capacity_range().end())
    }
}
