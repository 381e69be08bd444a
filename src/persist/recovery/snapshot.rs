//! Reading a snapshot: all of it, or it is refused.

use super::replay::{Feed, Job};
use super::{Found, Recovery, State};
use crate::persist::error::{Damage, OpenError};
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
        let found = self.find(name, &state.manifest);
        let opened = found.and_then(|found| Ok((self.reader_of(&found)?, found)));
        state.last_seq = snapshot.base;
        let Some((mut reader, found)) = self.pass_over(opened, name, state)? else {
            return Ok(());
        };
        state.note_schema(found.header.schema, self.settings.schema);
        let (total, now_ms) = (state.total, state.now_ms);
        let read = |feed: &mut Feed<'_>| self.read_snapshot(&found, &mut reader, feed, state);
        let ((), undecodable) = self.replay(total, now_ms, read)?;
        state.note_undecodable(undecodable);
        state.note_gaps(&found.path, &reader);
        Ok(())
    }

    fn read_snapshot(
        &self,
        found: &Found,
        reader: &mut FrameReader,
        feed: &mut Feed<'_>,
        state: &mut State,
    ) -> Result<(), OpenError> {
        let path: Arc<Path> = found.path.clone().into();
        let mut next = 0;
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
                Kind::End => return self.finish_snapshot(&frame, reader, &path, state),
                Kind::Snapshot if frame.header.count == 0 => {
                    self.begin_snapshot(&frame, reader, state);
                }
                _ => {
                    state.report.from_snapshot += u64::from(frame.header.count);
                    feed.give(Job {
                        path: Arc::clone(&path),
                        schema: found.header.schema,
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
            state.last_seq = bounds.base;
            // No entry is shorter than a byte, whatever the number says.
            self.contents.expect(bounds.entries.min(reader.length()));
        }
    }

    fn finish_snapshot(
        &self,
        frame: &Frame,
        reader: &FrameReader,
        path: &Path,
        state: &mut State,
    ) -> Result<(), OpenError> {
        let bounds = Bounds::decode(&mut &frame.payload[..]);
        if let Some(bounds) = bounds {
            // Also where frames before it are missing: the numbers go on from here.
            state.last_seq = bounds.base;
            state.whole_from = bounds.end;
            state.durable = state.durable.max(bounds.end);
        }
        let is_end = frame.end() == reader.length();
        let read = state.report.from_snapshot;
        if is_end && bounds.is_some_and(|bounds| bounds.entries == read) {
            return Ok(());
        }
        let expected = "the end of the snapshot, with the number of its entries";
        let unread = Unread::broken(expected, "another number, or more behind it");
        let damage = damage(path, frame.offset, unread)?;
        self.note_or_refuse(damage, state)
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
