//! The exact sliding window: a log of what was taken and when.
//!
//! A call at `t` counts in every span `(t - period, t]` that holds it, and is forgotten exactly at
//! `t + period`. What was taken at the same nanosecond is one entry of the log.
//!
//! The log never holds more than the limit, also where more was charged. Until the newest `limit`
//! of it begin to be forgotten nothing is free, whatever came before them, and from then on nothing
//! that came before them is counted any more. So what is older than the newest `limit` changes no
//! answer, and a charge takes as much off the old end as there is too much.

use super::decision::Decision;
use crate::keyed::{Reading, State};
use crate::slack::give_back;
use crate::time::Deadline;
use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    limit: u32,
    /// In nanoseconds.
    period: u64,
}

/// What a key has taken within the last period.
#[derive(Debug, Default)]
pub(super) struct Window {
    log: VecDeque<Taken>,
    /// The sum of the log.
    used: u32,
    /// When the last of it is forgotten.
    empty_at: u64,
}

impl State for Window {
    fn idle_from(&self) -> Deadline {
        self.empty_at
    }
}

#[derive(Debug)]
struct Taken {
    at: u64,
    cost: u32,
}

impl Rule {
    pub(super) fn new(limit: u32, period: u64) -> Self {
        Self { limit, period }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Decides on a call, and takes its cost if it is allowed.
    #[inline]
    pub(super) fn decide(
        &self,
        window: &mut Window,
        cost: u32,
        reading: &mut Reading<'_>,
    ) -> Decision {
        let now = reading.precise();
        window.forget(|taken| self.is_over(taken, now));
        let taken_at = free_from(&window.log, window.used, cost, self.limit);
        if taken_at.is_none() {
            window.take(now, cost);
            window.empty_at = self.end_of(window).unwrap_or(now);
        }
        self.decision(window.used, window.log.back(), now, taken_at)
    }

    /// Takes a cost, whether it is free or not; what remains. O(1) amortised.
    pub(super) fn charge(&self, window: &mut Window, cost: u64, reading: &mut Reading<'_>) -> u32 {
        let now = reading.precise();
        window.forget(|taken| self.is_over(taken, now));
        let cost = u32::try_from(cost).map_or(self.limit, |cost| cost.min(self.limit));
        window.forget_oldest(cost.saturating_sub(self.limit - window.used));
        window.take(now, cost);
        window.empty_at = self.end_of(window).unwrap_or(now);
        self.limit - window.used
    }

    /// What a call would be answered, without making it.
    pub(super) fn preview(
        &self,
        window: &Window,
        cost: u32,
        reading: &mut Reading<'_>,
    ) -> Decision {
        let now = reading.precise();
        let (rest, used) = self.rest(window, now);
        let last = rest.clone().next_back();
        let taken_at = free_from(rest, used, cost, self.limit);
        self.decision(used, last, now, taken_at)
    }

    /// What is left, and how long it takes at least until so much has been let in, call after call.
    ///
    /// Count what is in the log and what is to come in the order in which it is taken: each unit has
    /// to wait for the one `limit` before it to be forgotten, a period after that was taken. So for
    /// the last one of them it takes as many periods as there are steps of `limit` back into the
    /// log, or to before it, from where that unit was taken. Those who take several units at once
    /// may have to wait for longer.
    pub(super) fn forecast(
        &self,
        window: &Window,
        costs: u64,
        reading: &mut Reading<'_>,
    ) -> Decision {
        let now = reading.precise();
        let (rest, used) = self.rest(window, now);
        let last = rest.clone().next_back();
        let limit = u64::from(self.limit);
        let steps = costs.div_ceil(limit);
        let before = (u64::from(used) + costs).saturating_sub(steps * limit);
        let taken_at = nth_from(rest, before as u32);
        let (from, periods) = match taken_at {
            Some(at) => (at, steps),
            None => (now, steps.saturating_sub(1)),
        };
        let ready_at = from.saturating_add(self.period.saturating_mul(periods));
        Decision {
            retry_after: Some(Duration::from_nanos(ready_at.saturating_sub(now))),
            ..self.decision(used, last, now, None)
        }
    }

    /// What is not forgotten at a moment, and its sum.
    fn rest<'w>(&self, window: &'w Window, now: u64) -> (Iter<'w, Taken>, u32) {
        let over = window.log.partition_point(|taken| self.is_over(taken, now));
        let forgotten: u32 = window.log.range(..over).map(|taken| taken.cost).sum();
        (window.log.range(over..), window.used - forgotten)
    }

