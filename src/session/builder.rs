//! The options of a store of sessions, and the one place where they are checked.

use super::owners::Owners;
use super::record::SessionRecord;
use super::stats::Counts;
use super::{SessionError, SessionId, Sessions, State};
use crate::build_error::{BuildError, SettingsOf};
use crate::builder::CacheBuilder;
use crate::cache::Cache;
use crate::entry::{EvictionPolicy, InsertOptions, OnFull};
use crate::event::RemovalCause;
#[cfg(feature = "persist")]
use crate::persist::DirKind;
use crate::time::Clock;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Builds [`Sessions`]. From [`Sessions::builder`].
///
/// | option | default |
/// | --- | --- |
/// | [`max_sessions`](Self::max_sessions) | 100,000 |
/// | [`max_memory`](Self::max_memory) | no bound |
/// | [`on_full`](Self::on_full) | evict the idlest |
/// | [`max_size`](Self::max_size) | 16 KiB for each session |
/// | [`max_per_owner`](Self::max_per_owner) | no limit |
/// | [`owner_key`](Self::owner_key) | sessions of frameworks have no owner |
/// | [`idle_timeout`](Self::idle_timeout) | none |
/// | [`absolute_timeout`](Self::absolute_timeout) | none |
/// | [`touch_every`](Self::touch_every) | 60 s, at most a tenth of the idle time-out |
/// | [`request_timeout`](Self::request_timeout) | 5 min |
/// | [`sweep_interval`](Self::sweep_interval) | 1 s |
/// | [`clock`](Self::clock) | the system's |
#[must_use = "a builder does nothing until `build` is called"]
pub struct SessionsBuilder {
    max_sessions: usize,
    max_memory: Option<u64>,
    on_full: OnFull,
    sweep_interval: Duration,
    clock: Clock,
    request_timeout: Duration,
    pub(super) rules: Rules,
    pub(super) ids: IdSource,
}

/// What a store asks of each session.
pub(super) struct Rules {
    pub(super) max_size: usize,
    pub(super) max_per_owner: Option<usize>,
    pub(super) owner_key: Option<Box<str>>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) absolute_timeout: Option<Duration>,
    pub(super) touch_every: Option<Duration>,
}

/// What [`SessionsBuilder::touch_every`] is at most if nobody says.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// How many ended ids are remembered at least. Were it as many as a small store may have sessions,
/// whoever starts and ends some could push out those of others within a request.
const FEWEST_REMEMBERED: usize = 100_000;

impl Rules {
    /// How long a session that was read counts as read just now.
    pub(super) fn touch_every(&self) -> Duration {
        self.touch_every.unwrap_or_else(|| {
            let share_of = |idle: Duration| TOUCH_EVERY.min(idle / 10);
            self.idle_timeout.map_or(TOUCH_EVERY, share_of)
        })
    }
}

/// Where new ids come from. Another one only in tests.
pub(super) type IdSource = Box<dyn Fn() -> Result<SessionId, SessionError> + Send + Sync>;

impl fmt::Debug for SessionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsBuilder")
            .field("max_sessions", &self.max_sessions)
            .field("max_memory", &self.max_memory)
            .field("on_full", &self.on_full)
            .field("max_size", &self.rules.max_size)
            .field("max_per_owner", &self.rules.max_per_owner)
            .field("owner_key", &self.rules.owner_key)
            .field("idle_timeout", &self.rules.idle_timeout)
            .field("absolute_timeout", &self.rules.absolute_timeout)
            .field("touch_every", &self.rules.touch_every)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

impl SessionsBuilder {
    pub(super) fn new() -> Self {
        Self {
            max_sessions: 100_000,
            max_memory: None,
            on_full: OnFull::Evict,
            sweep_interval: Duration::from_secs(1),
            clock: Clock::real(),
            request_timeout: Duration::from_secs(300),
            rules: Rules {
                max_size: 16 << 10,
                max_per_owner: None,
                owner_key: None,
                idle_timeout: None,
                absolute_timeout: None,
                touch_every: None,
            },
            ids: Box::new(SessionId::random),
        }
    }

    /// The most sessions that there may be, at least 1. Default: 100,000.
    ///
    /// As with [`max_entries`](crate::CacheBuilder::max_entries), the table is made for as many:
    /// with the default, 1,000 sessions take up about 2.5 kB each, and 10,000 about 800 bytes.
    pub fn max_sessions(mut self, max_sessions: usize) -> Self {
        self.max_sessions = max_sessions;
        self
    }

