//! What the file system says.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

const READ_ONLY: &str = "; RecoveryMode::ReadOnly opens what is there, and writes nothing";

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
            io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
            // Elsewhere nothing may be there, or it may not be read either.
            io::ErrorKind::PermissionDenied if self.doing == "lock" => READ_ONLY,
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
