//! The system's allocator, which counts when it is told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

/// Counts the bytes that are allocated, as they were asked for: what the allocator adds to each
/// block is not in it, that shows in the resident memory.
///
/// Only the processes that measure memory count. Everywhere else the price is one read of a flag
/// that nobody writes, so that speed is not measured against a shared counter.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

/// Counts from now on, for the rest of the process.
pub fn start_counting() {
    IS_COUNTING.store(true, Relaxed);
}

/// Bytes allocated since counting started, less those given back.
pub fn allocated() -> i64 {
    ALLOCATED.load(Relaxed) as i64
}

#[inline]
fn count(bytes: isize) {
    if IS_COUNTING.load(Relaxed) {
        ALLOCATED.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the block came from this allocator with this layout, so from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as for `dealloc`, and the caller answers for the new size.
        unsafe { System.realloc(block, layout, size) }
    }
}
