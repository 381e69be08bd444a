//! Which files to read: what the manifest lists, or what a salvage finds.

use super::Recovery;
use crate::persist::dir_kind::DirKind;
use crate::persist::error::{Damage, DiskError, OpenError, Unreadable};
use crate::persist::header::{self, FileHeader, StoreId};
use crate::persist::manifest::{self, Manifest, Name, Snapshot};
use crate::persist::settings::{Point, RecoveryMode};
use crate::persist::storage::Access;
use crate::time::wall_ms;
use std::io;

/// The generation of the log that the first opening begins.
pub(crate) const FIRST_LOG: u64 = 1;

pub(super) struct Plan {
    pub(super) manifest: Manifest,
    pub(super) created: bool,
    /// Why there was no manifest to go by, and which snapshots are none of this store.
    pub(super) guess: Vec<Damage>,
    /// What of these files cannot be read.
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) logs: Vec<u64>,
    /// How much there is to read.
    pub(super) bytes: u64,
}

/// What the newest file of a store that says it says that the directory is kept for.
fn kind_of(store: StoreId, headers: &[FileHeader]) -> Option<DirKind> {
    let own = headers.iter().filter(|header| header.store == store);
    let said = own.filter(|header| header.dir_kind.is_some());
    let newest = said.max_by_key(|header| header.generation);
    newest.and_then(|header| header.dir_kind)
}

/// The logs that lead on from the snapshot of a generation. From one that was made without a log none
/// does, also where a later one has logs behind it.
fn logs_behind(manifest: &Manifest, first: u64) -> Vec<u64> {
    let logs = manifest.logs.iter().copied().filter(|log| *log >= first);
    let logs: Vec<u64> = logs.collect();
    let mut later = manifest.snapshots.iter().map(|later| later.generation);
    match (logs.first(), later.find(|later| *later > first)) {
        (Some(log), Some(later)) if *log >= later => Vec::new(),
        _ => logs,
    }
}

