//! Values that are refreshed before their time is over, and served after it.

use super::{
    Gate, Numbers, Wakes, assert_settled, block_on, poll, poll_once, pool, spawning, until_settled,
    until_waiting,
};
use crate::common::{HOUR, SECOND, panic_of, timed};
use haybox::{
    Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock, ReadThrough, ReadThroughAsync,
};
use std::future::pending;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

/// What is loaded: a number that counts the loads, or an error while it is down.
#[derive(Default)]
struct Source {
    loads: AtomicU32,
    is_down: AtomicBool,
}

impl Source {
    fn ask(&self) -> Result<u32, &'static str> {
        let number = self.loads.fetch_add(1, SeqCst) + 1;
        if self.is_down.load(SeqCst) {
            return Err("down");
        }
        Ok(number)
    }

    fn loads(&self) -> u32 {
        self.loads.load(SeqCst)
    }
}

/// Entries live for ten seconds.
fn with(freshness: Freshness) -> (Numbers, MockClock, Arc<Source>) {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .max_entries(100)
            .time_to_live(SECOND * 10)
            .freshness(freshness)
    });
    (cache, time, Arc::default())
}

fn read_through(cache: &Numbers, source: &Arc<Source>) -> ReadThrough<u32, u32, &'static str> {
    let source = Arc::clone(source);
    cache.read_through(move |_| source.ask())
}

// ---- refreshing ----

#[test]
fn a_refresh_dropped_inside_a_closure_of_the_cache_is_made_anew() {
    let (cache, time, source) = with(Freshness::new().refresh_after(SECOND * 5));
    let load = || async { source.ask() };
    assert_eq!(block_on(cache.try_get_or_load(&1, load)), Ok(1));
    cache.insert(2, 2);
    time.advance(SECOND * 5);
    let stuck = || std::future::pending::<Result<u32, &str>>();
    let mut leader = Box::pin(cache.try_get_or_load(&1, stuck));
    assert!(poll_once(leader.as_mut()).is_pending(), "it refreshes");
    assert_eq!(
        block_on(cache.try_get_or_load(&1, load)),
        Ok(1),
        "the old one meanwhile"
    );
    cache.read(&2, |_| drop(leader));
    assert_eq!(block_on(cache.try_get_or_load(&1, load)), Ok(2));
    assert_settled(&cache);
}

#[test]
fn a_value_that_is_due_is_served_and_loaded_behind() {
    let _pool = pool();
    for freshness in [
        Freshness::new().refresh_after(SECOND * 5),
        Freshness::new().refresh_at(0.5),
    ] {
        let (cache, time, source) = with(freshness);
        let numbers = read_through(&cache, &source);
        assert_eq!(numbers.get(&1), Ok(Some(1)));
        time.advance(SECOND * 5 - Duration::from_nanos(1));
        assert_eq!(numbers.get(&1), Ok(Some(1)));
        assert_eq!(source.loads(), 1);
        time.advance(Duration::from_nanos(1));
        assert_eq!(numbers.get(&1), Ok(Some(1)), "the old one, at once");
        until_settled(&cache);
        assert_eq!(source.loads(), 2);
        time.advance(SECOND * 5 - Duration::from_nanos(1));
        assert_eq!(numbers.get(&1), Ok(Some(2)), "with a new TTL");
        assert_eq!(cache.stats().refreshes, 1);
        assert_settled(&cache);
    }
}

#[test]
fn while_a_value_is_refreshed_all_get_the_old_one() {
    let _pool = pool();
    let (cache, time, _) = with(Freshness::new().refresh_after(SECOND));
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (may_go_on, calls) = (Mutex::new(may_go_on), AtomicU32::new(0));
    let numbers = cache.read_through(move |_| {
        if calls.fetch_add(1, SeqCst) > 0 {
            may_go_on.lock().unwrap().recv().unwrap();
            return Ok::<u32, ()>(20);
        }
        Ok(10)
    });
    assert_eq!(numbers.get(&1).unwrap(), Some(10));
    time.advance(SECOND);
    for _ in 0..10 {
        assert_eq!(numbers.get(&1).unwrap(), Some(10));
        assert_eq!(cache.get_or_insert_with(&1, || unreachable!()), 10);
    }
    assert_eq!(cache.loads_under_way(), 1);
    go_on.send(()).unwrap();
    until_settled(&cache);
    assert_eq!(numbers.get(&1).unwrap(), Some(20));
    assert_settled(&cache);
}

#[test]
fn a_call_with_its_own_loader_refreshes_inside_itself() {
    let (cache, time, source) = with(Freshness::new().refresh_after(SECOND * 5));
    let load = || cache.try_get_or_insert_with(&1, || source.ask());
    assert_eq!(load().unwrap(), 1);
    time.advance(SECOND * 5);
    assert_eq!(load().unwrap(), 2);
    time.advance(SECOND * 5);
    let gate = Gate::default();
    let mut task = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        9
    }));
    assert!(poll_once(task.as_mut()).is_pending());
    assert_eq!(load().unwrap(), 2, "others get the old one meanwhile");
    gate.open();
    assert_eq!(poll_once(task), Poll::Ready(9));
    assert_eq!(load().unwrap(), 9);
    assert_settled(&cache);
}

#[test]
fn jitter_spreads_the_refreshes_of_values_that_were_written_together() {
    let (cache, time, source) = with(Freshness::new().refresh_at(0.8).jitter(0.5));
    let ask = || {
        for key in 0..50 {
            assert!(cache.try_get_or_insert_with(&key, || source.ask()).is_ok());
        }
        source.loads()
    };
    assert_eq!(ask(), 50);
    time.advance(SECOND * 4 - Duration::from_nanos(1));
    assert_eq!(ask(), 50, "half of the age is the most that it takes off");
    time.advance(SECOND * 2);
    let refreshed = ask();
    assert!((51..100).contains(&refreshed), "{refreshed} loads");
    // Those written again just now are not due again.
    time.advance(SECOND * 2);
    assert_eq!(ask(), 100, "all of the others");
    assert_settled(&cache);
}

