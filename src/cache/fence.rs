//! Keeping what is loaded from overtaking what is committed.

use super::Cache;
use crate::engine::Engine;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// Invalidation.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Removes the entry, and overtakes a load of the key that is under way: what that brings is
    /// not stored, and nobody who calls after this gets it. As [`remove`](Self::remove), for who
    /// does not want the value.
    pub fn invalidate<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        drop(self.remove_entry(key));
    }

    /// Runs `commit`, which changes what the values of `keys` are loaded from, and invalidates them
    /// before it and after it: also when it returns an error, and when it panics.
    ///
    /// Invalidating before alone is not enough: a load that begins between that and the commit
    /// reads the old state. Invalidating after alone is not enough either: the process may be
    /// interrupted between the two. Whoever calls after this has returned gets nothing that was
    /// read before the commit.
    ///
    /// ```text
    /// commit:         |--- invalidate --- COMMIT --- invalidate ---|
    /// a load:    |------------------------------------|               discarded: begun before
    /// a load:                  |--------------------------|           discarded: begun within
    /// a load:                                                   |---> reads what was committed
    /// ```
    ///
    /// It covers this cache. Other processes with caches of their own have to be told, and a load
    /// that reads from a replica can get the old state after the commit: give such entries a TTL.
    ///
    /// ```
    /// # fn commit() -> Result<(), &'static str> { Ok(()) }
    /// let prices = haybox::Cache::<String, u32>::new(100);
    /// prices.invalidate_around(["apple", "plum"], || commit())?;
    /// # Ok::<(), &'static str>(())
    /// ```
    pub fn invalidate_around<'k, Q, R>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        commit: impl FnOnce() -> R,
    ) -> R
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
    {
        let _fence = self.fence(keys);
        commit()
    }

    /// As [`invalidate_around`](Self::invalidate_around), for a commit that is a future. The keys
    /// are invalidated when the call is first polled, and when `commit` has ended, has panicked, or
    /// was dropped because the task was cancelled.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # async fn commit() -> Result<(), &'static str> { Ok(()) }
    /// let prices = haybox::Cache::<String, u32>::new(100);
    /// prices.invalidate_around_async(["apple", "plum"], commit()).await?;
    /// # Ok::<(), &'static str>(())
    /// # }).unwrap();
    /// ```
    pub async fn invalidate_around_async<'k, Q, F>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        commit: F,
    ) -> F::Output
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
        F: Future,
    {
        let _fence = self.fence(keys);
        commit.await
    }

    /// Invalidates `keys` now and again when what this returns is dropped. For commits that no
    /// closure or future can hold; see [`invalidate_around`](Self::invalidate_around).
    ///
    /// Do not leak it: the second invalidation would not happen.
    #[must_use = "dropping a fence is the second invalidation"]
    pub fn fence<'k, Q>(&self, keys: impl IntoIterator<Item = &'k Q>) -> Fence<'_, 'k, K, V, Q>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
    {
        let keys = keys.into_iter().map(|key| (self.hash(key), key));
        let fence = Fence {
            engine: &self.engine,
            keys: keys.collect(),
        };
        fence.invalidate();
        fence
    }
}

/// Keys that are being changed where they are loaded from. From [`Cache::fence`].
///
/// Dropping it invalidates them: whatever was loaded while it was there is gone.
pub struct Fence<'c, 'k, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    engine: &'c Engine<K, V>,
    keys: Vec<(KeyHash, &'k Q)>,
}

impl<K, V, Q> Fence<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    fn invalidate(&self) {
        for (hash, key) in &self.keys {
            drop(self.engine.remove(*hash, *key, |_| true));
        }
    }
}

impl<K, V, Q> Drop for Fence<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    fn drop(&mut self) {
        self.invalidate();
    }
}

impl<K, V, Q> fmt::Debug for Fence<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}
