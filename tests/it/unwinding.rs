//! A panic that is caught where handles are in use: at the edge of a request, or in a test.

use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota};
use haybox::lock::{Acquire, Lease, Locks};
use haybox::presence::{Presence, PresenceEvent, WeakPresence};
use haybox::pubsub::{Bus, Subscription, Topic, WeakBus};
use haybox::queue::{Delivery, Queue, Workers};
use haybox::{Cache, Clock, Events, Fence, MockClock};
use haybox::{ReadThrough, ReadThroughAsync, ReadThroughMany, ReadThroughManyAsync};
use std::io::Error;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
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
