//! The cache: the face that users see.

mod bulk;
mod fence;
mod invalidate;
mod iter;
mod load;
mod weak;

pub use fence::Fence;
pub use iter::{Iter, Keys, Values};
pub use weak::WeakCache;

use crate::build_error::BuildError;
use crate::builder::{CacheBuilder, greatest_bound};
use crate::engine::{Engine, Transaction};
use crate::entry::{ExpireIf, Insert, InsertOptions, Life, Op, Outcome, Ttl};
use crate::equivalent::Equivalent;
use crate::event::{Event, Events};
use crate::hash::{DefaultHashBuilder, KeyHash};
use crate::pubsub::Topic;
use crate::reentrancy;
use crate::stats::Stats;
use crate::to_key::ToKey;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A cache in the process: a concurrent map with a bound, whose entries expire.
///
/// A `Cache` is a handle. Cloning it is cheap and gives another handle to the same entries; when
/// the last one is dropped, the entries are dropped on that thread.
///
/// | for | calls |
/// | --- | --- |
/// | reading | [`get`](Self::get), [`read`](Self::read), [`peek`](Self::peek), [`contains_key`](Self::contains_key), [`get_many`](Self::get_many) |
/// | writing | [`insert`](Self::insert), [`insert_with_ttl`](Self::insert_with_ttl), [`insert_with`](Self::insert_with), [`update`](Self::update), [`update_or_insert_with`](Self::update_or_insert_with), [`compute`](Self::compute), [`transaction`](Self::transaction) |
/// | loading what is missing | [`get_or_insert_with`](Self::get_or_insert_with), [`get_or_load`](Self::get_or_load), [`read_through`](Self::read_through), [`read_through_async`](Self::read_through_async), [`read_through_many`](Self::read_through_many), [`read_through_many_async`](Self::read_through_many_async) |
/// | removing | [`remove`](Self::remove), [`remove_if`](Self::remove_if), [`retain`](Self::retain), [`clear`](Self::clear) |
/// | what changes elsewhere | [`invalidate`](Self::invalidate), [`invalidate_around`](Self::invalidate_around), [`fence`](Self::fence), [`invalidate_tag`](Self::invalidate_tag), [`invalidate_group`](Self::invalidate_group), [`invalidate_prefix`](Self::invalidate_prefix) |
/// | time to live | [`ttl`](Self::ttl), [`expire`](Self::expire), [`expire_at`](Self::expire_at), [`persist`](Self::persist), [`touch`](Self::touch) |
/// | many entries | [`iter`](Self::iter), [`scan`](Self::scan), [`insert_many`](Self::insert_many), [`random`](Self::random) |
/// | looking on | [`stats`](Self::stats), [`len`](Self::len), [`memory`](Self::memory), [`events`](Self::events), [`publish_events`](Self::publish_events) |
///
/// # What it costs
/// Every call on one key is O(1): it takes the lock of one small set, for reading or for writing.
/// An entry takes up its key, its value and about 16 bytes more; see the [guide to
/// costs](crate::guide::costs) for figures, and [`max_entries`](CacheBuilder::max_entries) for
/// caches that hold few of many.
///
/// # What writes do to an entry
///
/// | call | TTL | tags | as an access (eviction, idle time) | events |
/// | --- | --- | --- | --- | --- |
/// | `insert`, `insert_many`, `extend` | anew, by the cache's policy | none | yes | inserted or updated |
/// | `insert_with_ttl` | as given | none | yes | inserted or updated |
/// | `insert_with` | as given, else anew | as given, else none | yes | inserted or updated |
/// | `insert_with` + `keep_ttl` | stays | as given, else none | yes | inserted or updated |
/// | `update` | stays | stay | yes | updated |
/// | `update_or_insert_with` | stays; of a new value anew, by the cache's policy | stay | yes | inserted or updated |
/// | `compute` → `Put` | anew, by the cache's policy | stay | yes | inserted or updated |
/// | `compute` → `PutWithTtl` | as given | stay | yes | inserted or updated |
/// | `compute` → `PutKeepTtl` | stays | stay | yes | inserted or updated |
/// | `compute` → `Keep` | stays | stay | no | none |
/// | `get_or_insert_with`, `get_or_load`, … that load | anew, by the cache's policy or as the loader says | as the loader says, else none | yes | inserted, or updated by a refresh |
/// | a loader that answers `not_modified` | anew | as the loader says, else stay | no | none |
/// | `transaction`: `insert` | as the call of the same name | stay, unless it removed the key before | yes | inserted or updated |
/// | `expire`, `expire_at`, `expire_with`, also of a `transaction` | as given | stay | no | removed, if it has passed |
/// | `persist`, also of a `transaction` | none from now on | stay | no | none |
/// | `get`, `read`, `get_many`, `touch` | stays, unless an `Expiry` moves it | stay | yes | none |
/// | `peek`, `contains_key`, `ttl`, iteration | stays | stay | no | none |
/// | `remove`, `invalidate`, `retain`, `clear`, … | gone | gone | no | removed |
/// | `invalidate_tag`, `invalidate_group` | gone | gone | no | removed, when it is swept or replaced |
///
/// Tags go with a value: what replaces it brings its own, and what is made of it keeps them. The
/// group of a key ([`group_by`](CacheBuilder::group_by)) goes with every write. Weight is found
/// anew by every write of a value.
///
/// Each call of this table that changes an entry, its TTL included, and any call that removes a
/// key, also if the key is not there, overtakes a load of the key that is under way: what it brings
/// is not stored, and callers that come later do not wait for it. `retain` and `clear` overtake all
/// loads, `invalidate_group` those of its keys. `invalidate_tag` overtakes the loads that bring a
/// value with the tag ([`Loaded::tag`](crate::Loaded::tag)); as that is not known before they end,
/// callers that come later wait for them, and load anew if it is so. Eviction and expiry overtake
/// none.
///
/// # Calls from inside calls
/// The closures of `read`, `update`, `update_or_insert_with`, `compute`, `remove_if`, `retain` and
/// `transaction`, and the `Eq`, `Hash` and `Clone` of keys and values, may run under the lock of a
/// set. A call of this or any other haybox cache from inside them panics at once with a sentence,
/// where it could otherwise wait for ever. It is reported at the line of that call, but for those
/// that are so short that it would cost them 1 to 2 %: `get`, `read`, `insert`, `update`, their
/// relatives, and those that load, which a backtrace shows. If one of them panics by itself,
/// nothing is poisoned or lost, and the value of an `update` stays as its closure has left it (in a
/// cache that is kept in a directory, as it was before). Loaders, listeners, weighers of insertions
/// and the `Drop` of values run outside all locks and may do what they like.
///
/// ```
/// use haybox::Cache;
///
/// let cache = Cache::new(10_000);
/// cache.insert("loaf", 3);
/// assert_eq!(cache.get("loaf"), Some(3));
/// ```
///
/// # One for the whole program
/// ```
/// use haybox::Cache;
/// use std::sync::{Arc, LazyLock};
/// use std::time::Duration;
///
/// // What is dear to copy goes into an `Arc`, since `get` clones the value.
/// static PAGES: LazyLock<Cache<String, Arc<str>>> = LazyLock::new(|| {
///     let builder = Cache::builder().max_entries(10_000).time_to_live(Duration::from_secs(60));
///     builder.build().expect("these settings are possible")
/// });
/// PAGES.insert("/".to_string(), Arc::from("<h1>Hay</h1>"));
/// assert_eq!(PAGES.get("/").as_deref(), Some("<h1>Hay</h1>"));
/// ```
///
/// A `static` is never dropped, so one that is kept in a directory is closed by hand, with
/// `PAGES.journal().map(|journal| journal.close())`, before the program ends; otherwise its last
/// writes may be lost.
///
/// In async code all is the same, but for [loading](#loading), where tasks have calls of their own.
/// The others wait for the lock of a set at most (and where there is a
/// [`removal_listener`](CacheBuilder::removal_listener), for a slow one), and none returns anything
/// that must not be held across an `.await`.
pub struct Cache<K, V, S = DefaultHashBuilder> {
    engine: Arc<Engine<K, V>>,
    hasher: S,
}

