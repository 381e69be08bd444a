//! How a directory is kept: everything that can be chosen, in one place.

use super::codec::{Codec, CodecError, MessagePack};
use super::dir_kind::DirKind;
use super::header::CodecId;
use super::migrate::{Migrate, MigrateRef, Migrated, Old};
use super::report::Progress;
use super::settings::{RecoveryMode, Settings, SyncPolicy, WhenFull};
use crate::build_error::{BuildError, SettingsOf};
use crate::time::Clock;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a cache or a store is kept in its directory, for
/// [`CacheBuilder::open_with`](crate::CacheBuilder::open_with) and
/// [`CacheBuilder::open_store_with`](crate::CacheBuilder::open_store_with).
///
/// | option | default |
/// | --- | --- |
/// | [`sync`](Self::sync) | every second |
/// | [`codec`](Self::codec) | MessagePack, with the names of fields |
/// | [`verify_writes`](Self::verify_writes) | in debug builds |
/// | [`schema_version`](Self::schema_version), [`migrate`](Self::migrate) | 0, none |
/// | [`recovery`](Self::recovery) | an unfinished write at the end is dropped, damage is refused |
/// | [`create_if_missing`](Self::create_if_missing) | yes |
/// | [`discard_unclosed`](Self::discard_unclosed) | no, a cache goes on with what is in the files |
/// | [`buffer`](Self::buffer), [`when_full`](Self::when_full) | 256 KiB; a store waits 5 s for room, a cache 100 ms |
/// | [`compact_at`](Self::compact_at), [`log_limit`](Self::log_limit) | at 100 % growth past 64 MiB, no limit |
/// | [`generations`](Self::generations) | 1 |
/// | [`snapshots_only`](Self::snapshots_only) | no, every write is logged |
/// | [`clock_skew`](Self::clock_skew) | 1 day |
/// | [`threads`](Self::threads), [`on_progress`](Self::on_progress) | one for each processor, up to 8; nobody is told |
///
/// A setting that cannot be is [`OpenError::Build`](super::OpenError) when the directory is opened.
///
/// ```
/// use haybox::Cache;
/// use haybox::persist::{Persistence, SyncPolicy};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("accounts");
/// let accounts = Cache::<u64, i64>::builder()
///     .open_store_with(&dir, Persistence::new().sync(SyncPolicy::Always))?;
/// accounts.insert(7, 100)?.wait()?; // On the disk when this returns.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Persistence<C = MessagePack> {
    pub(super) codec: C,
    pub(super) settings: Settings,
    /// By default it depends on the face.
    when_full: Option<WhenFull>,
    pub(super) verifies: bool,
    pub(super) migrate: Option<Migrate<C>>,
}

impl<C: fmt::Debug> fmt::Debug for Persistence<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persistence")
            .field("codec", &self.codec)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Persistence {
    /// Every option at its default: the same as `default()`.
    pub fn new() -> Self {
        Self {
            codec: MessagePack,
            settings: Settings::new(CodecId(MessagePack.id())),
            when_full: None,
            verifies: cfg!(debug_assertions),
            migrate: None,
        }
    }
}

impl Default for Persistence {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a write of a cache waits for room by default, if none has waited in vain since the disk
/// has taken something. A store's wait longer, since they would fail.
const PATIENCE_OF_CACHES: WhenFull = WhenFull::Block(Duration::from_millis(100));

/// How long a write waits until it is durable where it must not wait for room.
const PATIENCE: Duration = Duration::from_secs(5);

impl<C: Codec> Persistence<C> {
    /// When writes are made durable. Default: [`SyncPolicy::Every`] second.
    ///
    /// Under [`SyncPolicy::Always`] a write of a [`Cache`](crate::Cache) returns when it is on the
    /// disk, or after the time that [`when_full`](Self::when_full) allows, and blocks its thread
    /// for so long, that of an async task too. A [`Store`](crate::Store) returns at once, and its
    /// [`Commit`](super::Commit) is waited for.
    pub fn sync(mut self, policy: SyncPolicy) -> Self {
        self.settings.sync = policy;
        self
    }

    /// How keys and values become bytes. Default: [`MessagePack`]. What was written with one codec
    /// is not opened with another. Takes back [`migrate`](Self::migrate). For what a codec encodes
    /// and does not decode see [`verify_writes`](Self::verify_writes).
    pub fn codec<D: Codec>(self, codec: D) -> Persistence<D> {
        let mut settings = self.settings;
        settings.codec = CodecId(codec.id());
        settings.accepts_schema = None;
        Persistence {
            codec,
            settings,
            when_full: self.when_full,
            verifies: self.verifies,
            migrate: None,
        }
    }

