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

use super::eviction::{Queue, Setting};
use crate::hash::KeyHash;

/// The rows of a set.
const ROWS: usize = 12;

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
    pub(super) const SHORT: Self = Self::of(3);

    /// All there are.
    pub(super) const LONG: Self = Self::of(LANES);

    const fn of(lanes: u32) -> Self {
        Self((1 << (lanes * BITS)) - 1)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Ghosts {
    rows: [u64; ROWS],
    /// How often the keys that are in were asked for, by way.
    counts: [u8; COUNTED_WAYS],
    /// What was counted since the counts were halved, in the units of the settings.
    age: u16,
}

impl Default for Ghosts {
    fn default() -> Self {
        Self {
            rows: [0; ROWS],
            counts: [0; COUNTED_WAYS],
            age: 0,
        }
    }
}

impl Ghosts {
    /// Remembers a key that was evicted, and how often it was asked for.
    #[inline(always)]
    pub(super) fn remember(&mut self, fingerprint: u16, count: u8) {
        let row = &mut self.rows[row_of(fingerprint)];
        *row = *row << BITS | u64::from(count) << KEY_BITS | ghost_of(fingerprint);
    }

    /// Counts a new key, which takes a way. The queue that it enters; it has no ghost any more.
    #[inline(always)]
    pub(super) fn admit(&mut self, fingerprint: u16, way: usize, setting: Setting) -> Queue {
        let row = &mut self.rows[row_of(fingerprint)];
        let (queue, before) = match find(*row, ghost_of(fingerprint), setting.memory) {
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

    /// How often the key in a way was asked for.
    #[inline(always)]
    pub(super) fn count(&self, way: usize) -> u8 {
        self.counts[way.min(COUNTED_WAYS - 1)]
    }

    #[inline(always)]
    pub(super) fn set_count(&mut self, way: usize, count: u8) {
        self.counts[way.min(COUNTED_WAYS - 1)] = count;
    }

    /// Counts that the key in a way is kept for having been read.
    #[inline(always)]
    pub(super) fn count_again(&mut self, way: usize, setting: Setting) {
        self.set_count(way, (self.count(way) + 1).min(MOST));
        self.grow_older(setting);
    }

    #[inline(always)]
    fn grow_older(&mut self, setting: Setting) {
        let (age, is_over) = self.age.overflowing_add(setting.fading);
        self.age = age;
        if is_over {
            self.halve();
        }
    }

    #[cold]
    #[inline(never)]
    fn halve(&mut self) {
        for row in &mut self.rows {
            *row = *row & !COUNTS | (*row & COUNTS) >> 1 & COUNTS;
        }
        for count in &mut self.counts {
            *count >>= 1;
        }
    }

    /// What is remembered, without the counts of what is in.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> [u64; ROWS] {
        self.rows
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let lanes = self
            .rows
            .iter()
            .flat_map(|row| (0..LANES).map(move |lane| row >> (lane * BITS) & KEY));
        lanes.filter(|ghost| *ghost != 0).count()
    }
}

/// The row, mostly by the highest bits. The remainder is the fingerprint itself, and tells the
/// compiler that there is such a row.
#[inline(always)]
fn row_of(fingerprint: u16) -> usize {
    (usize::from(fingerprint) % FINGERPRINTS * ROWS) / FINGERPRINTS
}

/// What is left of a key, by the lowest bits. Zero is found in an unused lane, too, with a count of
/// zero: one key in 512 is taken for one that comes back there.
#[inline(always)]
fn ghost_of(fingerprint: u16) -> u64 {
    u64::from(fingerprint) & KEY
}

/// By how much the lane of a ghost is shifted, if it is among those in memory.
#[inline(always)]
fn find(row: u64, ghost: u64, memory: Memory) -> Option<u32> {
    let differing = (row ^ (ghost * ONES)) & KEYS;
    // The sum reaches the lowest bit of the count in every lane that differs.
    let same = !(differing + KEYS) & (ONES << KEY_BITS);
    let within = same & memory.0;
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

    fn comes_back(ghosts: &mut Ghosts, fingerprint: u16, setting: Setting) -> bool {
        ghosts.admit(fingerprint, 0, setting) == Queue::Main
    }

    #[test]
    fn ghosts_and_counts_take_a_little_more_than_two_lines() {
        assert_eq!(size_of::<Ghosts>(), 136);
    }

    #[test]
    fn a_row_is_a_queue_of_its_last_ghosts() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut ghosts = Ghosts::default();
        let mut rows: Vec<VecDeque<(u64, u8)>> = vec![VecDeque::new(); ROWS];
        for step in 0..20_000 {
            let fingerprint = fingerprint(&mut random) & 0x1C3F | 1;
            let (row, ghost) = (&mut rows[row_of(fingerprint)], ghost_of(fingerprint));
            if step % 2 == 0 {
                let count = random.u8(1..=MOST);
                ghosts.remember(fingerprint, count);
                row.push_front((ghost, count));
                row.truncate(LANES as usize);
                continue;
            }
            let (setting, lanes) = match step % 4 {
                1 => (Setting::S3_FIFO, 3),
                _ => (LONG, 5),
            };
            let expected = row.iter().take(lanes).position(|held| held.0 == ghost);
            let way = random.usize(0..60);
            ghosts.age = 0;
            let queue = ghosts.admit(fingerprint, way, setting);
            assert_eq!(queue == Queue::Main, expected.is_some(), "{step}");
            let before = expected.map_or(0, |lane| mem::take(&mut row[lane]).1);
            assert_eq!(ghosts.count(way), (before + 1).min(MOST), "{step}");
            let held = rows.iter().flatten().filter(|(ghost, _)| *ghost != 0);
            assert_eq!(ghosts.len(), held.count(), "{step}");
        }
    }

    #[test]
    fn one_in_95_is_found_by_mistake() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut ghosts = Ghosts::default();
        let mut mistakes = 0;
        for _ in 0..200_000 {
            ghosts.remember(fingerprint(&mut random), 1);
            mistakes += u32::from(comes_back(&mut ghosts, fingerprint(&mut random), LONG));
        }
        assert!((1_950..2_250).contains(&mistakes), "{mistakes}");
    }

    #[test]
    fn a_key_is_counted_up_to_seven_while_it_comes_and_goes() {
        let mut ghosts = Ghosts::default();
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
        let mut ghosts = Ghosts::default();
        (0..100).for_each(|way| ghosts.set_count(way, way as u8 % 8));
        assert!((0..37).all(|way| ghosts.count(way) == way as u8 % 8));
        assert!((37..100).all(|way| ghosts.count(way) == 3));
    }

    #[test]
    fn counts_are_halved_when_so_many_were_counted() {
        for (setting, events) in [(Setting::BALANCED, 141), (Setting::FREQUENT, 1_214)] {
            let mut ghosts = Ghosts::default();
            ghosts.remember(77, 5);
            ghosts.remember(78, 1);
            ghosts.set_count(1, 7);
            (1..events).for_each(|_| ghosts.count_again(0, setting));
            assert_eq!((ghosts.count(0), ghosts.count(1)), (7, 7));
            ghosts.count_again(0, setting);
            assert_eq!((ghosts.count(0), ghosts.count(1)), (3, 3));
            ghosts.admit(77, 2, setting);
            ghosts.admit(78, 3, setting);
            assert_eq!((ghosts.count(2), ghosts.count(3)), (3, 1));
        }
    }
}
