//! From the files of a directory back to the state they hold.
//!
//! The newest snapshot is applied, then the logs that go on from it, as if they were one sequence of
//! frames: each begins with the number that follows the last of the one before. Where a frame is not
//! what it should be, two things can have happened. Let W be the highest number that was proven to
//! be on disk, as the headers of all frames say, also of those behind the damage, and the manifest.
//! If the damaged frame begins at or below W, something that was on the disk has changed: that is
//! rot, and it is refused. Above W it is what a crash leaves of the last writes: a torn tail, which
//! is copied to `quarantine/` and cut off. But where whole frames go on for longer than the system
//! keeps what was written from the disk, the damaged one was there, too, and that is rot again. For
//! how long they do is said by a clock that may have been set in between.

mod believed;
mod logs;
mod plan;
mod replay;
mod snapshot;
mod tail;

pub(crate) use plan::FIRST_LOG;
pub(crate) use snapshot::Bounds;
pub(crate) use tail::LastLog;

use self::logs::Times;
use self::tail::LogEnd;
use super::contents::Contents;
use super::error::{Damage, DiskError, OpenError};
use super::frame::FrameReader;
use super::header::FileHeader;
use super::manifest::{Manifest, Name};
use super::report::{ClockCheck, Progress, RecoveryReport};
use super::settings::{RecoveryMode, Settings};
use super::storage::{Access, Blob, Storage};
use super::wall::{Wall, has_moved_since};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where to read from, and where to.
pub(crate) struct Recovery<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) storage: &'a dyn Storage,
    pub(crate) contents: &'a dyn Contents,
    /// Whether a torn tail is cut off, and the logs are synced.
    pub(crate) may_change: bool,
    /// The wall clock as it stood when reading began, whoever sets it meanwhile.
    pub(crate) wall: Wall,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) manifest: Manifest,
    pub(crate) report: RecoveryReport,
    /// The last log, to be gone on with.
    pub(crate) log: Option<LastLog>,
    /// The size of the logs since the snapshot.
    pub(crate) log_bytes: u64,
    /// The number of the last effect in the state.
    pub(crate) last_seq: u64,
    /// A log was cut off, so that what was behind its end may come back after a crash.
    pub(crate) was_cut: bool,
    /// The state is not that of the files, so all of it has to be written to new ones; the old
    /// ones are to be kept in `quarantine/`.
    pub(crate) replaces: bool,
    /// How far the wall clock was ahead as all was read, in nanoseconds.
    pub(crate) ahead: i64,
    /// The wall time that counts for deadlines: not before the last write, so that nothing that had
    /// expired comes back, unless the log is so far ahead that its clock was wrong.
    pub(crate) now_ms: u64,
}

/// What is known so far.
struct State {
    manifest: Manifest,
    report: RecoveryReport,
    last_seq: u64,
    /// The snapshot has some of what comes before this number, and is whole with all of it.
    whole_from: u64,
    /// The highest number that was proven on disk.
    durable: u64,
    /// The wall time when reading began: what is judged by it is judged alike from the first frame to the
    /// last, however long that takes.
    now_ms: u64,
    /// The latest time in any frame.
    wall_ms: u64,
    total: u64,
    was_cut: bool,
    replaces: bool,
    left_out: Times,
}

/// How often all is read, at most, until the wall clock is not set meanwhile.
const ATTEMPTS: u32 = 3;

