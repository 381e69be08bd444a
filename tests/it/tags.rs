//! Entries that end by their tags, their group, or the start of their key.

use crate::common::{HOUR, INSIDE, SECOND, cases, drain, logged, panic_of, timed};
use haybox::{
    Cache, Clock, EventKind, Expiry, Insert, InsertOptions, LoadError, MockClock, OnFull, Op,
    Outcome, Refused, RemovalCause, Transaction,
};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

fn tagged<T: Hash>(tags: impl IntoIterator<Item = T>) -> InsertOptions {
    InsertOptions::new().tags(tags)
}

/// A clock by which nothing is swept behind a test's back.
fn still() -> Clock {
    MockClock::new().clock()
}

/// A cache of key 1 that has fallen, and of key 2 that has not.
fn with_one_fallen() -> Cache<u32, u32> {
    let builder = Cache::builder().max_entries(100).clock(still());
    let cache = builder.build().unwrap();
    cache.insert_with(1, 10, tagged(["old", "x"]));
    cache.insert_with(2, 20, tagged(["new", "x"]));
    cache.invalidate_tag("old");
    cache
}

fn grouped() -> Cache<(u32, u32), u32> {
    let builder = Cache::builder().group_by(|(tenant, _): &(u32, u32)| tenant);
    builder.clock(still()).build().unwrap()
}

// ---- what falls ----

#[test]
fn no_call_sees_what_has_fallen() {
    let cache = with_one_fallen();
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
    assert_eq!(cache.read(&1, |value| *value), None);
    assert_eq!(cache.get_many(&[1, 2]), [None, Some(20)]);
    assert_eq!(cache.peek(&1), None);
    assert!(!cache.contains_key(&1));
    assert!(!cache.touch(&1));
    assert_eq!(cache.frequency(&1), None);
    assert_eq!(cache.ttl(&1), None);
    assert_eq!(cache.deadline(&1), None);
    assert_eq!(cache.iter().collect::<Vec<_>>(), [(2, 20)]);
    assert_eq!(cache.keys().collect::<Vec<_>>(), [2]);
    assert_eq!(cache.values().collect::<Vec<_>>(), [20]);
    assert_eq!(cache.scan(0, 10).1, [(2, 20)]);
    assert!((0..50).all(|_| cache.random() == Some((2, 20))));
    let seen = cache.transaction(&[1, 2], |tx| {
        Ok::<_, ()>((tx.get(&1).copied(), tx.remove(&1)))
    });
    assert_eq!(seen, Ok((None, false)));
    cache.validate();
}

#[test]
fn no_call_changes_what_has_fallen() {
    let check = |call: fn(&Cache<u32, u32>)| {
        let cache = with_one_fallen();
        assert_eq!(cache.len(), 2, "it waits to be swept");
        call(&cache);
        assert_eq!(cache.get(&2), Some(20));
        cache.validate();
    };
    check(|cache| assert_eq!(cache.remove(&1), None));
    check(|cache| assert_eq!(cache.remove_entry(&1), None));
    check(|cache| assert_eq!(cache.remove_if(&1, |_| unreachable!()), None));
    check(|cache| assert_eq!(cache.update(&1, |_| unreachable!()), None::<()>));
    check(|cache| assert_eq!(cache.insert(1, 11), None));
    check(|cache| {
        let present = InsertOptions::new().if_present();
        assert_eq!(cache.insert_with(1, 11, present), Insert::Kept(11));
        let absent = InsertOptions::new().if_absent();
        assert_eq!(cache.insert_with(1, 11, absent), Insert::Inserted);
    });
    check(|cache| {
        let outcome = cache.compute(&1, |old| {
            assert_eq!(old, None);
            Op::Put(11)
        });
        assert_eq!(outcome, Outcome::Inserted);
        assert_eq!(cache.get(&1), Some(11), "the old tags are gone with it");
        cache.invalidate_tag("x");
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(11), None));
        cache.insert(2, 20);
    });
    check(|cache| assert!(!cache.expire(&1, HOUR) && !cache.persist(&1)));
    check(|cache| assert_eq!(cache.get_or_insert_with(&1, || 11), 11));
    check(|cache| {
        cache.retain(|key, _| {
            assert_eq!(*key, 2);
            true
        });
        assert_eq!(cache.len(), 1);
    });
    check(|cache| {
        let put = cache.transaction(&[1], |tx| tx.insert(&1, 11));
        assert_eq!((put.is_ok(), cache.get(&1)), (true, Some(11)));
    });
}

