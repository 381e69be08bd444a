//! What can go wrong with files, said so that somebody can act on it.

use super::dir_kind::DirKind;
use super::header::{CodecId, StoreId};
use crate::builder::BuildError;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Why a directory could not be opened. Nothing in it was changed, unless the variant says so.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting of the builder is impossible.
    Build(BuildError),
    /// Another process, or another handle of this one, has the directory open. The system frees it
    /// when the holder ends, however it ends.
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The path is that of something else, or empty.
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Nothing is kept there, and nothing may be made: it is opened
    /// [read-only](super::RecoveryMode::ReadOnly), or only
    /// [where it is](super::Persistence::create_if_missing). A path that is wrong, or a volume that
    /// is not mounted, looks like that.
    NotFound {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system failed.
    Disk(DiskError),
    /// A part of a file cannot be read, as of a disk with a bad sector. Another time it may be.
    Unreadable(Unreadable),
    /// A file that the manifest lists is not there.
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// There are files with data, and no `MANIFEST` that says which of them count.
    NoManifest {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory has a file `MANIFEST` that does not begin like one of haybox's, and no log or
    /// snapshot of haybox's beside it: it is another program's. Not even a `LOCK` file was made.
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// A file is not what was written: below a point that was proven to be on disk, or where no
    /// crash can have done it.
    Damaged(Damage),
    /// The log ends in the middle of a write, which
    /// [`Strict`](super::RecoveryMode::Strict) refuses.
    TornTail(Damage),
    /// The directory is kept for something else: see [`DirKind`] for what may be opened as what.
    /// Nothing of its data was read.
    OtherKind {
        /// The directory.
        dir: PathBuf,
        /// What it was to be opened as.
        expected: DirKind,
        /// What it is kept for.
        found: DirKind,
    },
    /// A file belongs to another store.
    OtherStore {
        /// The file.
        file: PathBuf,
        /// The store that the manifest names.
        expected: StoreId,
        /// The store that the file names.
        found: StoreId,
    },
    /// A file was written by a newer version of haybox.
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format that this version reads.
        supported: u16,
    },
    /// A file uses features of the format that this version does not know.
    UnknownFeatures {
        /// The file.
        file: PathBuf,
        /// The bits of the features.
        bits: u32,
    },
    /// The keys and values were written with another codec.
    OtherCodec {
        /// The file.
        file: PathBuf,
        /// The codec that was asked for.
        expected: CodecId,
        /// The codec that wrote the file.
        found: CodecId,
    },
    /// The keys and values were written with another `schema_version`, which no migration accepts.
    OtherSchema {
        /// The file.
        file: PathBuf,
        /// The version that was asked for.
        expected: u32,
        /// The version of the file.
        found: u32,
    },
    /// A key or a value is whole and cannot be decoded: it was written with other types, or is one
    /// that the codec encodes and does not decode
    /// ([`verify_writes`](super::Persistence::verify_writes) refuses those as they are written).
    Undecodable {
        /// The file.
        file: PathBuf,
        /// Where in it the frame begins.
        offset: u64,
        /// The sequence number, of a log; of a snapshot, how many entries come before it in the
        /// frame.
        seq: u64,
        /// What the codec said.
        reason: String,
    },
    /// The hasher of the builder gives more keys hashes that are alike than a store can hold, as one
    /// does that makes the same number of all keys. In the files nothing is wrong.
    HashesCollide {
        /// The file.
        file: PathBuf,
        /// Where in it the frame begins.
        offset: u64,
        /// The sequence number, of a log; of a snapshot, how many entries come before it in the
        /// frame.
        seq: u64,
        /// How many such keys there can be.
        limit: usize,
    },
    /// The point in time is not in the files, which reach back as far as
    /// [`generations`](super::Persistence::generations) says. That is also what becomes of a point
    /// that was gone back to, once compactions have left it behind.
    OutOfReach {
        /// The directory.
        dir: PathBuf,
        /// The oldest sequence number that can be gone back to.
        oldest_seq: u64,
    },
    /// It was opened with [`PointInTime`](super::RecoveryMode::PointInTime) the last time, too, and
    /// this would leave out what is behind the point, which may have been written since. That is
    /// meant to be done once.
    WentBack {
        /// The directory.
        dir: PathBuf,
        /// The sequence number that it would go back to.
        last_seq: u64,
    },
}

