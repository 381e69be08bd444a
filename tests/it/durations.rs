//! Times at the ends of their range, in every place that takes one: none is no time at all, the
//! longest has no end, and neither panics, overflows or hangs.

use crate::common::{HOUR, SECOND, timed};
use crate::loading::poll_once;
use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota, Wait, WaitError};
use haybox::lock::{LockError, Locks};
use haybox::presence::{Presence, Status};
use haybox::pubsub::{Bus, NoMessage, Slow, SubscribeOptions};
use haybox::queue::{Overflow, PopError, PushError, PushOptions, Queue, Workers};
use haybox::{
    BuildError, Cache, Clock, ExpireIf, Expiry, Freshness, InsertOptions, LoadError, Loaded,
    MockClock, NoEvent, Ttl,
};
use std::convert::Infallible;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, SystemTime};

const NONE: Duration = Duration::ZERO;
const NEVER: Duration = Duration::MAX;
const TICK: Duration = Duration::from_nanos(1);

/// A system time that none can be after, or before.
fn farthest(step: impl Fn(SystemTime, Duration) -> Option<SystemTime>) -> SystemTime {
    let steps = (0..64).rev().map(|bit| Duration::from_secs(1 << bit));
    steps.fold(SystemTime::now(), |time, by| step(time, by).unwrap_or(time))
}

fn ends_of_time() -> [SystemTime; 2] {
    [
        farthest(|time, by| time.checked_sub(by)),
        farthest(|time, by| time.checked_add(by)),
    ]
}

fn says<T>(built: Result<T, BuildError>, setting: &str) {
    let error = built.err().expect(setting);
    assert_eq!(error.setting(), setting);
}

/// A clock that has come to its end.
fn at_the_end() -> MockClock {
    let time = MockClock::new();
    time.advance(NEVER);
    time.advance(NEVER);
    time
}

#[test]
fn entries_live_for_no_time_or_for_ever() {
    let (cache, time) = timed::<u32, u32>(|builder| builder);
    for (ttl, lives) in [(NONE, false), (TICK, false), (NEVER, true)] {
        let found = |key| (cache.get(&key), cache.ttl(&key));
        let expected = match lives {
            true => (Some(7), Some(Ttl::Never)),
            false => (None, None),
        };
        cache.insert_with_ttl(1, 7, ttl);
        assert_eq!(found(1), expected, "{ttl:?}");
        cache.insert_with(1, 7, InsertOptions::new().ttl(ttl));
        assert_eq!(found(1), expected, "{ttl:?}");
        cache.insert(1, 7);
        assert!(cache.expire(&1, ttl));
        assert_eq!(found(1), expected, "{ttl:?}");
        cache.insert_with_ttl(1, 7, HOUR);
        cache.expire_with(&1, ttl, ExpireIf::Always);
        assert_eq!(found(1), expected, "{ttl:?}");
        let stored = cache.transaction(&[1], |tx| tx.insert_with_ttl(&1, 7, ttl).map_err(drop));
        assert_eq!((stored, found(1)), (Ok(()), expected), "{ttl:?}");
        cache.remove(&1);
        let loads = cache.read_through(move |_| Ok::<_, Infallible>(Loaded::new(7).ttl(ttl)));
        assert_eq!(loads.get(&1), Ok(Some(7)));
        assert_eq!(found(1), expected, "{ttl:?}");
        cache.validate();
    }
    let [first, last] = ends_of_time();
    for (until, lives) in [(first, false), (last, true)] {
        cache.insert(1, 7);
        assert!(cache.expire_at(&1, until));
        assert_eq!(cache.contains_key(&1), lives);
        cache.insert_with(1, 7, InsertOptions::new().expire_at(until));
        assert_eq!(cache.contains_key(&1), lives);
        assert_eq!(cache.deadline(&1).is_some(), lives);
    }
    time.advance(NEVER);
    assert_eq!((cache.get(&1), cache.deadline(&1)), (Some(7), Some(None)));
    cache.validate();
}

struct Always(Duration);

