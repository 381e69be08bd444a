//! A message in the hands of somebody who works on it.

use super::error::ReceiptError;
use super::message::{Payload, Receipt};
use super::shared::Shared;
use super::state::{Failure, Taken, stale};
use crate::time::{after, left};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A message that was handed out and is to be settled: by [`ack`](Self::ack) when the work is done,
/// by [`nack`](Self::nack) or [`fail`](Self::fail) when it is to be tried again.
///
/// It derefs to the value. Dropping it is a `nack`, so a worker that panics or forgets gives the
/// message back, to be tried again after the [backoff](super::QueueBuilder::backoff). Nobody else
/// gets the message until its visibility time-out has passed; what is settled after that is an
/// error, and does no harm to whoever has it then. The value itself is shared with later
/// deliveries, so a worker that comes too late still holds a valid one.
///
/// Keep it until the work is done: `let job = queue.pop()?;`. What `queue.pop()?.field` reads is
/// given back at the end of that statement, without a word of the compiler's.
///
/// A delivery stays valid when the queue is closed.
#[must_use = "a delivery that is dropped is given back to the queue"]
pub struct Delivery<T> {
    queue: Arc<Shared<T>>,
    payload: Arc<Payload<T>>,
    id: u64,
    flight: u64,
    attempt: u32,
    is_settled: bool,
}

impl<T> std::ops::Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload.value
    }
}

impl<T> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl<T> Delivery<T> {
    #[inline]
    pub(super) fn new(queue: Arc<Shared<T>>, taken: Taken<T>) -> Self {
        Self {
            queue,
            payload: taken.payload,
            id: taken.id,
            flight: taken.flight,
            attempt: taken.attempts,
            is_settled: false,
        }
    }

    /// The number of the message, as [`push`](super::Queue::push) returned it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The priority that it was pushed with.
    #[must_use]
    pub fn priority(&self) -> i8 {
        self.payload.priority
    }

