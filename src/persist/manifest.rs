//! `MANIFEST`: which files count. It is replaced as a whole, so it says either the old or the new.

use super::dir_kind::DirKind;
use super::error::{Damage, DiskError, OpenError};
use super::frame::{self, FrameReader, Stamp, Unread};
use super::header::{self, CodecId, FileHeader, Kind, StoreId};
use super::storage::{Access, Blob, Storage, write_all};
use super::varint::{HIGHEST, put_number, take_number, take_seq};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store: StoreId,
    pub(crate) codec: CodecId,
    pub(crate) schema: u32,
    /// What the directory is kept for; `None` if it was not opened since that is recorded.
    pub(crate) dir_kind: Option<DirKind>,
    /// How often it was written.
    pub(crate) version: u64,
    /// The highest number of a file so far.
    pub(crate) generation: u64,
    /// The number up to which the log was proven on disk when this was written.
    pub(crate) durable: u64,
    /// A sync of a listed log failed: what the system still shows of it may not be on the disk, so
    /// all of it has to be written anew before it counts as durable.
    pub(crate) distrusted: bool,
    /// The listed logs reach back to the beginning.
    pub(crate) from_start: bool,
    /// At the last opening it was gone back to a point in time, and what came after that left out.
    pub(crate) went_back: bool,
    /// The snapshots that are kept, the oldest first.
    pub(crate) snapshots: Vec<Snapshot>,
    /// The generations of the logs, the oldest first.
    pub(crate) logs: Vec<u64>,
}

/// A snapshot. The logs of its generation and later go on from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    /// All numbers up to this one are in it.
    pub(crate) base: u64,
    /// The log has to be replayed up to this number, for some of what is between is in it too.
    pub(crate) end: u64,
    /// The time of its end.
    pub(crate) wall_ms: u64,
    pub(crate) bytes: u64,
}

