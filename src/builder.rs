//! Every option of a cache, and the one place where they are checked.

use crate::build_error::{BuildError, SettingsOf};
use crate::cache::Cache;
use crate::engine::{BYTES_PER_LABEL, Budget, Engine, Policy, start_sweeping};
use crate::entry::{EvictionPolicy, Expiry, OnFull};
use crate::event::{Hub, Listener, RemovalCause};
use crate::hash::DefaultHashBuilder;
use crate::labels;
use crate::load::{Age, BoxedLoad, Freshness};
#[cfg(feature = "persist")]
use crate::persist::DirKind;
use crate::stats::Counters;
use crate::time::Clock;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem::needs_drop;
use std::time::Duration;

/// A bound in entries as it is kept: the last number stands for none.
pub(crate) fn greatest_bound(max_entries: usize) -> usize {
    max_entries.min(usize::MAX - 1)
}

/// What [`CacheBuilder::lock_timeout`] is if nobody says.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds a [`Cache`]. From [`Cache::builder`].
///
/// A time that is zero, which would be none, is an error when it is built, as for all builders of
/// this crate, unless the setting says what zero means; one that is longer than the clock can count
/// to, such as [`Duration::MAX`], has no end.
///
/// The compiler has to know the types of keys and values when it meets a closure that uses them:
/// name them before it, as in `Cache::<String, Vec<u8>>::builder()`, or in the closure.
///
/// | option | default |
/// | --- | --- |
/// | [`max_entries`](Self::max_entries), [`max_weight`](Self::max_weight), [`max_memory`](Self::max_memory) | no bound |
/// | [`weigher`](Self::weigher) | each entry weighs 1 |
/// | [`on_full`](Self::on_full) | evict |
/// | [`eviction_policy`](Self::eviction_policy) | adaptive |
/// | [`time_to_live`](Self::time_to_live), [`time_to_idle`](Self::time_to_idle), [`expiry`](Self::expiry) | entries live until they are removed or evicted |
/// | [`ttl_jitter`](Self::ttl_jitter) | none |
/// | [`sweep_interval`](Self::sweep_interval) | 1 s |
/// | [`lock_timeout`](Self::lock_timeout) | 30 s |
/// | [`freshness`](Self::freshness), [`spawner`](Self::spawner) | none |
/// | [`negative_ttl`](Self::negative_ttl), [`error_ttl`](Self::error_ttl) | nothing is remembered but values |
/// | [`negative_weigher`](Self::negative_weigher) | what is remembered weighs 1 |
/// | [`group_by`](Self::group_by) | no groups |
/// | [`removal_listener`](Self::removal_listener) | none |
/// | [`stats`](Self::stats) | on |
/// | [`clock`](Self::clock) | the system's |
/// | [`hasher`](Self::hasher) | `ahash`, seeded for each cache |
///
/// ```
/// use haybox::Cache;
/// use std::time::Duration;
///
/// let pages = Cache::<String, String>::builder()
///     .max_memory(64 << 20)
///     .weigher(|path, page| (path.capacity() + page.capacity()) as u64)
///     .time_to_live(Duration::from_secs(300))
///     .build()?;
/// # Ok::<(), haybox::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct CacheBuilder<K, V, S = DefaultHashBuilder> {
    max_entries: Option<usize>,
    max_weight: Option<u64>,
    max_memory: Option<u64>,
    policy: Policy<K, V>,
    clock: Clock,
    stats: bool,
    listener: Option<Listener<K, V>>,
    hasher: S,
    /// The role that asks for the cache, where one does: what its directory is kept for.
    #[cfg(feature = "persist")]
    role: Option<DirKind>,
}

/// Entries that a table starts with where a bound in weight may end it at fewer.
const GROWS_FROM: usize = 1000;

impl<K, V, S> fmt::Debug for CacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("max_entries", &self.max_entries)
            .field("max_weight", &self.max_weight)
            .field("max_memory", &self.max_memory)
            .field("time_to_live", &self.policy.time_to_live)
            .field("time_to_idle", &self.policy.time_to_idle)
            .field("on_full", &self.policy.on_full)
            .field("eviction_policy", &self.policy.eviction)
            .field("sweep_interval", &self.policy.sweep_interval)
            .finish_non_exhaustive()
    }
}

