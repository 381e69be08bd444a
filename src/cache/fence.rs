//! Keeping what is loaded from overtaking what is committed.

use super::Cache;
use crate::contain::contain;
use crate::engine::Engine;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{self, Labels};
use crate::unrun::refuse_future;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::{slice, thread};

/// Invalidation.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Removes the entry, and overtakes a load of the key that is under way: what that brings is
    /// not stored, and nobody who calls after this gets it. As [`remove`](Self::remove), for who
    /// does not want the value.
    #[track_caller]
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
    /// A commit that is awaited is for [`invalidate_around_async`](Self::invalidate_around_async):
    /// a closure that makes a future has not run it when this returns. For tags and groups, alone
    /// or with keys, see [`fence`](Self::fence).
    ///
    /// # Panics
    /// With `commit`; and in debug builds, before it runs, if it returns an `async` block, or a closure,
    /// which cannot be told from it.
    ///
    /// # What it does not cover
    /// It covers this cache and what is loaded through it. Not other processes with caches of their
    /// own, which have to be told. Not loads that read from a replica: one that begins after the
    /// commit can still get the old state there, and a TTL bounds how long it is served. Not a commit
    /// whose outcome is unknown when the call ends, because the connection broke or the task was
    /// cancelled, and that the database carries out later. Not values that are read beside the cache
    /// and put in with `insert`, of which nobody knows how old they are.
    ///
    /// Not a crash of a cache that is kept in a directory, whose files know of an invalidation as
    /// soon as of any other write: a process that is killed between the commit and that, or whose
    /// disk is full then, has the old value again when it is started anew, until its TTL is over.
    /// `Persistence::discard_unclosed` has it begin empty then.
    ///
    /// ```
    /// # fn commit() -> Result<(), &'static str> { Ok(()) }
    /// let prices = haybox::Cache::<String, u32>::new(100);
    /// prices.invalidate_around(["apple", "plum"], || commit())?;
    /// # Ok::<(), &'static str>(())
    /// ```
    #[track_caller]
    pub fn invalidate_around<'k, Q, R>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        commit: impl FnOnce() -> R,
    ) -> R
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
    {
        refuse_future::<R>("invalidate_around", "invalidate_around_async");
        let _fence = self.fence(keys);
        commit()
    }

    /// As [`invalidate_around`](Self::invalidate_around), for a commit that is a future. The keys
    /// are invalidated when the call is first polled, and when `commit` has ended, has panicked, or
    /// was dropped because the task was cancelled.
    ///
    /// A commit that goes on when its future is dropped, such as one in `spawn_blocking`, would end
    /// after the second invalidation where a client hangs up. Take the call along to where the
    /// commit is, by a clone of the cache:
    ///
    /// ```text
    /// let cache = cache.clone();
    /// spawn_blocking(move || cache.invalidate_around(["plum"], || commit())).await
    /// ```
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

    /// Invalidates `keys` now and again when what this returns is dropped, and with them the tags
    /// and groups that it is given. For commits that concern more than keys, and for those that no
    /// closure or future can hold; see [`invalidate_around`](Self::invalidate_around).
    ///
    /// ```
    /// # fn commit() -> Result<(), &'static str> { Ok(()) }
    /// let pages = haybox::Cache::<String, u32>::new(100);
    /// // The page itself, and all that show its author.
    /// pages.fence(["/articles/1"]).tag("author 7").around(|| commit())?;
    /// # Ok::<(), &'static str>(())
    /// ```
    ///
    /// It may be held across an `.await`. Do not leak it: the second invalidation would not happen.
    /// Nor bind it to `_`, which drops it at once.
    #[must_use = "a fence ends when it is dropped: keep it in `_fence` until after the commit, or use `around`"]
    #[track_caller]
    pub fn fence<'k, Q>(&self, keys: impl IntoIterator<Item = &'k Q>) -> Fence<'_, 'k, K, V, Q>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'k,
    {
        let keys = keys.into_iter().map(|key| (self.hash(key), key));
        let fence = Fence {
            engine: &self.engine,
            keys: keys.collect(),
            labels: Labels::NONE,
        };
        fence.invalidate();
        fence
    }

    /// As [`fence`](Self::fence), for tags alone: ends every entry that has one of them, as
    /// [`invalidate_tag`](Self::invalidate_tag) does, now and again when what this returns is
    /// dropped.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # async fn commit() -> Result<(), &'static str> { Ok(()) }
    /// let pages = haybox::Cache::<String, u32>::new(100);
    /// pages.fence_tags(["author 7"]).around_async(commit()).await?;
    /// # Ok::<(), &'static str>(())
    /// # }).unwrap();
    /// ```
    #[must_use = "a fence ends when it is dropped: keep it in `_fence` until after the commit, or use `around`"]
    #[track_caller]
    pub fn fence_tags<T: Hash>(&self, tags: impl IntoIterator<Item = T>) -> Fence<'_, '_, K, V, K> {
        let fence = Fence {
            engine: &self.engine,
            keys: Vec::new(),
            labels: Labels::NONE,
        };
        fence.tags(tags)
    }
}

