//! What is told to those who listen: the types that they see.
//!
//! Who is told what, in which order and on which thread is in `hub`; what a call leaves to be told
//! and dropped when it has released its locks is in `outbox`.

mod hub;
mod outbox;

pub(crate) use hub::{Hub, Listener};
pub(crate) use outbox::Outbox;

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use std::fmt;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

/// Why a value left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Its time was up.
    Expired,
    /// It was removed by a call: `remove`, `retain`, `clear` and their relatives. Or its tag or
    /// group was invalidated: this is told when the entry is swept or replaced.
    Explicit,
    /// Another value was stored under its key.
    Replaced,
    /// It had to make room, or did not fit.
    #[doc(alias = "Evicted")]
    #[doc(alias = "Size")]
    Capacity,
}

/// What happened to the entry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// It came into the cache.
    Inserted,
    /// Its value was replaced or changed in place.
    Updated,
    /// It left the cache. Never with [`RemovalCause::Replaced`], which is `Updated` here.
    Removed(RemovalCause),
}

/// One thing that happened, as a subscription of [`Cache::events`](crate::Cache::events) gets it.
///
/// It carries no value: by the time it is read, there may be a newer one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event<K> {
    /// The key of the entry.
    pub key: K,
    /// What happened to it.
    pub kind: EventKind,
}

/// A bounded subscription to what happens in a cache, from [`Cache::events`](crate::Cache::events).
///
/// The events of one key come in the order in which they happened. A reader that is too slow does
/// not hold up the cache: when the subscription is full, *new* events are dropped and
/// [`lost`](Self::lost) counts them. Dropping the subscription ends it.
///
/// It is for threads, which it blocks while they wait. Tasks take
/// [`Cache::publish_events`](crate::Cache::publish_events), whose subscriptions have a
/// `recv_async`.
pub struct Events<K> {
    receiver: Receiver<Event<K>>,
    shared: Arc<Shared>,
}

/// What a subscription and the cache know of each other.
struct Shared {
    /// The most events that may wait.
    capacity: usize,
    /// How many do, those among them that are being put in or taken out. The channel itself has no
    /// bound: one that has takes up the room for all its events from the start.
    waiting: AtomicUsize,
    lost: AtomicU64,
    /// Whether anybody still reads.
    open: AtomicBool,
}

impl Shared {
    /// Whether there is room for one event more, which is then taken; else one more is lost.
    fn take_room(&self) -> bool {
        let within = |waiting| (waiting < self.capacity).then_some(waiting + 1);
        let took = self.waiting.fetch_update(AcqRel, Relaxed, within).is_ok();
        if !took {
            self.lost.fetch_add(1, Relaxed);
        }
        took
    }
}

/// Why [`Events::try_recv`] or [`Events::recv_timeout`] has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEvent {
    /// None is waiting, or none came in time.
    Empty,
    /// The cache is gone and all its events were read.
    Closed,
}

impl fmt::Display for NoEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no event is waiting",
            Self::Closed => "the cache is gone and all its events were read",
        })
    }
}

impl std::error::Error for NoEvent {}

impl<K> Events<K> {
    /// Waits for the next event. `None` when the cache is gone and all its events were read.
    pub fn recv(&self) -> Option<Event<K>> {
        self.receiver.recv().ok().map(|event| self.taken(event))
    }

    /// The next event if one is waiting.
    ///
    /// # Errors
    /// [`NoEvent`] says whether there may be one later.
    pub fn try_recv(&self) -> Result<Event<K>, NoEvent> {
        let received = self.receiver.try_recv().map(|event| self.taken(event));
        received.map_err(|error| match error {
            TryRecvError::Empty => NoEvent::Empty,
            TryRecvError::Disconnected => NoEvent::Closed,
        })
    }

    /// Waits for the next event, at most for `timeout` of real time.
    ///
    /// # Errors
    /// [`NoEvent`] says whether there may be one later.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event<K>, NoEvent> {
        let received = self.receiver.recv_timeout(timeout);
        received
            .map(|event| self.taken(event))
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => NoEvent::Empty,
                RecvTimeoutError::Disconnected => NoEvent::Closed,
            })
    }

    /// The events that are waiting now, without waiting for more.
    pub fn try_iter(&self) -> impl Iterator<Item = Event<K>> {
        iter::from_fn(|| self.try_recv().ok())
    }

    /// Every event from now on; waits for each, and ends with the cache.
    pub fn iter(&self) -> impl Iterator<Item = Event<K>> {
        iter::from_fn(|| self.recv())
    }

    /// How many events were dropped because the subscription was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// There is room for another one.
    fn taken(&self, event: Event<K>) -> Event<K> {
        self.shared.waiting.fetch_sub(1, AcqRel);
        event
    }
}

impl<K> fmt::Debug for Events<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Events");
        shown
            .field("waiting", &self.receiver.len())
            .field("lost", &self.lost())
            .finish()
    }
}

impl<K> Drop for Events<K> {
    fn drop(&mut self) {
        self.shared.open.store(false, Release);
    }
}
