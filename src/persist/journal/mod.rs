//! The journal: effects go in at one end, under the locks of the sets, and come out durable.
//!
//! ```text
//! append ──> buffer ──writer──> log file ──syncer──> the disk
//!                                   └──compactor──> snapshot, new log
//! ```
//!
//! Each of the three threads does nothing but take steps, and who wants to wait for one
//! (`sync`, `close`, `compact`, a test) can take it himself. The locks, in the order in which they
//! are taken: `compacting`, `publishing`, `syncing`, `tail`, the buffer's; `catalog` under any but
//! the last.

mod backup;
mod begin;
mod bell;
mod buffer;
mod clocks;
mod closing;
mod commits;
mod compact;
mod due;
mod gate;
mod log;
mod open;
mod ownership;
mod retry;
mod rotate;
mod snapshot;
mod stall;
mod steps;
mod threads;

use self::bell::Bell;
use self::buffer::{Appended, Buffer};
use self::clocks::Clocks;
use self::closing::{Begun, Closing};
use self::commits::Commits;
pub(crate) use self::commits::Place;
use self::gate::Gate;
use self::log::Tail;
use self::retry::{Attempts, Demand};
use self::stall::Asked;
use super::contents::Contents;
use super::effect::Effects;
use super::error::{CommitError, CompactError, WriteError};
use super::frame::LARGEST;
use super::manifest::Manifest;
use super::report::{BackupReport, CloseReport, CompactReport, Health, HealthState};
use super::settings::{Settings, SyncPolicy, WhenFull};
use super::storage::{Lock, Storage};
use crate::reentrancy;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, thread, wait_until};
use crate::time::{Clock, NEVER, after};
use crate::wait;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

/// A directory that is kept up to date with what is appended.
///
/// Dropping it closes it, and waits for what the disk is doing at that moment.
pub(crate) struct OpenJournal {
    inner: Arc<Inner>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    closing: Closing,
}

// A panic of a thread that writes is told of by `health`, and no write counts as safe after it.
impl UnwindSafe for OpenJournal {}
impl RefUnwindSafe for OpenJournal {}

/// A day, for who waits for ever.
const LONG: Duration = Duration::from_secs(86_400);

/// What the threads share.
struct Inner {
    dir: PathBuf,
    settings: Settings,
    storage: Arc<dyn Storage>,
    buffer: Buffer,
    commits: Commits,
    gate: Gate,
    tail: Mutex<Tail>,
    syncing: Mutex<Syncing>,
    /// Held by a caller that takes the steps for which it would have to wait.
    leading: Mutex<()>,
    /// Held by a compaction or a backup.
    compacting: Mutex<Attempts>,
    demand: Demand,
    /// Held while the manifest is replaced: by who holds `compacting`, and by whoever has found that a
    /// sync failed, which does not wait for that.
    publishing: Mutex<()>,
    catalog: Mutex<Manifest>,
    /// `None` after close: what is kept may itself keep the journal.
    contents: Mutex<Option<Arc<dyn Contents>>>,
    lock: Mutex<Option<Lock>>,
    room: Room,
    asked: Asked,
    writer: Bell,
    syncer: Bell,
    compactor: Bell,
    log_bytes: AtomicU64,
    clocks: Clocks,
    counts: Counts,
    now: Mutex<Now>,
    /// The process that has opened the directory.
    process: AtomicU64,
    /// The last number of what was recovered.
    opened_at: u64,
}

#[derive(Debug, Default)]
struct Syncing {
    /// A sync of the log failed, or something was not logged: all of it has to be written to new
    /// files before anything more counts as durable.
    is_distrusted: bool,
    /// How many syncs of the log have failed. The next sync of the same file says nothing of what
    /// that one lost, so who relies on a sync has to know whether one failed before it. Where half
    /// a frame stays in the midst of the log it is the same: it has to be written anew.
    failures: u64,
}

impl Syncing {
    fn fail(&mut self) {
        self.is_distrusted = true;
        self.failures += 1;
    }
}

/// Who waits for room in the buffer.
#[derive(Debug, Default)]
struct Room {
    waiting: AtomicU64,
    /// Somebody has waited in vain, and nothing was written since: in a cache nobody waits any more.
    is_given_up: AtomicBool,
    lock: Mutex<()>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    write_failures: AtomicU64,
    sync_failures: AtomicU64,
    compactions: AtomicU64,
    compaction_failures: AtomicU64,
    unencodable: AtomicU64,
}

/// What is going on.
#[derive(Debug, Default)]
struct Now {
    trouble: Option<Trouble>,
    last_sync: Option<SystemTime>,
    /// The position that a compaction has reached.
    compaction: Option<u64>,
    is_closed: bool,
}

