//! Messages that were written as another type.

use super::enabled::MARK;
use super::record::Written;
use crate::persist::{Codec, CodecError, Migrated, Old, Persistence};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl<C: Codec> Old<'_, C> {
    /// The entry of a [queue](crate::queue#surviving-a-restart) with another message, or
    /// [gone](Self::gone) where there is none. The closure is given the message as the type that it
    /// was written as.
    ///
    /// What the queue knows of the message stays: its number and place in the line, delay,
    /// priority, attempts, de-duplication key, and that it is a dead letter and why.
    /// [`value`](Self::value) and [`with_value`](Self::with_value), which are for caches and
    /// stores, see a message and all of that in one, in a form of the queue's own.
    ///
    /// ```
    /// use haybox::persist::Persistence;
    /// use haybox::queue::Queue;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct MailV1 { to: String }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Mail { to: Vec<String> }
    ///
    /// let options = Persistence::new().schema_version(2).migrate(|old| match old.schema_version() {
    ///     1 => old.with_message(|MailV1 { to }| Ok(Some(Mail { to: vec![to] }))),
    ///     _ => Err(old.unknown()),
    /// });
    /// # let dir = tempfile::tempdir()?;
    /// let mails = Queue::<Mail>::builder(10_000).open_with(dir.path(), options)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the old message does not decode as what the closure takes or the new one does not encode,
    /// and those of the closure.
    pub fn with_message<T, U>(
        &self,
        change: impl FnOnce(T) -> Result<Option<U>, CodecError>,
    ) -> Result<Migrated, CodecError>
    where
        T: DeserializeOwned,
        U: Serialize,
    {
        let (reserved, Some(fields)) = self.value::<Written<T, String>>()? else {
            return Ok(self.unchanged());
        };
        let (delay, attempts, error, is_dead, priority, key, message) = fields;
        let Some(message) = change(message)? else {
            return Ok(self.gone());
        };
        let fields = (delay, attempts, error, is_dead, priority, key, message);
        let written: Written<U, String> = (reserved, Some(fields));
        self.with_value(&written)
    }
}

/// Has a migration see messages alone: which numbers are reserved is no matter of the user's, also
/// where no message is kept.
pub(in crate::queue) fn of_messages<C: Codec>(options: Persistence<C>) -> Persistence<C> {
    options.migrate_through(|old, migrate| {
        if old.key::<u64>().is_ok_and(|key| key == MARK) {
            return Ok(old.unchanged());
        }
        let hint = "a message of a queue is migrated by Old::with_message";
        migrate(old).map_err(|error| CodecError::new(format!("{error}; {hint}")))
    })
}
