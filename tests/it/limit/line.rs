//! The line of those who wait for a key.

use super::{allowed, on_mock};
use crate::common::{SECOND, panic_of};
use crate::loading::{Wakes, block_on, poll, poll_once};
use haybox::limit::{Decision, Limiter, Quota, Wait, WaitError};
use haybox::pubsub::{Bus, Topic};
use haybox::{Cache, MockClock};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

const NANOSECOND: Duration = Duration::from_nanos(1);

pub(super) type Waited = Result<Decision, WaitError>;

/// A task that waits, on an executor that polls whom it has to.
pub(super) struct Task<'l> {
    pub(super) name: u32,
    future: Pin<Box<dyn Future<Output = Waited> + 'l>>,
    wakes: Arc<Wakes>,
    waker: Waker,
    seen: usize,
    polls: usize,
}

impl<'l> Task<'l> {
    /// Begins to wait for key 1.
    pub(super) fn begin(limiter: &'l Limiter<u32>, name: u32, wait: Wait) -> Result<Self, Waited> {
        let (wakes, waker) = Wakes::new();
        let mut task = Self {
            name,
            future: Box::pin(limiter.until_ready_with_async(&1, wait)),
            wakes,
            waker,
            seen: 0,
            polls: 0,
        };
        match task.poll() {
            Poll::Ready(waited) => Err(waited),
            Poll::Pending => Ok(task),
        }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.wakes.count() > self.seen
    }

    pub(super) fn poll(&mut self) -> Poll<Waited> {
        self.seen = self.wakes.count();
        self.polls += 1;
        poll(self.future.as_mut(), &self.waker)
    }
}

/// Polls who is woken, from the front to the back, until nobody is; who is done, and how.
pub(super) fn run(tasks: &mut Vec<Task<'_>>) -> Vec<(u32, Waited)> {
    let mut done = Vec::new();
    while tasks.iter().any(Task::is_woken) {
        tasks.retain_mut(|task| match task.is_woken().then(|| task.poll()) {
            Some(Poll::Ready(waited)) => {
                done.push((task.name, waited));
                false
            }
            _ => true,
        });
    }
    done
}

/// The same of those who are let in.
pub(super) fn let_in(tasks: &mut Vec<Task<'_>>) -> Vec<u32> {
    let done = run(tasks);
    assert!(done.iter().all(|(_, waited)| waited.is_ok()), "{done:?}");
    done.into_iter().map(|(name, _)| name).collect()
}

pub(super) fn both() -> [Quota; 2] {
    [
        Quota::per_second(1).burst(1),
        Quota::sliding_window(1, SECOND),
    ]
}

pub(super) fn begin<'l>(
    limiter: &'l Limiter<u32>,
    names: std::ops::Range<u32>,
    wait: Wait,
) -> Vec<Task<'l>> {
    let tasks = names.map(|name| Task::begin(limiter, name, wait));
    tasks.map(|task| task.ok().unwrap()).collect()
}

#[test]
fn tasks_are_let_in_in_the_order_in_which_they_came() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        let mut tasks = begin(&limiter, 0..5, Wait::new());
        // Of the first, and of who watches it.
        assert_eq!((limiter.waiters(&1), time.timers()), (5, 2));
        limiter.validate();
        // The last polls without being woken, as who waits for other things too.
        time.advance(SECOND);
        assert!(tasks[4].poll().is_pending());
        for name in 0..5 {
            assert_eq!(let_in(&mut tasks), [name]);
            limiter.validate();
            time.advance(SECOND - NANOSECOND);
            assert!(let_in(&mut tasks).is_empty());
            time.advance(NANOSECOND);
        }
        assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
    }
}

#[test]
fn who_waits_anew_does_not_overtake_who_waits() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let mut tasks = begin(&limiter, 0..1, Wait::new());
    time.advance(SECOND);
    tasks.extend(begin(&limiter, 1..2, Wait::new()));
    assert_eq!(let_in(&mut tasks), [0]);
    let free = Wait::new().cost(0).timeout(Duration::ZERO);
    assert!(
        limiter.until_ready_with(&1, free).is_ok(),
        "it takes nothing"
    );
    assert!(
        limiter.until_ready(&2).is_allowed(),
        "another key is no matter"
    );
}