#[test]
fn a_share_of_no_ttl_never_comes() {
    let freshness = Freshness::new().refresh_at(0.5);
    let (cache, time) = timed(|builder| builder.freshness(freshness));
    cache.insert(1, 1);
    time.advance(HOUR * 9_000);
    assert_eq!(cache.get_or_insert_with(&1, || 2), 1);
    assert_settled(&cache);
}

#[test]
fn a_refresh_that_fails_leaves_the_old_value_and_rests() {
    let freshness = Freshness::new()
        .refresh_after(SECOND)
        .retry_after(SECOND * 3);
    let (cache, time, source) = with(freshness);
    let load = || cache.try_get_or_insert_with(&1, || source.ask());
    assert_eq!(load().unwrap(), 1);
    source.is_down.store(true, SeqCst);
    time.advance(SECOND);
    for _ in 0..5 {
        assert_eq!(load().unwrap(), 1);
    }
    assert_eq!(source.loads(), 2);
    time.advance(SECOND * 3);
    assert_eq!(load().unwrap(), 1);
    assert_eq!(source.loads(), 3);
    time.advance(SECOND * 6);
    assert!(load().is_err(), "its TTL is over");
    assert_settled(&cache);
}

#[test]
fn a_refresh_that_an_invalidation_overtakes_is_not_stored() {
    let (cache, time, _) = with(Freshness::new().refresh_after(SECOND));
    cache.insert(1, 1);
    time.advance(SECOND);
    let gate = Gate::default();
    let mut refresh = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        2
    }));
    assert!(poll_once(refresh.as_mut()).is_pending());
    cache.invalidate(&1);
    let mut next = pin!(cache.get_or_load(&1, || async { 3 }));
    assert_eq!(poll_once(next.as_mut()), Poll::Ready(3));
    gate.open();
    assert_eq!(poll_once(refresh), Poll::Ready(2));
    assert_eq!(cache.get(&1), Some(3));
    // A TTL set by hand is not undone by a load that began before it.
    time.advance(SECOND);
    let gate = Gate::default();
    let mut refresh = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        4
    }));
    assert!(poll_once(refresh.as_mut()).is_pending());
    cache.expire(&1, HOUR);
    gate.open();
    assert_eq!(poll_once(refresh), Poll::Ready(4));
    time.advance(HOUR - SECOND);
    assert_eq!(cache.get(&1), Some(3));
    assert_settled(&cache);
}

#[test]
fn a_refresh_by_hand_loads_what_is_fresh() {
    let (cache, _, source) = with(Freshness::new());
    let numbers = read_through(&cache, &source);
    assert_eq!(numbers.get(&1), Ok(Some(1)));
    assert_eq!(numbers.refresh(&1), Ok(Some(2)));
    source.is_down.store(true, SeqCst);
    assert!(matches!(numbers.refresh(&1), Err(LoadError::Failed(_))));
    assert_eq!(numbers.get(&1), Ok(Some(2)), "the old one stays");
    assert_settled(&cache);
}

// ---- stale values ----

#[test]
fn a_stale_value_is_served_only_when_it_cannot_be_loaded() {
    let (cache, time, source) = with(Freshness::new().stale_if_error(SECOND * 5));
    let numbers = read_through(&cache, &source);
    assert_eq!(numbers.get(&1), Ok(Some(1)));
    time.advance(SECOND * 10);
    assert_eq!(
        numbers.get(&1),
        Ok(Some(2)),
        "it is loaded where that is possible"
    );
    source.is_down.store(true, SeqCst);
    time.advance(SECOND * 10);
    assert_eq!(numbers.get(&1), Ok(Some(2)));
    assert_eq!(cache.try_get_or_insert_with(&1, || source.ask()), Ok(2));
    assert_eq!(
        block_on(cache.try_get_or_load(&1, async || source.ask())),
        Ok(2)
    );
    assert_eq!(source.loads(), 3, "and it is not tried again for a second");
    assert_eq!(cache.stats().stale_served, 3);
    time.advance(SECOND * 5 - Duration::from_nanos(1));
    assert_eq!(numbers.get(&1), Ok(Some(2)));
    time.advance(Duration::from_nanos(1));
    assert!(numbers.get(&1).is_err(), "gone");
    source.is_down.store(false, SeqCst);
    assert_eq!(numbers.get(&1), Ok(Some(6)));
    assert_settled(&cache);
}

#[test]
fn a_stale_value_is_seen_by_nobody_else() {
    let (cache, time, source) = with(Freshness::new().stale_if_error(HOUR));
    read_through(&cache, &source).get(&1).unwrap();
    time.advance(SECOND * 10);
    cache.sweep();
    assert_eq!(
        (cache.get(&1), cache.peek(&1), cache.ttl(&1)),
        (None, None, None)
    );
    assert!(!cache.contains_key(&1) && !cache.touch(&1));
    assert_eq!((cache.iter().count(), cache.scan(0, 10).1.len()), (0, 0));
    assert_eq!(cache.random(), None);
    assert!(!cache.expire(&1, HOUR));
    assert_eq!(cache.len(), 1, "it takes up its room");
    time.advance(HOUR);
    cache.sweep();
    assert_eq!(cache.len(), 0);
    assert_settled(&cache);
}

