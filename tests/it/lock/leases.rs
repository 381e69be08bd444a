//! What a lease is to its holder.

use super::{LEASE, TICK, on_mock, plain};
use crate::common::SECOND;
#[cfg(debug_assertions)]
use crate::common::panic_of;
use crate::loading::poll_once;
use haybox::lock::{Lease, LockError, Locks};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// It need not say what a key has to be.
#[derive(Clone, Debug)]
struct Jobs<K> {
    locks: Locks<K>,
}

#[test]
fn locks_are_a_field_of_a_type_that_bounds_no_keys() {
    let jobs = Jobs { locks: plain().0 };
    let other = jobs.clone();
    let lease = jobs.locks.try_acquire(&1).unwrap();
    assert_eq!(other.locks.try_acquire(&1).unwrap_err(), LockError::Busy);
    drop((jobs, other));
    assert!(lease.is_held() && lease.release().is_ok());
}

#[test]
fn a_lease_ends_on_the_exact_nanosecond() {
    let (locks, time) = plain();
    let lease = locks.try_acquire(&1).unwrap();
    time.advance(LEASE - TICK);
    assert_eq!((lease.is_held(), lease.remaining()), (true, TICK));
    let other = || locks.acquire_timeout_async(&1, Duration::ZERO);
    assert_eq!(
        crate::loading::block_on(other()).unwrap_err(),
        LockError::TimedOut
    );
    time.advance(TICK);
    assert_eq!(
        (lease.is_held(), lease.remaining()),
        (false, Duration::ZERO)
    );
    assert!(crate::loading::block_on(other()).is_ok());
}

/// By the real clock, whose coarse readings lag.
#[test]
fn a_short_lease_lasts_for_its_time_and_no_longer() {
    let time = Duration::from_millis(2);
    let locks = Locks::new(time).unwrap();
    for key in 0..10 {
        let asked = Instant::now();
        let lease = locks.try_acquire(&key).unwrap();
        let granted = Instant::now();
        assert!(lease.remaining() + asked.elapsed() >= time);
        while granted.elapsed() < time {}
        let is_lost = if key % 2 == 0 {
            lease.renew().is_err()
        } else {
            lease.release().is_err()
        };
        assert!(is_lost);
    }
}

#[test]
fn who_comes_too_late_is_told_and_harms_nobody() {
    let (locks, time) = plain();
    let stale = locks.try_acquire(&1).unwrap();
    let dropped = locks.try_acquire(&2).unwrap();
    time.advance(LEASE);
    let next = locks.try_acquire(&1).unwrap();
    let second = locks.try_acquire(&2).unwrap();
    assert!(next.token() > stale.token());
    assert_eq!(stale.renew().unwrap_err().token(), stale.token());
    drop(dropped);
    let token = stale.token();
    let error = stale.release().unwrap_err();
    assert_eq!(error.token(), token);
    assert!(
        error.to_string().contains("had ended by its time"),
        "{error}"
    );
    assert!(next.is_held() && second.is_held());
    next.release().unwrap();
}

#[test]
fn a_lease_that_has_ended_is_not_renewed_though_nobody_has_it() {
    let (locks, time) = plain();
    let lease = locks.try_acquire(&1).unwrap();
    time.advance(LEASE);
    assert!(lease.renew().is_err());
    assert!(lease.release().is_err());
}

#[test]
fn a_renewal_never_shortens_a_lease() {
    let (locks, time) = plain();
    let long = locks.with_lease_time(10 * LEASE).unwrap();
    let lease = long.try_acquire(&1).unwrap();
    time.advance(LEASE);
    lease.renew().unwrap();
    assert_eq!(lease.remaining(), 10 * LEASE);
}

#[test]
fn who_does_not_wait_is_told_the_same_on_every_thread() {
    let (locks, _) = plain();
    let lease = locks.try_acquire(&1).unwrap();
    let here = locks.try_acquire(&1).unwrap_err();
    let elsewhere = thread::scope(|scope| scope.spawn(|| locks.try_acquire(&1)).join().unwrap());
    assert_eq!(
        (here, elsewhere.unwrap_err()),
        (LockError::Busy, LockError::Busy)
    );
    assert_eq!(locks.acquire(&1).unwrap_err(), LockError::Reentrant);
    let lease = lease.unbind();
    assert_eq!(locks.try_acquire(&1).unwrap_err(), LockError::Busy);
    drop(lease);
}

