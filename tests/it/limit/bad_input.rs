//! Quotas that cannot be, and calls that could never be allowed.

use super::on_mock;
use crate::common::{INSIDE, SECOND, panic_of};
use haybox::Cache;
use haybox::limit::{Limiter, Quota, Wait, WaitError};
use std::error::Error;
use std::time::Duration;

#[test]
fn an_impossible_quota_is_an_error_that_names_the_setting() {
    let nanosecond = Duration::from_nanos(1);
    let table = [
        (Quota::per_second(0), "limit"),
        (Quota::sliding_window(0, SECOND), "limit"),
        (Quota::new(1, Duration::ZERO), "period"),
        (Quota::sliding_window(1, Duration::ZERO), "period"),
        (Quota::new(1, Duration::MAX), "period"),
        (Quota::sliding_window(1, Duration::MAX), "period"),
        (Quota::per_second(1).burst(0), "burst"),
        (Quota::sliding_window(1, SECOND).burst(1), "burst"),
        (Quota::new(2, nanosecond), "limit"),
        (Quota::per_hour(1).burst(u32::MAX), "burst"),
    ];
    for (quota, setting) in table {
        let error = Limiter::<u32>::new(quota).unwrap_err();
        assert_eq!(error.setting(), setting, "{quota:?}: {error}");
    }
    let builder = || Limiter::<u32>::builder(Quota::per_second(1));
    let error = builder().sweep_interval(Duration::ZERO).build();
    assert_eq!(error.unwrap_err().setting(), "sweep_interval");
    assert!(builder().sweep_interval(Duration::MAX).build().is_ok());
}

#[test]
fn a_setting_at_its_bound_is_possible() {
    let longest = Duration::from_nanos(u64::MAX / 2);
    for quota in [Quota::new(1, longest), Quota::sliding_window(1, longest)] {
        let builder = Limiter::<u32>::builder(quota).sweep_interval(longest);
        assert!(builder.build().is_ok());
    }
    let error = Limiter::<u32>::new(Quota::new(1, longest).burst(2)).unwrap_err();
    assert_eq!(error.setting(), "burst", "the clock would not hold it");
}

#[test]
fn the_greatest_quotas_that_can_be_count_right() {
    let second_most = Quota::new(1_000_000_000, SECOND).burst(u32::MAX);
    for quota in [second_most, Quota::sliding_window(u32::MAX, SECOND)] {
        let (limiter, time) = on_mock(quota);
        let all = limiter.check_n(&1, u32::MAX).unwrap();
        assert_eq!((all.is_allowed(), all.remaining()), (true, 0));
        assert!(!limiter.check_n(&1, u32::MAX).unwrap().is_allowed());
        time.advance(1000 * SECOND);
        assert!(limiter.check_n(&1, u32::MAX).unwrap().is_allowed());
    }
    let ages = Duration::from_secs(3600 * 24 * 365 * 290);
    for quota in [Quota::new(1, ages), Quota::sliding_window(1, ages)] {
        let (limiter, time) = on_mock(quota);
        assert!(limiter.check(&1).is_allowed());
        assert_eq!(limiter.check(&1).retry_after(), Some(ages));
        time.advance(Duration::MAX);
        for _ in 0..3 {
            let _ = limiter.check(&1);
        }
    }
}

#[test]
fn a_cost_above_the_burst_is_an_error_and_takes_nothing() {
    for quota in [Quota::per_second(3), Quota::sliding_window(3, SECOND)] {
        let (limiter, _time) = on_mock(quota);
        let error = limiter.check_n(&1, 4).unwrap_err();
        assert_eq!((error.cost(), error.limit()), (4, 3));
        assert_eq!(limiter.peek(&1).remaining(), 3);
        let error = limiter
            .until_ready_with(&1, Wait::new().cost(4))
            .unwrap_err();
        assert!(
            matches!(error, WaitError::CostAboveLimit(_)),
            "nobody waits for ever"
        );
        assert!(error.source().is_none(), "it says all of it itself");
        assert!(
            error.to_string().contains("can never be allowed"),
            "{error}"
        );
    }
}

#[test]
fn a_cost_of_zero_is_free() {
    for quota in [Quota::per_second(1), Quota::sliding_window(1, SECOND)] {
        let (limiter, _time) = on_mock(quota);
        let _ = limiter.check(&1);
        assert!(limiter.check_n(&1, 0).unwrap().is_allowed());
        assert!(!limiter.check(&1).is_allowed());
    }
}

#[test]
fn a_call_from_inside_a_closure_under_a_lock_panics() {
    let (limiter, _time) = on_mock(Quota::per_second(1));
    let cache = Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    let sentence = panic_of(|| cache.update(&1, |_| limiter.check(&1).is_allowed()));
    assert!(sentence.starts_with(INSIDE), "{sentence}");
    assert!(limiter.check(&1).is_allowed());
}
