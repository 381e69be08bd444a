//! How much of what a collection once needed it keeps.

/// So much may be kept for nothing, however little there is.
pub(crate) const FEW: usize = 64;

/// The room that is enough for a collection of `len`, where it has many times that. What was long and
/// is short then gives memory back, in O(1) on average.
#[inline]
pub(crate) fn enough(len: usize, capacity: usize) -> Option<usize> {
    (capacity > 8 * (len + FEW)).then_some(2 * (len + FEW))
}

/// Has a collection keep no more room than is [`enough`]; a hash table takes its hasher along.
macro_rules! give_back {
    ($collection:expr $(, $hasher:expr)?) => {
        if let Some(room) = $crate::slack::enough($collection.len(), $collection.capacity()) {
            $collection.shrink_to(room $(, $hasher)?);
        }
    };
}
pub(crate) use give_back;
