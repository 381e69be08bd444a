//! The links of the queues of a set: for each way the next younger one, in a cache line.
//!
//! A byte is enough for a way of most sets. A set with more ways than bytes (a split is overdue, or
//! many keys share a hash) keeps its links apart.
//!
//! No two ways have the same successor, and what is in no queue has none. So there are no links
//! back: the predecessor of a way is the one that names it, found by comparing all bytes at once.

use super::bytes;
use super::eviction::{Queue, Queues};
use super::extra::resize_exact;
use super::set::{INLINE_WAYS, Ways};

/// No way.
pub(super) const NIL: u16 = u16::MAX;

/// The links of a set that is not wide. No way is the highest byte, which sign extension makes of
/// it.
#[derive(Debug)]
pub(super) struct Links([u8; INLINE_WAYS]);

impl Default for Links {
    fn default() -> Self {
        Self([NIL as u8; INLINE_WAYS])
    }
}

impl Links {
    #[inline(always)]
    fn get(&self, way: usize) -> u16 {
        i16::from(self.0[way % INLINE_WAYS] as i8) as u16
    }

    #[inline(always)]
    fn set(&mut self, way: usize, next: u16) {
        self.0[way % INLINE_WAYS] = next as u8;
    }
}

/// Whether a set of this width keeps its links apart.
#[inline(always)]
fn is_wide(width: usize) -> bool {
    width > INLINE_WAYS
}

impl<K, V> Ways<K, V> {
    /// The next younger way in the queue of a way.
    #[inline(always)]
    pub(super) fn next(&self, way: usize) -> u16 {
        if is_wide(self.width()) {
            self.wide_links()[way]
        } else {
            self.links.get(way)
        }
    }

    #[inline(always)]
    pub(super) fn set_next(&mut self, way: usize, next: u16) {
        if is_wide(self.width()) {
            self.extra_mut().wide_links[way] = next;
        } else {
            self.links.set(way, next);
        }
    }

    /// The next older way in the queue of a way that is not the oldest.
    #[inline(always)]
    pub(super) fn predecessor(&self, way: usize) -> Option<usize> {
        if is_wide(self.width()) {
            let link = way as u16;
            self.wide_links().iter().position(|next| *next == link)
        } else {
            bytes::matching(&self.links.0, way as u8).next()
        }
    }

    /// Follows a change of the number of ways from `before`. None is in a queue if there are fewer.
    pub(super) fn set_width_of_links(&mut self, before: usize) {
        let width = self.width();
        match (is_wide(before), is_wide(width)) {
            (false, false) => {}
            (true, true) => resize_exact(&mut self.extra_mut().wide_links, width, || NIL),
            (false, true) => self.move_links_out(before),
            // Only a set that was emptied becomes narrow.
            (true, false) => self.extra_mut().wide_links = Vec::new(),
        }
    }

    fn move_links_out(&mut self, before: usize) {
        let near = (0..before).map(|way| self.links.get(way));
        let mut wide: Vec<u16> = near.collect();
        wide.resize(self.width(), NIL);
        self.extra_mut().wide_links = wide;
        self.links = Links::default();
    }

