//! The locks and atomics of the whole crate, in one place.
//!
//! Normal builds use `parking_lot` and `std`. Under `--cfg shuttle` the same names come from
//! shuttle, so that the interleaving tests run the real table and not a model of it.

#[cfg(not(shuttle))]
mod spin;

#[cfg(not(shuttle))]
pub(crate) use self::spin::{SpinGuard, SpinLock};
/// What the interleaving checker has end at any moment.
#[cfg(not(shuttle))]
pub(crate) use self::wait_until as wait_or_give_up;
#[cfg(all(not(shuttle), feature = "persist"))]
pub(crate) use parking_lot::MutexGuard;
#[cfg(not(shuttle))]
pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
#[cfg(all(not(shuttle), feature = "persist"))]
pub(crate) use std::thread;
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize},
    thread::yield_now,
};

#[cfg(all(shuttle, feature = "persist"))]
pub(crate) use self::checked::MutexGuard;
#[cfg(shuttle)]
pub(crate) use self::checked::{
    Condvar, Mutex, RwLock, SpinGuard, SpinLock, wait, wait_or_give_up, wait_until,
};
#[cfg(all(shuttle, feature = "persist"))]
pub(crate) use shuttle::thread;
#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize},
    thread::yield_now,
};

/// Waits for a notification at most until a point in time; says whether the time was up.
#[cfg(not(shuttle))]
pub(crate) fn wait_until<'m, T>(
    condvar: &Condvar,
    mut guard: parking_lot::MutexGuard<'m, T>,
    until: std::time::Instant,
) -> (parking_lot::MutexGuard<'m, T>, bool) {
    let timed_out = condvar.wait_until(&mut guard, until).timed_out();
    (guard, timed_out)
}

/// Waits for a notification.
#[cfg(not(shuttle))]
pub(crate) fn wait<'m, T>(
    condvar: &Condvar,
    mut guard: parking_lot::MutexGuard<'m, T>,
) -> parking_lot::MutexGuard<'m, T> {
    condvar.wait(&mut guard);
    guard
}

/// A thread-local that the interleaving checker keeps apart for each of its simulated threads.
#[cfg(not(shuttle))]
macro_rules! thread_cell {
    ($name:ident: $type:ty = $value:expr) => {
        std::thread_local! { static $name: std::cell::Cell<$type> = const { std::cell::Cell::new($value) } }
    };
}
#[cfg(shuttle)]
macro_rules! thread_cell {
    ($name:ident: $type:ty = $value:expr) => {
        shuttle::thread_local! { static $name: std::cell::Cell<$type> = std::cell::Cell::new($value) }
    };
}
pub(crate) use thread_cell;

/// Shuttle's locks with the face of `parking_lot`, which knows no poison.
#[cfg(shuttle)]
mod checked {
    use shuttle::rand::Rng;
    pub(crate) use shuttle::sync::{
        MutexGuard, MutexGuard as SpinGuard, RwLockReadGuard, RwLockWriteGuard,
    };
    use std::sync::{TryLockError, TryLockResult};
    use std::time::Instant;

    /// What an attempt got hold of, poisoned or not: the simulated threads are one thread to the
    /// system, so a loader that panics poisons what the others hold at that moment.
    fn held<G>(attempt: TryLockResult<G>) -> Option<G> {
        match attempt {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|error| error.into_inner())
        }
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            held(self.0.try_lock())
        }
        /// Shuttle has no time: never waits.
        pub(crate) fn try_lock_for(&self, _: std::time::Duration) -> Option<MutexGuard<'_, T>> {
            self.try_lock()
        }
    }

    #[derive(Debug)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::RwLock::new(value))
        }
        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(|error| error.into_inner())
        }
        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(|error| error.into_inner())
        }
    }

    pub(crate) type SpinLock<T> = Mutex<T>;

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(shuttle::sync::Condvar::new())
        }
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    pub(crate) fn wait<'m, T>(condvar: &Condvar, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        condvar
            .0
            .wait(guard)
            .unwrap_or_else(|error| error.into_inner())
    }

    /// Shuttle has no time: a wait ends only when it is woken.
    pub(crate) fn wait_until<'m, T>(
        condvar: &Condvar,
        guard: MutexGuard<'m, T>,
        _until: Instant,
    ) -> (MutexGuard<'m, T>, bool) {
        (wait(condvar, guard), false)
    }

    /// As [`wait_until`], for who is prepared for a wait that ends at any moment: its time is up at
    /// once, or never.
    pub(crate) fn wait_or_give_up<'m, T>(
        condvar: &Condvar,
        guard: MutexGuard<'m, T>,
        until: Instant,
    ) -> (MutexGuard<'m, T>, bool) {
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            return (guard, true);
        }
        wait_until(condvar, guard, until)
    }
}
