//! Telling of every change of an entry, for who keeps a log of it.
//!
//! A [`Recorder`] is told under the lock of the set, so that the records of one key come in the
//! order of its changes, and is told whole effects ("the key has this value, to this deadline"), so
//! that replaying one twice changes nothing.
//!
//! Who changes an entry calls one of these under that lock: `record_put` for a value, with its
//! labels; `record_delete`, `record_loss` and `record_leaving` for what goes; `record_moved`,
//! `record_deadlines` and `record_read` for deadlines; `record_label` for a tag, a group or
//! everything that is invalidated. A transaction is recorded as a whole by `record_ahead`, before
//! anything of it is applied. The places that call them are found by these names.
//!
//! What is recorded is what the log cannot know by itself: no entry that expires, since its record
//! has said when; but the end of one by idleness, which the log knows only roughly.
//!
//! A cache without a recorder pays for a look at one word per write, and without the feature
//! `persist` nobody records.

#![cfg_attr(not(feature = "persist"), allow(dead_code, reason = "nobody records"))]

use super::Engine;
use super::policy::Deadlines;
use super::room::Work;
use crate::contain::contain;
use crate::event::RemovalCause;
use crate::labels::Labels;
use crate::table::{Ends, Locked, Ways};
use crate::time::{Deadline, NEVER, after};
use std::any::Any;

/// Who keeps a log of what happens to the entries of a cache.
pub(crate) trait Recorder<K, V>: Send + Sync {
    /// Whether a change that cannot be recorded must not be made.
    fn is_strict(&self) -> bool;

    /// Has room made for `bytes`, with no lock held; may wait. Not, if nothing can be recorded now.
    fn admit(&self, bytes: usize) -> Result<(), Refusal>;

    /// Encodes an entry that may be stored. Runs code of the user's.
    fn encode(&self, key: &K, value: &V) -> Result<Encoded, Refusal>;

    /// Whether entries can be recorded as one.
    fn check(&self, entries: &[Option<Encoded>]) -> Result<(), Refusal>;

    /// Takes back what it gave.
    fn done_with(&self, encoded: Encoded);

    /// A copy of a value, to be changed and encoded before it takes the place of the other.
    fn copy(&self, value: &V) -> V;

    /// Records changes as one, under the locks of all sets concerned; the number of the last. Only
    /// who is strict refuses, and records none of them then.
    fn record(&self, changes: &[Change<'_, K>]) -> Result<u64, Refusal>;

    /// Records a deadline that a read has moved, if there is room.
    fn record_if_room(&self, change: &Change<'_, K>);

    /// How far the wall clock was ahead of the clock of deadlines, in nanoseconds, when the oldest
    /// deadlines that count were written: were it that of now, the lines that ends have to cross
    /// would move beneath what is recorded.
    fn ahead(&self) -> i64;

    /// A call that has recorded something ends, with no lock held: waits until that is safe, where
    /// that is asked of all writes.
    fn settle(&self, outcome: Result<u64, Refusal>, waits: bool);

    /// The last handle of the cache is gone. Says whether nobody walks the entries any more, so that
    /// they can go, too.
    fn close(&self) -> bool;

    /// What the user is given to ask of the log.
    fn handle(&self) -> &(dyn Any + Send + Sync);
}

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It does not fit within the bounds.
    Full,
    /// The recorder says no.
    Log(Box<dyn Any + Send>),
}

/// An entry in the form in which it is recorded: its key, then its value.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) key: usize,
    pub(crate) form: Form,
}

impl Encoded {
    fn keep_key(&mut self) {
        if self.form == Form::Whole {
            self.form = Form::KeyOnly;
        }
    }
}

/// How much of an entry can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    /// Its value cannot. What is recorded is that the key has none.
    KeyOnly,
    Nothing,
}

