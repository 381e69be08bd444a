//! The rooms behind one lock.
//!
//! Each member has a seat, and one note in a heap that says when to look at it next. A heartbeat
//! only changes a number in the seat; when the note is due and the seat has been heard of since,
//! the note goes back into the heap for the time that is right now.

use super::notes::{Note, Notes};
use super::stats::Counts;
use super::{Change, PresenceEvent, Sign, Status, Times};
use crate::DefaultHashBuilder;
use crate::pubsub::{Left, TopicState};
use crate::slack::give_back;
use crate::time::{Deadline, NEVER, after};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::binary_heap::PeekMut;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

/// How much of what is due is done before others get the lock.
const BATCH: usize = 256;

pub(super) struct Rooms<R, M> {
    times: Times,
    hasher: DefaultHashBuilder,
    rooms: HashMap<R, Room<R, M>, DefaultHashBuilder>,
    notes: Notes<R, M>,
}

struct Room<R, M> {
    name: Arc<R>,
    seats: HashMap<M, Seat<M>, DefaultHashBuilder>,
}

/// A member in a room.
struct Seat<M> {
    member: Arc<M>,
    heard: u64,
    acted: u64,
    is_idle: bool,
    /// The number of its note.
    note: u64,
}

/// What a call leaves to be done when the lock is released: readers to wake, names to drop.
pub(super) struct Told<'p, R, M> {
    events: &'p TopicState<PresenceEvent<R, M>>,
    counts: &'p Counts,
    /// Mostly nothing.
    what: Option<Box<Leftovers<R, M>>>,
}

struct Leftovers<R, M> {
    left: Left<PresenceEvent<R, M>>,
    rooms: Vec<(R, Room<R, M>)>,
    room_names: Vec<R>,
    members: Vec<M>,
    seats: Vec<Seat<M>>,
    notes: Vec<Note<R, M>>,
}

