//! What a directory is kept for, and what may be opened as what.
//!
//! Every file says it in its header, and what the manifest says counts. The others are asked where a
//! salvage has no manifest to go by.

use std::fmt;

/// What a directory is kept for. It is recorded by who opens the directory first, and what is kept
/// for one thing is not opened as another: a cache would evict what a store has to keep, and
/// counters take what is not theirs to take.
///
/// | kept for | is opened as that, and |
/// | --- | --- |
/// | a cache | as a store: nothing is lost by it. It is a store's from then on, unless it was opened read-only |
/// | a store, counters, a queue, sessions | as nothing else |
/// | nothing that is recorded, by a version before there was a record | as anything, which is recorded then |
///
/// Opening it as something else is [`OpenError::OtherKind`](super::OpenError::OtherKind), whatever
/// the [`RecoveryMode`](super::RecoveryMode), also read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DirKind {
    /// A cache, of [`CacheBuilder::open`](crate::CacheBuilder::open).
    Cache,
    /// A store, of [`CacheBuilder::open_store`](crate::CacheBuilder::open_store).
    Store,
    /// Counters, of [`CountersBuilder::open`](crate::counter::CountersBuilder::open).
    Counters,
    /// A queue, of [`QueueBuilder::open`](crate::queue::QueueBuilder::open).
    Queue,
    /// Sessions, of the builder that `SessionsBuilder::build_with` hands out (feature `session`).
    Sessions,
    /// Something that a newer version of haybox knows, by its number there.
    Unknown(u16),
}

impl DirKind {
    /// Whether what is kept for this may be opened as `asked`: the one place where that is decided.
    pub(crate) fn opens_as(self, asked: Self) -> bool {
        self == asked || (self, asked) == (Self::Cache, Self::Store)
    }

    /// As in a file header, where zero is a directory of which nothing is recorded.
    pub(crate) fn code(kind: Option<Self>) -> u16 {
        match kind {
            None => 0,
            Some(Self::Cache) => 1,
            Some(Self::Store) => 2,
            Some(Self::Counters) => 3,
            Some(Self::Queue) => 4,
            Some(Self::Sessions) => 5,
            Some(Self::Unknown(code)) => code,
        }
    }

    pub(crate) fn of_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::Cache,
            2 => Self::Store,
            3 => Self::Counters,
            4 => Self::Queue,
            5 => Self::Sessions,
            code => Self::Unknown(code),
        })
    }

    /// The call that opens it.
    pub(super) fn call(self) -> Option<&'static str> {
        match self {
            Self::Cache => Some("Cache::builder().open"),
            Self::Store => Some("Cache::builder().open_store"),
            Self::Counters => Some("Counters::builder().open"),
            Self::Queue => Some("Queue::builder(…).open"),
            Self::Sessions => Some("Sessions::builder().build_with(|cache| cache.open(…))"),
            Self::Unknown(_) => None,
        }
    }
}

/// As it stands in a sentence: "a cache", "counters".
impl fmt::Display for DirKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cache => "a cache",
            Self::Store => "a store",
            Self::Counters => "counters",
            Self::Queue => "a queue",
            Self::Sessions => "sessions",
            Self::Unknown(code) => return write!(f, "something of kind {code}"),
        })
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::DirKind::{Cache, Counters, Queue, Sessions, Store, Unknown};
    use super::*;

    const ALL: [DirKind; 6] = [Cache, Store, Counters, Queue, Sessions, Unknown(9)];

    #[test]
    fn only_a_store_is_opened_on_the_directory_of_another_and_only_on_a_cache_s() {
        for (kept, asked) in ALL.iter().flat_map(|kept| ALL.map(|asked| (*kept, asked))) {
            let may = kept == asked || (kept, asked) == (Cache, Store);
            assert_eq!(kept.opens_as(asked), may, "{kept} as {asked}");
        }
    }

    #[test]
    fn numbers_in_files_stay_what_they_are() {
        let kinds = ALL.map(|kind| DirKind::code(Some(kind)));
        assert_eq!(kinds, [1, 2, 3, 4, 5, 9]);
        for code in 0..=u16::MAX {
            assert_eq!(DirKind::code(DirKind::of_code(code)), code);
        }
        assert_eq!(DirKind::of_code(0), None);
    }
}
