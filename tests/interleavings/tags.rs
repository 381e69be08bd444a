//! Tags and groups that are invalidated.

use crate::common::{
    CROWDED, Numbers, OF_FOUR_SETS, built, choice, fill, ignore, known, numbers, seconds,
};
use crate::executor::{a_turn, block_on};
use crate::schedules::check;
use haybox::{Freshness, InsertOptions, LoadError, Loaded, MockClock, Op};
use shuttle::thread::{scope, yield_now};
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

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
        let tasks_read = cache.read_through_revalidating_async(move |_, old| {
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
