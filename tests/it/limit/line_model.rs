//! Random calls, some of which wait, give up or go away, against a line that is a list.

use super::line::{Task, Waited, run};
use super::model::{World, cases, quota, time};
use super::on_mock;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota, Wait, WaitError};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Begins to wait, for at most so many nanoseconds.
    Wait(u32, Option<u64>),
    /// One of those who wait goes away.
    Drop(usize),
    /// One is polled though nobody has woken it.
    Poll(usize),
    Take(u32),
    Charge(u64),
    Reset,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let timeout = prop_oneof![
        2 => Just(None),
        3 => (0..600_u64).prop_map(Some),
        1 => Just(Some(u64::MAX)),
    ];
    prop_oneof![
        6 => (0..6_u32, timeout).prop_map(|(cost, timeout)| Op::Wait(cost, timeout)),
        1 => any::<usize>().prop_map(Op::Drop),
        1 => any::<usize>().prop_map(Op::Poll),
        2 => (1..4_u32).prop_map(Op::Take),
        1 => (0..6_u64).prop_map(Op::Charge),
        1 => Just(Op::Reset),
        6 => time().prop_map(Op::Pass),
    ]
}

/// Somebody in the line.
struct Waiter {
    name: u32,
    cost: u32,
    until: u64,
    /// When it tries again, once it was the first.
    next_try: u64,
}

struct Line {
    world: World,
    waiters: VecDeque<Waiter>,
    stats: (u64, u64),
}

impl Line {
    fn take(&mut self, cost: u32) -> Result<(), u64> {
        match self.world.call(1, cost, true) {
            (true, ..) => Ok(()),
            (_, _, retry_after, _) => Err(retry_after.unwrap()),
        }
    }

    /// How long it takes until all who wait and one more of this cost are let in, at least.
    fn forecast(&mut self, cost: u32) -> u64 {
        let waiting = self.waiters.iter().map(|waiter| waiter.cost);
        let costs = waiting.sum::<u32>() + cost;
        self.world.forecast(1, costs)
    }

    /// Whether somebody who begins to wait is let in or refused at once.
    fn arrive(&mut self, name: u32, cost: u32, timeout: Option<u64>) -> Option<bool> {
        let now = self.world.now;
        let until = timeout.map_or(u64::MAX, |time| now.saturating_add(time));
        let mut next_try = 0;
        if cost == 0 || self.waiters.is_empty() {
            match self.take(cost) {
                Ok(()) => return Some(true),
                Err(retry_after) if now + retry_after > until => return Some(false),
                Err(retry_after) => next_try = now + retry_after,
            }
        } else if until != u64::MAX && (now + self.forecast(cost) > until || now >= until) {
            return Some(false);
        }
        self.waiters.push_back(Waiter {
            name,
            cost,
            until,
            next_try,
        });
        None
    }

    /// Who is done once everybody was polled that has to be.
    fn settle(&mut self) -> Vec<(u32, bool)> {
        let (mut done, mut place, now) = (Vec::new(), 0, self.world.now);
        while let Some(&Waiter {
            name,
            cost,
            until,
            next_try,
        }) = self.waiters.get(place)
        {
            let over = match place {
                0 if next_try <= now => match self.take(cost) {
                    Ok(()) => Some(true),
                    Err(retry_after) if now + retry_after > until => Some(false),
                    Err(retry_after) => {
                        self.waiters[place].next_try = now + retry_after;
                        None
                    }
                },
                0 => None,
                _ => (until <= now).then_some(false),
            };
            match over {
                Some(is_allowed) => {
                    self.waiters.remove(place);
                    self.count(is_allowed);
                    done.push((name, is_allowed));
                }
                None => place += 1,
            }
        }
        done
    }

    fn count(&mut self, is_allowed: bool) {
        match is_allowed {
            true => self.stats.0 += 1,
            false => self.stats.1 += 1,
        }
    }
}

fn is_let_in(waited: Waited) -> bool {
    match waited {
        Ok(decision) => {
            assert!(decision.is_allowed());
            true
        }
        Err(WaitError::TimedOut(refused)) => {
            assert!(!refused.is_allowed());
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn step<'l>(
    (limiter, time): (&'l Limiter<u32>, &MockClock),
    (line, tasks): (&mut Line, &mut Vec<Task<'l>>),
    (name, op): (u32, Op),
) {
    match op {
        Op::Wait(cost, timeout) => {
            let cost = cost.min(limiter.quota().at_once());
            let wait = Wait::new().cost(cost);
            let wait = timeout.map_or(wait, |time| wait.timeout(Duration::from_nanos(time)));
            let over = line.arrive(name, cost, timeout);
            match Task::begin(limiter, name, wait) {
                Ok(task) => {
                    assert_eq!(over, None);
                    tasks.push(task);
                }
                Err(waited) => {
                    let is_allowed = is_let_in(waited);
                    assert_eq!(over, Some(is_allowed));
                    line.count(is_allowed);
                }
            }
        }
        Op::Drop(number) if !tasks.is_empty() => {
            let place = number % tasks.len();
            drop(tasks.remove(place));
            line.waiters.remove(place);
        }
        Op::Poll(number) if !tasks.is_empty() => {
            let place = number % tasks.len();
            assert!(tasks[place].poll().is_pending());
        }
        Op::Drop(_) | Op::Poll(_) => {}
        Op::Take(cost) => {
            let Ok(decision) = limiter.check_n(&1, cost) else {
                return;
            };
            assert_eq!(line.take(cost).is_ok(), decision.is_allowed());
            line.count(decision.is_allowed());
        }
        Op::Charge(cost) => assert_eq!(limiter.charge(&1, cost), line.world.charge(1, cost)),
        Op::Reset => {
            limiter.reset(&1);
            line.world.reset(1);
            if let Some(first) = line.waiters.front_mut() {
                first.next_try = 0;
            }
        }
        Op::Pass(nanoseconds) => {
            time.advance(Duration::from_nanos(nanoseconds));
            line.world.now += nanoseconds;
        }
    }
    let done = run(tasks)
        .into_iter()
        .map(|(name, waited)| (name, is_let_in(waited)));
    assert_eq!(done.collect::<Vec<_>>(), line.settle());
}

fn compare(quota: Quota, ops: &[Op]) {
    let (limiter, time) = on_mock(quota);
    let mut tasks = Vec::new();
    let mut line = Line {
        world: World::new(quota),
        waiters: VecDeque::new(),
        stats: (0, 0),
    };
    for op in (0..).zip(ops.iter().copied()) {
        step((&limiter, &time), (&mut line, &mut tasks), op);
        let stats = limiter.stats();
        assert_eq!((stats.allowed, stats.refused), line.stats);
        assert_eq!(limiter.waiters(&1), line.waiters.len());
        let names = tasks.iter().map(|task| task.name);
        assert!(names.eq(line.waiters.iter().map(|waiter| waiter.name)));
        limiter.validate();
    }
    drop(tasks);
    assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
    limiter.validate();
}

#[test]
fn random_waits_agree_with_a_line_that_is_a_list() {
    cases("lines", (quota(), vec(op(), 1..80)), |(quota, ops)| {
        compare(quota, &ops)
    });
}
