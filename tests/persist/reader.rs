//! Reads a directory of arbitrary files with all that reads one, and checks what has to hold
//! whatever is in them. The fuzz target `fuzz/fuzz_targets/reader.rs` is made of this, and the test
//! `corpus` gives it what the fuzzer has found.
//!
//! An input is one byte for the recovery mode, and then files: a byte for the name, one that says
//! whether checksums are put right, two for the length, and the bytes. Without checksums that fit, a
//! fuzzer would never get behind the first header.

use haybox::persist::{OpenError, Persistence, Point, RecoveryMode, check};
use haybox::{Cache, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub type Entries = Store<u32, String>;

/// The files that an input can have, by the first byte of each.
pub const NAMES: [&str; 8] = [
    "MANIFEST",
    "log-1.wal",
    "snap-2.db",
    "log-2.wal",
    "snap-3.db",
    "log-3.wal",
    "log-4.wal",
    "MANIFEST.tmp",
];

/// The recovery modes, by the first byte of the input.
const MODES: [RecoveryMode; 5] = [
    RecoveryMode::TolerateTornTail,
    RecoveryMode::Strict,
    RecoveryMode::Salvage,
    RecoveryMode::ReadOnly,
    RecoveryMode::PointInTime(Point::Seq(7)),
];

/// Near to the highest number that a file may name.
const HIGHEST: u64 = (u64::MAX >> 1) - 1_000;

/// Reads one input.
///
/// # Panics
/// Something does not hold that always has to.
pub fn read(input: &[u8]) {
    let Some((mode, files)) = input.split_first() else {
        return;
    };
    let temporary = tempfile::Builder::new()
        .prefix("haybox")
        .tempdir()
        .expect("a temporary directory");
    let (dir, saved) = (temporary.path().join("d"), temporary.path().join("saved"));
    unpack(files, &dir);
    look_at(&dir);
    if check::salvage(&dir, &saved, |_| ()).is_ok() {
        check::verify(&saved, |_| ()).expect("what was saved is sound");
    }
    open(&dir, MODES[usize::from(*mode) % MODES.len()]);
}

/// Looking changes nothing.
fn look_at(dir: &Path) {
    let before = contents(dir);
    // What they answer is as arbitrary as the files.
    let _ = check::inspect(dir, |_| ());
    let _ = check::verify(dir, |_| ());
    assert_eq!(contents(dir), before);
}

fn open(dir: &Path, mode: RecoveryMode) {
    let before = contents(dir);
    let store = match open_in(dir, mode) {
        Ok(store) => store,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(contents(dir), before, "refused, and changed: {error}");
            return;
        }
    };
    let entries = entries(&store);
    if mode == RecoveryMode::ReadOnly {
        drop(store);
        return assert_eq!(contents(dir), before, "read-only");
    }
    let health = store.journal().health();
    store.journal().close().expect("the disk is fine");
    drop(store);
    match open_in(dir, RecoveryMode::Strict) {
        Ok(again) => assert_eq!(self::entries(&again), entries),
        // Only a forger gets to the highest numbers, and is not followed beyond.
        Err(error) if error.to_string().contains("that no log reaches") => {}
        Err(_)
            if health
                .last_seq
                .max(health.durable_seq)
                .max(health.generation)
                > HIGHEST => {}
        Err(error) => panic!("what was closed does not open: {error}"),
    }
}

pub fn open_in(dir: &Path, mode: RecoveryMode) -> Result<Entries, OpenError> {
    let options = Persistence::new().recovery(mode).threads(1);
    Cache::builder().open_store_with(dir, options)
}

fn entries(store: &Entries) -> BTreeMap<u32, String> {
    store.iter().collect()
}

/// All files but the lock, by their names.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).expect("the directory can be read");
    let files = files.map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| path.is_file() && !path.ends_with("LOCK"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), fs::read(&path).expect("can be read"))
    };
    files.map(read).collect()
}

/// The input that has these files.
pub fn pack(mode: u8, repaired: bool, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut input = vec![mode];
    for (name, bytes) in files {
        let Some(number) = NAMES.iter().position(|known| known == name) else {
            continue;
        };
        let length = u16::try_from(bytes.len()).expect("small files");
        input.extend([number as u8, u8::from(repaired)]);
        input.extend(length.to_le_bytes());
        input.extend(bytes);
    }
    input
}

pub fn unpack(mut input: &[u8], dir: &Path) {
    fs::create_dir(dir).expect("a new directory");
    while let Some(([name, repair, low, high], rest)) = input.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (file, others) = rest.split_at(length);
        let mut bytes = file.to_vec();
        if repair & 1 == 1 {
            put_right(&mut bytes);
        }
        let name = NAMES[usize::from(*name) % NAMES.len()];
        fs::write(dir.join(name), bytes).expect("room for a small file");
        input = others;
    }
}

/// Makes the checksums fit: of the header of the file, and of each frame whose length is possible.
fn put_right(bytes: &mut [u8]) {
    let Some((header, mut frames)) = bytes.split_at_mut_checked(64) else {
        return;
    };
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    let salt = u32_at(header, 48);
    while frames.len() >= 48 {
        let length = u32_at(frames, 8) as usize;
        let Some((frame, rest)) = frames.split_at_mut_checked(length.saturating_add(48)) else {
            return;
        };
        let checksum = crc32c::crc32c_append(salt, &frame[48..]);
        frame[40..44].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c::crc32c_append(salt, &frame[..44]);
        frame[44..48].copy_from_slice(&checksum.to_le_bytes());
        frames = rest;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
