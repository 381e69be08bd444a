//! For programs instead of browsers: short access tokens, and refresh tokens that are used once.
//!
//! An access token (a JWT) holds for five minutes without a look at any table; one that must not is
//! on a list until it would have ended anyway. A refresh token is exchanged for new ones and then
//! spent. One that comes a second time was stolen, from the client or by it: all that descend from
//! the same log-in end. What is kept of a refresh token is its digest: whoever reads the table has
//! no token.

use crate::Error;
use crate::app::App;
use crate::page::Failure;
use axum::Router;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use haybox::session::Token;
use haybox::{Cache, CacheBuilder, Clock, InsertOptions, OnFull, Op, Outcome};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const ACCESS: Duration = Duration::from_secs(5 * 60);
const REFRESH: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST: usize = 100_000;

type Digest = [u8; 32];

/// What is issued, what is spent, what is denied.
#[derive(Clone)]
pub struct Tokens {
    clock: Clock,
    /// Who logged in, for each log-in whose refresh tokens still hold.
    families: Cache<String, Arc<str>>,
    /// The family of each refresh token, and whether the token is spent.
    refresh: Cache<Digest, (String, bool)>,
    /// The access tokens that do not hold, although their time is not over. It must not evict: what
    /// it forgets would hold again.
    denied: Cache<String, ()>,
    keys: Arc<(EncodingKey, DecodingKey)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    sub: String,
    jti: String,
    exp: u64,
}

#[derive(Serialize)]
pub struct Pair {
    access: String,
    refresh: String,
}

impl Tokens {
    /// With the refresh tokens that a folder keeps, if there is one.
    pub fn open(clock: Clock, folder: Option<&Path>) -> Result<Self, Error> {
        // As long as this process: a restart ends the access tokens, and the clients refresh them.
        let secret = Token::random()?.to_string();
        let key = secret.as_bytes();
        let keys = (EncodingKey::from_secret(key), DecodingKey::from_secret(key));
        Ok(Self {
            families: kept(table(&clock, REFRESH), folder, "families")?,
            refresh: kept(table(&clock, REFRESH), folder, "refresh")?,
            denied: Cache::builder()
                .max_entries(MOST)
                .on_full(OnFull::Reject)
                .clock(clock.clone())
                .build()?,
            clock,
            keys: Arc::new(keys),
        })
    }

    /// The first pair of a log-in.
    pub fn issue(&self, name: &str) -> Result<Pair, Error> {
        let family = Token::random()?.to_string();
        self.families.insert(family.clone(), name.into());
        self.pair(name, family)
    }

    /// A new pair for a refresh token that nobody has used. `None` if it is not one.
    pub fn rotate(&self, refresh: &str) -> Result<Option<Pair>, Error> {
        // One step: of two who come with the same token, one is second.
        let spent = self
            .refresh
            .compute(&digest_of(refresh), |grant| match grant {
                None => Op::Keep,
                Some((family, _)) => Op::PutKeepTtl((family.clone(), true)),
            });
        let (family, was_spent) = match spent {
            Outcome::Replaced(grant) => grant,
            _ => return Ok(None),
        };
        if was_spent {
            self.families.remove(&family);
            return Ok(None);
        }
        match self.families.get(&family) {
            Some(name) => self.pair(&name, family).map(Some),
            None => Ok(None),
        }
    }

    /// Whose access token this is, if it holds.
    pub fn claims(&self, access: &str) -> Option<Claims> {
        let mut validation = Validation::default();
        // By our own clock, below.
        validation.validate_exp = false;
        let claims = decode::<Claims>(access, &self.keys.1, &validation)
            .ok()?
            .claims;
        let holds = claims.exp > self.seconds() && !self.denied.contains_key(&claims.jti);
        holds.then_some(claims)
    }

    /// Has an access token not hold any more; `false` if there is no room for that.
    #[must_use]
    pub fn deny(&self, claims: Claims) -> bool {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.exp);
        let options = InsertOptions::new().expire_at(expires);
        let denied = self.denied.insert_with(claims.jti, (), options);
        denied.is_stored()
    }

    fn pair(&self, name: &str, family: String) -> Result<Pair, Error> {
        let refresh = Token::random()?.to_string();
        self.refresh.insert(digest_of(&refresh), (family, false));
        let claims = Claims {
            sub: name.to_owned(),
            jti: Token::random()?.to_string(),
            exp: self.seconds() + ACCESS.as_secs(),
        };
        let access = encode(&Header::default(), &claims, &self.keys.0)?;
        Ok(Pair { access, refresh })
    }

    fn seconds(&self) -> u64 {
        let since = self
            .clock
            .system_time()
            .duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }
}