#[test]
fn an_invalidated_value_is_never_served_stale() {
    let ways: [fn(&Numbers); 5] = [
        |cache| cache.invalidate(&1),
        |cache| drop(cache.remove(&1)),
        |cache| cache.clear(),
        |cache| cache.retain(|_, value| *value != 1),
        |cache| cache.invalidate_around([&1], || ()),
    ];
    for when in [0, 10] {
        for way in ways {
            let (cache, time, source) = with(Freshness::new().stale_if_error(HOUR));
            let numbers = read_through(&cache, &source);
            numbers.get(&1).unwrap();
            source.is_down.store(true, SeqCst);
            time.advance(SECOND * when);
            way(&cache);
            time.advance(SECOND * (10 - when));
            assert!(numbers.get(&1).is_err());
            assert_settled(&cache);
        }
    }
    let (cache, time, source) = with(Freshness::new().stale_if_error(HOUR));
    let numbers = read_through(&cache, &source);
    numbers.get(&1).unwrap();
    source.is_down.store(true, SeqCst);
    time.advance(SECOND * 10);
    cache.retain(|_, _| true);
    assert_eq!(numbers.get(&1), Ok(Some(1)), "who is kept is kept");
}

#[test]
fn stale_values_are_evicted_swept_and_moved_like_others() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        let freshness = Freshness::new().stale_if_error(SECOND * 10);
        builder.time_to_live(SECOND).freshness(freshness)
    });
    for key in 0..2_000 {
        cache.insert(key, key);
    }
    time.advance(SECOND * 2);
    assert_eq!((cache.sweep(), cache.len()), (0, 2_000));
    cache.validate();
    let stale = |key: u32| cache.try_get_or_insert_with(&key, || Err::<u32, ()>(()));
    assert!((0..2_000).all(|key| stale(key) == Ok(key)));
    cache.set_max_entries(100).unwrap();
    assert_eq!(cache.len(), 100);
    cache.validate();
    time.advance(SECOND * 9);
    assert_eq!((cache.sweep(), cache.len()), (100, 0));
    assert_settled(&cache);
}

#[test]
fn who_waits_for_a_load_that_fails_gets_the_stale_value_too() {
    let (cache, time, _) = with(Freshness::new().stale_if_error(HOUR));
    cache.insert(1, 5);
    time.advance(SECOND * 10);
    let gate = Gate::default();
    let fails = || async {
        gate.pass().await;
        Err::<u32, _>("down")
    };
    let mut leader = pin!(cache.try_get_or_load(&1, fails));
    let mut waiter = pin!(cache.try_get_or_load(&1, fails));
    // Of another type of error.
    let mut other = pin!(cache.get_or_load(&1, || async { unreachable!("there is a value") }));
    assert!(poll_once(leader.as_mut()).is_pending());
    assert!(poll_once(waiter.as_mut()).is_pending());
    assert!(poll_once(other.as_mut()).is_pending());
    gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(Ok(5)));
    assert_eq!(poll_once(waiter), Poll::Ready(Ok(5)));
    assert_eq!(poll_once(other), Poll::Ready(5));
    assert_settled(&cache);
}

// ---- loaders that panic ----

/// What a loader does that is a bug.
fn fails<T>() -> T {
    resume_unwind(Box::new("no source"))
}

#[test]
fn a_refresh_that_panics_leaves_the_old_value_and_rests() {
    let freshness = Freshness::new()
        .refresh_after(SECOND)
        .retry_after(SECOND * 3);
    let (cache, time, source) = with(freshness);
    let load = || match source.ask() {
        Ok(number) => number,
        Err(_) => fails(),
    };
    let blocking = || cache.get_or_insert_with(&1, load);
    let polled = || block_on(cache.get_or_load(&1, async || load()));
    assert_eq!(blocking(), 1);
    source.is_down.store(true, SeqCst);
    time.advance(SECOND);
    for (refresh, loads) in [(&blocking as &dyn Fn() -> u32, 2), (&polled, 3)] {
        assert_eq!(panic_of(refresh), "no source", "it is its caller's own");
        for _ in 0..5 {
            assert_eq!((blocking(), polled()), (1, 1));
        }
        assert_eq!(source.loads(), loads);
        time.advance(SECOND * 3);
    }
    source.is_down.store(false, SeqCst);
    assert_eq!(blocking(), 4);
    assert_eq!(cache.stats().load_failures, 2);
    assert_settled(&cache);
}

#[test]
fn a_task_that_panics_behind_readers_rests() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    cache.insert(1, 0);
    time.advance(SECOND);
    let numbers = cache.read_through_async(|_| async { fails::<Result<u32, ()>>() });
    for refreshes in 1..=2 {
        assert_eq!(block_on(numbers.get(&1)), Ok(Some(0)));
        let mut task = spawned.0.lock().unwrap().pop().unwrap();
        assert_eq!(panic_of(|| poll_once(task.as_mut())), "no source");
        for _ in 0..5 {
            assert_eq!(block_on(numbers.get(&1)), Ok(Some(0)));
        }
        assert_eq!((spawned.len(), cache.stats().refreshes), (0, refreshes));
        time.advance(SECOND);
    }
    assert_settled(&cache);
}

#[test]
fn who_waits_for_a_load_that_panics_gets_the_stale_value_and_nobody_loads_for_a_while() {
    let (cache, time, _) = with(Freshness::new().stale_if_error(HOUR));
    cache.insert(1, 5);
    time.advance(SECOND * 10);
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        fails()
    }));
    let none = || async { unreachable!("there is a value") };
    let mut waiter = pin!(cache.get_or_load(&1, none));
    assert!(poll_once(leader.as_mut()).is_pending());
    assert!(poll_once(waiter.as_mut()).is_pending());
    thread::scope(|scope| {
        let blocked = scope.spawn(|| cache.get_or_insert_with(&1, || unreachable!("as well")));
        until_waiting(&cache, 2);
        gate.open();
        assert_eq!(panic_of(|| poll_once(leader.as_mut())), "no source");
        assert_eq!(poll_once(waiter), Poll::Ready(5));
        assert_eq!(blocked.join().unwrap(), 5);
    });
    assert_eq!(block_on(cache.get_or_load(&1, none)), 5);
    assert_eq!(cache.stats().stale_served, 3);
    time.advance(SECOND);
    assert_eq!(
        panic_of(|| cache.get_or_insert_with(&1, fails)),
        "no source"
    );
    assert_eq!(block_on(cache.get_or_load(&1, none)), 5);
    time.advance(HOUR);
    assert_eq!(cache.get_or_insert_with(&1, || 6), 6, "gone");
    assert_settled(&cache);
}

