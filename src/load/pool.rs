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
    use crossbeam_channel::{Receiver, Sender, bounded};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::LazyLock;
    use std::thread;

    /// Threads that load. Two, so that one slow source does not hold up all the others.
    const THREADS: usize = 2;

    /// Loads that may wait for one of them.
    const BACKLOG: usize = 256;

    static LOADS: LazyLock<Sender<Behind>> = LazyLock::new(|| {
        let (sender, loads) = bounded(BACKLOG);
        for number in 0..THREADS {
            let loads = Receiver::clone(&loads);
            let thread = thread::Builder::new().name(format!("haybox-loader-{number}"));
            // Where no thread can be started, the queue is soon full, or closed, and refuses.
            let _ = thread.spawn(move || work(&loads));
        }
        sender
    });

    fn work(loads: &Receiver<Behind>) {
        for load in loads {
            // The panic was reported by the hook, and the load has been handed on.
            let _ = catch_unwind(AssertUnwindSafe(load));
        }
    }

    /// Has a thread of the pool run a load; gives it back when there are too many.
    pub(crate) fn offer(load: Behind) -> Result<(), Behind> {
        LOADS.try_send(load).map_err(|refused| refused.into_inner())
    }
}

/// The threads of an interleaving check are simulated, and those of a pool are not.
#[cfg(shuttle)]
pub(crate) fn offer(load: Behind) -> Result<(), Behind> {
    Err(load)
}