    /// # Panics
    /// If a queue does not end at its youngest, or a way that is in none has a successor.
    pub(super) fn validate_links(&self) {
        for queue in [Queue::Small, Queue::Main] {
            let ways: Vec<_> = self.queue(queue).take(self.width() + 1).collect();
            assert_eq!(ways.len(), self.len_of(queue), "as long as the queue says");
            assert_eq!(ways.last().copied(), self.youngest(queue), "its youngest");
            let is_in = |way: &usize| self.entry(*way).queue() == queue;
            assert!(ways.iter().all(is_in), "the entries know their queue");
        }
        let past = self.width().min(INLINE_WAYS)..INLINE_WAYS;
        assert!(past.into_iter().all(|way| self.links.get(way) == NIL));
        let wide = if is_wide(self.width()) {
            self.width()
        } else {
            0
        };
        assert_eq!(self.wide_links().len(), wide, "each way has a link");
        for way in (0..self.width()).filter(|way| self.get(*way).is_none()) {
            assert_eq!(self.next(way), NIL, "way {way} is in no queue");
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::eviction::Setting;
    use super::super::item::Item;
    use super::super::set::MAX_WAYS;
    use super::super::shadow::TRIED;
    use super::*;
    use crate::hash::KeyHash;
    use std::collections::VecDeque;

    type Order = [VecDeque<usize>; 2];

    fn order(set: &Ways<u64, ()>) -> Order {
        [Queue::Small, Queue::Main].map(|queue| set.queue(queue).collect())
    }

    fn keys(set: &Ways<u64, ()>) -> Vec<(u64, u8)> {
        let entries = set.queue_order().map(|way| set.entry(way));
        entries.map(|entry| (entry.key, entry.reads())).collect()
    }

    fn forget(order: &mut Order, way: usize) {
        order
            .iter_mut()
            .for_each(|queue| queue.retain(|at| *at != way));
    }

    /// Entries come, leave from anywhere and become the youngest, in sets that grow wider than a
    /// line of links and narrow again.
    #[test]
    fn the_queues_are_as_those_of_a_list() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut set = Ways::<u64, ()>::new(0);
        let mut expected = Order::default();
        let (mut narrow, mut wide) = (0, 0);
        for step in 0..20_000u64 {
            let ways: Vec<_> = expected.iter().flatten().copied().collect();
            let grows = step / 500 % 2 == 0;
            match random.u8(0..8) {
                0..6 if grows && ways.len() < 100 => {
                    let hash = KeyHash::at_position(random.u64(..));
                    let item = Item::new(hash, step, (), 1);
                    let way = set.place(item, 40, Setting::BALANCED);
                    (0..step % 4).for_each(|_| set.entry_mut(way).count_read());
                    assert!(!ways.contains(&way));
                    expected[0].push_back(way);
                }
                0..6 if !ways.is_empty() => {
                    let way = random.choice(&ways).copied().unwrap();
                    set.take(way);
                    forget(&mut expected, way);
                }
                6 if !ways.is_empty() => {
                    let way = random.choice(&ways).copied().unwrap();
                    set.make_youngest(way);
                    forget(&mut expected, way);
                    expected[0].push_back(way);
                }
                7 if grows => {
                    set.advance(Queue::Small, Queue::Main, 0);
                    let oldest = expected[0].pop_front();
                    expected[1].extend(oldest);
                }
                _ if !grows => {
                    // Ways change their numbers, and no entry its place in its queue, nor its reads.
                    let before = keys(&set);
                    set.shrink();
                    assert_eq!(keys(&set), before);
                    expected = order(&set);
                }
                _ => {}
            }
            assert_eq!(order(&set), expected, "{step}");
            set.validate_links();
            *if is_wide(set.width()) {
                &mut wide
            } else {
                &mut narrow
            } += 1;
        }
        assert!(narrow > 3_000 && wide > 3_000, "{narrow} {wide}");
    }

    /// As wide as a set can be: with keys of one hash.
    #[test]
    fn the_widest_set_evicts_one_for_each_that_comes() {
        for setting in TRIED {
            let mut set = Ways::<u64, ()>::new(0);
            let hash = KeyHash::at_position(7);
            for key in 0..70_000 {
                if !set.has_room() {
                    let way = set.victim(setting).expect("none is pinned");
                    set.take(way);
                }
                let way = set.place(Item::new(hash, key, (), 1), 0, setting);
                if key % 3 == 0 {
                    set.entry_mut(way).count_read();
                }
            }
            assert_eq!(set.len(), MAX_WAYS);
            assert_eq!(
                order(&set).iter().map(VecDeque::len).sum::<usize>(),
                MAX_WAYS
            );
            set.validate_links();
        }
    }
}
