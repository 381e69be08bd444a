//! Which entry of a set goes first: S3-FIFO within the set.
//!
//! Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction",
//! SOSP 2023. New entries wait in a small queue. What was read more than once there moves to the
//! main queue; the rest leaves and is remembered by a ghost, so that a key that comes back soon
//! enters the main queue at once. The main queue is a FIFO with second chances: an entry at its
//! end that was read goes round again, with its frequency one lower.
//!
//! Where this differs: the small queue has a fifth of the entries and not a tenth, and what leaves
//! the main queue is remembered too (over six real traces each at four sizes, 0.3 points of hit
//! ratio more than with the paper's choices, which suit larger queues); the queues belong to a set
//! of a few dozen entries and not to the cache
//! (Adas, Einziger, Friedman, "Limited Associativity Makes Concurrent Software Caches a Breeze",
//! 2021, shows how little that costs), the queues are linked through the entries by way numbers,
//! and a ghost is 16 bits of the hash, so one look-up in a thousand or so finds a ghost by mistake.
//!
//! Every operation is O(1) but for the second chances: at most four rounds through the set, and on
//! average less than one step for each read since the last eviction.

use super::set::{Entry, Ways};
use std::sync::atomic::Ordering::Relaxed;

/// No way.
pub(super) const NIL: u16 = u16::MAX;

/// The share of a set that is on probation.
const PROBATION: usize = 5;

/// Reads are counted up to this.
const MAX_FREQUENCY: u8 = 3;

/// Set in `frequency` while an entry must not be evicted.
const PINNED: u8 = 0x80;

/// Set in `frequency` while the set knows labels of the entry: what reads it anyway need not look
/// elsewhere to learn that there are none.
const LABELLED: u8 = 0x40;

/// A queue of a set. As an enum it leaves a free slot no larger than an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Small,
    Main,
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

/// Fingerprints of the last keys that were evicted, as many as the set has entries.
#[derive(Clone, Debug)]
pub(super) struct Ghosts {
    ring: [u16; GHOSTS],
    next: u8,
}

/// The most ghosts of one set.
const GHOSTS: usize = 40;

impl Ghosts {
    fn remember(&mut self, fingerprint: u16, span: usize) {
        let span = span.clamp(1, GHOSTS);
        let next = usize::from(self.next) % span;
        self.ring[next] = fingerprint;
        self.next = (next + 1) as u8;
    }

    fn forget(&mut self, fingerprint: u16) -> bool {
        // Looks at all of them, so that it compiles to a few vector instructions.
        if !self
            .ring
            .iter()
            .fold(false, |found, ghost| found | (*ghost == fingerprint))
        {
            return false;
        }
        let found = self.ring.iter_mut().find(|ghost| **ghost == fingerprint);
        found.map(|ghost| *ghost = 0).is_some()
    }
}

impl<K, V> Entry<K, V> {
    /// Counts a read. Writes only while the count still changes, so that a hot entry stays in the
    /// shared state of every processor's cache.
    #[inline]
    pub(crate) fn count_read(&self) {
        let frequency = self.frequency.load(Relaxed);
        if frequency & MAX_FREQUENCY < MAX_FREQUENCY {
            self.frequency.store(frequency + 1, Relaxed);
        }
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

    fn set_frequency(&mut self, frequency: u8) {
        let flags = *self.frequency.get_mut() & !MAX_FREQUENCY;
        *self.frequency.get_mut() = flags | frequency;
    }

    /// How often the entry was read of late, 0 to 3.
    pub(crate) fn frequency(&self) -> u8 {
        self.frequency.load(Relaxed) & MAX_FREQUENCY
    }
}

impl<K, V> Ways<K, V> {
    /// The queue that a new key enters.
    pub(super) fn admission(&mut self, fingerprint: u16) -> Queue {
        let known = self
            .ghosts
            .as_mut()
            .is_some_and(|ghosts| ghosts.forget(fingerprint));
        if known { Queue::Main } else { Queue::Small }
    }