/// A change, as it is recorded.
pub(crate) enum Change<'a, K> {
    Put(&'a Encoded, Meta<'a>),
    Deadline(&'a K, Ends),
    Delete(&'a K),
    /// Entries with this label that are older than the epoch are gone.
    Label(u64, u64),
}

/// What is recorded of an entry besides its key and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta<'a> {
    pub(crate) life: Ends,
    pub(crate) weight: u64,
    pub(crate) labels: &'a Labels,
    pub(crate) epoch: u64,
    pub(crate) heat: u8,
}

/// What a call has recorded so far, and is to record.
pub(super) struct Recording<'e, K, V> {
    recorder: &'e dyn Recorder<K, V>,
    /// The entry that is to be stored next.
    pub(super) entry: Option<Encoded>,
    /// What is being applied is recorded already.
    pub(super) is_ahead: bool,
    /// The last that was recorded.
    last: u64,
    refusal: Option<Refusal>,
    /// The call is a write, whose caller may have to wait.
    waits: bool,
    /// There is no room, and it is done all the same.
    is_crowded: bool,
}

/// What a call carries along: one word, and nothing at all where nobody can record.
#[cfg(feature = "persist")]
pub(super) type Recorded<'e, K, V> = Option<Box<Recording<'e, K, V>>>;
#[cfg(not(feature = "persist"))]
pub(super) type Recorded<'e, K, V> = Option<nobody::Nobody<'e, K, V>>;

#[cfg(not(feature = "persist"))]
mod nobody {
    use super::Recording;
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};

    /// Stands for a recording where there can be none. It has no size, as a recording would though
    /// there can be none: so nothing is ever looked at to see that it is not there.
    pub(in crate::engine) struct Nobody<'e, K, V>(
        Infallible,
        PhantomData<fn() -> Recording<'e, K, V>>,
    );

    impl<'e, K, V> Deref for Nobody<'e, K, V> {
        type Target = Recording<'e, K, V>;

        fn deref(&self) -> &Self::Target {
            match self.0 {}
        }
    }

    impl<K, V> DerefMut for Nobody<'_, K, V> {
        fn deref_mut(&mut self) -> &mut Self::Target {
            match self.0 {}
        }
    }
}

impl<K, V> Drop for Recording<'_, K, V> {
    fn drop(&mut self) {
        let outcome = match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None if self.last == 0 => return,
            None => Ok(self.last),
        };
        self.recorder.settle(outcome, self.waits);
    }
}

impl<K, V> Work<'_, K, V> {
    /// Whether what is being applied is recorded already.
    pub(super) fn is_recorded(&self) -> bool {
        self.recording
            .as_ref()
            .is_some_and(|recording| recording.is_ahead)
    }

    /// Has the call succeed though it was refused, since it changes nothing anyway.
    pub(super) fn take_back_refusal(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.refusal = None;
        }
    }

    /// Notes why the call changes nothing.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        if let Some(recording) = &mut self.recording {
            recording.refusal = Some(refusal);
        }
    }
}

impl<K, V> Engine<K, V> {
    /// Who keeps a log, if anybody does.
    #[inline(always)]
    pub(crate) fn recorder(&self) -> Option<&dyn Recorder<K, V>> {
        #[cfg(feature = "persist")]
        return self.recorder.get().map(|recorder| &**recorder);
        #[cfg(not(feature = "persist"))]
        None
    }

    /// Whether a change that cannot be made whole must not be made.
    pub(super) fn is_strict(&self) -> bool {
        self.recorder().is_some_and(Recorder::is_strict)
    }

