//! State by key: the buckets and windows of limits, the slots of locks.
//!
//! A hash table in parts, each behind a lock of one atomic read-modify-write. A key needs no
//! declaration and no clean-up: it is there with its first change, and forgotten in the background
//! when its state has been that of a key that was never here for a while. Nothing is evicted.
//!
//! Under a lock only `Eq` of the keys and the change runs, guarded against calls back into this
//! crate. Keys are copied before it is taken and dropped after it was released, and their hashes
//! are kept, so that a `Hash` that panics finds no table half moved.

use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::sync::{AtomicUsize, Mutex, SpinLock, yield_now};
use crate::time::{Aftermath, Clock, Deadline, NEAR, Sweep, Swept, register};
use crate::to_key::ToKey;
use hashtable::HashTable;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// What is kept of a key.
pub(crate) trait State: Default + Send + Sync + 'static {
    /// From when on the key may be forgotten, since a missing one means the same;
    /// [`NEVER`](crate::time::NEVER) while that is not known.
    fn idle_from(&self) -> Deadline;
}

/// How long a key stays that may be forgotten, so that one which is used now and then is not made
/// anew each time.
const GRACE: u64 = 5_000_000_000;

/// The time between two looks at all keys. Together with the grace it is less than 10 s by an
/// interval of the keeper.
const PAUSE: u64 = 4_000_000_000;

/// How many keys are taken out before others get the lock.
const BATCH: usize = 1024;

/// How long the keeper waits for a part.
const SOON: Duration = Duration::from_millis(1);

/// How long the keeper works before it turns to other things.
const SLICE: Duration = Duration::from_millis(1);

/// A handle.
pub(crate) struct Keyed<K, V, H> {
    hasher: H,
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    clock: Clock,
    /// A power of two.
    parts: Box<[Part<K, V>]>,
    keys: AtomicUsize,
    sweep_interval: Duration,
    sweep: Mutex<Pass>,
}

/// What nobody shares a cache line with.
#[repr(align(64))]
struct Part<K, V>(SpinLock<Slots<K, V>>);

struct Slots<K, V> {
    table: HashTable<Slot<K, V>>,
    notes: Notes,
}

/// What is noted of a part by those who come there, and lies on the line of its lock.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The last reading of the clock.
    seen: u64,
    /// What the changes have counted.
    counts: Counts,
}

/// How often each of two things has happened.
pub(crate) type Counts = [u64; 2];

struct Slot<K, V> {
    hash: u64,
    key: K,
    state: V,
}

/// How far the sweep has come.
struct Pass {
    /// The part to look at next, `None` between two passes.
    part: Option<usize>,
    /// When the next pass begins.
    due: Deadline,
}

/// The clock as a change sees it: read after the lock was taken, and as precisely as it is asked.
pub(crate) struct Reading<'s> {
    clock: &'s Clock,
    notes: &'s mut Notes,
}

impl<'s> Reading<'s> {
    /// For a key that is not there.
    pub(crate) fn new(clock: &'s Clock, notes: &'s mut Notes) -> Self {
        Self { clock, notes }
    }

    /// A time that has passed, which costs no look at the clock: of the last change that looked.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        self.notes.seen
    }

    /// May lag by one tick of the kernel.
    #[inline]
    pub(crate) fn coarse(&mut self) -> u64 {
        self.notes.seen = self.clock.coarse().max(self.notes.seen);
        self.notes.seen
    }

    #[inline]
    pub(crate) fn precise(&mut self) -> u64 {
        self.notes.seen = self.clock.now();
        self.notes.seen
    }

    /// Whether a deadline has passed, precisely.
    #[inline]
    pub(crate) fn has_passed(&mut self, deadline: Deadline) -> bool {
        let coarse = self.coarse();
        coarse >= deadline || (deadline - coarse < NEAR && self.precise() >= deadline)
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.clock
    }

    /// Counts one of the two things. Under the lock that is held it costs no atomic instruction.
    #[inline]
    pub(crate) fn count(&mut self, which: bool) {
        self.notes.counts[usize::from(which)] += 1;
    }
}

