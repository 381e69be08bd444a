//! What the journal asks of a file system, and the one of this machine.
//!
//! The tests put others in its place: one that fails, and one that loses power.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system.
pub(crate) trait Storage: Debug + Send + Sync {
    /// Creates a directory and those above it, durably. One that is there is no error, and durable,
    /// too.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a new, empty file. One that is there loses this name, and keeps what it has under its
    /// others.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Blob>>;

    /// Makes an empty file with a name that nothing has: of several who try at once one succeeds, and
    /// to the others it is [`AlreadyExists`](io::ErrorKind::AlreadyExists).
    fn claim(&self, path: &Path) -> io::Result<()>;

    /// Opens a file that is there.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn Blob>>;

    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory that has nothing in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes durable which names are in a directory, where the file system can be asked to.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether the file system of a directory can be asked to make names durable.
    fn syncs_names(&self, dir: &Path) -> io::Result<bool>;

    /// Holds a file against other processes until it is dropped, `None` if one of them has it.
    fn lock(&self, path: &Path, hold: Hold) -> io::Result<Option<Lock>>;
}

/// An open file. Reads and writes say where, so there is no position to share.
pub(crate) trait Blob: Debug + Send + Sync {
    /// Writes some of the bytes and says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads some bytes and says how many: none at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    fn length(&self) -> io::Result<u64>;

    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes durable what was written before the call.
    fn sync(&self) -> io::Result<()>;
}

/// A lock, held until it is dropped.
pub(crate) type Lock = Box<dyn Held>;

/// A file that is held against other processes.
pub(crate) trait Held: Send {
    /// Whether the path that it was locked by is still that of this file. If not, what is at that
    /// path may belong to somebody else.
    fn is_in_place(&self) -> io::Result<bool>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Beside others that only read.
    Shared,
    Exclusive,
}

