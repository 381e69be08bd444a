//! Who waits for whom: finds loads that wait for each other before they do.

use crate::sync::{AtomicBool, ThreadId, current_thread};
use dashmap::DashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LazyLock};

/// Every thread of the process that waits for a load, for all caches together: a cycle may go
/// through several.
static WAITING: LazyLock<DashMap<ThreadId, Edge>> = LazyLock::new(DashMap::new);

/// What a waiting thread waits for.
struct Edge {
    leader: ThreadId,
    /// A thread whose load has landed waits no longer, though it may not have woken yet.
    has_landed: Arc<AtomicBool>,
}

/// The entry of the calling thread while it waits.
pub(crate) struct Waiting(ThreadId);

impl Waiting {
    /// Registers that this thread waits for a load that `leader` leads, or returns `None` when
    /// `leader` waits, through however many others, for this thread.
    ///
    /// Each thread registers before it looks, so of the threads that close a cycle at the same
    /// moment at least one sees it whole.
    pub(crate) fn for_leader(leader: ThreadId, has_landed: Arc<AtomicBool>) -> Option<Self> {
        let own = current_thread().id();
        WAITING.insert(own, Edge { leader, has_landed });
        let waiting = Self(own);
        // A chain longer than there are waiting threads runs in a cycle that others close.
        let longest = WAITING.len() + 1;
        let chain = std::iter::successors(Some(leader), |thread| waits_for(*thread));
        let closes = chain.take(longest).any(|thread| thread == own);
        (!closes).then_some(waiting)
    }
}

fn waits_for(thread: ThreadId) -> Option<ThreadId> {
    let edge = WAITING.get(&thread)?;
    (!edge.has_landed.load(SeqCst)).then_some(edge.leader)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.remove(&self.0);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    fn under_way() -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(false))
    }

    #[test]
    fn waiting_for_oneself_is_a_cycle() {
        assert!(Waiting::for_leader(thread::current().id(), under_way()).is_none());
        assert!(!WAITING.contains_key(&thread::current().id()));
    }

    /// Has another thread wait for this one with the given flag while `check` runs with its id.
    fn while_another_waits(flag: Arc<AtomicBool>, check: impl FnOnce(ThreadId)) {
        let own = thread::current().id();
        let step = Barrier::new(2);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let _waiting = Waiting::for_leader(own, flag).expect("this thread does not wait");
                step.wait();
                step.wait();
            });
            step.wait();
            check(other.thread().id());
            step.wait();
        });
    }

    #[test]
    fn a_cycle_of_two_is_seen_by_the_second() {
        while_another_waits(under_way(), |other| {
            assert!(Waiting::for_leader(other, under_way()).is_none());
        });
    }

    #[test]
    fn a_thread_whose_load_has_landed_closes_no_cycle() {
        let flag = under_way();
        while_another_waits(Arc::clone(&flag), |other| {
            flag.store(true, SeqCst);
            assert!(Waiting::for_leader(other, under_way()).is_some());
        });
    }
}
