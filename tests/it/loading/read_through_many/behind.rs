//! Loads of several keys that go on behind their callers.

use super::super::tasks::Fragile;
use super::super::{
    BusyPool, Gate, Numbers, POOL_THREADS, Spawned, assert_settled, block_on, poll_once, pool,
    spawning, until_settled, whole_pool,
};
use super::{Table, with};
use crate::common::{HOUR, PATIENCE, SECOND, panic_of, timed};
use haybox::{Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock};
use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;

// ---- on threads ----

#[test]
fn values_that_are_due_are_served_and_loaded_behind_with_one_query() {
    let _pool = pool();
    let (cache, time, table) = with(Freshness::new().refresh_after(SECOND));
    let rows = table.behind(&cache);
    let old = Ok(vec![Some(10), Some(20), Some(30)]);
    assert_eq!(rows.get_many(&[1, 2, 3]), old);
    time.advance(SECOND);
    cache.insert(2, 20);
    table.change.store(1, SeqCst);
    assert_eq!(rows.get_many(&[1, 2, 3]), old, "the old ones, at once");
    until_settled(&cache);
    assert_eq!(table.asked(), [vec![1, 2, 3], vec![1, 3]]);
    let new = Ok(vec![Some(11), Some(20), Some(31)]);
    assert_eq!(rows.get_many(&[1, 2, 3]), new);
    assert_eq!(cache.stats().refreshes, 2);
    assert_settled(&cache);
}

#[test]
fn while_values_are_loaded_behind_all_get_the_old_ones() {
    let _pool = pool();
    let (cache, time, table) = with(Freshness::new().refresh_after(SECOND));
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let source = table.clone();
    let rows = cache.read_through_many(move |keys| {
        may_go_on.lock().unwrap().recv().unwrap();
        source.query(keys)
    });
    cache.insert_many([(1, 1), (2, 2), (3, 3)]);
    time.advance(SECOND);
    assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(1), Some(2)]));
    assert_eq!(rows.get_many(&[2, 1]), Ok(vec![Some(2), Some(1)]));
    assert_eq!(rows.get(&2), Ok(Some(2)));
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!()), 1);
    assert_eq!(cache.loads_under_way(), 2);
    assert_eq!(rows.get_many(&[2, 3]), Ok(vec![Some(2), Some(3)]));
    assert_eq!(cache.loads_under_way(), 3, "the one that nobody loads");
    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    until_settled(&cache);
    let mut asked = table.asked();
    asked.sort();
    assert_eq!(asked, [vec![1, 2], vec![3]]);
    assert_eq!(cache.get_many(&[1, 2, 3]), [Some(10), Some(20), Some(30)]);
    assert_settled(&cache);
}

#[test]
fn what_is_due_comes_with_what_is_missing_where_the_thread_has_to_wait_anyway() {
    let (cache, time, table) = with(Freshness::new().refresh_after(SECOND));
    let rows = table.behind(&cache);
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    cache.insert(2, 2);
    let found = rows.get_many(&[1, 2, 3]);
    assert_eq!(found, Ok(vec![Some(10), Some(2), Some(30)]));
    assert_eq!(table.asked(), [[1, 3]]);
    assert_settled(&cache);
}

#[test]
fn what_is_loaded_behind_and_is_no_more_is_removed() {
    let _pool = pool();
    let (cache, time, table) = with(Freshness::new().refresh_after(SECOND));
    let rows = table.behind(&cache);
    cache.insert_many([(1, 1), (100, 100)]);
    time.advance(SECOND);
    assert_eq!(rows.get_many(&[1, 100]), Ok(vec![Some(1), Some(100)]));
    until_settled(&cache);
    assert_eq!(cache.get_many(&[1, 100]), [Some(10), None]);
    assert_settled(&cache);
}

