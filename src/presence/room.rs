//! The rooms behind one lock.
//!
//! Each member has a seat, and one note in a heap that says when to look at it next. A heartbeat
//! only changes a number in the seat; when the note is due and the seat has been heard of since,
//! the note goes back into the heap for the time that is right now.
//!
//! The tables and the notes keep the hashes of their keys: a table that grows or shrinks runs no
//! code of the user's, nor does a look at who is due. A `Hash` or `Eq` that panics is one of the
//! names that a call was given, and does so before anything has changed.

use super::notes::{Note, Notes};
use super::stats::Counts;
use super::{Change, PresenceEvent, Sign, Status, Times};
use crate::equivalent::Equivalent;
use crate::pubsub::{Left, TopicState};
use crate::slack::give_back;
use crate::time::{Deadline, NEVER, after};
use hashtable::HashTable;
use std::collections::binary_heap::PeekMut;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;

/// How much of what is due is done before others get the lock.
const BATCH: usize = 256;

pub(super) struct Rooms<R, M, S> {
    times: Times,
    hasher: S,
    rooms: HashTable<Room<R, M>>,
    notes: Notes<R, M>,
}

struct Room<R, M> {
    hash: u64,
    key: R,
    name: Arc<R>,
    seats: HashTable<Seat<M>>,
}

/// A member in a room.
struct Seat<M> {
    hash: u64,
    key: M,
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
    timed_out: usize,
    /// Mostly nothing.
    what: Option<Box<Leftovers<R, M>>>,
}

struct Leftovers<R, M> {
    left: Left<PresenceEvent<R, M>>,
    rooms: Vec<Room<R, M>>,
    room_names: Vec<R>,
    members: Vec<M>,
    seats: Vec<Seat<M>>,
    notes: Vec<Note<R, M>>,
    names: Vec<(Arc<R>, Arc<M>)>,
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
            names: Vec::new(),
        }
    }
}

impl<'p, R, M> Told<'p, R, M> {
    pub(super) fn new(events: &'p TopicState<PresenceEvent<R, M>>, counts: &'p Counts) -> Self {
        Self {
            events,
            counts,
            timed_out: 0,
            what: None,
        }
    }

    /// How many members it was told of that have timed out.
    pub(super) fn timed_out(&self) -> usize {
        self.timed_out
    }

    fn what(&mut self) -> &mut Leftovers<R, M> {
        self.what.get_or_insert_default()
    }
}

