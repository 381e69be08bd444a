//! What is there, for how long, and what its end does to others.

use super::{numbers, options};
use crate::common::{HOUR, INSIDE, PATIENCE, SECOND, panic_of};
use haybox::pubsub::{Bus, Matched, NoMessage, Pattern, Slow, Subscription};
use haybox::{Cache, MockClock};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::thread;

#[test]
fn a_name_has_one_type_while_it_is_used() {
    let bus = Bus::new();
    let numbers = bus.topic::<u32>("here").unwrap();
    let wrong = bus.topic::<String>("here").unwrap_err();
    let sentence = wrong.to_string();
    assert!(sentence.contains("here") && sentence.contains("u32") && sentence.contains("String"));
    drop(numbers);
    assert!(
        bus.topic::<String>("here").is_ok(),
        "nobody uses the name as another type"
    );
}

#[test]
fn a_topic_is_there_for_as_long_as_anybody_uses_it() {
    let bus = Bus::new();
    let topic = bus.topic::<u32>("a").unwrap();
    let subscription = topic.subscribe();
    assert!(bus.topics().iter().map(|name| &**name).eq(["a"]));
    drop(topic);
    assert_eq!(bus.topic::<u32>("a").unwrap().publish(1), 1);
    assert_eq!(subscription.try_recv(), Ok(1));
    drop(subscription);
    assert!(bus.topics().is_empty());
    for number in 0..1_000 {
        bus.topic::<u32>(&number.to_string())
            .unwrap()
            .publish(number);
    }
    let shown = format!("{bus:?}");
    assert!(
        bus.topics().is_empty() && shown.contains("topics: 0"),
        "names that nobody uses leave no trace: {shown}"
    );
}

#[test]
fn a_pattern_hears_topics_of_its_type_that_are_there_and_that_come() {
    let bus = Bus::new();
    let there = bus.topic::<u32>("room.a").unwrap();
    let other = bus.topic::<&str>("room.b").unwrap();
    let rooms = bus.subscribe_matching::<u32>(&Pattern::new("room.?").unwrap());
    let comes = bus.topic::<u32>("room.c").unwrap();
    assert_eq!(
        (there.publish(1), other.publish("no"), comes.publish(3)),
        (1, 0, 1)
    );
    assert_eq!(bus.topic::<u32>("hall").unwrap().publish(4), 0);
    let heard = rooms
        .try_iter()
        .map(|heard| (heard.topic.to_string(), heard.message));
    assert!(heard.eq([("room.a".to_owned(), 1), ("room.c".to_owned(), 3)]));
    drop(rooms);
    assert_eq!((there.subscriptions(), comes.subscriptions()), (0, 0));
    assert_eq!(bus.topic::<u32>("room.d").unwrap().subscriptions(), 0);
}

/// Ends two subscriptions while threads wait for each in every way there is.
fn wakes_who_waits(
    time: &MockClock,
    exact: &Subscription<u32>,
    matching: &Subscription<Matched<u32>>,
    end: impl FnOnce(),
) {
    thread::scope(|threads| {
        let waiting = [
            threads.spawn(|| exact.recv().map(drop)),
            threads.spawn(|| exact.recv_timeout(HOUR).map(drop)),
            threads.spawn(|| matching.recv().map(drop)),
            threads.spawn(|| matching.iter().next().ok_or(NoMessage::Closed).map(drop)),
        ];
        super::until_waiting(time, 1);
        end();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), Err(NoMessage::Closed));
        }
    });
}

#[test]
fn who_waits_wakes_when_the_bus_goes() {
    for close in [false, true] {
        let (bus, topic, time) = numbers();
        let exact = topic.subscribe();
        let matching = bus.subscribe_matching::<u32>(&Pattern::literal("numbers"));
        wakes_who_waits(&time, &exact, &matching, || {
            if close {
                bus.close();
            } else {
                drop(bus);
            }
        });
        assert!(topic.is_closed());
        assert_eq!(topic.publish(1), 0);
        assert_eq!(topic.subscribe().recv(), Err(NoMessage::Closed));
        assert_eq!(time.timers(), 0);
    }
}

