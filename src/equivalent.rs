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
/// # Where a key may have to be made
/// Calls that may store what is not there, as all that load and `update_or_insert_with`, have to
/// know how a key is made, too, which [`ToKey`](crate::ToKey) says:
///
/// ```
/// # use haybox::Equivalent;
/// # #[derive(Hash)]
/// # struct Pair<'a>(&'a str, u32);
/// # impl Equivalent<(String, u32)> for Pair<'_> {
/// #     fn equivalent(&self, key: &(String, u32)) -> bool {
/// #         self.0 == key.0 && self.1 == key.1
/// #     }
/// # }
/// use haybox::{Cache, ToKey};
///
/// impl ToKey<(String, u32)> for Pair<'_> {
///     fn to_key(&self) -> (String, u32) {
///         (self.0.to_owned(), self.1)
///     }
/// }
///
/// let prices = Cache::<(String, u32), u32>::new(100);
/// let price = |name, size| prices.get_or_insert_with(&Pair(name, size), || size * 4);
/// assert_eq!(price("oats", 2), 8);
/// assert_eq!(price("oats", 2), 8, "with no String made for a hit");
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
