//! From moka: what stands for its calls.
//!
//! ```
//! use haybox::{Cache, LoadError};
//! use std::time::Duration;
//!
//! let users = Cache::<u64, String>::builder()
//!     .max_entries(10_000)
//!     .time_to_live(Duration::from_secs(60))
//!     .removal_listener(|id, _user, cause| println!("{id}: {cause:?}"))
//!     .build()?;
//! // get_with(7, || …)
//! assert_eq!(users.get_or_insert_with(&7, || "ada".to_owned()), "ada");
//! // try_get_with(8, || …)
//! let found = users.try_get_or_insert_with(&8, || Err("no such user"));
//! assert!(matches!(found, Err(LoadError::Failed(error)) if *error == "no such user"));
//! // entry(7).and_upsert_with(|old| …)
//! users.update_or_insert_with(&7, String::new, |name| name.push('!'));
//! assert_eq!(users.get(&7).as_deref(), Some("ada!"));
//! # Ok::<(), haybox::BuildError>(())
//! ```
//!
//! | moka | haybox |
//! | --- | --- |
//! | `sync::Cache`, `future::Cache` | one [`Cache`] for threads and tasks; [what loads](Cache#loading) has a form for each |
//! | `max_capacity`; with a `weigher` | [`max_entries`](CacheBuilder::max_entries); [`max_weight`](CacheBuilder::max_weight) with a [`weigher`](CacheBuilder::weigher), or [`max_memory`](CacheBuilder::max_memory); never exceeded |
//! | `time_to_live`, `time_to_idle`, `expire_after` | [`time_to_live`](CacheBuilder::time_to_live), [`time_to_idle`](CacheBuilder::time_to_idle), [`expiry`](CacheBuilder::expiry), whose [methods](Expiry) have the same names, without moka's `Instant`s: without an own [`expire_after_update`](Expiry::expire_after_update) an update counts as a creation, where moka leaves the deadline as it is, which is to return `left`; [`insert_with_ttl`](Cache::insert_with_ttl) |
//! | `initial_capacity`, `name` | none: memory comes with the entries; whoever exports [`stats`](Cache::stats) names the cache |
//! | `eviction_policy` | [`eviction_policy`](CacheBuilder::eviction_policy); by default it adapts. `EvictionPolicy::lru()` is [`EvictionPolicy::Lru`] |
//! | `eviction_listener` | [`removal_listener`](CacheBuilder::removal_listener), which gets a key and not an `Arc` of it, so that keys and values have to be `Clone`; `RemovalCause::Size` is [`Capacity`](RemovalCause::Capacity) |
//! | `get(&k).await`, `insert(k, v).await`, `invalidate(&k).await` | the same without `.await`: none of them waits |
//! | `get_with`, `entry(k).or_insert_with` | [`get_or_insert_with`](Cache::get_or_insert_with); in tasks [`get_or_load`](Cache::get_or_load), which takes no future but a closure that makes one (`\|\| async { … }`). The key is passed by reference |
//! | `try_get_with` | [`try_get_or_insert_with`](Cache::try_get_or_insert_with), [`try_get_or_load`](Cache::try_get_or_load); the `Arc` of the error is in [`LoadError::Failed`] |
//! | `optionally_get_with` | [`get_or_find_with`](Cache::get_or_find_with), [`get_or_find`](Cache::get_or_find), with a [`negative_ttl`](CacheBuilder::negative_ttl) |
//! | `entry(k).or_insert(v)` | [`insert_with`](Cache::insert_with) and [`InsertOptions::if_absent`] |
//! | `entry(k).and_upsert_with`, `and_compute_with` | [`compute`](Cache::compute), [`update_or_insert_with`](Cache::update_or_insert_with); [`update`](Cache::update) for what is there |
//! | `invalidate`, `invalidate_all` | [`invalidate`](Cache::invalidate), [`clear`](Cache::clear), which overtake loads that are under way |
//! | `iter` | [`iter`](Cache::iter), which gives copies of keys and values |
//! | `invalidate_entries_if` | [`retain`](Cache::retain), done when it returns; [tags](Cache::invalidate_tag) and [groups](Cache::invalidate_group) in O(1) |
//! | `entry_count`, `weighted_size`, `run_pending_tasks` | [`len`](Cache::len), [`weight`](Cache::weight), which are exact; nothing to run |

use crate::{Cache, CacheBuilder, EvictionPolicy, Expiry, InsertOptions, LoadError, RemovalCause};
