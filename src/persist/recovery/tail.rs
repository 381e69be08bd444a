//! Cutting off what a crash left of the last writes.

use super::{Recovery, State};
use crate::persist::error::{DiskError, OpenError};
use crate::persist::files::copy_part;
use crate::persist::frame::FrameReader;
use crate::persist::header::FileHeader;
use crate::persist::manifest::{self, Manifest, Name};
use crate::persist::storage::{Access, Blob, read_full};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, iter};

/// Where what counts of a log ends.
#[derive(Clone, Debug)]
pub(super) struct LogEnd {
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    pub(super) offset: u64,
    /// How long the file is, with what does not count.
    pub(super) length: u64,
}

/// The last log, open to be gone on with.
#[derive(Clone, Debug)]
pub(crate) struct LastLog {
    pub(crate) path: PathBuf,
    pub(crate) blob: Arc<dyn Blob>,
    pub(crate) salt: u32,
    pub(crate) schema: u32,
    /// Where what counts of it ends.
    pub(crate) offset: u64,
}

impl Recovery<'_> {
    /// Brings the logs to where they end, durably. Cut short and begun again it does the same.
    pub(super) fn settle(
        &self,
        ends: &[LogEnd],
        state: &mut State,
    ) -> Result<Option<LastLog>, OpenError> {
        if !self.may_change {
            return Ok(None);
        }
        if state.replaces {
            // What is kept of them are second names, of what the system shows and may not have written.
            for end in ends {
                if let Some(blob) = self.reopen(end, state)? {
                    blob.sync().map_err(DiskError::of("sync", &end.path))?;
                }
            }
            return Ok(None);
        }
        for end in ends.iter().filter(|end| end.is_torn()) {
            self.quarantine(end, state)?;
        }
        let mut last = None;
        for end in ends {
            let Some(blob) = self.reopen(end, state)? else {
                continue;
            };
            if end.is_torn() {
                blob.set_length(end.offset)
                    .map_err(DiskError::of("cut", &end.path))?;
                state.was_cut = true;
            }
            // What the system shows may not be on the disk yet: from now on it counts as recovered.
            self.sync(end, &*blob, &mut state.manifest)?;
            last = Some(LastLog::new(end, blob));
        }
        // What could be read before and cannot be opened any more is in the state alone.
        Ok(last.filter(|_| !state.replaces))
    }

    /// Opens a log that was read; a salvage passes over what cannot be opened any more.
    fn reopen(&self, end: &LogEnd, state: &mut State) -> Result<Option<Arc<dyn Blob>>, OpenError> {
        let name = Name::Log(end.header.generation);
        self.pass_over(self.open_end(end), name, state)
    }

    fn open_end(&self, end: &LogEnd) -> Result<Arc<dyn Blob>, OpenError> {
        self.open(&end.path, &end.header)
    }

    /// Syncs a log. If that fails or panics the manifest says so: the next opening reads the same
    /// from the system, and its sync would succeed without bringing to the disk what this one lost.
    fn sync(
        &self,
        end: &LogEnd,
        blob: &dyn Blob,
        manifest: &mut Manifest,
    ) -> Result<(), DiskError> {
        let synced = catch_unwind(AssertUnwindSafe(|| blob.sync()));
        if !matches!(synced, Ok(Ok(()))) && !manifest.distrusted {
            manifest.distrusted = true;
            // If this fails, too, it is as if the process had been killed here.
            let publish = || manifest.publish(self.storage, self.dir);
            let _ = catch_unwind(AssertUnwindSafe(publish));
        }
        let synced = synced.unwrap_or_else(|panic| resume_unwind(panic));
        synced.map_err(DiskError::of("sync", &end.path))
    }

    /// Keeps what is to be cut off. Where there is no space for that, which may be why it was cut
    /// short, it is not what keeps the directory from being opened, unless a whole write is in it.
    fn quarantine(&self, end: &LogEnd, state: &mut State) -> Result<(), OpenError> {
        let blob = self.open_end(end)?;
        match self.copy_tail(end, &*blob) {
            Ok(path) => state.report.quarantine.push(path),
            Err(error) if error.is_full() && !end.has_whole_frame_behind(blob)? => {
                state.report.uncopied_bytes += end.length - end.offset;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn copy_tail(&self, end: &LogEnd, log: &dyn Blob) -> Result<PathBuf, DiskError> {
        let dir = self.dir.join(manifest::QUARANTINE);
        self.storage
            .create_dir(&dir)
            .map_err(DiskError::of("create", &dir))?;
        let path = self.name_of_copy(&dir, end, log);
        let part = end.offset..end.length;
        let copied = copy_part(self.storage, log, &end.path, part, &path);
        copied.inspect_err(|_| {
            // A part of it is of no use, and the space is wanted.
            let _ = self.storage.remove(&path);
        })?;
        self.storage
            .sync_dir(&dir)
            .map_err(DiskError::of("sync", &dir))?;
        Ok(path)
    }

    /// The same at each attempt: what one has left behind that was cut short is written over.
    fn name_of_copy(&self, dir: &Path, end: &LogEnd, log: &dyn Blob) -> PathBuf {
        let name = format!("log-{}-from-{}", end.header.generation, end.offset);
        let numbered = (2..).map(|number| format!("{name}-{number}.torn"));
        let mut names = iter::once(format!("{name}.torn")).chain(numbered);
        // The log may have been torn there before.
        let is_free = |path: &PathBuf| match self.storage.open(path, Access::Read) {
            Ok(copy) => end.begins_with(&*copy, log).unwrap_or(false),
            Err(_) => true,
        };
        let free = names.find_map(|name| Some(dir.join(name)).filter(is_free));
        free.unwrap_or_else(|| dir.join(name))
    }
}

impl LastLog {
    fn new(end: &LogEnd, blob: Arc<dyn Blob>) -> Self {
        Self {
            path: end.path.clone(),
            blob,
            salt: end.header.salt,
            schema: end.header.schema,
            offset: end.offset,
        }
    }
}

impl LogEnd {
    fn is_torn(&self) -> bool {
        self.offset < self.length
    }

    /// Whether a copy has what is behind the end, or its first part.
    fn begins_with(&self, copy: &dyn Blob, log: &dyn Blob) -> io::Result<bool> {
        let (mut copied, mut here) = ([0; 4 << 10], [0; 4 << 10]);
        let mut at = 0;
        loop {
            let read = read_full(copy, &mut copied, at)?;
            let of_log = read_full(log, &mut here[..read], self.offset + at)?;
            if copied[..read] != here[..of_log] {
                return Ok(false);
            }
            if read < copied.len() {
                return Ok(true);
            }
            at += read as u64;
        }
    }

    /// Whether a write is behind the end that can be read.
    fn has_whole_frame_behind(&self, log: Arc<dyn Blob>) -> Result<bool, OpenError> {
        let reader = FrameReader::new(log, self.header.salt);
        let mut reader = reader.map_err(DiskError::of("read", &self.path))?;
        reader.go_to(self.offset - 1);
        let found = reader.next_whole().map_err(|gap| gap.of(&self.path))?;
        Ok(found.is_some_and(|frame| frame.header.count > 0))
    }
}
