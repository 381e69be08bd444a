//! Random calls under a mock clock, against an account kept in another way.

use super::on_mock;
use haybox::limit::{Decision, Quota};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::HashMap;
use std::time::Duration;

const ASKED: u32 = 10_000;
const QUICK: u32 = 500;

#[derive(Clone, Copy, Debug)]
enum Op {
    Take(u32, u32),
    Charge(u32, u64),
    Peek(u32),
    Reset(u32),
    Pass(u64),
}

/// Times from nothing over single nanoseconds to many periods.
pub(super) fn time() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, 0..50_u64, 0..2_000_u64, 0..30_000_000_000_u64,]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u32, 0..6_u32).prop_map(|(key, cost)| Op::Take(key, cost)),
        2 => (0..3_u32, 0..20_u64).prop_map(|(key, cost)| Op::Charge(key, cost)),
        1 => (0..3_u32).prop_map(Op::Peek),
        1 => (0..3_u32).prop_map(Op::Reset),
        4 => time().prop_map(Op::Pass),
    ]
}

pub(super) fn quota() -> impl Strategy<Value = Quota> {
    let period = (1..40_u64).prop_map(|tens| Duration::from_nanos(10 * tens));
    (1..8_u32, period, 1..8_u32, any::<bool>()).prop_map(|(limit, period, burst, is_window)| {
        if is_window {
            Quota::sliding_window(limit, period)
        } else {
            Quota::new(limit, period).burst(burst)
        }
    })
}

/// What a key has, told by when each unit comes back and not by when all are back.
#[derive(Default)]
struct Account {
    /// A bucket: how much time's worth of tokens is missing, as of `at`.
    missing: u64,
    at: u64,
    /// A window: everything that was ever taken.
    taken: Vec<(u64, u32)>,
}

pub(super) struct World {
    quota: Quota,
    pub(super) now: u64,
    accounts: HashMap<u32, Account>,
}

impl World {
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            quota,
            now: 0,
            accounts: HashMap::new(),
        }
    }

    fn interval(&self) -> u64 {
        self.period().div_ceil(u64::from(self.quota.limit()))
    }

    fn period(&self) -> u64 {
        self.quota.period().as_nanos() as u64
    }

    fn is_window(&self) -> bool {
        format!("{:?}", self.quota).contains("is_window: true")
    }

    /// Whether a cost is allowed, how much is left, when to try again, when all is back.
    pub(super) fn call(
        &mut self,
        key: u32,
        cost: u32,
        takes: bool,
    ) -> (bool, u32, Option<u64>, u64) {
        let (now, interval, period) = (self.now, self.interval(), self.period());
        let (at_once, is_window) = (self.quota.at_once(), self.is_window());
        let account = self.accounts.entry(key).or_default();
        if is_window {
            return window(account, (at_once, period), now, cost, takes);
        }
        let capacity = interval * u64::from(at_once);
        account.missing = account.missing.saturating_sub(now - account.at);
        account.at = now;
        let price = interval * u64::from(cost);
        let is_allowed = cost == 0 || account.missing + price <= capacity;
        if is_allowed && takes {
            account.missing += price;
        }
        let left = (capacity.saturating_sub(account.missing) / interval) as u32;
        let retry = (!is_allowed).then(|| account.missing + price - capacity);
        (is_allowed, left, retry, account.missing)
    }

    /// What is left after a charge.
    pub(super) fn charge(&mut self, key: u32, cost: u64) -> u32 {
        let (now, interval) = (self.now, self.interval());
        // Brings the account up to date.
        let _ = self.call(key, 0, false);
        let account = self.accounts.entry(key).or_default();
        account.missing += interval * cost;
        if cost > 0 {
            account.taken.push((now, cost as u32));
        }
        let (_, left, ..) = self.call(key, 0, false);
        left
    }

    pub(super) fn reset(&mut self, key: u32) {
        self.accounts.remove(&key);
    }

    /// How long it takes until so much was taken, unit by unit, each as soon as it is free.
    pub(super) fn forecast(&mut self, key: u32, costs: u32) -> u64 {
        let (now, interval, period) = (self.now, self.interval(), self.period());
        let at_once = self.quota.at_once();
        if !self.is_window() {
            let _ = self.call(key, 0, false);
            let missing = self.accounts.entry(key).or_default().missing;
            let price = interval * u64::from(costs);
            return (missing + price).saturating_sub(interval * u64::from(at_once));
        }
        let taken = &self.accounts.entry(key).or_default().taken;
        let units = taken
            .iter()
            .flat_map(|(at, cost)| vec![*at; *cost as usize]);
        let mut units: Vec<u64> = units.collect();
        for _ in 0..costs {
            let before = units.len().checked_sub(at_once as usize);
            let free = before.map_or(now, |before| units[before] + period);
            units.push(free.max(now));
        }
        units.last().map_or(0, |last| last.saturating_sub(now))
    }

    #[track_caller]
    fn compare(&mut self, key: u32, cost: u32, takes: bool, decision: Decision) {
        let (is_allowed, left, retry, reset) = self.call(key, cost, takes);
        assert_eq!(decision.is_allowed(), is_allowed);
        assert_eq!(decision.limit(), self.quota.at_once());
        assert_eq!(decision.remaining(), left);
        assert_eq!(decision.retry_after(), retry.map(Duration::from_nanos));
        assert_eq!(decision.reset_after(), Duration::from_nanos(reset));
    }
}

