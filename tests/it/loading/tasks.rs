//! What holds for callers that are polled.

use super::{Gate, Wakes, assert_settled, block_on, poll, poll_once};
use crate::common::{SECOND, panic_of, timed};
use haybox::{Cache, LoadError};
use std::cell::{Cell, OnceCell};
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::{mem, thread};

#[test]
fn a_hit_is_ready_at_the_first_poll_and_runs_no_loader() {
    let cache = Cache::new(10);
    cache.insert(1, 'a');
    let call = pin!(cache.get_or_load(&1, || async { unreachable!("it is there") }));
    assert_eq!(poll_once(call), Poll::Ready('a'));
    let call = pin!(cache.try_get_or_load(&1, pending::<Result<char, ()>>));
    assert!(matches!(poll_once(call), Poll::Ready(Ok('a'))));
    assert_eq!((cache.stats().hits, cache.stats().misses), (2, 0));
}

#[test]
fn a_call_that_is_never_polled_does_nothing() {
    let cache: Cache<u32, u32> = Cache::new(10);
    drop(cache.get_or_load(&1, || async { 1 }));
    assert_eq!((cache.len(), cache.stats().misses), (0, 0));
    assert_settled(&cache);
}

#[test]
fn the_calls_may_go_to_other_threads() {
    fn is_send(future: impl Send) {
        drop(future);
    }
    let cache: Cache<String, Arc<str>> = Cache::new(10);
    is_send(cache.get_or_load("a", || async { Arc::from("a") }));
    is_send(cache.try_get_or_load("a", || async { Ok::<_, ()>(Arc::from("a")) }));
}

#[test]
fn one_load_serves_threads_and_tasks() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        5
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut task = pin!(cache.get_or_load(&1, || async { unreachable!("it is loaded") }));
    let (wakes, waker) = Wakes::new();
    assert!(poll(task.as_mut(), &waker).is_pending());
    thread::scope(|scope| {
        let thread = scope.spawn(|| cache.get_or_insert_with(&1, || unreachable!("it is loaded")));
        super::until_waiting(&cache, 2);
        gate.open();
        assert_eq!(poll_once(leader.as_mut()), Poll::Ready(5));
        assert_eq!(thread.join().unwrap(), 5);
    });
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll(task.as_mut(), &waker), Poll::Ready(5));
    assert_eq!((cache.stats().loads, cache.stats().waits), (1, 2));
    assert_settled(&cache);
}

#[test] // quick-cache#104
fn a_waker_that_changes_between_polls_is_the_one_that_is_woken() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        5
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut task = pin!(cache.get_or_load(&1, || async { unreachable!("it is loaded") }));
    let (first, first_waker) = Wakes::new();
    let (second, second_waker) = Wakes::new();
    assert!(poll(task.as_mut(), &first_waker).is_pending());
    assert!(poll(task.as_mut(), &second_waker).is_pending());
    gate.open();
    assert!(poll_once(leader.as_mut()).is_ready());
    assert_eq!((first.count(), second.count()), (0, 1));
    assert_eq!(poll(task.as_mut(), &first_waker), Poll::Ready(5));
}

#[test] // quick-cache#120
fn a_waiter_that_is_dropped_leaves_nothing_behind() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        5
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let (wakes, waker) = Wakes::new();
    for _ in 0..100 {
        let mut task = pin!(cache.get_or_load(&1, || async { 0 }));
        assert!(poll(task.as_mut(), &waker).is_pending());
    }
    assert_eq!(time.timers(), 0);
    drop(waker);
    assert_eq!(Arc::strong_count(&wakes), 1, "no waker is left");
    gate.open();
    assert!(poll_once(leader.as_mut()).is_ready());
    assert_settled(&cache);
}

/// Boxed, so that a test can drop it while it is under way.
type Call<'c> = Pin<Box<dyn Future<Output = u32> + 'c>>;