impl OpenError {
    pub(crate) fn header(
        file: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Damaged(Damage::at(file, 0, expected, found))
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Locked { dir } => write!(
                f,
                "{} is open already, in this process or another: close it there first",
                dir.display()
            ),
            Self::NotFound { dir } => write!(
                f,
                "{} holds no cache or store: look whether the path is right and its volume mounted",
                dir.display()
            ),
            Self::NotADirectory { path } if path.as_os_str().is_empty() => f.write_str(
                "the path of the directory is empty: give one, or \".\" for the directory that the \
                 process is in",
            ),
            Self::NotADirectory { path } => write!(
                f,
                "{} is not a directory: give the path of one, or one at which there is nothing yet",
                path.display()
            ),
            Self::Disk(error) => error.fmt(f),
            Self::Unreadable(part) => write!(
                f,
                "{part}: nothing was changed; if trying again does not help, restore a backup, or \
                 open with RecoveryMode::Salvage for everything else"
            ),
            Self::Missing { file } => write!(
                f,
                "{} is missing, and the manifest lists it: bring it back, restore a backup, or \
                 open with RecoveryMode::Salvage for what the other files hold",
                file.display()
            ),
            Self::NoManifest { dir } => write!(
                f,
                "{} holds data and no MANIFEST, as a backup that was not finished: bring that back, \
                 restore another backup, or open with RecoveryMode::Salvage",
                dir.display()
            ),
            Self::NotOurs { file } => write!(
                f,
                "{} is no file of haybox's: nothing was changed; give the path of a directory that \
                 is haybox's alone, or one at which there is nothing yet",
                file.display()
            ),
            Self::Damaged(damage) => write!(
                f,
                "{damage}: nothing was changed; restore a backup, or open with \
                 RecoveryMode::Salvage for what can still be read"
            ),
            Self::TornTail(damage) => write!(
                f,
                "{damage}: a write that a crash cut short; RecoveryMode::TolerateTornTail keeps \
                 all that is before it"
            ),
            Self::OtherKind {
                dir,
                expected,
                found,
            } => OtherKind(dir, *expected, *found).fmt(f),
            Self::OtherStore {
                file,
                expected,
                found,
            } => write!(
                f,
                "{} belongs to store {found}, and the manifest to store {expected}: bring back \
                 the store's own file",
                file.display()
            ),
            Self::NewerFormat {
                file,
                found,
                supported,
            } => write!(
                f,
                "{} has format {found}, and this version of haybox reads up to format \
                 {supported}: open it with a newer version",
                file.display()
            ),
            Self::UnknownFeatures { file, bits } => write!(
                f,
                "{} uses features {bits:#x} that this version of haybox does not know: open it \
                 with a newer version",
                file.display()
            ),
            Self::OtherCodec {
                file,
                expected,
                found,
            } => write!(
                f,
                "{} was written with codec {found}, not {expected}: open it with that codec",
                file.display()
            ),
            Self::OtherSchema {
                file,
                expected,
                found,
            } => write!(
                f,
                "{} was written with schema_version {found}, not {expected}: {}",
                file.display(),
                if found > expected {
                    "by a newer release of the program, which opens it; or give a migration that \
                     accepts it (Persistence::migrate)"
                } else {
                    "give a migration that accepts it (Persistence::migrate)"
                }
            ),
            Self::HashesCollide {
                file,
                offset,
                seq,
                limit,
            } => write!(
                f,
                "{}, frame at byte {offset}, number {seq}: the hasher puts more than {limit} keys \
                 into one set; open it with a hasher that tells keys apart",
                file.display()
            ),
            Self::Undecodable {
                file,
                offset,
                seq,
                reason,
            } => write!(
                f,
                "{}, frame at byte {offset}, number {seq}: cannot be decoded ({reason}); open it \
                 with the types that it was written with (a field that was added has to be \
                 `#[serde(default)]`), or raise schema_version and give a migration \
                 (Persistence::migrate), or open once with RecoveryMode::Salvage, which leaves out \
                 what does not decode and keeps the old files aside; where the types are the same, \
                 Persistence::verify_writes refuses such a value as it is written",
                file.display()
            ),
            Self::OutOfReach { dir, oldest_seq } => write!(
                f,
                "{} does not reach back that far: its oldest point is number {oldest_seq}; without \
                 RecoveryMode::PointInTime it opens as it was left",
                dir.display()
            ),
            Self::WentBack { dir, last_seq } => write!(
                f,
                "{} was gone back in the last time it was opened, and this would leave out what is \
                 behind number {last_seq}, which may have been written since: nothing was changed; \
                 open it without RecoveryMode::PointInTime, and once again with it if that is meant",
                dir.display()
            ),
        }
    }
}

