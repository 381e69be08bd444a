//! What is wrong with the settings of a builder.

use std::fmt;
use std::time::Duration;

/// A setting of a builder that is impossible, or a new bound that no cache can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildError {
    of: &'static str,
    setting: &'static str,
    problem: &'static str,
    /// The least number of bytes that would do, where it depends on the other settings.
    least: Option<u64>,
}

impl BuildError {
    /// `of` is the type that has the setting, or that is built with it.
    pub(crate) const fn new(
        of: &'static str,
        setting: &'static str,
        problem: &'static str,
    ) -> Self {
        Self {
            of,
            setting,
            problem,
            least: None,
        }
    }

    /// Of a bound on bytes that has no room for an entry, which takes up `least` in the table.
    pub(crate) const fn no_room(least: u64) -> Self {
        Self {
            of: "Cache",
            setting: "max_memory",
            problem: "one entry takes up as much, its share of the table included",
            least: Some(least),
        }
    }

    /// The same of what is built on a cache, and hands its own settings on to it.
    #[cfg(feature = "session")]
    pub(crate) const fn of_what_has(self, of: &'static str) -> Self {
        Self { of, ..self }
    }

    /// The type whose setting it is: `Cache`, `Queue` or whatever else was to be built, or the
    /// options that were passed, such as `Quota`, `Freshness` or `Persistence`. A store is built as
    /// a `Cache` is; it is `Store` for what only stores refuse.
    #[must_use]
    pub fn of(&self) -> &'static str {
        self.of
    }

    /// The name of the setting, as it is called on the builder.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.of, self.setting)?;
        if let Some(least) = self.least {
            write!(f, "must be at least {least} bytes: ")?;
        }
        f.write_str(self.problem)
    }
}

impl std::error::Error for BuildError {}

/// Checks the settings of a type, by whose name the errors begin.
pub(crate) struct SettingsOf(pub(crate) &'static str);

impl SettingsOf {
    /// Names the first of these settings that is said to be wrong, with what it must be.
    pub(crate) fn check(
        &self,
        checks: impl IntoIterator<Item = (bool, &'static str, &'static str)>,
    ) -> Result<(), BuildError> {
        match checks.into_iter().find(|(is_wrong, ..)| *is_wrong) {
            Some((_, setting, problem)) => Err(BuildError::new(self.0, setting, problem)),
            None => Ok(()),
        }
    }

    /// The one rule for how long something lasts, waits or rests: it is more than zero, which would
    /// be no time, and has no end if it is longer than the clock can count to. Where zero means
    /// something, its setting says what.
    pub(crate) fn check_times<T: Into<Option<Duration>>>(
        &self,
        times: impl IntoIterator<Item = (&'static str, T)>,
    ) -> Result<(), BuildError> {
        self.check_none_zero(times, "must be more than zero")
    }

    /// The same for times without which there is no end, or nothing remembered.
    pub(crate) fn check_optional_times(
        &self,
        times: impl IntoIterator<Item = (&'static str, Option<Duration>)>,
    ) -> Result<(), BuildError> {
        let problem = "must be more than zero: leave it out where there is to be none";
        self.check_none_zero(times, problem)
    }

    fn check_none_zero<T: Into<Option<Duration>>>(
        &self,
        times: impl IntoIterator<Item = (&'static str, T)>,
        problem: &'static str,
    ) -> Result<(), BuildError> {
        let is_zero = |time: T| time.into().is_some_and(|time| time.is_zero());
        let checks = times.into_iter();
        self.check(checks.map(|(setting, time)| (is_zero(time), setting, problem)))
    }
}
