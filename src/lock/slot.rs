//! What is known of a key: who holds it and who waits, as a machine without clocks and threads.
//!
//! All of it happens under the lock of the key. What is to be done after that (waking,
//! setting and dropping timers) is handed out as [`After`].

use super::error::LockError;
use super::waiter::Waiter;
use crate::keyed::State;
use crate::sync::AtomicU64;
use crate::time::{Clock, Deadline, NEVER, Timer, wake_all};
use std::collections::VecDeque;
use std::mem;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Waker;

/// Below this a lease time is counted from a precise reading of the clock. In nanoseconds, as they
/// are here.
const SHORT: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Slot {
    holders: Holders,
    queue: Option<Box<Queue>>,
    /// When the last lease was granted; may lag by a tick of the kernel.
    granted_at: u64,
}

/// At most as many as there are permits, in no order. Mostly there is one permit, which takes no
/// memory of its own.
#[derive(Debug, Default)]
struct Holders {
    /// Somebody, if there is anybody.
    first: Option<Holder>,
    others: Option<Box<Others>>,
}

/// Apart, so that a slot is small.
#[derive(Debug)]
struct Others {
    list: Vec<Holder>,
    /// The sum of theirs.
    permits: u32,
    /// None of them ends before.
    first_end: Deadline,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    token: u64,
    deadline: Deadline,
    /// The thread that asked for it, 0 for a task.
    thread: u64,
    permits: NonZeroU32,
}

/// A lease as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) token: u64,
    pub(super) deadline: Deadline,
    /// How long a renewal holds.
    pub(super) lease_time: u64,
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) permits: NonZeroU32,
    pub(super) thread: u64,
    pub(super) lease_time: u64,
}

/// Those who wait, the first to be served in front. Never empty.
#[derive(Debug)]
struct Queue {
    waiters: VecDeque<Arc<Waiter>>,
    /// When the timer is or will be set to go off.
    watched: Deadline,
    timer: Option<Timer>,
}

/// What a key is asked about, beside its slot.
pub(super) struct Terms<'t> {
    pub(super) permits: u32,
    /// A reading that may lag by a tick of the kernel where no lease is about to end.
    pub(super) now: u64,
    pub(super) clock: &'t Clock,
    /// The token of the next lease.
    pub(super) tokens: &'t AtomicU64,
}

impl Terms<'_> {
    /// The end of a lease that begins now. A long one may end a tick of the kernel early.
    #[inline]
    fn in_time(&self, lease_time: u64) -> Deadline {
        let now = if lease_time < SHORT {
            self.clock.now()
        } else {
            self.now
        };
        now.saturating_add(lease_time)
    }
}

/// What is left to do once the key is unlocked.
#[derive(Debug, Default)]
#[must_use = "waiters have to be woken"]
pub(super) struct After {
    wakers: Vec<Waker>,
    unused: Option<Timer>,
    /// A timer is needed that goes off then.
    pub(super) watch: Option<Deadline>,
}

impl After {
    pub(super) fn wake(self) {
        wake_all(self.wakers);
    }
}

/// What came of asking.
pub(super) enum Asked {
    Granted(Grant),
    Reentrant,
    /// There are others.
    Busy,
}

impl State for Slot {
    fn idle_from(&self) -> Deadline {
        if self.queue.is_some() {
            // The timer sees to it.
            return NEVER;
        }
        let ends = self.holders.iter().map(|holder| holder.deadline);
        ends.fold(self.granted_at, Deadline::max)
    }
}

impl Slot {
    /// Grants what is asked for where nobody holds anything or waits, as it is nearly always.
    #[inline]
    pub(super) fn take_free(&mut self, ask: Ask, terms: &Terms<'_>) -> Option<Grant> {
        // Nobody waits where nobody holds anything: they would have been served.
        self.holders.first.is_none().then(|| self.grant(ask, terms))
    }

