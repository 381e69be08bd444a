//! Costs that are known only afterwards.

use super::{allowed, on_mock};
use crate::common::SECOND;
use haybox::limit::{Quota, Wait};
use std::time::Duration;

const NANOSECOND: Duration = Duration::from_nanos(1);

#[test]
fn a_bucket_pays_its_debt_off_at_its_rate() {
    let (limiter, time) = on_mock(Quota::per_second(10).burst(5));
    assert_eq!(limiter.charge(&1, 2), 3);
    assert_eq!(limiter.charge(&1, 30), 0, "more than there ever is at once");
    let owed = limiter.peek(&1).retry_after();
    assert_eq!(owed, Some(SECOND * 28 / 10), "27 and one to take");
    assert_eq!(limiter.peek(&1).reset_after(), SECOND * 32 / 10);
    let more = limiter.check_n(&1, 5).unwrap();
    assert_eq!(more.retry_after(), Some(SECOND * 32 / 10));
    time.advance(SECOND);
    assert_eq!(limiter.charge(&1, 1), 0);
    time.advance(SECOND * 19 / 10 - NANOSECOND);
    assert_eq!(allowed(&limiter, 3), 0);
    time.advance(NANOSECOND);
    assert_eq!(allowed(&limiter, 3), 1);
}

#[test]
fn a_window_forgets_each_charge_on_its_own_nanosecond() {
    let (limiter, time) = on_mock(Quota::sliding_window(5, SECOND));
    assert_eq!(limiter.charge(&1, 3), 2);
    time.advance(SECOND / 4);
    assert_eq!(limiter.charge(&1, 3), 0);
    assert_eq!(limiter.peek(&1).retry_after(), Some(SECOND * 3 / 4));
    time.advance(SECOND / 4);
    assert_eq!(limiter.charge(&1, 1_000), 0);
    assert_eq!(limiter.peek(&1).retry_after(), Some(SECOND));
    time.advance(SECOND - NANOSECOND);
    assert_eq!(allowed(&limiter, 9), 0);
    time.advance(NANOSECOND);
    assert_eq!(allowed(&limiter, 9), 5);
}

#[test]
fn what_costs_nothing_is_allowed_in_debt_too() {
    for quota in [Quota::per_second(1), Quota::sliding_window(1, SECOND)] {
        let (limiter, _time) = on_mock(quota);
        assert_eq!(limiter.charge(&1, 0), 1);
        assert_eq!(limiter.charge(&1, 9), 0);
        assert!(limiter.check_n(&1, 0).unwrap().is_allowed());
        assert!(limiter.until_ready_with(&1, Wait::new().cost(0)).is_ok());
        assert!(!limiter.check(&1).is_allowed());
    }
}

#[test]
fn the_greatest_debt_lasts_and_can_be_remitted() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    let years = |count: u64| Duration::from_secs(3600 * 24 * 365 * count);
    assert_eq!(limiter.charge(&1, u64::MAX), 0);
    assert_eq!(limiter.charge(&1, u64::MAX), 0);
    time.advance(years(500));
    assert!(limiter.peek(&1).retry_after() > Some(years(80)));
    assert_eq!(allowed(&limiter, 1), 0);
    assert!(limiter.reset(&1));
    assert_eq!(allowed(&limiter, 1), 1);

    let (limiter, time) = on_mock(Quota::sliding_window(u32::MAX, SECOND));
    assert_eq!(limiter.charge(&1, u64::from(u32::MAX) - 1), 1);
    assert_eq!(limiter.charge(&1, u64::MAX), 0);
    assert_eq!(allowed(&limiter, 1), 0);
    time.advance(SECOND);
    assert_eq!(limiter.peek(&1).remaining(), u32::MAX);
}

#[test]
fn a_key_is_not_forgotten_before_its_debt_is_paid_off() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    let _ = limiter.charge(&1, 100);
    (0..99).for_each(|_| time.advance(SECOND));
    assert_eq!((allowed(&limiter, 1), limiter.len()), (0, 1));
    time.advance(SECOND);
    assert_eq!(allowed(&limiter, 2), 1);
    (0..12).for_each(|_| time.advance(SECOND));
    assert!(limiter.is_empty());
}

#[test]
fn charges_of_threads_are_all_counted() {
    let (limiter, _time) = on_mock(Quota::per_second(1));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| _ = limiter.charge(&1, 2)));
        }
    });
    assert_eq!(limiter.peek(&1).reset_after(), 8_000 * SECOND);
}
