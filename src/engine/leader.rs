//! Ending a load, however it ends.

use super::Engine;
use super::policy::PASSED;
use crate::entry::{Insert, InsertOptions, Life};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels, NOW};
use crate::load::{
    Age, Fill, Flight, Form, Freshness, Known, Landing, LoadError, Loaded, Node, OwnTimes, Source,
    UnderWay, What, give, value_of,
};
use crate::reentrancy;
use crate::stats::Count;
use crate::time::{Deadline, after};
use crate::to_key::ToKey;
use std::any::Any;
use std::hash::Hash;
use std::mem;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Who leads a load. Lands the flight whatever happens to it: a panic, or that its future is
/// dropped.
pub(crate) struct Leader<H, K, V>
where
    H: Deref<Target = Engine<K, V>>,
    K: Eq,
{
    engine: H,
    hash: KeyHash,
    pub(super) flight: Arc<Flight<V>>,
    started: Deadline,
    /// The labels of the value that the loader is shown, and the epoch at which the load began.
    made: Given,
    /// For how long no other load is tried if this one fails, where there is an old value to go on
    /// with.
    pause: Option<Duration>,
    /// What the set knew of the loads of the key that have ended with this one.
    ended: OnceLock<UnderWay<K, V>>,
    /// The flights of the others, until they land.
    others: Vec<Arc<Flight<V>>>,
    stage: Stage,
}

/// How far a load has come.
#[derive(PartialEq)]
enum Stage {
    Loads,
    /// The loader has returned. What is left to do may panic, and nothing else ends it early.
    Settles,
    Landed,
}

/// One who leads within a call.
pub(crate) type OwnLeader<'e, K, V> = Leader<&'e Engine<K, V>, K, V>;

/// One who goes on when the call has returned.
pub(crate) type SharedLeader<K, V> = Leader<Arc<Engine<K, V>>, K, V>;

impl<H, K, V> Leader<H, K, V>
where
    H: Deref<Target = Engine<K, V>>,
    K: Eq,
{
    pub(super) fn new(engine: H, hash: KeyHash, flight: Arc<Flight<V>>, made: Given) -> Self {
        let started = engine.load_clock();
        Self::since(started, engine, hash, flight, made)
    }

    /// The same of a load that began before.
    pub(super) fn since(
        started: Deadline,
        engine: H,
        hash: KeyHash,
        flight: Arc<Flight<V>>,
        made: Given,
    ) -> Self {
        Self {
            engine,
            hash,
            flight,
            started,
            made,
            pause: None,
            ended: OnceLock::new(),
            others: Vec::new(),
            stage: Stage::Loads,
        }
    }

    /// The same of a load that, if it fails, is not tried again for so long.
    pub(super) fn pausing(mut self, pause: Option<Duration>) -> Self {
        self.pause = pause;
        self
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.flight.node()
    }

    /// When the load began, by the clock that loads are timed by.
    pub(super) fn started(&self) -> Deadline {
        self.started
    }

    /// Ends a load that was not begun after all.
    pub(crate) fn give_up(mut self) {
        let _ended = self.engine.abandon(self.hash, &self.flight, None);
        self.land(&|| Landing::Abandoned, Labels::NONE);
    }

    /// Ends a flight that is out of its set, with the labels of what it has brought, and with it
    /// those of the others that are out for that: who waits for one of them need not go on waiting.
    pub(super) fn land(&mut self, landing: &dyn Fn() -> Landing<V>, labels: Labels) {
        // A key of the user's, which may panic when it is dropped: when all have been told.
        let _key = self.ended.take().map(|ended| {
            let (key, others) = ended.into_others(&self.flight);
            self.others = others;
            key
        });
        // Nobody can come to it any more, so if there is nobody now, nobody needs a copy. To make
        // one is code of the user's: should it panic, the flights have yet to land.
        let is_awaited = !self.others.is_empty() || Arc::strong_count(&self.flight) > 1;
        let landing = is_awaited.then(landing);
        self.stage = Stage::Landed;
        self.flight.node().land();
        let Some(landing) = landing else { return };
        let epoch = self.made.epoch;
        let others = mem::take(&mut self.others);
        for other in &others {
            other.land(landing.clone(), Given::new(labels.clone(), epoch));
        }
        self.flight.land(landing, Given::new(labels, epoch));
    }

    /// The same leader by another handle of the engine.
    fn by<G>(mut self, engine: G) -> Leader<G, K, V>
    where
        G: Deref<Target = Engine<K, V>>,
    {
        let stage = mem::replace(&mut self.stage, Stage::Landed);
        Leader {
            engine,
            hash: self.hash,
            flight: Arc::clone(&self.flight),
            started: self.started,
            made: mem::take(&mut self.made),
            pause: self.pause,
            ended: mem::take(&mut self.ended),
            others: mem::take(&mut self.others),
            stage,
        }
    }
}

