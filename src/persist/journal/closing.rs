//! One closes, and who comes meanwhile waits until that is done: what `close` promises holds then.

use super::LONG;
use crate::persist::error::CommitError;
use crate::persist::report::CloseReport;
use crate::sync::{Condvar, Mutex, thread, wait_until};
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Closing {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    by: Option<thread::ThreadId>,
    /// What it came to, once it is done.
    closed: Option<Closed>,
    /// The threads of the journal, which the closer waits for.
    own: Vec<thread::ThreadId>,
}

/// What closing comes to, for all who ask for it.
type Closed = Result<CloseReport, CommitError>;

/// The closer, until it is done, or dropped by a panic.
pub(super) struct Turn<'a>(&'a Closing);

/// What a call to close finds.
pub(super) enum Begun<'a> {
    /// The caller is to close.
    Mine(Turn<'a>),
    /// It is closed, or could not be.
    Done(Closed),
    /// Another call is at it and waits for the caller, or is the caller's own: what `close` promises
    /// does not hold yet.
    UnderWay,
}

impl Closing {
    /// Notes a thread that the closer will wait for, so that it does not wait for the closer.
    pub(super) fn note_own(&self, thread: thread::ThreadId) {
        self.state.lock().own.push(thread);
    }

    /// Waits until it is closed, unless the caller is to close, or is part of the closing: a waker
    /// that the closer or a thread of the journal wakes may drop the last handle.
    pub(super) fn begin(&self) -> Begun<'_> {
        let me = thread::current().id();
        let mut state = self.state.lock();
        let Some(closer) = state.by else {
            state.by = Some(me);
            return Begun::Mine(Turn(self));
        };
        loop {
            if let Some(closed) = &state.closed {
                return Begun::Done(closed.clone());
            }
            if closer == me || state.own.contains(&me) {
                return Begun::UnderWay;
            }
            (state, _) = wait_until(&self.done, state, Instant::now() + LONG);
        }
    }

    /// Whether one closes, or has closed.
    #[cfg(all(test, not(shuttle)))]
    pub(super) fn has_begun(&self) -> bool {
        self.state.lock().by.is_some()
    }
}

impl Turn<'_> {
    /// Tells those who wait, and who come later, what it came to.
    pub(super) fn done(self, closed: Closed) -> Closed {
        self.0.state.lock().closed = Some(closed.clone());
        closed
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let panicked = || {
            let thread = "close".to_owned();
            Err(CommitError::Panicked { thread })
        };
        self.0.state.lock().closed.get_or_insert_with(panicked);
        self.0.done.notify_all();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[test]
    fn one_closes_and_others_wait_and_hear_the_same_unless_the_closer_waits_for_them() {
        let (closing, is_closed) = (Closing::default(), AtomicBool::new(false));
        let is_part = || matches!(closing.begin(), Begun::UnderWay);
        let is_done = || matches!(closing.begin(), Begun::Done(Err(CommitError::TimedOut)));
        let Begun::Mine(turn) = closing.begin() else {
            panic!("nobody closes");
        };
        assert!(is_part(), "the closer does not wait for itself");
        std::thread::scope(|scope| {
            let own = scope.spawn(|| {
                closing.note_own(thread::current().id());
                is_part()
            });
            assert!(own.join().unwrap(), "nor for those for which it waits");
            let other = scope.spawn(|| is_done() && is_closed.load(SeqCst));
            is_closed.store(true, SeqCst);
            assert!(turn.done(Err(CommitError::TimedOut)).is_err());
            assert!(other.join().unwrap());
            let own = scope.spawn(|| {
                closing.note_own(thread::current().id());
                is_done()
            });
            assert!(own.join().unwrap() && is_done());
        });
    }

    #[test]
    fn who_waits_for_a_closer_that_panics_is_told() {
        let closing = Closing::default();
        let Begun::Mine(turn) = closing.begin() else {
            panic!("nobody closes");
        };
        drop(turn);
        let closed = closing.begin();
        assert!(matches!(
            closed,
            Begun::Done(Err(CommitError::Panicked { .. }))
        ));
    }
}
