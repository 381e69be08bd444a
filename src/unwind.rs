//! What a panic may pass through: handles can be used in `catch_unwind` and after it.
//!
//! The standard library takes what has locks inside for what a panic may leave half changed. Here
//! nothing of the crate's own is: code of the user's runs outside the locks, or in steps that leave
//! all whole wherever it panics. A value that a closure was changing stays as the closure left it,
//! as that of a `Mutex` does. Nothing is asked of keys and values, as there.

use crate::counter::Counters;
use crate::limit::Limiter;
use crate::lock::{Acquire, Lease, Locks};
use crate::presence::{Presence, WeakPresence};
use crate::pubsub::{Bus, Subscription, Topic, WeakBus};
use crate::queue::{Delivery, Queue, TaskWorkers, Workers};
use crate::{Cache, Clock, Equivalent, Events, Fence, MockClock, WeakCache};
use crate::{ReadThrough, ReadThroughAsync, ReadThroughMany, ReadThroughManyAsync};
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};

macro_rules! pass_through_panics {
    ($([$($generics:tt)*] $handle:ty,)*) => {$(
        impl<$($generics)*> UnwindSafe for $handle {}
        impl<$($generics)*> RefUnwindSafe for $handle {}
    )*};
}

pass_through_panics! {
    [K, V, S] Cache<K, V, S>,
    [K, V, S] WeakCache<K, V, S>,
    [K, V, E, S] ReadThrough<K, V, E, S>,
    [K, V, E, S] ReadThroughAsync<K, V, E, S>,
    [K, V, E, S] ReadThroughMany<K, V, E, S>,
    [K, V, E, S] ReadThroughManyAsync<K, V, E, S>,
    [K] Events<K>,
    [K: Hash + Eq, V, Q: Equivalent<K> + ?Sized] Fence<'_, '_, K, V, Q>,
    [K, S] Limiter<K, S>,
    [K: Hash + Eq, S: BuildHasher] Locks<K, S>,
    [K] Lease<K>,
    [K] Acquire<K>,
    [R, M] Presence<R, M>,
    [R, M] WeakPresence<R, M>,
    [] Bus,
    [] WeakBus,
    [T] Topic<T>,
    [M] Subscription<M>,
    [T] Queue<T>,
    [T] Delivery<T>,
    [T: Send + Sync + 'static] Workers<T>,
    [T: Send + Sync + 'static] TaskWorkers<T>,
    [K] Counters<K>,
    [] Clock,
    [] MockClock,
}

#[cfg(feature = "session")]
pass_through_panics! {
    [] crate::session::Sessions,
}

// What the system said of a part of a file is only read.
#[cfg(feature = "persist")]
pass_through_panics! {
    [] crate::persist::Unreadable,
}
