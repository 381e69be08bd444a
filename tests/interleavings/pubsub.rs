//! Publishers and subscribers.

use crate::common::choice;
use crate::executor::block_on;
use crate::schedules::check;
use haybox::MockClock;
use haybox::pubsub::{
    Bus, Matched, NoMessage, Pattern, Slow, SubscribeOptions, Subscription, Topic,
};
use shuttle::thread::{ScopedJoinHandle, scope, yield_now};
use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The number of a publisher, and of its message.
type Message = (u32, u32);

const MESSAGES: u32 = 3;

fn bus() -> (Bus, Topic<Message>, MockClock) {
    let time = MockClock::new();
    let bus = Bus::with_clock(time.clock());
    let topic = bus.topic("room.1").expect("it is new");
    (bus, topic, time)
}

fn options(capacity: usize, slow: Slow) -> SubscribeOptions {
    SubscribeOptions::new().capacity(capacity).on_slow(slow)
}

fn any_slow() -> Slow {
    match choice(4) {
        0 => Slow::DropOldest,
        1 => Slow::DropNewest,
        2 => Slow::Block(Duration::MAX),
        _ => Slow::Disconnect,
    }
}

fn publish(topic: &Topic<Message>, publisher: u32) -> usize {
    let numbers = 0..MESSAGES;
    numbers
        .map(|number| topic.publish((publisher, number)))
        .sum()
}

/// What came, which is each publisher's messages in order and none twice; and how it ended.
fn read(subscription: &Subscription<Message>) -> (Vec<Message>, NoMessage) {
    let mut last = HashMap::new();
    let mut all = Vec::new();
    loop {
        match subscription.recv() {
            Ok((publisher, number)) => {
                let before = last.insert(publisher, number);
                assert!(before < Some(number), "{number} after {before:?}");
                all.push((publisher, number));
            }
            Err(end) => return (all, end),
        }
    }
}

