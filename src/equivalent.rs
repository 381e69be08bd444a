//! Looking up by something that is not the key itself.

use std::borrow::Borrow;

/// What may stand for a key of type `K` in a look-up: whatever `K` borrows as (`&str` for
/// `String`), and types of your own, such as a tuple of references for a tuple of `String`s.
///
/// An implementation has to agree with `Hash`: what is equivalent to a key hashes as the key does.
///
/// ```
/// use haybox::{Cache, Equivalent};
///
/// #[derive(Hash)]
/// struct Pair<'a>(&'a str, u32);
///
/// impl Equivalent<(String, u32)> for Pair<'_> {
///     fn equivalent(&self, key: &(String, u32)) -> bool {
///         self.0 == key.0 && self.1 == key.1
///     }
/// }
///
/// let cache = Cache::new(100);
/// cache.insert(("oats".to_owned(), 1), "shelf 4");
/// assert_eq!(cache.get(&Pair("oats", 1)), Some("shelf 4"), "with no String made");
/// ```
///
/// Calls that may store what is not there, as all that load and `update_or_insert_with`, take what
/// a key can be made of by `to_owned`: a `&str` for a `String`, or a reference to the key. Of a
/// type like `Pair` there is no such way. Where making a key for a hit is too dear, ask by `get`
/// first:
///
/// ```
/// # use haybox::{Cache, Equivalent};
/// # #[derive(Hash)]
/// # struct Pair<'a>(&'a str, u32);
/// # impl Equivalent<(String, u32)> for Pair<'_> {
/// #     fn equivalent(&self, key: &(String, u32)) -> bool {
/// #         self.0 == key.0 && self.1 == key.1
/// #     }
/// # }
/// # let cache = Cache::<(String, u32), u32>::new(100);
/// let query = |name: &str, size: u32| name.len() as u32 * size;
/// let price = |name: &str, size: u32| {
///     let found = cache.get(&Pair(name, size));
///     let load = || cache.get_or_insert_with(&(name.to_owned(), size), || query(name, size));
///     found.unwrap_or_else(load)
/// };
/// assert_eq!((price("oats", 2), price("oats", 2)), (8, 8));
/// ```
#[diagnostic::on_unimplemented(
    message = "a `{Self}` cannot stand for a key of type `{K}`",
    label = "neither a `{K}` nor what one borrows as",
    note = "look up by a reference to a `{K}`, or to what it borrows as (a `&str` for a `String`), or implement `Equivalent<{K}>`"
)]
pub trait Equivalent<K: ?Sized> {
    /// Whether this stands for `key`.
    fn equivalent(&self, key: &K) -> bool;
}

// So that errors speak of keys and not of `Borrow`.
#[diagnostic::do_not_recommend]
impl<Q, K> Equivalent<K> for Q
where
    Q: Eq + ?Sized,
    K: Borrow<Q> + ?Sized,
{
    #[inline]
    fn equivalent(&self, key: &K) -> bool {
        self == key.borrow()
    }
}
