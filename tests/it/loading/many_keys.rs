//! Several keys with one call of the loader.

use super::{Gate, assert_settled, block_on, poll_once};
use crate::common::{HOUR, SECOND, panic_of, timed};
use haybox::{Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock, Ttl};
use std::future::pending;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

type Numbers = Cache<u32, u32>;

fn doubled(keys: &[u32]) -> Vec<(u32, u32)> {
    keys.iter().map(|key| (*key, key * 2)).collect()
}

#[test]
fn the_loader_is_called_once_with_the_keys_that_are_missing() {
    let cache = Numbers::new(10);
    cache.insert(2, 0);
    let mut calls = Vec::new();
    let found = cache.get_many_or_insert_with(&[1, 2, 3], |missing| {
        let brought = doubled(&missing);
        calls.push(missing);
        brought
    });
    assert_eq!(found, [Some(2), Some(0), Some(6)]);
    assert_eq!(calls, [[1, 3]]);
    let found = block_on(cache.get_many_or_load(&[3, 4], async |missing: Vec<u32>| {
        assert_eq!(missing, [4]);
        doubled(&missing)
    }));
    assert_eq!(found, [Some(6), Some(8)]);
    let none = cache.get_many_or_insert_with(&[1, 3], |_| -> [(u32, u32); 0] {
        unreachable!("they are there")
    });
    assert_eq!(none, [Some(2), Some(6)]);
    assert_eq!((cache.stats().loads, cache.len()), (2, 4));
    assert_settled(&cache);
}

#[test]
fn keys_that_come_twice_in_any_order_or_not_at_all() {
    let cache = Numbers::new(10);
    let found = cache.get_many_or_insert_with(&[1, 2, 1, 3, 2], |missing| {
        assert_eq!(missing, [1, 2, 3]);
        // Backwards, with one that nobody asked for, and without 3.
        [(9, 9), (2, 20), (1, 10)]
    });
    assert_eq!(found, [Some(10), Some(20), Some(10), None, Some(20)]);
    assert_eq!((cache.len(), cache.get(&9), cache.get(&3)), (2, None, None));
    let nothing: [&u32; 0] = [];
    assert_eq!(cache.get_many_or_insert_with(nothing, |_| [(1, 1)]), []);
    assert_settled(&cache);
}

#[test]
fn a_key_that_comes_twice_has_one_value_though_another_load_of_it_hangs() {
    let (cache, time) = timed(|builder| builder.max_entries(10).negative_ttl(HOUR));
    let mut hangs = pin!(cache.get_many_or_load(&[1], |_| pending::<[(u32, u32); 1]>()));
    assert!(poll_once(hangs.as_mut()).is_pending());
    let load = async |missing: Vec<u32>| doubled(&missing);
    let mut twice = pin!(cache.get_many_or_load(&[1, 2, 1], load));
    assert!(poll_once(twice.as_mut()).is_pending());
    time.advance(30 * SECOND);
    let found = vec![Some(2), Some(4), Some(2)];
    assert_eq!(poll_once(twice), Poll::Ready(found.clone()));
    assert_eq!(cache.get_many(&[1, 2, 1]), found);
    assert_settled(&cache);
}

#[test]
fn what_is_brought_may_have_tags_a_ttl_and_a_weight_of_its_own() {
    let (cache, _) = timed(|builder| {
        let builder = builder.max_weight(100).weigher(|_, _| 1);
        builder.time_to_live(HOUR)
    });
    let bring = |missing: Vec<u32>| {
        let loaded = |key| match key {
            1 => Loaded::new(10).tag("odd").ttl(SECOND),
            2 => Loaded::new(20).weight(7),
            3 => Loaded::new(30).tag("odd"),
            _ => Loaded::absent(),
        };
        missing.into_iter().map(move |key| (key, loaded(key)))
    };
    let found = cache.get_many_or_insert_with(&[1, 2, 3, 4], bring);
    assert_eq!(found, [Some(10), Some(20), Some(30), None]);
    assert_eq!(cache.ttl(&1), Some(Ttl::Left(SECOND)));
    assert_eq!(cache.ttl(&3), Some(Ttl::Left(HOUR)));
    assert_eq!(cache.weight(), 9);
    cache.invalidate_tag("odd");
    assert_eq!(cache.get_many(&[1, 2, 3]), [None, Some(20), None]);
    let again = block_on(cache.get_many_or_load(&[3, 2, 4], async |missing| bring(missing)));
    assert_eq!(again, [Some(30), Some(20), None]);
    cache.invalidate_tag("odd");
    assert_eq!(cache.get(&3), None);
    let options = |missing: Vec<u32>| missing.into_iter().map(|key| (key, (key > 5).then_some(1)));
    assert_eq!(
        cache.get_many_or_insert_with(&[5, 6], options),
        [None, Some(1)]
    );
    assert_settled(&cache);
}

