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

use super::log::LogFile;
use super::retry::Attempts;
use super::{Inner, Trouble};
use crate::contain;
use crate::persist::contents::Contents;
use crate::persist::effect::{Effects, Unencodable};
use crate::persist::error::{CommitError, CompactError, DiskError, WriteError};
use crate::persist::frame::{self, HEADER, Stamp};
use crate::persist::header::{self, Kind};
use crate::persist::manifest::{Manifest, Name, Snapshot};
use crate::persist::recovery::Bounds;
use crate::persist::report::CompactReport;
use crate::persist::settings::{Point, RecoveryMode, wall_ms};
use crate::persist::storage::{Blob, write_all};
use crate::reentrancy;
use crate::sync::MutexGuard;
use crate::time::wake_all;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// More logs than these behind the newest snapshot are worth a compaction, whatever their lengths.
const MANY_LOGS: usize = 50;

/// The new log, and where it begins.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) generation: u64,
    /// The number before its first.
    pub(super) base: u64,
    /// It follows on the logs before, which are good.
    pub(super) is_continuous: bool,
    /// How many syncs had failed by then: one that fails later concerns the new log.
    failures: u64,
}

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
        if self.needs_generation() {
            let through = self.buffer.last();
            self.commits.fail(through, error.clone().into());
        }
    }

    fn make_generation(&self, contents: &dyn Contents) -> Result<CompactReport, CompactError> {
        let start = Instant::now();
        let rotation = match self.unused_rotation() {
            Some(unused) => unused,
            None => self.rotate()?,
        };
        let temporary = self.temporary(rotation.generation);
        let (snapshot, entries) = match self.write_snapshot(&rotation, contents, &temporary) {
            Ok(written) => written,
            Err(error) => {
                // It counts for nothing, and the space is wanted. If it stays it is removed later.
                let is_ours = self.check_place().is_ok();
                let _ = is_ours.then(|| self.storage.remove(&temporary));
                if matches!(error, CompactError::Encode(_)) && self.settings.log {
                    self.tail.lock().unused = Some(rotation);
                }
                return Err(error);
            }
        };
        let freed = self.publish(snapshot, &rotation)?;
        Ok(CompactReport {
            generation: rotation.generation,
            entries,
            bytes: snapshot.bytes,
            freed,
            last_seq: snapshot.end,
            took: start.elapsed(),
        })
    }

    /// The rotation of the last attempt, if an entry that could not be encoded has ended that, and
    /// its log is as good as a new one: no sync of it has failed, it has all effects from its
    /// beginning on, and it takes writes.
    fn unused_rotation(&self) -> Option<Rotation> {
        let syncing = self.syncing.lock();
        let mut tail = self.tail.lock();
        let unused = tail.unused.take()?;
        let is_good =
            syncing.failures == unused.failures && !self.buffer.has_gap() && tail.takes_writes();
        // One that has grown would stay behind the snapshot, all of it.
        let most = self.settings.growth_bytes.min(self.settings.log_limit / 2);
        let is_short = tail.log.as_ref().is_some_and(|log| log.offset < most);
        (is_good && is_short).then_some(unused)
    }

    /// Has the writer go on in a new log.
    pub(super) fn rotate(&self) -> Result<Rotation, CompactError> {
        self.check_place()?;
        let mut catalog = self.catalog.lock();
        catalog.generation += 1;
        let generation = catalog.generation;
        let mut next = catalog.clone();
        drop(catalog);
        if !self.settings.log {
            let syncing = self.syncing.lock();
            return Ok(Rotation {
                generation,
                base: self.buffer.last(),
                is_continuous: !syncing.is_distrusted,
                failures: syncing.failures,
            });
        }
        // Before anything else that can fail: who opens the directory has to know.
        self.leave_word(&mut next)?;
        let log = LogFile::create(&*self.storage, &self.dir, &next, generation)?;
        let (has_lost, migrates) = (self.has_lost(), self.tail.lock().migrates);
        if !has_lost && !migrates {
            next.logs.push(generation);
            next.durable = self.commits.durable();
            self.publish_manifest(&mut next)?;
        }
        let rotation = self.switch(log, generation, has_lost)?;
        // A sync of the old log may have failed meanwhile.
        self.leave_word(&mut next)?;
        Ok(rotation)
    }

    /// Has the manifest say that a sync failed, where no new generation makes up for that: it
    /// failed to come about, a panic keeps it from being begun, or the directory is given free
    /// before. For who is [`alone`](Self::alone), and owns the directory.
    ///
    /// If this fails or panics it is as if the process had been killed here. It is done again by
    /// the next compaction, if there will be one, and by `close`.
    pub(super) fn note_failed_sync(&self) {
        let mut next = self.catalog.lock().clone();
        let _: Result<(), CommitError> = self.caught("manifest", || {
            let left = self.leave_word(&mut next);
            left.map_err(CommitError::from)
        });
    }

    /// Has the manifest say that a sync failed, if it does not.
    fn leave_word(&self, next: &mut Manifest) -> Result<(), CompactError> {
        let syncing = self.syncing.lock();
        let has_failed = syncing.is_distrusted && syncing.failures > 0;
        drop(syncing);
        if next.distrusted || !has_failed {
            return Ok(());
        }
        next.distrusted = true;
        self.publish_manifest(next)
    }

    fn switch(
        &self,
        log: LogFile,
        generation: u64,
        has_lost: bool,
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
        };
        drop(tail);
        drop(syncing);
        self.free_room();
        Ok(rotation)
    }

    pub(super) fn publish_manifest(&self, next: &mut Manifest) -> Result<(), CompactError> {
        self.check_place()?;
        // A version that failed may have come through all the same.
        self.catalog.lock().version += 1;
        next.publish(&*self.storage, &self.dir)?;
        *self.catalog.lock() = next.clone();
        Ok(())
    }

    fn temporary(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{}.tmp", Name::Snapshot(generation)))
    }

    fn write_snapshot(
        &self,
        rotation: &Rotation,
        contents: &dyn Contents,
        temporary: &Path,
    ) -> Result<(Snapshot, u64), CompactError> {
        self.check_place()?;
        let mut sink = self.begin_snapshot(rotation, contents.len(), temporary)?;
        contents.write_labels(&mut sink.effects);
        let (mut position, mut left_out) = (Some(0), 0);
        while let Some(at) = position {
            self.now.lock().compaction = Some(at);
            let walked = contained(|| contents.write_set(at, &mut sink.effects))?;
            position = walked.next;
            left_out += walked.left_out;
            sink.frame_if_enough()?;
            self.check_not_in_vain(rotation)?;
        }
        sink.frame()?;
        // Most of them were counted when they came, and are left out of each snapshot.
        self.counts.unencodable.fetch_max(left_out, Relaxed);
        let end = if self.settings.log {
            self.buffer.last()
        } else {
            rotation.base
        };
        let bounds = Bounds {
            base: rotation.base,
            end,
            entries: sink.entries,
        };
        sink.put(frame::Kind::End, 0, &bounds.encode())?;
        sink.write()?;
        if self.settings.log {
            self.make_durable(end, rotation)?;
            // Who waited for that is not to wait for the snapshot, too: the writer wakes them.
            self.writer.ring();
        }
        sink.blob.sync().map_err(DiskError::of("sync", temporary))?;
        let path = Name::Snapshot(rotation.generation).in_dir(&self.dir);
        self.check_place()?;
        self.storage
            .rename(temporary, &path)
            .map_err(DiskError::of("rename", temporary))?;
        self.storage
            .sync_dir(&self.dir)
            .map_err(DiskError::of("sync", &self.dir))?;
        let snapshot = Snapshot {
            generation: rotation.generation,
            base: rotation.base,
            end,
            wall_ms: self.time_of_state(end),
            bytes: sink.written,
        };
        Ok((snapshot, sink.entries))
    }

    /// The time for which a state counts when a point in time is looked for. What was gone back to a
    /// time, and has not been written to since, is still the state of that time: so who opens it at
    /// the same time again finds it.
    fn time_of_state(&self, end: u64) -> u64 {
        let now = self.settings.wall_ms();
        match self.settings.mode {
            RecoveryMode::PointInTime(Point::Time(time)) if end == self.opened_at => {
                now.min(wall_ms(time))
            }
            _ => now,
        }
    }

    /// Ends the walk when a sync has failed that the snapshot will not make up for. So the manifest
    /// says so now, for who opens the directory next, and not when all is walked; and another
    /// begins.
    fn check_not_in_vain(&self, rotation: &Rotation) -> Result<(), CompactError> {
        // Not worth to wait for one that is under way.
        let failures = self.syncing.try_lock().map(|syncing| syncing.failures);
        match failures {
            Some(failures) if failures != rotation.failures => {
                Err(CompactError::of_step(self.distrust()))
            }
            _ => Ok(()),
        }
    }

    fn begin_snapshot(
        &self,
        rotation: &Rotation,
        entries: u64,
        path: &Path,
    ) -> Result<Sink, DiskError> {
        let blob = self
            .storage
            .create(path)
            .map_err(DiskError::of("create", path))?;
        let header = self
            .catalog
            .lock()
            .header(Kind::Snapshot, rotation.generation);
        write_all(&*blob, &header.encode(), 0).map_err(DiskError::of("write", path))?;
        let mut sink = Sink {
            blob,
            path: path.to_owned(),
            salt: header.salt,
            wall_ms: self.settings.wall_ms(),
            written: header::LENGTH as u64,
            index: 0,
            entries: 0,
            effects: Effects::new(),
            frames: Vec::new(),
        };
        let bounds = Bounds {
            base: rotation.base,
            end: 0,
            entries,
        };
        sink.put(frame::Kind::Snapshot, 0, &bounds.encode())?;
        Ok(sink)
    }

    /// Makes the log durable up to the end of the snapshot.
    fn make_durable(&self, end: u64, rotation: &Rotation) -> Result<(), CompactError> {
        self.write_through(end).map_err(CompactError::of_step)?;
        if self.buffer.has_gap() || self.tail.lock().next <= end {
            let error = io::Error::other("more was written than the disk took meanwhile");
            return Err(DiskError::new("write", &self.dir, error).into());
        }
        let syncing = self.syncing.lock();
        if !syncing.is_distrusted {
            drop(syncing);
            return self.sync_step().map_err(CompactError::of_step);
        }
        if syncing.failures != rotation.failures {
            return Err(CompactError::of_step(self.distrust()));
        }
        // The new log is as good as its own syncs; those before it do not count any more.
        let (files, _) = self.tail.lock().files();
        let synced = self.sync_files(syncing, &files);
        synced.map(drop).map_err(CompactError::of_step)
    }

    /// Has the new files count, and says how many bytes that freed.
    fn publish(&self, snapshot: Snapshot, rotation: &Rotation) -> Result<u64, CompactError> {
        let mut next = self.catalog.lock().clone();
        next.take_over(snapshot, self.kept(rotation), self.settings.log);
        // What the new log holds behind the snapshot is no better than the syncs of it.
        next.distrusted = self.syncing.lock().failures != rotation.failures;
        self.publish_manifest(&mut next)?;
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
        if is_distrusted {
            self.compactor.ring();
        }
        self.commits.synced(snapshot.end);
        self.commits.wrote(written);
        // For what came behind the snapshot.
        self.syncer.ring();
        self.now.lock().last_sync = Some(self.settings.clock.system_time());
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

    /// Whether the log alone will not make anything durable any more.
    pub(super) fn needs_generation(&self) -> bool {
        self.is_distrusted() || self.has_lost()
    }

    fn is_distrusted(&self) -> bool {
        self.syncing.lock().is_distrusted
    }

    /// Whether there are effects that are in no listed log.
    fn has_lost(&self) -> bool {
        self.settings.log && (self.buffer.has_gap() || self.tail.lock().is_unlisted)
    }

    pub(super) fn is_log_large(&self) -> bool {
        let newest = self.catalog.lock().newest();
        // Where nothing has come since, the next snapshot would be the same.
        if self.buffer.last() <= newest.map_or(0, |snapshot| snapshot.end) {
            return false;
        }
        let snapshot = newest.map_or(0, |snapshot| snapshot.bytes);
        let growth = snapshot.saturating_mul(self.settings.growth_percent) / 100;
        // A log that reached its limit before it was worth compacting would stay there for ever.
        let most = (self.settings.log_limit / 2).max(1);
        let threshold = growth.max(self.settings.growth_bytes).min(most);
        self.log_bytes.load(Relaxed) >= threshold || self.has_many_logs()
    }

    /// Each backup begins a log, and each log takes its time at opening, however short it is.
    fn has_many_logs(&self) -> bool {
        let catalog = self.catalog.lock();
        let first = catalog.newest().map_or(0, |snapshot| snapshot.generation);
        catalog.logs.iter().filter(|log| **log >= first).count() > MANY_LOGS
    }

    /// Whether a compaction is needed, so that one that fails is tried again.
    fn is_due(&self) -> bool {
        self.needs_generation() || (self.settings.log && self.is_log_large())
    }

    /// How long the compactor has to wait, `None` until it is rung for.
    pub(super) fn time_to_compaction(&self) -> Option<Duration> {
        let compacting = self.compacting.lock();
        let since = compacting.since_last();
        let pause = compacting.pause(self.demand.is_wanted());
        let pause = pause.saturating_sub(since);
        drop(compacting);
        if self.is_due() {
            return Some(pause);
        }
        if self.settings.log {
            return None;
        }
        let every = self.settings.dump_every?;
        let left = every.saturating_sub(since);
        // With nothing to dump it looks again an interval later.
        let is_idle = self.buffer.last() <= self.commits.durable();
        Some(if is_idle {
            left.max(every)
        } else {
            left.max(pause)
        })
    }
}

