//! Who may log in: names and hashes of passwords in SQLite, behind a cache.

use crate::Error;
use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use haybox::Cache;
use haybox::limit::{Limiter, Quota};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task;

/// The accounts.
#[derive(Clone)]
pub struct Users(Arc<State>);

struct State {
    table: Mutex<Connection>,
    /// The hashes, and the names that nobody has.
    hashes: Cache<String, Arc<str>>,
    /// Guesses for each name.
    guesses: Limiter<String>,
    /// As many passwords are hashed at a time as there are processors: more would take memory and
    /// be done no sooner.
    hashing: Arc<Semaphore>,
    /// Is verified where there is no such name, so that this takes as long.
    nobody: String,
}

/// Why somebody is not signed up or logged in.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    BadName,
    ShortPassword,
    NameTaken,
    WrongPassword,
    TooManyGuesses(Duration),
}

impl Refusal {
    pub fn sentence(&self) -> String {
        match self {
            Self::BadName => "A name has 1 to 32 letters, digits or dashes.".to_owned(),
            Self::ShortPassword => "A password has 8 characters or more.".to_owned(),
            Self::NameTaken => "Somebody has this name already.".to_owned(),
            Self::WrongPassword => "This name and this password do not go together.".to_owned(),
            Self::TooManyGuesses(time) => {
                format!("Too many attempts. Try again in {} s.", time.as_secs() + 1)
            }
        }
    }
}

impl Users {
    pub fn open(folder: Option<&Path>) -> Result<Self, Error> {
        let table = match folder {
            Some(folder) => Connection::open(folder.join("users.sqlite"))?,
            None => Connection::open_in_memory()?,
        };
        table.execute_batch(
            "CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, hash TEXT NOT NULL) STRICT",
        )?;
        let hashes = Cache::builder()
            .max_entries(10_000)
            .negative_ttl(Duration::from_secs(60))
            .build()?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self(Arc::new(State {
            hashing: Arc::new(Semaphore::new(processors)),
            table: Mutex::new(table),
            hashes,
            guesses: Limiter::new(Quota::per_minute(10).burst(5))?,
            nobody: hash_of("nobody has this password")?,
        })))
    }

    pub async fn sign_up(&self, name: &str, password: &str) -> Result<Option<Refusal>, Error> {
        if !is_name(name) {
            return Ok(Some(Refusal::BadName));
        }
        if password.chars().count() < 8 {
            return Ok(Some(Refusal::ShortPassword));
        }
        let (name, password) = (name.to_owned(), password.to_owned());
        self.hash(move |users| users.add(&name, &password)).await
    }

    pub async fn log_in(&self, name: &str, password: &str) -> Result<Option<Refusal>, Error> {
        if !is_name(name) {
            return Ok(Some(Refusal::WrongPassword));
        }
        if let Some(time) = self.0.guesses.check(name).retry_after() {
            return Ok(Some(Refusal::TooManyGuesses(time)));
        }
        let (name, password) = (name.to_owned(), password.to_owned());
        self.hash(move |users| users.verify(&name, &password)).await
    }

    /// Does what hashes a password when it is its turn. The turn lasts until that is done, though
    /// who asked may have gone.
    async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.0.hashing).acquire_owned().await?;
        let users = self.clone();
        let work = move || {
            let _turn = turn;
            work(&users)
        };
        task::spawn_blocking(work).await?
    }

    fn add(&self, name: &str, password: &str) -> Result<Option<Refusal>, Error> {
        let hash = hash_of(password)?;
        // Not one who asked before that is told afterwards that there is no such name.
        let added = self.0.hashes.invalidate_around([name], || {
            let table = self.0.table.lock().expect("nobody panics with the table");
            table.execute(
                "INSERT INTO users (name, hash) VALUES (?1, ?2)",
                [name, &hash],
            )
        });
        match added {
            Ok(_) => Ok(None),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Ok(Some(Refusal::NameTaken))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn verify(&self, name: &str, password: &str) -> Result<Option<Refusal>, Error> {
        let hash = self
            .0
            .hashes
            .try_get_or_find_with(name, || self.find(name))?;
        let text = hash.as_deref().unwrap_or(&self.0.nobody);
        let known = PasswordHash::new(text).map_err(|error| error.to_string())?;
        let matches = Argon2::default()
            .verify_password(password.as_bytes(), &known)
            .is_ok();
        Ok((!matches || hash.is_none()).then_some(Refusal::WrongPassword))
    }

    fn find(&self, name: &str) -> Result<Option<Arc<str>>, rusqlite::Error> {
        let table = self.0.table.lock().expect("nobody panics with the table");
        let hash = |row: &rusqlite::Row| row.get::<_, Arc<str>>(0);
        (table.query_row("SELECT hash FROM users WHERE name = ?1", [name], hash)).optional()
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_alphanumeric() || letter == '-';
    (1..=32).contains(&name.chars().count()) && name.chars().all(allowed)
}

fn hash_of(password: &str) -> Result<String, Error> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| error.to_string())?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_signed_up_logs_in_and_nobody_else() {
        let users = Users::open(None).unwrap();
        let wrong = Some(Refusal::WrongPassword);
        assert_eq!(users.log_in("ada", "a good password").await.unwrap(), wrong);
        assert_eq!(users.sign_up("ada", "a good password").await.unwrap(), None);
        assert_eq!(users.log_in("ada", "a good password").await.unwrap(), None);
        assert_eq!(users.log_in("ada", "a bad password").await.unwrap(), wrong);
        let taken = users.sign_up("ada", "another password").await.unwrap();
        assert_eq!(taken, Some(Refusal::NameTaken));
    }

    #[tokio::test]
    async fn who_comes_when_all_processors_hash_waits() {
        let users = Users::open(None).unwrap();
        let processors = users.0.hashing.available_permits() as u32;
        let all = users.0.hashing.acquire_many(processors).await.unwrap();
        let mut asks = std::pin::pin!(users.sign_up("ada", "a good password"));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut asks);
        assert!(early.await.is_err());
        drop(all);
        assert_eq!(asks.await.unwrap(), None);
        assert_eq!(users.0.hashing.available_permits() as u32, processors);
    }

    #[tokio::test]
    async fn passwords_cannot_be_guessed_at_full_speed() {
        let users = Users::open(None).unwrap();
        for _ in 0..5 {
            let guess = users.log_in("ada", "guess").await.unwrap();
            assert_eq!(guess, Some(Refusal::WrongPassword));
        }
        let sixth = users.log_in("ada", "guess").await.unwrap();
        assert!(matches!(sixth, Some(Refusal::TooManyGuesses(_))));
    }
}