#[test]
fn the_same_thread_gets_an_error_and_not_a_deadlock() {
    let (locks, time) = plain();
    let lease = locks.acquire(&1).unwrap();
    assert_eq!(locks.acquire(&1).unwrap_err(), LockError::Reentrant);
    assert_eq!(
        locks.acquire_timeout(&1, SECOND).unwrap_err(),
        LockError::Reentrant
    );
    assert_eq!(
        locks.with_lock(&1, |_| ()).unwrap_err(),
        LockError::Reentrant
    );
    let elsewhere = thread::scope(|scope| scope.spawn(|| locks.try_acquire(&1)).join().unwrap());
    assert_eq!(elsewhere.unwrap_err(), LockError::Busy);
    let lease = lease.unbind();
    assert_eq!(locks.try_acquire(&1).unwrap_err(), LockError::Busy);
    drop(lease);
    let _again = locks.acquire(&1).unwrap();
    time.advance(LEASE);
    assert!(
        locks.acquire(&1).is_ok(),
        "what has expired counts for nobody"
    );
}

#[test]
fn tokens_grow_over_all_keys_and_go_on_where_they_are_told() {
    let (locks, _time) = on_mock(|builder| builder.first_token(100));
    let mut last = 99;
    for round in 0..50 {
        let lease = locks.clone().try_acquire(&(round % 3)).unwrap();
        assert!(lease.token() > last);
        last = lease.token();
    }
    assert_eq!(last, 149);
}

#[test]
fn the_lease_of_with_lock_may_be_lost() {
    let (locks, time) = plain();
    assert_eq!(locks.with_lock(&1, |_| 5), Ok(5));
    let lost = locks.with_lock(&1, |_| time.advance(LEASE));
    assert!(matches!(lost, Err(LockError::Lost(_))), "{lost:?}");
    let renewed = locks.with_lock(&1, |lease| {
        time.advance(LEASE - TICK);
        lease.renew().unwrap();
        time.advance(LEASE - TICK);
    });
    assert_eq!(renewed, Ok(()));
}

#[test]
fn work_that_is_awaited_is_done_under_the_lease() {
    let (locks, time) = plain();
    let work = async |lease: &Lease<u32>| {
        tokio::task::yield_now().await;
        (lease.is_held(), locks.available(&1))
    };
    let executor = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert_eq!(
        executor.block_on(locks.with_lock_async(&1, work)),
        Ok((true, 0))
    );
    assert_eq!(
        locks.available(&1),
        1,
        "or the next call would wait for ever"
    );
    let lost = executor.block_on(locks.with_lock_async(&1, async |_| time.advance(LEASE)));
    assert!(matches!(lost, Err(LockError::Lost(_))), "{lost:?}");

    // A task that is cancelled gives it back.
    let mut cancelled = Box::pin(locks.with_lock_async(&1, async |_| pending::<()>().await));
    assert!(poll_once(cancelled.as_mut()).is_pending());
    assert_eq!(locks.available(&1), 0);
    drop(cancelled);
    assert_eq!(locks.available(&1), 1);
}

