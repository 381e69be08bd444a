//! Hashing: the default hasher and how one hash is cut into the parts that a set needs.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// The hasher that a [`Cache`](crate::Cache) uses unless the builder is given another: `ahash`,
/// with keys drawn from the system's generator for each cache, so that nobody outside can choose
/// keys that collide.
#[derive(Clone)]
pub struct DefaultHashBuilder(ahash::RandomState);

impl Default for DefaultHashBuilder {
    fn default() -> Self {
        // The standard library seeds its RandomState from the system; four words from one of them
        // save a dependency on a second generator.
        let source = RandomState::new();
        let word = |index: u64| source.hash_one(index);
        Self(ahash::RandomState::with_seeds(
            word(0),
            word(1),
            word(2),
            word(3),
        ))
    }
}

impl fmt::Debug for DefaultHashBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DefaultHashBuilder")
    }
}

impl BuildHasher for DefaultHashBuilder {
    type Hasher = DefaultHasher;

    #[inline]
    fn build_hasher(&self) -> DefaultHasher {
        DefaultHasher(self.0.build_hasher())
    }
}

/// The hasher that [`DefaultHashBuilder`] builds.
#[derive(Clone)]
pub struct DefaultHasher(ahash::AHasher);

impl fmt::Debug for DefaultHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DefaultHasher")
    }
}

macro_rules! forward {
    ($($method:ident($type:ty)),*) => {
        impl Hasher for DefaultHasher {
            #[inline]
            fn finish(&self) -> u64 {
                self.0.finish()
            }
            $(#[inline]
            fn $method(&mut self, value: $type) {
                self.0.$method(value);
            })*
        }
    };
}
forward!(
    write(&[u8]),
    write_u8(u8),
    write_u16(u16),
    write_u32(u32),
    write_u64(u64),
    write_u128(u128),
    write_usize(usize)
);

/// The hash of a key, mixed once more, and the parts of it.
///
/// The low 32 bits name the set, the top 13 are the fingerprint, the first eight of which the tag.
/// A hasher of the user's may leave any of these constant (an identity hash of small integers has
/// no high bits), so every hash goes through one folded multiplication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) const FINGERPRINT_BITS: u32 = 13;

    /// The bits of a fingerprint that are not in the tag.
    pub(crate) const BESIDES_TAG: u16 = (1 << (Self::FINGERPRINT_BITS - 8)) - 1;

    #[inline]
    pub(crate) fn of<Q: Hash + ?Sized>(hasher: &impl BuildHasher, key: &Q) -> Self {
        // 2^64 divided by the golden ratio, made odd: Fibonacci hashing (Knuth, TAOCP 6.4).
        let product = u128::from(hasher.hash_one(key)) * 0x9E37_79B9_7F4A_7C15;
        Self((product as u64) ^ ((product >> 64) as u64))
    }

    /// All of it.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The bits that name the set, lowest first.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// One byte per way in the hot line of a set. Never zero: zero marks a free way.
    #[inline]
    pub(crate) fn tag(self) -> u8 {
        ((self.0 >> 56) as u8).max(1)
    }

    /// The tag and as many more bits as an entry has room for. Never zero, as the tag is not.
    #[inline]
    pub(crate) fn fingerprint(self) -> u16 {
        fingerprint(
            self.tag(),
            (self.0 >> (64 - Self::FINGERPRINT_BITS)) as u16 & Self::BESIDES_TAG,
        )
    }

    /// The place of this hash in the order in which `scan` walks the table.
    ///
    /// Sets split by one more low bit at a time. In the order of the reversed bits, the two halves
    /// of a set are neighbours, so a position stays valid while the table grows.
    #[inline]
    pub(crate) fn position(self) -> u64 {
        self.0.reverse_bits()
    }

    /// The hash at a position.
    pub(crate) fn at_position(position: u64) -> Self {
        Self(position.reverse_bits())
    }
}

/// A fingerprint of its two parts.
#[inline(always)]
pub(crate) fn fingerprint(tag: u8, besides: u16) -> u16 {
    u16::from(tag) << KeyHash::BESIDES_TAG.count_ones() | besides
}

/// The tag in a fingerprint.
#[inline(always)]
pub(crate) fn tag_of(fingerprint: u16) -> u8 {
    (fingerprint >> KeyHash::BESIDES_TAG.count_ones()) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Identity(u64);
    impl Hasher for Identity {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, _: &[u8]) {
            unreachable!("only integers are hashed here")
        }
        fn write_u64(&mut self, value: u64) {
            self.0 = value;
        }
    }

    #[test]
    fn an_identity_hash_still_spreads_over_sets_tags_and_fingerprints() {
        let hasher = std::hash::BuildHasherDefault::<Identity>::default();
        let hashes: Vec<_> = (0..4096u64).map(|key| KeyHash::of(&hasher, &key)).collect();
        let distinct = |part: &dyn Fn(KeyHash) -> u64| {
            hashes
                .iter()
                .map(|hash| part(*hash))
                .collect::<std::collections::HashSet<_>>()
                .len()
        };
        assert!(distinct(&|hash| hash.index() as u64 & 1023) > 950);
        assert!(distinct(&|hash| u64::from(hash.tag())) > 240);
        assert!(distinct(&|hash| u64::from(hash.fingerprint())) > 3500);
    }

    #[test]
    fn two_caches_hash_the_same_key_differently() {
        let key = 7u64;
        let one = KeyHash::of(&DefaultHashBuilder::default(), &key);
        let other = KeyHash::of(&DefaultHashBuilder::default(), &key);
        assert_ne!(one, other);
    }
}
