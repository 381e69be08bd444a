//! Tokens that prove something: that a form came from a page of ours, that a device may log in.

use super::{SessionError, secret};
use std::fmt;
use std::hint::black_box;

/// A secret of 256 bits from the system's generator, for what a session is not: CSRF tokens,
/// refresh tokens, links in mails.
///
/// `Display` writes it as 64 hexadecimal digits. `Debug` shows none of it, and there is no `==`:
/// [`matches`](Self::matches) takes the same time wherever the first difference is, so that a token
/// cannot be found digit by digit.
///
/// ```
/// use haybox::session::Token;
///
/// let token = Token::random()?;
/// let in_the_form = token.to_string();
/// assert!(token.matches(&in_the_form));
/// assert!(!token.matches("something else"));
/// # Ok::<(), haybox::session::SessionError>(())
/// ```
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// [`SessionError::NoRandomness`], if the system has none to give.
    pub fn random() -> Result<Self, SessionError> {
        secret::bytes().map(Self)
    }

    /// The token that was written as this text; `None` if none is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        secret::from_hex(text).map(Self)
    }

    /// Whether `text` is this token, written out. Takes a time that depends on the length of `text`
    /// alone.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        same(self.to_string().as_bytes(), text.as_bytes())
    }
}

/// Compares all bytes, wherever the first difference is. What may be known is the length.
fn same(own: &[u8], shown: &[u8]) -> bool {
    if own.len() != shown.len() {
        return false;
    }
    // Without the black box the compiler may see that one difference decides, and leave the loop.
    let differences = own
        .iter()
        .zip(shown)
        .fold(0, |seen, (one, other)| black_box(seen | (one ^ other)));
    differences == 0
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_itself_and_nothing_that_differs_anywhere() {
        let token = Token::random().unwrap();
        let text = token.to_string();
        assert!(token.matches(&text));
        assert!(Token::parse(&text).unwrap().matches(&text));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert!(!token.matches(std::str::from_utf8(&other).unwrap()), "{at}");
        }
        assert!(!token.matches(&text[1..]));
        assert!(!token.matches(&format!("{text}0")));
        assert!(!token.matches(""));
        assert!(!Token::random().unwrap().matches(&text));
    }

    #[test]
    fn debug_shows_nothing_of_a_token() {
        assert_eq!(format!("{:?}", Token([7; 32])), "Token(secret)");
    }
}
