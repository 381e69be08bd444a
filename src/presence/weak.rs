//! A handle that keeps no presence.

use super::{Handle, Presence};
use crate::hash::DefaultHashBuilder;
use std::fmt;
use std::sync::{Arc, Weak};

/// A handle that does not keep a presence, from [`Presence::downgrade`].
///
/// For who reads its [events](Presence::events), which end when the last handle is dropped: with a
/// [`Presence`] of its own it would wait for events for ever. For an example see
/// [`Presence::events_with`].
pub struct WeakPresence<R, M, S = DefaultHashBuilder>(Weak<Handle<R, M, S>>);

impl<R, M, S> Presence<R, M, S> {
    /// A handle that does not keep the presence. O(1).
    #[must_use]
    pub fn downgrade(&self) -> WeakPresence<R, M, S> {
        WeakPresence(Arc::downgrade(&self.0))
    }
}

impl<R, M, S> WeakPresence<R, M, S> {
    /// A handle of the presence; `None` once its last one was dropped. O(1).
    ///
    /// It counts as any other, so drop it before you wait for the next event: one that is still
    /// there when the last of yours is dropped keeps the subscriptions until it is dropped, too.
    #[must_use]
    pub fn upgrade(&self) -> Option<Presence<R, M, S>> {
        self.0.upgrade().map(Presence)
    }
}

impl<R, M, S> Clone for WeakPresence<R, M, S> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

/// Shows whether the presence has a handle.
impl<R, M, S> fmt::Debug for WeakPresence<R, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakPresence")
            .field("has_handles", &(self.0.strong_count() > 0))
            .finish_non_exhaustive()
    }
}
