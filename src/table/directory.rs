//! Where the sets lie: segments of at most 128 sets, allocated at first touch, never moved.
//!
//! The sets that the table starts with have a directory of their own, so that a bounded cache
//! finds each of its sets with two loads. What is added by growth lies in buckets, each as big as
//! all before it together. So a table of one set allocates one set, a table of any size grows
//! without moving anything, and an empty big table is an empty directory.

use super::hints::raise;
use super::set::Ways;
use crate::sync::{AtomicU64, SpinLock};
use crate::time::{Deadline, NEVER};
use std::iter;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Sets of a segment, where its bucket has that many.
pub(crate) const SEGMENT: usize = 128;

/// Buckets for 2^32 sets, as many as the hash can name.
const BUCKETS: usize = 32;

/// A set behind its lock, on cache lines of its own.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Set<K, V> {
    pub(crate) ways: SpinLock<Ways<K, V>>,
}

/// Where a set lies.
#[derive(Debug)]
pub(crate) struct Place<'t, K, V> {
    pub(crate) segment: &'t Segment<K, V>,
    pub(crate) offset: usize,
    pub(crate) set: &'t Set<K, V>,
}

#[derive(Debug)]
pub(crate) struct Segment<K, V> {
    sets: Box<[Set<K, V>]>,
    /// For each set, a time before which none of its entries expires. Written under the lock of
    /// the set; kept beside each other so that a sweep finds the sets it is for without a lock.
    hints: Box<[AtomicU64]>,
    /// A time before which no entry of the segment expires.
    earliest: AtomicU64,
}

impl<K, V> Segment<K, V> {
    fn new(len: usize, depth: u8) -> Self {
        Self {
            sets: (0..len)
                .map(|_| Set {
                    ways: SpinLock::new(Ways::new(depth)),
                })
                .collect(),
            hints: (0..len).map(|_| AtomicU64::new(NEVER)).collect(),
            earliest: AtomicU64::new(NEVER),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    #[inline(always)]
    fn place(&self, offset: usize) -> Option<Place<'_, K, V>> {
        let set = self.sets.get(offset)?;
        Some(Place {
            segment: self,
            offset,
            set,
        })
    }

    pub(crate) fn earliest(&self) -> Deadline {
        self.earliest.load(Acquire)
    }

    pub(crate) fn hint(&self, offset: usize) -> Deadline {
        self.hints[offset].load(Acquire)
    }

    /// Makes the hint of a set exact. The caller holds the lock of the set.
    pub(crate) fn set_hint(&self, offset: usize, deadline: Deadline) {
        self.hints[offset].store(deadline, Release);
    }

    /// Notes a deadline of a set whose lock the caller holds; says whether it is the set's first.
    #[inline(always)]
    pub(crate) fn note(&self, offset: usize, deadline: Deadline) -> bool {
        let hint = &self.hints[offset];
        if deadline >= hint.load(Relaxed) || deadline >= hint.fetch_min(deadline, AcqRel) {
            return false;
        }
        // A read-modify-write even where it changes nothing: see `raise`.
        self.earliest.fetch_min(deadline, AcqRel);
        true
    }

    /// Lowers the hint of the segment alone.
    pub(crate) fn lower_earliest(&self, deadline: Deadline) {
        self.earliest.fetch_min(deadline, AcqRel);
    }

    /// The sets with something that has expired at `now`, by their hints.
    pub(crate) fn due(&self, now: Deadline) -> impl Iterator<Item = usize> {
        let hints = self.hints.iter().enumerate();
        hints
            .filter(move |(_, hint)| hint.load(Acquire) <= now)
            .map(|(offset, _)| offset)
    }

    /// Raises the hint of the segment to what its sets say, and returns that.
    pub(super) fn refresh(&self) -> Deadline {
        raise(&self.earliest, || {
            let hints = self.hints.iter().map(|hint| hint.load(Acquire));
            hints.min().unwrap_or(NEVER)
        })
    }
}

/// A stretch of the directory: a cell for each segment.
type Cells<K, V> = Box<[OnceLock<Segment<K, V>>]>;

/// The stretches that growth adds.
type Buckets<K, V> = Box<[OnceLock<Cells<K, V>>]>;

#[derive(Debug)]
pub(crate) struct Directory<K, V> {
    /// The sets that the table starts with, a power of two of them.
    first: Cells<K, V>,
    /// How many that are, as a power of two.
    first_bits: u32,
    /// Bucket `b` holds as many sets as there are before it: [`sets_of`](Self::sets_of).
    grown: OnceLock<Buckets<K, V>>,
}

impl<K, V> Directory<K, V> {
    /// A directory that starts with so many sets, a power of two.
    pub(crate) fn new(first_sets: usize) -> Self {
        debug_assert!(first_sets.is_power_of_two());
        Self {
            first: cells(first_sets),
            first_bits: first_sets.ilog2(),
            grown: OnceLock::new(),
        }
    }

    /// Where a set lies that was touched before.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<Place<'_, K, V>> {
        // Past the first sets there is no cell, or no set in the only one.
        if let Some(cell) = self.first.get(index / SEGMENT)
            && let Some(segment) = cell.get()
            && let Some(place) = segment.place(index % SEGMENT)
        {
            return Some(place);
        }
        self.get_grown(index)
    }

