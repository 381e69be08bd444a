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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The one that no access moves.
    pub(crate) hard: Deadline,
    /// The one that comes if nobody accesses the entry.
    pub(crate) idle: Deadline,
}

impl Default for Ends {
    fn default() -> Self {
        Self::hard(NEVER)
    }
}

impl Ends {
    /// Of a life that no idle time ends.
    pub(crate) fn hard(hard: Deadline) -> Self {
        Self { hard, idle: NEVER }
    }

    pub(crate) fn sooner(self) -> Deadline {
        self.hard.min(self.idle)
    }
}

/// What a set keeps beside an entry, where there is anything to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    pub(crate) weight: u64,
    /// Only where idle time counts.
    pub(crate) ends: Option<Ends>,
    /// Only where freshness counts.
    pub(crate) age: Option<Age>,
}

impl Beside {
    #[inline(always)]
    pub(super) const fn of_weight(weight: u64) -> Self {
        Self {
            weight,
            ends: None,
            age: None,
        }
    }

    /// Whether a set that keeps nothing has this.
    #[inline(always)]
    pub(super) fn is_nothing(&self) -> bool {
        self.weight == 1 && self.ends.is_none() && self.age.is_none()
    }
}

/// An entry on its way into a set or out of it.
#[derive(Debug)]
pub(crate) struct Item<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) deadline: Deadline,
    pub(crate) beside: Beside,
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
            deadline: NEVER,
            beside: Beside::of_weight(weight),
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
