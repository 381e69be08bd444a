//! A message as it is kept.

use crate::queue::message::{Entry, Payload};
use crate::time::{after, since_1970};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is kept under a number.
#[derive(Debug)]
pub(in crate::queue) enum Record<T> {
    Message(Message<T>),
    /// Numbers below this may have been given to messages.
    Reserved(u64),
}

#[derive(Debug)]
pub(in crate::queue) struct Message<T> {
    /// For what is not ready: when it is, by the wall clock, and how far that was ahead; both in
    /// milliseconds. With both, a clock that was set back delays nothing for longer than it was.
    delay: Option<(u64, u64)>,
    attempts: u32,
    error: Option<Box<str>>,
    is_dead: bool,
    /// Shared with the queue, so that nothing is in memory twice.
    payload: Arc<Payload<T>>,
}

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Reserved(next) => Self::Reserved(*next),
            Self::Message(message) => Self::Message(Message {
                error: message.error.clone(),
                payload: Arc::clone(&message.payload),
                ..*message
            }),
        }
    }
}

impl<T> Record<T> {
    pub(in crate::queue) fn of(
        entry: &Entry<T>,
        is_dead: bool,
        now: u64,
        wall: SystemTime,
    ) -> Self {
        let ahead = Duration::from_nanos(entry.due.saturating_sub(now));
        let delay = (!ahead.is_zero()).then(|| {
            let until = since_1970(wall).saturating_add(ahead);
            (whole_milliseconds(until), whole_milliseconds(ahead))
        });
        Self::Message(Message {
            delay,
            attempts: entry.attempts,
            error: entry.error.clone(),
            is_dead,
            payload: Arc::clone(&entry.payload),
        })
    }

    /// The message, and whether it is a dead letter.
    pub(in crate::queue) fn into_entry(
        self,
        id: u64,
        (now, wall): (u64, SystemTime),
    ) -> Option<(Entry<T>, bool)> {
        let Self::Message(message) = self else {
            return None;
        };
        let left = message.delay.map_or(Duration::ZERO, |(until, ahead)| {
            let left = Duration::from_millis(until).saturating_sub(since_1970(wall));
            left.min(Duration::from_millis(ahead))
        });
        let entry = Entry {
            id,
            due: after(now, left),
            order: id,
            attempts: message.attempts,
            error: message.error,
            payload: message.payload,
        };
        Some((entry, message.is_dead))
    }
}

/// A part of a millisecond is a whole one: nothing comes too early.
fn whole_milliseconds(time: Duration) -> u64 {
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(milliseconds).unwrap_or(u64::MAX)
}

/// As tuples, which stay short in codecs that write the names of fields. Both kinds begin with the
/// reserved number, which is 0 for a message.
pub(super) type Written<V, S> = (u64, Option<Fields<V, S>>);
type Fields<V, S> = (Option<(u64, u64)>, u32, Option<S>, bool, i8, Option<S>, V);

impl<T: Serialize> Serialize for Record<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written: Written<&T, &str> = match self {
            Self::Reserved(next) => (*next, None),
            Self::Message(message) => {
                let (error, payload) = (message.error.as_deref(), &message.payload);
                let fields = (
                    message.delay,
                    message.attempts,
                    error,
                    message.is_dead,
                    payload.priority,
                    payload.key.as_deref(),
                    &payload.value,
                );
                (0, Some(fields))
            }
        };
        written.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::<T, String>::deserialize(deserializer)?;
        let (_, Some((delay, attempts, error, is_dead, priority, key, value))) = written else {
            return Ok(Self::Reserved(written.0));
        };
        Ok(Self::Message(Message {
            delay,
            attempts,
            error: error.map(String::into_boxed_str),
            is_dead,
            payload: Arc::new(Payload {
                value,
                priority,
                key: key.map(Arc::from),
            }),
        }))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_when_it_is_due_and_not_before() {
        let wall = |nanoseconds| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        let millisecond = 1_000_000;
        for ahead in [1, millisecond - 1, millisecond, 5 * millisecond + 1] {
            let payload = Payload {
                value: 7,
                priority: 0,
                key: None,
            };
            let entry = Entry {
                id: 1,
                due: 100 + ahead,
                order: 1,
                attempts: 0,
                error: None,
                payload: Arc::new(payload),
            };
            // The clocks of two processes have nothing in common but the wall's time.
            let written = millisecond - 1;
            let record = Record::of(&entry, false, 100, wall(written));
            for passed in [0, 1, millisecond / 2] {
                let read = wall(written + passed);
                let (back, _) = record.clone().into_entry(1, (passed, read)).unwrap();
                assert!((ahead..ahead + millisecond).contains(&back.due));
            }
        }
    }
}
