//! Counters by key: likes, views, metrics.
//!
//! Redis's `INCR`, and what people build from it: counts that many threads change at once, rates
//! over the last minutes, the keys that count most, counts that start anew after a time.
//!
//! A counter here is for counting and not for numbering: [`incr`](Counters::incr) does not say what
//! the count has become, since no thread knows what others are counting at that moment. Where
//! every caller needs a number of its own,
//! [`Cache::update_or_insert_with`](crate::Cache::update_or_insert_with) gives it.
//!
//! ```
//! use haybox::counter::Counters;
//! use std::time::Duration;
//!
//! let minute = Duration::from_secs(60);
//! let likes = Counters::<String>::builder().window(minute).build()?;
//! (0..3).for_each(|_| likes.incr("bread"));
//! likes.add("soup", 2);
//! assert_eq!(likes.top(1), [("bread".to_owned(), 3)]);
//! assert_eq!(likes.recent("bread", minute), 3);
//! assert_eq!((likes.take("soup"), likes.get("soup")), (2, 0)); // To write it to a database.
//! # Ok::<(), haybox::BuildError>(())
//! ```
//!
//! No call waits for anything but a short lock, so tasks make the same ones.

mod builder;
#[cfg(feature = "persist")]
mod kept;
mod life;
mod recent;
mod shard;

pub use builder::CountersBuilder;
#[cfg(feature = "persist")]
pub use kept::FlushError;

use crate::contain::contain;
use crate::equivalent::Equivalent;
use crate::hash::DefaultHashBuilder;
use crate::reentrancy;
use crate::sync::Mutex;
use crate::thread;
use crate::time::{Aftermath, Clock, Sweep, Swept, register};
use crate::to_key::ToKey;
use hashtable::HashTable;
use life::{Life, Lives};
use recent::Windows;
use shard::{Cell, Found, Shard, Taken};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Counts by key, which any number of threads change at once without waiting for each other.
///
/// A handle: clone it into every thread and task. A key that was never counted is at 0 and takes
/// no memory; one that was stays until it is taken, or until its time is up where the counters have
/// a [`time_to_live`](CountersBuilder::time_to_live).
///
/// # How it counts
/// Threads count in stripes of their own, twice as many as the machine has processors (at most
/// 64), and a key that several threads count is in several stripes. So a hot key costs its writers
/// no more than a cold one (some 10 ns), and what reads has to add up: [`get`](Self::get) is
/// O(stripes), [`top`](Self::top) O(keys). Nothing counted is lost or counted twice, whatever `Eq`,
/// `Clone` or the destructor of a key does. What others count during a call that reads may or may
/// not be in its answer.
///
/// Counts are `i64` and wrap around, as those of
/// [`AtomicI64`](std::sync::atomic::AtomicI64) do.
///
/// # Memory
/// For each key and each stripe that counted it: the key, 32 bytes, and a seventh more for free
/// room, or as much again where a table has just grown; with a [`window`](CountersBuilder::window)
/// up to 1 kB more. 4 kB for each stripe in use.
///
/// ```
/// use haybox::counter::Counters;
///
/// let likes: Counters<String> = Counters::new();
/// std::thread::scope(|threads| {
///     for _ in 0..4 {
///         threads.spawn(|| (0..1_000).for_each(|_| likes.incr("bread")));
///     }
/// });
/// likes.incr("soup");
/// likes.decr("bread");
/// assert_eq!(likes.get("bread"), 3_999);
/// assert_eq!(likes.top(1), [("bread".to_owned(), 3_999)]);
/// // What goes to the database every minute: what came in since the last time.
/// assert_eq!(likes.take("bread"), 3_999);
/// assert_eq!(likes.get("bread"), 0);
/// ```
pub struct Counters<K, S = DefaultHashBuilder>(Arc<State<K>>, S);

struct State<K> {
    clock: Clock,
    /// Made when a thread first counts in them. A power of two.
    stripes: Box<[OnceLock<Stripe<K>>]>,
    windows: Option<Windows>,
    /// Where counters live for a time only.
    lives: Option<Lives<K>>,
    /// Lives whose cells a sweep has not found all, since a lock was not free.
    unfinished: Mutex<Vec<Arc<Life>>>,
    sweep_interval: Duration,
    /// Where counters survive a restart.
    #[cfg(feature = "persist")]
    kept: Option<Box<dyn kept::Keep<K>>>,
}

