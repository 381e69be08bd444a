//! An entry on its way into a set or out of it, with what the set keeps beside it.

use super::entry::Entry;
#[cfg(feature = "persist")]
use super::entry::queue_of;
#[cfg(feature = "persist")]
use super::eviction::{MAX_FREQUENCY, Queue};
use crate::hash::KeyHash;
use crate::load::Age;
use crate::time::{Deadline, NEVER};

/// The two ends of a life where idle time counts; the sooner one is the entry's deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The one that no access moves.
    pub(crate) hard: Deadline,
    /// The one that comes if nobody accesses the entry.
    pub(crate) idle: Deadline,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            hard: NEVER,
            idle: NEVER,
        }
    }
}

impl Ends {
    pub(crate) fn sooner(self) -> Deadline {
        self.hard.min(self.idle)
    }
}

/// An entry on its way into a set or out of it.
#[derive(Debug)]
pub(crate) struct Item<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) weight: u64,
    pub(crate) deadline: Deadline,
    /// Only where idle time counts.
    pub(crate) ends: Option<Ends>,
    /// Only where freshness counts.
    pub(crate) age: Option<Age>,
    pub(crate) fingerprint: u16,
    /// What reads have left behind.
    pub(super) reads: u8,
}

impl<K, V> Item<K, V> {
    #[inline]
    pub(crate) fn new(hash: KeyHash, key: K, value: V, weight: u64) -> Self {
        Self {
            key,
            value,
            weight,
            deadline: NEVER,
            ends: None,
            age: None,
            fingerprint: hash.fingerprint(),
            reads: 0,
        }
    }

    /// Takes over what the policy made of the entry before; the queue that it was in.
    #[cfg(feature = "persist")]
    pub(super) fn warm(&mut self, heat: u8) -> Queue {
        self.reads = heat & MAX_FREQUENCY;
        queue_of(heat)
    }

    #[inline(always)]
    pub(super) fn into_entry(self) -> Entry<K, V> {
        let mut entry = Entry::new(self.fingerprint, self.key, self.value, self.deadline);
        entry.set_reads(self.reads);
        entry
    }
}
