//! The threads that load behind callers that do not wait.
//!
//! There are few, for all caches of the process together, and they start with the first load that
//! is offered to them. What does not fit into their queue is refused: an old value is served all
//! the same, and the next caller offers the load again.

/// A load that nobody waits for.
pub(crate) type Behind = Box<dyn FnOnce() + Send>;

#[cfg(not(shuttle))]
pub(crate) use threads::offer;

#[cfg(not(shuttle))]
mod threads {
    use super::Behind;
    use crate::contain::contain;
    use crate::process::this_process;
    use crossbeam_channel::{Receiver, Sender, bounded};
    use std::sync::LazyLock;
    use std::thread;

    /// Threads that load. Two, so that one slow source does not hold up all the others.
    const THREADS: usize = 2;

    /// Loads that may wait for one of them.
    const BACKLOG: usize = 256;

    static POOL: LazyLock<Pool> = LazyLock::new(Pool::start);

    struct Pool {
        /// Whose threads they are.
        process: u32,
        loads: Sender<Behind>,
    }

    impl Pool {
        fn start() -> Self {
            let (sender, loads) = bounded(BACKLOG);
            for number in 0..THREADS {
                let loads = Receiver::clone(&loads);
                let thread = thread::Builder::new().name(format!("haybox-loader-{number}"));
                // Where no thread can be started, the queue is soon full, or closed, and refuses.
                let _ = thread.spawn(move || work(&loads));
            }
            Self {
                process: this_process(),
                loads: sender,
            }
        }

        fn offer(&self, load: Behind) -> Result<(), Behind> {
            // A fork copies the queue and none of the threads. What a child put into it would be
            // under way for ever, and whoever needs it wait for the `lock_timeout`.
            if self.process != this_process() {
                return Err(load);
            }
            let offered = self.loads.try_send(load);
            offered.map_err(|refused| refused.into_inner())
        }
    }

    fn work(loads: &Receiver<Behind>) {
        loads.iter().for_each(run);
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
            work(&loads);
            assert_eq!(results.recv(), Ok(()));
        }

        #[test]
        fn a_pool_whose_threads_are_those_of_the_parent_refuses() {
            let (done, results) = bounded(1);
            let load = || -> Behind {
                let done = done.clone();
                Box::new(move || done.send(()).unwrap())
            };
            let mut pool = Pool::start();
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
