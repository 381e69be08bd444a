//! Leases by key.

mod bad_input;
mod leases;
mod model;
mod waiting;

use crate::common::SECOND;
use haybox::MockClock;
use haybox::lock::{Locks, LocksBuilder};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

fn on_mock(set: impl FnOnce(LocksBuilder) -> LocksBuilder) -> (Locks<u32>, MockClock) {
    let time = MockClock::new();
    let builder = Locks::<u32>::builder(LEASE).clock(time.clock());
    (set(builder).build().unwrap(), time)
}

fn plain() -> (Locks<u32>, MockClock) {
    on_mock(|builder| builder)
}

#[test]
fn a_forgotten_lease_is_forgotten_by_the_locks_too() {
    let (locks, time) = plain();
    for key in 0..1000 {
        std::mem::forget(locks.try_acquire(&key).unwrap());
    }
    time.advance(LEASE + 11 * SECOND);
    assert!(locks.is_empty());
}
