//! What is told to those who listen: the types that they see.
//!
//! Who is told what, in which order and on which thread is in `hub`; what a call leaves to be told
//! and dropped when it has released its locks is in `outbox`.

mod hub;
mod outbox;

pub(crate) use hub::{Hub, Listener};
pub(crate) use outbox::Outbox;

use crate::pubsub::{self, Home, Mailbox, NoMessage, Subscription};
use crate::time::Clock;
use std::fmt;
use std::sync::Arc;
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
/// [`lost`](Self::lost) counts them. Dropping the subscription ends it, and so does
/// [`close`](Self::close) from any thread, also while others wait for an event.
///
/// It is for threads, which it blocks while they wait. Tasks take
/// [`Cache::publish_events`](crate::Cache::publish_events), whose subscriptions have a
/// `recv_async`.
pub struct Events<K>(Subscription<Event<K>>);

/// Where a subscription to events is: with the cache, which forgets one that has ended with the next
/// event.
struct OfCache;

impl<K> Home<Event<K>> for OfCache {
    fn remove(&self, _: &Arc<Mailbox<Event<K>>>) {}
}

/// Why [`Events::try_recv`] or [`Events::recv_timeout`] has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEvent {
    /// None is waiting, or none came in time.
    Empty,
    /// The cache is gone or the subscription [closed](Events::close), and all its events were read.
    Closed,
}

impl NoEvent {
    fn of(reason: NoMessage) -> Self {
        match reason {
            NoMessage::Empty => Self::Empty,
            NoMessage::Closed | NoMessage::TooSlow => Self::Closed,
        }
    }
}

impl fmt::Display for NoEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no event is waiting",
            Self::Closed => "the subscription is closed and all its events were read",
        })
    }
}

impl std::error::Error for NoEvent {}

impl<K> Events<K> {
    /// Reads what comes into a mailbox.
    fn of(mailbox: Arc<Mailbox<Event<K>>>) -> Self {
        Self(Subscription::new(mailbox, Clock::real(), Box::new(OfCache)))
    }

    /// Waits for the next event. `None` when there will be none: the cache is gone or the
    /// subscription was closed, and all its events were read.
    pub fn recv(&self) -> Option<Event<K>> {
        self.0.recv().ok()
    }

    /// The next event if one is waiting.
    ///
    /// # Errors
    /// [`NoEvent`] says whether there may be one later.
    pub fn try_recv(&self) -> Result<Event<K>, NoEvent> {
        self.0.try_recv().map_err(NoEvent::of)
    }

    /// Waits for the next event, at most for `timeout` of real time.
    ///
    /// # Errors
    /// [`NoEvent`] says whether there may be one later.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event<K>, NoEvent> {
        self.0.recv_timeout(timeout).map_err(NoEvent::of)
    }

    /// The events that are waiting now, without waiting for more.
    pub fn try_iter(&self) -> impl Iterator<Item = Event<K>> {
        self.0.try_iter()
    }

    /// Every event from now on; waits for each, and ends when there will be none.
    pub fn iter(&self) -> impl Iterator<Item = Event<K>> {
        self.0.iter()
    }

    /// Ends the subscription: nothing comes in any more, and whoever waits for an event goes on at
    /// once. What is waiting can still be read. It is for other threads than the one that reads,
    /// which share the subscription by reference or in an [`Arc`]. Closing twice does nothing more.
    ///
    /// ```
    /// use haybox::Cache;
    /// use std::sync::Arc;
    /// use std::thread;
    ///
    /// let cache = Cache::new(10);
    /// let events = Arc::new(cache.events(100));
    /// let reader = thread::spawn({
    ///     let events = Arc::clone(&events);
    ///     move || events.iter().count()
    /// });
    /// cache.insert("loaf", 1);
    /// events.close();
    /// cache.insert("loaf", 2);
    /// assert_eq!(reader.join().unwrap(), 1);
    /// ```
    pub fn close(&self) {
        self.0.close();
    }

    /// How many events were dropped because the subscription was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }
}

impl<'e, K> IntoIterator for &'e Events<K> {
    type Item = Event<K>;
    type IntoIter = pubsub::Iter<'e, Event<K>>;

    /// As [`Events::iter`].
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<K> IntoIterator for Events<K> {
    type Item = Event<K>;
    type IntoIter = pubsub::IntoIter<Event<K>>;

    /// As [`Events::iter`], of a subscription that ends with the iterator.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K> fmt::Debug for Events<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Events");
        shown
            .field("waiting", &self.0.len())
            .field("lost", &self.lost())
            .finish()
    }
}
