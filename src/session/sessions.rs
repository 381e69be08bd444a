//! The store of sessions: what the faces for frameworks call.

use super::builder::{IdSource, Rules, SessionsBuilder, under_a_free_id};
use super::owners::Owners;
use super::record::{Content, Session, SessionRecord, Wall};
use super::stats::{Counts, SessionStats, count};
use super::{SessionError, SessionId, secret};
use crate::cache::Cache;
use crate::entry::{Insert, Op, Refused};
use crate::time::Clock;
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
/// sessions. In a store that is full a session takes up its text and about 130 bytes, and up to 230
/// more if it has an owner, most of that where it is the owner's only one. In one that is not full
/// it takes up more: see [`max_sessions`](SessionsBuilder::max_sessions).
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
    /// found them. With those that one of them may have been given in its place.
    pub(super) ended: Cache<SessionId, Vec<SessionId>>,
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
    /// The session was ended by a call a short while ago, or given another id; nothing is stored.
    Ended,
    /// There is no such session: it has expired, was evicted, or never was. Nothing is stored.
    Unknown,
}

/// What became of a session that was to be put under another id.
enum Moved {
    There,
    /// There is no such session.
    Gone,
    /// Another session has the id.
    Taken,
    /// It belongs to somebody else by now.
    ChangedHands,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls on one session.
impl Sessions {
    /// A store with every option at its default: 100,000 sessions that end by the expiry of their
    /// framework.
    #[must_use]
    pub fn new() -> Self {
        let built = Self::builder().build();
        built.expect("the default settings are possible")
    }

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
                Insert::Refused(refused) => {
                    count(&self.0.counts.rejected);
                    return Err(self.no_room_for(&refused));
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
        (!self.is_over(&record, now)).then_some(Session(record))
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

    /// Gives a session a new id, in one step; `None` if there is no such session. For log-ins, and
    /// wherever else a session may do more than before: an id that somebody else has seen or slipped
    /// in opens nothing afterwards (session fixation). What other frameworks call `cycle_key`,
    /// `session_regenerate_id` or `renew`.
    ///
    /// Everything else of the session stays: its content, owner, [`public_id`](Session::public_id)
    /// and [`until`](Session::until), and the absolute time-out counts from when it
    /// [was started](Session::created). It counts as activity. Where the absolute time-out is to
    /// begin anew, [`start`](Self::start) another session and [`end`](Self::end) this one.
    ///
    /// At no moment do both ids open it, or neither, and a log-out everywhere meets it under one or
    /// the other: it comes before the call, which then finds no session, or ends it. In a store that
    /// is kept in a directory both are one commit, so that holds after a crash, too. Of several
    /// calls at once with the same id, one is given a new one. A request under way that has the
    /// old id finds no session any more, and what it would store is dropped: [`Replaced::Ended`].
    ///
    /// ```
    /// use haybox::session::{Content, Sessions};
    ///
    /// let sessions = Sessions::default();
    /// let before = sessions.start(Content::new("{\"cart\": [7]}"))?;
    /// // Ada has logged in. None where the session has ended since: then one is started.
    /// let content = Content::new("{\"cart\": [7], \"user\": \"ada\"}").owner("ada");
    /// let after = match sessions.cycle_id(&before)? {
    ///     Some(id) => id,
    ///     None => sessions.start(content.clone())?,
    /// };
    /// sessions.replace(&after, content)?;
    /// assert!(sessions.get(&before).is_none());
    /// assert_eq!(sessions.of_owner("ada").len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SessionError::NoRandomness`], or [`SessionError::Full`] where a store that rejects has no
    /// room for it, or [`SessionError::TooLarge`] where the bound was lowered until it alone is too
    /// large for it; then the session is as it was.
    pub fn cycle_id(&self, id: &SessionId) -> Result<Option<SessionId>, SessionError> {
        loop {
            let new = (self.0.ids)()?;
            let Some(record) = self.0.cache.peek(id) else {
                return Ok(None);
            };
            match self.move_to(id, new, record.owner.as_ref()) {
                Ok(Moved::Taken | Moved::ChangedHands) => {}
                Ok(Moved::Gone) => return Ok(None),
                Ok(Moved::There) => {
                    count(&self.0.counts.ended);
                    count(&self.0.counts.started);
                    return Ok(Some(new));
                }
                Err(error) => {
                    count(&self.0.counts.rejected);
                    return Err(error);
                }
            }
        }
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
        let found = self.find_all(owner, |id| self.0.cache.peek(id));
        let now = self.now();
        let owned = found
            .into_iter()
            .filter(|record| record.owner.as_deref() == Some(owner) && !self.is_over(record, now));
        // One that is given another id meanwhile may be found by both.
        let by_name: HashMap<_, _> = owned.map(|record| (record.public_id, record)).collect();
        let mut sessions: Vec<_> = by_name.into_values().map(Session).collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.0.seen));
        sessions
    }

