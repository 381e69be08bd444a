//! The files of a cache or a store, as their user sees them.

use super::error::{CommitError, CompactError, WriteError};
use super::journal::OpenJournal;
use super::report::{
    BackupReport, CloseReport, CompactReport, Health, HealthState, RecoveryReport,
};
use crate::reentrancy;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;

/// The files of a cache or a store: what can be asked of them, and done with them.
///
/// From [`Cache::journal`](crate::Cache::journal) and [`Store::journal`](crate::Store::journal).
/// Cheap to clone, and no handle of the cache: with the last of those the files are closed.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let (dir, backup) = (dir.path().join("cache"), dir.path().join("backup"));
/// let pages = haybox::Cache::<String, String>::builder().max_entries(10_000).open(&dir)?;
/// let journal = pages.journal().expect("it was opened on a directory");
/// println!("{}", journal.recovery());
///
/// pages.insert("/".into(), "hello".into());
/// journal.sync()?; // On the disk, whatever the policy.
/// journal.backup(&backup)?; // A directory that can be opened like this one.
/// assert_eq!(journal.health().unencodable, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Journal {
    pub(super) open: Arc<OpenJournal>,
    pub(super) recovery: Arc<RecoveryReport>,
    /// What the eviction policy knows is worth a snapshot at the end.
    pub(super) evicts: bool,
    pub(super) gather: Option<Gather>,
}

/// Writes what is to be in the files and is not written at once, as the counts of counters.
pub(crate) type Gather = Arc<dyn Fn() -> Result<(), WriteError> + Send + Sync>;

/// A directory of up to this size is compacted when it is closed, for what only a snapshot has.
const SMALL: u64 = 16 << 20;

impl Journal {
    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// This journal, which gathers what is to be written before all that is to have everything.
    pub(crate) fn gathering(self, gather: Gather) -> Self {
        Self {
            gather: Some(gather),
            ..self
        }
    }

    /// Gathers; the reason where something has no bytes. What else fails is told by what comes next.
    fn gather(&self) -> Result<(), String> {
        // In a child nobody gives back the locks that threads of the parent had.
        let gather = self.gather.as_ref().filter(|_| !self.open.is_forked());
        let gather = gather.filter(|_| reentrancy::check());
        match gather.map_or(Ok(()), |gather| gather()) {
            Err(error @ (WriteError::Encode(_) | WriteError::TooLarge { .. })) => {
                Err(error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Puts everything on the disk that was written before the call, whatever the policy; the number
    /// of the last such write. Calls at the same time share one sync.
    ///
    /// # Errors
    /// It is not known whether all is on the disk.
    #[doc(alias = "flush")]
    #[track_caller]
    pub fn sync(&self) -> Result<u64, CommitError> {
        let gathered = self.gather();
        let synced = self.open.sync()?;
        gathered.map(|()| synced).map_err(CommitError::Encode)
    }

    /// The number of the last write that is proven to be on the disk.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.open.durable_seq()
    }

    /// The number of the last write.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.open.last_seq()
    }

    /// How the files are, and whether the disk does what it should.
    #[must_use]
    pub fn health(&self) -> Health {
        self.open.health()
    }

    /// Writes a new snapshot now and removes the log that it makes superfluous, while reads and
    /// writes go on. It is done by itself when the log has grown
    /// ([`compact_at`](super::Persistence::compact_at)).
    ///
    /// Entries are encoded under the lock of their set, about 1 MiB at a time or one entry that is
    /// larger, so that is what a read or a write of another key of the set waits for. All entries of
    /// a set are encoded at once only where a hasher gives them the same hash. The memory that it
    /// takes is some MiB and about three times the largest entry, as long as that is in the files.
    ///
    /// # Errors
    /// The old files are intact.
    pub fn compact(&self) -> Result<CompactReport, CompactError> {
        self.open.compact()
    }

    /// Makes a directory that holds everything written before the call and can be opened like any
    /// other, while reads and writes go on. On the same file system the files are hard links, and
    /// it takes next to no time and space.
    ///
    /// # Errors
    /// The directory holds files, or the disk fails. Of two backups into the same directory at the
    /// same time, of whatever stores or processes, one is
    /// [`CompactError::NotEmpty`](super::CompactError).
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport, CompactError> {
        self.gather().map_err(CompactError::Encode)?;
        self.open.backup(to.as_ref())
    }

    /// Writes and syncs everything and lets go of the directory. The last handle of a cache or a
    /// store does so when it is dropped, which is of no help to those in a `static`, and tells
    /// nobody whether it has succeeded. Where one is dropped inside a closure, another thread closes:
    /// a call of this waits for it.
    ///
    /// A call after one that has closed, or has failed to, says what that one said: the directory is
    /// free either way, and nothing is tried again.
    ///
    /// A cache goes on in memory; the writes of a store fail. That of a cache that evicts, and has less
    /// than 16 MiB of files, is compacted before, so that it knows after the restart what was hot; so is
    /// whatever has not been since the wall clock was set ([there](super#the-clock)).
    ///
    /// # Errors
    /// It is not known whether all is on the disk. [`CommitError::Closing`] where another call is at it
    /// and waits for this one, which a waker can make.
    pub fn close(&self) -> Result<CloseReport, CommitError> {
        let gathered = self.gather();
        if self.evicts && self.is_worth_compacting() || self.open.has_stepped() {
            // Without it the log says the same, but for what was hot, and by the clock of before. Others
            // may write meanwhile, and are waited on while the threads still run.
            let _ = self.open.compact();
        }
        let closed = self.open.close()?;
        gathered.map(|()| closed).map_err(CommitError::Encode)
    }

    fn is_worth_compacting(&self) -> bool {
        // A thread of the parent may have had the locks of the health when it forked.
        if self.open.is_forked() {
            return false;
        }
        let health = self.open.health();
        let is_small = health.log_bytes.saturating_add(health.snapshot_bytes) < SMALL;
        is_small && health.state == HealthState::Well
    }
}

// A panic in what gathers is contained there, key by key.
impl UnwindSafe for Journal {}
impl RefUnwindSafe for Journal {}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open.fmt(f)
    }
}