#[test]
fn after_the_soft_time_out_of_a_load_that_panics_nobody_loads_for_a_while() {
    let freshness = Freshness::new().stale_if_error(HOUR).soft_timeout(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    cache.insert(1, 5);
    time.advance(SECOND * 10);
    let numbers = cache.read_through_async(|_| async { fails::<Result<u32, ()>>() });
    let mut call = pin!(numbers.get(&1));
    assert!(poll_once(call.as_mut()).is_pending());
    let mut task = spawned.0.lock().unwrap().pop().unwrap();
    assert_eq!(panic_of(|| poll_once(task.as_mut())), "no source");
    assert_eq!(poll_once(call), Poll::Ready(Ok(Some(5))));
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(5)));
    assert_eq!((spawned.len(), cache.loads_under_way()), (0, 0));
    assert_settled(&cache);
}

#[test]
fn a_load_that_is_only_dropped_says_nothing_of_the_source() {
    let (cache, time, _) = with(Freshness::new().stale_if_error(HOUR));
    cache.insert(1, 5);
    time.advance(SECOND * 10);
    for value in [6, 7] {
        let mut leader = Box::pin(cache.get_or_load(&1, pending::<u32>));
        let mut waiter = pin!(cache.get_or_load(&1, || async { value }));
        assert!(poll_once(leader.as_mut()).is_pending());
        assert!(poll_once(waiter.as_mut()).is_pending());
        if value == 6 {
            drop(leader);
        } else {
            // Its caller panics, and not its loader.
            let unwinds = move || -> () {
                let _leader = leader;
                fails()
            };
            assert_eq!(panic_of(unwinds), "no source");
        }
        assert_eq!(poll_once(waiter), Poll::Ready(value), "it leads at once");
        time.advance(SECOND * 10);
    }
    assert_settled(&cache);
}

#[test]
fn what_is_written_during_a_load_that_panics_is_loaded_anew_when_it_is_due() {
    let (cache, time, _) = with(Freshness::new().refresh_after(SECOND).retry_after(HOUR));
    cache.insert(1, 1);
    time.advance(SECOND);
    let refresh = || {
        cache.insert(1, 2);
        fails()
    };
    assert_eq!(
        panic_of(|| cache.get_or_insert_with(&1, refresh)),
        "no source"
    );
    time.advance(SECOND);
    assert_eq!(cache.get_or_insert_with(&1, || 3), 3);
    assert_settled(&cache);
}

#[test]
fn a_weigher_that_panics_for_a_loaded_value_puts_the_next_load_off() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .weigher(|_, value| if *value == 13 { fails() } else { 1 })
            .max_weight(100)
            .freshness(Freshness::new().refresh_after(SECOND))
    });
    cache.insert(1, 1);
    time.advance(SECOND);
    assert_eq!(
        panic_of(|| cache.get_or_insert_with(&1, || 13)),
        "no source"
    );
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!("it rests")), 1);
    time.advance(SECOND);
    assert_eq!(cache.get_or_insert_with(&1, || 2), 2);
    assert_settled(&cache);
}

// ---- time-outs ----

/// Loads that end when the gate is opened, each with the number of its call.
fn gated(cache: &Numbers, gate: &Gate) -> ReadThroughAsync<u32, u32, &'static str> {
    let (gate, calls) = (Gate::clone(gate), Arc::new(AtomicU32::new(0)));
    cache.read_through_async(move |_| {
        let number = calls.fetch_add(1, SeqCst) + 1;
        let gate = Gate::clone(&gate);
        async move {
            gate.pass().await;
            Ok(number)
        }
    })
}

#[test]
fn a_task_refreshes_through_the_spawner() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    let gate = Gate::default();
    gate.open();
    let numbers = gated(&cache, &gate);
    assert_eq!(spawned.answer(numbers.get(&1)), Ok(Some(1)));
    time.advance(SECOND);
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(1)));
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(1)));
    assert_eq!(spawned.len(), 1);
    spawned.run();
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(2)));
    time.advance(SECOND);
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(2)));
    spawned.0.lock().unwrap().clear();
    assert_eq!(
        cache.loads_under_way(),
        0,
        "a task that is dropped gives up its load"
    );
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(2)));
    spawned.run();
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(3)));
    assert_settled(&cache);
}

#[test]
fn a_load_behind_ends_with_the_hard_time_out() {
    let freshness = Freshness::new().refresh_after(SECOND).hard_timeout(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    cache.insert(1, 0);
    time.advance(SECOND);
    let numbers = gated(&cache, &Gate::default());
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(0)));
    let mut task = spawned.0.lock().unwrap().pop().unwrap();
    assert!(poll_once(task.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(task.as_mut()).is_ready());
    assert_eq!(cache.stats().load_failures, 1);
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(0)));
    assert_eq!(spawned.len(), 0, "the next attempt is put off");
    assert_settled(&cache);
}

#[test]
fn a_load_behind_is_not_begun_when_the_cache_is_gone() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    cache.insert(1, 0);
    time.advance(SECOND);
    let source = Arc::new(Source::default());
    let asked = Arc::clone(&source);
    let numbers = cache.read_through_async(move |_| {
        let answer = asked.ask();
        async move { answer }
    });
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(0)));
    drop((cache, numbers));
    assert_eq!(spawned.len(), 1);
    spawned.run();
    assert_eq!(source.loads(), 0);
}