/// Writes all of the bytes.
pub(crate) fn write_all(blob: &dyn Blob, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match blob.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written.min(bytes.len())..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the bytes are full or the file ends, and says how many there were.
pub(crate) fn read_full(blob: &dyn Blob, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match blob.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The file system of this machine.
#[derive(Debug)]
pub(crate) struct Disk;

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let (found, made) = parents_of_new(dir);
        let reaches = reach_of_sync(dir);
        fs::create_dir_all(dir)?;
        // Who made what is there may have been killed before he synced its name. It may be
        // another's, in a directory that is not to be read.
        for parent in found.ancestors().take(reaches) {
            let _ = self.sync_dir(parent);
        }
        // A directory that the next crash takes away takes with it all that was synced in it.
        made.iter().try_for_each(|parent| self.sync_dir(parent))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn Blob>> {
        // What is put aside is linked: to empty a file would empty what is in the quarantine.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = of_new_files();
        let file = options.read(true).write(true).create_new(true);
        Ok(Arc::new(file.open(path)?))
    }

    fn claim(&self, path: &Path) -> io::Result<()> {
        let mut options = of_new_files();
        options.write(true).create_new(true).open(path).map(drop)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn Blob>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.syncs_names(dir).map(drop)
    }

    #[cfg(unix)]
    fn syncs_names(&self, dir: &Path) -> io::Result<bool> {
        match File::open(dir)?.sync_all() {
            Ok(()) => Ok(true),
            Err(error) if has_no_sync_of_names(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Elsewhere a directory cannot be opened to be synced; the file system orders its names.
    #[cfg(not(unix))]
    fn syncs_names(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn lock(&self, path: &Path, hold: Hold) -> io::Result<Option<Lock>> {
        let (file, attempt) = match hold {
            Hold::Exclusive => {
                let mut options = of_new_files();
                let options = options.read(true).write(true).create(true).truncate(false);
                let file = options.open(path)?;
                let attempt = file.try_lock();
                (file, attempt)
            }
            Hold::Shared => {
                let file = File::open(path)?;
                let attempt = file.try_lock_shared();
                (file, attempt)
            }
        };
        match attempt {
            Ok(()) => {
                let path = path.to_owned();
                Ok(Some(Box::new(Locked { file, path })))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Whether a sync of a directory failed since the file system has no such thing, as some do that are
/// another machine's: names are what that has made of them by then. A disk that fails says something
/// else (`EIO`, `ENOSPC`, `EDQUOT`). Of a file this would be a failure, too.
///
/// SQLite takes no notice of any failure to sync a directory, PostgreSQL of none like this; RocksDB
/// does not open there.
#[cfg(unix)]
fn has_no_sync_of_names(error: &io::Error) -> bool {
    // EINVAL of Linux; ENOTSUP, EOPNOTSUPP and ENOSYS.
    let kind = error.kind();
    matches!(
        kind,
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

/// How many directories above one that is opened may have names that are not durable. Where it is
/// empty, or is not there, nobody has opened it before, and who made those above it may have been
/// killed right then. Else the name of each was synced before anything was put into it.
fn reach_of_sync(dir: &Path) -> usize {
    let is_empty = fs::read_dir(dir).map_or(true, |mut names| names.next().is_none());
    if is_empty { usize::MAX } else { 1 }
}

/// The directory with the name of the last that is there of those that lead to one, and those that
/// will have the names of the others, from the top.
fn parents_of_new(dir: &Path) -> (PathBuf, Vec<PathBuf>) {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing = dir.ancestors().take_while(is_missing).count();
    let parents = dir.ancestors().skip(1).take(missing + 1);
    let mut parents: Vec<PathBuf> = parents
        .map(|parent| match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        })
        .collect();
    let found = parents.split_off(missing.min(parents.len())).pop();
    parents.reverse();
    (found.unwrap_or_else(|| PathBuf::from(".")), parents)
}

/// What is kept may be sessions, or rows of a database that asks for passwords: others than its
/// owner have no business in it, whatever the mask of the process says.
fn of_new_files() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there is no mode to set"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A locked file. Closing it would free it, too, but not while a child that is being started
/// has a copy of it.
struct Locked {
    file: File,
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is nothing to compare"))]
    path: PathBuf,
}

impl Held for Locked {
    #[cfg(unix)]
    fn is_in_place(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match fs::metadata(&self.path) {
            // As long as it is open, no other file gets its number.
            Ok(found) => Ok(id(found) == id(self.file.metadata()?)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Elsewhere the standard library has no number of a file that could be compared.
    #[cfg(not(unix))]
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // If that fails, closing is what is left.
        let _ = self.file.unlock();
    }
}

impl Blob for File {
    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(self, bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_synced_of_a_directory_that_nobody_has_opened_before() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("a");
        assert_eq!(reach_of_sync(&dir), usize::MAX);
        Disk.create_dir(&dir).unwrap();
        assert_eq!(reach_of_sync(&dir), usize::MAX, "as of one who was killed");
        Disk.create(&dir.join("LOCK")).unwrap();
        assert_eq!(reach_of_sync(&dir), 1);
    }

    /// Nothing can be asked to sync a directory of the kernel's, which is as on a file system that
    /// has no sync of names.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_system_that_has_no_sync_of_names_is_told_from_a_disk_that_fails() {
        let temporary = tempfile::tempdir().unwrap();
        for (dir, expected) in [(temporary.path(), true), (Path::new("/proc/self"), false)] {
            Disk.sync_dir(dir).unwrap();
            assert_eq!(Disk.syncs_names(dir).unwrap(), expected);
        }
        assert!(Disk.sync_dir(&temporary.path().join("not there")).is_err());
        let (io, no_space, quota) = (5, 28, 122);
        for disk in [io, no_space, quota].map(io::Error::from_raw_os_error) {
            assert!(!has_no_sync_of_names(&disk), "{disk}");
        }
    }

    #[test]
    fn the_names_of_new_directories_are_synced_and_that_of_the_last_that_was_there() {
        let path = |path: &str| PathBuf::from(path);
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        let of_new = (
            base.parent().unwrap().to_owned(),
            vec![base.to_owned(), base.join("a")],
        );
        assert_eq!(parents_of_new(&base.join("a/b")), of_new);
        assert_eq!(
            parents_of_new(&base.join("a")),
            (of_new.0, vec![base.to_owned()])
        );
        Disk.create_dir(&base.join("a/b")).unwrap();
        Disk.create_dir(&base.join("a/b")).unwrap();
        assert_eq!(parents_of_new(&base.join("a/b")), (base.join("a"), vec![]));

        assert_eq!(parents_of_new(Path::new("src")), (path("."), vec![]));
        assert_eq!(parents_of_new(Path::new("/")), (path("."), vec![]));
        let relative = (path("."), vec![path("."), path("not there")]);
        assert_eq!(parents_of_new(Path::new("not there/too")), relative);
    }
}
