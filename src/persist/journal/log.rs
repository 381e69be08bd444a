//! The end of the log, where frames are written.

use super::buffer::{Batch, Buffer};
use super::rotate::Rotation;
use crate::persist::error::DiskError;
use crate::persist::frame::{self, Stamp};
use crate::persist::header::{self, FileHeader};
use crate::persist::made_by::MadeBy;
use crate::persist::manifest::Name;
use crate::persist::recovery::LastLog;
use crate::persist::storage::{Blob, Storage, write_all};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log that frames are written to.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) blob: Arc<dyn Blob>,
    pub(super) salt: u32,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// How far it is known to be on the disk.
    synced: u64,
}

impl LogFile {
    /// A new log with a header and no frames, durable with its name: were it listed without, a
    /// crash could leave the list and take the file.
    pub(super) fn create(
        storage: &dyn Storage,
        dir: &Path,
        header: &FileHeader,
    ) -> Result<Self, DiskError> {
        let path = Name::Log(header.generation).in_dir(dir);
        let blob = storage
            .create(&path)
            .map_err(DiskError::of("create", &path))?;
        write_all(&*blob, &header.encode(), 0).map_err(DiskError::of("write", &path))?;
        blob.sync().map_err(DiskError::of("sync", &path))?;
        storage.sync_dir(dir).map_err(DiskError::of("sync", dir))?;
        Ok(Self {
            path,
            blob,
            salt: header.salt,
            offset: header::LENGTH as u64,
            synced: header::LENGTH as u64,
        })
    }

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.blob.sync().map_err(DiskError::of("sync", &self.path))
    }
}

