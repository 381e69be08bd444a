//! State by key that other parts of the crate keep in a cache. See the engine's file of this name.

use super::Cache;
use crate::engine::Change;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use std::hash::{BuildHasher, Hash};

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// What names the set of a key, for who calls about it more than once.
    #[inline]
    pub(crate) fn slot_hash<Q>(&self, key: &Q) -> KeyHash
    where
        Q: Hash + ?Sized,
    {
        self.hash(key)
    }

    /// Changes the slot of a key, which is made if it is missing. `None` from a thread that unwinds
    /// while it holds the lock of a set.
    #[inline]
    pub(crate) fn slot<Q, R>(&self, hash: KeyHash, key: &Q, change: impl Change<V, R>) -> Option<R>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        V: Default,
    {
        let (is_new, result) = self.engine.slot(hash, key, change)?;
        if is_new {
            self.grow();
        }
        Some(result)
    }

    /// Changes the slot of a key, if it is there.
    #[inline]
    pub(crate) fn existing_slot<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        change: impl Change<V, R>,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.engine.existing_slot(hash, key, change)
    }

    /// Visits every slot that stays while this runs, each under the lock of its set.
    pub(crate) fn each_slot(&self, visit: impl FnMut(&mut V)) {
        self.engine.each_slot(visit);
    }
}
