//! Interleavings of calls, run through the real table on shuttle's locks and atomics.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --release --test interleavings
//! ```
//!
//! `HAYBOX_SHUTTLE_ITERATIONS` says how many schedules each scenario is given. A failure prints the
//! seed, or the schedule, that brings it back.
#![cfg(shuttle)]

use haybox::{
    Cache, CacheBuilder, EventKind, Events, Freshness, Insert, InsertOptions, LoadError, Loaded,
    MockClock, NoEvent, OnFull, Op, Outcome, RemovalCause,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::thread::{scope, yield_now};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write as _;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[path = "interleavings/queues.rs"]
mod queues;
#[path = "interleavings/roles.rs"]
mod roles;

// ---- running a scenario ----

/// The simulated threads of two checks have the same names, and the registry of who waits for whose
/// load is one for the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a scenario under three kinds of schedules, a third of each: chosen at random; of few
/// preemptions (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding
/// Bugs", ASPLOS 2010); at random with one thread that sleeps at some point.
fn check(name: &str, scenario: fn()) {
    let _alone = known(&ONE_AT_A_TIME);
    let share = iterations().div_ceil(3);
    let schedules = run(RandomScheduler::new(share), scenario)
        + run(PctScheduler::new(3, share), scenario)
        + run(Sleeper::new(share), scenario);
    // Written past the capture of the test harness, so that a run says what it covered.
    let line = format!("interleavings: {name} {schedules} schedules\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("the standard output is open");
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
    shuttle::Runner::new(scheduler, config).run(scenario)
}

/// Schedules at random, but lets one thread sleep until the others have ended, or wait for it: what
/// a call has read before it took a lock may be as old as that.
struct Sleeper {
    random: RandomScheduler,
    asleep: Option<TaskId>,
    has_slept: bool,
}

impl Sleeper {
    fn new(iterations: usize) -> Self {
        Self {
            random: RandomScheduler::new(iterations),
            asleep: None,
            has_slept: false,
        }
    }
}

impl Scheduler for Sleeper {
    fn new_execution(&mut self) -> Option<Schedule> {
        (self.asleep, self.has_slept) = (None, false);
        self.random.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        let others = |asleep| {
            runnable
                .iter()
                .copied()
                .filter(move |task| Some(task.id()) != asleep)
        };
        // Who yields may wait for the sleeper.
        if yields || others(self.asleep).next().is_none() {
            self.asleep = None;
        }
        if !self.has_slept && runnable.len() > 1 && self.random.next_u64().is_multiple_of(16) {
            (self.asleep, self.has_slept) = (current, true);
        }
        let awake: Vec<&Task> = others(self.asleep).collect();
        let choices = if awake.is_empty() { runnable } else { &awake };
        self.random.next_task(choices, current, yields)
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next_u64()
    }
}

fn iterations() -> usize {
    match std::env::var("HAYBOX_SHUTTLE_ITERATIONS") {
        Ok(iterations) => iterations.parse().expect("a number of iterations"),
        Err(_) => 10_000,
    }
}

/// What the checks themselves know they keep in locks and atomics of `std`, which are no scheduling
/// points.
fn known<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For calls whose answer does not matter.
fn ignore<T>(_: T) {}

fn choice(choices: u32) -> u32 {
    thread_rng().gen_range(0..choices)
}

// ---- caches ----

/// A hasher without a seed, so that a schedule can be replayed.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed here")
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = u64::from(value);
    }
}

type Fixed = BuildHasherDefault<Plain>;
type Numbers = Cache<u32, u32, Fixed>;

fn numbers() -> CacheBuilder<u32, u32, Fixed> {
    Cache::builder().hasher(Fixed::default())
}

fn built<V: Send + Sync + 'static>(builder: CacheBuilder<u32, V, Fixed>) -> Cache<u32, V, Fixed> {
    builder.build().expect("the settings are possible")
}

/// Enough to be expected that a table starts with four sets.
const OF_FOUR_SETS: usize = 160;

/// The first of the keys that fill a cache up.
const FILLER: u32 = 1_000;

/// The load at which a table of one set splits.
const CROWDED: u32 = 40;

/// Puts many entries in at once, so that the table falls behind with its growth.
fn fill(cache: &Numbers, count: u32) {
    let keys: Vec<u32> = (FILLER..FILLER + count).collect();
    let filled = cache.transaction(&keys, |tx| {
        keys.iter().try_for_each(|key| tx.insert(key, *key))
    });
    assert!(filled.is_ok());
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// ---- linearizability ----

/// A call on one of two keys, or on both.
#[derive(Clone, Copy, Debug)]
enum Call {
    Get(usize),
    Insert(usize, u32),
    IfAbsent(usize, u32),
    IfPresent(usize, u32),
    Remove(usize),
    Update(usize, u32),
    Upsert(usize, u32),
    /// A `compute` that removes what is there and puts something where nothing is.
    Toggle(usize, u32),
    /// A transaction that exchanges the two values.
    Swap,
    /// A transaction that reads both.
    ReadBoth,
}

type State = [Option<u32>; 2];

impl Call {
    /// A call with a value that no other has.
    fn any(next_value: &AtomicU32) -> Self {
        let (key, value) = (choice(2) as usize, next_value.fetch_add(1, SeqCst));
        match choice(14) {
            0 | 1 => Self::Get(key),
            2 | 3 => Self::Insert(key, value),
            4 => Self::IfAbsent(key, value),
            5 => Self::IfPresent(key, value),
            6 | 7 => Self::Remove(key),
            8 => Self::Update(key, value),
            9 => Self::Toggle(key, value),
            10 => Self::Swap,
            11 | 12 => Self::Upsert(key, value),
            _ => Self::ReadBoth,
        }
    }

    /// What the call does to a pair of values, and what it answers: the values before.
    fn apply(self, state: State) -> (State, State) {
        let (mut after, mut seen) = (state, [None; 2]);
        match self {
            Self::Get(key) => seen[key] = state[key],
            Self::Insert(key, value) => seen[key] = after[key].replace(value),
            Self::IfAbsent(key, value) => {
                seen[key] = state[key].map(|_| value);
                after[key] = state[key].or(Some(value));
            }
            Self::IfPresent(key, value) | Self::Update(key, value) => {
                seen[key] = state[key];
                after[key] = state[key].map(|_| value);
            }
            Self::Remove(key) => seen[key] = after[key].take(),
            Self::Upsert(key, value) => {
                seen[key] = state[key].or(Some(value));
                after[key] = state[key].map(|_| value).or(Some(value + 1_000));
            }
            Self::Toggle(key, value) => {
                seen[key] = state[key];
                after[key] = state[key].is_none().then_some(value);
            }
            Self::Swap => (after, seen) = ([state[1], state[0]], state),
            Self::ReadBoth => seen = state,
        }
        (after, seen)
    }

    fn run(self, cache: &Numbers, keys: [u32; 2]) -> State {
        let mut seen = [None; 2];
        match self {
            Self::Get(key) => seen[key] = cache.get(&keys[key]),
            Self::Insert(key, value) => seen[key] = cache.insert(keys[key], value),
            Self::IfAbsent(key, value) => {
                let inserted =
                    cache.insert_with(keys[key], value, InsertOptions::new().if_absent());
                seen[key] = match inserted {
                    Insert::Kept(value) => Some(value),
                    other => other.replaced(),
                };
            }
            Self::IfPresent(key, value) => {
                let options = InsertOptions::new().if_present();
                seen[key] = cache.insert_with(keys[key], value, options).replaced();
            }
            Self::Remove(key) => seen[key] = cache.remove(&keys[key]),
            Self::Update(key, value) => {
                seen[key] = cache.update(&keys[key], |old| mem::replace(old, value));
            }
            Self::Upsert(key, value) => {
                let change = |old: &mut u32| {
                    let new = if *old == value { value + 1_000 } else { value };
                    mem::replace(old, new)
                };
                seen[key] = Some(cache.update_or_insert_with(&keys[key], || value, change));
            }
            Self::Toggle(key, value) => {
                let outcome = cache.compute(&keys[key], |old| {
                    seen[key] = old.copied();
                    if old.is_some() {
                        Op::Remove
                    } else {
                        Op::Put(value)
                    }
                });
                match (seen[key], outcome) {
                    (Some(seen), Outcome::Removed(removed)) => assert_eq!(seen, removed),
                    (None, Outcome::Inserted | Outcome::Refused(_)) => {}
                    (seen, outcome) => panic!("{seen:?} was seen and then {outcome:?}"),
                }
            }
            Self::Swap | Self::ReadBoth => seen = self.run_both(cache, keys),
        }
        seen
    }

    /// The transactions, with their keys in either order.
    fn run_both(self, cache: &Numbers, keys: [u32; 2]) -> State {
        let named = if choice(2) == 0 {
            keys
        } else {
            [keys[1], keys[0]]
        };
        let done = cache.transaction(&named, |tx| {
            let seen = keys.map(|key| tx.get(&key).copied());
            if matches!(self, Self::Swap) {
                for (key, value) in [(keys[0], seen[1]), (keys[1], seen[0])] {
                    match value {
                        Some(value) => tx.insert(&key, value)?,
                        None => ignore(tx.remove(&key)),
                    }
                }
            }
            Ok::<_, haybox::Refused<u32>>(seen)
        });
        done.expect("a cache that evicts refuses nothing that could fit")
    }
}

/// A call that has returned, and when it began and ended.
#[derive(Clone, Copy, Debug)]
struct Done {
    call: Call,
    seen: State,
    began: usize,
    ended: usize,
}

#[derive(Default)]
struct History {
    time: AtomicUsize,
    next_value: AtomicU32,
    calls: Mutex<Vec<Done>>,
}

impl History {
    fn run_any(&self, cache: &Numbers, keys: [u32; 2]) {
        self.run(Call::any(&self.next_value), cache, keys);
    }

    fn run(&self, call: Call, cache: &Numbers, keys: [u32; 2]) {
        let began = self.time.fetch_add(1, SeqCst);
        let seen = call.run(cache, keys);
        let ended = self.time.fetch_add(1, SeqCst);
        known(&self.calls).push(Done {
            call,
            seen,
            began,
            ended,
        });
    }

    /// Checks that the calls could have happened one after the other, each at a moment between its
    /// beginning and its end. Where entries are evicted, values may vanish in between.
    fn check(&self, evicts: bool) {
        let calls = known(&self.calls);
        let explained = explain(&calls, &mut Vec::new(), [None; 2], evicts);
        assert!(
            explained,
            "no order of these calls explains them: {calls:#?}"
        );
    }
}

fn explain(calls: &[Done], used: &mut Vec<usize>, state: State, evicts: bool) -> bool {
    if used.len() == calls.len() {
        return true;
    }
    let left = || (0..calls.len()).filter(|at| !used.contains(at));
    let horizon = left().map(|at| calls[at].ended).min().unwrap_or(0);
    let candidates: Vec<usize> = left().filter(|at| calls[*at].began < horizon).collect();
    let vanished = if evicts { 4 } else { 1 };
    candidates.into_iter().any(|at| {
        (0..vanished).any(|gone| {
            let state = [0, 1].map(|key| state[key].filter(|_| gone & (1 << key) == 0));
            let (after, seen) = calls[at].call.apply(state);
            if seen != calls[at].seen {
                return false;
            }
            used.push(at);
            let explained = explain(calls, used, after, evicts);
            used.pop();
            explained
        })
    })
}

/// Three threads with two or three calls each, and one more call on each key at the end.
fn run_any_calls(cache: &Numbers, keys: [u32; 2], evicts: bool) {
    let history = History::default();
    scope(|threads| {
        for calls in [3, 2, 2] {
            let history = &history;
            threads.spawn(move || (0..calls).for_each(|_| history.run_any(cache, keys)));
        }
    });
    history.run(Call::Get(0), cache, keys);
    history.run(Call::Get(1), cache, keys);
    history.check(evicts);
    cache.validate();
}

#[test]
fn calls_on_keys_of_one_set_are_linearizable() {
    check("one set", || {
        run_any_calls(&built(numbers()), [1, 2], false)
    });
}

#[test]
fn calls_on_keys_of_several_sets_are_linearizable() {
    check("several sets", || {
        let cache = built(numbers().max_entries(OF_FOUR_SETS));
        run_any_calls(&cache, [choice(8), 8 + choice(8)], false);
    });
}

#[test]
fn calls_beside_eviction_are_linearizable_but_for_what_is_evicted() {
    check("eviction of one set", || {
        let cache = built(numbers().max_entries(1 + choice(2) as usize));
        run_any_calls(&cache, [1, 2], true);
    });
    check("eviction of several sets", || {
        let cache = built(
            numbers()
                .max_entries(OF_FOUR_SETS)
                .max_weight(1 + u64::from(choice(2))),
        );
        run_any_calls(&cache, [choice(8), 8 + choice(8)], true);
    });
}

#[test]
fn calls_beside_growth_are_linearizable() {
    check("growth", || {
        let cache = built(numbers());
        fill(
            &cache,
            if choice(2) == 0 {
                CROWDED
            } else {
                3 * CROWDED + 5
            },
        );
        run_any_calls(&cache, [choice(8), 8 + choice(8)], false);
    });
}

// ---- growth ----

#[test]
fn what_stays_is_found_and_met_once_while_the_table_grows() {
    check("walks during growth", || {
        let cache = built(numbers());
        let count = if choice(2) == 0 {
            CROWDED
        } else {
            3 * CROWDED + 5
        };
        fill(&cache, count);
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| {
                for step in [0, 11, 22, 33] {
                    let key = FILLER + step;
                    assert_eq!(cache.get(&key), Some(key), "a look-up misses what stays");
                }
            });
            threads.spawn(|| {
                let met = match choice(3) {
                    0 => cache.iter().collect(),
                    1 => scanned(&cache, 7),
                    _ => cache.keys().map(|key| (key, key)).collect(),
                };
                assert_met_once(met, count);
            });
        });
        assert_met_once(cache.iter().collect(), count);
        assert_eq!(cache.len(), count as usize + 3);
        cache.validate();
    });
}

