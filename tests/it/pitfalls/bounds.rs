use crate::common::{drain, logged};
use haybox::{Cache, Insert, InsertOptions, Refused, RemovalCause};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

#[test] // moka#590
fn weight_stays_bounded_when_the_same_keys_are_reinserted() {
    let cache = Cache::builder()
        .max_weight(1_000)
        .weigher(|_, weight| *weight)
        .build()
        .unwrap();
    let cache: &Cache<u64, u64> = &cache;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !done.load(SeqCst) {
                assert!(cache.weight() <= 1_000);
                thread::yield_now();
            }
        });
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 0..3_000u64 {
                        cache.insert(round % 50, 1 + (round * 7 + thread) % 90);
                        assert!(cache.weight() <= 1_000);
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, SeqCst);
        watch.join().unwrap();
    });
    cache.validate();
    assert!(
        cache.weight() > 500,
        "and eviction takes no more than it must"
    );
}

#[test] // quick-cache#28
fn weights_near_the_end_of_u64_saturate() {
    let cache = Cache::builder()
        .max_weight(u64::MAX)
        .weigher(|_, weight| *weight)
        .build()
        .unwrap();
    let heavy = u64::MAX - 1;
    assert_eq!(
        cache.insert_with(1, heavy, InsertOptions::new()),
        Insert::Inserted
    );
    cache.insert(2, 1);
    assert_eq!((cache.len(), cache.weight()), (2, u64::MAX));
    cache.insert(3, u64::MAX);
    assert_eq!((cache.len(), cache.weight()), (1, u64::MAX));
    cache.update(&3, |weight| *weight = 5);
    cache.insert(4, heavy);
    assert_eq!(cache.peek(&4), Some(heavy));
    cache.validate();
}

#[test] // quick-cache#65, quick-cache#26
fn a_heavy_item_is_refused_by_the_whole_bound_only() {
    let cache = Cache::builder()
        .max_weight(100_000)
        .weigher(|_, weight| *weight)
        .build()
        .unwrap();
    for key in 0..50_000u64 {
        cache.insert(key, 1);
    }
    assert_eq!(
        cache.insert_with(60_000, 100_000, InsertOptions::new()),
        Insert::Inserted
    );
    assert_eq!((cache.len(), cache.peek(&60_000)), (1, Some(100_000)));
    assert_eq!(
        cache.insert_with(60_001, 100_001, InsertOptions::new()),
        Insert::Refused(100_001)
    );
    assert_eq!(
        cache.peek(&60_000),
        Some(100_000),
        "nothing is evicted for what cannot fit"
    );
    cache.validate();
}

#[test] // quick-cache#106
fn capacity_one_stores_one() {
    let cache = Cache::new(1);
    for key in 0..1_000 {
        assert_eq!(
            cache.insert_with(key, key, InsertOptions::new()),
            Insert::Inserted
        );
        assert_eq!((cache.get(&key), cache.len()), (Some(key), 1));
    }
    cache.validate();
}

#[test] // quick-cache#94
fn capacity_n_keeps_n() {
    for capacity in [1, 2, 31, 32, 33, 40, 41, 63, 64, 65, 1_000, 4_096, 12_345] {
        let cache = Cache::new(capacity);
        cache.insert_many((0..capacity).map(|key| (key, key)));
        assert_eq!(
            (cache.len(), cache.stats().evictions),
            (capacity, 0),
            "{capacity}"
        );
        assert!(
            (0..capacity).all(|key| cache.contains_key(&key)),
            "{capacity}"
        );
    }
}

#[test] // moka#540
fn a_bound_changes_while_others_write() {
    let cache: &Cache<u64, u64> = &Cache::new(1_000);
    let start = &Barrier::new(5);
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                start.wait();
                for key in 0..5_000 {
                    cache.insert(key * 4 + thread, key);
                }
            });
        }
        start.wait();
        for round in 0..200 {
            cache
                .set_max_entries(if round % 2 == 0 { 50 } else { 2_000 })
                .unwrap();
        }
        cache.set_max_entries(70).unwrap();
        assert!(cache.len() <= 70);
    });
    cache.validate();
    cache.insert_many((0..1_000).map(|key| (key, key)));
    assert_eq!(cache.len(), 70);
}