#[test]
fn only_what_was_stored_before_falls() {
    let cache = with_one_fallen();
    cache.insert_with(1, 11, tagged(["old"]));
    assert_eq!(cache.get(&1), Some(11));
    cache.invalidate_tags(["unknown", "stranger"]);
    assert_eq!(cache.len(), 2);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(11), Some(20)));
    cache.invalidate_tags(["x", "old"]);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
}

#[test]
fn a_tag_is_what_it_hashes_as() {
    #[derive(Hash)]
    enum Tag {
        Team(u32),
        User(u32),
    }
    let cache = Cache::new(100);
    cache.insert_with("enum", 0, InsertOptions::new().tag(&Tag::Team(1)));
    cache.insert_with("number", 0, InsertOptions::new().tag(&7u64).tag("x"));
    cache.insert_with("owned", 0, InsertOptions::new().tag(&"team".to_owned()));
    cache.insert_with("pair", 0, tagged([("team", 1u8), ("team", 2)]));
    cache.invalidate_tag(&Tag::User(1));
    assert_eq!(cache.iter().count(), 4);
    let falls = |key: &str| assert_eq!(cache.get(key), None, "{key}");
    cache.invalidate_tag(&Tag::Team(1));
    falls("enum");
    cache.invalidate_tag(&7);
    falls("number");
    cache.invalidate_tag("team");
    falls("owned");
    assert!(cache.contains_key("pair"));
    cache.invalidate_tag(&("team".to_owned(), 2u64));
    falls("pair");
}

// ---- what writes do to tags ----

#[test]
fn each_kind_of_write_does_to_tags_what_the_table_says() {
    let check = |stay: bool, write: fn(&Cache<u32, u32>)| {
        let cache: Cache<u32, u32> = Cache::new(100);
        cache.insert_with(1, 1, tagged(["a", "b"]));
        write(&cache);
        cache.validate();
        assert!(cache.contains_key(&1));
        cache.invalidate_tag("a");
        assert_eq!(cache.contains_key(&1), !stay);
        cache.validate();
    };
    check(false, |cache| drop(cache.insert(1, 2)));
    check(false, |cache| drop(cache.insert_many([(1, 2)])));
    check(false, |cache| drop(cache.insert_with_ttl(1, 2, HOUR)));
    check(false, |cache| {
        drop(cache.insert_with(1, 2, InsertOptions::new().keep_ttl()))
    });
    check(false, |cache| drop(cache.insert_with(1, 2, tagged(["c"]))));
    check(true, |cache| drop(cache.insert_with(1, 2, tagged(["a"]))));
    check(true, |cache| {
        let absent = tagged(["c"]).if_absent();
        assert_eq!(cache.insert_with(1, 2, absent), Insert::Kept(2));
    });
    check(true, |cache| drop(cache.update(&1, |value| *value += 1)));
    check(true, |cache| {
        cache.update_or_insert_with(&1, || 1, |value| *value = 2)
    });
    check(true, |cache| drop(cache.compute(&1, |_| Op::Put(2))));
    check(true, |cache| {
        drop(cache.compute(&1, |_| Op::PutWithTtl(2, HOUR)))
    });
    check(true, |cache| drop(cache.compute(&1, |_| Op::PutKeepTtl(2))));
    check(true, |cache| drop(cache.compute(&1, |_| Op::Keep)));
    check(true, |cache| {
        assert!(cache.transaction(&[1], |tx| tx.insert(&1, 2)).is_ok());
    });
    check(true, |cache| {
        assert_eq!(cache.get_or_insert_with(&1, || unreachable!()), 1)
    });
    check(true, |cache| {
        assert!(cache.expire(&1, HOUR) && cache.persist(&1) && cache.touch(&1))
    });
    check(false, |cache| {
        cache.remove(&1);
        cache.get_or_insert_with(&1, || 2);
    });
}