    /// Ends a lease where nobody waits for it; when it would have ended by itself. `None` where it
    /// has ended before, or others are to be served.
    #[inline]
    pub(super) fn give_back(&mut self, token: u64) -> Option<Deadline> {
        if self.queue.is_some() {
            return None;
        }
        Some(self.holders.remove(token)?.deadline)
    }

    /// Grants what is asked for if it is free and nobody waits.
    pub(super) fn ask(&mut self, ask: Ask, terms: &Terms<'_>) -> (Asked, After) {
        let after = self.settle(terms);
        if self.queue.is_none() && ask.permits.get() <= self.free(terms.permits) {
            return (Asked::Granted(self.grant(ask, terms)), after);
        }
        let is_own = |holder: &Holder| ask.thread != 0 && holder.thread == ask.thread;
        if self.holders.iter().any(is_own) {
            return (Asked::Reentrant, after);
        }
        (Asked::Busy, after)
    }

    /// Puts somebody at the end of the queue.
    pub(super) fn enqueue(&mut self, waiter: Arc<Waiter>, after: &mut After) {
        let queue = self.queue.get_or_insert_with(|| {
            Box::new(Queue {
                waiters: VecDeque::new(),
                watched: NEVER,
                timer: None,
            })
        });
        queue.waiters.push_back(waiter);
        self.watch(after);
    }

    /// Takes somebody out of the queue who waits no longer; whether it was still there.
    pub(super) fn leave(&mut self, waiter: &Arc<Waiter>, terms: &Terms<'_>) -> (bool, After) {
        let place = self.queue.as_ref().and_then(|queue| {
            let mut waiters = queue.waiters.iter();
            waiters.position(|other| Arc::ptr_eq(other, waiter))
        });
        if let (Some(place), Some(queue)) = (place, &mut self.queue) {
            queue.waiters.remove(place);
        }
        (place.is_some(), self.settle(terms))
    }

    /// Ends a lease; whether it still counted.
    pub(super) fn release(&mut self, token: u64, terms: &Terms<'_>) -> (bool, After) {
        let ended = self.holders.remove(token);
        let was_held = ended.is_some_and(|holder| holder.counts(terms.now));
        (was_held, self.settle(terms))
    }

    /// Has a lease last for its lease time from now on, but not beyond `at_most`; until when that
    /// is, if it still counted. A renewal never shortens a lease.
    pub(super) fn renew(
        &mut self,
        Grant {
            token, lease_time, ..
        }: Grant,
        at_most: Deadline,
        terms: &Terms<'_>,
    ) -> (Option<Deadline>, After) {
        let holder = self.holders.find(token);
        let renewed = holder.filter(|holder| holder.counts(terms.now));
        let renewed = renewed.map(|holder| {
            let wanted = terms.in_time(lease_time).min(at_most);
            holder.deadline = holder.deadline.max(wanted);
            holder.deadline
        });
        (renewed, self.settle(terms))
    }

    /// From now on a lease counts for no thread.
    pub(super) fn unbind(&mut self, token: u64) {
        if let Some(holder) = self.holders.find(token) {
            holder.thread = 0;
        }
    }

    /// When a lease ends, if it still counts.
    pub(super) fn deadline_of(&mut self, token: u64, now: u64) -> Option<Deadline> {
        let holder = self.holders.find(token)?;
        holder.counts(now).then_some(holder.deadline)
    }

    /// The permits that nobody holds at a moment.
    pub(super) fn free_at(&self, permits: u32, now: u64) -> u32 {
        let held = self.holders.iter().filter(|holder| holder.counts(now));
        permits - held.map(|holder| holder.permits.get()).sum::<u32>()
    }

    pub(super) fn waiters(&self) -> usize {
        let queue = self.queue.as_ref();
        queue.map_or(0, |queue| {
            let waiters = queue.waiters.iter();
            waiters.filter(|waiter| !waiter.is_gone()).count()
        })
    }

