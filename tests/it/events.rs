//! Who is told what: subscriptions and the removal listener.

use crate::common::{PATIENCE, SECOND, drain, logged, timed};
use EventKind::{Inserted, Removed, Updated};
use haybox::{
    Cache, Event, EventKind, InsertOptions, MockClock, NoEvent, OnFull, Op, RemovalCause,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

fn event(key: u32, kind: EventKind) -> Event<u32> {
    Event { key, kind }
}

#[test]
fn a_subscription_tells_the_story_of_each_key() {
    let (cache, time) = timed(|builder| builder.max_entries(1));
    let events = cache.events(100);
    cache.insert(1, 'a');
    cache.insert(1, 'b');
    cache.update(&1, |value| *value = 'c');
    cache.remove(&1);
    cache.insert_with_ttl(2, 'd', SECOND);
    time.advance(SECOND);
    cache.sweep();
    cache.insert(3, 'e');
    cache.insert(4, 'f');
    cache.clear();
    cache.insert_with_ttl(5, 'g', Duration::ZERO);
    let of_key = |key: u32, kinds: &[EventKind]| {
        kinds
            .iter()
            .map(|kind| event(key, *kind))
            .collect::<Vec<_>>()
    };
    let told: Vec<_> = events.try_iter().collect();
    let told_of = |key: u32| {
        told.iter()
            .filter(|event| event.key == key)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told_of(1),
        of_key(
            1,
            &[Inserted, Updated, Updated, Removed(RemovalCause::Explicit)]
        )
    );
    assert_eq!(
        told_of(2),
        of_key(2, &[Inserted, Removed(RemovalCause::Expired)])
    );
    assert_eq!(
        told_of(3),
        of_key(3, &[Inserted, Removed(RemovalCause::Capacity)])
    );
    assert_eq!(
        told_of(4),
        of_key(4, &[Inserted, Removed(RemovalCause::Explicit)])
    );
    assert_eq!(
        told_of(5),
        of_key(5, &[Inserted, Removed(RemovalCause::Expired)])
    );
    assert_eq!((told.len(), events.lost()), (12, 0));
}

#[test]
fn who_subscribes_while_a_value_is_loaded_is_told_of_it() {
    let cache = Cache::new(10);
    // The first load of a set that nothing was in is not as simple as others.
    cache.insert(2, 'b');
    let mut events = None;
    let loaded = cache.get_or_insert_with(&1, || {
        events = Some(cache.events(10));
        'a'
    });
    let told = events.unwrap().try_iter().collect::<Vec<_>>();
    assert_eq!((loaded, told), ('a', vec![event(1, Inserted)]));
}

#[test]
fn the_listener_is_told_the_right_cause() {
    use RemovalCause::{Capacity, Expired, Explicit, Replaced};
    let time = MockClock::new();
    let builder = Cache::builder()
        .max_entries(2)
        .max_weight(100)
        .weigher(|_, weight: &u64| *weight);
    let (builder, log) = logged(builder.clock(time.clock()));
    let cache = builder.build().unwrap();
    let told = |expected: &[(u32, u64, RemovalCause)]| assert_eq!(drain(&log), expected);
    cache.insert(1, 1);
    told(&[]);
    cache.insert(1, 2);
    told(&[(1, 1, Replaced)]);
    cache.compute(&1, |_| Op::Put(3));
    told(&[(1, 2, Replaced)]);
    cache.update(&1, |value| *value = 4);
    told(&[]);
    cache.insert_with(1, 5, InsertOptions::new().if_absent());
    told(&[]);
    cache.transaction(&[1], |tx| tx.insert(&1, 6)).unwrap();
    told(&[(1, 4, Replaced)]);
    cache.insert(2, 7);
    cache.insert(3, 8);
    let evicted = drain(&log);
    assert!(
        matches!(evicted[..], [(1 | 2, 6 | 7, Capacity)]),
        "{evicted:?}"
    );
    cache.insert(3, 101);
    assert_eq!(
        drain(&log),
        [(3, 8, Capacity)],
        "what was to be overwritten did not fit any more"
    );
    cache.clear();
    drain(&log);
    cache.insert(4, 9);
    assert_eq!(cache.remove(&4), Some(9));
    cache.insert(4, 10);
    cache.retain(|_, _| false);
    cache.insert(4, 11);
    cache.compute(&4, |_| Op::Remove);
    assert_eq!(
        drain(&log),
        [(4, 9, Explicit), (4, 10, Explicit), (4, 11, Explicit)]
    );
    cache.insert_with_ttl(5, 12, SECOND);
    time.advance(SECOND);
    cache.insert_with_ttl(5, 13, Duration::ZERO);
    cache.insert(5, 14);
    cache.expire(&5, Duration::ZERO);
    assert_eq!(
        drain(&log),
        [(5, 12, Expired), (5, 13, Expired), (5, 14, Expired)]
    );
    assert!(cache.is_empty());
}

#[test]
fn what_rejects_tells_of_nothing_that_did_not_come() {
    let (builder, log) = logged(Cache::builder().max_entries(1).on_full(OnFull::Reject));
    let cache = builder.build().unwrap();
    let events = cache.events(10);
    cache.insert_many([(1, 1), (2, 2), (3, 3)]);
    assert_eq!((events.try_iter().count(), drain(&log).len()), (1, 0));
}

#[test]
fn the_events_of_a_key_come_in_order_from_many_threads() {
    let cache: Cache<u32, u64> = Cache::new(64);
    let events = cache.events(1_000_000);
    thread::scope(|scope| {
        for thread in 0..8u64 {
            let cache = &cache;
            scope.spawn(move || {
                let mut draw = fastrand::Rng::with_seed(thread);
                for round in 0..3_000 {
                    let key = draw.u32(..100);
                    match round % 3 {
                        0 => drop(cache.remove(&key)),
                        _ => drop(cache.insert(key, round)),
                    }
                }
            });
        }
    });
    assert_eq!(events.lost(), 0);
    // Each key's story has to make sense: in, changed any number of times, out, in again.
    let mut present: HashMap<u32, bool> = HashMap::new();
    for event in events.try_iter() {
        let is_in = present.entry(event.key).or_default();
        match event.kind {
            Inserted => assert!(!std::mem::replace(is_in, true), "{event:?}"),
            Updated => assert!(*is_in, "{event:?}"),
            _ => assert!(std::mem::replace(is_in, false), "{event:?}"),
        }
    }
    let resident = present.iter().filter(|(_, is_in)| **is_in).count();
    assert_eq!(resident, cache.len());
    assert!(
        present
            .iter()
            .all(|(key, is_in)| *is_in == cache.contains_key(key))
    );
}

#[test]
fn the_listener_hears_of_a_key_in_the_order_in_which_it_happened() {
    let (builder, log) = logged(Cache::builder());
    let cache: Cache<u32, u64> = builder.build().unwrap();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    // The number is drawn under the lock, so it says who came first.
                    cache.compute(&1, |_| Op::Put(next.fetch_add(1, SeqCst)));
                }
            });
        }
    });
    let told: Vec<u64> = drain(&log).into_iter().map(|(_, value, _)| value).collect();
    assert_eq!(told, (0..15_999).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_loses_the_newest_and_is_told_how_many() {
    let cache: Cache<u32, u32> = Cache::new(1_000);
    let (small, large) = (cache.events(3), cache.events(100));
    cache.insert_many((0..10).map(|key| (key, key)));
    assert_eq!((small.lost(), large.lost()), (7, 0));
    let keys =
        |events: &haybox::Events<u32>| events.try_iter().map(|event| event.key).collect::<Vec<_>>();
    assert_eq!(keys(&small), [0, 1, 2], "the oldest are kept");
    assert_eq!(keys(&large), (0..10).collect::<Vec<_>>());
    cache.insert(77, 7);
    assert_eq!(
        (keys(&small), small.lost()),
        (vec![77], 7),
        "and it goes on"
    );
}

/// A key that counts how often it is copied.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Copied(u32);

static COPIES: AtomicU64 = AtomicU64::new(0);

impl Clone for Copied {
    fn clone(&self) -> Self {
        COPIES.fetch_add(1, SeqCst);
        Self(self.0)
    }
}

#[test]
fn a_subscription_that_was_dropped_costs_nothing_any_more() {
    let cache: Cache<Copied, u32> = Cache::new(100);
    let write = || (0..10).for_each(|key| drop(cache.insert(Copied(key), key)));
    write();
    assert_eq!(COPIES.swap(0, SeqCst), 0, "nobody listens");
    let (one, other) = (cache.events(100), cache.events(100));
    write();
    assert!(COPIES.swap(0, SeqCst) >= 20);
    drop(one);
    write();
    assert_eq!(other.try_iter().count(), 20);
    drop(other);
    write();
    COPIES.store(0, SeqCst);
    write();
    assert_eq!(COPIES.load(SeqCst), 0, "both are forgotten");
    let again = cache.events(100);
    write();
    assert_eq!(again.try_iter().count(), 10);
    again.close();
    write();
    COPIES.store(0, SeqCst);
    write();
    assert_eq!(COPIES.load(SeqCst), 0, "one that was closed is forgotten");
}

#[test]
fn a_subscription_is_closed_while_a_thread_waits_for_events() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let (events, other) = (cache.events(10), cache.events(10));
    thread::scope(|scope| {
        let (read, is_read) = mpsc::channel();
        let events = &events;
        scope.spawn(move || {
            events
                .iter()
                .for_each(|event| read.send(event.key).unwrap());
        });
        cache.insert(1, 1);
        assert_eq!(is_read.recv_timeout(PATIENCE), Ok(1));
        events.close();
        let end = Err(mpsc::RecvTimeoutError::Disconnected);
        assert_eq!(is_read.recv_timeout(PATIENCE), end);
    });
    cache.insert(2, 2);
    assert_eq!(events.recv_timeout(PATIENCE), Err(NoEvent::Closed));
    assert_eq!((events.recv(), events.lost()), (None, 0));
    assert_eq!(other.try_iter().count(), 2);
}

