//! The floor: the map by itself, which starts empty, never evicts and knows no TTL.

use super::{Hasher, Peer};
use crate::data::{Key, Value};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::cell::UnsafeCell;

/// Without any lock, for one thread.
pub struct Bare<K, V>(UnsafeCell<HashMap<K, V, Hasher>>);

// SAFETY: `Info::max_threads` of this peer is 1, and all measurements keep to it: one thread at a
// time calls it.
unsafe impl<K: Send, V: Send> Sync for Bare<K, V> {}

impl<K, V> Bare<K, V> {
    pub fn new() -> Self {
        Self(UnsafeCell::new(HashMap::with_hasher(Hasher::new())))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Bare<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        // SAFETY: one thread at a time, and no reference outlives the call.
        let map = unsafe { &*self.0.get() };
        map.get(key).cloned()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        // SAFETY: as above.
        let map = unsafe { &mut *self.0.get() };
        map.insert(key, value);
    }

    fn len(&self) -> usize {
        // SAFETY: as above.
        unsafe { &*self.0.get() }.len()
    }
}

/// Behind one lock, which is what a program without a cache crate would write.
pub struct Locked<K, V>(RwLock<HashMap<K, V, Hasher>>);

impl<K, V> Locked<K, V> {
    pub fn new() -> Self {
        Self(RwLock::new(HashMap::with_hasher(Hasher::new())))
    }
}

impl<K: Key, V: Value> Peer<K, V> for Locked<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.read().get(key).cloned()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.write().insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.read().len()
    }
}
