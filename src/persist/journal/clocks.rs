//! Whether the wall clock was set while the directory is open.
//!
//! Deadlines in the files are times of the wall clock as it stood when they were written, and those in
//! memory are of a clock that nobody sets. So when the wall clock is set, what is in the files is off by
//! that, and the next process would take it for right: of what has less time left than the clock was set
//! forward nothing would come back. That is common where a machine has no battery for its clock: the
//! directory is opened, and written anew, hours behind, and then the clock is set. A new generation says
//! it by the clock of now.

use super::Inner;
use super::rotate::Rotation;
use crate::persist::made_by::MadeBy;
use crate::persist::wall::{ahead_of, has_moved_since, is_step, now_ms_by};
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct Clocks {
    /// How far the wall clock was ahead of the other one when the oldest deadlines that count were
    /// written, in nanoseconds, as two's complement.
    written_by: AtomicU64,
    /// The same of when the log was begun that is written to.
    log_by: AtomicU64,
    /// How often something was written, or encoded for a snapshot, with times that were made while it was
    /// far from that. They are off, also when the clock is right again, or was by the time they were written.
    off: AtomicU64,
    /// For so many of these times a snapshot has made up.
    made_up: AtomicU64,
}

impl Clocks {
    /// What was read is believed, or, if it is off, is to be written anew.
    pub(super) fn new(ahead: i64, is_off: bool) -> Self {
        Self {
            written_by: AtomicU64::new(ahead as u64),
            log_by: AtomicU64::new(ahead as u64),
            off: AtomicU64::new(is_off.into()),
            made_up: AtomicU64::new(0),
        }
    }

    /// How often something was written with times that are off.
    pub(super) fn off(&self) -> u64 {
        self.off.load(Relaxed)
    }

    /// All deadlines in the files were written since the rotation.
    pub(super) fn are_written_since(&self, rotation: &Rotation) {
        self.written_by.store(rotation.ahead as u64, Relaxed);
        self.made_up.store(rotation.off, Relaxed);
    }

    /// A log is begun. Says how much was off before: a snapshot that is walked from now on makes up for
    /// that.
    pub(super) fn begin_log(&self, ahead: i64) -> u64 {
        self.log_by.store(ahead as u64, Relaxed);
        if is_step(ahead, self.written_by.load(Relaxed) as i64) {
            // What is written to it is off as well, until a snapshot by its clock counts: that may fail,
            // and the clock be right again by then.
            self.off.fetch_add(1, Relaxed);
        }
        self.off()
    }
}

impl Inner {
    /// The wall time of now, for what is about to be written, and by which comparison it was made.
    pub(super) fn wall_time(&self) -> (u64, MadeBy) {
        let clock = &self.settings.clock;
        let ahead = ahead_of(clock);
        (now_ms_by(ahead, clock), MadeBy::one(ahead))
    }

    /// Times are in the log that is written to, or encoded for a snapshot, which were made so. Says whether
    /// any is off.
    pub(super) fn note_times(&self, made_by: MadeBy) -> bool {
        let is_off = made_by.is_step_from(self.clocks.log_by.load(Relaxed) as i64);
        if is_off {
            self.clocks.off.fetch_add(1, Relaxed);
        }
        is_off
    }

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

    /// Whether deadlines in the files are, or were written, by another clock than that of now, and by so
    /// much that it is worth to write all of it anew.
    pub(super) fn has_stepped(&self) -> bool {
        let is_made_up = self.clocks.made_up.load(Relaxed) == self.clocks.off();
        !is_made_up || self.has_moved_since(self.written_by())
    }

    /// The same of what was written since a rotation.
    pub(super) fn has_stepped_since(&self, rotation: &Rotation) -> bool {
        self.clocks.off() != rotation.off || self.has_moved_since(rotation.ahead)
    }

    fn has_moved_since(&self, ahead: i64) -> bool {
        has_moved_since(ahead, &self.settings.clock)
    }
}
