//! Whether the wall clock was set while the directory is open.
//!
//! Deadlines in the files are times of the wall clock as it stood when they were written, and those in
//! memory are of a clock that nobody sets. So when the wall clock is set, what is in the files is off by
//! that, and the next process would take it for right: of what has less time left than the clock was set
//! forward nothing would come back. That is common where a machine has no battery for its clock: the
//! directory is opened, and written anew, hours behind, and then the clock is set. A new generation says
//! it by the clock of now.

use super::Inner;
use crate::persist::wall::{STEP, ahead_of};
use crate::sync::AtomicU64;
use crate::time::Clock;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct Clocks {
    /// How far the wall clock was ahead of the other one when the oldest deadlines that count were
    /// written, in nanoseconds, as two's complement.
    written_by: AtomicU64,
}

impl Clocks {
    /// What was read is believed, or is written anew at opening.
    pub(super) fn new(clock: &Clock) -> Self {
        Self {
            written_by: AtomicU64::new(ahead_of(clock) as u64),
        }
    }

    /// All deadlines in the files were written since this was measured, by [`ahead_of`].
    pub(super) fn are_written_by(&self, ahead: i64) {
        self.written_by.store(ahead as u64, Relaxed);
    }
}

impl Inner {
    /// How far the wall clock is ahead now, and no deadline that is written from now on is by an earlier
    /// comparison.
    pub(super) fn compare_clocks(&self) -> i64 {
        let ahead = ahead_of(&self.settings.clock);
        if let Some(contents) = &*self.contents.lock() {
            contents.compare_clocks();
        }
        ahead
    }

    /// How far the wall clock was ahead when the oldest deadlines that count were written.
    pub(super) fn written_by(&self) -> i64 {
        self.clocks.written_by.load(Relaxed) as i64
    }

    /// Whether the wall clock shows something else now than what deadlines in the files were written
    /// by, and by so much that it is worth to write all of it anew.
    pub(super) fn has_stepped(&self) -> bool {
        self.has_stepped_since(self.written_by())
    }

    /// The same of what was written while it was so far ahead.
    pub(super) fn has_stepped_since(&self, ahead: i64) -> bool {
        ahead_of(&self.settings.clock).abs_diff(ahead) > STEP.as_nanos() as u64
    }
}
