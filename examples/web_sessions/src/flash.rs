//! A sentence that the next page shows, once.

use crate::page::{Failure, Text};
use serde::{Deserialize, Serialize};
use std::fmt;
use tower_sessions::Session;

const KEY: &str = "flash";

/// A sentence that the next page shows, once.
#[derive(Serialize, Deserialize)]
pub struct Flash {
    is_good: bool,
    sentence: String,
}

impl Flash {
    pub fn good(sentence: impl Into<String>) -> Self {
        Self {
            is_good: true,
            sentence: sentence.into(),
        }
    }

    pub fn bad(sentence: impl Into<String>) -> Self {
        Self {
            is_good: false,
            sentence: sentence.into(),
        }
    }

    pub async fn put(self, session: &Session) -> Result<(), Failure> {
        Ok(session.insert(KEY, self).await?)
    }

    /// Takes it out of the session. Looks first: taking out what is not there would write the
    /// session and its cookie for nothing.
    pub async fn take(session: &Session) -> Result<Option<Self>, Failure> {
        if session.get_value(KEY).await?.is_none() {
            return Ok(None);
        }
        Ok(session.remove(KEY).await?)
    }
}

impl fmt::Display for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = if self.is_good { "good" } else { "bad" };
        write!(
            f,
            r#"<p class="flash {class}" role="status">{}</p>"#,
            Text(&self.sentence)
        )
    }
}
