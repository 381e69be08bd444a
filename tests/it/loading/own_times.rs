//! How fresh a value is to be kept, as its loader says of it.

use super::{Numbers, Spawned, assert_settled, block_on, pool, spawning, until_settled};
use crate::common::{HOUR, SECOND, timed};
use haybox::{Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock, ReadThrough, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

const NANOSECOND: Duration = Duration::from_nanos(1);

/// Nothing is said of freshness but by loaders. Entries live for ten seconds.
fn plain() -> (Numbers, MockClock) {
    timed(|builder: CacheBuilder<u32, u32>| builder.max_entries(100).time_to_live(SECOND * 10))
}

fn with(freshness: Freshness) -> (Numbers, MockClock) {
    timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .max_entries(100)
            .time_to_live(SECOND * 10)
            .freshness(freshness)
    })
}

/// What is loaded: a number that counts the loads, or an error while it is down.
#[derive(Default)]
struct Origin {
    loads: AtomicU32,
    is_down: AtomicBool,
}

impl Origin {
    fn ask(&self) -> Result<Loaded<u32>, &'static str> {
        if self.is_down.load(SeqCst) {
            return Err("down");
        }
        Ok(Loaded::new(self.loads.fetch_add(1, SeqCst) + 1))
    }
}

type Rows = ReadThrough<u32, u32, &'static str>;

/// A loader of numbers of which `say` says more.
fn rows(
    cache: &Numbers,
    say: impl Fn(Loaded<u32>) -> Loaded<u32> + Send + Sync + 'static,
) -> (Rows, Arc<Origin>) {
    let origin = Arc::<Origin>::default();
    let asked = Arc::clone(&origin);
    (cache.read_through(move |_| asked.ask().map(&say)), origin)
}

#[track_caller]
fn assert_answer(rows: &Rows, value: u32, source: Source) {
    assert_eq!(rows.get_with_source(&1), Ok((Some(value), source)));
    until_settled(rows.cache());
}

#[test]
fn a_value_is_due_when_its_loader_says_so() {
    let _pool = pool();
    let caches = [
        plain(),
        with(Freshness::new().stale_if_error(SECOND)),
        with(Freshness::new().refresh_after(SECOND)),
        with(Freshness::new().refresh_after(SECOND * 9)),
        with(Freshness::new().refresh_at(0.1).jitter(1.0)),
    ];
    for (cache, time) in caches {
        let (rows, _) = rows(&cache, |loaded| loaded.refresh_after(SECOND * 4));
        let of_call = Freshness::new().refresh_after(NANOSECOND);
        let of_call = rows.with_freshness(of_call).unwrap();
        assert_answer(&rows, 1, Source::Loaded);
        time.advance(SECOND * 4 - NANOSECOND);
        assert_answer(&rows, 1, Source::Hit);
        assert_answer(&of_call, 1, Source::Hit);
        assert_eq!(cache.stats().refreshes, 0);
        time.advance(NANOSECOND);
        assert_answer(&rows, 1, Source::Hit);
        assert_eq!(cache.stats().refreshes, 1);
        assert_answer(&rows, 2, Source::Hit);
        time.advance(SECOND * 10);
        assert_answer(&rows, 3, Source::Loaded);
        assert_settled(&cache);
    }
}

#[test]
fn a_value_that_is_always_due_is_loaded_behind_each_call() {
    let _pool = pool();
    let (cache, time) = plain();
    let (rows, _) = rows(&cache, |loaded| loaded.refresh_after(Duration::ZERO));
    assert_answer(&rows, 1, Source::Loaded);
    for value in 1..5 {
        assert_answer(&rows, value, Source::Hit);
    }
    time.advance(SECOND * 10);
    assert_answer(&rows, 6, Source::Loaded);
    assert_settled(&cache);
}

#[test]
fn all_loading_calls_go_by_it_and_no_other() {
    let (cache, time) = plain();
    let say = |value| Loaded::new(value).refresh_after(SECOND);
    let many = |value| {
        move |keys: Vec<u32>| Ok::<_, ()>(keys.into_iter().map(move |key| (key, say(value))))
    };
    assert_eq!(
        cache.try_get_many_or_insert_with(&[1], many(1)),
        Ok(vec![Some(1)])
    );
    time.advance(SECOND);
    assert_eq!(
        (cache.get(&1), cache.get_many(&[1])),
        (Some(1), vec![Some(1)])
    );
    assert_eq!(
        cache.try_get_many_or_insert_with(&[1], many(2)),
        Ok(vec![Some(2)])
    );
    time.advance(SECOND);
    assert_eq!(cache.get_or_insert_with(&1, || 3), 3);
    // That loader has said nothing of it.
    time.advance(SECOND * 9);
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!()), 3);
    time.advance(SECOND);
    let rows = cache.read_through_async(move |_: u32| async move { Ok::<_, ()>(say(4)) });
    assert_eq!(
        block_on(rows.get_with_source(&1)),
        Ok((Some(4), Source::Loaded))
    );
    time.advance(SECOND);
    assert_eq!(block_on(cache.get_or_load(&1, || async { 5 })), 5);
    assert_eq!(cache.stats().refreshes, 3);
    assert_settled(&cache);
}

