//! What a handler has made of a message.

use std::fmt;
use std::time::Duration;

/// How a handler of [`Workers`](super::Workers) or [`TaskWorkers`](super::TaskWorkers) ends a delivery,
/// where `Ok` and `Err` do not say it: by the calls of [`Delivery`](super::Delivery) that have these
/// names. A `Result` becomes one, `Ok` an [`Ack`](Self::Ack), and an error a [`Fail`](Self::Fail) with its
/// text.
///
/// ```
/// use haybox::queue::{Queue, Settle, Workers};
/// use std::time::Duration;
///
/// let queue = Queue::new(1000)?;
/// let workers = Workers::start(&queue, 2, |job: &haybox::queue::Delivery<&str>| match **job {
///     "{" => Settle::Bury("does not parse".into()),
///     "of a customer over the limit" => Settle::ReleaseAfter(Duration::from_secs(30)),
///     _ => Settle::Ack,
/// })?;
/// queue.push_many(vec!["a job", "{", "of a customer over the limit"])?;
/// while workers.report().done + workers.report().buried + workers.report().released < 3 {
///     std::thread::yield_now();
/// }
/// assert_eq!((queue.stats().dead, queue.stats().delayed), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settle {
    /// The work is done.
    Ack,
    /// It is tried again after the backoff of the queue; the text says why.
    Fail(String),
    /// It is tried again after this time.
    FailAfter(String, Duration),
    /// It is not tried again.
    Bury(String),
    /// Nothing was done, and the attempt does not count, so [`attempt`](super::Delivery::attempt) says
    /// the same next time. At least a millisecond, so that nobody turns in circles with it. Workers of
    /// a closed queue go on as long as there is something to come.
    ReleaseAfter(Duration),
}

impl<E: fmt::Display> From<Result<(), E>> for Settle {
    fn from(done: Result<(), E>) -> Self {
        match done {
            Ok(()) => Self::Ack,
            Err(error) => Self::Fail(error.to_string()),
        }
    }
}