#[test]
fn a_load_goes_on_when_all_its_callers_have_gone_away() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    for _ in 0..3 {
        let (mut first, mut second) = (pin!(numbers.get(&1)), pin!(numbers.get(&1)));
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
    }
    assert_eq!((spawned.len(), cache.loads_under_way()), (1, 1));
    assert_eq!(cache.stats().waits, 5, "all but the one that leads");
    gate.open();
    spawned.run();
    assert_eq!(cache.get(&1), Some(1), "the first load, not a fourth");
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(1)));
    assert_settled(&cache);
}

#[test]
fn a_value_is_loaded_anew_to_the_end_though_who_insisted_has_gone_away() {
    let (cache, _, spawned) = spawning(Freshness::new());
    cache.insert(1, 100);
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    assert!(poll_once(pin!(numbers.refresh(&1))).is_pending());
    assert_eq!(cache.get(&1), Some(100));
    gate.open();
    spawned.run();
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(spawned.answer(numbers.refresh(&1)), Ok(Some(2)));
    assert_settled(&cache);
}

#[test]
fn an_error_of_a_spawned_load_goes_to_all_who_wait_and_no_further() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let source = Arc::new(Source::default());
    source.is_down.store(true, SeqCst);
    let asked = Arc::clone(&source);
    let numbers = cache.read_through_async(move |_| {
        let answer = asked.ask();
        async move { answer }
    });
    let (mut first, mut second) = (pin!(numbers.get(&1)), pin!(numbers.get(&1)));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    spawned.run();
    assert!(matches!(block_on(first), Err(LoadError::Failed(_))));
    assert!(matches!(block_on(second), Err(LoadError::Failed(_))));
    assert_eq!(source.loads(), 1);
    source.is_down.store(false, SeqCst);
    assert!(spawned.answer(numbers.get(&1)).is_ok());
    assert_eq!(source.loads(), 2);
    assert_settled(&cache);
}

#[test]
fn a_caller_loads_by_itself_what_a_spawner_has_dropped() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let gate = Gate::default();
    gate.open();
    let numbers = gated(&cache, &gate);
    let mut call = pin!(numbers.get(&1));
    assert!(poll_once(call.as_mut()).is_pending());
    spawned.0.lock().unwrap().clear();
    assert_eq!(block_on(call), Ok(Some(1)));
    assert_eq!(spawned.len(), 0);
    assert_settled(&cache);
}

#[test]
fn who_has_waited_for_long_enough_loads_by_itself_and_spawns_nothing() {
    let (cache, time, spawned) = spawning(Freshness::new());
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    let mut waits = pin!(numbers.get(&1));
    // Of a caller that has gone away.
    assert!(poll_once(pin!(numbers.get(&1))).is_pending());
    assert!(poll_once(waits.as_mut()).is_pending());
    time.advance(SECOND * 30);
    gate.open();
    assert_eq!(poll_once(waits), Poll::Ready(Ok(Some(1))));
    assert_eq!((spawned.len(), cache.get(&1)), (1, Some(1)));
    spawned.run();
    assert_eq!(cache.get(&1), Some(1), "it comes too late");
    let next = spawned.answer(numbers.refresh(&1));
    assert_eq!(next, Ok(Some(2)), "nor was it begun");
    assert_settled(&cache);
}

#[test]
fn a_spawned_load_that_has_begun_and_stands_still_holds_up_nobody() {
    let (cache, time, spawned) = spawning(Freshness::new());
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    let (mut own, mut other) = (pin!(numbers.get(&1)), pin!(numbers.get(&1)));
    assert!(poll_once(own.as_mut()).is_pending());
    assert!(poll_once(other.as_mut()).is_pending());
    let mut load = spawned.0.lock().unwrap().pop().unwrap();
    assert!(poll_once(load.as_mut()).is_pending());
    time.advance(SECOND * 30);
    assert!(poll_once(own.as_mut()).is_pending());
    gate.open();
    assert_eq!(poll_once(own), Poll::Ready(Ok(Some(2))));
    assert_eq!(poll_once(other), Poll::Ready(Ok(Some(2))));
    assert!(poll_once(load.as_mut()).is_ready());
    assert_eq!(cache.get(&1), Some(2), "what was given up is not stored");
    assert_settled(&cache);
}

#[test]
fn a_loader_that_panics_in_a_spawned_task_is_run_once_by_each_caller() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let source = Arc::new(Source::default());
    let asked = Arc::clone(&source);
    let numbers = cache.read_through_async(move |_| {
        let number = asked.ask();
        async move { number.map(|_| fails::<u32>()) }
    });
    let (mut first, mut second) = (pin!(numbers.get(&1)), pin!(numbers.get(&1)));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    for (call, loads) in [(first, 1), (second, 2)] {
        let mut call = call;
        assert!(loads == 1 || poll_once(call.as_mut()).is_pending());
        let task = spawned.0.lock().unwrap().pop().unwrap();
        let mut task = pin!(task);
        assert_eq!(panic_of(|| poll_once(task.as_mut())), "no source");
        drop(task);
        let sentence = panic_of(|| poll_once(call.as_mut()));
        assert!(
            sentence.starts_with("the loader has panicked"),
            "{sentence}"
        );
        assert_eq!((source.loads(), spawned.len()), (loads, 0));
    }
    assert_settled(&cache);
}

#[test]
fn who_loads_alone_and_fails_is_given_what_is_stale() {
    let (cache, time, _) = with(Freshness::new().stale_if_error(HOUR));
    cache.insert(1, 100);
    time.advance(SECOND * 10);
    let hangs = || pending::<Result<u32, &str>>();
    let mut first = pin!(cache.try_get_or_load(&1, hangs));
    let mut second = pin!(cache.try_get_or_load(&1, hangs));
    let mut third = pin!(cache.try_get_or_load(&1, async || Err("down")));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(third.as_mut()).is_pending());
    time.advance(SECOND * 30);
    assert!(poll_once(second.as_mut()).is_pending(), "it leads now");
    assert_eq!(poll_once(third), Poll::Ready(Ok(100)));
}