impl Alone<'_> {
    fn ended(&mut self, well: bool, took: Duration) {
        if let Some(attempts) = &mut self.compacting {
            attempts.ended(well, took);
        }
    }
}

/// Runs code of the user's for a snapshot. Of files that count none but a log that was begun
/// is new so far, so a panic means no more than an error: that there is no snapshot.
fn contained<R>(walk: impl FnOnce() -> Result<R, Unencodable>) -> Result<R, CompactError> {
    let walked = contain::said(walk).map_err(|panic| format!("it panics: {panic}"));
    let walked = walked.and_then(|walked| walked.map_err(|error| error.reason));
    walked.map_err(CompactError::Encode)
}

impl Manifest {
    /// Lists a new snapshot, and no more of the old files than are to be kept.
    fn take_over(&mut self, snapshot: Snapshot, kept: usize, has_log: bool) {
        self.snapshots.push(snapshot);
        self.durable = snapshot.end;
        // The beginning counts as a generation, where a log leads on from it.
        self.from_start &= has_log && self.snapshots.len() < kept;
        if !has_log {
            // Without a log nothing makes those whole of which parts came while they were made.
            self.snapshots.retain(|listed| listed.base == listed.end);
        }
        let surplus = self.snapshots.len().saturating_sub(kept);
        self.snapshots.drain(..surplus);
        if !self.from_start {
            let oldest = self.snapshots[0].generation;
            self.logs.retain(|log| *log >= oldest);
        }
        if !has_log {
            self.logs.clear();
        } else if self.logs.last() != Some(&snapshot.generation) {
            self.logs.push(snapshot.generation);
        }
    }
}

