//! A handle that keeps no cache open.

use super::Cache;
use crate::engine::Engine;
use crate::hash::DefaultHashBuilder;
use std::fmt;
use std::sync::{Arc, Weak};

/// A handle that keeps no cache open, from [`Cache::downgrade`].
///
/// For what the cache itself holds and calls: a
/// [`removal_listener`](crate::CacheBuilder::removal_listener), a loader or a
/// [`spawner`](crate::CacheBuilder::spawner) that has a [`Cache`] of its own keeps that cache for
/// ever, and one that is kept in a directory is then never closed.
///
/// ```
/// use haybox::{Cache, RemovalCause, WeakCache};
/// use std::sync::{Arc, OnceLock};
/// use std::time::Duration;
///
/// // A reservation that is not paid for in time gives its item back.
/// let this: Arc<OnceLock<WeakCache<String, u32>>> = Arc::default();
/// let listening = Arc::clone(&this);
/// let shop = Cache::<String, u32>::builder()
///     .removal_listener(move |_reservation, items, cause| {
///         let shop = listening.get().and_then(WeakCache::upgrade);
///         if let (Some(shop), RemovalCause::Expired) = (shop, cause) {
///             shop.update("oats in stock", |stock| *stock += items);
///         }
///     })
///     .build()?;
/// let _ = this.set(shop.downgrade());
/// shop.insert("oats in stock".into(), 9);
/// shop.insert_with_ttl("ada's oats".into(), 1, Duration::ZERO);
/// assert_eq!(shop.get("oats in stock"), Some(10));
/// drop(shop);
/// assert!(this.get().unwrap().upgrade().is_none(), "the cache is gone");
/// # Ok::<(), haybox::BuildError>(())
/// ```
pub struct WeakCache<K, V, S = DefaultHashBuilder> {
    engine: Weak<Engine<K, V>>,
    hasher: S,
}

impl<K, V, S: Clone> Cache<K, V, S> {
    /// A handle that does not keep the cache open. O(1).
    #[must_use]
    pub fn downgrade(&self) -> WeakCache<K, V, S> {
        WeakCache {
            engine: Arc::downgrade(&self.engine),
            hasher: self.hasher.clone(),
        }
    }
}

impl<K, V, S: Clone> WeakCache<K, V, S> {
    /// A handle of the cache; `None` once its last one was dropped. O(1).
    ///
    /// It counts as any other. Where a listener in the background has one while the last of yours
    /// is dropped, the cache is closed when the listener drops it, on its thread: a directory may
    /// then still be open as your `drop` returns. Where that matters, as at the end of the program,
    /// call `journal().close()` before.
    #[must_use]
    pub fn upgrade(&self) -> Option<Cache<K, V, S>> {
        let hasher = self.hasher.clone();
        let engine = self.engine.upgrade()?;
        // The background may hold what has no handle any more, and is closed. The handle is made
        // only where it counts, since it is counted off as it is dropped.
        engine
            .add_handle_if_open()
            .then(|| Cache { engine, hasher })
    }
}

impl<K, V, S: Clone> Clone for WeakCache<K, V, S> {
    fn clone(&self) -> Self {
        Self {
            engine: Weak::clone(&self.engine),
            hasher: self.hasher.clone(),
        }
    }
}

/// Shows whether the cache is open.
impl<K, V, S> fmt::Debug for WeakCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = |engine: Arc<Engine<K, V>>| engine.has_handles();
        f.debug_struct("WeakCache")
            .field("is_open", &self.engine.upgrade().is_some_and(is_open))
            .finish_non_exhaustive()
    }
}
