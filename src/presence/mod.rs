//! Who is there: members of rooms, by their heartbeats.
//!
//! What Redis users build from `SETEX` for each user, `KEYS online:*` and keyspace notifications of
//! expiry, which come late or not at all. Here a member that is silent for the time-out is
//! announced as gone within a stated bound though nobody asks, and every list, count and event
//! tells the same story.
//!
//! ```
//! use haybox::presence::{Change, Presence};
//! use std::time::Duration;
//!
//! let online = Presence::<String, u64>::builder().timeout(Duration::from_secs(90)).build()?;
//! let events = online.events();
//! online.heartbeat("kitchen", &7); // And every half a minute again.
//! assert_eq!((online.count("kitchen"), online.members("kitchen")), (1, vec![7]));
//! online.leave("kitchen", &7);
//! let told: Vec<_> = events.try_iter().map(|event| event.change).collect();
//! assert_eq!(told, [Change::Joined, Change::Left]);
//! # Ok::<(), haybox::BuildError>(())
//! ```
//!
//! No call waits for anything but a short lock, so tasks make the same ones; they wait for events
//! with [`recv_async`](Subscription::recv_async).

mod builder;
mod notes;
mod room;
mod stats;
mod weak;

pub use builder::PresenceBuilder;
pub use stats::PresenceStats;
pub use weak::WeakPresence;

use crate::build_error::BuildError;
use crate::equivalent::Equivalent;
use crate::hash::DefaultHashBuilder;
use crate::pubsub::{SubscribeOptions, Subscription, Topic, TopicState};
use crate::reentrancy;
use crate::sync::SpinLock;
use crate::time::{Aftermath, Clock, Sweep, Swept};
use crate::to_key::ToKey;
use room::{Rooms, Told};
use stats::Counts;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What a member of a room has done, as [`Presence::events`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// It was not there and is now.
    Joined,
    /// It was there and said that it goes: [`Presence::leave`].
    Left,
    /// It was there, and its heartbeat stayed away for the time-out.
    TimedOut,
    /// It is there and has done nothing for the time set by
    /// [`idle_after`](PresenceBuilder::idle_after).
    Idle,
    /// It was idle and has done something.
    Active,
}

/// One change of one member of one room.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PresenceEvent<R, M> {
    /// The room.
    pub room: Arc<R>,
    /// The member.
    pub member: Arc<M>,
    /// What it has done.
    pub change: Change,
}

impl<R, M> Clone for PresenceEvent<R, M> {
    fn clone(&self) -> Self {
        Self {
            room: Arc::clone(&self.room),
            member: Arc::clone(&self.member),
            change: self.change,
        }
    }
}

/// How a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It has done something lately.
    Active,
    /// Its heartbeat comes, and it has done nothing for a while.
    Idle,
}

/// Members of rooms that are online, as long as their heartbeats come.
///
/// A handle: clone it into every thread and task. When the last one is dropped, or one is
/// [closed](Self::close), the subscriptions to its events end.
///
/// A member is online from its first [`heartbeat`](Self::heartbeat) in a room until it
/// [leaves](Self::leave), or until `timeout` has passed since the last one, on the nanosecond: no
/// call sees it after that. Its departure is announced by the next call on a room that
/// shares a lock with its own, or by the background within one
/// [`sweep_interval`](PresenceBuilder::sweep_interval) (default 1 s) and the time of the sweep,
/// whichever comes first. A member may be in many rooms, and times out in each by itself.
///
/// # Events
/// Each transition is told exactly once: of one member of one room, `Joined` and `Left` or
/// `TimedOut` alternate, beginning with `Joined`, in every subscription that was there from the
/// start. The events of one room come in the order in which they happened.
///
/// # What it costs
/// Each call takes one of 16 locks, chosen by the room; a heartbeat reads the clock and takes some
/// 80 ns. Nothing runs while nothing is due: a member is looked at once for each `timeout` (or
/// `idle_after`) and not at each heartbeat. A member of a room takes up itself twice and 140 to 200
/// bytes, as far as its tables have just grown.
///
/// # Panics
/// All calls panic if they are made from inside a closure, `Eq`, `Hash` or `Clone` that runs under
/// a lock of this crate.
///
/// ```
/// use haybox::MockClock;
/// use haybox::presence::{Change, Presence};
/// use std::time::Duration;
///
/// let time = MockClock::new();
/// let timeout = Duration::from_secs(30);
/// let online = Presence::<String, u32>::builder().timeout(timeout).clock(time.clock()).build()?;
/// let events = online.events();
/// online.heartbeat("kitchen", &7);
/// time.advance(timeout / 2);
/// online.heartbeat("kitchen", &8);
/// assert_eq!(online.count("kitchen"), 2);
///
/// // Nobody asks, and it is told all the same.
/// time.advance(timeout / 2);
/// let told: Vec<_> = events.try_iter().map(|event| (*event.member, event.change)).collect();
/// assert_eq!(told, [(7, Change::Joined), (8, Change::Joined), (7, Change::TimedOut)]);
/// assert_eq!(online.members("kitchen"), [8]);
/// # Ok::<(), haybox::BuildError>(())
/// ```
pub struct Presence<R, M, S = DefaultHashBuilder>(Arc<Handle<R, M, S>>);

