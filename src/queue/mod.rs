//! Queues: messages that are worked on until somebody says that they are done.
//!
//! What Redis's lists and streams are used for (`LPUSH` and `BRPOP`, `XADD`, `XREADGROUP` and
//! `XACK`, and the job queues built on them): background jobs, mails to send, webhooks to call.
//!
//! ```
//! use haybox::queue::{PushOptions, Queue, Workers};
//! use std::time::Duration;
//!
//! let mails = Queue::<String>::builder(10_000)
//!     .visibility_timeout(Duration::from_secs(60))
//!     .build()?;
//! let workers = Workers::start(&mails, 4, |mail| send(mail))?;
//! mails.push("welcome 7".to_owned())?;
//! let later = PushOptions::new().delay(Duration::from_millis(20)).dedup_key("survey 7");
//! mails.push_with("survey 7".to_owned(), later)?;
//! mails.close();
//! assert_eq!(workers.drain(Duration::from_secs(30)).done, 2);
//! # fn send(_: &str) -> std::io::Result<()> { Ok(()) }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tasks take the calls that end in `_async`: [`pop_async`](Queue::pop_async),
//! [`pop_timeout_async`](Queue::pop_timeout_async), [`push_async`](Queue::push_async),
//! [`push_with_async`](Queue::push_with_async) and [`push_many_async`](Queue::push_many_async).
//! Their namesakes block the thread, and so all tasks of it; [`try_pop`](Queue::try_pop) waits for
//! nothing. [`Workers`] are threads; a handler that awaits something is for tasks, on whichever executor:
//!
//! ```
//! use haybox::queue::{Delivery, Queue, TaskWorkers};
//! use std::time::Duration;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let mails = Queue::<String>::new(10_000)?;
//! let workers = TaskWorkers::new(&mails);
//! for _ in 0..4 {
//!     tokio::spawn(workers.work(async |mail: &Delivery<String>| send(mail).await));
//! }
//! mails.push_async("welcome 7".to_owned()).await?;
//! mails.close(); // What is in it is still worked on.
//! assert_eq!(workers.drain_async(Duration::from_secs(30)).await.done, 1);
//! # async fn send(_: &str) -> std::io::Result<()> { Ok(()) }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The life of a message
//! A message is *ready* when it is pushed, or *delayed* until its time has come.
//! [`pop`](Queue::pop) hands it out as a [`Delivery`]: it is *in flight*, and nobody else gets it.
//! The delivery ends in one of these ways:
//!
//! | what happens | what becomes of the message |
//! | --- | --- |
//! | [`ack`](Delivery::ack) | it is done, and leaves the queue |
//! | [`nack`](Delivery::nack), [`fail`](Delivery::fail), the delivery is dropped (also by a panic) | it is tried again, after the queue's [backoff](QueueBuilder::backoff): by default after 1 s, then 2 s, up to 5 minutes |
//! | its [visibility time-out](QueueBuilder::visibility_timeout) passes | it is tried again at once |
//! | [`release`](Delivery::release), [`release_after`](Delivery::release_after) | it is as it was before, or waits; the attempt does not count |
//! | any of these but `ack` and those two, after the [last attempt](QueueBuilder::max_attempts), by default the tenth | it is a [dead letter](Queue::dead_letters): it stays until it is requeued or purged |
//! | [`bury`](Delivery::bury) | it is a dead letter at once |
//!
//! While it is ready or delayed it can be [cancelled](Queue::cancel).
//!
//! # What it promises, and what not
//! - While the process lives, each message that was taken in is acknowledged once, or is in the
//!   queue, or a dead letter, or was discarded or cancelled and counted as such
//!   ([`QueueStats::discarded`]). None is lost by a panic, a dropped future, or a worker that
//!   hangs. Discarded are the oldest of more dead letters than are [kept](QueueBuilder::dead_letters),
//!   by default as many as the capacity, and what [`Overflow::DropOldest`] gives up, nothing else.
//! - What fails all its workers for a while buries nothing: with the defaults a message is given
//!   up after ten attempts in eight and a half minutes.
//! - At least once, not exactly once: a worker may do its work and then fail, or take longer than
//!   its time, before it acknowledges. Its `ack` is then an error, but what it did is done. Work
//!   that must not be done twice has to know what it has done, for example by the
//!   [number](Delivery::id) of the message.
//! - Messages of one priority are handed out in the order in which they are due: since they were
//!   pushed, or since their delay was over. What is given back without a delay keeps its place.
//!   With several workers, or failures, the work may *end* in another order.
//! - A higher priority goes first, always: low ones may starve.
//! - What is in a queue ends with the process, unless it is [kept](#surviving-a-restart).
//!
//! # When it is full
//! A queue holds `capacity` messages, those in flight included, and at most
//! [`dead_letters`](QueueBuilder::dead_letters) dead ones. A push beyond that is refused, or waits,
//! or takes the place of the oldest: see [`Overflow`].
//!
//! # Surviving a restart
//! With the feature `persist`, `QueueBuilder::open` keeps a queue in a directory, as [`persist`]
//! keeps a store: a message is a record, written when it is pushed, tried again or buried, and
//! removed when it is done. What holds then:
//!
//! - When a push has returned, its message survives a `kill -9`; and a power loss as the
//!   [`SyncPolicy`] says. A push waits for that, about as long as one write to a file takes, or with
//!   `SyncPolicy::Always` one sync; pushes of several threads and tasks share it, and so do those of
//!   one [`push_many`](Queue::push_many).
//! - Nothing else waits for the disk. What a crash loses are acknowledgements of the last
//!   milliseconds, and then those messages are handed out again: at least once.
//! - After a restart everything is ready that was in flight. An attempt that the process did not
//!   survive does not count: a message that kills the process is handed out again each time.
//! - Of one priority, what is ready then is handed out in the order in which it was pushed, before
//!   what becomes ready later, and counts as due since the queue was opened:
//!   [`QueueStats::oldest_age`] begins at zero.
//! - Delays go on by the wall clock, but never for longer than they were when they began, whatever
//!   the clock was set to; but times on the disk are whole milliseconds, rounded up, so what comes
//!   back may be ready up to 1 ms later. The windows of de-duplication keys end with the process;
//!   while a message is in the queue its key counts.
//! - Messages have to be `Serialize` and `DeserializeOwned`. All of them are in memory, once. A
//!   change of their type that the codec does not bridge needs a higher
//!   `Persistence::schema_version`, and a `Persistence::migrate` that uses `Old::with_message`.
//! - A call from inside a closure that a cache runs under a lock panics, as one that waits does; a
//!   queue that is not kept may be pushed to there.
//! - When the disk is full or fails, pushes are refused (`PushError::NotKept`), and work goes on. A
//!   push that was taken in before that was known is answered with `PushError::Unsure`: its message
//!   *is* in the queue, and may not survive a restart. Who pushes it again has it done twice.
//!   `Queue::journal` tells what is wrong. Where the disk merely does not keep up, a push waits for
//!   up to 5 s before it is refused.
//! - What becomes of a message is never refused and never waits: an acknowledgement, an attempt that
//!   failed, a burial. Where there is no room for it, or the disk fails, it is written as soon as
//!   the disk takes it, also by `Journal::close`, with no further call. Until then it takes up
//!   memory, at most sixteen times the [`buffer`] and twice the largest message; beyond that the
//!   state of the queue is written anew when the disk is back.
//!
//! # Waiting
//! Threads and tasks wait for messages and for room in one line each, first come, first served; a
//! message wakes one of them. Who pops while a message is ready takes it, though somebody was just
//! woken for it, who then waits on at the head of the line. Nobody polls: when a delay or a
//! visibility time-out is over while somebody waits, a timer wakes them. Nothing is done in the
//! background otherwise; each call first does what has become due.
//!
//! # Cost
//! A push and a pop take one lock for all of the queue, O(1) for messages that come in their order
//! and O(log n) for delayed ones and those that come back; a delivery is O(log) of those in flight.
//! A message takes up itself and about 110 bytes; one that is kept about 150 more.
//!
//! # Time
//! All times run on the crate's [`Clock`](crate::Clock): steps of the wall clock change nothing,
//! and time that the machine is suspended counts.
//!
// Of two definitions the first counts: the second is for documentation without the feature.
#![cfg_attr(feature = "persist", doc = "[`persist`]: crate::persist")]
#![cfg_attr(
    feature = "persist",
    doc = "[`SyncPolicy`]: crate::persist::SyncPolicy"
)]
#![cfg_attr(
    feature = "persist",
    doc = "[`buffer`]: crate::persist::Persistence::buffer"
)]
//! [`buffer`]: https://docs.rs/haybox/latest/haybox/persist/struct.Persistence.html#method.buffer
//! [`persist`]: https://docs.rs/haybox/latest/haybox/persist/index.html
//! [`SyncPolicy`]: https://docs.rs/haybox/latest/haybox/persist/enum.SyncPolicy.html