#[test]
fn what_fails_or_panics_behind_callers_rests_for_each_of_its_keys() {
    let _pool = pool();
    let freshness = Freshness::new()
        .refresh_after(SECOND)
        .retry_after(SECOND * 3);
    for is_bug in [false, true] {
        let (cache, time, table) = with(freshness.clone());
        let rows = table.behind(&cache);
        cache.insert_many([(1, 1), (2, 2)]);
        time.advance(SECOND);
        let trouble = match is_bug {
            true => &table.has_bug,
            false => &table.is_down,
        };
        trouble.store(true, SeqCst);
        let old = Ok(vec![Some(1), Some(2)]);
        assert_eq!(rows.get_many(&[1, 2]), old);
        until_settled(&cache);
        for _ in 0..3 {
            assert_eq!(rows.get_many(&[1, 2]), old);
            assert_eq!((rows.get(&1), rows.get(&2)), (Ok(Some(1)), Ok(Some(2))));
            assert_eq!(cache.loads_under_way(), 0, "the next attempt is put off");
        }
        assert_eq!(table.asked(), [[1, 2]]);
        trouble.store(false, SeqCst);
        time.advance(SECOND * 3);
        assert_eq!(rows.get_many(&[1, 2]), old);
        until_settled(&cache);
        assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(10), Some(20)]));
        assert_settled(&cache);
    }
}

#[test]
fn a_thread_leaves_stale_values_to_the_pool_after_the_soft_time_out() {
    let _pool = pool();
    let freshness = Freshness::new().stale_if_error(HOUR).soft_timeout(SECOND);
    let (cache, time, table) = with(freshness);
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND * 10);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let source = table.clone();
    let rows = cache.read_through_many(move |keys| {
        may_go_on.lock().unwrap().recv().unwrap();
        source.query(keys)
    });
    thread::scope(|scope| {
        let caller = scope.spawn(|| rows.get_many(&[1, 2]));
        while time.timers() == 0 {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(caller.join().unwrap(), Ok(vec![Some(1), Some(2)]));
    });
    go_on.send(()).unwrap();
    until_settled(&cache);
    assert_eq!(table.asked(), [[1, 2]]);
    assert_eq!(cache.get_many(&[1, 2]), [Some(10), Some(20)]);
    assert_eq!(cache.stats().stale_served, 2);
    assert_settled(&cache);
}

#[test]
fn what_a_thread_must_not_wait_for_it_loads_by_itself_and_leaves_to_nobody() {
    let freshness = Freshness::new().stale_if_error(HOUR).soft_timeout(SECOND);
    let (cache, time, table) = with(freshness);
    cache.insert(1, 1);
    time.advance(SECOND * 10);
    // Polled by this thread, which would never come back to it.
    let mut leads = Box::pin(cache.get_or_load(&1, pending::<u32>));
    assert!(poll_once(leads.as_mut()).is_pending());
    let rows = table.behind(&cache);
    assert_eq!(rows.get_many(&[1]), Ok(vec![Some(10)]));
    assert_eq!(table.asked(), [[1]]);
    assert_eq!(cache.get(&1), None, "nor is it stored");
    drop(leads);
    assert_settled(&cache);
}

/// Keeps the pool busy, with its queue full, until it is dropped.
struct Crowd {
    cache: Numbers,
    go_on: Option<mpsc::Sender<()>>,
}

impl Crowd {
    fn new() -> Self {
        let time = MockClock::new();
        let builder = Cache::builder().clock(time.clock());
        let due = Freshness::new().refresh_after(SECOND);
        let cache: Numbers = builder.freshness(due).build().unwrap();
        cache.insert_many((0..2_000).map(|key| (key, 0)));
        time.advance(SECOND);
        let (enter, has_entered) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let rows = cache.read_through(move |_| {
            let _ = enter.send(());
            let _ = may_go_on.lock().unwrap().recv();
            Ok::<u32, ()>(1)
        });
        // A thread that came only now would take a load out, and leave room for one.
        for key in 0..POOL_THREADS {
            assert_eq!(rows.get(&key), Ok(Some(0)));
            has_entered.recv_timeout(PATIENCE).unwrap();
        }
        while cache.stats().refused_refreshes == 0 {
            (0..2_000).for_each(|key| assert_eq!(rows.get(&key), Ok(Some(0))));
        }
        let go_on = Some(go_on);
        Self { cache, go_on }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.go_on.take();
        until_settled(&self.cache);
    }
}

