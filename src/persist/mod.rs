//! What survives a restart: caches and stores that are kept in a directory.
//!
//! [`CacheBuilder::open`](crate::CacheBuilder::open) gives a [`Cache`](crate::Cache) whose entries
//! are there again when the process starts anew; its calls never fail because of a disk.
//! [`CacheBuilder::open_store`](crate::CacheBuilder::open_store) gives a [`Store`], a key-value
//! database: each write says whether it was kept, and can be waited for. There is no `Store::open`:
//! a store is opened by `Cache::<K, V>::builder().open_store(dir)`. Both live in memory, read as
//! fast as a cache without files, and write every change to a log, in order: one thread writes it,
//! another syncs it, a third replaces it by a snapshot when it has grown. [`Persistence`] has the
//! options, and [`Journal`] what can be asked of the files of one that is open. What it costs is in
//! a [guide](crate::guide::costs#files), and what becomes of files when a type changes in
//! [another](crate::guide::changing_types).
//!
//! # What is promised
//!
//! | policy | an acknowledged write survives `kill -9` | … and power loss |
//! | --- | --- | --- |
//! | [`SyncPolicy::Always`] | yes | yes |
//! | [`SyncPolicy::Every`] (1 s, the default) | of a store, yes; of a cache, all but what was not written yet: normally under 5 ms, at most the [`buffer`](Persistence::buffer) of 256 KiB and one write of each thread | all but the last interval and the time of one sync, or of two where one takes longer than that |
//! | [`SyncPolicy::Os`] | the same | no promise |
//!
//! A write of a store is acknowledged when its [`Commit`] was waited for, one of a cache when the
//! call returns; a write of a store that was not waited for is as one of a cache. Whatever happens,
//! what is recovered is the state after some first part of the writes, in their order, and never a
//! mixture; a transaction is there as a whole or not at all. Only
//! [`snapshots_only`](Persistence::snapshots_only) does not promise that: of what was written while
//! a snapshot was made it has a part. Damage below what is proven to have been on the disk is
//! refused, with the file, the place and what can be done, and nothing is touched; so is a file
//! that cannot be read in part. What a crash cuts short at the end of the log is put aside and
//! reported.
//!
//! What a log cannot give back: an entry that was loaded counts as due for a refresh, an idle time
//! may come out longer by an eighth of it, and never longer than from the start on, a deadline that
//! reads put off sooner by an eighth of what was left, and what loaders found not to exist is asked
//! again. However many starts come without a read in between, an idle time comes out longer once; but
//! once more after each in which the wall clock was set by more than 10 ms, as it often is when a
//! machine has started. Tags and groups are known by a hash with keys that everybody knows, so that
//! they mean the same in the next process; tags that come from outside should not be trusted to be
//! different.
//!
//! # The clock
//!
//! Deadlines in the files are times of the wall clock. In memory they are of a clock that nobody can
//! set, so while a directory is open, nothing ends sooner or later because somebody sets the time.
//! What is in the files then is off by that. So where it is more than a minute, a new snapshot is
//! written by the clock of now: after the next write to the log (with
//! [`snapshots_only`](Persistence::snapshots_only) an interval later at most), or when the directory is
//! closed; also where the clock is right again by then and something was written meanwhile, or was to be.
//! A process that is killed before leaves the deadlines of before. A clock that was set forward,
//! as that of a machine without a battery some seconds after it has started, then costs each entry as
//! much of its time, and whatever had less is gone without a word; for one that was set back see
//! [`Persistence::clock_skew`]. A step of less than a minute shifts deadlines by as much at the next
//! start, and is not made up for. Times of the files end in April 2262.
//!
//! # Failures while it runs
//!
//! | | a cache | a store |
//! | --- | --- | --- |
//! | the disk is full or fails | goes on in memory; a snapshot makes up for it when the disk is well | writes fail with [`WriteError::Disk`], removals and [`Journal::compact`] among them, so space has to be made elsewhere; reads go on; heals by itself |
//! | the disk is too slow | a write waits 100 ms at most, then as above, and those after it do not wait until the disk has taken something | a write waits 5 s at most, then [`WriteError::BufferFull`] |
//! | a sync fails | all goes to new files, and nothing counts as durable before | the same; waits go on, or fail with [`CommitError`] |
//! | a value does not encode | is in memory, and absent after a restart | [`WriteError::Encode`], nothing changes |
//! | one that is kept does not any more | is left out of the next snapshot | no snapshot is made ([`CompactError::Encode`]), and the log grows |
//! | its `Serialize` panics as a snapshot is made | no snapshot is made, and the log grows | the same |
//! | the directory is removed, moved away or replaced | goes on in memory | [`WriteError::DirectoryGone`] |
//! | a thread of haybox panics | goes on in memory | [`WriteError::Panicked`] |
//!
//! Where new files are needed and cannot be made, after a failed sync for instance, that is tried
//! again after a second and then ever more seldom, at last every five minutes. A write that waits
//! for them, or that a store refuses for want of them, has them tried within a second, or four
//! times as long as the last attempt took, or an eighth of the time for which they have failed. A
//! wait ends with what comes of that; a store takes writes again soon after the disk is well. With
//! [`snapshots_only`](Persistence::snapshots_only), its interval rules, and no write is refused for
//! the sake of the disk, in a store neither: who waits for one is told when the snapshot fails, and
//! the next one that succeeds has it.
//!
//! After a failed sync nothing is trusted to be on the disk until all of it has been written again,
//! if need be by the process that opens the directory next. Where an entry that does not encode any
//! more keeps that from being done, the directory is opened all the same, and goes on as it would
//! have in the process of before: [`Journal::health`] says why, what was not proven to be on the
//! disk is not called durable, and it is tried again.
//!
//! [`Journal::health`] tells of all of it. That the directory is gone is found out, on Unix, with
//! the next sync, compaction, backup or close: what is at its path then is another's and left
//! alone, and no write is acknowledged as durable any more.
//!
//! A program that forks, to become a daemon for instance, opens its directories after that. The
//! threads that write stay with the parent: a child writes nothing to the files of what was open
//! before, neither when it waits nor when it closes or ends, and where that is found out it is as
//! if closed.
//!
//! # Files
//!
//! | file | holds |
//! | --- | --- |
//! | `MANIFEST` | which of the others count |
//! | `snap-<n>.db` | all entries at one time |
//! | `log-<n>.wal` | what happened since |
//! | `LOCK` | nothing; locked while the directory is open |
//! | `CLOSED` | that it was closed in peace, where [that is asked](Persistence::discard_unclosed) |
//! | `quarantine/` | copies of what recovery left out |
//!
//! On Unix a file is made for its owner alone (mode 0600), whatever the `umask` says; the directory
//! is made as that says. Who opens it [read-only](RecoveryMode::ReadOnly), or runs `haybox-check`,
//! has to be the same user.
//!
//! Each of the first three begins with 64 bytes that say its format, its store, its codec, its
//! schema version and what the directory is [kept for](DirKind). Then follow frames: a header of 48
//! bytes with a checksum of its own, and a payload that the header has the checksum of. All
//! checksums are CRC32C and begin with a number that is drawn for each file, so no frame of another
//! file is taken for one of this. Nothing is deleted but files with such names that the manifest
//! does not list, and `CLOSED` when the directory is opened.
//!
//! # File systems
//!
//! What survives a power loss is what a sync has brought to the disk, and the file system has to keep
//! to that: one that says so and has not may lose anything, and one that is another machine's says
//! what that says. Some network file systems and shared folders of virtual machines and containers
//! have no way to sync the names of files (`fsync` of a directory fails with `EINVAL` or `ENOTSUP`).
//! There the names are made as everywhere, in their order, and
//! [`RecoveryReport::names_unsynced`] says that haybox cannot know when they are on a disk: a power
//! loss of the machine that has the disk may take new files, or bring names of before back, and the
//! directory may be refused then. A `kill -9` loses nothing by that. What the disk says besides, as
//! `EIO`, is a failure there, too, and so is a file that cannot be synced.
//!
//! # Restoring a backup
//!
//! A backup is a directory like any other: open it, or copy it to where the store was, as the user
//! that runs the program. It is of one moment; those of two directories are of two, so what one
//! holds about the other may be ahead or behind. A copy that other programs make of a directory
//! that is open is of no moment at all, and may not open; of one that is closed it is as good as a
//! backup.
//!
//! # Ending the program
//!
//! Dropping the last handle writes everything, and returns when that is done. There are two cases
//! in which it does not wait, since what it would wait for may wait for it. Inside a closure that a
//! cache or a store runs under a lock, the closing is left to a thread of its own, `haybox-closer`;
//! and on a thread of the journal, which wakes tasks, to the call of [`Journal::close`] that is
//! under way, if there is one. A program that may end right then calls [`Journal::close`] on a
//! clone of the [`Journal`], which waits for that, and says what it came to. Nothing is dropped of
//! what is in a `static`, nor where the program ends by `std::process::exit`, by `abort` or by a
//! signal that it does not handle, as `SIGTERM` of `docker stop`: then the last milliseconds of
//! writes are lost, as by a `kill -9`. So handle the signal, and let `main` return or call
//! [`Journal::close`], when all has ended that writes.
//!
//! # What belongs together
//!
//! A [`transaction`](Store::transaction) covers the keys of one store. What has to change together
//! lies in one store, under an `enum` of keys with an `enum` of values:
//!
//! ```
//! use haybox::Cache;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
//! enum Key {
//!     Stock(u32),
//!     Order(u64),
//! }
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! enum Value {
//!     Stock(u32),
//!     Order { item: u32 },
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("shop");
//! let shop = Cache::<Key, Value>::builder().open_store(&dir)?;
//! shop.insert(Key::Stock(7), Value::Stock(1))?.wait()?;
//! let order = |number: u64| {
//!     let (stock, order) = (Key::Stock(7), Key::Order(number));
//!     shop.transaction(&[stock.clone(), order.clone()], |tx| {
//!         let Some(&Value::Stock(left @ 1..)) = tx.get(&stock) else {
//!             return Err("sold out");
//!         };
//!         let taken = tx.insert(&stock, Value::Stock(left - 1));
//!         taken.and_then(|()| tx.insert(&order, Value::Order { item: 7 })).map_err(|_| "no room")
//!     })
//! };
//! order(1)?.wait()?;
//! assert!(order(2).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A job of a [`Queue`](crate::queue::Queue) that follows from a write is pushed before it, delayed
//! by a little, and does nothing where it finds that the write was not made; or it is an entry of
//! the store, in the same transaction, that is pushed with its own
//! [`dedup_key`](crate::queue::PushOptions::dedup_key) after it and again at each start, and
//! removed when it is done. A time-out that has to be acted on, such as a reservation that gives
//! its item back, is such a job: what expires while a store is closed is told to nobody.

pub mod check;
mod closed;
mod codec;
mod commit;
mod contents;
mod dir_kind;
mod effect;
mod encoder;
mod error;
mod files;
mod frame;
mod handle;
mod header;
mod hold;
mod insist;
mod journal;
mod kept;
mod made_by;
mod manifest;
mod migrate;
mod open;
mod options;
mod outcome;
mod part;
mod recorder;
mod recovery;
mod report;
mod settings;
mod storage;
mod store;
mod varint;
mod wall;
mod window;

#[cfg(all(test, shuttle))]
#[path = "tests/interleavings.rs"]
mod interleavings;
#[cfg(all(test, not(shuttle)))]
mod tests;

#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, CodecError, MessagePack};
pub use commit::{Commit, CommitFuture};
pub use dir_kind::DirKind;
pub use error::{CommitError, CompactError, Damage, DiskError, OpenError, Unreadable, WriteError};
pub use handle::Journal;
pub use header::{CodecId, StoreId};
pub use migrate::{Migrated, Old};
pub use options::Persistence;
pub use report::{
    BackupReport, ClockCheck, CloseReport, CompactReport, Health, HealthState, Progress,
    RecoveryReport,
};
pub use settings::{Point, RecoveryMode, SyncPolicy, WhenFull};
pub use store::{Store, TransactionError, WeakStore};
