//! The fuzzer's inputs, read as a test: see `reader`.
//!
//! `HAYBOX_CORPUS=write cargo test --features persist --test persist corpus` writes the seeds anew,
//! which a change of the format calls for. Inputs that made a fuzzer's run fail come beside them.

use crate::dir;
use crate::reader::{self, Entries};
use haybox::InsertOptions;
use haybox::persist::RecoveryMode;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/persist/corpus");

type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn every_input_of_the_corpus_is_read() {
    if std::env::var("HAYBOX_CORPUS").is_ok_and(|what| what == "write") {
        write_seeds();
    }
    seeds_open();
    let mut inputs = 0;
    for entry in fs::read_dir(CORPUS).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        reader::read(&fs::read(&path).unwrap());
        inputs += 1;
    }
    println!("corpus: {inputs} inputs");
    assert!(inputs >= 20, "{CORPUS} has {inputs} inputs");
}

/// Whatever the fuzzer does to a seed begins from a store that opens.
fn seeds_open() {
    for name in ["log", "both", "label"] {
        let input = fs::read(Path::new(CORPUS).join(name)).unwrap();
        let dir = dir();
        let store = dir.path().join("store");
        reader::unpack(&input[1..], &store);
        let entries = reader::open_in(&store, RecoveryMode::Strict).unwrap();
        assert!(entries.len() >= 3, "{name}: {}", entries.len());
    }
}

fn write_seeds() {
    let (log, both, label) = (a_log(), a_snapshot_and_a_log(), a_label());
    save("log", 1, true, &log);
    save("both", 0, true, &both);
    save("label", 0, true, &label);
    for (name, files) in [("log", &log), ("both", &both)] {
        for mode in 0..5 {
            save(&format!("{name}-mode-{mode}"), mode, false, files);
        }
        torn(name, files);
    }
    for missing in both.keys() {
        let mut files = both.clone();
        files.remove(missing);
        save(&format!("both-without-{missing}"), 2, true, &files);
    }
    // Another store's files in the place of its own.
    let mut mixed = both.clone();
    mixed.extend(
        a_snapshot_and_a_log()
            .into_iter()
            .filter(|(name, _)| name != "MANIFEST"),
    );
    save("mixed", 0, true, &mixed);
    save("empty", 0, true, &Files::new());
}

/// Cut in the middle of the log; with zeros, and with half a frame behind it; a bit flipped.
fn torn(name: &str, files: &Files) {
    let changed = |how: &str, repaired: bool, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = files.clone();
        let log = files.iter_mut().rfind(|(name, _)| name.ends_with("wal"));
        change(log.unwrap().1);
        save(&format!("{name}-{how}"), 0, repaired, &files);
    };
    changed("cut", true, &|log| log.truncate(log.len() - 20));
    changed("zeros", false, &|log| log.extend([0; 100]));
    changed("half", false, &|log| log.extend_from_within(64..130));
    changed("twice", true, &|log| log.extend_from_within(64..));
    changed("flipped", false, &|log| {
        let middle = log.len() / 2;
        log[middle] ^= 4;
    });
}

fn save(name: &str, mode: u8, repaired: bool, files: &Files) {
    let path = Path::new(CORPUS).join(name);
    fs::write(path, reader::pack(mode, repaired, files)).unwrap();
}

fn files_of(work: impl FnOnce(&Entries)) -> Files {
    let dir = dir();
    let store = reader::open_in(dir.path(), RecoveryMode::Strict).unwrap();
    work(&store);
    store.journal().close().unwrap();
    drop(store);
    reader::contents(dir.path())
}

fn put(store: &Entries, keys: std::ops::Range<u32>) {
    for key in keys {
        store
            .insert(key, format!("value {key}"))
            .unwrap()
            .wait()
            .unwrap();
    }
}

fn a_log() -> Files {
    files_of(|store| {
        put(store, 0..5);
        store.remove(&2).unwrap().wait().unwrap();
        let far_off = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
        store.expire_at(&3, far_off).unwrap().wait().unwrap();
    })
}

fn a_snapshot_and_a_log() -> Files {
    files_of(|store| {
        put(store, 0..4);
        store.journal().compact().unwrap();
        put(store, 3..6);
        store
            .insert_with_ttl(9, "gone".into(), Duration::from_millis(1))
            .unwrap()
            .wait()
            .unwrap();
        store.remove(&0).unwrap().wait().unwrap();
    })
}

fn a_label() -> Files {
    files_of(|store| {
        put(store, 0..4);
        let tagged = InsertOptions::new().tags(["red", "large"]);
        store
            .insert_with(7, "tagged".into(), tagged)
            .unwrap()
            .into_value();
        store.invalidate_tag("red").unwrap().wait().unwrap();
    })
}