impl<K, V, S: Clone> Clone for Cache<K, V, S> {
    fn clone(&self) -> Self {
        let hasher = self.hasher.clone();
        self.engine.add_handle();
        Self {
            engine: Arc::clone(&self.engine),
            hasher,
        }
    }
}

impl<K, V, S> Drop for Cache<K, V, S> {
    fn drop(&mut self) {
        self.engine.drop_handle();
    }
}

/// Shows how full the cache is, how a bounded one evicts, and none of what is in it.
impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cache");
        shown.field("len", &self.len());
        if let Some(max_entries) = self.max_entries() {
            shown.field("max_entries", &max_entries);
        }
        shown.field("weight", &self.weight());
        if self.engine.budget().is_bounded() {
            match self.engine.eviction() {
                (policy, None) => shown.field("eviction_policy", &policy),
                (policy, Some(now)) => {
                    shown.field("eviction_policy", &format_args!("{policy:?} ({now})"))
                }
            };
        }
        shown.finish_non_exhaustive()
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A cache of at most `max_entries` entries that live until they are removed or evicted.
    ///
    /// # Panics
    /// If `max_entries` is 0, which [`builder`](Self::builder) reports as an error.
    #[must_use]
    #[track_caller]
    pub fn new(max_entries: usize) -> Self {
        match Self::builder().max_entries(max_entries).build() {
            Ok(cache) => cache,
            Err(error) => panic!("{error}"),
        }
    }

    /// A cache that grows until its entries expire or are removed.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::builder()
            .build()
            .expect("the default settings are possible")
    }

    /// A builder with every option at its default: no bound, no expiry. For an example see
    /// [`CacheBuilder`].
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder::new()
    }
}

