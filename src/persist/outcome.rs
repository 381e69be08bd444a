//! What the writes of a call came to: said by the recorder as each ends, asked for by the face of a
//! store right after it, on the same thread.
//!
//! A listener or a destructor may call another store meanwhile. What that writes is of its own
//! calls; of what it writes outside of calls that ask, as a sweep does, nobody is told.

use super::error::WriteError;
use super::insist::address;
use crate::sync::thread_cell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// The last number, or the first error; `None` if nothing was written.
pub(super) type Outcomes = Option<Result<u64, WriteError>>;

/// The innermost call that asks.
struct Call {
    /// The address of the log that it writes to; 0 for none.
    log: usize,
    outcomes: Outcomes,
}

impl Call {
    const NONE: Self = Self {
        log: 0,
        outcomes: None,
    };
}

// Never dropped, so that it is there to the end of the thread: what else it keeps may write as it
// is dropped. After each call, however it ends, there is in it what was before.
thread_cell!(CALL: ManuallyDrop<Call> = ManuallyDrop::new(Call::NONE));

fn replace(call: Call) -> Call {
    let before = CALL.with(|cell| cell.replace(ManuallyDrop::new(call)));
    ManuallyDrop::into_inner(before)
}

/// Puts the call around back, also by a panic.
struct Outer(Call);

impl Drop for Outer {
    fn drop(&mut self) {
        drop(replace(std::mem::replace(&mut self.0, Call::NONE)));
    }
}

/// Notes what one write to a log came to: of a call, the first error counts, else the last number.
pub(super) fn note<J>(log: &Arc<J>, result: Result<u64, WriteError>) {
    let mut call = replace(Call::NONE);
    if call.log == address(log) {
        call.outcomes = Some(match (call.outcomes, result) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(before)), Ok(seq)) => Ok(before.max(seq)),
            (None, Ok(seq)) => Ok(seq),
        });
    }
    replace(call);
}

/// Runs a call, and says what its writes to a log came to; `None` if there were none.
pub(super) fn of<J, R>(log: &Arc<J>, call: impl FnOnce() -> R) -> (R, Outcomes) {
    let own = Call {
        log: address(log),
        outcomes: None,
    };
    let _outer = Outer(replace(own));
    let result = call();
    (result, replace(Call::NONE).outcomes)
}
