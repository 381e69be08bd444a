//! The keys and values that the peers are given.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// A kind of key. Keys are made from numbers, so that all peers get the same ones.
pub trait Key: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// How stretto turns such a key into the 64 bits that it stores in its place.
    type StrettoKeys: stretto::KeyBuilder<Key = Self> + Default + Send + Sync + 'static;

    fn make(number: u64) -> Self;

    /// What a server is sent.
    fn bytes(&self) -> Vec<u8>;
}

/// A kind of value.
pub trait Value: Clone + Debug + Send + Sync + 'static {
    /// Bytes on the heap that belong to one value.
    const HEAP: usize;

    fn make(number: u64) -> Self;

    fn bytes(&self) -> Vec<u8>;

    fn parse(bytes: &[u8]) -> Self;
}

/// Spreads the numbers over all 64 bits, one to one, so that keys that follow one another are no
/// neighbours in any table (the finaliser of SplitMix64).
pub fn spread(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Key for u64 {
    // What stretto's documentation recommends for integers. Its inner map hashes them again.
    type StrettoKeys = stretto::TransparentKeyBuilder<u64>;

    fn make(number: u64) -> Self {
        spread(number)
    }

    fn bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl Key for String {
    type StrettoKeys = crate::peers::stretto::HashedKeys<String>;

    fn make(number: u64) -> Self {
        format!("key:{:016x}", spread(number))
    }

    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Value for u64 {
    const HEAP: usize = 0;

    #[inline]
    fn make(number: u64) -> Self {
        number
    }

    fn bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn parse(bytes: &[u8]) -> Self {
        let digits = std::str::from_utf8(bytes).unwrap_or_default();
        digits.parse().unwrap_or_default()
    }
}

/// The length of a value that is not a number.
const PAYLOAD: [u8; 100] = [b'x'; 100];

impl Value for Arc<[u8]> {
    // The bytes and the two counters of the `Arc`, rounded up to their alignment.
    const HEAP: usize = 120;

    #[inline]
    fn make(_: u64) -> Self {
        Arc::from(PAYLOAD)
    }

    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn parse(bytes: &[u8]) -> Self {
        Arc::from(bytes)
    }
}