    /// Ends what has expired and serves those who wait, in their order.
    pub(super) fn settle(&mut self, terms: &Terms<'_>) -> After {
        let mut after = After::default();
        self.holders.expire(terms.now);
        while let Some(first) = self.queue.as_ref().and_then(|queue| queue.waiters.front())
            && (first.is_gone() || first.ask().permits.get() <= self.free(terms.permits))
        {
            let waiter = Arc::clone(first);
            if !waiter.is_gone() {
                let grant = self.grant(waiter.ask(), terms);
                match waiter.serve(Ok(grant)) {
                    Some(waker) => after.wakers.extend(waker),
                    // It went between the two looks.
                    None => drop(self.holders.remove(grant.token)),
                }
            }
            if let Some(queue) = &mut self.queue {
                queue.waiters.pop_front();
            }
        }
        self.watch(&mut after);
        after
    }

    /// Sends all who wait away, since there will be no more leases.
    pub(super) fn close(&mut self) -> Option<After> {
        let queue = self.queue.take()?;
        let closed = queue.waiters.iter();
        let wakers = closed.filter_map(|waiter| waiter.serve(Err(LockError::Closed))?);
        Some(After {
            wakers: wakers.collect(),
            unused: queue.timer,
            watch: None,
        })
    }

    /// Whether a lease may end within `reach` of a coarse reading, which does not tell then whether it
    /// has ended.
    pub(super) fn is_near(&self, coarse: u64, reach: u64) -> bool {
        let is_near = |holder: &Holder| holder.deadline.abs_diff(coarse) < reach;
        let others = self.holders.others.as_ref();
        // Also one that is there no more: then it is a precise reading that moves the bound on.
        self.holders.first.as_ref().is_some_and(is_near)
            || others.is_some_and(|others| others.first_end < coarse.saturating_add(reach))
    }

    /// Keeps a timer that was asked for, unless it is not wanted any more.
    pub(super) fn keep_timer(&mut self, timer: Timer, deadline: Deadline) -> Option<Timer> {
        match &mut self.queue {
            Some(queue) if queue.watched == deadline => queue.timer.replace(timer),
            _ => Some(timer),
        }
    }

    /// The timer that was asked for could not be set, so it has to be asked for again.
    pub(super) fn timer_failed(&mut self, deadline: Deadline) {
        if let Some(queue) = &mut self.queue
            && queue.watched == deadline
        {
            queue.watched = NEVER;
        }
    }

    /// The timer has gone off, so the next one has to be set.
    pub(super) fn timer_went_off(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.watched = NEVER;
        }
    }

    /// Checks every invariant, of locks with so many permits whose next token is this.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(super) fn validate(&self, permits: u32, next: u64) {
        let holders: Vec<_> = self.holders.iter().collect();
        let held: u32 = holders.iter().map(|holder| holder.permits.get()).sum();
        assert!(held <= permits, "no more than the permits");
        assert_eq!(held, self.holders.permits(), "the sum of those held");
        let first_end = holders.iter().map(|holder| holder.deadline).min();
        assert!(
            self.holders.first_end() <= first_end.unwrap_or(NEVER),
            "no lease ends before"
        );
        let others = self.holders.others.as_ref();
        assert!(
            self.holders.first.is_some() || others.is_none_or(|others| others.list.is_empty()),
            "the first is filled"
        );
        let mut tokens: Vec<_> = holders.iter().map(|holder| holder.token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), holders.len(), "no token is given twice");
        assert!(tokens.last().is_none_or(|last| *last < next), "or ahead");
        let Some(queue) = &self.queue else { return };
        let first = queue.waiters.front().expect("a queue is of somebody");
        let is_free = first.ask().permits.get() <= permits - held;
        assert!(
            first.is_gone() || !is_free,
            "who can be served does not wait"
        );
        let is_watched = first_end.is_some_and(|end| queue.watched <= end);
        assert!(is_watched, "the end of the next lease is watched");
    }

    // ---- parts ----

    fn free(&self, permits: u32) -> u32 {
        permits - self.holders.permits()
    }

    #[inline]
    fn grant(&mut self, ask: Ask, terms: &Terms<'_>) -> Grant {
        let grant = Grant {
            token: terms.tokens.fetch_add(1, SeqCst),
            deadline: terms.in_time(ask.lease_time),
            lease_time: ask.lease_time,
        };
        self.granted_at = terms.now;
        self.holders.push(Holder {
            token: grant.token,
            deadline: grant.deadline,
            thread: ask.thread,
            permits: ask.permits,
        });
        grant
    }

    /// Has the end of the next lease watched while somebody waits for it. A timer that goes off too
    /// early does no harm and is set again, so it stays unless an earlier one is needed.
    fn watch(&mut self, after: &mut After) {
        let Some(queue) = &mut self.queue else { return };
        if queue.waiters.is_empty() {
            after.unused = queue.timer.take();
            self.queue = None;
            return;
        }
        let first = self.holders.first_end();
        if first < queue.watched {
            queue.watched = first;
            after.watch = Some(first);
        }
    }
}