/// Calls on one key.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> KeyHash {
        KeyHash::of(&self.hasher, key)
    }

    /// Lets the table grow by a set when it has become crowded.
    #[inline]
    pub(crate) fn grow(&self) {
        self.engine.grow(|key| self.hash(key));
    }

    // ---- reading ----

    /// A copy of the value, if it is there and has not expired. Counts as an access.
    ///
    /// Keys are looked up by reference: by one to a key, or to what it borrows as, as for
    /// [`HashMap::get`](std::collections::HashMap::get), or by what is [`Equivalent`] to it.
    /// Calls that may store what is missing take what a key can be made [of](crate::ToKey).
    ///
    /// ```
    /// let stock: haybox::Cache<String, u32> = haybox::Cache::new(100);
    /// stock.insert("oats".to_string(), 12);
    /// assert_eq!(stock.get("oats"), Some(12));
    /// assert_eq!(stock.get("rye"), None);
    /// ```
    #[doc(alias = "getIfPresent")]
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.engine.read(self.hash(key), key, V::clone)
    }

    /// Runs `f` on the value and returns its result: for values that are dear to copy, or cannot
    /// be. Counts as an access.
    ///
    /// `f` runs under the lock of the entry's set: it should be short, and a call of a cache
    /// from inside it panics.
    ///
    /// ```
    /// let texts = haybox::Cache::new(100);
    /// texts.insert(1, "hay ".repeat(1_000));
    /// assert_eq!(texts.read(&1, |text| text.len()), Some(4_000));
    /// ```
    #[inline]
    pub fn read<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.read(self.hash(key), key, f)
    }

    /// As [`get`](Self::get), without leaving a trace: no access, no hit or miss.
    #[must_use]
    #[track_caller]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.engine
            .look(self.hash(key), key, |entry| entry.value.clone())
    }

    /// Whether the key has a live value. Leaves no trace.
    #[doc(alias = "EXISTS")]
    #[must_use]
    #[track_caller]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.look(self.hash(key), key, |_| ()).is_some()
    }

    /// Accesses the entry without reading it: restarts its idle time and tells the eviction policy
    /// that it is in use. Whether it was there.
    #[track_caller]
    pub fn touch<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        // Reported here: a `get` goes the same way, and has no place of its caller to hand down.
        reentrancy::check() && self.engine.access(self.hash(key), key, |_| ()).is_some()
    }

    /// How often the entry was accessed of late, from 0 to 3: what the eviction policy knows of it.
    /// `None` if it is not there.
    ///
    /// Each time that the entry could have been evicted and is passed over, its number goes down.
    /// Under [`EvictionPolicy::Lru`](crate::EvictionPolicy::Lru), which goes by the order of
    /// accesses alone, it only goes up.
    #[must_use]
    #[track_caller]
    pub fn frequency<Q>(&self, key: &Q) -> Option<u8>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine
            .look(self.hash(key), key, |entry| entry.frequency())
    }

    // ---- writing ----

    /// Stores a value and returns the live value that it replaces.
    ///
    /// In a full cache, something else is evicted. What does not fit at all is not stored, and the
    /// old value is gone in that case too; [`insert_with`](Self::insert_with) tells.
    ///
    /// ```
    /// let stock = haybox::Cache::new(100);
    /// assert_eq!(stock.insert("oats", 12), None);
    /// assert_eq!(stock.insert("oats", 11), Some(12));
    /// ```
    #[doc(alias = "put")]
    #[doc(alias = "GETSET")]
    #[doc(alias = "SET")]
    #[inline]
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.insert_with(key, value, InsertOptions::new())
            .replaced()
    }

    /// As [`insert`](Self::insert), with a TTL of the entry's own. Zero means that the value is
    /// gone at once, [more than the clock can hold](crate::CacheBuilder::time_to_live) that it
    /// never expires.
    ///
    /// ```
    /// use haybox::{Cache, MockClock};
    /// use std::time::Duration;
    ///
    /// // A clock that moves only when it is told to, for tests.
    /// let time = MockClock::new();
    /// let codes = Cache::builder().max_entries(100).clock(time.clock()).build()?;
    /// codes.insert_with_ttl("ada", 4711, Duration::from_secs(300));
    /// time.advance(Duration::from_secs(299));
    /// assert_eq!(codes.get("ada"), Some(4711));
    /// time.advance(Duration::from_secs(1));
    /// assert_eq!(codes.get("ada"), None);
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    #[doc(alias = "SETEX")]
    #[doc(alias = "PSETEX")]
    #[inline]
    pub fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) -> Option<V> {
        self.insert_with(key, value, InsertOptions::new().ttl(ttl))
            .replaced()
    }

    /// Stores a value on conditions and says what became of it. That a condition was not met, or that
    /// the value was refused, is said nowhere else.
    ///
    /// ```
    /// use haybox::{Cache, Insert, InsertOptions};
    /// use std::time::Duration;
    ///
    /// let leases = Cache::new(100);
    /// let lease = || InsertOptions::new().ttl(Duration::from_secs(30)).if_absent();
    /// assert_eq!(leases.insert_with("printer", "ada", lease()), Insert::Inserted);
    /// assert_eq!(leases.insert_with("printer", "bob", lease()), Insert::Kept("bob"));
    /// ```
    #[doc(alias = "SETNX")]
    #[inline]
    pub fn insert_with(&self, key: K, value: V, options: InsertOptions) -> Insert<V> {
        let inserted = self.engine.insert(self.hash(&key), key, value, options);
        self.grow();
        inserted
    }

    /// Changes a live value in place and returns what `f` returns. The deadline stays.
    ///
    /// `f` runs under the lock of the entry's set: a call of a cache from inside it panics. If `f`
    /// panics, the value stays as `f` left it. Where entries are weighed, the value is weighed
    /// again, also then, and removed if it has become too heavy for the cache, if no room can be
    /// made for it because others hold every set locked that could give some, or if its weigher
    /// panics.
    ///
    /// ```
    /// let carts = haybox::Cache::new(100);
    /// carts.insert("ada", vec!["milk"]);
    /// carts.update("ada", |cart| cart.push("hay"));
    /// assert_eq!(carts.get("ada"), Some(vec!["milk", "hay"]));
    /// ```
    #[doc(alias = "get_mut")]
    pub fn update<Q, R>(&self, key: &Q, f: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.update(self.hash(key), key, f)
    }

    /// As [`update`](Self::update), where a value that is not there is first made by `make`, and
    /// stored as `f` leaves it, with the TTL that an insertion would give it.
    ///
    /// Both run under the lock of the entry's set, each at most once: nobody sees what `make` has
    /// made before `f` has changed it. If one of them panics as there is no value, nothing is
    /// stored. It is not told whether a new value fits: as with [`compute`](Self::compute), it is
    /// not stored where no room can be made for it.
    ///
    /// ```
    /// let views = haybox::Cache::<String, u64>::new(100);
    /// let view = |page: &str| {
    ///     views.update_or_insert_with(page, || 0, |count| {
    ///         *count += 1;
    ///         *count
    ///     })
    /// };
    /// assert_eq!((view("/hay"), view("/hay")), (1, 2));
    ///
    /// let carts = haybox::Cache::<String, Vec<&str>>::new(100);
    /// carts.update_or_insert_with("ada", Vec::new, |cart| cart.push("hay"));
    /// assert_eq!(carts.get("ada"), Some(vec!["hay"]));
    /// ```
    #[doc(alias = "INCR")]
    #[doc(alias = "INCRBY")]
    #[doc(alias = "HSET")]
    #[doc(alias = "LPUSH")]
    #[doc(alias = "SADD")]
    #[doc(alias = "ZADD")]
    #[doc(alias = "merge")]
    #[doc(alias = "upsert")]
    #[doc(alias = "entry")]
    #[track_caller]
    pub fn update_or_insert_with<Q, R>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> R
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let result = self.engine.update_or_insert(self.hash(key), key, make, f);
        self.grow();
        result
    }

    /// Decides what becomes of an entry from what it is, in one step: nobody else comes between.
    /// The outcome has the value that was there before. To change a large value, or to have a new
    /// count, there is [`update_or_insert_with`](Self::update_or_insert_with).
    ///
    /// `f` runs under the lock of the entry's set: a call of a cache from inside it panics, and if
    /// it panics nothing has changed. The new value is refused when it does not fit, or when no
    /// room can be made for it because others hold every set locked that could give some: `f` is
    /// not run twice.
    ///
    /// ```
    /// use haybox::{Cache, Op, Outcome};
    ///
    /// let votes = Cache::<String, u32>::new(100);
    /// let vote = |name: &str| votes.compute(name, |count: Option<&u32>| Op::Put(count.map_or(1, |count| count + 1)));
    /// assert_eq!(vote("hay"), Outcome::Inserted);
    /// assert_eq!(vote("hay"), Outcome::Replaced(1));
    /// assert_eq!(votes.get("hay"), Some(2));
    /// ```
    #[doc(alias = "compare_and_swap")]
    #[doc(alias = "computeIfPresent")]
    #[doc(alias = "and_compute_with")]
    #[doc(alias = "and_upsert_with")]
    #[track_caller]
    pub fn compute<Q>(&self, key: &Q, f: impl FnOnce(Option<&V>) -> Op<V>) -> Outcome<V>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let outcome = self.engine.compute(self.hash(key), key, f);
        self.grow();
        outcome
    }

    // ---- removing ----

    /// Removes the entry and returns its value, if it was there and had not expired.
    #[doc(alias = "DEL")]
    #[doc(alias = "UNLINK")]
    #[doc(alias = "GETDEL")]
    #[track_caller]
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// As [`remove`](Self::remove), with the key.
    #[track_caller]
    pub fn remove_entry<Q>(&self, key: &Q) -> Option<(K, V)>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.remove(self.hash(key), key, |_| true)
    }

    /// Removes the entry and returns its value, if `condition` holds for it.
    ///
    /// `condition` runs under the lock of the entry's set: a call of a cache from inside it panics.
    ///
    /// ```
    /// let stock = haybox::Cache::new(100);
    /// stock.insert("oats", 12);
    /// assert_eq!(stock.remove_if("oats", |count| *count == 0), None);
    /// assert_eq!(stock.remove("oats"), Some(12));
    /// ```
    #[track_caller]
    pub fn remove_if<Q>(&self, key: &Q, condition: impl FnOnce(&V) -> bool) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine
            .remove(self.hash(key), key, condition)
            .map(|(_, value)| value)
    }

    // ---- time ----

    /// How long the entry still has to live if nobody accesses it; `None` if it is not there.
    #[doc(alias = "PTTL")]
    #[must_use]
    #[track_caller]
    pub fn ttl<Q>(&self, key: &Q) -> Option<Ttl>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.ttl(self.hash(key), key)
    }

    /// The wall-clock time at which the entry expires if nobody accesses it, as the wall clock
    /// stands now: `None` if it is not there, `Some(None)` if it does not expire.
    #[doc(alias = "EXPIRETIME")]
    #[must_use]
    #[track_caller]
    pub fn deadline<Q>(&self, key: &Q) -> Option<Option<SystemTime>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.deadline(self.hash(key), key)
    }

    /// Has the entry expire when `ttl` has passed, zero meaning at once; whether it was there.
    ///
    /// ```
    /// use haybox::{Cache, Ttl};
    /// use std::time::Duration;
    ///
    /// let carts = Cache::new(100);
    /// carts.insert("ada", vec!["milk"]);
    /// assert_eq!(carts.ttl("ada"), Some(Ttl::Never));
    /// assert!(carts.expire("ada", Duration::from_secs(60)));
    /// assert!(matches!(carts.ttl("ada"), Some(Ttl::Left(left)) if left <= Duration::from_secs(60)));
    /// assert!(carts.persist("ada"));
    /// assert_eq!(carts.ttl("ada"), Some(Ttl::Never));
    /// assert!(!carts.persist("bob"), "he has no cart");
    /// ```
    #[doc(alias = "PEXPIRE")]
    #[doc(alias = "GETEX")]
    #[track_caller]
    pub fn expire<Q>(&self, key: &Q, ttl: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.expire_with(key, ttl, ExpireIf::Always)
    }

    /// As [`expire`](Self::expire), if the entry's TTL is as `condition` says; whether it was
    /// there and was changed.
    #[track_caller]
    pub fn expire_with<Q>(&self, key: &Q, ttl: Duration, condition: ExpireIf) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine
            .expire(self.hash(key), key, Life::For(ttl), condition)
    }

    /// Has the entry expire at a point in wall-clock time, as the wall clock stands now, at once
    /// if that is past; whether it was there.
    #[track_caller]
    pub fn expire_at<Q>(&self, key: &Q, time: SystemTime) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine
            .expire(self.hash(key), key, Life::Until(time), ExpireIf::Always)
    }

    /// Takes the TTL off the entry, as Redis's `PERSIST` does; an idle time still holds. Whether it
    /// was there, be it with a TTL or without, where Redis says whether there was a TTL.
    ///
    /// It has nothing to do with the feature `persist`, which keeps entries on a disk until they
    /// expire; an entry without a TTL stays until it is removed or evicted.
    #[doc(alias = "remove_ttl")]
    #[track_caller]
    pub fn persist<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine
            .expire(self.hash(key), key, Life::Forever, ExpireIf::Always)
    }

    // ---- several keys as one ----

    /// Reads and changes several keys as one: `f` sees them as they are at one moment, and what it
    /// does to them is seen all at once if it returns `Ok`, and never if it returns `Err` or
    /// panics.
    ///
    /// The sets of all keys stay locked while `f` runs: it should be short, and a call of a cache
    /// from inside it panics. Transactions never wait for each other in a circle. Should others
    /// hold every set locked that could make room for what is stored, it is evicted at once, as
    /// anything in a cache may be at any time; what it was to replace is gone.
    ///
    /// The list is of keys themselves, since what `f` stores may need one; `f` names them by what
    /// they borrow as, as any look-up does.
    ///
    /// It takes O(keys) where `f` names them in the order of `keys`. One that it names out of turn
    /// is looked for among all of them.
    ///
    /// ```
    /// let accounts = haybox::Cache::new(100);
    /// accounts.insert_many([("ada", 10), ("bob", 0)]);
    /// let paid = accounts.transaction(&["ada", "bob"], |tx| {
    ///     let (from, to) = (tx.get("ada").copied().unwrap_or(0), tx.get("bob").copied().unwrap_or(0));
    ///     if from < 7 {
    ///         return Err("not enough");
    ///     }
    ///     tx.insert("ada", from - 7).and_then(|()| tx.insert("bob", to + 7)).map_err(|_| "no room")
    /// });
    /// assert_eq!(paid, Ok(()));
    /// assert_eq!((accounts.get("ada"), accounts.get("bob")), (Some(3), Some(7)));
    /// ```
    ///
    /// # Errors
    /// Those of `f`.
    ///
    /// # Panics
    /// If `f` names a key that is not among `keys`.
    #[doc(alias = "MULTI")]
    #[doc(alias = "WATCH")]
    #[doc(alias = "MSETNX")]
    #[doc(alias = "RENAME")]
    #[track_caller]
    pub fn transaction<R, E>(
        &self,
        keys: &[K],
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        K: Clone,
    {
        let hashes: Vec<_> = keys.iter().map(|key| self.hash(key)).collect();
        self.engine.expect_more(keys.len(), |key| self.hash(key));
        let result = self.engine.transaction(keys, &hashes, f);
        keys.iter().for_each(|_| self.grow());
        result
    }
}

