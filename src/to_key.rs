//! Looking up by what a key can be made of, where one may have to be stored.

use crate::equivalent::Equivalent;
use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What may stand for a key of type `K` where one may have to be stored: in calls that load, in
/// `update_or_insert_with` and `compute`, and in those of limits, locks, counters and presence.
///
/// | what is passed | where the key is |
/// | --- | --- |
/// | a reference to a key | anything that is `Clone` |
/// | `&str` | a `String`, or a `Box`, an `Arc` or a `Cow` of a `str` |
/// | `&[T]` | a `Vec<T>`, or one of these of a `[T]` |
/// | `&Path`, `&OsStr`, `&CStr` | a `PathBuf`, an `OsString`, a `CString`, or one of these of a `Path`, … |
///
/// ```
/// let sizes = haybox::Cache::<std::sync::Arc<str>, usize>::new(100);
/// assert_eq!(sizes.get_or_insert_with("oats", || 4), 4);
/// ```
///
/// Where nothing else tells what the keys are, a `&str` does not, as it may stand for several: say
/// `Cache::<String, _>::new(100)`.
///
/// A key is made only where one is needed: for what is found, or counted already, none is. A lease
/// always holds one.
///
/// # For types of your own
/// They implement it beside [`Equivalent`], as does the reference to a key of several parts
/// [there](Equivalent#where-a-key-may-have-to-be-made). For a borrowed type of your own its
/// `ToOwned` is not enough: say here, too, how a key is made. Where both types are of other crates,
/// as a `str` and an inline string, or a path that is always UTF-8 and its owned form, neither can
/// be done: pass a reference to a key, or a type of your own that holds what is borrowed.
///
/// What is made has to be [equivalent](Equivalent::equivalent) to what it is made of, and hash as
/// it does, or it is not found again. As `Clone` and `Eq`, `to_key` may run under a lock: a call of
/// a cache from inside it panics.
#[diagnostic::on_unimplemented(
    message = "a `{Self}` cannot stand for a key of type `{K}` that may have to be stored",
    label = "no `{K}` can be made of this",
    note = "pass a reference to a `{K}`, which has to be `Clone`, or to what it borrows as (a `&str` for a `String`), or implement `Equivalent<{K}>` and `ToKey<{K}>` for a type of your own"
)]
pub trait ToKey<K>: Equivalent<K> {
    /// Makes the key that this stands for.
    fn to_key(&self) -> K;
}

impl<K: Clone + Eq> ToKey<K> for K {
    #[inline]
    fn to_key(&self) -> K {
        self.clone()
    }
}

// An implementation for all that is `ToOwned` would be in conflict with that for an `Arc<str>`.
macro_rules! made_of {
    ($borrowed:ty, $owned:ty $(, $item:ident)?) => {
        made_of!(@ $borrowed, $owned, ToOwned::to_owned $(, $item)?);
        made_of!(@ $borrowed, Box<$borrowed>, Box::from $(, $item)?);
        made_of!(@ $borrowed, Arc<$borrowed>, Arc::from $(, $item)?);
        made_of!(@ $borrowed, Cow<'static, $borrowed>, in_cow $(, $item)?);
    };
    (@ $borrowed:ty, $key:ty, $make:expr $(, $item:ident)?) => {
        // Errors would else list them all, whatever was asked for.
        #[diagnostic::do_not_recommend]
        impl$(<$item: Clone + Eq>)? ToKey<$key> for $borrowed {
            #[inline]
            fn to_key(&self) -> $key {
                $make(self)
            }
        }
    };
}

made_of!(str, String);
made_of!([T], Vec<T>, T);
made_of!(Path, PathBuf);
made_of!(OsStr, OsString);
made_of!(CStr, CString);

fn in_cow<Q: ToOwned + ?Sized>(borrowed: &Q) -> Cow<'static, Q> {
    Cow::Owned(borrowed.to_owned())
}
