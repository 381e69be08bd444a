//! The store: the face of a cache that is a database.

use super::commit::Commit;
use super::error::WriteError;
use super::handle::Journal;
use super::insist;
use super::outcome::{self, Outcomes};
use crate::build_error::BuildError;
use crate::cache::{Cache, Iter, Keys, Values, WeakCache};
use crate::engine::Transaction;
use crate::entry::{ExpireIf, Insert, InsertOptions, Op, Outcome, Ttl};
use crate::equivalent::Equivalent;
use crate::event::{Event, Events};
use crate::hash::DefaultHashBuilder;
use crate::pubsub::Topic;
use crate::reentrancy;
use crate::stats::Stats;
use crate::to_key::ToKey;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A key-value database in the process: the map of a [`Cache`], kept in a directory, whose writes
/// say whether they were kept.
///
/// From [`CacheBuilder::open_store`](crate::CacheBuilder::open_store). It reads as fast as a cache,
/// from memory, and all of it has to fit there. It evicts nothing. Entries expire when they are
/// given a TTL, by the call or by the builder. It has no loading calls: what is missing is made by
/// [`update_or_insert_with`](Self::update_or_insert_with) or [`compute`](Self::compute), and what is
/// loaded from elsewhere lies in a [`Cache`].
///
/// Every write returns `Result<Commit<T>, WriteError>`:
///
/// - An **error** means that nothing has changed, in memory or on the disk: the value cannot be
///   encoded or does not fit, the disk is full, the store was closed. Reads go on.
/// - A [`Commit`] means that everybody sees the write. When it is durable depends on the
///   [`SyncPolicy`](super::SyncPolicy); its `wait` says when.
///
/// ```
/// use haybox::Cache;
/// use haybox::persist::{Persistence, SyncPolicy};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("accounts");
/// let accounts = Cache::<String, i64>::builder()
///     .open_store_with(&dir, Persistence::new().sync(SyncPolicy::Always))?;
/// accounts.insert("ada".into(), 10)?.wait()?;
/// accounts.insert("bob".into(), 0)?.wait()?;
/// let (ada, bob) = ("ada".to_string(), "bob".to_string());
/// accounts
///     .transaction(&[ada.clone(), bob.clone()], |tx| {
///         let (from, to) = (tx.get(&ada).copied().unwrap_or(0), tx.get(&bob).copied().unwrap_or(0));
///         if from < 7 {
///             return Err("not enough");
///         }
///         tx.insert(&ada, from - 7).and_then(|()| tx.insert(&bob, to + 7)).map_err(|_| "no room")
///     })?
///     .wait()?; // Both are on the disk, or neither is.
/// assert_eq!(accounts.get("bob"), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A `Store` is a handle, as a `Cache` is: clone it into every thread and task. When the last one
/// is dropped, everything is put on the disk, and the directory is free; [`Journal::close`] does so
/// sooner and says whether it has succeeded. One that is dropped inside a closure does not wait for
/// that ([Ending the program](crate::persist#ending-the-program)).
///
/// Calls from inside closures that run under a lock panic, as those of a cache do. `Serialize` of
/// what `update`, `compute` and `transaction` store, and of the keys of what is removed, runs under
/// the lock of its set, and so does that of every entry when a snapshot is made (by a compaction,
/// by itself or asked for, or where there is no log). If it panics there, or an entry does not
/// encode any more, there is no snapshot ([`CompactError::Encode`](super::CompactError)), which
/// [`health`](Journal::health) says, and the store goes on with the files of before.
pub struct Store<K, V, S = DefaultHashBuilder> {
    cache: Cache<K, V, S>,
    journal: Journal,
}

impl<K, V, S: Clone> Clone for Store<K, V, S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            journal: self.journal.clone(),
        }
    }
}

/// Shows how full the store is and how far it is on the disk, and none of what is in it.
impl<K, V, S> fmt::Debug for Store<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len())
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

impl<K, V, S> Store<K, V, S> {
    pub(super) fn new(cache: Cache<K, V, S>, journal: Journal) -> Self {
        Self { cache, journal }
    }

    /// The files that the store is kept in.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Runs writes that are made whether there is room for them or not, and whether the disk takes
    /// anything now: of what has happened already.
    pub(crate) fn insist<R>(&self, write: impl FnOnce(&Self) -> R) -> R {
        insist::on(&self.journal.open, || write(self))
    }

