//! What lies below the journal, byte by byte: copies of files, frames, the manifest.

use super::memory::{How, Memory, Operation};
use crate::persist::error::OpenError;
use crate::persist::files::{copy_part, link_or_copy};
use crate::persist::frame::{self, FrameReader, HEADER, Stamp, Unread, framed};
use crate::persist::header::{self, CodecId, FileHeader, Kind, StoreId};
use crate::persist::manifest::{self, Manifest, Name, Snapshot};
use crate::persist::storage::{Blob, Storage, write_all};
use crate::persist::varint::{HIGHEST, put_number};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const SALT: u32 = 7;

fn file(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Arc<dyn Blob> {
    let blob = storage.create(Path::new(path)).unwrap();
    write_all(&*blob, bytes, 0).unwrap();
    blob
}

// ---- copies ----

/// More than is copied in one go.
fn long() -> Vec<u8> {
    (0..5 << 19).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_copy_is_the_part_that_was_asked_for_however_long() {
    let (memory, bytes) = (Memory::new(1), long());
    let storage = memory.storage();
    let from = file(&*storage, "from", &bytes);
    let (length, step) = (bytes.len(), 1 << 20);
    for part in [0..length, 1..length - 1, step - 1..step + 1, 0..step, 0..0] {
        let wanted = part.start as u64..part.end as u64;
        let (from_path, to) = (Path::new("from"), Path::new("to"));
        copy_part(&*storage, &*from, from_path, wanted, to).unwrap();
        assert!(memory.bytes(to) == bytes[part.clone()], "{part:?}");
    }
}

#[test]
fn where_no_file_has_two_names_it_is_copied() {
    let (memory, bytes) = (Memory::new(1), long());
    let storage = memory.storage();
    file(&*storage, "from", &bytes);
    let paths = ["from", "linked", "copied"].map(Path::new);
    assert!(link_or_copy(&*storage, paths[0], paths[1]).unwrap());
    memory.fail_next(1, Some(Operation::Link), How::Broken);
    assert!(!link_or_copy(&*storage, paths[0], paths[2]).unwrap());
    assert!(paths.iter().all(|path| memory.bytes(path) == bytes));
}

// ---- frames ----

fn stamp(first: u64, durable: u64) -> Stamp {
    Stamp {
        kind: frame::Kind::Mark,
        count: 0,
        first,
        durable,
        wall_ms: 0,
    }
}

fn reader_of(behind_the_header: &[u8]) -> FrameReader {
    let memory = Memory::new(1);
    let bytes = [&[0; header::LENGTH][..], behind_the_header].concat();
    FrameReader::new(file(&*memory.storage(), "log", &bytes), SALT).unwrap()
}

#[test]
fn a_header_is_found_wherever_it_lies_among_what_is_read_in_one_go() {
    let (window, header) = (1 << 20, HEADER as i64);
    let frame = framed(&[], stamp(5, 4), SALT);
    for from_its_end in [1, 0, -1, -header / 2, 1 - header, -header, -header - 1] {
        let garbage = vec![0xAB; usize::try_from(window + 1 + from_its_end).unwrap()];
        let mut reader = reader_of(&[&garbage[..], &frame, &[0xAB; 10]].concat());
        let (offset, found) = reader.next_header().unwrap().unwrap();
        assert_eq!(offset, (header::LENGTH + garbage.len()) as u64);
        assert_eq!((found.first, found.durable), (5, 4));
        assert_eq!(reader.next().unwrap().unwrap().offset, offset);
        assert!(reader.next_header().unwrap().is_none());
    }
}

/// A file of frames of 1,000 bytes with those parts that cannot be read, and where the frames begin.
fn with_gaps(parts: &[Range<u64>]) -> (Arc<dyn Blob>, Vec<u64>) {
    let memory = Memory::new(1);
    let mut bytes = vec![0; header::LENGTH];
    let frames = (0..3_000).map(|first| {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(&framed(&[7; 1_000 - HEADER], stamp(first, 0), SALT));
        at
    });
    let frames = frames.collect();
    let blob = file(&*memory.storage(), "log", &bytes);
    for part in parts {
        memory.spoil_part(Path::new("log"), part.clone());
    }
    (blob, frames)
}

#[test]
fn what_cannot_be_read_is_read_around_in_blocks_wherever_it_lies() {
    let (block, window) = (4096, 1 << 20);
    let first_window = header::LENGTH as u64 + window;
    type Parts<'a> = &'a [(u64, u64)];
    let pairs: [(Parts<'_>, Parts<'_>); 6] = [
        (&[(5 * block, 6 * block)], &[(5 * block, 6 * block)]),
        // No less than a block is given up, ...
        (&[(5 * block + 7, 5 * block + 8)], &[(5 * block, 6 * block)]),
        // ... and what touches is one part.
        (
            &[(9 * block - 1, 9 * block + 1)],
            &[(8 * block, 10 * block)],
        ),
        // Across the end of what is read in one go.
        (
            &[(window - block, window + 2 * block)],
            &[(window - block, window + 2 * block)],
        ),
        (
            &[(first_window - 1, first_window + 1)],
            &[(window, window + block)],
        ),
        (
            &[(20 * block, 21 * block), (30 * block, 32 * block)],
            &[(20 * block, 21 * block), (30 * block, 32 * block)],
        ),
    ];
    for (bad, expected) in pairs {
        let ranges = |pairs: Parts<'_>| -> Vec<Range<u64>> {
            pairs.iter().map(|(start, end)| *start..*end).collect()
        };
        let (bad, gaps) = (ranges(bad), ranges(expected));
        let (blob, frames) = with_gaps(&bad);
        let mut reader = FrameReader::around_gaps(Arc::clone(&blob), SALT).unwrap();
        let mut whole = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(frame)) => whole.push(frame.offset),
                Ok(None) => break,
                Err(Unread::Broken { found, .. }) => {
                    assert_eq!(found, "bytes that cannot be read");
                    let behind = reader.next_whole().unwrap();
                    whole.extend(behind.map(|frame| frame.offset));
                }
                Err(Unread::Disk(gap)) => panic!("{gap:?}"),
            }
        }
        let is_whole = |at: &u64| {
            gaps.iter()
                .all(|gap| at + 1_000 <= gap.start || gap.end <= *at)
        };
        let expected: Vec<u64> = frames.into_iter().filter(is_whole).collect();
        assert_eq!(whole, expected, "{bad:?}");
        let noted: Vec<_> = reader.gaps().map(|gap| gap.bytes).collect();
        assert_eq!(noted, gaps);
        let mut reader = FrameReader::new(blob, SALT).unwrap();
        reader.go_to(expected.last().unwrap() + 1_000);
        assert!(matches!(reader.next(), Ok(None)));
        reader.go_to(header::LENGTH as u64);
        let refused = std::iter::from_fn(|| reader.next().transpose()).find_map(Result::err);
        match refused {
            Some(Unread::Disk(gap)) => {
                let first = gaps[0].start;
                let end = gap.bytes.end;
                assert!(
                    gap.bytes.contains(&first) && end <= first + block,
                    "{gap:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What was found instead of a frame.
#[track_caller]
fn found(bytes: &[u8]) -> String {
    match reader_of(bytes).next() {
        Err(Unread::Broken { found, .. }) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_frame_is_called_by_its_name() {
    let mut zeros = [0; HEADER];
    assert_eq!(found(&zeros), "zeros");
    zeros[HEADER - 1] = 1;
    assert_eq!(found(&zeros), "no mark of a frame");
    for beyond in [stamp(HIGHEST + 1, 0), stamp(1, HIGHEST + 1)] {
        let frame = framed(&[], beyond, SALT);
        assert_eq!(found(&frame), "a number that no log reaches");
    }
    let last = framed(&[], stamp(HIGHEST, HIGHEST), SALT);
    assert!(reader_of(&last).next().unwrap().is_some());
}

// ---- the manifest ----

fn empty() -> Manifest {
    Manifest::new(StoreId(1), CodecId(*b"test"), 3)
}

#[test]
fn a_manifest_is_read_as_it_was_published_and_counts_its_versions() {
    let memory = Memory::new(1);
    let (storage, dir, mut manifest) = (memory.storage(), Path::new("dir"), empty());
    assert!(Manifest::read(&*storage, dir).unwrap().is_none());
    manifest.publish(&*storage, dir).unwrap();
    (manifest.generation, manifest.durable) = (9, 70);
    (manifest.distrusted, manifest.from_start) = (true, false);
    manifest.logs = vec![8, 9];
    manifest.snapshots = [(7, 50), (8, 60)]
        .map(|(generation, base)| Snapshot {
            generation,
            base,
            end: base + 1,
            wall_ms: 2,
            bytes: 3,
        })
        .into();
    manifest.publish(&*storage, dir).unwrap();
    let read = Manifest::read(&*storage, dir).unwrap().unwrap();
    assert_eq!((read.version, read.newest().unwrap().base), (2, 60));
    assert_eq!(read, manifest);
}

#[test]
fn a_manifest_that_is_not_one_is_damaged() {
    let read_version = |version: u64, of: Kind, kind, numbers: &[u64], behind: &[u8]| {
        let mut payload = Vec::new();
        for number in numbers {
            put_number(&mut payload, *number);
        }
        let header = FileHeader {
            salt: SALT,
            ..empty().header(of, version)
        };
        let stamp = Stamp {
            kind,
            ..stamp(1, 0)
        };
        let frame = framed(&payload, stamp, SALT);
        let bytes = [&header.encode()[..], &frame, behind].concat();
        let storage = Memory::new(1).storage();
        let path = Path::new("dir").join(manifest::NAME);
        file(&*storage, path.to_str().unwrap(), &bytes);
        Manifest::read(&*storage, Path::new("dir"))
    };
    let read =
        |of, kind, numbers: &[u64], behind: &[u8]| read_version(1, of, kind, numbers, behind);
    let (file, frame) = (Kind::Manifest, frame::Kind::Manifest);
    // The generation, how far it is durable, flags, no snapshots, and one log.
    let whole = [3, 0, 0, 0, 1, 3];
    assert_eq!(read(file, frame, &whole, &[]).unwrap().unwrap().logs, [3]);
    for damaged in [
        read(Kind::Log, frame, &whole, &[]),
        read(file, frame::Kind::Batch, &whole, &[]),
        read(file, frame, &whole, &[0]),
        read(file, frame, &[3, 0, 0, 0, 1, 3, 0], &[]),
        read(file, frame, &[3, 0, 0, 0, 2, 3], &[]),
        // The next generation would have a number that a file has already.
        read(file, frame, &[3, 0, 0, 0, 1, 4], &[]),
        // What is written next would have no number.
        read_version(HIGHEST + 1, file, frame, &whole, &[]),
    ] {
        assert!(matches!(damaged, Err(OpenError::Damaged(_))), "{damaged:?}");
    }
}

#[test]
fn only_names_as_we_write_them_are_ours() {
    for (name, parsed) in [
        ("log-7.wal", Some(Name::Log(7))),
        ("snap-7.db", Some(Name::Snapshot(7))),
        ("snap-7.db.tmp", Some(Name::Temporary)),
        ("MANIFEST.tmp", Some(Name::Temporary)),
        ("MANIFEST", None),
        ("log-007.wal", None),
        ("log-+7.wal", None),
        ("log-.wal", None),
        ("log-7.db", None),
        ("snap-7.wal", None),
        ("notes.tmp", None),
        ("my-log-7.wal", None),
        ("snap-9223372036854775807.db", Some(Name::Snapshot(HIGHEST))),
        ("snap-9223372036854775808.db", None),
    ] {
        assert_eq!(Name::parse(name), parsed, "{name}");
    }
}
