//! Waiting for a lease, by threads and tasks in one queue.

use super::{LEASE, TICK, on_mock, plain};
use crate::common::{INSIDE, PATIENCE, SECOND, panic_of};
use crate::loading::{Wakes, block_on, poll, poll_once};
use haybox::lock::{Acquire, Lease, LockError, Locks};
use haybox::{Cache, MockClock};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

fn pending(locks: &Locks<u32>) -> Acquire<u32> {
    let mut acquire = locks.acquire_async(&1);
    assert!(poll_once(Pin::new(&mut acquire)).is_pending());
    acquire
}

#[track_caller]
fn ready(mut acquire: Acquire<u32>) -> Result<Lease<u32>, LockError> {
    match poll_once(Pin::new(&mut acquire)) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it should be its turn"),
    }
}

fn until_waiting(locks: &Locks<u32>, waiters: usize) {
    while locks.waiters(&1) < waiters {
        thread::yield_now();
    }
}

#[test]
fn threads_and_tasks_are_served_in_the_order_in_which_they_came() {
    let (locks, _time) = plain();
    let held = locks.try_acquire(&1).unwrap().unbind();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let mut tasks = Vec::new();
        for place in 0..6 {
            if place % 2 == 0 {
                tasks.push(pending(&locks));
            } else {
                let (locks, tell) = (&locks, tell.clone());
                scope.spawn(move || tell.send((place, locks.acquire(&1).unwrap())));
            }
            until_waiting(&locks, place + 1);
        }
        let mut lease = held;
        for (turn, task) in tasks.into_iter().enumerate() {
            drop(lease);
            let of_task = ready(task).unwrap();
            assert_eq!(locks.waiters(&1), 5 - 2 * turn);
            drop(of_task);
            let (place, of_thread) = told.recv().unwrap();
            assert_eq!(place, 2 * turn + 1);
            lease = of_thread;
        }
    });
    assert_eq!(locks.waiters(&1), 0);
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    let (locks, _time) = plain();
    let held = locks.try_acquire(&1).unwrap().unbind();
    let waits = pending(&locks);
    drop(held);
    assert_eq!(locks.try_acquire(&1).unwrap_err(), LockError::Busy);
    drop(ready(waits).unwrap());
    assert!(locks.try_acquire(&1).is_ok());
}

#[test]
fn who_comes_too_late_for_its_lease_waits_for_another() {
    let (locks, time) = on_mock(|builder| builder.watchdog(9 * LEASE));
    let held = locks.try_acquire(&1).unwrap();
    let [late, next] = [(); 2].map(|()| pending(&locks));
    drop(held);
    // Nobody polls it in time, so the next one has the lease by then.
    time.advance(LEASE);
    let mut late = late;
    assert!(poll_once(Pin::new(&mut late)).is_pending());
    let lease = ready(next).unwrap();
    assert!(lease.is_held());
    drop(lease);
    let lease = ready(late).unwrap();
    time.advance(LEASE / 2);
    time.advance(LEASE / 2);
    assert!(lease.is_held(), "it is watched");
    drop(lease);
    let stats = locks.stats();
    assert_eq!((stats.acquired, stats.waited, stats.lost), (4, 2, 1));
    assert_eq!((locks.waiters(&1), locks.available(&1)), (0, 1));
}

#[test]
fn a_lease_that_is_over_is_replaced_at_once_where_nobody_has_the_key() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let waits = pending(&locks);
    drop(held);
    time.advance(LEASE);
    let lease = ready(waits).unwrap();
    assert!(lease.is_held());
    assert_eq!((lease.token(), locks.available(&1)), (3, 0));
}

#[test]
fn who_comes_too_late_twice_is_told_so_by_its_lease() {
    let (locks, time) = plain();
    let mut held = locks.try_acquire(&1).unwrap();
    let mut late = pending(&locks);
    for _ in 0..2 {
        let mut next = pending(&locks);
        drop(held);
        time.advance(LEASE);
        let polled = poll_once(Pin::new(&mut late));
        if let Poll::Ready(lease) = polled {
            assert!(!lease.unwrap().is_held());
            return;
        }
        held = block_on(&mut next).unwrap();
    }
    panic!("a call that never ends");
}

