//! A panic that is caught where handles are in use: at the edge of a request, or in a test.

use crate::common::{SECOND, panic_of};
use crate::loading::poll_once;
use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota};
use haybox::lock::{Acquire, Lease, Locks};
use haybox::presence::{Presence, PresenceEvent, WeakPresence};
use haybox::pubsub::{Bus, Subscription, Topic, WeakBus};
use haybox::queue::{Delivery, Queue, TaskWorkers, Workers};
use haybox::{
    Cache, CacheBuilder, Clock, Events, Expiry, Fence, Freshness, MockClock, Op, Transaction,
};
use haybox::{ReadThrough, ReadThroughAsync, ReadThroughMany, ReadThroughManyAsync};
use std::future::pending;
use std::hash::{Hash, Hasher};
use std::io::Error;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// What promises nothing of itself.
type Opaque = Box<dyn Fn() + Send + Sync>;

#[test]
fn handles_pass_through_panics() {
    fn passes<T: UnwindSafe + RefUnwindSafe>() {}
    passes::<Cache<u32, Opaque>>();
    passes::<Events<Opaque>>();
    passes::<Fence<'_, '_, u32, Opaque, u32>>();
    passes::<ReadThrough<u32, Opaque, Error>>();
    passes::<ReadThroughAsync<u32, Opaque, Error>>();
    passes::<ReadThroughMany<u32, Opaque, Error>>();
    passes::<ReadThroughManyAsync<u32, Opaque, Error>>();
    passes::<Limiter<u32>>();
    passes::<Locks<u32>>();
    passes::<Lease<u32>>();
    passes::<Acquire<u32>>();
    passes::<Presence<Opaque, Opaque>>();
    passes::<WeakPresence<Opaque, Opaque>>();
    passes::<Subscription<PresenceEvent<u32, u32>>>();
    passes::<Bus>();
    passes::<WeakBus>();
    passes::<Topic<Opaque>>();
    passes::<Subscription<Opaque>>();
    passes::<Queue<Opaque>>();
    passes::<Delivery<Opaque>>();
    passes::<Workers<Opaque>>();
    passes::<TaskWorkers<Opaque>>();
    passes::<Counters<u32>>();
    passes::<Clock>();
    passes::<MockClock>();
}

#[cfg(feature = "persist")]
#[test]
fn handles_of_directories_pass_through_panics() {
    use haybox::Store;
    use haybox::persist::{Commit, Journal, RecoveryReport};
    fn passes<T: UnwindSafe + RefUnwindSafe>() {}
    passes::<Store<u32, Opaque>>();
    passes::<Journal>();
    passes::<Commit<u32>>();
    passes::<RecoveryReport>();
}

#[cfg(feature = "session")]
#[test]
fn sessions_pass_through_panics() {
    fn passes<T: UnwindSafe + RefUnwindSafe>() {}
    passes::<haybox::session::Sessions>();
}

#[test]
fn handles_are_used_after_a_panic_that_was_caught() {
    let cache = Cache::new(10);
    let loading = cache.read_through(|_: &u32| -> Result<u32, Error> { panic!("a loader's") });
    let locks = Locks::<u32>::new(Duration::from_secs(30)).unwrap();
    let limiter = Limiter::builder(Quota::per_second(1)).clock(MockClock::new().clock());
    let limiter: Limiter<u32> = limiter.build().unwrap();
    cache.insert(1, 1);
    assert!(catch_unwind(|| cache.update(&1, |_| panic!("a closure's"))).is_err());
    assert!(catch_unwind(|| loading.get(&2)).is_err());
    assert!(catch_unwind(|| locks.with_lock(&1, |_| panic!("its work's"))).is_err());
    let served = catch_unwind(|| {
        assert!(limiter.check(&1).is_allowed());
        panic!("a handler's")
    });
    assert!(served.is_err());
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
    assert!(locks.try_acquire(&1).is_ok());
    assert!(!limiter.check(&1).is_allowed());
}

