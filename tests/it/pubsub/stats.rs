//! What went over a bus, in numbers.

use super::options;
use crate::loading::block_on;
use haybox::pubsub::{Bus, Pattern, Slow};
use std::thread;
use std::time::Duration;

#[test]
fn messages_are_counted_whoever_hears_them() {
    let bus = Bus::new();
    let topic = bus.topic::<u32>("a").unwrap();
    assert_eq!((topic.publish(1), bus.stats().published), (0, 1));
    let first = topic.subscribe();
    assert_eq!((topic.publish(2), bus.stats().published), (1, 2));
    let second = bus.subscribe_matching::<u32>(&Pattern::new("*").unwrap());
    assert_eq!((topic.publish(3), bus.stats().published), (2, 3));
    assert_eq!(block_on(topic.publish_async(4)), 2);
    assert_eq!(bus.topic::<&str>("b").unwrap().publish("other"), 0);
    let stats = bus.stats();
    assert_eq!((stats.published, stats.lost, stats.topics), (5, 0, 1));
    drop((first, second));
    topic.close();
    assert_eq!((topic.publish(5), bus.stats().published), (0, 5));
}

#[test]
fn what_went_over_topics_that_are_gone_is_not_forgotten() {
    let bus = Bus::new();
    for number in 1..=10 {
        let topic = bus.topic::<u32>("a").unwrap();
        assert_eq!(topic.publish(number), 0);
        if number % 2 == 1 {
            topic.close();
        }
        assert_eq!(bus.stats().published, u64::from(number));
    }
    let topic = bus.topic::<u32>("b").unwrap();
    assert_eq!(topic.publish(1), 0);
    bus.close();
    assert_eq!((topic.publish(2), bus.stats().published), (0, 11));
    assert_eq!(bus.stats().topics, 0);
}

#[test]
fn what_slow_subscriptions_lose_is_counted_together() {
    let bus = Bus::new();
    let topic = bus.topic::<u32>("a").unwrap();
    let briefly = Slow::Block(Duration::ZERO);
    let slow = [
        Slow::DropOldest,
        Slow::DropNewest,
        Slow::Disconnect,
        briefly,
    ];
    let slow = slow.map(|slow| topic.subscribe_with(options(2, slow)).unwrap());
    let pattern = Pattern::new("*").unwrap();
    let matching = bus.subscribe_matching_with::<u32>(&pattern, options(1, Slow::DropNewest));
    let matching = matching.unwrap();
    (0..5).for_each(|number| drop(topic.publish(number)));
    let lost = slow.each_ref().map(|subscription| subscription.lost());
    assert_eq!((lost, matching.lost()), ([3, 3, 1, 3], 4));
    assert_eq!((bus.stats().published, bus.stats().lost), (5, 14));
    drop((slow, matching, topic));
    assert_eq!(bus.stats().lost, 14, "though they are gone");
}

#[test]
fn an_only_subscription_that_is_full_or_gone_counts_a_message_once() {
    let bus = Bus::new();
    let topic = bus.topic::<u32>("a").unwrap();
    let ended = topic.subscribe_with(options(1, Slow::Disconnect)).unwrap();
    (0..3).for_each(|number| drop(topic.publish(number)));
    drop(ended);
    let briefly = Slow::Block(Duration::ZERO);
    let _full = topic.subscribe_with(options(1, briefly)).unwrap();
    (0..3).for_each(|number| drop(topic.publish(number)));
    assert_eq!((bus.stats().published, bus.stats().lost), (6, 3));
}

#[test]
fn no_message_is_left_out_among_threads() {
    let bus = Bus::new();
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for number in 0..250 {
                    bus.topic("a").unwrap().publish(number);
                }
            });
        }
    });
    assert_eq!(bus.stats().published, 1_000);
}
