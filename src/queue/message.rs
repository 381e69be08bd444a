//! What is in a queue.

use crate::time::Deadline;
use std::fmt;
use std::sync::Arc;

/// What does not change about a message. Deliveries share it with the queue.
#[derive(Debug)]
pub(super) struct Payload<T> {
    pub(super) value: T,
    pub(super) priority: i8,
    pub(super) key: Option<Arc<str>>,
}

/// A message, wherever in the queue it is.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) id: u64,
    /// Since when, or from when on, it is to be handed out: its place in the line.
    pub(super) due: Deadline,
    /// Its place among those that are due at the same time: as it came in, or came back from the
    /// dead.
    pub(super) order: u64,
    /// How often it was handed out.
    pub(super) attempts: u32,
    /// Why the last attempt failed, if that was told.
    pub(super) error: Option<Box<str>>,
    pub(super) payload: Arc<Payload<T>>,
}

/// Names one delivery of one message of one queue. From
/// [`Delivery::into_receipt`](super::Delivery::into_receipt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Another queue, also one of another process, does not take it for its own.
    pub(super) queue: u64,
    pub(super) number: u64,
    pub(super) id: u64,
}

impl Receipt {
    /// The number of the message, as [`push`](super::Queue::push) returned it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// A message that has failed as often as it may. From
/// [`Queue::dead_letters`](super::Queue::dead_letters).
///
/// It derefs to the value. A look at it: the message stays where it is until it is requeued or
/// purged.
pub struct DeadLetter<T> {
    pub(super) id: u64,
    pub(super) attempts: u32,
    pub(super) error: Option<Box<str>>,
    pub(super) payload: Arc<Payload<T>>,
}

impl<T> DeadLetter<T> {
    /// The number of the message, as [`push`](super::Queue::push) returned it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How often it was handed out.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What was told about the last attempt that failed: the argument of
    /// [`fail`](super::Delivery::fail) or [`bury`](super::Delivery::bury), or that it took too
    /// long. `None` if it was just given back.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

/// O(1), also for a value that is not `Clone`.
impl<T> Clone for DeadLetter<T> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            attempts: self.attempts,
            error: self.error.clone(),
            payload: Arc::clone(&self.payload),
        }
    }
}

impl<T> std::ops::Deref for DeadLetter<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload.value
    }
}

impl<T> fmt::Debug for DeadLetter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("attempts", &self.attempts)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
impl<T> Entry<T> {
    /// A message that is due since the beginning and was never handed out.
    pub(super) fn of(id: u64, value: T) -> Self {
        let payload = Payload {
            value,
            priority: 0,
            key: None,
        };
        Self {
            id,
            due: 0,
            order: id,
            attempts: 0,
            error: None,
            payload: Arc::new(payload),
        }
    }
}