#[test]
fn every_write_puts_a_key_into_its_group() {
    let check = |write: fn(&Cache<(u32, u32), u32>)| {
        let cache = grouped();
        write(&cache);
        assert!(cache.contains_key(&(1, 1)));
        cache.invalidate_group(&2);
        assert!(cache.contains_key(&(1, 1)));
        cache.invalidate_group(&1);
        assert!(!cache.contains_key(&(1, 1)));
        cache.validate();
    };
    let key = (1, 1);
    check(|cache| drop(cache.insert((1, 1), 1)));
    check(|cache| drop(cache.insert_with((1, 1), 1, tagged(["a", "b"]))));
    check(|cache| drop(cache.compute(&(1, 1), |_| Op::Put(1))));
    check(|cache| {
        cache.get_or_insert_with(&(1, 1), || 1);
    });
    check(|cache| {
        let put = cache.transaction(&[(1, 1)], |tx| tx.insert(&(1, 1), 1));
        assert!(put.is_ok());
    });
    check(|cache| {
        cache.insert((1, 1), 1);
        cache.update(&(1, 1), |value| *value += 1);
    });
    let cache = grouped();
    cache.insert_with(key, 1, tagged(["a"]));
    cache.invalidate_tag(&1);
    assert!(cache.contains_key(&key), "a group is no tag");
    cache.invalidate_tag("a");
    assert!(!cache.contains_key(&key), "it has tags besides");
}

#[test]
fn what_is_made_of_a_value_is_as_old_as_that() {
    let cache: Cache<u32, u32> = Cache::new(100);
    let other = &cache.clone();
    let meanwhile = |call: &dyn Fn(&dyn Fn())| {
        cache.insert_with(1, 1, tagged(["a"]));
        let invalidate = || {
            thread::scope(|scope| drop(scope.spawn(|| other.invalidate_tag("a")).join()));
        };
        call(&invalidate);
        assert_eq!(cache.get(&1), None);
    };
    meanwhile(&|invalidate| {
        cache.update(&1, |value| {
            invalidate();
            *value += 1;
        });
    });
    meanwhile(&|invalidate| {
        let outcome = cache.compute(&1, |old| {
            invalidate();
            Op::Put(old.copied().unwrap_or(0) + 1)
        });
        assert_eq!(outcome, Outcome::Replaced(1));
    });
    meanwhile(&|invalidate| {
        let added = cache.transaction(&[1], |tx| {
            let old = tx.get(&1).copied().unwrap_or(0);
            invalidate();
            assert_eq!(tx.get(&1), Some(&old), "it sees one moment");
            tx.insert(&1, old + 1)
        });
        assert!(added.is_ok());
    });
}

// ---- loads ----

#[test]
fn a_load_of_a_group_that_is_invalidated_is_neither_stored_nor_joined() {
    let cache = &grouped();
    let (began, begun) = channel();
    let (go_on, told) = channel::<()>();
    thread::scope(|scope| {
        let early = scope.spawn(move || {
            cache.get_or_insert_with(&(1, 1), || {
                began.send(()).unwrap();
                told.recv().unwrap();
                1
            })
        });
        begun.recv().unwrap();
        cache.invalidate_group(&1);
        assert_eq!(
            cache.get_or_insert_with(&(1, 1), || 2),
            2,
            "it is not joined"
        );
        go_on.send(()).unwrap();
        assert_eq!(
            early.join().unwrap(),
            1,
            "who began before gets what it loaded"
        );
    });
    assert_eq!(cache.get(&(1, 1)), Some(2));
    assert_eq!(cache.stats().discarded_loads, 1);
    assert_eq!(cache.stats().waits, 0);
    cache.validate();
}

#[test]
fn what_a_load_of_an_invalidated_group_brings_is_given_and_not_stored() {
    let cache = grouped();
    let loaded = cache.get_or_insert_with(&(1, 1), || {
        cache.invalidate_group(&1);
        1
    });
    assert_eq!((loaded, cache.get(&(1, 1))), (1, None));
    assert_eq!((cache.len(), cache.stats().discarded_loads), (0, 1));
    let loaded = cache.get_or_insert_with(&(1, 1), || {
        cache.invalidate_group(&2);
        cache.sweep();
        3
    });
    assert_eq!((loaded, cache.get(&(1, 1))), (3, Some(3)), "not concerned");
    cache.validate();
}

