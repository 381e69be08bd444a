//! Going on with loads when the call that has begun them has returned: on a thread of the pool, or
//! in a task of their own.

use super::Engine;
use super::leader::{OwnLeader, SharedLeader};
use super::load::{run, run_async};
use crate::contain::contain;
use crate::load::{Freshness, LoadError, Loaded, Node, Spawner, offer_to_pool};
use crate::sync::Mutex;
use std::hash::Hash;
use std::sync::Arc;

/// Loads that end with one call of a loader, which somebody else than their caller makes. At least
/// one; all have the same node.
///
/// Dropping it gives them up, so that who waits for one of them takes another look.
pub(crate) struct Behind<K, V>
where
    K: Eq,
{
    loads: Vec<Left<K, V>>,
    terms: Option<Freshness>,
}

/// A load that its caller has left to others.
pub(crate) struct Left<K, V>
where
    K: Eq,
{
    leader: SharedLeader<K, V>,
    pub(crate) key: K,
    /// What the loader is shown.
    pub(crate) old: Option<V>,
}

impl<K, V> Behind<K, V>
where
    K: Eq,
{
    pub(crate) fn new<'e>(
        engine: &Arc<Engine<K, V>>,
        loads: impl IntoIterator<Item = (K, OwnLeader<'e, K, V>, Option<V>)>,
        terms: Option<&Freshness>,
    ) -> Self
    where
        K: 'e,
        V: 'e,
    {
        let left = |(key, leader, old): (K, OwnLeader<'e, K, V>, Option<V>)| Left {
            leader: leader.detach(Arc::clone(engine)),
            key,
            old,
        };
        Self {
            loads: loads.into_iter().map(left).collect(),
            terms: terms.cloned(),
        }
    }

    /// Takes the loads back from who would not go on with them.
    pub(crate) fn attach(self, engine: &Engine<K, V>) -> Vec<OwnLeader<'_, K, V>> {
        let attach = |Left { leader, key, old }: Left<K, V>| {
            // Of the user's, whose destructors may panic: before the leader is returned, which
            // would leak then.
            drop((key, old));
            leader.attach(engine)
        };
        self.loads.into_iter().map(attach).collect()
    }

    fn engine(&self) -> &Arc<Engine<K, V>> {
        self.loads[0].leader.shared_engine()
    }

    fn node(&self) -> &Arc<Node> {
        self.loads[0].leader.node()
    }

    /// Begins the loads, if their cache is still there and nobody has called them off.
    fn begin(self) -> Option<Self> {
        if !self.engine().has_handles() {
            return None;
        }
        if self.node().begin_behind() {
            return Some(self);
        }
        self.give_up();
        None
    }

    /// Ends loads that are not begun after all.
    fn give_up(self) {
        let loads = self.loads.into_iter();
        loads.for_each(|load| load.leader.give_up());
    }
}

