//! What most sets of most caches do without, in a box that a set has while it needs any of it:
//! weights where they are not 1, both ends of a life where idle time counts, ages where values are
//! loaded anew, labels where there are tags or groups, loads while they are under way and what they
//! have found out, and the tags and links of the ways that have no place in the set itself.

use super::entry::Entry;
use super::item::{Beside, Ends};
use super::labels::Labelled;
use super::set::{NO_TAGS, Tags, Ways, spilled_blocks};
use crate::hash::KeyHash;
use crate::load::{Age, Loads, Verdict};
use crate::time::{Deadline, NEVER};

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

    pub(super) fn take_unused_extra(&mut self) -> Option<Box<Extra<K, V>>> {
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
}

pub(super) fn resize_exact<T>(values: &mut Vec<T>, len: usize, value: fn() -> T) {
    values.truncate(len);
    values.reserve_exact(len - values.len());
    values.resize_with(len, value);
    values.shrink_to_fit();
}
