//! Counters by key.

use crate::common::{HOUR, INSIDE, OneHash, SECOND, cases, panic_of};
use haybox::counter::{Counters, CountersBuilder};
use haybox::{Cache, MockClock};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

fn timed<K>(set: impl FnOnce(CountersBuilder<K>) -> CountersBuilder<K>) -> (Counters<K>, MockClock)
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
{
    let time = MockClock::new();
    let counters = set(Counters::builder().clock(time.clock())).build();
    (counters.unwrap(), time)
}

/// Runs on a thread of its own, which counts in a stripe of its own.
fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|threads| threads.spawn(f).join().unwrap())
}

#[test]
fn times_of_nothing_are_refused() {
    let zero = Duration::ZERO;
    let builder = Counters::<u32>::builder;
    for (wrong, setting) in [
        (builder().time_to_live(zero), "time_to_live"),
        (builder().window(zero), "window"),
        (builder().sweep_interval(zero), "sweep_interval"),
    ] {
        assert_eq!(wrong.build().unwrap_err().setting(), setting);
    }
    let longest = builder().time_to_live(Duration::MAX).window(Duration::MAX);
    let counters = longest.build().unwrap();
    counters.incr(&1);
    assert_eq!(
        (counters.get(&1), counters.recent(&1, Duration::MAX)),
        (1, 1)
    );
}

#[test]
fn counts_of_all_threads_are_one() {
    let counters = Counters::<String>::new();
    counters.add("bread", 5);
    elsewhere(|| counters.decr("bread"));
    elsewhere(|| counters.add("soup", -3));
    assert_eq!(
        (
            counters.get("bread"),
            counters.get("soup"),
            counters.get("x")
        ),
        (4, -3, 0)
    );
    assert_eq!(counters.take("bread"), 4);
    assert_eq!((counters.get("bread"), counters.take("bread")), (0, 0));
    counters.incr("bread");
    let mut all = counters.take_all();
    all.sort();
    assert_eq!(all, [("bread".to_owned(), 1), ("soup".to_owned(), -3)]);
    assert!(counters.top(3).is_empty());
}

#[test]
fn counts_wrap_around() {
    let counters = Counters::new();
    counters.add(&1, i64::MAX);
    elsewhere(|| counters.incr(&1));
    assert_eq!(counters.get(&1), i64::MIN);
    counters.decr(&1);
    assert_eq!(counters.take(&1), i64::MAX);
}

#[test]
fn the_first_of_all_are_exact() {
    let counters = Counters::new();
    for key in 0..500u32 {
        counters.add(&key, i64::from(key % 250));
        elsewhere(|| counters.add(&key, i64::from(key)));
    }
    let mut expected: Vec<_> = (0..500)
        .map(|key| (key, i64::from(key + key % 250)))
        .collect();
    expected.sort_by_key(|(_, count)| -count);
    let top = counters.top(20);
    let counts = |ranked: &[(u32, i64)]| ranked.iter().map(|(_, count)| *count).collect::<Vec<_>>();
    assert_eq!(counts(&top), counts(&expected[..20]));
    assert!(top.iter().all(|(key, count)| counters.get(key) == *count));
    assert_eq!(counters.top(0), []);
    assert_eq!(counters.top(usize::MAX).len(), 500);
}

#[test]
fn a_counter_starts_anew_when_its_time_is_up_in_all_threads_at_once() {
    let (counters, time) = timed(|builder| builder.time_to_live(SECOND * 10));
    counters.add(&1, 5);
    time.advance(SECOND * 6);
    elsewhere(|| counters.add(&1, 3));
    time.advance(SECOND * 4 - Duration::from_nanos(1));
    assert_eq!(counters.get(&1), 8);
    assert_eq!(counters.top(1), [(1, 8)]);
    time.advance(Duration::from_nanos(1));
    assert_eq!((counters.get(&1), counters.take(&1)), (0, 0));
    assert!(counters.top(1).is_empty() && counters.take_all().is_empty());
    elsewhere(|| counters.incr(&1));
    assert_eq!(counters.get(&1), 1);
    time.set_system_time(time.clock().system_time() + HOUR);
    assert_eq!(counters.get(&1), 1, "a step of the wall clock is no time");
}