/// A thread that has read the number of sets and then sleeps may find its set split twice.
#[test]
fn a_call_finds_its_set_after_several_splits() {
    check("several splits", || {
        let cache = built(numbers());
        fill(&cache, 4 * CROWDED + 5);
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| {
                for _ in 0..3 {
                    let key = FILLER + choice(CROWDED);
                    assert_eq!(cache.get(&key), Some(key), "a look-up misses what stays");
                }
            });
            threads.spawn(|| {
                let key = 10 + choice(64);
                assert_eq!(cache.insert(key, 1), None);
                assert_eq!(cache.update(&key, |value| *value), Some(1));
                assert_eq!(cache.remove(&key), Some(1));
            });
        });
        assert_eq!(cache.len() as u32, 4 * CROWDED + 8);
        cache.validate();
    });
}

fn scanned(cache: &Numbers, count: usize) -> Vec<(u32, u32)> {
    let (mut cursor, mut met) = (0, Vec::new());
    loop {
        let (next, entries) = cache.scan(cursor, count);
        met.extend(entries);
        cursor = next;
        if cursor == 0 {
            return met;
        }
    }
}

fn assert_met_once(met: Vec<(u32, u32)>, count: u32) {
    let fillers = met.iter().map(|(key, _)| *key).filter(|key| *key >= FILLER);
    let mut fillers: Vec<u32> = fillers.collect();
    fillers.sort_unstable();
    let expected: Vec<u32> = (FILLER..FILLER + count).collect();
    assert_eq!(fillers, expected, "a walk meets each entry that stays once");
}

#[test]
fn a_removal_of_many_leaves_nothing_behind_while_the_table_grows() {
    check("retain during growth", || {
        let cache = built(numbers());
        fill(&cache, 2 * CROWDED + 5);
        scope(|threads| {
            threads.spawn(|| (0..2).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| cache.retain(|key, _| *key < FILLER || key % 8 == 0));
            threads.spawn(|| {
                let key = FILLER + 8;
                assert_eq!(cache.update(&key, |value| *value), Some(key));
            });
        });
        let left = cache.keys().filter(|key| *key >= FILLER && key % 8 != 0);
        assert_eq!(left.count(), 0, "every entry was there from the beginning");
        assert_eq!(cache.keys().filter(|key| *key >= FILLER).count(), 11);
        cache.validate();
    });
}

// ---- bounds and eviction ----

/// What the listener was told of, by value.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<u32, (u32, RemovalCause)>>>);

impl Told {
    fn listener(&self) -> impl Fn(u32, u32, RemovalCause) + Send + Sync + 'static {
        let told = self.clone();
        move |key, value, cause| {
            let before = known(&told.0).insert(value, (key, cause));
            assert_eq!(before, None, "{value} leaves the cache once");
        }
    }
}

/// Inserts keys and values that no other thread inserts; which values were stored.
fn insert_own(cache: &Numbers, first: u32, count: u32) -> Vec<u32> {
    let own = first..first + count;
    let stored = own.filter(|key| {
        cache
            .insert_with(*key, *key, InsertOptions::new())
            .is_stored()
    });
    stored.collect()
}

/// Threads that insert, one that looks at the bound all the while, and the account at the end.
fn insert_under_bound(cache: &Numbers, told: &Told, bound: u64) {
    let stored = Mutex::new(BTreeSet::new());
    scope(|threads| {
        for first in [100, 200] {
            let stored = &stored;
            threads.spawn(move || known_extend(stored, insert_own(cache, first, 3)));
        }
        threads.spawn(|| {
            for _ in 0..3 {
                assert!(cache.weight() <= bound, "never above the bound");
                assert!(cache.len() <= cache.max_entries().unwrap_or(usize::MAX));
                cache.get(&(100 + choice(3)));
            }
        });
    });
    let resident: BTreeSet<u32> = cache.keys().collect();
    let gone: BTreeSet<u32> = known(&told.0).keys().copied().collect();
    assert!(
        resident.is_disjoint(&gone),
        "what is there was not reported"
    );
    let accounted: BTreeSet<u32> = resident.union(&gone).copied().collect();
    assert_eq!(
        accounted,
        *known(&stored),
        "every value is there or was reported"
    );
    assert_eq!(
        known(&stored).len(),
        6,
        "a cache that evicts refuses nothing"
    );
    assert_eq!(
        resident.len() as u64,
        bound,
        "no more is evicted than has to be"
    );
    cache.validate();
}

/// Collects first, so that no lock is held while calls are made.
fn known_extend(stored: &Mutex<BTreeSet<u32>>, values: Vec<u32>) {
    known(stored).extend(values);
}

#[test]
fn no_bound_is_ever_exceeded_and_every_eviction_is_told_once() {
    check("bound of entries", || {
        let (told, bound) = (Told::default(), 1 + choice(3));
        let builder = numbers().removal_listener(told.listener());
        insert_under_bound(
            &built(builder.max_entries(bound as usize)),
            &told,
            bound.into(),
        );
    });
    check("bound over several sets", || {
        let (told, bound) = (Told::default(), u64::from(1 + choice(3)));
        let builder = numbers()
            .removal_listener(told.listener())
            .max_entries(OF_FOUR_SETS);
        insert_under_bound(&built(builder.max_weight(bound)), &told, bound);
    });
}

