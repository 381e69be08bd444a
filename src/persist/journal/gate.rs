//! Whether writes are taken now, and if not, why.

use crate::persist::error::{CommitError, DiskError, WriteError};
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

    /// Shuts for good. The gravest reason counts, of two as grave the first: closing can panic, or
    /// find that the directory is gone.
    pub(super) fn end(&self, reason: WriteError) {
        self.change(|reasons| {
            if reasons.ended.as_ref().map(gravity) < Some(gravity(&reason)) {
                reasons.ended = Some(reason);
            }
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

    /// Why nothing is to be written any more, not even to end well.
    pub(super) fn stopped(&self) -> Option<CommitError> {
        CommitError::of_end(self.check().err()?)
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

fn gravity(reason: &WriteError) -> u8 {
    match reason {
        WriteError::Panicked { .. } => 2,
        WriteError::DirectoryGone { .. } => 1,
        _ => 0,
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;

    #[test]
    fn it_is_shut_as_long_as_there_is_a_reason_and_says_the_gravest() {
        let gate = Gate::default();
        assert!(gate.check().is_ok() && gate.stopped().is_none());
        let disk = |name| {
            let error = io::Error::other("it fails");
            Some(DiskError::new("write", Path::new(name), error))
        };
        let says = |what: &str| {
            let reason = gate.check().unwrap_err().to_string();
            assert!(reason.contains(what), "{reason}");
            assert!(gate.stopped().is_none());
        };
        gate.log_limit_is(Some(77));
        says("77");
        gate.snapshot_is(disk("the snapshot"));
        says("the snapshot");
        gate.log_is(disk("the log"));
        says("the log");
        gate.log_limit_is(None);
        gate.log_is(None);
        says("the snapshot");
        gate.snapshot_is(None);
        assert!(gate.check().is_ok());

        let panicked = |thread: &str| WriteError::Panicked {
            thread: thread.into(),
        };
        let gone = || WriteError::DirectoryGone { dir: "dir".into() };
        gate.end(WriteError::Closed);
        says("after close");
        gate.end(WriteError::ReadOnly);
        says("after close");
        gate.log_is(disk("the log"));
        says("after close");
        gate.end(gone());
        assert!(matches!(
            gate.stopped(),
            Some(CommitError::DirectoryGone { .. })
        ));
        gate.end(panicked("first"));
        gate.end(panicked("second"));
        gate.end(gone());
        gate.end(WriteError::Closed);
        let stopped = gate.stopped();
        assert!(matches!(stopped, Some(CommitError::Panicked { thread }) if thread == "first"));
    }
}
