//! Writing.

use super::DiskError;
use super::said::{CLOSED, Gone, READ_ONLY};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a write was refused. What is in memory is unchanged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// It was closed.
    Closed,
    /// It was opened with [`RecoveryMode::ReadOnly`](crate::persist::RecoveryMode::ReadOnly).
    ReadOnly,
    /// More is waiting to be written than may be, also after the time that
    /// [`WhenFull::Block`](crate::persist::WhenFull::Block) allows.
    BufferFull {
        /// How long was waited.
        waited: Duration,
    },
    /// The disk is full or fails. Writing is tried again until it succeeds.
    Disk(DiskError),
    /// The log has reached its limit, and could not be compacted.
    LogFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// One write, or one transaction, is larger than any may be.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// The key or the value cannot be encoded; or, where writes are verified, as they are in debug
    /// builds, what it is encoded as does not decode
    /// ([`verify_writes`](crate::persist::Persistence::verify_writes)). Of a removal or of another
    /// TTL: the key cannot be encoded any more.
    Encode(String),
    /// The value does not fit within the bounds of the store, which evicts nothing; or its hasher
    /// gives tens of thousands of keys hashes that are alike.
    NoRoom,
    /// A thread of the journal panicked, which is a bug of haybox. Nothing is written any more;
    /// what was durable is safe on disk. Close and open again.
    Panicked {
        /// The thread, and what it said.
        thread: String,
    },
    /// The directory was removed, moved away or replaced while it was open (found out on Unix):
    /// what is at its path now may be another's. Nothing is written any more, and nothing there is
    /// touched. Close and open again.
    DirectoryGone {
        /// The directory.
        dir: PathBuf,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(CLOSED),
            Self::ReadOnly => f.write_str(READ_ONLY),
            Self::BufferFull { waited } => write!(
                f,
                "the disk is slower than the writes: the log buffer is full, after {waited:?}"
            ),
            Self::Disk(error) => write!(f, "writes are refused until the disk is well: {error}"),
            Self::LogFull { limit } => write!(
                f,
                "the log has reached its limit of {limit} bytes and cannot be compacted: see \
                 health()"
            ),
            Self::TooLarge { bytes, limit } => write!(
                f,
                "one write of {bytes} bytes, and {limit} is the most: split it"
            ),
            Self::Encode(reason) => write!(f, "the key or value cannot be encoded: {reason}"),
            Self::NoRoom => f.write_str(
                "the value does not fit within the bounds of the store: remove some, or raise them",
            ),
            Self::Panicked { thread } => write!(
                f,
                "a thread of the journal panicked ({thread}): close and open again"
            ),
            Self::DirectoryGone { dir } => Gone(dir).fmt(f),
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}
