//! The end of a cache.

use crate::common::{Fixed, OF_FOUR_SETS, built, choice, seconds};
use crate::schedules::check;
use haybox::{Cache, MockClock, NoEvent};
use shuttle::thread::scope;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A value that is counted while it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, SeqCst);
        Self(Arc::clone(living))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn nothing_outlives_the_last_handle() {
    check("the last handle", || {
        let (time, living) = (MockClock::new(), Arc::new(AtomicUsize::new(0)));
        let builder = Cache::builder()
            .hasher(Fixed::default())
            .clock(time.clock());
        let cache = built(builder.max_entries(if choice(2) == 0 { 2 } else { OF_FOUR_SETS }));
        let events = cache.events(64);
        for key in 0..4 {
            cache.insert_with_ttl(key, Counted::new(&living), seconds(1 + u64::from(key)));
        }
        let (other, living_there) = (cache.clone(), Arc::clone(&living));
        scope(|threads| {
            threads.spawn(|| time.advance(seconds(2)));
            threads.spawn(move || {
                let third = other.clone();
                drop(other);
                third.insert(9, Counted::new(&living_there));
            });
            threads.spawn(move || drop(cache));
        });
        assert_eq!(living.load(SeqCst), 0, "every value was dropped, and once");
        while events.try_recv().is_ok() {}
        assert_eq!(events.try_recv(), Err(NoEvent::Closed));
        time.advance(seconds(10));
    });
}
