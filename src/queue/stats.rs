//! What a queue is doing, in numbers.

use crate::figures::figures;
use std::time::Duration;

figures! {
    /// What is in a queue now, and what it has done since it was built. From
    /// [`Queue::stats`](super::Queue::stats).
    pub struct QueueStats {
        /// Messages that could be handed out now.
        pub ready: usize [gauge],
        /// Messages that wait for their time: delayed ones, and ones that failed and are tried
        /// again later.
        pub delayed: usize [gauge],
        /// Messages that were handed out and are not settled.
        pub in_flight: usize [gauge],
        /// Messages that have failed as often as they may.
        pub dead: usize [gauge],
        /// De-duplication keys that are remembered.
        pub keys: usize [gauge],
        /// For how long the oldest of the ready messages has been due. `None` if none is ready.
        /// This is what to watch: it grows when the workers do not keep up. What a
        /// [kept](super#surviving-a-restart) queue has brought over a restart counts as due since
        /// the queue was opened, or since the end of a delay that was not over then: the files do
        /// not say since when a message is ready, so an alarm that goes by the age begins anew.
        pub oldest_age: Option<Duration> [gauge],
        /// Messages that were taken in.
        pub pushed: u64,
        /// Messages that were not, since their de-duplication key counted for another one.
        pub duplicates: u64,
        /// Deliveries: first attempts and later ones.
        pub delivered: u64,
        /// Deliveries that were acknowledged.
        pub acked: u64,
        /// Deliveries that were given back by `nack`, dropped, failed or buried.
        pub failed: u64,
        /// Deliveries that were released, so that they do not count as attempts.
        pub released: u64,
        /// Deliveries whose time passed.
        pub expired: u64,
        /// Messages that became dead letters.
        pub buried: u64,
        /// Messages that were [cancelled](super::Queue::cancel).
        pub cancelled: u64,
        /// Messages that were given up: for a new one ([`Overflow::DropOldest`](super::Overflow)),
        /// or as the oldest of too many dead letters.
        pub discarded: u64,
    }
}
