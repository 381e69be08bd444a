//! What recovery, compaction, backups and the running journal tell.

use super::error::{Damage, Unreadable};
use crate::figures::Metric;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What opening a directory found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the directory was new.
    pub created: bool,
    /// Entries that are alive after recovery.
    pub entries: u64,
    /// Entries whose time had passed, or whose tag was invalidated.
    pub expired: u64,
    /// Frames that were read, of the snapshot and of the logs.
    pub frames: u64,
    /// Effects that came from the snapshot.
    pub from_snapshot: u64,
    /// Effects that came from the logs.
    pub from_log: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// The number of the last write that is in the recovered state.
    pub last_seq: u64,
    /// The number up to which the files prove what was on disk.
    pub durable_seq: u64,
    /// Where the log ended in the middle of a write, or, after a salvage, all that is damaged.
    pub damages: Vec<Damage>,
    /// What a salvage has read around, since it cannot be read; `damages` says what was lost by it.
    pub unreadable: Vec<Unreadable>,
    /// Bytes that were left out, because of damage or for a point in time.
    pub dropped_bytes: u64,
    /// Of these, bytes of which there is no copy in `quarantine/`: an unfinished write that was cut
    /// off while the disk was full.
    pub uncopied_bytes: u64,
    /// The first and the last number that were seen in what was left out, where they can be read.
    pub dropped_seqs: Option<(u64, u64)>,
    /// Entries that a salvage left out because they do not decode, or what decodes them panics.
    pub undecodable: u64,
    /// What was put aside, in `quarantine/`. Of a torn tail one file for each log that was cut,
    /// with what lay behind the cut, unless the disk is full; of a salvage, and of a return to a
    /// point in time, one directory with all files as they were, which is opened like any other.
    /// Empty if nothing was, and where nothing may be changed.
    pub quarantine: Vec<PathBuf>,
    /// Where [`discard_unclosed`](super::Persistence::discard_unclosed) asks: whether the directory
    /// is new, or was closed in peace and nothing of it is missing. `None` where nobody asks.
    pub closed: Option<bool>,
    /// Entries that were discarded, since it was not.
    pub discarded: u64,
    /// The file system has no way to be asked to make names durable, as some network file systems and
    /// shared folders have none. Then it is for that, and not for haybox, which files are there after
    /// a power loss: see [`persist`](crate::persist#file-systems). `false` where it was opened
    /// read-only, which asks for nothing.
    pub names_unsynced: bool,
    /// What the clock looked like.
    pub clock: ClockCheck,
    /// The `schema_version`s, other than the one asked for, that files were read with.
    pub migrated_from: Vec<u32>,
    /// How long the snapshot took.
    pub snapshot_time: Duration,
    /// How long the logs took.
    pub log_time: Duration,
    /// How long opening took, all in all.
    pub total_time: Duration,
}

impl RecoveryReport {
    /// Whether all that was in the files is in the recovered state.
    pub(super) fn is_whole(&self) -> bool {
        let is_damaged = !(self.damages.is_empty() && self.unreadable.is_empty());
        !is_damaged && (self.dropped_bytes, self.undecodable, self.dropped_seqs) == (0, 0, None)
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            f.write_str("a new store")?;
            return self.fmt_names(f);
        }
        write!(
            f,
            "{} entries ({} expired) from {} records of a snapshot and {} of logs, {} bytes, in \
             {:.1?}; last number {}, proven on disk up to {}",
            self.entries,
            self.expired,
            self.from_snapshot,
            self.from_log,
            self.bytes,
            self.total_time,
            self.last_seq,
            self.durable_seq
        )?;
        for damage in &self.damages {
            write!(f, "; {damage}")?;
        }
        for part in &self.unreadable {
            write!(f, "; {part}")?;
        }
        if self.dropped_bytes > 0 {
            write!(f, "; {} bytes left out", self.dropped_bytes)?;
        }
        if let Some((first, last)) = self.dropped_seqs {
            write!(f, " with numbers {first} to {last}")?;
        }
        if self.uncopied_bytes > 0 {
            let bytes = self.uncopied_bytes;
            write!(
                f,
                "; {bytes} of them without a copy, since the disk is full"
            )?;
        }
        if self.undecodable > 0 {
            write!(f, "; {} entries do not decode", self.undecodable)?;
        }
        if self.discarded > 0 {
            let discarded = self.discarded;
            write!(
                f,
                "; {discarded} entries discarded, since the directory was not closed"
            )?;
        }
        for quarantine in &self.quarantine {
            write!(f, "; a copy is in {}", quarantine.display())?;
        }
        match self.clock {
            ClockCheck::Fine => {}
            other => write!(f, "; {other}")?,
        }
        self.fmt_names(f)
    }
}

