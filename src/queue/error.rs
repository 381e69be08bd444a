//! Why a call came to nothing.

use super::kept::{NotKept, NotSure};
#[cfg(feature = "persist")]
use crate::persist::{CommitError, WriteError};
use std::fmt;

/// Why a message was not taken in, and the message with it; or, of a queue that is
/// [kept](crate::queue#surviving-a-restart), that it was taken in and may not survive a restart.
///
/// Not each of these means that the message is not in the queue: after `Unsure` it is, and who
/// pushes it again has it done twice. [`into_inner`](Self::into_inner) gives back what may be
/// pushed again, and nothing after `Unsure`.
#[derive(Clone)]
#[non_exhaustive]
pub enum PushError<T> {
    /// The queue was full, and stayed so for as long as it lets a push wait.
    Full(T),
    /// The queue was closed, or all its handles dropped.
    Closed(T),
    /// The message could not be written down, and is not in the queue: also where the disk was so
    /// slow that there was no room for it after 5 s.
    #[cfg(feature = "persist")]
    NotKept(T, WriteError),
    /// The message *is* in the queue, under this number, and will be handed out, but it is not
    /// known whether it would survive a restart: the disk fails. Not to be pushed again. The same
    /// of the message that a push was found to be a duplicate of.
    #[cfg(feature = "persist")]
    Unsure(u64, CommitError),
}

impl<T> PushError<T> {
    /// The message; `None` if it is in the queue after all.
    #[must_use = "the message is dropped"]
    pub fn into_inner(self) -> Option<T> {
        match self {
            Self::Full(value) | Self::Closed(value) => Some(value),
            #[cfg(feature = "persist")]
            Self::NotKept(value, _) => Some(value),
            #[cfg(feature = "persist")]
            Self::Unsure(..) => None,
        }
    }

    /// The number of the message, if it is in the queue after all.
    pub(super) fn taken_in(&self) -> Option<u64> {
        match self {
            #[cfg(feature = "persist")]
            Self::Unsure(id, _) => Some(*id),
            _ => None,
        }
    }

    pub(super) fn not_kept(value: T, error: NotKept) -> Self {
        #[cfg(feature = "persist")]
        return Self::NotKept(value, error.error);
        #[cfg(not(feature = "persist"))]
        match (value, error) {}
    }

    pub(super) fn unsure(id: u64, error: NotSure) -> Self {
        #[cfg(feature = "persist")]
        return Self::Unsure(id, error);
        #[cfg(not(feature = "persist"))]
        match (id, error) {}
    }

    /// Whether there was no room: worth another try later, unlike a queue that is closed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// Without the message, which need not be `Debug`.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            #[cfg(feature = "persist")]
            Self::NotKept(_, error) => write!(f, "NotKept(.., {error:?})"),
            #[cfg(feature = "persist")]
            Self::Unsure(id, error) => write!(f, "Unsure({id}, {error:?})"),
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the queue is full"),
            Self::Closed(_) => f.write_str("the queue is closed"),
            #[cfg(feature = "persist")]
            Self::NotKept(_, error) => write!(f, "the message could not be kept: {error}"),
            #[cfg(feature = "persist")]
            Self::Unsure(id, error) => write!(f, "message {id} is in the queue, but {error}"),
        }
    }
}

impl<T> std::error::Error for PushError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(_) | Self::Closed(_) => None,
            #[cfg(feature = "persist")]
            Self::NotKept(_, error) => error.source(),
            #[cfg(feature = "persist")]
            Self::Unsure(_, error) => error.source(),
        }
    }
}

/// Why a [`push_many`](super::Queue::push_many) did not take all of its messages in.
#[derive(Clone)]
#[non_exhaustive]
pub struct PushManyError<T> {
    /// The numbers of those that are in the queue, in the order in which they were given: the first
    /// ones.
    pub pushed: Vec<u64>,
    /// What ended it, with the message that was refused. With `PushError::Unsure` it is none of
    /// those that are left: it is not known whether those that are in the queue would survive a
    /// restart.
    pub error: PushError<T>,
    /// The messages behind it, which are not in the queue.
    pub left: Vec<T>,
}

impl<T> PushManyError<T> {
    /// The messages that are not in the queue, in the order in which they were given: what may be
    /// pushed again.
    #[must_use = "the messages are dropped"]
    pub fn into_inner(self) -> Vec<T> {
        self.error
            .into_inner()
            .into_iter()
            .chain(self.left)
            .collect()
    }
}

/// Without the messages, which need not be `Debug`.
impl<T> fmt::Debug for PushManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushManyError")
            .field("pushed", &self.pushed)
            .field("error", &self.error)
            .field("left", &self.left.len())
            .finish()
    }
}

impl<T> fmt::Display for PushManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pushed = self.pushed.len();
        write!(f, "after {pushed} messages: {}", self.error)
    }
}

impl<T> std::error::Error for PushManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PopError {
    /// None is ready, or none became ready in time.
    Empty,
    /// The queue was closed, or all its handles dropped, and none is ready.
    Closed,
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no message is ready",
            Self::Closed => "the queue is closed and no message is ready",
        })
    }
}

impl std::error::Error for PopError {}

/// Why a delivery could not be settled or extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The delivery is over: its time had passed, or it was settled before. The message may have
    /// been handed out again since.
    Stale {
        /// The number of the message.
        id: u64,
    },
    /// The receipt is not from this queue.
    Unknown,
}

impl fmt::Display for ReceiptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { id } => write!(
                f,
                "the delivery of message {id} is over: its time had passed, or it was settled before"
            ),
            Self::Unknown => f.write_str("the receipt is not from this queue"),
        }
    }
}

impl std::error::Error for ReceiptError {}

/// Why a dead letter stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequeueError {
    /// There is no dead letter with this number.
    NotDead,
    /// The queue is full.
    Full,
    /// The queue is closed.
    Closed,
}

impl fmt::Display for RequeueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotDead => "there is no dead letter with this number",
            Self::Full => "the queue is full",
            Self::Closed => "the queue is closed",
        })
    }
}

impl std::error::Error for RequeueError {}