    #[inline(always)]
    fn get_grown(&self, index: usize) -> Option<Place<'_, K, V>> {
        let (bucket, within) = self.bucket_of(index)?;
        let cells = self.grown.get()?[bucket].get()?;
        cells[within / SEGMENT].get()?.place(within % SEGMENT)
    }

    /// The bucket of a set that growth has added, and its number there.
    #[inline(always)]
    fn bucket_of(&self, index: usize) -> Option<(usize, usize)> {
        if index >> self.first_bits == 0 {
            return None;
        }
        // The highest bit of an index names the bucket.
        let bits = index.ilog2();
        let bucket = bits - self.first_bits;
        Some((bucket as usize, index ^ (1 << bits)))
    }

    /// The number of sets of a bucket, which is that of all before it.
    fn sets_of(&self, bucket: usize) -> usize {
        1 << (self.first_bits as usize + bucket)
    }

    /// A set, allocated if need be, with sets of `depth`.
    #[inline(always)]
    pub(crate) fn get_or_create(&self, index: usize, depth: u8) -> Place<'_, K, V> {
        self.get(index).unwrap_or_else(|| self.create(index, depth))
    }

    #[cold]
    fn create(&self, index: usize, depth: u8) -> Place<'_, K, V> {
        let (cells, sets, within) = match self.bucket_of(index) {
            None => (&self.first, self.sets_of(0), index),
            Some((bucket, within)) => {
                let sets = self.sets_of(bucket);
                let cells = self.bucket(bucket).get_or_init(|| cells(sets));
                (cells, sets, within)
            }
        };
        let segment =
            cells[within / SEGMENT].get_or_init(|| Segment::new(sets.min(SEGMENT), depth));
        let place = segment.place(within % SEGMENT);
        place.expect("a segment has a set for each number in it")
    }

    fn bucket(&self, bucket: usize) -> &OnceLock<Cells<K, V>> {
        &self
            .grown
            .get_or_init(|| (0..BUCKETS).map(|_| OnceLock::new()).collect())[bucket]
    }

    /// A stretch of the directory and the index of its first set: the first sets, then the buckets.
    fn stretch(&self, number: usize) -> Option<(usize, &Cells<K, V>)> {
        let Some(bucket) = number.checked_sub(1) else {
            return Some((0, &self.first));
        };
        let cells = self.grown.get()?.get(bucket)?.get()?;
        Some((self.sets_of(bucket), cells))
    }

    /// The segments in the order of their sets, each with the index of its first set.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (usize, &Segment<K, V>)> {
        let mut next = 0;
        iter::from_fn(move || {
            let (first, segment) = self.segment_from(next)?;
            next = first + segment.len();
            Some((first, segment))
        })
    }

    /// The segment with the first set at or after `index` that was touched.
    pub(crate) fn segment_from(&self, index: usize) -> Option<(usize, &Segment<K, V>)> {
        let mut number = self.bucket_of(index).map_or(0, |(bucket, _)| bucket + 1);
        loop {
            let (first, cells) = self.stretch(number)?;
            let skipped = index.saturating_sub(first) / SEGMENT;
            for (cell, at) in cells[skipped..].iter().zip(skipped..) {
                if let Some(segment) = cell.get() {
                    return Some((first + at * SEGMENT, segment));
                }
            }
            number += 1;
        }
    }
}

fn cells<K, V>(sets: usize) -> Cells<K, V> {
    (0..sets.div_ceil(SEGMENT))
        .map(|_| OnceLock::new())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_a_place_of_its_own() {
        for first_sets in [1, 2, 64, 256, 1024] {
            let directory = Directory::<u64, u64>::new(first_sets);
            for index in 0..3000 {
                assert!(
                    directory.get(index).is_none_or(|place| place.offset > 0),
                    "{first_sets} {index}"
                );
                let place = directory.get_or_create(index, 0);
                let before = place.segment.hint(place.offset);
                assert_eq!(before, NEVER, "the place of {index} is taken");
                place.segment.set_hint(place.offset, index as u64);
            }
            for index in 0..3000 {
                let place = directory.get(index).unwrap();
                assert_eq!(place.segment.hint(place.offset), index as u64);
            }
            let walked: usize = directory.segments().map(|(_, segment)| segment.len()).sum();
            assert!(walked >= 3000);
        }
    }

    #[test]
    fn only_what_is_touched_is_allocated() {
        let directory = Directory::<u64, u64>::new(1 << 17);
        assert!(directory.get(100_000).is_none());
        let place = directory.get_or_create(100_000, 17);
        assert_eq!(place.set.ways.lock().depth(), 17);
        assert_eq!(directory.segments().count(), 1);
        let (first, segment) = directory.segment_from(0).unwrap();
        assert!((first..first + SEGMENT).contains(&100_000));
        assert_eq!(segment.len(), SEGMENT);
        assert!(directory.segment_from(first).is_some());
        assert!(directory.segment_from(first + SEGMENT).is_none());
    }

    #[test]
    fn a_set_takes_three_cache_lines() {
        #[cfg(not(shuttle))]
        assert_eq!(size_of::<Set<u64, u64>>(), 192);
    }

    #[test]
    fn a_hint_stands_until_it_is_raised_and_what_is_noted_meanwhile_is_not_lost() {
        // By what writers note of a set behind the first look at it, and behind the second.
        for (noted, result) in [
            ([NEVER, NEVER], 100),
            ([50, NEVER], 50),
            ([NEVER, 50], 50),
            ([50, 40], 40),
            ([3, NEVER], 3),
        ] {
            let (hint, of_set) = (AtomicU64::new(5), AtomicU64::new(100));
            let looks = AtomicU64::new(0);
            raise(&hint, || {
                let look = looks.fetch_add(1, Relaxed) as usize;
                assert!(look > 0 || hint.load(Relaxed) == 5, "it stands meanwhile");
                let seen = of_set.load(Relaxed);
                of_set.fetch_min(noted[look], Relaxed);
                hint.fetch_min(noted[look], Relaxed);
                seen
            });
            assert_eq!(hint.load(Relaxed), result, "{noted:?}");
        }
    }
}
