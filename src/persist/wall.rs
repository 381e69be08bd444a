//! Deadlines of the clock of a process, which starts anew with the machine, as times of the wall.

use super::effect::WallLife;
use super::made_by::MadeBy;
use crate::sync::{AtomicU64, Mutex};
use crate::table::Ends;
use crate::time::{Clock, Deadline, NEVER, since_1970};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How old the comparison of the two clocks may be: somebody may set the wall clock.
pub(super) const OLD: Duration = Duration::from_millis(100);

/// By more than this the wall clock has to have been set to be worth a new snapshot.
pub(super) const STEP: Duration = Duration::from_secs(60);

const MILLISECOND: i128 = 1_000_000;

/// How far the wall clock is ahead of the clock of deadlines now, in nanoseconds.
pub(super) fn ahead_of(clock: &Clock) -> i64 {
    let wall = since_1970(clock.system_time()).as_nanos() as i128;
    (wall - i128::from(clock.now())) as i64
}

/// Whether the wall clock was set since it was so far ahead, and by so much that deadlines of then have to
/// be made anew.
pub(super) fn has_moved_since(ahead: i64, clock: &Clock) -> bool {
    is_step(ahead_of(clock), ahead)
}

/// The same of two comparisons.
pub(super) fn is_step(one: i64, other: i64) -> bool {
    one.abs_diff(other) > STEP.as_nanos() as u64
}

/// The wall time of now by a comparison, in milliseconds since 1970.
pub(super) fn now_ms_by(ahead: i64, clock: &Clock) -> u64 {
    let now = i128::from(clock.now()) + i128::from(ahead);
    (now / MILLISECOND).max(0) as u64
}

/// How far the wall clock is ahead of the clock of deadlines.
#[derive(Debug)]
pub(super) struct Wall {
    clock: Clock,
    /// Nanoseconds, as two's complement.
    ahead: AtomicU64,
    compared: AtomicU64,
    /// Held by who compares, from the reading on: an older one never takes the place of a newer one.
    comparing: Mutex<()>,
}

impl Wall {
    pub(super) fn new(clock: Clock) -> Self {
        let wall = Self {
            clock,
            ahead: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            comparing: Mutex::new(()),
        };
        wall.compare();
        wall
    }

    /// Compares the clocks: what is written from now on is by that, or by a later one.
    pub(super) fn compare(&self) -> i64 {
        let _comparing = self.comparing.lock();
        self.compare_alone()
    }

    /// The same, by who holds the lock for it.
    fn compare_alone(&self) -> i64 {
        let ahead = ahead_of(&self.clock);
        self.ahead.store(ahead as u64, Relaxed);
        self.compared.store(self.clock.now(), Relaxed);
        ahead
    }

    /// Nanoseconds, by the last comparison.
    pub(super) fn ahead(&self) -> i64 {
        self.ahead.load(Relaxed) as i64
    }

    fn ahead_now(&self) -> i64 {
        if self.clock.is_mock() {
            return self.compare();
        }
        let age = self
            .clock
            .coarse()
            .saturating_sub(self.compared.load(Relaxed));
        // Writers ask under the locks of their sets, and so do not wait for one another here: where
        // somebody is at it the comparison of before does, and if that is off it is found out when it
        // is written.
        if age > OLD.as_nanos() as u64
            && let Some(_comparing) = self.comparing.try_lock()
        {
            return self.compare_alone();
        }
        self.ahead()
    }

    /// The wall time by the last comparison, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        now_ms_by(self.ahead(), &self.clock)
    }

    /// When a life ends by the wall clock as it stands now, and adds how that does. Rounded down, so
    /// that nothing ends later than it should.
    pub(super) fn of_life(&self, life: Ends, made_by: &mut MadeBy) -> WallLife {
        if (life.hard, life.idle) == (NEVER, NEVER) {
            return WallLife::default();
        }
        let ahead = self.ahead_now();
        made_by.add(MadeBy::one(ahead));
        let at = |deadline: Deadline| {
            let at = (i128::from(deadline) + i128::from(ahead)) / MILLISECOND;
            (deadline != NEVER).then_some(at.max(0) as u64)
        };
        WallLife {
            hard: at(life.hard),
            idle: at(life.idle),
        }
    }

    /// The other way round, by the last comparison: while a cache is restored the clocks are
    /// compared once.
    pub(super) fn to_life(&self, life: WallLife) -> Ends {
        let ahead = i128::from(self.ahead());
        let deadline = |at: Option<u64>| {
            at.map_or(NEVER, |at| {
                let deadline = i128::from(at) * MILLISECOND - ahead;
                deadline.clamp(1, i128::from(NEVER - 1)) as Deadline
            })
        };
        Ends {
            hard: deadline(life.hard),
            idle: deadline(life.idle),
        }
    }
}
