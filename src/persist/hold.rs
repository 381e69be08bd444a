//! Taking a directory, so that no other process changes it.

use super::error::{DiskError, OpenError};
use super::manifest::LOCK;
use super::storage::{Hold, Lock, Storage};
use std::io;
use std::path::Path;

/// Takes a directory. To be read it may be taken by several, and without a lock where nothing was
/// ever locked, since nothing may be made.
pub(super) fn hold(
    dir: &Path,
    how: Hold,
    storage: &dyn Storage,
) -> Result<Option<Lock>, OpenError> {
    let path = dir.join(LOCK);
    match storage.lock(&path, how) {
        Ok(Some(lock)) => match lock.is_in_place() {
            Ok(true) => Ok(Some(lock)),
            Ok(false) => {
                let error = io::Error::other("it was removed or replaced meanwhile: try again");
                Err(DiskError::new("lock", &path, error).into())
            }
            Err(error) => Err(DiskError::new("find", &path, error).into()),
        },
        Ok(None) => {
            let dir = dir.to_owned();
            Err(OpenError::Locked { dir })
        }
        Err(error) if how == Hold::Shared && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::new("lock", &path, error).into()),
    }
}
