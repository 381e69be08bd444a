//! Locks, limits and sessions.

use crate::common::{Fixed, built, choice, ignore, known, numbers, seconds};
use crate::executor::block_on;
use crate::schedules::check;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota, Wait, WaitError};
use haybox::lock::{Lease, LockError, Locks, LocksBuilder};
use shuttle::thread::{scope, yield_now};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

type FixedLocks = Locks<u32, Fixed>;

const KEY: u32 = 1;

fn locks(time: &MockClock, set: impl FnOnce(LocksBuilder<u32>) -> LocksBuilder<u32>) -> FixedLocks {
    let builder = set(Locks::<u32>::builder(seconds(2))).clock(time.clock());
    let built = builder.hasher(Fixed::default()).build();
    built.expect("the settings are possible")
}

fn plain(time: &MockClock) -> FixedLocks {
    locks(time, |builder| builder)
}

/// Acquires as a thread or as a task.
fn acquire(locks: &FixedLocks) -> Result<Lease<u32>, LockError> {
    match choice(4) {
        0 => locks.acquire(&KEY),
        1 => locks.acquire_timeout(&KEY, seconds(1000)),
        2 => block_on(locks.acquire_async(&KEY)),
        _ => block_on(locks.acquire_timeout_async(&KEY, seconds(1000))),
    }
}

/// Joins the queue and leaves it again, perhaps after it was served.
fn give_up(locks: &FixedLocks) {
    let mut call = pin!(locks.acquire_async(&KEY));
    for _ in 0..choice(3) {
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_ready() {
            return;
        }
        yield_now();
    }
}

/// Moves the time on until so many threads are done.
pub(super) fn pass_time(time: &MockClock, done: &AtomicU32, threads: u32) {
    while done.load(SeqCst) < threads {
        time.advance(seconds(1));
        yield_now();
    }
}

/// The greatest token that anybody has been given.
#[derive(Default)]
struct Newest(AtomicU64);

impl Newest {
    /// Runs a check of a lease that says whether it counts. If it does, then nobody had been given
    /// a newer one before.
    fn check(&self, token: u64, counts: impl FnOnce() -> bool) -> bool {
        self.0.fetch_max(token, SeqCst);
        let newest = self.0.load(SeqCst);
        yield_now();
        let counts = counts();
        assert!(
            !counts || newest <= token,
            "{token} counts, and so did {newest}"
        );
        counts
    }
}

/// What a holder may do with a lease.
fn hold(lease: Lease<u32>, newest: &Newest) {
    let token = lease.token();
    for _ in 0..2 {
        if choice(2) == 0 {
            newest.check(token, || lease.is_held());
        } else {
            newest.check(token, || lease.renew().is_ok());
        }
    }
    match choice(3) {
        0 => ignore(newest.check(token, || lease.release().is_ok())),
        1 => drop(lease),
        _ => mem::forget(lease.unbind()),
    }
}

#[test]
fn never_two_leases_of_a_key_count() {
    check("expiry, renewal and release", || {
        let (time, done, newest) = (MockClock::new(), AtomicU32::new(0), Newest::default());
        let locks = plain(&time);
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..2 {
                        match choice(4) {
                            0 => give_up(&locks),
                            1 => {
                                if let Ok(lease) = locks.try_acquire(&KEY) {
                                    hold(lease, &newest);
                                }
                            }
                            _ => match acquire(&locks) {
                                Ok(lease) => hold(lease, &newest),
                                Err(error) => panic!("{error}"),
                            },
                        }
                    }
                    done.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| pass_time(&time, &done, 3));
        });
        assert_eq!(locks.waiters(&KEY), 0);
        time.advance(seconds(2));
        assert_eq!(locks.available(&KEY), 1);
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn a_lease_is_handed_on_to_everybody_without_the_help_of_time() {
    check("handing on", || {
        let (time, permits) = (MockClock::new(), 1 + choice(2));
        let locks = locks(&time, |builder| builder.permits(permits));
        let inside = AtomicU32::new(0);
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..2 {
                        if choice(4) == 0 {
                            give_up(&locks);
                            continue;
                        }
                        let taking = 1 + choice(permits);
                        let handle = locks.taking(taking).expect("there are as many");
                        let lease = acquire(&handle).expect("nobody closes them");
                        let others = inside.fetch_add(taking, SeqCst);
                        assert!(others + taking <= permits);
                        yield_now();
                        inside.fetch_sub(taking, SeqCst);
                        assert!(lease.release().is_ok());
                    }
                });
            }
        });
        assert_eq!((locks.waiters(&KEY), locks.available(&KEY)), (0, permits));
        assert_eq!(time.timers(), 0);
    });
}