#[test]
fn nothing_is_recent_that_is_older_than_the_longest_window() {
    let (counters, time) = timed(|builder| builder.window(SECOND * 60));
    counters.incr(&1);
    time.advance(SECOND * 59);
    assert_eq!(counters.recent(&1, HOUR), 1);
    time.advance(SECOND);
    assert_eq!(
        counters.recent(&1, HOUR),
        0,
        "though nothing was counted since"
    );
}

#[test]
fn what_is_over_is_released_without_any_call() {
    let (counters, time) = timed(|builder| builder.time_to_live(SECOND).sweep_interval(SECOND));
    let key = Arc::new(());
    counters.incr(&key);
    elsewhere(|| counters.incr(&key));
    assert!(Arc::strong_count(&key) > 2);
    time.advance(SECOND);
    assert_eq!(Arc::strong_count(&key), 1);
    counters.incr(&key);
    counters.take(&key);
    assert_eq!(Arc::strong_count(&key), 1);
    for _ in 0..1_000 {
        counters.incr(&key);
        assert_eq!(counters.take(&key), 1);
    }
    counters.incr(&key);
    assert_eq!(counters.sweep(), 0);
    drop(counters);
    assert_eq!(Arc::strong_count(&key), 1);
}

#[test]
fn a_sweep_takes_what_is_over_and_says_how_much() {
    let (counters, time) = timed(|builder| builder.time_to_live(SECOND).sweep_interval(HOUR));
    (0..100).for_each(|key| counters.incr(&key));
    assert_eq!(counters.take(&7), 1);
    time.advance(SECOND / 2);
    (0..150).for_each(|key| counters.incr(&key));
    time.advance(SECOND / 2);
    assert_eq!(counters.sweep(), 99, "but for the one that began anew");
    assert_eq!(counters.sweep(), 0);
    time.advance(SECOND / 2);
    assert_eq!(counters.sweep(), 51);
}

#[test]
fn a_clock_of_tests_sweeps_once_in_an_interval() {
    let tenth = |builder: CountersBuilder<_>| builder.time_to_live(SECOND / 10);
    let (counters, time) = timed(|builder| tenth(builder).sweep_interval(SECOND));
    let key = Arc::new(());
    time.advance(SECOND);
    counters.incr(&key);
    time.advance(SECOND / 2);
    assert!(Arc::strong_count(&key) > 1, "it is swept every second");
    time.advance(SECOND / 2);
    assert_eq!(Arc::strong_count(&key), 1);
}

#[test]
fn all_that_is_over_is_gone_after_one_interval() {
    let (counters, time) = timed(|builder| builder.time_to_live(SECOND).sweep_interval(SECOND));
    (0..10_000).for_each(|key| counters.incr(&key));
    time.advance(SECOND);
    assert_eq!(counters.sweep(), 0);
}

/// Some have the same few bits of the hash by which a table tells them apart at first.
#[test]
fn many_keys_are_not_taken_for_each_other() {
    let time_to_live = |builder: CountersBuilder<i64>| builder.time_to_live(HOUR);
    for (counters, _time) in [timed(|builder| builder), timed(time_to_live)] {
        (0..2_000).for_each(|key| counters.add(&key, key));
        elsewhere(|| (0..2_000).for_each(|key| counters.add(&key, 1)));
        (0..2_000).for_each(|key| assert_eq!(counters.get(&key), key + 1));
        (0..1_000).for_each(|key| assert_eq!(counters.take(&key), key + 1));
        let expected: Vec<_> = (1_000..2_000).map(|key| (key, key + 1)).collect();
        let mut top = counters.top(usize::MAX);
        top.reverse();
        assert_eq!(top, expected);
        let mut all = counters.take_all();
        all.sort_unstable();
        assert_eq!(all, expected);
    }
}

