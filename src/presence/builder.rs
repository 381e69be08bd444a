//! The options of presence, and the one place where they are checked.

use super::room::Rooms;
use super::stats::Counts;
use super::{Handle, PARTS, Presence, State, Times};
use crate::build_error::{BuildError, SettingsOf};
use crate::hash::DefaultHashBuilder;
use crate::pubsub::TopicState;
use crate::sync::SpinLock;
use crate::time::{Clock, Sweep, register};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Builds a [`Presence`]. From [`Presence::builder`].
///
/// | option | default |
/// | --- | --- |
/// | [`timeout`](Self::timeout) | 30 s |
/// | [`idle_after`](Self::idle_after) | nobody is idle |
/// | [`sweep_interval`](Self::sweep_interval) | 1 s |
/// | [`clock`](Self::clock) | the system's |
/// | [`hasher`](Self::hasher) | `ahash`, seeded for each presence |
#[must_use = "a builder does nothing until `build` is called"]
pub struct PresenceBuilder<R, M, S = DefaultHashBuilder> {
    timeout: Duration,
    idle_after: Option<Duration>,
    sweep_interval: Duration,
    clock: Clock,
    hasher: S,
    names: PhantomData<fn(R, M)>,
}

impl<R, M, S> fmt::Debug for PresenceBuilder<R, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceBuilder")
            .field("timeout", &self.timeout)
            .field("idle_after", &self.idle_after)
            .field("sweep_interval", &self.sweep_interval)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<R, M> PresenceBuilder<R, M> {
    pub(super) fn new() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            idle_after: None,
            sweep_interval: Duration::from_secs(1),
            clock: Clock::real(),
            hasher: DefaultHashBuilder::default(),
            names: PhantomData,
        }
    }
}

impl<R, M, S> PresenceBuilder<R, M, S> {
    /// How long after its last heartbeat a member is gone, more than 0. Default: 30 s. Two or three
    /// times the time between two heartbeats lets one of them be lost.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long after it last did something ([`Presence::active`], or joining) a member is idle,
    /// more than 0. Default: nobody is idle. It may be longer than the
    /// [`timeout`](Self::timeout), and mostly is: a member whose heartbeats come is there for as
    /// long as they do, and idle while it does nothing else.
    pub fn idle_after(mut self, idle_after: Duration) -> Self {
        self.idle_after = Some(idle_after);
        self
    }

    /// The longest that a departure or idleness stays unannounced where nobody calls, more than 0.
    /// Default: 1 s.
    pub fn sweep_interval(mut self, sweep_interval: Duration) -> Self {
        self.sweep_interval = sweep_interval;
        self
    }

    /// The clock to go by. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The hasher of rooms and members, all of whose bits count. Default: [`DefaultHashBuilder`],
    /// seeded for each presence.
    pub fn hasher<H>(self, hasher: H) -> PresenceBuilder<R, M, H> {
        PresenceBuilder {
            timeout: self.timeout,
            idle_after: self.idle_after,
            sweep_interval: self.sweep_interval,
            clock: self.clock,
            hasher,
            names: PhantomData,
        }
    }

    /// The presence, with nobody in it.
    ///
    /// # Errors
    /// If a time is 0.
    pub fn build(self) -> Result<Presence<R, M, S>, BuildError>
    where
        R: Hash + Eq + Send + Sync + 'static,
        M: Hash + Eq + Send + Sync + 'static,
        S: BuildHasher + Clone + Send + Sync + 'static,
    {
        let times = [
            ("timeout", Some(self.timeout)),
            ("idle_after", self.idle_after),
            ("sweep_interval", Some(self.sweep_interval)),
        ];
        SettingsOf("Presence").check_times(times)?;
        let times = Times {
            timeout: self.timeout,
            idle_after: self.idle_after,
        };
        let state = Arc::new_cyclic(|own| State {
            own: Weak::clone(own),
            hasher: self.hasher.clone(),
            sweep_interval: self.sweep_interval,
            times,
            parts: (0..PARTS)
                .map(|_| SpinLock::new(Rooms::new(times, self.hasher.clone())))
                .collect(),
            events: TopicState::alone("presence", self.clock.clone()),
            counts: Counts::default(),
            clock: self.clock,
        });
        let sweep: Weak<State<R, M, S>> = Arc::downgrade(&state);
        let sweep: Weak<dyn Sweep> = sweep;
        register(&state.clock, sweep, self.sweep_interval);
        Ok(Presence(Arc::new(Handle(state))))
    }
}
