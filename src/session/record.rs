//! What is kept of a session.

use crate::time::since_1970;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a session is to hold: a text, and who it belongs to.
///
/// `Debug` shows the sizes alone.
#[derive(Clone)]
pub struct Content {
    pub(super) text: Arc<str>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) until: Option<SystemTime>,
}

impl Content {
    /// A session that belongs to nobody and ends by the time-outs of its store. The store does not
    /// look into the text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            owner: None,
            until: None,
        }
    }

    /// Who is logged in: by this name the session is found by
    /// [`Sessions::of_owner`](super::Sessions::of_owner).
    #[must_use]
    pub fn owner(mut self, owner: impl Into<Arc<str>>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// The wall-clock time at which it ends at the latest. Past the year 2554 means never; where it
    /// is over already, the session is started, and its id opens nothing.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    pub(super) fn size(&self) -> usize {
        size_of_both(&self.text, self.owner.as_deref())
    }
}

/// What [`SessionsBuilder::max_size`](super::SessionsBuilder::max_size) bounds.
fn size_of_both(text: &str, owner: Option<&str>) -> usize {
    text.len() + owner.map_or(0, str::len)
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("size", &self.size())
            .field("has_owner", &self.owner.is_some())
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// A session as its cache keeps it. Opaque; it can be serialised, so that the cache can be one that
/// survives a restart.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionRecord {
    pub(super) text: Arc<str>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) public_id: u64,
    pub(super) created: Wall,
    pub(super) seen: Wall,
    pub(super) until: Option<Wall>,
}

impl SessionRecord {
    pub(super) fn new(content: Content, public_id: u64, now: Wall) -> Self {
        Self {
            text: content.text,
            owner: content.owner,
            public_id,
            created: now,
            seen: now,
            until: content.until.and_then(Wall::of),
        }
    }

    /// The same session with another content.
    pub(super) fn with(&self, content: Content, now: Wall) -> Self {
        Self {
            created: self.created,
            ..Self::new(content, self.public_id, now)
        }
    }

    pub(super) fn seen_at(&self, now: Wall) -> Self {
        Self {
            seen: now,
            ..self.clone()
        }
    }

    pub(super) fn size(&self) -> usize {
        size_of_both(&self.text, self.owner.as_deref())
    }

    /// The bytes that it takes up on the heap.
    pub(super) fn heap(&self) -> u64 {
        let counts = 2 * size_of::<usize>() as u64;
        let of = |text: &Arc<str>| text.len() as u64 + counts;
        of(&self.text) + self.owner.as_ref().map_or(0, of)
    }
}

impl fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRecord").finish_non_exhaustive()
    }
}

/// A session as it was at one moment.
///
/// `Debug` shows its times and its public id.
#[derive(Clone)]
pub struct Session(pub(super) SessionRecord);

impl Session {
    /// What it holds, as its framework has written it: tower-sessions a JSON object, actix-session
    /// a JSON object whose values are JSON in text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Who is logged in, if anybody is.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.0.owner.as_deref()
    }

    /// A random number that names the session on a page of its owner's, such as a list of devices,
    /// and opens nothing: see [`Sessions::end_one`](super::Sessions::end_one). It stays the same
    /// for as long as the id of the session does, and where
    /// [`Sessions::cycle_id`](super::Sessions::cycle_id) changes that.
    #[must_use]
    pub fn public_id(&self) -> u64 {
        self.0.public_id
    }

    /// When it was started: where a framework changes the id, which starts another session, at the
    /// last log-in. [`Sessions::cycle_id`](super::Sessions::cycle_id) leaves it.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.0.created.time()
    }

    /// When it was last active, as exact as
    /// [`touch_every`](super::SessionsBuilder::touch_every) says.
    #[must_use]
    pub fn seen(&self) -> SystemTime {
        self.0.seen.time()
    }

    /// The time that [`Content::until`] set, if it did. Time-outs of the store may end it earlier.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.0.until.map(Wall::time)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("public_id", &self.public_id())
            .field("created", &self.created())
            .field("seen", &self.seen())
            .field("until", &self.until())
            .finish_non_exhaustive()
    }
}

/// A time of the wall clock in nanoseconds since 1970: half as large as a `SystemTime`, and the
/// same in every format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Wall(u64);

impl Wall {
    /// `None` for times after 2554. What was before 1970 is past in any case.
    pub(super) fn of(time: SystemTime) -> Option<Self> {
        let nanoseconds = since_1970(time).as_nanos();
        u64::try_from(nanoseconds).ok().map(Self)
    }

    /// The last one there is, for times after 2554: a clock that is that wrong costs exact times,
    /// and no log-in.
    pub(super) fn saturating(time: SystemTime) -> Self {
        Self::of(time).unwrap_or(Self(u64::MAX))
    }

    fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_centuries_ahead_shows_the_last_time_there_is() {
        let second = Duration::from_secs(1);
        let (epoch, year) = (SystemTime::UNIX_EPOCH, second * 86_400 * 365);
        let last = Wall::saturating(epoch + year * 1_000);
        assert_eq!(last.time(), epoch + Duration::from_nanos(u64::MAX));
        assert!(Wall::of(epoch + year * 1_000).is_none());
        let early = Wall::saturating(epoch - year);
        assert_eq!(
            (early.time(), last.since(early)),
            (epoch, Duration::from_nanos(u64::MAX))
        );
        assert_eq!(Wall::saturating(epoch + year).since(early), year);
    }
}
