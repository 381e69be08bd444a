//! Loads that take longer than their callers wait.

use crate::common::{built, choice, known, numbers, seconds};
use crate::executor::{a_turn, block_on};
use crate::schedules::check;
use crate::tasks::any_load;
use haybox::{Loaded, MockClock};
use shuttle::thread::{scope, yield_now};
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

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
