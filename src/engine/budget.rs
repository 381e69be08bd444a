//! The bounds of a cache and what is used of them.
//!
//! Room is reserved before an entry enters the table and given back after it has left, so what is
//! counted is never less than what is resident and never more than the bound.

use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, SeqCst};

/// A bound and what is used of it, on a cache line of its own.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Gauge {
    used: AtomicU64,
    max: AtomicU64,
}

impl Gauge {
    fn new(max: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            max: AtomicU64::new(max),
        }
    }

    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    #[inline]
    pub(crate) fn max(&self) -> u64 {
        self.max.load(Acquire)
    }

    pub(crate) fn set_max(&self, max: u64) {
        self.max.store(max, SeqCst);
    }

    fn is_over(&self) -> bool {
        self.used() > self.max()
    }

    /// The part of what is used that is above the bound.
    fn surplus(&self) -> f64 {
        let (used, max) = (self.used(), self.max());
        match used > max {
            true => (used - max) as f64 / used as f64,
            false => 0.0,
        }
    }

    /// Whether there is so much at the moment. Nothing always is, also above a lowered bound.
    fn is_free(&self, amount: u64) -> bool {
        let sum = self.used().checked_add(amount);
        amount == 0 || sum.is_some_and(|sum| sum <= self.max())
    }

    #[inline(always)]
    fn try_take(&self, amount: u64) -> bool {
        if amount == 0 {
            return true;
        }
        let max = self.max();
        let within = |used: u64| used.checked_add(amount).filter(|sum| *sum <= max);
        let Ok(before) = self.used.fetch_update(SeqCst, Acquire, within) else {
            return false;
        };
        // A bound lowered meanwhile: either this sees it, or who lowered it sees what was taken.
        if before + amount > self.max.load(SeqCst) {
            self.give(amount);
            return false;
        }
        true
    }

    fn give(&self, amount: u64) {
        if amount > 0 {
            self.used.fetch_sub(amount, AcqRel);
        }
    }
}

/// An amount of what is bounded: what an entry takes up, or what a thread holds in reserve.
///
/// The bytes of an entry follow from its weight. Those of a reserve do not: the weight that a heavy
/// entry has left may become the place of a light one, and places may become weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) entries: u64,
    pub(crate) weight: u64,
    /// Zero where they are not bounded.
    pub(crate) bytes: u64,
}

impl Room {
    pub(crate) const NONE: Self = Self {
        entries: 0,
        weight: 0,
        bytes: 0,
    };

    /// Sums saturate: only caches bounded at nearly `u64::MAX` can come near the end.
    #[inline]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            weight: self.weight.saturating_add(other.weight),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is missing of `other` in this; zero where there is enough.
    #[inline]
    pub(crate) fn missing(self, other: Self) -> Self {
        Self {
            entries: other.entries.saturating_sub(self.entries),
            weight: other.weight.saturating_sub(self.weight),
            bytes: other.bytes.saturating_sub(self.bytes),
        }
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        self.missing(other) == Self::NONE
    }
}

#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) entries: Gauge,
    /// Where weights are bounded.
    pub(crate) weight: Option<Gauge>,
    /// Where bytes are.
    pub(crate) memory: Option<Gauge>,
    /// Whether either of the two is there: most caches spare themselves the question.
    is_weighed: bool,
    /// What is not counted of the weight of an entry: nothing where a weigher gives it or weights
    /// are bounded, and all of it where nothing weighs. Where bytes alone are bounded, and nobody
    /// weighs, it is the 1 that stands for the entry: what is beyond that are the bytes of its
    /// tags.
    uncounted: u64,
    /// Bytes that an entry takes up besides what the weigher says.
    pub(crate) overhead: u64,
}

impl Budget {
    pub(crate) fn new(
        entries: Option<u64>,
        weight: Option<u64>,
        memory: Option<u64>,
        overhead: u64,
        has_weigher: bool,
    ) -> Self {
        Self {
            entries: Gauge::new(entries.unwrap_or(u64::MAX)),
            weight: weight.map(Gauge::new),
            memory: memory.map(Gauge::new),
            is_weighed: weight.is_some() || memory.is_some(),
            uncounted: match (weight, memory) {
                (None, None) => u64::MAX,
                (None, Some(_)) if !has_weigher => 1,
                _ => 0,
            },
            overhead,
        }
    }

    /// What an entry of a weight takes up.
    #[inline]
    pub(crate) fn cost(&self, weight: u64) -> Room {
        self.room(1, weight.saturating_sub(self.uncounted))
    }

    /// What so many entries take up that together have this weight, as far as it counts.
    #[inline]
    pub(crate) fn room(&self, entries: u64, weight: u64) -> Room {
        let bytes = match self.memory {
            Some(_) => weight.saturating_add(entries.saturating_mul(self.overhead)),
            None => 0,
        };
        Room {
            entries,
            weight,
            bytes,
        }
    }

    /// Whether the user has a say in what entries weigh.
    pub(crate) fn counts_weights(&self) -> bool {
        self.uncounted == 0
    }

    /// Whether a part of what is there takes up more than one of so many shares of a bound on
    /// weights or bytes.
    pub(crate) fn outweighs(&self, part: Room, shares: u64) -> bool {
        let exceeds = |part: u64, gauge: &Option<Gauge>| {
            let bound = gauge.as_ref().map(Gauge::max);
            bound.is_some_and(|bound| part.saturating_mul(shares) > bound)
        };
        exceeds(part.weight, &self.weight) || exceeds(part.bytes, &self.memory)
    }

    /// Whether so much could ever fit.
    #[inline]
    pub(crate) fn could_fit(&self, room: Room) -> bool {
        room.entries <= self.entries.max() && (!self.is_weighed || self.could_fit_weight(room))
    }

