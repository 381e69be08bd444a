//! The table: a growing row of small sets, and which of them a hash names.
//!
//! The number of sets grows by linear hashing (Litwin, "Linear hashing: a new tool for file and
//! table addressing", VLDB 1980), one set at a time, so that no operation pays for more than one
//! split. Set `i` at depth `d` holds the keys whose hash ends in the `d` bits of `i`. A split
//! publishes the new number of sets while the lock of the old one is held, and every look-up
//! checks under the lock that it came to the right set, so a stale number of sets costs another
//! step and nothing else.
//!
//! Locks: a thread takes one set at a time, or several in ascending order (transactions, splits),
//! or others by `try_lock` only (eviction). That no thread waits for a set while it holds one out
//! of order is why nothing here can deadlock.

mod bytes;
mod directory;
mod duel;
mod entry;
mod eviction;
mod extra;
mod ghosts;
mod growth;
mod hints;
mod item;
mod labels;
mod links;
mod loads;
mod locked;
mod scan;
mod set;
mod shadow;
mod spare;
mod split;
mod verdicts;

pub(crate) use directory::Segment;
pub(crate) use entry::Entry;
pub(crate) use item::{Ends, Item};
pub(crate) use labels::Label;
pub(crate) use loads::LoadRoom;
pub(crate) use locked::Locked;
#[cfg(feature = "persist")]
pub(crate) use set::MAX_WAYS;
pub(crate) use set::Ways;
pub(crate) use spare::Spare;

use crate::entry::EvictionPolicy;
use crate::hash::KeyHash;
use crate::reentrancy::Inside;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, SpinGuard};
use crate::time::NEVER;
use directory::{Directory, Place};
use duel::Eviction;
use spare::Spares;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

/// The mean number of entries of a set at which the table grows, and the number of loads under way
/// above which a set is split. While a round of growth lasts, the sets that it has not come to yet
/// hold twice as many as those that are split.
pub(crate) const MAX_LOAD: usize = 40;

/// The most sets that a table starts with, for 40 million entries: a bound that is meant as none
/// must not cost a directory for it.
const MOST_AT_FIRST: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Table<K, V> {
    directory: Directory<K, V>,
    /// The number of sets, at least 1.
    sets: AtomicUsize,
    /// The bits of a hash that name a set, of those that are split in this round of growth.
    mask: AtomicUsize,
    /// The bits that are set in the index of every set whose evictions take more than the setting
    /// of the policy.
    special: AtomicUsize,
    eviction: Eviction,
    /// The number of sets is this power of two at first.
    first_depth: u8,
    /// Entries that a set may expect, which sizes its slots.
    expected: usize,
    growing: Mutex<()>,
    /// Whether a set may have more loads under way than it should.
    many_loads: AtomicBool,
    /// No entry expires before this.
    earliest: AtomicU64,
    hand: AtomicUsize,
    spares: Spares<K, V>,
}

impl<K, V> Table<K, V> {
    /// A table for about `entries` entries; it grows when there are more.
    pub(crate) fn new(entries: usize, policy: EvictionPolicy) -> Self {
        let sets = entries
            .div_ceil(MAX_LOAD)
            .clamp(1, MOST_AT_FIRST)
            .next_power_of_two();
        let eviction = Eviction::new(policy);
        Self {
            directory: Directory::new(sets),
            sets: AtomicUsize::new(sets),
            mask: AtomicUsize::new(sets - 1),
            special: AtomicUsize::new(eviction.special_sets(sets)),
            eviction,
            first_depth: sets.trailing_zeros() as u8,
            expected: entries.div_ceil(sets).min(MAX_LOAD),
            growing: Mutex::new(()),
            many_loads: AtomicBool::new(false),
            earliest: AtomicU64::new(NEVER),
            hand: AtomicUsize::new(0),
            spares: Spares::default(),
        }
    }

    pub(crate) fn sets(&self) -> usize {
        self.sets.load(Acquire)
    }