/// Calls on the cache as a whole.
impl<K, V, S> Cache<K, V, S> {
    pub(crate) fn engine(&self) -> &Engine<K, V> {
        &self.engine
    }

    pub(crate) fn shared_engine(&self) -> Arc<Engine<K, V>> {
        Arc::clone(&self.engine)
    }

    #[cfg(feature = "persist")]
    pub(crate) fn hasher(&self) -> &S {
        &self.hasher
    }

    pub(crate) fn from_parts(engine: Arc<Engine<K, V>>, hasher: S) -> Self {
        Self { engine, hasher }
    }

    /// The number of entries, those that have expired or were invalidated by tag or group, and are
    /// not swept yet, among them. While other threads insert, those on their way in are counted
    /// too; never more than the bound.
    #[doc(alias = "DBSIZE")]
    #[must_use]
    #[doc(alias = "entry_count")]
    pub fn len(&self) -> usize {
        self.engine.len() as usize
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of all weights; the number of entries where nothing is weighed.
    #[must_use]
    #[doc(alias = "weighted_size")]
    pub fn weight(&self) -> u64 {
        self.engine.weight()
    }

    /// About how many bytes the cache takes up: what [`max_memory`](CacheBuilder::max_memory)
    /// bounds. Without that bound, what keys and values hold on the heap is not known and not in
    /// it.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.engine.memory()
    }