    /// Whether each write is decoded at once, and refused if that fails, as one is that does not
    /// encode: by a store with [`WriteError::Encode`](super::WriteError), while a cache has it in
    /// memory alone and counts it ([`Health::unencodable`](super::Health)). Default: in debug
    /// builds, and not in release builds.
    ///
    /// **One value that does not decode keeps the whole directory from being opened**
    /// ([`OpenError::Undecodable`](super::OpenError)), until it is left out by
    /// [`RecoveryMode::Salvage`]. Mostly that is a matter of types, which tests in a debug build
    /// find. But with some types it depends on the value, and so may be in the hands of who sends
    /// it. For these, verify in release builds, too, or check the value before it is written:
    ///
    /// - A number that is not finite with [`Json`]: `f64::NAN` becomes `null`, which
    ///   is no number.
    /// - A type that contains itself, such as a comment with its replies, nested deeply:
    ///   [`MessagePack`] encodes any depth and decodes 1,023 lists, maps and structs in one
    ///   another (510 replies of replies), [`Json`] 127 of them. Besides,
    ///   the stack of the thread has to hold it, or the process ends: that of the thread that
    ///   writes, mostly 8 MiB for a program's first and 2 MiB for others, where it is verified, and
    ///   that of the one that opens, which decodes a part; the others that do have 16 MiB. So a
    ///   program that verifies on its first thread opens there, too.
    /// - A `Serialize` or `Deserialize` of your own that accepts less than the other produces.
    ///
    /// It costs a `Deserialize` for each write, and for each entry of a snapshot, and that runs
    /// where `Serialize` does: by updates, transactions and snapshots under the lock of a set,
    /// where a call of a cache panics. An insertion of a struct of five fields, four texts in them,
    /// takes 8,300 instructions instead of 3,900 with [`MessagePack`], and 9,200 instead of 4,900
    /// with [`Json`].
    ///
    #[cfg_attr(feature = "json", doc = "[`Json`]: super::Json")]
    /// [`Json`]: https://docs.rs/haybox/latest/haybox/persist/struct.Json.html
    pub fn verify_writes(mut self, verify: bool) -> Self {
        self.verifies = verify;
        self
    }

    /// The version of the types of keys and values. Default: 0. Files of another version are
    /// refused, unless [`migrate`](Self::migrate) is given.
    ///
    /// Raise it with every change of a type that the codec does not bridge by itself. What was
    /// written with other types under the same version is
    /// [`OpenError::Undecodable`](super::OpenError), or taken for what it is not if it happens to
    /// decode; [`RecoveryMode::Salvage`] leaves it out.
    pub fn schema_version(mut self, version: u32) -> Self {
        self.settings.schema = version;
        self
    }

    /// Makes entries of today out of what files of another [`schema_version`](Self::schema_version)
    /// hold. Called for each value in such a file, from several threads. After it the directory is
    /// compacted to files of today's version. If there is no room for them, opening fails, and the
    /// files are still those of the other version.
    ///
    /// Keys stay as they are: the log names them. To change their type, open the directory with the
    /// old one, and insert into another. Only of entries that are [gone](Old::gone) the key may be
    /// of any type: `migrate(|old| Ok(old.gone()))` starts empty whenever the version was raised,
    /// as a cache may that is filled again anyway. What was migrated is not kept in its old form.
    ///
    /// For messages of a queue see [`Old::with_message`].
    ///
    /// ```
    /// use haybox::Cache;
    /// use haybox::persist::Persistence;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct CartV1 { items: Vec<u32> }
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Cart { items: Vec<(u32, u16)> }
    ///
    /// let options = Persistence::new().schema_version(2).migrate(|old| match old.schema_version() {
    ///     1 => {
    ///         let CartV1 { items } = old.value()?;
    ///         old.with_value(&Cart { items: items.into_iter().map(|item| (item, 1)).collect() })
    ///     }
    ///     _ => Err(old.unknown()),
    /// });
    /// # let dir = tempfile::tempdir()?;
    /// let carts = Cache::<u64, Cart>::builder().open_store_with(dir.path(), options)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn migrate<F>(mut self, migrate: F) -> Self
    where
        F: Fn(&Old<'_, C>) -> Result<Migrated, CodecError> + Send + Sync + 'static,
    {
        self.migrate = Some(Arc::new(migrate));
        self.settings.accepts_schema = Some(Arc::new(|_| true));
        self
    }

    /// Has each entry pass through what a role asks of its own entries, where there is a migration.
    pub(crate) fn migrate_through<F>(mut self, through: F) -> Self
    where
        F: Fn(&Old<'_, C>, MigrateRef<'_, C>) -> Result<Migrated, CodecError>,
        F: Send + Sync + 'static,
    {
        match self.migrate.take() {
            Some(migrate) => self.migrate(move |old| through(old, &*migrate)),
            None => self,
        }
    }

    /// No threads: what waits is written by who waits for it, and by closing.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn by_hand(mut self) -> Self {
        self.settings.by_hand = true;
        self
    }