#[test]
fn what_the_pool_has_no_room_for_is_given_up_and_counted_for_each_key() {
    let _pool = whole_pool();
    let crowd = Crowd::new();
    let (cache, time, table) = with(Freshness::new().refresh_after(SECOND));
    let rows = table.behind(&cache);
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    for refused in [2, 4] {
        assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(1), Some(2)]));
        assert_eq!(cache.loads_under_way(), 0);
        assert_eq!(cache.stats().refused_refreshes, refused);
    }
    assert!(table.asked().is_empty());
    assert_eq!(cache.stats().load_failures, 0, "none was begun");
    drop(crowd);
    assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(1), Some(2)]));
    until_settled(&cache);
    assert_eq!(cache.get_many(&[1, 2]), [Some(10), Some(20)]);
    assert_settled(&cache);
}

#[test]
fn what_the_pool_refuses_and_is_not_served_is_loaded_by_the_caller() {
    let _pool = whole_pool();
    let _crowd = Crowd::new();
    let freshness = Freshness::new().refresh_after(SECOND).stale_if_error(HOUR);
    let (cache, time, table) = with(freshness.soft_timeout(SECOND));
    let rows = table.behind(&cache);
    cache.insert(1, 1);
    time.advance(SECOND * 10);
    cache.insert(2, 2);
    time.advance(SECOND);
    let found = rows.get_many(&[1, 2]);
    assert_eq!(found, Ok(vec![Some(10), Some(20)]));
    assert_eq!(table.asked(), [[1, 2]]);
    assert_settled(&cache);
}

#[test]
fn loads_that_the_pool_refuses_are_given_up_though_a_key_panics() {
    let _pool = whole_pool();
    let _crowd = Crowd::new();
    let time = MockClock::new();
    let builder = Cache::<Fragile, u32>::builder().clock(time.clock());
    let due = Freshness::new().refresh_after(SECOND);
    let cache = builder.freshness(due).build().unwrap();
    let keys = [Fragile(1), Fragile(2)];
    cache.insert_many(keys.iter().cloned().map(|key| (key, 0)));
    time.advance(SECOND);
    let rows = cache
        .read_through_many(|keys: Vec<Fragile>| Ok::<_, ()>(keys.into_iter().map(|key| (key, 1))));
    // The first to be dropped is one that was to go to the pool: to find a key takes none.
    for _ in 0..2 {
        Fragile::panics_next();
        assert_eq!(panic_of(|| rows.get_many(&keys)), "it breaks");
        assert_eq!(cache.loads_under_way(), 0);
    }
    assert_eq!(rows.get_many(&keys), Ok(vec![Some(0), Some(0)]));
    assert_settled(&cache);
}

#[test]
fn loads_that_wait_for_the_pool_are_not_begun_when_the_cache_is_gone() {
    let busy = BusyPool::new();
    let (closed, time, asked) = with(Freshness::new().refresh_after(SECOND));
    closed.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    let rows = asked.behind(&closed);
    assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(1), Some(2)]));
    drop((closed, rows));
    drop(busy);
    while Arc::strong_count(&asked.queries) > 1 {
        thread::yield_now();
    }
    assert!(asked.asked().is_empty());
}

// ---- in tasks ----

#[test]
fn a_list_is_loaded_to_the_end_though_all_its_callers_have_gone_away() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let (table, gate) = (Table::default(), Gate::default());
    let rows = table.gated(&cache, &gate);
    for _ in 0..3 {
        let mut first = pin!(rows.get_many(&[1, 2, 100]));
        let mut second = pin!(rows.get_many(&[2, 3]));
        let mut third = pin!(rows.get(&1));
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(poll_once(third.as_mut()).is_pending());
    }
    assert_eq!((spawned.len(), cache.loads_under_way()), (2, 4));
    gate.open();
    spawned.run();
    assert_eq!(table.asked(), [vec![1, 2, 100], vec![3]]);
    let found = [Some(10), Some(20), Some(30), None];
    assert_eq!(cache.get_many(&[1, 2, 3, 100]), found);
    assert_eq!(cache.stats().loads, 2);
    assert_settled(&cache);
}

#[test]
fn without_a_spawner_the_loads_of_a_list_end_with_its_caller() {
    let (cache, time, table) = with(Freshness::new().refresh_after(SECOND));
    let gate = Gate::default();
    let rows = table.gated(&cache, &gate);
    let mut call = Box::pin(rows.get_many(&[1, 2]));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(cache.loads_under_way(), 2);
    drop(call);
    assert_eq!(cache.loads_under_way(), 0);
    gate.open();
    let found = block_on(rows.get_many(&[1, 2]));
    assert_eq!(found, Ok(vec![Some(10), Some(20)]));
    // The task that notices that they are due loads them.
    table.change.store(1, SeqCst);
    time.advance(SECOND);
    let found = block_on(rows.get_many(&[1, 2]));
    assert_eq!(found, Ok(vec![Some(11), Some(21)]));
    assert_settled(&cache);
}