#[test]
fn whose_loader_panics_in_a_spawned_task_is_given_what_is_stale() {
    let freshness = Freshness::new().stale_if_error(HOUR).retry_after(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    cache.insert(1, 100);
    time.advance(SECOND * 10);
    let numbers = cache.read_through_async(|_| async { Ok::<_, ()>(fails::<u32>()) });
    let mut call = pin!(numbers.get(&1));
    assert!(poll_once(call.as_mut()).is_pending());
    let mut task = pin!(spawned.0.lock().unwrap().pop().unwrap());
    assert_eq!(panic_of(|| poll_once(task.as_mut())), "no source");
    time.advance(SECOND * 2);
    assert_eq!(poll_once(call), Poll::Ready(Ok(Some(100))));
    assert_eq!(spawned.len(), 0);
    assert_settled(&cache);
}

#[test]
fn what_a_loader_lets_live_longer_is_refreshed_later_than_the_cache_would() {
    let (cache, time, spawned) = spawning(Freshness::new());
    let numbers = cache.read_through_async(|_| async { Ok::<_, ()>(Loaded::new(7).ttl(HOUR)) });
    let after_a_minute = Freshness::new().refresh_after(SECOND * 60);
    let numbers = numbers.with_freshness(after_a_minute).unwrap();
    assert_eq!(spawned.answer(numbers.get(&1)), Ok(Some(7)));
    for (seconds, loads) in [(59, 0), (1, 1)] {
        time.advance(SECOND * seconds);
        assert_eq!(block_on(numbers.get(&1)), Ok(Some(7)));
        assert_eq!(spawned.len(), loads);
    }
    spawned.run();
    assert_settled(&cache);
}

#[test]
fn only_values_that_outlive_the_age_of_a_refresh_are_refreshed() {
    let (cache, time, source) = with(Freshness::new().refresh_after(SECOND * 60));
    let load = || source.ask();
    cache.insert_with_ttl(1, 100, HOUR);
    cache.insert(2, 200);
    time.advance(SECOND * 9);
    assert_eq!(cache.try_get_or_insert_with(&2, load), Ok(200));
    time.advance(SECOND);
    assert_eq!(cache.try_get_or_insert_with(&2, load), Ok(1), "it is gone");
    time.advance(SECOND * 49);
    assert_eq!(cache.try_get_or_insert_with(&1, load), Ok(100));
    time.advance(SECOND);
    assert_eq!(cache.try_get_or_insert_with(&1, load), Ok(2));
    assert_settled(&cache);
}

#[test]
fn a_load_that_nobody_goes_on_with_is_given_up_though_none_waits_for_so_long() {
    let (cache, time, spawned) = spawning(Freshness::new().hard_timeout(SECOND));
    let gate = Gate::default();
    gate.open();
    let numbers = gated(&cache, &gate);
    assert!(poll_once(pin!(numbers.get(&1))).is_pending());
    for _ in 0..30 {
        let mut call = pin!(numbers.get(&1));
        assert!(poll_once(call.as_mut()).is_pending());
        time.advance(SECOND);
        let answer = poll_once(call);
        assert!(matches!(answer, Poll::Ready(Err(LoadError::TimedOut))));
        assert_eq!(spawned.len(), 1);
    }
    let answer = spawned.answer(numbers.get(&1));
    assert_eq!(
        answer,
        Ok(Some(1)),
        "what was given up is not begun any more"
    );
    assert_eq!(cache.get(&1), Some(1));
    let next = spawned.answer(numbers.refresh(&1));
    assert_eq!(next, Ok(Some(2)), "nor was it begun beside the other");
    assert_settled(&cache);
}

#[test]
fn a_loader_that_blocks_its_thread_is_not_begun_anew_for_callers_that_time_out() {
    let (cache, time, _) = with(Freshness::new().hard_timeout(SECOND));
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let hangs = cache.read_through(move |_| {
        assert!(ended.lock().unwrap().recv().is_err());
        Ok::<u32, &str>(1)
    });
    let others = cache.read_through_async(|_| async { Ok::<u32, &str>(2) });
    thread::scope(|threads| {
        let leads = threads.spawn(|| hangs.get(&1));
        while cache.loads_under_way() == 0 {
            thread::yield_now();
        }
        for _ in 0..40 {
            let mut call = pin!(others.get(&1));
            assert!(poll_once(call.as_mut()).is_pending());
            time.advance(SECOND);
            let answer = poll_once(call);
            assert!(matches!(answer, Poll::Ready(Err(LoadError::TimedOut))));
        }
        drop(end);
        assert_eq!(leads.join().unwrap(), Ok(Some(1)));
    });
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

#[test]
fn a_spawner_that_panics_does_so_in_the_call_and_leaves_no_load_behind() {
    let (cache, _) = timed(|builder: CacheBuilder<u32, u32>| builder.spawner(|_| fails()));
    let gate = Gate::default();
    gate.open();
    let numbers = gated(&cache, &gate);
    for _ in 0..2 {
        assert_eq!(panic_of(|| block_on(numbers.get(&1))), "no source");
        assert_eq!(cache.loads_under_way(), 0);
    }
    assert_eq!(cache.get_or_insert_with(&1, || 7), 7);
    assert_settled(&cache);
}

#[test]
fn without_a_spawner_a_load_ends_with_its_caller() {
    let (cache, _, _) = with(Freshness::new());
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    assert!(poll_once(pin!(numbers.get(&1))).is_pending());
    assert_eq!(cache.loads_under_way(), 0);
    gate.open();
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(2)));
    assert_settled(&cache);
}

#[test]
fn without_a_spawner_the_task_that_notices_refreshes() {
    let (cache, time, _) = with(Freshness::new().refresh_after(SECOND));
    let gate = Gate::default();
    gate.open();
    let numbers = gated(&cache, &gate);
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(1)));
    time.advance(SECOND);
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(2)));
    assert_settled(&cache);
}

