//! Closing: writes and syncs all, lets go of the contents, and gives the directory free.
//!
//! One closes, and who comes meanwhile waits until that is done: what `close` promises holds then.

use super::{Inner, LONG};
use crate::persist::closed;
use crate::persist::contents::Contents;
use crate::persist::error::{CommitError, CompactError, WriteError};
use crate::persist::report::CloseReport;
use crate::sync::{Condvar, Mutex, thread, wait_until};
use std::sync::Arc;
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

impl Inner {
    pub(super) fn close(&self) -> Result<CloseReport, CommitError> {
        if std::mem::replace(&mut self.now.lock().is_closed, true) {
            return Ok(self.close_report());
        }
        let (stopped, refusal) = (self.gate.stopped(), self.gate.reason());
        self.gate.end(WriteError::Closed);
        self.free_room();
        let closed = match (stopped, refusal) {
            (Some(why), _) => Err(why),
            (_, Some(WriteError::ReadOnly)) => Ok(()),
            _ => self.guarded("close", || self.finish()),
        };
        self.commits
            .end(self.ended().unwrap_or(CommitError::Closed));
        // What is kept may keep the journal, so it is let go of last, and outside of the lock.
        let contents = self.let_go(closed.is_ok());
        drop(contents);
        closed.map(|()| self.close_report())
    }

    /// Gives the directory free. A compaction or a backup that another thread is at has to end
    /// before, since whoever opens the directory next owns its files; none begins afterwards, and
    /// nothing is written to the log.
    fn let_go(&self, is_closed: bool) -> Option<Arc<dyn Contents>> {
        let _alone = self.alone();
        let contents = self.contents.lock().take();
        let syncing = self.syncing.lock();
        let mut tail = self.tail.lock();
        tail.log = None;
        tail.unsynced.clear();
        drop(tail);
        drop(syncing);
        // No sync is begun any more.
        self.note_failed_sync();
        if is_closed {
            // What was written while it was closed has no log any more.
            self.mark_closed();
        }
        // Who has found that a sync failed may be about to say so, and would to the next owner.
        let publishing = self.publishing.lock();
        *self.lock.lock() = None;
        drop(publishing);
        contents
    }

    fn close_report(&self) -> CloseReport {
        CloseReport {
            last_seq: self.buffer.last(),
            durable_seq: self.commits.durable(),
        }
    }

    fn finish(&self) -> Result<(), CommitError> {
        self.check_not_gone()?;
        let (last, off) = (self.buffer.last(), self.clocks.off());
        if !self.settings.log || self.needs_generation() {
            if self.commits.durable() < last || self.needs_generation() {
                self.compact_closing().map_err(|error| {
                    // What waits is as safe as it can be then: as what a process that is killed has
                    // written. Of that nothing is promised, so it may fail.
                    let _ = self.write_through(last);
                    CommitError::from(error)
                })?;
            }
            if self.needs_generation() {
                // A sync of the new log has failed, too.
                return Err(self.distrust());
            }
        } else {
            let written = self.write_through(last);
            let synced = self.sync_step();
            written.and(synced)?;
        }
        if self.clocks.off() != off && self.has_stepped() {
            // What has just been written has times of another clock. Without this it keeps them.
            let _ = self.compact_closing();
        }
        // The manifest of before would list what a compaction of another thread has just removed.
        let _alone = self.alone();
        self.attempt("close", || self.mark_last())
    }

    /// Says that all is in the files, if it is, where that is asked. Without it the next start is a
    /// cold one.
    fn mark_closed(&self) {
        let last = self.buffer.last();
        let is_asked = self.settings.discards_unclosed && !self.settings.is_read_only();
        if !is_asked || last > self.commits.durable() {
            return;
        }
        let store = self.catalog.lock().store;
        let mark = || closed::mark(&*self.storage, &self.dir, store, last);
        let _: Result<(), CompactError> = self.caught("close", || Ok(mark()?));
    }

    /// Says durably how far the log is proven on disk.
    fn mark_last(&self) -> Result<(), CommitError> {
        self.mark_step()?;
        let syncing = self.syncing.lock();
        let (files, _) = self.tail.lock().files();
        drop(self.sync_files(syncing, &files)?);
        // So that a log that is cut below its last mark is told from one that ended there.
        if self.catalog.lock().durable < self.commits.durable() {
            self.list()?;
        }
        Ok(())
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
