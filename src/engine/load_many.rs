//! Loading several keys with one call of the loader, still with one load per key.
//!
//! In each round a call leads the loads of those keys that nobody is loading, all with one call of
//! its loader, and only then waits for the others: so two calls that want the same keys never wait
//! for each other. What is left after that, because the leader of another load died or took too
//! long, is for the next round.

use super::Engine;
use super::leader::OwnLeader;
use super::load::{Call, Limit, Role, run, run_async};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::load::{Flight, Landing, LoadError, Loaded, MayWait, Maybe, Node, Waiting, value_of};
use crate::reentrancy;
use crate::time::Deadline;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

/// A call for several keys, from its misses to its end.
struct Many<'e, 'k, K, V, Q: ?Sized> {
    engine: &'e Engine<K, V>,
    is_task: bool,
    keys: Vec<(KeyHash, &'k Q)>,
    found: Vec<Option<V>>,
    missing: Vec<Missing<'e, V>>,
    /// The places of keys that come again, each with the place at which the key came first.
    again: Vec<(usize, usize)>,
}

/// A key that no value was found for yet, or one that is due to be loaded anew.
struct Missing<'e, V> {
    /// Where it is among the keys.
    at: usize,
    call: Call<'e, V>,
    /// What the caller cannot wait for, and so has to load for itself.
    instead_of: Option<Arc<Node>>,
}

