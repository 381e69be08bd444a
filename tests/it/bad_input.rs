//! Settings that no cache can have, values that do not fit, and code of the user's that misbehaves.

use crate::common::{HOUR, INSIDE, PATIENCE, SECOND, panic_of, place_of_panic, sentence, timed};
use haybox::limit::{Limiter, Quota};
use haybox::lock::Locks;
use haybox::queue::Queue;
use haybox::{
    Cache, CacheBuilder, ExpireIf, Expiry, Freshness, Insert, InsertOptions, LoadError, OnFull, Op,
    Outcome, RemovalCause,
};
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

// ---- settings ----

type Builder = CacheBuilder<u64, u64>;

#[test]
fn a_bound_on_bytes_needs_to_be_told_of_the_heap() {
    fn problem<K, V, S>(builder: CacheBuilder<K, V, S>) -> Option<String>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Send + Sync + 'static,
        S: BuildHasher + Clone + Send + Sync + 'static,
    {
        builder
            .max_memory(1 << 20)
            .build()
            .err()
            .map(|error| error.to_string())
    }
    let told = [
        problem(Cache::<u64, String>::builder()),
        problem(Cache::<Vec<u8>, u64>::builder()),
        problem(Cache::<u64, Option<Box<u8>>>::builder()),
    ];
    for sentence in told {
        let sentence = sentence.expect("nobody knows what is on the heap");
        assert!(
            sentence.starts_with("Cache: max_memory: needs a weigher"),
            "{sentence}"
        );
    }
    assert_eq!(problem(Cache::<u64, [u8; 100]>::builder()), None);
    assert_eq!(problem(Cache::<&str, f64>::builder()), None);
    let weighed = Cache::<u64, String>::builder().weigher(|_, text| text.capacity() as u64);
    assert_eq!(problem(weighed), None);
}

#[test]
fn every_impossible_setting_is_an_error_that_names_it_and_its_range() {
    let cases: [(&str, &str, fn(Builder) -> Builder); 17] = [
        ("max_entries", "at least 1: leave it out", |builder| {
            builder.max_entries(0)
        }),
        ("max_weight", "at least 1: leave it out", |builder| {
            builder.max_weight(0)
        }),
        ("max_memory", "one entry", |builder| builder.max_memory(0)),
        ("max_memory", "one entry", |builder| builder.max_memory(10)),
        ("weigher", "max_weight or max_memory", |builder| {
            builder.weigher(|_, _| 1)
        }),
        ("time_to_live", "more than zero: leave it out", |builder| {
            builder.time_to_live(Duration::ZERO)
        }),
        ("time_to_idle", "more than zero: leave it out", |builder| {
            builder.time_to_idle(Duration::ZERO)
        }),
        ("ttl_jitter", "needs a time_to_live", |builder| {
            builder.ttl_jitter(0.1)
        }),
        ("negative_ttl", "more than zero: leave it out", |builder| {
            builder.negative_ttl(Duration::ZERO)
        }),
        ("error_ttl", "more than zero: leave it out", |builder| {
            builder.error_ttl(Duration::ZERO)
        }),
        ("ttl_jitter", "0.0 to 1.0", |builder| {
            builder.ttl_jitter(-0.1)
        }),
        ("ttl_jitter", "0.0 to 1.0", |builder| {
            builder.ttl_jitter(1.1)
        }),
        ("ttl_jitter", "0.0 to 1.0", |builder| {
            builder.ttl_jitter(f64::NAN)
        }),
        ("ttl_jitter", "0.0 to 1.0", |builder| {
            builder.ttl_jitter(f64::INFINITY)
        }),
        ("sweep_interval", "more than zero", |builder| {
            builder.sweep_interval(Duration::ZERO)
        }),
        ("lock_timeout", "more than zero", |builder| {
            builder.lock_timeout(Duration::ZERO)
        }),
        ("max_entries", "at least 1", |builder| {
            builder.max_entries(0).max_weight(5).time_to_live(SECOND)
        }),
    ];
    for (setting, range, set) in cases {
        let error = set(Cache::builder()).build().unwrap_err();
        assert_eq!(error.setting(), setting);
        let message = error.to_string();
        assert!(
            message.contains(setting) && message.contains(range),
            "{message}"
        );
    }
}

#[test]
fn a_bound_on_bytes_that_is_too_small_is_told_the_least_that_is_not() {
    let cases: [fn(Builder) -> Builder; 5] = [
        |builder| builder,
        |builder| builder.weigher(|_, _| 0),
        |builder| builder.time_to_idle(SECOND),
        |builder| builder.freshness(Freshness::new().stale_if_error(SECOND)),
        |builder| builder.group_by(|key: &u64| key),
    ];
    for set in cases {
        let build = |bytes| set(Cache::builder()).max_memory(bytes).build();
        let error = build(1).unwrap_err();
        let sentence = error.to_string();
        let bytes = sentence.strip_prefix("Cache: max_memory: must be at least ");
        let bytes = bytes.and_then(|rest| rest.split_once(" bytes: "));
        let least: u64 = bytes.expect(&sentence).0.parse().unwrap();
        assert_eq!(build(least - 1).unwrap_err(), error);
        let cache = build(least).unwrap();
        assert_eq!(cache.set_max_memory(least - 1).unwrap_err(), error);
        cache.set_max_memory(least).unwrap();
        assert!(cache.insert_with(1, 1, InsertOptions::new()).is_stored());
        assert_eq!((cache.get(&1), cache.memory()), (Some(1), least));
        cache.validate();
    }
}

