//! Making new files: a compaction, a dump, a backup.

use super::said::{CLOSED, Gone, NotEncoded, NothingMade, READ_ONLY, REENTRANT};
use super::{CommitError, DiskError};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Why a compaction, a dump or a backup was not made. What was there before is intact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CompactError {
    /// The file system failed.
    Disk(DiskError),
    /// It was closed.
    Closed,
    /// It was opened read-only.
    ReadOnly,
    /// The backup's directory holds files already, or another backup is being made into it.
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A thread of the journal panicked.
    Panicked {
        /// The thread, and what it said.
        thread: String,
    },
    /// The directory was removed, moved away or replaced while it was open (found out on Unix).
    DirectoryGone {
        /// The directory.
        dir: PathBuf,
    },
    /// It was called while a closure unwinds that a cache runs under a lock. (Without the panic
    /// that is under way, such a call panics.)
    Reentrant,
    /// An entry of a store cannot be encoded any more, though it could be when it was written: it
    /// changes on its own, as an `Arc<Mutex<_>>` that was poisoned. Or, of a cache too, its
    /// `Serialize` panics: for a snapshot that runs under the lock of a set, where it may call no
    /// cache. What it says, or panics with. The entry is as safe as it was, in the old files; it is
    /// to be replaced or removed.
    Encode(String),
}

impl CompactError {
    /// A step that takes part in making new files has failed.
    pub(crate) fn of_step(error: CommitError) -> Self {
        match error {
            CommitError::Disk(error) => Self::Disk(error),
            CommitError::Panicked { thread } => Self::Panicked { thread },
            CommitError::DirectoryGone { dir } => Self::DirectoryGone { dir },
            CommitError::Reentrant => Self::Reentrant,
            CommitError::Encode(reason) => Self::Encode(reason),
            // A step waits for nobody, so it neither times out nor meets a call that closes.
            CommitError::Closed | CommitError::TimedOut | CommitError::Closing => Self::Closed,
        }
    }
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => NothingMade(error).fmt(f),
            Self::Closed => f.write_str(CLOSED),
            Self::ReadOnly => f.write_str(READ_ONLY),
            Self::NotEmpty { dir } => write!(
                f,
                "{} holds files, be it of a backup that is being made now, or is left of one: a copy \
                 goes to an empty directory, or to one that is not there",
                dir.display()
            ),
            Self::Panicked { thread } => write!(f, "a thread of the journal panicked: {thread}"),
            Self::DirectoryGone { dir } => Gone(dir).fmt(f),
            Self::Reentrant => f.write_str(REENTRANT),
            Self::Encode(reason) => NothingMade(&NotEncoded(reason)).fmt(f),
        }
    }
}

impl Error for CompactError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}

impl From<DiskError> for CompactError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}