/// A sweep during a load must not forget what the load has to know when it ends.
#[test]
fn a_sweep_during_a_load_forgets_nothing_that_concerns_it() {
    let cache = grouped();
    let loaded = cache.get_or_insert_with(&(1, 1), || {
        cache.invalidate_group(&1);
        cache.sweep();
        cache.invalidate_group(&2);
        cache.sweep();
        1
    });
    assert_eq!((loaded, cache.get(&(1, 1))), (1, None));
}

// ---- sweeping, events, stats ----

#[test]
fn what_has_fallen_is_swept_though_nothing_expires() {
    let (cache, time) = timed(|builder| builder.sweep_interval(SECOND));
    let token = Arc::new(());
    for key in 0..1000u32 {
        cache.insert_with(key, Arc::clone(&token), tagged([key % 2]));
    }
    cache.invalidate_tag(&1);
    assert_eq!(cache.len(), 1000);
    time.advance(SECOND);
    assert_eq!((cache.len(), Arc::strong_count(&token)), (500, 501));
    cache.invalidate_tag(&0);
    assert_eq!(cache.sweep(), 500);
    assert_eq!((cache.len(), Arc::strong_count(&token)), (0, 1));
    assert_eq!(cache.sweep(), 0);
    cache.validate();
}

#[test]
fn the_removal_is_told_when_it_is_seen_and_before_what_replaces_it() {
    let time = MockClock::new();
    let builder = Cache::builder().clock(time.clock()).sweep_interval(HOUR);
    let (builder, log) = logged(builder);
    let cache: Cache<u32, u32> = builder.build().unwrap();
    let events = cache.events(100);
    let told = || {
        events
            .try_iter()
            .map(|event| event.kind)
            .collect::<Vec<_>>()
    };
    cache.insert_with(1, 10, tagged(["a"]));
    cache.invalidate_tag("a");
    assert_eq!(cache.get(&1), None);
    assert_eq!(told(), [EventKind::Inserted]);
    cache.insert_with(1, 11, tagged(["a"]).ttl(SECOND));
    let explicit = EventKind::Removed(RemovalCause::Explicit);
    assert_eq!(told(), [explicit, EventKind::Inserted]);
    assert_eq!(drain(&log), [(1, 10, RemovalCause::Explicit)]);
    // Its time is up as well by then.
    cache.invalidate_tag("a");
    time.advance(SECOND);
    cache.sweep();
    assert_eq!(drain(&log), [(1, 11, RemovalCause::Expired)]);
    cache.insert_with(1, 12, tagged(["a"]));
    cache.invalidate_tag("a");
    time.advance(HOUR);
    assert_eq!(drain(&log), [(1, 12, RemovalCause::Explicit)]);
    let stats = cache.stats();
    assert_eq!((stats.removals, stats.expirations), (2, 1));
    assert_eq!((stats.inserts, stats.updates), (3, 0));
    assert_eq!((stats.hits, stats.misses), (0, 1));
}

#[test]
fn a_listener_and_a_destructor_may_invalidate() {
    struct Chain(Cache<u32, Chain>, u32);
    impl Drop for Chain {
        fn drop(&mut self) {
            self.0.invalidate_tag(&self.1);
            self.0.sweep();
        }
    }
    let invalidated = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&invalidated);
    let builder = Cache::<u32, u32>::builder().removal_listener(move |_, _, _| {
        counter.fetch_add(1, SeqCst);
    });
    let heard = builder.clock(still()).build().unwrap();
    let cache: Cache<u32, Chain> = Cache::builder().clock(still()).build().unwrap();
    for key in 0..50 {
        heard.insert_with(key, key, tagged([key]));
        cache.insert_with(key, Chain(cache.clone(), key + 1), tagged([key]));
        heard.invalidate_tag(&key);
    }
    cache.invalidate_tag(&0);
    cache.sweep();
    assert_eq!((cache.len(), heard.sweep()), (0, 50));
    assert_eq!(invalidated.load(SeqCst), 50);
}