/// A failure that lasts.
#[derive(Debug)]
struct Trouble {
    said: String,
    /// Nothing tries again what failed, so it lasts until the disk takes a write.
    is_passing: bool,
}

impl OpenJournal {
    /// Before any lock is taken: waits until `bytes` fit into the buffer, or says why writes are
    /// refused now.
    ///
    /// Between this and `append` other threads may use the room, so the buffer can exceed its
    /// capacity by one write of each thread.
    ///
    /// # Errors
    ///
    /// The disk is full or fails, the buffer stays full, `bytes` are more than any write may have,
    /// the journal was closed or opened read-only, or one of its threads panicked.
    #[inline]
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), WriteError> {
        self.look()?;
        if bytes > LARGEST {
            return Err(WriteError::TooLarge {
                bytes,
                limit: LARGEST,
            });
        }
        if self.inner.buffer.has_room(bytes) {
            return Ok(());
        }
        self.inner.wait_for_room(bytes)
    }

    /// Whether writes are taken. Where one is refused for want of a compaction, that is due soon.
    #[inline]
    pub(crate) fn look(&self) -> Result<(), WriteError> {
        self.inner.gate.check().inspect_err(|_| {
            if self.inner.settings.refuses {
                self.inner.want_compaction();
            }
        })
    }

    /// Under a set's lock: numbers effects, which are recovered all or none, and copies them.
    /// Returns the number of the last. Never waits for the disk.
    #[inline]
    pub(crate) fn append(&self, effects: &Effects) -> u64 {
        let appended = self.inner.buffer.append(effects);
        self.inner.told(appended);
        appended.last
    }

    /// As [`append`](Self::append), if the buffer is not full. What is dropped is counted.
    pub(crate) fn append_if_room(&self, effects: &Effects) -> bool {
        let appended = self.inner.buffer.append_if_room(effects);
        appended
            .inspect(|appended| self.inner.told(*appended))
            .is_some()
    }

    /// Waits until a write is as safe as the policy says: with `Always` on the disk, otherwise
    /// handed to the system. Without a log: in a snapshot.
    ///
    /// # Errors
    ///
    /// It is not known whether the write is safe.
    ///
    /// # Panics
    ///
    /// Under the lock of a set: it may take a snapshot, which would wait for that.
    #[track_caller]
    pub(crate) fn wait(&self, seq: u64, until: Option<Instant>) -> Result<(), CommitError> {
        if !reentrancy::check() {
            return Err(CommitError::Reentrant);
        }
        if self.inner.settings.by_hand || (until.is_none() && self.inner.waits_for_disk()) {
            self.inner.lead(seq);
        }
        let clock = Clock::real();
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let until = until.map_or(NEVER, |until| after(clock.now(), left(until)));
        let mut place = Place::default();
        let look = |waker: &_| self.inner.poll_commit(seq, waker, &mut place);
        let waited = wait::block(&clock, until, look);
        self.end_wait(seq, &mut place);
        waited.unwrap_or(Err(CommitError::TimedOut))
    }

    /// As [`wait`](Self::wait), for a task, which gives its place back in the end.
    #[track_caller]
    pub(crate) fn poll_wait(
        &self,
        seq: u64,
        context: &mut Context<'_>,
        place: &mut Place,
    ) -> Poll<Result<(), CommitError>> {
        if !reentrancy::check() {
            return Poll::Ready(Err(CommitError::Reentrant));
        }
        if self.inner.settings.by_hand {
            self.inner.push(seq);
        }
        self.inner.poll_commit(seq, context.waker(), place)
    }

    /// Forgets who waited in a place for a number. In a child of a fork nobody is woken, and a thread
    /// of the parent may have had the lock that this takes.
    pub(crate) fn end_wait(&self, seq: u64, place: &mut Place) {
        if place.is_taken() && !self.inner.is_forked() {
            self.inner.commits.leave(seq, place);
        }
    }

    /// Makes durable all that has been appended before the call. Returns the number of the last
    /// that is. Calls at the same time share one sync.
    ///
    /// # Errors
    ///
    /// It is not known whether all is durable.
    pub(crate) fn sync(&self) -> Result<u64, CommitError> {
        if !reentrancy::check() {
            return Err(CommitError::Reentrant);
        }
        self.inner.guarded("sync", || self.inner.sync_all())
    }

    /// How far the wall clock was ahead when the oldest deadlines in the files were written.
    pub(crate) fn written_by(&self) -> i64 {
        self.inner.written_by()
    }

    /// Whether the wall clock was set since the deadlines in the files were written.
    pub(crate) fn has_stepped(&self) -> bool {
        self.inner.has_stepped()
    }

    /// How far the log is proven on disk.
    pub(crate) fn durable_seq(&self) -> u64 {
        self.inner.commits.durable()
    }

    /// The last number that was given.
    pub(crate) fn last_seq(&self) -> u64 {
        self.inner.buffer.last()
    }

    /// Counts an entry that is in memory and could not be encoded.
    pub(crate) fn count_unencodable(&self) {
        self.inner.counts.unencodable.fetch_add(1, Relaxed);
    }

    pub(crate) fn health(&self) -> Health {
        self.inner.health()
    }

    /// Whether this is a child of the process that has opened the directory.
    pub(crate) fn is_forked(&self) -> bool {
        self.inner.is_forked()
    }

    /// Has this process be another than the one that has opened the directory.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn fork(&self) {
        self.inner.process.store(0, Relaxed);
    }

    /// Has this process be the one that has opened the directory again.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn fork_back(&self) {
        let parent = crate::process::this_process();
        self.inner.process.store(parent.into(), Relaxed);
    }

    /// As [`fork`](Self::fork), while another thread has the lock of what the files are.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn fork_while_locked(&self) -> impl Drop {
        let catalog = self.inner.catalog.lock();
        self.fork();
        catalog
    }

    /// Whether a call to close has begun.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.has_begun()
    }

    /// As the writer does at rest.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn mark(&self) -> Result<(), CommitError> {
        self.inner.mark_step()
    }

    /// How long the compactor would sleep.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn time_to_compaction(&self) -> Option<Duration> {
        self.inner.time_to_compaction()
    }

    /// Writes a new snapshot, and removes what it makes superfluous. One at a time: a call during
    /// another waits for that and compacts again.
    ///
    /// # Errors
    ///
    /// The old files are intact.
    pub(crate) fn compact(&self) -> Result<CompactReport, CompactError> {
        if !reentrancy::check() {
            return Err(CompactError::Reentrant);
        }
        self.inner.guarded("compactor", || self.inner.compact())
    }

    /// Makes a directory that holds the state of now and can be opened like any other.
    ///
    /// # Errors
    ///
    /// The directory holds files, or the disk fails; what was made of the backup stays.
    pub(crate) fn backup(&self, to: &Path) -> Result<BackupReport, CompactError> {
        if !reentrancy::check() {
            return Err(CompactError::Reentrant);
        }
        self.inner.guarded("backup", || self.inner.backup(to))
    }

    /// Writes and syncs all, lets go of the contents and gives the directory free. What is appended
    /// afterwards is lost. A second call does nothing but wait for the first, and says what that says.
    ///
    /// # Errors
    ///
    /// It is not known whether all is durable. After [`CommitError::Closing`] the contents may still
    /// be walked: a first call waits for what makes this one.
    pub(crate) fn close(&self) -> Result<CloseReport, CommitError> {
        if !reentrancy::check() {
            return Err(CommitError::Reentrant);
        }
        self.end()
    }

    fn end(&self) -> Result<CloseReport, CommitError> {
        if self.inner.is_forked() {
            // Of the threads that would have to end there is none here.
            return Err(self.inner.leave_to_parent());
        }
        let turn = match self.closing.begin() {
            Begun::Mine(turn) => turn,
            Begun::Done(closed) => return closed,
            Begun::UnderWay => return Err(CommitError::Closing),
        };
        self.stop_threads();
        turn.done(self.inner.close())
    }
}