    /// How long nobody else gets the message if nothing is done; zero when the delivery is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let end = self.queue.change(|state, _, _| state.end_of(self.flight));
        end.map_or(Duration::ZERO, |end| {
            left(end, self.queue.clock.now()).unwrap_or(Duration::MAX)
        })
    }

    /// The work is done: the message leaves the queue.
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed: somebody else may have done the work too, or
    /// be at it.
    #[inline]
    pub fn ack(self) -> Result<(), ReceiptError> {
        self.settle(End::Done)
    }

    /// The message is to be tried again, after the [backoff](super::QueueBuilder::backoff) of the
    /// queue; without one it keeps its place in the line. After the last attempt it becomes a dead
    /// letter.
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn nack(self) -> Result<(), ReceiptError> {
        self.settle(End::Again(None, None))
    }

    /// The message is to be tried again after this time; with zero it keeps its place in the line.
    /// After the last attempt it becomes a dead letter.
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn nack_after(self, delay: Duration) -> Result<(), ReceiptError> {
        self.settle(End::Again(Some(delay), None))
    }

    /// As [`nack`](Self::nack), and says why: a [dead letter](super::DeadLetter::error) remembers
    /// what was said of its last attempt.
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn fail(self, error: impl fmt::Display) -> Result<(), ReceiptError> {
        self.settle(End::Again(None, Some(error.to_string())))
    }

    /// As [`fail`](Self::fail), to be tried again after this time, as by
    /// [`nack_after`](Self::nack_after).
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn fail_after(self, error: impl fmt::Display, delay: Duration) -> Result<(), ReceiptError> {
        self.settle(End::Again(Some(delay), Some(error.to_string())))
    }

    /// Nothing was done: the message is as it was before it was handed out. It keeps its place in
    /// the line, waits for no backoff, and this attempt does not count. For a worker that is told to
    /// stop before it has begun, or that cannot do anything with a message on its own.
    ///
    /// Whoever pops next gets it again, so pop no more, or wait for something else to happen first.
    /// [`release_after`](Self::release_after) is for what has to wait.
    ///
    /// ```
    /// use haybox::queue::Queue;
    ///
    /// let players = Queue::new(100)?;
    /// players.push("ada")?;
    /// let lonely = players.pop()?;
    /// assert!(players.try_pop().is_err(), "nobody to play with");
    /// lonely.release()?;
    /// assert_eq!(players.pop()?.attempt(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn release(self) -> Result<(), ReceiptError> {
        self.release_after(Duration::ZERO)
    }

    /// As [`release`](Self::release), and nobody gets the message before this time has passed;
    /// others go first. For work that may not be done yet, such as that of a customer whose rate
    /// limit is used up: however often it has to wait, it does not become a dead letter.
    ///
    /// ```
    /// use haybox::limit::{Limiter, Quota};
    /// use haybox::queue::Queue;
    ///
    /// let (jobs, limits) = (Queue::new(100)?, Limiter::new(Quota::per_minute(1))?);
    /// for customer in ["ada", "ada", "bob"] {
    ///     jobs.push(customer)?;
    /// }
    /// let mut done = Vec::new();
    /// while let Ok(job) = jobs.try_pop() {
    ///     match limits.check(&*job).retry_after() {
    ///         Some(wait) => job.release_after(wait)?,
    ///         None => {
    ///             done.push(*job);
    ///             job.ack()?;
    ///         }
    ///     }
    /// }
    /// assert_eq!((done, jobs.stats().delayed), (vec!["ada", "bob"], 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn release_after(self, delay: Duration) -> Result<(), ReceiptError> {
        self.settle(End::Untouched(delay))
    }

    /// The message is not to be tried again, whatever attempts it has left: it becomes a dead
    /// letter. For what cannot succeed, such as a message that does not parse.
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed.
    pub fn bury(self, error: impl fmt::Display) -> Result<(), ReceiptError> {
        self.settle(End::Never(error.to_string()))
    }

    /// Keeps the message from others for this time from now on: a heartbeat of work that takes
    /// long. It never makes the time shorter.
    ///
    /// ```
    /// use haybox::{MockClock, queue::Queue};
    /// use std::time::Duration;
    ///
    /// let (time, minute) = (MockClock::new(), Duration::from_secs(60));
    /// let builder = Queue::builder(100).visibility_timeout(minute);
    /// let queue = builder.clock(time.clock()).build()?;
    /// queue.push("a long film")?;
    /// let film = queue.try_pop()?;
    /// for _part in 0..10 {
    ///     time.advance(Duration::from_secs(50)); // The work on a part.
    ///     film.extend(minute)?;
    /// }
    /// film.ack()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed. Then stop: somebody else may be at it.
    pub fn extend(&self, time: Duration) -> Result<(), ReceiptError> {
        extend(&self.queue, self.flight, self.id, time)
    }

    /// Lets go of the message without settling it: that is done later, or elsewhere, by its
    /// receipt ([`Queue::ack`](super::Queue::ack) and its relatives). From now on it is kept from
    /// others for the [visibility time-out](super::QueueBuilder::visibility_timeout) if the queue
    /// has a watchdog, and otherwise for as long as before.
    ///
    /// ```
    /// use haybox::queue::Queue;
    ///
    /// let queue = Queue::new(100)?;
    /// queue.push("parcel")?;
    /// let receipt = queue.pop()?.into_receipt(); // It goes along to a remote service …
    /// queue.ack(receipt)?; // … and comes back with its answer.
    /// assert!(queue.ack(receipt).is_err(), "it is done already");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_receipt(mut self) -> Receipt {
        self.is_settled = true;
        self.queue.change(|state, now, _| {
            if let Some(visibility) = self.queue.rules.visibility_without_watchdog() {
                state.extend(self.flight, after(now, visibility), true);
            }
        });
        Receipt {
            queue: self.queue.tag,
            number: self.flight,
            id: self.id,
        }
    }

    #[inline]
    fn settle(mut self, end: End) -> Result<(), ReceiptError> {
        self.is_settled = true;
        settle(&self.queue, self.flight, self.id, end)
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        if !self.is_settled && !self.queue.is_off_limits() {
            let _ = settle(&self.queue, self.flight, self.id, End::Again(None, None));
        }
    }
}

/// How a delivery ends.
pub(super) enum End {
    /// The work is done.
    Done,
    /// It has failed, and is tried again after this time, or the backoff of the queue.
    Again(Option<Duration>, Option<String>),
    /// It has failed, and is not tried again.
    Never(String),
    /// Nothing was done, and nothing is for this time.
    Untouched(Duration),
}

#[inline]
pub(super) fn settle<T>(
    queue: &Shared<T>,
    flight: u64,
    id: u64,
    end: End,
) -> Result<(), ReceiptError> {
    let fail = |failure, error: Option<String>| {
        let error = error.map(String::into_boxed_str);
        queue.change(|state, now, after| state.fail(flight, failure, error, now, after))
    };
    let was_held = match end {
        End::Done => {
            let done = queue.change(|state, now, _| state.ack(flight, now));
            done.is_some()
        }
        End::Again(None, error) => fail(Failure::Retry, error),
        End::Again(Some(delay), error) => fail(Failure::RetryAt(queue.due_in(delay)), error),
        End::Never(error) => fail(Failure::Bury, Some(error)),
        End::Untouched(delay) => {
            let due = queue.due_in(delay);
            queue.change(|state, now, _| state.release(flight, due, now))
        }
    };
    was_held.then_some(()).ok_or(stale(id))
}

pub(super) fn extend<T>(
    queue: &Shared<T>,
    flight: u64,
    id: u64,
    time: Duration,
) -> Result<(), ReceiptError> {
    let until = after(queue.clock.now(), time);
    let is_held = queue.change(|state, _, _| state.extend(flight, until, false));
    is_held.then_some(()).ok_or(stale(id))
}