#[test]
fn the_ends_of_each_range_are_possible() {
    let possible: [fn(Builder) -> Builder; 8] = [
        |builder| builder.max_entries(1),
        |builder| builder.max_entries(usize::MAX - 1),
        |builder| builder.max_entries(usize::MAX),
        |builder| builder.max_weight(1),
        |builder| builder.max_weight(u64::MAX),
        |builder| builder.max_memory(u64::MAX),
        |builder| builder.time_to_live(Duration::from_nanos(1)),
        |builder| builder.time_to_live(SECOND).ttl_jitter(1.0),
    ];
    for set in possible {
        let (cache, _time) = timed(set);
        cache.insert(1, 1);
        assert!(cache.len() <= 1);
        cache.validate();
    }
}

#[test]
fn the_greatest_bound_is_one_wherever_it_is_set() {
    let built = Cache::<u64, u64>::new(usize::MAX);
    let set = Cache::<u64, u64>::new(1);
    set.set_max_entries(usize::MAX).unwrap();
    for cache in [built, set] {
        assert_eq!(cache.max_entries(), Some(usize::MAX - 1));
        (0..10_000).for_each(|key| drop(cache.insert(key, key)));
        assert_eq!(cache.len(), 10_000);
        cache.set_max_entries(10).unwrap();
        assert_eq!(cache.len(), 10);
        cache.validate();
    }
}

#[test]
fn times_longer_than_the_clock_can_count_to_have_no_end() {
    let never = Duration::MAX;
    let for_ever: [fn(Builder, Duration) -> Builder; 9] = [
        |builder, never| builder.time_to_live(never),
        |builder, never| builder.time_to_live(never).ttl_jitter(1.0),
        |builder, never| builder.time_to_idle(never),
        |builder, never| builder.time_to_idle(never).time_to_live(never),
        |builder, never| builder.sweep_interval(never),
        |builder, never| builder.lock_timeout(never),
        |builder, never| builder.negative_ttl(never).error_ttl(never),
        |builder, never| builder.freshness(Freshness::new().refresh_after(never).jitter(1.0)),
        |builder, never| {
            builder.freshness(Freshness::new().stale_if_error(never).soft_timeout(never))
        },
    ];
    for (number, set) in for_ever.into_iter().enumerate() {
        let (cache, time) = timed(|builder| set(builder, never));
        cache.insert(1, 1);
        assert_eq!(cache.get_or_find_with(&2, || None), None);
        time.advance(Duration::from_secs(3600 * 24 * 365 * 100));
        cache.sweep();
        let jittered = number == 1;
        assert!(jittered || cache.get(&1) == Some(1), "{number}");
        cache.validate();
    }
    assert_eq!(
        Locks::<u8>::new(never)
            .unwrap()
            .acquire(&1)
            .unwrap()
            .remaining(),
        never
    );
    let queue = Queue::<u8>::builder(1)
        .visibility_timeout(never)
        .build()
        .unwrap();
    queue.push(1).unwrap();
    assert_eq!(queue.try_pop().unwrap().remaining(), never);
    let limiter = Limiter::<u8>::builder(Quota::per_second(1)).sweep_interval(never);
    assert!(limiter.build().unwrap().check(&1).is_allowed());
}

#[test]
fn impossible_bounds_are_refused_and_change_nothing() {
    let cache: Cache<u64, u64> = Cache::new(5);
    cache.insert_many([(1, 1), (2, 2)]);
    for (error, setting) in [
        (cache.set_max_entries(0), "max_entries"),
        (cache.set_max_weight(0), "max_weight"),
        (cache.set_max_weight(10), "max_weight"),
        (cache.set_max_memory(0), "max_memory"),
        (cache.set_max_memory(1_000_000), "max_memory"),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.setting(), setting);
        assert_eq!(error.of(), "Cache");
        let names_it = error
            .to_string()
            .starts_with(&format!("Cache: {setting}: "));
        assert!(names_it, "{error}");
    }
    for bytes in [0, 10, 1_000_000] {
        let error = cache.set_max_memory(bytes).unwrap_err().to_string();
        assert!(error.contains("when the cache is built"), "{error}");
    }
    assert_eq!(
        (cache.max_entries(), cache.max_weight(), cache.max_memory()),
        (Some(5), None, None)
    );
    assert_eq!(cache.len(), 2);
    assert!(panic_of(|| Cache::<u64, u64>::new(0)).contains("max_entries"));
    assert!(panic_of(|| cache.events(0)).contains("room for one event"));
    cache.validate();
}

// ---- weights ----

#[test]
fn an_entry_of_no_weight_is_not_bounded_by_weight() {
    let cache = Cache::builder()
        .max_weight(1)
        .weigher(|_, _| 0)
        .build()
        .unwrap();
    cache.insert_many((0..1_000u64).map(|key| (key, key)));
    assert_eq!((cache.len(), cache.weight()), (1_000, 0));
    cache.validate();
}