fn window(
    account: &mut Account,
    (limit, period): (u32, u64),
    now: u64,
    cost: u32,
    takes: bool,
) -> (bool, u32, Option<u64>, u64) {
    let used_at = |account: &Account, now: u64| -> u32 {
        let recent = account.taken.iter().filter(|(at, _)| at + period > now);
        recent.map(|(_, cost)| cost).sum()
    };
    let is_allowed = cost == 0 || used_at(account, now) + cost <= limit;
    if is_allowed && takes && cost > 0 {
        account.taken.push((now, cost));
    }
    let ends = account.taken.iter().map(|(at, _)| at + period);
    let mut later: Vec<u64> = ends.filter(|end| *end > now).collect();
    later.sort_unstable();
    let fits = |at: &&u64| used_at(account, **at) + cost <= limit;
    let retry = (!is_allowed).then(|| later.iter().find(fits).unwrap() - now);
    let reset = later.last().map_or(0, |last| last - now);
    let left = limit.saturating_sub(used_at(account, now));
    (is_allowed, left, retry, reset)
}

fn run(quota: Quota, ops: &[Op]) {
    let (limiter, time) = on_mock(quota);
    let mut world = World::new(quota);
    for op in ops {
        match *op {
            Op::Take(key, cost) => match limiter.check_n(&key, cost) {
                Ok(decision) => world.compare(key, cost, true, decision),
                Err(error) => {
                    assert!(cost > quota.at_once());
                    assert_eq!((error.cost(), error.limit()), (cost, quota.at_once()));
                }
            },
            Op::Charge(key, cost) => {
                let left = limiter.charge(&key, cost);
                assert_eq!(left, world.charge(key, cost));
            }
            Op::Peek(key) => world.compare(key, 1, false, limiter.peek(&key)),
            Op::Reset(key) => {
                limiter.reset(&key);
                world.accounts.remove(&key);
            }
            Op::Pass(nanoseconds) => {
                time.advance(Duration::from_nanos(nanoseconds));
                world.now += nanoseconds;
            }
        }
        limiter.validate();
    }
}

#[test]
fn random_calls_agree_with_an_account_kept_in_another_way() {
    cases("limits", (quota(), vec(op(), 1..80)), |(quota, ops)| {
        run(quota, &ops)
    });
}

/// Runs random cases.
pub(super) fn cases<S: Strategy>(name: &str, strategy: S, run: impl Fn(S::Value)) {
    let cases = crate::common::cases(QUICK, ASKED);
    println!("{name}: {cases} random cases (asked for: {ASKED})");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |case| {
        run(case);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The promise itself, checked over every pair of allowed calls.
#[test]
fn no_span_of_time_sees_more_than_the_quota_says() {
    let calls = vec((0..60_u64, 1..4_u32), 1..150);
    cases("spans", (quota(), calls), |(quota, calls)| {
        let (limiter, time) = on_mock(quota);
        let (mut now, mut taken) = (0, Vec::<(u64, u32)>::new());
        for (pause, cost) in calls {
            time.advance(Duration::from_nanos(pause));
            now += pause;
            if limiter
                .check_n(&1, cost)
                .is_ok_and(|decision| decision.is_allowed())
            {
                taken.push((now, cost));
            }
        }
        assert_within(quota, &taken);
    });
}

fn assert_within(quota: Quota, taken: &[(u64, u32)]) {
    let (limit, period) = (u64::from(quota.limit()), quota.period().as_nanos() as u64);
    let is_window = format!("{quota:?}").contains("is_window: true");
    for (first, (from, _)) in taken.iter().enumerate() {
        let mut sum = 0;
        for (to, cost) in &taken[first..] {
            sum += u64::from(*cost);
            let span = to - from;
            if !is_window {
                let most = u64::from(quota.at_once()) * period + span * limit;
                assert!(sum * period <= most, "{sum} within {span} ns of {quota:?}");
            } else if span < period {
                assert!(sum <= limit, "{sum} within {span} ns of {quota:?}");
            }
        }
    }
}