impl From<LastLog> for LogFile {
    fn from(log: LastLog) -> Self {
        Self {
            path: log.path,
            blob: log.blob,
            salt: log.salt,
            offset: log.offset,
            synced: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Tail {
    /// `None` without a log.
    pub(super) log: Option<LogFile>,
    /// Logs from before this one that have not been synced to their ends.
    pub(super) unsynced: Vec<LogFile>,
    /// The number that the next frame begins with.
    pub(super) next: u64,
    /// The manifest does not list this log yet, so what is in it does not count.
    pub(super) is_unlisted: bool,
    /// The logs that are listed were written under another schema version. The first of this one is
    /// listed with the snapshot that makes up for them: before it is, they can be gone back to.
    pub(super) migrates: bool,
    /// The rotation that this log comes from, if no snapshot was made for it.
    pub(super) unused: Option<Rotation>,
    /// What was taken from the buffer and could not be written yet.
    unsent: Batch,
    spare: Batch,
    /// Behind the last frame there may be a part of another.
    is_dirty: bool,
    /// There was, since this log was begun: that it is cut off may not be on the disk.
    was_cut: bool,
    /// What the last frame says about how far the log is proven on disk.
    marked: u64,
}

impl Tail {
    pub(super) fn new(log: Option<LogFile>, next: u64) -> Self {
        Self {
            log,
            unsynced: Vec::new(),
            next,
            is_unlisted: false,
            migrates: false,
            unused: None,
            unsent: Batch::default(),
            spare: Batch::default(),
            is_dirty: false,
            was_cut: false,
            marked: 0,
        }
    }

    /// Writes what waits, and says how many bytes that were, and adds how its deadlines were made. What
    /// cannot be written is kept, and what was written of it is cut off again.
    pub(super) fn write(
        &mut self,
        buffer: &Buffer,
        durable: u64,
        wall_ms: u64,
        made_by: &mut MadeBy,
    ) -> Result<usize, DiskError> {
        let Some(log) = &mut self.log else {
            return Ok(0);
        };
        if self.unsent.is_empty() {
            self.unsent = buffer.take(mem::take(&mut self.spare));
        }
        if self.unsent.is_empty() {
            self.spare = mem::take(&mut self.unsent);
            return Ok(0);
        }
        debug_assert_eq!(self.unsent.first(), self.next, "numbers follow one another");
        self.unsent.seal(durable, wall_ms, log.salt);
        made_by.add(self.unsent.made_by());
        put(log, &mut self.is_dirty, self.unsent.bytes()).inspect_err(|_| self.was_cut = true)?;
        let written = self.unsent.bytes().len();
        self.next = self.unsent.last() + 1;
        self.marked = durable;
        self.spare = mem::take(&mut self.unsent);
        self.spare.clear();
        Ok(written)
    }

    /// Writes a frame without effects that says how far the log is proven on disk, if the last
    /// frame does not. Says whether it did.
    pub(super) fn mark(&mut self, durable: u64, wall_ms: u64) -> Result<bool, DiskError> {
        let Some(log) = &mut self.log else {
            return Ok(false);
        };
        if durable <= self.marked || !self.unsent.is_empty() {
            return Ok(false);
        }
        let stamp = Stamp {
            kind: frame::Kind::Mark,
            count: 0,
            first: self.next,
            durable,
            wall_ms,
        };
        let frame = frame::framed(&[], stamp, log.salt);
        put(log, &mut self.is_dirty, &frame).inspect_err(|_| self.was_cut = true)?;
        self.marked = durable;
        Ok(true)
    }

    /// Writes that all there was is gone, under the number that comes next. Nothing waits to be
    /// written, and the log is one that may say so. Says how many bytes that were.
    pub(super) fn clear(&mut self, durable: u64, wall_ms: u64) -> Result<usize, DiskError> {
        let Some(log) = &mut self.log else {
            return Ok(0);
        };
        let stamp = Stamp {
            kind: frame::Kind::Clear,
            count: 1,
            first: self.next,
            durable,
            wall_ms,
        };
        let frame = frame::framed(&[], stamp, log.salt);
        put(log, &mut self.is_dirty, &frame).inspect_err(|_| self.was_cut = true)?;
        (self.next, self.marked) = (self.next + 1, durable);
        Ok(frame.len())
    }

    /// Goes on in another log. The one before is kept for a sync, if it needs one: also where a write
    /// has failed and was cut off again, which a crash may undo.
    pub(super) fn go_on_in(&mut self, log: LogFile) {
        let was_cut = mem::take(&mut self.was_cut);
        let old = self.log.replace(log);
        let needs_sync = |old: &LogFile| was_cut || old.synced < old.offset;
        self.unsynced.extend(old.filter(needs_sync));
    }

    /// Notes that these were synced, as far as they went then.
    pub(super) fn synced(&mut self, files: &[LogFile]) {
        let of = |log: &LogFile| files.iter().find(|synced| synced.path == log.path);
        self.unsynced.retain(|log| of(log).is_none());
        if let Some(log) = &mut self.log
            && let Some(synced) = of(log)
        {
            log.synced = synced.offset;
        }
    }

    /// The log, if nothing was written to it yet.
    pub(super) fn unwritten(&self) -> Option<&LogFile> {
        let log = self.log.as_ref();
        log.filter(|log| log.offset == header::LENGTH as u64 && self.takes_writes())
    }

    /// Whether nothing is left of a write that has failed.
    pub(super) fn takes_writes(&self) -> bool {
        self.unsent.is_empty() && !self.is_dirty
    }

    /// Cuts off what there may be behind the last frame. Whether it can or not, from now on that is
    /// not looked at any more.
    pub(super) fn cut_back(&mut self) -> Result<(), DiskError> {
        match &self.log {
            Some(log) if std::mem::take(&mut self.is_dirty) => cut(log),
            _ => Ok(()),
        }
    }

    /// Forgets what waits and goes on at the number that the buffer gives next.
    pub(super) fn skip_to_end(&mut self, buffer: &Buffer) {
        self.unsent.clear();
        self.next = buffer.restart();
    }
}

/// Writes at the end of a log, all or nothing.
fn put(log: &mut LogFile, is_dirty: &mut bool, bytes: &[u8]) -> Result<(), DiskError> {
    if *is_dirty {
        cut(log)?;
        *is_dirty = false;
    }
    if let Err(error) = write_all(&*log.blob, bytes, log.offset) {
        // If this fails, too, it is done before the next write.
        *is_dirty = cut(log).is_err();
        return Err(DiskError::new("write", &log.path, error));
    }
    log.offset += bytes.len() as u64;
    Ok(())
}

fn cut(log: &LogFile) -> Result<(), DiskError> {
    log.blob
        .set_length(log.offset)
        .map_err(DiskError::of("cut", &log.path))
}
