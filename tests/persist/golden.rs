//! Files of format version 1 that were written once and are read for ever.
//!
//! `HAYBOX_GOLDEN=write cargo test --features persist,json,postcard --test persist golden` writes
//! them anew; that is done for a new format version only, into a directory of its own.

use crate::dir;
use haybox::persist::{Codec, MessagePack, Persistence};
use haybox::{Cache, InsertOptions, Store};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cart {
    owner: String,
    items: Vec<(u32, u16)>,
    note: Option<String>,
}

fn cart(number: u32) -> Cart {
    Cart {
        owner: format!("customer {number}"),
        items: (0..number % 4).map(|item| (item, 1)).collect(),
        note: number.is_multiple_of(3).then(|| "fragile".to_string()),
    }
}

/// In the year 2100.
fn far_off() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800)
}

fn open<C: Codec>(dir: &Path, codec: C) -> Store<(u8, u32), Cart> {
    let builder = Cache::builder()
        .max_weight(1_000_000)
        .weigher(|_: &(u8, u32), cart: &Cart| cart.owner.len() as u64)
        .group_by(|(shop, _): &(u8, u32)| shop);
    let options = Persistence::new().codec(codec).schema_version(7);
    builder.open_store_with(dir, options).unwrap()
}

/// Everything that a file can hold: a snapshot, a log after it, deadlines, tags, weights, removals,
/// a transaction.
fn write<C: Codec>(dir: &Path, codec: C) {
    let store = open(dir, codec);
    for number in 0..20 {
        store
            .insert((1, number), cart(number))
            .unwrap()
            .into_value();
    }
    let tagged = InsertOptions::new()
        .tags(["red", "large"])
        .expire_at(far_off());
    store
        .insert_with((2, 0), cart(0), tagged)
        .unwrap()
        .into_value();
    store
        .insert_with((2, 1), cart(1), InsertOptions::new().tag("blue"))
        .unwrap()
        .into_value();
    store.journal().compact().unwrap();
    store.invalidate_tag("blue").unwrap().into_value();
    store.remove(&(1, 3)).unwrap().into_value();
    store.expire_at(&(1, 4), far_off()).unwrap().into_value();
    store
        .insert_with_ttl((1, 5), cart(5), Duration::from_millis(1))
        .unwrap()
        .into_value();
    store
        .update(&(1, 6), |cart| cart.items.clear())
        .unwrap()
        .into_value();
    let keys = [(1, 7), (1, 8)];
    let done = store.transaction(&keys, |tx| {
        tx.insert(&keys[0], cart(700))?;
        tx.insert(&keys[1], cart(800))
    });
    done.unwrap().into_value();
    store.journal().close().unwrap();
}

fn check<C: Codec>(dir: &Path, codec: C) {
    let store = open(dir, codec);
    assert_eq!(store.len(), 19, "{}", store.journal().recovery());
    for number in [0, 1, 2, 9, 19] {
        assert_eq!(store.get(&(1, number)), Some(cart(number)));
    }
    assert_eq!(
        store.get_many([&(1, 3), &(1, 5), &(2, 1)]),
        [None, None, None]
    );
    assert_eq!(store.get(&(1, 6)).unwrap().items, []);
    assert_eq!(
        store.get_many([&(1, 7), &(1, 8)]),
        [Some(cart(700)), Some(cart(800))]
    );
    for key in [(1, 4), (2, 0)] {
        let deadline = store.deadline(&key).unwrap().unwrap();
        let error = far_off().duration_since(deadline).unwrap_or_default();
        assert!(error < Duration::from_secs(1), "{deadline:?}");
    }
    assert!(store.weight() > 200);
    store.invalidate_tag("large").unwrap().into_value();
    assert_eq!(store.get(&(2, 0)), None);
    store.invalidate_group(&1u8).unwrap().into_value();
    assert_eq!(store.iter().count(), 0);
}

fn golden<C: Codec>(name: &str, codec: C) {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/persist/golden-1")
        .join(name);
    if std::env::var("HAYBOX_GOLDEN").is_ok_and(|asked| asked == "write") {
        write(&golden, codec.clone());
        fs::remove_file(golden.join("LOCK")).unwrap();
    }
    let copy = dir();
    for file in fs::read_dir(&golden).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    check(copy.path(), codec);
}

#[test]
fn fault_28_files_of_version_1_open_with_message_pack() {
    golden("message_pack", MessagePack);
}

#[test]
#[cfg(feature = "postcard")]
fn fault_28_files_of_version_1_open_with_postcard() {
    golden("postcard", haybox::persist::Postcard);
}

#[test]
#[cfg(feature = "json")]
fn fault_28_files_of_version_1_open_with_json() {
    golden("json", haybox::persist::Json);
}