#[test]
fn no_count_is_lost_or_taken_twice() {
    for time_to_live in [None, Some(HOUR)] {
        let (counters, _time) = timed(|builder| match time_to_live {
            None => builder,
            Some(time) => builder.time_to_live(time).window(HOUR),
        });
        let (taken, is_over) = (AtomicI64::new(0), AtomicBool::new(false));
        let take = |all: bool| {
            let sum = if all {
                counters.take_all().iter().map(|(_, count)| count).sum()
            } else {
                counters.take(&0) + counters.take(&1)
            };
            taken.fetch_add(sum, SeqCst);
        };
        thread::scope(|threads| {
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    threads.spawn(|| {
                        for number in 0..20_000u32 {
                            counters.incr(&(number % 2));
                        }
                    })
                })
                .collect();
            for all in [false, false, true] {
                let (is_over, take) = (&is_over, &take);
                threads.spawn(move || {
                    while !is_over.load(SeqCst) {
                        take(all);
                        thread::yield_now();
                    }
                });
            }
            for writer in writers {
                writer.join().unwrap();
            }
            is_over.store(true, SeqCst);
        });
        take(true);
        assert_eq!(taken.load(SeqCst), 80_000);
        assert!(counters.top(1).is_empty());
    }
}

#[test]
fn calls_from_inside_are_refused() {
    struct Counts(u32, Counters<u32>);
    impl PartialEq for Counts {
        fn eq(&self, other: &Self) -> bool {
            self.1.incr(&1);
            self.0 == other.0
        }
    }
    impl Eq for Counts {}
    impl std::hash::Hash for Counts {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u32(self.0);
        }
    }
    impl Clone for Counts {
        fn clone(&self) -> Self {
            Self(self.0, self.1.clone())
        }
    }
    let inner = Counters::new();
    let counters = Counters::new();
    let key = Counts(1, inner.clone());
    counters.incr(&key);
    assert!(panic_of(|| counters.incr(&key)).starts_with(INSIDE));
    assert_eq!(inner.get(&1), 0);
    let cache = Cache::new(1);
    cache.insert(1, 1);
    assert!(panic_of(|| cache.update(&1, |_| inner.incr(&1))).starts_with(INSIDE));
    assert_eq!(inner.get(&1), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Add(u8, i64, bool),
    Get(u8),
    Recent(u8, u64),
    Take(u8),
    TakeAll,
    Top(usize),
    Advance(u64),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..4u8;
    prop_oneof![
        6 => (key.clone(), -3..9i64, any::<bool>()).prop_map(|(key, by, here)| Op::Add(key, by, here)),
        3 => key.clone().prop_map(Op::Get),
        3 => (key.clone(), 0..80u64).prop_map(|(key, within)| Op::Recent(key, within)),
        1 => key.prop_map(Op::Take),
        1 => Just(Op::TakeAll),
        2 => (0..5usize).prop_map(Op::Top),
        4 => (1..40u64).prop_map(Op::Advance),
        1 => Just(Op::Sweep),
    ]
}

/// What was counted of a key, and when, in seconds.
#[derive(Default)]
struct Modelled {
    began: u64,
    counts: Vec<(u64, i64)>,
}

/// Both in seconds. The window is 60 steps of one.
const LIFE: u64 = 90;
const WINDOW: u64 = 60;

