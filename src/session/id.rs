//! What opens a session: a number that nobody can guess.

use super::SessionError;
use super::secret;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The secret that a browser shows to be given its session: 128 bits of the system's generator.
///
/// `Display` writes it for a cookie, as 32 hexadecimal digits; `FromStr` reads exactly that.
/// Whoever knows it is taken for its owner, so `Debug` shows none of it: print
/// [`Session::public_id`](super::Session::public_id) instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
// Two halves, since not every format of serde knows 128 bits.
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct SessionId(u128);

impl SessionId {
    pub(super) fn random() -> Result<Self, SessionError> {
        secret::bytes().map(|bytes| Self(u128::from_le_bytes(bytes)))
    }
}

impl From<u128> for SessionId {
    fn from(number: u128) -> Self {
        Self(number)
    }
}

impl From<SessionId> for u128 {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl From<(u64, u64)> for SessionId {
    fn from((high, low): (u64, u64)) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl From<SessionId> for (u64, u64) {
    fn from(id: SessionId) -> Self {
        ((id.0 >> 64) as u64, id.0 as u64)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(secret)")
    }
}

/// A text that is no [`SessionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSessionId;

impl fmt::Display for NoSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session id is 32 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NoSessionId {}

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        secret::from_hex(text)
            .map(|bytes| Self(u128::from_be_bytes(bytes)))
            .ok_or(NoSessionId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_128_bits_of_the_generator_and_none_twice() {
        let ids: Vec<u128> = (0..1_000).map(|_| SessionId::random().unwrap().0).collect();
        for bit in 0..128 {
            let ones = ids.iter().filter(|id| *id >> bit & 1 == 1).count();
            // Ten standard deviations.
            assert!((340..660).contains(&ones), "bit {bit}: {ones} of 1000");
        }
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = SessionId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let text = "0123456789abcdef0011223344556677";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        for wrong in [
            "",
            "0",
            &text[1..],
            &format!("{text}0"),
            &text.to_uppercase(),
            "+123456789abcdef0011223344556677",
            "é123456789abcdef001122334455667",
        ] {
            assert_eq!(wrong.parse::<SessionId>(), Err(NoSessionId), "{wrong}");
        }
        assert_eq!(SessionId::from(<(u64, u64)>::from(id)), id);
    }

    #[test]
    fn debug_shows_nothing_of_an_id() {
        assert_eq!(format!("{:?}", SessionId(0x1234_5678)), "SessionId(secret)");
    }
}
