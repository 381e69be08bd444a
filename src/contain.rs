//! Code of the user's that panics where others must not suffer for it: on the threads of the
//! process, and between the steps of what has to be brought to an end.

use std::any::Any;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs something; `None` if it has panicked, which the hook has reported.
#[inline]
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(payload) => {
            discard(payload);
            None
        }
    }
}

/// Runs something; what it has said, if it has panicked, which the hook has reported.
pub(crate) fn said<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
        let said = said.unwrap_or("no reason given").to_owned();
        discard(payload);
        said
    })
}

/// Awaits something; what it has said, if it has panicked, which the hook has reported.
pub(crate) async fn contained<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(|context| match said(|| work.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(said) => Poll::Ready(Err(said)),
    })
    .await
}

/// Drops what something has panicked with. It is of the user's, and its destructor may panic as
/// well: with another one, which is kept.
#[cold]
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    mem::forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
}

/// What something panics with, and does so again as it is dropped.
#[cfg(test)]
pub(crate) struct Fragile;

#[cfg(test)]
impl Fragile {
    pub(crate) fn throw() -> ! {
        std::panic::resume_unwind(Box::new(Self))
    }
}

#[cfg(test)]
impl Drop for Fragile {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("it breaks"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    #[test]
    fn a_panic_goes_no_further_whatever_it_is_with() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| -> u8 { Fragile::throw() }), None);
        assert!(said(|| -> u8 { Fragile::throw() }).is_err());
    }

    #[test]
    fn a_future_may_panic_at_any_poll() {
        let mut context = Context::from_waker(Waker::noop());
        for panics_at in 0..3 {
            let mut polls = 0;
            let work = poll_fn(|_| {
                polls += 1;
                assert!(polls != panics_at, "at {polls}");
                match polls {
                    2 => Poll::Ready(7),
                    _ => Poll::Pending,
                }
            });
            let mut work = pin!(contained(work));
            let mut poll = || work.as_mut().poll(&mut context);
            let first = poll();
            let (first, second) = match first {
                Poll::Pending => (None, Some(poll())),
                ready => (Some(ready), None),
            };
            let at = |poll| Some(Poll::Ready(Err(format!("at {poll}"))));
            let expected = match panics_at {
                0 => (None, Some(Poll::Ready(Ok(7)))),
                1 => (at(1), None),
                _ => (None, at(2)),
            };
            assert_eq!((first, second), expected);
        }
    }
}