#[test]
fn a_time_out_counts_also_for_who_came_too_late() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let mut late = locks.acquire_timeout_async(&1, LEASE);
    assert!(poll_once(Pin::new(&mut late)).is_pending());
    let next = pending(&locks);
    drop(held);
    time.advance(LEASE);
    assert_eq!(ready(late).unwrap_err(), LockError::TimedOut);
    assert!(ready(next).unwrap().is_held());
    assert_eq!(locks.stats().timed_out, 1);
}

#[test]
fn an_expired_lease_is_handed_on_though_nobody_calls() {
    let (locks, time) = plain();
    let stale = locks.try_acquire(&1).unwrap();
    let mut waits = [(); 3].map(|()| locks.acquire_async(&1));
    let (wakes, wakers): (Vec<_>, Vec<_>) = waits.iter().map(|_| Wakes::new()).unzip();
    for (acquire, waker) in waits.iter_mut().zip(&wakers) {
        assert!(poll(Pin::new(acquire), waker).is_pending());
    }
    let counts = || wakes.iter().map(|wakes| wakes.count()).collect::<Vec<_>>();
    time.advance(LEASE - TICK);
    assert_eq!(counts(), [0, 0, 0]);
    for turn in 0..3 {
        time.advance(if turn == 0 { TICK } else { LEASE });
        let expected: Vec<_> = (0..3).map(|place| usize::from(place <= turn)).collect();
        assert_eq!(counts(), expected, "one after the other");
    }
    let [mut first, mut second, third] = waits;
    let third = ready(third).unwrap();
    assert!(third.is_held() && third.token() > stale.token());
    // The others were not polled while they had it, and wait again.
    assert!(poll_once(Pin::new(&mut first)).is_pending());
    assert!(poll_once(Pin::new(&mut second)).is_pending());
    drop(third);
    assert!(ready(first).unwrap().is_held());
    assert!(ready(second).unwrap().is_held());
    assert_eq!(time.timers(), 0);
}

#[test]
fn a_renewed_lease_is_not_handed_on_early() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let mut waits = pending(&locks);
    for _ in 0..5 {
        time.advance(LEASE - TICK);
        held.renew().unwrap();
        assert!(poll_once(Pin::new(&mut waits)).is_pending());
    }
    time.advance(LEASE - TICK);
    assert!(poll_once(Pin::new(&mut waits)).is_pending());
    time.advance(TICK);
    assert!(ready(waits).unwrap().is_held());
}

#[test]
fn a_sooner_end_is_watched_when_it_comes_up() {
    let (locks, time) = plain();
    let long = locks.with_lease_time(10 * LEASE).unwrap();
    let held = long.try_acquire(&1).unwrap();
    let (second, third) = (pending(&locks), pending(&locks));
    drop(held);
    let second = ready(second).unwrap();
    time.advance(LEASE);
    assert!(!second.is_held());
    assert!(ready(third).unwrap().is_held());
}

#[test]
fn a_thread_is_woken_by_the_expiry() {
    let (locks, time) = plain();
    let stale = locks.try_acquire(&1).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| locks.acquire(&1).map(|lease| lease.token()));
        until_waiting(&locks, 1);
        time.advance(LEASE);
        assert!(waits.join().unwrap().unwrap() > stale.token());
    });
}

#[test]
fn the_timer_of_the_real_clock_hands_on_what_has_expired() {
    let locks = Locks::<u32>::new(Duration::from_millis(20)).unwrap();
    std::mem::forget(locks.try_acquire(&1).unwrap().unbind());
    assert!(locks.acquire(&1).is_ok());
    std::mem::forget(locks.acquire(&1).unwrap().unbind());
    assert!(crate::loading::block_on(locks.acquire_async(&1)).is_ok());
}