    /// The bound in entries, if there is one.
    #[must_use]
    pub fn max_entries(&self) -> Option<usize> {
        let max = self.engine.budget().entries.max();
        (max != u64::MAX).then(|| usize::try_from(max).unwrap_or(usize::MAX))
    }

    /// The bound in weight, if there is one.
    #[must_use]
    pub fn max_weight(&self) -> Option<u64> {
        self.engine
            .budget()
            .weight
            .as_ref()
            .map(|gauge| gauge.max())
    }

    /// The bound in bytes, if there is one.
    #[must_use]
    pub fn max_memory(&self) -> Option<u64> {
        self.engine
            .budget()
            .memory
            .as_ref()
            .map(|gauge| gauge.max())
    }

    /// The most that one entry may weigh, where bytes are bounded.
    #[cfg(feature = "session")]
    pub(crate) fn most_weight_of_one(&self) -> Option<u64> {
        let overhead = self.engine.budget().overhead;
        self.max_memory().map(|max| max.saturating_sub(overhead))
    }

    /// Changes the bound in entries, or sets one. A lowered bound holds when the call returns: until
    /// then it evicts, and what others insert meanwhile never adds to what is above it. A bound that
    /// is set stays: [`usize::MAX`](CacheBuilder::max_entries) is as good as none.
    ///
    /// # Errors
    /// If `max_entries` is 0.
    #[track_caller]
    pub fn set_max_entries(&self, max_entries: usize) -> Result<(), BuildError> {
        if max_entries == 0 {
            return Err(BuildError::new(
                "Cache",
                "max_entries",
                "must be at least 1",
            ));
        }
        let max = greatest_bound(max_entries) as u64;
        self.engine.rebound(&self.engine.budget().entries, max);
        Ok(())
    }

