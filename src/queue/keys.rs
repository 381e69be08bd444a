//! De-duplication: which keys count as pushed already.

use crate::slack::give_back;
use crate::time::{Deadline, after};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

type Waiting = HashMap<Arc<str>, BTreeSet<u64>>;

/// Every key that is known counts: one whose message has left is forgotten when its window ends,
/// by the sweep that each call begins with.
#[derive(Debug)]
pub(super) struct Keys {
    window: Duration,
    known: HashMap<Arc<str>, Known>,
    /// Messages that came back into the queue while their keys counted for others.
    waiting: Waiting,
    /// When the windows end, the next one first: they are all of one length.
    ends: VecDeque<(Deadline, Arc<str>)>,
}

#[derive(Debug)]
struct Known {
    id: u64,
    /// The end of the window.
    until: Deadline,
    /// The message is in the queue: ready, delayed or in flight.
    is_queued: bool,
}

impl Keys {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            known: HashMap::new(),
            waiting: HashMap::new(),
            ends: VecDeque::new(),
        }
    }

    /// The message that a key counts as pushed by.
    pub(super) fn find(&self, key: &str) -> Option<u64> {
        self.known.get(key).map(|known| known.id)
    }

    /// A message with a key that counts for no other comes into the queue.
    pub(super) fn insert(&mut self, key: &Arc<str>, id: u64, now: u64) {
        let known = Known {
            id,
            until: after(now, self.window),
            is_queued: true,
        };
        if !self.window.is_zero() {
            self.ends.push_back((known.until, Arc::clone(key)));
        }
        self.known.insert(Arc::clone(key), known);
    }

    /// A message leaves the queue. Its key may go on counting until its window ends, and does while
    /// another message that came back with it is in the queue.
    pub(super) fn release(&mut self, key: &str, id: u64, now: u64) {
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        if known.id != id {
            take_waiting(&mut self.waiting, key, |waiting| waiting.remove(&id));
            return;
        }
        let next = take_waiting(&mut self.waiting, key, BTreeSet::pop_first);
        if let Some(next) = next.flatten() {
            known.id = next;
            return;
        }
        known.is_queued = false;
        if known.until <= now {
            self.known.remove(key);
            self.give_back();
        }
    }

    /// A message comes back that had left. If its key counts for another one by now, that stays so
    /// until that one leaves.
    pub(super) fn retain(&mut self, key: &Arc<str>, id: u64, now: u64) {
        let anew = || Known {
            id,
            until: now,
            is_queued: true,
        };
        let known = self.known.entry(Arc::clone(key)).or_insert_with(anew);
        if known.id == id {
            known.is_queued = true;
        } else if known.is_queued {
            let waiting = self.waiting.entry(Arc::clone(key));
            waiting.or_default().insert(id);
        } else {
            (known.id, known.is_queued) = (id, true);
        }
    }

    /// Forgets the keys whose windows have ended, O(1) for each.
    #[inline]
    pub(super) fn sweep(&mut self, now: u64) {
        while let Some((until, _)) = self.ends.front()
            && *until <= now
            && let Some((_, key)) = self.ends.pop_front()
        {
            if self.known.get(&key).is_some_and(|known| !known.is_queued) {
                self.known.remove(&key);
            }
            self.give_back();
        }
    }

    /// Gives memory back when many keys have become few, in O(1) on average.
    fn give_back(&mut self) {
        give_back!(self.known);
        give_back!(self.ends);
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Checks what is known against the keys of the messages in the queue, after a sweep at `now`.
    ///
    /// # Panics
    /// With the first thing that is not as it should be.
    pub(super) fn validate<'k>(&self, queued: impl Iterator<Item = (&'k str, u64)>, now: u64) {
        let mut counted = 0;
        for (key, id) in queued {
            let known = self.known.get(key).expect("the key of a message is known");
            let is_waiting = || self.waiting.get(key).is_some_and(|ids| ids.contains(&id));
            let is_its = known.id == id || is_waiting();
            assert!(known.is_queued && is_its, "and known to be of the message");
            counted += 1;
        }
        let queued = self.known.values().filter(|known| known.is_queued).count();
        let waiting: usize = self.waiting.values().map(BTreeSet::len).sum();
        assert_eq!(
            queued + waiting,
            counted,
            "no message has gone with its key"
        );
        let mut waiting = self.waiting.values();
        assert!(waiting.all(|ids| !ids.is_empty()), "nobody waits in vain");
        assert!(self.ends.iter().is_sorted_by_key(|(until, _)| until));
        let mut left = self.known.iter().filter(|(_, known)| !known.is_queued);
        let ends = |(key, known): (&Arc<str>, &Known)| {
            let mut ends = self.ends.iter();
            known.until > now && ends.any(|(until, of)| *until == known.until && of == key)
        };
        assert!(
            left.all(ends),
            "a key without a message has a window that ends"
        );
    }
}