#[test]
fn a_task_has_due_values_loaded_through_the_spawner() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    let table = Table::default();
    let rows = table.behind_async(&cache);
    let old = vec![Some(10), Some(20)];
    assert_eq!(spawned.answer(rows.get_many(&[1, 2])), Ok(old.clone()));
    time.advance(SECOND);
    table.change.store(1, SeqCst);
    for _ in 0..2 {
        assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(old.clone()));
        assert_eq!(spawned.len(), 1);
    }
    spawned.run();
    assert_eq!(table.asked(), [[1, 2], [1, 2]]);
    let new = vec![Some(11), Some(21)];
    assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(new.clone()));
    assert_eq!((cache.stats().refreshes, cache.stats().waits), (2, 0));
    // A task that is dropped gives up its loads, and the next caller begins them.
    time.advance(SECOND);
    for _ in 0..2 {
        assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(new.clone()));
        assert_eq!(spawned.len(), 1);
        spawned.0.lock().unwrap().clear();
        assert_eq!(cache.loads_under_way(), 0);
    }
    assert_settled(&cache);
}

#[test]
fn what_is_due_and_what_is_missing_comes_with_one_query_of_one_task() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    let table = Table::default();
    let rows = table.behind_async(&cache);
    cache.insert(1, 1);
    time.advance(SECOND);
    let found = spawned.answer(rows.get_many(&[1, 2, 3]));
    assert_eq!(found, Ok(vec![Some(1), Some(20), Some(30)]));
    assert_eq!(table.asked(), [[1, 2, 3]]);
    assert_eq!(cache.get(&1), Some(10));
    assert_settled(&cache);
}

#[test]
fn what_is_written_while_a_task_loads_stays_and_the_rest_is_stored() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    let tagged = |key: u32| (key, Loaded::new(key * 10).tag(&(key % 2)));
    let rows = cache.read_through_many_async(move |keys: Vec<u32>| async move {
        Ok::<_, ()>(keys.into_iter().map(tagged))
    });
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    let mut call = pin!(rows.get_many(&[1, 2, 3, 4, 5, 6]));
    assert!(poll_once(call.as_mut()).is_pending());
    cache.insert(1, 100);
    cache.remove(&2);
    cache.insert(3, 300);
    cache.invalidate(&4);
    cache.invalidate_tag(&1);
    spawned.run();
    let found = [1, 2, 30, 40, 50, 60].map(Some);
    assert_eq!(block_on(call), Ok(found.to_vec()), "who called before that");
    let stored = [Some(100), None, Some(300), None, None, Some(60)];
    assert_eq!(cache.get_many(&[1, 2, 3, 4, 5, 6]), stored);
    assert_eq!(cache.stats().discarded_loads, 5);
    let found = spawned.answer(rows.get_many(&[4, 5]));
    assert_eq!(found, Ok(vec![Some(40), Some(50)]), "is loaded anew");
    assert_settled(&cache);
}

#[test]
fn what_a_task_loads_is_kept_as_the_freshness_of_the_call_says() {
    let (cache, time, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let plain = table.behind_async(&cache);
    let lenient = Freshness::new().stale_if_error(HOUR);
    let kept = plain.with_freshness(lenient).unwrap();
    let found = Ok(vec![Some(10), Some(20)]);
    assert_eq!(spawned.answer(kept.get_many(&[1, 2])), found);
    table.is_down.store(true, SeqCst);
    time.advance(SECOND * 10);
    assert!(spawned.answer(plain.get_many(&[1, 2])).is_err());
    assert_eq!(spawned.answer(kept.get_many(&[1, 2])), found);
    assert_settled(&cache);
}

#[test]
fn an_error_of_a_spawned_load_goes_to_all_who_wait_for_one_of_its_keys() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let rows = table.behind_async(&cache);
    table.is_down.store(true, SeqCst);
    let mut first = pin!(rows.get_many(&[1, 2]));
    let mut second = pin!(rows.get_many(&[2, 1]));
    let mut third = pin!(rows.get(&2));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(third.as_mut()).is_pending());
    spawned.run();
    let down = LoadError::Failed(Arc::new("down"));
    assert_eq!(poll_once(first), Poll::Ready(Err(down.clone())));
    assert_eq!(poll_once(second), Poll::Ready(Err(down.clone())));
    assert_eq!(poll_once(third), Poll::Ready(Err(down)));
    assert_eq!(table.asked(), [[1, 2]]);
    assert_eq!(cache.stats().load_failures, 1);
    assert_settled(&cache);
}

