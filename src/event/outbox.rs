//! What a call leaves to be done when it has released its locks.

use super::hub::{Hub, Notice, QUEUES};
use super::{Event, EventKind, RemovalCause};
use crate::contain::contain;
use crate::load::{Loads, UnderWay, Verdict};
use crate::stats::{Count, Counters};

/// What most calls do not have: more than one thing to drop.
struct Rest<K, V> {
    entries: Vec<(K, V)>,
    keys: Vec<K>,
    values: Vec<V>,
    /// Loads that were overtaken: they hold keys, too.
    loads: Vec<UnderWay<K, V>>,
    /// As do verdicts, beside errors of the user's.
    verdicts: Vec<Verdict<K>>,
}

impl<K, V> Default for Rest<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            loads: Vec::new(),
            verdicts: Vec::new(),
        }
    }
}

/// What one call leaves to be done when it has released its locks: values to drop, queues to
/// drain. Dropping the outbox does it.
pub(crate) struct Outbox<'c, K, V> {
    hub: &'c Hub<K, V>,
    counters: Option<&'c Counters>,
    /// One bit for each queue that got something.
    queues: u16,
    /// The entry to drop, of calls that have one.
    entry: Option<(K, V)>,
    /// The key to drop, likewise.
    key: Option<K>,
    rest: Option<Box<Rest<K, V>>>,
}

impl<'c, K, V> Outbox<'c, K, V> {
    #[inline]
    pub(crate) fn new(hub: &'c Hub<K, V>, counters: Option<&'c Counters>) -> Self {
        Self {
            hub,
            counters,
            queues: 0,
            entry: None,
            key: None,
            rest: None,
        }
    }

    #[inline]
    pub(crate) fn count(&self, count: Count) {
        if let Some(counters) = self.counters {
            counters.add(count, 1);
        }
    }

    /// An entry came in.
    #[inline]
    pub(crate) fn inserted(&mut self, fingerprint: u16, key: &K) {
        if self.hub.is_heard() {
            let event = self.event(key, EventKind::Inserted);
            self.post(
                fingerprint,
                Notice {
                    event,
                    removal: None,
                },
            );
        }
    }

    /// The value of an entry was replaced; `old` is what was there, where it is known.
    #[inline]
    pub(crate) fn updated(&mut self, fingerprint: u16, key: &K, old: Option<&V>) {
        if !self.hub.is_heard() {
            return;
        }
        let removal = old.and_then(|old| self.copy_for_listener(key, old, RemovalCause::Replaced));
        let event = self.event(key, EventKind::Updated);
        self.post(fingerprint, Notice { event, removal });
    }

    /// An entry was removed, and the caller gets it.
    #[inline]
    pub(crate) fn handed_out(&mut self, fingerprint: u16, key: &K, value: &V) {
        self.count(Count::Removals);
        if !self.hub.is_heard() {
            return;
        }
        let removal = self.copy_for_listener(key, value, RemovalCause::Explicit);
        let event = self.event(key, EventKind::Removed(RemovalCause::Explicit));
        self.post(fingerprint, Notice { event, removal });
    }

    /// An entry was removed, and nobody needs it.
    #[inline]
    pub(crate) fn removed(&mut self, fingerprint: u16, key: K, value: V, cause: RemovalCause) {
        self.count(match cause {
            RemovalCause::Expired => Count::Expirations,
            RemovalCause::Explicit => Count::Removals,
            RemovalCause::Capacity => Count::Evictions,
            RemovalCause::Replaced => Count::Updates,
        });
        self.told_removed(fingerprint, key, value, cause);
    }

    /// As [`removed`](Self::removed), without counting.
    pub(crate) fn told_removed(&mut self, fingerprint: u16, key: K, value: V, cause: RemovalCause) {
        if !self.hub.is_heard() {
            return self.discard(key, value);
        }
        let event = self.event(&key, EventKind::Removed(cause));
        if self.hub.has_listener() {
            self.post(
                fingerprint,
                Notice {
                    event,
                    removal: Some((key, value, cause)),
                },
            );
        } else {
            self.discard(key, value);
            self.post(
                fingerprint,
                Notice {
                    event,
                    removal: None,
                },
            );
        }
    }

    fn event(&self, key: &K, kind: EventKind) -> Option<Event<K>> {
        let clone_key = self.hub.key_cloner()?;
        self.copy(|| Event {
            key: clone_key(key),
            kind,
        })
    }