    fn could_fit_weight(&self, room: Room) -> bool {
        // A sum that saturates would not come out the same when it is given back in parts.
        let overhead = room.entries.checked_mul(self.overhead);
        let bytes = overhead.and_then(|overhead| overhead.checked_add(room.weight));
        self.weight
            .as_ref()
            .is_none_or(|gauge| room.weight <= gauge.max())
            && self
                .memory
                .as_ref()
                .is_none_or(|gauge| bytes.is_some_and(|bytes| bytes <= gauge.max()))
    }

    /// How many entries there can be, at most.
    pub(crate) fn most_entries(&self) -> u64 {
        let by_memory = self.memory.as_ref().map(Gauge::max);
        let by_memory = by_memory.map_or(u64::MAX, |max| max / self.overhead);
        self.entries.max().min(by_memory)
    }

    /// Whether there is any bound.
    pub(crate) fn is_bounded(&self) -> bool {
        self.is_weighed || self.entries.max() != u64::MAX
    }

    /// Whether the number of entries is all that is bounded.
    pub(crate) fn counts_entries_only(&self) -> bool {
        !self.is_weighed
    }

    /// Reserves an entry, where nothing else is bounded.
    #[inline]
    pub(crate) fn try_take_entry(&self) -> bool {
        debug_assert!(self.counts_entries_only());
        self.entries.try_take(1)
    }

    /// Reserves all of it or nothing.
    #[inline]
    pub(crate) fn try_take(&self, room: Room) -> bool {
        // What is taken and given back is missing to others meanwhile, who are refused for it. So
        // nothing is taken of one kind where another is short.
        if self.is_weighed && !self.is_free(room) {
            return false;
        }
        if !self.entries.try_take(room.entries) {
            return false;
        }
        if !self.is_weighed || self.try_take_weight(room) {
            return true;
        }
        self.entries.give(room.entries);
        false
    }

    /// Whether there is so much at the moment.
    fn is_free(&self, room: Room) -> bool {
        let has = |gauge: &Option<Gauge>, amount| {
            (gauge.as_ref()).is_none_or(|gauge| gauge.is_free(amount))
        };
        self.entries.is_free(room.entries)
            && has(&self.weight, room.weight)
            && has(&self.memory, room.bytes)
    }

    fn try_take_weight(&self, room: Room) -> bool {
        let takes = |gauge: &Option<Gauge>, amount| match gauge {
            Some(gauge) => gauge.try_take(amount),
            None => true,
        };
        if !takes(&self.weight, room.weight) {
            return false;
        }
        if !takes(&self.memory, room.bytes) {
            self.weight.iter().for_each(|gauge| gauge.give(room.weight));
            return false;
        }
        true
    }

    #[inline]
    pub(crate) fn give(&self, room: Room) {
        self.entries.give(room.entries);
        if self.is_weighed {
            self.weight.iter().for_each(|gauge| gauge.give(room.weight));
            self.memory.iter().for_each(|gauge| gauge.give(room.bytes));
        }
    }

    /// The sum of all weights; the number of entries where nothing is weighed.
    pub(crate) fn total_weight(&self) -> u64 {
        let entries = self.entries.used();
        match (&self.weight, &self.memory) {
            (Some(weight), _) => weight.used(),
            (None, Some(memory)) if self.counts_weights() => memory
                .used()
                .saturating_sub(entries.saturating_mul(self.overhead)),
            (None, _) => entries,
        }
    }

    /// The part of what is used that is above a bound, of the bound that is exceeded most.
    pub(crate) fn surplus(&self) -> f64 {
        let weighed = self.weight.iter().chain(&self.memory);
        weighed
            .map(Gauge::surplus)
            .fold(self.entries.surplus(), f64::max)
    }

    /// Whether a bound was lowered below what is used.
    pub(crate) fn is_over(&self) -> bool {
        self.entries.is_over()
            || self.weight.as_ref().is_some_and(Gauge::is_over)
            || self.memory.as_ref().is_some_and(Gauge::is_over)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn all_bounds_or_none_are_taken() {
        let budget = Budget::new(Some(2), Some(10), Some(1000), 100, true);
        let memory = || budget.memory.as_ref().unwrap().used();
        let light = budget.cost(4);
        assert_eq!(
            (light.entries, light.weight, light.bytes),
            (1, 4, 104),
            "its place counts in bytes"
        );
        assert!(budget.try_take(light));
        assert!(!budget.try_take(budget.cost(7)), "too heavy");
        assert_eq!((budget.entries.used(), memory()), (1, 104));
        assert!(budget.try_take(budget.cost(6)));
        assert!(!budget.try_take(budget.cost(0)), "too many");
        budget.give(light);
        assert!(budget.try_take(budget.cost(0)));
        assert_eq!(memory(), 206);
    }

    #[test]
    fn sums_near_the_end_of_u64_neither_wrap_nor_fit() {
        let budget = Budget::new(None, Some(u64::MAX), None, 100, true);
        let heaviest = budget.cost(u64::MAX);
        assert!(budget.could_fit(heaviest));
        assert!(budget.try_take(heaviest));
        assert!(!budget.try_take(budget.cost(1)));
        budget.give(heaviest);
        assert!(budget.try_take(budget.cost(1)));
        let by_memory = Budget::new(None, None, Some(u64::MAX), 100, true);
        assert!(
            !by_memory.could_fit(by_memory.cost(u64::MAX)),
            "with its overhead, it is more"
        );
        assert!(by_memory.could_fit(by_memory.cost(u64::MAX - 100)));
    }
}
