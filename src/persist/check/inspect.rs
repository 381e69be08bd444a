//! What is in each file of a store, also of one that cannot be opened.

use crate::persist::dir_kind::DirKind;
use crate::persist::effect::{Decoder, Effect};
use crate::persist::error::{Damage, DiskError, OpenError, Unreadable};
use crate::persist::frame::{Frame, FrameReader, Kind, Unread};
use crate::persist::header::{self, CodecId, FileHeader, StoreId};
use crate::persist::hold::hold;
use crate::persist::manifest::{Manifest, Name};
use crate::persist::report::Progress;
use crate::persist::storage::{Access, Disk, Hold, Storage};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is in a directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// What the manifest says, if it can be read.
    pub manifest: Option<ManifestReport>,
    /// Why the manifest cannot be read.
    pub manifest_error: Option<OpenError>,
    /// The snapshots and logs, by their numbers; those that the manifest lists and that are missing
    /// among them.
    pub files: Vec<FileReport>,
}

impl Inspection {
    /// Whether the manifest can be read, and every file that it lists is there and whole. A torn
    /// tail is not whole, though opening the store is no error then: see
    /// [`verify`](super::verify).
    pub fn is_whole(&self) -> bool {
        let listed = self.files.iter().filter(|file| file.is_listed);
        self.manifest.is_some() && listed.clone().all(|file| file.damages.is_empty())
    }
}

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestReport {
    /// The store.
    pub store: StoreId,
    /// What the directory is kept for; `None` if it was not opened since that is recorded.
    pub dir_kind: Option<DirKind>,
    /// What the keys and values are encoded with.
    pub codec: CodecId,
    /// The user's version of their types.
    pub schema: u32,
    /// How often it was written.
    pub version: u64,
    /// The number up to which the log was proven on disk when it was written.
    pub durable_seq: u64,
    /// A sync had failed: the next opening writes all anew.
    pub is_distrusted: bool,
    /// The numbers of the snapshots that are listed, the oldest first.
    pub snapshots: Vec<u64>,
    /// The numbers of the logs that are listed, the oldest first.
    pub logs: Vec<u64>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// All entries at one time.
    Snapshot,
    /// What happened since.
    Log,
}

/// What is in a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What its name says it is.
    pub kind: FileKind,
    /// The number in its name.
    pub generation: u64,
    /// Whether the manifest lists it.
    pub is_listed: bool,
    /// Its size.
    pub bytes: u64,
    /// The store that it names, if its header can be read.
    pub store: Option<StoreId>,
    /// What it says that its directory was kept for when it was made.
    pub dir_kind: Option<DirKind>,
    /// The codec that it names.
    pub codec: Option<CodecId>,
    /// The schema version that it names.
    pub schema: Option<u32>,
    /// Frames that are whole.
    pub frames: u64,
    /// Entries that are put.
    pub puts: u64,
    /// Deadlines that are moved.
    pub deadlines: u64,
    /// Entries that are deleted.
    pub deletes: u64,
    /// Tags and groups that are invalidated.
    pub labels: u64,
    /// Times that all entries of before are said to be gone, as where a cache
    /// [began empty](crate::persist::Persistence::discard_unclosed).
    pub clears: u64,
    /// The first and the last sequence number, of a log.
    pub seqs: Option<(u64, u64)>,
    /// The times of the first and of the last frame.
    pub times: Option<(SystemTime, SystemTime)>,
    /// The highest number that a frame says is proven on disk.
    pub durable_seq: u64,
    /// The places that are not as they were written: the torn tail, gaps, what is rotten. Empty if
    /// the file is whole.
    pub damages: Vec<Damage>,
    /// What cannot be read. The frames behind it are counted all the same; `damages` says which are
    /// not.
    pub unreadable: Vec<Unreadable>,
}

/// Looks at every file in a directory, whether the store can be opened or not, and changes nothing.
/// Takes the time of reading them and the memory of one frame.
///
/// # Errors
///
/// The directory cannot be read, or is open elsewhere. What is wrong with a file is in the report.
pub fn inspect(dir: &Path, on_progress: impl Fn(Progress)) -> Result<Inspection, OpenError> {
    let _lock = hold(dir, Hold::Shared, &Disk)?;
    inspect_on(&Disk, dir, on_progress)
}

