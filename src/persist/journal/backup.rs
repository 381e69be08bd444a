//! A backup while running: second names for the files that the manifest lists.
//!
//! The files that are linked are not written to any more: the log is rotated first, unless nothing is
//! in it yet, and the backup gets an empty log of its own to go on with. That comes first, and is
//! never the first log of a store: so a backup that was not finished is told from a store that was
//! just begun. The directory is made when all is ready that takes long, so that there is next to no
//! time in which an end of the process leaves it with nothing in it.
//!
//! Another backup into the same directory may begin meanwhile, of this store or of another one, in any
//! process. So the `LOCK` file is made before all others, which only one of them can; who opens the
//! directory needs it anyway.

use super::Inner;
use super::compact::{ATTEMPTS, Alone};
use super::log::LogFile;
use crate::persist::error::{CompactError, DiskError};
use crate::persist::files::{absolute, link_or_copy};
use crate::persist::header::Kind;
use crate::persist::manifest::{LOCK, Manifest, Name};
use crate::persist::recovery::FIRST_LOG;
use crate::persist::report::BackupReport;
use crate::persist::storage::{Access, Storage};
use std::io;
use std::path::{Path, PathBuf};
use std::slice;

/// What a backup is made of.
struct Frozen {
    manifest: Manifest,
    last_seq: u64,
    /// The log that goes on, which is not handed over.
    log: Option<u64>,
}

/// A directory in which nothing says yet that it is a backup, so that it would open as a new store.
struct Begun<'a> {
    dir: &'a Path,
    /// It was not there before.
    is_new: bool,
    /// What was made in it, the `LOCK` first.
    files: Vec<PathBuf>,
}

impl Begun<'_> {
    /// Leaves nothing of it. The `LOCK` goes last, since it keeps other backups out, and the directory
    /// only if it is empty: it may be that of another one.
    fn take_back(&self, storage: &dyn Storage) {
        for file in self.files.iter().rev() {
            let _ = storage.remove(file);
        }
        if self.is_new {
            let _ = storage.remove_dir(self.dir);
        }
    }
}

impl Inner {
    pub(super) fn backup(&self, to: &Path) -> Result<BackupReport, CompactError> {
        if self.settings.is_read_only() {
            return Err(CompactError::ReadOnly);
        }
        let to = &*absolute(to)?;
        let is_new = self.refuse_full(to)?;
        let (_alone, frozen) = self.freeze_by_one_clock()?;
        let report = self.attempt("backup", || self.copy(frozen, to, is_new))?;
        if self.is_log_large() {
            self.compactor.ring_if_parked();
        }
        Ok(report)
    }

    /// Makes what the files lack, and has them written to no more. If the wall clock is set meanwhile
    /// that is done once more: nobody writes the deadlines of a backup anew.
    fn freeze_by_one_clock(&self) -> Result<(Alone<'_>, Frozen), CompactError> {
        let mut left = ATTEMPTS;
        loop {
            if self.needs_generation() || self.has_stepped() || !self.settings.log {
                self.compact()?;
            }
            let alone = self.alone();
            if self.contents.lock().is_none() {
                return Err(CompactError::Closed);
            }
            let frozen = self.attempt("backup", || self.freeze())?;
            left -= 1;
            if left == 0 || !self.has_stepped() {
                return Ok((alone, frozen));
            }
        }
    }

    fn copy(
        &self,
        mut frozen: Frozen,
        to: &Path,
        is_new: bool,
    ) -> Result<BackupReport, CompactError> {
        let mut report = BackupReport {
            dir: to.to_owned(),
            last_seq: frozen.last_seq,
            ..BackupReport::default()
        };
        let names: Vec<String> = frozen.manifest.files().collect();
        let mut names = names.iter();
        let mut begun = Begun {
            dir: to,
            is_new,
            files: Vec::new(),
        };
        self.begin(&mut begun, &frozen, &mut names, &mut report)
            .inspect_err(|_| begun.take_back(&*self.storage))?;
        for name in names {
            self.hand_over(name, frozen.log, to, &mut report)?;
        }
        self.storage
            .sync_dir(to)
            .map_err(DiskError::of("sync", to))?;
        // If not, they may be another's files.
        self.check_place()?;
        frozen.manifest.publish(&*self.storage, to)?;
        Ok(report)
    }

