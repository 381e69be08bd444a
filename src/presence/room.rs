//! The rooms behind one lock.
//!
//! Each member has a seat, and one note in a heap that says when to look at it next. A heartbeat
//! only changes a number in the seat; when the note is due and the seat has been heard of since, the
//! note goes back into the heap for the time that is right now.

use super::{Change, PresenceEvent, Sign, Status, Times};
use crate::DefaultHashBuilder;
use crate::pubsub::{Left, TopicState};
use crate::time::{Deadline, NEVER, after};
use std::borrow::Borrow;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How much of what is due is done before others get the lock.
const BATCH: usize = 256;

pub(super) struct Rooms<R, M> {
    times: Times,
    hasher: DefaultHashBuilder,
    rooms: HashMap<R, Room<R, M>, DefaultHashBuilder>,
    notes: BinaryHeap<Note<R, M>>,
    /// Notes whose seats are empty.
    empty: usize,
}

struct Room<R, M> {
    name: Arc<R>,
    seats: HashMap<M, Arc<Seat<R, M>>, DefaultHashBuilder>,
}

/// A member in a room. It is changed under the lock of the rooms alone, which orders what the
/// atomics do not.
struct Seat<R, M> {
    room: Arc<R>,
    member: Arc<M>,
    heard: AtomicU64,
    acted: AtomicU64,
    is_idle: AtomicBool,
    is_empty: AtomicBool,
}

/// When to look at a seat.
struct Note<R, M> {
    due: Deadline,
    seat: Arc<Seat<R, M>>,
}

impl<R, M> PartialEq for Note<R, M> {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl<R, M> Eq for Note<R, M> {}
impl<R, M> PartialOrd for Note<R, M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<R, M> Ord for Note<R, M> {
    /// The first one due is the greatest, since a heap has that on top.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

/// What a call leaves to be done when the lock is released: readers to wake, names to drop.
pub(super) struct Told<'p, R, M> {
    events: &'p TopicState<PresenceEvent<R, M>>,
    /// Mostly nothing.
    what: Option<Box<Leftovers<R, M>>>,
}

struct Leftovers<R, M> {
    left: Left<PresenceEvent<R, M>>,
    rooms: Vec<(R, Room<R, M>)>,
    room_names: Vec<R>,
    members: Vec<M>,
    seats: Vec<Arc<Seat<R, M>>>,
}

impl<R, M> Default for Leftovers<R, M> {
    fn default() -> Self {
        Self {
            left: Left::default(),
            rooms: Vec::new(),
            room_names: Vec::new(),
            members: Vec::new(),
            seats: Vec::new(),
        }
    }
}

impl<'p, R, M> Told<'p, R, M> {
    pub(super) fn new(events: &'p TopicState<PresenceEvent<R, M>>) -> Self {
        Self { events, what: None }
    }

    fn what(&mut self) -> &mut Leftovers<R, M> {
        self.what.get_or_insert_default()
    }
}

impl<R: Send + Sync + 'static, M: Send + Sync + 'static> Told<'_, R, M> {
    fn tell(&mut self, seat: &Seat<R, M>, change: Change) {
        let event = PresenceEvent {
            room: Arc::clone(&seat.room),
            member: Arc::clone(&seat.member),
            change,
        };
        let events = self.events;
        events.publish_later(event, &mut self.what().left);
    }
}

impl<R, M> Seat<R, M> {
    /// When its member is gone, or idle, should nothing be heard of it.
    fn next_look(&self, times: Times) -> Deadline {
        self.gone(times).min(self.turns_idle(times))
    }

    fn gone(&self, times: Times) -> Deadline {
        after(self.heard.load(Relaxed), times.timeout)
    }

    fn turns_idle(&self, times: Times) -> Deadline {
        match times.idle_after {
            Some(idle_after) if !self.is_idle.load(Relaxed) => {
                after(self.acted.load(Relaxed), idle_after)
            }
            _ => NEVER,
        }
    }
}

impl<R, M> Rooms<R, M> {
    pub(super) fn new(times: Times, hasher: &DefaultHashBuilder) -> Self {
        Self {
            times,
            hasher: hasher.clone(),
            rooms: HashMap::with_hasher(hasher.clone()),
            notes: BinaryHeap::new(),
            empty: 0,
        }
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.notes.peek().is_some_and(|note| note.due <= now)
    }

