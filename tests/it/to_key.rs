//! What stands for a key where one may have to be stored.

use crate::common::HOUR;
use crate::loading::{block_on, pool};
use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota};
use haybox::lock::{LockError, Locks};
use haybox::presence::{Presence, Status};
use haybox::{Cache, Equivalent, ToKey};
use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Key = (String, u32);

/// The parts of a key, borrowed, and how often a key was made of them.
struct Parts<'a>(&'a str, u32, Cell<u32>);

impl Hash for Parts<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl Equivalent<Key> for Parts<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

impl ToKey<Key> for Parts<'_> {
    fn to_key(&self) -> Key {
        self.2.set(self.2.get() + 1);
        (self.0.to_owned(), self.1)
    }
}

impl Parts<'_> {
    fn made(&self) -> u32 {
        self.2.take()
    }
}

fn oats(size: u32) -> Parts<'static> {
    Parts("oats", size, Cell::default())
}

fn owned(size: u32) -> Key {
    ("oats".to_owned(), size)
}

/// A call that stores a 1 for what is missing makes a key for that, but none for what is there.
fn loads_by_parts(call: impl Fn(&Cache<Key, u32>, &Parts<'_>) -> u32) {
    let (cache, parts) = (Cache::new(10), oats(4));
    assert_eq!(call(&cache, &parts), 1);
    assert!(parts.made() > 0);
    assert_eq!(cache.get(&owned(4)), Some(1));
    cache.insert(owned(4), 2);
    assert_eq!(call(&cache, &parts), 2);
    assert_eq!(parts.made(), 0);
    cache.validate();
}

/// What is made is found again, by what it was made of and by itself.
fn serves<K, Q>(asked: &Q)
where
    K: Hash + Eq + Send + Sync + 'static,
    Q: Hash + ToKey<K> + ?Sized,
{
    let cache = Cache::<K, u32>::new(10);
    assert_eq!(cache.get_or_insert_with(asked, || 1), 1);
    assert_eq!(cache.get(asked), Some(1));
    assert_eq!(cache.get(&asked.to_key()), Some(1));
    cache.validate();
}

#[test]
fn keys_are_made_of_what_they_borrow_as() {
    serves::<String, _>("oats");
    serves::<Box<str>, _>("oats");
    serves::<Arc<str>, _>("oats");
    serves::<Cow<'static, str>, _>("oats");

    let words = ["oats".to_owned(), "rye".to_owned()];
    serves::<Vec<String>, _>(&words[..]);
    serves::<Box<[String]>, _>(&words[..]);
    serves::<Arc<[String]>, _>(&words[..]);
    serves::<Cow<'static, [String]>, _>(&words[..]);

    let path = Path::new("barn/oats");
    serves::<PathBuf, _>(path);
    serves::<Box<Path>, _>(path);
    serves::<Arc<Path>, _>(path);
    serves::<Cow<'static, Path>, _>(path);

    let name = OsStr::new("oats");
    serves::<OsString, _>(name);
    serves::<Box<OsStr>, _>(name);
    serves::<Arc<OsStr>, _>(name);
    serves::<Cow<'static, OsStr>, _>(name);

    serves::<CString, _>(c"oats");
    serves::<Box<CStr>, _>(c"oats");
    serves::<Arc<CStr>, _>(c"oats");
    serves::<Cow<'static, CStr>, _>(c"oats");
}

#[test]
fn a_key_stands_for_itself() {
    serves::<u64, _>(&7);
    serves::<&'static str, _>(&"oats");
    serves::<String, _>(&"oats".to_owned());
    serves::<Arc<str>, _>(&Arc::from("oats"));
    serves::<[u8; 2], _>(&[1, 2]);
    serves::<Key, _>(&owned(4));
    let inferred = Cache::new(10);
    assert_eq!(inferred.get_or_insert_with(&7, || 1), 1);
}

#[test]
fn loading_calls_take_the_parts_of_a_key() {
    loads_by_parts(|cache, parts| cache.get_or_insert_with(parts, || 1));
    loads_by_parts(|cache, parts| cache.get_or_find_with(parts, || Some(1)).unwrap());
    loads_by_parts(|cache, parts| block_on(cache.get_or_load(parts, || async { 1 })));
    loads_by_parts(|cache, parts| {
        block_on(cache.get_or_find(parts, || async { Some(1) })).unwrap()
    });
    loads_by_parts(|cache, parts| cache.update_or_insert_with(parts, || 1, |value| *value));
}

#[test]
fn loading_calls_for_several_keys_take_the_parts_of_each() {
    let load = |missing: Vec<Key>| missing.into_iter().map(|key| (key, 1));
    let query = move |missing| Ok::<_, Infallible>(load(missing));
    loads_by_parts(|cache, parts| cache.get_many_or_insert_with([parts], load)[0].unwrap());
    loads_by_parts(|cache, parts| {
        let loaded = cache.get_many_or_load([parts], async |missing| load(missing));
        block_on(loaded)[0].unwrap()
    });
    loads_by_parts(|cache, parts| {
        let bound = cache.read_through_many(query);
        bound.get_many([parts]).unwrap()[0].unwrap()
    });
    loads_by_parts(|cache, parts| {
        let bound = cache.read_through_many_async(move |missing| async move { query(missing) });
        block_on(bound.get_many([parts])).unwrap()[0].unwrap()
    });

    let (cache, there, missing) = (Cache::new(10), oats(1), oats(2));
    cache.insert(owned(1), 7);
    let found = cache.get_many_or_insert_with([&there, &missing, &missing], load);
    assert_eq!(found, [Some(7), Some(1), Some(1)]);
    assert_eq!(there.made(), 0, "only what is missing is made");
}

#[test]
fn bound_loaders_take_the_parts_of_a_key() {
    let _pool = pool();
    loads_by_parts(|cache, parts| {
        let bound = cache.read_through(|key: &Key| Ok::<_, Infallible>(Some(key.1 - 3)));
        bound.get(parts).unwrap().unwrap()
    });
    loads_by_parts(|cache, parts| {
        let load = |key: Key| async move { Ok::<_, Infallible>(Some(key.1 - 3)) };
        block_on(cache.read_through_async(load).get(parts))
            .unwrap()
            .unwrap()
    });
}

#[test]
fn limits_take_the_parts_of_a_key() {
    for quota in [Quota::per_hour(3), Quota::sliding_window(3, HOUR)] {
        let limiter = Limiter::<Key>::new(quota).unwrap();
        let parts = oats(1);
        assert_eq!(limiter.peek(&parts).remaining(), 3);
        assert_eq!(parts.made(), 0, "to look stores nothing");
        assert!(limiter.check(&parts).is_allowed());
        assert!(parts.made() > 0);
        assert!(limiter.check(&parts).is_allowed());
        assert_eq!(parts.made(), 0);
        assert_eq!(limiter.peek(&owned(1)).remaining(), 1);
    }
}

#[test]
fn locks_take_the_parts_of_a_key() {
    let locks = Locks::<Key>::new(HOUR).unwrap();
    let lease = locks.acquire(&oats(1)).unwrap();
    assert_eq!(locks.try_acquire(&oats(1)).unwrap_err(), LockError::Busy);
    assert_eq!(locks.try_acquire(&owned(1)).unwrap_err(), LockError::Busy);
    drop(lease);
    assert!(block_on(locks.acquire_async(&oats(1))).is_ok());
}

#[test]
fn counters_take_the_parts_of_a_key() {
    let counters = Counters::<Key>::new();
    let parts = oats(1);
    counters.incr(&parts);
    assert!(parts.made() > 0);
    counters.add(&parts, 3);
    assert_eq!(parts.made(), 0);
    assert_eq!(counters.top(9), [(owned(1), 4)]);
}

#[test]
fn members_and_rooms_are_named_by_what_they_borrow_as() {
    let online = Presence::<Arc<str>, Box<str>>::builder().build().unwrap();
    assert!(online.heartbeat("barn", "ada"));
    assert!(!online.active("barn", "ada"));
    assert!(online.leave("barn", "ada"));
}

#[test]
fn presence_takes_the_parts_of_rooms_and_members() {
    let online = Presence::<Key, Key>::new();
    let (room, member) = (oats(1), oats(2));
    assert!(!online.leave(&room, &member) && !online.is_online(&room, &member));
    assert_eq!((room.made(), member.made()), (0, 0), "nobody comes");
    assert!(online.heartbeat(&room, &member));
    assert!(room.made() > 0 && member.made() > 0);
    assert!(!online.active(&room, &member) && !online.heartbeat(&owned(1), &owned(2)));
    assert_eq!(online.status(&room, &member), Some(Status::Active));
    assert_eq!(
        (online.count(&room), online.members(&room)),
        (1, vec![owned(2)])
    );
    assert!(online.leave(&room, &member));
    assert_eq!(
        (room.made(), member.made()),
        (0, 0),
        "who is there is found"
    );
}

#[test]
#[cfg(feature = "persist")]
fn what_a_store_makes_of_parts_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let builder = Cache::<Key, u32>::builder().max_entries(10);
        builder.open_store(dir.path()).unwrap()
    };
    let store = open();
    let parts = oats(1);
    for count in 1..=3 {
        let counted = store.update_or_insert_with(
            &parts,
            || 0,
            |value| {
                *value += 1;
                *value
            },
        );
        assert_eq!(counted.unwrap().into_value(), count);
        assert_eq!(parts.made(), u32::from(count == 1), "only for the first");
    }
    drop(store);
    assert_eq!(open().get(&parts), Some(3));
}
