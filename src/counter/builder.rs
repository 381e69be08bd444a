//! The options of counters, and the one place where they are checked.

#[cfg(feature = "persist")]
use super::kept::{Kept, flush_every};
use super::life::Lives;
use super::recent::Windows;
use super::{Counters, State};
use crate::build_error::{BuildError, SettingsOf};
#[cfg(feature = "persist")]
use crate::cache::Cache;
use crate::hash::DefaultHashBuilder;
#[cfg(feature = "persist")]
use crate::persist::{Codec, DirKind, OpenError, Persistence};
use crate::time::Clock;
#[cfg(feature = "persist")]
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
#[cfg(feature = "persist")]
use std::path::Path;
use std::time::Duration;

/// Builds [`Counters`]. From [`Counters::builder`].
///
/// | option | default |
/// | --- | --- |
/// | [`time_to_live`](Self::time_to_live) | counts stay until they are taken |
/// | [`window`](Self::window) | none |
/// | [`sweep_interval`](Self::sweep_interval) | 1 s |
/// | `flush_interval`, of counters that are kept (feature `persist`) | 1 s |
/// | [`clock`](Self::clock) | the system's |
/// | [`hasher`](Self::hasher) | `ahash`, seeded anew each time |
#[must_use = "a builder does nothing until `build` is called"]
pub struct CountersBuilder<K, S = DefaultHashBuilder> {
    time_to_live: Option<Duration>,
    window: Option<Duration>,
    sweep_interval: Duration,
    #[cfg(feature = "persist")]
    flush_interval: Duration,
    clock: Clock,
    hasher: S,
    key: PhantomData<fn(K)>,
}

impl<K, S> fmt::Debug for CountersBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountersBuilder")
            .field("time_to_live", &self.time_to_live)
            .field("window", &self.window)
            .field("sweep_interval", &self.sweep_interval)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<K> CountersBuilder<K> {
    pub(super) fn new() -> Self {
        Self {
            time_to_live: None,
            window: None,
            sweep_interval: Duration::from_secs(1),
            #[cfg(feature = "persist")]
            flush_interval: Duration::from_secs(1),
            clock: Clock::real(),
            hasher: DefaultHashBuilder::default(),
            key: PhantomData,
        }
    }
}

impl<K, S> CountersBuilder<K, S> {
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

    /// The hasher of the keys, all of whose bits count. Default: [`DefaultHashBuilder`], seeded
    /// anew each time.
    pub fn hasher<H>(self, hasher: H) -> CountersBuilder<K, H> {
        CountersBuilder {
            time_to_live: self.time_to_live,
            window: self.window,
            sweep_interval: self.sweep_interval,
            #[cfg(feature = "persist")]
            flush_interval: self.flush_interval,
            clock: self.clock,
            hasher,
            key: PhantomData,
        }
    }

    /// How often counters that are [kept](Self::open) are written down, more than 0. Default: 1 s.
    /// A thread looks so often for what has changed, whether anything has.
    #[cfg(feature = "persist")]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// The counters.
    ///
    /// # Errors
    /// If a time is 0.
    pub fn build(self) -> Result<Counters<K, S>, BuildError>
    where
        K: Hash + Eq + Send + Sync + 'static,
        S: BuildHasher,
    {
        let (state, hasher) = self.state()?;
        Ok(Counters::with(state, hasher))
    }

    /// Counters that survive a restart, with the counts that the directory holds. The directory is
    /// made if it is not there.
    ///
    /// Counting is as fast as without. The counts that have changed are written together, every
    /// [`flush_interval`](Self::flush_interval), by [`Counters::flush`], and when the last handle
    /// is dropped, which waits for it, and writes what the log has no room for as well (from inside a
    /// closure of a cache, where nothing can be waited for, their thread does it as soon as it can);
    /// so a hot key is one write a second. **A crash takes counters back to where they were at some moment within the last interval**, each
    /// key by itself: what was counted since then is lost, and what was taken since then is there
    /// again. Where that may not be, flush after taking. A `static` is never dropped: a program
    /// that keeps its counters in one closes their [`journal`](Counters::journal) before it ends, or
    /// it ends for them as in a crash.
    ///
    /// A flush is O(keys) of the sixteenths of all keys in which something was counted, some 50 ns
    /// for each key, on a thread of its own. Windows begin anew.
    ///
    /// ```
    /// use haybox::counter::Counters;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("likes");
    /// let likes = Counters::<String>::builder().open(&dir)?;
    /// (0..1_000).for_each(|_| likes.incr("bread"));
    /// drop(likes); // The process ends.
    ///
    /// let likes = Counters::<String>::builder().open(&dir)?;
    /// assert_eq!(likes.get("bread"), 1_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the directory, which is not opened where it is kept for
    /// anything but counters ([`DirKind`]), or with a setting: a time of 0, or a
    /// [`time_to_live`](Self::time_to_live), which counters that are kept cannot have.
    #[cfg(feature = "persist")]
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Counters<K, S>, OpenError>
    where
        K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        S: BuildHasher,
    {
        self.open_with(dir, Persistence::new())
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    /// As for `open`.
    #[cfg(feature = "persist")]
    pub fn open_with<C: Codec>(
        self,
        dir: impl AsRef<Path>,
        options: Persistence<C>,
    ) -> Result<Counters<K, S>, OpenError>
    where
        K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        S: BuildHasher,
    {
        if self.time_to_live.is_some() {
            let problem = "counters that are kept in a directory live until they are taken";
            return Err(BuildError::new("Counters", "time_to_live", problem).into());
        }
        let interval = self.flush_interval;
        let (mut state, hasher) = self.state()?;
        let store = Cache::builder().stats(false).clock(state.clock.clone());
        let store = store
            .of_role(DirKind::Counters)
            .open_store_with(dir, options)?;
        // What was counted in another process was not counted now.
        let windows = state.windows.take();
        Kept::restore(store, &mut state, &hasher);
        state.windows = windows;
        let counters = Counters::with(state, hasher);
        flush_every(&counters.0, interval);
        Ok(counters)
    }

    /// What is checked and made of the settings, and the hasher.
    fn state(self) -> Result<(State<K>, S), BuildError> {
        let times = [
            ("time_to_live", self.time_to_live),
            ("window", self.window),
            ("sweep_interval", Some(self.sweep_interval)),
            #[cfg(feature = "persist")]
            ("flush_interval", Some(self.flush_interval)),
        ];
        SettingsOf("Counters").check_times(times)?;
        let windows = self.window.map(Windows::new);
        let lives = self.time_to_live.map(Lives::new);
        let state = State::new(self.clock, windows, lives, self.sweep_interval);
        Ok((state, self.hasher))
    }
}
