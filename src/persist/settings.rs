//! How a directory is kept, and how it is opened.

use super::dir_kind::DirKind;
use super::header::CodecId;
use super::report::Progress;
use crate::time::{Clock, wall_ms};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncPolicy {
    /// As soon as possible: who waits for a write waits until it is on the disk. Writes that wait
    /// at the same time share one sync. An acknowledged write survives `kill -9` and power loss.
    Always,
    /// At this interval, one second by default; with zero, as soon as the last sync has ended. A
    /// `kill -9` loses at most what was not written yet, normally under 5 ms; a power loss the last
    /// interval and the time of one sync, or of two where one takes longer than the interval.
    Every(Duration),
    /// When the system sees fit, and once a minute so that damage can be told from a crash. As
    /// `Every` against `kill -9`; no promise against power loss.
    Os,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self::Every(Duration::from_secs(1))
    }
}

/// What a write does when more waits to be written than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Waits, at most this long. The default, with 5 seconds for a store and 100 ms for a cache.
    /// What waits is the thread: where tasks write to a store, [`Error`](Self::Error) keeps a slow
    /// disk from holding up their executor.
    Block(Duration),
    /// Fails at once.
    Error,
}

impl Default for WhenFull {
    fn default() -> Self {
        Self::Block(Duration::from_secs(5))
    }
}

/// What opening a directory does about what it finds there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Opens only what was closed well, or was cut between two writes.
    Strict,
    /// The default. What a crash leaves behind, an unfinished write at the end of the log, is moved
    /// to `quarantine/`. Damage below what is proven to have been on disk is refused, and so is
    /// damage with whole writes behind it over more than 45 s, or over two intervals of
    /// [`SyncPolicy::Every`]: by then it had been on the disk. The longest time between two of them
    /// does not count, since the clock may have been set there.
    ///
    /// On a full disk there may be no room in `quarantine/`. A tail in which no whole write is,
    /// such as the half of one that did not fit, is cut off without a copy then, and the report
    /// says so ([`RecoveryReport::uncopied_bytes`](super::RecoveryReport)); any other is
    /// [`OpenError::Disk`](super::OpenError) until there is space.
    #[default]
    TolerateTornTail,
    /// Goes back to an earlier state; what came after it is moved to `quarantine/`. How far back
    /// depends on how many generations are kept. Without a log it is that of the last snapshot
    /// before the point.
    ///
    /// It is a mode for once. Left in a program, each start would leave out what was written since
    /// the one before: that is [`OpenError::WentBack`](super::OpenError), until the directory was
    /// opened in another mode ([`ReadOnly`](Self::ReadOnly) does not count), or
    /// [`OpenError::OutOfReach`](super::OpenError) once the files do not reach back to the point.
    PointInTime(Point),
    /// Takes all that can be read, whatever is missing. If anything was left out, because it is
    /// damaged, does not decode or panics as it is decoded, all of it is written anew, after the old
    /// files were moved to a directory in `quarantine/`, which can be opened like any other: from then
    /// on it opens in every mode. What comes of it may be a mixture of states: the report says what was lost, and
    /// where the old files are. Nothing in `quarantine/` is ever removed, so it is a mode for once
    /// rather than for every start.
    ///
    /// Damage costs the frame that it is in: of a log what was written to it in one go, of a
    /// snapshot less than 32 KiB, of a small one less than an eighth of it or 2 KiB, or in either
    /// an entry that is larger.
    ///
    /// A part of a file that cannot be read, as of a disk with a bad sector, is read around, in
    /// blocks of 4 KiB: it costs the frames that it is a part of, and the whole file where it is in
    /// the first 64 bytes. In every other mode it is [`OpenError::Unreadable`](super::OpenError).
    /// The files are kept by second names; on a file system that has none, where they have to be
    /// copied, one that cannot be read is refused: there `haybox-check --salvage` saves the rest to
    /// another directory.
    Salvage,
    /// Changes nothing in the directory. The writes of a store fail, those of a cache are in memory
    /// alone. Beside others that only read, and not while
    /// the directory is open to be written to, nor can that be done before all of them have let go.
    /// Who looks on while another process writes is given a [backup](super::Journal::backup) by it.
    ReadOnly,
}

