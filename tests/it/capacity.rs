//! The bounds: what fits stays, what does not fit goes, and what has expired goes first.

use crate::common::{HOUR, POLICIES, SECOND, drain, is_full, logged};
use haybox::{Cache, EvictionPolicy, Insert, InsertOptions, MockClock, RemovalCause};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

/// Fills a cache to its bound and no further.
fn keeps_all(capacity: usize) {
    keeps_all_under(EvictionPolicy::default(), capacity);
}

fn keeps_all_under(policy: EvictionPolicy, capacity: usize) {
    let builder = Cache::builder().max_entries(capacity);
    let cache = builder.eviction_policy(policy).build().unwrap();
    for key in 0..capacity {
        cache.insert(key, ());
    }
    assert_eq!(
        (cache.len(), cache.stats().evictions),
        (capacity, 0),
        "{capacity}"
    );
    cache.insert(capacity, ());
    assert_eq!(
        (cache.len(), cache.stats().evictions),
        (capacity, 1),
        "{capacity}"
    );
}

#[test]
fn a_fresh_cache_of_n_keeps_n_keys() {
    // Filling a cache takes time in its size. All sizes to 3,000 go through every number of sets
    // up to 128 and every load of them; above, sizes around each power of two times 40, where
    // the number of sets changes, and a spread in between.
    let small = if is_full() { 3_000 } else { 700 };
    (1..=small).for_each(keeps_all);
    let doublings = (0..12)
        .map(|bit| 40usize << bit)
        .take_while(|size| *size <= 100_000);
    doublings
        .flat_map(|size| [size - 1, size, size + 1])
        .for_each(keeps_all);
    let step = if is_full() { 997 } else { 19_997 };
    (small..100_000).step_by(step).for_each(keeps_all);
    keeps_all(100_000);
}

#[test]
fn a_fresh_cache_of_n_keeps_n_keys_under_every_policy() {
    for policy in POLICIES {
        let sizes = (1..=200).chain([640, 1_281, 2_561, 20_481]);
        sizes.for_each(|capacity| keeps_all_under(policy, capacity));
    }
}

#[test]
fn a_cache_of_every_size_to_100_000_keeps_as_many_keys() {
    // One cache whose bound grows by one before each insertion holds N keys at every N, so this
    // goes through all sizes in one filling.
    let cache = Cache::new(1);
    for capacity in 1..=100_000usize {
        cache.set_max_entries(capacity).unwrap();
        assert_eq!(
            cache.insert_with(capacity, capacity, InsertOptions::new()),
            Insert::Inserted
        );
        assert_eq!(cache.len(), capacity);
    }
    assert_eq!(cache.stats().evictions, 0);
    assert!((1..=100_000).all(|key| cache.contains_key(&key)));
    cache.validate();
}

#[test]
fn a_cache_of_a_million_keeps_a_million_keys() {
    keeps_all(1_000_000);
}

#[test]
fn a_bound_that_is_never_lowered_evicts_one_for_one() {
    for capacity in [1, 5, 40, 41, 500, 3_000] {
        let (builder, log) = logged(Cache::builder().max_entries(capacity));
        let cache = builder.build().unwrap();
        for key in 0..capacity * 3 {
            cache.insert(key, key);
            let evicted = drain(&log);
            assert_eq!(
                evicted.len(),
                usize::from(key >= capacity),
                "{capacity}: {key}"
            );
            assert!(
                evicted.iter().all(|(old, ..)| *old != key),
                "what was just inserted stays"
            );
        }
        cache.validate();
    }
}

#[test]
fn what_has_expired_goes_before_what_lives() {
    for capacity in [2usize, 10, 40, 100, 1_000, 20_000] {
        for share in [2, 3, 10] {
            expired_first(capacity, share);
        }
    }
}

/// Fills a cache so that one entry in `share` expires soon, and then has others come in.
fn expired_first(capacity: usize, share: usize) {
    let time = MockClock::new();
    let builder = Cache::builder()
        .max_entries(capacity)
        .clock(time.clock())
        .sweep_interval(HOUR * 1_000);
    let (builder, log) = logged(builder);
    let cache = builder.build().unwrap();
    let is_short = |key: usize| key.is_multiple_of(share);
    for key in 0..capacity {
        let ttl = if is_short(key) {
            SECOND * (1 + (key % 5) as u32)
        } else {
            HOUR * (1 + (key % 9) as u32)
        };
        cache.insert_with_ttl(key, key, ttl);
    }
    time.advance(SECOND * 5);
    let expired = (0..capacity).filter(|key| is_short(*key)).count();
    for new in 0..expired {
        let inserted = cache.insert_with(capacity + new, new, InsertOptions::new());
        assert_eq!(inserted, Insert::Inserted);
    }
    let told = drain(&log);
    let all_expired = told
        .iter()
        .all(|(key, _, cause)| is_short(*key) && *cause == RemovalCause::Expired);
    assert!(all_expired, "{capacity} and one in {share}: {told:?}");
    assert_eq!((cache.len(), told.len()), (capacity, expired));
    cache.insert(usize::MAX, 0);
    assert!(matches!(drain(&log)[..], [(_, _, RemovalCause::Capacity)]));
    cache.validate();
}

