//! What a store of sessions has done.

use crate::figures::figures;
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

figures! {
    /// What a store of sessions has done since it was built, and how full it is.
    pub struct SessionStats {
        /// Sessions that are there now, those that have expired and are not swept yet among them.
        pub sessions: u64 [gauge],
        /// Look-ups that found their session.
        pub found: u64,
        /// Look-ups of ids that open nothing (any more).
        pub not_found: u64,
        /// Sessions started.
        pub started: u64,
        /// Sessions ended by a call: log-outs, and changes of the id.
        pub ended: u64,
        /// Sessions whose time was up.
        pub expired: u64,
        /// Idle sessions that had to go because the store was full.
        pub evicted: u64,
        /// Idle sessions that had to go because their owner had too many.
        pub over_limit: u64,
        /// Sessions not stored because the store was full, or could not hold one as large.
        pub rejected: u64,
        /// Changes that came when their session was gone, and were dropped.
        pub too_late: u64,
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) started: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) too_late: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counts {
    /// With what the cache of the sessions has counted.
    pub(super) fn with(&self, cache: crate::Stats, sessions: usize) -> SessionStats {
        SessionStats {
            sessions: sessions as u64,
            found: cache.hits,
            not_found: cache.misses,
            started: self.started.load(Relaxed),
            ended: self.ended.load(Relaxed),
            expired: cache.expirations,
            evicted: cache.evictions,
            over_limit: self.over_limit.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            too_late: self.too_late.load(Relaxed),
        }
    }
}