impl<K, V> OwnLeader<'_, K, V>
where
    K: Eq,
{
    /// Makes it independent of the call, so that another thread or task can go on with it.
    pub(super) fn detach(self, engine: Arc<Engine<K, V>>) -> SharedLeader<K, V> {
        self.by(engine)
    }
}

impl<K, V> SharedLeader<K, V>
where
    K: Eq,
{
    /// Takes it back from who would not go on with it.
    pub(super) fn attach(self, engine: &Engine<K, V>) -> OwnLeader<'_, K, V> {
        self.by(engine)
    }

    pub(super) fn shared_engine(&self) -> &Arc<Engine<K, V>> {
        &self.engine
    }
}

impl<H, K, V> Drop for Leader<H, K, V>
where
    H: Deref<Target = Engine<K, V>>,
    K: Eq,
{
    fn drop(&mut self) {
        if self.stage != Stage::Landed {
            self.engine.count(Count::LoadFailures);
            // A panic is a failure of the source; of one that was only dropped nothing is known.
            if self.stage == Stage::Settles {
                self.flight.node().note_panic();
            }
            let panics = self.flight.node().has_panicked();
            // A future may be dropped where no lock can be taken. The next caller then clears up.
            let pause = self.pause.filter(|_| panics);
            let ended = match reentrancy::is_inside() {
                true => None,
                false => self.engine.abandon(self.hash, &self.flight, pause),
            };
            // Who waits takes another look: it finds the pause, or else leads.
            self.land(&|| Landing::Abandoned, Labels::NONE);
            // A key of the user's, which may panic: when all have been told.
            drop(ended);
        }
    }
}