#[test]
fn a_tag_that_is_invalidated_during_the_load_keeps_out_what_has_it() {
    let cache = Numbers::new(10);
    let found = cache.get_many_or_insert_with(&[1, 2], |_| {
        cache.invalidate_tag("x");
        [(1, Loaded::new(10).tag("x")), (2, Loaded::new(20).tag("y"))]
    });
    assert_eq!(found, [Some(10), Some(20)], "who called before it gets it");
    assert_eq!(cache.get_many(&[1, 2]), [None, Some(20)]);
    assert_eq!(cache.stats().discarded_loads, 1);
    assert_settled(&cache);
}

#[test]
fn a_loader_of_several_keys_is_shown_no_old_value_that_could_still_hold() {
    let cache = Numbers::new(10);
    let sentence = panic_of(|| {
        cache.get_many_or_insert_with(&[1, 2], |_| [(1, Loaded::not_modified()), (2, 20.into())])
    });
    assert!(sentence.contains("not modified"), "{sentence}");
    assert_eq!(
        cache.get_or_insert_with(&1, || 10),
        10,
        "nobody waits for it"
    );
    assert_settled(&cache);
}

#[test]
fn what_the_loader_does_not_bring_is_remembered_as_absent() {
    let (cache, _) = timed(|builder| builder.max_entries(10).negative_ttl(HOUR));
    assert_eq!(
        cache.get_many_or_insert_with(&[1, 2], |_| [(1, 1)]),
        [Some(1), None]
    );
    assert_eq!(cache.get_or_find_with(&2, || Some(2)), None);
    let again = cache.get_many_or_insert_with(&[1, 2], |_| -> [(u32, u32); 0] {
        unreachable!("it is known")
    });
    assert_eq!(again, [Some(1), None]);
    assert_settled(&cache);
}

#[test]
fn keys_that_others_are_loading_are_waited_for() {
    let cache = Numbers::new(10);
    let gate = Gate::default();
    let mut single = pin!(cache.get_or_load(&2, || async {
        gate.pass().await;
        200
    }));
    assert!(poll_once(single.as_mut()).is_pending());
    let mut many = pin!(cache.get_many_or_load(&[1, 2], async |missing: Vec<u32>| {
        assert_eq!(missing, [1]);
        doubled(&missing)
    }));
    assert!(poll_once(many.as_mut()).is_pending());
    assert_eq!(
        cache.get(&1),
        Some(2),
        "its own keys are there before it waits"
    );
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            cache.get_many_or_insert_with(&[2, 1], |_| -> [(u32, u32); 0] { unreachable!() })
        });
        super::until_waiting(&cache, 2);
        gate.open();
        assert!(poll_once(single.as_mut()).is_ready());
        assert_eq!(thread.join().unwrap(), [Some(200), Some(2)]);
    });
    assert_eq!(
        poll_once(many.as_mut()),
        Poll::Ready(vec![Some(2), Some(200)])
    );
    assert_settled(&cache);
}

#[test]
fn what_another_leader_leaves_undone_is_loaded_with_a_second_call() {
    let cache = Numbers::new(10);
    let mut single = Box::pin(cache.get_or_load(&2, pending));
    assert!(poll_once(single.as_mut()).is_pending());
    let mut calls = Vec::new();
    let mut many = Box::pin(cache.get_many_or_load(&[1, 2], |missing: Vec<u32>| {
        calls.push(missing.clone());
        async move { doubled(&missing) }
    }));
    assert!(poll_once(many.as_mut()).is_pending());
    drop(single);
    assert_eq!(
        poll_once(many.as_mut()),
        Poll::Ready(vec![Some(2), Some(4)])
    );
    drop(many);
    assert_eq!(calls, [[1], [2]]);
    assert_settled(&cache);
}

