//! The service: products by number, for who has an API key.

use crate::Result;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use haybox::limit::{Limiter, Quota, RateLimitLayer};
use haybox::{Cache, LoadError};
use rusqlite::{Connection, OptionalExtension};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const PRODUCTS: u32 = 500;

/// Products as they are sent, by number.
pub type Shop = Cache<u32, Arc<str>>;

#[derive(Clone)]
struct App {
    shop: Shop,
    database: Arc<Mutex<Connection>>,
}

/// The service, and its cache to look at.
pub fn service(rate: u32, burst: u32) -> Result<(Router, Shop)> {
    let shop = Cache::builder()
        .max_entries(10_000)
        .time_to_live(Duration::from_secs(60))
        // Who asks for numbers that are not there does not reach the database each time.
        .negative_ttl(Duration::from_secs(5))
        .build()?;
    let app = App {
        shop: shop.clone(),
        database: Arc::new(Mutex::new(database()?)),
    };
    let limiter = Limiter::<String>::new(Quota::per_second(rate).burst(burst))?;
    let router = Router::new()
        .route("/products/{number}", get(product))
        .layer(RateLimitLayer::new(limiter, api_key))
        .with_state(app);
    Ok((router, shop))
}

fn api_key(request: &Request) -> Option<String> {
    // A real service has checked the key before it comes here.
    let key = request.headers().get("x-api-key")?;
    Some(key.to_str().ok()?.to_owned())
}

fn database() -> Result<Connection> {
    let mut database = Connection::open_in_memory()?;
    database
        .execute_batch("CREATE TABLE product (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")?;
    let filling = database.transaction()?;
    for number in 0..PRODUCTS {
        let name = format!("product {number}");
        filling.execute("INSERT INTO product VALUES (?1, ?2)", (number, name))?;
    }
    filling.commit()?;
    Ok(database)
}

async fn product(
    State(app): State<App>,
    Path(number): Path<u32>,
) -> std::result::Result<String, StatusCode> {
    let database = &app.database;
    let found = app
        .shop
        .try_get_or_find(&number, || async move {
            ask(Arc::clone(database), number).await
        })
        .await;
    match found {
        Ok(Some(name)) => Ok(name.to_string()),
        Ok(None) => Err(StatusCode::NOT_FOUND),
        Err(error) => {
            let error: LoadError<_> = error;
            eprintln!("product {number}: {error}");
            Err(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Asks the database on a thread that may block.
async fn ask(database: Arc<Mutex<Connection>>, number: u32) -> rusqlite::Result<Option<Arc<str>>> {
    let query = move || {
        let database = database.lock().expect("no query panics");
        let mut query = database.prepare_cached("SELECT name FROM product WHERE number = ?1")?;
        query.query_row([number], |row| row.get(0)).optional()
    };
    tokio::task::spawn_blocking(query)
        .await
        .expect("a query does not panic")
}