    /// Runs a write, and says what came of it.
    #[track_caller]
    fn commit<T>(&self, write: impl FnOnce(&Cache<K, V, S>) -> T) -> Result<Commit<T>, WriteError> {
        // It would panic further in, where it is not known who has called.
        let _ = reentrancy::check();
        let (value, outcome) = outcome::of(&self.journal.open, || write(&self.cache));
        self.finish(value, outcome)
    }

    fn finish<T>(&self, value: T, outcome: Outcomes) -> Result<Commit<T>, WriteError> {
        let seq = match outcome {
            Some(result) => result?,
            // What it has found, others may have written just before.
            None => self.journal.last_seq(),
        };
        Ok(Commit::new(value, seq, Arc::clone(&self.journal.open)))
    }
}

/// A handle that keeps no store open, from [`Store::downgrade`], as [`WeakCache`] is of a cache:
/// for a [`removal_listener`](crate::CacheBuilder::removal_listener) that calls the store, which
/// would otherwise never be closed.
pub struct WeakStore<K, V, S = DefaultHashBuilder> {
    cache: WeakCache<K, V, S>,
    journal: Journal,
}

impl<K, V, S: Clone> Store<K, V, S> {
    /// A handle that does not keep the store open. O(1).
    #[must_use]
    pub fn downgrade(&self) -> WeakStore<K, V, S> {
        WeakStore {
            cache: self.cache.downgrade(),
            journal: self.journal.clone(),
        }
    }
}

impl<K, V, S: Clone> WeakStore<K, V, S> {
    /// A handle of the store; `None` once its last one was dropped. O(1). As
    /// [`WeakCache::upgrade`], which says what comes of one that is dropped last.
    #[must_use]
    pub fn upgrade(&self) -> Option<Store<K, V, S>> {
        let cache = self.cache.upgrade()?;
        Some(Store::new(cache, self.journal.clone()))
    }
}

impl<K, V, S: Clone> Clone for WeakStore<K, V, S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            journal: self.journal.clone(),
        }
    }
}