#[test]
fn what_takes_others_too_long_is_loaded_by_the_caller() {
    let (cache, time) = timed(|builder| builder.max_entries(10).lock_timeout(SECOND));
    let mut single = pin!(cache.get_or_load(&2, pending));
    assert!(poll_once(single.as_mut()).is_pending());
    let load = async |missing: Vec<u32>| doubled(&missing);
    let mut many = pin!(cache.get_many_or_load(&[1, 2], load));
    assert!(poll_once(many.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(many), Poll::Ready(vec![Some(2), Some(4)]));
    // This thread polls the other leader, so it must not be blocked.
    let mut third = pin!(cache.get_or_load(&3, pending));
    assert!(poll_once(third.as_mut()).is_pending());
    let alone = cache.get_many_or_insert_with(&[2, 3], |missing| doubled(&missing));
    assert_eq!(alone, [Some(4), Some(6)]);
    assert_eq!(cache.get(&3), None);
}

#[test]
fn all_the_waits_of_a_call_together_take_no_longer_than_the_time_out() {
    let (cache, time) = timed(|builder| builder.max_entries(10).lock_timeout(SECOND));
    let keys = [1, 2, 3];
    let mut others = keys
        .each_ref()
        .map(|key| Box::pin(cache.get_or_load(key, pending)));
    for other in &mut others {
        assert!(poll_once(other.as_mut()).is_pending());
    }
    let load = async |missing: Vec<u32>| doubled(&missing);
    let mut many = pin!(cache.get_many_or_load(&keys, load));
    assert!(poll_once(many.as_mut()).is_pending());
    time.advance(SECOND);
    let found = [Some(2), Some(4), Some(6)];
    assert_eq!(poll_once(many), Poll::Ready(found.to_vec()));
}

#[test]
fn an_error_goes_to_all_who_wait_for_one_of_the_keys() {
    let cache = Numbers::new(10);
    let gate = Gate::default();
    let fails = async |_| {
        gate.pass().await;
        Err::<Vec<(u32, u32)>, _>("down")
    };
    let mut many = pin!(cache.try_get_many_or_load(&[1, 2], fails));
    assert!(poll_once(many.as_mut()).is_pending());
    let mut single = pin!(cache.try_get_or_load(&2, async || Ok::<u32, &str>(1)));
    assert!(poll_once(single.as_mut()).is_pending());
    gate.open();
    let is_down =
        |error: &LoadError<&str>| matches!(error, LoadError::Failed(error) if **error == "down");
    assert!(matches!(poll_once(many), Poll::Ready(Err(error)) if is_down(&error)));
    assert!(matches!(poll_once(single), Poll::Ready(Err(error)) if is_down(&error)));
    assert_eq!(cache.len(), 0);
    assert_settled(&cache);
}

#[test]
fn values_that_were_overtaken_are_given_out_and_not_stored() {
    let cache = Numbers::new(10);
    let found = cache.get_many_or_insert_with(&[1, 2, 3], |missing| {
        cache.insert(1, 100);
        cache.remove(&2);
        doubled(&missing)
    });
    assert_eq!(found, [Some(2), Some(4), Some(6)]);
    assert_eq!(cache.get_many(&[1, 2, 3]), [Some(100), None, Some(6)]);
    assert_eq!(cache.stats().discarded_loads, 2);
    assert_settled(&cache);
}

#[test]
fn a_loader_of_many_that_panics_leaves_nothing_behind() {
    let cache = Numbers::new(10);
    let fails = |_| -> [(u32, u32); 0] { panic!("no source") };
    assert_eq!(
        panic_of(|| cache.get_many_or_insert_with(&[1, 2], fails)),
        "no source"
    );
    let brings = |missing: Vec<u32>| missing.into_iter().map(|key| (key, 10 / (key - 1)));
    assert!(panic_of(|| cache.get_many_or_insert_with(&[1, 2], brings)).contains("divide"));
    assert_settled(&cache);
}

#[test]
fn a_loader_of_many_that_asks_for_one_of_them_is_told_so() {
    let cache = Numbers::new(10);
    let asks = |missing: Vec<u32>| {
        let inner = cache.try_get_or_insert_with(&missing[1], || Ok::<u32, ()>(1));
        assert!(matches!(inner, Err(LoadError::Reentrant)));
        doubled(&missing)
    };
    assert_eq!(
        cache.get_many_or_insert_with(&[1, 2], asks),
        [Some(2), Some(4)]
    );
    assert_settled(&cache);
}

#[test]
fn thousands_of_keys_come_with_one_call() {
    let cache: Cache<u32, u32> = Cache::unbounded();
    let keys: Vec<u32> = (0..20_000).collect();
    let found = cache.get_many_or_insert_with(&keys, |missing| doubled(&missing));
    assert!(
        found
            .iter()
            .zip(&keys)
            .all(|(found, key)| *found == Some(key * 2))
    );
    assert_eq!((cache.stats().loads, cache.len()), (1, 20_000));
    assert_settled(&cache);
}

#[test]
fn calls_for_the_same_keys_in_any_order_do_not_wait_for_each_other_for_ever() {
    let cache: Cache<u32, u32> = Cache::unbounded();
    thread::scope(|scope| {
        for number in 0..8u32 {
            let cache = &cache;
            scope.spawn(move || {
                let mut keys: Vec<u32> = (0..500).collect();
                keys.rotate_left(number as usize * 60);
                if number % 2 == 0 {
                    keys.reverse();
                }
                let found = cache.get_many_or_insert_with(&keys, |missing| doubled(&missing));
                assert!(
                    found
                        .iter()
                        .zip(&keys)
                        .all(|(found, key)| *found == Some(key * 2))
                );
            });
        }
    });
    assert_eq!(cache.stats().inserts, 500, "one load for each key");
    assert_settled(&cache);
}

fn fresh(freshness: Freshness, ttl: Duration) -> (Numbers, MockClock) {
    timed(|builder: CacheBuilder<u32, u32>| {
        let builder = builder.max_entries(10).time_to_live(ttl);
        builder.freshness(freshness)
    })
}

/// Nothing but a failure, of the type of these tests.
fn down(_: Vec<u32>) -> Result<Vec<(u32, u32)>, &'static str> {
    Err("down")
}

