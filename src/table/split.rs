//! Entries that move to other ways: a set that is split, and one that gives back memory.
//!
//! Both lift all entries out of the set at once and put each down in the first free way of where
//! it belongs, the oldest of each queue first, so that the queues keep their order and no way has
//! to be looked for.

use super::eviction::{Queue, Queues};
use super::set::{STEP, Ways};
use crate::hash::KeyHash;
use crate::load::{Loads, Verdict};
use std::mem;

impl<K, V> Ways<K, V> {
    /// By way, whether the entry leaves when the set is split by one more bit of the hash.
    ///
    /// Runs code of the user's, which may panic, and changes nothing.
    pub(super) fn leaving(&self, hash_of: &dyn Fn(&K) -> KeyHash) -> Vec<bool> {
        let bit = self.next_bit();
        let leaves = |way| {
            let entry = self.get(way);
            entry.is_some_and(|entry| hash_of(&entry.key).index() & bit != 0)
        };
        (0..self.width()).map(leaves).collect()
    }

    /// Splits the set by one more bit of the hash and returns the half with that bit set, to which
    /// the entries go that are [leaving](Self::leaving). Both halves remember all ghosts.
    pub(super) fn split(&mut self, leaving: &[bool]) -> Self {
        let bit = self.next_bit();
        self.depth += 1;
        // Half of its keys leave: it is made anew if the set is still sampled.
        self.shadow = None;
        if let Some(ghosts) = &mut self.ghosts {
            ghosts.set_depth(self.depth);
        }
        let mut upper = Self::new(self.depth);
        upper.ghosts.clone_from(&self.ghosts);
        self.split_loads(&mut upper, bit);

        let lifted = self.lift_all();
        let leave = leaving.iter().filter(|leaves| **leaves).count();
        upper.set_width(width_for(leave));
        self.set_width(width_for(lifted.len() - leave));
        lifted.put_down([self, &mut upper], |way| usize::from(leaving[way]));
        upper
    }

    /// The bit of a hash by which the set is split next.
    fn next_bit(&self) -> usize {
        1 << self.depth
    }

    fn split_loads(&mut self, upper: &mut Self, bit: usize) {
        let leaves = |hash: KeyHash| hash.index() & bit != 0;
        let loads = self.take_loads(&|load| leaves(load.hash()));
        let verdicts = match &mut self.extra {
            Some(extra) => {
                let all = &mut extra.verdicts;
                all.extract_if(.., |verdict| leaves(verdict.hash)).collect()
            }
            None => Vec::new(),
        };
        upper.keep_loads(loads, verdicts);
    }

    /// Takes over what concerns loads.
    fn keep_loads(&mut self, loads: Loads<K, V>, verdicts: Vec<Verdict<K>>) {
        if !loads.is_empty() || !verdicts.is_empty() {
            let extra = self.extra_mut();
            (extra.loads, extra.verdicts) = (loads, verdicts);
        }
    }

    /// Gives back memory where more than half of it is unused.
    pub(crate) fn shrink_if_sparse(&mut self) {
        if self.len() < self.width() / 2 {
            self.shrink();
        }
    }

    /// Gives back the memory of ways that a sweep or a removal of many has freed.
    pub(crate) fn shrink(&mut self) {
        let needed = width_for(self.len());
        if needed == 0 {
            self.set_width(0);
            self.shadow = None;
        } else if needed + STEP < self.width() {
            let lifted = self.lift_all();
            self.set_width(needed);
            lifted.put_down([self], |_| 0);
        }
        self.drop_unused_extra();
    }

    /// Takes all entries out, with the queues that they are in. What is no entry's stays.
    fn lift_all(&mut self) -> Self {
        let mut lifted = mem::replace(self, Self::new(self.depth));
        // What counts how often the entries were asked for goes by the ways that they had.
        self.ghosts.clone_from(&lifted.ghosts);
        self.shadow = lifted.shadow.take();
        if let Some(extra) = &mut lifted.extra {
            self.keep_loads(mem::take(&mut extra.loads), mem::take(&mut extra.verdicts));
        }
        lifted
    }

    /// Puts the entries down in the sets that `place` says by way, which have no free ways between
    /// those in use, and room.
    fn put_down<const SETS: usize>(
        mut self,
        sets: [&mut Self; SETS],
        place: impl Fn(usize) -> usize,
    ) {
        for queue in [Queue::Small, Queue::Main] {
            let mut next = self.oldest(queue);
            while let Some(way) = next {
                next = self.younger(way);
                self.move_to(&mut *sets[place(way)], queue, way);
            }
        }
    }

    fn move_to(&mut self, set: &mut Self, queue: Queue, from: usize) {
        let to = set.len();
        set.set_tag(to, self.tag(from));
        set.slots[to] = self.slots[from].take();
        set.link_last(queue, to);
        if let Some(ghosts) = &mut set.ghosts {
            ghosts.set_count(to, self.count(from));
        }
        if self.extra.is_some() {
            self.move_beside(set, from, to);
        }
    }