/// Dropped with the last handle, while a sweep may still hold the state.
struct Handle<R, M, S>(Arc<State<R, M, S>>);

struct State<R, M, S> {
    own: Weak<Self>,
    clock: Clock,
    hasher: S,
    sweep_interval: Duration,
    times: Times,
    parts: Box<[SpinLock<Rooms<R, M, S>>]>,
    events: Arc<TopicState<PresenceEvent<R, M>>>,
    counts: Counts,
}

/// After which time of silence something happens.
#[derive(Clone, Copy, Debug)]
struct Times {
    timeout: Duration,
    idle_after: Option<Duration>,
}

/// Locks that the rooms share. A power of two.
const PARTS: usize = 16;

fn part_of(hash: u64) -> usize {
    // The tables take the lowest bits and the highest.
    (hash >> 40) as usize % PARTS
}

/// What a member does that is not leaving.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Heartbeat,
    Activity,
}

impl<R, M, S> Clone for Presence<R, M, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R, M, S> fmt::Debug for Presence<R, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = &self.0.0;
        let mut shown = f.debug_struct("Presence");
        shown
            .field("times", &state.times)
            .field("sweep_interval", &state.sweep_interval)
            .finish_non_exhaustive()
    }
}

impl<R, M> Presence<R, M>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
{
    /// Nobody is there yet. A member times out 30 s after its last heartbeat.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build().expect("the defaults are possible")
    }

    /// Sets the options.
    pub fn builder() -> PresenceBuilder<R, M> {
        PresenceBuilder::new()
    }
}