#[test]
fn threads_are_let_in_in_the_order_in_which_they_came() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        let order = Mutex::new(Vec::new());
        thread::scope(|threads| {
            for name in 0..4 {
                let (limiter, order) = (&limiter, &order);
                threads.spawn(move || {
                    // Threads and tasks stand in one line.
                    let decision = match name % 2 {
                        0 => limiter.until_ready(&1),
                        _ => block_on(limiter.until_ready_async(&1)),
                    };
                    assert!(decision.is_allowed());
                    order.lock().unwrap().push(name);
                });
                while limiter.waiters(&1) <= name {
                    thread::yield_now();
                }
            }
            for name in 0..4 {
                // The first has seen that it is, beside the one who watches it for those behind it.
                while time.timers() < if name < 3 { 2 } else { 1 } {
                    thread::yield_now();
                }
                time.advance(SECOND);
                while order.lock().unwrap().len() == name {
                    thread::yield_now();
                }
            }
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
        limiter.validate();
    }
}

#[test]
fn who_goes_away_holds_nobody_up() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        let mut tasks = begin(&limiter, 0..7, Wait::new());
        drop(tasks.remove(5));
        // The first, which sleeps until its time.
        drop(tasks.remove(0));
        assert!(let_in(&mut tasks).is_empty());
        time.advance(SECOND);
        // The first after it was woken, and the next before it has seen that it is the first.
        drop(tasks.remove(0));
        drop(tasks.remove(0));
        limiter.validate();
        assert_eq!(let_in(&mut tasks), [3]);
        time.advance(SECOND);
        assert_eq!(let_in(&mut tasks), [4]);
        drop(tasks);
        assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
        limiter.validate();
    }
}