#[test]
fn events_that_were_waiting_are_still_read_after_the_subscription_was_closed() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let events = cache.events(10);
    (1..4).for_each(|value| drop(cache.insert(1, value)));
    events.close();
    events.close();
    cache.remove(&1);
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Inserted, Updated, Updated]);
    assert_eq!(events.try_recv(), Err(NoEvent::Closed));
}

#[test]
fn a_subscription_ends_with_the_cache() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let events = cache.events(10);
    assert_eq!(events.try_recv(), Err(NoEvent::Empty));
    assert_eq!(
        events.recv_timeout(Duration::from_nanos(1)),
        Err(NoEvent::Empty)
    );
    let reader = thread::spawn(move || {
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        (
            kinds,
            events.recv(),
            events.try_recv(),
            events.recv_timeout(PATIENCE),
        )
    });
    cache.insert(1, 1);
    let handle = cache.clone();
    drop(cache);
    handle.insert(1, 2);
    drop(handle);
    let (kinds, next, tried, waited) = reader.join().unwrap();
    assert_eq!(kinds, [Inserted, Updated], "the end itself is no event");
    assert_eq!(
        (next, tried, waited),
        (None, Err(NoEvent::Closed), Err(NoEvent::Closed))
    );
}

#[test]
fn a_loop_over_a_subscription_ends_with_the_cache() {
    let cache = Cache::new(10);
    let (borrowed, owned) = (cache.events(10), cache.events(10));
    cache.insert_many([(1, 1), (2, 2)]);
    drop(cache);
    let mut keys = Vec::new();
    for event in &borrowed {
        keys.push(event.key);
    }
    for event in owned {
        keys.push(event.key);
    }
    assert_eq!(keys, [1, 2, 1, 2]);
}