/// A state of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Point {
    /// After the write with this sequence number. A transaction that it is inside of is left out.
    Seq(u64),
    /// At this wall-clock time, to the precision of one write to the log (a few milliseconds):
    /// before the first write to the log, behind the snapshot begun with, that is stamped later. So
    /// a clock that was ahead for a moment before the point costs all that came between:
    /// [`RecoveryReport::dropped_seqs`](super::RecoveryReport) says how much, `quarantine/` has the
    /// files of before, and [`Seq`](Self::Seq) depends on no clock.
    Time(SystemTime),
}

/// Whether files of another `schema_version` may be read.
pub(crate) type AcceptsSchema = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// Told now and then how far a recovery is.
pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// All that can be chosen about a journal.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) codec: CodecId,
    pub(crate) schema: u32,
    /// What the directory is opened as. `None` opens any, and leaves it what it is.
    pub(crate) dir_kind: Option<DirKind>,
    /// Files of another schema are refused without it.
    pub(crate) accepts_schema: Option<AcceptsSchema>,
    pub(crate) sync: SyncPolicy,
    pub(crate) when_full: WhenFull,
    /// A write that cannot be kept is refused, as by a store: so it is worth the while to try soon
    /// whether it can. A cache goes on in memory.
    pub(crate) refuses: bool,
    /// How many bytes may wait to be written.
    pub(crate) buffer: usize,
    pub(crate) mode: RecoveryMode,
    /// Where nothing is, something is begun.
    pub(crate) create_if_missing: bool,
    /// What was not closed in peace is not gone on with.
    pub(crate) discards_unclosed: bool,
    /// `false`: no log, only snapshots.
    pub(crate) log: bool,
    /// How often to dump without a log; `None` only on close.
    pub(crate) dump_every: Option<Duration>,
    /// How much a log grows, in percent of the snapshot, before it is compacted, …
    pub(crate) growth_percent: u64,
    /// … and in bytes at least.
    pub(crate) growth_bytes: u64,
    /// Writes fail when the logs are larger than this, since compaction does not succeed.
    pub(crate) log_limit: u64,
    /// How many snapshots are kept, with the logs from the oldest of them on.
    pub(crate) generations: usize,
    /// How far the log may be ahead of the clock before the clock is believed all the same.
    pub(crate) clock_skew: Duration,
    /// Threads that recovery uses; 0 is as many as there are processors.
    pub(crate) threads: usize,
    pub(crate) progress: Option<OnProgress>,
    pub(crate) clock: Clock,
    /// No threads are started: the steps of writer, syncer and compactor are taken by the calls
    /// that wait for them, and by tests.
    pub(crate) by_hand: bool,
}

impl Settings {
    pub(crate) fn new(codec: CodecId) -> Self {
        Self {
            codec,
            schema: 0,
            dir_kind: None,
            accepts_schema: None,
            sync: SyncPolicy::default(),
            when_full: WhenFull::default(),
            refuses: true,
            buffer: 256 << 10,
            mode: RecoveryMode::default(),
            create_if_missing: true,
            discards_unclosed: false,
            log: true,
            dump_every: Some(Duration::from_secs(300)),
            growth_percent: 100,
            growth_bytes: 64 << 20,
            log_limit: u64::MAX,
            generations: 1,
            clock_skew: Duration::from_secs(86_400),
            threads: 0,
            progress: None,
            clock: Clock::real(),
            by_hand: false,
        }
    }

    pub(crate) fn may_create(&self) -> bool {
        self.create_if_missing && !self.is_read_only()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.mode == RecoveryMode::ReadOnly
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        wall_ms(self.clock.system_time())
    }

    pub(crate) fn worker_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(8),
            threads => threads,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("codec", &self.codec)
            .field("schema", &self.schema)
            .field("sync", &self.sync)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