#[test]
fn a_great_cost_is_not_overtaken_by_small_ones_that_wait() {
    for quota in [
        Quota::per_second(1).burst(5),
        Quota::sliding_window(5, 5 * SECOND),
    ] {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 5), 5);
        let mut tasks = begin(&limiter, 0..1, Wait::new().cost(5));
        for name in 1..=5 {
            tasks.extend(begin(&limiter, name..name + 1, Wait::new()));
            assert!(let_in(&mut tasks).is_empty());
            time.advance(SECOND);
        }
        assert_eq!(let_in(&mut tasks), [0]);
        let seconds = (0..5).map(|_| time.advance(SECOND));
        let order = seconds.flat_map(|()| let_in(&mut tasks));
        assert_eq!(order.collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn those_whose_time_is_up_in_the_middle_leave_the_line() {
    let (limiter, time) = on_mock(Quota::per_second(1).burst(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let mut tasks = begin(&limiter, 0..1, Wait::new());
    tasks.extend(begin(&limiter, 1..3, Wait::new().timeout(3 * SECOND)));
    tasks.extend(begin(&limiter, 3..4, Wait::new()));
    // The first takes longer to go than was to be foreseen.
    assert_eq!(limiter.charge(&1, 1), 0);
    time.advance(SECOND);
    assert!(let_in(&mut tasks).is_empty());
    time.advance(SECOND);
    assert_eq!(let_in(&mut tasks), [0]);
    time.advance(SECOND);
    let done = run(&mut tasks);
    assert!(matches!(done[..], [(1, Ok(_)), (2, Err(_))]), "{done:?}");
    limiter.validate();
    time.advance(SECOND);
    assert_eq!(let_in(&mut tasks), [3]);
    assert_eq!(time.timers(), 0);
    assert_eq!(
        (limiter.stats().allowed, limiter.stats().refused),
        (4, 1),
        "each wait counts once"
    );
}

#[test]
fn a_wait_that_cannot_end_in_time_behind_others_fails_at_once() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        let mut tasks = begin(&limiter, 0..3, Wait::new());
        let wait = Wait::new().timeout(4 * SECOND - NANOSECOND);
        for waited in [
            Task::begin(&limiter, 3, wait).err().unwrap(),
            limiter.until_ready_with(&1, wait),
        ] {
            let Err(WaitError::TimedOut(refused)) = waited else {
                panic!("{waited:?}");
            };
            assert_eq!(refused.retry_after(), Some(4 * SECOND));
        }
        assert_eq!(limiter.waiters(&1), 3);
        tasks.extend(begin(&limiter, 3..4, Wait::new().timeout(4 * SECOND)));
        for name in 0..4 {
            time.advance(SECOND);
            assert_eq!(let_in(&mut tasks), [name]);
        }
    }
}

#[test]
fn what_is_refused_in_the_middle_says_when_it_would_be_allowed_at_the_earliest() {
    let (limiter, time) = on_mock(Quota::per_second(10).burst(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let _first = begin(&limiter, 0..1, Wait::new());
    let mut tasks = begin(&limiter, 1..2, Wait::new().timeout(SECOND / 5));
    // Nobody polls the first.
    time.advance(SECOND / 5);
    let done = run(&mut tasks);
    let [(1, Err(WaitError::TimedOut(refused)))] = done[..] else {
        panic!("{done:?}");
    };
    assert!(!refused.is_allowed());
    assert_eq!(refused.retry_after(), Some(Duration::ZERO));
}

#[test]
fn many_tasks_are_polled_a_few_times_each() {
    const TASKS: u32 = 1_000;
    for quota in [
        Quota::per_second(1).burst(1),
        Quota::per_second(10),
        Quota::sliding_window(10, SECOND),
    ] {
        let (limiter, time) = on_mock(quota);
        assert!(allowed(&limiter, 10) > 0);
        let mut tasks = begin(&limiter, 0..TASKS, Wait::new().timeout(Duration::MAX));
        let (mut order, mut polls) = (Vec::new(), 0);
        while !tasks.is_empty() {
            time.advance(SECOND);
            while let Some(next) = tasks.iter().position(Task::is_woken) {
                polls += 1;
                if tasks[next].poll().is_ready() {
                    order.push(tasks.remove(next).name);
                }
            }
            limiter.validate();
        }
        assert!(order.is_sorted(), "each in its turn");
        assert!(polls <= 2 * TASKS, "{polls} polls after the first");
        assert_eq!(limiter.stats().refused, u64::from(10 - quota.at_once()));
    }
}

#[test]
fn a_call_that_does_not_wait_takes_what_is_free() {
    for quota in both() {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 1), 1);
        let mut tasks = begin(&limiter, 0..2, Wait::new());
        time.advance(SECOND);
        assert_eq!(allowed(&limiter, 2), 1);
        assert!(let_in(&mut tasks).is_empty());
        time.advance(SECOND);
        assert_eq!(let_in(&mut tasks), [0]);
        assert_eq!(allowed(&limiter, 1), 0, "never more than the quota");
        time.advance(SECOND);
        assert_eq!(let_in(&mut tasks), [1]);
    }
}

#[test]
fn a_reset_lets_those_in_who_wait() {
    for quota in [
        Quota::per_second(2).burst(2),
        Quota::sliding_window(2, SECOND),
    ] {
        let (limiter, time) = on_mock(quota);
        assert_eq!(allowed(&limiter, 2), 2);
        let mut tasks = begin(&limiter, 0..3, Wait::new());
        assert!(limiter.clone().reset(&1));
        assert_eq!(let_in(&mut tasks), [0, 1]);
        assert_eq!(allowed(&limiter, 1), 0);
        time.advance(SECOND);
        assert_eq!(let_in(&mut tasks), [2]);
    }
}

#[test]
fn a_line_is_forgotten_when_nobody_waits_and_not_before() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let mut tasks = begin(&limiter, 0..2, Wait::new());
    // Nobody polls them, and their key would be idle.
    (0..20).for_each(|_| time.advance(SECOND));
    assert!(limiter.is_empty());
    assert_eq!(limiter.waiters(&1), 2);
    assert_eq!(let_in(&mut tasks), [0]);
    time.advance(SECOND);
    assert_eq!(let_in(&mut tasks), [1]);
    (0..20).for_each(|_| time.advance(SECOND));
    assert!(limiter.is_empty());
    limiter.validate();
    assert!(limiter.until_ready(&1).is_allowed());
}