type Stripe<K> = Box<[Shard<K>]>;

/// Parts of a stripe, so that what walks over all keys holds no lock for long. A power of two.
const SHARDS: usize = 16;

fn shard_of(hash: u64) -> usize {
    // The table takes the lowest bits and the highest.
    (hash >> 40) as usize % SHARDS
}

impl<K, S: Clone> Clone for Counters<K, S> {
    fn clone(&self) -> Self {
        // Code of the user's, which may panic: before the handle is counted.
        let hasher = self.1.clone();
        #[cfg(feature = "persist")]
        if let Some(kept) = &self.0.kept {
            kept.enter();
        }
        Self(Arc::clone(&self.0), hasher)
    }
}

#[cfg(feature = "persist")]
impl<K, S> Drop for Counters<K, S> {
    fn drop(&mut self) {
        if let Some(kept) = &self.0.kept {
            kept.leave(&self.0);
        }
    }
}

impl<K, S> fmt::Debug for Counters<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Counters");
        shown
            .field("time_to_live", &self.0.lives.as_ref().map(Lives::time))
            .field("window", &self.0.windows.as_ref().map(Windows::longest))
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Default for Counters<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Counters<K> {
    /// Counters that count until they are taken, without windows.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults are possible")
    }

    /// Sets the options of counters.
    pub fn builder() -> CountersBuilder<K> {
        CountersBuilder::new()
    }
}