    #[inline(always)]
    pub(super) fn recording(&self) -> Recorded<'_, K, V> {
        #[cfg(feature = "persist")]
        if let Some(recorder) = self.recorder() {
            return Some(Recording::begin(recorder));
        }
        None
    }

    /// Has room made to record about so many bytes, for a call that writes; whether it may. May
    /// wait: no lock may be held.
    #[inline]
    pub(super) fn admit(&self, bytes: usize, work: &mut Work<'_, K, V>) -> bool {
        match &mut work.recording {
            None => true,
            Some(recording) => recording.admit(bytes),
        }
    }

    /// As [`admit`](Self::admit), for a call that goes through the sets one by one. Where there was
    /// no room once, it is not waited for again at each set.
    pub(super) fn admit_set(&self, is_crowded: &mut bool, work: &mut Work<'_, K, V>) -> bool {
        if *is_crowded {
            return true;
        }
        let is_admitted = self.admit(RECORDS_OF_SET, work);
        let recording = work.recording.as_ref();
        *is_crowded = recording.is_some_and(|recording| recording.is_crowded);
        is_admitted
    }

    /// Encodes an entry that may be stored and has room made for it, with no lock held; whether it
    /// may be stored.
    #[inline]
    pub(super) fn prepare_record(&self, key: &K, value: &V, work: &mut Work<'_, K, V>) -> bool {
        match &mut work.recording {
            None => true,
            Some(recording) => recording.encode(key, value) && recording.admit_entry(),
        }
    }

    /// Encodes an entry that may be stored; whether it may.
    #[inline]
    pub(super) fn encode(&self, key: &K, value: &V, work: &mut Work<'_, K, V>) -> bool {
        match &mut work.recording {
            None => true,
            Some(recording) => recording.encode(key, value),
        }
    }

    /// Records an entry as it is in its set.
    #[inline]
    pub(super) fn record_put(&self, set: &Locked<'_, K, V>, way: usize, work: &mut Work<'_, K, V>) {
        if let Some(recording) = &mut work.recording {
            recording.put(set, way);
        }
    }

    /// Records that a key has no value any more; whether that may be so. Where a store cannot say
    /// it, it is refused.
    #[inline]
    pub(super) fn record_delete(&self, key: &K, work: &mut Work<'_, K, V>) -> bool {
        match &mut work.recording {
            None => true,
            Some(recording) => recording.note(&[Change::Delete(key)]),
        }
    }

    /// As [`record_delete`](Self::record_delete), of what leaves whether it can be recorded or not:
    /// it has expired or fallen, which the log knows, if only roughly, or is evicted.
    #[inline]
    pub(super) fn record_loss(&self, key: &K, work: &mut Work<'_, K, V>) {
        if let Some(recording) = &mut work.recording {
            let _ = recording.try_note(&[Change::Delete(key)]);
        }
    }

    /// Records that an entry leaves on the way of a call that is about others, which is not cut
    /// short if the `Serialize` of its key panics: the log then has the entry for longer than the
    /// cache, and it may be back after a restart.
    #[inline]
    pub(super) fn record_leaving(
        &self,
        set: &Locked<'_, K, V>,
        way: usize,
        cause: RemovalCause,
        work: &mut Work<'_, K, V>,
    ) {
        if work.recording.is_none() {
            return;
        }
        contain(|| match cause {
            RemovalCause::Expired => self.record_expired(set, way, work),
            _ => self.record_loss(&set.entry(way).key, work),
        });
    }

    /// Records that an entry has expired, if the log cannot know it.
    fn record_expired(&self, set: &Locked<'_, K, V>, way: usize, work: &mut Work<'_, K, V>) {
        let by_idleness = set.ends(way).is_some_and(|ends| ends.idle < ends.hard);
        // It was kept for those who load, and is so no longer.
        let before_its_end = set.age(way).is_some() && self.is_live(set.gone(way));
        if by_idleness || before_its_end {
            self.record_loss(&set.entry(way).key, work);
        }
    }

    /// Records the deadlines that an entry is to have; whether it may have them.
    #[inline]
    pub(super) fn record_moved(
        &self,
        key: &K,
        deadlines: &Deadlines,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        match &mut work.recording {
            None => true,
            Some(recording) => recording.note(&[Change::Deadline(key, deadlines.life())]),
        }
    }

    /// Records the deadlines of an entry.
    #[inline]
    pub(super) fn record_deadlines(
        &self,
        set: &Locked<'_, K, V>,
        way: usize,
        work: &mut Work<'_, K, V>,
    ) {
        if let Some(recording) = &mut work.recording {
            let change = Change::Deadline(&set.entry(way).key, life(set, way));
            recording.note(&[change]);
        }
    }

    /// Records deadlines that a read has moved, if by so much that it matters.
    #[inline]
    pub(super) fn record_read(&self, ways: &Ways<K, V>, way: usize, before: Ends) {
        let Some(recorder) = self.recorder() else {
            return;
        };
        let now = life(ways, way);
        let idle = self.policy.time_to_idle.map_or(0, |idle| after(0, idle));
        let grid = Grid::of(idle, recorder.ahead());
        let change = Change::Deadline(&ways.entry(way).key, now);
        if now.hard < before.hard {
            // Were it dropped, what has expired would come back.
            // Nor can a read be refused.
            let _ = recorder.record(&[change]);
        } else if grid.has_crossed(before.idle, now.idle)
            || has_crossed(before.hard, now.hard, self.clock.coarse())
        {
            recorder.record_if_room(&change);
        }
    }

    /// Records that a label is invalidated at an epoch, of which nobody knows yet.
    pub(super) fn record_label(&self, label: u64, epoch: u64, work: &mut Work<'_, K, V>) {
        if let Some(recording) = &mut work.recording {
            recording.note(&[Change::Label(label, epoch)]);
        }
    }
}