pub(in crate::persist) fn inspect_on(
    storage: &dyn Storage,
    dir: &Path,
    on_progress: impl Fn(Progress),
) -> Result<Inspection, OpenError> {
    let names = storage.list(dir).map_err(DiskError::of("list", dir))?;
    let (manifest, manifest_error) = match Manifest::read(storage, dir) {
        Ok(Some(manifest)) => (Some(manifest), None),
        Ok(None) => {
            let dir = dir.to_owned();
            (None, Some(OpenError::NoManifest { dir }))
        }
        Err(error) => (None, Some(error)),
    };
    let listed: Vec<String> = manifest.iter().flat_map(Manifest::files).collect();
    let present = names.iter().filter(|name| !listed.contains(*name));
    let all = listed.iter().chain(present);
    let mut parsed: Vec<Name> = all.filter_map(|name| Name::parse(name)).collect();
    parsed.retain(|name| *name != Name::Temporary);
    parsed.sort_by_key(|name| (name.generation(), matches!(name, Name::Log(_))));
    let mut progress = Progress {
        bytes: 0,
        total: parsed
            .iter()
            .map(|name| length_of(storage, &name.in_dir(dir)))
            .sum(),
    };
    let mut files = Vec::new();
    for name in parsed {
        let mut report = FileReport::new(storage, name, dir);
        report.is_listed = listed.contains(&name.to_string());
        let store = manifest.as_ref().map(|manifest| manifest.store);
        report.read(storage, store, &on_progress, &mut progress);
        files.push(report);
    }
    Ok(Inspection {
        manifest: manifest.map(|manifest| ManifestReport::from(&manifest)),
        manifest_error,
        files,
    })
}

fn length_of(storage: &dyn Storage, path: &Path) -> u64 {
    let blob = storage.open(path, Access::Read);
    blob.and_then(|blob| blob.length()).unwrap_or(0)
}

impl From<&Manifest> for ManifestReport {
    fn from(manifest: &Manifest) -> Self {
        let snapshots = manifest.snapshots.iter();
        Self {
            store: manifest.store,
            dir_kind: manifest.dir_kind,
            codec: manifest.codec,
            schema: manifest.schema,
            version: manifest.version,
            durable_seq: manifest.durable,
            is_distrusted: manifest.distrusted,
            snapshots: snapshots.map(|snapshot| snapshot.generation).collect(),
            logs: manifest.logs.clone(),
        }
    }
}

