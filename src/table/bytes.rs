//! The tag bytes of a set, compared without a branch.
//!
//! The comparison of a group is written so that compilers make vector instructions of it: equal
//! bytes become a mark, whose bit is the number of their group of eight, and the groups are laid
//! over one another. The result for up to eight groups is one bit set: a loop that ended at the
//! first match would end at an unpredictable one, and the processor would guess wrong at every
//! look-up.

/// Ways whose marks share a bit.
const GROUP: usize = 8;

/// The ways among up to 64 whose tag is this one.
///
/// Zero marks a way that is free.
#[inline(always)]
pub(super) fn matching<const WAYS: usize>(tags: &[u8; WAYS], tag: u8) -> Matches {
    const { assert!(WAYS <= 64 && WAYS.is_multiple_of(GROUP)) };
    let mut marks = [0; WAYS];
    for way in 0..WAYS {
        marks[way] = if tags[way] == tag {
            1 << (way / GROUP)
        } else {
            0
        };
    }
    let (groups, _) = marks.as_chunks::<GROUP>();
    let words = groups.iter().map(|group| u64::from_le_bytes(*group));
    Matches(words.fold(0, |all, word| all | word))
}

/// The ways that matched: bit `8 * place + group` stands for a place in a group of eight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matches(u64);

impl Matches {
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those past the first so many ways, which are whole groups.
    #[inline(always)]
    pub(super) fn past_first(self, ways: usize) -> Self {
        debug_assert!(ways.is_multiple_of(GROUP));
        let groups_before = (1 << (ways / GROUP)) - 1;
        Self(self.0 & !u64::from_le_bytes([groups_before; GROUP]))
    }
}

impl Iterator for Matches {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit % 8 * GROUP + bit / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_equal_bytes_match() {
        check::<8>();
        check::<24>();
        check::<40>();
        check::<64>();
    }

    fn check<const WAYS: usize>() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..3_000 {
            let few = [0, 1, 2, 0x7f, 0x80, 0xff];
            let tags: [u8; WAYS] = std::array::from_fn(|_| random.choice(few).unwrap());
            let tag = tags[random.usize(0..WAYS)];
            let equal: Vec<usize> = (0..WAYS).filter(|way| tags[*way] == tag).collect();
            let mut found: Vec<usize> = matching(&tags, tag).collect();
            found.sort_unstable();
            assert_eq!(found, equal, "{tags:?} {tag}");
            let first = random.usize(0..WAYS / GROUP) * GROUP;
            let past = matching(&tags, tag).past_first(first).count();
            let expected = equal.iter().filter(|way| **way >= first).count();
            assert_eq!(past, expected, "{tags:?} {tag} past {first}");
        }
    }
}
