//! Random calls of many tasks and one thread under a mock clock, against a queue and a list.

use super::TICK;
use crate::loading::poll_once;
use haybox::MockClock;
use haybox::lock::{Acquire, Lease, LockError, Locks};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

const ASKED: u32 = 10_000;
const QUICK: u32 = 500;

/// Lease times and time-outs, in nanoseconds: they meet often.
const LEASE: u64 = 20;

#[derive(Clone, Copy, Debug)]
enum Op {
    Try(u32, u32),
    Begin(u32, u32, Option<u64>),
    Drop(usize),
    Release(usize),
    Forget(usize),
    Renew(usize),
    Unbind(usize),
    Pass(u64),
}

fn op(permits: u32) -> impl Strategy<Value = Op> {
    let (key, take, which) = (0..2_u32, 1..permits + 1, 0..8_usize);
    prop_oneof![
        3 => (key.clone(), take.clone()).prop_map(|(key, take)| Op::Try(key, take)),
        4 => (key, take, proptest::option::of(0..40_u64))
            .prop_map(|(key, take, timeout)| Op::Begin(key, take, timeout)),
        1 => which.clone().prop_map(Op::Drop),
        3 => which.clone().prop_map(Op::Release),
        1 => which.clone().prop_map(Op::Forget),
        2 => which.clone().prop_map(Op::Renew),
        1 => which.prop_map(Op::Unbind),
        4 => prop_oneof![0..4_u64, 0..25_u64, Just(20_000_000_000)].prop_map(Op::Pass),
    ]
}

/// Who asks: each call has a number.
type Caller = usize;

#[derive(Default)]
struct Key {
    holders: Vec<Holder>,
    queue: VecDeque<(Caller, u32)>,
}

struct Holder {
    caller: Caller,
    permits: u32,
    ends: u64,
    is_own: bool,
}

struct World {
    permits: u32,
    now: u64,
    keys: BTreeMap<u32, Key>,
    next: Caller,
    time: MockClock,
    locks: Locks<u32>,
    /// The calls that wait, with their key and the time at which they give up.
    calls: Vec<(Caller, u32, u64, Acquire<u32>)>,
    leases: Vec<(Caller, u32, Lease<u32>)>,
    newest: BTreeMap<u32, u64>,
}

impl World {
    fn new(permits: u32) -> Self {
        let time = MockClock::new();
        let builder = Locks::<u32>::builder(Duration::from_nanos(LEASE)).permits(permits);
        Self {
            permits,
            now: 0,
            keys: BTreeMap::new(),
            next: 0,
            locks: builder.clock(time.clock()).build().unwrap(),
            time,
            calls: Vec::new(),
            leases: Vec::new(),
            newest: BTreeMap::new(),
        }
    }

    // ---- what should be ----

    fn settle(&mut self) {
        for key in self.keys.values_mut() {
            key.holders.retain(|holder| holder.ends > self.now);
            while let Some((caller, permits)) = key.queue.front().copied()
                && key.held() + permits <= self.permits
            {
                key.queue.pop_front();
                key.hold(caller, permits, self.now, false);
            }
        }
    }

    fn is_holder(&self, caller: Caller) -> bool {
        let mut holders = self.keys.values().flat_map(|key| &key.holders);
        holders.any(|holder| holder.caller == caller)
    }

    fn end(&mut self, caller: Caller) {
        for key in self.keys.values_mut() {
            key.holders.retain(|holder| holder.caller != caller);
            key.queue.retain(|(waits, _)| *waits != caller);
        }
        self.settle();
    }

    // ---- what is ----

    fn run(&mut self, op: Op) {
        match op {
            Op::Try(key, take) => self.try_acquire(key, take),
            Op::Begin(key, take, timeout) => self.begin(key, take, timeout),
            Op::Drop(which) if !self.calls.is_empty() => {
                let (caller, ..) = self.calls.swap_remove(which % self.calls.len());
                self.end(caller);
            }
            Op::Release(which) if !self.leases.is_empty() => {
                let (caller, _, lease) = self.leases.swap_remove(which % self.leases.len());
                assert_eq!(lease.release().is_ok(), self.is_holder(caller));
                self.end(caller);
            }
            Op::Forget(which) if !self.leases.is_empty() => {
                let (.., lease) = self.leases.swap_remove(which % self.leases.len());
                std::mem::forget(lease);
            }
            Op::Renew(which) if !self.leases.is_empty() => {
                let which = which % self.leases.len();
                let (caller, _, lease) = &self.leases[which];
                assert_eq!(lease.renew().is_ok(), self.is_holder(*caller));
                let caller = *caller;
                for holder in self.keys.values_mut().flat_map(|key| &mut key.holders) {
                    if holder.caller == caller {
                        holder.ends = self.now + LEASE;
                    }
                }
            }
            Op::Unbind(which) if !self.leases.is_empty() => {
                let (caller, key, lease) = self.leases.swap_remove(which % self.leases.len());
                self.leases.push((caller, key, lease.unbind()));
                for holder in self.keys.values_mut().flat_map(|key| &mut key.holders) {
                    holder.is_own &= holder.caller != caller;
                }
            }
            Op::Pass(nanoseconds) => {
                self.now += nanoseconds;
                self.settle();
                self.time
                    .advance(TICK * u32::try_from(nanoseconds).unwrap_or(0));
                if nanoseconds > u64::from(u32::MAX) {
                    self.time.advance(Duration::from_nanos(nanoseconds));
                }
            }
            _ => {}
        }
        self.poll_all();
        self.compare();
    }