#[test]
fn an_entry_heavier_than_the_bound_is_refused_and_costs_nobody_else_a_thing() {
    let (builder, log) = crate::common::logged(Cache::builder());
    let cache = builder
        .max_weight(100)
        .weigher(|_, weight: &u64| *weight)
        .build()
        .unwrap();
    cache.insert_many([(1u64, 40), (2, 40), (3, 20)]);
    for heavy in [101, u64::MAX] {
        assert_eq!(
            cache.insert_with(9, heavy, InsertOptions::new()),
            Insert::Refused(heavy)
        );
        assert_eq!(
            cache.compute(&9, |_| Op::Put(heavy)),
            Outcome::Refused(heavy)
        );
        assert_eq!(cache.insert(9, heavy), None);
        assert_eq!(
            cache.get_or_insert_with(&9, || heavy),
            heavy,
            "a loaded one is only not stored"
        );
    }
    assert_eq!(
        (cache.len(), cache.weight(), cache.stats().refusals),
        (3, 100, 8)
    );
    assert_eq!(crate::common::drain(&log), []);

    assert_eq!(
        cache.insert_with(1, 101, InsertOptions::new()),
        Insert::Refused(101)
    );
    assert_eq!(
        cache.get(&1),
        None,
        "a cache does not go on serving what was to be overwritten"
    );
    assert_eq!(cache.update(&2, |weight| *weight = 500), Some(()));
    assert_eq!(cache.get(&2), None);
    assert_eq!(
        (cache.len(), cache.weight(), cache.stats().refusals),
        (1, 20, 10)
    );
    let told = crate::common::drain(&log);
    assert_eq!(
        told,
        [
            (1, 40, RemovalCause::Capacity),
            (2, 500, RemovalCause::Capacity)
        ]
    );
    cache.validate();
}

#[test]
fn a_full_cache_that_rejects_keeps_what_it_has() {
    let cache = Cache::builder()
        .max_entries(3)
        .on_full(OnFull::Reject)
        .build()
        .unwrap();
    assert_eq!(cache.insert_many((0..10u64).map(|key| (key, key))), 3);
    assert_eq!(
        (cache.len(), cache.stats().refusals, cache.stats().evictions),
        (3, 7, 0)
    );
    assert_eq!(
        cache.insert(1, 11),
        Some(1),
        "what is there can be overwritten"
    );
    assert_eq!(cache.get_or_insert_with(&50, || 5), 5);
    assert!(!cache.contains_key(&50));
    cache.remove(&0);
    assert_eq!(
        cache.insert_with(50, 5, InsertOptions::new()),
        Insert::Inserted
    );
    cache.validate();
}

// ---- keys and values that panic ----

static FAILS_HASH: AtomicBool = AtomicBool::new(false);

/// A key that fails on request: to be equal, to be hashed, to be cloned.
#[derive(Debug)]
struct Fickle {
    number: u32,
    fails: Fails,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fails {
    Never,
    Eq,
    Hash,
    Clone,
}

impl Fickle {
    fn new(number: u32, fails: Fails) -> Self {
        Self { number, fails }
    }
}

impl PartialEq for Fickle {
    fn eq(&self, other: &Self) -> bool {
        assert!(
            self.fails != Fails::Eq && other.fails != Fails::Eq,
            "Eq fails"
        );
        self.number == other.number
    }
}
impl Eq for Fickle {}

impl Hash for Fickle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.fails != Fails::Hash, "Hash fails");
        self.number.hash(state);
    }
}

impl Clone for Fickle {
    fn clone(&self) -> Self {
        assert!(self.fails != Fails::Clone, "Clone fails");
        Self::new(self.number, self.fails)
    }
}

#[test]
fn a_key_or_value_that_panics_changes_nothing() {
    let cache: Cache<Fickle, Fickle> = Cache::new(100);
    let good = |number| Fickle::new(number, Fails::Never);
    (0..50).for_each(|number| drop(cache.insert(good(number), good(number))));
    for number in 0..50 {
        let bad = |fails| Fickle::new(number, fails);
        for fails in [Fails::Eq, Fails::Hash] {
            let words = format!("{fails:?} fails");
            assert_eq!(panic_of(|| cache.get(&bad(fails))), words);
            assert_eq!(panic_of(|| cache.insert(bad(fails), good(1))), words);
            assert_eq!(panic_of(|| cache.remove(&bad(fails))), words);
            assert_eq!(panic_of(|| cache.update(&bad(fails), |_| ())), words);
            assert_eq!(panic_of(|| cache.compute(&bad(fails), |_| Op::Keep)), words);
            assert_eq!(panic_of(|| cache.expire(&bad(fails), SECOND)), words);
            assert_eq!(
                panic_of(|| cache.get_or_insert_with(&bad(fails), || good(1))),
                words
            );
            let tx = || {
                cache.transaction(&[bad(fails)], |tx| {
                    tx.insert(&good(number), good(1)).map_err(drop)
                })
            };
            assert_eq!(panic_of(tx), words);
        }
        let bad = bad(Fails::Clone);
        assert_eq!(
            panic_of(|| cache.transaction(std::slice::from_ref(&bad), |_| Ok::<_, ()>(()))),
            "Clone fails"
        );
    }
    cache.insert(good(7), Fickle::new(7, Fails::Clone));
    let words = "Clone fails";
    assert_eq!(panic_of(|| cache.get(&good(7))), words);
    assert_eq!(panic_of(|| cache.peek(&good(7))), words);
    assert_eq!(panic_of(|| cache.iter().count()), words);
    assert_eq!(panic_of(|| cache.values().count()), words);
    assert_eq!(panic_of(|| cache.scan(0, 1_000)), words);
    assert_eq!(cache.keys().count(), 50);
    cache.remove(&good(7));
    assert_eq!((cache.len(), cache.iter().count()), (49, 49));
    cache.validate();
}