impl<H, K, V> Leader<H, K, V>
where
    H: Deref<Target = Engine<K, V>>,
    K: Hash + Eq,
    V: Clone,
{
    /// Ends the load with what the loader returned.
    pub(super) fn settle<F, Q, E>(
        self,
        key: &Q,
        result: Result<F::Brought, E>,
        old: Option<&V>,
        terms: Option<&Freshness>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        self.engine.count_load(self.started, result.is_ok());
        match result {
            Ok(brought) => {
                let value = self.take_in(key, F::loaded(brought), old, terms);
                Ok(give::<F, V>(value, Source::Loaded))
            }
            Err(error) => {
                let error = Arc::new(error);
                self.fail(key, &error);
                Err(LoadError::Failed(error))
            }
        }
    }

    /// From now on a panic is one of what is done with what the loader returned.
    pub(super) fn has_returned(&mut self) {
        self.stage = Stage::Settles;
    }

    /// Stores what was loaded, unless it was overtaken, and lets everybody know.
    pub(super) fn take_in<Q>(
        mut self,
        key: &Q,
        loaded: Loaded<V>,
        old: Option<&V>,
        terms: Option<&Freshness>,
    ) -> Option<V>
    where
        Q: ToKey<K> + ?Sized,
    {
        self.has_returned();
        let is_old = matches!(loaded.what, What::NotModified);
        let is_unshared = matches!(loaded.what, What::Unshared(_));
        let (life, own, weight) = (loaded.life(), loaded.own_times(), loaded.own_weight());
        let value = value_of(loaded.what, old);
        let has_given = !loaded.labels.is_empty();
        let labels = match is_old && !has_given {
            true => mem::take(&mut self.made.labels),
            false => loaded.labels,
        };
        let Some(value) = value else {
            let ttl = loaded.ttl.or(self.engine.policy.negative_ttl);
            self.conclude(key, Known::Absent, labels, ttl);
            return None;
        };
        if is_unshared {
            self.keep_from_others(key, &value);
            return Some(value);
        }
        let age = self.engine.age_of_loaded(terms, own);
        let renewed = is_old && {
            let relabel = has_given.then_some(&labels);
            let (engine, fill) = (&self.engine, self.fill());
            let renewed = engine.renew(self.hash, key, &fill, (life, age), relabel);
            renewed.is_some()
        };
        if !renewed {
            let mut options = InsertOptions::new();
            options.life = life;
            options.given = Given::new(labels.clone(), NOW);
            self.store(key, value.clone(), options, weight, age);
        }
        self.land(&|| Landing::Loaded(Arc::new(value.clone())), labels);
        Some(value)
    }

    /// Ends the load with a value that is its caller's alone.
    fn keep_from_others<Q>(mut self, key: &Q, value: &V)
    where
        Q: ToKey<K> + ?Sized,
    {
        let nothing = (None, Labels::NONE);
        let engine = &self.engine;
        let left = engine.conclude(self.hash, key.to_key(), nothing, None, self.fill());
        // Without a handle of this flight, so that nobody counts as waiting who does not.
        let _left = left.map(|left| left.into_others(&self.flight));
        let landing = || Landing::Unshared(Arc::new(value.clone()));
        self.land(&landing, Labels::NONE);
    }

    /// Lets everybody know of the loader's error.
    fn fail<Q, E>(mut self, key: &Q, error: &Arc<E>)
    where
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        self.has_returned();
        match self.pause {
            Some(_) => self.fail_for_now(error),
            None => self.fail_for_good(key, error),
        }
    }

    /// Ends one of several loads that have all ended with an error.
    pub(super) fn fail_as<Q, E>(self, key: &Q, error: &LoadError<E>)
    where
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        match error {
            LoadError::Failed(error) => self.fail(key, error),
            LoadError::TimedOut | LoadError::Reentrant => self.time_out_uncounted(),
        }
    }

    fn fail_for_good<Q, E>(mut self, key: &Q, error: &Arc<E>)
    where
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let shared: Arc<dyn Any + Send + Sync> = Arc::<E>::clone(error);
        let ttl = self.engine.policy.error_ttl;
        self.conclude(key, Known::Failed(shared), Labels::NONE, ttl);
    }

    /// The same where there is an old value to serve meanwhile.
    fn fail_for_now<E>(mut self, error: &Arc<E>)
    where
        E: Send + Sync + 'static,
    {
        let shared: Arc<dyn Any + Send + Sync> = Arc::<E>::clone(error);
        let _ended = self.engine.abandon(self.hash, &self.flight, self.pause);
        let known = Known::Failed(shared);
        self.land(&|| Landing::Known(known.clone()), Labels::NONE);
    }

    /// Ends a load that takes longer than allowed.
    pub(crate) fn time_out(self) {
        self.engine.count_load(self.started, false);
        self.time_out_uncounted();
    }

    /// The same of a load that is counted with others.
    fn time_out_uncounted(mut self) {
        let _ended = self.engine.abandon(self.hash, &self.flight, self.pause);
        self.land(&|| Landing::TimedOut, Labels::NONE);
    }

    /// Ends a load that has brought no value.
    fn conclude<Q>(&mut self, key: &Q, known: Known, labels: Labels, ttl: Option<Duration>)
    where
        Q: ToKey<K> + ?Sized,
    {
        let found_out = (Some(known.clone()), labels.clone());
        let engine = &self.engine;
        let _left = engine.conclude(self.hash, key.to_key(), found_out, ttl, self.fill());
        self.land(&|| Landing::Known(known.clone()), labels);
    }

    fn store<Q>(
        &self,
        key: &Q,
        value: V,
        options: InsertOptions,
        weight: Option<u64>,
        age: Option<Age>,
    ) where
        Q: ToKey<K> + ?Sized,
    {
        let fill = Fill {
            weight,
            age,
            ..self.fill()
        };
        let _: Insert<V> =
            self.engine
                .insert_generally(self.hash, key.to_key(), value, options, Some(&fill));
    }

    fn fill(&self) -> Fill<'_, K, V> {
        Fill {
            flight: &self.flight,
            weight: None,
            age: None,
            ended: &self.ended,
        }
    }
}

