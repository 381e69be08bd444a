//! Which generation a salvage begins with, when the newest snapshot is not whole.
//!
//! Older ones are there where more than one is kept, and where the power was lost after the last
//! compaction, before the disk had forgotten the names of the files that it removed: those are listed
//! no more. The logs that go on from an older snapshot say all that happened since, deletions among it,
//! so nothing is lost if they can be read up to where the damaged snapshot begins. What can be read of
//! that one is applied behind them, for it makes up for what they have lost; then come its own logs.
//!
//! What is no longer listed may say what never was: numbers are given again after a return to an
//! earlier point in time. So a log counts up to where what comes after it begins.

use super::plan::{Plan, Stretch};
use super::snapshot::{base_of, check_whole};
use super::{Opened, Recovery};
use crate::persist::error::OpenError;
use crate::persist::manifest::{Manifest, Name, Snapshot};

impl Recovery<'_> {
    /// Has a salvage whose snapshot is not whole begin with the newest that is, or else with all there
    /// is; and has it give its own files numbers that no other has.
    pub(super) fn go_back(&self, plan: &mut Plan) -> Result<(), OpenError> {
        let names = self.names()?;
        let highest = names.iter().map(|name| name.generation()).max();
        let generation = &mut plan.manifest.generation;
        *generation = highest.unwrap_or(0).max(*generation);
        let newest = plan.stretches.iter().find_map(|stretch| stretch.snapshot);
        let Some((newest, why)) = newest.and_then(|newest| {
            let why = self.why_lost(newest, &plan.manifest)?;
            Some((newest, why))
        }) else {
            return Ok(());
        };
        let (snapshots, logs) = self.generations(&names, &plan.manifest);
        let is_whole = |snapshot: &&Snapshot| self.check(**snapshot, &plan.manifest).is_ok();
        let whole = snapshots.iter().rev().find(is_whole);
        let first = whole.map_or(0, |whole| whole.generation);
        plan.stretches = self.stretches(first, &snapshots, &logs, &plan.manifest);
        if first > newest.generation {
            // A compaction was cut short before what it had written was listed.
            let name = Name::Snapshot(newest.generation);
            let damage = self.no_snapshot(name, why, &mut plan.unreadable);
            plan.guess.push(damage);
        } else if plan.stretches.len() > 1 {
            plan.went_back_to = Some(first);
        }
        Ok(())
    }

    /// Why not all of a snapshot is there, if that is no reason to give up.
    fn why_lost(&self, snapshot: Snapshot, manifest: &Manifest) -> Option<OpenError> {
        let why = self.check(snapshot, manifest).err()?;
        let is_lost = matches!(
            why,
            OpenError::Damaged(_)
                | OpenError::Unreadable(_)
                | OpenError::Missing { .. }
                | OpenError::OtherStore { .. }
                | OpenError::Disk(_)
        );
        is_lost.then_some(why)
    }

    fn check(&self, snapshot: Snapshot, manifest: &Manifest) -> Result<(), OpenError> {
        check_whole(&self.open(Name::Snapshot(snapshot.generation), manifest)?)
    }

    /// The snapshots and the logs that are listed, and those that are ours and are not; the oldest
    /// first.
    fn generations(&self, names: &[Name], manifest: &Manifest) -> (Vec<Snapshot>, Vec<u64>) {
        let mut snapshots = manifest.snapshots.clone();
        let mut logs = manifest.logs.clone();
        for name in names {
            let is_ours = || self.open(*name, manifest).is_ok();
            match *name {
                Name::Snapshot(generation) => {
                    let mut listed = manifest.snapshots.iter();
                    if listed.all(|at| at.generation != generation) && is_ours() {
                        snapshots.push(Snapshot {
                            generation,
                            ..Snapshot::default()
                        });
                    }
                }
                Name::Log(generation) if !logs.contains(&generation) && is_ours() => {
                    logs.push(generation);
                }
                _ => {}
            }
        }
        snapshots.sort_by_key(|snapshot| snapshot.generation);
        logs.sort_unstable();
        (snapshots, logs)
    }

    /// All from a generation on; from 0 on with the logs that are older than any snapshot.
    fn stretches(
        &self,
        first: u64,
        snapshots: &[Snapshot],
        logs: &[u64],
        manifest: &Manifest,
    ) -> Vec<Stretch> {
        let beginning = (first == 0).then_some(None);
        let snapshots = snapshots.iter().filter(|at| at.generation >= first);
        let starts = beginning.into_iter().chain(snapshots.copied().map(Some));
        let starts: Vec<Option<Snapshot>> = starts.collect();
        let generation = |start: Option<Snapshot>| start.map_or(0, |snapshot| snapshot.generation);
        let mut stretches: Vec<Stretch> = Vec::new();
        for (at, start) in starts.iter().enumerate() {
            let end = starts
                .get(at + 1)
                .map_or(u64::MAX, |next| generation(*next));
            let own = logs.iter().copied();
            let own = own.filter(|log| (generation(*start)..end).contains(log));
            let stretch = Stretch {
                snapshot: *start,
                logs: own.collect(),
                until: None,
            };
            // Before the oldest snapshot there may be nothing.
            if start.is_some() || !stretch.logs.is_empty() {
                stretches.push(stretch);
            }
        }
        for at in 1..stretches.len() {
            let base = stretches[at]
                .snapshot
                .and_then(|next| self.base(next, manifest));
            stretches[at - 1].until = Some(base.unwrap_or(u64::MAX));
        }
        stretches
    }

    /// The last number before a snapshot, if it can be told. What is not listed says it itself.
    fn base(&self, snapshot: Snapshot, manifest: &Manifest) -> Option<u64> {
        if snapshot.end > 0 {
            return Some(snapshot.base);
        }
        let opened: Opened = self
            .open(Name::Snapshot(snapshot.generation), manifest)
            .ok()?;
        base_of(&opened)
    }
}
