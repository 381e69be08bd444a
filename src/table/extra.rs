//! What most sets of most caches do without, in a box that a set has while it needs any of it:
//! weights where they are not 1, both ends of a life where idle time counts, ages where values are
//! loaded anew, labels where there are tags or groups, loads while they are under way and what they
//! have found out, and the tags and links of the ways that have no place in the set itself.

use super::entry::Entry;
use super::item::{Beside, Ends};
use super::labels::Labelled;
use super::set::{NO_TAGS, Tags, Ways, spilled_blocks};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::load::{Age, Flight, Left, Loads, UnderWay, Verdict};
use crate::time::{Deadline, NEVER};
use std::mem;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Extra<K, V> {
    /// Of the ways past the inline ones, in blocks.
    pub(super) spilled_tags: Vec<Tags>,
    /// By way, where there are more ways than links in the set itself; empty otherwise.
    pub(super) wide_links: Vec<u16>,
    /// By way; empty while every weight is 1.
    weights: Vec<u64>,
    /// By way; empty where no idle time counts.
    ends: Vec<Ends>,
    /// By way; empty where no freshness counts.
    ages: Vec<Age>,
    pub(super) labelled: Labelled,
    pub(super) loads: Loads<K, V>,
    /// The oldest first.
    pub(super) verdicts: Vec<Verdict<K>>,
}

impl<K, V> Default for Extra<K, V> {
    fn default() -> Self {
        Self {
            spilled_tags: Vec::new(),
            wide_links: Vec::new(),
            weights: Vec::new(),
            ends: Vec::new(),
            ages: Vec::new(),
            labelled: Labelled::default(),
            loads: Loads::new(),
            verdicts: Vec::new(),
        }
    }
}

/// Memory that a set needs for loads under way, if it is there already.
#[derive(Debug)]
pub(crate) struct LoadRoom<K, V>(Option<Box<Extra<K, V>>>);

impl<K, V> Default for LoadRoom<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> Extra<K, V> {
    pub(super) fn set_width(&mut self, width: usize) {
        resize_exact(&mut self.spilled_tags, spilled_blocks(width), || NO_TAGS);
        if !self.weights.is_empty() {
            resize_exact(&mut self.weights, width, || 1);
        }
        if !self.ends.is_empty() {
            resize_exact(&mut self.ends, width, Ends::default);
        }
        if !self.ages.is_empty() {
            resize_exact(&mut self.ages, width, Age::default);
        }
        self.labelled.set_width(width);
    }

    /// Whether the set would do without the box.
    fn is_unused(&self) -> bool {
        self.loads.is_empty() && self.is_only_for_loads()
    }

    fn is_only_for_loads(&self) -> bool {
        self.is_bare_but_for_loads() && self.spilled_tags.is_empty() && self.wide_links.is_empty()
    }

    fn is_bare_but_for_loads(&self) -> bool {
        self.verdicts.is_empty()
            && self.weights.is_empty()
            && self.ends.is_empty()
            && self.ages.is_empty()
            && self.labelled.is_empty()
    }
}

impl<K, V> Ways<K, V> {
    // ---- the box ----

    pub(super) fn extra_mut(&mut self) -> &mut Extra<K, V> {
        self.extra.get_or_insert_default()
    }

    #[inline]
    pub(super) fn labelled(&self) -> Option<&Labelled> {
        self.extra.as_ref().map(|extra| &extra.labelled)
    }

    #[inline]
    pub(super) fn wide_links(&self) -> &[u16] {
        self.extra.as_ref().map_or(&[], |extra| &extra.wide_links)
    }

    pub(super) fn drop_unused_extra(&mut self) {
        drop(self.take_unused_extra());
    }

    fn take_unused_extra(&mut self) -> Option<Box<Extra<K, V>>> {
        self.extra.take_if(|extra| extra.is_unused())
    }