impl<K, V> Engine<K, V> {
    /// Takes a load that has brought nothing out of its set, so that the next caller leads one of
    /// its own: at once, or after a pause where there is an old value and no other load has begun
    /// meanwhile. What the set knew of it is to be dropped.
    fn abandon(
        &self,
        hash: KeyHash,
        flight: &Arc<Flight<V>>,
        pause: Option<Duration>,
    ) -> Option<UnderWay<K, V>>
    where
        K: Eq,
    {
        // Declared before the lock: it has a key, whose `Eq` may panic.
        let (ended, is_newest);
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        let at = set.place_of_any(flight)?;
        (ended, is_newest) = set.leave_load(flight);
        let known = ended.as_ref().or_else(|| set.loads().get(at));
        if let (Some(pause), Some(load)) = (pause.filter(|_| is_newest), known)
            && let Some(way) = set.find(hash, &load.key)
        {
            let retry_at = after(self.clock.now(), pause);
            let age = set.age(way).unwrap_or_default();
            set.set_age(way, Some(age.resting(retry_at)));
        }
        ended
    }

    /// The age of a value that is stored now; none where the cache alone has a say in it, so that
    /// the store sees to it.
    fn age_of_loaded(&self, terms: Option<&Freshness>, own: OwnTimes) -> Option<Age>
    where
        K: Hash + Eq,
        V: Clone,
    {
        let of_call = terms.filter(|terms| self.terms(None) != Some(terms));
        if of_call.is_none() && own.are_none() {
            return None;
        }
        let now = self.clock.coarse();
        let terms = of_call.or(self.freshness());
        let age = terms.map_or(Age::written(now), |terms| terms.age(now));
        if !own.are_none() {
            // Before the value is there, so that who finds it goes by what is said of it.
            self.times_are_own.store(true, Relaxed);
        }
        Some(age.with(own, now))
    }

    /// Ends a load that says that the value still holds, if it is there to have its TTL renewed, and
    /// its labels where it is given others; `None` if it is not.
    fn renew<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        fill: &Fill<'_, K, V>,
        (life, age): (Life, Option<Age>),
        relabel: Option<&Labels>,
    ) -> Option<()>
    where
        K: Hash + Eq,
        Q: Equivalent<K> + ?Sized,
    {
        let mut work = self.work();
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        let epoch = set.epoch_of(fill.flight)?;
        let way = set.find(hash, key)?;
        if self.has_fallen(&set, way, set.entry(way)) {
            return None;
        }
        let relabel = relabel.map(|labels| self.with_group(&set.entry(way).key, labels.clone()));
        if let Some(labels) = &relabel
            && self.register.hold(labels.as_slice(), epoch).is_none()
        {
            return None;
        }
        let (entry, hard) = (set.entry(way), set.hard_deadline(way));
        let entry = (&entry.key, &entry.value);
        let deadlines = self.policy.on_write(&work.moment, entry, life, Some(hard));
        if deadlines.effective == PASSED {
            return None;
        }
        if relabel.is_some() && !self.encode(entry.0, entry.1, &mut work) {
            return None;
        }
        fill.keep(set.end_loads_with(fill.flight));
        self.forget(&mut set, hash, key, &mut work);
        set.set_age(way, age.or(deadlines.age));
        self.set_deadlines(&mut set, way, deadlines);
        if let Some(labels) = relabel {
            if self.relabel(&mut set, way, labels, epoch, &mut work) {
                self.record_put(&set, way, &mut work);
            }
        } else {
            self.record_deadlines(&set, way, &mut work);
        }
        drop(set);
        self.have_swept();
        Some(())
    }
}
