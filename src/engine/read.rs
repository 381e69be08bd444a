//! Looking entries up.

use super::Engine;
use crate::entry::Ttl;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::stats::Count;
use crate::table::Found;
use crate::time::{Deadline, NEVER, left};
use std::time::SystemTime;

impl<K, V> Engine<K, V> {
    /// Runs `f` on a live value, under the lock of its set, and counts the look-up.
    #[inline]
    pub(crate) fn read<Q, R>(&self, hash: KeyHash, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let result = self.access(hash, key, |found| f(&found.entry().value));
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
        f: impl FnOnce(Found<'_, K, V>) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let result = self.look(hash, key, |found| {
            found.entry().count_read();
            if self.policy.reads_move_deadlines {
                self.restart_idle_time(found);
            }
            f(found)
        });
        if self.policy.reads_move_deadlines {
            self.have_swept();
        }
        result
    }

    /// Runs `f` on a live entry without leaving a trace.
    #[inline]
    pub(crate) fn look<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(Found<'_, K, V>) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let inside = reentrancy::enter()?;
        let live = |found: Found<'_, K, V>| {
            self.is_there(found.ways, found.way, found.entry())
                .then(|| f(found))
        };
        self.table.find(&inside, hash, key, live).flatten()
    }

    /// Whether this deadline is yet to come. Reads no clock for what never expires.
    #[inline]
    pub(super) fn is_live(&self, deadline: Deadline) -> bool {
        deadline == NEVER || !self.clock.has_passed(deadline)
    }

    #[cold]
    #[inline(never)]
    fn restart_idle_time(&self, found: Found<'_, K, V>) {
        let entry = found.entry();
        let hard = found.ways.hard_deadline(found.way);
        let new = self
            .policy
            .on_read(&self.clock.moment(), (&entry.key, &entry.value), hard);
        if let Some(ends) = new.ends {
            found.ways.move_ends(found.way, ends);
        }
        if new.effective != entry.deadline() {
            found.move_deadline(new.effective);
        }
    }

    pub(crate) fn ttl<Q>(&self, hash: KeyHash, key: &Q) -> Option<Ttl>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let deadline = self.look(hash, key, |found| found.entry().deadline())?;
        Some(left(deadline, self.clock.now()).map_or(Ttl::Never, Ttl::Left))
    }

    pub(crate) fn deadline<Q>(&self, hash: KeyHash, key: &Q) -> Option<Option<SystemTime>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let deadline = self.look(hash, key, |found| found.entry().deadline())?;
        Some(self.clock.system_time_of(deadline))
    }
}
