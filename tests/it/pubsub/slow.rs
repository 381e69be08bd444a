//! What happens to who does not keep up.

use super::{numbers, options, until_waiting};
use crate::common::SECOND;
use haybox::pubsub::{Bus, NoMessage, Slow};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

#[test]
fn a_capacity_of_nothing_is_refused() {
    let (bus, topic, _time) = numbers();
    let refused = topic
        .subscribe_with(options(0, Slow::DropOldest))
        .unwrap_err();
    assert_eq!(refused.setting(), "capacity");
    let pattern = "*".parse().unwrap();
    let refused = bus.subscribe_matching_with::<u32>(&pattern, options(0, Slow::Disconnect));
    assert!(refused.is_err());
    assert_eq!(topic.subscriptions(), 0);
}

#[test]
fn one_that_never_reads_holds_its_capacity_and_no_more() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Clone for Counted {
        fn clone(&self) -> Self {
            ALIVE.fetch_add(1, SeqCst);
            Self
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, SeqCst);
        }
    }
    let bus = Bus::new();
    let topic = bus.topic::<Counted>("counted").unwrap();
    let lazy: Vec<_> = [Slow::DropOldest, Slow::DropNewest, Slow::Disconnect]
        .map(|slow| topic.subscribe_with(options(3, slow)).unwrap())
        .into();
    let message = {
        ALIVE.fetch_add(1, SeqCst);
        Counted
    };
    for _ in 0..1_000 {
        topic.publish(message.clone());
    }
    assert_eq!(ALIVE.load(SeqCst), 1 + 3 * 3);
    assert_eq!(
        lazy.iter().map(|one| one.lost()).collect::<Vec<_>>(),
        [997, 997, 1]
    );
    assert_eq!(
        topic.subscriptions(),
        2,
        "who was too slow is not offered anything more"
    );
    drop(lazy);
    assert_eq!(ALIVE.load(SeqCst), 1);
}

#[test]
fn a_publisher_waits_for_room_at_most_so_long() {
    let (_bus, topic, time) = numbers();
    let slow = topic
        .subscribe_with(options(1, Slow::Block(SECOND * 2)))
        .unwrap();
    let other = topic.subscribe();
    assert_eq!(topic.publish(1), 2);
    thread::scope(|threads| {
        let publisher = threads.spawn(|| topic.publish(2));
        until_waiting(&time, 1);
        assert_eq!(
            other.try_iter().collect::<Vec<_>>(),
            [1, 2],
            "others do not wait with it"
        );
        time.advance(SECOND * 2 - Duration::from_nanos(1));
        assert!(!publisher.is_finished());
        time.advance(Duration::from_nanos(1));
        assert_eq!(publisher.join().unwrap(), 1);
    });
    assert_eq!(
        (slow.lost(), slow.try_recv(), slow.try_recv()),
        (1, Ok(1), Err(NoMessage::Empty))
    );
    assert_eq!(time.timers(), 0);
}

#[test]
fn a_publisher_goes_on_as_soon_as_there_is_room() {
    let (_bus, topic, time) = numbers();
    let slow = topic
        .subscribe_with(options(1, Slow::Block(Duration::MAX)))
        .unwrap();
    topic.publish(1);
    thread::scope(|threads| {
        let publisher =
            threads.spawn(|| (2..100).map(|number| topic.publish(number)).sum::<usize>());
        let received: Vec<u32> = slow.iter().take(99).collect();
        assert_eq!(received, (1..100).collect::<Vec<_>>());
        assert_eq!(publisher.join().unwrap(), 98);
    });
    assert_eq!((slow.lost(), time.timers()), (0, 0));
}

#[test]
fn several_slow_ones_are_waited_for_at_the_same_time() {
    let (_bus, topic, time) = numbers();
    let slow = [1, 3, 2].map(|seconds| {
        let options = options(1, Slow::Block(SECOND * seconds));
        topic.subscribe_with(options).unwrap()
    });
    topic.publish(1);
    thread::scope(|threads| {
        let publisher = threads.spawn(|| topic.publish(2));
        until_waiting(&time, 1);
        assert_eq!(slow[2].try_recv(), Ok(1));
        for _ in 0..3 {
            assert!(!publisher.is_finished());
            until_waiting(&time, 1);
            time.advance(SECOND);
        }
        assert_eq!(publisher.join().unwrap(), 1);
    });
    assert_eq!(
        slow.map(|one| (one.try_recv().unwrap(), one.lost())),
        [(1, 1), (1, 1), (2, 0)]
    );
}

#[test]
fn a_publisher_stops_waiting_for_who_goes_away_or_is_closed() {
    for end in 0..3 {
        let (bus, topic, time) = numbers();
        let slow = topic
            .subscribe_with(options(1, Slow::Block(Duration::MAX)))
            .unwrap();
        topic.publish(1);
        thread::scope(|threads| {
            let publisher = threads.spawn(|| {
                // Something to see that it has begun to wait: an endless wait has no timer.
                let other = topic.subscribe();
                let received = topic.publish(2);
                drop(other);
                received
            });
            while topic.subscriptions() < 2 {
                thread::yield_now();
            }
            match end {
                0 => drop(slow),
                1 => bus.close(),
                _ => {
                    slow.close();
                    assert_eq!(slow.try_recv(), Ok(1));
                }
            }
            assert!(publisher.join().unwrap() <= 1);
        });
        assert_eq!(time.timers(), 0);
    }
}

#[test]
fn who_must_see_everything_is_told_that_it_did_not() {
    let (_bus, topic, _time) = numbers();
    let strict = topic.subscribe_with(options(2, Slow::Disconnect)).unwrap();
    assert_eq!(
        (1..=4)
            .map(|number| topic.publish(number))
            .collect::<Vec<_>>(),
        [1, 1, 0, 0]
    );
    assert_eq!(strict.iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(strict.recv(), Err(NoMessage::TooSlow));
    assert_eq!(strict.lost(), 1);
    drop(topic);
    assert_eq!(strict.recv(), Err(NoMessage::TooSlow));
}

#[test]
fn a_message_is_cloned_for_all_but_one() {
    #[derive(Debug)]
    struct Clones(Arc<AtomicUsize>);
    impl Clone for Clones {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, SeqCst);
            Self(Arc::clone(&self.0))
        }
    }
    let bus = Bus::new();
    let topic = bus.topic("clones").unwrap();
    let clones = Arc::new(AtomicUsize::new(0));
    for count in 0..4 {
        let _subscriptions: Vec<_> = (0..count).map(|_| topic.subscribe()).collect();
        clones.store(0, SeqCst);
        assert_eq!(topic.publish(Clones(Arc::clone(&clones))), count);
        assert_eq!(clones.load(SeqCst), count.saturating_sub(1));
    }
}
