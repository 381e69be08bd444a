//! Those who stand in a line and are not polled when it is their turn.

use super::line::{Task, begin, both, let_in, run};
use super::{allowed, on_mock};
use crate::common::SECOND;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota, Wait};
use std::time::Duration;

/// A limiter of which all is taken.
fn exhausted(quota: Quota) -> (Limiter<u32>, MockClock) {
    let (limiter, time) = on_mock(quota);
    assert!(allowed(&limiter, 1_000) > 0);
    (limiter, time)
}

/// As those are that are kept beside what the same task awaits, in `select!` or in a stream that holds
/// some of them: they would wait for each other for ever.
#[test]
fn futures_that_nobody_polls_hold_the_others_up_for_a_second_or_two_each_and_once() {
    for quota in both() {
        for unpolled in 1..=3 {
            let (limiter, time) = on_mock(quota);
            assert_eq!(allowed(&limiter, 1), 1);
            let mut stuck = begin(&limiter, 0..unpolled, Wait::new());
            let mut others = begin(&limiter, unpolled..unpolled + 2, Wait::new());
            let mut waited = 0;
            while others.len() == 2 {
                time.advance(SECOND);
                waited += 1;
                run(&mut others);
                limiter.validate();
            }
            assert!(waited <= 1 + 2 * unpolled, "{waited} s for {unpolled}");
            for _ in 0..3 {
                time.advance(SECOND);
                assert_eq!(let_in(&mut others).len(), 1, "one in each second again");
                others.extend(begin(&limiter, 9..10, Wait::new()));
                limiter.validate();
            }
            others.clear();
            for name in 0..unpolled {
                time.advance(SECOND);
                assert!(stuck[0].poll().is_ready());
                assert_eq!(stuck.remove(0).name, name);
                limiter.validate();
            }
            time.advance(2 * SECOND);
            assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
        }
    }
}

#[test]
fn who_becomes_the_first_is_not_late_because_the_one_before_was() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        let mut tasks = begin(&limiter, 0..3, Wait::new());
        time.advance(SECOND);
        assert!(tasks.remove(0).poll().is_ready());
        // The second is not polled yet, and is waited for as long as the first would have been.
        time.advance(SECOND);
        assert!(tasks[0].is_woken() && !tasks[1].is_woken());
        assert_eq!(let_in(&mut tasks), [1]);
    }
}

#[test]
fn a_line_that_nobody_stood_in_for_a_while_is_looked_after_again() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        for _ in 0..3 {
            let stuck = begin(&limiter, 0..1, Wait::new());
            let mut others = begin(&limiter, 1..2, Wait::new());
            (0..3).for_each(|_| time.advance(SECOND));
            assert_eq!(let_in(&mut others), [1], "past who is not polled");
            drop(stuck);
            assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
        }
    }
}

#[test]
fn a_thread_is_let_in_past_a_future_that_nobody_polls() {
    let (limiter, time) = on_mock(Quota::per_second(1).burst(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let _stuck = begin(&limiter, 0..1, Wait::new());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| limiter.until_ready(&1));
        while !thread.is_finished() {
            time.advance(SECOND / 10);
            std::thread::yield_now();
        }
        assert!(thread.join().unwrap().is_allowed());
    });
    limiter.validate();
}

/// They wait for less than the second after which is looked for the first time.
#[test]
fn callers_who_wait_for_a_moment_are_not_shut_out_by_a_future_that_nobody_polls() {
    for quota in [
        Quota::per_second(1).burst(1),
        Quota::per_second(10).burst(10),
        Quota::sliding_window(1, SECOND),
    ] {
        let (limiter, time) = exhausted(quota);
        let _stuck = begin(&limiter, 0..1, Wait::new().cost(quota.at_once()));
        let wait = Wait::new().timeout(SECOND / 20);
        let mut let_in = 0;
        for _ in 0..120 {
            time.advance(SECOND / 10);
            let_in += u32::from(limiter.until_ready_with(&1, wait).is_ok());
            limiter.validate();
        }
        assert!(
            let_in >= 9 * quota.limit(),
            "{let_in} within 12 s: {quota:?}"
        );
    }
}

/// As by the time-out of an executor.
#[test]
fn callers_who_are_dropped_soon_are_not_shut_out_by_a_future_that_nobody_polls() {
    for quota in both() {
        let (limiter, time) = exhausted(quota);
        let _stuck = begin(&limiter, 0..1, Wait::new());
        let mut done = 0;
        for name in 1..=20 {
            let mut tasks = Vec::new();
            match Task::begin(&limiter, name, Wait::new()) {
                Ok(task) => tasks.push(task),
                Err(waited) => done += usize::from(waited.is_ok()),
            }
            time.advance(SECOND / 2);
            done += let_in(&mut tasks).len();
            drop(tasks);
            time.advance(SECOND / 10);
            limiter.validate();
        }
        assert!(done >= 9, "{done} within 12 s");
    }
}

