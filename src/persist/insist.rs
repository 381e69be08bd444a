//! Writes that are made whether there is room for them or not.
//!
//! A store refuses what cannot be written now, so that its caller knows. Of a write that says what
//! has happened already, such as that a message is done, nobody would do anything about that: it is
//! made all the same, goes beyond the bound of the buffer, and is written when the disk keeps up
//! again. The buffer has another bound for these, behind which a snapshot makes up for them.

use crate::sync::thread_cell;
use std::sync::Arc;

// The log whose refusals this thread does not take. Others, which user code may write to meanwhile,
// refuse as ever.
thread_cell!(INSISTS: usize = 0);

/// Ends it, also by a panic.
struct Insisting(usize);

impl Drop for Insisting {
    fn drop(&mut self) {
        INSISTS.with(|log| log.set(self.0));
    }
}

/// Runs a call whose writes to a log are not refused.
pub(super) fn on<J, R>(log: &Arc<J>, call: impl FnOnce() -> R) -> R {
    let _insisting = Insisting(INSISTS.with(|own| own.replace(address(log))));
    call()
}

/// Whether a write to a log is to be made though it was refused.
pub(super) fn is_on<J>(log: &Arc<J>) -> bool {
    INSISTS.with(|own| own.get() == address(log))
}

/// Which log, for what a thread notes of it.
pub(super) fn address<J>(log: &Arc<J>) -> usize {
    Arc::as_ptr(log).addr()
}
