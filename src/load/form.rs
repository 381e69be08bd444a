//! What loaders bring, and what their callers are given.

use super::{Loaded, Source, What};

/// A kind of loading call.
pub(crate) trait Form<V> {
    /// What the loader returns when it does not fail.
    type Brought;
    /// What the caller gets.
    type Given;

    fn loaded(brought: Self::Brought) -> Loaded<V>;

    /// What a caller gets of what was loaded, possibly by the loader of another form of call;
    /// `None` when it has to load for itself, since its form knows no absence.
    fn give(value: Option<V>, source: Source) -> Option<Self::Given>;
}

/// The loader brings the value.
pub(crate) struct Value;

impl<V> Form<V> for Value {
    type Brought = V;
    type Given = V;

    fn loaded(brought: V) -> Loaded<V> {
        Loaded::new(brought)
    }

    fn give(value: Option<V>, _: Source) -> Option<V> {
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

    fn give(value: Option<V>, _: Source) -> Option<Option<V>> {
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

    fn give(value: Option<V>, _: Source) -> Option<Option<V>> {
        Some(value)
    }
}

/// The same, for a caller that wants to know where the value has come from.
pub(crate) struct Sourced;

impl<V> Form<V> for Sourced {
    type Brought = Loaded<V>;
    type Given = (Option<V>, Source);

    fn loaded(brought: Loaded<V>) -> Loaded<V> {
        brought
    }

    fn give(value: Option<V>, source: Source) -> Option<(Option<V>, Source)> {
        Some((value, source))
    }
}

/// What a caller gets of a value that is there, or of what its own loader has brought.
#[inline]
pub(crate) fn give<F: Form<V>, V>(value: Option<V>, source: Source) -> F::Given {
    F::give(value, source).expect("a loader that always brings a value has brought one")
}

/// The value that a loader brought, given the one that it was shown.
///
/// # Panics
/// If it says that the old value holds, and there is none.
pub(crate) fn value_of<V: Clone>(what: What<V>, old: Option<&V>) -> Option<V> {
    match what {
        What::Value(value) | What::Unshared(value) => Some(value),
        What::Absent => None,
        What::NotModified => {
            let old = old
                .expect("a loader may answer \"not modified\" only when it was given an old value");
            Some(old.clone())
        }
    }
}
