//! Numbers that say how large something is, at the ends of their ranges: what cannot be is an error
//! or a panic with a sentence of this crate's, and what can be costs nothing until it is used.

use crate::common::{SECOND, sentence};
use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota, Wait};
use haybox::lock::Locks;
use haybox::presence::Presence;
use haybox::pubsub::{Bus, SubscribeOptions};
use haybox::queue::{PushOptions, Queue, Workers};
use haybox::{Cache, Loaded};
use std::convert::Infallible;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Tried = Result<(), Box<dyn Error>>;

/// A use of one number, and how what is said of 0, 1 and the greatest begins: nothing where it is
/// possible.
struct Case<N> {
    name: &'static str,
    try_it: fn(N) -> Tried,
    says: [&'static str; 3],
}

const fn case<N>(name: &'static str, says: [&'static str; 3], try_it: fn(N) -> Tried) -> Case<N> {
    Case { name, try_it, says }
}

const POSSIBLE: [&str; 3] = ["", "", ""];

fn check<N: Copy>(cases: &[Case<N>], ends: [N; 3]) {
    for case in cases {
        for (end, says) in ends.into_iter().zip(case.says) {
            let try_it = |end| (case.try_it)(end).map_err(|error| error.to_string());
            let said = match catch_unwind(AssertUnwindSafe(|| try_it(end))) {
                Ok(Ok(())) => String::new(),
                Ok(Err(error)) => error,
                Err(payload) => format!("panics: {}", sentence(&*payload)),
            };
            let is_as_expected = said.starts_with(says) && said.is_empty() == says.is_empty();
            assert!(
                is_as_expected,
                "{}: {said:?} instead of {says:?}",
                case.name
            );
        }
    }
}

/// A cache does what it is for.
fn works(cache: &Cache<u64, u64>) -> Tried {
    for key in 0..100 {
        cache.insert(key, key);
    }
    cache.validate();
    Ok(())
}

#[test]
fn sizes_that_are_usize() {
    let cases = [
        case(
            "Cache::new",
            ["panics: Cache: max_entries: must be at least 1", "", ""],
            |n| works(&Cache::new(n)),
        ),
        case(
            "max_entries",
            ["Cache: max_entries: must be at least 1", "", ""],
            |n| works(&Cache::builder().max_entries(n).build()?),
        ),
        case(
            "max_entries beside a weight",
            ["Cache: max_entries: must be at least 1", "", ""],
            |n| works(&Cache::builder().max_entries(n).max_weight(10).build()?),
        ),
        case(
            "set_max_entries",
            ["Cache: max_entries: must be at least 1", "", ""],
            |n| {
                let cache = Cache::new(10);
                cache.set_max_entries(n)?;
                works(&cache)
            },
        ),
        case(
            "events",
            ["panics: a subscription needs room", "", ""],
            |n| {
                let cache = Cache::new(10);
                let events = cache.events(n);
                works(&cache)?;
                assert_eq!(events.try_iter().count() as u64 + events.lost(), 190);
                Ok(())
            },
        ),
        case("scan", POSSIBLE, |n| {
            let cache: Cache<u64, u64> = (0..1_000).map(|key| (key, key)).collect();
            assert!(cache.scan(0, n).1.len() >= n.clamp(1, 1_000));
            assert!(cache.scan(u64::MAX, n).1.len() <= 1_000);
            Ok(())
        }),
        case(
            "Queue::builder",
            ["Queue: capacity: must be at least 1", "", ""],
            |n| {
                let queue = Queue::builder(n).build()?;
                queue.push(1)?;
                queue.try_pop()?.ack()?;
                Ok(())
            },
        ),
        case("dead_letters", POSSIBLE, |n| {
            let queue = Queue::builder(1).dead_letters(n).build()?;
            queue.push(1)?;
            queue.try_pop()?.bury("it fails")?;
            assert_eq!(queue.dead_letters().len(), n.min(1));
            Ok(())
        }),
        case("pop_many", POSSIBLE, |n| {
            let queue = Queue::new(10)?;
            (0..3).try_for_each(|number| queue.push(number).map(drop))?;
            assert_eq!(queue.pop_many(n, SECOND)?.len(), n.min(3));
            Ok(())
        }),
        case(
            "Workers::start",
            [
                "a queue needs at least one",
                "",
                "a queue has at most 10,000",
            ],
            |n| {
                let queue: Queue<u32> = Queue::new(10)?;
                Workers::start(&queue, n, |_| Ok::<_, Infallible>(()))?.stop();
                Ok(())
            },
        ),
        case(
            "SubscribeOptions::capacity",
            [
                "SubscribeOptions: capacity: a subscription needs room",
                "",
                "",
            ],
            |n| {
                let bus = Bus::new();
                let topic = bus.topic::<u32>("topic")?;
                let subscription = topic.subscribe_with(SubscribeOptions::new().capacity(n))?;
                topic.publish(1);
                assert_eq!(subscription.try_recv(), Ok(1));
                Ok(())
            },
        ),
        case("Subscription::drain", POSSIBLE, |n| {
            let bus = Bus::new();
            let topic = bus.topic::<u32>("topic")?;
            let subscription = topic.subscribe();
            (0..3).for_each(|number| drop(topic.publish(number)));
            let mut all = vec![7];
            assert_eq!(subscription.drain(&mut all, n)?, n.min(3));
            Ok(())
        }),
        case(
            "Presence::events_with",
            [
                "SubscribeOptions: capacity: a subscription needs room",
                "",
                "",
            ],
            |n| {
                let presence: Presence<u32, u32> = Presence::new();
                let events = presence.events_with(SubscribeOptions::new().capacity(n))?;
                presence.heartbeat(&1, &1);
                assert!(events.try_recv().is_ok());
                Ok(())
            },
        ),
        case("Counters::top", POSSIBLE, |n| {
            let counters: Counters<u32> = Counters::new();
            (0..3).for_each(|key| counters.incr(&key));
            assert_eq!(counters.top(n).len(), n.min(3));
            Ok(())
        }),
    ];
    check(&cases, [0, 1, usize::MAX]);
}

