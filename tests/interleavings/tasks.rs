//! Loads by threads and tasks, one for each key.

use crate::common::{Numbers, OF_FOUR_SETS, built, choice, ignore, numbers, seconds};
use crate::executor::{a_turn, block_on};
use crate::schedules::check;
use haybox::{Freshness, LoadError, MockClock};
use shuttle::thread::{scope, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::task::{Context, Waker};

/// Asks for key 1 as a thread or as a task.
pub fn any_load(cache: &Numbers, load: impl Fn() -> u32) -> u32 {
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
