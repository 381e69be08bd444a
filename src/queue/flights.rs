//! The messages in flight, and which of their deliveries ends first.

use super::message::Entry;
use crate::hash::DefaultHashBuilder;
use crate::slack::{FEW, enough};
use crate::time::{Deadline, NEVER};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// O(1) for each call, but for the order of the ends: O(log n).
#[derive(Debug)]
pub(super) struct Flights<T> {
    flying: HashMap<u64, Flight<T>, DefaultHashBuilder>,
    /// Also those of deliveries that are over, or were extended since. The first one counts.
    ends: BinaryHeap<Reverse<(Deadline, u64)>>,
    next: u64,
}

/// A message that somebody works on.
#[derive(Debug)]
struct Flight<T> {
    entry: Entry<T>,
    until: Deadline,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            flying: HashMap::default(),
            ends: BinaryHeap::new(),
            next: 1,
        }
    }
}

impl<T> Flights<T> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.flying.len()
    }

    /// A delivery begins; its number, which no other has.
    #[inline]
    pub(super) fn begin(&mut self, entry: Entry<T>, until: Deadline) -> u64 {
        let number = self.next;
        self.next += 1;
        self.flying.insert(number, Flight { entry, until });
        self.ends.push(Reverse((until, number)));
        number
    }

    /// Ends a delivery, if it is not over yet.
    #[inline]
    pub(super) fn end(&mut self, number: u64) -> Option<Entry<T>> {
        let flight = self.flying.remove(&number)?;
        self.forget_ends();
        Some(flight.entry)
    }

    /// Ends the delivery that ends first, if it is over by `now`.
    #[inline]
    pub(super) fn end_next(&mut self, now: u64) -> Option<Entry<T>> {
        let &Reverse((until, number)) = self.ends.peek()?;
        if until > now {
            return None;
        }
        self.end(number)
    }

    /// When the first of them ends.
    #[inline]
    pub(super) fn next_end(&self) -> Deadline {
        self.ends.peek().map_or(NEVER, |Reverse((until, _))| *until)
    }

    /// When a delivery ends that is not over yet.
    pub(super) fn end_of(&self, number: u64) -> Option<Deadline> {
        self.flying.get(&number).map(|flight| flight.until)
    }

    /// Has a delivery last until a point in time; never makes it shorter unless it is told so.
    /// Whether it was not over yet.
    pub(super) fn extend(&mut self, number: u64, until: Deadline, may_shorten: bool) -> bool {
        let Some(flight) = self.flying.get_mut(&number) else {
            return false;
        };
        if until > flight.until || until < flight.until && may_shorten {
            flight.until = until;
            self.ends.push(Reverse((until, number)));
            self.forget_ends();
        }
        true
    }

    /// The messages in flight.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.flying.values().map(|flight| &flight.entry)
    }

    /// # Panics
    /// If a delivery has no end that counts, the first does not, or too many do not.
    pub(super) fn validate(&self) {
        let first = self.ends.peek();
        assert!(first.is_none_or(|Reverse(end)| counts(&self.flying, end)));
        assert!(self.ends.len() <= 2 * self.len() + FEW, "half of the ends");
        let ends: HashSet<_> = self.ends.iter().map(|Reverse(end)| *end).collect();
        for (number, flight) in &self.flying {
            assert!(*number < self.next, "a number that was given");
            assert!(ends.contains(&(flight.until, *number)), "it has an end");
        }
    }

    /// Has the first end be one that counts, and at least a half of the others.
    #[inline]
    fn forget_ends(&mut self) {
        while let Some(Reverse(first)) = self.ends.peek()
            && !counts(&self.flying, first)
        {
            self.ends.pop();
        }
        let len = self.flying.len();
        if self.ends.len() > 2 * len + FEW || enough(len, self.flying.capacity()).is_some() {
            self.tidy();
        }
    }

    /// Keeps what counts, and not much more room. O(n), after at least as many deliveries have
    /// ended.
    #[cold]
    fn tidy(&mut self) {
        let flying = &self.flying;
        self.ends.retain(|Reverse(end)| counts(flying, end));
        let len = flying.len();
        if let Some(room) = enough(len, self.ends.capacity()) {
            self.ends.shrink_to(room);
        }
        if let Some(room) = enough(len, self.flying.capacity()) {
            self.flying.shrink_to(room);
        }
    }
}

#[inline]
fn counts<T>(
    flying: &HashMap<u64, Flight<T>, DefaultHashBuilder>,
    (until, number): &(Deadline, u64),
) -> bool {
    flying
        .get(number)
        .is_some_and(|flight| flight.until == *until)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn entry(id: u64) -> Entry<()> {
        Entry::of(id, ())
    }

    /// What is known of each flight: its message and its end.
    type Model = BTreeMap<u64, (u64, Deadline)>;

    fn first(model: &Model) -> Option<(Deadline, u64)> {
        model
            .iter()
            .map(|(number, (_, until))| (*until, *number))
            .min()
    }

    fn check(flights: &Flights<()>, model: &Model) {
        assert_eq!(flights.len(), model.len());
        let next = first(model).map_or(NEVER, |(until, _)| until);
        assert_eq!(flights.next_end(), next);
        assert!(flights.ends.len() <= 2 * model.len() + FEW);
        assert!(flights.flying.capacity() <= 8 * model.len() + 8 * FEW);
        for (number, (_, until)) in model {
            assert_eq!(flights.end_of(*number), Some(*until));
        }
    }

    #[test]
    fn all_is_as_in_a_plain_list_of_flights() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..12 {
            let (mut flights, mut model) = (Flights::default(), Model::new());
            for step in 0..600 {
                let number = random.u64(0..step + 2);
                let until = random.u64(0..50);
                match random.u8(0..if round % 2 == 0 { 10 } else { 6 }) {
                    0..3 => {
                        let number = flights.begin(entry(step), until);
                        assert_eq!(model.insert(number, (step, until)), None);
                    }
                    3 => {
                        let ended = flights.end(number).map(|entry| entry.id);
                        assert_eq!(ended, model.remove(&number).map(|(id, _)| id));
                    }
                    4 => {
                        let now = random.u64(0..50);
                        let ended = flights.end_next(now).map(|entry| entry.id);
                        let first = first(&model).filter(|(until, _)| *until <= now);
                        let first = first.and_then(|(_, number)| model.remove(&number));
                        assert_eq!(ended, first.map(|(id, _)| id));
                    }
                    _ => {
                        let may_shorten = random.bool();
                        let extended = flights.extend(number, until, may_shorten);
                        assert_eq!(extended, model.contains_key(&number));
                        if let Some((_, own)) = model.get_mut(&number)
                            && (until > *own || may_shorten)
                        {
                            *own = until;
                        }
                    }
                }
                check(&flights, &model);
            }
        }
    }

    #[test]
    fn what_many_flights_took_is_given_back_when_they_have_ended() {
        let mut flights = Flights::default();
        let numbers: Vec<u64> = (0..10_000).map(|id| flights.begin(entry(id), id)).collect();
        for number in numbers.iter().rev() {
            assert!(flights.end(*number).is_some());
        }
        assert_eq!((flights.len(), flights.ends.len()), (0, 0));
        assert!(flights.flying.capacity() <= 8 * FEW);
        assert!(flights.ends.capacity() <= 8 * FEW);
    }
}
