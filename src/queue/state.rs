//! The queue as a machine without clocks and threads.
//!
//! All of it happens under one lock, and no code of the user's runs under that: what is to be done
//! after it (waking, setting and dropping timers, dropping messages) is handed out as [`After`]. A
//! message is in one place at a time: a line, the delayed, the flights, or the dead letters.

use super::builder::Rules;
use super::error::{PopError, ReceiptError, RequeueError};
use super::flights::Flights;
use super::kept::{Kept, NotKept, Pending};
use super::keys::Keys;
use super::line::{Lines, place, remove_from};
use super::message::{DeadLetter, Entry, Payload};
use super::stats::QueueStats;
use super::{Overflow, Pushed};
use crate::time::{Deadline, NEVER, Timer, after};
use crate::turns::Turns;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct State<T> {
    pub(super) rules: Rules,
    ready: Lines<T>,
    delayed: BTreeMap<(Deadline, u64), Entry<T>>,
    flights: Flights<T>,
    dead: BTreeMap<u64, Entry<T>>,
    keys: Keys,
    kept: Kept<T>,
    next_id: u64,
    /// Of who comes in next, anew or from the dead.
    next_order: u64,
    /// The latest time that a call has come at.
    latest: u64,
    counts: QueueStats,
    pub(super) is_paused: bool,
    is_closed: bool,
    pub(super) poppers: Turns,
    pub(super) pushers: Turns,
    /// Those who wait until the queue is empty.
    pub(super) watchers: Turns,
    /// When the timer is or will be set to go off.
    watched: Deadline,
    timer: Option<Timer>,
}

/// What is handed out.
pub(super) struct Taken<T> {
    pub(super) id: u64,
    pub(super) flight: u64,
    pub(super) attempts: u32,
    pub(super) payload: Arc<Payload<T>>,
}

/// Why a message was not taken in.
pub(super) enum Refusal {
    Full,
    Closed,
    NotKept(NotKept),
}

/// A message that was not taken in, and why.
pub(super) type Refused<T> = (Arc<Payload<T>>, Refusal);

/// How a delivery ends that was not acknowledged.
pub(super) enum Failure {
    /// It is tried again, if it may be, after what the queue's backoff says.
    Retry,
    /// It is tried again, if it may be, at this time; `None` for at once.
    RetryAt(Option<Deadline>),
    /// It is not tried again.
    Bury,
}

/// What is left to do once the queue is unlocked.
#[must_use = "waiters have to be woken"]
pub(super) struct After<T> {
    pub(super) wakers: Vec<Waker>,
    /// A timer is needed that goes off then.
    pub(super) watch: Option<Deadline>,
    timer: Option<Timer>,
    /// Messages that are given up. Their destructors are code of the user's.
    pub(super) garbage: Vec<Arc<Payload<T>>>,
}

impl<T> After<T> {
    /// Whether there is nothing to do, as mostly. A timer is just dropped.
    #[inline]
    pub(super) fn is_nothing(&self) -> bool {
        self.wakers.is_empty() && self.watch.is_none() && self.garbage.is_empty()
    }
}

impl<T> Default for After<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            watch: None,
            timer: None,
            garbage: Vec::new(),
        }
    }
}

