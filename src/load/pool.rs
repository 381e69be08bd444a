//! The threads that load behind callers that do not wait.
//!
//! There are few, for all caches of the process together, and each starts with the first load that
//! all others are too busy for. What does not fit into their queue is refused: an old value is
//! served all the same, and the next caller offers the load again. Who cannot go on without what
//! waits in the queue loads it instead.

/// A load that nobody waits for.
pub(crate) type Behind = Box<dyn FnOnce() + Send>;

#[cfg(not(shuttle))]
pub(crate) use threads::offer;

#[cfg(not(shuttle))]
mod threads {
    use super::Behind;
    use crate::contain::contain;
    use crate::process::this_process;
    use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::atomic::{AtomicIsize, AtomicUsize};
    use std::sync::{Arc, LazyLock};
    use std::thread;

    /// The most threads that load: a source that hangs holds up one for each of its keys that are
    /// due, and a database is to be asked by no more at once than it has connections for.
    const THREADS: usize = 8;

    /// Loads that may wait for one of them.
    const BACKLOG: usize = 256;

    static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);

    struct Pool {
        /// Whose threads they are.
        process: u32,
        loads: Sender<Behind>,
        of_threads: Receiver<Behind>,
        /// Those that run or are being started.
        threads: AtomicUsize,
        /// Those that run, to the end of the process.
        running: AtomicUsize,
        start: Box<Start>,
        /// The threads without the loads that are accepted and have not ended: less than none while
        /// some have to wait.
        free: Arc<AtomicIsize>,
    }

    /// Starts a thread with a number that runs the loads; whether it has started.
    type Start = dyn Fn(usize, Receiver<Behind>, Arc<AtomicIsize>) -> bool + Send + Sync;

    impl Pool {
        fn new() -> Self {
            Self::with(Box::new(start))
        }

        fn with(start: Box<Start>) -> Self {
            let (loads, of_threads) = bounded(BACKLOG);
            Self {
                process: this_process(),
                loads,
                of_threads,
                threads: AtomicUsize::new(0),
                running: AtomicUsize::new(0),
                start,
                free: Arc::default(),
            }
        }

        fn offer(&self, load: Behind) -> Result<(), Behind> {
            // A fork copies the queue and none of the threads. What a child put into it would be
            // under way for ever, and whoever needs it wait for the `lock_timeout`.
            if self.process != this_process() {
                return Err(load);
            }
            // Where no thread can be started, nothing is to be in the queue: one that another caller
            // is about to start may not come.
            let is_free = self.free.fetch_sub(1, SeqCst) > 0;
            let is_served = is_free || self.start_another() || self.running.load(SeqCst) > 0;
            let offered = match is_served {
                true => self.loads.try_send(load).map_err(TrySendError::into_inner),
                false => Err(load),
            };
            if offered.is_err() {
                self.free.fetch_add(1, SeqCst);
            }
            offered
        }

        /// Starts a thread, unless there are enough; whether there is one more.
        fn start_another(&self) -> bool {
            let one_more = |threads| (threads < THREADS).then_some(threads + 1);
            let Ok(number) = self.threads.fetch_update(SeqCst, SeqCst, one_more) else {
                return false;
            };
            let has_started = (self.start)(number, self.of_threads.clone(), Arc::clone(&self.free));
            if has_started {
                self.running.fetch_add(1, SeqCst);
                self.free.fetch_add(1, SeqCst);
            } else {
                self.threads.fetch_sub(1, SeqCst);
            }
            has_started
        }
    }

    fn start(number: usize, loads: Receiver<Behind>, free: Arc<AtomicIsize>) -> bool {
        let thread = thread::Builder::new().name(format!("haybox-loader-{number}"));
        thread.spawn(move || work(&loads, &free)).is_ok()
    }

    fn work(loads: &Receiver<Behind>, free: &AtomicIsize) {
        for load in loads {
            run(load);
            free.fetch_add(1, SeqCst);
        }
    }

    fn run(load: Behind) {
        // Of one that panics, the load has been handed on.
        let _ = contain(load);
    }

    /// Has a thread of the pool run a load; gives it back when there are too many, or no thread is
    /// left to run it.
    pub(crate) fn offer(load: Behind) -> Result<(), Behind> {
        POOL.offer(load)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::contain::Fragile;

        #[test]
        fn a_thread_of_the_pool_outlives_what_panics_as_it_is_dropped() {
            let (sender, loads) = bounded::<Behind>(2);
            let (done, results) = bounded(1);
            sender.send(Box::new(|| Fragile::throw())).unwrap();
            sender
                .send(Box::new(move || done.send(()).unwrap()))
                .unwrap();
            drop(sender);
            let free = AtomicIsize::new(-2);
            work(&loads, &free);
            assert_eq!(results.recv(), Ok(()));
            assert_eq!(free.into_inner(), 0);
        }

        #[test]
        fn a_thread_starts_for_each_load_that_all_others_are_too_busy_for() {
            let pool = Pool::new();
            let (go_on, may_go_on) = bounded::<()>(0);
            let (enter, has_entered) = bounded(THREADS + 1);
            let hangs = || -> Behind {
                let (enter, may_go_on) = (enter.clone(), may_go_on.clone());
                Box::new(move || {
                    enter.send(()).unwrap();
                    let _ = may_go_on.recv();
                })
            };
            for threads in 1..=THREADS {
                assert!(pool.offer(hangs()).is_ok());
                assert_eq!(has_entered.recv(), Ok(()));
                assert_eq!(pool.threads.load(SeqCst), threads);
            }
            for _ in 0..BACKLOG {
                assert!(pool.offer(hangs()).is_ok());
            }
            assert!(pool.offer(hangs()).is_err());
            assert!(has_entered.is_empty());
            assert_eq!(pool.free.load(SeqCst), -(BACKLOG as isize));
            drop(go_on);
            (0..BACKLOG).for_each(|_| has_entered.recv().unwrap());
            while pool.free.load(SeqCst) < THREADS as isize {
                thread::yield_now();
            }
            let (done, results) = bounded(1);
            assert!(pool.offer(Box::new(move || done.send(()).unwrap())).is_ok());
            assert_eq!(results.recv(), Ok(()));
            assert_eq!(pool.threads.load(SeqCst), THREADS);
        }

        /// The system gives no thread, and two callers ask for one at once.
        #[test]
        fn nothing_is_left_in_the_queue_of_a_pool_whose_thread_does_not_start() {
            static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::with(Box::new(starts_none)));
            static REFUSED: AtomicUsize = AtomicUsize::new(0);
            fn starts_none(number: usize, _: Receiver<Behind>, _: Arc<AtomicIsize>) -> bool {
                // Another caller, while this one is about to find out.
                let meanwhile = number + 1 < THREADS && POOL.offer(Box::new(|| ())).is_err();
                REFUSED.fetch_add(usize::from(meanwhile), SeqCst);
                false
            }
            assert!(POOL.offer(Box::new(|| ())).is_err());
            assert_eq!(REFUSED.load(SeqCst), THREADS - 1);
            assert!(POOL.of_threads.is_empty());
            assert_eq!((POOL.threads.load(SeqCst), POOL.free.load(SeqCst)), (0, 0));
        }

        #[test]
        fn a_pool_whose_threads_are_those_of_the_parent_refuses() {
            let (done, results) = bounded(1);
            let load = || -> Behind {
                let done = done.clone();
                Box::new(move || done.send(()).unwrap())
            };
            let mut pool = Pool::new();
            assert!(pool.offer(load()).is_ok());
            assert_eq!(results.recv(), Ok(()));
            // As a child has it after a fork.
            pool.process = pool.process.wrapping_add(1);
            assert!(pool.offer(load()).is_err());
        }
    }
}

/// The threads of an interleaving check are simulated, and those of a pool are not.
#[cfg(shuttle)]
pub(crate) fn offer(load: Behind) -> Result<(), Behind> {
    Err(load)
}