impl<K, V, H: Clone> Clone for Keyed<K, V, H> {
    fn clone(&self) -> Self {
        Self {
            hasher: self.hasher.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K, V, H> Keyed<K, V, H>
where
    K: Send + Sync + 'static,
    V: State,
{
    pub(crate) fn new(clock: Clock, sweep_interval: Duration, hasher: H) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let parts = (16 * processors).next_power_of_two().clamp(64, 1024);
        let shared = Arc::new(Shared {
            parts: (0..parts).map(|_| Part::new()).collect(),
            keys: AtomicUsize::new(0),
            sweep_interval,
            sweep: Mutex::new(Pass { part: None, due: 0 }),
            clock,
        });
        let sweep: Weak<Shared<K, V>> = Arc::downgrade(&shared);
        register(&shared.clock, sweep, sweep_interval);
        Self { hasher, shared }
    }
}

impl<K, V, H> Keyed<K, V, H> {
    /// How many keys take up memory.
    pub(crate) fn len(&self) -> usize {
        self.shared.keys.load(Relaxed)
    }

    /// What finds a key, for who calls about it more than once.
    #[inline]
    pub(crate) fn hash<Q>(&self, key: &Q) -> KeyHash
    where
        Q: Hash + ?Sized,
        H: BuildHasher,
    {
        KeyHash::of(&self.hasher, key)
    }

    /// Changes the state of a key, which is made if it is missing. `None` from a thread that
    /// unwinds while it holds a lock.
    #[inline(always)]
    pub(crate) fn change<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        change: impl FnOnce(&mut V, &mut Reading<'_>) -> R,
    ) -> Option<R>
    where
        Q: ToKey<K> + ?Sized,
        K: Eq,
        V: State,
    {
        let inside = reentrancy::enter()?;
        let mut slots = self.shared.part(hash).lock();
        if let Some((state, mut reading)) = slots.find(&self.shared.clock, hash, key) {
            return Some(change(state, &mut reading));
        }
        drop(slots);
        drop(inside);
        self.shared.add(hash, key.to_key(), change)
    }

    /// Changes the state of a key, if it is there.
    #[inline]
    pub(crate) fn existing<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        change: impl FnOnce(&mut V, &mut Reading<'_>) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let _inside = reentrancy::enter()?;
        let mut slots = self.shared.part(hash).lock();
        let (state, mut reading) = slots.find(&self.shared.clock, hash, key)?;
        Some(change(state, &mut reading))
    }

    /// Forgets a key; whether it was there.
    pub(crate) fn remove<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        let Some(inside) = reentrancy::enter() else {
            return false;
        };
        let mut slots = self.shared.part(hash).lock();
        let is_it = |slot: &Slot<K, V>| key.equivalent(&slot.key);
        let found = slots.table.find_entry(hash.bits(), is_it).ok();
        let removed = found.map(|entry| entry.remove().0);
        drop(slots);
        drop(inside);
        self.shared
            .keys
            .fetch_sub(usize::from(removed.is_some()), Relaxed);
        removed.is_some()
    }

    /// What the changes of all keys have counted, those of keys that are forgotten among them.
    /// Takes the locks in turn: what is counted meanwhile may or may not be in it. Nothing from a
    /// thread that unwinds while it holds a lock.
    pub(crate) fn counts(&self) -> Counts {
        let mut sums = Counts::default();
        for part in &self.shared.parts {
            let Some(_inside) = reentrancy::enter() else {
                return sums;
            };
            let counts = part.0.lock().notes.counts;
            sums = [sums[0] + counts[0], sums[1] + counts[1]];
        }
        sums
    }

    /// Visits the states of all keys that stay while this runs, each under its lock.
    pub(crate) fn each(&self, mut visit: impl FnMut(&mut V)) {
        for part in &self.shared.parts {
            let Some(_inside) = reentrancy::enter() else {
                return;
            };
            let mut slots = part.0.lock();
            slots
                .table
                .iter_mut()
                .for_each(|slot| visit(&mut slot.state));
        }
    }
}

impl<K, V, H> Keyed<K, V, H>
where
    K: Hash + Eq,
    H: BuildHasher,
{
    /// Checks every invariant, and what `check` says of the states, while nobody else uses the table.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(crate) fn validate(&self, mut check: impl FnMut(&V)) {
        // No key is being forgotten meanwhile.
        let _pass = self.shared.sweep.lock();
        let mut keys = 0;
        for (number, part) in self.shared.parts.iter().enumerate() {
            let Some(_inside) = reentrancy::enter() else {
                return;
            };
            let slots = part.0.lock();
            keys += slots.table.len();
            for slot in &slots.table {
                let hash = self.hash(&slot.key);
                assert_eq!(slot.hash, hash.bits(), "the hash of the key");
                assert_eq!(self.shared.number(hash), number, "the part of the key");
                let alike = slots.table.iter().filter(|other| other.key == slot.key);
                assert_eq!(alike.count(), 1, "no key is here twice");
                check(&slot.state);
            }
        }
        assert_eq!(keys, self.len(), "every key is counted");
    }
}