impl<K, V> CacheBuilder<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self {
            max_entries: None,
            max_weight: None,
            max_memory: None,
            policy: Policy {
                time_to_live: None,
                time_to_idle: None,
                ttl_jitter: 0.0,
                expiry: None,
                weigher: None,
                negative_weigher: None,
                group: None,
                on_full: OnFull::Evict,
                sweep_interval: Duration::from_secs(1),
                lock_timeout: LOCK_TIMEOUT,
                is_plain: false,
                reads_move_deadlines: false,
                negative_ttl: None,
                error_ttl: None,
                freshness: None,
                spawner: None,
                reads_change_sets: false,
                eviction: EvictionPolicy::Adaptive,
                start_sweeping,
            },
            clock: Clock::real(),
            stats: true,
            listener: None,
            hasher: DefaultHashBuilder::default(),
            #[cfg(feature = "persist")]
            role: None,
        }
    }
}

impl<K, V, S> CacheBuilder<K, V, S> {
    /// The most entries that the cache holds, at least 1. Default: no bound. `usize::MAX` is more
    /// than there ever are, and counts as one less.
    ///
    /// A cache bounded at N that is given N keys keeps all N. A cache without any bound grows
    /// until its entries expire or are removed.
    ///
    /// The table is made for the bound: where there are few of many entries, each takes a set of
    /// its own, with room for those to come, about 1 kB of it, and the sets themselves come to
    /// some 7 bytes for each entry of the bound. With ten entries of `u64` a cache bounded at 1,000
    /// takes 14 kB, at 10,000 61 kB, at 100,000 230 kB, and one without a bound 3 kB. So bound
    /// thousands of small caches tightly, or keep all tenants in one with
    /// [`group_by`](Self::group_by), which ends what belongs to one of them.
    #[doc(alias = "max_capacity")]
    #[doc(alias = "maximumSize")]
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = Some(greatest_bound(max_entries));
        self
    }

    /// The most that all entries may weigh together, at least 1. Default: no bound.
    ///
    /// What an entry weighs the [`weigher`](Self::weigher) says, in units of its own; without one
    /// each weighs 1. An entry heavier than the whole bound is refused. Where there is a
    /// [`max_memory`](Self::max_memory) as well the units are bytes, and tags are part of the
    /// weight.
    #[doc(alias = "max_capacity")]
    #[doc(alias = "maximumWeight")]
    pub fn max_weight(mut self, max_weight: u64) -> Self {
        self.max_weight = Some(max_weight);
        self
    }

    /// About how many bytes the cache may take up. Default: no bound.
    ///
    /// Each entry counts with what the table spends on it (its key and value themselves, 8 bytes of
    /// the store's own, a share of its set) and with the bytes that the [`weigher`](Self::weigher)
    /// gives for what its key and value hold on the heap. Keys and values that have destructors, as
    /// all that hold something there, need one: without it a bound of a megabyte would let any
    /// number of megabytes of text in. One that says 0 will do where nothing lies there all the
    /// same.
    ///
    /// Tags and groups are counted, too, and so are keys of which it is only remembered that they
    /// have no value, whose heap the [`negative_weigher`](Self::negative_weigher) gives. Not
    /// counted are directories, loads under way and the slack of the allocator: expect the process
    /// to grow by some 10 % more. Where only some entries in a hundred have tags, all take up to 32
    /// bytes more, since those near one with tags have room for some. The 24 bytes for an age are
    /// counted where the cache has a [`freshness`](Self::freshness), and not where only a handle or a
    /// loader speaks of it: give the cache one, if only `Freshness::new()`. Must have room for one
    /// entry besides its heap; how many bytes that are, some 30 and the key and the value, says the
    /// error of a bound that has not.
    ///
    /// ```
    /// use haybox::Cache;
    ///
    /// let pages = Cache::<u32, String>::builder()
    ///     .max_memory(1 << 20)
    ///     .weigher(|_, page| page.capacity() as u64)
    ///     .build()?;
    /// for number in 0..10_000 {
    ///     pages.insert(number, "x".repeat(1_000));
    /// }
    /// assert!((900..1_049).contains(&pages.len()));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// What an entry weighs: in units of your own under [`max_weight`](Self::max_weight), in
    /// bytes on the heap under [`max_memory`](Self::max_memory). Needs one of the two.
    ///
    /// It is called once for each write, outside all locks by insertions, and under the lock of
    /// the entry's set by `update`, `compute` and transactions, where a call of a cache panics.
    /// An entry of weight 0 is not bounded by weight. What comes back from a directory is weighed
    /// anew as it is opened.
    ///
    /// The compiler has to know the types when it meets the closure, here and in the other settings
    /// that take one: name them there, or as in `Cache::<String, Vec<u8>>::builder()`.
    ///
    /// ```
    /// use haybox::Cache;
    ///
    /// let files = Cache::<String, Vec<u8>>::builder()
    ///     .max_weight(10_000)
    ///     .weigher(|_, file| file.len() as u64)
    ///     .build()?;
    /// files.insert("hay.txt".to_string(), vec![0; 9_000]);
    /// files.insert("too_big.txt".to_string(), vec![0; 10_001]);
    /// assert_eq!((files.len(), files.weight()), (1, 9_000));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.policy.weigher = Some(Box::new(weigher));
        self
    }

    /// What a key weighs of which it is only remembered that it has no value, or that it could not
    /// be loaded: in the units of the [`weigher`](Self::weigher), so under
    /// [`max_memory`](Self::max_memory) the bytes that it holds on the heap.
    ///
    /// The weigher cannot say it, for want of a value, and without it strangers who ask for what
    /// does not exist, by ever longer names, would take more memory than the cache is allowed. So
    /// where a weigher counts against [`max_weight`](Self::max_weight), or keys have destructors, a
    /// [`negative_ttl`](Self::negative_ttl) or [`error_ttl`](Self::error_ttl) needs it; an absence
    /// that only its loader wants remembered ([`Loaded::ttl`](crate::Loaded::ttl)) is not, without
    /// it. Elsewhere what is remembered weighs 1.
    ///
    /// Under `max_memory` tags and the error itself are counted besides. What an error holds on the
    /// heap is not seen: add an allowance where that may be much. It is called outside all locks.
    ///
    /// ```
    /// use haybox::Cache;
    /// use std::time::Duration;
    ///
    /// let pages = Cache::<String, String>::builder()
    ///     .max_memory(1 << 20)
    ///     .weigher(|path, page| (path.capacity() + page.capacity()) as u64)
    ///     .negative_ttl(Duration::from_secs(60))
    ///     .negative_weigher(|path| path.capacity() as u64)
    ///     .build()?;
    /// for number in 0..1_000 {
    ///     let unknown = format!("{number:>10000}");
    ///     assert_eq!(pages.get_or_find_with(&unknown, || None), None);
    /// }
    /// assert!(pages.memory() <= 1 << 20);
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    pub fn negative_weigher(mut self, weigher: impl Fn(&K) -> u64 + Send + Sync + 'static) -> Self {
        self.policy.negative_weigher = Some(Box::new(weigher));
        self
    }

    /// Puts the keys into groups, each of which [`Cache::invalidate_group`] ends in O(1): the
    /// tenant of a (tenant, id), the part of a path up to a slash. Default: none.
    ///
    /// The function borrows the group from the key; for what would have to be made from it, such as
    /// a number divided by a hundred, use [tags](Cache::invalidate_tag). It is called once for each
    /// write, outside all locks by insertions and loads, and under the lock of the entry's set by
    /// `compute`, transactions and the opening of a directory, where a call of a cache panics.
    /// Costs about 30 bytes for each entry. Where it changes between two openings of a directory,
    /// what comes back is of its new group from then on, and of the one that it had, until it is
    /// written again.
    ///
    /// ```
    /// use haybox::Cache;
    ///
    /// let invoices = Cache::<(String, u64), u32>::builder()
    ///     .max_entries(10_000)
    ///     .group_by(|(tenant, _)| tenant)
    ///     .build()?;
    /// invoices.insert(("hayco".to_string(), 1), 250);
    /// invoices.insert(("strawco".to_string(), 1), 300);
    /// invoices.invalidate_group("hayco");
    /// assert_eq!(invoices.get(&("hayco".to_string(), 1)), None);
    /// assert_eq!(invoices.get(&("strawco".to_string(), 1)), Some(300));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    pub fn group_by<G: Hash + ?Sized>(
        mut self,
        group: impl Fn(&K) -> &G + Send + Sync + 'static,
    ) -> Self {
        self.policy.group = Some(Box::new(move |key| labels::of_group(group(key))));
        self
    }

    /// What a full cache does with a new entry. Default: [`OnFull::Evict`].
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.policy.on_full = on_full;
        self
    }

    /// Which entry goes when a full cache takes a new one. Default: [`EvictionPolicy::Adaptive`].
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.policy.eviction = policy;
        self
    }

    /// How long an entry lives after it was written, unless the write says otherwise. Default:
    /// for ever.
    ///
    /// More than zero. The end comes on the microsecond, rounded down (so that less than one may be
    /// nothing); from 1 s on it is reckoned in ticks of the kernel and may come one tick (1 to 10
    /// ms) early. It never comes late. What would end more than 142 years after the clock started,
    /// which is most often with the machine, never ends.
    #[doc(alias = "expireAfterWrite")]
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.policy.time_to_live = Some(ttl);
        self
    }

    /// How long an entry lives after its last access (a read, a write, a `touch`), at most to the
    /// end of its time to live. Default: for ever.
    ///
    /// More than zero. Costs 16 bytes per entry, and each read a store. As for
    /// [`time_to_live`](Self::time_to_live), the end may come one tick early, on a microsecond.
    #[doc(alias = "expireAfterAccess")]
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.policy.time_to_idle = Some(idle);
        self
    }

    /// Takes a random share off each default TTL, up to this one, so that entries written together
    /// do not all expire together. From 0, the default, to 1. Needs a
    /// [`time_to_live`](Self::time_to_live).
    ///
    /// A TTL given with a write, or by an [`Expiry`] policy, is taken as it is.
    pub fn ttl_jitter(mut self, share: f64) -> Self {
        self.policy.ttl_jitter = share;
        self
    }

    /// A policy that decides for each entry how long it lives. Default: none.
    ///
    /// Where there is a [`time_to_live`](Self::time_to_live) too, the sooner end counts. A TTL
    /// given with a write goes before both.
    #[doc(alias = "expire_after")]
    #[doc(alias = "expireAfter")]
    pub fn expiry(mut self, expiry: impl Expiry<K, V> + 'static) -> Self {
        self.policy.expiry = Some(Box::new(expiry));
        self
    }

    /// How often expired entries are looked for in the background, which bounds how long their
    /// memory stays in use. Default: 1 s. More than zero.
    ///
    /// No read ever sees an expired value, however long the interval.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.policy.sweep_interval = interval;
        self
    }

    /// How long callers wait for a load of another caller before one of them loads, for which the
    /// others wait as long again: [what every loading call
    /// keeps](Cache#what-every-loading-call-keeps). Default: 30 s. More than zero.
    ///
    /// It bounds how often a source that hangs is asked: of a crowd that waits for one key, one more
    /// in each time-out. A caller that must have an answer sooner, or an error, gets it by
    /// [`Freshness::hard_timeout`](crate::Freshness::hard_timeout).
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.policy.lock_timeout = timeout;
        self
    }

    /// How long it is remembered that a loader has found no value for a key. Default: not at all.
    /// More than zero.
    ///
    /// It concerns the calls whose loader may find nothing: [`read_through`](Cache::read_through),
    /// [`get_or_find_with`](Cache::get_or_find_with), [`get_or_find`](Cache::get_or_find), their
    /// other forms, and those for several keys. While it is remembered they answer `None` without
    /// loading. No other call sees it: the key is not in the cache.
    ///
    /// A write or removal of the key forgets it, as do the invalidation of its group or of a tag
    /// that the loader gave it, [`retain`](Cache::retain) and [`clear`](Cache::clear). It counts
    /// against the bounds as an entry, with the weight that the
    /// [`negative_weigher`](Self::negative_weigher) gives. In a full cache, what is remembered this
    /// way makes room first, as long as there is more than one of it for every eight entries, or it
    /// weighs more than an eighth of the bound, so that questions for what does not exist cannot
    /// push out what does. A cache that [refuses](OnFull::Reject) new entries when it is full gives
    /// up all of it before it refuses one.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.policy.negative_ttl = Some(ttl);
        self
    }

    /// How long a loader's error is remembered. Default: not at all. More than zero.
    ///
    /// Who asks meanwhile gets the same error without loading, if its type is that of the caller.
    /// Where there is an old value to serve, [`Freshness::retry_after`] counts instead. For a
    /// source that needs rest after a failure. It is bounded and forgotten as
    /// [`negative_ttl`](Self::negative_ttl) says.
    pub fn error_ttl(mut self, ttl: Duration) -> Self {
        self.policy.error_ttl = Some(ttl);
        self
    }

    /// When values are loaded anew before their TTL is over, and when a stale one is better than
    /// none. Default: neither. Costs about 30 bytes per entry.
    ///
    /// It concerns all calls that load. Those that are given their loader with the call run it
    /// inside the call: the caller that notices that a value is due loads it, and the others get
    /// the old one meanwhile. A [`ReadThrough`](crate::ReadThrough) owns its loader, as does a
    /// [`ReadThroughMany`](crate::ReadThroughMany), so they load behind their callers.
    ///
    /// Where the TTL ends before a value is due, or where there is none to take a share of, nothing
    /// is loaded anew. That is no error, since a loader or a write may give a TTL of its own.
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.policy.freshness = Some(freshness);
        self
    }

    /// What runs the loads of a [`ReadThroughAsync`](crate::ReadThroughAsync) and of a
    /// [`ReadThroughManyAsync`](crate::ReadThroughManyAsync), so that they need no caller: a
    /// function that spawns a future. With it a value is loaded anew behind those who get the old
    /// one, and a load that has begun runs to its end and is stored though its callers have gone
    /// away: a client that hangs up, a time-out around the call, a `select!`.
    ///
    /// Default: none; the caller that notices that a value is missing or due then loads it, within
    /// its own task, and if its future is dropped another caller begins anew. A query that takes
    /// longer than every client has patience then never comes to its end.
    ///
    /// ```
    /// use haybox::Cache;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # let _entered = runtime.enter();
    /// let runtime = tokio::runtime::Handle::current();
    /// let cache = Cache::<u32, String>::builder()
    ///     .max_entries(1000)
    ///     .spawner(move |load| drop(runtime.spawn(load)))
    ///     .build()?;
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    ///
    /// It is called by the task that asks, so if it panics, as `tokio::spawn` does outside a
    /// runtime, that task does. If it drops the future, or the future is dropped later, a caller
    /// loads. So does one that has waited for [`lock_timeout`](Self::lock_timeout), within its own
    /// task, also where its load goes on: set it to longer than a load takes. A future that was not
    /// polled until then does nothing any more. If the loader panics, so does the caller whose load
    /// it is, unless there is an old value to serve.
    pub fn spawner(mut self, spawn: impl Fn(BoxedLoad) + Send + Sync + 'static) -> Self {
        self.policy.spawner = Some(Box::new(spawn));
        self
    }

    /// Whether calls are counted for [`Cache::stats`]. Default: yes, which costs about a
    /// nanosecond a call. Sizes are known in any case.
    #[doc(alias = "recordStats")]
    pub fn stats(mut self, counted: bool) -> Self {
        self.stats = counted;
        self
    }

    /// What the cache reads the time from. Default: [`Clock::real`].
    #[doc(alias = "ticker")]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Has a function told of every value that leaves the cache, with its key and the cause.
    ///
    /// It runs after the fact, outside all locks, on the thread whose call removed the value (or
    /// on one that is delivering another's events, or on a background thread for what the sweep
    /// removes). It may call the cache. What concerns one key comes in the order in which it
    /// happened. If it panics, the panic is caught and counted in
    /// [`Stats::listener_panics`](crate::Stats::listener_panics), and it goes on being called.
    ///
    /// A listener that is slower than the writers holds them up: with 1,024 removals waiting in its
    /// queue (one of 16, by the hash of the key), a call that removes something waits for it,
    /// outside all locks, for a second at most. So does a call that the listener of another cache
    /// makes, but none that it makes itself.
    ///
    /// Where nothing at all was delivered in that second the listener hangs, and another 1,024
    /// removals are let into the queue before a call waits again. So a call that removes many
    /// entries, or the thread that delivers what expires, is held up for a second by each 1,024 of
    /// them. What waits for a listener that hangs has no bound, but grows in each queue by no more
    /// than that in a second, and by what one call of each thread and all calls of the listener
    /// itself remove.
    ///
    /// A value that the caller gets, too, is cloned for it; if that panics, this one call of the
    /// listener is lost and counted likewise. A value changed in place by `update`
    /// has not left. Nothing is told when the last handle of the cache is dropped, nor of what
    /// expires while a directory that the cache is kept in is closed: what has to be done in any
    /// case when a time is up, does a delayed message of a kept
    /// [`Queue`](crate::queue::Queue).
    ///
    /// A listener that has a [`Cache`] handle of its own keeps the cache for ever, and its
    /// directory open: give it a [`WeakCache`](crate::WeakCache), whose example shows how. One that
    /// stores what was evicted in the same full cache evicts something else by that, is told of it,
    /// and so on without end: the call that evicted first does not return.
    #[doc(alias = "eviction_listener")]
    #[doc(alias = "removalListener")]
    pub fn removal_listener(
        mut self,
        listener: impl Fn(K, V, RemovalCause) + Send + Sync + 'static,
    ) -> Self
    where
        K: Clone,
        V: Clone,
    {
        self.listener = Some(Listener {
            own: self.listener.and_then(|other| other.own),
            call: Some(Box::new(listener)),
            clone_key: K::clone,
            clone_value: V::clone,
        });
        self
    }

    /// The same for what is built on the cache, whose listener no other takes the place of.
    #[cfg(feature = "session")]
    pub(crate) fn own_listener(
        mut self,
        listener: impl Fn(&K, &V, RemovalCause) + Send + Sync + 'static,
    ) -> Self
    where
        K: Clone,
        V: Clone,
    {
        self.listener = Some(Listener {
            own: Some(Box::new(listener)),
            call: self.listener.and_then(|other| other.call),
            clone_key: K::clone,
            clone_value: V::clone,
        });
        self
    }

    /// The hasher of the keys. Default: [`DefaultHashBuilder`].
    ///
    /// A fast one of little quality will do: its output is mixed once more.
    pub fn hasher<H>(self, hasher: H) -> CacheBuilder<K, V, H> {
        CacheBuilder {
            max_entries: self.max_entries,
            max_weight: self.max_weight,
            max_memory: self.max_memory,
            policy: self.policy,
            clock: self.clock,
            stats: self.stats,
            listener: self.listener,
            hasher,
            #[cfg(feature = "persist")]
            role: self.role,
        }
    }

    /// Says for which role the cache is: a directory that it is opened on is kept for that.
    #[cfg(feature = "persist")]
    pub(crate) fn of_role(mut self, role: DirKind) -> Self {
        self.role = Some(role);
        self
    }

    #[cfg(feature = "persist")]
    pub(crate) fn role(&self) -> Option<DirKind> {
        self.role
    }

    #[cfg(feature = "persist")]
    pub(crate) fn chosen_clock(&self) -> &Clock {
        &self.clock
    }

    /// The first setting that says nothing to a store.
    #[cfg(feature = "persist")]
    pub(crate) fn check_store(&self) -> Result<(), BuildError> {
        let policy = &self.policy;
        let evicts = "is for caches: a store evicts nothing";
        let loads = "is for caches: a store has no calls that load";
        let settings = [
            ("freshness", policy.freshness.is_some()),
            ("spawner", policy.spawner.is_some()),
            ("negative_ttl", policy.negative_ttl.is_some()),
            ("error_ttl", policy.error_ttl.is_some()),
            ("negative_weigher", policy.negative_weigher.is_some()),
            ("lock_timeout", policy.lock_timeout != LOCK_TIMEOUT),
        ];
        let is_of_eviction = policy.eviction != EvictionPolicy::Adaptive;
        SettingsOf("Store").check([(is_of_eviction, "eviction_policy", evicts)])?;
        SettingsOf("Store").check(settings.map(|(setting, is_set)| (is_set, setting, loads)))
    }

    /// Whether keys or values can hold memory of their own. What holds some gives it back when it
    /// is dropped.
    const MAY_HOLD_MORE: bool = needs_drop::<K>() || needs_drop::<V>();

    /// The first setting that no cache can have.
    fn check(&self, overhead: u64) -> Result<(), BuildError> {
        let policy = &self.policy;
        let bounded_by_weight = self.max_weight.is_some() || self.max_memory.is_some();
        let checks = [
            (
                self.max_entries == Some(0),
                "max_entries",
                "must be at least 1: leave it out where there is to be no bound",
            ),
            (
                self.max_weight == Some(0),
                "max_weight",
                "must be at least 1: leave it out where there is to be no bound",
            ),
            (
                self.max_memory.is_some() && policy.weigher.is_none() && Self::MAY_HOLD_MORE,
                "max_memory",
                "needs a weigher that says how many bytes keys and values hold on the heap (0 if none): \
                 with it a bound on bytes is one, without it only the entries themselves would count",
            ),
            (
                policy.weigher.is_some() && !bounded_by_weight,
                "weigher",
                "needs a bound to count against: set max_weight or max_memory",
            ),
            (
                policy.negative_weigher.is_some() && !bounded_by_weight,
                "negative_weigher",
                "needs a bound to count against: set max_weight or max_memory",
            ),
            (
                (policy.negative_ttl.is_some() || policy.error_ttl.is_some())
                    && policy.lacks_negative_weigher(self.max_weight.is_some()),
                "negative_weigher",
                "is needed where absences or errors are remembered: without a value the weigher \
                 cannot say what their keys weigh, and they would not be bounded",
            ),
            (
                !(0.0..=1.0).contains(&policy.ttl_jitter),
                "ttl_jitter",
                "must be a share from 0.0 to 1.0",
            ),
            (
                policy.ttl_jitter != 0.0 && policy.time_to_live.is_none(),
                "ttl_jitter",
                "needs a time_to_live, which it is taken off",
            ),
        ];
        SettingsOf("Cache").check(checks)?;
        if self.max_memory.is_some_and(|max| max < overhead) {
            return Err(BuildError::no_room(overhead));
        }
        SettingsOf("Cache").check_optional_times([
            ("time_to_live", policy.time_to_live),
            ("time_to_idle", policy.time_to_idle),
            ("negative_ttl", policy.negative_ttl),
            ("error_ttl", policy.error_ttl),
        ])?;
        SettingsOf("Cache").check_times([
            ("sweep_interval", policy.sweep_interval),
            ("lock_timeout", policy.lock_timeout),
        ])?;
        match &policy.freshness {
            Some(freshness) => freshness.check(),
            None => Ok(()),
        }
    }

    /// Bytes of the table for each entry, besides what it holds on the heap.
    fn overhead(&self) -> u64 {
        let idle = if self.policy.time_to_idle.is_some() {
            16
        } else {
            0
        };
        let weights = if self.policy.weigher.is_some() { 8 } else { 0 };
        let ages = if self.policy.freshness.is_some() {
            size_of::<Age>() as u64
        } else {
            0
        };
        let group = if self.policy.group.is_some() {
            BYTES_PER_LABEL
        } else {
            0
        };
        Engine::<K, V>::bytes_per_entry() + idle + weights + ages + group
    }
}

