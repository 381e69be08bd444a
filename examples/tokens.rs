//! Refresh tokens that notice when they are stolen, and JWTs that can be taken back.
//!
//! ```text
//! cargo run --example tokens
//! ```
//!
//! Two recipes over a cache, to copy and change:
//!
//! - [`RefreshTokens`]: each refresh hands out a new token and uses up the old one. A token that is
//!   presented a second time was copied: nobody can say by whom, so its whole family is revoked, and
//!   the thief and the owner have to log in again (RFC 9700, section 4.14.2).
//! - [`DenyList`]: a JWT is valid until it expires, whatever happened since. What is revoked before
//!   that is remembered until then, and not longer.
//!
//! Neither keeps a token: a copy of the memory is no use to anybody, since only SHA-256 digests are
//! in it. Tokens are 256 random bits, so a plain digest is enough; a slow one is for passwords.

use haybox::{Cache, Clock, InsertOptions, MockClock, OnFull};
use sha2::{Digest as _, Sha256};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

type Digest = [u8; 32];

fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

/// Compares in a time that does not depend on where the first difference is.
fn is_same(left: &Digest, right: &Digest) -> bool {
    let pairs = left.iter().zip(right);
    pairs.fold(0, |different, (left, right)| {
        black_box(different | (left ^ right))
    }) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> Result<[u8; N], Box<dyn Error>> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

// ---- refresh tokens ----

/// A log-in, and the token that it was given last.
#[derive(Clone)]
struct Family {
    user: u64,
    current: Digest,
    /// The token before, and when it was used up.
    previous: Option<(Digest, SystemTime)>,
    is_revoked: bool,
}

/// What comes of presenting a refresh token.
#[derive(Debug, PartialEq)]
enum Refresh {
    /// The token was good, and is used up; this is the next one.
    Rotated { user: u64, token: String },
    /// It was used up a moment ago: two tabs of one browser, or an answer that got lost. The
    /// family lives on, but this call gets nothing.
    TooLate,
    /// It was used up before: there is a copy. The family is revoked.
    Reused { user: u64 },
    /// It is none of ours, or its time is up.
    Unknown,
}

/// `family.secret`, both in hex. The family finds the entry, and is as random as the secret, so
/// that nobody can revoke a log-in that is not theirs by guessing.
struct RefreshTokens {
    families: Cache<String, Family>,
    clock: Clock,
    /// For how long a token that was used up is taken for an accident.
    leeway: Duration,
}

impl RefreshTokens {
    fn new(clock: Clock, idle: Duration, longest: Duration) -> Result<Self, Box<dyn Error>> {
        let families = Cache::builder()
            .time_to_idle(idle)
            .time_to_live(longest)
            .clock(clock.clone())
            .build()?;
        Ok(Self {
            families,
            clock,
            leeway: Duration::from_secs(5),
        })
    }

    /// The first token of a log-in.
    fn log_in(&self, user: u64) -> Result<String, Box<dyn Error>> {
        let (family, secret) = (hex(&random::<32>()?), random::<32>()?);
        let entry = Family {
            user,
            current: digest(&secret),
            previous: None,
            is_revoked: false,
        };
        let options = InsertOptions::new().tag(&user);
        self.families.insert_with(family.clone(), entry, options);
        Ok(format!("{family}.{}", hex(&secret)))
    }

    /// Uses a token up for the next one. The decision and the change are one step, so of two who
    /// present the same token at once one is too late.
    fn refresh(&self, token: &str) -> Result<Refresh, Box<dyn Error>> {
        let Some((family, secret)) = parse(token) else {
            return Ok(Refresh::Unknown);
        };
        // All that is slow or may fail happens before the lock.
        let (shown, next, now) = (digest(&secret), random::<32>()?, self.clock.system_time());
        let next_digest = digest(&next);
        let refreshed = self.families.update(family, |entry| {
            if entry.is_revoked {
                return Refresh::Reused { user: entry.user };
            }
            if is_same(&entry.current, &shown) {
                entry.previous = Some((entry.current, now));
                entry.current = next_digest;
                let token = format!("{family}.{}", hex(&next));
                return Refresh::Rotated {
                    user: entry.user,
                    token,
                };
            }
            let was_just_used = entry.previous.is_some_and(|(previous, at)| {
                let since = now.duration_since(at).unwrap_or(Duration::ZERO);
                is_same(&previous, &shown) && since <= self.leeway
            });
            if was_just_used {
                return Refresh::TooLate;
            }
            // The entry stays, so that the next token of this family is told what happened, too.
            entry.is_revoked = true;
            Refresh::Reused { user: entry.user }
        });
        Ok(refreshed.unwrap_or(Refresh::Unknown))
    }

    fn log_out(&self, token: &str) {
        if let Some((family, _)) = parse(token) {
            self.families.remove(family);
        }
    }

    /// Ends every log-in of a user, in O(1).
    fn log_out_everywhere(&self, user: u64) {
        self.families.invalidate_tag(&user);
    }
}

fn parse(token: &str) -> Option<(&str, Vec<u8>)> {
    let (family, secret) = token.split_once('.')?;
    let digits = secret.as_bytes().chunks(2);
    let bytes = digits.map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    Some((family, bytes.collect::<Option<_>>()?))
}

// ---- revoked JWTs ----

/// The JWTs that are not valid though they have not expired.
struct DenyList {
    denied: Cache<Digest, ()>,
    clock: Clock,
    /// How far the clocks of those who check may be behind.
    skew: Duration,
}

impl DenyList {
    /// It refuses when it is full. It must not evict: what it forgets would be valid again.
    fn new(clock: Clock, most: usize) -> Result<Self, Box<dyn Error>> {
        let denied = Cache::builder()
            .max_entries(most)
            .on_full(OnFull::Reject)
            .clock(clock.clone())
            .build()?;
        Ok(Self {
            denied,
            clock,
            skew: Duration::from_secs(60),
        })
    }

    /// Denies a token (or its `jti`) until it expires by itself; `expires` is its `exp`.
    fn deny(&self, token: &str, expires: SystemTime) -> Result<(), &'static str> {
        let until = expires + self.skew;
        if until <= self.clock.system_time() {
            return Ok(()); // Nobody takes it any more.
        }
        let options = InsertOptions::new().expire_at(until);
        let inserted = self
            .denied
            .insert_with(digest(token.as_bytes()), (), options);
        inserted
            .is_stored()
            .then_some(())
            .ok_or("the deny-list is full")
    }

    /// The digest is the key. A look-up may take longer for some digests than for others, but who
    /// asks cannot choose a digest, so there is nothing to learn from that.
    fn is_denied(&self, token: &str) -> bool {
        self.denied.contains_key(&digest(token.as_bytes()))
    }
}

