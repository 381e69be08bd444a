//! Who is to be looked at when.
//!
//! A note is never looked for: one that is for nothing any more is known by its number, and goes
//! when it comes up, or when half of all are like it.

use crate::hash::DefaultHashBuilder;
use crate::slack::{FEW, give_back};
use crate::time::Deadline;
use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

pub(super) struct Notes<R, M> {
    heap: BinaryHeap<Note<R, M>>,
    /// The numbers of notes that are for nothing.
    void: HashSet<u64, DefaultHashBuilder>,
    next: u64,
}

/// When to look at a member of a room.
pub(super) struct Note<R, M> {
    pub(super) due: Deadline,
    pub(super) number: u64,
    pub(super) room: Arc<R>,
    pub(super) member: Arc<M>,
    /// Those of the room and the member: to find them again takes no code of the user's.
    pub(super) hashes: [u64; 2],
}

impl<R, M> PartialEq for Note<R, M> {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl<R, M> Eq for Note<R, M> {}
impl<R, M> PartialOrd for Note<R, M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<R, M> Ord for Note<R, M> {
    /// The first one due is the greatest, since a heap has that on top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl<R, M> Default for Notes<R, M> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            void: HashSet::default(),
            next: 0,
        }
    }
}

impl<R, M> Notes<R, M> {
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.heap.peek().is_some_and(|note| note.due <= now)
    }

    /// The note that is due first, unless it is for nothing.
    pub(super) fn first(&mut self) -> Option<PeekMut<'_, Note<R, M>>> {
        let Self { heap, void, .. } = self;
        heap.peek_mut().filter(|note| !void.contains(&note.number))
    }

    /// Removes the note that is due first. Gives memory back when many have become few, in O(1) on
    /// average.
    pub(super) fn pop(&mut self) -> Option<Note<R, M>> {
        let note = self.heap.pop()?;
        self.void.remove(&note.number);
        give_back!(self.void);
        give_back!(self.heap);
        Some(note)
    }

    /// Makes a note; its number.
    pub(super) fn make(
        &mut self,
        (room, member): (&Arc<R>, &Arc<M>),
        hashes: [u64; 2],
        due: Deadline,
    ) -> u64 {
        self.next += 1;
        self.heap.push(Note {
            due,
            number: self.next,
            room: Arc::clone(room),
            member: Arc::clone(member),
            hashes,
        });
        self.next
    }

    /// A note is for nothing from now on. Notes that go because of that are for the caller to drop.
    pub(super) fn void(&mut self, number: u64) -> Vec<Note<R, M>> {
        self.void.insert(number);
        if self.void.len() <= FEW || self.void.len() <= self.heap.len() / 2 {
            return Vec::new();
        }
        let void = mem::take(&mut self.void);
        let notes = mem::take(&mut self.heap).into_iter();
        let (gone, kept) = notes.partition::<Vec<_>, _>(|note| void.contains(&note.number));
        self.heap = BinaryHeap::from(kept);
        gone
    }

    /// The notes that are for something, by their numbers.
    ///
    /// # Panics
    /// If a number is there twice, or one that is void is that of no note.
    pub(super) fn valid(&self) -> HashMap<u64, &Note<R, M>> {
        let all = self.heap.iter().map(|note| (note.number, note));
        let mut notes: HashMap<_, _> = all.collect();
        assert_eq!(notes.len(), self.heap.len(), "each has its number");
        for number in &self.void {
            assert!(notes.remove(number).is_some(), "{number} is a note");
        }
        notes
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_many_notes_took_is_given_back_however_they_go() {
        let (room, member) = (Arc::new(()), Arc::new(()));
        for is_void in [false, true] {
            let mut notes = Notes::default();
            let make = |due| notes.make((&room, &member), [0; 2], due);
            let numbers: Vec<_> = (0..10_000).map(make).collect();
            for number in numbers {
                if is_void {
                    drop(notes.void(number));
                } else {
                    assert_eq!(notes.pop().map(|note| note.number), Some(number));
                }
                assert!(notes.void.len() <= FEW.max(notes.heap.len() / 2));
            }
            assert!(notes.heap.len() <= FEW);
            assert!(notes.heap.capacity() <= 8 * (notes.heap.len() + FEW));
            while notes.pop().is_some() {}
            assert!(notes.void.is_empty());
        }
        assert_eq!(
            (Arc::strong_count(&room), Arc::strong_count(&member)),
            (1, 1)
        );
    }
}
