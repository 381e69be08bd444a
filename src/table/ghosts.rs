//! Ghosts: what a set remembers of the keys that it has evicted, and how often each was asked for.
//!
//! They lie in rows, each of which is a shift register in a word: a key's fingerprint names a row
//! and leaves nine bits there with a count, and what it pushes out at the other end has had its
//! time. So a ghost is left with one shift and looked for in one word, all at once (the search for
//! a zero byte of Warren, "Hacker's Delight", 2002, chapter 6, with wider lanes), and how far back
//! is looked is up to who looks. With the row, a ghost is told apart by 12.4 bits: one look-up in
//! 95 finds one by mistake when it looks at all of them.
//!
//! A key that comes back takes its count up again, one higher, and leaves it behind when it is
//! evicted once more. So rarer keys are known for what they are, for longer than they stay: what
//! the sketch of TinyLFU is for (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache
//! Admission Policy", ACM Transactions on Storage 2017). Two bytes for each entry are too few for a
//! sketch, which keys that come once fill; here they are forgotten first. As there, all counts are
//! halved now and then.
//!
//! Sets of a small table have three times the rows, since a cache that holds few keys has to tell
//! rare ones apart. That takes 328 bytes more for a set: little in a table of up to 128 sets, and
//! too much in one of a million, which has less to gain. One row of a large table stands for three
//! of a small one, so a set of a table that grows forgets what is in two of them, and finds the
//! rest. Of that many ghosts one look-up in 46 finds one by mistake: a fingerprint has no more bits
//! for them.

use super::eviction::{Queue, Setting};
use crate::hash::KeyHash;
use std::array;
use std::num::NonZero;

/// The rows of a set.
const FEW_ROWS: usize = 12;

/// So many of a small table stand for one of a large one.
const PARTS: usize = 3;

/// The rows of a set of a small table.
const MANY_ROWS: usize = FEW_ROWS * PARTS;

/// A table whose sets stand for no more bits of a hash is small.
pub(super) const SMALL_DEPTH: u8 = 7;

/// The ghosts of a row.
const LANES: u32 = 5;

/// The bits of a ghost that tell keys apart.
const KEY_BITS: u32 = 9;

/// The bits of a ghost: the key's, and above them a count.
const BITS: u32 = KEY_BITS + 3;

/// Keys are counted up to this.
const MOST: u8 = 7;

/// So many fingerprints there are.
const FINGERPRINTS: usize = 1 << KeyHash::FINGERPRINT_BITS;

/// One in each lane.
const ONES: u64 = {
    let (mut ones, mut lane) = (0, 0);
    while lane < LANES {
        ones |= 1 << (lane * BITS);
        lane += 1;
    }
    ones
};

/// The bits of one lane.
const LANE: u64 = (1 << BITS) - 1;

/// The bits of one lane that tell keys apart.
const KEY: u64 = (1 << KEY_BITS) - 1;

/// The bits of all lanes that tell keys apart, and those that count.
const KEYS: u64 = ONES * KEY;
const COUNTS: u64 = ONES * (LANE - KEY);

/// So many ways have a count of their own. Those past them, which few sets have, share the last.
const COUNTED_WAYS: usize = 38;

/// How far back is looked: the bits of the youngest ghosts of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory(u64);

impl Memory {
    /// About as many of the last keys as a set has entries.
    pub(super) const SHORT: Self = Self(first_lanes(3));

    /// All there are.
    pub(super) const LONG: Self = Self(first_lanes(LANES));

    /// In so many rows.
    #[inline(always)]
    fn lanes(self, rows: usize) -> u64 {
        if rows == FEW_ROWS || self == Self::LONG {
            self.0
        } else {
            first_lanes(1)
        }
    }
}

const fn first_lanes(lanes: u32) -> u64 {
    (1 << (lanes * BITS)) - 1
}

/// How soon counts are halved: the parts of the time between two halvings, in 65,536ths, that pass
/// with each that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fading {
    usual: u16,
    with_many_rows: u16,
}