/// A snapshot that is being written.
struct Sink {
    blob: Arc<dyn Blob>,
    path: PathBuf,
    salt: u32,
    wall_ms: u64,
    /// How much of the file is written.
    written: u64,
    /// The number of the next frame.
    index: u64,
    entries: u64,
    effects: Effects,
    /// Frames that are to be written.
    frames: Vec<u8>,
}

/// Damage costs a salvage a whole frame. So they are small, and in a small snapshot smaller, down
/// to where their headers would be much beside them.
const FRAME: RangeInclusive<usize> = 1 << 10..=16 << 10;

/// What is written of the snapshot, for each byte of a frame.
const SHARE: u64 = 16;

/// How much is written in one go.
const WRITE: usize = 256 << 10;

impl Sink {
    /// Makes frames of the effects, if they are enough for one.
    fn frame_if_enough(&mut self) -> Result<(), DiskError> {
        let length = self.effects.bytes().len();
        if length < *FRAME.start() || length < self.enough() {
            return Ok(());
        }
        self.frame()
    }

    /// How many bytes are enough for a frame. It has less than twice as many, but for an entry that
    /// has more.
    fn enough(&self) -> usize {
        let share = (self.written + self.frames.len() as u64) / SHARE;
        usize::try_from(share).map_or(*FRAME.end(), |share| {
            share.clamp(*FRAME.start(), *FRAME.end())
        })
    }