#[test]
fn sizes_that_are_u64() {
    let no_room = "Cache: max_memory: must be at least";
    let cases = [
        case(
            "max_weight",
            ["Cache: max_weight: must be at least 1", "", ""],
            |n| works(&Cache::builder().max_weight(n).build()?),
        ),
        case("max_memory", [no_room, no_room, ""], |n| {
            works(&Cache::builder().max_memory(n).build()?)
        }),
        case(
            "set_max_weight",
            ["Cache: max_weight: must be at least 1", "", ""],
            |n| {
                let cache = Cache::builder().max_weight(10).build()?;
                cache.set_max_weight(n)?;
                works(&cache)
            },
        ),
        case("set_max_memory", [no_room, no_room, ""], |n| {
            let cache = Cache::builder().max_memory(1_000).build()?;
            cache.set_max_memory(n)?;
            works(&cache)
        }),
        case("what a weigher says", POSSIBLE, |n| {
            for builder in [
                Cache::builder().max_weight(10),
                Cache::builder().max_memory(10_000),
            ] {
                let builder = builder.weigher(move |_, _| n).negative_weigher(move |_| n);
                let cache = builder.negative_ttl(SECOND).build()?;
                cache.get_or_find_with(&1_000, || None);
                works(&cache)?;
            }
            Ok(())
        }),
        case(
            "the greatest weight under the greatest bound",
            POSSIBLE,
            |n| {
                works(
                    &Cache::builder()
                        .max_weight(u64::MAX)
                        .weigher(move |_, _| n)
                        .build()?,
                )
            },
        ),
        case("Loaded::weight", POSSIBLE, |n| {
            let cache = Cache::<u64, u64>::builder().max_weight(10).build()?;
            let loads = cache.read_through(move |_| Ok::<_, Infallible>(Loaded::new(1).weight(n)));
            assert_eq!(loads.get(&1)?, Some(1));
            works(&cache)
        }),
        case(
            "first_token",
            ["", "", "Locks: first_token: must be at most half"],
            |n| {
                let locks: Locks<u32> = Locks::builder(SECOND).first_token(n).build()?;
                assert_eq!(locks.try_acquire(&1)?.token(), n);
                Ok(())
            },
        ),
    ];
    check(&cases, [0, 1, u64::MAX]);
}

