//! What is remembered beside values: that there is none, and errors.

use super::{Gate, assert_settled, block_on, poll_once};
use crate::common::{HOUR, SECOND, timed};
use haybox::{
    Cache, CacheBuilder, Insert, InsertOptions, LoadError, Loaded, MockClock, OnFull, Op,
};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::Poll;
use std::thread;

fn remembering() -> (Cache<u32, u32>, MockClock) {
    timed(|builder| {
        builder
            .max_entries(100)
            .negative_ttl(SECOND * 2)
            .error_ttl(SECOND)
    })
}

fn known() -> Option<u32> {
    unreachable!("it is known that there is none")
}

#[test] // "no such row" may be cached, for its own time
fn that_there_is_no_value_is_remembered_for_its_own_time() {
    let (cache, time) = remembering();
    assert_eq!(cache.get_or_find_with(&1, || None), None);
    assert_eq!(cache.get_or_find_with(&1, known), None);
    assert_eq!(block_on(cache.get_or_find(&1, async || known())), None);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.known_absences), (3, 2));
    assert_eq!((stats.entries, stats.absences), (0, 1));
    time.advance(SECOND * 2);
    assert_eq!(cache.get_or_find_with(&1, || Some(5)), Some(5));
    assert_eq!(cache.get_or_find_with(&1, known), Some(5));
    assert_settled(&cache);
}

#[test]
fn without_a_negative_ttl_nothing_is_remembered() {
    let cache: Cache<u32, u32> = Cache::new(10);
    assert_eq!(cache.get_or_find_with(&1, || None), None);
    assert_eq!(block_on(cache.get_or_find(&1, async || Some(3))), Some(3));
    assert_settled(&cache);
}

#[test]
fn what_is_remembered_is_no_entry() {
    let (cache, time) = remembering();
    cache.insert(2, 2);
    assert_eq!(cache.get_or_find_with(&1, || None), None);
    assert_eq!(
        (cache.len(), cache.weight(), cache.stats().entries),
        (1, 1, 1)
    );
    assert!(!cache.contains_key(&1));
    assert_eq!(
        (cache.get(&1), cache.iter().count(), cache.ttl(&1)),
        (None, 1, None)
    );
    assert_eq!(cache.remove(&1), None);
    assert_eq!(
        cache.get_or_find_with(&1, || Some(1)),
        Some(1),
        "and forgotten"
    );
    cache.validate();
    assert_eq!(cache.get_or_find_with(&3, || None), None);
    time.advance(SECOND * 2);
    assert_eq!(cache.sweep(), 0, "no entry is swept");
    assert_eq!(cache.len(), 2);
    assert_settled(&cache);
}

#[test]
fn a_loader_that_always_brings_a_value_is_not_held_up_by_it() {
    let (cache, _) = remembering();
    assert_eq!(cache.get_or_find_with(&1, || None), None);
    assert_eq!(cache.get_or_insert_with(&1, || 4), 4);
    assert_eq!(cache.get_or_find_with(&1, known), Some(4));
    assert_settled(&cache);
}

#[test]
fn a_value_that_was_loaded_all_the_same_takes_the_place_of_what_was_known() {
    let loads: [fn(&Cache<u32, u32>) -> u32; 3] = [
        |cache| cache.get_or_insert_with(&1, || 5),
        |cache| block_on(cache.get_or_load(&1, async || 5)),
        |cache| {
            let rows = cache.read_through(|_| Ok::<_, ()>(5));
            rows.refresh(&1).unwrap().unwrap()
        },
    ];
    for load in loads {
        let (cache, time) = timed(|builder| builder.negative_ttl(HOUR).time_to_live(SECOND));
        assert_eq!(cache.get_or_find_with(&1, || None), None);
        assert_eq!((load(&cache), cache.stats().absences), (5, 0));
        time.advance(SECOND);
        assert_eq!(cache.get_or_find_with(&1, || Some(6)), Some(6));
        assert_settled(&cache);
    }
}

#[test]
fn that_a_value_still_holds_takes_the_place_of_an_error_that_was_known() {
    let (cache, time) =
        timed(|builder: CacheBuilder<u32, u32>| builder.time_to_live(SECOND).error_ttl(HOUR));
    let loads = AtomicU32::new(0);
    let rows = cache.read_through_revalidating(move |_, _| match loads.fetch_add(1, SeqCst) {
        0 => Ok(Loaded::new(5)),
        1 => Err("down"),
        2 => Ok(Loaded::not_modified()),
        _ => Ok(Loaded::new(6)),
    });
    assert_eq!(rows.get(&1), Ok(Some(5)));
    assert!(rows.refresh(&1).is_err());
    assert_eq!(rows.refresh(&1), Ok(Some(5)));
    time.advance(SECOND);
    assert_eq!(rows.get(&1), Ok(Some(6)));
    assert_settled(&cache);
}

