//! The steps that the threads take: writing what waits, syncing what was written.

use super::log::LogFile;
use super::{Inner, Syncing, Tail, Trouble};
use crate::contain;
use crate::persist::error::{CommitError, CompactError, DiskError, WriteError};
use crate::sync::MutexGuard;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What a step can end a call with: of what stops the journal for good, such as a panic, the caller
/// is told as of everything else.
pub(super) trait Failure {
    fn stopped(why: CommitError) -> Self;
}

impl Failure for CommitError {
    fn stopped(why: CommitError) -> Self {
        why
    }
}

impl Failure for CompactError {
    fn stopped(why: CommitError) -> Self {
        CompactError::of_step(why)
    }
}

impl Inner {
    /// Writes what waits. Says how many bytes that were.
    pub(super) fn write_step(&self) -> Result<usize, CommitError> {
        let mut tail = self.tail.lock();
        let written = self.timed(&self.asked.write, || {
            self.attempt("writer", || {
                let (durable, (wall_ms, mut made_by)) = (self.commits.durable(), self.wall_time());
                let written = tail.write(&self.buffer, durable, wall_ms, &mut made_by);
                if !matches!(written, Ok(0)) {
                    // If it is off the compactor is told below.
                    self.note_times(made_by);
                }
                written.map_err(CommitError::Disk)
            })
        });
        let (last, is_unlisted) = (tail.next - 1, tail.is_unlisted);
        // Before the lock is given back: of two that write the later has to have the last word, or
        // the gate would stay shut when all is written.
        match &written {
            Ok(0) => {}
            Ok(bytes) => {
                self.buffer.done(*bytes);
                self.gate.log_is(None);
                self.count_log(*bytes as u64);
            }
            Err(CommitError::Disk(error)) => self.gate.log_is(Some(error.clone())),
            Err(_) => {}
        }
        drop(tail);
        match &written {
            Ok(0) => {}
            Ok(_) => {
                self.now.lock().wrote();
                if self.is_log_large() || self.has_stepped() {
                    self.compactor.ring_if_parked();
                }
                if !is_unlisted {
                    self.commits.wrote(last);
                }
                self.free_room();
            }
            Err(CommitError::Disk(error)) => {
                self.counts.write_failures.fetch_add(1, Relaxed);
                let through = self.buffer.last();
                self.commits.fail(through, CommitError::Disk(error.clone()));
                self.free_room();
                // Which tries again. It may be about to sleep, since the buffer is empty.
                self.writer.ring();
            }
            // Those who wait are told where the step is guarded.
            Err(_) => {}
        }
        written
    }

    /// Has those look again who wait for room: there is some, or there will be none.
    pub(super) fn free_room(&self) {
        self.room.is_given_up.store(false, SeqCst);
        if self.room.waiting.load(SeqCst) > 0 {
            drop(self.room.lock.lock());
            self.room.freed.notify_all();
        }
    }

    pub(super) fn count_log(&self, bytes: u64) {
        let size = self.log_bytes.fetch_add(bytes, Relaxed) + bytes;
        if size >= self.settings.log_limit {
            self.gate.log_limit_is(Some(self.settings.log_limit));
        }
    }

    /// Syncs what was written. After a failure nothing is synced any more until there is a new
    /// generation: a second sync of the same file may succeed without writing what the first lost.
    pub(super) fn sync_step(&self) -> Result<(), CommitError> {
        let syncing = self.syncing.lock();
        if syncing.is_distrusted {
            drop(syncing);
            // Unless who has found it out could not.
            self.note_failed_sync();
            return Err(self.distrust());
        }
        let (files, target) = self.tail.lock().files();
        if target <= self.commits.durable() {
            return Ok(());
        }
        if files.is_empty() {
            // It was closed, and the directory may be another's.
            return Err(self.ended().unwrap_or(CommitError::Closed));
        }
        let syncing = self.sync_files(syncing, &files)?;
        self.tail.lock().synced(&files);
        drop(syncing);
        self.check_not_gone()?;
        self.commits.synced(target);
        self.now.lock().last_sync = Some(self.settings.clock.system_time());
        Ok(())
    }

    /// Syncs what there is of logs before the newest one, also where it is no more than marks, for who
    /// makes copies of them.
    pub(super) fn sync_before(&self) -> Result<(), CommitError> {
        let syncing = self.syncing.lock();
        if syncing.is_distrusted {
            return Err(self.distrust());
        }
        let files = self.tail.lock().unsynced.clone();
        let syncing = self.sync_files(syncing, &files)?;
        self.tail.lock().synced(&files);
        drop(syncing);
        Ok(())
    }