/// Asks for both permits, and is dropped as a closure of a cache unwinds, where it can lock no key.
fn go_away_unwinding(locks: &FixedLocks, time: &MockClock) {
    let cache = built(numbers());
    cache.insert(KEY, 0);
    let mut gone = locks.taking(2).expect("there are two").acquire_async(&KEY);
    let polled = pin!(&mut gone).poll(&mut Context::from_waker(Waker::noop()));
    yield_now();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        cache.update(&KEY, move |_| {
            let _gone = gone;
            resume_unwind(Box::new("a closure's"))
        })
    }));
    assert!(unwound.is_err());
    drop(polled);
    // As the thread does that serves the timers of the real clock.
    time.advance(seconds(0));
}

#[test]
fn who_cannot_leave_its_queue_is_in_nobodys_way() {
    check("departures", || {
        let time = MockClock::new();
        let locks = locks(&time, |builder| builder.permits(2));
        let mut held = locks.try_acquire(&KEY).ok();
        scope(|threads| {
            threads.spawn(|| go_away_unwinding(&locks, &time));
            for _ in 0..2 {
                threads.spawn(|| drop(acquire(&locks).expect("nobody closes them")));
            }
            yield_now();
            if choice(2) == 0 {
                held = None;
            }
        });
        drop(held);
        assert_eq!((locks.waiters(&KEY), locks.available(&KEY)), (0, 2));
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn a_watchdog_renews_its_own_lease_and_no_other() {
    check("watchdogs", || {
        let (time, done, newest) = (MockClock::new(), AtomicU32::new(0), Newest::default());
        let locks = locks(&time, |builder| builder.watchdog(seconds(4)));
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    for _ in 0..2 {
                        hold(acquire(&locks).expect("nobody closes them"), &newest);
                    }
                    done.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| pass_time(&time, &done, 2));
        });
        for _ in 0..8 {
            time.advance(seconds(1));
        }
        assert_eq!((locks.available(&KEY), time.timers()), (1, 0));
    });
}

#[test]
fn nobody_waits_for_locks_that_are_closed() {
    check("the end of locks", || {
        let time = MockClock::new();
        let locks = plain(&time);
        let held = locks.try_acquire(&KEY).expect("nobody holds it");
        let (closing, future) = (locks.clone(), locks.acquire_async(&KEY));
        scope(|threads| {
            threads.spawn(move || {
                if let Err(error) = block_on(future) {
                    assert_eq!(error, LockError::Closed);
                }
            });
            threads.spawn(move || {
                if let Err(error) = acquire(&locks) {
                    assert_eq!(error, LockError::Closed);
                }
                drop(locks);
            });
            threads.spawn(move || {
                if choice(2) == 0 {
                    closing.close();
                    drop(held);
                } else {
                    drop(held);
                    drop(closing);
                }
            });
        });
        assert_eq!(time.timers(), 0);
    });
}

// ---- limits ----

/// A call that was allowed at some moment between two readings of the time, in seconds.
struct Allowed {
    from: u64,
    to: u64,
    cost: u64,
}

type FixedLimiter = Limiter<u32, Fixed>;

