//! A set of large values in a snapshot, a part at a time.
//!
//! Under the lock of a set its entries are encoded, and who reads one of them waits for that. So once
//! enough was encoded the rest is only noted, and encoded when the set is locked again. Entries are
//! noted by their hashes, since keys need not be `Clone`, and may have other bytes each time.
//!
//! A snapshot is made while writes go on, and the log behind its beginning is replayed over it, so an
//! entry may change, go or be written twice in between. What must not be is that one is left out that
//! was there all the time. If the set is split meanwhile, an entry is still in the first half of what
//! was its stretch of positions, or in the other, which is walked next, as a whole.

/// How many bytes of a set are enough for once.
pub(super) const ENOUGH: usize = 1 << 20;

/// Which entries of a set are for now, in one visit of all of them.
pub(super) struct Part<'a> {
    /// The hashes of those that are due, in order; `None` for all.
    due: Option<&'a [u64]>,
    /// Of a set that was begun before: the hashes of what was for now.
    taken: Vec<u64>,
    /// The hashes of what is for later.
    rest: Vec<u64>,
}

impl<'a> Part<'a> {
    pub(super) fn new(due: Option<&'a [u64]>) -> Self {
        let (taken, rest) = (Vec::new(), Vec::new());
        Self { due, taken, rest }
    }

    /// Whether an entry is for now, or, once there is enough, noted for later.
    ///
    /// Of entries with one hash, by whichever hasher, none is for later if another was for now: the
    /// next visit would not know them apart. So each visit leaves fewer hashes than were due.
    pub(super) fn takes(&mut self, has_enough: bool, hash: impl FnOnce() -> u64) -> bool {
        let Some(due) = self.due else {
            if has_enough {
                self.rest.push(hash());
            }
            return !has_enough;
        };
        let hash = hash();
        if due.binary_search(&hash).is_err() {
            return false;
        }
        let is_for_now = !has_enough || self.taken.contains(&hash);
        let hashes = match is_for_now {
            true => &mut self.taken,
            false => &mut self.rest,
        };
        hashes.push(hash);
        is_for_now
    }

    /// What is for later, if anything is.
    pub(super) fn rest(mut self) -> Option<Vec<u64>> {
        self.rest.sort_unstable();
        self.rest.dedup();
        (!self.rest.is_empty()).then_some(self.rest)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// Visits entries with these hashes until all were taken, some at a time; which were, in each
    /// visit.
    fn visits(hashes: &[u64], enough: usize) -> Vec<Vec<u64>> {
        let (mut due, mut visits) = (None, Vec::new());
        loop {
            let mut part = Part::new(due.as_deref());
            let mut taken = Vec::new();
            for hash in hashes {
                if part.takes(taken.len() >= enough, || *hash) {
                    taken.push(*hash);
                }
            }
            visits.push(taken);
            due = part.rest();
            if due.is_none() {
                return visits;
            }
        }
    }

    #[test]
    fn a_set_is_taken_a_part_at_a_time_each_entry_once() {
        assert_eq!(visits(&[], 1), [Vec::<u64>::new()]);
        assert_eq!(visits(&[9, 4], 2), [[9, 4]]);
        assert_eq!(
            visits(&[9, 4, 7, 1, 3], 2),
            [vec![9, 4], vec![7, 1], vec![3]]
        );
    }

    /// A hasher may give the same for all keys.
    #[test]
    fn entries_of_one_hash_are_taken_together_and_that_ends() {
        assert_eq!(visits(&[5; 4], 1), [vec![5], vec![5; 4]]);
        assert_eq!(visits(&[1, 5, 2, 5], 1), [vec![1], vec![5, 5], vec![2]]);
    }

    #[test]
    fn what_comes_and_goes_between_two_visits_is_neither_waited_for_nor_due() {
        let mut part = Part::new(Some(&[2, 4, 6]));
        let takes = [1, 4, 8, 2].map(|hash| part.takes(false, || hash));
        assert_eq!(takes, [false, true, false, true]);
        assert_eq!(part.rest(), None);
    }
}