    /// The most bytes that all sessions together may take up, estimated as for
    /// [`CacheBuilder::max_memory`]; the index of owners, about 100 bytes for each session that has
    /// one, comes on top, and so does what is remembered of sessions that have ended, up to 12 MB
    /// or more ([`request_timeout`](Self::request_timeout)). A session that alone takes up more is
    /// [`SessionError::TooLarge`], whatever [`max_size`](Self::max_size) says. Default: no bound but
    /// `max_sessions` times `max_size`.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// What a full store does with a new session. Default: it lets the idlest session go, out of
    /// the 40 or so that share a set with the new one, so the new one is always there.
    ///
    /// `OnFull::Reject` answers [`SessionError::Full`] instead, and nobody who is logged in is
    /// logged out; whoever can start sessions without logging in can then lock others out.
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// The most bytes that one session may hold, its owner's name among them. Default: 16 KiB.
    /// What is larger is not stored and is an error; the session stays as it was.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.rules.max_size = bytes;
        self
    }

    /// The most sessions that one owner may have, at least 1. Default: no limit. One more, and the
    /// idlest of them ends. While an owner logs in from several places at once there may be more;
    /// when these calls have returned, as many as this are left, whatever their order.
    pub fn max_per_owner(mut self, max_per_owner: usize) -> Self {
        self.rules.max_per_owner = Some(max_per_owner);
        self
    }

    /// The key, in the data of a framework's session, under which the application stores who is
    /// logged in: a text or a number. Sessions with it can be found, counted and ended by owner.
    /// Default: none.
    pub fn owner_key(mut self, key: impl Into<Box<str>>) -> Self {
        self.rules.owner_key = Some(key.into());
        self
    }

    /// How long a session lives without being read or changed. Default: until its framework's
    /// expiry. tower-sessions gives one with `Expiry::OnSessionEnd` too: two weeks from the last
    /// time that the session was changed.
    ///
    /// It counts from the next activity of a session on: one that was kept in a directory goes on
    /// with the time that it was given. Whoever shortens it for all ends those that there are by
    /// [`absolute_timeout`](Self::absolute_timeout), which counts at once, or makes the store anew.
    ///
    /// A session ends this time after its last activity, and up to
    /// [`touch_every`](Self::touch_every) earlier. The cookie should outlive it: it is not written
    /// again when a session is read.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.rules.idle_timeout = Some(time);
        self
    }

    /// How long a session lives at most, whatever happens, counted from when it
    /// [was started](super::Session::created), by the wall clock. Default: until its framework's
    /// expiry.
    pub fn absolute_timeout(mut self, time: Duration) -> Self {
        self.rules.absolute_timeout = Some(time);
        self
    }

    /// Reading a session counts as activity, but writes it at most once in this time. Default:
    /// 60 s, or a tenth of the [`idle_timeout`](Self::idle_timeout) where that is less. Zero counts
    /// each one. Where there is an idle time-out, it must be shorter.
    pub fn touch_every(mut self, time: Duration) -> Self {
        self.rules.touch_every = Some(time);
        self
    }

    /// The longest that a request takes. Default: 5 min. For that long an id is remembered after
    /// its session was ended by a call, so that a request which was under way at the log-out is
    /// told so, and does not start the session anew under another id, as actix-session would
    /// have it do for one that expired.
    ///
    /// So many ids are remembered as [`max_sessions`](Self::max_sessions) says, and 100,000 at
    /// least; with more log-outs and changes of ids than that within a request, the oldest are
    /// forgotten. Each takes up some 60 bytes after a log-out and 120 after a change: 12 MB for
    /// 100,000, which come when there are as many, and go when their time is over.
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = time;
        self
    }

    /// The longest that an expired session takes up memory; it opens nothing from the moment that
    /// it expires. Default: 1 s.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// The clock to go by. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The store, with no session in it.
    ///
    /// # Errors
    /// If a setting is impossible.
    pub fn build(self) -> Result<Sessions, BuildError> {
        let in_memory = CacheBuilder::<SessionId, SessionRecord>::build;
        self.build_with(|cache| in_memory(cache).map_err(|error| error.of_what_has("Sessions")))
    }

    /// The store over a cache that `make` makes from a builder with everything set that sessions
    /// ask for: one that survives a restart, for example, or one with a listener of one's own. The
    /// sessions that are in it already are in the store.
    ///
    #[cfg_attr(feature = "persist", doc = "```")]
    #[cfg_attr(not(feature = "persist"), doc = "```text")]
    /// use haybox::session::Sessions;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let sessions = Sessions::builder().build_with(|cache| cache.open(dir.join("sessions")))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A log-out counts in the process at once, and on the disk as soon as any other write: what
    /// the policy of the cache does not promise to keep when the process is killed or the power
    /// fails, a session or its end, may be lost then. While the disk is full, nothing is kept: who
    /// logs out then is logged in again after a restart, unless there is room before that. Keep a
    /// clone of the cache that `make` returns to ask its `journal().health()`, and to wait for a
    /// log-out by `journal().sync()`. Whoever can read the directory can take over every session in
    /// it.
    ///
    /// # Errors
    /// If a setting is impossible, and those of `make`: a directory that is kept for anything but
    /// sessions is not opened.
    pub fn build_with<E: From<BuildError>>(
        self,
        make: impl FnOnce(
            CacheBuilder<SessionId, SessionRecord>,
        ) -> Result<Cache<SessionId, SessionRecord>, E>,
    ) -> Result<Sessions, E> {
        self.check()?;
        let owners = Owners::new();
        let ended = Cache::builder()
            .eviction_policy(EvictionPolicy::Lru)
            .time_to_live(self.request_timeout)
            .clock(self.clock.clone())
            .build()
            .map_err(|error| error.of_what_has("Sessions"))?;
        // Bounded from now on: a table that is made for so many takes megabytes for a thousand.
        let remembered = self.max_sessions.max(FEWEST_REMEMBERED);
        (ended.set_max_entries(remembered)).map_err(|error| error.of_what_has("Sessions"))?;
        let cache = make(self.cache(&owners))?;
        for (id, record) in cache.iter() {
            let Some(owner) = &record.owner else { continue };
            // It may expire while this walks.
            owners.follow(owner, id, || {
                let look = cache.peek(&id);
                look.is_some_and(|record| record.owner.as_ref() == Some(owner))
            });
        }
        Ok(Sessions(Arc::new(State {
            cache,
            owners,
            ended,
            clock: self.clock,
            rules: self.rules,
            counts: Counts::default(),
            ids: self.ids,
        })))
    }

    fn cache(&self, owners: &Owners) -> CacheBuilder<SessionId, SessionRecord> {
        let owners = owners.clone();
        let builder = Cache::builder()
            .max_entries(self.max_sessions)
            .on_full(self.on_full)
            .eviction_policy(EvictionPolicy::Lru)
            .sweep_interval(self.sweep_interval)
            .clock(self.clock.clone())
            .own_listener(move |id, record: &SessionRecord, cause| {
                if let (Some(owner), true) = (&record.owner, cause != RemovalCause::Replaced) {
                    owners.remove(owner, *id);
                }
            });
        #[cfg(feature = "persist")]
        let builder = builder.of_role(DirKind::Sessions);
        match self.max_memory {
            None => builder,
            Some(bytes) => builder
                .max_memory(bytes)
                .weigher(|_, record: &SessionRecord| record.heap()),
        }
    }

    fn check(&self) -> Result<(), BuildError> {
        let rules = &self.rules;
        SettingsOf("Sessions").check_times([
            ("idle_timeout", rules.idle_timeout),
            ("absolute_timeout", rules.absolute_timeout),
            ("request_timeout", Some(self.request_timeout)),
            ("sweep_interval", Some(self.sweep_interval)),
        ])?;
        let is_too_rare = |idle: Duration| idle <= rules.touch_every();
        SettingsOf("Sessions").check([
            (self.max_sessions == 0, "max_sessions", "must be at least 1"),
            (
                rules.max_per_owner == Some(0),
                "max_per_owner",
                "must be at least 1",
            ),
            (
                rules.idle_timeout.is_some_and(is_too_rare),
                "touch_every",
                "must be shorter than the idle_timeout",
            ),
        ])
    }
}

/// How a session that lives for `time` is put under an id that must be free.
pub(super) fn under_a_free_id(time: Duration) -> InsertOptions {
    InsertOptions::new().ttl(time).if_absent()
}
