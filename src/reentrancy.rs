//! Turns what would be a deadlock into a panic with a sentence.
//!
//! While a thread holds the lock of a set, code of the user may run: `Eq`, `Hash`, `Clone`, the
//! closures of `update`, `compute`, `read`, `retain` and of transactions. If that code called a
//! cache, it could wait for the very lock its own thread holds. One flag per thread, shared by all
//! caches of the process, makes each such call panic instead of depending on which set it hits.
//!
//! The panic is reported where the call was made, by `#[track_caller]` along its way, which the
//! calls do without that are counted by the instruction: a caller's place that is handed down takes
//! two to five of them, 1 to 2 % of a `get` or an `insert`, and 4 to 5 % of a count.

use crate::sync::thread_cell;
use std::cell::Cell;
use std::marker::PhantomData;

thread_cell!(INSIDE: bool = false);

/// Proof that this thread may take the locks of sets. Clears the flag when dropped.
#[derive(Debug)]
pub(crate) struct Inside(PhantomData<*const ()>);

/// Marks this thread as one that holds the lock of a set.
///
/// Returns `None` when the thread already holds one and is unwinding: a second panic would abort
/// the process, so the call then finds nothing and changes nothing.
///
/// # Panics
/// If the thread already holds one.
#[inline]
#[track_caller]
pub(crate) fn enter() -> Option<Inside> {
    if INSIDE.with(|inside| inside.replace(true)) {
        return refuse();
    }
    Some(Inside(PhantomData))
}

/// Whether this thread may go on to take locks, for calls that run user code first or take several
/// locks in turn. `false` where [`enter`] would return `None`.
///
/// # Panics
/// Where `enter` would.
#[inline]
#[track_caller]
pub(crate) fn check() -> bool {
    !INSIDE.with(Cell::get) || refuse().is_some()
}

/// Whether this thread holds the lock of a set.
pub(crate) fn is_inside() -> bool {
    INSIDE.with(Cell::get)
}

#[cold]
#[track_caller]
fn refuse() -> Option<Inside> {
    if std::thread::panicking() {
        return None;
    }
    panic!(
        "haybox was called from inside a closure, Eq, Hash, Clone or Expiry that it runs under the lock of a set; \
         compute the value first, or make the call after the closure has returned"
    );
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(false));
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_second_entry_panics_and_the_first_stays_valid() {
        let inside = enter();
        assert!(inside.is_some());
        let second = std::panic::catch_unwind(enter).unwrap_err();
        let sentence = second.downcast_ref::<String>().map(String::as_str);
        let sentence = sentence.or(second.downcast_ref::<&str>().copied()).unwrap();
        assert!(sentence.starts_with("haybox was called from inside"));
        assert!(std::panic::catch_unwind(check).is_err());
        drop(inside);
        assert!(check());
        assert!(enter().is_some());
    }

    #[test]
    fn a_call_while_unwinding_is_refused_without_a_second_panic() {
        struct CallsOnDrop;
        impl Drop for CallsOnDrop {
            fn drop(&mut self) {
                assert!(enter().is_none());
                assert!(!check());
            }
        }
        let unwound = std::panic::catch_unwind(|| {
            let _inside = enter();
            let _calls = CallsOnDrop;
            panic!("user code fails under the lock");
        });
        assert!(unwound.is_err());
        assert!(enter().is_some(), "the flag is cleared by unwinding");
    }
}