impl<K, V> Part<K, V> {
    fn new() -> Self {
        Self(SpinLock::new(Slots {
            table: HashTable::new(),
            notes: Notes::default(),
        }))
    }
}

impl<K, V> Slots<K, V> {
    #[inline]
    fn find<'s, Q>(
        &'s mut self,
        clock: &'s Clock,
        hash: KeyHash,
        key: &Q,
    ) -> Option<(&'s mut V, Reading<'s>)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let is_it = |slot: &Slot<K, V>| key.equivalent(&slot.key);
        let slot = self.table.find_mut(hash.bits(), is_it)?;
        let notes = &mut self.notes;
        Some((&mut slot.state, Reading { clock, notes }))
    }
}

impl<K, V> Shared<K, V> {
    #[inline]
    fn part(&self, hash: KeyHash) -> &SpinLock<Slots<K, V>> {
        &self.parts[self.number(hash)].0
    }

    #[inline]
    fn number(&self, hash: KeyHash) -> usize {
        // The tables take the lowest bits and the highest.
        (hash.bits() >> 32) as usize & (self.parts.len() - 1)
    }

    #[cold]
    fn add<R>(
        &self,
        hash: KeyHash,
        key: K,
        change: impl FnOnce(&mut V, &mut Reading<'_>) -> R,
    ) -> Option<R>
    where
        K: Eq,
        V: State,
    {
        let inside = reentrancy::enter()?;
        let mut slots = self.part(hash).lock();
        // Another thread may have added it since.
        if let Some((state, mut reading)) = slots.find(&self.clock, hash, &key) {
            let result = change(state, &mut reading);
            drop(slots);
            drop(inside);
            return Some(result);
        }
        let mut state = V::default();
        let notes = &mut slots.notes;
        let clock = &self.clock;
        let result = change(&mut state, &mut Reading { clock, notes });
        let hash = hash.bits();
        let slot = Slot { hash, key, state };
        slots.table.insert_unique(hash, slot, |slot| slot.hash);
        self.keys.fetch_add(1, Relaxed);
        Some(result)
    }
}

// ---- forgetting ----

impl<K, V: State> Shared<K, V> {
    /// Takes idle keys out of a part, at most a batch; whether there may be more.
    fn forget(&self, part: &SpinLock<Slots<K, V>>, now: u64, into: &mut Vec<Slot<K, V>>) -> bool {
        let Some(mut slots) = part.try_lock_for(SOON) else {
            yield_now();
            return true;
        };
        let is_idle = |slot: &mut Slot<K, V>| {
            // Never for what is never idle: no clock comes so far.
            slot.state.idle_from().saturating_add(GRACE) <= now
        };
        let before = into.len();
        into.extend(slots.table.extract_if(is_idle).take(BATCH));
        let count = into.len() - before;
        self.keys.fetch_sub(count, Relaxed);
        if count == BATCH {
            return true;
        }
        // A table that was full keeps no memory for what may never come again.
        let len = slots.table.len();
        if slots.table.capacity() > 64.max(8 * len) {
            slots.table.shrink_to(2 * len, |slot| slot.hash);
        }
        false
    }