/// Shows whether the store is open.
impl<K, V, S> fmt::Debug for WeakStore<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakStore")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Writes.
impl<K, V, S> Store<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Stores a value, with the TTL of the builder if there is one; the commit has the live value
    /// that it replaces. As [`Cache::insert`].
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    #[track_caller]
    pub fn insert(&self, key: K, value: V) -> Result<Commit<Option<V>>, WriteError> {
        self.commit(|cache| cache.insert(key, value))
    }

    /// As [`insert`](Self::insert), with a TTL of the entry's own.
    ///
    /// # Errors
    /// As for `insert`.
    #[track_caller]
    pub fn insert_with_ttl(
        &self,
        key: K,
        value: V,
        ttl: Duration,
    ) -> Result<Commit<Option<V>>, WriteError> {
        self.commit(|cache| cache.insert_with_ttl(key, value, ttl))
    }

    /// Stores a value on conditions, with tags, and says what became of it. As
    /// [`Cache::insert_with`]; never [`Insert::Refused`], which is an error here.
    ///
    /// Of a value that is there already [`Insert::Kept`] says nothing: it gives back that of the
    /// call. [`compute`](Self::compute) sees it in the same step, and keeping it is no write, as
    /// Redis's `SET … NX GET`:
    ///
    /// ```
    /// use haybox::{Cache, Op, Outcome};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("seats");
    /// let seats = Cache::<String, String>::builder().open_store(&dir)?;
    /// let claim = |who: &str| {
    ///     let mut holder = None;
    ///     let claimed = seats.compute("12A", |seat| match seat {
    ///         Some(by) => {
    ///             holder = Some(by.clone());
    ///             Op::Keep
    ///         }
    ///         None => Op::Put(who.to_owned()),
    ///     })?;
    ///     claimed.wait().map(|outcome| (outcome, holder)).map_err(Box::<dyn std::error::Error>::from)
    /// };
    /// assert_eq!(claim("ada")?, (Outcome::Inserted, None));
    /// assert_eq!(claim("bob")?, (Outcome::Kept, Some("ada".to_owned())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn insert_with(
        &self,
        key: K,
        value: V,
        options: InsertOptions,
    ) -> Result<Commit<Insert<V>>, WriteError> {
        self.commit(|cache| cache.insert_with(key, value, options))
    }

    /// Stores several values, each by itself, until one is refused; the commit has their number,
    /// and is that of the last. For all or nothing there is [`transaction`](Self::transaction).
    ///
    /// # Errors
    /// That of the first value that is refused. Those before it are stored, and are durable when
    /// [`journal().sync()`](Journal::sync) has returned.
    #[track_caller]
    pub fn insert_many(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Commit<usize>, WriteError> {
        let (mut count, mut seq) = (0, self.journal.last_seq());
        for (key, value) in entries {
            seq = self.insert(key, value)?.seq();
            count += 1;
        }
        Ok(Commit::new(count, seq, Arc::clone(&self.journal.open)))
    }

    /// Changes a copy of a live value, which then takes its place; the commit has what `f` returns.
    /// The deadline stays. As [`Cache::update`]. It is a write also where `f` changes nothing: for
    /// a change that depends on the value take [`compute`](Self::compute), whose `Op::Keep` is
    /// none.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert). `f` may have run, on the copy.
    #[track_caller]
    pub fn update<Q, R>(
        &self,
        key: &Q,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<Commit<Option<R>>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.update(key, f))
    }

    /// As [`update`](Self::update), where a value that is not there is first made by `make`. As
    /// [`Cache::update_or_insert_with`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert). `make` and `f` may have run.
    #[track_caller]
    pub fn update_or_insert_with<Q, R>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<Commit<R>, WriteError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.commit(|cache| cache.update_or_insert_with(key, make, f))
    }

    /// Decides what becomes of an entry from what it is, in one step. As [`Cache::compute`]; never
    /// [`Outcome::Refused`], which is an error here.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert). `f` may have run.
    #[track_caller]
    pub fn compute<Q>(
        &self,
        key: &Q,
        f: impl FnOnce(Option<&V>) -> Op<V>,
    ) -> Result<Commit<Outcome<V>>, WriteError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.commit(|cache| cache.compute(key, f))
    }

    /// Removes an entry; the commit has its value, if it was there and had not expired.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert). Where the key cannot be encoded any more, the entry stays.
    #[track_caller]
    pub fn remove<Q>(&self, key: &Q) -> Result<Commit<Option<V>>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.remove(key))
    }

    /// As [`remove`](Self::remove), with the key.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn remove_entry<Q>(&self, key: &Q) -> Result<Commit<Option<(K, V)>>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.remove_entry(key))
    }

    /// Removes an entry if `condition` holds for its value. As [`Cache::remove_if`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn remove_if<Q>(
        &self,
        key: &Q,
        condition: impl FnOnce(&V) -> bool,
    ) -> Result<Commit<Option<V>>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.remove_if(key, condition))
    }

    /// Has an entry expire when `ttl` has passed; whether it was there. As [`Cache::expire`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn expire<Q>(&self, key: &Q, ttl: Duration) -> Result<Commit<bool>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.expire(key, ttl))
    }

    /// As [`expire`](Self::expire), on a condition. As [`Cache::expire_with`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn expire_with<Q>(
        &self,
        key: &Q,
        ttl: Duration,
        condition: ExpireIf,
    ) -> Result<Commit<bool>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.expire_with(key, ttl, condition))
    }

    /// Has an entry expire at a time of the wall clock; whether it was there.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn expire_at<Q>(&self, key: &Q, time: SystemTime) -> Result<Commit<bool>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.expire_at(key, time))
    }

    /// Takes the TTL off an entry, as Redis's `PERSIST` does; whether it was there.
    ///
    /// It does not make anything durable: that is waited for by [`Commit::wait`], or by
    /// [`Journal::sync`] for all that was written.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[doc(alias = "remove_ttl")]
    #[track_caller]
    pub fn persist<Q>(&self, key: &Q) -> Result<Commit<bool>, WriteError>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.commit(|cache| cache.persist(key))
    }

    /// Reads and changes several keys as one, in memory and on the disk: whatever happens, a
    /// restart finds all of it or nothing. As [`Cache::transaction`].
    ///
    /// One in which `f` changes nothing is a read: it succeeds where writes are refused, too, as on a
    /// full disk, after [`close`](Journal::close) or [read-only](super::RecoveryMode::ReadOnly), and
    /// its commit is that of the last write before it. It is not known before what `f` will do, so
    /// where the log buffer is full that is waited for first, as by a write.
    ///
    /// # Errors
    /// [`TransactionError::Aborted`] has the error of `f`; [`TransactionError::Write`] says why what
    /// `f` did was not kept. Nothing has changed in either case.
    ///
    /// # Panics
    /// If `f` names a key that is not among `keys`.
    #[track_caller]
    pub fn transaction<R, E>(
        &self,
        keys: &[K],
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<Commit<R>, TransactionError<E>>
    where
        K: Clone,
    {
        let _ = reentrancy::check();
        let (result, outcome) = outcome::of(&self.journal.open, || self.cache.transaction(keys, f));
        let value = result.map_err(TransactionError::Aborted)?;
        Ok(self.finish(value, outcome)?)
    }
}