// ---- bounds ----

#[test]
fn what_has_fallen_goes_before_what_lives_in_its_set() {
    for on_full in [OnFull::Evict, OnFull::Reject] {
        let (builder, log) = logged(Cache::builder().max_entries(32).on_full(on_full));
        let cache: Cache<u32, u32> = builder.build().unwrap();
        for key in 0..32 {
            cache.insert_with(key, key, tagged([key % 2]));
            (0..key % 2 * 3).for_each(|_| drop(cache.get(&key)));
        }
        cache.invalidate_tag(&1);
        for key in 100..116 {
            assert_eq!(
                cache.insert_with(key, key, InsertOptions::new()),
                Insert::Inserted
            );
        }
        assert!(
            (0..16).all(|key| cache.contains_key(&(2 * key))),
            "{on_full:?}"
        );
        let causes: BTreeSet<_> = drain(&log)
            .iter()
            .map(|told| format!("{:?}", told.2))
            .collect();
        assert_eq!(causes, BTreeSet::from(["Explicit".to_owned()]));
        assert_eq!(cache.stats().evictions, 0);
        cache.validate();
    }
}

#[test]
fn a_cache_that_rejects_finds_room_in_other_sets() {
    let builder = Cache::builder().max_entries(3000).on_full(OnFull::Reject);
    let cache: Cache<u32, u32> = builder.build().unwrap();
    for key in 0..3000 {
        cache.insert_with(key, key, tagged([key]));
    }
    let insert = |key| cache.insert_with(key, 0, InsertOptions::new());
    assert_eq!(insert(5000), Insert::Refused(0));
    cache.invalidate_tag(&7);
    assert_eq!(insert(5000), Insert::Inserted);
    assert_eq!(insert(5001), Insert::Refused(0));
    cache.invalidate_tag(&8);
    let put = cache.transaction(&[5001], |tx| tx.insert(&5001, 1));
    assert!(put.is_ok());
    cache.invalidate_tag(&9);
    assert_eq!(cache.compute(&5002, |_| Op::Put(1)), Outcome::Inserted);
    cache.validate();
}

#[test]
fn labels_go_where_their_entries_go() {
    let check = |cache: Cache<u32, u32>, kept: bool| {
        for key in 0..20_000u32 {
            cache.insert_with(key, key, tagged([key % 7, 100 + key % 3]));
            if key % 5 == 0 {
                cache.remove(&(key / 2));
            }
        }
        cache.validate();
        let before: BTreeSet<u32> = cache.keys().collect();
        cache.invalidate_tag(&3);
        let after: BTreeSet<u32> = cache.keys().collect();
        let expected: BTreeSet<u32> = before.into_iter().filter(|key| key % 7 != 3).collect();
        assert_eq!(after, expected);
        cache.sweep();
        // What is left fits into fewer ways.
        cache.retain(|key, _| key % 4 == 0);
        cache.validate();
        cache.invalidate_tag(&101);
        assert!(cache.keys().all(|key| key % 7 != 3 && key % 3 != 1));
        cache.validate();
        assert_eq!(cache.is_empty(), !kept);
    };
    // Nobody sweeps while it is looked at.
    let unbounded = || Cache::builder().clock(MockClock::new().clock());
    check(unbounded().build().unwrap(), true);
    check(unbounded().max_entries(4_000).build().unwrap(), true);
}

#[test]
fn tags_count_where_bytes_are_bounded() {
    let cache: Cache<u32, String> = Cache::builder()
        .max_memory(1 << 20)
        .weigher(|_, value: &String| value.capacity() as u64)
        .build()
        .unwrap();
    cache.insert(1, String::new());
    let plain = cache.memory();
    let sizes: Vec<u64> = [1, 2, 1000]
        .map(|tags: u32| {
            cache.insert_with(1, String::new(), tagged(0..tags));
            cache.update(&1, |value| value.clear());
            cache.memory() - plain
        })
        .into();
    assert_eq!(sizes, [24, 24 + 32, 24 + 8 * 1000 + 16]);
    cache.insert(1, String::new());
    assert_eq!(cache.memory(), plain);
    let too_many = cache.insert_with(2, String::new(), tagged(0..200_000));
    assert_eq!(too_many, Insert::Refused(String::new()));
    cache.validate();
    // As large as a `String`, without a weight.
    let groups: Cache<u32, [usize; 3]> = Cache::builder()
        .max_memory(1 << 20)
        .group_by(|key| key)
        .build()
        .unwrap();
    groups.insert(1, [0; 3]);
    assert_eq!(groups.memory(), plain + 24 - 8, "and no weight");
    groups.validate();
}