    /// Whether the set holds entries and nothing more: no weights, no idle times, no labels, no
    /// loads under way and nothing that they have found out. It may be wide.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.extra
            .as_ref()
            .is_none_or(|extra| extra.loads.is_empty() && extra.is_bare_but_for_loads())
    }

    /// The same but for loads under way.
    #[inline]
    pub(crate) fn is_bare_but_for_loads(&self) -> bool {
        self.extra
            .as_ref()
            .is_none_or(|extra| extra.is_bare_but_for_loads())
    }

    // ---- deadlines and weights ----

    /// When the first entry or verdict of the set expires.
    pub(crate) fn first_deadline(&self) -> Deadline {
        self.iter()
            .map(|(way, entry)| self.end_of(way, entry))
            .min()
            .unwrap_or(NEVER)
            .min(self.first_verdict_deadline())
    }

    /// When an entry has to leave: at its deadline, unless it is kept for longer for those who
    /// load.
    pub(crate) fn gone(&self, way: usize) -> Deadline {
        self.end_of(way, self.entry(way))
    }

    fn end_of(&self, way: usize, entry: &Entry<K, V>) -> Deadline {
        let deadline = entry.deadline();
        self.age(way).map_or(deadline, |age| age.gone(deadline))
    }

    /// What is known of the age of an entry.
    pub(crate) fn age(&self, way: usize) -> Option<Age> {
        self.extra.as_ref()?.ages.get(way).copied()
    }

    pub(crate) fn set_age(&mut self, way: usize, age: Option<Age>) {
        if self.age(way) == age {
            return;
        }
        let width = self.width();
        let ages = &mut self.extra_mut().ages;
        ages.resize(width, Age::default());
        ages[way] = age.unwrap_or_default();
    }

    /// The deadline that no access moves.
    pub(crate) fn hard_deadline(&self, way: usize) -> Deadline {
        self.ends(way)
            .map_or_else(|| self.entry(way).deadline(), |ends| ends.hard)
    }

    /// Both ends of the life of an entry, where idle time counts.
    pub(crate) fn ends(&self, way: usize) -> Option<Ends> {
        self.extra.as_ref()?.ends.get(way).copied()
    }

    /// Changes both ends of a life, where they are kept.
    pub(crate) fn move_ends(&mut self, way: usize, ends: Ends) {
        let extra = self.extra.as_mut();
        if let Some(kept) = extra.and_then(|extra| extra.ends.get_mut(way)) {
            *kept = ends;
        }
    }

    fn keep_ends(&mut self, way: usize, ends: Ends) {
        let width = self.width();
        let kept = &mut self.extra_mut().ends;
        kept.resize(width, Ends::default());
        kept[way] = ends;
    }

    #[inline]
    pub(crate) fn weight(&self, way: usize) -> u64 {
        let weight = self.extra.as_ref().and_then(|extra| extra.weights.get(way));
        weight.copied().unwrap_or(1)
    }

    #[inline]
    pub(crate) fn set_weight(&mut self, way: usize, weight: u64) {
        if weight != self.weight(way) {
            self.keep_weight(way, weight);
        }
    }

    fn keep_weight(&mut self, way: usize, weight: u64) {
        let width = self.width();
        let weights = &mut self.extra_mut().weights;
        weights.resize(width, 1);
        weights[way] = weight;
    }

    /// Keeps what belongs to the entry of a way.
    #[inline(always)]
    pub(crate) fn keep_beside(&mut self, way: usize, beside: Beside) {
        if self.extra.is_some() || !beside.is_nothing() {
            self.keep_all_beside(way, beside);
        }
    }

    #[inline(never)]
    fn keep_all_beside(&mut self, way: usize, beside: Beside) {
        self.set_weight(way, beside.weight);
        self.set_age(way, beside.age);
        if let Some(ends) = beside.ends {
            self.keep_ends(way, ends);
        }
    }

    /// What belongs to the entry of a way.
    #[inline(always)]
    pub(super) fn beside(&self, way: usize) -> Beside {
        match self.extra {
            None => Beside::of_weight(1),
            Some(_) => self.all_beside(way),
        }
    }

    #[inline(never)]
    fn all_beside(&self, way: usize) -> Beside {
        Beside {
            weight: self.weight(way),
            ends: self.ends(way),
            age: self.age(way),
        }
    }

    // ---- loads under way ----

    #[inline]
    pub(crate) fn loads(&self) -> &[UnderWay<K, V>] {
        self.extra.as_ref().map_or(&[], |extra| &extra.loads)
    }

    /// The load of a key.
    pub(crate) fn load_of<Q>(&self, hash: KeyHash, key: &Q) -> Option<&UnderWay<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let of_key = |load: &&UnderWay<K, V>| load.hash() == hash && key.equivalent(&load.key);
        self.loads().iter().find(of_key)
    }

    /// The epoch at which a load began, if it has not been overtaken.
    pub(crate) fn epoch_of(&self, flight: &Arc<Flight<V>>) -> Option<u64> {
        self.loads().iter().find_map(|load| load.epoch_of(flight))
    }

    /// Where a load is among those of the set, if it has not been overtaken.
    #[inline(always)]
    pub(crate) fn place_of_load(&self, flight: &Arc<Flight<V>>) -> Option<usize> {
        let mut loads = self.loads().iter();
        loads.position(|load| Arc::ptr_eq(&load.flight, flight))
    }

    /// Notes that somebody waits for a load, and says since when anybody has.
    pub(crate) fn await_load(
        &mut self,
        flight: &Arc<Flight<V>>,
        now: Deadline,
    ) -> Option<Deadline> {
        let at = self.place_of_load(flight)?;
        let load = self.extra.as_mut()?.loads.get_mut(at)?;
        Some(load.await_from(now))
    }

    /// The epoch at which the load of a key began.
    pub(crate) fn epoch_of_load<Q>(&self, hash: KeyHash, key: &Q) -> Option<u64>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.load_of(hash, key).map(UnderWay::epoch)
    }

    /// The epoch at which the oldest load that runs began.
    pub(crate) fn oldest_epoch(&self) -> Option<u64> {
        let epochs = self.loads().iter().filter_map(UnderWay::oldest_epoch);
        epochs.min()
    }

    #[inline(always)]
    pub(crate) fn begin_load(&mut self, load: UnderWay<K, V>, room: LoadRoom<K, V>) {
        let extra = self.extra.get_or_insert_with(|| room.0.unwrap_or_default());
        extra.loads.push(load);
    }

    /// Takes out the load that is waited for, if this is still it.
    pub(crate) fn end_load(&mut self, flight: &Arc<Flight<V>>) -> Option<UnderWay<K, V>> {
        let at = self.place_of_load(flight)?;
        self.end_load_at(at).map(|(load, _)| load)
    }

    /// Takes out all loads of the key of one that has brought an answer, if it is among them.
    pub(crate) fn end_loads_with(&mut self, flight: &Arc<Flight<V>>) -> Option<UnderWay<K, V>> {
        let at = self.place_of_any(flight)?;
        self.end_load_at(at).map(|(load, _)| load)
    }

    /// Ends a load whose answer does not count, if it has one. Where late ones run it stays known for
    /// them: the next caller begins one more, and whichever comes first is stored. What was taken
    /// out, and whether none has begun after it that runs.
    pub(crate) fn leave_load(&mut self, flight: &Arc<Flight<V>>) -> (Option<UnderWay<K, V>>, bool) {
        let Some(at) = self.place_of_any(flight) else {
            return (None, false);
        };
        let Some(extra) = &mut self.extra else {
            return (None, false);
        };
        match extra.loads[at].leave(flight) {
            Left::Last => (self.end_load_at(at).map(|(load, _)| load), true),
            Left::Newest => (None, true),
            Left::Older => (None, false),
        }
    }

    /// Where the loads of a key are among those of the set, given one of them.
    pub(crate) fn place_of_any(&self, flight: &Arc<Flight<V>>) -> Option<usize> {
        let mut loads = self.loads().iter();
        loads.position(|load| load.epoch_of(flight).is_some())
    }

    /// The same, by its place, with the room that it took up where no other is there.
    #[inline(always)]
    pub(crate) fn end_load_at(&mut self, at: usize) -> Option<(UnderWay<K, V>, LoadRoom<K, V>)> {
        let loads = &mut self.extra.as_mut()?.loads;
        // Most often it is the only one.
        let load = match at + 1 == loads.len() {
            true => loads.pop()?,
            false => loads.swap_remove(at),
        };
        Some((load, LoadRoom(self.take_unused_extra())))
    }

    /// Overtakes the load of a key: what it brings is not stored, and nobody joins it any more.
    #[inline]
    pub(crate) fn overtake<Q>(&mut self, hash: KeyHash, key: &Q) -> Option<UnderWay<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        if self.loads().is_empty() {
            return None;
        }
        let flight = Arc::clone(&self.load_of(hash, key)?.flight);
        self.end_load(&flight)
    }

    /// Overtakes the loads of the keys that match.
    pub(crate) fn overtake_if(&mut self, matches: impl Fn(&K) -> bool) -> Loads<K, V> {
        self.take_loads(|load| matches(&load.key))
    }

    /// Overtakes every load of the set.
    pub(crate) fn overtake_all(&mut self) -> Loads<K, V> {
        self.take_loads(|_| true)
    }

    /// Takes out the loads of which none runs.
    pub(crate) fn take_ended_loads(&mut self) -> Loads<K, V> {
        if self.loads().is_empty() {
            return Loads::new();
        }
        self.take_loads(|load| load.oldest_epoch().is_none())
    }

    pub(super) fn take_loads(&mut self, taken: impl Fn(&UnderWay<K, V>) -> bool) -> Loads<K, V> {
        let Some(extra) = &mut self.extra else {
            return Loads::new();
        };
        // A closure of the user's may be asked, and panic: nothing is taken out by then.
        let is_taken: Vec<bool> = extra.loads.iter().map(taken).collect();
        let mut is_taken = is_taken.into_iter();
        let loads = mem::take(&mut extra.loads).into_iter();
        let (loads, others) = loads.partition(|_| is_taken.next() == Some(true));
        extra.loads = others;
        self.drop_unused_extra();
        loads
    }

    // ---- what loads have found out ----

    /// What is remembered, for who looks at the labels of it.
    pub(crate) fn verdicts_mut(&mut self) -> &mut [Verdict<K>] {
        self.extra
            .as_mut()
            .map_or(&mut [], |extra| &mut extra.verdicts)
    }

    pub(crate) fn verdicts(&self) -> &[Verdict<K>] {
        self.extra.as_ref().map_or(&[], |extra| &extra.verdicts)
    }

    pub(crate) fn first_verdict_deadline(&self) -> Deadline {
        let deadlines = self.verdicts().iter().map(|verdict| verdict.deadline);
        deadlines.min().unwrap_or(NEVER)
    }

    pub(crate) fn verdict_of<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let of_key = |verdict: &Verdict<K>| verdict.hash == hash && key.equivalent(&verdict.key);
        self.verdicts().iter().position(of_key)
    }

    /// Bytes of a set for each of its verdicts: its place, the share of places that are free, and
    /// of what only sets with verdicts have.
    pub(crate) const BYTES_PER_VERDICT: u64 = (size_of::<Verdict<K>>() * 5 / 4 + 40) as u64;

    pub(super) fn add_verdict(&mut self, verdict: Verdict<K>) {
        let verdicts = &mut self.extra_mut().verdicts;
        if verdicts.len() == verdicts.capacity() {
            verdicts.reserve_exact(1 + verdicts.len() / 4);
        }
        verdicts.push(verdict);
    }

    pub(crate) fn take_verdict(&mut self, at: usize) -> Option<Verdict<K>> {
        let verdicts = &mut self.extra.as_mut()?.verdicts;
        let verdict = (at < verdicts.len()).then(|| verdicts.remove(at));
        if verdicts.capacity() > 4 + 2 * verdicts.len() {
            verdicts.shrink_to(1 + verdicts.len() * 5 / 4);
        }
        self.drop_unused_extra();
        verdict
    }
}

