//! The engine of a cache: the table with its bounds, its clock, its policies and its listeners.
//!
//! The face ([`Cache`](crate::Cache)) hashes keys and converts; everything that takes a lock is
//! here. One file for each kind of operation: `read`, `insert` (what is `plain` has a way of its own),
//! `update`, `compute`, `remove`, `ttl`, `invalidate`, `walk`, `load` and `transaction`. What several
//! of them do is in `write`, how a value gets into its set, in `room`, `expire` and `record`.

mod behind;
mod budget;
mod call;
mod changing;
mod commit;
mod compute;
mod expire;
mod insert;
mod invalidate;
mod leader;
mod load;
mod load_many;
mod plain;
mod plain_load;
mod policy;
mod read;
mod record;
mod remove;
#[cfg(feature = "persist")]
mod restore;
mod role;
mod room;
mod transaction;
mod ttl;
mod update;
mod verdicts;
mod walk;
mod write;

pub(crate) use behind::{Behind, Left};
pub(crate) use budget::Budget;
pub(crate) use call::Call;
pub(crate) use expire::start_sweeping;
pub(crate) use invalidate::BYTES_PER_LABEL;
pub(crate) use leader::OwnLeader;
pub(crate) use load::Offered;
pub(crate) use plain_load::{PlainLeader, Start};
pub(crate) use policy::Policy;
pub use transaction::Transaction;
#[cfg(feature = "persist")]
pub(crate) use {
    record::{Change as Recorded, Encoded, Form, Meta, Recorder, Refusal},
    restore::{Restored, SetFull, Tally},
};

use crate::entry::EvictionPolicy;
use crate::event::{Hub, Outbox};
use crate::hash::KeyHash;
use crate::labels::Register;
use crate::reentrancy;
use crate::stats::{Count, Counters, Stats};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, yield_now};
use crate::table::{Entry, Table};
use crate::time::Clock;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Weak};

/// So often in turn the next set is tried to be split for a call that needs it to be.
const PATIENCE: usize = 1_000;

/// A call that brings more entries than this has the table grow before it, and not only after it.
const MANY_AT_ONCE: usize = 1_000;

pub(crate) struct Engine<K, V> {
    table: Table<K, V>,
    budget: Budget,
    policy: Policy<K, V>,
    clock: Clock,
    counters: Option<Counters>,
    pub(crate) hub: Hub<K, V>,
    /// Held by who needs more room than one round of eviction gives, so that two such do not
    /// starve each other.
    making_room: Mutex<()>,
    /// Where the search for expired entries goes on.
    expiry_hand: AtomicUsize,
    is_swept: AtomicBool,
    /// What is remembered beside the entries, each counted in the budget as an entry.
    verdicts: AtomicUsize,
    /// What all of that weighs.
    verdict_weight: AtomicU64,
    /// Where the search for verdicts to give up goes on.
    verdict_hand: AtomicUsize,
    /// Which tags and groups were invalidated.
    register: Register,
    /// Whether a loader has ever said of a value how fresh it is to be.
    times_are_own: AtomicBool,
    /// Turns of the background that the next pass for them is put off.
    rest: AtomicUsize,
    /// The public handles. What the keeper holds does not count.
    handles: AtomicUsize,
    /// Who keeps a log, once everything that was in it is restored.
    #[cfg(feature = "persist")]
    recorder: std::sync::OnceLock<Box<dyn Recorder<K, V>>>,
    me: Weak<Self>,
}

impl<K, V> Engine<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(
        expected_entries: usize,
        budget: Budget,
        policy: Policy<K, V>,
        clock: Clock,
        counters: Option<Counters>,
        hub: Hub<K, V>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            table: Table::new(expected_entries, policy.eviction),
            budget,
            policy,
            clock,
            counters,
            hub,
            making_room: Mutex::new(()),
            expiry_hand: AtomicUsize::new(0),
            is_swept: AtomicBool::new(false),
            verdicts: AtomicUsize::new(0),
            verdict_weight: AtomicU64::new(0),
            verdict_hand: AtomicUsize::new(0),
            register: Register::new(),
            times_are_own: AtomicBool::new(false),
            rest: AtomicUsize::new(0),
            handles: AtomicUsize::new(1),
            #[cfg(feature = "persist")]
            recorder: std::sync::OnceLock::new(),
            me: Weak::clone(me),
        })
    }
}