fn weighed(bound: u64) -> Numbers {
    let sets = if choice(2) == 0 { 10 } else { OF_FOUR_SETS };
    let builder = numbers().max_entries(sets).max_weight(bound);
    built(builder.weigher(|_, value| u64::from(*value)))
}

#[test]
fn a_heavy_entry_gets_its_room_against_light_ones() {
    check("a heavy entry", || {
        let cache = weighed(8);
        cache.insert_many((0..8).map(|key| (key, 1)));
        scope(|threads| {
            for first in [100, 200] {
                let cache = &cache;
                threads.spawn(move || {
                    for key in first..first + 3 {
                        assert!(cache.insert_with(key, 1, InsertOptions::new()).is_stored());
                        assert!(cache.weight() <= 8);
                    }
                });
            }
            threads.spawn(|| {
                let heavy = 5 + choice(4);
                let inserted = cache.insert_with(300, heavy, InsertOptions::new());
                assert_eq!(inserted, Insert::Inserted);
            });
        });
        cache.validate();
    });
}

/// The place that a heavy entry would need is not taken where there is no weight for it.
#[test]
fn nothing_is_refused_for_what_is_refused_itself() {
    check("a heavy entry that is refused", || {
        let builder = numbers().max_entries(OF_FOUR_SETS).max_weight(10);
        let builder = builder.weigher(|_, value| u64::from(*value));
        let cache = built(builder.on_full(OnFull::Reject));
        cache.insert(FILLER, 5);
        cache.insert_many((FILLER + 1..).take(OF_FOUR_SETS - 2).map(|key| (key, 0)));
        let (heavy, light) = (choice(8), 8 + choice(8));
        scope(|threads| {
            threads.spawn(|| {
                let stored = cache.insert_with(heavy, 6, InsertOptions::new());
                assert!(!stored.is_stored());
            });
            threads.spawn(|| {
                let stored = cache.insert_with(light, 1, InsertOptions::new());
                assert!(stored.is_stored());
            });
        });
        cache.validate();
    });
}

/// What is only remembered keeps nothing out, though others hold the sets in which it lies.
#[test]
fn nothing_is_refused_for_what_is_only_remembered() {
    check("verdicts in the way", || {
        let builder = numbers().max_entries(OF_FOUR_SETS).max_weight(8);
        let builder = builder.on_full(OnFull::Reject).negative_ttl(seconds(9));
        let builder = builder.weigher(|_, _| 1).negative_weigher(|_| 1);
        let cache = built(builder);
        let absent = 200..208;
        for key in absent.clone() {
            assert_eq!(cache.get_or_find_with(&key, || None), None);
        }
        scope(|threads| {
            threads.spawn(|| {
                for key in 0..8 {
                    let stored = cache.insert_with(key, 1, InsertOptions::new());
                    assert!(stored.is_stored(), "{key} is refused");
                }
            });
            threads.spawn(|| {
                for key in absent.clone() {
                    ignore(cache.compute(&key, |_| {
                        yield_now();
                        Op::Keep
                    }));
                }
            });
        });
        assert_eq!(cache.len(), 8);
        cache.validate();
    });
}

/// What a heavy entry has evicted is its own: light ones that never stop must not get it.
#[test]
fn a_heavy_entry_gets_its_room_although_light_ones_never_stop() {
    check("a heavy entry among many", || {
        let cache = weighed(6);
        cache.insert_many((0..6).map(|key| (key, 1)));
        let stored = AtomicBool::new(false);
        scope(|threads| {
            for first in [100, 200] {
                let (cache, stored) = (&cache, &stored);
                threads.spawn(move || {
                    let mut keys = (first..first + 8).cycle();
                    while !stored.load(SeqCst) {
                        keys.next().map(|key| cache.insert(key, 1));
                        yield_now();
                    }
                });
            }
            threads.spawn(|| {
                assert_eq!(
                    cache.insert_with(300, 6, InsertOptions::new()),
                    Insert::Inserted
                );
                stored.store(true, SeqCst);
            });
        });
        cache.validate();
    });
}

#[test]
fn two_heavy_entries_do_not_starve_each_other() {
    check("two heavy entries", || {
        let cache = weighed(8);
        cache.insert_many((0..8).map(|key| (key, 1)));
        scope(|threads| {
            for key in [100, 200] {
                let cache = &cache;
                threads.spawn(move || {
                    let inserted = cache.insert_with(key, 7, InsertOptions::new());
                    assert_eq!(inserted, Insert::Inserted);
                });
            }
            threads.spawn(|| ignore(cache.insert(300, 1)));
        });
        assert!(cache.weight() <= 8);
        cache.validate();
    });
}

#[test]
fn weights_that_change_in_place_stay_within_the_bound() {
    check("weights that change", || {
        let cache = weighed(6);
        cache.insert_many([(1, 2), (2, 2), (3, 2)]);
        scope(|threads| {
            for thread in 0..3 {
                let cache = &cache;
                threads.spawn(move || {
                    for _ in 0..2 {
                        change_weight(cache, 1 + (thread + choice(2)) % 3);
                        assert!(cache.weight() <= 6, "never above the bound");
                    }
                });
            }
        });
        cache.validate();
    });
}

fn change_weight(cache: &Numbers, key: u32) {
    let weight = 1 + choice(6);
    match choice(4) {
        0 => ignore(cache.insert(key, weight)),
        1 => ignore(cache.update(&key, |value| *value = weight)),
        2 => ignore(cache.compute(&key, |_| Op::Put(weight))),
        _ => {
            let other = 1 + key % 3;
            let put = cache.transaction(&[other, key], |tx| {
                tx.insert(&key, weight)?;
                tx.insert(&other, weight)
            });
            assert_eq!(
                put.is_ok(),
                2 * weight <= 6,
                "what cannot fit together is refused"
            );
        }
    }
}

#[test]
fn a_bound_that_is_lowered_holds_once_the_call_has_returned() {
    check("a bound that is lowered", || {
        let max = if choice(2) == 0 { 10 } else { OF_FOUR_SETS };
        let cache = built(numbers().max_entries(max));
        cache.insert_many((0..3).map(|key| (key, key)));
        let bound = 1 + choice(2) as usize;
        scope(|threads| {
            for first in [100, 200] {
                let cache = &cache;
                threads.spawn(move || insert_own(cache, first, 2));
            }
            threads.spawn(|| {
                assert_eq!(cache.set_max_entries(bound), Ok(()));
                assert!(
                    cache.len() <= bound,
                    "the bound holds when the call returns"
                );
                // A walk through several sets sees them at several moments.
                assert!(
                    max == OF_FOUR_SETS || cache.iter().count() <= bound,
                    "and no more is there"
                );
            });
        });
        assert!(cache.len() <= bound, "the bound holds from then on");
        cache.validate();
    });
}

// ---- expiry ----

fn expiring(time: &MockClock) -> CacheBuilder<u32, u32, Fixed> {
    let sets = if choice(2) == 0 { 10 } else { OF_FOUR_SETS };
    numbers()
        .max_entries(sets)
        .clock(time.clock())
        .sweep_interval(seconds(1))
}

#[test]
fn an_entry_written_while_it_expires_survives() {
    check("writes beside a sweep", || {
        let time = MockClock::new();
        let cache = built(expiring(&time).time_to_live(seconds(10)));
        cache.insert_many((0..4).map(|key| (key, 1)));
        let survives = AtomicBool::new(false);
        scope(|threads| {
            threads.spawn(|| time.advance(seconds(10)));
            threads.spawn(|| ignore(cache.sweep()));
            threads.spawn(|| survives.store(prolong(&cache, 1), SeqCst));
        });
        assert_eq!(cache.contains_key(&1), survives.load(SeqCst));
        assert_eq!(cache.get(&2), None);
        cache.validate();
        cache.sweep();
        assert_eq!(
            cache.len(),
            usize::from(survives.load(SeqCst)),
            "the hints led to the rest"
        );
        time.advance(seconds(100));
        assert_eq!(cache.len(), 0, "the hints led to all of them");
    });
}

/// Gives an entry that is about to expire more time; whether it has it.
fn prolong(cache: &Numbers, key: u32) -> bool {
    match choice(5) {
        0 => {
            cache.insert_with_ttl(key, 2, seconds(50));
            true
        }
        1 => cache.expire(&key, seconds(50)),
        2 => {
            let put = cache.compute(&key, |_| Op::PutWithTtl(2, seconds(50)));
            matches!(put, Outcome::Inserted | Outcome::Replaced(_))
        }
        3 => {
            let done = cache.transaction(&[key, key + 1], |tx| {
                tx.insert_with_ttl(&key, 2, seconds(50))
            });
            done.is_ok()
        }
        _ => {
            let options = InsertOptions::new().ttl(seconds(50)).if_present();
            cache.insert_with(key, 2, options).is_stored()
        }
    }
}

#[test]
fn an_entry_read_in_time_lives_on() {
    check("reads beside a sweep", || {
        let time = MockClock::new();
        let cache = built(expiring(&time).time_to_idle(seconds(10)));
        cache.insert_many((0..3).map(|key| (key, 1)));
        let start = time.clock().system_time();
        let read_at = Mutex::new(None);
        scope(|threads| {
            threads.spawn(|| (0..2).for_each(|_| time.advance(seconds(6))));
            threads.spawn(|| ignore(cache.sweep()));
            threads.spawn(|| {
                let before = time.clock().system_time();
                let read = cache.touch(&1).then_some(before);
                *known(&read_at) = read.filter(|_| time.clock().system_time() == before);
            });
        });
        if let Some(read_at) = *known(&read_at) {
            let lives = read_at > start;
            assert_eq!(cache.contains_key(&1), lives, "idle since {read_at:?}");
        }
        cache.validate();
        time.advance(seconds(20));
        assert_eq!(cache.len(), 0, "the hints led to all of them");
    });
}