#[test]
fn sizes_that_are_u32() {
    let cases = [
        case(
            "permits",
            ["Locks: permits: must be at least 1", "", ""],
            |n| {
                let locks: Locks<u32> = Locks::builder(SECOND).permits(n).build()?;
                let _lease = locks.try_acquire(&1)?;
                assert_eq!(locks.available(&1), n - 1);
                Ok(())
            },
        ),
        case("taking", ["Locks: taking: ", "", "Locks: taking: "], |n| {
            let locks: Locks<u32> = Locks::builder(SECOND).permits(10).build()?;
            let _lease = locks.taking(n)?.try_acquire(&1)?;
            Ok(())
        }),
        case(
            "Quota::per_hour",
            ["Quota: limit: must be at least 1", "", ""],
            |n| {
                let limiter: Limiter<u32> = Limiter::new(Quota::per_hour(n))?;
                assert_eq!(limiter.check(&1).remaining(), n - 1);
                Ok(())
            },
        ),
        case(
            "Quota::sliding_window",
            ["Quota: limit: must be at least 1", "", ""],
            |n| {
                let limiter: Limiter<u32> = Limiter::new(Quota::sliding_window(n, SECOND))?;
                assert_eq!(limiter.check(&1).remaining(), n - 1);
                Ok(())
            },
        ),
        case("burst", ["Quota: burst: must be at least 1", "", ""], |n| {
            let limiter: Limiter<u32> = Limiter::new(Quota::per_second(1).burst(n))?;
            assert_eq!(limiter.check(&1).remaining(), n - 1);
            Ok(())
        }),
        case("check_n", ["", "", "a cost of 4294967295"], |n| {
            for quota in [Quota::per_second(10), Quota::sliding_window(10, SECOND)] {
                let limiter: Limiter<u32> = Limiter::new(quota)?;
                assert_eq!(limiter.check_n(&1, n)?.remaining(), 10 - n);
            }
            Ok(())
        }),
        case("Wait::cost", ["", "", "a cost of 4294967295"], |n| {
            let limiter: Limiter<u32> = Limiter::new(Quota::per_second(10))?;
            let wait = Wait::new().cost(n);
            assert!(limiter.until_ready_with(&1, wait)?.is_allowed());
            Ok(())
        }),
        case(
            "max_attempts",
            ["Queue: max_attempts: must be at least 1", "", ""],
            |n| {
                let queue = Queue::builder(1).max_attempts(n).build()?;
                queue.push(1)?;
                queue.try_pop()?.fail("it fails")?;
                assert_eq!(queue.dead_letters().len(), usize::from(n == 1));
                Ok(())
            },
        ),
    ];
    check(&cases, [0, 1, u32::MAX]);
}

#[test]
fn numbers_with_a_sign() {
    let queue = Queue::new(10).unwrap();
    for priority in [0, i8::MIN, i8::MAX] {
        queue
            .push_with(priority, PushOptions::new().priority(priority))
            .unwrap();
    }
    let popped = [(); 3].map(|()| {
        let delivery = queue.try_pop().unwrap();
        let popped = *delivery;
        delivery.ack().unwrap();
        popped
    });
    assert_eq!(popped, [i8::MAX, 0, i8::MIN]);
    let counters: Counters<u32> = Counters::new();
    for by in [i64::MAX, i64::MAX, i64::MIN, i64::MIN, i64::MIN] {
        counters.add(&1, by);
        let _ = (counters.get(&1), counters.top(1));
    }
}

#[cfg(feature = "session")]
#[test]
fn sizes_of_sessions() {
    use haybox::session::{Content, Sessions, SessionsBuilder};

    fn works(builder: SessionsBuilder) -> Tried {
        let sessions = builder.build()?;
        let content = || Content::new("basket").owner("ada");
        let id = sessions.start(content())?;
        assert_eq!(sessions.get(&id).unwrap().text(), "basket");
        sessions.start(content())?;
        Ok(())
    }
    let cases = [
        case(
            "max_sessions",
            ["Sessions: max_sessions: must be at least 1", "", ""],
            |n| works(Sessions::builder().max_sessions(n)),
        ),
        case(
            "max_size",
            ["the session has", "the session has", ""],
            |n| works(Sessions::builder().max_size(n)),
        ),
        case(
            "max_per_owner",
            ["Sessions: max_per_owner: must be at least 1", "", ""],
            |n| works(Sessions::builder().max_per_owner(n)),
        ),
        case(
            "max_memory",
            [
                "Sessions: max_memory: must be at least",
                "Sessions: max_memory: must be at least",
                "",
            ],
            |n| works(Sessions::builder().max_memory(n as u64)),
        ),
    ];
    check(&cases, [0, 1, usize::MAX]);
}
