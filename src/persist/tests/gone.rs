//! A directory that is removed or replaced while it is open, and one whose process is forked: what
//! is at its path is another's.

use super::memory::{Memory, Operation};
use super::model::{Store, Write, append, by_hand, dir};
use crate::persist::commit::Commit;
use crate::persist::error::{CommitError, CompactError, OpenError, WriteError};
use crate::persist::hold::hold;
use crate::persist::journal::Place;
use crate::persist::report::HealthState;
use crate::persist::settings::{Settings, SyncPolicy, WhenFull};
use crate::persist::storage::Hold;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Does nothing when it is woken.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

type Image = BTreeMap<PathBuf, Vec<u8>>;

/// Removes the directory, has another store made in it and closed, and says what is there then.
fn replace(memory: &Memory) -> Image {
    memory.remove_dir(&dir());
    let other = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 0..9u8 {
        other.put(b"of the other", &[n]);
        other.journal.sync().unwrap();
        if n % 4 == 3 {
            other.journal.compact().unwrap();
        }
    }
    other.journal.close().unwrap();
    image(memory)
}

fn remove(memory: &Memory) -> Image {
    memory.remove_dir(&dir());
    image(memory)
}

/// What is in the directory.
fn image(memory: &Memory) -> Image {
    let mut image = memory.image();
    image.retain(|path, _| path.starts_with(dir()));
    image
}

fn write(store: &Store) -> Result<u64, WriteError> {
    store.write(&[Write::Put(vec![1], vec![1; 20])])
}

/// A call of a store, and whether it says that the directory is gone.
type Call = fn(&Store) -> bool;

const CALLS: [Call; 5] = [
    |store| {
        // As a cache does, which goes on in memory.
        let put = [Write::Put(vec![1], vec![1; 20])];
        let seq = append(&store.journal, &store.kept, &put);
        let waited = store.journal.wait(seq, Some(Instant::now()));
        matches!(waited, Err(CommitError::DirectoryGone { .. }))
    },
    |store| {
        let compacted = store.journal.compact();
        matches!(compacted, Err(CompactError::DirectoryGone { .. }))
    },
    |store| {
        let copied = store.journal.backup(Path::new("/backup"));
        matches!(copied, Err(CompactError::DirectoryGone { .. }))
    },
    |store| matches!(store.journal.sync(), Err(CommitError::DirectoryGone { .. })),
    |store| {
        let closed = store.journal.close();
        matches!(closed, Err(CommitError::DirectoryGone { .. }))
    },
];

