//! Which entry of a set goes first: S3-FIFO within the set.
//!
//! Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction",
//! SOSP 2023. New entries wait in a small queue. What was read more than once there moves to the
//! main queue; the rest leaves and is remembered by a ghost, so that a key that comes back soon
//! enters the main queue at once. The main queue is a FIFO with second chances: an entry at its
//! end that was read goes round again, with its frequency one lower.
//!
//! Where this differs: how large the small queue is, how many reads lead out of it, how far back ghosts
//! count and whether keys are weighed is a [`Setting`] of the cache (which one, `duel.rs` decides); the
//! main queue fills first, so that a loop a little larger than the cache still finds most of itself
//! (while main is under its share, what overflows the small queue moves on without having been read);
//! what leaves the main queue is remembered too; the queues belong to a set of a few dozen entries
//! and not to the cache (Adas, Einziger, Friedman, "Limited Associativity Makes Concurrent Software Caches a
//! Breeze", 2021, shows how little that costs), the queues are linked by way numbers (`links.rs`),
//! and ghosts (`ghosts.rs`) are short fingerprints.
//!
//! A setting that weighs lets nothing into the main queue for having come back. What is at the end
//! of the small queue stays if its key was asked for more often than that of the entry which the
//! main queue would give up for it, and leaves otherwise: counts (`ghosts.rs`) outlast the stay of
//! an entry, and grow when it comes back and with each round that its reads keep it for. In a loop
//! over more keys than fit all have the same count, so what is in stays in.
//!
//! The algorithm ([`Queues::choose`]) is written once. It runs on the entries of a set, and in the
//! sets that are sampled on the copies of their queues that try the other settings (`shadow.rs`).
//!
//! Every operation is O(1) but for the second chances: at most four rounds through the set, and on
//! average less than one step for each read since the last eviction.
//!
//! LRU is the small queue alone, in which an access moves an entry to the young end.

use super::ghosts::{Fading, Ghosts, Memory};
use super::links::NIL;
use super::set::Ways;
use std::ops::ControlFlow;

/// Reads are counted up to this.
pub(super) const MAX_FREQUENCY: u8 = 3;

/// More reads than are counted.
const NEVER: u8 = MAX_FREQUENCY + 1;

/// What was asked for less often is new, and not worth weighing.
const KNOWN: u8 = 2;

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
    small: u8,
    /// Reads with which an entry moves from the small queue to the main one unweighed.
    promoted: u8,
    pub(super) memory: Memory,
    /// The queue that a key enters which no ghost remembers.
    pub(super) entrance: Queue,
    /// Whether what leaves the small queue stays if it was asked for more often than what the main
    /// queue would give up for it. Otherwise, what comes back enters the main queue at once.
    weighs: bool,
    pub(super) fading: Fading,
}

impl Setting {
    /// S3-FIFO, with a fifth on probation. Over six real traces each at four sizes, 0.3 points of
    /// hit ratio more than with the paper's tenth, which suits larger queues.
    pub(super) const S3_FIFO: Self = Self::plain(51, Memory::SHORT);

    /// A fifth on probation, and what was asked for most of late stays. One read is enough to leave
    /// probation: two keep out what is new and popular, which is read once in a fifth of the set.
    pub(super) const BALANCED: Self = Self {
        promoted: 1,
        ..Self::weighing(51, Fading::SOON)
    };

    /// Only the last entry is on probation, and what was asked for most over a long time stays:
    /// LFU, but for keys so rare that they are forgotten. In a loop over more keys than fit, too,
    /// what is in stays in.
    pub(super) const FREQUENT: Self = Self::weighing(0, Fading::LATE);

    /// A fifth on probation, and whatever leaves it is weighed, however often it was read there: what
    /// W-TinyLFU does (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission
    /// Policy", ACM Transactions on Storage 2017). For keys that are asked for some times at once and
    /// never again, beside others that last.
    pub(super) const STRICT: Self = Self {
        promoted: NEVER,
        ..Self::weighing(51, Fading::LATER)
    };

    /// Most of the set is on probation, which makes it nearly a FIFO.
    pub(super) const RECENT: Self = Self::plain(192, Memory::SHORT);

    /// Nothing is on probation: the main queue alone is CLOCK (Corbato, "A Paging Experiment with
    /// the Multics System", 1968) with a count of up to three. For keys that are asked for for a
    /// while: a new one has a whole round in which to be read once.
    pub(super) const CLOCK: Self = Self {
        entrance: Queue::Main,
        ..Self::plain(0, Memory::LONG)
    };

