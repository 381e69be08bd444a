//! Walking the table in an order that survives its growth.
//!
//! The order is that of the reversed hash bits. A set of depth `d` holds one contiguous stretch of
//! it, and a split cuts the stretch in two, so a plain position says how far a walk has come,
//! whatever has grown since. Redis walks its hash tables the same way (`dictScan`).

use super::{Table, Ways};
use crate::hash::KeyHash;
use crate::reentrancy::Inside;

impl<K, V> Table<K, V> {
    /// Runs `collect` on the set that holds `position`, under its lock, with the end of its
    /// stretch.
    pub(crate) fn at_position<R>(
        &self,
        inside: &Inside,
        position: u64,
        collect: impl FnOnce(&Ways<K, V>, Option<u64>) -> R,
    ) -> Option<R> {
        let set = self.lock_if_used(inside, KeyHash::at_position(position))?;
        let end = end_of_stretch(set.index(), set.depth());
        Some(collect(&set, end))
    }

    /// The start of the next stretch that belongs to a set that was never used.
    pub(crate) fn skip_unused(&self, position: u64) -> Option<u64> {
        let index = self.index_of(KeyHash::at_position(position));
        let sets = self.sets();
        let mask = sets.next_power_of_two() - 1;
        let is_split = (index | (mask & !(mask >> 1))) < sets || index > mask >> 1;
        let depth = mask.count_ones() as u8 - u8::from(!is_split);
        end_of_stretch(index, depth)
    }
}

/// The first position after those of set `index` at `depth`; `None` for the last set.
fn end_of_stretch(index: usize, depth: u8) -> Option<u64> {
    if depth == 0 {
        return None;
    }
    let start = (index as u64).reverse_bits();
    start.checked_add(1 << (64 - u32::from(depth)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_tile_the_positions() {
        for depth in 0..8u8 {
            let mut position = 0;
            let mut seen = 0;
            loop {
                let index = KeyHash::at_position(position).index() & ((1 << depth) - 1);
                seen += 1;
                match end_of_stretch(index, depth) {
                    Some(next) => position = next,
                    None => break,
                }
            }
            assert_eq!(seen, 1 << depth);
        }
    }
}
