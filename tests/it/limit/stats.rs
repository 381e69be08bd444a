//! What a limiter has done, in numbers.

use super::on_mock;
use crate::common::SECOND;
use crate::loading::poll_once;
use haybox::Cache;
use haybox::limit::{LimiterStats, Quota, Wait};
use std::pin::pin;
use std::thread;

fn of(stats: LimiterStats) -> (u64, u64) {
    (stats.allowed, stats.refused)
}

#[test]
fn what_is_allowed_and_refused_is_counted() {
    for quota in [
        Quota::per_second(2).burst(5),
        Quota::sliding_window(5, SECOND),
    ] {
        let (limiter, time) = on_mock(quota);
        assert_eq!(of(limiter.stats()), (0, 0));
        for key in 0..100 {
            (0..7).for_each(|_| drop(limiter.clone().check(&key)));
        }
        assert_eq!(of(limiter.stats()), (500, 200));
        assert_eq!(limiter.stats().keys, 100);
        assert!(limiter.check_n(&100, 5).unwrap().is_allowed());
        assert!(!limiter.check_n(&100, 5).unwrap().is_allowed());
        assert!(limiter.check_n(&100, 6).is_err(), "nobody was asked");
        assert_eq!(of(limiter.stats()), (501, 201));
        // None of these is a call that is allowed or refused.
        let _ = (limiter.peek(&1), limiter.peek(&101), limiter.charge(&1, 3));
        assert!(limiter.reset(&2));
        assert_eq!(of(limiter.stats()), (501, 201));
        // Keys that are forgotten have been counted all the same.
        (0..30).for_each(|_| time.advance(SECOND));
        assert_eq!((limiter.len(), of(limiter.stats())), (0, (501, 201)));
    }
}

#[test]
fn a_wait_counts_once_when_it_is_over() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert!(limiter.check(&1).is_allowed());
    let wait = Wait::new().timeout(SECOND / 2);
    assert!(limiter.until_ready_with(&1, wait).is_err());
    assert_eq!(of(limiter.stats()), (1, 1));
    let mut ready = pin!(limiter.until_ready_async(&1));
    assert!(poll_once(ready.as_mut()).is_pending());
    {
        let gives_up = pin!(limiter.until_ready_async(&1));
        assert!(poll_once(gives_up).is_pending());
    }
    assert_eq!(of(limiter.stats()), (1, 1));
    time.advance(SECOND);
    assert!(poll_once(ready).is_ready());
    assert_eq!(of(limiter.stats()), (2, 1));
}

#[test]
fn no_call_is_lost_among_threads() {
    let (limiter, _time) = on_mock(Quota::per_second(1_000));
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| (0..500).for_each(|key| drop(limiter.check(&(key % 3)))));
        }
    });
    let (allowed, refused) = of(limiter.stats());
    assert_eq!(allowed + refused, 2_000);
}

#[test]
fn statistics_are_not_read_from_inside() {
    let (limiter, _time) = on_mock(Quota::per_second(1));
    let cache = Cache::new(1);
    cache.insert(1, 1);
    let inside = crate::common::panic_of(|| cache.update(&1, |_| drop(limiter.stats())));
    assert!(inside.starts_with(crate::common::INSIDE));
}