    /// Goes on with a pass until it ends or the slice does; whether it has to go on.
    fn pass(&self, pass: &mut Pass, until: Instant, forgotten: &mut Vec<Slot<K, V>>) -> bool {
        let now = self.clock.now();
        if pass.part.is_none() {
            if now < pass.due || self.keys.load(Relaxed) == 0 {
                return false;
            }
            pass.due = now.saturating_add(PAUSE);
        }
        let mut part = pass.part.unwrap_or(0);
        while let Some(Part(slots)) = self.parts.get(part) {
            if !self.forget(slots, now, forgotten) {
                part += 1;
            }
            if Instant::now() >= until && part < self.parts.len() {
                pass.part = Some(part);
                return true;
            }
        }
        pass.part = None;
        false
    }
}

impl<K, V> Sweep for Shared<K, V>
where
    K: Send + Sync + 'static,
    V: State,
{
    fn interval(&self) -> Duration {
        self.sweep_interval
    }

    fn sweep_slice(&self) -> Swept {
        let mut forgotten = Vec::new();
        let until = Instant::now() + SLICE;
        // One at a time; the other does what there is to do.
        let pass = self.sweep.try_lock();
        let more = pass.is_some_and(|mut pass| self.pass(&mut pass, until, &mut forgotten));
        // The keys are code of the user's to drop, and the keeper runs none.
        let aftermath =
            (!forgotten.is_empty()).then(|| Box::new(move || drop(forgotten)) as Aftermath);
        Swept { more, aftermath }
    }

    fn needs_reaper(&self) -> bool {
        mem::needs_drop::<K>()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::time::MockClock;
    use std::cell::{Cell, RefCell};
    use std::hash::{BuildHasherDefault, Hasher};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const SECOND: Duration = Duration::from_secs(1);

    /// In use until a point in time.
    #[derive(Default)]
    struct Until(Deadline);

    impl State for Until {
        fn idle_from(&self) -> Deadline {
            self.0
        }
    }

    /// Every key has the same hash.
    #[derive(Default)]
    struct Same;

    impl Hasher for Same {
        fn finish(&self) -> u64 {
            7
        }
        fn write(&mut self, _: &[u8]) {}
    }

    type Table<K> = Keyed<K, Until, BuildHasherDefault<Same>>;

    fn table<K: Send + Sync + 'static>() -> (Table<K>, MockClock) {
        let time = MockClock::new();
        let table = Table::new(time.clock(), SECOND, BuildHasherDefault::default());
        (table, time)
    }

    /// Has a key used until so long from now.
    fn use_for<K>(table: &Table<K>, key: &K, time: Duration)
    where
        K: Hash + Eq + Clone,
    {
        let used = table.change(table.hash(key), key, |state, reading| {
            state.0 = crate::time::after(reading.coarse(), time);
        });
        assert!(used.is_some());
    }

    #[test]
    fn idle_keys_are_forgotten_in_time_and_their_memory_released() {
        let (table, time) = table::<u32>();
        // More than a batch in one part, since all have one hash.
        let keys = 0..3 * BATCH as u32;
        keys.for_each(|key| use_for(&table, &key, SECOND));
        use_for(&table, &u32::MAX, 60 * SECOND);
        time.advance(SECOND);
        assert_eq!(table.len(), 3 * BATCH + 1, "the grace");
        (0..11).for_each(|_| time.advance(SECOND));
        assert_eq!(table.len(), 1);
        let hash = table.hash(&u32::MAX);
        assert!(table.shared.part(hash).lock().table.capacity() <= 64);
        assert!(table.existing(hash, &u32::MAX, |_, _| ()).is_some());
        (0..60).for_each(|_| time.advance(SECOND));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_pass_goes_on_where_its_slice_has_ended() {
        let (table, time) = table::<u32>();
        // All in the first part, which takes more than one slice.
        (0..=BATCH as u32).for_each(|key| use_for(&table, &key, SECOND));
        let (shared, mut forgotten) = (&table.shared, Vec::new());
        let mut pass = shared.sweep.lock();
        time.advance(SECOND + Duration::from_nanos(GRACE));
        let mut slice = || shared.pass(&mut pass, Instant::now(), &mut forgotten);
        let slices = (1..).take_while(|_| slice()).count();
        assert_eq!(
            slices,
            shared.parts.len(),
            "one more, and the last has ended"
        );
        assert!(!slice(), "the pause");
        assert_eq!((forgotten.len(), table.len()), (BATCH + 1, 0));
    }

    #[test]
    fn what_is_used_again_or_never_idle_stays() {
        let (table, time) = table::<u32>();
        use_for(&table, &1, Duration::MAX);
        for _ in 0..30 {
            use_for(&table, &2, SECOND);
            time.advance(SECOND);
        }
        assert_eq!(table.len(), 2);
        assert!(table.remove(table.hash(&1), &1));
        assert!(!table.remove(table.hash(&1), &1));
        assert_eq!(table.len(), 1);
    }

    thread_local!(static FAILS: Cell<bool> = const { Cell::new(false) });

    #[derive(Clone, Debug)]
    struct Moody(u32);

    impl PartialEq for Moody {
        fn eq(&self, other: &Self) -> bool {
            assert!(!FAILS.get(), "not now");
            self.0 == other.0
        }
    }
    impl Eq for Moody {}
    impl Hash for Moody {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    #[test]
    fn a_panic_of_a_key_harms_nobody() {
        let (table, _time) = table::<Moody>();
        use_for(&table, &Moody(1), SECOND);
        FAILS.set(true);
        let call = || use_for(&table, &Moody(2), SECOND);
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        FAILS.set(false);
        assert_eq!(table.len(), 1);
        use_for(&table, &Moody(1), SECOND);
        use_for(&table, &Moody(2), SECOND);
        assert_eq!(table.len(), 2, "neither locked nor lost");
    }

    thread_local!(static OTHERS: RefCell<Option<Table<Twin>>> = const { RefCell::new(None) });

    /// A key whose copy is added first, as another thread might between the two steps of a change.
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Twin(u32);

    impl Clone for Twin {
        fn clone(&self) -> Self {
            if let Some(table) = OTHERS.take() {
                use_for(&table, self, 60 * SECOND);
            }
            Self(self.0)
        }
    }

    #[test]
    fn a_key_that_two_add_at_the_same_time_is_there_once() {
        let (table, _time) = table::<Twin>();
        OTHERS.set(Some(table.clone()));
        use_for(&table, &Twin(1), SECOND);
        assert_eq!(table.len(), 1);
        table.validate(|_| ());
    }

    /// All of what is touched for every change, beside the slot of the key.
    #[test]
    fn a_part_with_its_notes_takes_one_cache_line() {
        assert_eq!(mem::size_of::<Part<u64, Until>>(), 64);
    }

    #[test]
    fn a_coarse_reading_is_not_behind_what_was_seen() {
        let (clock, mut notes) = (Clock::real(), Notes::default());
        let mut reading = Reading::new(&clock, &mut notes);
        for _ in 0..100 {
            let precise = reading.precise();
            assert!(reading.seen() == precise && reading.coarse() >= precise);
        }
    }
}
