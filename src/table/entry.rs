//! An entry: a key, its value, and one word with all that the store knows of the two.
//!
//! From the highest bit, the word holds the deadline in microseconds, the part of the hash that is
//! not in the tag, and the state that the eviction policy goes by. A set is always locked for one
//! thread alone, so nothing here is atomic.

use super::eviction::{MAX_FREQUENCY, Queue};
use crate::hash::KeyHash;
use crate::time::{DEADLINE_BITS, Deadline, MICROSECOND, NEVER, whole};
use std::num::NonZeroU64;

/// How often the entry was read of late.
const COUNT: u64 = MAX_FREQUENCY as u64;

/// Set in the main queue.
const MAIN: u64 = 1 << 2;

/// The part of the state that outlives a restart: what the policy makes of an entry.
const HEAT: u64 = MAIN | COUNT;

/// Set by a read. Only the sets that are sampled clear it.
const READ: u64 = 1 << 3;

/// All that reads leave behind.
const READS: u64 = READ | COUNT;

/// Set while an entry must not be evicted.
const PINNED: u64 = 1 << 4;

/// Set while the set knows labels of the entry: what reads it anyway need not look elsewhere to
/// learn that there are none.
const LABELLED: u64 = 1 << 5;

/// Always set: a word that is never zero leaves a free slot no larger than an entry.
const IN_USE: NonZeroU64 = NonZeroU64::new(1 << 6).expect("a bit is not zero");

/// Where the part of the hash begins, and its bits.
const HASH_SHIFT: u32 = 7;
const HASH: u64 = (KeyHash::BESIDES_TAG as u64) << HASH_SHIFT;

/// Where the deadline begins, in microseconds; zero stands for one that never comes.
const DEADLINE_SHIFT: u32 = u64::BITS - DEADLINE_BITS;

const _: () = assert!(HASH >> DEADLINE_SHIFT == 0, "no part lies over another");

/// A key and its value with what the store knows of them: 8 bytes besides the two.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    word: NonZeroU64,
}

impl<K, V> Entry<K, V> {
    /// An entry that nobody has read yet, in no queue yet.
    ///
    /// Its deadline is a whole one, as all that the policy gives out.
    #[inline(always)]
    pub(crate) fn new(fingerprint: u16, key: K, value: V, deadline: Deadline) -> Self {
        let part = u64::from(fingerprint & KeyHash::BESIDES_TAG) << HASH_SHIFT;
        Self {
            key,
            value,
            word: IN_USE | part | bits_of(deadline),
        }
    }

    #[inline(always)]
    fn has(&self, bits: u64) -> bool {
        self.word.get() & bits == bits
    }

    /// Gives the bits in `mask` other values.
    #[inline(always)]
    fn change(&mut self, mask: u64, bits: u64) {
        self.word = IN_USE | self.word.get() & !mask | bits;
    }

    // ---- the end of its life ----

    #[inline(always)]
    pub(crate) fn deadline(&self) -> Deadline {
        match self.word.get() >> DEADLINE_SHIFT {
            0 => NEVER,
            microseconds => microseconds * MICROSECOND,
        }
    }

    #[inline(always)]
    pub(crate) fn set_deadline(&mut self, deadline: Deadline) {
        let others = (1 << DEADLINE_SHIFT) - 1;
        self.change(!others, bits_of(deadline));
    }

    // ---- its key ----

    /// Whether the part of the hash that is not in the tag is the same.
    #[inline(always)]
    pub(super) fn may_be_of(&self, hash: KeyHash) -> bool {
        self.part_of_hash() == hash.fingerprint() & KeyHash::BESIDES_TAG
    }

    #[inline(always)]
    pub(super) fn part_of_hash(&self) -> u16 {
        ((self.word.get() & HASH) >> HASH_SHIFT) as u16
    }

    // ---- what the eviction policy goes by ----

    /// Counts a read. Writes only while something still changes, so that a hot entry's cache line
    /// stays as it is.
    #[inline(always)]
    pub(crate) fn count_read(&mut self) {
        let word = self.word.get();
        if word & READS != READS {
            let more = u64::from(word & COUNT != COUNT);
            self.word = IN_USE | ((word | READ) + more);
        }
    }

    /// How often the entry was read of late, 0 to 3.
    #[inline(always)]
    pub(crate) fn frequency(&self) -> u8 {
        (self.word.get() & COUNT) as u8
    }

    /// What the policy makes of the entry within its queue, as it is kept while an entry moves.
    pub(super) fn reads(&self) -> u8 {
        (self.word.get() & READS) as u8
    }

    #[inline(always)]
    pub(super) fn set_reads(&mut self, reads: u8) {
        self.change(READS, u64::from(reads) & READS);
    }

    #[inline(always)]
    pub(super) fn set_frequency(&mut self, reads: u8) {
        self.change(COUNT, u64::from(reads));
    }

    /// How much the eviction policy makes of the entry: its reads of late, and 4 if it is in the
    /// main queue.
    pub(crate) fn heat(&self) -> u8 {
        (self.word.get() & HEAT) as u8
    }

