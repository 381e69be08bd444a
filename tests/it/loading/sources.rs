//! Where an answer has come from, as its caller is told.

use super::{
    Gate, Numbers, assert_settled, block_on, poll_once, pool, spawning, until_settled,
    until_waiting,
};
use crate::common::{SECOND, timed};
use haybox::{Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock, Source};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::task::Poll;
use std::thread;

/// Entries live for ten seconds, and there is no value for odd keys.
fn with(freshness: Freshness) -> (Numbers, MockClock) {
    timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .max_entries(100)
            .time_to_live(SECOND * 10)
            .negative_ttl(SECOND)
            .freshness(freshness)
    })
}

type Brought = Result<Option<u32>, &'static str>;

/// A row, none, or an error while it is down.
fn row(key: u32, is_down: &AtomicBool) -> Brought {
    if is_down.load(SeqCst) {
        return Err("down");
    }
    Ok(key.is_multiple_of(2).then_some(key * 10))
}

/// The same question, asked in each of the four ways.
struct Ways {
    cache: Numbers,
    time: MockClock,
    is_down: Arc<AtomicBool>,
    ask: Box<dyn Fn(u32) -> Result<(Option<u32>, Source), LoadError<&'static str>>>,
}

/// Each kind of handle over a cache of its own.
fn in_all_ways(freshness: &Freshness) -> [Ways; 4] {
    std::array::from_fn(|kind| {
        let (cache, time) = with(freshness.clone());
        let is_down = Arc::<AtomicBool>::default();
        let down = Arc::clone(&is_down);
        let rows = move |keys: Vec<u32>| -> Result<Vec<(u32, u32)>, &'static str> {
            let row = |key| Some(row(key, &down).transpose()?.map(|row| (key, row)));
            keys.into_iter().filter_map(row).collect()
        };
        let down = Arc::clone(&is_down);
        let ask: Box<dyn Fn(u32) -> _> = match kind {
            0 => {
                let handle = cache.read_through(move |key| row(*key, &down));
                Box::new(move |key| handle.get_with_source(&key))
            }
            1 => {
                let handle = cache.read_through_async(move |key| {
                    let down = Arc::clone(&down);
                    async move { row(key, &down) }
                });
                Box::new(move |key| block_on(handle.get_with_source(&key)))
            }
            2 => {
                let handle = cache.read_through_many(rows);
                Box::new(move |key| handle.get_with_source(&key))
            }
            _ => {
                let rows = Arc::new(rows);
                let handle = cache.read_through_many_async(move |keys| {
                    let rows = Arc::clone(&rows);
                    async move { rows(keys) }
                });
                Box::new(move |key| block_on(handle.get_with_source(&key)))
            }
        };
        Ways {
            cache,
            time,
            is_down,
            ask,
        }
    })
}

#[test]
fn what_was_missing_is_loaded_and_then_a_hit() {
    for freshness in [Freshness::new(), Freshness::new().refresh_at(0.9)] {
        for Ways { cache, ask, .. } in in_all_ways(&freshness) {
            assert_eq!(ask(2), Ok((Some(20), Source::Loaded)));
            assert_eq!(ask(2), Ok((Some(20), Source::Hit)));
            assert_eq!(ask(1), Ok((None, Source::Loaded)));
            assert_eq!(ask(1), Ok((None, Source::Hit)), "that is remembered");
            assert_settled(&cache);
        }
    }
}

#[test]
fn the_short_way_through_a_load_says_so_too() {
    let cache: Numbers = Cache::new(100);
    let doubled = cache.read_through(|key| Ok::<_, ()>(key * 2));
    for key in 1..10 {
        let answer = |source| Ok((Some(key * 2), source));
        assert_eq!(doubled.get_with_source(&key), answer(Source::Loaded));
        assert_eq!(doubled.get_with_source(&key), answer(Source::Hit));
    }
}

#[test]
fn what_is_served_after_its_time_is_stale() {
    let freshness = Freshness::new()
        .stale_if_error(SECOND * 100)
        .retry_after(SECOND * 5);
    for way in in_all_ways(&freshness) {
        let Ways { time, ask, .. } = &way;
        assert_eq!(ask(2), Ok((Some(20), Source::Loaded)));
        time.advance(SECOND * 10);
        way.is_down.store(true, SeqCst);
        assert_eq!(ask(2), Ok((Some(20), Source::Stale)), "its load has failed");
        assert_eq!(ask(2), Ok((Some(20), Source::Stale)), "none is tried");
        assert_eq!(ask(1), Err(LoadError::Failed(Arc::new("down"))));
        way.is_down.store(false, SeqCst);
        assert_eq!(ask(2), Ok((Some(20), Source::Stale)), "it still rests");
        time.advance(SECOND * 5);
        assert_eq!(ask(2), Ok((Some(20), Source::Loaded)));
        assert_settled(&way.cache);
    }
}

