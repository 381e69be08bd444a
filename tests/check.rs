//! The program `haybox-check`, run as its users run it: on a store that is sound, torn, rotten,
//! incomplete, mixed with another's files, of a newer version, open, and where there is none.

use haybox::persist::{Persistence, RecoveryMode};
use haybox::{Cache, Store};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

type Entries = Store<u32, String>;

fn open(dir: &Path) -> Entries {
    let strict = Persistence::new().recovery(RecoveryMode::Strict);
    Cache::builder().open_store_with(dir, strict).unwrap()
}

/// Twenty entries in a snapshot, and in the log ten of them removed and ten more.
fn a_store() -> TempDir {
    let temporary = tempfile::tempdir().unwrap();
    let store = open(temporary.path());
    for key in 0..20 {
        store.insert(key, key.to_string()).unwrap().wait().unwrap();
    }
    store.journal().compact().unwrap();
    for key in 0..10 {
        store.remove(&key).unwrap().wait().unwrap();
        let more = store.insert(key + 100, "x".repeat(100)).unwrap();
        more.wait().unwrap();
        store.journal().sync().unwrap();
    }
    store.journal().close().unwrap();
    temporary
}

fn check(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haybox-check"));
    for argument in arguments {
        command.arg(argument);
    }
    command.output().unwrap()
}

