//! Reading a snapshot: all of it, or it is refused.

use super::replay::{Feed, Job};
use super::{Opened, Recovery, State};
use crate::persist::error::{Damage, DiskError, OpenError};
use crate::persist::frame::{Frame, FrameReader, Kind, Unread};
use crate::persist::manifest::{Name, Snapshot};
use crate::persist::varint::{put_number, take_number, take_seq};
use std::path::Path;
use std::sync::Arc;

/// What the last frame of a snapshot says, and as far as it is known the first: there the number of
/// entries is about right, or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) entries: u64,
}

impl Bounds {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.base, self.end, self.entries] {
            put_number(&mut bytes, number);
        }
        bytes
    }

    pub(crate) fn decode(rest: &mut &[u8]) -> Option<Self> {
        let bounds = Self {
            base: take_seq(rest)?,
            end: take_seq(rest)?,
            entries: take_number(rest)?,
        };
        rest.is_empty().then_some(bounds)
    }
}

impl Recovery<'_> {
    pub(super) fn load_snapshot(
        &self,
        snapshot: Snapshot,
        state: &mut State,
    ) -> Result<(), OpenError> {
        let name = Name::Snapshot(snapshot.generation);
        state.durable = state.durable.max(snapshot.end);
        let opened = self.open(name, &state.manifest);
        state.begin_behind(snapshot.base);
        let Some(opened) = self.pass_over(opened, name, state)? else {
            return Ok(());
        };
        state.note_schema(opened.header.schema, self.settings.schema);
        let mut reader = self.reader_of(&opened)?;
        let total = state.total;
        let read = |feed: &mut Feed<'_>| self.read_snapshot(&opened, &mut reader, feed, state);
        let ((), undecodable) = self.replay(total, read)?;
        state.note_undecodable(undecodable);
        state.note_gaps(&opened.path, &reader);
        Ok(())
    }

    fn read_snapshot(
        &self,
        opened: &Opened,
        reader: &mut FrameReader,
        feed: &mut Feed<'_>,
        state: &mut State,
    ) -> Result<(), OpenError> {
        let path: Arc<Path> = opened.path.clone().into();
        let (mut next, mut entries) = (0, 0);
        loop {
            let place = reader.offset();
            let frame = match checked(reader.next(), next) {
                Ok(frame) => frame,
                Err(unread) => {
                    let damage = damage(&path, place, unread)?;
                    self.note_or_refuse(damage, state)?;
                    // A frame out of its turn has been read already, and is looked for no more.
                    match reader.next_whole().map_err(|gap| gap.of(&path))? {
                        Some(frame) => frame,
                        None => return Ok(()),
                    }
                }
            };
            next = frame.header.first.saturating_add(1);
            state.see(&frame.header);
            state.report.frames += 1;
            state.report.bytes += frame.end() - frame.offset;
            match frame.header.kind {
                Kind::End => {
                    let checked = check_end(&frame, reader, &path, entries);
                    return self.finish_snapshot(&frame, checked, state);
                }
                Kind::Snapshot if frame.header.count == 0 => {
                    self.begin_snapshot(&frame, reader, state);
                }
                _ => {
                    entries += u64::from(frame.header.count);
                    state.report.from_snapshot += u64::from(frame.header.count);
                    feed.give(Job {
                        path: Arc::clone(&path),
                        schema: opened.header.schema,
                        limit: frame.header.count,
                        frame,
                    })?;
                }
            }
            self.report_progress(state);
        }
    }

    fn begin_snapshot(&self, frame: &Frame, reader: &FrameReader, state: &mut State) {
        if let Some(bounds) = Bounds::decode(&mut &frame.payload[..]) {
            state.begin_behind(bounds.base);
            // No entry is shorter than a byte, whatever the number says.
            self.contents.expect(bounds.entries.min(reader.length()));
        }
    }

    fn finish_snapshot(
        &self,
        frame: &Frame,
        checked: Result<(), Damage>,
        state: &mut State,
    ) -> Result<(), OpenError> {
        if let Some(bounds) = Bounds::decode(&mut &frame.payload[..]) {
            // Also where frames before it are missing: the numbers go on from here.
            state.begin_behind(bounds.base);
            state.durable = state.durable.max(bounds.end);
        }
        checked.or_else(|damage| self.note_or_refuse(damage, state))
    }

    fn note_or_refuse(&self, damage: Damage, state: &mut State) -> Result<(), OpenError> {
        if !self.is_salvage() {
            return Err(OpenError::Damaged(damage));
        }
        state.report.damages.push(damage);
        state.replaces = true;
        Ok(())
    }
}

/// Fails unless all of a snapshot is there, whatever it says.
pub(super) fn check_whole(opened: &Opened) -> Result<(), OpenError> {
    let path = &opened.path;
    let reader = FrameReader::new(Arc::clone(&opened.blob), opened.header.salt);
    let mut reader = reader.map_err(DiskError::of("read", path))?;
    let (mut next, mut entries) = (0, 0);
    loop {
        let place = reader.offset();
        let frame = match checked(reader.next(), next) {
            Ok(frame) => frame,
            Err(unread) => return Err(OpenError::Damaged(damage(path, place, unread)?)),
        };
        if frame.header.kind == Kind::End {
            return check_end(&frame, &reader, path, entries).map_err(OpenError::Damaged);
        }
        next = frame.header.first.saturating_add(1);
        entries += u64::from(frame.header.count);
    }
}

/// All numbers up to this one are in a snapshot, if it can be told.
pub(super) fn base_of(opened: &Opened) -> Option<u64> {
    let reader = FrameReader::new(Arc::clone(&opened.blob), opened.header.salt);
    let first = reader.ok()?.next().ok()??;
    let is_beginning = first.header.kind == Kind::Snapshot && first.header.count == 0;
    let bounds = Bounds::decode(&mut &first.payload[..]);
    bounds.filter(|_| is_beginning).map(|bounds| bounds.base)
}

/// Fails unless a frame is the end of its file, and says how many entries there are.
fn check_end(frame: &Frame, reader: &FrameReader, path: &Path, entries: u64) -> Result<(), Damage> {
    let bounds = Bounds::decode(&mut &frame.payload[..]);
    let is_end = frame.end() == reader.length();
    if is_end && bounds.is_some_and(|bounds| bounds.entries == entries) {
        return Ok(());
    }
    let expected = "the end of the snapshot, with the number of its entries";
    let found = "another number, or more behind it";
    Err(Damage::at(path, frame.offset, expected, found))
}

/// The frame, if it is the one whose turn it is.
fn checked(read: Result<Option<Frame>, Unread>, next: u64) -> Result<Frame, Unread> {
    let expected = || format!("frame {next} of the snapshot");
    match read? {
        None => Err(Unread::broken(expected(), "the end of the file")),
        Some(frame) if !matches!(frame.header.kind, Kind::Snapshot | Kind::End) => {
            Err(Unread::broken(expected(), "a frame of another kind"))
        }
        Some(frame) if frame.header.first != next => {
            let found = format!("frame {}", frame.header.first);
            Err(Unread::broken(expected(), found))
        }
        Some(frame) => Ok(frame),
    }
}

fn damage(path: &Path, offset: u64, unread: Unread) -> Result<Damage, OpenError> {
    match unread {
        Unread::Disk(gap) => Err(gap.of(path).into()),
        Unread::Broken { expected, found } => Ok(Damage::at(path, offset, expected, found)),
    }
}