impl<K, S> Counters<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    fn with(state: State<K>, hasher: S) -> Self {
        let state = Arc::new(state);
        if state.lives.is_some() {
            let sweep: Weak<State<K>> = Arc::downgrade(&state);
            register(&state.clock, sweep, state.sweep_interval);
        }
        Self(state, hasher)
    }

    /// Counts one more.
    ///
    /// # Panics
    /// As every call here: if it is made from inside a closure, `Eq` or `Clone` that a cache or
    /// counters run under a lock.
    #[inline]
    pub fn incr<Q>(&self, key: &Q)
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.add(key, 1);
    }

    /// Counts one less; a count may go below 0.
    #[inline]
    pub fn decr<Q>(&self, key: &Q)
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.add(key, -1);
    }

    /// Counts `by` more, or less where it is negative.
    #[doc(alias = "INCRBY")]
    #[doc(alias = "ZINCRBY")]
    #[inline]
    pub fn add<Q>(&self, key: &Q, by: i64)
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        if !reentrancy::check() {
            return;
        }
        let state = &*self.0;
        let hash = self.1.hash_one(key);
        let stripe = thread::slot() % state.stripes.len();
        let shards = state.stripes[stripe].get_or_init(new_stripe);
        let shard = &shards[shard_of(hash)];
        if !shard.add(state, hash, key, by) {
            self.add_slowly(shard, hash, key, by);
        }
    }

    /// The key is not in the stripe, or its time is up.
    #[cold]
    fn add_slowly<Q>(&self, shard: &Shard<K>, hash: u64, key: &Q, by: i64)
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let state = &*self.0;
        loop {
            let life = state.lives.as_ref().map(|lives| {
                let (life, unused) = lives.begin(&state.clock, hash, key);
                drop(unused);
                life
            });
            let own = key.to_key();
            match shard.insert(state, hash, own, by, life) {
                Found::Done(left) => return drop(left),
                // Somebody took the counter between the two steps.
                Found::Over(left) => drop(left),
            }
        }
    }

    /// The count of a key, 0 for one that was never counted or whose time is up.
    #[must_use]
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> i64 {
        self.sum(key, |cell| cell.count)
    }

    /// What was counted within the last `within`, which is rounded up to 60ths of the longest
    /// window: all that is younger than `within` less one 60th of the longest window, and nothing
    /// that is older than `within`, on Linux to a tick of the kernel (at most 10 ms). Always 0
    /// where there is no [`window`](CountersBuilder::window); what is longer than that is cut to
    /// it.
    ///
    /// ```
    /// use haybox::{MockClock, counter::Counters};
    /// use std::time::Duration;
    ///
    /// let (time, minute) = (MockClock::new(), Duration::from_secs(60));
    /// let views = Counters::<String>::builder().window(minute).clock(time.clock()).build()?;
    /// views.add("bread", 30);
    /// time.advance(minute / 2);
    /// views.add("bread", 10);
    /// assert_eq!(views.recent("bread", minute), 40);
    /// assert_eq!(views.recent("bread", minute / 4), 10);
    /// time.advance(minute / 2);
    /// assert_eq!((views.recent("bread", minute), views.get("bread")), (10, 40));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    #[must_use]
    pub fn recent<Q>(&self, key: &Q, within: Duration) -> i64
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let Some(windows) = &self.0.windows else {
            return 0;
        };
        let range = windows.range(&self.0.clock, within);
        self.sum(key, |cell| cell.recent(&range))
    }

    /// What was counted for each second of the last `within`, or of the longest window where that
    /// is shorter. 0 where `within` is 0.
    ///
    /// Counted is in whole 60ths of the longest window, as many as cover `within` with what has
    /// passed of the one that runs, and what they hold is divided by their time: by `within` to one
    /// such step more, and by 59 of them at least where all that is kept is asked for.
    #[must_use]
    pub fn rate<Q>(&self, key: &Q, within: Duration) -> f64
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let Some(windows) = &self.0.windows else {
            return 0.0;
        };
        if within.is_zero() {
            return 0.0;
        }
        let (range, time) = windows.covering(&self.0.clock, within);
        self.sum(key, |cell| cell.recent(&range)) as f64 / time.as_secs_f64()
    }

    fn sum<Q>(&self, key: &Q, of: impl Fn(&Cell<K>) -> i64) -> i64
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if !reentrancy::check() {
            return 0;
        }
        let state = &*self.0;
        let hash = self.1.hash_one(key);
        let mut life = None;
        if let Some(lives) = &state.lives {
            life = lives.current(&state.clock, hash, key);
            if life.is_none() {
                return 0;
            }
        }
        let shards = state.shards(shard_of(hash));
        let counts = shards.map(|shard| shard.look(hash, key, life.as_ref(), &of));
        counts.fold(0, i64::wrapping_add)
    }

    /// Takes the count of a key and starts from 0, windows included: what is counted meanwhile is
    /// either in the answer or in the next one. The memory of the key is released.
    ///
    /// Should `Eq` or `Clone` of the key panic, nothing was taken; a panic of its destructor goes
    /// no further.
    #[doc(alias = "GETDEL")]
    pub fn take<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> i64 {
        if !reentrancy::check() {
            return 0;
        }
        let state = &*self.0;
        let hash = self.1.hash_one(key);
        let mut ended = None;
        if let Some(lives) = &state.lives {
            ended = lives.end(&state.clock, hash, key);
            if ended.is_none() {
                return 0;
            }
        }
        let life = ended.as_ref().map(|(_, life)| life);
        let mut taken = Taken::new();
        for shard in state.shards(shard_of(hash)) {
            shard.take(hash, key, life, &mut taken);
        }
        if let Some(cell) = taken.cells().next() {
            state.took(hash, &cell.key);
        }
        let cells = taken.keep();
        let counts = cells.iter().map(|cell| cell.count);
        let count = counts.fold(0, i64::wrapping_add);
        contain_each(cells);
        contain_each(ended);
        count
    }

    /// Takes all counts, as [`take`](Self::take) does with one, in no particular order: for what
    /// writes them down from time to time. O(keys); no lock is held for more than a 16th of the
    /// keys of one stripe.
    ///
    /// ```
    /// use haybox::counter::Counters;
    ///
    /// let views = Counters::new();
    /// views.add(&1u32, 2);
    /// views.add(&7, 5);
    /// let mut rows = views.take_all();
    /// rows.sort();
    /// assert_eq!(rows, [(1, 2), (7, 5)]);
    /// assert!(views.take_all().is_empty());
    /// ```
    #[must_use = "the counts are gone from the counters"]
    pub fn take_all(&self) -> Vec<(K, i64)> {
        if !reentrancy::check() {
            return Vec::new();
        }
        let state = &*self.0;
        // Until all is added up, since a key that panics at the end must not cost what came first.
        let mut taken = Taken::new();
        let (mut ended, mut expired) = (Vec::new(), Vec::new());
        for number in 0..SHARDS {
            if let Some(lives) = &state.lives {
                ended.extend(lives.end_all(&state.clock, number));
            }
            for shard in state.shards(number) {
                shard.take_all(&state.clock, &mut taken, &mut expired);
            }
        }
        let counts = state.add_up(&taken);
        let (mut all, mut unused) = (Vec::new(), Vec::new());
        for (cell, count) in taken.keep().into_iter().zip(counts) {
            match count {
                Some(count) => all.push((cell.key, count)),
                None => unused.push(cell),
            }
        }
        contain_each(unused);
        contain_each(expired);
        contain_each(ended);
        all
    }

    /// The `n` keys with the highest counts, highest first; fewer if there are not so many. Where
    /// counts are equal, any of the keys.
    ///
    /// The counts are exact: those that [`get`](Self::get) would say at that moment. O(keys + n
    /// log n), with memory for `n` and a 16th of the keys; no lock is held for more than a 16th of
    /// the keys of one stripe. Ask every few seconds, not for every page: a
    /// [`Cache`](crate::Cache) with a time to live keeps the answer.
    #[doc(alias = "ZREVRANGE")]
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<(K, i64)>
    where
        K: Clone,
    {
        if n == 0 || !reentrancy::check() {
            return Vec::new();
        }
        let mut best: BinaryHeap<Reverse<Ranked<K>>> = BinaryHeap::new();
        for number in 0..SHARDS {
            let mut totals: HashTable<Total<K>> = HashTable::new();
            for shard in self.0.shards(number) {
                shard.add_to(&mut totals, &self.0.clock);
            }
            for Total(_, key, count) in totals {
                if best.len() < n {
                    best.push(Reverse(Ranked(count, key)));
                } else if best.peek().is_some_and(|Reverse(last)| last.0 < count) {
                    best.pop();
                    best.push(Reverse(Ranked(count, key)));
                }
            }
        }
        let best = best.into_sorted_vec().into_iter();
        best.map(|Reverse(Ranked(count, key))| (key, count))
            .collect()
    }

    /// Writes down the counts that have changed since the last flush, and waits until they and all
    /// that was written before are as safe as the [`SyncPolicy`](crate::persist::SyncPolicy) says.
    /// Where the counters were not [opened](CountersBuilder::open) on a directory there is nothing
    /// to do.
    ///
    /// # Errors
    /// What was not written is tried again by the next flush. A key that cannot be encoded keeps no
    /// other from being written.
    ///
    /// # Panics
    /// Also if a key calls it while these counters flush that key, so from its `Serialize`, `Clone`
    /// or `Drop`.
    #[cfg(feature = "persist")]
    pub fn flush(&self) -> Result<(), FlushError> {
        let kept = self.0.kept.as_ref().filter(|_| reentrancy::check());
        kept.map_or(Ok(()), |kept| kept.flush(&self.0, true))
    }

    /// The files that the counters are kept in; `None` if they were not
    /// [opened](CountersBuilder::open) on a directory. What was counted before a `sync`, a `backup` or a
    /// `close` of them is written first, as by [`flush`](Self::flush).
    #[cfg(feature = "persist")]
    #[must_use]
    pub fn journal(&self) -> Option<&crate::persist::Journal> {
        self.0.kept.as_ref().map(|kept| kept.journal(&self.0))
    }

    /// Releases the memory of counters whose time is up, on this thread; how many. The background
    /// does this every [`sweep_interval`](CountersBuilder::sweep_interval); it is for where no
    /// thread runs in the background.
    pub fn sweep(&self) -> usize {
        let (ended, _) = self.0.sweep(usize::MAX);
        ended.lives
    }

    /// Checks every invariant, for tests. Nobody else may use them meanwhile.
    ///
    /// # Panics
    /// With the first that does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        let state = &*self.0;
        if let Some(lives) = &state.lives {
            lives.validate(|key| self.1.hash_one(key));
        }
        for number in 0..SHARDS {
            for shard in state.shards(number) {
                shard.validate(
                    state,
                    |key| self.1.hash_one(key),
                    |hash| shard_of(hash) == number,
                );
            }
        }
    }
}

