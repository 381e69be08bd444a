//! Two numbers of a thread: its slot, small and given to another thread when it ends, for what is
//! kept apart by thread; and its id, never used again, for who has to be told from all others.

use crate::sync::thread_cell;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// Not yet asked for.
const UNKNOWN: usize = usize::MAX;

/// Of all threads that end and still ask.
const ENDING: usize = UNKNOWN - 1;

std::thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(UNKNOWN) };
    /// Gives the slot back when the thread ends.
    static LEASE: Lease = Lease::take();
}

/// Slots that no living thread has; the lowest goes first, since what is kept by thread may be kept
/// for those only. A mutex of `std`: the threads of an interleaving check are one thread to the
/// system, and this is not what is checked.
static FREE: std::sync::Mutex<BTreeSet<usize>> = std::sync::Mutex::new(BTreeSet::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);

struct Lease(usize);

impl Lease {
    fn take() -> Self {
        let free = FREE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_first();
        Self(free.unwrap_or_else(|| NEXT.fetch_add(1, Relaxed)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What the thread still counts in later destructors goes where all such threads count. The
        // mutex makes its counts visible to the next thread with this slot.
        SLOT.set(ENDING);
        FREE.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(self.0);
    }
}

/// A small number that no other living thread has. Threads that end and still ask share a large one.
#[inline]
pub(crate) fn slot() -> usize {
    let slot = SLOT.get();
    if slot == UNKNOWN { claim_slot() } else { slot }
}

/// The same for who needs none: a thread that has not asked for its slot yet has a large number.
#[inline(always)]
pub(crate) fn slot_if_known() -> usize {
    SLOT.get()
}

#[cold]
fn claim_slot() -> usize {
    let slot = LEASE.try_with(|lease| lease.0).unwrap_or(ENDING);
    SLOT.set(slot);
    slot
}

/// Has this thread be one that ends.
#[cfg(all(test, not(shuttle)))]
pub(crate) fn give_up_slot() {
    SLOT.set(ENDING);
}

thread_cell!(ID: u64 = 0);

/// A number for each thread, since a `ThreadId` fits into no atomic. Never 0.
pub(crate) fn id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ID.with(|id| {
        if id.get() == 0 {
            id.set(NEXT.fetch_add(1, SeqCst));
        }
        id.get()
    })
}
