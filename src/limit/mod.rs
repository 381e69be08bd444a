//! Rate limits by key: how often somebody may do something.
//!
//! ```
//! use haybox::limit::{Limiter, Quota};
//!
//! // Ten requests a second for each address, and up to thirty at once after a rest.
//! let limiter = Limiter::<String>::new(Quota::per_second(10).burst(30))?;
//! let decision = limiter.check("203.0.113.7");
//! if decision.is_allowed() {
//!     // Serve it.
//! } else {
//!     // Say when it is worth trying again: `decision.retry_after()`.
//! }
//! # assert!(decision.is_allowed());
//! # Ok::<(), haybox::BuildError>(())
//! ```
//!
//! [`check`](Limiter::check) waits for nothing. Who wants to wait until it is allowed calls
//! [`until_ready`](Limiter::until_ready) in a thread, which it blocks, and in a task
//! [`until_ready_async`](Limiter::until_ready_async) or
//! [`until_ready_with_async`](Limiter::until_ready_with_async). Waiters of a key are let in in the
//! order in which they came, and none is woken before its turn; one that is not polled then is passed by
//! after a second or two.
//!
//! # Two ways to count
//!
//! | | [`Quota::new`], [`per_second`](Quota::per_second) … | [`Quota::sliding_window`] |
//! | --- | --- | --- |
//! | algorithm | GCRA, which is a token bucket without a token: the *virtual scheduling algorithm* of ITU-T I.371, annex A | a log of what was allowed |
//! | promise | In any span of time `t` at most `burst + t × limit / period`: a steady rate, and a burst after a rest. | In any span of length `period` at most `limit`, exactly. |
//! | so in one `period` | at most `burst + limit` | at most `limit` |
//! | memory for a key in use | the key and about 30 bytes | the key, about 100 bytes, and 16 for each call of the last `period`, rounded up to a power of two |
//! | time for a call | O(1) | O(1) amortised; O(cost) when refused |
//!
//! Take the first unless a contract says "at most N in any minute".
//!
//! # Costs
//! A call takes 1, or what [`check_n`](Limiter::check_n) is given. What something costs may turn out
//! only when it is done; then [`peek`](Limiter::peek) lets it in and [`charge`](Limiter::charge)
//! takes what it has cost, also where that is more than is left or than is ever free at once: the
//! key is refused until its debt is paid off. What is to count only if it fails, as a log-in, is
//! charged 1 when it has. The promises above are about what is allowed; a charge comes on top of
//! them, and is counted in what is allowed from then on.
//!
//! # Keys
//! A key needs no declaration and no clean-up: it is there with its first call, and its memory is
//! released in the background within 10 s and a sweep interval (1 s) after a full quota is free
//! again, without a call of anybody. There may be millions. An attacker who can invent keys
//! (addresses, user names before they are checked) can fill the memory until then, so limit what
//! he cannot invent first.
//!
//! # Time and threads
//! Time is that of the crate's [`Clock`](crate::Clock): steps of the wall clock change nothing, and
//! time that the machine is suspended counts as time passed. Every call is one atomic step under
//! the lock of one part of the keys, whose decision reads the clock after the lock was taken: at
//! no moment do the checks of concurrent callers get more than the quota. A [`Limiter`] is a handle;
//! clone it into every thread and task. What it has counted ends with the last handle.

mod decision;
mod gcra;
mod limiter;
mod line;
mod quota;
mod stats;
#[cfg(feature = "tower")]
mod tower;
mod wait;
mod waiter;
mod window;

pub use decision::{CostAboveLimit, Decision};
pub use limiter::{Limiter, LimiterBuilder};
pub use quota::Quota;
pub use stats::LimiterStats;
#[cfg(feature = "tower")]
pub use tower::{RateLimit, RateLimitLayer, RateLimited};
pub use wait::{Wait, WaitError};
