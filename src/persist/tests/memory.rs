//! A file system in memory that fails when it is told to, and that loses power.
//!
//! What was not synced is kept apart: at a crash each such write is applied, dropped or garbled on
//! its own, in any order, and each change of a name is applied or dropped. A sync that fails or panics
//! drops some of what it was to write and forgets about it, as Linux does: the next sync of that file
//! succeeds, and the process still reads what is not on the disk.

use crate::persist::storage::{Access, Blob, Held, Hold, Lock, Storage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<Disk>>, Arc<Mutex<()>>);

struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Each lock has a number of its own, as a file has.
    locks: BTreeMap<PathBuf, u64>,
    taken: u64,
    /// Changes since the start.
    operations: u64,
    faults: Vec<Fault>,
    random: fastrand::Rng,
    /// Files with which something never works.
    spoilt: BTreeMap<usize, Spoilt>,
    /// Files with which it works no more once they were opened so many times.
    fading: BTreeMap<usize, (usize, Spoilt)>,
    /// Parts of files that cannot be read: bad sectors.
    bad: Vec<(usize, Range<u64>)>,
    before: Vec<Before>,
    /// How many bytes fit.
    space: usize,
    /// How many files are open, and how many may be.
    open: usize,
    most_open: usize,
    /// It says that it has synced, and has not.
    is_lying: bool,
    has_no_sync_of_names: bool,
}

#[derive(Default, Clone)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Clone)]
struct NameChange {
    dir: PathBuf,
    unset: Option<PathBuf>,
    set: Option<(PathBuf, usize)>,
}

/// What a change of the file system is, for choosing which fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Write,
    Cut,
    Sync,
    SyncDir,
    Rename,
    Remove,
    Link,
    /// Comes when the file is open, and before whoever locks it knows that.
    Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing is done.
    Full,
    Broken,
    /// Of a write the first half is done before it fails.
    Half,
    /// The code has a bug.
    Panic,
}

/// What happens before an operation.
struct Before {
    operation: Operation,
    /// How many operations of that kind come up to it.
    left: usize,
    then: Box<dyn FnOnce() + Send>,
}

/// What does not work with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoilt {
    Open,
    Read,
    Sync,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// From which operation on, counted from 1.
    pub(super) from: u64,
    /// How many fail.
    pub(super) count: u64,
    pub(super) only: Option<Operation>,
    pub(super) how: How,
}

