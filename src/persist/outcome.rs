//! What the writes of a call came to: said by the recorder as each ends, asked for by the face of a
//! store right after it, on the same thread.

use super::error::WriteError;
use crate::sync::thread_cell;
use std::mem::ManuallyDrop;

/// The last number, or the first error; `None` if nothing was written.
pub(super) type Outcomes = Option<Result<u64, WriteError>>;

// Never dropped, so that it is there to the end of the thread: what else it keeps may write as it
// is dropped. After each call there is in it what was before, which is nothing.
thread_cell!(OUTCOME: ManuallyDrop<Outcomes> = ManuallyDrop::new(None));

fn replace(outcomes: Outcomes) -> Outcomes {
    let before = OUTCOME.with(|outcome| outcome.replace(ManuallyDrop::new(outcomes)));
    ManuallyDrop::into_inner(before)
}

/// Notes what one write of the call came to: the first error counts, else the last number.
pub(super) fn note(result: Result<u64, WriteError>) {
    let both = match (replace(None), result) {
        (Some(Err(error)), _) | (_, Err(error)) => Err(error),
        (Some(Ok(before)), Ok(seq)) => Ok(before.max(seq)),
        (None, Ok(seq)) => Ok(seq),
    };
    replace(Some(both));
}

/// Runs a call, and says what its writes came to; `None` if there were none.
pub(super) fn of<R>(call: impl FnOnce() -> R) -> (R, Outcomes) {
    let outer = replace(None);
    let result = call();
    (result, replace(outer))
}
