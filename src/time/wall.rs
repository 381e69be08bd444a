//! Times of the wall clock as numbers, for what outlives a process.

use std::time::{Duration, SystemTime};

/// The time since 1970; zero for what was before.
pub(crate) fn since_1970(time: SystemTime) -> Duration {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

/// The same in milliseconds.
#[cfg(feature = "persist")]
pub(crate) fn wall_ms(time: SystemTime) -> u64 {
    u64::try_from(since_1970(time).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_1970_was_then() {
        let (epoch, time) = (SystemTime::UNIX_EPOCH, Duration::from_micros(1_999));
        assert_eq!(since_1970(epoch + time), time);
        assert_eq!(since_1970(epoch - time), Duration::ZERO);
        #[cfg(feature = "persist")]
        assert_eq!([epoch + time, epoch, epoch - time].map(wall_ms), [1, 0, 0]);
    }
}