    /// Refuses a directory that has files; whether it is still to be made.
    fn refuse_full(&self, to: &Path) -> Result<bool, CompactError> {
        match self.storage.list(to) {
            Ok(names) if names.is_empty() => Ok(false),
            Ok(_) => {
                let dir = to.to_owned();
                Err(CompactError::NotEmpty { dir })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(DiskError::new("list", to, error).into()),
        }
    }

    /// Makes the directory, if need be, and in it what says that it is a backup: a log of its own, or
    /// without logs the first file that it is made of.
    fn begin(
        &self,
        begun: &mut Begun<'_>,
        frozen: &Frozen,
        names: &mut slice::Iter<'_, String>,
        report: &mut BackupReport,
    ) -> Result<(), CompactError> {
        let to = begun.dir;
        self.storage
            .create_dir(to)
            .map_err(DiskError::of("create", to))?;
        self.refuse_full(to)?;
        self.claim(to)?;
        begun.files.push(to.join(LOCK));
        if let Some(log) = frozen.log {
            begun.files.push(Name::Log(log).in_dir(to));
            LogFile::create(&*self.storage, to, &frozen.manifest.header(Kind::Log, log))?;
        } else if let Some(first) = names.next() {
            begun.files.push(to.join(first));
            self.hand_over(first, None, to, report)?;
        }
        Ok(())
    }

    /// Has no other backup put its files into the directory, which was empty before.
    fn claim(&self, to: &Path) -> Result<(), CompactError> {
        let lock = to.join(LOCK);
        self.storage
            .claim(&lock)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    let dir = to.to_owned();
                    CompactError::NotEmpty { dir }
                }
                _ => DiskError::new("create", &lock, error).into(),
            })
    }

    /// Has the listed files written to no more.
    fn freeze(&self) -> Result<Frozen, CompactError> {
        self.check_place()?;
        if !self.settings.log {
            let manifest = self.catalog.lock().for_backup();
            let last_seq = manifest.newest().map_or(0, |snapshot| snapshot.base);
            return Ok(Frozen {
                manifest,
                last_seq,
                log: None,
            });
        }
        let last = self.buffer.last();
        self.write_through(last).map_err(CompactError::of_step)?;
        let begun = match self.unwritten_log() {
            Some(unwritten) => Ok(unwritten),
            None => self
                .rotate()
                .map(|rotation| (rotation.generation, rotation.base)),
        };
        // Also where that has failed: nobody else syncs what was just written.
        let synced = self.sync_step().and_then(|()| self.sync_before());
        let synced = synced.map_err(CompactError::of_step);
        // To copy may take long: the writer wakes who waited for that.
        self.writer.ring();
        let (log, last_seq) = begun?;
        synced?;
        let mut manifest = self.catalog.lock().for_backup();
        manifest.durable = last_seq;
        Ok(Frozen {
            manifest,
            last_seq,
            log: Some(log),
        })
    }

    /// The newest log, if nothing is in it and it counts, and the number before its first. Not the
    /// first of the store, which alone in a directory is a store that was just begun.
    fn unwritten_log(&self) -> Option<(u64, u64)> {
        let newest = self.catalog.lock().logs.last().copied()?;
        let syncing = self.syncing.lock();
        let tail = self.tail.lock();
        let log = tail.unwritten()?;
        let counts = !syncing.is_distrusted && !tail.is_unlisted && !tail.migrates;
        let is_newest = log.path == Name::Log(newest).in_dir(&self.dir);
        (counts && is_newest && newest > FIRST_LOG).then_some((newest, tail.next - 1))
    }

    fn hand_over(
        &self,
        name: &str,
        log: Option<u64>,
        to: &Path,
        report: &mut BackupReport,
    ) -> Result<(), CompactError> {
        let (from, copy) = (self.dir.join(name), to.join(name));
        // The backup has a log of its own in the place of that which goes on here.
        if log.is_none_or(|log| Name::parse(name) != Some(Name::Log(log))) {
            let is_linked = link_or_copy(&*self.storage, &from, &copy)?;
            report.linked += u64::from(is_linked);
            report.copied += u64::from(!is_linked);
        }
        let blob = self.storage.open(&copy, Access::Read);
        let length = blob.and_then(|blob| blob.length());
        report.bytes += length.map_err(DiskError::of("read", &copy))?;
        Ok(())
    }
}
