//! Whether writes are taken now, and if not, why.

use crate::persist::error::{DiskError, WriteError};
use crate::sync::{AtomicBool, Mutex};
use std::sync::atomic::Ordering::{Acquire, Release};

#[derive(Debug, Default)]
pub(super) struct Gate {
    is_shut: AtomicBool,
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    /// For good.
    ended: Option<WriteError>,
    /// The log cannot be written.
    log: Option<DiskError>,
    /// What could not be logged cannot be made up for.
    snapshot: Option<DiskError>,
    /// The log is as large as it may be.
    log_limit: Option<u64>,
}

impl Gate {
    #[inline]
    pub(super) fn check(&self) -> Result<(), WriteError> {
        if !self.is_shut.load(Acquire) {
            return Ok(());
        }
        self.reason().map_or(Ok(()), Err)
    }

    pub(super) fn reason(&self) -> Option<WriteError> {
        let reasons = self.reasons.lock();
        let disk = reasons.log.as_ref().or(reasons.snapshot.as_ref());
        let disk = disk.cloned().map(WriteError::Disk);
        let limit = reasons.log_limit.map(|limit| WriteError::LogFull { limit });
        reasons.ended.clone().or(disk).or(limit)
    }

    /// Shuts for good. The first panic counts, or else the first reason: closing can panic.
    pub(super) fn end(&self, reason: WriteError) {
        self.change(|reasons| match (&reasons.ended, &reason) {
            (Some(WriteError::Panicked { .. }), _) => {}
            (None, _) | (_, WriteError::Panicked { .. }) => reasons.ended = Some(reason),
            _ => {}
        });
    }

    pub(super) fn log_is(&self, trouble: Option<DiskError>) {
        self.change(|reasons| reasons.log = trouble);
    }

    pub(super) fn snapshot_is(&self, trouble: Option<DiskError>) {
        self.change(|reasons| reasons.snapshot = trouble);
    }

    pub(super) fn log_limit_is(&self, reached: Option<u64>) {
        self.change(|reasons| reasons.log_limit = reached);
    }

    fn change<R>(&self, change: impl FnOnce(&mut Reasons) -> R) -> R {
        let mut reasons = self.reasons.lock();
        let result = change(&mut reasons);
        let is_shut = reasons.ended.is_some()
            || reasons.log.is_some()
            || reasons.snapshot.is_some()
            || reasons.log_limit.is_some();
        self.is_shut.store(is_shut, Release);
        result
    }
}