/// Writes that concern many entries, and what is known of the whole.
impl<K, V, S> Store<K, V, S> {
    /// Removes every entry for which `keep` returns `false`, set by set. As [`Cache::retain`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert), but that some of the entries may be removed.
    #[track_caller]
    pub fn retain(&self, keep: impl FnMut(&K, &V) -> bool) -> Result<Commit<()>, WriteError> {
        self.commit(|cache| cache.retain(keep))
    }

    /// Removes every entry, set by set.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert), but that some of the entries may be removed.
    #[track_caller]
    pub fn clear(&self) -> Result<Commit<()>, WriteError> {
        self.commit(Cache::clear)
    }

    /// Ends every entry with a tag, in O(1). As [`Cache::invalidate_tag`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[track_caller]
    pub fn invalidate_tag<T: Hash + ?Sized>(&self, tag: &T) -> Result<Commit<()>, WriteError> {
        self.commit(|cache| cache.invalidate_tag(tag))
    }

    /// Ends every entry whose key is in a group, in O(1). As [`Cache::invalidate_group`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    ///
    /// # Panics
    /// If the store was built without `group_by`.
    #[track_caller]
    pub fn invalidate_group<G: Hash + ?Sized>(&self, group: &G) -> Result<Commit<()>, WriteError> {
        self.commit(|cache| cache.invalidate_group(group))
    }

    /// Removes every entry whose key starts with `prefix`; the commit has their number. As
    /// [`Cache::invalidate_prefix`].
    ///
    /// # Errors
    /// As for [`insert`](Self::insert), but that some of the entries may be removed.
    #[track_caller]
    pub fn invalidate_prefix(&self, prefix: &str) -> Result<Commit<usize>, WriteError>
    where
        K: AsRef<str>,
    {
        self.commit(|cache| cache.invalidate_prefix(prefix))
    }

    /// The number of entries. As [`Cache::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// The sum of all weights. As [`Cache::weight`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// About how many bytes the store takes up in memory. As [`Cache::memory`].
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.cache.memory()
    }

    /// The bound in entries, if there is one.
    #[must_use]
    pub fn max_entries(&self) -> Option<usize> {
        self.cache.max_entries()
    }

    /// The bound in weight, if there is one.
    #[must_use]
    pub fn max_weight(&self) -> Option<u64> {
        self.cache.max_weight()
    }

    /// The bound in bytes, if there is one.
    #[must_use]
    pub fn max_memory(&self) -> Option<u64> {
        self.cache.max_memory()
    }

    /// Changes the bound in entries, or sets one, until the store is closed: as a store that is
    /// full is given room without a restart. What is in the store stays there, also where the bound
    /// is now lower: what would add to it is refused with [`WriteError::NoRoom`] until there is
    /// room.
    ///
    /// # Errors
    /// If `max_entries` is 0.
    #[track_caller]
    pub fn set_max_entries(&self, max_entries: usize) -> Result<(), BuildError> {
        self.cache.set_max_entries(max_entries)
    }

    /// Changes the bound in weight. As [`set_max_entries`](Self::set_max_entries).
    ///
    /// # Errors
    /// If `max_weight` is 0, or if the store was built without such a bound, so that its entries
    /// were not weighed.
    #[track_caller]
    pub fn set_max_weight(&self, max_weight: u64) -> Result<(), BuildError> {
        self.cache.set_max_weight(max_weight)
    }

    /// Changes the bound in bytes. As [`set_max_entries`](Self::set_max_entries).
    ///
    /// # Errors
    /// If there would be no room for one entry, or if the store was built without such a bound.
    #[track_caller]
    pub fn set_max_memory(&self, bytes: u64) -> Result<(), BuildError> {
        self.cache.set_max_memory(bytes)
    }

    /// What the store has done since it was opened, and how full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Removes what has expired or was invalidated, on this thread; how many entries that were.
    /// There is no need to call it. As [`Cache::sweep`].
    #[track_caller]
    pub fn sweep(&self) -> usize {
        self.cache.sweep()
    }

    /// Subscribes to what happens in the store from now on. As [`Cache::events`].
    ///
    /// # Panics
    /// If `capacity` is 0, as there.
    #[must_use = "dropping a subscription ends it"]
    #[track_caller]
    pub fn events(&self, capacity: usize) -> Events<K>
    where
        K: Clone,
    {
        self.cache.events(capacity)
    }

    /// Publishes what happens in the store from now on to a topic. As [`Cache::publish_events`].
    pub fn publish_events(&self, topic: &Topic<Event<K>>)
    where
        K: Clone + Send + Sync + 'static,
    {
        self.cache.publish_events(topic);
    }
}