/// Allows two at once: a window of three seconds, or a bucket that gets one in two.
fn limiter(time: &MockClock, is_window: bool) -> FixedLimiter {
    let quota = if is_window {
        Quota::sliding_window(2, seconds(3))
    } else {
        Quota::new(1, seconds(2)).burst(2)
    };
    let builder = Limiter::<u32>::builder(quota).clock(time.clock());
    let builder = builder.hasher(Fixed::default()).sweep_interval(seconds(1));
    builder.build().expect("the quota is possible")
}

fn assert_within_quota(log: &[Allowed], is_window: bool) {
    let spans = |first| log.iter().map(move |last: &Allowed| (first, last.to));
    for (from, to) in log.iter().flat_map(|first| spans(first.from)) {
        let within = |call: &&Allowed| from <= call.from && call.to <= to;
        let sum: u64 = log.iter().filter(within).map(|call| call.cost).sum();
        let span = to.saturating_sub(from);
        let most = match is_window {
            true => 2 * (span / 3 + 1),
            false => 2 + span / 2,
        };
        assert!(sum <= most, "{sum} within {span} s");
    }
}

#[test]
fn no_interleaving_gets_more_than_the_quota() {
    check("limits", || {
        let time = MockClock::new();
        let is_window = choice(2) == 0;
        let limiter = limiter(&time, is_window);
        // How far the time has come at least, and how far at most.
        let (passed, passing) = (AtomicU64::new(0), AtomicU64::new(0));
        let log = Mutex::new(Vec::new());
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..3 {
                        let from = passed.load(SeqCst);
                        let is_allowed = limiter.check(&KEY).is_allowed();
                        let to = passing.load(SeqCst);
                        if is_allowed {
                            known(&log).push(Allowed { from, to, cost: 1 });
                        }
                        yield_now();
                    }
                });
            }
            threads.spawn(|| {
                for _ in 0..3 {
                    let step = if choice(8) == 0 { 20 } else { 1 };
                    passing.fetch_add(step, SeqCst);
                    time.advance(seconds(step));
                    passed.fetch_add(step, SeqCst);
                    yield_now();
                }
            });
        });
        assert_within_quota(&known(&log), is_window);
    });
}

/// Waits as a thread or as a task, with patience or without.
fn until_ready(limiter: &FixedLimiter, cost: u32) -> bool {
    let wait = Wait::new().cost(cost);
    let wait = match choice(3) {
        0 => wait,
        1 => wait.timeout(seconds(1000)),
        _ => wait.timeout(seconds(3)),
    };
    let waited = match choice(2) {
        0 => limiter.until_ready_with(&KEY, wait),
        _ => block_on(limiter.until_ready_with_async(&KEY, wait)),
    };
    match waited {
        Ok(decision) => {
            assert!(decision.is_allowed());
            true
        }
        Err(WaitError::TimedOut(refused)) => {
            assert!(!refused.is_allowed());
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Stands in the line for a while, perhaps until it is the first, and goes; whether it was let in
/// before that.
fn stand_about(limiter: &FixedLimiter, cost: u32) -> bool {
    let wait = Wait::new().cost(cost);
    let mut ready = pin!(limiter.until_ready_with_async(&KEY, wait));
    for _ in 0..choice(4) {
        let polled = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_ready() {
            return true;
        }
        yield_now();
    }
    false
}

#[test]
fn who_waits_for_a_limit_is_let_in_whoever_gives_up_and_never_beyond_the_quota() {
    check("waits", || {
        let (time, done) = (MockClock::new(), AtomicU32::new(0));
        let is_window = choice(2) == 0;
        let limiter = limiter(&time, is_window);
        let (passed, passing) = (AtomicU64::new(0), AtomicU64::new(0));
        let log = Mutex::new(Vec::new());
        let call = |cost: u32, wait: fn(&FixedLimiter, u32) -> bool| {
            let from = passed.load(SeqCst);
            let is_allowed = wait(&limiter, cost);
            let (to, cost) = (passing.load(SeqCst), u64::from(cost));
            if is_allowed {
                known(&log).push(Allowed { from, to, cost });
            }
        };
        scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..2 {
                        match choice(5) {
                            0 => call(1, |limiter, _| limiter.check(&KEY).is_allowed()),
                            1 | 2 => call(1 + choice(2), stand_about),
                            _ => call(1 + choice(2), until_ready),
                        }
                    }
                    done.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| {
                while done.load(SeqCst) < 3 {
                    passing.fetch_add(1, SeqCst);
                    time.advance(seconds(1));
                    passed.fetch_add(1, SeqCst);
                    yield_now();
                }
            });
        });
        assert_within_quota(&known(&log), is_window);
        assert_eq!((limiter.waiters(&KEY), time.timers()), (0, 0));
        limiter.validate();
    });
}