/// What is to be done for the keys that are missing.
struct Round<'e, K, V>
where
    K: Eq,
{
    node: Arc<Node>,
    leads: Vec<(Missing<'e, V>, OwnLeader<'e, K, V>)>,
    alone: Vec<Missing<'e, V>>,
    waits: Vec<(Missing<'e, V>, Arc<Flight<V>>)>,
}

impl<'e, K, V> Round<'e, K, V>
where
    K: Eq,
{
    /// The places of the keys to load.
    fn places(&self) -> impl Iterator<Item = usize> {
        let led = self.leads.iter().map(|(missing, _)| missing);
        led.chain(&self.alone).map(|missing| missing.at)
    }

    fn loads(&self) -> bool {
        !self.leads.is_empty() || !self.alone.is_empty()
    }

    /// The waits of the round, which go on together though the call does one after the other.
    fn begin_waits(&mut self, now: Deadline) -> Vec<(Missing<'e, V>, Arc<Flight<V>>)> {
        for (missing, _) in &mut self.waits {
            missing.call.begin(now);
        }
        mem::take(&mut self.waits)
    }
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    /// The values of `keys`, those that are missing by `load`, which is given the keys that nobody
    /// else is loading. `hash_of` hashes the keys that it returns.
    pub(crate) fn load_many<Q, E, I, T>(
        &self,
        keys: Vec<(KeyHash, &Q)>,
        hash_of: impl Fn(&K) -> KeyHash,
        mut load: impl FnMut(Vec<K>) -> Result<I, E>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
    {
        let mut many = Many::begin(self, false, keys);
        while !many.missing.is_empty() {
            let mut round = many.assign()?;
            if round.loads() {
                let (node, missing) = (Arc::clone(&round.node), many.to_load(&round));
                let started = self.load_clock();
                let (result, _) = run(node, || load(missing).map(collect));
                many.land(&mut round, started, result.map_err(failed), &hash_of)?;
            }
            for (mut missing, flight) in round.begin_waits(self.clock.now()) {
                let (until, limit) = self.limit::<E>(&mut missing.call);
                let landing = match Waiting::begin(flight.node(), true) {
                    MayWait::Reentrant => return Err(LoadError::Reentrant),
                    MayWait::Alone => {
                        many.goes_alone(missing, &flight);
                        continue;
                    }
                    MayWait::Yes(_waiting) => {
                        self.count_wait(&missing.call);
                        flight.wait(&self.clock, until)
                    }
                };
                many.waited(missing, flight, landing, limit)?;
            }
        }
        Ok(many.end())
    }

    /// The same for a task.
    pub(crate) async fn load_many_async<Q, E, I, T, L>(
        &self,
        keys: Vec<(KeyHash, &Q)>,
        hash_of: impl Fn(&K) -> KeyHash,
        mut load: impl FnMut(Vec<K>) -> L,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        L: Future<Output = Result<I, E>>,
    {
        let mut many = Many::begin(self, true, keys);
        while !many.missing.is_empty() {
            let mut round = many.assign()?;
            if round.loads() {
                let (node, missing) = (Arc::clone(&round.node), many.to_load(&round));
                let started = self.load_clock();
                let load = || load(missing);
                let until = self.hard_end::<E>(self.freshness());
                let (result, node) = run_async(node, load, &self.clock, until).await;
                let result = match result {
                    Some(result) => run(node, || result.map(collect)).0.map_err(failed),
                    None => Err(LoadError::TimedOut),
                };
                many.land(&mut round, started, result, &hash_of)?;
            }
            for (mut missing, flight) in round.begin_waits(self.clock.now()) {
                let (until, limit) = self.limit::<E>(&mut missing.call);
                let landing = match Waiting::begin(flight.node(), false) {
                    MayWait::Reentrant => return Err(LoadError::Reentrant),
                    MayWait::Alone => {
                        many.goes_alone(missing, &flight);
                        continue;
                    }
                    MayWait::Yes(_waiting) => {
                        self.count_wait(&missing.call);
                        flight.landed(&self.clock, until).await
                    }
                };
                many.waited(missing, flight, landing, limit)?;
            }
        }
        Ok(many.end())
    }
}

/// The places at which keys come first, and those at which they come again with that of the first.
fn told_apart<K, Q>(
    mut places: Vec<usize>,
    keys: &[(KeyHash, &Q)],
) -> (Vec<usize>, Vec<(usize, usize)>)
where
    Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
{
    if places.len() < 2 {
        return (places, Vec::new());
    }
    let hash_of = |at: &usize| keys[*at].0.position();
    let mut by_hash = places.clone();
    by_hash.sort_by_key(hash_of);
    let mut again = Vec::new();
    let runs = by_hash.chunk_by(|a, b| hash_of(a) == hash_of(b));
    for run in runs.filter(|run| run.len() > 1) {
        let mut firsts = vec![run[0]];
        for at in &run[1..] {
            let key = keys[*at].1.to_owned();
            let same = |first: &&usize| keys[**first].1.equivalent(&key);
            match firsts.iter().find(same) {
                Some(first) => again.push((*at, *first)),
                None => firsts.push(*at),
            }
        }
    }
    again.sort_unstable();
    places.retain(|at| again.binary_search_by_key(at, |(at, _)| *at).is_err());
    (places, again)
}

fn failed<E>(error: E) -> LoadError<E> {
    LoadError::Failed(Arc::new(error))
}

fn collect<K, V, T: Into<Loaded<V>>>(
    brought: impl IntoIterator<Item = (K, T)>,
) -> Vec<(K, Loaded<V>)> {
    let brought = brought.into_iter();
    brought.map(|(key, loaded)| (key, loaded.into())).collect()
}

impl<'e, 'k, K, V, Q> Many<'e, 'k, K, V, Q>
where
    K: Hash + Eq,
    V: Clone,
    Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
{
    fn begin(engine: &'e Engine<K, V>, is_task: bool, keys: Vec<(KeyHash, &'k Q)>) -> Self {
        let found: Vec<_> = keys
            .iter()
            .map(|(hash, key)| engine.read_fresh(*hash, *key, engine.freshness()))
            .collect();
        let is_missing = |at: &usize| found[*at].is_none();
        // While a closure of a cache unwinds no lock can be taken, and nothing is found or loaded.
        let missing = (0..found.len())
            .filter(is_missing)
            .filter(|_| reentrancy::check());
        let (first, again) = told_apart(missing.collect(), &keys);
        let node = Node::new(is_task);
        let missing = first.into_iter().map(|at| Missing {
            at,
            call: Call::part_of(&node, engine.freshness()),
            instead_of: None,
        });
        Self {
            missing: missing.collect(),
            engine,
            is_task,
            keys,
            found,
            again,
        }
    }

    fn end(mut self) -> Vec<Option<V>> {
        for (at, first) in self.again {
            self.found[at] = self.found[first].clone();
        }
        self.found
    }

    /// Finds out what is to be done for each of the missing keys.
    fn assign<E>(&mut self) -> Result<Round<'e, K, V>, LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        let mut round = Round {
            node: Node::new(self.is_task),
            leads: Vec::new(),
            alone: Vec::new(),
            waits: Vec::new(),
        };
        for mut missing in mem::take(&mut self.missing) {
            missing.call.join(&round.node);
            let (at, (hash, key)) = (missing.at, self.keys[missing.at]);
            if let Some(node) = &missing.instead_of {
                round.node.goes_instead_of(node);
                round.alone.push(missing);
                continue;
            }
            match self.engine.take_role(hash, key, &mut missing.call) {
                Role::Hit(value) => self.found[at] = Some(value),
                Role::Lead(leader) => {
                    self.engine.count_refresh(&missing.call);
                    round.leads.push((missing, leader));
                }
                Role::Wait(flight) => round.waits.push((missing, flight)),
                Role::Alone(node) => {
                    round.node.goes_instead_of(&node);
                    round.alone.push(missing);
                }
                Role::Known(known) => match missing.call.told::<Maybe, E>(known) {
                    Some(end) => self.found[at] = end?,
                    None => self.missing.push(missing),
                },
            }
        }
        Ok(round)
    }

    fn to_load(&self, round: &Round<'_, K, V>) -> Vec<K> {
        round
            .places()
            .map(|at| self.keys[at].1.to_owned())
            .collect()
    }

    /// Ends the loads of a round with what the loader returned.
    fn land<E>(
        &mut self,
        round: &mut Round<'e, K, V>,
        started: Deadline,
        result: Result<Vec<(K, Loaded<V>)>, LoadError<E>>,
        hash_of: &impl Fn(&K) -> KeyHash,
    ) -> Result<(), LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        self.engine.count_load(started, result.is_ok());
        let brought = match result {
            Ok(brought) => brought,
            Err(error) => return self.fail(round, error),
        };
        for (_, leader) in &mut round.leads {
            leader.has_returned();
        }
        let mut brought = self.sort_in(round, brought, hash_of);
        for (Missing { at, .. }, leader) in round.leads.drain(..) {
            let loaded = brought.remove(&at).unwrap_or_else(Loaded::absent);
            self.found[at] = leader.take_in(self.keys[at].1, loaded, None, None);
        }
        for (at, loaded) in brought {
            self.found[at] = value_of(loaded.what, None);
        }
        Ok(())
    }

    /// Ends the loads of a round that has brought nothing. It is no error where there is an old value
    /// for each of the keys.
    fn fail<E>(
        &mut self,
        round: &mut Round<'e, K, V>,
        error: LoadError<E>,
    ) -> Result<(), LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        let end = |(missing, leader): (Missing<'e, V>, OwnLeader<'e, K, V>)| {
            match &error {
                LoadError::Failed(error) => leader.fail(self.keys[missing.at].1, error),
                _ => leader.time_out_uncounted(),
            }
            missing
        };
        let mut ended: Vec<_> = round.leads.drain(..).map(end).collect();
        ended.append(&mut round.alone);
        let may_serve = |missing: &Missing<'_, V>| missing.call.fallback().is_some();
        if !ended.iter().all(may_serve) {
            return Err(error);
        }
        for Missing { at, call, .. } in &ended {
            self.found[*at] = self.engine.old_of(call);
        }
        Ok(())
    }

    /// What the loader brought, by where it was asked for. What was not asked for is nothing that a
    /// write could have overtaken, so it is not stored.
    fn sort_in(
        &self,
        round: &Round<'_, K, V>,
        brought: Vec<(K, Loaded<V>)>,
        hash_of: &impl Fn(&K) -> KeyHash,
    ) -> BTreeMap<usize, Loaded<V>> {
        let mut places: Vec<usize> = round.places().collect();
        places.sort_unstable_by_key(|at| self.keys[*at].0.position());
        let mut sorted = BTreeMap::new();
        for (key, loaded) in brought {
            let position = hash_of(&key).position();
            let position_of = |at: &usize| self.keys[*at].0.position();
            let first = places.partition_point(|at| position_of(at) < position);
            let at = places[first..]
                .iter()
                .take_while(|at| position_of(at) == position)
                .find(|at| self.keys[**at].1.equivalent(&key));
            if let Some(at) = at {
                sorted.insert(*at, loaded);
            }
        }
        sorted
    }

    fn goes_alone(&mut self, mut missing: Missing<'e, V>, flight: &Flight<V>) {
        missing.instead_of = Some(Arc::clone(flight.node()));
        self.missing.push(missing);
    }

    /// Takes in what a wait came to.
    fn waited<E>(
        &mut self,
        mut missing: Missing<'e, V>,
        flight: Arc<Flight<V>>,
        landing: Option<Landing<V>>,
        limit: Limit,
    ) -> Result<(), LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        let engine = self.engine;
        match engine.after_wait::<Maybe, E>(&mut missing.call, flight, landing, limit) {
            Some(end) => self.found[missing.at] = end?,
            None => self.missing.push(missing),
        }
        Ok(())
    }
}