#[test]
fn hints_stay_right_beside_sweeps_and_new_deadlines() {
    check("hints", || {
        let time = MockClock::new();
        let cache = built(expiring(&time));
        let ttl = || seconds(u64::from(1 + choice(4)));
        cache.insert_many((50..54).map(|key| (key, 1)));
        for key in 0..3 {
            cache.insert_with_ttl(key, 1, ttl());
        }
        scope(|threads| {
            for first in [10, 20] {
                let (cache, ttl) = (&cache, &ttl);
                threads.spawn(move || {
                    cache.insert_with_ttl(first, 1, ttl());
                    cache.expire(&(50 + choice(4)), ttl());
                    cache.sweep();
                    cache.expire(&choice(3), ttl());
                });
            }
            threads.spawn(|| {
                time.advance(seconds(2));
                cache.sweep();
            });
        });
        cache.validate();
        (50..54).for_each(|key| ignore(cache.remove(&key)));
        time.advance(seconds(100));
        assert_eq!(cache.len(), 0, "the hints led to all of them");
        cache.validate();
    });
}

#[test]
fn hints_stay_right_while_the_table_grows() {
    check("hints during growth", || {
        let time = MockClock::new();
        let cache = built(numbers().clock(time.clock()).time_to_live(seconds(3)));
        fill(&cache, 2 * CROWDED + 5);
        scope(|threads| {
            threads.spawn(|| {
                (0..2).for_each(|key| ignore(cache.insert_with_ttl(key, key, seconds(9))))
            });
            threads.spawn(|| {
                cache.expire(&(FILLER + choice(20)), seconds(1));
                time.advance(seconds(1));
            });
            threads.spawn(|| ignore(cache.sweep()));
        });
        cache.validate();
        time.advance(seconds(2));
        assert_eq!(
            cache.len(),
            2,
            "everything that expired is swept, after the growth too"
        );
        time.advance(seconds(7));
        assert_eq!(cache.len(), 0);
    });
}

#[test]
fn what_has_expired_makes_room_beside_sweeps() {
    check("expiry for room", || {
        let time = MockClock::new();
        let cache = built(expiring(&time).max_weight(6));
        for key in 0..6 {
            cache.insert_with_ttl(key, 1, seconds(if choice(2) == 0 { 5 } else { 50 }));
        }
        scope(|threads| {
            threads.spawn(|| {
                time.advance(seconds(5));
                cache.sweep();
            });
            for first in [100, 200] {
                let cache = &cache;
                threads.spawn(move || {
                    for key in first..first + 2 {
                        assert!(cache.insert_with(key, 1, InsertOptions::new()).is_stored());
                        assert!(cache.weight() <= 6, "never above the bound");
                    }
                });
            }
        });
        cache.validate();
        time.advance(seconds(50));
        assert!(cache.keys().all(|key| key >= 100));
        assert_eq!(
            cache.len(),
            cache.keys().count(),
            "the hints led to all that expired"
        );
    });
}

// ---- transactions ----

/// Writes one number under both keys, which are named in the order given.
fn write_both(cache: &Numbers, keys: [u32; 2], value: u32) {
    let written = cache.transaction(&keys, |tx| {
        tx.insert(&keys[0], value)?;
        tx.insert(&keys[1], value)
    });
    let fits = cache.max_entries().is_none_or(|max| max >= 2)
        && cache.max_weight().is_none_or(|max| max >= 2);
    assert_eq!(written.is_ok(), fits, "what cannot fit together is refused");
}

fn assert_whole(cache: &Numbers, keys: [u32; 2], evicts: bool) {
    let read = cache.transaction(&keys, |tx| {
        Ok::<_, ()>(keys.map(|key| tx.get(&key).copied()))
    });
    let seen = read.expect("the closure returns no error");
    if let [Some(one), Some(other)] = seen {
        assert_eq!(one, other, "a transaction is seen whole");
    } else if !evicts {
        assert_eq!(seen[0], seen[1], "a transaction is seen whole");
    }
}

fn transactions(cache: &Numbers, evicts: bool) {
    let keys = [choice(8), 8 + choice(8)];
    let turned = [keys[1], keys[0]];
    scope(|threads| {
        threads.spawn(move || (1..3).for_each(|value| write_both(cache, keys, value)));
        threads.spawn(move || (3..5).for_each(|value| write_both(cache, turned, value)));
        threads.spawn(move || (0..2).for_each(|_| assert_whole(cache, keys, evicts)));
        threads.spawn(move || (100..102).for_each(|key| ignore(cache.insert(key, 0))));
    });
    assert_whole(cache, turned, evicts);
    cache.validate();
}

#[test]
fn transactions_are_seen_whole_and_never_wait_in_a_circle() {
    check("transactions", || {
        let cache = built(numbers().max_entries(OF_FOUR_SETS));
        transactions(&cache, false);
    });
    check("transactions beside eviction", || {
        let bound = u64::from(2 + choice(2));
        let cache = built(numbers().max_entries(OF_FOUR_SETS).max_weight(bound));
        transactions(&cache, true);
    });
    check("transactions beside growth", || {
        let cache = built(numbers());
        fill(
            &cache,
            if choice(2) == 0 {
                CROWDED - 2
            } else {
                3 * CROWDED + 5
            },
        );
        transactions(&cache, false);
    });
}

#[test]
fn a_transaction_that_finds_no_room_leaves_nothing() {
    check("refused transactions", || {
        let sets = if choice(2) == 0 { 10 } else { OF_FOUR_SETS };
        let builder = numbers().max_entries(sets).max_weight(3);
        let cache = built(builder.on_full(OnFull::Reject));
        let written = AtomicUsize::new(0);
        scope(|threads| {
            for keys in [[1, 2], [13, 4]] {
                let (cache, written) = (&cache, &written);
                threads.spawn(move || {
                    let put = cache.transaction(&keys, |tx| {
                        tx.insert(&keys[0], 1)?;
                        tx.insert(&keys[1], 1)
                    });
                    written.fetch_add(usize::from(put.is_ok()), SeqCst);
                });
            }
            threads.spawn(|| assert!(cache.weight() <= 3));
        });
        assert_eq!(written.load(SeqCst), 1, "there is room for one of the two");
        assert_eq!(cache.len(), 2, "of the other, nothing is left");
        cache.validate();
    });
}

// ---- loads ----

#[test]
fn a_cold_key_is_loaded_once() {
    check("one load", || {
        let cache = built(numbers().max_entries(if choice(2) == 0 { 1 } else { OF_FOUR_SETS }));
        let loads = AtomicU32::new(0);
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    let loaded = cache.get_or_insert_with(&1, || {
                        yield_now();
                        loads.fetch_add(1, SeqCst)
                    });
                    assert_eq!(loaded, 0);
                });
            }
        });
        assert_eq!(loads.load(SeqCst), 1);
        assert_eq!(cache.get(&1), Some(0));
        cache.validate();
    });
}

/// Takes what the cache knows of key 1 out, in one of the ways there are.
fn invalidate(cache: &Numbers) {
    match choice(6) {
        0 => ignore(cache.remove(&1)),
        1 => cache.clear(),
        2 => cache.retain(|key, _| *key != 1),
        3 => {
            let removed = cache.transaction(&[2, 1], |tx| Ok::<_, ()>(tx.remove(&1)));
            assert!(removed.is_ok());
        }
        4 => ignore(cache.remove_if(&1, |_| true)),
        _ => ignore(cache.insert(1, 2)),
    }
}

#[test]
fn a_load_that_was_overtaken_is_neither_stored_nor_joined() {
    check("overtaken loads", || {
        let cache = built(numbers());
        if choice(3) == 0 {
            fill(&cache, CROWDED);
        }
        let truth = AtomicU32::new(1);
        let load = || {
            let read = truth.load(SeqCst);
            yield_now();
            read
        };
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| assert!((1..=2).contains(&cache.get_or_insert_with(&1, load))));
            }
            threads.spawn(|| {
                truth.store(2, SeqCst);
                invalidate(&cache);
                let found = cache.get(&1);
                assert!(matches!(found, None | Some(2)), "{found:?} is of before");
                assert_eq!(cache.get_or_insert_with(&1, load), 2);
            });
            threads.spawn(|| ignore(cache.insert(3, 3)));
        });
        assert_eq!(cache.get(&1), Some(2), "the last load was not overtaken");
        cache.validate();
    });
}

#[test]
fn what_is_written_during_a_load_stays() {
    check("writes beside a load", || {
        let cache = built(numbers());
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let loaded = cache.get_or_insert_with(&1, || {
                        yield_now();
                        5
                    });
                    assert!(loaded == 5 || loaded == 9);
                });
            }
            threads.spawn(|| {
                match choice(3) {
                    0 => ignore(cache.insert(1, 9)),
                    1 => ignore(cache.compute(&1, |_| Op::Put(9))),
                    _ => write_both(&cache, [2, 1], 9),
                }
                assert_eq!(cache.get(&1), Some(9));
                assert_eq!(
                    cache.get_or_insert_with(&1, || unreachable!("it is there")),
                    9
                );
            });
        });
        assert_eq!(cache.get(&1), Some(9));
        cache.validate();
    });
}

