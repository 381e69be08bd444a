//! The messages that are ready, in the order in which they are handed out: by priority, then by the
//! time since which they are due, then by the order in which they came in.

use super::message::Entry;
use crate::slack::give_back;
use crate::time::Deadline;
use std::collections::{BTreeMap, VecDeque};

/// A line for each priority that was ever used, the highest first.
#[derive(Debug)]
pub(super) struct Lines<T> {
    lines: Vec<(i8, Line<T>)>,
    len: usize,
}

/// Messages that come in their order, as nearly all do, take O(1); others find their place in
/// O(log n).
#[derive(Debug)]
struct Line<T> {
    in_order: VecDeque<Entry<T>>,
    others: BTreeMap<(Deadline, u64), Entry<T>>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Lines<T> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a message in its place.
    #[inline]
    pub(super) fn insert(&mut self, entry: Entry<T>) {
        self.len += 1;
        let priority = entry.payload.priority;
        let place = self.lines.binary_search_by(|(own, _)| priority.cmp(own));
        let place = place.unwrap_or_else(|place| {
            self.lines.insert(place, (priority, Line::default()));
            place
        });
        self.lines[place].1.insert(entry);
    }

    /// The message whose turn it is.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.lines.iter_mut().find_map(|(_, line)| line.pop())?;
        self.len -= 1;
        Some(entry)
    }

    /// Of the lowest priority, the message that has been due for longest.
    pub(super) fn pop_lowest(&mut self) -> Option<Entry<T>> {
        let lowest_first = self.lines.iter_mut().rev();
        let entry = lowest_first
            .map(|(_, line)| line.pop())
            .find_map(|entry| entry)?;
        self.len -= 1;
        Some(entry)
    }

    /// Takes a message out, wherever it stands. O(n).
    pub(super) fn remove(&mut self, id: u64) -> Option<Entry<T>> {
        let mut lines = self.lines.iter_mut();
        let entry = lines.find_map(|(_, line)| line.remove(id))?;
        self.len -= 1;
        Some(entry)
    }

    /// Since when the message is due that has been due for longest.
    pub(super) fn oldest(&self) -> Option<Deadline> {
        let fronts = self.lines.iter().filter_map(|(_, line)| line.front());
        fronts.map(|(due, _)| due).min()
    }
}

impl<T> Lines<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        let lines = self.lines.iter();
        lines.flat_map(|(_, line)| line.in_order.iter().chain(line.others.values()))
    }

    /// # Panics
    /// If a message is not in its line or not in its place, or one is not counted.
    pub(super) fn validate(&self) {
        assert_eq!(self.iter().count(), self.len, "every message is counted");
        let falls = |pair: &[(i8, Line<T>)]| pair[0].0 > pair[1].0;
        assert!(self.lines.windows(2).all(falls), "the highest first");
        for (priority, line) in &self.lines {
            let places: Vec<_> = line.in_order.iter().map(place).collect();
            assert!(places.is_sorted(), "in their order");
            let mut others = line.others.iter();
            assert!(others.all(|(at, entry)| *at == place(entry)), "its place");
            let mut all = line.in_order.iter().chain(line.others.values());
            assert!(all.all(|entry| entry.payload.priority == *priority));
        }
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            in_order: VecDeque::new(),
            others: BTreeMap::new(),
        }
    }
}

impl<T> Line<T> {
    #[inline]
    fn insert(&mut self, entry: Entry<T>) {
        let is_last = self
            .in_order
            .back()
            .is_none_or(|last| place(last) < place(&entry));
        if is_last {
            self.in_order.push_back(entry);
        } else {
            self.others.insert(place(&entry), entry);
        }
    }

    fn front(&self) -> Option<(Deadline, u64)> {
        let in_order = self.in_order.front().map(place);
        let other = self.others.keys().next().copied();
        in_order.into_iter().chain(other).min()
    }

