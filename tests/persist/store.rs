//! A store: writes that say whether they were kept.

use crate::{always, dir, store};
#[cfg(feature = "json")]
use haybox::persist::Json;
use haybox::persist::{
    Codec, CompactError, MessagePack, OpenError, Persistence, RecoveryMode, TransactionError,
    WeakStore, WriteError,
};
use haybox::{Cache, Insert, InsertOptions, MockClock, Op, Outcome, Store, Ttl};
use serde::{Deserialize, Serialize, Serializer};
use std::cell::Cell;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

#[test]
fn writes_return_what_they_did_and_are_there_after_a_restart() {
    let dir = dir();
    let first = store(&dir);
    let key = || "ada".to_string();
    assert_eq!(first.insert(key(), 1).unwrap().wait().unwrap(), None);
    assert_eq!(first.insert(key(), 2).unwrap().wait().unwrap(), Some(1));
    let update = first.update("ada", |value| {
        *value += 1;
        *value
    });
    assert_eq!(update.unwrap().into_value(), Some(3));
    let kept = first.insert_with(key(), 9, InsertOptions::new().if_absent());
    assert_eq!(kept.unwrap().into_value(), Insert::Kept(9));
    let computed = first.compute("ada", |value| Op::Put(value.unwrap() * 10));
    assert_eq!(computed.unwrap().into_value(), Outcome::Replaced(3));
    let visits = || {
        first.update_or_insert_with(
            "visits",
            || 0,
            |count| {
                *count += 1;
                *count
            },
        )
    };
    assert_eq!(visits().unwrap().into_value(), 1);
    assert_eq!(visits().unwrap().into_value(), 2);
    assert_eq!(first.remove("bob").unwrap().into_value(), None);
    assert!(
        first
            .expire("ada", Duration::from_secs(60))
            .unwrap()
            .into_value()
    );
    assert!(first.persist("ada").unwrap().into_value());
    drop(first);
    let second = store(&dir);
    assert_eq!(second.get("ada"), Some(30));
    assert_eq!(second.remove("visits").unwrap().into_value(), Some(2));
    assert_eq!(second.len(), 1);
    assert_eq!(second.remove("ada").unwrap().into_value(), Some(30));
    drop(second);
    assert!(store(&dir).is_empty());
}

#[test]
fn numbers_rise_and_a_commit_is_durable_after_its_wait() {
    let dir = dir();
    let store: Store<u64, u64> = Cache::builder()
        .open_store_with(dir.path(), always())
        .unwrap();
    let first = store.insert(1, 1).unwrap();
    let second = store.insert(2, 2).unwrap();
    assert!(first.seq() < second.seq());
    assert_eq!(second.wait_timeout(Duration::from_secs(30)).unwrap(), &None);
    assert!(first.is_durable() && second.is_durable());
    assert!(store.journal().durable_seq() >= second.seq());
    // What changes nothing is durable when all before it is.
    let nothing = store.remove(&3).unwrap();
    assert_eq!(nothing.seq(), second.seq());
    assert!(nothing.is_durable());
}

#[tokio::test]
async fn a_task_awaits_a_commit() {
    let dir = dir();
    let store: Store<u64, u64> = Cache::builder()
        .open_store_with(dir.path(), always())
        .unwrap();
    assert_eq!(store.insert(1, 1).unwrap().await.unwrap(), None);
    assert_eq!(store.insert(1, 2).unwrap().await.unwrap(), Some(1));
    assert_eq!(store.journal().durable_seq(), store.journal().last_seq());
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let dir = dir();
    let store = store(&dir);
    let keys = ["a".to_string(), "b".to_string()];
    let done = store.transaction(&keys, |tx| {
        tx.insert(&keys[0], 1)?;
        tx.insert(&keys[1], 2)
    });
    assert!(done.is_ok());
    let aborted = store.transaction(&keys, |tx| {
        tx.remove(&keys[0]);
        Err::<(), _>("no")
    });
    assert!(matches!(aborted, Err(TransactionError::Aborted("no"))));
    assert_eq!(store.get_many(["a", "b"]), [Some(1), Some(2)]);
    drop(store);
    let store = crate::store(&dir);
    assert_eq!(store.get_many(["a", "b"]), [Some(1), Some(2)]);
}

/// A value that does not encode when it is odd.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Picky(u64);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 2 {
            0 => serializer.serialize_newtype_struct("Picky", &self.0),
            _ => Err(serde::ser::Error::custom("odd numbers are not kept")),
        }
    }
}

