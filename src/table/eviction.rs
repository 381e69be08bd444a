//! Which entry of a set goes first: S3-FIFO within the set.
//!
//! Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction",
//! SOSP 2023. New entries wait in a small queue. What was read more than once there moves to the
//! main queue; the rest leaves and is remembered by a ghost, so that a key that comes back soon
//! enters the main queue at once. The main queue is a FIFO with second chances: an entry at its
//! end that was read goes round again, with its frequency one lower.
//!
//! Where this differs: how large the small queue is, how far back ghosts count and how many of the
//! keys that come back enter the main queue at once is a [`Setting`] of the cache (which one,
//! `duel.rs` decides); the main queue fills first, so that a loop a little larger than the cache
//! still finds most of itself (while main is under its share, what overflows the small queue moves
//! on without having been read); what leaves the main queue is remembered too; the queues belong to
//! a set of a few dozen entries and not to the cache (Adas, Einziger, Friedman, "Limited
//! Associativity Makes Concurrent Software Caches a Breeze", 2021, shows how little that costs),
//! the queues are linked through the entries by way numbers, and ghosts (`ghosts.rs`) are short
//! fingerprints.
//!
//! The algorithm ([`Queues::choose`]) is written once. It runs on the entries of a set, and in the
//! sets that are sampled on the copies of their queues that try the other settings (`shadow.rs`).
//!
//! Every operation is O(1) but for the second chances: at most four rounds through the set, and on
//! average less than one step for each read since the last eviction.
//!
//! LRU is the small queue alone, in which an access moves an entry to the young end.

use super::ghosts::Memory;
use super::set::{Entry, Ways};
use std::sync::atomic::Ordering::Relaxed;

/// No way.
pub(super) const NIL: u16 = u16::MAX;

/// Reads are counted up to this.
pub(super) const MAX_FREQUENCY: u8 = 3;

/// Reads with which an entry moves from the small queue to the main one.
const PROMOTED: u8 = 2;

/// Set in `frequency` by a read. Only the sets that are sampled clear it.
pub(super) const READ: u8 = 0x40;

/// Set in `frequency` while an entry must not be evicted.
const PINNED: u8 = 0x80;

/// Set in `frequency` while the set knows labels of the entry: what reads it anyway need not look
/// elsewhere to learn that there are none.
const LABELLED: u8 = 0x20;

/// A queue of a set. As an enum it leaves a free slot no larger than an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Small,
    Main,
}

/// How a set divides its entries, how far back it remembers, and what it makes of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The share of the small queue, in 256ths of the entries.
    small: u16,
    pub(super) memory: Memory,
    /// Of the keys that come back while a ghost remembers them, one in so many enters the main
    /// queue at once: a power of two up to sixteen.
    one_in: u8,
}

impl Setting {
    /// A fifth on probation. Over six real traces each at four sizes, 0.3 points of hit ratio more
    /// than with the paper's tenth, which suits larger queues.
    pub(super) const BALANCED: Self = Self::new(51, Memory::SHORT, 1);

    /// Only the last entry is on probation: what is in stays in while it is read, and what comes
    /// back soon takes the place of something that was not.
    pub(super) const FREQUENT: Self = Self::new(0, Memory::SHORT, 1);

    /// What is in stays in. Where more keys come round than fit, each would push another out that
    /// is needed as soon, so only a few of them are let in (the bimodal insertion of Qureshi and
    /// others, ISCA 2007); the memory is as long as can be, or a key would be forgotten before it
    /// comes round.
    pub(super) const LOYAL: Self = Self::new(0, Memory::LONG, 8);

    /// Most of the set is on probation, which makes it nearly a FIFO.
    pub(super) const RECENT: Self = Self::new(192, Memory::SHORT, 1);

    const fn new(small: u16, memory: Memory, one_in: u8) -> Self {
        // The count of those that came back has four bits.
        assert!(one_in.is_power_of_two() && one_in <= 16);
        Self {
            small,
            memory,
            one_in,
        }
    }

    /// The queue that a key enters that comes back, given a count of those that did before.
    #[inline(always)]
    pub(super) fn queue_of_returning(self, before: u64) -> Queue {
        if before & u64::from(self.one_in - 1) == 0 {
            Queue::Main
        } else {
            Queue::Small
        }
    }

    /// The length of the small queue: its share, rounded, and at least 1.
    #[inline(always)]
    fn probation(self, entries: usize) -> usize {
        ((entries * usize::from(self.small) + 128) / 256).max(1)
    }
}

/// The two queues of a set, and the algorithm on them.
pub(super) trait Queues {
    fn len_of(&self, queue: Queue) -> usize;

    fn oldest(&self, queue: Queue) -> Option<usize>;

    /// Reads of an entry, `None` while it must not be evicted.
    fn reads(&self, place: usize) -> Option<u8>;

    /// Moves the oldest entry of a queue to the young end of a queue, with `reads` left to it.
    fn advance(&mut self, from: Queue, to: Queue, reads: u8);

