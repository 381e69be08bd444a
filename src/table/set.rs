//! One set: a few dozen entries behind one lock, with everything that concerns their keys.
//!
//! The first cache line of a set holds the lock, the pointer to the slots and the tags of the
//! first 40 ways, so a hit touches that line and the line of the entry. The second line holds
//! the rest of the 64 inline tags and the heads of the queues, the third one their links. What only
//! some sets or some caches need hangs off it in a box: ghosts once something was evicted, the
//! shadow of a set that is sampled, and all else in `extra.rs`.
//!
//! Nothing in this file takes a lock, reads a clock or calls code of the user's other than the
//! `Eq` of a key.

use super::bytes;
use super::entry::Entry;
use super::eviction::{Fifo, Queue, Setting};
use super::extra::Extra;
use super::ghosts::Ghosts;
use super::item::Item;
use super::links::{Links, NIL};
use super::shadow::Shadow;
use crate::equivalent::Equivalent;
use crate::hash::{self, KeyHash};
use std::mem;

/// Ways whose tags lie in the set itself. A set that outgrows them (a split is overdue, or many
/// keys share a hash) keeps the tags of the others apart.
pub(super) const INLINE_WAYS: usize = 64;

/// The tags of so many ways.
pub(super) type Tags = [u8; INLINE_WAYS];

pub(super) const NO_TAGS: Tags = [0; INLINE_WAYS];

/// Ways whose tags lie in the first cache line of the set.
const NEAR_WAYS: usize = 40;

/// No set holds more entries than this. Only keys with equal hashes can come so far.
pub(crate) const MAX_WAYS: usize = NIL as usize - 1;

/// The slots of a set grow and shrink in steps of this many ways.
pub(super) const STEP: usize = 4;

/// The width of a set at its first entry, unless less is expected of it.
const FIRST_WIDTH: usize = 16;

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Ways<K, V> {
    pub(super) slots: Box<[Option<Entry<K, V>>]>,
    tags: Tags,
    pub(super) small: Fifo,
    pub(super) main: Fifo,
    /// How many low bits of a hash this set stands for.
    pub(super) depth: u8,
    last_freed: u16,
    pub(super) ghosts: Option<Box<Ghosts>>,
    /// Of a set that is sampled, from its first eviction on.
    pub(super) shadow: Option<Box<Shadow>>,
    pub(super) extra: Option<Box<Extra<K, V>>>,
    pub(super) links: Links,
}

impl<K, V> Ways<K, V> {
    /// Keys as cheap to compare as their fingerprints.
    const COMPARES_AT_ONCE: bool = size_of::<K>() <= 8 && !mem::needs_drop::<K>();

    pub(crate) fn new(depth: u8) -> Self {
        Self {
            slots: Box::default(),
            tags: NO_TAGS,
            small: Fifo::default(),
            main: Fifo::default(),
            depth,
            last_freed: NIL,
            ghosts: None,
            shadow: None,
            extra: None,
            links: Links::default(),
        }
    }

    // ---- looking up ----