    /// Changes the bound in weight. A lowered bound holds when the call returns; until then
    /// [`weight`](Self::weight) may be above it.
    ///
    /// # Errors
    /// If `max_weight` is 0, or if the cache was built without such a bound, so that its entries
    /// were not weighed.
    #[track_caller]
    pub fn set_max_weight(&self, max_weight: u64) -> Result<(), BuildError> {
        if max_weight == 0 {
            return Err(BuildError::new("Cache", "max_weight", "must be at least 1"));
        }
        let Some(gauge) = &self.engine.budget().weight else {
            return Err(BuildError::new(
                "Cache",
                "max_weight",
                "must be set when the cache is built, to be changed later",
            ));
        };
        self.engine.rebound(gauge, max_weight);
        Ok(())
    }

    /// Changes the bound in bytes. A lowered bound holds when the call returns; until then
    /// [`memory`](Self::memory) may be above it.
    ///
    /// # Errors
    /// If there would be no room for one entry, or if the cache was built without such a bound.
    #[track_caller]
    pub fn set_max_memory(&self, bytes: u64) -> Result<(), BuildError> {
        let budget = self.engine.budget();
        let Some(gauge) = &budget.memory else {
            return Err(BuildError::new(
                "Cache",
                "max_memory",
                "must be set when the cache is built, to be changed later",
            ));
        };
        if bytes < budget.overhead {
            return Err(BuildError::no_room(budget.overhead));
        }
        self.engine.rebound(gauge, bytes);
        Ok(())
    }