    fn remember(&mut self, place: usize);

    /// When a queue holds nothing but pinned entries, an entry of the other.
    fn pass_over_pinned(&self, queue: Queue) -> Option<usize>;

    /// Chooses the entry that has to go, `None` when there is none or all are pinned, and leaves
    /// a ghost of it.
    #[inline(always)]
    fn choose(&mut self, setting: Setting) -> Option<usize> {
        let entries = self.len_of(Queue::Small) + self.len_of(Queue::Main);
        let probation = setting.probation(entries);
        while self.len_of(Queue::Small) > probation {
            let reads = self.oldest(Queue::Small).and_then(|way| self.reads(way));
            let left = reads.unwrap_or(0).saturating_sub(PROMOTED - 1).min(1);
            self.advance(Queue::Small, Queue::Main, left);
        }
        // Each step promotes an entry, takes one from a count of at most three, or passes over a
        // pinned one; past this many, everything left is pinned.
        for _ in 0..6 * entries + 1 {
            let queue = self.queue_to_shorten(probation);
            let oldest = self.oldest(queue)?;
            let Some(reads) = self.reads(oldest) else {
                self.advance(queue, queue, 0);
                match self.pass_over_pinned(queue) {
                    None => continue,
                    other => return other,
                }
            };
            let (needed, left) = match queue {
                Queue::Small => (PROMOTED, 0),
                Queue::Main => (1, reads.saturating_sub(1)),
            };
            if reads < needed {
                self.remember(oldest);
                return Some(oldest);
            }
            self.advance(queue, Queue::Main, left);
        }
        None
    }

    #[inline(always)]
    fn queue_to_shorten(&self, probation: usize) -> Queue {
        let small = self.len_of(Queue::Small);
        if small > 0 && (small >= probation || self.len_of(Queue::Main) == 0) {
            Queue::Small
        } else {
            Queue::Main
        }
    }
}

/// A queue linked through the entries: `head` is the oldest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fifo {
    head: u16,
    tail: u16,
    pub(super) len: u16,
}

impl Default for Fifo {
    fn default() -> Self {
        Self {
            head: NIL,
            tail: NIL,
            len: 0,
        }
    }
}

impl<K, V> Entry<K, V> {
    /// Counts a read. Writes only while something still changes, so that a hot entry stays in the
    /// shared state of every processor's cache.
    #[inline]
    pub(crate) fn count_read(&self) {
        let frequency = self.frequency.load(Relaxed);
        if frequency & (READ | MAX_FREQUENCY) != READ | MAX_FREQUENCY {
            let more = u8::from(frequency & MAX_FREQUENCY != MAX_FREQUENCY);
            self.frequency.store((frequency | READ) + more, Relaxed);
        }
    }

    /// Takes away the mark of a read; whether it was there.
    #[inline]
    pub(super) fn take_read_mark(&mut self) -> bool {
        let frequency = self.frequency.get_mut();
        let is_marked = *frequency & READ != 0;
        *frequency &= !READ;
        is_marked
    }

    /// Keeps the entry from being evicted while room is made for it.
    pub(crate) fn pin(&self) {
        self.frequency.fetch_or(PINNED, Relaxed);
    }

    pub(crate) fn unpin(&self) {
        self.frequency.fetch_and(!PINNED, Relaxed);
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.frequency.load(Relaxed) & PINNED != 0
    }

    /// Whether the entry has labels, on which it depends whether it may be seen.
    #[inline]
    pub(crate) fn is_labelled(&self) -> bool {
        self.frequency.load(Relaxed) & LABELLED != 0
    }

    pub(super) fn mark_labelled(&mut self, labelled: bool) {
        let flags = *self.frequency.get_mut() & !LABELLED;
        *self.frequency.get_mut() = flags | if labelled { LABELLED } else { 0 };
    }

    /// How often the entry was read of late, 0 to 3.
    pub(crate) fn frequency(&self) -> u8 {
        self.frequency.load(Relaxed) & MAX_FREQUENCY
    }
}

impl<K, V> Queues for Ways<K, V> {
    #[inline(always)]
    fn len_of(&self, queue: Queue) -> usize {
        usize::from(self.fifo(queue).len)
    }

    #[inline(always)]
    fn oldest(&self, queue: Queue) -> Option<usize> {
        let head = self.fifo(queue).head;
        (head != NIL).then_some(usize::from(head))
    }

    #[inline(always)]
    fn reads(&self, way: usize) -> Option<u8> {
        let frequency = self.entry(way).frequency.load(Relaxed);
        (frequency & PINNED == 0).then_some(frequency & MAX_FREQUENCY)
    }

    #[inline(always)]
    fn advance(&mut self, from: Queue, to: Queue, reads: u8) {
        let Some(way) = self.oldest(from) else { return };
        let entry = self.entry_mut(way);
        let frequency = entry.frequency.get_mut();
        *frequency = *frequency & !MAX_FREQUENCY | reads;
        let next = entry.next;
        self.drop_head(from, next);
        self.push(to, way);
    }