#[test]
fn a_write_takes_it_off() {
    let (cache, time) = plain();
    let (rows, origin) = rows(&cache, |loaded| {
        loaded.refresh_after(SECOND).stale_if_error(HOUR)
    });
    assert_answer(&rows, 1, Source::Loaded);
    cache.insert(1, 7);
    time.advance(SECOND * 9);
    assert_answer(&rows, 7, Source::Hit);
    origin.is_down.store(true, SeqCst);
    time.advance(SECOND);
    assert!(rows.get(&1).is_err());
    assert_settled(&cache);
}

#[test]
fn a_value_is_kept_for_as_long_as_its_loader_says() {
    for freshness in [
        None,
        Some(Freshness::new().refresh_at(0.5)),
        Some(Freshness::new().stale_if_error(SECOND)),
        Some(Freshness::new().stale_if_error(HOUR * 9)),
    ] {
        let (cache, time) = freshness.map_or_else(plain, with);
        let (rows, origin) = rows(&cache, |loaded| loaded.stale_if_error(HOUR));
        assert_answer(&rows, 1, Source::Loaded);
        origin.is_down.store(true, SeqCst);
        time.advance(SECOND * 10 + HOUR - NANOSECOND);
        cache.sweep();
        assert_eq!((cache.len(), cache.get(&1)), (1, None));
        assert_answer(&rows, 1, Source::Stale);
        time.advance(NANOSECOND);
        assert_eq!(rows.get(&1), Err(LoadError::Failed(Arc::new("down"))));
        cache.sweep();
        assert_eq!(cache.len(), 0);
        assert_settled(&cache);
    }
}

#[test]
fn a_value_that_must_not_be_served_stale_is_not_kept() {
    let (cache, time) = with(Freshness::new().stale_if_error(HOUR));
    let (rows, origin) = rows(&cache, |loaded| loaded.stale_if_error(Duration::ZERO));
    assert_answer(&rows, 1, Source::Loaded);
    origin.is_down.store(true, SeqCst);
    time.advance(SECOND * 10);
    assert!(rows.get(&1).is_err());
    cache.sweep();
    assert_eq!(cache.len(), 0);
    assert_settled(&cache);
}

#[test]
fn what_a_load_that_fails_leaves_rests_all_the_same() {
    let _pool = pool();
    let (cache, time) = plain();
    let (rows, origin) = rows(&cache, |loaded| loaded.refresh_after(SECOND));
    assert_answer(&rows, 1, Source::Loaded);
    origin.is_down.store(true, SeqCst);
    time.advance(SECOND * 2);
    assert_answer(&rows, 1, Source::Hit);
    origin.is_down.store(false, SeqCst);
    let second = Freshness::new();
    assert_answer(&rows.with_freshness(second).unwrap(), 1, Source::Hit);
    assert_eq!(cache.stats().refreshes, 1, "none is tried for a second");
    time.advance(SECOND);
    assert_answer(&rows, 1, Source::Hit);
    assert_answer(&rows, 2, Source::Hit);
    assert_eq!(cache.stats().refreshes, 2);
    assert_settled(&cache);
}

#[test]
fn what_still_holds_is_told_anew_how_long() {
    let (cache, time) = plain();
    let loads = AtomicU32::new(0);
    let rows = cache.read_through_revalidating(move |_, old| {
        let load = loads.fetch_add(1, SeqCst);
        let loaded = old.map_or(Loaded::new(5), |_| Loaded::not_modified());
        match load {
            0 => Ok(loaded.stale_if_error(HOUR)),
            1 => Ok(loaded.stale_if_error(HOUR * 2)),
            2 => Ok(loaded),
            _ => Err("down"),
        }
    });
    assert_answer(&rows, 5, Source::Loaded);
    time.advance(SECOND * 10 + HOUR - NANOSECOND);
    assert_answer(&rows, 5, Source::Loaded);
    time.advance(SECOND * 10 + HOUR * 2 - NANOSECOND);
    assert_answer(&rows, 5, Source::Loaded);
    time.advance(SECOND * 10);
    assert!(rows.get(&1).is_err(), "the last answer has said nothing");
    assert_settled(&cache);
}

