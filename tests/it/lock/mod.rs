//! Leases by key.

mod bad_input;
mod leases;
mod model;
mod stats;
mod waiting;

use crate::common::SECOND;
use crate::loading::{block_on, poll_once};
use haybox::MockClock;
use haybox::lock::{Locks, LocksBuilder};
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

fn on_mock(set: impl FnOnce(LocksBuilder<u32>) -> LocksBuilder<u32>) -> (Locks<u32>, MockClock) {
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
    assert_eq!((locks.len(), locks.is_empty()), (1000, false));
    time.advance(LEASE + 11 * SECOND);
    assert_eq!((locks.len(), locks.is_empty()), (0, true));
}

#[test]
fn a_key_that_was_just_used_is_kept_for_the_next_call() {
    let (locks, time) = plain();
    time.advance(SECOND);
    drop(locks.try_acquire(&1).unwrap());
    time.advance(4 * SECOND);
    assert_eq!(locks.len(), 1);
    time.advance(7 * SECOND);
    assert_eq!(locks.len(), 0);
}

/// A key whose destructor calls other locks, which panics under a lock.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Calls(u32);

impl Drop for Calls {
    fn drop(&mut self) {
        static OTHERS: LazyLock<Locks<u32>> = LazyLock::new(|| Locks::new(LEASE).unwrap());
        drop(OTHERS.try_acquire(&self.0));
    }
}

#[test]
fn keys_are_dropped_under_no_lock() {
    let time = MockClock::new();
    let locks = Locks::<Calls>::builder(LEASE).watchdog(2 * LEASE);
    let locks = locks.clock(time.clock()).build().unwrap();
    let held = locks.try_acquire(&Calls(1)).unwrap();
    let mut waiting = [(); 3].map(|()| locks.acquire_async(&Calls(1)));
    for call in &mut waiting {
        assert!(poll_once(Pin::new(call)).is_pending());
    }
    drop(held);
    let [first, second, third] = waiting;
    // One was served, one waits with a timer that was set for the lease before.
    drop((second, first));
    let lease = block_on(third).unwrap();
    time.advance(LEASE / 2);
    drop(lease);
    time.advance(11 * SECOND);
    assert!(locks.is_empty());
}
