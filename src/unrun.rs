//! What tells that a closure has made a future, where it was to do the work itself.
//!
//! `invalidate_around(keys, || async { … }).await` compiles: the closure returns a future at once,
//! both invalidations are over, and the commit runs when nothing guards it any more. No bound can
//! keep futures out, so debug builds look at the name of the type.

use std::any::type_name;

/// Refuses a closure whose result has to be awaited before anything is done.
///
/// # Panics
/// In debug builds, if `R` is an async block, what an async function returns, or either in its box;
/// or a closure, which has a name like theirs.
#[inline]
#[track_caller]
pub(crate) fn refuse_future<R>(call: &str, instead: &str) {
    assert!(
        !cfg!(debug_assertions) || !is_future(type_name::<R>()),
        "the closure given to {call} returns a future or a closure, which nobody has run when {call} ends: \
         return it in an `Option` if it is to run after that, or else use {instead}"
    );
}

/// A future that the compiler made has no name but that of a closure, by itself or in the box where
/// it is pinned. What only holds or makes futures (a job from a list, a handler) was asked for.
fn is_future(name: &str) -> bool {
    match name.strip_prefix("core::pin::Pin<alloc::boxed::Box<") {
        Some(boxed) => {
            boxed.starts_with("dyn core::future::future::Future")
                || boxed.ends_with("{{closure}}>>")
        }
        None => name.ends_with("{{closure}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::Arc;

    type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

    async fn work() -> u64 {
        7
    }

    fn handler() -> Boxed {
        Box::pin(async {})
    }

    fn is_refused<R>(_of: impl FnOnce() -> R) -> bool {
        is_future(type_name::<R>())
    }

    #[test]
    fn futures_are_told_from_results() {
        assert!(is_refused(|| async { 1 }));
        assert!(is_refused(async || 1));
        assert!(is_refused(work));
        assert!(is_refused(handler));
        assert!(is_refused(|| Box::pin(async { 1 })));

        assert!(!is_refused(|| ()));
        assert!(!is_refused(|| Some(vec![1])));
        assert!(!is_refused(|| Ok::<String, std::io::Error>(String::new())));
    }

    /// A lease may guard a list of jobs, or a table of handlers.
    #[test]
    fn what_holds_or_makes_futures_is_a_result() {
        assert!(!is_refused(|| Vec::<Boxed>::new().pop()));
        assert!(!is_refused(Vec::<Boxed>::new));
        assert!(!is_refused(|| handler as fn() -> Boxed));
        assert!(!is_refused(|| -> Arc<dyn Fn() -> Boxed> {
            Arc::new(handler)
        }));
        assert!(!is_refused(|| Some(|| 1)));
    }
}