/// What is said of a directory that was to be opened as another kind than it is of.
struct OtherKind<'a>(&'a Path, DirKind, DirKind);

impl fmt::Display for OtherKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(dir, expected, found) = self;
        write!(
            f,
            "{} is the directory of {found}, and was to be opened as that of {expected}: nothing was \
             changed; ",
            dir.display()
        )?;
        match found.call() {
            Some(call) => write!(f, "open it with {call}")?,
            None => f.write_str("open it with a newer version of haybox")?,
        }
        write!(f, ", or take another directory for {expected}")
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            Self::Unreadable(part) => part.error.source(),
            _ => None,
        }
    }
}

impl From<BuildError> for OpenError {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Unreadable> for OpenError {
    fn from(part: Unreadable) -> Self {
        Self::Unreadable(part)
    }
}

/// A part of a file that cannot be read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unreadable {
    /// The file.
    pub file: PathBuf,
    /// Which of its bytes: in blocks of 4 KiB, counted from the beginning of the file. Where that
    /// ended the reading, the first of them.
    pub bytes: Range<u64>,
    /// What the system said.
    pub error: Arc<io::Error>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bytes {} to {} of {} cannot be read: {}",
            self.bytes.start,
            self.bytes.end.saturating_sub(1),
            self.file.display(),
            self.error
        )
    }
}

/// A place in a file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The byte at which the damaged frame begins.
    pub offset: u64,
    /// What should have been there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// The sequence number that the damaged frame begins with; 0 where there are none.
    pub next_seq: u64,
    /// The highest number that is proven to have been on disk.
    pub durable_seq: u64,
}

impl Damage {
    /// Damage in a file that has no numbers, or before they are known.
    pub(crate) fn at(
        file: &Path,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            offset,
            expected: expected.into(),
            found: found.into(),
            next_seq: 0,
            durable_seq: 0,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at byte {}: expected {}, found {}",
            self.file.display(),
            self.offset,
            self.expected,
            self.found
        )?;
        match self.next_seq {
            0 => Ok(()),
            next => write!(
                f,
                " (number {next}; proven on disk up to {})",
                self.durable_seq
            ),
        }
    }
}

/// The file system failed: what was done, to which file, and what it said.
///
/// It prints all three, so [`source`](Error::source) is what lies behind the system's error, if
/// anything does, and whoever prints a chain reads each part of it once. So it is for all errors
/// here that hold one of these.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskError {
    /// What was tried: "write", "sync", "rename", …
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub error: Arc<io::Error>,
}

impl DiskError {
    pub(crate) fn new(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            error: Arc::new(error),
        }
    }

    /// For `map_err`.
    pub(crate) fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(doing, path, error)
    }

    /// Whether there is no space left, or no more is allowed.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(
            self.error.kind(),
            StorageFull | QuotaExceeded | FileTooLarge
        )
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.doing,
            self.path.display(),
            self.error
        )?;
        f.write_str(match self.error.kind() {
            io::ErrorKind::StorageFull => "; free some space",
            _ if self.is_full() => "; free some space, or raise the limit",
            io::ErrorKind::ReadOnlyFilesystem => {
                "; RecoveryMode::ReadOnly opens what is there, and writes nothing"
            }
            _ => "",
        })
    }
}