    /// Syncs files of the log. If that fails, the lock is given back when all others can see it. A
    /// panic is a failure like any other: what that sync was to write may be lost as well.
    pub(super) fn sync_files<'a>(
        &self,
        mut syncing: MutexGuard<'a, Syncing>,
        files: &[LogFile],
    ) -> Result<MutexGuard<'a, Syncing>, CommitError> {
        if let Some(why) = self.gate.stopped() {
            return Err(why);
        }
        let synced = self.timed(&self.asked.sync, || {
            self.caught("syncer", || {
                let synced = files.iter().try_for_each(LogFile::sync);
                synced.map_err(CommitError::Disk)
            })
        });
        match synced {
            Ok(()) => Ok(syncing),
            Err(error) => {
                syncing.fail();
                drop(syncing);
                self.sync_failed(&error);
                Err(error)
            }
        }
    }

    fn sync_failed(&self, error: &CommitError) {
        self.counts.sync_failures.fetch_add(1, Relaxed);
        if let CommitError::Disk(error) = error {
            self.now.lock().note_trouble(Trouble {
                said: error.to_string(),
                is_passing: false,
            });
        }
        // Also what has been written behind the sync.
        let written = self.tail.lock().next - 1;
        self.commits.fail(written, error.clone());
        self.compactor.ring();
        self.note_failed_sync();
    }

    pub(super) fn distrust(&self) -> CommitError {
        self.compactor.ring();
        let path = self.dir.join("the log");
        let error = std::io::Error::other("a sync failed before; a new generation is needed");
        CommitError::Disk(DiskError::new("sync", &path, error))
    }

    /// Makes durable all that has been appended, by a new generation if need be.
    pub(super) fn sync_all(&self) -> Result<u64, CommitError> {
        let target = self.buffer.last();
        self.check_not_gone()?;
        if self.commits.durable() < target {
            if let Some(error) = self.ended() {
                return Err(error);
            }
            if self.needs_generation() || !self.settings.log {
                self.compact().map_err(CommitError::from)?;
            } else {
                self.write_through(target)?;
                self.sync_step()?;
            }
        }
        match self.commits.durable() {
            durable if durable >= target => Ok(durable),
            // It began to fail meanwhile.
            _ => Err(self.distrust()),
        }
    }

    /// Writes until all numbers up to `seq` are in the log, as far as they are kept. To sync them
    /// is left to the caller: the writer, which has that done, finds nothing any more.
    pub(super) fn write_through(&self, seq: u64) -> Result<(), CommitError> {
        while self.tail.lock().next <= seq {
            if self.write_step()? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the steps on this thread if no other does: to wake two threads, and be woken by them,
    /// takes longer than a sync. Who comes meanwhile is served by the threads, all at once.
    pub(super) fn lead(&self, seq: u64) {
        if let Some(_leading) = self.leading.try_lock() {
            self.push(seq);
        }
    }

    /// Takes the steps that bring a write where the policy wants it.
    pub(super) fn push(&self, seq: u64) {
        let _: Result<(), CommitError> = self.guarded("writer", || {
            self.write_through(seq)?;
            if self.waits_for_disk() {
                self.sync_step()?;
            }
            Ok(())
        });
    }

    /// Says that the log is proven on disk, for who opens it.
    pub(super) fn mark_step(&self) -> Result<(), CommitError> {
        let mut tail = self.tail.lock();
        if tail.is_unlisted {
            return Ok(());
        }
        let (wall_ms, made_by) = self.wall_time();
        let marked = self.timed(&self.asked.write, || {
            self.attempt("writer", || {
                let marked = tail.mark(self.commits.durable(), wall_ms);
                marked.map_err(CommitError::Disk)
            })
        });
        // The time in it counts for all deadlines. What has failed may be there all the same.
        let is_off = !matches!(marked, Ok(false)) && self.note_times(made_by);
        drop(tail);
        if is_off {
            self.compactor.ring_if_parked();
        }
        marked.map(drop)
    }

    pub(super) fn ended(&self) -> Option<CommitError> {
        match self.gate.reason() {
            Some(WriteError::Closed) => Some(CommitError::Closed),
            _ => self.gate.stopped(),
        }
    }

    /// Runs a step, outside of all locks. A panic anywhere in it ends the journal, visibly, and so
    /// does a directory that is gone. In a process that was forked there are no steps.
    pub(super) fn guarded<R, E: Failure>(
        &self,
        thread: &str,
        step: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        if self.is_forked() {
            return Err(E::stopped(self.leave_to_parent()));
        }
        let result = self.caught(thread, step);
        if result.is_err()
            && let Some(why) = self.gate.stopped()
        {
            self.commits.end(why);
            self.free_room();
        }
        result
    }

    /// Changes files, under the lock that keeps others from them. A panic leaves them in a state
    /// that nobody knows, so it is decided before the lock is given back: who has it next begins
    /// nothing. Wakes nobody, since that is not done under a lock: the step is guarded, too.
    pub(super) fn attempt<R, E: Failure>(
        &self,
        thread: &str,
        change: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        match self.gate.stopped() {
            Some(why) => Err(E::stopped(why)),
            None => self.caught(thread, change),
        }
    }

    pub(super) fn caught<R, E: Failure>(
        &self,
        thread: &str,
        step: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        contain::said(step).unwrap_or_else(|said| {
            let thread = format!("{thread}: {said}");
            let reason = thread.clone();
            self.gate.end(WriteError::Panicked { thread: reason });
            Err(E::stopped(CommitError::Panicked { thread }))
        })
    }
}

impl Tail {
    /// What a sync has to cover, the oldest first, and the number up to which it then does.
    pub(super) fn files(&self) -> (Vec<LogFile>, u64) {
        let logs = self.unsynced.iter().chain(&self.log).cloned();
        (logs.collect(), self.next - 1)
    }
}