#[test]
fn a_value_that_is_due_is_a_hit_though_its_load_fails() {
    let _pool = pool();
    let freshness = Freshness::new().refresh_after(SECOND);
    for (kind, way) in in_all_ways(&freshness).into_iter().enumerate() {
        let Ways { time, ask, .. } = &way;
        assert_eq!(ask(2), Ok((Some(20), Source::Loaded)));
        time.advance(SECOND);
        way.is_down.store(true, SeqCst);
        assert_eq!(ask(2), Ok((Some(20), Source::Hit)));
        until_settled(&way.cache);
        way.is_down.store(false, SeqCst);
        time.advance(SECOND);
        // A task without a spawner loads what is due by itself.
        let source = [Source::Hit, Source::Loaded][kind % 2];
        assert_eq!(ask(2), Ok((Some(20), source)));
        until_settled(&way.cache);
        assert_eq!(ask(2), Ok((Some(20), Source::Hit)));
    }
}

#[test]
fn a_thread_that_waits_for_the_load_of_another_has_joined_it() {
    let (cache, _) = with(Freshness::new());
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let rows = cache.read_through(move |key| {
        may_go_on.lock().unwrap().recv().unwrap();
        row(*key, &AtomicBool::new(false))
    });
    for (waits, key, answer) in [(1, 2, Some(20)), (2, 1, None)] {
        thread::scope(|scope| {
            let leader = scope.spawn(|| rows.get_with_source(&key));
            while cache.loads_under_way() == 0 {
                thread::yield_now();
            }
            let other = scope.spawn(|| rows.get_with_source(&key));
            until_waiting(&cache, waits);
            go_on.send(()).unwrap();
            assert_eq!(leader.join().unwrap(), Ok((answer, Source::Loaded)));
            assert_eq!(other.join().unwrap(), Ok((answer, Source::Joined)));
        });
    }
    assert_settled(&cache);
}

#[test]
fn a_task_whose_load_runs_elsewhere_has_loaded_and_the_others_have_joined() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let gate = Gate::default();
    let of_loader = gate.clone();
    let rows = cache.read_through_async(move |key: u32| {
        let gate = of_loader.clone();
        async move {
            gate.pass().await;
            Ok::<_, ()>(key)
        }
    });
    let mut first = pin!(rows.get_with_source(&1));
    let mut second = pin!(rows.get_with_source(&1));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    gate.open();
    spawned.run();
    assert_eq!(
        poll_once(second),
        Poll::Ready(Ok((Some(1), Source::Joined)))
    );
    assert_eq!(poll_once(first), Poll::Ready(Ok((Some(1), Source::Loaded))));
    assert_settled(&cache);
}

#[test]
fn who_gives_up_a_load_and_loads_alone_has_loaded() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| builder.lock_timeout(SECOND));
    let gate = Gate::default();
    let mut stuck = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        1
    }));
    assert!(poll_once(stuck.as_mut()).is_pending());
    let rows = cache.read_through_async(|key: u32| async move { Ok::<_, ()>(key + 1) });
    let mut alone = pin!(rows.get_with_source(&1));
    assert!(poll_once(alone.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(alone), Poll::Ready(Ok((Some(2), Source::Loaded))));
}

#[test]
fn what_still_holds_was_loaded() {
    let (cache, time) = with(Freshness::new().stale_if_error(SECOND * 100));
    let rows = cache.read_through_revalidating(|_, old| {
        Ok::<_, ()>(old.map_or(Loaded::new(1), |_| Loaded::not_modified()))
    });
    assert_eq!(rows.get_with_source(&1), Ok((Some(1), Source::Loaded)));
    time.advance(SECOND * 10);
    assert_eq!(rows.get_with_source(&1), Ok((Some(1), Source::Loaded)));
    assert_eq!(rows.get_with_source(&1), Ok((Some(1), Source::Hit)));
}

#[test]
fn a_source_is_written_in_lower_case() {
    let all = [Source::Hit, Source::Stale, Source::Loaded, Source::Joined];
    let written = all.map(|source| format!("{source:>6}"));
    assert_eq!(written, ["   hit", " stale", "loaded", "joined"]);
}