    /// Moves what a set keeps beside an entry.
    #[cold]
    fn move_beside(&mut self, set: &mut Self, from: usize, to: usize) {
        set.keep_beside(to, self.beside(from));
        if set.entry(to).is_labelled()
            && let Some(label) = self.lift_label(from)
        {
            set.put_label(to, label);
        }
    }
}

/// The width for so many entries.
fn width_for(entries: usize) -> usize {
    entries.next_multiple_of(STEP)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::eviction::Setting;
    use super::super::ghosts::SMALL_DEPTH;
    use super::super::item::{Ends, Item};
    use super::super::labels::Label;
    use super::super::loads::LoadRoom;
    use super::*;
    use crate::labels::Labels;
    use crate::load::{Age, Crew, Known, UnderWay};
    use crate::time::{Deadline, MICROSECOND};
    use fastrand::Rng;
    use std::fmt::Debug;

    type Set = Ways<u64, u64>;

    fn hash_of(key: &u64) -> KeyHash {
        KeyHash::at_position(key.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn goes_up(key: u64) -> bool {
        hash_of(&key).index() & 1 != 0
    }

    /// All that a set knows of an entry.
    #[derive(Clone, Debug, PartialEq)]
    struct Kept {
        key: u64,
        value: u64,
        queue: Queue,
        reads: u8,
        ends: (Deadline, Deadline),
        weight: u64,
        age: Option<Age>,
        labels: Vec<u64>,
    }

    fn kept_of(set: &Set, way: usize) -> Kept {
        let entry = set.entry(way);
        Kept {
            key: entry.key,
            value: entry.value,
            queue: entry.queue(),
            reads: entry.reads(),
            ends: (entry.deadline(), set.hard_deadline(way)),
            weight: set.weight(way),
            age: set.age(way),
            labels: set.labels(way).as_slice().to_vec(),
        }
    }

    fn kept(set: &Set) -> Vec<Kept> {
        set.queue_order().map(|way| kept_of(set, way)).collect()
    }

    /// The keys of the loads under way, in order.
    fn loading(set: &Set) -> Vec<u64> {
        let mut keys: Vec<_> = set.loads().iter().map(|load| load.key).collect();
        keys.sort_unstable();
        keys
    }

    fn ghosts(set: &Set) -> Option<impl PartialEq + Debug + use<>> {
        set.ghosts
            .as_ref()
            .map(|ghosts| ghosts.remembered().to_vec())
    }

    /// What the sets of a cache keep beside entries.
    #[derive(Clone, Copy)]
    struct Kinds {
        weights: bool,
        idle_times: bool,
        ages: bool,
        labels: bool,
    }

    fn add(set: &mut Set, key: u64, kinds: Kinds, random: &mut Rng) {
        let mut item = Item::new(hash_of(&key), key, key + 1, 1);
        item.deadline = random.u64(1..1_000) * MICROSECOND;
        if kinds.idle_times {
            let hard = item.deadline + random.u64(0..9) * MICROSECOND;
            let idle = item.deadline;
            item.beside.ends = Some(Ends { hard, idle });
        }
        let way = set.place(item, 0, Setting::BALANCED);
        if kinds.weights {
            set.set_weight(way, random.u64(0..9));
        }
        if kinds.ages {
            set.set_age(way, Some(Age::written(random.u64(..))));
        }
        (0..random.u8(0..3)).for_each(|_| set.entry_mut(way).count_read());
        if kinds.labels && random.bool() {
            let mut labels = Labels::NONE;
            labels.add(random.u64(1..100));
            set.put_label(way, Label::new(labels, 7));
        }
        if random.u8(0..3) == 0 {
            set.advance(Queue::Small, Queue::Main, 1);
        }
    }

    fn filled(entries: usize, kinds: Kinds, random: &mut Rng) -> Set {
        let mut set = Set::new(0);
        for _ in 0..entries {
            add(&mut set, random.u64(..u64::MAX), kinds, random);
        }
        for key in 0..entries as u64 % 5 {
            let hash = hash_of(&key);
            set.add_verdict(Verdict {
                weight: 1,
                hash,
                key,
                deadline: 1,
                labels: Labels::NONE,
                epoch: 0,
                known: Known::Absent,
            });
        }
        for key in 0..entries as u64 % 3 {
            let flight = Crew::new(false).known;
            let load = UnderWay::new(hash_of(&key), key, flight, 7);
            set.begin_load(load, LoadRoom::default());
        }
        (0..entries as u16 % 7).for_each(|fingerprint| set.leave_ghost(fingerprint));
        set.observe_reads(32);
        set
    }

    fn sets() -> impl Iterator<Item = (Set, Rng)> {
        (0..320u64).map(|seed| {
            let mut random = Rng::with_seed(seed);
            let kinds = Kinds {
                weights: seed & 1 != 0,
                idle_times: seed & 2 != 0,
                ages: seed & 4 != 0,
                labels: seed & 8 != 0,
            };
            let entries = random.usize(0..100);
            (filled(entries, kinds, &mut random), random)
        })
    }

    #[test]
    fn all_that_belongs_to_an_entry_goes_with_it_to_its_half() {
        for (mut lower, _) in sets() {
            let (up, down): (Vec<Kept>, Vec<Kept>) =
                kept(&lower).into_iter().partition(|kept| goes_up(kept.key));
            let verdicts = lower.verdicts().len();
            let (loads, known) = (loading(&lower), ghosts(&lower));
            let leaving = lower.leaving(&hash_of);
            let upper = lower.split(&leaving);
            for (set, index, expected) in [(&lower, 0, down), (&upper, 1, up)] {
                set.validate(index, &hash_of);
                assert_eq!(kept(set), expected);
                assert!(set.width() < expected.len() + STEP);
                let mut verdicts = set.verdicts().iter();
                assert!(verdicts.all(|known| goes_up(known.key) == (index == 1)));
                let own = loads.iter().filter(|key| goes_up(**key) == (index == 1));
                assert_eq!(loading(set), own.copied().collect::<Vec<_>>());
                assert_eq!(ghosts(set), known, "either may see them come back");
                assert!(set.shadow.is_none(), "it would be that of both");
            }
            assert_eq!(lower.verdicts().len() + upper.verdicts().len(), verdicts);
        }
    }

    #[test]
    fn a_set_that_is_sparse_gives_memory_back_and_no_other() {
        let mut shrunk = 0;
        let first = |set: &Set| set.iter().next().map(|(way, _)| way);
        for (mut set, _) in sets() {
            while let Some(way) = first(&set) {
                set.remove(way);
                let (used, before) = (set.len(), set.width());
                set.shrink_if_sparse();
                set.validate(0, &hash_of);
                if used >= before / 2 {
                    assert_eq!(set.width(), before, "{used} used");
                } else {
                    assert!(set.width() <= used + 2 * STEP, "{used} of {before} used");
                    shrunk += usize::from(set.width() < before);
                }
            }
            assert_eq!(set.width(), 0);
        }
        assert!(shrunk > 500, "{shrunk}");
    }

    #[test]
    fn how_often_a_key_was_asked_for_goes_with_it() {
        let mut lower = Set::new(0);
        lower.leave_ghost(1);
        for key in 0..30 {
            let item = Item::new(hash_of(&key), key, 0, 1);
            let way = lower.place(item, 0, Setting::BALANCED);
            let ghosts = lower.ghosts.as_mut().expect("there is one");
            ghosts.set_count(way, key as u8 % 8);
        }
        let leaving = lower.leaving(&hash_of);
        let upper = lower.split(&leaving);
        assert!(lower.len() > 5 && upper.len() > 5);
        for set in [lower, upper] {
            for (way, entry) in set.iter() {
                assert_eq!(set.count(way), entry.key as u8 % 8);
            }
        }
    }

    #[test]
    fn a_set_of_a_table_that_is_small_no_more_remembers_less() {
        let is_here = |key: &u64| hash_of(key).index().is_multiple_of(1 << SMALL_DEPTH);
        let mut keys = (0..).filter(is_here);
        let mut lower = Set::new(SMALL_DEPTH);
        for key in keys.by_ref().take(30) {
            lower.place(Item::new(hash_of(&key), key, 0, 1), 0, Setting::BALANCED);
        }
        let gone: Vec<u64> = keys.take(60).collect();
        for key in &gone {
            lower.leave_ghost(hash_of(key).fingerprint());
        }
        lower.observe_reads(32);
        lower.validate(0, &hash_of);
        let leaving = lower.leaving(&hash_of);
        let mut upper = lower.split(&leaving);
        upper.observe_reads(32);
        for (mut set, index) in [(lower, 0), (upper, 1 << SMALL_DEPTH)] {
            set.validate(index, &hash_of);
            let hashes = gone.iter().map(hash_of);
            let known = hashes.filter(|hash| {
                let way = set.place(Item::new(*hash, 0, 0, 1), 0, Setting::FREQUENT);
                set.count(way) == 2
            });
            // Twenty of them, more or less.
            assert!((12..28).contains(&known.count()));
        }
    }

    #[test]
    fn what_stays_in_a_set_that_gives_memory_back_stays_as_it_is() {
        for (mut set, mut random) in sets() {
            let stay = random.f32();
            for way in 0..set.width() {
                if set.get(way).is_some() && random.f32() > stay {
                    set.remove(way);
                }
            }
            let (before, verdicts) = (kept(&set), set.verdicts().len());
            let (loads, known) = (loading(&set), ghosts(&set));
            set.shrink();
            set.validate(0, &hash_of);
            assert_eq!(kept(&set), before);
            assert_eq!(set.verdicts().len(), verdicts);
            assert_eq!((loading(&set), ghosts(&set)), (loads, known));
            assert_eq!(set.shadow.is_some(), !before.is_empty());
            assert!(set.width() < before.len() + 3 * STEP);
        }
    }
}