fn count(modelled: &Modelled) -> i64 {
    modelled.counts.iter().map(|(_, by)| by).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60, 3_000)))]

    #[test]
    fn any_calls_do_what_the_model_does(
        ops in prop::collection::vec(op(), 1..50),
        expires in any::<bool>(),
    ) {
        let (counters, time) = timed(|builder| {
            let builder = builder.window(SECOND * WINDOW as u32).sweep_interval(HOUR);
            if expires { builder.time_to_live(SECOND * LIFE as u32) } else { builder }
        });
        let (mut model, mut now) = (BTreeMap::<u8, Modelled>::new(), 0);
        for op in ops {
            if expires {
                model.retain(|_, modelled| now < modelled.began + LIFE);
            }
            match op {
                Op::Add(key, by, true) => counters.add(&key, by),
                Op::Add(key, by, false) => elsewhere(|| counters.add(&key, by)),
                Op::Get(key) => {
                    assert_eq!(counters.get(&key), model.get(&key).map_or(0, count));
                }
                Op::Recent(key, within) => {
                    // The mock clock starts on a whole second, and so does every step.
                    let first = (now + 1).saturating_sub(within.min(WINDOW));
                    let expected: i64 = model.get(&key).map_or(0, |modelled| {
                        let within = modelled.counts.iter().filter(|(at, _)| *at >= first);
                        within.map(|(_, by)| by).sum()
                    });
                    let expected = if within == 0 { 0 } else { expected };
                    let within = SECOND * within as u32;
                    assert_eq!(counters.recent(&key, within), expected);
                    // As many whole steps as cover it, and the one that has just begun.
                    let seconds = within.as_secs().min(WINDOW - 1);
                    let covered: i64 = model.get(&key).map_or(0, |modelled| {
                        let counts = modelled.counts.iter();
                        let within = counts.filter(|(at, _)| at + seconds >= now);
                        within.map(|(_, by)| by).sum()
                    });
                    let rate = if seconds == 0 { 0.0 } else { covered as f64 / seconds as f64 };
                    assert_eq!(counters.rate(&key, within), rate);
                }
                Op::Take(key) => {
                    let expected = model.remove(&key).as_ref().map_or(0, count);
                    assert_eq!(counters.take(&key), expected);
                }
                Op::TakeAll => {
                    let mut all = counters.take_all();
                    all.sort();
                    let expected = model.iter().map(|(key, modelled)| (*key, count(modelled)));
                    assert!(all.into_iter().eq(expected));
                    model.clear();
                }
                Op::Top(n) => {
                    let mut expected: Vec<_> = model.values().map(count).collect();
                    expected.sort_by_key(|count| -count);
                    expected.truncate(n);
                    let top = counters.top(n);
                    assert!(top.iter().map(|(_, count)| *count).eq(expected));
                    assert!(top.iter().all(|(key, count)| counters.get(key) == *count));
                }
                Op::Advance(seconds) => {
                    now += seconds;
                    time.advance(SECOND * seconds as u32);
                }
                Op::Sweep => _ = counters.sweep(),
            }
            counters.validate();
            if let Op::Add(key, by, _) = op {
                let began = Modelled { began: now, counts: Vec::new() };
                model.entry(key).or_insert(began).counts.push((now, by));
            }
        }
    }
}

#[test]
fn a_rate_is_of_the_time_in_which_was_counted_whatever_it_is_asked_for() {
    let (counters, time) = timed(|builder| builder.window(SECOND * 60));
    let tenth = Duration::from_millis(100);
    for _ in 0..600 {
        counters.incr(&1);
        time.advance(tenth);
    }
    let withins = [1, 10, 999, 1_000, 1_001, 7_500, 59_000, 60_000, 90_000];
    let withins = withins.map(Duration::from_millis);
    for within in withins {
        assert_eq!(counters.rate(&1, within), 10.0, "{within:?}");
    }
    // In the middle of a step it is of a part of one, too.
    for _ in 0..5 {
        counters.incr(&1);
        time.advance(tenth);
    }
    for within in withins {
        let rate = counters.rate(&1, within);
        assert!((rate - 10.0).abs() < 1e-9, "{within:?}: {rate}");
    }
    counters.add(&2, 5);
    time.advance(tenth / 100);
    assert!(counters.rate(&2, tenth) < 10.0, "5 in half a second");
    assert_eq!(counters.rate(&2, Duration::ZERO), 0.0);
}

thread_local! {
    /// How often keys are compared, copied and dropped before one panics.
    static CALMS: [Cell<Option<u32>>; 3] = const { [const { Cell::new(None) }; 3] };
}

const EQ: usize = 0;
const CLONE: usize = 1;
const DROP: usize = 2;

/// A key that may panic wherever code of its own runs.
#[derive(Debug)]
#[cfg_attr(feature = "persist", derive(serde::Serialize, serde::Deserialize))]
struct Moody(u32);