// ---- the show ----

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let time = MockClock::new();
    refreshing(&time)?;
    denying(&time)
}

fn rotated(refresh: Refresh) -> Result<String, Box<dyn Error>> {
    match refresh {
        Refresh::Rotated { token, .. } => Ok(token),
        other => Err(format!("expected a new token: {other:?}").into()),
    }
}

fn refreshing(time: &MockClock) -> Result<(), Box<dyn Error>> {
    let tokens = RefreshTokens::new(time.clock(), 14 * DAY, 90 * DAY)?;
    let first = tokens.log_in(7)?;
    println!(
        "user 7 logs in, and gets the refresh token {}…",
        &first[..16]
    );
    time.advance(15 * MINUTE);
    let second = rotated(tokens.refresh(&first)?)?;
    println!("after 15 minutes it is rotated");
    assert_eq!(tokens.refresh(&first)?, Refresh::TooLate);
    println!("a second tab that is a moment late gets nothing, and harms nothing");
    time.advance(15 * MINUTE);
    let third = rotated(tokens.refresh(&second)?)?;
    time.advance(15 * MINUTE);
    assert_eq!(tokens.refresh(&first)?, Refresh::Reused { user: 7 });
    println!("a thief presents the first token: the family is revoked");
    assert_eq!(tokens.refresh(&third)?, Refresh::Reused { user: 7 });
    println!("and the owner's token with it: user 7 has to log in again");

    let (phone, laptop) = (tokens.log_in(7)?, tokens.log_in(7)?);
    tokens.log_out(&phone);
    assert_eq!(tokens.refresh(&phone)?, Refresh::Unknown);
    let laptop = rotated(tokens.refresh(&laptop)?)?;
    tokens.log_out_everywhere(7);
    assert_eq!(tokens.refresh(&laptop)?, Refresh::Unknown);
    println!("logging out ends one log-in; the tag of the user ends all of them");

    let idle = tokens.log_in(8)?;
    time.advance(14 * DAY);
    assert_eq!(tokens.refresh(&idle)?, Refresh::Unknown);
    assert_eq!(tokens.refresh("no token")?, Refresh::Unknown);
    assert_eq!(tokens.refresh("é.é")?, Refresh::Unknown);
    println!("after 14 idle days a log-in is over");
    Ok(())
}

fn denying(time: &MockClock) -> Result<(), Box<dyn Error>> {
    let denied = DenyList::new(time.clock(), 2)?;
    let expires = time.clock().system_time() + 15 * MINUTE;
    denied.deny("header.claims.signature", expires)?;
    assert!(denied.is_denied("header.claims.signature") && !denied.is_denied("another"));
    println!("a JWT is taken back 15 minutes before it expires");
    denied.deny("another", expires)?;
    assert!(denied.deny("one too many", expires).is_err());
    println!("a full deny-list says so, and forgets nothing");
    time.advance(16 * MINUTE);
    assert!(!denied.is_denied("header.claims.signature") && denied.denied.is_empty());
    println!("once they have expired, nothing of them is left");
    denied.deny("long gone", expires)?;
    assert!(denied.denied.is_empty());
    Ok(())
}