#[test]
fn a_million_invalidations_leave_what_they_do_not_concern() {
    // On a clock that stands still, or the sweep would come between while everything is checked.
    let builder = Cache::builder().max_entries(10_000);
    let cache: Cache<u32, u32> = builder.clock(MockClock::new().clock()).build().unwrap();
    for key in 0..5_000 {
        cache.insert_with(key, key, tagged(["kept"]));
    }
    let (full, quick) = (1_000_000, 300_000);
    for tag in 0..cases(quick, full) {
        cache.invalidate_tag(&tag);
    }
    assert_eq!(cache.iter().count(), 5_000);
    cache.invalidate_tag("kept");
    assert_eq!(cache.iter().count(), 0);
    cache.validate();
}

/// The record cannot be kept short while a load is under way that may need it: then what is tagged
/// is given up.
#[test]
fn a_load_that_does_not_end_costs_misses_and_no_memory() {
    let cache = grouped();
    cache.insert((1, 1), 1);
    let loaded = cache.get_or_insert_with(&(2, 2), || {
        cache.insert((1, 2), 1);
        for tag in 0..150_000 {
            cache.invalidate_tag(&tag);
        }
        assert_eq!(cache.get(&(1, 2)), None);
        cache.insert((3, 3), 3);
        2
    });
    assert_eq!((loaded, cache.get(&(2, 2))), (2, None));
    assert_eq!(cache.get(&(3, 3)), Some(3));
    assert_eq!(cache.get_or_insert_with(&(2, 2), || 4), 4);
    assert_eq!(cache.get(&(2, 2)), Some(4));
}

/// Room is made in the set after the invalidation, and then the value comes that was made before it.
#[test]
fn what_falls_before_it_is_stored_is_swept_like_the_rest() {
    let builder = Cache::builder()
        .max_entries(3)
        .clock(still())
        .group_by(|(tenant, _): &(u32, u32)| tenant);
    let cache: Cache<(u32, u32), u32> = builder.build().unwrap();
    cache.insert_many([((1, 1), 1), ((1, 2), 1), ((2, 1), 1)]);
    let outcome = cache.compute(&(1, 3), |_| {
        thread::scope(|scope| drop(scope.spawn(|| cache.invalidate_group(&1)).join()));
        Op::Put(1)
    });
    assert_eq!((outcome, cache.len()), (Outcome::Inserted, 2));
    assert_eq!(cache.get(&(1, 3)), None);
    assert_eq!((cache.sweep(), cache.len()), (1, 1));
    assert_eq!(cache.get(&(2, 1)), Some(1));
    cache.validate();
}

// ---- prefixes ----

#[test]
fn a_prefix_takes_what_begins_with_it() {
    let (cache, time) = timed(|builder| builder);
    let keys = ["", "a", "a/", "a/1", "a/2", "ab", "b/1"];
    for key in keys {
        cache.insert_with(key.to_owned(), 0, tagged([key]));
    }
    cache.insert_with_ttl("a/3".to_owned(), 0, SECOND);
    time.advance(SECOND);
    cache.invalidate_tag("a/2");
    assert_eq!(
        cache.invalidate_prefix("a/"),
        2,
        "neither expired nor fallen"
    );
    assert_eq!(
        cache.keys().collect::<BTreeSet<_>>(),
        BTreeSet::from(["", "a", "ab", "b/1"].map(str::to_owned))
    );
    assert_eq!(cache.len(), 4);
    assert_eq!(cache.invalidate_prefix("none"), 0);
    assert_eq!(cache.invalidate_prefix(""), 4);
    assert!(cache.is_empty());
    cache.validate();
}

