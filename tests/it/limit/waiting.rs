//! Waiting until a call is allowed.

use super::{allowed, on_mock};
use crate::common::SECOND;
use crate::loading::{Wakes, block_on, poll, poll_once};
use haybox::limit::{Limiter, Quota, Wait, WaitError};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_task_waits_exactly_as_long_as_it_was_told() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let mut ready = pin!(limiter.until_ready_async(&1));
    let (wakes, waker) = Wakes::new();
    assert!(poll(ready.as_mut(), &waker).is_pending());
    time.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(wakes.count(), 0);
    time.advance(Duration::from_nanos(1));
    assert_eq!(wakes.count(), 1);
    assert!(matches!(poll(ready, &waker), Poll::Ready(decision) if decision.is_allowed()));
    assert_eq!(time.timers(), 0);
}

#[test]
fn a_task_that_is_overtaken_waits_again() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let mut ready = pin!(limiter.until_ready_async(&1));
    assert!(poll_once(ready.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(allowed(&limiter, 1), 1);
    assert!(poll_once(ready.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(ready).is_ready());
}

#[test]
fn a_wait_that_is_dropped_takes_nothing_and_leaves_no_timer() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    {
        let mut ready = pin!(limiter.until_ready_async(&1));
        assert!(poll_once(ready.as_mut()).is_pending());
        assert_eq!(time.timers(), 1);
    }
    assert_eq!(time.timers(), 0);
    time.advance(SECOND);
    assert_eq!(allowed(&limiter, 1), 1);
}

#[test]
fn a_blocked_thread_goes_on_when_its_time_has_come() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    thread::scope(|scope| {
        let waits = scope.spawn(|| limiter.until_ready(&1));
        while time.timers() == 0 {
            thread::yield_now();
        }
        assert!(!waits.is_finished());
        time.advance(SECOND);
        assert!(waits.join().unwrap().is_allowed());
    });
    assert_eq!(allowed(&limiter, 1), 0, "the wait has taken it");
}

#[test]
fn a_wait_that_cannot_end_in_time_fails_at_once() {
    let (limiter, time) = on_mock(Quota::per_second(1).burst(5));
    assert_eq!(allowed(&limiter, 5), 5);
    let wait = Wait::new()
        .cost(3)
        .timeout(3 * SECOND - Duration::from_nanos(1));
    for error in [
        limiter.until_ready_with(&1, wait).unwrap_err(),
        block_on(limiter.until_ready_with_async(&1, wait)).unwrap_err(),
    ] {
        let WaitError::TimedOut(refused) = error else {
            panic!("{error}");
        };
        assert_eq!(refused.retry_after(), Some(3 * SECOND));
    }
    let wait = Wait::new().cost(3).timeout(3 * SECOND);
    let mut ready = pin!(limiter.until_ready_with_async(&1, wait));
    assert!(poll_once(ready.as_mut()).is_pending());
    time.advance(3 * SECOND);
    assert!(matches!(poll_once(ready), Poll::Ready(Ok(_))));
}

#[test]
fn jitter_makes_waits_longer_and_never_shorter() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    let wait = Wait::new().jitter(10 * SECOND);
    let mut was_later = 0;
    for key in 0..40 {
        let _ = limiter.check(&key);
        let mut ready = pin!(limiter.until_ready_with_async(&key, wait));
        assert!(poll_once(ready.as_mut()).is_pending());
        time.advance(SECOND - Duration::from_nanos(1));
        assert!(poll_once(ready.as_mut()).is_pending());
        time.advance(SECOND);
        if poll_once(ready.as_mut()).is_pending() {
            was_later += 1;
            time.advance(9 * SECOND);
            assert!(poll_once(ready).is_ready());
        }
    }
    assert!(
        was_later > 10,
        "the chance that this fails by luck is 1 in 10^20"
    );
}

#[test]
fn jitter_lets_nobody_miss_its_time_out() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    let wait = Wait::new().jitter(10 * SECOND).timeout(SECOND);
    for key in 0..10 {
        assert!(limiter.check(&key).is_allowed());
        let mut ready = pin!(limiter.until_ready_with_async(&key, wait));
        assert!(poll_once(ready.as_mut()).is_pending());
        time.advance(SECOND);
        assert!(matches!(poll_once(ready), Poll::Ready(Ok(_))));
    }
}

#[test]
fn a_greatest_time_out_and_jitter_do_no_harm() {
    let (limiter, _time) = on_mock(Quota::per_second(1));
    let wait = Wait::new().jitter(Duration::MAX).timeout(Duration::MAX);
    assert!(limiter.until_ready_with(&1, wait).is_ok());
    let mut ready = pin!(limiter.until_ready_with_async(&1, wait));
    assert!(poll_once(ready.as_mut()).is_pending());
}

#[test]
fn on_the_real_clock_threads_and_tasks_are_paced() {
    let limiter = Limiter::<u32>::new(Quota::per_second(1000).burst(1)).unwrap();
    let began = Instant::now();
    for _ in 0..5 {
        assert!(limiter.until_ready(&1).is_allowed());
        assert!(block_on(limiter.until_ready_async(&1)).is_allowed());
    }
    assert!(began.elapsed() >= Duration::from_millis(9));
}

/// By the real clock, whose coarse readings lag: who waits would be refused a time-out that is long
/// enough, and sleep for too long.
#[test]
fn how_long_is_to_be_waited_is_told_by_a_precise_reading() {
    let quota = Quota::per_second(10).burst(1);
    let limiter = Limiter::<u32>::new(quota).unwrap();
    assert!(limiter.check(&1).is_allowed());
    let free_at = Instant::now() + SECOND / 10;
    loop {
        let before = Instant::now();
        let wait = Wait::new().timeout(Duration::ZERO);
        let Err(WaitError::TimedOut(refused)) = limiter.until_ready_with(&1, wait) else {
            break;
        };
        let told = refused.retry_after().unwrap();
        assert!(
            before + told <= free_at,
            "{:?} too long",
            before + told - free_at
        );
    }
}
