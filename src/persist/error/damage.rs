//! Places in a file that are not as they were written, or cannot be read.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part of a file that cannot be read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unreadable {
    /// The file.
    pub file: PathBuf,
    /// Which of its bytes: in blocks of 4 KiB, counted from the beginning of the file. Where that
    /// ended the reading, the first of them.
    pub bytes: Range<u64>,
    /// What the system said.
    pub error: Arc<io::Error>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bytes {} to {} of {} cannot be read: {}",
            self.bytes.start,
            self.bytes.end.saturating_sub(1),
            self.file.display(),
            self.error
        )
    }
}

/// A place in a file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The byte at which the damaged frame begins.
    pub offset: u64,
    /// What should have been there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// The sequence number that the damaged frame begins with; 0 where there are none.
    pub next_seq: u64,
    /// The highest number that is proven to have been on disk.
    pub durable_seq: u64,
}

impl Damage {
    /// Damage in a file that has no numbers, or before they are known.
    pub(crate) fn at(
        file: &Path,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            offset,
            expected: expected.into(),
            found: found.into(),
            next_seq: 0,
            durable_seq: 0,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at byte {}: expected {}, found {}",
            self.file.display(),
            self.offset,
            self.expected,
            self.found
        )?;
        match self.next_seq {
            0 => Ok(()),
            next => write!(
                f,
                " (number {next}; proven on disk up to {})",
                self.durable_seq
            ),
        }
    }
}
