//! Events of a cache on a topic.

use crate::common::{SECOND, timed};
use haybox::pubsub::{Bus, NoMessage, Pattern};
use haybox::{Event, EventKind, RemovalCause};
use std::sync::Arc;

#[test]
fn a_topic_tells_the_story_of_each_key() {
    use EventKind::{Inserted, Removed, Updated};
    let (cache, time) = timed(|builder| builder.max_entries(1));
    let bus = Bus::new();
    let topic = bus.topic::<Event<u32>>("cache.prices").unwrap();
    cache.publish_events(&topic);
    cache.insert(0, 'z');
    let exact = topic.subscribe();
    let caches = bus.subscribe_matching::<Event<u32>>(&Pattern::new("cache.*").unwrap());
    cache.insert(0, 'y');
    cache.insert_with_ttl(1, 'a', SECOND);
    time.advance(SECOND);
    cache.sweep();
    cache.insert(2, 'b');
    cache.insert(3, 'c');
    cache.remove(&3);
    let told: Vec<_> = exact.try_iter().collect();
    let of = |key: u32| -> Vec<EventKind> {
        let of_key = told.iter().filter(|event| event.key == key);
        of_key.map(|event| event.kind).collect()
    };
    assert_eq!(of(0), [Updated, Removed(RemovalCause::Capacity)]);
    assert_eq!(of(1), [Inserted, Removed(RemovalCause::Expired)]);
    assert_eq!(of(2), [Inserted, Removed(RemovalCause::Capacity)]);
    assert_eq!(of(3), [Inserted, Removed(RemovalCause::Explicit)]);
    assert!(caches.try_iter().map(|heard| heard.message).eq(told));
}

#[test]
fn it_ends_with_the_topic_or_with_the_cache() {
    let (cache, _time) = timed::<u32, Arc<()>>(|builder| builder);
    let (bus, other) = (Bus::new(), Bus::new());
    let topic = bus.topic::<Event<u32>>("events").unwrap();
    let lasting = other.topic::<Event<u32>>("events").unwrap();
    cache.publish_events(&topic);
    cache.publish_events(&lasting);
    let (ends, lasts) = (topic.subscribe(), lasting.subscribe());
    bus.close();
    cache.insert(1, Arc::default());
    assert_eq!(ends.try_recv(), Err(NoMessage::Closed));
    assert_eq!(lasts.try_iter().count(), 1);
    drop((lasting, lasts));
    assert_eq!(other.topics().len(), 1, "the cache publishes to it");
    drop(cache);
    assert!(other.topics().is_empty());
}

#[test]
fn a_subscriber_may_use_the_cache() {
    let (cache, _time) = timed(|builder| builder.max_entries(100));
    let bus = Bus::new();
    let topic = bus.topic::<Event<u32>>("events").unwrap();
    cache.publish_events(&topic);
    let subscription = topic.subscribe();
    cache.insert(1, 1);
    for event in subscription.try_iter() {
        if event.key < 10 {
            cache.insert(event.key + 1, 1);
        }
    }
    assert_eq!(cache.len(), 10);
}

#[test]
fn a_topic_hears_what_comes_behind_the_end_of_a_subscription() {
    let (cache, _time) = timed(|builder| builder.max_entries(100));
    let bus = Bus::new();
    let topic = bus.topic::<Event<u32>>("events").unwrap();
    cache.publish_events(&topic);
    let hears = topic.subscribe();
    drop(cache.events(10));
    for key in 0..3 {
        cache.insert(key, 1);
    }
    assert_eq!(hears.try_iter().count(), 3);
}