/// Whether a deadline has moved over a line of a grid, whose lines are at most an eighth of the
/// time that is left apart. Small steps add up, and so does what is lost if none of them is
/// recorded; in powers of two, so that the lines of one grid are lines of every finer one.
fn has_crossed(before: Deadline, now: Deadline, moment: Deadline) -> bool {
    let left = now.saturating_sub(moment) / 8;
    let grid = left.checked_ilog2().unwrap_or(0);
    before >> grid != now >> grid
}

/// Bytes that a record is expected to take up before it is known.
pub(super) const RECORD: usize = 128;

/// Bytes that the records of a set are expected to take up.
const RECORDS_OF_SET: usize = 4096;

/// The idle time is recorded anew when it has moved over a line of a grid, whose lines are one part
/// of so many of it apart.
const IDLE_STEPS: u64 = 8;

/// By so much, in nanoseconds, an end that lies on a line may come out behind it, by rounding, and by
/// how the two clocks were read.
const INEXACT: u64 = 10_000_000;

/// The grid of ends of an idle time. Its lines are those of the wall clock, which are the same in each
/// process.
struct Grid {
    step: u64,
    ahead: i64,
}

impl Grid {
    fn of(idle: u64, ahead: i64) -> Self {
        let step = (idle / IDLE_STEPS).max(1);
        Self { step, ahead }
    }

    /// Whether an end that has moved is to be recorded anew.
    fn has_crossed(&self, before: Deadline, now: Deadline) -> bool {
        now != before && (self.line(now) != self.line(before) || self.is_at_line(now))
    }

    /// The line before an end, as its number; `None` of an end that the wall clock cannot hold. What
    /// lies on a line or barely behind it has the line before.
    fn line(&self, end: Deadline) -> Option<u64> {
        let at = end.checked_add_signed(self.ahead)?;
        Some(at.saturating_sub(self.inexact()) / self.step)
    }

    /// Whether an end may have come out behind its line. It would come back as that line, which is
    /// sooner: so each of them is recorded.
    fn is_at_line(&self, end: Deadline) -> bool {
        let exact = end.checked_add_signed(self.ahead).map(|at| at / self.step);
        exact != self.line(end)
    }

    fn inexact(&self) -> u64 {
        INEXACT.min(self.step / 4)
    }
}

