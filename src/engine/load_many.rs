//! Loading several keys with one call of the loader, still with one load per key.
//!
//! In each round a call leads the loads of those keys that nobody is loading, all with one call of
//! its loader, and only then waits for the others: so two calls that want the same keys never wait
//! for each other. What is left after that, because the leader of another load died or took too
//! long, is for the next round.
//!
//! The loads of a round are one thing to whoever runs the loader, so they go behind the caller
//! together or not at all. Where it has to stay for one of them, it is no slower for the others,
//! and one question costs the source less than two.

use super::Engine;
use super::call::Call;
use super::leader::OwnLeader;
use super::load::{MayJoin, Offered, Wait, run, run_async};
use super::role::Role;
use crate::hash::KeyHash;
use crate::load::{Flight, Landing, LoadError, Loaded, Maybe, Node, in_order, value_of};
use crate::reentrancy;
use crate::stats::Count;
use crate::time::Deadline;
use crate::to_key::ToKey;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

/// A call for several keys, from its misses to its end.
struct Many<'e, 'k, K, V, Q: ?Sized> {
    engine: &'e Engine<K, V>,
    /// What the call for each of the keys is like.
    call: Call<'e, V>,
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

/// A key whose load is waited for.
type Awaited<'e, V> = (Missing<'e, V>, Wait<V>);

/// What a round is to load, with who leads the load where it is not for this call only.
type Loads<'e, K, V> = Vec<(Missing<'e, V>, Option<OwnLeader<'e, K, V>>)>;

