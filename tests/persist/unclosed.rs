//! Caches that begin empty where their directory was not closed in peace.

use crate::{dir, killed};
use haybox::persist::{OpenError, Persistence, RecoveryMode};
use haybox::{Cache, RemovalCause};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Prices = Cache<String, u32>;

fn options() -> Persistence {
    Persistence::new().discard_unclosed(true)
}

fn open(dir: &Path) -> Prices {
    Cache::builder().open_with(dir, options()).unwrap()
}

fn closed(cache: &Prices) -> (Option<bool>, u64, u64) {
    let journal = cache.journal().unwrap();
    let report = journal.recovery();
    (report.closed, report.entries, report.discarded)
}

#[test]
fn a_row_that_was_replaced_while_the_process_was_killed_is_not_served_again() {
    let live = dir();
    let prices = open(live.path());
    let (asked, other) = prices.invalidate_around(["plum"], || {
        // A reader loads the old row beside the commit, and it comes to the disk.
        prices.get_or_insert_with("plum", || 45);
        prices.journal().unwrap().clone().sync().unwrap();
        // UPDATE … COMMIT, and then a `kill -9`.
        (killed(&live), killed(&live))
    });
    let unaware: Prices = Cache::builder().open(other.path()).unwrap();
    assert_eq!(unaware.get("plum"), Some(45), "this is what it is against");
    let prices = open(asked.path());
    assert_eq!(prices.get("plum"), None);
    assert_eq!(closed(&prices), (Some(false), 0, 1));
    let report = prices.journal().unwrap().recovery().to_string();
    assert!(report.contains("1 entries discarded"), "{report}");
}

#[test]
fn what_was_closed_is_warm_however_it_was_closed_and_once_it_was_cold_again() {
    let live = dir();
    let prices = open(live.path());
    assert_eq!(closed(&prices), (Some(true), 0, 0));
    prices.insert("plum".into(), 45);
    drop(prices);
    let prices = open(live.path());
    assert_eq!(closed(&prices), (Some(true), 1, 0));
    prices.insert("pear".into(), 30);
    prices.journal().unwrap().close().unwrap();
    drop(prices);
    let prices = open(live.path());
    assert_eq!(closed(&prices), (Some(true), 2, 0));
    let killed = killed(&live);
    let cold = open(killed.path());
    assert_eq!((closed(&cold), cold.len()), ((Some(false), 0, 2), 0));
    cold.validate();
    cold.insert("fig".into(), 80);
    drop(cold);
    let warm = open(killed.path());
    assert_eq!(closed(&warm), (Some(true), 1, 0));
    assert_eq!((warm.get("fig"), warm.get("plum")), (Some(80), None));
}

#[test]
fn what_is_discarded_takes_up_no_room_on_the_disk() {
    let live = dir();
    let prices = open(live.path());
    for number in 0..1_000 {
        prices.insert(number.to_string(), number);
    }
    prices.journal().unwrap().sync().unwrap();
    let killed = killed(&live);
    let cold = open(killed.path());
    assert_eq!(closed(&cold), (Some(false), 0, 1_000));
    let files = std::fs::read_dir(killed.path()).unwrap();
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 1_000, "{bytes} bytes are left");
}

#[test]
fn snapshots_alone_are_as_good_and_as_bad() {
    let live = dir();
    let open = |dir: &Path| -> Prices {
        let options = options().snapshots_only(Duration::from_secs(3_600));
        Cache::builder().open_with(dir, options).unwrap()
    };
    let prices = open(live.path());
    prices.insert("plum".into(), 45);
    prices.journal().unwrap().compact().unwrap();
    let killed = killed(&live);
    drop(prices);
    assert_eq!(closed(&open(killed.path())), (Some(false), 0, 1));
    assert_eq!(closed(&open(live.path())), (Some(true), 1, 0));
}

/// As on a disk that has no room for a snapshot, or for anything.
#[test]
fn what_is_discarded_stays_so_where_no_snapshot_or_no_new_file_can_be_made() {
    let live = dir();
    let prices = open(live.path());
    for number in 0..20_000 {
        prices.insert(number.to_string(), number);
    }
    prices.journal().unwrap().sync().unwrap();
    for (names, unlogged) in [
        (&["snap-N.db.tmp"][..], 0),
        (&["snap-N.db.tmp", "log-N.wal"], 1),
    ] {
        let killed = killed(&live);
        let in_the_way = || {
            let all = (2..9).flat_map(|n| names.iter().map(move |name| (n, name)));
            all.map(|(n, name)| killed.path().join(name.replace('N', &n.to_string())))
        };
        in_the_way().for_each(|path| std::fs::create_dir(path).unwrap());
        let cold = open(killed.path());
        assert_eq!((closed(&cold), cold.len()), ((Some(false), 0, 20_000), 0));
        cold.validate();
        let health = cold.journal().unwrap().health();
        assert_eq!((health.compactions, health.unlogged), (0, unlogged));
        assert_eq!(health.last_seq, 20_001);
        cold.insert("fig".into(), 80);
        if unlogged == 0 {
            cold.journal().unwrap().sync().unwrap();
            let unaware: Prices = Cache::builder()
                .max_entries(1_000_000)
                .open(crate::killed(&killed).path())
                .unwrap();
            assert_eq!((unaware.len(), unaware.get("fig")), (1, Some(80)));
            unaware.validate();
        }
        in_the_way().for_each(|path| drop(std::fs::remove_dir(path)));
        drop(cold);
        let warm = open(killed.path());
        assert_eq!(closed(&warm), (Some(true), 1, 0));
        assert_eq!((warm.get("fig"), warm.get("7")), (Some(80), None));
        warm.validate();
        assert_eq!(warm.stats().removals, 0);
    }
}

#[test]
fn who_only_reads_takes_no_mark_away_and_makes_none() {
    let live = dir();
    let prices = open(live.path());
    prices.insert("plum".into(), 45);
    prices.journal().unwrap().sync().unwrap();
    let killed = killed(&live);
    drop(prices);
    let read = |dir: &Path| -> Prices {
        let options = options().recovery(RecoveryMode::ReadOnly);
        Cache::builder().open_with(dir, options).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(read(live.path()).get("plum"), Some(45));
        assert_eq!(read(killed.path()).get("plum"), None);
    }
    assert_eq!(closed(&open(live.path())), (Some(true), 1, 0));
    assert_eq!(closed(&open(killed.path())), (Some(false), 0, 1));
}

#[test]
fn a_listener_is_told_of_what_is_discarded() {
    let live = dir();
    let prices = open(live.path());
    prices.insert("plum".into(), 45);
    prices.journal().unwrap().sync().unwrap();
    let killed = killed(&live);
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let cold = Cache::builder()
        .removal_listener(move |key: String, value: u32, cause| {
            noted.lock().unwrap().push((key, value, cause));
        })
        .open_with(killed.path(), options())
        .unwrap();
    let expected = ("plum".to_owned(), 45, RemovalCause::Explicit);
    assert_eq!(*told.lock().unwrap(), [expected]);
    assert_eq!(cold.stats().removals, 0, "its life begins now");
}

#[test]
fn a_store_keeps_what_it_has_acknowledged() {
    let dir = dir();
    let path = dir.path().join("accounts");
    let opened = Cache::<u32, u32>::builder().open_store_with(&path, options());
    let Err(error @ OpenError::Build(_)) = opened else {
        panic!("it was opened");
    };
    let text = error.to_string();
    assert!(
        text.contains("discard_unclosed") && text.contains("store"),
        "{text}"
    );
    assert!(!path.exists());
}