    /// Keeps the heap from growing where members come and go more often than they time out.
    fn forget_empty(&mut self, told: &mut Told<'_, R, M>) {
        self.empty += 1;
        if self.empty <= 64 || self.empty <= self.notes.len() / 2 {
            return;
        }
        let notes = mem::take(&mut self.notes).into_vec();
        let (empty, taken) = notes
            .into_iter()
            .partition::<Vec<_>, _>(|note| note.seat.is_empty.load(Relaxed));
        told.what()
            .seats
            .extend(empty.into_iter().map(|note| note.seat));
        self.notes = BinaryHeap::from(taken);
        self.empty = 0;
    }
}

impl<R, M> Rooms<R, M>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
{
    /// Has everything happen that time has brought until now, in its order.
    pub(super) fn settle(&mut self, now: u64, told: &mut Told<'_, R, M>) {
        while self.settle_next(now, told) {}
    }

    /// The same of a batch; whether there is more.
    pub(super) fn settle_some(&mut self, now: u64, told: &mut Told<'_, R, M>) -> bool {
        (0..BATCH).all(|_| self.settle_next(now, told))
    }

    /// Has the next of it happen; whether there was any.
    fn settle_next(&mut self, now: u64, told: &mut Told<'_, R, M>) -> bool {
        let Some(note) = self.notes.peek().filter(|note| note.due <= now) else {
            return false;
        };
        let (due, seat) = (note.due, Arc::clone(&note.seat));
        if seat.is_empty.load(Relaxed) {
            self.empty = self.empty.saturating_sub(1);
            told.what()
                .seats
                .extend(self.notes.pop().map(|note| note.seat));
            return true;
        }
        let (gone, idle) = (seat.gone(self.times), seat.turns_idle(self.times));
        if gone <= due && gone <= idle {
            // Its note stays as that of an empty seat. Should `Hash` or `Eq` panic, it is still
            // that of a member that has to go.
            self.leave(&*seat.room, &*seat.member, Change::TimedOut, told);
            seat.is_empty.store(true, Relaxed);
            return true;
        }
        self.notes.pop();
        if idle <= due {
            seat.is_idle.store(true, Relaxed);
            told.tell(&seat, Change::Idle);
        }
        let due = seat.next_look(self.times);
        self.notes.push(Note { due, seat });
        true
    }

    /// Hears of a member that is there; says whether it is.
    pub(super) fn sign<Q, N>(
        &mut self,
        room: &Q,
        member: &N,
        sign: Sign,
        now: u64,
        told: &mut Told<'_, R, M>,
    ) -> bool
    where
        R: Borrow<Q>,
        M: Borrow<N>,
        Q: Hash + Eq + ?Sized,
        N: Hash + Eq + ?Sized,
    {
        let Some(seat) = self.seat(room, member) else {
            return false;
        };
        seat.heard.store(now, Relaxed);
        if sign == Sign::Activity {
            seat.acted.store(now, Relaxed);
            if seat.is_idle.swap(false, Relaxed) {
                told.tell(seat, Change::Active);
                // Its note was made when there was nothing to turn to but gone.
                let seat = Arc::clone(seat);
                self.note_earlier(seat, told);
            }
        }
        true
    }

    /// A seat is to be looked at sooner than its note says: it is given another, and its place is
    /// taken by a new seat so that the note before counts as that of an empty one.
    fn note_earlier(&mut self, seat: Arc<Seat<R, M>>, told: &mut Told<'_, R, M>) {
        if self
            .times
            .idle_after
            .is_none_or(|idle| idle >= self.times.timeout)
        {
            return;
        }
        let next = Arc::new(Seat {
            room: Arc::clone(&seat.room),
            member: Arc::clone(&seat.member),
            heard: AtomicU64::new(seat.heard.load(Relaxed)),
            acted: AtomicU64::new(seat.acted.load(Relaxed)),
            is_idle: AtomicBool::new(false),
            is_empty: AtomicBool::new(false),
        });
        let room = self.rooms.get_mut(&*seat.room);
        let place = room.and_then(|room| room.seats.get_mut(&*seat.member));
        if let Some(place) = place {
            *place = Arc::clone(&next);
        }
        let due = next.next_look(self.times);
        self.notes.push(Note { due, seat: next });
        seat.is_empty.store(true, Relaxed);
        told.what().seats.push(seat);
        self.forget_empty(told);
    }

