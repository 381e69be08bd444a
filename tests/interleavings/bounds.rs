//! Bounds hold at every moment, and nobody is refused what there is room for.

use crate::common::{
    FILLER, Numbers, OF_FOUR_SETS, built, choice, ignore, known, numbers, seconds,
};
use crate::schedules::check;
use haybox::{Insert, InsertOptions, MockClock, OnFull, Op, RemovalCause};
use shuttle::thread::{scope, yield_now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

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

/// Nor does what has expired, though others hold the sets in which it lies.
#[test]
fn nothing_is_refused_for_what_has_expired() {
    check("what has expired in the way", || {
        let time = MockClock::new();
        let builder = numbers().max_entries(OF_FOUR_SETS).max_weight(8);
        let builder = builder.clock(time.clock()).sweep_interval(seconds(1000));
        let cache = built(builder.weigher(|_, _| 1).on_full(OnFull::Reject));
        cache.insert_many((0..4).map(|key| (key, 1)));
        for key in 100..104 {
            cache.insert_with_ttl(key, 1, seconds(1));
        }
        time.advance(seconds(1));
        scope(|threads| {
            threads.spawn(|| {
                for key in 200..204 {
                    let stored = cache.insert_with(key, 1, InsertOptions::new());
                    assert!(stored.is_stored(), "{key} is refused");
                }
            });
            threads.spawn(|| {
                for key in 0..4 {
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