    #[inline(always)]
    fn remember(&mut self, way: usize) {
        let fingerprint = self.entry(way).fingerprint;
        match &mut self.ghosts {
            Some(ghosts) => ghosts.remember(fingerprint),
            None => self.leave_ghost(fingerprint),
        }
    }

    #[cold]
    fn pass_over_pinned(&self, queue: Queue) -> Option<usize> {
        let other = if queue == Queue::Small {
            Queue::Main
        } else {
            Queue::Small
        };
        let all_pinned = self.queue(queue).all(|way| self.entry(way).is_pinned());
        let free = |way: &usize| !self.entry(*way).is_pinned();
        if all_pinned {
            self.queue(other).find(free)
        } else {
            None
        }
    }
}

impl<K, V> Ways<K, V> {
    /// The queue that a new key enters.
    #[inline(always)]
    pub(super) fn admission(&mut self, fingerprint: u16, setting: Setting) -> Queue {
        match &mut self.ghosts {
            Some(ghosts) => ghosts.admit(fingerprint, setting),
            None => Queue::Small,
        }
    }

    /// Chooses the entry that has to go, `None` when there is none or all are pinned, and leaves
    /// a ghost of it.
    #[inline(always)]
    pub(super) fn victim(&mut self, setting: Setting) -> Option<usize> {
        self.choose(setting)
    }

    /// Remembers a key that was evicted, the first of the set perhaps.
    #[cold]
    #[inline(never)]
    pub(crate) fn leave_ghost(&mut self, fingerprint: u16) {
        self.ghosts.get_or_insert_default().remember(fingerprint);
    }

    // ---- LRU ----

    /// The least recently used entry that is not pinned, where accesses keep the order.
    pub(super) fn idlest(&self) -> Option<usize> {
        self.queue_order().find(|way| !self.entry(*way).is_pinned())
    }

    /// Makes an entry the last to go.
    #[inline(never)]
    pub(super) fn make_youngest(&mut self, way: usize) {
        if usize::from(self.small.tail) != way {
            self.unlink(way);
            self.push(Queue::Small, way);
        }
    }

    // ---- the queues ----

    #[inline(always)]
    fn fifo(&self, queue: Queue) -> &Fifo {
        match queue {
            Queue::Small => &self.small,
            Queue::Main => &self.main,
        }
    }

    #[inline(always)]
    fn fifo_mut(&mut self, queue: Queue) -> &mut Fifo {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    /// Makes `next` the oldest of a queue.
    #[inline(always)]
    fn drop_head(&mut self, queue: Queue, next: u16) {
        let fifo = self.fifo_mut(queue);
        fifo.len -= 1;
        fifo.head = next;
        if next == NIL {
            fifo.tail = NIL;
        }
    }

    /// Links an entry in at the young end.
    #[inline(always)]
    pub(super) fn push(&mut self, queue: Queue, way: usize) {
        let tail = self.push_behind(queue, way);
        let entry = self.entry_mut(way);
        (entry.prev, entry.next, entry.queue) = (tail, NIL, queue);
    }

    /// As [`push`](Self::push), but for the links of the entry itself; what its `prev` has to be.
    #[inline(always)]
    pub(super) fn push_behind(&mut self, queue: Queue, way: usize) -> u16 {
        let link = way as u16;
        let fifo = self.fifo_mut(queue);
        let tail = std::mem::replace(&mut fifo.tail, link);
        fifo.len += 1;
        if tail == NIL {
            fifo.head = link;
        } else {
            self.entry_mut(usize::from(tail)).next = link;
        }
        tail
    }

    #[inline(always)]
    pub(super) fn unlink(&mut self, way: usize) {
        let entry = self.entry(way);
        let (prev, next, queue) = (entry.prev, entry.next, entry.queue);
        // The oldest entry's `prev` is stale: taking the oldest out leaves its successor alone,
        // which saves a touch of another cache line at each eviction.
        if usize::from(self.fifo(queue).head) == way {
            self.drop_head(queue, next);
        } else {
            self.unlink_from_within(queue, prev, next);
        }
    }

    fn unlink_from_within(&mut self, queue: Queue, prev: u16, next: u16) {
        let fifo = self.fifo_mut(queue);
        fifo.len -= 1;
        if next == NIL {
            fifo.tail = prev;
        } else {
            self.entry_mut(usize::from(next)).prev = prev;
        }
        self.entry_mut(usize::from(prev)).next = next;
    }

    /// The ways of one queue, oldest first.
    pub(super) fn queue(&self, queue: Queue) -> impl Iterator<Item = usize> {
        std::iter::successors(self.oldest(queue), |way| {
            let next = self.entry(*way).next;
            (next != NIL).then_some(usize::from(next))
        })
    }

    /// The ways in use: the small queue, then the main one, each oldest first.
    pub(super) fn queue_order(&self) -> impl Iterator<Item = usize> {
        self.queue(Queue::Small).chain(self.queue(Queue::Main))
    }
}