    const fn plain(small: u8, memory: Memory) -> Self {
        Self {
            small,
            promoted: 2,
            memory,
            entrance: Queue::Small,
            weighs: false,
            fading: Fading::LATE,
        }
    }

    const fn weighing(small: u8, fading: Fading) -> Self {
        Self {
            weighs: true,
            fading,
            ..Self::plain(small, Memory::LONG)
        }
    }

    /// The queue that a key enters that comes back while a ghost remembers it.
    #[inline(always)]
    pub(super) fn returning(self) -> Queue {
        if self.weighs {
            Queue::Small
        } else {
            Queue::Main
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

    /// How often the key of an entry was asked for, as far as is known.
    fn count(&self, place: usize) -> u8;

    /// Counts that an entry is kept for having been read.
    fn count_again(&mut self, place: usize, setting: Setting);

    fn remember(&mut self, place: usize, count: u8);

    /// When a queue holds nothing but pinned entries, breaks with an entry of the other, if that has
    /// one that is not.
    fn pass_over_pinned(&self, queue: Queue) -> ControlFlow<Option<usize>>;

    /// Chooses the entry that has to go, `None` when there is none or all are pinned, and leaves
    /// a ghost of it.
    #[inline(always)]
    fn choose(&mut self, setting: Setting) -> Option<usize> {
        let entries = self.len_of(Queue::Small) + self.len_of(Queue::Main);
        let probation = setting.probation(entries);
        while self.len_of(Queue::Small) > probation {
            let reads = self.oldest(Queue::Small).and_then(|way| self.reads(way));
            let left = reads
                .unwrap_or(0)
                .saturating_sub(setting.promoted - 1)
                .min(1);
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
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(other) => return other,
                }
            };
            let needed = match queue {
                Queue::Small => setting.promoted,
                Queue::Main => 1,
            };
            if reads < needed {
                let count = self.count(oldest);
                if setting.weighs && queue == Queue::Small && count + reads >= KNOWN {
                    return self.weigh(oldest, count + reads, setting);
                }
                self.remember(oldest, count);
                return Some(oldest);
            }
            if setting.weighs {
                self.count_again(oldest, setting);
            }
            let left = match queue {
                Queue::Small => 0,
                Queue::Main => reads - 1,
            };
            self.advance(queue, Queue::Main, left);
        }
        None
    }

    /// Chooses between the oldest of the small queue, which was asked for so often, and what the
    /// main queue would give up for it.
    #[inline(never)]
    fn weigh(&mut self, candidate: usize, count: u8, setting: Setting) -> Option<usize> {
        // As above, and once round for what is pinned.
        for _ in 0..4 * self.len_of(Queue::Main) {
            let Some(oldest) = self.oldest(Queue::Main) else {
                break;
            };
            match self.reads(oldest) {
                Some(0) => {
                    let others = self.count(oldest);
                    if others >= count {
                        break;
                    }
                    self.advance(Queue::Small, Queue::Main, 0);
                    self.remember(oldest, others);
                    return Some(oldest);
                }
                Some(reads) => {
                    self.count_again(oldest, setting);
                    self.advance(Queue::Main, Queue::Main, reads - 1);
                }
                None => self.advance(Queue::Main, Queue::Main, 0),
            }
        }
        self.remember(candidate, self.count(candidate));
        Some(candidate)
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
    fn count(&self, way: usize) -> u8 {
        self.ghosts.as_ref().map_or(0, |ghosts| ghosts.count(way))
    }

    #[inline(always)]
    fn count_again(&mut self, way: usize, setting: Setting) {
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.count_again(way, setting);
        }
    }

    #[inline(always)]
    fn remember(&mut self, way: usize, count: u8) {
        let fingerprint = self.fingerprint(way);
        match &mut self.ghosts {
            Some(ghosts) => ghosts.remember(fingerprint, count),
            None => self.leave_ghost(fingerprint),
        }
    }