#[test]
fn what_is_stale_is_served_when_the_loader_of_several_keys_fails() {
    let freshness = Freshness::new().stale_if_error(HOUR).retry_after(SECOND);
    let (cache, time) = fresh(freshness, SECOND);
    cache.get_many_or_insert_with(&[1, 2], |missing| doubled(&missing));
    time.advance(2 * SECOND);
    assert_eq!(cache.get(&1), None, "it is there for who loads only");
    let found = cache.try_get_many_or_insert_with(&[1, 2], down);
    assert_eq!(found, Ok(vec![Some(2), Some(4)]));
    let found = block_on(
        cache.try_get_many_or_load(&[2, 1], async |_| -> Result<[(u32, u32); 0], &str> {
            unreachable!("the source has a rest")
        }),
    );
    assert_eq!(found, Ok(vec![Some(4), Some(2)]));
    assert_eq!(cache.stats().stale_served, 4);
    time.advance(SECOND);
    let found = block_on(cache.try_get_many_or_load(&[1, 3], async |missing| down(missing)));
    assert_eq!(
        found,
        Err(LoadError::Failed("down".into())),
        "nothing is known of 3"
    );
    let stats = cache.stats();
    assert_eq!((stats.stale_served, stats.load_failures), (4, 2));
    time.advance(SECOND);
    let found = cache.get_many_or_insert_with(&[1, 2], |missing| {
        assert_eq!(missing, [1, 2]);
        [(1, 10)]
    });
    assert_eq!(found, [Some(10), None], "the source has no 2 any more");
    assert_eq!(
        cache.try_get_many_or_insert_with(&[2], down).unwrap_err(),
        LoadError::Failed("down".into())
    );
    assert_settled(&cache);
}

#[test]
fn what_panics_behind_a_loader_of_several_keys_does_so_once_in_each_pause() {
    let freshness = Freshness::new().stale_if_error(HOUR).retry_after(SECOND);
    let (cache, time) = fresh(freshness, SECOND);
    cache.get_many_or_insert_with(&[1, 2], |missing| doubled(&missing));
    time.advance(2 * SECOND);
    let unchanged = |missing: Vec<u32>| {
        let unchanged = |key| (key, Loaded::<u32>::not_modified());
        missing.into_iter().map(unchanged).collect::<Vec<_>>()
    };
    panic_of(|| cache.get_many_or_insert_with(&[1, 2], unchanged));
    let none = |_| -> [(u32, u32); 0] { unreachable!("the source has a rest") };
    let found = cache.get_many_or_insert_with(&[1, 2], none);
    assert_eq!(found, [Some(2), Some(4)]);
    assert_settled(&cache);
}

#[test]
fn what_panics_for_a_key_that_is_loaded_alone_rests_for_those_that_come_after_it() {
    let freshness = Freshness::new().stale_if_error(HOUR).retry_after(SECOND);
    let (cache, time) = fresh(freshness, SECOND);
    cache.insert(1, 2);
    time.advance(2 * SECOND);
    // Polled by this thread, which would never come back to it.
    let mut hangs = Box::pin(cache.get_or_load(&9, pending::<u32>));
    let mut gone = Box::pin(cache.get_or_load(&1, pending::<u32>));
    assert!(poll_once(hangs.as_mut()).is_pending());
    assert!(poll_once(gone.as_mut()).is_pending());
    let (mut gone, mut calls) = (Some(gone), Vec::new());
    let sentence = panic_of(|| {
        cache.get_many_or_insert_with(&[9, 1, 3], |missing| {
            gone.take();
            let brought = missing.clone().into_iter().map(|key| match key {
                3 => (3, Loaded::new(6)),
                _ => (key, Loaded::not_modified()),
            });
            calls.push(missing);
            brought
        })
    });
    assert!(sentence.contains("not modified"), "{sentence}");
    assert_eq!(calls, [vec![3], vec![9, 1]]);
    let none = |_| -> [(u32, u32); 0] { unreachable!("the source has a rest") };
    assert_eq!(cache.get_many_or_insert_with(&[1], none), [Some(2)]);
    drop(hangs);
    assert_settled(&cache);
}