/// Hashes well until it is told to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FailsLater(u32);

impl Hash for FailsLater {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.0 >= 1_000 || !FAILS_HASH.load(SeqCst), "Hash fails");
        self.0.hash(state);
    }
}

#[test]
fn a_key_that_cannot_be_hashed_any_more_does_not_break_the_growth_of_the_table() {
    let cache: Cache<FailsLater, u32> = Cache::unbounded();
    (0..40).for_each(|key| drop(cache.insert(FailsLater(key), key)));
    FAILS_HASH.store(true, SeqCst);
    let grown = (1_000..1_100).filter(|key| {
        catch_unwind(AssertUnwindSafe(|| cache.insert(FailsLater(*key), *key))).is_err()
    });
    assert!(
        grown.count() > 0,
        "the table has to grow for this test to mean anything"
    );
    assert!(catch_unwind(AssertUnwindSafe(|| cache.scan(0, 1_000))).is_err());
    FAILS_HASH.store(false, SeqCst);
    cache.validate();
    assert_eq!(cache.len(), 140);
    (0..40)
        .chain(1_000..1_100)
        .for_each(|key| assert_eq!(cache.get(&FailsLater(key)), Some(key)));
    (2_000..3_000).for_each(|key| drop(cache.insert(FailsLater(key), key)));
    cache.validate();
}

#[test]
fn a_panic_of_a_clone_for_a_listener_loses_that_notice_and_nothing_else() {
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let listener = move |_: Fickle, _: Fickle, _| drop(count.fetch_add(1, SeqCst));
    let cache = Cache::builder()
        .max_entries(10)
        .removal_listener(listener)
        .build()
        .unwrap();
    let good = |number| Fickle::new(number, Fails::Never);
    let bad = || drop(cache.insert(good(1), Fickle::new(1, Fails::Clone)));
    let calls: [&dyn Fn(); 4] = [
        &|| assert!(cache.remove(&good(1)).is_some()),
        &|| assert!(cache.insert(good(1), good(2)).is_some()),
        &|| drop(cache.compute(&good(1), |_| Op::Put(good(2)))),
        &|| {
            let put =
                cache.transaction(&[good(1)], |tx| tx.insert(&good(1), good(2)).map_err(drop));
            assert_eq!(put, Ok(()));
        },
    ];
    for (done, call) in calls.iter().enumerate() {
        cache.remove(&good(1));
        let (heard, lost) = (told.load(SeqCst), cache.stats().listener_panics);
        bad();
        call();
        assert_eq!(cache.contains_key(&good(1)), done > 0);
        assert_eq!(
            (told.load(SeqCst), cache.stats().listener_panics),
            (heard, lost + 1)
        );
        cache.validate();
    }
    cache.remove(&good(1));
    bad();
    told.store(0, SeqCst);
    cache.clear();
    assert_eq!(
        (cache.len(), told.load(SeqCst)),
        (0, 1),
        "what nobody else needs is not cloned"
    );
}

#[test]
fn a_weigher_or_expiry_that_panics_leaves_all_whole() {
    struct Strict;
    impl Expiry<u32, u64> for Strict {
        fn expire_after_create(&self, _: &u32, value: &u64) -> Option<Duration> {
            assert!(*value != 13, "Expiry fails");
            Some(HOUR)
        }
        fn expire_after_read(
            &self,
            _: &u32,
            value: &u64,
            left: Option<Duration>,
        ) -> Option<Duration> {
            assert!(*value != 14, "Expiry fails");
            left
        }
    }
    let weigh = |_: &u32, value: &u64| {
        assert!(*value != 15, "weigher fails");
        *value
    };
    let (cache, _time) = timed(|builder| builder.max_weight(100).weigher(weigh).expiry(Strict));
    cache.insert(1, 10);
    for bad in [13, 15] {
        panic_of(|| cache.insert(1, bad));
        panic_of(|| cache.compute(&1, |_| Op::Put(bad)));
        panic_of(|| cache.get_or_insert_with(&2, || bad));
        panic_of(|| {
            cache.transaction(&[1, 3], |tx| {
                tx.insert(&3, 1).and_then(|()| tx.insert(&1, bad))
            })
        });
        assert_eq!((cache.peek(&1), cache.len()), (Some(10), 1));
        cache.validate();
    }
    cache.insert(4, 14);
    assert_eq!(panic_of(|| cache.get(&4)), "Expiry fails");
    assert_eq!(
        panic_of(|| cache.update(&1, |value| *value = 15)),
        "weigher fails"
    );
    cache.validate();
    assert_eq!(cache.insert(1, 20), None, "what it weighs nobody knows");
    assert_eq!(cache.weight(), 34);
    cache.validate();
}

