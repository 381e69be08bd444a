//! What has happened in all rooms, in numbers.

use super::Change;
use crate::figures::figures;
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

figures! {
    /// What the members of all rooms have done since the presence was built, each counted once for
    /// each room. From [`Presence::stats`](super::Presence::stats).
    pub struct PresenceStats {
        /// Members that are there. Those whose time is up and not announced yet are among them.
        pub members: u64 [gauge],
        /// Members that joined.
        pub joined: u64,
        /// Members that said that they go.
        pub left: u64,
        /// Members whose heartbeat stayed away.
        pub timed_out: u64,
        /// How often a member became idle.
        pub turned_idle: u64,
        /// How often one that was idle did something.
        pub turned_active: u64,
    }
}

/// What is announced is counted, which is rare beside heartbeats.
#[derive(Debug, Default)]
pub(super) struct Counts {
    joined: AtomicU64,
    left: AtomicU64,
    timed_out: AtomicU64,
    turned_idle: AtomicU64,
    turned_active: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, change: Change) {
        let count = match change {
            Change::Joined => &self.joined,
            Change::Left => &self.left,
            Change::TimedOut => &self.timed_out,
            Change::Idle => &self.turned_idle,
            Change::Active => &self.turned_active,
        };
        count.fetch_add(1, SeqCst);
    }

    pub(super) fn stats(&self) -> PresenceStats {
        // In this order nobody is seen to go who was not seen to come.
        let (left, timed_out) = (self.left.load(SeqCst), self.timed_out.load(SeqCst));
        let joined = self.joined.load(SeqCst);
        PresenceStats {
            members: joined.saturating_sub(left + timed_out),
            joined,
            left,
            timed_out,
            turned_idle: self.turned_idle.load(SeqCst),
            turned_active: self.turned_active.load(SeqCst),
        }
    }
}