/// What is to be done for the keys that are missing.
struct Round<'e, K, V>
where
    K: Eq,
{
    node: Arc<Node>,
    loads: Loads<'e, K, V>,
    waits: Vec<(Missing<'e, V>, Arc<Flight<V>>)>,
}

impl<'e, K, V> Round<'e, K, V>
where
    K: Eq,
    V: Clone,
{
    /// Whether somebody else may run the loader.
    fn may_leave(&self) -> bool {
        let mut loads = self.loads.iter();
        !self.loads.is_empty()
            && loads.all(|(missing, leader)| leader.is_some() && missing.call.may_leave())
    }

    /// Ends loads that are not begun after all.
    fn give_up(self) {
        let leaders = self.loads.into_iter().filter_map(|(_, leader)| leader);
        leaders.for_each(OwnLeader::give_up);
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
    /// else is loading. `call` says what that for each of them is like. `grow` has the table grow
    /// before so many loads begin. `behind` is offered to run the loads of some keys where the
    /// caller need not wait for any of them.
    pub(crate) fn load_many<'e, 'k, Q, E, I, T>(
        &'e self,
        call: Call<'e, V>,
        keys: Vec<(KeyHash, &'k Q)>,
        grow: impl FnOnce(usize),
        mut load: impl FnMut(Vec<K>) -> Result<I, E>,
        behind: impl Fn(&[&'k Q], Vec<OwnLeader<'e, K, V>>) -> Offered<Vec<OwnLeader<'e, K, V>>>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
    {
        let mut many = Many::begin(self, call, keys);
        grow(many.missing.len());
        while !many.missing.is_empty() {
            let mut round = many.assign()?;
            many.offer(&mut round, &behind);
            if let Some((node, keys, started)) = many.begin_loads(&round) {
                let load = || load(keys).map(|brought| in_order(many.asked(&round), brought));
                let result = run(node, load).0.map_err(LoadError::failed);
                many.land(mem::take(&mut round.loads), started, result)?;
            }
            for (missing, flight) in round.begin_waits(self.clock.now()) {
                if let Some((missing, wait)) = many.begin_wait(missing, flight, true)? {
                    let landing = wait.flight.wait(&self.clock, wait.until);
                    many.waited(missing, wait, landing)?;
                }
            }
        }
        Ok(many.end())
    }

    /// The same for a task.
    pub(crate) async fn load_many_async<'e, 'k, Q, E, I, T, L>(
        &'e self,
        call: Call<'e, V>,
        keys: Vec<(KeyHash, &'k Q)>,
        grow: impl FnOnce(usize),
        mut load: impl FnMut(Vec<K>) -> L,
        behind: impl Fn(&[&'k Q], Vec<OwnLeader<'e, K, V>>) -> Offered<Vec<OwnLeader<'e, K, V>>>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        L: Future<Output = Result<I, E>>,
    {
        let mut many = Many::begin(self, call, keys);
        grow(many.missing.len());
        while !many.missing.is_empty() {
            let mut round = many.assign()?;
            many.offer(&mut round, &behind);
            if let Some((node, keys, started)) = many.begin_loads(&round) {
                let until = self.hard_end::<E>(many.call.terms);
                let (result, node) = run_async(node, || load(keys), &self.clock, until).await;
                let in_order = |brought| in_order(many.asked(&round), brought);
                let result = match result {
                    Some(result) => run(node, || result.map(in_order))
                        .0
                        .map_err(LoadError::failed),
                    None => Err(LoadError::TimedOut),
                };
                many.land(mem::take(&mut round.loads), started, result)?;
            }
            for (missing, flight) in round.begin_waits(self.clock.now()) {
                if let Some((missing, wait)) = many.begin_wait(missing, flight, false)? {
                    let landing = wait.flight.landed(&self.clock, wait.until).await;
                    many.waited(missing, wait, landing)?;
                }
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
    Q: ToKey<K> + ?Sized,
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
            let key = keys[*at].1.to_key();
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

impl<'e, 'k, K, V, Q> Many<'e, 'k, K, V, Q>
where
    K: Hash + Eq,
    V: Clone,
    Q: ToKey<K> + ?Sized,
{
    fn begin(engine: &'e Engine<K, V>, call: Call<'e, V>, keys: Vec<(KeyHash, &'k Q)>) -> Self {
        let found: Vec<_> = keys
            .iter()
            .map(|(hash, key)| match call.insists {
                true => None,
                false => engine.read_fresh(*hash, *key, call.terms),
            })
            .collect();
        let is_missing = |at: &usize| found[*at].is_none();
        // While a closure of a cache unwinds no lock can be taken, and nothing is found or loaded.
        let missing = (0..found.len())
            .filter(is_missing)
            .filter(|_| reentrancy::check());
        let (first, again) = told_apart(missing.collect(), &keys);
        let missing = first.into_iter().map(|at| Missing {
            at,
            call: call.alike(),
            instead_of: None,
        });
        Self {
            missing: missing.collect(),
            engine,
            call,
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
            node: self.call.node(),
            loads: Vec::new(),
            waits: Vec::new(),
        };
        for mut missing in mem::take(&mut self.missing) {
            missing.call.join(&round.node);
            let (at, (hash, key)) = (missing.at, self.keys[missing.at]);
            if let Some(node) = &missing.instead_of {
                round.node.goes_instead_of(node);
                round.loads.push((missing, None));
                continue;
            }
            match self.engine.take_role(hash, key, &mut missing.call) {
                Role::Hit(value, _) => self.found[at] = Some(value),
                Role::Lead(leader) => {
                    self.engine.count_refresh(&missing.call);
                    round.loads.push((missing, Some(leader)));
                }
                Role::Wait(flight) => round.waits.push((missing, flight)),
                Role::Known(known) => {
                    match (self.engine).tell_known::<Maybe, E>(&mut missing.call, known) {
                        Some(Ok(end)) => self.found[at] = end,
                        Some(Err(error)) => {
                            round.give_up();
                            return Err(error);
                        }
                        None => self.missing.push(missing),
                    }
                }
            }
        }
        Ok(round)
    }

    /// Offers the loads of a round to who would run them behind the caller, where the caller can
    /// leave them all.
    fn offer(
        &mut self,
        round: &mut Round<'e, K, V>,
        behind: &impl Fn(&[&'k Q], Vec<OwnLeader<'e, K, V>>) -> Offered<Vec<OwnLeader<'e, K, V>>>,
    ) {
        if !round.may_leave() {
            return;
        }
        let keys: Vec<&'k Q> = self.asked(round).collect();
        let (mut left, leaders): (Vec<_>, Vec<_>) = round.loads.drain(..).unzip();
        let leaders: Vec<_> = leaders.into_iter().flatten().collect();
        let flights: Vec<_> = leaders
            .iter()
            .map(|leader| Arc::clone(&leader.flight))
            .collect();
        for missing in &mut left {
            missing.call.note_offer();
        }
        let back = match behind(&keys, leaders) {
            Offered::Taken => return self.leave(round, left.into_iter().zip(flights)),
            Offered::NoTaker(leaders) => leaders,
            Offered::Refused(leaders) => {
                for _ in &leaders {
                    self.engine.count(Count::RefusedRefreshes);
                }
                if left.iter().all(|missing| missing.call.is_served()) {
                    leaders.into_iter().for_each(OwnLeader::give_up);
                    return self.leave(round, left.into_iter().zip(flights));
                }
                leaders
            }
        };
        let leaders = back.into_iter().map(Some);
        round.loads = left.into_iter().zip(leaders).collect();
    }

    /// Goes on with what there is for keys whose loads were left to somebody else, or waits for
    /// them: before it waits for others, so that it is soon told of what fails there.
    fn leave(
        &mut self,
        round: &mut Round<'e, K, V>,
        left: impl Iterator<Item = (Missing<'e, V>, Arc<Flight<V>>)>,
    ) {
        let others = mem::take(&mut round.waits);
        for (mut missing, flight) in left {
            match missing.call.leave() {
                Some(old) => self.found[missing.at] = Some(old),
                None => round.waits.push((missing, flight)),
            }
        }
        round.waits.extend(others);
    }

    /// The keys that a round is to load.
    fn asked(&self, round: &Round<'_, K, V>) -> impl Iterator<Item = &'k Q> {
        let loads = round.loads.iter();
        loads.map(|(missing, _)| self.keys[missing.at].1)
    }

    /// What the loader of a round is given, if it is to load anything: its node, the keys, and the
    /// time.
    fn begin_loads(&self, round: &Round<'_, K, V>) -> Option<(Arc<Node>, Vec<K>, Deadline)> {
        if round.loads.is_empty() {
            return None;
        }
        let keys = self.asked(round).map(Q::to_key).collect();
        Some((Arc::clone(&round.node), keys, self.engine.load_clock()))
    }

    /// Ends loads with what the loader returned for them, in their order.
    fn land<E>(
        &mut self,
        mut loads: Loads<'e, K, V>,
        started: Deadline,
        result: Result<Vec<Loaded<V>>, LoadError<E>>,
    ) -> Result<(), LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        self.engine.count_load(started, result.is_ok());
        // All of them first: what panics for one, or for a key that is loaded alone, ends the
        // others.
        let leaders = loads.iter_mut().filter_map(|(_, leader)| leader.as_mut());
        leaders.for_each(OwnLeader::has_returned);
        let brought = match result {
            Ok(brought) => brought,
            Err(error) => return self.fail(loads, error),
        };
        for ((Missing { at, .. }, leader), loaded) in loads.into_iter().zip(brought) {
            let key = self.keys[at].1;
            self.found[at] = match leader {
                Some(leader) => leader.take_in(key, loaded, None, self.call.terms),
                None => value_of(loaded.what, None),
            };
        }
        Ok(())
    }

    /// Ends loads that have brought nothing. It is no error where there is an old value for each of
    /// the keys.
    fn fail<E>(&mut self, loads: Loads<'e, K, V>, error: LoadError<E>) -> Result<(), LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        let end = |(missing, leader): (Missing<'e, V>, Option<OwnLeader<'e, K, V>>)| {
            if let Some(leader) = leader {
                leader.fail_as(self.keys[missing.at].1, &error);
            }
            missing
        };
        let ended: Vec<_> = loads.into_iter().map(end).collect();
        let may_serve = |missing: &Missing<'_, V>| missing.call.fallback().is_some();
        if !ended.iter().all(may_serve) {
            return Err(error);
        }
        for Missing { at, call, .. } in &ended {
            self.found[*at] = self.engine.old_of(call).map(|old| old.value.clone());
        }
        Ok(())
    }

    /// Begins to wait for the load of a key. What cannot be waited for is loaded in the next round.
    fn begin_wait<E>(
        &mut self,
        mut missing: Missing<'e, V>,
        flight: Arc<Flight<V>>,
        blocks: bool,
    ) -> Result<Option<Awaited<'e, V>>, LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        match (self.engine).begin_wait::<E>(&mut missing.call, flight, blocks) {
            MayJoin::Yes(wait) => Ok(Some((missing, wait))),
            MayJoin::Reentrant => Err(LoadError::Reentrant),
            MayJoin::Alone(flight) => {
                missing.instead_of = Some(Arc::clone(flight.node()));
                self.missing.push(missing);
                Ok(None)
            }
        }
    }

    /// Takes in what a wait came to.
    fn waited<E>(
        &mut self,
        mut missing: Missing<'e, V>,
        wait: Wait<V>,
        landing: Option<Landing<V>>,
    ) -> Result<(), LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        let engine = self.engine;
        match engine.after_wait::<Maybe, E>(&mut missing.call, wait, landing) {
            Some(end) => self.found[missing.at] = end?,
            None => {
                missing.instead_of = missing.call.take_lone_way();
                self.missing.push(missing);
            }
        }
        Ok(())
    }
}
