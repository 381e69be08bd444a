//! The bound in bytes, against what the allocator says. A binary of its own, since the allocator
//! is the whole process's.

use haybox::{Cache, InsertOptions, Loaded, MockClock};
use std::alloc::{GlobalAlloc, Layout, System};
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it is; only sizes are counted besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
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

fn tagged(tags: u64) -> InsertOptions {
    InsertOptions::new().tags(0..tags)
}

fn churn(bound: u64, sizes: u64, most_tags: u64) {
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
            _ => drop(cache.insert_with(key, value, tagged(most_tags.min(1 + number % 8)))),
        }
        assert!(cache.memory() <= bound);
        most = most.max(IN_USE.load(Relaxed) - before);
    }
    assert!(
        cache.memory() > bound * 9 / 10,
        "the bound is made use of: {}",
        cache.memory()
    );
    assert!(
        most as u64 <= allowed(bound),
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
    churn(4 << 20, 700, 0);
    churn(2 << 20, 60, 0);
    churn(8 << 20, 20_000, 0);
    churn(2 << 20, 60, 1);
    churn(2 << 20, 60, 8);
    tags_cost_what_is_said();
    records_are_few_and_forgotten();
    loads_allocate_nothing();
    who_waits_for_a_load_does_not_look_at_what_that_waits_for();
    #[cfg(feature = "session")]
    sessions_that_have_ended_take_memory_as_they_come();
    tags_count_where_nobody_weighs(1);
    tags_count_where_nobody_weighs(8);
    for longest in [20, 300, 20_000] {
        absences_count_with_their_keys(1 << 20, longest, 0);
        absences_count_with_their_keys(2 << 20, longest, 700);
    }
    absences_count_where_nobody_weighs(0);
    absences_count_where_nobody_weighs(5);
}

/// What the heap may hold where `bound` bytes are allowed.
fn allowed(bound: u64) -> u64 {
    bound + bound * 15 / 100
}

/// Watches how much is in use while a cache with a bound is filled, step by step.
fn fill<K, V>(
    cache: Cache<K, V>,
    before: usize,
    bound: u64,
    mut step: impl FnMut(&Cache<K, V>, u64),
) where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let mut most = 0;
    for number in 0..20_000 {
        step(&cache, number);
        assert!(cache.memory() <= bound);
        most = most.max((IN_USE.load(Relaxed) - before) as u64);
    }
    assert!(
        most <= allowed(bound),
        "{most} bytes in use, {bound} allowed"
    );
    assert!(
        most > bound * 7 / 10,
        "the bound is made use of: {most} of {bound}"
    );
    cache.validate();
}

fn bounded_numbers(bound: u64) -> Cache<u64, u64> {
    let builder = Cache::builder().max_memory(bound).negative_ttl(HOUR);
    builder.build().unwrap()
}

fn tags_count_where_nobody_weighs(tags: u64) {
    let (before, bound) = (IN_USE.load(Relaxed), 1 << 20);
    fill(bounded_numbers(bound), before, bound, |cache, number| {
        cache.insert_with(number, number, tagged(tags));
    });
}

/// Ever new names of what does not exist, by a stranger, and between them what does.
fn absences_count_with_their_keys(bound: u64, longest: u64, value: usize) {
    let before = IN_USE.load(Relaxed);
    let builder = Cache::builder()
        .max_memory(bound)
        .weigher(|key: &String, value: &String| (key.capacity() + value.capacity()) as u64)
        .negative_ttl(HOUR)
        .negative_weigher(|key: &String| key.capacity() as u64);
    fill(builder.build().unwrap(), before, bound, |cache, number| {
        let length = (number * 7_919 % longest) as usize;
        let unknown = format!("{number:>length$}");
        assert_eq!(cache.get_or_find_with(&unknown, || None), None);
        if value > 0 {
            cache.insert(format!("key {number}"), "v".repeat(value));
        }
    });
}

fn absences_count_where_nobody_weighs(tags: u64) {
    let (before, bound) = (IN_USE.load(Relaxed), 1 << 20);
    let cache = bounded_numbers(bound);
    let absent = cache.read_through(move |_| Ok::<_, Infallible>(Loaded::absent().tags(0..tags)));
    fill(cache.clone(), before, bound, |_, number| {
        assert_eq!(absent.get(&number).unwrap(), None);
    });
}

const ENTRIES: u64 = 20_000;

fn in_use_by(cache: &Cache<u64, u64>, before: usize) -> usize {
    assert_eq!(cache.len() as u64, ENTRIES);
    IN_USE.load(Relaxed) - before
}