impl<K> State<K> {
    fn new(
        clock: Clock,
        windows: Option<Windows>,
        lives: Option<Lives<K>>,
        sweep_interval: Duration,
    ) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let stripes = (2 * processors).next_power_of_two().min(64);
        Self {
            clock,
            stripes: (0..stripes).map(|_| OnceLock::new()).collect(),
            windows,
            lives,
            unfinished: Mutex::default(),
            sweep_interval,
            #[cfg(feature = "persist")]
            kept: None,
        }
    }

    /// The count of a key is in the hands of who took it.
    #[inline]
    fn took(&self, _hash: u64, _key: &K) {
        #[cfg(feature = "persist")]
        if let Some(kept) = &self.kept {
            kept.took(_hash, _key);
        }
    }

    /// What the keys of cells have counted in all of them: in the place of the first cell of each.
    fn add_up(&self, taken: &Taken<'_, K>) -> Vec<Option<i64>>
    where
        K: Eq,
    {
        let mut counts: Vec<Option<i64>> = Vec::new();
        let mut firsts = HashTable::new();
        for (at, cell) in taken.cells().enumerate() {
            let is_same = |first: &usize| taken.cell(*first).is_same(cell);
            let first = firsts.find(cell.hash, is_same).copied();
            if let Some(sum) = first.and_then(|first: usize| counts[first].as_mut()) {
                *sum = sum.wrapping_add(cell.count);
                counts.push(None);
            } else {
                firsts.insert_unique(cell.hash, at, |at| taken.cell(*at).hash);
                counts.push(Some(cell.count));
                self.took(cell.hash, &cell.key);
            }
        }
        counts
    }

    /// A part of all stripes that are in use.
    fn shards(&self, number: usize) -> impl Iterator<Item = &Shard<K>> {
        let in_use = self.stripes.iter().filter_map(OnceLock::get);
        in_use.map(move |stripe| &stripe[number])
    }
}

