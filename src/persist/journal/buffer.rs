//! What has been appended and not been written: frames that lack only their headers.
//!
//! Appending is a copy under a lock that nobody holds for longer than that. The order in which the
//! lock is taken is the order of the numbers, and of the log.

use crate::persist::effect::Effects;
use crate::persist::frame::{self, HEADER, PAYLOAD, Stamp};
use crate::persist::made_by::MadeBy;
use crate::sync::{AtomicU64, AtomicUsize, SpinLock};
use std::mem;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Frames behind one another, ready to be written in one go.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Part>,
    /// The number of the first effect.
    first: u64,
    /// By which comparisons of the clocks the deadlines were made.
    made_by: MadeBy,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where in the bytes the frame ends.
    end: usize,
    count: u32,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the last effect.
    pub(super) fn last(&self) -> u64 {
        let count: u64 = self.frames.iter().map(|part| u64::from(part.count)).sum();
        self.first + count - 1
    }

    pub(super) fn made_by(&self) -> MadeBy {
        self.made_by
    }

    /// Adds effects that stay together: to the last frame if they fit, or to a new one.
    fn add(&mut self, effects: &Effects) {
        let start = self.frames.iter().rev().nth(1).map_or(0, |part| part.end);
        let length = self.bytes.len() - start;
        let is_full = length + effects.bytes().len() > HEADER + PAYLOAD;
        match self.frames.last_mut() {
            Some(part) if !is_full => {
                part.count += effects.len();
                part.end += effects.bytes().len();
            }
            _ => {
                self.bytes.extend_from_slice(&[0; HEADER]);
                self.frames.push(Part {
                    end: self.bytes.len() + effects.bytes().len(),
                    count: effects.len(),
                });
            }
        }
        self.bytes.extend_from_slice(effects.bytes());
        self.made_by.add(effects.made_by);
    }

    /// Fills in the headers.
    pub(super) fn seal(&mut self, durable: u64, wall_ms: u64, salt: u32) {
        let (mut start, mut first) = (0, self.first);
        for part in &self.frames {
            let stamp = Stamp {
                kind: frame::Kind::Batch,
                count: part.count,
                first,
                durable,
                wall_ms,
            };
            frame::seal(&mut self.bytes[start..part.end], stamp, salt);
            (start, first) = (part.end, first + u64::from(part.count));
        }
    }

    /// Removes all and keeps the memory, unless it is much.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.frames.clear();
        self.made_by = MadeBy::NONE;
    }
}

/// The memory that a batch keeps for the next.
const KEPT: usize = 4 * PAYLOAD;

/// The log is behind by this many buffers, and by a write that may be larger than all of them: more
/// is not kept, a snapshot has to make up for it.
const HOPELESS: usize = 16;

#[derive(Debug)]
pub(super) struct Buffer {
    filling: SpinLock<Filling>,
    /// Bytes that are not written yet. Changed only under the lock, so that a plain store will do.
    used: AtomicUsize,
    last: AtomicU64,
    unlogged: AtomicU64,
    dropped: AtomicU64,
    /// Without a log only numbers are given.
    keeps: bool,
    capacity: usize,
}

#[derive(Debug)]
struct Filling {
    batch: Batch,
    /// The number that comes next.
    next: u64,
    /// Bytes that were taken, and are not written yet.
    in_flight: usize,
    /// The bytes of the largest write since nothing waited.
    largest: usize,
    /// Effects were not kept, so none that follow are of use to the log.
    has_gap: bool,
}

/// How an append has changed how much waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    /// The number of the last effect.
    pub(super) last: u64,
    pub(super) crossed_half: bool,
}

impl Buffer {
    pub(super) fn new(capacity: usize, next: u64, keeps: bool) -> Self {
        Self {
            filling: SpinLock::new(Filling {
                batch: Batch {
                    bytes: Vec::with_capacity(if keeps { capacity.min(KEPT) } else { 0 }),
                    frames: Vec::new(),
                    first: next,
                    made_by: MadeBy::NONE,
                },
                next,
                in_flight: 0,
                largest: 0,
                has_gap: false,
            }),
            used: AtomicUsize::new(0),
            last: AtomicU64::new(next - 1),
            unlogged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            keeps,
            capacity,
        }
    }

    /// Numbers effects and keeps a copy. Never waits, so it may go beyond the capacity by what no
    /// room was asked for; far beyond it nothing more is kept.
    pub(super) fn append(&self, effects: &Effects) -> Appended {
        let mut filling = self.filling.lock();
        let used = filling.used();
        filling.next += u64::from(effects.len());
        let last = filling.next - 1;
        self.last.store(last, Release);
        if !self.keeps || effects.is_empty() {
            return Appended {
                last,
                crossed_half: false,
            };
        }
        let hopeless = self.capacity.saturating_mul(HOPELESS);
        if filling.has_gap || used > hopeless.saturating_add(filling.largest) {
            filling.has_gap = true;
            drop(filling);
            add(&self.unlogged, u64::from(effects.len()));
            return Appended {
                last,
                crossed_half: true,
            };
        }
        if filling.batch.is_empty() {
            filling.batch.first = last + 1 - u64::from(effects.len());
        }
        filling.note_size(used, effects.bytes().len());
        filling.batch.add(effects);
        let now = filling.used();
        self.used.store(now, Release);
        let half = self.capacity / 2;
        Appended {
            last,
            crossed_half: used < half && now >= half,
        }
    }

    /// As [`append`](Self::append), unless the buffer is full.
    pub(super) fn append_if_room(&self, effects: &Effects) -> Option<Appended> {
        if self.used() + effects.bytes().len() > self.capacity {
            add(&self.dropped, u64::from(effects.len()));
            return None;
        }
        Some(self.append(effects))
    }

