//! Handles that keep nothing open.

use crate::common::{SECOND, timed};
use haybox::presence::{Presence, WeakPresence};
use haybox::pubsub::{Bus, NoMessage, Pattern};
use haybox::{Cache, RemovalCause, WeakCache};
use std::sync::{Arc, Mutex, OnceLock};

type Slot = Arc<OnceLock<WeakCache<u32, u32>>>;

#[test]
fn there_is_a_handle_for_as_long_as_there_is_another() {
    let cache = Cache::<u32, u32>::new(10);
    let weak = cache.downgrade();
    cache.insert(1, 10);
    let second = weak.upgrade().unwrap();
    drop(cache);
    assert_eq!(weak.clone().upgrade().unwrap().get(&1), Some(10));
    assert_eq!(format!("{weak:?}"), "WeakCache { is_open: true, .. }");
    drop(second);
    assert!(weak.upgrade().is_none());
    assert_eq!(format!("{weak:?}"), "WeakCache { is_open: false, .. }");
}

#[test]
fn what_loads_into_a_cache_keeps_it() {
    let cache = Cache::<u32, u32>::new(10);
    let (weak, prices) = (
        cache.downgrade(),
        cache.read_through(|key| Ok::<_, ()>(*key)),
    );
    drop(cache);
    assert!(weak.upgrade().is_some(), "it has a handle");
    drop(prices);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_listener_with_a_weak_handle_calls_the_cache_and_does_not_keep_it() {
    let slot = Slot::default();
    let cache = {
        let slot = Arc::clone(&slot);
        Cache::<u32, u32>::builder()
            .removal_listener(move |_, value, cause| {
                if let (RemovalCause::Explicit, Some(cache)) =
                    (cause, slot.get().and_then(WeakCache::upgrade))
                {
                    cache.insert(0, value);
                }
            })
            .build()
            .unwrap()
    };
    slot.set(cache.downgrade()).unwrap();
    cache.insert(1, 10);
    cache.remove(&1);
    assert_eq!(cache.get(&0), Some(10));
    drop(cache);
    assert!(slot.get().unwrap().upgrade().is_none());
}

/// On the background's thread, which has none of its own.
#[test]
fn the_last_handle_may_go_inside_a_listener() {
    let (slot, last) = (Slot::default(), Arc::new(Mutex::new(None)));
    let closed = Arc::new(OnceLock::new());
    let (cache, time) = {
        let (slot, last) = (Arc::clone(&slot), Arc::clone(&last));
        let closed = Arc::clone(&closed);
        timed(|builder| {
            builder
                .sweep_interval(SECOND)
                .removal_listener(move |_, _, _| {
                    let weak = slot.get().unwrap();
                    let cache = weak.upgrade();
                    drop(last.lock().unwrap().take());
                    drop(cache);
                    // Who sweeps still holds what is closed. To ask for a handle does not open it.
                    for _ in 0..3 {
                        assert!(weak.upgrade().is_none());
                        assert_eq!(format!("{weak:?}"), "WeakCache { is_open: false, .. }");
                    }
                    closed.set(()).unwrap();
                })
        })
    };
    slot.set(cache.downgrade()).unwrap();
    cache.insert_with_ttl(1, 10, SECOND);
    cache.insert(2, 20);
    *last.lock().unwrap() = Some(cache);
    time.advance(SECOND);
    assert!(closed.get().is_some(), "the listener came to its end");
    assert!(slot.get().unwrap().upgrade().is_none());
    time.advance(SECOND);
}

#[test]
fn a_reader_of_events_with_a_weak_handle_ends_with_the_presence() {
    let online = Presence::<u8, u8>::new();
    let (events, weak) = (online.events(), online.downgrade());
    let asked = |weak: &WeakPresence<u8, u8>| Some(weak.upgrade()?.members(&1));
    assert_eq!(
        format!("{weak:?}"),
        "WeakPresence { has_handles: true, .. }"
    );
    online.heartbeat(&1, &7);
    assert_eq!(asked(&weak.clone()), Some(vec![7]));
    drop(online);
    assert!(events.try_recv().is_ok());
    assert_eq!(events.try_recv(), Err(NoMessage::Closed));
    assert_eq!(asked(&weak), None);
    assert_eq!(
        format!("{weak:?}"),
        "WeakPresence { has_handles: false, .. }"
    );
}

#[test]
fn a_handle_from_a_weak_one_counts_as_any_other() {
    let online = Presence::<u8, u8>::new();
    let (events, second) = (online.events(), online.downgrade().upgrade().unwrap());
    drop(online);
    assert!(second.heartbeat(&1, &7) && events.try_recv().is_ok());
    drop(second);
    assert_eq!(events.try_recv(), Err(NoMessage::Closed));
    let bus = Bus::new();
    let heard = bus.subscribe_matching::<u32>(&Pattern::new("*").unwrap());
    let second = bus.downgrade().upgrade().unwrap();
    drop(bus);
    assert_eq!(second.topic("here").unwrap().publish(1_u32), 1);
    drop(second);
    assert_eq!(heard.try_recv().unwrap().message, 1);
    assert_eq!(heard.try_recv().unwrap_err(), NoMessage::Closed);
}

#[test]
fn a_reader_of_messages_with_a_weak_handle_ends_with_the_bus() {
    let bus = Bus::new();
    let heard = bus.subscribe_matching::<u32>(&Pattern::new("*").unwrap());
    let weak = bus.downgrade();
    assert_eq!(format!("{weak:?}"), "WeakBus { has_handles: true, .. }");
    drop(bus);
    assert_eq!(heard.try_recv().unwrap_err(), NoMessage::Closed);
    assert!(weak.clone().upgrade().is_none());
    assert_eq!(format!("{weak:?}"), "WeakBus { has_handles: false, .. }");
}
