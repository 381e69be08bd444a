//! The short way through a load: as most of them are.
//!
//! The key is missing and nobody else has begun to load it, and what the loader brings goes in as
//! in `plain.rs`. The look-up that finds the key missing begins the load under the same lock. What
//! is not as simple goes on by the general way, from either end ([`Engine::load`],
//! [`Leader::settle`](super::leader::Leader::settle)).

use super::Engine;
use super::leader::{Leader, OwnLeader};
use super::load::{give, run, run_async};
use crate::entry::Life;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::load::{Flight, Form, Freshness, Landing, LoadError, Loaded, Node, UnderWay, value_of};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Entry, LoadRoom, Locked, Spare};
use crate::time::NEVER;
use std::hash::Hash;
use std::sync::Arc;

/// What a loading call has found.
pub(crate) enum Start<'e, K, V> {
    Hit(V),
    /// No fresh value. It leads the load, or else has to take another look at what is to be done.
    Missed(Option<OwnLeader<'e, K, V>>),
}

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
        let Some(set) = self.table.lock_at_first_sight(&inside, hash) else {
            self.count(Count::Misses);
            return Start::Missed(None);
        };
        if let Some((way, entry)) = set.find_entry(hash, key)
            && self.is_there(&set, way, entry)
        {
            entry.count_read();
            let value = entry.value.clone();
            drop((set, inside));
            self.count(Count::Hits);
            return Start::Hit(value);
        }
        self.count(Count::Misses);
        Start::Missed(self.lead_plainly(set, hash, key, is_task))
    }

    /// Begins a load in the set of its key, if that is simple.
    #[inline(never)]
    fn lead_plainly<'e, Q>(
        &'e self,
        mut set: Locked<'_, K, V>,
        hash: KeyHash,
        key: &Q,
        is_task: bool,
    ) -> Option<OwnLeader<'e, K, V>>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        if !self.policy.is_plain || !set.is_bare() || !set.is_set_of(hash) {
            return None;
        }
        let labels = Labels::NONE;
        let epoch = self.register.latest();
        let owned = key.to_owned();
        let (flight, room) = self.departure(is_task);
        let load = UnderWay::new(hash, owned, Arc::clone(&flight), epoch);
        set.begin_load(load, room);
        drop(set);
        Some(Leader::new(self, hash, flight, Given { labels, epoch }))
    }

    fn departure(&self, is_task: bool) -> (Arc<Flight<V>>, LoadRoom<K, V>) {
        match self.table.take_spare() {
            Some(Spare { flight, room }) => {
                flight.depart_again(is_task);
                (flight, room)
            }
            None => (Flight::depart(Node::new(is_task)), LoadRoom::default()),
        }
    }
}

impl<K, V> OwnLeader<'_, K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    /// Runs a loader, and ends its load.
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
        let result = run(self.node(), load);
        self.end::<F, Q, E>(key, result)
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
        match run_async(self.node(), load, &self.engine.clock, NEVER).await {
            Some(result) => self.end::<F, Q, E>(key, result),
            None => Err(LoadError::TimedOut),
        }
    }

    fn end<F, Q, E>(self, key: &Q, result: Result<F::Brought, E>) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let loaded = match result {
            Ok(brought) => F::loaded(brought),
            Err(error) => return self.settle::<F, Q, E>(key, Err(error), None, None),
        };
        let value = match self.store_plainly(key, &loaded) {
            Some(spare) => {
                let value = value_of(loaded.what, None);
                self.leave(spare, value.as_ref());
                value
            }
            None => {
                self.engine.count_load(self.started, true);
                self.take_in(key, loaded, None, None)
            }
        };
        Ok(give::<F, V>(value))
    }

    /// Stores what a load has brought and takes the load out of its set, if that is simple; what
    /// the load leaves.
    fn store_plainly<Q>(&self, key: &Q, loaded: &Loaded<V>) -> Option<Spare<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let (engine, hash) = (self.engine, self.hash);
        let value = loaded.plain_value()?.clone();
        let life = loaded.ttl.map_or(Life::Default, Life::For);
        let moment = engine.clock.moment();
        let inside = reentrancy::enter()?;
        let mut set = engine.table.lock(&inside, hash);
        if !set.is_bare_but_for_loads()
            || engine.hub.is_heard()
            || set.epoch_of(&self.flight).is_none()
            || set.find(hash, key).is_some()
        {
            return None;
        }
        let deadline = engine.plain_deadline(life, &moment)?;
        let place = engine.plain_place(&mut set, &moment)?;
        let (load, room) = set
            .end_load_with_room(&self.flight)
            .expect("a load that the set knows of");
        let (key, flight) = load.into_parts();
        let entry = Entry::new(hash.fingerprint(), key, value, deadline);
        let evicted = engine.fill(&mut set, place, hash, entry);
        drop((set, inside));
        drop(evicted);
        engine.count_load_until(moment.coarse(), self.started, Count::Loads);
        engine.have_swept();
        Some(Spare { flight, room })
    }

    /// Lets those know who have joined the load, and keeps what it leaves for the next one.
    fn leave(mut self, spare: Spare<K, V>, value: Option<&V>) {
        // Nobody can come to it any more, and those who have are others than this and the spare.
        // The copy for them is code of the user's: should it panic, the flight has yet to land.
        let value = value.filter(|_| Arc::strong_count(&self.flight) > 2);
        let landing = value.map(|value| Landing::Loaded(Arc::new(value.clone())));
        self.has_landed = true;
        if let Some(landing) = landing {
            self.node().land();
            self.flight.land(landing, None);
        }
        let table = &self.engine.table;
        drop(self);
        table.keep_spare(spare);
    }
}
