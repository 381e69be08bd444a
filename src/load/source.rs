//! Where an answer has come from.

use std::fmt;

/// Where the answer of a loading call has come from, for logs, metrics, and headers such as
/// `X-Cache`. From [`ReadThrough::get_with_source`](crate::ReadThrough::get_with_source) and its
/// likes.
///
/// It is written as its [name](Self::as_str).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// It was there, and its time is not over: a value, or that there is none. Also where a load
    /// that is to renew it goes on behind the call, or has failed.
    Hit,
    /// It was there, its time is over, and it is served because it cannot be loaded, or not soon
    /// enough: [`Freshness::stale_if_error`](crate::Freshness::stale_if_error).
    Stale,
    /// It was loaded for this call.
    Loaded,
    /// It was loaded for another call.
    Joined,
}

impl Source {
    /// Its name in lower case, for labels of metrics and values of headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Loaded => "loaded",
            Self::Joined => "joined",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