impl Expiry<u32, u32> for Always {
    fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
        Some(self.0)
    }
}

#[test]
fn an_expiry_policy_may_say_any_time() {
    for (ttl, lives) in [(NONE, false), (NEVER, true)] {
        for ttl_of_all in [None, Some(NEVER)] {
            let (cache, time) = timed(|builder| {
                let builder = builder.expiry(Always(ttl));
                ttl_of_all
                    .into_iter()
                    .fold(builder, |builder, ttl| builder.time_to_live(ttl))
            });
            cache.insert(1, 7);
            time.advance(HOUR);
            assert_eq!(cache.get(&1).is_some(), lives);
            cache.validate();
        }
    }
}

#[test]
fn a_clock_that_has_come_to_its_end_stands_still() {
    let time = at_the_end();
    let builder = Cache::builder().clock(time.clock());
    let cache = builder
        .time_to_live(SECOND)
        .time_to_idle(SECOND)
        .build()
        .unwrap();
    cache.insert(1, 7);
    assert_eq!(cache.get(&1), Some(7));
    cache.sweep();
    cache.validate();
    let queue = Queue::builder(10).clock(time.clock()).build().unwrap();
    queue.push(1).unwrap();
    queue.try_pop().unwrap().nack_after(SECOND).unwrap();
    let locks = Locks::<u32>::builder(SECOND)
        .clock(time.clock())
        .build()
        .unwrap();
    assert!(locks.try_acquire(&1).unwrap().renew().is_ok());
    for quota in [Quota::per_second(1), Quota::sliding_window(1, SECOND)] {
        let limiter = Limiter::<u32>::builder(quota)
            .clock(time.clock())
            .build()
            .unwrap();
        let _ = (limiter.check(&1), limiter.check(&1), limiter.peek(&1));
    }
    let builder = Counters::builder().clock(time.clock()).window(TICK);
    let counters: Counters<u32> = builder.time_to_live(SECOND).build().unwrap();
    counters.incr(&1);
    counters.incr(&1);
    assert_eq!((counters.recent(&1, NEVER), counters.get(&1)), (2, 2));
    let presence: Presence<u32, u32> = Presence::builder().clock(time.clock()).build().unwrap();
    presence.heartbeat(&1, &1);
    assert_eq!(presence.status(&1, &1), Some(Status::Active));
}

#[test]
fn a_cache_is_read_for_no_time_or_for_ever() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let events = cache.events(10);
    assert_eq!(events.recv_timeout(NONE), Err(NoEvent::Empty));
    cache.insert(1, 1);
    assert!(events.recv_timeout(NONE).is_ok());
    thread::scope(|scope| {
        let waits = scope.spawn(|| events.recv_timeout(NEVER).is_ok());
        cache.insert(1, 2);
        assert!(waits.join().unwrap());
    });
    drop(cache);
    assert_eq!(events.recv_timeout(NEVER), Err(NoEvent::Closed));
}

#[test]
fn times_of_freshness() {
    let new = Freshness::new;
    let impossible = [
        (new().refresh_after(NONE), "refresh_after"),
        (new().stale_if_error(NONE), "stale_if_error"),
        (new().retry_after(NONE), "retry_after"),
        (new().soft_timeout(NONE), "soft_timeout"),
        (new().hard_timeout(NONE), "hard_timeout"),
    ];
    for (freshness, setting) in impossible {
        says(
            Cache::<u32, u32>::builder().freshness(freshness).build(),
            setting,
        );
    }
    let longest = new().refresh_after(NEVER).jitter(1.0).stale_if_error(NEVER);
    let longest = longest.retry_after(NEVER).hard_timeout(NEVER);
    let shortest = new().refresh_after(TICK).jitter(1.0).stale_if_error(TICK);
    let shortest = shortest.retry_after(TICK).hard_timeout(TICK);
    for freshness in [longest, shortest] {
        let (cache, time) = timed(|builder| builder.time_to_live(SECOND));
        let loads = cache.read_through(|_| Ok::<u32, Infallible>(7));
        let loads = loads.with_freshness(freshness).unwrap();
        for _ in 0..3 {
            assert_eq!(loads.get(&1), Ok(Some(7)));
            time.advance(SECOND);
        }
        time.advance(NEVER);
        assert_eq!(loads.get(&1), Ok(Some(7)));
        let fails = cache.read_through(|_| Err::<u32, _>("no source"));
        let fails = fails
            .with_freshness(new().stale_if_error(NEVER).retry_after(NEVER))
            .unwrap();
        let failed = fails.get(&2);
        assert!(matches!(failed, Err(LoadError::Failed(_))), "{failed:?}");
        cache.validate();
    }
}