    #[cold]
    fn pass_over_pinned(&self, queue: Queue) -> ControlFlow<Option<usize>> {
        let other = if queue == Queue::Small {
            Queue::Main
        } else {
            Queue::Small
        };
        let all_pinned = self.queue(queue).all(|way| self.entry(way).is_pinned());
        let free = |way: &usize| !self.entry(*way).is_pinned();
        if all_pinned {
            ControlFlow::Break(self.queue(other).find(free))
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl<K, V> Ways<K, V> {
    /// The queue that a new key enters, which takes a way.
    #[inline(always)]
    pub(super) fn admission(&mut self, fingerprint: u16, way: usize, setting: Setting) -> Queue {
        match &mut self.ghosts {
            Some(ghosts) => ghosts.admit(fingerprint, way, setting),
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
        let depth = self.depth;
        let ghosts = self
            .ghosts
            .get_or_insert_with(|| Box::new(Ghosts::new(depth)));
        ghosts.remember(fingerprint, 1);
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::item::Item;
    use super::*;
    use crate::hash::KeyHash;

    type Set = Ways<u64, ()>;

    const ENTRIES: usize = 3;

    /// Looks a key up that was evicted or never there: the key that it pushes out.
    fn miss(set: &mut Set, key: u64) -> Option<u64> {
        let evicted = (set.len() == ENTRIES).then(|| {
            let way = set.victim(Setting::FREQUENT).unwrap();
            set.take(way).key
        });
        // Each key has a fingerprint of its own.
        let hash = KeyHash::at_position(key << 8);
        set.place(Item::new(hash, key, (), 1), ENTRIES, Setting::FREQUENT);
        set.validate_links();
        evicted
    }

    fn way_of(set: &Set, key: u64) -> usize {
        let mut entries = set.iter();
        entries.find(|(_, entry)| entry.key == key).unwrap().0
    }

    /// A set with the keys 1 and 2 in its main queue, and 4 on probation. 3 was evicted.
    fn set() -> Set {
        let mut set = Set::new(0);
        let evicted: Vec<_> = (1..=4).filter_map(|key| miss(&mut set, key)).collect();
        assert_eq!(evicted, [3]);
        set
    }

    #[test]
    fn what_was_asked_for_more_often_takes_the_place_of_another() {
        let mut set = set();
        let evicted = [3, 5, 4, 6, 5, 7].map(|key| miss(&mut set, key));
        // 3 and then 4 came back, and replaced 1 and 2, which had been asked for once. 5 came back,
        // too, but 3 was asked for as often.
        assert_eq!(evicted, [4, 1, 5, 2, 6, 5].map(Some));
    }

    #[test]
    fn what_was_read_goes_round_before_it_is_weighed() {
        let mut set = set();
        let first = way_of(&set, 1);
        set.entry_mut(first).count_read();
        assert_eq!([3, 5].map(|key| miss(&mut set, key)), [4, 2].map(Some));
        assert_eq!(set.entry(first).frequency(), 0);
        assert_eq!(set.queue(Queue::Main).next(), Some(first));
        assert_eq!(set.count(first), 1, "its round is counted");
    }

    #[test]
    fn what_is_pinned_is_weighed_with_nothing() {
        let mut set = set();
        let first = way_of(&set, 1);
        set.entry_mut(first).pin();
        assert_eq!([3, 5].map(|key| miss(&mut set, key)), [4, 2].map(Some));
        let third = way_of(&set, 3);
        set.entry_mut(third).pin();
        let way = way_of(&set, 5);
        assert_eq!(set.weigh(way, 7, Setting::FREQUENT), Some(way));
    }

    #[test]
    fn where_all_are_pinned_the_search_ends_at_the_first() {
        let mut set = set();
        let ways: Vec<_> = set.queue_order().collect();
        ways.iter().for_each(|way| set.entry_mut(*way).pin());
        for queue in [Queue::Small, Queue::Main] {
            assert_eq!(set.pass_over_pinned(queue), ControlFlow::Break(None));
        }
        assert_eq!(set.victim(Setting::FREQUENT), None);
        for way in ways {
            set.entry_mut(way).unpin();
            assert_eq!(set.victim(Setting::FREQUENT), Some(way));
            set.entry_mut(way).pin();
        }
    }

    #[test]
    fn counts_follow_their_keys_to_other_ways() {
        let mut set = Set::new(0);
        set.leave_ghost(1);
        for key in 0..20 {
            let hash = KeyHash::at_position(key << 8);
            let way = set.place(Item::new(hash, key, (), 1), 20, Setting::FREQUENT);
            let ghosts = set.ghosts.as_mut().unwrap();
            ghosts.set_count(way, key as u8 % 8);
        }
        for key in 0..17 {
            set.take(way_of(&set, key));
        }
        let before = set.width();
        set.shrink();
        assert!(set.width() < before);
        let counts = [17, 18, 19].map(|key| set.count(way_of(&set, key)));
        assert_eq!(counts, [1, 2, 3]);
    }
}
