//! Web sessions. Feature `session`.

#[cfg(feature = "actix-session")]
mod actix_session;
mod builder;
mod error;
mod id;
#[cfg(any(
    feature = "actix-session",
    feature = "tower-sessions-0-14",
    feature = "tower-sessions-0-15"
))]
mod json;
mod owners;
mod record;
mod secret;
mod sessions;
mod stats;
#[cfg(test)]
mod tests;
mod token;
#[cfg(any(feature = "tower-sessions-0-14", feature = "tower-sessions-0-15"))]
mod tower_sessions;

pub use builder::SessionsBuilder;
pub use error::SessionError;
pub use id::{NoSessionId, SessionId};
pub use record::{Content, Session, SessionRecord};
use sessions::State;
pub use sessions::{Replaced, Sessions};
pub use stats::SessionStats;
pub use token::Token;
