//! Clearing what has expired: when room is needed, and in the background.

use super::Engine;
use super::room::{Held, Work};
use crate::event::RemovalCause;
use crate::reentrancy::{self, Inside};
use crate::table::{Locked, Segment, Table};
use crate::time::{Clock, Deadline, NEVER, Sweep, Swept, register};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

/// How long a slice of sweeping may take.
const SLICE: Duration = Duration::from_millis(1);

/// Locks sets in a slice, and waits for those that others hold: the keeper once, for a part of the
/// slice, so that there is time left for others. Who moves a clock by hand wants all to be swept, and waits for each
/// set, for longer than a thread that has one locked is without a processor.
pub(super) struct SetLocker {
    patience: Option<Duration>,
    /// Whether the patience is used up by the first set that is waited for in vain.
    is_short: bool,
}

const SOON: Duration = Duration::from_micros(250);
const LONG: Duration = Duration::from_millis(100);

impl SetLocker {
    pub(super) fn of(clock: &Clock) -> Self {
        let is_short = !clock.is_mock();
        Self {
            patience: Some(if is_short { SOON } else { LONG }),
            is_short,
        }
    }

    pub(super) fn lock<'t, K, V>(
        &mut self,
        table: &'t Table<K, V>,
        inside: &Inside,
        index: usize,
    ) -> Option<Locked<'t, K, V>> {
        let Some(patience) = self.patience else {
            return table.try_lock_index(index);
        };
        let set = table.lock_index_soon(inside, index, patience);
        if set.is_none() && self.is_short {
            self.patience = None;
        }
        set
    }
}

impl<K, V> Engine<K, V> {
    /// Removes every entry of a set that has expired at `now`, but the one that is being replaced.
    /// The other entries stay in their ways. Each slot is looked at once.
    pub(super) fn clear_expired(
        &self,
        set: &mut Locked<'_, K, V>,
        now: Deadline,
        work: &mut Work<'_, K, V>,
    ) -> usize {
        let (mut cleared, mut first) = (0, NEVER);
        for way in 0..set.width() {
            let Some(entry) = set.get(way) else { continue };
            let deadline = set.gone(way);
            if deadline > now || entry.is_pinned() {
                first = first.min(deadline);
            } else {
                self.take_out(set, way, RemovalCause::Expired, work);
                cleared += 1;
            }
        }
        first = first.min(self.clear_expired_verdicts(set, now, work));
        set.set_hint(first);
        cleared
    }

