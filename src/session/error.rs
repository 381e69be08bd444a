//! Why a session was not stored.

use std::fmt;

/// Why a session was not stored. None of them shows what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// It is larger than [`max_size`](super::SessionsBuilder::max_size) allows, or alone takes up
    /// more than [`max_memory`](super::SessionsBuilder::max_memory) allows for all sessions together.
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that it may have.
        max_size: usize,
    },
    /// There is no room beside the others, and the store
    /// [rejects](super::SessionsBuilder::on_full) what comes then.
    Full,
    /// The system's generator of random numbers does not answer.
    NoRandomness,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { size, max_size } => write!(
                f,
                "the session has {size} bytes, more than the {max_size} that are allowed"
            ),
            Self::Full => f.write_str("the store of sessions is full"),
            Self::NoRandomness => f.write_str("the system has no random numbers"),
        }
    }
}

impl std::error::Error for SessionError {}