#[test]
fn after_the_soft_time_out_the_stale_value_is_served_and_the_load_goes_on() {
    let freshness = Freshness::new().stale_if_error(HOUR).soft_timeout(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    cache.insert(1, 100);
    time.advance(SECOND * 10);
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    let (mut first, mut second) = (pin!(numbers.get(&1)), pin!(numbers.get(&1)));
    let (wakes, waker) = Wakes::new();
    assert!(poll(first.as_mut(), &waker).is_pending());
    assert!(poll(second.as_mut(), &waker).is_pending());
    assert_eq!(spawned.len(), 1);
    time.advance(SECOND);
    assert_eq!(wakes.count(), 2);
    assert_eq!(poll(first, &waker), Poll::Ready(Ok(Some(100))));
    assert_eq!(poll(second, &waker), Poll::Ready(Ok(Some(100))));
    assert_eq!(cache.loads_under_way(), 1);
    gate.open();
    spawned.run();
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(cache.stats().stale_served, 2);
    assert_settled(&cache);
}

#[test]
fn a_blocking_caller_leaves_its_load_to_the_pool_after_the_soft_time_out() {
    let _pool = pool();
    let freshness = Freshness::new().stale_if_error(HOUR).soft_timeout(SECOND);
    let (cache, time, _) = with(freshness);
    cache.insert(1, 100);
    time.advance(SECOND * 10);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let numbers = cache.read_through(move |_| {
        may_go_on.lock().unwrap().recv().unwrap();
        Ok::<u32, ()>(200)
    });
    thread::scope(|scope| {
        let caller = scope.spawn(|| numbers.get(&1));
        while time.timers() == 0 {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(caller.join().unwrap(), Ok(Some(100)));
    });
    go_on.send(()).unwrap();
    until_settled(&cache);
    assert_eq!(cache.get(&1), Some(200));
    assert_settled(&cache);
}

#[test]
fn after_the_hard_time_out_the_load_has_failed() {
    let (cache, time, _) = with(Freshness::new().hard_timeout(SECOND));
    let gate = Gate::default();
    let numbers = gated(&cache, &gate);
    let (mut first, mut second) = (pin!(numbers.get(&1)), pin!(numbers.get(&1)));
    let (wakes, waker) = Wakes::new();
    assert!(poll(first.as_mut(), &waker).is_pending());
    assert!(poll(second.as_mut(), &waker).is_pending());
    time.advance(SECOND);
    assert!(wakes.count() >= 2);
    assert_eq!(poll(first, &waker), Poll::Ready(Err(LoadError::TimedOut)));
    assert_eq!(poll(second, &waker), Poll::Ready(Err(LoadError::TimedOut)));
    assert_eq!(cache.loads_under_way(), 0);
    gate.open();
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(2)));
    assert_eq!(cache.stats().load_failures, 1);
    assert_settled(&cache);
}

#[test]
fn a_call_that_cannot_fail_is_not_timed_out() {
    let (cache, time, _) = with(Freshness::new().hard_timeout(SECOND));
    let numbers = gated(&cache, &Gate::default());
    let mut leader = pin!(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    let gate = Gate::default();
    let mut waiter = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        7
    }));
    assert!(poll_once(waiter.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(leader), Poll::Ready(Err(LoadError::TimedOut)));
    assert!(poll_once(waiter.as_mut()).is_pending(), "it leads now");
    time.advance(SECOND * 2);
    assert!(poll_once(waiter.as_mut()).is_pending());
    gate.open();
    assert_eq!(poll_once(waiter), Poll::Ready(7));
    // Nor is one that waits for another that cannot.
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&2, || async {
        gate.pass().await;
        8
    }));
    let mut waiter = pin!(cache.get_or_load(&2, || async { unreachable!("it waits") }));
    assert!(poll_once(leader.as_mut()).is_pending());
    assert!(poll_once(waiter.as_mut()).is_pending());
    time.advance(SECOND * 2);
    assert!(poll_once(waiter.as_mut()).is_pending());
    gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(8));
    assert_eq!(poll_once(waiter), Poll::Ready(8));
    assert_settled(&cache);
}

#[test]
fn the_hard_time_out_wakes_who_has_polled_the_load_last() {
    let (cache, time, _) = with(Freshness::new().hard_timeout(SECOND));
    let numbers = gated(&cache, &Gate::default());
    let mut call = pin!(numbers.get(&1));
    let [(before, first), (after, last)] = [(); 2].map(|()| Wakes::new());
    assert!(poll(call.as_mut(), &first).is_pending());
    assert!(poll(call.as_mut(), &last).is_pending());
    time.advance(SECOND);
    assert_eq!((before.count(), after.count()), (0, 1));
    assert!(poll(call, &last).is_ready());
    assert_settled(&cache);
}

#[test]
fn after_the_hard_time_out_a_stale_value_is_served() {
    let freshness = Freshness::new().hard_timeout(SECOND).stale_if_error(HOUR);
    let (cache, time, _) = with(freshness);
    cache.insert(1, 100);
    time.advance(SECOND * 10);
    let numbers = gated(&cache, &Gate::default());
    let mut call = pin!(numbers.get(&1));
    assert!(poll_once(call.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(call), Poll::Ready(Ok(Some(100))));
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(100)), "and rests");
    assert_settled(&cache);
}

