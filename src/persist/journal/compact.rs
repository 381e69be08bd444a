//! Compaction: a new snapshot and a new log, while writes go on.
//!
//! 1. A new log is created and listed in the manifest, and the writer goes on in it. All before it
//!    is in memory, so a walk that begins now sees it.
//! 2. The sets are walked one by one, each under its own lock: the snapshot holds everything up to
//!    its `base`, and some of what came during the walk, up to its `end`.
//! 3. The log is made durable up to `end`: were its tail lost, the snapshot would show parts of a
//!    state that never was.
//! 4. The snapshot is synced and given its name, and the name is synced.
//! 5. The manifest lists the new files alone. Only then the old ones are removed.
//!
//! The same makes up for a failed sync, and for effects that could not be logged: memory holds the
//! truth. After effects were lost the new log is not listed before the snapshot is, since it does
//! not follow on the old one. Nor is it where the files are of another schema version, since who
//! can read those cannot read it.
//!
//! Where an entry cannot be encoded that mostly stays so, and each attempt would list one more log.
//! So the next one walks again for the log of the last. Its snapshot is of later then, and holds
//! more of what came behind its `base`: to replay that from the log changes nothing.

use super::retry::Attempts;
use super::rotate::Rotation;
use super::{Inner, Trouble};
use crate::persist::contents::Contents;
use crate::persist::error::{CompactError, DiskError, WriteError};
use crate::persist::manifest::{Manifest, Name, Snapshot};
use crate::persist::report::CompactReport;
use crate::reentrancy;
use crate::sync::MutexGuard;
use crate::time::wake_all;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How many snapshots are made, at most, until the wall clock is not set during one. After that, one that
/// is wrong for some is better than none; its times are written anew by the compaction that is due then.
/// For a backup as many.
pub(super) const ATTEMPTS: u32 = 3;

/// The only compaction or backup. What it wakes is woken by the writer, or when it is over: that
/// may call for it.
pub(super) struct Alone<'a> {
    inner: &'a Inner,
    compacting: Option<MutexGuard<'a, Attempts>>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.inner.commits.let_go();
        self.compacting = None;
        wake_all(self.inner.commits.take_held());
    }
}

impl Inner {
    pub(super) fn compact(&self) -> Result<CompactReport, CompactError> {
        match self.gate.reason() {
            Some(WriteError::Closed) => Err(CompactError::Closed),
            Some(WriteError::ReadOnly) => Err(CompactError::ReadOnly),
            _ => self.compact_closing(),
        }
    }

    /// As [`compact`](Self::compact), also after the gate was shut.
    pub(super) fn compact_closing(&self) -> Result<CompactReport, CompactError> {
        if reentrancy::is_inside() {
            // No set could be walked, and a snapshot without them would be one of nothing.
            return Err(CompactError::Reentrant);
        }
        let mut alone = self.alone();
        let contents = self.contents.lock().clone();
        let contents = contents.ok_or_else(|| {
            let ended = self.ended();
            ended.map_or(CompactError::Closed, CompactError::of_step)
        })?;
        let start = Instant::now();
        self.demand.begin();
        let made = self.attempt("compactor", || self.make_generation(&*contents));
        self.now.lock().compaction = None;
        alone.ended(made.is_ok(), start.elapsed());
        self.demand.ended(made.is_ok());
        match &made {
            Ok(_) => {
                self.counts.compactions.fetch_add(1, Relaxed);
                if !self.needs_generation() {
                    self.now.lock().trouble = None;
                }
            }
            Err(error) => {
                self.counts.compaction_failures.fetch_add(1, Relaxed);
                let trouble = Trouble {
                    said: error.to_string(),
                    is_passing: self.settings.log && !self.is_due(),
                };
                self.now.lock().note_trouble(trouble);
                self.generation_failed(error);
                self.note_failed_sync();
            }
        }
        made
    }

