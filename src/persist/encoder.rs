//! Entries as bytes, the same for the log and for a snapshot: what the one refuses must not come
//! into the other.

use super::codec::{Codec, CodecError};
use super::error::WriteError;
use serde::Serialize;

/// Whether a key and a value decode.
pub(super) type Decode<C> = fn(&C, key: &[u8], value: &[u8]) -> Result<(), CodecError>;

/// What makes bytes of entries, and says which of them may be kept.
pub(super) struct Encoder<C> {
    pub(super) codec: C,
    /// What does not decode keeps the next opening from succeeding. It is looked for if this is
    /// given.
    pub(super) decode: Option<Decode<C>>,
    /// How many bytes an entry, or a batch, may have.
    pub(super) largest: usize,
}

/// An entry that cannot be kept.
pub(super) struct Unencoded {
    /// Where its key ends, if that can be encoded.
    pub(super) key: Option<usize>,
    pub(super) error: WriteError,
}

impl<C: Codec> Encoder<C> {
    /// Puts a key and its value into a buffer that is empty; where the key ends.
    pub(super) fn entry<K, V>(
        &self,
        key: &K,
        value: &V,
        bytes: &mut Vec<u8>,
    ) -> Result<usize, Unencoded>
    where
        K: Serialize,
        V: Serialize,
    {
        let unencoded = |key| move |error| Unencoded { key, error };
        self.key(key, bytes).map_err(unencoded(None))?;
        let end = bytes.len();
        self.value(value, end, bytes)
            .map_err(unencoded(Some(end)))?;
        Ok(end)
    }

    pub(super) fn key<K: Serialize>(&self, key: &K, bytes: &mut Vec<u8>) -> Result<(), WriteError> {
        self.codec.encode(key, bytes).map_err(encode)
    }

    fn value<V: Serialize>(
        &self,
        value: &V,
        end: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        self.codec.encode(value, bytes).map_err(encode)?;
        self.check_size(bytes.len())?;
        if let Some(decode) = self.decode {
            let (key, value) = bytes.split_at(end);
            let undecodable = |error| format!("it would not decode at the next start: {error}");
            decode(&self.codec, key, value)
                .map_err(|error| WriteError::Encode(undecodable(error)))?;
        }
        Ok(())
    }

    pub(super) fn check_size(&self, bytes: usize) -> Result<(), WriteError> {
        let limit = self.largest;
        if bytes <= limit {
            return Ok(());
        }
        Err(WriteError::TooLarge { bytes, limit })
    }
}

fn encode(error: CodecError) -> WriteError {
    WriteError::Encode(error.to_string())
}
