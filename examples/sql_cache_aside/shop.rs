//! The database of the shop: what a page reads and what a change writes.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};

pub const REVIEWS_PER_PRODUCT: u64 = 5;

/// In cents.
pub const PRICES: Range<u32> = 100..50_000;

#[derive(PartialEq)]
pub struct Page {
    name: String,
    category: String,
    description: String,
    price_cents: i64,
    reviews: i64,
    average: Option<f64>,
    /// How many reviews give 1 to 5 stars.
    ratings: [i64; 5],
    newest: Vec<Review>,
}

#[derive(PartialEq)]
pub struct Review {
    author: String,
    rating: i64,
    body: String,
}

impl Page {
    /// Its size in memory without the spare room of the allocator.
    pub fn bytes(&self) -> usize {
        let texts = [&self.name, &self.category, &self.description];
        let newest = self.newest.iter().flat_map(|one| [&one.author, &one.body]);
        let text: usize = texts.into_iter().chain(newest).map(String::len).sum();
        size_of::<Page>() + size_of_val(self.newest.as_slice()) + text
    }
}

/// A connection to the database, which counts its queries.
pub struct Shop {
    connection: Connection,
    pub queries: u64,
}

impl Shop {
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Writers take turns, and wait for theirs instead of failing with SQLITE_BUSY.
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // All statements of a shop stay prepared.
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Shop {
            connection,
            queries: 0,
        })
    }

    /// The page of a product, or `None` if there is no such product.
    pub fn page(&mut self, product: u32) -> rusqlite::Result<Option<Page>> {
        self.queries += 3;
        // One transaction, so that the three queries see the same moment.
        let transaction = self.connection.transaction()?;
        let Some(summary) = summary(&transaction, product)? else {
            return Ok(None);
        };
        let page = Page {
            ratings: ratings(&transaction, product)?,
            newest: newest(&transaction, product)?,
            ..summary
        };
        transaction.commit()?;
        Ok(Some(page))
    }

    pub fn change(&mut self, product: u32, change: Change) -> rusqlite::Result<()> {
        // Takes the write lock at once: a transaction that has read before it asks for the lock
        // fails if another has written meanwhile, and no time-out helps.
        let immediate = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(immediate)?;
        match change {
            Change::Price(cents) => transaction
                .prepare_cached("UPDATE products SET price_cents = ?2 WHERE id = ?1")?
                .execute([product, cents])?,
            Change::Review(rating) => transaction
                .prepare_cached(
                    "INSERT INTO reviews (product_id, rating, author, body, created_at)
                     VALUES (?1, ?2, 'A new customer', 'Just arrived.', unixepoch())",
                )?
                .execute([product, rating])?,
        };
        transaction.commit()
    }

    pub fn price(&mut self, product: u32) -> rusqlite::Result<u32> {
        self.queries += 1;
        self.connection
            .prepare_cached("SELECT price_cents FROM products WHERE id = ?1")?
            .query_row([product], |row| row.get(0))
    }

    pub fn reset_prices(&self, products: u32) -> rusqlite::Result<()> {
        self.connection
            .execute(
                "UPDATE products SET price_cents = 0 WHERE id <= ?1",
                [products],
            )
            .map(drop)
    }

    /// Deletes the reviews that came after the seeding, so that every run finds the same number.
    pub fn forget_changes(&self, products: u32) -> rusqlite::Result<()> {
        let seeded = i64::from(products) * REVIEWS_PER_PRODUCT as i64;
        self.connection
            .execute("DELETE FROM reviews WHERE id > ?1", [seeded])?;
        self.connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
    }
}

// The queries of a page. Each is served by an index: the run without a cache is no straw man.

const SUMMARY: &str = "
    SELECT p.name, c.name, p.description, p.price_cents, count(r.rating), avg(r.rating)
    FROM products p
    JOIN categories c ON c.id = p.category_id
    LEFT JOIN reviews r ON r.product_id = p.id
    WHERE p.id = ?1
    GROUP BY p.id";

/// The page without what the other two queries add.
fn summary(connection: &Connection, product: u32) -> rusqlite::Result<Option<Page>> {
    let page = |row: &Row| {
        Ok(Page {
            name: row.get(0)?,
            category: row.get(1)?,
            description: row.get(2)?,
            price_cents: row.get(3)?,
            reviews: row.get(4)?,
            average: row.get(5)?,
            ratings: [0; 5],
            newest: Vec::new(),
        })
    };
    let mut query = connection.prepare_cached(SUMMARY)?;
    query.query_row([product], page).optional()
}

const RATINGS: &str = "SELECT rating, count(*) FROM reviews WHERE product_id = ?1 GROUP BY rating";

fn ratings(connection: &Connection, product: u32) -> rusqlite::Result<[i64; 5]> {
    let mut counts = [0; 5];
    let mut query = connection.prepare_cached(RATINGS)?;
    let mut rows = query.query([product])?;
    while let Some(row) = rows.next()? {
        let stars: u32 = row.get(0)?;
        counts[stars as usize - 1] = row.get(1)?;
    }
    Ok(counts)
}

const NEWEST: &str = "
    SELECT author, rating, body FROM reviews WHERE product_id = ?1
    ORDER BY created_at DESC, id DESC LIMIT 5";

fn newest(connection: &Connection, product: u32) -> rusqlite::Result<Vec<Review>> {
    let review = |row: &Row| {
        Ok(Review {
            author: row.get(0)?,
            rating: row.get(1)?,
            body: row.get(2)?,
        })
    };
    let mut query = connection.prepare_cached(NEWEST)?;
    query.query_map([product], review)?.collect()
}

#[derive(Clone, Copy)]
pub enum Change {
    /// A new review gives so many stars.
    Review(u32),
    /// In cents.
    Price(u32),
}

/// Spreads the popular products over all row numbers, or they would lie side by side on few pages
/// of the database. Multiplying by a prime above `products` maps the ranks one to one.
pub fn product_of_rank(rank: u64, products: u32) -> u32 {
    (rank * 2_654_435_761 % u64::from(products)) as u32 + 1
}
