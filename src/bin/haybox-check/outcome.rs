//! What came of it.

use haybox::persist::check::{CheckError, Inspection, SalvageReport};
use haybox::persist::{CompactError, CompactReport, OpenError, RecoveryReport};
use std::io;
use std::path::PathBuf;

/// What the program exits with. The numbers are in its help, and scripts count on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Sound = 0,
    Failed = 1,
    Usage = 2,
    TornTail = 3,
    Damaged = 4,
    Newer = 5,
    Locked = 6,
    NoStore = 7,
}

impl Exit {
    /// For scripts that read JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::TornTail => "torn tail",
            Self::Damaged => "damaged",
            Self::Newer => "newer version",
            Self::Locked => "locked",
            Self::NoStore => "no store",
        }
    }
}

#[derive(Debug)]
pub struct Outcome {
    /// What is in the files, if that was asked for.
    pub inspection: Option<Inspection>,
    pub result: Result<Done, Problem>,
}

#[derive(Debug)]
pub enum Done {
    Verified(RecoveryReport),
    Salvaged { to: PathBuf, report: SalvageReport },
    Compacted(CompactReport),
}

#[derive(Debug)]
pub enum Problem {
    /// There is nothing at the path that could be a store: what there is.
    NoStore(&'static str),
    /// The path cannot be looked at.
    Unreadable(io::Error),
    Check(CheckError),
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Self::Check(error.into())
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        Self::Check(error)
    }
}

impl Outcome {
    pub fn exit(&self) -> Exit {
        match &self.result {
            Ok(Done::Verified(report)) if report.damages.is_empty() => Exit::Sound,
            Ok(Done::Verified(_)) => Exit::TornTail,
            Ok(Done::Salvaged { report, .. }) if lost_nothing(&report.recovery) => Exit::Sound,
            Ok(Done::Salvaged { .. }) => Exit::Damaged,
            Ok(Done::Compacted(_)) => Exit::Sound,
            Err(Problem::NoStore(_)) => Exit::NoStore,
            Err(Problem::Unreadable(_)) => Exit::Failed,
            Err(Problem::Check(CheckError::Open(error))) => of_open(error),
            Err(Problem::Check(_)) => Exit::Failed,
        }
    }
}

fn lost_nothing(report: &RecoveryReport) -> bool {
    report.damages.is_empty() && report.undecodable == 0
}

fn of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::Locked { .. } => Exit::Locked,
        OpenError::NotADirectory { .. } | OpenError::NotOurs { .. } => Exit::NoStore,
        OpenError::Disk(_) => Exit::Failed,
        OpenError::NewerFormat { .. } | OpenError::UnknownFeatures { .. } => Exit::Newer,
        OpenError::TornTail(_) => Exit::TornTail,
        _ => Exit::Damaged,
    }
}

/// Whether `--salvage` may help against it.
pub fn is_salvageable(error: &CheckError) -> bool {
    matches!(error, CheckError::Open(error) if of_open(error) == Exit::Damaged)
}

/// Whether the directory that should be empty is not.
pub fn is_target_taken(error: &CheckError) -> bool {
    matches!(error, CheckError::Write(CompactError::NotEmpty { .. }))
}
