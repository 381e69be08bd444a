//! Waiting for a write: what it leaves behind.

use crate::Cache;
use crate::persist::commit::Commit;
use crate::persist::options::Persistence;
use crate::persist::store::Store;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A store whose writes are not durable before it is closed, and one of them.
fn unsaved(dir: &tempfile::TempDir) -> (Store<u64, u64>, Commit<()>) {
    let options = Persistence::new().snapshots_only(Duration::from_secs(3_600));
    let store = Cache::builder()
        .open_store_with(dir.path(), options)
        .unwrap();
    let commit = store.insert(1, 1).unwrap().map(drop);
    (store, commit)
}

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_wait_that_is_given_up_leaves_no_waker_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, commit) = unsaved(&dir);
    let task = Arc::new(Task);
    let waker = Waker::from(Arc::clone(&task));
    let context = &mut Context::from_waker(&waker);
    let mut waits = pin!(commit.into_future());
    assert!(waits.as_mut().poll(context).is_pending());
    for _ in 0..3 {
        let mut given_up = store.insert(1, 1).unwrap().into_future();
        assert!(pin!(&mut given_up).poll(context).is_pending());
        assert_eq!(Arc::strong_count(&task), 4);
        drop(given_up);
        assert_eq!(Arc::strong_count(&task), 3);
    }
    store.journal().compact().unwrap();
    assert!(matches!(waits.as_mut().poll(context), Poll::Ready(Ok(()))));
}
