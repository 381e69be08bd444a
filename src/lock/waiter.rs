//! One who waits for a lease, thread or task.

use super::error::LockError;
use super::lease::Lease;
use super::shared::Registry;
use super::slot::{Ask, Asked, Grant};
use super::stats::Count;
use crate::hash::KeyHash;
use crate::reentrancy::{self, is_inside};
use crate::sync::Mutex;
use crate::time::{Alarm, Deadline, NEVER, Parker, after};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A place in the queue of a key.
#[derive(Debug)]
pub(super) struct Waiter {
    ask: Ask,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    served: Option<Served>,
    waker: Option<Waker>,
    /// The call has ended where it could not leave the queue.
    is_gone: bool,
}

type Served = Result<Grant, LockError>;

impl Waiter {
    pub(super) fn new(ask: Ask) -> Arc<Self> {
        Arc::new(Self {
            ask,
            state: Mutex::default(),
        })
    }

    pub(super) fn ask(&self) -> Ask {
        self.ask
    }

    /// Ends the wait; what has to be woken for it, if anything. `None` if nobody waits any more.
    pub(super) fn serve(&self, served: Served) -> Option<Option<Waker>> {
        let mut state = self.state.lock();
        if state.is_gone {
            return None;
        }
        state.served = Some(served);
        Some(state.waker.take())
    }

    /// Whether it is to be passed over.
    pub(super) fn is_gone(&self) -> bool {
        self.state.lock().is_gone
    }

    /// Has itself passed over by who serves the queue, until it can leave it.
    #[cold]
    fn abandon(&self) {
        let mut state = self.state.lock();
        state.is_gone = true;
        let waker = state.waker.take();
        drop(state);
        drop(waker);
    }

    /// Takes what the wait came to, if it is over; otherwise `waker` is woken when it is.
    fn look(&self, waker: &Waker) -> Option<Served> {
        // Wakers are code of the user's executor, which runs under no lock.
        let waker = waker.clone();
        let mut state = self.state.lock();
        if let Some(served) = state.served.take() {
            drop(state);
            return Some(served);
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        None
    }

    fn take(&self) -> Option<Served> {
        self.state.lock().served.take()
    }
}

/// A call that acquires a lease, as a future. From [`Locks::acquire_async`] and
/// [`Locks::acquire_timeout_async`].
///
/// It joins the queue of its key when it is first polled, runs on any executor, and borrows
/// nothing: if all handles of the locks are dropped, it ends with [`LockError::Closed`]. Dropping
/// it leaves the queue, and gives back what may have been granted meanwhile.
///
/// # Panics
/// If it is polled after it was ready.
///
/// [`Locks::acquire_async`]: super::Locks::acquire_async
/// [`Locks::acquire_timeout_async`]: super::Locks::acquire_timeout_async
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<K> {
    call: Call<K>,
    timeout: Option<Duration>,
    until: Deadline,
    alarm: Alarm,
}

impl<K> Acquire<K> {
    pub(super) fn new(call: Call<K>, timeout: Option<Duration>) -> Self {
        Self {
            call,
            timeout,
            until: NEVER,
            alarm: Alarm::default(),
        }
    }
}

// Nothing in it is pinned.
impl<K> Unpin for Acquire<K> {}

impl<K> fmt::Debug for Acquire<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("is_waiting", &self.call.waiter.is_some())
            .finish_non_exhaustive()
    }
}

impl<K> Future for Acquire<K>
where
    K: Clone + Send + Sync + 'static,
{
    type Output = Result<Lease<K>, LockError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let waker = context.waker();
        if let Some(timeout) = this.timeout.take() {
            this.until = after(this.call.registry().clock().now(), timeout);
        }
        if let Some(result) = this.call.attempt(waker, this.until) {
            return Poll::Ready(result);
        }
        let clock = this.call.registry().clock().clone();
        this.alarm.set(&clock, this.until, waker);
        Poll::Pending
    }
}

/// A call that acquires a lease.
pub(super) struct Call<K> {
    /// None once the call has ended.
    target: Option<Target<K>>,
    ask: Ask,
    waiter: Option<Arc<Waiter>>,
    /// It was served before, with a lease that had ended when the call came to see it.
    was_late: bool,
}

/// What a call is about.
pub(super) struct Target<K> {
    pub(super) registry: Arc<dyn Registry<K>>,
    pub(super) hash: KeyHash,
    pub(super) key: K,
}

impl<K> Call<K> {
    pub(super) fn new(target: Target<K>, ask: Ask) -> Self {
        Self {
            target: Some(target),
            ask,
            waiter: None,
            was_late: false,
        }
    }

    fn registry(&self) -> &Arc<dyn Registry<K>> {
        let target = self.target.as_ref();
        &target
            .expect("an `Acquire` was polled after it was ready")
            .registry
    }

