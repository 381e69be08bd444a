//! Whether the directory is still the one that was opened, and by this process.
//!
//! A process whose directory is removed keeps its open files, and all that it does by name meets
//! whatever is there by then: nothing, or the store of another process, which the lock does not
//! keep out, since it is of a file that has no name any more. So the file that is locked is
//! compared with the one that has its name. That costs a look at the file system, which is made
//! before anything is created, renamed or removed, and before a sync counts, but for no write.
//!
//! A process that is forked has the open files and the lock, but none of the threads, and knows
//! nothing of what its parent writes from then on: what it wrote would be in the place of that.

use super::Inner;
use crate::persist::error::{CommitError, CompactError, DiskError, WriteError};
use crate::persist::files::remove_unlisted;
use crate::persist::manifest::{LOCK, Manifest};
use crate::process::this_process;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

impl Inner {
    /// For what goes by names: fails if the directory is gone, or if that cannot be told.
    pub(super) fn check_place(&self) -> Result<(), CompactError> {
        match self.is_in_place() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.dir_is_gone()),
            Err(error) => Err(DiskError::new("find", &self.dir.join(LOCK), error).into()),
        }
    }

    /// For what goes by open files: fails if the directory is known to be gone, and they with it.
    pub(super) fn check_not_gone(&self) -> Result<(), CommitError> {
        match self.is_in_place() {
            Ok(false) => Err(self.dir_is_gone().into()),
            _ => Ok(()),
        }
    }

    /// Whether this is a child of the process that has opened the directory.
    pub(super) fn is_forked(&self) -> bool {
        u64::from(this_process()) != self.process.load(Relaxed)
    }

    /// Ends the journal, and leaves the files to the process that has opened them.
    pub(super) fn leave_to_parent(&self) -> CommitError {
        self.now.lock().is_closed = true;
        self.gate.end(WriteError::Closed);
        self.commits.end(CommitError::Closed);
        self.free_room();
        CommitError::Closed
    }

    /// Removes the files that are not listed, and says how many bytes that freed.
    pub(super) fn clear_away(&self, listed: &Manifest) -> u64 {
        match self.check_place() {
            Ok(()) => remove_unlisted(&*self.storage, &self.dir, listed),
            Err(_) => 0,
        }
    }

    /// Once it is not, it never is again: what was written meanwhile is missing.
    fn is_in_place(&self) -> io::Result<bool> {
        if let Some(CommitError::DirectoryGone { .. }) = self.gate.stopped() {
            return Ok(false);
        }
        let lock = self.lock.lock();
        lock.as_ref().map_or(Ok(true), |lock| lock.is_in_place())
    }

    fn dir_is_gone(&self) -> CompactError {
        let dir = self.dir.clone();
        self.gate.end(WriteError::DirectoryGone { dir });
        let dir = self.dir.clone();
        CompactError::DirectoryGone { dir }
    }
}
