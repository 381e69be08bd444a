//! The options of counters, and the one place where they are checked.

use super::Counters;
use super::life::Lives;
use super::recent::Windows;
use crate::BuildError;
use crate::time::Clock;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

/// Builds [`Counters`]. From [`Counters::builder`].
///
/// | option | default |
/// | --- | --- |
/// | [`time_to_live`](Self::time_to_live) | counts stay until they are taken |
/// | [`window`](Self::window) | none |
/// | [`sweep_interval`](Self::sweep_interval) | 1 s |
/// | [`clock`](Self::clock) | the system's |
#[must_use = "a builder does nothing until `build` is called"]
pub struct CountersBuilder<K> {
    time_to_live: Option<Duration>,
    window: Option<Duration>,
    sweep_interval: Duration,
    clock: Clock,
    key: PhantomData<fn(K)>,
}

impl<K> fmt::Debug for CountersBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountersBuilder")
            .field("time_to_live", &self.time_to_live)
            .field("window", &self.window)
            .field("sweep_interval", &self.sweep_interval)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> CountersBuilder<K> {
    pub(super) fn new() -> Self {
        Self {
            time_to_live: None,
            window: None,
            sweep_interval: Duration::from_secs(1),
            clock: Clock::real(),
            key: PhantomData,
        }
    }

    /// How long a key counts from its first count on, more than 0; then it is at 0 again, on the
    /// nanosecond and as a whole. Counting does not prolong it: Redis's `INCR`, and `EXPIRE NX`
    /// with it. Default: for ever.
    ///
    /// Adds 60 bytes and the key once more for each key, and a look at the clock (7 ns on Linux)
    /// to each count.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// The longest time over which [`recent`](Counters::recent) and [`rate`](Counters::rate) look
    /// back, more than 0; a 60th of it is how exact they are. Default: none.
    ///
    /// Adds up to 1 kB for each key and each stripe that counts it, 16 bytes for each 60th of the
    /// window in which there was something to count, and a look at the clock to each count.
    pub fn window(mut self, longest: Duration) -> Self {
        self.window = Some(longest);
        self
    }

    /// The memory of counters whose time is up is released within this time, more than 0. Default:
    /// 1 s.
    pub fn sweep_interval(mut self, sweep_interval: Duration) -> Self {
        self.sweep_interval = sweep_interval;
        self
    }

    /// The clock to go by. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The counters.
    ///
    /// # Errors
    /// If a time is 0.
    pub fn build(self) -> Result<Counters<K>, BuildError> {
        let times = [
            ("time_to_live", self.time_to_live),
            ("window", self.window),
            ("sweep_interval", Some(self.sweep_interval)),
        ];
        for (setting, time) in times {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(BuildError::new(setting, "a time of 0 is no time"));
            }
        }
        let windows = self.window.map(Windows::new);
        let lives = self.time_to_live.map(Lives::new);
        Ok(Counters::with(
            self.clock,
            windows,
            lives,
            self.sweep_interval,
        ))
    }
}
