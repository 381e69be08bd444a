//! What went over a bus, in numbers.

use crate::figures::figures;
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

figures! {
    /// What went over a bus since it was made, on all topics. From
    /// [`Bus::stats`](super::Bus::stats).
    pub struct BusStats {
        /// Messages that were published, to topics that nobody had subscribed to as well, and not to
        /// those that were closed.
        pub published: u64,
        /// Messages that subscriptions have lost since they were slow: what
        /// [`Subscription::lost`](super::Subscription::lost) says of each, of all that there were.
        pub lost: u64,
        /// Topics that are in use.
        pub topics: usize [gauge],
    }
}

/// A count that is read without the lock that those who count hold, or without any.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    /// Counts, under a lock that all who count hold: no atomic instruction more.
    #[inline]
    pub(super) fn count_locked(&self) {
        self.0.store(self.get().wrapping_add(1), Relaxed);
    }

    /// Counts, whoever else does.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
