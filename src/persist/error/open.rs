//! Opening a directory.

use super::{CompactError, Damage, DiskError, Unreadable};
use crate::build_error::BuildError;
use crate::persist::dir_kind::DirKind;
use crate::persist::header::{CodecId, StoreId};
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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
    /// [read-only](crate::persist::RecoveryMode::ReadOnly), or only
    /// [where it is](crate::persist::Persistence::create_if_missing). A path that is wrong, or a
    /// volume that is not mounted, looks like that.
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
    /// [`Strict`](crate::persist::RecoveryMode::Strict) refuses.
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
    /// ([`verify_writes`](crate::persist::Persistence::verify_writes) refuses those as they are
    /// written).
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
    /// The hasher of the builder gives more keys hashes that are alike than a store can hold, as
    /// one does that makes the same number of all keys. In the files nothing is wrong.
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
    /// [`generations`](crate::persist::Persistence::generations) says. That is also what becomes of
    /// a point that was gone back to, once compactions have left it behind.
    OutOfReach {
        /// The directory.
        dir: PathBuf,
        /// The oldest sequence number that can be gone back to.
        oldest_seq: u64,
    },
    /// It was opened with [`PointInTime`](crate::persist::RecoveryMode::PointInTime) the last time,
    /// too, and this would leave out what is behind the point, which may have been written since.
    /// That is meant to be done once.
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

    /// What the directory needs before it is written to could not be made.
    pub(crate) fn of_generation(error: CompactError) -> Self {
        match error {
            CompactError::Disk(error) => error.into(),
            CompactError::Closed
            | CompactError::ReadOnly
            | CompactError::NotEmpty { .. }
            | CompactError::Panicked { .. }
            | CompactError::DirectoryGone { .. }
            | CompactError::Reentrant
            | CompactError::Encode(_) => {
                let error = io::Error::other(error.to_string());
                DiskError::new("write", Path::new("a new generation"), error).into()
            }
        }
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
