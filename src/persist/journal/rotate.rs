//! Rotation: the writer goes on in a new log, which the manifest lists where it follows on the one
//! before.

use super::Inner;
use super::log::LogFile;
use crate::persist::error::{CommitError, CompactError};
use crate::persist::header::{FileHeader, Kind};

/// The new log, and where it begins.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) generation: u64,
    /// The number before its first.
    pub(super) base: u64,
    /// It follows on the logs before, which are good.
    pub(super) is_continuous: bool,
    /// How many syncs had failed by then: one that fails later concerns the new log.
    pub(super) failures: u64,
    /// How far the wall clock was ahead then: no deadline in the new log is by an earlier one.
    pub(super) ahead: i64,
    /// What was written by another clock before: see [`begin_log`](super::clocks::Clocks::begin_log).
    pub(super) off: u64,
}

impl Inner {
    /// The rotation of the last attempt, if an entry that could not be encoded has ended that, and
    /// its log is as good as a new one: no sync of it has failed, it has all effects from its
    /// beginning on, by the clock of now, and it takes writes.
    pub(super) fn unused_rotation(&self) -> Option<Rotation> {
        let syncing = self.syncing.lock();
        let mut tail = self.tail.lock();
        let unused = tail.unused.take()?;
        let is_good = syncing.failures == unused.failures
            && !self.has_stepped_since(&unused)
            && !self.buffer.has_gap()
            && tail.takes_writes();
        // One that has grown would stay behind the snapshot, all of it.
        let most = self.settings.growth_bytes.min(self.settings.log_limit / 2);
        let is_short = tail.log.as_ref().is_some_and(|log| log.offset < most);
        (is_good && is_short).then_some(unused)
    }

    /// Has the writer go on in a new log.
    pub(super) fn rotate(&self) -> Result<Rotation, CompactError> {
        self.rotate_to(0)
    }

    /// As [`rotate`](Self::rotate), to a log that not every version may be able to read.
    pub(super) fn rotate_to(&self, features: u32) -> Result<Rotation, CompactError> {
        self.check_place()?;
        // Before what waits is written, or what comes in meanwhile would be by an earlier comparison, and
        // in the new log.
        let ahead = self.compare_clocks();
        if self.has_stepped() {
            // What waits has deadlines by the clock of before, and would come behind the snapshot. If
            // it cannot be written the new log has it, as without a step.
            let _ = self.write_through(self.buffer.last());
        }
        // Not while another makes of the catalog a manifest that takes its place.
        let publishing = self.publishing.lock();
        let mut catalog = self.catalog.lock();
        catalog.generation += 1;
        let generation = catalog.generation;
        let manifest = catalog.clone();
        drop(catalog);
        drop(publishing);
        if !self.settings.log {
            let syncing = self.syncing.lock();
            return Ok(Rotation {
                generation,
                base: self.buffer.last(),
                is_continuous: !syncing.is_distrusted,
                failures: syncing.failures,
                ahead,
                off: self.clocks.begin_log(ahead),
            });
        }
        // Before anything else that can fail: who opens the directory has to know.
        self.leave_word()?;
        let header = FileHeader {
            features,
            ..manifest.header(Kind::Log, generation)
        };
        let log = LogFile::create(&*self.storage, &self.dir, &header)?;
        let (has_lost, migrates) = (self.has_lost(), self.tail.lock().migrates);
        if !has_lost && !migrates {
            let durable = self.commits.durable();
            self.publish_manifest(|next| {
                next.logs.push(generation);
                next.durable = durable;
            })?;
        }
        let rotation = self.switch(log, generation, has_lost, ahead)?;
        // What is left of half a frame may just have been found out.
        self.leave_word()?;
        Ok(rotation)
    }

    /// Has the manifest say that a sync failed, as soon as that is found out: a new generation makes
    /// up for it, but that may be minutes away, or never come about, and the process may end before.
    ///
    /// If this fails or panics it is as if the process had been killed here. It is done again by
    /// whatever asks for a sync then, by the next compaction, and by `close`.
    pub(super) fn note_failed_sync(&self) {
        if self.catalog.lock().distrusted {
            return;
        }
        let _: Result<(), CommitError> = self.caught("manifest", || {
            let left = self.leave_word();
            left.map_err(CommitError::from)
        });
    }

    /// Has the manifest say that a sync failed, if it does not. Nothing where the directory is given
    /// free: it may be another's.
    fn leave_word(&self) -> Result<(), CompactError> {
        let publishing = self.publishing.lock();
        let syncing = self.syncing.lock();
        let has_failed = syncing.is_distrusted && syncing.failures > 0;
        drop(syncing);
        let is_said = self.catalog.lock().distrusted;
        if is_said || !has_failed || self.lock.lock().is_none() {
            return Ok(());
        }
        self.replace_manifest(&publishing, |next| next.distrusted = true)
    }

    fn switch(
        &self,
        log: LogFile,
        generation: u64,
        has_lost: bool,
        ahead: i64,
    ) -> Result<Rotation, CompactError> {
        let mut syncing = self.syncing.lock();
        let mut tail = self.tail.lock();
        // A log that follows on half a frame would be cut off with it.
        let cut = self.attempt("compactor", || Ok::<_, CompactError>(tail.cut_back()))?;
        if cut.is_err() {
            // What the new log holds follows on nothing, and may be much newer than what stays
            // behind.
            syncing.fail();
        }
        let has_lost = cut.is_err() || has_lost;
        syncing.is_distrusted |= has_lost;
        tail.go_on_in(log);
        tail.unused = None;
        if has_lost {
            tail.is_unlisted = true;
            tail.skip_to_end(&self.buffer);
        }
        if syncing.is_distrusted {
            tail.unsynced.clear();
        }
        let rotation = Rotation {
            generation,
            base: tail.next - 1,
            is_continuous: !syncing.is_distrusted,
            failures: syncing.failures,
            ahead,
            off: self.clocks.begin_log(ahead),
        };
        drop(tail);
        drop(syncing);
        self.free_room();
        Ok(rotation)
    }
}