#[test]
fn what_is_published_is_received_or_counted_as_lost() {
    check("publish and receive", || {
        let (bus, topic, time) = bus();
        let slow = any_slow();
        let subscription = topic
            .subscribe_with(options(1 + choice(2) as usize, slow))
            .expect("there is room");
        let (sent, (received, end)) = scope(|threads| {
            let publishers = [0, 1].map(|publisher| {
                let topic = &topic;
                threads.spawn(move || publish(topic, publisher))
            });
            let reader = threads.spawn(|| read(&subscription));
            let sent: usize = publishers
                .into_iter()
                .map(|publisher| publisher.join().expect("it does not panic"))
                .sum();
            drop(bus);
            (sent, reader.join().expect("it does not panic"))
        });
        let (received, lost) = (received.len(), subscription.lost() as usize);
        let all = 2 * MESSAGES as usize;
        match slow {
            Slow::Block(_) => assert_eq!((sent, received, lost), (all, all, 0)),
            Slow::DropNewest => assert_eq!((sent, received + lost), (received, all)),
            Slow::DropOldest => assert_eq!((sent, received + lost), (all, all)),
            _ => {
                assert_eq!(sent, received);
                assert_eq!(end == NoMessage::TooSlow, lost == 1);
                assert!(received == all || lost == 1);
            }
        }
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn who_goes_away_holds_nobody_up() {
    check("subscribe, drop and close", || {
        let (bus, topic, _time) = bus();
        let pattern = Pattern::new("room.*").expect("it is a pattern");
        scope(|threads| {
            let waits = topic
                .subscribe_with(options(1, Slow::Block(Duration::MAX)))
                .expect("there is room");
            let matching = bus.subscribe_matching::<Message>(&pattern);
            threads.spawn(|| publish(&topic, 0));
            // Reads some, or nothing, and goes.
            threads.spawn(move || {
                for _ in 0..choice(3) {
                    assert!(waits.recv().is_ok());
                }
            });
            threads.spawn(|| {
                let other = bus.topic::<Message>("room.2").expect("one type");
                let late = topic.subscribe();
                other.publish((1, 0));
                drop(other);
                late.try_iter().count()
            });
            threads.spawn(move || {
                let heard = |heard: &Matched<Message>| heard.message.0 == 0;
                assert!(
                    matching
                        .iter()
                        .filter(heard)
                        .take(MESSAGES as usize)
                        .count()
                        <= 3
                );
            });
        });
        assert_eq!(topic.subscriptions(), 0);
        drop(topic);
        assert!(bus.topics().is_empty());
    });
}

#[test]
fn closing_wakes_everybody() {
    check("close while others wait", || {
        let (bus, topic, time) = bus();
        let full = topic
            .subscribe_with(options(1, Slow::Block(Duration::MAX)))
            .expect("there is room");
        let empty = topic.subscribe();
        topic.publish((0, 0));
        assert_eq!(empty.try_recv(), Ok((0, 0)));
        scope(|threads| {
            let publisher = threads.spawn(|| topic.publish((0, 1)));
            let reader = threads.spawn(|| read(&empty));
            let other = threads.spawn(|| read(&empty));
            if choice(2) == 0 {
                bus.close();
            } else {
                drop(bus);
            }
            assert!(publisher.join().expect("it does not panic") <= 1);
            let read = reader.join().expect("it does not panic");
            let other = other.join().expect("it does not panic");
            assert!(read.0.len() + other.0.len() <= 1);
            assert_eq!((read.1, other.1), (NoMessage::Closed, NoMessage::Closed));
        });
        assert_eq!(read(&full), (vec![(0, 0)], NoMessage::Closed));
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn a_subscription_that_is_closed_gives_out_what_came_before() {
    check("close a subscription", || {
        let (_bus, topic, time) = bus();
        let slow = any_slow();
        let subscription = topic
            .subscribe_with(options(1 + choice(2) as usize, slow))
            .expect("there is room");
        let (sent, received) = scope(|threads| {
            let publisher = threads.spawn(|| publish(&topic, 0));
            let reader = threads.spawn(|| read(&subscription));
            let task = threads.spawn(|| {
                block_on(async {
                    let mut received = 0;
                    loop {
                        match subscription.recv_async().await {
                            Ok(_) => received += 1,
                            Err(end) => return (received, end),
                        }
                    }
                })
            });
            threads.spawn(|| subscription.close());
            let sent = publisher.join().expect("it does not panic");
            let (read, end) = reader.join().expect("it ends");
            let (received, of_task) = task.join().expect("it ends");
            assert_eq!(end, of_task);
            assert!(end == NoMessage::Closed || slow == Slow::Disconnect);
            (sent, read.len() + received)
        });
        let gave_up = match slow {
            Slow::DropOldest => subscription.lost() as usize,
            _ => 0,
        };
        assert_eq!(sent, received + gave_up);
        assert_eq!((topic.publish((0, 9)), topic.subscriptions()), (0, 0));
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn a_topic_is_made_once_and_forgotten_once() {
    check("topics come and go", || {
        let bus = Bus::with_clock(MockClock::new().clock());
        let pattern = Pattern::new("*").expect("it is a pattern");
        let all = bus.subscribe_matching::<Message>(&pattern);
        scope(|threads| {
            for publisher in 0..3 {
                let bus = &bus;
                threads.spawn(move || {
                    for number in 0..2 {
                        let topic = bus.topic::<Message>("a").expect("one type");
                        let own = topic.subscribe();
                        assert!(topic.publish((publisher, number)) >= 2);
                        assert!(own.try_iter().any(|message| message == (publisher, number)));
                    }
                });
            }
        });
        assert_eq!(all.try_iter().count(), 6);
        assert!(bus.topics().is_empty());
    });
}

#[test]
fn no_wake_up_of_a_task_is_lost() {
    check("tasks beside threads", || {
        let (bus, topic, _time) = bus();
        let subscription = topic
            .subscribe_with(options(1, Slow::Block(Duration::MAX)))
            .expect("there is room");
        let received = scope(|threads| {
            let task = threads.spawn(|| {
                block_on(async {
                    let mut count = 0;
                    while subscription.recv_async().await.is_ok() {
                        count += 1;
                    }
                    count
                })
            });
            let other = threads.spawn(|| {
                // One that polls once and goes: others must be woken all the same.
                let mut once = pin!(subscription.recv_async());
                let polled = once.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                usize::from(matches!(polled, Poll::Ready(Ok(_))))
            });
            let publishers = [
                threads.spawn(|| {
                    block_on(async {
                        topic.publish_async((0, 0)).await + topic.publish_async((0, 1)).await
                    })
                }),
                threads.spawn(|| topic.publish((1, 0)) + topic.publish((1, 1))),
            ];
            for publisher in publishers {
                assert_eq!(publisher.join().expect("it does not panic"), 2);
            }
            drop(bus);
            task.join().expect("it ends") + other.join().expect("it ends")
        });
        assert_eq!((received, subscription.lost()), (4, 0));
    });
}

/// Begins to wait and gives up, perhaps after it was woken. What it has found, if it was quick.
fn give_up<F: Future>(waits: F) -> Option<F::Output> {
    let mut waits = pin!(waits);
    for _ in 0..choice(3) {
        if let Poll::Ready(found) = waits.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(found);
        }
        yield_now();
    }
    None
}

#[test]
fn who_gives_up_hands_a_place_or_a_message_on() {
    check("publish and receive: giving up", || {
        let (bus, topic, time) = bus();
        let capacity = 1 + choice(2) as usize;
        let subscription = topic
            .subscribe_with(options(capacity, Slow::Block(Duration::MAX)))
            .expect("there is room");
        let (sent, received) = scope(|threads| {
            let publishers = [0, 1, 2].map(|publisher| {
                let topic = &topic;
                threads.spawn(move || {
                    let message = (publisher, 0);
                    let sent = match choice(3) {
                        0 => give_up(topic.publish_async(message)).unwrap_or(0),
                        1 => block_on(topic.publish_async(message)),
                        _ => topic.publish(message),
                    };
                    sent + topic.publish((publisher, 1))
                })
            });
            let readers = [(); 2].map(|()| {
                let subscription = &subscription;
                threads.spawn(move || {
                    let mut received = 0;
                    loop {
                        let read = match choice(4) {
                            0 => match give_up(subscription.recv_async()) {
                                Some(read) => read,
                                None => continue,
                            },
                            1 => block_on(subscription.recv_async()),
                            _ => subscription.recv(),
                        };
                        match read {
                            Ok(_) => received += 1,
                            Err(_) => return received,
                        }
                    }
                })
            });
            let join = |publisher: ScopedJoinHandle<'_, usize>| publisher.join().expect("no panic");
            let sent: usize = publishers.into_iter().map(join).sum();
            drop(bus);
            let received: usize = readers.into_iter().map(join).sum();
            (sent, received)
        });
        let lost = subscription.lost() as usize;
        assert_eq!(sent, received);
        // A future that was dropped before it was polled has published nothing.
        assert!(sent >= 3 && sent + lost <= 6);
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn a_time_out_and_room_at_the_same_time_are_one_of_both() {
    check("time-outs", || {
        let (_bus, topic, time) = bus();
        let second = Duration::from_secs(1);
        let subscription = topic
            .subscribe_with(options(1, Slow::Block(second)))
            .expect("there is room");
        topic.publish((0, 0));
        let (sent, first) = scope(|threads| {
            let publisher = threads.spawn(|| topic.publish((0, 1)));
            let reader = threads.spawn(|| subscription.try_recv());
            threads.spawn(|| {
                // The time may pass before the publisher has begun to wait.
                while !publisher_waits_or_is_done(&time, &subscription) {
                    yield_now();
                }
                time.advance(second);
            });
            let sent = publisher.join().expect("it does not panic");
            (sent, reader.join().expect("it does not panic"))
        });
        assert_eq!(first, Ok((0, 0)));
        let second = subscription.try_recv();
        assert_eq!(second.is_ok(), sent == 1);
        assert_eq!(subscription.lost(), 1 - sent as u64);
        assert_eq!(time.timers(), 0);
    });
}

fn publisher_waits_or_is_done(time: &MockClock, subscription: &Subscription<Message>) -> bool {
    // Either the time-out runs, or the second message is in, since the first was read.
    time.timers() > 0 || subscription.is_empty() || subscription.lost() > 0 || choice(8) == 0
}
