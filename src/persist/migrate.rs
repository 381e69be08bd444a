//! Entries that were written with other types.

use super::codec::{Codec, CodecError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// What makes entries of today out of old ones.
pub(super) type Migrate<C> = Arc<dyn Fn(&Old<'_, C>) -> Result<Migrated, CodecError> + Send + Sync>;

/// The same, lent.
pub(super) type MigrateRef<'m, C> = &'m dyn Fn(&Old<'_, C>) -> Result<Migrated, CodecError>;

/// An entry of a file with another `schema_version`, for
/// [`Persistence::migrate`](super::Persistence::migrate).
pub struct Old<'a, C> {
    pub(super) codec: &'a C,
    pub(super) schema: u32,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// What becomes of an old entry. From the methods of [`Old`].
#[derive(Debug)]
pub struct Migrated(pub(super) What);

#[derive(Debug)]
pub(super) enum What {
    Same,
    Value(Vec<u8>),
    Gone,
}

impl<C> fmt::Debug for Old<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Old")
            .field("schema_version", &self.schema)
            .finish_non_exhaustive()
    }
}

impl<C: Codec> Old<'_, C> {
    /// The version that the file was written with.
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        self.schema
    }

    /// The key, as the type that it was written as.
    ///
    /// # Errors
    /// If it does not decode as that.
    pub fn key<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        self.codec.decode(self.key)
    }

    /// The value, as the type that it was written as.
    ///
    /// # Errors
    /// If it does not decode as that.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        self.codec.decode(self.value)
    }

    /// The entry as it is.
    #[must_use]
    pub fn unchanged(&self) -> Migrated {
        Migrated(What::Same)
    }

    /// The entry with another value.
    ///
    /// # Errors
    /// If the value does not encode.
    pub fn with_value<T: Serialize>(&self, value: &T) -> Result<Migrated, CodecError> {
        let mut bytes = Vec::new();
        self.codec.encode(value, &mut bytes)?;
        Ok(Migrated(What::Value(bytes)))
    }

    /// The entry is not kept.
    #[must_use]
    pub fn gone(&self) -> Migrated {
        Migrated(What::Gone)
    }

    /// The error for a version that the closure does not know.
    #[must_use]
    pub fn unknown(&self) -> CodecError {
        CodecError::new(format!("no migration from schema_version {}", self.schema))
    }
}
