//! One test for each bug that was found in the crate itself.

use crate::common::{HOUR, timed};
use haybox::{
    Cache, CacheBuilder, Expiry, InsertOptions, Loaded, MockClock, OnFull, Op, Outcome, Refused,
};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

/// How long a test waits for what must come.
const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_slow_listener_makes_writers_wait_instead_of_piling_up_values() {
    let alive = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&most);
    let listener = move |_: u32, value: Arc<AtomicU32>, _| {
        seen.fetch_max(u32::try_from(Arc::strong_count(&value)).unwrap(), SeqCst);
        thread::yield_now();
    };
    let cache = Cache::builder()
        .max_entries(10)
        .removal_listener(listener)
        .build()
        .unwrap();
    thread::scope(|scope| {
        for first in 0..8 {
            let (cache, alive) = (&cache, &alive);
            scope.spawn(move || {
                for key in 0..5_000 {
                    cache.insert(first * 5_000 + key, Arc::clone(alive));
                }
            });
        }
    });
    // 16 queues with a backlog each, the bound, and a few on their way for each thread.
    assert!(
        most.load(SeqCst) < 16 * 1_024 + 10 + 100,
        "{most:?} values at once"
    );
    assert_eq!(
        Arc::strong_count(&alive),
        11,
        "all but the resident ones are gone"
    );
}

#[test]
fn a_closure_that_holds_a_set_does_not_stop_the_sweeping_of_other_caches() {
    let (sender, removed) = channel();
    let listener = move |key: u32, (): (), _| drop(sender.send(key));
    let soon = Duration::from_millis(5);
    let held: Cache<u32, ()> = Cache::builder()
        .max_entries(1)
        .sweep_interval(soon)
        .build()
        .unwrap();
    let swept = Cache::builder()
        .sweep_interval(soon)
        .removal_listener(listener)
        .build()
        .unwrap();
    held.insert(1, ());
    held.insert_with_ttl(2, (), soon);
    held.insert(1, ());
    held.read(&1, |()| {
        // Calls of a cache are refused in here, so another thread makes them.
        thread::scope(|scope| {
            scope.spawn(|| swept.insert_with_ttl(7, (), soon));
        });
        assert_eq!(removed.recv_timeout(LONG), Ok(7));
    });
}

#[test]
fn a_transaction_drops_what_it_overwrites_after_its_locks() {
    /// Calls the cache when it ends.
    #[derive(Clone)]
    struct Caller(Option<Cache<u32, Caller>>, Arc<AtomicU32>);
    impl Drop for Caller {
        fn drop(&mut self) {
            if let Some(cache) = &self.0 {
                let _ = cache.contains_key(&9);
                self.1.fetch_add(1, SeqCst);
            }
        }
    }
    let cache = Cache::new(10);
    let calls = Arc::new(AtomicU32::new(0));
    let caller = || Caller(Some(cache.clone()), Arc::clone(&calls));
    let done = cache.transaction(&[1], |tx| {
        tx.insert(&1, caller()).map_err(drop)?;
        tx.insert(&1, caller()).map_err(drop)?;
        tx.remove(&1);
        tx.insert(&1, Caller(None, Arc::clone(&calls)))
            .map_err(drop)
    });
    assert_eq!(done, Ok(()));
    assert_eq!(calls.load(SeqCst), 2);
}

