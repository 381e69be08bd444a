//! What loaders bring, and what their callers are given.

use super::{Loaded, What};

/// A kind of loading call.
pub(crate) trait Form<V> {
    /// What the loader returns when it does not fail.
    type Brought;
    /// What the caller gets.
    type Given;

    fn loaded(brought: Self::Brought) -> Loaded<V>;

    /// What a caller gets of what was loaded, possibly by the loader of another form of call;
    /// `None` when it has to load for itself, since its form knows no absence.
    fn give(value: Option<V>) -> Option<Self::Given>;
}

/// The loader brings the value.
pub(crate) struct Value;

impl<V> Form<V> for Value {
    type Brought = V;
    type Given = V;

    fn loaded(brought: V) -> Loaded<V> {
        Loaded::new(brought)
    }

    fn give(value: Option<V>) -> Option<V> {
        value
    }
}

/// The loader finds the value, or that there is none.
pub(crate) struct Maybe;

impl<V> Form<V> for Maybe {
    type Brought = Option<V>;
    type Given = Option<V>;

    fn loaded(brought: Option<V>) -> Loaded<V> {
        Loaded::from(brought)
    }

    fn give(value: Option<V>) -> Option<Option<V>> {
        Some(value)
    }
}

/// The loader says all that it can.
pub(crate) struct Full;

impl<V> Form<V> for Full {
    type Brought = Loaded<V>;
    type Given = Option<V>;

    fn loaded(brought: Loaded<V>) -> Loaded<V> {
        brought
    }

    fn give(value: Option<V>) -> Option<Option<V>> {
        Some(value)
    }
}

/// The value that a loader brought, given the one that it was shown.
///
/// # Panics
/// If it says that the old value holds, and there is none.
pub(crate) fn value_of<V: Clone>(what: What<V>, old: Option<&V>) -> Option<V> {
    match what {
        What::Value(value) => Some(value),
        What::Absent => None,
        What::NotModified => {
            let old = old
                .expect("a loader may answer \"not modified\" only when it was given an old value");
            Some(old.clone())
        }
    }
}