// ---- calls from inside calls ----

type Small = Cache<u32, u32>;

/// Every call that takes a lock.
fn calls() -> Vec<(&'static str, fn(&Small))> {
    vec![
        ("get", |cache| drop(cache.get(&1))),
        ("get, of a key that is not there", |cache| {
            drop(cache.get(&900))
        }),
        ("read", |cache| drop(cache.read(&1, |_| ()))),
        ("peek", |cache| drop(cache.peek(&1))),
        ("contains_key", |cache| drop(cache.contains_key(&1))),
        ("touch", |cache| drop(cache.touch(&1))),
        ("get_many", |cache| drop(cache.get_many(&[1, 2]))),
        ("insert", |cache| drop(cache.insert(50, 5))),
        ("insert_many", |cache| drop(cache.insert_many([(50, 5)]))),
        ("update", |cache| {
            drop(cache.update(&1, |value| *value = 99))
        }),
        ("update_or_insert_with", |cache| {
            cache.update_or_insert_with(&1, || 5, |value| *value = 99)
        }),
        (
            "update_or_insert_with, of a key that is not there",
            |cache| cache.update_or_insert_with(&50, || 5, |value| *value = 99),
        ),
        ("compute", |cache| drop(cache.compute(&1, |_| Op::Put(99)))),
        ("get_or_insert_with", |cache| {
            drop(cache.get_or_insert_with(&50, || 5))
        }),
        ("remove", |cache| drop(cache.remove(&1))),
        ("remove_if", |cache| drop(cache.remove_if(&1, |_| true))),
        ("retain", |cache| cache.retain(|_, _| false)),
        ("clear", |cache| cache.clear()),
        ("ttl", |cache| drop(cache.ttl(&1))),
        ("deadline", |cache| drop(cache.deadline(&1))),
        ("expire", |cache| drop(cache.expire(&1, SECOND))),
        ("persist", |cache| drop(cache.persist(&1))),
        ("frequency", |cache| drop(cache.frequency(&1))),
        ("iter", |cache| drop(cache.iter().count())),
        ("keys", |cache| drop(cache.keys().count())),
        ("scan", |cache| drop(cache.scan(0, 10))),
        ("random", |cache| drop(cache.random())),
        ("sweep", |cache| drop(cache.sweep())),
        ("transaction", |cache| {
            drop(cache.transaction(&[1, 50], |tx| tx.insert(&1, 99)))
        }),
    ]
}

/// Calls that change a bound, and then evict set by set.
fn bound_changes() -> Vec<(&'static str, fn(&Small))> {
    vec![
        ("set_max_entries", |cache| drop(cache.set_max_entries(2))),
        ("set_max_entries, upwards", |cache| {
            drop(cache.set_max_entries(500))
        }),
    ]
}

/// Every closure that runs under a lock, as a way to run `call` inside it.
fn closures() -> Vec<(&'static str, fn(&Small, &dyn Fn()))> {
    vec![
        ("read", |cache, call| drop(cache.read(&3, |_| call()))),
        ("update", |cache, call| drop(cache.update(&3, |_| call()))),
        ("update_or_insert_with", |cache, call| {
            cache.update_or_insert_with(&3, || 7, |_| call());
        }),
        ("update_or_insert_with that makes a value", |cache, call| {
            let make = || {
                call();
                7
            };
            cache.update_or_insert_with(&60, make, |_| ());
        }),
        (
            "update_or_insert_with of a value just made",
            |cache, call| {
                cache.update_or_insert_with(&60, || 7, |_| call());
            },
        ),
        ("compute", |cache, call| {
            cache.compute(&3, |_| {
                call();
                Op::Put(7)
            });
        }),
        ("compute, of a key that is not there", |cache, call| {
            cache.compute(&60, |_| {
                call();
                Op::Put(7)
            });
        }),
        ("remove_if", |cache, call| {
            cache.remove_if(&3, |_| {
                call();
                true
            });
        }),
        ("retain", |cache, call| {
            cache.retain(|_, _| {
                call();
                false
            });
        }),
        ("transaction", |cache, call| {
            let _ = cache.transaction(&[3, 61], |tx| {
                tx.remove(&3);
                call();
                tx.insert(&61, 1)
            });
        }),
    ]
}

fn small() -> Small {
    let cache = Cache::new(100);
    cache.insert_many((0..30).map(|key| (key, key)));
    cache
}

fn content(cache: &Small) -> Vec<(u32, u32)> {
    let mut entries: Vec<_> = cache.iter().collect();
    entries.sort_unstable();
    entries
}

#[test]
fn a_call_from_inside_a_closure_panics_with_a_sentence_and_changes_nothing() {
    refused_inside_closures(&calls());
}

#[test]
fn a_bound_that_is_set_from_inside_a_closure_panics_with_a_sentence_and_changes_nothing() {
    refused_inside_closures(&bound_changes());
}

fn refused_inside_closures(calls: &[(&str, fn(&Small))]) {
    let other = small();
    for (outer, run_inside) in closures() {
        for (inner, call) in calls {
            let cache = small();
            for target in [&cache, &other] {
                let words = panic_of(|| run_inside(&cache, &|| call(target)));
                assert!(words.starts_with(INSIDE), "{inner} inside {outer}: {words}");
                cache.validate();
                target.validate();
                assert_eq!(content(&cache), content(&small()), "{inner} inside {outer}");
                assert_eq!(target.max_entries(), Some(100), "{inner} inside {outer}");
            }
        }
    }
    assert_eq!(content(&other), content(&small()));
}