impl Drop for OpenJournal {
    fn drop(&mut self) {
        // Nobody is left to be told; `close` is there for who wants to know.
        let _ = self.end();
    }
}

impl fmt::Debug for OpenJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.inner.dir)
            .field("last_seq", &self.last_seq())
            .field("durable_seq", &self.durable_seq())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Has the writer look, if it does not do so by itself.
    #[inline]
    fn told(&self, appended: Appended) {
        if appended.crossed_half {
            self.writer.ring();
        } else {
            self.writer.ring_if_parked();
        }
    }

    fn poll_commit(
        &self,
        seq: u64,
        waker: &Waker,
        place: &mut Place,
    ) -> Poll<Result<(), CommitError>> {
        let found = self.commits.poll(seq, waker, place);
        if found.is_pending() {
            if self.is_forked() {
                return Poll::Ready(Err(self.leave_to_parent()));
            }
            self.writer.ring();
            self.want_compaction();
        }
        found
    }

    /// Somebody waits for a write to become durable, or is refused: where that is for want of a
    /// compaction that failed, the next one is due soon.
    fn want_compaction(&self) {
        if self.demand.note() {
            self.compactor.ring();
        }
    }

    #[cold]
    fn wait_for_room(&self, bytes: usize) -> Result<(), WriteError> {
        if self.is_forked() {
            // There is no thread here that would make some.
            self.leave_to_parent();
            return Err(WriteError::Closed);
        }
        let start = Instant::now();
        let WhenFull::Block(patience) = self.settings.when_full else {
            self.writer.ring();
            let waited = Duration::ZERO;
            return Err(WriteError::BufferFull { waited });
        };
        if self.settings.by_hand {
            let _ = self.guarded("writer", || self.write_step());
        }
        if self.room.is_given_up.load(SeqCst) {
            self.writer.ring();
            let waited = Duration::ZERO;
            return Err(WriteError::BufferFull { waited });
        }
        self.room.waiting.fetch_add(1, SeqCst);
        let result = self.room_until(bytes, start, patience);
        self.room.waiting.fetch_sub(1, SeqCst);
        result
    }

    fn room_until(
        &self,
        bytes: usize,
        start: Instant,
        patience: Duration,
    ) -> Result<(), WriteError> {
        let mut guard = self.room.lock.lock();
        loop {
            self.gate.check()?;
            if self.buffer.has_room(bytes) {
                return Ok(());
            }
            let waited = start.elapsed();
            if waited >= patience || self.settings.by_hand {
                return match self.gives_up(bytes) {
                    true => Err(WriteError::BufferFull { waited }),
                    false => Ok(()),
                };
            }
            self.writer.ring();
            // What the clock cannot hold is waited for in parts.
            let left = (patience - waited).min(LONG);
            (guard, _) = wait_until(&self.room.freed, guard, Instant::now() + left);
        }
    }

    /// Whether there is still no room. A cache goes on in memory, and its next writes need not wait to
    /// find that out again. A store's caller is told, and decides itself how often to come.
    fn gives_up(&self, bytes: usize) -> bool {
        if self.settings.refuses {
            return true;
        }
        // Then the last look: who has made room takes it back after that, so one of the two sees what
        // the other has done.
        self.room.is_given_up.swap(true, SeqCst);
        let has_room = self.buffer.has_room(bytes);
        if has_room {
            self.room.is_given_up.store(false, SeqCst);
        }
        !has_room
    }

    fn health(&self) -> Health {
        let stall = self.stall();
        let catalog = self.catalog.lock();
        let (generation, newest) = (catalog.generation, catalog.newest());
        drop(catalog);
        let refusal = self.gate.reason();
        let now = self.now.lock();
        let state = match &refusal {
            Some(WriteError::Panicked { .. }) => HealthState::Failed,
            _ if now.is_closed => HealthState::Closed,
            Some(WriteError::ReadOnly) => HealthState::ReadOnly,
            None if now.trouble.is_none() && stall.is_none() => HealthState::Well,
            _ => HealthState::Troubled,
        };
        let is_meant = matches!(state, HealthState::ReadOnly | HealthState::Closed);
        let said = refusal.filter(|_| !is_meant);
        Health {
            state,
            trouble: (said.map(trouble_of))
                .or_else(|| now.said())
                .or(stall.filter(|_| !is_meant)),
            last_seq: self.buffer.last(),
            written_seq: self.commits.written(),
            durable_seq: self.commits.durable(),
            waiting_bytes: self.buffer.used(),
            log_bytes: self.log_bytes.load(Relaxed),
            snapshot_bytes: newest.map_or(0, |snapshot| snapshot.bytes),
            generation,
            write_failures: self.counts.write_failures.load(Relaxed),
            sync_failures: self.counts.sync_failures.load(Relaxed),
            compactions: self.counts.compactions.load(Relaxed),
            compaction_failures: self.counts.compaction_failures.load(Relaxed),
            compaction: now.compaction.map(|at| at as f32 / u64::MAX as f32),
            dropped_extensions: self.buffer.dropped(),
            unlogged: self.buffer.unlogged(),
            unencodable: self.counts.unencodable.load(Relaxed),
            last_sync: now.last_sync,
        }
    }

    fn waits_for_disk(&self) -> bool {
        self.settings.sync == SyncPolicy::Always
    }
}

impl Now {
    fn said(&self) -> Option<String> {
        self.trouble.as_ref().map(|trouble| trouble.said.clone())
    }

    /// Something has failed. What passes with the next write hides nothing that lasts.
    fn note_trouble(&mut self, trouble: Trouble) {
        if !trouble.is_passing || self.trouble.as_ref().is_none_or(|now| now.is_passing) {
            self.trouble = Some(trouble);
        }
    }

    /// The disk has taken a write.
    fn wrote(&mut self) {
        self.trouble.take_if(|trouble| trouble.is_passing);
    }
}

/// What is wrong, without what it means for a write: a cache goes on in memory.
fn trouble_of(reason: WriteError) -> String {
    match reason {
        WriteError::Disk(error) => error.to_string(),
        reason => reason.to_string(),
    }
}
