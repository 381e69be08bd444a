//! Web sessions in the process, for axum, actix-web and any other framework. Feature `session`.
//!
//! [`Sessions`] is the store. With the feature `tower-sessions-0-15` (or `-0-14`, for those who
//! need the Redis and SQL stores beside it, which have no newer one) it is a store of
//! tower-sessions, with `actix-session` one of actix-session 0.11. One implementation is behind all
//! of them.
//!
//! # axum, in five lines
//!
//! ```toml
//! haybox = { version = "0.1", features = ["tower-sessions-0-15"] }
//! tower-sessions = "0.15"
//! ```
//!
//! ```text
//! let sessions = Sessions::builder()
//!     .idle_timeout(Duration::from_secs(30 * 60))
//!     .owner_key("user")
//!     .build()?;
//! let app = app.layer(SessionManagerLayer::new(sessions.clone()).with_expiry(Expiry::OnSessionEnd));
//! ```
//!
//! Handlers take a `tower_sessions::Session` as before. Four habits make it safe:
//!
//! - **At every log-in `session.cycle_id().await?`, then `session.insert("user", name).await?`.**
//!   The id from before, which somebody else may have seen or slipped in, opens nothing afterwards.
//!   Call it nowhere else: it saves what the request has read under a new id, whatever has become
//!   of the session since, so in a request that is under way during a log-out it brings the session
//!   back.
//! - **Log out by `session.flush().await?`**, everywhere by `sessions.end_all(name)`.
//! - **`Expiry::OnSessionEnd`, and let the store decide** when a session ends. An
//!   `Expiry::OnInactivity` is a time in the cookie too, which is only written again when the
//!   session changes: who merely reads would be logged out. If you want cookies that outlive the
//!   browser, give them an `Expiry::AtDateTime` that is later than the absolute time-out.
//! - **Leave `with_secure(true)`, `with_http_only(true)` and `SameSite` as they are.** With
//!   `.with_name("__Host-session").with_path("/")` the browser sees to the rest.
//!
//! # actix-web
//!
//! ```text
//! let sessions = Sessions::builder().owner_key("user").build()?;
//! HttpServer::new(move || App::new().wrap(SessionMiddleware::new(sessions.clone(), key.clone())))
//! ```
//!
//! There, `session.renew()` changes the id, at a log-in and nowhere else, and `session.purge()`
//! logs out. Two things differ:
//!
//! - actix-session ends a session a day after its last change, unless its `session_lifecycle` is
//!   given another `state_ttl`, as `BrowserSession::default().state_ttl(…)`: let it be longer than
//!   the absolute time-out.
//! - It shows handlers no id, so they cannot name the session that
//!   [`end_others`](Sessions::end_others) spares. Put a random number into the session at its
//!   log-in: that of
//!   [`of_owner`](Sessions::of_owner) whose [`text`](Session::text) has it is this device, and
//!   [`end_one`](Sessions::end_one) ends each of the others.
//!
//! # A framework of your own
//! [`start`](Sessions::start) a session for who has none, put its id into the cookie, and open it by
//! [`get`](Sessions::get) with each request; store changes by [`replace`](Sessions::replace). At every
//! log-in, and wherever else a session may do more than before, give it a new id by
//! [`cycle_id`](Sessions::cycle_id), and the browser with it. Log out by [`end`](Sessions::end).
//!
//! # Who is logged in, and where
//! With [`owner_key`](SessionsBuilder::owner_key), sessions are indexed by what the application
//! stores under that key. The store then lists the sessions of a user ([`Sessions::of_owner`]),
//! ends all of them, all others or one ([`end_all`](Sessions::end_all),
//! [`end_others`](Sessions::end_others), [`end_one`](Sessions::end_one)), and limits their number
//! ([`max_per_owner`](SessionsBuilder::max_per_owner)).
//!
//! ```
//! use haybox::session::{Content, Sessions};
//!
//! let sessions = Sessions::builder().max_per_owner(2).build()?;
//! let start = || sessions.start(Content::new("{}").owner("ada"));
//! let (phone, laptop, tablet) = (start()?, start()?, start()?);
//! assert!(sessions.get(&phone).is_none(), "the idlest had to go");
//! assert_eq!(sessions.end_others("ada", &laptop), 1);
//! assert!(sessions.get(&tablet).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Time
//! Three times end a session, whichever comes first: the
//! [`idle_timeout`](SessionsBuilder::idle_timeout), the
//! [`absolute_timeout`](SessionsBuilder::absolute_timeout), and the expiry that the framework gives
//! it: with `Expiry::OnSessionEnd` tower-sessions says two weeks from each change. Reading is
//! activity, and is written at most every [`touch_every`](SessionsBuilder::touch_every). Nothing of
//! a session stays in memory for longer than the
//! [`sweep_interval`](SessionsBuilder::sweep_interval) after its end; no task has to be started.
//!
//! # Restarts
//! Over a cache that is kept in a directory (feature `persist`), a restart logs nobody out, and
//! nobody who has logged out in again:
//! `Sessions::builder().build_with(|cache| cache.open("sessions"))?`. See
//! [`build_with`](SessionsBuilder::build_with) for the bounds, and for what a crash and a full disk
//! can take back.
//!
//! # What an attacker meets
//!
//! | he tries to | he meets |
//! | --- | --- |
//! | guess an id | 128 bits of the system's generator, whatever the framework had in mind |
//! | fix an id | Sessions start under new ids only. A `save` under an id that is not there stores nothing. A log-in gives the session a new id ([`cycle_id`](Sessions::cycle_id), or the framework's call), and from then on the old one opens nothing. |
//! | bring a session back after its log-out, by a request that was under way | The same: what is gone is not saved. A request that gives its session a new id (`cycle_id`, `renew`) starts one with what it has read: have only handlers do so that have just authenticated somebody. |
//! | read ids, data or tokens in logs | `Debug` shows sizes and times; errors quote no data. |
//! | find a token digit by digit | [`Token::matches`], in constant time |
//! | fill the memory | [`max_sessions`](SessionsBuilder::max_sessions), [`max_memory`](SessionsBuilder::max_memory), [`max_size`](SessionsBuilder::max_size) |
//! | log others out by filling the store | The idlest go first. Who starts sessions faster than people come back to theirs can do it all the same: limit that (see [`limit`](crate::limit)), or choose [`OnFull::Reject`](crate::OnFull::Reject). |
//!
//! # How fast it is
//! Behind one axum server with 10,000 sessions and 100 connections, haybox takes 114,000 requests a
//! second (99 % within 4.4 ms), tower-sessions' own `MemoryStore` 94,000 (4.5 ms), a Redis on the
//! same machine 64,000 (2.5 ms), and no store at all 160,000 (4.3 ms); by `cargo run --release
//! --manifest-path benches/sessions/Cargo.toml`.
//!
//! # What it is not
//! It is no framework for log-ins: passwords, CSRF and the cookie are the application's, and the
//! example `web_sessions` has a small version of each. It is not the cache in a
//! `CachingSessionStore`: such a cache must take ids from outside, which this store never does. And
//! it is in one process; if requests of one user go to several, have the balancer send them to one,
//! or use Redis.

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
