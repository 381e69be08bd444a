//! mini-moka, as the examples of its documentation build it, with a TTL.

use super::{Hasher, Options, Peer};
use crate::data::{Key, Value};
use mini_moka::sync::{Cache, ConcurrentCacheExt};

pub struct MiniMoka<K, V>(Cache<K, V, Hasher>);

impl<K: Key, V: Value> MiniMoka<K, V> {
    pub fn new(options: Options) -> Self {
        let mut builder = Cache::builder().time_to_live(options.ttl);
        if let Some(capacity) = options.capacity {
            builder = builder.max_capacity(capacity as u64);
        }
        Self(builder.build_with_hasher(Hasher::new()))
    }
}

impl<K: Key, V: Value> Peer<K, V> for MiniMoka<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.entry_count() as usize
    }

    /// What was inserted can be read before it is counted, and before anything leaves for it.
    fn held(&self) -> usize {
        self.0.iter().count()
    }

    fn settle(&self) {
        // A turn handles a limited number of the operations that wait.
        let mut before = usize::MAX;
        while before != self.len() {
            before = self.len();
            self.0.sync();
        }
    }
}
