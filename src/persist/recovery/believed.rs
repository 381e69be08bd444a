//! Deadlines that a wrong clock wrote.
//!
//! A deadline is a time of the wall clock, and a frame says what that showed as it was written. Where
//! that is so far ahead of now that the clock of then was wrong, its deadlines are as wrong: an entry
//! that was given a minute would live for years. What was right is how much was left of it, and so
//! much it has from now on. What is ahead by less is left alone: the latest time in the log counts
//! then, for all deadlines, unless something else in the log is further ahead.

use crate::persist::effect::Effect;
use crate::persist::settings::Settings;

/// Which times of frames are believed.
pub(super) struct Believed {
    now_ms: u64,
    latest_ms: u64,
}

impl Believed {
    pub(super) fn by(settings: &Settings, now_ms: u64) -> Self {
        let skew_ms = u64::try_from(settings.clock_skew.as_millis()).unwrap_or(u64::MAX);
        Self {
            now_ms,
            latest_ms: now_ms.saturating_add(skew_ms),
        }
    }

    /// An effect as it would be, had the clock that showed `wall_ms` been that of now.
    #[inline]
    pub(super) fn mended<'e>(&self, effect: Effect<'e>, wall_ms: u64) -> Effect<'e> {
        match wall_ms > self.latest_ms {
            true => sooner(effect, wall_ms - self.now_ms),
            false => effect,
        }
    }
}

#[cold]
fn sooner(effect: Effect<'_>, by_ms: u64) -> Effect<'_> {
    match effect {
        Effect::Put {
            key,
            value,
            mut meta,
        } => {
            meta.life = meta.life.sooner(by_ms);
            Effect::Put { key, value, meta }
        }
        Effect::Deadline { key, life } => {
            let life = life.sooner(by_ms);
            Effect::Deadline { key, life }
        }
        other => other,
    }
}
