//! From Redis's persistence: what stands for its settings, commands and tools. Feature `persist`.
//!
//! What holds after a crash, and what a full or failing disk does, says [`persist`](crate::persist).
//!
//! | Redis | haybox |
//! | --- | --- |
//! | `appendonly yes`, `appendfsync always`, `everysec`, `no` | [`open`](CacheBuilder::open), [`open_store`](CacheBuilder::open_store) with [`SyncPolicy::Always`], [`Every`](SyncPolicy::Every), [`Os`](SyncPolicy::Os) |
//! | `WAITAOF 1` | [`Commit::wait`], or `.await` |
//! | `save 300 1` without AOF | [`Persistence::snapshots_only`] |
//! | `BGSAVE`, `BGREWRITEAOF` | [`Journal::compact`], without a fork; done by itself, too |
//! | `SAVE` | [`Journal::sync`] |
//! | `LASTSAVE`, `INFO persistence` | [`Journal::health`] |
//! | `SHUTDOWN` | dropping the last handle, or [`Journal::close`], which says whether it has succeeded |
//! | a copy of `dump.rdb` | [`Journal::backup`], which is opened like any other directory |
//! | `aof-load-truncated` | [`RecoveryMode::TolerateTornTail`]; [`Strict`](RecoveryMode::Strict), [`Salvage`](RecoveryMode::Salvage), [`ReadOnly`](RecoveryMode::ReadOnly) |
//! | `redis-check-aof`, `redis-check-rdb` | the program [`haybox-check`](check#the-program) |
//! | `redis-check-aof --fix`, `--truncate-to-timestamp` | [`RecoveryMode::Salvage`], [`RecoveryMode::PointInTime`] |
//! | `noeviction` with a database | a [`Store`]: a value that does not fit is [`WriteError::NoRoom`] |

use crate::CacheBuilder;
use crate::persist::{
    Commit, Journal, Persistence, RecoveryMode, Store, SyncPolicy, WriteError, check,
};