#[test]
fn a_loader_that_panics_or_fails_hands_over() {
    check("failing loads", || {
        let cache = built(numbers());
        let (loads, failed) = (AtomicU32::new(0), AtomicU32::new(0));
        let panics = choice(2) == 0;
        let load = || {
            yield_now();
            match (loads.fetch_add(1, SeqCst), panics) {
                (0, true) => resume_unwind(Box::new("no source")),
                (0, false) => Err(()),
                _ => Ok(7),
            }
        };
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    // Unwinds without the panic hook, which would print each schedule.
                    let call = AssertUnwindSafe(|| cache.try_get_or_insert_with(&1, load));
                    match catch_unwind(call) {
                        Ok(Ok(value)) => assert_eq!(value, 7),
                        Ok(Err(LoadError::Failed(_))) => assert!(!panics),
                        Ok(Err(error)) => panic!("{error:?}: nobody waits for himself"),
                        Err(_) => assert_eq!(failed.fetch_add(1, SeqCst), 0, "one panics"),
                    }
                });
            }
        });
        assert_eq!(failed.load(SeqCst), u32::from(panics));
        assert!(
            loads.load(SeqCst) <= 2,
            "one load fails, and one brings the value"
        );
        assert_eq!(
            cache.get_or_insert_with(&1, || 7),
            7,
            "no trace of the failed load"
        );
        cache.validate();
    });
}

#[test]
fn loads_that_need_each_other_do_not_wait_for_ever() {
    check("loads in a circle", || {
        let cache = built(numbers());
        let refused = AtomicU32::new(0);
        scope(|threads| {
            for [outer, inner] in [[1, 2], [2, 1]] {
                let (cache, refused) = (&cache, &refused);
                threads.spawn(move || {
                    let loaded = cache.try_get_or_insert_with(&outer, || {
                        match cache.try_get_or_insert_with(&inner, || Ok::<u32, ()>(inner)) {
                            Ok(value) => Ok(value),
                            Err(LoadError::Reentrant) => {
                                refused.fetch_add(1, SeqCst);
                                Err(())
                            }
                            Err(LoadError::Failed(_) | _) => Err(()),
                        }
                    });
                    assert!(!matches!(loaded, Err(LoadError::Reentrant)));
                });
            }
        });
        if refused.load(SeqCst) == 0 {
            assert!(!cache.is_empty());
        }
        cache.validate();
    });
}

// ---- loads of tasks ----

/// Lets a simulated thread run a future.
#[derive(Default)]
struct Unpark {
    is_woken: shuttle::sync::Mutex<bool>,
    woken: shuttle::sync::Condvar,
}

/// The simulated threads are one thread to the system, so one that panics poisons what the others
/// hold.
fn unpoisoned<T>(held: Result<T, PoisonError<T>>) -> T {
    held.unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        *unpoisoned(self.is_woken.lock()) = true;
        self.woken.notify_all();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        // Another waker for each poll, as an executor may have it that moves tasks about.
        let unpark = Arc::new(Unpark::default());
        let waker = Waker::from(Arc::clone(&unpark));
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut is_woken = unpoisoned(unpark.is_woken.lock());
        while !*is_woken {
            is_woken = unpoisoned(unpark.woken.wait(is_woken));
        }
    }
}

