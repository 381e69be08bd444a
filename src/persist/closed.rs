//! `CLOSED`: says that a directory was closed in peace, for caches that are to begin empty if not.
//!
//! It is there only while nobody has the directory open, and names the last write: beside files of
//! another state it says nothing.

use super::error::DiskError;
use super::header::StoreId;
use super::storage::{Access, Storage, read_full, write_all};
use std::io;
use std::path::Path;

const NAME: &str = "CLOSED";

fn text(store: StoreId, last: u64) -> Vec<u8> {
    format!("haybox {store} closed after {last}\n").into_bytes()
}

/// Says durably that all up to the last write is in the files. Where names are not durable it says
/// nothing: taken away, it could be there again after a power loss.
pub(super) fn mark(
    storage: &dyn Storage,
    dir: &Path,
    store: StoreId,
    last: u64,
) -> Result<(), DiskError> {
    if !storage
        .syncs_names(dir)
        .map_err(DiskError::of("sync", dir))?
    {
        return Ok(());
    }
    let path = dir.join(NAME);
    let blob = storage
        .create(&path)
        .map_err(DiskError::of("create", &path))?;
    write_all(&*blob, &text(store, last), 0).map_err(DiskError::of("write", &path))?;
    blob.sync().map_err(DiskError::of("sync", &path))?;
    storage.sync_dir(dir).map_err(DiskError::of("sync", dir))
}

/// Whether the directory was closed after this write. What cannot be read does not say so.
pub(super) fn is_marked(storage: &dyn Storage, dir: &Path, store: StoreId, last: u64) -> bool {
    let expected = text(store, last);
    // One more byte, so that a longer text is another one.
    let mut found = vec![0; expected.len() + 1];
    let read = storage
        .open(&dir.join(NAME), Access::Read)
        .and_then(|blob| read_full(&*blob, &mut found, 0));
    read.is_ok_and(|length| found[..length] == expected)
}

/// Takes the mark away durably, before anything is written; whether names can be made durable. Also
/// where there is none: the opening before this one may have failed when it had taken it away.
pub(super) fn unmark(storage: &dyn Storage, dir: &Path) -> Result<bool, DiskError> {
    let path = dir.join(NAME);
    match storage.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError::new("remove", &path, error))
        }
        _ => storage.syncs_names(dir).map_err(DiskError::of("sync", dir)),
    }
}