#[test]
fn a_value_may_be_kept_and_asked_for_each_time() {
    for holds in [false, true] {
        let (cache, time) = plain();
        let origin = Arc::<Origin>::default();
        let asked = Arc::clone(&origin);
        let rows = cache.read_through_revalidating(move |_, old| {
            let new = asked.ask()?;
            let loaded = match old {
                Some(_) if holds => Loaded::not_modified(),
                _ => new,
            };
            Ok(loaded.ttl(Duration::ZERO).stale_if_error(HOUR))
        });
        let moment = Duration::from_micros(2);
        for load in 1..4 {
            assert_answer(&rows, if holds { 1 } else { load }, Source::Loaded);
            time.advance(moment);
            assert_eq!(cache.get(&1), None);
        }
        origin.is_down.store(true, SeqCst);
        assert_answer(&rows, if holds { 1 } else { 3 }, Source::Stale);
        time.advance(HOUR);
        assert!(rows.get(&1).is_err());
        assert_settled(&cache);
    }
}

#[test]
fn a_value_that_lives_for_less_than_the_clock_can_tell_is_kept_as_well() {
    for ttl in [0, 1, 999].map(Duration::from_nanos) {
        let (cache, time) = plain();
        time.advance(Duration::from_nanos(7_000));
        let (rows, origin) = rows(&cache, move |loaded| loaded.ttl(ttl).stale_if_error(HOUR));
        assert_answer(&rows, 1, Source::Loaded);
        time.advance(SECOND);
        origin.is_down.store(true, SeqCst);
        assert_answer(&rows, 1, Source::Stale);
        assert_settled(&cache);
    }
}

/// On the clock of the system, whose reading is never the same twice.
#[test]
fn an_answer_that_the_old_value_holds_removes_nothing_though_its_time_is_over_at_once() {
    let cache: Numbers = Cache::new(10);
    let rows = cache.read_through_revalidating(|_, old| {
        let loaded = old.map_or(Loaded::new(1), |_| Loaded::not_modified());
        Ok::<_, ()>(loaded.ttl(Duration::ZERO).stale_if_error(HOUR))
    });
    for _ in 0..2_000 {
        assert_eq!(rows.get(&1), Ok(Some(1)));
    }
    let stats = cache.stats();
    assert_eq!((stats.inserts, stats.updates, stats.expirations), (1, 0, 0));
    assert_settled(&cache);
}

#[test]
fn lists_and_tasks_go_by_it_too() {
    let _pool = pool();
    let (cache, time) = plain();
    let say = |key: u32| Loaded::new(key).refresh_after(SECOND * key);
    let rows = cache.read_through_many(move |keys: Vec<u32>| {
        Ok::<_, ()>(keys.into_iter().map(move |key| (key, say(key))))
    });
    let all = [1, 2, 3, 4];
    assert_eq!(rows.get_many(&all).unwrap(), all.map(Some));
    time.advance(SECOND * 2);
    assert_eq!(rows.get_many(&all).unwrap(), all.map(Some));
    until_settled(&cache);
    assert_eq!(cache.stats().refreshes, 2);
    assert_settled(&cache);

    let (cache, time, spawned) = spawning(Freshness::new());
    let rows = cache.read_through_async(move |key| async move { Ok::<_, ()>(say(key)) });
    let ask = |spawned: &Spawned| spawned.answer(rows.get_with_source(&1));
    assert_eq!(ask(&spawned), Ok((Some(1), Source::Loaded)));
    time.advance(SECOND);
    assert_eq!(ask(&spawned), Ok((Some(1), Source::Hit)));
    assert_eq!(spawned.len(), 1);
    spawned.run();
    assert_eq!(cache.stats().refreshes, 1);
    assert_settled(&cache);
}

#[test]
fn times_of_any_length_are_possible() {
    let _pool = pool();
    for longest in [Duration::ZERO, NANOSECOND, HOUR, Duration::MAX] {
        for age in [Duration::ZERO, NANOSECOND, HOUR, Duration::MAX] {
            let (cache, time) = plain();
            let (rows, _) = rows(&cache, move |loaded| {
                loaded
                    .ttl(SECOND)
                    .refresh_after(age)
                    .stale_if_error(longest)
            });
            assert_answer(&rows, 1, Source::Loaded);
            time.advance(NANOSECOND);
            assert_answer(&rows, 1, Source::Hit);
            assert_eq!(cache.stats().refreshes, u64::from(age <= NANOSECOND));
            time.advance(SECOND * 2);
            assert_eq!(rows.get_with_source(&1).unwrap().1, Source::Loaded);
            assert_settled(&cache);
        }
    }
}

#[test]
fn a_split_of_a_set_takes_it_along() {
    let (cache, time): (Cache<u32, u32>, _) = timed(|builder| builder);
    let rows = cache.read_through_async(|key: u32| async move {
        Ok::<_, ()>(Loaded::new(key).refresh_after(SECOND * (key % 2 + 1)))
    });
    for key in 0..2_000 {
        assert_eq!(block_on(rows.get(&key)), Ok(Some(key)));
    }
    time.advance(SECOND);
    let due = (0..2_000).filter(|key| {
        let (_, source) = block_on(rows.get_with_source(key)).unwrap();
        source == Source::Loaded
    });
    assert!(due.eq((0..2_000).step_by(2)));
    assert_settled(&cache);
}
