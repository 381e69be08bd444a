//! One column of the shop, to be read while it is written.

use std::path::Path;

use crate::pool::Pool;
use crate::race::Table;
use crate::shop::Change;

/// The prices of the first products.
pub struct Prices {
    pool: Pool,
    products: u32,
}

/// So many prices are written in turns.
const MOST: u32 = 1_000;

impl Prices {
    pub fn open(db: &Path, products: u32) -> rusqlite::Result<Self> {
        Ok(Prices {
            pool: Pool::open(db, 1)?,
            products: products.min(MOST),
        })
    }
}

impl Table for Prices {
    type Error = rusqlite::Error;

    fn rows(&self) -> u32 {
        self.products
    }

    fn reset(&self) -> rusqlite::Result<()> {
        self.pool.with(|shop| shop.reset_prices(self.products))
    }

    fn read(&self, row: u32) -> rusqlite::Result<u64> {
        self.pool.with(|shop| shop.price(row)).map(u64::from)
    }

    fn write(&self, row: u32, value: u64) -> rusqlite::Result<()> {
        let price = Change::Price(value as u32);
        self.pool.with(|shop| shop.change(row, price))
    }
}
