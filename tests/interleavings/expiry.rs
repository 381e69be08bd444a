//! Entries that expire beside sweeps, writes and reads.

use crate::common::{
    CROWDED, FILLER, Numbers, OF_FOUR_SETS, built, choice, expiring, fill, ignore, known, numbers,
    seconds,
};
use crate::schedules::check;
use haybox::{InsertOptions, MockClock, Op, Outcome};
use shuttle::thread::scope;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

#[test]
fn an_entry_written_while_it_expires_survives() {
    check("writes beside a sweep", || {
        let time = MockClock::new();
        let cache = built(expiring(&time).time_to_live(seconds(10)));
        cache.insert_many((0..4).map(|key| (key, 1)));
        let survives = AtomicBool::new(false);
        scope(|threads| {
            threads.spawn(|| time.advance(seconds(10)));
            threads.spawn(|| ignore(cache.sweep()));
            threads.spawn(|| survives.store(prolong(&cache, 1), SeqCst));
        });
        assert_eq!(cache.contains_key(&1), survives.load(SeqCst));
        assert_eq!(cache.get(&2), None);
        cache.validate();
        cache.sweep();
        assert_eq!(
            cache.len(),
            usize::from(survives.load(SeqCst)),
            "the hints led to the rest"
        );
        time.advance(seconds(100));
        assert_eq!(cache.len(), 0, "the hints led to all of them");
    });
}

/// Gives an entry that is about to expire more time; whether it has it.
fn prolong(cache: &Numbers, key: u32) -> bool {
    match choice(5) {
        0 => {
            cache.insert_with_ttl(key, 2, seconds(50));
            true
        }
        1 => cache.expire(&key, seconds(50)),
        2 => {
            let put = cache.compute(&key, |_| Op::PutWithTtl(2, seconds(50)));
            matches!(put, Outcome::Inserted | Outcome::Replaced(_))
        }
        3 => {
            let done = cache.transaction(&[key, key + 1], |tx| {
                tx.insert_with_ttl(&key, 2, seconds(50))
            });
            done.is_ok()
        }
        _ => {
            let options = InsertOptions::new().ttl(seconds(50)).if_present();
            cache.insert_with(key, 2, options).is_stored()
        }
    }
}

#[test]
fn an_entry_read_in_time_lives_on() {
    check("reads beside a sweep", || {
        let time = MockClock::new();
        let cache = built(expiring(&time).time_to_idle(seconds(10)));
        cache.insert_many((0..3).map(|key| (key, 1)));
        let start = time.clock().system_time();
        let read_at = Mutex::new(None);
        scope(|threads| {
            threads.spawn(|| (0..2).for_each(|_| time.advance(seconds(6))));
            threads.spawn(|| ignore(cache.sweep()));
            threads.spawn(|| {
                let before = time.clock().system_time();
                let read = cache.touch(&1).then_some(before);
                *known(&read_at) = read.filter(|_| time.clock().system_time() == before);
            });
        });
        if let Some(read_at) = *known(&read_at) {
            let lives = read_at > start;
            assert_eq!(cache.contains_key(&1), lives, "idle since {read_at:?}");
        }
        cache.validate();
        time.advance(seconds(20));
        assert_eq!(cache.len(), 0, "the hints led to all of them");
    });
}

#[test]
fn hints_stay_right_beside_sweeps_and_new_deadlines() {
    check("hints", || {
        let time = MockClock::new();
        let cache = built(expiring(&time));
        let ttl = || seconds(u64::from(1 + choice(4)));
        cache.insert_many((50..54).map(|key| (key, 1)));
        for key in 0..3 {
            cache.insert_with_ttl(key, 1, ttl());
        }
        scope(|threads| {
            for first in [10, 20] {
                let (cache, ttl) = (&cache, &ttl);
                threads.spawn(move || {
                    cache.insert_with_ttl(first, 1, ttl());
                    cache.expire(&(50 + choice(4)), ttl());
                    cache.sweep();
                    cache.expire(&choice(3), ttl());
                });
            }
            threads.spawn(|| {
                time.advance(seconds(2));
                cache.sweep();
            });
        });
        cache.validate();
        (50..54).for_each(|key| ignore(cache.remove(&key)));
        time.advance(seconds(100));
        assert_eq!(cache.len(), 0, "the hints led to all of them");
        cache.validate();
    });
}

#[test]
fn hints_stay_right_while_the_table_grows() {
    check("hints during growth", || {
        let time = MockClock::new();
        let cache = built(numbers().clock(time.clock()).time_to_live(seconds(3)));
        fill(&cache, 2 * CROWDED + 5);
        scope(|threads| {
            threads.spawn(|| {
                (0..2).for_each(|key| ignore(cache.insert_with_ttl(key, key, seconds(9))))
            });
            threads.spawn(|| {
                cache.expire(&(FILLER + choice(20)), seconds(1));
                time.advance(seconds(1));
            });
            threads.spawn(|| ignore(cache.sweep()));
        });
        cache.validate();
        time.advance(seconds(2));
        assert_eq!(
            cache.len(),
            2,
            "everything that expired is swept, after the growth too"
        );
        time.advance(seconds(7));
        assert_eq!(cache.len(), 0);
    });
}

#[test]
fn what_has_expired_makes_room_beside_sweeps() {
    check("expiry for room", || {
        let time = MockClock::new();
        let cache = built(expiring(&time).max_weight(6));
        for key in 0..6 {
            cache.insert_with_ttl(key, 1, seconds(if choice(2) == 0 { 5 } else { 50 }));
        }
        scope(|threads| {
            threads.spawn(|| {
                time.advance(seconds(5));
                cache.sweep();
            });
            for first in [100, 200] {
                let cache = &cache;
                threads.spawn(move || {
                    for key in first..first + 2 {
                        assert!(cache.insert_with(key, 1, InsertOptions::new()).is_stored());
                        assert!(cache.weight() <= 6, "never above the bound");
                    }
                });
            }
        });
        cache.validate();
        time.advance(seconds(50));
        assert!(cache.keys().all(|key| key >= 100));
        assert_eq!(
            cache.len(),
            cache.keys().count(),
            "the hints led to all that expired"
        );
    });
}

#[test]
fn what_has_expired_goes_first_while_hints_are_raised() {
    check("expiry beside a sweep that finds nothing", || {
        let time = MockClock::new();
        let builder = numbers().max_entries(OF_FOUR_SETS).max_weight(3);
        // The clock itself is not to sweep.
        let builder = builder.clock(time.clock()).sweep_interval(seconds(100));
        let cache = built(builder);
        cache.insert_with_ttl(0, 1, seconds(1));
        cache.insert_with_ttl(1, 1, seconds(2));
        // The hint of its set stays behind.
        cache.remove(&0);
        cache.insert_many([(2, 1), (3, 1)]);
        time.advance(seconds(1));
        let swept = AtomicUsize::new(0);
        scope(|threads| {
            threads.spawn(|| swept.store(cache.sweep(), SeqCst));
            threads.spawn(|| {
                time.advance(seconds(1));
                cache.insert(4, 1);
            });
        });
        // What the sweep has taken it may have had locked.
        if swept.load(SeqCst) == 0 {
            assert!((2..=4).all(|key| cache.contains_key(&key)), "what lives");
        }
        cache.validate();
    });
}
