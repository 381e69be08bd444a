//! A handle that keeps no presence.

use super::{Handle, Presence};
use std::fmt;
use std::sync::{Arc, Weak};

/// A handle that does not keep a presence, from [`Presence::downgrade`].
///
/// For who reads its [events](Presence::events), which end when the last handle is dropped: with a
/// [`Presence`] of its own it would wait for events for ever. For an example see
/// [`Presence::events_with`].
pub struct WeakPresence<R, M>(Weak<Handle<R, M>>);

impl<R, M> Presence<R, M> {
    /// A handle that does not keep the presence. O(1).
    #[must_use]
    pub fn downgrade(&self) -> WeakPresence<R, M> {
        WeakPresence(Arc::downgrade(&self.0))
    }
}

impl<R, M> WeakPresence<R, M> {
    /// A handle of the presence; `None` once its last one was dropped. O(1).
    ///
    /// It counts as any other, so drop it before you wait for the next event: one that is still
    /// there when the last of yours is dropped keeps the subscriptions until it is dropped, too.
    #[must_use]
    pub fn upgrade(&self) -> Option<Presence<R, M>> {
        self.0.upgrade().map(Presence)
    }
}

impl<R, M> Clone for WeakPresence<R, M> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

/// Shows whether the presence has a handle.
impl<R, M> fmt::Debug for WeakPresence<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakPresence")
            .field("has_handles", &(self.0.strong_count() > 0))
            .finish_non_exhaustive()
    }
}
