//! Whether a directory was closed in peace: never said where anything is missing, wherever a fault
//! or a crash comes, and said where nothing is.

use super::faults::{lazily, path};
use super::memory::{Fault, How, Memory, Operation};
use super::model::{Map, Store, Write, append};
use crate::persist::settings::Settings;
use std::sync::Arc;

fn asking() -> Settings {
    Settings {
        discards_unclosed: true,
        ..lazily()
    }
}

fn open(memory: &Memory, settings: Settings) -> Store {
    Store::open(&memory.storage(), settings).unwrap()
}

/// What it says, and what is there.
fn found(memory: &Memory) -> (Option<bool>, Map) {
    let store = open(memory, asking());
    (store.report.closed, store.map())
}

/// Three processes, one after the other; what the last one that could open the directory had in
/// memory when it closed.
fn run(memory: &Memory) -> Map {
    let mut map = Map::new();
    for process in 0..3u8 {
        let Ok(store) = Store::open(&memory.storage(), asking()) else {
            continue;
        };
        for n in 0..3u8 {
            // What cannot be written is in memory alone, as in a cache.
            let write = Write::Put(vec![process, n], vec![n]);
            let _ = store.write(&[write]);
            let _ = (n == process).then(|| store.journal.sync());
        }
        let _ = (process == 1).then(|| store.journal.compact());
        map = store.map();
        let _ = store.journal.close();
    }
    map
}

#[test]
fn what_was_closed_is_known_to_be_so_also_after_a_power_cut() {
    let memory = Memory::new(1);
    let map = run(&memory);
    assert_eq!(map.len(), 9);
    memory.crash_dropping_all();
    assert_eq!(found(&memory), (Some(true), map));
}

#[test]
fn what_is_new_needs_not_be_closed_and_who_does_not_ask_is_not_told() {
    let memory = Memory::new(1);
    let store = open(&memory, asking());
    assert_eq!(
        (store.report.closed, store.report.created),
        (Some(true), true)
    );
    drop(store);
    assert_eq!(open(&memory, lazily()).report.closed, None);
}

#[test]
fn what_was_open_when_the_process_ended_was_not_closed() {
    let memory = Memory::new(1);
    run(&memory);
    for settings in [asking(), lazily()] {
        let store = open(&memory, settings);
        // Nothing was written, and nothing is missing; but nobody knows that.
        let killed = memory.copy();
        assert_eq!(found(&killed).0, Some(false));
        drop(store);
    }
    // The last one was closed by who did not ask.
    assert_eq!(found(&memory).0, Some(false));
    assert_eq!(found(&memory).0, Some(true));
}

#[test]
fn a_mark_beside_other_files_says_nothing() {
    let memory = Memory::new(1);
    run(&memory);
    let mark = memory.bytes(&path("CLOSED"));
    let store = open(&memory, asking());
    store.put(b"more", b"1");
    store.journal.close().unwrap();
    for other in [&mark[..], &mark[..mark.len() - 1], b""] {
        let memory = memory.copy();
        memory.put(&path("CLOSED"), other.to_vec());
        assert_eq!(found(&memory).0, Some(false));
    }
    assert_eq!(found(&memory).0, Some(true));
}

/// A cache goes on after that, and what is invalidated then is in memory alone.
#[test]
fn what_is_written_while_it_is_closed_leaves_no_mark() {
    let memory = Memory::new(1);
    let store = open(&memory, asking());
    store.put(b"key", b"old");
    let (journal, kept) = (Arc::clone(&store.journal), Arc::clone(&store.kept));
    // The last thing that is done before the mark: the manifest says how far the log is proven.
    memory.before(Operation::Rename, 1, move || {
        append(&journal, &kept, &[Write::Delete(b"key".to_vec())]);
    });
    store.journal.close().unwrap();
    assert!(store.map().is_empty());
    assert_eq!(found(&memory).0, Some(false));
    assert_eq!(found(&memory).0, Some(true));
}

/// The one that had taken the mark away could not sync that, so the next one has to.
#[test]
fn a_mark_that_was_taken_away_by_an_opening_that_failed_does_not_come_back() {
    let memory = Memory::new(1);
    run(&memory);
    memory.fail_next(1, Some(Operation::SyncDir), How::Broken);
    assert!(Store::open(&memory.storage(), asking()).is_err());
    let store = open(&memory, asking());
    store.put(b"lost", b"1");
    memory.crash_dropping_all();
    assert_eq!(found(&memory).0, Some(false));
}

/// A fault at each operation, for once or for good, and the power is cut at the end.
#[test]
fn nothing_is_missing_of_what_is_said_to_be_closed_whatever_fails() {
    let whole = Memory::new(1);
    run(&whole);
    let (mut closed, mut unclosed) = (0, 0);
    for from in 1..=whole.operations() {
        for (how, count) in [
            (How::Broken, 1),
            (How::Broken, u64::MAX),
            (How::Full, u64::MAX),
        ] {
            for seed in 0..4 {
                let memory = Memory::new(seed);
                memory.fail(Fault {
                    from,
                    count,
                    only: None,
                    how,
                });
                let map = run(&memory);
                memory.heal();
                memory.crash();
                let store = open(&memory, asking());
                match store.report.closed == Some(true) && !store.report.created {
                    false => unclosed += 1,
                    true => {
                        closed += 1;
                        let at = format!("operation {from}, {how:?} {count} times, seed {seed}");
                        assert_eq!(store.map(), map, "{at}: {}", store.report);
                    }
                }
            }
        }
    }
    assert!(
        closed > 20 && unclosed > 200,
        "{closed} closed, {unclosed} not"
    );
}
