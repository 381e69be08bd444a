//! Waiting for a write: where that can only go wrong, and what it leaves behind.

use crate::Cache;
use crate::persist::commit::Commit;
use crate::persist::error::CommitError;
use crate::persist::options::Persistence;
use crate::persist::store::Store;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Waits when it is dropped.
struct Waits<'c>(&'c Commit<()>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waited = self.0.wait_timeout(Duration::ZERO);
        assert!(matches!(waited, Err(CommitError::Reentrant)));
    }
}

/// The compactor that it waits for would wait for the lock of the set.
#[test]
fn a_wait_inside_a_closure_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, commit) = unsaved(&dir);
    let by_timeout = || _ = store.update(&1, |_| commit.wait_timeout(Duration::ZERO).is_ok());
    let mut other = pin!(store.insert(2, 2).unwrap().into_future());
    let by_poll = || {
        let mut context = Context::from_waker(Waker::noop());
        _ = store.update(&1, |_| other.as_mut().poll(&mut context).is_ready());
    };
    for panic in [
        catch_unwind(AssertUnwindSafe(by_timeout)).unwrap_err(),
        catch_unwind(AssertUnwindSafe(by_poll)).unwrap_err(),
    ] {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap();
        assert!(said.starts_with("haybox was called from inside"), "{said}");
    }
    let unwinding = AssertUnwindSafe(|| {
        store.update(&1, |_| {
            let _waits = Waits(&commit);
            panic!("on purpose");
        })
    });
    assert!(catch_unwind(unwinding).is_err());
    store.journal().compact().unwrap();
    commit.wait().unwrap();
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
