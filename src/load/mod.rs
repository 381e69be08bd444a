//! One load per key: whoever misses first loads, everybody else waits for that load.

mod flight;
mod form;
mod freshness;
mod loaded;
mod loader_error;
mod pool;
mod source;
mod under_way;
mod verdict;
mod waiting;

pub(crate) use flight::{Crew, Fill, Flight, Landing};
pub(crate) use form::{Form, Full, Maybe, Sourced, Value, give, value_of};
pub use freshness::Freshness;
pub(crate) use freshness::{Age, OwnTimes};
pub use loaded::Loaded;
pub(crate) use loaded::{What, in_order};
pub use loader_error::LoaderError;
pub(crate) use pool::offer as offer_to_pool;
pub use source::Source;
pub(crate) use under_way::{Left, Loads, UnderWay};
pub(crate) use verdict::{Known, Verdict};
pub(crate) use waiting::{MayWait, Node, Running, Waiting};

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// A load that needs no caller, as a [`spawner`](crate::CacheBuilder::spawner) gets it.
pub type BoxedLoad = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) type Spawner = Box<dyn Fn(BoxedLoad) + Send + Sync>;

/// Why a value could not be loaded.
///
/// # With `?`
/// It is a `std::error::Error` where the loader's own error is one, so `?` passes it on as a
/// `Box<dyn Error>` or by a `From` of your own. The error of a loader is shared by all who waited,
/// so it comes in an `Arc`, and has to be `Send + Sync + 'static`. Errors that hold any other, such
/// as a `Box<dyn Error + Send + Sync>` or one of `anyhow`, are no `std::error::Error` themselves,
/// and `?` says so of them: [`wrapped`](Self::wrapped) makes one of it, which keeps the source and
/// the type.
///
/// ```
/// use haybox::{Cache, LoadError, LoaderError};
/// # use std::io;
///
/// type Error = Box<dyn std::error::Error + Send + Sync>; // Or anyhow::Error.
/// # fn query(_: &u32) -> Result<String, Error> {
/// #     Err(io::Error::other("the database is down").into())
/// # }
///
/// fn name(names: &Cache<u32, String>, id: u32) -> Result<String, Error> {
///     let name = names.try_get_or_insert_with(&id, || query(&id)).map_err(LoadError::wrapped)?;
///     Ok(name)
/// }
///
/// let error = name(&Cache::new(100), 7).unwrap_err();
/// assert_eq!(error.to_string(), "the loader failed: the database is down");
/// let Some(LoadError::Failed(cause)) = error.downcast_ref::<LoadError<LoaderError<Error>>>() else {
///     panic!("{error}")
/// };
/// assert!(cause.downcast_ref::<io::Error>().is_some(), "what the loader has returned");
///
/// // Or look at it.
/// let names: Cache<u32, String> = Cache::new(100);
/// match names.try_get_or_insert_with(&7, || query(&7)) {
///     Err(LoadError::Failed(error)) => assert_eq!(error.to_string(), "the database is down"),
///     other => panic!("{other:?}"),
/// }
/// ```
///
/// # What it prints
/// `the loader failed: ` and what the loader's error prints, so that `{}` alone tells the cause.
/// [`source`](std::error::Error::source) is therefore that error's own source, and whoever prints a
/// chain reads each part of it once. The loader's error itself is in [`Failed`](Self::Failed).
/// `{:#}` is passed on to it, which for `anyhow` has it print its whole chain.
///
/// ```
/// use haybox::LoadError;
/// use std::error::Error;
/// # #[derive(Debug)]
/// # struct Query(std::num::ParseIntError);
/// # impl std::fmt::Display for Query {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("no such row") }
/// # }
/// # impl Error for Query {
/// #     fn source(&self) -> Option<&(dyn Error + 'static)> { Some(&self.0) }
/// # }
/// # let query = Query("seven".parse::<u32>().unwrap_err());
///
/// let error = LoadError::Failed(query.into());
/// assert_eq!(error.to_string(), "the loader failed: no such row");
/// assert_eq!(error.source().unwrap().to_string(), "invalid digit found in string");
/// ```
#[non_exhaustive]
#[derive(PartialEq, Eq)]
pub enum LoadError<E> {
    /// The loader's own error. Every caller that waited for the load gets the same one.
    Failed(Arc<E>),
    /// The loader asked, directly or through other loads, for a value that only it can provide:
    /// waiting for it would never have ended.
    Reentrant,
    /// The load took longer than the [`hard_timeout`](Freshness::hard_timeout).
    TimedOut,
}

impl<E> LoadError<E> {
    pub(crate) fn failed(error: E) -> Self {
        Self::Failed(Arc::new(error))
    }

    /// The same with the loader's error in a [`LoaderError`], so that it is a `std::error::Error`,
    /// and `?` passes it on. For loaders whose error holds any other and so is none itself: a
    /// `Box<dyn Error + Send + Sync>`, or one of `anyhow`. Copies nothing.
    #[must_use]
    pub fn wrapped(self) -> LoadError<LoaderError<E>> {
        match self {
            Self::Failed(error) => LoadError::failed(LoaderError(error)),
            Self::Reentrant => LoadError::Reentrant,
            Self::TimedOut => LoadError::TimedOut,
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Reentrant => Self::Reentrant,
            Self::TimedOut => Self::TimedOut,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Reentrant => f.write_str("Reentrant"),
            Self::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) if f.alternate() => write!(f, "{FAILED}{error:#}"),
            Self::Failed(error) => write!(f, "{FAILED}{error}"),
            Self::Reentrant => f.write_str(REENTRANT),
            Self::TimedOut => f.write_str(TIMED_OUT),
        }
    }
}

impl<E: Error + 'static> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // What the error says of itself is said already.
            Self::Failed(error) => error.source(),
            Self::Reentrant | Self::TimedOut => None,
        }
    }
}

const FAILED: &str = "the loader failed: ";

pub(crate) const REENTRANT: &str = "a loader asked the cache, directly or through other loads, for the key that it \
     is loading; waiting for it would never end: have the loader ask the source itself";

pub(crate) const PANICKED: &str =
    "the loader has panicked, on the thread or in the task that ran it behind this call";

pub(crate) const TIMED_OUT: &str = "the load took longer than the hard time-out allows";
