//! The tag bytes of a set, eight to a word, compared without a branch.
//!
//! Arithmetic on whole words, with no intrinsics. Unlike the usual trick
//! (`(x - 0x01…) & !x & 0x80…`), this form has no false positives, so it also finds free ways. The
//! result for up to eight words is one bit set: a loop over the words that ended at the first
//! match would end at an unpredictable one, and the processor would guess wrong at every look-up.

/// Ways that share a word.
pub(super) const GROUP: usize = 8;

const LOW: u64 = 0x0101_0101_0101_0101;
const SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// A tag in each byte of a word.
#[inline]
pub(super) fn spread(tag: u8) -> u64 {
    u64::from(tag) * LOW
}

/// The ways among up to eight words whose tag is the one that `spread` holds.
#[inline]
pub(super) fn matching(words: &[u64], spread: u64) -> Matches {
    debug_assert!(words.len() <= 8);
    let mut bits = 0;
    for (number, word) in words.iter().enumerate() {
        let different = word ^ spread;
        // The sum carries into the top bit of a byte when any of its lower seven bits is set.
        let sum = (different & SEVEN) + SEVEN;
        bits |= (!(sum | different | SEVEN) >> 7) << number;
    }
    Matches(bits)
}

#[inline]
pub(super) fn get(group: u64, way: usize) -> u8 {
    (group >> (way % GROUP * 8)) as u8
}

#[inline]
pub(super) fn set(group: &mut u64, way: usize, tag: u8) {
    let shift = way % GROUP * 8;
    *group = *group & !(0xff << shift) | u64::from(tag) << shift;
}

/// The ways that matched: bit `8 * byte + word` stands for that byte of that word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matches(u64);

impl Iterator for Matches {
    type Item = usize;

    #[inline]
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
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            let words = random.usize(1..=8);
            let bytes: Vec<u8> = (0..words * GROUP)
                .map(|_| random.choice([0, 1, 2, 0x7f, 0x80, 0xff]).unwrap())
                .collect();
            let tag = bytes[random.usize(0..bytes.len())];
            let equal: Vec<usize> = (0..bytes.len()).filter(|way| bytes[*way] == tag).collect();
            let packed: Vec<u64> = bytes
                .chunks(8)
                .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
                .collect();
            let mut found: Vec<usize> = matching(&packed, spread(tag)).collect();
            found.sort_unstable();
            assert_eq!(found, equal, "{bytes:?} {tag}");
        }
    }

    #[test]
    fn a_tag_is_set_without_touching_its_neighbours() {
        let mut group = 0x1122_3344_5566_7788;
        set(&mut group, 11, 0xee);
        assert_eq!(group, 0x1122_3344_ee66_7788);
        assert_eq!(get(group, 3), 0xee);
    }
}
