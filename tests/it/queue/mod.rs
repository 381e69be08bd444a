//! Queues.

mod bad_input;
mod deliveries;
#[cfg(feature = "persist")]
mod migration;
mod model;
#[cfg(feature = "persist")]
mod restart;
mod task_workers;
mod waiting;
mod workers;

use haybox::MockClock;
use haybox::queue::{Delivery, PopError, Queue, QueueBuilder};
use std::time::Duration;

const VISIBILITY: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_nanos(1);

fn on_mock(
    capacity: usize,
    set: impl FnOnce(QueueBuilder<u32>) -> QueueBuilder<u32>,
) -> (Queue<u32>, MockClock) {
    let time = MockClock::new();
    let builder = Queue::builder(capacity).clock(time.clock());
    (set(builder).build().unwrap(), time)
}

fn plain() -> (Queue<u32>, MockClock) {
    on_mock(100, |builder| builder)
}

/// What fails is tried again at once.
fn at_once<T>(builder: QueueBuilder<T>) -> QueueBuilder<T> {
    builder.backoff(Duration::ZERO, Duration::ZERO)
}

/// Does the work of a delivery.
fn done(popped: Result<Delivery<u32>, PopError>) -> u32 {
    let delivery = popped.unwrap();
    let value = *delivery;
    delivery.ack().unwrap();
    value
}
