//! Systems without a tick clock to read: the precise clock for everything.

/// Coarse readings are precise here.
pub(in crate::time) const GUARD: u64 = 0;

#[cfg(unix)]
pub(in crate::time) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(not(unix))]
pub(in crate::time) fn now() -> u64 {
    use std::{sync::LazyLock, time::Instant};
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
}

pub(in crate::time) fn coarse() -> u64 {
    now()
}
