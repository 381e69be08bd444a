//! A message on its way in.

use super::builder::PushOptions;
use super::error::PushError;
use super::kept::{self, NotSure, Pending};
use super::message::Payload;
use super::shared::{Shared, Waiting, value_of};
use super::state::{After, Refusal, State};
use super::{Overflow, Pushed};
use crate::time::{Deadline, NEVER, after};
use crate::wait::{block, wait};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A message on its way in.
pub(super) struct PushCall<T> {
    /// None once it is in.
    payload: Option<Arc<Payload<T>>>,
    delay: Duration,
    /// With a disk that does not keep up.
    full_wait: kept::FullWait,
    /// The disk has failed meanwhile.
    has_failed: bool,
}

type Attempted = Result<(Pushed, Pending), Refusal>;

/// What comes of an attempt.
enum Answer<T> {
    Is(Result<(Pushed, Pending), PushError<T>>),
    /// Another attempt is worth it when there is room on the way to the disk.
    Needs(kept::Room),
}

/// Pushes a message as a thread.
#[inline]
pub(super) fn push<T: Send + Sync + 'static>(
    shared: &Arc<Shared<T>>,
    mut call: PushCall<T>,
) -> Result<Pushed, PushError<T>> {
    loop {
        let pushed = match call.attempt_now(shared) {
            Some(pushed) => pushed,
            None => push_in_turn(shared, &mut call),
        };
        match call.answer(pushed) {
            Answer::Is(answer) => return acknowledged(answer?),
            Answer::Needs(room) => call.has_failed = !room.wait(),
        }
    }
}

fn push_in_turn<T>(shared: &Arc<Shared<T>>, call: &mut PushCall<T>) -> Attempted
where
    T: Send + Sync + 'static,
{
    let mut waiting = Waiting::new(Arc::clone(shared), |state| &mut state.pushers);
    let until = call.until(shared);
    let pushed = block(&shared.clock, until, |waker| call.look(&mut waiting, waker));
    pushed.unwrap_or(Err(Refusal::Full))
}

/// Pushes a message as a task.
pub(super) async fn push_async<T: Send + Sync + 'static>(
    shared: Arc<Shared<T>>,
    mut call: PushCall<T>,
) -> Result<Pushed, PushError<T>> {
    let mut waiting = Waiting::new(Arc::clone(&shared), |state| &mut state.pushers);
    loop {
        let pushed = match call.attempt_now(&shared) {
            Some(pushed) => pushed,
            None => {
                let until = call.until(&shared);
                let look = |waker: &Waker| call.look(&mut waiting, waker);
                let pushed = wait(&shared.clock, until, look).await;
                pushed.unwrap_or(Err(Refusal::Full))
            }
        };
        match call.answer(pushed) {
            Answer::Is(answer) => return acknowledged_async(answer?).await,
            Answer::Needs(room) => call.has_failed = !room.wait_async().await,
        }
    }
}

/// Waits until a push is as safe as it is to be.
#[inline]
fn acknowledged<T>((pushed, pending): (Pushed, Pending)) -> Result<Pushed, PushError<T>> {
    confirmed(pushed, kept::wait(pending))
}

async fn acknowledged_async<T>(
    (pushed, pending): (Pushed, Pending),
) -> Result<Pushed, PushError<T>> {
    confirmed(pushed, kept::wait_async(pending).await)
}

#[inline]
fn confirmed<T>(pushed: Pushed, waited: Result<(), NotSure>) -> Result<Pushed, PushError<T>> {
    match waited {
        Ok(()) => Ok(pushed),
        Err(error) => Err(PushError::unsure(pushed.id(), error)),
    }
}

impl<T> PushCall<T> {
    #[inline]
    pub(super) fn new(value: T, options: PushOptions) -> Self {
        let payload = Payload {
            value,
            priority: options.priority,
            key: options.key,
        };
        Self {
            payload: Some(Arc::new(payload)),
            delay: options.delay,
            full_wait: kept::FullWait::default(),
            has_failed: false,
        }
    }

    /// The first try; `None` if the queue is full and lets pushes wait.
    #[inline]
    fn attempt_now(&mut self, shared: &Shared<T>) -> Option<Attempted> {
        let due = shared.due_in(self.delay);
        shared.change(|state, now, after| self.attempt(state, due, false, now, after))
    }

    /// `None` while there may be room later.
    #[inline]
    fn attempt(
        &mut self,
        state: &mut State<T>,
        due: Option<Deadline>,
        is_next: bool,
        now: u64,
        after: &mut After<T>,
    ) -> Option<Attempted> {
        let waits = matches!(state.rules.overflow, Overflow::Block(_));
        match state.push(self.payload.take()?, due, is_next, now, after) {
            Ok(pushed) => Some(Ok(pushed)),
            Err((payload, refusal)) => {
                self.payload = Some(payload);
                (!waits || !matches!(refusal, Refusal::Full)).then_some(Err(refusal))
            }
        }
    }

    fn look(&mut self, waiting: &mut Waiting<T>, waker: &Waker) -> Poll<Attempted> {
        let due = waiting.shared().due_in(self.delay);
        let place = waiting.place();
        waiting.look(waker, |state, now, after| {
            // A task may look though nobody has woken it; the room is for those who were.
            let is_next = place.is_some() && !state.pushers.is_asleep(place);
            self.attempt(state, due, is_next, now, after)
        })
    }

    /// Outside the lock, since it may hand out the message.
    #[inline]
    fn answer(&mut self, pushed: Attempted) -> Answer<T> {
        match pushed {
            Ok(pushed) => Answer::Is(Ok(pushed)),
            Err(refusal) => self.refused(refusal),
        }
    }

    fn refused(&mut self, mut refusal: Refusal) -> Answer<T> {
        if let Refusal::NotKept(refusal) = &mut refusal
            && !self.has_failed
            && let Some(room) = self.full_wait.room(refusal)
        {
            return Answer::Needs(room);
        }
        let payload = self.payload.take().expect("the message is not in");
        let value = value_of(payload);
        Answer::Is(Err(match refusal {
            Refusal::Full => PushError::Full(value),
            Refusal::Closed => PushError::Closed(value),
            Refusal::NotKept(error) => PushError::not_kept(value, error),
        }))
    }

    fn until(&self, shared: &Shared<T>) -> Deadline {
        match shared.rules.overflow {
            Overflow::Block(timeout) => after(shared.clock.now(), timeout),
            _ => NEVER,
        }
    }
}