#[test]
fn who_waits_wakes_when_another_thread_closes_the_subscription() {
    let (bus, topic, time) = numbers();
    let (exact, lasting) = (topic.subscribe(), topic.subscribe());
    let matching = bus.subscribe_matching::<u32>(&Pattern::literal("numbers"));
    wakes_who_waits(&time, &exact, &matching, || {
        exact.close();
        matching.close();
    });
    assert_eq!((topic.subscriptions(), time.timers()), (1, 0));
    assert_eq!((topic.publish(1), lasting.recv()), (1, Ok(1)));
    let of_bus = bus.topic::<u32>("numbers").unwrap();
    drop((topic, of_bus, exact, lasting));
    let anew = bus.topic::<u32>("numbers").unwrap();
    assert_eq!(anew.subscriptions(), 0, "the bus has forgotten the pattern");
    assert_eq!(matching.recv(), Err(NoMessage::Closed));
}

#[test]
fn what_was_waiting_is_still_read_after_a_subscription_was_closed() {
    let (_bus, topic, _time) = numbers();
    let subscription = topic.subscribe();
    assert!(subscription.bell().is_empty());
    (1..=3).for_each(|number| assert_eq!(topic.publish(number), 1));
    subscription.close();
    subscription.close();
    assert_eq!((topic.publish(4), subscription.len()), (0, 3));
    assert!(subscription.iter().eq([1, 2, 3]));
    assert_eq!(subscription.recv(), Err(NoMessage::Closed));
    assert!(subscription.bell().try_iter().count() <= 1);
    assert!(subscription.bell().recv().is_err(), "it is heard for ever");
}

#[test]
fn a_subscription_that_was_too_slow_is_that_also_when_it_is_closed() {
    let (_bus, topic, _time) = numbers();
    let strict = topic.subscribe_with(options(1, Slow::Disconnect)).unwrap();
    assert_eq!((topic.publish(1), topic.publish(2)), (1, 0));
    strict.close();
    assert_eq!(strict.recv(), Ok(1));
    assert_eq!(strict.recv(), Err(NoMessage::TooSlow));
}

