//! Renews leases in the background while their holders live.

use super::shared::Registry;
use super::slot::Grant;
use super::waiter::Target;
use crate::hash::KeyHash;
use crate::sync::Mutex;
use crate::time::{Clock, Deadline, Timer, after, wake_at};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

/// The renewals of one lease.
pub(super) struct Watch<K> {
    registry: Weak<dyn Registry<K>>,
    clock: Clock,
    hash: KeyHash,
    key: K,
    grant: Grant,
    /// It is not renewed beyond this.
    until: Deadline,
    next: Mutex<Next>,
}

#[derive(Default)]
struct Next {
    is_over: bool,
    timer: Option<Timer>,
}

impl<K> Watch<K>
where
    K: Clone + Send + Sync + 'static,
{
    /// Has a lease renewed from now on, for `at_most` in all.
    pub(super) fn start(target: &Target<K>, grant: Grant, at_most: Duration) -> Arc<Self> {
        let clock = target.registry.clock().clone();
        let until = after(clock.now(), at_most);
        let watch = Arc::new(Self {
            registry: Arc::downgrade(&target.registry),
            clock,
            hash: target.hash,
            key: target.key.clone(),
            grant,
            until,
            next: Mutex::default(),
        });
        watch.renew_before(grant.deadline);
        watch
    }
}

impl<K> Watch<K> {
    /// Ends the renewals. One that has begun may still end.
    pub(super) fn stop(&self) {
        let timer = {
            let mut next = self.next.lock();
            next.is_over = true;
            next.timer.take()
        };
        drop(timer);
    }

    fn renew_before(self: &Arc<Self>, deadline: Deadline)
    where
        K: Send + Sync + 'static,
    {
        if deadline >= self.until {
            return;
        }
        // With two thirds of the time left there is room for a late timer and another try.
        let now = self.clock.now();
        let at = now + (deadline.saturating_sub(now) / 3).max(1);
        let mut timer = Some(wake_at(&self.clock, at, Waker::from(Arc::clone(self))));
        let unused = {
            let mut next = self.next.lock();
            if next.is_over {
                timer.take()
            } else {
                std::mem::replace(&mut next.timer, timer.take())
            }
        };
        drop(unused);
    }
}

impl<K> Wake for Watch<K>
where
    K: Send + Sync + 'static,
{
    fn wake(self: Arc<Self>) {
        let Some(registry) = self.registry.upgrade() else {
            return;
        };
        let mut renewed = None;
        registry.existing(self.hash, &self.key, &mut |slot, terms| {
            let (until, after) = slot.renew(self.grant, self.until, terms);
            renewed = until;
            after
        });
        if let Some(deadline) = renewed {
            self.renew_before(deadline);
        }
    }
}