impl Fading {
    /// After four to seven times as many as a set has entries, which follows changes.
    pub(super) const SOON: Self = Self {
        usual: u16::MAX / 140,
        with_many_rows: u16::MAX / 140,
    };

    /// After ten to twenty times as many.
    pub(super) const LATER: Self = Self {
        usual: u16::MAX / 400,
        with_many_rows: u16::MAX / 400,
    };

    /// After thirty to sixty times as many, or twice that where more keys are remembered, which
    /// tells rarer ones apart.
    pub(super) const LATE: Self = Self {
        usual: u16::MAX / 1_200,
        with_many_rows: u16::MAX / 2_400,
    };

    /// With so many rows.
    #[inline(always)]
    fn step(self, rows: usize) -> u16 {
        if rows == FEW_ROWS {
            self.usual
        } else {
            self.with_many_rows
        }
    }
}

/// The ghosts of a set: few in a large table, many in a small one.
#[derive(Clone, Debug)]
pub(super) enum Ghosts {
    Few(Rows<FEW_ROWS>),
    Many(Box<Rows<MANY_ROWS>>),
}

impl Ghosts {
    /// None yet, in a set that stands for so many bits of a hash.
    pub(super) fn new(depth: u8) -> Self {
        if is_small(depth) {
            Self::Many(Box::default())
        } else {
            Self::Few(Rows::default())
        }
    }

    /// Follows a set that was split. What a large table has no room for is forgotten.
    pub(super) fn set_depth(&mut self, depth: u8) {
        match self {
            Self::Many(rows) if !is_small(depth) => *self = Self::Few(rows.without_most()),
            _ => {}
        }
    }

    /// Whether there are as many rows as in a set that stands for so many bits of a hash.
    pub(super) fn has_size_of(&self, depth: u8) -> bool {
        matches!(self, Self::Many(_)) == is_small(depth)
    }

    /// Remembers a key that was evicted, and how often it was asked for.
    #[inline(always)]
    pub(super) fn remember(&mut self, fingerprint: u16, count: u8) {
        match self {
            Self::Few(rows) => rows.remember(fingerprint, count),
            Self::Many(rows) => rows.remember(fingerprint, count),
        }
    }

    /// Counts a new key, which takes a way. The queue that it enters; it has no ghost any more.
    #[inline(always)]
    pub(super) fn admit(&mut self, fingerprint: u16, way: usize, setting: Setting) -> Queue {
        match self {
            Self::Few(rows) => rows.admit(fingerprint, way, setting),
            Self::Many(rows) => rows.admit(fingerprint, way, setting),
        }
    }

    /// How often the key in a way was asked for.
    #[inline(always)]
    pub(super) fn count(&self, way: usize) -> u8 {
        match self {
            Self::Few(rows) => rows.count(way),
            Self::Many(rows) => rows.count(way),
        }
    }

    #[inline(always)]
    pub(super) fn set_count(&mut self, way: usize, count: u8) {
        match self {
            Self::Few(rows) => rows.set_count(way, count),
            Self::Many(rows) => rows.set_count(way, count),
        }
    }

    /// Counts that the key in a way is kept for having been read.
    #[inline(always)]
    pub(super) fn count_again(&mut self, way: usize, setting: Setting) {
        match self {
            Self::Few(rows) => rows.count_again(way, setting),
            Self::Many(rows) => rows.count_again(way, setting),
        }
    }

    /// What is remembered, without the counts of what is in.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> &[u64] {
        match self {
            Self::Few(rows) => &rows.rows,
            Self::Many(rows) => &rows.rows,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let rows = self.remembered().iter();
        let lanes = rows.flat_map(|row| (0..LANES).map(move |lane| row >> (lane * BITS) & KEY));
        lanes.filter(|ghost| *ghost != 0).count()
    }
}

