//! Keys that nobody calls any more.

use super::on_mock;
use crate::common::SECOND;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota};
use std::sync::LazyLock;

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
fn a_window_is_not_forgotten_before_its_last_call_is() {
    let minute = 60 * SECOND;
    let (limiter, time) = on_mock(Quota::sliding_window(2, 60 * minute));
    assert!(limiter.check(&1).is_allowed());
    time.advance(50 * minute);
    assert!(limiter.check(&1).is_allowed());
    (0..11).for_each(|_| time.advance(minute));
    assert_eq!(
        (limiter.peek(&1).remaining(), limiter.is_empty()),
        (1, false)
    );
    (0..50).for_each(|_| time.advance(minute));
    assert_eq!(
        (limiter.peek(&1).remaining(), limiter.is_empty()),
        (2, true)
    );
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

/// A key whose destructor calls another limiter, which panics under a lock.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Calls(u32);

impl Drop for Calls {
    fn drop(&mut self) {
        static OTHERS: LazyLock<Limiter<u32>> =
            LazyLock::new(|| Limiter::new(Quota::per_second(1)).unwrap());
        let _ = OTHERS.check(&self.0);
    }
}

#[test]
fn keys_are_dropped_under_no_lock() {
    for quota in [Quota::per_second(1), Quota::sliding_window(1, SECOND)] {
        let time = MockClock::new();
        let limiter = Limiter::<Calls>::builder(quota).clock(time.clock());
        let limiter = limiter.build().unwrap();
        (0..100).for_each(|key| _ = limiter.check(&Calls(key)));
        assert!(limiter.reset(&Calls(7)));
        assert!(!limiter.reset(&Calls(7)));
        time.advance(11 * SECOND);
        assert!(limiter.is_empty());
    }
}