impl<R: Send + Sync + 'static, M: Send + Sync + 'static> Told<'_, R, M> {
    fn tell(&mut self, room: &Arc<R>, member: &Arc<M>, change: Change) {
        self.counts.add(change);
        self.timed_out += usize::from(change == Change::TimedOut);
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
    /// Whether it is that of this very member, and not of one that came later under its name.
    fn is(&self, member: &Arc<M>) -> bool {
        Arc::ptr_eq(&self.member, member)
    }

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

impl<R, M, S> Rooms<R, M, S> {
    pub(super) fn new(times: Times, hasher: S) -> Self {
        Self {
            times,
            hasher,
            rooms: HashTable::new(),
            notes: Notes::default(),
        }
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.notes.is_due(now)
    }
}

impl<R, M, S> Rooms<R, M, S>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// Has happen what time has brought until now, in its order, but no more than a batch of it;
    /// whether there may be more.
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
            let hashes = note.hashes;
            drop(note);
            let its = (
                |there: &Room<R, M>| there.is(&room),
                |seat: &Seat<M>| seat.is(&member),
            );
            self.remove(hashes, its, Change::TimedOut, told);
            told.what().names.push((room, member));
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
        Q: Hash + Equivalent<R> + ?Sized,
        N: Hash + Equivalent<M> + ?Sized,
    {
        let Some(there) = find_mut(&mut self.rooms, &self.hasher, room) else {
            return false;
        };
        let Some(seat) = find_mut(&mut there.seats, &self.hasher, member) else {
            return false;
        };
        seat.heard = now;
        if sign == Sign::Activity {
            seat.acted = now;
            if mem::take(&mut seat.is_idle) {
                told.tell(&there.name, &seat.member, Change::Active);
                // Its note was made when there was nothing to turn to but gone.
                let due = seat.next_look(self.times);
                let names = (&there.name, &seat.member);
                let earlier = self.notes.make(names, [there.hash, seat.hash], due);
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
        let hash = self.hasher.hash_one(&key);
        let (room, member) = if let Some(there) = find_mut(&mut self.rooms, &self.hasher, &room) {
            told.what().room_names.extend([room, name]);
            there.seat(hash, [key, member], now, self.times, &mut self.notes)
        } else {
            let mut there = Room {
                hash: self.hasher.hash_one(&room),
                key: room,
                name: Arc::new(name),
                seats: HashTable::new(),
            };
            let seated = there.seat(hash, [key, member], now, self.times, &mut self.notes);
            self.rooms.insert_unique(there.hash, there, HasKey::hash);
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
        Q: Hash + Equivalent<R> + ?Sized,
        N: Hash + Equivalent<M> + ?Sized,
    {
        let hashes = [self.hasher.hash_one(room), self.hasher.hash_one(member)];
        let its = (
            |there: &Room<R, M>| room.equivalent(&there.key),
            |seat: &Seat<M>| member.equivalent(&seat.key),
        );
        self.remove(hashes, its, change, told)
    }

    /// The same of a member that is known by its hashes and, among what has the same, by itself.
    fn remove(
        &mut self,
        hashes: [u64; 2],
        (is_room, is_seat): (impl Fn(&Room<R, M>) -> bool, impl Fn(&Seat<M>) -> bool),
        change: Change,
        told: &mut Told<'_, R, M>,
    ) -> bool {
        let Ok(mut there) = self.rooms.find_entry(hashes[0], is_room) else {
            return false;
        };
        let Ok(seat) = there.get_mut().seats.find_entry(hashes[1], is_seat) else {
            return false;
        };
        let seat = seat.remove().0;
        told.tell(&there.get().name, &seat.member, change);
        told.forget(self.notes.void(seat.note));
        told.what().seats.push(seat);
        let seats = &mut there.get_mut().seats;
        if !seats.is_empty() {
            give_back!(seats, HasKey::hash);
            return true;
        }
        told.what().rooms.push(there.remove().0);
        give_back!(self.rooms, HasKey::hash);
        true
    }

    pub(super) fn status<Q, N>(&self, room: &Q, member: &N) -> Option<Status>
    where
        Q: Hash + Equivalent<R> + ?Sized,
        N: Hash + Equivalent<M> + ?Sized,
    {
        let seats = &self.room(room)?.seats;
        let own = |seat: &Seat<M>| member.equivalent(&seat.key);
        let seat = seats.find(self.hasher.hash_one(member), own)?;
        Some(if seat.is_idle {
            Status::Idle
        } else {
            Status::Active
        })
    }

    pub(super) fn members<Q>(&self, room: &Q) -> Vec<Arc<M>>
    where
        Q: Hash + Equivalent<R> + ?Sized,
    {
        let room = self.room(room).into_iter();
        let seats = room.flat_map(|room| room.seats.iter());
        seats.map(|seat| Arc::clone(&seat.member)).collect()
    }

    pub(super) fn count<Q>(&self, room: &Q) -> usize
    where
        Q: Hash + Equivalent<R> + ?Sized,
    {
        self.room(room).map_or(0, |room| room.seats.len())
    }

    pub(super) fn counts(&self) -> Vec<(Arc<R>, usize)> {
        let count = |room: &Room<R, M>| (Arc::clone(&room.name), room.seats.len());
        self.rooms.iter().map(count).collect()
    }

    fn room<Q>(&self, room: &Q) -> Option<&Room<R, M>>
    where
        Q: Hash + Equivalent<R> + ?Sized,
    {
        let own = |other: &Room<R, M>| room.equivalent(&other.key);
        self.rooms.find(self.hasher.hash_one(room), own)
    }
}

impl<R: Hash + Eq, M: Hash + Eq, S: BuildHasher> Rooms<R, M, S> {
    /// Checks every invariant, and that `is_own` holds of the hash of each room.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(super) fn validate(&self, is_own: impl Fn(u64) -> bool) {
        let notes = self.notes.valid();
        let mut seats = 0;
        for room in &self.rooms {
            let hash = self.hasher.hash_one(&room.key);
            assert!(room.hash == hash && is_own(hash), "the hash of the room");
            assert!(room.key == *room.name, "one name");
            let alike = self.rooms.iter().filter(|other| other.key == room.key);
            assert_eq!(alike.count(), 1, "no room is here twice");
            assert!(!room.seats.is_empty(), "nobody is in no room");
            seats += room.seats.len();
            for seat in &room.seats {
                assert_eq!(seat.hash, self.hasher.hash_one(&seat.key), "the hash");
                assert!(seat.key == *seat.member, "one name");
                let alike = room.seats.iter().filter(|other| other.key == seat.key);
                assert_eq!(alike.count(), 1, "no member has two seats");
                let note = notes.get(&seat.note).expect("a seat has its note");
                let is_its = room.is(&note.room) && seat.is(&note.member);
                assert!(is_its && note.hashes == [hash, seat.hash], "its own");
                let look = seat.next_look(self.times);
                assert!(note.due <= look, "the note is not too late");
            }
        }
        assert_eq!(notes.len(), seats, "no note is for nobody");
    }
}

/// What a table finds by its key, whose hash it has.
trait HasKey {
    type Key;
    fn key(&self) -> &Self::Key;
    fn hash(&self) -> u64;
}

impl<R, M> HasKey for Room<R, M> {
    type Key = R;

    fn key(&self) -> &R {
        &self.key
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

impl<M> HasKey for Seat<M> {
    type Key = M;

    fn key(&self) -> &M {
        &self.key
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

fn find_mut<'t, T, Q>(
    table: &'t mut HashTable<T>,
    hasher: &impl BuildHasher,
    key: &Q,
) -> Option<&'t mut T>
where
    T: HasKey,
    Q: Hash + Equivalent<T::Key> + ?Sized,
{
    table.find_mut(hasher.hash_one(key), |other| key.equivalent(other.key()))
}

impl<R, M> Room<R, M> {
    /// Whether it is this very one, and not one that came later under its name.
    fn is(&self, name: &Arc<R>) -> bool {
        Arc::ptr_eq(&self.name, name)
    }

    /// Gives a member a seat, and a note.
    fn seat(
        &mut self,
        hash: u64,
        [key, member]: [M; 2],
        now: u64,
        times: Times,
        notes: &mut Notes<R, M>,
    ) -> (Arc<R>, Arc<M>) {
        let (room, member) = (Arc::clone(&self.name), Arc::new(member));
        let mut seat = Seat {
            hash,
            key,
            member: Arc::clone(&member),
            heard: now,
            acted: now,
            is_idle: false,
            note: 0,
        };
        let due = seat.next_look(times);
        seat.note = notes.make((&room, &member), [self.hash, hash], due);
        self.seats.insert_unique(hash, seat, HasKey::hash);
        (room, member)
    }
}

/// A note, and the seat that it is about.
type Look<'r, R, M> = (PeekMut<'r, Note<R, M>>, &'r mut Seat<M>);

/// The note that is due first, and the seat that it is about; `None` if it is for nothing.
fn first<'r, R, M>(
    notes: &'r mut Notes<R, M>,
    rooms: &'r mut HashTable<Room<R, M>>,
) -> Option<Look<'r, R, M>> {
    let note = notes.first()?;
    let [of_room, of_member] = note.hashes;
    let room = rooms.find_mut(of_room, |room| room.is(&note.room))?;
    let seat = room
        .seats
        .find_mut(of_member, |seat| seat.is(&note.member))?;
    (seat.note == note.number).then_some((note, seat))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::DefaultHashBuilder;
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
        let mut rooms = Rooms::new(times, DefaultHashBuilder::default());
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
        assert!(rooms.room(&0).unwrap().seats.capacity() <= most);
    }
}