    /// What opening does about what it finds. Default: [`RecoveryMode::TolerateTornTail`].
    pub fn recovery(mut self, mode: RecoveryMode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Whether something new is begun where nothing is kept. Default: yes. With `false` that is
    /// [`OpenError::NotFound`](super::OpenError), and nothing is made: a path with a slip in it, or
    /// a volume that is not mounted, does not become an empty store.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.settings.create_if_missing = create;
        self
    }

    /// Whether a cache begins empty where its directory was not closed in peace: by
    /// [`Journal::close`](super::Journal::close), or the drop of the last handle. Default: no.
    ///
    /// For a cache whose entries come from a source that is changed by commits. A process that is
    /// killed between a commit and the invalidation that follows it, or before that was written,
    /// leaves the old value in the files, and so do a power loss and a full disk: after them the
    /// next start would serve it until its TTL is over. With this the cache is warm after a
    /// deployment, and cold after a crash.
    ///
    /// End what writes first: what is written after the close is in memory alone, and the next start
    /// does not know of it. A directory that was last open without this counts as not closed, as do a
    /// backup, one whose last opening failed, one with damage that a salvage has left out, or that is
    /// gone back to an earlier point, and each on a file system that does not
    /// [sync names](super#file-systems). The entries are removed as by [`clear`](crate::Cache::clear),
    /// of which a removal listener is told; [`RecoveryReport::discarded`](super::RecoveryReport)
    /// counts them. In the log that is one record with a number, however many they are, so that with
    /// [`generations`](Self::generations) a [point](super::RecoveryMode::PointInTime) before it can be
    /// gone back to; a log that has it is refused by versions of haybox that do not know it. Where
    /// no new file can be made, as on a full disk, a snapshot makes up for it when there is room.
    /// Closing writes a file more and syncs it, and opening removes it. A `static` is never dropped,
    /// and a signal ends a process without closing: see [there](super#ending-the-program).
    ///
    /// A store, which keeps what it has acknowledged, is not opened with it.
    ///
    /// ```
    /// use haybox::Cache;
    /// use haybox::persist::Persistence;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("prices");
    /// let open = || {
    ///     let options = Persistence::new().discard_unclosed(true);
    ///     Cache::<String, u32>::builder().max_entries(1_000).open_with(&dir, options)
    /// };
    /// let prices = open()?;
    /// prices.insert("plum".into(), 45);
    /// drop(prices); // A deployment. After a crash the next process would find nothing.
    /// assert_eq!(open()?.get("plum"), Some(45));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard_unclosed(mut self, discard: bool) -> Self {
        self.settings.discards_unclosed = discard;
        self
    }