impl<R, M> Default for Leftovers<R, M> {
    fn default() -> Self {
        Self {
            left: Left::default(),
            rooms: Vec::new(),
            room_names: Vec::new(),
            members: Vec::new(),
            seats: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl<'p, R, M> Told<'p, R, M> {
    pub(super) fn new(events: &'p TopicState<PresenceEvent<R, M>>, counts: &'p Counts) -> Self {
        Self {
            events,
            counts,
            what: None,
        }
    }

    fn what(&mut self) -> &mut Leftovers<R, M> {
        self.what.get_or_insert_default()
    }
}

impl<R: Send + Sync + 'static, M: Send + Sync + 'static> Told<'_, R, M> {
    fn tell(&mut self, room: &Arc<R>, member: &Arc<M>, change: Change) {
        self.counts.add(change);
        let event = PresenceEvent {
            room: Arc::clone(room),
            member: Arc::clone(member),
            change,
        };
        let events = self.events;
        events.publish_later(event, &mut self.what().left);
    }

    fn forget(&mut self, notes: Vec<Note<R, M>>) {
        if !notes.is_empty() {
            self.what().notes.extend(notes);
        }
    }
}

impl<M> Seat<M> {
    /// When its member is gone, or idle, should nothing be heard of it.
    fn next_look(&self, times: Times) -> Deadline {
        self.gone(times).min(self.turns_idle(times))
    }

    fn gone(&self, times: Times) -> Deadline {
        after(self.heard, times.timeout)
    }

    fn turns_idle(&self, times: Times) -> Deadline {
        match times.idle_after {
            Some(idle_after) if !self.is_idle => after(self.acted, idle_after),
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
            notes: Notes::default(),
        }
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.notes.is_due(now)
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
    #[inline]
    fn settle_next(&mut self, now: u64, told: &mut Told<'_, R, M>) -> bool {
        let is_due = self.notes.is_due(now);
        if is_due {
            self.settle_first(told);
        }
        is_due
    }

    /// Looks at the member whose note is due first.
    fn settle_first(&mut self, told: &mut Told<'_, R, M>) {
        let Some((mut note, seat)) = first(&mut self.notes, &mut self.rooms) else {
            told.what().notes.extend(self.notes.pop());
            return;
        };
        let (gone, idle) = (seat.gone(self.times), seat.turns_idle(self.times));
        if gone <= note.due && gone <= idle {
            let (room, member) = (Arc::clone(&note.room), Arc::clone(&note.member));
            drop(note);
            // Should `Hash` or `Eq` panic, the note is still that of a member that has to go.
            self.leave(&*room, &*member, Change::TimedOut, told);
            return;
        }
        if idle <= note.due {
            seat.is_idle = true;
            told.tell(&note.room, &note.member, Change::Idle);
        }
        note.due = seat.next_look(self.times);
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
        let Some(there) = self.rooms.get_mut(room) else {
            return false;
        };
        let Some(seat) = there.seats.get_mut(member) else {
            return false;
        };
        seat.heard = now;
        if sign == Sign::Activity {
            seat.acted = now;
            if mem::take(&mut seat.is_idle) {
                told.tell(&there.name, &seat.member, Change::Active);
                // Its note was made when there was nothing to turn to but gone.
                let due = seat.next_look(self.times);
                let earlier = self.notes.make(&there.name, &seat.member, due);
                let before = mem::replace(&mut seat.note, earlier);
                told.forget(self.notes.void(before));
            }
        }
        true
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
        let (room, member) = if let Some(there) = self.rooms.get_mut(&room) {
            told.what().room_names.extend([room, name]);
            there.seat(key, member, now, self.times, &mut self.notes)
        } else {
            let mut there = Room {
                name: Arc::new(name),
                seats: HashMap::with_hasher(self.hasher.clone()),
            };
            let seated = there.seat(key, member, now, self.times, &mut self.notes);
            self.rooms.insert(room, there);
            seated
        };
        told.tell(&room, &member, Change::Joined);
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
        told.tell(&there.name, &seat.member, change);
        told.forget(self.notes.void(seat.note));
        told.what().members.push(key);
        told.what().seats.push(seat);
        // Last, since `Hash` or `Eq` may panic: a room then stays with nobody in it, or a table
        // with more room than it needs.
        if there.seats.is_empty() {
            told.what().rooms.extend(self.rooms.remove_entry(room));
            give_back(&mut self.rooms);
        } else {
            give_back(&mut there.seats);
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
        let seat = self.rooms.get(room)?.seats.get(member)?;
        Some(if seat.is_idle {
            Status::Idle
        } else {
            Status::Active
        })
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

/// Gives memory back when many have become few, in O(1) on average.
fn give_back<K: Hash + Eq, V>(table: &mut HashMap<K, V, DefaultHashBuilder>) {
    give_back!(table);
}

impl<R, M: Hash + Eq> Room<R, M> {
    /// Gives a member a seat, and a note.
    fn seat(
        &mut self,
        key: M,
        member: M,
        now: u64,
        times: Times,
        notes: &mut Notes<R, M>,
    ) -> (Arc<R>, Arc<M>) {
        let (room, member) = (Arc::clone(&self.name), Arc::new(member));
        let mut seat = Seat {
            member: Arc::clone(&member),
            heard: now,
            acted: now,
            is_idle: false,
            note: 0,
        };
        seat.note = notes.make(&room, &member, seat.next_look(times));
        self.seats.insert(key, seat);
        (room, member)
    }
}

/// A note, and the seat that it is about.
type Look<'r, R, M> = (PeekMut<'r, Note<R, M>>, &'r mut Seat<M>);

/// The note that is due first, and the seat that it is about; `None` if it is for nothing.
fn first<'r, R: Hash + Eq, M: Hash + Eq>(
    notes: &'r mut Notes<R, M>,
    rooms: &'r mut HashMap<R, Room<R, M>, DefaultHashBuilder>,
) -> Option<Look<'r, R, M>> {
    let note = notes.first()?;
    let seat = rooms.get_mut(&*note.room)?.seats.get_mut(&*note.member)?;
    (seat.note == note.number).then_some((note, seat))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::time::Clock;
    use std::time::Duration;

    #[test]
    fn what_many_rooms_and_members_took_is_given_back_when_they_have_gone() {
        let times = Times {
            timeout: Duration::MAX,
            idle_after: None,
        };
        let events = TopicState::alone("presence", Clock::real());
        let counts = Counts::default();
        let mut told = Told::new(&events, &counts);
        let mut rooms = Rooms::new(times, &DefaultHashBuilder::default());
        let all = (0..10_000).map(|member| (0, member));
        let all = all.chain((1..10_000).map(|room| (room, 0)));
        for (room, member) in all.clone() {
            rooms.join([room; 2], [member; 2], Sign::Heartbeat, 0, &mut told);
        }
        for (room, member) in all.filter(|who| *who != (0, 0)) {
            assert!(rooms.leave(&room, &member, Change::Left, &mut told));
        }
        let most = 8 * (1 + crate::slack::FEW);
        assert_eq!(rooms.count(&0), 1);
        assert!(rooms.rooms.capacity() <= most);
        assert!(rooms.rooms[&0].seats.capacity() <= most);
    }
}