/// What it printed, after it exited as it should.
#[track_caller]
fn exits_with(exit: i32, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (String, String) {
    let output = check(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{out}{err}");
    (out, err)
}

#[track_caller]
fn json_of(exit: i32, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push(&"--json");
    let (out, err) = exits_with(exit, &arguments);
    assert_eq!(err, "", "errors are in the object");
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(object["exit"], exit);
    object
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// The only file in a directory with this ending.
fn the_file(dir: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.to_string_lossy().ends_with(ending));
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

/// All files and their bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn flip(file: &Path, at: impl FnOnce(usize) -> usize) {
    change(file, |bytes| {
        let at = at(bytes.len());
        bytes[at] ^= 1;
    });
}

#[test]
fn a_sound_store_is_shown() {
    let store = a_store();
    let dir = store.path();
    let before = contents(dir);
    let (out, err) = exits_with(0, &[&dir]);
    says(
        &out,
        &[
            "kept for a store, codec MPCK",
            "snap-2.db",
            "20 entries",
            "log-2.wal",
            "10 entries, 10 deletions, numbers 21 to 40",
            "sound: 20 records of a snapshot and 20 of logs, up to number 40",
        ],
    );
    assert_eq!(err, "", "no bar where nobody looks");
    let (out, _) = exits_with(0, &[&dir, &"--verify"]);
    assert!(out.starts_with("sound"), "{out}");
    assert_eq!(contents(dir), before);
}

#[test]
fn programs_get_an_object() {
    let store = a_store();
    let object = json_of(0, &[&store.path()]);
    assert_eq!(object["action"], "show");
    assert_eq!(object["status"], "sound");
    assert_eq!(object["manifest"]["durable_seq"], 40);
    assert_eq!(object["manifest"]["dir_kind"], "store");
    let files = object["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(files[0]["kind"], "snapshot");
    assert_eq!(files[0]["puts"], 20);
    assert_eq!(files[0]["dir_kind"], "store");
    assert_eq!(files[1]["first_seq"], 21);
    assert_eq!(files[1]["deletes"], 10);
    assert_eq!(files[1]["damages"], Value::Array(Vec::new()));
    assert!(files[1]["last_time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(object["recovery"]["last_seq"], 40);
}

#[test]
fn that_a_cache_began_empty_is_shown_and_what_was_discarded_is_not_saved() {
    let (live, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |dir: &Path| -> Cache<u32, u32> {
        let options = Persistence::new().discard_unclosed(true).generations(2);
        Cache::builder().open_with(dir, options).unwrap()
    };
    let cache = open(live.path());
    cache.insert_many((0..100).map(|key| (key, key)));
    cache.journal().unwrap().sync().unwrap();
    for file in fs::read_dir(live.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), killed.path().join(file.file_name())).unwrap();
    }
    drop(open(killed.path()));
    let (out, _) = exits_with(0, &[&killed.path()]);
    says(
        &out,
        &["1 discards of all, numbers 101 to 101", "sound: 0 records"],
    );
    let object = json_of(0, &[&killed.path()]);
    let files = object["files"].as_array().unwrap();
    let clears = files.iter().filter_map(|file| file["clears"].as_u64());
    assert_eq!(clears.sum::<u64>(), 1);
    // Without the snapshot that was made behind it.
    for file in fs::read_dir(killed.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "db") || path.ends_with("MANIFEST") {
            fs::remove_file(path).unwrap();
        }
    }
    let saved = live.path().join("saved");
    let object = json_of(4, &[&killed.path(), &"--salvage", &saved]);
    assert_eq!(object["entries"], 0, "{object}");
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let store = a_store();
    let dir = store.path();
    let log = the_file(dir, ".wal");
    // What a crash leaves: half a frame behind all that is proven to be on disk.
    change(&log, |bytes| {
        let frame = bytes[64..100].to_vec();
        bytes.extend_from_slice(&frame);
    });
    let before = contents(dir);
    let (out, _) = exits_with(3, &[&dir]);
    says(
        &out,
        &[
            "log-2.wal",
            "sound up to number 40",
            "cut short",
            "36 B",
            "damaged at byte",
        ],
    );
    let object = json_of(3, &[&dir, &"--verify"]);
    assert_eq!(object["status"], "torn tail");
    assert_eq!(object["recovery"]["dropped_bytes"], 36);
    assert_eq!(contents(dir), before);
    exits_with(0, &[&dir, &"--compact"]);
    exits_with(0, &[&dir, &"--verify"]);
    assert!(dir.join("quarantine").is_dir());
}

#[test]
fn rot_is_shown_refused_and_salvaged() {
    let store = a_store();
    let dir = store.path();
    let log = the_file(dir, ".wal");
    flip(&log, |length| length / 2);
    let before = contents(dir);
    let (out, err) = exits_with(4, &[&dir]);
    says(&out, &["log-2.wal", "at byte", "expected", "found"]);
    says(
        &err,
        &[
            "error:",
            "log-2.wal is damaged at byte",
            "--salvage NEW-DIRECTORY",
        ],
    );
    let object = json_of(4, &[&dir]);
    assert_eq!(object["status"], "damaged");
    says(object["error"].as_str().unwrap(), &["log-2.wal"]);
    assert!(!object["files"][1]["damages"].as_array().unwrap().is_empty());
    exits_with(4, &[&dir, &"--compact"]);

    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("saved");
    let (out, _) = exits_with(4, &[&dir, &"--salvage", &to]);
    says(&out, &["saved ", " entries to ", "log-2.wal is damaged"]);
    assert_eq!(contents(dir), before);
    exits_with(0, &[&to]);
    let saved = open(&to);
    assert!((19..=30).contains(&saved.len()), "{}", saved.len());
    assert_eq!(saved.get(&15), Some("15".to_owned()));
}

#[test]
fn a_sound_store_is_salvaged_without_loss_but_not_over_files() {
    let store = a_store();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("saved");
    let object = json_of(0, &[&store.path(), &"--salvage", &to]);
    assert_eq!(object["entries"], 20);
    assert_eq!(open(&to).len(), 20);
    let (_, err) = exits_with(1, &[&store.path(), &"--salvage", &to]);
    says(&err, &["holds files", "empty or not there"]);
}

#[test]
fn compacting_leaves_a_snapshot() {
    let store = a_store();
    let object = json_of(0, &[&store.path(), &"--compact"]);
    assert_eq!(object["written"]["entries"], 20);
    let object = json_of(0, &[&store.path()]);
    assert_eq!(object["recovery"]["from_snapshot"], 20);
    assert_eq!(object["recovery"]["from_log"], 0);
    let entries = open(store.path());
    assert_eq!(
        (entries.len(), entries.get(&100)),
        (20, Some("x".repeat(100)))
    );
}

#[test]
fn missing_files_and_those_of_another_store_are_damage() {
    let (store, other) = (a_store(), a_store());
    let snapshot = the_file(store.path(), ".db");
    fs::copy(the_file(other.path(), ".db"), &snapshot).unwrap();
    let (_, err) = exits_with(4, &[&store.path()]);
    says(
        &err,
        &["snap-2.db belongs to store", "the store's own file"],
    );
    fs::remove_file(&snapshot).unwrap();
    let (_, err) = exits_with(4, &[&store.path(), &"--verify"]);
    says(&err, &["snap-2.db is missing", "--salvage"]);
    fs::remove_file(other.path().join("MANIFEST")).unwrap();
    let (out, err) = exits_with(4, &[&other.path()]);
    says(&out, &["MANIFEST cannot be read", "20 entries"]);
    says(&err, &["no MANIFEST", "--salvage"]);
    let to = store.path().join("saved");
    exits_with(4, &[&other.path(), &"--salvage", &to]);
    assert_eq!(open(&to).len(), 20);
}

#[test]
fn a_newer_format_is_no_damage() {
    let store = a_store();
    let manifest = store.path().join("MANIFEST");
    change(&manifest, |bytes| {
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    });
    let before = contents(store.path());
    let (_, err) = exits_with(5, &[&store.path()]);
    says(&err, &["MANIFEST has format 2", "newer version"]);
    assert!(!err.contains("--salvage"), "{err}");
    exits_with(5, &[&store.path(), &"--compact"]);
    assert_eq!(contents(store.path()), before);
}

#[test]
fn a_store_that_is_open_is_left_alone() {
    let store = a_store();
    let running = open(store.path());
    let actions: [&[&dyn AsRef<std::ffi::OsStr>]; 3] = [
        &[&store.path()],
        &[&store.path(), &"--verify"],
        &[&store.path(), &"--compact"],
    ];
    for action in actions {
        let (_, err) = exits_with(6, action);
        says(&err, &["is open already"]);
    }
    drop(running);
    exits_with(0, &[&store.path()]);
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let (missing, file) = (dir.join("missing"), dir.join("file"));
    fs::write(&file, "text").unwrap();
    for (path, found) in [
        (dir, "without files of a store"),
        (&missing, "nothing is there"),
        (&file, "not a directory"),
    ] {
        let actions: [&[&dyn AsRef<std::ffi::OsStr>]; 3] = [
            &[&path],
            &[&path, &"--compact"],
            &[&path, &"--salvage", &dir.join("to")],
        ];
        for action in actions {
            let (out, err) = exits_with(7, action);
            assert_eq!(out, "");
            says(&err, &["there is no store at", found, "MANIFEST"]);
        }
    }
    let (_, err) = exits_with(7, &[&""]);
    says(&err, &["path of the directory is empty"]);
    assert_eq!(json_of(7, &[&missing])["status"], "no store");
    assert!(!missing.exists() && !dir.join("to").exists());
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
}

#[test]
fn the_manifest_of_another_program_is_no_damage() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    fs::write(dir.join("MANIFEST"), "MANIFEST-000004\n").unwrap();
    let before = contents(dir);
    let to = dir.join("saved");
    let actions: [&[&dyn AsRef<std::ffi::OsStr>]; 3] = [
        &[&dir, &"--verify"],
        &[&dir, &"--compact"],
        &[&dir, &"--salvage", &to],
    ];
    for action in actions {
        let (_, err) = exits_with(7, action);
        says(&err, &["MANIFEST is no file of haybox's"]);
    }
    let (out, _) = exits_with(7, &[&dir]);
    says(&out, &["MANIFEST cannot be read"]);
    assert_eq!(contents(dir), before);
}

#[test]
fn the_command_line_explains_itself() {
    let (help, _) = exits_with(0, &[&"--help"]);
    says(&help, &["Usage:", "--salvage TO", "--json", "Exit status:"]);
    let (version, _) = exits_with(0, &[&"--version"]);
    says(&version, &[env!("CARGO_PKG_VERSION")]);
    let (out, err) = exits_with(2, &[]);
    assert_eq!(out, "");
    says(&err, &["directory of the store is missing", "--help"]);
    exits_with(2, &[&"a", &"b"]);
}