#[test]
fn a_reset_lets_in_who_waits_without_the_help_of_time() {
    check("waits and resets", || {
        let time = MockClock::new();
        let limiter = limiter(&time, choice(2) == 0);
        assert!(limiter.check_n(&KEY, 2).expect("it is free").is_allowed());
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let decision = match choice(2) {
                        0 => limiter.until_ready(&KEY),
                        _ => block_on(limiter.until_ready_async(&KEY)),
                    };
                    assert!(decision.is_allowed());
                });
            }
            threads.spawn(|| {
                assert!(!stand_about(&limiter, 2), "nothing is free");
                limiter.reset(&KEY);
            });
        });
        assert_eq!((limiter.waiters(&KEY), time.timers()), (0, 0));
        limiter.validate();
    });
}

/// What the one takes is not still to be taken.
#[test]
fn who_comes_as_another_is_let_in_is_not_told_that_it_would_wait_for_too_long() {
    check("waits that end in time", || {
        let time = MockClock::new();
        let limiter = limiter(&time, choice(2) == 0);
        assert!(limiter.check_n(&KEY, 2).expect("it is free").is_allowed());
        let mut first = Box::pin(limiter.until_ready_with_async(&KEY, Wait::new().cost(2)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        time.advance(seconds(4));
        let wait = Wait::new().cost(2).timeout(seconds(4));
        let mut second = Box::pin(limiter.until_ready_with_async(&KEY, wait));
        scope(|threads| {
            threads.spawn(|| {
                let mut context = Context::from_waker(Waker::noop());
                assert!(first.as_mut().poll(&mut context).is_ready());
            });
            threads.spawn(|| {
                let mut context = Context::from_waker(Waker::noop());
                assert!(second.as_mut().poll(&mut context).is_pending());
            });
        });
        limiter.validate();
        time.advance(seconds(4));
        assert!(matches!(
            second.as_mut().poll(&mut context),
            Poll::Ready(Ok(_))
        ));
        limiter.validate();
    });
}

/// By another thread, before who has set its timer has put it into the line.
#[test]
fn who_watches_a_line_goes_on_though_its_timer_goes_off_at_once() {
    check("watches", || {
        let time = MockClock::new();
        let limiter = limiter(&time, choice(2) == 0);
        assert!(limiter.check_n(&KEY, 2).expect("it is free").is_allowed());
        let mut context = Context::from_waker(Waker::noop());
        // Nobody polls it again.
        let mut first = pin!(limiter.until_ready_async(&KEY));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut second = Box::pin(limiter.until_ready_async(&KEY));
        scope(|threads| {
            threads.spawn(|| {
                let mut context = Context::from_waker(Waker::noop());
                assert!(second.as_mut().poll(&mut context).is_pending());
            });
            threads.spawn(|| (0..2).for_each(|_| time.advance(seconds(1))));
        });
        limiter.validate();
        (0..6).for_each(|_| time.advance(seconds(1)));
        assert!(second.as_mut().poll(&mut context).is_ready());
        limiter.validate();
    });
}

#[test]
fn no_interleaving_loses_a_charge() {
    check("charges", || {
        let time = MockClock::new();
        let is_window = choice(2) == 0;
        let quota = if is_window {
            Quota::sliding_window(5, seconds(60))
        } else {
            Quota::new(1, seconds(1)).burst(5)
        };
        let builder = Limiter::<u32>::builder(quota).clock(time.clock());
        let built = builder.hasher(Fixed::default()).build();
        let limiter: Limiter<u32, Fixed> = built.expect("the quota is possible");
        let taken = AtomicU64::new(0);
        scope(|threads| {
            for cost in 1..3 {
                threads.spawn({
                    let (limiter, taken) = (&limiter, &taken);
                    move || {
                        let _ = limiter.charge(&KEY, cost);
                        let is_allowed = limiter.check(&KEY).is_allowed();
                        taken.fetch_add(cost + u64::from(is_allowed), SeqCst);
                    }
                });
            }
        });
        let (taken, seen) = (taken.load(SeqCst), limiter.peek(&KEY));
        assert_eq!(u64::from(seen.remaining()), 5 - taken);
        if !is_window {
            assert_eq!(seen.reset_after(), seconds(taken));
        }
    });
}

/// The ids are random, and so is the order in which the index of owners has them, so a schedule may
/// not be brought back by its seed.
#[cfg(feature = "session")]
#[test]
fn of_simultaneous_log_ins_as_many_stay_as_may_and_none_after_a_log_out() {
    use haybox::session::{Content, Sessions};

    check("log-ins at once", || {
        let time = MockClock::new();
        let max = 1 + choice(2) as usize;
        let builder = Sessions::builder().max_per_owner(max).clock(time.clock());
        let sessions = builder.build().expect("the settings are possible");
        let log_in = || sessions.start(Content::new("").owner("ada"));
        let first = log_in().expect("there is room");
        let logs_out = choice(2) == 0;
        let ids = Mutex::new(vec![first]);
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let id = log_in().expect("there is room");
                    known(&ids).push(id);
                });
            }
            if logs_out {
                threads.spawn(|| ignore(sessions.end_all("ada")));
            }
        });
        let ids = known(&ids);
        let open = ids.iter().filter(|id| sessions.get(id).is_some()).count();
        assert_eq!(sessions.of_owner("ada").len(), open);
        assert!(open <= max && (logs_out || open == max), "{open} of {max}");
        assert_eq!(sessions.end_all("ada"), open);
        assert!(sessions.is_empty());
    });
}

