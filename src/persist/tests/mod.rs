//! Tests of the files: with a map for what is kept, and a file system in memory that fails and
//! loses power.

mod backups;
mod bytes;
mod checking;
mod clocks;
mod crashes;
mod damage;
mod faults;
mod golden;
mod gone;
mod last_handle;
mod memory;
mod model;
mod points;
mod running;
mod salvage;
mod syncs;
mod unclosed;
mod unencodable;
mod waits;

use self::memory::Memory;
use self::model::{History, Store, Write};
use crate::persist::error::{Damage, OpenError};
use crate::persist::frame::HEADER;
use crate::persist::header;
use std::ops::Range;
use std::path::Path;

/// Where the frames of a file are.
fn frames_of(memory: &Memory, path: &Path) -> Vec<Range<usize>> {
    let bytes = memory.bytes(path);
    let (mut frames, mut at) = (Vec::new(), header::LENGTH);
    while at < bytes.len() {
        let length = bytes[at + 8..at + 12].try_into().expect("four bytes");
        let end = at + HEADER + u32::from_le_bytes(length) as usize;
        frames.push(at..end);
        at = end;
    }
    frames
}

fn is_snapshot(path: &Path) -> bool {
    path.to_string_lossy().contains("snap-")
}

/// Writes, and notes what the map is then.
fn record(store: &Store, history: &mut History, writes: &[Write]) {
    let seq = store.write(writes).expect("there is room");
    history.add(seq, writes);
}

#[track_caller]
fn damage_of(error: OpenError) -> Damage {
    match error {
        OpenError::Damaged(damage) => damage,
        error => panic!("{error}"),
    }
}

/// How many cases to run: `HAYBOX_CASES` is a number, or `full` for what CI asks for.
fn cases(quick: u64, full: u64) -> u64 {
    match std::env::var("HAYBOX_CASES") {
        Ok(asked) if asked == "full" => full,
        Ok(asked) => asked.parse().expect("HAYBOX_CASES is a number or `full`"),
        Err(_) => quick,
    }
}
