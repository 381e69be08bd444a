//! What may have expired: a time before which nothing does, for each set, each segment and the table.
//!
//! A deadline that is given lowers all three. Raising them takes a look at what they are made of,
//! and is left to those who have cleared something.

use super::{Segment, Table};
use crate::sync::AtomicU64;
use crate::time::{Deadline, NEVER};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

impl<K, V> Table<K, V> {
    /// No entry expires before this.
    pub(crate) fn earliest(&self) -> Deadline {
        self.earliest.load(Acquire)
    }

    /// Notes a deadline of a set whose lock the caller holds.
    #[inline(always)]
    pub(super) fn note(&self, segment: &Segment<K, V>, offset: usize, deadline: Deadline) {
        if deadline != NEVER && segment.note(offset, deadline) {
            self.earliest.fetch_min(deadline, AcqRel);
        }
    }

    /// Notes a set's first deadline, after its hint was made exact.
    pub(super) fn note_first(&self, segment: &Segment<K, V>, deadline: Deadline) {
        if deadline == NEVER {
            return;
        }
        segment.lower_earliest(deadline);
        self.earliest.fetch_min(deadline, AcqRel);
    }

    /// Raises the hint of a segment to what its sets say. The table is told again, since a refresh
    /// of the table may have passed while that of the segment was too late.
    pub(crate) fn refresh_segment(&self, segment: &Segment<K, V>) {
        self.earliest.fetch_min(segment.refresh(), AcqRel);
    }

    /// Raises the hint of the table to what its segments say.
    pub(crate) fn refresh_earliest(&self) {
        raise(&self.earliest, || {
            let segments = self.directory.segments();
            let hints = segments.map(|(_, segment)| segment.earliest());
            hints.min().unwrap_or(NEVER)
        });
    }

    /// The segment with the first set at or after `index` that was ever used.
    pub(crate) fn segment_from(&self, index: usize) -> Option<(usize, &Segment<K, V>)> {
        self.directory.segment_from(index)
    }
}

/// Raises a hint to the `first` of the hints that it is made of, and returns that.
///
/// It is raised in one step, so that nobody is told meanwhile that what has expired has not. What
/// is noted while the hints are looked at may be missed, and is looked for once more. That is sound
/// beside `note`: either its read-modify-write of this hint comes before the exchange here, which
/// then makes the lower hint visible to the second look, or it comes after and lowers what the
/// exchange has stored.
pub(super) fn raise(hint: &AtomicU64, first: impl Fn() -> Deadline) -> Deadline {
    let before = hint.load(Acquire);
    let found = first();
    // Who has lowered it, or raised it, since it was read here has seen to it.
    if found <= before || (hint.compare_exchange(before, found, AcqRel, Relaxed)).is_err() {
        return found;
    }
    let found = first();
    hint.fetch_min(found, AcqRel);
    found
}