#[test]
fn a_closure_may_catch_the_sentence_and_go_on() {
    let cache = small();
    let caught = cache.update(&3, |value| {
        *value = 33;
        panic_of(|| cache.get(&4))
    });
    assert!(caught.unwrap().starts_with(INSIDE));
    assert_eq!(cache.get(&3), Some(33));
    cache.validate();
}

static NOSY: Mutex<Option<Small>> = Mutex::new(None);

/// A key or value that calls a cache when it is compared or cloned.
#[derive(Debug)]
struct Nosy(u32, bool);

impl Nosy {
    fn call(&self) {
        if self.1 {
            let cache = NOSY
                .lock()
                .unwrap_or_else(|error| error.into_inner())
                .clone();
            cache.unwrap().get(&1);
        }
    }
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        self.call();
        other.call();
        self.0 == other.0
    }
}
impl Eq for Nosy {}
impl Hash for Nosy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call();
        self.0.hash(state);
    }
}
impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.call();
        Self(self.0, self.1)
    }
}

#[test]
fn an_eq_or_clone_that_calls_a_cache_panics_with_the_sentence() {
    *NOSY.lock().unwrap() = Some(small());
    let cache: Cache<Nosy, Nosy> = Cache::new(100);
    cache.insert(Nosy(1, false), Nosy(1, true));
    assert!(
        panic_of(|| cache.get(&Nosy(1, false))).starts_with(INSIDE),
        "Clone"
    );
    assert!(
        panic_of(|| cache.iter().count()).starts_with(INSIDE),
        "Clone"
    );
    assert!(
        panic_of(|| cache.get(&Nosy(1, true))).starts_with(INSIDE),
        "Eq"
    );
    assert!(
        panic_of(|| cache.insert(Nosy(1, true), Nosy(2, false))).starts_with(INSIDE),
        "Eq"
    );
    assert_eq!(
        cache.insert(Nosy(2, true), Nosy(2, false)),
        None,
        "a Hash outside of a lock may call"
    );
    assert_eq!(cache.len(), 2);
    assert!(
        panic_of(|| cache.scan(0, 10)).starts_with(INSIDE),
        "Hash under the lock"
    );
    *NOSY.lock().unwrap() = None;
}

/// Makes one call when it is dropped.
struct CallsOnDrop<'c>(&'c Small, fn(&Small));

impl Drop for CallsOnDrop<'_> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}

const CHILD: &str = "HAYBOX_TEST_UNWINDING";

/// Runs this test again in a process of its own, since what goes wrong here would end or hang it.
#[test]
fn a_call_while_a_panic_unwinds_neither_aborts_nor_hangs() {
    let name = "bad_input::a_call_while_a_panic_unwinds_neither_aborts_nor_hangs";
    if let Ok(number) = std::env::var(CHILD) {
        return call_while_unwinding(number.parse().unwrap());
    }
    let calls: Vec<_> = calls().into_iter().chain(bound_changes()).collect();
    let start = |number: usize| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, number.to_string())
            // Nobody reads them, and some systems take long to make them.
            .env("RUST_BACKTRACE", "0");
        let quiet = std::process::Stdio::null;
        child.stdout(quiet()).stderr(quiet()).spawn().unwrap()
    };
    let numbers: Vec<_> = (0..calls.len()).collect();
    let mut failed = Vec::new();
    // A few at a time: one that has to wait for all others would seem to hang.
    for numbers in numbers.chunks(4) {
        let children: Vec<_> = numbers.iter().map(|number| start(*number)).collect();
        for (number, child) in numbers.iter().zip(children) {
            failed.extend(failure(child).map(|why| format!("{}: {why}", calls[*number].0)));
        }
    }
    assert_eq!(failed, [""; 0]);
}

/// Why a process failed, if it did. One that hangs is ended.
fn failure(mut child: std::process::Child) -> Option<String> {
    let end = std::time::Instant::now() + PATIENCE / 3;
    while std::time::Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return (!status.success()).then(|| status.to_string());
        }
        thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Some("hangs".to_owned())
}

fn call_while_unwinding(number: usize) {
    let (inner, call) = calls()
        .into_iter()
        .chain(bound_changes())
        .nth(number)
        .unwrap();
    for (outer, run_inside) in closures() {
        let cache = small();
        let words = panic_of(|| {
            run_inside(&cache, &|| {
                let _calls = CallsOnDrop(&cache, call);
                panic!("the closure fails");
            })
        });
        assert_eq!(words, "the closure fails", "{inner} inside {outer}");
        cache.validate();
        assert_eq!(content(&cache), content(&small()), "{inner} inside {outer}");
    }
}

// ---- destructors ----

/// Fails to be dropped.
#[derive(Clone)]
struct BadEnd(bool);

impl Drop for BadEnd {
    fn drop(&mut self) {
        if std::mem::take(&mut self.0) && !thread::panicking() {
            panic!("Drop fails");
        }
    }
}