/// Reads. They are those of [`Cache`], and as fast.
impl<K, V, S> Store<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// A copy of a live value. Counts as an access. As [`Cache::get`].
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.cache.get(key)
    }

    /// Runs `f` on a live value, under the lock of its set. As [`Cache::read`].
    #[inline]
    pub fn read<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.cache.read(key, f)
    }

    /// As [`get`](Self::get), without leaving a trace. As [`Cache::peek`].
    #[must_use]
    #[track_caller]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.cache.peek(key)
    }

    /// Whether the key has a live value.
    #[must_use]
    #[track_caller]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.cache.contains_key(key)
    }

    /// Accesses an entry without reading it, which restarts its idle time; whether it was there. As
    /// [`Cache::touch`]. When the new idle time reaches the disk is not told.
    pub fn touch<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.cache.touch(key)
    }

    /// The values of several keys, in their order. As [`Cache::get_many`].
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'q,
        V: Clone,
    {
        self.cache.get_many(keys)
    }

    /// How long an entry still has to live. As [`Cache::ttl`].
    #[must_use]
    #[track_caller]
    pub fn ttl<Q>(&self, key: &Q) -> Option<Ttl>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.cache.ttl(key)
    }

    /// When an entry expires, by the wall clock. As [`Cache::deadline`].
    #[must_use]
    #[track_caller]
    pub fn deadline<Q>(&self, key: &Q) -> Option<Option<SystemTime>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.cache.deadline(key)
    }

    /// The live entries, as copies. As [`Cache::iter`].
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        self.cache.iter()
    }

    /// The keys of the live entries, as copies. As [`Cache::keys`].
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K, V, S>
    where
        K: Clone,
    {
        self.cache.keys()
    }

    /// The values of the live entries, as copies. As [`Cache::values`].
    #[must_use]
    pub fn values(&self) -> Values<'_, K, V, S>
    where
        V: Clone,
    {
        self.cache.values()
    }

    /// Walks through the store in calls. As [`Cache::scan`].
    #[track_caller]
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<(K, V)>)
    where
        K: Clone,
        V: Clone,
    {
        self.cache.scan(cursor, count)
    }

    /// A live entry chosen at random, as a copy. As [`Cache::random`].
    #[must_use]
    #[track_caller]
    pub fn random(&self) -> Option<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.cache.random()
    }
}

impl<'s, K, V, S> IntoIterator for &'s Store<K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
{
    type Item = (K, V);
    type IntoIter = Iter<'s, K, V, S>;

    fn into_iter(self) -> Iter<'s, K, V, S> {
        self.iter()
    }
}

/// Why a [`Store::transaction`] changed nothing.
#[derive(Clone, Debug)]
pub enum TransactionError<E> {
    /// The closure returned this error.
    Aborted(E),
    /// What it did could not be kept.
    Write(WriteError),
}

impl<E: fmt::Display> fmt::Display for TransactionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for TransactionError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Aborted(_) => None,
            Self::Write(error) => error.source(),
        }
    }
}

impl<E> From<WriteError> for TransactionError<E> {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}
