//! The store as tower-sessions wants it: one body, a face for each version of its core crate.

use super::{Content, Session, SessionError, SessionId, Sessions};
use serde::ser::Error as _;
use serde_json::Value;
use std::collections::HashMap;
use std::time::SystemTime;
use time::OffsetDateTime;

type Data = HashMap<String, Value>;

impl Sessions {
    fn content_of(&self, data: &Data, expiry: OffsetDateTime) -> serde_json::Result<Content> {
        if data.values().any(|value| is_deeper(value, MOST_LEVELS)) {
            return Err(serde_json::Error::custom("the data is nested too deeply"));
        }
        let content = Content::new(serde_json::to_string(data)?).until(SystemTime::from(expiry));
        Ok(match self.0.rules.owner_in(data) {
            Some(owner) => content.owner(owner),
            None => content,
        })
    }
}

/// How deep a value may be nested, which is one level more with the object around it. What is deeper
/// serde_json writes, and never reads again.
const MOST_LEVELS: usize = 126;

fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_inner_deeper = |inner| is_deeper(inner, levels - 1);
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => true,
        Value::Array(inner) => inner.iter().any(is_inner_deeper),
        Value::Object(inner) => inner.values().any(is_inner_deeper),
        _ => false,
    }
}

impl super::builder::Rules {
    fn owner_in(&self, data: &Data) -> Option<String> {
        super::json::name(data.get(self.owner_key.as_deref()?)?)
    }
}

fn data_of(session: &Session) -> serde_json::Result<(Data, OffsetDateTime)> {
    let expiry = session.until().map(OffsetDateTime::from);
    let never = time::PrimitiveDateTime::MAX.assume_utc();
    Ok((
        serde_json::from_str(session.text())?,
        expiry.unwrap_or(never),
    ))
}

macro_rules! face {
    ($core:ident, $feature:literal) => {
        const _: () = {
            use $core::session::{Id, Record};
            use $core::session_store::{Error, ExpiredDeletion, Result, SessionStore};

            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            impl From<Id> for SessionId {
                fn from(id: Id) -> Self {
                    Self::from(id.0 as u128)
                }
            }

            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            impl From<SessionId> for Id {
                fn from(id: SessionId) -> Self {
                    Self(u128::from(id) as i128)
                }
            }

            fn backend(error: SessionError) -> Error {
                Error::Backend(error.to_string())
            }

            /// `create` gives the record a new id, whatever it had. `save` changes only what is
            /// there: of a session that was ended, has expired or was evicted, it stores nothing
            /// and says so to nobody but the [stats](Sessions::stats). The record's expiry counts
            /// along with the time-outs of the store; the first that comes ends the session.
            ///
            /// Data that is nested more than 126 levels deep below a key could not be loaded again,
            /// and is an `Error::Encode`: nothing is stored, and the session stays as it was.
            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            #[async_trait::async_trait]
            impl SessionStore for Sessions {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    let content = encoded(self, record)?;
                    record.id = self.start(content).map_err(backend)?.into();
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    let content = encoded(self, record)?;
                    self.replace(&record.id.into(), content).map_err(backend)?;
                    Ok(())
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    let Some(session) = self.get(&SessionId::from(*id)) else {
                        return Ok(None);
                    };
                    let (data, expiry_date) = data_of(&session).map_err(|_| undecodable())?;
                    Ok(Some(Record {
                        id: *id,
                        data,
                        expiry_date,
                    }))
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    self.end(&SessionId::from(*id));
                    Ok(())
                }
            }

            fn encoded(sessions: &Sessions, record: &Record) -> Result<Content> {
                let content = sessions.content_of(&record.data, record.expiry_date);
                content.map_err(|error| Error::Encode(error.to_string()))
            }

            /// What serde says of data that it cannot read may quote the data.
            fn undecodable() -> Error {
                Error::Decode("the session cannot be read as a JSON object".to_owned())
            }

            /// There is no need for it: what has expired goes by itself.
            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            #[async_trait::async_trait]
            impl ExpiredDeletion for Sessions {
                async fn delete_expired(&self) -> Result<()> {
                    self.sweep();
                    Ok(())
                }
            }
        };
    };
}

#[cfg(feature = "tower-sessions-0-14")]
face!(tower_sessions_core_0_14, "tower-sessions-0-14");
#[cfg(feature = "tower-sessions-0-15")]
face!(tower_sessions_core_0_15, "tower-sessions-0-15");
