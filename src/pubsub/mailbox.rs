//! The queue of one subscription: where publishers put messages and the subscriber takes them out.
//!
//! One lock for each, and nothing of the user's runs under it: messages are copied before and
//! dropped after, wakers likewise. It is a leaf: who holds it takes no other lock.

use super::Slow;
use super::stats::Tally;
use crate::sync::{SpinGuard, SpinLock};
use crate::time::wake_all;
use crate::wait::Waiters;
use crossbeam_channel::{Receiver, Sender};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

pub(crate) struct Mailbox<M> {
    capacity: usize,
    slow: Slow,
    /// What all subscriptions of the bus have lost.
    losses: Arc<Tally>,
    state: SpinLock<State<M>>,
}

struct State<M> {
    messages: VecDeque<M>,
    /// Lost since the subscription began, and how many of those the subscriber asked for.
    lost: u64,
    lost_told: u64,
    end: Option<End>,
    readers: Waiters,
    writers: Waiters,
    bell: Option<Bell>,
}

/// What crossbeam's `select!` waits for: a channel that has something in it while messages wait.
struct Bell {
    ring: Sender<()>,
    receiver: Receiver<()>,
}

/// Why nothing comes into a mailbox any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    TooSlow,
}

/// What became of a message that was offered to a mailbox.
pub(crate) enum Offer<M> {
    Taken,
    /// Another message, the oldest, was given up for it.
    TakenFor(M),
    Lost(M),
    /// There is no room now, and the publisher is to wait for some.
    Full(M, Duration),
    Closed(M),
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, lost, end) = {
            let state = self.state.lock();
            (state.messages.len(), state.lost, state.end)
        };
        let mut shown = f.debug_struct("Mailbox");
        shown
            .field("waiting", &waiting)
            .field("capacity", &self.capacity)
            .field("slow", &self.slow)
            .field("lost", &lost)
            .field("end", &end)
            .finish()
    }
}

impl<M> State<M> {
    #[inline]
    fn put(&mut self, message: M, woken: &mut Vec<Waker>) {
        self.messages.push_back(message);
        self.ring();
        self.readers.take(woken);
    }

    /// The bell holds one ring. Ringing wakes threads and runs no code of the user's.
    #[inline]
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            let _ = bell.ring.try_send(());
        }
    }

    /// Whether it matters to others that a message is taken.
    #[inline]
    fn is_watched(&self) -> bool {
        self.bell.is_some() || !self.writers.is_empty()
    }

    /// Lets nothing in any more.
    fn end(&mut self, end: End, woken: &mut Vec<Waker>) {
        self.end.get_or_insert(end);
        // Without its sender the bell is heard for ever.
        self.bell = None;
        self.readers.take(woken);
        self.writers.take(woken);
    }
}

impl<M> Mailbox<M> {
    pub(super) fn new(capacity: usize, slow: Slow, losses: Arc<Tally>) -> Self {
        Self {
            capacity,
            slow,
            losses,
            state: SpinLock::new(State {
                messages: VecDeque::new(),
                lost: 0,
                lost_told: 0,
                end: None,
                readers: Waiters::default(),
                writers: Waiters::default(),
                bell: None,
            }),
        }
    }

    /// One whose losses count for no bus.
    pub(crate) fn alone(capacity: usize, slow: Slow) -> Self {
        Self::new(capacity, slow, Arc::default())
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    // ---- the publishers' side ----

    /// Offers a message without waiting. Who is to be woken is added to `woken`.
    #[inline]
    pub(crate) fn offer(&self, message: M, woken: &mut Vec<Waker>) -> Offer<M> {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Offer::Closed(message);
        }
        if state.messages.len() < self.capacity {
            state.put(message, woken);
            return Offer::Taken;
        }
        self.offer_to_full(&mut state, message, woken)
    }

    #[cold]
    fn offer_to_full(&self, state: &mut State<M>, message: M, woken: &mut Vec<Waker>) -> Offer<M> {
        match self.slow {
            Slow::DropOldest => {
                self.lose(state);
                let oldest = state.messages.pop_front();
                state.put(message, woken);
                oldest.map_or(Offer::Taken, Offer::TakenFor)
            }
            Slow::DropNewest => {
                self.lose(state);
                Offer::Lost(message)
            }
            Slow::Block(longest) => Offer::Full(message, longest),
            Slow::Disconnect => {
                self.lose(state);
                state.end(End::TooSlow, woken);
                Offer::Closed(message)
            }
        }
    }

    fn lose(&self, state: &mut State<M>) {
        state.lost += 1;
        self.losses.count();
    }