#[test] // moka#59
fn when_a_leader_is_dropped_the_first_of_those_who_wait_to_come_leads() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let mut leader: Call<'_> = Box::pin(cache.get_or_load(&1, pending));
    assert!(poll_once(leader.as_mut()).is_pending());
    let wait =
        |value| -> Call<'_> { Box::pin(cache.get_or_load(&1, move || async move { value })) };
    let (mut never_polled, mut second, mut third) = (wait(2), wait(3), wait(4));
    let (wakes, waker) = Wakes::new();
    for task in [&mut never_polled, &mut second, &mut third] {
        assert!(poll(task.as_mut(), &waker).is_pending());
    }
    drop(leader);
    assert_eq!(wakes.count(), 3, "all are asked");
    assert_eq!(poll(second.as_mut(), &waker), Poll::Ready(3));
    assert_eq!(poll(third.as_mut(), &waker), Poll::Ready(3));
    assert_eq!(poll(never_polled.as_mut(), &waker), Poll::Ready(3));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    assert_settled(&cache);
}

/// Notes in which order tasks are woken.
struct Turn {
    number: u32,
    woken: Arc<Mutex<Vec<u32>>>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push(self.number);
    }
}

#[test]
fn who_has_waited_shortest_is_woken_first_when_a_leader_is_dropped_and_last_when_it_panics() {
    for (panics, order) in [(false, [3, 1, 2]), (true, [1, 2, 3])] {
        let cache: Cache<u32, u32> = Cache::new(10);
        let gate = Gate::default();
        let mut leader: Call<'_> = Box::pin(cache.get_or_load(&1, || async {
            gate.pass().await;
            panic!("the loader fails")
        }));
        assert!(poll_once(leader.as_mut()).is_pending());
        let woken = Arc::default();
        let wait = |number| {
            let mut task: Call<'_> = Box::pin(cache.get_or_load(&1, || async { 0 }));
            let woken = Arc::clone(&woken);
            let waker = Waker::from(Arc::new(Turn { number, woken }));
            assert!(poll(task.as_mut(), &waker).is_pending());
            task
        };
        let waiting = [1, 2, 3].map(wait);
        if panics {
            gate.open();
            assert_eq!(panic_of(|| poll_once(leader.as_mut())), "the loader fails");
        }
        drop(leader);
        assert_eq!(*woken.lock().unwrap(), order);
        drop(waiting);
        assert_settled(&cache);
    }
}

#[test]
fn a_leader_that_panics_hands_over() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let mut leader: Call<'_> = Box::pin(cache.get_or_load(&1, || async {
        gate.pass().await;
        panic!("the loader fails")
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut task = pin!(cache.get_or_load(&1, || async { 2 }));
    let (wakes, waker) = Wakes::new();
    assert!(poll(task.as_mut(), &waker).is_pending());
    gate.open();
    assert_eq!(panic_of(|| poll_once(leader.as_mut())), "the loader fails");
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll(task.as_mut(), &waker), Poll::Ready(2));
    let calls_the_loader = || -> std::future::Ready<u32> { panic!("before it is a future") };
    assert_eq!(
        panic_of(|| block_on(cache.get_or_load(&3, calls_the_loader))),
        "before it is a future"
    );
    assert_settled(&cache);
}

thread_local!(static COPIES_LEFT: Cell<u32> = const { Cell::new(u32::MAX) });

/// A value that can be copied only so often.
#[derive(Debug, PartialEq, Eq)]
struct Rare(u32);

impl Clone for Rare {
    fn clone(&self) -> Self {
        let left = COPIES_LEFT.get().checked_sub(1).expect("no more copies");
        COPIES_LEFT.set(left);
        Self(self.0)
    }
}

