//! The store of sessions: what the faces for frameworks call.

use super::builder::{IdSource, Rules, SessionsBuilder, under_a_free_id};
use super::owners::Owners;
use super::record::{Content, Session, SessionRecord, Wall};
use super::stats::{Counts, SessionStats, count};
use super::{SessionError, SessionId, secret};
use crate::{Cache, Clock, Insert};
use std::collections::HashMap;
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Web sessions in the process, found by the id in a browser's cookie and by their owner.
///
/// A handle: clone it into every thread and task. It is a store of tower-sessions and of
/// actix-session where their features are on; the calls here are for the application itself, and
/// for other frameworks.
///
/// # What holds
/// - An id comes from the system's generator and is never given twice. A session is only ever
///   started under a new one: an id that a browser brings along opens a session or does nothing.
/// - A session that was ended stays ended. A request that was under way changes nothing:
///   [`replace`](Self::replace) changes only what is there.
/// - Ending, changing and looking up one session are each one step. A session is found
///   by its owner from the moment that the call which gave it the owner has returned; a log-out
///   everywhere beside a log-in comes before it or after it.
/// - No session is returned after its time, and none takes up memory for longer than the
///   [`sweep_interval`](SessionsBuilder::sweep_interval) after it, though nobody asks.
///
/// # What it costs
/// Each call on one session is O(1), one on an owner is in proportion to the number of the owner's
/// sessions. A session takes up its text and about 130 bytes, and about 100 more if it has an
/// owner.
///
/// ```
/// use haybox::session::{Content, Sessions};
/// use std::time::Duration;
///
/// let sessions = Sessions::builder()
///     .idle_timeout(Duration::from_secs(30 * 60))
///     .absolute_timeout(Duration::from_secs(12 * 3600))
///     .build()?;
/// let phone = sessions.start(Content::new("{}").owner("ada"))?;
/// let laptop = sessions.start(Content::new("{}").owner("ada"))?;
/// assert_eq!(sessions.of_owner("ada").len(), 2);
///
/// // A request on the phone is still under way when ada logs out everywhere.
/// assert_eq!(sessions.end_all("ada"), 2);
/// sessions.replace(&phone, Content::new("{\"visits\": 1}").owner("ada"))?;
/// assert!(sessions.get(&phone).is_none() && sessions.get(&laptop).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Sessions(pub(super) Arc<State>);

pub(super) struct State {
    pub(super) cache: Cache<SessionId, SessionRecord>,
    pub(super) owners: Owners,
    /// The ids of sessions that were ended by a call, while a request may be under way that had
    /// found them.
    pub(super) ended: Cache<SessionId, ()>,
    pub(super) clock: Clock,
    pub(super) rules: Rules,
    pub(super) counts: Counts,
    pub(super) ids: IdSource,
}

/// What became of a change of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replaced {
    /// It is stored.
    Stored,
    /// The session was ended by a call a short while ago; nothing is stored.
    Ended,
    /// There is no such session: it has expired, was evicted, or never was. Nothing is stored.
    Unknown,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Default for Sessions {
    /// A store with every option at its default.
    fn default() -> Self {
        let built = Self::builder().build();
        built.expect("the default settings are possible")
    }
}

/// Calls on one session.
impl Sessions {
    /// A builder with every option at its default.
    pub fn builder() -> SessionsBuilder {
        SessionsBuilder::new()
    }

    /// Starts a session and returns the id that opens it, which is new in any case.
    ///
    /// Where an owner has as many as [`max_per_owner`](SessionsBuilder::max_per_owner) allows, the
    /// idlest of the others is ended first. Of several log-ins at once that are too many, one may
    /// end the session of another, whose id then opens nothing, as if it had come just before.
    ///
    /// # Errors
    /// [`SessionError`] says why it is not stored.
    pub fn start(&self, content: Content) -> Result<SessionId, SessionError> {
        self.check(&content)?;
        let now = self.now();
        let public_id = u64::from_le_bytes(secret::bytes()?);
        let record = SessionRecord::new(content, public_id, now);
        let options = under_a_free_id(self.time_left(&record, now));
        loop {
            let id = (self.0.ids)()?;
            match (self.0.cache).insert_with(id, record.clone(), options.clone()) {
                // Somebody has it, which is as likely as a meteorite, and is not to be overwritten.
                Insert::Kept(_) => {}
                Insert::Refused(_) => {
                    count(&self.0.counts.rejected);
                    return Err(SessionError::Full);
                }
                Insert::Inserted | Insert::Replaced(_) => {
                    count(&self.0.counts.started);
                    self.enter(id, record.owner.as_ref());
                    return Ok(id);
                }
            }
        }
    }