fn ways() -> Vec<Settings> {
    let snapshots = Settings {
        log: false,
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    vec![by_hand(), snapshots]
}

#[test]
fn whatever_is_called_first_finds_out_and_changes_nothing() {
    for settings in ways() {
        // Without a log a wait looks at nothing but what the others have found.
        let least = usize::from(!settings.log);
        for (first, call) in CALLS.iter().enumerate().skip(least) {
            for take in [replace, remove] {
                let memory = Memory::new(1);
                let store = Store::open(&memory.storage(), settings.clone()).unwrap();
                write(&store).unwrap();
                store.journal.sync().unwrap();
                store.journal.compact().unwrap();
                let before = take(&memory);
                assert!(call(&store), "call {first}");
                let refused = write(&store).unwrap_err();
                assert!(matches!(refused, WriteError::DirectoryGone { .. }));
                let health = store.journal.health();
                if health.state != HealthState::Closed {
                    assert_eq!(health.state, HealthState::Troubled);
                    let trouble = health.trouble.unwrap();
                    assert!(trouble.contains("/store was removed"), "{trouble}");
                    assert!(CALLS.iter().all(|call| call(&store)));
                }
                drop(store);
                assert_eq!(image(&memory), before, "after call {first}");
            }
        }
    }
}

/// Who has locked the file of before would keep nobody out.
#[test]
fn a_directory_that_is_replaced_while_it_is_taken_is_not_held() {
    for how in [Hold::Exclusive, Hold::Shared] {
        let memory = Memory::new(1);
        let (disk, storage) = (memory.clone(), memory.storage());
        memory.before(Operation::Lock, 1, move || disk.remove_dir(&dir()));
        let held = hold(&dir(), how, &*storage);
        let Err(OpenError::Disk(error)) = held.map(drop) else {
            panic!("{how:?}: it is held");
        };
        assert!(error.to_string().contains("replaced meanwhile"), "{error}");
        assert!(hold(&dir(), how, &*storage).unwrap().is_some());
    }
}

#[test]
fn who_does_nothing_but_drop_it_changes_nothing() {
    for settings in ways() {
        for take in [replace, remove] {
            for is_synced in [false, true] {
                let memory = Memory::new(1);
                let store = Store::open(&memory.storage(), settings.clone()).unwrap();
                write(&store).unwrap();
                if is_synced {
                    store.journal.sync().unwrap();
                }
                let before = take(&memory);
                drop(store);
                assert_eq!(image(&memory), before);
            }
        }
    }
}

/// Nobody takes the files that a backup would link for those of the store.
#[test]
fn a_compaction_or_a_backup_under_way_finds_out() {
    for is_backup in [false, true] {
        let memory = Memory::new(1);
        // Without a log a backup compacts first.
        let settings = ways().remove(1);
        let store = Store::open(&memory.storage(), settings).unwrap();
        write(&store).unwrap();
        let (disk, taken) = (memory.clone(), Arc::new(Mutex::new(None)));
        let noted = Arc::clone(&taken);
        *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
            if set == 2 {
                *noted.lock().unwrap() = Some(replace(&disk));
            }
        }));
        let failed = if is_backup {
            store.journal.backup(Path::new("/backup")).map(drop)
        } else {
            store.journal.compact().map(drop)
        };
        let is_gone = matches!(failed, Err(CompactError::DirectoryGone { .. }));
        assert!(is_gone, "{failed:?}");
        drop(store);
        assert_eq!(Some(image(&memory)), *taken.lock().unwrap());
        let made = memory.paths().into_iter();
        assert_eq!(made.filter(|path| path.starts_with("/backup")).count(), 0);
    }
}

/// Between any two steps that make something durable by its name.
#[test]
fn a_compaction_looks_again_before_each_of_its_steps() {
    for at in 1..=4 {
        let memory = Memory::new(1);
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        write(&store).unwrap();
        store.journal.sync().unwrap();
        let (disk, taken) = (memory.clone(), Arc::new(Mutex::new(None)));
        let noted = Arc::clone(&taken);
        memory.before(Operation::SyncDir, at, move || {
            *noted.lock().unwrap() = Some(replace(&disk));
        });
        let compacted = store.journal.compact();
        // The last is that of the manifest: then all is done but the clearing away.
        assert_eq!(compacted.is_ok(), at == 4);
        drop(store);
        assert_eq!(Some(image(&memory)), *taken.lock().unwrap(), "step {at}");
    }
}

/// A backup links by names, so between two of them they may become another's.
#[test]
fn a_backup_that_has_linked_files_of_another_is_none() {
    for settings in ways() {
        let memory = Memory::new(1);
        let store = Store::open(&memory.storage(), settings).unwrap();
        write(&store).unwrap();
        // Until its files have the names that those of the other will have.
        store.journal.compact().unwrap();
        store.journal.compact().unwrap();
        let disk = memory.clone();
        memory.before(Operation::Link, 1, move || drop(replace(&disk)));
        let copied = store.journal.backup(Path::new("/backup"));
        assert!(matches!(copied, Err(CompactError::DirectoryGone { .. })));
        assert!(!memory.paths().contains(&PathBuf::from("/backup/MANIFEST")));
        let after = image(&memory);
        drop(store);
        assert_eq!(image(&memory), after);
    }
}

/// The entries are there, and so is the manifest of who came after.
#[test]
fn the_store_that_came_after_is_whole() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    write(&store).unwrap();
    store.journal.sync().unwrap();
    memory.remove_dir(&dir());
    // While it is open, too.
    let other = Store::open(&memory.storage(), by_hand()).unwrap();
    other.put(b"of the other", b"1");
    other.journal.sync().unwrap();
    write(&store).unwrap();
    drop(store);
    let opens = |memory: &Memory, value| {
        let store = Store::open(&memory.copy().storage(), by_hand()).unwrap();
        assert_eq!(store.map().get(&b"of the other"[..]), Some(&vec![value]));
    };
    opens(&memory, b'1');
    other.put(b"of the other", b"2");
    other.journal.close().unwrap();
    opens(&memory, b'2');
}

