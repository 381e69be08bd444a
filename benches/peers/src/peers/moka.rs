//! moka, as the examples of its documentation build it, with a TTL. It takes what is inserted into
//! its bound in batches: up to 64 entries more than that can be read meanwhile.

use super::{Hasher, Options, Peer};
use crate::data::{Key, Value};
use moka::sync::Cache;

pub struct Moka<K, V>(Cache<K, V, Hasher>);

impl<K: Key, V: Value> Moka<K, V> {
    pub fn new(options: Options) -> Self {
        let mut builder = Cache::builder().time_to_live(options.ttl);
        if let Some(capacity) = options.capacity {
            builder = builder.max_capacity(capacity as u64);
        }
        Self(builder.build_with_hasher(Hasher::new()))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Moka<K, V> {
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
        self.0.run_pending_tasks();
    }
}

/// The same, made to keep its bound: nothing that was inserted waits to be taken into it.
pub struct Prompt<K, V>(Moka<K, V>);

impl<K: Key, V: Value> Prompt<K, V> {
    pub fn new(options: Options) -> Self {
        Self(Moka::new(options))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Prompt<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
        self.0.settle();
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn held(&self) -> usize {
        self.0.held()
    }
}
