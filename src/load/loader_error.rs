//! A loader's error that is no `std::error::Error`, as one that is.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A loader's error that holds any other, as a `std::error::Error`. From
/// [`LoadError::wrapped`](crate::LoadError::wrapped).
///
/// It prints what the error in it prints, has the source of that, and derefs to it. Shared by all
/// who waited for the load.
pub struct LoaderError<E>(pub(super) Arc<E>);

impl<E> Clone for LoaderError<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Deref for LoaderError<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

impl<E: fmt::Debug> fmt::Debug for LoaderError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Display> fmt::Display for LoaderError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E> Error for LoaderError<E>
where
    E: AsRef<dyn Error + Send + Sync> + fmt::Debug + fmt::Display,
{
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // What the error says of itself is said already.
        (*self.0).as_ref().source()
    }
}
