//! Loading through the cache: the first caller that misses leads, the others wait for it.
//!
//! A load under way is known to the set of its key, so that "miss, then lead", "finish, then
//! store" and "write, then overtake" are one decision each, under the lock of that set.
//!
//! Threads and tasks share all of it: what a caller has to do next is decided in one place, `next_step`.
//! They differ in two lines: how a loader is run, and how a flight is waited for.

use super::Engine;
use super::call::{Call, Old};
use super::leader::OwnLeader;
use super::role::{Role, is_loaded};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::load::{
    Flight, Form, Freshness, Known, Landing, LoadError, MayWait, Node, PANICKED, Running, Source,
    Spawner, Waiting, give, value_of,
};
use crate::reentrancy;
use crate::stats::Count;
use crate::time::{Clock, Deadline, NEVER, after, wake_at};
use crate::to_key::ToKey;
use std::any::TypeId;
use std::convert::Infallible;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

/// What an offer to run a load elsewhere, or several, came to.
pub(crate) enum Offered<L> {
    Taken,
    /// There are too many.
    Refused(L),
    /// There is nobody who would run it.
    NoTaker(L),
}

/// What is to be done by a caller that leads.
enum Lead<'e, K, V>
where
    K: Eq,
{
    Load(OwnLeader<'e, K, V>),
    /// Somebody else runs the load.
    Wait(Arc<Flight<V>>),
    Serve(V),
}

/// What a caller has to do next.
enum Next<'e, K, V, End>
where
    K: Eq,
{
    Done(End),
    /// Load for itself only, since it cannot wait for this.
    Alone(Arc<Node>),
    Lead(OwnLeader<'e, K, V>),
    Wait(Wait<V>),
}

/// Whether a caller that is to wait for a load can.
pub(super) enum MayJoin<V> {
    Yes(Wait<V>),
    /// It has to load for itself instead.
    Alone(Arc<Flight<V>>),
    Reentrant,
}

/// A wait that has begun.
pub(super) struct Wait<V> {
    pub(super) flight: Arc<Flight<V>>,
    pub(super) until: Deadline,
    limit: Limit,
    waiting: Waiting,
}

/// Which time-out ends a wait.
enum Limit {
    Patience,
    Soft,
    Hard,
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    /// The freshness that the cache was built with.
    #[inline]
    pub(crate) fn freshness(&self) -> Option<&Freshness> {
        self.policy.freshness.as_ref()
    }

    /// What a call goes by: its own terms, or else the cache's. Where loaders have a say, by what
    /// they say at least.
    #[inline]
    pub(crate) fn terms<'t>(&'t self, of_call: Option<&'t Freshness>) -> Option<&'t Freshness> {
        let terms = of_call.or(self.freshness());
        terms.or_else(|| self.times_are_own().then(Freshness::of_loaders))
    }

    #[inline]
    fn times_are_own(&self) -> bool {
        self.times_are_own.load(Relaxed)
    }

    /// Whether there may be values to be loaded anew before their time is over.
    #[inline]
    pub(super) fn refreshes(&self, terms: &Freshness) -> bool {
        terms.refreshes() || self.times_are_own()
    }

    /// What the user spawns loads with.
    pub(crate) fn spawner(&self) -> Option<&Spawner> {
        self.policy.spawner.as_ref()
    }

    /// A live value, if it is not due to be loaded anew.
    #[inline]
    pub(crate) fn read_fresh<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        terms: Option<&Freshness>,
    ) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match terms.filter(|terms| self.refreshes(terms)) {
            None => self.read(hash, key, V::clone),
            Some(terms) => self.read_if_fresh(hash, key, terms),
        }
    }

    fn read_if_fresh<Q>(&self, hash: KeyHash, key: &Q, terms: &Freshness) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let found = self.access_and_change(hash, key, |set, way| {
            // While it is loaded everybody gets the old value.
            let is_due = self.is_due(set, way, hash, terms) && !is_loaded(set, hash, key);
            (!is_due).then(|| set.entry(way).value.clone())
        });
        self.count(if found.is_some() {
            Count::Hits
        } else {
            Count::Misses
        });
        found.flatten()
    }

    /// What a caller is told of what is remembered: then it loads nothing, and is counted.
    pub(super) fn tell_known<F, E>(
        &self,
        call: &mut Call<'_, V>,
        known: Known,
    ) -> Option<Result<F::Given, LoadError<E>>>
    where
        F: Form<V>,
        E: Send + Sync + 'static,
    {
        let told = call.told::<F, E>(known, Source::Hit);
        if told.is_some() {
            self.count(Count::KnownAbsences);
        }
        told
    }

    /// What `load` brings for a key that was not there just now, or what somebody else has brought
    /// meanwhile. `load` is given the old value. `behind` is offered to run the load where the
    /// caller need not wait for it.
    pub(crate) fn load<'e, F, Q, E>(
        &'e self,
        mut call: Call<'_, V>,
        (hash, key): (KeyHash, &Q),
        load: impl FnOnce(Option<V>) -> Result<F::Brought, E>,
        behind: impl Fn(OwnLeader<'e, K, V>, Option<V>) -> Offered<OwnLeader<'e, K, V>>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        if !reentrancy::check() {
            return given::<F, V, E>(load(None), None);
        }
        loop {
            match self.next_step::<F, Q, E>(&mut call, (hash, key), &behind, true) {
                Next::Done(end) => return end,
                Next::Alone(node) => return self.load_alone::<F, E>(&call, &node, load),
                Next::Lead(leader) => {
                    let old = call.old_value().cloned();
                    let (result, _) = run(Arc::clone(leader.node()), || load(old));
                    return self.led::<F, Q, E>(&call, leader, key, Some(result));
                }
                Next::Wait(wait) => {
                    let landing = wait.flight.wait(&self.clock, wait.until);
                    if let Some(end) = self.after_wait::<F, E>(&mut call, wait, landing) {
                        return end;
                    }
                }
            }
        }
    }

    /// The same for a task: waits without blocking, on any executor.
    pub(crate) async fn load_async<'e, F, Q, E, L>(
        &'e self,
        mut call: Call<'_, V>,
        (hash, key): (KeyHash, &Q),
        load: impl FnOnce(Option<V>) -> L,
        behind: impl Fn(OwnLeader<'e, K, V>, Option<V>) -> Offered<OwnLeader<'e, K, V>>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
        L: Future<Output = Result<F::Brought, E>>,
    {
        if !reentrancy::check() {
            return given::<F, V, E>(load(None).await, None);
        }
        loop {
            match self.next_step::<F, Q, E>(&mut call, (hash, key), &behind, false) {
                Next::Done(end) => return end,
                Next::Alone(node) => {
                    return self.load_alone_async::<F, E, L>(&call, &node, load).await;
                }
                Next::Lead(leader) => {
                    let old = call.old_value().cloned();
                    let until = self.hard_end::<E>(call.terms);
                    let node = Arc::clone(leader.node());
                    let (result, _) = run_async(node, || load(old), &self.clock, until).await;
                    return self.led::<F, Q, E>(&call, leader, key, result);
                }
                Next::Wait(wait) => {
                    let landing = wait.flight.landed(&self.clock, wait.until).await;
                    if let Some(end) = self.after_wait::<F, E>(&mut call, wait, landing) {
                        return end;
                    }
                }
            }
        }
    }

    /// Finds out what a caller has to do next. A wait has begun, which blocks its thread or does
    /// not.
    fn next_step<'e, F, Q, E>(
        &'e self,
        call: &mut Call<'_, V>,
        (hash, key): (KeyHash, &Q),
        behind: &impl Fn(OwnLeader<'e, K, V>, Option<V>) -> Offered<OwnLeader<'e, K, V>>,
        blocks: bool,
    ) -> Next<'e, K, V, Result<F::Given, LoadError<E>>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        if let Some(node) = call.take_lone_way() {
            return Next::Alone(node);
        }
        let flight = loop {
            match self.take_role(hash, key, call) {
                Role::Hit(value, source) => {
                    return Next::Done(Ok(give::<F, V>(Some(value), source)));
                }
                Role::Known(known) => {
                    if let Some(end) = self.tell_known::<F, E>(call, known) {
                        return Next::Done(end);
                    }
                }
                Role::Lead(leader) => match self.offer(call, leader, behind) {
                    Lead::Serve(value) => {
                        return Next::Done(Ok(give::<F, V>(Some(value), Source::Hit)));
                    }
                    Lead::Wait(flight) => break flight,
                    Lead::Load(leader) => return Next::Lead(leader),
                },
                Role::Wait(flight) => break flight,
            }
        };
        match self.begin_wait::<E>(call, flight, blocks) {
            MayJoin::Yes(wait) => Next::Wait(wait),
            MayJoin::Alone(flight) => Next::Alone(Arc::clone(flight.node())),
            MayJoin::Reentrant => Next::Done(Err(LoadError::Reentrant)),
        }
    }

    /// Begins to wait for a load, if the call can.
    pub(super) fn begin_wait<E: 'static>(
        &self,
        call: &mut Call<'_, V>,
        flight: Arc<Flight<V>>,
        blocks: bool,
    ) -> MayJoin<V> {
        let (until, limit) = self.limit::<E>(call);
        match Waiting::begin(flight.node(), blocks) {
            MayWait::Reentrant => MayJoin::Reentrant,
            MayWait::Alone => MayJoin::Alone(flight),
            MayWait::Yes(waiting) => {
                if !call.waits_for_own {
                    self.count(Count::Waits);
                }
                MayJoin::Yes(Wait {
                    flight,
                    until,
                    limit,
                    waiting,
                })
            }
        }
    }

    /// Offers a load to who would run it behind the caller, where the caller can leave it.
    fn offer<'e>(
        &'e self,
        call: &mut Call<'_, V>,
        leader: OwnLeader<'e, K, V>,
        behind: &impl Fn(OwnLeader<'e, K, V>, Option<V>) -> Offered<OwnLeader<'e, K, V>>,
    ) -> Lead<'e, K, V> {
        self.count_refresh(call);
        if !call.may_leave() {
            return Lead::Load(leader);
        }
        call.note_offer();
        let flight = Arc::clone(&leader.flight);
        match behind(leader, call.old_value().cloned()) {
            Offered::Taken => {}
            Offered::NoTaker(leader) => return Lead::Load(leader),
            Offered::Refused(leader) => {
                self.count(Count::RefusedRefreshes);
                if !call.is_served() {
                    return Lead::Load(leader);
                }
                leader.give_up();
            }
        }
        match call.leave() {
            Some(old) => Lead::Serve(old),
            None => Lead::Wait(flight),
        }
    }

    /// Counts a load that begins as a refresh, if there is a live value.
    pub(super) fn count_refresh(&self, call: &Call<'_, V>) {
        if call.old.as_ref().is_some_and(|old| old.is_live) {
            self.count(Count::Refreshes);
        }
    }

    /// Until when a caller waits, and why no longer. All its waits together end with the time-outs;
    /// only its patience begins anew with each load.
    fn limit<E: 'static>(&self, call: &mut Call<'_, V>) -> (Deadline, Limit) {
        let began = call.begin(self.clock.now());
        let soft = call.soft_limit();
        let terms = call.terms.filter(|_| !never_fails::<E>());
        let hard = terms.and_then(Freshness::hard_limit);
        let since = call.patience.since.unwrap_or(began);
        let mut first = (after(since, self.policy.lock_timeout), Limit::Patience);
        for (length, limit) in [(soft, Limit::Soft), (hard, Limit::Hard)] {
            if let Some(length) = length
                && after(began, length) < first.0
            {
                first = (after(began, length), limit);
            }
        }
        first
    }

    /// When a load that begins now has taken too long.
    pub(super) fn hard_end<E: 'static>(&self, terms: Option<&Freshness>) -> Deadline {
        let terms = terms.filter(|_| !never_fails::<E>());
        let hard = terms.and_then(Freshness::hard_limit);
        hard.map_or(NEVER, |hard| after(self.clock.now(), hard))
    }

    /// Whether what a flight brought is not older than an invalidation of it that the call began
    /// after. Who joined could not know, since the tags come with the value.
    fn may_get(&self, call: &Call<'_, V>, flight: &Flight<V>) -> bool {
        let (Some(made), Some(since)) = (flight.made(), call.since) else {
            return true;
        };
        let (labels, epoch) = (made.labels.as_slice(), made.epoch);
        since <= epoch || self.register.hold(labels, epoch).is_some()
    }

    /// What a wait came to for its caller; `None` when it has to take another role.
    ///
    /// # Panics
    /// If its own loader, which somebody else ran, has, and there is no old value to serve: it is not
    /// run a second time.
    pub(super) fn after_wait<F, E>(
        &self,
        call: &mut Call<'_, V>,
        wait: Wait<V>,
        landing: Option<Landing<V>>,
    ) -> Option<Result<F::Given, LoadError<E>>>
    where
        F: Form<V>,
        E: Send + Sync + 'static,
    {
        let Wait {
            flight,
            limit,
            waiting,
            ..
        } = wait;
        drop(waiting);
        if landing.is_some() && !self.may_get(call, &flight) {
            return None;
        }
        let has_panicked = call.has_panicked(&flight, landing.as_ref());
        let failed = match &landing {
            _ if has_panicked => true,
            Some(landing) => {
                matches!(
                    landing,
                    Landing::Known(Known::Failed(_)) | Landing::TimedOut
                )
            }
            None => matches!(limit, Limit::Soft | Limit::Hard),
        };
        if failed && call.fallback().is_some() {
            self.count(Count::StaleServed);
            return call.old.take().map(|old| Ok(old.given::<F>()));
        }
        assert!(!has_panicked, "{PANICKED}");
        let source = call.source_of_wait();
        match landing {
            Some(Landing::Loaded(value)) => F::give(Some(V::clone(&value)), source).map(Ok),
            Some(Landing::Known(known)) => call.told::<F, E>(known, source),
            Some(Landing::Unshared(value)) if call.waits_for_own => {
                F::give(Some(V::clone(&value)), source).map(Ok)
            }
            Some(Landing::Unshared(_)) => {
                call.goes_alone = Some(Arc::clone(flight.node()));
                None
            }
            // Who has no error to get cannot be told, and loads for itself.
            Some(Landing::TimedOut) if never_fails::<E>() => None,
            Some(Landing::TimedOut) => Some(Err(LoadError::TimedOut)),
            Some(Landing::Abandoned) => None,
            None if matches!(limit, Limit::Hard) => Some(Err(LoadError::TimedOut)),
            None => {
                call.patience.give_up(flight);
                None
            }
        }
    }

    /// Ends a load that its caller has led with what the loader returned, if it was in time; what
    /// the caller gets.
    fn led<F, Q, E>(
        &self,
        call: &Call<'_, V>,
        leader: OwnLeader<'_, K, V>,
        key: &Q,
        result: Option<Result<F::Brought, E>>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let end = match result {
            Some(result) => leader.settle::<F, Q, E>(key, result, call.old_value(), call.terms),
            None => {
                leader.time_out();
                Err(LoadError::TimedOut)
            }
        };
        self.or_old::<F, E>(call, end)
    }

    /// What a load came to for its caller, or the old value where that is better.
    fn or_old<F, E>(
        &self,
        call: &Call<'_, V>,
        end: Result<F::Given, LoadError<E>>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
    {
        end.or_else(|error| match self.old_of(call) {
            Some(old) => Ok(old.clone().given::<F>()),
            None => Err(error),
        })
    }

    /// The old value that a call is given whose load has failed, if there is one.
    pub(super) fn old_of<'c>(&self, call: &'c Call<'_, V>) -> Option<&'c Old<V>> {
        let old = call.fallback()?;
        if !old.is_live {
            self.count(Count::StaleServed);
        }
        Some(old)
    }

    /// Loads for one caller only: nobody joins it, and nothing is stored.
    fn load_alone<F, E>(
        &self,
        call: &Call<'_, V>,
        instead_of: &Arc<Node>,
        load: impl FnOnce(Option<V>) -> Result<F::Brought, E>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
    {
        let node = call.node_instead_of(instead_of);
        let started = self.load_clock();
        let (result, _) = run(node, || load(None));
        self.loaded_alone::<F, E>(call, started, Some(result))
    }

    async fn load_alone_async<F, E, L>(
        &self,
        call: &Call<'_, V>,
        instead_of: &Arc<Node>,
        load: impl FnOnce(Option<V>) -> L,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        E: 'static,
        L: Future<Output = Result<F::Brought, E>>,
    {
        let node = call.node_instead_of(instead_of);
        let started = self.load_clock();
        let until = self.hard_end::<E>(call.terms);
        let (result, _) = run_async(node, || load(None), &self.clock, until).await;
        self.loaded_alone::<F, E>(call, started, result)
    }

    fn loaded_alone<F, E>(
        &self,
        call: &Call<'_, V>,
        started: Deadline,
        result: Option<Result<F::Brought, E>>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
    {
        self.count_load(started, matches!(result, Some(Ok(_))));
        let end = match result {
            Some(result) => given::<F, V, E>(result, None),
            None => Err(LoadError::TimedOut),
        };
        self.or_old::<F, E>(call, end)
    }
}

impl<K, V> Engine<K, V> {
    /// The clock by which loads are timed, where they are. It is cheap to read: what a tick adds to
    /// one load it takes from another.
    pub(super) fn load_clock(&self) -> Deadline {
        self.counters.as_ref().map_or(0, |_| self.clock.coarse())
    }

    /// Counts a load and its time.
    pub(super) fn count_load(&self, started: Deadline, is_loaded: bool) {
        let ended = if is_loaded {
            Count::Loads
        } else {
            Count::LoadFailures
        };
        self.count_load_until(self.load_clock(), started, ended);
    }

    #[inline]
    pub(super) fn count_load_until(&self, now: Deadline, started: Deadline, ended: Count) {
        if let Some(counters) = &self.counters {
            let spent = now.saturating_sub(started);
            if spent > 0 {
                counters.add(Count::LoadNanoseconds, spent);
            }
            counters.add(ended, 1);
        }
    }

    /// How many loads the sets know of.
    pub(crate) fn loads_under_way(&self) -> usize {
        let (mut loads, mut next) = (0, 0);
        while let Some(inside) = reentrancy::enter()
            && let Some(set) = self.table.lock_next(&inside, next)
        {
            loads += set.loads().len();
            next = set.index() + 1;
        }
        loads
    }
}

/// Whether a loader is of the calls that return a value in any case. They are never timed out.
fn never_fails<E: 'static>() -> bool {
    TypeId::of::<E>() == TypeId::of::<Infallible>()
}

/// Runs a loader, with its load known to the thread; gives the node back.
#[inline]
pub(super) fn run<R>(node: Arc<Node>, load: impl FnOnce() -> R) -> (R, Arc<Node>) {
    let running = Running::enter(node);
    let result = load();
    (result, running.end())
}

/// The same for a loader that is polled; no result when it takes longer than to `until`. Where its
/// future is dropped, so is whoever calls this.
pub(super) async fn run_async<L: Future>(
    node: Arc<Node>,
    load: impl FnOnce() -> L,
    clock: &Clock,
    until: Deadline,
) -> (Option<L::Output>, Arc<Node>) {
    let (mut load, mut loading) = (Some(load), pin!(None));
    let mut time_out = None;
    let mut resting = Some(node);
    poll_fn(|context| {
        let running = Running::enter(resting.take().expect("a node rests between polls"));
        if let Some(load) = load.take() {
            loading.set(Some(load()));
        }
        if let Some(loading) = loading.as_mut().as_pin_mut()
            && let Poll::Ready(output) = loading.poll(context)
        {
            return Poll::Ready((Some(output), running.end()));
        }
        let node = running.end();
        if until != NEVER {
            // Anew at each poll, since the waker may have changed.
            time_out = Some(wake_at(clock, until, context.waker().clone()));
            if clock.has_passed(until) {
                return Poll::Ready((None, node));
            }
        }
        resting = Some(node);
        Poll::Pending
    })
    .await
}

/// What a loader brought, or why not, as its caller gets it.
fn given<F: Form<V>, V: Clone, E>(
    result: Result<F::Brought, E>,
    old: Option<&V>,
) -> Result<F::Given, LoadError<E>> {
    match result {
        Ok(brought) => {
            let value = value_of(F::loaded(brought).what, old);
            Ok(give::<F, V>(value, Source::Loaded))
        }
        Err(error) => Err(LoadError::Failed(Arc::new(error))),
    }
}
