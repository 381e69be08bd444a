//! One closes, and who comes meanwhile waits until that is done: what `close` promises holds then.

use super::LONG;
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
    is_done: bool,
    /// The threads of the journal, which the closer waits for.
    own: Vec<thread::ThreadId>,
}

/// The closer, until it is dropped.
pub(super) struct Turn<'a>(&'a Closing);

impl Closing {
    /// Notes a thread that the closer will wait for, so that it does not wait for the closer.
    pub(super) fn note_own(&self, thread: thread::ThreadId) {
        self.state.lock().own.push(thread);
    }

    /// Whether the caller is to close. If not, it is done, unless the caller is part of it: a waker
    /// that the closer or a thread of the journal wakes may drop the last handle.
    pub(super) fn begin(&self) -> Option<Turn<'_>> {
        let me = thread::current().id();
        let mut state = self.state.lock();
        let Some(closer) = state.by else {
            state.by = Some(me);
            return Some(Turn(self));
        };
        while !state.is_done && closer != me && !state.own.contains(&me) {
            (state, _) = wait_until(&self.done, state, Instant::now() + LONG);
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_done = true;
        self.0.done.notify_all();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[test]
    fn one_closes_and_others_wait_unless_the_closer_waits_for_them() {
        let (closing, is_closed) = (Closing::default(), AtomicBool::new(false));
        let turn = closing.begin().expect("nobody closes");
        assert!(
            closing.begin().is_none(),
            "the closer does not wait for itself"
        );
        std::thread::scope(|scope| {
            let own = scope.spawn(|| {
                closing.note_own(thread::current().id());
                closing.begin().is_none()
            });
            assert!(own.join().unwrap(), "nor for those for which it waits");
            let other = scope.spawn(|| {
                assert!(closing.begin().is_none());
                is_closed.load(SeqCst)
            });
            is_closed.store(true, SeqCst);
            drop(turn);
            assert!(other.join().unwrap());
        });
        assert!(closing.begin().is_none());
    }
}