impl Holders {
    fn iter(&self) -> impl Iterator<Item = &Holder> {
        let others = self.others.iter().flat_map(|others| &others.list);
        self.first.iter().chain(others)
    }

    fn find(&mut self, token: u64) -> Option<&mut Holder> {
        let others = self.others.iter_mut().flat_map(|others| &mut others.list);
        let mut all = self.first.iter_mut().chain(others);
        all.find(|holder| holder.token == token)
    }

    /// The permits that all of them hold.
    fn permits(&self) -> u32 {
        let first = self.first.as_ref();
        let others = self.others.as_ref();
        first.map_or(0, |first| first.permits.get()) + others.map_or(0, |others| others.permits)
    }

    /// None of them ends before.
    fn first_end(&self) -> Deadline {
        let first = self.first.as_ref().map_or(NEVER, |first| first.deadline);
        let others = self.others.as_ref();
        first.min(others.map_or(NEVER, |others| others.first_end))
    }

    #[inline]
    fn push(&mut self, holder: Holder) {
        match &mut self.first {
            first @ None => *first = Some(holder),
            Some(_) => self.push_other(holder),
        }
    }

    #[inline]
    fn remove(&mut self, token: u64) -> Option<Holder> {
        if self.others.is_none() {
            return self.first.take_if(|first| first.token == token);
        }
        self.remove_from_several(token)
    }

    // What is below is apart from the code of a key with one lease, which is to be short.

    #[cold]
    fn push_other(&mut self, holder: Holder) {
        self.others.get_or_insert_default().push(holder);
    }

    #[cold]
    fn remove_from_several(&mut self, token: u64) -> Option<Holder> {
        if self
            .first
            .as_ref()
            .is_some_and(|first| first.token == token)
        {
            let next = self.pop();
            return mem::replace(&mut self.first, next);
        }
        let others = self.others.as_mut()?;
        let place = others
            .list
            .iter()
            .position(|holder| holder.token == token)?;
        Some(others.take_out(place))
    }

    /// Removes those whose time has passed.
    fn expire(&mut self, now: u64) {
        if let Some(others) = &mut self.others
            && others.first_end <= now
        {
            others.expire(now);
        }
        if self.first.as_ref().is_some_and(|first| !first.counts(now)) {
            self.first = self.pop();
        }
    }

    /// One of the others.
    #[inline]
    fn pop(&mut self) -> Option<Holder> {
        self.others.as_mut().and_then(|others| others.pop())
    }
}

impl Default for Others {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            permits: 0,
            first_end: NEVER,
        }
    }
}

impl Others {
    fn push(&mut self, holder: Holder) {
        self.permits += holder.permits.get();
        self.first_end = self.first_end.min(holder.deadline);
        self.list.push(holder);
    }