#[test]
fn a_transaction_drops_its_keys_after_its_locks() {
    /// Calls a cache when it ends.
    #[derive(Clone)]
    struct Key(u32, Cache<u32, u32>);
    impl Drop for Key {
        fn drop(&mut self) {
            assert_eq!(self.1.get(&9), Some(9));
        }
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    let other = Cache::new(10);
    other.insert(9, 9);
    let keys = [0, 1, 2, 3].map(|number| Key(number, other.clone()));
    let cache = Cache::new(10);
    cache.insert(keys[2].clone(), 2);
    cache.insert(keys[3].clone(), 3);
    // One that is only named, one that is stored, one that goes and one that gets a TTL.
    let done = cache.transaction(&keys, |tx| {
        tx.insert(&keys[1], 1)?;
        assert!(tx.remove(&keys[2]) && tx.expire(&keys[3], Duration::from_secs(60)));
        Ok::<_, Refused<i32>>(())
    });
    assert_eq!((done, cache.len()), (Ok(()), 2));
}

#[test]
fn a_cache_that_rejects_counts_what_a_transaction_gives_up() {
    let cache: Cache<u32, u32> = Cache::builder()
        .max_entries(1)
        .on_full(OnFull::Reject)
        .build()
        .unwrap();
    let swap = |from: u32, to: u32| {
        cache.transaction(&[from, to], |tx| {
            tx.remove(&from);
            tx.insert(&to, to)?;
            tx.remove(&to);
            tx.insert(&to, to)
        })
    };
    assert_eq!(swap(1, 2), Ok(()));
    assert_eq!(swap(2, 3), Ok(()));
    assert_eq!(
        cache.transaction(&[4], |tx| tx.insert(&4, 4)),
        Err(Refused(4))
    );
    assert_eq!(cache.iter().collect::<Vec<_>>(), [(3, 3)]);
    cache.validate();
}

#[test]
fn the_counts_never_wrap_while_they_are_reset() {
    let cache: Cache<u32, u32> = Cache::new(10);
    thread::scope(|scope| {
        scope.spawn(|| (0..20_000).for_each(|key| drop(cache.get(&key))));
        scope.spawn(|| (0..2_000).for_each(|_| cache.reset_stats()));
        for _ in 0..2_000 {
            assert!(cache.stats().misses <= 20_000);
        }
    });
}

#[test]
fn a_deadline_that_a_read_gives_is_swept_too() {
    struct OnceRead;
    impl Expiry<u32, u32> for OnceRead {
        fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
            None
        }
        fn expire_after_read(&self, _: &u32, _: &u32, _: Option<Duration>) -> Option<Duration> {
            Some(Duration::from_secs(1))
        }
    }
    let time = MockClock::new();
    let cache = Cache::builder()
        .expiry(OnceRead)
        .clock(time.clock())
        .build()
        .unwrap();
    cache.insert(1, 1);
    assert_eq!(cache.get(&1), Some(1));
    time.advance(Duration::from_secs(10));
    assert_eq!(cache.len(), 0);
}

#[test]
fn a_cache_may_be_dropped_inside_a_closure_of_another() {
    let token = Arc::new(());
    let outer: Cache<u32, Cache<u32, Arc<()>>> = Cache::new(10);
    let inner = Cache::new(10);
    inner.insert(1, Arc::clone(&token));
    outer.insert(1, inner);
    let empty = Cache::new(5);
    outer.update(&1, |value| *value = empty);
    assert_eq!(Arc::strong_count(&token), 1, "its values went with it");
    assert!(outer.get(&1).is_some_and(|inner| inner.is_empty()));
}

#[test]
fn time_that_moves_while_a_closure_unwinds_ends() {
    /// Moves the clock when it is dropped.
    struct Mover<'c>(&'c MockClock);
    impl Drop for Mover<'_> {
        fn drop(&mut self) {
            self.0.advance(Duration::from_secs(100));
        }
    }
    let (cache, time) = timed(|builder| builder.time_to_live(Duration::from_secs(1)));
    cache.insert(1, 1);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.update(&1, |_: &mut i32| {
            let _mover = Mover(&time);
            panic!("the closure fails");
        })
    }));
    assert!(unwound.is_err());
    cache.sweep();
    assert_eq!(cache.len(), 0);
}

#[test]
fn memory_without_a_weigher_is_counted_by_the_entry() {
    let smallest =
        (1..1_000).find_map(|bytes| Cache::<u64, u64>::builder().max_memory(bytes).build().ok());
    let cache = smallest.expect("an entry takes up less than 1,000 bytes");
    assert!(cache.insert_with(1, 1, InsertOptions::new()).is_stored());
    assert_eq!(cache.get(&1), Some(1));
    let weighed = Cache::builder()
        .max_memory(10_000)
        .weigher(|_: &u32, bytes: &u64| *bytes)
        .build()
        .unwrap();
    weighed.insert(1, 5_000);
    assert_eq!(weighed.weight(), 5_000);
    assert!(weighed.memory() > 5_000);
    weighed.validate();
    cache.validate();
}