    /// Waits until no compaction and no backup is being made, and keeps others from beginning.
    pub(super) fn alone(&self) -> Alone<'_> {
        let compacting = Some(self.compacting.lock());
        self.commits.hold();
        Alone {
            inner: self,
            compacting,
        }
    }

    fn generation_failed(&self, error: &CompactError) {
        let disk = match error {
            CompactError::Disk(error) => error.clone(),
            CompactError::Encode(_) => {
                let said = io::Error::other(error.to_string());
                DiskError::new("write", &self.dir.join("a new snapshot"), said)
            }
            _ => return,
        };
        if self.has_lost() {
            self.gate.snapshot_is(Some(disk));
        }
        // Without a log who waits has nothing else to wait for.
        if self.needs_generation() || !self.settings.log {
            let through = self.buffer.last();
            self.commits.fail(through, error.clone().into());
        }
    }

    fn make_generation(&self, contents: &dyn Contents) -> Result<CompactReport, CompactError> {
        let start = Instant::now();
        let (rotation, snapshot, entries) = self.snapshot_by_one_clock(contents)?;
        let freed = self.publish(snapshot, &rotation)?;
        self.clocks.are_written_since(&rotation);
        Ok(CompactReport {
            generation: rotation.generation,
            entries,
            bytes: snapshot.bytes,
            freed,
            last_seq: snapshot.end,
            took: start.elapsed(),
        })
    }

    /// A new log, and a snapshot that counts as soon as it is listed.
    ///
    /// If the wall clock is set meanwhile, the first deadlines in it are by another clock than the last,
    /// and than the time that its frames say. So it is not for use, and one more is made.
    fn snapshot_by_one_clock(
        &self,
        contents: &dyn Contents,
    ) -> Result<(Rotation, Snapshot, u64), CompactError> {
        let mut left = ATTEMPTS;
        loop {
            let rotation = match self.unused_rotation() {
                Some(unused) => unused,
                None => self.rotate()?,
            };
            let made = self.snapshot_behind(rotation, contents)?;
            left -= 1;
            if left == 0 || !self.has_stepped_since(&made.0) {
                return Ok(made);
            }
            let path = Name::Snapshot(made.0.generation).in_dir(&self.dir);
            self.remove_if_ours(&path);
        }
    }

    fn snapshot_behind(
        &self,
        rotation: Rotation,
        contents: &dyn Contents,
    ) -> Result<(Rotation, Snapshot, u64), CompactError> {
        let temporary = self.temporary(rotation.generation);
        let error = match self.write_snapshot(&rotation, contents, &temporary) {
            Ok((snapshot, entries)) => return Ok((rotation, snapshot, entries)),
            Err(error) => error,
        };
        self.remove_if_ours(&temporary);
        if matches!(error, CompactError::Encode(_)) && self.settings.log {
            self.tail.lock().unused = Some(rotation);
        }
        Err(error)
    }

    /// Removes what counts for nothing, since the space is wanted. If it stays it is removed later.
    fn remove_if_ours(&self, path: &Path) {
        let is_ours = self.check_place().is_ok();
        let _ = is_ours.then(|| self.storage.remove(path));
    }

    pub(super) fn publish_manifest(
        &self,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), CompactError> {
        self.replace_manifest(&self.publishing.lock(), change)
    }

    /// Has the next manifest say what the last one does, but for a change.
    pub(super) fn replace_manifest(
        &self,
        _publishing: &MutexGuard<'_, ()>,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), CompactError> {
        self.check_place()?;
        let mut next = self.catalog.lock().clone();
        change(&mut next);
        // A version that failed may have come through all the same.
        self.catalog.lock().version += 1;
        next.publish(&*self.storage, &self.dir)?;
        *self.catalog.lock() = next;
        Ok(())
    }

    /// Has the new files count, and says how many bytes that freed.
    fn publish(&self, snapshot: Snapshot, rotation: &Rotation) -> Result<u64, CompactError> {
        // Until it is known here, too, what it says: nobody is to leave word of what it makes up for.
        let publishing = self.publishing.lock();
        self.replace_manifest(&publishing, |next| {
            next.take_over(snapshot, self.kept(rotation), self.settings.log);
            // What the new log holds behind the snapshot is no better than the syncs of it.
            next.distrusted = self.syncing.lock().failures != rotation.failures;
        })?;
        let next = self.catalog.lock().clone();
        let mut syncing = self.syncing.lock();
        let mut tail = self.tail.lock();
        syncing.is_distrusted = syncing.failures != rotation.failures;
        (tail.is_unlisted, tail.migrates) = (false, false);
        // What is removed needs no sync, and would keep its space for as long as it is open.
        let listed: Vec<_> = next.files().map(|name| self.dir.join(name)).collect();
        tail.unsynced.retain(|log| listed.contains(&log.path));
        let is_distrusted = syncing.is_distrusted;
        let written = tail.log.as_ref().map(|log| (tail.next - 1, log.offset));
        let (written, log_bytes) = written.unwrap_or((snapshot.end, 0));
        // Under the lock of who writes: what was written before is not counted afterwards.
        self.log_bytes.store(log_bytes, Relaxed);
        self.gate.log_limit_is(None);
        self.gate.snapshot_is(None);
        // What could not be written before is in the snapshot; if it still cannot, that shows soon.
        self.gate.log_is(None);
        drop(tail);
        drop(syncing);
        drop(publishing);
        if is_distrusted {
            self.compactor.ring();
            // Who found that out meanwhile may have seen that the old one says so already.
            self.note_failed_sync();
        }
        self.commits.synced(snapshot.end);
        self.commits.wrote(written);
        // For what came behind the snapshot.
        self.syncer.ring();
        self.now.lock().last_sync = Some(self.settings.clock.system_time());
        // A manifest that is being written has no name that is listed.
        let _publishing = self.publishing.lock();
        Ok(self.clear_away(&next))
    }

    /// How many snapshots are kept. What does not follow on the old files replaces them all.
    fn kept(&self, rotation: &Rotation) -> usize {
        if rotation.is_continuous {
            self.settings.generations.max(1)
        } else {
            1
        }
    }
}

impl Alone<'_> {
    fn ended(&mut self, well: bool, took: Duration) {
        if let Some(attempts) = &mut self.compacting {
            attempts.ended(well, took);
        }
    }
}