    /// Takes away the mark of a read; whether it was there.
    #[inline]
    pub(super) fn take_read_mark(&mut self) -> bool {
        let is_marked = self.has(READ);
        if is_marked {
            self.change(READ, 0);
        }
        is_marked
    }

    #[inline(always)]
    pub(super) fn queue(&self) -> Queue {
        if self.has(MAIN) {
            Queue::Main
        } else {
            Queue::Small
        }
    }

    #[inline(always)]
    pub(super) fn set_queue(&mut self, queue: Queue) {
        let bit = if queue == Queue::Main { MAIN } else { 0 };
        self.change(MAIN, bit);
    }

    /// Keeps the entry from being evicted while room is made for it.
    pub(crate) fn pin(&mut self) {
        self.change(0, PINNED);
    }

    pub(crate) fn unpin(&mut self) {
        self.change(PINNED, 0);
    }

    #[inline(always)]
    pub(crate) fn is_pinned(&self) -> bool {
        self.has(PINNED)
    }

    /// Whether the entry has labels, on which it depends whether it may be seen.
    #[inline(always)]
    pub(crate) fn is_labelled(&self) -> bool {
        self.has(LABELLED)
    }

    pub(super) fn mark_labelled(&mut self, labelled: bool) {
        self.change(LABELLED, if labelled { LABELLED } else { 0 });
    }
}

/// The queue that a [heat](Entry::heat) says.
#[cfg(feature = "persist")]
pub(super) fn queue_of(heat: u8) -> Queue {
    if u64::from(heat) & MAIN == MAIN {
        Queue::Main
    } else {
        Queue::Small
    }
}

/// The part of a word that is a [whole] deadline.
#[inline(always)]
fn bits_of(deadline: Deadline) -> u64 {
    debug_assert_eq!(deadline, whole(deadline));
    match deadline {
        NEVER => 0,
        _ => (deadline / MICROSECOND) << DEADLINE_SHIFT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(fingerprint: u16, deadline: Deadline) -> Entry<u64, u64> {
        Entry::new(fingerprint, 1, 2, deadline)
    }

    #[test]
    fn a_free_slot_is_no_larger_than_an_entry_and_takes_eight_bytes_besides_its_pair() {
        assert_eq!(size_of::<Option<Entry<u64, u64>>>(), 24);
        assert_eq!(size_of::<Option<Entry<String, u64>>>(), 40);
    }

    #[test]
    fn whole_deadlines_are_kept() {
        let last = (MICROSECOND << DEADLINE_BITS) - MICROSECOND;
        for deadline in [MICROSECOND, 5_000, last, NEVER] {
            assert_eq!(entry(1, deadline).deadline(), deadline);
        }
    }

    /// What each change may do to an entry, one after the other.
    #[derive(Clone, Debug)]
    enum Change {
        Deadline(u64),
        Reads(u8),
        Read,
        TakeMark,
        Main(bool),
        Pinned(bool),
        Labelled(bool),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (1..1u64 << DEADLINE_BITS).prop_map(|whole| Change::Deadline(whole * MICROSECOND)),
            Just(Change::Deadline(NEVER)),
            (0..=MAX_FREQUENCY).prop_map(Change::Reads),
            Just(Change::Read),
            Just(Change::TakeMark),
            any::<bool>().prop_map(Change::Main),
            any::<bool>().prop_map(Change::Pinned),
            any::<bool>().prop_map(Change::Labelled),
        ]
    }

    proptest! {
        #[test]
        fn no_part_of_the_word_touches_another(
            part in 0..=KeyHash::BESIDES_TAG,
            changes in prop::collection::vec(change(), 0..30),
        ) {
            let mut entry = entry(part, 5_000);
            let (mut deadline, mut reads, mut marked) = (5_000, 0, false);
            let (mut main, mut pinned, mut labelled) = (false, false, false);
            for change in changes {
                match change {
                    Change::Deadline(at) => { entry.set_deadline(at); deadline = at; }
                    Change::Reads(count) => { entry.set_frequency(count); reads = count; }
                    Change::Read => {
                        entry.count_read();
                        (reads, marked) = (MAX_FREQUENCY.min(reads + 1), true);
                    }
                    Change::TakeMark => {
                        prop_assert_eq!(entry.take_read_mark(), marked);
                        marked = false;
                    }
                    Change::Main(is) => {
                        entry.set_queue(if is { Queue::Main } else { Queue::Small });
                        main = is;
                    }
                    Change::Pinned(is) => {
                        if is { entry.pin() } else { entry.unpin() }
                        pinned = is;
                    }
                    Change::Labelled(is) => { entry.mark_labelled(is); labelled = is; }
                }
                prop_assert_eq!(entry.deadline(), deadline);
                prop_assert_eq!(entry.part_of_hash(), part);
                prop_assert_eq!(entry.heat(), reads | if main { 4 } else { 0 });
                prop_assert_eq!(entry.queue() == Queue::Main, main);
                prop_assert_eq!(entry.is_pinned(), pinned);
                prop_assert_eq!(entry.is_labelled(), labelled);
            }
        }
    }
}