/// The latest end of an idle time that would not have been recorded anew: the next line of the grid.
///
/// What ends at a line is left there. So however often an entry is recorded and brought back, it is
/// never later than the line behind its last access. Were a part of the idle time added, that would be
/// done each time anew.
pub(super) fn end_of_step(recorded: Deadline, idle: u64, ahead: i64) -> Deadline {
    let grid = Grid::of(idle, ahead);
    let next = grid.line(recorded).and_then(|line| {
        let next = line.checked_add(1)?.checked_mul(grid.step)?;
        next.checked_add_signed(-ahead)
    });
    // What the clock cannot hold is left as it is.
    next.map_or(recorded, |next| next.clamp(recorded, NEVER - 1))
}

impl<'e, K, V> Recording<'e, K, V> {
    #[cfg(feature = "persist")]
    #[cold]
    #[inline(never)]
    fn begin(recorder: &'e dyn Recorder<K, V>) -> Box<Self> {
        Box::new(Self {
            recorder,
            entry: None,
            is_ahead: false,
            last: 0,
            refusal: None,
            waits: false,
            is_crowded: false,
        })
    }

    #[cold]
    #[inline(never)]
    fn admit(&mut self, bytes: usize) -> bool {
        self.waits = true;
        match self.recorder.admit(bytes) {
            Err(refusal) if self.recorder.is_strict() => {
                self.refusal = Some(refusal);
                false
            }
            result => {
                self.is_crowded = result.is_err();
                true
            }
        }
    }

    fn admit_entry(&mut self) -> bool {
        let bytes = self.entry.as_ref().map_or(0, |entry| entry.bytes.len());
        self.admit(bytes + RECORD)
    }

    #[cold]
    #[inline(never)]
    fn encode(&mut self, key: &K, value: &V) -> bool {
        match self.recorder.encode(key, value) {
            Ok(encoded) => {
                self.entry = Some(encoded);
                true
            }
            Err(refusal) => {
                self.refusal = Some(refusal);
                false
            }
        }
    }

    /// Whether what a transaction stores can be recorded as one, or is done all the same; then what
    /// is recorded is that its keys have no values.
    #[cold]
    #[inline(never)]
    pub(super) fn check(&mut self, entries: &mut [Option<Encoded>]) -> bool {
        match self.recorder.check(entries) {
            Ok(()) => true,
            Err(refusal) if self.recorder.is_strict() => {
                self.refusal = Some(refusal);
                false
            }
            Err(_) => {
                for entry in entries.iter_mut().flatten() {
                    entry.keep_key();
                }
                true
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn put(&mut self, set: &Locked<'_, K, V>, way: usize) {
        if self.is_ahead {
            return;
        }
        let entry = set.entry(way);
        if self.entry.is_none() && !self.encode(&entry.key, &entry.value) {
            return;
        }
        if let Some(encoded) = self.entry.take() {
            self.note(&[Change::Put(&encoded, meta(set, way))]);
            self.recorder.done_with(encoded);
        }
    }

    /// Records changes as one; whether they may be made.
    #[cold]
    #[inline(never)]
    pub(super) fn note(&mut self, changes: &[Change<'_, K>]) -> bool {
        let noted = self.try_note(changes);
        noted
            .map_err(|refusal| self.refusal = Some(refusal))
            .is_ok()
    }

    #[cold]
    #[inline(never)]
    fn try_note(&mut self, changes: &[Change<'_, K>]) -> Result<(), Refusal> {
        self.last = self.recorder.record(changes)?.max(self.last);
        Ok(())
    }
}

/// What is recorded of an entry besides its key and its value.
pub(super) fn meta<K, V>(ways: &Ways<K, V>, way: usize) -> Meta<'_> {
    Meta {
        life: life(ways, way),
        weight: ways.weight(way),
        labels: ways.labels(way),
        epoch: ways.label(way).map_or(0, |label| label.held_at()),
        heat: ways.entry(way).heat(),
    }
}

/// The ends of the life of an entry, of which one may be as good as none.
pub(super) fn life<K, V>(ways: &Ways<K, V>, way: usize) -> Ends {
    ways.ends(way)
        .unwrap_or_else(|| Ends::hard(ways.entry(way).deadline()))
}