#[test] // quick-cache#96
fn what_is_pinned_by_one_transaction_does_not_stall_it() {
    let cache: Cache<u32, u32> = Cache::new(2);
    let write = |keys: &[u32]| {
        cache.transaction(keys, |tx| {
            keys.iter().try_for_each(|key| tx.insert(key, *key))
        })
    };
    assert_eq!(write(&[1, 2, 3]), Err(Refused(3)), "three can never fit");
    assert_eq!(cache.len(), 0, "so none is stored");
    assert_eq!(write(&[1, 2]), Ok(()));
    assert_eq!(
        write(&[2, 3]),
        Ok(()),
        "what is written stays, what is not makes room"
    );
    assert_eq!(
        (cache.get(&1), cache.get(&2), cache.get(&3)),
        (None, Some(2), Some(3))
    );
    cache.validate();
}

#[test] // the design's promise 3
fn what_has_expired_goes_before_what_lives_when_a_bound_is_lowered() {
    let time = haybox::MockClock::new();
    let (builder, log) = logged(Cache::builder().max_entries(200).clock(time.clock()));
    let cache = builder.sweep_interval(crate::common::HOUR).build().unwrap();
    for key in 0..200u32 {
        let ttl = if key % 2 == 0 { 1 } else { 100 };
        cache.insert_with_ttl(key, key, crate::common::SECOND * ttl);
    }
    time.advance(crate::common::SECOND);
    cache.set_max_entries(100).unwrap();
    let told = drain(&log);
    assert!(
        told.iter()
            .all(|(key, _, cause)| key % 2 == 0 && *cause == RemovalCause::Expired),
        "{told:?}"
    );
    assert_eq!(cache.len(), 100);
}

#[test] // the design's promise 3
fn what_has_expired_makes_room_in_a_cache_that_rejects() {
    let (cache, time) =
        crate::common::timed(|builder| builder.max_entries(4).on_full(haybox::OnFull::Reject));
    for key in 0..4 {
        cache.insert_with_ttl(key, key, crate::common::SECOND);
    }
    assert_eq!(
        cache.insert_with(9, 9, InsertOptions::new()),
        Insert::Refused(9)
    );
    time.advance(crate::common::SECOND);
    assert_eq!(
        cache.insert_with(9, 9, InsertOptions::new()),
        Insert::Inserted
    );
    cache.clear();

    for key in 0..4 {
        cache.insert_with_ttl(key, key, crate::common::SECOND);
    }
    time.advance(crate::common::SECOND);
    let stored = cache.transaction(&[10, 11], |tx| {
        tx.insert(&10, 1).and_then(|()| tx.insert(&11, 1))
    });
    assert_eq!(stored, Ok(()), "all that is in its way has expired");
    cache.validate();
}

/// The search goes on where the last one has found something, and comes round to what lies before it.
#[test]
fn what_has_expired_makes_room_wherever_it_lies_in_a_large_cache_that_rejects() {
    let capacity = 20_000;
    let (cache, time) = crate::common::timed(|builder| {
        builder
            .max_entries(capacity)
            .on_full(haybox::OnFull::Reject)
    });
    cache.insert_many((0..capacity).map(|key| (key, ())));
    for key in 0..100 {
        assert!(cache.expire(&key, crate::common::SECOND));
        time.advance(crate::common::SECOND);
        let insert = cache.insert_with(capacity + key, (), InsertOptions::new());
        assert_eq!(insert, Insert::Inserted, "{key}");
    }
    cache.validate();
}

#[test] // quick-cache#96
fn a_transaction_makes_room_in_the_sets_that_it_has_locked_itself() {
    for seed in 0..50 {
        let builder = Cache::builder()
            .max_entries(1_000)
            .hasher(crate::common::Seeded(seed));
        let cache: Cache<u32, u32, _> = builder.build().unwrap();
        cache.set_max_entries(3).unwrap();
        cache.insert_many([(1, 0), (2, 0), (3, 0)]);
        let keys = [1, 2, 3, 4, 5];
        let done: Result<(), ()> = cache.transaction(&keys, |tx| {
            tx.insert(&4, 1).map_err(drop)?;
            tx.insert(&5, 1).map_err(drop)
        });
        assert_eq!(done, Ok(()));
        assert_eq!(
            (cache.peek(&4), cache.peek(&5)),
            (Some(1), Some(1)),
            "two fit into three: seed {seed}"
        );
        cache.validate();
    }
}

#[test] // the design's promise 3
fn a_value_whose_time_is_up_as_it_comes_evicts_nobody() {
    let cache: Cache<u32, u32> = Cache::new(1);
    cache.insert(1, 1);
    cache.insert_with_ttl(2, 2, std::time::Duration::ZERO);
    assert_eq!(cache.peek(&1), Some(1));
    let done = cache.transaction(&[3], |tx| {
        tx.insert_with_ttl(&3, 3, std::time::Duration::ZERO)
    });
    assert_eq!((done, cache.peek(&1)), (Ok(()), Some(1)));
    cache.validate();
}