#[test]
fn a_wait_ends_with_its_time_out() {
    let (locks, time) = plain();
    let _held = locks.try_acquire(&1).unwrap();
    let mut task = locks.acquire_timeout_async(&1, SECOND);
    let (wakes, waker) = Wakes::new();
    assert!(poll(Pin::new(&mut task), &waker).is_pending());
    thread::scope(|scope| {
        let waits = scope.spawn(|| locks.acquire_timeout(&1, SECOND).unwrap_err());
        until_waiting(&locks, 2);
        // One of the task, one of the thread, one for the end of the lease.
        while time.timers() < 3 {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(waits.join().unwrap(), LockError::TimedOut);
    });
    assert_eq!(wakes.count(), 1);
    assert_eq!(ready(task).unwrap_err(), LockError::TimedOut);
    assert_eq!((locks.waiters(&1), time.timers()), (0, 0));
}

#[test]
fn a_task_that_is_dropped_leaves_the_queue() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let (first, second) = (pending(&locks), pending(&locks));
    drop(first);
    assert_eq!(locks.waiters(&1), 1);
    drop(held);
    drop(ready(second).unwrap());
    assert_eq!(time.timers(), 0);
}

#[test]
fn what_was_granted_to_a_task_that_is_dropped_goes_to_the_next() {
    let (locks, _time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let (first, second) = (pending(&locks), pending(&locks));
    drop(held);
    drop(first);
    drop(ready(second).unwrap());
    assert_eq!(locks.available(&1), 1);
}

#[test]
fn who_waits_for_many_permits_is_not_overtaken_and_does_not_block_for_ever() {
    let (locks, _time) = on_mock(|builder| builder.permits(3));
    let [first, second] = [(); 2].map(|()| locks.try_acquire(&1).unwrap().unbind());
    let all = pending(&locks.taking(3).unwrap());
    let one = pending(&locks);
    drop(first);
    assert_eq!(locks.available(&1), 2);
    drop(all);
    let one = ready(one).unwrap();
    assert_eq!(locks.available(&1), 1);
    drop((one, second));
    assert_eq!(locks.available(&1), 3);
}

#[test]
fn closing_wakes_who_waits_and_leaves_the_leases() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let task = pending(&locks);
    thread::scope(|scope| {
        let waits = scope.spawn(|| locks.acquire(&1).unwrap_err());
        until_waiting(&locks, 2);
        locks.close();
        assert_eq!(waits.join().unwrap(), LockError::Closed);
    });
    assert_eq!(ready(task).unwrap_err(), LockError::Closed);
    assert_eq!(locks.acquire(&1).unwrap_err(), LockError::Closed);
    assert_eq!(locks.try_acquire(&2).unwrap_err(), LockError::Closed);
    held.renew().unwrap();
    held.release().unwrap();
    locks.close();
    assert_eq!(time.timers(), 0);
}

#[test]
fn dropping_the_last_handle_wakes_who_waits() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let (task, other) = (pending(&locks), locks.clone());
    drop(locks);
    assert_eq!(other.waiters(&1), 1, "there is another handle");
    drop(other);
    assert_eq!(ready(task).unwrap_err(), LockError::Closed);
    held.release().unwrap();
    assert_eq!(time.timers(), 0);
}

#[test]
fn a_call_that_is_never_polled_does_nothing() {
    let (locks, _time) = plain();
    drop(locks.acquire_async(&1));
    assert!(locks.is_empty());
}