    /// A member comes, or is heard of if it has come meanwhile; says whether it came.
    pub(super) fn join(
        &mut self,
        [room, name]: [R; 2],
        [key, member]: [M; 2],
        sign: Sign,
        now: u64,
        told: &mut Told<'_, R, M>,
    ) -> bool {
        if self.sign(&room, &key, sign, now, told) {
            told.what().members.extend([key, member]);
            told.what().room_names.extend([room, name]);
            return false;
        }
        let seat = if let Some(there) = self.rooms.get_mut(&room) {
            told.what().room_names.extend([room, name]);
            there.add(key, member, now)
        } else {
            let mut there = Room {
                name: Arc::new(name),
                seats: HashMap::with_hasher(self.hasher.clone()),
            };
            let seat = there.add(key, member, now);
            self.rooms.insert(room, there);
            seat
        };
        told.tell(&seat, Change::Joined);
        let due = seat.next_look(self.times);
        self.notes.push(Note { due, seat });
        true
    }

    /// A member goes; says whether it was there.
    pub(super) fn leave<Q, N>(
        &mut self,
        room: &Q,
        member: &N,
        change: Change,
        told: &mut Told<'_, R, M>,
    ) -> bool
    where
        R: Borrow<Q>,
        M: Borrow<N>,
        Q: Hash + Eq + ?Sized,
        N: Hash + Eq + ?Sized,
    {
        let Some(there) = self.rooms.get_mut(room) else {
            return false;
        };
        let Some((key, seat)) = there.seats.remove_entry(member) else {
            return false;
        };
        let is_last = there.seats.is_empty();
        seat.is_empty.store(true, Relaxed);
        told.tell(&seat, change);
        told.what().members.push(key);
        told.what().seats.push(seat);
        self.forget_empty(told);
        if is_last {
            // Last, since `Hash` or `Eq` may panic; the room then stays, with nobody in it.
            told.what().rooms.extend(self.rooms.remove_entry(room));
        }
        true
    }

    pub(super) fn status<Q, N>(&self, room: &Q, member: &N) -> Option<Status>
    where
        R: Borrow<Q>,
        M: Borrow<N>,
        Q: Hash + Eq + ?Sized,
        N: Hash + Eq + ?Sized,
    {
        let is_idle = self.seat(room, member)?.is_idle.load(Relaxed);
        Some(if is_idle {
            Status::Idle
        } else {
            Status::Active
        })
    }

    fn seat<Q, N>(&self, room: &Q, member: &N) -> Option<&Arc<Seat<R, M>>>
    where
        R: Borrow<Q>,
        M: Borrow<N>,
        Q: Hash + Eq + ?Sized,
        N: Hash + Eq + ?Sized,
    {
        self.rooms.get(room)?.seats.get(member)
    }

    pub(super) fn members<Q>(&self, room: &Q) -> Vec<Arc<M>>
    where
        R: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let seats = self
            .rooms
            .get(room)
            .into_iter()
            .flat_map(|room| room.seats.values());
        seats.map(|seat| Arc::clone(&seat.member)).collect()
    }

    pub(super) fn count<Q>(&self, room: &Q) -> usize
    where
        R: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.rooms.get(room).map_or(0, |room| room.seats.len())
    }

    pub(super) fn counts(&self) -> Vec<(Arc<R>, usize)> {
        let count = |room: &Room<R, M>| (Arc::clone(&room.name), room.seats.len());
        let taken = |room: &&Room<R, M>| !room.seats.is_empty();
        self.rooms.values().filter(taken).map(count).collect()
    }
}

impl<R, M: Hash + Eq> Room<R, M> {
    fn add(&mut self, key: M, member: M, now: u64) -> Arc<Seat<R, M>> {
        let seat = Arc::new(Seat {
            room: Arc::clone(&self.name),
            member: Arc::new(member),
            heard: AtomicU64::new(now),
            acted: AtomicU64::new(now),
            is_idle: AtomicBool::new(false),
            is_empty: AtomicBool::new(false),
        });
        self.seats.insert(key, Arc::clone(&seat));
        seat
    }
}