/// Takes one or another of the messages that wait for a key, of which there are none mostly.
fn take_waiting<R>(
    all: &mut Waiting,
    key: &str,
    take: impl FnOnce(&mut BTreeSet<u64>) -> R,
) -> Option<R> {
    let waiting = all.get_mut(key)?;
    let taken = take(waiting);
    if waiting.is_empty() {
        all.remove(key);
        give_back!(all);
    }
    Some(taken)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const WINDOW: u64 = 10;

    fn keys() -> Keys {
        Keys::new(Duration::from_nanos(WINDOW))
    }

    fn key(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    /// As every call does.
    fn found(keys: &mut Keys, name: &str, now: u64) -> Option<u64> {
        keys.sweep(now);
        keys.find(name)
    }

    #[test]
    fn a_key_counts_until_its_message_has_left_and_its_window_has_ended() {
        let mut keys = keys();
        keys.insert(&key("a"), 1, 0);
        keys.insert(&key("b"), 2, 5);
        keys.release("a", 1, 6);
        keys.release("b", 2, 6);
        assert_eq!(found(&mut keys, "a", 9), Some(1));
        assert_eq!(found(&mut keys, "a", 10), None);
        assert_eq!(found(&mut keys, "b", 14), Some(2));
        assert_eq!(found(&mut keys, "b", 15), None);
        keys.insert(&key("a"), 3, 20);
        assert_eq!(found(&mut keys, "a", 30), Some(3), "it is still queued");
        keys.release("a", 3, 30);
        assert_eq!((keys.find("a"), keys.len(), keys.ends.len()), (None, 0, 0));
    }

    #[test]
    fn a_message_that_comes_back_has_its_key_again_unless_it_is_anothers() {
        let mut keys = keys();
        keys.insert(&key("a"), 1, 0);
        assert_eq!(found(&mut keys, "a", 12), Some(1));
        keys.release("a", 1, 12);
        keys.retain(&key("a"), 1, 12);
        assert_eq!(found(&mut keys, "a", 13), Some(1));
        keys.release("a", 1, 13);
        assert_eq!(found(&mut keys, "a", 13), None);
        // Another message has the key by now, though it has left, too.
        keys.insert(&key("a"), 2, 20);
        keys.release("a", 2, 21);
        keys.retain(&key("a"), 1, 21);
        assert_eq!(found(&mut keys, "a", 29), Some(1));
        keys.release("a", 1, 29);
        assert_eq!(
            found(&mut keys, "a", 29),
            Some(1),
            "the window of the other"
        );
        assert_eq!(found(&mut keys, "a", 30), None);
        keys.insert(&key("a"), 3, 40);
        keys.retain(&key("a"), 1, 41);
        keys.release("a", 1, 42);
        assert_eq!(found(&mut keys, "a", 50), Some(3));
        keys.release("a", 3, 50);
        assert_eq!((keys.len(), keys.waiting.len()), (0, 0));
        // One that comes back within its window counts beyond it.
        keys.insert(&key("a"), 4, 60);
        keys.release("a", 4, 61);
        keys.retain(&key("a"), 4, 62);
        assert_eq!(found(&mut keys, "a", 70), Some(4));
        keys.release("a", 4, 71);
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn a_key_counts_for_those_who_came_back_when_the_other_leaves() {
        let mut keys = keys();
        keys.insert(&key("a"), 4, 0);
        for id in [3, 1, 2] {
            keys.retain(&key("a"), id, 1);
        }
        keys.release("a", 2, 2);
        assert_eq!(found(&mut keys, "a", 20), Some(4));
        for (leaves, left) in [(4, Some(1)), (1, Some(3)), (3, None)] {
            keys.release("a", leaves, 20);
            assert_eq!(found(&mut keys, "a", 20), left);
        }
        assert_eq!((keys.len(), keys.waiting.len()), (0, 0));
    }

    #[test]
    fn what_many_keys_took_is_given_back_when_their_windows_have_ended() {
        let mut keys = keys();
        for id in 0..10_000 {
            keys.insert(&key(&id.to_string()), id, 0);
        }
        let most = 8 * crate::slack::FEW;
        for id in 0..5_000 {
            keys.release(&id.to_string(), id, 1);
        }
        keys.sweep(WINDOW);
        assert!(keys.ends.capacity() <= most && keys.known.capacity() > most);
        for id in 5_000..10_000 {
            keys.release(&id.to_string(), id, WINDOW);
        }
        assert!(keys.known.capacity() <= most);
        for id in 0..10_000 {
            keys.insert(&key(&id.to_string()), id, WINDOW);
            keys.release(&id.to_string(), id, WINDOW);
        }
        keys.sweep(2 * WINDOW);
        assert!(keys.ends.capacity().max(keys.known.capacity()) <= most);
    }
}
