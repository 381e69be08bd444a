//! Why there is no lease.

use std::fmt;

/// Why a lease was not granted, or did not last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// It is held, if only by the caller itself, or waited for already, and the call does not wait.
    Busy,
    /// It did not become free in time.
    TimedOut,
    /// This thread holds a lease of the key already, and waiting for itself would never end. Of a
    /// key with several permits also where others hold those that are missing: two threads that
    /// each held some and waited for more would wait for each other. Only calls that block say so.
    Reentrant,
    /// The locks were closed, or all their handles dropped.
    Closed,
    /// The lease ended by its time while the closure of `with_lock` was running: what it did was
    /// not protected to its end.
    Lost(LeaseLost),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the lease is held or waited for already"),
            Self::TimedOut => f.write_str("the lease did not become free in time"),
            Self::Reentrant => f.write_str(
                "this thread already holds a lease of the key; waiting for itself would never end",
            ),
            Self::Closed => f.write_str("the locks are closed"),
            Self::Lost(lost) => lost.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl From<LeaseLost> for LockError {
    fn from(lost: LeaseLost) -> Self {
        Self::Lost(lost)
    }
}

/// A lease whose time had passed when its holder renewed or released it. Others may have held it
/// since, and may hold it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLost {
    pub(super) token: u64,
}

impl LeaseLost {
    /// The token of the lease.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }
}

impl fmt::Display for LeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the lease with token {} had ended by its time; what was done since then was not \
             protected",
            self.token
        )
    }
}

impl std::error::Error for LeaseLost {}
