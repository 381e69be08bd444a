//! Rate limits by key.

mod bad_input;
mod charge;
#[cfg(feature = "tower")]
mod headers;
mod idle;
mod late;
mod late_model;
mod line;
mod line_model;
mod model;
mod stats;
mod waiting;

use crate::common::SECOND;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota};
use std::time::{Duration, Instant};

fn on_mock(quota: Quota) -> (Limiter<u32>, MockClock) {
    let time = MockClock::new();
    let limiter = Limiter::<u32>::builder(quota).clock(time.clock());
    (limiter.build().unwrap(), time)
}

fn allowed(limiter: &Limiter<u32>, calls: usize) -> usize {
    (0..calls)
        .filter(|_| limiter.check(&1).is_allowed())
        .count()
}

#[test]
fn a_key_that_has_rested_gets_its_burst_and_then_the_rate() {
    let (limiter, time) = on_mock(Quota::per_second(10).burst(30));
    assert_eq!(allowed(&limiter, 100), 30);
    time.advance(SECOND);
    assert_eq!(allowed(&limiter, 100), 10);
    time.advance(100 * SECOND);
    assert_eq!(
        allowed(&limiter, 100),
        30,
        "no more than the burst is saved"
    );
}

#[test]
fn a_burst_of_one_spaces_calls_evenly() {
    let (limiter, time) = on_mock(Quota::per_second(4).burst(1));
    for _ in 0..8 {
        assert_eq!(allowed(&limiter, 3), 1);
        time.advance(SECOND / 4);
    }
}

#[test]
fn the_rate_is_rounded_down_and_never_up() {
    // A third of a second is no whole number of nanoseconds.
    let (limiter, time) = on_mock(Quota::per_second(3).burst(3));
    assert_eq!(allowed(&limiter, 9), 3);
    time.advance(SECOND);
    assert_eq!(
        allowed(&limiter, 9),
        2,
        "the third token is two nanoseconds late"
    );
    time.advance(Duration::from_nanos(2));
    assert_eq!(allowed(&limiter, 9), 1);
}

#[test]
fn a_sliding_window_forgets_each_call_on_its_own_nanosecond() {
    let (limiter, time) = on_mock(Quota::sliding_window(2, SECOND));
    let third = SECOND / 3;
    assert_eq!(allowed(&limiter, 1), 1);
    time.advance(third);
    assert_eq!(allowed(&limiter, 2), 1);
    time.advance(SECOND - third - Duration::from_nanos(1));
    assert_eq!(allowed(&limiter, 1), 0);
    time.advance(Duration::from_nanos(1));
    assert_eq!(allowed(&limiter, 2), 1);
}

#[test]
fn a_look_forgets_each_call_on_its_own_nanosecond_too() {
    let (limiter, time) = on_mock(Quota::sliding_window(1, SECOND));
    assert_eq!(allowed(&limiter, 1), 1);
    time.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(limiter.peek(&1).remaining(), 0);
    time.advance(Duration::from_nanos(1));
    assert_eq!(limiter.peek(&1).remaining(), 1);
}

/// By the real clock, whose coarse readings lag.
#[test]
fn who_waits_for_as_long_as_told_is_not_too_early() {
    // Long enough for the coarse clock to be read at all.
    let limiter = Limiter::<u32>::new(Quota::new(1, Duration::from_millis(30))).unwrap();
    for _ in 0..5 {
        assert!(limiter.check(&1).is_allowed());
        let wait = limiter.check(&1).retry_after().unwrap();
        let told = Instant::now();
        while told.elapsed() < wait {}
    }
    assert!(limiter.check(&1).is_allowed());
}

#[test]
fn steps_of_the_wall_clock_change_nothing() {
    for quota in [Quota::per_second(1), Quota::sliding_window(1, SECOND)] {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 2), 1);
        time.set_system_time(std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(allowed(&limiter, 2), 0);
        time.set_system_time(std::time::SystemTime::UNIX_EPOCH + 1_000_000_000 * SECOND);
        assert_eq!(allowed(&limiter, 2), 0);
    }
}

#[test]
fn looking_takes_nothing_and_a_reset_gives_all_back() {
    for quota in [Quota::per_second(2), Quota::sliding_window(2, SECOND)] {
        let (limiter, _time) = on_mock(quota);
        assert_eq!(limiter.peek(&1).remaining(), 2);
        assert!(limiter.is_empty(), "a look makes no key");
        assert_eq!(allowed(&limiter, 1), 1);
        for _ in 0..3 {
            let seen = limiter.peek(&1);
            assert_eq!((seen.is_allowed(), seen.remaining()), (true, 1));
        }
        assert_eq!(allowed(&limiter, 2), 1);
        let seen = limiter.peek(&1);
        assert_eq!(seen, limiter.check(&1), "and tells the same of a refusal");
        assert!(limiter.reset(&1));
        assert!(!limiter.reset(&1));
        assert_eq!(allowed(&limiter, 3), 2);
    }
}

#[test]
fn threads_on_the_real_clock_get_no_more_than_the_quota() {
    // So slow that no token comes while the test runs.
    for quota in [
        Quota::per_hour(1).burst(500),
        Quota::sliding_window(500, 3600 * SECOND),
    ] {
        let limiter = Limiter::<u32>::new(quota).unwrap();
        let all: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| allowed(&limiter, 1_000)));
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(all, 500);
    }
}
