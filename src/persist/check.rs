//! Looking at the files of a store without the types of its keys and values: what is in them,
//! whether they are sound, what can be saved of them.
//!
//! These are for tools. An application opens its store, which checks all that these do.
//!
//! ```
//! # let temporary = tempfile::tempdir()?;
//! # let (dir, saved) = (temporary.path().join("store"), temporary.path().join("saved"));
//! use haybox::persist::check;
//!
//! // What a script does before it starts a service again.
//! match check::verify(&dir, |_| ()) {
//!     Ok(report) => println!("sound: {report}"),
//!     Err(error) => {
//!         eprintln!("{error}");
//!         // The damaged files stay as they are.
//!         if let Ok(report) = check::salvage(&dir, &saved, |_| ()) {
//!             println!("saved {} entries: {}", report.entries, report.recovery);
//!         }
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The program
//! `haybox-check` does the same from a shell, and needs to know nothing about your types either:
//! `cargo install haybox --features check`. `haybox-check --help` lists the exit statuses.
//!
//! | command | does |
//! | --- | --- |
//! | `haybox-check DIR` | says what the directory is kept for, lists frames, entries, numbers, times and damaged places of each file, and whether the directory opens: [`inspect`](fn@inspect) |
//! | `haybox-check DIR --verify` | only the last, for scripts: the exit status tells apart sound, cut short by a crash, damaged, of a newer version, open elsewhere and absent; `--json` prints an object: [`verify`] |
//! | `haybox-check DIR --salvage TO` | saves what can be read, around damage and bad sectors, to a new store: [`salvage`] |
//! | `haybox-check DIR --compact` | writes a new snapshot while the program is down: [`compact`] |

mod inspect;
mod raw;

#[cfg(all(test, not(shuttle)))]
pub(super) use inspect::inspect_on;
pub use inspect::{FileKind, FileReport, Inspection, ManifestReport, inspect};

use self::raw::Raw;
use super::contents::Contents;
use super::error::{CompactError, DiskError, OpenError};
use super::hold::hold;
use super::journal::OpenJournal;
use super::manifest::{Manifest, any_header};
use super::recovery::Recovery;
use super::report::{CompactReport, Progress, RecoveryReport};
use super::settings::{RecoveryMode, Settings};
use super::storage::{Disk, Hold, Storage};
use super::wall::Wall;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Reads all files of a store as opening it would, and changes nothing. Takes the time of reading
/// them and the memory of a few frames; whether keys and values decode is not looked at.
///
/// A torn tail is in the report and no error.
///
/// # Errors
///
/// As opening the store, with any codec and schema version.
pub fn verify(
    dir: &Path,
    on_progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<RecoveryReport, OpenError> {
    let _lock = hold(dir, Hold::Shared, &Disk)?;
    let settings = settings_of(dir, RecoveryMode::ReadOnly, on_progress)?;
    let recovered = recovery(dir, &settings, &raw::Nothing).run()?;
    Ok(recovered.report)
}

/// Saves all that can be read to a new store in another directory, and changes nothing in the
/// first. Takes about twice the memory of the keys and values.
///
/// A part of a file that cannot be read, as of a disk with a bad sector, is read around, in blocks
/// of 4 KiB. What was lost, and where, is in the report. Where parts of the log are missing the
/// result may be a mixture of states: an entry that was removed may be back.
///
/// # Errors
///
/// Nothing can be read, the disk fails, or there are files in `to`.
pub fn salvage(
    dir: &Path,
    to: &Path,
    on_progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<SalvageReport, CheckError> {
    let _lock = hold(dir, Hold::Shared, &Disk)?;
    // Before what may take long, and again behind it: nothing that has come meanwhile is touched.
    refuse_files_in(to)?;
    let settings = settings_of(dir, RecoveryMode::Salvage, on_progress)?;
    let raw = Arc::new(Raw::default());
    let recovered = recovery(dir, &settings, &*raw).run()?;
    raw.recovered(recovered.now_ms);
    refuse_files_in(to)?;
    let target = Settings {
        dir_kind: recovered.manifest.dir_kind,
        mode: RecoveryMode::Strict,
        progress: None,
        ..settings
    };
    let written = rewrite(to, target, Arc::clone(&raw))?;
    Ok(SalvageReport {
        entries: raw.entries(),
        recovery: recovered.report,
        written,
    })
}

/// Writes a new snapshot of a store that nobody has open, and removes what it makes superfluous.
/// Takes about twice the memory of the keys and values. A torn tail is moved to `quarantine/`.
///
/// Entries whose time has passed stay: which those are, the store itself knows. As many generations
/// stay as there were.
///
/// # Errors
///
/// As opening the store, or the disk fails: then the old files count.
pub fn compact(
    dir: &Path,
    on_progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<CompactReport, CheckError> {
    let mut settings = settings_of(dir, RecoveryMode::TolerateTornTail, on_progress)?;
    settings.generations = generations_in(dir)?;
    rewrite(dir, settings, Arc::new(Raw::default()))
}

/// What [`salvage`] saved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Entries that were saved, those whose time has passed among them.
    pub entries: u64,
    /// What was read, and what could not be.
    pub recovery: RecoveryReport,
    /// What was written.
    pub written: CompactReport,
}

/// Why [`salvage`] or [`compact`] failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CheckError {
    /// The store cannot be read.
    Open(OpenError),
    /// The result cannot be written.
    Write(CompactError),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl Error for CheckError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open(error) => error.source(),
            Self::Write(error) => error.source(),
        }
    }
}

