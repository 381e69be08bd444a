//! Going on in a directory that was recovered: what has to be so before it is written to.

use super::{Inner, OpenJournal};
use crate::persist::closed;
use crate::persist::error::{CompactError, DiskError, OpenError, WriteError};
use crate::persist::files::link_or_copy;
use crate::persist::header::CLEARS;
use crate::persist::manifest::{LOCK, Manifest, QUARANTINE};
use crate::persist::recovery::Recovered;
use crate::persist::report::RecoveryReport;
use std::path::PathBuf;

impl OpenJournal {
    /// Makes the directory ready to be written to.
    pub(super) fn begin(
        &self,
        recovered: &Recovered,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let inner = &*self.inner;
        let is_unclosed = report.closed == Some(false);
        if inner.settings.is_read_only() {
            inner.gate.end(WriteError::ReadOnly);
            if is_unclosed {
                inner.forget(report);
            }
            return Ok(());
        }
        inner.check_place().map_err(OpenError::of_generation)?;
        report.names_unsynced = !closed::unmark(&*inner.storage, &inner.dir)?;
        if recovered.replaces {
            inner.preserve(&recovered.manifest, report)?;
        }
        let need = inner.need(recovered, report.created);
        let is_listed = inner.meet(need).map_err(OpenError::of_generation)?;
        if !inner.needs_generation() {
            // Recovery has synced what it found, or a new generation holds it.
            inner.now.lock().last_sync = Some(inner.settings.clock.system_time());
        }
        if is_listed {
            let catalog = inner.catalog.lock().clone();
            inner.clear_away(&catalog);
        }
        if is_unclosed {
            // Before a thread writes a snapshot: what is discarded would be in it.
            inner.discard(report);
        }
        self.start_threads()
    }
}

/// What a directory needs before it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// A new generation.
    Generation,
    /// The same, of what the files hold already: without it that is only not trusted.
    TrustedGeneration,
    /// A log to write to, of which there is none, or none that says what the directory is kept for.
    Log,
    /// A log other than the one that was cut.
    LogBehindCut,
    /// A manifest that says what is so now.
    Manifest,
    /// One that says only that it is not gone back any more: a failure does not matter.
    LaterManifest,
    Nothing,
}

impl Inner {
    /// The first that applies: who makes a new generation has a new log and a manifest, too.
    fn need(&self, recovered: &Recovered, created: bool) -> Need {
        let (before, has_log) = (&recovered.manifest, self.settings.log);
        let catalog = self.catalog.lock();
        let is_of_other_kind = catalog.dir_kind != before.dir_kind;
        // Whether what is written from now on may be left out by going back to a point.
        let (goes_back, is_news) = (catalog.went_back, catalog.went_back != before.went_back);
        drop(catalog);
        // The newest file is to say it, too: a salvage may have nothing else to go by.
        let is_to_say_kind = is_of_other_kind && !has_log && !created;
        if recovered.replaces || recovered.is_of_other_schema(&self.settings) || is_to_say_kind {
            Need::Generation
        } else if self.needs_generation() {
            Need::TrustedGeneration
        } else if has_log && (self.tail.lock().log.is_none() || is_of_other_kind) {
            Need::Log
        } else if has_log && recovered.was_cut {
            Need::LogBehindCut
        } else if created || is_of_other_kind || is_news && goes_back {
            Need::Manifest
        } else if is_news {
            Need::LaterManifest
        } else {
            Need::Nothing
        }
    }

    /// Makes what is needed, and says whether it is known then which files the manifest lists.
    fn meet(&self, need: Need) -> Result<bool, CompactError> {
        match need {
            Need::Generation => self.compact().map(drop)?,
            Need::TrustedGeneration => match self.compact() {
                // As it would have gone on in the process whose sync has failed: to refuse it would
                // keep from its owner what is there, and help nobody to write it anew.
                Err(CompactError::Encode(_)) => self.list()?,
                made => drop(made?),
            },
            Need::Log => self.rotate().map(drop)?,
            Need::LogBehindCut => return self.leave_cut_log(),
            Need::Manifest => self.list()?,
            // If it fails it is said by the next manifest.
            Need::LaterManifest => drop(self.list()),
            Need::Nothing => {}
        }
        Ok(true)
    }