#[test]
fn tasks_on_any_thread_take_turns() {
    let (locks, _time) = plain();
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            executor.spawn(async move {
                let work = async |_: &Lease<u32>| {
                    let others = inside.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, SeqCst);
                    others
                };
                locks.with_lock_async(&1, work).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(executor.block_on(task).unwrap(), Ok(0));
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_closure_that_only_makes_a_future_is_refused() {
    let (locks, _time) = plain();
    let sentence = panic_of(|| locks.with_lock(&1, |_| async { 1 }));
    assert!(sentence.contains("with_lock_async"), "{sentence}");
    assert_eq!(locks.available(&1), 1);
}

#[test]
fn steps_of_the_wall_clock_change_nothing() {
    let (locks, time) = plain();
    let lease = locks.try_acquire(&1).unwrap();
    time.set_system_time(SystemTime::UNIX_EPOCH);
    assert_eq!(lease.remaining(), LEASE);
    time.set_system_time(SystemTime::UNIX_EPOCH + 1_000_000_000 * SECOND);
    assert_eq!(lease.remaining(), LEASE);
}

#[test]
fn the_watchdog_renews_while_the_lease_lives_and_not_for_ever() {
    let (locks, time) = on_mock(|builder| builder.watchdog(6 * LEASE));
    let lease = locks.try_acquire(&1).unwrap();
    for _ in 0..59 {
        time.advance(SECOND);
        assert!(lease.remaining() >= SECOND);
    }
    time.advance(SECOND);
    assert!(!lease.is_held(), "the work hangs");
    drop(lease);
    drop(locks.try_acquire(&1).unwrap());
    assert_eq!(time.timers(), 0, "nothing is renewed any more");
}

#[test]
fn the_watchdog_renews_when_a_third_of_the_time_has_passed_and_no_more_than_it_may() {
    let (locks, time) = on_mock(|builder| builder.watchdog(2 * LEASE));
    let (lease, third) = (locks.try_acquire(&1).unwrap(), LEASE / 3);
    time.advance(third - TICK);
    assert_eq!(lease.remaining(), LEASE - third + TICK);
    time.advance(TICK);
    assert_eq!(lease.remaining(), LEASE);
    while time.timers() > 0 {
        time.advance(third);
    }
    assert_eq!(lease.remaining(), 2 * LEASE - 4 * third);
    let (locks, time) = on_mock(|builder| builder.watchdog(LEASE));
    let _lease = locks.try_acquire(&1).unwrap();
    assert_eq!(time.timers(), 0, "there is nothing to renew");
}

#[test]
fn the_watchdog_does_not_shorten_what_its_holder_has_renewed() {
    let (locks, time) = on_mock(|builder| builder.watchdog(3 * LEASE / 2));
    let (lease, third) = (locks.try_acquire(&1).unwrap(), LEASE / 3);
    time.advance(third);
    time.advance(third - TICK);
    lease.renew().unwrap();
    // It would be renewed for less than that, since its time is nearly up.
    time.advance(TICK);
    assert_eq!(lease.remaining(), LEASE - TICK);
}

#[test]
fn the_watchdog_of_a_released_lease_does_not_touch_the_next() {
    let (locks, time) = on_mock(|builder| builder.watchdog(6 * LEASE));
    locks.try_acquire(&1).unwrap().release().unwrap();
    std::mem::forget(
        locks
            .with_lease_time(SECOND)
            .unwrap()
            .try_acquire(&1)
            .unwrap(),
    );
    for _ in 0..60 {
        assert_eq!(
            locks.available(&1),
            0,
            "a leaked lease is renewed for its time"
        );
        time.advance(SECOND / 4);
        time.advance(SECOND / 4);
        time.advance(SECOND / 2);
    }
    assert_eq!(locks.available(&1), 1);
}

#[test]
fn a_pause_longer_than_the_lease_loses_it_watchdog_or_not() {
    let (locks, time) = on_mock(|builder| builder.watchdog(60 * LEASE));
    let lease = locks.try_acquire(&1).unwrap();
    time.advance(LEASE);
    assert!(!lease.is_held());
    assert!(lease.release().is_err());
}

#[test]
fn permits_are_given_out_up_to_their_number() {
    let (locks, time) = on_mock(|builder| builder.permits(3));
    let two = locks.taking(2).unwrap();
    let first = two.try_acquire(&1).unwrap();
    let second = locks.try_acquire(&1).unwrap();
    assert_eq!(locks.available(&1), 0);
    assert_eq!(locks.try_acquire(&1).unwrap_err(), LockError::Busy);
    drop(first);
    assert_eq!(locks.available(&1), 2);
    assert!(second.is_held());
    time.advance(LEASE);
    assert_eq!(locks.available(&1), 3);
    assert!(second.release().is_err());
}
