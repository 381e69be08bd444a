//! Loading through the cache: what is promised to threads and tasks that ask for one key at once.

mod absences;
mod fences;
mod freshness;
mod late;
mod leaders;
mod many_callers;
mod many_keys;
mod own_times;
mod panics;
mod read_through;
mod read_through_many;
mod sources;
mod tags;
mod tasks;
mod unshared;
mod weighed_absences;

use crate::common::{PATIENCE, SECOND, timed};
use haybox::{BoxedLoad, Cache, CacheBuilder, Freshness, MockClock};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{
    Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc,
};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

/// The threads that load behind callers are those of the whole process, and refuse what is too
/// much. A test that fills them has them alone, and others keep this while they rely on them.
static POOL: RwLock<()> = RwLock::new(());

pub(crate) fn pool() -> RwLockReadGuard<'static, ()> {
    POOL.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn whole_pool() -> RwLockWriteGuard<'static, ()> {
    POOL.write().unwrap_or_else(PoisonError::into_inner)
}

/// So many threads load behind callers at most.
pub(crate) const POOL_THREADS: u32 = 8;

/// All of them, each in a loader that hangs until this is dropped.
pub(crate) struct BusyPool {
    cache: Numbers,
    go_on: Option<mpsc::Sender<()>>,
    _pool: RwLockWriteGuard<'static, ()>,
}

impl BusyPool {
    pub(crate) fn new() -> Self {
        let _pool = whole_pool();
        let due = Freshness::new().refresh_after(SECOND);
        let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| builder.freshness(due));
        cache.insert_many((0..POOL_THREADS).map(|key| (key, 0)));
        time.advance(SECOND);
        let (enter, has_entered) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let hangs = cache.read_through(move |_| {
            enter.send(()).unwrap();
            // All wait until the sender is dropped.
            let _ = may_go_on.lock().unwrap().recv();
            Ok::<u32, ()>(1)
        });
        for key in 0..POOL_THREADS {
            assert_eq!(hangs.get(&key), Ok(Some(0)));
            has_entered.recv_timeout(PATIENCE).unwrap();
        }
        let go_on = Some(go_on);
        Self {
            cache,
            go_on,
            _pool,
        }
    }
}

impl Drop for BusyPool {
    fn drop(&mut self) {
        self.go_on.take();
        while self.cache.loads_under_way() > 0 {
            thread::yield_now();
        }
    }
}

/// A waker that counts how often it is woken, and that a thread can wait for.
#[derive(Default)]
pub(crate) struct Wakes {
    count: AtomicUsize,
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wakes {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Waits until it is woken after the last wait.
    pub(crate) fn wait(&self) {
        let woken = self.woken.lock().unwrap();
        let wait = self
            .changed
            .wait_timeout_while(woken, PATIENCE, |woken| !*woken);
        let (mut woken, result) = wait.unwrap();
        assert!(!result.timed_out(), "nothing woke the task");
        *woken = false;
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, SeqCst);
        *self.woken.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// Runs a future on this thread. No executor, to show that none is needed.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let (wakes, waker) = Wakes::new();
    let mut future = pin!(future);
    loop {
        match poll(future.as_mut(), &waker) {
            Poll::Ready(output) => return output,
            Poll::Pending => wakes.wait(),
        }
    }
}

/// Polls a future once.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Polls a future once, as a task that nobody wakes.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    poll(future, Waker::noop())
}

/// A future that is ready when it is polled for the second time.
pub(crate) async fn a_turn() {
    let mut is_second = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A future that is pending until the test says otherwise.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub(crate) fn open(&self) {
        let wakers = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            std::mem::take(&mut gate.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) async fn pass(&self) {
        poll_fn(|context| {
            let mut gate = self.0.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

type Numbers = Cache<u32, u32>;

/// Tasks that are spawned, for a test to run.
#[derive(Clone, Default)]
struct Spawned(Arc<Mutex<Vec<BoxedLoad>>>);

impl Spawned {
    fn run(&self) {
        for mut task in self.0.lock().unwrap().drain(..) {
            assert!(poll_once(task.as_mut()).is_ready());
        }
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// What a call gets whose load, if it begins one, is run now.
    fn answer<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        if let Poll::Ready(answer) = poll_once(call.as_mut()) {
            return answer;
        }
        self.run();
        block_on(call)
    }
}

/// Entries live for ten seconds, and loads are spawned.
fn spawning(freshness: Freshness) -> (Numbers, MockClock, Spawned) {
    let spawned = Spawned::default();
    let tasks = Spawned::clone(&spawned);
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .max_entries(100)
            .time_to_live(SECOND * 10)
            .freshness(freshness)
            .spawner(move |load| tasks.0.lock().unwrap().push(load))
    });
    (cache, time, spawned)
}

/// Waits until no load is under way.
fn until_settled(cache: &Numbers) {
    while cache.loads_under_way() > 0 {
        thread::yield_now();
    }
}

/// Waits until so many callers wait for a load.
pub(crate) fn until_waiting<K, V>(cache: &Cache<K, V>, waiters: u64) {
    while cache.stats().waits < waiters {
        thread::yield_now();
    }
}

/// No load is left, and everything holds together.
#[track_caller]
pub(crate) fn assert_settled<K, V, S>(cache: &Cache<K, V, S>)
where
    K: std::hash::Hash + Eq,
    S: std::hash::BuildHasher,
{
    assert_eq!(cache.loads_under_way(), 0, "no load is left");
    cache.validate();
}
