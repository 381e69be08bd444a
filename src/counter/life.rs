//! The time for which a counter counts, where that is bounded.
//!
//! A life begins with the first count of a key and belongs to all stripes: when it is over, the key
//! is at 0 in all of them at the same moment. Cells of the stripes point to it. A life is over when
//! its time is up, or when somebody ends it to take its counts.
//!
//! No lock of a stripe is held together with one of these.

use super::{Mutex, SHARDS, shard_of};
use crate::equivalent::Equivalent;
use crate::reentrancy;
use crate::slack::give_back;
use crate::time::{Clock, Deadline, after};
use crate::to_key::ToKey;
use hashtable::HashTable;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

pub(super) struct Life {
    hash: u64,
    deadline: Deadline,
    /// Set under the lock of its part by who ends it, and who takes the locks of the stripes after
    /// that: no stronger ordering is needed than theirs. A stripe that is being made meanwhile is
    /// not missed: a thread has its stripe before it asks for the life, under the lock of the part.
    /// If it asks before the end, who ends the life sees the stripe; if after, it finds another
    /// life.
    ended: AtomicBool,
}

impl Life {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(super) fn lives(&self, clock: &Clock) -> bool {
        !self.is_ended() && !clock.has_passed(self.deadline)
    }
}

pub(super) struct Lives<K> {
    time: Duration,
    parts: Box<[Mutex<Part<K>>]>,
}

/// The lives of keys of one part.
struct Part<K> {
    current: HashTable<(K, Arc<Life>)>,
    /// In the order of their deadlines, which is that in which they began: all last as long.
    queue: VecDeque<Arc<Life>>,
    /// How many in the queue were ended.
    ended: usize,
}

impl<K> Lives<K> {
    pub(super) fn new(time: Duration) -> Self {
        let part = || {
            Mutex::new(Part {
                current: HashTable::new(),
                queue: VecDeque::new(),
                ended: 0,
            })
        };
        Self {
            time,
            parts: (0..SHARDS).map(|_| part()).collect(),
        }
    }

    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// The life of a key now.
    pub(super) fn current<Q: Equivalent<K> + ?Sized>(
        &self,
        clock: &Clock,
        hash: u64,
        key: &Q,
    ) -> Option<Arc<Life>> {
        let _inside = reentrancy::enter()?;
        let part = self.parts[shard_of(hash)].lock();
        let found = part.current.find(hash, |(own, _)| key.equivalent(own));
        let life = found.map(|(_, life)| life);
        life.filter(|life| life.lives(clock)).cloned()
    }

    /// The life of a key now, or one that begins; with what is to be dropped.
    pub(super) fn begin<Q>(&self, clock: &Clock, hash: u64, key: &Q) -> (Arc<Life>, Option<K>)
    where
        Q: ToKey<K> + ?Sized,
    {
        if let Some(life) = self.current(clock, hash, key) {
            return (life, None);
        }
        let own = key.to_key();
        let _inside = reentrancy::enter();
        let mut part = self.parts[shard_of(hash)].lock();
        let part = &mut *part;
        let found = part.current.find_mut(hash, |(own, _)| key.equivalent(own));
        if let Some((_, life)) = &found
            && life.lives(clock)
        {
            return (Arc::clone(life), Some(own));
        }
        let life = Arc::new(Life {
            hash,
            deadline: after(clock.now(), self.time),
            ended: AtomicBool::new(false),
        });
        part.queue.push_back(Arc::clone(&life));
        match found {
            // The one before has expired, and is still in the queue to be swept.
            Some((_, before)) => {
                *before = Arc::clone(&life);
                (life, Some(own))
            }
            None => {
                let entry = (own, Arc::clone(&life));
                let hash_of = |(_, life): &(K, Arc<Life>)| life.hash;
                part.current.insert_unique(hash, entry, hash_of);
                (life, None)
            }
        }
    }

    /// Ends the life of a key, so that who asked may collect its counts.
    pub(super) fn end<Q: Equivalent<K> + ?Sized>(
        &self,
        clock: &Clock,
        hash: u64,
        key: &Q,
    ) -> Option<(K, Arc<Life>)> {
        let _inside = reentrancy::enter()?;
        let mut part = self.parts[shard_of(hash)].lock();
        let found = part
            .current
            .find_entry(hash, |(own, life)| life.lives(clock) && key.equivalent(own));
        let (entry, _) = found.ok()?.remove();
        entry.1.ended.store(true, Relaxed);
        part.forget_ended(1);
        Some(entry)
    }