#[test]
fn a_drop_that_panics_harms_nobody_else() {
    let (cache, time) = timed(|builder| builder.max_entries(1));
    let good = || BadEnd(false);
    cache.insert(1, BadEnd(true));
    assert_eq!(
        panic_of(|| drop(cache.insert(2, good()))),
        "Drop fails",
        "evicted"
    );
    assert!(cache.contains_key(&2), "and the new one is stored");
    cache.validate();
    cache.insert(2, BadEnd(true));
    assert_eq!(
        panic_of(|| drop(cache.insert(2, good()))),
        "Drop fails",
        "replaced"
    );
    assert!(cache.contains_key(&2));
    cache.insert(2, BadEnd(true));
    assert_eq!(panic_of(|| cache.clear()), "Drop fails", "cleared");
    cache.insert_with_ttl(2, BadEnd(true), SECOND);
    time.advance(SECOND);
    assert_eq!(panic_of(|| cache.sweep()), "Drop fails", "expired");
    assert!(cache.is_empty());
    cache.insert(2, BadEnd(true));
    let handle = cache.clone();
    drop(cache);
    assert_eq!(panic_of(|| drop(handle)), "Drop fails", "closed");
}

#[test]
fn a_drop_that_panics_while_the_cache_is_closed_keeps_no_other_value_alive() {
    let token = Arc::new(());
    let cache = Cache::new(10_000);
    for key in 0..5_000 {
        cache.insert(key, (BadEnd(key == 7), Arc::clone(&token)));
    }
    assert_eq!(panic_of(|| drop(cache)), "Drop fails");
    assert_eq!(Arc::strong_count(&token), 1);
}

// ---- loaders ----

#[test]
fn a_loader_that_asks_for_its_own_key_is_told_so() {
    let cache = small();
    let inner = Mutex::new(None);
    let outer = cache.try_get_or_insert_with(&50, || {
        let asked = cache.try_get_or_insert_with(&50, || Ok::<u32, String>(1));
        *inner.lock().unwrap() = Some(asked);
        Ok::<u32, String>(2)
    });
    assert_eq!(outer.unwrap(), 2);
    assert!(matches!(
        inner.into_inner().unwrap(),
        Some(Err(LoadError::Reentrant))
    ));
    let words = panic_of(|| cache.get_or_insert_with(&51, || cache.get_or_insert_with(&51, || 1)));
    assert!(
        words.contains(
            "asked the cache, directly or through other loads, for the key that it is loading"
        ),
        "{words}"
    );
    assert_eq!(
        cache.get_or_insert_with(&51, || 4),
        4,
        "and the key can be loaded afterwards"
    );
    assert_eq!(LoadError::<String>::Reentrant.to_string(), words);
    cache.validate();
}

#[test]
fn a_loader_may_load_other_keys_of_the_same_set() {
    let cache: Cache<u32, u32> = Cache::new(10);
    fn factorial(cache: &Cache<u32, u32>, n: u32) -> u32 {
        cache.get_or_insert_with(&n, || {
            if n == 0 {
                1
            } else {
                n * factorial(cache, n - 1)
            }
        })
    }
    assert_eq!(factorial(&cache, 9), 362_880);
    cache.validate();
}

#[test]
fn two_loads_that_wait_for_each_other_are_found_out() {
    for _ in 0..20 {
        let (cache, other) = (small(), small());
        let start = Barrier::new(2);
        let load = |first: &Small, second: &Small| {
            first.try_get_or_insert_with(&70, || {
                start.wait();
                second.try_get_or_insert_with(&70, || Ok(1))
            })
        };
        let (done, is_done) = mpsc::channel();
        let results = thread::scope(|scope| {
            for (first, second) in [(&cache, &other), (&other, &cache)] {
                let (done, load) = (done.clone(), &load);
                scope.spawn(move || {
                    done.send(
                        load(first, second).map_err(|error: LoadError<LoadError<String>>| error),
                    )
                });
            }
            [(); 2].map(|()| {
                is_done
                    .recv_timeout(PATIENCE)
                    .expect("a circle is found, not waited out")
            })
        });
        let found = |result: &Result<u32, LoadError<LoadError<String>>>| match result {
            Err(LoadError::Failed(inner)) => matches!(**inner, LoadError::Reentrant),
            _ => false,
        };
        assert!(results.iter().any(found), "{results:?}");
        cache.remove(&70);
        assert_eq!(
            cache.get_or_insert_with(&70, || 3),
            3,
            "nothing of it stays"
        );
    }
}

#[test]
fn a_waiter_that_has_waited_long_enough_loads_for_itself() {
    let cache = Cache::builder()
        .max_entries(10)
        .lock_timeout(Duration::from_millis(1))
        .build()
        .unwrap();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    thread::scope(|scope| {
        let cache = &cache;
        let leader = scope.spawn(move || {
            cache.get_or_insert_with(&1, || {
                entered.send(()).unwrap();
                may_go_on.recv_timeout(PATIENCE).unwrap();
                "late"
            })
        });
        has_entered.recv_timeout(PATIENCE).unwrap();
        assert_eq!(cache.get_or_insert_with(&1, || "own"), "own");
        go_on.send(()).unwrap();
        assert_eq!(leader.join().unwrap(), "late");
    });
    assert_eq!(
        cache.get(&1),
        Some("own"),
        "the load that was given up is not stored"
    );
    cache.validate();
}

