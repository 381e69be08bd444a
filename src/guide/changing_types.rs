//! When the type of a value changes, and files hold values of the old one. Feature `persist`.
//!
//! - With the [default codec](MessagePack), fields of a struct may be removed, added with
//!   `#[serde(default)]` and renamed with `#[serde(alias = "old")]`. Nothing else is needed.
//! - For any other change, raise [`schema_version`](Persistence::schema_version) and give a
//!   [`migrate`](Persistence::migrate) that turns old values into today's, those of a queue by
//!   [`Old::with_message`]. Without it the start is [refused](OpenError::OtherSchema), and the files
//!   stay as they were.
//! - A cache that is filled again anyway may start empty, by a migration that says of each entry
//!   that it is [`gone`](Old::gone), and a higher version with each such change.
//! - If the version was not raised, the start is refused with [`OpenError::Undecodable`]. Opened
//!   once with [`RecoveryMode::Salvage`], a cache or store continues with all that still decodes; the
//!   files as they were go to its `quarantine/`, where they can be opened with the old types.
//!
//! ```
//! use haybox::Cache;
//! use haybox::persist::{OpenError, Persistence};
//! use serde::{Deserialize, Serialize};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("users");
//! # {
//! #[derive(Clone, Serialize, Deserialize)]
//! struct User { name: String }
//!
//! let users = Cache::<u64, User>::builder().open(&dir)?;
//! users.insert(7, User { name: "ada".into() });
//! # }
//! // The next release, in which a field has come and one has another name.
//! # {
//! #[derive(Clone, Serialize, Deserialize)]
//! struct User {
//!     #[serde(alias = "name")]
//!     login: String,
//!     #[serde(default)]
//!     is_admin: bool,
//! }
//!
//! let users = Cache::<u64, User>::builder().open(&dir)?;
//! assert_eq!(users.get(&7).map(|user| (user.login, user.is_admin)), Some(("ada".into(), false)));
//! # }
//! // The one after it, in which a user is something else: the cache starts empty.
//! let open = |options| Cache::<u64, (u32, u32)>::builder().open_with(&dir, options);
//! assert!(matches!(open(Persistence::new()), Err(OpenError::Undecodable { .. })));
//! let users = open(Persistence::new().schema_version(1).migrate(|old| Ok(old.gone())))?;
//! assert!(users.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::persist::{MessagePack, Old, OpenError, Persistence, RecoveryMode};
