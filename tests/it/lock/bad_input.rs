//! Settings that cannot be, and calls from where none may come.

use super::{LEASE, TICK, plain};
use crate::common::{INSIDE, panic_of};
use crate::loading::poll_once;
use haybox::Cache;
use haybox::lock::{LockError, Locks};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

#[test]
fn an_impossible_setting_is_an_error_that_names_it() {
    let setting = |built: Result<Locks<u32>, haybox::BuildError>| built.unwrap_err();
    let builder = Locks::<u32>::builder;
    let short = Duration::from_micros(999);
    let table = [
        (setting(Locks::new(Duration::ZERO)), "lease_time"),
        (
            setting(builder(short).watchdog(LEASE).build()),
            "lease_time",
        ),
        (
            setting(builder(LEASE).watchdog(LEASE / 2).build()),
            "watchdog",
        ),
        (setting(builder(LEASE).permits(0).build()), "permits"),
        (
            setting(builder(LEASE).first_token(u64::MAX).build()),
            "first_token",
        ),
        (
            setting(plain().0.with_lease_time(Duration::ZERO)),
            "lease_time",
        ),
        (setting(plain().0.taking(0)), "taking"),
        (setting(plain().0.taking(2)), "taking"),
    ];
    for (error, setting) in table {
        assert_eq!(error.setting(), setting, "{error}");
    }
}

#[test]
fn a_setting_at_its_bound_is_possible() {
    let builder = Locks::<u32>::builder;
    let (shortest, longest) = (
        Duration::from_millis(1),
        Duration::from_nanos(1 << 63) - TICK,
    );
    assert!(builder(shortest).watchdog(shortest).build().is_ok());
    assert!(builder(longest).build().is_ok());
    let locks = builder(LEASE).first_token(u64::MAX / 2).build().unwrap();
    assert_eq!(locks.try_acquire(&1).unwrap().token(), u64::MAX / 2);
}

#[test]
fn a_last_handle_that_is_dropped_under_a_lock_closes_nothing() {
    let (locks, _time) = plain();
    let held = locks.try_acquire(&1).unwrap();
    let mut next = locks.acquire_async(&1);
    assert!(poll_once(Pin::new(&mut next)).is_pending());
    let cache = Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    cache.update(&1, move |_| drop(locks));
    assert!(poll_once(Pin::new(&mut next)).is_pending());
    drop(held);
    assert!(matches!(poll_once(Pin::new(&mut next)), Poll::Ready(Ok(_))));
}

#[test]
fn a_call_from_inside_a_closure_under_a_lock_panics() {
    let (locks, _time) = plain();
    let cache = Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    let sentence = panic_of(|| cache.update(&1, |_| locks.acquire(&1).is_ok()));
    assert!(sentence.starts_with(INSIDE), "{sentence}");
    assert!(locks.try_acquire(&1).is_ok());
}

#[test]
fn a_panic_under_the_lease_releases_it() {
    let (locks, _time) = plain();
    let sentence = panic_of(|| locks.with_lock(&1, |_| panic!("the work fails")));
    assert_eq!(sentence, "the work fails");
    assert_eq!(locks.available(&1), 1);
}

#[test]
fn the_errors_are_sentences() {
    let errors = [
        (LockError::Busy, "held or waited for"),
        (LockError::TimedOut, "in time"),
        (LockError::Reentrant, "this thread"),
        (LockError::Closed, "closed"),
    ];
    for (error, part) in errors {
        assert!(error.to_string().contains(part), "{error}");
    }
}
