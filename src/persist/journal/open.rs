//! Opening a directory: lock and recover.

use super::buffer::Buffer;
use super::clocks::Clocks;
use super::closing::Closing;
use super::commits::Commits;
use super::gate::Gate;
use super::log::{LogFile, Tail};
use super::retry::{Attempts, Demand};
use super::stall::Asked;
use super::{Counts, Inner, Now, OpenJournal, Room, Syncing};
use crate::persist::closed;
use crate::persist::contents::Contents;
use crate::persist::error::{DiskError, OpenError};
use crate::persist::files::absolute;
use crate::persist::hold::hold;
use crate::persist::recovery::{Recovered, Recovery};
use crate::persist::report::RecoveryReport;
use crate::persist::settings::{RecoveryMode, Settings, SyncPolicy};
use crate::persist::storage::{Hold, Storage};
use crate::persist::wall::{STEP, Wall};
use crate::process::this_process;
use crate::sync::{AtomicU64, Mutex};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

impl OpenJournal {
    /// Opens or creates a directory and recovers what is in it through `contents`, which was empty.
    ///
    /// # Errors
    ///
    /// Of the directory nothing was changed, unless the error says so. The contents may have been
    /// filled in part and are to be thrown away.
    pub(crate) fn open(
        dir: &Path,
        settings: Settings,
        storage: Arc<dyn Storage>,
        contents: Arc<dyn Contents>,
    ) -> Result<(Arc<Self>, RecoveryReport), OpenError> {
        let start = Instant::now();
        if dir.as_os_str().is_empty() {
            let path = dir.to_owned();
            return Err(OpenError::NotADirectory { path });
        }
        let dir = &*absolute(dir)?;
        enter(dir, &settings, &*storage)?;
        let recovery = Recovery {
            wall: Wall::new(settings.clock.clone()),
            dir,
            settings: &settings,
            storage: &*storage,
            contents: &*contents,
            may_change: !settings.is_read_only(),
        };
        recovery.refuse_others()?;
        let how = match settings.is_read_only() {
            true => Hold::Shared,
            false => Hold::Exclusive,
        };
        let lock = hold(dir, how, &*storage)?;
        let mut recovered = recovery.run()?;
        contents.recovered(recovered.now_ms);
        let mut report = std::mem::take(&mut recovered.report);
        if settings.discards_unclosed {
            let (store, last) = (recovered.manifest.store, recovered.last_seq);
            let is_marked = closed::is_marked(&*storage, dir, store, last);
            report.closed = Some(report.created || is_marked && report.is_whole());
        }
        let journal = Self {
            inner: Arc::new(inner(dir, settings, storage, contents, &recovered, &report)),
            threads: Mutex::default(),
            closing: Closing::default(),
        };
        *journal.inner.lock.lock() = lock;

        // What was not opened is not closed, after a panic neither: that would write.
        journal.inner.now.lock().is_closed = true;
        journal.begin(&recovered, &mut report)?;
        journal.inner.now.lock().is_closed = false;
        report.total_time = start.elapsed();
        Ok((Arc::new(journal), report))
    }
}

/// Makes the directory if need be, where it may be made.
fn enter(dir: &Path, settings: &Settings, storage: &dyn Storage) -> Result<(), OpenError> {
    if settings.may_create() {
        storage
            .create_dir(dir)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                    let path = dir.to_owned();
                    OpenError::NotADirectory { path }
                }
                _ => DiskError::new("create", dir, error).into(),
            })?;
    }
    storage.list(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !settings.may_create() => {
            let dir = dir.to_owned();
            OpenError::NotFound { dir }
        }
        io::ErrorKind::NotADirectory => {
            let path = dir.to_owned();
            OpenError::NotADirectory { path }
        }
        _ => DiskError::new("list", dir, error).into(),
    })?;
    Ok(())
}

fn inner(
    dir: &Path,
    settings: Settings,
    storage: Arc<dyn Storage>,
    contents: Arc<dyn Contents>,
    recovered: &Recovered,
    report: &RecoveryReport,
) -> Inner {
    let (last, next) = (recovered.last_seq, recovered.last_seq.saturating_add(1));
    let log = recovered.log.clone().filter(|_| settings.log);
    let mut tail = Tail::new(log.map(LogFile::from), next);
    tail.is_unlisted = recovered.replaces;
    tail.migrates = recovered.is_of_other_schema(&settings);
    let is_distrusted = recovered.manifest.distrusted || recovered.replaces;
    // What was recovered and synced is durable; what cannot be trusted is what was proven before.
    let durable = if is_distrusted {
        report.durable_seq.min(last)
    } else {
        last
    };
    let mut manifest = recovered.manifest.clone();
    manifest.schema = settings.schema;
    manifest.codec = settings.codec;
    manifest.dir_kind = settings.dir_kind.or(manifest.dir_kind);
    let is_point = matches!(settings.mode, RecoveryMode::PointInTime(_));
    manifest.went_back = is_point;
    let keeps = settings.log && !settings.is_read_only();
    // A snapshot by the clock of now is due then, and is until one was made.
    let is_off = report.clock.ahead() >= STEP && !settings.is_read_only();
    Inner {
        dir: dir.to_owned(),
        storage,
        buffer: Buffer::new(settings.buffer, next, keeps),
        commits: Commits::new(
            last,
            durable,
            settings.sync == SyncPolicy::Always || !settings.log,
        ),
        gate: Gate::default(),
        tail: Mutex::new(tail),
        syncing: Mutex::new(Syncing {
            is_distrusted,
            failures: 0,
        }),
        leading: Mutex::new(()),
        compacting: Mutex::new(Attempts::begin()),
        demand: Demand::default(),
        publishing: Mutex::default(),
        catalog: Mutex::new(manifest),
        contents: Mutex::new(Some(contents)),
        lock: Mutex::new(None),
        room: Room::default(),
        asked: Asked::default(),
        writer: Default::default(),
        syncer: Default::default(),
        compactor: Default::default(),
        log_bytes: AtomicU64::new(recovered.log_bytes),
        clocks: Clocks::new(recovered.ahead, is_off),
        counts: Counts::default(),
        now: Mutex::new(Now::default()),
        process: AtomicU64::new(this_process().into()),
        opened_at: recovered.last_seq,
        settings,
    }
}

impl Recovered {
    /// Whether some of it was written under another schema version, so that it has to be written
    /// anew before it can be gone on with.
    pub(super) fn is_of_other_schema(&self, settings: &Settings) -> bool {
        self.manifest.schema != settings.schema
            || self
                .log
                .as_ref()
                .is_some_and(|log| log.schema != settings.schema)
    }
}