    /// Goes on as far as it can: joins the queue, leaves it when it was served or is too late.
    /// `None` while it waits, and then `waker` is woken when it was served.
    fn attempt(&mut self, waker: &Waker, until: Deadline) -> Option<Result<Lease<K>, LockError>>
    where
        K: Clone + Send + Sync + 'static,
    {
        let clock = self.registry().clock().clone();
        let served = match &self.waiter {
            None => self.join(),
            Some(_) => None,
        };
        let served = served.or_else(|| self.waiter.as_ref()?.look(waker));
        let served = served.or_else(|| clock.has_passed(until).then(|| self.time_out())?);
        let served = served?;
        if let Some(Ok(grant)) = self.waiter.take().and(Some(&served))
            && !self.was_late
            && clock.has_passed(grant.deadline)
        {
            self.was_late = true;
            self.give_back(grant);
            return self.attempt(waker, until);
        }
        let target = self.target.take()?;
        let watchdog = target.registry.watchdog();
        Some(served.map(|grant| Lease::new(target, grant, watchdog)))
    }

    /// Ends a lease that ran out before the call, which had to wait for it, could go on. It asks
    /// again then, but once: where scheduling takes longer than leases last, it would never end.
    #[cold]
    fn give_back(&self, grant: &Grant) {
        let Some(target) = &self.target else { return };
        target.existing(|slot, terms| slot.release(grant.token, terms).1);
        target.registry.count(Count::Lost);
    }

    /// Asks for the lease and joins the queue if it is not free. The answer, if there is one.
    fn join(&mut self) -> Option<Served> {
        let target = self.target.as_ref()?;
        let (mut answer, ask) = (None, self.ask);
        let place = &mut self.waiter;
        let is_open = target
            .registry
            .change(target.hash, &target.key, &mut |slot, terms| {
                let (asked, mut after) = slot.ask(ask, terms);
                match asked {
                    Asked::Granted(grant) => answer = Some(Ok(grant)),
                    Asked::Reentrant => answer = Some(Err(LockError::Reentrant)),
                    Asked::Busy => {
                        // Known to the call from now on: should code of the user's panic before
                        // this returns, dropping the call takes it out of the queue.
                        let waiter = place.insert(Waiter::new(ask));
                        slot.enqueue(Arc::clone(waiter), &mut after);
                    }
                }
                after
            });
        if self.waiter.is_some() && !self.was_late {
            target.registry.count(Count::Waited);
        }
        if is_open {
            answer
        } else {
            Some(Err(LockError::Closed))
        }
    }

    fn time_out(&self) -> Option<Served> {
        let served = self.leave();
        if let Some(Err(LockError::TimedOut)) = served {
            self.registry().count(Count::TimedOut);
        }
        served
    }

    /// Leaves the queue; what the wait came to, if it was served before.
    fn leave(&self) -> Option<Served> {
        self.target.as_ref()?.leave(self.waiter.as_ref()?)
    }

    /// Blocks the thread until the call has ended.
    pub(super) fn wait(mut self, until: Deadline) -> Result<Lease<K>, LockError>
    where
        K: Clone + Send + Sync + 'static,
    {
        let clock = self.registry().clock().clone();
        let parker = Arc::new(Parker::default());
        let waker = Waker::from(Arc::clone(&parker));
        loop {
            if let Some(result) = self.attempt(&waker, until) {
                return result;
            }
            parker.park(&clock, until);
        }
    }
}

impl<K> Target<K> {
    /// Takes somebody out of the queue; what the wait came to, if it was served before.
    fn leave(&self, waiter: &Arc<Waiter>) -> Option<Served> {
        let mut waited = false;
        self.existing(|slot, terms| {
            let (was_there, after) = slot.leave(waiter, terms);
            waited = was_there;
            after
        });
        if waited {
            return Some(Err(LockError::TimedOut));
        }
        waiter.take()
    }

    /// The same of somebody who goes away, and gives back what was granted meanwhile.
    fn go_away(&self, waiter: &Arc<Waiter>) {
        if let Some(Ok(grant)) = self.leave(waiter) {
            self.existing(|slot, terms| slot.release(grant.token, terms).1);
        }
    }
}

impl<K> Drop for Call<K> {
    fn drop(&mut self) {
        let (Some(target), Some(waiter)) = (self.target.take(), self.waiter.take()) else {
            return;
        };
        // In a closure that runs under a lock no key can be locked.
        if is_inside() {
            waiter.abandon();
            let Target {
                registry,
                hash,
                key,
            } = target;
            registry.leave_later(hash, key, waiter);
            // And it is no place to wait in, unless it unwinds.
            reentrancy::check();
        } else {
            target.go_away(&waiter);
        }
    }
}

/// Somebody who is gone and could not leave the queue by itself. It is passed over until it has.
pub(super) struct Departure<K> {
    pub(super) registry: Weak<dyn Registry<K>>,
    pub(super) hash: KeyHash,
    pub(super) key: K,
    pub(super) waiter: Arc<Waiter>,
}

impl<K> Wake for Departure<K>
where
    K: Send + Sync + 'static,
{
    fn wake(self: Arc<Self>) {
        if let Some(Self {
            registry,
            hash,
            key,
            waiter,
        }) = Arc::into_inner(self)
            && let Some(registry) = registry.upgrade()
        {
            let target = Target {
                registry,
                hash,
                key,
            };
            target.go_away(&waiter);
        }
    }
}
