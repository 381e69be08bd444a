//! De-duplication: which keys count as pushed already.

use crate::time::{Deadline, after};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Keys {
    window: Duration,
    known: HashMap<Arc<str>, Known>,
    /// When the windows end, the next one first: they are all of one length.
    ends: VecDeque<(Deadline, Arc<str>, u64)>,
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
            ends: VecDeque::new(),
        }
    }

    /// The message that a key counts as pushed by.
    pub(super) fn find(&self, key: &str, now: u64) -> Option<u64> {
        let known = self.known.get(key)?;
        (known.is_queued || known.until > now).then_some(known.id)
    }

    /// A message with a key that counts for no other comes into the queue.
    pub(super) fn insert(&mut self, key: &Arc<str>, id: u64, now: u64) {
        let known = Known {
            id,
            until: after(now, self.window),
            is_queued: true,
        };
        if !self.window.is_zero() {
            self.ends.push_back((known.until, Arc::clone(key), id));
        }
        self.known.insert(Arc::clone(key), known);
    }

    /// A message leaves the queue. Its key may go on counting until its window ends.
    pub(super) fn release(&mut self, key: &str, id: u64, now: u64) {
        let Some(known) = self.known.get_mut(key).filter(|known| known.id == id) else {
            return;
        };
        known.is_queued = false;
        if known.until <= now {
            self.known.remove(key);
        }
    }

    /// A message comes back that had left. If its key counts for another one by now, that stays so.
    pub(super) fn retain(&mut self, key: &Arc<str>, id: u64, now: u64) {
        match self.known.get_mut(key) {
            Some(known) if known.id == id => known.is_queued = true,
            Some(known) if known.is_queued || known.until > now => {}
            _ => {
                let known = Known {
                    id,
                    until: now,
                    is_queued: true,
                };
                self.known.insert(Arc::clone(key), known);
            }
        }
    }

    /// Forgets the keys whose windows have ended, O(1) for each.
    #[inline]
    pub(super) fn sweep(&mut self, now: u64) {
        while let Some((until, ..)) = self.ends.front()
            && *until <= now
            && let Some((_, key, id)) = self.ends.pop_front()
        {
            let is_over = |known: &Known| known.id == id && !known.is_queued;
            if self.known.get(&key).is_some_and(is_over) {
                self.known.remove(&key);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