/// Pending once.
async fn a_turn() {
    let mut is_second = false;
    poll_fn(|context| {
        if mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Asks for key 1 as a thread or as a task.
fn any_load(cache: &Numbers, load: impl Fn() -> u32) -> u32 {
    any_load_of(cache, 1, load)
}

fn any_load_of(cache: &Numbers, key: u32, load: impl Fn() -> u32) -> u32 {
    if choice(2) == 0 {
        return cache.get_or_insert_with(&key, || {
            yield_now();
            load()
        });
    }
    block_on(cache.get_or_load(&key, || async {
        let loaded = load();
        a_turn().await;
        loaded
    }))
}

/// The same in all ways that there are. A zero may stand for no value.
fn any_ask(cache: &Numbers, load: impl Fn() -> u32) -> u32 {
    let one = |missing: Vec<u32>| {
        let (key, loaded) = (missing[0], load());
        yield_now();
        Some((key, loaded)).filter(|_| loaded > 0)
    };
    let found = match choice(5) {
        0 => cache.get_or_find_with(&1, || one(vec![1]).map(|(_, value)| value)),
        1 => block_on(cache.get_or_find(&1, async || one(vec![1]).map(|(_, value)| value))),
        2 => cache.get_many_or_insert_with([&1], one)[0],
        3 => {
            let fails = choice(2) == 0;
            let load = || {
                one(vec![1])
                    .filter(|_| !fails)
                    .map(|(_, value)| value)
                    .ok_or(())
            };
            // An error is no older than anything.
            Some(cache.try_get_or_insert_with(&1, load).unwrap_or(u32::MAX))
        }
        _ => Some(any_load(cache, load)),
    };
    found.unwrap_or(0)
}

#[test]
fn threads_and_tasks_load_a_cold_key_once() {
    check("one load of threads and tasks", || {
        let cache = built(numbers());
        let loads = AtomicU32::new(0);
        scope(|threads| {
            for _ in 0..3 {
                let loaded = || any_load(&cache, || loads.fetch_add(1, SeqCst));
                threads.spawn(move || assert_eq!(loaded(), 0));
            }
        });
        assert_eq!(loads.load(SeqCst), 1);
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// What a load leaves behind is reused by the next, of whatever key, once nobody has a hand in it.
#[test]
fn no_load_is_taken_for_one_that_came_before_it() {
    check("loads one after the other", || {
        let cache = built(numbers());
        // In an empty set a load begins in another way.
        cache.insert(9, 9);
        let loads = AtomicU32::new(0);
        let ask = || {
            let key = 1 + choice(2);
            if choice(4) == 0 {
                return dropped_load(&cache, key, 1 + choice(2));
            }
            let load = || 100 * key + loads.fetch_add(1, SeqCst);
            let loaded = any_load_of(&cache, key, load);
            assert_eq!(loaded / 100, key, "{loaded} is of another key");
            cache.remove(&key);
        };
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| (0..2).for_each(|_| ask()));
            }
        });
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// A leader that is dropped after it was polled so often.
fn dropped_load(cache: &Numbers, key: u32, polls: u32) {
    let mut call = Box::pin(cache.get_or_load(&key, || async {
        loop {
            a_turn().await;
        }
    }));
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if call.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
}

#[test]
fn a_task_that_is_dropped_or_panics_hands_over() {
    check("dropped tasks", || {
        let cache = built(numbers());
        let loads = AtomicU32::new(0);
        scope(|threads| {
            threads.spawn(|| dropped_load(&cache, 1, 1 + choice(2)));
            threads.spawn(|| {
                let fails = || -> std::future::Ready<u32> { resume_unwind(Box::new("no source")) };
                let call = AssertUnwindSafe(|| block_on(cache.get_or_load(&1, fails)));
                assert!(catch_unwind(call).is_err() || cache.get(&1) == Some(7));
            });
            for _ in 0..2 {
                threads.spawn(|| {
                    let load = || {
                        loads.fetch_add(1, SeqCst);
                        7
                    };
                    assert_eq!(any_load(&cache, load), 7);
                });
            }
        });
        assert_eq!(loads.load(SeqCst), 1);
        assert_eq!(cache.get(&1), Some(7));
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// However their calls meet, the first loader that panics is the last one to run for a while, and
/// all callers but its own go on with what there is.
#[test]
fn a_load_that_panics_beside_an_old_value_is_the_only_one() {
    check("panics beside old values", || {
        let time = MockClock::new();
        let freshness = Freshness::new().refresh_after(seconds(1));
        let freshness = freshness.stale_if_error(seconds(9));
        let builder = numbers().clock(time.clock()).time_to_live(seconds(2));
        let cache = built(builder.freshness(freshness));
        ignore(cache.insert(1, 7));
        let (is_due, is_written) = (choice(2) == 0, choice(3) == 0);
        time.advance(seconds(if is_due { 1 } else { 2 }));
        let (loads, panics) = (AtomicU32::new(0), AtomicU32::new(0));
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    let fails = || {
                        loads.fetch_add(1, SeqCst);
                        yield_now();
                        resume_unwind(Box::new("no source"))
                    };
                    match catch_unwind(AssertUnwindSafe(|| any_load(&cache, fails))) {
                        Ok(value) => assert!(value == 7 || (is_written && value == 8)),
                        Err(_) => ignore(panics.fetch_add(1, SeqCst)),
                    }
                });
            }
            threads.spawn(|| {
                if is_written {
                    ignore(cache.insert(1, 8));
                }
            });
        });
        let loads = loads.load(SeqCst);
        assert_eq!(loads, panics.load(SeqCst));
        assert!(loads == 1 || (is_written && loads == 0), "{loads} loads");
        let rests = any_load(&cache, || unreachable!("it rests, or is fresh"));
        assert_eq!(rests, if is_written { 8 } else { 7 });
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// The truth that loads read grows; each invalidation begins after it has grown and before it is
/// noted as known. Nobody who calls after that may get anything older.
#[test]
fn nobody_gets_what_is_older_than_the_last_invalidation_before_the_call() {
    check("loads beside all that there is", || {
        let small = choice(2) == 0;
        let max_entries = if small { 1 } else { OF_FOUR_SETS };
        let time = MockClock::new();
        let builder = numbers().max_entries(max_entries).negative_ttl(seconds(9));
        let builder = builder.clock(time.clock());
        let cache = built(if choice(2) == 0 {
            builder
        } else {
            let freshness = Freshness::new().refresh_after(seconds(1));
            let freshness = freshness.stale_if_error(seconds(9));
            builder.time_to_live(seconds(2)).freshness(freshness)
        });
        // At first there is no value.
        let (truth, known) = (AtomicU32::new(0), AtomicU32::new(0));
        let look = |get: &dyn Fn() -> Option<u32>| {
            let oldest = known.load(SeqCst);
            let found = get();
            assert!(
                found.is_none_or(|found| found >= oldest),
                "{found:?} is older than {oldest}"
            );
        };
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    look(&|| Some(any_ask(&cache, || truth.load(SeqCst))));
                    look(&|| cache.get(&1));
                });
            }
            threads.spawn(|| {
                for _ in 0..2 {
                    if choice(3) == 0 {
                        cache.invalidate_around([&1], || {
                            yield_now();
                            truth.fetch_add(1, SeqCst);
                        });
                        known.fetch_max(truth.load(SeqCst), SeqCst);
                        continue;
                    }
                    let now = truth.fetch_add(1, SeqCst) + 1;
                    match choice(7) {
                        0 => ignore(cache.remove(&1)),
                        1 => cache.clear(),
                        2 => cache.retain(|key, _| *key != 1),
                        3 => ignore(cache.remove_if(&1, |_| true)),
                        5 => cache.invalidate(&1),
                        4 => {
                            let removed =
                                cache.transaction(&[2, 1], |tx| Ok::<_, ()>(tx.remove(&1)));
                            assert!(removed.is_ok());
                        }
                        _ => ignore(cache.insert(1, now)),
                    }
                    known.fetch_max(now, SeqCst);
                }
            });
            threads.spawn(|| match choice(4) {
                // Values become due, and stale.
                0 => (0..3).for_each(|_| {
                    time.advance(seconds(1));
                    yield_now();
                }),
                // Evicts in the small cache.
                3 => ignore(cache.insert(2, 0)),
                1 => dropped_load(&cache, 1, 1),
                _ => ignore(cache.insert(3, 0)),
            });
        });
        look(&|| cache.get(&1));
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// What is remembered of a key that had no value is not told after the value has come.
#[test]
fn an_absence_is_forgotten_by_what_overtakes_it() {
    check("absences", || {
        let builder = numbers().clock(MockClock::new().clock());
        let cache = built(builder.negative_ttl(seconds(1)));
        let (exists, is_known) = (AtomicBool::new(false), AtomicBool::new(false));
        let find = || {
            let found = exists.load(SeqCst).then_some(1);
            yield_now();
            found
        };
        let ask = || {
            let was_known = is_known.load(SeqCst);
            let found = cache.get_or_find_with(&1, find);
            assert!(found.is_some() || !was_known, "it has come");
        };
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|_| ask()));
            threads
                .spawn(|| block_on(async { ignore(cache.get_or_find(&1, async || find()).await) }));
            threads.spawn(|| {
                ask();
                exists.store(true, SeqCst);
                match choice(4) {
                    0 => ignore(cache.remove(&1)),
                    1 => cache.clear(),
                    2 => cache.invalidate(&1),
                    _ => ignore(cache.insert(1, 1)),
                }
                is_known.store(true, SeqCst);
                ask();
            });
        });
        assert_eq!(cache.get_or_find_with(&1, find), Some(1));
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

#[test]
fn tasks_and_threads_whose_loads_need_each_other_do_not_wait_for_ever() {
    check("circles of threads and tasks", || {
        let cache = built(numbers());
        scope(|threads| {
            for [outer, inner] in [[1, 2], [2, 3], [3, 1]] {
                let (cache, is_task) = (&cache, choice(2) == 0);
                threads.spawn(move || {
                    let as_task = || async {
                        let found =
                            cache.try_get_or_load(&inner, || async { Ok::<u32, ()>(inner) });
                        found.await.map_err(drop)
                    };
                    let as_thread = || {
                        cache
                            .try_get_or_insert_with(&inner, || Ok(inner))
                            .map_err(drop::<LoadError<()>>)
                    };
                    let loaded = match (is_task, choice(2)) {
                        (true, 0) => block_on(cache.try_get_or_load(&outer, as_task)),
                        (true, _) => {
                            block_on(cache.try_get_or_load(&outer, || async { as_thread() }))
                        }
                        (false, 0) => cache.try_get_or_insert_with(&outer, as_thread),
                        (false, _) => cache.try_get_or_insert_with(&outer, || block_on(as_task())),
                    };
                    assert!(!matches!(loaded, Err(LoadError::Reentrant)));
                });
            }
        });
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

#[test]
fn calls_for_several_keys_load_each_of_them_once() {
    check("several keys", || {
        let cache = built(numbers());
        let loads = [const { AtomicU32::new(0) }; 3];
        let load = |missing: Vec<u32>| {
            yield_now();
            for key in &missing {
                loads[*key as usize].fetch_add(1, SeqCst);
            }
            missing.into_iter().map(|key| (key, key))
        };
        scope(|threads| {
            for keys in [[0, 1], [1, 2], [2, 0]] {
                let (cache, load, is_task) = (&cache, &load, choice(2) == 0);
                threads.spawn(move || {
                    let found = if is_task {
                        block_on(cache.get_many_or_load(&keys, async |missing| load(missing)))
                    } else {
                        cache.get_many_or_insert_with(&keys, load)
                    };
                    assert_eq!(found, keys.map(Some));
                });
            }
        });
        assert!(loads.iter().all(|loads| loads.load(SeqCst) == 1));
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// Each gives up the loads of another, leads some of the keys, and finds the others led by the
/// other: so each makes loads instead of the other's.
#[test]
fn calls_for_several_keys_that_give_up_on_each_other_end() {
    check("several keys that time out", || {
        let time = MockClock::new();
        let cache = built(numbers().clock(time.clock()).lock_timeout(seconds(1)));
        let hangs = || async {
            poll_fn(|_| Poll::<()>::Pending).await;
            0
        };
        let mut leaders = [1, 2].map(|key| {
            let cache = cache.clone();
            Box::pin(async move { cache.get_or_load(&key, hangs).await })
        });
        for leader in &mut leaders {
            let mut context = Context::from_waker(Waker::noop());
            assert!(leader.as_mut().poll(&mut context).is_pending());
        }
        let done = AtomicU32::new(0);
        scope(|threads| {
            for keys in [[1, 2], [2, 1]] {
                let (cache, done) = (&cache, &done);
                threads.spawn(move || {
                    let load = |missing: Vec<u32>| {
                        cache.get_or_insert_with(&3, || 3);
                        missing.into_iter().map(|key| (key, key))
                    };
                    let found = block_on(cache.get_many_or_load(&keys, async |keys| load(keys)));
                    assert_eq!(found, keys.map(Some));
                    done.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| {
                while done.load(SeqCst) < 2 {
                    time.advance(seconds(1));
                    yield_now();
                }
            });
        });
        drop(leaders);
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

/// The mock clock moves while others wait for a load that does not end.
#[test]
fn a_wait_ends_with_its_time_out() {
    check("waits that time out", || {
        let time = MockClock::new();
        let cache = built(numbers().clock(time.clock()).lock_timeout(seconds(1)));
        let hangs = || async {
            poll_fn(|_| Poll::<()>::Pending).await;
            0
        };
        let mut leader = pin!(cache.get_or_load(&1, hangs));
        let polled = leader
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let done = AtomicU32::new(0);
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    assert_eq!(any_load(&cache, || 5), 5);
                    done.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| {
                while done.load(SeqCst) < 2 {
                    time.advance(seconds(1));
                    yield_now();
                }
            });
        });
        assert_eq!(cache.get(&1), Some(5));
        assert_eq!((cache.loads_under_way(), time.timers()), (0, 0));
        cache.validate();
    });
}

/// What a late load brings, and what the one that was begun instead of it does, come in any order,
/// beside those who give up, write and come anew.
#[test]
fn late_loads_and_those_begun_instead_of_them_end_in_any_order() {
    check("late loads", || {
        let time = MockClock::new();
        let cache = built(numbers().clock(time.clock()).lock_timeout(seconds(1)));
        let (done, wrote) = (AtomicU32::new(0), choice(3) == 0);
        scope(|threads| {
            for own in 1..=3 {
                let (cache, done) = (&cache, &done);
                threads.spawn(move || {
                    // Some fail or find nothing, so that others are left to bring something.
                    let brings = match choice(4) {
                        0 => Err(own),
                        1 => Ok(None),
                        _ => Ok(Some(own)),
                    };
                    let load = || {
                        yield_now();
                        brings
                    };
                    match choice(2) {
                        0 => drop(cache.try_get_or_find_with(&1, load)),
                        _ => drop(block_on(cache.try_get_or_find(&1, async || load()))),
                    }
                    done.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| {
                if wrote {
                    cache.remove(&1);
                }
                while done.load(SeqCst) < 3 {
                    time.advance(seconds(1));
                    yield_now();
                }
            });
        });
        assert_eq!((cache.loads_under_way(), time.timers()), (0, 0));
        cache.validate();
    });
}

/// What the load that was begun instead has read is not judged by the tags of the late one.
#[test]
fn each_landing_is_judged_by_its_own_tags() {
    check("tags of late loads", || {
        let time = MockClock::new();
        let cache = built(numbers().clock(time.clock()).lock_timeout(seconds(1)));
        let (stage, row) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let until = |stage: &AtomicU32, wanted: u32| {
            while stage.load(SeqCst) < wanted {
                yield_now();
            }
        };
        let (of_loader, source, number) = (Arc::clone(&stage), Arc::clone(&row), AtomicU32::new(0));
        let rows = cache.read_through(move |_: &u32| {
            let loaded = match number.fetch_add(1, SeqCst) {
                // The late one: of another tag, which nobody invalidates.
                0 => {
                    of_loader.store(1, SeqCst);
                    until(&of_loader, 3);
                    Loaded::new(100).tag("late")
                }
                1 => {
                    let read = source.load(SeqCst);
                    of_loader.store(2, SeqCst);
                    until(&of_loader, 3);
                    Loaded::new(read).tag("row")
                }
                _ => Loaded::new(source.load(SeqCst)).tag("row"),
            };
            Ok::<_, ()>(loaded)
        });
        scope(|threads| {
            threads.spawn(|| rows.get(&1));
            threads.spawn(|| {
                until(&stage, 1);
                rows.get(&1)
            });
            threads.spawn(|| {
                until(&stage, 2);
                row.store(1, SeqCst);
                cache.invalidate_tag("row");
                let got = rows.get(&1).unwrap();
                assert_ne!(got, Some(0), "read before the tag was invalidated");
            });
            threads.spawn(|| {
                until(&stage, 1);
                while cache.stats().waits < 1 {
                    yield_now();
                }
                while stage.load(SeqCst) < 2 {
                    time.advance(seconds(1));
                    yield_now();
                }
                while cache.stats().waits < 2 {
                    yield_now();
                }
                stage.store(3, SeqCst);
            });
        });
        cache.validate();
    });
}

/// The time-out passes while a task is about to run the load, is at it, has dropped it or has not
/// come to it yet.
#[test]
fn a_load_that_its_caller_has_given_up_is_not_begun_any_more() {
    check("loads that tasks run", || {
        let time = MockClock::new();
        let (tasks, late) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let (running, waiting) = (Arc::clone(&tasks), Arc::clone(&late));
        let builder = numbers().clock(time.clock()).lock_timeout(seconds(1));
        let cache = built(builder.spawner(move |load| match choice(4) {
            0 => drop(load),
            1 => known::<Vec<_>>(&waiting).push(load),
            _ => known(&running).push(shuttle::thread::spawn(|| block_on(load))),
        }));
        let loads = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&loads);
        let through = cache.read_through_async(move |_| {
            count.fetch_add(1, SeqCst);
            async {
                a_turn().await;
                Ok::<_, ()>(5)
            }
        });
        let done = AtomicBool::new(false);
        scope(|threads| {
            threads.spawn(|| {
                assert_eq!(block_on(through.get(&1)), Ok(Some(5)));
                done.store(true, SeqCst);
            });
            threads.spawn(|| {
                while !done.load(SeqCst) {
                    time.advance(seconds(1));
                    yield_now();
                }
            });
        });
        for task in mem::take(&mut *known(&tasks)) {
            assert!(task.join().is_ok());
        }
        let begun = loads.load(SeqCst);
        mem::take(&mut *known(&late)).into_iter().for_each(block_on);
        assert_eq!((loads.load(SeqCst), cache.get(&1)), (begun, Some(5)));
        assert_eq!((cache.loads_under_way(), time.timers()), (0, 0));
        cache.validate();
    });
}

/// Callers of lists that have keys in common wait, hang up or insist, and tasks load behind them,
/// or are dropped, while what they load is committed over and comes to be due.
#[test]
fn nobody_gets_a_list_with_what_was_committed_over() {
    check("lists that tasks load", || {
        let (time, tasks) = (MockClock::new(), Arc::new(Mutex::new(Vec::new())));
        let running = Arc::clone(&tasks);
        let builder = numbers().clock(time.clock());
        let builder = builder.spawner(move |load| match choice(4) {
            0 => drop(load),
            _ => {
                let task = shuttle::thread::spawn(|| block_on(load));
                known(&running).push(task);
            }
        });
        let freshness = Freshness::new().refresh_after(seconds(1));
        let cache = built(builder.freshness(freshness));
        let version = Arc::new(AtomicU32::new(0));
        let query = |version: &AtomicU32, keys: Vec<u32>| {
            let now = version.load(SeqCst);
            yield_now();
            Ok::<_, ()>(keys.into_iter().map(move |key| (key, now)))
        };
        let (for_threads, for_tasks) = (Arc::clone(&version), Arc::clone(&version));
        let threads_read = cache.read_through_many(move |keys| query(&for_threads, keys));
        let tasks_read = cache.read_through_many_async(move |keys| {
            let version = Arc::clone(&for_tasks);
            async move {
                let rows = query(&version, keys);
                a_turn().await;
                rows
            }
        });
        let committed = AtomicU32::new(0);
        let ask = |keys: &[u32]| {
            let oldest = committed.load(SeqCst);
            let found = match choice(5) {
                0 => {
                    let mut call = pin!(tasks_read.get_many(keys));
                    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    let Poll::Ready(found) = polled else { return };
                    found
                }
                1 => threads_read.get_many(keys),
                2 => block_on(tasks_read.refresh_many(keys)),
                _ => block_on(tasks_read.get_many(keys)),
            };
            for found in found.expect("no query fails") {
                assert!(found >= Some(oldest), "{found:?} is older than {oldest}");
            }
        };
        scope(|threads| {
            for keys in [[1, 2], [2, 3]] {
                let ask = &ask;
                threads.spawn(move || (0..2).for_each(|_| ask(&keys)));
            }
            threads.spawn(|| {
                let now = version.fetch_add(1, SeqCst) + 1;
                (1..4).for_each(|key| cache.invalidate(&key));
                committed.store(now, SeqCst);
                ask(&[3, 1]);
            });
            threads.spawn(|| time.advance(seconds(1)));
        });
        ask(&[1, 2, 3]);
        for task in mem::take(&mut *known(&tasks)) {
            assert!(task.join().is_ok());
        }
        assert_eq!(cache.loads_under_way(), 0);
        assert!(cache.iter().all(|(_, found)| found == 1));
        cache.validate();
    });
}

// ---- tags ----

/// Values of before an invalidation are below this.
const NEW: u32 = 100;

const CONCERNED: u32 = 5;
const UNCONCERNED: u32 = 6;

fn tagged(tags: [u32; 2]) -> InsertOptions {
    InsertOptions::new().tags(tags)
}

/// A call that concerns key 1 while its tag is invalidated, and makes nothing old of anything new.
fn beside_an_invalidation(cache: &Numbers) {
    match choice(10) {
        0 => ignore(cache.insert_with(1, NEW, tagged([CONCERNED, 7]))),
        1 => ignore(cache.update(&1, |value| *value += 1)),
        2 => ignore(cache.compute(&1, |old| old.map_or(Op::Keep, |old| Op::Put(old + 1)))),
        3 => {
            let added = cache.transaction(&[2, 1], |tx| {
                let old = tx.get(&1).copied();
                yield_now();
                assert_eq!(tx.get(&1).copied(), old, "it sees one moment");
                old.map_or(Ok(()), |old| tx.insert(&1, old + 1))
            });
            assert!(added.is_ok());
        }
        4 => {
            let first = cache.get(&1);
            let second = cache.peek(&1);
            let rises = first.is_some() || second.is_none_or(|second| second >= NEW);
            assert!(rises, "{second:?} is there again");
        }
        5 => ignore(cache.sweep()),
        6 => cache.invalidate_tag(&7),
        7 => cache.invalidate_tag(&8),
        8 => ignore(cache.remove(&1)),
        _ => fill(cache, CROWDED),
    }
}

#[test]
fn no_value_is_seen_after_its_tag_was_invalidated() {
    check("tags", || {
        let cache = built(if choice(2) == 0 {
            numbers()
        } else {
            numbers().max_weight(u64::from(CROWDED))
        });
        // Evicting must not be why key 2 is missing.
        let evicts = cache.max_weight().is_some();
        cache.insert_with(1, 0, tagged([CONCERNED, 9]));
        cache.insert_with(2, 2, tagged([UNCONCERNED, 9]));
        scope(|threads| {
            threads.spawn(|| {
                cache.invalidate_tag(&CONCERNED);
                let found = cache.get(&1);
                assert!(found.is_none_or(|found| found >= NEW), "{found:?} is old");
            });
            for _ in 0..3 {
                threads.spawn(|| (0..2).for_each(|_| beside_an_invalidation(&cache)));
            }
            threads.spawn(|| {
                let kept = cache.get(&2);
                assert!(kept == Some(2) || evicts, "it is not concerned");
            });
        });
        let found = cache.get(&1);
        assert!(found.is_none_or(|found| found >= NEW), "{found:?} is old");
        cache.sweep();
        assert!(cache.get(&2) == Some(2) || evicts, "it is not concerned");
        assert_eq!(cache.len(), cache.keys().count(), "all that fell is swept");
        cache.validate();
    });
}

#[test]
fn what_has_fallen_for_one_reader_has_fallen_for_the_next() {
    check("two looks at a tag", || {
        let cache = built(numbers());
        cache.insert_with(1, 1, tagged([CONCERNED, 9]));
        // So that readers have something to look up, and to remember.
        cache.invalidate_tag(&7);
        scope(|threads| {
            threads.spawn(|| cache.invalidate_tag(&CONCERNED));
            threads.spawn(|| ignore(cache.get(&1)));
            threads.spawn(|| {
                let first = cache.get(&1);
                let second = cache.get(&1);
                assert!(first >= second, "{second:?} is there again");
            });
        });
        assert_eq!(cache.get(&1), None);
    });
}

/// A source of a number that grows. A load may fail, or say that the old value still holds.
#[derive(Clone, Default)]
struct Growing(Arc<AtomicU32>);

impl Growing {
    fn now(&self) -> u32 {
        self.0.load(SeqCst)
    }

    /// The tag of a number is not known before it is loaded. Numbers that follow each other have
    /// different ones.
    fn load(&self, old: Option<u32>) -> Result<Loaded<u32>, ()> {
        let now = self.now();
        let loaded = match choice(6) {
            0 => return Err(()),
            _ if now == 0 => Loaded::absent(),
            1 if old == Some(now) => return Ok(Loaded::not_modified()),
            2 if old == Some(now) => Loaded::not_modified(),
            _ => Loaded::new(now),
        };
        yield_now();
        Ok(loaded.tags([now % 2, 9]))
    }
}

/// The number, as a caller of either kind gets it; 0 where there is none.
fn number_of(found: Result<Option<u32>, LoadError<()>>) -> u32 {
    // An error is no older than anything.
    found.map_or(u32::MAX, Option::unwrap_or_default)
}

#[test]
fn nobody_gets_what_was_loaded_before_its_tag_was_invalidated() {
    check("loads that bring tags", || {
        let time = MockClock::new();
        let builder = numbers().clock(time.clock()).max_entries(match choice(2) {
            0 => 1,
            _ => OF_FOUR_SETS,
        });
        let freshness = Freshness::new().refresh_after(seconds(1));
        let freshness = freshness.stale_if_error(seconds(9));
        let builder = builder.negative_ttl(seconds(9)).time_to_live(seconds(2));
        let behind = Arc::new(Mutex::new(Vec::new()));
        let tasks = Arc::clone(&behind);
        let builder = builder.spawner(move |load| {
            // One that is dropped is led by others.
            if choice(4) > 0 {
                let task = shuttle::thread::spawn(|| block_on(load));
                known(&tasks).push(task);
            }
        });
        let cache = built(builder.freshness(freshness));
        let source = Growing::default();
        let (for_threads, for_tasks) = (source.clone(), source.clone());
        let threads_read =
            cache.read_through_revalidating(move |_, old| for_threads.load(old.copied()));
        let tasks_read = cache.read_through_async_revalidating(move |_, old| {
            let source = for_tasks.clone();
            async move {
                let loaded = source.load(old);
                a_turn().await;
                loaded
            }
        });
        let known_number = AtomicU32::new(0);
        let look = |get: &dyn Fn() -> u32| {
            let oldest = known_number.load(SeqCst);
            let found = get();
            assert!(found >= oldest, "{found} is older than {oldest}");
        };
        let ask = || {
            look(&|| match choice(6) {
                0 => cache.get(&1).unwrap_or(u32::MAX),
                1 => number_of(threads_read.refresh(&1)),
                2 => number_of(block_on(tasks_read.refresh(&1))),
                3 => number_of(block_on(tasks_read.get(&1))),
                _ => number_of(threads_read.get(&1)),
            });
        };
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| (0..2).for_each(|_| ask()));
            }
            threads.spawn(|| {
                for _ in 0..2 {
                    let old = source.now() % 2;
                    let commit = || ignore(source.0.fetch_add(1, SeqCst));
                    match choice(3) {
                        0 => cache.fence_tags([old]).around(|| {
                            yield_now();
                            commit();
                        }),
                        1 => {
                            commit();
                            cache.invalidate_tag(&9);
                        }
                        _ => {
                            commit();
                            cache.invalidate_tag(&old);
                        }
                    }
                    known_number.store(source.now(), SeqCst);
                }
            });
            threads.spawn(|| {
                for _ in 0..2 {
                    match choice(5) {
                        // Values become due, and stale.
                        0 | 1 => time.advance(seconds(1)),
                        2 => ignore(cache.sweep()),
                        3 => cache.invalidate_tag(&8),
                        // Evicts in the small cache.
                        _ => ignore(cache.insert(2, 0)),
                    }
                }
            });
        });
        ask();
        for task in mem::take(&mut *known(&behind)) {
            assert!(task.join().is_ok());
        }
        assert_eq!(cache.loads_under_way(), 0);
        cache.validate();
    });
}

#[test]
fn no_load_brings_back_what_an_invalidated_group_had() {
    check("groups beside loads", || {
        let cache = built(numbers().group_by(|key: &u32| if *key == 3 { &3 } else { &0 }));
        let truth = AtomicU32::new(1);
        let load = || {
            let read = truth.load(SeqCst);
            yield_now();
            read
        };
        if choice(2) == 0 {
            cache.insert(1, 1);
        }
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| assert!((1..=2).contains(&cache.get_or_insert_with(&1, load))));
            }
            threads.spawn(|| {
                truth.store(2, SeqCst);
                cache.invalidate_group(&0);
                let found = cache.get(&1);
                assert!(matches!(found, None | Some(2)), "{found:?} is of before");
                assert_eq!(cache.get_or_insert_with(&1, load), 2);
            });
            threads.spawn(|| match choice(4) {
                0 => ignore(cache.sweep()),
                1 => fill(&cache, CROWDED),
                2 => cache.invalidate_group(&0),
                _ => {
                    cache.get_or_insert_with(&3, || 3);
                    cache.sweep();
                    assert_eq!(cache.get(&3), Some(3), "of another group");
                }
            });
        });
        let found = cache.get(&1);
        assert!(matches!(found, None | Some(2)), "{found:?} is of before");
        cache.validate();
    });
}

// ---- the end of a cache ----

/// A value that is counted while it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, SeqCst);
        Self(Arc::clone(living))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn nothing_outlives_the_last_handle() {
    check("the last handle", || {
        let (time, living) = (MockClock::new(), Arc::new(AtomicUsize::new(0)));
        let builder = Cache::builder()
            .hasher(Fixed::default())
            .clock(time.clock());
        let cache = built(builder.max_entries(if choice(2) == 0 { 2 } else { OF_FOUR_SETS }));
        let events = cache.events(64);
        for key in 0..4 {
            cache.insert_with_ttl(key, Counted::new(&living), seconds(1 + u64::from(key)));
        }
        let (other, living_there) = (cache.clone(), Arc::clone(&living));
        scope(|threads| {
            threads.spawn(|| time.advance(seconds(2)));
            threads.spawn(move || {
                let third = other.clone();
                drop(other);
                third.insert(9, Counted::new(&living_there));
            });
            threads.spawn(move || drop(cache));
        });
        assert_eq!(living.load(SeqCst), 0, "every value was dropped, and once");
        while events.try_recv().is_ok() {}
        assert_eq!(events.try_recv(), Err(NoEvent::Closed));
        time.advance(seconds(10));
    });
}

// ---- events ----

#[test]
fn every_event_is_delivered_though_those_who_wait_give_up() {
    check("a backlog", || {
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let builder = numbers().removal_listener(move |_, _, _| {
            counted.fetch_add(1, SeqCst);
            yield_now();
        });
        let cache = built(builder);
        scope(|threads| {
            for _ in 0..3 {
                let cache = &cache;
                threads.spawn(move || {
                    for value in 0..3 {
                        cache.insert(1, value);
                    }
                    cache.remove(&1);
                });
            }
        });
        assert_eq!(told.load(SeqCst) + cache.len(), 9);
    });
}

/// What a subscription says of each key makes sense, and ends with what is there.
fn assert_told_in_order(events: &Events<u32>, cache: &Numbers) {
    let mut there = BTreeSet::new();
    for event in events.try_iter() {
        let fits = match event.kind {
            EventKind::Inserted => there.insert(event.key),
            EventKind::Updated => there.contains(&event.key),
            EventKind::Removed(_) => there.remove(&event.key),
            other => panic!("{other:?} is not known here"),
        };
        assert!(fits, "{event:?} does not follow what came before it");
    }
    assert_eq!(events.lost(), 0);
    let resident: BTreeSet<u32> = cache.keys().collect();
    assert_eq!(there, resident, "the events lead to what is there");
}

/// A call of any kind that changes something.
fn change(cache: &Numbers, key: u32) {
    match choice(8) {
        0 | 1 => ignore(cache.insert(key, 1)),
        2 => ignore(cache.remove(&key)),
        3 => ignore(cache.update(&key, |value| *value += 1)),
        4 => ignore(cache.compute(&key, |old| {
            if old.is_some() {
                Op::Remove
            } else {
                Op::Put(1)
            }
        })),
        5 => write_both(cache, [key, 3 - key], 1),
        6 => ignore(cache.insert_with_ttl(key, 1, seconds(u64::from(choice(2))))),
        _ => ignore(cache.get_or_insert_with(&key, || 1)),
    }
}

#[test]
fn events_of_a_key_come_in_the_order_in_which_things_happened() {
    check("events", || {
        let time = MockClock::new();
        let bound = u64::from(1 + choice(3));
        let cache = built(expiring(&time).max_weight(bound));
        let events = cache.events(256);
        scope(|threads| {
            for _ in 0..2 {
                let cache = &cache;
                threads.spawn(move || (0..3).for_each(|_| change(cache, 1 + choice(2))));
            }
            threads.spawn(|| {
                time.advance(seconds(1));
                cache.sweep();
            });
        });
        cache.sweep();
        assert_told_in_order(&events, &cache);
        cache.validate();
    });
}

#[test]
fn a_subscription_during_writes_misses_only_what_was_before_it() {
    check("a new subscription", || {
        let cache = built(numbers().max_entries(10));
        let events = Mutex::new(None);
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| {
                let subscription = cache.events(64);
                cache.insert(9, 9);
                *known(&events) = Some(subscription);
            });
        });
        let events = known(&events).take().expect("the thread has ended");
        let told: Vec<u32> = events.try_iter().map(|event| event.key).collect();
        assert_eq!(told.iter().filter(|key| **key == 9).count(), 1);
        let others: Vec<u32> = told.into_iter().filter(|key| *key != 9).collect();
        let all = [0, 1, 2];
        assert!(others.iter().is_sorted(), "{others:?}");
        let distinct: BTreeSet<u32> = others.iter().copied().collect();
        assert_eq!(distinct.len(), others.len());
        assert!(distinct.iter().all(|key| all.contains(key)));
    });
}