impl FileReport {
    fn new(storage: &dyn Storage, name: Name, dir: &Path) -> Self {
        let path = name.in_dir(dir);
        Self {
            bytes: length_of(storage, &path),
            path,
            kind: match name {
                Name::Log(_) => FileKind::Log,
                _ => FileKind::Snapshot,
            },
            generation: name.generation(),
            is_listed: false,
            store: None,
            dir_kind: None,
            codec: None,
            schema: None,
            frames: 0,
            puts: 0,
            deadlines: 0,
            deletes: 0,
            labels: 0,
            clears: 0,
            seqs: None,
            times: None,
            durable_seq: 0,
            damages: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    fn read(
        &mut self,
        storage: &dyn Storage,
        store: Option<StoreId>,
        on_progress: &impl Fn(Progress),
        progress: &mut Progress,
    ) {
        let begun = progress.bytes;
        match self.open(storage, store) {
            Ok(mut reader) => self.read_frames(&mut reader, |at| {
                progress.bytes = begun + at;
                on_progress(*progress);
            }),
            Err(OpenError::Damaged(damage)) => self.damages.push(damage),
            Err(OpenError::Unreadable(part)) => {
                self.damaged(0, "a file of this store", part.error.to_string());
                self.unreadable.push(part);
            }
            Err(error) => self.damaged(0, "a file of this store", error.to_string()),
        }
        progress.bytes = begun + self.bytes;
        on_progress(*progress);
    }

    fn open(
        &mut self,
        storage: &dyn Storage,
        store: Option<StoreId>,
    ) -> Result<FrameReader, OpenError> {
        let path = self.path.clone();
        let blob = storage.open(&path, Access::Read);
        let blob = blob.map_err(DiskError::of("open", &path))?;
        let header = FileHeader::read(&*blob, &path)?;
        let kind = match self.kind {
            FileKind::Snapshot => header::Kind::Snapshot,
            FileKind::Log => header::Kind::Log,
        };
        header.expect(kind, self.generation, &path)?;
        self.store = Some(header.store);
        self.dir_kind = header.dir_kind;
        self.codec = Some(header.codec);
        self.schema = Some(header.schema);
        if let Some(expected) = store.filter(|store| *store != header.store) {
            let file = path.clone();
            let found = header.store;
            let error = OpenError::OtherStore {
                file,
                expected,
                found,
            };
            self.damaged(0, format!("a file of store {expected}"), error.to_string());
        }
        let reader = FrameReader::around_gaps(blob, header.salt);
        Ok(reader.map_err(DiskError::of("read", &path))?)
    }

    fn read_frames(&mut self, reader: &mut FrameReader, mut on_progress: impl FnMut(u64)) {
        let mut is_ended = false;
        let mut next = match self.kind {
            FileKind::Log => None,
            FileKind::Snapshot => Some(0),
        };
        loop {
            let place = reader.offset();
            let frame = match reader.next() {
                Ok(Some(frame)) => Some(frame),
                Ok(None) => break,
                Err(Unread::Disk(gap)) => {
                    return self.damaged(place, "bytes", gap.error.to_string());
                }
                Err(Unread::Broken { expected, found }) => {
                    self.damaged(place, expected, found);
                    reader.next_whole().ok().flatten()
                }
            };
            let Some(frame) = frame else {
                break;
            };
            is_ended = frame.header.kind == Kind::End;
            self.check_order(&frame, next);
            self.count(&frame);
            next = Some(match self.kind {
                FileKind::Log => frame.header.last().saturating_add(1),
                FileKind::Snapshot => frame.header.first.saturating_add(1),
            });
            on_progress(reader.offset());
        }
        let gaps = reader.gaps().map(|gap| gap.of(&self.path));
        self.unreadable.extend(gaps);
        if self.kind == FileKind::Snapshot && !is_ended {
            self.damaged(
                reader.length(),
                "the end of a snapshot",
                "the end of the file",
            );
        }
    }

    fn count(&mut self, frame: &Frame) {
        let header = &frame.header;
        self.frames += 1;
        self.durable_seq = self.durable_seq.max(header.durable);
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(header.wall_ms));
        if let Some(time) = time {
            self.times = Some((self.times.map_or(time, |times| times.0), time));
        }
        self.clears += u64::from(header.kind == Kind::Clear);
        if matches!(header.kind, Kind::Batch | Kind::Clear) {
            let first = self.seqs.map_or(header.first, |seqs| seqs.0);
            self.seqs = Some((first, header.last()));
        }
        if matches!(header.kind, Kind::Batch | Kind::Snapshot) && header.count > 0 {
            self.count_effects(frame);
        }
    }

    fn check_order(&mut self, frame: &Frame, next: Option<u64>) {
        let found = frame.header.first;
        if let Some(expected) = next.filter(|expected| *expected != found) {
            self.damaged(
                frame.offset,
                format!("number {expected}"),
                format!("number {found}"),
            );
        }
    }

    fn count_effects(&mut self, frame: &Frame) {
        for effect in Decoder::new(&frame.payload) {
            match effect {
                Ok(Effect::Put { .. }) => self.puts += 1,
                Ok(Effect::Deadline { .. }) => self.deadlines += 1,
                Ok(Effect::Delete { .. }) => self.deletes += 1,
                Ok(Effect::Label { .. }) => self.labels += 1,
                Err(corrupt) => {
                    let found = format!("other bytes at {} of the payload", corrupt.offset);
                    self.damaged(frame.offset, "whole effects", found);
                }
            }
        }
    }

    fn damaged(&mut self, offset: u64, expected: impl Into<String>, found: impl Into<String>) {
        let mut damage = Damage::at(&self.path, offset, expected, found);
        damage.next_seq = self.seqs.map_or(0, |seqs| seqs.1.saturating_add(1));
        damage.durable_seq = self.durable_seq;
        self.damages.push(damage);
    }
}
