//! Replaying the logs, and telling a torn tail from rot.

use super::replay::{Feed, Job};
use super::{Found, LogEnd, Recovery, State};
use crate::persist::effect::Decoder;
use crate::persist::error::{Damage, OpenError};
use crate::persist::frame::{Frame, FrameHeader, FrameReader, Kind, Unread};
use crate::persist::header;
use crate::persist::manifest::{self, Name};
use crate::persist::settings::{Point, RecoveryMode, SyncPolicy};
use crate::persist::window::Gap;
use crate::time::wall_ms;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// After this time the systems have written what was handed to them to the disk, by default after 30
/// to 35 s.
const WRITTEN_BACK: Duration = Duration::from_secs(45);

/// How far a log was replayed.
enum Reached {
    /// To its end.
    End,
    /// To where it is torn, or to the point in time that was asked for.
    Cut,
}

impl Recovery<'_> {
    /// Replays the logs and says where each of them ends.
    pub(super) fn replay_logs(
        &self,
        logs: &[u64],
        state: &mut State,
    ) -> Result<Vec<LogEnd>, OpenError> {
        let (total, now_ms) = (state.total, state.now_ms);
        let read = |feed: &mut Feed<'_>| self.read_logs(logs, feed, &mut *state);
        let (ends, undecodable) = self.replay(total, now_ms, read)?;
        state.note_undecodable(undecodable);
        Ok(ends)
    }

    fn read_logs(
        &self,
        logs: &[u64],
        feed: &mut Feed<'_>,
        state: &mut State,
    ) -> Result<Vec<LogEnd>, OpenError> {
        // One that is missing is told of before the others are read, which may take long.
        let mut found = Vec::new();
        for log in logs {
            let log = Name::Log(*log);
            let file = self.find(log, &state.manifest);
            found.extend(self.pass_over(file, log, state)?);
        }
        let mut ends = Vec::new();
        for (at, file) in found.iter().enumerate() {
            let later = &found[at + 1..];
            let name = Name::Log(file.header.generation);
            let Some(mut reader) = self.pass_over(self.reader_of(file), name, state)? else {
                continue;
            };
            state.note_schema(file.header.schema, self.settings.schema);
            let reached = self.read_log(file, &mut reader, feed, state, later)?;
            state.note_gaps(&file.path, &reader);
            ends.push(LogEnd::new(file, &reader));
            if let Reached::Cut = reached {
                self.drop_rest(later, &mut ends, state)?;
                return Ok(ends);
            }
        }
        self.check_end(&ends, state)?;
        Ok(ends)
    }

    fn read_log(
        &self,
        file: &Found,
        reader: &mut FrameReader,
        feed: &mut Feed<'_>,
        state: &mut State,
        later: &[Found],
    ) -> Result<Reached, OpenError> {
        let path: Arc<Path> = file.path.clone().into();
        loop {
            let place = reader.offset();
            let frame = match checked(reader.next(), state.next_seq()) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(Reached::End),
                Err(Unread::Disk(gap)) => return Err(gap.of(&path).into()),
                Err(Unread::Broken { expected, found }) => {
                    let damage = state.damage(&path, place, expected, found);
                    reader.go_to(place);
                    if !self.is_salvage() {
                        self.judge(damage, reader, later, state)?;
                        return Ok(Reached::Cut);
                    }
                    match self.skip(damage, reader, state)? {
                        Some(frame) => frame,
                        None => return Ok(Reached::End),
                    }
                }
            };
            if self.take(&path, file, frame, feed, state)? {
                self.check_first_return(state)?;
                reader.go_to(place);
                self.leave_out(&path, reader, later, state)?;
                return Ok(Reached::Cut);
            }
            self.report_progress(state);
        }
    }

    /// Applies a frame; says whether the point in time that was asked for lies in it or before it.
    fn take(
        &self,
        path: &Arc<Path>,
        file: &Found,
        frame: Frame,
        feed: &mut Feed<'_>,
        state: &mut State,
    ) -> Result<bool, OpenError> {
        let limit = self.limit(&frame, state.whole_from);
        let is_cut = limit < frame.header.count;
        state.see(&frame.header);
        state.report.frames += 1;
        state.report.bytes += frame.end() - frame.offset;
        state.report.from_log += u64::from(limit);
        state.last_seq = state
            .last_seq
            .max(frame.header.first.saturating_add(u64::from(limit)) - 1);
        if limit > 0 {
            feed.give(Job {
                path: Arc::clone(path),
                schema: file.header.schema,
                frame,
                limit,
            })?;
        }
        Ok(is_cut)
    }

    /// How many effects of a frame come before the point in time that was asked for.
    ///
    /// A snapshot that is gone back to has parts of what came while it was made, and is whole only
    /// with all of that. It was stamped before the point, so all of that counts, also where a frame
    /// says that it is of later, by a clock that was wrong for a moment.
    fn limit(&self, frame: &Frame, whole_from: u64) -> u32 {
        let RecoveryMode::PointInTime(point) = self.settings.mode else {
            return frame.header.count;
        };
        match point {
            Point::Time(time) if frame.header.wall_ms > wall_ms(time) => {
                whole_batches(frame, whole_from)
            }
            Point::Time(_) => frame.header.count,
            Point::Seq(seq) => whole_batches(frame, seq),
        }
    }

    /// Refuses to leave out what was written since it was gone back the last time, if nobody has
    /// said since that this was to be gone on with: the mode is mostly still set.
    fn check_first_return(&self, state: &State) -> Result<(), OpenError> {
        match state.manifest.went_back {
            false => Ok(()),
            true => Err(OpenError::WentBack {
                dir: self.dir.to_owned(),
                last_seq: state.last_seq,
            }),
        }
    }

    /// Refuses damage that no crash has done. What is left is a torn tail.
    fn judge(
        &self,
        damage: Damage,
        reader: &mut FrameReader,
        later: &[Found],
        state: &mut State,
    ) -> Result<(), OpenError> {
        let place = reader.offset();
        self.leave_out(&damage.file, reader, later, state)?;
        reader.go_to(place);
        let mut damage = Damage {
            durable_seq: state.durable,
            ..damage
        };
        if damage.next_seq <= state.durable {
            return Err(OpenError::Damaged(damage));
        }
        if self.is_old(state) {
            damage.found += ", and whole frames of later than it would have come to the disk";
            return Err(OpenError::Damaged(damage));
        }
        if self.settings.mode == RecoveryMode::Strict {
            return Err(OpenError::TornTail(damage));
        }
        state.report.damages.push(damage);
        Ok(())
    }

    /// Whether what is left out was written over so long a time that its beginning must have been on
    /// the disk. After a failed sync nothing must.
    fn is_old(&self, state: &State) -> bool {
        let longest = match self.settings.sync {
            SyncPolicy::Every(pause) => WRITTEN_BACK.max(pause.saturating_mul(2)),
            SyncPolicy::Always | SyncPolicy::Os => WRITTEN_BACK,
        };
        state.left_out.written_for() > longest && !state.manifest.distrusted
    }

    /// The next frame that a salvage can use.
    fn skip(
        &self,
        damage: Damage,
        reader: &mut FrameReader,
        state: &mut State,
    ) -> Result<Option<Frame>, OpenError> {
        state.replaces = true;
        let file = damage.file.clone();
        state.report.damages.push(damage);
        let start = reader.offset();
        // A frame that is whole and not the next: nothing to skip before it.
        let mut found = match reader.next() {
            Ok(frame) => frame,
            Err(_) => reader.next_whole().map_err(|gap| gap.of(&file))?,
        };
        while let Some(frame) = &found {
            if is_of_log(&frame.header) && frame.header.last() > state.last_seq {
                state.note_gap(frame.header.first);
                state.report.dropped_bytes += frame.offset - start;
                return Ok(found);
            }
            found = match reader.next() {
                Ok(frame) => frame,
                Err(_) => reader.next_whole().map_err(|gap| gap.of(&file))?,
            };
        }
        state.report.dropped_bytes += reader.length() - start;
        Ok(None)
    }

    /// Fails if the last log ends before what is proven to have been on disk.
    fn check_end(&self, ends: &[LogEnd], state: &mut State) -> Result<(), OpenError> {
        if state.last_seq >= state.durable {
            return Ok(());
        }
        let is_point = matches!(self.settings.mode, RecoveryMode::PointInTime(_));
        if ends.is_empty() && is_point && state.last_seq >= state.whole_from {
            // Without a log what is newer than the snapshot is in newer snapshots alone.
            self.check_first_return(state)?;
            state.note_gap(state.durable.saturating_add(1));
            state.replaces = true;
            return Ok(());
        }
        let (path, offset) = match ends.last() {
            Some(end) => (end.path.clone(), end.offset),
            None => (self.dir.join(manifest::NAME), 0),
        };
        let expected = format!("number {}", state.next_seq());
        let damage = state.damage(&path, offset, expected, "the end of the log".to_owned());
        if !self.is_salvage() {
            return Err(OpenError::Damaged(damage));
        }
        state.report.damages.push(damage);
        state.note_gap(state.durable.saturating_add(1));
        state.last_seq = state.durable;
        state.replaces = true;
        Ok(())
    }

    /// Notes what is left out from here on, and what its headers prove.
    fn leave_out(
        &self,
        path: &Path,
        reader: &mut FrameReader,
        later: &[Found],
        state: &mut State,
    ) -> Result<(), OpenError> {
        state.scan(reader).map_err(|gap| gap.of(path))?;
        for file in later {
            let scanned = state.scan(&mut self.reader_of(file)?);
            scanned.map_err(|gap| gap.of(&file.path))?;
        }
        Ok(())
    }

    /// The logs behind the one that is cut are empty from now on.
    fn drop_rest(
        &self,
        later: &[Found],
        ends: &mut Vec<LogEnd>,
        state: &mut State,
    ) -> Result<(), OpenError> {
        let is_point = state.report.damages.is_empty();
        state.replaces |= is_point;
        for file in later {
            ends.push(LogEnd::new(file, &self.reader_of(file)?));
        }
        Ok(())
    }
}