impl Memory {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Arc::new(Mutex::new(Disk {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            dirs: BTreeSet::new(),
            locks: BTreeMap::new(),
            taken: 0,
            operations: 0,
            faults: Vec::new(),
            spoilt: BTreeMap::new(),
            fading: BTreeMap::new(),
            bad: Vec::new(),
            before: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            space: usize::MAX,
            open: 0,
            most_open: usize::MAX,
            is_lying: false,
            has_no_sync_of_names: false,
        }));
        Self(disk, Arc::default())
    }

    /// Another handle of the same disk, as a store takes it.
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// Has no write to a file begin before what this returns is dropped.
    pub(super) fn stall(&self) -> MutexGuard<'_, ()> {
        self.1.lock().unwrap()
    }

    pub(super) fn lack_sync_of_names(&self) {
        self.disk().has_no_sync_of_names = true;
    }

    pub(super) fn lie(&self) {
        self.disk().is_lying = true;
    }

    /// A copy with all that is not synced, as `kill -9` leaves it until the power goes.
    pub(super) fn fork(&self) -> Self {
        let disk = self.disk();
        let fork = Self::new(1);
        let mut to = fork.disk();
        to.files.clone_from(&disk.files);
        to.names.clone_from(&disk.names);
        to.durable_names.clone_from(&disk.durable_names);
        to.unsynced_names.clone_from(&disk.unsynced_names);
        to.dirs.clone_from(&disk.dirs);
        drop(to);
        fork
    }

    /// As [`copy`](Self::copy), with other dice.
    pub(super) fn with_seed(&self, seed: u64) -> Self {
        let copy = self.copy();
        copy.roll_again(seed);
        copy
    }

    pub(super) fn roll_again(&self, seed: u64) {
        self.disk().random = fastrand::Rng::with_seed(seed);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(|error| error.into_inner())
    }

    pub(super) fn open_files(&self) -> usize {
        self.disk().open
    }

    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        self.disk().dirs.contains(dir)
    }

    pub(super) fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Has the next operations of a kind fail.
    pub(super) fn fail_next(&self, count: u64, only: Option<Operation>, how: How) {
        let from = self.disk().operations + 1;
        self.fail(Fault {
            from,
            count,
            only,
            how,
        });
    }

    /// Has something never work with a file.
    pub(super) fn spoil(&self, path: &Path, how: Spoilt) {
        let mut disk = self.disk();
        let id = disk.names[path];
        disk.spoilt.insert(id, how);
    }

    /// As [`spoil`](Self::spoil), once the file was opened so many times.
    pub(super) fn spoil_after(&self, opens: usize, path: &Path, how: Spoilt) {
        let mut disk = self.disk();
        let id = disk.names[path];
        disk.fading.insert(id, (opens, how));
    }

    /// Has a part of a file never be read: what is before it is, as far as a read goes.
    pub(super) fn spoil_part(&self, path: &Path, part: Range<u64>) {
        let mut disk = self.disk();
        let id = disk.names[path];
        disk.bad.push((id, part));
    }

    /// Has something happen before the n-th operation of a kind, from now on; not before a cut.
    pub(super) fn before(
        &self,
        operation: Operation,
        nth: usize,
        then: impl FnOnce() + Send + 'static,
    ) {
        let before = &mut self.disk().before;
        before.push(Before {
            operation,
            left: nth,
            then: Box::new(then),
        });
    }

    fn come_to(&self, operation: Operation) {
        let mut disk = self.disk();
        for before in &mut disk.before {
            before.left -= usize::from(before.operation == operation);
        }
        let now: Vec<_> = disk
            .before
            .extract_if(.., |before| before.left == 0)
            .collect();
        drop(disk);
        now.into_iter().for_each(|before| (before.then)());
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.disk().faults.push(fault);
    }

    /// Has operations fail, whichever they are: so many from this one on.
    pub(super) fn fail_from(&self, from: u64, count: u64, how: How) {
        self.fail(Fault {
            from,
            count,
            only: None,
            how,
        });
    }

    pub(super) fn heal(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.space = usize::MAX;
    }

    /// As the system has it for a process.
    pub(super) fn limit_open_files(&self, most: usize) {
        self.disk().most_open = most;
    }

    pub(super) fn limit_space(&self, more: usize) {
        let mut disk = self.disk();
        disk.space = disk.used() + more;
    }

    /// The power is gone, and comes back.
    pub(super) fn crash(&self) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        for file in &mut disk.files {
            file.settle(&mut disk.random);
            file.seen = file.durable.clone();
        }
        for change in std::mem::take(&mut disk.unsynced_names) {
            if disk.random.bool() {
                change.apply(&mut disk.durable_names);
            }
        }
        disk.names = disk.durable_names.clone();
        disk.locks.clear();
        disk.faults.clear();
    }

    /// The power is gone, and nothing that was not synced is there.
    pub(super) fn crash_dropping_all(&self) {
        let mut disk = self.disk();
        for file in &mut disk.files {
            file.unsynced.clear();
            file.seen = file.durable.clone();
        }
        disk.unsynced_names.clear();
        disk.names = disk.durable_names.clone();
        disk.locks.clear();
    }

    /// A copy of all that is there now, as `kill -9` leaves it.
    pub(super) fn copy(&self) -> Self {
        let disk = self.disk();
        let copy = Self::new(1);
        {
            let mut to = copy.disk();
            to.files.clone_from(&disk.files);
            to.names.clone_from(&disk.names);
            to.durable_names.clone_from(&disk.names);
            to.dirs.clone_from(&disk.dirs);
            for file in &mut to.files {
                file.durable.clone_from(&file.seen);
                file.unsynced.clear();
            }
        }
        copy
    }

    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.files[disk.names[path]].seen.clone()
    }

    /// Puts bytes into a file, durably, behind everybody's back.
    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        let id = *disk.names.entry(path.to_owned()).or_insert_with(|| {
            disk.files.push(File::default());
            disk.files.len() - 1
        });
        disk.durable_names.insert(path.to_owned(), id);
        disk.files[id] = File {
            seen: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
        };
    }

    pub(super) fn forget(&self, path: &Path) {
        let mut disk = self.disk();
        disk.names.remove(path);
        disk.durable_names.remove(path);
    }

    /// As `rm -rf` does, also while it is open.
    pub(super) fn remove_dir(&self, dir: &Path) {
        let mut disk = self.disk();
        disk.names.retain(|path, _| !path.starts_with(dir));
        disk.durable_names.retain(|path, _| !path.starts_with(dir));
        disk.unsynced_names.clear();
        disk.locks.retain(|path, _| !path.starts_with(dir));
        disk.dirs.retain(|path| !path.starts_with(dir));
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// All files with their bytes, without those whose names say that they are not of the state.
    pub(super) fn image(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.disk();
        let files = disk.names.iter();
        files
            .map(|(path, id)| (path.clone(), disk.files[*id].seen.clone()))
            .collect()
    }
}

