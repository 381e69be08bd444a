//! foyer's memory cache, under two of its policies at their defaults. It has no TTL.
//!
//! `foyer` itself re-exports `foyer-memory`; the smaller crate does not bring the disk cache.

use super::{Hasher, Options, Peer, bound};
use crate::data::{Key, Value};
use foyer_memory::{Cache, CacheBuilder, CacheProperties, EvictionConfig, LfuConfig, S3FifoConfig};

pub struct Foyer<K: Key, V: Value>(Cache<K, V, Hasher, CacheProperties>);

impl<K: Key, V: Value> Foyer<K, V> {
    pub fn s3_fifo(options: Options) -> Self {
        Self::new(options, S3FifoConfig::default().into())
    }

    pub fn lfu(options: Options) -> Self {
        Self::new(options, LfuConfig::default().into())
    }

    fn new(options: Options, policy: EvictionConfig) -> Self {
        // Eight shards by default: none of them may be left without room.
        let capacity = bound(options);
        let builder = CacheBuilder::new(capacity)
            .with_eviction_config(policy)
            .with_hash_builder(Hasher::new());
        let builder = if capacity < 64 {
            builder.with_shards(1)
        } else {
            builder
        };
        Self(builder.build())
    }
}

impl<K: Key, V: Value> Peer<K, V> for Foyer<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.entries()
    }
}