mod batch;
mod builder;
mod crew;
mod delivery;
mod error;
mod flights;
mod kept;
mod keys;
mod line;
mod message;
mod push;
#[allow(clippy::module_inception, reason = "the type of the module's name")]
mod queue;
mod settle;
mod shared;
mod state;
mod stats;
mod task_workers;
mod workers;

pub use builder::{Overflow, PushOptions, QueueBuilder};
pub use crew::WorkersReport;
pub use delivery::Delivery;
pub use error::{PopError, PushError, PushManyError, ReceiptError, RequeueError};
pub use message::{DeadLetter, Receipt};
pub use queue::Queue;
pub use settle::Settle;
pub use stats::QueueStats;
pub use task_workers::TaskWorkers;
pub use workers::Workers;

/// What became of a push that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pushed {
    /// The message is in the queue, under this number.
    Queued(u64),
    /// Its [de-duplication key](PushOptions::dedup_key) counts for a message that was pushed
    /// before, under this number, and it was dropped. The other may have been done by now, or
    /// cancelled: its key counts until its window has ended.
    Duplicate(u64),
}

impl Pushed {
    /// The number of the message that is, or was, in the queue.
    #[must_use]
    pub fn id(self) -> u64 {
        match self {
            Self::Queued(id) | Self::Duplicate(id) => id,
        }
    }

    /// Whether the message was dropped as one that was pushed before.
    #[must_use]
    pub fn is_duplicate(self) -> bool {
        matches!(self, Self::Duplicate(_))
    }
}