    fn copy_for_listener(
        &self,
        key: &K,
        value: &V,
        cause: RemovalCause,
    ) -> Option<(K, V, RemovalCause)> {
        let listener = self.hub.listener.as_ref()?;
        self.copy(|| {
            (
                (listener.clone_key)(key),
                (listener.clone_value)(value),
                cause,
            )
        })
    }

    /// Runs a `Clone` of the user's. If it panics, this notice is lost and counted, and the call
    /// that is being told about goes on: it may have changed half of what it is to change.
    fn copy<T>(&self, clone: impl FnOnce() -> T) -> Option<T> {
        let copied = contain(clone);
        if copied.is_none() {
            self.count(Count::ListenerPanics);
        }
        copied
    }

    /// Has an entry dropped after the lock is released.
    #[inline]
    pub(crate) fn discard(&mut self, key: K, value: V) {
        if !std::mem::needs_drop::<(K, V)>() {
            return;
        }
        match self.entry {
            None => self.entry = Some((key, value)),
            Some(_) => self.rest().entries.push((key, value)),
        }
    }

    fn rest(&mut self) -> &mut Rest<K, V> {
        self.rest.get_or_insert_default()
    }

    /// Has a key dropped after the lock is released.
    #[inline]
    pub(crate) fn discard_key(&mut self, key: K) {
        match self.key {
            None => self.key = Some(key),
            Some(_) => self.rest().keys.push(key),
        }
    }

    /// Has a value dropped after the lock is released.
    pub(crate) fn discard_value(&mut self, value: V) {
        self.rest().values.push(value);
    }

    /// Has what the cache knew of loads dropped after the lock is released.
    pub(crate) fn discard_loads(&mut self, loads: Loads<K, V>) {
        if !loads.is_empty() {
            self.rest().loads.extend(loads);
        }
    }

    /// Has what a load had found out dropped after the lock is released.
    pub(crate) fn discard_verdict(&mut self, verdict: Verdict<K>) {
        self.rest().verdicts.push(verdict);
    }

    /// Has what the cache knew of a load dropped after the lock is released.
    #[inline]
    pub(crate) fn discard_load(&mut self, load: Option<UnderWay<K, V>>) {
        if let Some(load) = load {
            self.rest().loads.push(load);
        }
    }

    fn post(&mut self, fingerprint: u16, notice: Notice<K, V>) {
        if notice.event.is_none() && notice.removal.is_none() {
            return;
        }
        let number = usize::from(fingerprint) % QUEUES;
        self.hub.post(number, notice);
        self.queues |= 1 << number;
    }

    /// Parts with what is to be done, so that another thread can do it.
    pub(crate) fn into_leftovers(mut self) -> Leftovers<K, V> {
        Leftovers {
            entry: self.entry.take(),
            key: self.key.take(),
            rest: self.rest.take(),
            queues: std::mem::take(&mut self.queues),
        }
    }
}

impl<K, V> Drop for Outbox<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        if self.queues == 0 {
            return;
        }
        // A listener that panicked while a panic unwinds would abort the process.
        if std::thread::panicking() {
            self.hub.strand(self.queues);
        } else {
            self.hub.drain_all(self.queues, self.counters);
        }
    }
}

/// What an [`Outbox`] left over, to be finished on another thread.
pub(crate) struct Leftovers<K, V> {
    entry: Option<(K, V)>,
    key: Option<K>,
    rest: Option<Box<Rest<K, V>>>,
    queues: u16,
}

impl<K, V> Leftovers<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.entry.is_none() && self.key.is_none() && self.rest.is_none() && self.queues == 0
    }

    pub(crate) fn finish(self, hub: &Hub<K, V>, counters: Option<&Counters>) {
        // Before the values are dropped: a destructor may panic.
        hub.drain_all(self.queues, counters);
        drop((self.entry, self.key, self.rest));
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn all_that_is_to_be_dropped_goes_to_the_thread_that_finishes() {
        let hub = Hub::<Arc<()>, ()>::new(None);
        for keys in 1..3 {
            let key = Arc::new(());
            let mut outbox = Outbox::new(&hub, None);
            (0..keys).for_each(|_| outbox.discard_key(Arc::clone(&key)));
            let leftovers = outbox.into_leftovers();
            assert!(!leftovers.is_empty());
            assert_eq!(Arc::strong_count(&key), 1 + keys);
            leftovers.finish(&hub, None);
            assert_eq!(Arc::strong_count(&key), 1);
        }
    }
}
