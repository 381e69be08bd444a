//! Opening a cache or a store on a directory.

use super::codec::{Codec, CodecError};
use super::dir_kind::DirKind;
use super::encoder::Encoder;
use super::error::OpenError;
use super::frame::LARGEST;
use super::handle::Journal;
use super::journal::OpenJournal;
use super::kept::Kept;
use super::options::Persistence;
use super::recorder::Log;
use super::storage::Disk;
use super::store::Store;
use super::wall::{STEP, Wall};
use crate::build_error::SettingsOf;
use crate::builder::CacheBuilder;
use crate::cache::Cache;
use crate::entry::OnFull;
use crate::sync::{AtomicBool, AtomicU64};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher, Hash};
use std::path::Path;
use std::sync::Arc;

/// Opening on a directory, where what is in the cache survives a restart.
impl<K, V, S> CacheBuilder<K, V, S>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// Builds a cache that survives restarts: with what the directory holds, in which every change
    /// is kept from now on. The directory is made if it is not there. Feature `persist`.
    ///
    /// Entries come back with their deadlines, as times of the wall clock, their tags, and with
    /// what the eviction policy knew of them: as of the last snapshot, which is made at the end,
    /// too, where there are less than 16 MiB. Freshness ([`freshness`](Self::freshness)) takes what
    /// comes back as due to be loaded anew. What expired while the directory was closed does not
    /// come back, and no listener or event tells of it.
    ///
    /// The builder may be another one than that of last time:
    ///
    /// - A [`weigher`](Self::weigher) weighs everything anew. Without one, a weight that a loader
    ///   gave comes back.
    /// - A [`group_by`](Self::group_by) groups everything anew. Until it is written again, an entry
    ///   is of the group that it had, too. What was invalidated before were the groups of then.
    /// - A [`time_to_live`](Self::time_to_live) or an [`expiry`](Self::expiry) is for what is
    ///   written from then on: what comes back keeps its deadline, or has none. A
    ///   [`time_to_idle`](Self::time_to_idle) is for what is accessed from then on: until that,
    ///   what had one goes on with what is left of it, and up to an eighth of the new one, but with
    ///   no more than the new one. Without it there is none.
    ///
    /// What is beyond the bounds is evicted at once, and gone from the directory, too. So the
    /// directory of a store, or of anything else, is not opened as a cache's: that is
    /// [`OpenError::OtherKind`], and changes nothing ([`DirKind`]). A store is opened by
    /// [`open_store`](Self::open_store), which keeps all of it.
    ///
    /// Dropping the last handle writes what is not written yet. **A `static` is never dropped**: a
    /// program that keeps its cache in one calls [`Journal::close`] before it ends, or it loses the
    /// last writes, normally those of the last 5 ms and at most what the
    /// [`buffer`](Persistence::buffer) allows, though it ends in peace.
    ///
    /// No call of the cache fails because of the disk: what cannot be kept is in memory alone, and
    /// [`Journal::health`] says so. For a `kill -9` or a power loss see
    /// [`persist`](crate::persist).
    ///
    /// `update` and `compute` clone the value, change and encode the copy, and put it in the place
    /// of the old one, all under the lock of its set; so an `update` that panics leaves the value
    /// as it was. What does not encode is in memory, and absent after a restart.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the directory, and what can be done about it; or with
    /// the settings of the builder. What the directory holds is as it was then, but for the
    /// directory and its `LOCK` file, which may have been made, and the unfinished write of a
    /// crash, which may have been moved to `quarantine/` already.
    ///
    /// ```
    /// use haybox::Cache;
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("sessions");
    /// let open = || {
    ///     Cache::<String, u64>::builder()
    ///         .max_entries(100_000)
    ///         .time_to_idle(Duration::from_secs(1800))
    ///         .open(&dir)
    /// };
    /// let sessions = open()?;
    /// sessions.insert("token".into(), 7);
    /// drop(sessions); // The process ends.
    ///
    /// let sessions = open()?;
    /// assert_eq!(sessions.get("token"), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Where nothing may keep the program from starting
    /// A tool whose cache is there to save time goes on without what it cannot have:
    ///
    /// ```
    /// use haybox::persist::{OpenError, Persistence, RecoveryMode};
    /// use haybox::{BuildError, Cache};
    /// use std::path::Path;
    ///
    /// fn pages(dir: &Path) -> Result<Cache<String, String>, BuildError> {
    ///     let builder = || Cache::builder().max_entries(100_000);
    ///     let error = match builder().open(dir) {
    ///         Ok(pages) => return Ok(pages),
    ///         Err(error) => error,
    ///     };
    ///     eprintln!("the cache: {error}");
    ///     match error {
    ///         // Another process of the tool has it.
    ///         OpenError::Locked { .. } => builder().build(),
    ///         // All that can still be read; the rest is put aside, in `quarantine/`.
    ///         _ => builder()
    ///             .open_with(dir, Persistence::new().recovery(RecoveryMode::Salvage))
    ///             .or_else(|_| builder().build()),
    ///     }
    /// }
    /// # let dir = tempfile::tempdir()?;
    /// # pages(&dir.path().join("cache"))?;
    /// # std::fs::write(dir.path().join("no directory"), "x")?;
    /// # pages(&dir.path().join("no directory"))?.insert("a".into(), "b".into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Cache<K, V, S>, OpenError> {
        self.open_with(dir, Persistence::new())
    }

    /// As [`open`](Self::open), with options. Feature `persist`.
    ///
    /// # Errors
    /// As for `open`.
    pub fn open_with<C: Codec>(
        self,
        dir: impl AsRef<Path>,
        options: Persistence<C>,
    ) -> Result<Cache<K, V, S>, OpenError> {
        let (cache, _) = self.open_either(dir.as_ref(), options, false)?;
        Ok(cache)
    }

    /// Builds a [`Store`], a key-value database whose writes say whether they were kept, with what
    /// the directory holds. The directory is made if it is not there. Feature `persist`.
    ///
    /// A store evicts nothing: where there is a bound, a value that does not fit is an error, and
    /// [`on_full`](Self::on_full) has no say. Nor does it load anything. So an
    /// [`eviction_policy`](Self::eviction_policy) other than the default is an error, and so is what
    /// is said about loads: [`freshness`](Self::freshness), [`spawner`](Self::spawner),
    /// [`negative_ttl`](Self::negative_ttl), [`error_ttl`](Self::error_ttl),
    /// [`negative_weigher`](Self::negative_weigher) and a [`lock_timeout`](Self::lock_timeout) other
    /// than the default. What the directory holds stays, also where the bound is less than that: then
    /// a value under a new key does not fit before enough is removed.
    ///
    /// The directory of a cache may be opened as a store, and is a store's from then on. That of
    /// counters, a queue or sessions is [`OpenError::OtherKind`], as a store's is for
    /// [`open`](Self::open) ([`DirKind`]).
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// ```
    /// use haybox::Cache;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("carts");
    /// let carts = Cache::<String, Vec<u32>>::builder().open_store(&dir)?;
    /// carts.insert("ada".into(), vec![7])?.wait()?;
    /// carts.update("ada", |cart| cart.push(9))?.wait()?;
    /// assert_eq!(carts.get("ada"), Some(vec![7, 9]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "open")]
    pub fn open_store(self, dir: impl AsRef<Path>) -> Result<Store<K, V, S>, OpenError> {
        self.open_store_with(dir, Persistence::new())
    }

    /// As [`open_store`](Self::open_store), with options. Feature `persist`.
    ///
    /// # Errors
    /// As for `open_store`.
    pub fn open_store_with<C: Codec>(
        self,
        dir: impl AsRef<Path>,
        options: Persistence<C>,
    ) -> Result<Store<K, V, S>, OpenError> {
        self.check_store()?;
        let builder = self.on_full(OnFull::Reject);
        let (cache, journal) = builder.open_either(dir.as_ref(), options, true)?;
        Ok(Store::new(cache, journal))
    }

    fn open_either<C: Codec>(
        self,
        dir: &Path,
        options: Persistence<C>,
        is_store: bool,
    ) -> Result<(Cache<K, V, S>, Journal), OpenError> {
        options.check()?;
        SettingsOf("Persistence").check([(
            is_store && options.settings.discards_unclosed,
            "discard_unclosed",
            "is for caches: a store keeps what it has acknowledged",
        )])?;
        let clock = self.chosen_clock().clone();
        let of_face = if is_store {
            DirKind::Store
        } else {
            DirKind::Cache
        };
        let kind = self.role().unwrap_or(of_face);
        let (settings, waits) = options.settle(is_store, kind, clock.clone());
        let verifies = options.verifies;
        let (migrates, is_read_only) = (options.migrate.is_some(), settings.is_read_only());
        let encoder = |codec| Encoder {
            codec,
            decode: verifies.then_some(decode::<K, V, C> as _),
            largest: LARGEST,
        };
        let cache = self.assemble(false)?;
        let bounds = cache.engine().lift_bounds();
        let evicts = !is_store && bounds.are_any();
        let wall = Arc::new(Wall::new(clock));
        let kept = Arc::new(Kept {
            engine: cache.shared_engine(),
            hasher: cache.hasher().clone(),
            encoder: encoder(options.codec.clone()),
            is_store,
            wall: Arc::clone(&wall),
            migrate: options.migrate,
            evicts,
            dropped: AtomicU64::new(0),
            has_regrouped: AtomicBool::new(false),
        });
        let contents = Arc::<Kept<K, V, S, C>>::clone(&kept);
        let (sink, mut report) = OpenJournal::open(dir, settings, Arc::new(Disk), contents)?;
        report.entries = cache.len() as u64;
        report.expired = kept.dropped();
        let is_migrated = migrates && !report.migrated_from.is_empty();
        let is_far_back = report.clock.ahead() >= STEP;
        let is_unclosed = report.closed == Some(false);
        let journal = Journal {
            open: Arc::clone(&sink),
            recovery: Arc::new(report),
            evicts,
            gather: None,
        };
        cache.engine().record_to(Box::new(Log {
            sink,
            encoder: encoder(options.codec),
            wall,
            is_store,
            waits,
            copy: V::clone,
            handle: Some(journal.clone()),
        }));
        cache.engine().set_bounds(bounds);
        cache.reset_stats();
        if (is_migrated || kept.has_regrouped() || is_far_back || is_unclosed) && !is_read_only {
            // The files are to say what is there now: an invalidation of a group finds entries by
            // what is recorded of them, and the time of a clock that went back would count again at
            // each start, and cost what was written since of its time; what was discarded takes up
            // room. If it fails, the old ones are read again next time; health() says why.
            let _ = journal.compact();
        }
        Ok((cache, journal))
    }
}

fn decode<K, V, C>(codec: &C, key: &[u8], value: &[u8]) -> Result<(), CodecError>
where
    K: DeserializeOwned,
    V: DeserializeOwned,
    C: Codec,
{
    codec.decode::<K>(key)?;
    codec.decode::<V>(value)?;
    Ok(())
}

impl<K, V, S> Cache<K, V, S> {
    /// The files that the cache is kept in; `None` if it was not opened on a directory.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        let handle = self.engine().recorder()?.handle();
        handle.downcast_ref::<Option<Journal>>()?.as_ref()
    }
}