#[test]
fn what_a_closure_has_made_of_a_value_before_it_panicked_is_weighed() {
    let builder = Cache::<u64, u64>::builder().max_weight(100);
    let cache = builder.weigher(|_, value| *value).build().unwrap();
    let weighs_right = || {
        let weight: u64 = cache.iter().map(|(_, value)| value).sum();
        assert_eq!(cache.weight(), weight);
        assert!(weight <= 100);
        cache.validate();
    };
    let grow = |to| {
        move |value: &mut u64| {
            *value = to;
            panic!("a closure's")
        }
    };
    cache.insert_many((0..10).map(|key| (key, 10)));
    panic_of(|| cache.update(&0, grow(50)));
    assert_eq!(cache.get(&0), Some(50), "as the closure has left it");
    weighs_right();
    panic_of(|| cache.update_or_insert_with(&0, || 1, grow(70)));
    assert_eq!(cache.get(&0), Some(70));
    weighs_right();
    panic_of(|| cache.update(&0, grow(101)));
    assert_eq!(cache.get(&0), None, "there is no room for it");
    weighs_right();
}

#[test]
fn a_value_that_its_weigher_panics_at_after_an_update_goes() {
    let weigher = |_: &u64, value: &u64| {
        assert!(*value < 50, "too heavy to be weighed");
        *value
    };
    let cache = Cache::builder().max_weight(100).weigher(weigher);
    let cache = cache.build().unwrap();
    cache.insert_many([(1, 5), (2, 7)]);
    panic_of(|| cache.update(&1, |value| *value = 50));
    assert_eq!((cache.get(&1), cache.weight()), (None, 7));
    cache.validate();
}

/// Notes in a cache that it was dropped: a call that changes nothing while its thread unwinds with
/// a lock held. Its third clone panics.
struct Notes(u64, Cache<u64, ()>, Arc<AtomicUsize>);

impl Drop for Notes {
    fn drop(&mut self) {
        self.1.insert(self.0, ());
    }
}

impl Clone for Notes {
    fn clone(&self) -> Self {
        assert!(self.2.fetch_add(1, SeqCst) < 2, "a third clone");
        Self(self.0 + 100, self.1.clone(), Arc::clone(&self.2))
    }
}

/// Panics at what it is not to let live.
struct UpTo(u64);

impl Expiry<u64, Notes> for UpTo {
    fn expire_after_create(&self, _: &u64, notes: &Notes) -> Option<Duration> {
        assert!(notes.0 <= self.0, "too much");
        None
    }
}

#[test]
fn what_was_to_be_stored_is_dropped_with_nothing_locked_where_code_of_the_user_panics() {
    let (told, clones) = (Cache::new(1_000), Arc::new(AtomicUsize::new(0)));
    let notes = |number| Notes(number, told.clone(), Arc::clone(&clones));
    let are_told = |numbers: &[u64]| {
        assert!(numbers.iter().all(|number| told.contains_key(number)));
        numbers.iter().for_each(|number| drop(told.remove(number)));
        assert!(told.is_empty());
    };
    let cache = Cache::builder().max_entries(30).expiry(UpTo(50));
    let cache = cache.build().unwrap();
    panic_of(|| cache.insert(1, notes(60)));
    are_told(&[60]);
    panic_of(|| drop(cache.compute(&1, |_| Op::Put(notes(61)))));
    are_told(&[61]);
    panic_of(|| cache.update_or_insert_with(&1, || notes(1), |_| panic!("a closure's")));
    are_told(&[1]);
    panic_of(|| cache.update_or_insert_with(&1, || notes(62), |_| ()));
    are_told(&[62]);
    let keys = [1, 2, 3];
    let done = panic_of(|| {
        cache.transaction(&keys, |tx| {
            tx.insert(&1, notes(11)).map_err(drop)?;
            tx.insert(&2, notes(63)).map_err(drop)?;
            tx.insert(&3, notes(13)).map_err(drop)
        })
    });
    assert_eq!(done, "too much");
    are_told(&[11, 63, 13]);
    cache.insert_many((1..5).map(|key| (key, notes(key))));
    assert_eq!(panic_of(|| cache.iter().count()), "a third clone");
    let heard: Vec<u64> = told.iter().map(|(number, ())| number).collect();
    assert!(
        heard.len() == 2 && heard.iter().all(|number| *number > 100),
        "{heard:?}"
    );
    assert_eq!(cache.len(), 4);
    cache.validate();
}