#[cfg(feature = "session")]
#[test]
fn a_log_out_everywhere_meets_a_session_whichever_id_it_has() {
    use haybox::session::{Content, Sessions};
    check("new ids", || {
        let time = MockClock::new();
        let builder = Sessions::builder().max_per_owner(1).clock(time.clock());
        let sessions = builder.build().expect("the settings are possible");
        let first = sessions.start(Content::new("").owner("ada"));
        let first = first.expect("there is room");
        let ended = AtomicU32::new(0);
        let changes_hands = choice(2) == 0;
        let new = Mutex::new(Vec::new());
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let id = sessions.cycle_id(&first).expect("there is room");
                    known(&new).extend(id);
                });
            }
            if changes_hands {
                let content = Content::new("").owner("bob");
                threads.spawn(|| ignore(sessions.replace(&first, content)));
            }
            threads.spawn(|| ignore(ended.fetch_add(sessions.end_all("ada") as u32, SeqCst)));
        });
        assert!(known(&new).len() <= 1, "one of them is given a new id");
        let ended = ended.load(SeqCst) as usize;
        assert!(ended == 1 || changes_hands && ended == 0);
        assert_eq!(sessions.of_owner("ada").len(), 0);
        assert_eq!(sessions.of_owner("bob").len(), 1 - ended);
        assert_eq!(sessions.len(), 1 - ended);
        assert!(sessions.get(&first).is_none() || known(&new).is_empty());
        assert_eq!(sessions.end_all("bob"), 1 - ended);
    });
}
