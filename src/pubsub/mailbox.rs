//! The queue of one subscription: where publishers put messages and the subscriber takes them out.
//!
//! One lock for each, and nothing of the user's runs under it: messages are copied before and
//! dropped after, wakers likewise. It is a leaf: who holds it takes no other lock.
//!
//! Publishers that wait for room get it in the order in which they came: as many are awake as there
//! are places, and who comes anew takes none of those. Of the readers as many are awake as there
//! are messages; one who comes anew may be quicker, and who finds nothing then keeps its turn.

use super::Slow;
use super::stats::Tally;
use crate::contain::contain;
use crate::sync::{SpinGuard, SpinLock};
use crate::time::wake_all;
use crate::turns::Turns;
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
    /// How many messages there may be where who has not waited puts another in: the capacity less
    /// those who wait for room.
    open_to: usize,
    /// Lost since the subscription began, and how many of those the subscriber asked for.
    lost: u64,
    lost_told: u64,
    end: Option<End>,
    readers: Turns,
    /// Those of `readers` that need not look though they are woken.
    idlers: usize,
    writers: Turns,
    bell: Option<Bell>,
}

/// One who reads a mailbox, and its place among those who wait for a message.
#[derive(Debug)]
pub(super) struct Reader {
    place: Option<u64>,
    /// Whether it need not look though it is woken, as nobody holds a future of it. Then another
    /// one is woken for the same message.
    is_idler: bool,
}

impl Reader {
    /// Who waits for a message and either looks when it is woken or goes.
    pub(super) const fn waiting() -> Self {
        Self {
            place: None,
            is_idler: false,
        }
    }