    /// An answer. A call that is refused has to wait for what was `taken_at` to be forgotten.
    fn decision(
        &self,
        used: u32,
        last: Option<&Taken>,
        now: u64,
        taken_at: Option<u64>,
    ) -> Decision {
        let until =
            |at: u64| Duration::from_nanos(at.saturating_add(self.period).saturating_sub(now));
        Decision {
            limit: self.limit,
            remaining: self.limit - used,
            retry_after: taken_at.map(until),
            reset_after: last.map_or(Duration::ZERO, |last| until(last.at)),
        }
    }

    fn end_of(&self, window: &Window) -> Option<u64> {
        Some(self.end(window.log.back()?))
    }

    fn is_over(&self, taken: &Taken, now: u64) -> bool {
        self.end(taken) <= now
    }

    /// When something is forgotten.
    fn end(&self, taken: &Taken) -> u64 {
        taken.at.saturating_add(self.period)
    }
}

impl Window {
    fn take(&mut self, at: u64, cost: u32) {
        self.used += cost;
        match self.log.back_mut() {
            Some(last) if last.at == at => last.cost += cost,
            _ if cost > 0 => self.log.push_back(Taken { at, cost }),
            _ => {}
        }
    }

    fn forget(&mut self, is_over: impl Fn(&Taken) -> bool) {
        while let Some(first) = self.log.front()
            && is_over(first)
        {
            self.used -= first.cost;
            self.log.pop_front();
        }
        // In O(1) on average.
        give_back!(self.log);
    }

    /// Takes so much off the old end, which is at most what is used.
    fn forget_oldest(&mut self, mut excess: u32) {
        self.used -= excess;
        while let Some(first) = self.log.front_mut()
            && excess > 0
        {
            let part = excess.min(first.cost);
            excess -= part;
            first.cost -= part;
            if first.cost == 0 {
                self.log.pop_front();
            }
        }
    }
}

/// When the last of what is in the way of a call was taken; `None` if nothing is.
fn free_from<'w>(
    log: impl IntoIterator<Item = &'w Taken>,
    used: u32,
    cost: u32,
    limit: u32,
) -> Option<u64> {
    let free = limit - used;
    let in_the_way = cost.checked_sub(free)?;
    // It is there, since the cost alone is not above the limit: see the caller.
    nth_from(log, in_the_way)
}

/// When the unit with a number was taken, counted from one.
fn nth_from<'w>(log: impl IntoIterator<Item = &'w Taken>, number: u32) -> Option<u64> {
    let mut number = Some(number).filter(|number| *number > 0)?;
    for taken in log {
        if taken.cost >= number {
            return Some(taken.at);
        }
        number -= taken.cost;
    }
    None
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::keyed::Notes;
    use crate::slack::FEW;
    use crate::time::MockClock;

    /// Where the clock starts with the process, its first reading may be zero.
    #[test]
    fn what_was_taken_at_the_start_of_the_clock_counts_for_a_whole_period() {
        let rule = Rule::new(1, 10);
        let taken = Taken { at: 0, cost: 1 };
        assert_eq!(
            [0, 9, 10].map(|now| rule.is_over(&taken, now)),
            [false, false, true]
        );
    }

    #[test]
    fn a_key_that_was_busy_and_goes_on_quietly_gives_its_memory_back() {
        let period = Duration::from_millis(1);
        let rule = Rule::new(u32::MAX, period.as_nanos() as u64);
        let time = MockClock::new();
        let (clock, mut window, mut notes) = (time.clock(), Window::default(), Notes::default());
        let mut take = |after: Duration| {
            time.advance(after);
            let mut reading = Reading::new(&clock, &mut notes);
            assert!(rule.decide(&mut window, 1, &mut reading).is_allowed());
            (window.log.len(), window.log.capacity())
        };
        let busy = (0..10_000).map(|_| take(Duration::from_nanos(1))).last();
        assert!(busy.is_some_and(|(len, _)| len == 10_000));
        let (len, capacity) = take(period);
        assert_eq!(len, 1);
        assert!(capacity <= 8 * (len + FEW));
    }

    #[test]
    fn a_debt_takes_up_no_more_memory_than_the_limit() {
        let (time, mut notes) = (MockClock::new(), Notes::default());
        let clock = time.clock();
        let mut reading = Reading::new(&clock, &mut notes);
        let (rule, mut window) = (Rule::new(5, 1_000_000), Window::default());
        for _ in 0..1_000 {
            assert!(rule.charge(&mut window, 1, &mut reading) < 5);
            time.advance(Duration::from_nanos(1));
        }
        assert_eq!((window.used, window.log.len()), (5, 5));
        assert!(window.log.capacity() <= 8);
        let _ = rule.charge(&mut window, 3, &mut reading);
        let kept: Vec<u32> = window.log.iter().map(|taken| taken.cost).collect();
        assert_eq!(kept, [1, 1, 3]);
        let _ = rule.charge(&mut window, u64::MAX, &mut reading);
        assert_eq!((window.used, window.log.len()), (5, 1));
    }
}