/// A cache whose weigher panics at a value of 50 or more, with 1 under 1 and 2.
fn weighed(open: impl FnOnce(CacheBuilder<u64, u64>) -> Cache<u64, u64>) -> Cache<u64, u64> {
    let weigher = |_: &u64, value: &u64| {
        assert!(*value < 50, "too heavy to be weighed");
        *value
    };
    let cache = open(Cache::builder().max_weight(100).weigher(weigher));
    cache.insert_many([(1, 1), (2, 1)]);
    cache
}

fn in_memory(builder: CacheBuilder<u64, u64>) -> Cache<u64, u64> {
    builder.build().unwrap()
}

/// What became of what a closure returned before the weigher panicked at the value it has changed.
#[track_caller]
fn check_that_results_are_dropped_with_nothing_locked(cache: &Cache<u64, u64>) {
    let (told, clones) = (Cache::new(1_000), Arc::default());
    let grow = |number: u64, value: &mut u64| {
        *value = 50;
        Notes(number, told.clone(), Arc::clone(&clones))
    };
    panic_of(|| drop(cache.update(&1, |value| grow(7, value))));
    assert_eq!(told.remove(&7), Some(()));
    let (make, change) = (|| 1, |value: &mut u64| grow(8, value));
    panic_of(|| drop(cache.update_or_insert_with(&2, make, change)));
    assert_eq!(told.remove(&8), Some(()));
    panic_of(|| drop(cache.update_or_insert_with(&3, || 1, |value| grow(9, value))));
    assert_eq!(told.remove(&9), Some(()));
    cache.validate();
}

#[test]
fn what_a_closure_has_returned_is_dropped_with_nothing_locked_where_what_follows_panics() {
    check_that_results_are_dropped_with_nothing_locked(&weighed(in_memory));
}

#[cfg(feature = "persist")]
#[test]
fn what_a_closure_has_returned_that_changed_a_copy_is_dropped_with_nothing_locked() {
    let dir = tempfile::tempdir().unwrap();
    let cache = weighed(|builder| builder.open(dir.path()).unwrap());
    check_that_results_are_dropped_with_nothing_locked(&cache);
}

#[test]
fn what_a_transaction_is_given_and_returns_is_dropped_with_nothing_locked() {
    let (told, clones) = (Cache::new(1_000), Arc::new(AtomicUsize::new(0)));
    let notes = |number| Notes(number, told.clone(), Arc::clone(&clones));
    let weigher = |_: &u64, notes: &Notes| {
        assert!(notes.0 < 100, "too heavy to be weighed");
        1
    };
    let cache = Cache::builder().max_weight(100).weigher(weigher);
    let cache = cache.expiry(UpTo(50)).build().unwrap();
    let at_commit = panic_of(|| {
        cache.transaction(&[1], |tx| {
            tx.insert(&1, notes(60)).map_err(drop)?;
            Ok::<_, ()>(notes(1))
        })
    });
    assert_eq!(at_commit, "too much");
    assert_eq!((told.remove(&60), told.remove(&1)), (Some(()), Some(())));
    let at_insertion = panic_of(|| {
        let insert = |tx: &mut Transaction<'_, u64, Notes>| tx.insert(&1, notes(100)).map_err(drop);
        cache.transaction(&[1], insert)
    });
    assert_eq!(at_insertion, "too heavy to be weighed");
    assert_eq!(told.remove(&100), Some(()));
    let at_look_up = panic_of(|| {
        let insert = |tx: &mut Transaction<'_, u64, Notes>| tx.insert(&2, notes(2)).map_err(drop);
        cache.transaction(&[1], insert)
    });
    assert!(
        at_look_up.contains("only the keys it was given"),
        "{at_look_up}"
    );
    assert_eq!(told.remove(&2), Some(()));
    assert!(cache.is_empty());
    cache.validate();
}

/// A key that is compared with others that are equal only as long as it may be, and that notes in a
/// cache that it was dropped.
struct Name(Cache<u64, ()>, Arc<AtomicUsize>);

static DROPPED_LOCKED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Name {
    fn drop(&mut self) {
        self.0.insert(0, ());
        let has_noted = self.0.remove(&0).is_some();
        DROPPED_LOCKED.fetch_add(usize::from(!has_noted), SeqCst);
    }
}