#[test]
fn a_transaction_names_the_key_that_it_was_not_given() {
    let cache = small();
    let words = panic_of(|| cache.transaction(&[1], |tx| tx.insert(&2, 1)));
    assert_eq!(
        words,
        "a transaction reads and writes only the keys it was given"
    );
    let none: Result<u32, ()> = cache.transaction(&[], |_| Ok(7));
    assert_eq!(none, Ok(7));
    let twice: Result<(), ()> = cache.transaction(&[1, 1], |tx| tx.insert(&1, 5).map_err(drop));
    assert_eq!((twice, cache.get(&1)), (Ok(()), Some(5)));
    cache.validate();
}

#[test]
fn the_sentence_of_a_panic_reaches_the_thread_that_joins() {
    let cache = small();
    let joined = thread::scope(|scope| scope.spawn(|| cache.read(&1, |_| cache.get(&1))).join());
    assert!(sentence(&*joined.unwrap_err()).starts_with(INSIDE));
}

/// A call, with the line that it stands on.
macro_rules! at {
    ($call:expr) => {
        (line!(), Box::new(|| drop($call)) as Box<dyn Fn() + '_>)
    };
}

#[test]
fn a_call_from_inside_a_closure_is_reported_at_the_callers_line() {
    let builder = Cache::<String, u32>::builder().group_by(|key: &String| key.as_str());
    let cache = builder.build().unwrap();
    let idle = Cache::<String, u32>::builder().time_to_idle(SECOND);
    let idle = idle.build().unwrap();
    let keys = ["key".to_string()];
    cache.insert("key".to_string(), 1);
    let calls = [
        at!(cache.peek("key")),
        at!(cache.contains_key("key")),
        at!(cache.frequency("key")),
        at!(cache.ttl("key")),
        at!(cache.deadline("key")),
        at!(cache.remove("key")),
        at!(cache.update_or_insert_with("key", || 0, |_| ())),
        at!(cache.remove_entry("key")),
        at!(cache.remove_if("key", |_| true)),
        at!(cache.compute("key", |_| Op::Remove)),
        at!(cache.expire("key", SECOND)),
        at!(cache.expire_with("key", SECOND, ExpireIf::Always)),
        at!(cache.expire_at("key", SystemTime::now())),
        at!(cache.persist("key")),
        at!(cache.transaction(&keys, |_| Ok::<_, ()>(()))),
        at!(cache.retain(|_, _| false)),
        at!(cache.clear()),
        at!(cache.scan(0, 1)),
        at!(cache.random()),
        at!(cache.iter().next()),
        at!(cache.keys().next()),
        at!(cache.touch("key")),
        at!(idle.touch("key")),
        at!(cache.sweep()),
        at!(cache.fence(["key"])),
        at!(cache.fence_tags(["tag"])),
        at!(cache.invalidate("key")),
        at!(cache.invalidate_tag("tag")),
        at!(cache.invalidate_tags(["tag"])),
        at!(cache.invalidate_group("group")),
        at!(cache.invalidate_prefix("k")),
    ];
    for (line, call) in &calls {
        let place = place_of_panic(|| cache.update("key", |_| call()));
        assert_eq!(place, (file!().to_owned(), *line));
        assert_eq!(cache.get("key"), Some(1));
    }
    cache.validate();
}

#[cfg(feature = "persist")]
#[test]
fn a_call_of_a_store_from_inside_a_closure_is_reported_at_the_callers_line() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Cache::<String, u32>::builder().group_by(|key: &String| key.as_str());
    let store = builder.open_store(dir.path()).unwrap();
    let key = || "key".to_string();
    let keys = [key()];
    store.insert(key(), 1).unwrap().into_value();
    let calls = [
        at!(store.insert(key(), 2)),
        at!(store.insert_with_ttl(key(), 2, SECOND)),
        at!(store.insert_with(key(), 2, InsertOptions::new())),
        at!(store.insert_many([(key(), 2)])),
        at!(store.update("key", |value| *value = 2)),
        at!(store.compute("key", |_| Op::Remove)),
        at!(store.remove("key")),
        at!(store.remove_entry("key")),
        at!(store.remove_if("key", |_| true)),
        at!(store.expire("key", SECOND)),
        at!(store.expire_with("key", SECOND, ExpireIf::Always)),
        at!(store.expire_at("key", SystemTime::now())),
        at!(store.persist("key")),
        at!(store.transaction(&keys, |_| Ok::<_, ()>(()))),
        at!(store.retain(|_, _| false)),
        at!(store.clear()),
        at!(store.invalidate_tag("tag")),
        at!(store.invalidate_group("group")),
        at!(store.invalidate_prefix("k")),
        at!(store.peek("key")),
        at!(store.contains_key("key")),
        at!(store.ttl("key")),
        at!(store.deadline("key")),
        at!(store.scan(0, 1)),
        at!(store.sweep()),
        at!(store.random()),
    ];
    for (line, call) in &calls {
        let place = place_of_panic(|| store.compute("key", |_| (call(), Op::Keep).1));
        assert_eq!(place, (file!().to_owned(), *line));
        assert_eq!(store.get("key"), Some(1));
    }
}
