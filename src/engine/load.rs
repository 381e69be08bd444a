//! Loading through the cache: the first caller that misses leads, the others wait for it.
//!
//! A load under way is known to the set of its key, so that "miss, then lead", "finish, then
//! store" and "write, then overtake" are one decision each, under the lock of that set.

use super::Engine;
use crate::entry::{Insert, InsertOptions};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::load::{Flight, Landing, LoadError, UnderWay, Waiting};
use crate::reentrancy;
use crate::stats::Count;
use crate::sync::current_thread;
use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

/// What a caller that missed finds under the lock.
enum Role<V> {
    /// The value came meanwhile.
    Hit(V),
    Leader(Arc<Flight<V>>),
    Waiter(Arc<Flight<V>>),
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    /// What `load` makes of a key that was not there just now, or what somebody else has made of it
    /// meanwhile.
    pub(crate) fn load<Q, E>(
        &self,
        hash: KeyHash,
        key: &Q,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
    {
        if !reentrancy::check() {
            return load().map_err(|error| LoadError::Failed(Arc::new(error)));
        }
        loop {
            let flight = match self.take_role(hash, key) {
                Role::Hit(value) => return Ok(value),
                Role::Leader(flight) => return self.lead(hash, key, flight, load),
                Role::Waiter(flight) => flight,
            };
            match self.wait(&flight)? {
                Waited::Value(value) => return Ok(value),
                Waited::Failed(error) => return Err(error),
                Waited::TryAgain => {}
                Waited::TooLong => self.abandon(hash, &flight),
            }
        }
    }

    fn take_role<Q>(&self, hash: KeyHash, key: &Q) -> Role<V>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        let owned = key.to_owned();
        let mut outbox = self.outbox();
        let Some(inside) = reentrancy::enter() else {
            return Role::Leader(Flight::depart());
        };
        let mut set = self.table.lock(&inside, hash);
        if let Some(way) = set.find(hash, key)
            && self.is_live(set.entry(way).deadline())
        {
            set.entry(way).count_read();
            outbox.discard_key(owned);
            return Role::Hit(set.entry(way).value.clone());
        }
        if let Some(flight) = set.load_of(hash, key) {
            let flight = Arc::clone(flight);
            outbox.discard_key(owned);
            return Role::Waiter(flight);
        }
        let flight = Flight::depart();
        set.begin_load(UnderWay::new(hash, owned, Arc::clone(&flight)));
        Role::Leader(flight)
    }

    fn lead<Q, E>(
        &self,
        hash: KeyHash,
        key: &Q,
        flight: Arc<Flight<V>>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let mut leader = Leader {
            engine: self,
            hash,
            flight,
            landed: false,
        };
        let started = Instant::now();
        match load() {
            Ok(value) => {
                self.count_load_time(started);
                self.count(Count::Loads);
                let shared = Arc::new(value.clone());
                let _: Insert<V> = self.insert_generally(
                    hash,
                    key.to_owned(),
                    value.clone(),
                    InsertOptions::new(),
                    Some(&leader.flight),
                );
                leader.land(Landing::Loaded(shared));
                Ok(value)
            }
            Err(error) => {
                self.count_load_time(started);
                let error = Arc::new(error);
                let shared: Arc<dyn Any + Send + Sync> = Arc::<E>::clone(&error);
                self.count(Count::LoadFailures);
                leader.land(Landing::Failed(shared));
                Err(LoadError::Failed(error))
            }
        }
    }

    fn count_load_time(&self, started: Instant) {
        if let Some(counters) = &self.counters {
            let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            counters.add(Count::LoadNanoseconds, nanoseconds);
        }
    }

    fn wait<E>(&self, flight: &Flight<V>) -> Result<Waited<V, E>, LoadError<E>>
    where
        E: Send + Sync + 'static,
    {
        if flight.leader() == current_thread().id() && !flight.has_landed() {
            return Err(LoadError::Reentrant);
        }
        let Some(_waiting) = Waiting::for_leader(flight.leader(), flight.landed_flag()) else {
            return if flight.has_landed() {
                Ok(Waited::TryAgain)
            } else {
                Err(LoadError::Reentrant)
            };
        };
        self.count(Count::Waits);
        Ok(match flight.wait(self.policy.lock_timeout) {
            Some(Landing::Loaded(value)) => Waited::Value(V::clone(&value)),
            Some(Landing::Failed(error)) => match error.downcast::<E>() {
                Ok(error) => Waited::Failed(LoadError::Failed(error)),
                // The leader's error means nothing to this caller, who has to ask for itself.
                Err(_) => Waited::TryAgain,
            },
            Some(Landing::Abandoned) => Waited::TryAgain,
            None => Waited::TooLong,
        })
    }
}

impl<K, V> Engine<K, V> {
    /// Takes a load out of its set, so that the next caller leads one of its own.
    fn abandon(&self, hash: KeyHash, flight: &Arc<Flight<V>>) {
        let mut outbox = self.outbox();
        let Some(inside) = reentrancy::enter() else {
            return;
        };
        let ended = self.table.lock(&inside, hash).end_load(flight);
        outbox.discard_load(ended);
    }
}

/// What waiting for another caller's load came to.
enum Waited<V, E> {
    Value(V),
    Failed(LoadError<E>),
    TryAgain,
    TooLong,
}

/// Lands the flight whatever happens to its leader.
struct Leader<'e, K, V> {
    engine: &'e Engine<K, V>,
    hash: KeyHash,
    flight: Arc<Flight<V>>,
    landed: bool,
}

impl<K, V> Leader<'_, K, V> {
    fn land(&mut self, landing: Landing<V>) {
        self.landed = true;
        self.engine.abandon(self.hash, &self.flight);
        self.flight.land(landing);
    }
}

impl<K, V> Drop for Leader<'_, K, V> {
    fn drop(&mut self) {
        if !self.landed {
            self.engine.count(Count::LoadFailures);
            self.land(Landing::Abandoned);
        }
    }
}