    /// Ends all sessions of an owner: logs out everywhere. How many there were.
    pub fn end_all(&self, owner: &str) -> usize {
        self.end_which(owner, |_, _| true)
    }

    /// Ends all sessions of an owner but one: logs out everywhere else. How many there were. The one
    /// is spared also by an id that it had until a [request](super::SessionsBuilder::request_timeout)
    /// ago.
    pub fn end_others(&self, owner: &str, but: &SessionId) -> usize {
        // It may be given another id meanwhile.
        let spared = self.look_wherever(but).map(|record| record.public_id);
        self.end_which(owner, |id, record| {
            id != but && Some(record.public_id) != spared
        })
    }

    /// Ends the session of an owner that has this [`public_id`](Session::public_id); whether there
    /// was one. No session of another owner can be ended by it.
    pub fn end_one(&self, owner: &str, public_id: u64) -> bool {
        self.end_which(owner, |_, record| record.public_id == public_id) > 0
    }

    pub(super) fn end_which(
        &self,
        owner: &str,
        which: impl Fn(&SessionId, &SessionRecord) -> bool,
    ) -> usize {
        let is_chosen = |id: &SessionId, record: &SessionRecord| {
            record.owner.as_deref() == Some(owner) && which(id, record)
        };
        // Whether it was ended; nothing where there is no session by this id.
        let end = |id: &SessionId| {
            if !is_chosen(id, &self.0.cache.peek(id)?) {
                return Some(false);
            }
            (self.close_if(id, |record| is_chosen(id, record))).then_some(true)
        };
        let found = self.find_all(owner, end).into_iter();
        let ended = found.filter(|was_ended| *was_ended);
        ended.inspect(|_| count(&self.0.counts.ended)).count()
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
    #[track_caller]
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

    /// Why the cache has refused a session: it alone is larger than the bound on all of them, or
    /// there is no room beside the others.
    fn no_room_for(&self, record: &SessionRecord) -> SessionError {
        let (size, heap) = (record.size(), record.heap());
        let beside = heap.saturating_sub(size as u64);
        match self.0.cache.most_weight_of_one() {
            Some(most) if heap > most => SessionError::TooLarge {
                size,
                max_size: usize::try_from(most.saturating_sub(beside)).unwrap_or(usize::MAX),
            },
            _ => SessionError::Full,
        }
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

    /// Whether its time is up though the cache has it still: the wall clock may have been set
    /// forward since it was written.
    fn is_over(&self, record: &SessionRecord, now: Wall) -> bool {
        self.time_left(record, now).is_zero()
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
            let refused = stored.map_err(|Refused(new)| self.no_room_for(&new));
            refused.map(|()| Some(old))
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
        now < record.seen || now.since(record.seen) >= self.0.rules.touch_every()
    }

    /// Ends a session on a condition, in one step, and remembers that before anybody can miss it.
    /// That one is remembered which has ceased to meet it at the last moment does no harm: who
    /// changes it finds it.
    fn close_if(&self, id: &SessionId, condition: impl Fn(&SessionRecord) -> bool) -> bool {
        let look = self.0.cache.peek(id);
        if !look.is_some_and(|record| condition(&record)) {
            return false;
        }
        self.remember_end(id, None);
        let Some(record) = self.0.cache.remove_if(id, condition) else {
            return false;
        };
        self.reconcile(*id, record.owner.as_ref());
        true
    }

    /// Remembers for as long as a request takes that an id opens nothing any more, and by which one
    /// its session may be found.
    fn remember_end(&self, id: &SessionId, successor: Option<SessionId>) {
        // Others may try to give it another id at the same time, and one of them does.
        let ended = |before: Option<&Vec<SessionId>>| {
            let mut successors = before.cloned().unwrap_or_default();
            successors.extend(successor);
            Op::Put(successors)
        };
        drop(self.0.ended.compute(id, ended));
    }

    /// Puts a session under another id, if that is free and it still has this owner.
    fn move_to(
        &self,
        id: &SessionId,
        new: SessionId,
        owner: Option<&Arc<str>>,
    ) -> Result<Moved, SessionError> {
        if new == *id || self.0.cache.contains_key(&new) {
            return Ok(Moved::Taken);
        }
        // Before it moves, so that who looks for it by its owner finds it where it has come to,
        // whichever of its ids he has.
        self.remember_end(id, Some(new));
        if let Some(owner) = owner {
            self.0.owners.expect(owner, new);
        }
        let now = self.now();
        let moved = self.0.cache.transaction(&[*id, new], |sessions| {
            let Some(record) = sessions.get(id).map(|record| record.seen_at(now)) else {
                return Ok(Moved::Gone);
            };
            let left = self.time_left(&record, now);
            if left.is_zero() {
                return Ok(Moved::Gone);
            }
            if sessions.get(&new).is_some() {
                return Ok(Moved::Taken);
            }
            if record.owner.as_ref() != owner {
                return Ok(Moved::ChangedHands);
            }
            sessions.remove(id);
            let stored = sessions.insert_with_ttl(&new, record, left);
            stored
                .map(|()| Moved::There)
                .map_err(|Refused(record)| self.no_room_for(&record))
        });
        self.reconcile(*id, owner);
        if matches!(moved, Ok(Moved::There)) {
            self.enter(new, owner);
        } else {
            self.reconcile(new, owner);
        }
        moved
    }

    /// What is found of each session of an owner, whatever other ids they are given meanwhile.
    ///
    /// By which one a session is found next may be forgotten, where many others have ended since.
    /// But the index has an id before its session comes to it: so where one was missed the index is
    /// read again. The session may have come just after the look, so each is looked for twice.
    pub(super) fn find_all<R>(
        &self,
        owner: &str,
        find: impl Fn(&SessionId) -> Option<R>,
    ) -> Vec<R> {
        let (mut all, mut looks) = (Vec::new(), HashMap::new());
        loop {
            let mut has_missed = false;
            for id in self.0.owners.ids(owner) {
                let left = looks.entry(id).or_insert(2_u8);
                if *left == 0 {
                    continue;
                }
                *left -= 1;
                if let Some(found) = self.find_wherever(&id, &find) {
                    all.push(found);
                    *left = 0;
                } else {
                    has_missed = true;
                }
            }
            if !has_missed {
                return all;
            }
        }
    }

    /// A session by an id that it has or had.
    fn look_wherever(&self, id: &SessionId) -> Option<SessionRecord> {
        self.find_wherever(id, |id| self.0.cache.peek(id))
    }

    /// What is found by an id or by one that came after it. There may be as many of those as were
    /// given out in the time of a request, too many for a call of each to make the next.
    fn find_wherever<R>(
        &self,
        id: &SessionId,
        find: impl Fn(&SessionId) -> Option<R>,
    ) -> Option<R> {
        let (mut id, mut others) = (*id, Vec::new());
        loop {
            // Its successors are remembered before it ends, so they are read after it was missed.
            if let Some(found) = find(&id) {
                return Some(found);
            }
            others.extend(self.successors(&id));
            id = others.pop()?;
        }
    }

    fn successors(&self, id: &SessionId) -> Vec<SessionId> {
        self.0.ended.peek(id).unwrap_or_default()
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
            // Not where it has another id by now: who has given it that chooses by itself.
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
