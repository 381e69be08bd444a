//! One load per key: whoever misses first loads, everybody else waits for that load.

mod flight;
mod waiting;

pub(crate) use flight::{Flight, Landing, UnderWay};
pub(crate) use waiting::Waiting;

use std::fmt;
use std::sync::Arc;

/// Why a value could not be loaded.
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader's own error. Every caller that waited for the load gets the same one.
    Failed(Arc<E>),
    /// The loader asked, directly or through other loads, for a value that only it can provide:
    /// waiting for it would never have ended.
    Reentrant,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Reentrant => Self::Reentrant,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Reentrant => f.write_str("Reentrant"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the loader failed: {error}"),
            Self::Reentrant => f.write_str(REENTRANT),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Reentrant => None,
        }
    }
}

pub(crate) const REENTRANT: &str = "a loader asked the cache, directly or through other loads, for the key that it \
     is loading; waiting for it would never end";