impl RecoveryReport {
    fn fmt_names(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names_unsynced {
            f.write_str(
                "; the file system does not sync names, so a power loss may undo those of files",
            )?;
        }
        Ok(())
    }
}

/// What the wall clock looks like beside the times in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockCheck {
    /// Not before the last write.
    #[default]
    Fine,
    /// Before the last write, but not much: the time of the last write counted, so that nothing
    /// that had expired by then came back.
    WentBack(Duration),
    /// So long before the last write that one of the two clocks was wrong: the clock of now
    /// counted, so that one wrong clock cannot expire everything for ever. What was written by the
    /// other has from now on what it had left as it was written.
    LogAhead(Duration),
}

impl ClockCheck {
    /// How far the log is ahead of the clock.
    pub(crate) fn ahead(self) -> Duration {
        match self {
            Self::Fine => Duration::ZERO,
            Self::WentBack(by) | Self::LogAhead(by) => by,
        }
    }
}

impl fmt::Display for ClockCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fine => f.write_str("the clock is fine"),
            Self::WentBack(by) => write!(
                f,
                "the clock went back by {by:?}: the time of the last write counted"
            ),
            Self::LogAhead(by) => write!(
                f,
                "the log is {by:?} ahead of the clock: one of them was wrong, and the clock counted"
            ),
        }
    }
}

/// How far a recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that have been read.
    pub bytes: u64,
    /// Bytes that there are to read.
    pub total: u64,
}

/// What a compaction, or a dump, did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// The number of the new snapshot and log.
    pub generation: u64,
    /// Entries and invalidations in the snapshot.
    pub entries: u64,
    /// The size of the snapshot.
    pub bytes: u64,
    /// The size of the files that it made superfluous, and that were removed.
    pub freed: u64,
    /// The number of the last write that the snapshot needs to be whole.
    pub last_seq: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for CompactReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generation {}: {} entries in {} bytes, {} bytes freed, in {:.1?}",
            self.generation, self.entries, self.bytes, self.freed, self.took
        )
    }
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The directory, which is opened like any other to restore it.
    pub dir: PathBuf,
    /// The number of the last write in it.
    pub last_seq: u64,
    /// Files that share their bytes with the store.
    pub linked: u64,
    /// Files that had to be copied, since the directory is on another file system.
    pub copied: u64,
    /// The size of all files.
    pub bytes: u64,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} holds all up to number {}: {} files linked, {} copied, {} bytes",
            self.dir.display(),
            self.last_seq,
            self.linked,
            self.copied,
            self.bytes
        )
    }
}

/// What closing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// The number of the last write.
    pub last_seq: u64,
    /// The number up to which all is on disk: the same, unless the disk failed.
    pub durable_seq: u64,
}