fn calm(which: usize) {
    let fails = CALMS.with(|calms| {
        let left = calms[which].get();
        calms[which].set(left.and_then(|left| left.checked_sub(1)));
        left == Some(0)
    });
    assert!(!fails, "not now");
}

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        calm(EQ);
        self.0 == other.0
    }
}

impl Eq for Moody {}

impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Clone for Moody {
    fn clone(&self) -> Self {
        calm(CLONE);
        Self(self.0)
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        if !thread::panicking() {
            calm(DROP);
        }
    }
}

const KEYS: u32 = 50;

/// Takes all counts, and then one, with a key that panics once it has stayed calm so often; whether
/// one has.
#[track_caller]
fn check_that_no_count_is_lost(counters: &Counters<Moody>, which: usize, calms: u32) -> bool {
    let count = || (0..KEYS).for_each(|key| counters.incr(&Moody(key)));
    count();
    elsewhere(count);
    CALMS.with(|all| all[which].set(Some(calms)));
    let take_all = AssertUnwindSafe(|| {
        let all = counters.take_all().into_iter();
        let all = all.map(|(key, count)| (mem::forget(key), count).1);
        all.sum::<i64>()
    });
    let all = catch_unwind(take_all);
    CALMS.with(|all| all[which].set(None));
    count();
    elsewhere(count);
    let left = || (0..KEYS).map(|key| counters.get(&Moody(key))).sum::<i64>();
    let counted = i64::from(4 * KEYS);
    let panicked = all.is_err();
    assert_eq!(all.unwrap_or(0) + left(), counted);
    let (key, before) = (ManuallyDrop::new(Moody(7)), left());
    CALMS.with(|all| all[which].set(Some(calms % 7)));
    let taken = catch_unwind(AssertUnwindSafe(|| counters.take(&*key)));
    CALMS.with(|all| all[which].set(None));
    let panicked = panicked || taken.is_err();
    assert_eq!(taken.unwrap_or(0) + left(), before);
    let taken: i64 = (0..KEYS).map(|key| counters.take(&Moody(key))).sum();
    assert!(left() == 0 && (0..=before).contains(&taken));
    assert!(counters.take_all().is_empty());
    panicked
}

#[test]
fn no_count_is_lost_to_a_key_that_panics_while_it_is_taken() {
    let kinds: [fn(CountersBuilder<Moody>) -> CountersBuilder<Moody>; 3] = [
        |builder| builder,
        |builder| builder.window(HOUR),
        |builder| builder.time_to_live(HOUR),
    ];
    for kind in kinds {
        for which in [EQ, DROP] {
            for calms in 0..2 * KEYS {
                check_that_no_count_is_lost(&timed(kind).0, which, calms);
            }
        }
    }
}

/// Those alone copy a key that is taken, to know which counts are to be written down anew.
#[cfg(feature = "persist")]
#[test]
fn no_count_that_is_kept_is_lost_to_a_key_that_panics_while_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Counters::builder().flush_interval(1_000 * HOUR);
    let counters = builder.open(dir.path()).unwrap();
    for which in [EQ, CLONE, DROP] {
        let panics =
            (0..2 * KEYS).filter(|calms| check_that_no_count_is_lost(&counters, which, *calms));
        let panics = panics.count();
        assert!(which != CLONE || panics > 0, "no key was copied");
    }
}

#[test]
fn keys_with_one_hash_are_counted_apart() {
    let counters = Counters::<u32>::builder().hasher(OneHash).build().unwrap();
    let other = counters.clone();
    (0..100).for_each(|key| counters.add(&key, i64::from(key)));
    elsewhere(|| (0..100).for_each(|key| other.incr(&key)));
    assert!((0..100).all(|key| counters.get(&key) == i64::from(key) + 1));
    assert_eq!(counters.top(2), [(99, 100), (98, 99)]);
    assert_eq!(
        (counters.take(&7), counters.get(&7), counters.get(&8)),
        (8, 0, 9)
    );
}