#[test]
fn locks_are_waited_for_and_held_for_no_time_or_for_ever() {
    says(Locks::<u32>::new(NONE), "lease_time");
    says(
        Locks::<u32>::new(SECOND).unwrap().with_lease_time(NONE),
        "lease_time",
    );
    says(
        Locks::<u32>::builder(SECOND).watchdog(NONE).build(),
        "watchdog",
    );
    for clock in [Clock::real(), MockClock::new().clock()] {
        let builder = Locks::<u32>::builder(NEVER).watchdog(NEVER).clock(clock);
        let locks: Locks<u32> = builder.build().unwrap();
        let held = locks.acquire_timeout(&1, NONE).unwrap();
        assert_eq!(held.remaining(), NEVER);
        held.renew().unwrap();
        thread::scope(|scope| {
            let refused = scope.spawn(|| locks.acquire_timeout(&1, NONE).map(drop));
            assert_eq!(refused.join().unwrap(), Err(LockError::TimedOut));
            let waits = scope.spawn(|| locks.acquire_timeout(&1, NEVER).map(drop));
            while locks.waiters(&1) == 0 {
                thread::yield_now();
            }
            held.release().unwrap();
            assert_eq!(waits.join().unwrap(), Ok(()));
        });
        let _held = locks.acquire(&1).unwrap();
        let mut refused = locks.acquire_timeout_async(&1, NONE);
        let polled = poll_once(pin!(&mut refused));
        assert!(matches!(polled, Poll::Ready(Err(LockError::TimedOut))));
        let mut waits = locks.acquire_timeout_async(&1, NEVER);
        assert!(poll_once(pin!(&mut waits)).is_pending());
    }
}

