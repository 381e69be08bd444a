//! Connections for threads that ask now and then.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::shop::Shop;

/// Opens as many connections as threads use at once, and keeps them.
pub struct Pool {
    db: PathBuf,
    idle: Mutex<Vec<Shop>>,
}

impl Pool {
    pub fn open(db: &Path, connections: usize) -> rusqlite::Result<Self> {
        let shops: rusqlite::Result<_> = (0..connections).map(|_| Shop::open(db)).collect();
        Ok(Pool {
            db: db.to_path_buf(),
            idle: Mutex::new(shops?),
        })
    }

    pub fn with<R>(
        &self,
        ask: impl FnOnce(&mut Shop) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let idle = self.idle().pop();
        let mut shop = match idle {
            Some(shop) => shop,
            None => Shop::open(&self.db)?,
        };
        let answer = ask(&mut shop);
        self.idle().push(shop);
        answer
    }

    /// Of the connections that nobody uses now.
    pub fn queries(&self) -> u64 {
        self.idle().iter().map(|shop| shop.queries).sum()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Shop>> {
        self.idle.lock().expect("nobody panics with it")
    }
}
