//! Cache-aside in front of a PostgreSQL server, while a second session commits.
//!
//! `DATABASE_URL=postgres://user@localhost/database cargo run --release`
//!
//! It makes a table of its own in that database, `haybox_cache_aside_example`, and drops it at the
//! end. Readers fill a cache while a writer changes the rows and invalidates them, once the usual
//! way (`get`, a query, `insert`) and once through `read_through` and `invalidate_around`. It fails
//! if the second ever served what had been replaced.

#[path = "../../common/race.rs"]
mod race;

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use postgres::{Client, Config, NoTls, Statement};
use race::Table;

const ROUNDS: u64 = 5_000;
const READERS: usize = 4;

fn main() -> ExitCode {
    let Ok(url) = env::var("DATABASE_URL") else {
        println!(
            "DATABASE_URL is not set, so there is no server to ask. For instance: \
             DATABASE_URL=postgres://postgres@localhost/postgres cargo run --release"
        );
        return ExitCode::SUCCESS;
    };
    match run(&url) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let prices = Arc::new(Prices::create(url.parse()?)?);
    let naive = race::naive(&prices, ROUNDS, READERS)?;
    let fenced = race::fenced(&prices, ROUNDS, READERS)?;
    prices
        .sessions
        .with(|session| session.client.batch_execute(DROP))?;
    race::print(&[("get, query, insert", &naive), ("read_through", &fenced)]);
    Ok(ExitCode::from(u8::from(!fenced.is_clean())))
}

/// What PostgreSQL says about an error is in its causes.
fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

const ROWS: u32 = 1_000;

const CREATE: &str = "
    CREATE TABLE haybox_cache_aside_example (id integer PRIMARY KEY, price bigint NOT NULL);
    INSERT INTO haybox_cache_aside_example SELECT id, 0 FROM generate_series(1, 1000) id;";
const DROP: &str = "DROP TABLE IF EXISTS haybox_cache_aside_example";
const RESET: &str = "UPDATE haybox_cache_aside_example SET price = 0";
const READ: &str = "SELECT price FROM haybox_cache_aside_example WHERE id = $1";
const WRITE: &str = "UPDATE haybox_cache_aside_example SET price = $2 WHERE id = $1";

/// The prices in a table of the server.
struct Prices {
    sessions: Sessions,
}

impl Prices {
    fn create(server: Config) -> Result<Self, postgres::Error> {
        let mut client = server.connect(NoTls)?;
        client.batch_execute(DROP)?;
        client.batch_execute(CREATE)?;
        let sessions = Sessions {
            server,
            idle: Mutex::default(),
        };
        Ok(Prices { sessions })
    }
}

impl Table for Prices {
    type Error = postgres::Error;

    fn rows(&self) -> u32 {
        ROWS
    }

    fn reset(&self) -> Result<(), postgres::Error> {
        self.sessions
            .with(|session| session.client.batch_execute(RESET))
    }

    fn read(&self, row: u32) -> Result<u64, postgres::Error> {
        self.sessions.with(|session| {
            let row = session.client.query_one(&session.read, &[&(row as i32)])?;
            Ok(row.get::<_, i64>(0) as u64)
        })
    }

    fn write(&self, row: u32, value: u64) -> Result<(), postgres::Error> {
        self.sessions.with(|session| {
            let mut transaction = session.client.transaction()?;
            transaction.execute(&session.write, &[&(row as i32), &(value as i64)])?;
            transaction.commit()
        })
    }
}

/// A pool: a session for whoever asks, at most as many as threads that ask at once.
struct Sessions {
    server: Config,
    idle: Mutex<Vec<Session>>,
}

struct Session {
    client: Client,
    read: Statement,
    write: Statement,
}

impl Sessions {
    fn with<R>(
        &self,
        ask: impl FnOnce(&mut Session) -> Result<R, postgres::Error>,
    ) -> Result<R, postgres::Error> {
        let idle = self.idle.lock().expect("nobody panics with it").pop();
        let mut session = match idle {
            Some(session) => session,
            None => self.open()?,
        };
        let answer = ask(&mut session)?;
        // One that has failed is not used again.
        self.idle
            .lock()
            .expect("nobody panics with it")
            .push(session);
        Ok(answer)
    }

    fn open(&self) -> Result<Session, postgres::Error> {
        let mut client = self.server.connect(NoTls)?;
        // The commits need not survive a power cut, and are much faster so.
        client.batch_execute("SET synchronous_commit = off")?;
        Ok(Session {
            read: client.prepare(READ)?,
            write: client.prepare(WRITE)?,
            client,
        })
    }
}