#[track_caller]
fn is_not_encoded<T: std::fmt::Debug>(result: Result<T, WriteError>) {
    match result {
        Err(WriteError::Encode(reason)) => assert!(reason.contains("odd numbers"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_encode_is_an_error_and_changes_nothing() {
    let dir = dir();
    let open = || {
        Cache::<u8, Picky>::builder()
            .open_store(dir.path())
            .unwrap()
    };
    let store = open();
    store.insert(1, Picky(10)).unwrap().wait().unwrap();
    let before = store.journal().last_seq();
    is_not_encoded(store.insert(1, Picky(11)));
    is_not_encoded(store.insert(2, Picky(11)));
    is_not_encoded(store.update(&1, |value| value.0 = 11));
    is_not_encoded(store.update_or_insert_with(&1, || Picky(0), |value| value.0 = 11));
    is_not_encoded(store.update_or_insert_with(&2, || Picky(0), |value| value.0 = 11));
    is_not_encoded(store.compute(&1, |_| Op::Put(Picky(11))));
    let transaction = store.transaction(&[1, 2], |tx| {
        tx.insert(&2, Picky(20)).unwrap();
        tx.insert(&1, Picky(11))
    });
    match transaction {
        Err(TransactionError::Write(error)) => is_not_encoded::<()>(Err(error)),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.get_many([&1, &2]), [Some(Picky(10)), None]);
    assert_eq!(store.journal().last_seq(), before);
    drop(store);
    assert_eq!(open().get(&1), Some(Picky(10)));
}

#[test]
fn a_cache_has_what_does_not_encode_in_memory_and_says_so() {
    let dir = dir();
    let open = || Cache::<u8, Picky>::builder().open(dir.path()).unwrap();
    let cache = open();
    cache.insert(1, Picky(10));
    cache.insert(1, Picky(11));
    assert_eq!(cache.get(&1), Some(Picky(11)));
    assert_eq!(cache.journal().unwrap().health().unencodable, 1);
    drop(cache);
    assert_eq!(open().get(&1), None, "and not the older value");
}

#[test]
fn a_store_evicts_nothing_and_keeps_what_does_not_fit_out() {
    let dir = dir();
    let open = |bound| {
        Cache::<u32, u64>::builder()
            .max_weight(bound)
            .weigher(|_, value| *value)
            .open_store(dir.path())
            .unwrap()
    };
    let store = open(100);
    store.insert(1, 60).unwrap().wait().unwrap();
    store.insert(2, 30).unwrap().wait().unwrap();
    let no_room = |result: Result<_, WriteError>| matches!(result, Err(WriteError::NoRoom));
    assert!(no_room(store.insert(3, 20).map(drop)));
    assert!(no_room(store.insert(1, 80).map(drop)));
    assert!(no_room(store.insert(1, 101).map(drop)));
    assert!(no_room(store.update(&2, |value| *value = 50).map(drop)));
    let grows = |key| store.update_or_insert_with(&key, || 0, |value| *value += 20);
    assert!(no_room(grows(2).map(drop)) && no_room(grows(3).map(drop)));
    assert!(no_room(store.compute(&2, |_| Op::Put(50)).map(drop)));
    assert_eq!(store.get_many([&1, &2, &3]), [Some(60), Some(30), None]);
    store.insert(1, 70).unwrap().wait().unwrap();
    assert_eq!(store.weight(), 100);
    drop(store);
    let store = open(50);
    assert_eq!(store.weight(), 100, "a lower bound takes nothing");
    assert!(no_room(store.insert(4, 1).map(drop)));
    store.remove(&1).unwrap().wait().unwrap();
    store.insert(4, 1).unwrap().wait().unwrap();
}

#[test]
fn a_store_with_more_than_its_bound_says_how_many_there_are() {
    let dir = dir();
    let open = |bound| {
        Cache::<u32, u32>::builder()
            .max_entries(bound)
            .open_store(dir.path())
            .unwrap()
    };
    let entries = (0..10).map(|key| (key, key));
    open(10).insert_many(entries).unwrap().wait().unwrap();
    let store = open(3);
    assert_eq!((store.len(), store.iter().count()), (10, 10));
    assert_eq!(store.stats().entries, 10);
    assert!(matches!(store.insert(10, 10), Err(WriteError::NoRoom)));
    store.insert(9, 90).unwrap().wait().unwrap();
    store.retain(|key, _| *key < 2).unwrap().wait().unwrap();
    store.insert(10, 10).unwrap().wait().unwrap();
    assert_eq!(store.len(), 3);
}

#[test]
fn a_full_store_is_given_room_while_it_is_open_and_loses_nothing_to_a_lower_bound() {
    let dir = dir();
    let store = Cache::<u32, u32>::builder()
        .max_entries(3)
        .max_memory(10_000)
        .open_store(dir.path())
        .unwrap();
    let three = (0..3).map(|key| (key, key));
    store.insert_many(three).unwrap().wait().unwrap();
    assert!(matches!(store.insert(3, 3), Err(WriteError::NoRoom)));
    assert_eq!(store.max_entries(), Some(3));
    store.set_max_entries(4).unwrap();
    store.insert(3, 3).unwrap().wait().unwrap();
    store.set_max_entries(1).unwrap();
    assert_eq!((store.len(), store.max_entries()), (4, Some(1)));
    assert!(matches!(store.insert(4, 4), Err(WriteError::NoRoom)));
    store.set_max_entries(10).unwrap();
    assert!(store.set_max_memory(0).is_err() && store.set_max_entries(0).is_err());
    store.set_max_memory(store.memory()).unwrap();
    assert!(matches!(store.insert(4, 4), Err(WriteError::NoRoom)));
    store.set_max_memory(20_000).unwrap();
    store.insert(4, 4).unwrap().wait().unwrap();
    assert_eq!((store.len(), store.max_memory()), (5, Some(20_000)));
    assert!(store.set_max_weight(7).is_err() && store.max_weight().is_none());
}

/// Also where it comes between what a transaction has set aside and its commit, and where one entry
/// alone is beyond it.
#[test]
fn a_lower_bound_takes_nothing_of_what_is_under_way() {
    let dir = dir();
    let open = || {
        Cache::<u32, u32>::builder()
            .max_weight(100)
            .weigher(|_, value| u64::from(*value))
            .open_store(dir.path())
            .unwrap()
    };
    let store = open();
    store.insert(1, 20).unwrap().wait().unwrap();
    let grown = store.transaction(&[1, 2], |tx| {
        tx.insert(&1, 60).map_err(|_| "no room")?;
        tx.insert(&2, 30).map_err(|_| "no room")?;
        thread::scope(|scope| {
            let lowers = scope.spawn(|| store.set_max_weight(10).unwrap());
            lowers.join().unwrap();
        });
        Ok::<_, &str>(())
    });
    grown.unwrap().wait().unwrap();
    let values = |store: &Store<u32, u32>| [1, 2].map(|key| store.get(&key));
    assert_eq!(values(&store), [Some(60), Some(30)]);

    // What adds nothing is no matter of the bound.
    store.insert(1, 59).unwrap().wait().unwrap();
    store
        .update(&1, |value| *value -= 1)
        .unwrap()
        .wait()
        .unwrap();
    let shrunk = store.transaction(&[1], |tx| tx.insert(&1, 57).map_err(|_| "no room"));
    shrunk.unwrap().wait().unwrap();
    assert!(matches!(store.insert(1, 58), Err(WriteError::NoRoom)));
    let grown = store.transaction(&[1], |tx| tx.insert(&1, 58).map_err(|_| "no room"));
    assert!(matches!(grown, Err(TransactionError::Aborted("no room"))));
    assert_eq!(values(&store), [Some(57), Some(30)]);
    drop(store);
    assert_eq!(values(&open()), [Some(57), Some(30)]);
}

/// A listener with a handle of its own would keep the directory.
#[test]
fn a_listener_with_a_weak_handle_writes_to_the_store_and_leaves_the_directory_free() {
    let (dir, slot) = (dir(), Arc::new(OnceLock::<WeakStore<u32, u32>>::new()));
    let open = || {
        let slot = Arc::clone(&slot);
        Cache::<u32, u32>::builder()
            .removal_listener(move |_, value, _| {
                if let Some(store) = slot.get().and_then(WeakStore::upgrade) {
                    let _ = store.insert(0, value);
                }
            })
            .open_store(dir.path())
            .unwrap()
    };
    let store = open();
    slot.set(store.downgrade()).unwrap();
    store.insert(1, 10).unwrap().wait().unwrap();
    store.remove(&1).unwrap().wait().unwrap();
    drop(store);
    assert!(slot.get().unwrap().upgrade().is_none());
    assert_eq!(open().get(&0), Some(10));
}

/// What another store writes meanwhile is not of the call: a commit would wait for a number that its
/// own log has not given.
#[test]
fn a_listener_that_writes_to_another_store_leaves_the_commit_its_own_number() {
    type Write = fn(&Store<u32, u32>, &MockClock);
    let writes: [Write; 3] = [
        |other, _| drop(other.insert(200, 1).unwrap()),
        |other, _| {
            let mut left = 50;
            let remove = |_: &u32, _: &u32| {
                left -= 1;
                assert!(left > 0, "what has gone is gone");
                false
            };
            drop(other.retain(remove));
        },
        |other, time| {
            time.advance(Duration::from_secs(2));
            other.sweep();
        },
    ];
    for write in writes {
        let (dirs, time) = ((dir(), dir()), MockClock::new());
        let other = Cache::<u32, u32>::builder()
            .time_to_idle(Duration::from_secs(1))
            .sweep_interval(Duration::from_secs(3600))
            .clock(time.clock())
            .open_store(dirs.0.path())
            .unwrap();
        for key in 0..100 {
            other.insert(key, key).unwrap().wait().unwrap();
        }
        let (last, writer) = (other.journal().last_seq(), other.clone());
        let store = Cache::<u32, u32>::builder()
            .removal_listener(move |_, _, _| write(&writer, &time))
            .open_store(dirs.1.path())
            .unwrap();
        store.insert(1, 1).unwrap().wait().unwrap();
        let removed = store.remove(&1).unwrap();
        assert!(other.journal().last_seq() > last, "it has written");
        assert_eq!(removed.seq(), store.journal().last_seq());
    }
}

/// The log says of a group that it was invalidated, and of the entry that it is of another one. That
/// they have the same name by the next `group_by` means nothing.
#[test]
fn a_store_loses_nothing_to_what_was_invalidated_before_it_was_grouped_anew() {
    let dir = dir();
    let builder = Cache::<(u8, u8), u32>::builder;
    let by_first = builder().group_by(|(first, _)| first);
    let store = by_first.open_store(dir.path()).unwrap();
    let both = [((1, 2), 12), ((2, 1), 21)];
    store.insert_many(both).unwrap().wait().unwrap();
    store.invalidate_group(&2u8).unwrap().wait().unwrap();
    drop(store);
    let store = builder().open_store(dir.path()).unwrap();
    store.insert((3, 2), 32).unwrap().wait().unwrap();
    drop(store);
    let by_second = || builder().group_by(|(_, second)| second);
    let store = by_second().open_store(dir.path()).unwrap();
    let values = |store: &Store<(u8, u8), u32>| {
        let keys = [(1, 2), (2, 1), (3, 2)];
        keys.map(|key| store.get(&key))
    };
    assert_eq!(values(&store), [Some(12), None, Some(32)]);
    drop(store);
    let store = by_second().open_store(dir.path()).unwrap();
    assert_eq!(values(&store), [Some(12), None, Some(32)]);
    store.invalidate_group(&2u8).unwrap().wait().unwrap();
    drop(store);
    let store = by_second().open_store(dir.path()).unwrap();
    assert_eq!(values(&store), [None; 3]);
}

/// In a release build this store would not open again.
#[cfg(debug_assertions)]
#[test]
fn a_debug_build_refuses_what_would_not_decode() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Cart {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        items: Vec<u32>,
    }
    let (dir, cart) = (dir(), |items: &[u32]| Cart {
        items: items.to_vec(),
    });
    let open = || {
        Cache::<u32, Cart>::builder()
            .open_store(dir.path())
            .unwrap()
    };
    let store = open();
    store.insert(1, cart(&[7])).unwrap().wait().unwrap();
    let refused = store.insert(2, cart(&[])).map(drop).unwrap_err();
    assert!(matches!(refused, WriteError::Encode(_)));
    let sentence = "the key or value cannot be encoded: it would not decode at the next start: \
                    missing field `items`";
    assert_eq!(refused.to_string(), sentence);
    assert!(store.update(&1, |cart| cart.items.clear()).is_err());
    drop(store);
    assert_eq!(open().get(&1), Some(cart(&[7])));
}

/// A type that contains itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Comment {
    replies: Vec<Comment>,
}

impl Comment {
    /// With so many replies of replies.
    fn deep(replies: usize) -> Self {
        let none = Self { replies: vec![] };
        (0..replies).fold(none, |reply, _| Self {
            replies: vec![reply],
        })
    }
}

/// What encodes and does not decode: it is refused, or keeps the store from being opened.
fn verify<V, C>(codec: C, good: V, bad: V)
where
    V: Clone + std::fmt::Debug + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    C: Codec,
{
    let options = || Persistence::new().codec(codec.clone());
    for verifies in [true, false] {
        let dir = dir();
        let open = |options: Persistence<C>| {
            let builder = Cache::<u8, V>::builder();
            builder.open_store_with(&dir, options.verify_writes(verifies))
        };
        let store = open(options()).unwrap();
        store.insert(1, good.clone()).unwrap().wait().unwrap();
        let stored = store.insert(2, bad.clone()).map(drop);
        drop(store);
        if verifies {
            assert!(matches!(stored, Err(WriteError::Encode(_))), "{stored:?}");
        } else {
            stored.unwrap();
            let error = open(options()).map(drop).unwrap_err();
            assert!(matches!(error, OpenError::Undecodable { .. }), "{error}");
            for advice in ["RecoveryMode::Salvage", "Persistence::verify_writes"] {
                assert!(error.to_string().contains(advice), "{error}");
            }
            let salvaged = open(options().recovery(RecoveryMode::Salvage)).unwrap();
            assert_eq!(salvaged.journal().recovery().undecodable, 1);
        }
        let again = open(options()).unwrap();
        assert!(again.contains_key(&1) && !again.contains_key(&2));
    }
}

#[test]
fn what_encodes_and_does_not_decode_is_refused_where_writes_are_verified() {
    // Without optimisation each level takes a kilobyte of the stack and more.
    let deep = || {
        verify(MessagePack, Comment::deep(510), Comment::deep(511));
        #[cfg(feature = "json")]
        verify(Json, Comment::deep(62), Comment::deep(63));
    };
    let thread = thread::Builder::new().stack_size(64 << 20).spawn(deep);
    thread.unwrap().join().unwrap();
    #[cfg(feature = "json")]
    verify(Json, 1.5, f64::NAN);
}

/// In debug builds, too, as the documentation says.
#[test]
fn what_decodes_as_something_else_is_accepted_and_is_that_after_a_restart() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Code(u8),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Visit {
        id: Id,
        #[serde(skip)]
        cached: u32,
    }
    let visit = |id, cached| Visit { id, cached };
    let dir = dir();
    let open = || {
        Cache::<u32, Visit>::builder()
            .open_store(dir.path())
            .unwrap()
    };
    let store = open();
    let written = visit(Id::Code(7), 3);
    store.insert(1, written.clone()).unwrap().wait().unwrap();
    assert_eq!(store.get(&1), Some(written));
    drop(store);
    assert_eq!(open().get(&1), Some(visit(Id::Number(7), 0)));
}

#[test]
fn after_close_writes_fail_and_reads_go_on() {
    let dir = dir();
    let store = store(&dir);
    store.insert("a".into(), 1).unwrap().wait().unwrap();
    let report = store.journal().close().unwrap();
    assert_eq!(report.last_seq, report.durable_seq);
    let closed = |result: Result<(), WriteError>| matches!(result, Err(WriteError::Closed));
    assert!(closed(store.insert("b".into(), 2).map(drop)));
    assert!(closed(store.update("a", |value| *value = 2).map(drop)));
    let upsert = |key| store.update_or_insert_with(key, || 0, |value| *value += 2);
    assert!(closed(upsert("a").map(drop)) && closed(upsert("b").map(drop)));
    assert!(closed(store.remove("a").map(drop)));
    assert!(closed(store.clear().map(drop)));
    assert!(closed(store.expire("a", Duration::ZERO).map(drop)));
    assert!(closed(store.invalidate_tag("a").map(drop)));
    let transaction = store.transaction(&["a".to_string()], |tx| Ok::<_, ()>(tx.remove("a")));
    assert!(matches!(
        transaction,
        Err(TransactionError::Write(WriteError::Closed))
    ));
    let read = store.transaction(&["a".to_string()], |tx| Ok::<_, ()>(tx.get("a").copied()));
    assert_eq!(read.unwrap().wait().unwrap(), Some(1));
    assert_eq!(store.get("a"), Some(1));
    assert_eq!(
        crate::store(&dir).get("a"),
        Some(1),
        "the directory is free"
    );
}

/// What a thread does as it ends.
#[derive(Default)]
struct Late(Cell<Option<Box<dyn FnOnce()>>>);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

thread_local!(static LATE: Late = Late::default());

#[test]
fn a_thread_that_ends_may_write_until_its_end() {
    let (of_store, of_cache) = (dir(), dir());
    let open_store = || {
        let builder = Cache::<String, u64>::builder().max_entries(2);
        builder.open_store_with(of_store.path(), always()).unwrap()
    };
    let open_cache = || Cache::<String, u64>::builder().open_with(of_cache.path(), always());
    let (store, cache) = (open_store(), open_cache().unwrap());
    let key = |name: &str| name.to_string();
    thread::scope(|scope| {
        let (late_store, late_cache) = (store.clone(), cache.clone());
        let thread = scope.spawn(|| {
            // It is set up before what the writes need, so it is dropped after that.
            let work = move || {
                assert_eq!(late_store.remove("early").unwrap().wait().unwrap(), Some(1));
                for name in ["late", "later"] {
                    let commit = late_store.insert(name.to_string(), 2).unwrap();
                    assert_eq!(commit.wait().unwrap(), None);
                }
                let full = late_store.insert("latest".to_string(), 3).map(drop);
                assert!(matches!(full, Err(WriteError::NoRoom)));
                late_cache.remove("early");
                late_cache.insert("late".to_string(), 4);
                late_cache.expire("late", Duration::from_secs(60));
            };
            LATE.with(|late| late.0.set(Some(Box::new(work))));
            store.insert(key("early"), 1).unwrap().wait().unwrap();
            cache.insert(key("early"), 1);
        });
        thread.join().unwrap();
    });
    drop((store, cache));
    let (store, cache) = (open_store(), open_cache().unwrap());
    assert_eq!(
        ["early", "late", "later", "latest"].map(|name| store.get(name)),
        [None, Some(2), Some(2), None]
    );
    assert_eq!(
        ["early", "late"].map(|name| cache.get(name)),
        [None, Some(4)]
    );
    assert!(cache.ttl("late").is_some_and(|ttl| ttl != Ttl::Never));
}

/// Where the names of all are looked up.
static NAMES: LazyLock<Cache<u8, String>> = LazyLock::new(|| Cache::new(10));

/// A number that is written as a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
struct Named(u8);

impl From<String> for Named {
    fn from(name: String) -> Self {
        Self(name.len() as u8)
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = || "x".repeat(self.0.into());
        serializer.serialize_str(&NAMES.get_or_insert_with(&self.0, name))
    }
}

#[test]
fn a_store_whose_entries_look_into_a_cache_as_they_are_encoded_goes_on_without_snapshots() {
    let dir = dir();
    let open = || Cache::<u8, Named>::builder().open_store(&dir).unwrap();
    let names = open();
    names.insert(1, Named(3)).unwrap().wait().unwrap();
    let error = names.journal().compact().unwrap_err();
    let said = "haybox was called from inside";
    assert!(
        matches!(&error, CompactError::Encode(why) if why.contains(said)),
        "{error}"
    );
    assert_eq!(names.journal().health().compaction_failures, 1);
    names.insert(2, Named(4)).unwrap().wait().unwrap();
    assert_eq!(names.remove(&1).unwrap().wait().unwrap().unwrap().0, 3);
    names.journal().close().unwrap();
    assert_eq!(open().get(&2).unwrap().0, 4);
}

#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<u8>>);

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u8::deserialize(deserializer)?;
        Ok(Self(Arc::new(Mutex::new(value))))
    }
}

#[test]
fn a_durable_entry_that_does_not_encode_any_more_is_not_dropped_by_a_compaction() {
    let dir = dir();
    let open = || Cache::<u8, Shared>::builder().open_store(&dir).unwrap();
    let shared = |value| Shared(Arc::new(Mutex::new(value)));
    let (store, poisoned) = (open(), shared(7));
    store.insert(1, poisoned.clone()).unwrap().wait().unwrap();
    store.insert(2, shared(8)).unwrap().wait().unwrap();
    let poisons = thread::spawn(move || {
        let _held = poisoned.0.lock().unwrap();
        panic!("poison");
    });
    poisons.join().unwrap_err();
    let error = store.journal().compact().unwrap_err();
    assert!(matches!(error, CompactError::Encode(_)), "{error}");
    drop(store);
    let store = open();
    assert_eq!(*store.get(&1).unwrap().0.lock().unwrap(), 7);
    assert_eq!(store.len(), 2);
}
