//! What locks have done, in numbers.

use super::{LEASE, on_mock, plain};
use crate::common::SECOND;
use crate::loading::poll_once;
use haybox::lock::LockError;
use std::pin::Pin;
use std::thread;

#[test]
fn leases_and_refusals_are_counted() {
    let (locks, _time) = plain();
    let lease = locks.try_acquire(&1).unwrap();
    assert_eq!(locks.try_acquire(&1).unwrap_err(), LockError::Busy);
    assert_eq!(locks.acquire(&1).unwrap_err(), LockError::Reentrant);
    lease.release().unwrap();
    drop(locks.clone().acquire(&2).unwrap());
    locks.with_lock(&3, |_| ()).unwrap();
    let stats = locks.stats();
    assert_eq!((stats.acquired, stats.busy, stats.keys), (3, 1, 3));
    assert_eq!((stats.waited, stats.timed_out, stats.lost), (0, 0, 0));
}

#[test]
fn the_first_token_is_not_the_number_of_leases() {
    let (locks, _time) = on_mock(|builder| builder.first_token(1_000));
    drop(locks.try_acquire(&1).unwrap());
    assert_eq!(locks.stats().acquired, 1);
}

#[test]
fn waits_and_time_outs_are_counted_for_threads_and_tasks() {
    let (locks, time) = plain();
    let lease = locks.try_acquire(&1).unwrap();
    let mut served = locks.acquire_async(&1);
    let mut late = locks.acquire_timeout_async(&1, SECOND);
    for _ in 0..3 {
        assert!(poll_once(Pin::new(&mut served)).is_pending());
        assert!(poll_once(Pin::new(&mut late)).is_pending());
    }
    let gone = locks.acquire_async(&1);
    drop(gone);
    thread::scope(|threads| {
        let waiting = threads.spawn(|| locks.acquire_timeout(&1, SECOND));
        while locks.waiters(&1) < 3 {
            thread::yield_now();
        }
        assert_eq!(locks.stats().timed_out, 0);
        time.advance(SECOND);
        assert_eq!(waiting.join().unwrap().unwrap_err(), LockError::TimedOut);
    });
    assert!(poll_once(Pin::new(&mut late)).is_ready());
    lease.release().unwrap();
    assert!(poll_once(Pin::new(&mut served)).is_ready());
    let stats = locks.stats();
    assert_eq!((stats.acquired, stats.waited, stats.timed_out), (2, 3, 2));
    assert_eq!((stats.busy, stats.lost), (0, 0));
}

#[test]
fn who_waits_and_goes_has_not_timed_out() {
    let (locks, _time) = plain();
    let _lease = locks.try_acquire(&1).unwrap();
    let mut waiting = locks.acquire_timeout_async(&1, SECOND);
    assert!(poll_once(Pin::new(&mut waiting)).is_pending());
    drop(waiting);
    assert_eq!((locks.stats().waited, locks.stats().timed_out), (1, 0));
}

#[test]
fn a_lease_whose_time_has_passed_is_counted_as_lost_once() {
    let (locks, time) = plain();
    // It asks, and is told.
    let asks = locks.try_acquire(&1).unwrap();
    time.advance(LEASE);
    assert!(asks.renew().is_err());
    assert_eq!(locks.stats().lost, 0, "it has not ended yet");
    assert!(asks.release().is_err());
    assert_eq!(locks.stats().lost, 1);
    // Another has it.
    let dropped = locks.try_acquire(&2).unwrap();
    time.advance(LEASE);
    let other = locks.try_acquire(&2).unwrap();
    drop(dropped);
    assert_eq!(locks.stats().lost, 2);
    drop(other);
    // Its key was forgotten meanwhile.
    let forgotten = locks.try_acquire(&3).unwrap();
    time.advance(LEASE);
    (0..30).for_each(|_| time.advance(SECOND));
    drop(forgotten);
    assert_eq!(locks.stats().lost, 3);
    // Nobody has asked for it, so nobody was hurt.
    let unnoticed = locks.try_acquire(&4).unwrap();
    time.advance(LEASE);
    drop(unnoticed);
    assert_eq!(locks.stats().lost, 3);
}

#[test]
fn a_lease_that_is_dropped_where_none_can_end_is_not_lost() {
    let (locks, _time) = plain();
    let cache = haybox::Cache::new(1);
    cache.insert(1, 1);
    let lease = locks.try_acquire(&1).unwrap();
    crate::common::panic_of(|| {
        cache.update(&1, |_| {
            let _lease = lease;
            panic!("on the way out");
        })
    });
    assert_eq!((locks.available(&1), locks.stats().lost), (0, 0));
}