#[test]
fn a_future_that_nobody_polls_is_passed_by_also_while_nobody_comes() {
    let (limiter, time) = exhausted(Quota::per_second(1).burst(1));
    let _stuck = begin(&limiter, 0..1, Wait::new());
    drop(begin(&limiter, 1..2, Wait::new()));
    (0..3).for_each(|_| time.advance(SECOND));
    assert_eq!((limiter.waiters(&1), time.timers()), (1, 0));
    limiter.validate();
    assert!(
        limiter
            .until_ready_with(&1, Wait::new().timeout(Duration::ZERO))
            .is_ok()
    );
}

#[test]
fn what_those_were_to_take_who_were_passed_by_counts_for_nobody_until_they_come_back() {
    let (limiter, time) = exhausted(Quota::per_second(1).burst(5));
    let mut stuck = begin(&limiter, 0..10, Wait::new());
    let mut other = begin(&limiter, 10..11, Wait::new());
    while let_in(&mut other).is_empty() {
        time.advance(SECOND);
    }
    (0..5).for_each(|_| time.advance(SECOND));
    let at_once = Wait::new().timeout(Duration::ZERO);
    for _ in 0..5 {
        assert!(limiter.until_ready_with(&1, at_once).is_ok());
    }
    assert!(stuck[3].poll().is_pending());
    time.advance(SECOND);
    // What is free is for who has come back.
    assert!(limiter.until_ready_with(&1, at_once).is_err());
    assert_eq!(let_in(&mut stuck), [3]);
}

#[test]
fn who_was_late_once_has_its_turn_before_those_who_came_after_it() {
    for quota in [
        Quota::per_second(1).burst(5),
        Quota::sliding_window(5, 5 * SECOND),
    ] {
        let (limiter, time) = exhausted(quota);
        let mut stuck = begin(&limiter, 0..1, Wait::new().cost(5));
        let mut others = begin(&limiter, 1..3, Wait::new());
        let mut name = 3;
        while let_in(&mut others).is_empty() {
            time.advance(SECOND);
        }
        // It is polled from now on, and small ones come all the time.
        assert!(stuck[0].poll().is_pending());
        let mut seconds = 0;
        while let_in(&mut stuck).is_empty() {
            while others.len() < 3 {
                others.extend(begin(&limiter, name..name + 1, Wait::new()));
                name += 1;
            }
            time.advance(SECOND);
            let_in(&mut others);
            limiter.validate();
            seconds += 1;
            assert!(seconds <= 12, "it was the next one");
        }
    }
}

/// As after a stall of the whole process: a machine that slept, a container that was frozen.
#[test]
fn time_that_passes_all_at_once_makes_nobody_late() {
    let (limiter, time) = exhausted(Quota::new(1, SECOND * 3 / 2).burst(1));
    let mut tasks = begin(&limiter, 0..3, Wait::new());
    // Who is woken of the later ones is polled before the others.
    tasks.reverse();
    for name in 0..3 {
        time.advance(3 * SECOND);
        assert_eq!(let_in(&mut tasks), [name]);
        limiter.validate();
    }
    let (limiter, time) = exhausted(Quota::per_second(1).burst(5));
    let mut tasks = begin(&limiter, 0..1, Wait::new().cost(5));
    tasks.extend(begin(&limiter, 1..3, Wait::new()));
    tasks.reverse();
    time.advance(SECOND * 13 / 2);
    assert_eq!(let_in(&mut tasks), [0]);
}

/// It was woken, and everything stood still before it could be polled.
#[test]
fn a_stall_passes_nobody_by_who_was_due_just_before_it() {
    for quota in both() {
        for stall in [2, 100] {
            let (limiter, time) = exhausted(quota);
            let mut tasks = begin(&limiter, 0..2, Wait::new());
            // Who is woken of them is polled from the last on.
            tasks.reverse();
            time.advance(SECOND);
            assert!(tasks[1].is_woken());
            time.advance(stall * SECOND);
            assert!(!tasks[0].is_woken(), "it is not its turn");
            assert_eq!(let_in(&mut tasks), [0]);
            limiter.validate();
        }
    }
}