impl<R, M, S> Presence<R, M, S>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// A member says that it is in a room, and joins if it was not. Says whether it did.
    ///
    /// It does not count as doing something: see [`active`](Self::active).
    pub fn heartbeat<Q, N>(&self, room: &Q, member: &N) -> bool
    where
        Q: Hash + ToKey<R> + ?Sized,
        N: Hash + ToKey<M> + ?Sized,
    {
        self.sign(room, member, Sign::Heartbeat)
    }

    /// A [`heartbeat`](Self::heartbeat) of a member that does something, and so is not idle.
    pub fn active<Q, N>(&self, room: &Q, member: &N) -> bool
    where
        Q: Hash + ToKey<R> + ?Sized,
        N: Hash + ToKey<M> + ?Sized,
    {
        self.sign(room, member, Sign::Activity)
    }

    fn sign<Q, N>(&self, room: &Q, member: &N, sign: Sign) -> bool
    where
        Q: Hash + ToKey<R> + ?Sized,
        N: Hash + ToKey<M> + ?Sized,
    {
        let known = self.in_room(room, false, |rooms, now, told| {
            rooms.sign(room, member, sign, now, told)
        });
        if known {
            return false;
        }
        // Copies are made before the lock is taken: for the tables, and for the events.
        let (rooms, members) = (
            [(); 2].map(|()| room.to_key()),
            [(); 2].map(|()| member.to_key()),
        );
        self.in_room(room, false, |all, now, told| {
            all.join(rooms, members, sign, now, told)
        })
    }

    /// A member leaves a room. Says whether it was there.
    pub fn leave<Q, N>(&self, room: &Q, member: &N) -> bool
    where
        Q: Hash + Equivalent<R> + ?Sized,
        N: Hash + Equivalent<M> + ?Sized,
    {
        self.in_room(room, false, |rooms, _, told| {
            rooms.leave(room, member, Change::Left, told)
        })
    }

    /// How a member is in a room, `None` when it is not.
    #[must_use]
    pub fn status<Q, N>(&self, room: &Q, member: &N) -> Option<Status>
    where
        Q: Hash + Equivalent<R> + ?Sized,
        N: Hash + Equivalent<M> + ?Sized,
    {
        self.in_room(room, None, |rooms, _, _| rooms.status(room, member))
    }

    /// Whether a member is in a room, idle or not.
    #[must_use]
    pub fn is_online<Q, N>(&self, room: &Q, member: &N) -> bool
    where
        Q: Hash + Equivalent<R> + ?Sized,
        N: Hash + Equivalent<M> + ?Sized,
    {
        self.status(room, member).is_some()
    }

    /// Who is in a room, idle or not, in no particular order. O(members).
    #[must_use]
    pub fn members<Q>(&self, room: &Q) -> Vec<M>
    where
        Q: Hash + Equivalent<R> + ?Sized,
        M: Clone,
    {
        // They are copied when the lock has been released.
        let shared = self.in_room(room, Vec::new(), |rooms, _, _| rooms.members(room));
        shared.iter().map(|member| M::clone(member)).collect()
    }

    /// How many are in a room, idle or not. O(1).
    #[must_use]
    pub fn count<Q>(&self, room: &Q) -> usize
    where
        Q: Hash + Equivalent<R> + ?Sized,
    {
        self.in_room(room, 0, |rooms, _, _| rooms.count(room))
    }

    /// The rooms that somebody is in and how many are, in no particular order. O(rooms); the rooms
    /// are looked at one after the other.
    #[must_use]
    pub fn rooms(&self) -> Vec<(R, usize)>
    where
        R: Clone,
    {
        let counts = (0..PARTS).flat_map(|number| {
            let counts = |rooms: &mut Rooms<R, M, S>, _: u64, _: &mut Told<R, M>| rooms.counts();
            self.0.0.in_part(number, Vec::new(), counts)
        });
        counts
            .map(|(room, count)| (R::clone(&room), count))
            .collect()
    }

    /// How many are in all rooms, and what they have done so far. O(1), and takes no lock.
    ///
    /// ```
    /// use haybox::presence::Presence;
    ///
    /// let online = Presence::<String, u32>::new();
    /// online.heartbeat("kitchen", &7);
    /// online.heartbeat("garden", &7);
    /// online.leave("garden", &7);
    /// let stats = online.stats();
    /// assert_eq!((stats.members, stats.joined, stats.left), (1, 2, 1));
    /// ```
    #[must_use]
    pub fn stats(&self) -> PresenceStats {
        self.0.0.counts.stats()
    }

    /// What happens from now on in all rooms, with the defaults of [`SubscribeOptions`]. Nothing is
    /// noted while nobody subscribes.
    ///
    /// For a list that stays true, subscribe first, then ask for the [`members`](Self::members),
    /// and apply the events to that: the first may say what the list has already.
    #[must_use = "dropping a subscription ends it"]
    pub fn events(&self) -> Subscription<PresenceEvent<R, M>> {
        Topic::of(Arc::clone(&self.0.0.events)).subscribe()
    }

    /// As [`events`](Self::events), with options. A subscription that loses events
    /// ([`Subscription::take_lost`]) is to ask for the members again, by a weak handle: who waits for
    /// events with a `Presence` of its own keeps it, and so waits for ever.
    ///
    /// ```
    /// use haybox::presence::{Change, Presence};
    /// use haybox::pubsub::SubscribeOptions;
    /// use std::{collections::HashSet, thread};
    ///
    /// let online = Presence::<String, u32>::new();
    /// let events = online.events_with(SubscribeOptions::new().capacity(64))?;
    /// let presence = online.downgrade();
    /// let forwarder = thread::spawn(move || {
    ///     let mut there = HashSet::new();
    ///     while let Ok(event) = events.recv() {
    ///         match event.change {
    ///             Change::Joined => there.insert(*event.member),
    ///             Change::Left | Change::TimedOut => there.remove(&*event.member),
    ///             _ => false,
    ///         };
    ///         if events.take_lost() > 0 {
    ///             let Some(presence) = presence.upgrade() else { break };
    ///             there = presence.members("kitchen").into_iter().collect();
    ///         }
    ///         // Show who is there.
    ///     }
    ///     there
    /// });
    /// online.heartbeat("kitchen", &7);
    /// drop(online); // The forwarder reads what it has, and ends.
    /// assert_eq!(forwarder.join().unwrap(), HashSet::from([7]));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// If the capacity is 0, and for [`Slow::Block`](crate::pubsub::Slow::Block): heartbeats wait
    /// for nobody.
    pub fn events_with(
        &self,
        options: SubscribeOptions,
    ) -> Result<Subscription<PresenceEvent<R, M>>, BuildError> {
        if matches!(options.slow(), crate::pubsub::Slow::Block(_)) {
            let problem = "heartbeats wait for nobody: drop events, or disconnect";
            return Err(BuildError::new("SubscribeOptions", "on_slow", problem));
        }
        Topic::of(Arc::clone(&self.0.0.events)).subscribe_with(options)
    }

    /// Ends all subscriptions to the events: who waits gets what is waiting, then
    /// [`NoMessage::Closed`](crate::pubsub::NoMessage::Closed). For a shutdown, where others may
    /// have handles still.
    ///
    /// All other calls do what they did: members come, go and time out, and nobody is told.
    /// Subscriptions that are made later have ended from the start. Closing twice does nothing
    /// more. Dropping the last handle does the same.
    pub fn close(&self) {
        if reentrancy::check() {
            self.0.0.events.end();
        }
    }

    /// Announces whose time is up now, on this thread; how many members have gone by that, each
    /// counted once for each room. The background does this every
    /// [`sweep_interval`](PresenceBuilder::sweep_interval); it is for where no thread runs in the
    /// background.
    pub fn sweep(&self) -> usize {
        self.0.0.sweep_all()
    }

    /// Checks every invariant, for tests. Nobody else may use it meanwhile.
    ///
    /// # Panics
    /// With the first that does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        for (number, part) in self.0.0.parts.iter().enumerate() {
            let Some(_inside) = reentrancy::enter() else {
                return;
            };
            part.lock().validate(|hash| part_of(hash) == number);
        }
    }

    /// Does something under the lock of a room, after all whose time is up have gone.
    fn in_room<Q, A>(
        &self,
        room: &Q,
        otherwise: A,
        f: impl FnOnce(&mut Rooms<R, M, S>, u64, &mut Told<R, M>) -> A,
    ) -> A
    where
        Q: Hash + ?Sized,
    {
        if !reentrancy::check() {
            return otherwise;
        }
        let state = &*self.0.0;
        let part = part_of(state.hasher.hash_one(room));
        state.in_part(part, otherwise, f)
    }
}

