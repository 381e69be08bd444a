//! What tells that a closure has made a future, where it was to do the work itself.
//!
//! `invalidate_around(keys, || async { … }).await` compiles: the closure returns a future at once,
//! both invalidations are over, and the commit runs when nothing guards it any more. No bound can
//! keep futures out, so debug builds look at the name of the type.

use std::any::type_name;

/// Refuses a closure whose result has to be awaited before anything is done.
///
/// # Panics
/// In debug builds, if `R` is an async block, what an async function returns, or a boxed future.
#[inline]
#[track_caller]
pub(crate) fn refuse_future<R>(call: &str, instead: &str) {
    assert!(
        !cfg!(debug_assertions) || !is_future(type_name::<R>()),
        "the closure given to {call} returns a future, which nobody has run when {call} ends; use {instead}"
    );
}

/// A future that a compiler made has no name but that of a closure, and who gives a closure to such
/// a call wants nothing of that kind back.
fn is_future(name: &str) -> bool {
    name.ends_with("{{closure}}") || name.contains("dyn core::future::future::Future")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;

    type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

    async fn work() -> u64 {
        7
    }

    fn is_refused<R>(_of: impl FnOnce() -> R) -> bool {
        is_future(type_name::<R>())
    }

    #[test]
    fn futures_are_told_from_results() {
        assert!(is_refused(|| async { 1 }));
        assert!(is_refused(async || 1));
        assert!(is_refused(work));
        assert!(is_refused(|| -> Boxed { Box::pin(async {}) }));

        assert!(!is_refused(|| ()));
        assert!(!is_refused(|| Some(vec![1])));
        assert!(!is_refused(|| Ok::<String, std::io::Error>(String::new())));
    }
}