impl Manifest {
    pub(crate) fn new(store: StoreId, codec: CodecId, schema: u32) -> Self {
        Self {
            store,
            codec,
            schema,
            dir_kind: None,
            version: 0,
            generation: 0,
            durable: 0,
            distrusted: false,
            from_start: true,
            went_back: false,
            snapshots: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// That of a backup, which is a store of its own: nobody has gone back in it.
    pub(crate) fn for_backup(&self) -> Self {
        Self {
            version: 0,
            went_back: false,
            ..self.clone()
        }
    }

    /// Fails unless the directory may be opened as what is asked for, if anything is.
    pub(crate) fn check_kind(&self, dir: &Path, asked: Option<DirKind>) -> Result<(), OpenError> {
        match (self.dir_kind, asked) {
            (Some(found), Some(expected)) if !found.opens_as(expected) => {
                let dir = dir.to_owned();
                Err(OpenError::OtherKind {
                    dir,
                    expected,
                    found,
                })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn newest(&self) -> Option<Snapshot> {
        self.snapshots.last().copied()
    }

    /// Lists a new snapshot, and no more of the old files than are to be kept.
    pub(crate) fn take_over(&mut self, snapshot: Snapshot, kept: usize, has_log: bool) {
        self.snapshots.push(snapshot);
        self.durable = snapshot.end;
        // The beginning counts as a generation, where a log leads on from it.
        self.from_start &= has_log && self.snapshots.len() < kept;
        if !has_log {
            // Without a log nothing makes those whole of which parts came while they were made.
            self.snapshots.retain(|listed| listed.base == listed.end);
        }
        let surplus = self.snapshots.len().saturating_sub(kept);
        self.snapshots.drain(..surplus);
        if !self.from_start {
            let oldest = self.snapshots[0].generation;
            self.logs.retain(|log| *log >= oldest);
        }
        if !has_log {
            self.logs.clear();
        } else if self.logs.last() != Some(&snapshot.generation) {
            self.logs.push(snapshot.generation);
        }
    }

    /// The names of the listed files.
    pub(crate) fn files(&self) -> impl Iterator<Item = String> {
        let snapshots = self.snapshots.iter().map(|snapshot| snapshot.generation);
        let snapshots = snapshots.map(|generation| Name::Snapshot(generation).to_string());
        let logs = self.logs.iter().map(|log| Name::Log(*log).to_string());
        snapshots.chain(logs)
    }

    /// The header of a new file of this store.
    pub(crate) fn header(&self, kind: Kind, generation: u64) -> FileHeader {
        FileHeader {
            kind,
            features: 0,
            store: self.store,
            generation,
            codec: self.codec,
            schema: self.schema,
            salt: crate::random::number() as u32,
            dir_kind: self.dir_kind,
        }
    }

    /// Takes over the place of the one before, durably: written beside it, synced, renamed.
    ///
    /// When this fails the old one may count or the new one, so both sets of files have to stay.
    pub(crate) fn publish(&mut self, storage: &dyn Storage, dir: &Path) -> Result<(), DiskError> {
        self.version += 1;
        let (temporary, path) = (dir.join(TEMPORARY), dir.join(NAME));
        let bytes = self.encode();
        let blob = storage
            .create(&temporary)
            .map_err(DiskError::of("create", &temporary))?;
        write_all(&*blob, &bytes, 0).map_err(DiskError::of("write", &temporary))?;
        blob.sync().map_err(DiskError::of("sync", &temporary))?;
        storage
            .rename(&temporary, &path)
            .map_err(DiskError::of("rename", &temporary))?;
        storage.sync_dir(dir).map_err(DiskError::of("sync", dir))
    }

    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let flags = [self.distrusted, self.from_start, self.went_back];
        let flags = (0..).zip(flags).map(|(bit, flag)| u64::from(flag) << bit);
        let flags = flags.sum();
        for number in [self.generation, self.durable, flags] {
            put_number(&mut payload, number);
        }
        put_number(&mut payload, self.snapshots.len() as u64);
        for at in &self.snapshots {
            for number in [at.generation, at.base, at.end, at.wall_ms, at.bytes] {
                put_number(&mut payload, number);
            }
        }
        put_number(&mut payload, self.logs.len() as u64);
        for log in &self.logs {
            put_number(&mut payload, *log);
        }
        let header = self.header(Kind::Manifest, self.version);
        let stamp = Stamp {
            kind: frame::Kind::Manifest,
            count: 1,
            first: self.version,
            durable: self.durable,
            wall_ms: 0,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&frame::framed(&payload, stamp, header.salt));
        bytes
    }

    /// Reads the manifest of a directory, `None` if there is none.
    pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(NAME);
        let blob = match storage.open(&path, Access::Read) {
            Ok(blob) => blob,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::new("open", &path, error).into()),
        };
        let header = match FileHeader::read(&*blob, &path) {
            Err(OpenError::Damaged(damage)) => {
                return Err(not_ours_or(damage, &*blob, storage, dir));
            }
            header => header?,
        };
        header.expect(Kind::Manifest, header.generation, &path)?;
        let mut reader =
            FrameReader::new(blob, header.salt).map_err(DiskError::of("read", &path))?;
        let frame = match reader.next() {
            Ok(Some(frame)) if frame.header.kind == frame::Kind::Manifest => frame,
            Ok(_) => return Err(damaged(&path, "a list of files", "none")),
            Err(Unread::Disk(gap)) => return Err(gap.of(&path).into()),
            Err(Unread::Broken { expected, found }) => {
                return Err(damaged(&path, expected, found));
            }
        };
        let decoded = Self::decode(header, &mut &frame.payload[..]);
        let manifest = decoded.filter(|_| frame.end() == reader.length());
        manifest.map_or_else(
            || Err(damaged(&path, "a list of files", "other bytes")),
            |manifest| Ok(Some(manifest)),
        )
    }

    fn decode(header: FileHeader, rest: &mut &[u8]) -> Option<Self> {
        let generation = take_seq(rest)?;
        let durable = take_seq(rest)?;
        let flags = take_number(rest)?;
        let mut snapshots = Vec::new();
        for _ in 0..take_number(rest)? {
            snapshots.push(Snapshot {
                generation: take_seq(rest)?,
                base: take_seq(rest)?,
                end: take_seq(rest)?,
                wall_ms: take_number(rest)?,
                bytes: take_number(rest)?,
            });
        }
        let mut logs = Vec::new();
        for _ in 0..take_number(rest)? {
            logs.push(take_seq(rest)?);
        }
        // The next generation has to have a number of its own.
        let listed = snapshots.iter().map(|snapshot| snapshot.generation);
        let is_newest = listed
            .chain(logs.iter().copied())
            .all(|number| number <= generation);
        let is_possible = header.generation <= HIGHEST;
        (rest.is_empty() && is_newest && is_possible).then_some(Self {
            store: header.store,
            codec: header.codec,
            schema: header.schema,
            dir_kind: header.dir_kind,
            version: header.generation,
            generation,
            durable,
            distrusted: flags & 1 != 0,
            from_start: flags & 2 != 0,
            went_back: flags & 4 != 0,
            snapshots,
            logs,
        })
    }
}

/// What a manifest without a whole header is: a damaged one, or no file of ours. It is damaged also
/// where something has written over it, as what is beside it says.
fn not_ours_or(damage: Damage, blob: &dyn Blob, storage: &dyn Storage, dir: &Path) -> OpenError {
    let is_alone = || matches!(any_header(storage, dir), Ok(None));
    match FileHeader::is_none_of_ours(blob) {
        Ok(true) if is_alone() => OpenError::NotOurs { file: damage.file },
        _ => OpenError::Damaged(damage),
    }
}

/// The header of some log or snapshot that can be read, listed or not.
pub(crate) fn any_header(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Option<FileHeader>, OpenError> {
    let names = storage.list(dir).map_err(DiskError::of("list", dir))?;
    let read = |name: Name| {
        let path = name.in_dir(dir);
        let blob = storage.open(&path, Access::Read).ok()?;
        FileHeader::read(&*blob, &path).ok()
    };
    let ours = names.iter().filter_map(|name| Name::parse(name));
    Ok(ours.filter(|name| *name != Name::Temporary).find_map(read))
}

fn damaged(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> OpenError {
    OpenError::Damaged(Damage::at(path, header::LENGTH as u64, expected, found))
}

pub(crate) const NAME: &str = "MANIFEST";
const TEMPORARY: &str = "MANIFEST.tmp";
pub(crate) const LOCK: &str = "LOCK";
pub(crate) const QUARANTINE: &str = "quarantine";

/// The name of a file of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Log(u64),
    Snapshot(u64),
    /// Unfinished.
    Temporary,
}

impl Name {
    /// What a name says, `None` if it is not one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let number = |digits: &str| digits.parse().ok().filter(|number| *number <= HIGHEST);
        if name == TEMPORARY {
            return Some(Name::Temporary);
        }
        if let Some(snapshot) = name.strip_suffix(".tmp") {
            return Self::parse(snapshot).map(|_| Name::Temporary);
        }
        let parsed = match name.strip_prefix("log-") {
            Some(rest) => Name::Log(number(rest.strip_suffix(".wal")?)?),
            None => {
                let rest = name.strip_prefix("snap-")?;
                Name::Snapshot(number(rest.strip_suffix(".db")?)?)
            }
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    pub(crate) fn generation(self) -> u64 {
        match self {
            Name::Log(generation) | Name::Snapshot(generation) => generation,
            Name::Temporary => 0,
        }
    }

    pub(crate) fn in_dir(self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Log(generation) => write!(f, "log-{generation}.wal"),
            Name::Snapshot(generation) => write!(f, "snap-{generation}.db"),
            Name::Temporary => f.write_str(TEMPORARY),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// What is listed after each of several compactions: from the beginning, snapshots, logs.
    fn listed(kept: usize, has_log: bool) -> Vec<(bool, Vec<u64>, Vec<u64>)> {
        let mut manifest = Manifest::new(StoreId(1), CodecId(*b"test"), 0);
        manifest.logs.push(1);
        let generations = (2..6).map(|generation| {
            let snapshot = Snapshot {
                generation,
                base: generation - u64::from(has_log),
                end: generation,
                ..Snapshot::default()
            };
            manifest.take_over(snapshot, kept, has_log);
            assert_eq!(manifest.durable, generation);
            let snapshots = manifest.snapshots.iter().map(|at| at.generation);
            (
                manifest.from_start,
                snapshots.collect(),
                manifest.logs.clone(),
            )
        });
        generations.collect()
    }

    #[test]
    fn as_many_snapshots_are_kept_as_are_asked_for_with_the_logs_from_the_oldest_on() {
        let is = |at: &[(bool, &[u64], &[u64])]| -> Vec<_> {
            let all = at.iter();
            all.map(|(start, snapshots, logs)| (*start, snapshots.to_vec(), logs.to_vec()))
                .collect()
        };
        assert_eq!(
            listed(1, true),
            is(&[
                (false, &[2], &[2]),
                (false, &[3], &[3]),
                (false, &[4], &[4]),
                (false, &[5], &[5]),
            ])
        );
        assert_eq!(
            listed(3, true),
            is(&[
                (true, &[2], &[1, 2]),
                (true, &[2, 3], &[1, 2, 3]),
                (false, &[2, 3, 4], &[2, 3, 4]),
                (false, &[3, 4, 5], &[3, 4, 5]),
            ])
        );
        assert_eq!(listed(3, false)[0], (false, vec![2], vec![]));
        assert_eq!(listed(2, false)[3], (false, vec![4, 5], vec![]));
    }

    #[test]
    fn a_snapshot_that_is_whole_only_with_its_log_is_not_kept_without_one() {
        let mut manifest = Manifest::new(StoreId(1), CodecId(*b"test"), 0);
        let snapshot = |base, end| Snapshot {
            generation: end,
            base,
            end,
            ..Snapshot::default()
        };
        manifest.take_over(snapshot(1, 2), 3, true);
        manifest.take_over(snapshot(3, 3), 3, true);
        manifest.take_over(snapshot(4, 4), 3, false);
        let ends: Vec<_> = manifest.snapshots.iter().map(|at| at.end).collect();
        assert_eq!(ends, [3, 4]);
    }
}