impl Error for DiskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // What the system's error says of itself is said already.
        self.error.source()
    }
}

/// Why a write was refused. What is in memory is unchanged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// It was closed.
    Closed,
    /// It was opened with [`RecoveryMode::ReadOnly`](super::RecoveryMode::ReadOnly).
    ReadOnly,
    /// More is waiting to be written than may be, also after the time that
    /// [`WhenFull::Block`](super::WhenFull::Block) allows.
    BufferFull {
        /// How long was waited.
        waited: Duration,
    },
    /// The disk is full or fails. Writing is tried again until it succeeds.
    Disk(DiskError),
    /// The log has reached its limit, and could not be compacted.
    LogFull {
        /// The limit in bytes.
        limit: u64,
    },
    /// One write, or one transaction, is larger than any may be.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// The key or the value cannot be encoded; or, where writes are verified, as they are in debug
    /// builds, what it is encoded as does not decode
    /// ([`verify_writes`](super::Persistence::verify_writes)). Of a removal or of another TTL: the
    /// key cannot be encoded any more.
    Encode(String),
    /// The value does not fit within the bounds of the store, which evicts nothing; or its hasher
    /// gives tens of thousands of keys hashes that are alike.
    NoRoom,
    /// A thread of the journal panicked, which is a bug of haybox. Nothing is written any more;
    /// what was durable is safe on disk. Close and open again.
    Panicked {
        /// The thread, and what it said.
        thread: String,
    },
    /// The directory was removed, moved away or replaced while it was open (found out on Unix):
    /// what is at its path now may be another's. Nothing is written any more, and nothing there is
    /// touched. Close and open again.
    DirectoryGone {
        /// The directory.
        dir: PathBuf,
    },
}

const READ_ONLY: &str = "nothing is written: it was opened with RecoveryMode::ReadOnly";

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("nothing is written after close"),
            Self::ReadOnly => f.write_str(READ_ONLY),
            Self::BufferFull { waited } => write!(
                f,
                "the disk is slower than the writes: the log buffer is full, after {waited:?}"
            ),
            Self::Disk(error) => write!(f, "writes are refused until the disk is well: {error}"),
            Self::LogFull { limit } => write!(
                f,
                "the log has reached its limit of {limit} bytes and cannot be compacted: see \
                 health()"
            ),
            Self::TooLarge { bytes, limit } => write!(
                f,
                "one write of {bytes} bytes, and {limit} is the most: split it"
            ),
            Self::Encode(reason) => write!(f, "the key or value cannot be encoded: {reason}"),
            Self::NoRoom => f.write_str("the value does not fit within the bounds of the store"),
            Self::Panicked { thread } => write!(
                f,
                "a thread of the journal panicked ({thread}): close and open again"
            ),
            Self::DirectoryGone { dir } => Gone(dir).fmt(f),
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}

/// Why it is *not known* whether a write is durable. It is visible in memory, and it may be on disk
/// or get there: after most of these, waiting again can still succeed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// It took longer than the caller would wait.
    TimedOut,
    /// The disk refused it; it is tried again in the background.
    Disk(DiskError),
    /// It was closed before the write was durable.
    Closed,
    /// From `close` alone: another call is at it, and waits for what this one was made by, such as a
    /// waker that a thread of the journal wakes. That call says how it ends.
    Closing,
    /// A thread of the journal panicked.
    Panicked {
        /// The thread, and what it said.
        thread: String,
    },
    /// The directory was removed, moved away or replaced while it was open (found out on Unix).
    DirectoryGone {
        /// The directory.
        dir: PathBuf,
    },
    /// It was called while a closure unwinds that a cache runs under a lock. (Without the panic
    /// that is under way, such a call panics.)
    Reentrant,
    /// It takes a new snapshot to make it durable, and an entry cannot be encoded for that:
    /// [`CompactError::Encode`]. It is tried again in the background.
    Encode(String),
}

