//! Looking entries up.

use super::{Engine, record};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::reentrancy::{self, Inside};
use crate::stats::Count;
use crate::table::{Entry, Locked, Ways};
use crate::time::{Deadline, Glance, NEVER};

impl<K, V> Engine<K, V> {
    /// Runs `f` on a live value, under the lock of its set, and counts the look-up.
    #[inline]
    pub(crate) fn read<Q, R>(&self, hash: KeyHash, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let result = self.access(hash, key, |entry| f(&entry.value));
        self.count(if result.is_some() {
            Count::Hits
        } else {
            Count::Misses
        });
        result
    }

    /// Runs `f` on a live entry as an access to it, which restarts its idle time and counts for
    /// the eviction policy.
    #[inline]
    pub(crate) fn access<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(&Entry<K, V>) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        if self.policy.reads_change_sets {
            return self.access_and_change(hash, key, |set, way| f(set.entry(way)));
        }
        self.look(hash, key, |entry| {
            entry.count_read();
            f(entry)
        })
    }

    /// As [`access`](Self::access), where reads move deadlines or the order of entries.
    #[inline(never)]
    pub(super) fn access_and_change<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(&Ways<K, V>, usize) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_if_used(&inside, hash)?;
        let way = set.find(hash, key)?;
        if !self.is_there(&set, way, set.entry(way)) {
            return None;
        }
        set.note_access(way);
        self.restart_idle_time(&mut set, way);
        let result = f(&set, way);
        drop((set, inside));
        self.have_swept();
        Some(result)
    }

    /// Runs `f` on a live entry without leaving a trace.
    #[inline]
    #[track_caller]
    pub(crate) fn look<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(&mut Entry<K, V>) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        // What the closure holds is dropped after the lock is released, also when it does not run:
        // arguments outlive what is declared here.
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_at_first_sight(&inside, hash)?;
        let mut glance = Glance::NONE;
        let Some((way, entry)) = set.find_entry_after(hash, key, || glance = self.glance()) else {
            if set.is_set_of(hash) {
                return None;
            }
            drop(set);
            return self.look_where_it_is_now(&inside, hash, key, f);
        };
        if glance.has_passed(entry.deadline(), &self.clock) {
            return None;
        }
        if !entry.is_labelled() {
            return Some(f(entry));
        }
        self.look_unless_fallen(&mut set, way, f)
    }

    /// As [`look`](Self::look), after the set was split.
    #[cold]
    #[inline(never)]
    fn look_where_it_is_now<Q, R>(
        &self,
        inside: &Inside,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(&mut Entry<K, V>) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut set = self.table.lock_if_used(inside, hash)?;
        let (way, entry) = set.find_entry(hash, key)?;
        if !self.is_live(entry.deadline()) {
            return None;
        }
        self.look_unless_fallen(&mut set, way, f)
    }

    /// Runs `f` on an entry whose time is not up, if its labels have not fallen.
    #[inline(never)]
    pub(super) fn look_unless_fallen<R>(
        &self,
        ways: &mut Ways<K, V>,
        way: usize,
        f: impl FnOnce(&mut Entry<K, V>) -> R,
    ) -> Option<R> {
        (!self.has_fallen(ways, way, ways.entry(way))).then(|| f(ways.entry_mut(way)))
    }

    /// A look at the clock, if an entry is likely to have a deadline.
    #[inline(always)]
    pub(super) fn glance(&self) -> Glance {
        if self.policy.time_to_live.is_some() {
            Glance::at(&self.clock)
        } else {
            Glance::NONE
        }
    }

    /// Whether this deadline is yet to come. Reads no clock for what never expires.
    #[inline(always)]
    pub(super) fn is_live(&self, deadline: Deadline) -> bool {
        deadline == NEVER || !self.clock.has_passed(deadline)
    }

    fn restart_idle_time(&self, set: &mut Locked<'_, K, V>, way: usize) {
        if !self.policy.reads_move_deadlines {
            return;
        }
        let entry = set.entry(way);
        let hard = set.hard_deadline(way);
        let before = self.recorder().map(|_| record::life(set, way));
        let new = self
            .policy
            .on_read(&self.clock.moment(), (&entry.key, &entry.value), hard);
        if let Some(ends) = new.ends {
            set.move_ends(way, ends);
        }
        set.move_deadline(way, new.effective);
        if let Some(before) = before {
            self.record_read(set, way, before);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{Cache, InsertOptions};

    /// The set that a look-up comes to after a split is asked as the first one is.
    #[test]
    fn what_has_fallen_is_not_seen_after_a_split_either() {
        let cache = Cache::<u64, u64>::new(100);
        cache.insert_with(1, 10, InsertOptions::new().tag("red"));
        let (engine, hash) = (cache.engine(), cache.hash(&1));
        let look = || {
            let inside = reentrancy::enter().unwrap();
            engine.look_where_it_is_now(&inside, hash, &1, |entry| entry.value)
        };
        assert_eq!(look(), Some(10));
        cache.invalidate_tag("red");
        assert_eq!(look(), None);
    }
}
