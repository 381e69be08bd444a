//! A disk that does not come back from what it was asked for.
//!
//! Nothing has failed then, so nobody is told of an error. What is under way has the time at which it
//! was begun, for who looks at the health.

use super::Inner;
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// What takes longer than this is a trouble.
pub(super) const SLOW: Duration = Duration::from_secs(5);

/// Since when something is under way, by the clock; zero for nothing. One thing at a time.
#[derive(Debug, Default)]
pub(super) struct UnderWay(AtomicU64);

/// What the disk is asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) write: UnderWay,
    pub(super) sync: UnderWay,
}

impl Inner {
    /// Asks something of the disk. What it runs does not panic.
    pub(super) fn timed<R>(&self, what: &UnderWay, ask: impl FnOnce() -> R) -> R {
        what.0.store(self.settings.clock.now().max(1), Relaxed);
        let answer = ask();
        what.0.store(0, Relaxed);
        answer
    }

    /// What the disk has not come back from: for long, or so that writes go on without room in the
    /// buffer.
    pub(super) fn stall(&self) -> Option<String> {
        let has_no_room = self.room.is_given_up.load(SeqCst);
        let write = self.age(&self.asked.write);
        let sync = self.age(&self.asked.sync).filter(|age| *age >= SLOW);
        match (write.filter(|age| has_no_room || *age >= SLOW), sync) {
            (Some(age), _) => Some(format!("the disk has not taken a write for {age:.1?}")),
            (_, Some(age)) => Some(format!("the disk has not ended a sync for {age:.1?}")),
            _ if has_no_room => Some("the disk takes writes too slowly".to_owned()),
            _ => None,
        }
    }

    fn age(&self, what: &UnderWay) -> Option<Duration> {
        let since = what.0.load(Relaxed);
        let age = self.settings.clock.now().saturating_sub(since);
        (since > 0).then_some(Duration::from_nanos(age))
    }
}