#[test]
fn nothing_is_told_when_the_cache_ends() {
    let (builder, log) = logged(Cache::builder());
    let cache = builder.build().unwrap();
    cache.insert_many((0..100).map(|key| (key, key)));
    drop(cache);
    assert_eq!(drain(&log), []);
}

static CHAIN: OnceLock<Cache<u32, u32>> = OnceLock::new();

/// What the listener of `CHAIN` has heard.
static HEARD: Mutex<Vec<u32>> = Mutex::new(Vec::new());

#[test]
fn a_listener_that_removes_more_hears_of_that_too() {
    let listener = |key: u32, _: u32, _| {
        HEARD.lock().unwrap().push(key);
        if key < 500 {
            let cache = CHAIN.get().unwrap();
            cache.insert(key + 100, 0);
            cache.remove(&(key + 100));
        }
    };
    let cache = CHAIN.get_or_init(|| Cache::builder().removal_listener(listener).build().unwrap());
    cache.insert(1, 0);
    cache.remove(&1);
    assert_eq!(*HEARD.lock().unwrap(), [1, 101, 201, 301, 401, 501]);
    assert_eq!(cache.stats().listener_panics, 0);
    cache.validate();
}

static SELF: OnceLock<Cache<u32, u32>> = OnceLock::new();

