//! The bound in bytes, against what the allocator says. A binary of its own, since the allocator
//! is the whole process's.

use haybox::Cache;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it is; only sizes are counted besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Values of a few hundred bytes and keys of a dozen, by a generator that needs no dependency.
fn entry(number: &mut u64, sizes: u64) -> (String, String) {
    *number = number
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let drawn = *number >> 33;
    (
        format!("key {}", drawn % 60_000),
        "v".repeat((drawn % sizes) as usize),
    )
}

fn churn(bound: u64, sizes: u64) {
    let before = IN_USE.load(Relaxed);
    let cache = Cache::builder()
        .max_memory(bound)
        .weigher(|key: &String, value: &String| (key.capacity() + value.capacity()) as u64)
        .build()
        .unwrap();
    let (mut number, mut most) = (7, 0);
    for round in 0..120_000 {
        let (key, value) = entry(&mut number, sizes);
        match round % 10 {
            8 => drop(cache.get(&key)),
            9 => drop(cache.remove(&key)),
            _ => drop(cache.insert(key, value)),
        }
        assert!(cache.memory() <= bound);
        most = most.max(IN_USE.load(Relaxed) - before);
    }
    let allowed = bound + bound * 15 / 100;
    assert!(
        cache.memory() > bound * 9 / 10,
        "the bound is made use of: {}",
        cache.memory()
    );
    assert!(
        most as u64 <= allowed,
        "{most} bytes in use, {bound} allowed, values up to {sizes}"
    );
    cache.validate();
    drop(cache);
    let left = IN_USE.load(Relaxed) - before;
    assert!(left < 4_096, "{left} bytes are left of the cache");
}

/// One test, so that no other allocates meanwhile.
#[test]
fn the_heap_stays_within_the_bound_and_a_seventh() {
    churn(4 << 20, 700);
    churn(2 << 20, 60);
    churn(8 << 20, 20_000);
}
