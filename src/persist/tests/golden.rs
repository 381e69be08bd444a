//! Stores that earlier versions of the format wrote: each opens, whatever is changed since.
//!
//! The files of a version are written once and never again. A new format gets a new folder.

use super::memory::Memory;
use super::model::{Map, Store, by_hand, dir};
use std::collections::BTreeMap;

macro_rules! golden {
    ($version:literal: $($name:literal)*) => {
        [$(($name, &include_bytes!(concat!("golden/", $version, "/", $name))[..])),*]
    };
}

#[test]
fn format_1_opens() {
    let memory = Memory::new(1);
    let storage = memory.storage();
    storage.create_dir(&dir()).unwrap();
    for (name, bytes) in golden!("v1": "MANIFEST" "snap-2.db" "log-2.wal") {
        memory.put(&dir().join(name), bytes.to_vec());
    }
    let store = Store::open(&storage, by_hand()).unwrap();
    let expected: Map = [("plum", "45"), ("fig", "12"), ("melon", "250")]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    assert_eq!(store.map(), expected);
    assert_eq!(store.kept.labels(), BTreeMap::from([(7, 3), (u64::MAX, 9)]));
    assert_eq!((store.report.last_seq, store.report.frames), (8, 7));
    assert!(store.report.damages.is_empty());
    store.journal.compact().unwrap();
}
