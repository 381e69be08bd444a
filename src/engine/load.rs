//! Loading through the cache: the first caller that misses leads, the others wait for it.
//!
//! A load under way is known to the set of its key, so that "miss, then lead", "finish, then
//! store" and "write, then overtake" are one decision each, under the lock of that set.
//!
//! Threads and tasks share all of it. They differ in two lines: how a loader is run, and how a
//! flight is waited for.

use super::Engine;
use super::leader::{Leader, OwnLeader};
use super::room::Work;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::load::{
    Flight, Form, Freshness, Known, Landing, LoadError, MayWait, Node, PANICKED, Running, Source,
    Spawner, UnderWay, Waiting, give, value_of,
};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{LoadRoom, Ways};
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
use std::time::Duration;

/// What a caller that missed is to do.
pub(super) enum Role<'e, K, V>
where
    K: Eq,
{
    /// The value came meanwhile, or there is one that serves.
    Hit(V, Source),
    /// There is none, as is known.
    Known(Known),
    Lead(OwnLeader<'e, K, V>),
    Wait(Arc<Flight<V>>),
}

/// What becomes of a load that a caller has found under way.
enum Met<'e, K, V>
where
    K: Eq,
{
    /// It is waited for no longer, and the caller leads one, instead of this one if it still runs.
    Ends(Option<UnderWay<K, V>>),
    GoesOn(Role<'e, K, V>),
}

/// One loading call, from its miss to its end.
pub(crate) struct Call<'f, V> {
    as_what: AsWhat,
    /// How fresh the value has to be, where that is asked.
    pub(super) terms: Option<&'f Freshness>,
    /// A value that is there is loaded all the same.
    pub(super) insists: bool,
    /// Its load goes on when the caller has gone away.
    is_left_behind: bool,
    /// Somebody else was asked to run its load. That is done once.
    was_offered: bool,
    /// It waits for a load of its own, which somebody else runs.
    waits_for_own: bool,
    /// When the caller began to load or to wait, once it has.
    began: Option<Deadline>,
    patience: Patience<V>,
    /// What it waited for is not for it, nor would be what others load.
    goes_alone: Option<Arc<Node>>,
    /// What is remembered is of no use to this caller.
    ignores_known: bool,
    /// The epoch at which the call began: what was invalidated up to it, nothing that it gets may
    /// be older than.
    since: Option<u64>,
    old: Option<Old<V>>,
}

/// What a caller has of it with loads of others.
struct Patience<V> {
    /// Since when, if it waits.
    since: Option<Deadline>,
    /// The last flight that took too long.
    given_up: Option<Arc<Flight<V>>>,
}

impl<V> Default for Patience<V> {
    fn default() -> Self {
        Self {
            since: None,
            given_up: None,
        }
    }
}

impl<V> Patience<V> {
    /// Waits no longer for a load.
    fn give_up(&mut self, flight: Arc<Flight<V>>) {
        flight.node().call_off();
        *self = Self {
            since: None,
            given_up: Some(flight),
        };
    }
}

/// How a call's own load is known to others.
#[derive(Clone)]
enum AsWhat {
    Thread,
    Task,
    /// Together with other loads.
    PartOf(Arc<Node>),
}

/// What is there of a key that is loaded all the same.
#[derive(Clone)]
pub(super) struct Old<V> {
    pub(super) value: V,
    /// Its TTL is not over.
    pub(super) is_live: bool,
    /// It is better than an error.
    pub(super) may_serve: bool,
}

impl<V> Old<V> {
    /// The value as an answer, where it is better than none.
    fn given<F: Form<V>>(self) -> F::Given {
        let source = match self.is_live {
            true => Source::Hit,
            false => Source::Stale,
        };
        give::<F, V>(Some(self.value), source)
    }
}

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

/// Which time-out ends a wait.
pub(super) enum Limit {
    Patience,
    Soft,
    Hard,
}

impl<'f, V> Call<'f, V> {
    pub(crate) fn new(is_task: bool, terms: Option<&'f Freshness>) -> Self {
        let as_what = if is_task {
            AsWhat::Task
        } else {
            AsWhat::Thread
        };
        Self {
            terms,
            ..Self::of(as_what)
        }
    }

    /// Another call on the same terms.
    pub(super) fn alike(&self) -> Self {
        Self {
            terms: self.terms,
            insists: self.insists,
            is_left_behind: self.is_left_behind,
            ..Self::of(self.as_what.clone())
        }
    }

    fn of(as_what: AsWhat) -> Self {
        Self {
            as_what,
            terms: None,
            insists: false,
            is_left_behind: false,
            was_offered: false,
            waits_for_own: false,
            began: None,
            patience: Patience::default(),
            goes_alone: None,
            ignores_known: false,
            since: None,
            old: None,
        }
    }

    /// The value is to be loaded even if there is one.
    pub(crate) fn insisting(self) -> Self {
        Self {
            insists: true,
            ..self
        }
    }

    /// What the call loads is loaded to its end though nobody waits for it, if somebody else can be
    /// had to run it.
    pub(crate) fn leaving_behind(self, is_left_behind: bool) -> Self {
        Self {
            is_left_behind,
            ..self
        }
    }

    /// A call, or the next round of it, that loads together with others.
    pub(super) fn join(&mut self, node: &Arc<Node>) {
        self.as_what = AsWhat::PartOf(Arc::clone(node));
    }

    /// Notes that it begins to load or to wait, and says when it did so first.
    pub(super) fn begin(&mut self, now: Deadline) -> Deadline {
        self.patience.since.get_or_insert(now);
        *self.began.get_or_insert(now)
    }

    pub(super) fn node(&self) -> Arc<Node> {
        match &self.as_what {
            AsWhat::Thread => Node::new(false),
            AsWhat::Task => Node::new(true),
            AsWhat::PartOf(node) => Arc::clone(node),
        }
    }

    /// A load that the call leads.
    pub(super) fn depart(&self) -> Arc<Flight<V>> {
        Flight::depart(self.node())
    }

    /// A load for this call only, instead of one that it cannot wait for.
    fn node_instead_of(&self, other: &Arc<Node>) -> Arc<Node> {
        let node = self.node();
        node.goes_instead_of(other);
        node
    }

    /// Whether a load of its own that somebody else ran has panicked.
    fn has_panicked(&self, flight: &Flight<V>, landing: Option<&Landing<V>>) -> bool {
        self.waits_for_own
            && matches!(landing, Some(Landing::Abandoned))
            && flight.node().has_panicked()
    }

    /// Where what a flight brings has come from.
    fn source_of_wait(&self) -> Source {
        match self.waits_for_own {
            true => Source::Loaded,
            false => Source::Joined,
        }
    }

    /// The old value, where it is better than nothing.
    pub(super) fn fallback(&self) -> Option<&Old<V>> {
        let old = self.old.as_ref();
        old.filter(|old| old.may_serve && !self.insists)
    }

    /// After what time the old value is better than to wait on.
    fn soft_limit(&self) -> Option<Duration> {
        self.fallback()
            .and(self.terms)
            .and_then(Freshness::soft_limit)
    }

    fn old_value(&self) -> Option<&V> {
        self.old.as_ref().map(|old| &old.value)
    }

    /// For how long nobody loads after a load of this call that fails.
    fn pause(&self) -> Option<Duration> {
        let terms = self.terms.filter(|_| self.old.is_some());
        terms.map(Freshness::pause)
    }

    fn take_old(&mut self) -> Option<V> {
        self.old.take().map(|old| old.value)
    }

    /// Whether it need not wait for its load, since it has a live value to go on with.
    pub(super) fn is_served(&self) -> bool {
        self.fallback().is_some_and(|old| old.is_live)
    }

    /// A load that it cannot wait for, so that it has to load for itself.
    pub(super) fn take_lone_way(&mut self) -> Option<Arc<Node>> {
        self.goes_alone.take()
    }

    /// Whether somebody else is to run its load: it has something to go on with, or might go away.
    /// Who has no patience left to wait for that loads by itself.
    pub(super) fn may_leave(&self) -> bool {
        let has_value = self.is_served() || self.soft_limit().is_some();
        let is_left_behind = self.is_left_behind && self.patience.given_up.is_none();
        !self.was_offered && (has_value || is_left_behind)
    }

    /// Whether it would run its load on its own thread or task, or at once on another, and so need
    /// not wait for one that is still to be begun, behind the loads of whoever else asks the same few
    /// threads.
    fn runs_loader(&self) -> bool {
        let is_task = match &self.as_what {
            AsWhat::Thread => false,
            AsWhat::Task => true,
            AsWhat::PartOf(node) => node.is_polled(),
        };
        is_task || !self.may_leave()
    }

    /// Notes that somebody is asked to run its load.
    pub(super) fn note_offer(&mut self) {
        self.was_offered = true;
    }

    /// Leaves its load to somebody else, and says what it goes on with. It waits where that is
    /// nothing.
    pub(super) fn leave(&mut self) -> Option<V> {
        if self.is_served() {
            return self.take_old();
        }
        self.waits_for_own = true;
        None
    }
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
    fn refreshes(&self, terms: &Freshness) -> bool {
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

    fn is_due(&self, ways: &Ways<K, V>, way: usize, hash: KeyHash, terms: &Freshness) -> bool {
        let Some(age) = ways.age(way) else {
            return false;
        };
        let from = terms.refresh_from(age, ways.hard_deadline(way), hash.position());
        self.clock.has_passed(from)
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
            if let Some(node) = call.take_lone_way() {
                return self.load_alone::<F, E>(&call, &node, load);
            }
            let flight = match self.take_role(hash, key, &mut call) {
                Role::Hit(value, source) => return Ok(give::<F, V>(Some(value), source)),
                Role::Known(known) => match self.tell_known::<F, E>(&mut call, known) {
                    Some(end) => return end,
                    None => continue,
                },
                Role::Lead(leader) => match self.offer(&mut call, leader, &behind) {
                    Lead::Serve(value) => return Ok(give::<F, V>(Some(value), Source::Hit)),
                    Lead::Wait(flight) => flight,
                    Lead::Load(leader) => {
                        let old = call.old_value().cloned();
                        let (result, _) = run(Arc::clone(leader.node()), || load(old));
                        let end =
                            leader.settle::<F, Q, E>(key, result, call.old_value(), call.terms);
                        return self.or_old::<F, E>(&call, end);
                    }
                },
                Role::Wait(flight) => flight,
            };
            let (until, limit) = self.limit::<E>(&mut call);
            let landing = match Waiting::begin(flight.node(), true) {
                MayWait::Reentrant => return Err(LoadError::Reentrant),
                MayWait::Alone => return self.load_alone::<F, E>(&call, flight.node(), load),
                MayWait::Yes(_waiting) => {
                    self.count_wait(&call);
                    flight.wait(&self.clock, until)
                }
            };
            if let Some(end) = self.after_wait::<F, E>(&mut call, flight, landing, limit) {
                return end;
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
            if let Some(node) = call.take_lone_way() {
                return self.load_alone_async::<F, E, L>(&call, &node, load).await;
            }
            let flight = match self.take_role(hash, key, &mut call) {
                Role::Hit(value, source) => return Ok(give::<F, V>(Some(value), source)),
                Role::Known(known) => match self.tell_known::<F, E>(&mut call, known) {
                    Some(end) => return end,
                    None => continue,
                },
                Role::Lead(leader) => match self.offer(&mut call, leader, &behind) {
                    Lead::Serve(value) => return Ok(give::<F, V>(Some(value), Source::Hit)),
                    Lead::Wait(flight) => flight,
                    Lead::Load(leader) => {
                        let old = call.old_value().cloned();
                        let until = self.hard_end::<E>(call.terms);
                        let load = || load(old);
                        let node = Arc::clone(leader.node());
                        let Some(result) = run_async(node, load, &self.clock, until).await.0 else {
                            leader.time_out();
                            return self.or_old::<F, E>(&call, Err(LoadError::TimedOut));
                        };
                        let end =
                            leader.settle::<F, Q, E>(key, result, call.old_value(), call.terms);
                        return self.or_old::<F, E>(&call, end);
                    }
                },
                Role::Wait(flight) => flight,
            };
            let (until, limit) = self.limit::<E>(&mut call);
            let landing = match Waiting::begin(flight.node(), false) {
                MayWait::Reentrant => return Err(LoadError::Reentrant),
                MayWait::Alone => {
                    return self
                        .load_alone_async::<F, E, L>(&call, flight.node(), load)
                        .await;
                }
                MayWait::Yes(_waiting) => {
                    self.count_wait(&call);
                    flight.landed(&self.clock, until).await
                }
            };
            if let Some(end) = self.after_wait::<F, E>(&mut call, flight, landing, limit) {
                return end;
            }
        }
    }

    pub(super) fn take_role<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        call: &mut Call<'_, V>,
    ) -> Role<'_, K, V>
    where
        Q: ToKey<K> + ?Sized,
    {
        let owned = key.to_key();
        let labels = self.with_group(&owned, Labels::NONE);
        call.waits_for_own = false;
        // Dropped when the lock is released.
        let before = call.old.take();
        let mut kept = Labels::NONE;
        let mut work = self.work();
        let Some(inside) = reentrancy::enter() else {
            return Role::Lead(Leader::new(self, hash, call.depart(), Given::default()));
        };
        let mut set = self.table.lock(&inside, hash);
        // Before anything is looked at, so that what is found to hold is not older. Under the lock,
        // so that no pass of the background misses the load.
        let epoch = self.register.latest();
        call.since.get_or_insert(epoch);
        if let Some(way) = set.find(hash, key)
            && !self.has_fallen(&set, way, set.entry(way))
        {
            match self.see(&set, way, hash, call) {
                Seen::Fresh => {
                    set.note_access(way);
                    work.outbox.discard_key(owned);
                    return Role::Hit(set.entry(way).value.clone(), Source::Hit);
                }
                Seen::Old { serves: true, .. } => {
                    work.outbox.discard_key(owned);
                    work.outbox.count(Count::StaleServed);
                    return Role::Hit(set.entry(way).value.clone(), Source::Stale);
                }
                // While it is loaded everybody gets the old value.
                Seen::Old { is_live: true, .. } if !call.insists && is_loaded(&set, hash, key) => {
                    work.outbox.discard_key(owned);
                    return Role::Hit(set.entry(way).value.clone(), Source::Hit);
                }
                Seen::Old {
                    is_live, may_serve, ..
                } => {
                    let value = set.entry(way).value.clone();
                    kept = set.labels(way).clone();
                    call.old = Some(Old {
                        value,
                        is_live,
                        may_serve,
                    });
                }
                Seen::Gone => {}
            }
        }
        self.overtake_fallen(&mut set, hash, key, &labels, &mut work);
        if call.old.is_none()
            && !call.ignores_known
            && !call.insists
            && let Some(known) = self.known(&set, hash, key)
        {
            work.outbox.discard_key(owned);
            return Role::Known(known);
        }
        let found = set.load_of(hash, key);
        let found = found.map(|load| (Arc::clone(&load.flight), load.has_ended()));
        let mut late = match found {
            None => None,
            // It is known for those that are late, or its leader was dropped where no lock could be
            // taken.
            Some((ended, true)) => set.end_load(&ended),
            Some((found, false)) => match self.meet(&mut set, found, call, &mut work) {
                Met::Ends(late) => late,
                Met::GoesOn(role) => {
                    work.outbox.discard_key(owned);
                    return role;
                }
            },
        };
        let flight = call.depart();
        let load = UnderWay::new(hash, owned, Arc::clone(&flight), epoch);
        // Who insists on a new value is not to find an older one in its place.
        let is_as_good = late.as_mut().filter(|_| !call.insists);
        set.begin_load(load.instead_of(is_as_good), LoadRoom::default());
        work.outbox.discard_load(late);
        drop(set);
        drop(inside);
        let made = Given {
            labels: kept,
            epoch,
        };
        let leader = Leader::new(self, hash, flight, made);
        let leader = leader.pausing(call.pause());
        // What is dropped here is the user's, and may panic: the load has its leader by then, and
        // does not yet lie where what is returned does, which such a panic leaks.
        drop((work, before));
        Role::Lead(leader)
    }

    /// What a caller does about a load that it has found under way.
    fn meet<'e>(
        &'e self,
        set: &mut Ways<K, V>,
        found: Arc<Flight<V>>,
        call: &mut Call<'_, V>,
        work: &mut Work<'_, K, V>,
    ) -> Met<'e, K, V> {
        match &call.patience.given_up {
            None if self.is_overdue(set, &found, call) => {
                found.node().call_off();
                return Met::Ends(set.end_load(&found));
            }
            None => {}
            // The others who wait for it give it up as well, and find what begins now. Nobody has
            // waited for that before it began, so no two begin within one time-out, however many
            // wait: a source that is overloaded is asked by one more, and not by all.
            Some(given_up) if Arc::ptr_eq(given_up, &found) => {
                return Met::Ends(set.end_load(&found));
            }
            // Others gave it up, too, and one of them leads.
            Some(_) => {
                if let Some(old) = call.fallback() {
                    work.outbox.count(Count::StaleServed);
                    return Met::GoesOn(Role::Hit(old.value.clone(), Source::Stale));
                }
                // As long as whoever waits for it longest, or those who come with each load that
                // begins would always be ahead of who came before them.
                call.patience.since = set.await_load(&found, self.clock.now());
            }
        }
        match call.runs_loader() && found.node().call_off_queued() {
            true => Met::Ends(set.end_load(&found)),
            false => Met::GoesOn(Role::Wait(found)),
        }
    }

    /// Whether a load of a task has been waited for as long as anybody has patience. Callers with
    /// shorter time-outs go away before they give one up, so one that nobody polls would be in
    /// their way for ever. A loader that blocks a thread is not begun anew for them: it would block
    /// another one.
    fn is_overdue(
        &self,
        set: &mut Ways<K, V>,
        flight: &Arc<Flight<V>>,
        call: &Call<'_, V>,
    ) -> bool {
        let patience = self.policy.lock_timeout;
        let since = set.await_load(flight, self.clock.now());
        let hard = call.terms.and_then(Freshness::hard_limit);
        let mut limits = call.soft_limit().into_iter().chain(hard);
        flight.node().is_polled()
            && limits.any(|limit| limit < patience)
            && since.is_some_and(|since| self.clock.has_passed(after(since, patience)))
    }

    /// What an entry is to a caller.
    fn see(&self, set: &Ways<K, V>, way: usize, hash: KeyHash, call: &Call<'_, V>) -> Seen {
        let deadline = set.entry(way).deadline();
        let Some(terms) = call.terms.filter(|_| !call.insists) else {
            return match (self.is_live(deadline), call.insists) {
                (true, false) => Seen::Fresh,
                (true, true) => Seen::old(true, true),
                (false, _) => Seen::Gone,
            };
        };
        if self.is_live(deadline) {
            return if self.refreshes(terms) && self.is_due(set, way, hash, terms) {
                Seen::old(true, true)
            } else {
                Seen::Fresh
            };
        }
        match set.age(way).filter(|age| self.is_live(age.gone(deadline))) {
            None => Seen::Gone,
            Some(age) => {
                let may_serve = self.is_live(terms.stale_until(age, deadline));
                let rests = age.retry_at != 0 && self.is_live(age.retry_at);
                Seen::Old {
                    is_live: false,
                    may_serve,
                    serves: may_serve && rests,
                }
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

    pub(super) fn count_wait(&self, call: &Call<'_, V>) {
        if !call.waits_for_own {
            self.count(Count::Waits);
        }
    }

    /// Until when a caller waits, and why no longer. All its waits together end with the time-outs;
    /// only its patience begins anew with each load.
    pub(super) fn limit<E: 'static>(&self, call: &mut Call<'_, V>) -> (Deadline, Limit) {
        let began = call.begin(self.clock.now());
        let soft = call.soft_limit();
        let terms = call.terms.filter(|_| !never_fails::<E>());
        let hard = terms.and_then(Freshness::hard_limit);
        let since = call.patience.since.unwrap_or(began);
        let patience = (after(since, self.policy.lock_timeout), Limit::Patience);
        let limits = [
            soft.map(|soft| (after(began, soft), Limit::Soft)),
            hard.map(|hard| (after(began, hard), Limit::Hard)),
        ];
        let sooner = |first: (Deadline, Limit), other: (Deadline, Limit)| {
            if other.0 < first.0 { other } else { first }
        };
        limits.into_iter().flatten().fold(patience, sooner)
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
        flight: Arc<Flight<V>>,
        landing: Option<Landing<V>>,
        limit: Limit,
    ) -> Option<Result<F::Given, LoadError<E>>>
    where
        F: Form<V>,
        E: Send + Sync + 'static,
    {
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

    /// What a load that its caller has led came to, or the old value where that is better.
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
        self.count_load(started, result.is_ok());
        self.or_old::<F, E>(call, given::<F, V, E>(result, None))
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
        self.count_load(started, result.as_ref().is_some_and(Result::is_ok));
        let end = match result {
            Some(result) => given::<F, V, E>(result, None),
            None => Err(LoadError::TimedOut),
        };
        self.or_old::<F, E>(call, end)
    }
}

/// Whether a load of a key is under way. One whose leader was dropped where no lock could be taken
/// is still known to the set, and is not.
fn is_loaded<K, V, Q>(set: &Ways<K, V>, hash: KeyHash, key: &Q) -> bool
where
    Q: Equivalent<K> + ?Sized,
{
    set.load_of(hash, key).is_some_and(|load| !load.has_ended())
}

/// What an entry is to a caller that loads.
enum Seen {
    Fresh,
    Old {
        is_live: bool,
        may_serve: bool,
        /// It is served without an attempt to load.
        serves: bool,
    },
    Gone,
}

impl Seen {
    fn old(is_live: bool, may_serve: bool) -> Self {
        Self::Old {
            is_live,
            may_serve,
            serves: false,
        }
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

impl<V: Clone> Call<'_, V> {
    /// What it means to a caller that there is no value.
    pub(super) fn told<F, E>(
        &mut self,
        known: Known,
        source: Source,
    ) -> Option<Result<F::Given, LoadError<E>>>
    where
        F: Form<V>,
        E: Send + Sync + 'static,
    {
        let told = match known {
            Known::Absent => F::give(None, source).map(Ok),
            // An error of another type means nothing to this caller, who has to ask for itself;
            // all callers with its type share the one load that comes of it.
            Known::Failed(error) => {
                let own = error.downcast::<E>().ok();
                own.map(|error| Err(LoadError::Failed(error)))
            }
        };
        self.ignores_known = told.is_none();
        told
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