#[test]
fn a_key_that_cannot_be_hashed_is_a_panic_behind_the_loader_that_brings_it() {
    #[derive(Clone, PartialEq, Eq)]
    struct Odd(u32);
    impl Hash for Odd {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(self.0 != 13, "no hash");
            self.0.hash(state);
        }
    }
    let freshness = Freshness::new().stale_if_error(HOUR).retry_after(SECOND);
    let (cache, time) = timed(|builder: CacheBuilder<Odd, u32>| {
        let builder = builder.max_entries(10).time_to_live(SECOND);
        builder.freshness(freshness)
    });
    cache.insert(Odd(1), 2);
    time.advance(2 * SECOND);
    let load = |_| [(Odd(13), 26)];
    let said = panic_of(|| cache.get_many_or_insert_with(&[Odd(1)], load));
    assert_eq!(said, "no hash");
    let none = |_| -> [(Odd, u32); 0] { unreachable!("the source has a rest") };
    assert_eq!(cache.get_many_or_insert_with(&[Odd(1)], none), [Some(2)]);
}

#[test]
fn what_is_due_is_loaded_with_what_is_missing_and_others_go_on_with_it() {
    let freshness = Freshness::new().refresh_after(SECOND);
    let (cache, time) = fresh(freshness, 10 * SECOND);
    cache.get_many_or_insert_with(&[1, 2], |missing| doubled(&missing));
    time.advance(2 * SECOND);
    cache.insert(3, 6);
    let gate = Gate::default();
    let mut many = pin!(
        cache.get_many_or_load(&[1, 3, 4], async |missing: Vec<u32>| {
            assert_eq!(missing, [1, 4]);
            gate.pass().await;
            [(1, 10), (4, 40)]
        })
    );
    assert!(poll_once(many.as_mut()).is_pending());
    let none = |_| -> [(u32, u32); 0] { unreachable!("one load is enough") };
    assert_eq!(
        cache.get_many_or_insert_with(&[1, 3], none),
        [Some(2), Some(6)]
    );
    gate.open();
    assert_eq!(
        poll_once(many),
        Poll::Ready(vec![Some(10), Some(6), Some(40)])
    );
    assert_eq!(cache.stats().refreshes, 1);
    let found = cache.try_get_many_or_insert_with(&[1, 2], down);
    assert_eq!(found, Ok(vec![Some(10), Some(4)]), "2 is due, and lives");
    assert_eq!(cache.stats().stale_served, 0);
    assert_settled(&cache);
}

#[test]
fn a_load_of_several_keys_that_takes_too_long_has_failed() {
    let freshness = Freshness::new().stale_if_error(HOUR).hard_timeout(SECOND);
    let (cache, time) = fresh(freshness, SECOND);
    type Never = std::future::Pending<Result<[(u32, u32); 1], &'static str>>;
    let hangs = |_: Vec<u32>| -> Never { pending() };
    let ends = |keys: &[u32]| {
        let (mut leads, mut waits) = (
            pin!(cache.try_get_many_or_load(keys, hangs)),
            pin!(cache.try_get_many_or_load(keys, hangs)),
        );
        assert!(poll_once(leads.as_mut()).is_pending() && poll_once(waits.as_mut()).is_pending());
        time.advance(SECOND);
        let Poll::Ready(led) = poll_once(leads) else {
            panic!("its time is over")
        };
        let Poll::Ready(waited) = poll_once(waits) else {
            panic!("its time is over")
        };
        assert_eq!(led, waited);
        led
    };
    assert_eq!(ends(&[1, 2]), Err(LoadError::TimedOut));
    cache.get_many_or_insert_with(&[1, 2], |missing| doubled(&missing));
    time.advance(2 * SECOND);
    assert_eq!(ends(&[1, 2]), Ok(vec![Some(2), Some(4)]));
    assert_settled(&cache);
}