#[test]
fn leases_and_calls_may_go_to_other_threads() {
    fn is_send(_: &(impl Send + 'static)) {}
    let locks = Locks::<String>::new(LEASE).unwrap();
    is_send(&locks.acquire_async("a"));
    is_send(&locks.try_acquire("a").unwrap());
}

thread_local!(static FAILS: Cell<bool> = const { Cell::new(false) });

/// A key whose `Clone` may panic.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Moody(u32);

impl Clone for Moody {
    fn clone(&self) -> Self {
        assert!(!FAILS.get(), "not now");
        Self(self.0)
    }
}

#[test]
fn a_copy_of_the_key_that_panics_leaves_nobody_in_the_queue() {
    let time = MockClock::new();
    let locks = Locks::<Moody>::builder(LEASE).clock(time.clock());
    let locks = locks.build().unwrap();
    let held = locks.try_acquire(&Moody(1)).unwrap();
    let mut failing = locks.acquire_async(&Moody(1));
    FAILS.set(true);
    assert_eq!(panic_of(|| poll_once(Pin::new(&mut failing))), "not now");
    FAILS.set(false);
    assert_eq!(locks.waiters(&Moody(1)), 1, "it may be polled again");
    drop(failing);
    assert_eq!(locks.waiters(&Moody(1)), 0);
    // The timer is asked for anew.
    let mut next = locks.acquire_async(&Moody(1));
    let (wakes, waker) = Wakes::new();
    assert!(poll(Pin::new(&mut next), &waker).is_pending());
    time.advance(LEASE);
    assert_eq!(wakes.count(), 1);
    assert!(matches!(
        poll(Pin::new(&mut next), &waker),
        Poll::Ready(Ok(_))
    ));
    drop(held);
}

#[test]
fn a_timer_that_could_not_be_set_is_set_by_the_next_call() {
    let time = MockClock::new();
    let locks = Locks::<Moody>::builder(LEASE).clock(time.clock());
    let locks = locks.build().unwrap();
    let held = locks.try_acquire(&Moody(1)).unwrap();
    let mut first = locks.acquire_async(&Moody(1));
    let mut second = locks.acquire_async(&Moody(1));
    let mut dropped = locks.acquire_async(&Moody(1));
    FAILS.set(true);
    assert_eq!(panic_of(|| poll_once(Pin::new(&mut first))), "not now");
    // Dropped while its own panic goes through, it asks for the timer again.
    let dropped = AssertUnwindSafe(move || poll_once(Pin::new(&mut dropped)));
    assert!(catch_unwind(dropped).is_err());
    FAILS.set(false);
    assert_eq!(locks.waiters(&Moody(1)), 1);
    // The first still waits, and before the other.
    let ((wakes, waker), (others, other_waker)) = (Wakes::new(), Wakes::new());
    assert!(poll(Pin::new(&mut first), &waker).is_pending());
    assert!(poll(Pin::new(&mut second), &other_waker).is_pending());
    assert_eq!(locks.waiters(&Moody(1)), 2);
    time.advance(LEASE);
    assert_eq!((wakes.count(), others.count()), (1, 0));
    drop(held);
}

#[test]
fn who_waits_is_not_forgotten_where_no_timer_could_be_set() {
    let time = MockClock::new();
    let locks = Locks::<Moody>::builder(LEASE).clock(time.clock());
    let locks = locks.build().unwrap();
    let held = locks.try_acquire(&Moody(1)).unwrap();
    let mut first = locks.acquire_async(&Moody(1));
    FAILS.set(true);
    assert_eq!(panic_of(|| poll_once(Pin::new(&mut first))), "not now");
    FAILS.set(false);
    time.advance(LEASE + 11 * SECOND);
    assert_eq!(locks.waiters(&Moody(1)), 1);
    // The next call finds that the lease has ended.
    assert_eq!(locks.try_acquire(&Moody(1)).unwrap_err(), LockError::Busy);
    assert!(poll_once(Pin::new(&mut first)).is_ready());
    drop(held);
}

#[test]
fn who_releases_too_late_is_told_so_though_nothing_has_ended_the_lease() {
    let time = MockClock::new();
    let locks = Locks::<Moody>::builder(LEASE).clock(time.clock());
    let locks = locks.build().unwrap();
    let held = locks.try_acquire(&Moody(1)).unwrap();
    let mut next = locks.acquire_async(&Moody(1));
    FAILS.set(true);
    assert_eq!(panic_of(|| poll_once(Pin::new(&mut next))), "not now");
    FAILS.set(false);
    // No timer could be set.
    time.advance(LEASE);
    assert!(held.release().is_err());
    assert!(poll_once(Pin::new(&mut next)).is_ready());
    assert_eq!(locks.stats().lost, 1);
}

#[test]
fn a_lease_whose_watchdog_could_not_copy_the_key_is_given_back() {
    let time = MockClock::new();
    let locks = Locks::<Moody>::builder(LEASE).clock(time.clock());
    let locks = locks.watchdog(6 * LEASE).build().unwrap();
    let held = locks.try_acquire(&Moody(1)).unwrap();
    let mut next = locks.acquire_async(&Moody(1));
    assert!(poll_once(Pin::new(&mut next)).is_pending());
    drop(held);
    FAILS.set(true);
    assert_eq!(panic_of(|| poll_once(Pin::new(&mut next))), "not now");
    FAILS.set(false);
    assert_eq!(locks.available(&Moody(1)), 1);
}

/// Dropped where no key can be locked, so that it cannot leave its queue.
fn drop_as_a_closure_unwinds(gone: Acquire<u32>) {
    let cache = Cache::new(10);
    cache.insert(1, 1);
    panic_of(|| {
        cache.update(&1, move |_| {
            let _gone = gone;
            panic!("a closure's")
        })
    });
}

#[test]
fn who_is_dropped_as_a_closure_of_a_cache_unwinds_is_passed_over() {
    let (locks, _time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let (gone, next) = (pending(&locks), pending(&locks));
    drop_as_a_closure_unwinds(gone);
    assert_eq!(locks.waiters(&1), 1);
    drop(held);
    drop(ready(next).unwrap());
    assert!(locks.try_acquire(&1).is_ok());
}

/// Who was behind it needs less than it did, and nobody else comes to serve the queue.
#[test]
fn who_is_dropped_as_a_closure_of_a_cache_unwinds_is_in_nobodys_way() {
    let time = MockClock::new();
    let locks = Locks::<u32>::builder(LEASE).clock(time.clock()).permits(2);
    let locks = locks.build().unwrap();
    let _held = locks.try_acquire(&1).unwrap();
    let (gone, mut next) = (pending(&locks.taking(2).unwrap()), pending(&locks));
    let (wakes, waker) = Wakes::new();
    assert!(poll(Pin::new(&mut next), &waker).is_pending());
    drop_as_a_closure_unwinds(gone);
    time.advance(Duration::ZERO);
    assert_eq!(wakes.count(), 1);
    drop(ready(next).unwrap());
    assert_eq!(locks.waiters(&1), 0);
}

#[test]
fn a_lease_of_who_is_dropped_as_a_closure_of_a_cache_unwinds_is_handed_on() {
    let (locks, time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let (gone, next) = (pending(&locks), pending(&locks));
    drop(held);
    drop_as_a_closure_unwinds(gone);
    time.advance(Duration::ZERO);
    drop(ready(next).unwrap());
    assert_eq!((locks.available(&1), time.timers()), (1, 0));
}

/// It is no place to drop one, and that it was is in nobody's way.
#[test]
fn who_is_dropped_in_a_closure_of_a_cache_is_told_and_leaves_all_the_same() {
    let (locks, time) = plain();
    for is_served in [false, true] {
        let held = locks.try_acquire(&1).unwrap();
        let (gone, next) = (pending(&locks), pending(&locks));
        let held = (!is_served).then_some(held);
        let cache = Cache::new(10);
        cache.insert(1, 1);
        let said = panic_of(|| cache.update(&1, move |_| drop(gone)));
        assert!(said.contains(INSIDE), "{said}");
        drop(held);
        time.advance(Duration::ZERO);
        drop(ready(next).unwrap());
        assert_eq!((locks.waiters(&1), locks.available(&1)), (0, 1));
    }
}

#[test]
fn on_the_real_clock_a_thread_sees_to_who_was_dropped_as_a_closure_unwound() {
    let locks = Locks::<u32>::builder(4 * PATIENCE)
        .permits(2)
        .build()
        .unwrap();
    let _held = locks.try_acquire(&1).unwrap();
    let gone = pending(&locks.taking(2).unwrap());
    thread::scope(|threads| {
        let next = threads.spawn(|| locks.acquire_timeout(&1, PATIENCE).is_ok());
        until_waiting(&locks, 2);
        drop_as_a_closure_unwinds(gone);
        assert!(next.join().unwrap());
    });
}