impl Recovery<'_> {
    /// Fails if the directory is another program's, or kept for something else. Nothing has to be
    /// locked for this, and whatever else is wrong with the directory is found again when it is.
    pub(crate) fn refuse_others(&self) -> Result<(), OpenError> {
        match self.plan() {
            Err(
                error @ (OpenError::NotOurs { .. }
                | OpenError::OtherKind { .. }
                | OpenError::NotFound { .. }),
            ) => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn plan(&self) -> Result<Plan, OpenError> {
        match Manifest::read(self.storage, self.dir) {
            Ok(Some(manifest)) => {
                manifest.check_kind(self.dir, self.settings.dir_kind)?;
                self.plan_listed(manifest)
            }
            Ok(None) => self.plan_without_manifest(),
            Err(OpenError::Damaged(damage)) if self.is_salvage() => self.plan_guess(damage),
            Err(OpenError::Disk(error)) if self.is_salvage() => {
                self.plan_guess(self.no_manifest(error.to_string()))
            }
            Err(OpenError::Unreadable(part)) if self.is_salvage() => {
                let mut plan = self.plan_guess(self.no_manifest(part.error.to_string()))?;
                plan.unreadable.insert(0, part);
                Ok(plan)
            }
            Err(error) => Err(error),
        }
    }

    fn no_manifest(&self, found: impl Into<String>) -> Damage {
        let path = self.dir.join(manifest::NAME);
        Damage::at(&path, 0, "a manifest", found)
    }

    fn plan_listed(&self, manifest: Manifest) -> Result<Plan, OpenError> {
        let snapshot = self.starting_point(&manifest)?;
        let first = snapshot.map_or(0, |snapshot| snapshot.generation);
        let logs = logs_behind(&manifest, first);
        let names = snapshot.map(|snapshot| Name::Snapshot(snapshot.generation));
        let names = names.into_iter().chain(logs.iter().copied().map(Name::Log));
        Ok(Plan {
            bytes: names.filter_map(|name| self.length_of(name).ok()).sum(),
            manifest,
            created: false,
            guess: Vec::new(),
            unreadable: Vec::new(),
            snapshot,
            logs,
        })
    }

    /// The snapshot to begin with, `None` for the very beginning.
    fn starting_point(&self, manifest: &Manifest) -> Result<Option<Snapshot>, OpenError> {
        let RecoveryMode::PointInTime(point) = self.settings.mode else {
            return Ok(manifest.newest());
        };
        let is_before = |snapshot: &&Snapshot| match point {
            Point::Seq(seq) => snapshot.end <= seq,
            Point::Time(time) => snapshot.wall_ms <= wall_ms(time),
        };
        let found = manifest.snapshots.iter().rev().find(is_before).copied();
        if found.is_some() || manifest.from_start {
            return Ok(found);
        }
        // Also of what was gone back to before: once no file has it, nobody can go back to it again.
        Err(OpenError::OutOfReach {
            dir: self.dir.to_owned(),
            oldest_seq: manifest.snapshots.first().map_or(0, |oldest| oldest.end),
        })
    }

    fn plan_without_manifest(&self) -> Result<Plan, OpenError> {
        let names = self.names()?;
        // The first log without frames is what is left when the first opening is cut short; another
        // one is what is left of a backup. Of a file that cannot be opened nobody knows that it is one.
        let is_begun = |name: &Name| {
            let length = self.length_of(*name);
            let is_empty = length.is_ok_and(|length| length <= header::LENGTH as u64);
            *name == Name::Log(FIRST_LOG) && is_empty
        };
        if !names.iter().all(is_begun) {
            if self.is_salvage() {
                return self.plan_guess(self.no_manifest("no file"));
            }
            let dir = self.dir.to_owned();
            return Err(OpenError::NoManifest { dir });
        }
        if !self.settings.may_create() {
            let dir = self.dir.to_owned();
            return Err(OpenError::NotFound { dir });
        }
        let settings = self.settings;
        Ok(Plan {
            manifest: Manifest::new(StoreId::random(), settings.codec, settings.schema),
            created: true,
            guess: Vec::new(),
            unreadable: Vec::new(),
            snapshot: None,
            logs: Vec::new(),
            bytes: 0,
        })
    }

    /// All logs from the newest snapshot on that is one of this store: with another nothing could be
    /// begun, and what lies before it would be left out. Whose they are is what the most of them say.
    fn plan_guess(&self, why: Damage) -> Result<Plan, OpenError> {
        let mut names = self.names()?;
        names.sort_by_key(|name| name.generation());
        let headers = self.headers_of(&names)?;
        let votes = |store: StoreId| headers.iter().filter(|other| other.store == store).count();
        let owner = headers.iter().max_by_key(|header| votes(header.store));
        let Some(owner) = owner else {
            let dir = self.dir.to_owned();
            return Err(OpenError::NoManifest { dir });
        };
        let mut manifest = Manifest::new(owner.store, owner.codec, self.settings.schema);
        manifest.dir_kind = kind_of(owner.store, &headers);
        manifest.check_kind(self.dir, self.settings.dir_kind)?;
        let (mut guess, mut unreadable) = (vec![why], Vec::new());
        for name in names {
            match name {
                Name::Log(generation) => manifest.logs.push(generation),
                _ => match self.check_snapshot_of(owner.store, name) {
                    Ok(()) => manifest.snapshots.push(Snapshot {
                        generation: name.generation(),
                        ..Snapshot::default()
                    }),
                    Err(error) => guess.push(self.no_snapshot(name, error, &mut unreadable)),
                },
            }
            manifest.generation = manifest.generation.max(name.generation());
        }
        let plan = self.plan_listed(manifest)?;
        Ok(Plan {
            guess,
            unreadable,
            ..plan
        })
    }

    /// The snapshots and logs that are there, whether listed or not.
    fn names(&self) -> Result<Vec<Name>, OpenError> {
        let names = self.storage.list(self.dir);
        let names = names.map_err(DiskError::of("list", self.dir))?;
        let ours = names.iter().filter_map(|name| Name::parse(name));
        Ok(ours.filter(|name| *name != Name::Temporary).collect())
    }

    fn check_snapshot_of(&self, store: StoreId, name: Name) -> Result<(), OpenError> {
        let path = name.in_dir(self.dir);
        let header = self.header_of(name)?;
        header.expect(header::Kind::Snapshot, name.generation(), &path)?;
        match header.store == store {
            true => Ok(()),
            false => Err(OpenError::OtherStore {
                file: path,
                expected: store,
                found: header.store,
            }),
        }
    }

    /// Why a file is not taken for a snapshot.
    fn no_snapshot(
        &self,
        name: Name,
        error: OpenError,
        unreadable: &mut Vec<Unreadable>,
    ) -> Damage {
        let found = match error {
            OpenError::Damaged(damage) => return damage,
            OpenError::OtherStore { found, .. } => format!("one of store {found}"),
            OpenError::Unreadable(part) => {
                let said = part.error.to_string();
                unreadable.push(part);
                said
            }
            error => error.to_string(),
        };
        let path = name.in_dir(self.dir);
        Damage::at(&path, 0, "a snapshot of this store", found)
    }

    /// The headers that can be read. A file of a newer version is none to pass over: it may hold all
    /// that is newest.
    fn headers_of(&self, names: &[Name]) -> Result<Vec<FileHeader>, OpenError> {
        let read = names.iter().map(|name| self.header_of(*name));
        read.filter(|header| {
            matches!(
                header,
                Ok(_) | Err(OpenError::NewerFormat { .. } | OpenError::UnknownFeatures { .. })
            )
        })
        .collect()
    }

    fn header_of(&self, name: Name) -> Result<FileHeader, OpenError> {
        let path = name.in_dir(self.dir);
        let blob = self.storage.open(&path, Access::Read);
        FileHeader::read(&*blob.map_err(DiskError::of("open", &path))?, &path)
    }

    fn length_of(&self, name: Name) -> io::Result<u64> {
        let blob = self.storage.open(&name.in_dir(self.dir), Access::Read);
        blob.and_then(|blob| blob.length())
    }
}
