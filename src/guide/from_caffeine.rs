//! From Caffeine: what stands for its calls.
//!
//! ```
//! use haybox::{Cache, Freshness};
//! use std::time::Duration;
//!
//! // Caffeine.newBuilder().maximumSize(…).expireAfterWrite(…).refreshAfterWrite(…).build(query)
//! let users = Cache::<u64, String>::builder()
//!     .max_entries(10_000)
//!     .time_to_live(Duration::from_secs(600))
//!     .freshness(Freshness::new().refresh_after(Duration::from_secs(60)))
//!     .build()?
//!     .read_through(|id| query(id));
//! # fn query(id: &u64) -> Result<Option<String>, std::io::Error> {
//! #     Ok((*id == 7).then(|| "ada".to_owned()))
//! # }
//! assert_eq!(users.get(&7)?.as_deref(), Some("ada"));
//! // A user that does not exist: CacheLoader.load would return null.
//! assert_eq!(users.get(&8)?, None);
//! // getIfPresent
//! assert_eq!(users.cache().get(&7).as_deref(), Some("ada"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | Caffeine | haybox |
//! | --- | --- |
//! | `LoadingCache`, `AsyncLoadingCache`; with `loadAll` | [`read_through`](Cache::read_through), [`read_through_async`](Cache::read_through_async); [`read_through_many`](Cache::read_through_many), [`read_through_many_async`](Cache::read_through_many_async): handles that have the loader; the cache is there by itself, too |
//! | `maximumSize`; `maximumWeight`, `weigher` | [`max_entries`](CacheBuilder::max_entries); [`max_weight`](CacheBuilder::max_weight), or [`max_memory`](CacheBuilder::max_memory) for bytes, [`weigher`](CacheBuilder::weigher); never exceeded |
//! | `expireAfterWrite`, `expireAfterAccess`, `expireAfter(Expiry)` | [`time_to_live`](CacheBuilder::time_to_live), [`time_to_idle`](CacheBuilder::time_to_idle), [`expiry`](CacheBuilder::expiry); and a TTL [with each write](Cache::insert_with_ttl), or with what a loader brings ([`Loaded::ttl`]) |
//! | `refreshAfterWrite`; `reload(key, old)` | [`freshness`](CacheBuilder::freshness) with [`Freshness::refresh_after`]; [`read_through_revalidating`](Cache::read_through_revalidating), whose loader is shown the old value |
//! | `getIfPresent`, `get(k, f)`, `getAll` | [`get`](Cache::get), [`get_or_insert_with`](Cache::get_or_insert_with), [`get_many_or_insert_with`](Cache::get_many_or_insert_with); [`ReadThrough::get`], [`ReadThroughMany::get_many`] |
//! | `put`; `asMap()`: `putIfAbsent`, `computeIfAbsent`, `compute`, `merge` | [`insert`](Cache::insert); [`insert_with`](Cache::insert_with) and [`if_absent`](InsertOptions::if_absent), [`get_or_insert_with`](Cache::get_or_insert_with), [`compute`](Cache::compute), [`update_or_insert_with`](Cache::update_or_insert_with) |
//! | `replace(k, old, new)`, `remove(k, old)` | [`compute`](Cache::compute), [`remove_if`](Cache::remove_if) |
//! | `invalidate`, `invalidateAll` | [`invalidate`](Cache::invalidate), [`clear`](Cache::clear); a whole tenant by [`group_by`](CacheBuilder::group_by) and [`invalidate_group`](Cache::invalidate_group), all that was made of the same by [tags](Cache::invalidate_tag) |
//! | `removalListener`, `evictionListener` | [`removal_listener`](CacheBuilder::removal_listener), after the fact, with the [cause](RemovalCause) |
//! | `recordStats`; `policy()` | [`stats`](Cache::stats), on [unless it is turned off](CacheBuilder::stats); [`set_max_entries`](Cache::set_max_entries) and its like, [`ttl`](Cache::ttl), [`expire`](Cache::expire) |
//! | `Ticker` | [`MockClock`] |
//! | `executor`, `scheduler`, `cleanUp` | nothing to run; a [`spawner`](CacheBuilder::spawner) for what tasks load |
//! | `weakKeys`, `softValues` | none: [`max_memory`](CacheBuilder::max_memory) bounds what it takes |

use crate::{
    Cache, CacheBuilder, Freshness, InsertOptions, Loaded, MockClock, ReadThrough, ReadThroughMany,
    RemovalCause,
};