impl<K: Send + Sync> State<K> {
    /// Takes out counters whose time is up, at most about so many of each part; says whether there
    /// are more. Waits for no lock and runs no code of the user's.
    fn sweep(&self, most: usize) -> (Ended<K>, bool) {
        let (mut ended, mut more) = (Ended::default(), false);
        let Some(lives) = &self.lives else {
            return (ended, false);
        };
        // One at a time; the other does what there is to do.
        let Some(mut unfinished) = self.unfinished.try_lock() else {
            return (ended, false);
        };
        let mut due = mem::take(&mut *unfinished);
        for number in 0..SHARDS {
            let before = due.len();
            lives.take_due(&self.clock, number, most, &mut due, &mut ended.keys);
            more |= due.len() - before >= most;
        }
        for life in due {
            let mut shards = self.shards(shard_of(life.hash()));
            if shards.all(|shard| shard.try_remove(&life, &mut ended.cells)) {
                ended.lives += 1;
            } else {
                unfinished.push(life);
            }
        }
        (ended, more)
    }
}

/// What a sweep took out, to be dropped where code of the user's may run.
struct Ended<K> {
    lives: usize,
    keys: Vec<K>,
    cells: Vec<Cell<K>>,
}

impl<K> Default for Ended<K> {
    fn default() -> Self {
        Self {
            lives: 0,
            keys: Vec::new(),
            cells: Vec::new(),
        }
    }
}

impl<K: Send + Sync + 'static> Sweep for State<K> {
    fn interval(&self) -> Duration {
        self.sweep_interval
    }

    fn sweep_slice(&self) -> Swept {
        let until = Instant::now() + Duration::from_millis(1);
        let (mut all, mut more) = (Vec::new(), true);
        while more && Instant::now() < until {
            let ended;
            (ended, more) = self.sweep(64);
            all.push(ended);
        }
        // The keys are code of the user's to drop, and the keeper runs none.
        let is_idle = all
            .iter()
            .all(|ended: &Ended<K>| ended.keys.is_empty() && ended.cells.is_empty());
        let aftermath = (!is_idle).then(|| Box::new(move || drop(all)) as Aftermath);
        Swept { more, aftermath }
    }

    fn needs_reaper(&self) -> bool {
        std::mem::needs_drop::<K>()
    }
}

/// A hash, a key, and its count over all stripes.
struct Total<K>(u64, K, i64);

/// Ordered by the count alone.
struct Ranked<K>(i64, K);

impl<K> PartialEq for Ranked<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Ranked<K> {}
impl<K> PartialOrd for Ranked<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Ranked<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Drops what holds keys. Their destructors may panic, and the counts have to reach who asked.
fn contain_each<T>(keys: impl IntoIterator<Item = T>) {
    if mem::needs_drop::<T>() {
        keys.into_iter().for_each(|key| _ = contain(|| drop(key)));
    }
}

fn new_stripe<K>() -> Stripe<K> {
    (0..SHARDS).map(|_| Shard::new()).collect()
}