    /// The way that holds `key`, expired or not.
    #[inline(always)]
    pub(crate) fn find<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.find_near(hash, key)
            .or_else(|| self.find_past_near(hash, key))
    }

    /// The entry of `key`, expired or not, and its way.
    #[inline(always)]
    pub(crate) fn find_entry<Q>(
        &mut self,
        hash: KeyHash,
        key: &Q,
    ) -> Option<(usize, &mut Entry<K, V>)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.find_entry_after(hash, key, || {})
    }

    /// As [`find_entry`](Self::find_entry). Before any entry is looked at, `first` runs if a tag of
    /// the first line is that of the key, which it is for nearly all keys that are there.
    #[inline(always)]
    pub(crate) fn find_entry_after<Q>(
        &mut self,
        hash: KeyHash,
        key: &Q,
        first: impl FnOnce(),
    ) -> Option<(usize, &mut Entry<K, V>)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let near = bytes::matching(self.near_tags(), hash.tag());
        if !near.is_empty() {
            first();
            // An exit of its own, where the compiler knows that the way is in use.
            if let Some(way) = self.find_at(near, hash, key) {
                return Some((way, self.entry_mut(way)));
            }
        }
        let way = self.find_past_near(hash, key)?;
        Some((way, self.entry_mut(way)))
    }

    #[inline(always)]
    fn find_near<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let ways = bytes::matching(self.near_tags(), hash.tag());
        self.find_at(ways, hash, key)
    }

    #[inline(always)]
    fn find_past_near<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        if self.width() > NEAR_WAYS {
            self.find_far(hash, key)
        } else {
            None
        }
    }

    /// As [`find`](Self::find), for the ways whose tags are not in the first line.
    #[inline(never)]
    fn find_far<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        // All of them are compared once more: as many as fill whole vectors take less than those
        // that are left.
        let ways = bytes::matching(&self.tags, hash.tag()).past_first(NEAR_WAYS);
        let found = self.find_at(ways, hash, key);
        if found.is_some() || self.width() <= INLINE_WAYS {
            return found;
        }
        self.find_spilled(hash, key)
    }

    #[inline(always)]
    fn find_at<Q>(&self, ways: impl Iterator<Item = usize>, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        for way in ways {
            if let Some(Some(entry)) = self.slots.get(way)
                && (Self::COMPARES_AT_ONCE || entry.may_be_of(hash))
                && key.equivalent(&entry.key)
            {
                return Some(way);
            }
        }
        None
    }

    #[cold]
    fn find_spilled<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut blocks = self.blocks_of_tags().skip(1);
        blocks.find_map(|(first, tags)| {
            let ways = bytes::matching(tags, hash.tag()).map(|way| first + way);
            self.find_at(ways, hash, key)
        })
    }

    /// The set that a hash belongs to, if it is not this one: the sets that were split off this
    /// one since the caller looked it up hold what has left.
    ///
    /// It goes by the first bit in which the two differ. The set that the hash left to at that
    /// split may have been split less often since than this one, so no more bits are known to
    /// name a set that exists.
    #[inline]
    pub(crate) fn route(&self, hash: KeyHash, own_index: usize) -> Option<usize> {
        let differing = (hash.index() ^ own_index) & ((1 << self.depth) - 1);
        let up_to_first = differing ^ differing.wrapping_sub(1);
        (differing != 0).then_some(hash.index() & up_to_first)
    }

    #[inline(always)]
    pub(crate) fn entry(&self, way: usize) -> &Entry<K, V> {
        self.slots[way].as_ref().expect("a way in use")
    }

    #[inline(always)]
    pub(crate) fn entry_mut(&mut self, way: usize) -> &mut Entry<K, V> {
        self.slots[way].as_mut().expect("a way in use")
    }

    /// What a way holds.
    pub(crate) fn get(&self, way: usize) -> Option<&Entry<K, V>> {
        self.slots[way].as_ref()
    }

    pub(crate) fn get_mut(&mut self, way: usize) -> Option<&mut Entry<K, V>> {
        self.slots[way].as_mut()
    }

    /// The ways in use, with their entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Entry<K, V>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(way, slot)| Some((way, slot.as_ref()?)))
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.small.len) + usize::from(self.main.len)
    }

    pub(crate) fn width(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }

    // ---- putting in and taking out ----

    /// Puts an entry into a free way, at the young end of the queue that the setting has for it.
    ///
    /// Returns the way.
    pub(super) fn place(&mut self, item: Item<K, V>, expected: usize, setting: Setting) -> usize {
        self.place_in(Queue::Small, item, expected, setting)
    }

    /// As [`place`](Self::place), in the main queue if the heat says so.
    #[cfg(feature = "persist")]
    pub(super) fn place_with(
        &mut self,
        heat: u8,
        mut item: Item<K, V>,
        expected: usize,
        setting: Setting,
    ) -> usize {
        let least = item.warm(heat);
        self.place_in(least, item, expected, setting)
    }

    /// Puts an entry into a free way, in the main queue if that is the least or the setting says
    /// so.
    #[inline(always)]
    fn place_in(
        &mut self,
        least: Queue,
        item: Item<K, V>,
        expected: usize,
        setting: Setting,
    ) -> usize {
        let way = self.free_way(expected);
        let admitted = self.admission(item.fingerprint, way, setting);
        let queue = match least {
            Queue::Small => admitted,
            Queue::Main => Queue::Main,
        };
        self.fill(way, queue, item);
        way
    }

    /// The ways in use with their entries, the oldest of each queue first.
    #[cfg(feature = "persist")]
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (usize, &Entry<K, V>)> {
        self.queue_order().map(|way| (way, self.entry(way)))
    }

    /// Puts an entry into a way that is free.
    #[inline(always)]
    fn fill(&mut self, way: usize, queue: Queue, item: Item<K, V>) {
        self.set_tag(way, hash::tag_of(item.fingerprint));
        self.keep_beside(way, item.beside);
        self.slots[way] = Some(item.into_entry());
        self.push(queue, way);
    }

    /// Puts an entry in the place of another, which it returns. Neither has a weight, two ends, an
    /// age or labels.
    #[inline(always)]
    pub(super) fn exchange(
        &mut self,
        way: usize,
        hash: KeyHash,
        mut entry: Entry<K, V>,
        setting: Setting,
    ) -> Entry<K, V> {
        let queue = self.admission(hash.fingerprint(), way, setting);
        entry.set_queue(queue);
        self.unlink(way);
        self.link_last(queue, way);
        // As if it had been taken out: so entries lie in the same ways however they came.
        self.last_freed = way as u16;
        self.set_tag(way, hash.tag());
        self.slots[way].replace(entry).expect("a way in use")
    }

    /// Removes an entry for good, leaving no trace of it.
    pub(crate) fn remove(&mut self, way: usize) -> Item<K, V> {
        let item = self.take(way);
        if let Some(shadow) = &mut self.shadow {
            shadow.remove(item.fingerprint);
        }
        item
    }

    /// Takes an entry out, which the shadow of the set does not learn of.
    pub(crate) fn take(&mut self, way: usize) -> Item<K, V> {
        if self.entry(way).is_labelled() {
            self.take_label(way);
        }
        self.unlink(way);
        self.set_next(way, NIL);
        let fingerprint = self.fingerprint(way);
        self.set_tag(way, 0);
        self.last_freed = way as u16;
        let beside = self.beside(way);
        let entry = self.slots[way].take().expect("a way in use");
        Item {
            deadline: entry.deadline(),
            reads: entry.reads(),
            key: entry.key,
            value: entry.value,
            beside,
            fingerprint,
        }
    }

    /// Whether one more entry fits. Only equal hashes by the ten thousand can fill a set for good.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_for(1)
    }

    /// As [`has_room`](Self::has_room), of several.
    pub(crate) fn has_room_for(&self, entries: usize) -> bool {
        self.len() + entries <= MAX_WAYS
    }

    fn free_way(&mut self, expected: usize) -> usize {
        if self.len() == self.width() {
            self.set_width(self.next_width(expected));
        }
        // Most often an entry has just made room: its way is free and its cache line near.
        let freed = usize::from(self.last_freed);
        if matches!(self.slots.get(freed), Some(None)) {
            return freed;
        }
        // Where nothing was taken out, the ways are used from the first on.
        let next = self.len();
        if self.tag(next) == 0 {
            return next;
        }
        self.first_free()
            .expect("a set with fewer entries than ways has a free way")
    }

    /// The width after this one: most entries that are expected get room with the first, the last
    /// of them in small steps, since how many there will be is chance.
    fn next_width(&self, expected: usize) -> usize {
        let surely = expected.saturating_sub(2 * STEP);
        let wider = match self.width() {
            0 => FIRST_WIDTH.min(expected).max(surely),
            width => (width + STEP.max(width / 8)).max(surely),
        };
        wider.max(1).next_multiple_of(STEP)
    }

    fn first_free(&self) -> Option<usize> {
        let mut free = self
            .blocks_of_tags()
            .flat_map(|(first, tags)| bytes::matching(tags, 0).map(move |way| first + way));
        free.find(|way| *way < self.width())
    }

    /// Changes the number of ways. The ways that are cut off must be free.
    pub(super) fn set_width(&mut self, width: usize) {
        // No way may have the number that stands for none.
        let width = width.min(MAX_WAYS);
        let before = self.width();
        let mut slots = mem::take(&mut self.slots).into_vec();
        slots.truncate(width);
        slots.reserve_exact(width - slots.len());
        slots.resize_with(width, || None);
        self.slots = slots.into_boxed_slice();
        self.set_width_of_links(before);
        if spilled_blocks(width) > 0 {
            self.extra_mut().set_width(width);
        } else if let Some(extra) = &mut self.extra {
            extra.set_width(width);
        }
    }

    // ---- parts ----

    #[inline(always)]
    fn near_tags(&self) -> &[u8; NEAR_WAYS] {
        self.tags.first_chunk().expect("the inline tags are more")
    }

    fn spilled_tags(&self) -> &[Tags] {
        self.extra.as_ref().map_or(&[], |extra| &extra.spilled_tags)
    }

    /// All tags, the inline ones first, each block with its first way.
    fn blocks_of_tags(&self) -> impl Iterator<Item = (usize, &Tags)> {
        let blocks = std::iter::once(&self.tags).chain(self.spilled_tags());
        (0..).step_by(INLINE_WAYS).zip(blocks)
    }

    /// The fingerprint of the key in a way.
    #[inline(always)]
    pub(super) fn fingerprint(&self, way: usize) -> u16 {
        hash::fingerprint(self.tag(way), self.entry(way).part_of_hash())
    }

    #[inline(always)]
    pub(super) fn tag(&self, way: usize) -> u8 {
        match self.tags.get(way) {
            Some(tag) => *tag,
            None => self.spilled_tags().as_flattened()[way - INLINE_WAYS],
        }
    }

    #[inline(always)]
    pub(super) fn set_tag(&mut self, way: usize, tag: u8) {
        match self.tags.get_mut(way) {
            Some(own) => *own = tag,
            None => self.set_spilled_tag(way, tag),
        }
    }

    #[cold]
    fn set_spilled_tag(&mut self, way: usize, tag: u8) {
        let spilled = self.extra_mut().spilled_tags.as_flattened_mut();
        spilled[way - INLINE_WAYS] = tag;
    }
}

