//! One who waits for a limiter, thread or task.

use super::decision::{CostAboveLimit, Decision};
use super::limiter::Limiter;
use super::line::{Costs, Spot, Turn};
use super::wait::{Wait, WaitError};
use crate::reentrancy;
use crate::time::{Alarm, Deadline, NEVER, Parker, after};
use crate::to_key::ToKey;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A call that waits. Dropping it ends the wait.
pub(super) struct Call<'c, K, S, Q: ?Sized> {
    limiter: &'c Limiter<K, S>,
    key: &'c Q,
    wait: Wait,
    until: Deadline,
    /// None before it has to wait.
    spot: Option<Spot<'c>>,
    /// When the first of the line tries again.
    next_try: Deadline,
}

type Waited = Result<Decision, WaitError>;

/// What a look has come to.
enum Step {
    Done(Waited),
    /// Another look is worth it then, or when it is woken.
    Sleep(Deadline),
}

impl<'c, K, S, Q> Call<'c, K, S, Q>
where
    K: Hash + Eq,
    S: BuildHasher,
    Q: Hash + ToKey<K> + ?Sized,
{
    /// The time-out counts from here on.
    pub(super) fn new(
        limiter: &'c Limiter<K, S>,
        key: &'c Q,
        wait: Wait,
    ) -> Result<Self, CostAboveLimit> {
        limiter.affordable(wait.cost)?;
        let until = wait.timeout.map(|time| after(limiter.clock.now(), time));
        Ok(Self {
            limiter,
            key,
            wait,
            until: until.unwrap_or(NEVER),
            spot: None,
            next_try: 0,
        })
    }

    /// Blocks the thread until the wait is over.
    pub(super) fn block(mut self) -> Waited {
        if let Some(waited) = self.arrive() {
            return waited;
        }
        let parker = Arc::new(Parker::default());
        let waker = Waker::from(Arc::clone(&parker));
        loop {
            match self.look(&waker) {
                Step::Done(waited) => return waited,
                Step::Sleep(until) => parker.park(&self.limiter.clock, until),
            }
        }
    }

    pub(super) async fn wait(&mut self) -> Waited {
        if let Some(waited) = self.arrive() {
            return waited;
        }
        let mut alarm = Alarm::default();
        poll_fn(
            |context: &mut Context<'_>| match self.look(context.waker()) {
                Step::Done(waited) => Poll::Ready(waited),
                Step::Sleep(until) => {
                    alarm.set(&self.limiter.clock, until, context.waker());
                    Poll::Pending
                }
            },
        )
        .await
    }

    /// Is let in at once where nobody waits, as it is nearly always, and joins the line otherwise,
    /// unless it would wait for too long there. What comes of it, if that is known by then.
    fn arrive(&mut self) -> Option<Waited> {
        let cost = self.wait.cost;
        let line = self.limiter.lines.find(self.key);
        // Who takes nothing waits for nobody.
        let line = line.filter(|line| cost > 0 && line.len() > 0);
        if line.is_none() {
            let decision = self.limiter.attempt(self.key, cost);
            let Some(retry_after) = decision.retry_after() else {
                return Some(Ok(decision));
            };
            if self.next_try(retry_after).is_none() {
                return Some(self.give_up(decision));
            }
        }
        let Some(line) = line.or_else(|| self.limiter.lines.of(self.key)) else {
            return Some(self.time_out(u64::from(cost)));
        };
        let (spot, costs) = Spot::join(line, cost, &self.limiter.clock);
        self.spot = Some(spot);
        if self.until == NEVER || costs.sum == u64::from(cost) {
            return None;
        }
        self.foresee(costs)
    }

    /// Gives up if it would wait for too long behind those who stand before it.
    fn foresee(&mut self, costs: Costs) -> Option<Waited> {
        let mut sum = costs.sum;
        loop {
            let forecast = self.limiter.forecast(self.key, sum);
            let retry_after = forecast.retry_after().unwrap_or_default();
            if after(self.limiter.clock.now(), retry_after) <= self.until {
                return None;
            }
            // The first may have taken it meanwhile: then it is in the forecast twice.
            let left = self.spot.as_ref().map_or(sum, |spot| spot.left_of(costs));
            if left >= sum {
                return Some(self.give_up(forecast));
            }
            sum = left;
        }
    }

    /// Tries if it is its turn.
    fn look(&mut self, waker: &Waker) -> Step {
        let clock = &self.limiter.clock;
        let Some(spot) = &mut self.spot else {
            return self.try_now();
        };
        match spot.look(waker) {
            Turn::Theirs if clock.has_passed(self.until) => {
                Step::Done(self.time_out(u64::from(self.wait.cost)))
            }
            Turn::Theirs => Step::Sleep(self.until),
            Turn::StillOwn if !clock.has_passed(self.next_try) => Step::Sleep(self.next_try),
            _ => self.try_now(),
        }
    }

    fn try_now(&mut self) -> Step {
        if let Some(spot) = &self.spot {
            spot.tries();
        }
        let decision = self.limiter.attempt(self.key, self.wait.cost);
        let Some(retry_after) = decision.retry_after() else {
            self.spot = None;
            return Step::Done(Ok(decision));
        };
        match self.next_try(retry_after) {
            Some(at) => {
                self.next_try = at;
                if let Some(spot) = &self.spot {
                    spot.tries_at(at);
                }
                Step::Sleep(at)
            }
            None => Step::Done(self.give_up(decision)),
        }
    }

    /// When to try again after a refusal; `None` if that is too late, or never comes: a thread that
    /// unwinds with a lock held is refused for ever.
    fn next_try(&self, retry_after: Duration) -> Option<Deadline> {
        let now = self.limiter.clock.now();
        let next_try = self.wait.next_try(retry_after, now, self.until);
        next_try.filter(|_| reentrancy::check())
    }

    /// Gives up after so much was not free in time.
    fn time_out(&mut self, costs: u64) -> Waited {
        let forecast = self.limiter.forecast(self.key, costs);
        self.give_up(forecast)
    }

    fn give_up(&mut self, refused: Decision) -> Waited {
        self.spot = None;
        self.limiter.refuse(self.key);
        Err(WaitError::TimedOut(refused))
    }
}
