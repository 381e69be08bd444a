//! Which process this is. A fork copies what its parent has in memory, and none of its threads.

/// A number that a child of a fork does not have in common with its parent. Elsewhere than on Unix
/// nothing forks, and some targets have no number to give.
pub(crate) fn this_process() -> u32 {
    if cfg!(unix) { std::process::id() } else { 0 }
}