impl Disk {
    fn used(&self) -> usize {
        let files: BTreeSet<usize> = self.names.values().copied().collect();
        files.iter().map(|id| self.files[*id].seen.len()).sum()
    }

    /// Counts an operation and says how it is to fail.
    fn begin(&mut self, operation: Operation) -> Option<How> {
        self.operations += 1;
        let now = self.operations;
        let fault = self.faults.iter_mut().find(|fault| {
            let is_meant = fault.only.is_none_or(|only| only == operation);
            is_meant && fault.from <= now && fault.count > 0
        })?;
        fault.count -= 1;
        Some(fault.how)
    }

    fn check(&mut self, operation: Operation) -> io::Result<()> {
        match self.begin(operation) {
            None => Ok(()),
            Some(how) => Err(how.error()),
        }
    }

    fn check_open(&self) -> io::Result<()> {
        match self.open < self.most_open {
            true => Ok(()),
            false => Err(io::Error::other("too many open files")),
        }
    }

    /// Counts an opening of a file.
    fn fade(&mut self, id: usize) {
        if let Some((left, how)) = self.fading.get_mut(&id) {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => drop(self.spoilt.insert(id, *how)),
            }
        }
    }

    fn id(&self, path: &Path) -> io::Result<usize> {
        let id = self.names.get(path).copied();
        id.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_names(&mut self, unset: Option<&Path>, set: Option<(&Path, usize)>) {
        let path = unset.or(set.map(|(path, _)| path)).expect("a name");
        let change = NameChange {
            dir: path.parent().expect("in a directory").to_owned(),
            unset: unset.map(Path::to_owned),
            set: set.map(|(path, id)| (path.to_owned(), id)),
        };
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl How {
    fn error(self) -> io::Error {
        match self {
            How::Full | How::Half => io::ErrorKind::StorageFull.into(),
            How::Broken => io::Error::other("input/output error"),
            How::Panic => panic!("a bug in the storage"),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(path) = &self.unset {
            names.remove(path);
        }
        if let Some((path, id)) = &self.set {
            names.insert(path.clone(), *id);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Change::Cut(length) => bytes.resize(*length, 0),
        }
    }

    /// Some of it as it was meant, the rest as anything.
    fn garble(&mut self, random: &mut fastrand::Rng) {
        if let Change::Write(_, bytes) = self {
            let start = random.usize(0..=bytes.len());
            match random.u8(0..3) {
                0 => bytes[start..].fill(0),
                1 => bytes.truncate(start),
                _ => bytes[start..]
                    .iter_mut()
                    .for_each(|byte| *byte = random.u8(..)),
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// Whatever may become of what was not synced.
    fn settle(&mut self, random: &mut fastrand::Rng) {
        let mut changes = std::mem::take(&mut self.unsynced);
        match random.u8(0..4) {
            0 => changes.clear(),
            1 => {}
            2 => random.shuffle(&mut changes),
            _ => changes.truncate(random.usize(0..=changes.len())),
        }
        for mut change in changes {
            match random.u8(0..6) {
                0 => continue,
                1 => change.garble(random),
                _ => {}
            }
            change.apply(&mut self.durable);
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl Storage for Memory {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .map(|path| path.file_name().expect("a name").to_string_lossy().into())
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn Blob>> {
        self.come_to(Operation::Create);
        let mut disk = self.disk();
        disk.check(Operation::Create)?;
        disk.check_open()?;
        disk.files.push(File::default());
        let id = disk.files.len() - 1;
        disk.change_names(None, Some((path, id)));
        disk.open += 1;
        Ok(Arc::new(Handle {
            disk: self.clone(),
            id,
        }))
    }

    fn claim(&self, path: &Path) -> io::Result<()> {
        self.come_to(Operation::Create);
        let mut disk = self.disk();
        disk.check(Operation::Create)?;
        if disk.id(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.files.push(File::default());
        let id = disk.files.len() - 1;
        disk.change_names(None, Some((path, id)));
        Ok(())
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn Blob>> {
        let mut disk = self.disk();
        let id = disk.id(path)?;
        disk.fade(id);
        if disk.spoilt.get(&id) == Some(&Spoilt::Open) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        disk.check_open()?;
        disk.open += 1;
        drop(disk);
        Ok(Arc::new(Handle {
            disk: self.clone(),
            id,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.come_to(Operation::Rename);
        let mut disk = self.disk();
        disk.check(Operation::Rename)?;
        let id = disk.id(from)?;
        disk.change_names(Some(from), Some((to, id)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check(Operation::Remove)?;
        disk.id(path)?;
        disk.change_names(Some(path), None);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check(Operation::Remove)?;
        if disk.names.keys().any(|path| path.starts_with(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.dirs.remove(dir);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.come_to(Operation::Link);
        let mut disk = self.disk();
        disk.check(Operation::Link)?;
        let id = disk.id(from)?;
        if disk.id(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.change_names(None, Some((to, id)));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.come_to(Operation::SyncDir);
        let mut disk = self.disk();
        disk.check(Operation::SyncDir)?;
        let changes = std::mem::take(&mut disk.unsynced_names);
        for change in changes {
            if change.dir == dir {
                change.apply(&mut disk.durable_names);
            } else {
                disk.unsynced_names.push(change);
            }
        }
        Ok(())
    }

    fn syncs_names(&self, dir: &Path) -> io::Result<bool> {
        let lacks = self.disk().has_no_sync_of_names;
        if !lacks {
            self.sync_dir(dir)?;
        }
        Ok(!lacks)
    }

    fn lock(&self, path: &Path, hold: Hold) -> io::Result<Option<Lock>> {
        assert!(hold == Hold::Exclusive || hold == Hold::Shared);
        let mut disk = self.disk();
        if disk.locks.contains_key(path) {
            return Ok(None);
        }
        disk.taken += 1;
        let number = disk.taken;
        disk.locks.insert(path.to_owned(), number);
        drop(disk);
        self.come_to(Operation::Lock);
        Ok(Some(Box::new(Locked {
            disk: self.clone(),
            path: path.to_owned(),
            number,
        })))
    }
}

struct Locked {
    disk: Memory,
    path: PathBuf,
    number: u64,
}

impl Held for Locked {
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(self.disk.disk().locks.get(&self.path) == Some(&self.number))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if let Ok(true) = self.is_in_place() {
            self.disk.disk().locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct Handle {
    disk: Memory,
    id: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.disk().open -= 1;
    }
}

impl Blob for Handle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        drop(self.disk.1.lock());
        self.disk.come_to(Operation::Write);
        let mut disk = self.disk.disk();
        let how = disk.begin(Operation::Write);
        let room = disk.space.saturating_sub(disk.used());
        let at = offset as usize;
        let fits = match how {
            Some(How::Half) => bytes.len() / 2,
            Some(how) => return Err(how.error()),
            None => bytes.len().min(room),
        };
        if fits > 0 {
            disk.files[self.id].change(Change::Write(at, bytes[..fits].to_vec()));
        }
        // A disk that is nearly full takes a part, and refuses the rest.
        if how.is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match fits {
            0 if !bytes.is_empty() => Err(io::ErrorKind::StorageFull.into()),
            fits => Ok(fits),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.disk();
        if disk
            .spoilt
            .get(&self.id)
            .is_some_and(|how| *how != Spoilt::Sync)
        {
            return Err(How::Broken.error());
        }
        let of_file = disk.bad.iter().filter(|(id, _)| *id == self.id);
        let behind = of_file.filter(|(_, part)| part.end > offset);
        let next = behind.map(|(_, part)| part.start).min();
        if next.is_some_and(|start| start <= offset) {
            return Err(How::Broken.error());
        }
        let seen = &disk.files[self.id].seen;
        let rest = seen.get(offset as usize..).unwrap_or(&[]);
        let most = next.map_or(usize::MAX, |start| (start - offset) as usize);
        let length = rest.len().min(bytes.len()).min(most);
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.disk().files[self.id].seen.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.check(Operation::Cut)?;
        disk.files[self.id].change(Change::Cut(length as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.come_to(Operation::Sync);
        let mut disk = self.disk.disk();
        let fault = disk.begin(Operation::Sync);
        let disk = &mut *disk;
        let is_spoilt = disk.spoilt.get(&self.id) == Some(&Spoilt::Sync);
        let fault = fault.or(is_spoilt.then_some(How::Broken));
        let file = &mut disk.files[self.id];
        if let Some(how) = fault {
            file.settle(&mut disk.random);
            return Err(how.error());
        }
        if disk.is_lying {
            return Ok(());
        }
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }
}
