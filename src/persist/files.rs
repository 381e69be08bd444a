//! Copying and clearing away files.

use super::error::DiskError;
use super::manifest::{Manifest, Name};
use super::storage::{Access, Blob, Storage, read_full, write_all};
use std::ops::Range;
use std::path::{self, Path, PathBuf};

/// A directory by a path that stays its own when the process goes to another directory.
pub(crate) fn absolute(dir: &Path) -> Result<PathBuf, DiskError> {
    path::absolute(dir).map_err(DiskError::of("find", dir))
}

/// Copies a part of a file to a new one, durably but for its name.
pub(crate) fn copy_part(
    storage: &dyn Storage,
    from: &dyn Blob,
    from_path: &Path,
    part: Range<u64>,
    to: &Path,
) -> Result<(), DiskError> {
    let copy = storage.create(to).map_err(DiskError::of("create", to))?;
    let mut bytes = vec![0; 1 << 20];
    let (mut read_at, mut write_at) = (part.start, 0);
    while read_at < part.end {
        let wanted = bytes.len().min((part.end - read_at) as usize);
        let read = read_full(from, &mut bytes[..wanted], read_at)
            .map_err(DiskError::of("read", from_path))?;
        if read == 0 {
            break;
        }
        write_all(&*copy, &bytes[..read], write_at).map_err(DiskError::of("write", to))?;
        read_at += read as u64;
        write_at += read as u64;
    }
    copy.sync().map_err(DiskError::of("sync", to))
}

/// Gives a file a second name, or copies it where that is impossible. Says whether it was linked.
pub(crate) fn link_or_copy(
    storage: &dyn Storage,
    from: &Path,
    to: &Path,
) -> Result<bool, DiskError> {
    if storage.hard_link(from, to).is_ok() {
        return Ok(true);
    }
    let blob = storage
        .open(from, Access::Read)
        .map_err(DiskError::of("open", from))?;
    let length = blob.length().map_err(DiskError::of("read", from))?;
    copy_part(storage, &*blob, from, 0..length, to)?;
    Ok(false)
}

/// Removes the files that have a name of ours and that the manifest does not list. Says how many
/// bytes that freed. What cannot be removed stays for the next time.
pub(crate) fn remove_unlisted(storage: &dyn Storage, dir: &Path, manifest: &Manifest) -> u64 {
    let listed: Vec<String> = manifest.files().collect();
    let names = storage.list(dir).unwrap_or_default();
    let unlisted = |name: &String| Name::parse(name).is_some() && !listed.contains(name);
    names
        .into_iter()
        .filter(unlisted)
        .map(|name| remove(storage, &dir.join(name)))
        .sum()
}

fn remove(storage: &dyn Storage, path: &Path) -> u64 {
    let length = storage
        .open(path, Access::Read)
        .and_then(|blob| blob.length());
    match storage.remove(path) {
        Ok(()) => length.unwrap_or(0),
        Err(_) => 0,
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::persist::storage::Disk;
    use std::fs;

    /// What is put aside is a second name of a file, as a rule, and stays when the first is made anew.
    #[test]
    fn a_new_file_empties_no_other_name_of_one_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let [log, aside] = ["log", "aside"].map(|name| dir.path().join(name));
        fs::write(&log, "kept").unwrap();
        assert!(link_or_copy(&Disk, &log, &aside).unwrap());
        Disk.create(&log).unwrap().write_at(b"new", 0).unwrap();
        let read = |path| fs::read_to_string(path).unwrap();
        assert_eq!([read(&log), read(&aside)], ["new", "kept"]);
    }

    /// Where an interrupted salvage is repeated within a millisecond.
    #[test]
    fn a_file_that_is_put_aside_twice_by_the_same_name_is_there_whole() {
        let dir = tempfile::tempdir().unwrap();
        let [log, aside] = ["log", "aside"].map(|name| dir.path().join(name));
        fs::write(&log, "kept").unwrap();
        assert!(link_or_copy(&Disk, &log, &aside).unwrap());
        assert!(!link_or_copy(&Disk, &log, &aside).unwrap(), "copied");
        let read = |path| fs::read_to_string(path).unwrap();
        assert_eq!([read(&log), read(&aside)], ["kept", "kept"]);
    }
}