#[test]
fn a_copy_that_fails_leaves_a_transaction_whole() {
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Once(u32, bool);
    impl Clone for Once {
        fn clone(&self) -> Self {
            assert!(!self.1 || thread::current().name() != Some("fails"));
            Self(self.0, self.1)
        }
    }
    let cache: Cache<Once, u32> = Cache::new(10);
    let _events = cache.events(10);
    let keys = [Once(1, true), Once(2, false)];
    // The copy of the keys that the transaction makes for itself would fail as well, so that one
    // is refused as a whole; either way both are stored or none.
    let handle = cache.clone();
    let failed = thread::Builder::new().name("fails".into()).spawn(move || {
        let _ = handle.transaction(&keys, |tx| {
            keys.iter().try_for_each(|key| tx.insert(key, 1))
        });
    });
    let _ = failed.unwrap().join();
    assert!(cache.is_empty() || cache.len() == 2);
    cache.validate();
}

// ---- after the branches of loading, tags and eviction came together ----

fn remembers(ttl: Duration) -> CacheBuilder<String, u32> {
    Cache::builder().max_entries(100).negative_ttl(ttl)
}

#[test]
fn invalidate_prefix_forgets_that_there_was_no_value() {
    let cache = remembers(HOUR).build().unwrap();
    assert_eq!(cache.get_or_find_with("/a/1", || None), None);
    assert_eq!(cache.get_or_find_with("/b/1", || None), None);
    cache.invalidate_prefix("/a/");
    assert_eq!(cache.get_or_find_with("/a/1", || Some(5)), Some(5));
    assert_eq!(
        cache.get_or_find_with("/b/1", || Some(5)),
        None,
        "not of the prefix"
    );
}

#[test]
fn a_value_that_still_holds_makes_the_error_before_it_forgotten() {
    let time = MockClock::new();
    let builder = Cache::<u32, u32>::builder().clock(time.clock());
    let builder = builder.time_to_live(Duration::from_secs(1)).error_ttl(HOUR);
    let cache = builder.build().unwrap();
    let asked = AtomicU32::new(0);
    let reader = cache.read_through_revalidating(move |_, _| match asked.fetch_add(1, SeqCst) {
        0 => Ok(Loaded::new(7)),
        1 => Err("the source is down"),
        2 => Ok(Loaded::not_modified()),
        _ => Ok(Loaded::new(8)),
    });
    assert_eq!(reader.get(&1), Ok(Some(7)));
    assert!(reader.refresh(&1).is_err());
    assert_eq!(reader.refresh(&1), Ok(Some(7)));
    time.advance(Duration::from_secs(2));
    assert_eq!(reader.get(&1), Ok(Some(8)));
}

/// Calls a cache when it is dropped, which panics where a lock is held.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Caller(u32);

impl Drop for Caller {
    fn drop(&mut self) {
        static OTHER: LazyLock<Cache<u32, u32>> = LazyLock::new(|| Cache::new(10));
        OTHER.insert(self.0, 1);
    }
}

#[test]
fn what_compute_removes_is_dropped_outside_the_lock() {
    let cache = Cache::new(10);
    cache.insert(Caller(1), 1);
    let removed = cache.compute(&Caller(1), |_| Op::Remove);
    assert_eq!(removed, Outcome::Removed(1));
}

#[test]
fn what_a_closure_holds_is_dropped_outside_the_lock_when_it_does_not_run() {
    let cache: Cache<u32, u32> = Cache::new(10);
    cache.insert_with_ttl(1, 1, Duration::from_nanos(1));
    for key in [1, 2] {
        let held = Caller(5);
        assert_eq!(cache.read(&key, move |value| value + held.0), None);
    }
}
