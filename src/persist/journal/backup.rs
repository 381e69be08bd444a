//! A backup while running: second names for the files that the manifest lists.
//!
//! The files that are linked are not written to any more: the log is rotated first, and the backup
//! gets an empty log of its own to go on with. That comes first, and is never the first log of a
//! store: so a backup that was not finished is told from a store that was just begun.
//!
//! The directory is found empty long before anything is put into it, and another backup into it may
//! begin meanwhile, of this store or of another one, in any process. So the `LOCK` file is made before
//! all others, which only one of them can; who opens the directory needs it anyway.

use super::Inner;
use super::compact::sync_error;
use super::log::LogFile;
use crate::persist::error::{CompactError, DiskError};
use crate::persist::files::{absolute, link_or_copy};
use crate::persist::manifest::{LOCK, Manifest, Name};
use crate::persist::report::BackupReport;
use crate::persist::storage::Access;
use std::io;
use std::path::Path;

impl Inner {
    pub(super) fn backup(&self, to: &Path) -> Result<BackupReport, CompactError> {
        if self.settings.is_read_only() {
            return Err(CompactError::ReadOnly);
        }
        let to = &*absolute(to)?;
        self.prepare(to)?;
        if self.needs_generation() || !self.settings.log {
            self.compact()?;
        }
        let _alone = self.alone();
        if self.contents.lock().is_none() {
            return Err(CompactError::Closed);
        }
        self.attempt("backup", || self.copy(to))
    }

    fn copy(&self, to: &Path) -> Result<BackupReport, CompactError> {
        let (mut manifest, last_seq) = self.freeze(to)?;
        let mut report = BackupReport {
            dir: to.to_owned(),
            last_seq,
            ..BackupReport::default()
        };
        for name in manifest.files() {
            self.hand_over(&name, to, &mut report)?;
        }
        self.storage
            .sync_dir(to)
            .map_err(DiskError::of("sync", to))?;
        // If not, they may be another's files.
        self.check_place()?;
        manifest.publish(&*self.storage, to)?;
        Ok(report)
    }

    fn prepare(&self, to: &Path) -> Result<(), CompactError> {
        self.storage
            .create_dir(to)
            .map_err(DiskError::of("create", to))?;
        let names = self.storage.list(to).map_err(DiskError::of("list", to))?;
        if names.is_empty() {
            return Ok(());
        }
        let dir = to.to_owned();
        Err(CompactError::NotEmpty { dir })
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

    /// Has the listed files written to no more. Says what the backup lists, and how far it goes.
    fn freeze(&self, to: &Path) -> Result<(Manifest, u64), CompactError> {
        if !self.settings.log {
            self.check_place()?;
            let manifest = self.catalog.lock().for_backup();
            let last = manifest.newest().map_or(0, |snapshot| snapshot.base);
            self.claim(to)?;
            return Ok((manifest, last));
        }
        let last = self.buffer.last();
        self.write_through(last).map_err(sync_error)?;
        let rotated = self.rotate();
        // Also where that has failed: nobody else syncs what was just written.
        let synced = self.sync_step().map_err(sync_error);
        // To copy may take long: the writer wakes who waited for that.
        self.writer.ring();
        let rotation = rotated?;
        synced?;
        let mut manifest = self.catalog.lock().for_backup();
        manifest.durable = rotation.base;
        self.claim(to)?;
        LogFile::create(&*self.storage, to, &manifest, rotation.generation)?;
        Ok((manifest, rotation.base))
    }

    fn hand_over(
        &self,
        name: &str,
        to: &Path,
        report: &mut BackupReport,
    ) -> Result<(), CompactError> {
        let (from, copy) = (self.dir.join(name), to.join(name));
        let newest = Name::Log(self.catalog.lock().generation);
        if Name::parse(name) != Some(newest) {
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
