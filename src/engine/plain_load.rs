//! The short way through a load: as most of them are.
//!
//! The key is missing and nobody else has begun to load it, and what the loader brings goes in as
//! in `plain.rs`. The look-up that finds the key missing begins the load under the same lock. What
//! is not as simple goes on by the general way, from either end ([`Engine::load`],
//! [`Leader::settle`]).

use super::Engine;
use super::leader::{Leader, OwnLeader};
use super::load::{give, run, run_async};
use crate::entry::Life;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::load::{
    Crew, Flight, Form, Freshness, Landing, LoadError, Loaded, Node, UnderWay, value_of,
};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Entry, LoadRoom, Locked, Spare};
use crate::time::{Deadline, NEVER};
use std::hash::Hash;
use std::sync::Arc;

/// What a loading call has found.
pub(crate) enum Start<'e, K, V>
where
    K: Eq,
{
    Hit(V),
    /// No fresh value. It leads the load, or else has to take another look at what is to be done.
    Missed(Option<PlainLeader<'e, K, V>>),
}

/// Who leads a load that is as simple as most so far.
pub(crate) struct PlainLeader<'e, K, V>
where
    K: Eq,
{
    lead: Lead<'e, K, V>,
    /// For the thread that runs the loader.
    node: Arc<Node>,
}

/// What a [`Leader`] is made of where it takes one: when the load does not end as simply as it has
/// begun, or not at all.
struct Lead<'e, K, V>
where
    K: Eq,
{
    engine: &'e Engine<K, V>,
    hash: KeyHash,
    /// Until the load has ended, or somebody else ends it.
    flight: Option<Arc<Flight<V>>>,
    started: Deadline,
    epoch: u64,
    /// An entry of the key lies in the way, whose time is up.
    finds_old: bool,
}

/// What a set has for a load: its handle of the flight, and the room.
type OfSet<K, V> = (Arc<Flight<V>>, LoadRoom<K, V>);

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    /// A live value that is not due to be loaded anew, or the lead of its load where that is simple.
    #[inline(always)]
    pub(crate) fn start<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        is_task: bool,
        terms: Option<&Freshness>,
    ) -> Start<'_, K, V>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        if terms.is_some() || self.policy.reads_change_sets {
            let found = self.read_fresh(hash, key, terms);
            return found.map_or(Start::Missed(None), Start::Hit);
        }
        let Some(inside) = reentrancy::enter() else {
            return Start::Missed(None);
        };
        let Some(mut set) = self.table.lock_at_first_sight(&inside, hash) else {
            self.count(Count::Misses);
            return Start::Missed(None);
        };
        let hit = |entry: &mut Entry<K, V>| {
            entry.count_read();
            entry.value.clone()
        };
        let found = set.find_entry(hash, key);
        let finds_old = found.is_some();
        if let Some((way, entry)) = found
            && self.is_live(entry.deadline())
        {
            let value = if entry.is_labelled() {
                self.look_unless_fallen(&mut set, way, hit)
            } else {
                Some(hit(entry))
            };
            if let Some(value) = value {
                drop((set, inside));
                self.count(Count::Hits);
                return Start::Hit(value);
            }
        }
        self.count(Count::Misses);
        Start::Missed(self.lead_plainly(set, (hash, key), is_task, finds_old))
    }

    /// Begins a load in the set of its key, if that is simple.
    #[inline(never)]
    fn lead_plainly<'e, Q>(
        &'e self,
        mut set: Locked<'_, K, V>,
        (hash, key): (KeyHash, &Q),
        is_task: bool,
        finds_old: bool,
    ) -> Option<PlainLeader<'e, K, V>>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        if !self.policy.is_plain || !set.is_bare() || !set.is_set_of(hash) {
            return None;
        }
        let epoch = self.register.latest();
        let owned = key.to_owned();
        let Spare { crew, room } = self.departure(is_task);
        set.begin_load(UnderWay::new(hash, owned, crew.known, epoch), room);
        drop(set);
        let lead = Lead {
            engine: self,
            hash,
            flight: Some(crew.leads),
            started: self.load_clock(),
            epoch,
            finds_old,
        };
        let node = crew.runs;
        Some(PlainLeader { lead, node })
    }

    #[inline]
    fn departure(&self, is_task: bool) -> Spare<K, V> {
        match self.table.take_spare() {
            Some(spare) => {
                spare.crew.runs.begin(is_task);
                spare
            }
            None => Spare {
                crew: Crew::new(is_task),
                room: LoadRoom::default(),
            },
        }
    }
}