impl From<OpenError> for CheckError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<CompactError> for CheckError {
    fn from(error: CompactError) -> Self {
        Self::Write(error)
    }
}

fn recovery<'a>(dir: &'a Path, settings: &'a Settings, contents: &'a dyn Contents) -> Recovery<'a> {
    Recovery {
        wall: Wall::new(settings.clock.clone()),
        dir,
        settings,
        storage: &Disk,
        contents,
        may_change: false,
    }
}

/// Opens a directory, writes all of it to a new generation, and closes it.
fn rewrite(dir: &Path, settings: Settings, raw: Arc<Raw>) -> Result<CompactReport, CheckError> {
    let (journal, _) = OpenJournal::open(dir, settings, Arc::new(Disk), raw)?;
    let report = journal.compact()?;
    match journal.close() {
        Ok(_) => Ok(report),
        Err(error) => {
            let error = DiskError::new("close", dir, io::Error::other(error.to_string()));
            Err(CheckError::Write(error.into()))
        }
    }
}

/// Settings with the codec and the schema version of the files, so that neither is refused.
fn settings_of(
    dir: &Path,
    mode: RecoveryMode,
    on_progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<Settings, OpenError> {
    let (codec, schema) = match Manifest::read(&Disk, dir) {
        Ok(Some(manifest)) => (manifest.codec, manifest.schema),
        Ok(None) if mode != RecoveryMode::Salvage => {
            let dir = dir.to_owned();
            return Err(OpenError::NoManifest { dir });
        }
        Err(error) if mode != RecoveryMode::Salvage => return Err(error),
        // What a file that can be read says.
        _ => any_header(&Disk, dir)?.map_or((super::CodecId(*b"none"), 0), |header| {
            (header.codec, header.schema)
        }),
    };
    let mut settings = Settings::new(codec);
    settings.schema = schema;
    settings.mode = mode;
    settings.by_hand = true;
    settings.progress = Some(Arc::new(on_progress));
    // A tool has to read files of several versions, too.
    if mode != RecoveryMode::TolerateTornTail {
        settings.accepts_schema = Some(Arc::new(|_| true));
    }
    Ok(settings)
}

/// How many generations a store has, with its beginning where that counts as one.
fn generations_in(dir: &Path) -> Result<usize, OpenError> {
    let manifest = Manifest::read(&Disk, dir)?;
    let listed = manifest.map_or(0, |manifest| {
        manifest.snapshots.len() + usize::from(manifest.from_start)
    });
    Ok(listed.max(1))
}

fn refuse_files_in(dir: &Path) -> Result<(), CompactError> {
    match Disk.list(dir) {
        Ok(names) if !names.is_empty() => {
            let dir = dir.to_owned();
            Err(CompactError::NotEmpty { dir })
        }
        _ => Ok(()),
    }
}