    /// Who polls now and then.
    pub(super) const fn polling() -> Self {
        Self {
            place: None,
            is_idler: true,
        }
    }
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
        if self.readers.is_anybody_asleep() {
            self.rouse_readers(woken);
        }
    }

    /// Afterwards as many readers are awake as there are messages, those not counted that need not
    /// look. Whatever puts a message in, or takes out a reader, ends with this.
    #[cold]
    fn rouse_readers(&mut self, woken: &mut Vec<Waker>) {
        if !self.messages.is_empty() {
            self.readers.wake(self.messages.len() + self.idlers, woken);
        }
    }

    /// Afterwards `capacity` less the messages are awake of those who wait for room. Whatever makes
    /// room, or changes who waits for it, ends with this.
    fn rouse_writers(&mut self, capacity: usize, woken: &mut Vec<Waker>) {
        let room = capacity.saturating_sub(self.messages.len());
        self.writers.wake(room, woken);
        self.open_to = capacity.saturating_sub(self.writers.len());
    }

    /// Has `waker` woken when it is the turn of a reader. The waker that was there before is for
    /// the caller to drop.
    fn wait_to_read(&mut self, reader: &mut Reader, waker: Waker) -> Option<Waker> {
        self.idlers += usize::from(reader.is_idler && reader.place.is_none());
        self.readers.wait(&mut reader.place, waker)
    }

    /// Gives the place of a reader back. Who was woken for a message that it leaves makes room for
    /// the next one.
    fn leave_readers(&mut self, reader: &mut Reader, woken: &mut Vec<Waker>) -> Option<Waker> {
        self.idlers -= usize::from(reader.is_idler && reader.place.is_some());
        let unused = self.readers.leave(&mut reader.place);
        self.rouse_readers(woken);
        unused
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
        self.bell.is_some() || self.writers.is_anybody_asleep()
    }

    /// Lets nothing in any more.
    fn end(&mut self, end: End, woken: &mut Vec<Waker>) {
        self.end.get_or_insert(end);
        // Without its sender the bell is heard for ever.
        self.bell = None;
        self.readers.wake_all(woken);
        self.writers.wake_all(woken);
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
                open_to: capacity,
                lost: 0,
                lost_told: 0,
                end: None,
                readers: Turns::default(),
                idlers: 0,
                writers: Turns::default(),
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
        if state.messages.len() < state.open_to {
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

    /// Puts a message in when it is its turn and there is room; says whether it could. Leaves it
    /// where it is when the mailbox is closed.
    pub(super) fn poll_put(
        &self,
        place: &mut Option<u64>,
        message: &mut Option<M>,
        waker: &Waker,
    ) -> Poll<bool> {
        // Of the user's executor: cloned before the lock is taken, and dropped after it.
        let (mut own, mut woken) = (Some(waker.clone()), Vec::new());
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Poll::Ready(false);
        }
        let most = match place {
            // The places that there are belong to those who were woken before.
            Some(_) if state.writers.is_asleep(*place) => 0,
            Some(_) => self.capacity,
            None => state.open_to,
        };
        let has_room = state.messages.len() < most;
        let before = if has_room {
            if let Some(message) = message.take() {
                state.put(message, &mut woken);
            }
            state.writers.leave(place)
        } else {
            own.take().and_then(|own| state.writers.wait(place, own))
        };
        state.rouse_writers(self.capacity, &mut woken);
        drop(state);
        let _ = contain(|| drop([before, own]));
        wake_all(woken);
        if has_room {
            Poll::Ready(true)
        } else {
            Poll::Pending
        }
    }

    /// A publisher stops waiting for room, and has lost its message if it still has it. If it was
    /// its turn, it is the next one's now.
    pub(super) fn stop_writing(&self, place: &mut Option<u64>, has_lost: bool) {
        if place.is_none() && !has_lost {
            return;
        }
        let mut woken = Vec::new();
        let mut state = self.state.lock();
        if has_lost && state.end.is_none() {
            self.lose(&mut state);
        }
        let unused = state.writers.leave(place);
        state.rouse_writers(self.capacity, &mut woken);
        drop(state);
        wake_all(woken);
        drop(unused);
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
            self.tell(state);
        }
        Ok(Some(message))
    }

    /// Tells who waits for room, and who waits for the bell, that a message was taken.
    #[cold]
    fn tell(&self, mut state: SpinGuard<'_, State<M>>) {
        if !state.messages.is_empty() {
            state.ring();
        }
        let mut woken = Vec::new();
        state.rouse_writers(self.capacity, &mut woken);
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
        self.tell(state);
        Ok(count)
    }

    /// As [`take`](Self::take), and has `waker` woken when there is something.
    pub(super) fn poll_take(&self, reader: &mut Reader, waker: &Waker) -> Poll<Result<M, End>> {
        if let Some(taken) = self.take_in_turn(reader).transpose() {
            return Poll::Ready(taken);
        }
        let waker = waker.clone();
        let mut state = self.state.lock();
        let is_worth_a_look = !state.messages.is_empty() || state.end.is_some();
        let before = state.wait_to_read(reader, waker);
        drop(state);
        drop(before);
        // What came between the two looks is found by a third: it woke nobody.
        if is_worth_a_look && let Some(taken) = self.take_in_turn(reader).transpose() {
            return Poll::Ready(taken);
        }
        Poll::Pending
    }

    /// As [`take`](Self::take), and ends the wait if there is something.
    fn take_in_turn(&self, reader: &mut Reader) -> Result<Option<M>, End> {
        let taken = self.take();
        if !matches!(taken, Ok(None)) {
            // What was taken is not with the caller yet.
            let _ = contain(|| self.stop_reading(reader));
        }
        taken
    }

    /// A reader waits no longer. If it was its turn, it is the next one's now.
    pub(super) fn stop_reading(&self, reader: &mut Reader) {
        if reader.place.is_none() {
            return;
        }
        let mut woken = Vec::new();
        let mut state = self.state.lock();
        let unused = state.leave_readers(reader, &mut woken);
        drop(state);
        wake_all(woken);
        drop(unused);
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