    fn frame(&mut self) -> Result<(), DiskError> {
        let effects = std::mem::take(&mut self.effects);
        // A set of large values is more than one.
        let (length, enough) = (effects.bytes().len(), self.enough());
        let limit = if length < 2 * enough { length } else { enough };
        for (count, payload) in effects.parts(limit) {
            self.entries += u64::from(count);
            self.put(frame::Kind::Snapshot, count, payload)?;
        }
        self.effects = effects;
        self.effects.clear();
        Ok(())
    }

    fn put(&mut self, kind: frame::Kind, count: u32, payload: &[u8]) -> Result<(), DiskError> {
        let stamp = Stamp {
            kind,
            count,
            first: self.index,
            durable: 0,
            wall_ms: self.wall_ms,
        };
        let start = self.frames.len();
        self.frames.resize(start + HEADER, 0);
        self.frames.extend_from_slice(payload);
        frame::seal(&mut self.frames[start..], stamp, self.salt);
        self.index += 1;
        if self.frames.len() >= WRITE {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), DiskError> {
        write_all(&*self.blob, &self.frames, self.written)
            .map_err(DiskError::of("write", &self.path))?;
        self.written += self.frames.len() as u64;
        self.frames.clear();
        Ok(())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::persist::header::{CodecId, StoreId};

    /// What is listed after each of several compactions: from the beginning, snapshots, logs.
    fn listed(kept: usize, has_log: bool) -> Vec<(bool, Vec<u64>, Vec<u64>)> {
        let mut manifest = Manifest::new(StoreId(1), CodecId(*b"test"), 0);
        manifest.logs.push(1);
        let generations = (2..6).map(|generation| {
            let snapshot = Snapshot {
                generation,
                base: generation - u64::from(has_log),
                end: generation,
                ..Snapshot::default()
            };
            manifest.take_over(snapshot, kept, has_log);
            assert_eq!(manifest.durable, generation);
            let snapshots = manifest.snapshots.iter().map(|at| at.generation);
            (
                manifest.from_start,
                snapshots.collect(),
                manifest.logs.clone(),
            )
        });
        generations.collect()
    }

    #[test]
    fn as_many_snapshots_are_kept_as_are_asked_for_with_the_logs_from_the_oldest_on() {
        let is = |at: &[(bool, &[u64], &[u64])]| -> Vec<_> {
            let all = at.iter();
            all.map(|(start, snapshots, logs)| (*start, snapshots.to_vec(), logs.to_vec()))
                .collect()
        };
        assert_eq!(
            listed(1, true),
            is(&[
                (false, &[2], &[2]),
                (false, &[3], &[3]),
                (false, &[4], &[4]),
                (false, &[5], &[5]),
            ])
        );
        assert_eq!(
            listed(3, true),
            is(&[
                (true, &[2], &[1, 2]),
                (true, &[2, 3], &[1, 2, 3]),
                (false, &[2, 3, 4], &[2, 3, 4]),
                (false, &[3, 4, 5], &[3, 4, 5]),
            ])
        );
        assert_eq!(listed(3, false)[0], (false, vec![2], vec![]));
        assert_eq!(listed(2, false)[3], (false, vec![4, 5], vec![]));
    }

    #[test]
    fn a_snapshot_that_is_whole_only_with_its_log_is_not_kept_without_one() {
        let mut manifest = Manifest::new(StoreId(1), CodecId(*b"test"), 0);
        let snapshot = |base, end| Snapshot {
            generation: end,
            base,
            end,
            ..Snapshot::default()
        };
        manifest.take_over(snapshot(1, 2), 3, true);
        manifest.take_over(snapshot(3, 3), 3, true);
        manifest.take_over(snapshot(4, 4), 3, false);
        let ends: Vec<_> = manifest.snapshots.iter().map(|at| at.end).collect();
        assert_eq!(ends, [3, 4]);
    }
}