    /// What the cache has done so far, and how full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Starts the counts of [`stats`](Self::stats) from zero.
    pub fn reset_stats(&self) {
        self.engine.reset_stats();
    }

    /// Removes what has expired or was invalidated by tag or group, on this thread; how many
    /// entries that were.
    ///
    /// There is no need to call it: the background does this every
    /// [`sweep_interval`](CacheBuilder::sweep_interval). It is for where no thread runs in the
    /// background: in the child of a `fork`, or on a target without threads.
    ///
    /// Such a child must not use a cache that another thread of its parent was using at the moment
    /// of the fork: a lock that was held then stays locked in the child. A cache that it makes is
    /// its own, but has no threads behind it where the parent had started them: nothing is loaded
    /// behind the callers of a [`ReadThrough`](crate::ReadThrough), which counts as
    /// [refused](Stats::refused_refreshes), and time-outs wake threads, but no tasks.
    #[doc(alias = "cleanUp")]
    #[doc(alias = "run_pending_tasks")]
    #[track_caller]
    pub fn sweep(&self) -> usize {
        self.engine.sweep_all()
    }

    /// Subscribes to what happens in the cache from now on, through a queue of at most `capacity`
    /// events. When the reader is so slow that it is full, new events are lost and counted; the
    /// cache waits for no reader. Memory is taken as events wait, whatever the capacity, up to the
    /// next power of two of the most that did, and given back with the subscription.
    ///
    /// # Panics
    /// If `capacity` is 0, as [`new`](Self::new) does for a bound of 0. One that comes from a
    /// configuration is better given to [`SubscribeOptions`](crate::pubsub::SubscribeOptions), for a
    /// topic of [`publish_events`](Self::publish_events): there it is an error.
    ///
    /// ```
    /// use haybox::{Cache, Event, EventKind};
    ///
    /// let cache = Cache::new(10);
    /// let events = cache.events(100);
    /// cache.insert("loaf", 1);
    /// cache.insert("loaf", 2);
    /// let kinds: Vec<_> = events.try_iter().map(|event| event.kind).collect();
    /// assert_eq!(kinds, [EventKind::Inserted, EventKind::Updated]);
    /// ```
    #[must_use = "dropping a subscription ends it"]
    #[track_caller]
    pub fn events(&self, capacity: usize) -> Events<K>
    where
        K: Clone,
    {
        assert!(
            capacity > 0,
            "a subscription needs room for one event at least"
        );
        self.engine.hub.subscribe(capacity)
    }

