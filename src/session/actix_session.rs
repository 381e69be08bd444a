//! The store as actix-session wants it.

use super::{Content, Replaced, SessionId, Sessions, json};
use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use std::collections::HashMap;
use time::Duration;

/// Values by name, each as a text of JSON.
type State = HashMap<String, String>;

impl Sessions {
    fn content_of_state(&self, state: &State, ttl: &Duration) -> serde_json::Result<Content> {
        let ttl = (*ttl).try_into().unwrap_or_default();
        let mut content = Content::new(serde_json::to_string(state)?);
        content.until = self.0.clock.system_time().checked_add(ttl);
        Ok(match self.0.rules.owner_in_state(state) {
            Some(owner) => content.owner(owner),
            None => content,
        })
    }
}

impl super::builder::Rules {
    fn owner_in_state(&self, state: &State) -> Option<String> {
        let value = state.get(self.owner_key.as_deref()?)?;
        json::name(&serde_json::from_str(value).ok()?)
    }
}

/// A key that is no id of ours opens nothing.
fn id_of(key: &SessionKey) -> Option<SessionId> {
    key.as_ref().parse().ok()
}

fn key_of(id: SessionId) -> Result<SessionKey, anyhow::Error> {
    Ok(SessionKey::try_from(id.to_string())?)
}

/// `update` changes only what is there. A session that was ended a short while ago stays ended, and
/// keeps its key. One that has expired or was evicted meanwhile starts anew under another key, as
/// with actix-session's own stores, if it has no owner; one with an owner is over, since its time
/// was, and who is logged in logs in again. Without an
/// [`owner_key`](super::SessionsBuilder::owner_key) no session has an owner.
#[cfg_attr(docsrs, doc(cfg(feature = "actix-session")))]
impl SessionStore for Sessions {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(session) = id_of(key).and_then(|id| self.get(&id)) else {
            return Ok(None);
        };
        // What serde says of data that it cannot read may quote the data.
        let undecodable =
            |_| LoadError::Deserialization(anyhow::Error::msg("the session is not a JSON object"));
        serde_json::from_str(session.text())
            .map(Some)
            .map_err(undecodable)
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        let content = (self.content_of_state(&state, ttl))
            .map_err(|error| SaveError::Serialization(error.into()))?;
        let id = (self.start(content)).map_err(|error| SaveError::Other(error.into()))?;
        key_of(id).map_err(SaveError::Other)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        let content = (self.content_of_state(&state, ttl))
            .map_err(|error| UpdateError::Serialization(error.into()))?;
        let replaced = match id_of(&key) {
            Some(id) => self.replace(&id, content.clone()),
            None => Ok(Replaced::Unknown),
        };
        match replaced.map_err(|error| UpdateError::Other(error.into()))? {
            Replaced::Stored | Replaced::Ended => Ok(key),
            // A log-in is never prolonged by a request that outlasted it.
            Replaced::Unknown if content.owner.is_some() => Ok(key),
            Replaced::Unknown => {
                let id = (self.start(content)).map_err(|error| UpdateError::Other(error.into()))?;
                key_of(id).map_err(UpdateError::Other)
            }
        }
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        let ttl = (*ttl).try_into().unwrap_or_default();
        let until = self.0.clock.system_time().checked_add(ttl);
        if let (Some(id), Some(until)) = (id_of(key), until) {
            self.set_until(&id, until);
        }
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        if let Some(id) = id_of(key) {
            self.end(&id);
        }
        Ok(())
    }
}