    /// The session that an id opens. Counts as activity, at most every
    /// [`touch_every`](SessionsBuilder::touch_every).
    #[must_use]
    pub fn get(&self, id: &SessionId) -> Option<Session> {
        let record = self.0.cache.get(id)?;
        let now = self.now();
        if self.is_news(&record, now) {
            self.touch(id, now);
        }
        // The wall clock may have been set forward since it was written.
        let is_over = self.time_left(&record, now).is_zero();
        (!is_over).then_some(Session(record))
    }

    /// Gives a session another content, its owner and its time with it. Counts as activity. Only
    /// what is there is changed: nothing starts a session under an id that somebody brings along.
    ///
    /// # Errors
    /// [`SessionError`] says why it is not stored; then the session is as it was.
    pub fn replace(&self, id: &SessionId, content: Content) -> Result<Replaced, SessionError> {
        self.check(&content)?;
        let now = self.now();
        let owner = content.owner.clone();
        let changed = self.change(id, now, |record| Some(record.with(content, now)));
        let Some(old) = changed.inspect_err(|_| count(&self.0.counts.rejected))? else {
            count(&self.0.counts.too_late);
            let ended = self.0.ended.contains_key(id);
            return Ok(if ended {
                Replaced::Ended
            } else {
                Replaced::Unknown
            });
        };
        if old.owner != owner {
            self.reconcile(*id, old.owner.as_ref());
            self.enter(*id, owner.as_ref());
        }
        Ok(Replaced::Stored)
    }

    /// Has a session end at another time than its content said, at the latest; whether it is there.
    /// Counts as activity.
    pub fn set_until(&self, id: &SessionId, until: SystemTime) -> bool {
        let now = self.now();
        let changed = self.change(id, now, |record| {
            Some(SessionRecord {
                until: Wall::of(until),
                ..record.seen_at(now)
            })
        });
        changed.is_ok_and(|old| old.is_some())
    }

    /// Ends a session; whether it was there.
    pub fn end(&self, id: &SessionId) -> bool {
        let ended = self.close_if(id, |_| true);
        if ended {
            count(&self.0.counts.ended);
        }
        ended
    }
}

/// Calls on the sessions of an owner.
impl Sessions {
    /// The sessions of an owner, the one that was active last at the head. Counts as nobody's
    /// activity.
    #[must_use]
    pub fn of_owner(&self, owner: &str) -> Vec<Session> {
        let mut sessions: Vec<_> = self
            .owned(owner)
            .map(|(_, record)| Session(record))
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.0.seen));
        sessions
    }

    /// Ends all sessions of an owner: logs out everywhere. How many there were.
    pub fn end_all(&self, owner: &str) -> usize {
        self.end_which(owner, |_, _| true)
    }

    /// Ends all sessions of an owner but one: logs out everywhere else. How many there were.
    pub fn end_others(&self, owner: &str, but: &SessionId) -> usize {
        self.end_which(owner, |id, _| id != but)
    }

    /// Ends the session of an owner that has this [`public_id`](Session::public_id); whether there
    /// was one. No session of another owner can be ended by it.
    pub fn end_one(&self, owner: &str, public_id: u64) -> bool {
        self.end_which(owner, |_, record| record.public_id == public_id) > 0
    }

    fn end_which(&self, owner: &str, which: impl Fn(&SessionId, &SessionRecord) -> bool) -> usize {
        let is_chosen = |id: &SessionId, record: &SessionRecord| {
            record.owner.as_deref() == Some(owner) && which(id, record)
        };
        let ids = self.0.owners.ids(owner).into_iter();
        let ended = ids.filter(|id| self.close_if(id, |record| is_chosen(id, record)));
        ended.inspect(|_| count(&self.0.counts.ended)).count()
    }

    fn owned(&self, owner: &str) -> impl Iterator<Item = (SessionId, SessionRecord)> {
        let ids = self.0.owners.ids(owner);
        ids.into_iter().filter_map(move |id| {
            let record = self.0.cache.peek(&id)?;
            (record.owner.as_deref() == Some(owner)).then_some((id, record))
        })
    }
}

/// Calls on the store as a whole.
impl Sessions {
    /// How many sessions there are, those that have expired and are not swept yet among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.cache.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.cache.is_empty()
    }

    /// What the store has done so far.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.0.counts.with(self.0.cache.stats(), self.len())
    }

    /// Removes what has expired, on this thread; how many sessions that were. There is no need to:
    /// see [`Cache::sweep`].
    pub fn sweep(&self) -> usize {
        self.0.cache.sweep()
    }

    /// The cache below, to look at its entries, its memory or its health. Whoever changes it
    /// changes the sessions.
    #[must_use]
    pub fn cache(&self) -> &Cache<SessionId, SessionRecord> {
        &self.0.cache
    }
}