/// How the files of a running store are.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Health {
    /// Whether all is well, in one word.
    pub state: HealthState,
    /// What the last failure said, while it lasts: the same for a cache and for a store. A failure
    /// is over when what failed has succeeded; that of a compaction that was asked for and is not
    /// needed, of which nobody knows whether it would succeed now, when the log takes a write. A disk
    /// that does not come back says nothing: then it is for how long it has not, once that is 5
    /// seconds, or a cache has waited in vain for room in the [buffer](super::Persistence::buffer).
    pub trouble: Option<String>,
    /// The number of the last write in memory.
    pub last_seq: u64,
    /// The number up to which writes have been handed to the system.
    pub written_seq: u64,
    /// The number up to which writes are on the disk.
    pub durable_seq: u64,
    /// Bytes that wait to be written.
    pub waiting_bytes: usize,
    /// The size of the logs since the last snapshot.
    pub log_bytes: u64,
    /// The size of the last snapshot.
    pub snapshot_bytes: u64,
    /// The number of the newest log or snapshot.
    pub generation: u64,
    /// Writes to the log that failed and were, or will be, tried again.
    pub write_failures: u64,
    /// Syncs of the log that failed or panicked. After one, all goes to new files: here, or after a
    /// panic when the directory is opened next.
    pub sync_failures: u64,
    /// Compactions, or dumps, that succeeded …
    pub compactions: u64,
    /// … and that failed.
    pub compaction_failures: u64,
    /// How far the compaction under way is, from 0 to 1.
    pub compaction: Option<f32>,
    /// Extensions of idle time that were not logged for lack of room.
    pub dropped_extensions: u64,
    /// Writes in memory that could not be logged for lack of room, and that a new snapshot has
    /// covered or will cover.
    pub unlogged: u64,
    /// Entries that could not be encoded: they are in memory, and will be absent after a restart.
    /// At least as many as the last snapshot of a cache has left out. Removals count, too, of a key
    /// that a cache cannot encode any more: the entry will be back after a restart. A store refuses
    /// all of that, and makes no snapshot in which an entry would be missing.
    pub unencodable: u64,
    /// When all that had been written was last brought to the disk, by the wall clock: by a sync, by
    /// a new snapshot, or by the opening of the directory, which syncs what it finds. It goes on only
    /// where there is something to sync. So while `durable_seq` is `last_seq` all is on the disk,
    /// however long ago this is; while it is less, what is not there yet has come since then, or
    /// during that sync: an alarm asks for both. `None` where it was opened read-only, and after a
    /// failed sync of the process before until all was written anew.
    pub last_sync: Option<SystemTime>,
}

impl Health {
    /// What an exporter needs of it, as of the [statistics](crate::Stats#to-export-them): each
    /// number by its name, also those that later versions add, and `well`, which is 1 where all is
    /// well and else 0. What has no number is left out: `trouble`, `compaction`, `last_sync`.
    pub fn iter(&self) -> impl Iterator<Item = Metric> + use<> {
        // Named one by one, so that a field that is added is not forgotten here.
        let Self {
            state,
            trouble: _,
            last_seq,
            written_seq,
            durable_seq,
            waiting_bytes,
            log_bytes,
            snapshot_bytes,
            generation,
            write_failures,
            sync_failures,
            compactions,
            compaction_failures,
            compaction: _,
            dropped_extensions,
            unlogged,
            unencodable,
            last_sync: _,
        } = *self;
        [
            Metric::gauge("well", u64::from(state == HealthState::Well)),
            Metric::gauge("last_seq", last_seq),
            Metric::gauge("written_seq", written_seq),
            Metric::gauge("durable_seq", durable_seq),
            Metric::gauge("waiting_bytes", waiting_bytes as u64),
            Metric::gauge("log_bytes", log_bytes),
            Metric::gauge("snapshot_bytes", snapshot_bytes),
            Metric::gauge("generation", generation),
            Metric::counter("write_failures", write_failures),
            Metric::counter("sync_failures", sync_failures),
            Metric::counter("compactions", compactions),
            Metric::counter("compaction_failures", compaction_failures),
            Metric::counter("dropped_extensions", dropped_extensions),
            Metric::counter("unlogged", unlogged),
            Metric::counter("unencodable", unencodable),
        ]
        .into_iter()
    }
}

/// How the files of a running store are, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthState {
    /// All is well.
    #[default]
    Well,
    /// The disk is full or fails: it is tried again, and [`Health::trouble`] says what it says. Or
    /// it hangs, or is too slow. Or the directory was removed or replaced, and nothing is written any more. A store refuses
    /// writes that cannot be kept, a cache goes on in memory.
    Troubled,
    /// Opened read-only.
    ReadOnly,
    /// A thread of the journal panicked: nothing is written any more.
    Failed,
    /// Closed.
    Closed,
}