    /// How many bytes may wait to be written, before writes wait for room. Default: 256 KiB. At
    /// least 4 KiB.
    ///
    /// What a `kill -9` can cost under [`SyncPolicy::Every`] is that, and one write of each thread:
    /// one that is larger than the buffer comes in when nothing else waits, and of several that
    /// find the same room each takes it. Where the disk does not keep up, or fails, what cannot be
    /// refused goes beyond that: what a cache does in memory, which waits no longer than
    /// [`when_full`](Self::when_full) says, and what becomes of the messages of a queue. It takes up
    /// at most sixteen times as much and twice the largest write; beyond that nothing is logged, and
    /// a snapshot makes up for it.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.settings.buffer = bytes;
        self
    }

    /// What a write does when so many bytes wait: it waits for room, at most so long, or it does
    /// not. Default: a store's waits 5 s and then fails, a cache's waits 100 ms and then goes beyond
    /// the [`buffer`](Self::buffer), and behind its sixteenfold is in memory alone, until the disk
    /// keeps up again and a snapshot covers what it has missed.
    ///
    /// Where a write of a cache has waited in vain, those that come after it do not wait until the
    /// disk has taken something: a disk that hangs costs it once, and [`Health`](super::Health) says
    /// since when. Each write of a store waits.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = Some(when_full);
        self
    }

    /// Compacts when the log has grown to this many percent of the last snapshot, and to this many
    /// bytes. Default: 100, 64 MiB. With two zeros it compacts as often as it can while there are
    /// writes; a log in which nothing is new since the last snapshot is left alone.
    pub fn compact_at(mut self, percent: u64, bytes: u64) -> Self {
        self.settings.growth_percent = percent;
        self.settings.growth_bytes = bytes;
        self
    }

    /// The size of the log, in bytes, from which the writes of a store are refused, because
    /// compaction has failed or does not keep up. Those of a cache go on, and so does its log. From
    /// half of it on the log is compacted, whatever [`compact_at`](Self::compact_at) says. Default:
    /// none. At least 64 KiB.
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.settings.log_limit = bytes;
        self
    }

    /// How many snapshots are kept, each with the log that follows it: how far
    /// [`RecoveryMode::PointInTime`] reaches back. Default: 1. At least 1. Where a directory that
    /// had a log is opened with [`snapshots_only`](Self::snapshots_only), the next snapshot takes
    /// the logs with it, and the snapshots that are not whole without theirs.
    pub fn generations(mut self, generations: usize) -> Self {
        self.settings.generations = generations;
        self
    }

    /// Keeps no log: a snapshot is made at this interval and on close. For caches that may lose
    /// what came after the last one, and in exchange pay nothing for a write. More than zero.
    ///
    /// A snapshot is made set by set while writes go on, and here there is no log to bring all of
    /// it to one moment: of what is written meanwhile it has a part, and of a transaction perhaps
    /// one of two keys. That which is made on close, when nothing writes any more, has all.
    ///
    /// Who waits for a write, by a [`Commit`](super::Commit) of a store or the
    /// [`flush`](crate::counter::Counters::flush) of counters, waits for the next snapshot, and is
    /// told if that fails, as on a full disk. No write is refused for that: it is in memory, and in
    /// the next snapshot that succeeds. Opening fails with [`SyncPolicy::Always`], under which each
    /// write would wait, and so does that of a queue, where each push would.
    pub fn snapshots_only(mut self, interval: Duration) -> Self {
        self.settings.log = false;
        self.settings.dump_every = Some(interval);
        self
    }

    /// How far the last time in the log may be ahead of the clock at opening and still count, so
    /// that nothing that has expired comes back. What is further ahead was a wrong clock: then that of
    /// now counts, and an entry that was written, or taken over in a snapshot, by the wrong one has
    /// what it had left then. Default: 1 day.
    ///
    /// One that a wrong clock wrote while it was ahead by no more than this can have as much more,
    /// where something else in the log is further ahead.
    ///
    /// When the clock was put back and the time in the log counts, all deadlines come sooner by the
    /// difference, also those of entries that were written after the clock was put back. That is so
    /// once: where it is a minute or more, opening writes a new snapshot by the clock of now. For a
    /// clock that is set while the directory is open see [there](super#the-clock).
    pub fn clock_skew(mut self, longest: Duration) -> Self {
        self.settings.clock_skew = longest;
        self
    }

    /// How many threads decode and apply what the files hold at opening; 0, the default, for one
    /// for each processor, at most 8. What comes back does not depend on it, nor in which order.
    /// Less than 2 MiB of them, or what is read in one go for few entries, is one thread's work. What
    /// was read and is not applied yet takes up about half as much as the files, 96 MiB where that is
    /// less. A batch of more than 32 MiB, such as a value of that size, is there besides, once, while
    /// one thread decodes it; and once more as far as the codec copies it, which [`MessagePack`] does
    /// not.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads;
        self
    }

    /// Has a function told now and then how far opening has come.
    pub fn on_progress(mut self, told: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.progress = Some(Arc::new(told));
        self
    }

    /// Whether what is written is in the files before the next snapshot.
    pub(crate) fn keeps_log(&self) -> bool {
        self.settings.log
    }

    /// The first setting that no directory can be kept with.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        let settings = &self.settings;
        SettingsOf("Persistence").check_times([("snapshots_only", settings.dump_every)])?;
        SettingsOf("Persistence").check([
            (
                settings.buffer < 4 << 10,
                "buffer",
                "must be at least 4 KiB",
            ),
            (
                settings.log_limit < 64 << 10,
                "log_limit",
                "must be at least 64 KiB",
            ),
            (
                settings.generations == 0,
                "generations",
                "must be at least 1",
            ),
            (
                settings.sync == SyncPolicy::Always && !settings.log,
                "snapshots_only",
                "a write that waits for the disk needs a log: choose another SyncPolicy",
            ),
        ])
    }

    /// The settings for a face, and for how long its writes wait until they are durable.
    pub(super) fn settle(
        &self,
        is_store: bool,
        kind: DirKind,
        clock: Clock,
    ) -> (Settings, Option<Duration>) {
        let mut settings = self.settings.clone();
        settings.dir_kind = Some(kind);
        settings.clock = clock;
        settings.refuses = is_store;
        settings.when_full = match (self.when_full, is_store) {
            (Some(when_full), _) => when_full,
            (None, true) => WhenFull::default(),
            (None, false) => PATIENCE_OF_CACHES,
        };
        let longest = match settings.when_full {
            WhenFull::Block(longest) if self.when_full.is_some() => longest,
            _ => PATIENCE,
        };
        let waits = settings.sync == SyncPolicy::Always && !is_store;
        (settings, waits.then_some(longest))
    }
}
