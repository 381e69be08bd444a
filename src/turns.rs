//! Those who sleep until there is something for them, woken in the order in which they came.
//!
//! As many are awake as there is something for, and no more: a message that comes in wakes one
//! worker and not all. Who was woken and goes without taking anything makes room for the next.
//! Coming, going and waking one are O(log n) of those that wait, and the memory of a crowd is given
//! back as it goes.

use std::collections::BTreeMap;
use std::task::Waker;

/// Kept under a lock; wakers are code of the user's executor, so they come in as copies made before
/// and go out to be woken or dropped afterwards.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    asleep: BTreeMap<u64, Waker>,
    /// Those that were woken and have not looked since.
    awake: usize,
    /// The place that was woken last.
    woken: u64,
    next: u64,
}

impl Turns {
    /// Has `waker` woken when it is its turn. A place is kept until it is given back; the waker that
    /// was there before is for the caller to drop.
    pub(crate) fn wait(&mut self, place: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let is_new = place.is_none();
        let at = *place.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        let before = self.asleep.insert(at, waker);
        if before.is_none() && !is_new {
            self.awake -= 1;
        }
        before
    }

    /// Gives a place back, and the waker that was in it to the caller to drop.
    pub(crate) fn leave(&mut self, place: &mut Option<u64>) -> Option<Waker> {
        let waker = self.asleep.remove(&place.take()?);
        if waker.is_none() {
            self.awake -= 1;
        }
        waker
    }

    /// Whether it is not the turn of a place yet: it was looked at though nobody has woken it.
    pub(crate) fn is_asleep(&self, place: Option<u64>) -> bool {
        place.is_some_and(|place| self.asleep.contains_key(&place))
    }

    /// Whether nobody was woken after this place.
    pub(crate) fn was_woken_last(&self, place: Option<u64>) -> bool {
        place == Some(self.woken)
    }

    /// The place that was woken last.
    pub(crate) fn last_woken(&self) -> u64 {
        self.woken
    }

    /// Wakes the first ones until so many are awake, or nobody sleeps.
    #[inline]
    pub(crate) fn wake(&mut self, enough: usize, into: &mut Vec<Waker>) {
        while self.awake < enough
            && let Some((place, waker)) = self.asleep.pop_first()
        {
            self.awake += 1;
            self.woken = place;
            into.push(waker);
        }
    }

    /// Wakes one more, whether there is something for it or not.
    pub(crate) fn wake_another(&mut self, into: &mut Vec<Waker>) {
        self.wake(self.awake + 1, into);
    }

    pub(crate) fn wake_all(&mut self, into: &mut Vec<Waker>) {
        self.wake(usize::MAX, into);
    }

    #[inline]
    pub(crate) fn is_anybody_asleep(&self) -> bool {
        !self.asleep.is_empty()
    }

    /// Those that were woken and have not looked since, nor gone.
    pub(crate) fn awake(&self) -> usize {
        self.awake
    }

    /// Asleep or awake.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.asleep.len() + self.awake
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn wait(turns: &mut Turns, place: &mut Option<u64>) {
        turns.wait(place, Waker::noop().clone());
    }

    fn woken(turns: &mut Turns, enough: usize) -> usize {
        let mut woken = Vec::new();
        turns.wake(enough, &mut woken);
        woken.len()
    }

    #[test]
    fn as_many_are_awake_as_there_is_something_for() {
        let mut turns = Turns::default();
        let mut places = [None; 3];
        for place in &mut places {
            wait(&mut turns, place);
        }
        assert_eq!(woken(&mut turns, 1), 1);
        assert_eq!(woken(&mut turns, 1), 0, "one is awake already");
        assert!(turns.leave(&mut places[0]).is_none(), "it was woken");
        assert_eq!(woken(&mut turns, 1), 1, "and has made room for the next");
        wait(&mut turns, &mut places[1]);
        assert_eq!(woken(&mut turns, 1), 1, "who sleeps again keeps its turn");
        assert!(turns.leave(&mut places[1]).is_none());
        assert!(turns.leave(&mut places[2]).is_some(), "it slept all along");
        assert_eq!((turns.len(), turns.awake), (0, 0));
    }
}