impl<R, M> Default for Presence<R, M>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<R, M, S> State<R, M, S>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Does something under the lock of a part, after all whose time is up have gone.
    fn in_part<A>(
        &self,
        number: usize,
        otherwise: A,
        f: impl FnOnce(&mut Rooms<R, M, S>, u64, &mut Told<R, M>) -> A,
    ) -> A {
        let (mut call, mut answer) = (Some(f), otherwise);
        // Many may be due at once, and others want the lock in between.
        while self.locked(number, false, |rooms, now, told| {
            let more = rooms.settle_some(now, told);
            if !more && let Some(f) = call.take() {
                answer = f(rooms, now, told);
            }
            more
        }) {}
        answer
    }

    /// What is told is put into the queues of the subscriptions under the lock, which fixes its
    /// order; readers are woken, and what went is dropped, when it has been released.
    fn locked<A>(
        &self,
        number: usize,
        otherwise: A,
        f: impl FnOnce(&mut Rooms<R, M, S>, u64, &mut Told<R, M>) -> A,
    ) -> A {
        let mut told = Told::new(&self.events, &self.counts);
        let Some(inside) = reentrancy::enter() else {
            return otherwise;
        };
        let mut rooms = self.parts[number].lock();
        // Read under the lock, so that no call is decided by a time before that of another.
        let now = self.clock.now();
        let answer = f(&mut rooms, now, &mut told);
        drop(rooms);
        drop(inside);
        drop(told);
        answer
    }

    /// Settles what is due in all parts; how many members have gone.
    fn sweep_all(&self) -> usize {
        let mut gone = 0;
        for number in 0..PARTS {
            // Many may be due at once, and others want the lock in between.
            while self.locked(number, false, |rooms, now, told| {
                let more = rooms.settle_some(now, told);
                gone += told.timed_out();
                more
            }) {}
        }
        gone
    }

    /// Whether anybody's time may be up: where somebody is at work that cannot be seen.
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        let is_due =
            |part: &SpinLock<Rooms<R, M, S>>| part.try_lock().is_none_or(|rooms| rooms.is_due(now));
        self.parts.iter().any(is_due)
    }
}

impl<R, M, S> Sweep for State<R, M, S>
where
    R: Hash + Eq + Send + Sync + 'static,
    M: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn interval(&self) -> Duration {
        self.sweep_interval
    }

    /// Telling of a member wakes its readers, and its name may have a destructor: so all the work is
    /// left to where code of the user's may run.
    fn sweep_slice(&self) -> Swept {
        let own = self.own.upgrade().filter(|own| own.is_due());
        let sweep = |own: Arc<Self>| Box::new(move || _ = own.sweep_all()) as Aftermath;
        Swept {
            more: false,
            aftermath: own.map(sweep),
        }
    }

    fn needs_reaper(&self) -> bool {
        true
    }
}

impl<R, M, S> Drop for Handle<R, M, S> {
    fn drop(&mut self) {
        self.0.events.end();
    }
}
