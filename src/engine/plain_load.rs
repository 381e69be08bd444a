//! The short way through a load: as most of them are.
//!
//! The key is missing and nobody else has begun to load it, and what the loader brings goes in as
//! in `plain.rs`. The look-up that finds the key missing begins the load under the same lock. What
//! is not as simple goes on by the general way, from either end ([`Engine::load`],
//! [`Leader::settle`]).

use super::Engine;
use super::leader::{Leader, OwnLeader};
use super::load::{run, run_async};
use crate::entry::Life;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::load::{
    Crew, Flight, Form, Freshness, Landing, LoadError, Loaded, Node, Source, UnderWay, give,
    value_of,
};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Entry, LoadRoom, Locked, Spare};
use crate::time::{Deadline, Glance, NEVER};
use crate::to_key::ToKey;
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
    /// A live value that is not due to be loaded anew, or the lead of its load where that is
    /// simple.
    #[inline(always)]
    pub(crate) fn start<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        is_task: bool,
        terms: Option<&Freshness>,
    ) -> Start<'_, K, V>
    where
        Q: ToKey<K> + ?Sized,
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
        let mut glance = Glance::NONE;
        let found = set.find_entry_after(hash, key, || glance = self.glance());
        let finds_old = found.is_some();
        if let Some((way, entry)) = found
            && !glance.has_passed(entry.deadline(), &self.clock)
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
        Q: ToKey<K> + ?Sized,
    {
        if !self.policy.is_plain || !set.is_bare() || !set.is_set_of(hash) {
            return None;
        }
        let epoch = self.register.latest();
        let owned = key.to_key();
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
        Q: ToKey<K> + ?Sized,
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
        Q: ToKey<K> + ?Sized,
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
        Q: ToKey<K> + ?Sized,
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
        Ok(give::<F, V>(value, Source::Loaded))
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
            let landing = || Landing::Loaded(Arc::new(value.clone()));
            leader.land(&landing, Labels::NONE);
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::call::Call;
    use super::super::role::Role;
    use super::*;
    use crate::Cache;
    use crate::load::{Known, MayWait, Value, Waiting};
    use std::cell::Cell;
    use std::future::pending;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll, Wake, Waker};

    type Numbers<V = u32> = Cache<u32, V>;
    type Flying<V = u32> = Arc<Flight<V>>;

    /// The first load of an empty set is not a plain one.
    fn cache() -> Numbers {
        let cache = Cache::new(10);
        cache.insert(0, 0);
        cache
    }

    #[track_caller]
    fn lead<V: Clone>(cache: &Numbers<V>, key: u32, is_task: bool) -> PlainLeader<'_, u32, V> {
        let hash = cache.hash(&key);
        match cache.engine().start(hash, &key, is_task, None) {
            Start::Missed(Some(leader)) => leader,
            Start::Missed(None) => panic!("it is as simple as most"),
            Start::Hit(_) => panic!("it is missing"),
        }
    }

    /// Who has a handle of the flight of a key, and has not come to wait for it yet.
    #[track_caller]
    fn join<V: Clone>(cache: &Numbers<V>, key: u32) -> Flying<V> {
        let mut call = Call::new(false, None);
        match cache.engine().take_role(cache.hash(&key), &key, &mut call) {
            Role::Wait(flight) => flight,
            _ => panic!("it is loaded"),
        }
    }

    fn bring<V: Clone>(leader: PlainLeader<'_, u32, V>, key: u32, value: V) {
        let ended = leader.run::<Value, _, ()>(&key, || Ok(value));
        assert!(ended.is_ok());
    }

    /// How a flight has landed, if it has: waits for nothing.
    fn landing<V: Clone>(cache: &Numbers<V>, flight: &Flying<V>) -> Option<Landing<V>> {
        flight.wait(&cache.engine().clock, 0)
    }

    #[track_caller]
    fn brought<V: Clone>(cache: &Numbers<V>, flight: &Flying<V>) -> V {
        match landing(cache, flight) {
            Some(Landing::Loaded(value)) => V::clone(&value),
            Some(_) => panic!("a value was loaded"),
            None => panic!("nobody has landed it"),
        }
    }

    fn flight_of<V>(leader: &PlainLeader<'_, u32, V>) -> *const Flight<V> {
        leader
            .lead
            .flight
            .as_ref()
            .map_or(std::ptr::null(), Arc::as_ptr)
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(wakes));
        future.poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn who_has_not_come_to_wait_yet_gets_the_value_of_its_own_load() {
        let cache = cache();
        let leader = lead(&cache, 1, false);
        let joined = join(&cache, 1);
        bring(leader, 1, 10);
        let other = lead(&cache, 2, false);
        assert_ne!(flight_of(&other), Arc::as_ptr(&joined), "it is in use");
        let joined_other = join(&cache, 2);
        bring(other, 2, 20);
        assert_eq!(brought(&cache, &joined), 10);
        assert_eq!(brought(&cache, &joined_other), 20);
        cache.validate();
    }

    #[test]
    fn who_waits_is_woken_by_its_own_load_and_by_no_other() {
        let cache = cache();
        let wakes = [(); 2].map(|()| Arc::<Wakes>::default());
        let mut waits = [1, 2].map(|key| {
            let cache = cache.clone();
            Box::pin(async move { cache.get_or_load(&key, pending).await })
        });
        for (at, key) in [(0, 1), (1, 2)] {
            let leader = lead(&cache, key, false);
            assert!(poll(waits[at].as_mut(), &wakes[at]).is_pending());
            bring(leader, key, 10 * key);
            let counts = wakes.each_ref().map(|wakes| wakes.0.load(SeqCst));
            assert_eq!(counts, [1, at]);
        }
        assert_eq!(poll(waits[1].as_mut(), &wakes[1]), Poll::Ready(20));
        assert_eq!(poll(waits[0].as_mut(), &wakes[0]), Poll::Ready(10));
        cache.validate();
    }

    /// What makes the tests here tests of something: it is reused, and as good as new.
    #[test]
    fn a_flight_that_nobody_waits_for_any_more_is_that_of_the_next_load() {
        let cache = cache();
        let (gone, there) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        let leader = lead(&cache, 1, false);
        let first = flight_of(&leader);
        let mut left = Box::pin(cache.get_or_load(&1, pending));
        assert!(poll(left.as_mut(), &gone).is_pending());
        drop(left);
        bring(leader, 1, 10);

        let leader = lead(&cache, 2, true);
        assert_eq!(flight_of(&leader), first, "nobody else has a hand in it");
        let mut waits = pin!(cache.get_or_load(&2, pending));
        assert!(poll(waits.as_mut(), &there).is_pending());
        let joined = join(&cache, 2);
        assert!(landing(&cache, &joined).is_none(), "its load has not ended");
        // A task that this thread polls, which is not to be blocked.
        let may_block = Waiting::begin(joined.node(), true);
        assert!(matches!(may_block, MayWait::Alone));
        bring(leader, 2, 20);
        assert_eq!(poll(waits, &there), Poll::Ready(20));
        assert_eq!(brought(&cache, &joined), 20);
        assert_eq!((gone.0.load(SeqCst), there.0.load(SeqCst)), (0, 1));
        cache.validate();
    }

    #[test]
    fn a_flight_of_a_task_may_be_that_of_a_thread_next() {
        let cache = cache();
        let leader = lead(&cache, 1, true);
        let first = flight_of(&leader);
        bring(leader, 1, 10);
        let leader = lead(&cache, 2, false);
        assert_eq!(flight_of(&leader), first);
        let joined = join(&cache, 2);
        let may_block = Waiting::begin(joined.node(), true);
        assert!(matches!(may_block, MayWait::Yes(_)));
        bring(leader, 2, 20);
        cache.validate();
    }

    /// Who looks for circles, or loads instead of it, knows a load by its node.
    #[test]
    fn a_node_that_others_know_is_not_that_of_the_next_load() {
        let cache = cache();
        let leader = lead(&cache, 1, false);
        let known = Arc::clone(join(&cache, 1).node());
        bring(leader, 1, 10);
        let leader = lead(&cache, 2, false);
        assert!(!Arc::ptr_eq(&leader.node, &known));
        let joined = join(&cache, 2);
        assert!(!Arc::ptr_eq(joined.node(), &known));
        bring(leader, 2, 20);
        drop(known);
    }

    #[test]
    fn who_has_joined_is_told_of_an_error() {
        let cache = cache();
        let leader = lead(&cache, 1, false);
        let joined = join(&cache, 1);
        let ended = leader.run::<Value, _, u32>(&1, || Err(7));
        assert!(ended.is_err());
        match landing(&cache, &joined) {
            Some(Landing::Known(Known::Failed(error))) => {
                assert_eq!(error.downcast_ref::<u32>(), Some(&7));
            }
            _ => panic!("the loader has failed"),
        }
    }

    #[test]
    fn who_has_joined_is_told_that_nobody_leads() {
        let cache = cache();
        let leader = lead(&cache, 1, false);
        let joined = join(&cache, 1);
        drop(leader);
        assert!(matches!(landing(&cache, &joined), Some(Landing::Abandoned)));
        bring(lead(&cache, 1, false), 1, 10);
        assert!(matches!(landing(&cache, &joined), Some(Landing::Abandoned)));
        assert_eq!(cache.get(&1), Some(10));
    }

    #[test]
    fn a_load_that_was_overtaken_ends_no_other() {
        let cache = cache();
        let leader = lead(&cache, 1, false);
        let joined = join(&cache, 1);
        cache.remove(&1);
        let other = lead(&cache, 2, false);
        let joined_other = join(&cache, 2);
        bring(leader, 1, 10);
        assert_eq!(brought(&cache, &joined), 10);
        assert!(landing(&cache, &joined_other).is_none());
        assert_eq!(cache.get_many(&[1, 2]), [None, None]);
        bring(other, 2, 20);
        assert_eq!(brought(&cache, &joined_other), 20);
        cache.validate();
    }

    /// A value that another caller asks for while it is copied for the cache: at the last moment at
    /// which somebody can come.
    #[derive(Debug)]
    struct Popular(u32);

    thread_local!(static AT_THE_LAST_MOMENT: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) });

    impl Clone for Popular {
        fn clone(&self) -> Self {
            if let Some(ask) = AT_THE_LAST_MOMENT.take() {
                ask();
            }
            Self(self.0)
        }
    }

    #[test]
    fn who_comes_at_the_last_moment_gets_the_value() {
        let cache: Numbers<Popular> = Cache::new(10);
        cache.insert(0, Popular(0));
        let leader = lead(&cache, 1, false);
        let joined = Arc::new(crate::sync::Mutex::new(None));
        let (of_call, there) = (cache.clone(), Arc::clone(&joined));
        let ask = move || *there.lock() = Some(join(&of_call, 1));
        AT_THE_LAST_MOMENT.set(Some(Box::new(ask)));
        bring(leader, 1, Popular(10));
        let joined = joined.lock().take().expect("it was copied for the cache");
        bring(lead(&cache, 2, false), 2, Popular(20));
        assert_eq!(brought(&cache, &joined).0, 10);
        cache.validate();
    }
}
