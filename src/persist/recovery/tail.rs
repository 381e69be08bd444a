//! Cutting off what a crash left of the last writes.

use super::{Recovery, State};
use crate::persist::error::{DiskError, OpenError};
use crate::persist::files::copy_part;
use crate::persist::manifest::{self, Manifest};
use crate::persist::storage::Blob;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;

/// Where what counts of a log ends.
#[derive(Clone, Debug)]
pub(crate) struct LogEnd {
    pub(crate) generation: u64,
    pub(crate) path: PathBuf,
    pub(crate) blob: Arc<dyn Blob>,
    pub(crate) salt: u32,
    pub(crate) schema: u32,
    pub(crate) offset: u64,
    /// How long the file is, with what does not count.
    pub(crate) length: u64,
}

impl Recovery<'_> {
    /// Brings the logs to where they end, durably. Cut short and begun again it does the same.
    pub(super) fn settle(
        &self,
        ends: &[LogEnd],
        state: &mut State,
    ) -> Result<Option<LogEnd>, OpenError> {
        if !self.may_change {
            return Ok(None);
        }
        if state.replaces {
            // What is kept of them are second names, of what the system shows and may not have written.
            for end in ends {
                end.blob.sync().map_err(DiskError::of("sync", &end.path))?;
            }
            return Ok(None);
        }
        for end in ends.iter().filter(|end| end.offset < end.length) {
            self.quarantine(end, state)?;
        }
        for end in ends {
            if end.offset < end.length {
                end.blob
                    .set_length(end.offset)
                    .map_err(DiskError::of("cut", &end.path))?;
            }
            // What the system shows may not be on the disk yet: from now on it counts as recovered.
            self.sync(end, &mut state.manifest)?;
        }
        Ok(ends.last().cloned())
    }

    /// Syncs a log. If that fails or panics the manifest says so: the next opening reads the same
    /// from the system, and its sync would succeed without bringing to the disk what this one lost.
    fn sync(&self, end: &LogEnd, manifest: &mut Manifest) -> Result<(), DiskError> {
        let synced = catch_unwind(AssertUnwindSafe(|| end.blob.sync()));
        if !matches!(synced, Ok(Ok(()))) && !manifest.distrusted {
            manifest.distrusted = true;
            // If this fails, too, it is as if the process had been killed here.
            let publish = || manifest.publish(self.storage, self.dir);
            let _ = catch_unwind(AssertUnwindSafe(publish));
        }
        let synced = synced.unwrap_or_else(|panic| resume_unwind(panic));
        synced.map_err(DiskError::of("sync", &end.path))
    }

    /// Copies what is to be cut off.
    fn quarantine(&self, end: &LogEnd, state: &mut State) -> Result<(), OpenError> {
        let dir = self.dir.join(manifest::QUARANTINE);
        self.storage
            .create_dir(&dir)
            .map_err(DiskError::of("create", &dir))?;
        let name = format!(
            "log-{}-from-{}-at-{}.torn",
            end.generation,
            end.offset,
            self.settings.wall_ms()
        );
        let path = dir.join(name);
        copy_part(
            self.storage,
            &*end.blob,
            &end.path,
            end.offset..end.length,
            &path,
        )?;
        self.storage
            .sync_dir(&dir)
            .map_err(DiskError::of("sync", &dir))?;
        state.report.quarantine.push(path);
        Ok(())
    }
}