    /// Ends all lives of a part. Those whose time is up stay for the sweep to find their cells.
    pub(super) fn end_all(&self, clock: &Clock, number: usize) -> Vec<(K, Arc<Life>)> {
        let mut part = self.parts[number].lock();
        let living = |(_, life): &mut (K, Arc<Life>)| life.lives(clock);
        let ended: Vec<_> = part.current.extract_if(living).collect();
        for (_, life) in &ended {
            life.ended.store(true, Relaxed);
        }
        part.forget_ended(ended.len());
        ended
    }

    /// Takes lives whose time is up out of the queue, at most so many, and their keys. Waits for no
    /// lock.
    pub(super) fn take_due(
        &self,
        clock: &Clock,
        number: usize,
        most: usize,
        due: &mut Vec<Arc<Life>>,
        keys: &mut Vec<K>,
    ) {
        let Some(mut part) = self.parts[number].try_lock() else {
            return;
        };
        let most = due.len().saturating_add(most);
        while due.len() < most
            && let Some(life) = part.next_due(clock)
        {
            if life.is_ended() {
                part.ended = part.ended.saturating_sub(1);
                continue;
            }
            let own = |(_, other): &(K, Arc<Life>)| Arc::ptr_eq(other, &life);
            if let Ok(entry) = part.current.find_entry(life.hash, own) {
                keys.push(entry.remove().0.0);
            }
            due.push(life);
        }
        part.give_back();
    }

    /// Checks every life, given the hash of a key, while nobody else uses the counters.
    ///
    /// # Panics
    /// With the first that is not as it should be.
    pub(super) fn validate(&self, hash_of: impl Fn(&K) -> u64)
    where
        K: Eq,
    {
        for (number, part) in self.parts.iter().enumerate() {
            let Some(_inside) = reentrancy::enter() else {
                return;
            };
            let part = part.lock();
            assert!(part.queue.iter().is_sorted_by_key(|life| life.deadline));
            let ended = part.queue.iter().filter(|life| life.is_ended());
            assert_eq!(ended.count(), part.ended, "those that were ended");
            for (key, life) in &part.current {
                assert_eq!(life.hash, hash_of(key), "the hash of the key");
                assert_eq!(shard_of(life.hash), number, "the part of the key");
                let alike = part.current.iter().filter(|(other, _)| other == key);
                assert_eq!(alike.count(), 1, "a key has one life");
                let mut queue = part.queue.iter();
                let is_queued = queue.any(|other| Arc::ptr_eq(other, life));
                assert!(is_queued && !life.is_ended(), "that ends");
            }
        }
    }

    /// The lives that a part has room for.
    #[cfg(all(test, not(shuttle)))]
    pub(super) fn room(&self, number: usize) -> usize {
        let part = self.parts[number].lock();
        part.current.capacity().max(part.queue.capacity())
    }
}

impl<K> Part<K> {
    fn next_due(&mut self, clock: &Clock) -> Option<Arc<Life>> {
        let is_due = self.queue.front().is_some_and(|life| !life.lives(clock));
        if is_due { self.queue.pop_front() } else { None }
    }

    /// Keeps the queue from growing where counters are taken more often than their time is up.
    fn forget_ended(&mut self, more: usize) {
        self.ended += more;
        if self.ended > 64 && self.ended > self.queue.len() / 2 {
            self.queue.retain(|life| !life.is_ended());
            self.ended = 0;
        }
        self.give_back();
    }

    /// Gives memory back when many lives have become few, in O(1) on average.
    fn give_back(&mut self) {
        give_back!(self.current, |(_, life)| life.hash);
        give_back!(self.queue);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn lives_that_were_ended_do_not_pile_up() {
        let (clock, lives) = (Clock::real(), Lives::new(Duration::from_secs(3_600)));
        let longest = |lives: &Lives<u32>| lives.parts[0].lock().queue.len();
        for _ in 0..1_000 {
            drop(lives.begin(&clock, 0, &1));
            assert!(lives.end(&clock, 0, &1).is_some());
            assert!(longest(&lives) <= 130);
        }
        for _ in 0..1_000 {
            drop(lives.begin(&clock, 0, &1));
            assert_eq!(lives.end_all(&clock, 0).len(), 1);
            assert!(longest(&lives) <= 130);
        }
    }
}