#[test]
fn everything_that_overtakes_a_load_forgets_what_one_has_found_out() {
    let ways: [fn(&Cache<u32, u32>); 8] = [
        |cache| drop(cache.insert(1, 1)),
        |cache| drop(cache.remove(&1)),
        |cache| drop(cache.remove_if(&1, |_| true)),
        |cache| cache.invalidate(&1),
        |cache| cache.clear(),
        |cache| cache.retain(|_, _| true),
        |cache| drop(cache.compute(&1, |_| Op::Remove)),
        |cache| {
            let removed: Result<bool, ()> = cache.transaction(&[1], |tx| Ok(tx.remove(&1)));
            drop(removed);
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let (cache, _) = remembering();
        assert_eq!(cache.get_or_find_with(&1, || None), None);
        way(&cache);
        let found = cache.get_or_find_with(&1, || Some(1));
        assert_eq!(found, Some(1), "way {number}");
        assert_settled(&cache);
    }
}

#[test]
fn an_absence_that_was_overtaken_goes_to_who_waited_and_is_not_remembered() {
    let (cache, _) = remembering();
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_find(&1, || async {
        gate.pass().await;
        None
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut waiter = pin!(cache.get_or_find(&1, async || known()));
    let mut always = pin!(cache.get_or_load(&1, async || 9));
    assert!(poll_once(waiter.as_mut()).is_pending());
    assert!(poll_once(always.as_mut()).is_pending());
    cache.invalidate(&1);
    gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(None));
    assert_eq!(poll_once(waiter), Poll::Ready(None));
    assert_eq!(cache.get_or_find_with(&1, || Some(8)), Some(8));
    assert_eq!(poll_once(always), Poll::Ready(8));
    assert_settled(&cache);
}

#[test] // "errors are not cached"
fn errors_are_remembered_only_where_that_is_asked_for() {
    let asked = |cache: &Cache<u32, u32>, result| cache.try_get_or_insert_with(&1, || result);
    let plain: Cache<u32, u32> = Cache::new(10);
    assert!(asked(&plain, Err("down")).is_err());
    assert_eq!(asked(&plain, Ok(1)).unwrap(), 1);
    let (cache, time) = remembering();
    assert!(asked(&cache, Err("down")).is_err());
    let Err(LoadError::Failed(error)) = asked(&cache, Ok(1)) else {
        panic!("it is remembered");
    };
    assert_eq!(*error, "down");
    time.advance(SECOND);
    assert_eq!(asked(&cache, Ok(1)).unwrap(), 1);
    assert_settled(&cache);
}

#[test]
fn a_remembered_error_means_nothing_to_another_type() {
    let (cache, _) = remembering();
    for known_absences in 0..3 {
        assert!(cache.try_get_or_insert_with(&1, || Err("down")).is_err());
        assert_eq!(cache.stats().known_absences, known_absences);
    }
    assert_eq!(cache.try_get_or_insert_with(&1, || Ok::<_, u8>(2)), Ok(2));
    assert_eq!(cache.stats().known_absences, 2, "that one has loaded");
    assert_settled(&cache);
}

#[test]
fn what_is_remembered_is_bounded_and_pushes_out_hardly_any_value() {
    let (cache, _) = timed(|builder| builder.max_entries(1_000).negative_ttl(HOUR));
    cache.insert_many((0..1_000).map(|key| (key, key)));
    for key in 1_000..100_000 {
        assert_eq!(cache.get_or_find_with(&key, || None), None);
    }
    cache.validate();
    assert!(cache.len() >= 800, "{} are left", cache.len());
    for key in 0..1_000 {
        cache.insert(key, key);
    }
    cache.validate();
    let values = cache.len();
    assert!(values >= 850, "{values} have come back");
    cache.set_max_entries(10).unwrap();
    cache.validate();
    assert!(cache.len() <= 10);
}

#[test]
fn a_cache_of_absences_alone_grows_and_shrinks_with_them() {
    let (cache, time) = timed(|builder| builder.negative_ttl(SECOND));
    for key in 0..10_000 {
        assert_eq!(cache.get_or_find_with(&key, || None), None);
    }
    for key in 0..10_000 {
        assert_eq!(cache.get_or_find_with(&key, known), None);
    }
    cache.validate();
    time.advance(SECOND);
    cache.sweep();
    assert!(cache.is_empty());
    cache.insert(1, 1);
    assert_settled(&cache);
}

#[test]
fn a_full_cache_that_rejects_remembers_what_it_has_room_for() {
    let (cache, _) = timed(|builder| {
        builder
            .max_entries(1)
            .on_full(OnFull::Reject)
            .negative_ttl(HOUR)
    });
    cache.insert(1, 1);
    assert_eq!(cache.get_or_find_with(&2, || None), None);
    assert_eq!(
        cache.get_or_find_with(&2, || Some(2)),
        Some(2),
        "not remembered"
    );
    cache.remove(&1);
    assert_eq!(cache.get_or_find_with(&2, || None), None);
    assert_eq!(cache.get_or_find_with(&2, known), None);
    assert_settled(&cache);
}

#[test]
fn what_is_remembered_keeps_no_value_out_of_a_cache_that_rejects() {
    let rejecting = |bounded: fn(CacheBuilder<u32, u32>) -> CacheBuilder<u32, u32>| {
        let builder = |builder| bounded(builder).on_full(OnFull::Reject).negative_ttl(HOUR);
        timed(builder).0
    };
    let by_entries = || rejecting(|builder| builder.max_entries(1_000));
    let by_weight = || rejecting(|builder| builder.max_weight(1_000));
    let fill_with_absences = |cache: &Cache<u32, u32>| {
        for key in 10_000..11_000 {
            assert_eq!(cache.get_or_find_with(&key, || None), None);
        }
        assert_eq!(cache.get_or_find_with(&10_007, known), None);
    };
    let insert =
        |cache: &Cache<u32, u32>, key| match cache.insert_with(key, 0, InsertOptions::new()) {
            Insert::Inserted => true,
            Insert::Refused(_) => false,
            other => unreachable!("{other:?}"),
        };
    for cache in [by_entries(), by_weight()] {
        fill_with_absences(&cache);
        assert!((0..1_000).all(|key| insert(&cache, key)));
        assert!(!insert(&cache, 1_000), "full of values");
        assert_eq!(cache.get_or_find_with(&10_007, || Some(1)), Some(1));
        assert_settled(&cache);
    }
    for cache in [by_entries(), by_weight()] {
        fill_with_absences(&cache);
        let all: Vec<u32> = (0..1_000).collect();
        let stored = cache.transaction(&all, |view| {
            all.iter().try_for_each(|key| view.insert(key, 0))
        });
        assert!(stored.is_ok());
        assert_settled(&cache);
    }
}

#[test]
fn a_transaction_forgets_when_the_room_it_was_promised_goes_to_others() {
    let (cache, _) = timed(|builder: CacheBuilder<u32, u32>| {
        let builder = builder.max_entries(1_000).negative_ttl(HOUR);
        builder.on_full(OnFull::Reject)
    });
    cache.insert_many((0..980).map(|key| (key, key)));
    for key in 10_000..10_020 {
        assert_eq!(cache.get_or_find_with(&key, || None), None);
    }
    let stored = cache.transaction(&[5_000], |tx| {
        // One was forgotten beforehand. That its room is gone is told without a lock of the table.
        let other = thread::scope(|scope| scope.spawn(|| cache.set_max_entries(999)).join());
        assert!(other.unwrap().is_ok());
        tx.insert(&5_000, 1)
    });
    assert!(stored.is_ok());
    assert_eq!(cache.get(&5_000), Some(1));
    assert_settled(&cache);
}

#[test]
fn in_a_full_cache_that_rejects_the_newest_absences_are_remembered() {
    let (cache, _) = timed(|builder| {
        let builder = builder.max_entries(10).negative_ttl(HOUR);
        builder.on_full(OnFull::Reject)
    });
    for key in 0..100 {
        assert_eq!(cache.get_or_find_with(&key, || None), None);
        assert_eq!(cache.get_or_find_with(&key, known), None);
    }
    assert_settled(&cache);
}

#[test]
fn a_full_cache_forgets_the_oldest_absence_first() {
    let (cache, _) = timed(|builder| builder.max_entries(10).negative_ttl(HOUR));
    for key in 0..15 {
        assert_eq!(cache.get_or_find_with(&key, || None), None);
    }
    for key in 5..15 {
        assert_eq!(cache.get_or_find_with(&key, known), None);
    }
    assert_eq!(cache.get_or_find_with(&4, || Some(4)), Some(4));
    assert_settled(&cache);
}

#[test]
fn a_time_to_remember_of_zero_is_refused() {
    let builder = || Cache::<u32, u32>::builder();
    let zero = std::time::Duration::ZERO;
    for (builder, setting) in [
        (builder().negative_ttl(zero), "negative_ttl"),
        (builder().error_ttl(zero), "error_ttl"),
    ] {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
}
