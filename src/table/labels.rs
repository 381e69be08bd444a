//! The labels of a set's entries: a side array that only sets with such entries have.

use super::extra::resize_exact;
use super::set::Ways;
use crate::labels::{Given, Labels};
use std::cell::Cell;
use std::mem;

/// The labels of an entry and an epoch at which they held.
#[derive(Debug, Default)]
pub(crate) struct Label {
    pub(crate) labels: Labels,
    /// In a cell, since who looks whether the labels hold raises it.
    held_at: Cell<u64>,
}

impl Label {
    pub(crate) fn new(labels: Labels, held_at: u64) -> Self {
        Self {
            labels,
            held_at: Cell::new(held_at),
        }
    }

    pub(crate) fn held_at(&self) -> u64 {
        self.held_at.get()
    }

    /// Notes that the labels held at a later epoch.
    pub(crate) fn hold(&self, epoch: u64) {
        self.held_at.set(epoch);
    }
}

/// By way; empty where no entry has labels.
#[derive(Debug, Default)]
pub(super) struct Labelled {
    ways: Vec<Label>,
    /// An epoch at which the labels of all entries held.
    purged_at: u64,
}

impl Labelled {
    pub(super) fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// Follows a change of the number of ways.
    pub(super) fn set_width(&mut self, width: usize) {
        if !self.is_empty() {
            resize_exact(&mut self.ways, width, Label::default);
        }
    }
}

impl<K, V> Ways<K, V> {
    /// The labels of an entry that has some.
    pub(crate) fn label(&self, way: usize) -> Option<&Label> {
        self.labelled()?.ways.get(way)
    }

    /// The labels of an entry.
    pub(crate) fn labels(&self, way: usize) -> &Labels {
        self.label(way).map_or(&Labels::NONE, |label| &label.labels)
    }

    /// Gives an entry labels, or takes those that it has.
    #[cold]
    pub(crate) fn set_label(&mut self, way: usize, given: Option<Box<Given>>) {
        match given {
            Some(given) => self.put_label(way, Label::new(given.labels, given.epoch)),
            None => drop(self.take_label(way)),
        }
    }

    pub(super) fn put_label(&mut self, way: usize, label: Label) {
        self.entry_mut(way).mark_labelled(true);
        let width = self.width();
        let labelled = &mut self.extra_mut().labelled;
        // What is new may have fallen already: a load brings it with an epoch of its own.
        labelled.purged_at = match labelled.is_empty() {
            true => label.held_at(),
            false => labelled.purged_at.min(label.held_at()),
        };
        labelled.ways.resize_with(width, Label::default);
        labelled.ways[way] = label;
    }

    /// Takes the labels of an entry that has some.
    #[cold]
    pub(super) fn take_label(&mut self, way: usize) -> Option<Label> {
        self.entry_mut(way).mark_labelled(false);
        self.lift_label(way)
    }

    /// The same, of an entry that has left with its mark.
    pub(super) fn lift_label(&mut self, way: usize) -> Option<Label> {
        let label = self.extra_mut().labelled.ways.get_mut(way)?;
        Some(mem::take(label))
    }

    /// The epoch at which the labels of all entries held; `None` where none has any.
    #[inline]
    pub(crate) fn purged_at(&self) -> Option<u64> {
        let labelled = self.labelled().filter(|labelled| !labelled.is_empty());
        labelled.map(|labelled| labelled.purged_at)
    }

    /// Notes that the labels of all entries held at an epoch.
    pub(crate) fn set_purged_at(&mut self, epoch: u64) {
        if !self.iter().any(|(_, entry)| entry.is_labelled()) {
            self.extra_mut().labelled = Labelled::default();
            return self.drop_unused_extra();
        }
        self.extra_mut().labelled.purged_at = epoch;
    }

    pub(super) fn validate_labels(&self) {
        let labelled = self.labelled().map_or(0, |labelled| labelled.ways.len());
        assert!(
            labelled == 0 || labelled == self.width(),
            "each way has a place for labels, or none has"
        );
        for way in 0..self.width() {
            let is_labelled = self.get(way).is_some_and(|entry| entry.is_labelled());
            assert_eq!(
                !self.labels(way).is_empty(),
                is_labelled,
                "way {way} is marked when it has labels"
            );
        }
    }
}
