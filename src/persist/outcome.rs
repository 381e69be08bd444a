//! What the writes of a call came to: said by the recorder as each ends, asked for by the face of a
//! store right after it, on the same thread.

use super::error::WriteError;
use crate::sync::thread_cell;

/// The last number, or the first error; `None` if nothing was written.
pub(super) type Outcomes = Option<Result<u64, WriteError>>;

thread_cell!(OUTCOME: Outcomes = None);

/// Notes what one write of the call came to: the first error counts, else the last number.
pub(super) fn note(result: Result<u64, WriteError>) {
    let before = OUTCOME.with(|outcome| outcome.take());
    let both = match (before, result) {
        (Some(Err(error)), _) | (_, Err(error)) => Err(error),
        (Some(Ok(before)), Ok(seq)) => Ok(before.max(seq)),
        (None, Ok(seq)) => Ok(seq),
    };
    OUTCOME.with(|outcome| outcome.set(Some(both)));
}

/// Runs a call, and says what its writes came to; `None` if there were none.
pub(super) fn of<R>(call: impl FnOnce() -> R) -> (R, Outcomes) {
    let outer = OUTCOME.with(|outcome| outcome.take());
    let result = call();
    let own = OUTCOME.with(|outcome| outcome.replace(outer));
    (result, own)
}