impl<K, V> Behind<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Has a thread of the pool run `load`, which brings something for each of the loads, in their
    /// order; gives them back when the pool has too many.
    pub(crate) fn give_to_pool<E>(
        self,
        load: impl FnOnce(&[Left<K, V>]) -> Result<Vec<Loaded<V>>, E> + Send + 'static,
    ) -> Result<(), Self>
    where
        E: Send + Sync + 'static,
    {
        let node = Arc::clone(self.node());
        let behind = Arc::new(Mutex::new(Some(self)));
        let of_thread = Arc::clone(&behind);
        let run = move || {
            let taken = of_thread.lock().take();
            if let Some(behind) = taken {
                behind.run(load);
            }
        };
        let in_queue = Arc::downgrade(&behind);
        // Before it is there, so that nobody who needs it takes it for a load that is run.
        node.queue(move || {
            let taken = in_queue.upgrade().and_then(|behind| behind.lock().take());
            // Keys of the user's are dropped, which is nothing to who calls it off.
            if let Some(behind) = taken {
                let _ = contain(|| behind.give_up());
            }
        });
        if offer_to_pool(Box::new(run)).is_ok() {
            return Ok(());
        }
        let taken = behind.lock().take();
        match taken {
            Some(behind) if node.take_back() => Err(behind),
            // Who needs one of them loads it already.
            Some(behind) => {
                behind.give_up();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Has a task run a loader that is polled.
    pub(crate) fn spawn<E, L>(self, spawner: &Spawner, load: impl FnOnce() -> L + Send + 'static)
    where
        E: Send + Sync + 'static,
        L: Future<Output = Result<Vec<Loaded<V>>, E>> + Send + 'static,
    {
        spawner(Box::pin(self.run_async(load)));
    }

    fn run<E>(self, load: impl FnOnce(&[Left<K, V>]) -> Result<Vec<Loaded<V>>, E>)
    where
        E: Send + Sync + 'static,
    {
        let Some(behind) = self.begin() else { return };
        let node = Arc::clone(behind.node());
        let (result, _) = run(node, || load(&behind.loads));
        behind.settle(result.map_err(LoadError::failed));
    }

    async fn run_async<E, L>(self, load: impl FnOnce() -> L)
    where
        E: Send + Sync + 'static,
        L: Future<Output = Result<Vec<Loaded<V>>, E>>,
    {
        let Some(behind) = self.begin() else { return };
        let (node, engine) = (Arc::clone(behind.node()), Arc::clone(behind.engine()));
        let until = engine.hard_end::<E>(behind.terms.as_ref());
        let result = match run_async(node, load, &engine.clock, until).await.0 {
            Some(result) => result.map_err(LoadError::failed),
            None => Err(LoadError::TimedOut),
        };
        behind.settle(result);
    }

    /// Ends the loads with what the loader returned.
    fn settle<E>(mut self, result: Result<Vec<Loaded<V>>, LoadError<E>>)
    where
        E: Send + Sync + 'static,
    {
        let started = self.loads[0].leader.started();
        self.engine().count_load(started, result.is_ok());
        // All of them first: what panics for one ends the others.
        let leaders = self.loads.iter_mut().map(|load| &mut load.leader);
        leaders.for_each(SharedLeader::has_returned);
        let terms = self.terms.as_ref();
        match result {
            Ok(brought) => {
                for (Left { leader, key, old }, loaded) in self.loads.into_iter().zip(brought) {
                    drop(leader.take_in(&key, loaded, old.as_ref(), terms));
                }
            }
            Err(error) => {
                for Left { leader, key, .. } in self.loads {
                    leader.fail_as(&key, &error);
                }
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::Cache;
    use crate::load::BoxedLoad;
    use std::pin::{Pin, pin};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Waker};

    const KEYS: u32 = 2_000;

    type Tasks = Arc<Mutex<Vec<BoxedLoad>>>;

    /// An unbounded cache, which begins with one set, and the tasks that were spawned.
    fn spawning() -> (Cache<u32, u32>, Tasks) {
        let tasks = Tasks::default();
        let spawned = Arc::clone(&tasks);
        let builder = Cache::builder().spawner(move |load| spawned.lock().unwrap().push(load));
        (builder.build().unwrap(), tasks)
    }

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A call whose caller goes away before its load is run, except where it need not wait.
    fn hang_up<T>(call: impl Future<Output = T>) {
        let _ = poll(pin!(call));
    }

    fn run(tasks: &Tasks) {
        for mut task in tasks.lock().unwrap().drain(..) {
            assert!(poll(task.as_mut()).is_ready());
        }
    }

    fn is_crowded(cache: &Cache<u32, u32>) -> bool {
        let engine = cache.engine();
        engine.table.is_crowded(engine.budget.entries.used())
    }

    #[test]
    fn the_table_grows_though_all_callers_have_gone_when_their_loads_end() {
        for refreshes in [false, true] {
            let (cache, tasks) = spawning();
            let rows = cache.read_through_async(|key: u32| async move { Ok::<_, ()>(key) });
            for key in 0..KEYS {
                match refreshes {
                    false => hang_up(rows.get(&key)),
                    true => hang_up(rows.refresh(&key)),
                }
                assert!(!is_crowded(&cache));
                run(&tasks);
            }
            assert_eq!(cache.len(), KEYS as usize);
            cache.validate();
        }
    }

    #[test]
    fn hits_make_the_table_grow_for_what_a_burst_has_stored() {
        let (cache, tasks) = spawning();
        // For more of them, or of many calls, the table would grow as their loads begin.
        let keys: Vec<u32> = (0..500).collect();
        let burst = cache.read_through_many_async(|keys: Vec<u32>| async move {
            Ok::<_, ()>(keys.into_iter().map(|key| (key, key)))
        });
        hang_up(burst.get_many(&keys));
        run(&tasks);
        assert!(is_crowded(&cache));
        let rows = cache.read_through_async(|key: u32| async move { Ok::<_, ()>(key) });
        keys.iter().for_each(|key| hang_up(rows.get(key)));
        assert_eq!(tasks.lock().unwrap().len(), 0);
        assert!(!is_crowded(&cache));
        cache.validate();
    }

    #[test]
    fn the_table_grows_though_all_callers_of_lists_have_gone() {
        let (cache, tasks) = spawning();
        let rows = cache.read_through_many_async(|keys: Vec<u32>| async move {
            Ok::<_, ()>(keys.into_iter().map(|key| (key, key)))
        });
        for first in (0..KEYS).step_by(10) {
            hang_up(rows.get_many(&(first..first + 10).collect::<Vec<_>>()));
            assert!(!is_crowded(&cache));
            run(&tasks);
        }
        assert_eq!(cache.len(), KEYS as usize);
        cache.validate();
    }
}