#[test]
fn a_transaction_weighs_each_value_with_its_own_key() {
    let cache = Cache::<String, u32>::builder()
        .max_weight(100)
        .weigher(|key: &String, _| key.len() as u64)
        .build()
        .unwrap();
    let keys = ["a", "bbb"].map(str::to_owned);
    let done = cache.transaction(&keys, |tx| {
        tx.insert("bbb", 1)?;
        tx.insert_with_ttl("a", 2, SECOND)
    });
    assert!(done.is_ok());
    assert_eq!((cache.get("bbb"), cache.weight()), (Some(1), 4));
    cache.validate();
}

/// A table that is not grown yet has one set, which holds 65,534 entries.
#[test]
fn a_transaction_may_bring_more_keys_than_a_set_can_hold() {
    let keys: Vec<u32> = (0..70_000).collect();
    for bound in [None, Some(70_000), Some(300_000)] {
        let builder = Cache::<u32, u32>::builder();
        let builder = match bound {
            None => builder,
            Some(entries) => builder.max_entries(entries),
        };
        let cache = builder.build().unwrap();
        let done = cache.transaction(&keys, |tx| {
            keys.iter().try_for_each(|key| tx.insert(key, *key))
        });
        assert!(done.is_ok());
        assert_eq!(cache.len(), keys.len());
        assert!(keys.iter().all(|key| cache.get(key) == Some(*key)));
        cache.validate();
    }
}

#[test]
fn what_has_expired_makes_room_for_weight_and_memory_too() {
    let time = MockClock::new();
    let builder = Cache::builder()
        .max_weight(1_000)
        .max_memory(1 << 20)
        .weigher(|_, weight: &u64| *weight);
    let (builder, log) = logged(builder.clock(time.clock()).sweep_interval(HOUR * 1_000));
    let cache = builder.build().unwrap();
    for key in 0..200u64 {
        cache.insert_with_ttl(key, 5, if key % 2 == 0 { SECOND } else { HOUR });
    }
    time.advance(SECOND);
    assert_eq!(
        cache.insert_with(900, 500, InsertOptions::new()),
        Insert::Inserted
    );
    assert!(
        drain(&log)
            .iter()
            .all(|(key, _, cause)| key % 2 == 0 && *cause == RemovalCause::Expired)
    );
    assert_eq!((cache.len(), cache.weight()), (101, 1_000));
    cache.validate();
}

#[test]
fn bounds_of_every_kind_change_while_threads_insert() {
    let builder = Cache::builder()
        .max_entries(2_000)
        .max_weight(20_000)
        .max_memory(1 << 20);
    let cache = &builder
        .weigher(|_, value: &u64| value % 20)
        .build()
        .unwrap();
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3u64 {
            scope.spawn(move || {
                let mut key = thread;
                while !done.load(SeqCst) {
                    cache.insert(key % 5_000, key);
                    key += 7;
                }
            });
        }
        for round in 0..60u64 {
            let small = round % 2 == 0;
            cache
                .set_max_entries(if small { 30 } else { 3_000 })
                .unwrap();
            assert!(!small || cache.len() <= 30);
            cache
                .set_max_weight(if small { 200 } else { 30_000 })
                .unwrap();
            assert!(!small || cache.weight() <= 200);
            cache
                .set_max_memory(if small { 4_096 } else { 1 << 21 })
                .unwrap();
            assert!(!small || cache.memory() <= 4_096);
        }
        done.store(true, SeqCst);
    });
    cache.validate();
    cache.set_max_entries(1).unwrap();
    assert!(cache.len() <= 1);
    cache.validate();
}

#[test]
fn a_cache_that_was_unbounded_can_be_given_a_bound() {
    let cache: Cache<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
    assert_eq!(cache.max_entries(), None);
    cache.set_max_entries(100).unwrap();
    assert_eq!((cache.len(), cache.max_entries()), (100, Some(100)));
    cache.insert_many((0..1_000).map(|key| (key, key)));
    assert_eq!(cache.len(), 100);
    cache.set_max_entries(5_000).unwrap();
    cache.insert_many((0..10_000).map(|key| (key, key)));
    assert_eq!(cache.len(), 5_000);
    cache.validate();
}

#[test]
fn what_is_read_often_outlives_what_is_not() {
    let cache = Cache::new(1_000);
    let hot = 0..100u32;
    cache.insert_many(hot.clone().map(|key| (key, key)));
    for key in 1_000..20_000 {
        cache.insert(key, key);
        hot.clone()
            .filter(|hot| hot % 10 == key % 10)
            .for_each(|hot| drop(cache.get(&hot)));
    }
    let kept = hot.filter(|key| cache.contains_key(key)).count();
    assert!(kept >= 95, "{kept} of 100");
}