fn tags_cost_what_is_said() {
    let before = IN_USE.load(Relaxed);
    let time = MockClock::new();
    let builder = Cache::builder().clock(time.clock());
    let cache: Cache<u64, u64> = builder.max_entries(ENTRIES as usize).build().unwrap();
    let fill = |tags: u64| {
        for key in 0..ENTRIES {
            cache.insert_with(key, key, tagged(tags));
        }
        // A sweep gives back what is not needed any more.
        cache.invalidate_tag("unknown");
        cache.sweep();
        in_use_by(&cache, before)
    };
    let (plain, one, five) = (fill(0), fill(1), fill(5));
    let each = |bytes: usize| (bytes - plain) as f64 / ENTRIES as f64;
    assert!((24.0..32.0).contains(&each(one)), "{}", each(one));
    assert!((64.0..72.0).contains(&each(five)), "{}", each(five));
    let again = fill(0);
    assert!(again.abs_diff(plain) < 1000, "{again} and not {plain}");
}

fn records_are_few_and_forgotten() {
    let before = IN_USE.load(Relaxed);
    let time = MockClock::new();
    let cache: Cache<u64, u64> = Cache::builder().clock(time.clock()).build().unwrap();
    let mut most = 0;
    for tag in 0..1_000_000 {
        cache.invalidate_tag(&tag);
        most = most.max(IN_USE.load(Relaxed) - before);
    }
    assert!(most < 8 << 20, "{most} bytes for a million invalidations");
    cache.sweep();
    let left = IN_USE.load(Relaxed) - before;
    assert!(left < 16_384, "{left} bytes are left of them");
    drop(cache);
    let left = IN_USE.load(Relaxed) - before;
    assert!(left < 4_096, "{left} bytes are left of the cache");
}

fn loads_allocate_nothing() {
    let time = MockClock::new();
    let builder = Cache::builder().clock(time.clock()).max_entries(100);
    let cache: Cache<u64, u64> = builder.build().unwrap();
    let load = |keys: std::ops::Range<u64>| {
        for key in keys {
            assert_eq!(cache.get_or_insert_with(&key, || key + 1), key + 1);
        }
    };
    // Until the cache is full and has what it needs to evict.
    load(0..10_000);
    let before = ALLOCATIONS.load(Relaxed);
    load(10_000..20_000);
    assert_eq!(ALLOCATIONS.load(Relaxed), before);
}

/// A small store remembers many of them, and is made for few.
#[cfg(feature = "session")]
fn sessions_that_have_ended_take_memory_as_they_come() {
    use haybox::session::{Content, Sessions};
    let before = IN_USE.load(Relaxed);
    let sessions = Sessions::builder().max_sessions(10).build().unwrap();
    for (ended, most) in [(10, 40_000), (1_000, 160_000)] {
        for _ in 0..ended {
            assert!(sessions.end(&sessions.start(Content::new("")).unwrap()));
        }
        let taken = IN_USE.load(Relaxed) - before;
        assert!(taken < most, "{taken} bytes after {ended}");
    }
}

fn who_waits_for_a_load_does_not_look_at_what_that_waits_for() {
    let (few, many) = (allocations_of_who_waits(1), allocations_of_who_waits(2_000));
    assert!(many < few + 50, "{many} allocations, and {few}");
}

/// How often a task allocates that waits for a page, which waits for so many rows.
fn allocations_of_who_waits(rows: u64) -> usize {
    let time = MockClock::new();
    let builder = Cache::builder().clock(time.clock()).max_entries(10_000);
    let cache: Cache<u64, u64> = builder.build().unwrap();
    let (page, rows): (u64, Vec<u64>) = (0, (1..=rows).collect());
    let all_rows = || -> Vec<_> {
        let load = |row| Box::pin(cache.get_or_load(row, pending::<u64>));
        rows.iter().map(load).collect()
    };
    let load_page = || {
        let mut rows = all_rows();
        poll_fn(move |context| {
            for row in &mut rows {
                assert!(row.as_mut().poll(context).is_pending());
            }
            Poll::<u64>::Pending
        })
    };
    let mut context = Context::from_waker(Waker::noop());
    let mut by_others = all_rows();
    for row in &mut by_others {
        assert!(row.as_mut().poll(&mut context).is_pending());
    }
    let mut leader = pin!(cache.get_or_load(&page, load_page));
    assert!(leader.as_mut().poll(&mut context).is_pending());
    let mut waiter = pin!(cache.get_or_load(&page, pending));
    let before = ALLOCATIONS.load(Relaxed);
    assert!(waiter.as_mut().poll(&mut context).is_pending());
    ALLOCATIONS.load(Relaxed) - before
}