    /// Goes on with nothing. That takes a number, so that a point before it can be gone back to, and
    /// what was closed after it is not taken for what was there before.
    ///
    /// Where it does not come to the log, as on a full disk, what was discarded is there again for
    /// who opens the directory before a snapshot has made up for that, and not closed.
    fn discard(&self, report: &mut RecoveryReport) {
        let is_logged = self.settings.log && self.log_clear().is_ok();
        let last = self.buffer.pass(is_logged);
        if is_logged {
            self.commits.wrote(last);
        }
        self.forget(report);
    }

    /// One record for all, not a removal of each. [`Cache::clear`](crate::Cache::clear) has no use for
    /// it: it goes set by set, beside other writers, so no one number is that of all it removes.
    fn log_clear(&self) -> Result<(), CompactError> {
        self.rotate_to(CLEARS)?;
        let (durable, (wall_ms, made_by)) = (self.commits.durable(), self.wall_time());
        let written = self.tail.lock().clear(durable, wall_ms)?;
        self.note_times(made_by);
        self.count_log(written as u64);
        Ok(())
    }

    fn forget(&self, report: &mut RecoveryReport) {
        let contents = self.contents.lock().clone();
        if let Some(contents) = contents {
            report.discarded = contents.len();
            contents.discard();
        }
    }

    /// Keeps what is there, before a state that is not that of the files takes its place.
    fn preserve(&self, manifest: &Manifest, report: &mut RecoveryReport) -> Result<(), DiskError> {
        let to = self.unused_quarantine(manifest);
        self.storage
            .create_dir(&to)
            .map_err(DiskError::of("create", &to))?;
        let names = self
            .storage
            .list(&self.dir)
            .map_err(DiskError::of("list", &self.dir))?;
        for name in names.iter().filter(|name| *name != LOCK) {
            link_or_copy(&*self.storage, &self.dir.join(name), &to.join(name))?;
        }
        self.storage
            .sync_dir(&to)
            .map_err(DiskError::of("sync", &to))?;
        report.quarantine.push(to);
        Ok(())
    }

    /// A directory to put files aside in that holds none.
    fn unused_quarantine(&self, manifest: &Manifest) -> PathBuf {
        let (generation, at) = (manifest.generation, self.settings.wall_ms());
        let name = format!("generation-{generation}-at-{at}");
        let all = self.dir.join(QUARANTINE);
        let is_used = |dir: &PathBuf| self.storage.list(dir).is_ok_and(|names| !names.is_empty());
        let first = all.join(&name);
        if !is_used(&first) {
            return first;
        }
        // An attempt in the same millisecond has left it there.
        let mut others = (2..).map(|number| all.join(format!("{name}-{number}")));
        let unused = others.find(|dir| !is_used(dir));
        unused.unwrap_or(first)
    }

    /// Goes on in another log than the one that was cut: what was behind its end may come back
    /// after a crash, whole, and with the numbers that are given next. Another has another salt.
    /// Without space for one it goes on in the same, and a file that may be listed already stays.
    fn leave_cut_log(&self) -> Result<bool, CompactError> {
        match self.rotate() {
            Ok(_) => Ok(true),
            Err(CompactError::Disk(error)) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the manifest say what is known by now, of the files that it lists already: whose they are,
    /// what the directory is kept for, whether it was gone back in, how far the log is proven on disk.
    pub(super) fn list(&self) -> Result<(), CompactError> {
        let durable = self.commits.durable();
        self.publish_manifest(|next| next.durable = next.durable.max(durable))
    }
}