impl<T> State<T> {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            ready: Lines::default(),
            delayed: BTreeMap::new(),
            flights: Flights::default(),
            dead: BTreeMap::new(),
            keys: Keys::new(rules.dedup_window),
            kept: Kept::nowhere(),
            next_id: 1,
            next_order: 1,
            latest: 0,
            counts: QueueStats::default(),
            is_paused: false,
            is_closed: false,
            poppers: Turns::default(),
            pushers: Turns::default(),
            watchers: Turns::default(),
            watched: NEVER,
            timer: None,
            rules,
        }
    }

    /// Goes on with the messages of a queue that was kept.
    #[cfg(feature = "persist")]
    pub(super) fn recover(
        &mut self,
        kept: Kept<T>,
        entries: Vec<(Entry<T>, bool)>,
        next_id: u64,
        now: u64,
    ) {
        (self.kept, self.next_id, self.next_order) = (kept, next_id, next_id);
        // A precise reading: the next call, whose coarse one lags, is not to come before it.
        let now = self.advance(now);
        for (entry, is_dead) in entries {
            if is_dead {
                self.dead.insert(entry.id, entry);
                continue;
            }
            if let Some(key) = &entry.payload.key {
                self.keys.retain(key, entry.id, now);
            }
            self.enter(entry, now);
        }
        let mut after = After::default();
        self.trim(&mut after);
        drop(after);
    }

    #[cfg(feature = "persist")]
    pub(super) fn journal(&self) -> Option<crate::persist::Journal> {
        self.kept.journal().cloned()
    }

    // ---- time ----

    /// The time of a call, from what it has read of the clock. A coarse reading lags behind a
    /// precise one that came before it; under the lock time does not run backwards, or messages
    /// would overtake each other.
    #[inline]
    pub(super) fn advance(&mut self, reading: u64) -> u64 {
        self.latest = self.latest.max(reading);
        self.latest
    }

    /// When the next message becomes ready by itself.
    #[inline]
    pub(super) fn next_event(&self) -> Deadline {
        let delayed = self.delayed.first_key_value();
        let delayed = delayed.map_or(NEVER, |((due, _), _)| *due);
        delayed.min(self.flights.next_end())
    }

    /// Does what has become due. Every call begins with it, so no answer is older than its call.
    #[inline]
    pub(super) fn settle(&mut self, now: u64, after: &mut After<T>) {
        self.keys.sweep(now);
        while self.next_event() <= now {
            self.settle_next(now, after);
        }
    }

    fn settle_next(&mut self, now: u64, after: &mut After<T>) {
        if let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let entry = first.remove();
            return self.ready.insert(entry);
        }
        if let Some(mut entry) = self.flights.end_next(now) {
            self.counts.expired += 1;
            entry.error = Some("the attempt took longer than it may".into());
            // It takes its old place again, before all that came later.
            let due = entry.due;
            self.try_again(entry, due, now, after);
        }
    }

    // ---- coming in ----

    /// Takes a message in. Who was woken from its place (`is_next`) has its turn; others come after
    /// those who wait.
    pub(super) fn push(
        &mut self,
        payload: Arc<Payload<T>>,
        due: Option<Deadline>,
        is_next: bool,
        now: u64,
        after: &mut After<T>,
    ) -> Result<(Pushed, Pending), Refused<T>> {
        if self.is_closed {
            return Err((payload, Refusal::Closed));
        }
        let key = payload.key.as_ref();
        if let Some(id) = key.and_then(|key| self.keys.find(key)) {
            self.counts.duplicates += 1;
            after.garbage.push(payload);
            // The record of the first may still be on its way to the disk.
            return Ok((Pushed::Duplicate(id), self.kept.all_so_far()));
        }
        let others = if is_next { 0 } else { self.pushers.len() };
        let is_full = self.len() + others >= self.rules.capacity;
        if is_full && !self.can_make_room() {
            return Err((payload, Refusal::Full));
        }
        let entry = Entry {
            id: self.next_id,
            due: due.unwrap_or(now),
            order: self.next_order,
            attempts: 0,
            error: None,
            payload,
        };
        self.kept.reserve(entry.id);
        let pending = match self.kept.put(&entry, now) {
            Ok(pending) => pending,
            Err(error) => return Err((entry.payload, Refusal::NotKept(error))),
        };
        self.next_id += 1;
        self.next_order += 1;
        self.counts.pushed += 1;
        if let Some(key) = &entry.payload.key {
            self.keys.insert(key, entry.id, now);
        }
        if is_full {
            self.make_room(now, after);
        }
        let pushed = Pushed::Queued(entry.id);
        self.enter(entry, now);
        Ok((pushed, pending))
    }

    fn can_make_room(&self) -> bool {
        let is_anything_idle = self.ready.len() > 0 || !self.delayed.is_empty();
        self.rules.overflow == Overflow::DropOldest && is_anything_idle
    }

    /// Gives up the oldest message for a new one, which is safe by now.
    fn make_room(&mut self, now: u64, after: &mut After<T>) {
        let lowest = self.ready.pop_lowest();
        let given_up = lowest.or_else(|| self.delayed.pop_first().map(|(_, entry)| entry));
        if let Some(entry) = given_up {
            self.leave(&entry, now);
            self.discard(entry, after);
        }
    }

    /// Takes a message out for good that waits; whether it did. Its destructor runs afterwards.
    pub(super) fn cancel(&mut self, id: u64, now: u64, after: &mut After<T>) -> bool {
        let ready = self.ready.remove(id);
        let Some(entry) = ready.or_else(|| remove_from(&mut self.delayed, id)) else {
            return false;
        };
        self.leave(&entry, now);
        self.kept.remove(id);
        self.counts.cancelled += 1;
        after.garbage.push(entry.payload);
        true
    }

    /// Puts a message where it belongs by its time.
    fn enter(&mut self, entry: Entry<T>, now: u64) {
        if entry.due <= now {
            self.ready.insert(entry);
        } else {
            self.delayed.insert(place(&entry), entry);
        }
    }

    // ---- going out ----

    /// Hands out the message whose turn it is.
    #[inline]
    pub(super) fn take(&mut self, now: u64) -> Result<Taken<T>, PopError> {
        let next = if self.is_paused {
            None
        } else {
            self.ready.pop()
        };
        let Some(mut entry) = next else {
            return Err(if self.is_closed {
                PopError::Closed
            } else {
                PopError::Empty
            });
        };
        self.counts.delivered += 1;
        entry.attempts = entry.attempts.saturating_add(1);
        let (id, attempts, payload) = (entry.id, entry.attempts, Arc::clone(&entry.payload));
        let until = after(now, self.rules.held_for());
        Ok(Taken {
            id,
            flight: self.flights.begin(entry, until),
            attempts,
            payload,
        })
    }

    /// Ends a delivery whose work is done. The message is for the caller to drop.
    #[inline]
    pub(super) fn ack(&mut self, flight: u64, now: u64) -> Option<Entry<T>> {
        let entry = self.flights.end(flight)?;
        self.counts.acked += 1;
        self.leave(&entry, now);
        self.kept.remove(entry.id);
        Some(entry)
    }

    /// Ends a delivery whose work is not done; whether it still counted.
    pub(super) fn fail(
        &mut self,
        flight: u64,
        failure: Failure,
        error: Option<Box<str>>,
        now: u64,
        after: &mut After<T>,
    ) -> bool {
        let Some(mut entry) = self.flights.end(flight) else {
            return false;
        };
        self.counts.failed += 1;
        entry.error = error;
        let due = match failure {
            Failure::Bury => {
                self.bury(entry, now, after);
                return true;
            }
            Failure::RetryAt(due) => due,
            Failure::Retry => {
                let delay = self.rules.backoff_after(entry.attempts);
                (!delay.is_zero()).then(|| crate::time::after(now, delay))
            }
        };
        // Given back at once, it keeps its place.
        let due = due.unwrap_or(entry.due);
        self.try_again(entry, due, now, after);
        true
    }

    /// Ends a delivery as if there had been none; whether it still counted. The message is due at
    /// this time, or where it was. What is written of it says nothing of the attempt yet.
    pub(super) fn release(&mut self, flight: u64, due: Option<Deadline>, now: u64) -> bool {
        let Some(mut entry) = self.flights.end(flight) else {
            return false;
        };
        self.counts.released += 1;
        entry.attempts = entry.attempts.saturating_sub(1);
        if let Some(due) = due {
            entry.due = due;
            self.kept.rewrite(&entry, false, now);
        }
        self.enter(entry, now);
        true
    }

    /// Has a delivery last until a point in time; never makes it shorter unless it is told so.
    pub(super) fn extend(&mut self, flight: u64, until: Deadline, may_shorten: bool) -> bool {
        self.flights.extend(flight, until, may_shorten)
    }

    pub(super) fn end_of(&self, flight: u64) -> Option<Deadline> {
        self.flights.end_of(flight)
    }

    fn try_again(&mut self, mut entry: Entry<T>, due: Deadline, now: u64, after: &mut After<T>) {
        if entry.attempts >= self.rules.max_attempts {
            return self.bury(entry, now, after);
        }
        entry.due = due;
        self.kept.rewrite(&entry, false, now);
        self.enter(entry, now);
    }

    /// A message is neither ready, delayed nor in flight any more.
    #[inline]
    fn leave(&mut self, entry: &Entry<T>, now: u64) {
        if let Some(key) = &entry.payload.key {
            self.keys.release(key, entry.id, now);
        }
    }

    fn discard(&mut self, entry: Entry<T>, after: &mut After<T>) {
        self.counts.discarded += 1;
        self.kept.remove(entry.id);
        after.garbage.push(entry.payload);
    }

    // ---- dead letters ----

    fn bury(&mut self, entry: Entry<T>, now: u64, after: &mut After<T>) {
        self.leave(&entry, now);
        self.counts.buried += 1;
        self.kept.rewrite(&entry, true, now);
        self.dead.insert(entry.id, entry);
        self.trim(after);
    }

    /// Discards the oldest dead letters of more than there may be.
    fn trim(&mut self, after: &mut After<T>) {
        while self.dead.len() > self.rules.dead_letters
            && let Some((_, oldest)) = self.dead.pop_first()
        {
            self.discard(oldest, after);
        }
    }

    pub(super) fn dead_letters(&self) -> Vec<DeadLetter<T>> {
        let letters = self.dead.values().map(|entry| DeadLetter {
            id: entry.id,
            attempts: entry.attempts,
            error: entry.error.clone(),
            payload: Arc::clone(&entry.payload),
        });
        letters.collect()
    }

    /// Gives a dead letter all its attempts again, at the end of the line.
    pub(super) fn requeue(&mut self, id: u64, now: u64) -> Result<(), RequeueError> {
        if self.is_closed {
            return Err(RequeueError::Closed);
        }
        if !self.dead.contains_key(&id) {
            return Err(RequeueError::NotDead);
        }
        if self.room() == 0 {
            return Err(RequeueError::Full);
        }
        if let Some(mut entry) = self.dead.remove(&id) {
            (entry.attempts, entry.due, entry.error) = (0, now, None);
            // Behind what was pushed at this moment, though its number is lower.
            entry.order = self.next_order;
            self.next_order += 1;
            if let Some(key) = &entry.payload.key {
                self.keys.retain(key, id, now);
            }
            self.kept.rewrite(&entry, false, now);
            self.enter(entry, now);
        }
        Ok(())
    }

    /// Requeues as many dead letters as there is room for; how many.
    pub(super) fn requeue_all(&mut self, now: u64) -> usize {
        let ids: Vec<u64> = self.dead.keys().copied().take(self.room()).collect();
        let requeued = ids.iter().filter(|id| self.requeue(**id, now).is_ok());
        requeued.count()
    }

    /// Takes a dead letter out for good.
    pub(super) fn purge(&mut self, id: u64) -> Option<Entry<T>> {
        let purged = self.dead.remove(&id)?;
        self.kept.remove(id);
        Some(purged)
    }

    pub(super) fn purge_all(&mut self) -> BTreeMap<u64, Entry<T>> {
        self.dead.keys().for_each(|id| self.kept.remove(*id));
        std::mem::take(&mut self.dead)
    }

    // ---- the whole ----

    /// Ready, delayed and in flight.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.flights.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn close(&mut self, after: &mut After<T>) {
        self.is_closed = true;
        self.poppers.wake_all(&mut after.wakers);
        self.pushers.wake_all(&mut after.wakers);
    }

    pub(super) fn stats(&self, now: u64) -> QueueStats {
        let age = |due| Duration::from_nanos(now.saturating_sub(due));
        QueueStats {
            ready: self.ready.len(),
            delayed: self.delayed.len(),
            in_flight: self.flights.len(),
            dead: self.dead.len(),
            keys: self.keys.len(),
            oldest_age: self.ready.oldest().map(age),
            ..self.counts
        }
    }

    /// Checks every invariant, once what is due at `now` is done.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(super) fn validate(&self, now: u64) {
        self.ready.validate();
        self.flights.validate();
        assert!(self.ready.iter().all(|entry| entry.due <= now), "ready");
        let mut delayed = self.delayed.iter();
        assert!(delayed.all(|(at, entry)| *at == place(entry) && entry.due > now));
        assert!(self.dead.iter().all(|(id, entry)| *id == entry.id), "dead");
        let most = self.rules.dead_letters;
        assert!(self.dead.len() <= most, "as many dead letters as may be");
        let waiting = self.ready.iter().chain(self.delayed.values());
        let queued: Vec<_> = waiting.chain(self.flights.iter()).collect();
        assert_eq!(queued.len(), self.len(), "every message is counted");
        let orders: BTreeSet<_> = queued.iter().map(|entry| entry.order).collect();
        assert_eq!(orders.len(), queued.len(), "each has its place");
        assert!(orders.last().is_none_or(|last| *last < self.next_order));
        let ids = queued.iter().map(|entry| entry.id);
        let all: BTreeSet<_> = ids.chain(self.dead.keys().copied()).collect();
        let places = queued.len() + self.dead.len();
        assert_eq!(all.len(), places, "a message is in one place");
        assert!(all.last().is_none_or(|last| *last < self.next_id));
        let with_keys = queued.iter().filter_map(|entry| {
            let key = entry.payload.key.as_deref()?;
            Some((key, entry.id))
        });
        self.keys.validate(with_keys, now);
        self.kept.validate(&all);
    }

    fn room(&self) -> usize {
        self.rules.capacity.saturating_sub(self.len())
    }

    // ---- those who wait ----

    /// Wakes as many as there is something for, and has the next event watched while anybody
    /// sleeps. Every call ends with it.
    #[inline]
    pub(super) fn rouse(&mut self, after: &mut After<T>) {
        if self.is_anybody_asleep() {
            self.rouse_sleepers(after);
        }
        if self.watched != NEVER && !self.is_anybody_asleep() {
            after.timer = self.timer.take();
            self.watched = NEVER;
        }
    }

    #[inline]
    fn is_anybody_asleep(&self) -> bool {
        self.poppers.is_anybody_asleep()
            || self.pushers.is_anybody_asleep()
            || self.watchers.is_anybody_asleep()
    }

    fn rouse_sleepers(&mut self, after: &mut After<T>) {
        let ready = if self.is_paused { 0 } else { self.ready.len() };
        self.poppers.wake(ready, &mut after.wakers);
        self.pushers.wake(self.room(), &mut after.wakers);
        if self.len() == 0 {
            self.watchers.wake_all(&mut after.wakers);
            if self.is_closed {
                // Workers that wait for the end.
                self.poppers.wake_all(&mut after.wakers);
            }
        }
        if self.is_anybody_asleep() {
            self.watch(after);
        }
    }

    /// A timer that goes off too early does no harm and is set again, so it stays unless an earlier
    /// one is needed.
    fn watch(&mut self, after: &mut After<T>) {
        let next = self.next_event();
        if next < self.watched {
            self.watched = next;
            after.watch = Some(next);
        }
    }

    /// Keeps a timer that was asked for, unless it is not wanted any more.
    pub(super) fn keep_timer(&mut self, timer: Timer, deadline: Deadline) -> Option<Timer> {
        if self.watched == deadline {
            self.timer.replace(timer)
        } else {
            Some(timer)
        }
    }

    /// The timer has gone off. Who is woken does what has become due: it may drop messages, which
    /// is code of the user's that the thread of the timers does not run.
    pub(super) fn timer_went_off(&mut self, after: &mut After<T>) {
        self.watched = NEVER;
        after.timer = self.timer.take();
        self.poppers.wake_another(&mut after.wakers);
        self.pushers.wake_another(&mut after.wakers);
        self.watchers.wake_another(&mut after.wakers);
    }
}

/// What a receipt that names no flight says.
pub(super) fn stale(id: u64) -> ReceiptError {
    ReceiptError::Stale { id }
}