/// Where no key can be looked up.
#[test]
fn a_wait_that_ends_under_a_lock_holds_nobody_up() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let mut tasks = begin(&limiter, 0..3, Wait::new());
    let cache = Cache::new(1);
    cache.insert(1, 1);
    let first = tasks.remove(0);
    assert!(cache.update(&1, move |_| drop(first)).is_some());
    let second = AssertUnwindSafe(tasks.remove(0));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        cache.update(&1, move |_| {
            let _second = second;
            resume_unwind(Box::new("a closure's"))
        })
    }));
    assert!(unwound.is_err());
    limiter.validate();
    time.advance(SECOND);
    assert_eq!(let_in(&mut tasks), [2]);
}

/// As that of an executor whose run queue is a topic.
struct Tells(Topic<u32>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        self.0.publish(1);
    }
}

#[test]
fn a_wait_that_ends_under_a_lock_wakes_the_next_where_its_waker_may_call_haybox() {
    let (limiter, time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let bus = Bus::new();
    let topic = bus.topic::<u32>("woken").unwrap();
    let woken = topic.subscribe();
    let waker = Waker::from(Arc::new(Tells(topic)));
    let mut first = Box::pin(limiter.until_ready_async(&1));
    let mut second = Box::pin(limiter.until_ready_async(&1));
    assert!(poll(first.as_mut(), &waker).is_pending());
    assert!(poll(second.as_mut(), &waker).is_pending());
    let cache = Cache::new(1);
    cache.insert(1, 1);
    assert!(cache.update(&1, move |_| drop(first)).is_some());
    assert_eq!(woken.len(), 0, "not under the lock");
    time.advance(NANOSECOND);
    assert_eq!(woken.len(), 1);
    time.advance(SECOND);
    assert!(poll(second.as_mut(), &waker).is_ready());
    limiter.validate();
}

#[test]
fn nobody_waits_inside_a_closure_that_runs_under_a_lock() {
    let (limiter, _time) = on_mock(Quota::per_second(1));
    assert_eq!(allowed(&limiter, 1), 1);
    let tasks = begin(&limiter, 0..1, Wait::new());
    let cache = Cache::new(1);
    cache.insert(1, 1);
    let inside = panic_of(|| cache.update(&1, |_| drop(limiter.until_ready(&1))));
    assert!(inside.starts_with(crate::common::INSIDE));

    /// Waits as it is dropped.
    struct Waits<'l>(&'l Limiter<u32>);
    impl Drop for Waits<'_> {
        fn drop(&mut self) {
            assert!(!self.0.until_ready(&1).is_allowed());
        }
    }
    let waits = AssertUnwindSafe(Waits(&limiter));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        cache.update(&1, move |_| {
            let _waits = waits;
            resume_unwind(Box::new("a closure's"))
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(limiter.waiters(&1), 1);
    drop(tasks);
    limiter.validate();
}

thread_local!(static FAILS: Cell<bool> = const { Cell::new(false) });

#[derive(Clone, Debug)]
struct Moody(u32);

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        assert!(!FAILS.get(), "not now");
        self.0 == other.0
    }
}
impl Eq for Moody {}
impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn a_wait_that_panics_holds_nobody_up() {
    let time = MockClock::new();
    let limiter = Limiter::builder(Quota::per_second(1)).clock(time.clock());
    let limiter: Limiter<Moody> = limiter.build().unwrap();
    assert!(limiter.check(&Moody(1)).is_allowed());
    let key = Moody(1);
    let mut first = Box::pin(limiter.until_ready_async(&key));
    let mut second = Box::pin(limiter.until_ready_async(&key));
    let (wakes, waker) = Wakes::new();
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll(second.as_mut(), &waker).is_pending());
    time.advance(SECOND);
    FAILS.set(true);
    let third = catch_unwind(AssertUnwindSafe(|| limiter.until_ready(&key)));
    assert!(third.is_err());
    let polled = catch_unwind(AssertUnwindSafe(|| poll_once(first.as_mut())));
    FAILS.set(false);
    assert!(polled.is_err());
    assert_eq!((wakes.count(), limiter.waiters(&key)), (1, 1));
    assert!(poll(second.as_mut(), &waker).is_ready());
    limiter.validate();
}