#[test]
fn a_call_is_told_of_an_error_of_its_own_load_before_it_waits_for_others() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let table = Table::default();
    table.is_down.store(true, SeqCst);
    let mut other = pin!(cache.try_get_or_load(&1, pending::<Result<u32, &str>>));
    assert!(poll_once(other.as_mut()).is_pending());
    let rows = table.behind_async(&cache);
    let mut call = pin!(rows.get_many(&[1, 2]));
    assert!(poll_once(call.as_mut()).is_pending());
    spawned.run();
    let down = LoadError::Failed(Arc::new("down"));
    assert_eq!(poll_once(call), Poll::Ready(Err(down)));
}

#[test]
fn a_loader_of_several_keys_that_panics_in_a_task_is_not_run_again_for_its_caller() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let rows = table.behind_async(&cache);
    table.has_bug.store(true, SeqCst);
    let mut own = pin!(rows.get_many(&[1, 2]));
    let mut other = pin!(rows.get_many(&[2, 3]));
    assert!(poll_once(own.as_mut()).is_pending());
    assert!(poll_once(other.as_mut()).is_pending());
    let task = |at| spawned.0.lock().unwrap().remove(at);
    assert_eq!(panic_of(|| poll_once(task(0).as_mut())), "no source");
    let sentence = panic_of(|| poll_once(own.as_mut()));
    assert!(
        sentence.starts_with("the loader has panicked"),
        "{sentence}"
    );
    assert_eq!((cache.loads_under_way(), spawned.len()), (1, 1));
    // The other loads what it has waited for, once its own has come.
    table.has_bug.store(false, SeqCst);
    spawned.run();
    let found = spawned.answer(other);
    assert_eq!(found, Ok(vec![Some(20), Some(30)]));
    assert_eq!(table.asked(), [vec![1, 2], vec![3], vec![2]]);
    assert_settled(&cache);
}

#[test]
fn whose_loader_of_several_keys_panics_in_a_task_is_given_what_is_stale() {
    let freshness = Freshness::new().stale_if_error(HOUR).retry_after(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    let table = Table::default();
    let rows = table.behind_async(&cache);
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND * 10);
    table.has_bug.store(true, SeqCst);
    let mut call = pin!(rows.get_many(&[1, 2]));
    assert!(poll_once(call.as_mut()).is_pending());
    let mut task = spawned.0.lock().unwrap().pop().unwrap();
    assert_eq!(panic_of(|| poll_once(task.as_mut())), "no source");
    let old = vec![Some(1), Some(2)];
    assert_eq!(poll_once(call), Poll::Ready(Ok(old.clone())));
    assert_eq!(
        block_on(rows.get_many(&[2, 1])).unwrap(),
        [Some(2), Some(1)]
    );
    assert_eq!(spawned.len(), 0, "the source has a rest");
    assert_settled(&cache);
}

#[test]
fn what_panics_behind_a_task_after_the_loader_has_returned_rests_for_all_keys() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    let rows = cache.read_through_many_async(|keys: Vec<u32>| async move {
        let row = |key| (key, Loaded::<u32>::not_modified());
        Ok::<_, ()>(keys.into_iter().map(row))
    });
    let old = vec![Some(1), Some(2)];
    assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(old.clone()));
    let mut task = spawned.0.lock().unwrap().pop().unwrap();
    assert!(panic_of(|| poll_once(task.as_mut())).contains("not modified"));
    assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(old));
    assert_eq!((spawned.len(), cache.loads_under_way()), (0, 0));
    assert_settled(&cache);
}

thread_local!(static DROPS_TO_PANIC: Cell<u32> = const { Cell::new(0) });

/// A key of which one that is dropped on this thread panics.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Brittle(u32);

