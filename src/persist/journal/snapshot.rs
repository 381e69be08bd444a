//! Writing a snapshot, while writes go on.

use super::Inner;
use super::rotate::Rotation;
use crate::contain;
use crate::persist::contents::{Contents, Spot};
use crate::persist::effect::{Effects, Unencodable};
use crate::persist::error::{CompactError, DiskError};
use crate::persist::frame::{self, HEADER, Stamp};
use crate::persist::header::{self, Kind};
use crate::persist::manifest::{Name, Snapshot};
use crate::persist::recovery::Bounds;
use crate::persist::settings::{Point, RecoveryMode};
use crate::persist::storage::{Blob, write_all};
use crate::time::wall_ms;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Inner {
    pub(super) fn temporary(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{}.tmp", Name::Snapshot(generation)))
    }

    pub(super) fn write_snapshot(
        &self,
        rotation: &Rotation,
        contents: &dyn Contents,
        temporary: &Path,
    ) -> Result<(Snapshot, u64), CompactError> {
        self.check_place()?;
        let mut sink = self.begin_snapshot(rotation, contents.len(), temporary)?;
        contents.write_labels(&mut sink.effects);
        let (mut next, mut left_out) = (Some(Spot::default()), 0);
        while let Some(spot) = next {
            self.now.lock().compaction = Some(spot.position);
            let walked = contained(|| contents.write_set(&spot, &mut sink.effects))?;
            next = walked.next;
            left_out += walked.left_out;
            self.note_times(sink.effects.made_by);
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

    /// Ends the walk when a sync has failed that the snapshot will not make up for, so that another
    /// begins now, and not when all is walked.
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
        let (wall_ms, made_by) = self.wall_time();
        self.note_times(made_by);
        let mut sink = Sink {
            blob,
            path: path.to_owned(),
            salt: header.salt,
            wall_ms,
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
}

/// Runs code of the user's for a snapshot. Of files that count none but a log that was begun
/// is new so far, so a panic means no more than an error: that there is no snapshot.
fn contained<R>(walk: impl FnOnce() -> Result<R, Unencodable>) -> Result<R, CompactError> {
    let walked = contain::said(walk).map_err(|panic| format!("it panics: {panic}"));
    let walked = walked.and_then(|walked| walked.map_err(|error| error.reason));
    walked.map_err(CompactError::Encode)
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