    /// Puts a message in when there is room; says whether it could. Leaves it where it is when the
    /// mailbox is closed.
    pub(super) fn poll_put(
        &self,
        place: &mut Option<usize>,
        message: &mut Option<M>,
        waker: &Waker,
    ) -> Poll<bool> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Poll::Ready(false);
        }
        if state.messages.len() < self.capacity {
            let mut woken = Vec::new();
            if let Some(message) = message.take() {
                state.put(message, &mut woken);
            }
            drop(state);
            wake_all(woken);
            return Poll::Ready(true);
        }
        let before = state.writers.put(place, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// A publisher stops waiting for room, and has lost its message if it still has it.
    pub(super) fn stop_writing(&self, place: Option<usize>, has_lost: bool) {
        let mut state = self.state.lock();
        if has_lost && state.end.is_none() {
            self.lose(&mut state);
        }
        let waker = place.and_then(|place| state.writers.leave(place));
        drop(state);
        drop(waker);
    }

    /// Ends it for the publishers: the subscriber gets what is waiting, and then the end.
    pub(crate) fn close(&self) {
        let mut woken = Vec::new();
        self.state.lock().end(End::Closed, &mut woken);
        wake_all(woken);
    }

    // ---- the subscriber's side ----

    /// The next message, `None` if there is none now; or why there will be none.
    #[inline]
    pub(super) fn take(&self) -> Result<Option<M>, End> {
        let mut state = self.state.lock();
        let Some(message) = state.messages.pop_front() else {
            return state.end.map_or(Ok(None), Err);
        };
        if state.is_watched() {
            Self::tell(state);
        }
        Ok(Some(message))
    }

    /// Tells who waits for room, and who waits for the bell, that a message was taken.
    #[cold]
    fn tell(mut state: SpinGuard<'_, State<M>>) {
        if !state.messages.is_empty() {
            state.ring();
        }
        let mut woken = Vec::new();
        state.writers.take(&mut woken);
        drop(state);
        wake_all(woken);
    }

    /// Moves at most `most` messages to `into`; how many.
    pub(super) fn take_many(&self, into: &mut Vec<M>, most: usize) -> Result<usize, End> {
        // Room is made before the lock is taken, so that the allocator does not run under it.
        let room = into.capacity() - into.len();
        if room < most {
            into.reserve(most.min(self.len()));
        }
        let room = into.capacity() - into.len();
        let mut state = self.state.lock();
        let count = most.min(room).min(state.messages.len());
        if count == 0 {
            return match state.end {
                Some(end) if state.messages.is_empty() => Err(end),
                _ => Ok(0),
            };
        }
        into.extend(state.messages.drain(..count));
        Self::tell(state);
        Ok(count)
    }

    /// As [`take`](Self::take), and has `waker` woken when there is something.
    pub(super) fn poll_take(
        &self,
        place: &mut Option<usize>,
        waker: &Waker,
    ) -> Poll<Result<M, End>> {
        if let Some(taken) = self.take().transpose() {
            return Poll::Ready(taken);
        }
        let waker = waker.clone();
        let mut state = self.state.lock();
        let is_worth_a_look = !state.messages.is_empty() || state.end.is_some();
        let before = state.readers.put(place, waker);
        drop(state);
        drop(before);
        // What came between the two looks is found by a third: it woke nobody.
        if is_worth_a_look && let Some(taken) = self.take().transpose() {
            return Poll::Ready(taken);
        }
        Poll::Pending
    }

    pub(super) fn stop_reading(&self, place: usize) {
        let mut state = self.state.lock();
        let waker = state.readers.leave(place);
        drop(state);
        drop(waker);
    }

    /// The subscriber goes: what waits is dropped, and publishers stop waiting.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        let mut woken = Vec::new();
        state.end(End::Closed, &mut woken);
        let messages = mem::take(&mut state.messages);
        drop(state);
        wake_all(woken);
        drop(messages);
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().messages.len()
    }

    pub(super) fn lost(&self) -> u64 {
        self.state.lock().lost
    }

    /// What was lost since it was last asked for.
    pub(super) fn take_lost(&self) -> u64 {
        let mut state = self.state.lock();
        let lost = state.lost;
        lost - mem::replace(&mut state.lost_told, lost)
    }

    pub(super) fn bell(&self) -> Receiver<()> {
        let (ring, receiver) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        if state.end.is_some() {
            return receiver;
        }
        if let Some(bell) = &state.bell {
            return bell.receiver.clone();
        }
        let bell = Bell {
            ring,
            receiver: receiver.clone(),
        };
        state.bell = Some(bell);
        if !state.messages.is_empty() {
            state.ring();
        }
        receiver
    }
}