    fn try_acquire(&mut self, key: u32, take: u32) {
        let asked = self.locks.taking(take).unwrap().try_acquire(&key);
        let (permits, now) = (self.permits, self.now);
        let state = self.keys.entry(key).or_default();
        let is_free = state.queue.is_empty() && state.held() + take <= permits;
        match asked {
            Ok(lease) => {
                assert!(is_free);
                state.hold(self.next, take, now, true);
                self.note(self.next, key, lease);
            }
            Err(error) => {
                assert!(error == LockError::Busy && !is_free, "{error}");
                // Only a call that would block looks at whose the lease is.
                let expected = match state.holders.iter().any(|holder| holder.is_own) {
                    true => LockError::Reentrant,
                    false => LockError::TimedOut,
                };
                let locks = self.locks.taking(take).unwrap();
                let blocks = locks.acquire_timeout(&key, Duration::ZERO);
                assert_eq!(blocks.unwrap_err(), expected);
            }
        }
        self.next += 1;
    }

    fn begin(&mut self, key: u32, take: u32, timeout: Option<u64>) {
        let locks = self.locks.taking(take).unwrap();
        let acquire = match timeout {
            None => locks.acquire_async(&key),
            Some(timeout) => locks.acquire_timeout_async(&key, Duration::from_nanos(timeout)),
        };
        let until = timeout.map_or(u64::MAX, |timeout| self.now + timeout);
        self.calls.push((self.next, key, until, acquire));
        self.keys
            .entry(key)
            .or_default()
            .queue
            .push_back((self.next, take));
        self.next += 1;
        self.settle();
    }

    /// Polls every call once, in their order; a time-out may let the next one in.
    fn poll_all(&mut self) {
        for (caller, key, until, mut acquire) in std::mem::take(&mut self.calls) {
            let is_holder = self.is_holder(caller);
            let queue = &self.keys[&key].queue;
            let is_waiting = queue.iter().any(|(waits, _)| *waits == caller);
            match poll_once(Pin::new(&mut acquire)) {
                Poll::Ready(Ok(lease)) => {
                    assert!(!is_waiting);
                    assert_eq!(lease.is_held(), is_holder);
                    self.note(caller, key, lease);
                }
                Poll::Ready(Err(error)) => {
                    assert!(error == LockError::TimedOut && is_waiting && self.now >= until);
                    self.end(caller);
                }
                Poll::Pending => {
                    assert!(is_waiting && self.now < until);
                    self.calls.push((caller, key, until, acquire));
                }
            }
        }
    }

    /// A lease that was granted just now or while its call was not polled.
    fn note(&mut self, caller: Caller, key: u32, lease: Lease<u32>) {
        if lease.is_held() {
            let newest = self.newest.entry(key).or_default();
            let newer = self.permits > 1 || lease.token() > *newest;
            assert!(
                newer,
                "the token is not greater than that of the lease before"
            );
            *newest = lease.token().max(*newest);
        }
        self.leases.push((caller, key, lease));
    }

    fn compare(&self) {
        self.locks.validate();
        for (key, state) in &self.keys {
            assert_eq!(self.locks.available(key), self.permits - state.held());
            assert_eq!(self.locks.waiters(key), state.queue.len());
        }
        for (caller, key, lease) in &self.leases {
            let mut holders = self.keys[key].holders.iter();
            let holder = holders.find(|holder| holder.caller == *caller);
            let left = holder.map_or(0, |holder| holder.ends - self.now);
            assert_eq!(lease.remaining(), Duration::from_nanos(left));
        }
    }

    /// Everything that was given out comes back.
    fn finish(mut self) {
        while !self.calls.is_empty() {
            self.run(Op::Drop(0));
        }
        while !self.leases.is_empty() {
            self.run(Op::Release(0));
        }
        self.run(Op::Pass(20_000_000_000));
        assert!(self.locks.is_empty());
        assert_eq!(self.time.timers(), 0);
    }
}

impl Key {
    fn held(&self) -> u32 {
        self.holders.iter().map(|holder| holder.permits).sum()
    }

    fn hold(&mut self, caller: Caller, permits: u32, now: u64, is_own: bool) {
        self.holders.push(Holder {
            caller,
            permits,
            ends: now + LEASE,
            is_own,
        });
    }
}

#[test]
fn random_calls_agree_with_a_queue_and_a_list() {
    let cases = crate::common::cases(QUICK, ASKED);
    println!("locks: {cases} random cases (asked for: {ASKED})");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let calls = (1..4_u32).prop_flat_map(|permits| (Just(permits), vec(op(permits), 1..60)));
    let outcome = TestRunner::new(config).run(&calls, |(permits, ops)| {
        let mut world = World::new(permits);
        for op in ops {
            world.run(op);
        }
        world.finish();
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
