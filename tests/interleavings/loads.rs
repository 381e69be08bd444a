//! One load for each key, by threads.

use crate::common::{
    CROWDED, Numbers, OF_FOUR_SETS, built, choice, fill, ignore, numbers, write_both,
};
use crate::schedules::check;
use haybox::{LoadError, Op};
use shuttle::thread::{scope, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

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
