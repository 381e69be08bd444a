//! What locks have done, in numbers.

use crate::figures::figures;
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

figures! {
    /// What locks have done since they were built, with all keys and through all handles. From
    /// [`Locks::stats`](super::Locks::stats).
    pub struct LocksStats {
        /// Leases that were granted.
        pub acquired: u64,
        /// Calls of [`try_acquire`](super::Locks::try_acquire) that found the key taken.
        pub busy: u64,
        /// Calls that had to wait for a lease.
        pub waited: u64,
        /// Calls whose time-out ended before they had a lease.
        pub timed_out: u64,
        /// Leases whose time had passed before their holders gave them back: if there are any, the
        /// lease time is too short for what is done under it. One that is dropped and not
        /// [released](super::Lease::release) counts only if its key was asked for after its time,
        /// and one that is leaked does not count. One that was over before who waited for it could run
        /// was given back at once, and counts here and as acquired.
        pub lost: u64,
        /// Keys that take up memory. Free ones are among them until they are swept.
        pub keys: usize [gauge],
    }
}

/// What is counted one by one. All of it is rare beside what is granted at once, which the numbers
/// of the tokens tell.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; 4]);

#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Busy,
    Waited,
    TimedOut,
    Lost,
}

impl Counts {
    pub(super) fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn stats(&self, acquired: u64, keys: usize) -> LocksStats {
        let [busy, waited, timed_out, lost] = self.0.each_ref().map(|count| count.load(Relaxed));
        LocksStats {
            acquired,
            busy,
            waited,
            timed_out,
            lost,
            keys,
        }
    }
}
