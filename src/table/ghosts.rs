//! Ghosts: what a set remembers of the keys that it has evicted.
//!
//! They lie in rows, each of which is a shift register in a word: a key's fingerprint names a row
//! and leaves ten bits there, and what it pushes out at the other end has had its time. So a ghost
//! is left with one shift and looked for in one word, all at once (the search for a zero byte of
//! Warren, "Hacker's Delight", 2002, chapter 6, with wider lanes), and how far back is looked is
//! up to who looks. With the row, a ghost is told apart by 13 bits: one look-up in 140 finds
//! one by mistake when it looks at all of them.
//!
//! The bits of a word that no lane needs count the keys that came back.

use super::eviction::{Queue, Setting};
use crate::hash::KeyHash;

/// The rows of a set.
const ROWS: usize = 10;

/// The ghosts of a row.
const LANES: u32 = 6;

/// The bits of a ghost.
const BITS: u32 = 10;

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

/// The bits of all lanes.
const GHOSTS: u64 = ONES * LANE;

/// One in the count of the keys that came back, which wraps.
const RETURN: u64 = GHOSTS + 1;

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

#[derive(Clone, Debug, Default)]
pub(super) struct Ghosts {
    rows: [u64; ROWS],
}

impl Ghosts {
    /// Remembers a key that was evicted.
    #[inline(always)]
    pub(super) fn remember(&mut self, fingerprint: u16) {
        let row = &mut self.rows[row_of(fingerprint)];
        let pushed = *row << BITS & GHOSTS | ghost_of(fingerprint);
        *row = *row & !GHOSTS | pushed;
    }

    /// The queue that a new key enters. A key that comes back and is let into the main queue has
    /// no ghost any more.
    #[inline(always)]
    pub(super) fn admit(&mut self, fingerprint: u16, setting: Setting) -> Queue {
        let row = &mut self.rows[row_of(fingerprint)];
        let Some(shift) = find(*row, ghost_of(fingerprint), setting.memory) else {
            return setting.entrance;
        };
        let queue = setting.queue_of_returning(*row / RETURN);
        *row = row.wrapping_add(RETURN);
        if queue == Queue::Main {
            *row &= !(LANE << shift);
        }
        queue
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let lanes = self
            .rows
            .iter()
            .flat_map(|row| (0..LANES).map(move |lane| row >> (lane * BITS) & LANE));
        lanes.filter(|ghost| *ghost != 0).count()
    }
}

/// The row, mostly by the highest bits. The remainder is the fingerprint itself, and tells the
/// compiler that there is such a row.
#[inline(always)]
fn row_of(fingerprint: u16) -> usize {
    (usize::from(fingerprint) % FINGERPRINTS * ROWS) / FINGERPRINTS
}

/// What is left of a key, by the lowest bits. Never zero: zero marks an unused lane.
#[inline(always)]
fn ghost_of(fingerprint: u16) -> u64 {
    (u64::from(fingerprint) & LANE).max(1)
}

/// By how much the lane of a ghost is shifted, if it is among those in memory.
#[inline(always)]
fn find(row: u64, ghost: u64, memory: Memory) -> Option<u32> {
    let differing = row ^ (ghost * ONES);
    // The highest bit of a lane is set where the lane is zero, or one is below it that is.
    let zeros = differing.wrapping_sub(ONES) & !differing & (ONES << (BITS - 1));
    let within = zeros & memory.0;
    (within != 0).then(|| within.trailing_zeros() - (BITS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn comes_back(ghosts: &mut Ghosts, fingerprint: u16, setting: Setting) -> bool {
        ghosts.admit(fingerprint, setting) == Queue::Main
    }

    const HIGHEST: u16 = FINGERPRINTS as u16 - 1;

    fn fingerprint(random: &mut fastrand::Rng) -> u16 {
        random.u16(1..=HIGHEST)
    }

    /// As balanced, with all ghosts there are.
    fn long() -> Setting {
        let mut setting = Setting::BALANCED;
        setting.memory = Memory::LONG;
        setting
    }

    #[test]
    fn ghosts_take_two_bytes_for_each_of_40_entries() {
        assert_eq!(size_of::<Ghosts>(), 80);
    }

    #[test]
    fn a_row_is_a_queue_of_its_last_ghosts() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut ghosts = Ghosts::default();
        let mut rows: Vec<VecDeque<u64>> = vec![VecDeque::new(); ROWS];
        for step in 0..20_000 {
            let fingerprint = fingerprint(&mut random) & 0x1C3F;
            let (row, ghost) = (&mut rows[row_of(fingerprint)], ghost_of(fingerprint));
            if step % 2 == 0 {
                ghosts.remember(fingerprint);
                row.push_front(ghost);
                row.truncate(LANES as usize);
                continue;
            }
            let (setting, lanes) = match step % 4 {
                1 => (Setting::BALANCED, 3),
                _ => (long(), 6),
            };
            let expected = row.iter().take(lanes).position(|held| *held == ghost);
            let found = comes_back(&mut ghosts, fingerprint, setting);
            assert_eq!(found, expected.is_some(), "{step}");
            if let Some(lane) = expected {
                row[lane] = 0;
            }
            let held = rows.iter().flatten().filter(|ghost| **ghost != 0);
            assert_eq!(ghosts.count(), held.count(), "{step}");
        }
    }

    #[test]
    fn one_in_140_is_found_by_mistake() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut ghosts = Ghosts::default();
        let mut mistakes = 0;
        for _ in 0..200_000 {
            ghosts.remember(fingerprint(&mut random));
            mistakes += u32::from(comes_back(&mut ghosts, fingerprint(&mut random), long()));
        }
        assert!((1_100..1_650).contains(&mistakes), "{mistakes}");
    }

    #[test]
    fn what_is_pushed_out_of_a_row_changes_no_count() {
        let mut ghosts = Ghosts::default();
        (0..100).for_each(|_| ghosts.remember(HIGHEST));
        assert!(ghosts.rows.iter().all(|row| row / RETURN == 0));
        assert!(
            comes_back(&mut ghosts, HIGHEST, Setting::LOYAL),
            "the first is let in"
        );
    }

    #[test]
    fn a_loyal_set_admits_one_in_eight_of_those_that_come_back() {
        let mut ghosts = Ghosts::default();
        ghosts.remember(77);
        let admitted: Vec<bool> = (0..64)
            .map(|_| {
                let is_admitted = comes_back(&mut ghosts, 77, Setting::LOYAL);
                if is_admitted {
                    ghosts.remember(77);
                }
                is_admitted
            })
            .collect();
        assert_eq!(admitted.iter().filter(|is| **is).count(), 8);
        assert_eq!(ghosts.count(), 1);
    }
}