impl CommitError {
    /// Whether nothing will be written any more.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Panicked { .. } | Self::DirectoryGone { .. })
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: &dyn fmt::Display = match self {
            Self::TimedOut => &"the wait timed out",
            Self::Disk(error) => error,
            Self::Closed => &"its directory was closed before",
            Self::Closing => &"its directory is being closed by a call that waits for this one",
            Self::Panicked { thread } => thread,
            Self::DirectoryGone { dir } => &Gone(dir),
            Self::Reentrant => &REENTRANT,
            Self::Encode(reason) => &NotEncoded(reason),
        };
        write!(f, "not known to be durable: {why}")
    }
}

impl Error for CommitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}

/// Why a compaction, a dump or a backup was not made. What was there before is intact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CompactError {
    /// The file system failed.
    Disk(DiskError),
    /// It was closed.
    Closed,
    /// It was opened read-only.
    ReadOnly,
    /// The backup's directory holds files already, or another backup is being made into it.
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A thread of the journal panicked.
    Panicked {
        /// The thread, and what it said.
        thread: String,
    },
    /// The directory was removed, moved away or replaced while it was open (found out on Unix).
    DirectoryGone {
        /// The directory.
        dir: PathBuf,
    },
    /// It was called while a closure unwinds that a cache runs under a lock. (Without the panic
    /// that is under way, such a call panics.)
    Reentrant,
    /// An entry of a store cannot be encoded any more, though it could be when it was written: it
    /// changes on its own, as an `Arc<Mutex<_>>` that was poisoned. Or, of a cache too, its
    /// `Serialize` panics: for a snapshot that runs under the lock of a set, where it may call no
    /// cache. What it says, or panics with. The entry is as safe as it was, in the old files; it is
    /// to be replaced or removed.
    Encode(String),
}

/// What is said of an entry that keeps a snapshot from being made.
struct NotEncoded<'a>(&'a str);

impl fmt::Display for NotEncoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an entry that was encoded before cannot be any more ({}): replace or remove it",
            self.0
        )
    }
}

/// What is said where new files could not be made.
struct NothingMade<'a>(&'a dyn fmt::Display);

impl fmt::Display for NothingMade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nothing new was made, and the old files stay: {}",
            self.0
        )
    }
}

/// What is said of a directory that is not at its path any more.
struct Gone<'a>(&'a Path);

impl fmt::Display for Gone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was removed, moved away or replaced while it was open, and nothing is written any \
             more: close and open again",
            self.0.display()
        )
    }
}

const REENTRANT: &str = "it was called from inside a closure that runs under a lock of a cache";

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => NothingMade(error).fmt(f),
            Self::Closed => f.write_str("nothing is written after close"),
            Self::ReadOnly => f.write_str(READ_ONLY),
            Self::NotEmpty { dir } => write!(
                f,
                "{} holds files, be it of a backup that is being made now, or is left of one: a copy goes to an \
                 empty directory, or to one that is not there",
                dir.display()
            ),
            Self::Panicked { thread } => write!(f, "a thread of the journal panicked: {thread}"),
            Self::DirectoryGone { dir } => Gone(dir).fmt(f),
            Self::Reentrant => f.write_str(REENTRANT),
            Self::Encode(reason) => NothingMade(&NotEncoded(reason)).fmt(f),
        }
    }
}

impl Error for CompactError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            _ => None,
        }
    }
}