#[test]
fn a_prefix_overtakes_the_loads_of_its_keys_and_no_others() {
    let cache: Cache<String, u32> = Cache::new(100);
    let loaded = cache.get_or_insert_with("a/1", || {
        cache.invalidate_prefix("a/");
        1
    });
    assert_eq!((loaded, cache.get("a/1")), (1, None));
    cache.get_or_insert_with("b/1", || {
        cache.invalidate_prefix("a/");
        1
    });
    assert_eq!(cache.get("b/1"), Some(1));
}

// ---- bad input ----

#[test]
fn any_list_of_tags_will_do() {
    let cache: Cache<u32, u32> = Cache::new(100);
    cache.insert_with(1, 1, tagged::<&str>([]));
    cache.insert_with(2, 2, tagged([""]));
    cache.insert_with(3, 3, tagged(["a", "a", "a"]).tag("a").tags(["a", "b"]));
    cache.insert_with(4, 4, tagged(0..1000));
    cache.invalidate_tags::<&str>([]);
    assert_eq!(cache.iter().count(), 4);
    cache.validate();
    cache.invalidate_tag("");
    assert!(!cache.contains_key(&2));
    cache.invalidate_tag("a");
    assert!(!cache.contains_key(&3));
    cache.invalidate_tag(&1000);
    assert!(cache.contains_key(&4));
    cache.invalidate_tag(&999);
    assert!(!cache.contains_key(&4));
    assert_eq!(cache.get(&1), Some(1));
    cache.validate();
}

#[test]
fn a_group_of_a_cache_without_groups_is_a_mistake_that_is_told() {
    let cache: Cache<u32, u32> = Cache::new(100);
    let sentence = panic_of(|| cache.invalidate_group("team"));
    assert!(sentence.contains("group_by"), "{sentence}");
}

#[test]
fn a_call_from_inside_a_closure_panics_and_changes_nothing() {
    let cache = &with_one_fallen();
    let calls: [fn(&Cache<u32, u32>); 2] = [
        |cache| cache.invalidate_tag("new"),
        |cache| cache.invalidate_tags(["new"]),
    ];
    for call in calls {
        let inside = panic_of(|| cache.read(&2, |_| call(cache)));
        assert!(inside.starts_with(INSIDE), "{inside}");
        assert_eq!(cache.get(&2), Some(20));
    }
    let paths: Cache<String, u32> = Cache::new(10);
    paths.insert("a".to_owned(), 1);
    let inside = panic_of(|| paths.update("a", |_| paths.invalidate_prefix("a")));
    assert!(inside.starts_with(INSIDE), "{inside}");
    assert_eq!(paths.len(), 1);
}

#[test]
fn an_invalidation_while_a_closure_unwinds_is_not_lost() {
    struct Invalidates<'c>(&'c Cache<u32, u32>);
    impl Drop for Invalidates<'_> {
        fn drop(&mut self) {
            self.0.invalidate_tag("new");
        }
    }
    let cache = with_one_fallen();
    let fails = || {
        cache.read(&2, |_| {
            let _invalidates = Invalidates(&cache);
            panic!("the closure fails")
        })
    };
    let unwound = catch_unwind(AssertUnwindSafe(fails));
    assert!(unwound.is_err());
    assert_eq!(cache.get(&2), None);
}

#[test]
fn a_tag_or_a_group_that_panics_leaves_everything_as_it_was() {
    struct Bad;
    impl Hash for Bad {
        fn hash<H: Hasher>(&self, _: &mut H) {
            panic!("no hash")
        }
    }
    let cache = with_one_fallen();
    assert_eq!(panic_of(|| cache.invalidate_tag(&Bad)), "no hash");
    assert_eq!(panic_of(|| InsertOptions::new().tag(&Bad)), "no hash");
    assert_eq!(cache.get(&2), Some(20));
    let picky: Cache<u32, u32> = Cache::builder()
        .group_by(|key: &u32| {
            assert_ne!(*key, 13, "no group");
            key
        })
        .build()
        .unwrap();
    picky.insert(12, 1);
    let calls: [fn(&Cache<u32, u32>); 4] = [
        |cache| drop(cache.insert(13, 1)),
        |cache| drop(cache.compute(&13, |_| Op::Put(1))),
        |cache| drop(cache.transaction(&[13], |tx| tx.insert(&13, 1))),
        |cache| drop(cache.try_get_or_insert_with(&13, || Ok::<u32, ()>(1))),
    ];
    for call in calls {
        assert!(panic_of(|| call(&picky)).contains("no group"));
        assert_eq!((picky.len(), picky.get(&12)), (1, Some(1)));
        picky.validate();
    }
}