impl State {
    fn damage(&self, path: &Path, offset: u64, expected: String, found: String) -> Damage {
        Damage {
            file: path.to_owned(),
            offset,
            expected,
            found,
            next_seq: self.next_seq(),
            durable_seq: self.durable,
        }
    }

    fn scan(&mut self, reader: &mut FrameReader) -> Result<(), Gap> {
        self.report.dropped_bytes += reader.length() - reader.offset().min(reader.length());
        reader.go_to(reader.offset() - 1);
        while let Some((_, header)) = reader.next_header()? {
            self.see(&header);
            self.left_out.add(header.wall_ms);
            // A mark has no effects, and of a frame across a point in time some are taken.
            let (first, last) = (header.first.max(self.next_seq()), header.last());
            if first <= last {
                let seen = self.report.dropped_seqs.unwrap_or((first, last));
                self.report.dropped_seqs = Some((seen.0.min(first), seen.1.max(last)));
            }
        }
        Ok(())
    }

    /// Notes that the numbers up to `next` are lost.
    fn note_gap(&mut self, next: u64) {
        if next > self.next_seq() {
            let first = self
                .report
                .dropped_seqs
                .map_or(self.next_seq(), |seen| seen.0);
            self.report.dropped_seqs = Some((first, next - 1));
        }
    }
}

