//! Calls that load several keys.

use crate::common::{built, choice, known, numbers, seconds};
use crate::executor::{a_turn, block_on};
use crate::schedules::check;
use haybox::{Freshness, MockClock};
use shuttle::thread::{scope, yield_now};
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

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