    /// Publishes what happens in the cache from now on to a topic of a [`Bus`](crate::pubsub::Bus),
    /// until the topic is closed or the cache is gone: Redis's keyspace notifications.
    ///
    /// The events of one key come in the order in which they happened. They are published by the
    /// thread whose call caused them, after its locks are released; events of the background's
    /// sweeps come from a background thread. A subscription with
    /// [`Slow::Block`](crate::pubsub::Slow::Block) therefore holds up writers when it is slow.
    /// While nobody subscribes to the topic, each write still pays for noting the event.
    ///
    /// ```
    /// use haybox::{Cache, Event, EventKind, pubsub::Bus};
    ///
    /// let (bus, cache) = (Bus::new(), Cache::new(10));
    /// let changes = bus.topic::<Event<&str>>("cache.bread")?;
    /// cache.publish_events(&changes);
    /// let subscription = changes.subscribe();
    /// cache.insert("loaf", 1);
    /// let event = subscription.recv()?;
    /// assert_eq!((event.key, event.kind), ("loaf", EventKind::Inserted));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "keyspace notifications")]
    pub fn publish_events(&self, topic: &Topic<Event<K>>)
    where
        K: Clone + Send + Sync + 'static,
    {
        self.engine.hub.publish_to(topic);
    }

    /// Removes every entry for which `keep` returns `false`, set by set: entries that other
    /// threads insert meanwhile may or may not be seen.
    ///
    /// `keep` runs under the lock of a set: a call of a cache from inside it panics. It overtakes
    /// all loads that are under way.
    ///
    /// ```
    /// let stock = haybox::Cache::new(100);
    /// stock.insert_many([("oats", 12), ("rye", 0)]);
    /// stock.retain(|_, count| *count > 0);
    /// assert_eq!(stock.len(), 1);
    /// ```
    #[doc(alias = "invalidate_entries_if")]
    #[track_caller]
    pub fn retain(&self, keep: impl FnMut(&K, &V) -> bool) {
        self.engine.retain(keep);
    }

    /// Removes every entry, set by set: entries that other threads insert meanwhile may or may not
    /// survive.
    #[doc(alias = "invalidateAll")]
    #[doc(alias = "FLUSHDB")]
    #[doc(alias = "invalidate_all")]
    #[track_caller]
    pub fn clear(&self) {
        self.engine.retain(|_, _| false);
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Cache<K, V, S> {
    /// How many loads are under way that callers could wait for, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn loads_under_way(&self) -> usize {
        self.engine.loads_under_way()
    }

    /// Checks every invariant of the cache, for tests. Nobody else may use it meanwhile.
    ///
    /// # Panics
    /// With the first that does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.engine.validate(&|key| self.hash(key));
    }
}
