//! What a limiter has done, in numbers.

use crate::figures::figures;

figures! {
    /// What a limiter has done since it was built. From [`Limiter::stats`](super::Limiter::stats).
    ///
    /// [`Limiter::charge`](super::Limiter::charge) and [`peek`](super::Limiter::peek) are not counted.
    pub struct LimiterStats {
        /// Calls that were allowed.
        pub allowed: u64,
        /// Calls that were refused. One that [waits](super::Wait) is refused if its time is up, and
        /// neither allowed nor refused before the wait is over.
        pub refused: u64,
        /// Keys that take up memory. Idle ones are among them until they are swept.
        pub keys: usize [gauge],
    }
}