impl Recovery<'_> {
    /// Applies to the contents what the directory holds, and cuts off a torn tail.
    pub(crate) fn run(&self) -> Result<Recovered, OpenError> {
        let start = Instant::now();
        let (mut state, ends) = self.read_by_one_clock()?;
        let log = self.settle(&ends, &mut state)?;
        let now_ms = self.check_clock(&mut state);
        state.report.total_time = start.elapsed();
        Ok(state.finish(log, &ends, self.wall.ahead(), now_ms))
    }

    /// Reads all; and once more, if the wall clock was set meanwhile: what is to be believed, and what
    /// has expired, was judged by the one of before.
    fn read_by_one_clock(&self) -> Result<(State, Vec<LogEnd>), OpenError> {
        let mut left = ATTEMPTS;
        loop {
            self.wall.compare();
            self.contents.compare_clocks();
            let read = self.read()?;
            left -= 1;
            let is_nothing = read.0.report.frames == 0;
            if left == 0 || is_nothing || !has_moved_since(self.wall.ahead(), &self.settings.clock)
            {
                return Ok(read);
            }
            self.contents.clear();
        }
    }

    fn read(&self) -> Result<(State, Vec<LogEnd>), OpenError> {
        let now_ms = self.wall.now_ms();
        let plan = self.plan()?;
        let mut state = State::new(plan.manifest, plan.created, now_ms);
        state.total = plan.bytes;
        state.replaces = !plan.guess.is_empty();
        state.report.damages.extend(plan.guess);
        state.report.unreadable.extend(plan.unreadable);
        if let Some(snapshot) = plan.snapshot {
            let begun = Instant::now();
            self.load_snapshot(snapshot, &mut state)?;
            state.report.snapshot_time = begun.elapsed();
        }
        let begun = Instant::now();
        let ends = self.replay_logs(&plan.logs, &mut state)?;
        state.report.log_time = begun.elapsed();
        Ok((state, ends))
    }

    /// Opens a listed file and checks whose it is.
    fn find(&self, name: Name, manifest: &Manifest) -> Result<Found, OpenError> {
        let path = name.in_dir(self.dir);
        let blob = self.open_blob(&path)?;
        let header = FileHeader::read(&*blob, &path)?;
        let (kind, generation) = match name {
            Name::Snapshot(generation) => (super::header::Kind::Snapshot, generation),
            Name::Log(generation) => (super::header::Kind::Log, generation),
            Name::Temporary => return Err(OpenError::Missing { file: path }),
        };
        header.expect(kind, generation, &path)?;
        if header.store != manifest.store {
            return Err(OpenError::OtherStore {
                file: path,
                expected: manifest.store,
                found: header.store,
            });
        }
        self.check_codec(&header, &path)?;
        Ok(Found { path, header })
    }

    /// Opens a file that was found, to use it.
    fn open(&self, path: &Path, header: &FileHeader) -> Result<Arc<dyn Blob>, OpenError> {
        let blob = self.open_blob(path)?;
        if FileHeader::read(&*blob, path)? != *header {
            let error = std::io::Error::other("it was replaced meanwhile: try again");
            return Err(DiskError::new("open", path, error).into());
        }
        Ok(blob)
    }

    fn open_blob(&self, path: &Path) -> Result<Arc<dyn Blob>, OpenError> {
        let access = if self.may_change {
            Access::Write
        } else {
            Access::Read
        };
        self.storage.open(path, access).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let file = path.to_owned();
                return OpenError::Missing { file };
            }
            DiskError::new("open", path, error).into()
        })
    }

    /// Fails unless the keys and values can be decoded.
    fn check_codec(&self, header: &FileHeader, path: &Path) -> Result<(), OpenError> {
        let settings = self.settings;
        if header.codec != settings.codec {
            return Err(OpenError::OtherCodec {
                file: path.to_owned(),
                expected: settings.codec,
                found: header.codec,
            });
        }
        let accepts = settings.accepts_schema.as_ref();
        let is_accepted = || accepts.is_some_and(|accepts| accepts(header.schema));
        if header.schema == settings.schema || is_accepted() {
            return Ok(());
        }
        Err(OpenError::OtherSchema {
            file: path.to_owned(),
            expected: settings.schema,
            found: header.schema,
        })
    }

    fn is_salvage(&self) -> bool {
        self.settings.mode == RecoveryMode::Salvage
    }

    /// What a salvage does about a file that is missing, damaged as a whole or not ours: it notes
    /// that and goes on.
    fn pass_over<T>(
        &self,
        opened: Result<T, OpenError>,
        name: Name,
        state: &mut State,
    ) -> Result<Option<T>, OpenError> {
        let error = match opened {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if !self.is_salvage() => return Err(error),
            Err(error) => error,
        };
        let damage = match error {
            OpenError::Damaged(damage) => damage,
            OpenError::Missing { file } => whole(&file, "no such file".to_owned(), state),
            OpenError::OtherStore { file, found, .. } => {
                whole(&file, format!("one of store {found}"), state)
            }
            OpenError::Disk(error) => whole(&name.in_dir(self.dir), error.to_string(), state),
            OpenError::Unreadable(part) => {
                let damage = whole(&part.file, part.error.to_string(), state);
                state.report.unreadable.push(part);
                damage
            }
            error => return Err(error),
        };
        state.report.damages.push(damage);
        state.replaces = true;
        Ok(None)
    }

    /// Reads the frames of a file; a salvage reads around what cannot be read.
    fn reader_of(&self, file: &Found) -> Result<FrameReader, OpenError> {
        let (blob, salt) = (self.open(&file.path, &file.header)?, file.header.salt);
        let reader = match self.is_salvage() {
            true => FrameReader::around_gaps(blob, salt),
            false => FrameReader::new(blob, salt),
        };
        Ok(reader.map_err(DiskError::of("read", &file.path))?)
    }

    fn report_progress(&self, state: &State) {
        if let Some(tell) = &self.settings.progress {
            tell(Progress {
                bytes: state.report.bytes,
                total: state.total.max(state.report.bytes),
            });
        }
    }

    /// Notes what the clock looks like beside the log, and says which time counts.
    fn check_clock(&self, state: &mut State) -> u64 {
        let now_ms = state.now_ms;
        let ahead = Duration::from_millis(state.wall_ms.saturating_sub(now_ms));
        let (clock, counts) = if ahead.is_zero() {
            (ClockCheck::Fine, now_ms)
        } else if ahead <= self.settings.clock_skew {
            (ClockCheck::WentBack(ahead), state.wall_ms)
        } else {
            (ClockCheck::LogAhead(ahead), now_ms)
        };
        state.report.clock = clock;
        counts
    }
}