impl Clone for Name {
    fn clone(&self) -> Self {
        Self(self.0.clone(), Arc::clone(&self.1))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Name {
    fn eq(&self, _: &Self) -> bool {
        let left = self.1.fetch_sub(1, SeqCst);
        assert!(left > 0, "one comparison too many");
        true
    }
}

impl Eq for Name {}

/// Under a key that is there, and whichever comparison of it panics.
#[test]
fn a_value_given_to_a_transaction_is_dropped_with_nothing_locked_whichever_comparison_panics() {
    let (told, clones) = (Cache::new(1_000), Arc::new(AtomicUsize::new(0)));
    let (left, name) = (Arc::new(AtomicUsize::new(usize::MAX)), Cache::new(10));
    let key = Name(name, Arc::clone(&left));
    let mut panics = 0;
    for comparisons in 0.. {
        let cache = Cache::<Name, Notes>::new(10);
        cache.insert(key.clone(), Notes(0, told.clone(), Arc::clone(&clones)));
        let keys = [key.clone()];
        let insert = |tx: &mut Transaction<'_, Name, Notes>| {
            left.store(comparisons, SeqCst);
            let value = Notes(7, told.clone(), Arc::clone(&clones));
            let inserted = tx.insert(&key, value).map_err(drop);
            left.store(usize::MAX, SeqCst);
            inserted
        };
        let unwound = catch_unwind(AssertUnwindSafe(|| cache.transaction(&keys, insert)));
        left.store(usize::MAX, SeqCst);
        drop(cache);
        assert_eq!(told.remove(&7), Some(()), "after {comparisons} comparisons");
        if unwound.is_ok() {
            break;
        }
        panics += 1;
    }
    assert!(panics > 2, "{panics}");
}

/// What the first load of a name has found out, and what the second does.
type Ends = [Result<Option<u64>, ()>; 2];

/// Whether the second load has panicked, with a comparison after so many others.
#[track_caller]
fn check_that_names_are_dropped_with_nothing_locked(
    [before, end]: Ends,
    comparisons: usize,
    keeps_stale: bool,
) -> bool {
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let name = Name(Cache::new(10), Arc::clone(&left));
    let builder = Cache::<Name, u64>::builder().max_entries(10);
    let mut builder = builder.error_ttl(SECOND).negative_ttl(SECOND);
    if keeps_stale {
        let stale = Freshness::new().stale_if_error(SECOND);
        builder = builder.freshness(stale.retry_after(SECOND));
    }
    let cache = builder.build().unwrap();
    let known = cache.read_through(move |_| before).get(&name);
    assert_eq!(known.is_ok(), before.is_ok());
    let of_load = Arc::clone(&left);
    let refreshing = cache.read_through(move |_| {
        of_load.store(comparisons, SeqCst);
        end
    });
    let ended = catch_unwind(|| refreshing.refresh(&name).is_ok());
    left.store(usize::MAX, SeqCst);
    drop((refreshing, cache));
    let dropped_locked = DROPPED_LOCKED.swap(0, SeqCst);
    let case = ([before, end], comparisons, keeps_stale);
    assert_eq!(dropped_locked, 0, "{case:?}");
    ended.is_err()
}

#[test]
fn the_key_of_a_load_is_dropped_with_nothing_locked_where_it_cannot_be_compared() {
    let ends = [Ok(Some(1)), Ok(None), Err(())];
    let pairs = ends.map(|before| ends.map(|end| [before, end]));
    let mut panics = 0;
    for pair in pairs.into_iter().flatten() {
        for comparisons in 0..6 {
            for keeps_stale in [false, true] {
                let panicked = check_that_names_are_dropped_with_nothing_locked(
                    pair,
                    comparisons,
                    keeps_stale,
                );
                panics += usize::from(panicked);
            }
        }
    }
    assert!(panics > 0);
}

/// A key that has no text.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Untold(u64);

impl AsRef<str> for Untold {
    fn as_ref(&self) -> &str {
        panic!("not to be told")
    }
}

#[test]
fn a_load_whose_key_panics_as_it_is_looked_at_is_still_known() {
    let cache = Cache::<Untold, u64>::new(10);
    let mut load = pin!(cache.get_or_load(&Untold(1), pending));
    assert!(poll_once(load.as_mut()).is_pending());
    assert_eq!(panic_of(|| cache.invalidate_prefix("")), "not to be told");
    assert_eq!(cache.loads_under_way(), 1);
    cache.validate();
}