/// How many calls of the listener of `SELF` are on the stack, and how many there were.
static CALLS: Mutex<(u32, u32)> = Mutex::new((0, 0));

#[test]
fn a_listener_is_not_called_from_inside_itself_for_the_same_key() {
    let listener = |key: u32, value: u32, _| {
        {
            let mut calls = CALLS.lock().unwrap();
            calls.0 += 1;
            calls.1 += 1;
            assert_eq!(calls.0, 1);
        }
        if value < 20 {
            SELF.get().unwrap().insert(key, value + 1);
            SELF.get().unwrap().remove(&key);
        }
        CALLS.lock().unwrap().0 -= 1;
    };
    let cache = SELF.get_or_init(|| Cache::builder().removal_listener(listener).build().unwrap());
    cache.insert(1, 0);
    cache.remove(&1);
    assert_eq!(
        (*CALLS.lock().unwrap(), cache.stats().listener_panics),
        ((0, 21), 0)
    );
}

#[test]
fn a_listener_that_panics_is_counted_and_loses_no_other_removal() {
    let (told, tells) = mpsc::channel();
    let listener = move |key: u32, _: u32, _| {
        told.send(key).unwrap();
        assert!(!key.is_multiple_of(3), "the listener fails");
    };
    let cache = Cache::builder().removal_listener(listener).build().unwrap();
    let events = cache.events(1_000);
    cache.insert_many((0..300).map(|key| (key, key)));
    cache.clear();
    let mut keys: Vec<u32> = tells.try_iter().collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..300).collect::<Vec<_>>());
    assert_eq!(
        (cache.stats().listener_panics, events.try_iter().count()),
        (100, 600)
    );
    cache.insert(1, 1);
    assert_eq!(cache.remove(&1), Some(1));
    assert_eq!(tells.try_recv(), Ok(1), "it stays enabled");
}

#[test]
fn a_removal_while_a_panic_unwinds_is_told_by_the_next_call() {
    struct RemovesOnDrop<'c>(&'c Cache<u32, u32>);
    impl Drop for RemovesOnDrop<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0.remove(&1), Some(1));
        }
    }
    let (builder, log) = logged(Cache::builder());
    let cache = builder.build().unwrap();
    cache.insert(1, 1);
    crate::common::panic_of(|| {
        let _removes = RemovesOnDrop(&cache);
        panic!("the caller fails");
    });
    assert!(!cache.contains_key(&1));
    // Its events are most likely in another queue.
    cache.insert(2, 2);
    cache.remove(&2);
    let mut told = drain(&log);
    told.sort_unstable_by_key(|(key, ..)| *key);
    assert_eq!(
        told,
        [
            (1, 1, RemovalCause::Explicit),
            (2, 2, RemovalCause::Explicit)
        ]
    );
}

#[test]
fn a_clone_of_the_listeners_copy_is_made_only_for_what_the_caller_keeps() {
    #[derive(Debug)]
    struct Dear(Arc<AtomicU64>);
    impl Clone for Dear {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, SeqCst);
            Self(Arc::clone(&self.0))
        }
    }
    let copies = Arc::new(AtomicU64::new(0));
    let cache = Cache::builder()
        .max_entries(5)
        .removal_listener(|_: u32, _: Dear, _| ())
        .build()
        .unwrap();
    (0..50).for_each(|key| drop(cache.insert(key, Dear(Arc::clone(&copies)))));
    cache.clear();
    assert_eq!(
        copies.load(SeqCst),
        0,
        "evicted and cleared values are moved"
    );
    cache.insert(1, Dear(Arc::clone(&copies)));
    cache.insert(1, Dear(Arc::clone(&copies)));
    cache.remove(&1);
    assert_eq!(
        copies.load(SeqCst),
        2,
        "replaced and removed ones are given to two"
    );
}

/// As many may wait for a listener in one of its queues.
const BACKLOG: u32 = 1_024;

