//! Keys that nobody calls any more.

use super::on_mock;
use crate::common::SECOND;
use haybox::limit::Quota;

#[test]
fn idle_keys_are_forgotten_without_a_call() {
    for quota in [Quota::per_second(1), Quota::sliding_window(1, SECOND)] {
        let (limiter, time) = on_mock(quota);
        for key in 0..10_000 {
            assert!(limiter.check(&key).is_allowed());
        }
        // Their quota is whole after a second, and they may be called again.
        (0..4).for_each(|_| time.advance(SECOND));
        assert_eq!(limiter.len(), 10_000);
        (0..8).for_each(|_| time.advance(SECOND));
        assert_eq!(limiter.len(), 0);
    }
}

#[test]
fn a_key_is_not_forgotten_before_its_quota_is_whole() {
    let hour = 3600 * SECOND;
    for quota in [Quota::per_hour(1), Quota::sliding_window(1, hour)] {
        let (limiter, time) = on_mock(quota);
        assert!(limiter.check(&1).is_allowed());
        for _ in 0..3599 {
            time.advance(SECOND);
            assert!(!limiter.check(&1).is_allowed());
        }
        time.advance(SECOND);
        assert!(limiter.check(&1).is_allowed());
    }
}