#[test]
fn limits_are_waited_for_no_time_or_for_ever() {
    says(Limiter::<u32>::new(Quota::new(1, NONE)), "period");
    says(Limiter::<u32>::new(Quota::new(1, NEVER)), "period");
    says(
        Limiter::<u32>::new(Quota::sliding_window(1, NONE)),
        "period",
    );
    says(
        Limiter::<u32>::new(Quota::sliding_window(1, NEVER)),
        "period",
    );
    let quota = Quota::per_second(1);
    says(
        Limiter::<u32>::builder(quota).sweep_interval(NONE).build(),
        "sweep_interval",
    );
    let time = MockClock::new();
    let builder = Limiter::<u32>::builder(quota)
        .sweep_interval(NEVER)
        .clock(time.clock());
    let limiter: Limiter<u32> = builder.build().unwrap();
    let wait = Wait::new().jitter(NEVER);
    assert!(limiter.until_ready_with(&1, wait.timeout(NONE)).is_ok());
    let refused = limiter.until_ready_with(&1, wait.timeout(NONE));
    assert!(
        matches!(refused, Err(WaitError::TimedOut(_))),
        "{refused:?}"
    );
    let mut waits = pin!(limiter.until_ready_with_async(&1, Wait::new().timeout(NEVER)));
    assert!(poll_once(waits.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(matches!(poll_once(waits), Poll::Ready(Ok(_))));
    let mut waits = pin!(limiter.until_ready_with_async(&1, wait.timeout(NEVER)));
    assert!(poll_once(waits.as_mut()).is_pending());
}

#[test]
fn queues_are_used_for_no_time_or_for_ever() {
    says(
        Queue::<u32>::builder(1).visibility_timeout(NONE).build(),
        "visibility_timeout",
    );
    says(Queue::<u32>::builder(1).watchdog(NONE).build(), "watchdog");
    for clock in [Clock::real(), MockClock::new().clock()] {
        let builder = Queue::builder(2).clock(clock).dedup_window(NEVER);
        let builder = builder.visibility_timeout(NEVER).watchdog(NEVER);
        let queue = builder.overflow(Overflow::Block(NONE)).build().unwrap();
        assert_eq!(queue.pop_timeout(NONE).unwrap_err(), PopError::Empty);
        assert_eq!(queue.pop_many(5, NONE).unwrap_err(), PopError::Empty);
        assert!(queue.wait_until_empty(NONE) && queue.wait_until_empty(NEVER));
        queue.push_with(1, PushOptions::new().delay(NEVER)).unwrap();
        queue.push_with(2, PushOptions::new().delay(NONE)).unwrap();
        assert!(matches!(queue.push(3), Err(PushError::Full(3))));
        assert!(!queue.wait_until_empty(NONE));
        let delivery = queue.pop_timeout(NEVER).unwrap();
        assert_eq!((*delivery, delivery.remaining()), (2, NEVER));
        delivery.extend(NEVER).unwrap();
        delivery.nack_after(NONE).unwrap();
        let receipt = queue.pop_timeout(NONE).unwrap().into_receipt();
        queue.extend(receipt, NEVER).unwrap();
        queue.nack_after(receipt, NEVER).unwrap();
        assert_eq!((queue.stats().delayed, queue.stats().ready), (2, 0));
        let workers = Workers::start(&queue, 1, |_| Ok::<_, Infallible>(())).unwrap();
        assert_eq!(workers.drain(NONE).done, 0);
        assert_eq!(queue.purge_all(), 0);
    }
}

#[test]
fn a_delivery_that_is_extended_by_no_time_keeps_what_it_has() {
    let time = MockClock::new();
    let builder = Queue::builder(2).visibility_timeout(SECOND);
    let queue = builder.clock(time.clock()).build().unwrap();
    queue.push(1).unwrap();
    let delivery = queue.try_pop().unwrap();
    delivery.extend(NONE).unwrap();
    assert_eq!(delivery.remaining(), SECOND);
}

#[test]
fn a_push_waits_for_ever_for_room() {
    for clock in [Clock::real(), MockClock::new().clock()] {
        let builder = Queue::builder(1).overflow(Overflow::Block(NEVER));
        let queue = builder.clock(clock).build().unwrap();
        queue.push(1).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| queue.push(2));
            queue.pop_timeout(NEVER).unwrap().ack().unwrap();
            assert!(waits.join().unwrap().is_ok());
        });
        let mut waits = pin!(queue.push_async(3));
        assert!(poll_once(waits.as_mut()).is_pending());
    }
}

#[test]
fn presence_for_no_time_or_for_ever() {
    let builder = Presence::<u32, u32>::builder;
    says(builder().timeout(NONE).build(), "timeout");
    says(builder().idle_after(NONE).build(), "idle_after");
    says(builder().sweep_interval(NONE).build(), "sweep_interval");
    let time = MockClock::new();
    let builder = builder()
        .timeout(NEVER)
        .idle_after(NEVER)
        .sweep_interval(NEVER);
    let presence = builder.clock(time.clock()).build().unwrap();
    presence.heartbeat(&1, &1);
    time.advance(NEVER);
    presence.sweep();
    assert_eq!(presence.status(&1, &1), Some(Status::Active));
}

#[test]
fn counts_of_no_time_or_for_ever() {
    let builder = Counters::<u32>::builder;
    says(builder().time_to_live(NONE).build(), "time_to_live");
    says(builder().window(NONE).build(), "window");
    says(builder().sweep_interval(NONE).build(), "sweep_interval");
    for window in [TICK, NEVER] {
        let time = MockClock::new();
        let builder = builder()
            .time_to_live(NEVER)
            .window(window)
            .sweep_interval(NEVER);
        let counters = builder.clock(time.clock()).build().unwrap();
        counters.add(&1, 5);
        assert_eq!(
            (counters.recent(&1, NONE), counters.recent(&1, NEVER)),
            (0, 5)
        );
        assert_eq!(counters.rate(&1, NONE), 0.0);
        assert!(counters.rate(&1, NEVER) > 0.0);
        time.advance(NEVER);
        counters.add(&1, 1);
        counters.sweep();
        assert_eq!(counters.get(&1), 6);
    }
}

