//! Transactions are seen whole.

use crate::common::{
    CROWDED, Numbers, OF_FOUR_SETS, built, choice, fill, ignore, numbers, write_both,
};
use crate::schedules::check;
use haybox::OnFull;
use shuttle::thread::scope;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn assert_whole(cache: &Numbers, keys: [u32; 2], evicts: bool) {
    let read = cache.transaction(&keys, |tx| {
        Ok::<_, ()>(keys.map(|key| tx.get(&key).copied()))
    });
    let seen = read.expect("the closure returns no error");
    if let [Some(one), Some(other)] = seen {
        assert_eq!(one, other, "a transaction is seen whole");
    } else if !evicts {
        assert_eq!(seen[0], seen[1], "a transaction is seen whole");
    }
}

fn transactions(cache: &Numbers, evicts: bool) {
    let keys = [choice(8), 8 + choice(8)];
    let turned = [keys[1], keys[0]];
    scope(|threads| {
        threads.spawn(move || (1..3).for_each(|value| write_both(cache, keys, value)));
        threads.spawn(move || (3..5).for_each(|value| write_both(cache, turned, value)));
        threads.spawn(move || (0..2).for_each(|_| assert_whole(cache, keys, evicts)));
        threads.spawn(move || (100..102).for_each(|key| ignore(cache.insert(key, 0))));
    });
    assert_whole(cache, turned, evicts);
    cache.validate();
}

#[test]
fn transactions_are_seen_whole_and_never_wait_in_a_circle() {
    check("transactions", || {
        let cache = built(numbers().max_entries(OF_FOUR_SETS));
        transactions(&cache, false);
    });
    check("transactions beside eviction", || {
        let bound = u64::from(2 + choice(2));
        let cache = built(numbers().max_entries(OF_FOUR_SETS).max_weight(bound));
        transactions(&cache, true);
    });
    check("transactions beside growth", || {
        let cache = built(numbers());
        fill(
            &cache,
            if choice(2) == 0 {
                CROWDED - 2
            } else {
                3 * CROWDED + 5
            },
        );
        transactions(&cache, false);
    });
}

#[test]
fn a_transaction_that_finds_no_room_leaves_nothing() {
    check("refused transactions", || {
        let sets = if choice(2) == 0 { 10 } else { OF_FOUR_SETS };
        let builder = numbers().max_entries(sets).max_weight(3);
        let cache = built(builder.on_full(OnFull::Reject));
        let written = AtomicUsize::new(0);
        scope(|threads| {
            for keys in [[1, 2], [13, 4]] {
                let (cache, written) = (&cache, &written);
                threads.spawn(move || {
                    let put = cache.transaction(&keys, |tx| {
                        tx.insert(&keys[0], 1)?;
                        tx.insert(&keys[1], 1)
                    });
                    written.fetch_add(usize::from(put.is_ok()), SeqCst);
                });
            }
            threads.spawn(|| assert!(cache.weight() <= 3));
        });
        assert_eq!(written.load(SeqCst), 1, "there is room for one of the two");
        assert_eq!(cache.len(), 2, "of the other, nothing is left");
        cache.validate();
    });
}
