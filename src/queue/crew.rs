//! What those who work on the messages of a queue share: threads or tasks.

use super::{Delivery, Queue, Settle};
use crate::figures::figures;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

figures! {
    /// What [`Workers`](super::Workers) or [`TaskWorkers`](super::TaskWorkers) have done.
    pub struct WorkersReport {
        /// Messages that were done and acknowledged.
        pub done: u64,
        /// Attempts that the handler ended with an error.
        pub failed: u64,
        /// Messages that the handler [buried](Settle::Bury).
        pub buried: u64,
        /// Messages that it [released](Settle::ReleaseAfter).
        pub released: u64,
        /// Attempts that ended with a panic.
        pub panicked: u64,
        /// Attempts that the handler ended, one way or the other, when the time of the delivery had
        /// passed: the message was or will be handed out again. If there are any, the visibility
        /// time-out is too short for this work.
        pub late: u64,
    }
}

/// For how long a message that was released keeps out of the way at least.
const LEAST_DELAY: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct Crew {
    is_stopped: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    buried: AtomicU64,
    released: AtomicU64,
    panicked: AtomicU64,
    late: AtomicU64,
}

impl Crew {
    pub(super) fn is_stopped(&self) -> &AtomicBool {
        &self.is_stopped
    }

    /// Has all of them end when they are through with what they are at.
    pub(super) fn stop<T: Send + Sync + 'static>(&self, queue: &Queue<T>) {
        self.is_stopped.store(true, SeqCst);
        queue.wake_poppers();
    }

    pub(super) fn report(&self) -> WorkersReport {
        WorkersReport {
            done: self.done.load(SeqCst),
            failed: self.failed.load(SeqCst),
            buried: self.buried.load(SeqCst),
            released: self.released.load(SeqCst),
            panicked: self.panicked.load(SeqCst),
            late: self.late.load(SeqCst),
        }
    }

    /// Ends a delivery by what the handler has made of it, or has panicked with.
    pub(super) fn settle<T>(&self, delivery: Delivery<T>, made: Result<Settle, String>) {
        let (counter, settled) = match made {
            Ok(Settle::Ack) => (&self.done, delivery.ack()),
            Ok(Settle::Fail(error)) => (&self.failed, delivery.fail(error)),
            Ok(Settle::FailAfter(error, delay)) => {
                (&self.failed, delivery.fail_after(error, delay))
            }
            Ok(Settle::Bury(error)) => (&self.buried, delivery.bury(error)),
            Ok(Settle::ReleaseAfter(delay)) => {
                let delay = delay.max(LEAST_DELAY);
                (&self.released, delivery.release_after(delay))
            }
            Err(panic) => {
                let error = format!("panicked: {panic}");
                (&self.panicked, delivery.fail(error))
            }
        };
        let counter = if settled.is_ok() { counter } else { &self.late };
        counter.fetch_add(1, SeqCst);
    }
}