#[test]
fn counts_up_to_the_end_of_the_clock() {
    let time = MockClock::new();
    let builder = Counters::<u32>::builder().clock(time.clock()).window(TICK);
    let counters = builder.build().unwrap();
    // The clock began an hour before.
    time.advance(Duration::from_nanos(u64::MAX) - HOUR - TICK * 30);
    counters.incr(&1);
    time.advance(NEVER);
    counters.incr(&1);
    assert_eq!((counters.recent(&1, TICK), counters.get(&1)), (1, 2));
}

#[test]
fn messages_are_waited_for_no_time_or_for_ever() {
    for bus in [Bus::new(), Bus::with_clock(MockClock::new().clock())] {
        let topic = bus.topic::<u32>("topic").unwrap();
        let full = |longest| {
            SubscribeOptions::new()
                .capacity(1)
                .on_slow(Slow::Block(longest))
        };
        let subscription = topic.subscribe_with(full(NONE)).unwrap();
        assert_eq!(subscription.recv_timeout(NONE), Err(NoMessage::Empty));
        assert_eq!((topic.publish(1), topic.publish(2)), (1, 0));
        assert_eq!(
            (subscription.recv_timeout(NEVER), subscription.lost()),
            (Ok(1), 1)
        );
        drop(subscription);
        let subscription = topic.subscribe_with(full(NEVER)).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| subscription.recv_timeout(NEVER));
            topic.publish(1);
            assert_eq!(waits.join().unwrap(), Ok(1));
            let waits = scope.spawn(|| (topic.publish(2), topic.publish(3)));
            let got = (
                subscription.recv_timeout(NEVER),
                subscription.recv_timeout(NEVER),
            );
            assert_eq!((got, waits.join().unwrap()), ((Ok(2), Ok(3)), (1, 1)));
        });
        topic.close();
        assert_eq!(subscription.recv_timeout(NEVER), Err(NoMessage::Closed));
    }
}

#[cfg(feature = "session")]
#[test]
fn sessions_live_for_no_time_or_for_ever() {
    use haybox::session::{Content, Sessions};

    let builder = Sessions::builder;
    says(builder().idle_timeout(NONE).build(), "idle_timeout");
    says(builder().absolute_timeout(NONE).build(), "absolute_timeout");
    says(builder().request_timeout(NONE).build(), "request_timeout");
    says(builder().sweep_interval(NONE).build(), "sweep_interval");
    let time = MockClock::new();
    let builder = builder()
        .idle_timeout(NEVER)
        .absolute_timeout(NEVER)
        .touch_every(NONE);
    let builder = builder.request_timeout(NEVER).sweep_interval(NEVER);
    let sessions = builder.clock(time.clock()).build().unwrap();
    let [first, last] = ends_of_time();
    let ended = sessions.start(Content::new("basket").until(first)).unwrap();
    let id = sessions.start(Content::new("basket").until(last)).unwrap();
    assert_eq!(
        (sessions.get(&ended).is_some(), sessions.get(&id).is_some()),
        (false, true)
    );
    time.advance(HOUR);
    assert!(sessions.get(&id).is_some());
    assert!(sessions.set_until(&id, last) && sessions.get(&id).is_some());
    assert!(sessions.set_until(&id, first) && sessions.get(&id).is_none());
    // The longest time between two touches leaves no idle time that is longer.
    says(
        Sessions::builder()
            .idle_timeout(NEVER)
            .touch_every(NEVER)
            .build(),
        "touch_every",
    );
    assert!(Sessions::builder().touch_every(NEVER).build().is_ok());
}
