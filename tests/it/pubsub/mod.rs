//! Topics, patterns, subscriptions.

mod bridge;
mod lifetimes;
mod model;
mod slow;
mod stats;
mod tasks;
mod threads;

use haybox::MockClock;
use haybox::pubsub::{Bus, Slow, SubscribeOptions, Topic};
use std::thread;

/// A bus on a mock clock with one topic.
fn numbers() -> (Bus, Topic<u32>, MockClock) {
    let time = MockClock::new();
    let bus = Bus::with_clock(time.clock());
    let topic = bus.topic("numbers").unwrap();
    (bus, topic, time)
}

fn options(capacity: usize, slow: Slow) -> SubscribeOptions {
    SubscribeOptions::new().capacity(capacity).on_slow(slow)
}

/// Waits until so many threads or tasks have a time-out running.
fn until_waiting(time: &MockClock, count: usize) {
    while time.timers() < count {
        thread::yield_now();
    }
}