/// A file that is ours. It is open only while it is used: of logs there may be more than a process
/// may have files open.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    header: FileHeader,
}

impl State {
    fn new(manifest: Manifest, created: bool, now_ms: u64) -> Self {
        let report = RecoveryReport {
            created,
            ..RecoveryReport::default()
        };
        Self {
            durable: manifest.durable,
            manifest,
            report,
            last_seq: 0,
            whole_from: 0,
            now_ms,
            wall_ms: 0,
            total: 0,
            was_cut: false,
            replaces: false,
            left_out: Times::default(),
        }
    }

    /// The number that the next frame has to begin with.
    fn next_seq(&self) -> u64 {
        self.last_seq.saturating_add(1)
    }

    /// Notes what the header of a frame says, whether its payload is whole or not.
    fn see(&mut self, header: &super::frame::FrameHeader) {
        self.durable = self.durable.max(header.durable);
        self.wall_ms = self.wall_ms.max(header.wall_ms);
    }

    fn note_schema(&mut self, schema: u32, expected: u32) {
        if schema != expected && !self.report.migrated_from.contains(&schema) {
            self.report.migrated_from.push(schema);
        }
    }

    /// Notes what a salvage has read around.
    fn note_gaps(&mut self, path: &Path, reader: &FrameReader) {
        let gaps = reader.gaps().map(|gap| gap.of(path));
        self.report.unreadable.extend(gaps);
    }

    /// Notes what a salvage leaves out because it does not decode: the files hold more than the state,
    /// and the types that they were written with may be found again.
    fn note_undecodable(&mut self, effects: u64) {
        self.report.undecodable += effects;
        self.replaces |= effects > 0;
    }

    fn finish(
        mut self,
        log: Option<LastLog>,
        ends: &[LogEnd],
        ahead: i64,
        now_ms: u64,
    ) -> Recovered {
        self.report.last_seq = self.last_seq;
        self.report.durable_seq = self.durable;
        Recovered {
            manifest: self.manifest,
            report: self.report,
            log,
            log_bytes: ends.iter().map(|end| end.offset).sum(),
            last_seq: self.last_seq,
            was_cut: self.was_cut,
            replaces: self.replaces,
            ahead,
            now_ms,
        }
    }
}

fn whole(file: &Path, found: String, state: &State) -> Damage {
    Damage {
        file: file.to_owned(),
        offset: 0,
        expected: "a file of this store".to_owned(),
        found,
        next_seq: state.next_seq(),
        durable_seq: state.durable,
    }
}