impl Drop for Brittle {
    fn drop(&mut self) {
        let left = DROPS_TO_PANIC.get();
        DROPS_TO_PANIC.set(left.saturating_sub(1));
        assert_ne!(left, 1, "it breaks");
    }
}

/// Has the task that loads values which are due panic with that drop; whether it came to that.
fn all_rest_when_a_key_panics(is_down: bool, drops: u32) -> bool {
    let spawned = Spawned::default();
    let tasks = Spawned::clone(&spawned);
    let freshness = Freshness::new().refresh_after(SECOND).retry_after(HOUR);
    let (cache, time) = timed(|builder: CacheBuilder<Brittle, u32>| {
        let spawner = move |load| tasks.0.lock().unwrap().push(load);
        builder
            .max_entries(100)
            .freshness(freshness)
            .spawner(spawner)
    });
    let keys = [Brittle(1), Brittle(2), Brittle(3)];
    cache.insert_many(keys.iter().cloned().map(|key| (key, 0)));
    time.advance(SECOND);
    let rows = cache.read_through_many_async(move |keys: Vec<Brittle>| async move {
        let found = keys.into_iter().map(|key| (key, 1));
        if is_down { Err("down") } else { Ok(found) }
    });
    assert_eq!(block_on(rows.get_many(&keys)), Ok(vec![Some(0); 3]));
    let mut task = spawned.0.lock().unwrap().pop().unwrap();
    DROPS_TO_PANIC.set(drops);
    let ended = catch_unwind(AssertUnwindSafe(|| poll_once(task.as_mut())));
    DROPS_TO_PANIC.set(0);
    assert!(block_on(rows.get_many(&keys)).is_ok());
    assert_eq!(spawned.len(), 0, "the source has a rest");
    assert_settled(&cache);
    ended.is_err()
}

#[test]
fn whatever_key_panics_behind_a_task_all_that_it_was_to_load_rest() {
    for is_down in [false, true] {
        let panics = (1..).take_while(|drops| all_rest_when_a_key_panics(is_down, *drops));
        assert!(panics.count() > 6, "those of the loader and of the loads");
    }
}

#[test]
fn a_caller_loads_by_itself_and_with_one_query_what_a_spawner_has_dropped() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let rows = table.behind_async(&cache);
    let mut call = pin!(rows.get_many(&[1, 2]));
    assert!(poll_once(call.as_mut()).is_pending());
    spawned.0.lock().unwrap().clear();
    let found = block_on(call);
    assert_eq!(found, Ok(vec![Some(10), Some(20)]));
    assert_eq!((spawned.len(), table.asked()), (0, vec![vec![1, 2]]));
    assert_settled(&cache);
}

#[test]
fn what_another_caller_leaves_undone_is_spawned_too() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let rows = table.behind_async(&cache);
    let mut other: Pin<Box<dyn Future<Output = u32>>> = Box::pin(cache.get_or_load(&2, pending));
    assert!(poll_once(other.as_mut()).is_pending());
    let mut call = pin!(rows.get_many(&[1, 2]));
    assert!(poll_once(call.as_mut()).is_pending());
    spawned.run();
    assert!(poll_once(call.as_mut()).is_pending());
    drop(other);
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(spawned.len(), 1);
    let found = spawned.answer(call);
    assert_eq!(found, Ok(vec![Some(10), Some(20)]));
    assert_eq!(table.asked(), [[1], [2]]);
    assert_settled(&cache);
}

#[test]
fn a_spawner_that_panics_leaves_none_of_the_loads_behind() {
    let fails = |_| resume_unwind(Box::new("no runtime"));
    let builder = Cache::<u32, u32>::builder().spawner(fails);
    let cache = builder.build().unwrap();
    let rows = Table::default().behind_async(&cache);
    for _ in 0..2 {
        assert_eq!(panic_of(|| block_on(rows.get_many(&[1, 2]))), "no runtime");
        assert_eq!(cache.loads_under_way(), 0);
    }
    assert_settled(&cache);
}

#[test]
fn a_spawned_load_is_not_begun_when_the_cache_is_gone() {
    let (cache, time, spawned) = spawning(Freshness::new().refresh_after(SECOND));
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    let table = Table::default();
    let rows = table.behind_async(&cache);
    let found = block_on(rows.get_many(&[1, 2]));
    assert_eq!(found, Ok(vec![Some(1), Some(2)]));
    drop((cache, rows));
    assert_eq!(spawned.len(), 1);
    spawned.run();
    assert!(table.asked().is_empty());
}

