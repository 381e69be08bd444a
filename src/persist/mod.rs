//! What survives a restart: the files of a store, what they promise, and what goes wrong with them.
//!
//! # Files
//!
//! | file | holds |
//! | --- | --- |
//! | `MANIFEST` | which of the others count |
//! | `snap-<n>.db` | all entries at one time |
//! | `log-<n>.wal` | what happened since |
//! | `LOCK` | nothing; locked while the directory is open |
//! | `quarantine/` | copies of what recovery left out |
//!
//! Each file begins with 64 bytes that say its format, its store, its codec and its schema version.
//! Then follow frames: a header of 48 bytes with a checksum of its own, and a payload that the
//! header has the checksum of. All checksums are CRC32C and begin with a number that is drawn for
//! each file, so no frame of another file is taken for one of this. Nothing is deleted but files
//! with such names that the manifest does not list.
//!
//! # Restoring a backup
//!
//! A backup is a directory like any other: open it, or copy it to where the store was.

// The faces that use it come next.
#![allow(dead_code)]

pub mod check;
mod contents;
mod effect;
mod error;
mod files;
mod frame;
mod header;
mod journal;
mod manifest;
mod recovery;
mod report;
mod settings;
mod storage;
mod varint;

#[cfg(all(test, shuttle))]
#[path = "tests/interleavings.rs"]
mod interleavings;
#[cfg(all(test, not(shuttle)))]
mod tests;

pub use error::{CommitError, CompactError, Damage, DiskError, OpenError, WriteError};
pub use header::{CodecId, StoreId};
pub use report::{
    BackupReport, ClockCheck, CloseReport, CompactReport, Health, HealthState, Progress,
    RecoveryReport,
};
pub use settings::{Point, RecoveryMode, SyncPolicy, WhenFull};