    /// Clears expired entries until `enough`: those of the own set, then wherever the hints say
    /// that there are some. Sets that others hold are passed over.
    #[cold]
    pub(super) fn clear_expired_for(
        &self,
        own: &mut Locked<'_, K, V>,
        work: &mut Work<'_, K, V>,
        mut enough: impl FnMut(&mut Held<'_>) -> bool,
    ) {
        let now = self.clock.now();
        if own.hint() <= now {
            self.clear_expired(own, now, work);
        }
        if enough(&mut work.held) {
            return;
        }
        let _ = self.each_due_segment(now, |first, segment| {
            for offset in segment.due(now) {
                let Some(mut set) = self.table.try_lock_index(first + offset) else {
                    continue;
                };
                self.clear_expired(&mut set, now, work);
                if enough(&mut work.held) {
                    return ControlFlow::Break(());
                }
            }
            self.table.refresh_segment(segment);
            ControlFlow::Continue(())
        });
    }

    /// Visits the segments with something that has expired at `now`, each at most once, from where
    /// the last visit stopped. Raises the hint of the table when all were visited.
    fn each_due_segment(
        &self,
        now: Deadline,
        mut visit: impl FnMut(usize, &Segment<K, V>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let start = self.expiry_hand.load(Relaxed);
        for (from, until) in [(start, usize::MAX), (0, start)] {
            let mut next = from;
            while let Some((first, segment)) = self.table.segment_from(next) {
                if first >= until {
                    break;
                }
                if segment.earliest() <= now && visit(first, segment).is_break() {
                    self.expiry_hand.store(first, Relaxed);
                    return ControlFlow::Break(());
                }
                next = first + segment.len();
            }
        }
        self.table.refresh_earliest();
        ControlFlow::Continue(())
    }

    /// Clears what has expired until the time of a slice is up; says whether there is more. What
    /// others hold locked for longer is left for the next turn, and is not more: the keeper's slice
    /// waits for one set at most, and goes on behind it.
    fn sweep_for(&self, slice: Duration, work: &mut Work<'_, K, V>) -> bool {
        if !reentrancy::check() || !self.clock.has_passed(self.table.earliest()) {
            return false;
        }
        let (now, started) = (self.clock.now(), Instant::now());
        let (is_mock, mut locker) = (self.clock.is_mock(), SetLocker::of(&self.clock));
        let sweep = |first: usize, segment: &Segment<K, V>| {
            for offset in segment.due(now) {
                let Some(inside) = reentrancy::enter() else {
                    return ControlFlow::Break(());
                };
                let Some(mut set) = locker.lock(&self.table, &inside, first + offset) else {
                    continue;
                };
                self.clear_expired(&mut set, now, work);
                set.shrink_if_sparse();
                drop(set);
                drop(inside);
                work.held.release();
                if !is_mock && started.elapsed() >= slice {
                    return ControlFlow::Break(());
                }
            }
            self.table.refresh_segment(segment);
            ControlFlow::Continue(())
        };
        self.each_due_segment(now, sweep).is_break()
    }

    /// Clears everything that has expired or fallen, on this thread; how many entries that were.
    #[track_caller]
    pub(crate) fn sweep_all(&self) -> usize {
        if !reentrancy::check() {
            return 0;
        }
        let expired = self.clear_all_expired();
        if self.register.is_due() {
            expired + self.purge_all()
        } else {
            expired
        }
    }

    /// Clears everything that has expired or fallen, for a cache that makes room in no other way.
    pub(super) fn sweep_for_room(&self) {
        self.clear_all_expired();
        if self.register.has_felled() {
            self.purge_all();
        }
    }

    fn clear_all_expired(&self) -> usize {
        let mut cleared = 0;
        if !self.clock.has_passed(self.table.earliest()) {
            return cleared;
        }
        let now = self.clock.now();
        let _ = self.each_due_segment(now, |first, segment| {
            for offset in segment.due(now) {
                let mut work = self.work();
                let Some(inside) = reentrancy::enter() else {
                    return ControlFlow::Break(());
                };
                let mut set = self.table.lock_index(&inside, first + offset);
                cleared += self.clear_expired(&mut set, now, &mut work);
                set.shrink_if_sparse();
            }
            self.table.refresh_segment(segment);
            ControlFlow::Continue(())
        });
        cleared
    }

    /// Clears expired entries until `enough`, with no set locked: those that nobody holds, and
    /// where that does not do, it waits for the others.
    #[cold]
    pub(super) fn clear_expired_unlocked(
        &self,
        work: &mut Work<'_, K, V>,
        mut enough: impl FnMut(&mut Held<'_>) -> bool,
    ) {
        for waits in [false, true] {
            if enough(&mut work.held) || !self.clock.has_passed(self.table.earliest()) {
                return;
            }
            let now = self.clock.now();
            let _ = self.each_due_segment(now, |first, segment| {
                for offset in segment.due(now) {
                    let Some(inside) = reentrancy::enter() else {
                        return ControlFlow::Break(());
                    };
                    let index = first + offset;
                    let locked = match waits {
                        true => Some(self.table.lock_index(&inside, index)),
                        false => self.table.try_lock_index(index),
                    };
                    let Some(mut set) = locked else {
                        continue;
                    };
                    self.clear_expired(&mut set, now, work);
                    set.shrink_if_sparse();
                    if enough(&mut work.held) {
                        return ControlFlow::Break(());
                    }
                }
                self.table.refresh_segment(segment);
                ControlFlow::Continue(())
            });
        }
    }

    /// Has the cache swept from now on, once it has given out a deadline.
    #[inline]
    pub(super) fn have_swept(&self) {
        if !self.is_swept.load(Relaxed) && self.table.earliest() != NEVER {
            self.start_sweeping();
        }
    }
}

impl<K, V> Engine<K, V> {
    #[cold]
    pub(super) fn start_sweeping(&self) {
        if !self.is_swept.load(Relaxed) && !self.is_swept.swap(true, Acquire) {
            (self.policy.start_sweeping)(self);
        }
    }
}

impl<K, V> Sweep for Engine<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn interval(&self) -> Duration {
        self.policy.sweep_interval
    }

    fn sweep_slice(&self) -> Swept {
        let mut work = self.work();
        let end = Instant::now() + SLICE;
        let more = self.has_handles()
            && (self.sweep_for(SLICE, &mut work) || self.purge_until(end, &mut work));
        let leftovers = work.outbox.into_leftovers();
        if leftovers.is_empty() {
            return Swept {
                more,
                aftermath: None,
            };
        }
        let Some(engine) = self.me.upgrade() else {
            return Swept {
                more,
                aftermath: None,
            };
        };
        let finish = move || leftovers.finish(&engine.hub, engine.counters.as_ref());
        Swept {
            more,
            aftermath: Some(Box::new(finish)),
        }
    }

    fn needs_reaper(&self) -> bool {
        // What is remembered of a load may be an error, with a destructor of its own.
        let may_remember_errors = self.policy.error_ttl.is_some();
        std::mem::needs_drop::<(K, V)>() || may_remember_errors || self.hub.is_heard()
    }
}

/// Registers an engine with the keeper. A function pointer in the policy, so that the write path
/// needs no `'static` bounds.
pub(crate) fn start_sweeping<K, V>(engine: &Engine<K, V>)
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let me: std::sync::Weak<dyn Sweep> = engine.me.clone();
    register(&engine.clock, me, engine.policy.sweep_interval);
}

#[cfg(test)]
mod tests {
    use crate::Cache;
    use crate::time::Sweep;
    use std::time::Duration;

    #[test]
    fn who_remembers_errors_needs_the_reaper_and_who_drops_nothing_does_not() {
        let builder = || Cache::<u64, u64>::builder().max_entries(10);
        assert!(!builder().build().unwrap().engine().needs_reaper());
        let remembers = builder().error_ttl(Duration::from_secs(1));
        assert!(remembers.build().unwrap().engine().needs_reaper());
        let values = Cache::<u64, String>::builder().max_entries(10);
        assert!(values.build().unwrap().engine().needs_reaper());
    }
}