/// Ghosts in so many rows, and the counts of what is in the set.
#[derive(Clone, Debug)]
pub(super) struct Rows<const ROWS: usize> {
    rows: [u64; ROWS],
    /// How often the keys that are in were asked for, by way.
    counts: [u8; COUNTED_WAYS],
    /// What was counted since the counts were halved. Never zero, which tells [`Ghosts`] apart and
    /// saves a word for it.
    age: NonZero<u16>,
}

impl<const ROWS: usize> Default for Rows<ROWS> {
    fn default() -> Self {
        Self {
            rows: [0; ROWS],
            counts: [0; COUNTED_WAYS],
            age: NonZero::<u16>::MIN,
        }
    }
}

impl Rows<MANY_ROWS> {
    /// What fits into few rows: of those that stand for one of them, the first.
    fn without_most(&self) -> Rows<FEW_ROWS> {
        Rows {
            rows: array::from_fn(|row| self.rows[row * PARTS]),
            counts: self.counts,
            age: self.age,
        }
    }
}

impl<const ROWS: usize> Rows<ROWS> {
    #[inline(always)]
    fn remember(&mut self, fingerprint: u16, count: u8) {
        let row = &mut self.rows[row_of::<ROWS>(fingerprint)];
        *row = *row << BITS | u64::from(count) << KEY_BITS | ghost_of(fingerprint);
    }

    #[inline(always)]
    fn admit(&mut self, fingerprint: u16, way: usize, setting: Setting) -> Queue {
        let row = &mut self.rows[row_of::<ROWS>(fingerprint)];
        let lanes = setting.memory.lanes(ROWS);
        let (queue, before) = match find(*row, ghost_of(fingerprint), lanes) {
            None => (setting.entrance, 0),
            Some(shift) => {
                let ghost = *row >> shift;
                *row ^= (ghost & LANE) << shift;
                (setting.returning(), (ghost & LANE) >> KEY_BITS)
            }
        };
        self.set_count(way, (before as u8 + 1).min(MOST));
        self.grow_older(setting);
        queue
    }

    #[inline(always)]
    fn count(&self, way: usize) -> u8 {
        self.counts[way.min(COUNTED_WAYS - 1)]
    }

    #[inline(always)]
    fn set_count(&mut self, way: usize, count: u8) {
        self.counts[way.min(COUNTED_WAYS - 1)] = count;
    }

    #[inline(always)]
    fn count_again(&mut self, way: usize, setting: Setting) {
        self.set_count(way, (self.count(way) + 1).min(MOST));
        self.grow_older(setting);
    }

    #[inline(always)]
    fn grow_older(&mut self, setting: Setting) {
        match self.age.checked_add(setting.fading.step(ROWS)) {
            Some(age) => self.age = age,
            None => self.halve(),
        }
    }

    #[cold]
    #[inline(never)]
    fn halve(&mut self) {
        self.age = NonZero::<u16>::MIN;
        for row in &mut self.rows {
            *row = *row & !COUNTS | (*row & COUNTS) >> 1 & COUNTS;
        }
        for count in &mut self.counts {
            *count >>= 1;
        }
    }
}

fn is_small(depth: u8) -> bool {
    depth <= SMALL_DEPTH
}

/// The row, mostly by the highest bits. The remainder is the fingerprint itself, and tells the
/// compiler that there is such a row.
#[inline(always)]
fn row_of<const ROWS: usize>(fingerprint: u16) -> usize {
    (usize::from(fingerprint) % FINGERPRINTS * ROWS) / FINGERPRINTS
}

/// What is left of a key, by the lowest bits. Zero is found in an unused lane, too, with a count of
/// zero: one key in 512 is taken for one that comes back there.
#[inline(always)]
fn ghost_of(fingerprint: u16) -> u64 {
    u64::from(fingerprint) & KEY
}

