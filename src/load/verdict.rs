//! What loads have found out and what is remembered of it, where it is no value.

use crate::hash::KeyHash;
use crate::labels::Labels;
use crate::time::Deadline;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// That there is no value for a key, or that it cannot be loaded: remembered for a while.
///
/// It is kept in the set of its key beside the entries, is no entry for any call that does not
/// load, and takes up the room of one of its weight.
pub(crate) struct Verdict<K> {
    pub(crate) hash: KeyHash,
    pub(crate) key: K,
    pub(crate) deadline: Deadline,
    /// What the loader says it depends on, and the key's group.
    pub(crate) labels: Labels,
    /// That of the load: what is invalidated after it, the load does not know of.
    pub(crate) epoch: u64,
    /// What it takes up where weights or bytes are bounded, besides what every entry does.
    pub(crate) weight: u64,
    pub(crate) known: Known,
}

#[derive(Clone)]
pub(crate) enum Known {
    Absent,
    /// The loader's error, of whatever type.
    Failed(Arc<dyn Any + Send + Sync>),
}

impl Known {
    /// Bytes on the heap, as far as they can be seen: an error may hold more behind its own.
    pub(crate) fn heap_bytes(&self) -> u64 {
        match self {
            Self::Absent => 0,
            // With the two counts of the `Arc`, and what an allocator adds.
            Self::Failed(error) => (size_of_val(&**error) + 32) as u64,
        }
    }
}

impl<K> fmt::Debug for Verdict<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict")
            .field("hash", &self.hash)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