impl<K, V, S> CacheBuilder<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Clone,
{
    /// Builds the cache.
    ///
    /// # Errors
    /// [`BuildError`] names the first setting that no cache can have and the range it has to be
    /// in.
    pub fn build(self) -> Result<Cache<K, V, S>, BuildError> {
        self.assemble(true)
    }

    /// Builds the cache. One that is going to be recorded takes no short ways.
    pub(crate) fn assemble(self, has_short_ways: bool) -> Result<Cache<K, V, S>, BuildError> {
        let overhead = self.overhead();
        self.check(overhead)?;
        // A table that is bounded by weight too may never hold that many: it starts small and
        // grows.
        let most = if self.max_weight.is_some() {
            GROWS_FROM
        } else {
            usize::MAX
        };
        let expected = self.max_entries.unwrap_or(0).min(most);
        let by_memory = self.max_memory.map_or(usize::MAX, |max| {
            usize::try_from(max / overhead).unwrap_or(usize::MAX)
        });
        let max_entries = self.max_entries.map(|max| max as u64);
        let has_weigher = self.policy.weigher.is_some();
        let budget = Budget::new(
            max_entries,
            self.max_weight,
            self.max_memory,
            overhead,
            has_weigher,
        );
        let mut policy = self.policy;
        policy.reads_move_deadlines = policy.time_to_idle.is_some() || policy.expiry.is_some();
        policy.reads_change_sets =
            policy.reads_move_deadlines || policy.eviction == EvictionPolicy::Lru;
        policy.is_plain = has_short_ways && budget.counts_entries_only() && policy.asks_nothing();
        let counters = self.stats.then(Counters::new);
        let hub = Hub::new(self.listener);
        let engine = Engine::new(
            expected.min(by_memory),
            budget,
            policy,
            self.clock,
            counters,
            hub,
        );
        Ok(Cache::from_parts(engine, self.hasher))
    }
}