    /// Chooses the entry that has to go, `None` when there is none or all are pinned, and leaves
    /// a ghost of it where the policy wants one.
    pub(crate) fn victim(&mut self) -> Option<usize> {
        // Each step promotes an entry, takes one from a count of at most three, or passes over a
        // pinned one; past this many, everything left is pinned.
        let most = 6 * self.len() + 1;
        (0..most).find_map(|_| self.consider())
    }

    /// One step: the oldest entry of the queue that is over its share leaves, or moves on.
    fn consider(&mut self) -> Option<usize> {
        let queue = self.queue_to_shorten();
        let way = self.oldest(queue)?;
        let entry = self.entry(way);
        if entry.is_pinned() {
            self.move_to(queue, way);
            return self.pass_over_pinned(queue);
        }
        match (queue, entry.frequency()) {
            (Queue::Small, 0 | 1) => {
                self.remember(way);
                Some(way)
            }
            (Queue::Small, _) => {
                self.entry_mut(way).set_frequency(0);
                self.move_to(Queue::Main, way);
                None
            }
            (Queue::Main, 0) => {
                self.remember(way);
                Some(way)
            }
            (Queue::Main, reads) => {
                self.entry_mut(way).set_frequency(reads - 1);
                self.move_to(Queue::Main, way);
                None
            }
        }
    }

    /// When a queue holds nothing but pinned entries, the other one has to give.
    fn pass_over_pinned(&mut self, queue: Queue) -> Option<usize> {
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

    fn queue_to_shorten(&self) -> Queue {
        let probation = (self.len() / PROBATION).max(1);
        let small = usize::from(self.small.len);
        if small > 0 && (small >= probation || self.main.len == 0) {
            Queue::Small
        } else {
            Queue::Main
        }
    }

    fn remember(&mut self, way: usize) {
        let (fingerprint, span) = (self.entry(way).fingerprint, self.len());
        let ghosts = self.ghosts.get_or_insert_with(|| {
            Box::new(Ghosts {
                ring: [0; GHOSTS],
                next: 0,
            })
        });
        ghosts.remember(fingerprint, span);
    }

    // ---- the queues ----

    fn fifo(&mut self, queue: Queue) -> &mut Fifo {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    pub(super) fn oldest(&self, queue: Queue) -> Option<usize> {
        let head = match queue {
            Queue::Small => self.small.head,
            Queue::Main => self.main.head,
        };
        (head != NIL).then_some(usize::from(head))
    }

    /// Links an entry in at the young end.
    pub(super) fn push(&mut self, queue: Queue, way: usize) {
        let link = way as u16;
        let fifo = self.fifo(queue);
        let tail = std::mem::replace(&mut fifo.tail, link);
        fifo.len += 1;
        if tail == NIL {
            fifo.head = link;
        } else {
            self.entry_mut(usize::from(tail)).next = link;
        }
        let entry = self.entry_mut(way);
        (entry.prev, entry.next, entry.queue) = (tail, NIL, queue);
    }

    pub(super) fn unlink(&mut self, way: usize) {
        let entry = self.entry(way);
        let (prev, next, queue) = (entry.prev, entry.next, entry.queue);
        // The oldest entry's `prev` is stale: taking the oldest out leaves its successor alone,
        // which saves a touch of another cache line at each eviction.
        let is_head = usize::from(self.fifo(queue).head) == way;
        let fifo = self.fifo(queue);
        fifo.len -= 1;
        if is_head {
            fifo.head = next;
        }
        if next == NIL {
            fifo.tail = if is_head { NIL } else { prev };
        }
        if !is_head {
            self.entry_mut(usize::from(prev)).next = next;
            if next != NIL {
                self.entry_mut(usize::from(next)).prev = prev;
            }
        }
    }

    fn move_to(&mut self, queue: Queue, way: usize) {
        self.unlink(way);
        self.push(queue, way);
    }

    /// The ways of one queue, oldest first.
    fn queue(&self, queue: Queue) -> impl Iterator<Item = usize> {
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