#[test]
fn a_leader_whose_copy_for_the_others_panics_hands_over() {
    let plain = timed(|builder| builder.max_entries(10)).0;
    let weighed = timed(|builder| builder.max_weight(10).weigher(|_, _| 1)).0;
    for cache in [plain, weighed] {
        let gate = Gate::default();
        let mut leader = Box::pin(cache.get_or_load(&1, || async {
            gate.pass().await;
            Rare(5)
        }));
        assert!(poll_once(leader.as_mut()).is_pending());
        let mut task = pin!(cache.get_or_load(&1, || async { Rare(6) }));
        let (wakes, waker) = Wakes::new();
        assert!(poll(task.as_mut(), &waker).is_pending());
        gate.open();
        // One for the cache, and none for who waits.
        COPIES_LEFT.set(1);
        assert_eq!(panic_of(|| poll_once(leader.as_mut())), "no more copies");
        COPIES_LEFT.set(u32::MAX);
        assert_eq!(wakes.count(), 1);
        assert_eq!(
            poll(task.as_mut(), &waker),
            Poll::Ready(Rare(5)),
            "it is stored"
        );
        assert_settled(&cache);
    }
}

#[test]
fn a_leader_that_is_forgotten_is_waited_for_no_longer_than_the_time_out() {
    let (cache, time) = timed(|builder| builder.max_entries(10).lock_timeout(SECOND));
    let mut leader: Call<'_> = Box::pin(cache.get_or_load(&1, pending));
    assert!(poll_once(leader.as_mut()).is_pending());
    mem::forget(leader);
    let mut task = pin!(cache.get_or_load(&1, || async { 2 }));
    assert!(poll_once(task.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(task), Poll::Ready(2));
    assert_eq!(cache.get(&1), Some(2));
    assert_settled(&cache);
}

#[test]
fn a_leader_that_is_dropped_inside_a_closure_of_the_cache_is_cleared_up_by_the_next() {
    let cache: Cache<u32, u32> = Cache::new(10);
    cache.insert(2, 2);
    let mut leader: Call<'_> = Box::pin(cache.get_or_load(&1, pending));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.read(&2, |_| drop(leader));
    assert_eq!(cache.get_or_insert_with(&1, || 7), 7);
    assert_eq!(cache.get(&1), Some(7));
    assert_settled(&cache);
}

thread_local!(static IS_FRAGILE: Cell<bool> = const { Cell::new(false) });

/// A key or value of which one panics when it is dropped, once the test says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fragile(pub(super) u32);

impl Fragile {
    /// What the next drop on this thread does.
    pub(super) fn panics_next() {
        IS_FRAGILE.set(true);
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!IS_FRAGILE.replace(false), "it breaks");
    }
}

#[test]
fn a_call_that_panics_as_it_begins_to_lead_leaves_no_load_behind() {
    let cache: Cache<Fragile, u32> = Cache::new(10);
    let (key, other) = (Fragile(1), Fragile(2));
    cache.insert(other.clone(), 2);
    let mut leader: Call<'_> = Box::pin(cache.get_or_load(&key, pending));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.read(&other, |_| drop(leader));
    // It clears up what that one has left, and drops its key.
    Fragile::panics_next();
    let load = || unreachable!("it does not come that far");
    assert_eq!(
        panic_of(|| cache.get_or_insert_with(&key, load)),
        "it breaks"
    );
    let next = pin!(cache.get_or_load(&key, || async { 3 }));
    assert_eq!(poll_once(next), Poll::Ready(3), "nobody leads");
    assert_settled(&cache);
}