#[test]
fn a_listener_waits_for_that_of_another_cache_which_is_behind() {
    let (entered, enters) = mpsc::channel();
    let (leave, leaves) = mpsc::channel::<()>();
    let leaves = Mutex::new(leaves);
    let slow = move |_: u32, _: Arc<()>, _| {
        let _ = entered.send(());
        // Nothing is sent: it goes on when the sender is gone.
        let _ = leaves.lock().unwrap().recv();
    };
    let second = Cache::builder().removal_listener(slow).build().unwrap();
    let below = second.clone();
    let hand_down = move |_: u32, value, _| _ = below.insert(1, value);
    let first = Cache::builder()
        .removal_listener(hand_down)
        .build()
        .unwrap();
    let value = Arc::new(());
    thread::scope(|scope| {
        scope.spawn(|| {
            second.insert(1, Arc::default());
            second.remove(&1);
        });
        enters.recv_timeout(PATIENCE).unwrap();
        let (done, is_done) = mpsc::channel();
        let (first, value) = (&first, &value);
        scope.spawn(move || {
            for _ in 0..3 * BACKLOG {
                first.insert(1, Arc::clone(value));
            }
            let _ = done.send(());
        });
        let early = is_done.recv_timeout(Duration::from_millis(300));
        let alive = Arc::strong_count(value);
        drop(leave);
        assert!(early.is_err(), "it did not wait");
        assert!(alive < BACKLOG as usize + 10, "{alive} at once");
    });
}

#[test]
fn listeners_that_wait_for_each_other_go_on() {
    static CACHES: [OnceLock<Cache<u32, u32>>; 2] = [OnceLock::new(), OnceLock::new()];
    static BOTH: Barrier = Barrier::new(2);
    let told = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    for own in 0..2 {
        let told = Arc::clone(&told);
        let listener = move |_: u32, value, _| {
            told[own].fetch_add(1, SeqCst);
            if value == 0 {
                // Each is being delivered, by the thread that waits for the other.
                BOTH.wait();
                let other = CACHES[1 - own].get().unwrap();
                (0..BACKLOG + 2).for_each(|_| _ = other.insert(2, 1));
            }
        };
        let built = Cache::builder().removal_listener(listener).build();
        CACHES[own].get_or_init(|| built.unwrap());
    }
    thread::scope(|scope| {
        for cache in &CACHES {
            scope.spawn(move || {
                let cache = cache.get().unwrap();
                cache.insert(2, 0);
                cache.remove(&2);
            });
        }
    });
    let told = [0, 1].map(|cache| told[cache].load(SeqCst));
    assert_eq!(told, [u64::from(BACKLOG) + 2; 2]);
}

#[test]
fn a_listener_that_hangs_holds_up_that_of_another_cache_once_and_not_for_each_removal() {
    let (entered, enters) = mpsc::channel();
    let (leave, leaves) = mpsc::channel::<()>();
    let leaves = Mutex::new(leaves);
    let hangs = move |_: u32, _: u32, _| {
        let _ = entered.send(());
        // Nothing is sent: it goes on when the sender is gone.
        let _ = leaves.lock().unwrap().recv();
    };
    let second = Cache::builder().removal_listener(hangs).build().unwrap();
    let below = second.clone();
    let hand_down = move |_: u32, value, _| _ = below.insert(1, value);
    let (first, time) = timed(|builder| builder.removal_listener(hand_down));
    // More than wait for nobody, by more than could be waited for one after another.
    let removals = BACKLOG + 1_000;
    (0..removals).for_each(|key| _ = first.insert_with_ttl(key, 0, SECOND));
    time.advance(SECOND);
    thread::scope(|scope| {
        scope.spawn(|| {
            second.insert(1, 0);
            second.remove(&1);
        });
        enters.recv_timeout(PATIENCE).unwrap();
        let (done, is_done) = mpsc::channel();
        let first = &first;
        scope.spawn(move || {
            let swept = first.sweep();
            let _ = done.send(swept);
        });
        let in_time = is_done.recv_timeout(PATIENCE);
        drop(leave);
        assert_eq!(in_time, Ok(removals as usize), "it waits for each removal");
    });
    // The last value is there still.
    assert_eq!(enters.try_iter().count(), removals as usize - 1);
}