// ---- threads ----

/// Callers that load through the cache never get what is older than the last invalidation that had
/// returned when they called, while the background forgets as fast as it can.
#[test]
fn nothing_older_than_the_last_invalidation_is_ever_returned() {
    let cache = &grouped();
    let truth = &AtomicU32::new(0);
    let done = &AtomicU32::new(0);
    let start = &Barrier::new(4);
    let rounds = cases(20_000, 200_000);
    thread::scope(|scope| {
        scope.spawn(move || {
            start.wait();
            for version in 1..=rounds {
                truth.store(version, SeqCst);
                cache.invalidate_group(&0);
                done.store(version, SeqCst);
            }
        });
        for thread in 0..2u32 {
            scope.spawn(move || {
                start.wait();
                let mut key = thread;
                while done.load(SeqCst) < rounds {
                    key = (key + 1) % 8;
                    let least = done.load(SeqCst);
                    let loaded: Result<u32, LoadError<()>> =
                        cache.try_get_or_insert_with(&(0, key), || Ok(truth.load(SeqCst)));
                    assert!(loaded.unwrap() >= least);
                    let found = cache.update(&(0, key), |value| *value);
                    assert!(found.is_none_or(|found| found >= least));
                }
            });
        }
        scope.spawn(move || {
            start.wait();
            while done.load(SeqCst) < rounds {
                cache.sweep();
                cache.insert((1, 0), 0);
                assert_eq!(cache.get(&(1, 0)), Some(0), "of another group");
            }
        });
    });
    cache.validate();
}

struct CreatedOrUpdated;

impl Expiry<u32, u32> for CreatedOrUpdated {
    fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
        Some(SECOND)
    }

    fn expire_after_update(&self, _: &u32, _: &u32, _: Option<Duration>) -> Option<Duration> {
        Some(HOUR)
    }
}

/// As the same calls do one after the other.
#[test]
fn what_a_transaction_inserts_after_a_removal_is_a_new_entry() {
    type Step = fn(&mut Transaction<'_, u32, u32>) -> Result<(), Refused<u32>>;
    let steps: [Step; 4] = [
        |tx| tx.insert(&1, 2),
        |tx| tx.insert(&1, 3).and_then(|()| tx.insert(&1, 2)),
        |tx| {
            tx.insert(&1, 3)?;
            assert!(tx.remove(&1));
            tx.insert_keep_ttl(&1, 2)
        },
        |tx| tx.insert_keep_ttl(&1, 2),
    ];
    let cache = || {
        let builder = Cache::builder()
            .max_memory(100_000)
            .expiry(CreatedOrUpdated);
        let cache = builder.clock(MockClock::new().clock()).build().unwrap();
        cache.insert_with(1, 1, InsertOptions::new().tags(["red", "blue"]));
        cache
    };
    let of_calls = cache();
    of_calls.remove(&1);
    of_calls.insert(1, 2);
    for step in steps {
        let of_transaction = cache();
        let done = of_transaction.transaction(&[1], |tx| {
            assert!(tx.remove(&1));
            step(tx)?;
            Ok::<_, Refused<u32>>(tx.ttl(&1))
        });
        assert_eq!(done, Ok(of_calls.ttl(&1)));
        assert_eq!(of_transaction.ttl(&1), of_calls.ttl(&1));
        assert_eq!(of_transaction.weight(), of_calls.weight());
        of_transaction.invalidate_tag("red");
        assert_eq!(of_transaction.get(&1), Some(2));
        of_transaction.validate();
    }
}
