//! stretto, as its documentation recommends: ten counters for each item, a cost of 1 each, and a
//! TTL with each insertion. It takes insertions into a buffer and drops some under load, by design.

use super::{Hasher, Options, Peer, bound};
use crate::data::{Key, Value};
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;
use stretto::{Cache, CacheBuilder, DefaultCacheCallback, DefaultCoster, DefaultUpdateValidator};

pub struct Stretto<K: Key, V: Value> {
    cache: Inner<K, V, K::StrettoKeys>,
    ttl: Duration,
}

/// At its defaults but for how keys are hashed.
type Inner<K, V, Keys> =
    Cache<K, V, Keys, DefaultCoster<V>, DefaultUpdateValidator<V>, DefaultCacheCallback<V>, Hasher>;

/// Keys by their hash of 64 bits; stretto's own default would be two slower hashes.
#[derive(Default)]
pub struct HashedKeys<K> {
    hasher: Hasher,
    keys: PhantomData<fn(K)>,
}

impl<K> fmt::Debug for HashedKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashedKeys").finish_non_exhaustive()
    }
}

impl<K: Key> stretto::KeyBuilder for HashedKeys<K> {
    type Key = K;

    fn hash_index<Q>(&self, key: &Q) -> u64
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hasher.hash_one(key)
    }
}

impl<K: Key, V: Value> Stretto<K, V> {
    pub fn new(options: Options) -> Self {
        let capacity = bound(options);
        let builder = CacheBuilder::new_with_key_builder(
            10 * capacity,
            capacity as i64,
            K::StrettoKeys::default(),
        );
        let cache = builder.set_hasher(Hasher::new()).finalize();
        Self {
            cache: cache.expect("a capacity of more than zero"),
            ttl: options.ttl,
        }
    }
}

impl<K: Key, V: Value> Peer<K, V> for Stretto<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key).map(|value| value.value().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.cache.insert_with_ttl(key, value, 1, self.ttl);
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn settle(&self) {
        self.cache.wait().expect("its threads run");
    }

    fn fill(&self, entries: usize) {
        for number in 0..entries as u64 {
            self.insert(K::make(number), V::make(number));
            // What does not fit into its buffers would be dropped.
            if number % 1024 == 1023 {
                self.settle();
            }
        }
        self.settle();
    }
}