    /// Gives a number to what does not come here: it is in the log already, or it is not, and a
    /// snapshot has to make up for that.
    pub(super) fn pass(&self, is_logged: bool) -> u64 {
        let mut filling = self.filling.lock();
        filling.next += 1;
        let last = filling.next - 1;
        self.last.store(last, Release);
        if self.keeps && !is_logged {
            filling.has_gap = true;
            add(&self.unlogged, 1);
        }
        last
    }

    /// Whether so much more may wait. More than the capacity may come in when nothing waits.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let used = self.used();
        used == 0 || used.saturating_add(bytes) <= self.capacity
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Acquire)
    }

    /// The last number that was given.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Acquire)
    }

    pub(super) fn unlogged(&self) -> u64 {
        self.unlogged.load(Acquire)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Acquire)
    }

    pub(super) fn has_gap(&self) -> bool {
        self.filling.lock().has_gap
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.filling.lock().batch.is_empty()
    }

    /// Takes what there is, and leaves an empty batch for what comes.
    pub(super) fn take(&self, spare: Batch) -> Batch {
        let mut filling = self.filling.lock();
        filling.in_flight += filling.batch.bytes.len();
        mem::replace(&mut filling.batch, spare)
    }

    /// What was taken has been written.
    pub(super) fn done(&self, bytes: usize) {
        let mut filling = self.filling.lock();
        filling.in_flight = filling.in_flight.saturating_sub(bytes);
        self.used.store(filling.used(), Release);
    }

    /// Forgets all that waits, and the gap. Says the number that comes next.
    pub(super) fn restart(&self) -> u64 {
        let mut filling = self.filling.lock();
        filling.batch.clear();
        filling.in_flight = 0;
        filling.has_gap = false;
        self.used.store(0, Release);
        filling.next
    }
}

impl Filling {
    fn used(&self) -> usize {
        self.in_flight + self.batch.bytes.len()
    }

    #[inline]
    fn note_size(&mut self, used: usize, bytes: usize) {
        let before = if used == 0 { 0 } else { self.largest };
        self.largest = before.max(bytes);
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::persist::effect::Effect;

    /// A deletion of so many bytes.
    fn deletion(bytes: usize) -> Effects {
        let mut effects = Effects::new();
        let lengths = if bytes < 130 { 2 } else { 3 };
        effects.push(Effect::Delete {
            key: &vec![0; bytes - lengths],
        });
        assert_eq!(effects.bytes().len(), bytes);
        effects
    }

    const CAPACITY: usize = 160;

    #[test]
    fn room_is_counted_to_the_byte_until_what_was_taken_is_written() {
        let buffer = Buffer::new(CAPACITY, 1, true);
        assert!(buffer.has_room(usize::MAX), "nothing waits");
        buffer.append(&Effects::new());
        assert_eq!(
            (buffer.used(), buffer.last(), buffer.is_empty()),
            (0, 0, true)
        );
        let half = [12, 20, 2].map(|bytes| buffer.append(&deletion(bytes)).crossed_half);
        assert_eq!(half, [false, true, false], "it is told once");
        let used = HEADER + 34;
        assert_eq!(
            (buffer.used(), buffer.last(), buffer.is_empty()),
            (used, 3, false)
        );
        let left = CAPACITY - used;
        assert!(buffer.has_room(left) && !buffer.has_room(left + 1));
        assert!(buffer.append_if_room(&deletion(left + 1)).is_none());
        assert!(buffer.append_if_room(&deletion(left)).is_some());
        assert!(buffer.append_if_room(&deletion(2)).is_none());
        assert_eq!(
            (buffer.used(), buffer.last(), buffer.dropped()),
            (CAPACITY, 4, 2)
        );

        let taken = buffer.take(Batch::default());
        assert_eq!((taken.first(), taken.last()), (1, 4));
        assert!(buffer.is_empty() && !buffer.has_room(1));
        buffer.append(&deletion(2));
        assert_eq!(buffer.used(), CAPACITY + HEADER + 2);
        buffer.done(taken.bytes().len());
        assert_eq!((buffer.used(), buffer.is_empty()), (HEADER + 2, false));
        assert_eq!(buffer.take(taken).first(), 5);
        assert_eq!((buffer.restart(), buffer.used()), (6, 0));
        buffer.append(&deletion(2));
        assert_eq!(buffer.used(), HEADER + 2, "what was taken counts no more");
    }

    #[test]
    fn far_beyond_the_capacity_only_numbers_are_given() {
        let buffer = Buffer::new(CAPACITY, 1, true);
        let (large, hopeless) = (4 * CAPACITY * HOPELESS, CAPACITY * HOPELESS);
        buffer.append(&deletion(large));
        // Which does not count for what comes beside it, however large it is.
        buffer.append(&deletion(hopeless - HEADER));
        buffer.append(&deletion(2));
        let used = large + hopeless + 2;
        assert_eq!((buffer.used(), buffer.has_gap()), (used, false));
        for last in 4..6 {
            let appended = buffer.append(&deletion(2));
            assert!(appended.crossed_half && appended.last == last);
            assert_eq!((buffer.used(), buffer.unlogged()), (used, last - 3));
        }
        assert!(buffer.has_gap());
        assert_eq!((buffer.restart(), buffer.has_gap()), (6, false));
        // What was large, and is written, allows nothing any more.
        for bytes in [2, hopeless, hopeless] {
            buffer.append(&deletion(bytes));
            assert!(!buffer.has_gap());
        }
        buffer.append(&deletion(2));
        assert!(buffer.has_gap());
        let nothing = Buffer::new(CAPACITY, 1, false);
        assert_eq!(nothing.append(&deletion(2)).last, 1);
        assert_eq!((nothing.used(), nothing.is_empty()), (0, true));
    }
}