// ---- time-outs ----

#[test]
fn who_has_waited_for_a_list_for_long_enough_loads_by_himself() {
    let (cache, time, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let rows = table.behind_async(&cache);
    let mut waits = pin!(rows.get_many(&[1, 2]));
    assert!(poll_once(waits.as_mut()).is_pending());
    time.advance(SECOND * 30);
    let found = vec![Some(10), Some(20)];
    assert_eq!(poll_once(waits), Poll::Ready(Ok(found.clone())));
    assert_eq!((spawned.len(), table.asked()), (1, vec![vec![1, 2]]));
    table.change.store(1, SeqCst);
    spawned.run();
    assert!(table.asked().is_empty(), "it was called off");
    assert_eq!(cache.get_many(&[1, 2]), found);
    assert_settled(&cache);
}

#[test]
fn what_is_called_off_for_one_of_its_keys_is_loaded_anew_for_the_others() {
    let (cache, time, spawned) = spawning(Freshness::new());
    let table = Table::default();
    let rows = table.behind_async(&cache);
    // Of a caller that has gone away.
    assert!(poll_once(pin!(rows.get_many(&[1, 2]))).is_pending());
    let mut first = pin!(rows.get_many(&[1]));
    assert!(poll_once(first.as_mut()).is_pending());
    time.advance(SECOND * 20);
    let mut second = pin!(rows.get_many(&[2]));
    assert!(poll_once(second.as_mut()).is_pending());
    time.advance(SECOND * 10);
    assert_eq!(poll_once(first), Poll::Ready(Ok(vec![Some(10)])));
    assert_eq!(spawned.len(), 1, "it has waited for long enough");
    assert!(poll_once(second.as_mut()).is_pending());
    // The task gives up the load that it has not begun, and who waits for the other key leads.
    spawned.run();
    let found = spawned.answer(second);
    assert_eq!(found, Ok(vec![Some(20)]));
    assert_eq!(table.asked(), [[1], [2]]);
    assert_settled(&cache);
}

#[test]
fn a_load_behind_of_several_keys_ends_with_the_hard_time_out() {
    let freshness = Freshness::new().refresh_after(SECOND).hard_timeout(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND);
    let rows = Table::default().gated(&cache, &Gate::default());
    let old = vec![Some(1), Some(2)];
    assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(old.clone()));
    let mut task = spawned.0.lock().unwrap().pop().unwrap();
    assert!(poll_once(task.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(task.as_mut()).is_ready());
    assert_eq!(cache.stats().load_failures, 1);
    assert_eq!(block_on(rows.get_many(&[1, 2])), Ok(old));
    assert_eq!(spawned.len(), 0, "the next attempt is put off");
    let mut call = pin!(rows.get_many(&[1, 2, 3]));
    assert!(poll_once(call.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(call), Poll::Ready(Err(LoadError::TimedOut)));
    assert_eq!(spawned.len(), 1);
    spawned.0.lock().unwrap().clear();
    assert_settled(&cache);
}

#[test]
fn after_the_soft_time_out_stale_values_are_served_and_their_load_goes_on() {
    let freshness = Freshness::new().stale_if_error(HOUR).soft_timeout(SECOND);
    let (cache, time, spawned) = spawning(freshness);
    cache.insert_many([(1, 1), (2, 2)]);
    time.advance(SECOND * 10);
    let (table, gate) = (Table::default(), Gate::default());
    let rows = table.gated(&cache, &gate);
    let mut first = pin!(rows.get_many(&[1, 2]));
    let mut second = pin!(rows.get_many(&[2, 1]));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    time.advance(SECOND);
    let found = poll_once(first);
    assert_eq!(found, Poll::Ready(Ok(vec![Some(1), Some(2)])));
    let found = poll_once(second);
    assert_eq!(found, Poll::Ready(Ok(vec![Some(2), Some(1)])));
    assert_eq!((spawned.len(), cache.loads_under_way()), (1, 2));
    gate.open();
    spawned.run();
    assert_eq!(cache.get_many(&[1, 2]), [Some(10), Some(20)]);
    assert_settled(&cache);
}