/// The times in the headers of what is left out, in the order of the log.
///
/// They are those of a wall clock, which somebody may set: at boot that is common, and so is a power
/// loss in what has no battery. A step of it lies between two frames, as a pause without writes does.
/// So of all that passes from one frame to the next the longest is not counted: it may have taken no
/// time. Whole frames over a minute, as of a log that is written to, are many short times, of which
/// one more or less does not matter; and where there are so few that it does, the syncs in between
/// were told in what was written next, and damage below them is known by that. A clock that is set
/// back counts for nothing.
#[derive(Debug, Default)]
pub(super) struct Times {
    last_ms: Option<u64>,
    passed_ms: u64,
    longest_ms: u64,
}

impl Times {
    fn add(&mut self, at_ms: u64) {
        let passed = self.last_ms.map_or(0, |last| at_ms.saturating_sub(last));
        self.last_ms = Some(at_ms);
        self.passed_ms = self.passed_ms.saturating_add(passed);
        self.longest_ms = self.longest_ms.max(passed);
    }

    /// For how long the log was written to at least.
    fn written_for(&self) -> Duration {
        Duration::from_millis(self.passed_ms - self.longest_ms)
    }
}

/// The frame, if it is the one whose turn it is.
fn checked(read: Result<Option<Frame>, Unread>, next: u64) -> Result<Option<Frame>, Unread> {
    let Some(frame) = read? else {
        return Ok(None);
    };
    let header = &frame.header;
    if !is_of_log(header) {
        return Err(Unread::broken(
            "a frame of a log",
            "a frame of another kind",
        ));
    }
    if header.first != next {
        let found = format!("number {}", header.first);
        return Err(Unread::broken(format!("number {next}"), found));
    }
    Ok(Some(frame))
}

fn is_of_log(header: &FrameHeader) -> bool {
    matches!(
        (header.kind, header.count),
        (Kind::Batch, 1..) | (Kind::Mark, 0) | (Kind::Clear, 1)
    )
}

/// How many effects belong to batches that end at `seq` or before.
fn whole_batches(frame: &Frame, seq: u64) -> u32 {
    if frame.header.last() <= seq {
        return frame.header.count;
    }
    let mut effects = Decoder::new(&frame.payload);
    let (mut whole, mut read) = (0, 0);
    while frame.header.first + u64::from(read) <= seq && effects.next().is_some() {
        read += 1;
        if effects.at_batch() {
            whole = read;
        }
    }
    whole
}

impl LogEnd {
    fn new(file: &Found, reader: &FrameReader) -> Self {
        Self {
            path: file.path.clone(),
            header: file.header,
            offset: reader.offset().max(header::LENGTH as u64),
            length: reader.length(),
        }
    }
}