#[test]
fn the_threads_end_and_nobody_waits_for_ever() {
    for sync in [SyncPolicy::Always, SyncPolicy::Every(Duration::ZERO)] {
        let memory = Memory::new(1);
        let settings = Settings {
            by_hand: false,
            sync,
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let before = replace(&memory);
        let patience = Instant::now() + Duration::from_secs(60);
        let refused = loop {
            match write(&store) {
                Ok(seq) => drop(store.journal.wait(seq, Some(patience))),
                Err(error) => break error,
            }
            assert!(Instant::now() < patience, "nobody finds out");
        };
        assert!(matches!(refused, WriteError::DirectoryGone { .. }));
        let closed = store.journal.close();
        assert!(matches!(closed, Err(CommitError::DirectoryGone { .. })));
        drop(store);
        assert_eq!(image(&memory), before);
    }
}

/// It would write in the place of what its parent writes. There is no waiting either, since the
/// threads are not there.
#[test]
fn a_process_that_was_forked_leaves_the_files_alone() {
    type Call = fn(&Store) -> bool;
    let calls: [Call; 7] = [
        |store| store.journal.wait(1, None).is_err(),
        |store| store.journal.wait(1, Some(Instant::now())).is_err(),
        |store| {
            let mut context = Context::from_waker(Waker::noop());
            let polled = store
                .journal
                .poll_wait(1, &mut context, &mut Place::default());
            matches!(polled, Poll::Ready(Err(CommitError::Closed)))
        },
        |store| store.journal.sync().is_err(),
        |store| store.journal.compact().is_err(),
        |store| store.journal.backup(Path::new("/backup")).is_err(),
        |store| store.journal.close().is_err(),
    ];
    for sync in [SyncPolicy::Always, SyncPolicy::Os] {
        for call in calls {
            let memory = Memory::new(1);
            let settings = Settings { sync, ..by_hand() };
            let store = Store::open(&memory.storage(), settings).unwrap();
            let before = memory.operations();
            store.put(b"key", b"value");
            store.journal.fork();
            assert!(call(&store));
            assert_eq!(store.journal.health().state, HealthState::Closed);
            let refused = store.write(&[Write::Delete(b"key".to_vec())]);
            assert!(matches!(refused, Err(WriteError::Closed)));
            drop(store);
            assert_eq!(memory.operations(), before);
        }
    }
}

/// No thread there makes any: each write would wait for as long as it may, and in vain.
#[test]
fn a_process_that_was_forked_does_not_wait_for_room() {
    let memory = Memory::new(1);
    let settings = Settings {
        when_full: WhenFull::Error,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    store.journal.fork();
    let refused = loop {
        if let Err(error) = write(&store) {
            break error;
        }
    };
    assert!(matches!(refused, WriteError::Closed), "{refused}");
    assert_eq!(store.journal.health().state, HealthState::Closed);
}

/// A thread of the parent may have had the lock of who waits, so what is left there stays.
#[test]
fn a_wait_that_is_dropped_in_a_process_that_was_forked_takes_no_lock() {
    for is_forked in [false, true] {
        let memory = Memory::new(1);
        let settings = Settings {
            by_hand: false,
            sync: SyncPolicy::Always,
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let stall = memory.stall();
        let seq = write(&store).unwrap();
        let waiting = Arc::new(Idle);
        let waker = Waker::from(Arc::clone(&waiting));
        let mut future = Commit::new((), seq, Arc::clone(&store.journal)).into_future();
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        assert_eq!(Arc::strong_count(&waiting), 3);
        if is_forked {
            store.journal.fork();
        }
        drop(future);
        let left = if is_forked { 3 } else { 2 };
        assert_eq!(Arc::strong_count(&waiting), left);
        store.journal.fork_back();
        drop(stall);
    }
}

/// Such a lock is never given back in the child.
#[test]
fn a_process_that_was_forked_closes_without_the_locks_that_others_had() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    let handle = crate::persist::Journal {
        open: Arc::clone(&store.journal),
        recovery: Arc::default(),
        evicts: true,
        gather: None,
    };
    let _locked = store.journal.fork_while_locked();
    assert!(matches!(handle.close(), Err(CommitError::Closed)));
}
