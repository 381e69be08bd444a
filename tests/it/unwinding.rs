//! A panic that is caught where handles are in use: at the edge of a request, or in a test.

use crate::common::panic_of;
use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota};
use haybox::lock::{Acquire, Lease, Locks};
use haybox::presence::{Presence, PresenceEvent, WeakPresence};
use haybox::pubsub::{Bus, Subscription, Topic, WeakBus};
use haybox::queue::{Delivery, Queue, Workers};
use haybox::{Cache, Clock, Events, Expiry, Fence, MockClock, Op};
use haybox::{ReadThrough, ReadThroughAsync, ReadThroughMany, ReadThroughManyAsync};
use std::io::Error;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
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