/// How many blocks of tags a set of a width has besides the inline one.
pub(super) fn spilled_blocks(width: usize) -> usize {
    width.div_ceil(INLINE_WAYS).saturating_sub(1)
}

impl<K: Eq, V> Ways<K, V> {
    /// Checks everything that must hold between two operations.
    ///
    /// # Panics
    /// With the first thing that does not.
    pub(crate) fn validate(&self, index: usize, hash_of: &dyn Fn(&K) -> KeyHash) {
        let linked: Vec<usize> = self.queue_order().collect();
        assert_eq!(
            linked.len(),
            self.len(),
            "the queues are as long as they say"
        );
        assert_eq!(self.iter().count(), self.len(), "every entry is in a queue");
        let spilled = spilled_blocks(self.width());
        assert_eq!(self.spilled_tags().len(), spilled, "each way has a tag");
        self.validate_labels();
        self.validate_links();
        self.validate_extra(index, hash_of);
        for (way, slot) in self.slots.iter().enumerate() {
            assert_eq!(
                self.tag(way) != 0,
                slot.is_some(),
                "way {way} has a tag when in use"
            );
        }
        if let Some(ghosts) = &self.ghosts {
            assert!(
                ghosts.has_size_of(self.depth),
                "as many ghosts as the table has room for"
            );
        }
        if let Some(shadow) = &self.shadow {
            shadow.validate(self.depth);
        }
        for (way, entry) in self.iter() {
            let hash = hash_of(&entry.key);
            assert_eq!(
                self.fingerprint(way),
                hash.fingerprint(),
                "the tag and the part of the hash are those of the key"
            );
            assert_eq!(
                self.route(hash, index),
                None,
                "the entry is in the set of its key"
            );
            assert_eq!(
                self.find(hash, &entry.key),
                Some(way),
                "no key is here twice"
            );
            assert!(!entry.is_pinned(), "nothing stays pinned");
            assert!(
                entry.deadline() <= self.hard_deadline(way),
                "no idle time outlasts the TTL"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_entries_runs_where_a_near_tag_is_the_keys() {
        let mut set: Ways<u64, ()> = Ways::new(0);
        let hash_of = |key: u64| KeyHash::at_position(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for key in 0..50 {
            let item = Item::new(hash_of(key), key, (), 1);
            set.place(item, 40, Setting::S3_FIFO);
        }
        assert!(set.width() > NEAR_WAYS);
        let (mut ran_for, mut near_tags_of) = ([0, 0], [0, 0]);
        for key in 0..300 {
            let hash = hash_of(key);
            let place = set.find(hash, &key);
            assert_eq!(place.is_some(), key < 50);
            let is_near = set.near_tags().contains(&hash.tag());
            let mut ran = 0;
            let found = set.find_entry_after(hash, &key, || ran += 1);
            assert_eq!(
                found.map(|(way, entry)| (way, entry.key)),
                place.map(|way| (way, key))
            );
            assert_eq!(ran, usize::from(is_near), "{key}");
            ran_for[usize::from(place.is_some())] += ran;
            near_tags_of[usize::from(place.is_some())] += 1;
        }
        assert!(
            ran_for[1] >= NEAR_WAYS && ran_for[0] < near_tags_of[0] / 4,
            "{ran_for:?}"
        );
    }
}