#[test] // moka#59
fn an_error_goes_to_all_tasks_that_wait() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let mut leader = pin!(cache.try_get_or_load(&1, || async {
        gate.pass().await;
        Err::<u32, _>("no such host".to_owned())
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let wait = || cache.try_get_or_load(&1, || async { Ok::<u32, String>(1) });
    let mut tasks: Vec<_> = (0..1_000).map(|_| Box::pin(wait())).collect();
    for task in &mut tasks {
        assert!(poll_once(task.as_mut()).is_pending());
    }
    gate.open();
    let Poll::Ready(Err(LoadError::Failed(first))) = poll_once(leader.as_mut()) else {
        panic!("the loader fails");
    };
    for task in &mut tasks {
        match poll_once(task.as_mut()) {
            Poll::Ready(Err(LoadError::Failed(error))) => assert!(Arc::ptr_eq(&error, &first)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cache.get_or_insert_with(&1, || 9), 9, "and is not stored");
    assert_settled(&cache);
}

#[test]
fn waiters_with_another_type_of_error_share_one_load_of_their_own() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let mut leader = pin!(cache.try_get_or_load(&1, || async {
        gate.pass().await;
        Err::<u32, _>("no such host".to_owned())
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let loads = AtomicU32::new(0);
    let wait = || {
        cache.try_get_or_load(&1, || async {
            loads.fetch_add(1, SeqCst);
            super::a_turn().await;
            Err::<u32, u8>(7)
        })
    };
    let mut tasks: Vec<_> = (0..3).map(|_| Box::pin(wait())).collect();
    for task in &mut tasks {
        assert!(poll_once(task.as_mut()).is_pending());
    }
    gate.open();
    assert!(poll_once(leader.as_mut()).is_ready());
    for task in &mut tasks {
        assert!(poll_once(task.as_mut()).is_pending(), "one loads, two wait");
    }
    for task in &mut tasks {
        match poll_once(task.as_mut()) {
            Poll::Ready(Err(LoadError::Failed(error))) => assert_eq!(*error, 7),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(loads.load(SeqCst), 1);
    assert_settled(&cache);
}

// ---- waits that would not end ----

#[test]
fn a_loader_that_asks_for_its_own_key_is_told_so() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let own = || cache.try_get_or_load(&1, || async { Ok::<u32, ()>(1) });
    let asked = block_on(cache.try_get_or_load(&1, own));
    assert!(
        matches!(asked, Err(LoadError::Failed(inner)) if matches!(*inner, LoadError::Reentrant))
    );
    let blocks = async || cache.try_get_or_insert_with(&1, || Ok::<u32, ()>(1));
    let asked = block_on(cache.try_get_or_load(&1, blocks));
    assert!(
        matches!(asked, Err(LoadError::Failed(inner)) if matches!(*inner, LoadError::Reentrant))
    );
    let polls = || block_on(own());
    let asked = cache.try_get_or_insert_with(&1, polls);
    assert!(
        matches!(asked, Err(LoadError::Failed(inner)) if matches!(*inner, LoadError::Reentrant))
    );
    let words = panic_of(|| {
        block_on(cache.get_or_load(&1, || Box::pin(cache.get_or_load(&1, || async { 1 }))))
    });
    assert_eq!(words, LoadError::<String>::Reentrant.to_string());
    assert_settled(&cache);
}

#[test]
fn two_tasks_whose_loads_need_each_other_are_found_out() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let needs = |own: u32, other: u32| {
        let (cache, gate) = (&cache, &gate);
        async move {
            let load = || async {
                gate.pass().await;
                let inner = cache.try_get_or_load(&other, || async { Ok::<u32, ()>(other) });
                inner.await
            };
            cache.try_get_or_load(&own, load).await
        }
    };
    let (mut first, mut second) = (pin!(needs(1, 2)), pin!(needs(2, 1)));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    gate.open();
    assert!(
        poll_once(first.as_mut()).is_pending(),
        "it waits for the other"
    );
    let Poll::Ready(Err(LoadError::Failed(error))) = poll_once(second.as_mut()) else {
        panic!("the circle is found");
    };
    assert!(matches!(*error, LoadError::Reentrant));
    // The error of the other means nothing to the first, which loads that key for itself.
    assert!(matches!(poll_once(first), Poll::Ready(Ok(2))));
    assert_settled(&cache);
}

#[test]
fn a_thread_and_a_task_whose_loads_need_each_other_are_found_out() {
    let (cache, other): (Cache<u32, u32>, Cache<u32, u32>) = (Cache::new(10), Cache::new(10));
    let gate = Gate::default();
    let mut task = pin!(cache.try_get_or_load(&1, || async {
        gate.pass().await;
        other
            .try_get_or_load(&1, || async { Ok::<u32, ()>(1) })
            .await
    }));
    assert!(poll_once(task.as_mut()).is_pending());
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            other.try_get_or_insert_with(&1, || {
                cache.try_get_or_insert_with(&1, || Ok::<u32, LoadError<()>>(1))
            })
        });
        super::until_waiting(&cache, 1);
        gate.open();
        let Poll::Ready(Err(LoadError::Failed(error))) = poll_once(task.as_mut()) else {
            panic!("the circle is found");
        };
        assert!(matches!(*error, LoadError::Reentrant));
        assert!(thread.join().unwrap().is_err());
    });
    assert_settled(&cache);
    assert_settled(&other);
}

#[test]
fn a_blocking_call_does_not_stop_the_thread_that_polls_the_leader() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        1
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    assert_eq!(cache.get_or_insert_with(&1, || 2), 2, "it loads for itself");
    assert_eq!((cache.get(&1), cache.stats().waits), (None, 0));
    let asks_again = || cache.try_get_or_insert_with(&1, || Ok::<u32, ()>(3));
    let asked = cache.try_get_or_insert_with(&1, asks_again);
    assert!(
        matches!(asked, Err(LoadError::Failed(inner)) if matches!(*inner, LoadError::Reentrant))
    );
    gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(1));
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

#[test]
fn a_leader_left_unpolled_in_a_select_is_ended_by_the_time_out() {
    let (cache, time) = timed(|builder| builder.max_entries(10).lock_timeout(SECOND));
    let mut selected = pin!(cache.get_or_load(&1, pending));
    assert!(poll_once(selected.as_mut()).is_pending());
    // The other branch of the `select!` asks for the key itself, and never goes back to the first.
    let mut task = pin!(cache.get_or_load(&1, || async { 2 }));
    let (wakes, waker) = Wakes::new();
    assert!(poll(task.as_mut(), &waker).is_pending());
    time.advance(SECOND);
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll(task, &waker), Poll::Ready(2));
    assert_settled(&cache);
}

