//! Random waits some of which are not polled for a while, against what holds of them whatever happens.

use super::line::{Task, Waited, run};
use super::model::{World, cases};
use super::on_mock;
use crate::common::SECOND;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota, Wait};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashSet;
use std::mem;
use std::task::Poll;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Begins to wait, for at most so many milliseconds.
    Wait(u32, Option<u64>),
    /// One of those who wait is not polled any more.
    Freeze(usize),
    /// One of those is from now on.
    Thaw(usize),
    /// One goes away who is polled, or one who is not.
    Drop(usize),
    DropFrozen(usize),
    Take(u32),
    Reset,
    /// Milliseconds.
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let timeout = prop_oneof![2 => Just(None), 1 => (0..9_000_u64).prop_map(Some)];
    let time = prop_oneof![Just(10), Just(500), Just(1_000), Just(2_500), 0..9_000_u64];
    prop_oneof![
        8 => (1..6_u32, timeout).prop_map(|(cost, timeout)| Op::Wait(cost, timeout)),
        2 => any::<usize>().prop_map(Op::Freeze),
        1 => any::<usize>().prop_map(Op::Thaw),
        1 => any::<usize>().prop_map(Op::Drop),
        1 => any::<usize>().prop_map(Op::DropFrozen),
        2 => (1..4_u32).prop_map(Op::Take),
        1 => Just(Op::Reset),
        8 => time.prop_map(Op::Pass),
    ]
}

/// One unit a second.
fn quota() -> impl Strategy<Value = Quota> {
    (1..6_u32, any::<bool>()).prop_map(|(burst, is_window)| match is_window {
        true => Quota::sliding_window(burst, burst * SECOND),
        false => Quota::per_second(1).burst(burst),
    })
}

struct Crowd<'l> {
    limiter: &'l Limiter<u32>,
    time: MockClock,
    world: World,
    polled: Vec<Task<'l>>,
    frozen: Vec<Task<'l>>,
    /// What each was to take that ever came, by its name.
    costs: Vec<u32>,
    /// Who ever was frozen.
    late: HashSet<u32>,
    /// The last that was let in who never was.
    last: Option<u32>,
}

fn pick<T>(from: &mut Vec<T>, number: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(number % from.len()))
}

impl<'l> Crowd<'l> {
    fn step(&mut self, op: Op) {
        match op {
            Op::Wait(cost, timeout) => {
                let (name, cost) = (
                    self.costs.len() as u32,
                    cost.min(self.limiter.quota().at_once()),
                );
                let wait = Wait::new().cost(cost);
                let wait = timeout.map_or(wait, |time| wait.timeout(Duration::from_millis(time)));
                self.costs.push(cost);
                match Task::begin(self.limiter, name, wait) {
                    Ok(task) => self.polled.push(task),
                    Err(waited) => self.is_over(name, waited),
                }
            }
            Op::Freeze(number) => {
                let task = pick(&mut self.polled, number);
                self.late.extend(task.as_ref().map(|task| task.name));
                self.frozen.extend(task);
            }
            Op::Thaw(number) => {
                let task = pick(&mut self.frozen, number);
                task.into_iter().for_each(|task| self.thaw(task));
            }
            Op::Drop(number) => drop(pick(&mut self.polled, number)),
            Op::DropFrozen(number) => drop(pick(&mut self.frozen, number)),
            Op::Take(cost) => {
                if let Ok(decision) = self.limiter.check_n(&1, cost) {
                    let (is_allowed, ..) = self.world.call(1, cost, true);
                    assert_eq!(decision.is_allowed(), is_allowed);
                }
            }
            Op::Reset => {
                self.limiter.reset(&1);
                self.world.reset(1);
            }
            Op::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
        }
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.time.advance(time);
        self.world.now += time.as_nanos() as u64;
    }

    fn thaw(&mut self, mut task: Task<'l>) {
        match task.poll() {
            Poll::Ready(waited) => self.is_over(task.name, waited),
            Poll::Pending => self.polled.push(task),
        }
    }

    fn settle(&mut self) {
        for (name, waited) in run(&mut self.polled) {
            self.is_over(name, waited);
        }
        let waiting = self.polled.len() + self.frozen.len();
        assert_eq!(self.limiter.waiters(&1), waiting);
        self.limiter.validate();
    }

    /// Never beyond the quota, and those who are always polled in their order.
    fn is_over(&mut self, name: u32, waited: Waited) {
        if waited.is_err() {
            return;
        }
        let cost = self.costs[name as usize];
        assert!(self.world.call(1, cost, true).0, "{name} is let in");
        if !self.late.contains(&name) {
            assert!(self.last < Some(name), "{name} after {:?}", self.last);
            self.last = Some(name);
        }
    }

    /// Who is polled is let in, or its time is up, however many there are that are not.
    fn end(&mut self) {
        let waiting = self
            .polled
            .iter()
            .map(|task| self.costs[task.name as usize]);
        let most = 2 * waiting.sum::<u32>() as usize + 2 * self.frozen.len() + 20;
        let mut seconds = 0;
        while !self.polled.is_empty() {
            self.pass(SECOND);
            self.settle();
            seconds += 1;
            assert!(seconds <= most, "{} wait still", self.polled.len());
        }
    }
}

#[test]
fn who_is_polled_is_let_in_whoever_is_not_and_never_beyond_the_quota() {
    cases("late", (quota(), vec(op(), 1..100)), |(quota, ops)| {
        let (limiter, time) = on_mock(quota);
        let mut crowd = Crowd {
            limiter: &limiter,
            time: time.clone(),
            world: World::new(quota),
            polled: Vec::new(),
            frozen: Vec::new(),
            costs: Vec::new(),
            late: HashSet::new(),
            last: None,
        };
        ops.into_iter().for_each(|op| crowd.step(op));
        crowd.end();
        for task in mem::take(&mut crowd.frozen) {
            crowd.thaw(task);
        }
        crowd.end();
        assert_eq!((limiter.waiters(&1), time.timers()), (0, 0));
    });
}
