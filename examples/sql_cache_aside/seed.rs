//! Makes the database of the shop, once.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags, params};

use crate::common::{Failure, progress};
use crate::shop::{PRICES, REVIEWS_PER_PRODUCT, product_of_rank};

/// Seeds the database unless it is there already, and reads it once, so that neither run is the
/// one that waits for the disk.
pub fn prepare(db: &Path, products: u32, reseed: bool) -> Result<(), Failure> {
    if seeded_products(db)? != Some(products) || reseed {
        let begin = Instant::now();
        seed(db, products)?;
        println!(
            "seeded the database in {:.1} s",
            begin.elapsed().as_secs_f64()
        );
    }
    io::copy(&mut File::open(db)?, &mut io::sink())?;
    Ok(())
}

/// Keeps a second run off the database: it would change rows behind this run's cache.
pub fn lock(path: &Path) -> Result<File, Failure> {
    // Before a file is put beside one that is none of ours.
    seeded_products(path)?;
    let name = beside(path, ".lock");
    let wrong = |error| Failure::Input(format!("cannot open {}: {error}", name.display()));
    let file = File::create(&name).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(wrong(error)),
        Err(TryLockError::WouldBlock) => Err(Failure::Input(format!(
            "another run uses {}; --db chooses another file",
            path.display()
        ))),
    }
}

/// The number of products in the file, or `None` if there is no file.
fn seeded_products(path: &Path) -> Result<Option<u32>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let read = |pragma| {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_query_value(None, pragma, |row| row.get(0))
    };
    match (read("application_id"), read("user_version")) {
        (Ok(APPLICATION_ID), Ok(products)) => Ok(Some(products as u32)),
        _ => Err(Failure::Input(format!(
            "{} is no database of this example and is left alone",
            path.display()
        ))),
    }
}

/// Marks a database of this example ("hbsa"), so that no other file is ever replaced.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"hbsa");

const SCHEMA: &str = "
    CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE products (
        id INTEGER PRIMARY KEY,
        category_id INTEGER NOT NULL REFERENCES categories (id),
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        price_cents INTEGER NOT NULL
    );
    CREATE TABLE reviews (
        id INTEGER PRIMARY KEY,
        product_id INTEGER NOT NULL REFERENCES products (id),
        rating INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 5),
        author TEXT NOT NULL,
        body TEXT NOT NULL,
        created_at INTEGER NOT NULL
    );";

/// Built after the rows, which is faster than row by row.
const INDEXES: &str = "
    CREATE INDEX products_of_category ON products (category_id);
    CREATE INDEX ratings_of_product ON reviews (product_id, rating);
    CREATE INDEX newest_of_product ON reviews (product_id, created_at);
    ANALYZE;";

const CATEGORIES: [&str; 8] = [
    "Books", "Garden", "Kitchen", "Lighting", "Music", "Office", "Sports", "Toys",
];

const BODIES: [&str; 4] = [
    "Does what it should.",
    "Arrived a day late, but well packed, and it has worked every day since.",
    "The second one I bought; the first went to my sister, who would not give it back.",
    "Smaller than the picture suggests. For the price it is good enough, though I would have paid \
     more for a longer cable and a manual that one can read.",
];

/// Writes the rows into a new file that takes the database's name only when it is complete. So it
/// needs no journal, and what an interrupted seeding leaves is never used.
fn seed(path: &Path, products: u32) -> Result<(), Failure> {
    let new = beside(path, ".seeding");
    remove_if_there(&new)?;
    let mut connection = Connection::open(&new)?;
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    seed_products(&transaction, products)?;
    seed_reviews(&transaction, products)?;
    transaction.execute_batch(INDEXES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", products)?;
    transaction.commit()?;
    connection.execute_batch("PRAGMA journal_mode = WAL")?;
    connection.close().map_err(|(_, error)| error)?;

    // The old database's log must not be applied to the new one.
    remove_if_there(&beside(path, "-wal"))?;
    remove_if_there(&beside(path, "-shm"))?;
    Ok(fs::rename(new, path)?)
}

fn seed_products(connection: &Connection, products: u32) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT INTO categories (name) VALUES (?1)")?;
    for category in CATEGORIES {
        insert.execute([category])?;
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut insert = connection.prepare(
        "INSERT INTO products (category_id, name, description, price_cents)
         VALUES (?1, ?2, ?3, ?4)",
    )?;
    let bar = progress(products.into(), "seeding products");
    for product in 1..=products {
        let category = random.u32(1..=CATEGORIES.len() as u32);
        let name = format!("{} article {product}", CATEGORIES[category as usize - 1]);
        let description = format!("{name}, made to last and easy to repair.");
        let price_cents = random.u32(PRICES);
        insert.execute(params![category, name, description, price_cents])?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Reviews arrive one a second, each for a product drawn by popularity.
fn seed_reviews(connection: &Connection, products: u32) -> rusqlite::Result<()> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut insert = connection.prepare(
        "INSERT INTO reviews (product_id, rating, author, body, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let reviews = u64::from(products) * REVIEWS_PER_PRODUCT;
    let bar = progress(reviews, "seeding reviews");
    for review in 0..reviews {
        // The square of an even draw makes the n-th product's share fall with the root of n: of
        // 200,000 products the first has some 2,200 reviews, most have two or three.
        let rank = (random.f64().powi(2) * f64::from(products)) as u64 + 1;
        insert.execute(params![
            product_of_rank(rank, products),
            random.u32(1..=5).max(random.u32(1..=5)),
            format!("Customer {}", random.u32(1..=100_000)),
            random.choice(BODIES),
            1_700_000_000 + review as i64,
        ])?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