#[test]
fn the_time_outs_and_ages_that_no_cache_can_have_are_named() {
    let more = "must be more than zero";
    let of_ttl = "must be a share of the TTL, more than 0.0 and less than 1.0";
    let share = "must be a share from 0.0 to 1.0";
    let needs = "needs stale_if_error, which keeps the value that is served";
    let new = Freshness::new;
    let cases = [
        (new().refresh_after(Duration::ZERO), "refresh_after", more),
        (new().refresh_at(0.0), "refresh_at", of_ttl),
        (new().refresh_at(1.0), "refresh_at", of_ttl),
        (new().refresh_at(f64::NAN), "refresh_at", of_ttl),
        (new().jitter(-0.1), "jitter", share),
        (new().jitter(1.1), "jitter", share),
        (new().jitter(f64::NAN), "jitter", share),
        (new().stale_if_error(Duration::ZERO), "stale_if_error", more),
        (new().retry_after(Duration::ZERO), "retry_after", more),
        (new().soft_timeout(Duration::ZERO), "soft_timeout", more),
        (new().soft_timeout(SECOND), "soft_timeout", needs),
        (
            new()
                .stale_if_error(SECOND)
                .soft_timeout(SECOND)
                .hard_timeout(SECOND),
            "soft_timeout",
            "must be less than the hard_timeout, which ends the load",
        ),
        (
            new().jitter(0.1),
            "jitter",
            "needs refresh_after or refresh_at, which it is taken off",
        ),
        (new().hard_timeout(Duration::ZERO), "hard_timeout", more),
    ];
    let numbers = Numbers::new(10).read_through(|_| Ok::<u32, ()>(1));
    for (wrong, setting, problem) in cases {
        let built = Cache::<u32, u32>::builder()
            .freshness(wrong.clone())
            .build();
        let error = built.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Freshness: {setting}: {problem}")
        );
        assert_eq!(numbers.with_freshness(wrong).unwrap_err(), error);
    }
}

#[test]
fn the_ends_of_each_range_of_a_freshness_are_possible() {
    let possible = [
        Freshness::new()
            .refresh_after(Duration::from_nanos(9_999_999_999))
            .jitter(1.0),
        Freshness::new().refresh_at(f64::MIN_POSITIVE).jitter(1.0),
        Freshness::new().stale_if_error(Duration::MAX),
        Freshness::new().retry_after(Duration::MAX),
        Freshness::new().hard_timeout(Duration::MAX),
    ];
    for freshness in possible {
        let (cache, time, source) = with(freshness);
        let numbers = read_through(&cache, &source);
        for _ in 0..3 {
            assert!(numbers.get(&1).unwrap().is_some());
            time.advance(SECOND * 9);
        }
        until_settled(&cache);
        assert_settled(&cache);
    }
}

// ---- what loaders say ----

#[test]
fn what_is_not_modified_gets_a_new_ttl_and_tells_nobody() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        let freshness = Freshness::new()
            .stale_if_error(HOUR)
            .refresh_after(SECOND * 5);
        builder.time_to_live(SECOND * 10).freshness(freshness)
    });
    let shown = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&shown);
    let numbers = cache.read_through_revalidating_async(move |_, old| {
        log.lock().unwrap().push(old);
        async move {
            Ok::<_, ()>(match old {
                None => Loaded::new(7),
                Some(_) => Loaded::not_modified(),
            })
        }
    });
    assert_eq!(block_on(numbers.get(&1)), Ok(Some(7)));
    let events = cache.events(10);
    // Once it is still alive, once its TTL is over.
    for wait in [5, 12] {
        time.advance(SECOND * wait);
        assert_eq!(block_on(numbers.get(&1)), Ok(Some(7)));
        assert_eq!(cache.ttl(&1), Some(haybox::Ttl::Left(SECOND * 10)));
    }
    assert_eq!(*shown.lock().unwrap(), [None, Some(7), Some(7)]);
    assert!(events.try_recv().is_err());
    assert_settled(&cache);
}

#[test]
fn a_loader_may_say_how_long_a_value_lives_and_what_it_weighs() {
    let (cache, time) =
        timed(|builder: CacheBuilder<u32, u32>| builder.max_weight(100).negative_ttl(SECOND));
    let numbers = cache.read_through(|key: &u32| {
        Ok::<_, ()>(match *key {
            0 => Loaded::absent().ttl(SECOND * 3),
            1 => Loaded::new(1).ttl(Duration::ZERO),
            2 => Loaded::new(2).ttl(SECOND * 2).weight(60),
            key => Loaded::new(key).weight(101),
        })
    });
    assert_eq!(numbers.get(&1), Ok(Some(1)));
    assert_eq!(numbers.get(&2), Ok(Some(2)));
    assert_eq!(numbers.get(&3), Ok(Some(3)), "too heavy to be stored");
    assert_eq!((cache.len(), cache.weight()), (1, 60));
    assert_eq!(cache.ttl(&2), Some(haybox::Ttl::Left(SECOND * 2)));
    assert_eq!(numbers.get(&0), Ok(None));
    time.advance(SECOND * 2);
    assert_eq!(
        cache.get_or_find_with(&0, || Some(5)),
        None,
        "as long as it said"
    );
    time.advance(SECOND);
    assert_eq!(cache.get_or_find_with(&0, || Some(5)), Some(5));
    assert_settled(&cache);
}

#[test]
fn a_row_that_is_gone_is_removed_when_it_is_refreshed() {
    let (cache, time, _) = with(Freshness::new().refresh_after(SECOND));
    cache.insert(1, 1);
    time.advance(SECOND);
    assert_eq!(cache.get_or_find_with(&1, || None), None);
    assert_eq!((cache.get(&1), cache.len()), (None, 0));
    assert_settled(&cache);
}

#[test]
fn a_value_that_still_holds_is_as_young_as_one_that_is_loaded() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder.freshness(Freshness::new().refresh_after(SECOND * 10))
    });
    let load = |_: &u32, _: Option<&u32>| Ok::<_, ()>(Loaded::not_modified());
    let rows = cache.read_through_revalidating(load);
    cache.insert(1, 1);
    time.advance(SECOND * 10);
    assert_eq!(rows.refresh(&1), Ok(Some(1)));
    let before = cache.stats().refreshes;
    time.advance(SECOND * 9);
    assert_eq!(rows.get(&1), Ok(Some(1)));
    assert_eq!(cache.stats().refreshes, before, "it is not due");
    assert_settled(&cache);
}
