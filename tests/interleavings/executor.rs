//! The least of all executors: it sleeps until it is woken, so a wake-up that is lost is a deadlock,
//! which shuttle reports.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Lets a simulated thread run a future.
#[derive(Default)]
struct Unpark {
    is_woken: shuttle::sync::Mutex<bool>,
    woken: shuttle::sync::Condvar,
}

/// The simulated threads are one thread to the system, so one that panics poisons what the others
/// hold.
fn unpoisoned<T>(held: Result<T, PoisonError<T>>) -> T {
    held.unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        *unpoisoned(self.is_woken.lock()) = true;
        self.woken.notify_all();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        // Another waker for each poll, as an executor may have it that moves tasks about.
        let unpark = Arc::new(Unpark::default());
        let waker = Waker::from(Arc::clone(&unpark));
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut is_woken = unpoisoned(unpark.is_woken.lock());
        while !*is_woken {
            is_woken = unpoisoned(unpark.woken.wait(is_woken));
        }
    }
}

/// Pending once.
pub async fn a_turn() {
    let mut is_second = false;
    poll_fn(|context| {
        if mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