/// What is being changed where it is loaded from: keys, tags and groups. From [`Cache::fence`] and
/// [`Cache::fence_tags`].
///
/// Dropping it invalidates them: whatever was loaded while it was there is gone.
pub struct Fence<'c, 'k, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    engine: &'c Engine<K, V>,
    keys: Vec<(KeyHash, &'k Q)>,
    labels: Labels,
}

impl<K, V, Q> Fence<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    /// Fences a tag, too: it is invalidated now, and again when the fence is dropped. As
    /// [`Cache::invalidate_tag`].
    #[must_use = "a fence ends when it is dropped: keep it in `_fence` until after the commit, or use `around`"]
    #[track_caller]
    pub fn tag<T: Hash + ?Sized>(self, tag: &T) -> Self {
        self.label(labels::of_tag(tag))
    }

    /// Fences these tags, too; as [`tag`](Self::tag).
    #[must_use = "a fence ends when it is dropped: keep it in `_fence` until after the commit, or use `around`"]
    #[track_caller]
    pub fn tags<T: Hash>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        for tag in tags {
            self = self.tag(&tag);
        }
        self
    }

    /// Fences a group of keys, too: it is invalidated now, and again when the fence is dropped. As
    /// [`Cache::invalidate_group`].
    ///
    /// # Panics
    /// If the cache was built without `group_by`.
    #[track_caller]
    #[must_use = "a fence ends when it is dropped: keep it in `_fence` until after the commit, or use `around`"]
    pub fn group<G: Hash + ?Sized>(self, group: &G) -> Self {
        assert!(
            self.engine.has_groups(),
            "Fence::group: the cache has no groups; give `group_by` to its builder"
        );
        self.label(labels::of_group(group))
    }

    #[track_caller]
    fn label(mut self, label: u64) -> Self {
        // Noted first, so that a panic ends in the second invalidation.
        self.labels.add(label);
        self.engine.invalidate(label);
        self
    }

    /// Runs `commit` and drops the fence after it, also when it returns an error, and when it
    /// panics.
    ///
    /// # Panics
    /// With `commit`; and in debug builds, before it runs, if it returns an `async` block, which is
    /// for [`around_async`](Self::around_async), or a closure, which cannot be told from it.
    #[track_caller]
    pub fn around<R>(self, commit: impl FnOnce() -> R) -> R {
        refuse_future::<R>("around", "around_async");
        let _fence = self;
        commit()
    }

    /// As [`around`](Self::around), for a commit that is a future. The fence is dropped when that
    /// has ended, has panicked, or is dropped because the task was cancelled. It is there already
    /// when this is called, and not only when it is first polled.
    pub async fn around_async<F: Future>(self, commit: F) -> F::Output {
        let _fence = self;
        commit.await
    }

    #[track_caller]
    fn invalidate(&self) {
        // First, since it runs no code of the user's that could panic.
        for label in self.labels.as_slice() {
            self.engine.invalidate(*label);
        }
        let mut yet_to_come = YetToCome {
            engine: self.engine,
            keys: self.keys.iter(),
        };
        yet_to_come.invalidate();
    }
}

/// The keys of a fence that are not invalidated yet. They are when it is dropped, too: what is
/// removed may have a destructor that panics, and so may what is removed then, where another panic
/// would end the process.
struct YetToCome<'f, 'k, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    engine: &'f Engine<K, V>,
    keys: slice::Iter<'f, (KeyHash, &'k Q)>,
}

impl<K, V, Q> YetToCome<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    #[track_caller]
    fn invalidate(&mut self) {
        for (hash, key) in &mut self.keys {
            drop(self.engine.remove(*hash, *key, |_| true));
        }
    }
}

impl<K, V, Q> Drop for YetToCome<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    fn drop(&mut self) {
        for (hash, key) in &mut self.keys {
            let _ = contain(|| drop(self.engine.remove(*hash, *key, |_| true)));
        }
    }
}

impl<K, V, Q> Drop for Fence<'_, '_, K, V, Q>
where
    K: Hash + Eq,
    Q: Equivalent<K> + ?Sized,
{
    fn drop(&mut self) {
        if thread::panicking() {
            // It is the commit's, and goes on. That of a destructor would end the process.
            let _ = contain(|| self.invalidate());
        } else {
            self.invalidate();
        }
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
            .field("labels", &self.labels.as_slice().len())
            .finish_non_exhaustive()
    }
}
