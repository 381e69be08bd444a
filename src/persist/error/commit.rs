//! Waiting until a write is durable.

use super::said::{Gone, NotEncoded, REENTRANT};
use super::{CompactError, DiskError, WriteError};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Why it is *not known* whether a write is durable. It is visible in memory, and it may be on disk
/// or get there: after most of these, waiting again can still succeed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// It took longer than the caller would wait.
    TimedOut,
    /// The disk refused it; it is tried again in the background.
    Disk(DiskError),
    /// It was closed before the write was durable.
    Closed,
    /// From `close` alone: another call is at it, and waits for what this one was made by, such as
    /// a waker that a thread of the journal wakes. That call says how it ends.
    Closing,
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
    /// It takes a new snapshot to make it durable, and an entry cannot be encoded for that:
    /// [`CompactError::Encode`]. It is tried again in the
    /// background.
    Encode(String),
}

impl CommitError {
    /// Whether nothing will be written any more.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Panicked { .. } | Self::DirectoryGone { .. })
    }

    /// What those who wait are told where writes are refused for a reason that is
    /// [final](Self::is_final).
    pub(crate) fn of_end(refusal: WriteError) -> Option<Self> {
        match refusal {
            WriteError::Panicked { thread } => Some(Self::Panicked { thread }),
            WriteError::DirectoryGone { dir } => Some(Self::DirectoryGone { dir }),
            WriteError::Closed
            | WriteError::ReadOnly
            | WriteError::BufferFull { .. }
            | WriteError::Disk(_)
            | WriteError::LogFull { .. }
            | WriteError::TooLarge { .. }
            | WriteError::Encode(_)
            | WriteError::NoRoom => None,
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: &dyn fmt::Display = match self {
            Self::TimedOut => &"the wait timed out",
            Self::Disk(error) => error,
            Self::Closed => &"its directory was closed before",
            Self::Closing => &"its directory is being closed by a call that waits for this one",
            Self::Panicked { thread } => thread,
            Self::DirectoryGone { dir } => &Gone(dir),
            Self::Reentrant => &REENTRANT,
            Self::Encode(reason) => &NotEncoded(reason),
        };
        write!(f, "not known to be durable: {why}")
    }
}

impl Error for CommitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}

impl From<CompactError> for CommitError {
    fn from(error: CompactError) -> Self {
        match error {
            CompactError::Disk(error) => Self::Disk(error),
            CompactError::Panicked { thread } => Self::Panicked { thread },
            CompactError::DirectoryGone { dir } => Self::DirectoryGone { dir },
            CompactError::Reentrant => Self::Reentrant,
            CompactError::Encode(reason) => Self::Encode(reason),
            // Of a directory that is read-only nothing waits, and a backup makes nothing durable.
            CompactError::Closed | CompactError::ReadOnly | CompactError::NotEmpty { .. } => {
                Self::Closed
            }
        }
    }
}