impl<K, V> Engine<K, V> {
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of the table for each entry of a well-filled cache: its slot, the share of slots
    /// that are free, and of the set with its ghosts.
    pub(crate) fn bytes_per_entry() -> u64 {
        let slot = size_of::<Option<Entry<K, V>>>() as u64;
        slot + slot / 16 + 13
    }

    #[inline]
    pub(crate) fn count(&self, count: Count) {
        self.count_each([count]);
    }

    #[inline]
    fn count_each<const N: usize>(&self, counts: [Count; N]) {
        if let Some(counters) = &self.counters {
            counters.add_each(counts, 1);
        }
    }

    #[inline]
    fn outbox(&self) -> Outbox<'_, K, V> {
        Outbox::new(&self.hub, self.counters.as_ref())
    }

    /// Splits a set when there are too many entries for the sets there are.
    #[inline]
    pub(crate) fn grow(&self, hash_of: impl Fn(&K) -> KeyHash) {
        if self.table.is_crowded(self.budget.entries.used()) {
            self.table.split_next(&hash_of);
        }
    }

    /// Splits a set when there are too many loads under way for the sets there are, unless there are
    /// as many as the bounds of the cache let entries need.
    pub(crate) fn grow_for_loads(&self, hash_of: impl Fn(&K) -> KeyHash) {
        if self.table.has_many_loads() && self.table.is_crowded(self.budget.most_entries()) {
            self.table.split_next_for_loads(&hash_of);
        }
    }

    /// Prepares for one call that may bring so many entries, if the table would not have its size
    /// soon enough afterwards: a set is not split while it is locked, and holds no more than
    /// [`MAX_WAYS`](crate::table::MAX_WAYS).
    pub(crate) fn expect_more(&self, entries: usize, hash_of: impl Fn(&K) -> KeyHash) {
        if entries > MANY_AT_ONCE {
            let used = self.budget.entries.used();
            let most = used.saturating_add(entries as u64);
            self.expect(most.min(self.budget.most_entries()).max(used), hash_of);
        }
    }

    /// Has as many sets as so many entries are to have, or as there can be: a table that has its
    /// size at once moves none of those that come.
    pub(crate) fn expect(&self, entries: u64, hash_of: impl Fn(&K) -> KeyHash) {
        let mut in_vain = 0;
        while self.table.is_crowded(entries) && in_vain < PATIENCE {
            let before = self.table.sets();
            self.table.split_next(&hash_of);
            if self.table.sets() == before {
                // Others hold what is to be split, or there are as many as there can be.
                in_vain += 1;
                yield_now();
            } else {
                in_vain = 0;
            }
        }
    }

    // ---- handles ----

    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, AcqRel);
    }

    /// Counts one handle more, unless the last one has closed the cache.
    pub(crate) fn add_handle_if_open(&self) -> bool {
        let one_more = |handles: usize| (handles > 0).then_some(handles + 1);
        self.handles.fetch_update(AcqRel, Acquire, one_more).is_ok()
    }

    /// Closes the cache with its last handle: values are dropped here, on the thread of the
    /// handle, and not whenever the keeper lets go.
    pub(crate) fn drop_handle(&self) {
        if self.handles.fetch_sub(1, AcqRel) == 1 {
            self.hub.close();
            let is_let_go = self.recorder().is_none_or(|recorder| recorder.close());
            // Inside a closure of another cache no lock may be taken, and a snapshot that is still
            // being written would be one of nothing; the values then go with the engine itself.
            if is_let_go && !reentrancy::is_inside() {
                self.drop_all();
            }
        }
    }

    /// Has every change recorded from now on.
    #[cfg(feature = "persist")]
    pub(crate) fn record_to(&self, recorder: Box<dyn Recorder<K, V>>) {
        let is_first = self.recorder.set(recorder).is_ok();
        debug_assert!(is_first, "a cache has one log");
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Acquire) > 0
    }

    // ---- figures ----

    /// About how many bytes the cache takes up.
    pub(crate) fn memory(&self) -> u64 {
        match &self.budget.memory {
            Some(memory) => memory.used(),
            None => self
                .budget
                .entries
                .used()
                .saturating_mul(self.budget.overhead),
        }
    }

    /// The eviction policy and, where it adapts, what it does now.
    pub(crate) fn eviction(&self) -> (EvictionPolicy, Option<&'static str>) {
        self.table.eviction()
    }

    pub(crate) fn weight(&self) -> u64 {
        let remembered = self.remembered();
        let verdicts = match self.budget.counts_weights() {
            true => remembered.weight,
            false => remembered.entries,
        };
        self.budget.total_weight().saturating_sub(verdicts)
    }

    /// The number of entries. While others write, those on their way in are counted, too.
    pub(crate) fn len(&self) -> u64 {
        let (verdicts, entries) = (self.remembered().entries, &self.budget.entries);
        let counted = entries.used().saturating_sub(verdicts);
        match self.is_strict() {
            // A store keeps what it held under a wider bound.
            true => counted,
            // A bound that is just being lowered counts already.
            false => counted.min(entries.max()),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let counted = self
            .counters
            .as_ref()
            .map(Counters::snapshot)
            .unwrap_or_default();
        Stats {
            entries: self.len(),
            absences: self.remembered().entries,
            weight: self.weight(),
            memory: self.memory(),
            ..counted
        }
    }

    pub(crate) fn reset_stats(&self) {
        if let Some(counters) = &self.counters {
            counters.reset();
        }
    }

    /// Checks every invariant while nobody else uses the cache.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(crate) fn validate(&self, hash_of: &dyn Fn(&K) -> KeyHash)
    where
        K: Eq,
    {
        let Some(inside) = reentrancy::enter() else {
            return;
        };
        let counted = |weight| self.budget.cost(weight).weight;
        let held = self.table.validate(&inside, hash_of, counted);
        let known = [
            self.verdicts.load(Acquire) as u64,
            self.verdict_weight.load(Acquire),
        ];
        let verdicts = [held.verdicts, held.verdict_weight];
        assert_eq!(verdicts, known, "every verdict is counted, and its weight");
        // A verdict takes up the room of an entry.
        let entries = held.entries + held.verdicts;
        let weight = held.weight.saturating_add(held.verdict_weight);
        assert_eq!(
            entries,
            self.budget.entries.used(),
            "every entry is counted"
        );
        if let Some(gauge) = &self.budget.weight {
            assert_eq!(weight, gauge.used(), "every weight is counted");
        }
        if let Some(gauge) = &self.budget.memory {
            let memory = weight.saturating_add(entries.saturating_mul(self.budget.overhead));
            assert_eq!(memory, gauge.used(), "every byte is counted");
        }
        // What a store holds it keeps, also where its bound has become lower.
        assert!(
            self.is_strict() || !self.budget.is_over(),
            "no more than the bounds"
        );
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::Cache;
    use crate::reentrancy;
    use crate::table::MAX_LOAD;
    use std::cell::Cell;
    use std::future::{pending, poll_fn};
    use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    const LOADS: u32 = 3_000;

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn sets<S: BuildHasher>(cache: &Cache<u32, u32, S>) -> usize {
        cache.engine().table.sets()
    }

    /// The most loads under way that a set has.
    fn longest<S: BuildHasher>(cache: &Cache<u32, u32, S>) -> usize {
        let table = &cache.engine().table;
        let inside = reentrancy::enter().unwrap();
        let loads = |set| Some(table.lock_next(&inside, set)?.loads().len());
        (0..table.sets()).filter_map(loads).max().unwrap()
    }

    /// Begins many loads at once, has `look` look at that, and ends them.
    fn load_at_once<S: BuildHasher>(cache: &Cache<u32, u32, S>, look: impl FnOnce()) {
        let may_end = Cell::new(false);
        let end = || match may_end.get() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        let load = async |key: u32| {
            let load = async || {
                poll_fn(|_| end()).await;
                key
            };
            cache.get_or_load(&key, load).await
        };
        let mut calls: Vec<_> = (0..LOADS).map(|key| Box::pin(load(key))).collect();
        let mut all = |is_ready| {
            let of_all = calls.iter_mut().map(|call| poll(call.as_mut()));
            let ready = of_all.filter(Poll::is_ready).count();
            assert_eq!(ready, if is_ready { LOADS as usize } else { 0 });
        };
        all(false);
        look();
        may_end.set(true);
        all(true);
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    }

    #[test]
    fn the_table_grows_for_loads_that_are_begun_at_once() {
        let by_memory = Cache::builder().max_memory(1 << 30).build().unwrap();
        for cache in [Cache::unbounded(), by_memory] {
            load_at_once(&cache, || {
                assert!(longest(&cache) < 3 * MAX_LOAD);
                assert!(
                    sets(&cache) * MAX_LOAD < 2 * LOADS as usize,
                    "no more than need be"
                );
            });
            assert!(
                (0..LOADS).all(|key| cache.get(&key) == Some(key)),
                "no load lost its set"
            );
        }
    }

    #[test]
    fn the_table_grows_with_what_is_read_through_it() {
        let (threads, tasks) = (Cache::unbounded(), Cache::unbounded());
        let rows = threads.read_through(|key| Ok::<u32, ()>(*key));
        let polled = tasks.read_through_async(|key| async move { Ok::<u32, ()>(key) });
        for key in 0..LOADS {
            assert_eq!(rows.get(&key), Ok(Some(key)));
            let mut found = pin!(polled.get(&key));
            assert_eq!(poll(found.as_mut()), Poll::Ready(Ok(Some(key))));
        }
        for cache in [threads, tasks] {
            assert!(sets(&cache) * MAX_LOAD >= LOADS as usize);
            cache.validate();
        }
    }

    #[test]
    fn the_table_grows_before_one_call_begins_many_loads() {
        for at_once in [300, LOADS] {
            let cache = Cache::<u32, u32>::unbounded();
            let keys: Vec<u32> = (0..LOADS).collect();
            let calls = keys.chunks(at_once as usize);
            let mut calls: Vec<_> = calls
                .map(|keys| {
                    Box::pin(cache.get_many_or_load(keys, |_| pending::<Vec<(u32, u32)>>()))
                })
                .collect();
            for call in &mut calls {
                assert!(poll(call.as_mut()).is_pending());
            }
            assert_eq!(cache.loads_under_way(), LOADS as usize);
            assert!(longest(&cache) < 300 + 3 * MAX_LOAD);
            let found = pin!(cache.get_many_or_load(&[LOADS], async |keys| [(keys[0], 1)]));
            assert_eq!(poll(found), Poll::Ready(vec![Some(1)]));
        }
    }

    #[test]
    fn no_table_grows_past_its_bounds_for_loads() {
        let by_memory = Cache::builder().max_memory(4_000).build().unwrap();
        for cache in [Cache::new(100), by_memory] {
            let most = cache.engine().budget.most_entries() as usize;
            assert!(most < 1_000);
            load_at_once(&cache, || {});
            assert!(sets(&cache) <= most.div_ceil(MAX_LOAD).next_power_of_two());
        }
    }

    #[derive(Default)]
    struct OneHash;

    impl Hasher for OneHash {
        fn finish(&self) -> u64 {
            42
        }

        fn write(&mut self, _: &[u8]) {}
    }

    #[test]
    fn no_table_grows_for_loads_of_one_hash() {
        let builder = Cache::builder().hasher(BuildHasherDefault::<OneHash>::default());
        let cache = builder.build().unwrap();
        load_at_once(&cache, || {
            assert_eq!(longest(&cache), LOADS as usize);
            assert!(sets(&cache) < 10);
        });
    }
}