/// Where all looks come late, as under a test's clock that takes large steps.
#[test]
fn one_stall_after_the_other_does_not_keep_a_future_that_nobody_polls_in_the_way() {
    for quota in both() {
        let (limiter, time) = exhausted(quota);
        let _stuck = begin(&limiter, 0..1, Wait::new());
        let mut others = begin(&limiter, 1..2, Wait::new());
        let mut stalls = 0;
        while let_in(&mut others).is_empty() {
            time.advance(100 * SECOND);
            stalls += 1;
            assert!(stalls <= 3);
        }
        limiter.validate();
    }
}

#[test]
fn a_reset_sets_the_line_going_also_where_nobody_polls_the_first() {
    for quota in [
        Quota::per_hour(1).burst(1),
        Quota::sliding_window(1, 3600 * SECOND),
    ] {
        let (limiter, time) = exhausted(quota);
        let _stuck = begin(&limiter, 0..1, Wait::new());
        let mut others = begin(&limiter, 1..2, Wait::new());
        time.advance(SECOND);
        assert!(limiter.reset(&1));
        let mut seconds = 0;
        while let_in(&mut others).is_empty() {
            time.advance(SECOND);
            seconds += 1;
            assert!(seconds <= 2);
        }
    }
}

#[test]
fn resets_do_not_keep_a_future_that_nobody_polls_in_the_way() {
    let (limiter, time) = exhausted(Quota::per_hour(1).burst(1));
    let _stuck = begin(&limiter, 0..1, Wait::new());
    let mut others = begin(&limiter, 1..2, Wait::new());
    let mut resets = 0;
    while let_in(&mut others).is_empty() {
        limiter.reset(&1);
        time.advance(SECOND / 2);
        resets += 1;
        assert!(resets <= 8);
    }
    limiter.validate();
}

#[test]
fn a_reset_lets_in_who_was_late() {
    let (limiter, time) = exhausted(Quota::per_hour(2).burst(2));
    let mut stuck = begin(&limiter, 0..1, Wait::new());
    let mut others = begin(&limiter, 1..2, Wait::new());
    (0..1_803).for_each(|_| time.advance(SECOND));
    assert_eq!(let_in(&mut others), [1]);
    assert!(stuck[0].poll().is_pending());
    assert!(limiter.reset(&1));
    assert_eq!(let_in(&mut stuck), [0]);
}

/// As in a stream that buffers them.
#[test]
fn many_futures_that_nobody_polls_are_passed_by_faster_and_faster() {
    let (limiter, time) = exhausted(Quota::per_second(1_000).burst(10));
    let stuck = begin(&limiter, 0..100, Wait::new());
    let mut other = begin(&limiter, 100..101, Wait::new());
    let mut waited = Duration::ZERO;
    while let_in(&mut other).is_empty() {
        time.advance(SECOND / 64);
        waited += SECOND / 64;
        limiter.validate();
    }
    // Two looks for each, the first of them a second apart.
    assert!(waited <= 4 * SECOND + 100 * SECOND / 32, "{waited:?}");
    drop(stuck);
    assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
}

#[test]
fn a_crowd_that_was_late_is_let_in_one_after_the_other_with_a_few_polls_each() {
    let (limiter, time) = exhausted(Quota::per_second(1).burst(1));
    let mut crowd = begin(&limiter, 0..100, Wait::new());
    let mut other = begin(&limiter, 100..101, Wait::new());
    while let_in(&mut other).is_empty() {
        time.advance(SECOND);
    }
    for late in &mut crowd {
        assert!(late.poll().is_pending());
    }
    let mut polls = 0;
    for name in 0..100 {
        time.advance(SECOND);
        while let Some(next) = crowd.iter().position(Task::is_woken) {
            polls += 1;
            if crowd[next].poll().is_ready() {
                assert_eq!(crowd.remove(next).name, name);
            }
        }
        limiter.validate();
    }
    assert!(crowd.is_empty());
    assert!(polls <= 300, "{polls} polls");
}

/// An executor that is slow for all of them is not one that polls some of them never.
#[test]
fn tasks_that_are_each_polled_a_little_late_are_let_in_after_a_stall() {
    for count in [2, 20] {
        let (limiter, time) = exhausted(Quota::per_second(1_000).burst(10));
        let mut tasks = begin(&limiter, 0..count, Wait::new());
        // Some are passed by meanwhile, each sooner than the one before.
        (0..400).for_each(|_| time.advance(SECOND / 100));
        for _ in 0..1_000 {
            let is_woken: Vec<_> = tasks.iter().map(Task::is_woken).collect();
            (0..6).for_each(|_| time.advance(SECOND / 100));
            let mut is_woken = is_woken.into_iter();
            tasks.retain_mut(|task| is_woken.next() == Some(false) || task.poll().is_pending());
        }
        assert_eq!(tasks.len(), 0, "of {count} that were polled");
    }
}
