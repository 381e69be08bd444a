//! Several messages on their way in together.

use super::error::{PushError, PushManyError};
use super::kept::{NotSure, Pending};
use super::message::Payload;
use super::shared::{Shared, value_of};
use super::state::{After, State};
use std::collections::VecDeque;
use std::sync::Arc;

/// So many go in before others have the lock in between.
const AT_ONCE: usize = 100;

pub(super) struct Batch<T> {
    left: VecDeque<Arc<Payload<T>>>,
    /// The numbers of those that are in.
    pushed: Vec<u64>,
    /// What is to be waited for until the last of them is safe, and so all are: the log is written
    /// in order.
    pending: Pending,
}

impl<T> Batch<T> {
    pub(super) fn new(values: Vec<T>) -> Self {
        let pushed = Vec::with_capacity(values.len());
        let payload = |value| {
            Arc::new(Payload {
                value,
                priority: 0,
                key: None,
            })
        };
        Self {
            left: values.into_iter().map(payload).collect(),
            pushed,
            pending: Pending::default(),
        }
    }

    /// Pushes them until one is refused. That is for the caller to push by itself, which may wait;
    /// there may be more behind it.
    pub(super) fn push(&mut self, shared: &Shared<T>) -> Option<T> {
        while !self.left.is_empty() {
            let refused = shared.change(|state, now, after| self.push_some(state, now, after));
            if let Some(payload) = refused {
                return Some(value_of(payload));
            }
        }
        None
    }

    /// The first that is refused, if one is.
    fn push_some(
        &mut self,
        state: &mut State<T>,
        now: u64,
        after: &mut After<T>,
    ) -> Option<Arc<Payload<T>>> {
        for _ in 0..AT_ONCE {
            match state.push(self.left.pop_front()?, None, false, now, after) {
                Ok((pushed, pending)) => {
                    self.pushed.push(pushed.id());
                    self.pending = pending;
                }
                Err((payload, _)) => return Some(payload),
            }
        }
        None
    }

    /// One was pushed by itself.
    pub(super) fn note(&mut self, id: u64) {
        self.pushed.push(id);
    }

    /// What is to be waited for before the call is answered.
    pub(super) fn pending(&mut self) -> Pending {
        std::mem::take(&mut self.pending)
    }

    /// What comes of the call, from what has ended it too early and what its wait came to.
    pub(super) fn answer(
        mut self,
        refusal: Option<PushError<T>>,
        waited: Result<(), NotSure>,
    ) -> Result<Vec<u64>, PushManyError<T>> {
        let unsure = refusal.as_ref().and_then(PushError::taken_in);
        self.pushed.extend(unsure);
        let mut left: Vec<T> = Vec::new();
        let error = match (waited, refusal) {
            (Ok(()), None) => return Ok(self.pushed),
            (Ok(()), Some(refusal)) => refusal,
            (Err(error), refusal) => {
                left.extend(refusal.and_then(PushError::into_inner));
                let last = self.pushed.last().copied().unwrap_or(0);
                PushError::unsure(last, error)
            }
        };
        left.extend(self.left.into_iter().map(value_of));
        Err(PushManyError {
            pushed: self.pushed,
            error,
            left,
        })
    }
}
