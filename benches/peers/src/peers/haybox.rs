//! haybox, with the TTL on that it is meant for, or without.

use super::{Options, Peer};
use crate::data::{Key, Value};
use haybox::Cache;

pub struct Haybox<K, V>(Cache<K, V>);

impl<K: Key, V: Value> Haybox<K, V> {
    pub fn new(options: Options, has_ttl: bool) -> Self {
        let mut builder = Cache::builder();
        if let Some(capacity) = options.capacity {
            builder = builder.max_entries(capacity);
        }
        if has_ttl {
            builder = builder.time_to_live(options.ttl);
        }
        Self(
            builder
                .build()
                .expect("a bound and a TTL of more than zero"),
        )
    }
}

impl<K: Key, V: Value> Peer<K, V> for Haybox<K, V> {
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

    fn settle(&self) {
        self.0.sweep();
    }
}