    #[cold]
    fn pop(&mut self) -> Option<Holder> {
        let last = self.list.len().checked_sub(1)?;
        Some(self.take_out(last))
    }

    fn take_out(&mut self, place: usize) -> Holder {
        let holder = self.list.swap_remove(place);
        self.permits -= holder.permits.get();
        holder
    }

    fn expire(&mut self, now: u64) {
        self.list.retain(|holder| holder.counts(now));
        let permits = self.list.iter().map(|holder| holder.permits.get());
        self.permits = permits.sum();
        let ends = self.list.iter().map(|holder| holder.deadline);
        self.first_end = ends.min().unwrap_or(NEVER);
    }
}

impl Holder {
    fn counts(&self, now: u64) -> bool {
        self.deadline > now
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::time::{MockClock, wake_at};

    #[test]
    fn a_timer_that_comes_too_late_does_not_replace_the_one_that_is_wanted() {
        let clock = MockClock::new().clock();
        let terms = Terms {
            permits: 1,
            now: clock.now(),
            clock: &clock,
            tokens: &AtomicU64::new(1),
        };
        let ask = Ask {
            permits: NonZeroU32::MIN,
            thread: 0,
            lease_time: SHORT,
        };
        let mut slot = Slot::default();
        let end = slot.take_free(ask, &terms).unwrap().deadline;
        let mut after = After::default();
        slot.enqueue(Waiter::new(ask), &mut after);
        assert_eq!(after.watch, Some(end));
        let timer = |deadline| wake_at(&clock, deadline, Waker::noop().clone());
        // Of another thread, which was told of this time before.
        assert!(slot.keep_timer(timer(end + 1), end + 1).is_some());
        assert!(slot.keep_timer(timer(end), end).is_none());
        slot.timer_failed(end + 1);
        assert_eq!(slot.settle(&terms).watch, None, "it is set");
        slot.timer_failed(end);
        assert_eq!(slot.settle(&terms).watch, Some(end));
    }

    /// Else the timer, set to the bound, would go off again and again until the tick comes.
    #[test]
    fn the_end_of_a_lease_that_is_there_no_more_is_near_until_a_precise_reading_has_passed_it() {
        let mut slot = Slot::default();
        for (token, deadline) in [(1, 600_000), (2, 50_000), (3, 700_000)] {
            slot.holders.push(Holder {
                token,
                deadline,
                thread: 0,
                permits: NonZeroU32::MIN,
            });
        }
        assert!(slot.holders.remove(2).is_some());
        assert!(slot.is_near(49_000, 2_000), "the bound stays");
        slot.holders.expire(50_000);
        assert!(!slot.is_near(50_000, 2_000));
        assert!(slot.is_near(599_000, 2_000));
    }

    #[test]
    fn what_is_known_of_all_holders_is_what_they_hold() {
        let mut holders = Holders::default();
        let mut now = 0;
        for token in 0..2_000 {
            let number = crate::random::number();
            let permits = NonZeroU32::new(1 + (number % 3) as u32).unwrap();
            holders.push(Holder {
                token,
                deadline: now + 1 + number % 97,
                thread: 0,
                permits,
            });
            match number >> 32 & 3 {
                0 => drop(holders.remove(token - token.min(number % 7))),
                1 => {
                    if let Some(holder) = holders.find(token.saturating_sub(number % 11)) {
                        holder.deadline += number % 13;
                    }
                }
                _ => now += number % 5,
            }
            holders.expire(now);
            assert!(holders.iter().all(|holder| holder.counts(now)));
            let held = holders.iter().map(|holder| holder.permits.get());
            assert_eq!(holders.permits(), held.sum::<u32>());
            let first_end = holders.iter().map(|holder| holder.deadline).min();
            assert!(holders.first_end() <= first_end.unwrap_or(NEVER));
        }
        holders.expire(NEVER - 1);
        assert_eq!((holders.permits(), holders.first_end()), (0, NEVER));
    }
}