/// How it is done.
impl Sessions {
    pub(super) fn now(&self) -> Wall {
        Wall::saturating(self.0.clock.system_time())
    }

    fn check(&self, content: &Content) -> Result<(), SessionError> {
        let (size, max_size) = (content.size(), self.0.rules.max_size);
        if size > max_size {
            return Err(SessionError::TooLarge { size, max_size });
        }
        Ok(())
    }

    /// How long a session has to live if nobody asks for it from now on.
    fn time_left(&self, record: &SessionRecord, now: Wall) -> Duration {
        let rules = &self.0.rules;
        let absolute = rules
            .absolute_timeout
            .map(|time| time.saturating_sub(now.since(record.created)));
        let until = record.until.map(|until| until.since(now));
        [rules.idle_timeout, absolute, until]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// Puts another record in the place of one that is there, in one step, if `f` makes one; what
    /// was there. Where there is no room for it the session stays as it was, which a cache alone
    /// would let go.
    fn change(
        &self,
        id: &SessionId,
        now: Wall,
        f: impl FnOnce(&SessionRecord) -> Option<SessionRecord>,
    ) -> Result<Option<SessionRecord>, SessionError> {
        self.0.cache.transaction(slice::from_ref(id), |session| {
            let Some((old, new)) = session.get(id).and_then(|old| Some((old.clone(), f(old)?)))
            else {
                return Ok(None);
            };
            let left = self.time_left(&new, now);
            let stored = session.insert_with_ttl(id, new, left);
            stored.map(|()| Some(old)).map_err(|_| SessionError::Full)
        })
    }

    /// Of many requests at once, one writes.
    fn touch(&self, id: &SessionId, now: Wall) {
        // It takes no more room than before.
        let _ = self.change(id, now, |record| {
            self.is_news(record, now).then(|| record.seen_at(now))
        });
    }

    /// Whether activity now is to be written. A wall clock that was set back must not keep it from
    /// that.
    fn is_news(&self, record: &SessionRecord, now: Wall) -> bool {
        now < record.seen || now.since(record.seen) >= self.0.rules.touch_every
    }

    /// Ends a session on a condition, in one step, and remembers that before anybody can miss it.
    /// That one is remembered which has ceased to meet it at the last moment does no harm: who
    /// changes it finds it.
    fn close_if(&self, id: &SessionId, condition: impl Fn(&SessionRecord) -> bool) -> bool {
        let look = self.0.cache.peek(id);
        if !look.is_some_and(|record| condition(&record)) {
            return false;
        }
        self.0.ended.insert(*id, ());
        let Some(record) = self.0.cache.remove_if(id, condition) else {
            return false;
        };
        self.reconcile(*id, record.owner.as_ref());
        true
    }

    /// A session has come to an owner.
    fn enter(&self, id: SessionId, owner: Option<&Arc<str>>) {
        self.reconcile(id, owner);
        if let (Some(owner), Some(max)) = (owner, self.0.rules.max_per_owner) {
            self.keep_to(max, owner, id);
        }
    }

    /// Ends the idlest sessions of an owner that has more than `max`, and never the one that has
    /// just come. Of several calls at once each ends what it has chosen itself, so that in the end
    /// `max` are left, though another may have chosen the newest of this one.
    fn keep_to(&self, max: usize, owner: &str, newest: SessionId) {
        if self.0.owners.count(owner) <= max {
            return;
        }
        let ids = self.0.owners.ids(owner).into_iter();
        let idleness = ids.map(|id| {
            let look = self.0.cache.peek(&id);
            let owned = look.filter(|record| record.owner.as_deref() == Some(owner));
            // What has ended and is not swept yet goes first.
            (id, owned.map(|record| (record.seen, record.created)))
        });
        let idleness: HashMap<_, _> = idleness.collect();
        for id in self.0.owners.choose(max, owner, &newest, &idleness) {
            if self.close_if(&id, |record| record.owner.as_deref() == Some(owner)) {
                count(&self.0.counts.over_limit);
            }
        }
    }

    /// Makes the index say of a session and an owner what is true. Whoever changes the one or the
    /// other calls this afterwards.
    fn reconcile(&self, id: SessionId, owner: Option<&Arc<str>>) {
        let Some(owner) = owner else {
            return;
        };
        self.0.owners.follow(owner, id, || {
            let look = self.0.cache.peek(&id);
            look.is_some_and(|record| record.owner.as_ref() == Some(owner))
        });
    }
}
