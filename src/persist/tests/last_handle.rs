//! The last handle of a store goes where the journal itself waits for the thread that drops it.

use crate::Cache;
use crate::persist::options::Persistence;
use crate::persist::store::Store;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

type Entries = Store<u64, u64>;

const ENTRIES: u64 = 1_000;

/// Drops the store that it is given as soon as it is woken and another closes.
struct Drops {
    store: Mutex<Option<Entries>>,
    is_woken: AtomicBool,
    /// It is the last handle.
    is_last: AtomicBool,
}

impl Wake for Drops {
    fn wake(self: Arc<Self>) {
        let Some(store) = self.store.lock().unwrap().take() else {
            return;
        };
        self.is_woken.store(true, SeqCst);
        while !self.is_last.load(SeqCst) || !store.journal().open.is_closing() {
            thread::yield_now();
        }
        // So that the closing has something to make durable.
        let _ = store.insert(ENTRIES, ENTRIES).unwrap();
        let closed = store.journal().close().unwrap_err();
        assert!(matches!(closed, crate::persist::CommitError::Closing));
        drop(store);
    }
}

/// The compactor wakes who waits for its snapshot, and that drops the last handle while the thread
/// that closes waits for the compactor. The snapshot of the closing comes after that.
#[test]
fn it_takes_nothing_from_the_snapshot_that_another_thread_closes_with() {
    let dir = tempfile::tempdir().unwrap();
    let options = Persistence::new().snapshots_only(Duration::from_millis(1));
    let store: Entries = Cache::builder()
        .open_store_with(dir.path(), options)
        .unwrap();
    let drops = Arc::new(Drops {
        store: Mutex::new(Some(store.clone())),
        is_woken: AtomicBool::new(false),
        is_last: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&drops));
    for key in 0..ENTRIES {
        let _ = store.insert(key, key).unwrap();
    }
    let written = loop {
        let mut written = store.insert(0, 0).unwrap().into_future();
        // A snapshot may have come in between.
        let context = &mut Context::from_waker(&waker);
        if std::pin::Pin::new(&mut written).poll(context).is_pending() {
            break written;
        }
    };
    let journal = store.journal().clone();
    drop(store);
    while !drops.is_woken.load(SeqCst) {
        thread::yield_now();
    }
    drops.is_last.store(true, SeqCst);
    let closed = journal.close().unwrap();
    assert_eq!(closed.last_seq, closed.durable_seq);
    drop(written);
    let again: Entries = Cache::builder().open_store(dir.path()).unwrap();
    assert_eq!(again.len() as u64, ENTRIES + 1);
}
