//! Random numbers for what needs to be spread and not to be secret: jitter, a random entry.
//!
//! SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014),
//! one state for each thread, seeded by the standard library from the system.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

std::thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
}

/// Any number.
pub(crate) fn number() -> u64 {
    // A thread that ends has no state any more: what is left to it need not be spread.
    let next = STATE.try_with(|state| {
        state.set(state.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        state.get()
    });
    mix(next.unwrap_or(1))
}

fn mix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number below `end`, which is not zero.
pub(crate) fn below(end: usize) -> usize {
    ((u128::from(number()) * end as u128) >> 64) as usize
}

/// A number from 0 up to but not including 1.
pub(crate) fn fraction() -> f64 {
    as_fraction(number())
}

/// The same, always the same for one seed.
pub(crate) fn fraction_of(seed: u64) -> f64 {
    as_fraction(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)))
}

fn as_fraction(number: u64) -> f64 {
    (number >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_over_their_range() {
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[below(10)] += 1);
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        let mean = (0..10_000).map(|_| fraction()).sum::<f64>() / 10_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert_eq!(below(1), 0);
    }
}