    /// The set that a hash names. The two readings may not belong together; whatever comes of
    /// them is a set that the key was in once, and sends the caller on.
    #[inline(always)]
    fn index_of(&self, hash: KeyHash) -> usize {
        let mask = self.mask.load(Acquire);
        let index = hash.index() & mask;
        if index < self.sets.load(Acquire) {
            index
        } else {
            index & (mask >> 1)
        }
    }

    /// Publishes one more set.
    fn publish(&self, sets: usize) {
        self.mask.store(sets.next_power_of_two() - 1, Release);
        self.sets.store(sets, Release);
        self.special
            .store(self.eviction.special_sets(sets), Relaxed);
    }

    /// The eviction policy and, where it adapts, what it does now.
    pub(crate) fn eviction(&self) -> (EvictionPolicy, Option<&'static str>) {
        self.eviction.describe()
    }

    /// One set in so many is sampled.
    fn sampling_rate(&self) -> usize {
        self.special.load(Relaxed) + 1
    }

    /// About how many entries are in sets that are sampled, when one has `entries`.
    fn sampled(&self, entries: usize) -> usize {
        entries * self.sets() / self.sampling_rate()
    }

    /// Locks the set that a hash names at first sight, if it was ever used. Who does not find the
    /// key in it may have come to the [wrong one](Locked::is_set_of).
    #[inline(always)]
    pub(crate) fn lock_at_first_sight(
        &self,
        _inside: &Inside,
        hash: KeyHash,
    ) -> Option<Locked<'_, K, V>> {
        let index = self.index_of(hash);
        let place = self.directory.get(index)?;
        Some(self.locked(index, &place, place.set.ways.lock()))
    }

    /// Locks the set that a hash names.
    #[inline(always)]
    pub(crate) fn lock(&self, inside: &Inside, hash: KeyHash) -> Locked<'_, K, V> {
        let index = self.index_of(hash);
        let set = self.lock_index(inside, index);
        match set.route(hash, index) {
            None => set,
            Some(next) => {
                drop(set);
                self.lock_where_it_is_now(inside, hash, next)
            }
        }
    }

    /// As [`lock`](Self::lock), after the set was split.
    #[cold]
    #[inline(never)]
    fn lock_where_it_is_now(
        &self,
        inside: &Inside,
        hash: KeyHash,
        mut index: usize,
    ) -> Locked<'_, K, V> {
        loop {
            let set = self.lock_index(inside, index);
            match set.route(hash, index) {
                None => return set,
                Some(next) => index = next,
            }
        }
    }

    /// Locks the sets of several hashes in ascending order, each once; and for each hash, which of
    /// them is its own.
    pub(crate) fn lock_all(
        &self,
        inside: &Inside,
        hashes: &[KeyHash],
    ) -> (Vec<Locked<'_, K, V>>, Vec<usize>) {
        loop {
            let named: Vec<_> = hashes.iter().map(|hash| self.index_of(*hash)).collect();
            let mut indices = named.clone();
            indices.sort_unstable();
            indices.dedup();
            let sets: Vec<_> = indices
                .iter()
                .map(|index| self.lock_index(inside, *index))
                .collect();
            let own = |(hash, index): (&KeyHash, &usize)| {
                let set = indices.binary_search(index).ok()?;
                sets[set].is_set_of(*hash).then_some(set)
            };
            // A set that was split before it was locked: once more, by the numbers of now.
            let owns: Option<Vec<_>> = hashes.iter().zip(&named).map(own).collect();
            if let Some(owns) = owns {
                return (sets, owns);
            }
        }
    }

    /// As [`lock`](Self::lock), but none where the set was never used.
    pub(crate) fn lock_if_used(&self, _inside: &Inside, hash: KeyHash) -> Option<Locked<'_, K, V>> {
        let mut index = self.index_of(hash);
        loop {
            let place = self.directory.get(index)?;
            let set = self.locked(index, &place, place.set.ways.lock());
            match set.route(hash, index) {
                None => return Some(set),
                Some(next) => index = next,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn lock_index(&self, _inside: &Inside, index: usize) -> Locked<'_, K, V> {
        let place = self.directory.get_or_create(index, self.first_depth);
        self.locked(index, &place, place.set.ways.lock())
    }

    #[inline(always)]
    fn locked<'t>(
        &'t self,
        index: usize,
        place: &Place<'t, K, V>,
        ways: SpinGuard<'t, Ways<K, V>>,
    ) -> Locked<'t, K, V> {
        Locked {
            table: self,
            segment: place.segment,
            offset: place.offset,
            index,
            ways,
        }
    }

    /// Locks a set if it was ever used and nobody holds it. Never waits, so it may be called with
    /// other sets locked.
    pub(crate) fn try_lock_index(&self, index: usize) -> Option<Locked<'_, K, V>> {
        let place = self.directory.get(index)?;
        let ways = place.set.ways.try_lock()?;
        Some(self.locked(index, &place, ways))
    }

    /// As [`lock_index`](Self::lock_index), for who does not wait at all.
    fn lock_if_free(&self, inside: &Inside, index: usize) -> Option<Locked<'_, K, V>> {
        match self.directory.get(index) {
            Some(_) => self.try_lock_index(index),
            None => Some(self.lock_index(inside, index)),
        }
    }

    /// As [`lock_index`](Self::lock_index), for who must not wait long.
    pub(crate) fn lock_index_soon(
        &self,
        _inside: &Inside,
        index: usize,
        patience: Duration,
    ) -> Option<Locked<'_, K, V>> {
        let place = self.directory.get(index)?;
        let ways = place.set.ways.try_lock_for(patience)?;
        Some(self.locked(index, &place, ways))
    }

    /// The set at or after `index` that was ever allocated, locked; `None` past the last.
    ///
    /// Walking all sets this way meets every entry that stays resident: a split moves entries to
    /// a set that is yet to come.
    pub(crate) fn lock_next(&self, inside: &Inside, index: usize) -> Option<Locked<'_, K, V>> {
        Some(self.lock_index(inside, self.next_index(index)?))
    }

    /// The first set at or after `index` that was ever allocated; `None` past the last.
    pub(crate) fn next_index(&self, index: usize) -> Option<usize> {
        let (first, _) = self.directory.segment_from(index)?;
        let index = index.max(first);
        (index < self.sets()).then_some(index)
    }

    /// The next set for the clock hand of eviction, which goes round all sets.
    pub(crate) fn turn_hand(&self) -> usize {
        self.hand.fetch_add(1, Relaxed) % self.sets()
    }

    /// Has the hand go on from a set, after those before it were found to have nothing to give.
    pub(crate) fn set_hand(&self, index: usize) {
        self.hand.store(index, Relaxed);
    }
}

/// What a table holds.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    /// Of the entries, as it is counted.
    pub(crate) weight: u64,
    pub(crate) verdicts: u64,
    pub(crate) verdict_weight: u64,
}

impl<K: Eq, V> Table<K, V> {
    /// Checks the invariants of every set and of the hints, and returns what they hold, with what is
    /// `counted` of the weights of entries.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(crate) fn validate(
        &self,
        inside: &Inside,
        hash_of: &dyn Fn(&K) -> KeyHash,
        counted: impl Fn(u64) -> u64,
    ) -> Totals {
        let (mut held, mut next) = (Totals::default(), 0);
        while let Some(set) = self.lock_next(inside, next) {
            set.validate(set.index(), hash_of);
            set.validate_hints();
            held.entries += set.len() as u64;
            held.verdicts += set.verdicts().len() as u64;
            let of_entries = set.iter().map(|(way, _)| counted(set.weight(way)));
            held.weight = of_entries.fold(held.weight, u64::saturating_add);
            let of_verdicts = set.verdicts().iter().map(|verdict| verdict.weight);
            held.verdict_weight = of_verdicts.fold(held.verdict_weight, u64::saturating_add);
            next = set.index() + 1;
        }
        held
    }
}