impl<K, V> PlainLeader<'_, K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    /// Runs a loader, and ends its load.
    #[inline]
    pub(crate) fn run<F, Q, E>(
        self,
        key: &Q,
        load: impl FnOnce() -> Result<F::Brought, E>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let Self { lead, node } = self;
        let (result, node) = run(node, load);
        lead.end::<F, Q, E>(key, result, node)
    }

    /// The same for a loader that is polled.
    pub(crate) async fn run_async<F, Q, E, L>(
        self,
        key: &Q,
        load: impl FnOnce() -> L,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
        L: Future<Output = Result<F::Brought, E>>,
    {
        let Self { lead, node } = self;
        let (result, node) = run_async(node, load, &lead.engine.clock, NEVER).await;
        match result {
            Some(result) => lead.end::<F, Q, E>(key, result, node),
            None => Err(LoadError::TimedOut),
        }
    }
}

impl<'e, K, V> Lead<'e, K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    #[inline]
    fn end<F, Q, E>(
        mut self,
        key: &Q,
        result: Result<F::Brought, E>,
        node: Arc<Node>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let loaded = match result {
            Ok(brought) => F::loaded(brought),
            Err(error) => {
                let leader = self.hand_over();
                return leader.settle::<F, Q, E>(key, Err(error), None, None);
            }
        };
        let value = match self.store_plainly(key, &loaded) {
            Some((known, room)) => {
                let leads = self.take_flight();
                let crew = Crew {
                    leads,
                    known,
                    runs: node,
                };
                let value = value_of(loaded.what, None);
                self.leave(Spare { crew, room }, value.as_ref());
                value
            }
            None => {
                self.engine.count_load(self.started, true);
                self.hand_over().take_in(key, loaded, None, None)
            }
        };
        Ok(give::<F, V>(value))
    }

    /// Stores what a load has brought and takes the load out of its set, if that is simple; what
    /// the set had for it.
    #[inline]
    fn store_plainly<Q>(&self, key: &Q, loaded: &Loaded<V>) -> Option<OfSet<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let (engine, hash) = (self.engine, self.hash);
        let flight = self.flight.as_ref().filter(|_| !self.finds_old)?;
        let value = loaded.plain_value()?.clone();
        let life = loaded.ttl.map_or(Life::Default, Life::For);
        let moment = engine.clock.moment();
        let inside = reentrancy::enter()?;
        let mut set = engine.table.lock(&inside, hash);
        if !set.is_bare_but_for_loads() || engine.hub.is_heard() {
            return None;
        }
        let at = set.place_of_load(flight)?;
        // Whatever would have stored a value since has overtaken the load.
        debug_assert!(set.find(hash, key).is_none());
        let deadline = engine.plain_deadline(life, &moment)?;
        let place = engine.plain_place(&mut set, &moment)?;
        let (load, room) = set.end_load_at(at).expect("a load that the set knows of");
        let (key, known) = load.into_parts();
        let evicted = engine.fill(&mut set, place, hash, (key, value), deadline);
        drop((set, inside));
        drop(evicted);
        engine.count_load_until(moment.coarse(), self.started, Count::Loads);
        engine.have_swept();
        Some((known, room))
    }

    /// Keeps what a load that is out of its set leaves for the next one, or else lets those know
    /// who have joined it.
    #[inline]
    fn leave(&self, spare: Spare<K, V>, value: Option<&V>) {
        if spare.crew.is_complete() {
            self.engine.table.keep_spare(spare);
        } else {
            self.land(spare, value);
        }
    }

    #[cold]
    fn land(&self, spare: Spare<K, V>, value: Option<&V>) {
        let Crew { leads, known, runs } = spare.crew;
        // The leader finds out by the handles whether anybody needs a copy of the value.
        drop((known, runs));
        let mut leader = self.leader(leads);
        if let Some(value) = value {
            leader.land(|| Landing::Loaded(Arc::new(value.clone())), Labels::NONE);
        }
    }
}

impl<'e, K, V> Lead<'e, K, V>
where
    K: Eq,
{
    /// Has the load end by the general way.
    #[cold]
    fn hand_over(mut self) -> OwnLeader<'e, K, V> {
        let flight = self.take_flight();
        self.leader(flight)
    }

    #[inline]
    fn take_flight(&mut self) -> Arc<Flight<V>> {
        self.flight.take().expect("a load that has not ended")
    }

    fn leader(&self, flight: Arc<Flight<V>>) -> OwnLeader<'e, K, V> {
        let made = Given {
            labels: Labels::NONE,
            epoch: self.epoch,
        };
        Leader::since(self.started, self.engine, self.hash, flight, made)
    }
}

impl<K, V> Drop for Lead<'_, K, V>
where
    K: Eq,
{
    #[inline]
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            drop(self.leader(flight));
        }
    }
}
