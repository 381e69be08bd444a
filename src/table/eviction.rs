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
//! the queues are linked by way numbers (`links.rs`), and ghosts (`ghosts.rs`) are short
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
use super::links::NIL;
use super::set::Ways;

/// Reads are counted up to this.
pub(super) const MAX_FREQUENCY: u8 = 3;

/// Reads with which an entry moves from the small queue to the main one.
const PROMOTED: u8 = 2;

/// A queue of a set.
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
    /// The queue that a key enters which no ghost remembers.
    pub(super) entrance: Queue,
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

    /// Nothing is on probation: the main queue alone is CLOCK (Corbato, "A Paging Experiment with
    /// the Multics System", 1968) with a count of up to three. For keys that are asked for for a
    /// while: a new one has a whole round in which to be read once.
    pub(super) const CLOCK: Self = Self {
        entrance: Queue::Main,
        ..Self::new(0, Memory::SHORT, 1)
    };

    const fn new(small: u16, memory: Memory, one_in: u8) -> Self {
        // The count of those that came back has four bits.
        assert!(one_in.is_power_of_two() && one_in <= 16);
        Self {
            small,
            memory,
            entrance: Queue::Small,
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

/// A queue linked through the ways (`links.rs`): `head` is the oldest.
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
        let entry = self.entry(way);
        (!entry.is_pinned()).then(|| entry.frequency())
    }

    #[inline(always)]
    fn advance(&mut self, from: Queue, to: Queue, reads: u8) {
        let Some(way) = self.oldest(from) else { return };
        let entry = self.entry_mut(way);
        entry.set_frequency(reads);
        entry.set_queue(to);
        self.drop_head(from, self.next(way));
        self.link_last(to, way);
    }

    #[inline(always)]
    fn remember(&mut self, way: usize) {
        let fingerprint = self.fingerprint(way);
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
            None => setting.entrance,
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

    pub(super) fn youngest(&self, queue: Queue) -> Option<usize> {
        let tail = self.fifo(queue).tail;
        (tail != NIL).then_some(usize::from(tail))
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

    /// Puts an entry at the young end of a queue.
    #[inline(always)]
    pub(super) fn push(&mut self, queue: Queue, way: usize) {
        self.entry_mut(way).set_queue(queue);
        self.link_last(queue, way);
    }

    /// As [`push`](Self::push), for an entry that knows its queue.
    #[inline(always)]
    pub(super) fn link_last(&mut self, queue: Queue, way: usize) {
        let link = way as u16;
        let fifo = self.fifo_mut(queue);
        let tail = std::mem::replace(&mut fifo.tail, link);
        fifo.len += 1;
        if tail == NIL {
            fifo.head = link;
        } else {
            self.set_next(usize::from(tail), link);
        }
        self.set_next(way, NIL);
    }

    /// Takes an entry out of its queue. The link of the way is left for the caller to set.
    #[inline(always)]
    pub(super) fn unlink(&mut self, way: usize) {
        let queue = self.entry(way).queue();
        let next = self.next(way);
        if usize::from(self.fifo(queue).head) == way {
            self.drop_head(queue, next);
        } else {
            self.unlink_from_within(queue, way, next);
        }
    }

    #[inline(never)]
    fn unlink_from_within(&mut self, queue: Queue, way: usize, next: u16) {
        let before = self.predecessor(way).expect("the oldest is another");
        let fifo = self.fifo_mut(queue);
        fifo.len -= 1;
        if next == NIL {
            fifo.tail = before as u16;
        }
        self.set_next(before, next);
    }

    /// The ways of one queue, oldest first.
    pub(super) fn queue(&self, queue: Queue) -> impl Iterator<Item = usize> {
        std::iter::successors(self.oldest(queue), |way| self.younger(*way))
    }

    /// The way after this one in its queue.
    #[inline]
    pub(super) fn younger(&self, way: usize) -> Option<usize> {
        let next = self.next(way);
        (next != NIL).then_some(usize::from(next))
    }

    /// The ways in use: the small queue, then the main one, each oldest first.
    pub(super) fn queue_order(&self) -> impl Iterator<Item = usize> {
        self.queue(Queue::Small).chain(self.queue(Queue::Main))
    }
}
