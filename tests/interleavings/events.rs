//! What subscribers are told.

use crate::common::{
    Numbers, built, choice, expiring, ignore, known, numbers, seconds, write_both,
};
use crate::schedules::check;
use haybox::{EventKind, Events, MockClock, NoEvent, Op};
use shuttle::thread::{scope, yield_now};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[test]
fn every_event_is_delivered_though_those_who_wait_give_up() {
    check("a backlog", || {
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let builder = numbers().removal_listener(move |_, _, _| {
            counted.fetch_add(1, SeqCst);
            yield_now();
        });
        let cache = built(builder);
        scope(|threads| {
            for _ in 0..3 {
                let cache = &cache;
                threads.spawn(move || {
                    for value in 0..3 {
                        cache.insert(1, value);
                    }
                    cache.remove(&1);
                });
            }
        });
        assert_eq!(told.load(SeqCst) + cache.len(), 9);
    });
}

#[test]
fn every_event_is_delivered_through_a_listener_that_writes_to_a_cache_whose_own_hangs() {
    check("a backlog behind a listener", || {
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let second = built(numbers().removal_listener(move |_, _, _| {
            (0..choice(4)).for_each(|_| yield_now());
            counted.fetch_add(1, SeqCst);
        }));
        let below = second.clone();
        let hand_down = move |_, value, _| ignore(below.insert(1, value));
        let first = built(numbers().removal_listener(hand_down));
        scope(|threads| {
            for cache in [&first, &first, &second] {
                threads.spawn(move || (0..4).for_each(|value| ignore(cache.insert(1, value))));
            }
        });
        // The last value of each cache is there still.
        assert_eq!(told.load(SeqCst), (4 + 4 - 1) + 4 - 1);
    });
}

/// What a subscription says of each key makes sense, and ends with what is there.
fn assert_told_in_order(events: &Events<u32>, cache: &Numbers) {
    let mut there = BTreeSet::new();
    for event in events.try_iter() {
        let fits = match event.kind {
            EventKind::Inserted => there.insert(event.key),
            EventKind::Updated => there.contains(&event.key),
            EventKind::Removed(_) => there.remove(&event.key),
            other => panic!("{other:?} is not known here"),
        };
        assert!(fits, "{event:?} does not follow what came before it");
    }
    assert_eq!(events.lost(), 0);
    let resident: BTreeSet<u32> = cache.keys().collect();
    assert_eq!(there, resident, "the events lead to what is there");
}

/// A call of any kind that changes something.
fn change(cache: &Numbers, key: u32) {
    match choice(8) {
        0 | 1 => ignore(cache.insert(key, 1)),
        2 => ignore(cache.remove(&key)),
        3 => ignore(cache.update(&key, |value| *value += 1)),
        4 => ignore(cache.compute(&key, |old| {
            if old.is_some() {
                Op::Remove
            } else {
                Op::Put(1)
            }
        })),
        5 => write_both(cache, [key, 3 - key], 1),
        6 => ignore(cache.insert_with_ttl(key, 1, seconds(u64::from(choice(2))))),
        _ => ignore(cache.get_or_insert_with(&key, || 1)),
    }
}

#[test]
fn events_of_a_key_come_in_the_order_in_which_things_happened() {
    check("events", || {
        let time = MockClock::new();
        let bound = u64::from(1 + choice(3));
        let cache = built(expiring(&time).max_weight(bound));
        let events = cache.events(256);
        scope(|threads| {
            for _ in 0..2 {
                let cache = &cache;
                threads.spawn(move || (0..3).for_each(|_| change(cache, 1 + choice(2))));
            }
            threads.spawn(|| {
                time.advance(seconds(1));
                cache.sweep();
            });
        });
        cache.sweep();
        assert_told_in_order(&events, &cache);
        cache.validate();
    });
}

#[test]
fn a_subscription_during_writes_misses_only_what_was_before_it() {
    check("a new subscription", || {
        let cache = built(numbers().max_entries(10));
        let events = Mutex::new(None);
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| {
                let subscription = cache.events(64);
                cache.insert(9, 9);
                *known(&events) = Some(subscription);
            });
        });
        let events = known(&events).take().expect("the thread has ended");
        let told: Vec<u32> = events.try_iter().map(|event| event.key).collect();
        assert_eq!(told.iter().filter(|key| **key == 9).count(), 1);
        let others: Vec<u32> = told.into_iter().filter(|key| *key != 9).collect();
        let all = [0, 1, 2];
        assert!(others.iter().is_sorted(), "{others:?}");
        let distinct: BTreeSet<u32> = others.iter().copied().collect();
        assert_eq!(distinct.len(), others.len());
        assert!(distinct.iter().all(|key| all.contains(key)));
    });
}

#[test]
fn a_subscription_that_is_closed_ends_for_who_waits_with_what_came_before() {
    check("events until they are closed", || {
        let cache = built(numbers().max_entries(10));
        let events = cache.events(64);
        let told = scope(|threads| {
            let reader = threads.spawn(|| events.iter().map(|event| event.key).collect());
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| events.close());
            let told: Vec<u32> = reader.join().expect("it ends");
            told
        });
        assert!(told.iter().copied().eq(0..told.len() as u32), "{told:?}");
        assert_eq!(events.try_recv(), Err(NoEvent::Closed));
        assert_eq!(events.lost(), 0);
    });
}