fn digest_of(token: &str) -> Digest {
    let digest = digest(&SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn table<K, V>(clock: &Clock, ttl: Duration) -> CacheBuilder<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let builder = Cache::builder().max_entries(MOST).time_to_live(ttl);
    builder.clock(clock.clone())
}

fn kept<K, V>(
    builder: CacheBuilder<K, V>,
    folder: Option<&Path>,
    name: &str,
) -> Result<Cache<K, V>, Error>
where
    K: Clone + Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    Ok(match folder {
        None => builder.build()?,
        Some(folder) => builder.open(folder.join(name))?,
    })
}

pub fn routes(token: MethodRouter<App>) -> Router<App> {
    Router::new()
        .route("/api/token", token)
        .route("/api/refresh", post(refresh))
        .route("/api/me", get(me))
        .route("/api/revoke", post(revoke))
}

#[derive(Deserialize)]
pub struct Login {
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh: String,
}

/// The first pair of tokens, for a name and its password.
pub async fn token(State(app): State<App>, Json(login): Json<Login>) -> Result<Response, Failure> {
    Ok(
        match app.users.log_in(&login.name, &login.password).await? {
            None => Json(app.tokens.issue(&login.name)?).into_response(),
            Some(refusal) => (StatusCode::UNAUTHORIZED, refusal.sentence()).into_response(),
        },
    )
}

async fn refresh(State(app): State<App>, Json(shown): Json<Refresh>) -> Result<Response, Failure> {
    Ok(match app.tokens.rotate(&shown.refresh)? {
        Some(pair) => Json(pair).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    })
}

async fn me(State(app): State<App>, headers: HeaderMap) -> Response {
    match bearer(&app, &headers) {
        Some(claims) => claims.sub.into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn revoke(State(app): State<App>, headers: HeaderMap) -> StatusCode {
    match bearer(&app, &headers).map(|claims| app.tokens.deny(claims)) {
        Some(true) => StatusCode::NO_CONTENT,
        Some(false) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::UNAUTHORIZED,
    }
}

fn bearer(app: &App, headers: &HeaderMap) -> Option<Claims> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    app.tokens.claims(text.strip_prefix("Bearer ")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use haybox::MockClock;

    fn tokens() -> (Tokens, MockClock) {
        let time = MockClock::new();
        (Tokens::open(time.clock(), None).unwrap(), time)
    }

    #[test]
    fn an_access_token_holds_until_its_time_is_over_or_it_is_denied() {
        let (tokens, time) = tokens();
        let pair = tokens.issue("ada").unwrap();
        assert_eq!(tokens.claims(&pair.access).unwrap().sub, "ada");
        assert!(tokens.deny(tokens.claims(&pair.access).unwrap()));
        assert!(tokens.claims(&pair.access).is_none());

        let pair = tokens.issue("ada").unwrap();
        time.advance(ACCESS);
        assert!(tokens.claims(&pair.access).is_none());
        assert!(
            tokens.denied.is_empty(),
            "denied for no longer than it could hold"
        );

        let foreign = Tokens::open(time.clock(), None)
            .unwrap()
            .issue("ada")
            .unwrap();
        assert!(tokens.claims(&foreign.access).is_none());
    }

    #[test]
    fn a_full_list_of_denied_tokens_says_so_and_forgets_none() {
        let (tokens, _) = tokens();
        let claims = |jti: usize| Claims {
            sub: "ada".to_owned(),
            jti: jti.to_string(),
            exp: tokens.seconds() + ACCESS.as_secs(),
        };
        let stored = (0..MOST + 1_000).filter(|jti| tokens.deny(claims(*jti)));
        assert_eq!(stored.count(), MOST);
        assert_eq!(tokens.denied.len(), MOST);
    }

    #[test]
    fn a_refresh_token_holds_once_and_who_comes_second_ends_the_family() {
        let (tokens, _) = tokens();
        let first = tokens.issue("ada").unwrap();
        let other = tokens.issue("ada").unwrap();
        let second = tokens.rotate(&first.refresh).unwrap().unwrap();
        let third = tokens.rotate(&second.refresh).unwrap().unwrap();
        assert!(tokens.rotate(&first.refresh).unwrap().is_none(), "reused");
        assert!(
            tokens.rotate(&third.refresh).unwrap().is_none(),
            "descends from it"
        );
        assert!(
            tokens.rotate(&other.refresh).unwrap().is_some(),
            "another log-in"
        );
        assert!(tokens.rotate("made up").unwrap().is_none());
    }

    #[test]
    fn of_two_who_use_a_refresh_token_at_once_one_gets_a_pair() {
        let (tokens, _) = tokens();
        for _ in 0..100 {
            let pair = tokens.issue("ada").unwrap();
            let rotate = || tokens.rotate(&pair.refresh).unwrap().is_some();
            let got = std::thread::scope(|scope| {
                let both = [scope.spawn(rotate), scope.spawn(rotate)];
                both.map(|one| one.join().unwrap())
            });
            assert_eq!(got.iter().filter(|got| **got).count(), 1);
        }
    }
}