impl<K: Eq, V> Ways<K, V> {
    /// # Panics
    /// If the box is there for nothing, a part of it does not have the width of the set, or what is
    /// known of a key is known twice or in the set of another.
    pub(super) fn validate_extra(&self, index: usize, hash_of: &dyn Fn(&K) -> KeyHash) {
        let Some(extra) = &self.extra else { return };
        assert!(!extra.is_unused(), "a box that is there holds something");
        let lens = [extra.weights.len(), extra.ends.len(), extra.ages.len()];
        let is_whole = |len: &usize| *len == 0 || *len == self.width();
        assert!(lens.iter().all(is_whole), "each way has a place, or none");
        self.validate_loads(index, hash_of);
        self.validate_verdicts(index, hash_of);
    }

    fn validate_loads(&self, index: usize, hash_of: &dyn Fn(&K) -> KeyHash) {
        for (at, load) in self.loads().iter().enumerate() {
            assert_eq!(load.hash(), hash_of(&load.key), "the hash of the key");
            assert_eq!(self.route(load.hash(), index), None, "the set of the key");
            let is_twin = |other: &UnderWay<K, V>| other.key == load.key;
            let is_first = !self.loads()[..at].iter().any(is_twin);
            assert!(is_first, "the loads of a key are known as one");
        }
    }

    fn validate_verdicts(&self, index: usize, hash_of: &dyn Fn(&K) -> KeyHash) {
        for (at, verdict) in self.verdicts().iter().enumerate() {
            assert_eq!(verdict.hash, hash_of(&verdict.key), "the hash of the key");
            assert_eq!(self.route(verdict.hash, index), None, "the set of the key");
            let found = self.verdict_of(verdict.hash, &verdict.key);
            assert_eq!(found, Some(at), "a key has one verdict");
        }
    }
}

pub(super) fn resize_exact<T>(values: &mut Vec<T>, len: usize, value: impl FnMut() -> T) {
    values.truncate(len);
    values.reserve_exact(len - values.len());
    values.resize_with(len, value);
    values.shrink_to_fit();
}