impl From<DiskError> for CompactError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::LoadError;
    use crate::counter::FlushError;
    use crate::persist::check::CheckError;
    use crate::persist::{CodecError, TransactionError};
    use crate::queue::{PushError, PushManyError};

    /// An error with one behind it, as libraries make them.
    #[derive(Debug)]
    struct Layered(&'static str, Option<Box<Self>>);

    impl fmt::Display for Layered {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layered {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|inner| inner as _)
        }
    }

    fn layered() -> Layered {
        let cable = Layered("the cable is out", None);
        Layered("the disk is gone", Some(Box::new(cable)))
    }

    fn disk() -> DiskError {
        DiskError::new("sync", Path::new("hay"), io::Error::other(layered()))
    }

    /// One of every type that holds another error, by its name.
    fn errors() -> Vec<(&'static str, Box<dyn Error>)> {
        let (write, commit) = (|| WriteError::Disk(disk()), || CommitError::Disk(disk()));
        let compact = || CompactError::Disk(disk());
        vec![
            ("DiskError", Box::new(disk())),
            ("OpenError", Box::new(OpenError::Disk(disk()))),
            (
                "OpenError",
                Box::new(OpenError::Unreadable(Unreadable {
                    file: "hay".into(),
                    bytes: 0..1,
                    error: disk().error,
                })),
            ),
            ("WriteError", Box::new(write())),
            ("CommitError", Box::new(commit())),
            ("CompactError", Box::new(compact())),
            ("CheckError", Box::new(CheckError::Open(disk().into()))),
            ("CheckError", Box::new(CheckError::Write(compact()))),
            ("CodecError", Box::new(CodecError::new(layered()))),
            (
                "TransactionError",
                Box::new(TransactionError::<u8>::Write(write())),
            ),
            ("FlushError", Box::new(FlushError::Write(write()))),
            ("FlushError", Box::new(FlushError::Commit(commit()))),
            ("PushError", Box::new(PushError::NotKept(1, write()))),
            ("PushError", Box::new(PushError::<u8>::Unsure(1, commit()))),
            (
                "PushManyError",
                Box::new(PushManyError {
                    pushed: vec![1],
                    error: PushError::NotKept(2, write()),
                    left: vec![3],
                }),
            ),
            (
                "LoadError",
                Box::new(LoadError::Failed(Arc::new(layered()))),
            ),
        ]
    }

    fn chain(error: &dyn Error) -> String {
        let behind = std::iter::successors(error.source(), |error| (**error).source());
        behind.fold(error.to_string(), |all, error| format!("{all}: {error}"))
    }

    #[test]
    fn a_chain_that_is_printed_says_everything_once() {
        for (name, error) in errors() {
            let said = chain(&*error);
            for part in ["the disk is gone", "the cable is out"] {
                assert_eq!(said.matches(part).count(), 1, "{name}: {said}");
            }
        }
    }

    #[test]
    fn what_the_disk_says_comes_with_what_can_be_done() {
        use io::ErrorKind::{FileTooLarge, NotFound, ReadOnlyFilesystem, StorageFull};
        for (kind, advice) in [
            (StorageFull, Some("; free some space")),
            (FileTooLarge, Some("; free some space, or raise the limit")),
            (ReadOnlyFilesystem, Some("RecoveryMode::ReadOnly opens")),
            (NotFound, None),
        ] {
            let said = DiskError::new("lock", Path::new("hay"), kind.into()).to_string();
            let expected = format!("cannot lock hay: {}", io::Error::from(kind));
            match advice {
                Some(advice) => assert!(said.contains(advice), "{said}"),
                None => assert_eq!(said, expected),
            }
        }
    }

    /// The types of errors of which some source file says that another lies behind them.
    fn with_sources(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                with_sources(&path, found);
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            let starts = text.lines().filter(|line| line.starts_with("impl"));
            let types = starts.filter_map(|line| line.split_once("Error for "));
            let names = types.filter_map(|(_, of)| of.strip_suffix(" {"));
            found.extend(names.map(|name| name.split('<').next().unwrap_or(name).to_owned()));
        }
    }

    #[test]
    fn every_error_that_has_another_behind_it_is_tried() {
        let mut found = Vec::new();
        with_sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        assert!(found.len() >= 10, "{found:?}");
        for name in found {
            let is_tried = errors().iter().any(|(tried, _)| *tried == name);
            assert!(is_tried, "{name} has no example here");
        }
    }
}
