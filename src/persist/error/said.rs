//! What several of the errors say.

use std::fmt;
use std::path::Path;

pub(super) const CLOSED: &str = "nothing is written after close";

pub(super) const READ_ONLY: &str = "nothing is written: it was opened with RecoveryMode::ReadOnly";

/// What is said of an entry that keeps a snapshot from being made.
pub(super) struct NotEncoded<'a>(pub(super) &'a str);

impl fmt::Display for NotEncoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an entry that was encoded before cannot be any more ({}): replace or remove it",
            self.0
        )
    }
}

/// What is said where new files could not be made.
pub(super) struct NothingMade<'a>(pub(super) &'a dyn fmt::Display);

impl fmt::Display for NothingMade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nothing new was made, and the old files stay: {}",
            self.0
        )
    }
}

/// What is said of a directory that is not at its path any more.
pub(super) struct Gone<'a>(pub(super) &'a Path);

impl fmt::Display for Gone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was removed, moved away or replaced while it was open, and nothing is written any \
             more: close and open again",
            self.0.display()
        )
    }
}

pub(super) const REENTRANT: &str =
    "it was called from inside a closure that runs under a lock of a cache";