#[test]
fn what_was_waiting_is_still_read_after_the_end() {
    let (bus, topic, _time) = numbers();
    let subscription = topic.subscribe();
    (1..=3).for_each(|number| assert_eq!(topic.publish(number), 1));
    drop((bus, topic));
    assert_eq!(subscription.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_closed_bus_makes_closed_topics() {
    let bus = Bus::new();
    bus.close();
    let topic = bus.topic::<u32>("late").unwrap();
    let matching = bus.subscribe_matching::<u32>(&Pattern::literal("late"));
    assert_eq!((topic.publish(1), topic.subscriptions()), (0, 0));
    assert_eq!(topic.subscribe().try_recv(), Err(NoMessage::Closed));
    assert_eq!(matching.try_recv(), Err(NoMessage::Closed));
    assert!(bus.topics().is_empty());
}

#[test]
fn a_topic_that_was_closed_makes_place_for_another() {
    let bus = Bus::new();
    let all = bus.subscribe_matching::<u32>(&Pattern::new("*").unwrap());
    let old = bus.topic::<u32>("a").unwrap();
    let of_old = old.subscribe();
    old.close();
    let new = bus.topic::<u32>("a").unwrap();
    let of_new = new.subscribe();
    assert_eq!((old.publish(1), new.publish(2)), (0, 2));
    assert_eq!(of_old.recv(), Err(NoMessage::Closed));
    assert_eq!(of_new.try_recv(), Ok(2));
    assert_eq!(all.try_recv().map(|heard| heard.message), Ok(2));
    drop((old, of_old));
    assert_eq!(
        bus.topic::<u32>("a").unwrap().publish(3),
        2,
        "the old one's end is not the new one's"
    );
}

#[test]
fn a_time_out_goes_by_the_clock_of_the_bus() {
    let (_bus, topic, time) = numbers();
    let subscription = topic.subscribe();
    thread::scope(|threads| {
        let waiting = threads.spawn(|| subscription.recv_timeout(SECOND));
        super::until_waiting(&time, 1);
        time.set_system_time(time.clock().system_time() + HOUR);
        time.advance(SECOND - std::time::Duration::from_nanos(1));
        assert!(
            !waiting.is_finished(),
            "a step of the wall clock is no time"
        );
        time.advance(std::time::Duration::from_nanos(1));
        assert_eq!(waiting.join().unwrap(), Err(NoMessage::Empty));
    });
    assert_eq!(
        subscription.recv_timeout(std::time::Duration::ZERO),
        Err(NoMessage::Empty)
    );
    let real = Bus::new().topic::<u32>("real").unwrap().subscribe();
    assert_eq!(real.recv_timeout(PATIENCE), Err(NoMessage::Closed));
}

#[test]
fn messages_are_dropped_and_cloned_where_calls_are_allowed() {
    /// Publishes and subscribes wherever it can.
    #[derive(Debug)]
    struct Calls(Arc<Bus>);
    impl Calls {
        fn call(&self) {
            let own = self.0.topic::<Self>("calls").unwrap();
            drop(own.subscribe());
            assert!(own.subscriptions() <= 2);
            assert!(!self.0.topics().is_empty());
        }
    }
    impl Clone for Calls {
        fn clone(&self) -> Self {
            self.call();
            Self(Arc::clone(&self.0))
        }
    }
    impl Drop for Calls {
        fn drop(&mut self) {
            self.call();
        }
    }
    let bus = Arc::new(Bus::new());
    let topic = bus.topic("calls").unwrap();
    let both = [Slow::DropOldest, Slow::DropNewest]
        .map(|slow| topic.subscribe_with(options(1, slow)).unwrap());
    for _ in 0..3 {
        topic.publish(Calls(Arc::clone(&bus)));
    }
    drop(both);
    let dropped_full = topic.subscribe();
    topic.publish(Calls(Arc::clone(&bus)));
    topic.close();
    drop(dropped_full);
}

#[test]
fn publishing_under_a_lock_is_refused_with_a_sentence() {
    let (_bus, topic, _time) = numbers();
    let subscription = topic.subscribe();
    let cache = Cache::new(10);
    cache.insert(1, 1);
    let refused = panic_of(|| cache.update(&1, |_| topic.publish(1)));
    assert!(refused.starts_with(INSIDE));
    assert!(subscription.is_empty());
}

#[test]
fn a_clone_that_panics_harms_nobody_else() {
    struct Fails;
    impl Clone for Fails {
        fn clone(&self) -> Self {
            std::panic::resume_unwind(Box::new("no second one"));
        }
    }
    let bus = Bus::new();
    let topic = bus.topic::<Fails>("fails").unwrap();
    let subscriptions = [topic.subscribe(), topic.subscribe()];
    panic_of(|| topic.publish(Fails));
    assert!(subscriptions.iter().all(|one| one.is_empty()));
    let [first, second] = subscriptions;
    drop(second);
    assert_eq!((topic.publish(Fails), first.len()), (1, 1));
}

/// Has something done by each write.
struct Busy<F>(F);

impl<F: FnMut()> Write for Busy<F> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        (self.0)();
        Ok(())
    }
}

#[test]
fn what_is_shown_may_be_used_by_what_it_is_written_to() {
    let bus = Bus::new();
    let topic = bus.topic::<String>("log").unwrap();
    let subscription = topic.subscribe();
    write!(Busy(|| _ = topic.publish(String::new())), "{topic:?}").unwrap();
    let lost = write!(Busy(|| _ = subscription.try_recv()), "{subscription:?}");
    assert_eq!(lost, Ok(()));
    write!(Busy(|| _ = bus.topics()), "{bus:?}").unwrap();
}