    #[inline]
    fn pop(&mut self) -> Option<Entry<T>> {
        if self.others.is_empty() {
            return self.pop_in_order();
        }
        let first = self.front()?;
        match self.others.remove(&first) {
            None => self.pop_in_order(),
            other => other,
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry<T>> {
        if let Some(at) = self.in_order.iter().position(|entry| entry.id == id) {
            let entry = self.in_order.remove(at);
            self.give_back();
            return entry;
        }
        remove_from(&mut self.others, id)
    }

    #[inline]
    fn pop_in_order(&mut self) -> Option<Entry<T>> {
        let entry = self.in_order.pop_front();
        self.give_back();
        entry
    }

    /// Gives memory back when a long line has become short, in O(1) on average.
    #[inline]
    fn give_back(&mut self) {
        give_back!(self.in_order);
    }
}

/// Takes a message out of those in the order of their times. O(n).
pub(super) fn remove_from<T>(
    entries: &mut BTreeMap<(Deadline, u64), Entry<T>>,
    id: u64,
) -> Option<Entry<T>> {
    let (place, _) = entries.iter().find(|(_, entry)| entry.id == id)?;
    let place = *place;
    entries.remove(&place)
}

/// Where a message stands among others. No two stand in one place.
#[inline]
pub(super) fn place<T>(entry: &Entry<T>) -> (Deadline, u64) {
    (entry.due, entry.order)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn entry(id: u64, due: Deadline, priority: i8) -> Entry<()> {
        let mut entry = Entry::of(id, ());
        entry.due = due;
        Arc::get_mut(&mut entry.payload).unwrap().priority = priority;
        entry
    }

    fn lines() -> Lines<()> {
        let mut lines = Lines::default();
        let all = [
            (1, 10, 0),
            (2, 20, 0),
            (3, 5, 0),
            (4, 20, 5),
            (5, 1, -5),
            (6, 2, -5),
            (7, 20, 0),
            (8, 15, 0),
        ];
        for (id, due, priority) in all {
            lines.insert(entry(id, due, priority));
        }
        lines
    }

    #[test]
    fn priority_comes_first_then_the_time_then_the_number() {
        let mut lines = lines();
        assert_eq!((lines.len(), lines.oldest()), (8, Some(1)));
        let ids: Vec<_> = std::iter::from_fn(|| lines.pop())
            .map(|entry| entry.id)
            .collect();
        assert_eq!(ids, [4, 3, 1, 8, 2, 7, 5, 6]);
        assert_eq!((lines.len(), lines.oldest()), (0, None));
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_in_their_order() {
        let mut lines = lines();
        for id in [3, 5, 2] {
            assert_eq!(lines.remove(id).map(|entry| entry.id), Some(id));
            assert!(lines.remove(id).is_none());
        }
        let ids: Vec<_> = std::iter::from_fn(|| lines.pop())
            .map(|entry| entry.id)
            .collect();
        assert_eq!((ids.as_slice(), lines.len()), (&[4, 1, 8, 7, 6][..], 0));
    }

    #[test]
    fn a_line_that_was_long_gives_its_memory_back() {
        let pop = |lines: &mut Lines<()>, _| lines.pop();
        let remove = |lines: &mut Lines<()>, id| lines.remove(id);
        for take in [pop, remove] as [fn(&mut Lines<()>, u64) -> Option<Entry<()>>; 2] {
            let mut lines = Lines::default();
            for id in 0..100_000 {
                lines.insert(entry(id, 0, 0));
            }
            for id in 0..100_000 {
                assert_eq!(take(&mut lines, id).map(|entry| entry.id), Some(id));
                let line = &lines.lines[0].1.in_order;
                assert!(line.capacity() <= 8 * line.len() + 512);
            }
        }
    }

    #[test]
    fn the_lowest_goes_by_age_too() {
        let mut lines = lines();
        let ids = [(); 3].map(|()| lines.pop_lowest().unwrap().id);
        assert_eq!(ids, [5, 6, 3]);
    }
}