/// By how much the lane of a ghost is shifted, if it is among those that are looked at.
#[inline(always)]
fn find(row: u64, ghost: u64, lanes: u64) -> Option<u32> {
    let differing = (row ^ (ghost * ONES)) & KEYS;
    // The sum reaches the lowest bit of the count in every lane that differs.
    let same = !(differing + KEYS) & (ONES << KEY_BITS);
    let within = same & lanes;
    (within != 0).then(|| within.trailing_zeros() - KEY_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::mem;

    const HIGHEST: u16 = FINGERPRINTS as u16 - 1;

    fn fingerprint(random: &mut fastrand::Rng) -> u16 {
        random.u16(1..=HIGHEST)
    }

    /// With all ghosts there are.
    const LONG: Setting = {
        let mut setting = Setting::S3_FIFO;
        setting.memory = Memory::LONG;
        setting
    };

    /// The depths of sets in tables of either size.
    const DEPTHS: [u8; 2] = [SMALL_DEPTH, SMALL_DEPTH + 1];

    fn of_large_table() -> Ghosts {
        Ghosts::new(SMALL_DEPTH + 1)
    }

    fn comes_back(ghosts: &mut Ghosts, fingerprint: u16, setting: Setting) -> bool {
        ghosts.admit(fingerprint, 0, setting) == Queue::Main
    }

    #[test]
    fn ghosts_and_counts_take_a_little_more_than_two_lines() {
        assert_eq!(size_of::<Ghosts>(), 136);
    }

    #[test]
    fn a_row_is_a_queue_of_its_last_ghosts() {
        // How many rows there are, and how many of the lanes are a short memory.
        for (depth, row_count, short) in [(SMALL_DEPTH + 1, 12, 3), (SMALL_DEPTH, 36, 1)] {
            follow_queues(Ghosts::new(depth), row_count, short);
        }
    }

    fn follow_queues(mut ghosts: Ghosts, row_count: usize, short: usize) {
        let mut random = fastrand::Rng::with_seed(3);
        let mut rows: Vec<VecDeque<(u64, u8)>> = vec![VecDeque::new(); row_count];
        for step in 0..20_000 {
            let fingerprint = fingerprint(&mut random) & 0x1FC7 | 1;
            let at = usize::from(fingerprint) * row_count / FINGERPRINTS;
            let (row, ghost) = (&mut rows[at], ghost_of(fingerprint));
            if step % 2 == 0 {
                let count = random.u8(1..=MOST);
                ghosts.remember(fingerprint, count);
                row.push_front((ghost, count));
                row.truncate(LANES as usize);
                continue;
            }
            let (setting, lanes) = match step % 4 {
                1 => (Setting::S3_FIFO, short),
                _ => (LONG, 5),
            };
            let expected = row.iter().take(lanes).position(|held| held.0 == ghost);
            let way = random.usize(0..60);
            if let Ghosts::Few(rows) = &mut ghosts {
                rows.age = NonZero::<u16>::MIN;
            }
            if let Ghosts::Many(rows) = &mut ghosts {
                rows.age = NonZero::<u16>::MIN;
            }
            let queue = ghosts.admit(fingerprint, way, setting);
            assert_eq!(queue == Queue::Main, expected.is_some(), "{step}");
            let before = expected.map_or(0, |lane| mem::take(&mut row[lane]).1);
            assert_eq!(ghosts.count(way), (before + 1).min(MOST), "{step}");
            let held = rows.iter().flatten().filter(|(ghost, _)| *ghost != 0);
            assert_eq!(ghosts.len(), held.count(), "{step}");
        }
    }

    fn mistakes_in_200_000(mut ghosts: Ghosts) -> u32 {
        let mut random = fastrand::Rng::with_seed(4);
        let mut mistakes = 0;
        for _ in 0..200_000 {
            ghosts.remember(fingerprint(&mut random), 1);
            mistakes += u32::from(comes_back(&mut ghosts, fingerprint(&mut random), LONG));
        }
        mistakes
    }

    #[test]
    fn one_in_95_is_found_by_mistake_and_one_in_46_of_a_small_table() {
        let [small, large] = DEPTHS.map(|depth| mistakes_in_200_000(Ghosts::new(depth)));
        assert!((1_950..2_250).contains(&large), "{large}");
        assert!((4_150..4_550).contains(&small), "{small}");
    }

    #[test]
    fn a_small_table_remembers_three_times_as_many() {
        let [small, large] = DEPTHS.map(|depth| {
            let mut random = fastrand::Rng::with_seed(5);
            let mut ghosts = Ghosts::new(depth);
            (0..10_000).for_each(|_| ghosts.remember(fingerprint(&mut random) | 1, 1));
            ghosts.len()
        });
        assert_eq!((small, large), (180, 60));
    }

    #[test]
    fn a_set_of_a_table_that_has_grown_finds_what_it_still_remembers() {
        let [small, large] = DEPTHS;
        let mut ghosts = Ghosts::new(small);
        // One for each row and count, and with a different key in each.
        let keys = (0..36).map(|row: u16| row * 228 + 1 + row);
        for key in keys.clone() {
            ghosts.remember(key, (key % 7) as u8);
        }
        (0..3).for_each(|way| ghosts.set_count(way, 5));
        ghosts.set_depth(small);
        assert_eq!(ghosts.len(), 36, "it is small yet");
        ghosts.set_depth(large);
        assert!(ghosts.has_size_of(large));
        assert_eq!(ghosts.len(), 12);
        assert_eq!([0, 1, 2].map(|way| ghosts.count(way)), [5; 3]);
        let mut found = 0;
        for key in keys {
            if comes_back(&mut ghosts, key, LONG) {
                assert_eq!(ghosts.count(0), (key % 7) as u8 + 1);
                found += 1;
            }
        }
        assert_eq!(found, 12);
        assert_eq!(ghosts.len(), 0);
    }

    #[test]
    fn a_key_is_counted_up_to_seven_while_it_comes_and_goes() {
        let mut ghosts = of_large_table();
        let counts: Vec<u8> = (0..9)
            .map(|_| {
                assert_eq!(ghosts.admit(77, 5, Setting::FREQUENT), Queue::Small);
                ghosts.remember(77, ghosts.count(5));
                ghosts.count(5)
            })
            .collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 7, 7]);
        assert_eq!(ghosts.len(), 1);
        (0..3).for_each(|_| ghosts.count_again(9, Setting::FREQUENT));
        assert_eq!((ghosts.count(9), ghosts.count(8)), (3, 0));
    }

    #[test]
    fn the_last_ways_share_a_count() {
        let mut ghosts = of_large_table();
        (0..100).for_each(|way| ghosts.set_count(way, way as u8 % 8));
        assert!((0..37).all(|way| ghosts.count(way) == way as u8 % 8));
        assert!((37..100).all(|way| ghosts.count(way) == 3));
    }

    #[test]
    fn counts_are_halved_when_so_many_were_counted() {
        let [small, large] = DEPTHS;
        let cases = [
            (large, Setting::BALANCED, 141),
            (large, Setting::FREQUENT, 1_214),
            (small, Setting::BALANCED, 141),
            (small, Setting::FREQUENT, 2_428),
        ];
        for (depth, setting, events) in cases {
            let mut ghosts = Ghosts::new(depth);
            // In rows of each kind.
            for key in [77, 987, 1_897] {
                ghosts.remember(key, 5);
                ghosts.remember(key + 1, 1);
            }
            ghosts.set_count(1, 7);
            (1..events).for_each(|_| ghosts.count_again(0, setting));
            assert_eq!((ghosts.count(0), ghosts.count(1)), (7, 7));
            ghosts.count_again(0, setting);
            assert_eq!((ghosts.count(0), ghosts.count(1)), (3, 3));
            for key in [77, 987, 1_897] {
                ghosts.admit(key, 2, setting);
                ghosts.admit(key + 1, 3, setting);
                assert_eq!((ghosts.count(2), ghosts.count(3)), (3, 1));
            }
        }
    }
}