#[test]
fn a_wait_that_a_loader_leaves_behind_is_not_one_of_the_next_load() {
    // Two, since a load that begins beside another one takes nothing over, nor does the first in an
    // empty set.
    let (cache, other): (Cache<char, u32>, Cache<char, u32>) = (Cache::new(10), Cache::new(10));
    cache.insert('z', 26);
    let (ask, answer) = (Gate::default(), Gate::default());
    let mut asking = pin!(other.get_or_load(&'a', || async {
        ask.pass().await;
        cache.get_or_load(&'c', pending).await
    }));
    assert!(poll_once(asking.as_mut()).is_pending());
    let left_behind = OnceCell::new();
    let b = cache.get_or_insert_with(&'b', || {
        let mut wait = Box::pin(other.get_or_load(&'a', pending));
        assert!(poll_once(wait.as_mut()).is_pending());
        assert!(left_behind.set(wait).is_ok());
        2
    });
    assert_eq!(b, 2);
    let mut asked = pin!(cache.get_or_load(&'c', || async {
        answer.pass().await;
        3
    }));
    assert!(poll_once(asked.as_mut()).is_pending());
    // Did the load of "c" wait for that of "a", as the one of "b" did, this would close a circle.
    ask.open();
    assert!(poll_once(asking.as_mut()).is_pending());
    answer.open();
    assert_eq!(poll_once(asked.as_mut()), Poll::Ready(3));
    assert_eq!(poll_once(asking.as_mut()), Poll::Ready(3));
    let left_behind = left_behind.into_inner().unwrap();
    assert_eq!(poll_once(pin!(left_behind)), Poll::Ready(3));
    assert_settled(&cache);
    assert_settled(&other);
}
